// SPDX-License-Identifier: GPL-2.0

//! Open regular files: open, read, write, seek, fsync, close.

use super::{Open, Payer, Stack};
use crate::{
    backup::{self, ObjectOperation, PreImage},
    history::{
        journal::is_no_room,
        line::Op, //
    },
    vfs::{
        c,
        dentry::OwnDentry,
        file::{Bytes, Call, OwnFile},
        table::file::FileHooks,
        task::breathe, //
    }, //
};
use core::cell::Cell;
use kernel::prelude::*;

/// Flags of an open call that are settled above the lower file: by the VFS, or at each call.
const SETTLED: u32 =
    c::O_CREAT | c::O_EXCL | c::O_NOCTTY | c::O_TRUNC | c::O_APPEND | c::O_ACCMODE | c::FASYNC;

/// The lower file's flags. What writes must also read: to save what it replaces. That must not count
/// as an access, so the lower file has O_NOATIME, and [`OwnFile::accessed`] notes a program's reads.
pub(super) fn lower_flags(file: &OwnFile) -> u32 {
    let access = if file.is_writable() {
        c::O_RDWR
    } else {
        c::O_RDONLY
    };
    (file.flags() & !SETTLED) | access | c::O_LARGEFILE | c::O_NOATIME
}

/// How many bytes of a write are faulted in before it, at most: they may be more than there is memory.
const WINDOW: usize = 64 << 20;

/// And at least, where they go as fast as they come.
const LEAST: usize = 4096;

impl FileHooks for Stack {
    fn open(file: &OwnFile) -> Result {
        let inode = file.own_inode();
        let mount = inode.mount();
        let lower = file.open_lower(mount.lower(), file.dentry().lower()?, lower_flags(file))?;
        if file.is_writable() {
            backup::load_to_open(inode)?;
        }
        file.opened(lower, Open::new())?;
        if file.is_writable() {
            inode.object().writer_came();
            if inode.lower().superblock().stack_depth() > 0 {
                // A stacked filesystem opens another file in turn, which may wait for a listener of
                // fanotify: too late in ->mmap. What fails here is tried again there.
                let _ = file.map_file();
            }
        }
        inode.refresh_if_changed();
        Ok(())
    }

    fn release(file: &OwnFile) {
        let inode = file.own_inode();
        if file.is_writable() && inode.object().writer_left() {
            backup::write_close(inode, file.dentry());
        }
    }

    fn flush(file: &OwnFile, id: c::fl_owner_t) -> Result {
        file.lower().flush(id)
    }

    fn seek(file: &OwnFile, offset: i64, whence: c_int) -> Result<i64> {
        // As ovl_llseek(), the lower filesystem is not asked for what it has no part in.
        let (offset, whence) = match (offset, whence as u32) {
            (0, c::SEEK_CUR) => return Ok(file.position()),
            (0, c::SEEK_SET) => return file.seek_to(0),
            // From here on the lower file's position is of no matter, only ours is.
            (offset, c::SEEK_CUR) => {
                let to = file.position().checked_add(offset).ok_or(EINVAL)?;
                (to, c::SEEK_SET as c_int)
            }
            _ => (offset, whence),
        };
        // Only the lower filesystem knows holes and its own limits. No lock of our inode, which
        // writers hold while they save: the lower filesystem takes its own where it needs one, and
        // the VFS has the position's lock where several threads share the file.
        let position = file.lower().seek(offset, whence)?;
        file.set_position(position);
        file.own_inode().refresh_size();
        Ok(position)
    }

    fn read(call: &mut Call, bytes: &mut Bytes) -> Result<usize> {
        let lower = call.lower_file();
        // io_uring asks for it also where the VFS would not: O_NONBLOCK with O_DIRECT.
        if call.no_wait() && !lower.has_no_wait() {
            return Err(EAGAIN);
        }
        call.refuse_dontcache(lower)?;
        call.read_lower(lower, bytes)
    }

    fn write(call: &mut Call, bytes: &mut Bytes) -> Result<usize> {
        // To save what is overwritten may wait. Callers of RWF_NOWAIT write again without it.
        if call.no_wait() {
            return Err(EAGAIN);
        }
        let lower = call.lower_file();
        call.refuse_dontcache(lower)?;
        if call.own_file().own_inode().mount().journal().is_none() {
            return write_unrecorded(call, bytes);
        }
        // With nothing held: a page of FUSE or userfaultfd may never come.
        let there = call.fault_in(bytes, WINDOW)?;
        if there == 0 {
            return write_once(call, bytes);
        }
        let result = if there < WINDOW.min(bytes.left()) {
            write_first(call, bytes, there)
        } else {
            write_once(call, bytes)
        };
        match result {
            Ok(done) if done != 0 && bytes.left() != 0 => write_rest(call, bytes, done),
            Err(e) if e == EFAULT => write_rest(call, bytes, 0),
            whole => whole,
        }
    }

    fn sync(file: &OwnFile, start: i64, end: i64, data_only: bool) -> Result {
        sync(file.dentry(), || file.lower().sync(start, end, data_only))
    }
}

/// Goes on with a write that ended for want of a page, or for another reason, behind `done` bytes.
#[cold]
fn write_rest(call: &mut Call, bytes: &mut Bytes, mut done: usize) -> Result<usize> {
    let mut window = WINDOW;
    let ended = loop {
        if let Err(e) = breathe() {
            break e;
        }
        let there = match call.fault_in(bytes, window) {
            Ok(there) => there,
            Err(e) => break e,
        };
        match write_first(call, bytes, there) {
            Ok(n) => {
                done = done.saturating_add(n);
                if n == 0 || bytes.left() == 0 {
                    return Ok(done);
                }
            }
            // The first page is gone again.
            Err(e) if e == EFAULT => window = (window / 4).max(LEAST),
            Err(e) => break e,
        }
    };
    if done == 0 {
        Err(ended)
    } else {
        Ok(done)
    }
}

/// Writes the first `count` bytes, which are in memory. Some filesystems (btrfs) refuse a whole piece of which
/// any byte is missing, so they are not shown more.
fn write_first(call: &mut Call, bytes: &mut Bytes, count: usize) -> Result<usize> {
    bytes.with_first(count, |bytes| write_once(call, bytes))
}

/// A write of a mount without a history. It waits for the caller's pages under our inode's lock, as the lower
/// filesystem's own write does under its: only this file's other users wait with it.
fn write_unrecorded(call: &mut Call, bytes: &mut Bytes) -> Result<usize> {
    let lower = call.lower_file();
    let inode = call.own_file().own_inode();
    let _lock = inode.lock_killable()?;
    if prepare_write(call, bytes)? == 0 {
        return Ok(0);
    }
    let result = call.write_lower_waiting(lower, bytes);
    inode.refresh_after_write();
    result
}

/// Settles position and length of a write, and removes set-id bits and capabilities, as
/// file_remove_privs() does.
/// Answers how many bytes may be written. Our inode's lock is held.
#[inline(always)]
fn prepare_write(call: &mut Call, bytes: &mut Bytes) -> Result<usize> {
    let file = call.own_file();
    let inode = file.own_inode();
    inode.refresh_if_changed();
    inode.refuse_immutable()?;
    let length = call.check_write(bytes)?;
    if length != 0 {
        file.remove_privileges()?;
    }
    Ok(length)
}

/// One write, as far as the caller's pages are there. `EFAULT`: the first one is not.
#[inline]
fn write_once(call: &mut Call, bytes: &mut Bytes) -> Result<usize> {
    let lower = call.lower_file();
    let file = call.own_file();
    let inode = file.own_inode();
    let _lock = inode.lock_killable()?;
    let length = prepare_write(call, bytes)?;
    if length == 0 {
        return Ok(0);
    }
    let at = call.position();
    let result = ObjectOperation {
        inode,
        open: Some(file.open()),
        op: Op::Write,
        at,
        length: length as u64,
        pre_image: PreImage::Range(lower, at, at.saturating_add(length as u64)),
        durable: call.is_durable() || inode.is_sync(),
        is_direct: call.is_direct(),
    }
    .around(|| match call.write_lower(lower, bytes) {
        // What was taken of the bytes is not to be written twice.
        Err(e) if is_no_room(e) && bytes.left() == length => write_again(call, bytes),
        result => result,
    });
    inode.refresh_after_write();
    result
}

/// Makes the history durable, then the file, by what `lower` does.
pub(super) fn sync(dentry: &OwnDentry, lower: impl FnOnce() -> Result) -> Result {
    let inode = dentry.existing()?;
    let mount = inode.mount();
    if inode.is_regular() {
        backup::write_close(inode, dentry);
    }
    // Also while no more is recorded: what was is part of what the caller wants durable.
    if let Some(journal) = mount.any_journal() {
        mount.flush_killable(journal)?;
    }
    lower()
}

/// Writes what found no room, as long as there is something to give up for it.
#[cold]
fn write_again(call: &mut Call, bytes: &mut Bytes) -> Result<usize> {
    let lower = call.lower_file();
    let mount = call.own_file().own_inode().mount();
    let length = bytes.left();
    let is_whole = Cell::new(true);
    let again = || is_whole.get();
    let payer = Payer::Object(lower.lower_dentry(), length as u64);
    mount.with_room_if(again, payer, || {
        let result = call.write_lower(lower, bytes);
        is_whole.set(bytes.left() == length);
        result
    })
}
