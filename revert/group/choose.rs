// SPDX-License-Identifier: GPL-2.0

//! Checks whether the operations of a group can be reverted: each is live, has no conflict with a
//! kept operation, and the caller has the right. Nothing is changed.

use super::{
    claim::WriteClaim,
    order,
    orphan_conflicts::NamedObjects,
    rehearse::{NonEmptyDirectory, RehearsalResult},
    ConflictSink, ContentRevert, GroupMember, GroupRevert, GroupSummary, OpenedObject, Outcome,
    RevertContext, RevertPhase,
};
use crate::{
    history::sort::sort,
    log::{
        line::{Line, Op},
        plan::{
            name_steps, LineEffect, NameStep, NetChange, OnExternal, TargetRangesBuilder, WalkStep,
        },
        types::{ObjectId, Pos},
    },
    record,
    revert::{
        binding::exists,
        name_operations::NameOperations,
        names::directory,
        plan_builder::{self, ContentPlan, PlanVec, TargetChoice},
        rights::{CallerRights, ChainRights},
        steps::{disposition, is_on_names, Lines},
        Chain, ChainLink, Refusal,
    },
    uapi::Reason,
    vfs::{inode::UpperInode, lock::InodeGuard},
};
use core::cell::Cell;
use kernel::{prelude::*, rbtree::RBTree, sync::aref::ARef};

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
    ) -> Outcome<(GroupSummary, PlanNeeds)> {
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
            return Ok((done, needs));
        }
        let findings = self.rehearse(&mut conflicts)?;
        if is_refused.get() || findings.non_empty.is_empty() {
            self.note_rehearsal(findings)?;
            return Ok((done, needs));
        }
        let non_empty = findings.non_empty;
        self.retain_non_empty(&non_empty)?;
        (done, needs) = self.choose(is_last, &mut conflicts)?;
        if is_refused.get() || !self.leased.is_empty() {
            return Ok((done, needs));
        }
        if self.members.is_empty() {
            // The request has no other operation.
            for one in &non_empty {
                conflicts(one.seq, Refusal::new(Reason::NotEmpty, one.blocker))?;
            }
            return Ok((done, needs));
        }
        let findings = self.rehearse(&mut conflicts)?;
        for one in &findings.non_empty {
            // The first rehearsal found all of them.
            conflicts(one.seq, Refusal::new(Reason::NotEmpty, one.blocker))?;
        }
        self.note_rehearsal(findings)?;
        done.non_empty = non_empty;
        Ok((done, needs))
    }

    /// Records the objects that the steps on names affect.
    fn note_rehearsal(&mut self, findings: RehearsalResult) -> Outcome {
        for inode in findings.inodes {
            self.inodes.push(inode, GFP_KERNEL_ACCOUNT)?;
        }
        self.moves_directories = findings.moves_directories;
        Ok(())
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
            match self.choose_of(member, &named, conflicts) {
                // Never had a name: nothing of this object can be missed.
                Ok(MemberOutcome::LeftOut) => {
                    done.left_out = done.left_out.saturating_add(count);
                    if let Some(member) = self.members.get_mut(index) {
                        member.is_left_out = true;
                    }
                    continue;
                }
                Ok(MemberOutcome::Fits {
                    needs,
                    claim,
                    inode,
                }) => {
                    all.add(&needs);
                    if let Some(member) = self.members.get_mut(index) {
                        member.length = needs.length;
                    }
                    if let Some(claim) = claim {
                        self.claims.push(claim, GFP_KERNEL_ACCOUNT)?;
                    }
                    self.inodes.push(inode, GFP_KERNEL_ACCOUNT)?;
                }
                Ok(MemberOutcome::Leased(inode)) if !is_last => {
                    self.leased.push(inode, GFP_KERNEL_ACCOUNT)?
                }
                Ok(MemberOutcome::Leased(_)) => {
                    let first = self.of(member).first().map_or(0, |chosen| chosen.seq);
                    conflicts(first, Refusal::new(Reason::Leased, 0))?;
                }
                Err(refusal) => {
                    let first = self.of(member).first().map_or(0, |chosen| chosen.seq);
                    conflicts(first, refusal)?;
                }
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
            let taken = self.names(member, head, conflicts)?;
            self.require_own(&mut caller, rights, &taken, conflicts)?;
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
            may.map_err(|_| Refusal::new(Reason::NotWritable, 0))?;
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
        let is_its = |member: &GroupMember| member.object == object && !member.is_on_names;
        self.members.iter().any(is_its)
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

    /// Selects the operations on names, from the directory's line at `head` on.
    #[inline(never)]
    pub(super) fn names(
        &self,
        member: &GroupMember,
        head: Option<Pos>,
        conflicts: ConflictSink<'_>,
    ) -> Outcome<NameOperations> {
        let taken = NameOperations::none();
        let mut selection = NameSelection {
            group: self,
            retained_names: RBTree::new(),
            targets_builder: TargetRangesBuilder::new(PlanVec::new()),
            is_newest: true,
            left: self.of(member).len(),
            taken,
        };
        selection.search(member, head, conflicts)?;
        selection.taken.is_newest = selection.is_newest;
        selection.taken.targets = selection.targets_builder.finish().into();
        Ok(selection.taken)
    }

    /// Reports operations that the caller has no right to revert.
    #[inline(never)]
    fn require_own(
        &self,
        caller: &mut CallerRights<'_>,
        rights: ChainRights,
        taken: &NameOperations,
        conflicts: ConflictSink<'_>,
    ) -> Outcome {
        let mut lines = Lines::new(self.context.journal)?;
        for at in &taken.places {
            let line = lines.read(*at)?;
            if !caller.may_take_back(rights, &line)? {
                conflicts(line.seq, Refusal::new(Reason::NotOwner, 0))?;
            }
        }
        Ok(())
    }

    /// Reports objects that an inverse would restore and that do not exist.
    #[inline(never)]
    fn require_existing(
        &self,
        member: &GroupMember,
        line: &Line<'_>,
        effect: &LineEffect,
        conflicts: ConflictSink<'_>,
    ) -> Outcome {
        let cause = effect.why.cause;
        match name_steps(line) {
            Err(e) => conflicts(cause, e.refuse(cause)),
            Ok((first, second)) if effect.change == NetChange::Reverted => {
                self.require_victim(member, cause, &first, conflicts)?;
                match &second {
                    Some(second) => self.require_victim(member, cause, second, conflicts),
                    None => Ok(()),
                }
            }
            Ok(_) => Ok(()),
        }
    }

    /// As [`Self::require_existing`], for one step.
    #[inline(never)]
    fn require_victim(
        &self,
        member: &GroupMember,
        cause: u64,
        step: &NameStep<'_>,
        conflicts: ConflictSink<'_>,
    ) -> Outcome {
        let NameStep::Restore { victim, parent, .. } = step else {
            return Ok(());
        };
        let RevertContext {
            sb, mount, journal, ..
        } = self.context;
        let beside = match parent {
            Some(parent) => directory(mount, parent)?,
            None => self.context.open(member.object)?.lower,
        };
        match exists(sb, journal, victim, &beside) {
            Err(refusal) => conflicts(cause, refusal),
            Ok(()) => Ok(()),
        }
    }

    /// Number of a kept operation on the object that is newer than its creation.
    #[inline(never)]
    fn later_one(&self, object: ObjectId, than: u64) -> Outcome<Option<u64>> {
        let journal = self.context.journal;
        let head = journal.last_line(object)?;
        let mut chain = Chain::new(journal, object, head, OnExternal::Pass)?;
        loop {
            self.context.breathe()?;
            // Used in place: a line takes half a kilobyte of stack.
            let link = chain.step_with(|seq| disposition(self.takes(seq)));
            match &link {
                Err(e) => return Err((*e).into()),
                Ok(ChainLink::Line(line, ..)) if line.seq < than => return Ok(None),
                // A kept revert cancels out with the operations it reverted.
                Ok(ChainLink::Line(line, _, _, WalkStep::Live)) if line.targets.is_some() => {}
                Ok(ChainLink::Line(line, _, _, WalkStep::Live)) if !self.takes(line.seq) => {
                    return Ok(Some(line.seq))
                }
                Ok(ChainLink::Line(..)) => {}
                Ok(ChainLink::End | ChainLink::Trimmed) => return Ok(None),
            }
        }
    }
}

/// A selection of a directory's operations on names.
struct NameSelection<'a> {
    group: &'a GroupRevert<'a>,
    /// Names that kept operations changed, each with the newest of these operations.
    retained_names: RBTree<u64, u64>,
    targets_builder: TargetRangesBuilder<PlanVec<(u64, u64)>>,
    taken: NameOperations,
    is_newest: bool,
    /// Number of chosen operations that are still to be found.
    left: usize,
}

impl NameSelection<'_> {
    /// Reads lines until all chosen operations are found, and all changes of names that follow from
    /// them.
    #[inline(never)]
    fn search(
        &mut self,
        member: &GroupMember,
        head: Option<Pos>,
        conflicts: ConflictSink<'_>,
    ) -> Outcome {
        let group = self.group;
        let chosen = group.of(member);
        let (journal, first) = (group.context.journal, group.first_number());
        let mut search = order::ChainSearch::new(journal, member.object, head, first)?;
        let mut reason = Reason::NothingLeft;
        while self.left != 0 || search.is_open() {
            group.context.breathe()?;
            // Used in place: a line takes half a kilobyte of stack.
            let found = search.next(|seq| group.takes(seq));
            match &found {
                Err(e) => return Err((*e).into()),
                Ok(order::SearchResult::Line(line, at, effect)) => {
                    let is_own = chosen
                        .binary_search_by(|one| line.seq.cmp(&one.seq))
                        .is_ok();
                    if is_own {
                        self.take(line, *at, effect, conflicts)?;
                    } else if !line.op.is_bookkeeping() {
                        self.targets_builder.part();
                        // The group has one more line of this directory, which readers must see.
                        let is_live =
                            effect.is_live_after || group.takes(line.seq) || line.seq >= first;
                        self.is_newest &= self.left == 0 || !is_live;
                    }
                    if is_on_names(line) {
                        self.check_change(member, line, effect, conflicts)?;
                    }
                }
                Ok(order::SearchResult::Trimmed) => {
                    reason = Reason::Trimmed;
                    if self.left == 0 {
                        // A restored name depends on operations whose lines were dropped.
                        let newest = chosen.first().map_or(0, |one| one.seq);
                        conflicts(newest, Refusal::new(reason, 0))?;
                    }
                    break;
                }
                Ok(order::SearchResult::End) => break,
            }
        }
        let found = chosen.len().saturating_sub(self.left);
        for one in chosen.get(found..).unwrap_or_default() {
            conflicts(one.seq, Refusal::new(reason, 0))?;
        }
        Ok(())
    }

    /// Selects a chosen operation.
    #[inline(never)]
    fn take(
        &mut self,
        line: &Line<'_>,
        at: Pos,
        effect: &LineEffect,
        conflicts: ConflictSink<'_>,
    ) -> Outcome {
        let seq = line.seq;
        self.left = self.left.saturating_sub(1);
        if !effect.is_due {
            // Reverted already.
            self.targets_builder.part();
            return conflicts(seq, Refusal::new(Reason::NothingLeft, 0));
        }
        self.targets_builder.pick(seq).map_err(|e| e.refuse(seq))?;
        self.taken.places.push(at, GFP_KERNEL_ACCOUNT)?;
        if self.taken.newest == 0 {
            self.taken.newest = seq;
        }
        self.taken.back = line.prev;
        self.taken.is_deep |= line.op == Op::Revert;
        Ok(())
    }

    /// Reports conflicts of a change of names.
    #[inline(never)]
    fn check_change(
        &mut self,
        member: &GroupMember,
        line: &Line<'_>,
        effect: &LineEffect,
        conflicts: ConflictSink<'_>,
    ) -> Outcome {
        let cause = effect.why.cause;
        match effect.change {
            NetChange::Nothing => return Ok(()),
            NetChange::StaysLive => return self.stays(member, line),
            NetChange::Reverted | NetChange::Restored => {}
        }
        let mut blocker = None;
        let retained_names = &self.retained_names;
        names_of(member.object, line, &mut |key| {
            blocker = blocker.max(retained_names.get(&key).copied());
            Ok(())
        })?;
        // Reverting a creation would also remove later changes of the object.
        let made = matches!(line.op, Op::Create | Op::Mknod | Op::Symlink);
        if let (None, NetChange::Reverted, true, Some(node)) =
            (blocker, effect.change, made, line.node)
        {
            blocker = self.group.later_one(node, line.seq)?;
        }
        if effect.why.is_lost {
            // That revert deleted its victims (`no_redo`).
            conflicts(cause, Refusal::new(Reason::Lost, cause))?;
        }
        if let Some(newer) = blocker {
            conflicts(cause, Refusal::new(Reason::Conflict, newer))?;
            return self.stays(member, line);
        }
        self.group.require_existing(member, line, effect, conflicts)
    }

    /// Notes the names of a kept operation.
    #[inline(never)]
    fn stays(&mut self, member: &GroupMember, line: &Line<'_>) -> Outcome {
        let mut keys = KVVec::new();
        names_of(member.object, line, &mut |key| {
            Ok(keys.push(key, GFP_KERNEL_ACCOUNT)?)
        })?;
        for key in keys {
            if self.retained_names.get(&key).is_none() {
                self.retained_names
                    .try_create_and_insert(key, line.seq, GFP_KERNEL_ACCOUNT)?;
            }
        }
        Ok(())
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

/// Calls `f` with the key of each name that the line changes.
fn names_of(dir: ObjectId, line: &Line<'_>, f: &mut dyn FnMut(u64) -> Result) -> Result {
    if let Some(name) = line.name {
        f(key(dir, name))?;
    }
    if let Some(to) = line.to {
        f(key(line.parent.unwrap_or(dir), to))?;
    }
    Ok(())
}

/// Hash of a name in a directory (FNV-1a). A collision can only add a conflict.
fn key(dir: ObjectId, name: &[u8]) -> u64 {
    let place = [dir.volume, dir.inode, u64::from(dir.generation)];
    let place = place.iter().flat_map(|number| number.to_le_bytes());
    let bytes = Iterator::chain(place, name.iter().copied());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
