// SPDX-License-Identifier: GPL-2.0

//! Selects a directory's operations on names that a group reverts, and checks each change of a name
//! that follows from them. Nothing is changed.

use super::{order, ConflictSink, GroupMember, GroupRevert, Outcome, RevertContext};
use crate::{
    log::{
        line::{Line, Op},
        plan::{
            name_steps, LineEffect, NameStep, NetChange, OnExternal, TargetRangesBuilder, WalkStep,
        },
        types::{ObjectId, Pos},
    },
    revert::{
        binding::exists,
        name_operations::NameOperations,
        names::directory,
        plan_vec::PlanVec,
        rights::{CallerRights, ChainRights},
        steps::{disposition, is_on_names, Lines},
        Chain, ChainLink, Refusal,
    },
    uapi::Reason,
    vfs::dentry::Dentry,
};
use kernel::{prelude::*, rbtree::RBTree};

impl GroupRevert<'_> {
    /// Selects the operations on names, from the directory's line at `head` on. `lower` is the
    /// directory's lower dentry.
    #[inline(never)]
    pub(super) fn names(
        &self,
        member: &GroupMember,
        lower: &Dentry,
        head: Option<Pos>,
        conflicts: ConflictSink<'_>,
    ) -> Outcome<NameOperations> {
        let taken = NameOperations::none();
        let mut selection = NameSelection {
            group: self,
            lower,
            retained_names: RBTree::new(),
            targets_builder: TargetRangesBuilder::new(PlanVec::new()),
            is_newest: true,
            left: self.of(member).len(),
            first: self.first_number(),
            taken,
        };
        selection.search(member, head, conflicts)?;
        selection.taken.is_newest = selection.is_newest;
        selection.taken.targets = selection.targets_builder.finish().into();
        Ok(selection.taken)
    }

    /// Reports operations that the caller has no right to revert.
    #[inline(never)]
    pub(super) fn require_own(
        &self,
        caller: &mut CallerRights<'_>,
        rights: ChainRights,
        taken: &NameOperations,
        conflicts: ConflictSink<'_>,
    ) -> Outcome {
        let lowest = taken.targets.iter().map(|(first, _)| *first).min();
        if lowest.is_some_and(|lowest| rights.includes_all_from(lowest)) {
            return Ok(());
        }
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
        lower: &Dentry,
        line: &Line<'_>,
        effect: &LineEffect,
        conflicts: ConflictSink<'_>,
    ) -> Outcome {
        let cause = effect.why.cause;
        match name_steps(line) {
            Err(e) => conflicts(cause, e.refuse(cause)),
            Ok((first, second)) if effect.change == NetChange::Reverted => {
                self.require_victim(lower, cause, &first, conflicts)?;
                match &second {
                    Some(second) => self.require_victim(lower, cause, second, conflicts),
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
        lower: &Dentry,
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
        let other = match parent {
            Some(parent) => Some(directory(mount, parent)?),
            None => None,
        };
        match exists(sb, journal, victim, other.as_deref().unwrap_or(lower)) {
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
    /// The directory.
    lower: &'a Dentry,
    /// Names that kept operations changed, each with the newest of these operations.
    retained_names: RBTree<u64, u64>,
    targets_builder: TargetRangesBuilder<PlanVec<(u64, u64)>>,
    taken: NameOperations,
    is_newest: bool,
    /// Number of chosen operations that are still to be found.
    left: usize,
    /// Number of the group's first line.
    first: u64,
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
        let journal = group.context.journal;
        let mut search = order::ChainSearch::new(journal, member.object, head, self.first)?;
        let mut reason = Reason::NothingLeft;
        while self.left != 0 || search.is_open() {
            group.context.breathe()?;
            // Used in place: a line takes half a kilobyte of stack.
            let found = search.next(|seq| group.takes(seq));
            match &found {
                Err(e) => return Err((*e).into()),
                Ok(order::SearchResult::Line(line, at, effect)) => {
                    self.found(member, (line, *at, effect), conflicts)?;
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

    /// Notes a line of the directory.
    #[inline(never)]
    fn found(
        &mut self,
        member: &GroupMember,
        (line, at, effect): (&Line<'_>, Pos, &LineEffect),
        conflicts: ConflictSink<'_>,
    ) -> Outcome {
        let group = self.group;
        let chosen = group.of(member);
        if (chosen.binary_search_by(|one| line.seq.cmp(&one.seq))).is_ok() {
            self.take(line, at, effect, conflicts)?;
        } else if !line.op.is_bookkeeping() {
            self.targets_builder.part();
            // The group has one more line of this directory, which readers must see.
            let stands = effect.is_live_after || group.takes(line.seq) || line.seq >= self.first;
            self.is_newest &= self.left == 0 || !stands;
        }
        if is_on_names(line) {
            self.check_change(member, line, effect, conflicts)?;
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
        self.group
            .require_existing(self.lower, line, effect, conflicts)
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
