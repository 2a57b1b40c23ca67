// SPDX-License-Identifier: GPL-2.0

//! In which order the names of several directories are put back: as they were changed, from the newest
//! operation to the oldest, whichever directory it was in.

use super::Outcome;
use crate::{
    history::{
        journal::Journal,
        line::{Op, Pos},
        sort::sort, //
    },
    revert::steps::{Lines, Origin, Todo, Way},
};
use kernel::prelude::*;

/// An operation on names: where its line stands, and which of the group's directories it is of.
pub(super) type Place = (Pos, usize);

/// The steps of taking operations back, which are given newest first.
pub(super) fn steps(journal: &Journal, places: &[Place]) -> Outcome<KVVec<Todo>> {
    let mut todos = KVVec::with_capacity(places.len(), GFP_KERNEL)?;
    let mut lines = Lines::new(journal)?;
    let mut next = 0;
    while let Some(&(at, directory)) = places.get(next) {
        let (seq, group) = look(&mut lines, at)?;
        if let Some(group) = group {
            next = add_group(journal, places, next, group, &mut todos)?;
            continue;
        }
        let origin = Origin {
            journal,
            seq,
            directory,
        };
        origin.add(at, Way::Back, &mut todos)?;
        next = next.saturating_add(1);
    }
    Ok(todos)
}

/// An operation's number, and which group of reverts it belongs to.
#[inline(never)]
fn look(lines: &mut Lines<'_>, at: Pos) -> Result<(u64, Option<u64>)> {
    let line = lines.read(at)?;
    let group = (line.op == Op::Revert).then(|| line.group.unwrap_or(line.seq));
    Ok((line.seq, group))
}

/// Adds the steps of taking back reverts that were one: their operations are done again in the order in
/// which they were done, whichever directory they were in. Answers where the next operation is.
#[inline(never)]
fn add_group(
    journal: &Journal,
    places: &[Place],
    from: usize,
    group: u64,
    todos: &mut KVVec<Todo>,
) -> Outcome<usize> {
    let mut lines = Lines::new(journal)?;
    let first = todos.len();
    let mut next = from;
    while let Some(&(at, directory)) = places.get(next) {
        let (seq, found) = look(&mut lines, at)?;
        if found != Some(group) {
            break;
        }
        let origin = Origin {
            journal,
            seq,
            directory,
        };
        origin.add(at, Way::Back, todos)?;
        next = next.saturating_add(1);
    }
    let added = todos.get_mut(first..).unwrap_or_default();
    // Reverts of reverts of reverts keep the order that each directory has.
    if added.iter().all(|todo| todo.way == Way::Again) {
        sort(added, Todo::is_older);
    } else if added.iter().all(|todo| todo.way == Way::Back) {
        sort(added, |a, b| b.is_older(a));
    }
    Ok(next)
}
