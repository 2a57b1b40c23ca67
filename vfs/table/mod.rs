// SPDX-License-Identifier: GPL-2.0

//! Tables of hooks: C calls come in here, typed calls of [`crate::stack`] go out.
//!
//! Each function turns raw pointers into borrowed wrappers and an error into an errno; what it
//! does is the hook's business. A table's null entries are decisions: no second way to create
//! (`atomic_open`), no ioctl of the lower filesystem, no page cache of our own.

pub(crate) mod directory;
mod export;
pub(crate) mod file;
pub(crate) mod inode;
pub(crate) mod superblock;

use super::{c, inode::OwnInode, superblock::SuperBlock};

/// A table that C reads.
pub(crate) struct Table<T>(pub(crate) T);

// SAFETY: Tables are never changed; the pointers in them are to functions and other statics.
unsafe impl<T> Sync for Table<T> {}

/// Gives a new inode its tables, by its type.
pub(crate) fn set_tables(inode: &OwnInode) {
    let ptr = inode.as_ptr();
    match inode.mode() & c::S_IFMT {
        c::S_IFREG => {
            // SAFETY: A new inode that nobody else sees.
            unsafe { (*ptr).i_op = &inode::FILE.0 };
            let operations = if inode.lower().shares_ranges() {
                &file::OPERATIONS.0
            } else {
                &file::OPERATIONS_WITHOUT_REMAP.0
            };
            // SAFETY: As above.
            unsafe { (*ptr).__bindgen_anon_3.i_fop = operations };
            let mapping = if inode.lower().tells_blocks() {
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

/// Gives a new superblock its tables.
pub(crate) fn set_super_tables(sb: &SuperBlock, lower: &SuperBlock) {
    let ptr = sb.as_ptr();
    export::set(sb, lower);
    // SAFETY: A superblock that is being filled.
    unsafe { (*ptr).s_op = &superblock::OPERATIONS.0 };
    // SAFETY: As above.
    unsafe { (*ptr).s_xattr = (&raw const inode::XATTRS.0).cast() };
    // SAFETY: As above.
    unsafe { c::set_default_d_op(ptr, &superblock::DENTRY.0) };
}
