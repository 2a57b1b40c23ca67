// SPDX-License-Identifier: GPL-2.0

//! An object's chain of lines, read from the journal, the newest first.

use super::plan_builder::PlanVec;
use crate::{
    history::journal::Journal,
    log::{
        line::{Line, MAX_LINE},
        plan::{Fate, OnExternal, Step, Stop, Store, Walk},
        types::{ObjectId, Pos},
    },
    state::HiddenRanges,
    vfs::error::{ENODATA, EUCLEAN},
};
use kernel::prelude::*;

/// A walk along an object's chain, with a buffer for one line.
pub(crate) struct Chain<'j> {
    journal: &'j Journal,
    walk: Walk,
    /// Numbers of operations that newer reverts reverted.
    hidden: PlanVec<(u64, u64)>,
    buf: KVec<u8>,
}

/// Result of one step of the walk.
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time, on the stack; a box could fail to be allocated"
)]
pub(crate) enum ChainLink<'b> {
    /// The line, its position, its text, and its meaning for the walk.
    Line(Line<'b>, Pos, &'b [u8], Step),
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
        let mut buf = KVec::with_capacity(MAX_LINE, GFP_KERNEL)?;
        buf.resize(MAX_LINE, 0, GFP_KERNEL)?;
        Ok(Self {
            journal,
            walk: Walk::new(object, head, on_external),
            hidden: PlanVec::new(),
            buf,
        })
    }

    /// Resumes a walk with these ranges.
    pub(crate) fn resume(mut self, hidden: HiddenRanges) -> Self {
        self.hidden = PlanVec::from(hidden);
        self
    }

    /// Ends the walk, and returns the ranges for [`Self::resume`].
    pub(crate) fn into_hidden(self) -> HiddenRanges {
        self.hidden.into()
    }

    /// Whether further reverted operations can follow.
    pub(crate) fn hides(&mut self) -> bool {
        !self.hidden.items().is_empty()
    }

    /// Position of the next line.
    pub(crate) fn next_at(&self) -> Option<Pos> {
        self.walk.next()
    }

    /// Reads one line. Live operations are kept.
    pub(crate) fn step(&mut self) -> Result<ChainLink<'_>> {
        self.step_with(|_| Fate::Stay)
    }

    /// Reads one line. Live operations are reverted.
    pub(crate) fn step_back(&mut self) -> Result<ChainLink<'_>> {
        self.step_with(|_| Fate::Go)
    }

    /// Reads one line. `fate` decides about a live operation by its number.
    // Out of line: a parsed line takes half a kilobyte of stack, which must be free during the
    // read.
    #[inline(never)]
    pub(crate) fn step_with(&mut self, fate: impl FnOnce(u64) -> Fate) -> Result<ChainLink<'_>> {
        let Some(at) = self.walk.next() else {
            return Ok(ChainLink::End);
        };
        match self.journal.read_line(at, &mut self.buf) {
            Ok(len) => self.step_on(at, len, fate),
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
        fate: impl FnOnce(u64) -> Fate,
    ) -> Result<ChainLink<'_>> {
        let text = self.buf.get(..len).ok_or(EUCLEAN)?;
        // The journal has verified the checksum.
        let Ok(mut line) = Line::parse(text, None) else {
            return Err(EUCLEAN);
        };
        let fate = fate(line.seq);
        match self.walk.step(&mut line, &mut self.hidden, fate) {
            Step::Stop(Stop::Corrupt) => Err(EUCLEAN),
            Step::Stop(Stop::NoRoom) => Err(ENOMEM),
            step => Ok(ChainLink::Line(line, at, text, step)),
        }
    }
}
