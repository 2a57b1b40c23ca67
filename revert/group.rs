// SPDX-License-Identifier: GPL-2.0

//! Taking back operations on any objects of a mount: all of them, or none.
//!
//! First everything is looked at ([`choose`]) with nothing excluded, and the request ends there if one
//! operation cannot be taken back, or if it is a dry run. Then all objects that have to do with it are
//! locked ([`exclude`]), so that no operation comes in between, and everything is looked at again. Each
//! object gets a line, its intent, with what is about to be replaced; only when all of them are durable,
//! they are applied ([`apply`]). One line decides for all of them how it ended: it is durable before any
//! other object's own line says the same. What fails on the way is rolled back; a crash before that line
//! lets the next mount roll it back ([`recover`]).

mod apply;
mod choose;
mod claim;
mod durable;
mod exclude;
mod intents;
mod order;
mod orphan_conflicts;
mod recover;
mod rehearse;

use super::{
    binding::{find_recorded, ObjectLookup},
    content::{ContentRevert, RevertLine},
    may_revert,
    name_operations::oldest_of,
    names::discard,
    rights::CallerRights,
    steps::{is_on_names, Lines},
    Refusal,
};
use crate::{
    history::{
        journal::{Journal, Room},
        line::{Mode, ObjectId, Op, Pos},
        pins::Pin,
        sort::sort, //
    },
    stack::{Mount, ObjectState},
    uapi::{Operation, Reason},
    vfs::{
        c,
        dentry::Dentry,
        error::{ENODATA, EUCLEAN},
        file::{File, OwnFile},
        inode::OwnInode,
        lock::Patience,
        superblock::SuperBlock,
        task,
    },
};
use claim::{break_leases, WriteClaim, LEASE_ROUNDS};
use exclude::ExclusionGuard;
use kernel::{prelude::*, sync::aref::ARef};
use order::OrderedSteps;
pub(super) use recover::recover;
pub(crate) use rehearse::NonEmptyDirectory;

type Outcome<T = ()> = Result<T, Refusal>;

/// Told why an operation cannot be taken back.
pub(crate) type ConflictSink<'o> = &'o mut dyn FnMut(u64, Refusal) -> Outcome;

/// What is asked for.
pub(crate) struct GroupRequest {
    /// The operations, the newest first.
    pub(crate) operations: KVVec<Operation>,
    /// Whether it is an undo, or an operation like any other.
    pub(crate) mode: Mode,
    /// Whether the operations are undos, which are taken back.
    pub(crate) redo: bool,
    /// Go on although objects were changed outside.
    pub(crate) force: bool,
    /// Only look.
    pub(crate) dry_run: bool,
    /// Save nothing of what is replaced.
    pub(crate) no_redo: bool,
}

/// What was done, or would be.
#[derive(Default)]
pub(crate) struct GroupSummary {
    /// How many operations were taken back.
    pub(crate) reverted: u64,
    /// How many were left out: the objects that they are about are gone and never had a name.
    pub(crate) left_out: u64,
    /// On how many objects.
    pub(crate) objects: u64,
    /// How many bytes of content that replaced.
    pub(crate) bytes: u64,
    /// The number of the first line.
    pub(crate) seq: u64,
    /// Operations that made directories which are not empty: they were left standing.
    pub(crate) non_empty: KVVec<NonEmptyDirectory>,
}

/// Where it happens.
#[derive(Clone, Copy)]
struct RevertContext<'a> {
    /// What the request came through; `None`: a mount that recovers.
    file: Option<&'a OwnFile>,
    sb: &'a SuperBlock,
    mount: &'a Mount,
    journal: &'a Journal,
    phase: RevertPhase,
}

/// How far a request has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RevertPhase {
    /// It is looked at; nothing is excluded.
    Planning,
    /// It is looked at again; its objects are locked.
    Checking,
    /// Lines were placed: a killed caller goes on to the end. Recovery begins here.
    Performing,
}

impl RevertContext<'_> {
    /// In a loop that may take long: lets others run, and ends a request that has changed nothing yet
    /// when its caller is killed.
    fn breathe(&self) -> Result {
        match (task::breathe(), self.phase) {
            (Err(killed), RevertPhase::Planning | RevertPhase::Checking) => Err(killed),
            _ => Ok(()),
        }
    }
}

/// An operation that is taken back.
struct ChosenOperation {
    object: ObjectId,
    /// The object that it made.
    creates: Option<ObjectId>,
    is_on_names: bool,
    seq: u64,
    at: Pos,
}

impl ChosenOperation {
    /// The order of members; within one, the newest first. Of one object, operations on names are taken
    /// back last: an undo of those is the newer one, and has to be redone first.
    fn is_before(&self, other: &Self, redo: bool) -> bool {
        let key = |one: &Self| (one.object, one.is_on_names != redo);
        (key(self), other.seq) < (key(other), self.seq)
    }
}

/// What is taken back of one object: operations on its names, or those on content and attributes.
struct GroupMember {
    object: ObjectId,
    is_on_names: bool,
    /// Which of the chosen operations: the first, and behind the last.
    range: (usize, usize),
    /// Where its intent stands, and that line's number.
    intent: Option<(Pos, u64)>,
    /// Whether it is gone, and has never had a name.
    is_left_out: bool,
    /// How many bytes it takes to save what is replaced.
    length: u64,
    /// Whether its content stays as it is: its creation is taken back, too, and there is no room to save
    /// what else would be replaced.
    is_untouched: bool,
}

struct GroupRevert<'a> {
    context: RevertContext<'a>,
    request: &'a GroupRequest,
    chosen: KVVec<ChosenOperation>,
    members: KVVec<GroupMember>,
    /// All that is changed, or has to do with names that are; they stay in memory, also those without a
    /// name, which would be gone with the last close. Some are there more than once.
    inodes: KVVec<ARef<OwnInode>>,
    /// Whether a directory gets another parent.
    moves_directories: bool,
    /// For objects that others have locked: one wait for all of them.
    patience: Patience,
    /// The right to change the objects' content.
    claims: KVVec<WriteClaim>,
    /// Objects with leases on them.
    leased: KVVec<ARef<OwnInode>>,
    /// Operations that are left standing after all, the newest first.
    non_empty: KVVec<NonEmptyDirectory>,
}

/// How an attempt went.
enum AttemptOutcome {
    Done(GroupSummary),
    /// Nothing is in the way but leases on these objects.
    Leased(KVVec<ARef<OwnInode>>),
}

/// Takes operations back, or looks whether that could be done. `conflicts` is told what is in the way;
/// then nothing was changed. Leases are broken and waited for first, as open(2) does: with nothing held.
pub(crate) fn revert(
    file: &OwnFile,
    request: &GroupRequest,
    conflicts: ConflictSink<'_>,
) -> Outcome<GroupSummary> {
    for round in 0..=LEASE_ROUNDS {
        let is_last = round == LEASE_ROUNDS;
        match attempt(file, request, is_last, &mut *conflicts)? {
            AttemptOutcome::Done(done) => return Ok(done),
            AttemptOutcome::Leased(inodes) => break_leases(&inodes)?,
        }
    }
    Err(Refusal::new(Reason::Leased, 0))
}

/// As [`revert`], once. `is_last`: leases are objections.
fn attempt(
    file: &OwnFile,
    request: &GroupRequest,
    is_last: bool,
    conflicts: ConflictSink<'_>,
) -> Outcome<AttemptOutcome> {
    let sb = file.own_inode().superblock();
    let mount = sb.mount();
    let journal = mount.journal().ok_or(Refusal::new(Reason::HistoryOff, 0))?;
    // Waits for somebody else's freeze, and refuses a read-only mount.
    drop(file.want_write()?);
    let planning = RevertContext {
        file: Some(file),
        sb,
        mount,
        journal,
        phase: RevertPhase::Planning,
    };
    let (mut inodes, mut renames) = match PlannedGroup::of(planning, request, is_last, conflicts)? {
        PlanningOutcome::Leased(inodes) => return Ok(AttemptOutcome::Leased(inodes)),
        PlanningOutcome::Fits(planned) if request.dry_run || planned.group.members.is_empty() => {
            return Ok(AttemptOutcome::Done(planned.done));
        }
        PlanningOutcome::Fits(planned) => {
            planned.group.sync_before()?;
            // The memory of this look goes before the next one takes its own.
            planned.group.into_inodes()
        }
    };
    let checking = RevertContext {
        phase: RevertPhase::Checking,
        ..planning
    };
    for _ in 0..ROUNDS {
        let excluded = ExclusionGuard::take(file, inodes, renames)?;
        let planned = match PlannedGroup::of(checking, request, is_last, conflicts)? {
            PlanningOutcome::Leased(inodes) => return Ok(AttemptOutcome::Leased(inodes)),
            PlanningOutcome::Fits(planned) => planned,
        };
        if excluded.covers(&planned.group) {
            return planned.perform().map(AttemptOutcome::Done);
        }
        // Names have changed in between.
        (inodes, renames) = planned.group.into_inodes();
    }
    Err(Refusal::new(Reason::Conflict, 0))
}

/// How often a request locks its objects, where names go on changing in between.
const ROUNDS: usize = 4;

/// A request that can be fulfilled as far as is known.
struct PlannedGroup<'a> {
    group: GroupRevert<'a>,
    done: GroupSummary,
    /// What it reads stays.
    pin: Pin<'a>,
}

/// What came of a look at a request that meets no objections.
enum PlanningOutcome<'a> {
    Fits(PlannedGroup<'a>),
    /// Leases on these objects have to be broken first.
    Leased(KVVec<ARef<OwnInode>>),
}

impl<'a> PlannedGroup<'a> {
    /// Does it; the objects are locked.
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

    /// Looks at everything: rights, lines, names, room. Nothing is changed.
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
        let mut conflicts = |seq, refusal: Refusal| {
            found.get_or_insert(Refusal { ..refusal });
            conflicts(seq, refusal)
        };
        let mut group = GroupRevert::locate(context, request, &mut conflicts)?;
        let (done, needs) = group.plan_all(is_last, &mut conflicts)?;
        if let Some(refusal) = found {
            return Err(refusal);
        }
        if !group.leased.is_empty() {
            return Ok(PlanningOutcome::Leased(core::mem::take(&mut group.leased)));
        }
        let steps = group.steps()?;
        group.narrow(&pin, &needs, &steps)?;
        if !request.no_redo {
            let length = match journal.admit_copies(needs.length) {
                Ok(()) => needs.length,
                Err(_) => group.skip_captures()?,
            };
            journal.admit(length, Room::Revert)?;
            journal.admit_kept(group.bytes_to_keep(&steps.undo_steps)?, Room::Revert)?;
        }
        Ok(PlanningOutcome::Fits(Self { group, done, pin }))
    }
}

impl<'a> GroupRevert<'a> {
    /// What has to be locked: the objects, and whether renames of directories are.
    fn into_inodes(self) -> (KVVec<ARef<OwnInode>>, bool) {
        (self.inodes, self.moves_directories)
    }

    /// Finds the objects that the operations are about.
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
            patience: Patience::new(),
            claims: KVVec::new(),
            leased: KVVec::new(),
            non_empty: KVVec::new(),
        };
        let mut lines = Lines::new(context.journal)?;
        let mut newer = u64::MAX;
        for operation in &request.operations {
            context.breathe()?;
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

    /// Sorts the chosen operations to the objects that they are about.
    fn gather_members(&mut self) -> Outcome {
        self.members.clear();
        for (index, chosen) in self.chosen.iter().enumerate() {
            let end = index.saturating_add(1);
            match self.members.last_mut() {
                Some(member)
                    if (member.object, member.is_on_names)
                        == (chosen.object, chosen.is_on_names) =>
                {
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

    /// Which object an operation is about.
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
            // An undo goes on behind the last one; a redo takes it back.
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

    /// Their numbers.
    fn numbers(&self, member: &GroupMember) -> Result<KVVec<u64>> {
        let mut numbers = KVVec::with_capacity(self.of(member).len(), GFP_KERNEL_ACCOUNT)?;
        for chosen in self.of(member) {
            numbers.push(chosen.seq, GFP_KERNEL_ACCOUNT)?;
        }
        Ok(numbers)
    }

    /// Whether an operation is among those that are taken back.
    fn takes(&self, seq: u64) -> bool {
        let operations = &self.request.operations;
        operations.binary_search_by(|o| seq.cmp(&o.seq)).is_ok() && !self.stays(seq)
    }

    /// Whether an operation that was chosen is left standing after all.
    fn stays(&self, seq: u64) -> bool {
        let found = self.non_empty.binary_search_by(|one| seq.cmp(&one.seq));
        found.is_ok()
    }

    /// The object that the member with this index is about.
    fn member_object(&self, index: usize) -> Outcome<ObjectId> {
        Ok(self.members.get(index).ok_or(EUCLEAN)?.object)
    }

    /// The number of the group's first line, once there is one; above all others until then.
    fn first_number(&self) -> u64 {
        let mut intents = self.members.iter().filter_map(|member| member.intent);
        intents.next().map_or(u64::MAX, |(_, seq)| seq)
    }

    /// Where there is no room for copies: what is created by operations that are taken back is moved away
    /// with its content, of which nothing is copied. Answers how many bytes the others need.
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
            // With another name it would be seen.
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

    /// Lets go of what is older than all that is read.
    fn narrow(&self, pin: &Pin<'_>, needs: &choose::PlanNeeds, steps: &OrderedSteps) -> Outcome {
        let chosen = self.chosen.iter().map(|chosen| chosen.at.segment);
        let oldest = chosen.fold(needs.oldest, u64::min);
        let (names, kept) = oldest_of(self.context.journal, &steps.undo_steps)?;
        let floor = match self.request.no_redo {
            // The lines are read again when a crash comes.
            true => 0,
            false => oldest.min(names).min(steps.oldest),
        };
        pin.narrow(floor, kept);
        Ok(())
    }

    /// What lines of the group say.
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
            picks: None,
        }
    }

    /// States all intents, applies them, and says how that ended. Answers the first line's number.
    #[inline(never)]
    fn perform(&mut self, pin: &Pin<'_>) -> Outcome<u64> {
        self.context.phase = RevertPhase::Performing;
        let begun = self.context.journal.begin_intent()?;
        let stated = self.write_intents(begun);
        let is_stated = stated.is_ok();
        let result = stated.and_then(|()| self.apply());
        let first = self.members.iter().find_map(|member| member.intent);
        let (_, seq) = first.unwrap_or_default();
        let end = match &result {
            Ok(_) => Op::Commit,
            Err(apply::GroupRevertError::RolledBack(_)) => Op::Cancel,
            Err(apply::GroupRevertError::Incomplete(_)) => {
                self.keep_open(begun);
                if self.request.no_redo {
                    // It can only be gone on with, by what it reads.
                    pin.stay();
                }
                Op::Revert
            }
        };
        if end != Op::Revert {
            self.close(begun, seq, end, is_stated);
        }
        self.refresh();
        let result = result.map(|undo_steps| {
            if self.request.no_redo {
                discard(self.context.mount, self.context.journal, &undo_steps);
            }
        });
        result
            .map(|()| seq)
            .map_err(apply::GroupRevertError::refusal)
    }
}

/// An object of the group, open.
struct OpenedObject {
    inode: ARef<OwnInode>,
    lower: ARef<Dentry>,
}

impl<'a> RevertContext<'a> {
    /// What the request came through.
    fn request_file(&self) -> Outcome<&'a OwnFile> {
        Ok(self.file.ok_or(EIO)?)
    }

    /// Asks for who made the request.
    fn caller(&self) -> Outcome<CallerRights<'a>> {
        Ok(CallerRights::new(self.request_file()?, self.journal))
    }
}

impl RevertContext<'_> {
    /// Finds an object by the lines that tell of it. `Gone`: it is not there any more.
    fn open(&self, object: ObjectId) -> Outcome<OpenedObject> {
        self.open_found(find_recorded(self.sb, self.journal, object)?)
    }

    /// As [`Self::open`]. `None`: it is gone, and has never had a name.
    fn open_unless_unnamed(&self, object: ObjectId) -> Outcome<Option<OpenedObject>> {
        match find_recorded(self.sb, self.journal, object)? {
            ObjectLookup::Unnamed => Ok(None),
            found => self.open_found(found).map(Some),
        }
    }

    /// Whether an object has lost its last name. The inode's own flag is not enough: an inode that left
    /// memory and came back does not have it.
    fn is_kept(&self, inode: &OwnInode) -> Outcome<bool> {
        if inode.object().is_kept() {
            return Ok(true);
        }
        match self.journal.find_kept(inode.id()) {
            Err(e) if e == ENODATA => Ok(false),
            found => found.map(|_| true).map_err(Refusal::from),
        }
    }

    fn open_found(&self, found: ObjectLookup) -> Outcome<OpenedObject> {
        let lower = found.into_lower()?;
        let inode = lower.inode().ok_or(ENOENT)?;
        let inode = OwnInode::obtain(self.sb, inode)?;
        Ok(OpenedObject { inode, lower })
    }
}

impl OpenedObject {
    /// Its lower file, if it has content or names.
    fn file(&self, context: &RevertContext<'_>, to_change: bool) -> Outcome<Option<ARef<File>>> {
        if !self.inode.is_regular() && !self.inode.is_directory() {
            return Ok(None);
        }
        let access = if to_change { c::O_RDWR } else { c::O_RDONLY };
        // Without waiting for leases on the lower file: objects may be locked.
        let access = access | c::O_LARGEFILE | c::O_NONBLOCK;
        match File::open_kernel(context.mount.lower(), &self.lower, access) {
            Err(e) if e == EPERM => Err(Refusal::new(Reason::NotWritable, 0)),
            Err(e) if e == EAGAIN => Err(Refusal::new(Reason::Leased, 0)),
            file => Ok(Some(file?)),
        }
    }

    /// As one whose content and attributes are taken back.
    fn content<'a>(
        &'a self,
        context: &RevertContext<'a>,
        file: Option<&'a File>,
        force: bool,
    ) -> ContentRevert<'a> {
        ContentRevert {
            mount: context.mount,
            journal: context.journal,
            inode: &self.inode,
            lower: &self.lower,
            file,
            open: None,
            force,
            resumed: None,
            is_killable: context.phase != RevertPhase::Performing,
        }
    }

    /// Sees to it that the object's chain is known: its inode may have left memory in between.
    fn known(&self, context: &RevertContext<'_>, state: &mut ObjectState) -> Result {
        if !state.loaded {
            crate::backup::load_unchecked(context.journal, &self.inode, state)?;
            state.half_done = false;
        }
        Ok(())
    }

    /// Whether the caller may take back what was done to it.
    fn may_be_reverted(&self, file: &OwnFile) -> Outcome {
        may_revert(file, &self.inode, &self.lower)
    }
}
