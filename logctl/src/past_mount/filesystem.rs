// SPDX-License-Identifier: MIT OR Apache-2.0

//! The requests of FUSE, answered from the view.

use std::cell::OnceCell;
use std::ffi::{c_int, OsStr};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;
use std::time::Duration;

use fuser::consts::{FOPEN_CACHE_DIR, FOPEN_KEEP_CACHE, FUSE_DO_READDIRPLUS, FUSE_POSIX_ACL};
use fuser::{
    Filesystem, KernelConfig, Notifier, ReplyAttr, ReplyData, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyLseek, ReplyOpen, ReplyXattr, Request,
};
use rustix::io::Errno;

use super::attributes::unknown;
use super::handles::{answer, answer_lseek, answer_read, code, Handles};
use super::view::View;
use crate::past_directories::Listed;

/// How long the kernel keeps answers: the past stays as it was.
const LONG: Duration = Duration::from_secs(3600);

/// The filesystem.
pub struct PastFilesystem<'k> {
    view: View<'k>,
    /// Whether other users see it, whose rights by ACLs the kernel checks then.
    is_shared: bool,
    notifier: SharedNotifier,
    handles: Handles<Handle>,
}

/// The channel for notices to the kernel, which exists once the view is mounted.
pub type SharedNotifier = Rc<OnceCell<Notifier>>;

/// An open file or directory.
enum Handle {
    File {
        inode: u64,
        /// `None`: it is read only when the kernel asks, which keeps what it read before.
        content: Option<Rc<File>>,
    },
    /// `None`: it was not listed yet. The kernel keeps listings.
    Directory(Option<Vec<(Vec<u8>, Listed)>>),
}

impl<'k> PastFilesystem<'k> {
    /// A filesystem that shows a view.
    pub fn new(view: View<'k>, is_shared: bool, notifier: SharedNotifier) -> Self {
        Self {
            view,
            is_shared,
            notifier,
            handles: Handles::default(),
        }
    }

    /// The content of an open file.
    fn content(&mut self, handle: u64) -> Result<Rc<File>, Errno> {
        let Some(Handle::File { inode, content }) = self.handles.get_mut(handle) else {
            return Err(Errno::BADF);
        };
        match content {
            Some(content) => Ok(content.clone()),
            None => {
                let (read, _) = self.view.content(*inode)?;
                Ok(content.insert(read).clone())
            }
        }
    }

    /// Fills an answer with the names of an open directory from `offset` on.
    fn fill(
        &mut self,
        dir: u64,
        handle: u64,
        offset: usize,
        reply: &mut ReplyDirectoryPlus,
    ) -> Result<(), Errno> {
        let Some(Handle::Directory(names)) = self.handles.get_mut(handle) else {
            return Err(Errno::BADF);
        };
        let names = match names {
            Some(names) => names,
            None => names.insert(self.view.list(dir)?.into_iter().collect()),
        };
        let mut own = unknown(self.view.nodes.number(dir));
        own.kind = fuser::FileType::Directory;
        let next = |at: usize| i64::try_from(at + 1).unwrap_or(i64::MAX);
        for (at, name) in [".", ".."].iter().enumerate().skip(offset) {
            if reply.add(own.ino, next(at), name, &Duration::ZERO, &own, 0) {
                return Ok(());
            }
        }
        let names = names.iter().enumerate().skip(offset.saturating_sub(2));
        for (at, (name, listed)) in names {
            self.view.nodes.add(*listed, (dir, name.clone()));
            let (attributes, kept) = match self.view.attributes(listed.inode) {
                Ok(attributes) => (attributes, LONG),
                // The name is shown; the error is that of a lookup, which comes since nothing is kept.
                Err(_) => (
                    unknown(self.view.nodes.number(listed.inode)),
                    Duration::ZERO,
                ),
            };
            let name = OsStr::from_bytes(name);
            let generation = generation(listed);
            if reply.add(
                attributes.ino,
                next(at + 2),
                name,
                &kept,
                &attributes,
                generation,
            ) {
                self.view.nodes.forget(listed.inode, 0);
                return Ok(());
            }
            self.view.nodes.count(listed.inode);
        }
        Ok(())
    }
}

fn generation(listed: &Listed) -> u64 {
    listed.object.map_or(0, |object| object.generation.into())
}

impl Filesystem for PastFilesystem<'_> {
    fn init(&mut self, _: &Request<'_>, config: &mut KernelConfig) -> Result<(), c_int> {
        let added = config.add_capabilities(FUSE_DO_READDIRPLUS);
        added.map_err(|_| code(Errno::PROTO))?;
        if self.is_shared {
            let added = config.add_capabilities(FUSE_POSIX_ACL);
            added.map_err(|_| code(Errno::PROTO))?;
        }
        Ok(())
    }

    fn lookup(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEntry) {
        let parent = self.view.nodes.inode(parent);
        let found = self.view.lookup(parent, name).and_then(|listed| {
            let attributes = self.view.attributes(listed.inode);
            if attributes.is_err() {
                // Unless the kernel knows it.
                self.view.nodes.forget(listed.inode, 0);
            }
            Ok((listed, attributes?))
        });
        match found {
            Ok((listed, attributes)) => {
                self.view.nodes.count(listed.inode);
                reply.entry(&LONG, &attributes, generation(&listed));
            }
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn forget(&mut self, _: &Request<'_>, number: u64, lookups: u64) {
        let inode = self.view.nodes.inode(number);
        self.view.nodes.forget(inode, lookups);
    }

    fn getattr(&mut self, _: &Request<'_>, number: u64, _: Option<u64>, reply: ReplyAttr) {
        let inode = self.view.nodes.inode(number);
        match self.view.attributes(inode) {
            Ok(attributes) => reply.attr(&LONG, &attributes),
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn readlink(&mut self, _: &Request<'_>, number: u64, reply: ReplyData) {
        let inode = self.view.nodes.inode(number);
        match self.view.target(inode) {
            Ok(target) => reply.data(&target),
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn open(&mut self, _: &Request<'_>, number: u64, _: i32, reply: ReplyOpen) {
        let inode = self.view.nodes.inode(number);
        let content = match self.view.was_read(inode) {
            true => Ok(None),
            false => self.view.content(inode).map(Some),
        };
        match content {
            Ok(content) => {
                let has_holes = matches!(content, Some((_, true)));
                if let (true, Some(notifier)) = (has_holes, self.notifier.get()) {
                    // The number of blocks, and with it whether there are holes, is known only now. Negative:
                    // of attributes alone. A kernel that does not take the notice shows the guess.
                    let _ = notifier.inval_inode(number, -1, 0);
                }
                let content = content.map(|(content, _)| content);
                let handle = self.handles.keep(Handle::File { inode, content });
                reply.opened(handle, FOPEN_KEEP_CACHE);
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
        let file = self.content(handle);
        answer_read(file.as_deref(), offset, size, reply);
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
        let file = self.content(handle);
        answer_lseek(file.as_deref(), offset, whence, reply);
    }

    fn opendir(&mut self, _: &Request<'_>, _: u64, _: i32, reply: ReplyOpen) {
        let handle = self.handles.keep(Handle::Directory(None));
        reply.opened(handle, FOPEN_CACHE_DIR | FOPEN_KEEP_CACHE);
    }

    fn readdirplus(
        &mut self,
        _: &Request<'_>,
        number: u64,
        handle: u64,
        offset: i64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let inode = self.view.nodes.inode(number);
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        match self.fill(inode, handle, offset, &mut reply) {
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
        let inode = self.view.nodes.inode(number);
        let value = self.view.xattrs(inode).and_then(|all| {
            let mut all = all.into_iter();
            let found = all.find(|(own, _)| own == name.as_bytes());
            found.map(|(_, value)| value).ok_or(Errno::NODATA)
        });
        answer(value, size, reply);
    }

    fn listxattr(&mut self, _: &Request<'_>, number: u64, size: u32, reply: ReplyXattr) {
        let inode = self.view.nodes.inode(number);
        let names = self.view.xattrs(inode).map(|all| {
            let names = all.into_iter().map(|(name, _)| name);
            names.flat_map(|name| name.into_iter().chain([0])).collect()
        });
        answer(names, size, reply);
    }
}
