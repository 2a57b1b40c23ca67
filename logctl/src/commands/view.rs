// SPDX-License-Identifier: MIT OR Apache-2.0

//! Actions as they are shown: where operations were, changes, users, and the runs that they belong to.

use std::collections::{HashMap, HashSet};

use crate::actions::{actions, Action};
use crate::changes::Changes;
use crate::marks::NamedMark;
use crate::paths::{Paths, Place};
use crate::process::Processes;
use crate::timeline::Timeline;
use loggerfs_log::line::{Op, Process};

use super::context::Context;

/// Actions, and where each of their operations was.
pub struct View {
    /// The lines.
    pub timeline: Timeline,
    /// The actions, the newest first.
    pub actions: Vec<Action>,
    /// Where operations were, by index.
    pub places: HashMap<usize, Place>,
    /// The changes of actions that are reverts, by the newest operation of each.
    reverted: HashMap<usize, Changes>,
    /// The names of runs, by the newest operation of each action of one.
    runs: HashMap<usize, String>,
    /// If there are any: the number of the action of each operation of a program, also of those that were taken
    /// back.
    numbers: HashMap<usize, u64>,
}

impl View {
    /// With the places of the actions' operations.
    pub fn new(timeline: Timeline, actions: Vec<Action>, context: &Context<'_>) -> Self {
        let mut live = timeline.live(&|_| false);
        let mut places = HashMap::new();
        let mut reverted = HashMap::new();
        let mut numbers = HashMap::new();
        let runs = run_names(&timeline, &actions);
        if !actions.is_empty() {
            // Operations that are not live at present are included: an undo took them back.
            let view = actions.iter().flat_map(|action| &action.entries);
            let mut shown: HashSet<usize> = view.copied().collect();
            for action in &actions {
                if action.has_reverts(&timeline) {
                    let changes = Changes::of(&timeline, action);
                    shown.extend(changes.each.iter().map(|change| change.at.index));
                    reverted.insert(action.entries[0], changes);
                }
            }
            if !reverted.is_empty() {
                numbers = action_numbers(&timeline);
            }
            live.extend(&shown);
            live.sort_unstable();
            live.dedup();
            let is_shown = |index| shown.contains(&index);
            let found = Paths::places_if(&timeline, &live, &is_shown, context.tree);
            let found = live.into_iter().zip(found);
            places.extend(found.filter(|(index, _)| is_shown(*index)));
        }
        Self {
            timeline,
            actions,
            places,
            reverted,
            runs,
            numbers,
        }
    }

    /// The name of the run that an action belongs to.
    pub fn run(&self, action: &Action) -> Option<&str> {
        self.runs.get(action.entries.first()?).map(String::as_str)
    }

    /// Where an operation was.
    pub fn place(&self, index: usize) -> Place {
        self.places.get(&index).cloned().unwrap_or_default()
    }

    /// The changes of an action, and their place if there is only one.
    pub fn changes(&self, action: &Action) -> (Changes, Option<Place>) {
        let known = self.reverted.get(&action.entries[0]).cloned();
        let changes = known.unwrap_or_else(|| Changes::of(&self.timeline, action));
        let only = changes.only.map(|only| {
            let place = self.place(only.index);
            match (changes.moved, only.is_to) {
                (1, _) if only.is_back && place.to.is_some() => Place {
                    path: place.to,
                    to: place.path,
                    now: place.now,
                },
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

    /// If the view has reverts: the number of the action of an operation of a program.
    pub fn number(&self, index: usize) -> Option<u64> {
        self.numbers.get(&index).copied()
    }
}

/// The number of the action of each operation of a program.
fn action_numbers(timeline: &Timeline) -> HashMap<usize, u64> {
    let is_programs = |index: &usize| {
        let entry = &timeline.entries[*index];
        entry.group().is_none() && !entry.op.is_bookkeeping() && !timeline.is_cancelled(entry)
    };
    let all: Vec<usize> = (0..timeline.entries.len()).filter(is_programs).collect();
    let all = actions(timeline, &all);
    let numbered = all.iter().flat_map(|action| {
        let number = action.newest(timeline).seq;
        action.entries.iter().map(move |index| (*index, number))
    });
    numbered.collect()
}

/// The names of the runs that actions belong to, by the newest operation of each action: the run's process is
/// above that of the operation. Of several, the innermost and newest.
fn run_names(timeline: &Timeline, actions: &[Action]) -> HashMap<usize, String> {
    let marks = timeline.entries.iter().filter(|entry| entry.op == Op::Mark);
    let marks = marks.filter_map(NamedMark::of_entry);
    let mut of_process: HashMap<Process, Vec<(u64, String)>> = HashMap::new();
    for mark in marks.filter(|mark| mark.is_run) {
        if let Some(process) = mark.actor.process {
            let names = of_process.entry(process).or_default();
            names.push((mark.seq, mark.name));
        }
    }
    if of_process.is_empty() {
        return HashMap::new();
    }
    let processes = Processes::of(timeline);
    let named = actions.iter().filter_map(|action| {
        let newest = action.newest(timeline);
        let own = newest.actor.process?;
        let above = processes.chain(own).into_iter().skip(1);
        let mut names = above
            .filter_map(|process| of_process.get(&process))
            .flatten();
        let (_, name) = names.find(|(mark, _)| *mark < newest.seq)?;
        Some((*action.entries.first()?, name.clone()))
    });
    named.collect()
}
