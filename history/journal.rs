// SPDX-License-Identifier: GPL-2.0

//! A mount's journal: the only interface between the hooks and the history on disk.
//!
//! # Locks
//!
//! `meta` (a mutex, held over file I/O) → `files` → `tables` → `staging` (a spinlock, innermost).
//! [`Journal::stage`] and [`super::reservation::Reservation::place`], which run for every operation, take
//! `staging` only. `intents` is taken alone or under `meta`; no lock is taken under `intents`.
//! `pins` is taken alone or under `meta`; `files` and `orphans` may be taken under `pins`. `orphans` is
//! taken alone or under `meta`, `pins` and `files`; none of these is taken under `orphans`.

use core::fmt;
use kernel::{
    prelude::*,
    sync::{
        atomic::Atomic,
        lock::{
            spinlock::SpinLockBackend,
            Guard, //
        },
        new_condvar,
        new_mutex,
        new_spinlock,
        Arc,
        CondVar,
        Mutex,
        SpinLock, //
    },
};

use super::{
    intents::Intent,
    maintenance::MAINTENANCE,
    meta::HistoryMeta,
    objects::{LastLine, Objects, SLOTS},
    orphans::{OrphanStore, ADOPTION},
    pins::Pins,
    recovery::{self, Removals},
    retention,
    segment::Files,
    sort::sort,
    staging::{self, Limits, Staging, WorkerError},
    tables::Tables,
    trust,
    writer::WRITER,
};
use crate::{
    log::types::{Pos, Seed, Time},
    vfs::{chunk::Chunk, error::EDQUOT, store, task, worker::Worker},
};

pub(crate) use super::{
    admission::SpacePurpose,
    intents::Unfinished,
    reservation::{PlaceError, Placed, Reservation},
};

pub(crate) use super::payload::{
    Payload,
    Staged,
    MAX_STAGED, //
};

/// `on_full=`: the policy when the history has reached its maximum size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnFull {
    /// The oldest segment is dropped.
    Trim,
    /// Operations fail with `ENOSPC`.
    Deny,
}

/// `on_error=`: the policy when the journal cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnError {
    /// The operation proceeds; its line says `undo=lost`.
    Continue,
    /// The operation is refused.
    Refuse,
}

/// How a mount wants its history.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// The maximum size in bytes; `None`: a share of the filesystem.
    pub(crate) history_max: Option<u64>,
    /// The policy when the history is full.
    pub(crate) on_full: OnFull,
    /// The policy when the journal cannot be written.
    pub(crate) on_error: OnError,
    /// How long a record may stay in memory, in seconds.
    pub(crate) commit_seconds: u32,
    /// Whether the lower filesystem is a private tmpfs.
    pub(crate) private: bool,
}

/// Staging, locked.
pub(super) type StagingGuard<'j> = Guard<'j, Staging, SpinLockBackend>;

/// The journal's sizes and counters, for status and statistics.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Where lines go now.
    pub(crate) segment: u64,
    /// The oldest segment.
    pub(crate) first_segment: u64,
    /// The next line's number.
    pub(crate) seq: u64,
    /// Bytes of lines.
    pub(crate) log_bytes: u64,
    /// Bytes of payloads.
    pub(crate) undo_bytes: u64,
    /// The most bytes of both.
    pub(crate) history_max: u64,
    /// How many old states were not saved.
    pub(crate) lost: u64,
    /// How many times the journal could not be written.
    pub(crate) errors: u64,
}

/// A mount's journal.
#[pin_data]
pub(crate) struct Journal {
    pub(super) options: Options,
    pub(super) history_max: u64,
    pub(super) uuid: [u8; 16],
    pub(super) payload_chunks: KVec<Chunk>,
    pub(super) line_chunks: KVec<Chunk>,
    #[pin]
    pub(super) staging: SpinLock<Staging>,
    /// Woken whenever space, a flush or a new segment may let a waiting caller continue.
    #[pin]
    pub(super) progress: CondVar,
    #[pin]
    pub(super) files: Mutex<Files>,
    /// Segments that running reverts read, which may not be dropped.
    #[pin]
    pub(super) pins: Mutex<Pins>,
    #[pin]
    pub(super) orphans: Mutex<OrphanStore>,
    /// Estimated bytes in orphans/: an orphan that is still open may grow and shrink.
    pub(super) orphan_bytes: Atomic<i64>,
    /// The number of new orphans until free inodes are looked at, see [`Journal::free_inodes`].
    pub(super) orphans_until_check: Atomic<i64>,
    #[pin]
    pub(super) tables: Mutex<Tables>,
    #[pin]
    pub(super) meta: Mutex<HistoryMeta>,
    #[pin]
    pub(super) unfinished: Mutex<KVVec<Unfinished>>,
    /// See [`super::state::State::cut`].
    cut: u64,
    /// See [`super::state::State::recovered`].
    recovered: u64,
    /// Reverts that are under way or incomplete, or ended by a line that may not be durable.
    #[pin]
    pub(super) intents: Mutex<KVVec<Intent>>,
    /// Where in the list the next one that is incomplete may be: recovery ends them in order.
    pub(super) next_incomplete: Atomic<usize>,
    #[pin]
    pub(super) writer: Worker<Journal, WRITER>,
    #[pin]
    pub(super) maintenance: Worker<Journal, MAINTENANCE>,
}

impl Journal {
    /// Opens the history below `root`, the root of the lower mount, or creates a new one there.
    ///
    /// `EPERM`: the history may be forged, or belongs to another directory; `EBUSY`: in use;
    /// `EUCLEAN`: damaged. `suits` checks that the lower filesystem has the features that a history
    /// needs. `explain` receives a sentence for the kernel's log with each of these errors.
    pub(crate) fn open(
        root: store::StoreDir,
        options: Options,
        suits: trust::Suits<'_>,
        explain: &dyn Fn(fmt::Arguments<'_>),
    ) -> Result<Arc<Self>> {
        loop {
            match Self::try_open(&root, options, suits, explain) {
                Err(e) if is_no_space(e) => {
                    if !retention::free_for_open(&root, options.on_full).unwrap_or(false) {
                        explain(format_args!(
                            "there is no room for the history's own files (error {})",
                            e.to_errno()
                        ));
                        return Err(e);
                    }
                }
                opened => return opened,
            }
        }
    }

    fn try_open(
        root: &store::StoreDir,
        options: Options,
        suits: trust::Suits<'_>,
        explain: &dyn Fn(fmt::Arguments<'_>),
    ) -> Result<Arc<Self>> {
        let home = trust::open(root, suits, explain)?;
        let history_max = history_max(root, &options)?;
        let limits = limits(history_max, &options);
        let explain_part = |e: &Error| {
            if is_no_space(*e) {
                return;
            }
            explain(format_args!(
                "a part of .loggerfs is missing, or not private to root (error {})",
                e.to_errno()
            ));
        };
        let mut files = Files::open(&home.dir).inspect_err(explain_part)?;
        let mut orphans = OrphanStore::open(&home.dir).inspect_err(explain_part)?;
        let mut tables = Tables::open(&home.dir, home.uuid).inspect_err(explain_part)?;
        let mut meta = HistoryMeta::open(home, &mut tables).inspect_err(explain_part)?;
        // Without a clean mark, `state` may be older than the logs.
        let unclean = !meta.is_new && !meta.state.clean;
        let mut unfinished = KVVec::new();
        if unclean {
            let mut removals = Removals::new();
            let found = (&mut unfinished, &mut removals);
            recovery::recover(&mut meta, &mut files, &mut tables, &mut orphans, found)
                .inspect_err(explain_part)?;
            meta.state.recovered = task::now().nanoseconds();
            meta.state.orphan_bytes = orphans.scan(&removals)?;
        } else if let Err(e) = retention::remove_dropped(meta.state.first, &mut files, &mut orphans)
        {
            pr_warn!("history: dropped segments stay (error {})\n", e.to_errno());
        }
        let orphan_bytes = meta.state.orphan_bytes;
        let (cut, recovered) = (meta.state.cut, meta.state.recovered);
        let mut pins = Pins::new();
        if !unfinished.is_empty() {
            // Recovered reverts read old segments; nothing may be dropped before they have ended.
            pins.pin_for_recovery()?;
        }
        let mut intents = KVVec::new();
        // Recovery ends the reverts of one group together.
        sort(&mut unfinished, |a: &Unfinished, b| {
            (a.group, a.seq) < (b.group, b.seq)
        });
        for revert in &unfinished {
            let intent = Intent::of_earlier_mount(revert.at.segment, revert.seq);
            intents.push(intent, GFP_KERNEL)?;
        }
        if let Some(segment) = orphans.oldest_unlogged() {
            let adoption = Intent::of_earlier_mount(segment, ADOPTION);
            intents.push(adoption, GFP_KERNEL)?;
        }
        let seed = Seed {
            uuid: meta.home.uuid,
            segment: 0,
        };
        let staging = Staging::new(seed, limits, new_table()?, new_table()?);
        let journal = Arc::pin_init(
            try_pin_init!(Self {
                options,
                history_max,
                uuid: seed.uuid,
                payload_chunks: chunks(staging::PAYLOAD_CHUNKS, staging::PAYLOAD_CHUNK)?,
                line_chunks: chunks(staging::LINE_CHUNKS, staging::LINE_CHUNK)?,
                staging <- new_spinlock!(staging, "Journal::staging"),
                progress <- new_condvar!("Journal::progress"),
                files <- new_mutex!(files, "Journal::files"),
                pins <- new_mutex!(pins, "Journal::pins"),
                orphans <- new_mutex!(orphans, "Journal::orphans"),
                orphan_bytes: Atomic::new(i64::try_from(orphan_bytes).unwrap_or(i64::MAX)),
                orphans_until_check: Atomic::new(0),
                tables <- new_mutex!(tables, "Journal::tables"),
                meta <- new_mutex!(meta, "Journal::meta"),
                unfinished <- new_mutex!(unfinished, "Journal::unfinished"),
                cut,
                recovered,
                intents <- new_mutex!(intents, "Journal::intents"),
                next_incomplete: Atomic::new(0),
                writer <- Worker::new(c"lfs-journal"),
                maintenance <- Worker::new(c"lfs-maintenance"),
            }),
            GFP_KERNEL,
        )?;
        journal.begin().inspect_err(explain_part)?;
        journal.writer.start(journal.clone());
        journal.maintenance.start(journal.clone());
        journal.maintenance.queue();
        Ok(journal)
    }

    /// Whether the line at `at` may describe a state that the file never reached: the line was
    /// written before an unclean shutdown, and data may be less durable than its line.
    pub(crate) fn is_before_cut(&self, at: Pos) -> bool {
        at.segment <= self.cut
    }

    /// Whether `time` is from before a machine went down without an unmount, or at least from before
    /// the mount that then put the history in order.
    pub(crate) fn is_before_recovery(&self, time: Time) -> bool {
        time.nanoseconds() < self.recovered
    }

    /// The history's own name.
    pub(crate) fn uuid(&self) -> &[u8; 16] {
        &self.uuid
    }

    /// The checksum seed of lines in `segment`.
    pub(crate) fn seed(&self, segment: u64) -> Seed {
        Seed {
            uuid: self.uuid,
            segment,
        }
    }

    /// The segment that lines go to now.
    pub(crate) fn segment(&self) -> u64 {
        self.staging.lock().seed.segment
    }

    /// The segment that lines go to now, and the number that the next one has.
    pub(super) fn position(&self) -> (u64, u64) {
        let staging = self.staging.lock();
        (staging.seed.segment, staging.seq)
    }

    /// Counts an old state that was not saved.
    pub(crate) fn count_lost(&self) {
        let mut staging = self.staging.lock();
        staging.lost = staging.lost.saturating_add(1);
    }

    /// The sizes and counters.
    pub(crate) fn usage(&self) -> Usage {
        let first_segment = self.files.lock().first();
        let staging = self.staging.lock();
        // Sizes of an ended segment are added to the sealed ones only when sealing is complete.
        let ended = staging.ended.map_or((0, 0), |e| (e.log_end, e.undo_end));
        let log = staging.sealed_log.saturating_add(ended.0);
        let undo = staging.sealed_undo.saturating_add(ended.1);
        Usage {
            segment: staging.seed.segment,
            first_segment,
            seq: staging.seq,
            log_bytes: log.saturating_add(staging.log_end),
            undo_bytes: undo.saturating_add(staging.undo_end),
            history_max: self.history_max,
            lost: staging.lost,
            errors: (staging.writer_error.count).saturating_add(staging.maintenance_error.count),
        }
    }

    /// Ends a clean mount: everything durable, the segment sealed, exact numbers stored. To be
    /// called once; every later call of anything fails with `ESHUTDOWN`.
    pub(crate) fn close(&self) -> Result {
        let flushed = self.flush(true);
        self.staging.lock().closed = true;
        // The workers hold references to the journal until they are stopped.
        self.writer.stop();
        self.maintenance.stop();
        let ended = flushed.and_then(|()| {
            if self.has_incomplete() {
                // Leaves the state unclean, as a crash would, so that the next mount runs recovery
                // and finds the revert.
                return Err(EIO);
            }
            self.end()
        });
        self.progress.notify_all();
        self.files.lock().close();
        self.orphans.lock().close();
        self.tables.lock().close();
        self.meta.lock().close();
        if let Err(e) = ended {
            pr_warn!(
                "the history was not closed in good order (error {})\n",
                e.to_errno()
            );
        }
        ended
    }

    /// Both kinds of chunks: payloads, lines.
    pub(super) fn pools(&self) -> (&[Chunk], &[Chunk]) {
        (&self.payload_chunks, &self.line_chunks)
    }

    /// Records that a worker failed to write, and wakes waiting callers.
    pub(super) fn fail(&self, error: Error, work: fn(&mut Staging) -> &mut WorkerError) {
        let mut staging = self.staging.lock();
        if staging.error().is_none() {
            pr_warn!(
                "the history cannot be written (error {})\n",
                error.to_errno()
            );
        }
        let worker_error = work(&mut staging);
        worker_error.last = Some(error);
        worker_error.count = worker_error.count.saturating_add(1);
        drop(staging);
        self.progress.notify_all();
    }
}

/// Whether the lower filesystem has no space.
pub(crate) fn is_no_space(error: Error) -> bool {
    error == ENOSPC || error == EDQUOT
}

/// `n` chunks of `size` bytes.
fn chunks(n: usize, size: usize) -> Result<KVec<Chunk>> {
    let mut chunks = KVec::with_capacity(n, GFP_KERNEL)?;
    for _ in 0..n {
        chunks.push(Chunk::new(size)?, GFP_KERNEL)?;
    }
    Ok(chunks)
}

/// An empty table of last lines.
pub(super) fn new_table() -> Result<staging::ObjectTable> {
    let slots = KVVec::from_elem(LastLine::FREE, SLOTS, GFP_KERNEL)?;
    let order = KVVec::from_elem(0, SLOTS, GFP_KERNEL)?;
    Ok(Objects::new(slots, order))
}

/// How large the history may be.
fn history_max(root: &store::StoreDir, options: &Options) -> Result<u64> {
    if let Some(max) = options.history_max {
        return Ok(max);
    }
    let total = root.space()?.total;
    Ok(if options.private {
        total / 4
    } else {
        (total / 5).min(10 << 30)
    })
}

/// How large a segment may be.
fn limits(history_max: u64, options: &Options) -> Limits {
    let most = if options.private { 16 << 20 } else { 64 << 20 };
    Limits {
        log: (history_max / 64).clamp(64 << 10, 4 << 20),
        undo: (history_max / 16).clamp(256 << 10, most),
    }
}
