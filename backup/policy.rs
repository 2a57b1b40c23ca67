// SPDX-License-Identifier: GPL-2.0

//! What happens where the old state cannot be saved: the mount's `on_error=` and `on_full=` say so.
//!
//! The policy is asked before the operation, which the lower filesystem may refuse all the same. So an
//! answer is a [`CaptureFailure`] that counts nothing yet; who settles the operation counts it, once it is known
//! that something was changed.

use super::Captured;
use crate::{
    history::journal::{Journal, OnError, OnFull},
    stack::Mount, //
};
use kernel::prelude::*;

/// Why an operation that goes on cannot be taken back.
#[derive(Clone, Copy)]
#[must_use = "it is to be counted when the operation has changed something"]
pub(crate) struct CaptureFailure(pub(super) Error);

impl CaptureFailure {
    /// The line's `why=`.
    pub(super) fn why(self) -> &'static str {
        if self.0 == ENOSPC {
            "nospace"
        } else {
            "error"
        }
    }

    /// The operation has changed something: counts it, and warns.
    pub(super) fn count(self, mount: &Mount, journal: &Journal) {
        journal.count_lost();
        mount.warn_lost(self.0);
    }
}

/// Whether an operation may go on although its old state or its line cannot be saved. One that makes
/// room on the lower filesystem (`frees`) is not refused for want of room.
pub(super) fn allow(mount: &Mount, error: Error, frees: bool) -> Result<CaptureFailure> {
    let is_refused = if error == EINTR {
        // A killed caller: nothing has happened yet, and nothing will.
        true
    } else if error == ENOSPC {
        !frees && mount.on_full() == OnFull::Deny
    } else {
        mount.on_error() == OnError::Refuse
    };
    if is_refused {
        return Err(error);
    }
    Ok(CaptureFailure(error))
}

/// What was saved, or what the mount's policy makes of the failure.
pub(super) fn by_policy(
    mount: &Mount,
    captured: Result<Captured>,
    frees: bool,
) -> Result<CaptureOutcome> {
    match captured {
        Ok(captured) => Ok((captured, None)),
        Err(e) => {
            let failure = allow(mount, e, frees)?;
            Ok((Captured::Uncaptured(failure.why()), Some(failure)))
        }
    }
}

/// What was saved of an old state, and what is lost if the operation happens.
pub(super) type CaptureOutcome = (Captured, Option<CaptureFailure>);
