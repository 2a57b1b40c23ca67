// SPDX-License-Identifier: GPL-2.0

//! IOC_REVERT_GROUP: reverts or redoes operations of several objects.

use crate::{
    log::line::Mode,
    revert::{
        group::{self, GroupRequest},
        Refusal,
    },
    state::SlotFailure,
    uapi::{Conflict, Reason, RevertGroup},
    vfs::{file::UpperFile, uaccess},
};
use kernel::prelude::*;

/// Upper limit of reported conflicts, whatever the caller's buffer size is.
const MAX_CONFLICTS: usize = 64 * 1024;

/// Reverts a set of operations atomically, or reports the conflicts.
#[inline(never)]
pub(super) fn revert(file: &UpperFile, argument: usize) -> Result<c_long> {
    let mut request: RevertGroup = uaccess::read(argument)?;
    if !request.is_valid() {
        return Err(EINVAL);
    }
    // A faulting reply buffer is detected before anything is changed.
    uaccess::write(argument, &request)?;
    // The slot limits the memory for requests of one user; the memory is charged to the caller.
    let _slot = match file.upper_inode().mount().request_slots().take() {
        Ok(slot) => slot,
        Err(failure) => {
            let refusal = match failure {
                SlotFailure::Busy(pid) => Refusal::new(Reason::Busy, u64::from(pid)),
                SlotFailure::Error(e) => e.into(),
            };
            request.reason = refusal.reason.code();
            request.blocking_seq = refusal.seq;
            uaccess::write(argument, &request)?;
            return Err(refusal.error);
        }
    };
    let asked = GroupRequest {
        operations: uaccess::read_all(address(request.operations)?, request.count)?,
        mode: if request.flags & (RevertGroup::WALK | RevertGroup::REDO) != 0 {
            Mode::Walk
        } else {
            Mode::Pick
        },
        redo: request.flags & RevertGroup::REDO != 0,
        force: request.flags & RevertGroup::FORCE != 0,
        no_redo: request.flags & RevertGroup::NO_REDO != 0,
        dry_run: request.flags & RevertGroup::DRY_RUN != 0,
    };
    let start = address(request.conflicts)?;
    let most = usize::try_from(request.capacity)
        .unwrap_or(usize::MAX)
        .min(MAX_CONFLICTS);
    let mut conflicts = KVVec::new();
    let mut found = 0u32;
    // Collected here and copied out after all locks are released: the caller's buffer may be a
    // mapping of a file on this mount.
    let mut tell = |seq: u64, refusal: Refusal| {
        if conflicts.len() < most {
            conflicts.push(conflict(seq, &refusal), GFP_KERNEL_ACCOUNT)?;
        }
        found = found.saturating_add(1);
        Ok(())
    };
    let result = group::revert(file, &asked, &mut tell);
    if let Ok(done) = &result {
        for one in &done.non_empty {
            let note = Refusal::new(Reason::NotEmpty, one.blocker);
            if conflicts.len() < most {
                conflicts.push(conflict(one.seq, &note), GFP_KERNEL)?;
            }
            found = found.saturating_add(1);
        }
    }
    let mut at = start;
    for conflict in &conflicts {
        uaccess::write(at, conflict)?;
        at = at.checked_add(size_of::<Conflict>()).ok_or(EFAULT)?;
    }
    request.found = found;
    match &result {
        Ok(done) => {
            request.reverted = done.reverted;
            request.objects = done.objects;
            request.bytes = done.bytes;
            request.seq = done.seq;
            request.left_out = u32::try_from(done.left_out).unwrap_or(u32::MAX);
        }
        Err(refusal) => {
            request.reason = refusal.reason.code();
            request.blocking_seq = refusal.seq;
        }
    }
    let written = uaccess::write(argument, &request);
    result.map_err(|refusal| refusal.error)?;
    written.map(|()| 0)
}

fn conflict(seq: u64, refusal: &Refusal) -> Conflict {
    Conflict {
        seq,
        blocker: refusal.seq,
        reason: refusal.reason.code(),
        reserved: 0,
    }
}

fn address(number: u64) -> Result<usize> {
    usize::try_from(number).map_err(|_| EFAULT)
}
