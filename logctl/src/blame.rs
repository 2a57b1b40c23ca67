// SPDX-License-Identifier: MIT OR Apache-2.0

//! Follows the lines, or the bytes, of a file from version to version. Nothing here reads anything.

use similar::{ChangeTag, DiffableStr, TextDiff};

use crate::timeline::Entry;
use loggerfs_log::line::Op;

/// The lines of a version, each with the number of the action that wrote it last. `None`: it is older, or no
/// action wrote it.
#[derive(Debug, Default)]
pub struct Lines {
    text: Vec<u8>,
    origins: Vec<Option<usize>>,
    /// Whether the version is not known: all lines of the next one are of unknown origin.
    is_lost: bool,
}

impl Lines {
    /// Goes on to the next version, which `by` made.
    pub fn follow(&mut self, text: Vec<u8>, by: Option<usize>) {
        if std::mem::take(&mut self.is_lost) {
            self.origins = vec![None; text.tokenize_lines().len()];
            self.text = text;
            return;
        }
        if self.text == text {
            return;
        }
        let diff = TextDiff::from_lines(&self.text[..], &text[..]);
        let origin = |change: similar::Change<&[u8]>| match change.tag() {
            ChangeTag::Delete => None,
            ChangeTag::Insert => Some(by),
            ChangeTag::Equal => {
                let old = change.old_index().and_then(|at| self.origins.get(at));
                Some(old.copied().flatten())
            }
        };
        self.origins = diff.iter_all_changes().filter_map(origin).collect();
        self.text = text;
    }

    /// Goes on to a version that cannot be read, or is no text.
    pub fn lose(&mut self) {
        self.is_lost = true;
    }

    /// Each line, with its newline, and its origin.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<usize>)> {
        let lines = self.text.tokenize_lines().into_iter();
        lines.zip(self.origins.iter().copied())
    }
}

/// Ranges of bytes, each with the number of the action that wrote it last. Operations claim them, the newest
/// first.
#[derive(Debug)]
pub struct Ranges {
    /// Those that no operation has claimed so far.
    free: Vec<(u64, u64)>,
    claimed: Vec<(u64, u64, Option<usize>)>,
}

impl Ranges {
    /// Of a file of so many bytes.
    pub fn new(length: u64) -> Self {
        let whole = (length != 0).then_some((0, length));
        Self {
            free: whole.into_iter().collect(),
            claimed: Vec::new(),
        }
    }

    /// Attributes to an operation the bytes of its range that no newer operation wrote.
    pub fn claim(&mut self, entry: &Entry, by: usize) {
        let Some((start, end)) = written(entry) else {
            return;
        };
        let mut free = Vec::new();
        for (from, to) in std::mem::take(&mut self.free) {
            let (low, high) = (from.max(start), to.min(end));
            if low >= high {
                free.push((from, to));
                continue;
            }
            self.claimed.push((low, high, Some(by)));
            free.extend([(from, low), (high, to)].into_iter().filter(|(a, b)| a < b));
        }
        self.free = free;
    }

    /// All ranges in their order; neighbours of one origin are one.
    pub fn finish(mut self) -> Vec<(u64, u64, Option<usize>)> {
        let free = self.free.iter().map(|(from, to)| (*from, *to, None));
        self.claimed.extend(free);
        self.claimed.sort_unstable();
        self.claimed.dedup_by(|next, last| {
            let is_one = last.1 == next.0 && last.2 == next.2;
            if is_one {
                last.1 = next.1;
            }
            is_one
        });
        self.claimed
    }
}

/// The bytes that an operation determined; `None`: none.
fn written(entry: &Entry) -> Option<(u64, u64)> {
    let size = entry.line().size.unwrap_or(u64::MAX);
    let end = entry.offset.saturating_add(entry.length);
    match entry.op {
        // The bytes between the old end and the offset became zeroes.
        Op::Write | Op::Copy | Op::Clone | Op::Mmap | Op::Zero | Op::Allocate => {
            Some((entry.offset.min(size), end))
        }
        Op::Punch | Op::Revert | Op::Redo => Some((entry.offset, end)),
        // Bytes that were cut off, or moved, have no known writer before this operation.
        Op::Truncate | Op::Collapse | Op::Insert => Some((entry.offset, u64::MAX)),
        _ => None,
    }
}
