// SPDX-License-Identifier: GPL-2.0

//! Extended attributes and POSIX ACLs of lower objects.
//!
//! C headers: [`include/linux/xattr.h`](srctree/include/linux/xattr.h),
//! [`include/linux/posix_acl.h`](srctree/include/linux/posix_acl.h)

use super::{
    c,
    dentry::Dentry,
    error::{ENODATA, EOPNOTSUPP},
    file::errno,
    mount::LowerMount, //
};
use core::{
    marker::PhantomData,
    ptr::{null_mut, NonNull}, //
};
use kernel::{
    error::to_result,
    prelude::*,
    str::CStr, //
};

/// A buffer for a value or for names. Size 0: only the length is asked for.
pub(crate) struct XattrBuffer<'a> {
    start: *mut c_void,
    size: usize,
    _bytes: PhantomData<&'a mut [u8]>,
}

impl<'a> XattrBuffer<'a> {
    /// # Safety
    ///
    /// Unless `size` is zero, so many bytes at `start` are writable for `'a`, and used by nobody
    /// else.
    pub(super) unsafe fn from_raw(start: *mut c_void, size: usize) -> Self {
        Self {
            start,
            size,
            _bytes: PhantomData,
        }
    }

    fn new(bytes: &'a mut [u8]) -> Self {
        Self {
            start: bytes.as_mut_ptr().cast(),
            size: bytes.len(),
            _bytes: PhantomData,
        }
    }
}

/// An ACL that the VFS passes.
pub(crate) struct PosixAcl<'a>(NonNull<c::posix_acl>, PhantomData<&'a c::posix_acl>);

impl PosixAcl<'_> {
    /// `None` for null.
    ///
    /// # Safety
    ///
    /// `ptr` is null, or a live ACL for `'a`.
    pub(super) unsafe fn from_raw(ptr: *mut c::posix_acl) -> Option<Self> {
        Some(Self(NonNull::new(ptr)?, PhantomData))
    }
}

/// vfs_getxattr(); size 0 returns the value's length.
pub(crate) fn get_xattr(
    mount: &LowerMount,
    lower: &Dentry,
    name: &CStr,
    value: XattrBuffer<'_>,
) -> Result<usize> {
    // As the mounter: cap_inode_getsecurity() converts the value for the caller's user namespace,
    // and the upper call has done so already.
    let _acting = mount.as_mounter();
    // SAFETY: A live dentry, a C string, and a buffer with its size.
    let n = unsafe {
        c::vfs_getxattr(
            mount.idmap(),
            lower.as_ptr(),
            name.as_char_ptr(),
            value.start,
            value.size,
        )
    };
    usize::try_from(n).map_err(|_| errno(n))
}

/// File capabilities. A write removes them, for every writer.
pub(crate) const CAPABILITY: &CStr = c"security.capability";

/// Removes [`CAPABILITY`] without a permission check: the upper call was checked, or came from a
/// write, which needs no permission for this.
fn strip_capability(mount: &LowerMount, lower: &Dentry) -> Result {
    let inode = lower.inode().ok_or(ENOENT)?;
    let _lock = inode.lock();
    let name = CAPABILITY.as_char_ptr();
    // SAFETY: A live dentry whose inode is locked, and a C string.
    to_result(unsafe { c::__vfs_removexattr(mount.idmap(), lower.as_ptr(), name) })
}

/// Sets an xattr; `None` removes it. The caller has write access.
pub(crate) fn set_xattr(
    mount: &LowerMount,
    lower: &Dentry,
    name: &CStr,
    value: Option<&[u8]>,
    flags: c_int,
) -> Result {
    if value.is_none() && name == CAPABILITY {
        return strip_capability(mount, lower);
    }
    let (idmap, dentry, name) = (mount.idmap(), lower.as_ptr(), name.as_char_ptr());
    let err = match value {
        // SAFETY: A live dentry and a C string.
        None => unsafe { c::vfs_removexattr(idmap, dentry, name) },
        Some(value) => {
            let (start, size) = (value.as_ptr().cast(), value.len());
            // SAFETY: As above, and bytes with their length.
            unsafe { c::vfs_setxattr(idmap, dentry, name, start, size, flags) }
        }
    };
    to_result(err)
}

/// Prefix of the names of LoggerFS's own xattrs, which stay below.
pub(crate) const OWN: &[u8] = b"trusted.loggerfs.";

/// Prefix of xattr names that only CAP_SYS_ADMIN may list.
const TRUSTED: &[u8] = b"trusted.";

/// The former name of an orphan, if too long for its entry.
const LONG_NAME: &CStr = c"trusted.loggerfs.name";

/// Sets [`LONG_NAME`]. The caller has write access.
pub(crate) fn set_long_name(mount: &LowerMount, lower: &Dentry, name: &[u8]) -> Result {
    set_xattr(mount, lower, LONG_NAME, Some(name), 0)
}

/// Reads [`LONG_NAME`] into `buf`; returns its length.
pub(crate) fn long_name(mount: &LowerMount, lower: &Dentry, buf: &mut [u8]) -> Result<usize> {
    get_xattr(mount, lower, LONG_NAME, XattrBuffer::new(buf))
}

/// Removes [`LONG_NAME`] if set.
pub(crate) fn forget_long_name(mount: &LowerMount, lower: &Dentry) -> Result {
    let mut buf = [0; 255];
    if long_name(mount, lower, &mut buf).is_err() {
        return Ok(());
    }
    let _write = mount.want_write()?;
    set_xattr(mount, lower, LONG_NAME, None, 0)
}

/// `->listxattr`: copies the names, each with its NUL, except those with the prefix `hidden`. Size
/// 0 returns the length.
pub(crate) fn list_xattrs(
    mount: &LowerMount,
    lower: &Dentry,
    list: XattrBuffer<'_>,
    hidden: &[u8],
) -> Result<usize> {
    let mut names = all_names(mount, lower)?;
    // Lower filesystems list `trusted.` names for CAP_SYS_ADMIN only, but are called as the
    // mounter.
    let users = &raw mut c::init_user_ns;
    // SAFETY: The first user namespace, which is never freed.
    let sees_all = unsafe { c::ns_capable_noaudit(users, c::CAP_SYS_ADMIN as c_int) };
    let n = without(&mut names, |name| {
        name.starts_with(hidden) || (!sees_all && is_trusted(name))
    });
    if list.size == 0 || n == 0 {
        return Ok(n);
    }
    if n > list.size {
        return Err(ERANGE);
    }
    // SAFETY: The buffer has `size` bytes, and `names` is one of our own with `n` at least.
    unsafe { core::ptr::copy_nonoverlapping(names.as_ptr(), list.start.cast::<u8>(), n) };
    Ok(n)
}

/// Whether only CAP_SYS_ADMIN may see an xattr of this name.
pub(crate) fn is_trusted(name: &[u8]) -> bool {
    name.starts_with(TRUSTED)
}

/// The names of all xattrs, each with its NUL.
pub(crate) fn all_names(mount: &LowerMount, lower: &Dentry) -> Result<KVVec<u8>> {
    let _acting = mount.as_mounter();
    let list = |to: *mut c_char, size: usize| {
        // SAFETY: A live dentry, and a buffer of that size.
        let n = unsafe { c::vfs_listxattr(lower.as_ptr(), to, size) };
        usize::try_from(n).map_err(|_| errno(n))
    };
    let mut names = KVVec::new();
    for _ in 0..TRIES {
        let size = list(null_mut(), 0)?;
        names.resize(size, 0u8, GFP_KERNEL)?;
        if size == 0 {
            return Ok(names);
        }
        match list(names.as_mut_ptr().cast(), size) {
            Err(e) if e == ERANGE => {}
            Err(e) => return Err(e),
            Ok(n) => {
                names.truncate(n);
                return Ok(names);
            }
        }
    }
    Err(EAGAIN)
}

/// Removes the hidden names from a list of NUL-terminated names; returns the new length.
fn without(names: &mut [u8], is_hidden: impl Fn(&[u8]) -> bool) -> usize {
    let (mut from, mut to) = (0, 0);
    while let Some(rest) = names.get(from..).filter(|rest| !rest.is_empty()) {
        let len = rest
            .iter()
            .position(|b| *b == 0)
            .map_or(rest.len(), |i| i + 1);
        if !is_hidden(rest) {
            names.copy_within(from..from + len, to);
            to += len;
        }
        from += len;
    }
    to
}

/// Sets an ACL; `None` removes it. The caller has write access.
pub(crate) fn set_acl(
    mount: &LowerMount,
    lower: &Dentry,
    acl: Option<&PosixAcl<'_>>,
    kind: c_int,
) -> Result {
    let (idmap, dentry) = (mount.idmap(), lower.as_ptr());
    let name = acl_name(kind).as_char_ptr();
    let err = match acl {
        // SAFETY: A live dentry and a C string.
        None => unsafe { c::vfs_remove_acl(idmap, dentry, name) },
        // SAFETY: As above, and a live ACL.
        Some(acl) => unsafe { c::vfs_set_acl(idmap, dentry, name, acl.0.as_ptr()) },
    };
    to_result(err)
}

/// Limit of retries for a value that grows between the query of its size and the read.
const TRIES: usize = 8;

/// An xattr's raw value, without a permission check; `None` if the xattr does not exist.
pub(crate) fn read(mount: &LowerMount, lower: &Dentry, name: &CStr) -> Result<Option<KVVec<u8>>> {
    let _acting = mount.as_mounter();
    let inode = lower.inode().ok_or(ENOENT)?.as_ptr();
    let get = |value: *mut c_void, size: usize| {
        let (dentry, name) = (lower.as_ptr(), name.as_char_ptr());
        // SAFETY: A live dentry with its inode, a C string, and a buffer of that size.
        let n = unsafe { c::__vfs_getxattr(dentry, inode, name, value, size) };
        usize::try_from(n).map_err(|_| errno(n))
    };
    let mut value = KVVec::new();
    for _ in 0..TRIES {
        let size = match get(null_mut(), 0) {
            Err(e) if e == ENODATA || e == EOPNOTSUPP => return Ok(None),
            size => size?,
        };
        value.resize(size, 0, GFP_KERNEL)?;
        if size == 0 {
            return Ok(Some(value));
        }
        match get(value.as_mut_ptr().cast(), size) {
            Err(e) if e == ERANGE => {}
            Err(e) if e == ENODATA => return Ok(None),
            Err(e) => return Err(e),
            Ok(n) => {
                value.truncate(n);
                return Ok(Some(value));
            }
        }
    }
    Err(EAGAIN)
}

/// Whether the caller may set the file's present capabilities.
pub(crate) fn may_have_capabilities(mount: &LowerMount, lower: &Dentry) -> Result<bool> {
    let Some(value) = read(mount, lower, CAPABILITY)? else {
        return Ok(true);
    };
    may_set_capability(lower, &value)
}

/// Whether the caller may set these file capabilities.
pub(crate) fn may_set_capability(lower: &Dentry, value: &[u8]) -> Result<bool> {
    let inode = lower.inode().ok_or(ENOENT)?.as_ptr();
    // SAFETY: A live inode, and bytes with their length.
    Ok(unsafe { c::lfs_may_set_capability(inode, value.as_ptr().cast(), value.len()) })
}

/// Whether to set a `user.` xattr with the mounter's credentials: the caller owns a file that the
/// mode or ACL makes read-only. The owner could make the file writable first, and the file may have
/// been writable when the value was set.
fn needs_owner(mount: &LowerMount, lower: &Dentry, name: &CStr) -> Result<bool> {
    if !name.to_bytes().starts_with(b"user.") {
        return Ok(false);
    }
    let inode = lower.inode().ok_or(ENOENT)?;
    if !inode.owner_or_capable() {
        return Ok(false);
    }
    // CAST: A small flag.
    let wanted = c::MAY_WRITE as c_int;
    // SAFETY: A live inode, and the lower mount's id map.
    Ok(unsafe { c::generic_permission(mount.idmap(), inode.as_ptr(), wanted) } != 0)
}

/// Sets or removes an xattr, as the caller, who has write access. Removing an xattr that does not
/// exist is not an error.
pub(crate) fn put(mount: &LowerMount, lower: &Dentry, name: &CStr, value: Option<&[u8]>) -> Result {
    let _acting = match value {
        _ if needs_owner(mount, lower, name)? => Some(mount.credentials().as_mounter_for_caller()?),
        // The saved raw value must not be converted for the caller's user namespace.
        Some(value) if name == CAPABILITY => {
            if !may_set_capability(lower, value)? {
                return Err(EPERM);
            }
            Some(mount.credentials().as_mounter_for_caller()?)
        }
        _ => None,
    };
    match set_xattr(mount, lower, name, value, 0) {
        Err(e) if value.is_none() && e == ENODATA => Ok(()),
        result => result,
    }
}

/// A counted ACL.
struct Acl(*mut c::posix_acl);

impl Drop for Acl {
    fn drop(&mut self) {
        // SAFETY: A counted ACL, or null.
        unsafe { c::lfs_put_acl(self.0) };
    }
}

fn acl_name(kind: c_int) -> &'static CStr {
    if kind == c::ACL_TYPE_ACCESS {
        c"system.posix_acl_access"
    } else {
        c"system.posix_acl_default"
    }
}

/// An ACL in xattr format; `None` if there is no ACL, or no support for ACLs.
pub(crate) fn read_acl(
    mount: &LowerMount,
    lower: &Dentry,
    kind: c_int,
) -> Result<Option<KVVec<u8>>> {
    let name = acl_name(kind).as_char_ptr();
    let _acting = mount.as_mounter();
    // SAFETY: A live dentry and a C string.
    let acl = unsafe { c::vfs_get_acl(mount.idmap(), lower.as_ptr(), name) };
    let acl = match kernel::error::from_err_ptr(acl) {
        Err(e) if e == ENODATA || e == EOPNOTSUPP => return Ok(None),
        acl => Acl(acl?),
    };
    if acl.0.is_null() {
        return Ok(None);
    }
    let mut size = 0;
    let users = &raw mut c::init_user_ns;
    // SAFETY: A live ACL, the first user namespace, which is never freed, and a place for the size.
    let bytes = unsafe { c::posix_acl_to_xattr(users, acl.0, &mut size, c::GFP_KERNEL) };
    if bytes.is_null() {
        return Err(ENOMEM);
    }
    let mut value = KVVec::new();
    // SAFETY: The call above allocated and filled that many bytes.
    let filled = unsafe { core::slice::from_raw_parts(bytes.cast::<u8>(), size) };
    let result = value.extend_from_slice(filled, GFP_KERNEL);
    // SAFETY: Allocated for us by the call above.
    unsafe { c::kfree(bytes) };
    result?;
    Ok(Some(value))
}

/// Sets an ACL in the format of [`read_acl`]; `None` removes the ACL. As the caller, who has write
/// access.
pub(crate) fn put_acl(
    mount: &LowerMount,
    lower: &Dentry,
    kind: c_int,
    value: Option<&[u8]>,
) -> Result {
    let Some(value) = value else {
        return match set_acl(mount, lower, None, kind) {
            Err(e) if e == ENODATA || e == EOPNOTSUPP => Ok(()),
            result => result,
        };
    };
    let users = &raw mut c::init_user_ns;
    // SAFETY: The first user namespace, which is never freed, and bytes with their length, of which
    // nothing is believed.
    let acl = unsafe { c::posix_acl_from_xattr(users, value.as_ptr().cast(), value.len()) };
    let acl = Acl(kernel::error::from_err_ptr(acl)?);
    // SAFETY: `acl` holds the ACL, if any.
    let borrowed = unsafe { PosixAcl::from_raw(acl.0) };
    set_acl(mount, lower, borrowed.as_ref(), kind)
}
