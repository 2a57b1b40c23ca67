// SPDX-License-Identifier: MIT OR Apache-2.0

//! The names in directories at a point. The point stays, while the log grows: newer lines are taken in.

use std::collections::{BTreeMap, HashMap};

use crate::past_tree::{found_by, names_at};
use crate::quote::decoded;
use crate::timeline::Timeline;
use loggerfs_log::line::Line;
use loggerfs_log::types::ObjectId;

/// A name in a directory, which is given by its inode number.
pub type NameInDirectory = (u64, Vec<u8>);

/// An object in a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its inode number.
    pub inode: u64,
    /// The object, if a line names it.
    pub object: Option<ObjectId>,
}

/// The names in directories right after a line, as far as lines record them. All other names are as they are
/// now.
#[derive(Default)]
pub struct PastDirectories {
    /// The objects of names at the point, by directory; `None`: the name was free.
    bound: HashMap<ObjectId, HashMap<Vec<u8>, Option<ObjectId>>>,
    /// The names that lines gave to an object or took from it, the oldest first.
    names: HashMap<u64, Vec<NameInDirectory>>,
    /// The objects that lines are about or name, by inode number; of several, the newest.
    objects: HashMap<u64, ObjectId>,
}

impl PastDirectories {
    /// The names right after the line numbered `cut`.
    pub fn at(timeline: &Timeline, cut: u64) -> Self {
        let then = timeline.live_before(cut.saturating_add(1));
        let mut names = Self::default();
        for ((dir, name), node) in names_at(timeline, &then).names {
            let bound = names.bound.entry(dir).or_default();
            bound.insert(decoded(&name), node);
        }
        for entry in timeline.entries.iter().rev() {
            names.note(&entry.line());
        }
        names
    }

    /// Takes in a line that is newer than all lines before.
    pub fn take_in(&mut self, line: &Line<'_>) {
        for (dir, name, node) in found_by(line) {
            let bound = self.bound.entry(dir).or_default();
            // The first line about a name records the state that it found.
            bound.entry(decoded(name)).or_insert(node);
        }
        self.note(line);
    }

    /// Notes the objects of a line, and their names.
    fn note(&mut self, line: &Line<'_>) {
        for object in [line.obj, line.parent, line.node, line.over] {
            self.objects
                .extend(object.map(|object| (object.inode, object)));
        }
        let pairs: Vec<NameInDirectory> = found_by(line)
            .map(|(dir, name, _)| (dir.inode, decoded(name)))
            .collect();
        for object in [line.node, line.over].into_iter().flatten() {
            let names = self.names.entry(object.inode).or_default();
            for pair in &pairs {
                names.retain(|name| name != pair);
                names.push(pair.clone());
            }
        }
    }

    /// The object that a line names with this inode number.
    pub fn object(&self, inode: u64) -> Option<ObjectId> {
        self.objects.get(&inode).copied()
    }

    /// The object of a name at the point. `None`: no line is about the name; `Some(None)`: it was free.
    pub fn name(&self, dir: u64, name: &[u8]) -> Option<Option<ObjectId>> {
        let bound = self.bound.get(self.objects.get(&dir)?)?;
        bound.get(name).copied()
    }

    /// The names in a directory at the point; `present` has those that it has now, with their inode numbers.
    pub fn list(
        &self,
        dir: u64,
        present: impl IntoIterator<Item = (Vec<u8>, u64)>,
    ) -> BTreeMap<Vec<u8>, Listed> {
        let of_inode = |inode| Listed {
            inode,
            object: self.object(inode),
        };
        let present = present.into_iter();
        let mut names: BTreeMap<Vec<u8>, Listed> = present
            .map(|(name, inode)| (name, of_inode(inode)))
            .collect();
        let object = self.objects.get(&dir);
        let bound = object.and_then(|object| self.bound.get(object));
        for (name, object) in bound.into_iter().flatten() {
            match object {
                None => drop(names.remove(name)),
                Some(object) => {
                    let listed = Listed {
                        inode: object.inode,
                        object: Some(*object),
                    };
                    names.insert(name.clone(), listed);
                }
            }
        }
        names
    }

    /// The names that lines gave to an object or took from it, the oldest first.
    pub fn names_of(&self, inode: u64) -> &[NameInDirectory] {
        self.names.get(&inode).map_or(&[], Vec::as_slice)
    }

    /// Those of [`Self::names_of`] that the object had at the point.
    pub fn names_then(&self, inode: u64) -> impl Iterator<Item = &NameInDirectory> {
        let names = self.names_of(inode).iter();
        names.filter(move |(dir, name)| {
            let bound = self.name(*dir, name).flatten();
            bound.is_some_and(|object| object.inode == inode)
        })
    }
}
