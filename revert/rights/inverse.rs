// SPDX-License-Identifier: GPL-2.0

//! What a step that takes names back, or binds them again, is asked for: as the caller's own unlink(2),
//! link(2), rename(2) or mknod(2) would be.

use super::{
    super::{names::Outcome, Refusal},
    CallerRights, //
};
use crate::{
    history::journal::Journal,
    uapi::Reason,
    vfs::{
        dentry::{Dentry, OwnDentry},
        file::OwnFile,
        inode::OwnInode,
        xattr, //
    },
};
use kernel::prelude::*;

/// What is asked when a step is performed, and of whom.
#[derive(Clone, Copy)]
pub(in crate::revert) struct PermissionCheck<'a> {
    /// What the request came through.
    pub(in crate::revert) file: &'a OwnFile,
    /// Whether rights are asked for, too: of a group they were when it was rehearsed. What is taken back of
    /// attributes may have changed them by now.
    pub(in crate::revert) rights: bool,
}

/// What may_delete() asks of a directory and what it has under a name.
#[derive(Clone, Copy)]
pub(in crate::revert) struct DeleteCheck {
    /// Whether the directory, or the object, is protected by flags.
    pub(in crate::revert) is_protected: bool,
    /// Whether the caller owns the object, or may do as its owner.
    pub(in crate::revert) is_owned: bool,
}

/// Whether a name may be taken from an object in `dir`, where the caller may change names.
pub(in crate::revert) fn may_delete(dir: &OwnInode, node: &DeleteCheck) -> Outcome {
    if node.is_protected {
        return Err(Refusal {
            error: EPERM,
            reason: Reason::NotWritable,
            seq: 0,
        });
    }
    if dir.is_sticky() && !dir.owner_or_capable() && !node.is_owned {
        return Err(Refusal::new(Reason::NotPermitted, 0));
    }
    Ok(())
}

impl CallerRights<'_> {
    /// Whether an object may have a name again.
    ///
    /// It was taken away from everybody, so it must be reached by where it was, and comes back with no
    /// rights that the caller could not give: set-id bits as by chmod(2), of other users' files only for
    /// CAP_FOWNER and CAP_FSETID together; capabilities for CAP_SETFCAP; devices for CAP_MKNOD. With
    /// `is_link`, it has other names: may_linkat() decides, as with fs.protected_hardlinks=1. The setting
    /// itself is not to be read by modules.
    #[inline(never)]
    pub(in crate::revert) fn may_restore(
        &mut self,
        inode: &OwnInode,
        lower: &Dentry,
        is_link: bool,
    ) -> Outcome {
        let refused = || Err(Refusal::new(Reason::NotPermitted, 0));
        inode.refresh();
        if !self.is_administrator && !self.reaches(lower, true)? {
            return Err(Refusal::new(Reason::NotOwner, 0));
        }
        if is_link && !inode.may_be_linked() {
            return refused();
        }
        if !inode.may_have_set_ids() || !inode.may_be_made() {
            return refused();
        }
        if inode.is_regular() && !xattr::may_have_capabilities(self.mount.lower(), lower)? {
            return refused();
        }
        Ok(())
    }
}

impl<'a> PermissionCheck<'a> {
    /// Whether a name of an object may be taken away.
    pub(in crate::revert) fn remove(
        self,
        (dir, name): (&OwnInode, Option<&OwnDentry>),
        bytes: &[u8],
        node: &OwnInode,
    ) -> Outcome {
        self.take(dir, node)?;
        match name {
            Some(name) => Ok(self.file.may_unlink(name, bytes)?),
            None => Ok(()),
        }
    }

    /// Whether an object may have a name there.
    pub(in crate::revert) fn bind(
        self,
        (journal, dir): (&Journal, Option<&OwnDentry>),
        bytes: &[u8],
        (node, lower): (&OwnInode, &Dentry),
        is_link: bool,
    ) -> Outcome {
        if self.rights {
            CallerRights::new(self.file, journal).may_restore(node, lower, is_link)?;
        }
        match dir {
            Some(dir) => Ok(self.file.may_make(dir, bytes, node)?),
            None => Ok(()),
        }
    }

    /// Whether a name of an object may be moved.
    pub(in crate::revert) fn rename(
        self,
        (from, to): (&OwnInode, &OwnInode),
        (from_name, to_name): (Option<&OwnDentry>, Option<&OwnDentry>),
        (old, new): (&[u8], &[u8]),
        node: &OwnInode,
        flags: u32,
    ) -> Outcome {
        self.take(from, node)?;
        // vfs_rename(): `..` in it changes.
        if self.rights && node.is_directory() && from.id() != to.id() {
            node.may_write()?;
        }
        match (from_name, to_name) {
            (Some(from), Some(to)) => Ok(self.file.may_rename((from, old), (to, new), flags)?),
            _ => Ok(()),
        }
    }

    fn take(self, dir: &OwnInode, node: &OwnInode) -> Outcome {
        if !self.rights {
            return Ok(());
        }
        node.refresh();
        let taken = DeleteCheck {
            is_protected: dir.is_protected() || node.is_protected(),
            is_owned: node.owner_or_capable(),
        };
        may_delete(dir, &taken)
    }
}
