// SPDX-License-Identifier: GPL-2.0

//! The maintenance worker: seals segments that have ended, creates the next one, reserves line
//! numbers, drops the oldest segments, merges index tables.
//!
//! All of this runs in advance, so that no operation of a user creates a file of the history.

use kernel::prelude::*;

use super::{
    journal::{
        new_table,
        Journal, //
    },
    meta::{
        write_table,
        HistoryMeta, //
    },
    staging::{
        Ended,
        ObjectTable, //
    },
};
use crate::vfs::{
    scope::{
        KernelCreds,
        MemallocNofs, //
    },
    worker::WorkerJob, //
};

/// The worker's index, as the journal has two.
pub(super) const MAINTENANCE: u8 = 1;

/// How many line numbers are reserved at a time.
const NUMBERS: u64 = 1 << 20;

/// How many seconds until another try after an error.
const RETRY_SECONDS: u32 = 1;

impl WorkerJob<MAINTENANCE> for Journal {
    fn run(&self, _is_timer: bool) {
        let _kernel = KernelCreds::new();
        let result = self.run_maintenance();
        let mut staging = self.staging.lock();
        // `wait_for_maintenance()` waits for `maintenance_rounds` to change.
        staging.maintenance_rounds = staging.maintenance_rounds.wrapping_add(1);
        if result.is_ok() {
            staging.maintenance_error.last = None;
        }
        drop(staging);
        self.progress.notify_all();
        if let Err(error) = result {
            self.fail(error, |staging| &mut staging.maintenance_error);
            self.maintenance.queue_after(RETRY_SECONDS);
        }
    }
}

impl Journal {
    /// Begins a mount: the first segment, reserved numbers, the state durable and not clean.
    pub(super) fn begin(&self) -> Result {
        let (_kernel, _nofs) = (KernelCreds::new(), MemallocNofs::new());
        let mut meta = self.meta.lock();
        let mut files = self.files.lock();
        let first = meta.state.first.max(1);
        let segment = meta.state.segment.max(1);
        let seq = meta.state.seq.max(1);
        meta.state.first = first;
        meta.state.segment = segment.checked_add(1).ok_or(EOVERFLOW)?;
        meta.state.seq = seq.checked_add(NUMBERS).ok_or(EOVERFLOW)?;
        // Durable before the first record: from now on a crash needs recovery.
        meta.state.clean = false;
        meta.state.reread = self.oldest_intent();
        meta.state.orphan_bytes = self.orphan_bytes();
        files.set_first(first);
        files.create(segment, true)?;
        files.sync_names()?;
        meta.store(&self.tables.lock())?;
        meta.home.dir.sync()?;
        let mut staging = self.staging.lock();
        staging.enter(segment);
        staging.seq = seq;
        staging.seq_end = meta.state.seq;
        staging.sealed_log = meta.state.log_bytes;
        staging.sealed_undo = meta.state.undo_bytes;
        staging.reserve = self.reserve_bytes();
        drop(staging);
        self.set_budget();
        Ok(())
    }

    /// Does all that is due.
    fn run_maintenance(&self) -> Result {
        let mut meta = self.meta.lock();
        self.reserve_numbers(&mut meta)?;
        // First make space, so that sealing and the next segment do not fail for lack of it.
        self.trim(&mut meta)?;
        self.seal_ended(&mut meta)?;
        self.prepare_next(&mut meta)?;
        self.roll_if_due();
        self.progress.notify_all();
        self.trim(&mut meta)?;
        self.refill_reserve(&meta)?;
        self.allocate(&meta)?;
        self.free_inodes(&meta);
        drop(meta);
        self.merge()
    }

    /// Reserves more line numbers when half of them are used.
    fn reserve_numbers(&self, meta: &mut HistoryMeta) -> Result {
        let left = {
            let staging = self.staging.lock();
            staging.seq_end.saturating_sub(staging.seq)
        };
        if left > NUMBERS / 2 {
            return Ok(());
        }
        meta.state.seq = meta.state.seq.checked_add(NUMBERS).ok_or(EOVERFLOW)?;
        meta.store(&self.tables.lock())?;
        self.staging.lock().seq_end = meta.state.seq;
        Ok(())
    }

    /// Makes the files of the segment after the active one.
    fn prepare_next(&self, meta: &mut HistoryMeta) -> Result {
        if self.staging.lock().next.is_some() {
            return Ok(());
        }
        let next = meta.state.segment;
        meta.state.segment = next.checked_add(1).ok_or(EOVERFLOW)?;
        let is_undo_heavy = self.staging.lock().is_undo_heavy;
        // The number is durable before files with that number exist.
        let stored = meta.store(&self.tables.lock());
        let made = stored.and_then(|()| self.files.lock().create(next, is_undo_heavy));
        if let Err(error) = made {
            // The next try reuses the number and completes these files.
            meta.state.segment = next;
            return Err(error);
        }
        self.staging.lock().next = Some(next);
        Ok(())
    }

    /// Allocates payload files ahead of need, where payloads fill them and there is plenty of
    /// space.
    fn allocate(&self, meta: &HistoryMeta) -> Result {
        let target = {
            let staging = self.staging.lock();
            if !staging.is_undo_heavy {
                return Ok(());
            }
            staging.limits.undo
        };
        let free = meta.home.dir.space()?.free;
        let files = self.files.lock();
        for segment in files.writable() {
            if free > target.saturating_mul(4) {
                segment.allocate(target);
            }
        }
        Ok(())
    }

    /// Seals the ended segment, once everything in it is written.
    pub(super) fn seal_ended(&self, meta: &mut HistoryMeta) -> Result {
        let staging = self.staging.lock();
        let Some(ended) = staging.ended else {
            return Ok(());
        };
        if !staging.is_segment_written(ended.segment) {
            return Ok(());
        }
        drop(staging);
        let mut objects = self.seal(meta, ended)?;
        objects.clear();
        let mut staging = self.staging.lock();
        staging.ended = None;
        staging.spare = Some(objects);
        staging.sealed_log = meta.state.log_bytes;
        staging.sealed_undo = meta.state.undo_bytes;
        Ok(())
    }

    /// Makes an ended segment durable and writes its index table. Returns its table of objects.
    fn seal(&self, meta: &mut HistoryMeta, ended: Ended) -> Result<ObjectTable> {
        let segment = self.files.lock().to_write(ended.segment)?;
        // Payloads before lines, as the writer does: a line refers to its payload.
        segment.undo.end(ended.undo_end)?;
        segment.log.sync_written()?;
        self.files.lock().sync_names()?;
        // Recovery does not read the log of a segment that has a table, unless `reread` says so:
        // `state` must be durable first.
        let reread = self.oldest_intent();
        if reread != meta.state.reread {
            meta.state.reread = reread;
            meta.store(&self.tables.lock())?;
        }
        let objects = self.index(ended.segment)?;
        self.files.lock().end(ended.segment);
        let state = &mut meta.state;
        state.log_bytes = state.log_bytes.saturating_add(ended.log_end);
        state.undo_bytes = state.undo_bytes.saturating_add(ended.undo_end);
        Ok(objects)
    }

    /// Writes the index table of an ended segment, and returns its table of objects.
    ///
    /// `last_line()` looks in memory first and then takes the lock on the tables, so a reader that
    /// misses the object in memory waits here and finds the new table.
    fn index(&self, segment: u64) -> Result<ObjectTable> {
        let mut tables = self.tables.lock();
        let objects = self.staging.lock().ended_objects.take().ok_or(EINVAL)?;
        let written = write_table(&mut tables, segment, &objects);
        if let Err(error) = written {
            self.staging.lock().ended_objects = Some(objects);
            return Err(error);
        }
        Ok(objects)
    }

    /// Merges index tables while there are many of one size.
    fn merge(&self) -> Result {
        loop {
            let oldest = self.files.lock().first();
            let mut tables = self.tables.lock();
            let Some((start, merge)) = tables.next_merge()? else {
                return Ok(());
            };
            let (span, most) = merge.extent().ok_or(EINVAL)?;
            let mut out = tables.create(span, most)?;
            // A merge reads many blocks; look-ups must not wait for it.
            drop(tables);
            merge.write(oldest, &mut out)?;
            out.finish()?;
            let mut tables = self.tables.lock();
            tables.sync_names()?;
            tables.replace(start, span)?;
        }
    }

    /// Ends a mount: seals the last segment, and stores exact numbers and the mark of a clean
    /// unmount.
    pub(super) fn end(&self) -> Result {
        let (_kernel, _nofs) = (KernelCreds::new(), MemallocNofs::new());
        let mut meta = self.meta.lock();
        self.seal_ended(&mut meta)?;
        if self.staging.lock().spare.is_none() {
            let table = new_table()?;
            self.staging.lock().spare = Some(table);
        }
        self.prepare_next(&mut meta)?;
        // The last segment is sealed too, so the next mount reads no log.
        let rolled = self.staging.lock().roll(self.pools(), true);
        if rolled {
            self.seal_ended(&mut meta)?;
        }
        let staging = self.staging.lock();
        if staging.ended.is_some() {
            return Err(EIO);
        }
        drop(staging);
        self.trim(&mut meta)?;
        let staging = self.staging.lock();
        // The active segment is empty: its number was never used.
        meta.state.segment = staging.seed.segment;
        meta.state.seq = staging.seq;
        meta.state.orphan_bytes = self.orphan_bytes();
        meta.state.clean = true;
        drop(staging);
        meta.state.first = self.files.lock().first();
        meta.store(&self.tables.lock())
    }
}
