// SPDX-License-Identifier: GPL-2.0

//! [`Reservation`]: space in staging for lines, taken before an operation runs, so that placing its
//! line cannot fail once it has happened. Holds no lock.

use kernel::prelude::*;

use super::{journal::Journal, payload::Wait, staging::Staging};
use crate::{
    log::{
        line::{FastNameRecord, FastRecord, LineDraft, LineError, NameTemplate},
        types::{ObjectId, Pos},
    },
    vfs::{error::ESHUTDOWN, scope::crc32c},
};

/// The most lines that space is reserved for in one call.
pub(crate) const MAX_RESERVED_LINES: u32 = 16;

/// The number and position of a placed line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    /// Its number.
    pub(crate) seq: u64,
    /// Its position.
    pub(crate) at: Pos,
}

/// Why a line was not placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PlaceError {
    /// The journal has moved on to this segment. The caller must draft the line again, since the
    /// first line of an object or an open file in a segment has more keys.
    Moved(u64),
    /// The draft is no line.
    Line(LineError),
    /// The journal is closed, or no space was left in the reservation.
    Failed(Error),
}

impl Journal {
    /// Reserves space for `n` lines, at most [`MAX_RESERVED_LINES`]. Sleeps while staging is full.
    pub(crate) fn reserve_lines(&self, n: u32) -> Result<Reservation<'_>> {
        self.reserve(n, Wait::Always)
    }

    /// As [`Journal::reserve_lines`], before anything is changed: `EINTR` when the caller is killed. The lower
    /// filesystem may be frozen, and then others may have all the space for as long as that lasts.
    pub(crate) fn reserve_lines_killable(&self, n: u32) -> Result<Reservation<'_>> {
        self.reserve(n, Wait::Killable)
    }

    /// As [`Journal::reserve_lines`], but answers `EAGAIN` instead of sleeping.
    pub(crate) fn try_reserve_lines(&self, n: u32) -> Result<Reservation<'_>> {
        self.reserve(n, Wait::Never)
    }

    fn reserve(&self, n: u32, wait: Wait) -> Result<Reservation<'_>> {
        if n > MAX_RESERVED_LINES {
            return Err(EINVAL);
        }
        // CAST: At most MAX_RESERVED_LINES.
        let left = n as usize;
        self.when_space(wait, |staging| staging.reserve_lines(left))?;
        Ok(Reservation {
            journal: self,
            left,
        })
    }
}

/// Space for lines.
pub(crate) struct Reservation<'a> {
    pub(super) journal: &'a Journal,
    pub(super) left: usize,
}

impl Reservation<'_> {
    /// Numbers, seals and stages a line about `object`. Never sleeps.
    pub(crate) fn place(
        &mut self,
        draft: &LineDraft<'_>,
        object: ObjectId,
        expected_segment: u64,
    ) -> Result<Placed, PlaceError> {
        self.place_sealed(Some(object), expected_segment, false, |staging, out| {
            draft.seal(staging.seq, &staging.seed, crc32c, out)
        })
    }

    /// As [`Reservation::place`], for a line that is of no object.
    pub(crate) fn place_apart(
        &mut self,
        draft: &LineDraft<'_>,
        expected_segment: u64,
    ) -> Result<Placed, PlaceError> {
        self.place_sealed(None, expected_segment, true, |staging, out| {
            draft.seal(staging.seq, &staging.seed, crc32c, out)
        })
    }

    /// As [`Reservation::place`], for a template line; with `is_last`, the rest of the reservation
    /// is released.
    pub(crate) fn place_fast(
        &mut self,
        mut record: FastRecord<'_>,
        object: ObjectId,
        expected_segment: u64,
        is_last: bool,
    ) -> Result<Placed, PlaceError> {
        self.place_sealed(Some(object), expected_segment, is_last, |staging, out| {
            record.seal(staging.seq, staging.sum_start, crc32c, out)
        })
    }

    /// As [`Reservation::place`], for a template line about a name.
    pub(crate) fn place_fast_name(
        &mut self,
        record: &FastNameRecord<'_>,
        template: &mut NameTemplate,
        expected_segment: u64,
    ) -> Result<Placed, PlaceError> {
        self.place_sealed(
            Some(record.directory),
            expected_segment,
            true,
            |staging, out| record.seal(template, staging.seq, staging.sum_start, crc32c, out),
        )
    }

    #[inline(always)]
    fn place_sealed(
        &mut self,
        object: Option<ObjectId>,
        expected_segment: u64,
        is_last: bool,
        seal: impl FnOnce(&Staging, &mut [u8]) -> Result<usize, LineError>,
    ) -> Result<Placed, PlaceError> {
        let journal = self.journal;
        let mut guard = journal.staging.lock();
        let staging = &mut *guard;
        // The draft was made for one segment: its first lines there have more keys, and the
        // checksum depends on the segment.
        let segment = staging.seed.segment;
        if segment != expected_segment {
            return Err(PlaceError::Moved(segment));
        }
        if self.left == 0 || staging.closed {
            return Err(PlaceError::Failed(ESHUTDOWN));
        }
        // The line is written and numbered under one lock, so numbers ascend in the log.
        let Some(mut slot) = staging.line_slot(&journal.line_chunks) else {
            return Err(PlaceError::Failed(ENOSPC));
        };
        let seq = staging.seq;
        let sealed = seal(staging, slot.bytes());
        slot.finish_short(sealed.unwrap_or(0));
        let len = sealed.map_err(PlaceError::Line)?;
        let offset = staging.log_end;
        if let Some(object) = object {
            // The reservation kept a free slot in the table, so this cannot fail.
            staging.objects.set(object, offset);
        }
        staging.line_placed(len as u64);
        self.left = self.left.wrapping_sub(1);
        if is_last && self.left != 0 {
            self.release_with(staging);
        }
        journal.after_staging(staging);
        Ok(Placed {
            seq,
            at: Pos { segment, offset },
        })
    }

    /// Releases the rest of the reservation before the caller sleeps: others may need that space to
    /// let it continue.
    pub(crate) fn release(&mut self) {
        if self.left != 0 {
            let journal = self.journal;
            self.release_with(&mut journal.staging.lock());
        }
    }

    /// Takes space for a line, if there is none left.
    pub(crate) fn renew(&mut self) -> Result {
        if self.left == 0 {
            *self = self.journal.reserve_lines(1)?;
        }
        Ok(())
    }

    /// Releases the rest of the reservation.
    #[inline]
    fn release_with(&mut self, staging: &mut Staging) {
        staging.release_lines(self.left);
        self.left = 0;
        if staging.waiting != 0 {
            self.journal.progress.notify_all();
        }
    }
}

impl Drop for Reservation<'_> {
    #[inline]
    fn drop(&mut self) {
        self.release();
    }
}
