// SPDX-License-Identifier: GPL-2.0

//! Lower file operations on ranges: fallocate, copy, splice, holes, advice.

use super::error::{EDQUOT, EOPNOTSUPP};
use super::{
    c,
    cred::OverriddenCreds,
    file::{errno, File, UpperFile},
    inode::Inode,
    mount::LowerMount, //
};
use kernel::{error::to_result, prelude::*};

/// A run of data or a hole.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum DataOrHole {
    /// Data up to this offset.
    Data(u64),
    /// A hole up to this offset.
    Hole(u64),
}

/// Data or hole at `at`, up to `end` at most. Without SEEK_DATA support everything is data. Moves
/// the lower file's position, which no caller uses.
pub(crate) fn data_or_hole_at(lower: &File, at: u64, end: u64) -> DataOrHole {
    let Ok(from) = i64::try_from(at) else {
        return DataOrHole::Data(end);
    };
    let clip = |to: i64| u64::try_from(to).unwrap_or(end).clamp(at, end);
    match lower.seek(from, c::SEEK_DATA as c_int) {
        Ok(data) if data > from => DataOrHole::Hole(clip(data)),
        Ok(_) => match lower.seek(from, c::SEEK_HOLE as c_int) {
            Ok(hole) if hole > from => DataOrHole::Data(clip(hole)),
            _ => DataOrHole::Data(end),
        },
        Err(e) if e == ENXIO => DataOrHole::Hole(end),
        Err(_) => DataOrHole::Data(end),
    }
}

/// Drops clean pages of zeroes in `[start, end)` from the lower page cache; returns whether any was
/// dropped. Over unwritten extents they count as data for [`data_or_hole_at`] on ext4 and xfs.
pub(crate) fn drop_clean_zeroes(lower: &File, start: u64, end: u64) -> bool {
    let Ok(last) = i64::try_from(end) else {
        return false;
    };
    let mut any = false;
    let mut at = start;
    while at < end {
        let Some((from, to)) = lower.inode().clean_zeroes(at, last) else {
            break;
        };
        let length = to.saturating_sub(from);
        any |= advise(lower, from, length, c::POSIX_FADV_DONTNEED).is_ok();
        at = u64::try_from(to).map_or(end, |to| to.max(at.saturating_add(1)));
    }
    any
}

/// The number of extents in `[start, end)`, a range without data: unwritten or preallocated
/// extents. An error: the filesystem has no ->fiemap.
pub(crate) fn extents(lower: &Inode, start: u64, end: u64) -> Result<u64> {
    let length = end.saturating_sub(start);
    // SAFETY: A live inode.
    if unsafe { c::lfs_is_shmem(lower.as_ptr()) } {
        // SAFETY: A live inode; tmpfs has no extents but its pages.
        return Ok(unsafe { c::lfs_cached_runs(lower.as_ptr(), start, length) });
    }
    // SAFETY: A live inode whose lock is not held, since ->fiemap takes the lock.
    let count = unsafe { c::lfs_count_extents(lower.as_ptr(), start, length) };
    u64::try_from(count).map_err(|_| errno(count as isize))
}

/// Makes `[offset, offset + length)` an allocated, unwritten range, or a plain hole without space:
/// both read the same. `free` as for [`punch`].
pub(crate) fn reserve(
    mount: &LowerMount,
    lower: &File,
    offset: u64,
    length: u64,
    free: u64,
) -> Result {
    punch(mount, lower, offset, length, free)?;
    let start = i64::try_from(offset).map_err(|_| EFBIG)?;
    let count = i64::try_from(free).map_err(|_| EFBIG)?;
    match lower.allocate(mount, c::FALLOC_KEEP_SIZE, start, count) {
        Err(e) if e == ENOSPC || e == EDQUOT || e == EOPNOTSUPP => Ok(()),
        other => other,
    }
}

/// Makes `[offset, offset + length)` a hole, or writes zeroes if the filesystem lacks
/// FALLOC_FL_PUNCH_HOLE. `free`, at least `length`, is the length to punch: up to the end of a
/// block. The bytes between `length` and `free` are not used by the caller.
pub(crate) fn punch(
    mount: &LowerMount,
    lower: &File,
    offset: u64,
    length: u64,
    free: u64,
) -> Result {
    let start = i64::try_from(offset).map_err(|_| EFBIG)?;
    let count = i64::try_from(free).map_err(|_| EFBIG)?;
    let mode = c::FALLOC_PUNCH_HOLE | c::FALLOC_KEEP_SIZE;
    match lower.allocate(mount, mode, start, count) {
        Err(e) if e == EOPNOTSUPP => zero(lower, offset, length),
        other => other,
    }
}

fn zero(lower: &File, offset: u64, length: u64) -> Result {
    const ZEROES: [u8; 512] = [0; 512];
    let mut done = 0;
    while done < length {
        let n = (length - done).min(512);
        lower.write_at(&ZEROES[..n as usize], offset.saturating_add(done))?;
        done += n;
    }
    Ok(())
}

/// `copy_file_range(2)` between two lower files.
pub(crate) fn copy(
    mount: &LowerMount,
    (from, at): (&File, i64),
    (to, pos): (&File, i64),
    length: usize,
    flags: u32,
) -> Result<usize> {
    let _acting = mount.credentials().as_mounter_for_caller()?;
    // SAFETY: Two live files.
    let n = unsafe { c::vfs_copy_file_range(from.as_ptr(), at, to.as_ptr(), pos, length, flags) };
    usize::try_from(n).map_err(|_| errno(n))
}

/// FICLONE and FIDEDUPERANGE between two lower files.
pub(crate) fn remap(
    mount: &LowerMount,
    (from, at): (&File, i64),
    (to, pos): (&File, i64),
    length: i64,
    flags: u32,
) -> Result<i64> {
    // vfs_dedupe_file_range() has checked the caller's permission on the upper file.
    let _acting = mount.credentials().as_mounter_for_caller()?;
    let n = if is_dedupe(flags) {
        // SAFETY: Two live files.
        unsafe { c::vfs_dedupe_file_range_one(from.as_ptr(), at, to.as_ptr(), pos, length, flags) }
    } else {
        // SAFETY: Two live files.
        unsafe { c::vfs_clone_file_range(from.as_ptr(), at, to.as_ptr(), pos, length, flags) }
    };
    if n < 0 {
        return Err(errno(n as isize));
    }
    Ok(n)
}

/// Whether `->remap_file_range` was called for FIDEDUPERANGE.
pub(crate) fn is_dedupe(flags: u32) -> bool {
    flags & c::REMAP_DEDUP as u32 != 0
}

/// The pipe of a splice.
pub(crate) struct Pipe(*mut c::pipe_inode_info);

impl Pipe {
    /// # Safety
    ///
    /// `ptr` is the pipe that the VFS passed, used within the call.
    pub(super) unsafe fn from_raw(ptr: *mut c::pipe_inode_info) -> Self {
        Self(ptr)
    }

    /// Splices from the lower file into the pipe.
    pub(crate) fn read_lower(
        &self,
        lower: &File,
        pos: &mut i64,
        length: usize,
        flags: u32,
    ) -> Result<usize> {
        let _acting = OverriddenCreds::as_opener(lower);
        // SAFETY: A live file and pipe.
        let n = unsafe { c::vfs_splice_read(lower.as_ptr(), pos, self.0, length, flags) };
        usize::try_from(n).map_err(|_| errno(n))
    }

    /// Waits until the pipe has data for `file`, or has no writer. file_start_write() is undone for
    /// that time, so the caller may hold no lock.
    pub(crate) fn wait(&self, file: &UpperFile, flags: u32) -> Result {
        // SAFETY: A live pipe, and a file for which the VFS has called file_start_write(), as all
        // callers of ->splice_write do.
        to_result(unsafe { c::lfs_wait_for_pipe(self.0, file.as_ptr(), flags) })
    }

    /// Splices from the pipe into the lower file; `EAGAIN` if the pipe is empty.
    pub(crate) fn write_lower(
        &self,
        lower: &File,
        pos: &mut i64,
        length: usize,
        flags: u32,
    ) -> Result<usize> {
        let flags = flags | c::SPLICE_NONBLOCK;
        // SAFETY: A live file and pipe.
        let n = unsafe { c::lfs_splice_write(lower.as_ptr(), self.0, pos, length, flags) };
        usize::try_from(n).map_err(|_| errno(n))
    }
}

/// `posix_fadvise(2)` on the lower file.
pub(crate) fn advise(lower: &File, offset: i64, length: i64, advice: c_int) -> Result {
    let _acting = OverriddenCreds::as_opener(lower);
    // SAFETY: A live file.
    to_result(unsafe { c::vfs_fadvise(lower.as_ptr(), offset, length, advice) })
}
