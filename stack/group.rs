// SPDX-License-Identifier: GPL-2.0

//! The command that takes operations of any objects back, or forward again.

use crate::{
    history::line::Mode,
    revert::{
        group::{take_back, Request},
        Refusal,
    },
    uapi::{Conflict, RevertGroup},
    vfs::{file::OwnFile, user},
};
use kernel::prelude::*;

/// Takes operations back, all or none, and says what is in the way.
pub(super) fn revert(file: &OwnFile, argument: usize) -> Result<c_long> {
    let mut request: RevertGroup = user::read(argument)?;
    if !request.is_valid() {
        return Err(EINVAL);
    }
    // The reply must find its way before anything is changed.
    user::write(argument, &request)?;
    let asked = Request {
        operations: user::read_all(address(request.operations)?, request.count)?,
        mode: if request.flags & (RevertGroup::WALK | RevertGroup::REDO) != 0 {
            Mode::Walk
        } else {
            Mode::Pick
        },
        redo: request.flags & RevertGroup::REDO != 0,
        force: request.flags & RevertGroup::FORCE != 0,
        dry_run: request.flags & RevertGroup::DRY_RUN != 0,
    };
    let room = address(request.conflicts)?;
    let mut found = 0u32;
    let mut tell = |seq: u64, refusal: Refusal| {
        let conflict = Conflict {
            seq,
            in_way: refusal.seq,
            reason: refusal.reason.code(),
            reserved: 0,
        };
        if found < request.room {
            let at = (found as usize).checked_mul(size_of::<Conflict>());
            let at = at.and_then(|at| room.checked_add(at)).ok_or(EFAULT)?;
            user::write(at, &conflict)?;
        }
        found = found.saturating_add(1);
        Ok(())
    };
    let result = take_back(file, &asked, &mut tell);
    request.found = found;
    match &result {
        Ok(done) => {
            request.reverted = done.reverted;
            request.objects = done.objects;
            request.bytes = done.bytes;
            request.seq = done.seq;
        }
        Err(refusal) => {
            request.reason = refusal.reason.code();
            request.seq_in_way = refusal.seq;
        }
    }
    let told = user::write(argument, &request);
    result.map_err(|refusal| refusal.error)?;
    told.map(|()| 0)
}

fn address(number: u64) -> Result<usize> {
    usize::try_from(number).map_err(|_| EFAULT)
}
