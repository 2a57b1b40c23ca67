// SPDX-License-Identifier: GPL-2.0

//! Attributes: size, mode, owner, times, ACLs, flags.

use super::Stack;
use crate::{
    backup::{AttributeSet, ObjectOperation, PreImage, PreparedOperation},
    log::line::Op,
    record,
    state::SpaceRequest,
    vfs::{
        attr::{self, AttrChange},
        c,
        dentry::UpperDentry,
        error::EOPNOTSUPP,
        file::File,
        inode::UpperInode,
        table::inode::AttributeHooks,
        xattr::{self, PosixAcl},
    },
};
use kernel::{prelude::*, sync::aref::ARef};

impl AttributeHooks for Stack {
    fn setattr(dentry: &UpperDentry, change: &mut AttrChange<'_>) -> Result {
        let inode = dentry.existing()?;
        inode.copy_attr_if_changed();
        // notify_change() holds i_rwsem and leaves setattr_prepare() to ->setattr.
        change.check(dentry)?;
        change.drop_hidden_set_id(inode.mount().lower(), inode.lower());
        match change.size() {
            // vfs_truncate() has checked the upper inode before its flags were copied from the
            // lower one.
            Some(_) if inode.is_protected() => Err(EPERM),
            Some(size) => truncate(dentry, inode, change, size),
            None => {
                let pending = saved(dentry, inode, change)?;
                let result = apply(dentry, inode, change);
                match pending {
                    Some(pending) => pending.settle(result.map(|()| 0)),
                    None => record::note_ctime_change(inode, dentry),
                }
                inode.copy_attr();
                result
            }
        }
    }

    fn getattr(dentry: &UpperDentry, stat: &mut c::kstat, mask: u32, flags: u32) -> Result {
        // The VFS uses the upper attributes after getattr; cp reads up to `i_size`, for example.
        dentry.existing()?.copy_attr_if_changed();
        attr::stat(
            dentry.superblock().mount().lower(),
            dentry,
            stat,
            mask,
            flags,
        )
    }

    fn set_acl(dentry: &UpperDentry, acl: Option<&PosixAcl<'_>>, kind: c_int) -> Result {
        let inode = dentry.existing()?;
        let mount = inode.mount();
        let lower = dentry.lower()?;
        // An access ACL also sets the mode's permission bits.
        let is_access = kind == c::ACL_TYPE_ACCESS;
        let wanted = AttributeSet {
            access: is_access,
            default_acl: !is_access,
            ..AttributeSet::default()
        };
        let pending = save(dentry, inode, Op::Setacl, wanted)?;
        // The lower posix_acl_update_mode() sees the mounter, who may keep S_ISGID, so the caller's
        // permission is checked here, as in ovl_set_acl().
        let loses_set_group = is_access && acl.is_some() && inode.lower().loses_set_group();
        let result = mount.with_space(SpaceRequest::Object(lower, 4096), || {
            let _write = mount.lower().want_write()?;
            if loses_set_group {
                attr::drop_set_group(mount.lower(), lower)?;
            }
            xattr::set_acl(mount.lower(), lower, acl, kind)
        });
        pending.settle(result.map(|()| 0));
        inode.copy_attr();
        result
    }

    fn fileattr_get(dentry: &UpperDentry, flags: &mut c::file_kattr) -> Result {
        attr::get_flags(dentry.superblock().mount().lower(), dentry.lower()?, flags)
    }

    fn fileattr_set(dentry: &UpperDentry, flags: &mut c::file_kattr) -> Result {
        let inode = dentry.existing()?;
        let mount = inode.mount();
        let lower = dentry.lower()?;
        // vfs_fileattr_set() has checked the owner, locked the inode and filled in the missing
        // flags.
        if inode.is_directory() && attr::folds_case(flags) {
            // The upper dcache compares names byte by byte, so a casefolded directory cannot be
            // stacked on.
            return Err(EOPNOTSUPP);
        }
        let wanted = AttributeSet {
            flags: true,
            ..AttributeSet::default()
        };
        let pending = save(dentry, inode, Op::Setflags, wanted)?;
        let result = mount
            .lower()
            .want_write()
            .and_then(|_write| attr::set_flags(mount.lower(), lower, flags));
        pending.settle(result.map(|()| 0));
        inode.copy_attr();
        result
    }

    fn update_atime(inode: &UpperInode) {
        inode.mount().lower().update_access_time(inode);
    }
}

/// Captures attributes before a change.
fn save<'a>(
    dentry: &'a UpperDentry,
    inode: &'a UpperInode,
    op: Op,
    wanted: AttributeSet<'a>,
) -> Result<PreparedOperation<'a>> {
    ObjectOperation {
        inode,
        open: None,
        op,
        at: 0,
        length: 0,
        pre_image: PreImage::Attributes(dentry.lower()?, wanted),
        durable: false,
        is_direct: false,
        call: None,
    }
    .prepare()
}

/// Captures mode, owner, group and times before a change. A change of the access time alone is not
/// logged.
fn saved<'a>(
    dentry: &'a UpperDentry,
    inode: &'a UpperInode,
    change: &mut AttrChange<'_>,
) -> Result<Option<PreparedOperation<'a>>> {
    if change.is_access_time_only() {
        record::load(inode)?;
        return Ok(None);
    }
    save_access(dentry, inode, change).map(Some)
}

fn save_access<'a>(
    dentry: &'a UpperDentry,
    inode: &'a UpperInode,
    change: &mut AttrChange<'_>,
) -> Result<PreparedOperation<'a>> {
    let wanted = AttributeSet {
        access: change.is_of_access(),
        times: change.is_of_times() || !change.is_of_access(),
        ..AttributeSet::default()
    };
    save(dentry, inode, Op::Setattr, wanted)
}

fn apply(dentry: &UpperDentry, inode: &UpperInode, change: &mut AttrChange<'_>) -> Result {
    let mount = inode.mount().lower();
    let lower = dentry.lower()?;
    let _write = mount.want_write()?;
    change.apply(mount, lower)
}

/// Truncates or extends a file. Further attributes of the change (dropped set-id bits, a new mode)
/// get their own line.
fn truncate(
    dentry: &UpperDentry,
    inode: &UpperInode,
    change: &mut AttrChange<'_>,
    size: u64,
) -> Result {
    inode.copy_attr_if_changed();
    record::load(inode)?;
    let old = inode.size();
    let also = if change.is_more_than_size() {
        Some(save_access(dentry, inode, change)?)
    } else {
        None
    };
    let reader = reader(dentry, inode, change, size < old)?;
    let file = change.file();
    let pre_image = match &reader {
        Some(reader) => PreImage::Range(reader, size, old),
        None => PreImage::Nothing,
    };
    let pending = ObjectOperation {
        inode,
        open: file.map(|f| f.open()),
        op: Op::Truncate,
        at: size.min(old),
        length: size.abs_diff(old),
        pre_image,
        durable: inode.is_sync(),
        is_direct: false,
        call: None,
    }
    .prepare()?;
    // vfs_truncate() has taken write access of the upper inode only; the lower file may be
    // executed.
    let access = inode.lower().write_access();
    let result = access.and_then(|_access| apply(dentry, inode, change));
    pending.settle(result.map(|()| size.abs_diff(old)));
    if let Some(also) = also {
        also.settle(result.map(|()| 0));
    }
    inode.copy_attr();
    result
}

/// A lower file for reading the bytes that a truncation cuts off: the caller's, or a new one.
fn reader(
    dentry: &UpperDentry,
    inode: &UpperInode,
    change: &mut AttrChange<'_>,
    cuts: bool,
) -> Result<Option<ARef<File>>> {
    let mount = inode.mount();
    if !cuts || mount.journal().is_none() {
        return Ok(None);
    }
    if let Some(file) = change.file() {
        if file.is_writable() {
            return Ok(Some(ARef::from(file.lower())));
        }
    }
    File::open_kernel(mount.lower(), dentry.lower()?, c::O_RDONLY).map(Some)
}
