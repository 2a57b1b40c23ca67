// SPDX-License-Identifier: GPL-2.0 OR MIT

//! A payload's map: which ranges its bytes belong to, and which ranges were holes.

use super::{
    super::line::Pos,
    Piece,
    PlanError,
    Restore,
    Source, //
};

/// The length of one record.
pub const RECORD: usize = 16;

/// The bit of a record's length that says: this range was a hole.
const HOLE: u64 = 1 << 63;

/// One record of a payload's map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapRecord {
    /// Where in the file.
    pub offset: u64,
    /// How many bytes; below 2^63.
    pub length: u64,
    /// Whether the range was a hole, so that the payload has no bytes for it.
    pub hole: bool,
}

impl MapRecord {
    /// The record as it stands in the payload.
    pub fn encode(&self) -> [u8; RECORD] {
        let flag = if self.hole { HOLE } else { 0 };
        let mut record = [0; RECORD];
        let (offset, length) = record.split_at_mut(RECORD / 2);
        offset.copy_from_slice(&self.offset.to_le_bytes());
        length.copy_from_slice(&(self.length & !HOLE | flag).to_le_bytes());
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
        let length = word(RECORD / 2);
        Self {
            offset: word(0),
            length: length & !HOLE,
            hole: length & HOLE != 0,
        }
    }
}

/// Turns a payload into pieces. Fed record by record, so that the payload may be read in any
/// portions; nothing it says is believed until [`MapReader::finish`] has agreed.
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
            reader.plain = Some(reader.piece(restore.offset, payload.length, false)?);
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

    /// Takes the next record and says what it means.
    pub fn feed(&mut self, record: &[u8; RECORD]) -> Result<Piece, PlanError> {
        self.left = self.left.checked_sub(1).ok_or(PlanError::Corrupt)?;
        let record = MapRecord::decode(record);
        self.piece(record.offset, record.length, record.hole)
    }

    /// Agrees, if the map is whole and accounts for every byte of the payload.
    pub fn finish(&self) -> Result<(), PlanError> {
        if self.left == 0 && self.next == self.end {
            Ok(())
        } else {
            Err(PlanError::Corrupt)
        }
    }

    /// Checks a range and gives it its bytes.
    fn piece(&mut self, offset: u64, length: u64, hole: bool) -> Result<Piece, PlanError> {
        let end = offset.checked_add(length).ok_or(PlanError::Corrupt)?;
        if length == 0 || offset < self.floor || end > self.ceiling {
            return Err(PlanError::Corrupt);
        }
        let source = if hole {
            Source::Hole
        } else {
            let start = self.next;
            self.next = start
                .checked_add(length)
                .filter(|next| *next <= self.end)
                .ok_or(PlanError::Corrupt)?;
            Source::At(Pos {
                segment: self.segment,
                offset: start,
            })
        };
        self.floor = end;
        Ok(Piece {
            offset,
            length,
            source,
        })
    }
}
