// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The values of a line, read from borrowed bytes. [`super::fields`] writes them.

use super::super::types::{ObjectId, Pos, Time};
use super::digits::{decode_decimal, decode_decimal32, decode_padded_decimal};

/// How many digits the fraction of a second has at most.
pub(super) const NANO_DIGITS: usize = 9;

/// The unit of the last digit of a fraction in nanoseconds, by the number of digits that it lacks.
const SCALES: [u64; NANO_DIGITS] = [
    1,
    10,
    100,
    1_000,
    10_000,
    100_000,
    1_000_000,
    10_000_000,
    100_000_000,
];

/// Whether all bytes are printable ASCII or spaces.
pub(super) fn is_printable(bytes: &[u8]) -> bool {
    const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
    let mut chunks = bytes.chunks_exact(8);
    let mut bad = 0;
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        let word = u64::from_le_bytes(word);
        // A byte's high bit gets set if the byte is below a space, above a tilde or not ASCII. A
        // borrow or carry into another byte comes only from a bad byte.
        bad |= word.wrapping_sub(0x2020_2020_2020_2020)
            | word.wrapping_add(0x0101_0101_0101_0101)
            | word;
    }
    let mut rest = chunks.remainder().iter();
    bad & HIGH_BITS == 0 && rest.all(|byte| matches!(byte, b' '..=b'~'))
}

/// Reads a time whose fraction has at least `digits` digits.
pub(super) fn time(bytes: &[u8], digits: usize) -> Option<Time> {
    let (seconds, fraction) = split(bytes, b'.')?;
    let sec = match seconds {
        [b'-', rest @ ..] => 0i64.checked_sub_unsigned(decode_decimal(rest)?)?,
        _ => i64::try_from(decode_decimal(seconds)?).ok()?,
    };
    if fraction.len() < digits.max(1) || fraction.len() > NANO_DIGITS {
        return None;
    }
    let scale = SCALES.get(NANO_DIGITS.checked_sub(fraction.len())?)?;
    // Nine digits are below 2^32.
    let nsec = decode_padded_decimal(fraction)?.checked_mul(*scale)?;
    Some(Time {
        sec,
        nsec: u32::try_from(nsec).ok()?,
    })
}

/// Reads `SEGMENT:OFFSET`.
pub(super) fn pos(bytes: &[u8]) -> Option<Pos> {
    let (segment, offset) = split(bytes, b':')?;
    Some(Pos {
        segment: decode_decimal(segment)?,
        offset: decode_decimal(offset)?,
    })
}

/// Reads `INODE.GENERATION` or `VOLUME.INODE.GENERATION`.
pub(super) fn object(bytes: &[u8]) -> Option<ObjectId> {
    let (first, rest) = split(bytes, b'.')?;
    let (volume, inode, generation) = match split(rest, b'.') {
        Some((inode, generation)) => (decode_decimal(first)?, decode_decimal(inode)?, generation),
        None => (0, decode_decimal(first)?, rest),
    };
    Some(ObjectId {
        volume,
        inode,
        generation: decode_decimal32(generation)?,
    })
}

/// The bytes before and after the first `mark`.
pub(super) fn split(bytes: &[u8], mark: u8) -> Option<(&[u8], &[u8])> {
    let at = find(bytes, mark)?;
    Some((bytes.get(..at)?, bytes.get(at.checked_add(1)?..)?))
}

/// The index of the first `mark`. Compares eight bytes at once.
pub(super) fn find(bytes: &[u8], mark: u8) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
    let marks = u64::from(mark).wrapping_mul(ONES);
    let mut at = 0usize;
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        let differs = u64::from_le_bytes(word) ^ marks;
        // The lowest high bit that is set is that of the first zero byte. Those above may be
        // wrong, since the subtraction borrows from them.
        let zeroes = differs.wrapping_sub(ONES) & !differs & HIGH_BITS;
        if zeroes != 0 {
            // CAST: below 64.
            return at.checked_add(zeroes.trailing_zeros() as usize / 8);
        }
        at = at.checked_add(8)?;
    }
    let rest = chunks.remainder().iter();
    let found = rest.enumerate().find(|(_, byte)| **byte == mark);
    at.checked_add(found?.0)
}
