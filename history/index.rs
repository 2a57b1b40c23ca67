// SPDX-License-Identifier: GPL-2.0

//! The encoding of an index table: sorted objects, each with the position of its last line.
//!
//! A table has a head, blocks of sorted entries, and a blocked bloom filter, in which a single read
//! of 64 bytes excludes most absent objects. Head, blocks and filter pieces have checksums; a
//! damaged filter piece excludes nothing.

use super::{objects::hash, state::SegmentRange};
use crate::log::types::{Crc, ObjectId, Pos};

/// How many bytes the head and each block have.
pub(crate) const BLOCK: usize = 4096;
/// How many bytes an entry has.
pub(crate) const ENTRY: usize = 32;
/// How many entries a block has.
pub(crate) const PER_BLOCK: u64 = 127;
/// How many bytes of the filter one object looks at.
pub(crate) const FILTER: usize = 64;
/// A larger table has no filter.
const MOST_FILTERED: u64 = 1 << 22;

const MAGIC: &[u8; 8] = b"lfs-idx2";
/// The number of bits in a filter piece; the piece's checksum follows them.
const FILTER_BITS: usize = (FILTER - 4) * 8;
/// The offset of a block's checksum.
const SUM_AT: usize = BLOCK - 4;

/// A table's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// The segments that the table covers.
    pub(crate) span: SegmentRange,
    /// The number of entries.
    pub(crate) entries: u64,
    /// How many pieces of [`FILTER`] bytes its filter has: a power of two, or 0.
    pub(crate) filters: u64,
}

impl Head {
    /// How many blocks the entries take.
    pub(crate) fn blocks(&self) -> u64 {
        self.entries.div_ceil(PER_BLOCK)
    }

    /// The offset of block `i`.
    pub(crate) fn block_at(&self, i: u64) -> Option<u64> {
        i.checked_add(1)?.checked_mul(BLOCK as u64)
    }

    /// The offset of the filter's piece for `object`; `None`: there is no filter.
    pub(crate) fn filter_at(&self, object: ObjectId) -> Option<u64> {
        let piece = filter_piece(object, self.filters)?;
        self.block_at(self.blocks())?
            .checked_add(piece.checked_mul(FILTER as u64)?)
    }

    /// Encodes the head.
    pub(crate) fn encode(&self, uuid: &[u8; 16], crc: Crc, out: &mut [u8; BLOCK]) {
        out.fill(0);
        let fields = [
            self.span.first,
            self.span.last,
            self.entries,
            self.filters, //
        ];
        let numbers = fields.iter().flat_map(|field| field.to_le_bytes());
        let bytes = MAGIC.iter().chain(uuid).copied().chain(numbers);
        for (to, from) in out.iter_mut().zip(bytes) {
            *to = from;
        }
        seal(out, crc);
    }

    /// Decodes a head. `None`: damaged, or of another history.
    pub(crate) fn parse(bytes: &[u8; BLOCK], uuid: &[u8; 16], crc: Crc) -> Option<Self> {
        if !is_whole(bytes, crc) || bytes.get(..8)? != MAGIC || bytes.get(8..24)? != uuid {
            return None;
        }
        Some(Self {
            span: SegmentRange {
                first: u64_at(bytes, 24)?,
                last: u64_at(bytes, 32)?,
            },
            entries: u64_at(bytes, 40)?,
            filters: u64_at(bytes, 48)?,
        })
    }
}

/// How many pieces the filter of a table of `entries` has: ten bits and more for each.
pub(crate) fn filters_for(entries: u64) -> u64 {
    if entries == 0 || entries > MOST_FILTERED {
        return 0;
    }
    entries
        .saturating_mul(10)
        .div_ceil(FILTER_BITS as u64)
        .next_power_of_two()
}

/// Which piece of a filter of `filters` pieces is `object`'s.
pub(crate) fn filter_piece(object: ObjectId, filters: u64) -> Option<u64> {
    let mask = filters.checked_sub(1)?;
    Some((hash(object) >> 20) & mask)
}

/// The six bits of its piece that `object` has.
fn filter_bits(object: ObjectId) -> impl Iterator<Item = (usize, u8)> {
    let mut bits = hash(object).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (0..6).map(move |_| {
        // CAST: The top nine bits.
        let bit = (bits >> 55) as usize % FILTER_BITS;
        bits = bits.rotate_left(9);
        (bit / 8, 1 << (bit % 8))
    })
}

/// Puts `object` into its piece of the filter.
pub(crate) fn filter_put(piece: &mut [u8], object: ObjectId) {
    for (at, bit) in filter_bits(object) {
        if let Some(byte) = piece.get_mut(at) {
            *byte |= bit;
        }
    }
}

/// Adds the checksum of each piece of a filter.
pub(crate) fn seal_filter(filter: &mut [u8], crc: Crc) {
    for piece in filter.chunks_exact_mut(FILTER) {
        if let Some((body, sum)) = piece.split_at_mut_checked(FILTER_BITS / 8) {
            sum.copy_from_slice(&(!crc(!0, body)).to_le_bytes());
        }
    }
}

/// Whether `object` may be in the table whose piece of the filter this is.
pub(crate) fn filter_has(piece: &[u8; FILTER], object: ObjectId, crc: Crc) -> bool {
    let is_whole = piece
        .split_at_checked(FILTER_BITS / 8)
        .is_some_and(|(body, sum)| sum == (!crc(!0, body)).to_le_bytes());
    !is_whole
        || filter_bits(object).all(|(at, bit)| piece.get(at).is_some_and(|byte| byte & bit != 0))
}

/// Writes entry `i` of a block.
pub(crate) fn put_entry(block: &mut [u8; BLOCK], i: usize, object: ObjectId, pos: Pos) {
    let Some(out) = block
        .get_mut(..SUM_AT)
        .and_then(|b| b.chunks_exact_mut(ENTRY).nth(i))
    else {
        return;
    };
    // CAST: Logs are far below 4 GiB.
    let offset = pos.offset as u32;
    let bytes = (object.volume.to_le_bytes().into_iter())
        .chain(object.inode.to_le_bytes())
        .chain(pos.segment.to_le_bytes())
        .chain(object.generation.to_le_bytes())
        .chain(offset.to_le_bytes());
    for (to, from) in out.iter_mut().zip(bytes) {
        *to = from;
    }
}

/// Reads an entry.
pub(crate) fn entry(bytes: &[u8]) -> Option<(ObjectId, Pos)> {
    Some((
        ObjectId {
            volume: u64_at(bytes, 0)?,
            inode: u64_at(bytes, 8)?,
            generation: u32_at(bytes, 24)?,
        },
        Pos {
            segment: u64_at(bytes, 16)?,
            offset: u64::from(u32_at(bytes, 28)?),
        },
    ))
}

/// The entries of a block that holds `count`.
pub(crate) fn entries(
    block: &[u8; BLOCK],
    count: usize,
) -> impl Iterator<Item = (ObjectId, Pos)> + '_ {
    let bytes = block.get(..SUM_AT).unwrap_or_default();
    bytes.chunks_exact(ENTRY).take(count).filter_map(entry)
}

/// Adds a block's checksum.
pub(crate) fn seal(block: &mut [u8; BLOCK], crc: Crc) {
    if let Some((body, sum)) = block.split_at_mut_checked(SUM_AT) {
        sum.copy_from_slice(&(!crc(!0, body)).to_le_bytes());
    }
}

/// Whether a block's checksum holds.
pub(crate) fn is_whole(block: &[u8; BLOCK], crc: Crc) -> bool {
    block
        .split_at_checked(SUM_AT)
        .is_some_and(|(body, sum)| sum == (!crc(!0, body)).to_le_bytes())
}

/// How many entries block `i` of `entries` has.
pub(crate) fn count_in_block(entries: u64, i: u64) -> usize {
    let before = i.saturating_mul(PER_BLOCK);
    // CAST: At most PER_BLOCK.
    entries.saturating_sub(before).min(PER_BLOCK) as usize
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}
