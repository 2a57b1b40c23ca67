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
pub(super) struct Meta {
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

impl Meta {
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
    pub(super) metas: [Meta; N],
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
        let free = Meta {
            phase: Phase::Free,
            segment: 0,
            base: 0,
            used: 0,
            ticket: 0,
            pass: 0,
        };
        Self {
            metas: [free; N],
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
        let index = self.metas.iter().position(|m| m.phase == Phase::Free)?;
        *self.metas.get_mut(index)? = Meta {
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
        let (Some(meta), Some(chunk)) = (self.metas.get_mut(index), chunks.get(index)) else {
            return;
        };
        self.active = None;
        if meta.used == 0 {
            meta.phase = Phase::Free;
            self.free = self.free.saturating_add(1);
            return;
        }
        meta.phase = Phase::Sealed;
        meta.pass = self.pass;
        chunk.seal();
    }

    /// The state of the active chunk.
    pub(super) fn active(&self) -> Option<&Meta> {
        self.metas.get(self.active?)
    }

    /// Whether something with `ticket` or an earlier one waits to be written.
    pub(super) fn has_pending(&self, ticket: u64) -> bool {
        self.metas.iter().any(|m| m.is_pending(ticket))
    }

    /// How many chunks have something that waits with `ticket` or an earlier one.
    pub(super) fn pending(&self, ticket: u64) -> usize {
        self.metas.iter().filter(|m| m.is_pending(ticket)).count()
    }

    /// How many chunks wait for the writer.
    pub(super) fn backlog(&self) -> usize {
        let waits = |m: &&Meta| m.phase == Phase::Sealed;
        self.metas.iter().filter(waits).count()
    }

    /// Whether anything of `segment` is still to be written.
    pub(super) fn has_segment(&self, segment: u64) -> bool {
        let holds = |m: &Meta| m.phase != Phase::Free && m.segment == segment;
        self.metas.iter().any(holds)
    }

    /// Whether the byte at `offset` of `segment` is still to be written.
    pub(super) fn has_byte(&self, segment: u64, offset: u64) -> bool {
        self.metas.iter().any(|m| {
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
        let holds = |m: &Meta| {
            m.phase != Phase::Free
                && m.segment == segment
                && offset >= m.base
                && offset < m.base.saturating_add(m.used)
        };
        let (index, meta) = (self.metas.iter().enumerate()).find(|(_, m)| holds(m))?;
        let start = usize::try_from(offset.checked_sub(meta.base)?).ok()?;
        let most = usize::try_from(meta.used).ok()?.saturating_sub(start);
        let most = most.min(out.len());
        chunks.get(index)?.peek(start, out.get_mut(..most)?)
    }

    /// The oldest complete chunk, for the writer; of those closed before this pass, if `is_late`
    /// says so.
    pub(super) fn take(&mut self, chunks: &[Chunk], is_late: bool) -> Option<Batch> {
        let (index, _) = (self.metas.iter().enumerate())
            .filter(|(i, m)| {
                m.phase == Phase::Sealed
                    && (m.pass < self.pass || !is_late)
                    && chunks.get(*i).is_some_and(Chunk::is_complete)
            })
            .min_by_key(|(_, m)| m.ticket)?;
        let meta = self.metas.get_mut(index)?;
        meta.phase = Phase::Writing;
        Some(Batch {
            index,
            segment: meta.segment,
            base: meta.base,
        })
    }

    /// Ends the writing of a chunk: frees it, or after an error queues it again.
    pub(super) fn give_back(&mut self, batch: Batch, written: bool, chunks: &[Chunk]) {
        let Some(meta) = self.metas.get_mut(batch.index) else {
            return;
        };
        if written && chunks.get(batch.index).is_some_and(Chunk::reset) {
            meta.phase = Phase::Free;
            self.free = self.free.saturating_add(1);
        } else {
            meta.phase = Phase::Sealed;
        }
    }
}
