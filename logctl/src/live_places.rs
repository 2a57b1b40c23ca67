// SPDX-License-Identifier: MIT OR Apache-2.0

//! The places of live operations for messages: by the names of today.
//!
//! A program that saves a file gives several objects the file's name in turn, and temporary names before and
//! after. Of an object that is gone, the last name may be a temporary one, which says nothing to its user.

use std::collections::{HashMap, HashSet};

use crate::paths::{names_before, Paths, Place, Tree};
use crate::save::{bindings, SaveUnits};
use crate::timeline::Timeline;
use crate::uapi::Conflict;
use loggerfs_log::line::{Line, Op};
use loggerfs_log::types::ObjectId;

/// A name in a directory.
type OwnedName = (ObjectId, Vec<u8>);

/// The places of the operations of conflicts.
pub struct LivePlaces {
    places: HashMap<u64, Place>,
    /// The save that an operation is a part of.
    saves: HashMap<u64, usize>,
}

impl LivePlaces {
    /// Finds them. The places at the time of an operation need the names before all newer ones; `now` is a
    /// name of today.
    pub fn of(timeline: &Timeline, conflicts: &[Conflict], tree: &dyn Tree) -> Self {
        let live = timeline.live(&|_| false);
        let wanted: HashSet<u64> = conflicts.iter().map(|conflict| conflict.seq).collect();
        let is_wanted = |index: &usize| wanted.contains(&timeline.entries[*index].seq);
        let line_of = |index: &usize| timeline.entries[*index].brief();
        let chosen = live.iter().filter(|index| is_wanted(index));
        let objects = chosen.filter_map(|index| object(&line_of(index))).collect();
        let names = names_today(timeline, &live, &objects);
        let now = Paths::now(timeline, &live, tree);
        let all = live.iter().zip(Paths::places(timeline, &live, tree));
        let places = all.filter(|(index, _)| is_wanted(index));
        let places = places.map(|(index, mut place)| {
            if let Some(name) = object(&line_of(index)).and_then(|object| names.get(&object)) {
                let name = name.as_ref();
                place.now = name.and_then(|(directory, name)| now.of_name(*directory, name));
            }
            (timeline.entries[*index].seq, place)
        });
        let units = SaveUnits::of(timeline, &live);
        let saves = live.iter().filter(|index| is_wanted(index));
        let saves = saves.filter_map(|index| {
            let save = units.save_of(*index)?;
            Some((timeline.entries[*index].seq, save))
        });
        Self {
            places: places.collect(),
            saves: saves.collect(),
        }
    }

    /// The save that an operation is a part of, if it is a part of one.
    pub fn save(&self, seq: u64) -> Option<usize> {
        self.saves.get(&seq).copied()
    }

    /// The place of an operation.
    pub fn find(&self, seq: u64) -> Option<&Place> {
        self.places.get(&seq)
    }
}

/// The object that an operation changes, or whose name it changes.
fn object(line: &Line<'_>) -> Option<ObjectId> {
    match line.name.is_some() && line.node.is_some() {
        true => line.node,
        false => line.obj,
    }
}

/// A name of each object that is in use now: its own newest one, or else the newest one of its former names
/// that another object has now; `None` without either. Objects whose names no line has are left out.
fn names_today(
    timeline: &Timeline,
    live: &[usize],
    objects: &HashSet<ObjectId>,
) -> HashMap<ObjectId, Option<OwnedName>> {
    // The newest line on a name tells which object has it.
    let mut bound: HashMap<OwnedName, Option<ObjectId>> = HashMap::new();
    let mut former: HashMap<ObjectId, Vec<OwnedName>> = HashMap::new();
    for index in live {
        let line = timeline.entries[*index].brief();
        for ((directory, name), node) in bindings_to(&line) {
            bound.entry((directory, name.to_vec())).or_insert(node);
            if let Some(node) = node.filter(|node| objects.contains(node)) {
                let names = former.entry(node).or_default();
                names.push((directory, name.to_vec()));
            }
        }
        for (directory, name, node) in names_before(&line) {
            if objects.contains(&node) {
                let names = former.entry(node).or_default();
                names.push((directory, name.to_vec()));
            }
        }
    }
    let mut today = HashMap::new();
    for (object, names) in former {
        let has = |name: &&OwnedName, is_own: bool| {
            let node = bound.get(*name).copied().flatten();
            node.is_some_and(|node| !is_own || node == object)
        };
        let own = names.iter().find(|name| has(name, true));
        let name = own.or_else(|| names.iter().find(|name| has(name, false)));
        today.insert(object, name.cloned());
    }
    today
}

/// A name, and the object that it is bound to by a line; `None`: the line frees the name.
type Binding<'l> = ((ObjectId, &'l [u8]), Option<ObjectId>);

fn bindings_to<'l>(line: &Line<'l>) -> impl Iterator<Item = Binding<'l>> {
    let (op, node, over) = (line.op, line.node, line.over);
    let own = line.obj.zip(line.name);
    bindings(line).map(move |(name, is_bound)| {
        let node = match op {
            // The first name of an exchange goes to the other object.
            Op::Exchange if Some(name) == own => over,
            _ => node,
        };
        (name, node.filter(|_| is_bound))
    })
}
