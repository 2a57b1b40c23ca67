// SPDX-License-Identifier: MIT OR Apache-2.0

//! Code that several tests share.

#![allow(dead_code)]

pub mod model;

use loggerfs_log::line::{Line, LineDraft, MAX_LINE};
use loggerfs_log::plan::{PlanError, Store};
use loggerfs_log::types::{ObjectId, Pos, Seed, Time};

/// A raw CRC-32C update, bit by bit: the reference.
pub fn crc32c(state: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(state, |state, byte| {
        (0..8).fold(state ^ u32::from(*byte), |state, _| {
            (state >> 1) ^ (0x82f6_3b78 & 0u32.wrapping_sub(state & 1))
        })
    })
}

/// The seed of the tests' history.
pub fn seed(segment: u64) -> Seed {
    Seed {
        uuid: *b"LoggerFS history",
        segment,
    }
}

/// The object of the tests.
pub const OBJECT: ObjectId = ObjectId {
    volume: 0,
    inode: 131,
    generation: 1,
};

/// Reads a line that must be sound.
pub fn parse(bytes: &[u8], segment: u64) -> Line<'_> {
    Line::parse(bytes, Some((&seed(segment), crc32c)))
        .unwrap_or_else(|e| panic!("{e:?}: {}", String::from_utf8_lossy(bytes)))
}

/// When everything happens.
pub const WHEN: Time = Time {
    sec: 1_763_639_066,
    nsec: 123_456_789,
};

/// Seals a draft into text.
pub fn seal(draft: &LineDraft<'_>, seq: u64) -> String {
    let mut out = [0; MAX_LINE];
    let len = draft.seal(seq, &seed(1), crc32c, &mut out).unwrap();
    String::from_utf8(out[..len].to_vec()).unwrap()
}

/// A place in the log.
pub fn pos(segment: u64, offset: u64) -> Pos {
    Pos { segment, offset }
}

/// A list that holds at most so many items.
pub struct List<T> {
    pub items: Vec<T>,
    pub room: usize,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            room: usize::MAX,
        }
    }
}

impl<T> Store<T> for List<T> {
    fn push(&mut self, item: T) -> Result<(), PlanError> {
        if self.items.len() >= self.room {
            return Err(PlanError::NoSpace);
        }
        self.items.push(item);
        Ok(())
    }

    fn items(&mut self) -> &mut [T] {
        &mut self.items
    }
}
