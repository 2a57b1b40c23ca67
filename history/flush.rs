// SPDX-License-Identifier: GPL-2.0

//! Waiting for the workers: for a flush, and for progress.

use kernel::{
    prelude::*,
    sync::CondVarTimeoutResult,
    time::{
        msecs_to_jiffies,
        Instant,
        Monotonic, //
    },
};

use super::journal::{Journal, StagingGuard};
use crate::vfs::{attr, error::ESHUTDOWN, task};

/// For how long a flush in time waits for the writer to get on.
const PATIENCE_MS: i64 = 5_000;

/// The interval at which `flush_in_time()` checks for progress.
const LOOK_MS: u32 = 100;

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

impl Journal {
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
}
