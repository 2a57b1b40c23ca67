// SPDX-License-Identifier: GPL-2.0

//! Which lower objects belong to the tree that a mount shows.
//!
//! A history tells of objects by file handles, and who could write it may have written any handle: of an
//! object beside the source on the same filesystem, of the history's own files, of another subvolume.
//! exportfs_decode_fh() finds them all. So what was found by a handle counts only below the source, and of
//! the history only the objects that it keeps. overlayfs asks the same of its layers (ovl_acceptable(),
//! is_subdir()), but takes files without a name as they are: it only compares their numbers.

use super::{Mount, HISTORY};
use crate::{
    history::{
        kept::{ENTRY_DEPTH, KEPT},
        line::ObjectId, //
    },
    vfs::{
        attr,
        dentry::Dentry,
        error::{ESTALE, EUCLEAN},
        inode::Inode, //
    },
};
use core::ops::Range;
use kernel::{
    new_mutex,
    prelude::*,
    sync::{aref::ARef, Mutex}, //
};

/// A path is no longer than this many directories.
const DEEPEST: usize = 4096;

/// Where a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the tree.
    Shown,
    /// The name of an object that the history keeps, or below one.
    Kept,
    /// Neither.
    Outside,
}

impl Mount {
    /// Where a lower name is. One that was found by a handle only, of an object that is no directory, is
    /// in no directory: `Outside`.
    #[inline(never)]
    pub(crate) fn place_of(&self, lower: &Dentry) -> Result<Place> {
        let root = self.lower().root();
        if !lower.is_below(root) {
            return Ok(Place::Outside);
        }
        // What overlayfs says of a file's device does not tell.
        let directory = match lower.inode() {
            Some(inode) if inode.is_directory() => lower.get(),
            _ => lower.held_parent(),
        };
        if self.is_other_volume(&directory)? {
            return Ok(Place::Outside);
        }
        let home = self.lower().directory()?.child(HISTORY)?;
        let Some(home_inode) = home.inode() else {
            return Ok(Place::Shown);
        };
        let kept = self.lower().directory_at(&home)?.child(KEPT)?;
        // Others move names in the tree meanwhile, but none in the history.
        let mut here = lower.get();
        for depth in 0..DEEPEST {
            if kept.inode().is_some_and(|kept| is_same(&here, kept)) {
                let is_entry = depth >= ENTRY_DEPTH;
                return Ok(if is_entry {
                    Place::Kept
                } else {
                    Place::Outside
                });
            }
            if is_same(&here, home_inode) {
                return Ok(Place::Outside);
            }
            if core::ptr::eq(&*here, root) {
                return Ok(Place::Shown);
            }
            here = here.held_parent();
        }
        Ok(Place::Outside)
    }

    /// Refuses the name of the history's own directory, which no program gets to and so no line tells of.
    pub(crate) fn refuse_history(&self, dir: &Dentry, name: &[u8]) -> Result {
        if name == HISTORY && core::ptr::eq(dir, self.lower().root()) {
            return Err(EUCLEAN);
        }
        Ok(())
    }

    /// The lower directory with this file handle (its type byte, then its bytes). `ESTALE`: it is gone, or
    /// was never of the tree.
    pub(crate) fn directory_by_handle(&self, handle: &[u8]) -> Result<ARef<Dentry>> {
        let found = attr::open_handle(self.lower(), handle)?;
        if self.is_directory_of_tree(&found)? {
            Ok(found)
        } else {
            Err(ESTALE)
        }
    }

    /// Whether what was found by a handle is a directory of the tree, or one that is kept.
    pub(crate) fn is_directory_of_tree(&self, found: &Dentry) -> Result<bool> {
        let is_there = |inode: &Inode| inode.is_directory() && inode.links() != 0;
        // A filesystem's root has no name.
        let is_top = core::ptr::eq(found, self.lower().root());
        Ok(found.inode().is_some_and(is_there)
            && (is_top || !found.has_lost_its_name())
            && self.place_of(found)? != Place::Outside)
    }
}

/// Directories that were listed lately to find an object's name. Where one is listed again, twice as many of
/// its names are looked up with it as the time before: all of n names cost log n listings.
#[pin_data]
pub(crate) struct Listings {
    #[pin]
    lately: Mutex<[Listing; LISTINGS]>,
}

/// How many directories that is.
const LISTINGS: usize = 8;

/// How many names more are looked up at most.
const MOST_MORE: usize = 4096;

#[derive(Clone, Copy, Default)]
struct Listing {
    /// Inode number 0: none.
    directory: ObjectId,
    /// The next name to be looked up, and how many.
    next: usize,
    many: usize,
}

impl Listings {
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            lately <- new_mutex!([Listing::default(); LISTINGS], "Listings::lately"),
        })
    }

    /// A directory is about to be listed: which of its names, by their order, are looked up, too.
    pub(crate) fn next(&self, directory: ObjectId) -> Range<usize> {
        let mut lately = self.lately.lock();
        let known = lately.iter().position(|one| one.directory == directory);
        let Some(index) = known else {
            lately.rotate_right(1);
            if let Some(first) = lately.first_mut() {
                *first = Listing {
                    directory,
                    next: 0,
                    many: 1,
                };
            }
            return 0..0;
        };
        let Some(listing) = lately.get_mut(index) else {
            return 0..0;
        };
        let range = listing.next..listing.next.saturating_add(listing.many);
        listing.next = range.end;
        listing.many = listing.many.saturating_mul(2).min(MOST_MORE);
        range
    }

    /// All names of a directory were looked up, and may have left memory since.
    pub(crate) fn begin_again(&self, directory: ObjectId) {
        let mut lately = self.lately.lock();
        for listing in lately.iter_mut().filter(|one| one.directory == directory) {
            (listing.next, listing.many) = (0, 1);
        }
    }
}

fn is_same(name: &Dentry, inode: &Inode) -> bool {
    name.inode()
        .is_some_and(|found| core::ptr::eq(found, inode))
}
