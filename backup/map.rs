// SPDX-License-Identifier: GPL-2.0

//! Writes through shared mappings. The fault that makes a page writable captures its content. The
//! line follows later: the next holder of the object's state writes it, or the mmap flusher does.
//!
//! A fault runs under mmap_lock. Another task may take mmap_lock while it holds the object's lock
//! (copy_from_user() in write(2), splice(2)). A fault therefore never waits for that lock or for
//! journal space: the handler returns, and the access faults again.

use crate::{
    history::journal::{Journal, MAX_STAGED},
    record::{
        allow, is_changed_externally, observe, observe_if_idle, protect_taken, CaptureFailure,
    },
    state::{DirtyRange, DirtyRanges, FaultDecision, PagePreImage},
    vfs::{
        file::UpperFile,
        mmap::{unmap_all, FaultResult, LockedWriteFault, WriteFault},
        scope::{crc32c, MemallocNofs},
    },
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
