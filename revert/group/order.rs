// SPDX-License-Identifier: GPL-2.0

//! Orders the steps on names across directories: first the reverted operations of all directories,
//! from the newest to the oldest, then the redone ones, from the oldest to the newest. Only
//! operations whose liveness differs before and after the request have steps: undos and redos in
//! between cancel out.

use super::Outcome;
use crate::{
    history::{journal::Journal, sort::sort},
    log::{
        line::Line,
        plan::{LineEffect, Net, NetChange, RevertedRange, Stop},
        types::{ObjectId, Pos},
    },
    revert::{
        plan_vec::PlanVec,
        steps::{is_on_names, Direction, Lines, StepOrigin, UndoStep},
        Refusal,
    },
    uapi::Reason,
    vfs::error::{ENODATA, EUCLEAN},
};
use kernel::prelude::*;

/// A directory whose names are reverted.
pub(super) struct DirectoryTargets<'t> {
    /// Index of the directory within the group.
    pub(super) directory: usize,
    pub(super) object: ObjectId,
    /// Position of the directory's newest line.
    pub(super) head: Option<Pos>,
    /// Whether the request reverts the operation with this number.
    pub(super) takes: &'t dyn Fn(u64) -> bool,
    /// Lower bound for the number of its operations to revert.
    pub(super) count: u64,
    /// Alternative: reverts everything newer than a position, for the line with this number.
    pub(super) jump: Option<(Option<Pos>, u64)>,
}

/// A walk along a directory's lines, with the change of each operation's liveness.
pub(super) struct ChainSearch<'j> {
    lines: Lines<'j>,
    /// The oldest segment that was read; `u64::MAX` if none was.
    oldest: u64,
    net: Net<PlanVec<RevertedRange>>,
}

/// Result of one step of the walk.
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time, on the stack; a box could fail to be allocated"
)]
pub(super) enum SearchResult<'l> {
    Line(Line<'l>, Pos, LineEffect),
    /// The chain continues in a segment that was dropped.
    Trimmed,
    End,
}

impl<'j> ChainSearch<'j> {
    /// Starts at `head`. Lines numbered `first` and above belong to the request.
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

    /// Whether older lines can still change, after all operations to revert were found.
    pub(super) fn is_open(&self) -> bool {
        self.net.is_open()
    }

    /// Reads the next line.
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

    /// Determines the change of the line in the buffer.
    // Out of line: the parsed line must be off the stack before the next read.
    #[inline(never)]
    fn found(
        &mut self,
        at: Pos,
        len: usize,
        takes: impl FnOnce(u64) -> bool,
    ) -> Result<SearchResult<'_>> {
        let line = self.lines.parse(len)?;
        match self.net.step(&line, takes(line.seq)) {
            Ok(effect) => Ok(SearchResult::Line(line, at, effect)),
            Err(Stop::NoSpace) => Err(ENOMEM),
            Err(_) => Err(EUCLEAN),
        }
    }
}

/// The steps on names, in order.
pub(super) struct OrderedSteps {
    pub(super) undo_steps: KVVec<UndoStep>,
    /// The oldest segment that is read to find the steps; `u64::MAX` if none is. It can be older
    /// than the lines of the steps, since some lines that are read add no step. The steps are found
    /// again when they are applied, and in recovery.
    pub(super) oldest: u64,
}

impl Default for OrderedSteps {
    fn default() -> Self {
        Self {
            undo_steps: KVVec::new(),
            oldest: u64::MAX,
        }
    }
}

/// The steps for these directories. `first` is the number of the request's first line.
pub(super) fn steps(
    journal: &Journal,
    places: &[DirectoryTargets<'_>],
    first: u64,
) -> Outcome<OrderedSteps> {
    let mut undo_steps = KVVec::new();
    let mut oldest = u64::MAX;
    for place in places {
        oldest = oldest.min(add(journal, place, first, &mut undo_steps)?);
    }
    // Positions in the log give one order for all directories.
    sort(&mut undo_steps, UndoStep::is_before);
    Ok(OrderedSteps { undo_steps, oldest })
}

/// Adds the steps of one directory. Returns the oldest segment that was read.
#[inline(never)]
fn add(
    journal: &Journal,
    place: &DirectoryTargets<'_>,
    first: u64,
    undo_steps: &mut KVVec<UndoStep>,
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
            SearchResult::Line(line, at, effect) => {
                if is_on_names(line) && (place.takes)(line.seq) {
                    left = left.saturating_sub(1);
                }
                let direction = match effect.change {
                    NetChange::Reverted => Direction::Undo,
                    NetChange::Restored => Direction::Redo,
                    _ => continue,
                };
                if !is_on_names(line) {
                    continue;
                }
                let cause = effect.why.cause;
                // A revert with `no_redo` has deleted the victim.
                if effect.why.is_lost {
                    return Err(Refusal::new(Reason::Lost, cause));
                }
                let origin = StepOrigin {
                    journal,
                    seq: cause,
                    directory: place.directory,
                };
                origin.push(line, *at, direction, undo_steps)?;
            }
        }
    }
    Ok(search.oldest)
}
