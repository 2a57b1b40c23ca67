// SPDX-License-Identifier: GPL-2.0

//! What a request reaches: objects below the root of the mount that its descriptor was opened through, by a
//! path that the caller may search. Removed ones are reached by the directory that they were in.
//!
//! File handles in the lines would lead to any object of the superblock: past the root of a bind mount, as
//! open_by_handle_at(2) does, for which that asks for CAP_DAC_READ_SEARCH in the superblock's user
//! namespace. Compare nfsd_acceptable(), which asks the same of each directory up to an export's root.

use super::{
    super::{
        locate::{self, MOST_NAMES},
        steps::Lines, //
    },
    CallerRights, //
};
use crate::{
    history::{
        line::ObjectId,
        orphan::{EntryName, Orphan, HANDLE_MAX},
        trust::HOME, //
    },
    vfs::{
        dentry::Dentry,
        error::{ENODATA, EUCLEAN},
        inode::{Inode, OwnInode}, //
    },
};
use kernel::{prelude::*, sync::aref::ARef};

/// A path is no longer than this many directories.
const DEEPEST: usize = 4096;

/// What a path is broken into above an entry of what is kept: the entry's directory, the segment's, all of
/// what is kept, and the history's.
const ABOVE_KEPT: usize = 4;

impl CallerRights<'_> {
    /// Whether the caller reaches an object, whose lower name may be one that was found by handle only.
    /// `exact`: a directory that the lines tell of must still have it.
    #[inline(never)]
    pub(super) fn reaches(&mut self, lower: &Dentry, exact: bool) -> Result<bool> {
        let inode = lower.inode().ok_or(ENOENT)?;
        if core::ptr::eq(inode, self.file.own_inode().lower()) {
            // That is open already.
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
                name.map(|name| name.held_parent())
            }
            false => self.recorded_in(inode.id())?,
        };
        match parent {
            Some(parent) => self.reaches_directory(&parent, false),
            None => Ok(false),
        }
    }

    /// Whether the descriptor's mount shows all of the superblock.
    fn is_whole(&self) -> bool {
        self.file.mount_root().is_root()
    }

    /// Whether the caller reaches an object that is no directory by one of the names in memory.
    #[inline(never)]
    fn reaches_by_names(&mut self, inode: &Inode) -> Result<bool> {
        for index in 0..MOST_NAMES {
            let Some(name) = inode.name_in_memory(index) else {
                break;
            };
            let parent = name.held_parent();
            // Found by handle only: it has no parent. Or it is an entry of what is kept.
            if !core::ptr::eq(&*parent, &*name) && self.reaches_directory(&parent, false)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the caller may search a path from the mount's root to a directory, and the directory; with
    /// `is_object`, that is what is looked for, and need not be searched.
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

    /// A directory and those above it, up to the mount's root. `None`: it does not lie below that.
    #[inline(never)]
    fn path_of(&self, lower: &Dentry) -> Result<Option<KVVec<ARef<Dentry>>>> {
        let top = self.file.mount_root().lower()?;
        let mut path: KVVec<ARef<Dentry>> = KVVec::new();
        let mut here = lower.get();
        let mut home = None;
        while path.len() < DEEPEST {
            let is_top = core::ptr::eq(&*here, top);
            let parent = here.held_parent();
            path.push(here, GFP_KERNEL_ACCOUNT)?;
            if is_top {
                return Ok(Some(path));
            }
            let here_now = path.last().ok_or(EUCLEAN)?;
            if core::ptr::eq(&*parent, &**here_now) {
                return Ok(None);
            }
            here = parent;
            if !core::ptr::eq(&*here, self.mount.lower().root()) {
                continue;
            }
            let home = match &home {
                Some(home) => home,
                None => home.insert(self.mount.lower().directory_at(&here)?.child(HOME)?),
            };
            if !core::ptr::eq(&**here_now, &**home) {
                continue;
            }
            // It has been removed, or something above it has.
            let Some(parent) = self.leave_orphans(&mut path)? else {
                return Ok(None);
            };
            here = parent;
        }
        Ok(None)
    }

    /// Takes the history's own directories off a path; answers the directory that its last one was in.
    #[inline(never)]
    fn leave_orphans(&self, path: &mut KVVec<ARef<Dentry>>) -> Result<Option<ARef<Dentry>>> {
        let Some(left) = path.len().checked_sub(ABOVE_KEPT) else {
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
            let own = OwnInode::obtain(self.sb, lower.inode().ok_or(ENOENT)?)?;
            if own.may_search().is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The directory that a removed object was in. `None`: it is not kept.
    #[inline(never)]
    fn orphan_of(&self, object: ObjectId) -> Result<Option<ARef<Dentry>>> {
        let entry: EntryName = match self.journal.find_kept(object) {
            Err(e) if e == ENODATA => return Ok(None),
            found => found?.1,
        };
        let mut bytes = [0; HANDLE_MAX];
        match Orphan::parse(entry.bytes(), &mut bytes) {
            Some(orphan) => locate::directory(self.mount, orphan.parent),
            None => Ok(None),
        }
    }

    /// The directory that an object has a name in, as its newest line that tells of it says.
    #[inline(never)]
    fn recorded_in(&self, object: ObjectId) -> Result<Option<ARef<Dentry>>> {
        let mut lines = Lines::new(self.journal)?;
        let mut next = self.journal.last_line(object)?;
        while let Some(at) = next {
            let line = match lines.read(at) {
                Err(e) if e == ENODATA => return Ok(None),
                line => line?,
            };
            if let Some(handle) = line.inside {
                return locate::recorded_directory(self.mount, handle);
            }
            if line.prev.is_some_and(|prev| prev >= at) {
                return Err(EUCLEAN);
            }
            next = line.prev;
        }
        Ok(None)
    }
}
