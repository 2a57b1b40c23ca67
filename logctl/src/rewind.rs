// SPDX-License-Identifier: MIT OR Apache-2.0

//! What has to be taken back so that files are as they were at a point of the history.
//!
//! A point is a state: the operations that were live then. Those that are live now and were not have to
//! go; those that were and are not were taken back since, by a revert or an undo that has to go itself.
//! Which ones is found along each object's chain, from its newest line on: a revert goes if something
//! that it takes back, or brings back, is not as it was.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::actions::is_on_names;
use crate::history::line::{ObjectId, Op};
use crate::history::plan::{Fate, Step};
use crate::paths::{Paths, Place, Tree};
use crate::timeline::{Entry, Timeline, Visitor};

/// A point, and the operations whose state differs from it.
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
        let mut then = timeline.standing_before(cut.saturating_add(1));
        let mut now = timeline.standing(&|_| false);
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

    /// Restricts it to what was at these places then, or is there now, and what belongs to that.
    pub fn limit(&mut self, places: &[PathBuf], tree: &dyn Tree) {
        let paths = self.paths(tree);
        let is_within = |path: &Path| places.iter().any(|place| path.starts_with(place));
        let was_within = |object| paths.of(object).is_some_and(|path| is_within(&path));
        let mut scope = Scope::new(self.timeline, &self.differing, &was_within);
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

    /// Whether everything is as it was.
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

    /// What has to be taken back, the newest first. `Err`: an operation that cannot come back.
    pub fn entries(&self) -> Result<Vec<usize>, u64> {
        // A group of reverts goes as one: names come back in the order in which they were there.
        let mut groups: BTreeSet<u64> = BTreeSet::new();
        loop {
            let entries = self.with_groups(&groups)?;
            let before = groups.len();
            let reverts = entries.iter().map(|index| &self.timeline.entries[*index]);
            groups.extend(reverts.filter_map(Entry::group));
            if groups.len() == before {
                return Ok(entries);
            }
        }
    }

    fn with_groups(&self, groups: &BTreeSet<u64>) -> Result<Vec<usize>, u64> {
        let mut chains: HashMap<ObjectId, Vec<usize>> = HashMap::new();
        let all = &self.timeline.entries;
        let wanted = self.differing.iter().map(|index| &all[*index]);
        let is_of_groups = |entry: &&Entry| {
            entry.op == Op::Revert && entry.group().is_some_and(|group| groups.contains(&group))
        };
        let grouped = all.iter().filter(is_of_groups);
        for object in wanted.chain(grouped).filter_map(|entry| entry.object) {
            chains.entry(object).or_default();
        }
        for (index, entry) in self.timeline.entries.iter().enumerate() {
            if let Some(chain) = entry.object.and_then(|object| chains.get_mut(&object)) {
                chain.push(index);
            }
        }
        let mut entries = Vec::new();
        for chain in chains.into_values() {
            entries.extend(self.of_chain(&chain, groups)?);
        }
        entries.sort_unstable();
        Ok(entries)
    }

    /// What of one object's entries has to be taken back.
    fn of_chain(&self, chain: &[usize], groups: &BTreeSet<u64>) -> Result<Vec<usize>, u64> {
        let own = chain.iter().filter(|index| self.differing.contains(index));
        let mut search = Search {
            timeline: self.timeline,
            groups,
            leaves: Leaves::of(self.timeline, chain),
            differing: own.copied().collect(),
            chosen: Vec::new(),
            barred: None,
        };
        self.timeline.walk(chain.iter().copied(), &mut search);
        match (search.barred, search.differing.first()) {
            (None, None) => Ok(search.chosen),
            (Some(index), _) | (None, Some(&index)) => Err(self.timeline.entries[index].seq),
        }
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

/// A walk along an object's chain that chooses what has to be taken back.
struct Search<'s> {
    timeline: &'s Timeline,
    /// Groups of reverts that go.
    groups: &'s BTreeSet<u64>,
    leaves: Leaves<'s>,
    /// What is not as it should be yet, with what was chosen so far.
    differing: BTreeSet<usize>,
    chosen: Vec<usize>,
    barred: Option<usize>,
}

impl Visitor for Search<'_> {
    fn fate(&mut self, index: usize) -> Fate {
        let entry = &self.timeline.entries[index];
        let goes = || {
            entry
                .group()
                .is_some_and(|group| self.groups.contains(&group))
        };
        let differs = match entry.op {
            Op::Revert if goes() => true,
            Op::Revert => {
                let below = self.leaves.below(index);
                below.all.iter().any(|leaf| self.differing.contains(leaf))
            }
            _ => self.differing.contains(&index),
        };
        match differs {
            true => Fate::Named,
            false => Fate::Stay,
        }
    }

    fn found(&mut self, index: usize, step: Step) {
        let goes = self.fate(index) == Fate::Named;
        match step {
            Step::Take if goes => {
                self.chosen.push(index);
                let below = match self.timeline.entries[index].op {
                    Op::Revert => self.leaves.below(index),
                    _ => Rc::new(Below::operation(index)),
                };
                for leaf in &below.turned {
                    if !self.differing.remove(leaf) {
                        self.differing.insert(*leaf);
                    }
                }
            }
            Step::Barred => self.barred = self.barred.or(Some(index)),
            _ => {}
        }
    }
}

/// The operations that each revert of an object takes back, or brings back, in the end: through the reverts
/// that it takes back itself.
struct Leaves<'t> {
    timeline: &'t Timeline,
    known: HashMap<usize, Rc<Below>>,
}

/// What is below a revert.
#[derive(Default)]
struct Below {
    /// The operations that go, or come back, when it does.
    turned: BTreeSet<usize>,
    /// All that it has to do with: also what it takes back twice, once through another revert.
    all: BTreeSet<usize>,
}

impl Below {
    fn operation(index: usize) -> Self {
        Self {
            turned: BTreeSet::from([index]),
            all: BTreeSet::from([index]),
        }
    }

    /// Adds what is below something that it takes back.
    fn add(&mut self, other: &Self) {
        self.all.extend(&other.all);
        for leaf in &other.turned {
            if !self.turned.remove(leaf) {
                self.turned.insert(*leaf);
            }
        }
    }
}

impl<'t> Leaves<'t> {
    fn of(timeline: &'t Timeline, chain: &[usize]) -> Self {
        let mut leaves = Self {
            timeline,
            known: HashMap::new(),
        };
        // The oldest first: what a revert takes back is older.
        for index in chain.iter().rev() {
            if timeline.entries[*index].op == Op::Revert {
                let found = leaves.gather(*index);
                leaves.known.insert(*index, Rc::new(found));
            }
        }
        leaves
    }

    fn below(&self, index: usize) -> Rc<Below> {
        self.known.get(&index).cloned().unwrap_or_default()
    }

    fn gather(&self, revert: usize) -> Below {
        let mut below = Below::default();
        for index in self.timeline.taken_by(revert) {
            match self.known.get(&index) {
                Some(other) => below.add(other),
                None => below.add(&Below::operation(index)),
            }
        }
        below
    }
}

/// Operations that belong together, of those that differ.
struct Scope<'s> {
    timeline: &'s Timeline,
    differing: &'s BTreeSet<usize>,
    /// Whether an object was in one of the places.
    was_within: &'s dyn Fn(ObjectId) -> bool,
    objects: HashSet<ObjectId>,
    made: HashSet<ObjectId>,
    found: BTreeSet<usize>,
}

impl<'s> Scope<'s> {
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
