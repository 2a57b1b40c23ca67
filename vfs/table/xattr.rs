// SPDX-License-Identifier: GPL-2.0

//! Extended attributes: the xattr handlers, and `->listxattr`.

use super::{
    file::{to_int, to_ssize},
    OpsTable,
};
use crate::vfs::{
    c,
    dentry::UpperDentry,
    inode::UpperInode,
    xattr::XattrBuffer,
    Fs, //
};
use core::slice;
use kernel::{
    prelude::*,
    str::{as_char_ptr_in_const_context, CStr}, //
};

/// Operations on extended attributes.
pub(crate) trait XattrHooks {
    fn get(
        dentry: &UpperDentry,
        inode: &UpperInode,
        name: &CStr,
        value: XattrBuffer<'_>,
    ) -> Result<usize>;
    /// Without a value, removes.
    fn set(
        dentry: &UpperDentry,
        inode: &UpperInode,
        name: &CStr,
        value: Option<&[u8]>,
        flags: c_int,
    ) -> Result;
    fn list(dentry: &UpperDentry, list: XattrBuffer<'_>) -> Result<usize>;
}

/// One handler for all names; ACLs have their own inode operations.
static XATTR: OpsTable<c::xattr_handler> = OpsTable(c::xattr_handler {
    prefix: as_char_ptr_in_const_context(c""),
    get: Some(xattr_get),
    set: Some(xattr_set),
    ..pin_init::zeroed()
});

pub(super) static XATTRS: OpsTable<[*const c::xattr_handler; 2]> =
    OpsTable([&raw const XATTR.0, core::ptr::null()]);

/// # Safety
///
/// Both as the VFS passes them to a hook of a directory of ours.
unsafe fn pair<'a>(
    dir: *mut c::inode,
    dentry: *mut c::dentry,
) -> (&'a UpperInode, &'a UpperDentry) {
    // SAFETY: Guaranteed by the caller.
    let dir = unsafe { UpperInode::from_raw(dir) };
    // SAFETY: As above.
    let dentry = unsafe { UpperDentry::from_raw(dentry) };
    (dir, dentry)
}

/// # Safety
///
/// Called by the VFS with a positive dentry of ours and, unless `size` is zero, so many writable
/// bytes at `list`.
pub(super) unsafe extern "C" fn listxattr(
    dentry: *mut c::dentry,
    list: *mut c_char,
    size: usize,
) -> isize {
    // SAFETY: The VFS passes a positive dentry of ours.
    let dentry = unsafe { UpperDentry::from_raw(dentry) };
    // SAFETY: And a buffer of that size.
    let list = unsafe { XattrBuffer::from_raw(list.cast(), size) };
    to_ssize(<Fs as XattrHooks>::list(dentry, list))
}

/// # Safety
///
/// Called by the VFS with an inode of ours and a dentry of it, a C string, and, unless `size` is
/// zero, so many writable bytes at `value`.
unsafe extern "C" fn xattr_get(
    _handler: *const c::xattr_handler,
    dentry: *mut c::dentry,
    inode: *mut c::inode,
    name: *const c_char,
    value: *mut c_void,
    size: usize,
) -> c_int {
    // SAFETY: The VFS passes an inode of ours and a dentry of it.
    let (inode, dentry) = unsafe { pair(inode, dentry) };
    // SAFETY: And a C string.
    let name = unsafe { CStr::from_char_ptr(name) };
    // SAFETY: And a buffer of that size.
    let value = unsafe { XattrBuffer::from_raw(value, size) };
    to_ssize(<Fs as XattrHooks>::get(dentry, inode, name, value)) as c_int
}

/// # Safety
///
/// Called by the VFS with a locked inode of ours and a dentry of it, a C string, and `size`
/// readable bytes at `value`, or null.
unsafe extern "C" fn xattr_set(
    _handler: *const c::xattr_handler,
    _idmap: *mut c::mnt_idmap,
    dentry: *mut c::dentry,
    inode: *mut c::inode,
    name: *const c_char,
    value: *const c_void,
    size: usize,
    flags: c_int,
) -> c_int {
    // SAFETY: The VFS passes an inode of ours and a dentry of it.
    let (inode, dentry) = unsafe { pair(inode, dentry) };
    // SAFETY: And a C string.
    let name = unsafe { CStr::from_char_ptr(name) };
    // SAFETY: And so many readable bytes, unless null.
    let value = (!value.is_null()).then(|| unsafe { slice::from_raw_parts(value.cast(), size) });
    to_int(<Fs as XattrHooks>::set(dentry, inode, name, value, flags))
}
