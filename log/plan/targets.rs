// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Which operations a revert picks, as the ranges of numbers that its line lists; and which undo a
//! redo takes back.

use super::{
    super::line::{
        Line,
        Mode,
        Op, //
    },
    PlanError, Store,
};

/// Gathers ranges of numbers from an object's lines, the newest first.
pub struct TargetRangesBuilder<S> {
    ranges: S,
    /// Whether the next one that is picked belongs to the last range.
    is_open: bool,
}

impl<S: Store<(u64, u64)>> TargetRangesBuilder<S> {
    /// Begins with nothing; `ranges` is empty.
    pub fn new(ranges: S) -> Self {
        Self {
            ranges,
            is_open: false,
        }
    }

    /// An operation is picked.
    pub fn pick(&mut self, seq: u64) -> Result<(), PlanError> {
        if let Some(last) = self.ranges.items().last_mut().filter(|_| self.is_open) {
            last.0 = seq;
        } else {
            self.ranges.push((seq, seq))?;
            self.is_open = true;
        }
        Ok(())
    }

    /// Ends the current range before an operation that is not a target, an undo or a redo: a range
    /// that spans such a line would hide it. Bookkeeping lines may be in a range.
    pub fn part(&mut self) {
        self.is_open = false;
    }

    /// The ranges, ascending.
    pub fn finish(mut self) -> S {
        self.ranges.items().reverse();
        self.ranges
    }
}

/// Finds the undos that a redo of an object reverts: the newest ones that are not redone, unless an
/// operation followed. The caller feeds all lines of the object, newest first, live or not.
#[derive(Clone, Copy, Debug, Default)]
pub struct RedoWalk {
    /// How many older undos were redone already.
    redone: u64,
    /// The undos or redos that did not happen: an object has two that end together, one of its names
    /// and one of its attributes.
    cancelled: [u64; 2],
}

/// The meaning of a line for [`RedoWalk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedoStep {
    /// Nothing.
    Skip,
    /// This undo is the next.
    Target,
    /// An operation follows the undo: there is nothing to redo.
    Blocked,
}

impl RedoWalk {
    /// Takes the next line.
    pub fn step(&mut self, line: &Line<'_>) -> RedoStep {
        match line.op {
            Op::Cancel => {
                let [newer, _] = self.cancelled;
                self.cancelled = [line.of.unwrap_or(0), newer];
                RedoStep::Skip
            }
            _ if self.cancelled.contains(&line.seq) => RedoStep::Skip,
            Op::Redo => {
                // One redo may revert several undos.
                let count = line.count.unwrap_or(1);
                self.redone = self.redone.saturating_add(count);
                RedoStep::Skip
            }
            Op::Revert if line.mode == Some(Mode::Walk) => match self.redone.checked_sub(1) {
                Some(redone) => {
                    self.redone = redone;
                    RedoStep::Skip
                }
                None => RedoStep::Target,
            },
            op if op.is_bookkeeping() => RedoStep::Skip,
            _ => RedoStep::Blocked,
        }
    }
}
