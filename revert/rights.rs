// SPDX-License-Identifier: GPL-2.0

//! Which lines of an object's chain a caller may see, and which operations the caller may take back:
//! decided here for all commands.
//!
//! The owner of an object has its whole chain. In a directory of another owner, in which the caller may
//! change names, the caller has the operations on names that the caller's own user did, and those on
//! objects that the caller owns. Whether a name may be taken from its object there (sticky directories)
//! is asked when an operation is taken back, as may_delete() asks it.

use super::{
    binding::{self, Told},
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
        inode::Inode,
        task, //
    },
};
use kernel::{prelude::*, rbtree::RBTree};

/// What a caller has of an object's chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rights {
    /// All of it.
    Whole,
    /// A directory's: operations on names, one by one.
    Names,
    /// Nothing.
    Nothing,
}

impl Rights {
    /// Those of the caller over an object: by its lower inode or by ours, whose attributes are the same.
    pub(crate) fn over(inode: &Inode) -> Self {
        if inode.owner_or_capable() {
            Self::Whole
        } else if inode.is_directory() && inode.may_change_names().is_ok() {
            Self::Names
        } else {
            Self::Nothing
        }
    }
}

/// Looks at lines for one caller.
pub(crate) struct Lines<'a> {
    mount: &'a Mount,
    journal: &'a Journal,
    /// The caller's user, as lines have it.
    uid: u32,
    /// Whether arguments of other users' processes are shown.
    sees_arguments: bool,
    /// Whether objects that lines name are the caller's.
    owned: RBTree<ObjectId, bool>,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(mount: &'a Mount, journal: &'a Journal) -> Self {
        Self {
            mount,
            journal,
            uid: task::Process::current().uid,
            sees_arguments: task::is_administrator(),
            owned: RBTree::new(),
        }
    }

    /// Whether a line is shown to one who has these rights over its object.
    pub(crate) fn shows(&mut self, rights: Rights, line: &Line<'_>) -> Result<bool> {
        match rights {
            Rights::Whole => Ok(true),
            Rights::Nothing => Ok(false),
            // Reverts and bookkeeping have numbers only. Without them nobody could tell which of the
            // caller's operations stand.
            Rights::Names if line.op.is_bookkeeping() => Ok(true),
            Rights::Names if !is_on_names(line) => Ok(false),
            Rights::Names if matches!(line.op, Op::Revert | Op::Redo) => Ok(true),
            Rights::Names => self.is_own(line),
        }
    }

    /// Whether an operation is one that may be taken back by one who has these rights over its object.
    pub(crate) fn may_take_back(&mut self, rights: Rights, line: &Line<'_>) -> Result<bool> {
        match rights {
            Rights::Whole => Ok(true),
            Rights::Nothing => Ok(false),
            Rights::Names => Ok(is_on_names(line) && self.is_own(line)?),
        }
    }

    /// Whether the arguments that a line has must not be shown.
    pub(crate) fn hides_arguments(&self, line: &Line<'_>) -> bool {
        !self.sees_arguments && line.args.is_some() && line.uid != Some(self.uid)
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
        let is_owned = match binding::kept(self.journal, object, segment)? {
            Some((_, lower)) => is_owner(&lower),
            // What cannot be found any more is nobody's.
            None => match binding::told(self.mount, self.journal, object) {
                Ok(Told::There(lower)) => is_owner(&lower),
                _ => false,
            },
        };
        self.owned
            .try_create_and_insert(object, is_owned, GFP_KERNEL_ACCOUNT)?;
        Ok(is_owned)
    }
}
