// SPDX-License-Identifier: GPL-2.0

//! The policy for an operation whose pre-image cannot be captured: `on_error=` and `on_full=`.
//!
//! The policy is applied before the operation, which may still fail below. A [`CaptureFailure`]
//! therefore counts nothing by itself: it is counted when the operation has changed something.

use crate::{
    history::journal::{Journal, OnError, OnFull},
    state::Mount,
};
use kernel::prelude::*;

/// The reason why an operation is not captured, although the policy lets it go on.
#[derive(Clone, Copy)]
#[must_use = "it is to be counted when the operation has changed something"]
pub(crate) struct CaptureFailure(pub(crate) Error);

impl CaptureFailure {
    /// Value of the line's `why=`.
    pub(crate) fn why(self) -> &'static str {
        if self.0 == ENOSPC {
            "nospace"
        } else {
            "error"
        }
    }

    /// Counts and warns, after the operation has changed something.
    pub(crate) fn count(self, mount: &Mount, journal: &Journal) {
        journal.count_lost();
        mount.warn_lost(self.0);
    }
}

/// Decides whether an operation goes on without a pre-image or a line. An operation that frees
/// space (`frees`) is not refused with ENOSPC.
pub(crate) fn allow(mount: &Mount, error: Error, frees: bool) -> Result<CaptureFailure> {
    let is_refused = if error == EINTR {
        // A fatal signal: the operation is not started.
        true
    } else if error == ENOSPC {
        // unlink(2) and truncate(2) must work on a full filesystem.
        !frees && mount.on_full() == OnFull::Deny
    } else {
        mount.on_error() == OnError::Refuse
    };
    if is_refused {
        return Err(error);
    }
    Ok(CaptureFailure(error))
}
