// SPDX-License-Identifier: GPL-2.0

//! Changes of upper names by a revert: mirrors the VFS's work around the upper hooks.
//!
//! C headers: [`include/linux/dcache.h`](srctree/include/linux/dcache.h),
//! [`include/linux/namei.h`](srctree/include/linux/namei.h)

use super::{
    c,
    dentry::{Dentry, UpperDentry},
    error::ESTALE,
    inode::UpperInode,
    superblock::UpperSuperBlock, //
};
use core::ptr::NonNull;
use kernel::{prelude::*, sync::aref::ARef};

/// Upper limit of a path's depth.
const DEEPEST: usize = 4096;

/// Children; the directory `self` is locked.
impl UpperDentry {
    /// The child `name`, if cached in the dcache.
    pub(crate) fn cached_child(&self, name: &[u8]) -> Option<ARef<UpperDentry>> {
        let len = u32::try_from(name.len()).ok()?;
        // SAFETY: A live directory, and a name of `len` bytes.
        let child = unsafe { c::lfs_cached_child(self.as_ptr(), name.as_ptr().cast(), len) };
        // SAFETY: A reference, an error, or null.
        unsafe { Self::upper_from_c(child) }.ok()
    }

    /// The child `name`; negative if there is none.
    pub(crate) fn child(&self, name: &[u8]) -> Result<ARef<UpperDentry>> {
        let len = u32::try_from(name.len()).map_err(|_| EINVAL)?;
        // SAFETY: A live directory, and a name of `len` bytes.
        let child = unsafe { c::lfs_child(self.as_ptr(), name.as_ptr().cast(), len) };
        // SAFETY: A reference or an error.
        unsafe { Self::upper_from_c(child) }
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

    /// Mirrors the end of vfs_unlink() and vfs_rmdir() after a removal of the name. The object is
    /// locked.
    pub(crate) fn removed(&self) {
        // SAFETY: A positive dentry of a locked directory.
        unsafe { c::lfs_name_removed(self.as_ptr()) };
    }

    /// Mirrors the end of vfs_create() and others after a creation.
    pub(crate) fn added(&self) {
        // SAFETY: A positive dentry of a locked directory.
        unsafe { c::lfs_name_added(self.as_ptr()) };
    }

    /// Mirrors the end of vfs_link() after a new link.
    pub(crate) fn linked(&self, inode: &UpperInode) {
        // SAFETY: A positive dentry of a locked directory, and its inode.
        unsafe { c::lfs_name_linked(self.as_ptr(), inode.as_ptr()) };
    }

    /// Mirrors the end of vfs_rename() after a rename to the name of `target`, in the same
    /// directory.
    pub(crate) fn moved(&self, target: &UpperDentry) {
        // SAFETY: Two dentries of a locked directory, the second negative.
        unsafe { c::lfs_name_moved(self.as_ptr(), target.as_ptr()) };
    }

    /// Mirrors the end of vfs_rename() after an exchange in one directory.
    pub(crate) fn exchanged(&self, other: &UpperDentry) {
        // SAFETY: Two positive dentries of a locked directory.
        unsafe { c::lfs_names_exchanged(self.as_ptr(), other.as_ptr()) };
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
pub(crate) struct Renaming(c::renamedata);

impl Renaming {
    /// Locks the parents of `old` and of `name` in `to`; `flags` are renameat2()'s. `EINVAL`: `old`
    /// was moved or removed meanwhile.
    pub(crate) fn begin(
        from: &UpperDentry,
        old: &UpperDentry,
        to: &UpperDentry,
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
        Ok(Self(data))
    }
}

impl Drop for Renaming {
    fn drop(&mut self) {
        // SAFETY: Undoes start_renaming_dentry().
        unsafe { c::end_renaming(&mut self.0) };
    }
}
