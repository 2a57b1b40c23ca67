// SPDX-License-Identifier: MIT OR Apache-2.0

//! The last change of a file: which of the newest operations of its log, or of its directory's log, are one
//! action on it.
//!
//! A save by rename is an action on names: the file that has the name now is younger than the file that
//! the user means by the name.

use std::collections::BTreeMap;

use crate::actions::actions;
use crate::timeline::Timeline;
use loggerfs_log::line::{Line, Op, Process};

/// The operations that take the last change of a file back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastChange {
    /// This many of the file's newest operations.
    File(usize),
    /// This many of its directory's newest operations.
    Directory(usize),
    /// An operation of the directory, which this number names, prevents it.
    Blocked(u64),
    /// The file has no live operation.
    Nothing,
}

/// The live operations of an object, the newest first.
struct ObjectOperations<'t> {
    timeline: &'t Timeline,
    entries: &'t [usize],
    lines: Vec<Line<'t>>,
}

impl<'t> ObjectOperations<'t> {
    fn new(timeline: &'t Timeline, entries: &'t [usize]) -> Self {
        let line = |index: &usize| timeline.entries[*index].line();
        Self {
            timeline,
            entries,
            lines: entries.iter().map(line).collect(),
        }
    }

    /// The process that did the operation at a position.
    fn process(&self, at: usize) -> Option<Process> {
        self.timeline.entries[self.entries[at]].actor.process
    }

    fn is_by_same_process(&self, one: usize, other: usize) -> bool {
        let process = self.process(one);
        process.is_some() && process == self.process(other)
    }

    /// How many of the newest operations are one action.
    fn newest_action(&self) -> usize {
        let actions = actions(self.timeline, self.entries);
        let newest = actions.first().map_or(&[][..], |action| &action.entries);
        let both = newest.iter().zip(self.entries);
        both.take_while(|(one, other)| one == other).count()
    }
}

/// The last change of the file `name`, as lines encode names. `file` has the live operations of the file,
/// none if it is gone; `dir`, those of its directory; the newest first.
pub fn last_change(timeline: &Timeline, name: &[u8], file: &[usize], dir: &[usize]) -> LastChange {
    let (file, dir) = (
        ObjectOperations::new(timeline, file),
        ObjectOperations::new(timeline, dir),
    );
    let own = match file.newest_action() {
        0 => LastChange::Nothing,
        count => LastChange::File(count),
    };
    let Some(at) = dir.lines.iter().position(|line| concerns(line, name)) else {
        return own;
    };
    let (Some(newest), LastChange::File(count)) = (file.lines.first(), own) else {
        return in_directory(name, at, &dir);
    };
    let named = &dir.lines[at];
    let gives_name = matches!(named.op, Op::Create | Op::Rename);
    let writer = file.process(0);
    let is_new =
        gives_name && count == file.lines.len() && writer.is_some() && writer == dir.process(at);
    if is_new || named.seq > newest.seq {
        in_directory(name, at, &dir)
    } else {
        own
    }
}

/// Whether an operation on names binds or frees `name` in the directory that its line is of.
pub fn concerns(line: &Line<'_>, name: &[u8]) -> bool {
    line.name == Some(name) || (line.to == Some(name) && line.parent.is_none())
}

/// How many of the directory's newest operations are the action that the line at `at` belongs to:
/// operations of one process that leave every other name as it was.
fn in_directory(name: &[u8], at: usize, dir: &ObjectOperations<'_>) -> LastChange {
    let by_other = (0..at).rev().find(|one| !dir.is_by_same_process(*one, at));
    if let Some(other) = by_other {
        return LastChange::Blocked(dir.lines[other].seq);
    }
    let by_same = (0..dir.lines.len()).take_while(|one| dir.is_by_same_process(*one, 0));
    let run = by_same.count().max(1);
    let action = dir.newest_action().max(at + 1).min(run.max(at + 1));
    let fits = |count: &usize| is_balanced(name, &dir.lines[..*count]);
    // All of the action; otherwise the least of the process' operations that leaves no other name changed.
    let joined = (at + 1..=action).rev().find(fits);
    match joined.or_else(|| (action + 1..=run).find(fits)) {
        Some(count) => LastChange::Directory(count),
        None => LastChange::Blocked(dir.lines[0].seq),
    }
}

/// Whether a name was bound before the oldest line that has the name, and whether one is bound
/// after the newest.
type BoundNames<'l> = BTreeMap<&'l [u8], (bool, bool)>;

fn note<'l>(names: &mut BoundNames<'l>, name: Option<&'l [u8]>, before: bool, behind: bool) {
    if let Some(name) = name {
        names.entry(name).or_insert((before, behind)).1 = behind;
    }
}

/// Whether the lines, the newest first, leave all names but one as they had been: free. A backup of
/// that one may stay.
fn is_balanced(but: &[u8], lines: &[Line<'_>]) -> bool {
    let mut names = BoundNames::new();
    for line in lines.iter().rev() {
        if line.parent.is_some() {
            return false;
        }
        match line.op {
            Op::Create | Op::Mkdir | Op::Mknod | Op::Symlink | Op::Link => {
                note(&mut names, line.name, false, true)
            }
            Op::Unlink | Op::Rmdir => note(&mut names, line.name, true, false),
            Op::Rename => {
                note(&mut names, line.name, true, false);
                note(&mut names, line.to, line.over.is_some(), true);
            }
            Op::Exchange => {
                note(&mut names, line.name, true, true);
                note(&mut names, line.to, true, true);
            }
            // Attributes of the directory itself.
            _ => return false,
        }
    }
    let mut others = names.iter().filter(|(name, _)| **name != but);
    others.all(|(name, states)| match *states {
        (false, false) => true,
        (false, true) => is_backup(name, but, lines),
        _ => false,
    })
}

/// Whether `name` was given to the object that another name was bound to before.
fn is_backup(name: &[u8], of: &[u8], lines: &[Line<'_>]) -> bool {
    let given = lines.iter().find(|line| match line.op {
        Op::Rename => line.to == Some(name),
        _ => line.name == Some(name),
    });
    let replaced = |node| {
        let mut replacing = lines.iter().filter(|line| line.to == Some(of));
        replacing.any(|line| line.over == Some(node))
    };
    given.is_some_and(|line| match line.op {
        Op::Rename => line.name == Some(of),
        Op::Link => line.node.is_some_and(replaced),
        _ => false,
    })
}
