// SPDX-License-Identifier: GPL-2.0

//! Upper files in `->open` and `->tmpfile`, which have no lower file yet.

use super::{upper::FilePrivate, File, UpperFile};
use crate::vfs::{
    c,
    dentry::{Dentry, UpperDentry},
    inode::UpperInode,
    locked_name::NewName,
    mount::LowerMount,
    FileSystem,
    Fs, //
};
use core::ops::Deref;
use kernel::{
    error::to_result,
    prelude::*,
    sync::{aref::ARef, SetOnce}, //
};

/// An upper file that is being opened.
///
/// # Invariants
///
/// The file is on a superblock of ours, and `private_data` is not set. No other task uses the file.
pub(crate) struct OpeningFile<'a>(&'a File);

impl Deref for OpeningFile<'_> {
    type Target = File;

    fn deref(&self) -> &File {
        self.0
    }
}

impl<'a> OpeningFile<'a> {
    /// # Safety
    ///
    /// `ptr` is the argument of `->open` or `->tmpfile`, of ours, which only this thread uses for
    /// `'a`. There is one `OpeningFile` of it.
    pub(in crate::vfs) unsafe fn from_raw(ptr: *mut c::file) -> Self {
        // SAFETY: A transparent wrapper; the caller guarantees the rest.
        Self(unsafe { &*ptr.cast() })
    }

    /// The file's upper inode.
    pub(crate) fn upper_inode(&self) -> &'a UpperInode {
        // SAFETY: The inodes of our files are ours; the file holds its inode.
        unsafe { UpperInode::from_raw(self.0.inode().as_ptr()) }
    }

    /// The upper dentry that the file is opened by.
    pub(crate) fn dentry(&self) -> &'a UpperDentry {
        // SAFETY: Files of ours have dentries of ours, which they hold.
        unsafe { UpperDentry::from_raw(self.0.path_dentry().as_ptr()) }
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
        let path = mount.path_to_keep(dentry)?;
        let cred = mount.credentials().as_ptr();
        let _acting = mount.as_mounter();
        // SAFETY: A live user file, and a path whose parts are held; backing_file_open() copies the
        // path.
        let file = unsafe { c::backing_file_open(self.as_ptr(), flags as c_int, &path, cred) };
        // SAFETY: backing_file_open() gives a reference or an error.
        unsafe { File::from_c(file) }
    }

    /// Ends `->open`: stores the lower file and the state.
    pub(crate) fn opened(
        self,
        lower: ARef<File>,
        open: <Fs as FileSystem>::OpenFile,
    ) -> Result<&'a UpperFile> {
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
        // INVARIANT: `private_data` was set above.
        // SAFETY: As above; `self` was the only one.
        Ok(unsafe { UpperFile::from_raw(file) })
    }
}

/// An upper file that O_TMPFILE opens, with its dentry: new, unhashed and negative.
///
/// # Invariants
///
/// As for [`OpeningFile`], but the file has no inode yet; and no other task sees the dentry.
pub(crate) struct UnnamedFile<'a>(OpeningFile<'a>);

impl<'a> UnnamedFile<'a> {
    /// # Safety
    ///
    /// As for [`OpeningFile::from_raw`]; and `ptr` is the argument of `->tmpfile`.
    pub(in crate::vfs) unsafe fn from_raw(ptr: *mut c::file) -> Self {
        // SAFETY: Guaranteed by the caller.
        Self(unsafe { OpeningFile::from_raw(ptr) })
    }

    /// The `O_*` flags.
    pub(crate) fn flags(&self) -> c_uint {
        self.0.flags()
    }

    /// Whether the file is opened for writing.
    pub(crate) fn is_writable(&self) -> bool {
        self.0.is_writable()
    }

    /// The dentry of the directory that the file is created in.
    pub(crate) fn parent(&self) -> &UpperDentry {
        // SAFETY: A live dentry.
        let parent = unsafe { (*self.0.dentry().as_ptr()).d_parent };
        // SAFETY: A dentry holds its parent, of ours. By the type invariant no other task moves the
        // dentry.
        unsafe { UpperDentry::from_raw(parent) }
    }

    /// Creates an unnamed lower file in the lower directory `parent`, owned by the caller. The
    /// caller has write access.
    pub(crate) fn open_lower(
        &self,
        mount: &LowerMount,
        parent: &Dentry,
        flags: c_uint,
        mode: u16,
    ) -> Result<ARef<File>> {
        let path = mount.path_to_keep(parent)?;
        let cred = mount.credentials().as_ptr();
        // Labelled by the upper dentry: the lower file has no dentry with a parent yet.
        let _acting = (mount.credentials()).labelling(self.0.dentry(), mode | c::S_IFREG as u16)?;
        let (own, flags) = (self.0.as_ptr(), flags as c_int);
        // SAFETY: As in `OpeningFile::open_lower`.
        let file = unsafe { c::backing_tmpfile_open(own, flags, &path, mode, cred) };
        // SAFETY: backing_tmpfile_open() gives a reference or an error.
        unsafe { File::from_c(file) }
    }

    /// Ends `->tmpfile`: binds the dentry, stores the lower file and the state, and calls
    /// finish_open(). `opened` is called if ->release will be (FMODE_OPENED), whether or not the
    /// open succeeds.
    pub(crate) fn finish(
        self,
        lower: ARef<File>,
        open: <Fs as FileSystem>::OpenFile,
        inode: &UpperInode,
        opened: impl FnOnce(&UpperFile),
    ) -> Result {
        // SAFETY: By the type invariant.
        let dentry = unsafe { NewName::from_raw(self.0.dentry().as_ptr()) };
        if !core::ptr::eq(dentry.superblock(), inode.superblock()) {
            return Err(EXDEV);
        }
        let lower_dentry = lower.path_dentry().get();
        let file = self.0.opened(lower, open)?;
        // Names the dentry as the lower filesystem does, before d_instantiate().
        // SAFETY: vfs_tmpfile() has given the file a dentry with an inline name, unhashed and
        // negative, which is not visible to other tasks.
        unsafe { c::d_mark_tmpfile(file.as_ptr(), inode.as_ptr()) };
        dentry.bind(lower_dentry, inode.get());
        let own = file.dentry().as_ptr();
        // SAFETY: A file that is being opened, and its dentry, now positive.
        let err = unsafe { c::finish_open(file.as_ptr(), own, Some(opened_already)) };
        if file.mode() & c::FMODE_OPENED != 0 {
            opened(file);
        } else {
            // SAFETY: The VFS calls no hook of a file that it has not opened.
            unsafe { file.release() };
        }
        to_result(err)
    }
}

extern "C" fn opened_already(_inode: *mut c::inode, _file: *mut c::file) -> c_int {
    0
}
