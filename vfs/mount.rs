// SPDX-License-Identifier: GPL-2.0

//! The filesystem type, and the lower mount of a mount.
//!
//! C headers: [`include/linux/mount.h`](srctree/include/linux/mount.h),
//! [`include/linux/fs_context.h`](srctree/include/linux/fs_context.h)

use super::{
    c,
    cred::{Credentials, OverriddenCreds},
    dentry::Dentry,
    inode::UpperInode,
    store::StoreDir,
    superblock, //
};
use core::{mem::ManuallyDrop, ptr::NonNull};
use kernel::{
    c_str,
    prelude::*,
    str::{as_char_ptr_in_const_context, CStr},
    sync::aref::ARef,
    types::Opaque, //
};

/// `struct file_system_type`, an element of the kernel's list.
struct TypeCell(Opaque<c::file_system_type>);

// SAFETY: Changed by register_filesystem() and unregister_filesystem() only, under their lock.
unsafe impl Sync for TypeCell {}

static TYPE: TypeCell = TypeCell(Opaque::new(c::file_system_type {
    name: as_char_ptr_in_const_context(c"loggerfs"),
    owner: core::ptr::null_mut(),
    init_fs_context: Some(init_fs_context),
    kill_sb: Some(kill_sb),
    // ->rename calls d_move() while the dentries are marked (`UpperDentry::begin_change`).
    fs_flags: c::FS_RENAME_DOES_D_MOVE as c_int,
    ..pin_init::zeroed()
}));

/// The type's address, for comparison.
pub(crate) fn type_ptr() -> *mut c::file_system_type {
    TYPE.0.get()
}

/// The registered filesystem type; Drop unregisters.
pub(crate) struct Registration(());

impl Registration {
    pub(crate) fn new(module: &'static ThisModule) -> Result<Self> {
        // SAFETY: The module is being loaded: the type is not in use yet.
        unsafe { (*TYPE.0.get()).owner = module.as_ptr() };
        // SAFETY: The type lives as long as the module.
        kernel::error::to_result(unsafe { c::register_filesystem(TYPE.0.get()) })?;
        Ok(Self(()))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // SAFETY: The type was registered; the module's reference count is zero, so no mount
        // exists.
        let _ = unsafe { c::unregister_filesystem(TYPE.0.get()) };
        // ->free_inode is called by RCU, up to one grace period after eviction.
        // SAFETY: May sleep here.
        unsafe { c::rcu_barrier() };
    }
}

/// # Safety
///
/// Called by the VFS with a new context of our type.
unsafe extern "C" fn init_fs_context(fc: *mut kernel::bindings::fs_context) -> c_int {
    // SAFETY: The kernel passes a new context; both names are of one C type.
    unsafe { super::fs_context::init(fc.cast()) }
}

/// # Safety
///
/// Called by the VFS once, when the last mount of `sb` is gone.
unsafe extern "C" fn kill_sb(sb: *mut c::super_block) {
    // SAFETY: A superblock of ours, which may not have been filled.
    unsafe { superblock::dying(sb) };
    // SAFETY: `sb` is ours, made by get_tree_nodev().
    unsafe { c::kill_anon_super(sb) };
    // RCU walk may still call ->permission, one grace period after the mount is gone.
    // SAFETY: May sleep here.
    unsafe { c::synchronize_rcu() };
    // SAFETY: kill_anon_super() has returned and RCU readers have ended, so the state has no user.
    unsafe { superblock::free_state(sb) };
}

/// The set-id bits of a mode.
const SET_ID: u16 = (c::S_ISUID | c::S_ISGID) as u16;

/// The private lower mount, and the lower root in that mount.
pub(crate) struct LowerMount {
    mnt: NonNull<c::vfsmount>,
    root: ManuallyDrop<ARef<Dentry>>,
    credentials: Credentials,
    limits: MountLimits,
}

/// Restrictions of the source's mount. A later remount of the source does not change the private
/// clone, and an upper mount without such a flag must not lift the source's restriction.
#[derive(Clone, Copy)]
pub(crate) struct MountLimits {
    /// nosuid: set-id bits and file capabilities are ignored.
    pub(crate) no_set_id: bool,
    /// nodev: devices cannot be opened.
    pub(crate) no_devices: bool,
    /// Nothing is executed.
    pub(crate) no_exec: bool,
}

impl MountLimits {
    /// # Safety
    ///
    /// `mnt` is a live mount.
    pub(super) unsafe fn of(mnt: *mut c::vfsmount) -> Self {
        // SAFETY: Guaranteed by the caller; the VFS reads the flags racily, too.
        let flags = unsafe { (*mnt).mnt_flags };
        // SAFETY: A live mount has a superblock.
        let sb = unsafe { (*mnt).mnt_sb };
        // SAFETY: As above.
        let all = c_ulong::from(unsafe { (*sb).s_iflags });
        Self {
            no_set_id: flags & c::MNT_NOSUID != 0,
            no_devices: flags & c::MNT_NODEV != 0 || all & c::SB_I_NODEV != 0,
            no_exec: flags & c::MNT_NOEXEC != 0 || all & c::SB_I_NOEXEC != 0,
        }
    }

    /// The mount option of the first restriction that `other` lacks.
    pub(crate) fn beyond(self, other: Self) -> Option<&'static str> {
        [
            ("nosuid", self.no_set_id && !other.no_set_id),
            ("nodev", self.no_devices && !other.no_devices),
            ("noexec", self.no_exec && !other.no_exec),
        ]
        .into_iter()
        .find_map(|(name, lacks)| lacks.then_some(name))
    }
}

// SAFETY: Mounts are counted and may be used on any thread.
unsafe impl Send for LowerMount {}
// SAFETY: As above.
unsafe impl Sync for LowerMount {}

impl LowerMount {
    /// # Safety
    ///
    /// `mnt` is a long-term mount whose reference passes to the result.
    unsafe fn from_mount(mnt: *mut c::vfsmount, credentials: Credentials) -> Result<Self> {
        let mnt = NonNull::new(mnt).ok_or(ENOMEM)?;
        // SAFETY: A live mount has a root.
        let root = unsafe { (*mnt.as_ptr()).mnt_root };
        // SAFETY: As above.
        let root = unsafe { Dentry::from_raw(root) }.get();
        // SAFETY: As above.
        let limits = unsafe { MountLimits::of(mnt.as_ptr()) };
        Ok(Self {
            mnt,
            root: ManuallyDrop::new(root),
            credentials,
            limits,
        })
    }

    /// clone_private_mount() of the directory `path`.
    pub(crate) fn of_directory(path: &CStr) -> Result<Self> {
        let credentials = Credentials::of_mounter()?;
        let mut found: c::path = pin_init::zeroed();
        let flags = c::LOOKUP_FOLLOW | c::LOOKUP_DIRECTORY;
        // SAFETY: A NUL-terminated string and a writable result.
        let err = unsafe { c::kern_path(path.as_char_ptr(), flags, &mut found) };
        kernel::error::to_result(err)?;
        // SAFETY: `found` was filled in.
        let clone = unsafe { c::clone_private_mount(&found) };
        // SAFETY: kern_path() gave us the references.
        unsafe { c::path_put(&found) };
        let clone = kernel::error::from_err_ptr(clone)?;
        // SAFETY: The clone is ours.
        unsafe { Self::from_mount(clone, credentials) }
    }

    /// A new private tmpfs with the option `size=`.
    pub(crate) fn private(size: &CStr) -> Result<Self> {
        let credentials = Credentials::of_mounter()?;
        // SAFETY: A NUL-terminated string.
        let kind = unsafe { c::get_fs_type(c_str!("tmpfs").as_char_ptr()) };
        if kind.is_null() {
            return Err(ENODEV);
        }
        // SAFETY: A live type; tmpfs is built in, so its module count needs no care.
        let fc = kernel::error::from_err_ptr(unsafe { c::fs_context_for_mount(kind, 0) })?;
        let mnt = Self::tmpfs_of(fc, size);
        // SAFETY: The context is owned here; the mount, if created, holds its own references.
        unsafe { c::put_fs_context(fc) };
        // SAFETY: fc_mount_longterm() gave us the reference.
        unsafe { Self::from_mount(mnt?, credentials) }
    }

    fn tmpfs_of(fc: *mut c::fs_context, size: &CStr) -> Result<*mut c::vfsmount> {
        let mut text = c::qstr {
            name: size.as_char_ptr().cast(),
            ..Default::default()
        };
        text.__bindgen_anon_1.__bindgen_anon_1.len =
            u32::try_from(size.to_bytes().len()).map_err(|_| EINVAL)?;
        // SAFETY: A live context, a C string and a counted string.
        let err = unsafe { c::vfs_parse_fs_qstr(fc, c"size".as_char_ptr(), &text) };
        kernel::error::to_result(err)?;
        // SAFETY: A live context that is ready to be mounted.
        kernel::error::from_err_ptr(unsafe { c::fc_mount_longterm(fc.cast()) })
    }

    /// The lower root.
    pub(crate) fn root(&self) -> &Dentry {
        &self.root
    }

    pub(super) fn as_ptr(&self) -> *mut c::vfsmount {
        self.mnt.as_ptr()
    }

    /// The restrictions of the source's mount at mount time.
    pub(crate) fn limits(&self) -> MountLimits {
        self.limits
    }

    /// The mode bits that upper files never have (nosuid).
    #[inline]
    pub(super) fn hidden_bits(&self) -> u16 {
        if self.limits.no_set_id {
            SET_ID
        } else {
            0
        }
    }

    /// The lower mount's id map.
    pub(super) fn idmap(&self) -> *mut c::mnt_idmap {
        // SAFETY: A live mount.
        unsafe { c::lfs_idmap(self.as_ptr()) }
    }

    /// Whether the lower mount is id-mapped, which is not supported.
    pub(crate) fn is_idmapped(&self) -> bool {
        self.idmap() != &raw mut c::nop_mnt_idmap
    }

    /// The lower root as a [`StoreDir`].
    pub(crate) fn directory(&self) -> Result<StoreDir> {
        // SAFETY: A live mount and its root; `StoreDir` takes its own references.
        unsafe { StoreDir::from_raw(self.as_ptr(), self.root.as_ptr()) }
    }

    /// A lower directory as a [`StoreDir`].
    pub(crate) fn directory_at(&self, lower: &Dentry) -> Result<StoreDir> {
        let path = self.path_to_keep(lower)?;
        // SAFETY: A live mount and a live dentry on it; `StoreDir` takes its own references.
        unsafe { StoreDir::from_raw(path.mnt, path.dentry) }
    }

    /// The object's allocated bytes.
    pub(crate) fn bytes_of(&self, lower: &Dentry) -> u64 {
        if lower.inode().is_some_and(|inode| inode.is_without_data()) {
            return 0;
        }
        super::store::bytes_at(&self.path(lower))
    }

    /// As [`Self::path`], for calls that keep the path. `EXDEV` for a dentry of another filesystem,
    /// which the mount does not keep alive.
    pub(super) fn path_to_keep(&self, dentry: &Dentry) -> Result<c::path> {
        // SAFETY: A live mount.
        let own = unsafe { (*self.as_ptr()).mnt_sb };
        if dentry.superblock().as_ptr() != own {
            return Err(EXDEV);
        }
        Ok(self.path(dentry))
    }

    /// A struct path, valid as long as both references.
    pub(super) fn path(&self, dentry: &Dentry) -> c::path {
        c::path {
            mnt: self.as_ptr(),
            dentry: dentry.as_ptr(),
        }
    }

    /// Sets the access time of the lower inode to now, and copies the time to `inode`.
    pub(crate) fn update_access_time(&self, inode: &UpperInode) {
        let _acting = self.as_mounter();
        let lower = inode.lower().as_ptr();
        // SAFETY: Two live inodes, the second one on the live mount.
        unsafe { c::lfs_update_atime(inode.as_ptr(), self.as_ptr(), lower) };
    }

    /// The mounter's credentials.
    pub(super) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// See [`Credentials::as_mounter`].
    pub(super) fn as_mounter(&self) -> OverriddenCreds<'_> {
        self.credentials.as_mounter()
    }

    /// Write access to the lower mount, with the credentials of
    /// [`Credentials::as_mounter_for_caller`]. Blocks while the lower filesystem is frozen. So
    /// never nested, and never held while waiting for the journal, which takes write access too:
    /// freeze_super() waits for existing writers and blocks new ones, so nesting deadlocks.
    pub(crate) fn want_write(&self) -> Result<LowerWrite<'_>> {
        let acting = self.credentials.as_mounter_for_caller()?;
        let mut write = self.want_write_as_caller()?;
        write._acting = Some(acting);
        Ok(write)
    }

    /// As [`Self::want_write`], with the caller's own credentials.
    pub(crate) fn want_write_as_caller(&self) -> Result<LowerWrite<'_>> {
        // SAFETY: A live mount.
        kernel::error::to_result(unsafe { c::mnt_want_write(self.as_ptr()) })?;
        Ok(LowerWrite {
            mount: self,
            _acting: None,
        })
    }

    /// Whether the lower mount or its superblock is read-only.
    pub(crate) fn is_read_only(&self) -> bool {
        self.root().superblock().is_read_only() || self.want_write_as_caller().is_err()
    }
}

impl Drop for LowerMount {
    fn drop(&mut self) {
        // SAFETY: Dropped here only, before the mount.
        unsafe { ManuallyDrop::drop(&mut self.root) };
        // SAFETY: The long-term reference is ours.
        unsafe { c::kern_unmount(self.as_ptr()) };
    }
}

/// See [`LowerMount::want_write`].
pub(crate) struct LowerWrite<'a> {
    mount: &'a LowerMount,
    _acting: Option<OverriddenCreds<'a>>,
}

impl Drop for LowerWrite<'_> {
    fn drop(&mut self) {
        // SAFETY: The guard exists because access was granted.
        unsafe { c::mnt_drop_write(self.mount.as_ptr()) };
    }
}
