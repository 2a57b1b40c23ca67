// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The usual line, written in one go: that of an operation on content by an open file which has
//! told already who uses it.
//!
//! It says what a [`super::LineDraft`] with the same keys would say, but its number and segment are
//! known when it is written, so nothing is copied a second time; and what stays the same from one
//! line of an open file to the next is kept as text.

use super::{
    strip::{
        self,
        Number,
        Padded,
        Second,
        Strip,
        Word, //
    },
    text,
    Crc,
    LineError,
    ObjectId,
    Op,
    Pos,
    Time,
    Undo, //
};

/// What stays the same from one usual line of an open file to the next, as text.
#[derive(Clone, Copy)]
pub struct Kept {
    object: Word,
    open: Word,
    second: Second,
    /// With the colon behind it.
    segment: Number,
    length: Number,
    size: Number,
}

impl Kept {
    /// For lines about `object` by the open file whose first line has the number `first`. `None`:
    /// they do not fit into a usual line.
    pub fn new(object: ObjectId, first: u64) -> Option<Self> {
        Some(Self {
            object: Word::object(object)?,
            open: Word::open(first)?,
            second: Second::any(),
            segment: Number::with_colon(0),
            length: Number::of(0),
            size: Number::of(0),
        })
    }
}

/// What a usual line says beside its number.
pub struct Brief<'a> {
    /// When.
    pub time: Time,
    /// The program.
    pub command: Padded<'a>,
    /// What was done, where.
    pub op: Op,
    /// Its offset.
    pub offset: u64,
    /// Its length.
    pub length: u64,
    /// The object and the open file, and what the last line said.
    pub kept: &'a mut Kept,
    /// The object's previous line.
    pub prev: Option<Pos>,
    /// The object's size before.
    pub size: u64,
    /// Where the old state is; not [`Undo::Lost`], which needs a word more.
    pub undo: Undo,
    /// With how many records the payload begins, if any.
    pub map: u64,
    /// The payload's checksum, if there is one.
    pub crc: u32,
}

impl Brief<'_> {
    /// Writes the whole line and returns its length. Its checksum starts from `start`, which
    /// [`super::Seed::start`] gives.
    pub fn seal(
        &mut self,
        seq: u64,
        start: u32,
        crc: Crc,
        out: &mut [u8],
    ) -> Result<usize, LineError> {
        let mut line = Strip::new(out).ok_or(LineError::TooLong)?;
        self.head(&mut line)?;
        line.number(b" seq=", seq);
        line.word(&self.kept.object);
        if let Some(prev) = self.prev {
            line.segment(b" prev=", prev.segment, &mut self.kept.segment);
            line.number(b"", prev.offset);
        }
        line.known(b" size=", self.size, &mut self.kept.size);
        line.word(&self.kept.open);
        self.undo(&mut line);
        Ok(line.finish(start, crc))
    }

    #[inline(always)]
    fn head(&mut self, line: &mut Strip<'_>) -> Result<(), LineError> {
        if !strip::fits(self.command.len()) {
            return Err(LineError::TooLong);
        }
        line.time(self.time, &mut self.kept.second);
        line.put(b" ");
        line.padded(self.command);
        if self.op == Op::Write {
            line.put(b" write ");
        } else {
            line.put(b" ");
            line.slice(self.op.as_str().as_bytes());
            line.put(b" ");
        }
        // What is written at the end, as an append does, is told again as the size before it.
        if self.offset == self.size {
            line.known(b"", self.offset, &mut self.kept.size);
        } else {
            line.number(b"", self.offset);
        }
        line.known(b" ", self.length, &mut self.kept.length);
        Ok(())
    }

    #[inline(always)]
    fn undo(&mut self, line: &mut Strip<'_>) {
        match self.undo {
            Undo::None => {
                line.put(b" undo=no");
                line.put(b"ne");
            }
            Undo::Lost => line.slice(b" undo=lost"),
            Undo::At(extent) => {
                line.segment(b" undo=", extent.segment, &mut self.kept.segment);
                line.number(b"", extent.offset);
                line.known(b"+", extent.length, &mut self.kept.length);
                if self.map != 0 {
                    line.number(b" map=", self.map);
                }
                line.put(b" crc=");
                line.eight(text::hex_digits(self.crc), 8);
            }
        }
    }
}
