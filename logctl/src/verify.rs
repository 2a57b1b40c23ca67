// SPDX-License-Identifier: MIT OR Apache-2.0

//! Compares the present tree with the state that the log records for a point: names and the objects bound to
//! them, sizes, and content as far as lines have checksums.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;

use crate::past_tree::{names_at, since};
use crate::paths::{PathState, Tree};
use crate::rewind::Rewind;
use crate::timeline::Timeline;
use loggerfs_log::line::Op;
use loggerfs_log::plan::{inverse, Restore};
use loggerfs_log::types::ObjectId;

/// The result of a comparison.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Differences: the path, and a description.
    pub wrong: BTreeMap<PathBuf, String>,
    /// Files whose size or content could not be compared, or only in part.
    pub unknown: Vec<PathBuf>,
    /// How many files were compared with a checksum, from their beginning to their end.
    pub compared: usize,
    /// Names that could not be looked at.
    pub unseen: Vec<PathBuf>,
}

/// The state of one file at a point, derived from newer lines.
#[derive(Default)]
struct PastContent {
    size: Option<u64>,
    /// A range of its content, with its checksum.
    saved: Option<Restore>,
    was_changed: bool,
    /// The file was changed outside LoggerFS since.
    is_external: bool,
}

/// Compares the objects that differed before a restore, `done`, with the present tree. `timeline` is the log
/// before the restore; `after` is the log afterwards, which may have detected changes outside LoggerFS.
pub fn verify(
    timeline: &Timeline,
    done: &Rewind<'_>,
    after: &Timeline,
    tree: &dyn Tree,
) -> Comparison {
    let paths = done.paths(tree);
    let mut comparison = Comparison::default();
    let bound = names_at(timeline, done.then());
    let mut found: HashMap<ObjectId, PathBuf> = HashMap::new();
    for entry in done.on_names() {
        let line = entry.line();
        let other = line.parent.or(line.obj);
        for (dir, name) in [(line.obj, line.name), (other, line.to)] {
            let (Some(dir), Some(name)) = (dir, name) else {
                continue;
            };
            if !bound.has(dir) {
                continue;
            }
            let want = bound.names.get(&(dir, name.to_vec())).copied().flatten();
            if let Some(path) = paths.of_name(dir, name) {
                comparison.name(path.clone(), want, tree);
                found.extend(want.map(|object| (object, path)));
            }
        }
    }
    let mut then = objects_then(timeline, done);
    for entry in since(after, done.cut()).filter(|entry| entry.op == Op::External) {
        if let Some(then) = entry.object.and_then(|object| then.get_mut(&object)) {
            then.is_external = true;
        }
    }
    for (object, then) in then {
        let path = found.get(&object).cloned().or_else(|| paths.of(object));
        let Some(path) = path.filter(|_| bound.has(object)) else {
            continue;
        };
        comparison.content(path, object, &then, tree);
    }
    comparison
}

impl Comparison {
    /// Compares the object that a name is bound to.
    fn name(&mut self, path: PathBuf, want: Option<ObjectId>, tree: &dyn Tree) {
        match (tree.look(&path), want) {
            (PathState::Unknown, _) => self.unseen.push(path),
            (PathState::Gone, Some(_)) => drop(self.wrong.insert(path, "is not there".into())),
            (PathState::There { .. }, None) => {
                drop(self.wrong.insert(path, "is still there".into()))
            }
            (PathState::There { inode, .. }, Some(object)) if inode != object.inode => {
                self.wrong.insert(path, "is another file".into());
            }
            _ => {}
        }
    }

    /// Compares a file's size, and its content with a checksum.
    fn content(&mut self, path: PathBuf, object: ObjectId, then: &PastContent, tree: &dyn Tree) {
        let PathState::There { inode, size } = tree.look(&path) else {
            return;
        };
        let (Some(size), true) = (size, inode == object.inode) else {
            return;
        };
        if let Some(want) = then.size.filter(|want| *want != size) {
            let message = format!("has {size} bytes instead of {want}");
            self.wrong.insert(path, message);
            return;
        }
        let mut is_whole = !then.was_changed;
        if let Some(saved) = &then.saved {
            let end = saved.offset.saturating_add(saved.length);
            match tree.sum(&path, saved.offset, saved.length) {
                Some(sum) if sum == saved.crc => is_whole = saved.offset == 0 && end >= size,
                Some(_) => {
                    self.wrong.insert(path, "has another content".into());
                    return;
                }
                None => is_whole = false,
            }
        }
        match is_whole || size == 0 {
            true => self.compared += 1,
            false if then.is_external => {
                let message = "was changed outside LoggerFS: how much of that is left is not known";
                self.wrong.insert(path, message.into());
            }
            false => self.unknown.push(path),
        }
    }
}

/// The state of the objects that differed, by the first newer lines.
fn objects_then(timeline: &Timeline, done: &Rewind<'_>) -> BTreeMap<ObjectId, PastContent> {
    let wanted: HashSet<ObjectId> = done.objects();
    let mut objects: BTreeMap<ObjectId, PastContent> = BTreeMap::new();
    for entry in since(timeline, done.cut()) {
        let Some(object) = entry.object.filter(|object| wanted.contains(object)) else {
            continue;
        };
        let line = entry.line();
        let then = objects.entry(object).or_default();
        // After a change outside LoggerFS, lines record the resulting size.
        then.size = then.size.or(line.size.filter(|_| !then.is_external));
        then.is_external |= line.op == Op::External;
        let is_revert = matches!(line.op, Op::Revert | Op::Redo);
        let is_content = line.op.changes_content_in_place() && (!is_revert || line.now.is_some());
        if is_content && !then.was_changed {
            then.was_changed = true;
            let restore = inverse(&line).ok().and_then(|inverse| inverse.restore);
            then.saved = restore.filter(is_plain);
        }
    }
    objects
}

/// Whether a payload is bytes of a file as they are, with nothing else.
fn is_plain(restore: &Restore) -> bool {
    restore.map.is_none() && restore.attributes == 0 && restore.length == restore.payload.length
}

/// Continues a CRC-32C, which begins with all ones, and ends inverted.
pub fn crc32c(state: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(state, |state, byte| {
        let index = (state ^ u32::from(*byte)) & 0xff;
        (state >> 8) ^ TABLE[index as usize]
    })
}

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            let low = value & 1;
            value >>= 1;
            if low != 0 {
                value ^= 0x82f6_3b78;
            }
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
}
