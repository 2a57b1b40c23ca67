// SPDX-License-Identifier: GPL-2.0

//! Removed directories come back with what the same process had removed from them: `rm -r` is one
//! thing for whoever takes it back.
//!
//! A removed directory is kept, where nobody sees it. It is refilled there, the innermost first,
//! each by a revert of its own, and then comes back to its name whole, by one step of its parent's
//! revert. What fails before that has changed nothing that can be seen; asked again, it goes on.

use super::{binding::kept, may_revert, names::Names, steps::Lines, taken::Taken, Refusal, Revert};
use crate::{
    backup,
    history::line::{Line, ObjectId, Op, Process},
    vfs::{dentry::Dentry, inode::OwnInode}, //
};
use kernel::{prelude::*, sync::aref::ARef};

/// A directory that is kept.
#[derive(Clone, Copy)]
struct Removed {
    object: ObjectId,
    /// With which segment it is kept, as its line says.
    segment: u64,
    /// Who removed it.
    by: Process,
    /// Whether what was in it has been looked at.
    is_seen: bool,
}

impl Removed {
    /// The directory that a line tells the removal of, if it does and says who did it.
    fn of(line: &Line<'_>) -> Option<Self> {
        if line.op != Op::Rmdir {
            return None;
        }
        Some(Self {
            object: line.node?,
            segment: line.kept?,
            by: line.pid?,
            is_seen: false,
        })
    }
}

/// Refills the directories whose removal is among the newest `count` operations, which are all on
/// names, and all that were in them. Nothing is locked. Answers how many operations that took back.
#[inline(never)]
pub(super) fn refill(revert: &Revert<'_>, count: u64) -> Result<u64, Refusal> {
    let mut stack = KVVec::new();
    {
        let _lock = revert.inode.lock_in_time()?;
        push_removed(revert, &mut stack, &revert.newest_names(count)?)?;
    }
    let mut total = 0u64;
    // By a stack of our own: nobody knows how deep it goes.
    while let Some(top) = stack.last_mut() {
        let directory = *top;
        let Some((inode, lower)) = open(revert, &directory)? else {
            // It is not kept any more; whether that is in the way the parent's revert finds out.
            stack.pop();
            continue;
        };
        let _lock = inode.lock_in_time()?;
        let taken = newest_removals(revert, &inode, &lower, &directory)?;
        if !directory.is_seen {
            top.is_seen = true;
            push_removed(revert, &mut stack, &taken)?;
            continue;
        }
        stack.pop();
        if taken.count() != 0 {
            let names = Names {
                mount: inode.mount(),
                journal: revert.journal,
                dir: &inode,
                dentry: None,
                lower: &lower,
                other: None,
                room: revert.room(),
                asking: revert.asking(),
            };
            names.revert(&taken, None)?;
            inode.refresh();
            total = total.saturating_add(taken.count());
        }
    }
    Ok(total)
}

fn push_removed(revert: &Revert<'_>, stack: &mut KVVec<Removed>, taken: &Taken) -> Result {
    let mut lines = Lines::new(revert.journal)?;
    for &at in &taken.places {
        if let Some(removed) = Removed::of(&lines.read(at)?) {
            stack.push(removed, GFP_KERNEL)?;
        }
    }
    Ok(())
}

type Opened = (ARef<OwnInode>, ARef<Dentry>);

/// Our inode and the lower name of a directory that is kept.
fn open(revert: &Revert<'_>, directory: &Removed) -> Result<Option<Opened>, Refusal> {
    let found = kept(revert.journal, directory.object, Some(directory.segment))?;
    let Some((_, lower)) = found else {
        return Ok(None);
    };
    let inode = lower.inode().ok_or(ENOENT)?;
    let inode = OwnInode::obtain(revert.inode.superblock(), inode)?;
    may_revert(revert.file, &inode, &lower)?;
    Ok(Some((inode, lower)))
}

/// The newest operations of a directory, as far as they are removals by whoever removed it.
fn newest_removals(
    revert: &Revert<'_>,
    inode: &OwnInode,
    lower: &Dentry,
    directory: &Removed,
) -> Result<Taken, Refusal> {
    let mut state = inode.object().state.lock();
    backup::load_known(inode.mount(), revert.journal, inode, lower, &mut state)?;
    let head = state.head;
    drop(state);
    Taken::gather(revert.journal, inode.id(), head, u64::MAX, |line| {
        matches!(line.op, Op::Unlink | Op::Rmdir) && line.pid == Some(directory.by)
    })
}
