// SPDX-License-Identifier: GPL-2.0

//! An object's chain of lines, read from the journal, newest first.

use crate::{
    history::{
        journal::Journal,
        line::{Line, ObjectId, Pos, MAX_LINE},
        plan::{OnForeign, Step, Stop, Walk}, //
    },
    vfs::error::{ENODATA, EUCLEAN}, //
};
use kernel::prelude::*;

/// A walk along an object's chain, with a buffer for one line.
pub(crate) struct Chain<'j> {
    journal: &'j Journal,
    walk: Walk,
    buf: KVec<u8>,
}

/// What a step of the walk found.
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time, on the stack; a box could fail to be allocated"
)]
pub(crate) enum Link<'b> {
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
            buf,
        })
    }

    /// Where the walk goes on.
    pub(crate) fn next_at(&self) -> Option<Pos> {
        self.walk.next()
    }

    /// Takes one step.
    pub(crate) fn step(&mut self) -> Result<Link<'_>> {
        let Some(at) = self.walk.next() else {
            return Ok(Link::End);
        };
        let len = match self.journal.read_line(at, &mut self.buf) {
            Ok(len) => len,
            Err(e) if e == ENODATA => return Ok(Link::Trimmed),
            Err(e) => return Err(e),
        };
        let text = self.buf.get(..len).ok_or(EUCLEAN)?;
        // The journal has verified the sum.
        let mut line = Line::parse(text, None).map_err(|_| EUCLEAN)?;
        match self.walk.step(&mut line) {
            Step::Stop(Stop::Corrupt) => Err(EUCLEAN),
            step => Ok(Link::Line(line, at, text, step)),
        }
    }
}
