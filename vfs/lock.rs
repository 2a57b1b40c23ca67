// SPDX-License-Identifier: GPL-2.0

//! The locks of inodes, and what keeps a file from being executed, held by guards.

use super::{
    c,
    inode::{Inode, OwnInode}, //
};
use kernel::{error::to_result, prelude::*, sync::aref::ARef};

impl Inode {
    /// As [`Self::lock`], for a directory under whose lock one of its children's is taken.
    pub(crate) fn lock_as_parent(&self) -> InodeGuard<'_> {
        // SAFETY: `self` is a live inode.
        unsafe { c::lfs_inode_lock_parent(self.as_ptr()) };
        InodeGuard(self)
    }

    /// As [`Self::lock`], under the lock of a directory that it is in.
    pub(crate) fn lock_as_child(&self) -> InodeGuard<'_> {
        // SAFETY: `self` is a live inode.
        unsafe { c::lfs_inode_lock_child(self.as_ptr()) };
        InodeGuard(self)
    }

    /// Locks the inode's rwsem for writing.
    pub(crate) fn lock(&self) -> InodeGuard<'_> {
        // SAFETY: `self` is a live inode.
        unsafe { c::lfs_inode_lock(self.as_ptr()) };
        InodeGuard(self)
    }

    /// Locks the inode's rwsem for reading, if nobody has it for writing; never waits.
    pub(crate) fn try_lock_shared(&self) -> Option<SharedInodeGuard<'_>> {
        // SAFETY: `self` is a live inode.
        let locked = unsafe { c::lfs_inode_trylock_shared(self.as_ptr()) };
        locked.then(|| SharedInodeGuard(self))
    }

    /// Keeps executables from being written, and writers from being executed, while it lives.
    pub(crate) fn write_access(&self) -> Result<WriteAccess<'_>> {
        // SAFETY: `self` is a live inode.
        to_result(unsafe { c::lfs_get_write_access(self.as_ptr()) })?;
        Ok(WriteAccess(self))
    }

    /// As [`Self::write_access`], for as long as the guard is held wherever that is. `ETXTBSY`: a
    /// program runs from the file.
    pub(crate) fn held_write_access(&self) -> Result<HeldWriteAccess> {
        let access = self.write_access()?;
        // The count is given back by the guard that replaces this one.
        core::mem::forget(access);
        Ok(HeldWriteAccess(self.get()))
    }

    /// Whether another program holds a lease that a write of the file breaks. The caller has write
    /// access: from then on generic_setlease() refuses new ones.
    pub(crate) fn has_lease(&self) -> bool {
        // SAFETY: `self` is a live inode.
        unsafe { c::lfs_has_lease(self.as_ptr()) }
    }

    /// Asks the holders of leases to give them up, and with `wait` waits for that as open(2) does: for
    /// `/proc/sys/fs/lease-break-time` at most, or until a signal comes. `EAGAIN`: they were asked.
    pub(crate) fn break_lease(&self, wait: bool) -> Result {
        // SAFETY: `self` is a live inode; the caller holds no lock when it waits.
        to_result(unsafe { c::lfs_break_lease(self.as_ptr(), wait) })
    }

    /// Whether the kernel swaps to the file, which must not change then.
    pub(crate) fn is_swapfile(&self) -> bool {
        // SAFETY: `self` is a live inode; a racy read is what the VFS does too.
        unsafe { c::lfs_is_swapfile(self.as_ptr()) }
    }
}

impl OwnInode {
    /// Locks two objects that exchange their names, as vfs_rename() does: a directory only if it moves to
    /// another parent (`is_across`), where the filesystem's lock for such renames, or a freeze, makes
    /// any order of two unrelated ones safe; what is none behind it, and two such in an order of
    /// their own.
    pub(crate) fn lock_exchanged<'a>(
        a: &'a Self,
        b: &'a Self,
        is_across: bool,
    ) -> [Option<InodeGuard<'a>>; 2] {
        if core::ptr::eq(a, b) {
            return [Some(a.lock()), None];
        }
        match (a.is_directory(), b.is_directory()) {
            (true, true) if !is_across => [None, None],
            (true, true) => [Some(a.lock_as_child()), Some(b.lock())],
            (true, false) => [is_across.then(|| a.lock_as_child()), Some(b.lock())],
            (false, true) => [is_across.then(|| b.lock_as_child()), Some(a.lock())],
            (false, false) => {
                let is_first = core::ptr::from_ref(a) < core::ptr::from_ref(b);
                let (first, second) = if is_first { (a, b) } else { (b, a) };
                [Some(first.lock()), Some(second.lock_as_child())]
            }
        }
    }
}

/// The inode's rwsem, held for writing.
pub(crate) struct InodeGuard<'a>(&'a Inode);

impl Drop for InodeGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: The guard exists because the lock is held.
        unsafe { c::lfs_inode_unlock(self.0.as_ptr()) }
    }
}

/// The inode's rwsem, held for reading.
pub(crate) struct SharedInodeGuard<'a>(&'a Inode);

impl Drop for SharedInodeGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: The guard exists because the lock is held.
        unsafe { c::lfs_inode_unlock_shared(self.0.as_ptr()) }
    }
}

/// See [`Inode::write_access`].
pub(crate) struct WriteAccess<'a>(&'a Inode);

impl Drop for WriteAccess<'_> {
    fn drop(&mut self) {
        // SAFETY: The guard exists because access was granted.
        unsafe { c::lfs_put_write_access(self.0.as_ptr()) }
    }
}

/// See [`Inode::held_write_access`].
pub(crate) struct HeldWriteAccess(ARef<Inode>);

impl Drop for HeldWriteAccess {
    fn drop(&mut self) {
        // SAFETY: The guard exists because access was granted.
        unsafe { c::lfs_put_write_access(self.0.as_ptr()) }
    }
}
