// SPDX-License-Identifier: MIT OR Apache-2.0

//! `log` and `show`: what was done, in actions.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::actions::{actions, is_settled, seen, Action, Changes};
use crate::cli::Selection;
use crate::describe::{
    action_command, changes, command, count, cut, local, location, operation, when,
};
use crate::error::Error;
use crate::json;
use crate::output::Output;
use crate::paths::{Paths, Place};
use crate::point::Point;
use crate::process::{name, Known};
use crate::select::Chosen;
use crate::timeline::Timeline;

use super::site::Site;

/// Actions, and where each of their operations was.
pub struct Shown {
    /// The lines.
    pub timeline: Timeline,
    /// The actions, the newest first.
    pub actions: Vec<Action>,
    /// Where operations were, by index.
    pub places: HashMap<usize, Place>,
}

impl Shown {
    /// With the places of the actions' operations.
    pub fn new(timeline: Timeline, actions: Vec<Action>, site: &Site<'_>) -> Self {
        let mut standing = timeline.standing(&|_| false);
        let mut places = HashMap::new();
        if !actions.is_empty() {
            // Also what does not stand just now: what an undo took back.
            let shown = actions.iter().flat_map(|action| &action.entries);
            standing.extend(shown);
            standing.sort_unstable();
            standing.dedup();
            let found = Paths::places(&timeline, &standing, site.tree);
            places.extend(standing.into_iter().zip(found));
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

    /// What an action changed, and where, if it is one thing.
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
    pub fn who(&self, action: &Action, site: &Site<'_>) -> String {
        let uid = action.newest(&self.timeline).actor.uid;
        uid.map_or_else(|| "?".into(), |uid| site.users.name(uid))
    }
}

/// The newest actions that stand: `limit` of them, if that is enough.
pub fn newest(site: &mut Site<'_>, limit: usize) -> Result<(Timeline, Vec<Action>), Error> {
    newest_that(site, limit, &|_, _| true)
}

/// As [`newest`], of the operations that are `wanted`.
pub fn newest_that(
    site: &mut Site<'_>,
    limit: usize,
    wanted: &dyn Fn(&Timeline, usize) -> bool,
) -> Result<(Timeline, Vec<Action>), Error> {
    let mut timeline = Timeline::of_user(site.me);
    let mut more = 1;
    loop {
        for _ in 0..more {
            let extended = timeline.extend(site.object);
            if !extended.map_err(|errno| site.unread(errno))? {
                break;
            }
        }
        more *= 2;
        let mut standing = timeline.standing(&|_| false);
        standing.retain(|index| wanted(&timeline, *index));
        let found = seen(&timeline, &standing);
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

/// Prints the log.
pub fn run(
    site: &mut Site<'_>,
    paths: &[PathBuf],
    limit: Option<usize>,
    selection: &Selection,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let mut filter = site.filter(selection, paths)?;
    filter.is_looking = true;
    let (timeline, all) = match limit {
        Some(limit) if filter.is_empty() && !selection.ops => newest(site, limit)?,
        _ => {
            let timeline = site.whole()?;
            let chosen = filter.choose(&timeline, site.tree);
            let Chosen {
                actions, unsure, ..
            } = chosen.map_err(|unclear| site.unclear(unclear))?;
            tell_unsure(&unsure, "are not shown", site, output);
            (timeline, actions)
        }
    };
    let head = newest_number(&timeline);
    let shown: Vec<Action> = all.into_iter().take(limit.unwrap_or(usize::MAX)).collect();
    let shown = Shown::new(timeline, shown, site);
    if selection.ops {
        return print_operations(&shown, site, limit, output);
    }
    if output.json {
        for action in &shown.actions {
            output.object(&json::action(&shown, action, site))?;
        }
        return Ok(());
    }
    print_table(&shown, head, site, output)
}

/// Names processes that may belong to a tree.
pub fn tell_unsure(unsure: &[(Known, u64)], fate: &str, site: &Site<'_>, output: &mut Output<'_>) {
    if unsure.is_empty() {
        return;
    }
    let processes = count(unsure.len(), "process", "processes");
    output.say(format_args!("{processes} may belong to the tree and {fate}: it is not known what started them, since their \
         parents left no line."
    ));
    for (known, seq) in unsure.iter().take(UNSURE) {
        let parent = known
            .actor
            .ppid
            .map_or_else(String::new, |ppid| format!(", parent {ppid}"));
        output.say(format_args!(
            "  {}  (op {seq}{parent})",
            site.process(known)
        ));
    }
    if unsure.len() > UNSURE {
        output.say(format_args!("  … and {} more", unsure.len() - UNSURE));
    }
}

/// How many of them are named.
const UNSURE: usize = 20;

/// The number of the newest action that stands.
fn newest_number(timeline: &Timeline) -> Option<u64> {
    let all = seen(timeline, &timeline.standing(&|_| false));
    all.first().map(|action| action.newest(timeline).seq)
}

fn print_table(
    shown: &Shown,
    head: Option<u64>,
    site: &Site<'_>,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let (now, zone) = (site.now.timestamp(), site.now.time_zone());
    let mut rows = vec![["", "ID", "WHEN", "WHO", "COMMAND", "CHANGES"].map(str::to_owned)];
    for action in &shown.actions {
        let newest = action.newest(&shown.timeline);
        let (changed, only) = shown.changes(action);
        let mark = if Some(newest.seq) == head { "@" } else { "" };
        rows.push([
            mark.to_owned(),
            newest.seq.to_string(),
            when(newest.time, now, zone),
            shown.who(action, site),
            cut(&action_command(&shown.timeline, action)),
            changes(&changed, only.as_ref()),
        ]);
    }
    if rows.len() == 1 {
        return output.text("Nothing was done.\n");
    }
    output.text(&table(&rows))
}

/// Rows in columns; the last one is as wide as it is.
pub fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [1; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
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
            let padding = width - cell.chars().count() + if at == 0 { 1 } else { 2 };
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
    shown: &Shown,
    site: &Site<'_>,
    limit: Option<usize>,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let mut all: Vec<usize> = (shown.actions.iter())
        .flat_map(|action| action.entries.iter().copied())
        .collect();
    all.sort_unstable();
    all.truncate(limit.unwrap_or(usize::MAX));
    if output.json {
        for index in all {
            output.object(&json::operation(shown, index, site))?;
        }
        return Ok(());
    }
    let (now, zone) = (site.now.timestamp(), site.now.time_zone());
    let mut rows = vec![["", "ID", "WHEN", "COMMAND", "OPERATION", "WHERE"].map(str::to_owned)];
    for index in all {
        let entry = &shown.timeline.entries[index];
        rows.push([
            String::new(),
            entry.seq.to_string(),
            when(entry.time, now, zone),
            cut(&command(&entry.actor, false)),
            operation(entry),
            location(entry, &shown.place(index)),
        ]);
    }
    output.text(&table(&rows))
}

/// Prints one action.
pub fn show(site: &mut Site<'_>, word: &str, output: &mut Output<'_>) -> Result<(), Error> {
    let point = Point::parse(word, &site.now).map_err(|message| Error::Usage { message })?;
    let (timeline, mut found) = match point {
        Point::Back(back) => newest(site, back.saturating_add(1))?,
        _ => {
            let timeline = site.whole()?;
            let standing = timeline.standing(&|_| false);
            let found = actions(&timeline, &standing);
            (timeline, found)
        }
    };
    let at = match point {
        Point::Back(back) => (back < found.len()).then_some(back),
        Point::Op(seq) => {
            let index = timeline.find(seq);
            let has = |action: &Action| index.is_some_and(|index| action.entries.contains(&index));
            found.iter().position(has)
        }
        Point::At(_) => None,
    };
    let nothing = || Error::Nothing {
        message: format!("no operation '{word}' stands"),
    };
    let action = found.swap_remove(at.ok_or_else(nothing)?);
    let shown = Shown::new(timeline, vec![action], site);
    print_action(&shown, site, output)
}

fn print_action(shown: &Shown, site: &Site<'_>, output: &mut Output<'_>) -> Result<(), Error> {
    let action = &shown.actions[0];
    if output.json {
        output.object(&json::action(shown, action, site))?;
        for index in &action.entries {
            output.object(&json::operation(shown, *index, site))?;
        }
        return Ok(());
    }
    let (newest, oldest) = (
        action.newest(&shown.timeline),
        action.oldest(&shown.timeline),
    );
    let (changed, only) = shown.changes(action);
    let zone = site.now.time_zone();
    let mut when = local(oldest.time, zone);
    if newest.time.sec != oldest.time.sec {
        when = format!("{when} to {}", local(newest.time, zone));
    }
    let mut rows = vec![
        [
            "command".to_owned(),
            action_command(&shown.timeline, action),
        ],
        ["when".to_owned(), when],
        ["who".to_owned(), shown.who(action, site)],
    ];
    let actor = &newest.actor;
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
        let entry = &shown.timeline.entries[*index];
        let place = location(entry, &shown.place(*index));
        [
            String::new(),
            entry.seq.to_string(),
            operation(entry),
            place,
        ]
    });
    output.text(&table(&lines.collect::<Vec<_>>()))
}
