// SPDX-License-Identifier: GPL-2.0

//! Events for watchers (inotify, fanotify) of objects that a revert changed.
//!
//! C header: [`include/linux/fsnotify.h`](srctree/include/linux/fsnotify.h)

use super::{
    c,
    dentry::{Dentry, OwnDentry},
    file::OwnFile,
    inode::OwnInode,
    superblock::SuperBlock, //
};
use kernel::sync::aref::ARef;

/// Which parts of an object have changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changed {
    /// Its content: `IN_MODIFY`, as write(2) sends it.
    pub(crate) content: bool,
    /// Its attributes: `IN_ATTRIB`, as chmod(2) and its kin send it.
    pub(crate) attributes: bool,
}

impl SuperBlock {
    /// Whether anything on this filesystem is watched.
    pub(crate) fn has_watchers(&self) -> bool {
        // SAFETY: A live superblock.
        unsafe { c::lfs_has_watchers(self.as_ptr()) }
    }
}

impl OwnInode {
    /// Sends the events of a change to the watchers of the object and of the directory of `name`.
    /// `through` is the file whose mount the change was asked on.
    fn notify(&self, name: Option<&Dentry>, through: Option<&OwnFile>, changed: Changed) {
        let none = core::ptr::null_mut();
        let path = c::path {
            mnt: through.map_or(none, |file| file.path().mnt),
            dentry: name.map_or(core::ptr::null_mut(), Dentry::as_ptr),
        };
        let (content, attributes) = (changed.content, changed.attributes);
        // SAFETY: A live inode, and one of its names, both held; the file holds its mount.
        unsafe { c::lfs_notify_changed(self.as_ptr(), &path, content, attributes) };
    }

    /// Sends the events of a change that was asked for through a file that is open: by that file's
    /// name, as those of a write through it.
    pub(crate) fn changed_through(&self, file: &OwnFile, changed: Changed) {
        if changed != Changed::default() && self.superblock().has_watchers() {
            self.notify(Some(file.dentry()), Some(file), changed);
        }
    }

    /// Sends the events of a change of an object that nobody asked for by a name: by one of those that
    /// it has. One that no dentry of ours has is looked for by the lower name, since the directory may
    /// be watched.
    pub(crate) fn changed_below(
        &self,
        lower: &Dentry,
        through: Option<&OwnFile>,
        changed: Changed,
    ) {
        let sb = self.superblock();
        if changed == Changed::default() || !sb.has_watchers() {
            return;
        }
        let looked_up = || -> Option<ARef<Dentry>> {
            let found = OwnDentry::of_lower(sb, lower).ok()?;
            Some(found.get())
        };
        let name = match self.object().is_kept() {
            true => None,
            false => self.any_name().or_else(looked_up),
        };
        self.notify(name.as_deref(), through, changed);
    }
}
