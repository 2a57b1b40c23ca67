// SPDX-License-Identifier: GPL-2.0

//! `export_operations`: file handles, for name_to_handle_at(2), open_by_handle_at(2) and NFS.
//!
//! An upper handle is the lower filesystem's handle, which includes the parent directory (except
//! for a directory). So exportfs can decode a handle without cached names, and only below the
//! source: a handle of the history's files, or of an object outside of the source, is `ESTALE`. The
//! drawback is the one of NFS's subtree_check: after a rename to another directory the handle is
//! valid only while the name is cached. overlayfs adds its own header to handles, because an
//! overlay has several layers.
//!
//! C header: [`include/linux/exportfs.h`](srctree/include/linux/exportfs.h)

use super::OpsTable;
use crate::vfs::{
    c,
    dentry::{Dentry, UpperDentry},
    inode::UpperInode,
    mount::LowerMount,
    superblock::{SuperBlock, UpperSuperBlock},
    table::superblock::SuperHooks,
    Fs,
};
use core::ptr::null_mut;
use kernel::{prelude::*, sync::aref::ARef};

// SAFETY: Of function pointers and flags, for which null and zero are values.
unsafe impl pin_init::Zeroable for c::export_operations {}

pub(super) static OPERATIONS: OpsTable<c::export_operations> = OpsTable(c::export_operations {
    encode_fh: Some(encode),
    fh_to_dentry: Some(decode),
    ..pin_init::zeroed()
});

/// # Safety
///
/// Called by exportfs_encode_inode_fh() with a live inode of ours, a buffer of `*words` words, and
/// null or a live directory of ours.
unsafe extern "C" fn encode(
    inode: *mut c::inode,
    handle: *mut u32,
    words: *mut c_int,
    parent: *mut c::inode,
) -> c_int {
    // SAFETY: A live inode of ours.
    let inode = unsafe { UpperInode::from_raw(inode) };
    // SAFETY: Null, or a live directory of ours.
    let given = (!parent.is_null()).then(|| unsafe { UpperInode::from_raw(parent) });
    // Holds the parent while the lower ->encode_fh reads the parent's inode number.
    let found = match given {
        None if !inode.is_directory() => inode.find_alias().map(|name| name.dget_parent()),
        _ => None,
    };
    let found = found.as_ref().and_then(|parent| parent.inode());
    let parent = match (given, found) {
        (Some(given), _) => given.lower().as_ptr(),
        // SAFETY: The parent of a dentry of ours is ours.
        (None, Some(found)) => unsafe { UpperInode::from_raw(found.as_ptr()) }
            .lower()
            .as_ptr(),
        (None, None) => null_mut(),
    };
    let lower = inode.lower().as_ptr();
    // SAFETY: Live inodes of the lower filesystem, and the caller's buffer.
    unsafe { c::exportfs_encode_inode_fh(lower, handle.cast(), words, parent, 0) }
}

/// # Safety
///
/// Called by exportfs_decode_fh() with a filled upper superblock, held by the caller, and a handle
/// of `words` words.
unsafe extern "C" fn decode(
    sb: *mut c::super_block,
    handle: *mut c::fid,
    words: c_int,
    kind: c_int,
) -> *mut c::dentry {
    // SAFETY: A filled superblock of ours.
    let sb = unsafe { UpperSuperBlock::from_raw(sb) };
    let mount = <Fs as SuperHooks>::lower(sb.mount());
    // SAFETY: The caller's handle.
    let lower = unsafe { lower_of(mount, handle, words, kind) };
    match lower.and_then(|lower| UpperDentry::of_lower(sb, &lower)) {
        Ok(dentry) => ARef::into_raw(dentry).as_ptr().cast(),
        Err(e) => kernel::error::Error::to_ptr(e),
    }
}

/// Decodes a handle to a connected dentry below the lower root.
///
/// # Safety
///
/// `handle` has `words` words.
unsafe fn lower_of(
    mount: &LowerMount,
    handle: *mut c::fid,
    words: c_int,
    kind: c_int,
) -> Result<ARef<Dentry>> {
    let root = mount.root().as_ptr();
    // exportfs_decode_fh() looks up the directory's path, name by name, which requires search
    // permission.
    let _acting = mount.as_mounter();
    // SAFETY: A live mount and the caller's handle; `is_below` takes the root.
    let lower = unsafe {
        c::exportfs_decode_fh(
            mount.as_ptr(),
            handle,
            words,
            kind,
            Some(is_below),
            root.cast(),
        )
    };
    // SAFETY: A reference or an error.
    unsafe { Dentry::from_c(lower) }
}

/// # Safety
///
/// Called by exportfs_decode_fh() with the context of [`lower_of`] and a live dentry of its
/// filesystem.
unsafe extern "C" fn is_below(root: *mut c_void, dentry: *mut c::dentry) -> c_int {
    // SAFETY: Two live dentries of one filesystem.
    c_int::from(unsafe { c::is_subdir(dentry, root.cast()) })
}

/// Sets `s_export_op` of an upper superblock that is being filled, if the lower one can decode file
/// handles.
///
/// # Safety
///
/// `sb` is being filled.
pub(super) unsafe fn set(sb: &UpperSuperBlock, lower: &SuperBlock) {
    // SAFETY: A live superblock; `s_export_op` is set before the superblock is published.
    let below = unsafe { (*lower.as_ptr()).s_export_op }.cast::<c::export_operations>();
    // SAFETY: Null, or a table that the lower filesystem's code holds.
    let decodes = unsafe { below.as_ref() }.is_some_and(|table| table.fh_to_dentry.is_some());
    if decodes {
        // SAFETY: A superblock that is being filled.
        unsafe { (*sb.as_ptr()).s_export_op = (&raw const OPERATIONS.0).cast() };
    }
}
