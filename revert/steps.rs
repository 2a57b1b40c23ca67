// SPDX-License-Identifier: GPL-2.0

//! The steps of a revert of names, each by the place of its line: they are read again when they are
//! performed, so that a revert of any size holds little.

use super::{
    binding::UnlinkedObject,
    chain::ChainLink,
    names::{parse, Outcome},
    targets::TargetSet,
    Chain, Refusal,
};
use crate::{
    history::{
        journal::Journal,
        line::{Line, Op, Pos, Undo, MAX_LINE},
        plan::{name_steps, Fate, NameStep, OnForeign, Redo, Redoing, Step},
    },
    uapi::Reason,
    vfs::error::{ENODATA, EUCLEAN},
};
use kernel::prelude::*;

pub(super) use crate::history::plan::is_on_names;

/// Whether an operation is taken back, or done again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// Taken back.
    Undo,
    /// Done again, after it had been taken back.
    Redo,
}

impl Direction {
    /// The opposite.
    pub(super) fn inverted(self) -> Self {
        match self {
            Self::Undo => Self::Redo,
            Self::Redo => Self::Undo,
        }
    }
}

/// A step that is to be performed, or was.
pub(super) struct UndoStep {
    /// The operation that it belongs to: what a refusal names.
    pub(super) seq: u64,
    /// Where the line stands that says the step.
    pub(super) at: Pos,
    /// Whether it is the second step of that line.
    is_second: bool,
    /// Which of a group's directories it is of.
    pub(super) directory: usize,
    pub(super) direction: Direction,
    /// What it took a name from, so that it can be undone.
    pub(super) unlinked: Option<UnlinkedObject>,
}

/// Reads lines, each into the same memory.
pub(super) struct Lines<'j> {
    journal: &'j Journal,
    buf: KVec<u8>,
}

impl<'j> Lines<'j> {
    pub(super) fn new(journal: &'j Journal) -> Result<Self> {
        let mut buf = KVec::with_capacity(MAX_LINE, GFP_KERNEL)?;
        buf.resize(MAX_LINE, 0, GFP_KERNEL)?;
        Ok(Self { journal, buf })
    }

    /// The line that stands at a place. `ENODATA`: it was dropped.
    // Out of line, a line's copies are on the stack only meanwhile.
    #[inline(never)]
    pub(super) fn read(&mut self, at: Pos) -> Result<Line<'_>> {
        let len = self.journal.read_line(at, &mut self.buf)?;
        self.parse(len)
    }

    /// The line in the buffer, which has so many bytes.
    #[inline(never)]
    pub(super) fn parse(&self, len: usize) -> Result<Line<'_>> {
        parse(self.buf.get(..len).ok_or(EUCLEAN)?)
    }

    /// Reads the line that stands at a place into the buffer, for [`Self::parse`].
    pub(super) fn fetch(&mut self, at: Pos) -> Result<usize> {
        self.journal.read_line(at, &mut self.buf)
    }

    /// What a step does.
    pub(super) fn step(&mut self, undo_step: &UndoStep) -> Outcome<NameStep<'_>> {
        let len = self.fetch(undo_step.at)?;
        self.step_in(len, undo_step)
    }

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

/// How deep reverts of reverts are followed: each restore between two points is one level more.
const DEEPEST: usize = 1024;

/// How many steps a revert has at most. Each level can double what it takes back.
const MOST_STEPS: usize = 4 << 20;

/// Operations of one revert whose steps are being added.
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

    /// The next operation, and what becomes of it.
    fn next(&mut self) -> Option<(Pos, Direction)> {
        let at = self.places.get(self.next).copied()?;
        self.next = self.next.saturating_add(1);
        Some((at, self.direction))
    }
}

/// What belongs to the steps of one operation of a directory.
#[derive(Clone, Copy)]
pub(super) struct StepOrigin<'j> {
    pub(super) journal: &'j Journal,
    /// The operation, for refusals.
    pub(super) seq: u64,
    /// Which of a group's directories it is of.
    pub(super) directory: usize,
}

impl StepOrigin<'_> {
    /// Adds the steps of taking back, or doing again, the operation whose line stands at `at`.
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

    /// The same of the operations at `places`. By a stack of its own: the kernel's is small.
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

    /// Adds an operation's steps. Of a revert it answers what that took back, in the order in which it is
    /// done again or taken back: to take a revert back is to do again what it took back, the oldest
    /// first.
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
            // Nothing of what it took away was kept.
            return Err(Refusal::new(Reason::Lost, self.seq));
        }
        let mut places = reverted_operations(self.journal, &line)?;
        if direction == Direction::Undo {
            places.reverse();
        }
        Ok(Some(places))
    }

    /// Adds the steps of an operation that is no revert.
    #[inline(never)]
    pub(super) fn push(
        &self,
        line: &Line<'_>,
        at: Pos,
        direction: Direction,
        undo_steps: &mut KVVec<UndoStep>,
    ) -> Outcome {
        let seq = self.seq;
        let (_, second) = name_steps(line).map_err(|e| e.refuse(seq))?;
        let order: &[bool] = match (second.is_some(), direction) {
            (false, _) => &[false],
            (true, Direction::Undo) => &[false, true],
            (true, Direction::Redo) => &[true, false],
        };
        for &is_second in order {
            let undo_step = UndoStep {
                seq,
                at,
                is_second,
                directory: self.directory,
                direction,
                unlinked: None,
            };
            undo_steps.push(undo_step, GFP_KERNEL_ACCOUNT)?;
        }
        Ok(())
    }
}

/// The steps of a revert or a redo of names, whose line is `line`; they are of the group's directory
/// with this index.
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

/// Where the undos stand that a redo took back, the newest first.
#[inline(never)]
pub(super) fn redone_operations(journal: &Journal, line: &Line<'_>) -> Outcome<KVVec<Pos>> {
    let mut lines = Lines::new(journal)?;
    let mut places = KVVec::new();
    let mut next = line.prev;
    // The newest one; what came between it and the redo has to do with others.
    while let Some(at) = next {
        let found = lines.read(at)?;
        if Some(found.seq) == line.of {
            break;
        }
        if found.prev.is_some_and(|prev| prev >= at) {
            return Err(EUCLEAN.into());
        }
        next = found.prev;
    }
    let mut search = RedoSearch::new(journal, Some(next.ok_or(EUCLEAN)?), u64::MAX)?;
    let most = line.count.unwrap_or(1);
    while (places.len() as u64) < most {
        let (at, found) = match search.next() {
            Err(refusal) if matches!(refusal.reason, Reason::Conflict | Reason::NothingLeft) => {
                return Err(EUCLEAN.into())
            }
            found => found?,
        };
        if is_on_names(&found) == is_on_names(line) {
            places.push(at, GFP_KERNEL_ACCOUNT)?;
        }
    }
    Ok(places)
}

/// Where the operations on names stand that the revert `line` took back, newest first.
#[inline(never)]
pub(super) fn reverted_operations(journal: &Journal, line: &Line<'_>) -> Outcome<KVVec<Pos>> {
    let object = line.obj.ok_or(EUCLEAN)?;
    let picked = TargetSet::of(journal, line)?;
    let lowest = picked.as_ref().map(|picked| picked.lowest());
    let most = line.count.ok_or(EUCLEAN)?;
    let mut chain = Chain::new(journal, object, line.prev, OnForeign::Pass)?;
    let mut places = KVVec::new();
    while (places.len() as u64) < most {
        let is_wanted = |seq| picked.as_ref().is_none_or(|picked| picked.contains(seq));
        let fate = |seq| match is_wanted(seq) {
            // Undos among the newest ones were jumped over then, too.
            true if picked.is_none() => Fate::Go,
            is_taken => fate(is_taken),
        };
        let found = match &chain.step_with(fate)? {
            ChainLink::End => return Err(EUCLEAN.into()),
            ChainLink::Trimmed => return Err(Refusal::new(Reason::Trimmed, line.seq)),
            ChainLink::Line(found, at, _, Step::Take) if is_on_names(found) => {
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

/// What becomes of an operation, where those that are taken back are known by number.
pub(super) fn fate(is_taken: bool) -> Fate {
    if is_taken {
        Fate::Named
    } else {
        Fate::Stay
    }
}

/// A search for the undos of an object that a redo can take back, the newest first.
pub(super) struct RedoSearch<'j> {
    lines: Lines<'j>,
    redoing: Redoing,
    next: Option<Pos>,
    first: u64,
}

impl<'j> RedoSearch<'j> {
    /// By the object's lines from `head` on; those with numbers from `first` on are of the redo itself.
    pub(super) fn new(journal: &'j Journal, head: Option<Pos>, first: u64) -> Outcome<Self> {
        Ok(Self {
            lines: Lines::new(journal)?,
            redoing: Redoing::default(),
            next: head,
            first,
        })
    }

    /// The next one: where it stands, and its line. `Conflict`: an operation followed.
    #[inline(never)]
    pub(super) fn next(&mut self) -> Outcome<(Pos, Line<'_>)> {
        let at = self.find()?;
        Ok((at, self.lines.read(at)?))
    }

    #[inline(never)]
    fn find(&mut self) -> Outcome<Pos> {
        while let Some(at) = self.next {
            let line = match self.lines.read(at) {
                Err(e) if e == ENODATA => return Err(Refusal::new(Reason::Trimmed, 0)),
                line => line?,
            };
            if line.prev.is_some_and(|prev| prev >= at) {
                return Err(EUCLEAN.into());
            }
            self.next = line.prev;
            let found = if line.seq < self.first {
                self.redoing.step(&line)
            } else {
                Redo::Pass
            };
            match found {
                Redo::This => return Ok(at),
                Redo::Blocked => return Err(Refusal::new(Reason::Conflict, line.seq)),
                Redo::Pass => {}
            }
        }
        Err(Refusal::new(Reason::NothingLeft, 0))
    }
}
