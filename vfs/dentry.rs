// SPDX-License-Identifier: GPL-2.0

//! Dentries: of any filesystem ([`Dentry`]), and upper dentries ([`UpperDentry`]), which hold a
//! lower dentry.
//!
//! C header: [`include/linux/dcache.h`](srctree/include/linux/dcache.h)

use super::error::ESTALE;
use super::{
    c,
    inode::{Inode, UpperInode},
    superblock::{SuperBlock, UpperSuperBlock}, //
};
use core::{ops::Deref, ptr::NonNull};
use kernel::{
    prelude::*,
    sync::aref::{ARef, AlwaysRefCounted},
    types::Opaque, //
};

/// A dentry of any filesystem.
#[repr(transparent)]
pub(crate) struct Dentry(Opaque<c::dentry>);

// SAFETY: A dentry may be used and released on any thread.
unsafe impl Send for Dentry {}
// SAFETY: Methods read the same fields as the VFS, under the same locks.
unsafe impl Sync for Dentry {}

// SAFETY: The count is the dentry's lockref.
unsafe impl AlwaysRefCounted for Dentry {
    fn inc_ref(&self) {
        // SAFETY: `self` is a live dentry with a reference.
        unsafe { c::lfs_dget(self.as_ptr()) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller gives up its own reference.
        unsafe { c::dput(obj.as_ptr().cast()) }
    }
}

impl Dentry {
    /// # Safety
    ///
    /// `ptr` is a live dentry and stays so for `'a`.
    pub(super) unsafe fn from_raw<'a>(ptr: *mut c::dentry) -> &'a Self {
        // SAFETY: `Dentry` is a transparent wrapper; the caller guarantees the rest.
        unsafe { &*ptr.cast() }
    }

    /// Takes ownership of a reference returned by C, or returns the error.
    ///
    /// # Safety
    ///
    /// `ptr` is an ERR_PTR, or a dentry with a reference that passes to the result.
    pub(super) unsafe fn from_c(ptr: *mut c::dentry) -> Result<ARef<Self>> {
        let ptr = kernel::error::from_err_ptr(ptr)?;
        let ptr = NonNull::new(ptr.cast::<Self>()).ok_or(ENOENT)?;
        // SAFETY: The caller hands the reference over.
        Ok(unsafe { ARef::from_raw(ptr) })
    }

    pub(crate) fn as_ptr(&self) -> *mut c::dentry {
        self.0.get()
    }

    /// A counted reference.
    pub(crate) fn get(&self) -> ARef<Self> {
        ARef::from(self)
    }

    /// The inode of a positive dentry.
    pub(crate) fn inode(&self) -> Option<&Inode> {
        // SAFETY: A live dentry.
        if !unsafe { c::lfs_is_positive(self.as_ptr()) } {
            return None;
        }
        // SAFETY: A positive dentry with a reference keeps its inode.
        let inode = unsafe { (*self.as_ptr()).d_inode };
        // SAFETY: As above.
        (!inode.is_null()).then(|| unsafe { Inode::from_raw(inode) })
    }

    /// The name's bytes.
    ///
    /// # Safety
    ///
    /// The dentry is not moved as long as the result is used: the parent directory is locked.
    pub(super) unsafe fn name_bytes(&self) -> &[u8] {
        // SAFETY: A live dentry; the union's arms have one layout.
        let qstr = unsafe { (*self.as_ptr()).__bindgen_anon_1.d_name };
        // SAFETY: The arms of the union have one layout.
        let len = unsafe { qstr.__bindgen_anon_1.__bindgen_anon_1.len };
        // SAFETY: A dentry's name is `len` bytes long; not moved, as the caller
        // guarantees.
        unsafe { core::slice::from_raw_parts(qstr.name, len as usize) }
    }

    /// The inode, if the dentry is a directory: other objects have no ->lookup.
    pub(super) fn directory(&self) -> Result<&Inode> {
        let inode = self.inode().ok_or(ENOENT)?;
        if !inode.is_directory() {
            return Err(ENOTDIR);
        }
        Ok(inode)
    }

    /// A counted reference to the present parent directory; to the dentry itself for a root.
    pub(crate) fn dget_parent(&self) -> ARef<Self> {
        // SAFETY: A live dentry.
        let parent = unsafe { c::lfs_parent(self.as_ptr()) };
        // SAFETY: dget_parent() gives a reference, never null.
        unsafe { ARef::from_raw(NonNull::new_unchecked(parent.cast())) }
    }

    /// is_subdir(): whether the dentry is `root` or below, also while other tasks rename.
    pub(crate) fn is_below(&self, root: &Dentry) -> bool {
        // SAFETY: Two live dentries.
        unsafe { c::is_subdir(self.as_ptr(), root.as_ptr()) }
    }

    /// Whether the name was removed, or replaced by a rename. On a remote filesystem an unhashed
    /// dentry may also be a dropped one, so the result is false there.
    pub(crate) fn has_lost_its_name(&self) -> bool {
        // SAFETY: A live dentry.
        unsafe { c::lfs_has_lost_its_name(self.as_ptr()) }
    }

    /// Whether the dentry cannot be stacked on: an automount point, or a directory whose names are
    /// not compared byte by byte.
    pub(crate) fn is_unsupported(&self) -> bool {
        // SAFETY: A live dentry.
        unsafe { c::lfs_is_unsupported(self.as_ptr()) }
    }

    pub(crate) fn superblock(&self) -> &SuperBlock {
        // SAFETY: A live dentry.
        let sb = unsafe { (*self.as_ptr()).d_sb };
        // SAFETY: A dentry's superblock outlives the dentry.
        unsafe { SuperBlock::from_raw(sb) }
    }
}

/// An upper dentry.
///
/// # Invariants
///
/// `d_fsdata` is null (not looked up) or a counted lower dentry, with a flag in its lowest bit
/// (`glue/dentry.c`).
#[repr(transparent)]
pub(crate) struct UpperDentry(Dentry);

impl Deref for UpperDentry {
    type Target = Dentry;

    fn deref(&self) -> &Dentry {
        &self.0
    }
}

impl UpperDentry {
    /// # Safety
    ///
    /// As for [`Dentry::from_raw`]; and the dentry is on a superblock of ours.
    pub(super) unsafe fn from_raw<'a>(ptr: *mut c::dentry) -> &'a Self {
        // SAFETY: Guaranteed by the caller; both types have the same layout.
        unsafe { &*ptr.cast() }
    }

    /// The lower dentry. `ESTALE` for a negative dentry, whose lower dentry may be replaced.
    pub(crate) fn lower(&self) -> Result<&Dentry> {
        if self.is_negative() {
            return Err(ESTALE);
        }
        // SAFETY: The dentry is positive, and stays so while there is a reference besides that of
        // d_delete()'s caller.
        unsafe { self.lower_unchecked() }
    }

    /// The lower dentry.
    ///
    /// # Safety
    ///
    /// The lower dentry is not replaced as long as the result is used: the dentry is positive, or
    /// its directory is locked, or the caller is in RCU walk.
    pub(super) unsafe fn lower_unchecked(&self) -> Result<&Dentry> {
        // SAFETY: A live dentry of ours.
        let lower = unsafe { c::lfs_lower(self.as_ptr()) };
        if lower.is_null() {
            return Err(ESTALE);
        }
        // SAFETY: By the type invariant. The lower dentry is put when this dentry is released, or
        // replaced, which the caller excludes.
        Ok(unsafe { Dentry::from_raw(lower) })
    }

    /// Whether the dentry has no inode.
    #[inline]
    pub(super) fn is_negative(&self) -> bool {
        // SAFETY: A live dentry. Volatile, as READ_ONCE(), which d_inode_rcu() is.
        unsafe { (&raw const (*self.as_ptr()).d_inode).read_volatile() }.is_null()
    }

    /// The upper superblock.
    pub(crate) fn superblock(&self) -> &UpperSuperBlock {
        // SAFETY: By the contract of `from_raw` the dentry is on a superblock of ours, which has its
        // state as long as there are dentries.
        unsafe { UpperSuperBlock::from_raw(self.0.superblock().as_ptr()) }
    }

    /// The upper inode of a positive dentry.
    pub(crate) fn upper_inode(&self) -> Option<&UpperInode> {
        let inode = self.inode()?;
        // SAFETY: The inodes of our dentries are ours.
        Some(unsafe { UpperInode::from_raw(inode.as_ptr()) })
    }

    /// As [`UpperDentry::upper_inode`], where the VFS passes a positive dentry.
    pub(crate) fn existing(&self) -> Result<&UpperInode> {
        self.upper_inode().ok_or(ENOENT)
    }

    /// Whether this is the mount's root.
    pub(crate) fn is_root(&self) -> bool {
        // SAFETY: A live dentry. Volatile, as READ_ONCE(): only compared.
        let parent = unsafe { (&raw const (*self.as_ptr()).d_parent).read_volatile() };
        parent == self.as_ptr()
    }

    /// Sets the lower dentry.
    ///
    /// # Safety
    ///
    /// The dentry is negative, its directory locked, or it is not visible to other tasks; and nobody
    /// uses what [`Self::lower_unchecked`] returned.
    pub(super) unsafe fn set_lower(&self, lower: ARef<Dentry>) {
        let new = ARef::into_raw(lower);
        // SAFETY: A live upper dentry, and a reference whose ownership is passed on.
        let old = unsafe { c::lfs_set_lower(self.as_ptr(), new.as_ptr().cast()) };
        if !old.is_null() {
            // SAFETY: By the type invariant we owned this reference.
            unsafe { c::dput(old) };
        }
    }

    /// Marks the dentry while an upper operation changes the lower name. The guard is dropped after
    /// `self` was moved, unhashed or bound accordingly. Other upper operations are excluded by the
    /// directory's lock; two marks at once would end with the first guard.
    pub(crate) fn begin_change(&self) -> DentryChangeGuard<'_> {
        // SAFETY: A live dentry of ours.
        unsafe { c::lfs_begin_change(self.as_ptr()) };
        DentryChangeGuard(self)
    }

    /// Unhashes the dentry, so that the next lookup calls `->lookup`.
    pub(crate) fn d_drop(&self) {
        // SAFETY: A live dentry.
        unsafe { c::d_drop(self.as_ptr()) };
    }
}

/// See [`UpperDentry::begin_change`].
pub(crate) struct DentryChangeGuard<'a>(&'a UpperDentry);

impl Drop for DentryChangeGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: A live dentry of ours.
        unsafe { c::lfs_end_change(self.0.as_ptr()) };
    }
}

/// Dentry operation `d_release`: puts the lower dentry.
///
/// # Safety
///
/// Called by the dcache once, with an unreferenced upper dentry.
pub(crate) unsafe extern "C" fn release(dentry: *mut c::dentry) {
    // SAFETY: The dentry is still there.
    let lower = unsafe { c::lfs_set_lower(dentry, core::ptr::null_mut()) };
    if !lower.is_null() {
        // SAFETY: By the type invariant the reference was ours.
        unsafe { c::dput(lower) };
    }
}

/// Dentry operation `d_revalidate`: whether the lower name still matches this dentry.
///
/// A local lower filesystem shares the dcache, so direct changes there are visible at once. For a
/// remote one the lower `d_revalidate` is called.
///
/// # Safety
///
/// Called by the VFS, with an upper dentry; in RCU walk if `flags` has LOOKUP_RCU.
pub(crate) unsafe extern "C" fn revalidate(
    dir: *mut c::inode,
    name: *const c::qstr,
    dentry: *mut c::dentry,
    flags: c_uint,
) -> c_int {
    // SAFETY: The VFS passes a directory of ours; in RCU mode its memory is still there.
    let dir = unsafe { UpperInode::from_raw(dir) };
    // SAFETY: A dentry of ours; in RCU mode its memory is still there.
    let own = unsafe { UpperDentry::from_raw(dentry) };
    let revalidation = Revalidation { dir, name, own };
    if flags & c::LOOKUP_RCU == 0 {
        return revalidation.answer(flags);
    }
    // SAFETY: In RCU walk: a lower dentry that is replaced is freed after the grace period.
    match unsafe { own.lower_unchecked() } {
        Ok(lower) if revalidation.agrees(lower) && revalidation.is_fresh() => {
            // SAFETY: The memory of the lower dentry outlives the RCU grace period that protects
            // the upper one; lfs_revalidate() returns -ECHILD where the lower ->d_revalidate would
            // sleep.
            unsafe { c::lfs_revalidate(lower.as_ptr(), flags) }
        }
        // ECHILD: leave RCU walk and try again with references.
        _ => ECHILD.to_errno(),
    }
}

/// Arguments of `->d_revalidate`.
struct Revalidation<'a> {
    dir: &'a UpperInode,
    name: *const c::qstr,
    own: &'a UpperDentry,
}

impl Revalidation<'_> {
    /// Whether `lower` is in the expected place and bound to the inode that the upper one
    /// represents.
    fn agrees(&self, lower: &Dentry) -> bool {
        // SAFETY: The VFS passed the name, which is stable for the call; the lower dentry is held,
        // or its memory outlives the grace period that ours is protected by; the directory is
        // compared only.
        if !unsafe { c::lfs_same_place(self.name, lower.as_ptr(), self.dir.lower().as_ptr()) } {
            return false;
        }
        match (self.own.upper_inode(), lower.inode()) {
            (None, None) => true,
            (Some(inode), Some(lower)) => core::ptr::eq(inode.lower(), lower),
            _ => false,
        }
    }

    /// In RCU walk: whether the upper attributes are current.
    fn is_fresh(&self) -> bool {
        let inode = self.own.upper_inode();
        inode.is_none_or(|inode| !inode.attr_differs())
    }

    /// Outside of RCU walk. A result of 0 makes the VFS call d_invalidate(), which also unmounts
    /// everything below the dentry.
    ///
    /// An upper operation changes the lower name first and the upper dentry next, with the dentry
    /// marked ([`UpperDentry::begin_change`]). So a mismatch without the mark and without a change
    /// of `d_seq` since before the comparison was caused by a direct change of the lower
    /// filesystem.
    fn answer(&self, flags: c_uint) -> c_int {
        loop {
            let sequence = self.own.sequence();
            // With a reference: otherwise a concurrent set_lower() could free the lower dentry
            // during the comparison.
            let lower = self.own.get_lower();
            let agrees = lower.as_ref().is_some_and(|lower| self.agrees(lower));
            if let (true, Some(lower)) = (agrees, &lower) {
                if let Some(inode) = self.own.upper_inode() {
                    inode.copy_attr_if_changed();
                }
                // SAFETY: A lower dentry that is held.
                return unsafe { c::lfs_revalidate(lower.as_ptr(), flags) };
            }
            // SAFETY: The VFS holds the dentry.
            let is_changing = unsafe { c::lfs_is_changing(self.own.as_ptr()) };
            if self.own.has_changed_since(sequence) {
                continue;
            }
            return c_int::from(is_changing || self.has_moved());
        }
    }

    /// Whether an upper rename has moved the dentry since the VFS looked the dentry up. The lookup
    /// then counts as done before the rename.
    fn has_moved(&self) -> bool {
        let (own, dir) = (self.own.as_ptr(), self.dir.as_ptr());
        // SAFETY: The VFS holds the dentry.
        if unsafe { c::lfs_is_unhashed(own) } {
            return false;
        }
        // SAFETY: As above; the name is stable for the call, the directory is compared only.
        !unsafe { c::lfs_same_place(self.name, own, dir) }
    }
}

impl UpperDentry {
    /// A reference to the lower dentry. Safe against a concurrent set_lower().
    fn get_lower(&self) -> Option<ARef<Dentry>> {
        // SAFETY: A live dentry of ours.
        let lower = unsafe { c::lfs_get_lower(self.as_ptr()) };
        let lower = NonNull::new(lower.cast::<Dentry>())?;
        // SAFETY: The reference was just taken, and is handed over.
        Some(unsafe { ARef::from_raw(lower) })
    }

    /// `d_seq`, which changes with the dentry's parent, name or inode.
    fn sequence(&self) -> c_uint {
        // SAFETY: A live dentry.
        unsafe { c::lfs_sequence(self.as_ptr()) }
    }

    fn has_changed_since(&self, sequence: c_uint) -> bool {
        // SAFETY: A live dentry.
        unsafe { c::lfs_sequence_changed(self.as_ptr(), sequence) }
    }
}

// SAFETY: As for `Dentry`, which has the same layout.
unsafe impl AlwaysRefCounted for UpperDentry {
    fn inc_ref(&self) {
        self.0.inc_ref();
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: As for `Dentry`; the types have one layout.
        unsafe { Dentry::dec_ref(obj.cast()) }
    }
}
