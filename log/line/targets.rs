// SPDX-License-Identifier: GPL-2.0 OR MIT

//! `picks=`: the targets of a revert that is not just of the newest operations, as ranges of line
//! numbers, `A-B,C,D-E`, ascending and apart. A range covers every line of the revert's object that
//! was live then and has its number in the range.
//!
//! Ranges that do not fit into the line are written to `picked` lines right before the revert in
//! the object's chain: `further=LOWEST` on a line means that the previous line lists more, down to
//! that number.

use super::{digits::decode_decimal, text, FixedBuffer};

/// The first and the last number of a range.
type Range = (u64, u64);

/// The most bytes of ranges in one line, so that the revert's other keys fit as well.
pub const MAX_TARGETS_TEXT: usize = 1536;

/// Splits off as many of the first ranges as fit into `most` bytes, at least one.
pub fn split(ranges: &[Range], most: usize) -> (&[Range], &[Range]) {
    let mut left = most;
    let mut fits = |range: &(u64, u64)| {
        let rest = left.checked_sub(width(*range));
        left = rest.unwrap_or(0);
        rest.is_some()
    };
    let count = ranges.iter().take_while(|range| fits(range)).count().max(1);
    ranges.split_at_checked(count).unwrap_or((ranges, &[]))
}

/// The ranges of a line that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetRanges<'a>(&'a [u8]);

impl<'a> TargetRanges<'a> {
    /// Parses a value; `None` if malformed.
    pub(super) fn parse(value: &'a [u8]) -> Option<Self> {
        let mut floor = 0;
        for word in value.split(|byte| *byte == b',') {
            let (first, last) = range(word)?;
            if first < floor || last < first {
                return None;
            }
            // Two that touch would be one.
            floor = last.checked_add(2)?;
        }
        Some(Self(value))
    }

    /// The ranges, ascending: the first and the last number of each.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + 'a {
        self.0.split(|byte| *byte == b',').filter_map(range)
    }

    /// Whether a number lies in one of them.
    pub fn contains(&self, seq: u64) -> bool {
        self.ranges()
            .any(|(first, last)| (first..=last).contains(&seq))
    }

    /// The lowest number.
    pub fn lowest(&self) -> u64 {
        self.ranges().next().map_or(0, |(first, _)| first)
    }
}

/// Reads `A-B` or `A`.
fn range(word: &[u8]) -> Option<(u64, u64)> {
    match text::split(word, b'-') {
        Some((first, last)) => Some((decode_decimal(first)?, decode_decimal(last)?)),
        None => decode_decimal(word).map(|only| (only, only)),
    }
}

/// The length of a range in a line, including the comma before it.
pub fn width((first, last): (u64, u64)) -> usize {
    let digits = |number: u64| number.checked_ilog10().unwrap_or(0) as usize + 1;
    if first == last {
        digits(first) + 1
    } else {
        digits(first) + digits(last) + 2
    }
}

/// Writes ranges, which ascend and are apart.
pub(super) fn put<const N: usize>(text: &mut FixedBuffer<'_, N>, ranges: &[(u64, u64)]) {
    for (index, (first, last)) in ranges.iter().enumerate() {
        if index != 0 {
            text.put(b",");
        }
        text.dec(*first);
        if first != last {
            text.put(b"-");
            text.dec(*last);
        }
    }
}
