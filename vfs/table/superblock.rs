// SPDX-License-Identifier: GPL-2.0

//! `super_operations` and `dentry_operations`.

use super::{file::to_int, OpsTable};
use crate::vfs::{
    c,
    dentry::{self, UpperDentry},
    inode::{self, UpperInode},
    mount::LowerMount,
    superblock::UpperSuperBlock,
    FileSystem, Fs,
};
use kernel::{
    prelude::*,
    str::{CStr, CString},
};

/// Operations on a mount.
pub(crate) trait SuperHooks: FileSystem {
    /// The mount below.
    fn lower(mount: &Self::Mount) -> &LowerMount;
    /// ->kill_sb before the inodes are evicted: no file is open and none is mapped.
    fn dying(mount: &Self::Mount);
    /// `->put_super`: after all inodes are evicted.
    fn shut_down(mount: &Self::Mount);
    /// `->evict_inode`. Must not block: the caller may be memory reclaim.
    fn evicted(inode: &UpperInode);
    /// `->sync_fs` with waiting.
    fn sync(mount: &Self::Mount) -> Result;
    /// `->freeze_fs`.
    fn freeze(mount: &Self::Mount) -> Result;
    /// `->show_options`.
    fn show(mount: &Self::Mount, options: &mut ShownOptions);
}

/// The options of `/proc/mounts`.
pub(crate) struct ShownOptions(*mut c::seq_file);

impl ShownOptions {
    /// Adds `name` or `name=value`.
    pub(crate) fn add(&mut self, name: &CStr, value: Option<core::fmt::Arguments<'_>>) {
        let text = match value.map(CString::try_from_fmt) {
            Some(Ok(text)) => Some(text),
            Some(Err(_)) => return,
            None => None,
        };
        let value = text.as_ref().map_or(core::ptr::null(), |t| t.as_char_ptr());
        // SAFETY: A live seq_file for as long as the call; C strings.
        unsafe { c::lfs_seq_option(self.0, name.as_char_ptr(), value) };
    }
}

pub(super) static OPERATIONS: OpsTable<c::super_operations> = OpsTable(c::super_operations {
    destroy_inode: Some(inode::destroy),
    free_inode: Some(inode::free),
    drop_inode: Some(c::inode_just_drop),
    evict_inode: Some(evict_inode),
    put_super: Some(put_super),
    sync_fs: Some(sync_fs),
    freeze_fs: Some(freeze_fs),
    statfs: Some(statfs),
    show_options: Some(show_options),
    ..pin_init::zeroed()
});

pub(super) static DENTRY: OpsTable<c::dentry_operations> = OpsTable(c::dentry_operations {
    d_revalidate: Some(dentry::revalidate),
    d_release: Some(dentry::release),
    // No ->d_real, which uprobes use: overlayfs refuses upper layers with DCACHE_OP_REAL
    // (ovl_mount_dir_check(), ovl_lookup()).
    ..pin_init::zeroed()
});

/// # Safety
///
/// `sb` is a filled superblock of ours, live for `'a`.
unsafe fn mount<'a>(sb: *mut c::super_block) -> &'a <Fs as FileSystem>::Mount {
    // SAFETY: Guaranteed by the caller.
    unsafe { UpperSuperBlock::from_raw(sb) }.mount()
}

/// # Safety
///
/// Called by the VFS once, with an inode of our superblock that has no user any more.
unsafe extern "C" fn evict_inode(inode: *mut c::inode) {
    // SAFETY: The VFS passes an inode that has no user any more.
    unsafe { c::lfs_drop_pages(inode) };
    // SAFETY: As above.
    unsafe { c::clear_inode(inode) };
    // SAFETY: As above.
    if unsafe { !(*inode).i_private.is_null() } {
        // SAFETY: A complete inode: `i_private` is set.
        <Fs as SuperHooks>::evicted(unsafe { UpperInode::from_raw(inode) });
    }
}

/// # Safety
///
/// Called by the VFS once, with a superblock of ours that has a root, after its inodes are gone.
unsafe extern "C" fn put_super(sb: *mut c::super_block) {
    // SAFETY: The VFS passes a superblock of ours that has a root.
    <Fs as SuperHooks>::shut_down(unsafe { mount(sb) });
}

/// # Safety
///
/// Called by the VFS with a superblock of ours that has a root.
unsafe extern "C" fn sync_fs(sb: *mut c::super_block, wait: c_int) -> c_int {
    if wait == 0 {
        return 0;
    }
    // SAFETY: The VFS passes a superblock of ours that has a root.
    to_int(<Fs as SuperHooks>::sync(unsafe { mount(sb) }))
}

/// # Safety
///
/// Called by the VFS with a superblock of ours that has a root.
unsafe extern "C" fn freeze_fs(sb: *mut c::super_block) -> c_int {
    // SAFETY: The VFS passes a superblock of ours that has a root.
    to_int(<Fs as SuperHooks>::freeze(unsafe { mount(sb) }))
}

/// # Safety
///
/// Called by the VFS with a dentry of ours and a writable result.
unsafe extern "C" fn statfs(dentry: *mut c::dentry, buf: *mut kernel::bindings::kstatfs) -> c_int {
    // SAFETY: The VFS passes a dentry of ours.
    let sb = unsafe { UpperDentry::from_raw(dentry) }.superblock();
    let lower = <Fs as SuperHooks>::lower(sb.mount());
    let path = lower.path(lower.root());
    let _acting = lower.as_mounter();
    // SAFETY: A live path and a writable result.
    unsafe { c::vfs_statfs(&path, buf.cast()) }
}

/// # Safety
///
/// Called by the VFS with a live seq_file and a dentry of ours.
unsafe extern "C" fn show_options(seq: *mut c::seq_file, root: *mut c::dentry) -> c_int {
    // SAFETY: The VFS passes a dentry of ours.
    let sb = unsafe { UpperDentry::from_raw(root) }.superblock();
    <Fs as SuperHooks>::show(sb.mount(), &mut ShownOptions(seq));
    0
}
