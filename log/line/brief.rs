// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The fast path for a line about content, written by an open file that already has a first line in
//! this segment.
//!
//! The line has the same bytes as one sealed by [`super::LineDraft`] with the same keys. It is
//! written once, under the staging lock, when its number and segment are known, so no draft is
//! copied; the parts that rarely change from one line of an open file to the next are cached as
//! text.

use super::super::types::{Crc, ObjectId, Pos, Time};
use super::{
    strip::{self, Number, PaddedText, Second, Strip, Word},
    text, LineError, Op, Undo,
};

/// The parts that rarely change from one line of an open file to the next, as text.
#[derive(Clone, Copy)]
pub struct RecordTemplate {
    object: Word,
    open: Word,
    second: Second,
    /// With the colon that follows the segment.
    segment: Number,
    length: Number,
    size: Number,
}

impl RecordTemplate {
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

/// The fields of a line about content, except its number.
pub struct FastRecord<'a> {
    /// When.
    pub time: Time,
    /// The program.
    pub command: PaddedText<'a>,
    /// The operation.
    pub op: Op,
    /// Its offset.
    pub offset: u64,
    /// Its length.
    pub length: u64,
    /// Cached texts of the object, the open file and the previous line.
    pub template: &'a mut RecordTemplate,
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

impl FastRecord<'_> {
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
        line.word(&self.template.object);
        if let Some(prev) = self.prev {
            line.segment(b" prev=", prev.segment, &mut self.template.segment);
            line.number(b"", prev.offset);
        }
        line.known(b" size=", self.size, &mut self.template.size);
        line.word(&self.template.open);
        self.undo(&mut line);
        Ok(line.finish(start, crc))
    }

    #[inline(always)]
    fn head(&mut self, line: &mut Strip<'_>) -> Result<(), LineError> {
        if !strip::fits(self.command.len()) {
            return Err(LineError::TooLong);
        }
        line.time(self.time, &mut self.template.second);
        line.put(b" ");
        line.padded(self.command);
        if self.op == Op::Write {
            line.put(b" write ");
        } else {
            line.put(b" ");
            line.slice(self.op.as_str().as_bytes());
            line.put(b" ");
        }
        // An append writes at the old end of the file: the offset and the size are the same text.
        if self.offset == self.size {
            line.known(b"", self.offset, &mut self.template.size);
        } else {
            line.number(b"", self.offset);
        }
        line.known(b" ", self.length, &mut self.template.length);
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
                line.segment(b" undo=", extent.segment, &mut self.template.segment);
                line.number(b"", extent.offset);
                line.known(b"+", extent.length, &mut self.template.length);
                if self.map != 0 {
                    line.number(b" map=", self.map);
                }
                line.put(b" crc=");
                line.eight(text::hex_digits(self.crc), 8);
            }
        }
    }
}
