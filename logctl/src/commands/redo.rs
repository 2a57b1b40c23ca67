// SPDX-License-Identifier: MIT OR Apache-2.0

//! `redo`: takes undos back.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::actions::{actions, Action};
use crate::cli::Options;
use crate::describe;
use crate::error::Error;
use crate::group::{ask_searching, operations, GroupReply, LeftOut};
use crate::operation_spec::{of_run, OperationSpec};
use crate::output::Output;
use crate::save::displaced;
use crate::timeline::Timeline;
use crate::uapi::RevertGroup;
use loggerfs_log::line::Op;
use loggerfs_log::plan::{RedoStep, RedoWalk};
use loggerfs_log::types::ObjectId;

use super::context::Context;
use super::report::{refused, Report};
use super::revert::flags;
use super::view::View;

/// Does the newest undone actions again, or a run that was undone, by one request.
///
/// An undo of several actions has one line for each object, so it can be taken back only as a whole. Where fewer
/// of its actions are wanted, a second request takes the others back once more.
pub fn run(
    context: &mut Context<'_>,
    what: &str,
    options: Options,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let timeline = context.whole()?;
    let Choice { undos, done, rest } = Choice::named(&timeline, what)?;
    let redone = request(
        context,
        &timeline,
        &undos,
        flags(options, RevertGroup::REDO),
    );
    if redone.refused.is_some() {
        let total = undos.len();
        return Err(refused("redo", &timeline, total, &redone, context, output));
    }
    let again: Vec<usize> = rest
        .iter()
        .flat_map(|action| action.entries.clone())
        .collect();
    if !again.is_empty() && !options.dry_run {
        let asked = operations(&timeline, &again);
        let flags = flags(options, RevertGroup::WALK);
        let answer = ask_searching(context.object, (&timeline, context.tree), &asked, flags);
        if answer.refused.is_some() {
            output.say(
                "All actions of that undo were done again: some could not be undone once more.",
            );
            return Err(refused(
                "undo",
                &timeline,
                asked.len(),
                &answer,
                context,
                output,
            ));
        }
    }
    let report = Report {
        command: "redo",
        view: &View::new(timeline, done, context),
        answer: &redone,
        left_out: &LeftOut::new(),
        options,
    };
    report.print(context, output)?;
    if !rest.is_empty() && !output.json {
        let left = describe::count(
            rest.len(),
            "action of that undo is",
            "actions of that undo are",
        );
        output.hint(&format!(
            "{left} left: `logctl redo` does the next one again."
        ));
    }
    Ok(())
}

/// Takes undos back.
fn request(
    context: &mut Context<'_>,
    timeline: &Timeline,
    undos: &[usize],
    flags: u32,
) -> GroupReply {
    // Objects that the undo brought back may have been changed since.
    let blocked = displaced(timeline, undos, &HashSet::new());
    match blocked.is_empty() {
        true => {
            let asked = operations(timeline, undos);
            ask_searching(context.object, (timeline, context.tree), &asked, flags)
        }
        false => GroupReply::refusal(&blocked),
    }
}

/// The undos that a redo takes back, and the actions that it is about.
struct Choice {
    /// The lines of the undos.
    undos: Vec<usize>,
    /// The actions that are done again, in this order.
    done: Vec<Action>,
    /// Actions of these undos that stay undone.
    rest: Vec<Action>,
}

impl Choice {
    /// Of a number of actions, or of a run.
    fn named(timeline: &Timeline, what: &str) -> Result<Self, Error> {
        if let Some(OperationSpec::Run { mark, name }) = OperationSpec::parse(what) {
            return Self::of_run(timeline, mark, &name);
        }
        match what.parse::<usize>() {
            Ok(count) => Self::of(timeline, count.max(1)),
            Err(_) => Err(Error::Usage {
                message: format!("'{what}' is neither a number of actions nor the name of a run"),
            }),
        }
    }

    /// The undos that took back nothing but operations of a run.
    fn of_run(timeline: &Timeline, mark: u64, name: &str) -> Result<Self, Error> {
        let run: HashSet<usize> = of_run(timeline, mark).into_iter().collect();
        let is_its = |taken: &[usize]| !taken.is_empty() && taken.iter().all(|i| run.contains(i));
        let mut choice = Self {
            undos: Vec::new(),
            done: Vec::new(),
            rest: Vec::new(),
        };
        let mut all = BTreeSet::new();
        for undo in undone(timeline) {
            let taken = reverted_operations(timeline, &undo);
            if is_its(&taken) {
                all.extend(taken);
                choice.undos.extend(undo);
            }
        }
        let all: Vec<usize> = all.into_iter().collect();
        choice.done = actions(timeline, &all).into_iter().rev().collect();
        choice.undos.sort_unstable();
        if !choice.undos.is_empty() {
            return Ok(choice);
        }
        let live = timeline.live(&|_| false);
        let is_revert = |index: &&usize| timeline.entries[**index].op == Op::Revert;
        let revert = live
            .iter()
            .filter(is_revert)
            .find(|index| is_its(&timeline.reverted_operations(**index)));
        let message = match revert {
            None => format!("no undo of the run '{name}' is there to be taken back"),
            Some(index) => {
                let seq = timeline.entries[*index].seq;
                format!("the run '{name}' was taken back by op {seq}: `logctl undo {seq}` brings it back")
            }
        };
        Err(Error::Nothing { message })
    }

    fn of(timeline: &Timeline, count: usize) -> Result<Self, Error> {
        let mut choice = Self {
            undos: Vec::new(),
            done: Vec::new(),
            rest: Vec::new(),
        };
        for undo in undone(timeline) {
            if choice.done.len() == count {
                return Ok(choice);
            }
            // An undo goes back from the newest action, so the oldest comes again first.
            let mut taken = actions(timeline, &reverted_operations(timeline, &undo));
            let wanted = taken.len().min(count - choice.done.len());
            let done = taken.split_off(taken.len() - wanted);
            choice.done.extend(done.into_iter().rev());
            choice.rest = taken;
            choice.undos.extend(undo);
        }
        if choice.done.len() == count {
            return Ok(choice);
        }
        let message = match choice.done.len() {
            0 => "there is no undo to be taken back".to_owned(),
            1 => "only one undone action is left to be done again".to_owned(),
            left => format!("only {left} undone actions are left to be done again"),
        };
        Err(Error::Nothing { message })
    }
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
