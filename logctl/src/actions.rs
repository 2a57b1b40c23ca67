// SPDX-License-Identifier: MIT OR Apache-2.0

//! The operations of a mount, grouped into actions, and the changes that each action made.
//!
//! An action is one command as a person types it: the work of a process group, which in an interactive shell
//! has all processes of a command line. A script, an agent or an installer without job control is one group
//! as a whole, so operations of a group are joined if less than two seconds pass between them. A process that
//! leads a session (an interactive shell) has a group for itself, and each of its redirections is an action of
//! its own. Lines of modules that recorded no groups are joined by process.
//!
//! Operations of a process through one open file are one action. The creation of a file belongs to the writes that
//! its creator then makes, and a save to the rename that ends it. The lines of one group of reverts are one
//! action; the writes by which logctl then merges files belong to it, and to no other command.

use std::collections::{HashMap, HashSet};

use crate::timeline::{Actor, Entry, Timeline};
use loggerfs_log::line::{Op, Process};
use loggerfs_log::types::{ObjectId, Time};

/// Neighbours less than this apart are one action, in nanoseconds.
pub const JOINED: i128 = 2_000_000_000;

/// How long a process may run before its first change and still continue the action of its group, in
/// nanoseconds: a compiler does.
const RUNNING: i128 = 60_000_000_000;

/// How far the times of two lines may be in the wrong order although the clock was not set.
const DISORDER: i128 = 100_000_000;

/// So long a program may take between the last write to a file and its rename over another one.
const SAVED: i128 = 60_000_000_000;

/// So long logctl may take between a revert and each file that it then merges.
const MERGED: i128 = SAVED;

/// Operations that belong together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Action {
    /// The operations, the newest first, as indices into the timeline; never empty.
    pub entries: Vec<usize>,
}

impl Action {
    /// Its newest operation: the one that the action is called by.
    pub fn newest<'t>(&self, timeline: &'t Timeline) -> &'t Entry {
        &timeline.entries[self.entries[0]]
    }

    /// Its oldest operation.
    pub fn oldest<'t>(&self, timeline: &'t Timeline) -> &'t Entry {
        &timeline.entries[self.entries[self.entries.len() - 1]]
    }

    /// The actor that the action is named by: the leader of the process group, if it changed anything itself.
    pub fn actor<'t>(&'t self, timeline: &'t Timeline) -> &'t Actor {
        let mut operations = self.operations(timeline);
        let leader = operations.find(|entry| entry.actor.leads_group());
        &leader.unwrap_or_else(|| self.newest(timeline)).actor
    }

    /// Whether it took operations back.
    pub fn has_reverts(&self, timeline: &Timeline) -> bool {
        self.operations(timeline)
            .any(|entry| entry.group().is_some())
    }

    /// The number of processes that did its operations.
    pub fn processes(&self, timeline: &Timeline) -> usize {
        let processes = self
            .operations(timeline)
            .filter_map(|entry| entry.actor.process);
        processes.collect::<HashSet<_>>().len()
    }

    /// Its operations, the newest first.
    pub fn operations<'t>(&'t self, timeline: &'t Timeline) -> impl Iterator<Item = &'t Entry> {
        self.entries.iter().map(|index| &timeline.entries[*index])
    }
}

/// A point in time as nanoseconds.
pub fn nanoseconds(time: Time) -> i128 {
    i128::from(time.sec) * 1_000_000_000 + i128::from(time.nsec)
}

/// The actions that the next older operation may join.
#[derive(Default)]
struct OpenActions<'t> {
    of_open: HashMap<u64, usize>,
    of_group: HashMap<u64, usize>,
    /// The oldest operation so far of each process, and of each object.
    of_process: HashMap<Process, (usize, &'t Entry)>,
    /// The newest process group with each number.
    of_process_group: HashMap<u32, GroupAction<'t>>,
    of_object: HashMap<ObjectId, (usize, &'t Entry)>,
    /// The operation that moved each object over another one.
    of_saved: HashMap<ObjectId, (usize, &'t Entry)>,
}

/// The action of a process group that older operations may join.
struct GroupAction<'t> {
    action: usize,
    /// Its oldest operation so far.
    oldest: &'t Entry,
    /// When its processes began to work for it, in nanoseconds.
    begin: i128,
    /// Whether a process is in it that does not lead the session.
    has_members: bool,
}

impl GroupAction<'_> {
    /// Whether the actor of an older operation is in this group. The kernel reuses numbers, so leaders are
    /// compared; the leader may have ended before some of the members changed anything. A group does not exist
    /// before its leader.
    fn has(&self, older: &Entry) -> bool {
        let leader = |actor: &Actor| actor.group.as_ref().and_then(|group| group.leader);
        let (own, actor) = (&self.oldest.actor, &older.actor);
        let is_same = match (leader(own), leader(actor)) {
            (Some(one), Some(other)) => one == other,
            (Some(one), None) => nanoseconds(one.start) - nanoseconds(older.time) <= 2 * DISORDER,
            _ => true,
        };
        is_same && own.sid == actor.sid && own.uid == actor.uid
    }

    /// Whether no pause lies between an older operation and the action.
    fn is_continued(&self, older: &Entry) -> bool {
        let is_same = self.oldest.actor.process == older.actor.process;
        let gap = nanoseconds(self.oldest.time) - nanoseconds(older.time);
        let pause = if is_same {
            gap
        } else {
            self.begin - nanoseconds(older.time)
        };
        pause < JOINED && gap > -DISORDER
    }
}

/// When a process began to work for an operation, in nanoseconds: the leader of a group when it did it, others
/// when they were started.
fn begin(entry: &Entry) -> i128 {
    let time = nanoseconds(entry.time);
    let start = entry
        .actor
        .process
        .map(|process| nanoseconds(process.start));
    match start {
        Some(start) if !entry.actor.leads_group() && (0..RUNNING).contains(&(time - start)) => {
            start
        }
        _ => time,
    }
}

impl<'t> OpenActions<'t> {
    /// The action that an operation, older than all before, belongs to.
    fn action_of(&self, entry: &Entry) -> Option<usize> {
        if let Some(group) = entry.group() {
            let known = self.of_group.get(&group).copied();
            return known.or_else(|| self.of_merge(entry).filter(|_| !entry.is_walk()));
        }
        let through = entry.open.and_then(|open| self.of_open.get(&open));
        through
            .copied()
            .or_else(|| self.of_creation(entry))
            .or_else(|| self.of_save(entry))
            .or_else(|| self.of_neighbour(entry))
    }

    /// The action of the next operation on the file that this operation made.
    fn of_creation(&self, entry: &Entry) -> Option<usize> {
        if entry.op != Op::Create {
            return None;
        }
        let (action, newer) = self.of_object.get(&entry.brief().node?)?;
        let is_same = newer.actor.process.is_some() && newer.actor.process == entry.actor.process;
        (is_same && is_close(newer, entry)).then_some(*action)
    }

    /// That of the rename by which the same process then put this file in another one's place.
    fn of_save(&self, entry: &Entry) -> Option<usize> {
        let object = match entry.op {
            Op::Create => entry.brief().node,
            op if is_on_names(op) => None,
            _ => entry.object,
        };
        let (action, rename) = self.of_saved.get(&object?)?;
        let is_same = rename.actor.process.is_some()
            && rename.actor.process == entry.actor.process
            && rename.actor.exec == entry.actor.exec;
        (is_same && is_gap(rename.time, entry.time, SAVED)).then_some(*action)
    }

    /// The action of the next operation in the same process group. A process that leads a session has job
    /// control if it has no other process in its group.
    fn of_neighbour(&self, entry: &Entry) -> Option<usize> {
        if entry.actor.is_logctl() {
            return self.of_merge(entry);
        }
        let Some(group) = &entry.actor.group else {
            return self.of_same_process(entry);
        };
        let open = self.of_process_group.get(&group.pgid)?;
        let may_join = open.has_members || !entry.actor.leads();
        (may_join && open.has(entry) && open.is_continued(entry)).then_some(open.action)
    }

    /// The action of the next operation by the same process, if that is logctl: it takes operations back first,
    /// and then writes the files that it merged.
    fn of_merge(&self, entry: &Entry) -> Option<usize> {
        let (action, newer) = self.of_process.get(&entry.actor.process?)?;
        let is_same = newer.actor.is_logctl() && newer.actor.exec == entry.actor.exec;
        (is_same && is_gap(newer.time, entry.time, MERGED)).then_some(*action)
    }

    /// The action of the next operation by the same process.
    fn of_same_process(&self, entry: &Entry) -> Option<usize> {
        let (action, newer) = self.of_process.get(&entry.actor.process?)?;
        let is_same = newer.actor.exec == entry.actor.exec && newer.group().is_none();
        (is_same && !entry.actor.leads() && is_close(newer, entry)).then_some(*action)
    }

    /// Notes which action an operation belongs to.
    fn note(&mut self, entry: &'t Entry, action: usize) {
        if let Some(group) = entry.group() {
            self.of_group.insert(group, action);
            return;
        }
        if let Some(open) = entry.open {
            self.of_open.insert(open, action);
        }
        if let Some(process) = entry.actor.process {
            self.of_process.insert(process, (action, entry));
        }
        self.note_in_group(entry, action);
        if let Some(object) = entry.object {
            self.of_object.insert(object, (action, entry));
        }
        if entry.op == Op::Rename {
            let line = entry.brief();
            let saved = line.over.and(line.node);
            (self.of_saved).extend(saved.map(|node| (node, (action, entry))));
        }
    }
}

impl<'t> OpenActions<'t> {
    /// Notes which action an operation of a process group belongs to.
    fn note_in_group(&mut self, entry: &'t Entry, action: usize) {
        let group = entry.actor.group.as_ref();
        let Some(group) = group.filter(|_| !entry.actor.is_logctl()) else {
            return;
        };
        let mut noted = GroupAction {
            action,
            oldest: entry,
            begin: begin(entry),
            has_members: !entry.actor.leads(),
        };
        if let Some(newer) = (self.of_process_group.get(&group.pgid)).filter(|n| n.action == action)
        {
            noted.begin = noted.begin.min(newer.begin);
            noted.has_members |= newer.has_members;
        }
        self.of_process_group.insert(group.pgid, noted);
    }
}

/// Whether two operations of one process follow each other at once. A negative gap does not measure the time
/// that passed; a small one is allowed because threads write lines concurrently.
pub fn is_close(newer: &Entry, older: &Entry) -> bool {
    is_gap(newer.time, older.time, JOINED)
}

/// Whether less than `most` passed between two times, the newer one first.
pub fn is_gap(newer: Time, older: Time, most: i128) -> bool {
    let gap = nanoseconds(newer) - nanoseconds(older);
    -DISORDER < gap && gap < most
}

/// Sorts operations, the newest first, into actions, the one with the newest operation first.
pub fn actions(timeline: &Timeline, operations: &[usize]) -> Vec<Action> {
    let mut actions: Vec<Action> = Vec::new();
    let mut open = OpenActions::default();
    for index in operations {
        let entry = &timeline.entries[*index];
        let action = open.action_of(entry).unwrap_or_else(|| {
            actions.push(Action::default());
            actions.len() - 1
        });
        actions[action].entries.push(*index);
        open.note(entry, action);
    }
    actions
}

/// As [`actions`], without actions on objects that have never had a name only: they are no steps to go back.
pub fn visible(timeline: &Timeline, operations: &[usize]) -> Vec<Action> {
    let mut actions = actions(timeline, operations);
    actions.retain(|action| {
        let mut operations = action.operations(timeline);
        !operations.all(|entry| timeline.is_unnamed(entry))
    });
    actions
}

/// Whether no line older than the timeline's oldest can belong to the action, and all that its reverts took back
/// was read.
pub fn is_settled(timeline: &Timeline, action: &Action) -> bool {
    let Some(end) = timeline.entries.last().filter(|_| !timeline.is_whole()) else {
        return true;
    };
    let opens = action.operations(timeline).filter_map(|entry| entry.open);
    let is_open = opens.min().is_some_and(|first| first < end.seq);
    let is_read = |index: &usize| {
        let group = timeline.entries[*index].group();
        group.is_none_or(|first| first >= end.seq && timeline.has_targets(*index))
    };
    let is_read = action.entries.iter().all(is_read);
    if !is_read || action.newest(timeline).group().is_some() {
        return is_read;
    }
    // A command of the same process group, an earlier operation of a process, the creation of a file.
    let begin = action.operations(timeline).map(begin).min();
    let gap = begin.map_or(i128::MAX, |begin| begin - nanoseconds(end.time));
    let is_merge = action.newest(timeline).actor.is_logctl();
    let most = match is_merge || saves_older_file(timeline, action) {
        true => SAVED,
        false => JOINED + DISORDER,
    };
    let birth = birth(timeline, action).filter(|_| !is_merge);
    let is_before = birth.is_some_and(|birth| nanoseconds(end.time) + 3 * DISORDER < birth);
    // A line whose process is not known yet may join this action, or this action its.
    let newest = nanoseconds(action.newest(timeline).time);
    let oldest = match (birth, begin) {
        (Some(birth), _) if is_before => Some(birth - DISORDER),
        (_, begin) => begin.map(|begin| begin - most),
    };
    let is_known =
        oldest.is_some_and(|oldest| !timeline.has_unattributed(oldest, newest + RUNNING + most));
    !is_open && (gap >= most || is_before) && is_known
}

/// The earliest time at which a process of the action, or the leader of one's group, was started, in nanoseconds:
/// no older operation is by one of them, or by another process of these groups. `None`: not known of all.
fn birth(timeline: &Timeline, action: &Action) -> Option<i128> {
    let starts = action.operations(timeline).map(|entry| {
        let leader = entry.actor.group.as_ref()?.leader?;
        let process = entry.actor.process?;
        Some(nanoseconds(leader.start.min(process.start)))
    });
    starts.min()?
}

/// Whether the action put a file in another one's place that it did not make, as far as it was read: older
/// writes to the file may belong to it.
fn saves_older_file(timeline: &Timeline, action: &Action) -> bool {
    let made = |node: &ObjectId| {
        let mut operations = action.operations(timeline);
        operations.any(|entry| entry.op == Op::Create && entry.brief().node == Some(*node))
    };
    let mut operations = action.operations(timeline);
    operations.any(|entry| {
        let line = entry.brief();
        let saved = line.over.and(line.node);
        entry.op == Op::Rename && saved.is_some_and(|node| !made(&node))
    })
}

/// Whether an operation is one on names.
pub fn is_on_names(op: Op) -> bool {
    loggerfs_log::plan::changes_names(op)
}
