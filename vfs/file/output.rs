// SPDX-License-Identifier: GPL-2.0

//! A file that the caller passes for output.

use super::{errno, File};
use crate::vfs::c;
use core::ptr::NonNull;
use kernel::{prelude::*, sync::aref::ARef};

/// A regular file of the caller's, of any filesystem, open for writing.
pub(crate) struct OutputFile(ARef<File>);

impl OutputFile {
    /// The file behind a descriptor of the calling process. `EBADF`: it is not open, or not for
    /// writing. `EINVAL`: it is no regular file, or each write goes to its end.
    pub(crate) fn of_descriptor(descriptor: c_uint) -> Result<Self> {
        // SAFETY: A running task has a task_struct.
        let task = unsafe { c::get_current() };
        // SAFETY: As above; only the task itself changes the pointer.
        if unsafe { (*task).files }.is_null() {
            // exit_files() has run.
            return Err(EBADF);
        }
        // SAFETY: The task has a table of files.
        let file = unsafe { c::fget(descriptor) };
        let file = NonNull::new(file.cast::<File>()).ok_or(EBADF)?;
        // SAFETY: fget() returns a live file with a reference, which is ours.
        let file = unsafe { ARef::from_raw(file) };
        if !file.is_writable() {
            return Err(EBADF);
        }
        let is_at_end = file.flags() & c::O_APPEND != 0;
        if !file.inode().is_regular() || is_at_end || !Self::has_kernel_write(&file) {
            return Err(EINVAL);
        }
        Ok(Self(file))
    }

    /// Whether kernel_write() works; for a file of procfs, for example, it would log a warning.
    fn has_kernel_write(file: &File) -> bool {
        // SAFETY: A live file has a table.
        let table = unsafe { (*file.as_ptr()).f_op };
        // SAFETY: As above; a table is constant.
        let table = unsafe { &*table };
        table.write.is_none() && table.write_iter.is_some()
    }

    /// Writes all of `buf` at `at`, as the caller's pwrite(2): with the caller's credentials and
    /// limits, and the checks of rw_verify_area(). The filesystem may wait for as long as it likes, so
    /// no lock is held.
    pub(crate) fn write_at(&self, buf: &[u8], at: u64) -> Result {
        let mut pos = i64::try_from(at).map_err(|_| EFBIG)?;
        let mut rest = buf;
        while !rest.is_empty() {
            // SAFETY: A live file that is open for writing, and a readable buffer.
            let n = unsafe {
                c::kernel_write(
                    self.0.as_ptr(),
                    rest.as_ptr().cast(),
                    rest.len(),
                    &raw mut pos,
                )
            };
            match usize::try_from(n) {
                Ok(0) => return Err(EIO),
                Ok(n) => rest = rest.get(n..).unwrap_or_default(),
                Err(_) => return Err(errno(n)),
            }
        }
        Ok(())
    }
}
