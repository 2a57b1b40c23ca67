// SPDX-License-Identifier: GPL-2.0

//! Extended attributes. Our own, `trusted.loggerfs.*`, are not to be seen or set.

use super::{Payer, Stack};
use crate::vfs::error::ENODATA;
use crate::{
    backup::{AttributeSet, ObjectOperation, PreImage},
    history::line::Op,
    vfs::{dentry::OwnDentry, inode::OwnInode, table::inode::XattrHooks, task, xattr}, //
};
use kernel::{prelude::*, str::CStr};

/// What the names of our own xattrs begin with.
const OWN: &[u8] = b"trusted.loggerfs.";

/// Whether it is execve(2) that asks, for what a program gets from its file. Where the source's mount
/// is nosuid, that is nothing: get_file_caps() has asked a mount of ours that may not be.
fn is_for_exec(name: &CStr) -> bool {
    name.to_bytes() == xattr::CAPABILITY.to_bytes() && task::is_executing()
}

impl XattrHooks for Stack {
    fn get(
        dentry: &OwnDentry,
        inode: &OwnInode,
        name: &CStr,
        value: *mut c_void,
        size: usize,
    ) -> Result<usize> {
        if name.to_bytes().starts_with(OWN) {
            return Err(ENODATA);
        }
        let mount = inode.mount();
        if mount.lower().limits().no_set_id && is_for_exec(name) {
            return Err(ENODATA);
        }
        xattr::get_xattr(mount.lower(), dentry.lower()?, name, value, size)
    }

    fn set(
        dentry: &OwnDentry,
        inode: &OwnInode,
        name: &CStr,
        value: (*const c_void, usize),
        flags: c_int,
    ) -> Result {
        if name.to_bytes().starts_with(OWN) {
            return Err(EPERM);
        }
        let mount = inode.mount();
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
        }
        .prepare()?;
        let payer = Payer::Object(lower, value.1 as u64);
        let result = mount.with_room(payer, || {
            let _write = mount.lower().want_write()?;
            xattr::set_xattr(mount.lower(), lower, name, value, flags)
        });
        pending.settle(result.map(|()| 0));
        inode.refresh();
        result
    }

    fn list(dentry: &OwnDentry, list: *mut c_char, size: usize) -> Result<usize> {
        let mount = dentry.superblock().mount().lower();
        xattr::list_xattrs(mount, dentry.lower()?, list, size, OWN)
    }
}
