// SPDX-License-Identifier: GPL-2.0

//! The operations on names and attributes.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{lchown, symlink, MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::XattrFlags;

use super::{name_of, Kind, Node, Op, Slot, State, NAMES, ROOTS};
use crate::shadow::{pattern, Random};

pub const XATTR: &str = "user.powercut";

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operation {
    Create { slot: Slot, kind: Kind },
    Link { node: usize, to: Slot },
    Remove { slot: Slot },
    Rename { from: Slot, to: Slot },
    Mode { node: usize, mode: u32 },
    Owner { node: usize, owner: u32 },
    Value { node: usize, value: Option<Vec<u8>> },
    Fsync { node: usize },
}

impl Operation {
    /// A possible operation that changes this state.
    pub fn choose(state: &State, random: &mut Random) -> Operation {
        let dice = random.below(32);
        let found = match dice {
            0..9 => create(state, random),
            9..12 => link(state, random),
            12..16 => remove(state, random),
            16..21 => rename(state, random),
            21..27 => Some(attribute(state, random)),
            _ => Some(Operation::Fsync {
                node: any_node(state, random),
            }),
        };
        found.unwrap_or_else(|| attribute(state, random))
    }

    /// The resulting state, and the operation in the log.
    pub fn change(&self, state: &mut State, op: &mut Op) {
        match *self {
            Operation::Create { slot, kind } => {
                (op.word, op.slots) = (kind.word(), vec![slot]);
                op.nodes = vec![slot.0, state.nodes.len()];
                state.names.insert(slot, state.nodes.len());
                let target = (kind == Kind::Symlink).then(|| target(slot).into_bytes());
                state.nodes.push(Node::new(kind, target));
            }
            Operation::Link { node, to } => {
                (op.word, op.slots, op.nodes) = ("link", vec![to], vec![to.0, node]);
                state.names.insert(to, node);
            }
            Operation::Remove { slot } => {
                let node = state.names.remove(&slot).unwrap_or_default();
                let is_directory = state.is_directory(node);
                op.word = if is_directory { "rmdir" } else { "unlink" };
                (op.slots, op.nodes) = (vec![slot], vec![slot.0, node]);
            }
            Operation::Rename { from, to } => {
                let node = state.names.remove(&from).unwrap_or_default();
                let victim = state.names.insert(to, node);
                (op.word, op.slots) = ("rename", vec![from, to]);
                op.nodes = vec![from.0, to.0, node];
                op.nodes.extend(victim);
            }
            Operation::Mode { node, mode } => {
                op.nodes = vec![node];
                state.nodes[node].mode = mode;
            }
            Operation::Owner { node, owner } => {
                op.nodes = vec![node];
                state.nodes[node].owner = owner;
            }
            Operation::Value { node, ref value } => {
                (op.word, op.nodes) = ("setxattr", vec![node]);
                state.nodes[node].value.clone_from(value);
            }
            Operation::Fsync { .. } => {}
        }
        // The directory of the first name, or the node itself.
        op.of = op.slots.first().map_or(op.nodes[0], |slot| slot.0);
        op.names = op.slots.first().map(|slot| {
            let to = op.slots.get(1).map(|to| to.1);
            (slot.1, to)
        });
    }

    /// Does the operation below `top`. Returns the inode of a new object.
    pub fn perform(&self, state: &State, top: &Path) -> io::Result<u64> {
        let path = |slot: &Slot| top.join(state.path_of(*slot));
        let node_path = |node: &usize| top.join(state.path(*node));
        match self {
            Operation::Create { slot, kind } => {
                let path = path(slot);
                match kind {
                    Kind::File => File::create_new(&path).map(drop)?,
                    Kind::Directory => fs::create_dir(&path)?,
                    Kind::Symlink => symlink(target(*slot), &path)?,
                }
                return Ok(fs::symlink_metadata(&path)?.ino());
            }
            Operation::Link { node, to } => fs::hard_link(node_path(node), path(to))?,
            Operation::Remove { slot } => match state.is_directory(state.names[slot]) {
                true => fs::remove_dir(path(slot))?,
                false => fs::remove_file(path(slot))?,
            },
            Operation::Rename { from, to } => fs::rename(path(from), path(to))?,
            Operation::Mode { node, mode } => {
                fs::set_permissions(node_path(node), Permissions::from_mode(*mode))?;
            }
            Operation::Owner { node, owner } => {
                lchown(node_path(node), Some(*owner), Some(*owner))?
            }
            Operation::Value { node, value } => {
                let path = node_path(node);
                match value {
                    Some(value) => rustix::fs::setxattr(&path, XATTR, value, XattrFlags::empty())?,
                    None => rustix::fs::removexattr(&path, XATTR)?,
                }
            }
            Operation::Fsync { node } => File::open(node_path(node))?.sync_all()?,
        }
        Ok(0)
    }
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::File => "create",
            Kind::Directory => "mkdir",
            Kind::Symlink => "symlink",
        }
    }
}

/// Where a symbolic link leads that was made there.
fn target((directory, name): Slot) -> String {
    format!("to {directory} {}", name_of(name))
}

fn any_slot(state: &State, random: &mut Random) -> Slot {
    let there = state.there().into_iter();
    let directories: Vec<usize> = there.filter(|node| state.is_directory(*node)).collect();
    let directory = directories[random.below(directories.len() as u64) as usize];
    (directory, random.below(NAMES as u64) as usize)
}

fn any_bound(state: &State, random: &mut Random) -> Option<Slot> {
    let count = state.names.len() as u64;
    let at = random.below(count.max(1)) as usize;
    state.names.keys().nth(at).copied()
}

/// A file or a directory.
fn any_node(state: &State, random: &mut Random) -> usize {
    let there = state.there().into_iter();
    let is_it = |node: &usize| state.nodes[*node].kind != Kind::Symlink;
    let nodes: Vec<usize> = there.filter(is_it).collect();
    nodes[random.below(nodes.len() as u64) as usize]
}

fn create(state: &State, random: &mut Random) -> Option<Operation> {
    let slot = any_slot(state, random);
    let kind = match random.below(6) {
        // A directory in a directory of a directory is deep enough.
        0 | 1 if slot.0 < ROOTS.len() => Kind::Directory,
        2 => Kind::Symlink,
        _ => Kind::File,
    };
    let is_free = !state.names.contains_key(&slot);
    is_free.then_some(Operation::Create { slot, kind })
}

fn link(state: &State, random: &mut Random) -> Option<Operation> {
    let (from, to) = (any_bound(state, random)?, any_slot(state, random));
    let node = state.names[&from];
    let is_possible = state.nodes[node].kind == Kind::File && !state.names.contains_key(&to);
    is_possible.then_some(Operation::Link { node, to })
}

fn remove(state: &State, random: &mut Random) -> Option<Operation> {
    let slot = any_bound(state, random)?;
    let is_possible = state.is_empty(state.names[&slot]);
    is_possible.then_some(Operation::Remove { slot })
}

fn rename(state: &State, random: &mut Random) -> Option<Operation> {
    let (from, to) = (any_bound(state, random)?, any_slot(state, random));
    let node = state.names[&from];
    let is_directory = state.is_directory(node);
    let may = match state.names.get(&to) {
        Some(victim) => !is_directory && *victim != node && !state.is_directory(*victim),
        None => !is_directory || to.0 < ROOTS.len(),
    };
    may.then_some(Operation::Rename { from, to })
}

fn attribute(state: &State, random: &mut Random) -> Operation {
    let node = any_node(state, random);
    let now = &state.nodes[node];
    match random.below(4) {
        0 => Operation::Owner {
            node,
            owner: (now.owner + 1 + random.below(4) as u32) % 5,
        },
        1 | 2 => {
            let is_removed = now.value.is_some() && random.below(4) == 0;
            let (whose, length) = (random.next(), 1 + random.below(200) as usize);
            let value = (!is_removed).then(|| pattern(whose, length));
            Operation::Value { node, value }
        }
        _ => {
            let modes = [0o600, 0o640, 0o700, 0o711, 0o750].into_iter();
            let others: Vec<u32> = modes.filter(|mode| *mode != now.mode).collect();
            let mode = others[random.below(others.len() as u64) as usize];
            Operation::Mode { node, mode }
        }
    }
}
