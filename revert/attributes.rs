// SPDX-License-Identifier: GPL-2.0

//! Restores attributes.
//!
//! Attributes are set with the caller's credentials: a revert must not grant more than the system
//! calls do. Only a rollback uses the kernel's credentials. In the order used here no step undoes
//! an earlier one: setting an ACL changes the mode, so mode and owner follow the ACLs;
//! FS_IMMUTABLE_FL and FS_APPEND_FL forbid all other changes, so they are cleared first and set
//! last.

use crate::{
    backup,
    log::plan::{Access, Flags, Kind, Record, Records, Times},
    vfs::{
        attr, c,
        dentry::Dentry,
        error::{EOPNOTSUPP, EUCLEAN},
        inode::UpperInode,
        mount::LowerMount,
        task, xattr,
    },
};
use kernel::prelude::*;

/// Flags that protect an object from changes.
const PROTECTION: u32 = c::FS_IMMUTABLE_FL | c::FS_APPEND_FL;

/// The flags to restore, if the records contain any.
pub(super) fn flags(records: Records<'_>) -> Option<Flags> {
    records
        .last(Kind::Flags)
        .and_then(|record| Flags::decode(record.value?))
}

/// Whether the records contain flags. Protection is then cleared first, if the caller may do so
/// (CAP_LINUX_IMMUTABLE). The record of a revert holds only the flags before that revert.
pub(super) fn lifts_protection(records: Records<'_>) -> bool {
    flags(records).is_some()
}

/// Whether the restored flags protect the object.
pub(super) fn protects(records: Records<'_>) -> bool {
    flags(records).is_some_and(|flags| flags.flags & PROTECTION != 0)
}

/// Clears the protection if the records contain flags. The caller holds no write access to the
/// mount.
pub(super) fn unprotect(mount: &LowerMount, lower: &Dentry, records: Records<'_>) -> Result {
    if flags(records).is_none() {
        return Ok(());
    }
    let Some(present) = attr::flags(mount, lower)?.filter(|f| f.flags & PROTECTION != 0) else {
        return Ok(());
    };
    let _write = mount.want_write_as_caller()?;
    attr::put_flags(mount, lower, &bare(present))
}

/// The flags without protection.
fn bare(flags: Flags) -> Flags {
    Flags {
        flags: flags.flags & !PROTECTION,
        xflags: flags.xflags & !(c::FS_XFLAG_IMMUTABLE | c::FS_XFLAG_APPEND),
        ..flags
    }
}

/// Sets all attributes in the records except flags. The object is unprotected. The caller holds no
/// write access to the mount.
pub(super) fn put(mount: &LowerMount, lower: &Dentry, records: Records<'_>) -> Result {
    let _write = mount.want_write_as_caller()?;
    for record in records.last_ones() {
        put_named(mount, lower, &record)?;
    }
    let access = value(records, Kind::Access, Access::decode)?;
    let times = value(records, Kind::Times, Times::decode)?;
    if access.is_some() || times.is_some() {
        attr::set_access_and_times(mount, lower, access.as_ref(), times.as_ref())?;
    }
    Ok(())
}

/// Checks the caller's permission to set the attributes, before any change and in a dry run, with
/// the rules of [`put`], [`unprotect`] and [`put_flags`]. Ignores protection.
#[inline(never)]
pub(super) fn may_put(
    mount: &LowerMount,
    (inode, lower): (&UpperInode, &Dentry),
    records: Records<'_>,
) -> Result {
    for record in records.last_ones() {
        may_put_named(mount, (inode, lower), &record)?;
    }
    let access = value(records, Kind::Access, Access::decode)?;
    let times = value(records, Kind::Times, Times::decode)?;
    if access.is_some() || times.is_some() {
        attr::may_set_access_and_times(mount, lower, access.as_ref(), times.as_ref())?;
    }
    let Some(flags) = flags(records) else {
        return Ok(());
    };
    if attr::flags(mount, lower)?.is_some_and(|present| present == flags) {
        return Ok(());
    }
    // Flags are set last, when the object may already have another owner.
    let is_given = access.is_some_and(|access| access.uid != inode.uid());
    let may = match is_given {
        true => task::may_give_away(inode.superblock()),
        false => inode.owner_or_capable(),
    };
    if may {
        Ok(())
    } else {
        Err(EPERM)
    }
}

/// As [`may_put`], for an xattr or an ACL, with the rules of xattr_permission(),
/// cap_inode_setxattr() and set_posix_acl().
fn may_put_named(
    mount: &LowerMount,
    (inode, lower): (&UpperInode, &Dentry),
    record: &Record<'_>,
) -> Result {
    let mut bytes = KVec::new();
    let name = match record.kind {
        Kind::Xattr => backup::xattr_name(record.name, &mut bytes)?,
        // A symbolic link has no ACL.
        Kind::AccessAcl | Kind::DefaultAcl if inode.is_symlink() => return Ok(()),
        Kind::AccessAcl | Kind::DefaultAcl if inode.owner_or_capable() => return Ok(()),
        Kind::AccessAcl | Kind::DefaultAcl => return Err(EPERM),
        Kind::Access | Kind::Times | Kind::Flags => return Ok(()),
    };
    let is_of = |prefix: &[u8]| name.to_bytes().starts_with(prefix);
    let may = if name == xattr::CAPABILITY {
        match record.value {
            Some(value) => xattr::may_set_capability(lower, value)?,
            // Removing a capability grants nothing: any write to the file does so.
            None => true,
        }
    } else if is_of(b"security.selinux") || is_of(b"security.SMACK64") {
        // These LSMs decide in their setxattr hook (`inode_xattr_skipcap`), by label, not by
        // capability.
        true
    } else if is_of(b"trusted.") || is_of(b"security.") {
        task::is_administrator(mount.root().superblock())
    } else if is_of(b"user.") && (inode.is_regular() || inode.is_directory()) {
        // xattr_permission() wants a writable inode; the owner could chmod it. See [`xattr::put`].
        inode.owner_or_capable()
    } else {
        true
    };
    if may {
        Ok(())
    } else {
        Err(EPERM)
    }
}

/// Sets the flags after all other attributes. FS_IMMUTABLE_FL and FS_APPEND_FL only if `is_last`.
/// The caller holds no write access to the mount.
pub(super) fn put_flags(
    mount: &LowerMount,
    lower: &Dentry,
    records: Records<'_>,
    is_last: bool,
) -> Result {
    let Some(flags) = flags(records) else {
        return Ok(());
    };
    let _write = mount.want_write_as_caller()?;
    let flags = if is_last { flags } else { bare(flags) };
    attr::put_flags(mount, lower, &flags)
}

/// Sets an xattr or an ACL; ignores all other kinds.
fn put_named(mount: &LowerMount, lower: &Dentry, record: &Record<'_>) -> Result {
    match record.kind {
        Kind::Xattr => {
            let mut bytes = KVec::new();
            let name = backup::xattr_name(record.name, &mut bytes)?;
            xattr::put(mount, lower, name, record.value)
        }
        Kind::AccessAcl | Kind::DefaultAcl => {
            let which = if record.kind == Kind::AccessAcl {
                c::ACL_TYPE_ACCESS
            } else {
                c::ACL_TYPE_DEFAULT
            };
            match xattr::put_acl(mount, lower, which, record.value) {
                // A symbolic link has no ACL.
                Err(e) if e == EOPNOTSUPP && record.value.is_none() => Ok(()),
                put => put,
            }
        }
        Kind::Access | Kind::Times | Kind::Flags => Ok(()),
    }
}

/// The decoded value of the last record of a kind.
fn value<T>(
    records: Records<'_>,
    kind: Kind,
    decode: impl Fn(&[u8]) -> Option<T>,
) -> Result<Option<T>> {
    match records.last(kind) {
        None => Ok(None),
        Some(record) => record.value.and_then(decode).map(Some).ok_or(EUCLEAN),
    }
}
