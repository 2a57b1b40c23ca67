// SPDX-License-Identifier: MIT OR Apache-2.0

//! `undo` and `redo`: back and forth by actions.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::actions::{actions, visible, Action};
use crate::cli::{Options, Selection};
use crate::error::{Error, Refusal};
use crate::group::{ask, ask_searching, operations, GroupReply, LeftOut};
use crate::last_change::{concerns, last_change, LastChange};
use crate::output::Output;
use crate::paths::{Paths, Place};
use crate::quote::encoded;
use crate::save::displaced;
use crate::select::Related;
use crate::timeline::Timeline;
use crate::uapi::{Reason, RevertGroup};
use loggerfs_log::line::{Line, Op};
use loggerfs_log::plan::{RedoStep, RedoWalk};
use loggerfs_log::types::ObjectId;

use super::context::{named_operations, Context};
use super::log::{newest_matching, View};
use super::report::{refused, Report};
use super::revert::{flags, request};

/// So many actions are taken back without a question.
const UNASKED: usize = 10;

/// Takes back the newest actions of the mount, or of each of several paths, or the actions that words name.
pub fn undo(
    context: &mut Context<'_>,
    count: Option<u64>,
    words: &[PathBuf],
    options: Options,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let request_options = (options, RevertGroup::WALK, false);
    let mut staying = Vec::new();
    let is_named = words.iter().any(|word| named_operations(word).is_some());
    let (timeline, chosen) = match count {
        Some(_) if is_named => return Err(not_both()),
        None if is_named => named(context, words)?,
        _ => {
            let count = count.map_or(1, |count| usize::try_from(count).unwrap_or(usize::MAX));
            let found = newest(context, (count, words), options, &mut staying)?;
            let all = count.saturating_mul(words.len().max(1));
            if all > UNASKED && !options.dry_run {
                confirm(context, all)?;
            }
            found
        }
    };
    let mut chosen: Vec<usize> = chosen.into_iter().collect();
    chosen.sort_unstable();
    for seq in staying {
        output.say(format_args!(
            "The directory that op {seq} made is not empty: it stays."
        ));
    }
    request(context, "undo", timeline, &chosen, request_options, output)?;
    if !options.dry_run && !options.no_redo {
        output.hint("`logctl redo` takes the undo back.");
    }
    Ok(())
}

/// Asks whether so many actions are meant.
fn confirm(context: &Context<'_>, count: usize) -> Result<(), Error> {
    let question = format!("This takes {count} actions back. Go on?");
    if (context.confirm)(&question) {
        return Ok(());
    }
    let message = "not confirmed".to_owned();
    Err(Error::Nothing { message })
}

/// The error for a number of actions beside an action's number.
fn not_both() -> Error {
    let message = "-N counts the newest actions: it does not go with an operation's number".into();
    Error::Usage { message }
}

/// The operations of the actions that words name; with paths, those of them there.
fn named(
    context: &mut Context<'_>,
    words: &[PathBuf],
) -> Result<(Timeline, HashSet<usize>), Error> {
    let filter = context.filter(&Selection::default(), words)?;
    let timeline = context.whole()?;
    context.check_names(&timeline, &filter.places)?;
    let chosen = filter.choose(&timeline, context.tree);
    let chosen = chosen.map_err(|selection_error| context.selection_error(selection_error));
    // A number once counted.
    let number = words
        .first()
        .and_then(|word| word.to_str()?.parse::<u64>().ok());
    let chosen = chosen.map_err(|error| match (error, number) {
        (Error::Nothing { message }, Some(number)) => Error::Nothing {
            message: format!("{message} (`undo -{number}` counts actions)"),
        },
        (error, _) => error,
    })?;
    if chosen.entries.is_empty() {
        let message = "no live operation matches".to_owned();
        return Err(Error::Nothing { message });
    }
    Ok((timeline, chosen.entries.into_iter().collect()))
}

/// The operations of the newest actions of the mount, or of each of several paths.
fn newest(
    context: &mut Context<'_>,
    (count, paths): (usize, &[PathBuf]),
    options: Options,
    staying: &mut Vec<u64>,
) -> Result<(Timeline, HashSet<usize>), Error> {
    if paths.is_empty() {
        let me = context.me;
        let is_mine =
            |timeline: &Timeline, index: usize| timeline.concerns(&timeline.entries[index], me);
        let (mut timeline, found) = newest_matching(context, count, &is_mine)?;
        let has_reverts = |action: &Action| action.newest(&timeline).group().is_some();
        if found.iter().take(count).any(has_reverts) {
            // Operations that these reverts took back become live again, at any age.
            timeline = context.whole()?;
        }
        let mut choice = UndoSelection::new(&timeline, context.me);
        choice.newest_actions(count)?;
        let chosen = choice.chosen;
        without_staying(context, count, (timeline, chosen), options, staying)
    } else {
        let timeline = context.whole()?;
        let places = paths.iter().map(|path| context.place(path));
        context.check_names(&timeline, &places.collect::<Result<Vec<_>, _>>()?)?;
        let mut choice = UndoSelection::new(&timeline, context.me);
        for path in paths {
            for _ in 0..count {
                choice.last_done_to(path, context)?;
            }
        }
        let chosen = choice.chosen;
        Ok((timeline, chosen))
    }
}

/// Goes on to the next older action where all that was chosen are directories that were made and are not
/// empty, or no undo would ever get past them. Their numbers are added to `staying`.
fn without_staying(
    context: &mut Context<'_>,
    count: usize,
    (mut timeline, mut chosen): (Timeline, HashSet<usize>),
    options: Options,
    staying: &mut Vec<u64>,
) -> Result<(Timeline, HashSet<usize>), Error> {
    loop {
        let mut made: Vec<usize> = chosen.iter().copied().collect();
        made.sort_unstable();
        if made
            .iter()
            .any(|index| timeline.entries[*index].op != Op::Mkdir)
        {
            return Ok((timeline, chosen));
        }
        let asked = operations(&timeline, &made);
        let flags = flags(options, RevertGroup::WALK) | RevertGroup::DRY_RUN;
        let answer = ask(context.object, &asked, flags);
        let mut reasons = answer
            .conflicts
            .iter()
            .map(|found| Reason::from_code(found.reason));
        let is_full = reasons.all(|reason| reason == Some(Reason::NotEmpty));
        if answer.refused.is_none() || answer.conflicts.is_empty() || !is_full {
            return Ok((timeline, chosen));
        }
        let whole = context.whole()?;
        let mut numbers = staying.clone();
        numbers.extend(asked.iter().map(|operation| operation.seq));
        let mut choice = UndoSelection::new(&whole, context.me);
        choice.staying = numbers.iter().filter_map(|seq| whole.find(*seq)).collect();
        if choice.newest_actions(count).is_err() {
            // That one is refused, and says why.
            return Ok((timeline, chosen));
        }
        chosen = choice.chosen;
        timeline = whole;
        *staying = numbers;
    }
}

/// The operations chosen so far.
struct UndoSelection<'t> {
    timeline: &'t Timeline,
    /// The calling user; `None`: root.
    me: Option<u32>,
    chosen: HashSet<usize>,
    /// Operations that must not be chosen.
    staying: HashSet<usize>,
}

impl<'t> UndoSelection<'t> {
    fn new(timeline: &'t Timeline, me: Option<u32>) -> Self {
        Self {
            timeline,
            me,
            chosen: HashSet::new(),
            staying: HashSet::new(),
        }
    }

    /// The operations that remain live without the chosen ones.
    fn left(&self) -> Vec<usize> {
        let mut live = self.timeline.live(&|index| self.chosen.contains(&index));
        let is_left = |index: &usize| !self.chosen.contains(index) && !self.staying.contains(index);
        live.retain(is_left);
        live
    }

    /// The same, without operations of other users on other objects.
    fn own_left(&self) -> Vec<usize> {
        let mut left = self.left();
        let timeline = self.timeline;
        left.retain(|index| timeline.concerns(&timeline.entries[*index], self.me));
        left
    }

    /// Chooses the newest actions.
    fn newest_actions(&mut self, count: usize) -> Result<(), Error> {
        let mut left = count;
        while left != 0 {
            let found = visible(self.timeline, &self.own_left());
            if found.is_empty() {
                return Err(nothing(count, count - left));
            }
            for action in found {
                self.chosen.extend(&action.entries);
                left -= 1;
                // The operations that a revert took back become live again.
                if left == 0 || action.newest(self.timeline).group().is_some() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Chooses the last change of a path.
    fn last_done_to(&mut self, path: &Path, context: &Context<'_>) -> Result<(), Error> {
        // A symbolic link is followed: the user means its target.
        let real = path
            .is_symlink()
            .then(|| path.canonicalize().ok())
            .flatten();
        let place = context.place(real.as_deref().unwrap_or(path))?;
        let entries = if context.root.join(&place).is_dir() {
            self.of_directory(&place, context)
        } else {
            self.of_file(path, &place, context)?
        };
        if entries.is_empty() {
            return Err(refusal(path, Reason::NothingLeft, None));
        }
        self.chosen.extend(entries);
        Ok(())
    }

    /// The newest action in a directory, reduced to its part there.
    fn of_directory(&self, place: &Path, context: &Context<'_>) -> Vec<usize> {
        let left = self.own_left();
        let places = Paths::places(self.timeline, &left, context.tree);
        let was_placed = |own: &Place| {
            let then = [&own.path, &own.to];
            then.into_iter()
                .flatten()
                .any(|path| path.starts_with(place))
        };
        for action in actions(self.timeline, &left) {
            let with_place = |index: &usize| {
                let at = left.binary_search(index).ok()?;
                Some((*index, &places[at]))
            };
            let fitting: Vec<_> = action.entries.iter().filter_map(with_place).collect();
            let found = Related::of(self.timeline, &fitting, &was_placed);
            if !found.is_empty() {
                return found.into_iter().collect();
            }
        }
        Vec::new()
    }

    /// The last change of a file; a save may have renamed another file to its name.
    fn of_file(
        &self,
        path: &Path,
        place: &Path,
        context: &Context<'_>,
    ) -> Result<Vec<usize>, Error> {
        let left = self.left();
        let of = |id: Option<ObjectId>| -> Vec<usize> {
            let is_its = |index: &usize| id.is_some() && self.timeline.entries[*index].object == id;
            left.iter().copied().filter(is_its).collect()
        };
        let (parent, name) = (place.parent(), place.file_name());
        let (Some(parent), Some(name)) = (parent, name) else {
            return Ok(Vec::new());
        };
        let name = encoded(name.as_encoded_bytes());
        let directory = (context.identify)(parent)?.ok_or_else(|| Error::Open {
            path: context.root.join(parent),
            to_change: true,
            errno: Errno::NOENT,
        })?;
        let in_directory = of(Some(directory));
        let now = (context.identify)(place)?;
        let id = self.bound(directory, &name, &in_directory, now);
        let own = of(id);
        match last_change(self.timeline, &name, &own, &in_directory) {
            LastChange::File(count) => Ok(own[..count].to_vec()),
            LastChange::Directory(count) => {
                Ok(self.with_inside(in_directory[..count].to_vec(), &left))
            }
            LastChange::Blocked(op) => Err(refusal(path, Reason::Conflict, Some(op))),
            LastChange::Nothing => Ok(Vec::new()),
        }
    }

    /// The object that a name is bound to without the chosen operations.
    fn bound(
        &self,
        directory: ObjectId,
        name: &[u8],
        in_directory: &[usize],
        now: Option<ObjectId>,
    ) -> Option<ObjectId> {
        let line = |index: &usize| self.timeline.entries[*index].line();
        let concerns = |line: &Line<'_>| concerns(line, name);
        let mut gone: Vec<usize> = self.chosen.iter().copied().collect();
        gone.sort_unstable();
        let of_directory = |line: &Line<'_>| line.obj == Some(directory) && concerns(line);
        let oldest_gone = gone.iter().rev().map(line).find(of_directory);
        let Some(oldest) = oldest_gone else {
            return now;
        };
        if let Some(newest) = in_directory.iter().map(line).find(concerns) {
            return match newest.op {
                Op::Unlink | Op::Rmdir => None,
                Op::Rename if newest.to != Some(name) => None,
                Op::Exchange if newest.name == Some(name) => newest.over,
                _ => newest.node,
            };
        }
        match oldest.op {
            Op::Rename if oldest.to == Some(name) => oldest.over,
            Op::Exchange if oldest.to == Some(name) => oldest.over,
            Op::Unlink | Op::Rmdir | Op::Rename | Op::Exchange => oldest.node,
            _ => None,
        }
    }

    /// Adds the operations on files that go, and the removals by the same process in directories
    /// that come back.
    fn with_inside(&self, mut entries: Vec<usize>, left: &[usize]) -> Vec<usize> {
        let mut at = 0;
        while let Some(index) = entries.get(at).copied() {
            at += 1;
            let entry = &self.timeline.entries[index];
            let Some(node) = entry.line().node else {
                continue;
            };
            let its = left.iter().copied();
            let its = its.filter(|index| self.timeline.entries[*index].object == Some(node));
            let known: HashSet<usize> = entries.iter().copied().collect();
            match entry.op {
                Op::Create | Op::Mknod | Op::Symlink => {
                    entries.extend(its.filter(|index| !known.contains(index)));
                }
                Op::Rmdir => {
                    let by_same = |index: &usize| {
                        let other = &self.timeline.entries[*index];
                        matches!(other.op, Op::Unlink | Op::Rmdir)
                            && other.actor.process.is_some()
                            && other.actor.process == entry.actor.process
                    };
                    let inside = its.take_while(by_same);
                    entries.extend(inside.filter(|index| !known.contains(index)));
                }
                _ => {}
            }
        }
        entries
    }
}

fn refusal(path: &Path, reason: Reason, op: Option<u64>) -> Error {
    let path = path.to_owned();
    Error::Refused(Refusal { path, reason, op })
}

fn nothing(wanted: usize, found: usize) -> Error {
    let message = match (wanted, found) {
        (_, 0) => "nothing is left to undo".to_owned(),
        (_, 1) => "only one action is left to undo".to_owned(),
        _ => format!("only {found} actions are left to undo"),
    };
    Error::Nothing { message }
}

/// Takes the newest undos back, by one request.
pub fn redo(
    context: &mut Context<'_>,
    count: usize,
    options: Options,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let timeline = context.whole()?;
    let mut undos = undone(&timeline);
    let count = count.max(1);
    if undos.len() < count {
        let message = match undos.len() {
            0 => "there is no undo to be taken back".to_owned(),
            1 => "only one undo is left to be taken back".to_owned(),
            left => format!("only {left} undos are left to be taken back"),
        };
        return Err(Error::Nothing { message });
    }
    undos.truncate(count);
    let asked = operations(&timeline, &undos.concat());
    // Objects that the undo brought back may have been changed since.
    let blocked = displaced(&timeline, &undos.concat(), &HashSet::new());
    let answer = match blocked.is_empty() {
        true => {
            let known = (&timeline, context.tree);
            ask_searching(
                context.object,
                known,
                &asked,
                flags(options, RevertGroup::REDO),
            )
        }
        false => GroupReply::refusal(&blocked),
    };
    if answer.refused.is_some() {
        let total = asked.len();
        return Err(refused("redo", &timeline, total, &answer, context, output));
    }
    // In the order in which they come back.
    let done = |undo: &Vec<usize>| actions(&timeline, &reverted_operations(&timeline, undo));
    let actions = undos.iter().flat_map(done).collect();
    let report = Report {
        command: "redo",
        view: &View::new(timeline, actions, context),
        answer: &answer,
        left_out: &LeftOut::new(),
        options,
    };
    report.print(context, output)
}

/// The lines of each undo that was not taken back yet, the newest undo first.
fn undone(timeline: &Timeline) -> Vec<Vec<usize>> {
    let mut searches: HashMap<ObjectId, RedoWalk> = HashMap::new();
    let mut undos: Vec<(Option<u64>, Vec<usize>)> = Vec::new();
    for (index, entry) in timeline.entries.iter().enumerate() {
        let Some(object) = entry.object.filter(|_| entry.is_walk()) else {
            continue;
        };
        // Operations that followed an undo do not end the search: the kernel's refusal names the conflict.
        let search = searches.entry(object).or_default();
        if timeline.is_cancelled(entry) || search.step(&entry.line()) != RedoStep::Target {
            continue;
        }
        match undos.last_mut() {
            Some((group, lines)) if *group == entry.group() => lines.push(index),
            _ => undos.push((entry.group(), vec![index])),
        }
    }
    // An undo of which only changes to files without a name are left is no undo to take back.
    let is_seen = |index: &usize| !timeline.is_unnamed(&timeline.entries[*index]);
    let lines = undos.into_iter().map(|(_, lines)| lines);
    lines.filter(|lines| lines.iter().any(is_seen)).collect()
}

/// The operations that undos had taken back, the newest first.
fn reverted_operations(timeline: &Timeline, undos: &[usize]) -> Vec<usize> {
    let taken = undos
        .iter()
        .flat_map(|undo| timeline.reverted_operations(*undo));
    let taken: BTreeSet<usize> = taken.collect();
    taken.into_iter().collect()
}
