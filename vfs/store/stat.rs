// SPDX-License-Identifier: GPL-2.0

//! Attributes of the history's files, and space of their filesystem.

use crate::vfs::{c, inode::Inode};
/// `S_IFMT` and three of its values.
const KIND: u32 = 0o170_000;
const KIND_FILE: u32 = 0o100_000;
const KIND_DIR: u32 = 0o040_000;
const KIND_LINK: u32 = 0o120_000;

/// Attributes of a file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileStat {
    /// `st_mode`: file type and permissions.
    pub(crate) mode: u32,
    /// The owner.
    pub(crate) uid: u32,
    /// The group.
    pub(crate) gid: u32,
    /// The link count.
    pub(crate) links: u32,
    /// The size in bytes.
    pub(crate) size: u64,
    /// The inode's number.
    pub(crate) inode: u64,
    /// The inode's generation.
    pub(crate) generation: u32,
}

impl FileStat {
    /// Reads the attributes of `inode`.
    ///
    /// # Safety
    ///
    /// `inode` must be valid, with a reference held.
    pub(super) unsafe fn of(inode: *mut c::inode) -> Self {
        // SAFETY: The caller guarantees that the inode is valid, and holds it.
        let inode = unsafe { Inode::from_raw(inode) };
        let id = inode.id();
        Self {
            mode: inode.mode(),
            uid: inode.uid(),
            gid: inode.gid(),
            links: inode.links(),
            size: inode.size(),
            inode: id.inode,
            generation: id.generation,
        }
    }

    /// Whether this is a regular file.
    pub(crate) fn is_file(&self) -> bool {
        self.mode & KIND == KIND_FILE
    }

    /// Whether this is a directory.
    pub(crate) fn is_dir(&self) -> bool {
        self.mode & KIND == KIND_DIR
    }

    /// Whether this is a symbolic link.
    pub(super) fn is_link(&self) -> bool {
        self.mode & KIND == KIND_LINK
    }

    /// Whether only root can have created or changed the file.
    pub(crate) fn is_private_to_root(&self) -> bool {
        self.uid == 0 && self.mode & 0o022 == 0 && (self.is_dir() || self.links == 1)
    }
}

/// Size and free space of the filesystem, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Space {
    /// Size in bytes.
    pub(crate) total: u64,
    /// `f_bavail`: free for unprivileged users.
    pub(crate) free: u64,
    /// `f_bfree`: free, including root's reserve.
    pub(crate) unused: u64,
    /// `f_files`: the number of inodes; 0 if not limited.
    pub(crate) inodes: u64,
    /// `f_ffree`: the number of free inodes.
    pub(crate) free_inodes: u64,
}
