// SPDX-License-Identifier: GPL-2.0

//! Checks whether the operations of a group can be reverted: each is live, has no conflict with a
//! kept operation, and the caller has the right. Nothing is changed.

use super::{
    claim::WriteClaim, order::OrderedSteps, orphan_conflicts::NamedObjects,
    rehearse::RehearsalResult, ConflictSink, GroupMember, GroupRevert, GroupSummary,
    NonEmptyDirectory, OpenedObject, Outcome, RevertPhase,
};
use crate::{
    history::sort::sort,
    log::{
        line::Op,
        plan::{OnExternal, WalkStep},
        types::{ObjectId, Pos},
    },
    record,
    revert::{
        content::ContentRevert,
        plan_builder::{self, ContentPlan},
        rights::ChainRights,
        steps::{disposition, Lines},
        target_choice::TargetChoice,
        Chain, ChainLink, Refusal,
    },
    uapi::Reason,
    vfs::{inode::UpperInode, lock::InodeGuard},
};
use core::cell::Cell;
use kernel::{prelude::*, sync::aref::ARef};

/// Resources that the plans need.
#[derive(Clone, Copy)]
pub(super) struct PlanNeeds {
    /// Bytes of content that the plans replace.
    bytes: u64,
    /// Bytes of the pre-images to capture.
    pub(super) length: u64,
    /// The oldest segment with a line or a payload that is read. The plans are made again when they
    /// are applied.
    pub(super) oldest: u64,
}

impl PlanNeeds {
    const NOTHING: Self = Self {
        bytes: 0,
        length: 0,
        oldest: u64::MAX,
    };

    fn add(&mut self, other: &Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.length = self.length.saturating_add(other.length);
        self.oldest = self.oldest.min(other.oldest);
    }
}

/// Result of planning one member.
enum MemberOutcome {
    /// The object is gone and never had a name.
    LeftOut,
    /// The member can be reverted.
    Fits {
        needs: PlanNeeds,
        claim: Option<WriteClaim>,
        inode: ARef<UpperInode>,
    },
    /// A lease must be broken first.
    Leased(ARef<UpperInode>),
}

impl GroupRevert<'_> {
    /// Plans all members and rehearses the steps on names. Operations that created directories
    /// which are not empty are kept, and the rest is planned again.
    #[inline(never)]
    pub(super) fn plan_all(
        &mut self,
        is_last: bool,
        conflicts: ConflictSink<'_>,
    ) -> Outcome<(GroupSummary, PlanNeeds, OrderedSteps)> {
        let is_refused = Cell::new(false);
        let is_redo = self.request.redo;
        let mut conflicts = |seq, refusal: Refusal| {
            is_refused.set(true);
            // The undo is hidden by a newer one that is kept.
            let refusal = match refusal.reason {
                Reason::NothingLeft if is_redo => Refusal::new(Reason::Conflict, refusal.seq),
                _ => refusal,
            };
            conflicts(seq, refusal)
        };
        let (mut done, mut needs) = self.choose(is_last, &mut conflicts)?;
        if is_refused.get() || !self.leased.is_empty() {
            return Ok((done, needs, OrderedSteps::default()));
        }
        let findings = self.rehearse(&mut conflicts)?;
        if is_refused.get() || findings.non_empty.is_empty() {
            let steps = self.note_rehearsal(findings)?;
            return Ok((done, needs, steps));
        }
        let non_empty = findings.non_empty;
        self.retain_non_empty(&non_empty)?;
        (done, needs) = self.choose(is_last, &mut conflicts)?;
        if is_refused.get() || !self.leased.is_empty() {
            return Ok((done, needs, OrderedSteps::default()));
        }
        if self.members.is_empty() {
            // The request has no other operation.
            for one in &non_empty {
                conflicts(one.seq, Refusal::new(Reason::NotEmpty, one.blocker))?;
            }
            return Ok((done, needs, OrderedSteps::default()));
        }
        let findings = self.rehearse(&mut conflicts)?;
        for one in &findings.non_empty {
            // The first rehearsal found all of them.
            conflicts(one.seq, Refusal::new(Reason::NotEmpty, one.blocker))?;
        }
        let steps = self.note_rehearsal(findings)?;
        done.non_empty = non_empty;
        Ok((done, needs, steps))
    }

    /// Records the objects that the steps on names affect. Returns the steps.
    fn note_rehearsal(&mut self, findings: RehearsalResult) -> Outcome<OrderedSteps> {
        for inode in findings.inodes {
            self.inodes.push(inode, GFP_KERNEL_ACCOUNT)?;
        }
        self.moves_directories = findings.moves_directories;
        Ok(findings.steps)
    }

    /// Keeps the operations that created these directories.
    fn retain_non_empty(&mut self, non_empty: &[NonEmptyDirectory]) -> Outcome {
        for one in non_empty {
            self.non_empty.push(*one, GFP_KERNEL_ACCOUNT)?;
        }
        sort(&mut self.non_empty, |a, b| a.seq > b.seq);
        let non_empty = core::mem::take(&mut self.non_empty);
        self.chosen.retain(|chosen| {
            let found = non_empty.binary_search_by(|one| chosen.seq.cmp(&one.seq));
            found.is_err()
        });
        self.non_empty = non_empty;
        // The next planning collects these again.
        self.inodes.clear();
        self.claims.clear();
        self.gather_members()
    }

    /// Number of the newest kept operation on a name in the directory; 0 if its lines have none.
    #[inline(never)]
    pub(super) fn newest_inside(&self, dir: ObjectId) -> Outcome<u64> {
        let journal = self.context.journal;
        let head = journal.last_line(dir)?;
        let mut chain = Chain::new(journal, dir, head, OnExternal::Pass)?;
        loop {
            self.context.breathe()?;
            match &chain.step_with(|seq| disposition(self.takes(seq)))? {
                ChainLink::Line(line, _, _, WalkStep::Live) => {
                    if binds_a_name(line.op) && !self.takes(line.seq) {
                        return Ok(line.seq);
                    }
                }
                ChainLink::Line(..) => {}
                ChainLink::End | ChainLink::Trimmed => return Ok(0),
            }
        }
    }

    /// Plans all members. Objects with leases are collected, or are conflicts if `is_last`.
    #[inline(never)]
    pub(super) fn choose(
        &mut self,
        is_last: bool,
        conflicts: ConflictSink<'_>,
    ) -> Outcome<(GroupSummary, PlanNeeds)> {
        let named = self.named()?;
        let mut done = GroupSummary::default();
        let mut all = PlanNeeds::NOTHING;
        let mut last = None;
        for index in 0..self.members.len() {
            self.context.breathe()?;
            let member = self.members.get(index).ok_or(EIO)?;
            let (object, count) = (member.object, self.of(member).len() as u64);
            let first = self.of(member).first().map_or(0, |chosen| chosen.seq);
            let chosen = self.choose_of(member, &named, conflicts);
            let member = self.members.get_mut(index).ok_or(EIO)?;
            match chosen {
                // Never had a name: nothing of this object can be missed.
                Ok(MemberOutcome::LeftOut) => {
                    done.left_out = done.left_out.saturating_add(count);
                    member.is_left_out = true;
                    continue;
                }
                Ok(MemberOutcome::Fits {
                    needs,
                    claim,
                    inode,
                }) => {
                    all.add(&needs);
                    member.length = needs.length;
                    if let Some(claim) = claim {
                        self.claims.push(claim, GFP_KERNEL_ACCOUNT)?;
                    }
                    self.inodes.push(inode, GFP_KERNEL_ACCOUNT)?;
                }
                Ok(MemberOutcome::Leased(inode)) if !is_last => {
                    self.leased.push(inode, GFP_KERNEL_ACCOUNT)?
                }
                Ok(MemberOutcome::Leased(_)) => conflicts(first, Refusal::new(Reason::Leased, 0))?,
                Err(refusal) => conflicts(first, refusal)?,
            }
            done.reverted = done.reverted.saturating_add(count);
            // An object can have two members, content and names.
            if last.replace(object) != Some(object) {
                done.objects = done.objects.saturating_add(1);
            }
        }
        self.members.retain(|member| !member.is_left_out);
        done.bytes = all.bytes;
        Ok((done, all))
    }

    /// Plans one member.
    #[inline(never)]
    fn choose_of(
        &self,
        member: &GroupMember,
        named: &NamedObjects,
        conflicts: ConflictSink<'_>,
    ) -> Outcome<MemberOutcome> {
        let Some(opened) = self.context.open_unless_unnamed(member.object)? else {
            return Ok(MemberOutcome::LeftOut);
        };
        let (needs, claim) = match self.choose_opened(member, named, &opened, conflicts) {
            Err(refusal) if refusal.reason == Reason::Leased => {
                return Ok(MemberOutcome::Leased(opened.inode))
            }
            planned => planned?,
        };
        // Write access is held, so no new lease is granted after this check.
        let is_leased = claim
            .as_ref()
            .is_some_and(|claim| claim.is_leased(&opened.inode));
        // A dry run does not break leases.
        if is_leased && !self.request.dry_run {
            return Ok(MemberOutcome::Leased(opened.inode));
        }
        Ok(MemberOutcome::Fits {
            needs,
            claim,
            inode: opened.inode,
        })
    }

    /// Plans an opened member. Returns the resources, and write access if the plan changes content.
    #[inline(never)]
    fn choose_opened(
        &self,
        member: &GroupMember,
        named: &NamedObjects,
        opened: &OpenedObject,
        conflicts: ConflictSink<'_>,
    ) -> Outcome<(PlanNeeds, Option<WriteClaim>)> {
        if member.is_on_names {
            self.choose_names(member, opened, conflicts)?;
            return Ok((PlanNeeds::NOTHING, None));
        }
        opened.may_be_reverted(self.context.request_file()?)?;
        self.refuse_orphan_content(member, named, conflicts)?;
        let file = opened.file(&self.context, false)?;
        let content = opened.content(&self.context, file.as_deref(), self.request.force);
        let _lock = self.lock_to_plan(&opened.inode)?;
        let mut state = opened.inode.object().state.lock();
        let on_external = content.verify(&mut state)?;
        let plan = self.plan(&content, member, state.head, on_external, conflicts)?;
        content.require_permission(&plan)?;
        let mut claim = None;
        if content.has_content(&plan)? {
            let may = match opened.inode.is_protected() {
                true => opened.inode.may_write_unprotected(),
                false => opened.inode.may_write(),
            };
            // open(2) for writing fails with the same check.
            may.map_err(|e| match e == EIO || e == ENOMEM {
                true => e.into(),
                false => Refusal::new(Reason::NotWritable, 0),
            })?;
            claim = Some(WriteClaim::of(&opened.inode)?);
        }
        let replaced = plan.pieces.iter().map(|piece| piece.length);
        let needs = PlanNeeds {
            bytes: replaced.fold(0, u64::saturating_add),
            length: match self.request.no_redo {
                true => 0,
                false => content.capture_length(&plan)?,
            },
            oldest: plan.oldest_read,
        };
        Ok((needs, claim))
    }

    /// Checks an opened directory whose names are reverted.
    #[inline(never)]
    fn choose_names(
        &self,
        member: &GroupMember,
        opened: &OpenedObject,
        conflicts: ConflictSink<'_>,
    ) -> Outcome {
        let mut caller = self.context.caller()?;
        let rights = caller.over(&opened.inode, &opened.lower)?;
        if rights == ChainRights::Nothing {
            return Err(Refusal::new(Reason::NotOwner, 0));
        }
        // If the request also restores the flags, their restored value decides.
        if opened.inode.is_protected() && self.has_content_of(member.object) {
            opened.inode.may_change_names_unprotected()?;
        } else {
            opened.inode.may_change_names()?;
        }
        // A removed directory (S_DEAD) can get names only if it is restored first.
        if self.context.is_orphan(&opened.inode)? && !self.is_restored(member.object)? {
            return Err(Refusal::new(Reason::Conflict, 0));
        }
        let head = {
            let _lock = self.lock_to_plan(&opened.inode)?;
            let mut state = opened.inode.object().state.lock();
            // Rolls an incomplete revert back first.
            let (mount, journal) = (self.context.mount, self.context.journal);
            record::load_known(mount, journal, &opened.inode, &opened.lower, &mut state)?;
            state.head
        };
        let taken = self.names(member, &opened.lower, head, conflicts)?;
        self.require_own(&mut caller, rights, &taken, conflicts)
    }

    /// Locks the inode, which [`ContentRevert::verify`] needs. In later stages all inodes are
    /// locked.
    fn lock_to_plan<'o>(&self, inode: &'o UpperInode) -> Outcome<Option<InodeGuard<'o>>> {
        match self.context.phase {
            RevertPhase::Planning => Ok(Some(inode.lock_with(&self.patience)?)),
            RevertPhase::Checking | RevertPhase::Performing => Ok(None),
        }
    }

    /// Plans content and attributes, from the line at `head` on.
    pub(super) fn plan(
        &self,
        content: &ContentRevert<'_>,
        member: &GroupMember,
        head: Option<Pos>,
        on_external: OnExternal,
        conflicts: ConflictSink<'_>,
    ) -> Outcome<ContentPlan> {
        let numbers = self.numbers(member)?;
        let takes = |seq| self.takes(seq);
        let choice = TargetChoice::These(&numbers, &takes);
        plan_builder::plan(content, head, choice, on_external, conflicts)
    }

    /// Whether the request also reverts content or attributes of the object.
    pub(super) fn has_content_of(&self, object: ObjectId) -> bool {
        // The members are sorted by object; an object has two at most.
        let first = self
            .members
            .partition_point(|member| member.object < object);
        let of_object = self.members.iter().skip(first).take(2);
        of_object
            .filter(|member| member.object == object)
            .any(|member| !member.is_on_names)
    }

    /// Whether an operation of the request restores an orphan.
    #[inline(never)]
    fn is_restored(&self, object: ObjectId) -> Outcome<bool> {
        let mut lines = Lines::new(self.context.journal)?;
        for chosen in self.chosen.iter().filter(|chosen| chosen.is_on_names) {
            let line = lines.read(chosen.at)?;
            let is_it = line.node == Some(object) || line.over == Some(object);
            if is_it || matches!(line.op, Op::Revert | Op::Redo) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether the operation adds a name to its directory.
fn binds_a_name(op: Op) -> bool {
    matches!(
        op,
        Op::Create
            | Op::Mkdir
            | Op::Mknod
            | Op::Symlink
            | Op::Link
            | Op::Rename
            | Op::Exchange
            | Op::Revert
    )
}
