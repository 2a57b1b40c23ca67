// SPDX-License-Identifier: GPL-2.0

//! Excludes other operations from the objects of a group revert, and from no others.
//!
//! The inode locks are taken with inode_trylock(). If one is contended, all are released before the
//! wait, so no lock order is needed. The wait ends after some seconds. Writes through mappings are
//! blocked by the objects' write barriers. freeze_super() would block the whole filesystem, and
//! wait without a timeout and unkillably for a direct write whose pages never arrive.

use super::{GroupRevert, Outcome};
use crate::{
    history::sort::sort,
    vfs::{
        file::{FileWrite, UpperFile},
        inode::UpperInode,
        lock::HeldInodes, //
    },
};
use core::ptr::from_ref;
use kernel::{prelude::*, sync::aref::ARef};

/// Excludes other operations from the objects while it exists.
pub(super) struct ExclusionGuard<'a> {
    _gates: WriteBarriers,
    held: HeldInodes<'a>,
    /// Dropped last: mnt_want_write_file() comes first in the lock order.
    _write: FileWrite<'a>,
}

impl<'a> ExclusionGuard<'a> {
    /// Waits for operations under way on `inodes`, which may contain duplicates. With `renames`,
    /// also locks out renames of directories on the mount (s_vfs_rename_mutex).
    pub(super) fn take(
        file: &'a UpperFile,
        mut inodes: KVVec<ARef<UpperInode>>,
        renames: bool,
    ) -> Outcome<Self> {
        let address = |inode: &ARef<UpperInode>| from_ref::<UpperInode>(inode);
        // Duplicates are dropped: an inode lock is not recursive.
        sort(&mut inodes, |a, b| address(a) < address(b));
        let mut each: KVVec<ARef<UpperInode>> = KVVec::new();
        for inode in inodes {
            if each.last().map(address) != Some(address(&inode)) {
                each.push(inode, GFP_KERNEL_ACCOUNT)?;
            }
        }
        let mut gates = WriteBarriers(KVVec::with_capacity(each.len(), GFP_KERNEL_ACCOUNT)?);
        let write = file.want_write()?;
        let sb = renames.then(|| file.upper_inode().superblock());
        let held = HeldInodes::take(each, sb)?;
        for inode in held.inodes() {
            gates.shut(inode)?;
        }
        Ok(Self {
            _gates: gates,
            held,
            _write: write,
        })
    }

    /// Whether all objects that the group changes are locked.
    pub(super) fn covers(&self, group: &GroupRevert<'_>) -> bool {
        let has_renames = self.held.has_renames() || !group.moves_directories;
        has_renames && group.inodes.iter().all(|inode| inode.is_held())
    }
}

/// Objects whose writes through mappings are blocked.
struct WriteBarriers(KVVec<ARef<UpperInode>>);

impl WriteBarriers {
    fn shut(&mut self, inode: &ARef<UpperInode>) -> Result {
        if !inode.is_regular() {
            return Ok(());
        }
        self.0.push(inode.clone(), GFP_KERNEL_ACCOUNT)?;
        // Unblocked in drop().
        core::mem::forget(inode.object().mmap_writes().block_faults());
        Ok(())
    }
}

impl Drop for WriteBarriers {
    fn drop(&mut self) {
        for inode in &self.0 {
            inode.object().mmap_writes().unblock_faults();
        }
    }
}
