// SPDX-License-Identifier: GPL-2.0

//! Captures pre-images before an operation, and writes the operation's line after the change.
//!
//! A hook describes an [`ObjectOperation`] and calls `prepare()`. The result is a
//! [`PreparedOperation`]: the pre-image is staged in the journal, and space for the line is
//! reserved. The hook then changes the lower object and settles the operation with the result.

pub(crate) mod adopt;
mod attributes;
mod capture;
mod lines;
mod map;
pub(crate) mod names;
pub(crate) mod orphans;
mod policy;

use crate::{
    history::{
        journal::{is_no_room, Journal, LineRoom},
        line::Op, //
    },
    stack::{Mount, ObjectState, OpenFileState, RunningOperation},
    vfs::{
        attr,
        dentry::{Dentry, UpperDentry},
        error::EOPNOTSUPP,
        file::File,
        inode::{Inode, QuickCookie, UpperInode}, //
    },
};
pub(crate) use attributes::{
    c_name as xattr_name,
    gather as gather_attributes,
    gather_privileges,
    AttributeSet, //
};
pub(crate) use capture::{add_runs, mapped as capture_runs, payload_length, Captured, MapRuns};
use core::mem;
use kernel::prelude::*;
use lines::place_operation;
pub(crate) use lines::{
    load_known, load_unchecked, note_external, place, resync, LineSubject, OperationArgs,
};
pub(crate) use map::{log_dirty_ranges, log_mmap_writes, map, store, LogCaller};
use policy::{allow, by_policy, CaptureFailure};

/// The state that an operation overwrites.
pub(crate) enum PreImage<'a> {
    /// Nothing, except perhaps the size.
    Nothing,
    /// The bytes of the range (start, end), up to the end of the file, read through this file.
    Range(&'a File, u64, u64),
    /// The unallocated holes of the range (start, end), up to the end of the file.
    Holes(&'a File, u64, u64),
    /// Attributes of the lower object with this dentry.
    Attributes(&'a Dentry, AttributeSet<'a>),
}

/// The pre-image of an operation, captured at one point in time.
struct OldState<'a> {
    running: RunningOperation<'a>,
    /// Size of the object before the operation.
    size: u64,
    captured: Captured,
    /// Set if the pre-image could not be captured and the mount's policy lets the operation go on.
    failure: Option<CaptureFailure>,
    /// Journal space for the lines, if the capture reserved that, too.
    room: Option<LineRoom<'a>>,
}

/// An operation that is about to change an object. The inode lock is held.
pub(crate) struct ObjectOperation<'a> {
    /// The object.
    pub(crate) inode: &'a UpperInode,
    /// The open file through which the object is changed, if any.
    pub(crate) open: Option<&'a OpenFileState>,
    /// The operation, its offset, and its length as requested.
    pub(crate) op: Op,
    pub(crate) at: u64,
    pub(crate) length: u64,
    /// The state that the operation overwrites.
    pub(crate) pre_image: PreImage<'a>,
    /// Whether the change may reach the disk before the call returns (O_SYNC, O_DIRECT). The line
    /// must then be durable before the change.
    pub(crate) durable: bool,
    /// Whether the lower filesystem pins the caller's pages (direct I/O), and may wait for page
    /// faults. Journal space is then released before the change. Implies `durable`.
    pub(crate) is_direct: bool,
}

impl<'a> ObjectOperation<'a> {
    /// Captures the pre-image and reserves space for the line.
    ///
    /// An error refuses the operation. With `on_error=continue`, only ENOSPC under `on_full=deny`
    /// and a fatal signal do so.
    pub(crate) fn prepare(self) -> Result<PreparedOperation<'a>> {
        self.with_record(|record| Ok(PreparedOperation(mem::take(record))))
    }

    /// Prepares, changes and settles in one call. The record is not moved, which saves a copy.
    #[inline]
    pub(crate) fn around(self, change: impl FnOnce() -> Result<usize>) -> Result<usize> {
        self.with_record(|record| {
            let result = change();
            record.settle(result.map(|n| n as u64));
            result
        })
    }

    /// Builds the record in this stack frame and passes a reference to `go`.
    #[inline(always)]
    fn with_record<T>(self, go: impl FnOnce(&mut PreparedState<'a>) -> Result<T>) -> Result<T> {
        let mount = self.inode.mount();
        let Some(journal) = mount.journal() else {
            return go(&mut PreparedState::Off);
        };
        let old = self.capture_old_state(mount, journal)?;
        // An operation that frees space must work on a full filesystem (as unlink(2) does on any):
        // its pre-image is dropped if the journal has no space.
        let frees = self.frees(old.size);
        let room = match old
            .room
            .map_or_else(|| journal.reserve_lines_killable(LINES), Ok)
        {
            Ok(room) => room,
            Err(e) => {
                drop(old.running);
                let failure = allow(mount, e, frees)?;
                return go(&mut PreparedState::Unrecorded(mount, journal, failure));
            }
        };
        // Built in place: `Result<PreparedOperation>` by value would cost a copy of the record.
        let mut prepared = PreparedState::Recorded(OperationRecord {
            mount,
            journal,
            inode: self.inode,
            open: self.open,
            args: OperationArgs {
                op: self.op,
                at: self.at,
                length: self.length,
                size: old.size,
            },
            captured: old.captured,
            failure: old.failure,
            room,
            before: (self.durable).then(|| armed_cookie(mount, self.inode.lower())),
            early: None,
            _running: old.running,
        });
        // Write-ahead: the line must be on disk before a change that can be on disk at return.
        if let (true, PreparedState::Recorded(record)) = (self.durable, &mut prepared) {
            record.place_early()?;
            // The lower filesystem may wait for faults on the caller's buffer, which need space, too.
            if self.is_direct {
                record.room.release();
            }
        }
        go(&mut prepared)
    }

    /// Whether the operation frees space on the lower filesystem.
    fn frees(&self, size: u64) -> bool {
        self.op == Op::Truncate && self.at < size
    }

    /// Captures the pre-image and the size at one point in time. Each write through a mapping is
    /// logged either before that point or after the operation.
    #[inline(always)]
    fn capture_old_state(&self, mount: &Mount, journal: &'a Journal) -> Result<OldState<'a>> {
        let stores = self.inode.object().mmap_writes();
        if !stores.is_mapped() {
            let old = self.capture_once(mount, journal)?;
            // Another task may have mapped the file during the capture: then the capture is
            // repeated.
            if !stores.is_mapped() {
                return Ok(old);
            }
        }
        self.capture_blocked(mount, journal)
    }

    /// As [`Self::capture_old_state`], for a mapped object: blocks writes through mappings
    /// meanwhile.
    #[cold]
    fn capture_blocked(&self, mount: &Mount, journal: &'a Journal) -> Result<OldState<'a>> {
        let _gate = self.inode.object().mmap_writes().block_faults();
        self.capture_once(mount, journal)
    }

    /// Captures the pre-image once, without a check for mappings.
    #[inline(always)]
    fn capture_once(&self, mount: &Mount, journal: &'a Journal) -> Result<OldState<'a>> {
        let unready = match ensure_loaded(mount, journal, self.inode, true)? {
            Err(e) => Some(allow(mount, e, false)?),
            Ok(()) => None,
        };
        let running = self.inode.object().mmap_writes().begin_operation();
        let size = self.inode.lower().size();
        let ((captured, failure), room) = self.capture_pre_image(mount, journal, size)?;
        Ok(OldState {
            running,
            size,
            captured,
            failure: failure.or(unready),
            room,
        })
    }

    /// Captures the pre-image by its kind, or applies the mount's policy on failure.
    #[inline(always)]
    fn capture_pre_image(
        &self,
        mount: &Mount,
        journal: &'a Journal,
        size: u64,
    ) -> Result<(policy::CaptureOutcome, Option<LineRoom<'a>>)> {
        match &self.pre_image {
            PreImage::Nothing => Ok(((Captured::Nothing, None), None)),
            PreImage::Attributes(lower, wanted) => {
                let captured = attributes::capture(mount, journal, lower, wanted);
                Ok((by_policy(mount, captured, false)?, None))
            }
            PreImage::Holes(reader, start, end) => {
                let lower = self.inode.lower();
                let captured = capture::holes(journal, lower, reader, *start, (*end).min(size));
                Ok((by_policy(mount, captured, false)?, None))
            }
            PreImage::Range(reader, start, end) => {
                let range = (*start, (*end).min(size));
                let frees = self.frees(size);
                capture_range(mount, journal, self.inode.lower(), reader, range, frees)
            }
        }
    }
}

/// Loads the object's chain, and logs an external change before the next line of this operation.
/// External changes are detected only under the inode lock (`is_locked`). Without the lock, an
/// operation of this mount may have changed the times already and not yet noted them.
///
/// The outer error is independent of the mount's policy. It means that a revert is incomplete and
/// cannot be rolled back yet: the rollback would overwrite a change that is made now.
fn ensure_loaded(
    mount: &Mount,
    journal: &Journal,
    inode: &UpperInode,
    is_locked: bool,
) -> Result<Result> {
    let mut state = inode.object().state.lock();
    let caller = if is_locked {
        LogCaller::LockHolder
    } else {
        LogCaller::Unlocked
    };
    if let Err(e) = log_dirty_ranges(journal, inode, &mut state, caller) {
        return Ok(Err(e));
    }
    if state.loaded && !(is_locked && is_changed_externally(&state, inode)) {
        return Ok(Ok(()));
    }
    let Some(name) = inode.lower().find_alias() else {
        return Ok(Ok(()));
    };
    if state.loaded {
        return Ok(lines::note_external(
            mount, journal, inode, &name, &mut state,
        ));
    }
    let loaded = lines::load(mount, journal, inode, &name, &mut state);
    if is_locked && state.incomplete {
        crate::revert::roll_back_last(mount, journal, inode, &name, &mut state)?;
    }
    // Writes through mappings that were held back while the chain could not be loaded.
    Ok(loaded.and_then(|()| log_dirty_ranges(journal, inode, &mut state, caller)))
}

/// Whether the object differs from its state after the last logged operation. Writes through shared
/// mappings also change the times, but have lines of their own.
pub(crate) fn is_changed_externally(state: &ObjectState, inode: &UpperInode) -> bool {
    has_changed(state, inode) && inode.object().mmap_writes().begun() == state.faults
}

/// Whether the times or the size of a file differ from those after the last logged operation.
#[inline(always)]
fn has_changed(state: &ObjectState, inode: &UpperInode) -> bool {
    let Some(seen) = state.seen.filter(|_| inode.is_regular()) else {
        return false;
    };
    // A stacked lower filesystem (overlayfs, ecryptfs) copies the times of its own lower inode
    // lazily, so the inode that owns the pages counts, too.
    seen != inode.pages().quick_cookie()
        && seen != inode.lower().quick_cookie()
        && !is_reclaimed(&seen, inode)
}

/// Whether a file that looked like `seen` differs only because reclaim removed its orphan, which
/// was its last name. unlink(2) changed ctime; a descriptor may still be open.
pub(crate) fn is_reclaimed(seen: &QuickCookie, inode: &UpperInode) -> bool {
    let lower = inode.lower();
    inode.object().is_kept() && lower.links() == 0 && lower.has_content_of(seen)
}

/// The object's change cookie. From now on, also two changes within one tick of the clock get
/// different cookies: vfs_getattr() marks the timestamp as queried, and the next change uses a
/// fine-grained one (multigrain timestamps).
fn armed_cookie(mount: &Mount, lower: &Inode) -> QuickCookie {
    if let Some(name) = lower.find_alias() {
        let _ = attr::cookie(mount.lower(), &name);
    }
    lower.quick_cookie()
}

/// Lines per operation: its own, and one correction.
const LINES: u32 = 2;

/// Captures a range of the lower file, or applies the mount's policy on failure. Reserves space for
/// the lines if the journal can do both under one lock.
fn capture_range<'a>(
    mount: &Mount,
    journal: &'a Journal,
    lower: &Inode,
    reader: &File,
    range: (u64, u64),
    frees: bool,
) -> Result<(policy::CaptureOutcome, Option<LineRoom<'a>>)> {
    match capture::range(journal, lower, reader, range, LINES) {
        Ok((captured, room)) => Ok(((captured, None), room)),
        Err(e) => Ok((by_policy(mount, Err(e), frees)?, None)),
    }
}

/// An operation with a captured pre-image and an unknown outcome.
///
/// Dropping an unsettled operation means that nothing changed.
pub(crate) struct PreparedOperation<'a>(PreparedState<'a>);

impl PreparedOperation<'_> {
    /// Writes the line: the operation changed `outcome` bytes, or failed.
    pub(crate) fn settle(mut self, outcome: Result<u64>) {
        self.0.settle(outcome);
    }
}

/// The log side of a prepared operation.
#[derive(Default)]
enum PreparedState<'a> {
    /// The history is off.
    #[default]
    Off,
    /// The operation gets no line: the journal has no space, and the policy lets the operation go
    /// on.
    Unrecorded(&'a Mount, &'a Journal, CaptureFailure),
    /// The operation gets a line.
    Recorded(OperationRecord<'a>),
}

impl PreparedState<'_> {
    /// Writes the line, or counts an operation that gets none.
    #[inline]
    fn settle(&mut self, outcome: Result<u64>) {
        match self {
            Self::Recorded(record) => record.settle(outcome),
            Self::Unrecorded(mount, journal, failure) if outcome.is_ok() => {
                failure.count(mount, journal)
            }
            _ => {}
        }
    }
}

struct OperationRecord<'a> {
    mount: &'a Mount,
    journal: &'a Journal,
    inode: &'a UpperInode,
    open: Option<&'a OpenFileState>,
    args: OperationArgs,
    captured: Captured,
    /// Set if the pre-image is lost once the operation changes something.
    failure: Option<CaptureFailure>,
    room: LineRoom<'a>,
    /// Change cookie before the operation, if the line is written first.
    before: Option<QuickCookie>,
    /// Number of the line, if it was written before the change.
    early: Option<u64>,
    /// Dropped last: writes through mappings are logged after this line.
    _running: RunningOperation<'a>,
}

impl OperationRecord<'_> {
    /// Writes the line and flushes the journal before the change.
    fn place_early(&mut self) -> Result {
        let inode = self.inode;
        let placed = {
            let mut state = inode.object().state.lock();
            self.place(&mut state, false)
        };
        // A killed caller stops waiting; the line is written all the same.
        let durable = placed.and_then(|seq| self.journal.flush_killable(true).map(|()| seq));
        match durable {
            Ok(seq) => self.early = Some(seq),
            Err(e) => {
                self.early = placed.ok();
                match allow(self.mount, e, false) {
                    Ok(failure) => self.failure = Some(failure),
                    Err(refused) => {
                        if let Some(seq) = self.early {
                            let mut state = inode.object().state.lock();
                            // The operation is refused, but its line may already be on disk.
                            self.correct(&mut state, seq, Op::Cancel);
                        }
                        return Err(refused);
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes the operation's line and returns its number. `is_last` releases the rest of the
    /// space.
    fn place(&mut self, state: &mut ObjectState, is_last: bool) -> Result<u64> {
        let subject = LineSubject {
            mount: self.mount,
            inode: self.inode,
            open: self.open,
        };
        let (room, captured) = (&mut self.room, &self.captured);
        let placed = place_operation(&subject, state, room, &self.args, captured, is_last)?;
        Ok(placed.seq)
    }

    /// Writes a line that corrects an earlier one: the operation changed less than that line says.
    fn correct(&mut self, state: &mut ObjectState, of: u64, op: Op) {
        let subject = LineSubject {
            mount: self.mount,
            inode: self.inode,
            open: self.open,
        };
        let args = OperationArgs { op, ..self.args };
        let room = &mut self.room;
        let placed = room.renew().and_then(|()| {
            place(&subject, state, room, &args, |draft| {
                draft.of(of);
            })
        });
        if let Err(e) = placed {
            self.mount.warn_lost(e);
        }
    }

    /// Writes the line after a change of `n` bytes. If the captured payload covers more than `n`
    /// bytes, the line states the requested range, and a correction follows.
    fn place_late(&mut self, state: &mut ObjectState, n: u64) {
        let asked = self.args.length;
        let saved_to = match self.captured {
            Captured::At { .. } => self.args.size.min(self.args.at.saturating_add(asked)),
            _ => 0,
        };
        let short = saved_to > self.args.at.saturating_add(n);
        if !short {
            self.args.length = n;
        }
        match self.place(state, !short) {
            Ok(seq) if short => {
                self.args.length = n;
                self.correct(state, seq, Op::Amend);
            }
            Ok(_) => {}
            Err(e) => {
                self.journal.count_lost();
                self.mount.warn_lost(e);
            }
        }
    }

    /// Upper bound of the changed bytes; `None` if nothing changed.
    fn changed(&self, state: &ObjectState, outcome: Result<u64>) -> Option<u64> {
        let asked = self.args.length;
        match (outcome, self.early) {
            // An operation without a byte range (attributes, truncate) succeeded with 0.
            (Ok(n), _) if n != 0 || asked == 0 => Some(n.min(asked)),
            // A failed operation may have changed a part of the range. The full range is the safe
            // bound.
            (Err(_), Some(_)) if Some(self.inode.lower().quick_cookie()) != self.before => {
                Some(asked)
            }
            (Err(e), None) if self.may_have_begun(state, e) => Some(asked),
            _ => None,
        }
    }

    /// Whether an operation without a line may have changed something before it failed.
    ///
    /// generic_file_write_iter() calls file_update_time() before it copies, so changed times prove
    /// nothing for a buffered write. The error decides: btrfs copies into a folio in use before it
    /// reserves space.
    fn may_have_begun(&self, state: &ObjectState, error: Error) -> bool {
        if self.args.op == Op::Write && self.before.is_none() {
            return is_no_room(error) || error == ENOMEM || error == EIO;
        }
        let is_of_space = matches!(
            self.args.op,
            Op::Allocate | Op::Punch | Op::Zero | Op::Collapse | Op::Insert
        );
        if is_of_space && (error == EINVAL || error == EOPNOTSUPP) {
            // ext4_fallocate() calls file_modified() before it checks mode and alignment.
            return false;
        }
        has_changed(state, self.inode)
    }

    /// Writes the line for the outcome, or corrects the line written before the change.
    fn settle(&mut self, outcome: Result<u64>) {
        let inode = self.inode;
        let mut state = inode.object().state.lock();
        let changed = self.changed(&state, outcome);
        if changed.is_none() && self.early.is_none() {
            // A failed write has still called file_update_time(): record the new times as our own,
            // or the next operation would log an external change.
            if is_changed_externally(&state, inode) {
                note_change(&mut state, inode);
            }
            return;
        }
        match (changed, self.early) {
            (Some(n), None) => self.place_late(&mut state, n),
            (Some(n), Some(seq)) if n != self.args.length => {
                self.args.length = n;
                self.correct(&mut state, seq, Op::Amend);
            }
            (None, Some(seq)) => self.correct(&mut state, seq, Op::Cancel),
            _ => {}
        }
        if changed.is_some() {
            note_change(&mut state, inode);
            if let Some(failure) = self.failure {
                failure.count(self.mount, self.journal);
            }
        }
    }
}

/// Records the object's present times and size.
fn observe(state: &mut ObjectState, inode: &UpperInode) {
    // Faults under way will change the times again (file_update_time() in ->page_mkwrite).
    state.faults = inode.object().mmap_writes().ended();
    state.seen = Some(inode.pages().quick_cookie());
}

/// As [`observe`], for a caller without the inode lock. During an operation, the previous values
/// stay: `settle()` compares with them to find out whether the operation changed anything.
fn observe_if_idle(state: &mut ObjectState, inode: &UpperInode) {
    let before = (state.seen, state.faults);
    observe(state, inode);
    if inode.object().mmap_writes().has_running_operation() {
        (state.seen, state.faults) = before;
    }
}

/// Records times and size after a change made by this mount, and invalidates the closing line.
pub(crate) fn note_change(state: &mut ObjectState, inode: &UpperInode) {
    observe(state, inode);
    state.left = None;
    state.changed = true;
}

/// Marks a newly created object as loaded: it has no lines yet.
pub(crate) fn note_new(inode: &UpperInode) {
    let mut state = inode.object().state.lock();
    if !state.loaded {
        state.loaded = true;
        observe(&mut state, inode);
    }
}

/// Loads the object's last line, if necessary, and compares the object with it. Called under the
/// inode lock before a change of the object or its names that changes ctime.
pub(crate) fn load(inode: &UpperInode) -> Result {
    load_with(inode, true)
}

/// As [`load`] and [`load_to_open`], with or without the inode lock.
fn load_with(inode: &UpperInode, is_locked: bool) -> Result {
    let mount = inode.mount();
    let Some(journal) = mount.journal() else {
        return Ok(());
    };
    let _gate = inode.object().mmap_writes().block_faults_if_mapped();
    match ensure_loaded(mount, journal, inode, is_locked)? {
        Err(e) => {
            // No change was made so far: `note_ctime_change_at` warns once there is one.
            let CaptureFailure(error) = allow(mount, e, false)?;
            inode.object().state.lock().unread = Some(error);
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// As [`load`], for an open for writing, without the inode lock.
pub(crate) fn load_to_open(inode: &UpperInode) -> Result {
    load_with(inode, false)
}

/// A link or rename of a loaded object changed ctime without a line in the object's own chain:
/// rewrites the closing line, which holds the old ctime.
pub(crate) fn note_ctime_change(inode: &UpperInode, dentry: &UpperDentry) {
    if let Ok(lower) = dentry.lower() {
        note_ctime_change_at(inode, lower);
    }
}

/// The object has a name in another directory: the next line must record its file handle again.
pub(crate) fn note_new_parent(inode: &UpperInode) {
    inode.object().state.lock().handle_segment = 0;
}

/// As [`note_ctime_change`], with the lower dentry.
pub(crate) fn note_ctime_change_at(inode: &UpperInode, lower: &Dentry) {
    let stale = {
        let mut state = inode.object().state.lock();
        let unread = state.unread.take();
        if let Some(error) = unread.filter(|_| !state.loaded) {
            // ctime changed and no line explains it: the next load will log an external change.
            inode.mount().warn_lost(error);
        }
        observe(&mut state, inode);
        let stale = state.left.take().is_some();
        state.changed |= stale;
        stale
    };
    if stale {
        write_close_at(inode, || Ok(lower));
    }
}

/// Writes the closing line, at the last close, fsync and unmount.
pub(crate) fn write_close(inode: &UpperInode, dentry: &UpperDentry) {
    write_close_at(inode, || dentry.lower());
}

/// As [`write_close`], with the lower dentry, unconditionally, and with the object's file handle.
/// The object is loaded.
pub(crate) fn write_close_with_handle(inode: &UpperInode, lower: &Dentry) {
    {
        let mut state = inode.object().state.lock();
        state.changed = true;
        state.handle_segment = 0;
    }
    write_close_at(inode, || Ok(lower));
}

/// As [`write_close`]. The lower dentry is looked up only if a line is due.
fn write_close_at<'a>(inode: &UpperInode, lower: impl FnOnce() -> Result<&'a Dentry>) {
    let mount = inode.mount();
    let Some(journal) = mount.journal() else {
        return;
    };
    let mut state = inode.object().state.lock();
    let told = log_dirty_ranges(journal, inode, &mut state, LogCaller::Unlocked);
    if told.is_ok() && !state.changed {
        return;
    }
    let result = told
        .and_then(|()| lower())
        .and_then(|lower| lines::write_close(mount, journal, inode, lower, &mut state));
    match result {
        // A fatal signal ended the wait for space. The next close or eviction writes the line.
        Err(e) if e != EINTR => mount.warn_lost(e),
        _ => {}
    }
}

/// As [`write_close`], from ->evict_inode, which a shrinker may call: never waits, and drops the
/// line instead. The line needs vfs_getattr(), which on network filesystems and FUSE waits for a
/// server, so those are skipped. An object without a closing line is resynchronised at its next
/// use.
pub(crate) fn write_close_on_evict(inode: &UpperInode) {
    let Some(mut state) = inode.object().state.try_lock() else {
        return;
    };
    let mount = inode.mount();
    let Some(journal) = mount.journal() else {
        return;
    };
    let _ = log_dirty_ranges(journal, inode, &mut state, LogCaller::Evictor);
    if !state.changed || !inode.lower().superblock().is_local() {
        return;
    }
    let Some(lower) = inode.lower().find_alias() else {
        return;
    };
    let _ = lines::try_write_close(mount, journal, inode, &lower, &mut state);
}
