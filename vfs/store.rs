// SPDX-License-Identifier: GPL-2.0

//! The history's own files and directories on the lower filesystem.
//!
//! Each call takes one name component relative to an open directory, so symbolic links are never
//! followed and mounts never crossed. All calls run with the kernel's credentials, so permissions,
//! resource limits and quotas of callers do not apply.
//!
//! C headers: [`include/linux/namei.h`](srctree/include/linux/namei.h),
//! [`include/linux/fs.h`](srctree/include/linux/fs.h)

mod file;
mod stat;
mod stream;

pub(crate) use file::StoreFile;
pub(crate) use stat::{FileStat, Space};
pub(crate) use stream::StreamFile;

use kernel::{
    error::{
        from_err_ptr,
        to_result, //
    },
    prelude::*,
    sync::aref::ARef, //
};

use super::{c, dentry::Dentry, error::ELOOP, quota::QuotaAccounts, scope::KernelCreds};

/// A directory on the lower filesystem.
///
/// # Invariants
///
/// `dentry` is a positive directory dentry on `mnt`; a reference to each is owned.
pub(crate) struct StoreDir {
    mnt: *mut c::vfsmount,
    dentry: *mut c::dentry,
}

// SAFETY: References to a mount and a dentry may be used and dropped from any thread.
unsafe impl Send for StoreDir {}
// SAFETY: All methods may be called concurrently: the VFS does the locking.
unsafe impl Sync for StoreDir {}

impl StoreDir {
    /// Takes its own references to the directory `dentry` on `mnt`.
    ///
    /// # Safety
    ///
    /// Both must be valid for the call, and `dentry` must be on `mnt`.
    pub(super) unsafe fn from_raw(mnt: *mut c::vfsmount, dentry: *mut c::dentry) -> Result<Self> {
        // SAFETY: The caller guarantees that `dentry` is valid.
        let inode = unsafe { (*dentry).d_inode };
        if inode.is_null() {
            return Err(ENOENT);
        }
        // SAFETY: The dentry, which the caller holds, is positive and holds its inode.
        if !unsafe { FileStat::of(inode) }.is_dir() {
            return Err(ENOTDIR);
        }
        // SAFETY: The caller guarantees that `mnt` is valid.
        let mnt = unsafe { c::mntget(mnt) };
        // SAFETY: The caller guarantees that `dentry` is valid.
        let dentry = unsafe { c::lfs_dget(dentry) };
        // INVARIANT: Both references were just taken; the kind was checked above.
        Ok(Self { mnt, dentry })
    }

    /// The same directory, with references of its own.
    pub(crate) fn again(&self) -> Result<Self> {
        // SAFETY: By the type invariants the mount and the dentry are valid, and the dentry is on that
        // mount.
        unsafe { Self::from_raw(self.mnt, self.dentry) }
    }

    /// The directory's attributes.
    pub(crate) fn stat(&self) -> FileStat {
        // SAFETY: By the type invariants the dentry is positive and held.
        unsafe { FileStat::of((*self.dentry).d_inode) }
    }

    /// The subdirectory `name`.
    pub(crate) fn open_dir(&self, name: &[u8]) -> Result<Self> {
        let found = self.lookup(name)?;
        if !found.stat().is_dir() {
            return Err(ENOTDIR);
        }
        // SAFETY: `found` holds a dentry below ours, on the same mount.
        unsafe { Self::from_raw(self.mnt, found.dentry) }
    }

    /// The subdirectory `name`; created with `mode` if absent.
    pub(crate) fn make_dir(&self, name: &[u8], mode: u16) -> Result<Self> {
        match self.open_dir(name) {
            Err(e) if e == ENOENT => {}
            found => return found,
        }
        self.creating(name, |dir, dentry| {
            // SAFETY: `creating` passes a negative dentry of the locked directory. vfs_mkdir()
            // returns the dentry to end with; on failure the operation is ended already.
            let made = unsafe {
                c::vfs_mkdir(
                    &raw mut c::nop_mnt_idmap,
                    dir,
                    dentry,
                    mode,
                    core::ptr::null_mut(),
                )
            };
            (made, from_err_ptr(made).map(|_| ()))
        })?;
        self.open_dir(name)
    }

    /// Opens the regular file `name` for reading; with `write` also for writing.
    pub(crate) fn open(&self, name: &[u8], write: bool) -> Result<StoreFile> {
        let access = if write { c::O_RDWR } else { c::O_RDONLY };
        self.open_as(name, access)
    }

    /// Opens the regular file `name` with O_DIRECT. `EINVAL` without support.
    fn open_direct(&self, name: &[u8]) -> Result<StoreFile> {
        self.open_as(name, c::O_RDWR | c::O_DIRECT)
    }

    fn open_as(&self, name: &[u8], flags: u32) -> Result<StoreFile> {
        let found = self.lookup(name)?;
        let stat = found.stat();
        if stat.is_dir() {
            return Err(EISDIR);
        }
        if !stat.is_file() {
            return Err(EINVAL);
        }
        self.open_dentry(found.dentry, flags | c::O_LARGEFILE)
    }

    /// Opens the regular file `name` for reading and writing; created with `mode` if absent.
    pub(crate) fn create(&self, name: &[u8], mode: u16) -> Result<StoreFile> {
        match self.open(name, true) {
            Err(e) if e == ENOENT => {}
            found => return found,
        }
        self.creating(name, |_, dentry| {
            // SAFETY: `creating` gives a negative dentry of the locked directory.
            let ret = unsafe {
                c::vfs_create(
                    &raw mut c::nop_mnt_idmap,
                    dentry,
                    mode,
                    core::ptr::null_mut(),
                )
            };
            (dentry, to_result(ret))
        })?;
        self.open(name, true)
    }

    /// Renames `from` in this directory to `name` in `to`, and replaces an existing target.
    pub(crate) fn rename(&self, from: &[u8], to: &StoreDir, name: &[u8]) -> Result {
        let _kernel = KernelCreds::new();
        let _write = MountWriteAccess::new(self.mnt)?;
        let (from_len, to_len) = (name_len(from)?, name_len(name)?);
        // SAFETY: Both directories are valid by the type invariants, the names for the call; the
        // kernel checks that both lie on one filesystem.
        to_result(unsafe {
            c::lfs_store_rename(
                self.dentry,
                from.as_ptr().cast(),
                from_len,
                to.dentry,
                name.as_ptr().cast(),
                to_len,
            )
        })
    }

    /// Removes the file `name`.
    pub(crate) fn unlink(&self, name: &[u8]) -> Result {
        self.removing(name, |dir, dentry| {
            // SAFETY: The directory is locked, the dentry is a positive child of it.
            to_result(unsafe {
                c::vfs_unlink(
                    &raw mut c::nop_mnt_idmap,
                    dir,
                    dentry,
                    core::ptr::null_mut(),
                )
            })
        })
    }

    /// Removes `name` with the directory locked. `remove` gets the directory's inode and the
    /// positive dentry.
    fn removing(
        &self,
        name: &[u8],
        remove: impl FnOnce(*mut c::inode, *mut c::dentry) -> Result,
    ) -> Result {
        let _kernel = KernelCreds::new();
        let _write = MountWriteAccess::new(self.mnt)?;
        let len = name_len(name)?;
        // SAFETY: The directory is valid by the type invariants, the name for the call.
        let dentry = from_err_ptr(unsafe {
            c::lfs_store_start_removing(self.dentry, name.as_ptr().cast(), len)
        })?;
        // SAFETY: By the type invariants the directory's dentry is positive.
        let result = remove(unsafe { (*self.dentry).d_inode }, dentry);
        // SAFETY: Pairs with lfs_store_start_removing().
        unsafe { c::end_dirop(dentry) };
        result
    }

    /// Removes the empty directory `name`.
    pub(crate) fn remove_dir(&self, name: &[u8]) -> Result {
        self.removing(name, |dir, dentry| {
            // SAFETY: The directory is locked, the dentry is a positive child of it.
            to_result(unsafe {
                c::vfs_rmdir(
                    &raw mut c::nop_mnt_idmap,
                    dir,
                    dentry,
                    core::ptr::null_mut(),
                )
            })
        })
    }

    /// The allocated bytes of `name`'s object; 0 if unknown.
    pub(crate) fn bytes_of(&self, name: &[u8]) -> u64 {
        let Ok(found) = self.lookup(name) else {
            return 0;
        };
        let path = c::path {
            mnt: self.mnt,
            dentry: found.dentry,
        };
        bytes_at(&path)
    }

    /// The quota accounts and the change time of `name`'s object; `None` if the name does not
    /// exist.
    pub(crate) fn accounts_of(&self, name: &[u8]) -> Option<(QuotaAccounts, (i64, u32))> {
        let found = self.find(name).ok()?;
        // SAFETY: `found` holds the dentry.
        let accounts = QuotaAccounts::of(unsafe { Dentry::from_raw(found.dentry) })?;
        let path = c::path {
            mnt: self.mnt,
            dentry: found.dentry,
        };
        let mut stat: c::kstat = pin_init::zeroed();
        // SAFETY: A live path and a writable result.
        to_result(unsafe { c::vfs_getattr_nosec(&path, &mut stat, c::STATX_CTIME, 0) }).ok()?;
        let nanoseconds = u32::try_from(stat.ctime.tv_nsec).unwrap_or(0);
        Some((accounts, (stat.ctime.tv_sec, nanoseconds)))
    }

    /// Whether the name exists, of any file type.
    pub(crate) fn has(&self, name: &[u8]) -> bool {
        match self.lookup(name) {
            Ok(_) => true,
            Err(e) => e == ELOOP,
        }
    }

    /// Whether `name` is a file with further links.
    pub(crate) fn has_other_names(&self, name: &[u8]) -> bool {
        (self.lookup(name)).is_ok_and(|found| !found.stat().is_dir() && found.stat().links > 1)
    }

    /// The dentry of `name`, of any file type; negative if the name does not exist.
    pub(crate) fn child(&self, name: &[u8]) -> Result<ARef<Dentry>> {
        let _kernel = KernelCreds::new();
        let len = name_len(name)?;
        // SAFETY: The directory is valid by the type invariants, the name for the call.
        let child = unsafe { c::lfs_store_lookup(self.dentry, name.as_ptr().cast(), len) };
        // SAFETY: A reference or an error.
        unsafe { Dentry::from_c(child) }
    }

    /// The directory's dentry.
    pub(crate) fn dentry(&self) -> &Dentry {
        // SAFETY: By the type invariants the dentry is valid, and held as long as `self`.
        unsafe { Dentry::from_raw(self.dentry) }
    }

    /// Calls `each` with every name except `.` and `..`.
    pub(crate) fn list(&self, each: &mut dyn FnMut(&[u8])) -> Result {
        self.list_numbered(&mut |name, _| each(name))
    }

    /// As [`Self::list`], with the inode numbers of the directory entries (`d_ino`).
    pub(crate) fn list_numbered(&self, each: &mut dyn FnMut(&[u8], u64)) -> Result {
        let _kernel = KernelCreds::new();
        let dir = self.open_dentry(self.dentry, c::O_RDONLY | c::O_DIRECTORY | c::O_LARGEFILE)?;
        let mut context = ListContext {
            context: c::dir_context {
                actor: Some(list_actor),
                pos: 0,
                count: c_int::MAX,
                dt_flags_mask: 0,
            },
            found: false,
            each,
        };
        loop {
            context.found = false;
            // SAFETY: The file is an open directory; the context is the first field of `context`,
            // which outlives the call.
            to_result(unsafe { c::iterate_dir(dir.as_ptr(), (&raw mut context).cast()) })?;
            if !context.found {
                return Ok(());
            }
        }
    }

    /// Makes the directory durable.
    pub(crate) fn sync(&self) -> Result {
        self.open_dentry(self.dentry, c::O_RDONLY | c::O_DIRECTORY | c::O_LARGEFILE)?
            .sync()
    }

    /// statfs of the filesystem.
    pub(crate) fn space(&self) -> Result<Space> {
        let path = self.path();
        let mut stat = c::kstatfs::default();
        // SAFETY: Path and answer are valid for the call.
        to_result(unsafe { c::vfs_statfs(&path, &mut stat) })?;
        let block = u64::try_from(stat.f_bsize).unwrap_or(0);
        Ok(Space {
            total: block.saturating_mul(stat.f_blocks),
            free: block.saturating_mul(stat.f_bavail),
            unused: block.saturating_mul(stat.f_bfree),
            inodes: stat.f_files,
            free_inodes: stat.f_ffree,
        })
    }

    /// The directory's file handle: type, and length in `buf`. `ENOTSUPP` without file handles.
    pub(crate) fn handle(&self, buf: &mut [u8; 128]) -> Result<(u8, usize)> {
        let mut words = [0u32; 32];
        let mut count: c_int = 32;
        // SAFETY: The dentry is valid by the type invariants, `words` has `count` elements.
        let kind = unsafe {
            c::lfs_store_encode_handle(self.dentry, words.as_mut_ptr().cast(), &mut count)
        };
        let kind = u8::try_from(kind).map_err(|_| ENOTSUPP)?;
        if kind == 0 || kind == u8::MAX {
            return Err(ENOTSUPP);
        }
        let count = usize::try_from(count).map_err(|_| ENOTSUPP)?;
        let bytes = buf.chunks_exact_mut(4).zip(words).take(count);
        for (out, word) in bytes {
            out.copy_from_slice(&word.to_ne_bytes());
        }
        Ok((kind, count.saturating_mul(4).min(buf.len())))
    }

    /// Looks up `name`; the result is positive, neither a symbolic link nor a mount point.
    fn lookup(&self, name: &[u8]) -> Result<PositiveDentry> {
        let found = self.find(name)?;
        if found.stat().is_link() {
            return Err(ELOOP);
        }
        // SAFETY: `found` holds the dentry.
        if unsafe { c::lfs_store_is_mount_point(found.dentry) } {
            return Err(EXDEV);
        }
        Ok(found)
    }

    /// Looks up `name`; the result is positive.
    fn find(&self, name: &[u8]) -> Result<PositiveDentry> {
        let _kernel = KernelCreds::new();
        let len = name_len(name)?;
        // SAFETY: The directory is valid by the type invariants, the name for the call.
        let dentry = unsafe { c::lfs_store_lookup(self.dentry, name.as_ptr().cast(), len) };
        let dentry = from_err_ptr(dentry)?;
        let found = PositiveDentry { dentry };
        // SAFETY: `found` holds the dentry.
        if !unsafe { c::lfs_is_positive(dentry) } {
            return Err(ENOENT);
        }
        Ok(found)
    }

    /// Creates `name` with the directory locked, unless the name exists. `make` gets the
    /// directory's inode and the negative dentry, and returns the dentry to end with (an error
    /// pointer if already ended) and the result.
    fn creating(
        &self,
        name: &[u8],
        make: impl FnOnce(*mut c::inode, *mut c::dentry) -> (*mut c::dentry, Result),
    ) -> Result {
        let _kernel = KernelCreds::new();
        let _write = MountWriteAccess::new(self.mnt)?;
        let len = name_len(name)?;
        // SAFETY: The directory is valid by the type invariants, the name for the call.
        let dentry = from_err_ptr(unsafe {
            c::lfs_store_start_creating(self.dentry, name.as_ptr().cast(), len)
        })?;
        // SAFETY: start_creating() holds the dentry.
        let (end, result) = if unsafe { c::lfs_is_positive(dentry) } {
            (dentry, Ok(()))
        } else {
            // SAFETY: By the type invariants the directory's dentry is positive.
            make(unsafe { (*self.dentry).d_inode }, dentry)
        };
        // SAFETY: Pairs with lfs_store_start_creating(); ignores error pointers.
        unsafe { c::end_dirop(end) };
        result
    }

    /// Opens `dentry` on this mount.
    fn open_dentry(&self, dentry: *mut c::dentry, flags: u32) -> Result<StoreFile> {
        let _kernel = KernelCreds::new();
        let path = c::path {
            mnt: self.mnt,
            dentry,
        };
        let flags = c_int::try_from(flags).map_err(|_| EINVAL)?;
        // SAFETY: Mount and dentry are held by the caller for the call, the credentials are the
        // kernel's own and live for ever.
        let file = from_err_ptr(unsafe { c::dentry_open(&path, flags, c::lfs_kernel_cred()) })?;
        // SAFETY: dentry_open() gave a reference to an open file.
        Ok(unsafe { StoreFile::from_raw(file) })
    }

    fn path(&self) -> c::path {
        c::path {
            mnt: self.mnt,
            dentry: self.dentry,
        }
    }
}

/// An object's allocated bytes; 0 if unknown. By ->getattr: not all filesystems maintain
/// `i_blocks`.
pub(super) fn bytes_at(path: &c::path) -> u64 {
    let mut stat: c::kstat = pin_init::zeroed();
    // SAFETY: A live path and a writable result.
    let result = unsafe { c::vfs_getattr_nosec(path, &mut stat, c::STATX_BLOCKS, 0) };
    match to_result(result) {
        Ok(()) => stat.blocks.saturating_mul(512),
        Err(_) => 0,
    }
}

impl Drop for StoreDir {
    fn drop(&mut self) {
        // SAFETY: By the type invariants a reference is owned.
        unsafe { c::dput(self.dentry) };
        // SAFETY: By the type invariants a reference is owned.
        unsafe { c::mntput(self.mnt) };
    }
}

/// A positive dentry with a reference.
struct PositiveDentry {
    dentry: *mut c::dentry,
}

impl PositiveDentry {
    fn stat(&self) -> FileStat {
        // SAFETY: The dentry is held and positive, so its inode stays.
        unsafe { FileStat::of((*self.dentry).d_inode) }
    }
}

impl Drop for PositiveDentry {
    fn drop(&mut self) {
        // SAFETY: The reference is ours.
        unsafe { c::dput(self.dentry) };
    }
}

/// Write access to a mount (mnt_want_write()).
struct MountWriteAccess(*mut c::vfsmount);

impl MountWriteAccess {
    fn new(mnt: *mut c::vfsmount) -> Result<Self> {
        // SAFETY: The calling directory holds the mount.
        to_result(unsafe { c::mnt_want_write(mnt) })?;
        Ok(Self(mnt))
    }
}

impl Drop for MountWriteAccess {
    fn drop(&mut self) {
        // SAFETY: Pairs with the call in `new`.
        unsafe { c::mnt_drop_write(self.0) };
    }
}

/// A dir_context with the callback. The context is the first field, so that the actor can cast its
/// pointer.
#[repr(C)]
struct ListContext<'a, 'b> {
    context: c::dir_context,
    found: bool,
    each: &'a mut (dyn FnMut(&[u8], u64) + 'b),
}

/// The actor of iterate_dir(): passes one name.
///
/// # Safety
///
/// `context` must be the first field of a [`ListContext`], and `name` have `len` bytes.
unsafe extern "C" fn list_actor(
    context: *mut c::dir_context,
    name: *const c_char,
    len: c_int,
    _position: c::loff_t,
    inode: u64,
    _kind: c_uint,
) -> bool {
    // SAFETY: `StoreDir::list_numbered` passes the first field of a `ListContext`.
    let context = unsafe { &mut *context.cast::<ListContext<'_, '_>>() };
    let Ok(len) = usize::try_from(len) else {
        return false;
    };
    // SAFETY: The filesystem gives `len` bytes.
    let name = unsafe { core::slice::from_raw_parts(name.cast::<u8>(), len) };
    context.found = true;
    if name != b"." && name != b".." {
        (context.each)(name, inode);
    }
    true
}

/// Checks a name of one component; returns its length.
fn name_len(name: &[u8]) -> Result<u32> {
    if name.is_empty() || name.contains(&b'/') || name == b"." || name == b".." {
        return Err(EINVAL);
    }
    u32::try_from(name.len()).map_err(|_| EINVAL)
}
