// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where the objects of lines are, and were: the names that lines tell, from the present back, and the
//! present tree for objects that no line names.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::history::line::{Line, ObjectId, Op};
use crate::quote::decoded;
use crate::timeline::Timeline;

/// The mount as it is now.
pub trait Tree {
    /// The inode number of its root.
    fn root(&self) -> u64;

    /// Where these inodes are, relative to the root, as far as they are found.
    fn find(&self, wanted: &HashSet<u64>) -> HashMap<u64, PathBuf>;
}

/// A name in a directory.
type Name = (ObjectId, Vec<u8>);

/// Where each operation's object was at that time, and what else it names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The object, relative to the root; for an operation on a name, that name.
    pub path: Option<PathBuf>,
    /// Where a rename or an exchange goes.
    pub to: Option<PathBuf>,
    /// Where the object is now, or was last.
    pub now: Option<PathBuf>,
}

/// Finds the places of operations.
pub struct Paths {
    names: HashMap<ObjectId, Name>,
    last: HashMap<ObjectId, Name>,
    present: HashMap<u64, PathBuf>,
    root: u64,
}

/// How deep directories are followed, at most: lines that were forged could lead round and round.
const DEEPEST: usize = 4096;

impl Paths {
    /// The places of all operations of `standing`, newest first: in the same order.
    pub fn places(timeline: &Timeline, standing: &[usize], tree: &dyn Tree) -> Vec<Place> {
        let mut paths = Self {
            names: HashMap::new(),
            last: HashMap::new(),
            present: HashMap::new(),
            root: tree.root(),
        };
        for index in standing {
            paths.note_last(&timeline.entries[*index].line());
        }
        // Also what was undone names objects.
        for entry in &timeline.entries {
            paths.note_last(&entry.line());
        }
        paths.names.clone_from(&paths.last);
        paths.look_up_unnamed(timeline, tree);
        let places = standing.iter().map(|index| {
            let line = timeline.entries[*index].line();
            let place = paths.place(&line);
            paths.go_back(&line);
            place
        });
        places.collect()
    }

    /// Notes the names that objects have behind a line, or had last, unless a newer line said it.
    fn note_last(&mut self, line: &Line<'_>) {
        let Some(dir) = line.obj else {
            return;
        };
        let other = line.parent.unwrap_or(dir);
        let mut note = |node: Option<ObjectId>, dir, name: Option<&[u8]>| {
            if let (Some(node), Some(name)) = (node, name) {
                self.last.entry(node).or_insert((dir, name.to_vec()));
            }
        };
        match line.op {
            Op::Rename => {
                note(line.node, other, line.to);
                note(line.over, other, line.to);
            }
            Op::Exchange => {
                note(line.node, other, line.to);
                note(line.over, dir, line.name);
            }
            op if crate::actions::is_on_names(op) => note(line.node, dir, line.name),
            _ => {}
        }
    }

    /// Sets the names to what they were before a line.
    fn go_back(&mut self, line: &Line<'_>) {
        let Some(dir) = line.obj else {
            return;
        };
        let other = line.parent.unwrap_or(dir);
        let mut set = |node: Option<ObjectId>, dir, name: Option<&[u8]>| {
            if let (Some(node), Some(name)) = (node, name) {
                self.names.insert(node, (dir, name.to_vec()));
            }
        };
        match line.op {
            Op::Rename | Op::Exchange => {
                set(line.node, dir, line.name);
                set(line.over, other, line.to);
            }
            Op::Unlink | Op::Rmdir => set(line.node, dir, line.name),
            _ => {}
        }
    }

    /// Looks the objects up that no line names.
    fn look_up_unnamed(&mut self, timeline: &Timeline, tree: &dyn Tree) {
        let mut wanted = HashSet::new();
        for entry in &timeline.entries {
            let line = entry.line();
            wanted.extend([line.obj, line.parent].into_iter().flatten());
        }
        let unnamed = |id: &ObjectId| id.inode != self.root && !self.last.contains_key(id);
        let wanted: HashSet<u64> = wanted
            .iter()
            .filter(|id| unnamed(id))
            .map(|id| id.inode)
            .collect();
        if !wanted.is_empty() {
            self.present = tree.find(&wanted);
        }
    }

    fn place(&self, line: &Line<'_>) -> Place {
        let Some(object) = line.obj else {
            return Place::default();
        };
        let Some(name) = line.name.filter(|_| crate::actions::is_on_names(line.op)) else {
            return Place {
                path: self.path(object, &self.names),
                to: None,
                now: self.path(object, &self.last),
            };
        };
        let child = |dir, name: &[u8], names| {
            let path = self.path(dir, names)?;
            Some(path.join(OsStr::from_bytes(&decoded(name))))
        };
        let other = line.parent.unwrap_or(object);
        Place {
            path: child(object, name, &self.names),
            to: line.to.and_then(|to| child(other, to, &self.names)),
            now: line.node.and_then(|node| self.path(node, &self.last)),
        }
    }

    /// An object's path by these names.
    fn path(&self, object: ObjectId, names: &HashMap<ObjectId, Name>) -> Option<PathBuf> {
        let mut reversed = Vec::new();
        let mut at = object;
        let base = loop {
            if at.inode == self.root {
                break Path::new("");
            }
            match names.get(&at) {
                Some((dir, name)) => {
                    reversed.push(decoded(name));
                    at = *dir;
                }
                None => break self.present.get(&at.inode)?.as_path(),
            }
            if reversed.len() > DEEPEST {
                return None;
            }
        };
        let mut path = base.to_owned();
        for name in reversed.iter().rev() {
            path.push(OsStr::from_bytes(name));
        }
        Some(path)
    }
}

impl Place {
    /// Every path that it has.
    pub fn all(&self) -> impl Iterator<Item = &Path> {
        let all = [&self.path, &self.to, &self.now];
        all.into_iter().flatten().map(PathBuf::as_path)
    }

    /// Whether it has to do with a file, or with what is in a directory.
    pub fn is_within(&self, path: &Path) -> bool {
        self.all().any(|own| own.starts_with(path))
    }
}
