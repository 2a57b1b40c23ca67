// SPDX-License-Identifier: GPL-2.0

//! Superblocks: of any filesystem ([`SuperBlock`]), and upper superblocks ([`UpperSuperBlock`]),
//! which hold the state of a mount.

use super::{
    c,
    dentry::Dentry,
    table::superblock::SuperHooks,
    FileSystem,
    Fs, //
};
use core::ops::Deref;
use kernel::{
    prelude::*,
    str::{CStr, CStrExt},
    types::Opaque, //
};

/// A superblock.
#[repr(transparent)]
pub(crate) struct SuperBlock(Opaque<c::super_block>);

// SAFETY: Only read here, as any code of the kernel may.
unsafe impl Sync for SuperBlock {}

impl SuperBlock {
    /// # Safety
    ///
    /// `ptr` is a live superblock and stays so for `'a`.
    pub(super) unsafe fn from_raw<'a>(ptr: *mut c::super_block) -> &'a Self {
        // SAFETY: A transparent wrapper; the caller guarantees the rest.
        unsafe { &*ptr.cast() }
    }

    pub(crate) fn as_ptr(&self) -> *mut c::super_block {
        self.0.get()
    }

    /// The `SB_*` flags.
    pub(crate) fn flags(&self) -> c_ulong {
        // SAFETY: A live superblock; flags are read racily by the VFS too.
        unsafe { (*self.as_ptr()).s_flags }
    }

    /// Whether SB_RDONLY is set.
    pub(crate) fn is_read_only(&self) -> bool {
        self.flags() & c::SB_RDONLY != 0
    }

    /// Whether ->getattr and ->permission are answered from memory or disk, without network, daemon
    /// or another stacked filesystem.
    pub(crate) fn is_local(&self) -> bool {
        // SAFETY: A live superblock.
        self.stack_depth() == 0 && unsafe { !c::lfs_is_remote(self.as_ptr()) }
    }

    /// `s_maxbytes`, the maximum file size. vfs_fallocate() and others refuse ranges that end later
    /// with `EFBIG`.
    pub(crate) fn largest_size(&self) -> u64 {
        // SAFETY: A live superblock; the field is set once, at mount.
        u64::try_from(unsafe { (*self.as_ptr()).s_maxbytes }).unwrap_or(0)
    }

    /// The stacking depth, this filesystem included.
    pub(crate) fn stack_depth(&self) -> u32 {
        // SAFETY: A live superblock; the field is set once, at mount.
        u32::try_from(unsafe { (*self.as_ptr()).s_stack_depth }).unwrap_or(u32::MAX)
    }

    /// Whether the superblock is of this filesystem's type.
    pub(crate) fn is_ours(&self) -> bool {
        // SAFETY: A live superblock.
        let kind = unsafe { (*self.as_ptr()).s_type };
        kind == super::mount::type_ptr()
    }

    /// The filesystem type's name, as in /proc/filesystems.
    pub(crate) fn kind(&self) -> &CStr {
        // SAFETY: A live superblock; the field is set once.
        let kind = unsafe { (*self.as_ptr()).s_type };
        // SAFETY: A superblock's type outlives the superblock.
        let name = unsafe { (*kind).name };
        // SAFETY: A type has a name, a C string that lives as long.
        unsafe { CStr::from_char_ptr(name) }
    }

    /// Whether the filesystem has a block device.
    pub(crate) fn has_disk(&self) -> bool {
        // SAFETY: A live superblock; the field is set once.
        !unsafe { (*self.as_ptr()).s_bdev }.is_null()
    }

    /// Whether lock_rename() of two directories would probably block.
    pub(crate) fn renames_wait(&self) -> bool {
        // SAFETY: A live superblock.
        unsafe { c::lfs_renames_wait(self.as_ptr()) }
    }

    /// sync_filesystem() and a flush of the disk's cache. Takes `s_umount` for reading.
    pub(crate) fn sync(&self) -> Result {
        // SAFETY: A live superblock, not our own (its `s_umount` is not held here).
        kernel::error::to_result(unsafe { c::lfs_sync_filesystem(self.as_ptr()) })?;
        // SAFETY: A live superblock; its device is that of the mount.
        let disk = unsafe { (*self.as_ptr()).s_bdev };
        if disk.is_null() || self.is_read_only() {
            return Ok(());
        }
        // xfs flushes the disk's cache together with its log only, so not if the log is clean.
        // SAFETY: The superblock keeps its device open.
        kernel::error::to_result(unsafe { c::blkdev_issue_flush(disk) })
    }
}

/// An upper superblock.
///
/// # Invariants
///
/// The type is ours, and `s_fs_info` points to the state of the mount: from
/// [`NewSuperBlock::prepare`], before any inode exists, to [`free_state`], after the last one.
#[repr(transparent)]
pub(crate) struct UpperSuperBlock(SuperBlock);

impl Deref for UpperSuperBlock {
    type Target = SuperBlock;

    fn deref(&self) -> &SuperBlock {
        &self.0
    }
}

impl UpperSuperBlock {
    /// # Safety
    ///
    /// `ptr` is a live superblock of ours, which [`NewSuperBlock::prepare`] has got, and stays so
    /// for `'a`.
    pub(super) unsafe fn from_raw<'a>(ptr: *mut c::super_block) -> &'a Self {
        // SAFETY: Guaranteed by the caller; both types have the same layout.
        unsafe { &*ptr.cast() }
    }

    /// The state of the mount.
    pub(crate) fn mount(&self) -> &<Fs as FileSystem>::Mount {
        // SAFETY: A live superblock.
        let info = unsafe { (*self.as_ptr()).s_fs_info };
        // SAFETY: By the type invariant.
        unsafe { &*info.cast::<<Fs as FileSystem>::Mount>() }
    }
}

/// A superblock of ours that is being filled: not visible to other tasks, without state.
pub(crate) struct NewSuperBlock<'a>(&'a SuperBlock);

impl Deref for NewSuperBlock<'_> {
    type Target = SuperBlock;

    fn deref(&self) -> &SuperBlock {
        self.0
    }
}

impl<'a> NewSuperBlock<'a> {
    /// # Safety
    ///
    /// `ptr` is a new superblock of ours, without state, which only this thread uses for `'a`.
    pub(super) unsafe fn from_raw(ptr: *mut c::super_block) -> Self {
        // SAFETY: Guaranteed by the caller.
        Self(unsafe { SuperBlock::from_raw(ptr) })
    }

    /// Copies the limits of the lower superblock, sets the operation tables and creates the root.
    /// The superblock owns `state` afterwards, also if this fails.
    pub(crate) fn prepare(
        self,
        state: Pin<KBox<<Fs as FileSystem>::Mount>>,
    ) -> Result<&'a UpperSuperBlock> {
        let sb = self.as_ptr();
        // SAFETY: The content is never moved out of the box, which `free_state` drops.
        let state = KBox::into_raw(unsafe { Pin::into_inner_unchecked(state) });
        // SAFETY: An upper superblock being filled, not visible to other tasks.
        unsafe { (*sb).s_fs_info = state.cast() };
        // INVARIANT: The state was set above.
        // SAFETY: As above; `self` was the only one.
        let own: &'a UpperSuperBlock = unsafe { UpperSuperBlock::from_raw(sb) };
        let lower = <Fs as SuperHooks>::lower(own.mount());
        let below = lower.root().superblock().as_ptr();
        // SAFETY: As above, and `below` is live as long as the lower mount.
        let (ours, theirs) = unsafe { (&mut *sb, &*below) };
        copy_limits(ours, theirs);
        if lower.limits().no_devices {
            ours.s_iflags |= c::SB_I_NODEV;
        }
        if lower.limits().no_exec {
            ours.s_iflags |= c::SB_I_NOEXEC;
        }
        // SAFETY: A superblock being filled.
        unsafe { super::table::set_super_tables(own, lower.root().superblock()) };
        own.make_root(lower.root())?;
        Ok(own)
    }
}

impl UpperSuperBlock {
    /// Creates the root. Called once, while the superblock is being filled.
    fn make_root(&self, lower: &Dentry) -> Result {
        let inode = lower.inode().ok_or(ENOENT)?;
        let inode = super::inode::UpperInode::iget(self, inode)?;
        let inode = kernel::sync::aref::ARef::into_raw(inode);
        // SAFETY: d_make_root() consumes the reference in any case.
        let root = unsafe { c::d_make_root(inode.as_ptr().cast()) };
        if root.is_null() {
            return Err(ENOMEM);
        }
        // SAFETY: A new dentry of ours.
        let own = unsafe { super::dentry::UpperDentry::from_raw(root) };
        // SAFETY: Not visible to other tasks yet.
        unsafe { own.set_lower(lower.get()) };
        // SAFETY: Our superblock, being filled.
        unsafe { (*self.as_ptr()).s_root = root };
        Ok(())
    }
}

/// Copies sizes, time limits and flags of the lower superblock.
fn copy_limits(sb: &mut c::super_block, below: &c::super_block) {
    sb.s_stack_depth = below.s_stack_depth.saturating_add(1);
    sb.s_blocksize = below.s_blocksize;
    sb.s_blocksize_bits = below.s_blocksize_bits;
    sb.s_maxbytes = below.s_maxbytes;
    sb.s_time_gran = below.s_time_gran;
    sb.s_time_min = below.s_time_min;
    sb.s_time_max = below.s_time_max;
    // FS_IOC_GETFSUUID and FS_IOC_GETFSSYSFSPATH return the lower filesystem's identity.
    sb.s_uuid = below.s_uuid;
    sb.s_uuid_len = below.s_uuid_len;
    sb.s_sysfs_name = below.s_sysfs_name;
    sb.s_magic = MAGIC;
    sb.s_flags |= (below.s_flags & c::SB_POSIXACL) | c::SB_NOSEC;
    // SB_I_NOUMASK: the lower filesystem applies the umask, since default ACLs take precedence.
    sb.s_iflags |= c::SB_I_NOUMASK | c::SB_I_EVM_HMAC_UNSUPPORTED;
}

/// "LgFS".
const MAGIC: c_ulong = 0x4c67_4653;

/// ->kill_sb, before the inodes are evicted. Ignores a superblock without state.
///
/// # Safety
///
/// `sb` is an upper superblock whose last mount is gone.
pub(crate) unsafe fn dying(sb: *mut c::super_block) {
    // SAFETY: The superblock is still there.
    if unsafe { !(*sb).s_fs_info.is_null() } {
        // SAFETY: As above; `s_fs_info` is set.
        <Fs as SuperHooks>::dying(unsafe { UpperSuperBlock::from_raw(sb) }.mount());
    }
}

/// Frees the state after the last inode.
///
/// # Safety
///
/// `sb` is ours and dead: kill_anon_super() has returned.
pub(crate) unsafe fn free_state(sb: *mut c::super_block) {
    // SAFETY: The superblock's memory is still there.
    let info = unsafe { core::mem::replace(&mut (*sb).s_fs_info, core::ptr::null_mut()) };
    if !info.is_null() {
        // SAFETY: Boxed in `prepare`, and not reachable any more.
        drop(unsafe { KBox::from_raw(info.cast::<<Fs as FileSystem>::Mount>()) });
    }
}
