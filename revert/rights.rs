// SPDX-License-Identifier: GPL-2.0

//! A caller's rights: which objects a request reaches, which lines the caller may see, and which
//! operations the caller may revert. All commands use these rules; see docs/security.md.
//!
//! * A request reaches objects below the root of the mount through which its file was opened, by a
//!   path that the caller may search ([`reach`]).
//! * The owner of such an object has a right to the lines since becoming the owner
//!   ([`ownership`]).
//! * In a directory of another owner, a caller with write permission has a right to the operations
//!   on names made by the same user, and to those on objects of that user.
//! * Each step on a name needs the permissions of the caller's own unlink(2), link(2) or rename(2)
//!   ([`inverse`]).
//!
//! CAP_SYS_ADMIN in the superblock's user namespace grants all rights.

pub(super) mod inverse;
mod ownership;
mod reach;

use super::{
    binding::{self, ObjectLookup},
    steps::is_on_names,
};
use crate::{
    history::journal::Journal,
    log::{
        line::{Line, Op},
        plan::changes_names,
        types::ObjectId,
    },
    state::Mount,
    vfs::{dentry::Dentry, file::UpperFile, inode::UpperInode, superblock::UpperSuperBlock, task},
};
use kernel::{prelude::*, rbtree::RBTree};
pub(super) use ownership::{first_own, first_own_now};

/// A caller's rights to the lines of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChainRights {
    /// All lines from this number on.
    Since(u64),
    /// For a directory: the same, and among older lines the caller's own operations on names.
    Names(u64),
    /// No line.
    Nothing,
}

impl ChainRights {
    /// Whether these are rights to each line from the number `seq` on.
    pub(crate) fn includes_all_from(self, seq: u64) -> bool {
        matches!(self, Self::Since(first) | Self::Names(first) if seq >= first)
    }
}

/// The rights of one caller, with caches.
pub(crate) struct CallerRights<'a> {
    /// The open file of the request.
    file: &'a UpperFile,
    sb: &'a UpperSuperBlock,
    mount: &'a Mount,
    journal: &'a Journal,
    /// The caller's real uid, as in lines.
    uid: u32,
    is_administrator: bool,
    /// Whether the caller owns an object that lines refer to.
    owned: RBTree<ObjectId, bool>,
    /// Whether the caller may search a directory and a path to it.
    searched: RBTree<ObjectId, bool>,
}

impl<'a> CallerRights<'a> {
    /// The rights of the caller of `file`.
    pub(crate) fn new(file: &'a UpperFile, journal: &'a Journal) -> Self {
        let sb = file.upper_inode().superblock();
        Self {
            file,
            sb,
            mount: sb.mount(),
            journal,
            uid: task::ProcessKey::current().uid,
            is_administrator: task::is_administrator(sb),
            owned: RBTree::new(),
            searched: RBTree::new(),
        }
    }

    /// The journal of the lines.
    pub(crate) fn journal(&self) -> &'a Journal {
        self.journal
    }

    /// Whether the caller has CAP_SYS_ADMIN and sees all lines.
    pub(crate) fn is_administrator(&self) -> bool {
        self.is_administrator
    }

    /// The caller's rights for a revert of the object.
    pub(crate) fn over(&mut self, inode: &UpperInode, lower: &Dentry) -> Result<ChainRights> {
        self.rights(inode, lower, true)
    }

    /// As [`Self::over`], to read the lines.
    pub(crate) fn may_read(&mut self, inode: &UpperInode, lower: &Dentry) -> Result<ChainRights> {
        self.rights(inode, lower, false)
    }

    /// Rights by ownership or write permission, and by a searchable path to the object.
    #[inline(never)]
    fn rights(&mut self, inode: &UpperInode, lower: &Dentry, exact: bool) -> Result<ChainRights> {
        if self.is_administrator {
            return Ok(Self::from(inode, 0));
        }
        // Mode or owner may have changed in the lower filesystem.
        inode.copy_attr();
        let is_owner = inode.owner_or_capable();
        // Write permission for a directory gives rights to names only.
        let has_names = is_owner || inode.is_directory() && inode.may_change_names().is_ok();
        if !has_names || !self.reaches(lower, exact)? {
            return Ok(ChainRights::Nothing);
        }
        let first = match is_owner {
            true => first_own(self.journal, inode, super::head(self.journal, inode)?)?,
            false => u64::MAX,
        };
        Ok(Self::from(inode, first))
    }

    /// All lines from `first` on, for the kind of the object.
    fn from(inode: &UpperInode, first: u64) -> ChainRights {
        match inode.is_directory() {
            true => ChainRights::Names(first),
            false => ChainRights::Since(first),
        }
    }

    /// Whether the caller may reach the directory and search it.
    pub(super) fn reaches_names_in(&mut self, lower: &Dentry) -> Result<bool> {
        Ok(self.is_administrator || self.reaches_directory(lower, false)?)
    }

    /// Whether a caller with these rights may see the line.
    pub(crate) fn shows(&mut self, rights: ChainRights, line: &Line<'_>) -> Result<bool> {
        match rights {
            ChainRights::Since(first) | ChainRights::Names(first) if line.seq >= first => Ok(true),
            ChainRights::Nothing | ChainRights::Since(_) => Ok(false),
            // Reverts and bookkeeping lines contain numbers only, and are needed to see which
            // operations are live.
            ChainRights::Names(_) if line.op.is_bookkeeping() => Ok(true),
            ChainRights::Names(_) if !is_on_names(line) => Ok(false),
            ChainRights::Names(_) if matches!(line.op, Op::Revert | Op::Redo) => Ok(true),
            ChainRights::Names(_) => self.is_own(line),
        }
    }

    /// Whether a caller with these rights over the directory of a mark may see the mark: as a line about a name
    /// in that directory.
    pub(crate) fn shows_mark(&self, rights: ChainRights, line: &Line<'_>) -> bool {
        match rights {
            ChainRights::Since(first) | ChainRights::Names(first) if line.seq >= first => true,
            ChainRights::Names(_) => line.uid == Some(self.uid),
            ChainRights::Nothing | ChainRights::Since(_) => false,
        }
    }

    /// Whether a caller with these rights may revert the operation.
    pub(crate) fn may_take_back(&mut self, rights: ChainRights, line: &Line<'_>) -> Result<bool> {
        match rights {
            ChainRights::Since(first) | ChainRights::Names(first) if line.seq >= first => Ok(true),
            ChainRights::Nothing | ChainRights::Since(_) => Ok(false),
            ChainRights::Names(_) => Ok(is_on_names(line) && self.is_own(line)?),
        }
    }

    /// Whether to hide the command line. uid 0 alone is not enough: it may be root of a container.
    pub(crate) fn hides_arguments(&self, line: &Line<'_>) -> bool {
        let is_own = self.uid != 0 && line.uid == Some(self.uid);
        !self.is_administrator && line.args.is_some() && !is_own
    }

    /// Whether the caller's user made this change of names, or owns an object that it affected.
    #[inline(never)]
    fn is_own(&mut self, line: &Line<'_>) -> Result<bool> {
        if line.uid == Some(self.uid) {
            return Ok(true);
        }
        if !changes_names(line.op) {
            return Ok(false);
        }
        for object in [line.node, line.over].into_iter().flatten() {
            if self.owns(object, line.kept)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the caller owns the object, from the cache if possible.
    #[inline(never)]
    fn owns(&mut self, object: ObjectId, segment: Option<u64>) -> Result<bool> {
        if let Some(is_owned) = self.owned.get(&object) {
            return Ok(*is_owned);
        }
        let is_owner = |lower: &Dentry| lower.inode().is_some_and(|inode| inode.owner_or_capable());
        let is_owned = match binding::find_orphan(self.journal, object, segment)? {
            Some((_, lower)) => is_owner(&lower),
            // An object that cannot be found has no owner.
            None => match binding::find_recorded(self.sb, self.journal, object) {
                Ok(ObjectLookup::Found(lower)) => is_owner(&lower),
                _ => false,
            },
        };
        self.owned
            .try_create_and_insert(object, is_owned, GFP_KERNEL_ACCOUNT)?;
        Ok(is_owned)
    }
}
