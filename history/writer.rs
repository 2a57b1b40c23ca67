// SPDX-License-Identifier: GPL-2.0

//! The writer: a worker that writes staged chunks to the files of their segments.
//!
//! The writer is queued when half of the chunks are full, when a caller waits, or `commit=` seconds
//! after the first record. Payloads are written and made durable before the lines that refer to
//! them, so a line on disk always has its payload, even after a power cut. The writer takes no lock
//! but the journal's, and never waits for a caller.

use kernel::{
    prelude::*,
    sync::Arc, //
};

use super::{
    journal::Journal,
    pool::Batch,
    retention::{FreedSpace, PIECE},
    segment::Segment,
    staging::align, //
};
use crate::vfs::{
    chunk::Chunk,
    error::EDQUOT,
    scope::KernelCreds,
    worker::WorkerJob, //
};

/// The worker's index, as the journal has two.
pub(super) const WRITER: u8 = 0;

/// How many seconds until another try after an error.
const RETRY_SECONDS: u32 = 1;

/// The most bytes of orphans that are removed for one chunk before the next try.
const MOST_ORPHANS: u64 = 8 * PIECE;

impl WorkerJob<WRITER> for Journal {
    fn run(&self, is_timer: bool) {
        let _kernel = KernelCreds::new();
        if is_timer {
            let mut staging = self.staging.lock();
            staging.armed = false;
            staging.want_durable = staging.last_ticket();
        }
        match self.write_all() {
            Ok(()) => self.written(),
            Err(error) => {
                self.fail(error, |staging| &mut staging.writer_error);
                self.writer.queue_after(RETRY_SECONDS);
            }
        }
    }
}

impl Journal {
    /// Writes complete chunks until none is left.
    fn write_all(&self) -> Result {
        loop {
            let (target, needs_lines) = self.staging.lock().begin_pass(self.pools());
            let mut progress = self.write_payloads()?;
            if needs_lines && self.staging.lock().may_write_lines() {
                // Payloads must be on stable storage before lines that refer to them: devices and
                // filesystems reorder writes.
                self.sync_undo()?;
                progress |= self.write_lines()?;
            }
            if let Some(target) = target {
                self.sync_logs()?;
                progress |= self.note_durable(target);
            }
            if !progress {
                return Ok(());
            }
            self.progress.notify_all();
        }
    }

    /// Records that everything up to `target` is durable. False: a part was not written yet.
    fn note_durable(&self, target: u64) -> bool {
        let mut staging = self.staging.lock();
        if !staging.is_written(target) {
            return false;
        }
        staging.durable = staging.durable.max(target);
        if staging.trim_at.is_some_and(|at| at <= target) {
            staging.trim_at = None;
            drop(staging);
            self.maintenance.queue();
        }
        true
    }

    /// Writes complete chunks of payloads; returns whether there were any.
    fn write_payloads(&self) -> Result<bool> {
        let mut progress = false;
        loop {
            let mut staging = self.staging.lock();
            let Some(batch) = staging.payloads.take(&self.payload_chunks, false) else {
                return Ok(progress);
            };
            // `staging` is a spinlock, and the write sleeps.
            drop(staging);
            let result = self.write(batch, &self.payload_chunks, true);
            let mut staging = self.staging.lock();
            (staging.payloads).end_write(batch, result.is_ok(), &self.payload_chunks);
            self.wake(staging.waiting);
            drop(staging);
            result?;
            progress = true;
        }
    }

    /// Writes complete chunks of lines; returns whether there were any.
    fn write_lines(&self) -> Result<bool> {
        let mut progress = false;
        loop {
            let mut staging = self.staging.lock();
            let Some(batch) = staging.lines.take(&self.line_chunks, true) else {
                return Ok(progress);
            };
            drop(staging);
            let result = self.write(batch, &self.line_chunks, false);
            let mut staging = self.staging.lock();
            (staging.lines).end_write(batch, result.is_ok(), &self.line_chunks);
            self.wake(staging.waiting);
            drop(staging);
            result?;
            progress = true;
        }
    }

    fn wake(&self, waiting: usize) {
        if waiting != 0 {
            self.progress.notify_all();
        }
    }

    /// Writes a chunk; when there is no space, again after space was made. No more than one segment
    /// is dropped in a row; of orphans, and of the reserve, more is freed each time, since a
    /// filesystem may ask for much more free space than one change takes.
    fn write(&self, batch: Batch, chunks: &[Chunk], is_payload: bool) -> Result {
        let chunk = chunks.get(batch.index).ok_or(EIO)?;
        let segment = self.files.lock().to_write(batch.segment)?;
        let mut last = None;
        let mut share = PIECE;
        loop {
            let result = write_chunk(chunk, batch, &segment, is_payload);
            match result {
                Err(e) if e == ENOSPC || e == EDQUOT => {}
                result => return result,
            }
            let freed = self.free_space(share)?;
            match freed {
                None => return result,
                Some(FreedSpace::Reserve) => share = share.saturating_mul(2),
                // Some filesystems free the space later: the writer retries in a second.
                Some(FreedSpace::Orphans) if share >= MOST_ORPHANS => return result,
                Some(FreedSpace::Orphans) => share = share.saturating_mul(2),
                _ if freed == last => return result,
                _ => {}
            }
            last = freed;
        }
    }

    /// Makes payloads durable, and names of files.
    fn sync_undo(&self) -> Result {
        self.files.lock().sync_names()?;
        self.sync_orphans()?;
        self.each_segment(|segment| segment.undo.sync_written())
    }

    /// Makes lines durable, and the payloads that were written meanwhile.
    fn sync_logs(&self) -> Result {
        self.sync_undo()?;
        self.each_segment(|segment| segment.log.sync_written())
    }

    /// Does `f` with each segment that is written, without holding a lock.
    fn each_segment(&self, f: impl Fn(&Segment) -> Result) -> Result {
        let mut last = 0;
        loop {
            // One segment at a time, since an fsync may take long and `files` is needed for
            // reading.
            let next: Option<Arc<Segment>> = {
                let files = self.files.lock();
                let later = files.writable().iter().filter(|s| s.number > last);
                later.min_by_key(|s| s.number).cloned()
            };
            let Some(segment) = next else { return Ok(()) };
            last = segment.number;
            f(&segment)?;
        }
    }

    /// Clears the error, wakes waiting callers, and queues the maintenance worker if a segment has
    /// ended.
    fn written(&self) {
        let mut staging = self.staging.lock();
        staging.writer_error.last = None;
        let segment = staging.ended.map(|ended| ended.segment);
        let is_maintenance_due = segment.is_some_and(|s| staging.is_segment_written(s));
        drop(staging);
        if is_maintenance_due {
            self.maintenance.queue();
        }
        self.roll_if_due();
        self.progress.notify_all();
    }

    /// Ends the segment if it is full: all callers may be waiting for the next one.
    pub(super) fn roll_if_due(&self) {
        let mut staging = self.staging.lock();
        if staging.is_segment_full() && staging.roll(self.pools(), false) {
            self.writer.queue();
            self.maintenance.queue();
        }
    }
}

/// Writes a chunk at its offset in its file.
fn write_chunk(chunk: &Chunk, batch: Batch, segment: &Segment, is_payload: bool) -> Result {
    let write = |bytes: &[u8], used: usize| {
        if is_payload {
            // CAST: A chunk's size.
            let whole = (align(used as u64) as usize).min(bytes.len());
            let bytes = bytes.get(..whole).ok_or(EIO)?;
            segment.undo.write(bytes, batch.base)
        } else {
            let bytes = bytes.get(..used).ok_or(EIO)?;
            segment.log.write(bytes, batch.base)
        }
    };
    chunk.drain(write).unwrap_or(Err(EIO))
}
