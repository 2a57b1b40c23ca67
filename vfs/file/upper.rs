// SPDX-License-Identifier: GPL-2.0

//! Upper files, which hold a lower file.

use super::{errno, File};
use crate::vfs::{
    c,
    dentry::{Dentry, UpperDentry},
    inode::UpperInode,
    lock::InodeGuard,
    mmap::MmapLowerFile,
    table::superblock::SuperHooks,
    upper_names::LockedDirectory,
    FileSystem,
    Fs, //
};
use core::ops::Deref;
use kernel::{
    error::to_result,
    prelude::*,
    sync::{aref::ARef, SetOnce}, //
};

/// Content of an upper file's `private_data`.
pub(super) struct FilePrivate {
    pub(super) lower: ARef<File>,
    /// The lower file of shared mappings that may become writable; set by the first of them.
    pub(super) map: SetOnce<MmapLowerFile>,
    pub(super) open: <Fs as FileSystem>::OpenFile,
}

/// An upper file.
///
/// # Invariants
///
/// `private_data` points to a [`FilePrivate`], from [`super::OpeningFile::opened`] to `release`.
#[repr(transparent)]
pub(crate) struct UpperFile(File);

impl Deref for UpperFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl UpperFile {
    /// # Safety
    ///
    /// `ptr` is a live file on a superblock of ours, and stays so for `'a`.
    pub(in crate::vfs) unsafe fn from_raw<'a>(ptr: *mut c::file) -> &'a Self {
        // SAFETY: Guaranteed by the caller; both types have the same layout.
        unsafe { &*ptr.cast() }
    }

    fn private(&self) -> &FilePrivate {
        // SAFETY: A live file.
        let private = unsafe { (*self.as_ptr()).private_data };
        // SAFETY: By the type invariant.
        unsafe { &*private.cast::<FilePrivate>() }
    }

    /// The lower file.
    pub(crate) fn lower(&self) -> &File {
        &self.private().lower
    }

    /// The lower file of shared mappings that may become writable, opened by the first of them:
    /// most files are never mapped, and a second open of the lower file at each open() is
    /// expensive. The caller holds mmap_lock.
    pub(crate) fn mmap_lower_file(&self) -> Result<&MmapLowerFile> {
        let map = &self.private().map;
        loop {
            if let Some(opened) = map.as_ref() {
                return Ok(opened);
            }
            // Of two concurrent callers one wins; populate() may return false shortly before the
            // winner's value is visible.
            let _ = map.populate(MmapLowerFile::open(self)?);
        }
    }

    /// Mirrors file_accessed() for the upper file, since the lower file is open with O_NOATIME.
    /// Also copies the lower size.
    #[inline]
    pub(crate) fn accessed(&self) {
        // SAFETY: Two live files.
        unsafe { c::lfs_file_accessed(self.as_ptr(), self.lower().as_ptr()) };
    }

    /// `SEEK_SET`: sets the position, within the limits of vfs_setpos().
    pub(crate) fn seek_to(&self, position: i64) -> Result<i64> {
        // SAFETY: A live file. vfs_setpos() stores a word, as [`File::set_position`] does.
        let position = unsafe { c::vfs_setpos(self.as_ptr(), position, i64::MAX) };
        if position < 0 {
            return Err(errno(position as isize));
        }
        Ok(position)
    }

    /// The path that the file was opened by.
    pub(in crate::vfs) fn path(&self) -> c::path {
        // SAFETY: A live file; its path never changes.
        unsafe { (*self.as_ptr()).__bindgen_anon_1.f_path }
    }

    /// The root of the mount that the file was opened through. A bind mount's root may be any
    /// directory, or a file.
    pub(crate) fn mount_root(&self) -> &UpperDentry {
        // SAFETY: An open file holds its mount.
        let root = unsafe { (*self.path().mnt).mnt_root };
        // SAFETY: A mount holds its root until the mount is freed; the root is on the file's
        // superblock, an upper one.
        unsafe { UpperDentry::from_raw(root) }
    }

    /// Asks security_path_unlink() about a removal through the file's mount.
    pub(crate) fn may_unlink(&self, dir: LockedDirectory<'_>, name: &[u8]) -> Result {
        let child = dir.child(name)?;
        if child.is_negative() {
            return Ok(());
        }
        // SAFETY: A live mount, a directory on it, and a child of that with an inode.
        to_result(unsafe { c::lfs_path_unlink(self.path().mnt, dir.as_ptr(), child.as_ptr()) })
    }

    /// Asks security_path_mknod() about a new name for an object like `node`.
    pub(crate) fn may_make(
        &self,
        dir: LockedDirectory<'_>,
        name: &[u8],
        node: &UpperInode,
    ) -> Result {
        let child = dir.child(name)?;
        let (mnt, node) = (self.path().mnt, node.as_ptr());
        // SAFETY: A live mount, a directory on it, a child of that, and an inode.
        to_result(unsafe { c::lfs_path_mknod(mnt, dir.as_ptr(), child.as_ptr(), node) })
    }

    /// Asks security_path_rename() about a rename.
    pub(crate) fn may_rename(
        &self,
        (from, name): (LockedDirectory<'_>, &[u8]),
        (to, new): (LockedDirectory<'_>, &[u8]),
        flags: u32,
    ) -> Result {
        let child = from.child(name)?;
        let target = to.child(new)?;
        if child.is_negative() {
            return Ok(());
        }
        let (mnt, child, target) = (self.path().mnt, child.as_ptr(), target.as_ptr());
        // SAFETY: A live mount, two directories on it, and a child of each, the first one with an
        // inode.
        to_result(unsafe {
            c::lfs_path_rename(mnt, from.as_ptr(), child, to.as_ptr(), target, flags)
        })
    }

    /// The state of the open file.
    pub(crate) fn open(&self) -> &<Fs as FileSystem>::OpenFile {
        &self.private().open
    }

    /// The file's upper inode.
    pub(crate) fn upper_inode(&self) -> &UpperInode {
        // SAFETY: The inodes of our files are ours.
        unsafe { UpperInode::from_raw(self.inode().as_ptr()) }
    }

    /// The upper dentry that the file was opened by.
    pub(crate) fn dentry(&self) -> &UpperDentry {
        // SAFETY: A live file.
        let dentry = unsafe { (*self.as_ptr()).__bindgen_anon_1.f_path.dentry };
        // SAFETY: Files of ours have dentries of ours, which they hold.
        unsafe { UpperDentry::from_raw(dentry) }
    }

    /// The lower dentry that corresponds to the file's path.
    pub(crate) fn lower_dentry(&self) -> &Dentry {
        self.lower().path_dentry()
    }

    /// Write access to the upper mount: ioctl(2) does not take it.
    pub(crate) fn want_write(&self) -> Result<FileWrite<'_>> {
        // SAFETY: A live file.
        to_result(unsafe { c::mnt_want_write_file(self.as_ptr()) })?;
        Ok(FileWrite(self))
    }

    /// Opens the lower object read-only for mappings, without waiting for fanotify listeners.
    pub(in crate::vfs) fn open_lower_to_map(&self) -> Result<ARef<File>> {
        // SAFETY: Two live files, the second one the first one's lower file.
        let file = unsafe { c::lfs_open_to_map(self.as_ptr(), self.lower().as_ptr()) };
        // SAFETY: A reference or an error.
        unsafe { File::from_c(file) }
    }

    /// `->release`: drops the lower file and the state.
    ///
    /// # Safety
    ///
    /// The last user is gone; `self` is not used any more.
    pub(in crate::vfs) unsafe fn release(&self) {
        let file = self.as_ptr();
        // SAFETY: Guaranteed by the caller.
        let field = unsafe { &mut (*file).private_data };
        let private = core::mem::replace(field, core::ptr::null_mut());
        if !private.is_null() {
            // SAFETY: By the type invariant a boxed `FilePrivate`.
            drop(unsafe { KBox::from_raw(private.cast::<FilePrivate>()) });
        }
    }

    /// file_remove_privs(). `lock` is that of the upper inode; `EINVAL` for another one.
    #[inline]
    pub(crate) fn remove_privileges(&self, lock: &InodeGuard<'_>) -> Result {
        let inode = self.upper_inode();
        if !lock.is_of(inode) {
            return Err(EINVAL);
        }
        // SAFETY: A live file whose inode is locked.
        to_result(unsafe { c::file_remove_privs(self.as_ptr()) })?;
        if !<Fs as SuperHooks>::lower(inode.mount()).limits().no_set_id {
            return Ok(());
        }
        let dentry = self.dentry().as_ptr();
        // SAFETY: A live dentry whose inode is locked, and the lower inode.
        to_result(unsafe { c::lfs_drop_set_id(dentry, inode.lower().as_ptr()) })
    }
}

/// See [`UpperFile::want_write`].
pub(crate) struct FileWrite<'a>(&'a UpperFile);

impl Drop for FileWrite<'_> {
    fn drop(&mut self) {
        // SAFETY: The guard exists because access was granted.
        unsafe { c::mnt_drop_write_file(self.0.as_ptr()) };
    }
}
