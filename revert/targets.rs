// SPDX-License-Identifier: GPL-2.0

//! Which operations a revert took back: what its line says of that, and what the lines before it do,
//! where it has no room.

use super::{names::Outcome, steps::Lines};
use crate::{
    backup::{self, LineSubject, OperationArgs},
    history::{
        journal::Journal,
        line::{split_picks, Line, LineDraft, Op, MAX_PICKS}, //
    },
    stack::ObjectState,
    vfs::error::EUCLEAN, //
};
use kernel::prelude::*;

/// What a revert's own line lists.
#[derive(Clone, Copy)]
pub(super) struct EncodedTargets<'a> {
    ranges: &'a [(u64, u64)],
    /// The lowest number, if lines before it list more.
    further: Option<u64>,
}

impl EncodedTargets<'_> {
    pub(super) fn describe(&self, draft: &mut LineDraft<'_>) {
        draft.picks(self.ranges);
        if let Some(lowest) = self.further {
            draft.further(lowest);
        }
    }
}

/// Places what the line that comes next has no room for, of ranges that ascend, on lines before it:
/// whoever finds these without it passes them. The state's lock is held.
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
        let (page, rest) = split_picks(encoded.ranges, MAX_PICKS);
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
        let mut room = journal.reserve_lines(1)?;
        backup::place(subject, state, &mut room, &args, |draft| {
            page.describe(draft)
        })?;
        encoded = EncodedTargets {
            ranges: rest,
            further: lowest,
        };
    }
}

/// What a revert took back, of all lines that list it.
pub(super) struct TargetSet {
    /// From the highest range on.
    ranges: KVVec<(u64, u64)>,
}

impl TargetSet {
    /// By the revert's own line; `None`: it took back just the newest ones.
    #[inline(never)]
    pub(super) fn of(journal: &Journal, line: &Line<'_>) -> Outcome<Option<Self>> {
        let Some(picks) = line.picks else {
            return Ok(None);
        };
        let mut all = Self {
            ranges: KVVec::new(),
        };
        all.add(picks.ranges())?;
        let mut lines = Lines::new(journal)?;
        let (mut further, mut next) = (line.further, line.prev);
        while further.is_some() {
            let at = next.ok_or(EUCLEAN)?;
            let line = lines.read(at)?;
            let picks = line.picks.filter(|_| line.op == Op::Picked);
            all.add(picks.ok_or(EUCLEAN)?.ranges())?;
            if line.prev.is_some_and(|prev| prev >= at) {
                return Err(EUCLEAN.into());
            }
            (further, next) = (line.further, line.prev);
        }
        Ok(Some(all))
    }

    /// Adds ascending ranges, which lie below all that are there.
    fn add(&mut self, ranges: impl Iterator<Item = (u64, u64)>) -> Result {
        let from = self.ranges.len();
        for range in ranges {
            self.ranges.push(range, GFP_KERNEL)?;
        }
        let added = self.ranges.get_mut(from..).ok_or(EUCLEAN)?;
        added.reverse();
        Ok(())
    }

    /// Whether it took back the operation with this number.
    pub(super) fn contains(&self, seq: u64) -> bool {
        let at = self.ranges.partition_point(|(first, _)| *first > seq);
        self.ranges.get(at).is_some_and(|(_, last)| seq <= *last)
    }

    /// The lowest number.
    pub(super) fn lowest(&self) -> u64 {
        self.ranges.last().map_or(0, |(first, _)| *first)
    }
}
