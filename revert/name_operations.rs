// SPDX-License-Identifier: GPL-2.0

//! What of a directory's chain a revert of names takes back.

use super::{
    names::Outcome,
    plan_builder::PlanVec,
    steps::{is_on_names, Direction, Lines, StepOrigin, UndoStep},
    Chain, ChainLink, Refusal,
};
use crate::{
    history::{
        journal::Journal,
        line::{Line, ObjectId, Op, Pos},
        plan::{NameStep, OnForeign, Picking, Step}, //
    },
    uapi::Reason, //
};
use kernel::prelude::*;

/// Standing operations on names, newest first.
pub(super) struct NameOperations {
    /// Where their lines stand.
    pub(super) places: KVVec<Pos>,
    /// The newest one's number.
    pub(super) newest: u64,
    /// Where the directory's newest line stands that is left standing.
    pub(super) back: Option<Pos>,
    /// Their numbers in ranges.
    pub(super) picks: KVVec<(u64, u64)>,
    /// Whether they are just the newest ones.
    pub(super) is_newest: bool,
    /// Whether there are reverts among them.
    pub(super) is_deep: bool,
}

/// The oldest segment that steps read, and the oldest one with which something is kept that comes back.
#[inline(never)]
pub(super) fn oldest_of(journal: &Journal, undo_steps: &[UndoStep]) -> Outcome<(u64, u64)> {
    let mut lines = Lines::new(journal)?;
    let mut oldest = journal.segment();
    let mut kept = u64::MAX;
    for undo_step in undo_steps {
        oldest = oldest.min(undo_step.at.segment);
        match lines.step(undo_step)? {
            // With which segment a revert has kept it, no line says.
            _ if undo_step.direction == Direction::Redo => kept = 0,
            NameStep::Restore { victim, .. } => {
                kept = kept.min(victim.kept.unwrap_or(u64::MAX));
            }
            _ => {}
        }
    }
    Ok((oldest, kept))
}

impl NameOperations {
    /// The newest standing operations from `head` on: as many as `most`, as long as they are
    /// `wanted` ones, on names.
    pub(super) fn gather(
        journal: &Journal,
        dir: ObjectId,
        head: Option<Pos>,
        most: u64,
        wanted: impl Fn(&Line<'_>) -> bool,
    ) -> Outcome<Self> {
        let mut chain = Chain::new(journal, dir, head, OnForeign::Stop)?;
        let mut taken = Self {
            places: KVVec::new(),
            newest: 0,
            back: None,
            picks: KVVec::new(),
            is_newest: true,
            is_deep: false,
        };
        let mut picking = Picking::new(PlanVec::new());
        while taken.count() < most {
            match chain.step_back()? {
                ChainLink::End => break,
                ChainLink::Trimmed => return Err(Refusal::new(Reason::Trimmed, 0)),
                ChainLink::Line(line, at, _, Step::Take) => {
                    if !is_on_names(&line) || !wanted(&line) {
                        break;
                    }
                    picking.pick(line.seq).map_err(|e| e.refuse(line.seq))?;
                    taken.places.push(at, GFP_KERNEL)?;
                    if taken.newest == 0 {
                        taken.newest = line.seq;
                    }
                    taken.back = line.prev;
                    taken.is_deep |= line.op == Op::Revert;
                }
                ChainLink::Line(line, _, _, Step::Stop(_)) => {
                    return Err(Refusal::new(Reason::Foreign, line.seq))
                }
                ChainLink::Line(line, _, _, Step::Barred) => {
                    return Err(Refusal::new(Reason::Conflict, line.seq))
                }
                ChainLink::Line(line, ..) => {
                    if !line.op.is_bookkeeping() {
                        picking.part();
                    }
                }
            }
        }
        taken.is_newest = !chain.hides();
        taken.picks = picking.finish().into();
        Ok(taken)
    }

    /// How many.
    pub(super) fn count(&self) -> u64 {
        self.places.len() as u64
    }

    /// The steps of taking them back.
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
