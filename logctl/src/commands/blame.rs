// SPDX-License-Identifier: MIT OR Apache-2.0

//! `blame`: which action wrote each line of a file last. Of a file that is no text: each range of bytes.
//!
//! Lines are followed from version to version of the path, also across saves by rename, by the differences
//! between each two. Bytes are followed by the ranges of the operations on the file.

use std::collections::HashMap;
use std::path::Path;

use crate::actions::visible;
use crate::blame::{Lines, Ranges};
use crate::describe::{action_command, cut, local};
use crate::error::Error;
use crate::json::{made_by, JsonObject};
use crate::output::Output;
use crate::past_tree::PastTree;
use crate::quote::quoted;
use crate::revision::Revision;
use crate::select::Filter;
use crate::timeline::Timeline;
use loggerfs_log::types::ObjectId;

use super::context::Context;
use super::point;
use super::table::table;
use super::versions::{version, Version};
use super::view::View;

/// Prints the writer of each line or byte range of a file, as of now or of a point.
pub fn run(
    context: &mut Context<'_>,
    path: &Path,
    at: Option<&str>,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let place = context.place(path)?;
    let timeline = context.whole()?;
    context.check_names(&timeline, core::slice::from_ref(&place))?;
    let until = match at {
        None => u64::MAX,
        Some(at) => {
            let usage = |message| Error::Usage { message };
            let revision = Revision::parse(at, &context.now).map_err(usage)?;
            point::cut(&timeline, revision, at, context)?
        }
    };
    let shown = version(context, &timeline, &place, until)?;
    let nothing = |what: &str| Error::Nothing {
        message: format!("{} {what}", quoted(path)),
    };
    if !shown.is_there {
        return Err(nothing("is not there: --at takes a point at which it was"));
    }
    let Some(length) = shown.length else {
        return Err(nothing("is no regular file, or its content was dropped"));
    };
    let tree = PastTree::new(&timeline, until, context.tree, context.identify);
    let object = tree.object(&place)?;
    match (shown.lines(), object) {
        (None, Some(object)) => {
            let live = timeline.live_before(until.saturating_add(1));
            let mut actions = visible(&timeline, &live);
            let has_object = |index: &usize| timeline.entries[*index].object == Some(object);
            actions.retain(|action| action.entries.iter().any(has_object));
            let view = View::new(timeline, actions, context);
            print_ranges(&view, (&place, object, length), &live, context, output)
        }
        _ => {
            let view = versions_of(timeline, &place, until, context)?;
            let lines = followed(context, &view, &place, until, shown)?;
            print_lines(&view, &place, &lines, context, output)
        }
    }
}

/// The actions on a path that began before `until`, the newest first.
fn versions_of(
    timeline: Timeline,
    place: &Path,
    until: u64,
    context: &Context<'_>,
) -> Result<View, Error> {
    let filter = Filter {
        places: vec![place.to_owned()],
        ..Filter::default()
    };
    let chosen = filter.choose(&timeline, context.tree);
    let chosen = chosen.map_err(|selection_error| context.selection_error(selection_error))?;
    let mut actions = chosen.actions;
    actions.retain(|action| action.oldest(&timeline).seq <= until);
    Ok(View::new(timeline, actions, context))
}

/// The lines of the version that is shown, each with the action that wrote it.
fn followed(
    context: &mut Context<'_>,
    view: &View,
    place: &Path,
    until: u64,
    shown: Version,
) -> Result<Lines, Error> {
    let timeline = &view.timeline;
    let mut lines = Lines::default();
    let mut newest = 0;
    for (at, action) in view.actions.iter().enumerate().rev() {
        let (first, last) = (action.oldest(timeline).seq, action.newest(timeline).seq);
        // Changes that no action made. Between overlapping actions, the state before the later one already has
        // changes of the earlier one.
        if first > newest {
            let before = version(context, timeline, place, first.saturating_sub(1))?;
            take(&mut lines, before, None);
        }
        let after = version(context, timeline, place, last.min(until))?;
        take(&mut lines, after, Some(at));
        newest = newest.max(last);
    }
    take(&mut lines, shown, None);
    Ok(lines)
}

/// Goes on to the next version.
fn take(lines: &mut Lines, version: Version, by: Option<usize>) {
    match version.into_lines() {
        Some(text) => lines.follow(text, by),
        None => lines.lose(),
    }
}

fn print_lines(
    view: &View,
    place: &Path,
    lines: &Lines,
    context: &Context<'_>,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let all: Vec<(&[u8], Option<usize>)> = lines.iter().collect();
    if output.json {
        for (number, (text, by)) in all.iter().enumerate() {
            let mut object = origin("line", place, view, *by, context);
            let text = text.strip_suffix(b"\n").unwrap_or(text);
            object.put("line", number + 1).put_bytes("text", text);
            output.object(&object.into_value())?;
        }
        return Ok(());
    }
    let width = all.len().to_string().len();
    let rows = all.iter().enumerate().map(|(number, (_, by))| {
        let is_repeated = number != 0 && all[number - 1].1 == *by;
        let [at, id, who, command] = described(view, *by, is_repeated, context);
        let number = format!("{:>width$}", number + 1);
        [String::new(), at, id, who, command, number]
    });
    let head = ["", "AT", "ID", "WHO", "BY", "LINE"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    let heads = table(&rows);
    let mut heads = heads.lines();
    output.text(&format!("{}\n", heads.next().unwrap_or_default()))?;
    for (head, (text, _)) in heads.zip(&all) {
        output.text(&format!("{head}  "))?;
        output.raw(text)?;
        if !text.ends_with(b"\n") {
            output.text("\n")?;
        }
    }
    Ok(())
}

fn print_ranges(
    view: &View,
    (place, object, length): (&Path, ObjectId, u64),
    live: &[usize],
    context: &Context<'_>,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let mut action_of = HashMap::new();
    for (by, action) in view.actions.iter().enumerate() {
        action_of.extend(action.entries.iter().map(|index| (*index, by)));
    }
    let mut ranges = Ranges::new(length);
    for index in live {
        let entry = &view.timeline.entries[*index];
        if let (true, Some(by)) = (entry.object == Some(object), action_of.get(index)) {
            ranges.claim(entry, *by);
        }
    }
    let found = ranges.finish();
    if output.json {
        for (start, end, by) in found {
            let mut object = origin("range", place, view, by, context);
            object.put("offset", start).put("length", end - start);
            output.object(&object.into_value())?;
        }
        return Ok(());
    }
    let rows = found.into_iter().map(|(start, end, by)| {
        let [at, id, who, command] = described(view, by, false, context);
        let bytes = format!("{start}-{}", end - 1);
        [String::new(), at, id, who, bytes, command]
    });
    let head = ["", "AT", "ID", "WHO", "BYTES", "BY"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    output.text(&table(&rows))
}

/// Time, number, user and command of an action; empty if the line above has the same.
fn described(
    view: &View,
    by: Option<usize>,
    is_repeated: bool,
    context: &Context<'_>,
) -> [String; 4] {
    match by {
        _ if is_repeated => Default::default(),
        None => ["-", "", "", "older, or not logged"].map(str::to_owned),
        Some(by) => {
            let action = &view.actions[by];
            let newest = action.newest(&view.timeline);
            [
                local(newest.time, context.now.time_zone()),
                newest.seq.to_string(),
                view.who(action, context),
                cut(&action_command(&view.timeline, action)),
            ]
        }
    }
}

/// The beginning of an object about a part of the file.
fn origin(
    kind: &str,
    place: &Path,
    view: &View,
    by: Option<usize>,
    context: &Context<'_>,
) -> JsonObject {
    match by {
        None => JsonObject::new(kind, &context.root.join(place)),
        Some(by) => {
            let action = &view.actions[by];
            let mut object = made_by(kind, place, action.newest(&view.timeline), context);
            object.put("title", action_command(&view.timeline, action));
            object
        }
    }
}
