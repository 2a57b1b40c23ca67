// SPDX-License-Identifier: MIT OR Apache-2.0

//! `deleted`: lists what was removed and can come back.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::describe::{bytes, command, cut, when};
use crate::error::Error;
use crate::json::made_by;
use crate::old_content::facts;
use crate::output::Output;
use crate::paths::{PathState, Paths};
use crate::quote::word;
use crate::timeline::{Entry, Timeline};
use loggerfs_log::line::Op;
use loggerfs_log::types::ObjectId;

use super::context::Context;
use super::table::table;

/// A name that is gone.
struct Deleted {
    path: PathBuf,
    /// The removal, as an index into the timeline.
    index: usize,
    object: ObjectId,
}

/// Lists what was removed below a directory, or on the whole mount; the newest first.
pub fn run(
    context: &mut Context<'_>,
    dir: Option<&Path>,
    (limit, only_names): (Option<usize>, bool),
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let place = dir.map(|dir| context.place(dir)).transpose()?;
    let timeline = context.whole()?;
    context.check_names(&timeline, place.as_slice())?;
    let mut found = find(&timeline, context);
    if let Some(place) = place {
        found.retain(|one| one.path.starts_with(&place));
    }
    found.truncate(limit.unwrap_or(usize::MAX));
    if only_names && !output.json {
        return found.iter().try_for_each(|one| output.name(&one.path));
    }
    let mut rows = vec![["", "ID", "DELETED", "WHO", "SIZE", "NAME", "BY"].map(str::to_owned)];
    for one in found {
        let entry = &timeline.entries[one.index];
        let (size, state) = state(context, &one, entry);
        if output.json {
            let mut object = made_by("deleted", &one.path, entry, context);
            let kind = match (size, state.as_str()) {
                (Some(_), _) => Some("file"),
                (None, "dir") => Some("directory"),
                (None, DROPPED) => None,
                (None, other) => Some(other),
            };
            object
                .put_known("size", size)
                .put_known("kind", kind)
                .put("restorable", state != DROPPED);
            output.object(&object.into_value())?;
            continue;
        }
        let user = entry.actor.uid.map(|uid| context.users.name(uid));
        rows.push([
            String::new(),
            entry.seq.to_string(),
            when(entry.time, context.now.timestamp(), context.now.time_zone()),
            user.unwrap_or_else(|| "?".into()),
            size.map_or(state, bytes),
            word(&one.path),
            cut(&command(&entry.actor, false)),
        ]);
    }
    match rows.len() {
        _ if output.json => Ok(()),
        1 => output.text("Nothing that was deleted is missing.\n"),
        _ => {
            output.text(&table(&rows))?;
            output.finish()?;
            output.hint("`logctl cat NAME` prints one, `logctl cat NAME --out FILE` copies it.");
            Ok(())
        }
    }
}

/// The live removals of names that are free now.
fn find(timeline: &Timeline, context: &Context<'_>) -> Vec<Deleted> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    let live = timeline.live(&|_| false);
    let places = Paths::places(timeline, &live, context.tree);
    for (index, place) in live.into_iter().zip(places) {
        let entry = &timeline.entries[index];
        let line = entry.line();
        let removed = match entry.op {
            Op::Unlink | Op::Rmdir => line.node,
            _ => None,
        };
        let (Some(object), Some(path)) = (removed, place.path) else {
            continue;
        };
        let is_gone = context.tree.look(&path) == PathState::Gone;
        if is_gone && seen.insert(path.clone()) {
            found.push(Deleted {
                path,
                index,
                object,
            });
        }
    }
    found
}

/// The word for what cannot come back.
const DROPPED: &str = "dropped";

/// Its size, if it is a file that can come back; otherwise what is known.
fn state(context: &mut Context<'_>, one: &Deleted, entry: &Entry) -> (Option<u64>, String) {
    let before = entry.seq.saturating_sub(1);
    match facts(context.object, one.object, before, &one.path) {
        Ok(old) if old.is_regular() => (Some(old.size), String::new()),
        Ok(old) if old.is_directory() => (None, "dir".into()),
        Ok(_) => (None, "special".into()),
        Err(_) => (None, DROPPED.into()),
    }
}
