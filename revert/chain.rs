// SPDX-License-Identifier: GPL-2.0

//! An object's chain of lines, read from the journal, the newest first.

use super::plan_vec::PlanVec;
use crate::{
    history::{journal::Journal, lines::Lines},
    log::{
        line::Line,
        plan::{Disposition, OnExternal, Stop, Store, Walk, WalkStep},
        types::{ObjectId, Pos},
    },
    state::RevertedRanges,
    vfs::error::{ENODATA, EUCLEAN},
};
use kernel::prelude::*;

/// A walk along an object's chain.
pub(crate) struct Chain<'j> {
    lines: Lines<'j>,
    walk: Walk,
    /// Numbers of operations that newer reverts reverted.
    reverted: PlanVec<(u64, u64)>,
}

/// Result of one step of the walk.
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time, on the stack; a box could fail to be allocated"
)]
pub(crate) enum ChainLink<'b> {
    /// The line, its position, its text, and its meaning for the walk.
    Line(Line<'b>, Pos, &'b [u8], WalkStep),
    /// The chain continues in a segment that was dropped.
    Trimmed,
    /// The chain has no further line.
    End,
}

impl<'j> Chain<'j> {
    /// Starts a walk at `head`.
    pub(crate) fn new(
        journal: &'j Journal,
        object: ObjectId,
        head: Option<Pos>,
        on_external: OnExternal,
    ) -> Result<Self> {
        Ok(Self {
            lines: Lines::new(journal)?,
            walk: Walk::new(object, head, on_external),
            reverted: PlanVec::new(),
        })
    }

    /// Resumes a walk with these ranges.
    pub(crate) fn resume(mut self, reverted: RevertedRanges) -> Self {
        self.reverted = PlanVec::from(reverted);
        self
    }

    /// Ends the walk, and returns the ranges for [`Self::resume`].
    pub(crate) fn into_reverted(self) -> RevertedRanges {
        self.reverted.into()
    }

    /// Whether further reverted operations can follow.
    pub(crate) fn has_reverted(&mut self) -> bool {
        !self.reverted.items().is_empty()
    }

    /// Position of the next line.
    pub(crate) fn next_at(&self) -> Option<Pos> {
        self.walk.next()
    }

    /// Reads one line. Live operations are kept.
    pub(crate) fn step(&mut self) -> Result<ChainLink<'_>> {
        self.step_with(|_| Disposition::Keep)
    }

    /// Reads one line. Live operations are reverted.
    pub(crate) fn step_back(&mut self) -> Result<ChainLink<'_>> {
        self.step_with(|_| Disposition::Revert)
    }

    /// Reads one line. `disposition` decides about a live operation by its number.
    // Out of line: a parsed line takes half a kilobyte of stack, which must be free during the
    // read.
    #[inline(never)]
    pub(crate) fn step_with(
        &mut self,
        disposition: impl FnOnce(u64) -> Disposition,
    ) -> Result<ChainLink<'_>> {
        let Some(at) = self.walk.next() else {
            return Ok(ChainLink::End);
        };
        match self.lines.fetch(at) {
            Ok(len) => self.step_on(at, len, disposition),
            Err(e) if e == ENODATA => Ok(ChainLink::Trimmed),
            Err(e) => Err(e),
        }
    }

    /// Parses the line of `len` bytes in the buffer.
    #[inline(never)]
    fn step_on(
        &mut self,
        at: Pos,
        len: usize,
        disposition: impl FnOnce(u64) -> Disposition,
    ) -> Result<ChainLink<'_>> {
        let (mut line, text) = self.lines.parse_with_text(len)?;
        let disposition = disposition(line.seq);
        match self.walk.step(&mut line, &mut self.reverted, disposition) {
            WalkStep::Stop(Stop::Corrupt) => Err(EUCLEAN),
            WalkStep::Stop(Stop::NoSpace) => Err(ENOMEM),
            step => Ok(ChainLink::Line(line, at, text, step)),
        }
    }
}
