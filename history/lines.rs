// SPDX-License-Identifier: GPL-2.0

//! A reader of lines: one line at a position, or a chain of lines backwards.

use kernel::prelude::*;

use super::journal::Journal;
use crate::{
    log::{
        line::{Line, MAX_LINE},
        types::Pos,
    },
    vfs::error::{ENODATA, EUCLEAN},
};

/// Reads lines into one buffer. On the heap: [`MAX_LINE`] is too much for the kernel stack.
///
/// The methods that return a line are out of line: a parsed line takes half a kilobyte of stack,
/// which must be free while the journal is read.
pub(crate) struct Lines<'j> {
    journal: &'j Journal,
    buf: KBox<[u8; MAX_LINE]>,
    /// Position and length of the line in the buffer.
    held: Option<(Pos, usize)>,
}

impl<'j> Lines<'j> {
    /// A reader without a line.
    pub(crate) fn new(journal: &'j Journal) -> Result<Self> {
        let buf = KBox::zeroed(GFP_KERNEL)?;
        Ok(Self {
            journal,
            buf,
            held: None,
        })
    }

    /// The journal that is read.
    pub(crate) fn journal(&self) -> &'j Journal {
        self.journal
    }

    /// Reads the line at a position into the buffer, for [`Self::parse`]; returns its length.
    /// `ENODATA`: the line was dropped. `EUCLEAN`: damaged. The line that was fetched last is not
    /// read again: lines do not change.
    pub(crate) fn fetch(&mut self, at: Pos) -> Result<usize> {
        if let Some((_, len)) = self.held.filter(|(held, _)| *held == at) {
            return Ok(len);
        }
        self.held = None;
        let len = self.journal.read_line(at, &mut self.buf[..])?;
        self.held = Some((at, len));
        Ok(len)
    }

    /// Parses the line of `len` bytes in the buffer. The journal has verified its checksum.
    #[inline(never)]
    pub(crate) fn parse(&self, len: usize) -> Result<Line<'_>> {
        self.parse_with_text(len).map(|(line, _)| line)
    }

    /// As [`Self::parse`], with the line's text.
    #[inline(always)]
    pub(crate) fn parse_with_text(&self, len: usize) -> Result<(Line<'_>, &[u8])> {
        let text = self.buf.get(..len).ok_or(EUCLEAN)?;
        let line = Line::parse(text, None).map_err(|_| EUCLEAN)?;
        Ok((line, text))
    }

    /// Reads the line at a position. Errors as [`Self::fetch`].
    #[inline(never)]
    pub(crate) fn read(&mut self, at: Pos) -> Result<Line<'_>> {
        let len = self.fetch(at)?;
        self.parse(len)
    }

    /// Reads the line at `next` and sets `next` to the line before it in the chain; returns the
    /// line's position and the line. `None`: the chain has no further line. Errors as
    /// [`Self::fetch`] and [`before`].
    #[inline(never)]
    pub(crate) fn back(&mut self, next: &mut Option<Pos>) -> Result<Option<(Pos, Line<'_>)>> {
        let Some(at) = *next else {
            return Ok(None);
        };
        let len = self.fetch(at)?;
        let line = self.parse(len)?;
        *next = before(&line, at)?;
        Ok(Some((at, line)))
    }

    /// As [`Self::back`]; a chain ends where older lines were dropped, too.
    #[inline(never)]
    pub(crate) fn back_while_kept(
        &mut self,
        next: &mut Option<Pos>,
    ) -> Result<Option<(Pos, Line<'_>)>> {
        match self.back(next) {
            Err(e) if e == ENODATA => Ok(None),
            found => found,
        }
    }
}

/// The position of the line before `line`, which is at `at`. `EUCLEAN`: it is not older, so that a
/// forged chain could be a loop.
pub(crate) fn before(line: &Line<'_>, at: Pos) -> Result<Option<Pos>> {
    match line.prev {
        Some(prev) if prev >= at => Err(EUCLEAN),
        prev => Ok(prev),
    }
}
