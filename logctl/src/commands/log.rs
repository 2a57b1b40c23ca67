// SPDX-License-Identifier: MIT OR Apache-2.0

//! `log`: the actions of a mount.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::actions::{is_settled, visible, Action};
use crate::cli::{DiffOptions, Selection};
use crate::describe::{
    action_command, changes, command, count, cut, location, operation, process_count, when,
};
use crate::error::Error;
use crate::housekeeping::fold;
use crate::json;
use crate::output::Output;
use crate::process::{name, KnownProcess};
use crate::revert_effect::RevertEffect;
use crate::select::{Filter, SelectedOperations};
use crate::timeline::Timeline;
use loggerfs_log::line::Process;
use loggerfs_log::types::Time;

use super::context::Context;
use super::diff;
use super::table::{fit, table};
use super::view::View;

/// The newest live actions: at least `limit`, if there are so many.
pub fn newest(context: &mut Context<'_>, limit: usize) -> Result<(Timeline, Vec<Action>), Error> {
    newest_matching(context, limit, false, &|_, _| true, &|_, _| true)
}

/// As [`newest`], of the operations and of the actions that are wanted. Housekeeping that is left out does not
/// count.
pub fn newest_matching(
    context: &mut Context<'_>,
    limit: usize,
    is_folded: bool,
    is_wanted: &dyn Fn(&Timeline, usize) -> bool,
    is_action_wanted: &dyn Fn(&Timeline, &Action) -> bool,
) -> Result<(Timeline, Vec<Action>), Error> {
    let mut timeline = Timeline::of_user(context.me);
    loop {
        let extended = timeline.extend_further(context.object);
        extended.map_err(|errno| context.unread(errno))?;
        let mut live = timeline.live(&|_| false);
        live.retain(|index| is_wanted(&timeline, *index));
        let mut found = visible(&timeline, &live);
        found.retain(|action| is_action_wanted(&timeline, action));
        let (shown, _) = fold(&timeline, &found, limit.saturating_add(1), is_folded);
        let settled = shown.len() > limit
            && shown
                .iter()
                .take(limit)
                .all(|action| is_settled(&timeline, action));
        if settled || timeline.is_whole() {
            return Ok((timeline, found));
        }
    }
}

/// How many actions a terminal shows.
pub const SHOWN: usize = 25;

/// How much of the log is printed.
#[derive(Clone, Copy, Debug)]
pub struct Detail {
    /// Whether actions are shown that only did housekeeping.
    pub all: bool,
    /// How many actions, or operations.
    pub limit: Option<usize>,
    /// Whether the processes of actions, too.
    pub processes: bool,
    /// How the changes of each action in files are shown, if at all.
    pub differences: Option<DiffOptions>,
}

/// Prints the log.
pub fn run(
    context: &mut Context<'_>,
    paths: &[PathBuf],
    detail: Detail,
    selection: &Selection,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let limit = detail.limit;
    let mut filter = context.filter(selection, paths)?;
    filter.is_looking = true;
    let is_folded = !detail.all && paths.is_empty() && !selection.ops && !output.json;
    let (timeline, all) = match limit {
        Some(limit) if filter.is_empty() && !selection.ops => {
            newest_matching(context, limit, is_folded, &|_, _| true, &|_, _| true)?
        }
        _ => {
            let least = limit.filter(|_| !selection.ops && !filter.needs_all());
            let (timeline, chosen) = chosen(context, &filter, least)?;
            warn_uncertain(&chosen.uncertain, "are not shown", context, output)?;
            (timeline, chosen.actions)
        }
    };
    let (shown, hidden) = fold(&timeline, &all, limit.unwrap_or(usize::MAX), is_folded);
    let head = match filter.is_empty() {
        true => shown.first().map(|action| action.newest(&timeline).seq),
        false => newest_number(&timeline, is_folded),
    };
    let oldest = timeline.oldest_kept().map(|entry| (entry.seq, entry.time));
    let is_cut = !selection.ops && shown.len() + hidden < all.len();
    let end = match is_cut && output.is_terminal && !output.json {
        true => Some("  … older ones: -n 0 shows all, -n 100 the newest hundred.".to_owned()),
        false => end(&timeline, &all, (limit, selection.ops), &filter, context),
    };
    let shown: Vec<Action> = shown.into_iter().cloned().collect();
    let view = View::new(timeline, shown, context);
    if selection.ops {
        print_operations(&view, context, limit, output)?;
        return print_end(end, oldest, context, output);
    }
    match end {
        _ if output.json => print_objects(&view, detail, context, output)?,
        // The end says why.
        Some(_) if view.actions.is_empty() => {}
        _ => print_actions(&view, head, detail, context, output)?,
    }
    print_hidden(hidden, output)?;
    print_end(end, oldest, context, output)
}

/// The chosen operations, of the whole history; or of so much of it that at least so many actions are known.
fn chosen(
    context: &mut Context<'_>,
    filter: &Filter,
    least: Option<usize>,
) -> Result<(Timeline, SelectedOperations), Error> {
    let mut timeline = match least {
        Some(_) => Timeline::of_user(context.me),
        None => context.whole()?,
    };
    loop {
        let extended = timeline.extend_further(context.object);
        extended.map_err(|errno| context.unread(errno))?;
        if timeline.is_whole() {
            context.check_names(&timeline, &filter.places)?;
        }
        let chosen = filter.choose(&timeline, context.tree);
        let chosen = chosen.map_err(|selection_error| context.selection_error(selection_error))?;
        let newest = least.and_then(|least| chosen.actions.get(..least));
        let is_settled = |action: &Action| is_settled(&timeline, action);
        let is_enough = newest.is_some_and(|newest| newest.iter().all(is_settled));
        // One more, so that the end of the log is not taken for the history's.
        if timeline.is_whole() || (is_enough && least < Some(chosen.actions.len())) {
            return Ok((timeline, chosen));
        }
    }
}

/// Prints actions as JSON, each with its processes or its changes.
fn print_objects(
    view: &View,
    detail: Detail,
    context: &mut Context<'_>,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    for action in &view.actions {
        output.object(&json::action(view, action, context))?;
        for part in parts(view, action).iter().filter(|_| detail.processes) {
            output.object(&json::process(view, part, context))?;
        }
        print_differences(view, action, detail, context, output)?;
    }
    Ok(())
}

/// Prints actions as a table, each followed by its processes or its changes.
fn print_actions(
    view: &View,
    head: Option<u64>,
    detail: Detail,
    context: &mut Context<'_>,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    if detail.processes {
        return print_rows(view, head, &parts, context, output);
    }
    if detail.differences.is_none() || view.actions.is_empty() {
        return print_table(view, head, context, output);
    }
    let mut rows = rows(view, head, &|_, _| Vec::new(), context);
    fit(&mut rows, output.columns);
    let text = table(&rows);
    let mut lines = text.lines();
    output.text(&format!("{}\n", lines.next().unwrap_or_default()))?;
    for (action, line) in view.actions.iter().zip(lines) {
        output.text(&format!("{line}\n"))?;
        print_differences(view, action, detail, context, output)?;
        output.text("\n")?;
    }
    Ok(())
}

fn print_differences(
    view: &View,
    action: &Action,
    detail: Detail,
    context: &mut Context<'_>,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    match &detail.differences {
        None => Ok(()),
        Some(options) => {
            diff::of_entries(context, &view.timeline, &action.entries, options, output)
        }
    }
}

/// The last line of a log that ends because older history was dropped.
fn end(
    timeline: &Timeline,
    all: &[Action],
    (limit, is_ops): (Option<usize>, bool),
    filter: &Filter,
    context: &Context<'_>,
) -> Option<String> {
    let total = match is_ops {
        true => all.iter().map(|action| action.entries.len()).sum(),
        false => all.len(),
    };
    let is_cut = limit.is_some_and(|limit| limit < total);
    if is_cut || !timeline.is_whole() || !filter.reaches_back(timeline) {
        return None;
    }
    let since = context.beginning(timeline)?;
    Some(match total {
        0 if filter.is_before(timeline) => format!(
            "The history begins later, at {since}: older operations were dropped to free space."
        ),
        0 => {
            format!("Nothing was done since {since}; older operations were dropped to free space.")
        }
        _ => format!(
            "  … older operations were dropped to free space: the history begins at {since}."
        ),
    })
}

fn print_end(
    end: Option<String>,
    oldest: Option<(u64, Time)>,
    context: &Context<'_>,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    match (end, oldest) {
        (Some(_), Some(oldest)) if output.json => {
            output.object(&json::history(&context.root, oldest, context))
        }
        (Some(end), _) if !output.json => output.text(&format!("{end}\n")),
        _ => Ok(()),
    }
}

/// How many actions are left out because they only did housekeeping.
fn print_hidden(hidden: usize, output: &mut Output<'_>) -> Result<(), Error> {
    match hidden {
        0 => Ok(()),
        _ => output.text(&format!(
            "  · {} on locks, swap files and the index of git not shown (--all)\n",
            count(hidden, "action", "actions")
        )),
    }
}

/// Names processes that may belong to a tree.
pub fn warn_uncertain(
    uncertain: &[(KnownProcess, u64)],
    fate: &str,
    context: &Context<'_>,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    if uncertain.is_empty() {
        return Ok(());
    }
    let processes = count(uncertain.len(), "process", "processes");
    output.say(format_args!(
        "{processes} may belong to the tree and {fate}: their origin is not known, since their \
         parents left no line."
    ));
    for (known, seq) in uncertain.iter().take(LISTED_UNCERTAIN) {
        let parent = known
            .actor
            .ppid
            .map_or_else(String::new, |ppid| format!(", parent {ppid}"));
        output.say(format_args!(
            "  {}  (op {seq}{parent})",
            context.process(known)
        ));
    }
    if uncertain.len() > LISTED_UNCERTAIN {
        output.say(format_args!(
            "  … and {} more",
            uncertain.len() - LISTED_UNCERTAIN
        ));
    }
    if !output.json {
        return Ok(());
    }
    for (known, seq) in uncertain {
        let message = format!("{} may belong to the tree, and {fate}", name(known.process));
        let mut note = json::remark("Uncertain", &context.root, &message);
        note.put("op", *seq)
            .put("process", name(known.process))
            .put_known("ppid", known.actor.ppid);
        output.object(&note.into_value())?;
    }
    Ok(())
}

/// How many of them are named.
const LISTED_UNCERTAIN: usize = 20;

/// The number of the newest live action that is shown.
fn newest_number(timeline: &Timeline, is_folded: bool) -> Option<u64> {
    let all = visible(timeline, &timeline.live(&|_| false));
    let (shown, _) = fold(timeline, &all, 1, is_folded);
    shown.first().map(|action| action.newest(timeline).seq)
}

/// Prints actions as a table; `head` is the newest one of the mount.
pub fn print_table(
    view: &View,
    head: Option<u64>,
    context: &Context<'_>,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    print_rows(view, head, &|_, _| Vec::new(), context, output)
}

/// The operations of each process of an action, the process with the oldest one first.
fn parts(view: &View, action: &Action) -> Vec<Action> {
    let mut parts: Vec<Action> = Vec::new();
    let mut of_process: HashMap<Option<Process>, usize> = HashMap::new();
    for index in &action.entries {
        let process = view.timeline.entries[*index].actor.process;
        let at = *of_process.entry(process).or_insert(parts.len());
        if at == parts.len() {
            parts.push(Action::default());
        }
        parts[at].entries.push(*index);
    }
    // Higher indices are older.
    parts.sort_by_key(|part| std::cmp::Reverse(part.entries.last().copied()));
    parts
}

/// A row for each action, and one for each of its parts.
fn rows(
    view: &View,
    head: Option<u64>,
    parts: &dyn Fn(&View, &Action) -> Vec<Action>,
    context: &Context<'_>,
) -> Vec<[String; 6]> {
    let (now, zone) = (context.now.timestamp(), context.now.time_zone());
    let mut rows = vec![["", "ID", "WHEN", "WHO", "COMMAND", "CHANGES"].map(str::to_owned)];
    for action in &view.actions {
        let newest = action.newest(&view.timeline);
        let (changed, only) = view.changes(action);
        let mark = if Some(newest.seq) == head { "@" } else { "" };
        rows.push([
            mark.to_owned(),
            newest.seq.to_string(),
            when(newest.time, now, zone),
            view.who(action, context),
            match view.run(action) {
                Some(run) => format!("[{run}] {}", action_command(&view.timeline, action)),
                None => action_command(&view.timeline, action),
            },
            [
                Some(changes(&changed, only.as_ref())),
                process_count(&view.timeline, action),
                taken(view, action),
            ]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join("  "),
        ]);
        for part in parts(view, action) {
            let entry = part.newest(&view.timeline);
            let pid = entry.actor.process.map(|process| process.pid);
            let (changed, only) = view.changes(&part);
            rows.push([
                String::new(),
                String::new(),
                when(entry.time, now, zone),
                pid.map_or_else(String::new, |pid| pid.to_string()),
                format!("  {}", action_command(&view.timeline, &part)),
                changes(&changed, only.as_ref()),
            ]);
        }
    }
    rows
}

/// Which actions the reverts of an action took back or did again: `(takes 19 back)`.
fn taken(view: &View, action: &Action) -> Option<String> {
    let timeline = &view.timeline;
    let reverts = action.entries.iter().copied();
    let reverts: Vec<usize> = reverts
        .filter(|index| timeline.entries[*index].group().is_some())
        .collect();
    let effect = (!reverts.is_empty()).then(|| RevertEffect::of(timeline, &reverts))??;
    let named = |operations: &[usize]| {
        let numbers = operations.iter().filter_map(|index| view.number(*index));
        let mut numbers: Vec<u64> = numbers.collect();
        numbers.sort_unstable_by_key(|number| std::cmp::Reverse(*number));
        numbers.dedup();
        let words: Vec<String> = numbers.iter().map(u64::to_string).collect();
        match words.len() {
            0 => None,
            1..=NAMED => Some(words.join(", ")),
            several => Some(format!("{several} actions")),
        }
    };
    let back = named(&effect.undone).map(|named| format!("takes {named} back"));
    let again = named(&effect.redone).map(|named| format!("does {named} again"));
    let parts: Vec<String> = [back, again].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| format!("({})", parts.join(", ")))
}

/// How many actions are named by their numbers.
const NAMED: usize = 3;

/// The row of each action in the table, without its head.
pub fn plain_rows(view: &View, context: &Context<'_>) -> Vec<[String; 6]> {
    let head = view.actions.first();
    let head = head.map(|action| action.newest(&view.timeline).seq);
    let mut rows = rows(view, head, &|_, _| Vec::new(), context);
    rows.split_off(1)
}

/// Prints a row for each action, and one for each of its parts.
fn print_rows(
    view: &View,
    head: Option<u64>,
    parts: &dyn Fn(&View, &Action) -> Vec<Action>,
    context: &Context<'_>,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let mut rows = rows(view, head, parts, context);
    if rows.len() == 1 {
        return output.text("Nothing was done.\n");
    }
    fit(&mut rows, output.columns);
    output.text(&table(&rows))
}

/// Prints operations one by one, the newest first.
fn print_operations(
    view: &View,
    context: &Context<'_>,
    limit: Option<usize>,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let mut all: Vec<usize> = (view.actions.iter())
        .flat_map(|action| action.entries.iter().copied())
        .collect();
    all.sort_unstable();
    all.truncate(limit.unwrap_or(usize::MAX));
    if output.json {
        for index in all {
            output.object(&json::operation(view, index, context))?;
        }
        return Ok(());
    }
    let (now, zone) = (context.now.timestamp(), context.now.time_zone());
    let mut rows = vec![["", "ID", "WHEN", "COMMAND", "OPERATION", "WHERE"].map(str::to_owned)];
    for index in all {
        let entry = &view.timeline.entries[index];
        rows.push([
            String::new(),
            entry.seq.to_string(),
            when(entry.time, now, zone),
            cut(&command(&entry.actor, false)),
            operation(entry),
            location(entry, &view.place(index)),
        ]);
    }
    output.text(&table(&rows))
}
