// SPDX-License-Identifier: MIT OR Apache-2.0

//! The state of a mount as it would be after operations were taken back, as far as it is a past state.
//!
//! A state of an object is the set of its operations that are live. It is known without the kernel where the
//! same set was live at a point: where the operations to be taken back are the newest ones of the object.

use std::collections::{HashMap, HashSet};

use crate::past_tree::{Identify, PastTree};
use crate::paths::Tree;
use crate::timeline::{Entry, Timeline};
use loggerfs_log::line::Op;
use loggerfs_log::plan::is_on_names;
use loggerfs_log::types::ObjectId;

/// The operations that would be live.
pub struct AfterRevert<'t> {
    timeline: &'t Timeline,
    chosen: HashSet<usize>,
    /// The operations that would be live, the newest first.
    live: Vec<usize>,
    /// The lines of each object, the newest first.
    chains: HashMap<ObjectId, Vec<usize>>,
    /// The number of the last line before all chosen ones.
    before: u64,
}

impl<'t> AfterRevert<'t> {
    /// After these operations were taken back, which are indices into the timeline.
    pub fn new(timeline: &'t Timeline, chosen: &[usize]) -> Self {
        let chosen: HashSet<usize> = chosen.iter().copied().collect();
        let mut live = timeline.live(&|index| chosen.contains(&index));
        live.retain(|index| !chosen.contains(index));
        let mut chains: HashMap<ObjectId, Vec<usize>> = HashMap::new();
        for (index, entry) in timeline.entries.iter().enumerate() {
            if let Some(object) = entry.object {
                chains.entry(object).or_default().push(index);
            }
        }
        let numbers = chosen.iter().map(|index| timeline.entries[*index].seq);
        let before = numbers.min().map_or(0, |seq| seq.saturating_sub(1));
        Self {
            timeline,
            chosen,
            live,
            chains,
            before,
        }
    }

    /// The tree of names.
    pub fn tree(&self, tree: &'t dyn Tree, identify: Identify<'t>) -> PastTree<'t> {
        PastTree::of_live(
            self.timeline,
            (self.live.clone(), self.before),
            tree,
            identify,
        )
    }

    /// The number of a line right after which an object had the content and attributes that it would have.
    /// `Err`: there is none; the number of a later operation that would stay.
    pub fn point(&self, object: ObjectId) -> Result<u64, u64> {
        let chain = self.chains.get(&object).map_or(&[][..], Vec::as_slice);
        let own = |index: &&usize| self.chosen.contains(*index);
        let oldest = chain.iter().filter(own).next_back();
        let before_own = oldest.map(|index| self.seq(*index).saturating_sub(1));
        let newest = self.timeline.entries.first().map_or(0, |entry| entry.seq);
        let would_be = self.states(chain, &|index| self.chosen.contains(&index));
        let candidates = [Some(self.before), before_own, Some(newest)];
        for cut in candidates.into_iter().flatten() {
            let older = chain.partition_point(|index| self.seq(*index) > cut);
            if self.states(&chain[older..], &|_| false) == would_be {
                return Ok(cut);
            }
        }
        let oldest = oldest.copied().unwrap_or(usize::MAX);
        let later = would_be.iter().find(|index| **index < oldest);
        Err(later.map_or(newest, |index| self.seq(*index)))
    }

    fn seq(&self, index: usize) -> u64 {
        self.timeline.entries[index].seq
    }

    /// The operations on content and attributes of a chain that are live when others `go`.
    fn states(&self, chain: &[usize], goes: &dyn Fn(usize) -> bool) -> Vec<usize> {
        let mut live = self.timeline.live_of(chain.iter().copied(), goes);
        let is_state = |entry: &Entry| {
            let is_revert = matches!(entry.op, Op::Revert | Op::Redo);
            !is_revert && !is_on_names(&entry.line()) && !self.timeline.is_cancelled(entry)
        };
        live.retain(|index| !goes(*index) && is_state(&self.timeline.entries[*index]));
        live
    }
}
