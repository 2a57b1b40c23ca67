// SPDX-License-Identifier: GPL-2.0

//! Taking back a rename between two directories: both are locked as for any rename.

use super::{
    names::{decode, directory, NamesRevert, NAME},
    rights::CallerRights,
    steps::Lines,
    ObjectUndo, Refusal,
};
use crate::{
    history::plan::{name_steps, Directory, NameStep},
    uapi::Reason,
    vfs::{
        c,
        dentry::{Dentry, OwnDentry},
        error::ENODATA,
        inode::OwnInode,
        rename::Renaming, //
    },
};
use kernel::{prelude::*, sync::aref::ARef};

/// The other directory.
struct PeerDirectory {
    inode: ARef<OwnInode>,
    dentry: ARef<OwnDentry>,
}

/// Takes back the newest operation of the directory, a rename between it and another one. Neither is
/// locked.
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
    // Where it is now, what it is called there, and what it shall be called here.
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
        lower: revert.file.lower_name(),
    };
    let _both = lock((there, from), (here, to), flags)?;
    // Nobody must have come in between.
    let again = revert.newest_names(1)?;
    if again.newest != taken.newest || dir.object().is_kept() || other.inode.object().is_kept() {
        return Err(conflict(taken.newest));
    }
    other.inode.may_change_names()?;
    if !CallerRights::new(revert.file, revert.journal).reaches_names_in(&lower)? {
        return Err(Refusal::new(Reason::NotOwner, taken.newest));
    }
    let names = NamesRevert {
        mount,
        journal: revert.journal,
        dir: &other.inode,
        dentry: Some(&other.dentry),
        lower: &lower,
        other: None,
        room: revert.room(),
        permission: revert.permission(),
    };
    let result = revert.undo_names(&again, Some(&names));
    other.inode.refresh();
    result
}

/// A directory at one end of a rename.
#[derive(Clone, Copy)]
pub(super) struct RenameEnd<'a> {
    /// Our name for it, if it can be seen.
    pub(super) dentry: Option<&'a OwnDentry>,
    pub(super) lower: &'a Dentry,
}

/// Locks two directories for a rename of what the first one has under a name to a name in the second
/// one; `None`: one of them cannot be seen, so that nobody else is there.
pub(super) fn lock(
    (from, name): (RenameEnd<'_>, &[u8]),
    (to, new): (RenameEnd<'_>, &[u8]),
    flags: u32,
) -> Result<Option<Renaming>, Refusal> {
    let (Some(source), Some(target)) = (from.dentry, to.dentry) else {
        return Ok(None);
    };
    let child = crate::vfs::name::look_up(source.superblock().mount().lower(), from.lower, name)?;
    let child = source.namesake(&child)?;
    if child.own_inode().is_none() {
        return Err(conflict(0));
    }
    match Renaming::begin(source, &child, target, new, flags) {
        Err(e) if e == EINVAL || e == ENOENT => Err(conflict(0)),
        locked => Ok(Some(locked?)),
    }
}

fn other(revert: &ObjectUndo<'_>, parent: &Directory<'_>) -> Result<PeerDirectory, Refusal> {
    let sb = revert.inode.superblock();
    let lower = directory(revert.inode.mount(), parent)?;
    let dentry = OwnDentry::of_lower(sb, &lower).map_err(|_| conflict(0))?;
    let inode = dentry.existing()?.hold();
    Ok(PeerDirectory { inode, dentry })
}

fn conflict(seq: u64) -> Refusal {
    Refusal::new(Reason::Conflict, seq)
}
