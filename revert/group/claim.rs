// SPDX-License-Identifier: GPL-2.0

//! Write access to a file's content, with the checks of open(2) for writing: no running program
//! (ETXTBSY), no lease, no swap file. The revert of one object has an open file for that; a group
//! has none, so it takes write access to the upper and the lower inode (get_write_access()).

use super::Outcome;
use crate::{
    revert::Refusal,
    uapi::Reason,
    vfs::{inode::UpperInode, lock::OwnedInodeWriteAccess}, //
};
use kernel::{prelude::*, sync::aref::ARef};

/// Number of times that leases are broken if programs take new ones.
pub(super) const LEASE_ROUNDS: usize = 3;

/// Prevents execve(2) and new leases on a file until its content is changed.
pub(super) struct WriteClaim {
    _upper: OwnedInodeWriteAccess,
    _lower: OwnedInodeWriteAccess,
}

impl WriteClaim {
    /// Takes write access. `Executed`: a program runs from the upper or the lower file, or the
    /// lower file is a swap file.
    pub(super) fn of(inode: &UpperInode) -> Outcome<Self> {
        // IS_SWAPFILE(): swap I/O goes to the blocks of this file directly.
        if inode.lower().is_swapfile() {
            return Err(Refusal::new(Reason::Executed, 0));
        }
        Ok(Self {
            _upper: inode.held_write_access()?,
            _lower: inode.lower().held_write_access()?,
        })
    }

    /// Whether there is a lease to break first. While write access is held, no new one is granted.
    pub(super) fn is_leased(&self, inode: &UpperInode) -> bool {
        inode.has_lease() || inode.lower().has_lease()
    }
}

/// Breaks leases and waits until the holders release them, or until lease_break_time expires. No
/// lock may be held: a holder may write back data first.
pub(super) fn break_leases(inodes: &[ARef<UpperInode>]) -> Outcome {
    // Signals all holders before the first wait.
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
