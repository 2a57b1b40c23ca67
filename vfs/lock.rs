// SPDX-License-Identifier: GPL-2.0

//! The locks of inodes, and what keeps a file from being executed, held by guards.

use super::{
    c,
    inode::{Inode, OwnInode},
    quota::pause,
    superblock::SuperBlock,
    task::{breathe, current_id}, //
};
use core::cell::Cell;
use kernel::{
    error::to_result,
    prelude::*,
    sync::aref::ARef,
    time::{Instant, Monotonic}, //
};

/// For how long a request waits for operations that are under way on an object.
const PATIENCE_MS: i64 = 5_000;

/// How often it looks whether they have ended.
const LOOK_MS: u32 = 5;

/// Why a lock was not taken.
pub(crate) enum Late {
    /// The caller is being killed.
    Killed,
    /// This process had it for too long, by its number for the caller; 0: it is not known.
    Busy(u32),
}

/// A wait for locks that ends after a few seconds, or when the caller is killed.
pub(crate) struct Patience {
    /// For how long it has waited, in milliseconds.
    waited: Cell<i64>,
}

impl Patience {
    /// It has not waited yet.
    pub(crate) fn new() -> Self {
        Self {
            waited: Cell::new(0),
        }
    }

    /// Waits a moment, with no lock held, for the one that has `inode` locked.
    pub(crate) fn wait(&self, inode: &Inode) -> Result<(), Late> {
        let waited = self.waited.get();
        if waited > PATIENCE_MS {
            // SAFETY: `inode` is a live inode.
            return Err(Late::Busy(unsafe {
                c::lfs_inode_lock_owner(inode.as_ptr())
            }));
        }
        let since: Instant<Monotonic> = Instant::now();
        let is_alive = pause(LOOK_MS);
        (self.waited).set(waited.saturating_add(since.elapsed().as_millis()));
        if is_alive {
            Ok(())
        } else {
            Err(Late::Killed)
        }
    }
}

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

    /// As [`Self::lock`], if the lock is free; never waits.
    pub(crate) fn try_lock(&self) -> Option<InodeGuard<'_>> {
        // SAFETY: `self` is a live inode.
        let locked = unsafe { c::lfs_inode_trylock(self.as_ptr()) };
        locked.then(|| InodeGuard(self))
    }

    /// As [`Self::lock`], but waits for a few seconds at most, and not when the caller is killed. The
    /// caller holds no other lock.
    pub(crate) fn lock_in_time(&self) -> Result<InodeGuard<'_>, Late> {
        self.lock_with(&Patience::new())
    }

    /// The same, within one wait for several locks, one after the other.
    pub(crate) fn lock_with(&self, patience: &Patience) -> Result<InodeGuard<'_>, Late> {
        loop {
            if let Some(guard) = self.try_lock() {
                return Ok(guard);
            }
            patience.wait(self)?;
        }
    }

    /// As [`Self::lock`]; `EINTR`: the caller is being killed.
    #[inline]
    pub(crate) fn lock_killable(&self) -> Result<InodeGuard<'_>> {
        // SAFETY: `self` is a live inode.
        to_result(unsafe { c::lfs_inode_lock_killable(self.as_ptr()) })?;
        Ok(InodeGuard(self))
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
    /// Whether the caller has it locked for a whole request: see [`HeldInodes`].
    pub(crate) fn is_held(&self) -> bool {
        self.object().holder() == current_id()
    }

    /// As [`Inode::lock`], unless the caller has it locked for a whole request.
    pub(crate) fn lock_unless_held(&self) -> AnyGuard<'_> {
        match self.is_held() {
            true => AnyGuard::held(self, false),
            false => AnyGuard::taken(self.lock()),
        }
    }

    /// As [`Inode::lock_as_parent`], unless the caller has it locked for a whole request.
    pub(crate) fn lock_as_parent_unless_held(&self) -> AnyGuard<'_> {
        match self.is_held() {
            true => AnyGuard::held(self, true),
            false => AnyGuard::taken(self.lock_as_parent()),
        }
    }

    fn lock_as_child_unless_held(&self) -> AnyGuard<'_> {
        match self.is_held() {
            true => AnyGuard::held(self, false),
            false => AnyGuard::taken(self.lock_as_child()),
        }
    }

    /// Locks two objects that exchange their names, as vfs_rename() does: a directory only if it moves to
    /// another parent (`is_across`), where the filesystem's lock for such renames, or one of a request, makes
    /// any order of two unrelated ones safe; what is none behind it, and two such in an order of
    /// their own.
    pub(crate) fn lock_exchanged<'a>(
        a: &'a Self,
        b: &'a Self,
        is_across: bool,
    ) -> [Option<AnyGuard<'a>>; 2] {
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

/// The inode's rwsem, held for writing.
pub(crate) struct InodeGuard<'a>(&'a Inode);

impl Drop for InodeGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: The guard exists because the lock is held.
        unsafe { c::lfs_inode_unlock(self.0.as_ptr()) }
    }
}

/// The inode's rwsem, held for writing: for this guard, or for a whole request.
pub(crate) struct AnyGuard<'a> {
    _taken: Option<InodeGuard<'a>>,
    /// lockdep hears of it while this lives.
    shown: Option<&'a OwnInode>,
}

impl<'a> AnyGuard<'a> {
    fn taken(guard: InodeGuard<'a>) -> Self {
        Self {
            _taken: Some(guard),
            shown: None,
        }
    }

    fn held(inode: &'a OwnInode, as_parent: bool) -> Self {
        // SAFETY: A live inode that the running task has locked: `is_held()`.
        unsafe { c::lfs_inode_show_lock(inode.as_ptr(), as_parent) };
        Self {
            _taken: None,
            shown: Some(inode),
        }
    }
}

impl Drop for AnyGuard<'_> {
    fn drop(&mut self) {
        if let Some(inode) = self.shown {
            // SAFETY: Undoes lfs_inode_show_lock(); a guard is not sent to another task.
            unsafe { c::lfs_inode_hide_lock(inode.as_ptr()) };
        }
    }
}

/// The lock for renames of directories of ours between two others.
struct HeldRenames<'a>(&'a SuperBlock);

impl<'a> HeldRenames<'a> {
    fn try_take(sb: &'a SuperBlock) -> Option<Self> {
        // SAFETY: A live superblock.
        let locked = unsafe { c::lfs_trylock_renames(sb.as_ptr()) };
        locked.then(|| Self(sb))
    }
}

impl Drop for HeldRenames<'_> {
    fn drop(&mut self) {
        // SAFETY: The guard exists because the lock is held.
        unsafe { c::lfs_unlock_renames(self.0.as_ptr()) };
    }
}

/// Inodes that one request has locked for writing, any number of them, until this is dropped: by the
/// task that took them. It waits for none of them while it has one.
pub(crate) struct HeldInodes<'a> {
    inodes: KVVec<ARef<OwnInode>>,
    /// How many of them are locked.
    count: usize,
    renames: Option<HeldRenames<'a>>,
}

impl<'a> HeldInodes<'a> {
    /// Locks all of `inodes`, each of which is there once; with `renames`, also the lock for renames of
    /// directories on that superblock. Waits for a few seconds at most, and not when the caller is killed.
    pub(crate) fn take(
        inodes: KVVec<ARef<OwnInode>>,
        renames: Option<&'a SuperBlock>,
    ) -> Result<Self, Late> {
        let patience = Patience::new();
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
            // The next round begins with the one that was not free.
            let Some((first, others)) = held.inodes.split_first_mut() else {
                return Err(Late::Busy(0));
            };
            let other = failed.checked_sub(1).and_then(|at| others.get_mut(at));
            if let Some(other) = other {
                core::mem::swap(first, other);
            }
            patience.wait(first)?;
        }
    }

    fn try_renames(&mut self, renames: Option<&'a SuperBlock>) -> bool {
        self.renames = renames.and_then(HeldRenames::try_take);
        self.renames.is_some() || renames.is_none()
    }

    /// Whether all are locked now; otherwise `count` is the index of the one that is not free.
    fn try_all(&mut self) -> bool {
        let task = current_id();
        for inode in self.inodes.iter().skip(self.count) {
            // SAFETY: A live inode; `release` undoes it on this task.
            if !unsafe { c::lfs_inode_trylock_apart(inode.as_ptr()) } {
                return false;
            }
            inode.object().note_holder(task);
            self.count = self.count.saturating_add(1);
            let _ = breathe();
        }
        true
    }

    fn release(&mut self) {
        for inode in self.inodes.iter().take(self.count) {
            inode.object().note_holder(0);
            // SAFETY: Locked by `try_all` on this task.
            unsafe { c::lfs_inode_unlock_apart(inode.as_ptr()) };
        }
        self.count = 0;
        self.renames = None;
    }

    /// All of them.
    pub(crate) fn inodes(&self) -> &[ARef<OwnInode>] {
        &self.inodes
    }

    /// Whether renames of directories are locked, too.
    pub(crate) fn has_renames(&self) -> bool {
        self.renames.is_some()
    }
}

impl Drop for HeldInodes<'_> {
    fn drop(&mut self) {
        self.release();
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
