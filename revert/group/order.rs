// SPDX-License-Identifier: GPL-2.0

//! In which order the names of several directories are put back: first what is taken back, from the newest
//! operation to the oldest, whichever directory it was in; then what is done again, from the oldest to the
//! newest. Only what is live before and not behind, or the other way round, is touched: undos and redos in
//! between come to nothing.

use super::Outcome;
use crate::{
    history::{
        journal::Journal,
        line::{Line, ObjectId, Pos},
        plan::{Change, Net, Span, Stop, Turn},
        sort::sort, //
    },
    revert::{
        plan_builder::PlanVec,
        steps::{is_on_names, Direction, Lines, StepOrigin, UndoStep},
        Refusal,
    },
    uapi::Reason,
    vfs::error::{ENODATA, EUCLEAN},
};
use kernel::prelude::*;

/// A directory whose names are put back.
pub(super) struct DirectoryTargets<'t> {
    /// Which of the group's it is.
    pub(super) directory: usize,
    pub(super) object: ObjectId,
    /// Where its newest line stands.
    pub(super) head: Option<Pos>,
    /// Which operations are taken back.
    pub(super) takes: &'t dyn Fn(u64) -> bool,
    /// How many of its own these are, at least.
    pub(super) count: u64,
    /// Instead: everything newer than a place, by the line with this number.
    pub(super) jump: Option<(Option<Pos>, u64)>,
}

/// A walk along a directory's lines, and what becomes of each.
pub(super) struct ChainSearch<'j> {
    lines: Lines<'j>,
    /// The oldest segment with a line that was read; `u64::MAX`: none was.
    oldest: u64,
    net: Net<PlanVec<Span>>,
}

/// What a step of the walk found.
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time, on the stack; a box could fail to be allocated"
)]
pub(super) enum SearchResult<'l> {
    Line(Line<'l>, Pos, Turn),
    /// The chain goes on in a part of the history that was dropped.
    Trimmed,
    End,
}

impl<'j> ChainSearch<'j> {
    /// Begins at `head`; lines from `first` on are of the request itself.
    pub(super) fn new(
        journal: &'j Journal,
        object: ObjectId,
        head: Option<Pos>,
        first: u64,
    ) -> Result<Self> {
        Ok(Self {
            lines: Lines::new(journal)?,
            oldest: u64::MAX,
            net: Net::new(object, head, first, (PlanVec::new(), PlanVec::new())),
        })
    }

    /// Whether more is to be found when all that is taken back was.
    pub(super) fn is_open(&self) -> bool {
        self.net.is_open()
    }

    #[inline(never)]
    pub(super) fn next(&mut self, takes: impl FnOnce(u64) -> bool) -> Result<SearchResult<'_>> {
        let Some(at) = self.net.next() else {
            return Ok(SearchResult::End);
        };
        match self.lines.fetch(at) {
            Err(e) if e == ENODATA => Ok(SearchResult::Trimmed),
            len => {
                self.oldest = self.oldest.min(at.segment);
                self.found(at, len?, takes)
            }
        }
    }

    // Out of line: what is parsed is not on the stack when the log is read.
    #[inline(never)]
    fn found(
        &mut self,
        at: Pos,
        len: usize,
        takes: impl FnOnce(u64) -> bool,
    ) -> Result<SearchResult<'_>> {
        let line = self.lines.parse(len)?;
        match self.net.step(&line, takes(line.seq)) {
            Ok(turn) => Ok(SearchResult::Line(line, at, turn)),
            Err(Stop::NoRoom) => Err(ENOMEM),
            Err(_) => Err(EUCLEAN),
        }
    }
}

/// A change of names: the line that says it, whose directory it is of, and what is behind it.
#[derive(Clone, Copy)]
struct OrderedChange {
    at: Pos,
    direction: Direction,
    directory: usize,
    cause: u64,
}

/// How names are put back.
pub(super) struct OrderedSteps {
    pub(super) undo_steps: KVVec<UndoStep>,
    /// The oldest segment that is read to find these steps; `u64::MAX`: none is. It may be older than the
    /// steps' own lines: one that is read may come to nothing. The steps are found again when they are
    /// performed, and by the mount behind a crash.
    pub(super) oldest: u64,
}

/// The steps of putting names back. `first` is the number of the request's own first line.
pub(super) fn steps(
    journal: &Journal,
    places: &[DirectoryTargets<'_>],
    first: u64,
) -> Outcome<OrderedSteps> {
    let mut all = KVVec::new();
    let mut oldest = u64::MAX;
    for place in places {
        oldest = oldest.min(add(journal, place, first, &mut all)?);
    }
    sort(&mut all, OrderedChange::is_before);
    let mut undo_steps = KVVec::with_capacity(all.len(), GFP_KERNEL_ACCOUNT)?;
    let mut lines = Lines::new(journal)?;
    for changed in &all {
        let origin = StepOrigin {
            journal,
            seq: changed.cause,
            directory: changed.directory,
        };
        origin.push(
            &lines.read(changed.at)?,
            changed.at,
            changed.direction,
            &mut undo_steps,
        )?;
    }
    Ok(OrderedSteps { undo_steps, oldest })
}

impl OrderedChange {
    fn is_before(&self, other: &Self) -> bool {
        match (self.direction, other.direction) {
            (Direction::Undo, Direction::Undo) => self.at > other.at,
            (Direction::Redo, Direction::Redo) => self.at < other.at,
            (direction, _) => direction == Direction::Undo,
        }
    }
}

/// Adds what is changed in one directory. Answers the oldest segment that was read.
#[inline(never)]
fn add(
    journal: &Journal,
    place: &DirectoryTargets<'_>,
    first: u64,
    all: &mut KVVec<OrderedChange>,
) -> Outcome<u64> {
    let mut search = ChainSearch::new(journal, place.object, place.head, first)?;
    if let Some((back, cause)) = place.jump {
        search.net.jump(back, cause);
    }
    let mut left = place.count;
    while left != 0 || search.is_open() {
        match &search.next(place.takes)? {
            SearchResult::End => break,
            SearchResult::Trimmed => return Err(Refusal::new(Reason::Trimmed, 0)),
            SearchResult::Line(line, at, turn) => {
                if is_on_names(line) && (place.takes)(line.seq) {
                    left = left.saturating_sub(1);
                }
                let direction = match turn.change {
                    Change::Goes => Direction::Undo,
                    Change::Comes => Direction::Redo,
                    _ => continue,
                };
                if !is_on_names(line) {
                    continue;
                }
                let (cause, directory) = (turn.why.cause, place.directory);
                if turn.why.is_lost {
                    return Err(Refusal::new(Reason::Lost, cause));
                }
                let changed = OrderedChange {
                    at: *at,
                    direction,
                    directory,
                    cause,
                };
                all.push(changed, GFP_KERNEL_ACCOUNT)?;
            }
        }
    }
    Ok(search.oldest)
}
