// SPDX-License-Identifier: GPL-2.0

//! The expected content of the files: every state that the workload has produced, and which of them
//! are durable.

mod groups;

use std::sync::Arc;

use crate::plan::{Act, How, RevertMode};
use crate::shadow::pattern;
use crate::tree::operation::Operation;
use crate::tree::{self, Tree};

/// How many names there are in the directory.
pub const NAMES: usize = 6;

pub fn name_of(name: usize) -> String {
    format!("f{name}")
}

/// One change of a file's content.
pub struct Event {
    /// The step of the event.
    pub step: u64,
    /// `OP OFFSET LENGTH` as the log has it; of a revert, the number of its operations and the
    /// resulting size.
    pub line: String,
    /// Of a short write: the line if the rest, which failed, has one, too.
    pub with_rest: Option<String>,
    /// The resulting content.
    pub content: Arc<Vec<u8>>,
    /// The bytes that the event may have changed.
    pub changed_range: (usize, usize),
    /// The live events after it, oldest first.
    pub live: Arc<Vec<usize>>,
    pub is_revert: bool,
    /// Of a revert: the restored ranges.
    pub parts: Vec<(usize, usize)>,
    /// The event failed, perhaps halfway: the content without the failure.
    pub intended: Option<Vec<u8>>,
}

/// A file, from its creation on.
pub struct Object {
    pub inode: u64,
    /// The first is its creation: empty.
    pub events: Vec<Event>,
    /// After this step, events up to this one are durable.
    pub durable: Vec<(u64, usize)>,
}

impl Object {
    fn newest(&self) -> &Event {
        &self.events[self.events.len() - 1]
    }

    /// The newest event of step `step` or an earlier one.
    pub fn event_at(&self, step: u64) -> usize {
        let later = self.events.partition_point(|event| event.step <= step);
        later.saturating_sub(1)
    }

    /// The newest event that is durable after step `step`.
    pub fn durable_at(&self, step: u64) -> usize {
        let known = self.durable.iter().filter(|(at, _)| *at <= step);
        known.map(|(_, event)| *event).max().unwrap_or(0)
    }
}

/// A group that a step took back.
pub struct Group {
    pub step: u64,
    /// The number of its first line.
    pub seq: u64,
    /// Its objects, and of each the event.
    pub events: Vec<(usize, usize)>,
    /// The operations on names, newest first, and the resulting names.
    names: Vec<(u64, NameOp)>,
    with: NameOp,
    /// The two directories in the state that the revert restored.
    tree: Option<tree::TreeMoment>,
    way: Option<RevertMode>,
}

/// An operation on names: the changed names, and their earlier objects.
type NameOp = Vec<(usize, Option<usize>)>;

/// All that was done.
pub struct Model {
    seed: u64,
    pub step: u64,
    pub objects: Vec<Object>,
    /// For each name, from which step on it was which object's.
    pub names: Vec<Vec<(u64, Option<usize>)>>,
    /// For each live operation on names: the changed names, and their earlier objects.
    pub name_ops: Vec<(u64, NameOp)>,
    /// The two directories beside the files.
    pub tree: Tree,
    /// Every group, oldest first.
    pub groups: Vec<Group>,
    /// Whether the last change was the last group.
    is_undone: bool,
    /// After these steps, the names were durable: all of them, or this one.
    pub names_durable: Vec<(u64, Option<usize>)>,
    /// After a step, all lines of steps up to this one are durable.
    pub lines_durable: Vec<(u64, u64)>,
}

impl Model {
    pub fn new(seed: u64) -> Model {
        Model {
            seed,
            step: 0,
            objects: Vec::new(),
            names: vec![vec![(0, None)]; NAMES],
            name_ops: Vec::new(),
            tree: Tree::new(),
            groups: Vec::new(),
            is_undone: false,
            names_durable: vec![(0, None)],
            lines_durable: Vec::new(),
        }
    }

    pub fn object_of(&self, name: usize) -> Option<usize> {
        self.names[name].last().and_then(|(_, object)| *object)
    }

    /// The number of live operations on names: at least one, if any name exists.
    pub fn names_depth(&self) -> usize {
        self.name_ops.len()
    }

    pub fn exists(&self, name: usize) -> bool {
        self.object_of(name).is_some()
    }

    pub fn size_of(&self, name: usize) -> usize {
        self.object_of(name)
            .map_or(0, |object| self.objects[object].newest().content.len())
    }

    /// How many operations can be taken back.
    pub fn depth_of(&self, name: usize) -> usize {
        self.object_of(name)
            .map_or(0, |object| self.objects[object].newest().live.len())
    }

    /// The bytes that a step writes.
    pub fn bytes(&self, step: u64, length: usize) -> Vec<u8> {
        pattern(self.seed ^ (step << 20), length)
    }

    /// Takes over a step that ended with `result`.
    pub fn apply(&mut self, act: &Act, result: i64, inode: u64) {
        self.step += 1;
        self.is_undone &= matches!(act, Act::Sync | Act::Unmount | Act::Mount);
        if let Act::Write { name, .. } = act {
            if !self.exists(*name) && (inode != 0 || result >= 0) {
                self.create(*name, inode);
            }
        }
        if result < 0 {
            self.fail(act);
            return;
        }
        match *act {
            Act::Group {
                way,
                ref files,
                names,
                tree,
            } => self.take_group_back(way, files, (names, tree), inode),
            Act::Tree(ref operation) => {
                self.tree.apply(operation, self.step, inode);
                if matches!(operation, Operation::Fsync { .. }) {
                    self.lines_durable.push((self.step, self.step));
                }
            }
            Act::Redo => self.redo(inode),
            Act::Store {
                name,
                at,
                length,
                is_synced,
            } => self.store(name, at, length, is_synced),
            Act::Write {
                name,
                at,
                how,
                length,
            } => {
                self.write(name, at, result as usize, how);
                self.shorten(name, at, (result as usize, length));
            }
            Act::Truncate { name, size } => self.truncate(name, size),
            Act::Punch { name, at, length } => self.zero("punch", name, at, length),
            Act::Zero { name, at, length } => self.zero("zero", name, at, length),
            Act::Allocate { name, at, length } => {
                let bytes = self.part(name, at, length);
                self.put(("allocate", &bytes), name, at);
            }
            Act::Copy { from, name, at, .. } => self.copy(from, name, at, result as usize),
            Act::Revert { name, count } => self.revert(name, count),
            Act::Fsync { name, .. } => self.fsync(name),
            Act::Sync | Act::Unmount | Act::UnmountLower => self.sync(),
            Act::SyncBelow => self.names_durable.push((self.step, None)),
            Act::Rename { from, to } => {
                let object = self.object_of(from);
                self.note_names(&[from, to]);
                self.bind(from, None);
                self.bind(to, object);
            }
            Act::Unlink { name } => {
                self.note_names(&[name]);
                self.bind(name, None);
            }
            Act::Names { count } => self.take_names_back(count),
            Act::Close { .. } | Act::MountLower | Act::Mount => {}
            Act::Wait { .. } | Act::Fill | Act::Clear => {}
        }
    }

    /// A write may have failed halfway, and so may a punch: btrfs zeroes the ends of the hole
    /// before it finds no space. Their lines may be live.
    fn fail(&mut self, act: &Act) {
        let (name, at, bytes, word) = match *act {
            Act::Write {
                name, at, length, ..
            } => (name, at, self.bytes(self.step, length), "write"),
            Act::Punch { name, at, length } => (name, at, vec![0; length], "punch"),
            Act::Zero { name, at, length } => (name, at, vec![0; length], "zero"),
            Act::Allocate { name, at, length } => {
                (name, at, self.part(name, at, length), "allocate")
            }
            _ => return,
        };
        let length = bytes.len();
        if let Some((object, step, content)) = self.open(name) {
            let mut intended = content.clone();
            if word == "write" {
                intended.resize(content.len().max(at + length), 0);
            }
            let end = (at + length).min(intended.len());
            intended[at..end].copy_from_slice(&bytes[..end - at]);
            let line = format!("{word} {at} {length}");
            let from = at.min(content.len());
            object.change(step, line, content, (from, end));
            if let Some(event) = object.events.last_mut() {
                event.intended = Some(intended);
            }
        }
    }

    fn note_names(&mut self, names: &[usize]) {
        let before = names.iter().map(|name| (*name, self.object_of(*name)));
        let before = before.collect();
        self.name_ops.push((self.step, before));
    }

    fn take_names_back(&mut self, count: usize) {
        for _ in 0..count {
            for (name, before) in self.name_ops.pop().unwrap_or_default().1 {
                self.bind(name, before);
            }
        }
        // Its intent was durable, and so is all before that.
        self.lines_durable.push((self.step, self.step - 1));
    }

    fn bind(&mut self, name: usize, object: Option<usize>) {
        self.names[name].push((self.step, object));
    }

    fn create(&mut self, name: usize, inode: u64) {
        self.objects.push(Object {
            inode,
            events: vec![Event {
                step: self.step,
                line: "create".into(),
                content: Arc::default(),
                changed_range: (0, 0),
                live: Arc::default(),
                is_revert: false,
                parts: Vec::new(),
                intended: None,
                with_rest: None,
            }],
            durable: Vec::new(),
        });
        self.note_names(&[name]);
        self.bind(name, Some(self.objects.len() - 1));
    }

    /// The object of a name that must have one, and its content.
    fn open(&mut self, name: usize) -> Option<(&mut Object, u64, Vec<u8>)> {
        let (index, step) = (self.object_of(name)?, self.step);
        let object = &mut self.objects[index];
        let content = object.newest().content.to_vec();
        Some((object, step, content))
    }

    fn write(&mut self, name: usize, at: usize, length: usize, how: How) {
        if length == 0 {
            return;
        }
        let (step, bytes) = (self.step, self.bytes(self.step, length));
        self.put(("write", &bytes), name, at);
        if how != How::Plain {
            self.lines_durable.push((step, step));
        }
    }

    /// A write of `asked` bytes wrote only `done`: the rest may have failed halfway.
    fn shorten(&mut self, name: usize, at: usize, (done, asked): (usize, usize)) {
        if done == 0 || done == asked {
            return;
        }
        let bytes = self.bytes(self.step, asked);
        let Some((object, _, mut intended)) = self.open(name) else {
            return;
        };
        intended.resize(intended.len().max(at + asked), 0);
        intended[at..at + asked].copy_from_slice(&bytes);
        if let Some(event) = object.events.last_mut() {
            event.with_rest = Some(format!("write {at} {asked}"));
            event.changed_range.1 = at + asked;
            event.intended = Some(intended);
        }
    }

    fn put(&mut self, (word, bytes): (&str, &[u8]), name: usize, at: usize) {
        let Some((object, step, mut content)) = self.open(name) else {
            return;
        };
        let (size, end) = (content.len(), at + bytes.len());
        content.resize(size.max(end), 0);
        content[at..end].copy_from_slice(bytes);
        let line = format!("{word} {at} {}", bytes.len());
        object.change(step, line, content, (at.min(size), end));
    }

    fn truncate(&mut self, name: usize, size: usize) {
        let Some((object, step, mut content)) = self.open(name) else {
            return;
        };
        let old = content.len();
        content.resize(size, 0);
        let (from, to) = (old.min(size), old.max(size));
        let line = format!("truncate {from} {}", to - from);
        object.change(step, line, content, (from, to));
    }

    fn copy(&mut self, (from, first): (usize, usize), name: usize, at: usize, length: usize) {
        let bytes = self.part(from, first, length);
        self.put(("copy", &bytes), name, at);
    }

    /// The content of a file at that step.
    fn part(&self, name: usize, at: usize, length: usize) -> Vec<u8> {
        let object = self.object_of(name).map(|object| &self.objects[object]);
        let content = object.map(|object| object.newest().content.clone());
        content.unwrap_or_default()[at..at + length].to_vec()
    }

    fn zero(&mut self, word: &str, name: usize, at: usize, length: usize) {
        let Some((object, step, mut content)) = self.open(name) else {
            return;
        };
        let end = (at + length).min(content.len());
        content[at..end].fill(0);
        let line = format!("{word} {at} {length}");
        object.change(step, line, content, (at, end));
    }

    fn revert(&mut self, name: usize, count: usize) {
        let Some((object, step, _)) = self.open(name) else {
            return;
        };
        object.take_back(step, count, RevertMode::Walk);
        // The file is durable, and so is the opening line of the revert: the next mount completes it.
        let done = object.events.len() - 1;
        object.durable.push((step, done));
        self.lines_durable.push((step, step));
    }

    fn store(&mut self, name: usize, at: usize, length: usize, is_synced: bool) {
        let bytes = self.bytes(self.step, length);
        let Some((object, step, mut content)) = self.open(name) else {
            return;
        };
        content[at..at + length].copy_from_slice(&bytes);
        let page = at / 4096 * 4096;
        let line = format!("mmap {page} {}", (content.len() - page).min(4096));
        object.change(step, line, content, (at, at + length));
        if is_synced {
            self.fsync(name);
        }
    }

    fn fsync(&mut self, name: usize) {
        let step = self.step;
        let Some(index) = self.object_of(name) else {
            return;
        };
        let object = &mut self.objects[index];
        object.durable.push((step, object.events.len() - 1));
        self.names_durable.push((step, Some(name)));
        self.lines_durable.push((step, step));
    }

    fn sync(&mut self) {
        let step = self.step;
        for object in &mut self.objects {
            object.durable.push((step, object.events.len() - 1));
        }
        self.names_durable.push((step, None));
        self.tree.sync(step);
        self.lines_durable.push((step, step));
    }

    /// The objects that a name may be bound to after a cut, when steps up to `done` were done and those up to
    /// `begun` had perhaps begun. With `may_return`, once a file that was synced under the name has lost it
    /// again, an older one may be back: btrfs replays the new file's log without the name then, and does not
    /// know that the older one had lost it, though it knows its new name.
    pub fn may_be_bound(
        &self,
        name: usize,
        (done, begun): (u64, u64),
        may_return: bool,
    ) -> Vec<Option<usize>> {
        let since = |of_file: bool| {
            let durable = self
                .names_durable
                .iter()
                .filter(|(step, of)| *step <= done && of.is_none_or(|of| of_file && of == name));
            durable.map(|(step, _)| *step).max().unwrap_or(0)
        };
        let changed = self.names[name].iter().map(|(step, _)| *step);
        let is_changed = |from| changed.clone().any(|step| step > from && step <= begun);
        let mut from = since(true);
        if may_return && is_changed(from) {
            from = since(false);
        }
        let mut found = Vec::new();
        for (at, (step, object)) in self.names[name].iter().enumerate() {
            let ends = self.names[name].get(at + 1).map_or(u64::MAX, |next| next.0);
            if *step <= begun && ends > from && !found.contains(object) {
                found.push(*object);
            }
        }
        found
    }

    /// The newest step whose line must be in the log when steps up to `done` were done.
    pub fn lines_durable_at(&self, done: u64) -> u64 {
        let known = self.lines_durable.iter().filter(|(at, _)| *at <= done);
        known.map(|(_, step)| *step).max().unwrap_or(0)
    }
}

impl Object {
    /// The newest operations are taken back. A pick is a live operation.
    fn take_back(&mut self, step: u64, count: usize, way: RevertMode) {
        let mut live = self.newest().live.to_vec();
        let mut parts = Vec::new();
        let mut content = self.newest().content.clone();
        for _ in 0..count {
            let Some(event) = live.pop() else {
                return;
            };
            parts.push(self.events[event].changed_range);
            content = self.events[event - 1].content.clone();
        }
        if way == RevertMode::Pick {
            live = self.newest().live.to_vec();
            live.push(self.events.len());
        }
        let line = format!("revert {count} {}", content.len());
        self.put_back(step, line, content, parts, live);
    }

    /// The event's reverted operations have their earlier state.
    fn redo(&mut self, step: u64, undo: usize) {
        let before = &self.events[undo - 1];
        let (content, live) = (before.content.clone(), before.live.to_vec());
        let line = format!("redo {}", content.len());
        let parts = self.events[undo].parts.clone();
        self.put_back(step, line, content, parts, live);
    }

    fn put_back(
        &mut self,
        step: u64,
        line: String,
        content: Arc<Vec<u8>>,
        parts: Vec<(usize, usize)>,
        live: Vec<usize>,
    ) {
        let from = parts.iter().map(|part| part.0).min().unwrap_or(0);
        let to = parts.iter().map(|part| part.1).max().unwrap_or(0);
        self.events.push(Event {
            step,
            line,
            content,
            changed_range: (from, to),
            live: Arc::new(live),
            is_revert: true,
            parts,
            intended: None,
            with_rest: None,
        });
    }

    fn change(&mut self, step: u64, line: String, content: Vec<u8>, changed_range: (usize, usize)) {
        let mut live = self.newest().live.to_vec();
        live.push(self.events.len());
        self.events.push(Event {
            step,
            line,
            content: Arc::new(content),
            changed_range,
            live: Arc::new(live),
            is_revert: false,
            parts: Vec::new(),
            intended: None,
            with_rest: None,
        });
    }
}
