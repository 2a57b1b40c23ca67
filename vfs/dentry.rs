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

    /// The name's bytes. The caller holds what keeps it stable: the lock of the parent, which is the
    /// lower one for a lower dentry.
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

    /// Whether it is `root`, or below that, however names are moved meanwhile.
    pub(crate) fn is_below(&self, root: &Dentry) -> bool {
        // SAFETY: Two live dentries.
        unsafe { c::is_subdir(self.as_ptr(), root.as_ptr()) }
    }

    /// Whether its name was removed, or something else was renamed over it. A remote filesystem may
    /// have forgotten the dentry instead.
    pub(crate) fn has_lost_its_name(&self) -> bool {
        // SAFETY: A live dentry.
        unsafe { c::lfs_has_lost_its_name(self.as_ptr()) }
    }

    /// Whether it is of a kind that cannot be stacked on: one where a mount may come up, or one whose
    /// names are not compared byte by byte.
    pub(crate) fn is_unsupported(&self) -> bool {
        // SAFETY: A live dentry.
        unsafe { c::lfs_is_unsupported(self.as_ptr()) }
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
/// `d_fsdata` is null (not looked up) or a counted lower dentry, and in its lowest bit a mark
/// (`glue/dentry.c`).
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
        // SAFETY: A live dentry of ours.
        let lower = unsafe { c::lfs_lower(self.as_ptr()) };
        if lower.is_null() {
            return Err(ESTALE);
        }
        // SAFETY: By the type invariant; it is let go only when this dentry is released, or
        // replaced under the directory's lock while nobody uses it.
        Ok(unsafe { Dentry::from_raw(lower) })
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
        // SAFETY: A live dentry of ours, and a reference that it takes over.
        let old = unsafe { c::lfs_set_lower(self.as_ptr(), new.as_ptr().cast()) };
        if !old.is_null() {
            // SAFETY: By the type invariant we owned this reference.
            unsafe { c::dput(old) };
        }
    }

    /// Says that an operation is about to change what the name means below, until the guard is
    /// dropped: after `self` was moved, dropped or bound accordingly. Under the directory's lock,
    /// which keeps other operations away.
    pub(crate) fn begin_change(&self) -> Changing<'_> {
        // SAFETY: A live dentry of ours.
        unsafe { c::lfs_begin_change(self.as_ptr()) };
        Changing(self)
    }

    /// Does what vfs_rename() leaves to us (FS_RENAME_DOES_D_MOVE), after a rename to the name that
    /// `target` is for. Both directories are locked.
    pub(crate) fn move_to(&self, target: &OwnDentry) {
        // SAFETY: Two live dentries; the directories' locks and the lock for renames between them
        // keep both in their places.
        unsafe { c::d_move(self.as_ptr(), target.as_ptr()) };
    }

    /// As [`Self::move_to`], after an exchange.
    pub(crate) fn exchange_with(&self, other: &OwnDentry) {
        // SAFETY: As in `move_to`; both are positive.
        unsafe { c::d_exchange(self.as_ptr(), other.as_ptr()) };
    }

    /// Binds the name to `inode`, for good.
    pub(crate) fn instantiate(&self, inode: ARef<OwnInode>) {
        inode.object().note_shown();
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
        if let Some(inode) = &inode {
            inode.object().note_shown();
        }
        let inode = inode.map_or(core::ptr::null_mut(), |i| ARef::into_raw(i).as_ptr().cast());
        // SAFETY: The dentry is being looked up; the reference is handed over.
        unsafe { c::d_splice_alias(inode, self.as_ptr()) }
    }
}

/// See [`OwnDentry::begin_change`].
pub(crate) struct Changing<'a>(&'a OwnDentry);

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        // SAFETY: A live dentry of ours.
        unsafe { c::lfs_end_change(self.0.as_ptr()) };
    }
}

/// Dentry operation `d_release`: lets go of the lower dentry.
///
/// # Safety
///
/// Called by the dcache once, with a dentry of ours that nobody holds.
pub(crate) unsafe extern "C" fn release(dentry: *mut c::dentry) {
    // SAFETY: The dentry is still there.
    let lower = unsafe { c::lfs_set_lower(dentry, core::ptr::null_mut()) };
    if !lower.is_null() {
        // SAFETY: By the type invariant the reference was ours.
        unsafe { c::dput(lower) };
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
    let asked = Asked { dir, name, own };
    if flags & c::LOOKUP_RCU == 0 {
        return asked.answer(flags);
    }
    match own.lower() {
        Ok(lower) if asked.agrees(lower) && asked.is_fresh() => {
            // SAFETY: A lower dentry, whose memory outlives the grace period that ours is
            // protected by; the function leaves RCU mode by itself.
            unsafe { c::lfs_revalidate(lower.as_ptr(), flags) }
        }
        // To be looked at with references.
        _ => ECHILD.to_errno(),
    }
}

/// What `->d_revalidate` is asked.
struct Asked<'a> {
    dir: &'a OwnInode,
    name: *const c::qstr,
    own: &'a OwnDentry,
}

impl Asked<'_> {
    /// Whether `lower` is at the place and bound to the object that ours is.
    fn agrees(&self, lower: &Dentry) -> bool {
        // SAFETY: The VFS passed the name, which is stable for the call; the lower dentry is held, or
        // its memory outlives the grace period that ours is protected by; the directory is compared
        // only.
        if !unsafe { c::lfs_same_place(self.name, lower.as_ptr(), self.dir.lower().as_ptr()) } {
            return false;
        }
        match (self.own.own_inode(), lower.inode()) {
            (None, None) => true,
            (Some(inode), Some(lower)) => core::ptr::eq(inode.lower(), lower),
            _ => false,
        }
    }

    /// In RCU mode: whether our inode needs nothing of the lower one's attributes.
    fn is_fresh(&self) -> bool {
        let inode = self.own.own_inode();
        inode.is_none_or(|inode| !inode.attributes_differ())
    }

    /// Not in RCU mode: 0 is the end of the dentry and of all mounts below it.
    ///
    /// An operation of ours changes the lower name first and our dentry then, with the dentry marked
    /// ([`OwnDentry::begin_change`]). So what differs without a mark, and without a change of our
    /// dentry since before it was compared, was changed behind us.
    fn answer(&self, flags: c_uint) -> c_int {
        loop {
            let sequence = self.own.sequence();
            // A reference: without one it could be replaced and freed while we look at it.
            let lower = self.own.get_lower();
            let agrees = lower.as_ref().is_some_and(|lower| self.agrees(lower));
            if let (true, Some(lower)) = (agrees, &lower) {
                if let Some(inode) = self.own.own_inode() {
                    inode.refresh_if_changed();
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

    /// Whether an operation of ours has given the dentry another name since the VFS found it: then
    /// it is as if that had come after the look-up.
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

impl OwnDentry {
    /// A reference to the lower dentry, whatever happens to ours at the same time.
    fn get_lower(&self) -> Option<ARef<Dentry>> {
        // SAFETY: A live dentry of ours.
        let lower = unsafe { c::lfs_get_lower(self.as_ptr()) };
        let lower = NonNull::new(lower.cast::<Dentry>())?;
        // SAFETY: The reference was just taken, and is handed over.
        Some(unsafe { ARef::from_raw(lower) })
    }

    /// Moves with each change of the dentry's place, name or inode.
    fn sequence(&self) -> c_uint {
        // SAFETY: A live dentry.
        unsafe { c::lfs_sequence(self.as_ptr()) }
    }

    fn has_changed_since(&self, sequence: c_uint) -> bool {
        // SAFETY: A live dentry.
        unsafe { c::lfs_sequence_changed(self.as_ptr(), sequence) }
    }
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
