// SPDX-License-Identifier: GPL-2.0

//! The steps of a revert of names. A step holds only the position of its line, which is read again
//! when the step is applied, so that the memory for a revert of any size is small.

use super::{
    binding::UnlinkedObject, chain::ChainLink, names::Outcome, targets::TargetSet, Chain, Refusal,
};
use crate::{
    history::journal::Journal,
    log::{
        line::{Line, Op, Undo},
        plan::{
            name_steps, Disposition, NameStep, OnExternal, Progress, RedoStep, RedoWalk, WalkStep,
        },
        types::Pos,
    },
    uapi::Reason,
    vfs::error::{ENODATA, EUCLEAN},
};
use kernel::prelude::*;

pub(super) use crate::{history::lines::Lines, log::plan::is_on_names};

/// Whether a step reverts an operation or applies it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// Reverts the operation.
    Undo,
    /// Applies the operation again, which a revert has reverted.
    Redo,
}

impl Direction {
    /// The opposite direction.
    pub(super) fn inverted(self) -> Self {
        match self {
            Self::Undo => Self::Redo,
            Self::Redo => Self::Undo,
        }
    }
}

/// A step to apply, or an applied one.
pub(super) struct UndoStep {
    /// Number of the operation, for refusals.
    pub(super) seq: u64,
    /// Position of the line that defines the step.
    pub(super) at: Pos,
    /// Whether the step is the second one of that line.
    is_second: bool,
    /// Whether the step reverts the creation of a directory by the operation `seq` itself.
    pub(super) is_of_mkdir: bool,
    /// Segment of the orphan that the step restores; `u64::MAX` if it restores none, 0 if the line has
    /// no segment for an orphan that a revert made.
    pub(super) kept: u64,
    /// Index of the directory within a group.
    pub(super) directory: usize,
    pub(super) direction: Direction,
    /// The object that lost a name in this step, for the rollback.
    pub(super) unlinked: Option<UnlinkedObject>,
}

impl UndoStep {
    /// Whether the step is applied before another one of its group: the steps that revert come first,
    /// the newest first, then those that redo, the oldest first. For one line, the steps are in the
    /// order of [`StepOrigin::push`].
    pub(super) fn is_before(&self, other: &Self) -> bool {
        match (self.direction, other.direction) {
            // The newest first: then each older operation finds its names free again.
            (Direction::Undo, Direction::Undo) => {
                (other.at, self.is_second) < (self.at, other.is_second)
            }
            (Direction::Redo, Direction::Redo) => {
                (self.at, other.is_second) < (other.at, self.is_second)
            }
            (direction, _) => direction == Direction::Undo,
        }
    }
}

/// Steps in the order in which they are applied, of which the first ones are applied.
pub(super) struct StepSequence<'j> {
    /// Allocated before the first step: a rollback must not fail for want of memory.
    lines: Lines<'j>,
    pub(super) undo_steps: KVVec<UndoStep>,
    /// Number of applied steps.
    done: usize,
}

impl<'j> StepSequence<'j> {
    pub(super) fn new(journal: &'j Journal, undo_steps: KVVec<UndoStep>) -> Result<Self> {
        Ok(Self {
            lines: Lines::new(journal)?,
            undo_steps,
            done: 0,
        })
    }

    /// Applies the steps that are not applied yet.
    pub(super) fn apply(
        &mut self,
        mut perform: impl FnMut(&mut Lines<'j>, &mut UndoStep) -> Outcome,
    ) -> Outcome {
        for undo_step in self.undo_steps.iter_mut().skip(self.done) {
            perform(&mut self.lines, undo_step)?;
            self.done = self.done.saturating_add(1);
        }
        Ok(())
    }

    /// Rolls the applied steps back, in reverse order.
    pub(super) fn roll_back(
        &mut self,
        mut undo: impl FnMut(&mut Lines<'j>, &mut UndoStep) -> Outcome,
    ) -> Outcome {
        for undo_step in self.undo_steps.iter_mut().take(self.done).rev() {
            undo(&mut self.lines, undo_step)?;
        }
        Ok(())
    }

    /// The applied steps.
    pub(super) fn applied(&self) -> &[UndoStep] {
        self.undo_steps.get(..self.done).unwrap_or_default()
    }

    /// Finds out how many steps were applied before a crash: `count` says of each whether its names
    /// are as after it. Then resynchronises the objects of these, with `resync`.
    pub(super) fn find_applied(
        &mut self,
        mut count: impl FnMut(&mut Lines<'j>, &UndoStep, &mut Progress) -> Outcome,
        mut resync: impl FnMut(&mut Lines<'j>, &UndoStep) -> Outcome,
    ) -> Outcome {
        let mut progress = Progress::default();
        for undo_step in &self.undo_steps {
            count(&mut self.lines, undo_step, &mut progress)?;
        }
        self.done = progress.done().min(self.undo_steps.len());
        for undo_step in self.undo_steps.iter().take(self.done) {
            resync(&mut self.lines, undo_step)?;
        }
        Ok(())
    }
}

impl Lines<'_> {
    /// The change of names that a step makes.
    pub(super) fn step(&mut self, undo_step: &UndoStep) -> Outcome<NameStep<'_>> {
        let len = self.fetch(undo_step.at)?;
        self.step_in(len, undo_step)
    }

    /// As [`Self::step`], for the line in the buffer.
    #[inline(never)]
    fn step_in(&self, len: usize, undo_step: &UndoStep) -> Outcome<NameStep<'_>> {
        let seq = undo_step.seq;
        let line = self.parse(len)?;
        let (first, second) = name_steps(&line).map_err(|e| e.refuse(seq))?;
        if undo_step.is_second {
            second.ok_or(EUCLEAN.into())
        } else {
            Ok(first)
        }
    }
}

/// Limit of nested reverts: each restore between two points in time adds one level.
const DEEPEST: usize = 1024;

/// Limit of the steps of one revert: each level can double their number.
const MOST_STEPS: usize = 4 << 20;

/// Reverted operations of one revert, whose steps are being added.
struct RevertLevel {
    places: KVVec<Pos>,
    next: usize,
    direction: Direction,
}

impl RevertLevel {
    fn new(places: KVVec<Pos>, direction: Direction) -> Self {
        Self {
            places,
            next: 0,
            direction,
        }
    }

    /// The next operation and its direction.
    fn next(&mut self) -> Option<(Pos, Direction)> {
        let at = self.places.get(self.next).copied()?;
        self.next = self.next.saturating_add(1);
        Some((at, self.direction))
    }
}

/// Context of the steps of one operation.
#[derive(Clone, Copy)]
pub(super) struct StepOrigin<'j> {
    pub(super) journal: &'j Journal,
    /// Number of the operation, for refusals.
    pub(super) seq: u64,
    /// Index of the directory within a group.
    pub(super) directory: usize,
}

impl StepOrigin<'_> {
    /// Adds the steps that revert, or apply again, the operation at `at`.
    pub(super) fn add(
        &self,
        at: Pos,
        direction: Direction,
        undo_steps: &mut KVVec<UndoStep>,
    ) -> Outcome {
        let mut places = KVVec::new();
        places.push(at, GFP_KERNEL_ACCOUNT)?;
        self.add_all(places, direction, undo_steps)
    }

    /// As [`Self::add`], for several operations. Iterates with an explicit stack: the kernel stack
    /// is small.
    fn add_all(
        &self,
        places: KVVec<Pos>,
        direction: Direction,
        undo_steps: &mut KVVec<UndoStep>,
    ) -> Outcome {
        let mut lines = Lines::new(self.journal)?;
        let mut levels = KVVec::new();
        levels.push(RevertLevel::new(places, direction), GFP_KERNEL_ACCOUNT)?;
        while let Some(level) = levels.last_mut() {
            let Some((at, direction)) = level.next() else {
                levels.pop();
                continue;
            };
            let Some(more) = self.add_at(&mut lines, at, direction, undo_steps)? else {
                continue;
            };
            // Bounds time and memory, since a history may be forged.
            if levels.len() >= DEEPEST || undo_steps.len() >= MOST_STEPS {
                return Err(Refusal::new(Reason::Unsupported, self.seq));
            }
            levels.push(
                RevertLevel::new(more, direction.inverted()),
                GFP_KERNEL_ACCOUNT,
            )?;
        }
        Ok(())
    }

    /// Adds an operation's steps. For a revert, returns the operations it reverted, in the order of
    /// the steps: a revert is reverted by applying these again, the oldest first.
    #[inline(never)]
    fn add_at(
        &self,
        lines: &mut Lines<'_>,
        at: Pos,
        direction: Direction,
        undo_steps: &mut KVVec<UndoStep>,
    ) -> Outcome<Option<KVVec<Pos>>> {
        let line = lines.read(at)?;
        if line.op != Op::Revert {
            return self.push(&line, at, direction, undo_steps).map(|()| None);
        }
        if line.undo == Some(Undo::Lost) {
            // That revert deleted its victims (`no_redo`).
            return Err(Refusal::new(Reason::Lost, self.seq));
        }
        let mut places = reverted_operations(self.journal, &line)?;
        if direction == Direction::Undo {
            // Operations are applied again from the oldest to the newest.
            places.reverse();
        }
        Ok(Some(places))
    }

    /// Adds the steps of an operation that is not a revert.
    #[inline(never)]
    pub(super) fn push(
        &self,
        line: &Line<'_>,
        at: Pos,
        direction: Direction,
        undo_steps: &mut KVVec<UndoStep>,
    ) -> Outcome {
        let seq = self.seq;
        let (first, second) = name_steps(line).map_err(|e| e.refuse(seq))?;
        let is_of_mkdir = direction == Direction::Undo && line.op == Op::Mkdir && line.seq == seq;
        // A rename over an object has two steps: the name goes back, then the victim is restored.
        let order: &[bool] = match (second.is_some(), direction) {
            (false, _) => &[false],
            (true, Direction::Undo) => &[false, true],
            (true, Direction::Redo) => &[true, false],
        };
        for &is_second in order {
            let step = second.as_ref().filter(|_| is_second).unwrap_or(&first);
            let undo_step = UndoStep {
                seq,
                at,
                is_second,
                is_of_mkdir,
                kept: kept_segment(step, direction),
                directory: self.directory,
                direction,
                unlinked: None,
            };
            undo_steps.push(undo_step, GFP_KERNEL_ACCOUNT)?;
        }
        Ok(())
    }
}

/// Segment of the orphan that a step restores, as [`UndoStep::kept`].
fn kept_segment(step: &NameStep<'_>, direction: Direction) -> u64 {
    match step {
        _ if direction == Direction::Redo => 0,
        NameStep::Restore { victim, .. } => victim.kept.unwrap_or(u64::MAX),
        _ => u64::MAX,
    }
}

/// The steps of a revert or redo of names, for the directory with this index within the group.
pub(super) fn steps_of(
    journal: &Journal,
    line: &Line<'_>,
    directory: usize,
) -> Outcome<KVVec<UndoStep>> {
    let origin = StepOrigin {
        journal,
        seq: line.seq,
        directory,
    };
    let mut undo_steps = KVVec::new();
    if line.op == Op::Redo {
        for at in redone_operations(journal, line)? {
            origin.add(at, Direction::Undo, &mut undo_steps)?;
        }
        return Ok(undo_steps);
    }
    let places = reverted_operations(journal, line)?;
    origin.add_all(places, Direction::Undo, &mut undo_steps)?;
    Ok(undo_steps)
}

/// Positions of the undos that a redo reverted, the newest first.
#[inline(never)]
pub(super) fn redone_operations(journal: &Journal, line: &Line<'_>) -> Outcome<KVVec<Pos>> {
    let mut lines = Lines::new(journal)?;
    let mut places = KVVec::new();
    let mut next = line.prev;
    // Skips lines between the redo and the newest undo, which belong to other objects of the group.
    let newest = loop {
        let (at, found) = lines.back(&mut next)?.ok_or(EUCLEAN)?;
        if Some(found.seq) == line.of {
            break at;
        }
    };
    // The same search as for the redo itself, so that the same undos are found.
    let mut search = RedoSearch::new(journal, Some(newest), u64::MAX)?;
    let most = line.count.unwrap_or(1);
    while (places.len() as u64) < most {
        let (at, found) = match search.next() {
            Err(refusal) if matches!(refusal.reason, Reason::Conflict | Reason::NothingLeft) => {
                return Err(EUCLEAN.into())
            }
            found => found?,
        };
        // Undos of the other kind belong to another member of the group.
        if is_on_names(&found) == is_on_names(line) {
            places.push(at, GFP_KERNEL_ACCOUNT)?;
        }
    }
    Ok(places)
}

/// Positions of the operations on names that the revert `line` reverted, the newest first.
#[inline(never)]
pub(super) fn reverted_operations(journal: &Journal, line: &Line<'_>) -> Outcome<KVVec<Pos>> {
    let object = line.obj.ok_or(EUCLEAN)?;
    let picked = TargetSet::of(journal, line)?;
    let lowest = picked.as_ref().map(|picked| picked.lowest());
    let most = line.count.ok_or(EUCLEAN)?;
    let mut chain = Chain::new(journal, object, line.prev, OnExternal::Pass)?;
    let mut places = KVVec::new();
    while (places.len() as u64) < most {
        let is_wanted = |seq| picked.as_ref().is_none_or(|picked| picked.contains(seq));
        let disposition = |seq| match is_wanted(seq) {
            // A revert of the newest operations skipped undos among these, too.
            true if picked.is_none() => Disposition::Revert,
            is_taken => disposition(is_taken),
        };
        let found = match &chain.step_with(disposition)? {
            ChainLink::End => return Err(EUCLEAN.into()),
            ChainLink::Trimmed => return Err(Refusal::new(Reason::Trimmed, line.seq)),
            ChainLink::Line(found, at, _, WalkStep::Live) if is_on_names(found) => {
                is_wanted(found.seq).then_some(*at)
            }
            ChainLink::Line(found, ..) if lowest.is_some_and(|lowest| found.seq < lowest) => {
                return Err(EUCLEAN.into())
            }
            ChainLink::Line(..) => None,
        };
        if let Some(at) = found {
            places.push(at, GFP_KERNEL_ACCOUNT)?;
        }
    }
    Ok(places)
}

/// The disposition of an operation in a revert with listed numbers.
pub(super) fn disposition(is_taken: bool) -> Disposition {
    if is_taken {
        Disposition::RevertByNumber
    } else {
        Disposition::Keep
    }
}

/// A search for undos that a redo can revert, the newest first.
pub(super) struct RedoSearch<'j> {
    lines: Lines<'j>,
    redo_walk: RedoWalk,
    next: Option<Pos>,
    first: u64,
}

impl<'j> RedoSearch<'j> {
    /// Searches the object's lines from `head` on. Lines numbered `first` and above are the redo's
    /// own.
    pub(super) fn new(journal: &'j Journal, head: Option<Pos>, first: u64) -> Outcome<Self> {
        Ok(Self {
            lines: Lines::new(journal)?,
            redo_walk: RedoWalk::default(),
            next: head,
            first,
        })
    }

    /// The next undo: its position and line. `Conflict`: a newer operation blocks the redo.
    #[inline(never)]
    pub(super) fn next(&mut self) -> Outcome<(Pos, Line<'_>)> {
        let at = self.find()?;
        Ok((at, self.lines.read(at)?))
    }

    /// Position of the next undo.
    #[inline(never)]
    fn find(&mut self) -> Outcome<Pos> {
        loop {
            let found = match self.lines.back(&mut self.next) {
                Err(e) if e == ENODATA => return Err(Refusal::new(Reason::Trimmed, 0)),
                found => found?,
            };
            let (at, line) = found.ok_or_else(|| Refusal::new(Reason::NothingLeft, 0))?;
            let found = if line.seq < self.first {
                self.redo_walk.step(&line)
            } else {
                RedoStep::Skip
            };
            match found {
                RedoStep::Target => return Ok(at),
                // An operation followed the undo: a redo would overwrite its result.
                RedoStep::Blocked => return Err(Refusal::new(Reason::Conflict, line.seq)),
                RedoStep::Skip => {}
            }
        }
    }
}
