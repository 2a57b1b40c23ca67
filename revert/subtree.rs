// SPDX-License-Identifier: GPL-2.0

//! Restores removed directories together with their contents, as far as the same process removed
//! these: `rm -r` is undone at once.
//!
//! All operations form one group revert ([`group`]), which is planned as a whole and is atomic.

use super::{
    binding::find_orphan,
    group,
    may_revert,
    name_operations::NameOperations,
    plan_builder::refuse,
    steps::Lines,
    ObjectUndo,
    Refusal, //
};
use crate::{
    history::sort::sort,
    log::{
        line::{Line, Mode, Op, Process},
        types::{ObjectId, Pos},
    },
    record,
    uapi::Operation,
    vfs::{dentry::Dentry, inode::UpperInode, task},
};
use kernel::{prelude::*, sync::aref::ARef};

/// A removed directory, now an orphan.
#[derive(Clone, Copy)]
struct RemovedDirectory {
    object: ObjectId,
    /// Segment of the orphan, from the line of its removal.
    segment: u64,
    /// The process that removed it.
    by: Process,
}

impl RemovedDirectory {
    /// The directory whose removal the line records, if it names the process.
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

/// Adds to `operations`, which are on names, the removals inside the directories that these
/// restore, made by the same process. Sorts them, the newest first, and returns the number of added
/// ones. Nothing is locked.
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
    // An explicit stack: the depth is not limited.
    while let Some(directory) = left.pop() {
        task::resched_killable()?;
        let Some((inode, lower)) = open(revert, &directory)? else {
            // The orphan was reclaimed. The group revert decides whether that is a conflict.
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
    // The order that a group request requires.
    sort(operations, |a, b| a.seq > b.seq);
    Ok(count)
}

/// Reverts operations on names, all or none.
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

/// Identifies an operation in a request by its line's number and position.
pub(super) fn operation(seq: u64, at: Pos) -> Operation {
    Operation {
        seq,
        segment: at.segment,
        offset: at.offset,
    }
}

/// Adds the directory to `left` if the line records its removal. Returns the line's number.
fn add_removed(lines: &mut Lines<'_>, at: Pos, left: &mut KVVec<RemovedDirectory>) -> Result<u64> {
    let line = lines.read(at)?;
    if let Some(removed) = RemovedDirectory::of(&line) {
        left.push(removed, GFP_KERNEL_ACCOUNT)?;
    }
    Ok(line.seq)
}

/// An orphan directory: our inode and the lower dentry.
type OrphanDirectory = (ARef<UpperInode>, ARef<Dentry>);

/// Opens an orphan directory, with a check of the caller's rights.
fn open(
    revert: &ObjectUndo<'_>,
    directory: &RemovedDirectory,
) -> Result<Option<OrphanDirectory>, Refusal> {
    let found = find_orphan(revert.journal, directory.object, Some(directory.segment))?;
    let Some((_, lower)) = found else {
        return Ok(None);
    };
    let inode = lower.inode().ok_or(ENOENT)?;
    let inode = UpperInode::iget(revert.inode.superblock(), inode)?;
    // The caller needs the rights for each restored directory.
    may_revert(revert.file, &inode, &lower)?;
    Ok(Some((inode, lower)))
}

/// The newest operations of a directory, while they are removals by the process that removed it.
fn newest_removals(
    revert: &ObjectUndo<'_>,
    inode: &UpperInode,
    lower: &Dentry,
    directory: &RemovedDirectory,
) -> Result<NameOperations, Refusal> {
    let mut state = inode.object().state.lock();
    record::load_known(inode.mount(), revert.journal, inode, lower, &mut state)?;
    let head = state.head;
    drop(state);
    NameOperations::gather(revert.journal, inode.id(), head, u64::MAX, |line| {
        matches!(line.op, Op::Unlink | Op::Rmdir) && line.pid == Some(directory.by)
    })
}
