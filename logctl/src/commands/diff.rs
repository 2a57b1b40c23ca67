// SPDX-License-Identifier: MIT OR Apache-2.0

//! `diff`: compares the files of two points, or shows what one action changed.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::actions::{actions, is_on_names, visible};
use crate::cli::DiffOptions;
use crate::error::Error;
use crate::json::JsonObject;
use crate::old_content::{content, OldContent};
use crate::operation_spec::{action_of, of_run, OperationSpec};
use crate::output::Output;
use crate::past_tree::PastTree;
use crate::quote::word;
use crate::revision::Revision;
use crate::timeline::Timeline;
use loggerfs_log::line::Op;
use loggerfs_log::types::ObjectId;

use super::context::Context;
use super::point::cut;
use super::table::table;
use super::unified::{self, changed_lines};

/// Contents longer than this are not compared line by line.
const MOST: u64 = 16 << 20;

/// The comparison: the states after two lines, and the operations between them.
struct Span {
    from: u64,
    to: u64,
    /// The operations that count, as indices into the timeline.
    entries: Vec<usize>,
}

/// A file that differs.
pub struct FileChange {
    /// Its path before, and after; `None`: it was not there.
    pub old: Option<PathBuf>,
    /// As above.
    pub new: Option<PathBuf>,
    /// Its content before and after; `None`: it was not there, is no regular file, or is too long.
    pub texts: (Option<Vec<u8>>, Option<Vec<u8>>),
    /// Its size before and after.
    pub sizes: (u64, u64),
    /// Its permission bits before and after.
    pub modes: (Option<u32>, Option<u32>),
    /// Why one of both states cannot be read.
    pub unread: Option<String>,
    /// Whether a content is too long to be compared line by line: then it counts as different.
    pub is_long: bool,
}

/// Prints the differences.
pub fn run(
    context: &mut Context<'_>,
    words: &[PathBuf],
    options: &DiffOptions,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let timeline = context.whole()?;
    let (span, paths) = span(context, &timeline, words)?;
    let places = paths.iter().map(|path| context.place(path));
    let places = places.collect::<Result<Vec<_>, _>>()?;
    context.check_names(&timeline, &places)?;
    let mut changes = compare(context, &timeline, &span, None)?;
    let is_in = |path: &Option<PathBuf>| {
        let mut within = places.iter();
        path.as_ref()
            .is_some_and(|path| within.any(|place| path.starts_with(place)))
    };
    changes.retain(|change| places.is_empty() || is_in(&change.old) || is_in(&change.new));
    print(&changes, options, context, output)?;
    match changes.is_empty() || !options.exit_code {
        true => Ok(()),
        false => {
            output.finish()?;
            Err(Error::Differs)
        }
    }
}

/// Prints the differences that the action with a number made, in one file or in all. Without a timeline, all lines
/// are read.
pub fn of_number(
    context: &mut Context<'_>,
    timeline: Option<&Timeline>,
    (op, path): (u64, Option<&Path>),
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let whole = match timeline {
        Some(_) => None,
        None => Some(context.whole()?),
    };
    let Some(timeline) = timeline.or(whole.as_ref()) else {
        return Ok(());
    };
    let span = action_span(timeline, Revision::Op(op), &op.to_string())?;
    let changes = compare(context, timeline, &span, path)?;
    print(&changes, &DiffOptions::default(), context, output)
}

/// Prints the differences that the action with these operations made.
pub fn of_entries(
    context: &mut Context<'_>,
    timeline: &Timeline,
    entries: &[usize],
    options: &DiffOptions,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let Some(span) = Span::of(timeline, entries.to_vec()) else {
        return Ok(());
    };
    let changes = compare(context, timeline, &span, None)?;
    print(&changes, options, context, output)
}

/// The two states that the words mean, and the paths among them.
fn span<'w>(
    context: &Context<'_>,
    timeline: &Timeline,
    words: &'w [PathBuf],
) -> Result<(Span, &'w [PathBuf]), Error> {
    let newest_action = || Ok((action_span(timeline, Revision::Back(0), "@")?, words));
    let Some((first, rest)) = words.split_first() else {
        return newest_action();
    };
    let Some(text) = first.to_str().filter(|_| !first.exists()) else {
        return newest_action();
    };
    if let Some(OperationSpec::Run { mark, name }) = OperationSpec::parse(text) {
        return Ok((run_span(timeline, mark, &name)?, rest));
    }
    if let Some((from, to)) = text.split_once("..") {
        let span = range(context, timeline, (from, to))?;
        return Ok((span, rest));
    }
    match Revision::parse(text, &context.now) {
        Ok(revision @ Revision::At(_)) => {
            let from = cut(timeline, revision, text, context)?;
            Ok((Span::between(timeline, from, newest(timeline))?, rest))
        }
        Ok(revision) => Ok((action_span(timeline, revision, text)?, rest)),
        // A path, perhaps one that is gone.
        Err(_) => newest_action(),
    }
}

/// The span `A..B`; without a point, from the beginning of the history or to its end.
fn range(
    context: &Context<'_>,
    timeline: &Timeline,
    (from, to): (&str, &str),
) -> Result<Span, Error> {
    let point = |text: &str| {
        let revision = Revision::parse(text, &context.now);
        let revision = revision.map_err(|message| Error::Usage { message })?;
        cut(timeline, revision, text, context)
    };
    let beginning = (timeline.oldest_kept()).map_or(0, |oldest| oldest.seq.saturating_sub(1));
    let (from, to) = match (from, to) {
        ("", "") => {
            let message = "'..' has no point: A..B, A.. and ..B have".to_owned();
            return Err(Error::Usage { message });
        }
        ("", to) => (beginning, point(to)?),
        (from, "") => (point(from)?, newest(timeline)),
        (from, to) => (point(from)?, point(to)?),
    };
    Span::between(timeline, from, to)
}

fn newest(timeline: &Timeline) -> u64 {
    timeline.entries.first().map_or(0, |entry| entry.seq)
}

/// The states before and after a run, also one that is undone, and its operations.
fn run_span(timeline: &Timeline, mark: u64, name: &str) -> Result<Span, Error> {
    let mut entries = of_run(timeline, mark);
    let live = timeline.live(&|_| false);
    let is_live = |index: &usize| live.binary_search(index).is_ok();
    if entries.iter().any(is_live) {
        entries.retain(is_live);
    }
    Span::of(timeline, entries).ok_or_else(|| Error::Nothing {
        message: format!("no operation of the run '{name}' is in the log"),
    })
}

/// The states before and after one action, also one that is undone, and its operations.
fn action_span(timeline: &Timeline, revision: Revision, text: &str) -> Result<Span, Error> {
    let live = timeline.live(&|_| false);
    let entries = match revision {
        Revision::Back(back) => {
            let action = visible(timeline, &live).into_iter().nth(back);
            action.map_or_else(Vec::new, |action| action.entries)
        }
        Revision::Op(seq) => {
            let of =
                |entries: &[usize]| action_of(timeline, &actions(timeline, entries), seq).to_vec();
            let of_live = of(&live);
            if of_live.is_empty() {
                let is_change = |index: &usize| !timeline.entries[*index].op.is_bookkeeping();
                let all = (0..timeline.entries.len()).filter(is_change);
                of(&all.collect::<Vec<_>>())
            } else {
                of_live
            }
        }
        Revision::At(_) => Vec::new(),
    };
    Span::of(timeline, entries).ok_or_else(|| Error::Nothing {
        message: format!("no operation '{text}'"),
    })
}

impl Span {
    /// The states before and after these operations; `None`: there are none.
    fn of(timeline: &Timeline, entries: Vec<usize>) -> Option<Self> {
        let numbers = || entries.iter().map(|index| timeline.entries[*index].seq);
        let (oldest, to) = (numbers().min()?, numbers().max()?);
        Some(Self {
            from: oldest.saturating_sub(1),
            to,
            entries,
        })
    }

    fn between(timeline: &Timeline, from: u64, to: u64) -> Result<Self, Error> {
        if from > to {
            let message = format!("{from} is newer than {to}: the older point comes first");
            return Err(Error::Usage { message });
        }
        let is_between = |index: &usize| {
            let seq = timeline.entries[*index].seq;
            from < seq && seq <= to
        };
        Ok(Self {
            from,
            to,
            entries: (0..timeline.entries.len()).filter(is_between).collect(),
        })
    }
}

/// The files that differ between the two states, by path; `only`: no others are looked at.
fn compare(
    context: &mut Context<'_>,
    timeline: &Timeline,
    span: &Span,
    only: Option<&Path>,
) -> Result<Vec<FileChange>, Error> {
    let tree = context.tree;
    let identify = context.identify;
    let before = PastTree::new(timeline, span.from, tree, identify);
    let after = PastTree::new(timeline, span.to, tree, identify);
    let mut pairs: BTreeMap<PathBuf, (Option<ObjectId>, Option<ObjectId>)> = BTreeMap::new();
    let mut paths = touched(timeline, &span.entries, [&before, &after]);
    paths.retain(|path| only.is_none_or(|only| only == path));
    for path in paths {
        let pair = (before.object(&path)?, after.object(&path)?);
        if pair != (None, None) {
            pairs.insert(path, pair);
        }
    }
    let moved: HashSet<ObjectId> = {
        let gone = pairs.values().filter(|(_, new)| new.is_none());
        let gone: HashSet<ObjectId> = gone.filter_map(|(old, _)| *old).collect();
        let come = pairs.values().filter(|(old, _)| old.is_none());
        come.filter_map(|(_, new)| *new)
            .filter(|new| gone.contains(new))
            .collect()
    };
    let mut changes = Vec::new();
    for (path, (old, new)) in &pairs {
        if new.is_none() && old.is_some_and(|old| moved.contains(&old)) {
            // Shown at its new path.
            continue;
        }
        let (old_path, old) = match (old, new) {
            (None, Some(new)) if moved.contains(new) => {
                let from = pairs.iter().find(|(_, pair)| **pair == (Some(*new), None));
                (from.map(|(path, _)| path.clone()), Some(*new))
            }
            _ => (old.map(|_| path.clone()), *old),
        };
        let change = FileChange::read(
            context,
            (old_path, old, span.from),
            (new.map(|_| path.clone()), *new, span.to),
        )?;
        changes.extend(change.filter(FileChange::is_change));
    }
    Ok(changes)
}

/// The paths, in either state, that operations are about.
pub fn touched(
    timeline: &Timeline,
    entries: &[usize],
    trees: [&PastTree<'_>; 2],
) -> BTreeSet<PathBuf> {
    let mut paths = BTreeSet::new();
    let mut all: Vec<usize> = entries.to_vec();
    // What reverts took back, or brought back, is theirs.
    let mut at = 0;
    let mut seen: HashSet<usize> = all.iter().copied().collect();
    while let Some(index) = all.get(at).copied() {
        at += 1;
        if matches!(timeline.entries[index].op, Op::Revert | Op::Redo) {
            let reverted = timeline.reverted_operations(index).into_iter();
            all.extend(reverted.filter(|index| seen.insert(*index)));
        }
    }
    for index in all {
        let entry = &timeline.entries[index];
        let line = entry.line();
        for tree in trees {
            if !is_on_names(entry.op) {
                paths.extend(entry.object.and_then(|object| tree.path(object)));
                continue;
            }
            let other = line.parent.or(entry.object);
            for (dir, name) in [(entry.object, line.name), (other, line.to)] {
                if let (Some(dir), Some(name)) = (dir, name) {
                    paths.extend(tree.path_of_name(dir, name));
                }
            }
        }
    }
    paths
}

impl FileChange {
    /// Reads both states. `None`: neither is a file.
    fn read(
        context: &mut Context<'_>,
        (old, old_object, from): (Option<PathBuf>, Option<ObjectId>, u64),
        (new, new_object, to): (Option<PathBuf>, Option<ObjectId>, u64),
    ) -> Result<Option<Self>, Error> {
        let mut unread = None;
        let mut state = |path: &Option<PathBuf>, object: Option<ObjectId>, cut: u64| {
            let (Some(path), Some(object)) = (path, object) else {
                return Ok(None);
            };
            match content(context.object, object, cut, path) {
                Ok(state) => Ok(Some(state)),
                // One file that cannot be read hides no other.
                Err(error @ Error::OldContent(_)) => {
                    unread = Some(error.to_string());
                    Ok(None)
                }
                Err(error) => Err(error),
            }
        };
        let mut states = (state(&old, old_object, from)?, state(&new, new_object, to)?);
        let is_directory =
            |state: &Option<OldContent>| state.as_ref().is_some_and(OldContent::is_directory);
        if is_directory(&states.0) || is_directory(&states.1) {
            return Ok(None);
        }
        let text = |state: &mut Option<OldContent>| match state {
            Some(state) => state.bytes(MOST).map_err(Error::Output),
            None => Ok(None),
        };
        let size = |state: &Option<OldContent>| state.as_ref().map_or(0, |state| state.size);
        let mode = |state: &Option<OldContent>| Some(state.as_ref()?.access?.mode);
        let is_long = size(&states.0) > MOST || size(&states.1) > MOST;
        Ok(Some(Self {
            is_long,
            sizes: (size(&states.0), size(&states.1)),
            modes: (mode(&states.0), mode(&states.1)),
            texts: (text(&mut states.0)?, text(&mut states.1)?),
            old,
            new,
            unread,
        }))
    }

    /// Whether anything differs.
    fn is_change(&self) -> bool {
        self.unread.is_some()
            || self.is_long
            || self.old != self.new
            || self.modes != (self.modes.1, self.modes.1)
            || self.sizes != (self.sizes.1, self.sizes.1)
            || self.texts.0 != self.texts.1
    }

    /// The path that it is called by.
    pub fn path(&self) -> &Path {
        let path = self.new.as_ref().or(self.old.as_ref());
        path.map_or(Path::new(""), PathBuf::as_path)
    }

    /// The sign of the change, as in the log.
    pub fn sign(&self) -> &'static str {
        match (&self.old, &self.new) {
            (None, _) => "+",
            (_, None) => "-",
            (old, new) if old != new => ">",
            _ => "~",
        }
    }

    /// How many lines were added and removed; `None`: it is not text.
    pub fn lines(&self) -> Option<(usize, usize)> {
        let empty = Vec::new();
        let side =
            |path: &Option<PathBuf>, text: &'_ Option<Vec<u8>>| path.is_some() && text.is_none();
        if side(&self.old, &self.texts.0) || side(&self.new, &self.texts.1) {
            return None;
        }
        let (old, new) = (&self.texts.0, &self.texts.1);
        changed_lines(
            old.as_ref().unwrap_or(&empty),
            new.as_ref().unwrap_or(&empty),
        )
    }
}

fn print(
    changes: &[FileChange],
    options: &DiffOptions,
    context: &Context<'_>,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    if output.json {
        for change in changes {
            output.object(&json(change, options, context)?)?;
        }
        return Ok(());
    }
    if options.name_only {
        for change in changes {
            match options.null {
                true => output.name(change.path())?,
                false => output.text(&format!("{}\n", word(change.path())))?,
            }
        }
        return Ok(());
    }
    if options.stat {
        return print_stat(changes, output);
    }
    for change in changes {
        unified::print(change, options.word, output)?;
    }
    Ok(())
}

fn print_stat(changes: &[FileChange], output: &mut Output<'_>) -> Result<(), Error> {
    let rows: Vec<[String; 3]> = changes
        .iter()
        .map(|change| {
            let path = match (&change.old, &change.new) {
                (Some(old), Some(new)) if old != new => format!("{} -> {}", word(old), word(new)),
                _ => word(change.path()),
            };
            let lines = match change.lines() {
                Some((added, removed)) => format!("+{added} -{removed}"),
                None if change.unread.is_some() => "cannot be read".into(),
                None => format!("{} -> {} bytes", change.sizes.0, change.sizes.1),
            };
            [change.sign().to_owned(), path, lines]
        })
        .collect();
    output.text(&table(&rows))
}

fn json(change: &FileChange, options: &DiffOptions, context: &Context<'_>) -> Result<Value, Error> {
    let mut object = JsonObject::new("diff", &context.root.join(change.path()));
    object.put("change", change.sign());
    if let (Some(old), true) = (&change.old, change.old != change.new) {
        let old = context.root.join(old);
        object.put_bytes("old_path", old.as_os_str().as_bytes());
    }
    object
        .put_known("old_size", change.old.as_ref().map(|_| change.sizes.0))
        .put_known("size", change.new.as_ref().map(|_| change.sizes.1))
        .put_known("old_mode", change.modes.0)
        .put_known("mode", change.modes.1);
    match change.lines() {
        Some((added, removed)) => object.put("added", added).put("removed", removed),
        None => object.put("binary", change.unread.is_none()),
    };
    object.put_known("unread", change.unread.as_deref());
    if !options.stat && !options.name_only && change.unread.is_none() {
        if let Some(patch) = unified::patch(change).map_err(Error::Output)? {
            object.put_bytes("patch", &patch);
        }
    }
    Ok(object.into_value())
}
