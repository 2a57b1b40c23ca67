// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The effect of a later line on an earlier one: an operation that was logged before it ran is
//! shown to readers as it ended.

use super::super::types::{Crc, Seed};
use super::{text, FixedBuffer, Line, LineError, Op, MAX_LINE};

/// The outcome of an operation that was logged before it ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amend {
    /// The offset.
    pub offset: u64,
    /// The length.
    pub length: u64,
    /// The object's size before the operation, if the amendment has one.
    pub size: Option<u64>,
}

/// The effect of a later line on an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    /// Nothing.
    Unrelated,
    /// The operation happened with this range.
    Amend(Amend),
    /// The operation did not happen.
    Cancel,
    /// The operation was applied in full.
    Commit,
}

/// Returns the effect of `later` on the line numbered `seq`.
pub fn fold(seq: u64, later: &Line<'_>) -> Fold {
    if later.of != Some(seq) {
        return Fold::Unrelated;
    }
    match later.op {
        Op::Amend => Fold::Amend(Amend {
            offset: later.offset,
            length: later.length,
            size: later.size,
        }),
        Op::Cancel => Fold::Cancel,
        Op::Commit => Fold::Commit,
        _ => Fold::Unrelated,
    }
}

impl Line<'_> {
    /// Corrects the line as an amendment says.
    pub fn amend(&mut self, amend: &Amend) {
        self.offset = amend.offset;
        self.length = amend.length;
        self.size = amend.size.or(self.size);
    }
}

/// Writes a line anew without the arguments of its process, with a checksum of its own, to `out`, of
/// [`MAX_LINE`] bytes, and returns its length. `bytes` is one whole line, which was verified.
pub fn without_arguments(
    bytes: &[u8],
    seed: &Seed,
    crc: Crc,
    out: &mut [u8],
) -> Result<usize, LineError> {
    let body = super::parse::unseal(bytes, None)?;
    let mut rest = FixedBuffer::<MAX_LINE>::at(out).ok_or(LineError::TooLong)?;
    for (index, word) in body.split(|byte| *byte == b' ').enumerate() {
        if index >= 5 && word.starts_with(b"args=") {
            continue;
        }
        if index > 0 {
            rest.put(b" ");
        }
        rest.put(word);
    }
    rest.finish(seed.start(crc), crc)
}

/// Writes a line anew as an amendment says, with a checksum of its own, to `out`, of [`MAX_LINE`] bytes,
/// and returns its length. `bytes` is one whole line, which was verified.
pub fn refold(
    bytes: &[u8],
    amend: &Amend,
    seed: &Seed,
    crc: Crc,
    out: &mut [u8],
) -> Result<usize, LineError> {
    let body = super::parse::unseal(bytes, None)?;
    let mut folded = FixedBuffer::<MAX_LINE>::at(out).ok_or(LineError::TooLong)?;
    for (index, word) in body.split(|byte| *byte == b' ').enumerate() {
        if index > 0 {
            folded.put(b" ");
        }
        match (index, text::split(word, b'='), amend.size) {
            (3, _, _) => folded.dec(amend.offset),
            (4, _, _) => folded.dec(amend.length),
            (5.., Some((b"size", _)), Some(size)) => folded.key(b"size=", size),
            _ => folded.put(word),
        }
    }
    folded.finish(seed.start(crc), crc)
}
