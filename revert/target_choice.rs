// SPDX-License-Identifier: GPL-2.0

//! Which operations of an object a revert takes.

use super::{
    steps::disposition,
    targets::TargetSet,
    ChainLink, //
};
use crate::log::{
    line::{Line, Op},
    plan::{Disposition, WalkStep},
};

/// The operations of an object to revert.
#[derive(Clone, Copy)]
pub(super) enum TargetChoice<'a> {
    /// Those of the newest system calls, this many.
    Calls(u64),
    /// The newest ones, this many.
    Newest(u64),
    /// Those with these numbers, in descending order. The function says whether the request
    /// includes another operation of the object.
    These(&'a [u64], &'a dyn Fn(u64) -> bool),
    /// Those in a revert's line, this many.
    Listed(&'a TargetSet, u64),
}

impl TargetChoice<'_> {
    /// Whether further operations are to be found, after `taken` of them, which belong to `calls`.
    pub(super) fn is_incomplete(&self, taken: u64, calls: &CallProgress) -> bool {
        match self {
            Self::Calls(count) => calls.count < *count || calls.is_pending,
            Self::Newest(count) | Self::Listed(_, count) => taken < *count,
            Self::These(numbers, _) => taken < numbers.len() as u64,
        }
    }

    /// Whether enough was taken, and only the rest of a system call may follow.
    pub(super) fn is_rest_of_call(&self, calls: &CallProgress) -> bool {
        matches!(self, Self::Calls(count) if calls.count >= *count)
    }

    pub(super) fn takes(&self, seq: u64) -> bool {
        match self {
            Self::Calls(_) | Self::Newest(_) => true,
            Self::Listed(picked, _) => picked.contains(seq),
            Self::These(numbers, _) => numbers.binary_search_by(|n| seq.cmp(n)).is_ok(),
        }
    }

    pub(super) fn disposition(&self, seq: u64) -> Disposition {
        match self {
            Self::Calls(_) | Self::Newest(_) => Disposition::Revert,
            Self::These(_, all) => disposition(all(seq)),
            Self::Listed(..) => disposition(self.takes(seq)),
        }
    }

    /// Number of the newest chosen operation that was not found, after `taken` were found.
    pub(super) fn missing(&self, taken: u64) -> u64 {
        match self {
            Self::Calls(_) | Self::Newest(_) | Self::Listed(..) => 0,
            Self::These(numbers, _) => {
                let next = usize::try_from(taken).ok().and_then(|i| numbers.get(i));
                next.copied().unwrap_or(0)
            }
        }
    }
}

/// To which system calls the operations taken so far belong. A write(2) that was continued after a
/// short one has several lines.
#[derive(Default)]
pub(super) struct CallProgress {
    count: u64,
    /// Number of the first line of the call that the last taken operation belongs to.
    first: u64,
    /// Whether that first line is not taken yet.
    is_pending: bool,
}

impl CallProgress {
    /// Counts an operation; the newest comes first.
    pub(super) fn take(&mut self, line: &Line<'_>) {
        let first = first_line(line);
        if first != self.first {
            self.count = self.count.saturating_add(1);
            self.first = first;
        }
        self.is_pending = first != line.seq;
    }

    /// Whether a step of the walk leads on to the rest of the call: to another of its lines, or past
    /// a line that is no live operation. With a live operation of another call in between, the rest
    /// is an operation of its own.
    pub(super) fn goes_on(&self, link: &ChainLink<'_>) -> bool {
        match link {
            ChainLink::Line(line, _, _, WalkStep::Live) => first_line(line) == self.first,
            ChainLink::Line(_, _, _, WalkStep::Skip | WalkStep::JumpTo(_)) => true,
            _ => false,
        }
    }
}

/// The number of the first line of the system call that a line belongs to.
fn first_line(line: &Line<'_>) -> u64 {
    match (line.op, line.of) {
        (Op::Write, Some(first)) => first.min(line.seq),
        _ => line.seq,
    }
}
