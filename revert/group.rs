// SPDX-License-Identifier: GPL-2.0

//! Reverts operations on any objects of one mount, all or none.
//!
//! 1. Planning ([`choose`]): every operation is checked with no lock held for long. A dry run, or a
//!    request with a conflict, ends here. Then the objects are flushed, still without locks.
//! 2. Exclusion ([`exclude`]): all objects of the request are locked, and the plan is made again.
//! 3. The intents are placed, the plans are applied ([`apply`]), and the closing lines are placed, in
//!    the order of [`transaction`].

mod apply;
mod choose;
mod choose_names;
mod claim;
mod durable;
mod exclude;
mod objects;
mod order;
mod orphan_conflicts;
mod recover;
mod rehearse;
mod rehearsed;

use super::{
    name_operations::oldest_of,
    names::discard,
    steps::{is_on_names, Lines},
    transaction::{self, TransactionOutcome},
    Refusal,
};
use crate::{
    history::{
        journal::{Journal, SpacePurpose},
        pins::Pin,
        sort::sort,
    },
    log::{
        line::{Mode, Op},
        types::{ObjectId, Pos},
    },
    state::Mount,
    uapi::{Operation, Reason},
    vfs::{
        error::{ENODATA, EUCLEAN},
        file::UpperFile,
        inode::UpperInode,
        lock::LockWait,
        superblock::UpperSuperBlock,
        task,
    },
};
use apply::GroupSteps;
use claim::{break_leases, WriteClaim, LEASE_ROUNDS};
use exclude::ExclusionGuard;
use kernel::{prelude::*, sync::aref::ARef};
use objects::{OpenedObject, StageHandles};
use order::OrderedSteps;
pub(super) use recover::UnfinishedGroup;
pub(crate) use rehearse::NonEmptyDirectory;

type Outcome<T = ()> = Result<T, Refusal>;

/// Receives each conflict: number of the operation, and the refusal. An error ends the search.
pub(crate) type ConflictSink<'o> = &'o mut dyn FnMut(u64, Refusal) -> Outcome;

/// A request to revert a group of operations.
pub(crate) struct GroupRequest {
    /// The operations, in descending order of their numbers.
    pub(crate) operations: KVVec<Operation>,
    /// Whether the revert is an undo, or an operation that can itself be undone.
    pub(crate) mode: Mode,
    /// Whether the operations are undos, which are redone.
    pub(crate) redo: bool,
    /// Ignore changes made outside this mount.
    pub(crate) force: bool,
    /// Report conflicts, change nothing.
    pub(crate) dry_run: bool,
    /// Do not capture the pre-image.
    pub(crate) no_redo: bool,
}

/// Result of a revert, or of a dry run.
#[derive(Default)]
pub(crate) struct GroupSummary {
    /// Number of reverted operations.
    pub(crate) reverted: u64,
    /// Number of operations skipped, since their objects are gone and never had a name (O_TMPFILE).
    pub(crate) left_out: u64,
    /// Number of changed objects.
    pub(crate) objects: u64,
    /// Bytes of content that were replaced.
    pub(crate) bytes: u64,
    /// Number of the group's first line.
    pub(crate) seq: u64,
    /// Operations that created directories which are not empty, and are therefore kept.
    pub(crate) non_empty: KVVec<NonEmptyDirectory>,
}

/// The mount, and the stage of the request.
#[derive(Clone, Copy)]
struct RevertContext<'a> {
    /// The open file of the request; `None` during recovery.
    file: Option<&'a UpperFile>,
    sb: &'a UpperSuperBlock,
    mount: &'a Mount,
    journal: &'a Journal,
    phase: RevertPhase,
    /// The handles that this stage has read; `None` during recovery, which opens each object once.
    handles: Option<&'a StageHandles>,
}

/// Stage of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RevertPhase {
    /// Planning without exclusion.
    Planning,
    /// Planning again, with all objects locked.
    Checking,
    /// Lines were written. A fatal signal no longer ends the request. Recovery starts in this
    /// stage.
    Performing,
}

impl RevertContext<'_> {
    /// Yields in a long loop (cond_resched()). Returns an error on a fatal signal while nothing is
    /// changed yet.
    fn breathe(&self) -> Result {
        match (task::resched_killable(), self.phase) {
            (Err(killed), RevertPhase::Planning | RevertPhase::Checking) => Err(killed),
            _ => Ok(()),
        }
    }
}

/// An operation to revert.
struct ChosenOperation {
    object: ObjectId,
    /// The object that the operation created.
    creates: Option<ObjectId>,
    is_on_names: bool,
    seq: u64,
    at: Pos,
}

impl ChosenOperation {
    /// Orders by member, and within a member the newest first. For one object, an undo reverts
    /// operations on names last. That undo is then the newer one, and the redo must begin with it.
    fn is_before(&self, other: &Self, redo: bool) -> bool {
        let key = |one: &Self| (one.object, one.is_on_names != redo);
        (key(self), other.seq) < (key(other), self.seq)
    }
}

/// One object's operations to revert: either those on its names, or those on content and
/// attributes.
struct GroupMember {
    object: ObjectId,
    is_on_names: bool,
    /// Range of indices into the chosen operations, end exclusive.
    range: (usize, usize),
    /// Position and number of the member's intent.
    intent: Option<(Pos, u64)>,
    /// Whether the object is gone and never had a name.
    is_left_out: bool,
    /// Bytes of pre-image to capture.
    length: u64,
    /// Whether the content is left as it is: the object's creation is reverted, too, and the
    /// journal has no space for the pre-image.
    is_untouched: bool,
}

struct GroupRevert<'a> {
    context: RevertContext<'a>,
    request: &'a GroupRequest,
    chosen: KVVec<ChosenOperation>,
    members: KVVec<GroupMember>,
    /// All objects that are changed or that lose or gain a name, with duplicates. The references
    /// keep inodes without a name in memory, which the last close would otherwise delete.
    inodes: KVVec<ARef<UpperInode>>,
    /// Whether a directory changes its parent. Then s_vfs_rename_mutex is taken, as in
    /// lock_rename().
    moves_directories: bool,
    /// One timeout for all waits for locked objects.
    patience: LockWait,
    /// Write access (get_write_access()) to the objects' content.
    claims: KVVec<WriteClaim>,
    /// Objects with leases to break.
    leased: KVVec<ARef<UpperInode>>,
    /// Chosen operations that are kept after all, the newest first.
    non_empty: KVVec<NonEmptyDirectory>,
}

/// Result of one attempt.
enum AttemptOutcome {
    Done(GroupSummary),
    /// Leases on these objects are the only conflict.
    Leased(KVVec<ARef<UpperInode>>),
}

/// Reverts operations, or only looks for conflicts, which go to `conflicts`; then nothing is
/// changed. Leases are broken with no lock held, as break_lease() in do_dentry_open() does, since
/// the holder may need one of these locks to release the lease.
pub(crate) fn revert(
    file: &UpperFile,
    request: &GroupRequest,
    conflicts: ConflictSink<'_>,
) -> Outcome<GroupSummary> {
    // Programs may take new leases after each break.
    for round in 0..=LEASE_ROUNDS {
        let is_last = round == LEASE_ROUNDS;
        match attempt(file, request, is_last, &mut *conflicts)? {
            AttemptOutcome::Done(done) => return Ok(done),
            AttemptOutcome::Leased(inodes) => break_leases(&inodes)?,
        }
    }
    Err(Refusal::new(Reason::Leased, 0))
}

/// As [`revert`], one attempt. `is_last`: leases are conflicts.
fn attempt(
    file: &UpperFile,
    request: &GroupRequest,
    is_last: bool,
    conflicts: ConflictSink<'_>,
) -> Outcome<AttemptOutcome> {
    let sb = file.upper_inode().superblock();
    let mount = sb.mount();
    let journal = mount.journal().ok_or(Refusal::new(Reason::HistoryOff, 0))?;
    // Waits for a frozen filesystem, and fails with EROFS on a read-only mount.
    drop(file.want_write()?);
    let handles = StageHandles::new();
    let planning = RevertContext {
        file: Some(file),
        sb,
        mount,
        journal,
        phase: RevertPhase::Planning,
        handles: Some(&handles),
    };
    // First planning: nothing stays locked while plans are made and data is flushed.
    let (mut inodes, mut renames) = match PlannedGroup::of(planning, request, is_last, conflicts)? {
        PlanningOutcome::Leased(inodes) => return Ok(AttemptOutcome::Leased(inodes)),
        PlanningOutcome::Fits(planned) if request.dry_run || planned.group.members.is_empty() => {
            return Ok(AttemptOutcome::Done(planned.done));
        }
        PlanningOutcome::Fits(planned) => {
            planned.group.sync_before()?;
            // Frees this plan before the next one is allocated.
            planned.group.into_inodes()
        }
    };
    for _ in 0..ROUNDS {
        let excluded = ExclusionGuard::take(file, inodes, renames)?;
        let handles = StageHandles::new();
        let checking = RevertContext {
            phase: RevertPhase::Checking,
            handles: Some(&handles),
            ..planning
        };
        let planned = match PlannedGroup::of(checking, request, is_last, conflicts)? {
            PlanningOutcome::Leased(inodes) => return Ok(AttemptOutcome::Leased(inodes)),
            PlanningOutcome::Fits(planned) => planned,
        };
        if excluded.covers(&planned.group) {
            return planned.perform().map(AttemptOutcome::Done);
        }
        // A concurrent rename brought in an object that is not locked: locks the new set.
        (inodes, renames) = planned.group.into_inodes();
    }
    Err(Refusal::new(Reason::Conflict, 0))
}

/// Attempts to lock a stable set of objects.
const ROUNDS: usize = 4;

/// A request without conflicts.
struct PlannedGroup<'a> {
    group: GroupRevert<'a>,
    done: GroupSummary,
    /// Keeps the segments that the plan reads.
    pin: Pin<'a>,
}

/// Result of planning without conflicts.
enum PlanningOutcome<'a> {
    Fits(PlannedGroup<'a>),
    /// Leases on these objects must be broken first.
    Leased(KVVec<ARef<UpperInode>>),
}

impl<'a> PlannedGroup<'a> {
    /// Performs the plan. The objects are locked.
    fn perform(self) -> Outcome<GroupSummary> {
        let Self {
            mut group,
            mut done,
            pin,
        } = self;
        if !group.members.is_empty() {
            done.seq = group.perform(&pin)?;
        }
        Ok(done)
    }

    /// Checks rights, lines, names and space, and builds the plan. Nothing is changed.
    #[inline(never)]
    fn of(
        context: RevertContext<'a>,
        request: &'a GroupRequest,
        is_last: bool,
        conflicts: ConflictSink<'_>,
    ) -> Outcome<PlanningOutcome<'a>> {
        let journal = context.journal;
        let pin = journal.pin()?;
        let mut found = None;
        // Remembers the first conflict, since the caller's sink may return Ok for all of them.
        let mut conflicts = |seq, refusal: Refusal| {
            found.get_or_insert(Refusal { ..refusal });
            conflicts(seq, refusal)
        };
        let mut group = GroupRevert::locate(context, request, &mut conflicts)?;
        let (done, needs, steps) = group.plan_all(is_last, &mut conflicts)?;
        if let Some(refusal) = found {
            return Err(refusal);
        }
        if !group.leased.is_empty() {
            return Ok(PlanningOutcome::Leased(core::mem::take(&mut group.leased)));
        }
        // Planning is complete: from now on only segments that the plan reads are pinned.
        group.narrow(&pin, &needs, &steps)?;
        if !request.no_redo {
            let length = match journal.admit_copies(needs.length) {
                Ok(()) => needs.length,
                Err(_) => group.skip_captures()?,
            };
            // Space for all copies and orphans, before the first change.
            journal.admit(length, SpacePurpose::Revert)?;
            journal.admit_orphan(
                group.orphan_bytes_of(&steps.undo_steps)?,
                SpacePurpose::Revert,
            )?;
        }
        Ok(PlanningOutcome::Fits(Self { group, done, pin }))
    }
}

impl<'a> GroupRevert<'a> {
    /// Reads the operations' lines and finds their objects.
    #[inline(never)]
    fn locate(
        context: RevertContext<'a>,
        request: &'a GroupRequest,
        conflicts: ConflictSink<'_>,
    ) -> Outcome<Self> {
        let mut group = Self {
            context,
            request,
            chosen: KVVec::with_capacity(request.operations.len(), GFP_KERNEL_ACCOUNT)?,
            members: KVVec::new(),
            inodes: KVVec::new(),
            moves_directories: false,
            patience: LockWait::new(),
            claims: KVVec::new(),
            leased: KVVec::new(),
            non_empty: KVVec::new(),
        };
        let mut lines = Lines::new(context.journal)?;
        let mut newer = u64::MAX;
        for operation in &request.operations {
            context.breathe()?;
            // The request comes from user space: numbers must descend, without duplicates.
            if operation.seq >= newer {
                return Err(EINVAL.into());
            }
            newer = operation.seq;
            match group.identify(&mut lines, operation) {
                Ok(chosen) => group.chosen.push(chosen, GFP_KERNEL_ACCOUNT)?,
                Err(refusal) => conflicts(operation.seq, refusal)?,
            }
        }
        sort(&mut group.chosen, |a, b| a.is_before(b, request.redo));
        group.gather_members()?;
        Ok(group)
    }

    /// Groups the chosen operations by object.
    fn gather_members(&mut self) -> Outcome {
        self.members.clear();
        for (index, chosen) in self.chosen.iter().enumerate() {
            let end = index.saturating_add(1);
            match self.members.last_mut() {
                Some(member)
                    if (member.object, member.is_on_names)
                        == (chosen.object, chosen.is_on_names) =>
                {
                    // The operations are sorted by object, so a member is one range of them.
                    member.range.1 = end;
                }
                _ => self.members.push(
                    GroupMember {
                        object: chosen.object,
                        is_on_names: chosen.is_on_names,
                        range: (index, end),
                        intent: None,
                        is_left_out: false,
                        length: 0,
                        is_untouched: false,
                    },
                    GFP_KERNEL,
                )?,
            }
        }
        Ok(())
    }

    /// The object of an operation.
    #[inline(never)]
    fn identify(&self, lines: &mut Lines<'_>, operation: &Operation) -> Outcome<ChosenOperation> {
        let at = Pos {
            segment: operation.segment,
            offset: operation.offset,
        };
        let line = match lines.read(at) {
            Err(e) if e == ENODATA => return Err(Refusal::new(Reason::Trimmed, 0)),
            line => line?,
        };
        let is_undo = line.op == Op::Revert && line.mode == Some(Mode::Walk);
        if line.seq != operation.seq || (self.request.redo && !is_undo) {
            return Err(EINVAL.into());
        }
        if is_undo && !self.request.redo && self.request.mode == Mode::Walk {
            // An undo skips operations that are already undone. Only a redo reverts an undo.
            return Err(Refusal::new(Reason::NothingLeft, 0));
        }
        Ok(ChosenOperation {
            object: line.obj.ok_or(EUCLEAN)?,
            creates: line
                .node
                .filter(|_| matches!(line.op, Op::Create | Op::Mknod)),
            is_on_names: is_on_names(&line),
            seq: line.seq,
            at,
        })
    }

    /// The chosen operations of a member, the newest first.
    fn of(&self, member: &GroupMember) -> &[ChosenOperation] {
        let (from, to) = member.range;
        self.chosen.get(from..to).unwrap_or_default()
    }

    /// Numbers of a member's operations.
    fn numbers(&self, member: &GroupMember) -> Result<KVVec<u64>> {
        let mut numbers = KVVec::with_capacity(self.of(member).len(), GFP_KERNEL_ACCOUNT)?;
        for chosen in self.of(member) {
            numbers.push(chosen.seq, GFP_KERNEL_ACCOUNT)?;
        }
        Ok(numbers)
    }

    /// Whether the operation is reverted.
    fn takes(&self, seq: u64) -> bool {
        let operations = &self.request.operations;
        operations.binary_search_by(|o| seq.cmp(&o.seq)).is_ok() && !self.stays(seq)
    }

    /// Whether the operation was chosen and is kept after all.
    fn stays(&self, seq: u64) -> bool {
        let found = self.non_empty.binary_search_by(|one| seq.cmp(&one.seq));
        found.is_ok()
    }

    /// Object of the member with this index.
    fn member_object(&self, index: usize) -> Outcome<ObjectId> {
        Ok(self.members.get(index).ok_or(EUCLEAN)?.object)
    }

    /// Number of the group's first line; the maximum before that line is written.
    fn first_number(&self) -> u64 {
        let mut intents = self.members.iter().filter_map(|member| member.intent);
        intents.next().map_or(u64::MAX, |(_, seq)| seq)
    }

    /// The objects to lock, and whether to lock out renames of directories.
    fn into_inodes(self) -> (KVVec<ARef<UpperInode>>, bool) {
        (self.inodes, self.moves_directories)
    }

    /// For a journal without space for all copies: an object whose creation is reverted becomes an
    /// orphan with its content, and no copy is made. Returns the bytes that the other objects need.
    #[inline(never)]
    fn skip_captures(&mut self) -> Outcome<u64> {
        let mut rest = 0u64;
        let mut created = KVVec::new();
        for object in self.chosen.iter().filter_map(|chosen| chosen.creates) {
            created.push(object, GFP_KERNEL_ACCOUNT)?;
        }
        sort(&mut created, |a, b| a < b);
        for index in 0..self.members.len() {
            let member = self.members.get(index).ok_or(EIO)?;
            if member.is_on_names || member.length == 0 {
                continue;
            }
            let is_created = !self.request.redo && created.binary_search(&member.object).is_ok();
            // Another hard link would show the content.
            let is_untouched = is_created && {
                let opened = self.context.open(member.object)?;
                opened.inode.is_regular() && opened.inode.lower().links() <= 1
            };
            if !is_untouched {
                rest = rest.saturating_add(member.length);
            }
            self.members.get_mut(index).ok_or(EIO)?.is_untouched = is_untouched;
        }
        Ok(rest)
    }

    /// Lets retention drop segments older than the oldest one that is read.
    fn narrow(&self, pin: &Pin<'_>, needs: &choose::PlanNeeds, steps: &OrderedSteps) -> Outcome {
        let chosen = self.chosen.iter().map(|chosen| chosen.at.segment);
        let oldest = chosen.fold(needs.oldest, u64::min);
        let (names, kept) = oldest_of(self.context.journal, &steps.undo_steps);
        let floor = match self.request.no_redo {
            // With `no_redo`, recovery reads the lines of the reverted operations again.
            true => 0,
            false => oldest.min(names).min(steps.oldest),
        };
        pin.narrow(floor, kept);
        Ok(())
    }

    /// Writes all intents, applies the plans, and writes the closing lines. Returns the number of
    /// the first line.
    #[inline(never)]
    fn perform(&mut self, pin: &Pin<'_>) -> Outcome<u64> {
        self.context.phase = RevertPhase::Performing;
        let (mount, journal) = (self.context.mount, self.context.journal);
        let no_redo = self.request.no_redo;
        let mut steps = GroupSteps::new(self);
        let outcome = transaction::run(mount, journal, &mut steps);
        let names = steps.into_names();
        if no_redo && outcome.is_incomplete() {
            // Recovery can only finish this revert, from the segments that the plan reads.
            pin.stay();
        }
        self.refresh();
        if let (TransactionOutcome::Applied, Some(names), true) = (&outcome, &names, no_redo) {
            // After the commit: a rollback would have needed the orphans.
            discard(mount, journal, &names.undo_steps);
        }
        outcome.into_result()?;
        Ok(self.first_number())
    }

    /// Copies the lower inodes' attributes to ours.
    fn refresh(&self) {
        for member in &self.members {
            if let Ok(opened) = self.context.open(member.object) {
                opened.inode.copy_attr();
            }
        }
    }
}
