// SPDX-License-Identifier: GPL-2.0

//! The lines of a group: the intent of each member, and the lines that close them.

use super::{apply::GroupRevertError, GroupMember, GroupRevert, Outcome};
use crate::{
    log::{line::Op, plan::OnExternal, types::Pos},
    record::{self, Captured, LineSubject},
    revert::{close_intent, content::NO_REDO, names, plan_builder::refuse},
};
use kernel::prelude::*;

impl GroupRevert<'_> {
    /// Writes all intents and flushes the journal. Nothing is changed yet, so this ends on a fatal
    /// signal, and after some seconds without progress, since other tasks wait for the locked
    /// objects.
    #[inline(never)]
    pub(super) fn write_intents(&mut self, begun: u64) -> Result<(), GroupRevertError> {
        let durable = self
            .write_each(begun)
            .and_then(|()| Ok(self.context.journal.flush_in_time()?));
        durable.map_err(GroupRevertError::RolledBack)
    }

    /// Writes the intents, that of the first member first.
    fn write_each(&mut self, begun: u64) -> Outcome {
        let mut first = None;
        for index in 0..self.members.len() {
            let member = self.members.get(index).ok_or(EIO)?;
            let stated = self.state(member, first)?;
            if first.is_none() {
                // A task that loads one of the objects now must not take its revert for an
                // incomplete one.
                self.context.journal.note_group(begun, stated.1, None);
            }
            first.get_or_insert(stated.1);
            if let Some(member) = self.members.get_mut(index) {
                member.intent = Some(stated);
            }
        }
        Ok(())
    }

    /// Writes one intent. Returns its position and number.
    #[inline(never)]
    fn state(&self, member: &GroupMember, first: Option<u64>) -> Outcome<(Pos, u64)> {
        let context = &self.context;
        let opened = context.open(member.object)?;
        let entry = self.entry(first);
        let mut state = opened.inode.object().state.lock();
        opened.known(context, &mut state)?;
        let seq = if member.is_on_names {
            let taken = self.names(member, state.head, &mut refuse)?;
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
            let entry = content.with_targets(&mut state, &plan, entry)?;
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

    /// Closes the group: the first member's line decides, then the other members' lines follow.
    /// Without `is_stated` some intents were not written. Nothing was changed then, recovery has
    /// nothing to roll back, and the first line need not be durable.
    pub(super) fn close(&mut self, begun: u64, first: u64, end: Op, is_stated: bool) {
        let journal = self.context.journal;
        // Before the lines: an object that is loaded from now on sees the group as ended.
        journal.note_group(begun, first, Some(end));
        for (index, member) in self.members.iter().enumerate() {
            let Some((_, seq)) = member.intent else {
                continue;
            };
            let mut closed = self.close_one(member, end, seq);
            if index == 0 && is_stated {
                // The deciding line must be durable before any other closing line.
                closed = closed.and_then(|()| journal.flush(true));
            }
            if let Err(e) = closed {
                // Recovery closes the group at the next mount.
                self.context.mount.warn_lost(e);
                return;
            }
        }
        if !is_stated {
            journal.begin_flush();
        }
        journal.end_intent(begun);
    }

    /// Writes one closing line.
    fn close_one(&self, member: &GroupMember, end: Op, seq: u64) -> Result {
        let opened = self.context.open(member.object).map_err(|r| r.error)?;
        let subject = LineSubject {
            mount: self.context.mount,
            inode: &opened.inode,
            open: None,
        };
        let mut reservation = self.context.journal.reserve_lines(1)?;
        let mut state = opened.inode.object().state.lock();
        opened.known(&self.context, &mut state)?;
        close_intent(&subject, &mut state, &mut reservation, end, seq);
        record::note_change(&mut state, &opened.inode);
        Ok(())
    }

    /// Keeps the intents open after a failed rollback: the next use of an object, or the next
    /// mount, rolls back.
    pub(super) fn keep_open(&self, begun: u64) {
        let journal = self.context.journal;
        let mut begun = Some(begun);
        for member in &self.members {
            let Some((_, seq)) = member.intent else {
                continue;
            };
            pr_err!("revert {} is incomplete\n", seq);
            let id = match begun.take() {
                Some(id) => Ok(id),
                None => journal.begin_intent(),
            };
            match id {
                Ok(id) => journal.mark_incomplete(id, seq),
                Err(e) => self.context.mount.warn_lost(e),
            }
            if let Ok(opened) = self.context.open(member.object) {
                *opened.inode.object().state.lock() = Default::default();
            }
        }
    }

    /// Copies the lower inodes' attributes to ours.
    pub(super) fn refresh(&self) {
        for member in &self.members {
            if let Ok(opened) = self.context.open(member.object) {
                opened.inode.copy_attr();
            }
        }
    }
}
