// SPDX-License-Identifier: GPL-2.0

//! Changes of file ranges without a buffer: splice, fallocate, copy, clone.

use super::Stack;
use crate::{
    backup::{ObjectOperation, PreImage},
    log::line::Op,
    record,
    state::SpaceRequest,
    vfs::{
        c,
        file::UpperFile,
        range::{self, Pipe},
        table::file::RangeHooks,
        task::resched_killable,
    },
};
use kernel::prelude::*;

/// Limit of one splice. The length is known only afterwards, so the whole possible range is
/// captured before. Callers of splice(2) accept a short count.
const SPLICE: usize = 256 * 1024;

impl RangeHooks for Stack {
    fn splice_read(
        file: &UpperFile,
        pos: &mut i64,
        pipe: &Pipe,
        length: usize,
        flags: u32,
    ) -> Result<usize> {
        let result = pipe.read_lower(file.lower(), pos, length, flags);
        file.accessed();
        result
    }

    fn splice_write(
        pipe: &Pipe,
        file: &UpperFile,
        pos: &mut i64,
        length: usize,
        flags: u32,
    ) -> Result<usize> {
        loop {
            // Without locks: the pipe may stay empty forever.
            pipe.wait(file, flags)?;
            match splice_once(pipe, file, pos, length, flags) {
                // Another reader has emptied the pipe.
                Err(e) if e == EAGAIN && flags & c::SPLICE_NONBLOCK == 0 => {}
                result => return result,
            }
            resched_killable()?;
        }
    }

    fn allocate(file: &UpperFile, mode: c_int, offset: i64, length: i64) -> Result {
        let inode = file.upper_inode();
        let lock = inode.lock_killable()?;
        inode.copy_attr_if_changed();
        file.remove_privileges(&lock)?;
        let at = u64::try_from(offset).map_err(|_| EINVAL)?;
        let count = u64::try_from(length).map_err(|_| EINVAL)?;
        // vfs_fallocate() has checked mode and range; i_rwsem is left to ->fallocate.
        let op = kind_of(mode);
        let end = at.saturating_add(count);
        let pre_image = match op {
            Op::Punch | Op::Zero => PreImage::Range(file.lower(), at, end),
            // All bytes after the offset move. The inverse fallocate would be cheaper than a
            // capture, but is not atomic on the lower filesystem: after a power cut only captured
            // bytes help.
            Op::Collapse | Op::Insert => PreImage::Range(file.lower(), at, inode.size()),
            _ => PreImage::Holes(file.lower(), at, end),
        };
        let pending = ObjectOperation {
            inode,
            open: Some(file.open()),
            op,
            at,
            length: count,
            pre_image,
            durable: inode.is_sync(),
            is_direct: false,
            call: None,
        }
        .prepare()?;
        let result = inode.mount().with_space(request(file, count), || {
            file.lower()
                .allocate(inode.mount().lower(), mode, offset, length)
        });
        pending.settle(result.map(|()| count));
        inode.copy_attr();
        result
    }

    fn copy(
        (from, at): (&UpperFile, i64),
        (to, pos): (&UpperFile, i64),
        length: usize,
        flags: u32,
    ) -> Result<usize> {
        // Bounds the capture; copy_file_range(2) may return a short count.
        let length = length.min(1 << 30);
        // vfs_copy_file_range() limits the next call by the upper `i_size`.
        from.upper_inode().copy_size();
        overwrite(to, Op::Copy, pos, length as u64, || {
            range::copy(
                to.upper_inode().mount().lower(),
                (from.lower(), at),
                (to.lower(), pos),
                length,
                flags,
            )
            .map(|n| n as u64)
        })
        .map(|n| n as usize)
    }

    fn remap(
        (from, at): (&UpperFile, i64),
        (to, pos): (&UpperFile, i64),
        length: i64,
        flags: u32,
    ) -> Result<i64> {
        let lower = || {
            range::remap(
                to.upper_inode().mount().lower(),
                (from.lower(), at),
                (to.lower(), pos),
                length,
                flags,
            )
        };
        // vfs_dedupe_file_range_one() has called may_dedupe_file() for the target.
        if range::is_dedupe(flags) {
            // Changes neither bytes nor times, but increments btrfs' change counter.
            let inode = to.upper_inode();
            let _lock = inode.lock_killable()?;
            record::load(inode)?;
            let result = lower();
            record::note_ctime_change(inode, to.dentry());
            return result;
        }
        let count = match u64::try_from(length).map_err(|_| EINVAL)? {
            // Length 0 means up to the source's end.
            0 => from
                .upper_inode()
                .lower()
                .size()
                .saturating_sub(at.unsigned_abs()),
            count => count,
        };
        let n = overwrite(to, Op::Clone, pos, count, || {
            lower().map(|n| n.unsigned_abs())
        })?;
        i64::try_from(n).map_err(|_| EIO)
    }

    fn advise(file: &UpperFile, offset: i64, length: i64, advice: c_int) -> Result {
        // vfs_fadvise() calls ->fadvise instead of generic_fadvise(): the readahead state is the
        // lower file's.
        range::advise(file.lower(), offset, length, advice)
    }
}

/// Moves available bytes from a pipe to a file; `EAGAIN` if the pipe is empty.
fn splice_once(
    pipe: &Pipe,
    file: &UpperFile,
    pos: &mut i64,
    length: usize,
    flags: u32,
) -> Result<usize> {
    let inode = file.upper_inode();
    let lock = inode.lock_killable()?;
    inode.copy_attr_if_changed();
    inode.refuse_immutable()?;
    file.remove_privileges(&lock)?;
    if file.flags() & c::O_APPEND != 0 {
        *pos = i64::try_from(inode.size()).map_err(|_| EFBIG)?;
    }
    let at = u64::try_from(*pos).map_err(|_| EINVAL)?;
    let length = length.min(SPLICE);
    let pending = ObjectOperation {
        inode,
        open: Some(file.open()),
        op: Op::Write,
        at,
        length: length as u64,
        pre_image: PreImage::Range(file.lower(), at, at.saturating_add(length as u64)),
        durable: inode.is_sync() || file.flags() & c::O_DSYNC != 0,
        is_direct: false,
        call: None,
    }
    .prepare()?;
    let result = inode.mount().with_space(request(file, length as u64), || {
        pipe.write_lower(file.lower(), pos, length, flags)
    });
    pending.settle(result.map(|n| n as u64));
    inode.copy_attr();
    result
}

/// The log operation of a fallocate(2) mode.
fn kind_of(mode: c_int) -> Op {
    if mode & c::FALLOC_PUNCH_HOLE != 0 {
        Op::Punch
    } else if mode & (c::FALLOC_ZERO_RANGE | c::FALLOC_WRITE_ZEROES) != 0 {
        Op::Zero
    } else if mode & c::FALLOC_COLLAPSE_RANGE != 0 {
        Op::Collapse
    } else if mode & c::FALLOC_INSERT_RANGE != 0 {
        Op::Insert
    } else {
        Op::Allocate
    }
}

/// A space request for `bytes` bytes of a file.
fn request(file: &UpperFile, bytes: u64) -> SpaceRequest<'_> {
    SpaceRequest::Object(file.lower().path_dentry(), bytes)
}

/// Changes `[pos, pos + length)` of a file by `lower`.
fn overwrite(
    to: &UpperFile,
    op: Op,
    pos: i64,
    length: u64,
    lower: impl FnMut() -> Result<u64>,
) -> Result<u64> {
    let inode = to.upper_inode();
    let lock = inode.lock_killable()?;
    inode.copy_attr_if_changed();
    inode.refuse_immutable()?;
    // The VFS leaves file_modified() to ->copy_file_range and ->remap_file_range.
    to.remove_privileges(&lock)?;
    let at = u64::try_from(pos).map_err(|_| EINVAL)?;
    let pending = ObjectOperation {
        inode,
        open: Some(to.open()),
        op,
        at,
        length,
        pre_image: PreImage::Range(to.lower(), at, at.saturating_add(length)),
        durable: inode.is_sync() || to.flags() & c::O_DSYNC != 0,
        is_direct: false,
        call: None,
    }
    .prepare()?;
    let result = inode.mount().with_space(request(to, length), lower);
    pending.settle(result);
    inode.copy_attr();
    result
}
