// SPDX-License-Identifier: MIT OR Apache-2.0

//! `restore --out`: writes copies of files and directories as they were at a point. The mount stays as it is.
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
use crate::json::JsonObject;
use crate::output::Output;
use crate::past_mount::View;
use crate::quote::{quoted, word};

use super::context::Context;
use super::mount_past::view_at;

/// How many copies that failed are named.
const LISTED: usize = 20;

/// Copies the paths as of the point `to` into the directory `out`; without paths, the whole mount.
pub fn run(
    context: &mut Context<'_>,
    to: &str,
    paths: &[PathBuf],
    out: &Path,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let places = paths.iter().map(|path| context.place(path));
    let places = places.collect::<Result<Vec<_>, _>>()?;
    let is_root = context.me.is_none();
    let mount = context.root.clone();
    let check = |timeline: &_, context: &Context<'_>| context.check_names(timeline, &places);
    let (view, root, cut) = view_at(context, to, check)?;
    let mut copies = Copies {
        view,
        is_root,
        made: 0,
        bytes: 0,
        failed: Vec::new(),
        incomplete: Vec::new(),
    };
    let found = copies.find_all(root, &places, to)?;
    let dir = open_new(out).map_err(|errno| cannot(out, errno))?;
    for source in found {
        match source.name {
            Some(name) => copies.copy(source.inode, &dir, &name, out),
            None => copies.fill(source.inode, &dir, out),
        }
    }
    copies.report((&mount, out, cut), output)
}

fn cannot(path: &Path, errno: Errno) -> Error {
    let error = io::Error::from(errno);
    Error::Nothing {
        message: format!("cannot write {}: {error}", quoted(path)),
    }
}

/// Opens a directory, which is made if nothing has its name.
fn open_new(dir: &Path) -> Result<OwnedFd, Errno> {
    match rustix::fs::mkdir(dir, Mode::from_raw_mode(0o777)) {
        Err(Errno::EXIST) => {}
        made => made?,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(dir, flags, Mode::empty())
}

/// An object that is to be copied.
struct CopySource {
    /// The name of its copy; the mount itself has none.
    name: Option<Vec<u8>>,
    inode: u64,
}

/// The copies that are made.
struct Copies<'k> {
    view: View<'k>,
    /// Whether owners are copied, too.
    is_root: bool,
    made: usize,
    bytes: u64,
    /// Objects without a copy, each with the error.
    failed: Vec<(PathBuf, Errno)>,
    /// Copies with their whole content that lack attributes, each with the first error.
    incomplete: Vec<(PathBuf, Errno)>,
}

impl Copies<'_> {
    /// The objects of the paths; without paths, the root.
    fn find_all(
        &mut self,
        root: u64,
        places: &[PathBuf],
        to: &str,
    ) -> Result<Vec<CopySource>, Error> {
        let mut found = Vec::new();
        for place in places {
            let mut at = root;
            for name in place.iter() {
                at = match self.view.lookup(at, name) {
                    Ok(listed) => listed.inode,
                    Err(_) => {
                        let message = format!("{} did not exist at {to}", quoted(place));
                        return Err(Error::Nothing { message });
                    }
                };
            }
            let name = place.file_name().map(|name| name.as_bytes().to_vec());
            found.push(CopySource { name, inode: at });
        }
        if places.is_empty() {
            found.push(CopySource {
                name: None,
                inode: root,
            });
        }
        Ok(found)
    }

    /// Copies an object to a new name in a directory. `path` is that of the directory, for messages.
    fn copy(&mut self, inode: u64, dir: &OwnedFd, name: &[u8], path: &Path) {
        let path = path.join(OsStr::from_bytes(name));
        let made = self
            .view
            .attributes(inode)
            .and_then(|attributes| self.make(inode, attributes, dir, (name, &path)));
        match made {
            Ok(()) => self.made += 1,
            Err(errno) => self.failed.push((path, errno)),
        }
    }

    fn make(
        &mut self,
        inode: u64,
        attributes: FileAttr,
        dir: &OwnedFd,
        (name, path): (&[u8], &Path),
    ) -> Result<(), Errno> {
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match attributes.kind {
            FileType::RegularFile => {
                let (content, _) = self.view.content(inode)?;
                let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
                let copy = openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?;
                match write(&content, &copy) {
                    Ok(length) => self.bytes += length,
                    Err(errno) => {
                        // A part of the content must not pass for the whole.
                        let _ = unlinkat(dir, name, AtFlags::empty());
                        return Err(errno);
                    }
                }
                self.note(path, |copies| copies.finish(inode, attributes, &copy));
            }
            FileType::Directory => {
                mkdirat(dir, name, Mode::RWXU)?;
                let copy = openat(dir, name, flags | OFlags::DIRECTORY, Mode::empty())?;
                self.fill(inode, &copy, path);
                self.note(path, |copies| copies.finish(inode, attributes, &copy));
            }
            FileType::Symlink => {
                let target = self.view.target(inode)?;
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
    fn fill(&mut self, inode: u64, dir: &OwnedFd, path: &Path) {
        let names = match self.view.list(inode) {
            Ok(names) => names,
            Err(errno) => return self.failed.push((path.to_owned(), errno)),
        };
        for name in names.into_keys() {
            match self.view.lookup(inode, OsStr::from_bytes(&name)) {
                Ok(listed) => self.copy(listed.inode, dir, &name, path),
                Err(errno) => self
                    .failed
                    .push((path.join(OsStr::from_bytes(&name)), errno)),
            }
        }
    }

    /// Gives a copy its owner, attributes, mode and times. Without the bits that would run it as its owner.
    fn finish(&mut self, inode: u64, attributes: FileAttr, copy: &OwnedFd) -> Result<(), Errno> {
        self.own(attributes, copy, b"", AtFlags::EMPTY_PATH)?;
        for (name, value) in self.view.xattrs(inode)? {
            let is_users = name.starts_with(b"user.") || name.starts_with(b"system.posix_acl_");
            if is_users {
                fsetxattr(copy, name.as_slice(), &value, XattrFlags::empty())?;
            }
        }
        fchmod(
            copy,
            Mode::from_raw_mode(u32::from(attributes.perm) & 0o777),
        )?;
        rustix::fs::futimens(copy, &times(attributes))
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

    fn report(
        self,
        (mount, out, cut): (&Path, &Path, u64),
        output: &mut Output<'_>,
    ) -> Result<(), Error> {
        if output.json {
            let mut summary = JsonObject::new("summary", mount);
            summary
                .put("command", "restore")
                .put("op", cut)
                .put("out", out.to_string_lossy())
                .put("copied", self.made)
                .put("bytes", self.bytes)
                .put("failed", self.failed.len())
                .put("incomplete", self.incomplete.len());
            output.object(&summary.into_value())?;
        } else {
            let objects = count(self.made, "copy", "copies");
            output.text(&format!(
                "Wrote {objects} to {}, as of op {cut}.\n",
                word(out)
            ))?;
        }
        output.finish()?;
        let lists = [
            ("Not copied", &self.failed),
            ("Copied without all attributes", &self.incomplete),
        ];
        for (head, list) in lists {
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
        Err(Error::NotAsWanted {
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
            let mut done = 0;
            while done < read {
                done += rustix::io::pwrite(copy, &buffer[done..read], at + done as u64)?;
            }
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
