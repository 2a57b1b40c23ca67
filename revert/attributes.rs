// SPDX-License-Identifier: GPL-2.0

//! Putting old attributes back.
//!
//! They are set as the caller, who needs the right to: an inverse gives nobody what a plain call
//! would refuse. Only a roll-back is the kernel's. The order is one in which no step undoes another:
//! ACLs decide the mode's bits, so mode and owner come behind them; flags forbid everything else, so
//! they are lifted first and set last.

use crate::{
    backup,
    history::plan::{Access, Flags, Kind, Record, Records, Times},
    vfs::{
        attr,
        c,
        dentry::Dentry,
        error::{EOPNOTSUPP, EUCLEAN},
        inode::OwnInode,
        mount::LowerMount,
        task,
        xattr, //
    },
};
use kernel::prelude::*;

/// The flags that keep an object from being changed.
const PROTECTION: u32 = c::FS_IMMUTABLE_FL | c::FS_APPEND_FL;

/// The flags that the records put back, if they do.
pub(super) fn flags(records: Records<'_>) -> Option<Flags> {
    records
        .last(Kind::Flags)
        .and_then(|record| Flags::decode(record.value?))
}

/// Whether the records decide about protection, so that it is lifted before all else: by a caller who
/// may. Of a revert only the state before it is told, not what it had lifted in between.
pub(super) fn lifts_protection(records: Records<'_>) -> bool {
    flags(records).is_some()
}

/// Whether the object will be protected.
pub(super) fn protects(records: Records<'_>) -> bool {
    flags(records).is_some_and(|flags| flags.flags & PROTECTION != 0)
}

/// Takes the object's protection away, if the records will decide about it anyway. The caller has no
/// write access yet.
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

/// These flags without protection.
fn bare(flags: Flags) -> Flags {
    Flags {
        flags: flags.flags & !PROTECTION,
        xflags: flags.xflags & !(c::FS_XFLAG_IMMUTABLE | c::FS_XFLAG_APPEND),
        ..flags
    }
}

/// Puts everything back that the records tell of, but flags. The object is not protected any more;
/// the caller has no write access yet.
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

/// Whether the caller may put back the attributes in the records: asked before anything is changed, and by a
/// dry run, as [`put`], [`unprotect`] and [`put_flags`] will be. Protection is not looked at.
#[inline(never)]
pub(super) fn may_put(
    mount: &LowerMount,
    (inode, lower): (&OwnInode, &Dentry),
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
    // They are set last, when another user owns it.
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

/// As [`may_put`], of an xattr or an ACL: what xattr_permission(), cap_inode_setxattr() and set_posix_acl()
/// ask for.
fn may_put_named(
    mount: &LowerMount,
    (inode, lower): (&OwnInode, &Dentry),
    record: &Record<'_>,
) -> Result {
    let mut bytes = KVec::new();
    let name = match record.kind {
        Kind::Xattr => backup::xattr_name(record.name, &mut bytes)?,
        // A symbolic link has none, and cannot have.
        Kind::AccessAcl | Kind::DefaultAcl if inode.is_symlink() => return Ok(()),
        Kind::AccessAcl | Kind::DefaultAcl if inode.owner_or_capable() => return Ok(()),
        Kind::AccessAcl | Kind::DefaultAcl => return Err(EPERM),
        Kind::Access | Kind::Times | Kind::Flags => return Ok(()),
    };
    let is_of = |prefix: &[u8]| name.to_bytes().starts_with(prefix);
    let may = if name == xattr::CAPABILITY {
        match record.value {
            Some(value) => xattr::may_set_capability(lower, value)?,
            // That takes rights away, as any write of the file does.
            None => true,
        }
    } else if is_of(b"security.selinux") || is_of(b"security.SMACK64") {
        // Their modules decide when it is set (`inode_xattr_skipcap`), by labels, not by capabilities.
        true
    } else if is_of(b"trusted.") || is_of(b"security.") {
        task::is_administrator(mount.root().superblock())
    } else if is_of(b"user.") && (inode.is_regular() || inode.is_directory()) {
        // The owner could make it writable first, and gets no less: see [`xattr::put`].
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

/// Puts the flags back, after everything else; those that protect it only if so. The caller has no write
/// access yet.
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

/// An xattr or an ACL; nothing of all else.
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
                // A symbolic link has none, and cannot have.
                Err(e) if e == EOPNOTSUPP && record.value.is_none() => Ok(()),
                put => put,
            }
        }
        Kind::Access | Kind::Times | Kind::Flags => Ok(()),
    }
}

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
