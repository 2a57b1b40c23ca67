// SPDX-License-Identifier: GPL-2.0

//! The position in a recording at which each group was decided: the write with the line that closes the first
//! of the group's objects. Lines are text, and are unchanged in the writes of the disk.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use crate::store::{Entry, What};

/// A group request, by the places of its cuts: how many entries had come.
pub struct Decision {
    /// Its intent may be on the disk, without a deciding line.
    pub before: RangeInclusive<usize>,
    /// The line that decides may be on the disk, and the request has not returned.
    pub behind: RangeInclusive<usize>,
    /// The same, when that line is durable: the request returns without another flush.
    pub durable: RangeInclusive<usize>,
}

impl Decision {
    /// Of the group with this number, whose step was under way in these places.
    pub fn find(entries: &[Entry], places: RangeInclusive<usize>, seq: u64) -> Option<Decision> {
        let (first, last) = (*places.start(), *places.end());
        let numbers = |at: usize, words: &[&str], key: &str| match &entries[at].what {
            What::Write { bytes, .. } => numbers(bytes, words, key, seq),
            _ => HashSet::new(),
        };
        let intents = |at: &usize| !numbers(*at, &[" revert ", " redo "], " seq=").is_empty();
        let intent = (first..last).find(intents)?;
        let said = |at: usize| numbers(at, &[" commit "], " of=");
        let decides = (intent..last).find(|at| !said(*at).is_empty())?;
        // All waits of the request are over before it returns.
        let is_durable = |at: &usize| entries[*at].is_flush() || entries[*at].durable;
        let waited = (decides..last).rfind(is_durable)?;
        Some(Decision {
            before: intent + 1..=decides,
            behind: decides + 1..=last,
            durable: waited + 1..=last,
        })
    }
}

/// The numbers from `seq` on under `key` in lines of such operations.
fn numbers(bytes: &[u8], words: &[&str], key: &str, seq: u64) -> HashSet<u64> {
    let lines = bytes.split(|byte| *byte == b'\n');
    let lines = lines.filter_map(|line| std::str::from_utf8(line).ok());
    let lines = lines.filter(|line| words.iter().any(|word| line.contains(word)));
    let number = |line: &str| {
        let (_, rest) = line.split_once(key)?;
        rest.split(' ').next()?.parse().ok()
    };
    lines.filter_map(number).filter(|n| *n >= seq).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn write(text: &str) -> What {
        let bytes = Arc::new(text.as_bytes().to_vec());
        What::Write { at: 0, bytes }
    }

    fn entries(all: Vec<What>) -> Vec<Entry> {
        let entry = |what| Entry {
            what,
            durable: false,
            time: 0,
        };
        all.into_iter().map(entry).collect()
    }

    #[test]
    fn a_group_is_decided_by_its_own_line() {
        let old = "1 x revert 0 0 seq=3 group=3\n1 x commit 0 0 seq=5 of=3\n";
        let intents = format!("{old}1 x revert 0 0 seq=7 group=7\n");
        let decided = format!("{intents}1 x commit 0 0 seq=9 of=7\n");
        let all = entries(vec![
            write(old),
            write(&intents),
            What::Flush,
            write(&decided),
            What::Flush,
            What::Flush,
            write("more"),
            What::Flush,
            write("more"),
        ]);
        let found = Decision::find(&all, 1..=8, 7).expect("it is there");
        assert_eq!(found.before, 2..=3);
        assert_eq!(found.behind, 4..=8);
        assert_eq!(found.durable, 8..=8);
        assert!(Decision::find(&all, 1..=8, 10).is_none());
    }
}
