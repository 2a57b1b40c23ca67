// SPDX-License-Identifier: GPL-2.0

//! Changes of upper names by a revert: mirrors the VFS's work around the upper hooks.
//!
//! C headers: [`include/linux/dcache.h`](srctree/include/linux/dcache.h),
//! [`include/linux/namei.h`](srctree/include/linux/namei.h)

use super::{
    c,
    dentry::{Dentry, DentryChangeGuard, UpperDentry},
    error::ESTALE,
    inode::UpperInode,
    lock::ReentrantInodeGuard,
    superblock::UpperSuperBlock, //
};
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{prelude::*, sync::aref::ARef};

/// Upper limit of a path's depth.
const DEEPEST: usize = 4096;

/// An upper directory that is locked for `'a`.
#[derive(Clone, Copy)]
pub(crate) struct LockedDirectory<'a>(&'a UpperDentry);

impl<'a> LockedDirectory<'a> {
    /// # Safety
    ///
    /// The running task, or one that waits for it, has locked the directory for writing for `'a`.
    pub(super) unsafe fn new(dentry: &'a UpperDentry) -> Self {
        Self(dentry)
    }

    pub(super) fn as_ptr(self) -> *mut c::dentry {
        self.0.as_ptr()
    }

    /// The child `name`, if cached in the dcache.
    pub(crate) fn cached_child(self, name: &[u8]) -> Option<LockedChild<'a>> {
        self.0.cached_child(name).map(|child| LockedChild {
            dentry: child,
            _dir: PhantomData,
        })
    }

    /// The child `name`; negative if there is none.
    pub(crate) fn child(self, name: &[u8]) -> Result<LockedChild<'a>> {
        let len = u32::try_from(name.len()).map_err(|_| EINVAL)?;
        // SAFETY: A live directory that is locked, and a name of `len` bytes.
        let child = unsafe { c::lfs_child(self.as_ptr(), name.as_ptr().cast(), len) };
        Ok(LockedChild {
            // SAFETY: A reference or an error.
            dentry: unsafe { UpperDentry::upper_from_c(child) }?,
            _dir: PhantomData,
        })
    }
}

/// A name in a locked directory. Lends neither inode nor lower dentry: [`Self::removed`] may drop
/// them.
///
/// # Invariants
///
/// The parent directory is locked for `'a`, also after a move to another directory.
pub(crate) struct LockedChild<'a> {
    dentry: ARef<UpperDentry>,
    _dir: PhantomData<LockedDirectory<'a>>,
}

impl LockedChild<'_> {
    pub(super) fn as_ptr(&self) -> *mut c::dentry {
        self.dentry.as_ptr()
    }

    /// Whether the name has no object.
    pub(crate) fn is_negative(&self) -> bool {
        self.dentry.is_negative()
    }

    /// See [`UpperDentry::is_mount_point`].
    pub(crate) fn is_mount_point(&self) -> bool {
        self.dentry.is_mount_point()
    }

    /// See [`UpperDentry::begin_change`].
    pub(crate) fn begin_change(&self) -> DentryChangeGuard<'_> {
        self.dentry.begin_change()
    }

    /// See [`UpperDentry::d_drop`].
    pub(crate) fn d_drop(&self) {
        self.dentry.d_drop();
    }

    /// Mirrors the end of vfs_unlink() and vfs_rmdir() after a removal of the name. `lock` is the
    /// object's; the name of another one is dropped only.
    pub(crate) fn removed(&self, lock: &ReentrantInodeGuard<'_>) {
        let inode = self.dentry.upper_inode();
        if !inode.is_some_and(|inode| lock.is_of(inode)) {
            return self.d_drop();
        }
        // SAFETY: A positive dentry of a locked directory, and its inode locked.
        unsafe { c::lfs_name_removed(self.as_ptr()) };
    }

    /// Mirrors the end of vfs_create() and others after a creation.
    pub(crate) fn added(&self) {
        if !self.is_negative() {
            // SAFETY: A positive dentry of a locked directory.
            unsafe { c::lfs_name_added(self.as_ptr()) };
        }
    }

    /// Mirrors the end of vfs_link() after a new link.
    pub(crate) fn linked(&self, inode: &UpperInode) {
        // SAFETY: A dentry of a locked directory, and an inode.
        unsafe { c::lfs_name_linked(self.as_ptr(), inode.as_ptr()) };
    }

    /// Mirrors the end of vfs_rename() after a rename to the name of `target`, which has no object
    /// below. Nothing for a negative dentry.
    pub(crate) fn moved(&self, target: &LockedChild<'_>) {
        if !self.is_negative() {
            // SAFETY: Two dentries of locked directories, the first positive.
            unsafe { c::lfs_name_moved(self.as_ptr(), target.as_ptr()) };
        }
    }

    /// Mirrors the end of vfs_rename() after an exchange. Nothing for negative dentries.
    pub(crate) fn exchanged(&self, other: &LockedChild<'_>) {
        if !self.is_negative() && !other.is_negative() {
            // SAFETY: Two positive dentries of locked directories.
            unsafe { c::lfs_names_exchanged(self.as_ptr(), other.as_ptr()) };
        }
    }
}

impl UpperDentry {
    /// The child `name`, if cached in the dcache.
    pub(crate) fn cached_child(&self, name: &[u8]) -> Option<ARef<UpperDentry>> {
        let len = u32::try_from(name.len()).ok()?;
        // SAFETY: A live directory, and a name of `len` bytes. try_lookup_noperm() needs no lock.
        let child = unsafe { c::lfs_cached_child(self.as_ptr(), name.as_ptr().cast(), len) };
        // SAFETY: A reference, an error, or null.
        unsafe { Self::upper_from_c(child) }.ok()
    }

    /// # Safety
    ///
    /// As for [`Dentry::from_c`]; and the dentry is of ours. Null is `ENOENT`.
    unsafe fn upper_from_c(child: *mut c::dentry) -> Result<ARef<UpperDentry>> {
        let child = kernel::error::from_err_ptr(child)?;
        let child = NonNull::new(child.cast::<UpperDentry>()).ok_or(ENOENT)?;
        // SAFETY: The caller hands the reference over.
        Ok(unsafe { ARef::from_raw(child) })
    }

    /// d_mountpoint().
    pub(crate) fn is_mount_point(&self) -> bool {
        // SAFETY: A live dentry.
        unsafe { c::lfs_store_is_mount_point(self.as_ptr()) }
    }
}

impl UpperDentry {
    /// The upper dentry of a lower directory, found by the path from the root. `ESTALE`: the
    /// directory is not below the root, or hidden.
    pub(crate) fn of_lower(sb: &UpperSuperBlock, lower: &Dentry) -> Result<ARef<UpperDentry>> {
        // SAFETY: A live superblock.
        let root = unsafe { (*sb.as_ptr()).s_root };
        if root.is_null() {
            // Not filled yet, or being shut down: shrink_dcache_for_umount() has taken the root.
            return Err(ESTALE);
        }
        // SAFETY: A superblock of ours holds its root, of ours.
        let root: &UpperDentry = unsafe { UpperDentry::from_raw(root) };
        let top = root.lower()?;
        let mut path: KVVec<ARef<Dentry>> = KVVec::new();
        let mut here = lower.get();
        while !core::ptr::eq(&*here, top) {
            // SAFETY: A live dentry.
            let parent = unsafe { c::lfs_parent(here.as_ptr()) };
            // SAFETY: A reference.
            let parent = unsafe { Dentry::from_c(parent) }?;
            if core::ptr::eq(&*parent, &*here) || path.len() >= DEEPEST {
                return Err(ESTALE);
            }
            path.push(here, GFP_KERNEL)?;
            here = parent;
        }
        let mut found = ARef::from(root);
        while let Some(next) = path.pop() {
            found = found.lookup_same_name(&next)?;
            let same = found.upper_inode().zip(next.inode());
            if !same.is_some_and(|(own, lower)| core::ptr::eq(own.lower(), lower)) {
                return Err(ESTALE);
            }
        }
        Ok(found)
    }

    /// The child of `self` with the same name as `lower`. The directory is unlocked, or locked by
    /// the caller for a whole request.
    pub(crate) fn lookup_same_name(&self, lower: &Dentry) -> Result<ARef<UpperDentry>> {
        let is_held = self.upper_inode().is_some_and(UpperInode::is_held);
        // SAFETY: Two live dentries, the first a directory of ours, which is locked as is said.
        let child = unsafe { c::lfs_lookup_same_name(self.as_ptr(), lower.as_ptr(), is_held) };
        // SAFETY: A reference or an error.
        unsafe { Self::upper_from_c(child) }
    }
}

/// Two upper directories, locked for a rename between them.
pub(crate) struct Renaming<'a> {
    data: c::renamedata,
    dirs: (&'a UpperDentry, &'a UpperDentry),
}

impl<'a> Renaming<'a> {
    /// Locks the parents of `old` and of `name` in `to`; `flags` are renameat2()'s. `EINVAL`: `old`
    /// was moved or removed meanwhile.
    pub(crate) fn begin(
        from: &'a UpperDentry,
        old: &UpperDentry,
        to: &'a UpperDentry,
        name: &[u8],
        flags: u32,
    ) -> Result<Self> {
        let mut data = c::renamedata {
            mnt_idmap: &raw mut c::nop_mnt_idmap,
            old_parent: from.as_ptr(),
            new_parent: to.as_ptr(),
            flags,
            ..Default::default()
        };
        let len = u32::try_from(name.len()).map_err(|_| EINVAL)?;
        let text = name.as_ptr().cast();
        // SAFETY: Live dentries, neither directory locked; a name of `len` bytes.
        let err = unsafe { c::lfs_start_renaming(&mut data, old.as_ptr(), text, len) };
        kernel::error::to_result(err)?;
        let dirs = (from, to);
        Ok(Self { data, dirs })
    }

    /// The directories of the old and the new name.
    pub(crate) fn directories(&self) -> (LockedDirectory<'_>, LockedDirectory<'_>) {
        // SAFETY: Locked by start_renaming_dentry() until `self` is dropped.
        let from = unsafe { LockedDirectory::new(self.dirs.0) };
        // SAFETY: As above.
        let to = unsafe { LockedDirectory::new(self.dirs.1) };
        (from, to)
    }
}

impl Drop for Renaming<'_> {
    fn drop(&mut self) {
        // SAFETY: Undoes start_renaming_dentry().
        unsafe { c::end_renaming(&mut self.data) };
    }
}
