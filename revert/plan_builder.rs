// SPDX-License-Identifier: GPL-2.0

//! From the chain to one plan: the inverses of the operations to be taken back, merged.

use super::{
    content::ContentRevert,
    retained::{attributes_of, AttributeKey, RetainedRevert, TargetFootprint},
    rights,
    steps::{fate, is_on_names, Lines},
    targets::TargetSet,
    Chain, ChainLink, Refusal,
};
use crate::{
    backup,
    history::{
        journal::Journal,
        line::{Line, Op, Pos},
        plan::{
            inverse, resized, Entry, Fate, Kept, MapReader, Merge, OnForeign, Outcome, Picking,
            Piece, PlanError, Records, Restore, Source, Standing, Step, Store, Touched, RECORD,
        }, //
    },
    uapi::Reason,
    vfs::{error::EUCLEAN, scope::crc32c, task}, //
};
use kernel::prelude::*;

/// A growing list for the plan.
pub(super) struct PlanVec<T>(KVVec<T>);

impl<T> PlanVec<T> {
    pub(super) fn new() -> Self {
        Self(KVVec::new())
    }
}

impl<T> Default for PlanVec<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> From<KVVec<T>> for PlanVec<T> {
    fn from(items: KVVec<T>) -> Self {
        Self(items)
    }
}

impl<T> From<PlanVec<T>> for KVVec<T> {
    fn from(list: PlanVec<T>) -> Self {
        list.0
    }
}

impl<T> Store<T> for PlanVec<T> {
    fn push(&mut self, item: T) -> Result<(), PlanError> {
        (self.0.push(item, GFP_KERNEL_ACCOUNT)).map_err(|_| PlanError::NoRoom)
    }

    fn items(&mut self) -> &mut [T] {
        &mut self.0
    }
}

/// What is to be done.
pub(super) struct ContentPlan {
    /// What to put where, ascending.
    pub(super) pieces: KVVec<Piece>,
    /// Records of old attributes, those of newer lines first, and of privileges that a write takes away.
    pub(super) attributes: KVVec<u8>,
    /// Whether the operations replaced attributes.
    pub(super) has_attributes: bool,
    /// The sizes before and after.
    pub(super) outcome: Outcome,
    /// How many operations it takes back.
    pub(super) count: u64,
    /// The newest one's number.
    pub(super) newest: u64,
    /// Where the object's newest line stands that is left standing.
    pub(super) back: Option<Pos>,
    /// Their numbers in ranges.
    pub(super) picks: KVVec<(u64, u64)>,
    /// Whether they are just the newest ones.
    pub(super) is_newest: bool,
    /// Whether there are reverts among them.
    pub(super) is_deep: bool,
    /// The oldest segment with a line or a payload that planning read.
    pub(super) oldest_read: u64,
}

impl ContentPlan {
    /// The oldest segment that applying it reads, with `now` as the newest one.
    pub(super) fn oldest_used(&self, now: u64) -> u64 {
        let used = self.pieces.iter().filter_map(|piece| match piece.source {
            Source::At(at) => Some(at.segment),
            Source::Hole | Source::Unwritten => None,
        });
        used.min().unwrap_or(now).min(now)
    }

    /// The same operations, where nothing is done about them.
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

    /// The old attributes.
    pub(super) fn records(&self) -> Result<Records<'_>, Refusal> {
        Records::new(&self.attributes).map_err(|e| e.refuse(self.newest))
    }
}

impl PlanError {
    pub(super) fn refuse(self, seq: u64) -> Refusal {
        match self {
            Self::Lost => Refusal::new(Reason::Lost, seq),
            Self::Unsupported => Refusal::new(Reason::Unsupported, seq),
            Self::Corrupt => Refusal::new(Reason::Corrupt, seq),
            Self::NoRoom => Refusal {
                error: ENOMEM,
                reason: Reason::Io,
                seq,
            },
        }
    }
}

/// Which operations of an object are taken back.
#[derive(Clone, Copy)]
pub(super) enum TargetChoice<'a> {
    /// So many of the newest.
    Newest(u64),
    /// Those with these numbers, the newest first; others of the same object may be taken back, too.
    These(&'a [u64], &'a dyn Fn(u64) -> bool),
    /// As many as that, which a revert's line lists.
    Listed(&'a TargetSet, u64),
}

impl TargetChoice<'_> {
    fn count(&self) -> u64 {
        match self {
            Self::Newest(count) | Self::Listed(_, count) => *count,
            Self::These(numbers, _) => numbers.len() as u64,
        }
    }

    fn takes(&self, seq: u64) -> bool {
        match self {
            Self::Newest(_) => true,
            Self::Listed(picked, _) => picked.contains(seq),
            Self::These(numbers, _) => numbers.binary_search_by(|n| seq.cmp(n)).is_ok(),
        }
    }

    fn fate(&self, seq: u64) -> Fate {
        match self {
            Self::Newest(_) => Fate::Go,
            Self::These(_, all) => fate(all(seq)),
            Self::Listed(..) => fate(self.takes(seq)),
        }
    }

    /// The newest one that is still to be found when so many were.
    fn missing(&self, taken: u64) -> u64 {
        match self {
            Self::Newest(_) | Self::Listed(..) => 0,
            Self::These(numbers, _) => {
                let next = usize::try_from(taken).ok().and_then(|i| numbers.get(i));
                next.copied().unwrap_or(0)
            }
        }
    }
}

/// Told what is in the way of an operation; an error ends the search.
pub(super) type ConflictSink<'o> = &'o mut dyn FnMut(u64, Refusal) -> Result<(), Refusal>;

/// Ends with the first objection.
pub(super) fn refuse(_seq: u64, refusal: Refusal) -> Result<(), Refusal> {
    Err(refusal)
}

/// How much of a payload is read at once.
const CHUNK: usize = 64 * 1024;

/// How many ranges that stay are remembered at most. Their memory is charged to the caller.
const MOST_RANGES: usize = 1024 * 1024;

/// A plan in the making.
struct PlanBuilder<'a> {
    journal: &'a Journal,
    choice: TargetChoice<'a>,
    merge: Merge<PlanVec<Entry>>,
    attributes: KVVec<u8>,
    /// How many bytes of them there are when what does not hold is dropped.
    compact_at: usize,
    buf: KVVec<u8>,
    picking: Picking<PlanVec<(u64, u64)>>,
    standing: Standing<PlanVec<Kept>>,
    live_attributes: KVVec<(AttributeKey, u64)>,
    reverts: KVVec<RetainedRevert>,
    taken: u64,
    newest: u64,
    back: Option<Pos>,
    /// Whether these are just the newest operations.
    is_newest: bool,
    is_deep: bool,
    oldest: u64,
    oldest_line: u64,
    /// Whether the object has content: the size of any other is none of ours.
    is_regular: bool,
    /// The number of the oldest line that the caller has a right to.
    first_own: u64,
}

/// Plans to take operations of an object back that stand; where one cannot be, `conflicts` is told.
/// Every payload that is used has been read and verified. Under the object's lock.
pub(super) fn plan(
    content: &ContentRevert<'_>,
    head: Option<Pos>,
    choice: TargetChoice<'_>,
    on_foreign: OnForeign,
    conflicts: ConflictSink<'_>,
) -> Result<ContentPlan, Refusal> {
    let (journal, inode) = (content.journal, content.inode);
    let mut chain = Chain::new(journal, inode.id(), head, on_foreign)?;
    let mut builder = PlanBuilder::new(content, choice)?;
    while builder.taken < choice.count() {
        if let (Err(killed), true) = (task::breathe(), content.is_killable) {
            return Err(killed.into());
        }
        let hides = chain.hides();
        builder.is_newest &= !hides;
        let missing = choice.missing(builder.taken);
        // In place: a line is half a kilobyte.
        let link = chain.step_with(|seq| choice.fate(seq));
        let found = match &link {
            Err(e) => return Err((*e).into()),
            Ok(ChainLink::End) => Err(Refusal::new(Reason::NothingLeft, builder.newest)),
            Ok(ChainLink::Trimmed) => Err(Refusal::new(Reason::Trimmed, 0)),
            Ok(ChainLink::Line(line, _, _, Step::Stop(_))) => {
                Err(Refusal::new(Reason::Foreign, line.seq))
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
    builder.finish(chain.hides(), content)
}

impl<'a> PlanBuilder<'a> {
    fn new(content: &ContentRevert<'a>, choice: TargetChoice<'a>) -> Result<Self> {
        let mut buf = KVVec::new();
        buf.resize(CHUNK, 0, GFP_KERNEL)?;
        let size = content.resumed.unwrap_or(content.inode.lower().size());
        Ok(Self {
            journal: content.journal,
            choice,
            merge: Merge::new(PlanVec::new(), size),
            attributes: KVVec::new(),
            compact_at: COMPACT_AT,
            buf,
            picking: Picking::new(PlanVec::new()),
            standing: Standing::new(PlanVec::new(), MOST_RANGES),
            live_attributes: KVVec::new(),
            reverts: KVVec::new(),
            taken: 0,
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

    /// Looks at a line of the chain.
    fn step(
        &mut self,
        line: &Line<'_>,
        step: Step,
        conflicts: ConflictSink<'_>,
    ) -> Result<(), Refusal> {
        let is_taken = self.choice.takes(line.seq);
        match step {
            Step::Take if is_taken => self.take(line, conflicts),
            Step::Take => self.stays(line),
            Step::Barred => {
                self.taken = self.taken.saturating_add(1);
                conflicts(line.seq, Refusal::new(Reason::Conflict, 0))?;
                self.stays(line)
            }
            _ => {
                if let TargetChoice::These(..) = self.choice {
                    if is_taken {
                        // It was taken back already, or is no operation.
                        conflicts(line.seq, Refusal::new(Reason::NothingLeft, 0))?;
                        self.taken = self.taken.saturating_add(1);
                    }
                }
                if !line.op.is_bookkeeping() {
                    self.picking.part();
                }
                Ok(())
            }
        }
    }

    /// An operation is taken back, if nothing is in the way.
    #[inline(never)]
    fn take(&mut self, line: &Line<'_>, conflicts: ConflictSink<'_>) -> Result<(), Refusal> {
        let seq = line.seq;
        self.taken = self.taken.saturating_add(1);
        let result = match self.blocker(line)? {
            _ if seq < self.first_own => Err(Refusal::new(Reason::NotOwner, 0)),
            Some(newer) => Err(Refusal::new(Reason::Conflict, newer)),
            None => self.add_inverse(line),
        };
        if let Err(refusal) = result {
            conflicts(seq, refusal)?;
            return self.stays(line);
        }
        self.picking.pick(seq).map_err(|e| e.refuse(seq))?;
        if self.newest == 0 {
            self.newest = seq;
        }
        self.back = line.prev;
        self.is_deep |= line.op == Op::Revert;
        Ok(())
    }

    /// An operation stays: older ones on what it touched cannot be taken back.
    #[inline(never)]
    fn stays(&mut self, line: &Line<'_>) -> Result<(), Refusal> {
        self.is_newest = false;
        self.picking.part();
        if is_on_names(line) {
            return Ok(());
        }
        let attributes = attributes_of(self.journal, line)?;
        // With what it took back it comes to nothing: only what is between has seen that differ.
        if let Some(mut revert) = RetainedRevert::of(line)? {
            revert.attributes = attributes;
            self.reverts.push(revert, GFP_KERNEL)?;
            return Ok(());
        }
        self.standing.add(line).map_err(|e| e.refuse(line.seq))?;
        for attribute in attributes {
            // Of one attribute the newest operation is in the way.
            let mut kept = self.live_attributes.iter();
            if !kept.any(|(kept, _)| *kept == attribute) {
                (self.live_attributes).push((attribute, line.seq), GFP_KERNEL_ACCOUNT)?;
            }
        }
        Ok(())
    }

    /// A revert that stays and took back, or did again, an operation that is older than `line` and touched
    /// what that did: what `line` replaced, and what was saved of it, is not what would be there now.
    fn blocking_revert(&self, line: &Line<'_>) -> Result<Option<u64>, Refusal> {
        if self.reverts.iter().all(|revert| revert.lowest >= line.seq) {
            return Ok(None);
        }
        let mine = TargetFootprint {
            touched: Touched::of(line),
            attributes: attributes_of(self.journal, line)?,
        };
        for revert in self.reverts.iter().filter(|one| one.lowest < line.seq) {
            if mine.meets(&revert.touched, &revert.attributes)
                && revert.reaches(self.journal, line.prev, &mine)?
            {
                return Ok(Some(revert.seq));
            }
        }
        Ok(None)
    }

    /// The newest operation that stays and touched what `line` did.
    fn blocker(&mut self, line: &Line<'_>) -> Result<Option<u64>, Refusal> {
        if self.is_newest {
            return Ok(None);
        }
        if let Some(seq) = self.standing.in_way(line) {
            return Ok(Some(seq));
        }
        if let Some(seq) = self.blocking_revert(line)? {
            return Ok(Some(seq));
        }
        if self.live_attributes.is_empty() {
            return Ok(None);
        }
        let touched = attributes_of(self.journal, line)?;
        let mut standing = self.live_attributes.iter();
        Ok(standing.find_map(|(kept, seq)| touched.contains(kept).then_some(*seq)))
    }

    /// Adds the inverse of one line to the plan.
    fn add_inverse(&mut self, line: &Line<'_>) -> Result<(), Refusal> {
        let seq = line.seq;
        let inverse = inverse(line).map_err(|e| e.refuse(seq))?;
        if let Some(restore) = &inverse.restore {
            self.oldest = self.oldest.min(restore.payload.segment);
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
        // Behind an operation that stays, the size at the time of another one may be an old one.
        let sizes = self.is_regular && (self.is_newest || resized(line).is_some());
        self.merge
            .end_operation(inverse.size_after.filter(|_| sizes));
        Ok(())
    }

    /// Adds records of old attributes. Of one attribute the oldest holds: the others go when there are
    /// many.
    fn add_attributes(&mut self, old: &[u8]) -> Result<(), PlanError> {
        let gathered = self.attributes.len().saturating_add(old.len());
        if gathered > MAX_ATTRIBUTES {
            return Err(PlanError::NoRoom);
        }
        let add = self.attributes.extend_from_slice(old, GFP_KERNEL_ACCOUNT);
        add.map_err(|_| PlanError::NoRoom)?;
        if gathered > self.compact_at {
            let mut last = KVVec::new();
            for record in Records::new(&self.attributes)?.last_ones_and_owners() {
                let head = record.head().ok_or(PlanError::Corrupt)?;
                for part in [&head[..], record.name, record.value.unwrap_or_default()] {
                    (last.extend_from_slice(part, GFP_KERNEL_ACCOUNT))
                        .map_err(|_| PlanError::NoRoom)?;
                }
            }
            self.compact_at = last.len().saturating_mul(2).max(COMPACT_AT);
            self.attributes = last;
        }
        Ok(())
    }

    #[inline(never)]
    fn finish(self, hides: bool, content: &ContentRevert<'_>) -> Result<ContentPlan, Refusal> {
        let newest = self.newest;
        let mut pieces = PlanVec::new();
        let outcome = (self.merge.finish(&mut pieces)).map_err(|e| e.refuse(newest))?;
        let mut attributes = self.attributes;
        let has_attributes = !attributes.is_empty();
        let pieces: KVVec<Piece> = pieces.into();
        if !pieces.is_empty() || outcome.size != outcome.present {
            // As a revert writes, it would take away what a write does. It puts that back as the caller,
            // who may have to be refused: old content is no program that they may give such rights to.
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
            picks: self.picking.finish().into(),
            is_newest: self.is_newest && !hides,
            is_deep: self.is_deep,
            oldest_read: self.oldest.min(self.oldest_line),
        })
    }
}

/// Plans to take the undos back that stand at `places`, the newest first, and that no operation of the
/// object followed; `numbers` are theirs. Under the object's lock.
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
pub(super) fn verify(journal: &Journal, restore: &Restore, buf: &mut [u8]) -> Result {
    let mut state = !0;
    let mut done = 0;
    while done < restore.payload.length {
        let left = usize::try_from(restore.payload.length - done).unwrap_or(usize::MAX);
        let n = left.min(buf.len());
        let part = buf.get_mut(..n).ok_or(EINVAL)?;
        journal.read_payload(restore.payload, done, part)?;
        state = crc32c(state, part);
        done = done.saturating_add(n as u64);
    }
    if !state != restore.crc {
        return Err(EUCLEAN);
    }
    Ok(())
}

/// How many bytes of old attributes are gathered before those that do not hold are dropped.
const COMPACT_AT: usize = 64 << 10;

/// How many bytes of old attributes one revert gathers at most.
const MAX_ATTRIBUTES: usize = 16 << 20;

/// The records of old attributes in a payload.
pub(super) fn attributes(journal: &Journal, restore: &Restore) -> Result<KVVec<u8>, Refusal> {
    let mut records = KVVec::new();
    let content = restore.content().ok_or(EUCLEAN)?.length;
    let length = usize::try_from(restore.attributes).map_err(|_| EUCLEAN)?;
    if length > MAX_ATTRIBUTES {
        return Err(PlanError::NoRoom.refuse(0));
    }
    records.resize(length, 0, GFP_KERNEL)?;
    if length != 0 {
        journal.read_payload(restore.payload, content, &mut records)?;
    }
    Records::new(&records).map_err(|e| e.refuse(0))?;
    Ok(records)
}

/// The records of old attributes that a line saved; none: it saved none.
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

/// Hands out the pieces of a payload.
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
