// SPDX-License-Identifier: GPL-2.0

//! Groups: operations of several objects that one request took back, and those that one can.

use super::{Event, Group, Model, NAMES};
use crate::plan::RevertMode;

impl Model {
    /// The undo that the last change was.
    pub fn undone(&self) -> Option<&Group> {
        let last = self.groups.last().filter(|_| self.is_undone);
        last.filter(|group| group.way == Some(RevertMode::Walk))
    }

    /// The number of live operations of a file above its newest pick: no live line names the picked
    /// operations.
    pub fn plain_depth_of(&self, name: usize) -> usize {
        let Some(object) = self.object_of(name) else {
            return 0;
        };
        let object = &self.objects[object];
        let live = object.newest().live.iter().rev();
        let events = live.map(|at| &object.events[*at]);
        let known = |event: &&Event| !event.is_revert && event.intended.is_none();
        events.take_while(known).count()
    }

    /// The newest operations of the mount, as a group takes them: how many of each file, and of
    /// names. Fewer, where one comes that is of no name.
    pub fn newest(&self, count: usize) -> (Vec<(usize, usize)>, usize) {
        let mut all: Vec<(u64, Option<usize>)> = Vec::new();
        all.extend(self.name_ops.iter().map(|(step, _)| (*step, None)));
        for (at, object) in self.objects.iter().enumerate() {
            let live = object.newest().live.iter();
            all.extend(live.map(|event| (object.events[*event].step, Some(at))));
        }
        // A file is created before the first write to it, by one step.
        all.sort_by_key(|(step, of)| (*step, of.is_some()));
        let (mut files, mut names) = (Vec::<(usize, usize)>::new(), 0);
        for (_, of) in all.iter().rev().take(count) {
            let Some(object) = of else {
                names += 1;
                continue;
            };
            let Some(name) = (0..NAMES).find(|name| self.object_of(*name) == Some(*object)) else {
                break;
            };
            let before = files.iter().position(|(of, _)| *of == name);
            let taken = before.map_or(0, |at| files[at].1);
            if taken == self.plain_depth_of(name) {
                break;
            }
            match before {
                Some(at) => files[at].1 += 1,
                None => files.push((name, 1)),
            }
        }
        (files, names)
    }

    pub(super) fn take_group_back(
        &mut self,
        way: RevertMode,
        files: &[(usize, usize)],
        (names, tree): (usize, usize),
        seq: u64,
    ) {
        let step = self.step;
        let mut events = Vec::new();
        for (name, count) in files {
            let Some(index) = self.object_of(*name) else {
                continue;
            };
            let object = &mut self.objects[index];
            object.take_back(step, *count, way);
            events.push((index, object.events.len() - 1));
        }
        let with = (0..NAMES).map(|name| (name, self.object_of(name)));
        let with = with.collect();
        let mut taken = Vec::new();
        for _ in 0..names {
            let op = self.name_ops.pop().unwrap_or_default();
            for (name, before) in &op.1 {
                self.bind(*name, *before);
            }
            taken.push(op);
        }
        let tree = (tree > 0).then(|| self.tree.take_back(step, tree));
        let (has_names, has_tree) = (names > 0, tree.is_some());
        let group = Group {
            step,
            seq,
            events,
            names: taken,
            with,
            tree,
            way: Some(way),
        };
        self.end_group(group, has_names, has_tree);
    }

    pub(super) fn redo(&mut self, seq: u64) {
        let step = self.step;
        let Some(undo) = self.groups.pop() else {
            return;
        };
        let mut events = Vec::new();
        for (index, at) in &undo.events {
            let object = &mut self.objects[*index];
            object.redo(step, *at);
            events.push((*index, object.events.len() - 1));
        }
        if !undo.names.is_empty() {
            for (name, object) in &undo.with {
                if self.object_of(*name) != *object {
                    self.bind(*name, *object);
                }
            }
        }
        if let Some(before) = &undo.tree {
            self.tree.redo(step, before);
        }
        for op in undo.names.iter().rev() {
            self.name_ops.push(op.clone());
        }
        let (has_names, has_tree) = (!undo.names.is_empty(), undo.tree.is_some());
        self.groups.push(undo);
        let group = Group {
            step,
            seq,
            events,
            names: Vec::new(),
            with: Vec::new(),
            tree: None,
            way: None,
        };
        self.end_group(group, has_names, has_tree);
    }

    /// All that was applied is durable before the line that decides, and that before the request
    /// returns: the objects of the group and the directories of its names, and no others.
    fn end_group(&mut self, group: Group, has_names: bool, has_tree: bool) {
        let step = self.step;
        self.is_undone = group.way == Some(RevertMode::Walk);
        for (index, event) in &group.events {
            self.objects[*index].durable.push((step, *event));
        }
        self.groups.push(group);
        if has_names {
            self.names_durable.push((step, None));
        }
        if has_tree {
            self.tree.sync(step);
        }
        self.lines_durable.push((step, step));
    }
}
