// SPDX-License-Identifier: MIT OR Apache-2.0

//! The report of a request: done, planned, or refused.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::cli::Options;
use crate::describe::{action_command, changes, count, cut, taken_back};
use crate::error::Error;
use crate::group::{GroupReply, LeftOut};
use crate::json::{self, JsonObject};
use crate::live_places::LivePlaces;
use crate::obstacle::{exit_code, obstacle, process};
use crate::output::Output;
use crate::paths::Place;
use crate::quote::word;
use crate::timeline::Timeline;
use crate::uapi::{Conflict, Reason};

use super::context::Context;
use super::table::table;
use super::view::View;

/// How many actions or conflicts are listed.
const LISTED: usize = 20;

/// The note on a revert that did not save the content that it replaced.
pub const CANNOT_BE_REDONE: &str =
    "It cannot be redone: the replaced content was not saved (--no-redo).\n";

/// A request and its result.
pub struct Report<'r> {
    /// The command's name.
    pub command: &'static str,
    /// The chosen actions, and where they were.
    pub view: &'r View,
    /// The answer.
    pub answer: &'r GroupReply,
    /// Operations that were left out.
    pub left_out: &'r LeftOut,
    /// The options of the request.
    pub options: Options,
}

impl Report<'_> {
    /// Prints the operations that were taken back, and those that were left out.
    pub fn print(&self, context: &Context<'_>, output: &mut Output<'_>) -> Result<(), Error> {
        self.print_done(context, output)?;
        self.print_left_out(context, output)
    }

    /// Prints the operations that were taken back, or would be.
    pub fn print_done(&self, context: &Context<'_>, output: &mut Output<'_>) -> Result<(), Error> {
        if output.json {
            for action in &self.view.actions {
                output.object(&json::action(self.view, action, context))?;
            }
            output.object(&json::summary(self, context))?;
        } else if self.command == "undo" || self.command == "redo" {
            self.print_undo(output)?;
        } else {
            self.print_plan(context, output)?;
        }
        if !output.json {
            self.print_unnamed(output)?;
            if self.options.no_redo && !self.options.dry_run {
                output.text(CANNOT_BE_REDONE)?;
            }
        }
        self.print_staying(context, output)?;
        output.finish()
    }

    /// Lists those that were left out; then the request was done in part.
    pub fn print_left_out(
        &self,
        context: &Context<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Error> {
        if self.left_out.is_empty() {
            return Ok(());
        }
        let conflicts: Vec<Conflict> = self.left_out.values().copied().collect();
        let left = count(
            conflicts.len(),
            "operation was left out",
            "operations were left out",
        );
        output.say(format_args!("{left}:"));
        list(&conflicts, &self.view.timeline, context, output);
        tell(
            self.command,
            &conflicts,
            &self.view.timeline,
            context,
            output,
        )?;
        Err(Error::Conflicts {
            path: context.root.clone(),
            code: 3,
        })
    }

    /// One sentence for each action.
    fn print_undo(&self, output: &mut Output<'_>) -> Result<(), Error> {
        let verb = match (self.command, self.options.dry_run) {
            ("undo", false) => "Undid",
            ("undo", true) => "Would undo",
            (_, false) => "Did again",
            (_, true) => "Would do again",
        };
        for action in &self.view.actions {
            let newest = action.newest(&self.view.timeline);
            let called = cut(&action_command(&self.view.timeline, action));
            let (changed, only) = self.view.changes(action);
            let effect = match self.command {
                "undo" => taken_back(&changed, only.as_ref(), self.options.dry_run),
                _ => changes(&changed, only.as_ref()),
            };
            output.text(&format!("{verb} {} \"{called}\": {effect}.\n", newest.seq))?;
        }
        Ok(())
    }

    /// Which directories stay, since they are not empty.
    fn print_staying(&self, context: &Context<'_>, output: &mut Output<'_>) -> Result<(), Error> {
        let staying = &self.answer.staying;
        if staying.is_empty() {
            return Ok(());
        }
        if output.json {
            let timeline = &self.view.timeline;
            return describe_all("note", self.command, staying, timeline, context, output);
        }
        let verb = if self.options.dry_run {
            "would stay"
        } else {
            "stays"
        };
        let directories = count(staying.len(), "directory", "directories");
        output.text(&format!("{directories} {verb}:\n"))?;
        output.finish()?;
        list(staying, &self.view.timeline, context, output);
        Ok(())
    }

    /// Operations that the kernel left out by itself.
    fn print_unnamed(&self, output: &mut Output<'_>) -> Result<(), Error> {
        let left_out = self.answer.reply.left_out;
        if left_out == 0 {
            return Ok(());
        }
        let left_out = usize::try_from(left_out).unwrap_or(usize::MAX);
        let operations = count(left_out, "operation", "operations");
        let are = if left_out == 1 { "is" } else { "are" };
        output.text(&format!(
            "{operations} on files that never had a name {are} left out: those files are gone.\n"
        ))
    }

    /// How much, and a list of actions.
    fn print_plan(&self, context: &Context<'_>, output: &mut Output<'_>) -> Result<(), Error> {
        let reply = &self.answer.reply;
        if reply.reverted == 0 {
            return Ok(());
        }
        let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let verb = if self.options.dry_run {
            "Would take back"
        } else {
            "Took back"
        };
        let operations = count(number(reply.reverted), "operation", "operations");
        let objects = count(number(reply.objects), "object", "objects");
        output.text(&format!("{verb} {operations} on {objects}:\n"))?;
        let rows: Vec<_> = (self.view.actions.iter().take(LISTED))
            .map(|action| {
                let (changed, only) = self.view.changes(action);
                [
                    String::new(),
                    action.newest(&self.view.timeline).seq.to_string(),
                    self.view.who(action, context),
                    cut(&action_command(&self.view.timeline, action)),
                    changes(&changed, only.as_ref()),
                ]
            })
            .collect();
        output.text(&table(&rows))?;
        match self.view.actions.len().saturating_sub(LISTED) {
            0 => Ok(()),
            more => output.text(&format!("  … and {more} older ones\n")),
        }
    }
}

/// Prints the conflicts of a refused request, and returns the error.
pub fn refused(
    command: &'static str,
    timeline: &Timeline,
    total: usize,
    answer: &GroupReply,
    context: &Context<'_>,
    output: &mut Output<'_>,
) -> Error {
    refused_with(command, timeline, (total, answer), true, context, output)
}

/// As [`refused`]; the hint on how to go on may be left out.
pub fn refused_with(
    command: &'static str,
    timeline: &Timeline,
    (total, answer): (usize, &GroupReply),
    has_hint: bool,
    context: &Context<'_>,
    output: &mut Output<'_>,
) -> Error {
    let errno = answer.refused.unwrap_or(rustix::io::Errno::IO);
    let conflicts = &answer.conflicts;
    let known = |conflict: &Conflict| timeline.find(conflict.seq).is_some();
    if !conflicts.iter().any(known) {
        let reply = &answer.reply;
        return Error::from_revert(&context.root, errno, reply.reason, reply.blocking_seq);
    }
    let all = usize::try_from(answer.reply.found).unwrap_or(usize::MAX);
    let head = count(all.max(conflicts.len()), "conflict", "conflicts");
    let among = count(total, "operation", "operations");
    output.say(format_args!("{head} among {among}; nothing changed."));
    list(conflicts, timeline, context, output);
    let others = total.saturating_sub(conflicts.len());
    let is_anothers = |conflict: &Conflict| {
        if Reason::from_code(conflict.reason) == Some(Reason::Busy) {
            return false;
        }
        let entry = timeline
            .find(conflict.blocker)
            .map(|at| &timeline.entries[at]);
        conflict.blocker != 0 && !entry.is_some_and(|entry| timeline.concerns(entry, context.me))
    };
    if context.me.is_some() && conflicts.iter().any(is_anothers) {
        output.hint(
            "the later operation is another user's; `logctl log` lists your actions, and `logctl \
             revert OP` takes one of them back without the others.",
        );
    } else if let Some(hint) = way_out(command, conflicts, others != 0).filter(|_| has_hint) {
        output.hint(hint);
    }
    if let Err(error) = tell(command, conflicts, timeline, context, output) {
        return error;
    }
    let reasons = conflicts
        .iter()
        .map(|conflict| Reason::from_code(conflict.reason));
    Error::Conflicts {
        path: context.root.clone(),
        code: exit_code(reasons),
    }
}

/// The hint on the operations that have no conflict, if there are any (`has_others`). Their number
/// is not known: one conflict may be reported for all operations of its object.
fn way_out(command: &str, conflicts: &[Conflict], has_others: bool) -> Option<&'static str> {
    let is_later = |conflict: &Conflict| {
        conflict.blocker != 0 && Reason::from_code(conflict.reason) == Some(Reason::Conflict)
    };
    let first = conflicts.iter().any(is_later);
    Some(match (command, first, has_others) {
        ("undo" | "redo", true, _) => "take the later operations back first: `logctl revert OP`.",
        ("redo", false, _) => "an undo is taken back whole, or not at all.",
        ("undo", false, true) => {
            "`logctl revert OP --partial` takes the rest of the action back (exit 3)."
        }
        ("revert", true, true) => {
            "--partial takes the others back (exit 3), --merge also lines of text files; `logctl revert OP` \
             takes what is in the way back first."
        }
        ("revert", true, false) => {
            "--merge takes lines of text files back; `logctl revert OP` takes what is in the way back first."
        }
        (_, true, true) => {
            "--partial takes the others back (exit 3); `logctl revert OP` takes what is in the way \
             back first."
        }
        (_, true, false) => "`logctl revert OP` takes what is in the way back first.",
        (_, false, true) => "--partial takes the others back (exit 3).",
        (_, false, false) => return None,
    })
}

/// Lists conflicts: their kind, place and reason.
fn list(
    conflicts: &[Conflict],
    timeline: &Timeline,
    context: &Context<'_>,
    output: &mut Output<'_>,
) {
    let places = LivePlaces::of(timeline, conflicts, context.tree);
    // A file with several operations, or several later ones in its way, is named once; a save, by its newest operation.
    let (mut seen, mut saves) = (HashSet::new(), HashSet::new());
    let mut rows: Vec<[String; 4]> = conflicts
        .iter()
        .filter_map(|conflict| {
            let reason = Reason::from_code(conflict.reason);
            let by = match (timeline.find(conflict.blocker), conflict.blocker) {
                // The number of a process.
                (_, pid) if reason == Some(Reason::Busy) => process(pid),
                (Some(index), seq) => {
                    let program = timeline.entries[index].actor.program();
                    Some(format!("{program} (op {seq})"))
                }
                (None, 0) => None,
                // Its line is not for this user.
                (None, seq) => Some(format!("another user (op {seq})")),
            };
            let (kind, mut why) = obstacle(reason, by.as_deref());
            let at = places
                .find(conflict.seq)
                .and_then(|place| place.now.as_ref().or(place.path.as_ref()));
            if at.is_some() && reason.is_some_and(is_of_one) {
                let seq = match conflict.blocker {
                    0 => conflict.seq,
                    seq => seq,
                };
                why += &format!(" (op {seq})");
            }
            let at = at.map_or_else(|| format!("op {}", conflict.seq), |at| name(at));
            let save = places.save(conflict.seq);
            let is_first = save.is_none_or(|save| saves.insert((kind, save)));
            let is_new = seen.insert((kind, at.clone())) && is_first;
            is_new.then(|| [" ".to_owned(), kind.to_owned(), at, why])
        })
        .collect();
    let more = rows.len().saturating_sub(LISTED);
    rows.truncate(LISTED);
    output.say(table(&rows).trim_end_matches('\n'));
    if more > 0 {
        output.say(format_args!("  … and {more} more"));
    }
}

/// Whether the reason lies in the operation itself, not in another operation or process.
fn is_of_one(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Lost | Reason::Trimmed | Reason::Gone | Reason::Corrupt | Reason::Unsupported
    )
}

fn name(path: &Path) -> String {
    if path == Path::new("") {
        ".".into()
    } else {
        word(path)
    }
}

/// The conflicts as JSON.
fn tell(
    command: &'static str,
    conflicts: &[Conflict],
    timeline: &Timeline,
    context: &Context<'_>,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    if !output.json {
        return Ok(());
    }
    describe_all("error", command, conflicts, timeline, context, output)?;
    output.finish()
}

/// Conflicts or notes as JSON.
fn describe_all(
    kind: &str,
    command: &str,
    conflicts: &[Conflict],
    timeline: &Timeline,
    context: &Context<'_>,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let places = LivePlaces::of(timeline, conflicts, context.tree);
    for conflict in conflicts {
        let place = places.find(conflict.seq);
        let mut object = described(kind, conflict, place, timeline, context);
        object.put("command", command);
        output.object(&object.into_value())?;
    }
    Ok(())
}

/// A conflict: where, why, and the operation or process in the way.
fn described(
    kind: &str,
    conflict: &Conflict,
    place: Option<&Place>,
    timeline: &Timeline,
    context: &Context<'_>,
) -> JsonObject {
    let reason = Reason::from_code(conflict.reason);
    let path = place.and_then(|place| place.path.as_ref());
    let path = path.map_or_else(|| context.root.clone(), |path| context.root.join(path));
    let now = place.and_then(|place| place.now.as_ref());
    let now = now.map(|now| context.root.join(now));
    let is_busy = reason == Some(Reason::Busy);
    let blocker = timeline.find(conflict.blocker).filter(|_| !is_busy);
    let by = blocker.map(|index| timeline.entries[index].actor.program());
    let (word, why) = obstacle(reason, by.as_deref());
    let mut object = JsonObject::new(kind, &path);
    object
        .put("reason", reason.map_or("Unknown", Reason::as_str))
        .put("kind", word)
        .put("message", why)
        .put("op", conflict.seq);
    if let Some(now) = now {
        object.put_bytes("path_now", now.as_os_str().as_bytes());
    }
    let key = if is_busy {
        "blocking_pid"
    } else {
        "blocking_op"
    };
    object.put_known(key, Some(conflict.blocker).filter(|number| *number != 0));
    if let Some(index) = blocker {
        object.put("by", json::actor(&timeline.entries[index], context));
    }
    object
}
