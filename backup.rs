// SPDX-License-Identifier: GPL-2.0

//! Before an operation: save what it is about to replace. After it: place its line.
//!
//! A hook states an [`ObjectOperation`], gets a [`PreparedOperation`] (the old bytes are staged, room for the line is
//! reserved), makes the change below, and settles it with the outcome.

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
    stack::{Mount, ObjectState, Open, UnderWay},
    vfs::{
        attr,
        dentry::{Dentry, OwnDentry},
        error::EOPNOTSUPP,
        file::File,
        inode::{Inode, OwnInode, QuickCookie}, //
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

/// What an operation destroys.
pub(crate) enum PreImage<'a> {
    /// Nothing but, at most, the size.
    Nothing,
    /// The bytes of a range (start, end), as far as the file reaches; read through this file.
    Range(&'a File, u64, u64),
    /// That the holes of a range (start, end) have no space, as far as the file reaches.
    Holes(&'a File, u64, u64),
    /// Attributes of the lower object with this name.
    Attributes(&'a Dentry, AttributeSet<'a>),
}

/// The old state that an operation replaces, as it was at one moment.
struct OldState<'a> {
    under_way: UnderWay<'a>,
    /// The object's size.
    size: u64,
    captured: Captured,
    /// The old state that is lost if the operation happens.
    failure: Option<CaptureFailure>,
    /// Room for the lines, if that came with the rest.
    room: Option<LineRoom<'a>>,
}

/// An operation that is about to change an object. Our inode's lock is held.
pub(crate) struct ObjectOperation<'a> {
    /// The object.
    pub(crate) inode: &'a OwnInode,
    /// The open file that it is changed through, if any.
    pub(crate) open: Option<&'a Open>,
    /// The operation, its offset and its length as asked for.
    pub(crate) op: Op,
    pub(crate) at: u64,
    pub(crate) length: u64,
    /// What it destroys.
    pub(crate) pre_image: PreImage<'a>,
    /// Whether the change may be durable when it returns: then its record has to be before.
    pub(crate) durable: bool,
    /// Whether the lower filesystem itself takes the caller's pages, which may have to be waited for:
    /// then no room of the journal is held meanwhile. Such a change is `durable`.
    pub(crate) is_direct: bool,
}

impl<'a> ObjectOperation<'a> {
    /// Saves what will be lost and reserves room for the line.
    ///
    /// An error means that the operation must not happen; with `on_error=continue` only ENOSPC of
    /// `on_full=deny` and a killed caller do that.
    pub(crate) fn prepare(self) -> Result<PreparedOperation<'a>> {
        self.with_record(|record| Ok(PreparedOperation(mem::take(record))))
    }

    /// Prepares, changes and settles: costs less than the same in three steps.
    #[inline]
    pub(crate) fn around(self, change: impl FnOnce() -> Result<usize>) -> Result<usize> {
        self.with_record(|record| {
            let result = change();
            record.settle(result.map(|n| n as u64));
            result
        })
    }

    /// Goes on with the record, where it stays.
    #[inline(always)]
    fn with_record<T>(self, go: impl FnOnce(&mut PreparedState<'a>) -> Result<T>) -> Result<T> {
        let mount = self.inode.mount();
        let Some(journal) = mount.journal() else {
            return go(&mut PreparedState::Off);
        };
        let old = self.capture_old_state(mount, journal)?;
        // Deleting always works: on a full filesystem its old state is given up.
        let frees = self.frees(old.size);
        let room = match old
            .room
            .map_or_else(|| journal.reserve_lines_killable(LINES), Ok)
        {
            Ok(room) => room,
            Err(e) => {
                drop(old.under_way);
                let failure = allow(mount, e, frees)?;
                return go(&mut PreparedState::Unrecorded(mount, journal, failure));
            }
        };
        // Made where it stays: to move it would cost a copy.
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
            _under_way: old.under_way,
        });
        if let (true, PreparedState::Recorded(record)) = (self.durable, &mut prepared) {
            record.place_early()?;
            if self.is_direct {
                record.room.release();
            }
        }
        go(&mut prepared)
    }

    /// Whether it makes room on the lower filesystem.
    fn frees(&self, size: u64) -> bool {
        self.op == Op::Truncate && self.at < size
    }

    /// Saves what will be lost, as it is at one moment: stores through mappings are told before, or
    /// come after. Answers the object's size too.
    #[inline(always)]
    fn capture_old_state(&self, mount: &Mount, journal: &'a Journal) -> Result<OldState<'a>> {
        let stores = self.inode.object().stores();
        if !stores.is_mapped() {
            let old = self.capture_once(mount, journal)?;
            // Or somebody has mapped it in between.
            if !stores.is_mapped() {
                return Ok(old);
            }
        }
        self.capture_blocked(mount, journal)
    }

    /// As [`Self::capture_old_state`], of an object with mappings: their stores wait.
    #[cold]
    fn capture_blocked(&self, mount: &Mount, journal: &'a Journal) -> Result<OldState<'a>> {
        let _gate = self.inode.object().stores().shut();
        self.capture_once(mount, journal)
    }

    #[inline(always)]
    fn capture_once(&self, mount: &Mount, journal: &'a Journal) -> Result<OldState<'a>> {
        let unready = match ensure_loaded(mount, journal, self.inode, true)? {
            Err(e) => Some(allow(mount, e, false)?),
            Ok(()) => None,
        };
        let under_way = self.inode.object().stores().operation();
        let size = self.inode.lower().size();
        let ((captured, failure), room) = self.capture_pre_image(mount, journal, size)?;
        Ok(OldState {
            under_way,
            size,
            captured,
            failure: failure.or(unready),
            room,
        })
    }

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

/// Sees to it that the object's chain is known, and that a change which did not come through us
/// (or went unrecorded) stands in it before our next one. Only under our inode's lock (`is_locked`)
/// can that be told: without it an operation of ours may be under way, which has moved the
/// object's times and is not noted yet.
///
/// The outer error is no matter of policy: a revert is half done and cannot be withdrawn, and what
/// is changed now would be overwritten when it can be.
fn ensure_loaded(
    mount: &Mount,
    journal: &Journal,
    inode: &OwnInode,
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
    let Some(name) = inode.lower().any_name() else {
        return Ok(Ok(()));
    };
    if state.loaded {
        return Ok(lines::note_external(
            mount, journal, inode, &name, &mut state,
        ));
    }
    let loaded = lines::load(mount, journal, inode, &name, &mut state);
    if is_locked && state.half_done {
        crate::revert::roll_back_last(mount, journal, inode, &name, &mut state)?;
    }
    // Stores that came while it could not be loaded.
    Ok(loaded.and_then(|()| log_dirty_ranges(journal, inode, &mut state, caller)))
}

/// Whether the object is not as our last operation left it. Stores through a shared mapping move
/// its times too, and have lines of their own.
pub(crate) fn is_changed_externally(state: &ObjectState, inode: &OwnInode) -> bool {
    has_changed(state, inode) && inode.object().stores().begun() == state.faults
}

/// Whether a file's times or size are not what they were after our last operation.
#[inline(always)]
fn has_changed(state: &ObjectState, inode: &OwnInode) -> bool {
    let Some(seen) = state.seen.filter(|_| inode.is_regular()) else {
        return false;
    };
    // A stacked filesystem below copies times that stores have moved at a time of its own choice.
    seen != inode.pages().quick_cookie()
        && seen != inode.lower().quick_cookie()
        && !is_reclaimed(&seen, inode)
}

/// Whether only the change time has moved of a file that looked like `seen`, since the history gave up the
/// last name, which it had: somebody may have the file open still.
pub(crate) fn is_reclaimed(seen: &QuickCookie, inode: &OwnInode) -> bool {
    let lower = inode.lower();
    inode.object().is_kept() && lower.links() == 0 && lower.has_content_of(seen)
}

/// The object's quick cookie, which from now on tells any change apart, also within one tick of the
/// clock: asking the lower filesystem for the object's times sees to that.
fn armed_cookie(mount: &Mount, lower: &Inode) -> QuickCookie {
    if let Some(name) = lower.any_name() {
        let _ = attr::cookie(mount.lower(), &name);
    }
    lower.quick_cookie()
}

/// How many lines an operation makes at most: its own, and one that corrects it.
const LINES: u32 = 2;

/// Saves a range of the lower file, by the mount's policy where that fails; reserves room for the
/// lines if that comes with it.
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

/// An operation whose old state is saved and whose outcome is not known yet.
///
/// Dropping it unsettled means that nothing happened.
pub(crate) struct PreparedOperation<'a>(PreparedState<'a>);

impl PreparedOperation<'_> {
    /// Places the line: the operation changed `outcome` bytes, or failed.
    pub(crate) fn settle(mut self, outcome: Result<u64>) {
        self.0.settle(outcome);
    }
}

/// The bookkeeping of an operation, beside the change itself.
#[derive(Default)]
enum PreparedState<'a> {
    /// The history is off.
    #[default]
    Off,
    /// There is no room for a line.
    Unrecorded(&'a Mount, &'a Journal, CaptureFailure),
    /// A line is to be placed.
    Recorded(OperationRecord<'a>),
}

impl PreparedState<'_> {
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
    inode: &'a OwnInode,
    open: Option<&'a Open>,
    args: OperationArgs,
    captured: Captured,
    /// The old state that is lost if the operation changes something.
    failure: Option<CaptureFailure>,
    room: LineRoom<'a>,
    /// What the object looked like before, where the record has to be durable first.
    before: Option<QuickCookie>,
    /// The number of the line when it was placed before the change.
    early: Option<u64>,
    /// Last: stores are told when the line is placed.
    _under_way: UnderWay<'a>,
}

impl OperationRecord<'_> {
    /// Makes payload and line durable before the change.
    fn place_early(&mut self) -> Result {
        let inode = self.inode;
        let placed = {
            let mut state = inode.object().state.lock();
            self.place(&mut state, false)
        };
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
                            self.correct(&mut state, seq, Op::Cancel);
                        }
                        return Err(refused);
                    }
                }
            }
        }
        Ok(())
    }

    /// Places the operation's line, the last one or not; returns its number.
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

    /// Corrects a line that says more than happened.
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

    /// Places the line after a change of `n` bytes. A payload that reaches further belongs to the
    /// range that was asked for: the line says that one, and a second line corrects it.
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

    /// How many bytes were changed, at most; `None`: nothing was.
    fn changed(&self, state: &ObjectState, outcome: Result<u64>) -> Option<u64> {
        let asked = self.args.length;
        match (outcome, self.early) {
            // An operation on no bytes (an attribute, a size) happened all the same.
            (Ok(n), _) if n != 0 || asked == 0 => Some(n.min(asked)),
            // It failed half way perhaps: what it could have changed is all that the line says.
            (Err(_), Some(_)) if Some(self.inode.lower().quick_cookie()) != self.before => {
                Some(asked)
            }
            (Err(e), None) if self.may_have_begun(state, e) => Some(asked),
            _ => None,
        }
    }

    /// Whether an operation without a line yet may have changed something before it failed.
    ///
    /// A write through the page cache moves the file's times before it looks at anything else, so
    /// there the error tells: btrfs copies into a folio that is in use before it asks for room.
    fn may_have_begun(&self, state: &ObjectState, error: Error) -> bool {
        if self.args.op == Op::Write && self.before.is_none() {
            return is_no_room(error) || error == ENOMEM || error == EIO;
        }
        let is_of_space = matches!(
            self.args.op,
            Op::Allocate | Op::Punch | Op::Zero | Op::Collapse | Op::Insert
        );
        if is_of_space && (error == EINVAL || error == EOPNOTSUPP) {
            // fallocate(): ext4 moves the times before it looks at mode and alignment.
            return false;
        }
        has_changed(state, self.inode)
    }

    fn settle(&mut self, outcome: Result<u64>) {
        let inode = self.inode;
        let mut state = inode.object().state.lock();
        let changed = self.changed(&state, outcome);
        if changed.is_none() && self.early.is_none() {
            // A write that fails has moved the file's times before: that was nobody else.
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

/// Notes what the object looks like.
fn observe(state: &mut ObjectState, inode: &OwnInode) {
    // Faults that have not ended yet move its times later.
    state.faults = inode.object().stores().ended();
    state.seen = Some(inode.pages().quick_cookie());
}

/// As [`observe`], by somebody who does not hold our inode's lock: while an operation is under way,
/// what it looked like before is what tells whether that has changed anything.
fn observe_if_idle(state: &mut ObjectState, inode: &OwnInode) {
    let before = (state.seen, state.faults);
    observe(state, inode);
    if inode.object().stores().is_operation_under_way() {
        (state.seen, state.faults) = before;
    }
}

/// Notes what the object looks like after an operation of ours.
pub(crate) fn note_change(state: &mut ObjectState, inode: &OwnInode) {
    observe(state, inode);
    state.left = None;
    state.changed = true;
}

/// Notes that an object is new: it has no lines yet.
pub(crate) fn note_new(inode: &OwnInode) {
    let mut state = inode.object().state.lock();
    if !state.loaded {
        state.loaded = true;
        observe(&mut state, inode);
    }
}

/// Asks the history for the object's last line, if that is not known, and compares the object with
/// what it says. Before a change of the object or its names that moves its times; our inode's
/// lock is held.
pub(crate) fn load(inode: &OwnInode) -> Result {
    load_with(inode, true)
}

fn load_with(inode: &OwnInode, is_locked: bool) -> Result {
    let mount = inode.mount();
    let Some(journal) = mount.journal() else {
        return Ok(());
    };
    let _gate = inode.object().stores().shut_if_mapped();
    match ensure_loaded(mount, journal, inode, is_locked)? {
        Err(e) => {
            // Nothing has happened yet: see `note_ctime_change_at`.
            let CaptureFailure(error) = allow(mount, e, false)?;
            inode.object().state.lock().unread = Some(error);
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// As [`load`], for an open for writing: our inode's lock is not held.
pub(crate) fn load_to_open(inode: &OwnInode) -> Result {
    load_with(inode, false)
}

/// A change of names or attributes that does not go through the object's own chain (a new link,
/// a rename) has moved its change time: what was left is left anew. The object is loaded.
pub(crate) fn note_ctime_change(inode: &OwnInode, dentry: &OwnDentry) {
    if let Ok(lower) = dentry.lower() {
        note_ctime_change_at(inode, lower);
    }
}

/// The object has a name in another directory now: its next line says so.
pub(crate) fn note_new_parent(inode: &OwnInode) {
    inode.object().state.lock().handle_told_in = 0;
}

/// As [`note_ctime_change`], by the object's lower name.
pub(crate) fn note_ctime_change_at(inode: &OwnInode, lower: &Dentry) {
    let stale = {
        let mut state = inode.object().state.lock();
        let unread = state.unread.take();
        if let Some(error) = unread.filter(|_| !state.loaded) {
            // Its time has moved, and no line says why.
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

/// Says how we leave the object: at the last close, fsync and unmount.
pub(crate) fn write_close(inode: &OwnInode, dentry: &OwnDentry) {
    write_close_at(inode, || dentry.lower());
}

/// As [`write_close`], by the object's lower name, and whether it was changed or not: its handle is told with
/// it. The object is loaded.
pub(crate) fn write_close_with_handle(inode: &OwnInode, lower: &Dentry) {
    {
        let mut state = inode.object().state.lock();
        state.changed = true;
        state.handle_told_in = 0;
    }
    write_close_at(inode, || Ok(lower));
}

fn write_close_at<'a>(inode: &OwnInode, lower: impl FnOnce() -> Result<&'a Dentry>) {
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
        // A killed caller did not wait: the next one does it, or eviction.
        Err(e) if e != EINTR => mount.warn_lost(e),
        _ => {}
    }
}

/// As [`write_close`], when the inode goes out of memory, perhaps by a shrinker: never waits, and gives up
/// rather than that. The line tells the lower object's times, for which a filesystem that is not local
/// asks a server or a daemon. An object without a closing line is taken as it is found, at its next use.
pub(crate) fn write_close_on_evict(inode: &OwnInode) {
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
    let Some(lower) = inode.lower().any_name() else {
        return;
    };
    let _ = lines::try_write_close(mount, journal, inode, &lower, &mut state);
}
