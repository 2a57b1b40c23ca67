// SPDX-License-Identifier: MIT OR Apache-2.0

//! The places of objects, now and in the past: by the names that lines record, going back from the present,
//! and by the present tree for objects that no line names.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::actions::is_on_names;
use crate::quote::decoded;
use crate::timeline::Timeline;
use loggerfs_log::line::{Line, Op};
use loggerfs_log::types::ObjectId;

/// The present tree of the mount.
pub trait Tree {
    /// The inode number of its root.
    fn root(&self) -> u64;

    /// Where these inodes are, relative to the root, as far as they are found.
    fn find(&self, wanted: &HashSet<u64>) -> HashMap<u64, PathBuf>;

    /// The present state of a path relative to the root.
    fn look(&self, _path: &Path) -> PathState {
        PathState::Unknown
    }

    /// The CRC-32C of a range of a file, relative to the root; `None`: the range cannot be read.
    fn sum(&self, _path: &Path, _offset: u64, _length: u64) -> Option<u32> {
        None
    }
}

/// The state of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathState {
    /// The path cannot be read.
    Unknown,
    /// Nothing.
    Gone,
    /// Something, by its inode number; a regular file has a size.
    There {
        /// The inode number.
        inode: u64,
        /// The size of a regular file.
        size: Option<u64>,
    },
}

/// A name in a directory.
type NameOfObject = (ObjectId, Vec<u8>);

/// The place of the object of each operation at that time, and the destination.
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
    names: HashMap<ObjectId, NameOfObject>,
    last: HashMap<ObjectId, NameOfObject>,
    present: HashMap<u64, PathBuf>,
    root: u64,
}

/// How deep directories are followed, at most: lines that were forged could lead round and round.
const DEEPEST: usize = 4096;

impl Paths {
    /// The places of all operations of `live`, newest first: in the same order.
    pub fn places(timeline: &Timeline, live: &[usize], tree: &dyn Tree) -> Vec<Place> {
        Self::places_if(timeline, live, &|_| true, tree)
    }

    /// As [`Self::places`], where only the operations of `is_shown` need theirs: files of others that no line
    /// names are not searched in the tree, which may be large.
    pub fn places_if(
        timeline: &Timeline,
        live: &[usize],
        is_shown: &dyn Fn(usize) -> bool,
        tree: &dyn Tree,
    ) -> Vec<Place> {
        let mut paths = Self::last_names(timeline, live, is_shown, tree);
        let places = live.iter().map(|index| {
            let line = timeline.entries[*index].brief();
            let place = paths.place(&line);
            paths.go_back(&line);
            place
        });
        places.collect()
    }

    /// The names that objects have now, or had last; `live` lists the live operations, the newest first.
    pub fn now(timeline: &Timeline, live: &[usize], tree: &dyn Tree) -> Self {
        Self::last_names(timeline, live, &|_| true, tree)
    }

    fn last_names(
        timeline: &Timeline,
        live: &[usize],
        is_shown: &dyn Fn(usize) -> bool,
        tree: &dyn Tree,
    ) -> Self {
        let mut paths = Self {
            names: HashMap::new(),
            last: HashMap::new(),
            present: HashMap::new(),
            root: tree.root(),
        };
        let live = live.iter().map(|index| &timeline.entries[*index]);
        // Undone operations name objects, too.
        for entry in live
            .chain(&timeline.entries)
            .filter(|entry| is_on_names(entry.op))
        {
            paths.note_last(&entry.brief());
        }
        paths.names.clone_from(&paths.last);
        paths.look_up_unnamed(timeline, is_shown, tree);
        paths
    }

    /// The names that objects had right after the line numbered `cut`; `then` lists the operations that were
    /// live then, the newest first.
    pub fn at(timeline: &Timeline, then: &[usize], cut: u64, tree: &dyn Tree) -> Self {
        let mut paths = Self {
            names: HashMap::new(),
            last: HashMap::new(),
            present: HashMap::new(),
            root: tree.root(),
        };
        let then = then.iter().map(|index| &timeline.entries[*index]);
        for entry in then.filter(|entry| is_on_names(entry.op)) {
            paths.note_last(&entry.brief());
        }
        // The first name in a newer line gives the place at that time.
        let since = timeline.entries.partition_point(|entry| entry.seq > cut);
        let newer = timeline.entries[..since].iter().rev();
        for entry in newer.filter(|entry| is_on_names(entry.op)) {
            paths.note_first(&entry.brief());
        }
        paths.names.clone_from(&paths.last);
        paths.look_up_unnamed(timeline, &|_| true, tree);
        paths
    }

    /// Where an object is by these names.
    pub fn of(&self, object: ObjectId) -> Option<PathBuf> {
        self.path(object, &self.names)
    }

    /// The path of a name in a directory, by these names.
    pub fn of_name(&self, dir: ObjectId, name: &[u8]) -> Option<PathBuf> {
        let path = self.path(dir, &self.names)?;
        Some(path.join(OsStr::from_bytes(&decoded(name))))
    }

    /// Notes the names that objects had before a line, unless that is known.
    fn note_first(&mut self, line: &Line<'_>) {
        for (dir, name, node) in names_before(line) {
            self.last
                .entry(node)
                .or_insert_with(|| (dir, name.to_vec()));
        }
    }

    /// Records the names that objects have after a line, or had last, unless a newer line recorded
    /// them.
    fn note_last(&mut self, line: &Line<'_>) {
        let Some(dir) = line.obj else {
            return;
        };
        let other = line.parent.unwrap_or(dir);
        let mut note = |node: Option<ObjectId>, dir, name: Option<&[u8]>| {
            if let (Some(node), Some(name)) = (node, name) {
                self.last
                    .entry(node)
                    .or_insert_with(|| (dir, name.to_vec()));
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
            op if is_on_names(op) => note(line.node, dir, line.name),
            _ => {}
        }
    }

    /// Sets the names to their state before a line.
    fn go_back(&mut self, line: &Line<'_>) {
        for (dir, name, node) in names_before(line) {
            self.names.insert(node, (dir, name.to_vec()));
        }
    }

    /// Looks the objects up that no line names: directories, and those of the operations that are shown.
    fn look_up_unnamed(
        &mut self,
        timeline: &Timeline,
        is_shown: &dyn Fn(usize) -> bool,
        tree: &dyn Tree,
    ) {
        let mut wanted = HashSet::new();
        for (index, entry) in timeline.entries.iter().enumerate() {
            // A name leads to its directory.
            if !is_on_names(entry.op) && !is_shown(index) {
                continue;
            }
            let line = entry.brief();
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
        let Some(name) = line.name.filter(|_| is_on_names(line.op)) else {
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
    fn path(&self, object: ObjectId, names: &HashMap<ObjectId, NameOfObject>) -> Option<PathBuf> {
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

/// The bindings of names before a line, by directory.
pub fn names_before<'l>(line: &Line<'l>) -> impl Iterator<Item = (ObjectId, &'l [u8], ObjectId)> {
    let other = line.parent.or(line.obj);
    let first = (line.obj, line.name, line.node);
    let second = (other, line.to, line.over);
    let names = match line.op {
        Op::Rename | Op::Exchange => [Some(first), Some(second)],
        Op::Unlink | Op::Rmdir => [Some(first), None],
        _ => [None, None],
    };
    let known = |(dir, name, node)| Some((dir?, name?, node?));
    names.into_iter().flatten().filter_map(known)
}

impl Place {
    /// All paths of the place.
    pub fn all(&self) -> impl Iterator<Item = &Path> {
        let all = [&self.path, &self.to, &self.now];
        all.into_iter().flatten().map(PathBuf::as_path)
    }

    /// Whether the place is a path, or lies below one.
    pub fn is_within(&self, path: &Path) -> bool {
        self.all().any(|own| own.starts_with(path))
    }
}
