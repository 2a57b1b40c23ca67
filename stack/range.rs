// SPDX-License-Identifier: GPL-2.0

//! Ranges changed without a buffer: splice, fallocate, copy, clone.

use super::{Payer, Stack};
use crate::{
    backup::{self, ObjectOperation, PreImage},
    history::line::Op,
    vfs::{
        c,
        file::OwnFile,
        range::{self, Pipe},
        table::file::RangeHooks,
        task::breathe, //
    }, //
};
use kernel::prelude::*;

/// The most that one splice moves: its length is known only after it, so all of what it might
/// overwrite is saved before. A shorter answer is what callers of splice expect.
const SPLICE: usize = 256 * 1024;

impl RangeHooks for Stack {
    fn splice_read(
        file: &OwnFile,
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
        file: &OwnFile,
        pos: &mut i64,
        length: usize,
        flags: u32,
    ) -> Result<usize> {
        loop {
            // With nothing held: it may stay empty for ever.
            pipe.wait(file, flags)?;
            match splice_once(pipe, file, pos, length, flags) {
                // Another reader of the pipe came first.
                Err(e) if e == EAGAIN && flags & c::SPLICE_NONBLOCK == 0 => {}
                result => return result,
            }
            breathe()?;
        }
    }

    fn allocate(file: &OwnFile, mode: c_int, offset: i64, length: i64) -> Result {
        let inode = file.own_inode();
        let _lock = inode.lock_killable()?;
        inode.refresh_if_changed();
        file.remove_privileges()?;
        let at = u64::try_from(offset).map_err(|_| EINVAL)?;
        let count = u64::try_from(length).map_err(|_| EINVAL)?;
        let op = kind_of(mode);
        let end = at.saturating_add(count);
        let pre_image = match op {
            Op::Punch | Op::Zero => PreImage::Range(file.lower(), at, end),
            // Everything behind moves. The inverse call would cost less than saving that, but it is
            // not atomic below: a power cut may leave it half done, and then only bytes help.
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
        }
        .prepare()?;
        let result = inode.mount().with_room(payer(file, count), || {
            file.lower()
                .allocate(inode.mount().lower(), mode, offset, length)
        });
        pending.settle(result.map(|()| count));
        inode.refresh();
        result
    }

    fn copy(
        (from, at): (&OwnFile, i64),
        (to, pos): (&OwnFile, i64),
        length: usize,
        flags: u32,
    ) -> Result<usize> {
        // Bounded, so that what is saved before is bounded too; callers go on.
        let length = length.min(1 << 30);
        // The VFS stops at the size that it knows of when it is called again.
        from.own_inode().refresh_size();
        overwrite(to, Op::Copy, pos, length as u64, || {
            range::copy(
                to.own_inode().mount().lower(),
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
        (from, at): (&OwnFile, i64),
        (to, pos): (&OwnFile, i64),
        length: i64,
        flags: u32,
    ) -> Result<i64> {
        let lower = || {
            range::remap(
                to.own_inode().mount().lower(),
                (from.lower(), at),
                (to.lower(), pos),
                length,
                flags,
            )
        };
        if range::is_dedupe(flags) {
            // Changes no byte and no time, but btrfs counts the version up.
            let inode = to.own_inode();
            let _lock = inode.lock_killable()?;
            backup::load(inode)?;
            let result = lower();
            backup::note_ctime_change(inode, to.dentry());
            return result;
        }
        let count = match u64::try_from(length).map_err(|_| EINVAL)? {
            // To the source's end.
            0 => from
                .own_inode()
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

    fn advise(file: &OwnFile, offset: i64, length: i64, advice: c_int) -> Result {
        range::advise(file.lower(), offset, length, advice)
    }
}

/// Moves what a pipe has to a file; `EAGAIN`: it has nothing.
fn splice_once(
    pipe: &Pipe,
    file: &OwnFile,
    pos: &mut i64,
    length: usize,
    flags: u32,
) -> Result<usize> {
    let inode = file.own_inode();
    let _lock = inode.lock_killable()?;
    inode.refresh_if_changed();
    inode.refuse_immutable()?;
    file.remove_privileges()?;
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
    }
    .prepare()?;
    let result = inode.mount().with_room(payer(file, length as u64), || {
        pipe.write_lower(file.lower(), pos, length, flags)
    });
    pending.settle(result.map(|n| n as u64));
    inode.refresh();
    result
}

/// What a mode of fallocate(2) is called in the log.
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

/// Who pays for so many bytes of a file.
fn payer(file: &OwnFile, bytes: u64) -> Payer<'_> {
    Payer::Object(file.lower().lower_dentry(), bytes)
}

/// A change of `[pos, pos + length)` of a file by other means than a buffer.
fn overwrite(
    to: &OwnFile,
    op: Op,
    pos: i64,
    length: u64,
    lower: impl FnMut() -> Result<u64>,
) -> Result<u64> {
    let inode = to.own_inode();
    let _lock = inode.lock_killable()?;
    inode.refresh_if_changed();
    inode.refuse_immutable()?;
    to.remove_privileges()?;
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
    }
    .prepare()?;
    let result = inode.mount().with_room(payer(to, length), lower);
    pending.settle(result);
    inode.refresh();
    result
}
