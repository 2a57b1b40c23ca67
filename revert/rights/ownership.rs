// SPDX-License-Identifier: GPL-2.0

//! The point in time since which an object belongs to its present owner. That owner may neither see
//! nor restore earlier content: a file is given away in its present state only.

use super::super::{plan_builder::saved_attributes, steps::Lines};
use crate::{
    history::journal::Journal,
    log::{
        line::{Line, Op, Undo},
        plan::{Access, Kind, Records},
        types::Pos,
    },
    state::OwnerRange,
    vfs::{inode::UpperInode, task},
};
use kernel::prelude::*;

/// Number of lines between two calls of cond_resched() and checks for a fatal signal.
const OFTEN: u64 = 256;

/// Number of the oldest line to which the caller has a right as the owner; 0 for all lines. `head`
/// is the position of the object's newest line.
///
/// All changes of the owner since then count, also those outside the request, which may stay live.
/// Callers with CAP_CHOWN or CAP_SYS_ADMIN are not restricted.
pub(crate) fn first_own(journal: &Journal, inode: &UpperInode, head: Option<Pos>) -> Result<u64> {
    let sb = inode.superblock();
    if task::is_administrator(sb) || task::may_give_away(sb) {
        return Ok(0);
    }
    owned_since(journal, inode, head)
}

/// As [`first_own`], for a caller that holds the lock of the object's state.
pub(crate) fn first_own_now(journal: &Journal, inode: &UpperInode) -> Result<u64> {
    first_own(journal, inode, journal.last_line(inode.id())?)
}

/// Number of the oldest line that belongs to the present owner.
#[inline(never)]
fn owned_since(journal: &Journal, inode: &UpperInode, head: Option<Pos>) -> Result<u64> {
    let uid = inode.uid();
    let known = *inode.object().owned.lock();
    let since = look_back(journal, uid, head, &known)?;
    *inode.object().owned.lock() = OwnerRange { head, uid, since };
    Ok(since)
}

/// Reads lines back to the cached result `known`, or to another owner.
fn look_back(journal: &Journal, uid: u32, head: Option<Pos>, known: &OwnerRange) -> Result<u64> {
    let mut lines = Lines::new(journal)?;
    let (mut next, mut confirmed, mut read) = (head, None, 0u64);
    while let Some(at) = next {
        if known.head == Some(at) && known.uid == uid {
            return Ok(known.since);
        }
        read = read.saturating_add(1);
        if read % OFTEN == 0 {
            task::resched_killable()?;
        }
        let Some((_, line)) = lines.back_while_kept(&mut next)? else {
            return Ok(0);
        };
        let behind = line.seq.saturating_add(1);
        match line.owner {
            Some(owner) if owner == uid => confirmed = Some(line.seq),
            // The owner changed in the lower filesystem at an unknown time: lines up to the next
            // recorded owner are excluded.
            Some(_) => return Ok(confirmed.unwrap_or(behind)),
            None => {
                confirmed.get_or_insert(behind);
            }
        }
        if was_given(journal, &line, uid) {
            return Ok(behind);
        }
    }
    Ok(0)
}

/// Whether another user owned the object before the operation. True if the pre-image is lost.
#[inline(never)]
fn was_given(journal: &Journal, line: &Line<'_>, uid: u32) -> bool {
    if line.op == Op::Setattr && line.undo == Some(Undo::Lost) {
        return true;
    }
    let Ok(saved) = saved_attributes(journal, line) else {
        return true;
    };
    let Ok(records) = Records::new(&saved) else {
        return true;
    };
    let access = records.last(Kind::Access);
    let before = access.and_then(|record| Access::decode(record.value?));
    before.is_some_and(|before| before.uid != uid)
}
