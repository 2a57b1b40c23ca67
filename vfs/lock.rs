// SPDX-License-Identifier: GPL-2.0

//! Guards for inode locks and for `i_writecount`.

use super::{
    c,
    dentry::UpperDentry,
    inode::{Inode, UpperInode},
    quota::sleep_killable,
    superblock::UpperSuperBlock,
    task::{current_id, resched_killable},
    upper_names::LockedDirectory, //
};
use core::{cell::Cell, marker::PhantomData};
use kernel::{
    error::to_result,
    prelude::*,
    sync::{aref::ARef, atomic::Relaxed},
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
        InodeGuard::new(self)
    }

    /// As [`Self::lock`], for a child (I_MUTEX_CHILD) of a locked directory.
    pub(crate) fn lock_as_child(&self) -> InodeGuard<'_> {
        // SAFETY: `self` is a live inode.
        unsafe { c::lfs_inode_lock_child(self.as_ptr()) };
        InodeGuard::new(self)
    }

    /// inode_lock().
    pub(crate) fn lock(&self) -> InodeGuard<'_> {
        // SAFETY: `self` is a live inode.
        unsafe { c::lfs_inode_lock(self.as_ptr()) };
        InodeGuard::new(self)
    }

    /// inode_trylock().
    pub(crate) fn try_lock(&self) -> Option<InodeGuard<'_>> {
        // SAFETY: `self` is a live inode.
        let locked = unsafe { c::lfs_inode_trylock(self.as_ptr()) };
        locked.then(|| InodeGuard::new(self))
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
        Ok(InodeGuard::new(self))
    }

    /// Locks the inode's rwsem for reading, unless there is a writer; never waits.
    pub(crate) fn try_lock_shared(&self) -> Option<SharedInodeGuard<'_>> {
        // SAFETY: `self` is a live inode.
        let locked = unsafe { c::lfs_inode_trylock_shared(self.as_ptr()) };
        locked.then(|| SharedInodeGuard {
            inode: self,
            _here: NOT_SEND,
        })
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

    /// Counts a guard of the lock that the caller holds for a whole request.
    fn hold(&self) {
        self.holds().add(1, Relaxed);
    }

    /// Undoes [`Self::hold`]; unlocks after the last guard, which may outlive [`HeldInodes`].
    fn release_hold(&self) {
        if self.holds().fetch_sub(1, Relaxed) == 1 {
            self.note_holder(0);
            // SAFETY: Locked by `HeldInodes::try_all` on this task, whose guards are not `Send`.
            unsafe { c::lfs_inode_unlock_apart(self.as_ptr()) };
        }
    }

    /// As [`Inode::lock`], unless the caller holds the lock for a whole request.
    pub(crate) fn lock_unless_held(&self) -> ReentrantInodeGuard<'_> {
        match self.is_held() {
            true => ReentrantInodeGuard::held(self, false),
            false => ReentrantInodeGuard::taken(self, self.lock()),
        }
    }

    /// As [`Inode::lock_as_parent`], unless the caller holds the lock for a whole request.
    pub(crate) fn lock_as_parent_unless_held(&self) -> ReentrantInodeGuard<'_> {
        match self.is_held() {
            true => ReentrantInodeGuard::held(self, true),
            false => ReentrantInodeGuard::taken(self, self.lock_as_parent()),
        }
    }

    fn lock_as_child_unless_held(&self) -> ReentrantInodeGuard<'_> {
        match self.is_held() {
            true => ReentrantInodeGuard::held(self, false),
            false => ReentrantInodeGuard::taken(self, self.lock_as_child()),
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

/// Makes a guard `!Send`: the task that locks unlocks.
struct NotSend(PhantomData<*const ()>);

// SAFETY: There is nothing to share.
unsafe impl Sync for NotSend {}

const NOT_SEND: NotSend = NotSend(PhantomData);

/// Write lock of the inode's rwsem: proves that the inode is locked for `'a`.
pub(crate) struct InodeGuard<'a> {
    inode: &'a Inode,
    _here: NotSend,
}

impl<'a> InodeGuard<'a> {
    fn new(inode: &'a Inode) -> Self {
        Self {
            inode,
            _here: NOT_SEND,
        }
    }

    /// Whether this is the lock of `inode`.
    #[inline]
    pub(super) fn is_of(&self, inode: &Inode) -> bool {
        core::ptr::eq(self.inode, inode)
    }

    /// The directory that is locked; `None` if `dentry` is another object's.
    pub(crate) fn directory<'b>(&'b self, dentry: &'b UpperDentry) -> Option<LockedDirectory<'b>> {
        if !self.is_of(dentry.upper_inode()?) {
            return None;
        }
        // SAFETY: The guard holds the lock of the dentry's inode for `'b`.
        Some(unsafe { LockedDirectory::new(dentry) })
    }
}

impl Drop for InodeGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: The guard exists because the lock is held.
        unsafe { c::lfs_inode_unlock(self.inode.as_ptr()) }
    }
}

/// Write lock of the inode's rwsem, taken for this guard or held for a whole request.
pub(crate) struct ReentrantInodeGuard<'a> {
    inode: &'a UpperInode,
    _taken: Option<InodeGuard<'a>>,
    /// Whether the lock is registered with lockdep by this guard.
    is_shown: bool,
    _here: NotSend,
}

impl<'a> ReentrantInodeGuard<'a> {
    fn taken(inode: &'a UpperInode, guard: InodeGuard<'a>) -> Self {
        Self {
            inode,
            _taken: Some(guard),
            is_shown: false,
            _here: NOT_SEND,
        }
    }

    fn held(inode: &'a UpperInode, as_parent: bool) -> Self {
        inode.hold();
        // SAFETY: A live inode that the running task has locked: `is_held()`.
        unsafe { c::lfs_inode_show_lock(inode.as_ptr(), as_parent) };
        Self {
            inode,
            _taken: None,
            is_shown: true,
            _here: NOT_SEND,
        }
    }

    /// Whether this is the lock of `inode`.
    pub(super) fn is_of(&self, inode: &UpperInode) -> bool {
        core::ptr::eq(self.inode, inode)
    }

    /// As [`InodeGuard::directory`].
    pub(crate) fn directory<'b>(&'b self, dentry: &'b UpperDentry) -> Option<LockedDirectory<'b>> {
        let is_same = self.is_of(dentry.upper_inode()?);
        // SAFETY: The guard holds the lock for `'b`, or the running task for its request, within
        // which the guard lives.
        is_same.then(|| unsafe { LockedDirectory::new(dentry) })
    }

    /// Clears S_DEAD of a restored directory.
    pub(crate) fn clear_dead(&self) {
        // SAFETY: A live inode, whose rwsem is held for writing.
        unsafe { c::lfs_clear_dead(self.inode.as_ptr()) };
    }
}

impl Drop for ReentrantInodeGuard<'_> {
    fn drop(&mut self) {
        if self.is_shown {
            // SAFETY: Undoes lfs_inode_show_lock(); a guard is not sent to another task.
            unsafe { c::lfs_inode_hide_lock(self.inode.as_ptr()) };
            self.inode.release_hold();
        }
    }
}

/// `s_vfs_rename_mutex` of the upper superblock.
struct RenameMutexGuard<'a> {
    sb: &'a UpperSuperBlock,
    _here: NotSend,
}

impl<'a> RenameMutexGuard<'a> {
    fn try_take(sb: &'a UpperSuperBlock) -> Option<Self> {
        // SAFETY: A live superblock.
        let locked = unsafe { c::lfs_trylock_renames(sb.as_ptr()) };
        locked.then(|| Self {
            sb,
            _here: NOT_SEND,
        })
    }
}

impl Drop for RenameMutexGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: The guard exists because the lock is held.
        unsafe { c::lfs_unlock_renames(self.sb.as_ptr()) };
    }
}

/// Write locks of any number of inodes, held by one task for one request until this is dropped. The
/// task never waits for one of them while holding another.
pub(crate) struct HeldInodes<'a> {
    inodes: KVVec<ARef<UpperInode>>,
    /// Number of locked inodes.
    count: usize,
    renames: Option<RenameMutexGuard<'a>>,
    _here: NotSend,
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
            _here: NOT_SEND,
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
            // SAFETY: A live inode; `release_hold` unlocks on this task.
            if !unsafe { c::lfs_inode_trylock_apart(inode.as_ptr()) } {
                return false;
            }
            inode.note_holder(task);
            inode.hold();
            self.count = self.count.saturating_add(1);
            let _ = resched_killable();
        }
        true
    }

    fn release(&mut self) {
        for inode in self.inodes.iter().take(self.count) {
            inode.release_hold();
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
pub(crate) struct SharedInodeGuard<'a> {
    inode: &'a Inode,
    _here: NotSend,
}

impl Drop for SharedInodeGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: The guard exists because the lock is held.
        unsafe { c::lfs_inode_unlock_shared(self.inode.as_ptr()) }
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
