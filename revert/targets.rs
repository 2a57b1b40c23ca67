// SPDX-License-Identifier: GPL-2.0

//! The set of operations that a revert reverted, encoded in its line, and in lines before it if one
//! line is too short.

use super::{names::Outcome, steps::Lines};
use crate::{
    history::journal::Journal,
    log::line::{split_targets, Line, LineDraft, Op, MAX_TARGETS_TEXT},
    record::{self, LineSubject, OperationArgs},
    state::ObjectState,
    vfs::error::EUCLEAN,
};
use kernel::prelude::*;

/// The part of the set that is encoded in the revert's own line.
#[derive(Clone, Copy)]
pub(super) struct EncodedTargets<'a> {
    ranges: &'a [(u64, u64)],
    /// Lowest number of the set, if lines before this one contain more of it.
    further: Option<u64>,
}

impl EncodedTargets<'_> {
    pub(super) fn describe(&self, draft: &mut LineDraft<'_>) {
        draft.targets(self.ranges);
        if let Some(lowest) = self.further {
            draft.further(lowest);
        }
    }
}

/// Encodes ascending ranges. Ranges without space in the revert's line go to lines that are placed
/// now; a reader that finds these without the revert's line ignores them. The state's lock is held.
pub(super) fn encode<'a>(
    journal: &Journal,
    subject: &LineSubject<'_>,
    state: &mut ObjectState,
    ranges: &'a [(u64, u64)],
) -> Result<EncodedTargets<'a>> {
    let lowest = ranges.first().map(|(lowest, _)| *lowest);
    let mut encoded = EncodedTargets {
        ranges,
        further: None,
    };
    loop {
        let (page, rest) = split_targets(encoded.ranges, MAX_TARGETS_TEXT);
        if rest.is_empty() {
            return Ok(encoded);
        }
        let args = OperationArgs {
            op: Op::Picked,
            at: 0,
            length: 0,
            size: subject.inode.lower().size(),
        };
        let page = EncodedTargets {
            ranges: page,
            ..encoded
        };
        // Not flushed here: the flush of the intent covers these lines.
        let mut reservation = journal.reserve_lines(1)?;
        record::place(subject, state, &mut reservation, &args, |draft| {
            page.describe(draft)
        })?;
        encoded = EncodedTargets {
            ranges: rest,
            further: lowest,
        };
    }
}

/// The set of operations that a revert reverted, from all of its lines.
pub(super) struct TargetSet {
    /// Ranges in descending order.
    ranges: KVVec<(u64, u64)>,
}

impl TargetSet {
    /// Reads the set from the revert's line; `None` if it reverted exactly the newest operations.
    #[inline(never)]
    pub(super) fn of(journal: &Journal, line: &Line<'_>) -> Outcome<Option<Self>> {
        let Some(targets) = line.targets else {
            return Ok(None);
        };
        let mut all = Self {
            ranges: KVVec::new(),
        };
        all.add(targets.ranges())?;
        let mut lines = Lines::new(journal)?;
        let (mut further, mut next) = (line.further, line.prev);
        while further.is_some() {
            let (_, line) = lines.back(&mut next)?.ok_or(EUCLEAN)?;
            let targets = line.targets.filter(|_| line.op == Op::Picked);
            all.add(targets.ok_or(EUCLEAN)?.ranges())?;
            further = line.further;
        }
        Ok(Some(all))
    }

    /// Adds ascending ranges, all lower than those in the set.
    fn add(&mut self, ranges: impl Iterator<Item = (u64, u64)>) -> Result {
        let from = self.ranges.len();
        for range in ranges {
            self.ranges.push(range, GFP_KERNEL)?;
        }
        let added = self.ranges.get_mut(from..).ok_or(EUCLEAN)?;
        // The lines are read from the highest ranges on.
        added.reverse();
        Ok(())
    }

    /// Whether the set contains the operation.
    pub(super) fn contains(&self, seq: u64) -> bool {
        let at = self.ranges.partition_point(|(first, _)| *first > seq);
        self.ranges.get(at).is_some_and(|(_, last)| seq <= *last)
    }

    /// Lowest number of the set.
    pub(super) fn lowest(&self) -> u64 {
        self.ranges.last().map_or(0, |(first, _)| *first)
    }
}
