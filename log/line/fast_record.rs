// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The fast path for a line about content, written by an open file that already has a first line in
//! this segment.
//!
//! The line has the same bytes as one sealed by [`super::LineDraft`] with the same keys. It is
//! written once, under the staging lock, when its number and segment are known, so no draft is
//! copied; the parts that rarely change from one line of an open file to the next are in its
//! [`RecordTemplate`] as text.

use super::super::types::{Crc, ObjectId, Pos, Time};
use super::{
    cached::{Cached, LastValue, PaddedText},
    draft,
    fields::{Obj, PosSegment, Seconds, Value},
    FixedBuffer, LineError, Op, Undo, MAX_LINE,
};

/// The parts that rarely change from one line of an open file to the next, as text.
#[derive(Clone, Copy)]
pub struct RecordTemplate {
    object: Cached<40>,
    open: Cached<32>,
    seconds: LastValue<Seconds, 16>,
    segment: LastValue<PosSegment, 8>,
    length: LastValue<u64, 8>,
    size: LastValue<u64, 8>,
}

impl RecordTemplate {
    /// For lines about `object` by the open file whose first line has the number `first`. `None`:
    /// the object's text is too long.
    pub fn new(object: ObjectId, first: u64) -> Option<Self> {
        Some(Self {
            object: Cached::new(|text| Obj(object).put(text))?,
            open: Cached::new(|text| text.open(first))?,
            seconds: LastValue::default(),
            segment: LastValue::default(),
            length: LastValue::default(),
            size: LastValue::default(),
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
    /// Of the open file.
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
    /// Writes the whole line to `out`, of [`MAX_LINE`] bytes, and returns its length. Its checksum
    /// starts from `start`, which [`super::Seed::start`] gives.
    pub fn seal(
        &mut self,
        seq: u64,
        start: u32,
        crc: Crc,
        out: &mut [u8],
    ) -> Result<usize, LineError> {
        let mut line = FixedBuffer::<MAX_LINE>::at(out).ok_or(LineError::TooLong)?;
        self.head(&mut line);
        line.seq(seq);
        let template = &mut *self.template;
        template.object.put(&mut line);
        if let Some(prev) = self.prev {
            line.prev(template.segment.or(PosSegment(prev.segment)), prev.offset);
        }
        line.size(template.size.or(self.size));
        template.open.put(&mut line);
        self.undo(&mut line);
        draft::finish_template(line, start, crc)
    }

    #[inline(always)]
    fn head(&mut self, line: &mut FixedBuffer<'_, MAX_LINE>) {
        let template = &mut *self.template;
        // An append writes at the old end of the file: the offset and the size are the same text.
        let offset = match self.offset == self.size {
            true => Offset::AtEnd(template.size.or(self.size)),
            false => Offset::Any(self.offset),
        };
        line.head(
            (template.seconds.or(Seconds(self.time.sec)), self.time.nsec),
            self.command,
            self.op,
            (offset, template.length.or(self.length)),
        );
    }

    #[inline(always)]
    fn undo(&mut self, line: &mut FixedBuffer<'_, MAX_LINE>) {
        let template = &mut *self.template;
        match self.undo {
            Undo::None => line.undo_none(),
            Undo::Lost => line.undo_lost(),
            Undo::At(extent) => {
                line.undo_at(
                    template.segment.or(PosSegment(extent.segment)),
                    extent.offset,
                    template.length.or(extent.length),
                );
                if self.map != 0 {
                    line.map(self.map);
                }
                line.crc(self.crc);
            }
        }
    }
}

/// The offset of an operation.
enum Offset<T> {
    AtEnd(T),
    Any(u64),
}

impl<T: Value> Value for Offset<T> {
    #[inline(always)]
    fn put<const N: usize>(self, text: &mut FixedBuffer<'_, N>) {
        match self {
            Self::AtEnd(size) => size.put(text),
            Self::Any(offset) => offset.put(text),
        }
    }
}
