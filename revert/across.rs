// SPDX-License-Identifier: GPL-2.0

//! Taking back a rename between two directories: both are locked as for any rename.

use super::{
    names::{decode, directory, Names, NAME},
    steps::Lines,
    Refusal, Revert,
};
use crate::{
    history::plan::{name_steps, Directory, NameStep},
    uapi::Reason,
    vfs::{
        c,
        dentry::OwnDentry,
        error::ENODATA,
        inode::OwnInode,
        rename::Renaming, //
    },
};
use kernel::{prelude::*, sync::aref::ARef};

/// The other directory.
struct Other {
    inode: ARef<OwnInode>,
    dentry: ARef<OwnDentry>,
}

/// Takes back the newest operation of the directory, a rename between it and another one. Neither is
/// locked.
pub(super) fn take_back(revert: &Revert<'_>) -> Result<(), Refusal> {
    let dir = revert.inode;
    let mount = dir.mount();
    let taken = {
        let _lock = dir.lock_as_parent();
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
    let child = crate::vfs::name::look_up(&lower, from)?;
    let child = other.dentry.namesake(&child)?;
    if child.own_inode().is_none() {
        return Err(conflict(line.seq));
    }
    let here = revert.file.dentry();
    let _both = Renaming::begin(&other.dentry, &child, here, to, flags).map_err(|e| {
        if e == EINVAL || e == ENOENT {
            conflict(line.seq)
        } else {
            e.into()
        }
    })?;
    // Nobody must have come in between.
    let again = revert.newest_names(1)?;
    if again.newest != taken.newest || dir.object().is_kept() || other.inode.object().is_kept() {
        return Err(conflict(taken.newest));
    }
    other.inode.may_change_names()?;
    let names = Names {
        mount,
        journal: revert.journal,
        dir: &other.inode,
        dentry: Some(&other.dentry),
        lower: &lower,
        other: None,
    };
    let result = revert.take_back_names(&again, Some(&names));
    other.inode.refresh();
    result
}

fn other(revert: &Revert<'_>, parent: &Directory<'_>) -> Result<Other, Refusal> {
    let sb = revert.inode.superblock();
    let lower = directory(revert.inode.mount(), parent)?;
    let dentry = OwnDentry::of_lower(sb, &lower).map_err(|_| conflict(0))?;
    let inode = dentry.existing()?.hold();
    Ok(Other { inode, dentry })
}

fn conflict(seq: u64) -> Refusal {
    Refusal::new(Reason::Conflict, seq)
}
