// SPDX-License-Identifier: GPL-2.0

//! Each user's turn at a request that takes operations of several objects back: one request of a user
//! at a time holds memory for its plan. Other users do not wait for it.

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

/// For how long a request waits for another one of the same user.
const PATIENCE_MS: i64 = 30_000;

/// How often a request that waits looks again.
const LOOK_MS: u32 = 10;

/// A user whose request is under way.
struct Entry {
    uid: u32,
    /// The process that asked, in the initial namespace.
    pid: u32,
}

/// The users whose requests are under way.
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

    /// Waits for the turn of the caller's user, until a signal kills the caller. `Busy`: the other
    /// request takes too long.
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

    /// The process of the request that is under way; `None`: it is the caller's turn now.
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

/// A user's turn, until it is dropped.
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
