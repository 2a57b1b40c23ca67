// SPDX-License-Identifier: GPL-2.0

//! Dentries: anybody's ([`Dentry`]) and our own ([`OwnDentry`]), which hold a lower dentry.
//!
//! C header: [`include/linux/dcache.h`](srctree/include/linux/dcache.h)

use super::error::ESTALE;
use super::{
    c,
    inode::{Inode, OwnInode},
    superblock::SuperBlock, //
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
// SAFETY: Methods read what the VFS reads under the same protection.
unsafe impl Sync for Dentry {}

// SAFETY: The count is the dentry's lockref.
unsafe impl AlwaysRefCounted for Dentry {
    fn inc_ref(&self) {
        // SAFETY: `self` is a live dentry with a reference.
        unsafe { c::lfs_dget(self.as_ptr()) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller gives up a reference that it owns.
        unsafe { c::dput(obj.as_ptr().cast()) }
    }
}

impl Dentry {
    /// # Safety
    ///
    /// `ptr` is a live dentry and stays so for `'a`.
    pub(crate) unsafe fn from_raw<'a>(ptr: *mut c::dentry) -> &'a Self {
        // SAFETY: `Dentry` is a transparent wrapper; the caller vouches for the rest.
        unsafe { &*ptr.cast() }
    }

    /// Takes over a reference that C gave, or the error in its place.
    ///
    /// # Safety
    ///
    /// `ptr` is an ERR_PTR, or a dentry with a reference that is ours.
    pub(crate) unsafe fn from_c(ptr: *mut c::dentry) -> Result<ARef<Self>> {
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

    /// The inode, when the name exists.
    pub(crate) fn inode(&self) -> Option<&Inode> {
        // SAFETY: A live dentry.
        if !unsafe { c::lfs_is_positive(self.as_ptr()) } {
            return None;
        }
        // SAFETY: A positive dentry that somebody holds keeps its inode.
        let inode = unsafe { (*self.as_ptr()).d_inode };
        // SAFETY: As above.
        (!inode.is_null()).then(|| unsafe { Inode::from_raw(inode) })
    }

    /// The name's bytes. The caller holds what keeps it stable: the parent's lock, or the VFS's.
    pub(crate) fn name(&self) -> &[u8] {
        // SAFETY: A live dentry; the union's arms have one layout.
        let qstr = unsafe { (*self.as_ptr()).__bindgen_anon_1.d_name };
        // SAFETY: The arms of the union have one layout.
        let len = unsafe { qstr.__bindgen_anon_1.__bindgen_anon_1.len };
        // SAFETY: A dentry's name is `len` bytes long; stable by the caller's lock.
        unsafe { core::slice::from_raw_parts(qstr.name, len as usize) }
    }

    /// A counted reference to the directory that it is in now; to itself, where that is a root.
    pub(crate) fn held_parent(&self) -> ARef<Self> {
        // SAFETY: A live dentry.
        let parent = unsafe { c::lfs_parent(self.as_ptr()) };
        // SAFETY: dget_parent() gives a reference, never null.
        unsafe { ARef::from_raw(NonNull::new_unchecked(parent.cast())) }
    }

    pub(crate) fn superblock(&self) -> &SuperBlock {
        // SAFETY: A live dentry.
        let sb = unsafe { (*self.as_ptr()).d_sb };
        // SAFETY: A dentry's superblock outlives it.
        unsafe { SuperBlock::from_raw(sb) }
    }
}

/// A dentry of ours.
///
/// # Invariants
///
/// `d_fsdata` is null (not looked up) or a counted lower dentry.
#[repr(transparent)]
pub(crate) struct OwnDentry(Dentry);

impl Deref for OwnDentry {
    type Target = Dentry;

    fn deref(&self) -> &Dentry {
        &self.0
    }
}

impl OwnDentry {
    /// # Safety
    ///
    /// As for [`Dentry::from_raw`]; and the dentry is on a superblock of ours.
    pub(crate) unsafe fn from_raw<'a>(ptr: *mut c::dentry) -> &'a Self {
        // SAFETY: The caller vouches for it; the types have one layout.
        unsafe { &*ptr.cast() }
    }

    /// The lower dentry.
    pub(crate) fn lower(&self) -> Result<&Dentry> {
        // SAFETY: A live dentry.
        let field = unsafe { &raw const (*self.as_ptr()).d_fsdata };
        // As READ_ONCE(): in RCU mode a look-up may set it at the same time.
        // SAFETY: As above; a pointer is read whole.
        let lower = unsafe { field.read_volatile() };
        if lower.is_null() {
            return Err(ESTALE);
        }
        // SAFETY: By the type invariant; it is let go only when this dentry is released, or
        // replaced under the directory's lock while nobody uses it.
        Ok(unsafe { Dentry::from_raw(lower.cast()) })
    }

    /// Our inode, when the name exists.
    pub(crate) fn own_inode(&self) -> Option<&OwnInode> {
        let inode = self.inode()?;
        // SAFETY: The inodes of our dentries are ours.
        Some(unsafe { OwnInode::from_raw(inode.as_ptr()) })
    }

    /// As [`OwnDentry::own_inode`], where the VFS vouches that the name exists.
    pub(crate) fn existing(&self) -> Result<&OwnInode> {
        self.own_inode().ok_or(ENOENT)
    }

    /// The parent directory's dentry, stable under the directory's lock.
    pub(crate) fn parent(&self) -> &OwnDentry {
        // SAFETY: A live dentry has a parent that it keeps alive.
        let parent = unsafe { (*self.as_ptr()).d_parent };
        // SAFETY: It is on our superblock too.
        unsafe { OwnDentry::from_raw(parent) }
    }

    /// Whether this is the root of the mount.
    pub(crate) fn is_root(&self) -> bool {
        core::ptr::eq(self.parent(), self)
    }

    /// Makes `lower` the lower dentry. Under the directory's lock, or before anybody sees `self`.
    pub(crate) fn set_lower(&self, lower: ARef<Dentry>) {
        let new = ARef::into_raw(lower);
        // SAFETY: A live dentry.
        let field = unsafe { &raw mut (*self.as_ptr()).d_fsdata };
        // SAFETY: As above; the caller's lock keeps others from changing the field.
        let old = unsafe { field.read_volatile() };
        // As WRITE_ONCE(). What the pointer leads to was published by the lower filesystem.
        // SAFETY: As above; readers without the lock read it whole.
        unsafe { field.write_volatile(new.as_ptr().cast()) };
        if !old.is_null() {
            // SAFETY: By the type invariant we owned this reference.
            unsafe { c::dput(old.cast()) };
        }
    }

    /// Binds the name to `inode`, for good.
    pub(crate) fn instantiate(&self, inode: ARef<OwnInode>) {
        let inode = ARef::into_raw(inode);
        // SAFETY: The dentry is negative and the reference is handed over.
        unsafe { c::d_instantiate(self.as_ptr(), inode.as_ptr().cast()) };
    }

    /// Takes the name out of the hash, so that the next look-up asks the lower filesystem.
    pub(crate) fn forget(&self) {
        // SAFETY: A live dentry.
        unsafe { c::d_drop(self.as_ptr()) };
    }

    /// Ends a look-up: binds the name to `inode`, or to nothing. Returns what `->lookup` returns.
    pub(crate) fn splice(&self, inode: Option<ARef<OwnInode>>) -> *mut c::dentry {
        let inode = inode.map_or(core::ptr::null_mut(), |i| ARef::into_raw(i).as_ptr().cast());
        // SAFETY: The dentry is being looked up; the reference is handed over.
        unsafe { c::d_splice_alias(inode, self.as_ptr()) }
    }
}

/// Dentry operation `d_release`: lets go of the lower dentry.
///
/// # Safety
///
/// Called by the dcache once, with a dentry of ours that nobody holds.
pub(crate) unsafe extern "C" fn release(dentry: *mut c::dentry) {
    // SAFETY: The dentry is still there.
    let lower = unsafe { core::mem::replace(&mut (*dentry).d_fsdata, core::ptr::null_mut()) };
    if !lower.is_null() {
        // SAFETY: By the type invariant the reference was ours.
        unsafe { c::dput(lower.cast()) };
    }
}

/// Dentry operation `d_revalidate`: whether the lower directory still says what this dentry says.
///
/// A lower filesystem on this machine shares its dcache with us, so changes made behind us are
/// seen at once; a remote one is asked by its own `d_revalidate`.
///
/// # Safety
///
/// Called by the VFS, with a dentry of ours; in RCU mode when `flags` says so.
pub(crate) unsafe extern "C" fn revalidate(
    dir: *mut c::inode,
    name: *const c::qstr,
    dentry: *mut c::dentry,
    flags: c_uint,
) -> c_int {
    // SAFETY: The VFS passes a directory of ours; in RCU mode its memory is still there.
    let dir = unsafe { OwnInode::from_raw(dir) };
    // SAFETY: A dentry of ours; in RCU mode its memory is still there.
    let own = unsafe { OwnDentry::from_raw(dentry) };
    if flags & c::LOOKUP_RCU != 0 {
        return own
            .lower()
            .map_or(0, |lower| still_is(own, lower, dir, name, flags));
    }
    // A reference: without one it could be replaced and freed while we look at it.
    // SAFETY: A dentry of ours, which the VFS holds.
    let lower = unsafe { c::lfs_get_lower(dentry) };
    let Some(lower) = NonNull::new(lower.cast::<Dentry>()) else {
        return 0;
    };
    // SAFETY: The reference was just taken, and is handed over.
    let lower = unsafe { ARef::from_raw(lower) };
    still_is(own, &lower, dir, name, flags)
}

/// Whether `own` still says what its lower dentry says, below `dir`, as `name`.
fn still_is(
    own: &OwnDentry,
    lower: &Dentry,
    dir: &OwnInode,
    name: *const c::qstr,
    flags: c_uint,
) -> c_int {
    // SAFETY: The VFS passed the name, which is stable for the call; the lower dentry is held, or
    // its memory outlives the grace period that ours is protected by; the directory is compared
    // only.
    if !unsafe { c::lfs_same_place(name, lower.as_ptr(), dir.lower().as_ptr()) } {
        return 0;
    }
    let same = match (own.own_inode(), lower.inode()) {
        (None, None) => true,
        (Some(inode), Some(lower)) => core::ptr::eq(inode.lower(), lower),
        _ => false,
    };
    if !same {
        return 0;
    }
    // SAFETY: A lower dentry; the function leaves RCU mode by itself.
    unsafe { c::lfs_revalidate(lower.as_ptr(), flags) }
}

// SAFETY: As for `Dentry`, whose layout it has.
unsafe impl AlwaysRefCounted for OwnDentry {
    fn inc_ref(&self) {
        self.0.inc_ref();
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: As for `Dentry`; the types have one layout.
        unsafe { Dentry::dec_ref(obj.cast()) }
    }
}
