// SPDX-License-Identifier: GPL-2.0

//! Permissions for the steps of a revert of names: the same as for unlink(2), link(2), rename(2) or
//! mknod(2) by the caller.

use super::{
    super::{names::Outcome, Refusal},
    CallerRights, //
};
use crate::{
    history::journal::Journal,
    uapi::Reason,
    vfs::{
        dentry::Dentry,
        file::UpperFile,
        inode::UpperInode,
        upper_names::LockedDirectory,
        xattr, //
    },
};
use kernel::prelude::*;

/// The permission check of a step.
#[derive(Clone, Copy)]
pub(in crate::revert) struct PermissionCheck<'a> {
    /// The open file of the request.
    pub(in crate::revert) file: &'a UpperFile,
    /// Whether ownership and modes are checked. For a group they were checked in the rehearsal; a
    /// step may have changed them since.
    pub(in crate::revert) rights: bool,
}

/// Inputs of may_delete() for a directory and an object in it.
#[derive(Clone, Copy)]
pub(in crate::revert) struct DeleteCheck {
    /// Whether the directory or the object has FS_IMMUTABLE_FL or FS_APPEND_FL.
    pub(in crate::revert) is_protected: bool,
    /// Whether the caller owns the object or has CAP_FOWNER.
    pub(in crate::revert) is_owned: bool,
}

/// Whether a name of the object may be removed from `dir`, where the caller may change names. As
/// may_delete(): protection, and the sticky bit.
pub(in crate::revert) fn may_delete(dir: &UpperInode, node: &DeleteCheck) -> Outcome {
    if node.is_protected {
        return Err(Refusal {
            error: EPERM,
            reason: Reason::NotWritable,
            seq: 0,
        });
    }
    // check_sticky(): the caller owns neither the directory nor the object.
    if dir.is_sticky() && !dir.owner_or_capable() && !node.is_owned {
        return Err(Refusal::new(Reason::NotPermitted, 0));
    }
    Ok(())
}

impl CallerRights<'_> {
    /// Whether an object may get a name again.
    ///
    /// The object was removed from all users, so the caller must be able to reach the place of its
    /// last name. The restored object must not grant rights that the caller could not grant: set-id
    /// bits as for chmod(2), for objects of other users only with CAP_FOWNER and CAP_FSETID;
    /// capabilities with CAP_SETFCAP; devices with CAP_MKNOD. With `is_link` the object has other
    /// names, and the rules of may_linkat() with fs.protected_hardlinks=1 apply: modules cannot
    /// read the sysctl.
    #[inline(never)]
    pub(in crate::revert) fn may_restore(
        &mut self,
        inode: &UpperInode,
        lower: &Dentry,
        is_link: bool,
    ) -> Outcome {
        let refused = || Err(Refusal::new(Reason::NotPermitted, 0));
        // Mode or owner may have changed in the lower filesystem.
        inode.copy_attr();
        if !self.is_administrator && !self.reaches(lower, true)? {
            return Err(Refusal::new(Reason::NotOwner, 0));
        }
        // may_linkat(), as with fs.protected_hardlinks=1.
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
    /// Whether a name of the object may be removed.
    pub(in crate::revert) fn remove(
        self,
        (dir, name): (&UpperInode, Option<LockedDirectory<'_>>),
        bytes: &[u8],
        node: &UpperInode,
    ) -> Outcome {
        self.take(dir, node)?;
        match name {
            // security_path_unlink(), for LSMs that decide by path.
            Some(name) => Ok(self.file.may_unlink(name, bytes)?),
            None => Ok(()),
        }
    }

    /// Whether the object may get a name in the directory.
    pub(in crate::revert) fn bind(
        self,
        (journal, dir): (&Journal, Option<LockedDirectory<'_>>),
        bytes: &[u8],
        (node, lower): (&UpperInode, &Dentry),
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

    /// Whether a name of the object may be moved.
    pub(in crate::revert) fn rename(
        self,
        (from, to): (&UpperInode, &UpperInode),
        (from_name, to_name): (Option<LockedDirectory<'_>>, Option<LockedDirectory<'_>>),
        (old, new): (&[u8], &[u8]),
        node: &UpperInode,
        flags: u32,
    ) -> Outcome {
        self.take(from, node)?;
        // vfs_rename(): `..` changes, so a directory that changes its parent must be writable.
        if self.rights && node.is_directory() && from.id() != to.id() {
            node.may_write()?;
        }
        match (from_name, to_name) {
            (Some(from), Some(to)) => Ok(self.file.may_rename((from, old), (to, new), flags)?),
            _ => Ok(()),
        }
    }

    /// The checks of may_delete().
    fn take(self, dir: &UpperInode, node: &UpperInode) -> Outcome {
        if !self.rights {
            return Ok(());
        }
        node.copy_attr();
        let taken = DeleteCheck {
            is_protected: dir.is_protected() || node.is_protected(),
            is_owned: node.owner_or_capable(),
        };
        may_delete(dir, &taken)
    }
}
