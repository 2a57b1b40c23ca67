// SPDX-License-Identifier: GPL-2.0 OR MIT

//! A payload's map: which ranges its bytes belong to, and which ranges had none, with space allocated
//! for them or without.

use super::super::types::Pos;
use super::{Piece, PlanError, Restore, Source};

/// The length of one record.
pub const RECORD: usize = 16;

/// The bit of a record's length that says: the payload has no bytes for this range.
const EMPTY: u64 = 1 << 63;

/// The bit of such a record's offset for allocated but unwritten space. StoreFile offsets are below
/// 2^63.
const ALLOCATED: u64 = 1 << 63;

/// The content of a range of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Bytes.
    Data,
    /// A hole: reads as zeroes.
    Hole,
    /// Allocated but unwritten space: reads as zeroes.
    Unwritten,
}

/// One record of a payload's map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapRecord {
    /// Where in the file.
    pub offset: u64,
    /// How many bytes; below 2^63.
    pub length: u64,
    /// The content; the payload has bytes only for data.
    pub content: Content,
}

impl MapRecord {
    /// The record's form in the payload.
    pub fn encode(&self) -> [u8; RECORD] {
        let (allocated, empty) = match self.content {
            Content::Data => (0, 0),
            Content::Hole => (0, EMPTY),
            Content::Unwritten => (ALLOCATED, EMPTY),
        };
        let mut record = [0; RECORD];
        let (offset, length) = record.split_at_mut(RECORD / 2);
        offset.copy_from_slice(&(self.offset | allocated).to_le_bytes());
        length.copy_from_slice(&(self.length & !EMPTY | empty).to_le_bytes());
        record
    }

    /// Reads a record.
    pub fn decode(record: &[u8; RECORD]) -> Self {
        let word = |start: usize| {
            let mut bytes = [0; 8];
            for (to, from) in bytes.iter_mut().zip(record.iter().skip(start)) {
                *to = *from;
            }
            u64::from_le_bytes(bytes)
        };
        let (offset, length) = (word(0), word(RECORD / 2));
        let (offset, content) = match (length & EMPTY != 0, offset & ALLOCATED != 0) {
            (false, _) => (offset, Content::Data),
            (true, false) => (offset, Content::Hole),
            (true, true) => (offset & !ALLOCATED, Content::Unwritten),
        };
        Self {
            offset,
            length: length & !EMPTY,
            content,
        }
    }
}

/// Turns a payload into pieces. The caller feeds record by record and may read the payload in any
/// portions; the result is valid only if [`MapReader::finish`] succeeds.
#[derive(Clone, Copy, Debug)]
pub struct MapReader {
    /// Records still to come.
    left: u64,
    /// Where the next record may begin at the earliest.
    floor: u64,
    /// Where the line's range ends.
    ceiling: u64,
    segment: u64,
    /// Where the next data bytes lie in the payload file.
    next: u64,
    /// Where the payload ends.
    end: u64,
    /// The single piece of a payload without a map.
    plain: Option<Piece>,
}

impl MapReader {
    /// Begins with a line's payload.
    pub fn new(restore: &Restore) -> Result<Self, PlanError> {
        let payload = restore.content().ok_or(PlanError::Corrupt)?;
        let ceiling = restore.offset.checked_add(restore.length);
        let end = payload.offset.checked_add(payload.length);
        let (Some(ceiling), Some(end)) = (ceiling, end) else {
            return Err(PlanError::Corrupt);
        };
        let records = restore.map.unwrap_or(0);
        let map = records.checked_mul(RECORD as u64);
        let next = map
            .filter(|map| *map <= payload.length)
            .and_then(|map| payload.offset.checked_add(map))
            .ok_or(PlanError::Corrupt)?;
        let mut reader = Self {
            left: records,
            floor: restore.offset,
            ceiling,
            segment: payload.segment,
            next,
            end,
            plain: None,
        };
        if restore.map.is_none() && payload.length > 0 {
            reader.plain = Some(reader.piece(restore.offset, payload.length, Content::Data)?);
        }
        Ok(reader)
    }

    /// The one piece of a payload without a map.
    pub fn plain(&self) -> Option<Piece> {
        self.plain
    }

    /// How many records are still to be fed.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Takes the next record and returns its piece.
    pub fn feed(&mut self, record: &[u8; RECORD]) -> Result<Piece, PlanError> {
        self.left = self.left.checked_sub(1).ok_or(PlanError::Corrupt)?;
        let record = MapRecord::decode(record);
        self.piece(record.offset, record.length, record.content)
    }

    /// Agrees, if the map is whole and accounts for every byte of the payload.
    pub fn finish(&self) -> Result<(), PlanError> {
        if self.left == 0 && self.next == self.end {
            Ok(())
        } else {
            Err(PlanError::Corrupt)
        }
    }

    /// Checks a range and assigns the next bytes of the payload to data.
    fn piece(&mut self, offset: u64, length: u64, content: Content) -> Result<Piece, PlanError> {
        let end = offset.checked_add(length).ok_or(PlanError::Corrupt)?;
        if length == 0 || offset < self.floor || end > self.ceiling {
            return Err(PlanError::Corrupt);
        }
        let source = match content {
            Content::Hole => Source::Hole,
            Content::Unwritten => Source::Unwritten,
            Content::Data => self.take(length)?,
        };
        self.floor = end;
        Ok(Piece {
            offset,
            length,
            source,
        })
    }

    /// The next `length` bytes of the payload.
    fn take(&mut self, length: u64) -> Result<Source, PlanError> {
        let offset = self.next;
        self.next = offset
            .checked_add(length)
            .filter(|next| *next <= self.end)
            .ok_or(PlanError::Corrupt)?;
        Ok(Source::At(Pos {
            segment: self.segment,
            offset,
        }))
    }
}
