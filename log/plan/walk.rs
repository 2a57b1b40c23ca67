// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The walk along an object's chain, newest line first: finds out which operations are live.
//!
//! A revert of the newest operations has `back=`, the line at which the walk continues. A revert of
//! chosen operations lists its targets, and the walk skips them.

use super::super::types::{ObjectId, Pos};
use super::{
    super::line::{fold, Amend, Fold, Line, Mode, Op},
    Store,
};

/// How many corrections may wait for the lines they name. A correction follows its line under
/// the object's lock; only lines of faults come in between, and those need none.
const MAX_PENDING: usize = 8;

/// The action at an `external` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExternal {
    /// Stop: older operations may not fit the present content.
    Stop,
    /// Go on: the caller insists, or only reads.
    Pass,
}

/// Why a walk ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stop {
    /// The object was changed outside.
    External,
    /// The chain contradicts itself: another object's line, a step forward, lost corrections.
    Corrupt,
    /// No memory for the list of reverted lines.
    NoSpace,
}

/// The action of the request on a live operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// The operation stays live; if it is a revert, its targets stay reverted.
    Keep,
    /// The operation is reverted; if it is a revert, its targets become live again, and come later
    /// in the walk.
    Revert,
    /// The operation is reverted, chosen by its number: also an undo, which the walk skips otherwise.
    RevertByNumber,
    /// The change is taken back as a change of the object, whatever it meant: a revert, an undo and a
    /// redo like any other operation. The walk jumps over nothing.
    AsChange,
}

/// The meaning of a line for the walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalkStep {
    /// A live operation, corrected by later lines.
    Live,
    /// Nothing: bookkeeping, an operation that did not happen, or one that a revert has reverted.
    Skip,
    /// A revert: its targets are not live, and the walk continues at this line, or ends.
    JumpTo(Option<Pos>),
    /// A revert that is a target, but a newer revert also reverted some of its targets: reverting
    /// this one would make those live again.
    Conflict,
    /// The walk cannot go on.
    Stop(Stop),
}

/// A correction whose line has not come yet.
#[derive(Clone, Copy, Debug)]
struct PendingCorrection {
    of: u64,
    amend: Option<Amend>,
}

/// A walk along one object's chain. The caller reads the lines, from the object's newest one to
/// wherever [`Walk::next`] says; a line that is not there any more was trimmed.
#[derive(Clone, Debug)]
pub struct Walk {
    object: ObjectId,
    on_external: OnExternal,
    /// The line before (newer), by number and place.
    newer: Option<(u64, Pos)>,
    next: Option<Pos>,
    pending: [Option<PendingCorrection>; MAX_PENDING],
    /// The next line lists more targets of a live revert.
    further: bool,
}

impl Walk {
    /// Starts at an object's newest line, if there is one.
    pub fn new(object: ObjectId, newest: Option<Pos>, on_external: OnExternal) -> Self {
        Self {
            object,
            on_external,
            newer: None,
            next: newest,
            pending: [None; MAX_PENDING],
            further: false,
        }
    }

    /// The position of the line that [`Self::step`] expects; `None`: the walk is over.
    pub fn next(&self) -> Option<Pos> {
        self.next
    }

    /// Goes on at an older place: the caller is not shown the lines between, which do not jump.
    pub fn pass_to(&mut self, at: Pos) {
        if self.next.is_some_and(|next| at < next) {
            self.next = Some(at);
        }
    }

    /// Takes the line at [`Walk::next`]. `reverted` has the ranges of line numbers that reverts list;
    /// the caller keeps it from one step to the next. `disposition` applies to this line if it is live.
    pub fn step(
        &mut self,
        line: &mut Line<'_>,
        reverted: &mut impl Store<(u64, u64)>,
        disposition: Disposition,
    ) -> WalkStep {
        let Some(at) = self.next.take() else {
            return WalkStep::Stop(Stop::Corrupt);
        };
        let older = self
            .newer
            .is_none_or(|(seq, pos)| line.seq < seq && at < pos);
        if !older || line.obj != Some(self.object) {
            return WalkStep::Stop(Stop::Corrupt);
        }
        self.newer = Some((line.seq, at));
        let step = self.classify(line, reverted, disposition);
        self.next = match step {
            WalkStep::JumpTo(back) => back,
            WalkStep::Stop(_) => None,
            WalkStep::Live | WalkStep::Skip | WalkStep::Conflict => line.prev,
        };
        step
    }

    /// The meaning of a line.
    fn classify(
        &mut self,
        line: &mut Line<'_>,
        reverted: &mut impl Store<(u64, u64)>,
        disposition: Disposition,
    ) -> WalkStep {
        match self.correction(line.seq) {
            Some(PendingCorrection { amend: None, .. }) => return WalkStep::Skip,
            Some(PendingCorrection {
                amend: Some(amend), ..
            }) => line.amend(&amend),
            None => {}
        }
        let is_further = core::mem::take(&mut self.further);
        match line.op {
            Op::Amend | Op::Cancel => self.add_pending(line),
            Op::Picked if is_further => self.add_reverted(line, reverted, WalkStep::Skip),
            Op::External if self.on_external == OnExternal::Stop => WalkStep::Stop(Stop::External),
            op if disposition == Disposition::AsChange => match op.is_bookkeeping() {
                true => WalkStep::Skip,
                false => WalkStep::Live,
            },
            _ if is_reverted(line.seq, reverted) => WalkStep::Skip,
            Op::Revert
                if disposition == Disposition::RevertByNumber && has_conflict(line, reverted) =>
            {
                WalkStep::Conflict
            }
            Op::Revert if disposition == Disposition::RevertByNumber => WalkStep::Live,
            // An undo is no target of another undo: the walk skips it and its targets.
            Op::Revert | Op::Redo if line.mode != Some(Mode::Pick) => match line.targets {
                None => WalkStep::JumpTo(line.back),
                Some(_) => self.add_reverted(line, reverted, WalkStep::Skip),
            },
            Op::Revert if disposition == Disposition::Keep => {
                self.add_reverted(line, reverted, WalkStep::Live)
            }
            Op::Revert if has_conflict(line, reverted) => WalkStep::Conflict,
            op if op.is_bookkeeping() => WalkStep::Skip,
            _ => WalkStep::Live,
        }
    }

    /// Adds the targets that a revert's line, or a `picked` line, lists; returns `step`.
    fn add_reverted(
        &mut self,
        line: &Line<'_>,
        reverted: &mut impl Store<(u64, u64)>,
        step: WalkStep,
    ) -> WalkStep {
        for range in line.targets.iter().flat_map(|targets| targets.ranges()) {
            if range.1 >= line.seq {
                return WalkStep::Stop(Stop::Corrupt);
            }
            if reverted.push(range).is_err() {
                return WalkStep::Stop(Stop::NoSpace);
            }
        }
        self.further = line.further.is_some();
        step
    }

    /// Keeps a correction until its line comes. The newest one for a line holds, and a line that
    /// did not happen stays so.
    fn add_pending(&mut self, line: &Line<'_>) -> WalkStep {
        let Some(of) = line.of.filter(|of| *of < line.seq) else {
            return WalkStep::Stop(Stop::Corrupt);
        };
        let amend = match fold(of, line) {
            Fold::Amend(amend) => Some(amend),
            _ => None,
        };
        if self
            .pending
            .iter()
            .flatten()
            .any(|pending| pending.of == of)
        {
            return WalkStep::Skip;
        }
        match self.pending.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => {
                *slot = Some(PendingCorrection { of, amend });
                WalkStep::Skip
            }
            None => WalkStep::Stop(Stop::Corrupt),
        }
    }

    /// The correction of the line numbered `seq`. Those of newer lines are dropped: these lines
    /// were jumped over.
    fn correction(&mut self, seq: u64) -> Option<PendingCorrection> {
        let mut found = None;
        for slot in &mut self.pending {
            match slot {
                Some(pending) if pending.of >= seq => {
                    found = (pending.of == seq).then_some(*pending).or(found);
                    *slot = None;
                }
                _ => {}
            }
        }
        found
    }
}

/// Whether a live revert has reverted the operation.
fn is_reverted(seq: u64, reverted: &mut impl Store<(u64, u64)>) -> bool {
    let mut ranges = reverted.items().iter();
    ranges.any(|(first, last)| (*first..=*last).contains(&seq))
}

/// Whether a newer revert has also reverted a target of this revert. Targets on further lines are
/// not read yet: every number down to `further=` counts as one.
fn has_conflict(line: &Line<'_>, reverted: &mut impl Store<(u64, u64)>) -> bool {
    let reverted = reverted.items();
    let listed = line.targets.iter().flat_map(|targets| targets.ranges());
    let further = line
        .further
        .zip(line.targets.map(|targets| targets.lowest()));
    let mut picked = Iterator::chain(further.into_iter(), listed);
    picked.any(|(first, last)| reverted.iter().any(|(a, b)| *a <= last && first <= *b))
}
