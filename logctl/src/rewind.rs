// SPDX-License-Identifier: MIT OR Apache-2.0

//! The operations to take back so that files return to a past state.
//!
//! A past state is the set of operations that were live. Operations that are live now and were not are taken
//! back. Operations that were live and are not were reverted since; that revert or undo is taken back. The
//! search follows the chain of each object from its newest line: a revert is taken back if one of the
//! operations that it hides was live then, and a visible operation is taken back if it was not.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::actions::is_on_names;
use crate::paths::{Paths, Place, Tree};
use crate::timeline::{Entry, Timeline};
use loggerfs_log::line::Op;
use loggerfs_log::plan::is_on_names as history_names;
use loggerfs_log::types::ObjectId;

/// A past state, and the operations whose liveness differs from now.
pub struct Rewind<'t> {
    timeline: &'t Timeline,
    /// Everything up to this number was done.
    cut: u64,
    /// Those that were live then, the newest first.
    then: Vec<usize>,
    /// Those that are live now, the newest first.
    now: Vec<usize>,
    /// Those that have to become live, or to go.
    differing: BTreeSet<usize>,
}

impl<'t> Rewind<'t> {
    /// To the state right after the line with the number `cut`.
    pub fn new(timeline: &'t Timeline, cut: u64) -> Self {
        let cut = with_group(timeline, cut);
        let is_operation = |index: &usize| {
            let entry = &timeline.entries[*index];
            !is_revert(entry) && !timeline.is_cancelled(entry)
        };
        let mut then = timeline.live_before(cut.saturating_add(1));
        let mut now = timeline.live(&|_| false);
        then.retain(is_operation);
        now.retain(is_operation);
        let was: BTreeSet<usize> = then.iter().copied().collect();
        let is: BTreeSet<usize> = now.iter().copied().collect();
        Self {
            timeline,
            cut,
            differing: was.symmetric_difference(&is).copied().collect(),
            then,
            now,
        }
    }

    /// The number of the last line that was written then.
    pub fn cut(&self) -> u64 {
        self.cut
    }

    /// The operations that were live then, the newest first.
    pub fn then(&self) -> &[usize] {
        &self.then
    }

    /// Where objects were then.
    pub fn paths(&self, tree: &dyn Tree) -> Paths {
        Paths::at(self.timeline, &self.then, self.cut, tree)
    }

    /// Restricts the difference to objects that were at these places then, or are there now, and to
    /// related operations.
    pub fn limit(&mut self, places: &[PathBuf], tree: &dyn Tree) {
        let paths = self.paths(tree);
        let is_within = |path: &Path| places.iter().any(|place| path.starts_with(place));
        let was_within = |object| paths.of(object).is_some_and(|path| is_within(&path));
        let mut scope = RelatedDifferences::new(self.timeline, &self.differing, &was_within);
        for list in [&self.now, &self.then] {
            let found = Paths::places(self.timeline, list, tree);
            for (index, place) in list.iter().zip(found) {
                let Place { path, to, .. } = place;
                let mut own = [path, to].into_iter().flatten();
                if self.differing.contains(index) && own.any(|path| is_within(&path)) {
                    scope.add(*index);
                }
            }
        }
        let found = scope.close();
        self.differing = found;
    }

    /// Whether there is no difference.
    pub fn is_there(&self) -> bool {
        self.differing.is_empty()
    }

    /// How many operations differ, but for those on objects that have never had a name and may be gone.
    pub fn left_over(&self) -> usize {
        let entries = self
            .differing
            .iter()
            .map(|index| &self.timeline.entries[*index]);
        entries
            .filter(|entry| !self.timeline.is_unnamed(entry))
            .count()
    }

    /// The objects that operations which differ are about, or name.
    pub fn objects(&self) -> HashSet<ObjectId> {
        let lines = self
            .differing
            .iter()
            .map(|index| self.timeline.entries[*index].line());
        lines
            .flat_map(|line| [line.obj, line.node, line.over])
            .flatten()
            .collect()
    }

    /// The lines of names that differ.
    pub fn on_names(&self) -> impl Iterator<Item = &'t Entry> + '_ {
        let entries = self
            .differing
            .iter()
            .map(|index| &self.timeline.entries[*index]);
        entries.filter(|entry| is_on_names(entry.op))
    }

    /// The operations to take back, the newest first. `Err`: an operation that cannot come back.
    pub fn entries(&self) -> Result<Vec<usize>, u64> {
        let mut wanted: HashSet<usize> = self.now.iter().copied().collect();
        for index in &self.differing {
            if !wanted.remove(index) {
                wanted.insert(*index);
            }
        }
        let all = &self.timeline.entries;
        let objects: HashSet<ObjectId> = (self.differing.iter())
            .filter_map(|index| all[*index].object)
            .collect();
        let mut chains: HashMap<ObjectId, Vec<usize>> = HashMap::new();
        for (index, entry) in all.iter().enumerate() {
            if let Some(object) = entry.object.filter(|object| objects.contains(object)) {
                chains.entry(object).or_default().push(index);
            }
        }
        let mut entries = Vec::new();
        for chain in chains.into_values() {
            let search = ChainSearch {
                timeline: self.timeline,
                chain: &chain,
                wanted: &wanted,
            };
            entries.extend(search.entries()?);
        }
        entries.sort_unstable();
        Ok(entries)
    }
}

/// The number of the last line of the group of reverts that a line belongs to, or its own.
fn with_group(timeline: &Timeline, cut: u64) -> u64 {
    let group = timeline
        .find(cut)
        .and_then(|index| timeline.entries[index].group());
    let Some(group) = group else {
        return cut;
    };
    let mut entries = timeline.entries.iter();
    let last = entries.find(|entry| entry.group() == Some(group));
    last.map_or(cut, |entry| entry.seq.max(cut))
}

fn is_revert(entry: &Entry) -> bool {
    matches!(entry.op, Op::Revert | Op::Redo)
}

/// The operations of one object to take back so that only certain operations are live.
struct ChainSearch<'s> {
    timeline: &'s Timeline,
    /// The object's lines, the newest first.
    chain: &'s [usize],
    wanted: &'s HashSet<usize>,
}

/// Positions in the chain that the walk found.
#[derive(Default)]
struct ChainChoice {
    /// The operations to take back.
    places: Vec<usize>,
    /// Reverts of content that stay, each with the oldest position that it hides.
    reverts: Vec<(usize, usize)>,
}

impl ChainSearch<'_> {
    fn entries(&self) -> Result<Vec<usize>, u64> {
        // Reverts that are taken back for another reason than the operations that they hide.
        let mut forced: BTreeSet<usize> = BTreeSet::new();
        loop {
            let chosen = self.choose(&forced)?;
            let before = forced.len();
            for (revert, oldest) in &chosen.reverts {
                // Operations between the revert and the hidden operations depend on that content.
                let is_between = |place: &usize| {
                    revert < place && place < oldest && !is_on_names(self.entry(*place).op)
                };
                if chosen.places.iter().any(is_between) {
                    forced.insert(*revert);
                }
            }
            if forced.len() == before {
                return Ok(chosen
                    .places
                    .iter()
                    .map(|place| self.chain[*place])
                    .collect());
            }
        }
    }

    fn entry(&self, place: usize) -> &Entry {
        &self.timeline.entries[self.chain[place]]
    }

    /// Walks along the chain. A revert is taken back if it hides an operation that is wanted; the walk then
    /// looks at its other hidden operations, too. Reverts that it hides may stay hidden, because each
    /// operation is decided by itself.
    fn choose(&self, forced: &BTreeSet<usize>) -> Result<ChainChoice, u64> {
        let mut chosen = ChainChoice::default();
        let mut hidden = vec![false; self.chain.len()];
        for place in 0..self.chain.len() {
            let (entry, index) = (self.entry(place), self.chain[place]);
            let is_wanted = self.wanted.contains(&index);
            if hidden[place] && is_wanted {
                return Err(entry.seq);
            }
            if hidden[place] || entry.op.is_bookkeeping() || self.timeline.is_cancelled(entry) {
                continue;
            }
            if !is_revert(entry) {
                if !is_wanted {
                    chosen.places.push(place);
                }
                continue;
            }
            let hides = self.hidden_by(place);
            let mut wanted = hides.iter().map(|place| self.chain[*place]);
            let goes = forced.contains(&place) || wanted.any(|index| self.wanted.contains(&index));
            if goes && entry.op == Op::Revert {
                chosen.places.push(place);
                continue;
            }
            if let Some(oldest) = hides.last().filter(|_| !history_names(&entry.line())) {
                chosen.reverts.push((place, *oldest));
            }
            for place in hides {
                hidden[place] = true;
            }
        }
        Ok(chosen)
    }

    /// The places that a revert's own line hides, the newest first.
    fn hidden_by(&self, place: usize) -> Vec<usize> {
        let entry = self.entry(place);
        let older = place + 1..self.chain.len();
        let is_operation = |place: &usize| !self.entry(*place).op.is_bookkeeping();
        match self.timeline.targets(entry) {
            Some(ranges) => {
                let is_in = |place: &usize| {
                    let seq = self.entry(*place).seq;
                    ranges
                        .iter()
                        .any(|(first, last)| (*first..=*last).contains(&seq))
                };
                older.filter(is_operation).filter(is_in).collect()
            }
            None => {
                let back = entry.line().back;
                let is_newer = |place: &usize| back.is_none_or(|back| self.entry(*place).at > back);
                older.take_while(is_newer).filter(is_operation).collect()
            }
        }
    }
}

/// Operations that belong together, of those that differ.
struct RelatedDifferences<'s> {
    timeline: &'s Timeline,
    differing: &'s BTreeSet<usize>,
    /// Whether an object was in one of the places.
    was_within: &'s dyn Fn(ObjectId) -> bool,
    objects: HashSet<ObjectId>,
    made: HashSet<ObjectId>,
    found: BTreeSet<usize>,
}

impl<'s> RelatedDifferences<'s> {
    fn new(
        timeline: &'s Timeline,
        differing: &'s BTreeSet<usize>,
        was_within: &'s dyn Fn(ObjectId) -> bool,
    ) -> Self {
        let lines = differing
            .iter()
            .map(|index| timeline.entries[*index].line());
        let makes = |op| matches!(op, Op::Create | Op::Mkdir | Op::Mknod | Op::Symlink);
        Self {
            timeline,
            differing,
            was_within,
            objects: HashSet::new(),
            made: lines
                .filter(|line| makes(line.op))
                .filter_map(|line| line.node)
                .collect(),
            found: BTreeSet::new(),
        }
    }

    fn add(&mut self, index: usize) {
        let line = self.timeline.entries[index].line();
        if self.found.insert(index) && is_on_names(line.op) {
            self.objects
                .extend([line.node, line.over].into_iter().flatten());
        }
    }

    /// All on the names of objects whose names are among them; all on those that are made, or gone, with
    /// that, or were in a place.
    fn close(mut self) -> BTreeSet<usize> {
        loop {
            let before = self.found.len();
            for index in self.differing {
                if self.belongs(*index) {
                    self.add(*index);
                }
            }
            if self.found.len() == before {
                return self.found;
            }
        }
    }

    fn belongs(&self, index: usize) -> bool {
        let line = self.timeline.entries[index].line();
        if is_on_names(line.op) {
            let mut named = [line.node, line.over].into_iter().flatten();
            return named.any(|node| self.objects.contains(&node));
        }
        let is_made = |object| self.made.contains(&object) && self.objects.contains(&object);
        line.obj
            .is_some_and(|object| is_made(object) || (self.was_within)(object))
    }
}
