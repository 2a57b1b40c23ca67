// SPDX-License-Identifier: GPL-2.0

//! Captures pre-images before an operation, and writes the operation's line after the change.
//!
//! A hook describes an [`ObjectOperation`] and calls `prepare()`. The result is a
//! [`PreparedOperation`]: the pre-image is staged in the journal, and space for the line is
//! reserved. The hook then changes the lower object and settles the operation with the result.

pub(crate) mod adopt;
mod attributes;
mod capture;
mod map;
pub(crate) mod names;
pub(crate) mod orphans;

use crate::{
    history::journal::{is_no_space, Journal, Reservation},
    log::line::Op,
    record::{
        allow, armed_cookie, ensure_loaded, has_changed, is_changed_externally, note_change, place,
        place_operation, CaptureFailure, Captured, LineSubject, OperationArgs,
    },
    state::{Mount, ObjectState, OpenFileState, RunningOperation},
    vfs::{
        dentry::Dentry,
        error::EOPNOTSUPP,
        file::File,
        inode::{Inode, QuickCookie, UpperInode},
    },
};
pub(crate) use attributes::{
    all as all_attributes,
    c_name as xattr_name,
    gather as gather_attributes,
    gather_privileges,
    push as push_record,
    AttributeSet, //
};
pub(crate) use capture::{add_runs, mapped as capture_runs, payload_length, MapRuns};
use core::{cell::Cell, mem};
use kernel::prelude::*;
pub(crate) use map::{map, store};

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
    reservation: Option<Reservation<'a>>,
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
    /// The other lines of the system call, if it may have several.
    pub(crate) call: Option<&'a CallLines>,
}

/// The lines of a write(2) that is continued after a short one: the later ones name the first
/// (`of=`), and a revert takes all of them as one operation.
#[derive(Default)]
pub(crate) struct CallLines {
    /// Number of the first line; 0 before it is placed.
    first: Cell<u64>,
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
        let reservation = match old
            .reservation
            .map_or_else(|| journal.reserve_lines_killable(LINES), Ok)
        {
            Ok(reservation) => reservation,
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
            call: self.call,
            args: OperationArgs {
                op: self.op,
                at: self.at,
                length: self.length,
                size: old.size,
            },
            captured: old.captured,
            failure: old.failure,
            reservation,
            before: (self.durable).then(|| armed_cookie(mount, self.inode.lower())),
            early: None,
            _running: old.running,
        });
        // Write-ahead: the line must be on disk before a change that can be on disk at return.
        if let (true, PreparedState::Recorded(record)) = (self.durable, &mut prepared) {
            record.place_early()?;
            // The lower filesystem may wait for faults on the caller's buffer, which need space, too.
            if self.is_direct {
                record.reservation.release();
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
        let ((captured, failure), reservation) = self.capture_pre_image(mount, journal, size)?;
        Ok(OldState {
            running,
            size,
            captured,
            failure: failure.or(unready),
            reservation,
        })
    }

    /// Captures the pre-image by its kind, or applies the mount's policy on failure.
    #[inline(always)]
    fn capture_pre_image(
        &self,
        mount: &Mount,
        journal: &'a Journal,
        size: u64,
    ) -> Result<(CaptureOutcome, Option<Reservation<'a>>)> {
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
) -> Result<(CaptureOutcome, Option<Reservation<'a>>)> {
    match capture::range(journal, lower, reader, range, LINES) {
        Ok((captured, reservation)) => Ok(((captured, None), reservation)),
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
    call: Option<&'a CallLines>,
    args: OperationArgs,
    captured: Captured,
    /// Set if the pre-image is lost once the operation changes something.
    failure: Option<CaptureFailure>,
    reservation: Reservation<'a>,
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
        let (reservation, captured) = (&mut self.reservation, &self.captured);
        let first = self.call.map_or(0, |call| call.first.get());
        if first != 0 {
            let placed = place(&subject, state, reservation, &self.args, |draft| {
                captured.describe(draft);
                draft.of(first);
            })?;
            return Ok(placed.seq);
        }
        let placed = place_operation(&subject, state, reservation, &self.args, captured, is_last)?;
        if let Some(call) = self.call {
            call.first.set(placed.seq);
        }
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
        let reservation = &mut self.reservation;
        let placed = reservation.renew().and_then(|()| {
            place(&subject, state, reservation, &args, |draft| {
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
            return is_no_space(error) || error == ENOMEM || error == EIO;
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

/// The captured pre-image, or on failure the decision of the policy.
fn by_policy(mount: &Mount, captured: Result<Captured>, frees: bool) -> Result<CaptureOutcome> {
    match captured {
        Ok(captured) => Ok((captured, None)),
        Err(e) => {
            let failure = allow(mount, e, frees)?;
            Ok((Captured::Uncaptured(failure.why()), Some(failure)))
        }
    }
}

/// The captured pre-image, and the failure if there is none.
type CaptureOutcome = (Captured, Option<CaptureFailure>);
