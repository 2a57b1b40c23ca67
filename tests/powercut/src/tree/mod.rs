// SPDX-License-Identifier: GPL-2.0

//! Two directories beside the files, whose names and attributes change: their states, the
//! operations between, and which of them are durable.

pub mod check;
pub mod damage;
mod found;
pub mod operation;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use operation::Operation;

/// A directory's node, and which of its names.
pub type Slot = (usize, usize);

/// How many names are used in each directory.
pub const NAMES: usize = 5;

/// The directories that are always there: the first nodes.
pub const ROOTS: [&str; 2] = ["a", "b"];

pub fn name_of(name: usize) -> String {
    format!("n{name}")
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    File,
    Directory,
    Symlink,
}

/// A file, a directory or a symbolic link with its attributes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    pub kind: Kind,
    pub mode: u32,
    /// User and group.
    pub owner: u32,
    /// The value of its extended attribute; of a symbolic link, the target.
    pub value: Option<Vec<u8>>,
}

impl Node {
    fn new(kind: Kind, value: Option<Vec<u8>>) -> Node {
        let mode = match kind {
            Kind::File => 0o644,
            Kind::Directory => 0o755,
            Kind::Symlink => 0o777,
        };
        Node {
            kind,
            mode,
            owner: 0,
            value,
        }
    }
}

/// Everything at some time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct State {
    pub names: BTreeMap<Slot, usize>,
    /// All nodes that ever were; those without a name stay as they went.
    pub nodes: Vec<Node>,
}

impl State {
    /// The nodes that are there.
    pub fn there(&self) -> BTreeSet<usize> {
        let named = self.names.values().copied();
        (0..ROOTS.len()).chain(named).collect()
    }

    pub fn is_directory(&self, node: usize) -> bool {
        self.nodes[node].kind == Kind::Directory
    }

    pub fn is_empty(&self, directory: usize) -> bool {
        !self.names.keys().any(|(of, _)| *of == directory)
    }

    /// A path of a node, below the mount.
    pub fn path(&self, node: usize) -> String {
        if let Some(root) = ROOTS.get(node) {
            return (*root).into();
        }
        let slot = self.names.iter().find(|(_, bound)| **bound == node);
        slot.map_or("nowhere".into(), |(slot, _)| self.path_of(*slot))
    }

    pub fn path_of(&self, (directory, name): Slot) -> String {
        format!("{}/{}", self.path(directory), name_of(name))
    }
}

/// An operation, of which there is one line.
#[derive(Clone, Debug)]
pub struct Op {
    pub step: u64,
    pub word: &'static str,
    /// The object whose log has the line.
    pub of: usize,
    pub names: Option<(usize, Option<usize>)>,
    /// The change.
    pub slots: Vec<Slot>,
    pub nodes: Vec<usize>,
    pub before: Arc<State>,
}

/// From a step on: the state, the number of operations so far, and which of them are live.
#[derive(Clone)]
pub struct TreeMoment {
    pub step: u64,
    pub state: Arc<State>,
    pub ops: usize,
    pub live: Arc<Vec<usize>>,
}

/// All that was done.
pub struct Tree {
    /// Of each node; 0: not known yet.
    pub inodes: Vec<u64>,
    pub ops: Vec<Op>,
    pub moments: Vec<TreeMoment>,
    /// After these steps everything was durable, or this node in its state then.
    durable: Vec<(u64, Option<usize>)>,
}

impl Tree {
    pub fn new() -> Tree {
        let state = State {
            names: BTreeMap::new(),
            nodes: ROOTS
                .iter()
                .map(|_| Node::new(Kind::Directory, None))
                .collect(),
        };
        Tree {
            inodes: vec![0; ROOTS.len()],
            ops: Vec::new(),
            moments: vec![TreeMoment {
                step: 0,
                state: Arc::new(state),
                ops: 0,
                live: Arc::default(),
            }],
            durable: vec![(0, None)],
        }
    }

    pub fn newest(&self) -> &TreeMoment {
        &self.moments[self.moments.len() - 1]
    }

    pub fn state(&self) -> &State {
        &self.newest().state
    }

    /// Everything is durable.
    pub fn sync(&mut self, step: u64) {
        self.durable.push((step, None));
    }

    /// Applies an operation; `inode` is that of the new node.
    pub fn apply(&mut self, operation: &Operation, step: u64, inode: u64) {
        if let Operation::Fsync { node } = *operation {
            self.durable.push((step, Some(node)));
            return;
        }
        let before = self.newest().clone();
        let mut state = State::clone(&before.state);
        let mut op = Op {
            step,
            word: "setattr",
            of: 0,
            names: None,
            slots: Vec::new(),
            nodes: Vec::new(),
            before: before.state.clone(),
        };
        if let Operation::Create { .. } = operation {
            self.inodes.push(inode);
        }
        operation.change(&mut state, &mut op);
        let mut live = before.live.to_vec();
        live.push(self.ops.len());
        self.ops.push(op);
        self.moment(step, Arc::new(state), live);
    }

    fn moment(&mut self, step: u64, state: Arc<State>, live: Vec<usize>) {
        self.moments.push(TreeMoment {
            step,
            state,
            ops: self.ops.len(),
            live: Arc::new(live),
        });
    }

    /// In how many logs the newest operations are, of names and of attributes.
    pub fn members(&self, count: usize) -> usize {
        let newest = self.newest().live.iter().rev().take(count);
        let members = newest.map(|at| (self.ops[*at].of, self.ops[*at].names.is_some()));
        members.collect::<BTreeSet<_>>().len()
    }

    /// The newest operations are taken back; returns the data for a redo.
    pub fn take_back(&mut self, step: u64, count: usize) -> TreeMoment {
        let before = self.newest().clone();
        let mut live = before.live.to_vec();
        let taken = live.split_off(live.len().saturating_sub(count));
        if let Some(oldest) = taken.first() {
            let state = self.as_before(*oldest);
            self.moment(step, state, live);
        }
        before
    }

    /// The state before an operation, with the nodes that were made since.
    pub fn as_before(&self, op: usize) -> Arc<State> {
        let mut state = State::clone(&self.ops[op].before);
        let made = self.state().nodes.iter().skip(state.nodes.len());
        state.nodes.extend(made.cloned());
        Arc::new(state)
    }

    /// The reverted objects have their earlier state.
    pub fn redo(&mut self, step: u64, before: &TreeMoment) {
        let live = before.live.to_vec();
        self.moment(step, before.state.clone(), live);
    }

    /// The moment that step `step` left.
    pub fn moment_at(&self, step: u64) -> usize {
        let later = self.moments.partition_point(|moment| moment.step <= step);
        later.saturating_sub(1)
    }

    /// The newest step up to which all is durable when steps up to `done` were done. If the journal of the
    /// filesystem is ordered (all but btrfs), changes before a durable one are durable, too.
    pub fn durable_at(&self, done: u64, is_ordered: bool) -> u64 {
        let known = self.durable.iter().filter(|(step, _)| *step <= done);
        let up_to = known.map(|(step, of)| match of {
            None => *step,
            Some(node) if is_ordered => self.changed(*node, *step),
            Some(_) => 0,
        });
        up_to.max().unwrap_or(0)
    }

    /// The newest step up to `step` that changed a node, or a name in it.
    fn changed(&self, node: usize, step: u64) -> u64 {
        let ops = self.ops.iter().rev().filter(|op| op.step <= step);
        let mut ops = ops.filter(|op| op.nodes.contains(&node));
        ops.next().map_or(0, |op| op.step)
    }

    /// The newest step as of which a node by itself is durable.
    fn node_durable_at(&self, node: usize, done: u64) -> u64 {
        let known = self.durable.iter().filter(|(step, _)| *step <= done);
        let known = known.filter(|(_, of)| of.is_none_or(|of| of == node));
        known.map(|(step, _)| *step).max().unwrap_or(0)
    }

    /// The nodes that a slot may be bound to on a filesystem without such an order. As in
    /// [`crate::model::Model::may_be_bound`], a name that changed since its directory was durable may have
    /// its state since everything was.
    pub fn may_be_bound(&self, slot: Slot, done: u64, begun: u64) -> BTreeSet<Option<usize>> {
        let mut from = self.node_durable_at(slot.0, done);
        let bound = |moment: &TreeMoment| moment.state.names.get(&slot).copied();
        let since = |from| {
            let moments = self.moments[self.moment_at(from)..=self.moment_at(begun)].iter();
            moments.map(bound).collect::<BTreeSet<_>>()
        };
        if since(from).len() > 1 {
            from = self.durable_at(done, false);
        }
        let mut may_be = since(from);
        if self.replaces_a_link(slot, from, begun) {
            may_be.insert(None);
        }
        may_be
    }

    /// Whether a rename in this time took the slot from a node with a further name. btrfs (7.2) may lose the slot
    /// then, also without LoggerFS: an fsync(2) has put the replaced node with its other name into the log tree,
    /// whose replay removes the slot, and the rename is not in that tree. docs/limits.md has the calls.
    fn replaces_a_link(&self, slot: Slot, from: u64, begun: u64) -> bool {
        let moments = &self.moments[self.moment_at(from)..=self.moment_at(begun)];
        moments.windows(2).any(|pair| {
            let [before, after] = [&pair[0].state.names, &pair[1].state.names];
            let replaced = before.get(&slot).filter(|node| {
                let taker = after.get(&slot);
                taker.is_some() && taker != Some(*node)
            });
            replaced.is_some_and(|node| after.values().any(|other| other == node))
        })
    }

    /// The attributes that a node may have there.
    pub fn may_be(&self, node: usize, done: u64, begun: u64) -> Vec<&Node> {
        let from = self.node_durable_at(node, done);
        let moments = self.moments[self.moment_at(from)..=self.moment_at(begun)].iter();
        moments
            .filter_map(|moment| moment.state.nodes.get(node))
            .collect()
    }
}
