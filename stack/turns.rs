// SPDX-License-Identifier: GPL-2.0

//! Limits group requests to one per user at a time, since each holds memory for its plan. Other
//! users do not wait.

use crate::{
    revert::Refusal,
    uapi::Reason,
    vfs::{
        quota::pause,
        task::{self, Process},
    }, //
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::Mutex,
    time::{Instant, Monotonic}, //
};

/// Time limit of waiting for another request of the same user.
const PATIENCE_MS: i64 = 30_000;

/// Poll interval.
const LOOK_MS: u32 = 10;

/// A user with a running request.
struct Entry {
    uid: u32,
    /// The requesting process, in the initial namespace.
    pid: u32,
}

/// The users with running requests.
#[pin_data]
pub(crate) struct Turns {
    #[pin]
    entries: Mutex<KVec<Entry>>,
}

impl Turns {
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            entries <- new_mutex!(KVec::new(), "Turns::entries"),
        })
    }

    /// Waits for the slot of the caller's user, or for a fatal signal. `Busy`: time limit exceeded.
    pub(crate) fn take(&self) -> Result<Turn<'_>, Refusal> {
        let process = Process::current();
        let since: Instant<Monotonic> = Instant::now();
        loop {
            let Some(pid) = self.try_take(&process)? else {
                return Ok(Turn {
                    turns: self,
                    uid: process.uid,
                });
            };
            if since.elapsed().as_millis() > PATIENCE_MS {
                return Err(Refusal::new(
                    Reason::Busy,
                    u64::from(task::pid_for_caller(pid)),
                ));
            }
            if !pause(LOOK_MS) {
                return Err(EINTR.into());
            }
        }
    }

    /// The process of the user's running request, or `None` after taking the slot.
    fn try_take(&self, process: &Process) -> Result<Option<u32>> {
        let mut entries = self.entries.lock();
        if let Some(other) = entries.iter().find(|entry| entry.uid == process.uid) {
            return Ok(Some(other.pid));
        }
        let entry = Entry {
            uid: process.uid,
            pid: process.pid,
        };
        entries.push(entry, GFP_KERNEL)?;
        Ok(None)
    }
}

/// A user's slot, until dropped.
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    uid: u32,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut entries = self.turns.entries.lock();
        entries.retain(|entry| entry.uid != self.uid);
    }
}
