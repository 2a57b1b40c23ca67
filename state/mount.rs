// SPDX-License-Identifier: GPL-2.0

//! The state of a mount: the lower mount, the open journal, the policies, and the state that all
//! objects of the mount share.

use super::{
    request_slots::RequestSlots,
    space::{SpaceReclaim, SpaceRequest, RECLAIM_DELAYS_MS},
    IdentityCache, MmapFlusher, NameReadahead, ObjectRef, ObjectState,
};
use crate::{
    history::{
        journal::{self, Journal, OnError, OnFull},
        retention::PIECE, //
    },
    log::line::MAX_LINE,
    vfs::{
        attr,
        dentry::Dentry,
        inode::{Inode, UpperInode},
        mount::LowerMount,
        quota,
        task, //
    },
};
use kernel::{
    new_mutex,
    prelude::*,
    str::CString,
    sync::{
        atomic::{ordering::Relaxed, Atomic},
        Arc,
        Mutex, //
    }, //
};

/// The options of a mount that no remount changes.
pub(crate) struct MountSettings {
    /// Whether the mount has its own tmpfs.
    pub(crate) private: bool,
    /// `size=` of that tmpfs.
    pub(crate) size: Option<CString>,
    pub(crate) history_max: Option<u64>,
    pub(crate) on_full: OnFull,
    pub(crate) on_error: OnError,
    /// Seconds after which changes are durable without fsync.
    pub(crate) commit: u32,
    /// Whether lines record the arguments of programs.
    pub(crate) args: bool,
}

/// Rolls an incomplete revert of an object back. The inode lock and the state are held.
///
/// [`crate::record`] finds such a revert when it loads the object, but only [`crate::revert`], which
/// is above, can roll it back.
pub(crate) type RollBackHandler =
    fn(&Mount, &Journal, &UpperInode, &Dentry, &mut ObjectState) -> Result;

/// The arguments of [`Mount::new`].
pub(crate) struct MountParts {
    pub(crate) settings: MountSettings,
    /// Whether operations are recorded at first.
    pub(crate) recording: bool,
    pub(crate) journal: Option<OpenJournal>,
    pub(crate) lower: LowerMount,
    pub(crate) roll_back: RollBackHandler,
    /// Logs the pending writes through mappings of an object; called by the flusher.
    pub(crate) log_mmap_writes: fn(&UpperInode),
}

/// State of a mount.
#[pin_data]
pub(crate) struct Mount {
    /// First field, dropped first: the journal is closed before the lower mount.
    journal: Option<OpenJournal>,
    recording: Atomic<bool>,
    settings: MountSettings,
    roll_back: RollBackHandler,
    lost: Atomic<i64>,
    mmap_flusher: Arc<MmapFlusher>,
    /// Device number of the lower root.
    device: u32,
    #[pin]
    request_slots: RequestSlots,
    #[pin]
    name_readahead: NameReadahead,
    #[pin]
    scratch: Mutex<KBox<[u8; MAX_LINE]>>,
    #[pin]
    identities: IdentityCache,
    /// Last field, dropped last: the journal uses the lower mount.
    lower: LowerMount,
}

impl Mount {
    /// The mount below.
    pub(crate) fn lower(&self) -> &LowerMount {
        &self.lower
    }

    /// The journal; `None` while recording is off.
    pub(crate) fn journal(&self) -> Option<&Arc<Journal>> {
        self.any_journal().filter(|_| self.recording.load(Relaxed))
    }

    /// The options that no remount changes.
    pub(crate) fn settings(&self) -> &MountSettings {
        &self.settings
    }

    /// Whether operations are recorded, if there is a journal.
    pub(crate) fn is_recording(&self) -> bool {
        self.recording.load(Relaxed)
    }

    /// Sets whether operations are recorded.
    pub(crate) fn set_recording(&self, is_on: bool) {
        self.recording.store(is_on, Relaxed);
    }

    /// Rolls an incomplete revert of an object back. The inode lock and the state are held.
    #[cold]
    pub(crate) fn roll_back(&self, object: &ObjectRef<'_>, state: &mut ObjectState) -> Result {
        (self.roll_back)(self, object.journal, object.inode, object.lower, state)
    }

    /// Closes the journal. No inode can stage a line any more.
    pub(crate) fn close_journal(&self) {
        if let Some(open) = &self.journal {
            open.close();
        }
    }

    pub(crate) fn on_full(&self) -> OnFull {
        self.settings.on_full
    }

    pub(crate) fn on_error(&self) -> OnError {
        self.settings.on_error
    }

    /// Seconds after which changes are durable without fsync.
    pub(crate) fn commit(&self) -> u32 {
        self.settings.commit
    }

    /// Whether the mount has its own tmpfs.
    pub(crate) fn is_private(&self) -> bool {
        self.settings.private
    }

    /// Refuses to enter a subvolume below the source: a subvolume has its own inode number space,
    /// and the history identifies objects by number.
    pub(crate) fn refuse_other_volume(&self, inode: &Inode, lower: &Dentry) -> Result {
        if inode.is_directory() && self.is_other_volume(lower)? {
            return Err(EXDEV);
        }
        Ok(())
    }

    /// Whether a lower object is in another subvolume than the lower root.
    pub(crate) fn is_other_volume(&self, lower: &Dentry) -> Result<bool> {
        Ok(attr::device(&self.lower, lower)? != self.device)
    }

    /// The slots of group requests.
    pub(crate) fn request_slots(&self) -> &RequestSlots {
        &self.request_slots
    }

    /// The readahead state of directories.
    pub(crate) fn name_readahead(&self) -> &NameReadahead {
        &self.name_readahead
    }

    /// A buffer for a line of maximal length.
    pub(crate) fn scratch(&self) -> &Mutex<KBox<[u8; MAX_LINE]>> {
        &self.scratch
    }

    /// The flusher of writes through shared mappings.
    pub(crate) fn mmap_flusher(&self) -> &MmapFlusher {
        &self.mmap_flusher
    }

    /// The cache of process identities.
    pub(crate) fn identities(&self) -> &IdentityCache {
        &self.identities
    }

    /// With on_error=continue, turns a journal error into a warning.
    pub(crate) fn tolerate(&self, result: Result) -> Result {
        match result {
            Err(e) if self.settings.on_error == OnError::Continue => {
                self.warn_lost(e);
                Ok(())
            }
            other => other,
        }
    }

    /// Makes the history durable; interruptible by a fatal signal. The caller holds no lock.
    pub(crate) fn flush_killable(&self, journal: &Journal) -> Result {
        match journal.flush_killable(true) {
            Err(e) if e == EINTR => Err(e),
            flushed => self.tolerate(flushed),
        }
    }

    /// Makes the line of a refused revert durable, since the next mount would continue a revert
    /// without that line. Gives up on a fatal signal.
    pub(crate) fn flush_end_of_refused(&self, journal: &Journal) {
        match journal.flush_killable(true) {
            Err(e) if e != EINTR => self.warn_lost(e),
            _ => {}
        }
    }

    /// Runs `operation`; on ENOSPC or EDQUOT reclaims orphans, oldest first, and runs it again. The
    /// operation must drop all lower locks before returning.
    pub(crate) fn with_space<T>(
        &self,
        request: SpaceRequest<'_>,
        operation: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        self.with_space_if(|| true, request, operation)
    }

    /// As [`Self::with_space`], as long as `again` returns true.
    pub(crate) fn with_space_if<T>(
        &self,
        again: impl Fn() -> bool,
        request: SpaceRequest<'_>,
        mut operation: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        let mut reclaim = None;
        loop {
            let error = match operation() {
                Err(e) if journal::is_no_space(e) => e,
                result => return result,
            };
            let Some(journal) = self.journal().filter(|_| again()) else {
                return Err(error);
            };
            let reclaim =
                reclaim.get_or_insert_with(|| SpaceReclaim::new(journal, &self.lower, request));
            if !reclaim.reclaim_more(error).unwrap_or(false) {
                return Err(error);
            }
        }
    }

    /// As [`Self::with_space`], for a revert: releases the reserve instead of reclaiming history.
    pub(crate) fn with_reserve<T>(&self, mut operation: impl FnMut() -> Result<T>) -> Result<T> {
        // Doubled each time: a filesystem may require much more free space than the change uses.
        let mut share = PIECE;
        // Locks are held here, so not for as long as a write waits.
        let mut pauses = RECLAIM_DELAYS_MS.into_iter().take(8);
        loop {
            let result = operation();
            let Some(journal) = self.journal() else {
                return result;
            };
            if !matches!(&result, Err(e) if journal::is_no_space(*e)) {
                return result;
            }
            if !journal.free_space_for_revert(share) {
                // The reserve is used up. btrfs frees extents asynchronously, so the last part may
                // become free soon.
                match pauses.next() {
                    Some(pause) if quota::sleep_killable(pause) => {}
                    _ => return result,
                }
                let _ = self.lower.root().superblock().sync();
            }
            share = share.saturating_mul(2);
        }
    }

    /// Warns of an operation that cannot be undone; only at the first and at each power of two.
    pub(crate) fn warn_lost(&self, error: Error) {
        let n = self.lost.fetch_add(1, Relaxed);
        if n.count_ones() <= 1 {
            pr_warn!(
                "history: an operation went through that cannot be taken back (error {}, {} so far)\n",
                error.to_errno(),
                n.saturating_add(1)
            );
        }
    }

    /// The journal, also while recording is off.
    pub(crate) fn any_journal(&self) -> Option<&Arc<Journal>> {
        self.journal.as_ref().map(|open| &open.journal)
    }

    /// Allocates the state.
    pub(crate) fn new(parts: MountParts) -> Result<Pin<KBox<Self>>> {
        let scratch = KBox::zeroed(GFP_KERNEL)?;
        let device = attr::device(&parts.lower, parts.lower.root())?;
        let has_arguments = parts.settings.args;
        KBox::pin_init(
            try_pin_init!(Self {
                journal: parts.journal,
                recording: Atomic::new(parts.recording),
                roll_back: parts.roll_back,
                lost: Atomic::new(0),
                request_slots <- RequestSlots::new(),
                name_readahead <- NameReadahead::new(),
                mmap_flusher: MmapFlusher::new(parts.settings.commit, parts.log_mmap_writes)?,
                device,
                scratch <- new_mutex!(scratch, "Mount::scratch"),
                identities <- IdentityCache::new(has_arguments),
                settings: parts.settings,
                lower: parts.lower,
            }? Error),
            GFP_KERNEL,
        )
    }
}

/// An open journal, closed by Drop: a failed mount has no `->put_super`.
pub(crate) struct OpenJournal {
    journal: Arc<Journal>,
    closed: Atomic<bool>,
}

impl OpenJournal {
    pub(crate) fn new(journal: Arc<Journal>) -> Self {
        Self {
            journal,
            closed: Atomic::new(false),
        }
    }

    fn close(&self) {
        if self.closed.load(Relaxed) {
            return;
        }
        self.closed.store(true, Relaxed);
        // A mount that goes with its namespace is unmounted by an exiting task: exit_fs() has taken its
        // `fs_struct`, whose umask vfs_create() reads.
        let closed = task::call_on_workqueue(|| self.journal.close());
        if let Err(e) = closed.unwrap_or(Err(EIO)) {
            pr_warn!("history: not closed cleanly (error {})\n", e.to_errno());
        }
    }
}

impl Drop for OpenJournal {
    fn drop(&mut self) {
        self.close();
    }
}
