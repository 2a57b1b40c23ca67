// SPDX-License-Identifier: GPL-2.0

//! Open files: of any filesystem ([`File`]), and upper files ([`UpperFile`]), which hold a lower
//! file; and the calls on them ([`Kiocb`]).
//!
//! C headers: [`include/linux/fs.h`](srctree/include/linux/fs.h),
//! [`include/linux/backing-file.h`](srctree/include/linux/backing-file.h)

mod call;
mod opening;
mod output;
mod upper;

pub(crate) use call::{IovIter, Kiocb, WriteCall};
pub(crate) use opening::{OpeningFile, UnnamedFile};
pub(crate) use output::OutputFile;
pub(crate) use upper::{FileWrite, UpperFile};

use super::{
    c,
    cred::OverriddenCreds,
    dentry::Dentry,
    inode::Inode,
    mount::LowerMount, //
};
use core::ptr::NonNull;
use kernel::{
    error::{from_err_ptr, to_result},
    prelude::*,
    sync::aref::{ARef, AlwaysRefCounted},
    types::Opaque, //
};

/// An open file of any filesystem.
#[repr(transparent)]
pub(crate) struct File(Opaque<c::file>);

// SAFETY: An open file may be used and released on any thread.
unsafe impl Send for File {}
// SAFETY: Each method only makes calls that are allowed with a reference.
unsafe impl Sync for File {}

// SAFETY: The count is the file's `f_ref`.
unsafe impl AlwaysRefCounted for File {
    fn inc_ref(&self) {
        // SAFETY: `self` is a live file with a reference.
        unsafe { c::lfs_get_file(self.as_ptr()) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller gives up its own reference.
        unsafe { c::fput(obj.as_ptr().cast()) }
    }
}

impl File {
    /// # Safety
    ///
    /// `ptr` is an ERR_PTR, or a file with a reference that is ours.
    unsafe fn from_c(ptr: *mut c::file) -> Result<ARef<Self>> {
        let ptr = NonNull::new(from_err_ptr(ptr)?.cast::<Self>()).ok_or(EIO)?;
        // SAFETY: The caller hands the reference over.
        Ok(unsafe { ARef::from_raw(ptr) })
    }

    pub(crate) fn as_ptr(&self) -> *mut c::file {
        self.0.get()
    }

    fn mode(&self) -> c_uint {
        // SAFETY: A live file; the mode is set at open.
        unsafe { (*self.as_ptr()).f_mode }
    }

    /// Whether the file is open for reading.
    pub(crate) fn is_readable(&self) -> bool {
        self.mode() & c::FMODE_READ != 0
    }

    /// Whether the file is open for writing.
    pub(crate) fn is_writable(&self) -> bool {
        self.mode() & c::FMODE_WRITE != 0
    }

    /// Whether the file supports IOCB_NOWAIT.
    pub(crate) fn has_no_wait(&self) -> bool {
        self.mode() & c::FMODE_NOWAIT != 0
    }

    /// The `O_*` flags.
    pub(crate) fn flags(&self) -> c_uint {
        // SAFETY: A live file; racy reads are the VFS's habit too.
        unsafe { (*self.as_ptr()).f_flags }
    }

    /// The file's inode.
    pub(crate) fn inode(&self) -> &Inode {
        // SAFETY: A live file.
        let inode = unsafe { (*self.as_ptr()).f_inode };
        // SAFETY: An open file keeps its inode.
        unsafe { Inode::from_raw(inode) }
    }

    /// The dentry that the file was opened by.
    pub(crate) fn path_dentry(&self) -> &Dentry {
        // SAFETY: A live file holds its path.
        let dentry = unsafe { (*self.as_ptr()).__bindgen_anon_1.f_path.dentry };
        // SAFETY: As above.
        unsafe { Dentry::from_raw(dentry) }
    }

    /// Opens a lower object with the mounter's credentials, without an upper file above.
    pub(crate) fn open_kernel(
        mount: &LowerMount,
        dentry: &Dentry,
        flags: c_uint,
    ) -> Result<ARef<File>> {
        // dentry_open() skips may_open(), which refuses a device on a nodev mount, and opening a
        // fifo waits for the other end. So only objects with content are opened.
        let has_content = |inode: &Inode| inode.is_regular() || inode.is_directory();
        if !dentry.inode().is_some_and(has_content) {
            return Err(EINVAL);
        }
        let path = mount.path_to_keep(dentry)?;
        let flags = (flags | c::O_LARGEFILE | c::O_NOATIME) as c_int;
        let cred = mount.credentials().as_ptr();
        let _acting = mount.as_mounter();
        // SAFETY: A path whose parts are held; dentry_open() copies the path.
        let file = unsafe { c::dentry_open(&path, flags, cred) };
        // SAFETY: dentry_open() gives a reference or an error.
        unsafe { Self::from_c(file) }
    }

    /// Reads at `at` until `buf` is full or the file ends; returns the number of bytes. Through the
    /// page cache, also with O_DIRECT.
    pub(crate) fn read_at(&self, buf: &mut [u8], at: u64) -> Result<usize> {
        let mut pos = i64::try_from(at).map_err(|_| EFBIG)?;
        let mut done = 0;
        let _acting = OverriddenCreds::as_opener(self);
        while done < buf.len() {
            let rest = &mut buf[done..];
            // SAFETY: A live file and a writable buffer.
            let n = unsafe {
                c::lfs_read_cached(self.as_ptr(), rest.as_mut_ptr().cast(), rest.len(), pos)
            };
            match usize::try_from(n) {
                Ok(0) => break,
                Ok(n) => done = (done + n).min(buf.len()),
                Err(_) => return Err(errno(n)),
            }
            pos = pos.checked_add(n as i64).ok_or(EFBIG)?;
        }
        Ok(done)
    }

    /// Reads `length` bytes at `at` into the page cache in one request, without read-ahead. Errors,
    /// and a file without a page cache, are left to the read that follows.
    pub(crate) fn read_into_cache(&self, at: u64, length: usize) {
        if let Ok(at) = i64::try_from(at) {
            // SAFETY: A live file.
            unsafe { c::lfs_read_into_cache(self.as_ptr(), at, length) };
        }
    }

    /// Writes all of `buf` at `at`. Through the page cache, also with O_DIRECT.
    pub(crate) fn write_at(&self, buf: &[u8], at: u64) -> Result {
        let mut pos = i64::try_from(at).map_err(|_| EFBIG)?;
        let mut done = 0;
        let _acting = OverriddenCreds::as_opener(self);
        while done < buf.len() {
            let rest = &buf[done..];
            // SAFETY: A live file and a readable buffer.
            let n = unsafe {
                c::lfs_write_cached(self.as_ptr(), rest.as_ptr().cast(), rest.len(), pos)
            };
            match usize::try_from(n) {
                Ok(0) => return Err(EIO),
                Ok(n) => done = (done + n).min(buf.len()),
                Err(_) => return Err(errno(n)),
            }
            pos = pos.checked_add(n as i64).ok_or(EFBIG)?;
        }
        Ok(())
    }

    /// `vfs_llseek()`. If the result depends on `f_pos` (SEEK_CUR, and always for directories), the
    /// caller excludes concurrent changes of `f_pos`.
    pub(crate) fn seek(&self, offset: i64, whence: c_int) -> Result<i64> {
        let _acting = OverriddenCreds::as_opener(self);
        // SAFETY: A live file.
        let pos = unsafe { c::vfs_llseek(self.as_ptr(), offset, whence) };
        if pos < 0 {
            return Err(errno(pos as isize));
        }
        Ok(pos)
    }

    /// The present position.
    pub(crate) fn position(&self) -> i64 {
        // SAFETY: A live file. Volatile, as READ_ONCE(): `f_pos_lock` is not held by every caller.
        unsafe { (&raw const (*self.as_ptr()).f_pos).read_volatile() }
    }

    /// Sets the position. Without `f_pos_lock`, concurrent calls set one position or the other.
    pub(crate) fn set_position(&self, pos: i64) {
        // SAFETY: A live file. Volatile, as WRITE_ONCE().
        unsafe { (&raw mut (*self.as_ptr()).f_pos).write_volatile(pos) };
    }

    /// `fallocate(2)`.
    pub(crate) fn allocate(
        &self,
        mount: &LowerMount,
        mode: c_int,
        offset: i64,
        length: i64,
    ) -> Result {
        let _acting = mount.credentials().as_mounter_for_caller()?;
        // SAFETY: A live file.
        to_result(unsafe { c::vfs_fallocate(self.as_ptr(), mode, offset, length) })
    }

    /// `->flush`, called by close(2): network filesystems write back there and report errors.
    pub(crate) fn flush(&self, id: &FileOwner) -> Result {
        let _acting = OverriddenCreds::as_opener(self);
        // SAFETY: A live file has a table.
        let hook = unsafe { (*(*self.as_ptr()).f_op).flush };
        match hook {
            // SAFETY: A live file, and the `fl_owner_t` that the VFS passed for this close.
            Some(hook) => to_result(unsafe { hook(self.as_ptr(), id.0) }),
            None => Ok(()),
        }
    }

    /// Passes an ioctl to the lower file's filesystem, with the caller's credentials. `ENOTTY`:
    /// unknown command.
    pub(crate) fn control(&self, command: c_uint, argument: usize) -> Result<c_long> {
        // SAFETY: A live file. The lower filesystem treats the argument as the caller's.
        let answer = unsafe { c::lfs_lower_ioctl(self.as_ptr(), command, argument) };
        if answer < 0 {
            return Err(errno(answer as isize));
        }
        Ok(answer)
    }

    /// vfs_fsync_range().
    pub(crate) fn sync(&self, start: i64, end: i64, data_only: bool) -> Result {
        let _acting = OverriddenCreds::as_opener(self);
        // SAFETY: A live file.
        to_result(unsafe { c::vfs_fsync_range(self.as_ptr(), start, end, c_int::from(data_only)) })
    }
}

/// The `fl_owner_t` of a close(2): the closing process's table of files.
pub(crate) struct FileOwner(c::fl_owner_t);

impl FileOwner {
    /// # Safety
    ///
    /// `id` is the argument of `->flush`, used within the call.
    pub(super) unsafe fn from_raw(id: c::fl_owner_t) -> Self {
        Self(id)
    }
}

/// The error of a negative `ssize_t`.
pub(crate) fn errno(value: isize) -> Error {
    Error::from_errno(c_int::try_from(value).unwrap_or(-(c::EIO as c_int)))
}
