// SPDX-License-Identifier: GPL-2.0

//! The policy for an operation whose pre-image cannot be captured: `on_error=` and `on_full=`.
//!
//! The policy is applied before the operation, which may still fail below. A [`CaptureFailure`]
//! therefore counts nothing by itself: it is counted when the operation has changed something.

use super::Captured;
use crate::{
    history::journal::{Journal, OnError, OnFull},
    stack::Mount, //
};
use kernel::prelude::*;

/// The reason why an operation is not captured, although the policy lets it go on.
#[derive(Clone, Copy)]
#[must_use = "it is to be counted when the operation has changed something"]
pub(crate) struct CaptureFailure(pub(super) Error);

impl CaptureFailure {
    /// Value of the line's `why=`.
    pub(super) fn why(self) -> &'static str {
        if self.0 == ENOSPC {
            "nospace"
        } else {
            "error"
        }
    }

    /// Counts and warns, after the operation has changed something.
    pub(super) fn count(self, mount: &Mount, journal: &Journal) {
        journal.count_lost();
        mount.warn_lost(self.0);
    }
}

/// Decides whether an operation goes on without a pre-image or a line. An operation that frees
/// space (`frees`) is not refused with ENOSPC.
pub(super) fn allow(mount: &Mount, error: Error, frees: bool) -> Result<CaptureFailure> {
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

/// The captured pre-image, or on failure the decision of the policy.
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

/// The captured pre-image, and the failure if there is none.
pub(super) type CaptureOutcome = (Captured, Option<CaptureFailure>);
