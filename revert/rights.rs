// SPDX-License-Identifier: GPL-2.0

//! Which objects a caller reaches, which lines of an object's chain the caller may see, and which operations
//! the caller may take back: decided here for all commands. docs/security.md has the rules.
//!
//! A request reaches what lies below the root of the mount that it came through, by a path that the caller
//! may search ([`reach`]). Of an object that is reached its owner has the lines since the object became that
//! owner's ([`past`]). In a directory of another owner, in which the caller may change names, the caller has
//! the operations on names that the caller's own user did, and those on objects that the caller owns. Each
//! step on a name is asked for what the caller's own call would be asked for ([`inverse`]).
//!
//! CAP_SYS_ADMIN in the superblock's user namespace has everything.

pub(super) mod inverse;
mod ownership;
mod reach;

use super::{
    binding::{self, ObjectLookup},
    steps::is_on_names,
};
use crate::{
    history::{
        journal::Journal,
        line::{Line, ObjectId, Op},
        plan::changes_names, //
    },
    stack::Mount,
    vfs::{
        dentry::Dentry,
        file::OwnFile,
        inode::OwnInode,
        superblock::SuperBlock,
        task, //
    },
};
use kernel::{prelude::*, rbtree::RBTree};
pub(super) use ownership::{first_own, first_own_now};

/// What a caller has of an object's chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChainRights {
    /// All lines from this number on.
    Since(u64),
    /// A directory's: the same, and of older ones operations on names, one by one.
    Names(u64),
    /// Nothing.
    Nothing,
}

/// Asks for one caller.
pub(crate) struct CallerRights<'a> {
    /// What the request came through.
    file: &'a OwnFile,
    sb: &'a SuperBlock,
    mount: &'a Mount,
    journal: &'a Journal,
    /// The caller's user, as lines have it.
    uid: u32,
    is_administrator: bool,
    /// Whether objects that lines name are the caller's.
    owned: RBTree<ObjectId, bool>,
    /// Whether the caller may search directories, and a path to them.
    searched: RBTree<ObjectId, bool>,
}

impl<'a> CallerRights<'a> {
    pub(crate) fn new(file: &'a OwnFile, journal: &'a Journal) -> Self {
        let sb = file.own_inode().superblock();
        Self {
            file,
            sb,
            mount: sb.mount(),
            journal,
            uid: task::Process::current().uid,
            is_administrator: task::is_administrator(sb),
            owned: RBTree::new(),
            searched: RBTree::new(),
        }
    }

    /// The journal whose lines are asked about.
    pub(crate) fn journal(&self) -> &'a Journal {
        self.journal
    }

    /// Whether everything is shown.
    pub(crate) fn is_administrator(&self) -> bool {
        self.is_administrator
    }

    /// What the caller has of the lines of an object that something is to be taken back of.
    pub(crate) fn over(&mut self, inode: &OwnInode, lower: &Dentry) -> Result<ChainRights> {
        self.rights(inode, lower, true)
    }

    /// As [`Self::over`], to read them.
    pub(crate) fn may_read(&mut self, inode: &OwnInode, lower: &Dentry) -> Result<ChainRights> {
        self.rights(inode, lower, false)
    }

    #[inline(never)]
    fn rights(&mut self, inode: &OwnInode, lower: &Dentry, exact: bool) -> Result<ChainRights> {
        if self.is_administrator {
            return Ok(Self::from(inode, 0));
        }
        // It may have been changed behind the mount.
        inode.refresh();
        let is_owner = inode.owner_or_capable();
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

    fn from(inode: &OwnInode, first: u64) -> ChainRights {
        match inode.is_directory() {
            true => ChainRights::Names(first),
            false => ChainRights::Since(first),
        }
    }

    /// Whether the caller reaches a directory of a request, and may search it.
    pub(super) fn reaches_names_in(&mut self, lower: &Dentry) -> Result<bool> {
        Ok(self.is_administrator || self.reaches_directory(lower, false)?)
    }

    /// Whether a line is shown to one who has these rights over its object.
    pub(crate) fn shows(&mut self, rights: ChainRights, line: &Line<'_>) -> Result<bool> {
        match rights {
            ChainRights::Since(first) | ChainRights::Names(first) if line.seq >= first => Ok(true),
            ChainRights::Nothing | ChainRights::Since(_) => Ok(false),
            // Reverts and bookkeeping have numbers only. Without them it would not be known which of the
            // caller's operations stand.
            ChainRights::Names(_) if line.op.is_bookkeeping() => Ok(true),
            ChainRights::Names(_) if !is_on_names(line) => Ok(false),
            ChainRights::Names(_) if matches!(line.op, Op::Revert | Op::Redo) => Ok(true),
            ChainRights::Names(_) => self.is_own(line),
        }
    }

    /// Whether an operation is one that may be taken back by one who has these rights over its object.
    pub(crate) fn may_take_back(&mut self, rights: ChainRights, line: &Line<'_>) -> Result<bool> {
        match rights {
            ChainRights::Since(first) | ChainRights::Names(first) if line.seq >= first => Ok(true),
            ChainRights::Nothing | ChainRights::Since(_) => Ok(false),
            ChainRights::Names(_) => Ok(is_on_names(line) && self.is_own(line)?),
        }
    }

    /// Whether the arguments that a line has must not be shown. Root's number is also that of root in
    /// containers: it counts with CAP_SYS_ADMIN only.
    pub(crate) fn hides_arguments(&self, line: &Line<'_>) -> bool {
        let is_own = self.uid != 0 && line.uid == Some(self.uid);
        !self.is_administrator && line.args.is_some() && !is_own
    }

    /// Whether the caller's user did an operation on names, or owns an object that it is about.
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

    #[inline(never)]
    fn owns(&mut self, object: ObjectId, segment: Option<u64>) -> Result<bool> {
        if let Some(is_owned) = self.owned.get(&object) {
            return Ok(*is_owned);
        }
        let is_owner = |lower: &Dentry| lower.inode().is_some_and(|inode| inode.owner_or_capable());
        let is_owned = match binding::find_orphan(self.journal, object, segment)? {
            Some((_, lower)) => is_owner(&lower),
            // What cannot be found any more is nobody's.
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
