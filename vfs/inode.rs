// SPDX-License-Identifier: GPL-2.0

//! Inodes: of any filesystem ([`Inode`]), and upper inodes ([`UpperInode`]), which hold a lower
//! inode.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

mod upper;

pub(super) use upper::{destroy, free};
pub(crate) use upper::{PreallocInode, UpperInode};

use super::{
    c,
    dentry::Dentry,
    superblock::SuperBlock, //
};
use crate::log::types::ObjectId;
use core::ptr::NonNull;
use kernel::{
    prelude::*,
    sync::aref::{ARef, AlwaysRefCounted},
    types::Opaque, //
};

/// An inode of any filesystem.
#[repr(transparent)]
pub(crate) struct Inode(Opaque<c::inode>);

// SAFETY: An inode may be used and released on any thread.
unsafe impl Send for Inode {}
// SAFETY: All methods take the locks that they need, or read fields that the kernel reads racily.
unsafe impl Sync for Inode {}

// SAFETY: The count is the inode's `i_count`; the inode lives while that is not zero.
unsafe impl AlwaysRefCounted for Inode {
    fn inc_ref(&self) {
        // SAFETY: `self` is a live inode with a reference.
        unsafe { c::ihold(self.as_ptr()) }
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller gives up its own reference.
        unsafe { c::iput(obj.as_ptr().cast()) }
    }
}

impl Inode {
    /// # Safety
    ///
    /// `ptr` is a live inode and stays so for `'a`.
    pub(super) unsafe fn from_raw<'a>(ptr: *mut c::inode) -> &'a Self {
        // SAFETY: `Inode` is a transparent wrapper; the caller guarantees the rest.
        unsafe { &*ptr.cast() }
    }

    pub(crate) fn as_ptr(&self) -> *mut c::inode {
        self.0.get()
    }

    /// A counted reference.
    pub(crate) fn get(&self) -> ARef<Self> {
        ARef::from(self)
    }

    /// The size in bytes.
    pub(crate) fn size(&self) -> u64 {
        // SAFETY: `self` is a live inode.
        let size = unsafe { c::lfs_i_size_read(self.as_ptr()) };
        u64::try_from(size).unwrap_or(0)
    }

    /// Inode number and generation, as in a line's `obj=`.
    pub(crate) fn id(&self) -> ObjectId {
        let ptr = self.as_ptr();
        // SAFETY: `ptr` is a live inode; the number never changes.
        let inode = unsafe { (*ptr).i_ino };
        // SAFETY: As above.
        let generation = unsafe { (*ptr).i_generation };
        ObjectId {
            volume: 0,
            inode,
            generation,
        }
    }

    /// The inode's number.
    pub(crate) fn number(&self) -> u64 {
        // SAFETY: `self` is a live inode; the number never changes.
        unsafe { (*self.as_ptr()).i_ino }
    }

    /// Type and permission bits.
    pub(crate) fn mode(&self) -> u32 {
        // SAFETY: `self` is a live inode; the VFS reads this field without a lock, too.
        u32::from(unsafe { (*self.as_ptr()).i_mode })
    }

    fn is(&self, kind: u32) -> bool {
        self.mode() & c::S_IFMT == kind
    }

    /// The type bits of the mode.
    pub(crate) fn kind(&self) -> c_uint {
        self.mode() & c::S_IFMT
    }

    pub(crate) fn is_regular(&self) -> bool {
        self.is(c::S_IFREG)
    }

    pub(crate) fn is_symlink(&self) -> bool {
        self.is(c::S_IFLNK)
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.is(c::S_IFDIR)
    }

    /// Whether the inode is a whiteout, as RENAME_WHITEOUT creates: a character device with number
    /// 0.
    pub(crate) fn is_whiteout(&self) -> bool {
        // SAFETY: `self` is a live inode; a device's number never changes.
        self.is(c::S_IFCHR) && unsafe { (*self.as_ptr()).i_rdev } == 0
    }

    /// Number of names.
    pub(crate) fn links(&self) -> u32 {
        // SAFETY: `self` is a live inode; the VFS reads this field without a lock, too.
        unsafe { (*self.as_ptr()).__bindgen_anon_1.i_nlink }
    }

    /// Whether the file may be sparse: fewer blocks than bytes.
    ///
    /// Also true with delayed allocation; callers only choose between two correct methods.
    pub(crate) fn may_be_sparse(&self) -> bool {
        // SAFETY: `self` is a live inode; a racy read only affects speed.
        let blocks = unsafe { (*self.as_ptr()).i_blocks };
        blocks.saturating_mul(512) < self.size()
    }

    /// Whether the filesystem has ->bmap (FIBMAP).
    pub(crate) fn has_bmap(&self) -> bool {
        // SAFETY: `self` is a live inode, so its mapping is there.
        unsafe { c::lfs_has_bmap(self.as_ptr()) }
    }

    /// Whether the filesystem has `->remap_file_range` (FICLONE, FIDEDUPERANGE).
    pub(crate) fn has_remap_file_range(&self) -> bool {
        // SAFETY: `self` is a live inode.
        let operations = unsafe { (*self.as_ptr()).__bindgen_anon_3.i_fop };
        // SAFETY: A live inode has a table of file operations.
        unsafe { (*operations).remap_file_range }.is_some()
    }

    /// The block size, a power of two.
    pub(crate) fn block(&self) -> u64 {
        // SAFETY: `self` is a live inode.
        let bits = unsafe { (*self.as_ptr()).i_blkbits };
        1u64.checked_shl(bits.into()).unwrap_or(1)
    }

    /// Whether the inode has neither bytes nor blocks. With delayed allocation, `i_size` is set
    /// before `i_blocks`.
    pub(crate) fn is_without_data(&self) -> bool {
        // SAFETY: `self` is a live inode; the VFS reads this field without a lock, too.
        let blocks = unsafe { (*self.as_ptr()).i_blocks };
        blocks == 0 && self.size() == 0
    }

    /// Change time and size in memory. Cheap, for use after each upper operation.
    pub(crate) fn quick_cookie(&self) -> QuickCookie {
        let ptr = self.as_ptr();
        QuickCookie {
            // SAFETY: `ptr` is a live inode.
            seconds: unsafe { (*ptr).i_ctime_sec },
            // SAFETY: As above. The queried bit of multigrain times is masked off.
            nanoseconds: unsafe { (*ptr).i_ctime_nsec } & 0x3fff_ffff,
            size: self.size(),
        }
    }

    /// Whether the content is the same as at the time of `then`, although the change time has
    /// moved: each write also moves the modification time.
    pub(crate) fn has_content_of(&self, then: &QuickCookie) -> bool {
        let ptr = self.as_ptr();
        // SAFETY: `ptr` is a live inode; the VFS reads this field without a lock, too.
        let seconds = unsafe { (*ptr).i_mtime_sec };
        // SAFETY: As above.
        let nanoseconds = unsafe { (*ptr).i_mtime_nsec };
        self.size() == then.size && (seconds, nanoseconds) <= (then.seconds, then.nanoseconds)
    }

    /// Whether a shared writable mapping of the file exists.
    pub(crate) fn is_writably_mapped(&self) -> bool {
        // SAFETY: `self` is a live inode.
        unsafe { c::lfs_writably_mapped(self.as_ptr()) }
    }

    /// inode_owner_or_capable().
    pub(crate) fn owner_or_capable(&self) -> bool {
        // SAFETY: `self` is a live inode.
        unsafe { c::lfs_owner_or_capable(self.as_ptr()) }
    }

    /// Whether the caller may add a link to the inode.
    pub(crate) fn may_be_linked(&self) -> bool {
        // SAFETY: `self` is a live inode.
        unsafe { c::lfs_may_be_linked(self.as_ptr()) }
    }

    /// Whether the caller may set the set-id bits that the inode has.
    pub(crate) fn may_have_set_ids(&self) -> bool {
        // SAFETY: `self` is a live inode.
        unsafe { c::lfs_may_have_set_ids(self.as_ptr()) }
    }

    /// Whether the caller may create an object of this type.
    pub(crate) fn may_be_made(&self) -> bool {
        // SAFETY: `self` is a live inode.
        unsafe { c::lfs_may_be_made(self.as_ptr()) }
    }

    /// Whether an access ACL set by the caller clears S_ISGID.
    pub(crate) fn loses_set_group(&self) -> bool {
        // SAFETY: `self` is a live inode.
        unsafe { c::lfs_loses_set_group(self.as_ptr()) }
    }

    /// The owner.
    pub(crate) fn uid(&self) -> u32 {
        // SAFETY: `self` is a live inode; the VFS reads this field without a lock, too.
        unsafe { (*self.as_ptr()).i_uid.val }
    }

    /// The group.
    pub(crate) fn gid(&self) -> u32 {
        // SAFETY: As above.
        unsafe { (*self.as_ptr()).i_gid.val }
    }

    /// Whether the inode is append-only or immutable.
    pub(crate) fn is_protected(&self) -> bool {
        // SAFETY: `self` is a live inode; the VFS reads this field without a lock, too.
        let flags = unsafe { (*self.as_ptr()).i_flags };
        flags & (c::S_APPEND | c::S_IMMUTABLE) != 0
    }

    /// Whether the inode is immutable.
    pub(crate) fn is_immutable(&self) -> bool {
        // SAFETY: `self` is a live inode; the VFS reads this field without a lock, too.
        unsafe { (*self.as_ptr()).i_flags & c::S_IMMUTABLE != 0 }
    }

    /// Refuses a change of the content through a file that was opened before chattr +i. The VFS
    /// checks S_IMMUTABLE at open only. Of the lower filesystems, ext4 checks at each change
    /// (`ext4_setattr()`, `ext4_write_checks()`, `ext4_page_mkwrite()`); xfs, btrfs and tmpfs never
    /// do.
    #[inline]
    pub(crate) fn refuse_immutable(&self) -> Result {
        if self.is_immutable() {
            return Err(EPERM);
        }
        Ok(())
    }

    /// Whether the sticky bit restricts removals to owners of the directory or of the object.
    pub(crate) fn is_sticky(&self) -> bool {
        self.mode() & c::S_ISVTX != 0
    }

    /// Whether the caller may change names in this directory: inode_permission() with MAY_WRITE |
    /// MAY_EXEC.
    pub(crate) fn may_change_names(&self) -> Result {
        // SAFETY: A live inode.
        kernel::error::to_result(unsafe { c::lfs_may_change_names(self.as_ptr()) })
    }

    /// Whether writes are synchronous (chattr +S, or mount option `sync`).
    pub(crate) fn is_sync(&self) -> bool {
        // SAFETY: `self` is a live inode; the VFS reads this field without a lock, too.
        let flags = unsafe { (*self.as_ptr()).i_flags };
        flags & c::S_SYNC != 0 || self.superblock().flags() & c::SB_SYNCHRONOUS != 0
    }

    /// Copies `[at, at + buf.len())` from the page cache, up to the first missing page; returns the
    /// number of bytes copied.
    pub(crate) fn copy_cached(&self, at: u64, buf: &mut [u8]) -> usize {
        let Ok(at) = i64::try_from(at) else {
            return 0;
        };
        // SAFETY: `self` is a live inode, so its mapping is there.
        let mapping = unsafe { (*self.as_ptr()).i_mapping };
        // SAFETY: `mapping` is the inode's; `buf` is writable for its length.
        unsafe { c::lfs_copy_cached(mapping, at, buf.as_mut_ptr().cast(), buf.len()) }
    }

    /// The first run of clean page-cache pages in `[at, end)` that hold zeroes.
    pub(crate) fn clean_zeroes(&self, at: u64, end: i64) -> Option<(i64, i64)> {
        let at = i64::try_from(at).ok().filter(|&at| at < end)?;
        // SAFETY: `self` is a live inode, so its mapping is there.
        let mapping = unsafe { (*self.as_ptr()).i_mapping };
        let mut to = end;
        // SAFETY: `mapping` is the inode's; `to` is writable.
        let from = unsafe { c::lfs_clean_zeroes(mapping, at, &mut to) };
        (from >= 0).then_some((from, to))
    }

    /// Makes the last iput() evict the inode, and dput() drop its dentries (d_mark_dontcache()).
    pub(crate) fn drop_when_unused(&self) {
        // SAFETY: `self` is a live inode, and no lock of its names is held.
        unsafe { c::d_mark_dontcache(self.as_ptr()) };
    }

    /// A reference to an alias in the dcache, if any.
    pub(crate) fn find_alias(&self) -> Option<ARef<Dentry>> {
        // SAFETY: `self` is a live inode.
        let dentry = unsafe { c::d_find_any_alias(self.as_ptr()) };
        let dentry = NonNull::new(dentry.cast::<Dentry>())?;
        // SAFETY: d_find_any_alias() gave us a reference.
        Some(unsafe { ARef::from_raw(dentry) })
    }

    /// The hashed alias with this index, if the dcache has as many.
    pub(crate) fn nth_alias(&self, index: u32) -> Option<ARef<Dentry>> {
        // SAFETY: `self` is a live inode.
        let dentry = unsafe { c::lfs_nth_alias(self.as_ptr(), index) };
        let dentry = NonNull::new(dentry.cast::<Dentry>())?;
        // SAFETY: lfs_nth_alias() gave us a reference.
        Some(unsafe { ARef::from_raw(dentry) })
    }

    /// Makes an inode durable that cannot be opened: all metadata, but no data of other files.
    /// Takes `s_umount` for reading.
    pub(crate) fn sync_metadata(&self) -> Result {
        let sb = self.superblock().as_ptr();
        // SAFETY: A live inode and its superblock.
        kernel::error::to_result(unsafe { c::lfs_sync_metadata(sb, self.as_ptr()) })
    }

    pub(crate) fn superblock(&self) -> &SuperBlock {
        // SAFETY: A live inode has a superblock that outlives it.
        let sb = unsafe { (*self.as_ptr()).i_sb };
        // SAFETY: As above.
        unsafe { SuperBlock::from_raw(sb) }
    }
}

/// Result of [`Inode::quick_cookie`]. Two cookies are equal if no change happened in between that
/// moved the change time or the size.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct QuickCookie {
    seconds: i64,
    nanoseconds: u32,
    size: u64,
}
