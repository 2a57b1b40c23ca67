// SPDX-License-Identifier: GPL-2.0

//! Decides whether a payload or an orphan may enter the history, before any byte is copied: it must
//! fit, and the segments that would be dropped for it must not hold more than half of the history.

use kernel::prelude::*;

use super::journal::{Journal, OnFull};

/// Only larger payloads are checked. Smaller ones accumulate in a segment, and the maintenance
/// worker drops old segments in time.
const LARGE: u64 = 256 * 1024;

/// The purpose of a request for space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpacePurpose {
    /// An operation's old state.
    Operation,
    /// The state that a revert replaces: no segment that a revert reads may be dropped for it.
    Revert,
    /// The state that a revert without a redo replaces: it is deleted when the revert has ended.
    Discard,
}

/// How full the history is, in bytes.
struct Fill {
    /// The size of the history.
    used: u64,
    /// The limit of a segment's payloads.
    target: u64,
    /// The space that the active segment, the next one and the reserve need.
    fixed: u64,
}

impl Journal {
    /// Whether so many bytes of payload may come. `ENOSPC`: no, and nothing was dropped.
    pub(crate) fn admit(&self, bytes: u64, purpose: SpacePurpose) -> Result {
        if bytes <= LARGE {
            return Ok(());
        }
        let free = {
            let files = self.files.lock();
            let space = files.dirs()?.1.space()?;
            // The blocks of the file that waits for a new use are as good.
            space.unused.saturating_add(files.spare_bytes())
        };
        let short = bytes.saturating_sub(free);
        if self.options.on_full == OnFull::Deny {
            // The budget is charged when the payload is staged.
            let budget = self.staging.lock().budget.unwrap_or(0);
            return if short == 0 && bytes <= budget {
                Ok(())
            } else {
                Err(ENOSPC)
            };
        }
        self.admit_short(bytes, short, purpose)
    }

    /// Whether all that a revert copies, in payloads of any size, may come. `ENOSPC`: probably not.
    pub(crate) fn admit_copies(&self, bytes: u64) -> Result {
        let (low_space, budget) = {
            let staging = self.staging.lock();
            (staging.low_space, staging.budget)
        };
        if bytes != 0 && (low_space || budget.is_some_and(|left| bytes > left)) {
            return Err(ENOSPC);
        }
        self.admit(bytes, SpacePurpose::Revert)
    }

    /// Whether an object of `bytes` may become an orphan. The filesystem's free space does not
    /// change by that. `ENOSPC`: no.
    pub(crate) fn admit_orphan(&self, bytes: u64, purpose: SpacePurpose) -> Result {
        if bytes == 0 || purpose == SpacePurpose::Discard {
            return Ok(());
        }
        match (self.options.on_full, purpose) {
            (OnFull::Trim, _) if bytes <= LARGE.min(self.history_max / 16) => Ok(()),
            (OnFull::Trim, _) => self.admit_short(bytes, 0, purpose),
            (OnFull::Deny, SpacePurpose::Operation) => {
                let budget = self.staging.lock().budget.unwrap_or(0);
                if bytes <= budget {
                    Ok(())
                } else {
                    Err(ENOSPC)
                }
            }
            // An undo moves objects to orphans/, which needs no free space: nothing is dropped for
            // that.
            (OnFull::Deny, _) => Ok(()),
        }
    }

    /// As [`Self::admit`], with `on_full=trim`, where the filesystem is `short` of so many bytes.
    fn admit_short(&self, bytes: u64, short: u64, purpose: SpacePurpose) -> Result {
        let Fill {
            used,
            target,
            fixed,
        } = self.fill();
        let alone = bytes.saturating_add(fixed);
        if alone > self.history_max {
            return Err(ENOSPC);
        }
        if purpose == SpacePurpose::Operation && short == 0 && bytes <= target.saturating_mul(2) {
            // An operation as others are: the oldest segment goes when its time has come.
            return Ok(());
        }
        let over = alone.saturating_add(used).saturating_sub(self.history_max);
        let need = over.max(short);
        if need == 0 {
            return Ok(());
        }
        let floor = match purpose {
            SpacePurpose::Operation => u64::MAX,
            SpacePurpose::Revert | SpacePurpose::Discard => self.pins.lock().floor(),
        };
        self.can_drop(need, used / 2, floor)
    }

    fn fill(&self) -> Fill {
        let orphans = self.orphan_bytes();
        let staging = self.staging.lock();
        let active = staging.log_end.saturating_add(staging.undo_end);
        let ended = (staging.ended).map_or(0, |e| e.log_end.saturating_add(e.undo_end));
        let used = (staging.sealed_log)
            .saturating_add(staging.sealed_undo)
            .saturating_add(ended)
            .saturating_add(active)
            .saturating_add(orphans);
        let target = staging.limits.undo;
        // The active segment and its successor.
        let files = (staging.limits.log).saturating_add(target.saturating_mul(2));
        let fixed = files.saturating_add(self.reserve_bytes());
        Fill {
            used,
            target,
            fixed,
        }
    }

    /// Whether `need` bytes can go with the oldest segments before `floor`, and with them not more than
    /// `most`.
    fn can_drop(&self, need: u64, most: u64, floor: u64) -> Result {
        let first = self.files.lock().first();
        let end = self.staging.lock().first_unsealed();
        let mut dropped = 0u64;
        let mut segment = first;
        while dropped < need {
            if segment >= end.min(floor) {
                return Err(ENOSPC);
            }
            let (log, undo) = self.files.lock().sizes(segment)?;
            let orphans = self.orphans.lock().bytes_of_segment(segment)?;
            dropped = dropped
                .saturating_add(log)
                .saturating_add(undo)
                .saturating_add(orphans);
            segment = segment.saturating_add(1);
            if dropped > most {
                return Err(ENOSPC);
            }
        }
        Ok(())
    }
}
