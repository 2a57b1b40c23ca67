// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The fast path for a line about a name: the name is created, or removed from an object that has
//! other names or becomes an orphan.
//!
//! The line has the same bytes as one sealed by [`super::LineDraft`] with the same keys. Every such
//! line has the fields of the process, since there is no open file to inherit them from; their text
//! is encoded once for each process.

use super::super::types::{Crc, ObjectId, Pos, Time};
use super::{
    strip::{self, PaddedText, Second, Strip, Word},
    LineError, Op,
};

/// The parts that rarely change from one line about a name to the next, as text.
pub struct NameTemplate {
    second: Second,
    directory: Option<(ObjectId, Word)>,
}

impl Default for NameTemplate {
    /// Nothing is known yet.
    fn default() -> Self {
        Self {
            second: Second::any(),
            directory: None,
        }
    }
}

impl NameTemplate {
    /// The directory in the log's form. `None`: too long for the cache.
    fn directory(&mut self, directory: ObjectId) -> Option<&Word> {
        if !matches!(&self.directory, Some((known, _)) if *known == directory) {
            self.directory = Some((directory, Word::object(directory)?));
        }
        self.directory.as_ref().map(|(_, word)| word)
    }
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
    /// The acting process, as [`super::LineDraft::actor_alone`] writes it.
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

/// The longest encoded form of a byte.
const ESCAPE: usize = 3;

/// The longest file handle that a usual line has.
const HANDLE: usize = 64;

impl FastNameRecord<'_> {
    /// Writes the whole line and returns its length. Its checksum starts from `start`, which
    /// [`super::Seed::start`] gives.
    pub fn seal(
        &self,
        usual: &mut NameTemplate,
        seq: u64,
        start: u32,
        crc: Crc,
        out: &mut [u8],
    ) -> Result<usize, LineError> {
        if !self.fits() {
            return Err(LineError::TooLong);
        }
        let mut line = Strip::new(out).ok_or(LineError::TooLong)?;
        line.time(self.time, &mut usual.second);
        line.put(b" ");
        line.padded(self.command);
        line.put(b" ");
        match self.op.eight() {
            (word, len @ 0..=7) => line.eight(word, len),
            _ => line.slice(self.op.as_str().as_bytes()),
        }
        line.put(b" 0 0");
        line.number(b" seq=", seq);
        match usual.directory(self.directory) {
            Some(word) => line.word(word),
            None => line.object(b" obj=", self.directory),
        }
        if let Some(prev) = self.prev {
            line.number(b" prev=", prev.segment);
            line.number(b":", prev.offset);
        }
        line.number(b" size=", self.size);
        line.padded(self.actor);
        line.put(b" undo=no");
        line.put(b"ne");
        if let Some(segment) = self.kept {
            line.number(b" kept=", segment);
        }
        if let Some((kind, handle)) = self.victim_handle {
            line.put(b" vfh=");
            line.hex(&[kind]);
            line.hex(handle);
        }
        line.put(b" name=");
        line.encoded(self.name);
        if let Some(node) = self.node {
            line.object(b" node=", node);
        }
        Ok(line.finish(start, crc))
    }

    /// Whether the line fits into a [`Strip`].
    fn fits(&self) -> bool {
        let name = self.name.len().saturating_mul(ESCAPE);
        let long = self.command.len().saturating_add(self.actor.len());
        let handle = self.victim_handle.map_or(0, |(_, bytes)| bytes.len());
        handle <= HANDLE && strip::fits(long.saturating_add(name))
    }
}
