// SPDX-License-Identifier: GPL-2.0

//! The right to change a file's content, as open(2) for writing asks for it: no program runs from the
//! file, none holds a lease on it, and the kernel does not swap to it. A single object's revert has that
//! right by its descriptor; a group has none, so it asks, for the upper and for the lower inode.

use super::Outcome;
use crate::{
    revert::Refusal,
    uapi::Reason,
    vfs::{inode::OwnInode, lock::HeldWriteAccess}, //
};
use kernel::{prelude::*, sync::aref::ARef};

/// How often leases are broken that are taken anew.
pub(super) const LEASE_ROUNDS: usize = 3;

/// Keeps programs from being run from a file, and leases from being taken, until the content is changed.
pub(super) struct WriteClaim {
    _upper: HeldWriteAccess,
    _lower: HeldWriteAccess,
}

impl WriteClaim {
    /// Asks for an object. `Executed`: a program runs from it, by a path of ours or by one below, or the
    /// kernel swaps to it.
    pub(super) fn of(inode: &OwnInode) -> Outcome<Self> {
        if inode.lower().is_swapfile() {
            return Err(Refusal::new(Reason::Executed, 0));
        }
        Ok(Self {
            _upper: inode.held_write_access()?,
            _lower: inode.lower().held_write_access()?,
        })
    }

    /// Whether a program holds a lease on the object, which must be broken first. While the claim is
    /// held, no new one is given.
    pub(super) fn is_leased(&self, inode: &OwnInode) -> bool {
        inode.has_lease() || inode.lower().has_lease()
    }
}

/// Breaks the leases on objects and waits until their holders have given them up, or were too late. No
/// lock may be held: holders write back what they have first.
pub(super) fn break_leases(inodes: &[ARef<OwnInode>]) -> Outcome {
    // All holders get their signal before the first is waited for.
    for wait in [false, true] {
        for inode in inodes {
            for broken in [inode.break_lease(wait), inode.lower().break_lease(wait)] {
                match broken {
                    Err(e) if e == EAGAIN && !wait => {}
                    broken => broken?,
                }
            }
        }
    }
    Ok(())
}
