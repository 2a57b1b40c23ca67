// SPDX-License-Identifier: GPL-2.0

//! The lines of a group: what is about to be done to each object, and how it ended.

use super::{apply::GroupRevertError, GroupMember, GroupRevert, Outcome};
use crate::{
    backup::{self, Captured, LineSubject},
    history::{
        line::{Op, Pos},
        plan::OnForeign, //
    },
    revert::{close_intent, content::NO_REDO, names, plan_builder::refuse},
};
use kernel::prelude::*;

impl GroupRevert<'_> {
    /// States all intents, and makes them durable. Nothing else is changed yet, so it ends when the caller
    /// is killed, or when the journal gets nowhere for some seconds: others wait for the objects.
    #[inline(never)]
    pub(super) fn write_intents(&mut self, begun: u64) -> Result<(), GroupRevertError> {
        let durable = self
            .write_each(begun)
            .and_then(|()| Ok(self.context.journal.flush_in_time()?));
        durable.map_err(GroupRevertError::RolledBack)
    }

    fn write_each(&mut self, begun: u64) -> Outcome {
        let mut first = None;
        for index in 0..self.members.len() {
            let member = self.members.get(index).ok_or(EIO)?;
            let stated = self.state(member, first)?;
            if first.is_none() {
                // Whoever looks at one of the objects meanwhile must not take it for half done.
                self.context.journal.note_group(begun, stated.1, None);
            }
            first.get_or_insert(stated.1);
            if let Some(member) = self.members.get_mut(index) {
                member.intent = Some(stated);
            }
        }
        Ok(())
    }

    /// States one intent: where its line stands, and its number.
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
            let (is_newest, picks) = (taken.is_newest, &taken.picks);
            let entry =
                entry.with_targets(context.journal, &subject, &mut state, is_newest, picks)?;
            let mut room = context.journal.reserve_lines_killable(1)?;
            let undo = names::undo_of(self.room());
            names::write_intent(&subject, &mut state, &taken, &mut room, (entry, undo))?
        } else {
            let file = opened.file(context, false)?;
            let content = opened.content(context, file.as_deref(), self.request.force);
            let on_foreign = self.on_foreign();
            let mut plan = self.plan(&content, member, state.head, on_foreign, &mut refuse)?;
            if member.is_untouched {
                plan = plan.of_nothing();
            }
            let captured = match self.request.no_redo {
                true => Captured::Uncaptured(NO_REDO),
                false if member.is_untouched => Captured::Nothing,
                false => content.capture(&plan)?,
            };
            let entry = content.with_targets(&mut state, &plan, entry)?;
            let mut room = context.journal.reserve_lines_killable(1)?;
            content.write_intent(&mut state, &mut room, &plan, &captured, entry)?
        };
        let at = state.head.ok_or(EIO)?;
        Ok((at, seq))
    }

    /// What is done about changes from outside: they were looked for already.
    pub(super) fn on_foreign(&self) -> OnForeign {
        if self.request.force {
            OnForeign::Pass
        } else {
            OnForeign::Stop
        }
    }

    /// Says how it ended: by a line of the first object, which decides, and then by one of each other. Without
    /// `is_stated`, not all intents were stated: nothing was changed, a mount after a crash finds nothing to
    /// roll back, and the first line's being durable is not waited for.
    pub(super) fn close(&mut self, begun: u64, first: u64, end: Op, is_stated: bool) {
        let journal = self.context.journal;
        journal.note_group(begun, first, Some(end));
        for (index, member) in self.members.iter().enumerate() {
            let Some((_, seq)) = member.intent else {
                continue;
            };
            let mut closed = self.close_one(member, end, seq);
            if index == 0 && is_stated {
                // No other line may say so without this one.
                closed = closed.and_then(|()| journal.flush(true));
            }
            if let Err(e) = closed {
                // The next mount finds out.
                self.context.mount.warn_lost(e);
                return;
            }
        }
        if !is_stated {
            journal.begin_flush();
        }
        journal.end_intent(begun);
    }

    fn close_one(&self, member: &GroupMember, end: Op, seq: u64) -> Result {
        let opened = self.context.open(member.object).map_err(|r| r.error)?;
        let subject = LineSubject {
            mount: self.context.mount,
            inode: &opened.inode,
            open: None,
        };
        let mut room = self.context.journal.reserve_lines(1)?;
        let mut state = opened.inode.object().state.lock();
        opened.known(&self.context, &mut state)?;
        close_intent(&subject, &mut state, &mut room, end, seq);
        backup::note_change(&mut state, &opened.inode);
        Ok(())
    }

    /// Leaves it to whoever uses the objects next, or to the next mount, to put right what could be
    /// neither done nor undone.
    pub(super) fn keep_open(&self, begun: u64) {
        let journal = self.context.journal;
        let mut begun = Some(begun);
        for member in &self.members {
            let Some((_, seq)) = member.intent else {
                continue;
            };
            pr_err!("revert {} is half done\n", seq);
            let id = match begun.take() {
                Some(id) => Ok(id),
                None => journal.begin_intent(),
            };
            match id {
                Ok(id) => journal.leave_intent(id, seq),
                Err(e) => self.context.mount.warn_lost(e),
            }
            if let Ok(opened) = self.context.open(member.object) {
                *opened.inode.object().state.lock() = Default::default();
            }
        }
    }

    /// What our inodes say of the objects is what the lower ones say.
    pub(super) fn refresh(&self) {
        for member in &self.members {
            if let Ok(opened) = self.context.open(member.object) {
                opened.inode.refresh();
            }
        }
    }
}
