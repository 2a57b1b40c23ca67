// SPDX-License-Identifier: GPL-2.0

//! The steps of a group that a crash interrupted. They run at mount, before any other use of the
//! mount, so no directory is locked.

use super::{
    objects::{DirectoryCache, StepAction},
    order::{self, DirectoryTargets},
    Outcome, RevertContext, RevertPhase,
};
use crate::{
    history::journal::{Journal, SpacePurpose, Unfinished},
    log::{
        line::Op,
        types::{ObjectId, Pos},
    },
    revert::{
        content::is_forward_only,
        steps::{is_on_names, Direction, Lines, StepSequence, UndoStep},
        targets::TargetSet,
        transaction::{NewestLines, RevertSteps},
        Refusal,
    },
    uapi::Reason,
    vfs::{error::EUCLEAN, inode::UpperInode, superblock::UpperSuperBlock},
};
use kernel::{prelude::*, sync::aref::ARef};

/// One line of an unfinished group.
struct UnfinishedMember {
    object: ObjectId,
    at: Pos,
    seq: u64,
    is_on_names: bool,
    /// Whether other operations of the object followed. It stays as it is then.
    was_followed: bool,
}

/// A group without a closing line.
pub(in crate::revert) struct UnfinishedGroup<'a> {
    context: RevertContext<'a>,
    /// Without objects that the crash removed, since they were not durable: the others must not be
    /// left incomplete.
    members: KVVec<UnfinishedMember>,
    steps: StepSequence<'a>,
    /// Whether no pre-images were captured: the group can only be finished.
    is_forward_only: bool,
    /// Objects without protection. A fresh inode would be recovered on its own, and protected too
    /// early.
    _held: KVVec<ARef<UpperInode>>,
}

impl<'a> UnfinishedGroup<'a> {
    /// Reads the lines of the group and finds the steps that were applied.
    #[inline(never)]
    pub(in crate::revert) fn new(
        sb: &'a UpperSuperBlock,
        group: &[Unfinished],
        newest: &mut NewestLines<'_>,
    ) -> Outcome<Self> {
        let mount = sb.mount();
        let journal = mount.journal().ok_or(EIO)?;
        let context = RevertContext {
            file: None,
            sb,
            mount,
            journal,
            phase: RevertPhase::Performing,
            handles: None,
        };
        let mut lines = Lines::new(journal)?;
        let mut members = KVVec::with_capacity(group.len(), GFP_KERNEL)?;
        let mut is_forward = false;
        for one in group {
            let line = lines.read(one.at)?;
            is_forward |= is_forward_only(&line);
            if is_gone(&context, one)? {
                continue;
            }
            let member = UnfinishedMember {
                object: one.object,
                at: one.at,
                seq: one.seq,
                is_on_names: is_on_names(&line),
                was_followed: newest.was_followed(one)?,
            };
            members.push(member, GFP_KERNEL)?;
        }
        let mut held = KVVec::new();
        let is_to_unprotect = |member: &&UnfinishedMember| !is_forward && member.has_content();
        for member in members.iter().filter(is_to_unprotect) {
            // Immutable directories refuse changes of names: flags are cleared before the steps.
            if let Some(inode) = context.unprotect(member.object, member.at)? {
                held.push(inode, GFP_KERNEL)?;
            }
        }
        let first = group.first().map_or(u64::MAX, |first| first.seq);
        let mut found = Self {
            context,
            steps: StepSequence::new(journal, steps(journal, &members, first)?)?,
            members,
            is_forward_only: is_forward,
            _held: held,
        };
        found.find_applied()?;
        Ok(found)
    }

    /// Numbers of the lines to close.
    pub(in crate::revert) fn intents(&self) -> Result<KVVec<u64>> {
        let mut intents = KVVec::with_capacity(self.members.len(), GFP_KERNEL)?;
        for member in &self.members {
            intents.push(member.seq, GFP_KERNEL)?;
        }
        Ok(intents)
    }

    /// Whether no pre-images were captured.
    pub(in crate::revert) fn is_forward_only(&self) -> bool {
        self.is_forward_only
    }

    /// Finds out which steps on names were applied, and resynchronises their objects.
    fn find_applied(&mut self) -> Outcome {
        let Self {
            context,
            members,
            steps,
            ..
        } = self;
        let (mut counted, mut synced) = (
            DirectoryCache::new(context, SpacePurpose::Discard),
            DirectoryCache::new(context, SpacePurpose::Discard),
        );
        steps.find_applied(
            |lines, undo_step, progress| {
                counted.with(object_of(members, undo_step)?, |names| {
                    names.count_progress(lines, undo_step, progress)
                })
            },
            |lines, undo_step| {
                synced.with(object_of(members, undo_step)?, |names| {
                    names.resync(&lines.step(undo_step)?, undo_step.direction)
                })
            },
        )
    }
}

impl UnfinishedMember {
    /// Whether the line is one on content or attributes that recovery ends.
    fn has_content(&self) -> bool {
        !self.is_on_names && !self.was_followed
    }
}

/// The directory of a step.
fn object_of(members: &[UnfinishedMember], undo_step: &UndoStep) -> Outcome<ObjectId> {
    Ok(members.get(undo_step.directory).ok_or(EUCLEAN)?.object)
}

impl RevertSteps for UnfinishedGroup<'_> {
    fn is_group(&self) -> bool {
        true
    }

    /// Applies the remaining steps, and the content again.
    #[inline(never)]
    fn apply(&mut self) -> Outcome {
        let (context, members) = (&self.context, &self.members);
        let mut dirs = DirectoryCache::new(context, SpacePurpose::Discard);
        self.steps.apply(|lines, undo_step| {
            let object = object_of(members, undo_step)?;
            dirs.perform(object, lines, undo_step, StepAction::Perform)
        })?;
        for member in members.iter().filter(|member| member.has_content()) {
            context.resume(member.object, member.at)?;
        }
        Ok(())
    }

    /// Rolls the applied steps back, then restores the content.
    #[inline(never)]
    fn roll_back(&mut self) -> Outcome {
        if self.is_forward_only {
            return Err(EIO.into());
        }
        let (context, members) = (&self.context, &self.members);
        let mut dirs = DirectoryCache::new(context, SpacePurpose::Discard);
        self.steps.roll_back(|lines, undo_step| {
            let object = object_of(members, undo_step)?;
            // Fails here if the line was dropped. Errors below are about the object.
            lines.step(undo_step)?;
            match dirs.perform(object, lines, undo_step, StepAction::Rollback) {
                Err(refusal) if is_missing(&refusal, undo_step.direction) => Ok(()),
                undone => undone,
            }
        })?;
        for member in members.iter().filter(|member| member.has_content()) {
            context.restore_content(member.object, member.at)?;
        }
        Ok(())
    }

    fn place_end(&mut self, member: usize, end: Op, intent: u64) -> Result {
        let member = self.members.get(member).ok_or(EUCLEAN)?;
        self.context.place_end(member.object, end, intent)
    }

    fn sync(&self) -> Result {
        self.context.sync_all()
    }
}

/// Whether the object is missing after the crash.
fn is_gone(context: &RevertContext<'_>, member: &Unfinished) -> Outcome<bool> {
    match context.open(member.object) {
        Ok(_) => Ok(false),
        Err(refusal) if refusal.reason == Reason::Gone || refusal.error == ENOENT => Ok(true),
        Err(refusal) => Err(refusal),
    }
}

/// The steps of an interrupted group, whose first line has the number `first`; none if a directory
/// has later operations, since it stays as it is then.
#[inline(never)]
fn steps(journal: &Journal, members: &[UnfinishedMember], first: u64) -> Outcome<KVVec<UndoStep>> {
    let mut names = KVVec::new();
    let mut lines = Lines::new(journal)?;
    for (index, member) in members.iter().enumerate() {
        if !member.is_on_names {
            continue;
        }
        if member.was_followed {
            return Ok(KVVec::new());
        }
        let listed = TargetSet::of(journal, &lines.read(member.at)?)?;
        names.push((index, listed), GFP_KERNEL)?;
    }
    let mut takes = KVVec::with_capacity(names.len(), GFP_KERNEL)?;
    for (_, listed) in &names {
        let take = move |seq| listed.as_ref().is_some_and(|picked| picked.contains(seq));
        takes.push(take, GFP_KERNEL)?;
    }
    let mut places = KVVec::with_capacity(names.len(), GFP_KERNEL)?;
    for ((directory, listed), takes) in names.iter().zip(&takes) {
        let member = members.get(*directory).ok_or(EUCLEAN)?;
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

/// Whether a step cannot be rolled back since its object was reclaimed.
fn is_missing(refusal: &Refusal, direction: Direction) -> bool {
    match refusal.reason {
        Reason::Gone => true,
        // A redone removal: the object was to get its name back.
        Reason::Trimmed | Reason::Lost => direction == Direction::Redo,
        _ => false,
    }
}
