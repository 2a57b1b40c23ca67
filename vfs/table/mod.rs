// SPDX-License-Identifier: GPL-2.0

//! Operation tables: C functions that call the hooks of [`crate::stack`].
//!
//! Each function turns raw pointers into borrowed wrappers and errors into errnos. Null entries are
//! deliberate: no second way to create files (`atomic_open`), no unfiltered ioctl, no upper page
//! cache.

pub(crate) mod directory;
mod export;
pub(crate) mod file;
pub(crate) mod inode;
pub(crate) mod superblock;
pub(crate) mod xattr;

use super::{
    c,
    inode::UpperInode,
    superblock::{SuperBlock, UpperSuperBlock}, //
};

/// A static operation table.
pub(super) struct OpsTable<T: Copy>(pub(super) T);

// SAFETY: Tables are never changed; the pointers in them are to functions and other statics. A type
// that is `Copy` has no interior mutability of its own.
unsafe impl<T: Copy> Sync for OpsTable<T> {}

/// Sets a new inode's operation tables, by file type.
///
/// # Safety
///
/// The inode is new: not visible to other tasks, and without tables of ours.
pub(super) unsafe fn set_tables(inode: &UpperInode) {
    let ptr = inode.as_ptr();
    match inode.mode() & c::S_IFMT {
        c::S_IFREG => {
            // SAFETY: A new inode that is not visible to other tasks.
            unsafe { (*ptr).i_op = &inode::FILE.0 };
            let operations = if inode.lower().has_remap_file_range() {
                &file::OPERATIONS.0
            } else {
                &file::OPERATIONS_WITHOUT_REMAP.0
            };
            // SAFETY: As above.
            unsafe { (*ptr).__bindgen_anon_3.i_fop = operations };
            let mapping = if inode.lower().has_bmap() {
                &file::MAPPING_WITH_BLOCKS.0
            } else {
                &file::MAPPING.0
            };
            // SAFETY: As above; a new inode's mapping is its own.
            unsafe { (*(*ptr).i_mapping).a_ops = mapping };
        }
        c::S_IFDIR => {
            // SAFETY: As above.
            unsafe { (*ptr).i_op = &inode::DIRECTORY.0 };
            // SAFETY: As above.
            unsafe { (*ptr).__bindgen_anon_3.i_fop = &directory::OPERATIONS.0 };
        }
        c::S_IFLNK => {
            // SAFETY: As above.
            unsafe { (*ptr).i_op = &inode::SYMLINK.0 };
        }
        _ => {
            // SAFETY: As above.
            unsafe { (*ptr).i_op = &inode::SPECIAL.0 };
            // SAFETY: As above, and the lower inode is live.
            let device = unsafe { (*inode.lower().as_ptr()).i_rdev };
            // SAFETY: As above.
            unsafe { c::init_special_inode(ptr, (*ptr).i_mode, device) };
        }
    }
}

/// Sets a new superblock's operation tables.
///
/// # Safety
///
/// `sb` is being filled: not visible to other tasks, and without tables of ours. `lower` outlives
/// it.
pub(super) unsafe fn set_super_tables(sb: &UpperSuperBlock, lower: &SuperBlock) {
    let ptr = sb.as_ptr();
    // SAFETY: Guaranteed by the caller.
    unsafe { export::set(sb, lower) };
    // SAFETY: A superblock that is being filled.
    unsafe { (*ptr).s_op = &superblock::OPERATIONS.0 };
    // SAFETY: As above.
    unsafe { (*ptr).s_xattr = (&raw const xattr::XATTRS.0).cast() };
    // SAFETY: As above.
    unsafe { c::set_default_d_op(ptr, &superblock::DENTRY.0) };
}
