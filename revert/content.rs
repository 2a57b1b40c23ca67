// SPDX-License-Identifier: GPL-2.0

//! Taking back what was done to one object's content and attributes: what stands in the log before,
//! what is changed, and what stands in it behind.

use super::{
    apply::{self, Target},
    attributes, close_intent,
    gather::Gathered,
    picks::{self, Told},
    Refusal, Undone,
};
use crate::{
    backup::{self, Saved, Subject, Teller, What},
    history::{
        journal::{Journal, LineRoom},
        line::{LineDraft, Mode, Op, Pos},
        plan::{Changes, OnForeign, Records}, //
    },
    stack::{Mount, ObjectState, Open},
    uapi::Reason,
    vfs::{
        attr,
        dentry::Dentry,
        error::EUCLEAN,
        file::File,
        inode::OwnInode,
        task, //
    },
};
use kernel::prelude::*;

/// An object whose content and attributes are taken back.
pub(super) struct Content<'a> {
    pub(super) mount: &'a Mount,
    pub(super) journal: &'a Journal,
    pub(super) inode: &'a OwnInode,
    /// Its lower name.
    pub(super) lower: &'a Dentry,
    /// Its lower file; `None`: it has no content of ours, only attributes.
    pub(super) file: Option<&'a File>,
    /// The open file that it is asked through.
    pub(super) open: Option<&'a Open>,
    /// Go on although it was changed outside.
    pub(super) force: bool,
}

/// What a revert's line says beside what it takes back.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) op: Op,
    pub(super) mode: Mode,
    /// The group that it belongs to.
    pub(super) group: Option<u64>,
    /// The numbers of what it takes back; `None`: it says where the walk goes on instead, behind that.
    pub(super) picks: Option<Told<'a>>,
}

impl Entry<'_> {
    /// An undo of one object.
    pub(super) const UNDO: Self = Self {
        op: Op::Revert,
        mode: Mode::Walk,
        group: None,
        picks: None,
    };

    /// With the numbers of what it takes back, where its line has to tell them: what it has no room for
    /// gets lines now, so nothing else of the object may be placed before it. The state's lock is held.
    pub(super) fn telling<'p>(
        &self,
        journal: &Journal,
        subject: &Subject<'_>,
        state: &mut ObjectState,
        is_newest: bool,
        ranges: &'p [(u64, u64)],
    ) -> Result<Entry<'p>> {
        let needs_none = (is_newest && self.mode == Mode::Walk) || self.op == Op::Redo;
        let picks = if needs_none {
            None
        } else {
            Some(picks::tell(journal, subject, state, ranges)?)
        };
        Ok(Entry {
            op: self.op,
            mode: self.mode,
            group: self.group,
            picks,
        })
    }

    /// Adds what tells which operations do not stand any more, and whether there are reverts among them.
    pub(super) fn describe(&self, draft: &mut LineDraft<'_>, is_deep: bool, back: Option<Pos>) {
        if let Some(told) = &self.picks {
            told.describe(draft);
            if is_deep {
                draft.deep();
            }
        } else if let Some(back) = back {
            draft.back(back);
        }
        draft.mode(self.mode);
        if let Some(group) = self.group {
            draft.group(group);
        }
    }
}

impl Content<'_> {
    pub(super) fn subject(&self) -> Subject<'_> {
        Subject {
            mount: self.mount,
            inode: self.inode,
            open: self.open,
        }
    }

    /// Whether the object is as our last line says. Our inode is locked, or our mount frozen.
    pub(super) fn verify(&self, state: &mut ObjectState) -> Result<OnForeign, Refusal> {
        backup::load_known(self.mount, self.journal, self.inode, self.lower, state)?;
        backup::tell_stores(self.journal, self.inode, state, Teller::Locker)?;
        if !self.inode.is_regular() {
            return Ok(OnForeign::Stop);
        }
        // Behind us: its stores are seen by nobody.
        let stores = self.inode.object().stores();
        let mapped = !stores.is_mapped() && self.inode.lower().is_writably_mapped();
        if mapped && !self.force {
            return Err(Refusal::new(Reason::Mapped, 0));
        }
        if !mapped && (backup::is_foreign(state, self.inode) || !self.is_as_we_left_it(state)?) {
            backup::foreign(self.mount, self.journal, self.inode, self.lower, state)?;
        }
        Ok(if self.force {
            OnForeign::Pass
        } else {
            OnForeign::Stop
        })
    }

    fn is_as_we_left_it(&self, state: &ObjectState) -> Result<bool> {
        let Some(left) = state.left else {
            return Ok(true);
        };
        let cookie = attr::cookie(self.mount.lower(), self.lower)?;
        Ok(cookie == left)
    }

    /// Whether the object may be changed at all, as far as its protection goes, now and then.
    pub(super) fn is_open_to(&self, plan: &Gathered) -> Result<(), Refusal> {
        let records = plan.records()?;
        let is_protected = self.inode.is_protected();
        let is_shut = is_protected && !attributes::lifts_protection(records);
        let is_decided = is_protected || attributes::protects(records);
        if is_shut || (is_decided && !task::may_protect()) {
            return Err(Refusal {
                error: EPERM,
                reason: Reason::NotWritable,
                seq: 0,
            });
        }
        Ok(())
    }

    /// Whether the plan changes content.
    pub(super) fn has_content(&self, plan: &Gathered) -> Result<bool, Refusal> {
        let content = apply::is_of_content(&plan.pieces, &plan.outcome, plan.records()?);
        Ok(content && self.inode.is_regular())
    }

    pub(super) fn target(&self, is_alone: bool) -> Target<'_> {
        Target {
            mount: self.mount.lower(),
            file: self.file,
            dentry: self.lower,
            journal: self.journal,
            is_alone,
        }
    }

    /// Saves, states the intent, applies, commits.
    pub(super) fn perform(&self, state: &mut ObjectState, plan: Gathered) -> Result<(), Refusal> {
        let begun = self.journal.begin_intent()?;
        let result = self.perform_begun(state, plan, begun);
        // A revert that is half done stays open: the next mount tries again.
        if !matches!(result, Err(Undone::Half(_))) {
            self.journal.end_intent(begun);
        }
        result.map_err(Undone::refusal)
    }

    fn perform_begun(
        &self,
        state: &mut ObjectState,
        plan: Gathered,
        begun: u64,
    ) -> Result<(), Undone> {
        let records = Records::new(&plan.attributes).map_err(|_| EUCLEAN)?;
        let saved = self.save(&plan)?;
        let entry = self.telling(state, &plan, Entry::UNDO)?;
        let mut room = self.journal.reserve_lines(3)?;
        let intent = self.state_intent(state, &mut room, &plan, &saved, entry)?;
        if let Err(e) = self.journal.flush(true) {
            close_intent(&self.subject(), state, &mut room, Op::Cancel, intent);
            return Err(e.into());
        }
        let target = self.target(true);
        let mut touched = false;
        let applied = target.apply(&plan.pieces, &plan.outcome, records, &mut touched);
        let end = match applied {
            Ok(()) => Op::Commit,
            Err(_) => {
                // What was saved puts back what was replaced; the intent stays open when that
                // fails too: whoever uses the file next tries again, or the next mount.
                match target.roll_back(&saved, plan.outcome.present, touched) {
                    Ok(()) => Op::Cancel,
                    Err(e) => {
                        pr_err!("revert {} is half done: error {}\n", intent, e.to_errno());
                        self.journal.leave_intent(begun, intent);
                        *state = ObjectState::default();
                        return Err(Undone::Half(e));
                    }
                }
            }
        };
        close_intent(&self.subject(), state, &mut room, end, intent);
        backup::note_change(state, self.inode);
        applied.map_err(Undone::Whole)
    }

    /// Saves what applying the plan will replace.
    pub(super) fn save(&self, plan: &Gathered) -> Result<Saved> {
        let records = Records::new(&plan.attributes).map_err(|_| EUCLEAN)?;
        let mut runs = KVec::new();
        if let Some(file) = self.file {
            for (offset, length) in Changes::new(&plan.pieces, &plan.outcome) {
                let end = offset.saturating_add(length);
                backup::add_runs(&mut runs, file, (offset, end))?;
            }
        }
        let present = backup::gather_attributes(self.mount.lower(), self.lower, records)?;
        if runs.is_empty() && present.is_empty() {
            return Ok(Saved::Nothing);
        }
        backup::capture_runs(self.journal, self.inode.lower(), self.file, &runs, &present)
    }

    /// As [`Entry::telling`], of what a plan takes back.
    pub(super) fn telling<'p>(
        &self,
        state: &mut ObjectState,
        plan: &'p Gathered,
        entry: Entry<'_>,
    ) -> Result<Entry<'p>> {
        let subject = self.subject();
        entry.telling(self.journal, &subject, state, plan.is_newest, &plan.picks)
    }

    /// Places the revert's own line; returns its number.
    pub(super) fn state_intent(
        &self,
        state: &mut ObjectState,
        room: &mut LineRoom<'_>,
        plan: &Gathered,
        saved: &Saved,
        entry: Entry<'_>,
    ) -> Result<u64> {
        let (at, length) = plan.outcome.hull(&plan.pieces);
        let what = What {
            op: entry.op,
            at,
            length,
            size: plan.outcome.present,
        };
        // The next mount may have to find the file by this line alone.
        state.handle_told_in = 0;
        let placed = backup::place(&self.subject(), state, room, &what, |draft| {
            saved.describe(draft);
            draft.of(plan.newest).count(plan.count);
            entry.describe(draft, plan.is_deep, plan.back);
            draft.now(plan.outcome.size);
        })?;
        Ok(placed.seq)
    }
}
