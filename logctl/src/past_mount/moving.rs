// SPDX-License-Identifier: MIT OR Apache-2.0

//! The requests of FUSE for a view that moves: it shows the present state of the mount, read-only.
//!
//! The kernel keeps no answer: names and attributes expire at once, and files are read without the page cache.
//! Objects are known to it by their inode numbers, and are found by the names by which they were looked up.

use std::ffi::{c_int, OsStr};
use std::fs::{File, Metadata};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use fuser::consts::{FOPEN_DIRECT_IO, FUSE_POSIX_ACL};
use fuser::{
    FileAttr, FileType, Filesystem, KernelConfig, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyLseek, ReplyOpen, ReplyXattr, Request,
};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::attributes::{kind, of_present};
use super::handles::{answer, answer_lseek, answer_read, code, Handles};
use super::nodes::Nodes;
use super::present_tree::{PresentEntry, PresentTree};
use crate::past_directories::Listed;

/// How deep names are followed, at most.
const DEEPEST: usize = 512;

/// How long an extended attribute or the list of their names may be: as Linux limits them.
const LONGEST: usize = 1 << 16;

/// The filesystem.
pub struct MovingFilesystem {
    present: PresentTree,
    /// Whether other users see it, whose rights by ACLs the kernel checks then.
    is_shared: bool,
    nodes: Nodes,
    handles: Handles<Handle>,
}

/// An open file or directory.
enum Handle {
    File {
        inode: u64,
        file: File,
    },
    /// Its names when it was read from its beginning last.
    Directory(Vec<PresentEntry>),
}

impl MovingFilesystem {
    /// A filesystem that shows the present tree.
    pub fn new(present: PresentTree, is_shared: bool) -> Self {
        Self {
            nodes: Nodes::new(present.inode()),
            present,
            is_shared,
            handles: Handles::default(),
        }
    }

    /// An unmounted filesystem may be mounted and changed anew elsewhere: its state here is no longer the present.
    fn check(&self) -> Result<(), Errno> {
        match self.present.is_attached() {
            true => Ok(()),
            false => Err(Errno::IO),
        }
    }

    /// Where the object is that the kernel names. `STALE`: not where it was looked up; the kernel looks again.
    fn find(&mut self, number: u64) -> Result<(PathBuf, Metadata), Errno> {
        self.check()?;
        let inode = self.nodes.inode(number);
        let place = self.place(inode, 0).ok_or(Errno::STALE)?;
        let found = self.has_inode(&place, inode).ok_or(Errno::STALE)?;
        Ok((place, found))
    }

    /// Where an object is: at the place where it was found last, or by the name by which it was looked up. A
    /// directory in which a process works may have been moved: then the tree is searched.
    fn place(&mut self, inode: u64, depth: usize) -> Option<PathBuf> {
        if inode == self.present.inode() {
            return Some(PathBuf::new());
        }
        let node = self.nodes.get(inode).filter(|_| depth < DEEPEST)?;
        let (last, name) = (node.place.clone(), node.name.clone());
        let is_directory = node
            .attributes
            .is_some_and(|known| known.kind == FileType::Directory);
        let is_there = |place: &PathBuf, this: &Self| this.has_inode(place, inode).is_some();
        if let Some(last) = last.filter(|last| is_there(last, self)) {
            return Some(last);
        }
        let above = name.and_then(|(dir, name)| {
            let above = self.place(dir, depth + 1)?;
            Some(above.join(OsStr::from_bytes(&name)))
        });
        let found = above.filter(|place| is_there(place, self)).or_else(|| {
            let all = is_directory.then(|| self.present.directories());
            all.and_then(|mut all| all.remove(&inode))
        });
        if let (Some(node), Some(found)) = (self.nodes.get_mut(inode), &found) {
            node.place = Some(found.clone());
        }
        found
    }

    fn has_inode(&self, place: &std::path::Path, inode: u64) -> Option<Metadata> {
        let found = self.present.stat(place).ok()?;
        (found.ino() == inode).then_some(found)
    }

    fn attributes(&mut self, number: u64, found: &Metadata) -> FileAttr {
        let links = u32::try_from(found.nlink()).unwrap_or(u32::MAX);
        let attributes = of_present(number, found, links);
        let inode = self.nodes.inode(number);
        if let Some(node) = self.nodes.get_mut(inode) {
            node.attributes = Some(attributes);
        }
        attributes
    }

    fn look_up(&mut self, parent: u64, name: &OsStr) -> Result<FileAttr, Errno> {
        let (above, _) = self.find(parent)?;
        let place = above.join(name);
        let found = match self.present.stat(&place) {
            // Another filesystem that is mounted there is no part of the view.
            Err(Errno::XDEV) => return Err(Errno::NOENT),
            found => found?,
        };
        let listed = Listed {
            inode: found.ino(),
            object: None,
        };
        let parent = self.nodes.inode(parent);
        self.nodes.add(listed, (parent, name.as_bytes().to_vec()));
        if let Some(node) = self.nodes.get_mut(listed.inode) {
            node.place = Some(place);
        }
        self.nodes.count(listed.inode);
        Ok(self.attributes(self.nodes.number(listed.inode), &found))
    }

    fn stat(&mut self, number: u64, handle: Option<u64>) -> Result<FileAttr, Errno> {
        let found = match handle.map(|handle| self.file(handle)) {
            Some(Ok(file)) => file.metadata().map_err(|_| Errno::IO)?,
            _ => match self.find(number) {
                Err(Errno::STALE) => self.opened(number)?,
                found => found?.1,
            },
        };
        Ok(self.attributes(number, &found))
    }

    /// The attributes of a file that has no name any more, and is open.
    fn opened(&self, number: u64) -> Result<Metadata, Errno> {
        let wanted = self.nodes.inode(number);
        let mut files = self.handles.all().filter_map(|handle| match handle {
            Handle::File { inode, file } if *inode == wanted => Some(file),
            _ => None,
        });
        let file = files.next().ok_or(Errno::STALE)?;
        file.metadata().map_err(|_| Errno::IO)
    }

    /// Opens a file or directory, without a change of its access time where that is allowed.
    fn open_node(&mut self, number: u64) -> Result<OwnedFd, Errno> {
        let (place, found) = self.find(number)?;
        let open = |access| self.present.open_inode(&place, found.ino(), access);
        match open(OFlags::RDONLY | OFlags::NOATIME) {
            Err(Errno::PERM) => open(OFlags::RDONLY),
            opened => opened,
        }
    }

    /// Fills an answer with the names of an open directory from `offset` on. From the beginning, it is read anew.
    fn fill(
        &mut self,
        number: u64,
        handle: u64,
        offset: usize,
        reply: &mut ReplyDirectory,
    ) -> Result<(), Errno> {
        if offset == 0 {
            let (place, found) = self.find(number)?;
            let read = self.present.listing(&place, found.ino())?;
            match self.handles.get_mut(handle) {
                Some(Handle::Directory(names)) => *names = read,
                _ => return Err(Errno::BADF),
            }
        }
        let Some(Handle::Directory(names)) = self.handles.get(handle) else {
            return Err(Errno::BADF);
        };
        let next = |at: usize| i64::try_from(at + 1).unwrap_or(i64::MAX);
        for (at, name) in [".", ".."].iter().enumerate().skip(offset) {
            if reply.add(number, next(at), FileType::Directory, name) {
                return Ok(());
            }
        }
        let names = names.iter().enumerate().skip(offset.saturating_sub(2));
        for (at, entry) in names {
            let (inode, kind) = (self.nodes.number(entry.inode), kind(entry.mode));
            if reply.add(inode, next(at + 2), kind, OsStr::from_bytes(&entry.name)) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Calls `read` with a path that leads to the object, and a buffer.
    fn extended(
        &mut self,
        number: u64,
        read: impl FnOnce(&str, &mut Vec<u8>) -> Result<usize, Errno>,
    ) -> Result<Vec<u8>, Errno> {
        let (place, found) = self.find(number)?;
        let opened = self.present.open_inode(&place, found.ino(), OFlags::PATH)?;
        let path = format!("/proc/self/fd/{}", opened.as_raw_fd());
        let mut buffer = vec![0; LONGEST];
        let length = read(&path, &mut buffer)?;
        buffer.truncate(length);
        Ok(buffer)
    }

    fn file(&self, handle: u64) -> Result<&File, Errno> {
        self.check()?;
        match self.handles.get(handle) {
            Some(Handle::File { file, .. }) => Ok(file),
            _ => Err(Errno::BADF),
        }
    }
}

impl Filesystem for MovingFilesystem {
    fn init(&mut self, _: &Request<'_>, config: &mut KernelConfig) -> Result<(), c_int> {
        if self.is_shared {
            let added = config.add_capabilities(FUSE_POSIX_ACL);
            added.map_err(|_| code(Errno::PROTO))?;
        }
        Ok(())
    }

    fn lookup(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEntry) {
        match self.look_up(parent, name) {
            Ok(attributes) => reply.entry(&Duration::ZERO, &attributes, 0),
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn forget(&mut self, _: &Request<'_>, number: u64, lookups: u64) {
        let inode = self.nodes.inode(number);
        self.nodes.forget(inode, lookups);
    }

    fn getattr(&mut self, _: &Request<'_>, number: u64, handle: Option<u64>, reply: ReplyAttr) {
        match self.stat(number, handle) {
            Ok(attributes) => reply.attr(&Duration::ZERO, &attributes),
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn readlink(&mut self, _: &Request<'_>, number: u64, reply: ReplyData) {
        let found = self.find(number);
        let target = found.and_then(|(place, found)| self.present.target(&place, found.ino()));
        match target {
            Ok(target) => reply.data(&target),
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn open(&mut self, _: &Request<'_>, number: u64, _: i32, reply: ReplyOpen) {
        match self.open_node(number) {
            Ok(opened) => {
                let (inode, file) = (self.nodes.inode(number), opened.into());
                let handle = self.handles.keep(Handle::File { inode, file });
                reply.opened(handle, FOPEN_DIRECT_IO);
            }
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn read(
        &mut self,
        _: &Request<'_>,
        _: u64,
        handle: u64,
        offset: i64,
        size: u32,
        _: i32,
        _: Option<u64>,
        reply: ReplyData,
    ) {
        answer_read(self.file(handle).as_ref().copied(), offset, size, reply);
    }

    fn release(
        &mut self,
        _: &Request<'_>,
        _: u64,
        handle: u64,
        _: i32,
        _: Option<u64>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.handles.release(handle, reply);
    }

    fn lseek(
        &mut self,
        _: &Request<'_>,
        _: u64,
        handle: u64,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        answer_lseek(self.file(handle).as_ref().copied(), offset, whence, reply);
    }

    fn opendir(&mut self, _: &Request<'_>, number: u64, _: i32, reply: ReplyOpen) {
        match self.find(number) {
            Ok(_) => {
                let handle = self.handles.keep(Handle::Directory(Vec::new()));
                reply.opened(handle, 0);
            }
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn readdir(
        &mut self,
        _: &Request<'_>,
        number: u64,
        handle: u64,
        offset: i64,
        mut reply: ReplyDirectory,
    ) {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        match self.fill(number, handle, offset, &mut reply) {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn releasedir(&mut self, _: &Request<'_>, _: u64, handle: u64, _: i32, reply: ReplyEmpty) {
        self.handles.release(handle, reply);
    }

    fn getxattr(
        &mut self,
        _: &Request<'_>,
        number: u64,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        let value = self.extended(number, |path, buffer| {
            rustix::fs::getxattr(path, name, &mut buffer[..])
        });
        answer(value, size, reply);
    }

    fn listxattr(&mut self, _: &Request<'_>, number: u64, size: u32, reply: ReplyXattr) {
        let names = self.extended(number, |path, buffer| {
            rustix::fs::listxattr(path, &mut buffer[..])
        });
        answer(names, size, reply);
    }
}
