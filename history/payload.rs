// SPDX-License-Identifier: GPL-2.0

//! [`Payload`]: a payload that a caller stages, and fills. Holds no lock.
//!
//! The owner of a payload must finish it before waiting for a flush:
//! the writer cannot write lines before their payloads are complete, so the flush would wait for
//! its own caller.

use kernel::prelude::*;

use super::{
    flush::Patience,
    journal::{Journal, OnError, SpacePurpose, StagingGuard},
    reservation::{Reservation, MAX_RESERVED_LINES},
    staging::{StageError, Staging, PAYLOAD_CHUNK},
};
use crate::{
    log::types::Extent,
    vfs::{
        chunk::Slot,
        error::ESHUTDOWN,
        scope::{copy, crc32c},
    },
};

/// The longest payload that is staged in one piece.
pub(crate) const MAX_STAGED: usize = 64 * 1024;

/// Where a finished payload lies, and its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Staged {
    /// The range in the payload file; its length is the number of bytes pushed.
    pub(crate) extent: Extent,
    /// CRC-32C of the bytes.
    pub(crate) crc: u32,
}

/// How space in staging is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// Not at all: `EAGAIN`.
    Never,
    /// Until the caller is killed (`EINTR`): nothing is changed yet.
    Killable,
    /// Until there is some: the operation of the line has happened.
    Always,
}

impl Wait {
    fn patience(self) -> Patience {
        match self {
            Self::Killable => Patience::Killable,
            Self::Never | Self::Always => Patience::Endless,
        }
    }
}

impl Journal {
    /// Space for a payload of `len` bytes, at most [`MAX_STAGED`]. Sleeps while staging is full, until the
    /// caller is killed.
    pub(crate) fn stage(&self, len: usize) -> Result<Payload<'_>> {
        let len = stageable(len)?;
        let (slot, extent) = self.when_space(Wait::Killable, |staging| {
            staging.stage(&self.payload_chunks, len)
        })?;
        Ok(self.payload(slot, extent))
    }

    /// As [`Journal::stage`], but answers `EAGAIN` instead of sleeping.
    pub(crate) fn try_stage(&self, len: usize) -> Result<Payload<'_>> {
        let len = stageable(len)?;
        let (slot, extent) = self.when_space(Wait::Never, |staging| {
            staging.stage(&self.payload_chunks, len)
        })?;
        Ok(self.payload(slot, extent))
    }

    /// Stages a payload of `len` bytes, at most [`MAX_STAGED`], which `fill` fills, and reserves
    /// space for `n` lines: costs less than the same in steps. Sleeps while staging is full.
    #[inline]
    pub(crate) fn save(
        &self,
        len: usize,
        n: u32,
        fill: impl FnOnce(&mut [u8]) -> Result,
    ) -> Result<(Staged, Reservation<'_>)> {
        let len = stageable(len)?;
        // CAST: At most MAX_RESERVED_LINES.
        let left = n.min(MAX_RESERVED_LINES) as usize;
        let (mut slot, extent) = self.when_space(Wait::Killable, |staging| {
            // One lock section for both: an operation that has its payload but no line would have
            // to give it up.
            staging.reserve_lines(left)?;
            let staged = staging.stage(&self.payload_chunks, len);
            if staged.is_err() {
                staging.release_lines(left);
            }
            staged
        })?;
        let reservation = Reservation {
            journal: self,
            left,
        };
        let bytes = slot.bytes();
        let filled = fill(bytes);
        let crc = !crc32c(!0, bytes);
        self.finish_piece(slot);
        filled.map(|()| (Staged { extent, crc }, reservation))
    }

    #[inline]
    fn payload<'a>(&'a self, slot: Slot<'a>, extent: Extent) -> Payload<'a> {
        Payload {
            journal: self,
            extent,
            piece: Some(StagedPiece { slot, done: 0 }),
            held: None,
            pushed: 0,
            state: !0,
        }
    }

    /// Reserves one range of the payload file for a payload of any length. The bytes pass through
    /// staging in chunks; this call and the pushes sleep while no chunk is free. `ENOSPC`: the
    /// history may not grow by that much, see [`Journal::admit`].
    pub(crate) fn stage_large(&self, len: u64, purpose: SpacePurpose) -> Result<Payload<'_>> {
        if len == 0 {
            return Err(EINVAL);
        }
        self.admit(len, purpose)?;
        let extent = self.when_space(Wait::Killable, |staging| {
            let extent = staging.stage_large(&self.payload_chunks, len)?;
            staging.larges = staging.larges.saturating_add(1);
            Ok(extent)
        })?;
        Ok(Payload {
            journal: self,
            extent,
            piece: None,
            held: Some(None),
            pushed: 0,
            state: !0,
        })
    }

    /// Runs `take` under the staging lock, as soon as it succeeds.
    pub(super) fn when_space<T>(
        &self,
        wait: Wait,
        mut take: impl FnMut(&mut Staging) -> Result<T, StageError>,
    ) -> Result<T> {
        let mut has_asked = false;
        let mut staging = self.staging.lock();
        loop {
            if staging.closed {
                return Err(ESHUTDOWN);
            }
            if let (Some(error), OnError::Refuse) = (staging.error(), self.options.on_error) {
                return Err(error);
            }
            match take(&mut staging) {
                Ok(taken) => {
                    self.after_staging(&mut staging);
                    return Ok(taken);
                }
                Err(StageError::Denied) => {
                    // `low_space` may be outdated: the maintenance worker clears the flag when it can
                    // refill the reserve.
                    if !staging.low_space || wait == Wait::Never || has_asked {
                        return Err(ENOSPC);
                    }
                    has_asked = true;
                    staging = self.wait_for_maintenance(staging, wait)?;
                    continue;
                }
                Err(StageError::Wait) if wait == Wait::Never => {
                    self.writer.queue();
                    if staging.needs_maintenance() {
                        self.maintenance.queue();
                    }
                    return match staging.error() {
                        // A worker has failed: `EAGAIN` would make the caller retry without end.
                        Some(error) => Err(error),
                        None => Err(EAGAIN),
                    };
                }
                Err(StageError::Wait) => {}
            }
            if let Some(error) = staging.writer_error.last {
                return Err(error);
            }
            if let Some(error) = staging.maintenance_error.last {
                // The error may be outdated, and only the maintenance worker can create a segment;
                // its next own try is up to a second away.
                if has_asked {
                    return Err(error);
                }
                has_asked = true;
                staging = self.wait_for_maintenance(staging, wait)?;
                continue;
            }
            staging.waiting = staging.waiting.saturating_add(1);
            self.writer.queue();
            if staging.needs_maintenance() {
                self.maintenance.queue();
            }
            let waited;
            (staging, waited) = self.wait_for_progress(staging, wait.patience());
            staging.waiting = staging.waiting.saturating_sub(1);
            waited?;
        }
    }

    /// Waits until the maintenance worker has run once.
    #[cold]
    fn wait_for_maintenance<'j>(
        &'j self,
        mut staging: StagingGuard<'j>,
        wait: Wait,
    ) -> Result<StagingGuard<'j>> {
        let maintenance_rounds = staging.maintenance_rounds;
        while staging.maintenance_rounds == maintenance_rounds && !staging.closed {
            self.maintenance.queue();
            let waited;
            (staging, waited) = self.wait_for_progress(staging, wait.patience());
            waited?;
        }
        Ok(staging)
    }

    /// Does the work that staging a record made due: begins a new segment, queues the workers.
    #[inline(always)]
    pub(super) fn after_staging(&self, staging: &mut Staging) {
        if staging.is_something_due() {
            self.do_what_is_due(staging);
        }
    }

    #[cold]
    fn do_what_is_due(&self, staging: &mut Staging) {
        if staging.is_segment_full() && staging.roll(self.pools(), false) {
            self.writer.queue();
            self.maintenance.queue();
        }
        if staging.opened {
            staging.opened = false;
            if staging.needs_writer() {
                self.writer.queue();
            }
        }
        if !staging.armed {
            staging.armed = true;
            self.writer.queue_after(self.options.commit_seconds.max(1));
        }
    }

    /// Marks a payload's piece as filled; queues the writer if it waits for the piece.
    fn finish_piece(&self, slot: Slot<'_>) {
        if slot.finish() && self.staging.lock().needs_writer() {
            self.writer.queue();
        }
    }
}

/// The length of a payload that is staged in one piece.
fn stageable(len: usize) -> Result<usize> {
    if len == 0 || len > MAX_STAGED {
        return Err(EINVAL);
    }
    Ok(len)
}

/// A reserved range of a chunk and the number of bytes filled.
struct StagedPiece<'a> {
    slot: Slot<'a>,
    done: usize,
}

/// A payload being staged.
pub(crate) struct Payload<'a> {
    journal: &'a Journal,
    extent: Extent,
    piece: Option<StagedPiece<'a>>,
    /// For a large payload: the chunk that is being filled, if any.
    held: Option<Option<usize>>,
    pushed: u64,
    /// The checksum's state.
    state: u32,
}

impl<'a> Payload<'a> {
    /// How many bytes can still be pushed.
    pub(crate) fn remaining(&self) -> u64 {
        self.extent.length.saturating_sub(self.pushed)
    }

    /// CRC-32C of the bytes pushed so far.
    pub(crate) fn crc(&self) -> u32 {
        !self.state
    }

    /// Lets `source` fill at most `limit` bytes, in one piece unless the payload is a large one.
    /// Returns the number of bytes that `source` filled.
    pub(crate) fn fill(
        &mut self,
        limit: usize,
        source: impl FnOnce(&mut [u8]) -> Result<usize>,
    ) -> Result<usize> {
        if self.remaining() == 0 || limit == 0 {
            return Ok(0);
        }
        self.need_piece()?;
        let piece = self.piece.as_mut().ok_or(EINVAL)?;
        let rest = piece.slot.bytes().get_mut(piece.done..).unwrap_or_default();
        let len = rest.len().min(limit);
        let bytes = rest.get_mut(..len).unwrap_or_default();
        let filled = source(bytes)?;
        let filled = bytes.get(..filled).ok_or(EINVAL)?;
        // The checksum is computed while the bytes are in the CPU's cache.
        self.state = crc32c(self.state, filled);
        let n = filled.len();
        piece.done = piece.done.saturating_add(n);
        self.pushed = self.pushed.saturating_add(n as u64);
        Ok(n)
    }

    /// Pushes all of `bytes`.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result {
        if bytes.len() as u64 > self.remaining() {
            return Err(EINVAL);
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let n = self.fill(rest.len(), |space| {
                let (now, _) = rest.split_at_checked(space.len()).ok_or(EINVAL)?;
                copy(space, now);
                Ok(now.len())
            })?;
            rest = rest.get(n..).unwrap_or_default();
        }
        Ok(())
    }

    /// Says that all is pushed: the bytes are on their way, and a line may name them.
    pub(crate) fn finish(mut self) -> Result<Staged> {
        self.extent.length = self.pushed;
        let staged = Staged {
            extent: self.extent,
            crc: self.crc(),
        };
        self.submit_piece();
        Ok(staged)
    }

    /// Takes the next chunk of a large payload when the current one is full.
    fn need_piece(&mut self) -> Result {
        let is_filled = |piece: &mut StagedPiece<'_>| piece.slot.bytes().len() <= piece.done;
        if !self.piece.as_mut().is_none_or(is_filled) {
            return Ok(());
        }
        if self.held.is_none() {
            return Err(EINVAL);
        }
        self.submit_piece();
        // CAST: At most PAYLOAD_CHUNK.
        let len = self.remaining().min(PAYLOAD_CHUNK as u64) as usize;
        let (segment, base) = (
            self.extent.segment,
            self.extent.offset.saturating_add(self.pushed),
        );
        let journal = self.journal;
        let (index, slot) = journal.when_space(Wait::Killable, |staging| {
            staging.hold(&journal.payload_chunks, segment, base, len)
        })?;
        self.held = Some(Some(index));
        self.piece = Some(StagedPiece { slot, done: 0 });
        Ok(())
    }

    /// Submits the piece to the writer.
    fn submit_piece(&mut self) {
        let Some(piece) = self.piece.take() else {
            return;
        };
        let used = piece.done as u64;
        match self.held {
            None => self.journal.finish_piece(piece.slot),
            Some(Some(index)) => {
                piece.slot.finish();
                let mut staging = self.journal.staging.lock();
                staging.submit(&self.journal.payload_chunks, index, used);
                if staging.needs_writer() {
                    self.journal.writer.queue();
                }
                self.held = Some(None);
            }
            Some(None) => {}
        }
    }
}

impl Drop for Payload<'_> {
    fn drop(&mut self) {
        self.submit_piece();
        if self.held.is_some() {
            let mut staging = self.journal.staging.lock();
            staging.larges = staging.larges.saturating_sub(1);
            if staging.ended.is_some() {
                self.journal.maintenance.queue();
            }
        }
    }
}
