// SPDX-License-Identifier: GPL-2.0

//! Open files of the history.

use kernel::{
    error::to_result,
    prelude::*, //
};

use super::FileStat;
use crate::vfs::{c, error::ENODATA, scope::KernelCreds};

/// An open regular file, or a directory open for reading.
///
/// # Invariants
///
/// `file` is an open file with an owned reference.
pub(crate) struct StoreFile {
    file: *mut c::file,
}

// SAFETY: A reference to a file may be used and dropped from any thread.
unsafe impl Send for StoreFile {}
// SAFETY: All methods give positions themselves and may be called concurrently.
unsafe impl Sync for StoreFile {}

impl StoreFile {
    /// Takes ownership of a reference.
    ///
    /// # Safety
    ///
    /// `file` must be an open file whose reference passes to the result.
    pub(super) unsafe fn from_raw(file: *mut c::file) -> Self {
        // INVARIANT: Guaranteed by the caller.
        Self { file }
    }

    /// The raw pointer, valid as long as `self`.
    pub(super) fn as_ptr(&self) -> *mut c::file {
        self.file
    }

    /// The file's attributes.
    pub(crate) fn stat(&self) -> FileStat {
        // SAFETY: By the type invariants the file is open and holds its inode.
        unsafe { FileStat::of((*self.file).f_inode) }
    }

    /// Its size in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.stat().size
    }

    /// Reads from `at` until `buf` is full or the file ends; returns the number of bytes.
    pub(crate) fn read_at(&self, buf: &mut [u8], at: u64) -> Result<usize> {
        let _kernel = KernelCreds::new();
        let mut at = position(at)?;
        let mut done = 0usize;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let (to, len) = (rest.as_mut_ptr().cast(), rest.len());
            // SAFETY: The file is open by the type invariants, `rest` is writable.
            let n = unsafe { c::kernel_read(self.file, to, len, &mut at) };
            match usize::try_from(n) {
                Ok(0) => break,
                Ok(n) => done = done.saturating_add(n),
                Err(_) => return Err(errno(n)),
            }
        }
        Ok(done)
    }

    /// Reads exactly `buf.len()` bytes; `ENODATA` at the file's end.
    pub(crate) fn read_exact_at(&self, buf: &mut [u8], at: u64) -> Result {
        let wanted = buf.len();
        if self.read_at(buf, at)? < wanted {
            return Err(ENODATA);
        }
        Ok(())
    }

    /// Writes all of `bytes` at `at`.
    pub(crate) fn write_at(&self, bytes: &[u8], at: u64) -> Result {
        let _kernel = KernelCreds::new();
        let mut at = position(at)?;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (from, len) = (rest.as_ptr().cast(), rest.len());
            // SAFETY: The file is open by the type invariants, `rest` is readable.
            let n = unsafe { c::kernel_write(self.file, from, len, &mut at) };
            match usize::try_from(n) {
                Ok(0) => return Err(EIO),
                Ok(n) => rest = rest.get(n..).unwrap_or_default(),
                Err(_) => return Err(errno(n)),
            }
        }
        Ok(())
    }

    /// Makes content and size durable (fsync).
    pub(crate) fn sync(&self) -> Result {
        let _kernel = KernelCreds::new();
        // SAFETY: The file is open by the type invariants.
        to_result(unsafe { c::vfs_fsync(self.file, 0) })
    }

    /// Allocates blocks of `[start, end)` and extends the file to `end`.
    pub(crate) fn allocate(&self, start: u64, end: u64) -> Result {
        let _kernel = KernelCreds::new();
        let length = position(end.saturating_sub(start))?;
        let start = position(start)?;
        // SAFETY: The file is open for writing by the type invariants.
        to_result(unsafe { c::vfs_fallocate(self.file, 0, start, length) })
    }

    /// Sets the file's size.
    pub(crate) fn truncate(&self, size: u64) -> Result {
        let _kernel = KernelCreds::new();
        let size = position(size)?;
        // SAFETY: The file is open by the type invariants; its path lives as long.
        to_result(unsafe { c::vfs_truncate(&(*self.file).__bindgen_anon_1.f_path, size) })
    }

    /// inode_lock() of the file's inode.
    pub(super) fn lock_inode(&self) -> InodeLock<'_> {
        // SAFETY: By the type invariants the file is open and holds its inode.
        unsafe { c::lfs_inode_lock((*self.file).f_inode) };
        InodeLock(self)
    }

    /// flock(LOCK_EX | LOCK_NB) until the file is closed. `EBUSY`: locked by another mount.
    pub(crate) fn claim(&self) -> Result {
        // SAFETY: The file is open by the type invariants.
        match to_result(unsafe { c::lfs_store_lock_file(self.file) }) {
            Err(e) if e == EAGAIN => Err(EBUSY),
            result => result,
        }
    }
}

/// Write lock of the file's inode.
pub(super) struct InodeLock<'a>(&'a StoreFile);

impl Drop for InodeLock<'_> {
    fn drop(&mut self) {
        // SAFETY: Locked by `StoreFile::lock_inode`.
        unsafe { c::lfs_inode_unlock((*self.0.file).f_inode) };
    }
}

impl Drop for StoreFile {
    fn drop(&mut self) {
        // Synchronous: a delayed fput() would keep the lower filesystem busy after the unmount.
        // SAFETY: By the type invariants a reference is owned; only lower locks are taken.
        unsafe { c::__fput_sync(self.file) };
    }
}

/// A byte position as `loff_t`.
pub(super) fn position(at: u64) -> Result<c::loff_t> {
    c::loff_t::try_from(at).map_err(|_| EFBIG)
}

/// The error of a negative count.
fn errno(n: isize) -> Error {
    Error::from_errno(c_int::try_from(n).unwrap_or(-5))
}
