// SPDX-License-Identifier: GPL-2.0

//! Writes through shared mappings. The fault that makes a page writable captures its content. The
//! line follows later: the next holder of the object's state writes it, or the mmap flusher does.
//!
//! A fault runs under mmap_lock. Another task may take mmap_lock while it holds the object's lock
//! (copy_from_user() in write(2), splice(2)). A fault therefore never waits for that lock or for
//! journal space: the handler returns, and the access faults again.

use super::{
    is_changed_externally,
    lines::{self, place_by},
    observe, observe_if_idle,
    policy::{allow, CaptureFailure},
    Captured, LineSubject, OperationArgs,
};
use crate::{
    history::{
        journal::{Journal, MAX_STAGED},
        line::Op, //
    },
    stack::{DirtyRange, DirtyRanges, FaultDecision, ObjectState, PagePreImage},
    vfs::{
        file::UpperFile,
        inode::UpperInode,
        mmap::{unmap_all, write_protect, FaultResult, LockedWriteFault, WriteFault},
        scope::{crc32c, MemallocNofs}, //
    }, //
};
use kernel::prelude::*;

/// Creates a writable shared mapping.
pub(crate) fn map(file: &UpperFile, make: impl FnOnce() -> Result) -> Result {
    let inode = file.upper_inode();
    if inode.mount().journal().is_some() {
        // The actor is the task that calls mmap(2): a fault cannot allocate one.
        file.open()
            .actor()?
            .lock()
            .update(inode.mount().identities());
    }
    let stores = inode.object().mmap_writes();
    // PagePreImage the mapping exists: its first fault may come at once.
    stores.add_mapping();
    make().inspect_err(|_| stores.remove_mapping())
}

/// ->page_mkwrite: a write to a page that is not writable yet.
pub(crate) fn store(file: &UpperFile, fault: WriteFault<'_>) -> FaultResult {
    let inode = file.upper_inode();
    let mount = inode.mount();
    let stores = inode.object().mmap_writes();
    let Some(journal) = mount.journal() else {
        return match fault.make_writable() {
            Ok(fault) => {
                stores.note_uncaptured();
                fault.let_through()
            }
            Err(answer) => answer,
        };
    };
    if stores.fault_decision() == FaultDecision::Retry {
        mount.mmap_flusher().flush_now();
        return FaultResult::again();
    }
    notice(file);
    // Counted: the times that this fault changes are no external change.
    stores.begin_fault();
    let result = fault
        .make_writable()
        .map(|fault| capture_fault(journal, file, fault));
    stores.end_fault();
    if let Some(mut state) = inode.object().state.try_lock() {
        observe_if_idle(&mut state, inode);
    }
    match result {
        Err(answer) | Ok(Ok(answer)) => answer,
        // All locks of the fault are released.
        Ok(Err(e)) if e == EAGAIN => FaultResult::again(),
        Ok(Err(e)) if e == ENOMEM => FaultResult::no_memory(),
        Ok(Err(_)) => FaultResult::refused(),
    }
}

/// Logs an external change before a fault updates the times. Only if no other task works on the
/// object: such a task either logs the change itself, or has updated the times.
fn notice(file: &UpperFile) {
    let inode = file.upper_inode();
    let Some(_lock) = inode.try_lock_shared() else {
        return;
    };
    let Some(mut state) = inode.object().state.try_lock() else {
        return;
    };
    let is_settled = state.loaded && !inode.object().mmap_writes().has_running_operation();
    if !is_settled || !is_changed_externally(&state, inode) {
        return;
    }
    let mut list = DirtyRanges::default();
    let mut note = || {
        list.push(DirtyRange {
            at: 0,
            length: 0,
            before: PagePreImage::External,
            actor: file.open().actor()?.clone(),
        })
    };
    if note().is_err() {
        return;
    }
    if inode.object().mmap_writes().take_uncaptured() {
        unmap_all(inode.pages());
    }
    // Earlier writes come first in the list. Their pages become read-only, so they get no new
    // bytes.
    protect_taken(inode, &mut state);
    state.unlogged.append(list);
    inode.object().mmap_writes().add_unlogged(1);
    observe(&mut state, inode);
}

/// Makes all pages written so far read-only, and queues their ranges for lines.
fn protect_taken(inode: &UpperInode, state: &mut ObjectState) {
    let taken = inode.object().mmap_writes().take();
    taken.for_each(|store| write_protect(inode.pages(), store.at, store.length));
    state.unlogged.append(taken);
}

/// Captures the page's content and makes the page writable.
fn capture_fault(
    journal: &Journal,
    file: &UpperFile,
    fault: LockedWriteFault<'_>,
) -> Result<FaultResult> {
    // Direct reclaim must not enter a filesystem while the folio is locked.
    let _nofs = MemallocNofs::new();
    let inode = file.upper_inode();
    let stores = inode.object().mmap_writes();
    let mut list = DirtyRanges::default();
    let mut failure = None;
    let count = match gather(journal, file, &fault, &mut list) {
        Err(e) if e != EAGAIN && e != ENOMEM => {
            let lost = allow(inode.mount(), e, false)?;
            failure = Some(lost);
            list = DirtyRanges::default();
            lose(file, &fault, &mut list, lost.why())?
        }
        count => count?,
    };
    match stores.add(&mut list, count, join) {
        Ok(()) => {}
        Err(FaultDecision::TimedOut) => {
            list = DirtyRanges::default();
            let count = lose(file, &fault, &mut list, "busy")?;
            stores.add_forced(&mut list, count);
            failure = failure.or(Some(CaptureFailure(EBUSY)));
        }
        Err(_) => return Err(EAGAIN),
    }
    // The page becomes writable now. PagePreImage this point, the fault can be retried.
    if let Some(failure) = failure.filter(|_| fault.range().1 != 0) {
        failure.count(inode.mount(), journal);
    }
    if count != 0 && stores.needs_listing() {
        inode.mount().mmap_flusher().add(inode);
    }
    Ok(fault.let_through())
}

/// Stages the content of the range. Returns the number of pieces.
fn gather(
    journal: &Journal,
    file: &UpperFile,
    fault: &LockedWriteFault<'_>,
    list: &mut DirtyRanges,
) -> Result<usize> {
    let (start, length) = fault.range();
    let mut done = 0;
    let mut count = 0;
    while done < length {
        let n = length.saturating_sub(done).min(MAX_STAGED);
        let at = start.saturating_add(done as u64);
        // Must not wait under mmap_lock: EAGAIN, and the access faults again.
        let mut payload = journal.try_stage(n)?;
        payload.fill(n, |buf| {
            fault.copy(at, buf)?;
            Ok(buf.len())
        })?;
        let staged = payload.finish()?;
        list.push(DirtyRange {
            at,
            length: n as u64,
            before: PagePreImage::Captured(staged.extent, !staged.crc),
            actor: file.open().actor()?.clone(),
        })?;
        done = done.saturating_add(n);
        count += 1;
    }
    Ok(count)
}

/// Notes that the range is not captured.
fn lose(
    file: &UpperFile,
    fault: &LockedWriteFault<'_>,
    list: &mut DirtyRanges,
    why: &'static str,
) -> Result<usize> {
    let (at, length) = fault.range();
    if length == 0 {
        return Ok(0);
    }
    list.push(DirtyRange {
        at,
        length: length as u64,
        before: PagePreImage::Uncaptured(why),
        actor: file.open().actor()?.clone(),
    })?;
    Ok(1)
}

/// Zeroes for [`join`], whose second part is limited to this length.
static ZEROES: [u8; 4096] = [0; 4096];

/// CRC-32C of two concatenated parts, from the CRCs of the parts. The CRC is linear: the first one
/// is advanced over zeroes and added to the second one.
fn join(first: u32, second: u32, length: u64) -> Option<u32> {
    let zeroes = ZEROES.get(..usize::try_from(length).ok()?)?;
    Some(crc32c(first ^ !0, zeroes) ^ second)
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
        state.left = None;
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
    let mut room = match caller {
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
        &mut room,
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
    lines::note_external(inode.mount(), journal, inode, &name, state)?;
    state.unlogged.drop_first();
    inode.object().mmap_writes().sub_unlogged(1);
    Ok(())
}
