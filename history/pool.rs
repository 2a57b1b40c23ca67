// SPDX-License-Identifier: GPL-2.0

//! The chunks of one kind: which are free, which is being filled, which wait to be written.

use crate::vfs::chunk::Chunk;

/// The present use of a chunk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing.
    Free,
    /// Records are being staged in the chunk.
    Active,
    /// One large payload is.
    Held,
    /// The chunk waits for the writer.
    Sealed,
    /// The writer is writing the chunk.
    Writing,
}

/// Where a chunk's bytes go.
#[derive(Clone, Copy)]
pub(super) struct ChunkState {
    pub(super) phase: Phase,
    /// The segment and the place in its file where its first byte goes.
    pub(super) segment: u64,
    pub(super) base: u64,
    /// How many of its bytes are records.
    pub(super) used: u64,
    /// Its number among all chunks that were ever opened or submitted.
    pub(super) ticket: u64,
    /// The writer's pass in which the chunk was sealed.
    pub(super) pass: u64,
}

impl ChunkState {
    /// Whether something waits to be written up to `ticket`.
    fn is_pending(&self, ticket: u64) -> bool {
        self.ticket <= ticket
            && match self.phase {
                Phase::Active => self.used != 0,
                Phase::Sealed | Phase::Writing => true,
                Phase::Free | Phase::Held => false,
            }
    }
}

/// The chunks of one kind.
pub(super) struct Pool<const N: usize> {
    /// The state of each chunk.
    pub(super) states: [ChunkState; N],
    /// The one that records are staged in.
    pub(super) active: Option<usize>,
    /// How many are free.
    pub(super) free: usize,
    /// The writer's pass.
    pub(super) pass: u64,
}

/// A chunk that the writer took.
#[derive(Clone, Copy)]
pub(super) struct Batch {
    pub(super) index: usize,
    pub(super) segment: u64,
    pub(super) base: u64,
}

impl<const N: usize> Pool<N> {
    /// All of them free.
    pub(super) fn new() -> Self {
        let free = ChunkState {
            phase: Phase::Free,
            segment: 0,
            base: 0,
            used: 0,
            ticket: 0,
            pass: 0,
        };
        Self {
            states: [free; N],
            active: None,
            free: N,
            pass: 0,
        }
    }

    /// Takes a free chunk.
    pub(super) fn open(
        &mut self,
        phase: Phase,
        segment: u64,
        base: u64,
        ticket: u64,
    ) -> Option<usize> {
        let index = self.states.iter().position(|m| m.phase == Phase::Free)?;
        *self.states.get_mut(index)? = ChunkState {
            phase,
            segment,
            base,
            used: 0,
            ticket,
            pass: self.pass,
        };
        self.free = self.free.saturating_sub(1);
        if phase == Phase::Active {
            self.active = Some(index);
        }
        Some(index)
    }

    /// Seals the active chunk; frees it if empty.
    pub(super) fn seal_active(&mut self, chunks: &[Chunk]) {
        let Some(index) = self.active else { return };
        let (Some(state), Some(chunk)) = (self.states.get_mut(index), chunks.get(index)) else {
            return;
        };
        self.active = None;
        if state.used == 0 {
            state.phase = Phase::Free;
            self.free = self.free.saturating_add(1);
            return;
        }
        state.phase = Phase::Sealed;
        state.pass = self.pass;
        chunk.seal();
    }

    /// The state of the active chunk.
    pub(super) fn active(&self) -> Option<&ChunkState> {
        self.states.get(self.active?)
    }

    /// Whether something with `ticket` or an earlier one waits to be written.
    pub(super) fn has_pending(&self, ticket: u64) -> bool {
        self.states.iter().any(|m| m.is_pending(ticket))
    }

    /// How many chunks have something that waits with `ticket` or an earlier one.
    pub(super) fn pending(&self, ticket: u64) -> usize {
        self.states.iter().filter(|m| m.is_pending(ticket)).count()
    }

    /// How many chunks wait for the writer.
    pub(super) fn backlog(&self) -> usize {
        let waits = |m: &&ChunkState| m.phase == Phase::Sealed;
        self.states.iter().filter(waits).count()
    }

    /// Whether anything of `segment` is still to be written.
    pub(super) fn has_segment(&self, segment: u64) -> bool {
        let holds = |m: &ChunkState| m.phase != Phase::Free && m.segment == segment;
        self.states.iter().any(holds)
    }

    /// Whether the byte at `offset` of `segment` is still to be written.
    pub(super) fn has_byte(&self, segment: u64, offset: u64) -> bool {
        self.states.iter().any(|m| {
            m.phase != Phase::Free
                && m.segment == segment
                && offset >= m.base
                && offset < m.base.saturating_add(m.used)
        })
    }

    /// Copies staged bytes of `segment` from `offset` on; returns their number. `None`: none are
    /// staged there, or the chunk is still being filled.
    pub(super) fn peek(
        &self,
        chunks: &[Chunk],
        segment: u64,
        offset: u64,
        out: &mut [u8],
    ) -> Option<usize> {
        let holds = |m: &ChunkState| {
            m.phase != Phase::Free
                && m.segment == segment
                && offset >= m.base
                && offset < m.base.saturating_add(m.used)
        };
        let (index, state) = (self.states.iter().enumerate()).find(|(_, m)| holds(m))?;
        let start = usize::try_from(offset.checked_sub(state.base)?).ok()?;
        let most = usize::try_from(state.used).ok()?.saturating_sub(start);
        let most = most.min(out.len());
        chunks.get(index)?.peek(start, out.get_mut(..most)?)
    }

    /// The oldest complete chunk, for the writer; of those closed before this pass, if `is_late`
    /// says so.
    pub(super) fn take(&mut self, chunks: &[Chunk], is_late: bool) -> Option<Batch> {
        let (index, _) = (self.states.iter().enumerate())
            .filter(|(i, m)| {
                m.phase == Phase::Sealed
                    && (m.pass < self.pass || !is_late)
                    && chunks.get(*i).is_some_and(Chunk::is_complete)
            })
            .min_by_key(|(_, m)| m.ticket)?;
        let state = self.states.get_mut(index)?;
        state.phase = Phase::Writing;
        Some(Batch {
            index,
            segment: state.segment,
            base: state.base,
        })
    }

    /// Ends the writing of a chunk: frees it, or after an error queues it again.
    pub(super) fn end_write(&mut self, batch: Batch, written: bool, chunks: &[Chunk]) {
        let Some(state) = self.states.get_mut(batch.index) else {
            return;
        };
        if written && chunks.get(batch.index).is_some_and(Chunk::reset) {
            state.phase = Phase::Free;
            self.free = self.free.saturating_add(1);
        } else {
            state.phase = Phase::Sealed;
        }
    }
}
