// SPDX-License-Identifier: GPL-2.0

//! A mount's journal: the only interface between the hooks and the history on disk.
//!
//! # Locks
//!
//! `meta` (a mutex, held over file I/O) → `files` → `tables` → `staging` (a spinlock, innermost).
//! [`Journal::stage`] and [`super::payload::Reservation::place`], which run for every operation, take
//! `staging` only. `intents` is taken alone or under `meta`; no lock is taken under `intents`.
//! `pins` is taken alone or under `meta`; `files` and `orphans` may be taken under `pins`. `orphans` is
//! taken alone or under `meta`, `pins` and `files`; none of these is taken under `orphans`.

use core::fmt;
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        lock::{
            spinlock::SpinLockBackend,
            Guard, //
        },
        new_condvar,
        new_mutex,
        new_spinlock,
        Arc,
        CondVar,
        CondVarTimeoutResult,
        Mutex,
        SpinLock, //
    },
    time::{
        msecs_to_jiffies,
        Instant,
        Monotonic, //
    },
};

use super::{
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
    log::{
        line::Op,
        types::{ObjectId, Pos, Seed, Time},
    },
    vfs::{
        attr,
        chunk::Chunk,
        error::{EDQUOT, ESHUTDOWN},
        store, task,
        worker::Worker,
    },
};

pub(crate) use super::admission::SpacePurpose;

pub(crate) use super::payload::{
    Payload,
    PlaceError,
    Placed,
    Reservation,
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

/// A revert that was begun, and neither committed nor cancelled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unfinished {
    /// The number of its line.
    pub(crate) seq: u64,
    /// The position of that line.
    pub(crate) at: Pos,
    /// The object that is reverted.
    pub(crate) object: ObjectId,
    /// The number of the first line of the revert's group; the revert's own number without a group.
    pub(crate) group: u64,
    /// Whether there is no such group. The other lines of one may be lost: nothing was changed then.
    pub(crate) is_alone: bool,
    /// The outcome of the group, as its first line has it; `None` if unknown. The revert's own line
    /// does not record it yet.
    pub(crate) end: Option<Op>,
}

/// A revert under way.
struct Intent {
    /// Identifies the revert while it runs; several reverts may begin in one segment.
    id: u64,
    /// The oldest segment that may hold a line or a payload of this revert.
    segment: u64,
    /// The number of a revert that could be neither completed nor rolled back; 0 while it runs.
    incomplete: u64,
    /// Set when the revert has ended: the intent is dropped when everything up to this ticket is
    /// durable.
    ended: Option<u64>,
    /// For a group of reverts: the number of its first line, and its outcome once there is one.
    /// Kept until each line of the group records the outcome.
    group: Option<(u64, Option<Op>)>,
}

/// For how long a flush in time waits for the writer to get on.
const PATIENCE_MS: i64 = 5_000;

/// The interval at which `flush_in_time()` checks for progress.
const LOOK_MS: u32 = 100;

/// Staging, locked.
pub(super) type StagingGuard<'j> = Guard<'j, Staging, SpinLockBackend>;

/// How a caller waits for the workers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Until the workers are done: the lower filesystem was changed already.
    Endless,
    /// As `Endless`, but a fatal signal ends the wait (`EINTR`).
    Killable,
    /// As `Killable`, but the wait ends when the workers make no progress; the caller polls.
    InTime,
}

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
    unfinished: Mutex<KVVec<Unfinished>>,
    /// See [`super::state::State::cut`].
    cut: u64,
    /// See [`super::state::State::recovered`].
    recovered: u64,
    /// Reverts that are under way or incomplete, or ended by a line that may not be durable.
    #[pin]
    intents: Mutex<KVVec<Intent>>,
    /// Where in the list the next one that is incomplete may be: recovery ends them in order.
    next_incomplete: Atomic<usize>,
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
            let intent = Intent {
                id: 0,
                segment: revert.at.segment,
                incomplete: revert.seq,
                ended: None,
                group: None,
            };
            intents.push(intent, GFP_KERNEL)?;
        }
        if let Some(segment) = orphans.oldest_unlogged() {
            let adoption = Intent {
                id: 0,
                segment,
                incomplete: ADOPTION,
                ended: None,
                group: None,
            };
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

    /// Reverts that were begun and not ended when the machine went down; the second call gives none.
    pub(crate) fn take_unfinished(&self) -> KVVec<Unfinished> {
        core::mem::take(&mut *self.unfinished.lock())
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

    /// Registers a revert that begins now: until `end_intent()`, recovery searches the logs from
    /// here on. Returns the identifier that `end_intent()` takes.
    pub(crate) fn begin_intent(&self) -> Result<u64> {
        let segment = self.segment();
        let mut intents = self.intents.lock();
        let newest = intents.iter().map(|i| i.id).max();
        let id = newest.unwrap_or(0).saturating_add(1);
        let intent = Intent {
            id,
            segment,
            incomplete: 0,
            ended: None,
            group: None,
        };
        intents.push(intent, GFP_KERNEL)?;
        Ok(id)
    }

    /// The line that says how a revert ended is placed.
    pub(crate) fn end_intent(&self, id: u64) {
        // The closing line has this ticket or an older one.
        let ticket = self.staging.lock().last_ticket();
        let mut intents = self.intents.lock();
        let mut open = intents.iter_mut().filter(|i| i.ended.is_none());
        if let Some(intent) = open.find(|i| i.id == id && i.incomplete == 0) {
            intent.ended = Some(ticket);
        }
    }

    /// Records that the group of reverts `id` has the first line `group` and, with `end`, how the
    /// group has ended. The outcome applies to all lines of the group that have no closing line of
    /// their own.
    pub(crate) fn note_group(&self, id: u64, group: u64, end: Option<Op>) {
        let mut intents = self.intents.lock();
        let mut open = intents.iter_mut().filter(|i| i.ended.is_none());
        if let Some(intent) = open.find(|i| i.id == id && i.incomplete == 0) {
            intent.group = Some((group, end));
        }
    }

    /// The state of the group of reverts with this first line: `Some(None)` while it runs,
    /// `Some(Some(op))` when it has ended and not all of its lines record that, `None` otherwise.
    pub(crate) fn group(&self, first: u64) -> Option<Option<Op>> {
        let intents = self.intents.lock();
        let mut groups = intents.iter().filter_map(|i| i.group);
        groups
            .find(|(group, _)| *group == first)
            .map(|(_, end)| end)
    }

    /// Marks a revert, whose line has the number `seq`, that could be neither completed nor rolled
    /// back. The intent stays open.
    pub(crate) fn mark_incomplete(&self, id: u64, seq: u64) {
        let mut intents = self.intents.lock();
        let mut open = intents.iter_mut().filter(|i| i.ended.is_none());
        if let Some(intent) = open.find(|i| i.id == id && i.incomplete == 0) {
            intent.incomplete = seq;
            intent.group = None;
        }
    }

    /// The line that says how such a revert ended all the same is placed.
    pub(crate) fn end_incomplete_intent(&self, seq: u64) {
        let ticket = self.staging.lock().last_ticket();
        let mut intents = self.intents.lock();
        let next = self.next_incomplete.load(Relaxed).min(intents.len());
        let is_it = |i: &usize| {
            let intent = intents.get(*i);
            intent.is_some_and(|intent| intent.ended.is_none() && intent.incomplete == seq)
        };
        let found = Iterator::chain(next..intents.len(), 0..next).find(is_it);
        let Some(index) = found else { return };
        if let Some(intent) = intents.get_mut(index) {
            intent.ended = Some(ticket);
        }
        self.next_incomplete.store(index.saturating_add(1), Relaxed);
    }

    /// Whether a revert is incomplete, or was left so by an earlier mount.
    fn has_incomplete(&self) -> bool {
        self.intents.lock().iter().any(|i| i.ended.is_none())
    }

    /// The segment from which on recovery has to look for reverts that did not end; 0: none.
    pub(super) fn oldest_intent(&self) -> u64 {
        let durable = self.staging.lock().durable;
        let mut intents = self.intents.lock();
        // A revert that has ended counts until its closing line is durable.
        intents.retain(|i| i.ended.is_none_or(|ticket| ticket > durable));
        intents.iter().map(|i| i.segment).min().unwrap_or(0)
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

    /// Waits until everything placed so far is written, or durable.
    pub(crate) fn flush(&self, durable: bool) -> Result {
        self.flush_as(durable, Patience::Endless)
    }

    /// As [`Journal::flush`], but `EINTR` when the caller is killed: while the lower filesystem is
    /// frozen, the worker is blocked. Staged records are not lost; the worker writes them after the
    /// thaw.
    pub(crate) fn flush_killable(&self, durable: bool) -> Result {
        self.flush_as(durable, Patience::Killable)
    }

    /// As [`Self::flush_killable`], durable, but `EBUSY` when the writer has made no progress for some seconds:
    /// others wait for the objects that the caller has locked.
    pub(crate) fn flush_in_time(&self) -> Result {
        self.flush_as(true, Patience::InTime)
    }

    /// Requests that everything placed so far becomes durable soon, without waiting.
    pub(crate) fn begin_flush(&self) {
        let mut staging = self.staging.lock();
        staging.want_durable = staging.want_durable.max(staging.last_ticket());
        drop(staging);
        self.writer.queue();
    }

    fn flush_as(&self, durable: bool, patience: Patience) -> Result {
        let mut staging = self.staging.lock();
        let ticket = staging.last_ticket();
        let failures = staging.writer_error.count;
        let mut since: Instant<Monotonic> = Instant::now();
        let mut left = (staging.durable, usize::MAX);
        staging.flushing = staging.flushing.saturating_add(1);
        let result = loop {
            let done = if durable {
                staging.durable >= ticket
            } else {
                staging.is_written(ticket)
            };
            if done {
                break Ok(());
            }
            // Only an error since the call counts: an older one may be cured by the retry that this
            // call requests.
            if staging.writer_error.count != failures {
                if let Some(e) = staging.writer_error.last {
                    break Err(e);
                }
            }
            if staging.closed {
                break Err(ESHUTDOWN);
            }
            if durable {
                staging.want_durable = staging.want_durable.max(ticket);
            } else {
                staging.want_written = staging.want_written.max(ticket);
            }
            if patience == Patience::InTime {
                let now = (staging.durable, staging.pending(ticket));
                if now != left {
                    (left, since) = (now, Instant::now());
                } else if since.elapsed().as_millis() > PATIENCE_MS {
                    break Err(EBUSY);
                }
            }
            self.writer.queue();
            let waited;
            (staging, waited) = self.wait_for_progress(staging, patience);
            if waited.is_err() {
                break waited;
            }
        };
        staging.flushing = staging.flushing.saturating_sub(1);
        result
    }

    /// Waits until something has happened that a caller may wait for, or a moment. `EINTR`: the caller is
    /// being killed, and that counts.
    pub(super) fn wait_for_progress<'j>(
        &'j self,
        mut staging: StagingGuard<'j>,
        patience: Patience,
    ) -> (StagingGuard<'j>, Result) {
        let is_signalled = match patience {
            Patience::Endless => {
                self.progress.wait(&mut staging);
                false
            }
            Patience::Killable => self.progress.wait_interruptible(&mut staging),
            Patience::InTime => {
                let moment = msecs_to_jiffies(LOOK_MS);
                let woken = (self.progress).wait_interruptible_timeout(&mut staging, moment);
                matches!(woken, CondVarTimeoutResult::Signal { .. })
            }
        };
        if !is_signalled {
            return (staging, Ok(()));
        }
        if task::is_killed() {
            return (staging, Err(EINTR));
        }
        // A signal that is not fatal stays pending and would end every interruptible sleep at once.
        drop(staging);
        attr::sleep_one_tick();
        (self.staging.lock(), Ok(()))
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
