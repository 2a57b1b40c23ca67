// SPDX-License-Identifier: MIT OR Apache-2.0

//! Copies of objects as they were at a point: for `restore --out`, and for `undo` and `revert` with `--out`.
//!
//! Copies are made below open directories and never over anything, so that no symbolic link leads them
//! elsewhere.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType};
use rustix::fs::{
    chownat, fchmod, fsetxattr, mkdirat, openat, symlinkat, unlinkat, utimensat, AtFlags, Gid,
    Mode, OFlags, SeekFrom, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use crate::describe::count;
use crate::error::Error;
use crate::json::remark;
use crate::old_content::Xattr;
use crate::output::Output;
use crate::past_mount::View;
use crate::quote::quoted;

/// How many copies that failed are named.
const LISTED: usize = 20;

/// The error for a directory of copies that cannot be used.
pub fn cannot(path: &Path, errno: Errno) -> Error {
    let error = io::Error::from(errno);
    Error::Nothing {
        message: format!("cannot write {}: {error}", quoted(path)),
    }
}

/// Opens a directory, which is made if nothing has its name.
pub fn open_new(dir: &Path) -> Result<OwnedFd, Errno> {
    match rustix::fs::mkdir(dir, Mode::from_raw_mode(0o777)) {
        Err(Errno::EXIST) => {}
        made => made?,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(dir, flags, Mode::empty())
}

/// The attributes that a copy is to have.
pub struct CopyAttributes {
    /// Owner, mode and times.
    pub basic: FileAttr,
    /// The extended ones, or why they cannot be read.
    pub extended: Result<Vec<Xattr>, Errno>,
}

impl CopyAttributes {
    /// Those of an object of a view.
    pub fn of(view: &mut View<'_>, inode: u64, basic: FileAttr) -> Self {
        let extended = view.xattrs(inode);
        Self { basic, extended }
    }
}

/// The content of a copy.
enum Content<'c> {
    File(std::rc::Rc<File>),
    Text(&'c [u8]),
}

impl Content<'_> {
    /// Writes it; returns its length.
    fn write(&self, copy: &OwnedFd) -> Result<u64, Errno> {
        match self {
            Self::File(file) => write(file, copy),
            Self::Text(text) => {
                write_all(text, copy, 0)?;
                Ok(text.len() as u64)
            }
        }
    }
}

/// Writes bytes at an offset.
fn write_all(bytes: &[u8], copy: &OwnedFd, at: u64) -> Result<(), Errno> {
    let mut done = 0;
    while done < bytes.len() {
        done += rustix::io::pwrite(copy, &bytes[done..], at + done as u64)?;
    }
    Ok(())
}

/// The copies that are made.
#[derive(Default)]
pub struct Copies {
    /// Whether owners are copied, too.
    pub is_root: bool,
    /// How many were made.
    pub made: usize,
    /// The length of their contents.
    pub bytes: u64,
    /// Objects without a copy, each with the error.
    pub failed: Vec<(PathBuf, Errno)>,
    /// Copies with their whole content that lack attributes, each with the first error.
    pub incomplete: Vec<(PathBuf, Errno)>,
}

impl Copies {
    /// Copies an object to a new name in a directory. `path` is that of the directory, for messages.
    pub fn copy(&mut self, view: &mut View<'_>, inode: u64, place: (&OwnedFd, &[u8]), path: &Path) {
        self.copy_with(view, (inode, None), place, path);
    }

    /// As [`Self::copy`]; a regular file may get another text.
    pub fn copy_with(
        &mut self,
        view: &mut View<'_>,
        (inode, text): (u64, Option<&[u8]>),
        (dir, name): (&OwnedFd, &[u8]),
        path: &Path,
    ) {
        let path = path.join(OsStr::from_bytes(name));
        let attributes = view.attributes(inode);
        let made = attributes
            .and_then(|attributes| self.make(view, (inode, text), attributes, dir, (name, &path)));
        match made {
            Ok(()) => self.made += 1,
            Err(errno) => self.failed.push((path, errno)),
        }
    }

    fn make(
        &mut self,
        view: &mut View<'_>,
        (inode, text): (u64, Option<&[u8]>),
        attributes: FileAttr,
        dir: &OwnedFd,
        (name, path): (&[u8], &Path),
    ) -> Result<(), Errno> {
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match attributes.kind {
            FileType::RegularFile => {
                let content = match text {
                    Some(text) => Content::Text(text),
                    None => Content::File(view.content(inode)?.0),
                };
                let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
                let copy = openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?;
                match content.write(&copy) {
                    Ok(length) => self.bytes += length,
                    Err(errno) => {
                        // A part of the content must not pass for the whole.
                        let _ = unlinkat(dir, name, AtFlags::empty());
                        return Err(errno);
                    }
                }
                let attributes = CopyAttributes::of(view, inode, attributes);
                self.finish(attributes, &copy, path);
            }
            FileType::Directory => {
                mkdirat(dir, name, Mode::RWXU)?;
                let copy = openat(dir, name, flags | OFlags::DIRECTORY, Mode::empty())?;
                self.fill(view, inode, &copy, path);
                let attributes = CopyAttributes::of(view, inode, attributes);
                self.finish(attributes, &copy, path);
            }
            FileType::Symlink => {
                let target = view.target(inode)?;
                symlinkat(target.as_slice(), dir, name)?;
                self.note(path, |copies| {
                    copies.own(attributes, dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
                    utimensat(dir, name, &times(attributes), AtFlags::SYMLINK_NOFOLLOW)
                });
            }
            // Pipes, sockets and devices have no content of their own.
            _ => return Err(Errno::OPNOTSUPP),
        }
        Ok(())
    }

    /// Sets attributes of a copy, and notes a failure.
    fn note(&mut self, path: &Path, set: impl FnOnce(&mut Self) -> Result<(), Errno>) {
        if let Err(errno) = set(self) {
            self.incomplete.push((path.to_owned(), errno));
        }
    }

    /// Copies all that a directory had.
    pub fn fill(&mut self, view: &mut View<'_>, inode: u64, dir: &OwnedFd, path: &Path) {
        let names = match view.list(inode) {
            Ok(names) => names,
            Err(errno) => return self.failed.push((path.to_owned(), errno)),
        };
        for name in names.into_keys() {
            match view.lookup(inode, OsStr::from_bytes(&name)) {
                Ok(listed) => self.copy(view, listed.inode, (dir, &name), path),
                Err(errno) => self
                    .failed
                    .push((path.join(OsStr::from_bytes(&name)), errno)),
            }
        }
    }

    /// Gives a copy its attributes, and notes a failure.
    pub fn finish(&mut self, attributes: CopyAttributes, copy: &OwnedFd, path: &Path) {
        self.note(path, |copies| copies.set(attributes, copy));
    }

    /// Gives a copy its owner, attributes, mode and times. Without the bits that would run it as its owner.
    fn set(&self, attributes: CopyAttributes, copy: &OwnedFd) -> Result<(), Errno> {
        let CopyAttributes { basic, extended } = attributes;
        // The others are set also where one is refused.
        let mut done = self.own(basic, copy, b"", AtFlags::EMPTY_PATH);
        let extended = extended.unwrap_or_else(|errno| {
            done = done.and(Err(errno));
            Vec::new()
        });
        for (name, value) in extended {
            let is_users = name.starts_with(b"user.") || name.starts_with(b"system.posix_acl_");
            if is_users {
                done = done.and(fsetxattr(
                    copy,
                    name.as_slice(),
                    &value,
                    XattrFlags::empty(),
                ));
            }
        }
        let mode = Mode::from_raw_mode(u32::from(basic.perm) & 0o777);
        done = done.and(fchmod(copy, mode));
        done.and(rustix::fs::futimens(copy, &times(basic)))
    }

    fn own(
        &self,
        attributes: FileAttr,
        dir: impl AsFd,
        name: &[u8],
        flags: AtFlags,
    ) -> Result<(), Errno> {
        if !self.is_root {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
        chownat(dir, name, Some(uid), Some(gid), flags)
    }

    /// Lists objects that were not copied as they should be: done in part then.
    pub fn conclude(self, output: &mut Output<'_>) -> Result<(), Error> {
        output.finish()?;
        let lists = [
            ("NotCopied", "Not copied", &self.failed),
            (
                "Incomplete",
                "Copied without all attributes",
                &self.incomplete,
            ),
        ];
        for (reason, head, list) in lists {
            if output.json {
                for (path, errno) in list {
                    let error = io::Error::from(*errno).to_string();
                    let note = remark(reason, path, &error);
                    output.object(&note.into_value())?;
                }
            }
            for (path, errno) in list.iter().take(LISTED) {
                let error = io::Error::from(*errno);
                output.say(format_args!("{head}: {}: {error}", quoted(path)));
            }
        }
        if self.failed.is_empty() && self.incomplete.is_empty() {
            return Ok(());
        }
        let failed = count(self.failed.len(), "copy was", "copies were");
        let incomplete = count(self.incomplete.len(), "lacks", "lack");
        Err(Error::NotCopied {
            message: format!(
                "{failed} not made, and {incomplete} attributes; the others are whole"
            ),
        })
    }
}

/// Writes content with its holes; returns its length.
fn write(content: &File, copy: &OwnedFd) -> Result<u64, Errno> {
    let length = content.metadata().map_err(|_| Errno::IO)?.len();
    rustix::fs::ftruncate(copy, length)?;
    let mut buffer = vec![0; 1 << 16];
    let mut at = 0;
    while at < length {
        // Its data may end before its length.
        at = match rustix::fs::seek(content, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => break,
            found => found?,
        };
        let end = rustix::fs::seek(content, SeekFrom::Hole(at))?;
        while at < end {
            let most = usize::try_from(end - at).map_or(buffer.len(), |n| n.min(buffer.len()));
            let read = rustix::io::pread(content, &mut buffer[..most], at)?;
            write_all(&buffer[..read], copy, at)?;
            match read {
                0 => return Err(Errno::IO),
                read => at += read as u64,
            }
        }
    }
    Ok(length)
}

fn times(attributes: FileAttr) -> Timestamps {
    Timestamps {
        last_access: timespec(attributes.atime),
        last_modification: timespec(attributes.mtime),
    }
}

fn timespec(time: SystemTime) -> Timespec {
    let (seconds, nanoseconds) = match time.duration_since(UNIX_EPOCH) {
        Ok(since) => (
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            since.subsec_nanos(),
        ),
        Err(before) => {
            let before = before.duration();
            let seconds = i64::try_from(before.as_secs()).map_or(i64::MIN, |n| -n);
            match before.subsec_nanos() {
                0 => (seconds, 0),
                part => (seconds - 1, 1_000_000_000 - part),
            }
        }
    };
    Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.into(),
    }
}
