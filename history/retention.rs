// SPDX-License-Identifier: GPL-2.0

//! Keeps the history within its maximum size: drops the oldest segments.

use kernel::{
    prelude::*,
    sync::atomic::Relaxed, //
};

use super::{
    dir_tree::remove_whole,
    journal::{
        Journal,
        OnFull, //
    },
    meta::HistoryMeta,
    orphans::OrphanStore,
    pins::Droppable,
    recovery::segments,
    segment::{
        Files,
        MODE, //
    },
    trust,
};
use crate::vfs::{
    error::ELOOP,
    scope::{KernelCreds, MemallocNofs},
    store::StoreDir, //
};

/// A file that only takes space, which is freed when there is none.
const RESERVE: &[u8] = b"reserve";

/// The maximum size of the reserve.
const RESERVE_BYTES: u64 = 5 << 20;

/// The first part of the reserve to be freed. Other users of a full filesystem would take the whole
/// reserve at once.
pub(crate) const PIECE: u64 = 64 * 1024;

/// The fewest segments that opening a history leaves: recovery reads the newest ones.
const FEW: usize = 2;

/// The kind of space that was freed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FreedSpace {
    /// The file that waits for a new use.
    Spare,
    /// Orphans of the oldest segment.
    Orphans,
    /// The oldest segment.
    Segment,
    /// The reserve.
    Reserve,
}

/// Frees space on the lower filesystem for a history that could not be opened for lack of it: the
/// reserve, else the spare payload file, else the oldest segment. False: nothing is left to free.
pub(super) fn free_for_open(root: &StoreDir, on_full: OnFull) -> Result<bool> {
    let home = trust::open(root, &|_, _| Ok(()), &|_| {})?;
    if shrink_reserve(&home.dir, RESERVE_BYTES)? {
        return Ok(true);
    }
    let mut files = Files::open(&home.dir)?;
    if files.free_spare()? {
        return Ok(true);
    }
    let segments = segments(&files)?;
    let oldest = segments.first().filter(|_| segments.len() > FEW);
    let Some(&oldest) = oldest.filter(|_| on_full == OnFull::Trim) else {
        return Ok(false);
    };
    let mut orphans = OrphanStore::open(&home.dir).ok();
    if let Some(orphans) = &mut orphans {
        let _ = orphans.mark_dropped(oldest);
    }
    files.remove(oldest)?;
    if let Some(orphans) = &mut orphans {
        orphans.drop_segment(oldest)?;
    }
    files.free_spare()?;
    Ok(true)
}

/// Frees `bytes` of the reserve. False: the reserve is empty.
fn shrink_reserve(home: &StoreDir, bytes: u64) -> Result<bool> {
    match home.open(RESERVE, true).and_then(trust::private_file) {
        Ok(reserve) if reserve.size() != 0 => {
            let rest = reserve.size().saturating_sub(bytes);
            match reserve.truncate(rest) {
                // btrfs has space of its own for removals, but for nothing else.
                Err(e) if e == ENOSPC => {
                    drop(reserve);
                    home.unlink(RESERVE)?;
                }
                result => result?,
            }
            Ok(true)
        }
        Ok(_) => Ok(false),
        Err(e) if e == ENOENT => Ok(false),
        Err(e) => Err(e),
    }
}

/// Removes files of dropped segments after a clean unmount. `state` is made durable before the
/// directories, so a power cut after the unmount may bring such names back (btrfs). They would use
/// space for ever, since no reader opens them.
pub(super) fn remove_dropped(first: u64, files: &mut Files, orphans: &mut OrphanStore) -> Result {
    let (_kernel, _nofs) = (KernelCreds::new(), MemallocNofs::new());
    for segment in segments(files)? {
        if segment >= first {
            break;
        }
        orphans.mark_dropped(segment)?;
        files.remove(segment)?;
    }
    orphans.drop_before(first)
}

impl Journal {
    /// Drops the oldest segments while there is more than may be.
    pub(super) fn trim(&self, meta: &mut HistoryMeta) -> Result {
        if self.options.on_full == OnFull::Trim {
            // The file that waits for a new use is not worth a segment of the history.
            while self.is_too_large() {
                let freed = self.files.lock().free_spare()?;
                if !freed && !self.drop_oldest(meta, false)? {
                    break;
                }
            }
        }
        self.set_budget();
        Ok(())
    }

    /// With `on_full=deny`: sets how many bytes more may be staged.
    pub(super) fn set_budget(&self) {
        if self.options.on_full == OnFull::Trim {
            return;
        }
        let mut staging = self.staging.lock();
        let ended = staging
            .ended
            .map_or(0, |e| e.log_end.saturating_add(e.undo_end));
        let used = (self.orphan_bytes())
            .saturating_add(staging.sealed_log)
            .saturating_add(staging.sealed_undo)
            .saturating_add(ended)
            .saturating_add(staging.log_end)
            .saturating_add(staging.undo_end);
        // The reserve is for the lines of reverts.
        let most = self.history_max.saturating_sub(self.reserve_bytes());
        let budget = most.saturating_sub(used);
        staging.budget = Some(budget);
        if budget != 0 {
            staging.reserve = self.reserve_bytes();
        }
    }

    /// Whether all files together take more than they may, or soon will.
    fn is_too_large(&self) -> bool {
        let spare = self.files.lock().spare_bytes();
        let orphans = self.orphan_bytes();
        let staging = self.staging.lock();
        let target = staging.limits.undo;
        // The spare file becomes the next segment's payload file. If that segment does not exist
        // yet, the file counts for it: dropping a segment leaves its file as the spare.
        let next = if staging.next.is_some() {
            target.saturating_add(spare)
        } else {
            target.max(spare)
        };
        let ended = staging
            .ended
            .map_or(0, |e| e.log_end.saturating_add(e.undo_end));
        (staging.sealed_log)
            .saturating_add(staging.sealed_undo)
            .saturating_add(ended)
            .saturating_add(staging.limits.log.max(staging.log_end))
            .saturating_add(target.max(staging.undo_end))
            .saturating_add(next)
            .saturating_add(self.reserve_bytes())
            .saturating_add(orphans)
            > self.history_max
    }

    /// The size of all orphans in bytes.
    pub(crate) fn orphan_bytes(&self) -> u64 {
        u64::try_from(self.orphan_bytes.load(Relaxed)).unwrap_or(0)
    }

    /// Counts the bytes of new orphans, and of removed ones.
    pub(crate) fn count_orphan_bytes(&self, more: u64, less: u64) {
        if more == 0 && less == 0 {
            return;
        }
        let signed = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.orphan_bytes
            .add(signed(more).saturating_sub(signed(less)), Relaxed);
        if more != 0 {
            let mut staging = self.staging.lock();
            staging.orphan_bytes = staging.orphan_bytes.saturating_add(more);
        }
        self.set_budget();
    }

    /// The size of the reserve: as much as can be staged, so that every staged record can be
    /// written, but at most an eighth of the maximum size.
    pub(super) fn reserve_bytes(&self) -> u64 {
        RESERVE_BYTES.min(self.history_max / 8)
    }

    /// The oldest segment, if sealed.
    pub(super) fn oldest_sealed(&self) -> Option<u64> {
        let oldest = self.files.lock().first();
        (oldest < self.staging.lock().first_unsealed()).then_some(oldest)
    }

    /// Drops the oldest sealed segment. False: there is none, or a running revert reads the
    /// segment, or the end of a revert that read it is not durable yet. In the last case the
    /// maintenance worker retries after the flush; with `last_resort`, the segment is dropped at
    /// once.
    fn drop_oldest(&self, meta: &mut HistoryMeta, last_resort: bool) -> Result<bool> {
        // A pin that comes from here on finds the next one as the first.
        let mut pins = self.pins.lock();
        let mut files = self.files.lock();
        let oldest = files.first();
        let durable = {
            let staging = self.staging.lock();
            if oldest >= staging.first_unsealed() {
                return Ok(false);
            }
            staging.durable
        };
        match pins.may_drop(oldest, durable) {
            Droppable::Yes => {}
            Droppable::Once(_) if last_resort => {}
            Droppable::Once(ticket) => {
                self.trim_once_durable(ticket);
                return Ok(false);
            }
            Droppable::No => return Ok(false),
        }
        // Readers must get `ENODATA` before the files are removed.
        files.set_first(oldest.saturating_add(1));
        meta.state.first = files.first();
        drop(pins);
        // If this fails and the machine goes down, the next mount adopts the segment's orphans.
        let _ = self.orphans.lock().mark_dropped(oldest);
        let removed = files.remove(oldest);
        if removed.is_err() {
            // The segment still exists and uses space, so it remains the oldest.
            files.set_first(oldest);
            meta.state.first = oldest;
            let _ = self.orphans.lock().unmark_dropped(oldest);
        }
        let (log, undo) = removed?;
        drop(files);
        // The directory keeps its mark, so the next recovery removes the rest.
        let freed = self
            .orphans
            .lock()
            .drop_segment(oldest)
            .unwrap_or_else(|e| {
                pr_warn!(
                    "orphans of segment {} stay (error {})\n",
                    oldest,
                    e.to_errno()
                );
                0
            });
        self.count_orphan_bytes(0, freed);
        meta.state.log_bytes = meta.state.log_bytes.saturating_sub(log);
        meta.state.undo_bytes = meta.state.undo_bytes.saturating_sub(undo);
        let mut staging = self.staging.lock();
        staging.sealed_log = meta.state.log_bytes;
        staging.sealed_undo = meta.state.undo_bytes;
        drop(staging);
        self.tables.lock().trim(meta.state.first)?;
        Ok(true)
    }

    /// The maintenance worker comes again as soon as lines are durable up to `ticket`.
    fn trim_once_durable(&self, ticket: u64) {
        let mut staging = self.staging.lock();
        staging.trim_at = Some(ticket);
        staging.want_durable = staging.want_durable.max(ticket);
        drop(staging);
        self.writer.queue();
    }

    /// Frees space on the lower filesystem for records that are already staged: the spare payload
    /// file, else orphans of the oldest segment, else that segment, else `bytes` of the reserve.
    /// `None`: nothing is left to free.
    pub(super) fn free_space(&self, bytes: u64) -> Result<Option<FreedSpace>> {
        let mut meta = self.meta.lock();
        let freed = self.free_unused(&mut meta, bytes)?;
        if freed.is_some() {
            // Some filesystems free blocks only at a sync. The next write shows whether that was
            // enough.
            let _ = meta.home.dir.dentry().superblock().sync();
        }
        Ok(freed)
    }

    /// As [`Self::free_space`], without the sync.
    fn free_unused(&self, meta: &mut HistoryMeta, bytes: u64) -> Result<Option<FreedSpace>> {
        if self.files.lock().free_spare()? {
            return Ok(Some(FreedSpace::Spare));
        }
        let trims = self.options.on_full == OnFull::Trim;
        if trims && self.reclaim_oldest(bytes)? {
            return Ok(Some(FreedSpace::Orphans));
        }
        if trims && self.drop_oldest(meta, false)? {
            self.files.lock().free_spare()?;
            return Ok(Some(FreedSpace::Segment));
        }
        if self.release_reserve(meta, bytes)? {
            return Ok(Some(FreedSpace::Reserve));
        }
        // Without space the closing line of a revert cannot become durable. Dropping a segment that
        // the revert read has one risk: after a power cut now, recovery rolls the whole revert
        // back.
        let dropped = trims && self.drop_oldest(meta, true)?;
        if dropped {
            self.files.lock().free_spare()?;
        }
        Ok(dropped.then_some(FreedSpace::Segment))
    }

    /// Frees space on the lower filesystem for a revert without dropping history: the spare payload
    /// file, else `bytes` of the reserve. False: there is neither.
    pub(crate) fn free_space_for_revert(&self, bytes: u64) -> bool {
        let _kernel = KernelCreds::new();
        let meta = self.meta.lock();
        let spare = self.files.lock().free_spare();
        if matches!(spare, Ok(false)) && !matches!(self.release_reserve(&meta, bytes), Ok(true)) {
            return false;
        }
        // Some filesystems give blocks back only then.
        spare.is_ok() && meta.home.dir.dentry().superblock().sync().is_ok()
    }

    /// Frees `bytes` of the reserve. False: the reserve is empty.
    fn release_reserve(&self, meta: &HistoryMeta, bytes: u64) -> Result<bool> {
        self.staging.lock().low_space = true;
        shrink_reserve(&meta.home.dir, bytes)
    }

    /// Fills the reserve while there is plenty of space.
    pub(super) fn refill_reserve(&self, meta: &HistoryMeta) -> Result {
        let space = meta.home.dir.space()?;
        let size = self.reserve_bytes().min(space.total / 16);
        if space.free < size.saturating_mul(2) {
            return Ok(());
        }
        let own = || {
            let reserve = meta.home.dir.create(RESERVE, MODE);
            reserve.and_then(trust::private_file)
        };
        let reserve = match own() {
            Err(e) if [EPERM, EINVAL, EISDIR, ELOOP].contains(&e) => {
                // Nothing that this module puts there.
                remove_whole(&meta.home.dir, RESERVE)?;
                own()?
            }
            reserve => reserve?,
        };
        if reserve.size() >= size || reserve.allocate(0, size).is_ok() {
            self.staging.lock().low_space = false;
        }
        Ok(())
    }
}
