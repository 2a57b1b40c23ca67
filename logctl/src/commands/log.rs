// SPDX-License-Identifier: MIT OR Apache-2.0

//! `log` and `show`: the actions of a mount.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::actions::{actions, is_settled, visible, Action, Changes};
use crate::cli::{DiffOptions, Selection};
use crate::describe::{
    action_command, changes, command, count, cut, local, location, operation, process_count, when,
};
use crate::error::Error;
use crate::json;
use crate::output::Output;
use crate::paths::{Paths, Place};
use crate::process::{name, KnownProcess};
use crate::revision::Revision;
use crate::screen::width_of;
use crate::select::{Filter, SelectedOperations};
use crate::timeline::Timeline;
use loggerfs_log::line::Process;

use super::context::Context;
use super::diff;

/// Actions, and where each of their operations was.
pub struct View {
    /// The lines.
    pub timeline: Timeline,
    /// The actions, the newest first.
    pub actions: Vec<Action>,
    /// Where operations were, by index.
    pub places: HashMap<usize, Place>,
}

impl View {
    /// With the places of the actions' operations.
    pub fn new(timeline: Timeline, actions: Vec<Action>, context: &Context<'_>) -> Self {
        let mut live = timeline.live(&|_| false);
        let mut places = HashMap::new();
        if !actions.is_empty() {
            // Operations that are not live at present are included: an undo took them back.
            let view = actions.iter().flat_map(|action| &action.entries);
            live.extend(view);
            live.sort_unstable();
            live.dedup();
            let found = Paths::places(&timeline, &live, context.tree);
            places.extend(live.into_iter().zip(found));
        }
        Self {
            timeline,
            actions,
            places,
        }
    }

    /// Where an operation was.
    pub fn place(&self, index: usize) -> Place {
        self.places.get(&index).cloned().unwrap_or_default()
    }

    /// The changes of an action, and their place if there is only one.
    pub fn changes(&self, action: &Action) -> (Changes, Option<Place>) {
        let changes = Changes::of(&self.timeline, action);
        let only = changes.only.map(|only| {
            let place = self.place(only.index);
            match (changes.moved, only.is_to) {
                (1, _) => place,
                (_, true) => Place {
                    path: place.to,
                    ..Place::default()
                },
                (_, false) => Place { to: None, ..place },
            }
        });
        (changes, only.filter(|place| place.path.is_some()))
    }

    /// Its user.
    pub fn who(&self, action: &Action, context: &Context<'_>) -> String {
        let uid = action.newest(&self.timeline).actor.uid;
        uid.map_or_else(|| "?".into(), |uid| context.users.name(uid))
    }
}

/// The newest live actions: at least `limit`, if there are so many.
pub fn newest(context: &mut Context<'_>, limit: usize) -> Result<(Timeline, Vec<Action>), Error> {
    newest_matching(context, limit, &|_, _| true, &|_, _| true)
}

/// As [`newest`], of the operations and of the actions that are wanted.
pub fn newest_matching(
    context: &mut Context<'_>,
    limit: usize,
    is_wanted: &dyn Fn(&Timeline, usize) -> bool,
    is_action_wanted: &dyn Fn(&Timeline, &Action) -> bool,
) -> Result<(Timeline, Vec<Action>), Error> {
    let mut timeline = Timeline::of_user(context.me);
    let mut more = 1;
    loop {
        for _ in 0..more {
            let extended = timeline.extend(context.object);
            if !extended.map_err(|errno| context.unread(errno))? {
                break;
            }
        }
        more *= 2;
        let mut live = timeline.live(&|_| false);
        live.retain(|index| is_wanted(&timeline, *index));
        let mut found = visible(&timeline, &live);
        found.retain(|action| is_action_wanted(&timeline, action));
        let settled = found.len() > limit
            && found
                .iter()
                .take(limit)
                .all(|action| is_settled(&timeline, action));
        if settled || timeline.is_whole() {
            return Ok((timeline, found));
        }
    }
}

/// How much of the log is printed.
#[derive(Clone, Copy, Debug)]
pub struct Detail {
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
    let (timeline, all) = match limit {
        Some(limit) if filter.is_empty() && !selection.ops => newest(context, limit)?,
        _ => {
            let timeline = context.whole()?;
            context.check_names(&timeline, &filter.places)?;
            let chosen = filter.choose(&timeline, context.tree);
            let SelectedOperations {
                actions, uncertain, ..
            } = chosen.map_err(|selection_error| context.selection_error(selection_error))?;
            warn_uncertain(&uncertain, "are not shown", context, output);
            (timeline, actions)
        }
    };
    let head = newest_number(&timeline);
    let end = end(&timeline, &all, (limit, selection.ops), &filter, context);
    let view: Vec<Action> = all.into_iter().take(limit.unwrap_or(usize::MAX)).collect();
    let view = View::new(timeline, view, context);
    if selection.ops {
        print_operations(&view, context, limit, output)?;
        return print_end(end, output);
    }
    match end {
        _ if output.json => print_objects(&view, detail, context, output)?,
        // The end says why.
        Some(_) if view.actions.is_empty() => {}
        _ => print_actions(&view, head, detail, context, output)?,
    }
    print_end(end, output)
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
    let text = table(&rows(view, head, &|_, _| Vec::new(), context));
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

fn print_end(end: Option<String>, output: &mut Output<'_>) -> Result<(), Error> {
    match end {
        Some(end) if !output.json => output.text(&format!("{end}\n")),
        _ => Ok(()),
    }
}

/// Names processes that may belong to a tree.
pub fn warn_uncertain(
    uncertain: &[(KnownProcess, u64)],
    fate: &str,
    context: &Context<'_>,
    output: &mut Output<'_>,
) {
    if uncertain.is_empty() {
        return;
    }
    let processes = count(uncertain.len(), "process", "processes");
    output.say(format_args!("{processes} may belong to the tree and {fate}: it is not known what started them, since their \
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
}

/// How many of them are named.
const LISTED_UNCERTAIN: usize = 20;

/// The number of the newest live action.
fn newest_number(timeline: &Timeline) -> Option<u64> {
    let all = visible(timeline, &timeline.live(&|_| false));
    all.first().map(|action| action.newest(timeline).seq)
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
            cut(&action_command(&view.timeline, action)),
            match process_count(&view.timeline, action) {
                Some(processes) => format!("{}  {processes}", changes(&changed, only.as_ref())),
                None => changes(&changed, only.as_ref()),
            },
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
                cut(&format!("  {}", action_command(&view.timeline, &part))),
                changes(&changed, only.as_ref()),
            ]);
        }
    }
    rows
}

/// Prints a row for each action, and one for each of its parts.
fn print_rows(
    view: &View,
    head: Option<u64>,
    parts: &dyn Fn(&View, &Action) -> Vec<Action>,
    context: &Context<'_>,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let rows = rows(view, head, parts, context);
    if rows.len() == 1 {
        return output.text("Nothing was done.\n");
    }
    output.text(&table(&rows))
}

/// Rows in aligned columns; the last column is not padded.
pub fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [1; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(width_of(cell));
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (at, (cell, width)) in row.iter().zip(widths).enumerate() {
            if at + 1 == N {
                line.push_str(cell);
                continue;
            }
            let padding = width - width_of(cell) + if at == 0 { 1 } else { 2 };
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', padding));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
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

/// Prints one action.
pub fn show(context: &mut Context<'_>, word: &str, output: &mut Output<'_>) -> Result<(), Error> {
    let revision =
        Revision::parse(word, &context.now).map_err(|message| Error::Usage { message })?;
    let (timeline, mut found) = match revision {
        Revision::Back(back) => newest(context, back.saturating_add(1))?,
        _ => {
            let timeline = context.whole()?;
            let live = timeline.live(&|_| false);
            let found = actions(&timeline, &live);
            (timeline, found)
        }
    };
    let at = match revision {
        Revision::Back(back) => (back < found.len()).then_some(back),
        Revision::Op(seq) => {
            let index = timeline.find(seq);
            let has = |action: &Action| index.is_some_and(|index| action.entries.contains(&index));
            found.iter().position(has)
        }
        Revision::At(_) => None,
    };
    let nothing = || Error::Nothing {
        message: format!("no live operation '{word}'"),
    };
    let action = found.swap_remove(at.ok_or_else(nothing)?);
    let view = View::new(timeline, vec![action], context);
    print_action(&view, context, output)
}

fn print_action(view: &View, context: &Context<'_>, output: &mut Output<'_>) -> Result<(), Error> {
    let action = &view.actions[0];
    if output.json {
        output.object(&json::action(view, action, context))?;
        for index in &action.entries {
            output.object(&json::operation(view, *index, context))?;
        }
        return Ok(());
    }
    let (newest, oldest) = (action.newest(&view.timeline), action.oldest(&view.timeline));
    let (changed, only) = view.changes(action);
    let zone = context.now.time_zone();
    let mut when = local(oldest.time, zone);
    if newest.time.sec != oldest.time.sec {
        when = format!("{when} to {}", local(newest.time, zone));
    }
    let mut rows = vec![
        ["command".to_owned(), action_command(&view.timeline, action)],
        ["when".to_owned(), when],
        ["who".to_owned(), view.who(action, context)],
    ];
    let actor = action.actor(&view.timeline);
    if let Some(process) = actor.process {
        let number = |value: Option<u32>| value.map_or_else(|| "?".into(), |n| n.to_string());
        let (ppid, sid) = (number(actor.ppid), number(actor.sid));
        let text = format!("{}, parent {ppid}, session {sid}", name(process));
        rows.push(["process".to_owned(), text]);
    }
    rows.push(["changes".to_owned(), changes(&changed, only.as_ref())]);
    let title = count(action.entries.len(), "operation", "operations");
    output.text(&format!("Action {}, {title}\n", newest.seq))?;
    for [name, value] in rows {
        output.text(&format!("  {name:<9}{value}\n"))?;
    }
    let lines = action.entries.iter().map(|index| {
        let entry = &view.timeline.entries[*index];
        let place = location(entry, &view.place(*index));
        [
            String::new(),
            entry.seq.to_string(),
            operation(entry),
            place,
        ]
    });
    output.text(&table(&lines.collect::<Vec<_>>()))
}
