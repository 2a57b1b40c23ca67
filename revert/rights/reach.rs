// SPDX-License-Identifier: GPL-2.0

//! The objects that a request reaches: those below the root of the mount through which its file was
//! opened, by a path that the caller may search. A removed object is reached through its former
//! directory.
//!
//! A file handle alone would lead to any object of the superblock, past the root of a bind mount.
//! open_by_handle_at(2) asks for CAP_DAC_READ_SEARCH for that reason; nfsd_acceptable() makes the
//! same check as this file for each directory up to the root of an export.

use super::{
    super::{
        locate::{self, MOST_NAMES},
        steps::Lines, //
    },
    CallerRights, //
};
use crate::{
    history::{
        orphan_record::{EntryName, OrphanRecord, HANDLE_MAX},
        trust::HISTORY_DIR,
    },
    log::types::ObjectId,
    vfs::{
        dentry::Dentry,
        error::{ENODATA, EUCLEAN},
        inode::{Inode, UpperInode},
    },
};
use kernel::{prelude::*, sync::aref::ARef};

/// Limit of the directories in a path.
const DEEPEST: usize = 4096;

/// Path components above an orphan's entry: the entry, its segment, orphans/, and the history's
/// directory.
const ABOVE_ORPHAN: usize = 4;

impl CallerRights<'_> {
    /// Whether the caller reaches an object. `lower` may be a disconnected dentry from a file
    /// handle. With `exact`, the directory in the object's lines must still contain the object.
    #[inline(never)]
    pub(super) fn reaches(&mut self, lower: &Dentry, exact: bool) -> Result<bool> {
        let inode = lower.inode().ok_or(ENOENT)?;
        if core::ptr::eq(inode, self.file.upper_inode().lower()) {
            // The open file of the request is the object.
            return Ok(true);
        }
        if inode.is_directory() {
            return self.reaches_directory(lower, true);
        }
        if self.reaches_by_names(inode)? {
            return Ok(true);
        }
        if let Some(parent) = self.orphan_of(inode.id())? {
            return self.reaches_directory(&parent, false);
        }
        let parent = match exact || !self.is_whole() {
            true => {
                let name = locate::name_by_lines(self.mount, self.journal, inode)?;
                name.map(|name| name.dget_parent())
            }
            false => self.recorded_in(inode.id())?,
        };
        match parent {
            Some(parent) => self.reaches_directory(&parent, false),
            None => Ok(false),
        }
    }

    /// Whether the mount of the request shows the whole superblock.
    fn is_whole(&self) -> bool {
        self.file.mount_root().is_root()
    }

    /// Whether the caller reaches an object through one of its dentry aliases.
    #[inline(never)]
    fn reaches_by_names(&mut self, inode: &Inode) -> Result<bool> {
        for index in 0..MOST_NAMES {
            let Some(name) = inode.nth_alias(index) else {
                break;
            };
            let parent = name.dget_parent();
            // A disconnected alias is its own parent. Orphans' entries are handled below.
            if !core::ptr::eq(&*parent, &*name) && self.reaches_directory(&parent, false)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the caller may search each directory from the mount's root to `lower`. With
    /// `is_object`, the directory itself is the object and need not be searchable.
    #[inline(never)]
    pub(super) fn reaches_directory(&mut self, lower: &Dentry, is_object: bool) -> Result<bool> {
        let object = lower.inode().ok_or(ENOENT)?.id();
        if let Some(is_reached) = self.searched.get(&object) {
            if *is_reached || !is_object {
                return Ok(*is_reached);
            }
        }
        let is_reached = match self.path_of(lower)? {
            Some(path) => {
                self.may_search(path.get(usize::from(is_object)..).unwrap_or_default())?
            }
            None => false,
        };
        if !is_object {
            self.searched
                .try_create_and_insert(object, is_reached, GFP_KERNEL_ACCOUNT)?;
        }
        Ok(is_reached)
    }

    /// The directory and its ancestors up to the mount's root; `None` if it is not below that root.
    #[inline(never)]
    fn path_of(&self, lower: &Dentry) -> Result<Option<KVVec<ARef<Dentry>>>> {
        let top = self.file.mount_root().lower()?;
        let mut path: KVVec<ARef<Dentry>> = KVVec::new();
        let mut here = lower.get();
        let mut home = None;
        while path.len() < DEEPEST {
            let is_top = core::ptr::eq(&*here, top);
            let parent = here.dget_parent();
            path.push(here, GFP_KERNEL_ACCOUNT)?;
            if is_top {
                return Ok(Some(path));
            }
            let here_now = path.last().ok_or(EUCLEAN)?;
            // A root, or a disconnected dentry: not below the mount's root.
            if core::ptr::eq(&*parent, &**here_now) {
                return Ok(None);
            }
            here = parent;
            if !core::ptr::eq(&*here, self.mount.lower().root()) {
                continue;
            }
            let home = match &home {
                Some(home) => home,
                None => home.insert(self.mount.lower().directory_at(&here)?.child(HISTORY_DIR)?),
            };
            if !core::ptr::eq(&**here_now, &**home) {
                continue;
            }
            // An orphan, or an object below an orphan: continues with the orphan's former
            // directory.
            let Some(parent) = self.leave_orphans(&mut path)? else {
                return Ok(None);
            };
            here = parent;
        }
        Ok(None)
    }

    /// Drops the history's directories from a path. Returns the former directory of the orphan.
    #[inline(never)]
    fn leave_orphans(&self, path: &mut KVVec<ARef<Dentry>>) -> Result<Option<ARef<Dentry>>> {
        let Some(left) = path.len().checked_sub(ABOVE_ORPHAN) else {
            return Ok(None);
        };
        path.truncate(left);
        match path.last().and_then(|last| last.inode()) {
            Some(inode) => self.orphan_of(inode.id()),
            None => Ok(None),
        }
    }

    /// Whether the caller may search all of these directories.
    #[inline(never)]
    fn may_search(&self, path: &[ARef<Dentry>]) -> Result<bool> {
        for lower in path {
            let own = UpperInode::iget(self.sb, lower.inode().ok_or(ENOENT)?)?;
            if own.may_search().is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The former directory of an orphan; `None` if the object is not an orphan.
    #[inline(never)]
    fn orphan_of(&self, object: ObjectId) -> Result<Option<ARef<Dentry>>> {
        let entry: EntryName = match self.journal.find_orphan(object) {
            Err(e) if e == ENODATA => return Ok(None),
            found => found?.1,
        };
        let mut bytes = [0; HANDLE_MAX];
        match OrphanRecord::parse(entry.bytes(), &mut bytes) {
            Some(orphan) => locate::directory(self.mount, orphan.parent),
            None => Ok(None),
        }
    }

    /// The directory of an object, by the newest of its lines that has one.
    #[inline(never)]
    fn recorded_in(&self, object: ObjectId) -> Result<Option<ARef<Dentry>>> {
        let mut lines = Lines::new(self.journal)?;
        let mut next = self.journal.last_line(object)?;
        while let Some((_, line)) = lines.back_while_kept(&mut next)? {
            if let Some(handle) = line.inside {
                return locate::recorded_directory(self.mount, handle);
            }
        }
        Ok(None)
    }
}
