// SPDX-License-Identifier: GPL-2.0

//! Captures attributes of an object into the journal.

use super::capture;
use crate::{
    history::journal::Journal,
    log::plan::{Kind, Record, Records},
    record::Captured,
    state::Mount,
    vfs::{attr, c, dentry::Dentry, error::EOPNOTSUPP, mount::LowerMount, task, xattr},
};
use kernel::{prelude::*, str::CStr};

/// The attributes that an operation overwrites.
#[derive(Clone, Copy, Default)]
pub(crate) struct AttributeSet<'a> {
    /// Mode, owner and group, and the access ACL, which a new mode changes (posix_acl_chmod()).
    pub(crate) access: bool,
    /// Modification and access time.
    pub(crate) times: bool,
    /// The inode flags of chattr(1).
    pub(crate) flags: bool,
    /// The xattr with this name.
    pub(crate) xattr: Option<&'a CStr>,
    /// The default ACL of a directory.
    pub(crate) default_acl: bool,
}

/// Captures attributes of the lower object.
pub(super) fn capture(
    mount: &Mount,
    journal: &Journal,
    lower: &Dentry,
    wanted: &AttributeSet<'_>,
) -> Result<Captured> {
    let mount = mount.lower();
    let mut records = KVVec::new();
    if wanted.access {
        add(mount, lower, (Kind::AccessAcl, &[]), &mut records)?;
        add(mount, lower, (Kind::Access, &[]), &mut records)?;
    }
    if wanted.times {
        add(mount, lower, (Kind::Times, &[]), &mut records)?;
    }
    if wanted.flags {
        add(mount, lower, (Kind::Flags, &[]), &mut records)?;
    }
    if let Some(name) = wanted.xattr {
        add(mount, lower, (Kind::Xattr, name.to_bytes()), &mut records)?;
    }
    if wanted.default_acl {
        add(mount, lower, (Kind::DefaultAcl, &[]), &mut records)?;
    }
    if records.is_empty() {
        return Err(EOPNOTSUPP);
    }
    capture::attributes(journal, &records)
}

/// The present values of those attributes that `like` has records of.
pub(crate) fn gather(mount: &LowerMount, lower: &Dentry, like: Records<'_>) -> Result<KVVec<u8>> {
    let mut records = KVVec::new();
    for record in like.last_ones() {
        add(mount, lower, (record.kind, record.name), &mut records)?;
    }
    Ok(records)
}

/// The present values of all attributes. Xattrs that only CAP_SYS_ADMIN may see are left out unless
/// `sees_trusted`; LoggerFS's own ones always.
pub(crate) fn all(mount: &LowerMount, lower: &Dentry, sees_trusted: bool) -> Result<KVVec<u8>> {
    let inode = lower.inode().ok_or(ENOENT)?;
    let mut records = KVVec::new();
    add(mount, lower, (Kind::Access, &[]), &mut records)?;
    add(mount, lower, (Kind::Times, &[]), &mut records)?;
    // Of other objects there are none, and some filesystems have no ->fileattr_get for them.
    if inode.is_regular() || inode.is_directory() {
        add(mount, lower, (Kind::Flags, &[]), &mut records)?;
        add(mount, lower, (Kind::AccessAcl, &[]), &mut records)?;
    }
    if inode.is_directory() {
        add(mount, lower, (Kind::DefaultAcl, &[]), &mut records)?;
    }
    let names = match xattr::all_names(mount, lower) {
        Err(e) if e == EOPNOTSUPP => KVVec::new(),
        names => names?,
    };
    let is_shown = |name: &[u8]| {
        !name.is_empty()
            && !name.starts_with(xattr::OWN)
            // ACLs have records of their own.
            && !name.starts_with(b"system.posix_acl_")
            && (sees_trusted || !xattr::is_trusted(name))
    };
    for name in names.split(|byte| *byte == 0).filter(|name| is_shown(name)) {
        add(mount, lower, (Kind::Xattr, name), &mut records)?;
    }
    Ok(records)
}

/// Privileges of the lower file that a write by this caller removes (file_remove_privs()) and that
/// `known` has no records of: security.capability and set-group-ID. Set-user-ID is left out, since
/// the caller is the owner and can set that bit again.
pub(crate) fn gather_privileges(
    mount: &LowerMount,
    lower: &Dentry,
    recorded: Records<'_>,
) -> Result<KVVec<u8>> {
    let mut records = KVVec::new();
    let name = xattr::CAPABILITY;
    let is_recorded = |record: Record<'_>| record.name == name.to_bytes();
    if !recorded.last_ones().any(is_recorded) && xattr::read(mount, lower, name)?.is_some() {
        add(mount, lower, (Kind::Xattr, name.to_bytes()), &mut records)?;
    }
    let mode = attr::access_and_times(mount, lower)?.0.mode;
    // file_remove_privs() keeps set-group-ID for a caller with CAP_FSETID.
    if mode & c::S_ISGID != 0 && !task::leaves_set_ids() && recorded.last(Kind::Access).is_none() {
        add(mount, lower, (Kind::Access, &[]), &mut records)?;
    }
    Ok(records)
}

/// Appends the record of one attribute.
fn add(
    mount: &LowerMount,
    lower: &Dentry,
    (kind, name): (Kind, &[u8]),
    records: &mut KVVec<u8>,
) -> Result {
    // Without a value: the xattr or ACL did not exist.
    let mut put = |value: Option<&[u8]>| push(&Record { kind, name, value }, records);
    match kind {
        Kind::Access => put(Some(&attr::access_and_times(mount, lower)?.0.encode())),
        Kind::Times => put(Some(&attr::access_and_times(mount, lower)?.1.encode())),
        Kind::Flags => match attr::flags(mount, lower)? {
            Some(flags) => put(Some(&flags.encode())),
            // The filesystem does not support this attribute: there is no pre-image.
            None => Ok(()),
        },
        Kind::Xattr => put(xattr::read(mount, lower, c_name(name, &mut KVec::new())?)?.as_deref()),
        Kind::AccessAcl => put(xattr::read_acl(mount, lower, c::ACL_TYPE_ACCESS)?.as_deref()),
        Kind::DefaultAcl => put(xattr::read_acl(mount, lower, c::ACL_TYPE_DEFAULT)?.as_deref()),
    }
}

/// Appends a record.
pub(crate) fn push(record: &Record<'_>, records: &mut KVVec<u8>) -> Result {
    let head = record.head().ok_or(E2BIG)?;
    records.extend_from_slice(&head, GFP_KERNEL)?;
    records.extend_from_slice(record.name, GFP_KERNEL)?;
    Ok(records.extend_from_slice(record.value.unwrap_or(&[]), GFP_KERNEL)?)
}

/// The name of an xattr as a C string, stored in `bytes`, which is empty.
pub(crate) fn c_name<'b>(name: &[u8], bytes: &'b mut KVec<u8>) -> Result<&'b CStr> {
    bytes.extend_from_slice(name, GFP_KERNEL)?;
    bytes.push(0, GFP_KERNEL)?;
    CStr::from_bytes_with_nul(bytes).map_err(|_| EINVAL)
}
