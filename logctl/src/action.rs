// SPDX-License-Identifier: MIT OR Apache-2.0

//! What was last done to a file: which operations of its log, or of its directory's, are one action.
//!
//! An action is what one process did through one open file, or to names; neighbours less than two
//! seconds apart are joined, unless the process leads a session (an interactive shell: there each
//! command is an action of its own). A save by rename is an action on names: the file that has the
//! name now is younger than what the user calls the file.

use std::collections::BTreeMap;

use crate::actions::{is_gap, JOINED};
use crate::history::line::{Line, Op, Process};

/// What takes the last action back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undo {
    /// So many of the file's newest operations.
    File(u64),
    /// So many of its directory's newest operations.
    Directory(u64),
    /// An operation of the directory is in the way.
    Blocked(u64),
    /// Nothing is left.
    Nothing,
}

/// Who is behind lines, which tell it once for each open file and segment.
struct Actors(BTreeMap<u64, (Process, Option<u32>)>);

impl Actors {
    fn of(lines: &[Line<'_>]) -> Self {
        let told = lines.iter().filter_map(|line| {
            let opener = line.open.unwrap_or(line.seq);
            Some((opener, (line.pid?, line.sid)))
        });
        Self(told.collect())
    }

    fn process(&self, line: &Line<'_>) -> Option<Process> {
        let opener = line.open.unwrap_or(line.seq);
        self.0.get(&opener).map(|(process, _)| *process)
    }

    /// Whether the process leads a session.
    fn leads(&self, line: &Line<'_>) -> bool {
        let opener = line.open.unwrap_or(line.seq);
        (self.0.get(&opener)).is_some_and(|(process, sid)| *sid == Some(process.pid))
    }

    /// Whether two neighbours are one action, the newer one first.
    fn joins(&self, newer: &Line<'_>, older: &Line<'_>) -> bool {
        if newer.open.is_some() && newer.open == older.open {
            return true;
        }
        self.same_process(newer, older)
            && !self.leads(newer)
            && is_gap(newer.time, older.time, JOINED)
    }

    fn same_process(&self, one: &Line<'_>, other: &Line<'_>) -> bool {
        let process = self.process(one);
        process.is_some() && process == self.process(other)
    }

    /// How many lines the newest action has.
    fn action(&self, lines: &[Line<'_>]) -> usize {
        let joined = lines.windows(2);
        let joined = joined.take_while(|pair| self.joins(&pair[0], &pair[1]));
        lines.len().min(1 + joined.count())
    }
}

/// How many of an object's newest operations are one action. The lines stand, the newest first.
pub fn newest_action(lines: &[Line<'_>]) -> Undo {
    match Actors::of(lines).action(lines) {
        0 => Undo::Nothing,
        count => Undo::File(count as u64),
    }
}

/// What takes back what was last done to the file `name` (as lines have names). Its own lines, none
/// when it is gone, and its directory's stand, each the newest first; `is_all`: the file has no
/// others.
pub fn last_change(name: &[u8], file: &[Line<'_>], is_all: bool, dir: &[Line<'_>]) -> Undo {
    let own = newest_action(file);
    let Some(at) = dir.iter().position(|line| concerns(line, name)) else {
        return own;
    };
    let (Some(newest), Undo::File(count)) = (file.first(), own) else {
        return in_directory(name, at, dir);
    };
    let named = &dir[at];
    let gives_name = matches!(named.op, Op::Create | Op::Rename);
    let writer = Actors::of(file).process(newest);
    let is_new = gives_name
        && is_all
        && count as usize == file.len()
        && writer.is_some()
        && writer == Actors::of(dir).process(named);
    if is_new || named.seq > newest.seq {
        in_directory(name, at, dir)
    } else {
        own
    }
}

fn concerns(line: &Line<'_>, name: &[u8]) -> bool {
    line.name == Some(name) || (line.to == Some(name) && line.parent.is_none())
}

/// How many of the directory's newest operations are the action that the line at `at` belongs to:
/// one process' operations that leave every other name as it was.
fn in_directory(name: &[u8], at: usize, dir: &[Line<'_>]) -> Undo {
    let actors = Actors::of(dir);
    let stranger = dir[..at]
        .iter()
        .rev()
        .find(|line| !actors.same_process(line, &dir[at]));
    if let Some(stranger) = stranger {
        return Undo::Blocked(stranger.seq);
    }
    let run = dir
        .iter()
        .take_while(|line| actors.same_process(line, &dir[0]))
        .count()
        .max(1);
    let action = actors.action(dir).max(at + 1).min(run.max(at + 1));
    let fits = |count: &usize| is_balanced(name, &dir[..*count]);
    // All of the action; or as much of the process' work as it takes to leave no other name.
    let joined = (at + 1..=action).rev().find(fits);
    match joined.or_else(|| (action + 1..=run).find(fits)) {
        Some(count) => Undo::Directory(count as u64),
        None => Undo::Blocked(dir[0].seq),
    }
}

/// Whether a name was bound before the oldest line that has it, and is behind the newest.
type Names<'l> = BTreeMap<&'l [u8], (bool, bool)>;

fn note<'l>(names: &mut Names<'l>, name: Option<&'l [u8]>, before: bool, behind: bool) {
    if let Some(name) = name {
        names.entry(name).or_insert((before, behind)).1 = behind;
    }
}

/// Whether the lines, the newest first, leave all names but one as they had been: free. A backup of
/// that one may stay.
fn is_balanced(but: &[u8], lines: &[Line<'_>]) -> bool {
    let mut names = Names::new();
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

/// Whether `name` was given to what another name was bound to before.
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
