// SPDX-License-Identifier: GPL-2.0

//! Read and write calls on upper files.

use super::{errno, File, UpperFile};
use crate::vfs::{c, error::EOPNOTSUPP};
use core::{marker::PhantomData, ops::Deref};
use kernel::{prelude::*, types::Opaque};

/// A struct kiocb: one read or write call. `'a` is the time of the VFS's call, during which the VFS
/// keeps the file open.
///
/// # Invariants
///
/// `ki_filp` is an upper file for `'a`.
#[repr(transparent)]
pub(crate) struct Kiocb<'a>(Opaque<c::kiocb>, PhantomData<&'a UpperFile>);

impl<'a> Kiocb<'a> {
    /// # Safety
    ///
    /// `ptr` is a live kiocb on a file of ours, for `'a`, used by this thread only.
    pub(in crate::vfs) unsafe fn from_raw<'b>(ptr: *mut c::kiocb) -> &'b mut Self
    where
        'a: 'b,
    {
        // SAFETY: A transparent wrapper; the caller guarantees the rest.
        unsafe { &mut *ptr.cast() }
    }

    fn as_ptr(&self) -> *mut c::kiocb {
        self.0.get()
    }

    /// The upper file.
    pub(crate) fn upper_file(&self) -> &'a UpperFile {
        // SAFETY: A live call has a file.
        let file = unsafe { (*self.as_ptr()).ki_filp };
        // SAFETY: By the type invariant.
        unsafe { UpperFile::from_raw(file) }
    }

    /// The lower file.
    pub(crate) fn lower_file(&self) -> &'a File {
        self.upper_file().lower()
    }

    fn flags(&self) -> c_int {
        // SAFETY: A live call.
        unsafe { (*self.as_ptr()).ki_flags }
    }

    fn has(&self, flag: c_uint) -> bool {
        self.flags() as c_uint & flag != 0
    }

    /// Whether the call has IOCB_NOWAIT.
    pub(crate) fn no_wait(&self) -> bool {
        self.has(c::IOCB_NOWAIT)
    }

    /// Refuses RWF_DONTCACHE where the lower filesystem lacks FOP_DONTCACHE: kiocb_set_rw_flags()
    /// has checked the upper table only.
    pub(crate) fn refuse_dontcache(&self, lower: &File) -> Result {
        // SAFETY: A live file.
        if self.has(c::IOCB_DONTCACHE) && !unsafe { c::lfs_has_dontcache(lower.as_ptr()) } {
            return Err(EOPNOTSUPP);
        }
        Ok(())
    }

    /// Whether the call bypasses the page cache.
    pub(crate) fn is_direct(&self) -> bool {
        self.has(c::IOCB_DIRECT)
    }

    /// Whether the written data is durable when the call returns, or bypasses the page cache.
    pub(crate) fn is_durable(&self) -> bool {
        self.has(c::IOCB_DSYNC | c::IOCB_SYNC | c::IOCB_DIRECT)
    }

    /// `ki_pos`; for O_APPEND only valid after [`WriteCall::check_write`].
    pub(crate) fn position(&self) -> u64 {
        // SAFETY: A live call.
        u64::try_from(unsafe { (*self.as_ptr()).ki_pos }).unwrap_or(0)
    }

    /// Reads from the lower file, then calls [`UpperFile::accessed`].
    pub(crate) fn read_lower(&mut self, lower: &File, bytes: &mut IovIter) -> Result<usize> {
        // SAFETY: All are live; the call is synchronous.
        let n = unsafe { c::lfs_read(self.as_ptr(), lower.as_ptr(), bytes.as_ptr()) };
        usize::try_from(n).map_err(|_| errno(n))
    }
}

/// A [`Kiocb`] of a write.
///
/// # Invariants
///
/// As for [`Kiocb`]; and the VFS has taken write access to the superblock (file_start_write() or
/// kiocb_start_write()).
#[repr(transparent)]
pub(crate) struct WriteCall<'a>(Kiocb<'a>);

impl<'a> Deref for WriteCall<'a> {
    type Target = Kiocb<'a>;

    fn deref(&self) -> &Kiocb<'a> {
        &self.0
    }
}

impl<'a> WriteCall<'a> {
    /// # Safety
    ///
    /// As for [`Kiocb::from_raw`]; and `ptr` is the argument of `->write_iter`.
    pub(in crate::vfs) unsafe fn from_raw<'b>(ptr: *mut c::kiocb) -> &'b mut Self
    where
        'a: 'b,
    {
        // SAFETY: A transparent wrapper; the caller guarantees the rest.
        unsafe { &mut *ptr.cast() }
    }

    /// generic_write_checks(): position for O_APPEND, and limits. The upper inode is locked.
    /// Returns the number of bytes that may be written.
    pub(crate) fn check_write(&mut self, bytes: &mut IovIter) -> Result<usize> {
        // SAFETY: A live call and iterator; the inode is locked and its size fresh.
        let n = unsafe { c::generic_write_checks(self.as_ptr(), bytes.as_ptr()) };
        usize::try_from(n).map_err(|_| errno(n))
    }

    /// Faults in the first bytes of a write, up to `window` of them and at least one.
    /// file_start_write() is undone for that time, so the caller may hold no lock. Returns how many
    /// bytes are resident; 0 when no fault-in is necessary: a direct write, or memory of the
    /// kernel.
    #[inline]
    pub(crate) fn fault_in(&mut self, bytes: &mut IovIter, window: usize) -> Result<usize> {
        // SAFETY: A live call, for which the VFS has taken write access by the type invariant, and its
        // memory.
        let found = unsafe { c::lfs_fault_in(self.as_ptr(), bytes.as_ptr(), window) };
        usize::try_from(found).map_err(|_| errno(found))
    }

    /// Writes to the lower file at the position that [`Self::check_write`] has set. A buffered
    /// write is short where a page of the caller's memory is not resident.
    pub(crate) fn write_lower(&mut self, lower: &File, bytes: &mut IovIter) -> Result<usize> {
        // SAFETY: All are live; the call is synchronous.
        let n = unsafe { c::lfs_write(self.as_ptr(), lower.as_ptr(), bytes.as_ptr(), false) };
        usize::try_from(n).map_err(|_| errno(n))
    }

    /// As [`Self::write_lower`], but waits for the caller's pages. No journal reservation is held.
    pub(crate) fn write_lower_waiting(
        &mut self,
        lower: &File,
        bytes: &mut IovIter,
    ) -> Result<usize> {
        // SAFETY: All are live; the call is synchronous.
        let n = unsafe { c::lfs_write(self.as_ptr(), lower.as_ptr(), bytes.as_ptr(), true) };
        usize::try_from(n).map_err(|_| errno(n))
    }
}

/// The caller's buffers.
#[repr(transparent)]
pub(crate) struct IovIter(Opaque<c::iov_iter>);

impl IovIter {
    /// # Safety
    ///
    /// `ptr` is a live iterator for `'a`, used by this thread only.
    pub(in crate::vfs) unsafe fn from_raw<'a>(ptr: *mut c::iov_iter) -> &'a mut Self {
        // SAFETY: A transparent wrapper; the caller guarantees the rest.
        unsafe { &mut *ptr.cast() }
    }

    fn as_ptr(&self) -> *mut c::iov_iter {
        self.0.get()
    }

    /// Calls `f` with the iterator truncated to `count` bytes.
    pub(crate) fn with_first<T>(&mut self, count: usize, f: impl FnOnce(&mut Self) -> T) -> T {
        // SAFETY: A live iterator.
        let cut = unsafe { c::lfs_bytes_cut(self.as_ptr(), count) };
        let answer = f(self);
        // SAFETY: As above; as many bytes were cut off.
        unsafe { c::lfs_bytes_uncut(self.as_ptr(), cut) };
        answer
    }

    /// iov_iter_count().
    pub(crate) fn left(&self) -> usize {
        // SAFETY: A live iterator.
        unsafe { c::lfs_bytes_left(self.as_ptr()) }
    }
}
