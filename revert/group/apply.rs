// SPDX-License-Identifier: GPL-2.0

//! The steps of a group: places the intents of its members, applies their plans, and rolls them
//! back.

use super::{
    objects::{DirectoryCache, OpenedObject, StepAction},
    order::{self, DirectoryTargets, OrderedSteps},
    GroupMember, GroupRevert, Outcome,
};
use crate::{
    backup,
    history::journal::SpacePurpose,
    log::{
        line::Op,
        plan::{OnExternal, Records},
        types::Pos,
    },
    record::{Captured, LineSubject},
    revert::{
        attributes,
        content::{ContentRevert, RevertLine, NO_REDO},
        names,
        plan_builder::{refuse, ContentPlan},
        steps::{Lines, StepSequence, UndoStep},
        transaction::{RequestedRevert, RevertSteps},
        Refusal,
    },
    uapi::Reason,
    vfs::{error::EUCLEAN, fsnotify::ChangeEvents},
};
use kernel::prelude::*;

/// The steps of a group: content and attributes of some members, names of others.
pub(super) struct GroupSteps<'g, 'a> {
    group: &'g mut GroupRevert<'a>,
    /// The steps on names, once they are known.
    names: Option<StepSequence<'a>>,
    /// Number of members whose content may be changed; names do not count here.
    begun: usize,
    /// Without captured pre-images: previous attributes of members, by index.
    attributes: KVVec<(usize, KVVec<u8>)>,
    /// Whether content may be changed that was not captured. The group can then only be finished.
    is_forward_only: bool,
}

impl<'g, 'a> GroupSteps<'g, 'a> {
    pub(super) fn new(group: &'g mut GroupRevert<'a>) -> Self {
        Self {
            group,
            names: None,
            begun: 0,
            attributes: KVVec::new(),
            is_forward_only: false,
        }
    }

    /// The steps on names.
    pub(super) fn into_names(self) -> Option<StepSequence<'a>> {
        self.names
    }

    /// With captured pre-images: applies content first, since this clears flags that would forbid
    /// the steps on names.
    #[inline(never)]
    fn apply_captured(&mut self) -> Outcome {
        let Self { group, names, .. } = self;
        let names = names.as_mut().ok_or(EIO)?;
        let mut unfinished = KVVec::new();
        group.apply_contents(&mut self.begun, &mut unfinished)?;
        group.apply_names(names)?;
        group.finish_contents(&unfinished)?;
        // Order on disk: all objects, then the commit.
        group.sync(&names.undo_steps)
    }

    /// Without captured pre-images: applies first everything that can be rolled back without them,
    /// then content, which can only be finished.
    #[inline(never)]
    fn apply_forward(&mut self) -> Outcome {
        let Self { group, names, .. } = self;
        let names = names.as_mut().ok_or(EIO)?;
        group.put_attributes(&mut self.attributes)?;
        group.apply_names(names)?;
        self.is_forward_only = true;
        let finish = || {
            let mut unfinished = KVVec::new();
            group.apply_contents(&mut 0, &mut unfinished)?;
            group.finish_contents(&unfinished)?;
            group.sync(&names.undo_steps)
        };
        // No pre-image to roll back to: the plans, which are idempotent, are applied once more.
        finish().or_else(|_: Refusal| finish())
    }
}

impl RevertSteps for GroupSteps<'_, '_> {
    fn is_group(&self) -> bool {
        true
    }

    fn apply(&mut self) -> Outcome {
        let undo_steps = self.group.steps()?.undo_steps;
        let steps = StepSequence::new(self.group.context.journal, undo_steps)?;
        self.names = Some(steps);
        match self.group.request.no_redo {
            true => self.apply_forward(),
            false => self.apply_captured(),
        }
    }

    fn roll_back(&mut self) -> Outcome {
        if self.is_forward_only {
            return Err(EIO.into());
        }
        match &mut self.names {
            Some(names) => self.group.roll_back(names, self.begun)?,
            None => return Ok(()),
        }
        self.group.put_attributes_back(&self.attributes)
    }

    fn place_end(&mut self, member: usize, end: Op, intent: u64) -> Result {
        let group = &self.group;
        let member = group.members.get(member).ok_or(EIO)?;
        group.context.place_end(member.object, end, intent)
    }
}

impl RequestedRevert for GroupSteps<'_, '_> {
    fn members(&self) -> usize {
        self.group.members.len()
    }

    fn place_intent(&mut self, member: usize, first: Option<u64>) -> Outcome<u64> {
        let stated = (self.group).state(self.group.members.get(member).ok_or(EIO)?, first)?;
        self.group.members.get_mut(member).ok_or(EIO)?.intent = Some(stated);
        Ok(stated.1)
    }

    fn forget(&mut self, member: usize) {
        let Some(member) = self.group.members.get(member) else {
            return;
        };
        if let Ok(opened) = self.group.context.open(member.object) {
            *opened.inode.object().state.lock() = Default::default();
        }
    }
}

impl GroupRevert<'_> {
    /// Fields of the group's lines.
    fn entry(&self, first: Option<u64>) -> RevertLine<'static> {
        let op = if self.request.redo {
            Op::Redo
        } else {
            Op::Revert
        };
        let members = self.members.len() as u64;
        RevertLine {
            op,
            mode: self.request.mode,
            group: first,
            members: Some(members).filter(|_| first.is_none() && members > 1),
            targets: None,
        }
    }

    /// Writes one intent. Returns its position and number.
    #[inline(never)]
    pub(super) fn state(&self, member: &GroupMember, first: Option<u64>) -> Outcome<(Pos, u64)> {
        let context = &self.context;
        let opened = context.open(member.object)?;
        let entry = self.entry(first);
        let mut state = opened.inode.object().state.lock();
        opened.known(context, &mut state)?;
        let seq = if member.is_on_names {
            let taken = self.names(member, &opened.lower, state.head, &mut refuse)?;
            let subject = LineSubject {
                mount: context.mount,
                inode: &opened.inode,
                open: None,
            };
            let (is_newest, targets) = (taken.is_newest, &taken.targets);
            let entry =
                entry.with_targets(context.journal, &subject, &mut state, is_newest, targets)?;
            let mut reservation = context.journal.reserve_lines_killable(1)?;
            let undo = names::undo_of(self.purpose());
            names::write_intent(
                &subject,
                &mut state,
                &taken,
                &mut reservation,
                (entry, undo),
            )?
        } else {
            let file = opened.file(context, false)?;
            let content = opened.content(context, file.as_deref(), self.request.force);
            let on_external = self.on_external();
            let mut plan = self.plan(&content, member, state.head, on_external, &mut refuse)?;
            if member.is_untouched {
                plan = plan.of_nothing();
            }
            let captured = match self.request.no_redo {
                true => Captured::Uncaptured(NO_REDO),
                false if member.is_untouched => Captured::Nothing,
                false => content.capture(&plan)?,
            };
            let (subject, is_newest, targets) = (content.subject(), plan.is_newest, &plan.targets);
            let entry =
                entry.with_targets(context.journal, &subject, &mut state, is_newest, targets)?;
            let mut reservation = context.journal.reserve_lines_killable(1)?;
            content.write_intent(&mut state, &mut reservation, &plan, &captured, entry)?
        };
        // The intent is the object's newest line.
        let at = state.head.ok_or(EIO)?;
        Ok((at, seq))
    }

    /// Handling of external changes. They were looked for in the planning.
    pub(super) fn on_external(&self) -> OnExternal {
        if self.request.force {
            OnExternal::Pass
        } else {
            OnExternal::Stop
        }
    }

    /// Sets the attributes first, since the caller may lack the permission and nothing else is
    /// changed yet. Adds their previous values to `before`.
    #[inline(never)]
    fn put_attributes(&self, before: &mut KVVec<(usize, KVVec<u8>)>) -> Outcome {
        let context = &self.context;
        for (index, member) in self.members.iter().enumerate() {
            if member.is_on_names {
                continue;
            }
            let opened = context.open(member.object)?;
            self.with_plan(&opened, member, |_, _, records| {
                if records.is_empty() {
                    return Ok(());
                }
                let (mount, lower) = (context.mount.lower(), &*opened.lower);
                let present = backup::gather_attributes(mount, lower, records)?;
                // Before the change: a failure below rolls this member back, too.
                before.push((index, present), GFP_KERNEL)?;
                Ok(context.mount.with_reserve(|| {
                    attributes::unprotect(mount, lower, records)?;
                    attributes::put(mount, lower, records)
                })?)
            })?;
        }
        Ok(())
    }

    /// Restores the previous values.
    #[inline(never)]
    fn put_attributes_back(&self, before: &[(usize, KVVec<u8>)]) -> Outcome {
        for (index, present) in before {
            let member = self.members.get(*index).ok_or(EUCLEAN)?;
            let opened = self.context.open(member.object)?;
            let content = opened.content(&self.context, None, true);
            opened.change(&self.context, || {
                Ok(content.target(false).put_back(present)?)
            })?;
        }
        Ok(())
    }

    /// Whether objects that lose their last name become orphans or are deleted.
    pub(super) fn purpose(&self) -> SpacePurpose {
        match self.request.no_redo {
            true => SpacePurpose::Discard,
            false => SpacePurpose::Revert,
        }
    }

    /// The steps on names, in order.
    #[inline(never)]
    pub(super) fn steps(&self) -> Outcome<OrderedSteps> {
        let takes = |seq| self.takes(seq);
        let mut places: KVVec<DirectoryTargets<'_>> = KVVec::new();
        for (directory, member) in self.members.iter().enumerate() {
            if !member.is_on_names {
                continue;
            }
            let place = DirectoryTargets {
                directory,
                object: member.object,
                head: self.context.journal.last_line(member.object)?,
                takes: &takes,
                count: self.of(member).len() as u64,
                jump: None,
            };
            places.push(place, GFP_KERNEL)?;
        }
        order::steps(self.context.journal, &places, self.first_number())
    }

    /// Applies the plans for content and attributes. `begun` counts the members, for the rollback;
    /// `unfinished` receives those with a last step after all names.
    fn apply_contents(&self, begun: &mut usize, unfinished: &mut KVVec<usize>) -> Outcome {
        for (index, member) in self.members.iter().enumerate() {
            *begun = begun.saturating_add(1);
            if !member.is_on_names && self.apply_content(member)? {
                unfinished.push(index, GFP_KERNEL)?;
            }
        }
        Ok(())
    }

    /// Applies one plan. Returns whether a last step must follow: steps on names update a
    /// directory's times and need it unprotected.
    #[inline(never)]
    fn apply_content(&self, member: &GroupMember) -> Outcome<bool> {
        if member.is_untouched {
            return Ok(false);
        }
        let context = &self.context;
        let opened = context.open(member.object)?;
        let mut changed = ChangeEvents::default();
        let applied = self.with_plan(&opened, member, |content, plan, records| {
            let to_change = content.has_content(plan)?;
            changed = content.changed_by(plan)?;
            // open(2) for writing fails with EPERM on an immutable file.
            attributes::unprotect(context.mount.lower(), &opened.lower, records)?;
            let file = opened.file(context, to_change)?;
            let content = opened.content(context, file.as_deref(), self.request.force);
            let target = content.target(false);
            target.apply(&plan.pieces, &plan.outcome, records, &mut false)?;
            // The steps on names will update mtime and ctime of a directory again.
            let is_moved = opened.inode.is_directory() && !records.is_empty();
            Ok(is_moved || attributes::protects(records))
        });
        // Not at the commit: readers of the file see the change already.
        (opened.inode).notify_by_alias(&opened.lower, context.file, changed);
        applied
    }

    /// Changes an object by `go`, which gets the plan of a member and the object with a readable
    /// lower file.
    #[inline(never)]
    fn with_plan<T>(
        &self,
        opened: &OpenedObject,
        member: &GroupMember,
        go: impl FnOnce(&ContentRevert<'_>, &ContentPlan, Records<'_>) -> Outcome<T>,
    ) -> Outcome<T> {
        let context = &self.context;
        opened.change(context, || {
            let mut lines = Lines::new(context.journal)?;
            let (at, _) = member.intent.ok_or(EIO)?;
            // The chain from the line before the intent on.
            let head = lines.read(at)?.prev;
            let reader = opened.file(context, false)?;
            let content = opened.content(context, reader.as_deref(), self.request.force);
            let plan = self.plan(&content, member, head, self.on_external(), &mut refuse)?;
            let records = Records::new(&plan.attributes).map_err(|_| EUCLEAN)?;
            go(&content, &plan, records)
        })
    }

    /// Applies the last steps of members.
    fn finish_contents(&self, unfinished: &[usize]) -> Outcome {
        for index in unfinished {
            self.finish_content(self.members.get(*index).ok_or(EUCLEAN)?)?;
        }
        Ok(())
    }

    /// The last step of one member: attributes that the steps on names changed, and flags.
    #[inline(never)]
    fn finish_content(&self, member: &GroupMember) -> Outcome {
        let context = &self.context;
        let opened = match context.open(member.object) {
            // The object lost its name in this revert.
            Err(refusal) if refusal.reason == Reason::Gone => return Ok(()),
            opened => opened?,
        };
        self.with_plan(&opened, member, |content, _, records| {
            Ok(content.target(false).finish(records)?)
        })
    }

    /// Bytes of the objects that lose their last name.
    #[inline(never)]
    pub(super) fn orphan_bytes_of(&self, undo_steps: &[UndoStep]) -> Outcome<u64> {
        let context = &self.context;
        let mut lines = Lines::new(context.journal)?;
        let mut dirs = DirectoryCache::new(context, self.purpose());
        let mut bytes = 0u64;
        for undo_step in undo_steps {
            let object = self.member_object(undo_step.directory)?;
            let kept = dirs.with(object, |names| names.orphan_bytes_of(&mut lines, undo_step))?;
            bytes = bytes.saturating_add(kept);
        }
        Ok(bytes)
    }

    /// Applies the steps on names.
    #[inline(never)]
    fn apply_names(&self, steps: &mut StepSequence<'_>) -> Outcome {
        let mut dirs = DirectoryCache::new(&self.context, self.purpose());
        steps.apply(|lines, undo_step| {
            let object = self.member_object(undo_step.directory)?;
            let seq = undo_step.seq;
            dirs.perform(object, lines, undo_step, StepAction::Perform)
                .map_err(|refusal| Refusal { seq, ..refusal })
        })
    }

    /// Rolls back the applied steps on names, then the content of the first `begun` members.
    #[inline(never)]
    fn roll_back(&self, steps: &mut StepSequence<'_>, begun: usize) -> Outcome {
        let context = &self.context;
        let mut dirs = DirectoryCache::new(context, self.purpose());
        let changed = |member: &&GroupMember| !member.is_on_names && !member.is_untouched;
        let changed = || self.members.iter().take(begun).filter(changed);
        for member in changed() {
            // may_delete() refuses names in an immutable directory: clear the flags before the
            // steps.
            let (at, _) = member.intent.ok_or(EIO)?;
            let _ = context.unprotect(member.object, at)?;
        }
        steps.roll_back(|lines, undo_step| {
            let object = self.member_object(undo_step.directory)?;
            dirs.perform(object, lines, undo_step, StepAction::Rollback)
        })?;
        for member in changed() {
            let (at, _) = member.intent.ok_or(EIO)?;
            context.restore_content(member.object, at)?;
        }
        // The rollback must be durable before the closing line.
        self.sync(steps.applied())
    }
}
