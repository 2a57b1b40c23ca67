// SPDX-License-Identifier: GPL-2.0

//! The operations on names of one directory that a revert selects.

use super::{
    names::Outcome,
    plan_vec::PlanVec,
    steps::{is_on_names, Direction, Lines, StepOrigin, UndoStep},
    Chain, ChainLink, Refusal,
};
use crate::{
    history::journal::Journal,
    log::{
        line::{Line, Op},
        plan::{OnExternal, TargetRangesBuilder, WalkStep},
        types::{ObjectId, Pos},
    },
    uapi::Reason,
};
use kernel::prelude::*;

/// Live operations on names, the newest first.
pub(super) struct NameOperations {
    /// Positions of their lines.
    pub(super) places: KVVec<Pos>,
    /// Number of the newest one.
    pub(super) newest: u64,
    /// Position of the directory's newest line that stays live.
    pub(super) back: Option<Pos>,
    /// Their numbers, in ranges.
    pub(super) targets: KVVec<(u64, u64)>,
    /// Whether they are exactly the newest operations.
    pub(super) is_newest: bool,
    /// Whether they include reverts.
    pub(super) is_deep: bool,
}

/// The oldest segment that the steps read, and the oldest segment with an orphan that they restore.
pub(super) fn oldest_of(journal: &Journal, undo_steps: &[UndoStep]) -> (u64, u64) {
    let segments = undo_steps.iter().map(|step| step.at.segment);
    let oldest = segments.fold(journal.segment(), u64::min);
    let kept = undo_steps.iter().map(|step| step.kept);
    (oldest, kept.fold(u64::MAX, u64::min))
}

impl NameOperations {
    /// No operations yet.
    pub(super) fn none() -> Self {
        Self {
            places: KVVec::new(),
            newest: 0,
            back: None,
            targets: KVVec::new(),
            is_newest: true,
            is_deep: false,
        }
    }

    /// Selects the newest live operations from `head` on: at most `most`, and only while they are
    /// on names and `wanted`.
    pub(super) fn gather(
        journal: &Journal,
        dir: ObjectId,
        head: Option<Pos>,
        most: u64,
        wanted: impl Fn(&Line<'_>) -> bool,
    ) -> Outcome<Self> {
        let mut chain = Chain::new(journal, dir, head, OnExternal::Stop)?;
        let mut taken = Self::none();
        let mut targets_builder = TargetRangesBuilder::new(PlanVec::new());
        while taken.count() < most {
            // Operations that are already reverted are hidden.
            match chain.step_back()? {
                ChainLink::End => break,
                ChainLink::Trimmed => return Err(Refusal::new(Reason::Trimmed, 0)),
                ChainLink::Line(line, at, _, WalkStep::Live) => {
                    // Ends at the first other operation: no live one in between may be skipped.
                    if !is_on_names(&line) || !wanted(&line) {
                        break;
                    }
                    targets_builder
                        .pick(line.seq)
                        .map_err(|e| e.refuse(line.seq))?;
                    taken.places.push(at, GFP_KERNEL)?;
                    if taken.newest == 0 {
                        taken.newest = line.seq;
                    }
                    taken.back = line.prev;
                    taken.is_deep |= line.op == Op::Revert;
                }
                ChainLink::Line(line, _, _, WalkStep::Stop(_)) => {
                    return Err(Refusal::new(Reason::External, line.seq))
                }
                ChainLink::Line(line, _, _, WalkStep::Conflict) => {
                    return Err(Refusal::new(Reason::Conflict, line.seq))
                }
                ChainLink::Line(line, ..) => {
                    if !line.op.is_bookkeeping() {
                        targets_builder.part();
                    }
                }
            }
        }
        taken.is_newest = !chain.has_reverted();
        taken.targets = targets_builder.finish().into();
        Ok(taken)
    }

    /// Number of selected operations.
    pub(super) fn count(&self) -> u64 {
        self.places.len() as u64
    }

    /// The steps that revert the selected operations.
    pub(super) fn steps(&self, journal: &Journal) -> Outcome<KVVec<UndoStep>> {
        let mut undo_steps = KVVec::with_capacity(self.places.len(), GFP_KERNEL)?;
        let mut lines = Lines::new(journal)?;
        for &at in &self.places {
            let origin = StepOrigin {
                journal,
                seq: lines.read(at)?.seq,
                directory: 0,
            };
            origin.add(at, Direction::Undo, &mut undo_steps)?;
        }
        Ok(undo_steps)
    }
}
