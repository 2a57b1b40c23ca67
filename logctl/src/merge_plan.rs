// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which files a revert with merges is about: files that chosen operations changed and others changed later.
//!
//! A file is a name in a directory, because programs save by giving the name to another object. The history of
//! the name is cut into runs: chosen operations without others in between. Each run changed one content of the
//! file into another one, which the kernel can read; the change is to be taken out of the file as it is now, the
//! newest run first.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::actions::is_on_names;
use crate::error::Error;
use crate::group::LeftOut;
use crate::past_tree::Identify;
use crate::paths::{PathState, Paths, Tree};
use crate::quote::decoded;
use crate::save::SaveUnits;
use crate::timeline::{Entry, Timeline};
use crate::uapi::Reason;
use loggerfs_log::line::Op;
use loggerfs_log::types::ObjectId;

/// Files with more runs are not merged.
const MOST_RUNS: usize = 64;

/// A name in a directory, as lines encode names.
type FileName = (ObjectId, Vec<u8>);

/// A content that a file had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileVersion {
    /// The object that had the name.
    pub object: ObjectId,
    /// The number of the line right after which it had the content.
    pub cut: u64,
}

/// Chosen operations without others in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergeRun {
    /// The file before them.
    pub before: FileVersion,
    /// The file after them.
    pub after: FileVersion,
}

/// A file to be merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergeFile {
    /// Where it is, relative to the root.
    pub path: PathBuf,
    /// Its object.
    pub object: ObjectId,
    /// The newest first.
    pub runs: Vec<MergeRun>,
    /// The chosen operations that the merge takes back, as indices into the timeline.
    pub operations: Vec<usize>,
}

/// Why a file is not merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhyNot {
    /// The chosen operations made it.
    Made,
    /// The chosen operations removed it.
    Removed,
    /// It is gone.
    Gone,
    /// It is elsewhere.
    Moved(PathBuf),
    /// A revert gave its name to another object, or one is to be taken back.
    Reverted,
    /// It was changed outside LoggerFS, or the machine stopped.
    External,
    /// Too many operations of others are in between.
    Mixed,
}

/// The files of a request.
#[derive(Debug, Default)]
pub struct MergePlan {
    /// Those that can be merged, by path.
    pub files: Vec<MergeFile>,
    /// Those that stay as they are: the path, the number of the line before the change, and why.
    pub left: Vec<(PathBuf, u64, WhyNot)>,
}

impl MergePlan {
    /// For chosen operations, of which the kernel left some out.
    pub fn of(
        timeline: &Timeline,
        chosen: &[usize],
        (left_out, units): (&LeftOut, &SaveUnits<'_>),
        (tree, identify): (&dyn Tree, Identify<'_>),
    ) -> Result<Self, Error> {
        let planner = Planner {
            timeline,
            chosen: chosen.iter().copied().collect(),
            units,
            history: NameHistory::of(timeline),
            paths: Paths::at(timeline, &timeline.live(&|_| false), u64::MAX, tree),
            tree,
            identify,
        };
        let mut plan = Self::default();
        for (name, is_left_out) in planner.candidates(left_out) {
            match planner.file(&name)? {
                Found::File(file) => plan.files.push(file),
                Found::Left(path, cut, why) if is_left_out => plan.left.push((path, cut, why)),
                Found::Left(..) | Found::Nothing => {}
            }
        }
        plan.files.sort_by(|one, other| one.path.cmp(&other.path));
        plan.files.dedup_by(|one, other| one.path == other.path);
        plan.left.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(plan)
    }
}

/// A line that gave a name to another object.
struct NameEvent {
    index: usize,
    before: Option<ObjectId>,
    after: Option<ObjectId>,
}

/// The lines of names and objects, the oldest first.
#[derive(Default)]
struct NameHistory {
    events: HashMap<FileName, Vec<NameEvent>>,
    /// The names that each object had.
    names: HashMap<ObjectId, BTreeSet<FileName>>,
    /// The lines of each object.
    chains: HashMap<ObjectId, Vec<usize>>,
}

impl NameHistory {
    fn of(timeline: &Timeline) -> Self {
        let mut history = Self::default();
        for (index, entry) in timeline.entries.iter().enumerate().rev() {
            if let Some(object) = entry.object.filter(|_| !timeline.is_cancelled(entry)) {
                history.chains.entry(object).or_default().push(index);
                history.note(index, entry);
            }
        }
        history
    }

    fn note(&mut self, index: usize, entry: &Entry) {
        if !is_on_names(entry.op) {
            return;
        }
        let line = entry.brief();
        let (node, over) = (line.node, line.over);
        let (first, second) = match line.op {
            Op::Unlink | Op::Rmdir => ((node, None), None),
            Op::Rename => ((node, None), Some((over, node))),
            Op::Exchange => ((node, over), Some((over, node))),
            _ => ((None, node), None),
        };
        let names = [
            (line.obj, line.name, Some(first)),
            (line.parent.or(line.obj), line.to, second),
        ];
        for (dir, name, change) in names {
            let (Some(dir), Some(name), Some((before, after))) = (dir, name, change) else {
                continue;
            };
            let name = (dir, name.to_vec());
            for object in [before, after].into_iter().flatten() {
                self.names.entry(object).or_default().insert(name.clone());
            }
            self.events.entry(name).or_default().push(NameEvent {
                index,
                before,
                after,
            });
        }
    }
}

/// What is known of a name.
enum Found {
    File(MergeFile),
    Left(PathBuf, u64, WhyNot),
    /// It is no file that both sides changed.
    Nothing,
}

struct Planner<'t> {
    timeline: &'t Timeline,
    chosen: HashSet<usize>,
    units: &'t SaveUnits<'t>,
    history: NameHistory,
    /// The present paths.
    paths: Paths,
    tree: &'t dyn Tree,
    identify: Identify<'t>,
}

impl Planner<'_> {
    /// The names that may be those of files to be merged; whether an operation on each was left out.
    fn candidates(&self, left_out: &LeftOut) -> BTreeMap<FileName, bool> {
        let lost = self.lost_to_others();
        let mut names = BTreeMap::new();
        for index in &self.chosen {
            let entry = &self.timeline.entries[*index];
            let conflict = left_out.get(&entry.seq);
            let is_left_out = conflict.is_some_and(|conflict| {
                Reason::from_code(conflict.reason) == Some(Reason::Conflict)
            });
            let mut add = |name: FileName| {
                *names.entry(name).or_insert(false) |= is_left_out;
            };
            if is_on_names(entry.op) {
                let bound = self.timeline.bindings(*index).filter(|_| is_left_out);
                bound.for_each(|((dir, name), _)| add((dir, name.to_vec())));
            } else if let Some(object) = entry.object {
                if is_left_out || lost.contains(&object) {
                    self.names_of(object).into_iter().for_each(add);
                }
            }
        }
        names
    }

    /// The objects that lost a name to operations that stay.
    fn lost_to_others(&self) -> HashSet<ObjectId> {
        let live = self.timeline.live(&|_| false);
        let others = live.iter().filter(|index| !self.chosen.contains(index));
        let lost = others.flat_map(|index| {
            let line = self.timeline.entries[*index].brief();
            match line.op {
                // Moved for a backup, or elsewhere.
                Op::Rename => [line.over, line.node.filter(|_| self.is_of_save(*index))],
                Op::Exchange => [line.node, line.over],
                Op::Unlink => [line.node, None],
                _ => [None, None],
            }
        });
        lost.flatten().collect()
    }

    fn is_of_save(&self, index: usize) -> bool {
        self.units.save_of(index).is_some()
    }

    /// Where an object is now.
    fn present_path(&self, object: ObjectId) -> Option<PathBuf> {
        let path = self.paths.of(object)?;
        let found = (self.identify)(&path).ok()?;
        (found == Some(object)).then_some(path)
    }

    /// The names that an object has, or had.
    fn names_of(&self, object: ObjectId) -> BTreeSet<FileName> {
        if let Some(names) = self.history.names.get(&object) {
            return names.clone();
        }
        // No line names it: it is where it was.
        let path = self.paths.of(object);
        let named = path.and_then(|path| {
            let (above, name) = (path.parent()?.to_owned(), path.file_name()?.to_owned());
            let dir = (self.identify)(&above).ok()??;
            Some((dir, crate::quote::encoded(name.as_bytes())))
        });
        named.into_iter().collect()
    }

    fn file(&self, name: &FileName) -> Result<Found, Error> {
        let Some(dir) = self.paths.of(name.0) else {
            return Ok(Found::Nothing);
        };
        let path = dir.join(OsStr::from_bytes(&decoded(&name.1)));
        let object = match self.tree.look(&path) {
            PathState::Gone => None,
            _ => (self.identify)(&path)?,
        };
        let events = self.history.events.get(name);
        let events = events.map_or(&[][..], Vec::as_slice);
        let lines = FileLines {
            planner: self,
            events,
            objects: events
                .iter()
                .flat_map(|event| [event.before, event.after])
                .chain([object])
                .flatten()
                .collect(),
        };
        Ok(lines.find(name.0, path, object))
    }
}

/// The lines about a file.
struct FileLines<'p> {
    planner: &'p Planner<'p>,
    events: &'p [NameEvent],
    /// The objects that had its name.
    objects: BTreeSet<ObjectId>,
}

impl FileLines<'_> {
    /// `object` has the name now.
    fn find(&self, dir: ObjectId, path: PathBuf, object: Option<ObjectId>) -> Found {
        let (timeline, planner) = (self.planner.timeline, self.planner);
        let mut changes = self.changes();
        let own = changes.iter().copied();
        let own: Vec<usize> = own.filter(|index| planner.chosen.contains(index)).collect();
        let Some(oldest) = own.first().copied() else {
            return Found::Nothing;
        };
        // Lower indices are newer.
        changes.retain(|index| *index <= oldest);
        if changes.iter().all(|index| planner.chosen.contains(index)) {
            return Found::Nothing;
        }
        let runs = self.runs(&changes, object);
        let before = timeline.entries[oldest].seq.saturating_sub(1);
        let left = |why| Found::Left(path.clone(), before, why);
        let Some((_, last)) = runs.last() else {
            return Found::Nothing;
        };
        let elsewhere = last.and_then(|last| planner.present_path(last.object));
        let elsewhere = elsewhere.filter(|elsewhere| *elsewhere != path);
        let Some(object) = object else {
            return left(elsewhere.map_or(WhyNot::Gone, WhyNot::Moved));
        };
        if let Some(elsewhere) = elsewhere.filter(|_| !self.is_replaced(&changes)) {
            return left(WhyNot::Moved(elsewhere));
        }
        if let Some(why) = self.obstacle(dir, &own, object) {
            return left(why);
        }
        let mut whole = Vec::new();
        for (before, after) in runs.iter().rev() {
            match (before, after) {
                (Some(before), Some(after)) => whole.push(MergeRun {
                    before: *before,
                    after: *after,
                }),
                (None, _) => return left(WhyNot::Made),
                (_, None) => return left(WhyNot::Removed),
            }
        }
        if whole.len() > MOST_RUNS {
            return left(WhyNot::Mixed);
        }
        Found::File(MergeFile {
            path,
            object,
            runs: whole,
            operations: self.with_saves(&own),
        })
    }

    /// The lines that changed the content of the file, live or not, the oldest first.
    fn changes(&self) -> Vec<usize> {
        let timeline = self.planner.timeline;
        let is_content = |index: &usize| {
            let op = timeline.entries[*index].op;
            !is_on_names(op) && !op.is_bookkeeping() && !op.changes_attributes()
        };
        let mut changes: Vec<usize> = self.events.iter().map(|event| event.index).collect();
        changes.extend(self.lines().filter(is_content));
        changes.sort_unstable_by_key(|index| std::cmp::Reverse(*index));
        changes.dedup();
        changes
    }

    /// All lines of its objects.
    fn lines(&self) -> impl Iterator<Item = usize> + '_ {
        let chains = &self.planner.history.chains;
        let chains = self.objects.iter().filter_map(|object| chains.get(object));
        chains.flatten().copied()
    }

    /// Whether saves of others, and no other operations of theirs, bound the name.
    fn is_replaced(&self, changes: &[usize]) -> bool {
        let planner = self.planner;
        let events = self.events.iter().map(|event| event.index);
        let mut others =
            events.filter(|index| changes.contains(index) && !planner.chosen.contains(index));
        others.all(|index| {
            let is_over = planner.timeline.entries[index].brief().over.is_some();
            is_over || planner.is_of_save(index)
        })
    }

    /// The versions before and after each run of these changes, the oldest first; `None`: nothing had the name.
    /// Runs in which nothing had it before and after are left out.
    fn runs(
        &self,
        changes: &[usize],
        object: Option<ObjectId>,
    ) -> Vec<(Option<FileVersion>, Option<FileVersion>)> {
        let timeline = self.planner.timeline;
        let newest = timeline.entries.first().map_or(0, |entry| entry.seq);
        let version =
            |object: Option<ObjectId>, cut| object.map(|object| FileVersion { object, cut });
        let begin = changes.first().copied().unwrap_or(0);
        let events = self.events.iter().filter(|event| event.index <= begin);
        let mut events = events.peekable();
        let first = events.peek().map_or(object, |event| event.before);
        let (mut bound, mut begun, mut runs) = (first, None, Vec::new());
        let mut end = |begun: &mut Option<Option<FileVersion>>, after| {
            let before = begun.take();
            runs.extend(before.map(|before| (before, after)));
        };
        for index in changes {
            let before = timeline.entries[*index].seq.saturating_sub(1);
            if !self.planner.chosen.contains(index) {
                end(&mut begun, version(bound, before));
            } else if begun.is_none() {
                begun = Some(version(bound, before));
            }
            if let Some(event) = events.next_if(|event| event.index == *index) {
                bound = event.after;
            }
        }
        end(&mut begun, version(bound, newest));
        runs.retain(|run| *run != (None, None));
        runs
    }

    /// Why the versions of the file are not known, if so.
    fn obstacle(&self, dir: ObjectId, own: &[usize], object: ObjectId) -> Option<WhyNot> {
        let timeline = self.planner.timeline;
        let oldest = own.first().copied().unwrap_or(0);
        let mut newer = self.lines().filter(|index| *index < oldest);
        if newer.any(|index| matches!(timeline.entries[index].op, Op::External | Op::Resync)) {
            return Some(WhyNot::External);
        }
        let is_revert = |index: &usize| timeline.entries[*index].group().is_some();
        let ours: HashSet<usize> = self.events.iter().map(|event| event.index).collect();
        let chain = self.planner.history.chains.get(&dir);
        let reverts = chain.into_iter().flatten().copied().filter(is_revert);
        let mut reverts = reverts.filter(|index| *index < oldest);
        // Lines of reverts do not say which names they bound.
        let mut names = reverts.any(|revert| {
            let reverted = timeline.reverted_operations(revert);
            reverted.iter().any(|index| ours.contains(index))
        });
        names |= (self.events.last()).is_some_and(|event| event.after != Some(object));
        (names || own.iter().any(is_revert)).then_some(WhyNot::Reverted)
    }

    /// The chosen operations of the file, and those of the saves that they are parts of.
    fn with_saves(&self, own: &[usize]) -> Vec<usize> {
        let units = self.planner.units;
        let saves: HashSet<usize> = own
            .iter()
            .filter_map(|index| units.save_of(*index))
            .collect();
        let mut all: BTreeSet<usize> = own.iter().copied().collect();
        let is_of_save = |index: &&usize| {
            let unit = units.save_of(**index);
            unit.is_some_and(|unit| saves.contains(&unit))
        };
        all.extend(self.planner.chosen.iter().filter(is_of_save));
        all.into_iter().collect()
    }
}
