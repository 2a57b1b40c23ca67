// SPDX-License-Identifier: GPL-2.0

//! Extended attributes. LoggerFS's own `trusted.loggerfs.*` are hidden.

use super::Stack;
use crate::{
    backup::{AttributeSet, ObjectOperation, PreImage},
    log::line::Op,
    state::SpaceRequest,
    vfs::{
        dentry::UpperDentry,
        error::ENODATA,
        inode::UpperInode,
        table::xattr::XattrHooks,
        task,
        xattr::{self, XattrBuffer}, //
    },
};
use kernel::{prelude::*, str::CStr};

/// Whether execve(2) reads the file's capabilities. On a nosuid source they must be ignored, but
/// get_file_caps() has checked the upper mount only.
fn is_for_exec(name: &CStr) -> bool {
    name.to_bytes() == xattr::CAPABILITY.to_bytes() && task::is_executing()
}

impl XattrHooks for Stack {
    fn get(
        dentry: &UpperDentry,
        inode: &UpperInode,
        name: &CStr,
        value: XattrBuffer<'_>,
    ) -> Result<usize> {
        if name.to_bytes().starts_with(xattr::OWN) {
            return Err(ENODATA);
        }
        let mount = inode.mount();
        // vfs_getxattr() has called xattr_permission(), and security_inode_getsecurity() for the
        // security namespace.
        if mount.lower().limits().no_set_id && is_for_exec(name) {
            return Err(ENODATA);
        }
        xattr::get_xattr(mount.lower(), dentry.lower()?, name, value)
    }

    fn set(
        dentry: &UpperDentry,
        inode: &UpperInode,
        name: &CStr,
        value: Option<&[u8]>,
        flags: c_int,
    ) -> Result {
        if name.to_bytes().starts_with(xattr::OWN) {
            return Err(EPERM);
        }
        let mount = inode.mount();
        // vfs_setxattr() holds i_rwsem and has called xattr_permission() on the upper inode.
        let lower = dentry.lower()?;
        let pending = ObjectOperation {
            inode,
            open: None,
            op: Op::Setxattr,
            at: 0,
            length: 0,
            pre_image: PreImage::Attributes(
                lower,
                AttributeSet {
                    xattr: Some(name),
                    ..AttributeSet::default()
                },
            ),
            durable: false,
            is_direct: false,
            call: None,
        }
        .prepare()?;
        let request = SpaceRequest::Object(lower, value.map_or(0, <[u8]>::len) as u64);
        let result = mount.with_space(request, || {
            let _write = mount.lower().want_write()?;
            xattr::set_xattr(mount.lower(), lower, name, value, flags)
        });
        pending.settle(result.map(|()| 0));
        inode.copy_attr();
        result
    }

    fn list(dentry: &UpperDentry, list: XattrBuffer<'_>) -> Result<usize> {
        let mount = dentry.superblock().mount().lower();
        // vfs_listxattr() has called security_inode_listxattr() for the upper inode.
        xattr::list_xattrs(mount, dentry.lower()?, list, xattr::OWN)
    }
}
