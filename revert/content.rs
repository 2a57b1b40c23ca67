// SPDX-License-Identifier: GPL-2.0

//! Reverts operations on the content and attributes of one object.

use super::{
    apply::{self, ApplyTarget},
    attributes,
    plan_builder::{self, refuse, ContentPlan},
    steps::{redone_operations, Lines},
    target_choice::TargetChoice,
    targets::{self, EncodedTargets, TargetSet},
    transaction::{self, RequestedRevert, RevertSteps},
    Refusal,
};
use crate::{
    backup,
    history::{
        journal::{Journal, Reservation, SpacePurpose},
        pins::Pin,
    },
    log::{
        line::{Line, LineDraft, Mode, Op, Undo},
        plan::{Changes, OnExternal, Records},
        types::Pos,
    },
    record::{self, Captured, LineSubject, LogCaller, OperationArgs},
    state::{Mount, ObjectState, OpenFileState},
    uapi::Reason,
    vfs::{
        attr, dentry::Dentry, error::EUCLEAN, file::File, fsnotify::ChangeEvents,
        inode::UpperInode, scope::KernelCreds, task,
    },
};
use kernel::prelude::*;

/// An object whose content and attributes are reverted. The inode is locked.
pub(super) struct ContentRevert<'a> {
    pub(super) mount: &'a Mount,
    pub(super) journal: &'a Journal,
    pub(super) inode: &'a UpperInode,
    /// Dentry of the lower object.
    pub(super) lower: &'a Dentry,
    /// Lower file; `None` for an object without content, which has only attributes.
    pub(super) file: Option<&'a File>,
    /// The open file of the request.
    pub(super) open: Option<&'a OpenFileState>,
    /// Ignore changes made outside this mount.
    pub(super) force: bool,
    /// Size before an interrupted revert that recovery resumes; `None` to use the present size.
    pub(super) resumed: Option<u64>,
    /// Whether a fatal signal ends the planning. False once lines are written.
    pub(super) is_killable: bool,
}

/// Value of `why=` in a revert's line if no pre-image was captured.
pub(super) const NO_REDO: &str = "noredo";

/// Fields of a revert's line besides the operations themselves.
#[derive(Clone, Copy)]
pub(super) struct RevertLine<'a> {
    pub(super) op: Op,
    pub(super) mode: Mode,
    /// Number of the group's first line.
    pub(super) group: Option<u64>,
    /// Number of the group's members, in its first line only.
    pub(super) members: Option<u64>,
    /// Numbers of the reverted operations; `None` if the line has `back=` instead, the position
    /// where readers continue.
    pub(super) targets: Option<EncodedTargets<'a>>,
}

impl RevertLine<'_> {
    /// The undo of one object.
    pub(super) const UNDO: Self = Self {
        op: Op::Revert,
        mode: Mode::Walk,
        group: None,
        members: None,
        targets: None,
    };

    /// Adds the numbers of the reverted operations where the line needs them. Numbers without space
    /// in the line go to lines of their own, which are written now: no other line of the object may
    /// come between. The state's lock is held.
    pub(super) fn with_targets<'p>(
        &self,
        journal: &Journal,
        subject: &LineSubject<'_>,
        state: &mut ObjectState,
        is_newest: bool,
        ranges: &'p [(u64, u64)],
    ) -> Result<RevertLine<'p>> {
        let needs_none = is_newest && self.mode == Mode::Walk;
        let targets = if needs_none {
            None
        } else {
            Some(targets::encode(journal, subject, state, ranges)?)
        };
        Ok(RevertLine {
            op: self.op,
            mode: self.mode,
            group: self.group,
            members: self.members,
            targets,
        })
    }

    /// Adds the keys that mark the reverted operations as not live, and whether these include
    /// reverts.
    pub(super) fn describe(&self, draft: &mut LineDraft<'_>, is_deep: bool, back: Option<Pos>) {
        if let Some(encoded) = &self.targets {
            encoded.describe(draft);
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
        if let Some(members) = self.members {
            draft.members(members);
        }
    }
}

/// Whether the revert with this line captured no pre-image. Recovery can then only finish it.
pub(super) fn is_forward_only(line: &Line<'_>) -> bool {
    line.undo == Some(Undo::Lost)
}

impl ContentRevert<'_> {
    pub(super) fn subject(&self) -> LineSubject<'_> {
        LineSubject {
            mount: self.mount,
            inode: self.inode,
            open: self.open,
        }
    }

    /// Compares the object with its last line and logs an external change. The inode is locked.
    pub(super) fn verify(&self, state: &mut ObjectState) -> Result<OnExternal, Refusal> {
        record::load_known(self.mount, self.journal, self.inode, self.lower, state)?;
        record::log_dirty_ranges(self.journal, self.inode, state, LogCaller::LockHolder)?;
        if !self.inode.is_regular() {
            return Ok(OnExternal::Stop);
        }
        // Mappings of the lower file bypass our ->page_mkwrite, so their writes are not captured.
        let stores = self.inode.object().mmap_writes();
        let mapped = !stores.is_mapped() && self.inode.lower().is_writably_mapped();
        if mapped && !self.force {
            return Err(Refusal::new(Reason::Mapped, 0));
        }
        if !mapped
            && (record::is_changed_externally(state, self.inode) || !self.is_as_closed(state)?)
        {
            record::note_external(self.mount, self.journal, self.inode, self.lower, state)?;
        }
        Ok(if self.force {
            OnExternal::Pass
        } else {
            OnExternal::Stop
        })
    }

    /// Whether the object still has the cookie of its closing line.
    fn is_as_closed(&self, state: &ObjectState) -> Result<bool> {
        let Some(closed) = state.close_cookie else {
            return Ok(true);
        };
        let cookie = attr::cookie(self.mount.lower(), self.lower)?;
        let is_reclaimed = |seen| record::is_reclaimed(seen, self.inode);
        Ok(cookie == closed || state.seen.as_ref().is_some_and(is_reclaimed))
    }

    /// Checks FS_IMMUTABLE_FL and FS_APPEND_FL, present and restored, and the caller's right to set
    /// the attributes of the plan.
    pub(super) fn require_permission(&self, plan: &ContentPlan) -> Result<(), Refusal> {
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
        let (mount, object) = (self.mount.lower(), (self.inode, self.lower));
        Ok(attributes::may_put(mount, object, records)?)
    }

    /// Whether the plan changes content.
    pub(super) fn has_content(&self, plan: &ContentPlan) -> Result<bool, Refusal> {
        let content = apply::is_of_content(&plan.pieces, &plan.outcome, plan.records()?);
        Ok(content && self.inode.is_regular())
    }

    /// Refuses a swap file: the kernel writes to its blocks directly. swapon(8) works on lower
    /// files only, and generic_write_checks() returns ETXTBSY for them, too.
    pub(super) fn refuse_swapfile(&self) -> Result<(), Refusal> {
        if self.inode.lower().is_swapfile() {
            return Err(Refusal::new(Reason::Executed, 0));
        }
        Ok(())
    }

    /// The parts of the object that the plan changes, for fsnotify.
    pub(super) fn changed_by(&self, plan: &ContentPlan) -> Result<ChangeEvents, Refusal> {
        Ok(ChangeEvents {
            content: self.has_content(plan)?,
            attributes: plan.has_attributes,
        })
    }

    /// The lower object as the target of a plan.
    pub(super) fn target(&self, is_alone: bool) -> ApplyTarget<'_> {
        ApplyTarget {
            own: self.mount,
            mount: self.mount.lower(),
            file: self.file,
            dentry: self.lower,
            journal: self.journal,
            is_alone,
        }
    }

    /// Reverts the operations of the plan. The state's lock is held: no other line of the object
    /// comes between.
    pub(super) fn perform(
        &self,
        state: &mut ObjectState,
        plan: ContentPlan,
        no_redo: bool,
        pin: &Pin<'_>,
    ) -> Result<(), Refusal> {
        let mut steps = ContentSteps {
            content: self,
            state,
            plan,
            no_redo,
            captured: Captured::Nothing,
            present: KVVec::new(),
            reservation: None,
            content_changed: false,
        };
        let outcome = transaction::run(self.mount, self.journal, &mut steps);
        if no_redo && outcome.is_incomplete() {
            // Recovery can only finish this revert, from the segments that the plan reads.
            pin.stay();
        }
        outcome.into_result()
    }

    /// Captures the pre-image of the plan.
    pub(super) fn capture(&self, plan: &ContentPlan) -> Result<Captured> {
        let (runs, present) = self.replaced(plan)?;
        if runs.is_empty() && present.is_empty() {
            return Ok(Captured::Nothing);
        }
        let (reader, purpose) = (self.file, SpacePurpose::Revert);
        backup::capture_runs(
            self.journal,
            self.inode.lower(),
            reader,
            &runs,
            &present,
            purpose,
        )
    }

    /// Length of the payload of [`Self::capture`].
    pub(super) fn capture_length(&self, plan: &ContentPlan) -> Result<u64> {
        let (runs, present) = self.replaced(plan)?;
        backup::payload_length(&runs, &present)
    }

    /// The pre-image of the plan: runs of content, and attributes.
    fn replaced(&self, plan: &ContentPlan) -> Result<(backup::MapRuns, KVVec<u8>)> {
        let records = Records::new(&plan.attributes).map_err(|_| EUCLEAN)?;
        let mut runs = backup::MapRuns::new();
        if let Some(file) = self.file {
            for (offset, length) in Changes::new(&plan.pieces, &plan.outcome) {
                let end = offset.saturating_add(length);
                backup::add_runs(&mut runs, file, (offset, end))?;
            }
        }
        let present = backup::gather_attributes(self.mount.lower(), self.lower, records)?;
        Ok((runs, present))
    }

    /// Finishes an interrupted revert without a pre-image, as planned by its line. All steps are
    /// applied again.
    #[inline(never)]
    pub(super) fn resume(&self, line: &Line<'_>, is_alone: bool) -> Result {
        // The caller's rights were checked before the intent was written.
        let _kernel = KernelCreds::new();
        let resumed = ContentRevert {
            resumed: line.size,
            ..*self
        };
        let plan = resumed.planned(line).map_err(|refusal| refusal.error)?;
        let records = Records::new(&plan.attributes).map_err(|_| EUCLEAN)?;
        let target = self.target(is_alone);
        target.apply(&plan.pieces, &plan.outcome, records, &mut false)
    }

    /// Builds the plan from a revert's line.
    #[inline(never)]
    fn planned(&self, line: &Line<'_>) -> Result<ContentPlan, Refusal> {
        if line.op == Op::Redo && line.targets.is_none() {
            let places = redone_operations(self.journal, line)?;
            let mut numbers = KVVec::with_capacity(places.len(), GFP_KERNEL)?;
            let mut lines = Lines::new(self.journal)?;
            for at in &places {
                numbers.push(lines.read(*at)?.seq, GFP_KERNEL)?;
            }
            return plan_builder::redo(self, &places, &numbers);
        }
        let picked = TargetSet::of(self.journal, line)?;
        let count = line.count.ok_or(EUCLEAN)?;
        let choice = match &picked {
            Some(picked) => TargetChoice::Listed(picked, count),
            None => TargetChoice::Newest(count),
        };
        plan_builder::plan(self, line.prev, choice, OnExternal::Pass, &mut refuse)
    }

    /// Writes the revert's own line, the intent, and returns its number.
    pub(super) fn write_intent(
        &self,
        state: &mut ObjectState,
        reservation: &mut Reservation<'_>,
        plan: &ContentPlan,
        captured: &Captured,
        entry: RevertLine<'_>,
    ) -> Result<u64> {
        let (at, length) = plan.outcome.span(&plan.pieces);
        let args = OperationArgs {
            op: entry.op,
            at,
            length,
            size: plan.outcome.present,
        };
        // Recovery may have to find the file by this line alone, so the line must hold the file
        // handle.
        state.handle_segment = 0;
        let placed = record::place(&self.subject(), state, reservation, &args, |draft| {
            captured.describe(draft);
            draft.of(plan.newest).count(plan.count);
            entry.describe(draft, plan.is_deep, plan.back);
            draft.now(plan.outcome.size);
        })?;
        Ok(placed.seq)
    }
}

/// The revert of one object: its plan is the only step.
struct ContentSteps<'s, 'a> {
    content: &'s ContentRevert<'a>,
    state: &'s mut ObjectState,
    plan: ContentPlan,
    no_redo: bool,
    captured: Captured,
    /// With `no_redo`: the attributes before the revert, which are not captured.
    present: KVVec<u8>,
    /// Space for the closing line, which therefore cannot fail.
    reservation: Option<Reservation<'a>>,
    /// Whether content may be changed.
    content_changed: bool,
}

impl RevertSteps for ContentSteps<'_, '_> {
    fn apply(&mut self) -> Result<(), Refusal> {
        let (target, plan) = (self.content.target(true), &self.plan);
        let records = Records::new(&plan.attributes).map_err(|_| EUCLEAN)?;
        let content_changed = &mut self.content_changed;
        let mut applied = target.apply(&plan.pieces, &plan.outcome, records, content_changed);
        if applied.is_err() && self.no_redo && *content_changed {
            // No pre-image to roll back to: the plan, which is idempotent, is applied once more.
            applied = target.apply(&plan.pieces, &plan.outcome, records, content_changed);
        }
        Ok(applied?)
    }

    /// Restores the pre-image.
    fn roll_back(&mut self) -> Result<(), Refusal> {
        let target = self.content.target(true);
        Ok(match self.no_redo {
            true if self.content_changed => Err(EIO),
            true => target.put_back(&self.present),
            false => target.roll_back(
                &self.captured,
                self.plan.outcome.present,
                self.content_changed,
            ),
        }?)
    }

    /// The object stays changed, so the reason for that is the more important one.
    fn incomplete(&self, _refused: Refusal, failed: Refusal) -> Refusal {
        failed
    }

    fn place_end(&mut self, _member: usize, end: Op, intent: u64) -> Result {
        let reservation = self.reservation.as_mut().ok_or(EIO)?;
        transaction::place_end(
            &self.content.subject(),
            self.state,
            reservation,
            end,
            intent,
        )
    }
}

impl RequestedRevert for ContentSteps<'_, '_> {
    fn place_intent(&mut self, _member: usize, _first: Option<u64>) -> Result<u64, Refusal> {
        let (content, plan) = (self.content, &self.plan);
        if self.no_redo {
            let records = Records::new(&plan.attributes).map_err(|_| EUCLEAN)?;
            let (mount, lower) = (content.mount.lower(), content.lower);
            self.present = backup::gather_attributes(mount, lower, records)?;
            self.captured = Captured::Uncaptured(NO_REDO);
        } else {
            self.captured = content.capture(plan)?;
        }
        let (subject, is_newest, targets) = (content.subject(), plan.is_newest, &plan.targets);
        let entry = RevertLine::UNDO.with_targets(
            content.journal,
            &subject,
            self.state,
            is_newest,
            targets,
        )?;
        let reservation = content.journal.reserve_lines_killable(3)?;
        let reservation = self.reservation.insert(reservation);
        Ok(content.write_intent(self.state, reservation, plan, &self.captured, entry)?)
    }

    fn forget(&mut self, _member: usize) {
        *self.state = ObjectState::default();
    }
}
