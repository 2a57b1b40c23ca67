// SPDX-License-Identifier: GPL-2.0

//! Limits group requests to one per user at a time, since each holds memory for its plan. Other
//! users do not wait.

use crate::vfs::{
    quota::sleep_killable,
    task::{self, ProcessKey}, //
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::Mutex,
    time::{Instant, Monotonic}, //
};

/// Time limit of waiting for another request of the same user.
const REQUEST_TIMEOUT_MS: i64 = 30_000;

/// Poll interval.
const REQUEST_POLL_MS: u32 = 10;

/// A user with a running request.
struct RunningRequest {
    uid: u32,
    /// The requesting process, in the initial namespace.
    pid: u32,
}

/// The users with running requests.
#[pin_data]
pub(crate) struct RequestSlots {
    #[pin]
    requests: Mutex<KVec<RunningRequest>>,
}

impl RequestSlots {
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            requests <- new_mutex!(KVec::new(), "RequestSlots::requests"),
        })
    }

    /// Waits for the slot of the caller's user, or for a fatal signal. `Busy`: time limit exceeded.
    pub(crate) fn take(&self) -> Result<RequestSlot<'_>, SlotFailure> {
        let process = ProcessKey::current();
        let since: Instant<Monotonic> = Instant::now();
        loop {
            let taken = self.try_take(&process).map_err(SlotFailure::Error)?;
            let Some(pid) = taken else {
                return Ok(RequestSlot {
                    request_slots: self,
                    uid: process.uid,
                });
            };
            if since.elapsed().as_millis() > REQUEST_TIMEOUT_MS {
                return Err(SlotFailure::Busy(task::pid_for_caller(pid)));
            }
            if !sleep_killable(REQUEST_POLL_MS) {
                return Err(SlotFailure::Error(EINTR));
            }
        }
    }

    /// The process of the user's running request, or `None` after taking the slot.
    fn try_take(&self, process: &ProcessKey) -> Result<Option<u32>> {
        let mut requests = self.requests.lock();
        if let Some(other) = requests.iter().find(|request| request.uid == process.uid) {
            return Ok(Some(other.pid));
        }
        let request = RunningRequest {
            uid: process.uid,
            pid: process.pid,
        };
        requests.push(request, GFP_KERNEL)?;
        Ok(None)
    }
}

/// The reason why no slot was taken.
pub(crate) enum SlotFailure {
    /// Another request of the same user, by this process (0 if the caller cannot see it), runs for
    /// longer than the time limit.
    Busy(u32),
    /// A fatal signal, or no memory.
    Error(Error),
}

/// A user's slot, until dropped.
pub(crate) struct RequestSlot<'a> {
    request_slots: &'a RequestSlots,
    uid: u32,
}

impl Drop for RequestSlot<'_> {
    fn drop(&mut self) {
        let mut requests = self.request_slots.requests.lock();
        requests.retain(|request| request.uid != self.uid);
    }
}
