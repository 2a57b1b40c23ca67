// SPDX-License-Identifier: GPL-2.0

//! All attributes of an object that a revert has to restore: type, content, holes, size, mode, owner, links,
//! xattrs (ACLs among them), flags and project.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{IFlags, SeekFrom};
use rustix::io::Errno;

use crate::extents;
use crate::outcome::{At, Outcome};
use crate::sys;

/// `FS_IOC_FSGETXATTR`, which fills 28 bytes.
const GET_MORE_FLAGS: u64 = 0x801c_581f;

/// The flags that keep an object from being changed.
pub const PROTECTION: IFlags = IFlags::IMMUTABLE.union(IFlags::APPEND);

/// The attributes that the object at a path has; of an object that is neither a file nor a
/// directory, none.
pub fn protection(path: &Path) -> IFlags {
    let open = || File::open(path).and_then(|file| Ok(rustix::fs::ioctl_getflags(file)?));
    let is_plain = fs::metadata(path).is_ok_and(|meta| meta.is_file() || meta.is_dir());
    match is_plain.then(open) {
        Some(Ok(flags)) => flags & PROTECTION,
        _ => IFlags::empty(),
    }
}

/// Lifts the protection of everything below a directory, which could not be removed otherwise.
pub fn unprotect_all(root: &Path) -> io::Result<()> {
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_file() || kind.is_dir() {
            let file = File::open(entry.path())?;
            if let Ok(flags) = rustix::fs::ioctl_getflags(&file) {
                if flags.intersects(PROTECTION) {
                    rustix::fs::ioctl_setflags(&file, flags - PROTECTION)?;
                }
            }
        }
        if kind.is_dir() {
            unprotect_all(&entry.path())?;
        }
    }
    Ok(())
}

/// The state of an object at some time.
#[derive(Clone)]
pub struct State {
    /// Kind, permissions, owner, links and size (those not of directories, which count them as they
    /// like), device, flags, project.
    facts: String,
    content: Rc<[u8]>,
    /// The allocated ranges, or the data ranges if the filesystem does not report allocation; between them
    /// are holes.
    pub data: Vec<(u64, u64)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// When the content was changed last.
    modified: (i64, i64),
    pub inode: u64,
}

impl State {
    /// The object that a name is bound to; `None`: the name is free.
    pub fn at(path: &Path) -> Outcome<Option<State>> {
        let meta = match fs::symlink_metadata(path) {
            Err(error) if is_nothing(&error) => return Ok(None),
            meta => meta.at(path.display())?,
        };
        let state = if meta.is_file() || meta.is_dir() {
            let mut options = OpenOptions::new();
            options.read(true).custom_flags(libc::O_NOFOLLOW);
            let file = options.open(path).at(path.display())?;
            State::of(&file, &meta)
        } else {
            State::of_special(path, &meta)
        };
        state.at(path.display()).map(Some)
    }

    /// A file that a process holds open, by its path in `/proc`.
    pub fn held(path: &Path) -> Outcome<State> {
        let file = File::open(path).at(path.display())?;
        let meta = file.metadata()?;
        State::of(&file, &meta).at(path.display())
    }

    fn of(mut file: &File, meta: &Metadata) -> Outcome<State> {
        let mut facts = facts(meta);
        if let Ok(flags) = rustix::fs::ioctl_getflags(file) {
            facts += &format!(" flags {:x}", flags.bits());
        }
        let mut more = [0u8; 28];
        if sys::ioctl_bytes(&file, GET_MORE_FLAGS, &mut more).is_ok() {
            facts += &format!(" project {:?}", &more[12..16]);
        }
        let mut content = Vec::new();
        let mut extents = Vec::new();
        if meta.is_file() {
            extents = space(file)?;
            rustix::fs::seek(file, SeekFrom::Start(0))?;
            file.read_to_end(&mut content)?;
        }
        let list = |names: &mut [u8]| rustix::fs::flistxattr(file, names);
        let get = |name: &[u8], value: &mut [u8]| rustix::fs::fgetxattr(file, name, value);
        Ok(State {
            facts,
            content: content.into(),
            data: extents,
            xattrs: xattrs(list, get)?,
            modified: (meta.mtime(), meta.mtime_nsec()),
            inode: meta.ino(),
        })
    }

    fn of_special(path: &Path, meta: &Metadata) -> Outcome<State> {
        let content = if meta.is_symlink() {
            fs::read_link(path)?.as_os_str().as_bytes().to_vec()
        } else {
            Vec::new()
        };
        let list = |names: &mut [u8]| rustix::fs::llistxattr(path, names);
        let get = |name: &[u8], value: &mut [u8]| rustix::fs::lgetxattr(path, name, value);
        Ok(State {
            facts: facts(meta),
            content: content.into(),
            data: Vec::new(),
            xattrs: xattrs(list, get)?,
            modified: (meta.mtime(), meta.mtime_nsec()),
            inode: meta.ino(),
        })
    }

    /// Whether both are the same but for holes and times, which have rules of their own.
    fn is_like(&self, other: &State) -> bool {
        self.facts == other.facts && self.content == other.content && self.xattrs == other.xattrs
    }

    /// How this one differs from the one that is wanted.
    fn difference(&self, want: &State) -> String {
        if self.facts != want.facts {
            return format!("{} instead of {}", self.facts, want.facts);
        }
        if self.xattrs != want.xattrs {
            let names = |state: &State| {
                let names = state.xattrs.iter().map(|(name, value)| {
                    format!(
                        "{}={:02x?}",
                        String::from_utf8_lossy(name),
                        &value[..value.len().min(8)]
                    )
                });
                names.collect::<Vec<_>>().join(" ")
            };
            return format!("xattrs {} instead of {}", names(self), names(want));
        }
        let pairs = self.content.iter().zip(want.content.iter());
        let same = pairs.take_while(|(one, two)| one == two).count();
        let (got, want) = (self.content.get(same), want.content.get(same));
        format!("other bytes from {same} on, {got:02x?} instead of {want:02x?}")
    }
}

/// The difference of the modification time from the wanted one; `None`: there is none.
pub fn other_time(got: Option<&State>, want: Option<&State>) -> Option<String> {
    let (got, want) = (got?.modified, want?.modified);
    (got != want).then(|| format!("modified at {got:?} instead of {want:?}"))
}

/// Whether the holes are elsewhere than they were.
pub fn has_other_holes(got: Option<&State>, want: Option<&State>) -> bool {
    matches!((got, want), (Some(got), Some(want)) if got.data != want.data)
}

/// The difference of the present state from the wanted one; `None`: there is none.
pub fn difference(got: Option<&State>, want: Option<&State>) -> Option<String> {
    match (got, want) {
        (Some(got), Some(want)) if !got.is_like(want) => Some(got.difference(want)),
        (Some(got), None) => Some(format!("is there: {}", got.facts)),
        (None, Some(want)) => Some(format!("is missing: {}", want.facts)),
        _ => None,
    }
}

fn is_nothing(error: &io::Error) -> bool {
    [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&error.kind())
}

fn facts(meta: &Metadata) -> String {
    let (links, size) = if meta.is_dir() {
        (0, 0)
    } else {
        (meta.nlink(), meta.len())
    };
    format!(
        "mode {:o} owner {}:{} links {links} size {size} device {}",
        meta.mode(),
        meta.uid(),
        meta.gid(),
        meta.rdev()
    )
}

/// The allocated ranges of a file up to its end; its data ranges, if the filesystem does not report
/// allocation.
fn space(file: &File) -> Outcome<Vec<(u64, u64)>> {
    let Some(found) = extents::of(file)? else {
        return data(file);
    };
    let size = file.metadata()?.len();
    let inside = found.into_iter().filter(|(start, _)| *start < size);
    Ok(inside.map(|(start, end)| (start, end.min(size))).collect())
}

/// Where a file's data is.
fn data(file: &File) -> Outcome<Vec<(u64, u64)>> {
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => return Ok(found),
            start => start.at("looking for data")?,
        };
        at = rustix::fs::seek(file, SeekFrom::Hole(start)).at("looking for a hole")?;
        found.push((start, at));
    }
}

fn xattrs(
    list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
    get: impl Fn(&[u8], &mut [u8]) -> rustix::io::Result<usize>,
) -> Outcome<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut names = vec![0; 1024];
    let length = match list(&mut names) {
        Err(Errno::OPNOTSUPP) => 0,
        length => length.at("listing xattrs")?,
    };
    let mut found = Vec::new();
    for name in names[..length].split(|byte| *byte == 0) {
        if name.is_empty() {
            continue;
        }
        let mut value = vec![0; 1024];
        let length = get(name, &mut value).at("reading an xattr")?;
        value.truncate(length);
        found.push((name.to_vec(), value));
    }
    found.sort();
    Ok(found)
}

/// Everything below a directory but the history.
#[derive(Default)]
pub struct TreeState(BTreeMap<String, State>);

impl TreeState {
    pub fn of(root: &Path) -> Outcome<TreeState> {
        let mut whole = TreeState::default();
        whole.walk(root, "")?;
        Ok(whole)
    }

    fn walk(&mut self, directory: &Path, prefix: &str) -> Outcome {
        for entry in fs::read_dir(directory).at(directory.display())? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if prefix.is_empty() && name == ".loggerfs" {
                continue;
            }
            let path = entry.path();
            let name = format!("{prefix}{name}");
            if let Some(state) = State::at(&path)? {
                self.0.insert(name.clone(), state);
            }
            if entry.file_type()?.is_dir() {
                self.walk(&path, &format!("{name}/"))?;
            }
        }
        Ok(())
    }

    /// The difference from the wanted state; `None`: there is none.
    pub fn difference(&self, want: &TreeState) -> Option<String> {
        let mut names: Vec<&String> = self.0.keys().chain(want.0.keys()).collect();
        names.sort();
        names.dedup();
        let found = names.into_iter().filter_map(|name| {
            let what = difference(self.0.get(name), want.0.get(name))?;
            Some(format!("{name} {what}"))
        });
        let found: Vec<String> = found.collect();
        (!found.is_empty()).then(|| found.join(", "))
    }
}
