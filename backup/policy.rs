// SPDX-License-Identifier: GPL-2.0

//! What happens where the old state cannot be saved: the mount's `on_error=` and `on_full=` say so.

use super::Saved;
use crate::{
    history::journal::{Journal, OnError, OnFull},
    stack::Mount, //
};
use kernel::prelude::*;

/// What was saved, or what the mount's policy makes of the failure.
pub(super) fn by_policy(
    mount: &Mount,
    journal: &Journal,
    saved: Result<Saved>,
    frees: bool,
) -> Result<Saved> {
    match saved {
        // A killed caller: nothing has happened yet, and nothing will.
        Err(e) if e != EINTR => {
            tolerate_unless_freeing(mount, e, frees)?;
            journal.count_lost();
            let why = if e == ENOSPC { "nospace" } else { "error" };
            Ok(Saved::Lost(why))
        }
        saved => saved,
    }
}

/// Whether an operation may go on although its old state cannot be saved.
pub(super) fn tolerate(mount: &Mount, error: Error) -> Result {
    let refuse = if error == ENOSPC {
        mount.on_full() == OnFull::Deny
    } else {
        mount.on_error() == OnError::Refuse
    };
    if refuse {
        return Err(error);
    }
    mount.warn_lost(error);
    Ok(())
}

/// As [`tolerate`], for an operation that may make room: no room is no reason to refuse it.
pub(super) fn tolerate_unless_freeing(mount: &Mount, error: Error, frees: bool) -> Result {
    if frees && error == ENOSPC {
        mount.warn_lost(error);
        return Ok(());
    }
    tolerate(mount, error)
}
