// SPDX-License-Identifier: GPL-2.0

//! Upper files, which hold a lower file.

use super::{errno, File};
use crate::vfs::{
    c,
    dentry::{Dentry, UpperDentry},
    inode::UpperInode,
    mmap::MmapLowerFile,
    mount::LowerMount,
    table::superblock::SuperHooks,
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
struct FilePrivate {
    lower: ARef<File>,
    /// The lower file of shared mappings that may become writable; set by the first of them.
    map: SetOnce<MmapLowerFile>,
    open: <Fs as FileSystem>::OpenFile,
}

/// An upper file.
///
/// # Invariants
///
/// `private_data` points to a [`FilePrivate`] from `open` to `release`.
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
    pub(crate) unsafe fn from_raw<'a>(ptr: *mut c::file) -> &'a Self {
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
        // SAFETY: A live file; the VFS holds `f_pos_lock` where several threads share the file.
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

    /// Asks security_path_unlink() about a removal through the file's mount. The directory is
    /// locked.
    pub(crate) fn may_unlink(&self, dir: &UpperDentry, name: &[u8]) -> Result {
        let child = dir.child(name)?;
        if child.upper_inode().is_none() {
            return Ok(());
        }
        // SAFETY: A live mount, a directory on it, and a child of that with an inode.
        to_result(unsafe { c::lfs_path_unlink(self.path().mnt, dir.as_ptr(), child.as_ptr()) })
    }

    /// Asks security_path_mknod() about a new name for an object like `node`. The directory is
    /// locked.
    pub(crate) fn may_make(&self, dir: &UpperDentry, name: &[u8], node: &UpperInode) -> Result {
        let child = dir.child(name)?;
        let (mnt, node) = (self.path().mnt, node.as_ptr());
        // SAFETY: A live mount, a directory on it, a child of that, and an inode.
        to_result(unsafe { c::lfs_path_mknod(mnt, dir.as_ptr(), child.as_ptr(), node) })
    }

    /// Asks security_path_rename() about a rename. Both directories are locked.
    pub(crate) fn may_rename(
        &self,
        (from, name): (&UpperDentry, &[u8]),
        (to, new): (&UpperDentry, &[u8]),
        flags: u32,
    ) -> Result {
        let child = from.child(name)?;
        let target = to.child(new)?;
        if child.upper_inode().is_none() {
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

    /// Opens the lower object with the mounter's credentials: the VFS has checked the caller's
    /// permissions on the upper inode.
    ///
    /// `flags` are those of the lower file; `f_path` stays the upper path (backing_file_open()).
    pub(crate) fn open_lower(
        &self,
        mount: &LowerMount,
        dentry: &Dentry,
        flags: c_uint,
    ) -> Result<ARef<File>> {
        let path = mount.path(dentry);
        let cred = mount.credentials().as_ptr();
        let _acting = mount.as_mounter();
        // SAFETY: A live user file, and a path whose parts are held; backing_file_open() copies the
        // path.
        let file = unsafe { c::backing_file_open(self.as_ptr(), flags as c_int, &path, cred) };
        // SAFETY: backing_file_open() gives a reference or an error.
        unsafe { File::from_c(file) }
    }

    /// Opens the lower object read-only for mappings, without waiting for fanotify listeners.
    pub(in crate::vfs) fn open_lower_to_map(&self) -> Result<ARef<File>> {
        // SAFETY: Two live files, the second one the first one's lower file.
        let file = unsafe { c::lfs_open_to_map(self.as_ptr(), self.lower().as_ptr()) };
        // SAFETY: A reference or an error.
        unsafe { File::from_c(file) }
    }

    /// Creates an unnamed lower file in the lower directory `parent`, owned by the caller. The
    /// caller has write access.
    pub(crate) fn open_lower_unnamed(
        &self,
        mount: &LowerMount,
        parent: &Dentry,
        flags: c_uint,
        mode: u16,
    ) -> Result<ARef<File>> {
        let path = mount.path(parent);
        let cred = mount.credentials().as_ptr();
        // Labelled by the upper dentry: the lower file has no dentry with a parent yet.
        let _acting = (mount.credentials()).labelling(self.dentry(), mode | c::S_IFREG as u16)?;
        let (own, flags) = (self.as_ptr(), flags as c_int);
        // SAFETY: As in `open_lower`.
        let file = unsafe { c::backing_tmpfile_open(own, flags, &path, mode, cred) };
        // SAFETY: backing_tmpfile_open() gives a reference or an error.
        unsafe { File::from_c(file) }
    }

    /// Ends `->open`: stores the lower file and the state.
    pub(crate) fn opened(&self, lower: ARef<File>, open: <Fs as FileSystem>::OpenFile) -> Result {
        let taken = c::FMODE_CAN_ODIRECT | c::FMODE_NOWAIT;
        let mode_below = lower.mode() & taken;
        let map = SetOnce::new();
        let private = KBox::new(FilePrivate { lower, map, open }, GFP_KERNEL)?;
        let file = self.as_ptr();
        // SAFETY: The file is being opened, so no other task uses the field.
        unsafe { (*file).private_data = KBox::into_raw(private).cast() };
        // SAFETY: As above. O_DIRECT and RWF_NOWAIT are supported where the lower file supports
        // them: do_dentry_open() only adds FMODE_CAN_ODIRECT, and only for a mapping with
        // ->direct_IO, which upper mappings lack.
        let mode = unsafe { &mut (*file).f_mode };
        *mode = (*mode & !taken) | mode_below;
        Ok(())
    }

    /// Names the dentry of an O_TMPFILE open as the lower filesystem does, before d_instantiate().
    pub(crate) fn name_unnamed(&self, inode: &UpperInode) {
        // SAFETY: vfs_tmpfile() has given the file a dentry with an inline name, unhashed and
        // negative, which is not visible to other tasks.
        unsafe { c::d_mark_tmpfile(self.as_ptr(), inode.as_ptr()) };
    }

    /// Ends an O_TMPFILE open after [`UpperFile::opened`], with finish_open(); on failure also
    /// undoes [`UpperFile::opened`].
    pub(crate) fn finish_unnamed(&self, dentry: &UpperDentry) -> Result {
        // SAFETY: A file that is being opened, and its dentry, now positive.
        let err = unsafe { c::finish_open(self.as_ptr(), dentry.as_ptr(), Some(opened_already)) };
        if !self.is_opened() {
            self.release();
        }
        to_result(err)
    }

    /// Whether the VFS will call `->release` (FMODE_OPENED).
    pub(crate) fn is_opened(&self) -> bool {
        self.mode() & c::FMODE_OPENED != 0
    }

    /// `->release`: drops the lower file and the state.
    pub(crate) fn release(&self) {
        let file = self.as_ptr();
        // SAFETY: The last user is gone.
        let field = unsafe { &mut (*file).private_data };
        let private = core::mem::replace(field, core::ptr::null_mut());
        if !private.is_null() {
            // SAFETY: By the type invariant a boxed `FilePrivate`.
            drop(unsafe { KBox::from_raw(private.cast::<FilePrivate>()) });
        }
    }

    /// file_remove_privs(). The upper inode is locked.
    pub(crate) fn remove_privileges(&self) -> Result {
        // SAFETY: A live file whose inode is locked.
        to_result(unsafe { c::file_remove_privs(self.as_ptr()) })?;
        let inode = self.upper_inode();
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

extern "C" fn opened_already(_inode: *mut c::inode, _file: *mut c::file) -> c_int {
    0
}
