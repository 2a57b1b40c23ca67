// SPDX-License-Identifier: MIT OR Apache-2.0

//! The last change at a path: the newest action there, with the operations that belong to it.
//!
//! A save by rename is an action on names: the file that has the name now is younger than the file that the
//! user means by the name. The steps of such a save are taken back together, also those on other names.
//! Operations on other names and files stay, of the same command as well.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::actions::{actions, is_on_names, visible};
use crate::operation_spec::action_of;
use crate::paths::{Paths, Tree};
use crate::timeline::{Entry, Timeline};
use loggerfs_log::line::{Op, Process};
use loggerfs_log::types::ObjectId;

/// The operations that take the last change at a path, relative to the root, back. `object` is the file or
/// directory that is there now, which may have been changed by another of its names. `left` lists the operations
/// that are live, the newest first; an empty answer means that none of them is about the path.
pub fn last_change(
    timeline: &Timeline,
    left: &[usize],
    (path, object): (&Path, Option<ObjectId>),
    tree: &dyn Tree,
) -> BTreeSet<usize> {
    let is_of_object = |index: usize| {
        let entry = &timeline.entries[index];
        entry.object.is_some() && entry.object == object && !is_on_names(entry.op)
    };
    let places = Paths::places(timeline, left, tree);
    let both = left.iter().zip(&places);
    let there: Vec<usize> = both
        .filter(|(index, place)| place.is_within(path) || is_of_object(**index))
        .map(|(index, _)| *index)
        .collect();
    let Some(newest) = visible(timeline, &there).into_iter().next() else {
        return BTreeSet::new();
    };
    let mut change = Change::of(timeline, &newest.entries);
    let whole = actions(timeline, left);
    let whole = action_of(timeline, &whole, newest.newest(timeline).seq);
    change.add_later_steps(left, &whole.iter().copied().collect());
    let arrives = |index: &usize| {
        let at = left.binary_search(index).ok();
        let place = at.and_then(|at| places.get(at));
        let is_there = |at: &Option<PathBuf>| at.as_ref().is_some_and(|at| at.starts_with(path));
        place.is_some_and(|place| match timeline.entries[*index].op {
            Op::Rename => is_there(&place.to) && !is_there(&place.path),
            Op::Link => is_there(&place.path),
            _ => false,
        })
    };
    let arriving: Vec<usize> = change.found.iter().copied().filter(arrives).collect();
    change.add_making(left, &arriving);
    change.found
}

/// The operations that were found so far, as indices: lower ones are newer.
struct Change<'t> {
    timeline: &'t Timeline,
    found: BTreeSet<usize>,
    /// The processes that did the newest action.
    processes: HashSet<Process>,
    /// The objects whose names changed.
    named: HashSet<ObjectId>,
    /// Those of them that were made.
    made: HashSet<ObjectId>,
    /// The directories that had the names.
    directories: HashSet<ObjectId>,
}

impl<'t> Change<'t> {
    fn of(timeline: &'t Timeline, entries: &[usize]) -> Self {
        let processes = entries.iter();
        let processes = processes.filter_map(|index| timeline.entries[*index].actor.process);
        let mut change = Self {
            timeline,
            found: BTreeSet::new(),
            processes: processes.collect(),
            named: HashSet::new(),
            made: HashSet::new(),
            directories: HashSet::new(),
        };
        entries.iter().for_each(|index| change.add(*index));
        change
    }

    fn entry(&self, index: usize) -> &'t Entry {
        &self.timeline.entries[index]
    }

    fn add(&mut self, index: usize) {
        let line = self.entry(index).line();
        self.found.insert(index);
        if !is_on_names(line.op) {
            return;
        }
        self.named
            .extend([line.node, line.over].into_iter().flatten());
        self.directories
            .extend([line.obj, line.parent].into_iter().flatten());
        if matches!(line.op, Op::Create | Op::Mkdir | Op::Mknod | Op::Symlink) {
            self.made.extend(line.node);
        }
    }

    /// Adds later steps of the action, and of its processes, on the names of the same objects, and on objects
    /// that it made; and the removals of directories that had the names. Later work of others is left to the
    /// kernel, which finds the conflicts.
    fn add_later_steps(&mut self, left: &[usize], action: &HashSet<usize>) {
        let Some(oldest) = self.found.last().copied() else {
            return;
        };
        let mut later: Vec<usize> = left
            .iter()
            .copied()
            .filter(|index| *index <= oldest)
            .collect();
        // Steps that follow from others are newer.
        later.reverse();
        loop {
            let before = self.found.len();
            for index in &later {
                if !self.found.contains(index) && self.is_step(*index, action) {
                    self.add(*index);
                }
            }
            if self.found.len() == before {
                return;
            }
        }
    }

    fn is_step(&self, index: usize, action: &HashSet<usize>) -> bool {
        let entry = self.entry(index);
        let line = entry.line();
        let has_named = || {
            let mut nodes = [line.node, line.over].into_iter().flatten();
            nodes.any(|node| self.named.contains(&node))
        };
        if line.op == Op::Rmdir
            && line
                .node
                .is_some_and(|node| self.directories.contains(&node))
        {
            return true;
        }
        let is_own = entry
            .actor
            .process
            .is_some_and(|own| self.processes.contains(&own));
        (action.contains(&index) || is_own)
            && match is_on_names(line.op) {
                true => has_named(),
                false => line.obj.is_some_and(|object| self.made.contains(&object)),
            }
    }

    /// Adds how a file was made that one process wrote under another name of the same directory and then moved
    /// to the path, as the lines of `arriving` say.
    fn add_making(&mut self, left: &[usize], arriving: &[usize]) {
        let mut moved: HashMap<ObjectId, (Process, usize)> = HashMap::new();
        for index in arriving {
            let entry = self.entry(*index);
            let line = entry.line();
            let is_here = line.parent.is_none();
            if let (Some(node), Some(process), true) = (line.node, entry.actor.process, is_here) {
                moved.insert(node, (process, *index));
            }
        }
        if moved.is_empty() {
            return;
        }
        let made = left.iter().filter_map(|index| {
            let entry = self.entry(*index);
            let is_made = matches!(entry.op, Op::Create | Op::Mknod | Op::Symlink);
            let node = entry.line().node.filter(|_| is_made)?;
            let (process, end) = *moved.get(&node)?;
            (entry.actor.process == Some(process)).then_some((node, end))
        });
        let made: HashMap<ObjectId, usize> = made.collect();
        for index in left {
            let line = self.entry(*index).line();
            let object = match is_on_names(line.op) {
                true => line.node,
                false => line.obj,
            };
            // Higher indices are older: later names and changes are others' work.
            let end = object.and_then(|object| made.get(&object));
            if end.is_some_and(|end| index > end) {
                self.add(*index);
            }
        }
    }
}
