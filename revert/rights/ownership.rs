// SPDX-License-Identifier: GPL-2.0

//! Since when an object belongs to its present owner. What it held before is not that owner's to see or to
//! bring back: a file that is given away is given away as it is.

use super::super::{plan_builder::saved_attributes, steps::Lines};
use crate::{
    history::{
        journal::Journal,
        line::{Line, Op, Pos, Undo},
        plan::{Access, Kind, Records}, //
    },
    stack::Owned,
    vfs::{
        error::{ENODATA, EUCLEAN},
        inode::OwnInode,
        task, //
    },
};
use kernel::prelude::*;

/// After how many lines others get their turn, and a caller that is killed gives up. Where something is
/// being changed already, fewer are new.
const OFTEN: u64 = 256;

/// The number of the oldest line of an object's that the caller has a right to by owning the object; 0: of
/// all. `head` is the object's newest line.
///
/// That is by all owners since, not only by what the lines say that are asked for: a change of the owner may
/// be among those that stay. One who may become the owner of anything, and the administrator, are asked for
/// no more than that.
pub(crate) fn first_own(journal: &Journal, inode: &OwnInode, head: Option<Pos>) -> Result<u64> {
    let sb = inode.superblock();
    if task::is_administrator(sb) || task::may_give_away(sb) {
        return Ok(0);
    }
    owned_since(journal, inode, head)
}

/// As [`first_own`], of an object whose state the caller has locked.
pub(crate) fn first_own_now(journal: &Journal, inode: &OwnInode) -> Result<u64> {
    first_own(journal, inode, journal.last_line(inode.id())?)
}

/// The number of the oldest line that is not older than the present owner.
#[inline(never)]
fn owned_since(journal: &Journal, inode: &OwnInode, head: Option<Pos>) -> Result<u64> {
    let uid = inode.uid();
    let known = *inode.object().owned.lock();
    let since = look_back(journal, uid, head, &known)?;
    *inode.object().owned.lock() = Owned { head, uid, since };
    Ok(since)
}

/// Reads the lines back to where `known` was found out, or another one owned the object.
fn look_back(journal: &Journal, uid: u32, head: Option<Pos>, known: &Owned) -> Result<u64> {
    let mut lines = Lines::new(journal)?;
    let (mut next, mut confirmed, mut read) = (head, None, 0u64);
    while let Some(at) = next {
        if known.head == Some(at) && known.uid == uid {
            return Ok(known.since);
        }
        read = read.saturating_add(1);
        if read % OFTEN == 0 {
            task::breathe()?;
        }
        let line = match lines.read(at) {
            // What is older was dropped.
            Err(e) if e == ENODATA => return Ok(0),
            line => line?,
        };
        let behind = line.seq.saturating_add(1);
        match line.owner {
            Some(owner) if owner == uid => confirmed = Some(line.seq),
            // It changed hands outside: whose the lines are from here to the one that says so is not known.
            Some(_) => return Ok(confirmed.unwrap_or(behind)),
            None => {
                confirmed.get_or_insert(behind);
            }
        }
        if was_given(journal, &line, uid) {
            return Ok(behind);
        }
        if line.prev.is_some_and(|prev| prev >= at) {
            return Err(EUCLEAN);
        }
        next = line.prev;
    }
    Ok(0)
}

/// Whether somebody but `uid` owned the object before an operation, or may have: what it was is lost.
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
