// SPDX-License-Identifier: GPL-2.0

//! An object's chain of lines, read from the journal, newest first.

use super::plan_builder::PlanVec;
use crate::{
    history::{
        journal::Journal,
        line::{Line, ObjectId, Pos, MAX_LINE},
        plan::{Fate, OnForeign, Step, Stop, Store, Walk}, //
    },
    vfs::error::{ENODATA, EUCLEAN}, //
};
use kernel::prelude::*;

/// A walk along an object's chain, with a buffer for one line.
pub(crate) struct Chain<'j> {
    journal: &'j Journal,
    walk: Walk,
    /// Ranges of numbers that reverts picked.
    hidden: PlanVec<(u64, u64)>,
    buf: KVec<u8>,
}

/// Ranges of numbers that are hidden from a walk which is to go on later.
pub(crate) type HiddenRanges = KVVec<(u64, u64)>;

/// What a step of the walk found.
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time, on the stack; a box could fail to be allocated"
)]
pub(crate) enum ChainLink<'b> {
    /// A line, where it stands, its text, and what it means.
    Line(Line<'b>, Pos, &'b [u8], Step),
    /// The chain goes on in a part of the history that was dropped.
    Trimmed,
    /// There is no more.
    End,
}

impl<'j> Chain<'j> {
    /// Begins at `head`.
    pub(crate) fn new(
        journal: &'j Journal,
        object: ObjectId,
        head: Option<Pos>,
        on_foreign: OnForeign,
    ) -> Result<Self> {
        let mut buf = KVec::with_capacity(MAX_LINE, GFP_KERNEL)?;
        buf.resize(MAX_LINE, 0, GFP_KERNEL)?;
        Ok(Self {
            journal,
            walk: Walk::new(object, head, on_foreign),
            hidden: PlanVec::new(),
            buf,
        })
    }

    /// Goes on with a walk that stopped here.
    pub(crate) fn resume(mut self, hidden: HiddenRanges) -> Self {
        self.hidden = PlanVec::from(hidden);
        self
    }

    /// What is hidden from here on.
    pub(crate) fn into_hidden(self) -> HiddenRanges {
        self.hidden.into()
    }

    /// Whether a revert picked operations that may come yet.
    pub(crate) fn hides(&mut self) -> bool {
        !self.hidden.items().is_empty()
    }

    /// Where the walk goes on.
    pub(crate) fn next_at(&self) -> Option<Pos> {
        self.walk.next()
    }

    /// Takes one step; what stands stays.
    pub(crate) fn step(&mut self) -> Result<ChainLink<'_>> {
        self.step_with(|_| Fate::Stay)
    }

    /// Takes one step; what stands is taken back.
    pub(crate) fn step_back(&mut self) -> Result<ChainLink<'_>> {
        self.step_with(|_| Fate::Go)
    }

    /// Takes one step; `fate` says what becomes of the operation with a number, if it stands.
    // A line is half a kilobyte: out of line, its copies are on the stack only meanwhile, and not when
    // the log is read.
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

    /// Takes a step on the line in the buffer, which has so many bytes.
    #[inline(never)]
    fn step_on(
        &mut self,
        at: Pos,
        len: usize,
        fate: impl FnOnce(u64) -> Fate,
    ) -> Result<ChainLink<'_>> {
        let text = self.buf.get(..len).ok_or(EUCLEAN)?;
        // The journal has verified the sum.
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
