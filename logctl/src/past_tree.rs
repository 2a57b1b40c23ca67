// SPDX-License-Identifier: MIT OR Apache-2.0

//! The tree of names at a point: which object a path led to then.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::actions::is_on_names;
use crate::error::Error;
use crate::paths::{Paths, Tree};
use crate::quote::decoded;
use crate::timeline::{Entry, Timeline};
use loggerfs_log::line::{Line, Op};
use loggerfs_log::types::ObjectId;

/// Finds the object at a path relative to the root of the mount, as it is now; `None`: there is none.
pub type Identify<'i> = &'i dyn Fn(&Path) -> Result<Option<ObjectId>, Error>;

/// A name in a directory; the root has no object here.
type NameInDirectory = (Option<ObjectId>, Vec<u8>);

/// The tree right after a line.
pub struct PastTree<'t> {
    timeline: &'t Timeline,
    /// The number of the line.
    cut: u64,
    then: Vec<usize>,
    names: HashMap<NameInDirectory, Option<ObjectId>>,
    tree: &'t dyn Tree,
    identify: Identify<'t>,
    /// The paths of objects then and now.
    paths: OnceCell<Paths>,
    present: OnceCell<Paths>,
}

impl<'t> PastTree<'t> {
    /// The tree right after the line numbered `cut`; `u64::MAX`: now.
    pub fn new(
        timeline: &'t Timeline,
        cut: u64,
        tree: &'t dyn Tree,
        identify: Identify<'t>,
    ) -> Self {
        let then = timeline.live_before(cut.saturating_add(1));
        Self::of_live(timeline, (then, cut), tree, identify)
    }

    /// The tree in which these operations are live, the newest first. The line numbered `cut` is older than all
    /// that are not live in it and are now.
    pub fn of_live(
        timeline: &'t Timeline,
        (then, cut): (Vec<usize>, u64),
        tree: &'t dyn Tree,
        identify: Identify<'t>,
    ) -> Self {
        let root = tree.root();
        let bound = names_at(timeline, &then).names.into_iter();
        let names = bound.map(|((dir, name), node)| {
            let dir = Some(dir).filter(|dir| dir.inode != root);
            ((dir, decoded(&name)), node)
        });
        Self {
            timeline,
            cut,
            then,
            names: names.collect(),
            tree,
            identify,
            paths: OnceCell::new(),
            present: OnceCell::new(),
        }
    }

    /// The number of the line.
    pub fn cut(&self) -> u64 {
        self.cut
    }

    /// The object that a path led to; `None`: there was none.
    pub fn object(&self, path: &Path) -> Result<Option<ObjectId>, Error> {
        let mut at = None;
        let names = path.components().filter_map(|part| match part {
            Component::Normal(name) => Some(name),
            _ => None,
        });
        for name in names {
            let known = self.names.get(&(at, name.as_bytes().to_vec()));
            at = match known {
                Some(node) => *node,
                // No line is about this name: it is as it was.
                None => self.present_child(at, name)?,
            };
            if at.is_none() {
                return Ok(None);
            }
        }
        match at {
            Some(object) => Ok(Some(object)),
            None => (self.identify)(Path::new("")),
        }
    }

    /// The object that a name in a directory is bound to now.
    fn present_child(
        &self,
        dir: Option<ObjectId>,
        name: &OsStr,
    ) -> Result<Option<ObjectId>, Error> {
        let place = match dir {
            None => Some(PathBuf::new()),
            Some(dir) => self.present().of(dir),
        };
        match place {
            Some(place) => (self.identify)(&place.join(name)),
            None => Ok(None),
        }
    }

    /// Where an object was.
    pub fn path(&self, object: ObjectId) -> Option<PathBuf> {
        let paths =
            (self.paths).get_or_init(|| Paths::at(self.timeline, &self.then, self.cut, self.tree));
        paths.of(object)
    }

    /// The path of a name, as lines encode names, in a directory.
    pub fn path_of_name(&self, dir: ObjectId, name: &[u8]) -> Option<PathBuf> {
        Some(self.path(dir)?.join(OsStr::from_bytes(&decoded(name))))
    }

    fn present(&self) -> &Paths {
        self.present.get_or_init(|| {
            let live = self.timeline.live(&|_| false);
            Paths::at(self.timeline, &live, u64::MAX, self.tree)
        })
    }
}

/// The bindings of names at a point, as far as lines record them.
#[derive(Default)]
pub struct PastNames {
    /// The object of each name; `None`: the name was free.
    pub names: HashMap<(ObjectId, Vec<u8>), Option<ObjectId>>,
    /// The objects that had a name.
    named: HashSet<ObjectId>,
    /// Those that any line names.
    known: HashSet<ObjectId>,
}

impl PastNames {
    /// Whether an object had a name, as far as lines record.
    pub fn has(&self, object: ObjectId) -> bool {
        self.named.contains(&object) || !self.known.contains(&object)
    }

    fn note(&mut self, dir: ObjectId, name: Option<&[u8]>, node: Option<ObjectId>) {
        if let Some(name) = name {
            self.names.entry((dir, name.to_vec())).or_insert(node);
        }
    }
}

/// The bindings of names right after the line numbered `cut`, as far as lines record them. `then` lists the
/// operations that were live then, the newest first.
pub fn names_at(timeline: &Timeline, then: &[usize]) -> PastNames {
    let mut bound = PastNames::default();
    // The newest one of those that were live then.
    for index in then {
        let line = timeline.entries[*index].brief();
        let Some(dir) = line.obj else { continue };
        let other = line.parent.unwrap_or(dir);
        let (first, second) = match line.op {
            Op::Create | Op::Mkdir | Op::Mknod | Op::Symlink | Op::Link => (line.node, None),
            Op::Unlink | Op::Rmdir => (None, None),
            Op::Rename => (None, line.node),
            Op::Exchange => (line.over, line.node),
            _ => continue,
        };
        bound.note(dir, line.name, first);
        bound.note(other, line.to, second);
    }
    // Of a name that no operation live then is about, the first line records the state that it found: a newer
    // line, or an older one that was reverted by then.
    for entry in timeline.entries.iter().rev() {
        for (dir, name, node) in found_by(&entry.brief()) {
            bound.note(dir, Some(name), node);
        }
    }
    bound.named = bound.names.values().copied().flatten().collect();
    let lines = timeline
        .entries
        .iter()
        .filter(|entry| is_on_names(entry.op));
    let nodes = lines
        .map(|entry| entry.brief())
        .flat_map(|line| [line.node, line.over]);
    bound.known = nodes.flatten().collect();
    bound
}

/// The names that a line on names is about, each with the object that it was bound to before the line.
pub fn found_by<'l>(
    line: &Line<'l>,
) -> impl Iterator<Item = (ObjectId, &'l [u8], Option<ObjectId>)> {
    let node = match line.op {
        Op::Unlink | Op::Rmdir | Op::Rename | Op::Exchange => line.node,
        _ => None,
    };
    let other = line.parent.or(line.obj);
    let names = [(line.obj, line.name, node), (other, line.to, line.over)];
    let is_on_names = is_on_names(line.op);
    let known = move |(dir, name, node): (Option<ObjectId>, Option<&'l [u8]>, _)| {
        Some((dir.filter(|_| is_on_names)?, name?, node))
    };
    names.into_iter().filter_map(known)
}

/// The lines that are newer than the one numbered `cut`, the oldest first.
pub fn since(timeline: &Timeline, cut: u64) -> impl Iterator<Item = &Entry> {
    let end = timeline.entries.partition_point(|entry| entry.seq > cut);
    timeline.entries[..end].iter().rev()
}
