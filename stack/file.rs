// SPDX-License-Identifier: GPL-2.0

//! Open regular files: open, read, write, seek, fsync, close.

use super::Stack;
use crate::{
    backup::{CallLines, ObjectOperation, PreImage},
    history::journal::is_no_space,
    log::line::Op,
    record,
    state::{OpenFileState, SpaceRequest},
    vfs::{
        c,
        dentry::UpperDentry,
        file::{FileOwner, IovIter, Kiocb, OpeningFile, UpperFile, WriteCall},
        lock::InodeGuard,
        table::file::FileHooks,
        task::resched_killable,
    },
};
use core::cell::Cell;
use kernel::prelude::*;

/// OpenFileState flags that the VFS or the upper hooks have handled already.
const SETTLED: u32 =
    c::O_CREAT | c::O_EXCL | c::O_NOCTTY | c::O_TRUNC | c::O_APPEND | c::O_ACCMODE | c::FASYNC;

/// The lower file's open flags, for those of the upper file. A writable lower file is also readable, since the bytes to be
/// overwritten are captured first. The lower file has O_NOATIME, so that this read does not set the
/// access time; [`UpperFile::accessed`] does for reads by programs.
pub(super) fn lower_flags(flags: u32, is_writable: bool) -> u32 {
    let access = if is_writable { c::O_RDWR } else { c::O_RDONLY };
    (flags & !SETTLED) | access | c::O_LARGEFILE | c::O_NOATIME
}

/// Upper limit of bytes that are faulted in before a write: the caller's buffer may exceed the
/// memory.
const WINDOW: usize = 64 << 20;

/// Lower limit, for a buffer whose pages are reclaimed as fast as they are faulted in.
const LEAST: usize = 4096;

impl FileHooks for Stack {
    fn open(file: OpeningFile<'_>) -> Result {
        let inode = file.upper_inode();
        let mount = inode.mount();
        // may_open() has checked permissions on the upper inode, and do_dentry_open() has taken the
        // upper i_writecount. Opening the lower file takes the lower one.
        let flags = lower_flags(file.flags(), file.is_writable());
        let lower = file.open_lower(mount.lower(), file.dentry().lower()?, flags)?;
        if file.is_writable() {
            record::load_to_open(inode)?;
        }
        let file = file.opened(lower, OpenFileState::new())?;
        if file.is_writable() {
            inode.object().writer_came();
            if inode.lower().superblock().stack_depth() > 0 {
                // A stacked filesystem opens its own lower file, and that open may wait for a
                // fanotify listener, which ->mmap (under mmap_lock) must not. So the file is opened
                // here; an error is ignored, since ->mmap tries again.
                let _ = file.mmap_lower_file();
            }
        }
        inode.copy_attr_if_changed();
        Ok(())
    }

    fn release(file: &UpperFile) {
        let inode = file.upper_inode();
        // ->release is called once, by the last fput(), and has no error to return.
        if file.is_writable() && inode.object().writer_left() {
            record::write_close(inode, file.dentry());
        }
    }

    fn flush(file: &UpperFile, owner: &FileOwner) -> Result {
        file.lower().flush(owner)
    }

    fn seek(file: &UpperFile, offset: i64, whence: c_int) -> Result<i64> {
        // As in ovl_llseek(), SEEK_CUR and position 0 need no call of the lower ->llseek.
        let (offset, whence) = match (offset, whence as u32) {
            (0, c::SEEK_CUR) => return Ok(file.position()),
            (0, c::SEEK_SET) => return file.seek_to(0),
            // From here on `f_pos` of the upper file counts, not the lower file's.
            (offset, c::SEEK_CUR) => {
                let to = file.position().checked_add(offset).ok_or(EINVAL)?;
                (to, c::SEEK_SET as c_int)
            }
            _ => (offset, whence),
        };
        // Only the lower filesystem knows holes and its own limits. Without the upper inode's lock,
        // which writers hold during captures: the lower ->llseek locks as needed, and the VFS holds
        // `f_pos_lock` where several threads share the file.
        let position = file.lower().seek(offset, whence)?;
        file.set_position(position);
        file.upper_inode().copy_size();
        Ok(position)
    }

    fn read(call: &mut Kiocb<'_>, bytes: &mut IovIter) -> Result<usize> {
        let lower = call.lower_file();
        // io_uring sets IOCB_NOWAIT also for O_NONBLOCK with O_DIRECT, where kiocb_set_rw_flags()
        // would return EOPNOTSUPP.
        if call.no_wait() && !lower.has_no_wait() {
            return Err(EAGAIN);
        }
        call.refuse_dontcache(lower)?;
        call.read_lower(lower, bytes)
    }

    fn write(call: &mut WriteCall<'_>, bytes: &mut IovIter) -> Result<usize> {
        // Capturing the overwritten bytes may block. Callers repeat the write without RWF_NOWAIT.
        if call.no_wait() {
            return Err(EAGAIN);
        }
        let lower = call.lower_file();
        call.refuse_dontcache(lower)?;
        // vfs_write() holds file_start_write() of the upper superblock, but no i_rwsem.
        if call.upper_file().upper_inode().mount().journal().is_none() {
            return write_unrecorded(call, bytes);
        }
        // No lock is held: a page fault on FUSE or userfaultfd may block forever.
        let there = call.fault_in(bytes, WINDOW)?;
        let lines = CallLines::default();
        if there == 0 {
            return write_once(call, bytes, &lines);
        }
        let result = if there < WINDOW.min(bytes.left()) {
            write_first(call, bytes, there, &lines)
        } else {
            write_once(call, bytes, &lines)
        };
        match result {
            Ok(done) if done != 0 && bytes.left() != 0 => write_rest(call, bytes, done, &lines),
            Err(e) if e == EFAULT => write_rest(call, bytes, 0, &lines),
            whole => whole,
        }
    }

    fn sync(file: &UpperFile, start: i64, end: i64, data_only: bool) -> Result {
        sync(file.dentry(), || file.lower().sync(start, end, data_only))
    }
}

/// Continues a write after `done` bytes, which was short because of a page that is not resident, or
/// for another reason.
#[cold]
fn write_rest(
    call: &mut WriteCall<'_>,
    bytes: &mut IovIter,
    mut done: usize,
    lines: &CallLines,
) -> Result<usize> {
    let mut window = WINDOW;
    let ended = loop {
        if let Err(e) = resched_killable() {
            break e;
        }
        let there = match call.fault_in(bytes, window) {
            Ok(there) => there,
            Err(e) => break e,
        };
        match write_first(call, bytes, there, lines) {
            Ok(n) => {
                done = done.saturating_add(n);
                if n == 0 || bytes.left() == 0 {
                    return Ok(done);
                }
            }
            // The first page was reclaimed again.
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

/// Writes the first `count` bytes, which are resident. The iterator is truncated, since some
/// filesystems (btrfs) fail a whole chunk if any byte of the chunk is not resident.
fn write_first(
    call: &mut WriteCall<'_>,
    bytes: &mut IovIter,
    count: usize,
    lines: &CallLines,
) -> Result<usize> {
    bytes.with_first(count, |bytes| write_once(call, bytes, lines))
}

/// A write on a mount without history. Waits for the caller's pages under the upper inode's lock,
/// as the lower ->write_iter does under the lower one: only users of the same file wait.
fn write_unrecorded(call: &mut WriteCall<'_>, bytes: &mut IovIter) -> Result<usize> {
    let lower = call.lower_file();
    let inode = call.upper_file().upper_inode();
    let lock = inode.lock_killable()?;
    if prepare_write(call, bytes, &lock)? == 0 {
        return Ok(0);
    }
    let result = call.write_lower_waiting(lower, bytes);
    inode.copy_content_attr();
    result
}

/// generic_write_checks() and file_remove_privs(). Returns the number of bytes that may be written.
/// `lock` is the upper inode's.
#[inline(always)]
fn prepare_write(
    call: &mut WriteCall<'_>,
    bytes: &mut IovIter,
    lock: &InodeGuard<'_>,
) -> Result<usize> {
    let file = call.upper_file();
    let inode = file.upper_inode();
    inode.copy_attr_if_changed();
    inode.refuse_immutable()?;
    // generic_write_checks() reads the upper i_size, RLIMIT_FSIZE and s_maxbytes.
    let length = call.check_write(bytes)?;
    if length != 0 {
        file.remove_privileges(lock)?;
    }
    Ok(length)
}

/// One write of the resident part of the buffer. `EFAULT` if the first page is not resident.
#[inline]
fn write_once(call: &mut WriteCall<'_>, bytes: &mut IovIter, lines: &CallLines) -> Result<usize> {
    let lower = call.lower_file();
    let file = call.upper_file();
    let inode = file.upper_inode();
    let lock = inode.lock_killable()?;
    let length = prepare_write(call, bytes, &lock)?;
    if length == 0 {
        return Ok(0);
    }
    // generic_write_checks() has set ki_pos to i_size for O_APPEND, which needs i_rwsem.
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
        call: Some(lines),
    }
    .around(|| match call.write_lower(lower, bytes) {
        // IovIter that were consumed from the iterator must not be written twice.
        Err(e) if is_no_space(e) && bytes.left() == length => write_again(call, bytes),
        result => result,
    });
    inode.copy_content_attr();
    result
}

/// Makes the history durable, then calls `lower`, which makes the file durable.
pub(super) fn sync(dentry: &UpperDentry, lower: impl FnOnce() -> Result) -> Result {
    let inode = dentry.existing()?;
    let mount = inode.mount();
    // ->fsync is called without i_rwsem.
    if inode.is_regular() {
        record::write_close(inode, dentry);
    }
    // Also with recording off: earlier lines of the file must be durable, too.
    if let Some(journal) = mount.any_journal() {
        mount.flush_killable(journal)?;
    }
    lower()
}

/// Repeats a write after ENOSPC, as long as orphans can be reclaimed.
#[cold]
fn write_again(call: &mut WriteCall<'_>, bytes: &mut IovIter) -> Result<usize> {
    let lower = call.lower_file();
    let mount = call.upper_file().upper_inode().mount();
    let length = bytes.left();
    let is_whole = Cell::new(true);
    let again = || is_whole.get();
    let request = SpaceRequest::Object(lower.path_dentry(), length as u64);
    mount.with_space_if(again, request, || {
        let result = call.write_lower(lower, bytes);
        is_whole.set(bytes.left() == length);
        result
    })
}
