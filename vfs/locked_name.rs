// SPDX-License-Identifier: GPL-2.0

//! Upper names that do not change during a hook's call: the arguments of
//! [`NameHooks`](super::table::inode::NameHooks).

use super::{
    c,
    dentry::{Dentry, DentryChangeGuard, UpperDentry},
    inode::UpperInode, //
};
use core::{ops::Deref, ptr::null_mut};
use kernel::{prelude::*, sync::aref::ARef};

/// An upper dentry whose name and parent do not change for `'a`.
///
/// The methods that move the dentry take `self`, so nothing borrowed from the name outlives it.
///
/// # Invariants
///
/// The VFS holds the lock of the parent directory for `'a`, or the dentry is not visible to other
/// tasks. There is one `LockedName` of the dentry.
pub(crate) struct LockedName<'a>(&'a UpperDentry);

impl Deref for LockedName<'_> {
    type Target = UpperDentry;

    fn deref(&self) -> &UpperDentry {
        self.0
    }
}

impl<'a> LockedName<'a> {
    /// # Safety
    ///
    /// `ptr` is a dentry of ours that a hook of a directory got, with that directory locked for
    /// `'a`, or that no other task sees. No other `LockedName` of it exists.
    pub(super) unsafe fn from_raw(ptr: *mut c::dentry) -> Self {
        // SAFETY: Guaranteed by the caller.
        Self(unsafe { UpperDentry::from_raw(ptr) })
    }

    /// The name's bytes.
    pub(crate) fn name(&self) -> &[u8] {
        // SAFETY: By the type invariant; the methods that move the dentry take `self`.
        unsafe { self.0.name_bytes() }
    }

    /// The parent directory's dentry.
    pub(crate) fn parent(&self) -> &UpperDentry {
        // SAFETY: A live dentry.
        let parent = unsafe { (*self.as_ptr()).d_parent };
        // SAFETY: A dentry holds its parent, which is on the same upper superblock and does not
        // change by the type invariant.
        unsafe { UpperDentry::from_raw(parent) }
    }

    /// As [`UpperDentry::begin_change`]. The guard may outlive the move of the dentry.
    pub(crate) fn begin_change(&self) -> DentryChangeGuard<'a> {
        self.0.begin_change()
    }

    /// Mirrors the d_move() that vfs_rename() omits for FS_RENAME_DOES_D_MOVE.
    pub(crate) fn d_move(self, target: LockedName<'_>) {
        // SAFETY: Two live dentries; by the type invariants the directories' locks, and the lock for
        // renames between them, keep both in their places.
        unsafe { c::d_move(self.as_ptr(), target.as_ptr()) };
    }

    /// As [`Self::d_move`], for RENAME_EXCHANGE. Ignores negative dentries.
    pub(crate) fn d_exchange(self, other: LockedName<'_>) {
        if self.is_negative() || other.is_negative() {
            return;
        }
        // SAFETY: As in `d_move`; both are positive.
        unsafe { c::d_exchange(self.as_ptr(), other.as_ptr()) };
    }
}

/// A name without an object, which a hook creates or looks up.
///
/// # Invariants
///
/// As for [`LockedName`]; and the dentry is negative until `self` is consumed. Nobody uses the lower
/// dentry of a negative dentry without a reference or RCU.
pub(crate) struct NewName<'a>(LockedName<'a>);

impl<'a> Deref for NewName<'a> {
    type Target = LockedName<'a>;

    fn deref(&self) -> &LockedName<'a> {
        &self.0
    }
}

impl NewName<'_> {
    /// # Safety
    ///
    /// As for [`LockedName::from_raw`]; and the dentry is negative, and stays so while the hook does
    /// not change it.
    pub(super) unsafe fn from_raw(ptr: *mut c::dentry) -> Self {
        // SAFETY: Guaranteed by the caller.
        Self(unsafe { LockedName::from_raw(ptr) })
    }

    /// The lower dentry of an earlier lookup, negative then.
    pub(crate) fn lower(&self) -> Result<&Dentry> {
        // SAFETY: By the type invariant; the methods that replace the lower dentry take `self`.
        unsafe { self.lower_unchecked() }
    }

    /// Binds the name to its new object: sets the lower dentry, then d_instantiate(). An inode of
    /// another superblock is not bound.
    pub(crate) fn bind(self, lower: ARef<Dentry>, inode: ARef<UpperInode>) {
        if !self.is_of_superblock(&inode) {
            return self.d_drop();
        }
        self.set_lower(lower);
        inode.note_shown();
        let inode = ARef::into_raw(inode);
        // SAFETY: By the type invariant the dentry is negative; the reference is handed over.
        unsafe { c::d_instantiate(self.as_ptr(), inode.as_ptr().cast()) };
    }

    /// Ends a lookup: sets the lower dentry, then d_splice_alias(). Without a lower dentry the name
    /// is hidden.
    pub(crate) fn d_splice_alias(
        self,
        lower: Option<ARef<Dentry>>,
        inode: Option<ARef<UpperInode>>,
    ) -> Result<LookupResult> {
        if let Some(inode) = &inode {
            if !self.is_of_superblock(inode) {
                return Err(EXDEV);
            }
            inode.note_shown();
        }
        // Set before: d_splice_alias() hashes the dentry, and RCU walk may then call
        // ->d_revalidate.
        if let Some(lower) = lower {
            self.set_lower(lower);
        }
        let inode = inode.map_or(null_mut(), |i| ARef::into_raw(i).as_ptr().cast());
        // SAFETY: The dentry is being looked up; the reference is handed over.
        Ok(LookupResult(unsafe {
            c::d_splice_alias(inode, self.as_ptr())
        }))
    }

    fn is_of_superblock(&self, inode: &UpperInode) -> bool {
        core::ptr::eq(self.superblock(), inode.superblock())
    }

    /// Sets the lower dentry.
    fn set_lower(&self, lower: ARef<Dentry>) {
        // SAFETY: By the type invariant the dentry is negative, and only callers that consume `self`
        // come here.
        unsafe { self.0.set_lower(lower) };
    }
}

/// The result of `->lookup`: null, an ERR_PTR, or a dentry with a reference.
pub(crate) struct LookupResult(*mut c::dentry);

impl LookupResult {
    pub(super) fn into_raw(self) -> *mut c::dentry {
        self.0
    }
}
