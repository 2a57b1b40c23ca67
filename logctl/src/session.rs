// SPDX-License-Identifier: MIT OR Apache-2.0

//! The session that this process is in, which for a person is the terminal.

use crate::actions::{nanoseconds, Action};
use crate::procfs::{own_session, started, uptime};
use crate::timeline::{Entry, Timeline};

/// A session. The kernel reuses its number once it has ended, so its beginning counts, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its number: that of the process that began it.
    pub sid: u32,
    /// When it began, in nanoseconds since 1970; earlier if that is not known.
    pub begin: i128,
}

/// By how much a session's beginning may be wrong, in nanoseconds: clocks are set.
const ABOUT: i128 = 60_000_000_000;

impl Session {
    /// That of this process. `now`: the time in nanoseconds since 1970.
    pub fn own(now: i128) -> Option<Self> {
        let sid = own_session()?;
        // A session outlasts the process that began it; but not the machine's run.
        let begin = now - uptime() + started(sid).unwrap_or(0);
        Some(Self { sid, begin })
    }

    /// Whether an operation was done in it.
    fn has(&self, entry: &Entry) -> bool {
        entry.actor.sid == Some(self.sid) && nanoseconds(entry.time) >= self.begin - ABOUT
    }

    /// Whether any operation of an action was done in it. Some lines, such as those of later writes through a
    /// file that is open, name no process; an action that has only such lines may be of any session.
    pub fn did(&self, timeline: &Timeline, action: &Action) -> bool {
        let mut is_known = false;
        for entry in action.operations(timeline) {
            if self.has(entry) {
                return true;
            }
            is_known |= entry.actor.sid.is_some();
        }
        !is_known
    }
}
