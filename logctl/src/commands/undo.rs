// SPDX-License-Identifier: MIT OR Apache-2.0

//! `undo`: takes actions back.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::actions::{actions, is_on_names, is_settled, nanoseconds, visible, Action, JOINED};
use crate::cli::{Options, Selection};
use crate::describe::{action_command, count as count_of};
use crate::error::{Error, Refusal};
use crate::group::{ask, operations};
use crate::housekeeping::Housekeeping;
use crate::json::remark;
use crate::last_change::last_change;
use crate::output::Output;
use crate::paths::Tree;
use crate::session::Session;
use crate::timeline::Timeline;
use crate::uapi::{Reason, RevertGroup};
use loggerfs_log::line::{Op, Process};
use loggerfs_log::types::ObjectId;

use super::context::{named_operations, Context};
use super::log::newest_matching;
use super::merge;
use super::revert::{flags, request};
use super::revert_out;

/// So many actions are taken back without a question.
const UNASKED: usize = 10;

/// The actions that an undo is about.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'w> {
    /// How many of the newest.
    pub count: Option<u64>,
    /// Of all sessions.
    pub any: bool,
    /// Whether files that were changed later are merged.
    pub merge: bool,
    /// Paths, and operations of actions.
    pub words: &'w [PathBuf],
    /// Where copies are written instead.
    pub out: Option<&'w Path>,
}

/// Takes back the newest actions of this session, or of each of several paths, or the actions that words name.
pub fn undo(
    context: &mut Context<'_>,
    wanted: Wanted<'_>,
    options: Options,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let Wanted {
        count,
        any,
        merge,
        words,
        out,
    } = wanted;
    let request_options = (options, RevertGroup::WALK, false);
    let is_named = words.iter().any(|word| named_operations(word).is_some());
    let (timeline, chosen) = match count {
        Some(_) if is_named => return Err(not_both()),
        None if is_named => {
            let (timeline, entries) = named(context, words)?;
            (timeline, Chosen::of(entries))
        }
        _ => {
            let count = count.map_or(1, |count| usize::try_from(count).unwrap_or(usize::MAX));
            let session = context.session.filter(|_| !any && words.is_empty());
            let found = newest(context, (count, words), session, options)?;
            let all = count.saturating_mul(words.len().max(1));
            if all > UNASKED && !options.dry_run && out.is_none() {
                confirm(context, all)?;
            }
            found
        }
    };
    let mut entries: Vec<usize> = chosen.entries.into_iter().collect();
    entries.sort_unstable();
    let timeline = match merge && !timeline.is_whole() {
        // A file is merged by all lines about its name.
        true => whole(context, &timeline, &mut entries)?,
        false => timeline,
    };
    for seq in chosen.staying {
        let message = format!("The directory that op {seq} made is not empty: it stays.");
        output.say(&message);
        if output.json {
            let mut note = remark("NotEmpty", &context.root, &message);
            note.put("command", "undo").put("op", seq);
            output.object(&note.into_value())?;
        }
    }
    if let Some(out) = out {
        let chosen = (&entries[..], RevertGroup::WALK);
        return revert_out::run(context, "undo", &timeline, chosen, (out, merge), output);
    }
    let reverted = match merge {
        true => {
            merge::request(context, "undo", timeline, &entries, options, output)?;
            0
        }
        false => request(context, "undo", timeline, &entries, request_options, output)?.actions,
    };
    if chosen.passed != 0 {
        let newer = count_of(chosen.passed, "newer action is", "newer actions are");
        let message =
            format!("{newer} of other sessions: `logctl undo --any` takes the newest of all.");
        output.say(&message);
        if output.json {
            let mut note = remark("OtherSessions", &context.root, &message);
            note.put("command", "undo").put("actions", chosen.passed);
            output.object(&note.into_value())?;
        }
    }
    if !options.dry_run && !options.no_redo && !merge {
        output.hint(&match reverted {
            ..=1 => "`logctl redo` takes the undo back.".to_owned(),
            several => format!("`logctl redo -{several}` takes the undo back."),
        });
    }
    Ok(())
}

/// All lines; entries of a part are those of the whole then.
fn whole(
    context: &mut Context<'_>,
    part: &Timeline,
    entries: &mut Vec<usize>,
) -> Result<Timeline, Error> {
    let whole = context.whole()?;
    let found = entries
        .iter()
        .filter_map(|index| whole.find(part.entries[*index].seq));
    *entries = found.collect();
    Ok(whole)
}

/// The operations to be taken back.
struct Chosen {
    entries: HashSet<usize>,
    /// The numbers of operations that were passed over: the directories that they made are not empty.
    staying: Vec<u64>,
    /// The number of newer actions of other sessions.
    passed: usize,
}

impl Chosen {
    fn of(entries: HashSet<usize>) -> Self {
        Self {
            entries,
            staying: Vec::new(),
            passed: 0,
        }
    }
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

/// The operations of the newest actions of the session, or of each of several paths.
fn newest(
    context: &mut Context<'_>,
    (count, paths): (usize, &[PathBuf]),
    session: Option<Session>,
    options: Options,
) -> Result<(Timeline, Chosen), Error> {
    if !paths.is_empty() {
        return newest_at(context, count, paths);
    }
    let me = context.me;
    let is_mine =
        |timeline: &Timeline, index: usize| timeline.concerns(&timeline.entries[index], me);
    let is_own = |timeline: &Timeline, action: &Action| {
        session.is_none_or(|session| session.did(timeline, action))
    };
    let (mut timeline, found) = newest_matching(context, count, true, &is_mine, &is_own)?;
    let has_reverts = |action: &Action| action.has_reverts(&timeline);
    if found.iter().take(count).any(has_reverts) {
        // Operations that these reverts took back become live again, at any age.
        timeline = context.whole()?;
    }
    let mut choice = UndoSelection::new(&timeline, me, session);
    choice.newest_actions(count)?;
    let chosen = choice.into_chosen(Vec::new());
    without_staying(context, count, (timeline, chosen), session, options)
}

/// The operations of the last changes of each of several paths. Reads only as much of the history as they need,
/// unless one is a directory, below which anything may have been changed.
fn newest_at(
    context: &mut Context<'_>,
    count: usize,
    paths: &[PathBuf],
) -> Result<(Timeline, Chosen), Error> {
    let places = paths.iter().map(|path| context.place(path));
    let places = places.collect::<Result<Vec<_>, _>>()?;
    let mut is_directory = places.iter().map(|place| context.root.join(place).is_dir());
    let mut timeline = match is_directory.any(|is_directory| is_directory) {
        true => context.whole()?,
        false => Timeline::of_user(context.me),
    };
    loop {
        let extended = timeline.extend_further(context.object);
        extended.map_err(|errno| context.unread(errno))?;
        if timeline.is_whole() {
            context.check_names(&timeline, &places)?;
        }
        let chosen = last_changes(&timeline, count, paths, context);
        if timeline.is_whole() {
            return Ok((timeline, Chosen::of(chosen?)));
        }
        match chosen {
            Ok(entries) if is_certain(&timeline, &entries) => {
                return Ok((timeline, Chosen::of(entries)));
            }
            // What is missing may be older.
            Ok(_) | Err(Error::Refused(_)) => {}
            Err(error) => return Err(error),
        }
    }
}

/// The operations of the last changes of each path, of what was read.
fn last_changes(
    timeline: &Timeline,
    count: usize,
    paths: &[PathBuf],
    context: &Context<'_>,
) -> Result<HashSet<usize>, Error> {
    let mut choice = UndoSelection::new(timeline, context.me, None);
    for path in paths {
        for _ in 0..count {
            choice.last_done_to(path, context)?;
        }
    }
    Ok(choice.chosen)
}

/// Whether no operation that was not read belongs to the chosen ones: older steps of a save are by the process
/// that did the later ones. What a revert took back may be of any age.
fn is_certain(timeline: &Timeline, chosen: &HashSet<usize>) -> bool {
    let Some(end) = timeline.entries.last() else {
        return false;
    };
    let mut entries: Vec<usize> = chosen.iter().copied().collect();
    entries.sort_unstable();
    let has_all_steps = |index: &usize| {
        let entry = &timeline.entries[*index];
        let is_younger =
            |process: Process| nanoseconds(process.start) - nanoseconds(end.time) > JOINED;
        entry.group().is_none()
            && (!is_on_names(entry.op) || entry.actor.process.is_some_and(is_younger))
    };
    let actions = actions(timeline, &entries);
    entries.iter().all(has_all_steps) && actions.iter().all(|action| is_settled(timeline, action))
}

/// Goes on to the next older action where all that was chosen are directories that were made and are not
/// empty, or no undo would ever get past them.
fn without_staying(
    context: &mut Context<'_>,
    count: usize,
    (mut timeline, mut chosen): (Timeline, Chosen),
    session: Option<Session>,
    options: Options,
) -> Result<(Timeline, Chosen), Error> {
    loop {
        let mut made: Vec<usize> = chosen.entries.iter().copied().collect();
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
        let mut numbers = chosen.staying.clone();
        numbers.extend(asked.iter().map(|operation| operation.seq));
        let mut choice = UndoSelection::new(&whole, context.me, session);
        choice.staying = numbers.iter().filter_map(|seq| whole.find(*seq)).collect();
        if choice.newest_actions(count).is_err() {
            // That one is refused, and says why.
            return Ok((timeline, chosen));
        }
        chosen = choice.into_chosen(numbers);
        timeline = whole;
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
    /// Whose actions are meant; `None`: those of all sessions.
    session: Option<Session>,
    /// The number of newer actions of other sessions.
    passed: usize,
    /// Actions that did nothing else are passed over.
    housekeeping: Housekeeping,
}

impl<'t> UndoSelection<'t> {
    fn new(timeline: &'t Timeline, me: Option<u32>, session: Option<Session>) -> Self {
        Self {
            timeline,
            me,
            chosen: HashSet::new(),
            staying: HashSet::new(),
            session,
            passed: 0,
            housekeeping: Housekeeping::of(timeline),
        }
    }

    fn into_chosen(self, staying: Vec<u64>) -> Chosen {
        Chosen {
            entries: self.chosen,
            staying,
            passed: self.passed,
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

    /// Chooses the newest actions, of the session if there is one.
    fn newest_actions(&mut self, count: usize) -> Result<(), Error> {
        let mut left = count;
        while left != 0 {
            let mut all = visible(self.timeline, &self.own_left());
            all.retain(|action| !self.housekeeping.is_all_of(self.timeline, action));
            let Some(first) = all.iter().position(|action| self.is_of_session(action)) else {
                let newest = all.first().filter(|_| left == count);
                return Err(self.nothing(count, count - left, newest));
            };
            if self.chosen.is_empty() {
                self.passed = first;
            }
            let found: Vec<Action> = all
                .into_iter()
                .skip(first)
                .filter(|action| self.is_of_session(action))
                .collect();
            for action in found {
                self.chosen.extend(&action.entries);
                left -= 1;
                // The operations that a revert took back become live again.
                if left == 0 || action.has_reverts(self.timeline) {
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
        let now = (context.identify)(&place)?;
        let at = (&*place, now);
        let entries = if context.root.join(&place).is_dir() {
            last_change(self.timeline, &self.own_left(), at, context.tree)
        } else {
            // The rest of the tree need not be searched.
            let tree = Nearby::of(at, context);
            last_change(self.timeline, &self.left(), at, &tree)
        };
        if entries.is_empty() {
            let (path, reason, op) = (path.to_owned(), Reason::NothingLeft, None);
            return Err(Error::Refused(Refusal { path, reason, op }));
        }
        self.chosen.extend(entries);
        Ok(())
    }

    fn is_of_session(&self, action: &Action) -> bool {
        (self.session).is_none_or(|session| session.did(self.timeline, action))
    }

    /// The error for too few actions. `newest`: that of all sessions.
    fn nothing(&self, wanted: usize, found: usize, newest: Option<&Action>) -> Error {
        match (self.session, newest) {
            (Some(_), Some(newest)) => Error::NotOfSession {
                command: action_command(self.timeline, newest),
                op: newest.newest(self.timeline).seq,
            },
            _ => nothing(wanted, found),
        }
    }
}

/// A path and the directories above it, which are found without a search.
struct Nearby {
    root: u64,
    paths: HashMap<u64, PathBuf>,
}

impl Nearby {
    fn of((place, now): (&Path, Option<ObjectId>), context: &Context<'_>) -> Self {
        let mut paths = HashMap::new();
        paths.extend(now.map(|object| (object.inode, place.to_owned())));
        for path in place.ancestors().skip(1) {
            // A directory that may only be passed has lines that this user cannot read.
            if let Ok(Some(object)) = (context.identify)(path) {
                paths.insert(object.inode, path.to_owned());
            }
        }
        let root = context.tree.root();
        Self { root, paths }
    }
}

impl Tree for Nearby {
    fn root(&self) -> u64 {
        self.root
    }

    fn find(&self, wanted: &HashSet<u64>) -> HashMap<u64, PathBuf> {
        let known = self.paths.iter();
        let known = known.filter(|(inode, _)| wanted.contains(inode));
        known.map(|(inode, path)| (*inode, path.clone())).collect()
    }
}

fn nothing(wanted: usize, found: usize) -> Error {
    let message = match (wanted, found) {
        (_, 0) => "nothing is left to undo".to_owned(),
        (_, 1) => "only one action is left to undo".to_owned(),
        _ => format!("only {found} actions are left to undo"),
    };
    Error::Nothing { message }
}
