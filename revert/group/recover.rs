// SPDX-License-Identifier: GPL-2.0

//! Recovery of groups after a crash, at mount, before any other use of the mount.

use super::{
    apply::{DirectoryCache, StepAction},
    order::{self, DirectoryTargets},
    Outcome, RevertContext, RevertPhase,
};
use crate::{
    history::journal::{Journal, SpacePurpose, Unfinished},
    log::{line::Op, plan::Progress},
    revert::{
        content::is_forward_only,
        recover::{end, NewestLines},
        steps::{is_on_names, Direction, Lines, UndoStep},
        targets::TargetSet,
        Refusal,
    },
    uapi::Reason,
    vfs::{error::EUCLEAN, superblock::UpperSuperBlock},
};
use kernel::prelude::*;

/// Rolls a group back and closes it; the first member's line is written first. Objects that the
/// crash removed, since they were not durable, are skipped: the others must not be left incomplete.
#[inline(never)]
pub(in crate::revert) fn recover(
    sb: &UpperSuperBlock,
    group: &[Unfinished],
    newest: &mut NewestLines<'_>,
) -> Outcome {
    let mount = sb.mount();
    let journal = mount.journal().ok_or(EIO)?;
    let context = RevertContext {
        file: None,
        sb,
        mount,
        journal,
        phase: RevertPhase::Performing,
    };
    let mut names = names_of(&context, group)?;
    let mut gone = KVVec::with_capacity(group.len(), GFP_KERNEL)?;
    for member in group {
        gone.push(is_gone(&context, member)?, GFP_KERNEL)?;
    }
    let is_gone = |index: usize| gone.get(index).is_some_and(|gone| *gone);
    names.retain(|(index, _)| !is_gone(*index));
    // A directory with later operations stays as it is.
    let mut is_last = true;
    for (index, _) in &names {
        let member = group.get(*index).ok_or(EUCLEAN)?;
        is_last &= !newest.was_followed(member)?;
    }
    let mut lines = Lines::new(journal)?;
    let mut held = KVVec::new();
    let there = || (group.iter().enumerate()).filter(|(index, _)| !is_gone(*index));
    let mut is_forward = false;
    for member in group {
        is_forward |= is_forward_only(&lines.read(member.at)?);
    }
    for (_, member) in there() {
        if !is_forward && !is_on_names(&lines.read(member.at)?) && !newest.was_followed(member)? {
            // Immutable directories refuse changes of names: flags are cleared before the steps.
            if let Some(inode) = context.unprotect(member.object, member.at)? {
                held.push(inode, GFP_KERNEL)?;
            }
        }
    }
    if is_last {
        let mut undo_steps = steps(journal, group, &names)?;
        recover_steps(&context, group, &mut undo_steps, is_forward)?;
    }
    for (_, member) in there() {
        if !is_on_names(&lines.read(member.at)?) && !newest.was_followed(member)? {
            match is_forward {
                true => context.resume(member.object, member.at)?,
                false => context.restore_content(member.object, member.at)?,
            }
        }
    }
    // Order on disk: the objects, then the line that closes the group.
    context.sync_all()?;
    let op = match is_forward {
        true => Op::Commit,
        false => Op::Cancel,
    };
    for (index, (_, member)) in there().enumerate() {
        let opened = context.open(member.object)?;
        end(sb, journal, &opened.lower, op, member.seq)?;
        // The first line decides for the group, so it is durable before the others.
        if index == 0 {
            journal.flush(true)?;
        }
    }
    Ok(())
}

/// Whether the object is missing after the crash.
fn is_gone(context: &RevertContext<'_>, member: &Unfinished) -> Outcome<bool> {
    match context.open(member.object) {
        Ok(_) => Ok(false),
        Err(refusal) if refusal.reason == Reason::Gone || refusal.error == ENOENT => Ok(true),
        Err(refusal) => Err(refusal),
    }
}

/// The set of operations in a directory's line; `None` for exactly the newest ones.
type ListedTargets = Option<TargetSet>;

/// The sets of the group's directories, each with the index of its member.
fn names_of(
    context: &RevertContext<'_>,
    group: &[Unfinished],
) -> Outcome<KVVec<(usize, ListedTargets)>> {
    let mut names = KVVec::new();
    let mut lines = Lines::new(context.journal)?;
    for (index, member) in group.iter().enumerate() {
        let line = lines.read(member.at)?;
        if is_on_names(&line) {
            let picked = TargetSet::of(context.journal, &line)?;
            names.push((index, picked), GFP_KERNEL)?;
        }
    }
    Ok(names)
}

/// The steps of an interrupted group.
#[inline(never)]
fn steps(
    journal: &Journal,
    group: &[Unfinished],
    names: &[(usize, ListedTargets)],
) -> Outcome<KVVec<UndoStep>> {
    let mut takes = KVVec::with_capacity(names.len(), GFP_KERNEL)?;
    for (_, listed) in names {
        let take = move |seq| listed.as_ref().is_some_and(|picked| picked.contains(seq));
        takes.push(take, GFP_KERNEL)?;
    }
    let mut places = KVVec::with_capacity(names.len(), GFP_KERNEL)?;
    let mut lines = Lines::new(journal)?;
    let first = group.first().map_or(u64::MAX, |first| first.seq);
    for ((directory, listed), takes) in names.iter().zip(&takes) {
        let member = group.get(*directory).ok_or(EUCLEAN)?;
        let line = lines.read(member.at)?;
        let place = DirectoryTargets {
            directory: *directory,
            object: member.object,
            head: line.prev,
            takes,
            count: match listed {
                Some(_) => line.count.unwrap_or(0),
                None => 0,
            },
            // Without a list, everything newer than `back=` is reverted.
            jump: listed.is_none().then_some((line.back, line.seq)),
        };
        places.push(place, GFP_KERNEL)?;
    }
    Ok(order::steps(journal, &places, first)?.undo_steps)
}

/// Rolls the applied steps back, or applies the others (`is_forward`).
fn recover_steps(
    context: &RevertContext<'_>,
    group: &[Unfinished],
    undo_steps: &mut [UndoStep],
    is_forward: bool,
) -> Outcome {
    let mut lines = Lines::new(context.journal)?;
    let mut dirs = DirectoryCache::new(context, SpacePurpose::Discard);
    let mut progress = Progress::default();
    for undo_step in undo_steps.iter() {
        let object = group.get(undo_step.directory).ok_or(EUCLEAN)?.object;
        dirs.count(object, &mut lines, undo_step, &mut progress)?;
    }
    let count = progress.done().min(undo_steps.len());
    let (done, left) = undo_steps.split_at_mut_checked(count).ok_or(EUCLEAN)?;
    for undo_step in done.iter() {
        let object = group.get(undo_step.directory).ok_or(EUCLEAN)?.object;
        dirs.resync(object, &mut lines, undo_step)?;
    }
    if is_forward {
        for undo_step in left {
            let object = group.get(undo_step.directory).ok_or(EUCLEAN)?.object;
            dirs.perform(object, &mut lines, undo_step, StepAction::Perform)?;
        }
        return Ok(());
    }
    for undo_step in done.iter_mut().rev() {
        let object = group.get(undo_step.directory).ok_or(EUCLEAN)?.object;
        // Fails here if the line was dropped. Errors below are about the object.
        lines.step(undo_step)?;
        match dirs.perform(object, &mut lines, undo_step, StepAction::Rollback) {
            Err(refusal) if is_missing(&refusal, undo_step.direction) => {}
            undone => undone?,
        }
    }
    Ok(())
}

/// Whether a step cannot be rolled back since its object was reclaimed.
fn is_missing(refusal: &Refusal, direction: Direction) -> bool {
    match refusal.reason {
        Reason::Gone => true,
        // A redone removal: the object was to get its name back.
        Reason::Trimmed | Reason::Lost => direction == Direction::Redo,
        _ => false,
    }
}
