// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The ranges of a file's content that an operation affected. An operation cannot be reverted alone
//! if a newer live operation affected a part of its ranges.

use super::{
    super::line::{
        Line,
        Op, //
    },
    PlanError, Store,
};

/// Ranges of a file, as start and end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AffectedRanges {
    /// The range of the operation itself.
    range: Option<(u64, u64)>,
    /// The offset from which on all content changed its place or existence: the size was changed,
    /// or the content after the range was moved.
    beyond: Option<u64>,
}

impl AffectedRanges {
    /// The ranges that a line's operation affected; empty if the operation does not change content.
    pub fn of(line: &Line<'_>) -> Self {
        if !line.op.changes_content_in_place() {
            return Self::default();
        }
        let end = line.offset.saturating_add(line.length);
        Self {
            range: (line.length != 0 && line.op != Op::Truncate).then_some((line.offset, end)),
            beyond: resized(line),
        }
    }

    /// Whether another operation affected something of that, too.
    pub fn overlaps(&self, other: &Self) -> bool {
        let meets = |(start, end): (u64, u64)| other.ranges().any(|(a, b)| start < b && a < end);
        self.ranges().any(meets)
    }

    /// Its ranges.
    fn ranges(&self) -> impl Iterator<Item = (u64, u64)> {
        let beyond = self.beyond.map(|from| (from, u64::MAX));
        self.range.into_iter().chain(beyond)
    }
}

/// From where on a line's operation made the file a shorter or longer one; `None`: its size stayed.
pub fn resized(line: &Line<'_>) -> Option<u64> {
    let Some(size) = line.size else {
        // Without a size the start is unknown: the whole file counts.
        return Some(0);
    };
    let end = line.offset.saturating_add(line.length);
    match line.op {
        Op::Write | Op::Copy | Op::Clone | Op::Allocate | Op::Zero => {
            (end > size && line.length != 0).then_some(size)
        }
        Op::Truncate => (line.length != 0).then_some(line.offset),
        Op::Collapse | Op::Insert => Some(line.offset),
        Op::Revert | Op::Redo => match line.now {
            Some(now) => (now != size).then_some(size.min(now)),
            None => Some(0),
        },
        _ => None,
    }
}

/// A range that an operation affected which stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveRange {
    start: u64,
    end: u64,
    seq: u64,
}

/// The ranges that live operations affected, collected from the newest operation on. Each byte
/// belongs to the newest operation.
pub struct LiveRanges<S> {
    /// Disjoint ranges in descending order: most logs are written towards the end of the file, and
    /// a push at the end of the list is cheap.
    ranges: S,
    /// Ranges to the file's end: each begins before all that are newer. A log that only grows has one
    /// for each write; as ranges apart from each other, each of them would be gone through for each older
    /// one.
    tails: S,
    /// How many there may be.
    most: usize,
    count: usize,
}

impl<S: Store<LiveRange> + Default> LiveRanges<S> {
    /// Starts empty; `ranges` must be empty. `add()` fails with more than `most` ranges.
    pub fn new(ranges: S, most: usize) -> Self {
        Self {
            ranges,
            tails: S::default(),
            most,
            count: 0,
        }
    }

    /// An operation stays.
    pub fn add(&mut self, line: &Line<'_>) -> Result<(), PlanError> {
        let affected = AffectedRanges::of(line);
        if let Some((start, end)) = affected.range {
            self.add_range(start, end, line.seq)?;
        }
        match affected.beyond {
            Some(from) => self.add_tail(from, line.seq),
            None => Ok(()),
        }
    }

    /// Adds a range up to the end of the file, unless a newer one begins before it.
    fn add_tail(&mut self, from: u64, seq: u64) -> Result<(), PlanError> {
        let newer = self.tails.items().last();
        if newer.is_some_and(|newer| newer.start <= from) {
            return Ok(());
        }
        self.count_range()?;
        self.tails.push(LiveRange {
            start: from,
            end: u64::MAX,
            seq,
        })
    }

    fn count_range(&mut self) -> Result<(), PlanError> {
        if self.count >= self.most {
            return Err(PlanError::NoSpace);
        }
        self.count = self.count.saturating_add(1);
        Ok(())
    }

    /// The newest live operation that affected a part of the ranges of `line`.
    pub fn blocker(&mut self, line: &Line<'_>) -> Option<u64> {
        let affected = AffectedRanges::of(line);
        let found = affected.ranges().filter_map(|(start, end)| {
            let from = self.first_below(end);
            let ranges = self.ranges.items().get(from..)?;
            let overlapping = ranges.iter().take_while(|live| live.end > start);
            overlapping.map(|live| live.seq).max()
        });
        let found = found.max();
        let end = affected.ranges().map(|(_, end)| end).max();
        found.max(end.and_then(|end| self.newest_tail_before(end)))
    }

    /// The newest of the ranges to the file's end that begin before `offset`.
    fn newest_tail_before(&mut self, offset: u64) -> Option<u64> {
        let tails = self.tails.items();
        let from = tails.partition_point(|tail| tail.start >= offset);
        tails.get(from).map(|tail| tail.seq)
    }

    /// The index of the first range that begins before `offset`.
    fn first_below(&mut self, offset: u64) -> usize {
        let ranges = self.ranges.items();
        ranges.partition_point(|live| live.start >= offset)
    }

    /// Adds the parts of a range that no newer operation covers.
    fn add_range(&mut self, start: u64, end: u64, seq: u64) -> Result<(), PlanError> {
        let mut end = end;
        while start < end {
            let index = self.first_below(end);
            let below = self.ranges.items().get(index).copied();
            match below {
                Some(live) if live.end >= end => end = live.start,
                Some(live) => {
                    let start = live.end.max(start);
                    self.insert(index, LiveRange { start, end, seq })?;
                    end = live.start;
                }
                None => {
                    self.insert(index, LiveRange { start, end, seq })?;
                    end = start;
                }
            }
        }
        Ok(())
    }

    fn insert(&mut self, index: usize, live: LiveRange) -> Result<(), PlanError> {
        self.count_range()?;
        self.ranges.push(live)?;
        if let Some(behind) = self.ranges.items().get_mut(index..) {
            behind.rotate_right(1);
        }
        Ok(())
    }
}
