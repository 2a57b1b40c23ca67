// SPDX-License-Identifier: MIT OR Apache-2.0

//! Sums of changes: which objects an action made, removed, moved or changed.

use std::collections::{BTreeMap, HashSet};

use crate::actions::{is_on_names, Action};
use crate::revert_effect::RevertEffect;
use crate::timeline::{Entry, Timeline};
use loggerfs_log::line::Op;
use loggerfs_log::types::ObjectId;

/// The total change of an action.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Files, links and such that are new.
    pub files_made: usize,
    /// Those that are gone.
    pub files_gone: usize,
    /// Directories that are new.
    pub directories_made: usize,
    /// Those that are gone.
    pub directories_gone: usize,
    /// Names that were moved.
    pub moved: usize,
    /// Files and directories that are others than before.
    pub changed: usize,
    /// The number of reverts in the action, whose effect is counted with the others if it is known.
    pub reverts: usize,
    /// If only one object changed: the operation that gives its place.
    pub only: Option<SingleChange>,
    /// Each change of an object, without reverts.
    pub each: Vec<ObjectChange>,
}

/// The change of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectChange {
    /// `+`, `-`, `~`, or `>` for one that was moved.
    pub sign: char,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Where it is.
    pub at: SingleChange,
}

/// The place of the single change of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SingleChange {
    /// The operation, as an index into the timeline.
    pub index: usize,
    /// Whether the place is the destination of the operation.
    pub is_to: bool,
    /// Whether the operation was taken back: a rename went from its destination.
    pub is_back: bool,
}

impl SingleChange {
    /// The same place, of the operation taken back.
    fn taken_back(self) -> Self {
        Self {
            is_back: !self.is_back,
            ..self
        }
    }
}

impl ObjectChange {
    /// The change that taking this one back makes.
    fn taken_back(&self) -> Self {
        Self {
            sign: match self.sign {
                '+' => '-',
                '-' => '+',
                sign => sign,
            },
            at: self.at.taken_back(),
            ..*self
        }
    }
}

/// A name in a directory.
type DirectoryName = (ObjectId, Vec<u8>);

/// Changes of names: the object bound before the oldest operation, and the one bound after the
/// newest.
#[derive(Default)]
struct NameChanges(BTreeMap<DirectoryName, NameBinding>);

#[derive(Clone, Copy)]
struct NameBinding {
    before: Option<ObjectId>,
    behind: Option<ObjectId>,
    only: SingleChange,
}

impl NameChanges {
    fn note(&mut self, dir: ObjectId, name: Option<&[u8]>, bound: NameBinding) {
        let Some(name) = name else {
            return;
        };
        let known = self.0.entry((dir, name.to_vec())).or_insert(bound);
        (known.behind, known.only) = (bound.behind, bound.only);
    }

    /// Follows an operation; the oldest comes first.
    fn follow(&mut self, index: usize, entry: &Entry) {
        let (Some(dir), line) = (entry.object, entry.brief()) else {
            return;
        };
        let other = line.parent.unwrap_or(dir);
        let bound = |before, behind, is_to| NameBinding {
            before,
            behind,
            only: SingleChange {
                index,
                is_to,
                is_back: false,
            },
        };
        let (node, over) = (line.node, line.over);
        match line.op {
            Op::Create | Op::Mkdir | Op::Mknod | Op::Symlink | Op::Link => {
                self.note(dir, line.name, bound(None, node, false));
            }
            Op::Unlink | Op::Rmdir => self.note(dir, line.name, bound(node, None, false)),
            Op::Rename => {
                self.note(dir, line.name, bound(node, None, false));
                self.note(other, line.to, bound(over, node, true));
            }
            Op::Exchange => {
                self.note(dir, line.name, bound(node, over, false));
                self.note(other, line.to, bound(over, node, true));
            }
            _ => {}
        }
    }
}

impl Changes {
    /// Sums up the operations of an action. A revert changes the opposite of the operations that it took back.
    pub fn of(timeline: &Timeline, action: &Action) -> Self {
        let is_revert = |index: &usize| timeline.entries[*index].group().is_some();
        let (reverts, own): (Vec<usize>, Vec<usize>) =
            action.entries.iter().partition(|index| is_revert(index));
        let mut changes = Self::of_operations(timeline, &own);
        if reverts.is_empty() {
            return changes;
        }
        if let Some(effect) = RevertEffect::of(timeline, &reverts) {
            changes.add(Self::of_operations(timeline, &effect.undone).taken_back());
            changes.add(Self::of_operations(timeline, &effect.redone));
        }
        changes.reverts = reverts.len();
        changes
    }

    /// Sums up operations that are no reverts, the newest first.
    fn of_operations(timeline: &Timeline, operations: &[usize]) -> Self {
        let mut names = NameChanges::default();
        let mut directories = HashSet::new();
        let mut made = HashSet::new();
        let mut changed_objects = BTreeMap::new();
        let mut changes = Self::default();
        for index in operations.iter().rev() {
            let entry = &timeline.entries[*index];
            names.follow(*index, entry);
            match (entry.op, entry.object) {
                (Op::Mkdir | Op::Rmdir, _) => directories.extend(entry.brief().node),
                (Op::Create | Op::Mknod | Op::Symlink, _) => made.extend(entry.brief().node),
                (op, Some(object)) if !is_on_names(op) => {
                    changed_objects.insert(object, *index);
                }
                _ => {}
            }
        }
        // Also those that are gone again, such as the files with which an editor tries a directory.
        changed_objects.retain(|object, _| !made.contains(object) && !directories.contains(object));
        changes.count_names(&names, &directories, &mut changed_objects);
        changes.changed += changed_objects.len();
        for index in changed_objects.values() {
            changes.note(
                '~',
                false,
                SingleChange {
                    index: *index,
                    is_to: false,
                    is_back: false,
                },
            );
        }
        let one = match &changed_objects.values().collect::<Vec<_>>()[..] {
            [only] => Some(SingleChange {
                index: **only,
                is_to: false,
                is_back: false,
            }),
            _ => None,
        };
        if changes.total() == 1 {
            changes.only = changes.only.or(one);
        } else {
            changes.only = None;
        }
        changes
    }

    /// Counts names. Changes of objects that are new or gone are not counted on their own.
    fn count_names(
        &mut self,
        names: &NameChanges,
        directories: &HashSet<ObjectId>,
        changed_objects: &mut BTreeMap<ObjectId, usize>,
    ) {
        let bound = |f: fn(&NameBinding) -> Option<ObjectId>| -> HashSet<ObjectId> {
            let changed = names.0.values().filter(|b| b.before != b.behind);
            changed.filter_map(f).collect()
        };
        let (before, behind) = (bound(|b| b.before), bound(|b| b.behind));
        for name in names.0.values() {
            let is_directory = |node| directories.contains(&node);
            let (sign, is_directory) = match (name.before, name.behind) {
                (before, behind) if before == behind => continue,
                (Some(_), Some(_)) => ('~', false),
                (None, Some(node)) if before.contains(&node) => ('>', is_directory(node)),
                (Some(node), None) if behind.contains(&node) => continue,
                (None, Some(node)) => ('+', is_directory(node)),
                (Some(node), None) => ('-', is_directory(node)),
                (None, None) => continue,
            };
            let number = match (sign, is_directory) {
                ('~', _) => &mut self.changed,
                ('>', _) => &mut self.moved,
                ('+', true) => &mut self.directories_made,
                ('+', false) => &mut self.files_made,
                (_, true) => &mut self.directories_gone,
                (_, false) => &mut self.files_gone,
            };
            *number += 1;
            self.note(sign, is_directory, name.only);
            self.only = Some(name.only);
        }
        changed_objects.retain(|object, _| !before.contains(object) && !behind.contains(object));
    }

    fn note(&mut self, sign: char, is_directory: bool, at: SingleChange) {
        self.each.push(ObjectChange {
            sign,
            is_directory,
            at,
        });
    }

    /// The number of changes.
    pub fn total(&self) -> usize {
        self.files_made
            + self.files_gone
            + self.directories_made
            + self.directories_gone
            + self.moved
            + self.changed
    }

    /// The changes that taking these back makes.
    fn taken_back(self) -> Self {
        Self {
            files_made: self.files_gone,
            files_gone: self.files_made,
            directories_made: self.directories_gone,
            directories_gone: self.directories_made,
            only: self.only.map(SingleChange::taken_back),
            each: self.each.iter().map(ObjectChange::taken_back).collect(),
            ..self
        }
    }

    /// Adds changes of other objects.
    fn add(&mut self, other: Self) {
        self.only = match (self.total(), other.total()) {
            (_, 0) => self.only,
            (0, _) => other.only,
            _ => None,
        };
        self.files_made += other.files_made;
        self.files_gone += other.files_gone;
        self.directories_made += other.directories_made;
        self.directories_gone += other.directories_gone;
        self.moved += other.moved;
        self.changed += other.changed;
        self.reverts += other.reverts;
        self.each.extend(other.each);
    }
}
