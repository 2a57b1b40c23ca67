// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The fast path for a line about a name: the name is created, or removed from an object that has
//! other names or becomes an orphan.
//!
//! The line has the same bytes as one sealed by [`super::LineDraft`] with the same keys. Every such
//! line has the fields of the process, since there is no open file to inherit them from; their text
//! is encoded once for each process.

use super::super::types::{Crc, ObjectId, Pos, Time};
use super::{
    cached::{LastValue, PaddedText},
    draft,
    fields::{Obj, PosSegment, Seconds, Value},
    FixedBuffer, LineError, Op, MAX_LINE,
};

/// The parts that rarely change from one line about a name to the next, as text.
#[derive(Default)]
pub struct NameTemplate {
    seconds: LastValue<Seconds, 16>,
    directory: LastValue<Obj, 40>,
}

/// The fields of a line about a name, except its number.
pub struct FastNameRecord<'a> {
    /// When.
    pub time: Time,
    /// The program.
    pub command: PaddedText<'a>,
    /// The operation.
    pub op: Op,
    /// In which directory.
    pub directory: ObjectId,
    /// The directory's previous line.
    pub prev: Option<Pos>,
    /// The directory's size before.
    pub size: u64,
    /// The acting process, as [`super::actor_text`] writes it.
    pub actor: PaddedText<'a>,
    /// The segment that the object which lost its last name is kept with.
    pub kept: Option<u64>,
    /// The type and the bytes of the file handle of the object which lost a name.
    pub victim_handle: Option<(u8, &'a [u8])>,
    /// The name.
    pub name: &'a [u8],
    /// The object that the name is or was bound to.
    pub node: Option<ObjectId>,
}

impl FastNameRecord<'_> {
    /// Writes the whole line to `out`, of [`MAX_LINE`] bytes, and returns its length. Its checksum
    /// starts from `start`, which [`super::Seed::start`] gives.
    pub fn seal(
        &self,
        template: &mut NameTemplate,
        seq: u64,
        start: u32,
        crc: Crc,
        out: &mut [u8],
    ) -> Result<usize, LineError> {
        let mut line = FixedBuffer::<MAX_LINE>::at(out).ok_or(LineError::TooLong)?;
        let seconds = template.seconds.or(Seconds(self.time.sec));
        line.head((seconds, self.time.nsec), self.command, self.op, (0, 0));
        line.seq(seq);
        template.directory.or(Obj(self.directory)).put(&mut line);
        if let Some(prev) = self.prev {
            line.prev(PosSegment(prev.segment), prev.offset);
        }
        line.size(self.size);
        self.actor.put(&mut line);
        line.undo_none();
        if let Some(segment) = self.kept {
            line.kept(segment);
        }
        if let Some((kind, handle)) = self.victim_handle {
            line.victim_handle(kind, handle);
        }
        line.name(self.name);
        if let Some(node) = self.node {
            line.node(node);
        }
        draft::finish_template(line, start, crc)
    }
}
