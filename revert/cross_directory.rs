// SPDX-License-Identifier: GPL-2.0

//! Undoes a rename between two directories.

use super::{
    names::{decode, directory, NamesRevert, NAME},
    rights::CallerRights,
    steps::{Direction, Lines},
    ObjectUndo, Refusal,
};
use crate::{
    log::{
        plan::{name_steps, NameStep},
        types::Pos,
    },
    uapi::Reason,
    vfs::{
        c,
        dentry::{Dentry, UpperDentry},
        error::{ENODATA, ESTALE},
        inode::UpperInode,
        namei,
        upper_names::Renaming,
    },
};
use kernel::{prelude::*, sync::aref::ARef};

/// The other directory of a rename.
struct PeerDirectory {
    inode: ARef<UpperInode>,
    dentry: ARef<UpperDentry>,
    lower: ARef<Dentry>,
}

/// Undoes the directory's newest operation, a rename between this directory and another one.
/// Neither is locked.
#[inline(never)]
pub(super) fn undo(revert: &ObjectUndo<'_>) -> Result<(), Refusal> {
    let dir = revert.inode;
    let mount = dir.mount();
    let taken = {
        let _lock = dir.lock_in_time()?;
        revert.newest_names(1)?
    };
    let mut buf = [[0; NAME]; 2];
    let at = *taken.places.first().ok_or(ENODATA)?;
    let (other, names) = find_peer(revert, at, &mut buf)?;
    let lower = &*other.lower;
    let there = RenameEnd {
        dentry: Some(&other.dentry),
        lower,
    };
    let here = RenameEnd {
        dentry: Some(revert.file.dentry()),
        lower: revert.file.lower_dentry(),
    };
    // The directory was unlocked for lock_rename(), which decides the order of both locks.
    let both = names.lock(here, there, Direction::Undo)?;
    let (there, here) = both.as_ref().map(Renaming::directories).unzip();
    // Another operation may have come between the two locks.
    let again = revert.newest_names(1)?;
    if again.newest != taken.newest || dir.is_orphan() || other.inode.is_orphan() {
        return Err(conflict(taken.newest));
    }
    other.inode.may_change_names()?;
    // The caller opened only this directory by a path; the other one comes from a file handle.
    if !CallerRights::new(revert.file, revert.journal).reaches_names_in(lower)? {
        return Err(Refusal::new(Reason::NotOwner, taken.newest));
    }
    let names = NamesRevert {
        mount,
        journal: revert.journal,
        dir: &other.inode,
        dentry: Some(&other.dentry),
        locked: there,
        lower,
        other: None,
        purpose: revert.purpose(),
        permission: revert.permission(),
    };
    let result = revert.undo_names(&again, here, Some(&names));
    other.inode.copy_attr();
    result
}

/// One directory of a rename.
#[derive(Clone, Copy)]
pub(super) struct RenameEnd<'a> {
    /// Our dentry of the directory, if the dcache has one.
    pub(super) dentry: Option<&'a UpperDentry>,
    pub(super) lower: &'a Dentry,
}

/// The names of a rename between two directories.
pub(super) struct RenamedNames<'n> {
    /// The name in the directory of the line.
    here: &'n [u8],
    /// The name in the other directory.
    there: &'n [u8],
    flags: u32,
}

impl<'n> RenamedNames<'n> {
    /// The names of a step; `None` if it is no rename.
    pub(super) fn of(
        step: &NameStep<'_>,
        [first, second]: &'n mut [[u8; NAME]; 2],
    ) -> Result<Option<Self>> {
        let (here, there, flags) = match *step {
            NameStep::Move { from, to, .. } => (to, from, 0),
            NameStep::Exchange { name, other, .. } => (name, other, c::RENAME_EXCHANGE),
            NameStep::Remove { .. } | NameStep::Restore { .. } => return Ok(None),
        };
        Ok(Some(Self {
            here: decode(here, first)?,
            there: decode(there, second)?,
            flags,
        }))
    }

    /// Locks both directories for the step, as lock_rename(). `None` if one has no dentry of ours:
    /// then no other task uses this directory through the mount.
    #[inline(never)]
    pub(super) fn lock<'a>(
        &self,
        here: RenameEnd<'a>,
        there: RenameEnd<'a>,
        direction: Direction,
    ) -> Result<Option<Renaming<'a>>, Refusal> {
        let (here, there) = ((here, self.here), (there, self.there));
        let ((from, name), (to, new)) = match direction {
            Direction::Undo => (there, here),
            Direction::Redo => (here, there),
        };
        let (Some(source), Some(target)) = (from.dentry, to.dentry) else {
            return Ok(None);
        };
        let child = namei::lookup(source.superblock().mount().lower(), from.lower, name)?;
        let child = source.lookup_same_name(&child)?;
        if child.upper_inode().is_none() {
            return Err(conflict(0));
        }
        match Renaming::begin(source, &child, target, new, self.flags) {
            Err(e) if e == EINVAL || e == ENOENT => Err(conflict(0)),
            locked => Ok(Some(locked?)),
        }
    }
}

/// The other directory of the rename whose line is at `at`, and its names.
// Out of line: a parsed line takes half a kilobyte of stack, which must be free again before the
// undo.
#[inline(never)]
fn find_peer<'n>(
    revert: &ObjectUndo<'_>,
    at: Pos,
    buf: &'n mut [[u8; NAME]; 2],
) -> Result<(PeerDirectory, RenamedNames<'n>), Refusal> {
    let mut lines = Lines::new(revert.journal)?;
    let line = lines.read(at)?;
    let (step, _) = name_steps(&line).map_err(|e| e.refuse(line.seq))?;
    let names = RenamedNames::of(&step, buf)?.ok_or(conflict(line.seq))?;
    let parent = step.other_directory().ok_or(EINVAL)?;
    let lower = directory(revert.inode.mount(), &parent)?;
    let dentry = UpperDentry::of_lower(revert.inode.superblock(), &lower);
    // Outside the tree, or without a name by now.
    let dentry = dentry.map_err(|e| match e == ESTALE || e == ENOENT {
        true => conflict(0),
        false => e.into(),
    })?;
    let inode = dentry.existing()?.get();
    let peer = PeerDirectory {
        inode,
        dentry,
        lower,
    };
    Ok((peer, names))
}

fn conflict(seq: u64) -> Refusal {
    Refusal::new(Reason::Conflict, seq)
}
