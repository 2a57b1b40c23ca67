// SPDX-License-Identifier: MIT OR Apache-2.0

//! `revert --merge` and `undo --merge`: takes operations back as a whole where that is possible, and out of text
//! files that were changed later line by line.

use std::collections::HashSet;

use crate::actions::{actions, visible};
use crate::cli::Options;
use crate::describe::count;
use crate::error::Error;
use crate::group::{ask_partly, GroupReply, LeftOut};
use crate::json::JsonObject;
use crate::merge::KeptLines;
use crate::merge_file::{merge_file, MergeInto, MergedFile, UnmergedFile};
use crate::merge_plan::MergePlan;
use crate::output::Output;
use crate::quote::word;
use crate::save::SaveUnits;
use crate::timeline::Timeline;
use crate::uapi::{Conflict, Operation, RevertGroup};

use super::context::Context;
use super::report::{refused, refused_with, Report};
use super::revert::{asked, blocked, flags};
use super::view::View;

/// A request that is prepared: nothing is changed yet.
pub struct MergeRequest {
    /// The operations that are taken back as a whole, or may be.
    operations: Vec<Operation>,
    /// Conflicts that the kernel does not report.
    blocked: Vec<Conflict>,
    /// Files with merges.
    pub files: Vec<MergedFile>,
    /// Files that stay as they are.
    pub unmerged: Vec<UnmergedFile>,
}

/// The reply to the operations that are taken back as a whole.
pub struct WholeReply {
    /// The reply.
    pub answer: GroupReply,
    /// Those that were taken back, or would be, as indices into the timeline, in order.
    pub done: Vec<usize>,
    /// Those that were left out.
    pub left_out: LeftOut,
}

impl MergeRequest {
    /// Finds out by dry runs which of the chosen operations can be taken back, and merges the files of others.
    pub fn prepare(
        context: &mut Context<'_>,
        (command, timeline, chosen): (&'static str, &Timeline, &[usize]),
        (options, into): (Options, MergeInto),
        output: &mut Output<'_>,
    ) -> Result<Self, Error> {
        let operations = asked(timeline, chosen)?;
        let live = timeline.live(&|index| chosen.binary_search(&index).is_ok());
        let units = SaveUnits::of(timeline, &live);
        let mut request = Self {
            operations,
            blocked: blocked(timeline, &units, chosen),
            files: Vec::new(),
            unmerged: Vec::new(),
        };
        let dry_run = flags(options, 0) | RevertGroup::DRY_RUN;
        let total = request.operations.len();
        let first = request.ask(context, timeline, chosen, dry_run);
        if let Some(answer) = failed(&first.answer, &first.left_out, total) {
            return Err(refused(command, timeline, total, answer, context, output));
        }
        let known = (context.tree, context.identify);
        let plan = MergePlan::of(timeline, chosen, (&first.left_out, &units), known)?;
        let left = plan.left.into_iter();
        request.unmerged = left
            .map(|(path, before, why)| UnmergedFile::planned(path, before, why))
            .collect();
        let mut merged: HashSet<u64> = HashSet::new();
        for file in &plan.files {
            match merge_file(context, file, into)? {
                Ok(found) => {
                    let numbers = file.operations.iter();
                    merged.extend(numbers.map(|index| timeline.entries[*index].seq));
                    request.files.push(found);
                }
                Err(unmerged) => request.unmerged.push(unmerged),
            }
        }
        let is_merged = |seq: &u64| merged.contains(seq);
        request
            .operations
            .retain(|operation| !is_merged(&operation.seq));
        request.blocked.retain(|conflict| !is_merged(&conflict.seq));
        Ok(request)
    }

    /// Asks the kernel for the operations that are not merged.
    pub fn ask(
        &self,
        context: &mut Context<'_>,
        timeline: &Timeline,
        chosen: &[usize],
        flags: u32,
    ) -> WholeReply {
        if self.operations.is_empty() {
            let mut answer = GroupReply::refusal(&[]);
            answer.refused = None;
            return WholeReply {
                answer,
                done: Vec::new(),
                left_out: LeftOut::new(),
            };
        }
        let live = timeline.live(&|index| chosen.binary_search(&index).is_ok());
        let units = SaveUnits::of(timeline, &live);
        let all = (self.operations.clone(), &self.blocked[..]);
        let known = (timeline, context.tree);
        let (answer, done, left_out) = ask_partly(context.object, known, &units, all, flags);
        let is_done = answer.refused.is_none();
        let staying: HashSet<u64> = answer.staying.iter().map(|note| note.seq).collect();
        let done = done
            .iter()
            .filter(|done| is_done && !staying.contains(&done.seq));
        let mut done: Vec<usize> = done.filter_map(|done| timeline.find(done.seq)).collect();
        done.sort_unstable();
        WholeReply {
            answer,
            done,
            left_out,
        }
    }
}

/// The reply that is an error: not because of conflicts of each operation.
fn failed<'a>(answer: &'a GroupReply, left_out: &LeftOut, total: usize) -> Option<&'a GroupReply> {
    let is_error = answer.refused.is_some() && left_out.len() < total;
    is_error.then_some(answer)
}

/// Takes the chosen operations back, and prints the report. True: something was changed, or would be.
pub fn request(
    context: &mut Context<'_>,
    command: &'static str,
    timeline: Timeline,
    chosen: &[usize],
    options: Options,
    output: &mut Output<'_>,
) -> Result<bool, Error> {
    let subject = (command, &timeline, chosen);
    let mut request = MergeRequest::prepare(context, subject, (options, MergeInto::File), output)?;
    let total = request.operations.len();
    let reply = request.ask(context, &timeline, chosen, flags(options, 0));
    if let Some(answer) = failed(&reply.answer, &reply.left_out, total) {
        return Err(refused(command, &timeline, total, answer, context, output));
    }
    let is_whole_done = reply.answer.refused.is_none() && reply.answer.reply.reverted != 0;
    if !options.dry_run {
        request.write();
    }
    let is_changed = is_whole_done || request.files.iter().any(MergedFile::is_change);
    if !is_changed && !reply.left_out.is_empty() {
        request.report((command, options.dry_run), context, output)?;
        let conflicts: Vec<Conflict> = reply.left_out.values().copied().collect();
        let answer = GroupReply::refusal(&conflicts);
        let reply = (total, &answer);
        return Err(refused_with(
            command, &timeline, reply, false, context, output,
        ));
    }
    let actions = match reply.answer.reply.left_out {
        0 => actions(&timeline, &reply.done),
        _ => visible(&timeline, &reply.done),
    };
    let report = Report {
        command,
        view: &View::new(timeline, actions, context),
        answer: &reply.answer,
        left_out: &reply.left_out,
        options,
    };
    report.print_done(context, output)?;
    request.report((command, options.dry_run), context, output)?;
    if is_changed && !options.dry_run {
        output.hint("`logctl undo` takes that back.");
    }
    report.print_left_out(context, output)?;
    request.conclude(is_changed, context)?;
    Ok(is_changed)
}

impl MergeRequest {
    /// Writes the files. One that cannot be written is among the others then.
    fn write(&mut self) {
        for file in std::mem::take(&mut self.files) {
            match file.is_change().then(|| file.write()) {
                Some(Err(unmerged)) => self.unmerged.push(unmerged),
                _ => self.files.push(file),
            }
        }
    }

    /// Whether all is merged; otherwise the request was done in part, or not at all.
    pub fn conclude(&self, is_changed: bool, context: &Context<'_>) -> Result<(), Error> {
        let is_whole = |file: &MergedFile| file.merge.kept.is_empty();
        if self.unmerged.is_empty() && self.files.iter().all(is_whole) {
            return Ok(());
        }
        Err(Error::Conflicts {
            path: context.root.clone(),
            code: if is_changed { 3 } else { 4 },
        })
    }

    /// Prints each file.
    pub fn report(
        &self,
        (command, dry_run): (&str, bool),
        context: &Context<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Error> {
        for file in &self.files {
            match output.json {
                true => {
                    output.object(&merged_json(file, (command, dry_run), context).into_value())?
                }
                false => output.text(&sentence(file, dry_run))?,
            }
        }
        for file in &self.unmerged {
            if output.json {
                let mut object = JsonObject::new("merge", &context.root.join(&file.path));
                object
                    .put("command", command)
                    .put("dry_run", dry_run)
                    .put("state", "left")
                    .put("reason", file.reason)
                    .put("message", file.why.as_str());
                output.object(&object.into_value())?;
                continue;
            }
            let (path, why) = (word(&file.path), &file.why);
            let look = match file.before {
                0 => String::new(),
                before => format!("; `logctl cat {path} --at {before}` prints it as it was before"),
            };
            output.text(&format!("Not merged: {path}: {why}{look}.\n"))?;
        }
        output.finish()
    }
}

fn merged_json(
    file: &MergedFile,
    (command, dry_run): (&str, bool),
    context: &Context<'_>,
) -> JsonObject {
    let kept = |kept: &KeptLines| serde_json::json!({"line": kept.line, "lines": kept.lines, "hunks": kept.hunks});
    let kept: Vec<serde_json::Value> = file.merge.kept.iter().map(kept).collect();
    let state = match (file.is_change(), file.merge.kept.is_empty()) {
        (true, _) => "merged",
        (false, true) => "same",
        (false, false) => "kept",
    };
    let mut object = JsonObject::new("merge", &context.root.join(&file.path));
    object
        .put("command", command)
        .put("dry_run", dry_run)
        .put("state", state)
        .put("hunks", file.merge.hunks)
        .put("taken_back", file.merge.taken_back)
        .put("kept", kept);
    object
}

/// The merge of a file in words.
fn sentence(file: &MergedFile, dry_run: bool) -> String {
    let (path, merge) = (word(&file.path), &file.merge);
    let hunks = count(merge.hunks, "hunk", "hunks");
    let mut places: Vec<String> = merge.kept.iter().map(place).collect();
    places.dedup();
    let places = places.join(", ");
    match (file.is_change(), merge.hunks_kept()) {
        (false, 0) => format!("Nothing of the change is left in {path}: it stays as it is.\n"),
        (false, _) => {
            let verb = if dry_run { "Would keep" } else { "Kept" };
            format!("{verb} {path}: later changes overlap all that is left of {hunks}: {places}.\n")
        }
        (true, kept) => {
            let verb = if dry_run { "Would merge" } else { "Merged" };
            let back = match kept {
                0 => format!("{hunks} taken back"),
                _ => format!("{} of {hunks} taken back", merge.taken_back),
            };
            let stays = match kept {
                0 => String::new(),
                1 => format!(", 1 kept, which overlaps a later change: {places}"),
                _ => format!(", {kept} kept, which overlap later changes: {places}"),
            };
            format!("{verb} {path}: {back}{stays}.\n")
        }
    }
}

/// `line 7`, `lines 7-9`, `before line 7` where lines were removed.
fn place(kept: &KeptLines) -> String {
    match kept.lines {
        0 => format!("before line {}", kept.line),
        1 => format!("line {}", kept.line),
        lines => format!("lines {}-{}", kept.line, kept.line + lines - 1),
    }
}
