// SPDX-License-Identifier: MIT OR Apache-2.0

//! `revert SELECTION` and `restore`: one request takes the chosen operations back, as an operation of its
//! own.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::actions::{actions, visible};
use crate::cli::{Options, Selection};
use crate::describe::count;
use crate::error::{Error, Refusal};
use crate::group::{ask_partly, ask_searching, operations, GroupReply, LeftOut};
use crate::json::JsonObject;
use crate::operation_spec::OperationSpec;
use crate::output::Output;
use crate::paths::PathState;
use crate::process::name;
use crate::quote::quoted;
use crate::revision::Revision;
use crate::rewind::Rewind;
use crate::save::{displaced, SaveUnits};
use crate::select::SelectedOperations;
use crate::timeline::Timeline;
use crate::uapi::{Conflict, Operation, Reason, RevertGroup};
use crate::verify::{verify, Comparison};

use super::context::{named_operations, Context};
use super::log::warn_uncertain;
use super::merge;
use super::point::{cut, described};
use super::report::{refused, Report};
use super::revert_out;
use super::view::View;

/// The flags of a request.
pub fn flags(options: Options, more: u32) -> u32 {
    let force = if options.force { RevertGroup::FORCE } else { 0 };
    let dry_run = if options.dry_run {
        RevertGroup::DRY_RUN
    } else {
        0
    };
    let no_redo = if options.no_redo {
        RevertGroup::NO_REDO
    } else {
        0
    };
    force | dry_run | no_redo | more
}

/// The treatment of operations that later ones conflict with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnConflict {
    /// Nothing is taken back.
    Refuse,
    /// They are left out.
    LeaveOut,
    /// Text files are merged, others are left out.
    Merge,
}

/// The result of a request.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// Whether an operation was taken back, or would be.
    pub is_changed: bool,
    /// The number of actions of which operations were taken back.
    pub actions: usize,
}

/// Sends the request for the chosen operations, and prints the report.
pub fn request(
    context: &mut Context<'_>,
    command: &'static str,
    timeline: Timeline,
    chosen: &[usize],
    (options, more, partial): (Options, u32, bool),
    output: &mut Output<'_>,
) -> Result<Done, Error> {
    let (answer, done, left_out) = if partial {
        ask_for_some(
            context,
            command,
            &timeline,
            chosen,
            flags(options, more),
            output,
        )?
    } else {
        let answer = plan(context, command, &timeline, chosen, (options, more), output)?;
        (answer, operations(&timeline, chosen), LeftOut::new())
    };
    let done: HashSet<u64> = done.iter().map(|operation| operation.seq).collect();
    let mut kept: Vec<usize> = chosen.to_vec();
    let staying: HashSet<u64> = (answer.staying.iter()).map(|note| note.seq).collect();
    kept.retain(|index| {
        let seq = timeline.entries[*index].seq;
        done.contains(&seq) && !staying.contains(&seq)
    });
    kept.sort_unstable();
    let actions = match answer.reply.left_out {
        0 => actions(&timeline, &kept),
        _ => visible(&timeline, &kept),
    };
    let report = Report {
        command,
        view: &View::new(timeline, actions, context),
        answer: &answer,
        left_out: &left_out,
        options,
    };
    report.print(context, output)?;
    Ok(Done {
        is_changed: answer.reply.reverted != 0,
        actions: report.view.actions.len(),
    })
}

/// The kernel's answer to the request for all chosen operations, which is not refused.
pub fn plan(
    context: &mut Context<'_>,
    command: &'static str,
    timeline: &Timeline,
    chosen: &[usize],
    (options, more): (Options, u32),
    output: &mut Output<'_>,
) -> Result<GroupReply, Error> {
    let asked = asked(timeline, chosen)?;
    let live = timeline.live(&|index| chosen.binary_search(&index).is_ok());
    let blocked = blocked(timeline, &SaveUnits::of(timeline, &live), chosen);
    let answer = if blocked.is_empty() {
        let (known, flags) = ((timeline, context.tree), flags(options, more));
        ask_searching(context.object, known, &asked, flags)
    } else {
        GroupReply::refusal(&blocked)
    };
    match answer.refused {
        None => Ok(answer),
        Some(_) => Err(refused(
            command,
            timeline,
            asked.len(),
            &answer,
            context,
            output,
        )),
    }
}

/// The same for as many of them as possible, with those that were done and those that were left out.
fn ask_for_some(
    context: &mut Context<'_>,
    command: &'static str,
    timeline: &Timeline,
    chosen: &[usize],
    flags: u32,
    output: &mut Output<'_>,
) -> Result<(GroupReply, Vec<Operation>, LeftOut), Error> {
    let asked = asked(timeline, chosen)?;
    let total = asked.len();
    let live = timeline.live(&|index| chosen.binary_search(&index).is_ok());
    let units = SaveUnits::of(timeline, &live);
    let blocked = blocked(timeline, &units, chosen);
    let (known, all) = ((timeline, context.tree), (asked, &blocked[..]));
    let (answer, done, left_out) = ask_partly(context.object, known, &units, all, flags);
    match answer.refused {
        None => Ok((answer, done, left_out)),
        Some(_) => Err(refused(command, timeline, total, &answer, context, output)),
    }
}

/// The request's operations, the newest first, unless there are too many.
pub fn asked(timeline: &Timeline, chosen: &[usize]) -> Result<Vec<Operation>, Error> {
    let asked = operations(timeline, chosen);
    let total = asked.len();
    if u64::try_from(total).unwrap_or(u64::MAX) > RevertGroup::MOST {
        let message = format!("{total} operations are more than one request takes");
        return Err(Error::Nothing { message });
    }
    Ok(asked)
}

/// The conflicts that the kernel does not report for a single operation.
pub fn blocked(timeline: &Timeline, units: &SaveUnits<'_>, chosen: &[usize]) -> Vec<Conflict> {
    let is_revert = |index: &usize| timeline.entries[*index].group().is_some();
    let reverts: Vec<usize> = chosen.iter().copied().filter(is_revert).collect();
    let chosen: HashSet<usize> = chosen.iter().copied().collect();
    let mut blocked = units.blocked(&chosen);
    blocked.extend(displaced(timeline, &reverts, &chosen));
    blocked
}

/// The operations of a selection, at least one.
fn choose(
    context: &mut Context<'_>,
    words: &[PathBuf],
    selection: &Selection,
    output: &mut Output<'_>,
) -> Result<(Timeline, SelectedOperations), Error> {
    let filter = context.filter(selection, words)?;
    let timeline = context.whole()?;
    context.check_names(&timeline, &filter.places)?;
    let chosen = filter.choose(&timeline, context.tree);
    let chosen = chosen.map_err(|selection_error| context.selection_error(selection_error))?;
    if chosen.entries.is_empty() {
        warn_uncertain(&chosen.uncertain, "were not taken back", context, output)?;
        let message = "no live operation matches".to_owned();
        return Err(Error::Nothing { message });
    }
    Ok((timeline, chosen))
}

/// Writes copies of files as they would be without the operations of a selection. `out`: the directory, and
/// whether files that were changed later are merged.
pub fn revert_out(
    context: &mut Context<'_>,
    words: &[PathBuf],
    selection: &Selection,
    out: (&Path, bool),
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let (timeline, chosen) = choose(context, words, selection, output)?;
    warn_uncertain(&chosen.uncertain, "were not taken back", context, output)?;
    let chosen = (&chosen.entries[..], 0);
    revert_out::run(context, "revert", &timeline, chosen, out, output)
}

/// Writes copies of files as they would be without the newest operations of each.
pub fn newest_out(
    context: &mut Context<'_>,
    files: &[PathBuf],
    count: u64,
    out: &Path,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    if let Some(dir) = files.iter().find(|file| file.is_dir()) {
        let dir = quoted(dir);
        let message =
            format!("{dir} is a directory: choose its operations, `--last 1` for example");
        return Err(Error::Usage { message });
    }
    let (timeline, mut chosen) = newest_of(context, files, count)?;
    chosen.sort_unstable();
    let chosen = (&chosen[..], RevertGroup::WALK);
    revert_out::run(context, "revert", &timeline, chosen, (out, false), output)
}

/// Takes the operations of a selection back.
pub fn revert(
    context: &mut Context<'_>,
    words: &[PathBuf],
    selection: &Selection,
    (options, on_conflict): (Options, OnConflict),
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let (timeline, chosen) = choose(context, words, selection, output)?;
    let (entries, is_merge) = (&chosen.entries[..], on_conflict == OnConflict::Merge);
    let done = match on_conflict {
        OnConflict::Merge => merge::request(context, "revert", timeline, entries, options, output),
        _ => {
            let how = (options, 0, on_conflict == OnConflict::LeaveOut);
            request(context, "revert", timeline, entries, how, output).map(|done| done.is_changed)
        }
    };
    let is_in_part = matches!(done, Err(Error::Conflicts { code: 3, .. }));
    if done.is_ok() || is_in_part {
        warn_uncertain(&chosen.uncertain, "were not taken back", context, output)?;
    }
    if done? && !options.dry_run && !options.no_redo && !is_merge {
        output.hint("`logctl undo` takes that back.");
    }
    match chosen.uncertain.first() {
        None => Ok(()),
        Some((known, _)) => {
            let process = name(known.process);
            output.hint(&format!(
                "`logctl revert --tree {process}` takes the operations of that process back."
            ));
            let path = context.root.clone();
            Err(Error::Conflicts { path, code: 3 })
        }
    }
}

/// Prints the plan of a revert of the newest operations of files.
pub fn try_newest(
    context: &mut Context<'_>,
    files: &[PathBuf],
    count: u64,
    options: Options,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let (timeline, chosen) = newest_of(context, files, count)?;
    let request_options = (options, RevertGroup::WALK, false);
    request(
        context,
        "revert",
        timeline,
        &chosen,
        request_options,
        output,
    )
    .map(drop)
}

/// The newest operations of each of several files.
fn newest_of(
    context: &mut Context<'_>,
    files: &[PathBuf],
    count: u64,
) -> Result<(Timeline, Vec<usize>), Error> {
    let timeline = context.whole()?;
    let live = timeline.live(&|_| false);
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let mut chosen = Vec::new();
    for file in files {
        let object = (context.identify)(&context.place(file)?)?;
        let entries = live.iter().copied();
        let own = entries.filter(|index| timeline.entries[*index].object == object);
        let own: Vec<usize> = own.take(count).collect();
        if object.is_none() || own.len() < count {
            let path = file.clone();
            let (reason, op) = (Reason::NothingLeft, None);
            return Err(Error::Refused(Refusal { path, reason, op }));
        }
        chosen.extend(own);
    }
    Ok((timeline, chosen))
}

/// Brings files, or all of them, to the state that they had at a point, by whichever operations and
/// reverts have to go for that.
pub fn restore(
    context: &mut Context<'_>,
    to: &str,
    paths: &[PathBuf],
    (options, partial): (Options, bool),
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let revision = Revision::parse(to, &context.now).map_err(|message| Error::Usage { message })?;
    if let Some(range) = paths.iter().find(|path| is_range(path)) {
        let range = quoted(range);
        let message = format!("{range} is a range of operations: --to takes one point");
        return Err(Error::Usage { message });
    }
    let timeline = context.whole()?;
    let places = paths.iter().map(|path| context.place(path));
    let places = places.collect::<Result<Vec<_>, _>>()?;
    context.check_names(&timeline, &places)?;
    let cut = cut(&timeline, revision, to, context)?;
    let what = match paths {
        [] => "the mount".to_owned(),
        [one] => quoted(one),
        several => count(several.len(), "path", "paths"),
    };
    let when = described(&timeline, revision, context);
    let rewind = rewind(&timeline, cut, &places, context);
    if rewind.is_there() {
        return is_there(&rewind, &timeline, (&what, &when), &places, context, output);
    }
    let chosen = rewind.entries().map_err(|seq| Error::Nothing {
        message: format!(
            "{what} cannot be restored to {when}: op {seq} was taken back by two reverts"
        ),
    })?;
    let request_options = (options, 0, partial);
    let again = Timeline::clone(&timeline);
    let done = request(context, "restore", again, &chosen, request_options, output)?.is_changed;
    if options.dry_run {
        return Ok(());
    }
    // The log must now record the same state.
    let after = context.whole()?;
    let comparison = verify(&timeline, &rewind, &after, context.tree);
    let left = self::rewind(&after, cut, &places, context);
    judge(&comparison, left.left_over(), (&what, &when))?;
    if output.json {
        output.object(&restored(
            cut,
            (&what, &when),
            &places,
            &comparison,
            done,
            context,
        ))?;
    } else {
        output.text(&format!("Restored {what} to {when}.\n"))?;
        output.finish()?;
        report_not_compared(&comparison, context, output);
    }
    if done && !options.no_redo {
        output.hint("`logctl undo` takes that back.");
    }
    Ok(())
}

/// Whether a word is a range of operations, and not a file.
fn is_range(word: &Path) -> bool {
    matches!(named_operations(word), Some(OperationSpec::Range(..)))
}

/// The difference between the present and the wanted state.
fn rewind<'t>(
    timeline: &'t Timeline,
    cut: u64,
    places: &[PathBuf],
    context: &Context<'_>,
) -> Rewind<'t> {
    let mut rewind = Rewind::new(timeline, cut);
    if !places.is_empty() {
        rewind.limit(places, context.tree);
    }
    rewind
}

/// Nothing has to change: there are no newer operations, or they were taken back already.
fn is_there(
    rewind: &Rewind<'_>,
    timeline: &Timeline,
    (what, when): (&str, &str),
    places: &[PathBuf],
    context: &Context<'_>,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let mut newer = timeline
        .entries
        .iter()
        .take_while(|entry| entry.seq > rewind.cut());
    let is_newest = newer.all(|entry| entry.op.is_bookkeeping());
    let is_missing = |place: &PathBuf| context.tree.look(place) == PathState::Gone;
    if is_newest || places.iter().any(is_missing) {
        let message = format!("nothing was done to {what} since {when}");
        return Err(Error::Nothing { message });
    }
    let comparison = verify(timeline, rewind, timeline, context.tree);
    judge(&comparison, 0, (what, when))?;
    if output.json {
        let words = (what, when);
        let object = restored(rewind.cut(), words, places, &comparison, false, context);
        output.object(&object)?;
    } else {
        output.text(&format!(
            "{what} is as it was at {when}; nothing was changed.\n"
        ))?;
        output.finish()?;
    }
    Ok(())
}

/// The state that was restored, as JSON, and which parts of it could not be compared with the log.
fn restored(
    cut: u64,
    (what, when): (&str, &str),
    places: &[PathBuf],
    comparison: &Comparison,
    is_changed: bool,
    context: &Context<'_>,
) -> Value {
    let list = |paths: &[PathBuf]| -> Vec<Value> {
        let paths = paths.iter().map(|path| context.root.join(path));
        paths.map(|path| path.to_string_lossy().into()).collect()
    };
    let mut object = JsonObject::new("restored", &context.root);
    object
        .put("to_op", cut)
        .put("what", what)
        .put("when", when)
        .put("paths", list(places))
        .put("changed", is_changed)
        .put("compared", comparison.compared)
        .put("not_compared", list(&comparison.unknown))
        .put("not_seen", list(&comparison.unseen));
    object.into_value()
}

/// Checks the result of a restore. `left`: the number of operations whose state still differs.
fn judge(comparison: &Comparison, left: usize, (what, when): (&str, &str)) -> Result<(), Error> {
    let mut wrong = comparison
        .wrong
        .iter()
        .map(|(path, how)| format!("{} {how}", quoted(path)));
    let message = match (wrong.next(), left) {
        (None, 0) => return Ok(()),
        (None, left) => {
            let operations = count(left, "operation differs", "operations differ");
            format!("{what} is not as it was at {when}: {operations} from the log")
        }
        (Some(first), _) => {
            let more = match wrong.count() {
                0 => String::new(),
                more => format!(", and {more} more"),
            };
            format!("{what} is not as it was at {when}: {first}{more}")
        }
    };
    Err(Error::NotAsWanted { message })
}

/// Prints which files could not be compared with the log.
fn report_not_compared(comparison: &Comparison, context: &Context<'_>, output: &mut Output<'_>) {
    let files = |number| count(number, "file", "files");
    if let Some(first) = comparison.unseen.first() {
        // Where nothing can be looked at, nothing was promised.
        if context.tree.look(Path::new("")) != PathState::Unknown {
            let names = count(comparison.unseen.len(), "name", "names");
            let first = quoted(first);
            output.say(format_args!(
                "Not compared with the log: {names} that cannot be looked at, {first} first."
            ));
        }
    }
    if let Some(first) = comparison.unknown.first() {
        let all = comparison.compared.saturating_add(comparison.unknown.len());
        output.say(format_args!("Names and sizes are as the log says; the content of {} of {} could not be compared, for the \
             log has no checksum of it: {} first.",
            comparison.unknown.len(),
            files(all),
            quoted(first)
        ));
    }
}
