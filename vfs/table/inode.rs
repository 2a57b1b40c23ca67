// SPDX-License-Identifier: GPL-2.0

//! `inode_operations`.

use super::{file::to_int, superblock::SuperHooks, xattr::listxattr, OpsTable};
use crate::vfs::{
    attr::AttrChange,
    c,
    dentry::UpperDentry,
    file::UnnamedFile,
    inode::UpperInode,
    locked_name::{LockedName, LookupResult, NewName},
    mount::LowerMount,
    xattr::PosixAcl,
    Fs, //
};
use core::ptr::null_mut;
use kernel::{
    prelude::*,
    str::CStr, //
};

/// Operations on names. The VFS holds the directories' locks.
pub(crate) trait NameHooks {
    /// `->lookup`: ends with [`NewName::d_splice_alias`].
    fn lookup(dir: &UpperInode, dentry: NewName<'_>) -> Result<LookupResult>;
    /// `exclusive`: with O_EXCL, if the series passes that flag.
    fn create(dir: &UpperInode, dentry: NewName<'_>, mode: u16, exclusive: bool) -> Result;
    fn mkdir(dir: &UpperInode, dentry: NewName<'_>, mode: u16) -> Result;
    fn mknod(dir: &UpperInode, dentry: NewName<'_>, mode: u16, device: u32) -> Result;
    fn symlink(dir: &UpperInode, dentry: NewName<'_>, target: &CStr) -> Result;
    fn link(old: &UpperDentry, dir: &UpperInode, dentry: NewName<'_>) -> Result;
    fn unlink(dir: &UpperInode, dentry: LockedName<'_>) -> Result;
    fn rmdir(dir: &UpperInode, dentry: LockedName<'_>) -> Result;
    fn rename(
        from: (&UpperInode, LockedName<'_>),
        to: (&UpperInode, LockedName<'_>),
        flags: u32,
    ) -> Result;
    /// O_TMPFILE: creates an unnamed file, and ends with [`UnnamedFile::finish`].
    fn tmpfile(dir: &UpperInode, file: UnnamedFile<'_>, mode: u16) -> Result;
}

/// Operations on attributes.
pub(crate) trait AttributeHooks {
    /// `->setattr`; the upper inode is locked.
    fn setattr(dentry: &UpperDentry, change: &mut AttrChange<'_>) -> Result;
    /// `->getattr`.
    fn getattr(dentry: &UpperDentry, stat: &mut c::kstat, mask: u32, flags: u32) -> Result;
    /// `->set_acl`; the upper inode is locked.
    fn set_acl(dentry: &UpperDentry, acl: Option<&PosixAcl<'_>>, kind: c_int) -> Result;
    /// `->fileattr_get`.
    fn fileattr_get(dentry: &UpperDentry, flags: &mut c::file_kattr) -> Result;
    /// `->fileattr_set`; the upper inode is locked.
    fn fileattr_set(dentry: &UpperDentry, flags: &mut c::file_kattr) -> Result;
    /// `->update_time` for the access time: touch_atime() has checked the upper mount and inode.
    fn update_atime(inode: &UpperInode);
}

pub(super) static FILE: OpsTable<c::inode_operations> = OpsTable(c::inode_operations {
    permission: Some(permission),
    setattr: Some(setattr),
    getattr: Some(getattr),
    listxattr: Some(listxattr),
    fiemap: Some(fiemap),
    update_time: Some(update_time),
    get_inode_acl: Some(get_inode_acl),
    set_acl: Some(set_acl),
    fileattr_get: Some(fileattr_get),
    fileattr_set: Some(fileattr_set),
    ..pin_init::zeroed()
});

pub(super) static DIRECTORY: OpsTable<c::inode_operations> = OpsTable(c::inode_operations {
    lookup: Some(lookup),
    create: Some(create),
    link: Some(link),
    unlink: Some(unlink),
    symlink: Some(symlink),
    mkdir: Some(mkdir),
    rmdir: Some(rmdir),
    mknod: Some(mknod),
    rename: Some(rename),
    tmpfile: Some(tmpfile),
    permission: Some(permission),
    setattr: Some(setattr),
    getattr: Some(getattr),
    listxattr: Some(listxattr),
    update_time: Some(update_time),
    get_inode_acl: Some(get_inode_acl),
    set_acl: Some(set_acl),
    fileattr_get: Some(fileattr_get),
    fileattr_set: Some(fileattr_set),
    ..pin_init::zeroed()
});

pub(super) static SYMLINK: OpsTable<c::inode_operations> = OpsTable(c::inode_operations {
    get_link: Some(get_link),
    setattr: Some(setattr),
    getattr: Some(getattr),
    listxattr: Some(listxattr),
    update_time: Some(update_time),
    ..pin_init::zeroed()
});

pub(super) static SPECIAL: OpsTable<c::inode_operations> = OpsTable(c::inode_operations {
    permission: Some(permission),
    setattr: Some(setattr),
    getattr: Some(getattr),
    listxattr: Some(listxattr),
    update_time: Some(update_time),
    get_inode_acl: Some(get_inode_acl),
    set_acl: Some(set_acl),
    ..pin_init::zeroed()
});

fn lower_mount(inode: &UpperInode) -> &LowerMount {
    <Fs as SuperHooks>::lower(inode.mount())
}

/// # Safety
///
/// As for [`UpperInode::from_raw`] and [`NewName::from_raw`].
unsafe fn new_name<'a>(
    dir: *mut c::inode,
    dentry: *mut c::dentry,
) -> (&'a UpperInode, NewName<'a>) {
    // SAFETY: Guaranteed by the caller.
    let dir = unsafe { UpperInode::from_raw(dir) };
    // SAFETY: As above.
    let dentry = unsafe { NewName::from_raw(dentry) };
    (dir, dentry)
}

/// # Safety
///
/// As for [`UpperInode::from_raw`] and [`LockedName::from_raw`].
unsafe fn locked_name<'a>(
    dir: *mut c::inode,
    dentry: *mut c::dentry,
) -> (&'a UpperInode, LockedName<'a>) {
    // SAFETY: Guaranteed by the caller.
    let dir = unsafe { UpperInode::from_raw(dir) };
    // SAFETY: As above.
    let dentry = unsafe { LockedName::from_raw(dentry) };
    (dir, dentry)
}

/// # Safety
///
/// Called by the VFS with a directory of ours, locked for reading, and a new dentry in it, which
/// other tasks wait for.
unsafe extern "C" fn lookup(
    dir: *mut c::inode,
    dentry: *mut c::dentry,
    _flags: c_uint,
) -> *mut c::dentry {
    // SAFETY: The VFS passes a directory of ours and a new dentry.
    let (dir, dentry) = unsafe { new_name(dir, dentry) };
    <Fs as NameHooks>::lookup(dir, dentry).map_or_else(|e| e.to_ptr(), LookupResult::into_raw)
}

/// # Safety
///
/// Called by the VFS with a locked directory of ours and a negative dentry in it.
#[cfg(not(series_7_3))]
unsafe extern "C" fn create(
    _idmap: *mut c::mnt_idmap,
    dir: *mut c::inode,
    dentry: *mut c::dentry,
    mode: c::umode_t,
    exclusive: bool,
) -> c_int {
    // SAFETY: The VFS passes a locked directory of ours and a negative dentry in it.
    let (dir, dentry) = unsafe { new_name(dir, dentry) };
    to_int(<Fs as NameHooks>::create(dir, dentry, mode, exclusive))
}

/// # Safety
///
/// Called by the VFS with a locked directory of ours and a negative dentry in it.
#[cfg(series_7_3)]
unsafe extern "C" fn create(
    _idmap: *mut c::mnt_idmap,
    dir: *mut c::inode,
    dentry: *mut c::dentry,
    mode: c::umode_t,
) -> c_int {
    // SAFETY: The VFS passes a locked directory of ours and a negative dentry in it.
    let (dir, dentry) = unsafe { new_name(dir, dentry) };
    // With O_EXCL, the second lookup finds the existing name.
    to_int(<Fs as NameHooks>::create(dir, dentry, mode, false))
}

/// # Safety
///
/// Called by the VFS with a locked directory of ours and a negative dentry in it, and with
/// `old`, a positive dentry of ours.
unsafe extern "C" fn link(
    old: *mut c::dentry,
    dir: *mut c::inode,
    dentry: *mut c::dentry,
) -> c_int {
    // SAFETY: The VFS passes a locked directory of ours and a negative dentry in it.
    let (dir, dentry) = unsafe { new_name(dir, dentry) };
    // SAFETY: And a positive dentry of ours.
    let old = unsafe { UpperDentry::from_raw(old) };
    to_int(<Fs as NameHooks>::link(old, dir, dentry))
}

/// # Safety
///
/// Called by the VFS with a locked directory of ours and a positive dentry in it.
unsafe extern "C" fn unlink(dir: *mut c::inode, dentry: *mut c::dentry) -> c_int {
    // SAFETY: The VFS passes a locked directory of ours and a positive dentry in it.
    let (dir, dentry) = unsafe { locked_name(dir, dentry) };
    to_int(<Fs as NameHooks>::unlink(dir, dentry))
}

/// # Safety
///
/// Called by the VFS with a locked directory of ours and a negative dentry in it, and with a
/// C string.
unsafe extern "C" fn symlink(
    _idmap: *mut c::mnt_idmap,
    dir: *mut c::inode,
    dentry: *mut c::dentry,
    target: *const c_char,
) -> c_int {
    // SAFETY: The VFS passes a locked directory of ours and a negative dentry in it.
    let (dir, dentry) = unsafe { new_name(dir, dentry) };
    // SAFETY: And a C string.
    let target = unsafe { CStr::from_char_ptr(target) };
    to_int(<Fs as NameHooks>::symlink(dir, dentry, target))
}

/// # Safety
///
/// Called by the VFS with a locked directory of ours and a negative dentry in it.
unsafe extern "C" fn mkdir(
    _idmap: *mut c::mnt_idmap,
    dir: *mut c::inode,
    dentry: *mut c::dentry,
    mode: c::umode_t,
) -> *mut c::dentry {
    // SAFETY: The VFS passes a locked directory of ours and a negative dentry in it.
    let (dir, dentry) = unsafe { new_name(dir, dentry) };
    match <Fs as NameHooks>::mkdir(dir, dentry, mode) {
        Ok(()) => null_mut(),
        Err(e) => e.to_ptr(),
    }
}

/// # Safety
///
/// Called by the VFS with a locked directory of ours and a positive dentry in it.
unsafe extern "C" fn rmdir(dir: *mut c::inode, dentry: *mut c::dentry) -> c_int {
    // SAFETY: The VFS passes a locked directory of ours and a positive dentry in it.
    let (dir, dentry) = unsafe { locked_name(dir, dentry) };
    to_int(<Fs as NameHooks>::rmdir(dir, dentry))
}

/// # Safety
///
/// Called by the VFS with a locked directory of ours and a negative dentry in it.
unsafe extern "C" fn mknod(
    _idmap: *mut c::mnt_idmap,
    dir: *mut c::inode,
    dentry: *mut c::dentry,
    mode: c::umode_t,
    device: c::dev_t,
) -> c_int {
    // SAFETY: The VFS passes a locked directory of ours and a negative dentry in it.
    let (dir, dentry) = unsafe { new_name(dir, dentry) };
    to_int(<Fs as NameHooks>::mknod(dir, dentry, mode, device))
}

/// # Safety
///
/// Called by the VFS with two locked directories of ours and a dentry in each; `old` is positive.
unsafe extern "C" fn rename(
    _idmap: *mut c::mnt_idmap,
    from: *mut c::inode,
    old: *mut c::dentry,
    to: *mut c::inode,
    new: *mut c::dentry,
    flags: c_uint,
) -> c_int {
    // SAFETY: The VFS passes two directories of ours and dentries in them.
    let from = unsafe { locked_name(from, old) };
    // SAFETY: As above; vfs_rename() has returned early for one dentry twice.
    let to = unsafe { locked_name(to, new) };
    to_int(<Fs as NameHooks>::rename(from, to, flags))
}

/// # Safety
///
/// Called by the VFS with a directory of ours and a file that is being opened in it, by a new dentry
/// that no other task sees.
unsafe extern "C" fn tmpfile(
    _idmap: *mut c::mnt_idmap,
    dir: *mut c::inode,
    file: *mut c::file,
    mode: c::umode_t,
) -> c_int {
    // SAFETY: The VFS passes a directory of ours.
    let dir = unsafe { UpperInode::from_raw(dir) };
    // SAFETY: And a file that is being opened.
    let file = unsafe { UnnamedFile::from_raw(file) };
    to_int(<Fs as NameHooks>::tmpfile(dir, file, mode))
}

/// Mirrors ovl_permission(): the caller's permissions on the upper inode, whose mode, owner and
/// flags are first made current, and the mounter's on the lower inode. A read-only lower mount is
/// detected by `mnt_want_write` later.
///
/// Unlike ovl_permission(), the lower inode is not checked again for a search that was allowed
/// before, nor for a change of names: may_create_dentry() and may_delete_dentry() check the lower
/// directory with the mounter's credentials when the lower name changes.
///
/// # Safety
///
/// Called by the VFS with an inode of ours; in RCU walk if `mask` has MAY_NOT_BLOCK.
unsafe extern "C" fn permission(
    idmap: *mut c::mnt_idmap,
    inode: *mut c::inode,
    mask: c_int,
) -> c_int {
    // SAFETY: The VFS passes an inode of ours; in RCU mode its memory is still there.
    let own = unsafe { UpperInode::from_raw(inode) };
    if own.attr_differs() {
        // CAST: A small flag.
        if mask & c::MAY_NOT_BLOCK as c_int != 0 {
            return ECHILD.to_errno();
        }
        own.copy_attr();
    }
    // SAFETY: The VFS passes an inode of ours.
    let refused = unsafe { c::generic_permission(idmap, inode, mask) };
    if refused != 0 {
        return refused;
    }
    // Further bits (MAY_ACCESS, MAY_CHDIR, MAY_OPEN) mean that the search is not a step of a path
    // walk.
    let is_search =
        own.is_directory() && mask & !(c::MAY_NOT_BLOCK as c_int) == c::MAY_EXEC as c_int;
    let changes_names = mask == (c::MAY_WRITE | c::MAY_EXEC) as c_int && own.is_directory();
    if changes_names || is_search && own.may_be_searched() {
        return 0;
    }
    // In RCU walk the superblock's state is still valid: see `kill_sb`.
    let _acting = lower_mount(own).as_mounter();
    // SAFETY: Live, or in RCU mode its memory is still there.
    let refused = unsafe { c::lfs_lower_permission(own.lower().as_ptr(), mask) };
    if refused == 0 && is_search {
        own.note_search();
    }
    refused
}

/// # Safety
///
/// Called by the VFS with a positive dentry of ours, its inode locked, and with a change that only
/// this thread uses.
unsafe extern "C" fn setattr(
    _idmap: *mut c::mnt_idmap,
    dentry: *mut c::dentry,
    attr: *mut c::iattr,
) -> c_int {
    // SAFETY: The VFS passes a positive dentry of ours.
    let dentry = unsafe { UpperDentry::from_raw(dentry) };
    // SAFETY: And a change that is this call's own.
    let change = unsafe { AttrChange::from_raw(attr) };
    to_int(<Fs as AttributeHooks>::setattr(dentry, change))
}

/// # Safety
///
/// Called by the VFS with a path to a positive dentry of ours and a writable result.
unsafe extern "C" fn getattr(
    _idmap: *mut c::mnt_idmap,
    path: *const c::path,
    stat: *mut c::kstat,
    mask: u32,
    flags: c_uint,
) -> c_int {
    // SAFETY: The VFS passes a path to a positive dentry of ours.
    let dentry = unsafe { UpperDentry::from_raw((*path).dentry) };
    // SAFETY: And a writable result.
    let stat = unsafe { &mut *stat };
    to_int(<Fs as AttributeHooks>::getattr(dentry, stat, mask, flags))
}

/// # Safety
///
/// Called by the VFS with an inode of ours and a live request.
unsafe extern "C" fn fiemap(
    inode: *mut c::inode,
    info: *mut c::fiemap_extent_info,
    start: u64,
    length: u64,
) -> c_int {
    // SAFETY: The VFS passes an inode of ours.
    let inode = unsafe { UpperInode::from_raw(inode) };
    let lower = inode.lower();
    let _acting = lower_mount(inode).as_mounter();
    // SAFETY: A live lower inode and the VFS's buffer.
    unsafe { c::lfs_fiemap(lower.as_ptr(), info.cast(), start, length) }
}

/// # Safety
///
/// Called by the VFS with an inode of ours.
unsafe extern "C" fn update_time(
    inode: *mut c::inode,
    kind: c::fs_update_time,
    flags: c_uint,
) -> c_int {
    if kind == c::fs_update_time_FS_UPD_ATIME {
        if flags & c::IOCB_NOWAIT != 0 {
            // The lower ->update_time may block; ovl_update_time() returns the same.
            return EAGAIN.to_errno();
        }
        // SAFETY: The VFS passes an inode of ours.
        <Fs as AttributeHooks>::update_atime(unsafe { UpperInode::from_raw(inode) });
    }
    0
}

/// # Safety
///
/// Called by the VFS with an inode of ours; in RCU mode when `rcu` says so.
unsafe extern "C" fn get_inode_acl(
    inode: *mut c::inode,
    kind: c_int,
    rcu: bool,
) -> *mut c::posix_acl {
    // SAFETY: The VFS passes an inode of ours; in RCU mode its memory is still there.
    let lower = unsafe { UpperInode::from_raw(inode) }.lower();
    if lower.superblock().flags() & c::SB_POSIXACL == 0 {
        return null_mut();
    }
    if rcu {
        // SAFETY: As above.
        unsafe { c::get_cached_acl_rcu(lower.as_ptr(), kind) }
    } else {
        // SAFETY: As above; held, since not in RCU walk.
        let _acting = lower_mount(unsafe { UpperInode::from_raw(inode) }).as_mounter();
        // SAFETY: As above.
        unsafe { c::get_inode_acl(lower.as_ptr(), kind) }
    }
}

/// # Safety
///
/// Called by the VFS with a positive dentry of ours, its inode locked, and with a live ACL or null.
unsafe extern "C" fn set_acl(
    _idmap: *mut c::mnt_idmap,
    dentry: *mut c::dentry,
    acl: *mut c::posix_acl,
    kind: c_int,
) -> c_int {
    // SAFETY: The VFS passes a positive dentry of ours.
    let dentry = unsafe { UpperDentry::from_raw(dentry) };
    // SAFETY: And a live ACL or null.
    let acl = unsafe { PosixAcl::from_raw(acl) };
    to_int(<Fs as AttributeHooks>::set_acl(dentry, acl.as_ref(), kind))
}

/// # Safety
///
/// Called by the VFS with a positive dentry of ours and a writable result.
unsafe extern "C" fn fileattr_get(dentry: *mut c::dentry, flags: *mut c::file_kattr) -> c_int {
    // SAFETY: The VFS passes a positive dentry of ours.
    let dentry = unsafe { UpperDentry::from_raw(dentry) };
    // SAFETY: And a writable result.
    let flags = unsafe { &mut *flags.cast() };
    to_int(<Fs as AttributeHooks>::fileattr_get(dentry, flags))
}

/// # Safety
///
/// Called by the VFS with a positive dentry of ours, its inode locked, and with flags that only
/// this thread uses.
unsafe extern "C" fn fileattr_set(
    _idmap: *mut c::mnt_idmap,
    dentry: *mut c::dentry,
    flags: *mut c::file_kattr,
) -> c_int {
    // SAFETY: The VFS passes a positive dentry of ours.
    let dentry = unsafe { UpperDentry::from_raw(dentry) };
    // SAFETY: And the flags, which are this call's own.
    let flags = unsafe { &mut *flags.cast() };
    to_int(<Fs as AttributeHooks>::fileattr_set(dentry, flags))
}

/// # Safety
///
/// Called by the VFS with a symbolic link of ours and a delayed_call to fill; `dentry` is null in
/// RCU walk.
unsafe extern "C" fn get_link(
    dentry: *mut c::dentry,
    _inode: *mut c::inode,
    done: *mut c::delayed_call,
) -> *const c_char {
    if dentry.is_null() {
        // In RCU walk: the lower ->get_link may need I/O.
        return ECHILD.to_ptr::<c_char>();
    }
    // SAFETY: The VFS passes a positive dentry of ours.
    let dentry = unsafe { UpperDentry::from_raw(dentry) };
    let _acting = <Fs as SuperHooks>::lower(dentry.superblock().mount()).as_mounter();
    match dentry.lower() {
        // SAFETY: A live lower dentry.
        Ok(lower) => unsafe { c::vfs_get_link(lower.as_ptr(), done) },
        Err(e) => e.to_ptr::<c_char>(),
    }
}
