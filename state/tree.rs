// SPDX-License-Identifier: GPL-2.0

//! Whether a lower object belongs to the mounted tree.
//!
//! A history refers to objects by file handles, and may be forged: a handle may name an object
//! outside of the source, one of the history's own files, or an object of another subvolume.
//! exportfs_decode_fh() decodes all of them. So an object found by handle is accepted only below
//! the source, and in the history's directory only as an orphan. overlayfs checks its layers in the
//! same way (ovl_acceptable(), is_subdir()), but accepts files without a name, since only their
//! inode numbers are compared.

use super::Mount;
use crate::{
    history::{
        orphans::{ENTRY_DEPTH, ORPHANS},
        trust::HISTORY_DIR,
    },
    log::types::ObjectId,
    vfs::{
        attr,
        dentry::Dentry,
        error::{ESTALE, EUCLEAN},
        inode::Inode,
    },
};
use core::ops::Range;
use kernel::{
    new_mutex,
    prelude::*,
    sync::{aref::ARef, Mutex}, //
};

/// Upper limit of a path's depth.
const MAX_DEPTH: usize = 4096;

/// The location of a lower name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TreeLocation {
    /// In the tree.
    InTree,
    /// An orphan's name, or below an orphan.
    Orphan,
    /// Neither.
    Outside,
}

impl Mount {
    /// The location of a lower name. A file found by handle may have a dentry without parent:
    /// `Outside`.
    #[inline(never)]
    pub(crate) fn location_of(&self, lower: &Dentry) -> Result<TreeLocation> {
        let root = self.lower().root();
        // is_subdir() is safe against concurrent renames (rename_lock).
        if !lower.is_below(root) {
            return Ok(TreeLocation::Outside);
        }
        // Only a directory's `st_dev` is reliable: overlayfs reports a pseudo device for other
        // files.
        let directory = match lower.inode() {
            Some(inode) if inode.is_directory() => lower.get(),
            _ => lower.dget_parent(),
        };
        if self.is_other_volume(&directory)? {
            return Ok(TreeLocation::Outside);
        }
        let home = self.lower().directory()?.child(HISTORY_DIR)?;
        let Some(home_inode) = home.inode() else {
            return Ok(TreeLocation::InTree);
        };
        let kept = self.lower().directory_at(&home)?.child(ORPHANS)?;
        // Other tasks may rename directories of the tree meanwhile, but not of the history.
        let mut here = lower.get();
        for depth in 0..MAX_DEPTH {
            if kept.inode().is_some_and(|kept| is_same(&here, kept)) {
                let is_entry = depth >= ENTRY_DEPTH;
                return Ok(if is_entry {
                    TreeLocation::Orphan
                } else {
                    TreeLocation::Outside
                });
            }
            if is_same(&here, home_inode) {
                return Ok(TreeLocation::Outside);
            }
            if core::ptr::eq(&*here, root) {
                return Ok(TreeLocation::InTree);
            }
            // dget_parent(), since a concurrent rename may change `d_parent`.
            here = here.dget_parent();
        }
        Ok(TreeLocation::Outside)
    }

    /// Refuses the name of the history's own directory, which is hidden, so that no line can refer
    /// to the name.
    pub(crate) fn refuse_history(&self, dir: &Dentry, name: &[u8]) -> Result {
        if name == HISTORY_DIR && core::ptr::eq(dir, self.lower().root()) {
            return Err(EUCLEAN);
        }
        Ok(())
    }

    /// The lower directory with this file handle (type byte, then the handle's bytes). `ESTALE`:
    /// removed, or outside of the tree.
    pub(crate) fn directory_by_handle(&self, handle: &[u8]) -> Result<ARef<Dentry>> {
        let found = attr::open_handle(self.lower(), handle)?;
        if self.is_directory_of_tree(&found)? {
            Ok(found)
        } else {
            Err(ESTALE)
        }
    }

    /// Whether an object found by handle is a directory of the tree, or an orphan.
    pub(crate) fn is_directory_of_tree(&self, found: &Dentry) -> Result<bool> {
        let is_there = |inode: &Inode| inode.is_directory() && inode.links() != 0;
        // The lower root may be the root of its filesystem, which is unhashed.
        let is_top = core::ptr::eq(found, self.lower().root());
        Ok(found.inode().is_some_and(is_there)
            && (is_top || !found.has_lost_its_name())
            && self.location_of(found)? != TreeLocation::Outside)
    }
}

/// Readahead of names: the directories that were listed last to find an object's name. Each further
/// listing of a directory also looks up twice as many of its names as the one before, so finding
/// all n names takes log n listings.
#[pin_data]
pub(crate) struct NameReadahead {
    #[pin]
    recent: Mutex<[ReadaheadState; READAHEAD_DIRS]>,
}

/// Number of remembered directories.
const READAHEAD_DIRS: usize = 8;

/// Upper limit of names per readahead.
const MAX_READAHEAD: usize = 4096;

#[derive(Clone, Copy, Default)]
struct ReadaheadState {
    /// Inode number 0: unused.
    directory: ObjectId,
    /// The first name to look up next, and the number of names.
    next: usize,
    many: usize,
}

impl NameReadahead {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            recent <- new_mutex!([ReadaheadState::default(); READAHEAD_DIRS], "NameReadahead::lately"),
        })
    }

    /// Before a listing: the range of names to look up as well, by their order in the directory.
    pub(crate) fn next(&self, directory: ObjectId) -> Range<usize> {
        let mut recent = self.recent.lock();
        let known = recent.iter().position(|one| one.directory == directory);
        let Some(index) = known else {
            recent.rotate_right(1);
            if let Some(first) = recent.first_mut() {
                *first = ReadaheadState {
                    directory,
                    next: 0,
                    many: 1,
                };
            }
            return 0..0;
        };
        let Some(listing) = recent.get_mut(index) else {
            return 0..0;
        };
        let range = listing.next..listing.next.saturating_add(listing.many);
        listing.next = range.end;
        listing.many = listing.many.saturating_mul(2).min(MAX_READAHEAD);
        range
    }

    /// After all names of a directory were looked up: restart, since the dentries may be reclaimed.
    pub(crate) fn restart(&self, directory: ObjectId) {
        let mut recent = self.recent.lock();
        for listing in recent.iter_mut().filter(|one| one.directory == directory) {
            (listing.next, listing.many) = (0, 1);
        }
    }
}

fn is_same(name: &Dentry, inode: &Inode) -> bool {
    name.inode()
        .is_some_and(|found| core::ptr::eq(found, inode))
}
