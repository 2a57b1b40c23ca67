// SPDX-License-Identifier: MIT OR Apache-2.0

//! `complete-values`: the values that the scripts of `completions` ask for, one a line, each with a tab and a
//! description. Hidden, since only they use it.
//!
//! A user waits for it at a key, so it reads a bounded part of the history, and never searches the tree.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, ValueEnum};

use crate::actions::{visible, Action};
use crate::describe::{action_command, command, cut, when};
use crate::error::Error;
use crate::marks::NamedMark;
use crate::output::Output;
use crate::paths::PathState;
use crate::quote::decoded;
use crate::screen::{is_plain, visible as shown};
use crate::timeline::{Entry, Timeline};
use loggerfs_log::line::Op;
use loggerfs_log::types::ObjectId;

use super::context::Context;

/// How often the history is read further at most; each time about as much again as before.
const STEPS: usize = 9;

/// No further segment is read after this time.
const TIME: Duration = Duration::from_millis(300);

/// How many values are listed at most.
const MOST: usize = 50;

/// How many marks are listed at most.
const MARKS: usize = 20;

/// How many points are named by a number of actions back.
const BACK: usize = 9;

/// The values that are asked for.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct CompleteValues {
    /// Their kind.
    pub kind: ValueKind,

    /// How they begin.
    #[arg(default_value = "", allow_hyphen_values = true, value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub prefix: PathBuf,
}

/// A kind of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ValueKind {
    /// The numbers of actions.
    Operations,
    /// Points of the history.
    Points,
    /// Paths of removed objects.
    Deleted,
}

impl CompleteValues {
    /// The path that the values are on, if they are paths.
    pub fn paths(&self) -> &[PathBuf] {
        let is_path = self.kind == ValueKind::Deleted && !self.prefix.as_os_str().is_empty();
        match is_path {
            true => core::slice::from_ref(&self.prefix),
            false => &[],
        }
    }
}

/// A value, and its description.
type Described = (String, String);

/// Prints the values.
pub fn run(
    context: &mut Context<'_>,
    options: &CompleteValues,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let timeline = recent(context)?;
    let prefix = options.prefix.to_string_lossy();
    let values = match options.kind {
        ValueKind::Operations => operations(&timeline, &prefix, context),
        ValueKind::Points => points(&timeline, &prefix, context),
        ValueKind::Deleted => deleted(&timeline, &prefix, context),
    };
    let is_meant = |(value, _): &Described| value.starts_with(&*prefix) && is_plain(value);
    for (value, about) in values.into_iter().filter(is_meant).take(MOST) {
        // A tab would be escaped like any other control character.
        output.content(format!("{value}\t{}\n", shown(&about)).as_bytes())?;
    }
    Ok(())
}

/// The newest part of the history.
fn recent(context: &mut Context<'_>) -> Result<Timeline, Error> {
    let begin = Instant::now();
    let mut timeline = Timeline::of_user(context.me);
    for _ in 0..STEPS {
        let extended = timeline.extend(context.object);
        if !extended.map_err(|errno| context.unread(errno))? || begin.elapsed() > TIME {
            break;
        }
    }
    Ok(timeline)
}

/// The numbers of the newest actions; behind `A..`, those for the end of the range.
fn operations(timeline: &Timeline, prefix: &str, context: &Context<'_>) -> Vec<Described> {
    let head = prefix.rfind("..").map_or("", |at| &prefix[..at + 2]);
    // The oldest comes first in a range.
    let from = head.strip_suffix("..").and_then(|from| from.parse().ok());
    let from: u64 = from.unwrap_or(0);
    let head = match prefix[head.len()..].starts_with('#') {
        true => &prefix[..=head.len()],
        false => head,
    };
    let actions = visible(timeline, &timeline.live(&|_| false));
    let newer = actions.iter();
    let newer = newer.filter(|action| action.newest(timeline).seq >= from);
    let named = marks(timeline, context).into_iter();
    let named = named.filter(|(_, _, mark)| *mark >= from);
    let named = named.map(|(name, about, _)| (format!("{head}{name}"), about));
    let described = newer.map(|action| {
        let newest = action.newest(timeline);
        let ago = ago(newest, context);
        let command = cut(&action_command(timeline, action));
        (format!("{head}{}", newest.seq), format!("{ago}  {command}"))
    });
    named.chain(described).collect()
}

/// The names of marks with their descriptions and numbers, the newest first, each name once.
fn marks(timeline: &Timeline, context: &Context<'_>) -> Vec<(String, String, u64)> {
    let mut seen = HashSet::new();
    let marks = timeline.entries.iter().filter_map(|entry| {
        let mark = NamedMark::of_entry(entry)?;
        let kind = if mark.is_run { "run" } else { "mark" };
        let about = format!("{}  {kind} {}", ago(entry, context), mark.message);
        seen.insert(mark.name.clone())
            .then_some((mark.name, about.trim_end().to_owned(), mark.seq))
    });
    marks.take(MARKS).collect()
}

/// So many actions back, and the numbers of actions.
fn points(timeline: &Timeline, prefix: &str, context: &Context<'_>) -> Vec<Described> {
    let actions = visible(timeline, &timeline.live(&|_| false));
    let before = |action: &Action| {
        let (seq, command) = (
            action.newest(timeline).seq,
            cut(&action_command(timeline, action)),
        );
        format!("before {seq}  {command}")
    };
    let back = actions.iter().take(BACK).enumerate();
    let back = back.map(|(at, action)| {
        let name = match at {
            0 => "@-".to_owned(),
            at => format!("@~{}", at + 1),
        };
        (name, before(action))
    });
    // Without a beginning, one example of them will do.
    let number = if prefix.starts_with('@') { BACK } else { 1 };
    let mut points: Vec<_> = back.take(number).collect();
    points.extend(operations(timeline, prefix, context));
    points
}

fn ago(entry: &Entry, context: &Context<'_>) -> String {
    when(entry.time, context.now.timestamp(), context.now.time_zone())
}

/// The live removals of names, by directory and name.
type Removals<'t> = HashMap<(ObjectId, Vec<u8>), &'t Entry>;

/// The names that were removed from the directory that the prefix names, the newest first.
fn deleted(timeline: &Timeline, prefix: &str, context: &Context<'_>) -> Vec<Described> {
    let head = prefix.rfind('/').map_or("", |at| &prefix[..=at]);
    let dir = if head.is_empty() { "." } else { head };
    let mut removals = Removals::new();
    for index in timeline.live(&|_| false) {
        let entry = &timeline.entries[index];
        let (Op::Unlink | Op::Rmdir, Some(dir), Some(name)) =
            (entry.op, entry.object, entry.line().name)
        else {
            continue;
        };
        removals.entry((dir, decoded(name))).or_insert(entry);
    }
    let Ok(place) = context.place(Path::new(dir)) else {
        return Vec::new();
    };
    let Some(object) = directory(&place, &removals, context) else {
        return Vec::new();
    };
    let mut found: Vec<(u64, Described)> = Vec::new();
    for ((parent, name), entry) in removals {
        let Ok(name) = String::from_utf8(name) else {
            continue;
        };
        if parent != object || context.tree.look(&place.join(&name)) != PathState::Gone {
            continue;
        }
        let end = if entry.op == Op::Rmdir { "/" } else { "" };
        let about = format!(
            "deleted {}  {}",
            ago(entry, context),
            cut(&command(&entry.actor, false))
        );
        found.push((entry.seq, (format!("{head}{name}{end}"), about)));
    }
    found.sort_by_key(|(seq, _)| core::cmp::Reverse(*seq));
    found.into_iter().map(|(_, described)| described).collect()
}

/// The directory at a place, which may be removed itself.
fn directory(place: &Path, removals: &Removals<'_>, context: &Context<'_>) -> Option<ObjectId> {
    let mut missing = Vec::new();
    let mut at = place;
    let mut object = loop {
        match (context.identify)(at).ok()? {
            Some(object) => break object,
            None => missing.push(at.file_name()?.as_encoded_bytes().to_vec()),
        }
        at = at.parent()?;
    };
    for name in missing.into_iter().rev() {
        object = removals.get(&(object, name))?.line().node?;
    }
    Some(object)
}
