// SPDX-License-Identifier: GPL-2.0

//! Removed directories come back with what the same process had removed from them: `rm -r` is one
//! thing for whoever takes it back.
//!
//! All of it is one request of a group ([`group`]): it is looked at as a whole before anything is changed,
//! and comes back as a whole or not at all.

use super::{
    binding::find_orphan,
    group,
    may_revert,
    name_operations::NameOperations,
    plan_builder::refuse,
    steps::Lines,
    ObjectUndo, //
    Refusal,
};
use crate::{
    backup,
    history::{
        line::{Line, Mode, ObjectId, Op, Pos, Process},
        sort::sort, //
    },
    uapi::Operation,
    vfs::{dentry::Dentry, inode::OwnInode, task}, //
};
use kernel::{prelude::*, sync::aref::ARef};

/// A directory that is kept.
#[derive(Clone, Copy)]
struct RemovedDirectory {
    object: ObjectId,
    /// With which segment it is kept, as its line says.
    segment: u64,
    /// Who removed it.
    by: Process,
}

impl RemovedDirectory {
    /// The directory that a line tells the removal of, if it does and says who did it.
    fn of(line: &Line<'_>) -> Option<Self> {
        if line.op != Op::Rmdir {
            return None;
        }
        Some(Self {
            object: line.node?,
            segment: line.kept?,
            by: line.pid?,
        })
    }
}

/// Adds to `operations`, which are on names, all that was removed from directories that come back with
/// them: by whoever removed these. The newest comes first behind it. Answers how many that are. Nothing is
/// locked.
#[inline(never)]
pub(super) fn add_inside(
    revert: &ObjectUndo<'_>,
    operations: &mut KVVec<Operation>,
) -> Result<u64, Refusal> {
    let mut left = KVVec::new();
    let mut lines = Lines::new(revert.journal)?;
    for operation in operations.iter() {
        let at = Pos {
            segment: operation.segment,
            offset: operation.offset,
        };
        add_removed(&mut lines, at, &mut left)?;
    }
    let mut count = 0u64;
    // By a list of our own: nobody knows how deep it goes.
    while let Some(directory) = left.pop() {
        task::breathe()?;
        let Some((inode, lower)) = open(revert, &directory)? else {
            // It is not kept any more; whether that is in the way is found out with all the rest.
            continue;
        };
        let _lock = inode.lock_in_time()?;
        let taken = newest_removals(revert, &inode, &lower, &directory)?;
        for &at in &taken.places {
            let seq = add_removed(&mut lines, at, &mut left)?;
            operations.push(operation(seq, at), GFP_KERNEL_ACCOUNT)?;
            count = count.saturating_add(1);
        }
    }
    sort(operations, |a, b| a.seq > b.seq);
    Ok(count)
}

/// Takes operations on names back, all of them or none.
#[inline(never)]
pub(super) fn undo(revert: &ObjectUndo<'_>, operations: KVVec<Operation>) -> Result<(), Refusal> {
    let request = group::GroupRequest {
        operations,
        mode: Mode::Walk,
        redo: false,
        force: revert.options.force,
        dry_run: false,
        no_redo: revert.options.no_redo,
    };
    group::revert(revert.file, &request, &mut refuse).map(|_| ())
}

/// What a request asks for by a line's number and place.
pub(super) fn operation(seq: u64, at: Pos) -> Operation {
    Operation {
        seq,
        segment: at.segment,
        offset: at.offset,
    }
}

/// Takes note of the directory that a line tells the removal of, if it does. Answers the line's number.
fn add_removed(lines: &mut Lines<'_>, at: Pos, left: &mut KVVec<RemovedDirectory>) -> Result<u64> {
    let line = lines.read(at)?;
    if let Some(removed) = RemovedDirectory::of(&line) {
        left.push(removed, GFP_KERNEL_ACCOUNT)?;
    }
    Ok(line.seq)
}

type OrphanDirectory = (ARef<OwnInode>, ARef<Dentry>);

/// Our inode and the lower name of a directory that is kept.
fn open(
    revert: &ObjectUndo<'_>,
    directory: &RemovedDirectory,
) -> Result<Option<OrphanDirectory>, Refusal> {
    let found = find_orphan(revert.journal, directory.object, Some(directory.segment))?;
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
    revert: &ObjectUndo<'_>,
    inode: &OwnInode,
    lower: &Dentry,
    directory: &RemovedDirectory,
) -> Result<NameOperations, Refusal> {
    let mut state = inode.object().state.lock();
    backup::load_known(inode.mount(), revert.journal, inode, lower, &mut state)?;
    let head = state.head;
    drop(state);
    NameOperations::gather(revert.journal, inode.id(), head, u64::MAX, |line| {
        matches!(line.op, Op::Unlink | Op::Rmdir) && line.pid == Some(directory.by)
    })
}
