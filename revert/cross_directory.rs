// SPDX-License-Identifier: GPL-2.0

//! Undoes a rename between two directories.

use super::{
    names::{decode, directory, NamesRevert, NAME},
    rights::CallerRights,
    steps::Lines,
    ObjectUndo, Refusal,
};
use crate::{
    log::plan::{name_steps, Directory, NameStep},
    uapi::Reason,
    vfs::{
        c,
        dentry::{Dentry, UpperDentry},
        error::ENODATA,
        inode::UpperInode,
        upper_names::Renaming,
    },
};
use kernel::{prelude::*, sync::aref::ARef};

/// The other directory of a rename.
struct PeerDirectory {
    inode: ARef<UpperInode>,
    dentry: ARef<UpperDentry>,
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
    let mut lines = Lines::new(revert.journal)?;
    let line = lines.read(*taken.places.first().ok_or(ENODATA)?)?;
    let mut buf = [[0; NAME]; 2];
    let [first, second] = &mut buf;
    // Present directory and name, and the former name in this directory.
    let (step, _) = name_steps(&line).map_err(|e| e.refuse(line.seq))?;
    let (parent, from, to, flags) = match step {
        NameStep::Move {
            from, to, parent, ..
        } => (parent, decode(from, first)?, decode(to, second)?, 0),
        NameStep::Exchange {
            name,
            other,
            parent,
            ..
        } => {
            let names = (decode(other, first)?, decode(name, second)?);
            (parent, names.0, names.1, c::RENAME_EXCHANGE)
        }
        _ => return Err(conflict(line.seq)),
    };
    let lower = directory(mount, &parent.ok_or(EINVAL)?)?;
    let other = other(revert, &parent.ok_or(EINVAL)?)?;
    let there = RenameEnd {
        dentry: Some(&other.dentry),
        lower: &lower,
    };
    let here = RenameEnd {
        dentry: Some(revert.file.dentry()),
        lower: revert.file.lower_dentry(),
    };
    // The directory was unlocked for lock_rename(), which decides the order of both locks.
    let both = lock((there, from), (here, to), flags)?;
    let (there, here) = both.as_ref().map(Renaming::directories).unzip();
    // Another operation may have come between the two locks.
    let again = revert.newest_names(1)?;
    if again.newest != taken.newest || dir.is_orphan() || other.inode.is_orphan() {
        return Err(conflict(taken.newest));
    }
    other.inode.may_change_names()?;
    // The caller opened only this directory by a path; the other one comes from a file handle.
    if !CallerRights::new(revert.file, revert.journal).reaches_names_in(&lower)? {
        return Err(Refusal::new(Reason::NotOwner, taken.newest));
    }
    let names = NamesRevert {
        mount,
        journal: revert.journal,
        dir: &other.inode,
        dentry: Some(&other.dentry),
        locked: there,
        lower: &lower,
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

/// Locks two directories, as lock_rename(), to rename `name` in the first one to `new` in the
/// second one. `None` if one has no dentry of ours: then no other task uses this directory through
/// the mount.
pub(super) fn lock<'a>(
    (from, name): (RenameEnd<'a>, &[u8]),
    (to, new): (RenameEnd<'a>, &[u8]),
    flags: u32,
) -> Result<Option<Renaming<'a>>, Refusal> {
    let (Some(source), Some(target)) = (from.dentry, to.dentry) else {
        return Ok(None);
    };
    let child = crate::vfs::namei::lookup(source.superblock().mount().lower(), from.lower, name)?;
    let child = source.lookup_same_name(&child)?;
    if child.upper_inode().is_none() {
        return Err(conflict(0));
    }
    match Renaming::begin(source, &child, target, new, flags) {
        Err(e) if e == EINVAL || e == ENOENT => Err(conflict(0)),
        locked => Ok(Some(locked?)),
    }
}

/// The other directory: our inode and dentry.
fn other(revert: &ObjectUndo<'_>, parent: &Directory<'_>) -> Result<PeerDirectory, Refusal> {
    let sb = revert.inode.superblock();
    let lower = directory(revert.inode.mount(), parent)?;
    let dentry = UpperDentry::of_lower(sb, &lower).map_err(|_| conflict(0))?;
    let inode = dentry.existing()?.get();
    Ok(PeerDirectory { inode, dentry })
}

fn conflict(seq: u64) -> Refusal {
    Refusal::new(Reason::Conflict, seq)
}
