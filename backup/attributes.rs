// SPDX-License-Identifier: GPL-2.0

//! The old attributes of an object, into the journal.

use super::{capture, Captured};
use crate::{
    history::{
        journal::Journal,
        plan::{Kind, Record, Records}, //
    },
    stack::Mount,
    vfs::{
        attr,
        c,
        dentry::Dentry,
        error::EOPNOTSUPP,
        mount::LowerMount,
        task,
        xattr, //
    },
};
use kernel::{prelude::*, str::CStr};

/// Which attributes an operation replaces.
#[derive(Clone, Copy, Default)]
pub(crate) struct AttributeSet<'a> {
    /// Mode, owner and group, and with them the ACL that a new mode would change.
    pub(crate) access: bool,
    /// Modification and access time.
    pub(crate) times: bool,
    /// The flags of `chattr`.
    pub(crate) flags: bool,
    /// The xattr with this name.
    pub(crate) xattr: Option<&'a CStr>,
    /// A directory's default ACL.
    pub(crate) default_acl: bool,
}

/// Saves what the lower object's attributes are.
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

/// What the lower object's attributes are that `like` has records of.
pub(crate) fn gather(mount: &LowerMount, lower: &Dentry, like: Records<'_>) -> Result<KVVec<u8>> {
    let mut records = KVVec::new();
    for record in like.last_ones() {
        add(mount, lower, (record.kind, record.name), &mut records)?;
    }
    Ok(records)
}

/// What the lower object gives to whoever runs it, and a write by this caller would take away, as far as
/// `told` does not tell of it: a program's capabilities, and a setgid bit. (That of setuid is its owner's
/// to set, who is the caller.)
pub(crate) fn gather_privileges(
    mount: &LowerMount,
    lower: &Dentry,
    told: Records<'_>,
) -> Result<KVVec<u8>> {
    let mut records = KVVec::new();
    let name = xattr::CAPABILITY;
    let is_told = |record: Record<'_>| record.name == name.to_bytes();
    if !told.last_ones().any(is_told) && xattr::read(mount, lower, name)?.is_some() {
        add(mount, lower, (Kind::Xattr, name.to_bytes()), &mut records)?;
    }
    let mode = attr::access_and_times(mount, lower)?.0.mode;
    if mode & c::S_ISGID != 0 && !task::leaves_set_ids() && told.last(Kind::Access).is_none() {
        add(mount, lower, (Kind::Access, &[]), &mut records)?;
    }
    Ok(records)
}

/// Adds a record of what one attribute is.
fn add(
    mount: &LowerMount,
    lower: &Dentry,
    (kind, name): (Kind, &[u8]),
    records: &mut KVVec<u8>,
) -> Result {
    let mut put = |value: Option<&[u8]>| -> Result {
        let record = Record { kind, name, value };
        let head = record.head().ok_or(E2BIG)?;
        records.extend_from_slice(&head, GFP_KERNEL)?;
        records.extend_from_slice(name, GFP_KERNEL)?;
        Ok(records.extend_from_slice(value.unwrap_or(&[]), GFP_KERNEL)?)
    };
    match kind {
        Kind::Access => put(Some(&attr::access_and_times(mount, lower)?.0.encode())),
        Kind::Times => put(Some(&attr::access_and_times(mount, lower)?.1.encode())),
        Kind::Flags => match attr::flags(mount, lower)? {
            Some(flags) => put(Some(&flags.encode())),
            // Nothing to change, so nothing to put back.
            None => Ok(()),
        },
        Kind::Xattr => put(xattr::read(mount, lower, c_name(name, &mut KVec::new())?)?.as_deref()),
        Kind::AccessAcl => put(xattr::read_acl(mount, lower, c::ACL_TYPE_ACCESS)?.as_deref()),
        Kind::DefaultAcl => put(xattr::read_acl(mount, lower, c::ACL_TYPE_DEFAULT)?.as_deref()),
    }
}

/// The name of an xattr as C has it; `bytes` is empty, and lends its room.
pub(crate) fn c_name<'b>(name: &[u8], bytes: &'b mut KVec<u8>) -> Result<&'b CStr> {
    bytes.extend_from_slice(name, GFP_KERNEL)?;
    bytes.push(0, GFP_KERNEL)?;
    CStr::from_bytes_with_nul(bytes).map_err(|_| EINVAL)
}
