// SPDX-License-Identifier: GPL-2.0

//! Guards for inode locks and for `i_writecount`.

use super::{
    c,
    inode::{Inode, UpperInode},
    quota::sleep_killable,
    superblock::UpperSuperBlock,
    task::{current_id, resched_killable}, //
};
use core::cell::Cell;
use kernel::{
    error::to_result,
    prelude::*,
    sync::aref::ARef,
    time::{Instant, Monotonic}, //
};

/// Time limit for locks held by running operations.
const LOCK_TIMEOUT_MS: i64 = 5_000;

/// Poll interval of a lock that is waited for.
const LOCK_POLL_MS: u32 = 5;

/// The reason of a failed lock.
pub(crate) enum LockFailure {
    /// A fatal signal is pending.
    Killed,
    /// The lock's owner, a process id in the caller's namespace, held the lock too long; 0: owner
    /// unknown.
    Busy(u32),
}

/// A wait for locks with a time limit, which ends on a fatal signal.
pub(crate) struct LockWait {
    /// Time waited so far, in milliseconds.
    waited: Cell<i64>,
}

impl LockWait {
    /// A wait of zero milliseconds.
    pub(crate) fn new() -> Self {
        Self {
            waited: Cell::new(0),
        }
    }

    /// Sleeps for one poll interval, without locks, before the next attempt to lock `inode`.
    pub(crate) fn wait(&self, inode: &Inode) -> Result<(), LockFailure> {
        let waited = self.waited.get();
        if waited > LOCK_TIMEOUT_MS {
            // SAFETY: `inode` is a live inode.
            return Err(LockFailure::Busy(unsafe {
                c::lfs_inode_lock_owner(inode.as_ptr())
            }));
        }
        let since: Instant<Monotonic> = Instant::now();
        let is_alive = sleep_killable(LOCK_POLL_MS);
        (self.waited).set(waited.saturating_add(since.elapsed().as_millis()));
        if is_alive {
            Ok(())
        } else {
            Err(LockFailure::Killed)
        }
    }
}

impl Inode {
    /// As [`Self::lock`], for the parent directory (I_MUTEX_PARENT) of another inode that is locked
    /// next.
    pub(crate) fn lock_as_parent(&self) -> InodeGuard<'_> {
        // SAFETY: `self` is a live inode.
        unsafe { c::lfs_inode_lock_parent(self.as_ptr()) };
        InodeGuard(self)
    }

    /// As [`Self::lock`], for a child (I_MUTEX_CHILD) of a locked directory.
    pub(crate) fn lock_as_child(&self) -> InodeGuard<'_> {
        // SAFETY: `self` is a live inode.
        unsafe { c::lfs_inode_lock_child(self.as_ptr()) };
        InodeGuard(self)
    }

    /// inode_lock().
    pub(crate) fn lock(&self) -> InodeGuard<'_> {
        // SAFETY: `self` is a live inode.
        unsafe { c::lfs_inode_lock(self.as_ptr()) };
        InodeGuard(self)
    }

    /// inode_trylock().
    pub(crate) fn try_lock(&self) -> Option<InodeGuard<'_>> {
        // SAFETY: `self` is a live inode.
        let locked = unsafe { c::lfs_inode_trylock(self.as_ptr()) };
        locked.then(|| InodeGuard(self))
    }

    /// As [`Self::lock`], with a time limit, killable. The caller holds no other lock.
    pub(crate) fn lock_in_time(&self) -> Result<InodeGuard<'_>, LockFailure> {
        self.lock_with(&LockWait::new())
    }

    /// The same, with a time limit for several locks together.
    pub(crate) fn lock_with(&self, patience: &LockWait) -> Result<InodeGuard<'_>, LockFailure> {
        loop {
            if let Some(guard) = self.try_lock() {
                return Ok(guard);
            }
            patience.wait(self)?;
        }
    }

    /// As [`Self::lock`]; `EINTR` on a fatal signal.
    #[inline]
    pub(crate) fn lock_killable(&self) -> Result<InodeGuard<'_>> {
        // SAFETY: `self` is a live inode.
        to_result(unsafe { c::lfs_inode_lock_killable(self.as_ptr()) })?;
        Ok(InodeGuard(self))
    }

    /// Locks the inode's rwsem for reading, unless there is a writer; never waits.
    pub(crate) fn try_lock_shared(&self) -> Option<SharedInodeGuard<'_>> {
        // SAFETY: `self` is a live inode.
        let locked = unsafe { c::lfs_inode_trylock_shared(self.as_ptr()) };
        locked.then(|| SharedInodeGuard(self))
    }

    /// get_write_access(): excludes execution of the file (deny_write_access()).
    pub(crate) fn write_access(&self) -> Result<InodeWriteAccess<'_>> {
        // SAFETY: `self` is a live inode.
        to_result(unsafe { c::lfs_get_write_access(self.as_ptr()) })?;
        Ok(InodeWriteAccess(self))
    }

    /// As [`Self::write_access`], with a reference to the inode. `ETXTBSY`: the file is being
    /// executed.
    pub(crate) fn held_write_access(&self) -> Result<OwnedInodeWriteAccess> {
        let access = self.write_access()?;
        // The count passes to the new guard.
        core::mem::forget(access);
        Ok(OwnedInodeWriteAccess(self.get()))
    }

    /// Whether a lease exists that a write would break. The caller has write access, so that
    /// generic_setlease() refuses new leases.
    pub(crate) fn has_lease(&self) -> bool {
        // SAFETY: `self` is a live inode.
        unsafe { c::lfs_has_lease(self.as_ptr()) }
    }

    /// break_lease(); with `wait` as a blocking open(2): at most `/proc/sys/fs/lease-break-time`,
    /// or until a signal. `EAGAIN`: the break was requested.
    pub(crate) fn break_lease(&self, wait: bool) -> Result {
        // SAFETY: `self` is a live inode; with `wait` the caller holds no lock.
        to_result(unsafe { c::lfs_break_lease(self.as_ptr(), wait) })
    }

    /// Whether the file is a swap file, which must not change.
    pub(crate) fn is_swapfile(&self) -> bool {
        // SAFETY: `self` is a live inode; the VFS reads this field without a lock, too.
        unsafe { c::lfs_is_swapfile(self.as_ptr()) }
    }
}

impl UpperInode {
    /// Whether the caller holds the lock for a whole request: see [`HeldInodes`].
    pub(crate) fn is_held(&self) -> bool {
        self.holder() == current_id()
    }

    /// As [`Inode::lock`], unless the caller holds the lock for a whole request.
    pub(crate) fn lock_unless_held(&self) -> ReentrantInodeGuard<'_> {
        match self.is_held() {
            true => ReentrantInodeGuard::held(self, false),
            false => ReentrantInodeGuard::taken(self.lock()),
        }
    }

    /// As [`Inode::lock_as_parent`], unless the caller holds the lock for a whole request.
    pub(crate) fn lock_as_parent_unless_held(&self) -> ReentrantInodeGuard<'_> {
        match self.is_held() {
            true => ReentrantInodeGuard::held(self, true),
            false => ReentrantInodeGuard::taken(self.lock_as_parent()),
        }
    }

    fn lock_as_child_unless_held(&self) -> ReentrantInodeGuard<'_> {
        match self.is_held() {
            true => ReentrantInodeGuard::held(self, false),
            false => ReentrantInodeGuard::taken(self.lock_as_child()),
        }
    }

    /// Locks two objects that exchange names, in the order of vfs_rename(): a directory only if the
    /// parent changes (`is_across`), and directories before other inodes. The order of two
    /// unrelated directories is free, since `s_vfs_rename_mutex` or a request's locks exclude other
    /// such renames. Two inodes that are not directories are locked by address, as in
    /// lock_two_nondirectories().
    pub(crate) fn lock_exchanged<'a>(
        a: &'a Self,
        b: &'a Self,
        is_across: bool,
    ) -> [Option<ReentrantInodeGuard<'a>>; 2] {
        if core::ptr::eq(a, b) {
            return [Some(a.lock_unless_held()), None];
        }
        match (a.is_directory(), b.is_directory()) {
            (true, true) if !is_across => [None, None],
            (true, true) => [
                Some(a.lock_as_child_unless_held()),
                Some(b.lock_unless_held()),
            ],
            (true, false) => [
                is_across.then(|| a.lock_as_child_unless_held()),
                Some(b.lock_unless_held()),
            ],
            (false, true) => [
                is_across.then(|| b.lock_as_child_unless_held()),
                Some(a.lock_unless_held()),
            ],
            (false, false) => {
                let is_first = core::ptr::from_ref(a) < core::ptr::from_ref(b);
                let (first, second) = if is_first { (a, b) } else { (b, a) };
                [
                    Some(first.lock_unless_held()),
                    Some(second.lock_as_child_unless_held()),
                ]
            }
        }
    }
}

/// Write lock of the inode's rwsem.
pub(crate) struct InodeGuard<'a>(&'a Inode);

impl Drop for InodeGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: The guard exists because the lock is held.
        unsafe { c::lfs_inode_unlock(self.0.as_ptr()) }
    }
}

/// Write lock of the inode's rwsem, taken for this guard or held for a whole request.
pub(crate) struct ReentrantInodeGuard<'a> {
    _taken: Option<InodeGuard<'a>>,
    /// The lock is registered with lockdep as long as this guard lives.
    shown: Option<&'a UpperInode>,
}

impl<'a> ReentrantInodeGuard<'a> {
    fn taken(guard: InodeGuard<'a>) -> Self {
        Self {
            _taken: Some(guard),
            shown: None,
        }
    }

    fn held(inode: &'a UpperInode, as_parent: bool) -> Self {
        // SAFETY: A live inode that the running task has locked: `is_held()`.
        unsafe { c::lfs_inode_show_lock(inode.as_ptr(), as_parent) };
        Self {
            _taken: None,
            shown: Some(inode),
        }
    }
}

impl Drop for ReentrantInodeGuard<'_> {
    fn drop(&mut self) {
        if let Some(inode) = self.shown {
            // SAFETY: Undoes lfs_inode_show_lock(); a guard is not sent to another task.
            unsafe { c::lfs_inode_hide_lock(inode.as_ptr()) };
        }
    }
}

/// `s_vfs_rename_mutex` of the upper superblock.
struct RenameMutexGuard<'a>(&'a UpperSuperBlock);

impl<'a> RenameMutexGuard<'a> {
    fn try_take(sb: &'a UpperSuperBlock) -> Option<Self> {
        // SAFETY: A live superblock.
        let locked = unsafe { c::lfs_trylock_renames(sb.as_ptr()) };
        locked.then(|| Self(sb))
    }
}

impl Drop for RenameMutexGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: The guard exists because the lock is held.
        unsafe { c::lfs_unlock_renames(self.0.as_ptr()) };
    }
}

/// Write locks of any number of inodes, held by one task for one request until this is dropped. The
/// task never waits for one of them while holding another.
pub(crate) struct HeldInodes<'a> {
    inodes: KVVec<ARef<UpperInode>>,
    /// Number of locked inodes.
    count: usize,
    renames: Option<RenameMutexGuard<'a>>,
}

impl<'a> HeldInodes<'a> {
    /// Locks all of `inodes`, without duplicates; with `renames` also `s_vfs_rename_mutex`. With a
    /// time limit, killable.
    pub(crate) fn take(
        inodes: KVVec<ARef<UpperInode>>,
        renames: Option<&'a UpperSuperBlock>,
    ) -> Result<Self, LockFailure> {
        let patience = LockWait::new();
        let mut held = Self {
            inodes,
            count: 0,
            renames: None,
        };
        loop {
            if held.try_renames(renames) && held.try_all() {
                return Ok(held);
            }
            let failed = held.count;
            held.release();
            // The next round starts with the inode that was locked by another task.
            let Some((first, others)) = held.inodes.split_first_mut() else {
                return Err(LockFailure::Busy(0));
            };
            let other = failed.checked_sub(1).and_then(|at| others.get_mut(at));
            if let Some(other) = other {
                core::mem::swap(first, other);
            }
            patience.wait(first)?;
        }
    }

    fn try_renames(&mut self, renames: Option<&'a UpperSuperBlock>) -> bool {
        self.renames = renames.and_then(RenameMutexGuard::try_take);
        self.renames.is_some() || renames.is_none()
    }

    /// Whether all inodes are locked; otherwise `count` is the index of the first failure.
    fn try_all(&mut self) -> bool {
        let task = current_id();
        for inode in self.inodes.iter().skip(self.count) {
            // SAFETY: A live inode; `release` unlocks on this task.
            if !unsafe { c::lfs_inode_trylock_apart(inode.as_ptr()) } {
                return false;
            }
            inode.note_holder(task);
            self.count = self.count.saturating_add(1);
            let _ = resched_killable();
        }
        true
    }

    fn release(&mut self) {
        for inode in self.inodes.iter().take(self.count) {
            inode.note_holder(0);
            // SAFETY: Locked by `try_all` on this task.
            unsafe { c::lfs_inode_unlock_apart(inode.as_ptr()) };
        }
        self.count = 0;
        self.renames = None;
    }

    /// All of them.
    pub(crate) fn inodes(&self) -> &[ARef<UpperInode>] {
        &self.inodes
    }

    /// Whether `s_vfs_rename_mutex` is held.
    pub(crate) fn has_renames(&self) -> bool {
        self.renames.is_some()
    }
}

impl Drop for HeldInodes<'_> {
    fn drop(&mut self) {
        self.release();
    }
}

/// Read lock of the inode's rwsem.
pub(crate) struct SharedInodeGuard<'a>(&'a Inode);

impl Drop for SharedInodeGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: The guard exists because the lock is held.
        unsafe { c::lfs_inode_unlock_shared(self.0.as_ptr()) }
    }
}

/// See [`Inode::write_access`].
pub(crate) struct InodeWriteAccess<'a>(&'a Inode);

impl Drop for InodeWriteAccess<'_> {
    fn drop(&mut self) {
        // SAFETY: The guard exists because access was granted.
        unsafe { c::lfs_put_write_access(self.0.as_ptr()) }
    }
}

/// See [`Inode::held_write_access`].
pub(crate) struct OwnedInodeWriteAccess(ARef<Inode>);

impl Drop for OwnedInodeWriteAccess {
    fn drop(&mut self) {
        // SAFETY: The guard exists because access was granted.
        unsafe { c::lfs_put_write_access(self.0.as_ptr()) }
    }
}
