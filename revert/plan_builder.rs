// SPDX-License-Identifier: GPL-2.0

//! Builds the plan of a revert: merges the inverses of the selected operations, and checks each.

use super::{
    content::ContentRevert,
    plan_vec::PlanVec,
    read_buffer::ReadBuffer,
    retained::{attributes_of, AttributeKey, RetainedRevert, TargetFootprint},
    rights,
    steps::{is_on_names, Lines},
    target_choice::{CallProgress, TargetChoice},
    Chain, ChainLink, Refusal,
};
use crate::{
    backup,
    history::journal::Journal,
    log::{
        line::{Line, Op},
        plan::{
            inverse, resized, AffectedRanges, Disposition, InverseMerge, LiveRange, LiveRanges,
            MapReader, MergeEntry, OnExternal, Outcome, Piece, PlanError, Records, Restore, Source,
            TargetRangesBuilder, WalkStep, RECORD,
        },
        types::Pos,
    },
    uapi::Reason,
    vfs::{error::EUCLEAN, scope::crc32c, task},
};
use kernel::prelude::*;

/// The plan to revert operations on the content and attributes of one object.
pub(super) struct ContentPlan {
    /// Pieces to write, by ascending offset.
    pub(super) pieces: KVVec<Piece>,
    /// Records of attributes to set: those of newer lines first, then privileges that a write
    /// removes.
    pub(super) attributes: KVVec<u8>,
    /// Whether the operations changed attributes.
    pub(super) has_attributes: bool,
    /// Size before and after.
    pub(super) outcome: Outcome,
    /// Number of reverted operations.
    pub(super) count: u64,
    /// Number of the newest one.
    pub(super) newest: u64,
    /// Position of the object's newest line that stays live.
    pub(super) back: Option<Pos>,
    /// Numbers of the reverted operations, in ranges.
    pub(super) targets: KVVec<(u64, u64)>,
    /// Whether they are exactly the newest operations.
    pub(super) is_newest: bool,
    /// Whether they include reverts.
    pub(super) is_deep: bool,
    /// The oldest segment with a line or a payload that the planner read.
    pub(super) oldest_read: u64,
}

impl ContentPlan {
    /// The oldest segment that [`ApplyTarget::apply`] reads; `now` is the newest segment.
    pub(super) fn oldest_used(&self, now: u64) -> u64 {
        let used = self.pieces.iter().filter_map(|piece| match piece.source {
            Source::At(at) => Some(at.segment),
            Source::Hole | Source::Unwritten => None,
        });
        used.min().unwrap_or(now).min(now)
    }

    /// The same operations, with nothing to apply.
    pub(super) fn of_nothing(self) -> Self {
        Self {
            pieces: KVVec::new(),
            attributes: KVVec::new(),
            outcome: Outcome {
                size: self.outcome.present,
                ..self.outcome
            },
            ..self
        }
    }

    /// The attributes to set.
    pub(super) fn records(&self) -> Result<Records<'_>, Refusal> {
        Records::new(&self.attributes).map_err(|e| e.refuse(self.newest))
    }
}

impl PlanError {
    /// The refusal for this error, about the operation `seq`.
    pub(super) fn refuse(self, seq: u64) -> Refusal {
        match self {
            Self::Lost => Refusal::new(Reason::Lost, seq),
            Self::Unsupported => Refusal::new(Reason::Unsupported, seq),
            Self::Corrupt => Refusal::new(Reason::Corrupt, seq),
            Self::NoSpace => Refusal {
                error: ENOMEM,
                reason: Reason::Io,
                seq,
            },
        }
    }
}

/// Receives each conflict; an error ends the search.
pub(super) type ConflictSink<'o> = &'o mut dyn FnMut(u64, Refusal) -> Result<(), Refusal>;

/// Refuses with the first conflict.
pub(super) fn refuse(_seq: u64, refusal: Refusal) -> Result<(), Refusal> {
    Err(refusal)
}

/// Limit of remembered ranges of kept operations. The memory is charged to the caller's cgroup.
const MOST_RANGES: usize = 1024 * 1024;

/// A plan under construction.
struct PlanBuilder<'a> {
    journal: &'a Journal,
    choice: TargetChoice<'a>,
    merge: InverseMerge<PlanVec<MergeEntry>>,
    attributes: KVVec<u8>,
    /// Length of `attributes` at which superseded records are dropped.
    compact_at: usize,
    buf: ReadBuffer,
    targets_builder: TargetRangesBuilder<PlanVec<(u64, u64)>>,
    live_ranges: LiveRanges<PlanVec<LiveRange>>,
    live_attributes: KVVec<(AttributeKey, u64)>,
    reverts: KVVec<RetainedRevert>,
    taken: u64,
    calls: CallProgress,
    newest: u64,
    back: Option<Pos>,
    /// Whether the chosen operations are exactly the newest ones.
    is_newest: bool,
    is_deep: bool,
    oldest: u64,
    oldest_line: u64,
    /// Whether the object is a regular file: only then does the size belong to the plan.
    is_regular: bool,
    /// Number of the oldest line to which the caller has a right.
    first_own: u64,
}

/// Plans to revert live operations of an object. Conflicts go to `conflicts`. Reads and verifies
/// every payload that the plan uses. The object's lock is held.
pub(super) fn plan(
    content: &ContentRevert<'_>,
    head: Option<Pos>,
    choice: TargetChoice<'_>,
    on_external: OnExternal,
    conflicts: ConflictSink<'_>,
) -> Result<ContentPlan, Refusal> {
    let (journal, inode) = (content.journal, content.inode);
    let mut chain = Chain::new(journal, inode.id(), head, on_external)?;
    let mut builder = PlanBuilder::new(content, choice)?;
    while choice.is_incomplete(builder.taken, &builder.calls) {
        // cond_resched(), and a check for a fatal signal.
        if let (Err(killed), true) = (task::resched_killable(), content.is_killable) {
            return Err(killed.into());
        }
        let has_reverted = chain.has_reverted();
        builder.is_newest &= !has_reverted;
        let missing = choice.missing(builder.taken);
        let is_rest = choice.is_rest_of_call(&builder.calls);
        // Used in place: a line takes half a kilobyte of stack.
        let link = chain.step_with(|seq| choice.disposition(seq));
        let found = match &link {
            Err(e) => return Err((*e).into()),
            Ok(link) if is_rest && !builder.calls.goes_on(link) => break,
            Ok(ChainLink::End) => Err(Refusal::new(Reason::NothingLeft, builder.newest)),
            Ok(ChainLink::Trimmed) => Err(Refusal::new(Reason::Trimmed, 0)),
            Ok(ChainLink::Line(line, _, _, WalkStep::Stop(_))) => {
                Err(Refusal::new(Reason::External, line.seq))
            }
            Ok(ChainLink::Line(line, at, _, step)) => {
                builder.oldest_line = builder.oldest_line.min(at.segment);
                builder.step(line, *step, conflicts).map(|()| true)
            }
        };
        match found {
            Ok(_) => {}
            Err(refusal) if missing == 0 => return Err(refusal),
            Err(refusal) => {
                conflicts(missing, refusal)?;
                break;
            }
        }
    }
    builder.finish(chain.has_reverted(), content)
}

/// Plans the state of the object right after the operation `seq`: takes every newer change back.
/// Returns the number of the newest operation that stays, too; 0 if there is none. Nothing in between
/// can conflict, since every change is taken back. The object's lock is held.
pub(super) fn past(
    content: &ContentRevert<'_>,
    head: Option<Pos>,
    seq: u64,
    on_external: OnExternal,
) -> Result<(ContentPlan, u64), Refusal> {
    let (journal, inode) = (content.journal, content.inode);
    let mut chain = Chain::new(journal, inode.id(), head, on_external)?;
    let mut builder = PlanBuilder::new(content, TargetChoice::Newest(u64::MAX))?;
    let newest = loop {
        task::resched_killable()?;
        // Used in place: a line takes half a kilobyte of stack.
        let link = chain.step_with(|_| Disposition::AsChange);
        match &link {
            Err(e) => return Err((*e).into()),
            Ok(ChainLink::End) => break 0,
            // The object's next line is older than the oldest one that is there.
            Ok(ChainLink::Trimmed) => match journal.oldest_number()? {
                Some(oldest) if oldest <= seq.saturating_add(1) => break 0,
                _ => return Err(Refusal::new(Reason::Trimmed, 0)),
            },
            Ok(ChainLink::Line(line, _, _, WalkStep::Stop(_))) if line.seq > seq => {
                return Err(Refusal::new(Reason::External, line.seq))
            }
            Ok(ChainLink::Line(line, _, _, WalkStep::Live)) if line.seq <= seq => break line.seq,
            Ok(ChainLink::Line(line, _, _, WalkStep::Stop(_))) => break line.seq,
            Ok(ChainLink::Line(line, _, _, WalkStep::Live)) if !is_on_names(line) => {
                if line.seq < builder.first_own {
                    return Err(Refusal::new(Reason::NotOwner, line.seq));
                }
                builder.add_inverse(line)?;
            }
            Ok(ChainLink::Line(..)) => {}
        }
    };
    Ok((builder.finish(false, content)?, newest))
}

impl<'a> PlanBuilder<'a> {
    /// Starts an empty plan.
    fn new(content: &ContentRevert<'a>, choice: TargetChoice<'a>) -> Result<Self> {
        let size = content.resumed.unwrap_or(content.inode.lower().size());
        Ok(Self {
            journal: content.journal,
            choice,
            merge: InverseMerge::new(PlanVec::new(), size),
            attributes: KVVec::new(),
            compact_at: COMPACT_AT,
            buf: ReadBuffer::default(),
            targets_builder: TargetRangesBuilder::new(PlanVec::new()),
            live_ranges: LiveRanges::new(PlanVec::new(), MOST_RANGES),
            live_attributes: KVVec::new(),
            reverts: KVVec::new(),
            taken: 0,
            calls: CallProgress::default(),
            newest: 0,
            back: None,
            is_newest: true,
            is_deep: false,
            oldest: u64::MAX,
            oldest_line: u64::MAX,
            is_regular: content.inode.is_regular(),
            first_own: rights::first_own_now(content.journal, content.inode)?,
        })
    }

    /// Handles one line of the chain.
    fn step(
        &mut self,
        line: &Line<'_>,
        step: WalkStep,
        conflicts: ConflictSink<'_>,
    ) -> Result<(), Refusal> {
        let is_taken = self.choice.takes(line.seq);
        match step {
            WalkStep::Live if is_taken => self.take(line, conflicts),
            WalkStep::Live => self.stays(line),
            // Reverting this revert would restore operations that a newer revert also reverted.
            WalkStep::Conflict => {
                self.taken = self.taken.saturating_add(1);
                self.calls.take(line);
                conflicts(line.seq, Refusal::new(Reason::Conflict, 0))?;
                self.stays(line)
            }
            _ => {
                if let TargetChoice::These(..) = self.choice {
                    if is_taken {
                        // Reverted already, or not an operation.
                        conflicts(line.seq, Refusal::new(Reason::NothingLeft, 0))?;
                        self.taken = self.taken.saturating_add(1);
                    }
                }
                if !line.op.is_bookkeeping() {
                    self.targets_builder.part();
                }
                Ok(())
            }
        }
    }

    /// Adds an operation to the plan, unless another one blocks it.
    #[inline(never)]
    fn take(&mut self, line: &Line<'_>, conflicts: ConflictSink<'_>) -> Result<(), Refusal> {
        let seq = line.seq;
        self.taken = self.taken.saturating_add(1);
        self.calls.take(line);
        let result = match self.blocker(line)? {
            _ if seq < self.first_own => Err(Refusal::new(Reason::NotOwner, 0)),
            Some(newer) => Err(Refusal::new(Reason::Conflict, newer)),
            None => self.add_inverse(line),
        };
        if let Err(refusal) = result {
            conflicts(seq, refusal)?;
            return self.stays(line);
        }
        self.targets_builder.pick(seq).map_err(|e| e.refuse(seq))?;
        if self.newest == 0 {
            self.newest = seq;
        }
        self.back = line.prev;
        self.is_deep |= line.op == Op::Revert;
        Ok(())
    }

    /// Notes an operation that is kept: older operations on the same ranges and attributes
    /// conflict.
    #[inline(never)]
    fn stays(&mut self, line: &Line<'_>) -> Result<(), Refusal> {
        self.is_newest = false;
        self.targets_builder.part();
        if is_on_names(line) {
            return Ok(());
        }
        let attributes = attributes_of(self.journal, line)?;
        // A kept revert cancels out with the operations it reverted. It blocks only those in
        // between.
        if let Some(mut revert) = RetainedRevert::of(line)? {
            revert.attributes = attributes;
            self.reverts.push(revert, GFP_KERNEL)?;
            return Ok(());
        }
        self.live_ranges.add(line).map_err(|e| e.refuse(line.seq))?;
        for attribute in attributes {
            // Only the newest operation on an attribute is reported as the blocker.
            let mut kept = self.live_attributes.iter();
            if !kept.any(|(kept, _)| *kept == attribute) {
                (self.live_attributes).push((attribute, line.seq), GFP_KERNEL_ACCOUNT)?;
            }
        }
        Ok(())
    }

    /// The kept revert that blocks `line`: it reverted or redid an operation older than `line` on
    /// the same ranges or attributes, so the pre-image of `line` is not the state that would be
    /// there now.
    fn blocking_revert(&self, line: &Line<'_>) -> Result<Option<u64>, Refusal> {
        if self.reverts.iter().all(|revert| revert.lowest >= line.seq) {
            return Ok(None);
        }
        let mine = TargetFootprint {
            affected: AffectedRanges::of(line),
            attributes: attributes_of(self.journal, line)?,
        };
        for revert in self.reverts.iter().filter(|one| one.lowest < line.seq) {
            if mine.meets(&revert.affected, &revert.attributes)
                && revert.reaches(self.journal, line.prev, &mine)?
            {
                return Ok(Some(revert.seq));
            }
        }
        Ok(None)
    }

    /// The newest kept operation on ranges or attributes of `line`.
    fn blocker(&mut self, line: &Line<'_>) -> Result<Option<u64>, Refusal> {
        if self.is_newest {
            return Ok(None);
        }
        if let Some(seq) = self.live_ranges.blocker(line) {
            return Ok(Some(seq));
        }
        if let Some(seq) = self.blocking_revert(line)? {
            return Ok(Some(seq));
        }
        if self.live_attributes.is_empty() {
            return Ok(None);
        }
        let affected = attributes_of(self.journal, line)?;
        let mut live = self.live_attributes.iter();
        Ok(live.find_map(|(kept, seq)| affected.contains(kept).then_some(*seq)))
    }

    /// Adds the inverse of one operation to the plan.
    fn add_inverse(&mut self, line: &Line<'_>) -> Result<(), Refusal> {
        let seq = line.seq;
        let inverse = inverse(line).map_err(|e| e.refuse(seq))?;
        if let Some(restore) = &inverse.restore {
            self.oldest = self.oldest.min(restore.payload.segment);
            // Checksum first: a damaged payload must not reach the file.
            verify(self.journal, restore, &mut self.buf).map_err(|e| Refusal {
                seq,
                ..Refusal::from(e)
            })?;
            each_piece(self.journal, restore, |piece| {
                self.merge.restore(&piece).map_err(|e| e.refuse(seq))
            })?;
            let old =
                attributes(self.journal, restore).map_err(|refusal| Refusal { seq, ..refusal })?;
            self.add_attributes(&old).map_err(|e| e.refuse(seq))?;
        }
        if inverse.trims {
            self.merge.trim();
        }
        // With kept operations in between, the recorded size may be outdated. Only a resize counts
        // then.
        let sizes = self.is_regular && (self.is_newest || resized(line).is_some());
        self.merge
            .end_operation(inverse.size_after.filter(|_| sizes));
        Ok(())
    }

    /// Adds records of attributes. The oldest record of an attribute wins; superseded ones are
    /// dropped from time to time.
    fn add_attributes(&mut self, old: &[u8]) -> Result<(), PlanError> {
        let gathered = self.attributes.len().saturating_add(old.len());
        // A forged history must not exhaust memory.
        if gathered > MAX_ATTRIBUTES {
            return Err(PlanError::NoSpace);
        }
        let add = self.attributes.extend_from_slice(old, GFP_KERNEL_ACCOUNT);
        add.map_err(|_| PlanError::NoSpace)?;
        if gathered > self.compact_at {
            let mut last = KVVec::new();
            for record in Records::new(&self.attributes)?.last_ones_and_owners() {
                let head = record.head().ok_or(PlanError::Corrupt)?;
                for part in [&head[..], record.name, record.value.unwrap_or_default()] {
                    (last.extend_from_slice(part, GFP_KERNEL_ACCOUNT))
                        .map_err(|_| PlanError::NoSpace)?;
                }
            }
            self.compact_at = last.len().saturating_mul(2).max(COMPACT_AT);
            self.attributes = last;
        }
        Ok(())
    }

    /// Completes the plan.
    #[inline(never)]
    fn finish(
        self,
        has_reverted: bool,
        content: &ContentRevert<'_>,
    ) -> Result<ContentPlan, Refusal> {
        let newest = self.newest;
        let mut pieces = PlanVec::new();
        let outcome = (self.merge.finish(&mut pieces)).map_err(|e| e.refuse(newest))?;
        let mut attributes = self.attributes;
        let has_attributes = !attributes.is_empty();
        let pieces: KVVec<Piece> = pieces.into();
        if !pieces.is_empty() || outcome.size != outcome.present {
            // Writes of this revert remove set-group-ID and security.capability
            // (file_remove_privs()). The plan sets these again with the caller's credentials, which
            // may be refused: the caller may not give them to a file whose content is replaced.
            let old = Records::new(&attributes).map_err(|e| e.refuse(newest))?;
            let mount = content.mount.lower();
            let kept = backup::gather_privileges(mount, content.lower, old)?;
            attributes.extend_from_slice(&kept, GFP_KERNEL)?;
        }
        Ok(ContentPlan {
            pieces,
            attributes,
            has_attributes,
            outcome,
            count: self.taken,
            newest,
            back: self.back,
            targets: self.targets_builder.finish().into(),
            is_newest: self.is_newest && !has_reverted,
            is_deep: self.is_deep,
            oldest_read: self.oldest.min(self.oldest_line),
        })
    }
}

/// Plans to redo the undos at `places`, the newest first, with these numbers. No operation of the
/// object followed them. The object's lock is held.
pub(super) fn redo(
    content: &ContentRevert<'_>,
    places: &[Pos],
    numbers: &[u64],
) -> Result<ContentPlan, Refusal> {
    let mut lines = Lines::new(content.journal)?;
    let mut builder = PlanBuilder::new(content, TargetChoice::These(numbers, &|_| true))?;
    for at in places {
        builder.take(&lines.read(*at)?, &mut refuse)?;
    }
    builder.finish(false, content)
}

/// Reads a payload and compares its checksum.
pub(super) fn verify(journal: &Journal, restore: &Restore, buf: &mut ReadBuffer) -> Result {
    let mut state = !0;
    buf.read(journal, restore.payload, |_, part| {
        state = crc32c(state, part);
        Ok(())
    })?;
    if !state != restore.crc {
        return Err(EUCLEAN);
    }
    Ok(())
}

/// Bytes of attributes that are collected before superseded records are dropped.
const COMPACT_AT: usize = 64 << 10;

/// Limit of attribute bytes per revert.
const MAX_ATTRIBUTES: usize = 16 << 20;

/// The records of attributes in a payload.
pub(super) fn attributes(journal: &Journal, restore: &Restore) -> Result<KVVec<u8>, Refusal> {
    let mut records = KVVec::new();
    let content = restore.content().ok_or(EUCLEAN)?.length;
    let length = usize::try_from(restore.attributes).map_err(|_| EUCLEAN)?;
    if length > MAX_ATTRIBUTES {
        return Err(PlanError::NoSpace.refuse(0));
    }
    records.resize(length, 0, GFP_KERNEL)?;
    if length != 0 {
        journal.read_payload(restore.payload, content, &mut records)?;
    }
    Records::new(&records).map_err(|e| e.refuse(0))?;
    Ok(records)
}

/// The records of attributes that a line captured; empty if there are none.
pub(super) fn saved_attributes(journal: &Journal, line: &Line<'_>) -> Result<KVVec<u8>, Refusal> {
    if line.attributes.is_none() {
        return Ok(KVVec::new());
    }
    let inverse = inverse(line).map_err(|e| e.refuse(line.seq))?;
    match &inverse.restore {
        Some(restore) => attributes(journal, restore),
        None => Ok(KVVec::new()),
    }
}

/// Calls `each` with every piece of a payload.
pub(super) fn each_piece(
    journal: &Journal,
    restore: &Restore,
    mut each: impl FnMut(Piece) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let mut reader = MapReader::new(restore).map_err(|e| e.refuse(0))?;
    if let Some(piece) = reader.plain() {
        each(piece)?;
    }
    let mut at = 0;
    while reader.left() != 0 {
        let mut record = [0; RECORD];
        journal.read_payload(restore.payload, at, &mut record)?;
        at = at.saturating_add(RECORD as u64);
        each(reader.feed(&record).map_err(|e| e.refuse(0))?)?;
    }
    reader.finish().map_err(|e| e.refuse(0))
}
