// SPDX-License-Identifier: MIT OR Apache-2.0

//! `redo`: takes undos back.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::actions::actions;
use crate::cli::Options;
use crate::error::Error;
use crate::group::{ask_searching, operations, GroupReply, LeftOut};
use crate::output::Output;
use crate::save::displaced;
use crate::timeline::Timeline;
use crate::uapi::RevertGroup;
use loggerfs_log::plan::{RedoStep, RedoWalk};
use loggerfs_log::types::ObjectId;

use super::context::Context;
use super::log::View;
use super::report::{refused, Report};
use super::revert::flags;

/// Takes the newest undos back, by one request.
pub fn run(
    context: &mut Context<'_>,
    count: usize,
    options: Options,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let timeline = context.whole()?;
    let mut undos = undone(&timeline);
    let count = count.max(1);
    if undos.len() < count {
        let message = match undos.len() {
            0 => "there is no undo to be taken back".to_owned(),
            1 => "only one undo is left to be taken back".to_owned(),
            left => format!("only {left} undos are left to be taken back"),
        };
        return Err(Error::Nothing { message });
    }
    undos.truncate(count);
    let asked = operations(&timeline, &undos.concat());
    // Objects that the undo brought back may have been changed since.
    let blocked = displaced(&timeline, &undos.concat(), &HashSet::new());
    let answer = match blocked.is_empty() {
        true => {
            let known = (&timeline, context.tree);
            ask_searching(
                context.object,
                known,
                &asked,
                flags(options, RevertGroup::REDO),
            )
        }
        false => GroupReply::refusal(&blocked),
    };
    if answer.refused.is_some() {
        let total = asked.len();
        return Err(refused("redo", &timeline, total, &answer, context, output));
    }
    // In the order in which they come back.
    let done = |undo: &Vec<usize>| actions(&timeline, &reverted_operations(&timeline, undo));
    let actions = undos.iter().flat_map(done).collect();
    let report = Report {
        command: "redo",
        view: &View::new(timeline, actions, context),
        answer: &answer,
        left_out: &LeftOut::new(),
        options,
    };
    report.print(context, output)
}

/// The lines of each undo that was not taken back yet, the newest undo first.
fn undone(timeline: &Timeline) -> Vec<Vec<usize>> {
    let mut searches: HashMap<ObjectId, RedoWalk> = HashMap::new();
    let mut undos: Vec<(Option<u64>, Vec<usize>)> = Vec::new();
    for (index, entry) in timeline.entries.iter().enumerate() {
        let Some(object) = entry.object.filter(|_| entry.is_walk()) else {
            continue;
        };
        // Operations that followed an undo do not end the search: the kernel's refusal names the conflict.
        let search = searches.entry(object).or_default();
        if timeline.is_cancelled(entry) || search.step(&entry.line()) != RedoStep::Target {
            continue;
        }
        match undos.last_mut() {
            Some((group, lines)) if *group == entry.group() => lines.push(index),
            _ => undos.push((entry.group(), vec![index])),
        }
    }
    // An undo of which only changes to files without a name are left is no undo to take back.
    let is_seen = |index: &usize| !timeline.is_unnamed(&timeline.entries[*index]);
    let lines = undos.into_iter().map(|(_, lines)| lines);
    lines.filter(|lines| lines.iter().any(is_seen)).collect()
}

/// The operations that undos had taken back, the newest first.
fn reverted_operations(timeline: &Timeline, undos: &[usize]) -> Vec<usize> {
    let taken = undos
        .iter()
        .flat_map(|undo| timeline.reverted_operations(*undo));
    let taken: BTreeSet<usize> = taken.collect();
    taken.into_iter().collect()
}
