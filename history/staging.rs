// SPDX-License-Identifier: GPL-2.0

//! Records that are ordered in memory and not yet written.
//!
//! Payloads and lines are copied into chunks of fixed size; each chunk becomes one write at one
//! offset of one file. The functions here run under the journal's spinlock and only count and
//! compare; the chunks' bytes are filled without the lock.
//!
//! Lines are reserved before the operation runs, so that placing a line cannot fail when the
//! operation has happened: each of the `reserved_lines` fits, at maximum length, into the rest of the active
//! chunk or into a free one, which takes `LINES_PER_CHUNK`.

use kernel::prelude::*;

use super::{
    objects::{LastLine, Objects, MANY, MOST},
    pool::{ChunkState, Phase, Pool},
};
use crate::{
    log::{
        line::MAX_LINE,
        types::{Extent, Seed},
    },
    vfs::{
        chunk::{Chunk, Slot},
        scope::crc32c,
    },
};

/// How many bytes of payload are written at once.
pub(super) const PAYLOAD_CHUNK: usize = 512 * 1024;
/// How many such chunks there are.
pub(super) const PAYLOAD_CHUNKS: usize = 8;
/// How many bytes of lines are written at once.
pub(super) const LINE_CHUNK: usize = 64 * 1024;
/// How many such chunks there are.
pub(super) const LINE_CHUNKS: usize = 8;
/// How many lines of any length a chunk takes.
const LINES_PER_CHUNK: usize = LINE_CHUNK / MAX_LINE;
/// Payload chunks begin at multiples of this, and are written up to one: a block of a recycled
/// file that is overwritten in whole need not be read first.
pub(super) const ALIGN: u64 = 4096;

/// More lines than are ever reserved at once.
const FEW_NUMBERS: u64 = 1 << 16;

/// A segment may exceed its limits by this factor before staging blocks.
const HARD_LIMIT_FACTOR: u64 = 2;

/// Sizes at which a segment ends.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Of its log.
    pub(super) log: u64,
    /// Of its payloads.
    pub(super) undo: u64,
}

/// A segment that has ended and is to be sealed.
#[derive(Clone, Copy)]
pub(super) struct Ended {
    pub(super) segment: u64,
    pub(super) log_end: u64,
    pub(super) undo_end: u64,
}

/// A table of objects.
pub(super) type ObjectTable = Objects<KVVec<LastLine>, KVVec<u16>>;

/// Everything under the journal's spinlock.
pub(super) struct Staging {
    /// Where lines go; also the checksum's beginning.
    pub(super) seed: Seed,
    /// The initial checksum state of the active segment's lines.
    pub(super) sum_start: u32,
    /// The offset of the next line in the active log.
    pub(super) log_end: u64,
    /// The offset of the next payload in the active payload file.
    pub(super) undo_end: u64,
    /// The size of the segment's orphans in bytes.
    pub(super) orphan_bytes: u64,
    /// The next line's number, and the first that is not reserved.
    pub(super) seq: u64,
    pub(super) seq_end: u64,
    /// The number of the next segment, once its files exist.
    pub(super) next: Option<u64>,
    /// Last lines of the active segment, of the one that is being sealed, and a spare table.
    pub(super) objects: ObjectTable,
    pub(super) ended: Option<Ended>,
    pub(super) ended_objects: Option<ObjectTable>,
    pub(super) spare: Option<ObjectTable>,
    pub(super) payloads: Pool<PAYLOAD_CHUNKS>,
    pub(super) lines: Pool<LINE_CHUNKS>,
    /// The number of reserved lines.
    reserved_lines: usize,
    /// How many large payloads are under way.
    pub(super) larges: usize,
    tickets: u64,
    /// Everything up to these tickets is to be written, or durable.
    pub(super) want_written: u64,
    pub(super) want_durable: u64,
    /// The maintenance worker retries a drop that it had to postpone when lines are durable up to
    /// this ticket.
    pub(super) trim_at: Option<u64>,
    /// Everything up to this ticket is durable.
    pub(super) durable: u64,
    /// Callers asleep for space, and for a flush.
    pub(super) waiting: usize,
    pub(super) flushing: usize,
    /// The newest ticket when the writer began its pass, and whether lines were held back in that
    /// pass.
    pass_ticket: u64,
    held_back: bool,
    /// Whether a chunk was opened, and so another one closed, since this was last looked at.
    pub(super) opened: bool,
    /// Whether the worker comes by itself.
    pub(super) armed: bool,
    pub(super) closed: bool,
    /// How many times the maintenance worker has run.
    pub(super) maintenance_rounds: u64,
    /// Whether the filesystem is so full that only the reserve was left: lines, but no payloads.
    pub(super) low_space: bool,
    /// With `on_full=deny`: how many bytes more there may be.
    pub(super) budget: Option<u64>,
    /// How many reverts are under way, and how many bytes their lines may have beyond the budget.
    pub(super) reverts: u32,
    pub(super) reserve: u64,
    /// Errors of the writer and of the maintenance worker; how many callers gave up.
    pub(super) writer_error: WorkerError,
    pub(super) maintenance_error: WorkerError,
    pub(super) lost: u64,
    /// Whether the last segment was ended by its payloads: then the next will be full of them, too.
    pub(super) is_undo_heavy: bool,
    /// Bytes of sealed segments.
    pub(super) sealed_log: u64,
    pub(super) sealed_undo: u64,
    pub(super) limits: Limits,
    /// Sizes that a segment never gets far beyond.
    hard_limits: Limits,
}

/// The last error of a worker, cleared by the next success, and the number of errors so far.
#[derive(Default)]
pub(super) struct WorkerError {
    pub(super) last: Option<Error>,
    pub(super) count: u64,
}

/// Why something has to wait.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum StageError {
    /// Until the workers got on.
    Wait,
    /// The mount has `on_full=deny` and the history is full.
    Denied,
}

impl Staging {
    pub(super) fn new(
        seed: Seed,
        limits: Limits,
        objects: ObjectTable,
        spare: ObjectTable,
    ) -> Self {
        Self {
            sum_start: seed.start(crc32c),
            seed,
            log_end: 0,
            undo_end: 0,
            orphan_bytes: 0,
            seq: 0,
            seq_end: 0,
            next: None,
            objects,
            ended: None,
            ended_objects: None,
            spare: Some(spare),
            payloads: Pool::new(),
            lines: Pool::new(),
            reserved_lines: 0,
            larges: 0,
            tickets: 0,
            want_written: 0,
            want_durable: 0,
            trim_at: None,
            durable: 0,
            waiting: 0,
            flushing: 0,
            pass_ticket: 0,
            held_back: false,
            opened: false,
            armed: false,
            closed: false,
            maintenance_rounds: 0,
            low_space: false,
            budget: None,
            reverts: 0,
            reserve: 0,
            writer_error: WorkerError::default(),
            maintenance_error: WorkerError::default(),
            lost: 0,
            is_undo_heavy: false,
            sealed_log: 0,
            sealed_undo: 0,
            limits,
            hard_limits: Limits {
                log: limits.log.saturating_mul(HARD_LIMIT_FACTOR),
                undo: limits.undo.saturating_mul(HARD_LIMIT_FACTOR),
            },
        }
    }

    /// The error of either worker.
    pub(super) fn error(&self) -> Option<Error> {
        self.writer_error.last.or(self.maintenance_error.last)
    }

    /// The first segment that is not sealed yet.
    pub(super) fn first_unsealed(&self) -> u64 {
        self.ended.map_or(self.seed.segment, |ended| ended.segment)
    }

    /// The newest ticket that was given.
    pub(super) fn last_ticket(&self) -> u64 {
        self.tickets
    }

    fn ticket(&mut self) -> u64 {
        self.tickets = self.tickets.wrapping_add(1);
        self.tickets
    }

    /// Reserves space for a payload, and a place in the active segment.
    pub(super) fn stage<'a>(
        &mut self,
        chunks: &'a [Chunk],
        len: usize,
    ) -> Result<(Slot<'a>, Extent), StageError> {
        let bytes = len as u64;
        if self.is_over_limit() {
            return Err(StageError::Wait);
        }
        self.charge(bytes)?;
        let reserve = |index: usize| Some((index, chunks.get(index)?.reserve(len)?));
        // Payloads of the active chunk are adjacent in memory and in the file, so a chunk is one
        // write.
        let (index, slot) = match self.payloads.active.and_then(reserve) {
            Some(found) => found,
            None => {
                self.payloads.seal_active(chunks);
                reserve(self.open_payload(Phase::Active)?).ok_or(StageError::Wait)?
            }
        };
        let state = self
            .payloads
            .states
            .get_mut(index)
            .ok_or(StageError::Wait)?;
        let extent = Extent {
            segment: state.segment,
            offset: state.base.saturating_add(state.used),
            length: bytes,
        };
        state.used = state.used.saturating_add(bytes);
        self.undo_end = extent.offset.saturating_add(bytes);
        Ok((slot, extent))
    }

    /// Reserves a place for a payload of any length; its bytes come in chunks of their own.
    pub(super) fn stage_large(&mut self, chunks: &[Chunk], len: u64) -> Result<Extent, StageError> {
        if self.is_over_limit() {
            return Err(StageError::Wait);
        }
        self.charge(len)?;
        self.payloads.seal_active(chunks);
        // The payload starts at a multiple of `ALIGN`: its chunks are written in whole pages.
        let offset = align(self.undo_end);
        self.undo_end = offset.saturating_add(len);
        Ok(Extent {
            segment: self.seed.segment,
            offset,
            length: len,
        })
    }

    /// Takes a chunk for `len` bytes of a large payload, from `base` on.
    pub(super) fn hold<'a>(
        &mut self,
        chunks: &'a [Chunk],
        segment: u64,
        base: u64,
        len: usize,
    ) -> Result<(usize, Slot<'a>), StageError> {
        let opened = self.payloads.open(Phase::Held, segment, base, u64::MAX);
        let index = opened.ok_or(StageError::Wait)?;
        let slot = chunks.get(index).and_then(|c| c.reserve(len));
        Ok((index, slot.ok_or(StageError::Wait)?))
    }

    /// A large payload's chunk goes to the writer with its first `used` bytes.
    pub(super) fn submit(&mut self, chunks: &[Chunk], index: usize, used: u64) {
        // A ticket that flushes know only from now on: a chunk that is still being filled must not
        // block them.
        let ticket = self.ticket();
        let (Some(state), Some(chunk)) = (self.payloads.states.get_mut(index), chunks.get(index))
        else {
            return;
        };
        chunk.seal();
        state.used = used;
        state.ticket = ticket;
        state.phase = Phase::Sealed;
    }

    fn open_payload(&mut self, phase: Phase) -> Result<usize, StageError> {
        if self.payloads.free == 0 {
            return Err(StageError::Wait);
        }
        let base = align(self.undo_end);
        let ticket = self.ticket();
        self.opened = true;
        let opened = self.payloads.open(phase, self.seed.segment, base, ticket);
        opened.ok_or(StageError::Wait)
    }

    /// Whether the segment exceeds its limits so far that staging must wait for the next segment,
    /// which the maintenance worker is creating. Not while the segment is empty: it cannot end
    /// then, and the wait would not end. The steps of a revert add orphans without a line each, so
    /// an empty segment may have any number of bytes of orphans.
    fn is_over_limit(&self) -> bool {
        let is_over = self.undo_end.max(self.orphan_bytes) >= self.hard_limits.undo
            || self.log_end >= self.hard_limits.log;
        is_over && !self.is_empty()
    }

    /// Whether the active segment has neither lines nor payloads.
    fn is_empty(&self) -> bool {
        self.log_end == 0 && self.undo_end == 0
    }

    fn charge(&mut self, bytes: u64) -> Result<(), StageError> {
        if self.low_space {
            return Err(StageError::Denied);
        }
        if let Some(budget) = &mut self.budget {
            *budget = budget.checked_sub(bytes).ok_or(StageError::Denied)?;
        }
        Ok(())
    }

    /// Reserves space for `n` lines.
    pub(super) fn reserve_lines(&mut self, n: usize) -> Result<(), StageError> {
        // An undo must be possible without any space but the reserve.
        let is_full = self.budget.is_some_and(|left| left == 0 || self.low_space);
        if is_full && (self.reverts == 0 || self.reserve == 0) {
            return Err(StageError::Denied);
        }
        let reserved_lines = self.reserved_lines.saturating_add(n);
        // Line numbers come from the range that `state` has reserved durably; more need a write by
        // the maintenance worker.
        let numbers = self.seq_end.saturating_sub(self.seq);
        // One chunk is kept back, so that the active one can always be closed in the end.
        let chunks = self.lines.free.min(LINE_CHUNKS - 1);
        if reserved_lines > chunks.saturating_mul(LINES_PER_CHUNK)
            || reserved_lines > MOST.saturating_sub(self.objects.used())
            || reserved_lines as u64 > numbers
            || self.is_over_limit()
        {
            return Err(StageError::Wait);
        }
        self.reserved_lines = reserved_lines;
        Ok(())
    }

    /// Releases the space for `n` lines.
    pub(super) fn release_lines(&mut self, n: usize) {
        self.reserved_lines = self.reserved_lines.saturating_sub(n);
    }

    /// A slot for a reserved line of any length.
    pub(super) fn line_slot<'a>(&mut self, chunks: &'a [Chunk]) -> Option<Slot<'a>> {
        let reserve = |index: usize| chunks.get(index)?.reserve(MAX_LINE);
        if let Some(slot) = self.lines.active.and_then(reserve) {
            return Some(slot);
        }
        // The rest of the chunk is shorter than the longest line; the reservation counted on a free
        // chunk.
        self.lines.seal_active(chunks);
        let ticket = self.ticket();
        self.opened = true;
        let (segment, base) = (self.seed.segment, self.log_end);
        reserve(self.lines.open(Phase::Active, segment, base, ticket)?)
    }

    /// The reserved line is placed and has `len` bytes.
    pub(super) fn line_placed(&mut self, len: u64) {
        self.reserved_lines = self.reserved_lines.saturating_sub(1);
        self.seq = self.seq.wrapping_add(1);
        self.log_end = self.log_end.saturating_add(len);
        if let Some(state) = self.lines.active.and_then(|i| self.lines.states.get_mut(i)) {
            state.used = state.used.saturating_add(len);
        }
        // Lines may exceed the budget: those reserved before it ran out, and those of reverts,
        // which the reserve is for.
        if let Some(budget) = &mut self.budget {
            let beyond = len.saturating_sub(*budget);
            *budget = budget.saturating_sub(len);
            self.reserve = self.reserve.saturating_sub(beyond);
        }
    }

    /// Whether the active line chunk may be closed early without breaking a reservation.
    fn may_seal_lines(&self) -> bool {
        self.reserved_lines <= self.lines.free.saturating_mul(LINES_PER_CHUNK)
    }

    /// Whether staging a record made further work due: a new segment, a chunk for the writer, the
    /// commit timer.
    #[inline(always)]
    pub(super) fn is_something_due(&self) -> bool {
        self.opened || !self.armed || self.is_segment_full()
    }

    /// Whether the segment is large enough to end.
    #[inline(always)]
    pub(super) fn is_segment_full(&self) -> bool {
        self.log_end >= self.limits.log
            || self.undo_end >= self.limits.undo
            || self.orphan_bytes >= self.limits.undo
            || self.objects.used() >= MANY
    }

    /// Ends the active segment if it is full (or with `force`), not empty, and the next segment
    /// exists. Returns whether it ended.
    pub(super) fn roll(&mut self, pools: (&[Chunk], &[Chunk]), force: bool) -> bool {
        // The previous segment must be sealed first: only one can be `ended`.
        if self.is_empty() || self.ended.is_some() || !(force || self.is_segment_full()) {
            return false;
        }
        // Sealing the active chunk gives its rest away, which a reservation may count on.
        if !self.may_seal_lines() {
            return false;
        }
        let Some(next) = self.next else { return false };
        let Some(mut table) = self.spare.take() else {
            return false;
        };
        self.next = None;
        // The next payload file is preallocated and recycled only if payloads are likely to fill
        // it.
        self.is_undo_heavy = self.undo_end >= self.limits.undo / 2;
        self.payloads.seal_active(pools.0);
        self.lines.seal_active(pools.1);
        core::mem::swap(&mut self.objects, &mut table);
        self.ended_objects = Some(table);
        self.ended = Some(Ended {
            segment: self.seed.segment,
            log_end: self.log_end,
            undo_end: self.undo_end,
        });
        self.enter(next);
        self.log_end = 0;
        self.undo_end = 0;
        self.orphan_bytes = 0;
        true
    }

    /// From now on lines go to `segment`.
    pub(super) fn enter(&mut self, segment: u64) {
        self.seed.segment = segment;
        // The seed depends on the segment, so that a line of a recycled file is not valid in
        // another segment.
        self.sum_start = self.seed.start(crc32c);
    }

    /// Begins a pass of the writer: closes the active chunks that are wanted written. Answers the
    /// ticket up to which everything is wanted durable, and whether lines are to be written: only
    /// those that are closed by now, whose payloads are, too.
    pub(super) fn begin_pass(&mut self, pools: (&[Chunk], &[Chunk])) -> (Option<u64>, bool) {
        let needs_lines = self.needs_lines();
        if needs_lines {
            self.want_written = self.want_written.max(self.tickets);
        }
        // A durable line needs its payload durable, which needs both written.
        let wanted = self.want_written.max(self.want_durable);
        if self.payloads.active().is_some_and(|m| m.ticket <= wanted) {
            self.payloads.seal_active(pools.0);
        }
        let may_seal = self.may_seal_lines();
        let seal = |m: &ChunkState| m.ticket <= wanted && (may_seal || m.used == 0);
        if self.lines.active().is_some_and(seal) {
            self.lines.seal_active(pools.1);
        }
        // Chunks of lines that are sealed after this point belong to the next pass: their payloads
        // may not be written in this one.
        self.lines.pass = self.lines.pass.wrapping_add(1);
        self.pass_ticket = self.tickets;
        self.held_back = false;
        let target = (self.want_durable > self.durable).then_some(self.want_durable);
        (target, needs_lines)
    }

    /// Whether all payloads that this pass's lines refer to are written. A payload may still be
    /// filled by its caller; then the lines are held back, since a line on disk without its payload
    /// could not be reverted. Lines are written all the same when a caller waits for space: the
    /// owner of the unfinished payload may be that caller.
    pub(super) fn may_write_lines(&mut self) -> bool {
        self.held_back = self.payloads.has_pending(self.pass_ticket);
        !self.held_back || self.waiting != 0
    }

    /// Whether everything up to `ticket` is written.
    pub(super) fn is_written(&self, ticket: u64) -> bool {
        !self.payloads.has_pending(ticket) && !self.lines.has_pending(ticket)
    }

    /// How many chunks wait to be written up to `ticket`.
    pub(super) fn pending(&self, ticket: u64) -> usize {
        (self.payloads.pending(ticket)).saturating_add(self.lines.pending(ticket))
    }

    /// Whether to queue the writer: half of the chunks are waiting to be written, or a caller is
    /// waiting.
    pub(super) fn needs_writer(&self) -> bool {
        self.payloads.backlog() >= PAYLOAD_CHUNKS / 2
            || self.lines.backlog() >= LINE_CHUNKS / 2
            || self.waiting != 0
            || self.flushing != 0
            || self.held_back
    }

    /// Whether a caller that waits for space needs the maintenance worker, which makes segments and
    /// reserves line numbers.
    pub(super) fn needs_maintenance(&self) -> bool {
        let numbers = self.seq_end.saturating_sub(self.seq);
        self.is_segment_full() || self.ended.is_some() || numbers < FEW_NUMBERS
    }

    /// Whether this pass writes lines. Writing lines requires an fsync of their payloads first, so
    /// the pass waits until half of the line chunks are full, unless a caller waits for a line or
    /// for durability.
    fn needs_lines(&self) -> bool {
        let backlog = self.lines.backlog();
        backlog >= LINE_CHUNKS / 2
            || self.lines.has_pending(self.want_written)
            || self.want_durable > self.durable
            || (backlog != 0 && (self.waiting != 0 || self.ended.is_some()))
    }

    /// Whether nothing of `segment` is staged any more.
    pub(super) fn is_segment_written(&self, segment: u64) -> bool {
        self.larges == 0 && !self.payloads.has_segment(segment) && !self.lines.has_segment(segment)
    }

    /// Whether the line there is staged only.
    pub(super) fn is_line_staged(&self, segment: u64, offset: u64) -> bool {
        self.lines.has_byte(segment, offset)
    }

    /// Whether some of the payload there is staged only.
    pub(super) fn is_payload_staged(&self, extent: &Extent) -> bool {
        let end = extent.offset.saturating_add(extent.length);
        self.payloads.states.iter().any(|m| {
            m.phase != Phase::Free
                && m.segment == extent.segment
                && m.base < end
                && m.base.saturating_add(m.used) > extent.offset
        })
    }
}

/// The next multiple of [`ALIGN`].
pub(super) fn align(offset: u64) -> u64 {
    offset.checked_next_multiple_of(ALIGN).unwrap_or(offset)
}
