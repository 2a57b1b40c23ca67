// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Finds the allocated ranges of a file from the number of extents in parts of it. `FIEMAP` copies
//! extents only to user memory (`fiemap_fill_next_extent()`), so within the kernel a filesystem
//! reports just their number.

/// Whether `bytes`, which begin at `start` in their file, have a whole block of zeroes, which may
/// be a hole. `block` is a power of two. A partial block at the end counts as whole if the file
/// ends there; `is_end` finds out.
#[inline]
pub fn has_empty_block(
    bytes: &[u8],
    start: u64,
    block: u64,
    is_end: impl FnOnce() -> bool,
) -> bool {
    let lead = start.wrapping_neg() & block.wrapping_sub(1);
    let (Ok(lead), Ok(block)) = (usize::try_from(lead), usize::try_from(block)) else {
        return false;
    };
    let mut rest = bytes.get(lead..).unwrap_or_default();
    while let Some((whole, behind)) = rest.split_at_checked(block.max(1)) {
        if is_empty(whole) {
            return true;
        }
        rest = behind;
    }
    !rest.is_empty() && is_empty(rest) && is_end()
}

/// Whether all bytes are zero; returns at the first word that is not.
#[inline]
fn is_empty(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some((word, behind)) = rest.split_first_chunk::<8>() {
        if u64::from_ne_bytes(*word) != 0 {
            return false;
        }
        rest = behind;
    }
    rest.iter().all(|byte| *byte == 0)
}

/// How often a range can be halved at most, and one more.
const DEEPEST: usize = 65;

/// Calls `each` with the parts of `[start, end)`, ascending, and whether space is allocated for them.
///
/// `extents` says how many extents a range has a part of; `block`, a power of two, how many bytes a
/// filesystem allocates together. A range without extents has no space. One in which a single extent
/// lies, which has its first and its last block, is covered by that. Any other is halved: a file of `n`
/// extents costs some `n` times the logarithm of its size.
pub fn allocated<E>(
    (start, end): (u64, u64),
    block: u64,
    mut extents: impl FnMut(u64, u64) -> Result<u64, E>,
    mut each: impl FnMut(u64, u64, bool) -> Result<(), E>,
) -> Result<(), E> {
    let blocks = Blocks(block.wrapping_sub(1));
    let mut pending = PendingHalves::default();
    let mut next = (start < end).then_some((start, end));
    while let Some((from, to)) = next {
        let found = extents(from, to)?;
        next = if found == 0 {
            each(from, to, false)?;
            pending.pop()
        } else if blocks.are_covered((from, to), found, &mut extents)? {
            each(from, to, true)?;
            pending.pop()
        } else {
            let middle = blocks.middle(from, to);
            pending.push((middle, to));
            Some((from, middle))
        };
    }
    Ok(())
}

/// The right halves of the ranges that are being gone through, the innermost last.
struct PendingHalves {
    halves: [(u64, u64); DEEPEST],
    count: usize,
}

impl Default for PendingHalves {
    fn default() -> Self {
        Self {
            halves: [(0, 0); DEEPEST],
            count: 0,
        }
    }
}

impl PendingHalves {
    fn push(&mut self, half: (u64, u64)) {
        // There is always space: every half in here is at least twice as long as the next one.
        if let Some(place) = self.halves.get_mut(self.count) {
            *place = half;
            self.count = self.count.saturating_add(1);
        }
    }

    fn pop(&mut self) -> Option<(u64, u64)> {
        self.count = self.count.checked_sub(1)?;
        self.halves.get(self.count).copied()
    }
}

/// Blocks, by the bits of an offset that are within one.
struct Blocks(u64);

impl Blocks {
    /// Whether a range in which extents lie is allocated from its beginning to its end.
    fn are_covered<E>(
        &self,
        (from, to): (u64, u64),
        found: u64,
        extents: &mut impl FnMut(u64, u64) -> Result<u64, E>,
    ) -> Result<bool, E> {
        let (first, last) = (self.after(from), self.before(to));
        if first >= to {
            return Ok(true);
        }
        Ok(found == 1 && extents(from, first)? != 0 && extents(last, to)? != 0)
    }

    /// Where the block of `at` ends.
    fn after(&self, at: u64) -> u64 {
        (at | self.0).saturating_add(1)
    }

    /// The start of the block that ends at or after `at`, which is not 0.
    fn before(&self, at: u64) -> u64 {
        at.saturating_sub(1) & !self.0
    }

    /// Where a block begins about the middle of a range that has a part of two at least.
    fn middle(&self, from: u64, to: u64) -> u64 {
        let half = from.saturating_add(to.saturating_sub(from) / 2) & !self.0;
        if half > from {
            half
        } else {
            self.after(from)
        }
    }
}
