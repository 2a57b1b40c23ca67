// SPDX-License-Identifier: MIT OR Apache-2.0

//! Saves that replace a file: operations that are taken back together, or together are the conflict.
//!
//! Programs save in several steps: they write another file and rename it over the first one, or move the
//! first one away and create it anew, with a link, an exchange or a backup that is removed again. If a later
//! change keeps one of these steps, the others must stay as well: the rename alone would leave later work
//! under the name of a temporary file.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::actions::{is_close, is_on_names};
use crate::timeline::{Entry, Timeline};
use crate::uapi::{Conflict, Reason};
use loggerfs_log::line::{Line, Op};
use loggerfs_log::types::ObjectId;

/// Which operations are one.
pub struct SaveUnits<'t> {
    timeline: &'t Timeline,
    /// For each operation that is tied to others, the representative of its set.
    parents: HashMap<usize, usize>,
    /// Live operations on content and attributes of each object, the oldest first.
    content: HashMap<ObjectId, Vec<usize>>,
    /// Live operations on names, by the object that they name, the oldest first.
    names: HashMap<ObjectId, Vec<usize>>,
}

/// A name in a directory.
type BorrowedName<'t> = (ObjectId, &'t [u8]);

impl<'t> SaveUnits<'t> {
    /// Groups live operations, the newest first.
    pub fn of(timeline: &'t Timeline, live: &[usize]) -> Self {
        let mut units = Self {
            timeline,
            parents: HashMap::new(),
            content: HashMap::new(),
            names: HashMap::new(),
        };
        for index in live.iter().rev().copied() {
            let entry = &timeline.entries[index];
            if is_on_names(entry.op) {
                let line = entry.brief();
                let exchanged = line.over.filter(|_| line.op == Op::Exchange);
                for node in [line.node, exchanged].into_iter().flatten() {
                    units.names.entry(node).or_default().push(index);
                }
            } else if let Some(object) = entry.object.filter(|_| entry.group().is_none()) {
                // A revert that stays has no net effect together with the operations that it took
                // back.
                units.content.entry(object).or_default().push(index);
            }
        }
        units.tie_names(live);
        units.tie_objects();
        units.tie_backups(live);
        units
    }

    /// Ties the binding of a name to the operation that freed the name, and a removal to the next binding, if
    /// one process does both.
    fn tie_names(&mut self, live: &[usize]) {
        let mut last: HashMap<BorrowedName<'t>, (usize, bool)> = HashMap::new();
        for index in live.iter().rev().copied() {
            let entry = &self.timeline.entries[index];
            for (name, is_bound) in self.timeline.bindings(index) {
                if let Some((before, was_bound)) = last.insert(name, (index, is_bound)) {
                    let older = &self.timeline.entries[before];
                    // A name that is freed for good is not a step of a much later binding.
                    let is_one = is_same(entry, older) && (was_bound || is_close(entry, older));
                    if was_bound != is_bound && is_one {
                        self.tie(before, index);
                    }
                }
            }
        }
    }

    /// Ties the operations on a file before it got its name.
    fn tie_objects(&mut self) {
        let names: Vec<(ObjectId, Vec<usize>)> = self
            .names
            .iter()
            .map(|(object, names)| (*object, names.clone()))
            .collect();
        for (object, names) in names {
            let Some((made, later)) = names.split_first() else {
                continue;
            };
            let entry = &self.timeline.entries[*made];
            if !matches!(entry.op, Op::Create | Op::Mknod | Op::Symlink) {
                continue;
            }
            let content = self.content.get(&object).cloned().unwrap_or_default();
            let mut end = None;
            for index in later {
                if self.is_step(*made, *index, &content) {
                    self.tie(*made, *index);
                    end = Some(*index);
                }
            }
            let is_tied = self.parents.contains_key(made);
            let mut before = *made;
            for index in content {
                let entry = &self.timeline.entries[index];
                let older = &self.timeline.entries[before];
                // Lower indices are newer.
                let is_before = end.is_some_and(|end| index > end);
                if is_before || (is_tied && is_same(entry, older) && is_close(entry, older)) {
                    self.tie(*made, index);
                    before = index;
                }
            }
        }
    }

    /// Ties a second name that a process gives to a file to the removal of the first one.
    fn tie_backups(&mut self, live: &[usize]) {
        let mut linked: HashMap<ObjectId, usize> = HashMap::new();
        for index in live.iter().rev().copied() {
            let entry = &self.timeline.entries[index];
            let line = entry.brief();
            let gone = match line.op {
                Op::Link => {
                    linked.extend(line.node.map(|node| (node, index)));
                    continue;
                }
                Op::Unlink => line.node,
                Op::Rename => line.over,
                _ => continue,
            };
            let Some(link) = gone.and_then(|node| linked.remove(&node)) else {
                continue;
            };
            let older = &self.timeline.entries[link];
            if is_same(entry, older) && is_close(entry, older) {
                self.tie(link, index);
            }
        }
    }

    /// Whether an operation on a name of an existing file puts the file into its place: at once, or by the
    /// same process.
    fn is_step(&self, made: usize, index: usize, content: &[usize]) -> bool {
        let entry = &self.timeline.entries[index];
        if !matches!(entry.op, Op::Rename | Op::Link | Op::Exchange) {
            return false;
        }
        let mut older = content.iter().rev().filter(|other| **other > index);
        let newest = older.next().copied().unwrap_or(made);
        // A script writes and moves by two programs.
        is_same(entry, &self.timeline.entries[made])
            || (replaces(entry) && is_close(entry, &self.timeline.entries[newest]))
    }

    fn tie(&mut self, one: usize, other: usize) {
        let (one, other) = (self.root(one), self.root(other));
        self.parents.insert(one, other);
        self.parents.entry(other).or_insert(other);
    }

    fn root(&self, index: usize) -> usize {
        let mut at = index;
        while let Some(parent) = self.parents.get(&at).filter(|parent| **parent != at) {
            at = *parent;
        }
        at
    }

    /// The save that an operation is a part of; `None`: it is tied to no other.
    pub fn save_of(&self, index: usize) -> Option<usize> {
        self.parents.contains_key(&index).then(|| self.root(index))
    }

    /// Whether two operations are parts of one save.
    pub fn are_one(&self, one: usize, other: usize) -> bool {
        one == other || (self.parents.contains_key(&one) && self.root(one) == self.root(other))
    }

    /// The conflicts of chosen operations that put a file into its place while not all of its save was
    /// chosen: a later change of that file would move to another name.
    pub fn blocked(&self, chosen: &HashSet<usize>) -> Vec<Conflict> {
        let mut conflicts = Vec::new();
        for index in chosen {
            let entry = &self.timeline.entries[*index];
            if !replaces(entry) || !self.parents.contains_key(index) {
                continue;
            }
            let Some(node) = entry.brief().node else {
                continue;
            };
            let later = self.content.get(&node).into_iter().flatten().rev();
            let mut later = later.take_while(|other| **other < *index);
            let stays =
                later.find(|other| !chosen.contains(other) && !self.are_one(*index, **other));
            if let Some(stays) = stays {
                conflicts.push(conflict(entry.seq, self.timeline.entries[*stays].seq));
            }
        }
        conflicts.sort_by_key(|conflict| std::cmp::Reverse(conflict.seq));
        conflicts
    }
}

/// The conflicts of reverts that are taken back: a newer operation changed an object that they brought back,
/// and would be lost.
pub fn displaced(timeline: &Timeline, reverts: &[usize], chosen: &HashSet<usize>) -> Vec<Conflict> {
    let mut gone: BTreeMap<ObjectId, u64> = BTreeMap::new();
    for revert in reverts {
        let seq = timeline.entries[*revert].seq;
        for index in timeline.reverted_operations(*revert) {
            let line = timeline.entries[index].brief();
            let object = match line.op {
                Op::Unlink => line.node,
                Op::Rename => line.over,
                _ => None,
            };
            gone.extend(object.map(|object| (object, seq)));
        }
    }
    if gone.is_empty() {
        return Vec::new();
    }
    let mut conflicts: BTreeMap<u64, Conflict> = BTreeMap::new();
    for index in timeline.live(&|_| false) {
        let entry = &timeline.entries[index];
        let object = entry.object.filter(|_| entry.group().is_none());
        let seq = object.and_then(|object| gone.get(&object)).copied();
        if let Some(seq) = seq.filter(|seq| entry.seq > *seq && !chosen.contains(&index)) {
            conflicts
                .entry(seq)
                .or_insert_with(|| conflict(seq, entry.seq));
        }
    }
    conflicts.into_values().rev().collect()
}

/// Whether an operation puts an object in another one's place.
fn replaces(entry: &Entry) -> bool {
    matches!(entry.op, Op::Rename | Op::Exchange) && entry.brief().over.is_some()
}

fn conflict(seq: u64, blocker: u64) -> Conflict {
    Conflict {
        seq,
        blocker,
        reason: Reason::Conflict.code(),
        reserved: 0,
    }
}

fn is_same(one: &Entry, other: &Entry) -> bool {
    one.actor.process.is_some() && one.actor.process == other.actor.process
}

/// The names that a line binds (true) or frees.
pub fn bindings<'l>(line: &Line<'l>) -> impl Iterator<Item = ((ObjectId, &'l [u8]), bool)> {
    let here = |is_bound| line.obj.zip(line.name).map(|name| (name, is_bound));
    let there = line
        .parent
        .or(line.obj)
        .zip(line.to)
        .map(|name| (name, true));
    let found = match line.op {
        Op::Create | Op::Mkdir | Op::Mknod | Op::Symlink | Op::Link => [here(true), None],
        Op::Unlink | Op::Rmdir => [here(false), None],
        Op::Rename => [here(false), there],
        Op::Exchange => [here(true), there],
        _ => [None, None],
    };
    found.into_iter().flatten()
}
