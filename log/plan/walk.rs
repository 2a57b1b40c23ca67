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
const WAITING: usize = 8;

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
    /// No memory for the list of hidden lines.
    NoRoom,
}

/// The action of the request on a live operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The operation stays live; if it is a revert, its targets stay hidden.
    Stay,
    /// The operation is reverted; if it is a revert, its targets become live again, and come later
    /// in the walk.
    Go,
    /// This one is taken back by its number: also an undo, which is jumped over otherwise.
    Named,
}

/// The meaning of a line for the walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A live operation, corrected by later lines.
    Take,
    /// Nothing: the history's own books, an operation that did not happen, or was picked by a revert.
    Pass,
    /// A revert: its targets are not live, and the walk continues at this line, or ends.
    Jump(Option<Pos>),
    /// A revert that is a target, but a newer revert also reverted some of its targets: reverting
    /// this one would make those live again.
    Barred,
    /// The walk cannot go on.
    Stop(Stop),
}

/// A correction whose line has not come yet.
#[derive(Clone, Copy, Debug)]
struct Waiting {
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
    waiting: [Option<Waiting>; WAITING],
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
            waiting: [None; WAITING],
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

    /// Takes the line at [`Walk::next`]. `hidden` has the ranges of line numbers that reverts hide;
    /// the caller keeps it from one step to the next. `fate` applies to this line if it is live.
    pub fn step(
        &mut self,
        line: &mut Line<'_>,
        hidden: &mut impl Store<(u64, u64)>,
        fate: Fate,
    ) -> Step {
        let Some(at) = self.next.take() else {
            return Step::Stop(Stop::Corrupt);
        };
        let older = self
            .newer
            .is_none_or(|(seq, pos)| line.seq < seq && at < pos);
        if !older || line.obj != Some(self.object) {
            return Step::Stop(Stop::Corrupt);
        }
        self.newer = Some((line.seq, at));
        let step = self.judge(line, hidden, fate);
        self.next = match step {
            Step::Jump(back) => back,
            Step::Stop(_) => None,
            Step::Take | Step::Pass | Step::Barred => line.prev,
        };
        step
    }

    /// The meaning of a line.
    fn judge(
        &mut self,
        line: &mut Line<'_>,
        hidden: &mut impl Store<(u64, u64)>,
        fate: Fate,
    ) -> Step {
        match self.correction(line.seq) {
            Some(Waiting { amend: None, .. }) => return Step::Pass,
            Some(Waiting {
                amend: Some(amend), ..
            }) => line.amend(&amend),
            None => {}
        }
        let is_further = core::mem::take(&mut self.further);
        match line.op {
            Op::Amend | Op::Cancel => self.wait(line),
            Op::Picked if is_further => self.hide(line, hidden, Step::Pass),
            Op::External if self.on_external == OnExternal::Stop => Step::Stop(Stop::External),
            _ if is_hidden(line.seq, hidden) => Step::Pass,
            Op::Revert if fate == Fate::Named && is_barred(line, hidden) => Step::Barred,
            Op::Revert if fate == Fate::Named => Step::Take,
            // An undo is no target of another undo: the walk skips it and its targets.
            Op::Revert | Op::Redo if line.mode != Some(Mode::Pick) => match line.picks {
                None => Step::Jump(line.back),
                Some(_) => self.hide(line, hidden, Step::Pass),
            },
            Op::Revert if fate == Fate::Stay => self.hide(line, hidden, Step::Take),
            Op::Revert if is_barred(line, hidden) => Step::Barred,
            op if op.is_bookkeeping() => Step::Pass,
            _ => Step::Take,
        }
    }

    /// Hides the targets that a revert's line, or a `picked` line, lists; returns `step`.
    fn hide(&mut self, line: &Line<'_>, hidden: &mut impl Store<(u64, u64)>, step: Step) -> Step {
        for range in line.picks.iter().flat_map(|picks| picks.ranges()) {
            if range.1 >= line.seq {
                return Step::Stop(Stop::Corrupt);
            }
            if hidden.push(range).is_err() {
                return Step::Stop(Stop::NoRoom);
            }
        }
        self.further = line.further.is_some();
        step
    }

    /// Keeps a correction until its line comes. The newest one for a line holds, and a line that
    /// did not happen stays so.
    fn wait(&mut self, line: &Line<'_>) -> Step {
        let Some(of) = line.of.filter(|of| *of < line.seq) else {
            return Step::Stop(Stop::Corrupt);
        };
        let amend = match fold(of, line) {
            Fold::Amend(amend) => Some(amend),
            _ => None,
        };
        if self
            .waiting
            .iter()
            .flatten()
            .any(|waiting| waiting.of == of)
        {
            return Step::Pass;
        }
        match self.waiting.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => {
                *slot = Some(Waiting { of, amend });
                Step::Pass
            }
            None => Step::Stop(Stop::Corrupt),
        }
    }

    /// The correction of the line numbered `seq`. Those of newer lines are dropped: these lines
    /// were jumped over.
    fn correction(&mut self, seq: u64) -> Option<Waiting> {
        let mut found = None;
        for slot in &mut self.waiting {
            match slot {
                Some(waiting) if waiting.of >= seq => {
                    found = (waiting.of == seq).then_some(*waiting).or(found);
                    *slot = None;
                }
                _ => {}
            }
        }
        found
    }
}

/// Whether a live revert has reverted the operation.
fn is_hidden(seq: u64, hidden: &mut impl Store<(u64, u64)>) -> bool {
    let mut ranges = hidden.items().iter();
    ranges.any(|(first, last)| (*first..=*last).contains(&seq))
}

/// Whether a newer revert has also reverted a target of this revert. Targets on further lines are
/// not read yet: every number down to `further=` counts as one.
fn is_barred(line: &Line<'_>, hidden: &mut impl Store<(u64, u64)>) -> bool {
    let hidden = hidden.items();
    let listed = line.picks.iter().flat_map(|picks| picks.ranges());
    let further = line.further.zip(line.picks.map(|picks| picks.lowest()));
    let mut picked = Iterator::chain(further.into_iter(), listed);
    picked.any(|(first, last)| hidden.iter().any(|(a, b)| *a <= last && first <= *b))
}
