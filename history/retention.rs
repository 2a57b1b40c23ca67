// SPDX-License-Identifier: GPL-2.0

//! Keeps the history within its maximum size: drops the oldest segments.

use kernel::{
    prelude::*,
    sync::atomic::Relaxed, //
};

use super::{
    books::Keep,
    journal::{
        Journal,
        OnFull, //
    },
    kept::{
        remove_whole,
        Kept, //
    },
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

/// A file that only takes space, to be given back when there is none.
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
pub(super) enum GaveUp {
    /// The file that waits for a new use.
    Spare,
    /// Objects that are kept with the oldest segment.
    Kept,
    /// The oldest segment.
    Segment,
    /// The reserve.
    Reserve,
}

/// Frees space on the lower filesystem for a history that could not be opened for lack of it: the
/// reserve, else the spare payload file, else the oldest segment. False: nothing is left to free.
pub(super) fn make_way(root: &StoreDir, on_full: OnFull) -> Result<bool> {
    let home = trust::open(root, &|_, _| Ok(()), &|_| {})?;
    if give_back(&home.dir, RESERVE_BYTES)? {
        return Ok(true);
    }
    let mut files = Files::open(&home.dir)?;
    if files.give_up_spare()? {
        return Ok(true);
    }
    let segments = segments(&files)?;
    let oldest = segments.first().filter(|_| segments.len() > FEW);
    let Some(&oldest) = oldest.filter(|_| on_full == OnFull::Trim) else {
        return Ok(false);
    };
    let mut kept = Kept::open(&home.dir).ok();
    if let Some(kept) = &mut kept {
        let _ = kept.mark_dropped(oldest);
    }
    files.remove(oldest)?;
    if let Some(kept) = &mut kept {
        kept.drop_segment(oldest)?;
    }
    files.give_up_spare()?;
    Ok(true)
}

/// Frees `bytes` of the reserve. False: the reserve is empty.
fn give_back(home: &StoreDir, bytes: u64) -> Result<bool> {
    match home.open(RESERVE, true).and_then(trust::private_file) {
        Ok(reserve) if reserve.size() != 0 => {
            let rest = reserve.size().saturating_sub(bytes);
            match reserve.truncate(rest) {
                // btrfs has room of its own for removals, but for nothing else.
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
pub(super) fn remove_dropped(first: u64, files: &mut Files, kept: &mut Kept) -> Result {
    let (_kernel, _nofs) = (KernelCreds::new(), MemallocNofs::new());
    for segment in segments(files)? {
        if segment >= first {
            break;
        }
        kept.mark_dropped(segment)?;
        files.remove(segment)?;
    }
    kept.drop_before(first)
}

impl Journal {
    /// Drops the oldest segments while there is more than may be.
    pub(super) fn trim(&self, keep: &mut Keep) -> Result {
        if self.options.on_full == OnFull::Trim {
            // The file that waits for a new use is not worth a segment of the history.
            while self.is_too_large() {
                let gave_up = self.files.lock().give_up_spare()?;
                if !gave_up && !self.drop_oldest(keep, false)? {
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
        let used = (self.kept_bytes())
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
        let kept = self.kept_bytes();
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
            .saturating_add(kept)
            > self.history_max
    }

    /// The size of all orphans in bytes.
    pub(crate) fn kept_bytes(&self) -> u64 {
        u64::try_from(self.kept_bytes.load(Relaxed)).unwrap_or(0)
    }

    /// Counts an object that is kept, or was given up.
    pub(crate) fn count_kept(&self, more: u64, less: u64) {
        if more == 0 && less == 0 {
            return;
        }
        let signed = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.kept_bytes
            .add(signed(more).saturating_sub(signed(less)), Relaxed);
        if more != 0 {
            let mut staging = self.staging.lock();
            staging.kept = staging.kept.saturating_add(more);
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
    fn drop_oldest(&self, keep: &mut Keep, last_resort: bool) -> Result<bool> {
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
        keep.state.first = files.first();
        drop(pins);
        // If this fails and the machine goes down, the next mount adopts the segment's orphans.
        let _ = self.kept.lock().mark_dropped(oldest);
        let removed = files.remove(oldest);
        if removed.is_err() {
            // The segment still exists and uses space, so it remains the oldest.
            files.set_first(oldest);
            keep.state.first = oldest;
            let _ = self.kept.lock().unmark_dropped(oldest);
        }
        let (log, undo) = removed?;
        drop(files);
        // The directory keeps its mark, so the next recovery removes the rest.
        let freed = self.kept.lock().drop_segment(oldest).unwrap_or_else(|e| {
            pr_warn!(
                "what was kept with segment {} stays (error {})\n",
                oldest,
                e.to_errno()
            );
            0
        });
        self.count_kept(0, freed);
        keep.state.log_bytes = keep.state.log_bytes.saturating_sub(log);
        keep.state.undo_bytes = keep.state.undo_bytes.saturating_sub(undo);
        let mut staging = self.staging.lock();
        staging.sealed_log = keep.state.log_bytes;
        staging.sealed_undo = keep.state.undo_bytes;
        drop(staging);
        self.tables.lock().trim(keep.state.first)?;
        Ok(true)
    }

    /// The keeper comes again as soon as lines are durable up to `ticket`.
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
    pub(super) fn make_room(&self, bytes: u64) -> Result<Option<GaveUp>> {
        let mut keep = self.keep.lock();
        let gave_up = self.give_up_unused(&mut keep, bytes)?;
        if gave_up.is_some() {
            // Some filesystems free blocks only at a sync. The next write shows whether that was
            // enough.
            let _ = keep.home.dir.dentry().superblock().sync();
        }
        Ok(gave_up)
    }

    /// As [`Self::make_room`], without the sync.
    fn give_up_unused(&self, keep: &mut Keep, bytes: u64) -> Result<Option<GaveUp>> {
        if self.files.lock().give_up_spare()? {
            return Ok(Some(GaveUp::Spare));
        }
        let trims = self.options.on_full == OnFull::Trim;
        if trims && self.give_up_oldest(bytes)? {
            return Ok(Some(GaveUp::Kept));
        }
        if trims && self.drop_oldest(keep, false)? {
            self.files.lock().give_up_spare()?;
            return Ok(Some(GaveUp::Segment));
        }
        if self.open_reserve(keep, bytes)? {
            return Ok(Some(GaveUp::Reserve));
        }
        // Without space the closing line of a revert cannot become durable. Dropping a segment that
        // the revert read has one risk: after a power cut now, recovery rolls the whole revert
        // back.
        let dropped = trims && self.drop_oldest(keep, true)?;
        if dropped {
            self.files.lock().give_up_spare()?;
        }
        Ok(dropped.then_some(GaveUp::Segment))
    }

    /// Frees space on the lower filesystem for a revert without dropping history: the spare payload
    /// file, else `bytes` of the reserve. False: there is neither.
    pub(crate) fn make_room_for_revert(&self, bytes: u64) -> bool {
        let _kernel = KernelCreds::new();
        let keep = self.keep.lock();
        let spare = self.files.lock().give_up_spare();
        if matches!(spare, Ok(false)) && !matches!(self.open_reserve(&keep, bytes), Ok(true)) {
            return false;
        }
        // Some filesystems give blocks back only then.
        spare.is_ok() && keep.home.dir.dentry().superblock().sync().is_ok()
    }

    /// Frees `bytes` of the reserve. False: the reserve is empty.
    fn open_reserve(&self, keep: &Keep, bytes: u64) -> Result<bool> {
        self.staging.lock().tight = true;
        give_back(&keep.home.dir, bytes)
    }

    /// Fills the reserve while there is plenty of space.
    pub(super) fn keep_reserve(&self, keep: &Keep) -> Result {
        let space = keep.home.dir.space()?;
        let size = self.reserve_bytes().min(space.total / 16);
        if space.free < size.saturating_mul(2) {
            return Ok(());
        }
        let own = || {
            let reserve = keep.home.dir.create(RESERVE, MODE);
            reserve.and_then(trust::private_file)
        };
        let reserve = match own() {
            Err(e) if [EPERM, EINVAL, EISDIR, ELOOP].contains(&e) => {
                // Nothing that this module puts there.
                remove_whole(&keep.home.dir, RESERVE)?;
                own()?
            }
            reserve => reserve?,
        };
        if reserve.size() >= size || reserve.allocate(0, size).is_ok() {
            self.staging.lock().tight = false;
        }
        Ok(())
    }
}
