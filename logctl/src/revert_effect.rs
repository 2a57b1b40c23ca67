// SPDX-License-Identifier: MIT OR Apache-2.0

//! The effect of reverts on the operations of programs: which they took back, and which they did again.

use std::collections::HashMap;

use crate::timeline::Timeline;
use loggerfs_log::types::ObjectId;

/// The operations of programs that reverts changed; indices into the timeline, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevertEffect {
    /// Those that were taken back.
    pub undone: Vec<usize>,
    /// Those that were done again: a revert of theirs was taken back.
    pub redone: Vec<usize>,
}

impl RevertEffect {
    /// Of these reverts together. `None`: an operation that they took back is not in the timeline, or a forged
    /// history lists so many that following them would not end.
    pub fn of(timeline: &Timeline, reverts: &[usize]) -> Option<Self> {
        let mut chains = Chains::default();
        let mut left = timeline.entries.len().saturating_mul(4).max(1000);
        let mut balance: HashMap<usize, i64> = HashMap::new();
        let mut open: Vec<(usize, i64)> = reverts.iter().map(|revert| (*revert, -1)).collect();
        while let Some((revert, sign)) = open.pop() {
            if !timeline.has_targets(revert) {
                return None;
            }
            for target in chains.targets(timeline, revert) {
                left = left.checked_sub(1)?;
                match timeline.entries[target].group() {
                    Some(_) => open.push((target, -sign)),
                    None => *balance.entry(target).or_default() += sign,
                }
            }
        }
        let mut effect = Self::default();
        for (index, sign) in balance {
            match sign {
                0 => {}
                ..0 => effect.undone.push(index),
                _ => effect.redone.push(index),
            }
        }
        effect.undone.sort_unstable();
        effect.redone.sort_unstable();
        Some(effect)
    }
}

/// The lines of each object, looked up once.
#[derive(Default)]
struct Chains(Option<HashMap<ObjectId, Vec<usize>>>);

impl Chains {
    /// The operations that a revert itself took back.
    fn targets(&mut self, timeline: &Timeline, revert: usize) -> Vec<usize> {
        if let Some(listed) = timeline.listed_operations(revert) {
            return listed;
        }
        let chains = self.0.get_or_insert_with(|| {
            let mut chains: HashMap<ObjectId, Vec<usize>> = HashMap::new();
            for (index, entry) in timeline.entries.iter().enumerate() {
                if let Some(object) = entry.object {
                    chains.entry(object).or_default().push(index);
                }
            }
            chains
        });
        let object = timeline.entries[revert].object;
        let chain = object.and_then(|object| chains.get(&object));
        let chain = chain.map_or(&[][..], Vec::as_slice);
        let older = chain.partition_point(|index| *index <= revert);
        timeline.walked_operations(revert, &chain[older..])
    }
}
