// SPDX-License-Identifier: MIT OR Apache-2.0

//! `versions`: lists the versions that a path had, across saves by rename and removals.

use std::path::Path;
use std::rc::Rc;

use crate::describe::{action_command, bytes, cut, local};
use crate::error::Error;
use crate::json::made_by;
use crate::old_content::content;
use crate::output::Output;
use crate::past_tree::PastTree;
use crate::quote::quoted;
use crate::select::Filter;
use crate::timeline::{Entry, Timeline};
use loggerfs_log::types::ObjectId;

use super::context::Context;
use super::table::table;
use super::unified::{changed_lines, is_binary};
use super::view::View;

/// Contents longer than this are not compared line by line.
const MOST: u64 = 4 << 20;

/// A version of a path.
pub(super) struct Version {
    /// The content; `None`: no regular file, or too long.
    text: Option<Vec<u8>>,
    /// The size of a regular file.
    pub(super) length: Option<u64>,
    /// The size in words.
    size: String,
    pub(super) is_there: bool,
}

impl Version {
    /// That of a name that is not there.
    fn gone() -> Self {
        Self {
            text: None,
            length: None,
            size: "gone".into(),
            is_there: false,
        }
    }

    /// The kind of the version, or why there is none.
    fn state(&self) -> &str {
        match (self.length, self.size.as_str()) {
            (Some(_), _) => "file",
            (None, "dir") => "directory",
            (None, "?") => "unreadable",
            (None, other) => other,
        }
    }

    /// The content, if it is text; that of a name that is not there is empty.
    pub(super) fn lines(&self) -> Option<&[u8]> {
        match &self.text {
            None if !self.is_there => Some(&[]),
            text => text.as_deref().filter(|text| !is_binary(text)),
        }
    }

    /// As [`Self::lines`].
    pub(super) fn into_lines(self) -> Option<Vec<u8>> {
        self.lines()?;
        Some(self.text.unwrap_or_default())
    }
}

/// Lists the newest versions of a path.
pub fn run(
    context: &mut Context<'_>,
    path: &Path,
    limit: usize,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let place = context.place(path)?;
    let timeline = context.whole()?;
    context.check_names(&timeline, core::slice::from_ref(&place))?;
    let filter = Filter {
        places: vec![place.clone()],
        ..Filter::default()
    };
    let chosen = filter.choose(&timeline, context.tree);
    let chosen = chosen.map_err(|selection_error| context.selection_error(selection_error))?;
    let view = View::new(timeline, chosen.actions, context);
    let mut rows = vec![["", "AT", "ID", "SIZE", "LINES", "BY"].map(str::to_owned)];
    let mut last = LastVersion::default();
    for action in view.actions.iter().take(limit) {
        let (newest, oldest) = (action.newest(&view.timeline), action.oldest(&view.timeline));
        let after = last.version(context, &view.timeline, &place, newest.seq)?;
        let before = oldest.seq.saturating_sub(1);
        let before = last.version(context, &view.timeline, &place, before)?;
        let lines = lines(&before, &after);
        if output.json {
            let mut object = made_by("version", &place, newest, context);
            object
                .put("title", action_command(&view.timeline, action))
                .put("exists", after.is_there)
                .put("state", after.state())
                .put_known("size", after.length)
                .put("new", after.is_there && !before.is_there);
            if let Some((added, removed)) = line_counts(&before, &after) {
                object.put("added", added).put("removed", removed);
            }
            output.object(&object.into_value())?;
            continue;
        }
        rows.push([
            String::new(),
            local(newest.time, context.now.time_zone()),
            newest.seq.to_string(),
            after.size.clone(),
            lines,
            cut(&action_command(&view.timeline, action)),
        ]);
    }
    if view.actions.is_empty() {
        let message = format!("the log has no version of {}", quoted(path));
        return Err(Error::Nothing { message });
    }
    if output.json {
        return Ok(());
    }
    output.text(&table(&rows))
}

/// The version that was read last: that before an action is mostly the one after the action before.
#[derive(Default)]
struct LastVersion(Option<(StateKey, Rc<Version>)>);

/// The object at a place, and its newest line then: as long as both are the same, so is the version.
type StateKey = (Option<ObjectId>, Option<u64>);

impl LastVersion {
    /// As the function of this name.
    fn version(
        &mut self,
        context: &mut Context<'_>,
        timeline: &Timeline,
        place: &Path,
        cut: u64,
    ) -> Result<Rc<Version>, Error> {
        let object = PastTree::new(timeline, cut, context.tree, context.identify).object(place)?;
        let is_own = |entry: &&Entry| entry.seq <= cut && entry.object == object;
        let newest = object.and_then(|_| timeline.entries.iter().find(is_own));
        let key = (object, newest.map(|entry| entry.seq));
        match &self.0 {
            Some((known, version)) if *known == key => return Ok(version.clone()),
            _ => {}
        }
        let version = Rc::new(match object {
            None => Version::gone(),
            Some(object) => read(context, object, place, cut),
        });
        self.0 = Some((key, version.clone()));
        Ok(version)
    }
}

/// The version right after a line.
pub(super) fn version(
    context: &mut Context<'_>,
    timeline: &Timeline,
    place: &Path,
    cut: u64,
) -> Result<Version, Error> {
    let tree = PastTree::new(timeline, cut, context.tree, context.identify);
    match tree.object(place)? {
        None => Ok(Version::gone()),
        Some(object) => Ok(read(context, object, place, cut)),
    }
}

fn read(context: &mut Context<'_>, object: ObjectId, place: &Path, cut: u64) -> Version {
    let (text, length, size) = match content(context.object, object, cut, place) {
        Ok(mut old) if old.is_regular() => {
            let text = old.bytes(MOST).ok().flatten();
            (text, Some(old.size), bytes(old.size))
        }
        Ok(old) if old.is_directory() => (None, None, "dir".into()),
        Ok(_) => (None, None, "special".into()),
        // One version that cannot be read hides no other.
        Err(Error::OldContent(_)) => (None, None, "dropped".into()),
        Err(_) => (None, None, "?".into()),
    };
    Version {
        text,
        length,
        size,
        is_there: true,
    }
}

/// How many lines a version added and removed, if both are text.
fn line_counts(before: &Version, after: &Version) -> Option<(usize, usize)> {
    changed_lines(before.lines()?, after.lines()?)
}

/// How many lines a version added and removed: `+3 -1`, or `new`.
fn lines(before: &Version, after: &Version) -> String {
    match (&before.text, &after.text) {
        (_, None) => String::new(),
        (None, Some(_)) if !before.is_there => "new".into(),
        (None, Some(_)) => String::new(),
        (Some(old), Some(new)) => match changed_lines(old, new) {
            None => "binary".into(),
            Some((0, 0)) => "=".into(),
            Some((added, removed)) => {
                let parts = [(added, '+'), (removed, '-')].into_iter();
                let parts = parts.filter(|(count, _)| *count != 0);
                let parts: Vec<String> = parts.map(|(n, sign)| format!("{sign}{n}")).collect();
                parts.join(" ")
            }
        },
    }
}
