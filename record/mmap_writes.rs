// SPDX-License-Identifier: GPL-2.0

//! Places the lines of writes through shared mappings, which the faults have captured.

use super::{
    changes::observe_if_idle,
    close::note_external,
    place::{place_by, LineSubject, OperationArgs},
    Captured,
};
use crate::{
    history::journal::Journal,
    log::line::Op,
    state::{ObjectState, PagePreImage},
    vfs::{
        inode::UpperInode,
        mmap::{unmap_all, write_protect},
    },
};
use kernel::prelude::*;

/// Makes all pages written so far read-only, and queues their ranges for lines.
pub(crate) fn protect_taken(inode: &UpperInode, state: &mut ObjectState) {
    let taken = inode.object().mmap_writes().take();
    taken.for_each(|store| write_protect(inode.pages(), store.at, store.length));
    state.unlogged.append(taken);
}

/// Whether the object has writes without lines, or times changed by faults.
#[inline]
fn is_dirty(inode: &UpperInode, state: &ObjectState) -> bool {
    let stores = inode.object().mmap_writes();
    stores.has_unlogged() || stores.ended() != state.faults || stores.has_uncaptured()
}

/// As [`log_dirty_ranges`], without the inode lock; a failure is only counted.
pub(crate) fn log_mmap_writes(inode: &UpperInode) {
    let Some(journal) = inode.mount().journal() else {
        return;
    };
    let mut state = inode.object().state.lock();
    if let Err(e) = log_dirty_ranges(journal, inode, &mut state, LogCaller::Unlocked) {
        inode.mount().warn_lost(e);
    }
}

/// The caller of [`log_dirty_ranges`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogCaller {
    /// Holds the inode lock.
    LockHolder,
    /// Does not hold the inode lock: the line of an operation under way must come first.
    Unlocked,
    /// ->evict_inode: must not wait, and has the only reference.
    Evictor,
}

/// Ends a flush interval: makes all written pages read-only and writes their lines. Does nothing
/// before the object is loaded.
#[inline(always)]
pub(crate) fn log_dirty_ranges(
    journal: &Journal,
    inode: &UpperInode,
    state: &mut ObjectState,
    caller: LogCaller,
) -> Result {
    if is_dirty(inode, state) {
        return end_slice(journal, inode, state, caller);
    }
    Ok(())
}

/// As [`log_dirty_ranges`], if there is something to log.
#[cold]
fn end_slice(
    journal: &Journal,
    inode: &UpperInode,
    state: &mut ObjectState,
    caller: LogCaller,
) -> Result {
    let stores = inode.object().mmap_writes();
    let is_early = || caller == LogCaller::Unlocked && stores.has_running_operation();
    if !state.loaded || is_early() {
        return Ok(());
    }
    if stores.take_uncaptured() {
        // Writes that were never captured show only in the object's times, as an external change
        // does.
        unmap_all(inode.pages());
    }
    protect_taken(inode, state);
    if is_early() {
        // An operation began in the meantime. Some of the ranges may be newer than it, so its line
        // goes first.
        return Ok(());
    }
    if state.unlogged.first().is_none() && stores.ended() == state.faults {
        return Ok(());
    }
    let mut result = Ok(());
    while result.is_ok() && state.unlogged.first().is_some() {
        result = place_first(journal, inode, state, caller);
    }
    observe_if_idle(state, inode);
    if result.is_ok() {
        state.close_cookie = None;
        state.changed = true;
    }
    result
}

/// Writes the line of the oldest queued range.
fn place_first(
    journal: &Journal,
    inode: &UpperInode,
    state: &mut ObjectState,
    caller: LogCaller,
) -> Result {
    if matches!(state.unlogged.first(), Some(store) if matches!(store.before, PagePreImage::External))
    {
        if caller == LogCaller::Evictor {
            return Err(EAGAIN);
        }
        return place_external(journal, inode, state);
    }
    let mut reservation = match caller {
        LogCaller::Evictor => journal.try_reserve_lines(1),
        // A fatal signal ends the wait. The next caller writes the line.
        _ => journal.reserve_lines_killable(1),
    }?;
    let Some(store) = state.unlogged.first() else {
        return Ok(());
    };
    let args = OperationArgs {
        op: Op::Mmap,
        at: store.at,
        length: store.length,
        size: inode.lower().size(),
    };
    let captured = match store.before {
        PagePreImage::Captured(extent, crc) => Captured::At {
            extent,
            crc: !crc,
            records: 0,
            attributes: 0,
        },
        PagePreImage::Uncaptured(why) => Captured::Uncaptured(why),
        PagePreImage::External => return Err(EINVAL),
    };
    let who = store.actor.clone();
    let subject = LineSubject {
        mount: inode.mount(),
        inode,
        open: None,
    };
    place_by(
        &subject,
        state,
        &mut who.lock(),
        &mut reservation,
        &args,
        |draft| {
            captured.describe(draft);
        },
    )?;
    state.unlogged.drop_first();
    inode.object().mmap_writes().sub_unlogged(1);
    Ok(())
}

/// Writes the line of an external change, which is the oldest in the queue.
fn place_external(journal: &Journal, inode: &UpperInode, state: &mut ObjectState) -> Result {
    let name = inode.lower().find_alias().ok_or(ENOENT)?;
    note_external(inode.mount(), journal, inode, &name, state)?;
    state.unlogged.drop_first();
    inode.object().mmap_writes().sub_unlogged(1);
    Ok(())
}
