// SPDX-License-Identifier: GPL-2.0

//! Keeping other operations off the objects that a group revert changes, and off no others.
//!
//! All of their inodes' locks are taken, as a single object's revert takes one: by trying, and with none
//! of them held while one is waited for, so that their order does not matter. The wait ends after a few
//! seconds. Stores through mappings are put off at the objects' gates. Freezing the superblock would keep
//! everybody off everything, and would wait without end, and unkillably, for a direct write whose pages
//! never come.

use super::{GroupRevert, Outcome};
use crate::{
    history::sort::sort,
    vfs::{
        file::{FileWrite, OwnFile},
        inode::OwnInode,
        lock::HeldInodes, //
    },
};
use core::ptr::from_ref;
use kernel::{prelude::*, sync::aref::ARef};

/// While it lives, no other operation changes the objects.
pub(super) struct ExclusionGuard<'a> {
    _gates: WriteBarriers,
    held: HeldInodes<'a>,
    /// Last: the superblock's write protection is the first lock.
    _write: FileWrite<'a>,
}

impl<'a> ExclusionGuard<'a> {
    /// Waits for operations that are under way on `inodes`, each of which may be there several times;
    /// with `renames`, also for renames of directories on the mount.
    pub(super) fn take(
        file: &'a OwnFile,
        mut inodes: KVVec<ARef<OwnInode>>,
        renames: bool,
    ) -> Outcome<Self> {
        let address = |inode: &ARef<OwnInode>| from_ref::<OwnInode>(inode);
        sort(&mut inodes, |a, b| address(a) < address(b));
        let mut each: KVVec<ARef<OwnInode>> = KVVec::new();
        for inode in inodes {
            if each.last().map(address) != Some(address(&inode)) {
                each.push(inode, GFP_KERNEL_ACCOUNT)?;
            }
        }
        let mut gates = WriteBarriers(KVVec::with_capacity(each.len(), GFP_KERNEL_ACCOUNT)?);
        let write = file.want_write()?;
        let sb = renames.then(|| file.own_inode().superblock());
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

    /// Whether all that a group changes is locked.
    pub(super) fn covers(&self, group: &GroupRevert<'_>) -> bool {
        let has_renames = self.held.has_renames() || !group.moves_directories;
        has_renames && group.inodes.iter().all(|inode| inode.is_held())
    }
}

/// Objects whose stores through mappings are put off.
struct WriteBarriers(KVVec<ARef<OwnInode>>);

impl WriteBarriers {
    fn shut(&mut self, inode: &ARef<OwnInode>) -> Result {
        if !inode.is_regular() {
            return Ok(());
        }
        self.0.push(inode.clone(), GFP_KERNEL_ACCOUNT)?;
        // Opened again when this is dropped.
        core::mem::forget(inode.object().stores().shut());
        Ok(())
    }
}

impl Drop for WriteBarriers {
    fn drop(&mut self) {
        for inode in &self.0 {
            inode.object().stores().open_again();
        }
    }
}
