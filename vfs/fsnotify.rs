// SPDX-License-Identifier: GPL-2.0

//! fsnotify events (inotify, fanotify) of objects that a revert changed.
//!
//! C header: [`include/linux/fsnotify.h`](srctree/include/linux/fsnotify.h)

use super::{
    c,
    dentry::{Dentry, UpperDentry},
    file::UpperFile,
    inode::UpperInode,
    superblock::SuperBlock, //
};
use kernel::sync::aref::ARef;

/// The parts of an object that have changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChangeEvents {
    /// `IN_MODIFY`, as for write(2).
    pub(crate) content: bool,
    /// `IN_ATTRIB`, as for chmod(2).
    pub(crate) attributes: bool,
}

impl SuperBlock {
    /// Whether the filesystem has fsnotify marks.
    pub(crate) fn has_watchers(&self) -> bool {
        // SAFETY: A live superblock.
        unsafe { c::lfs_has_watchers(self.as_ptr()) }
    }
}

impl UpperInode {
    /// Sends the events to the watchers of the object and of the directory of `name`. `through` is
    /// the file whose mount the change came through.
    fn notify(&self, name: Option<&Dentry>, through: Option<&UpperFile>, changed: ChangeEvents) {
        let none = core::ptr::null_mut();
        let path = c::path {
            mnt: through.map_or(none, |file| file.path().mnt),
            dentry: name.map_or(core::ptr::null_mut(), Dentry::as_ptr),
        };
        let (content, attributes) = (changed.content, changed.attributes);
        // SAFETY: A live inode, and one of its names, both held; the file holds its mount.
        unsafe { c::lfs_notify_changed(self.as_ptr(), &path, content, attributes) };
    }

    /// Sends the events of a change that came through an open file, with that file's path, as for a
    /// write.
    pub(crate) fn notify_through(&self, file: &UpperFile, changed: ChangeEvents) {
        if changed != ChangeEvents::default() && self.superblock().has_watchers() {
            self.notify(Some(file.dentry()), Some(file), changed);
        }
    }

    /// Sends the events of a change that came through no name, with one of the object's aliases.
    /// Without an alias in the dcache the lower name is looked up, since the directory may be
    /// watched.
    pub(crate) fn notify_by_alias(
        &self,
        lower: &Dentry,
        through: Option<&UpperFile>,
        changed: ChangeEvents,
    ) {
        let sb = self.superblock();
        if changed == ChangeEvents::default() || !sb.has_watchers() {
            return;
        }
        let looked_up = || -> Option<ARef<Dentry>> {
            let found = UpperDentry::of_lower(sb, lower).ok()?;
            Some(found.get())
        };
        let name = match self.is_orphan() {
            true => None,
            false => self.find_alias().or_else(looked_up),
        };
        self.notify(name.as_deref(), through, changed);
    }
}
