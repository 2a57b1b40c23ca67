// SPDX-License-Identifier: GPL-2.0

//! Open files: of any filesystem ([`File`]), and upper files ([`UpperFile`]), which hold a lower
//! file.
//!
//! C headers: [`include/linux/fs.h`](srctree/include/linux/fs.h),
//! [`include/linux/backing-file.h`](srctree/include/linux/backing-file.h)

use super::{
    c,
    cred::OverriddenCreds,
    dentry::{Dentry, UpperDentry},
    error::EOPNOTSUPP,
    inode::{Inode, UpperInode},
    mmap::MmapLowerFile,
    mount::LowerMount,
    table::superblock::SuperHooks,
    FileSystem,
    Fs, //
};
use core::{ops::Deref, ptr::NonNull};
use kernel::{
    error::{from_err_ptr, to_result},
    prelude::*,
    sync::{
        aref::{ARef, AlwaysRefCounted},
        SetOnce, //
    },
    types::Opaque, //
};

/// An open file of any filesystem.
#[repr(transparent)]
pub(crate) struct File(Opaque<c::file>);

// SAFETY: An open file may be used and released on any thread.
unsafe impl Send for File {}
// SAFETY: Each method only makes calls that are allowed with a reference.
unsafe impl Sync for File {}

// SAFETY: The count is the file's `f_ref`.
unsafe impl AlwaysRefCounted for File {
    fn inc_ref(&self) {
        // SAFETY: `self` is a live file with a reference.
        unsafe { c::lfs_get_file(self.as_ptr()) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller gives up its own reference.
        unsafe { c::fput(obj.as_ptr().cast()) }
    }
}

impl File {
    /// # Safety
    ///
    /// `ptr` is an ERR_PTR, or a file with a reference that is ours.
    unsafe fn from_c(ptr: *mut c::file) -> Result<ARef<Self>> {
        let ptr = NonNull::new(from_err_ptr(ptr)?.cast::<Self>()).ok_or(EIO)?;
        // SAFETY: The caller hands the reference over.
        Ok(unsafe { ARef::from_raw(ptr) })
    }

    pub(crate) fn as_ptr(&self) -> *mut c::file {
        self.0.get()
    }

    fn mode(&self) -> c_uint {
        // SAFETY: A live file; the mode is set at open.
        unsafe { (*self.as_ptr()).f_mode }
    }

    /// Whether the file is open for writing.
    pub(crate) fn is_writable(&self) -> bool {
        self.mode() & c::FMODE_WRITE != 0
    }

    /// Whether the file supports IOCB_NOWAIT.
    pub(crate) fn has_no_wait(&self) -> bool {
        self.mode() & c::FMODE_NOWAIT != 0
    }

    /// The `O_*` flags.
    pub(crate) fn flags(&self) -> c_uint {
        // SAFETY: A live file; racy reads are the VFS's habit too.
        unsafe { (*self.as_ptr()).f_flags }
    }

    /// The file's inode.
    pub(crate) fn inode(&self) -> &Inode {
        // SAFETY: A live file.
        let inode = unsafe { (*self.as_ptr()).f_inode };
        // SAFETY: An open file keeps its inode.
        unsafe { Inode::from_raw(inode) }
    }

    /// The dentry that the file was opened by.
    pub(crate) fn path_dentry(&self) -> &Dentry {
        // SAFETY: A live file holds its path.
        let dentry = unsafe { (*self.as_ptr()).__bindgen_anon_1.f_path.dentry };
        // SAFETY: As above.
        unsafe { Dentry::from_raw(dentry) }
    }

    /// Opens a lower object with the mounter's credentials, without an upper file above.
    pub(crate) fn open_kernel(
        mount: &LowerMount,
        dentry: &Dentry,
        flags: c_uint,
    ) -> Result<ARef<File>> {
        // dentry_open() skips may_open(), which refuses a device on a nodev mount, and opening a
        // fifo waits for the other end. So only objects with content are opened.
        let has_content = |inode: &Inode| inode.is_regular() || inode.is_directory();
        if !dentry.inode().is_some_and(has_content) {
            return Err(EINVAL);
        }
        let path = mount.path(dentry);
        let flags = (flags | c::O_LARGEFILE | c::O_NOATIME) as c_int;
        let cred = mount.credentials().as_ptr();
        let _acting = mount.as_mounter();
        // SAFETY: A path whose parts are held; dentry_open() copies the path.
        let file = unsafe { c::dentry_open(&path, flags, cred) };
        // SAFETY: dentry_open() gives a reference or an error.
        unsafe { Self::from_c(file) }
    }

    /// Reads at `at` until `buf` is full or the file ends; returns the number of bytes. Through the
    /// page cache, also with O_DIRECT.
    pub(crate) fn read_at(&self, buf: &mut [u8], at: u64) -> Result<usize> {
        let mut pos = i64::try_from(at).map_err(|_| EFBIG)?;
        let mut done = 0;
        let _acting = OverriddenCreds::as_opener(self);
        while done < buf.len() {
            let rest = &mut buf[done..];
            // SAFETY: A live file and a writable buffer.
            let n = unsafe {
                c::lfs_read_cached(self.as_ptr(), rest.as_mut_ptr().cast(), rest.len(), pos)
            };
            match usize::try_from(n) {
                Ok(0) => break,
                Ok(n) => done = (done + n).min(buf.len()),
                Err(_) => return Err(errno(n)),
            }
            pos = pos.checked_add(n as i64).ok_or(EFBIG)?;
        }
        Ok(done)
    }

    /// Reads `length` bytes at `at` into the page cache in one request, without read-ahead. Errors,
    /// and a file without a page cache, are left to the read that follows.
    pub(crate) fn read_into_cache(&self, at: u64, length: usize) {
        if let Ok(at) = i64::try_from(at) {
            // SAFETY: A live file.
            unsafe { c::lfs_read_into_cache(self.as_ptr(), at, length) };
        }
    }

    /// Writes all of `buf` at `at`. Through the page cache, also with O_DIRECT.
    pub(crate) fn write_at(&self, buf: &[u8], at: u64) -> Result {
        let mut pos = i64::try_from(at).map_err(|_| EFBIG)?;
        let mut done = 0;
        let _acting = OverriddenCreds::as_opener(self);
        while done < buf.len() {
            let rest = &buf[done..];
            // SAFETY: A live file and a readable buffer.
            let n = unsafe {
                c::lfs_write_cached(self.as_ptr(), rest.as_ptr().cast(), rest.len(), pos)
            };
            match usize::try_from(n) {
                Ok(0) => return Err(EIO),
                Ok(n) => done = (done + n).min(buf.len()),
                Err(_) => return Err(errno(n)),
            }
            pos = pos.checked_add(n as i64).ok_or(EFBIG)?;
        }
        Ok(())
    }

    /// `vfs_llseek()`. If the result depends on `f_pos` (SEEK_CUR, and always for directories), the
    /// caller excludes concurrent changes of `f_pos`.
    pub(crate) fn seek(&self, offset: i64, whence: c_int) -> Result<i64> {
        let _acting = OverriddenCreds::as_opener(self);
        // SAFETY: A live file.
        let pos = unsafe { c::vfs_llseek(self.as_ptr(), offset, whence) };
        if pos < 0 {
            return Err(errno(pos as isize));
        }
        Ok(pos)
    }

    /// The present position.
    pub(crate) fn position(&self) -> i64 {
        // SAFETY: A live file.
        unsafe { (*self.as_ptr()).f_pos }
    }

    /// Sets the position. The caller excludes concurrent changes of `f_pos`.
    pub(crate) fn set_position(&self, pos: i64) {
        // SAFETY: A live file.
        unsafe { (*self.as_ptr()).f_pos = pos };
    }

    /// `fallocate(2)`.
    pub(crate) fn allocate(
        &self,
        mount: &LowerMount,
        mode: c_int,
        offset: i64,
        length: i64,
    ) -> Result {
        let _acting = mount.credentials().as_mounter_for_caller()?;
        // SAFETY: A live file.
        to_result(unsafe { c::vfs_fallocate(self.as_ptr(), mode, offset, length) })
    }

    /// `->flush`, called by close(2): network filesystems write back there and report errors.
    pub(crate) fn flush(&self, id: c::fl_owner_t) -> Result {
        let _acting = OverriddenCreds::as_opener(self);
        // SAFETY: A live file has a table.
        let hook = unsafe { (*(*self.as_ptr()).f_op).flush };
        match hook {
            // SAFETY: A live file, and the `fl_owner_t` that the VFS passed for this close.
            Some(hook) => to_result(unsafe { hook(self.as_ptr(), id) }),
            None => Ok(()),
        }
    }

    /// Passes an ioctl to the lower file's filesystem, with the caller's credentials. `ENOTTY`:
    /// unknown command.
    pub(crate) fn control(&self, command: c_uint, argument: usize) -> Result<c_long> {
        // SAFETY: A live file. The lower filesystem treats the argument as the caller's.
        let answer = unsafe { c::lfs_lower_ioctl(self.as_ptr(), command, argument) };
        if answer < 0 {
            return Err(errno(answer as isize));
        }
        Ok(answer)
    }

    /// vfs_fsync_range().
    pub(crate) fn sync(&self, start: i64, end: i64, data_only: bool) -> Result {
        let _acting = OverriddenCreds::as_opener(self);
        // SAFETY: A live file.
        to_result(unsafe { c::vfs_fsync_range(self.as_ptr(), start, end, c_int::from(data_only)) })
    }
}

/// The error of a negative `ssize_t`.
pub(crate) fn errno(value: isize) -> Error {
    Error::from_errno(c_int::try_from(value).unwrap_or(-(c::EIO as c_int)))
}

/// Content of an upper file's `private_data`.
struct FilePrivate {
    lower: ARef<File>,
    /// The lower file of shared mappings that may become writable; set by the first of them.
    map: SetOnce<MmapLowerFile>,
    open: <Fs as FileSystem>::OpenFile,
}

/// An upper file.
///
/// # Invariants
///
/// `private_data` points to a [`FilePrivate`] from `open` to `release`.
#[repr(transparent)]
pub(crate) struct UpperFile(File);

impl Deref for UpperFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl UpperFile {
    /// # Safety
    ///
    /// `ptr` is a live file on a superblock of ours, and stays so for `'a`.
    pub(crate) unsafe fn from_raw<'a>(ptr: *mut c::file) -> &'a Self {
        // SAFETY: Guaranteed by the caller; both types have the same layout.
        unsafe { &*ptr.cast() }
    }

    fn private(&self) -> &FilePrivate {
        // SAFETY: A live file.
        let private = unsafe { (*self.as_ptr()).private_data };
        // SAFETY: By the type invariant.
        unsafe { &*private.cast::<FilePrivate>() }
    }

    /// The lower file.
    pub(crate) fn lower(&self) -> &File {
        &self.private().lower
    }

    /// The lower file of shared mappings that may become writable, opened by the first of them:
    /// most files are never mapped, and a second open of the lower file at each open() is
    /// expensive. The caller holds mmap_lock.
    pub(crate) fn mmap_lower_file(&self) -> Result<&MmapLowerFile> {
        let map = &self.private().map;
        loop {
            if let Some(opened) = map.as_ref() {
                return Ok(opened);
            }
            // Of two concurrent callers one wins; populate() may return false shortly before the
            // winner's value is visible.
            let _ = map.populate(MmapLowerFile::open(self)?);
        }
    }

    /// Mirrors file_accessed() for the upper file, since the lower file is open with O_NOATIME.
    /// Also copies the lower size.
    #[inline]
    pub(crate) fn accessed(&self) {
        // SAFETY: Two live files.
        unsafe { c::lfs_file_accessed(self.as_ptr(), self.lower().as_ptr()) };
    }

    /// `SEEK_SET`: sets the position, within the limits of vfs_setpos().
    pub(crate) fn seek_to(&self, position: i64) -> Result<i64> {
        // SAFETY: A live file; the VFS holds `f_pos_lock` where several threads share the file.
        let position = unsafe { c::vfs_setpos(self.as_ptr(), position, i64::MAX) };
        if position < 0 {
            return Err(errno(position as isize));
        }
        Ok(position)
    }

    /// The path that the file was opened by.
    pub(super) fn path(&self) -> c::path {
        // SAFETY: A live file; its path never changes.
        unsafe { (*self.as_ptr()).__bindgen_anon_1.f_path }
    }

    /// The root of the mount that the file was opened through. A bind mount's root may be any
    /// directory, or a file.
    pub(crate) fn mount_root(&self) -> &UpperDentry {
        // SAFETY: An open file holds its mount.
        let root = unsafe { (*self.path().mnt).mnt_root };
        // SAFETY: A mount holds its root until the mount is freed; the root is on the file's
        // superblock, an upper one.
        unsafe { UpperDentry::from_raw(root) }
    }

    /// Asks security_path_unlink() about a removal through the file's mount. The directory is
    /// locked.
    pub(crate) fn may_unlink(&self, dir: &UpperDentry, name: &[u8]) -> Result {
        let child = dir.child(name)?;
        if child.upper_inode().is_none() {
            return Ok(());
        }
        // SAFETY: A live mount, a directory on it, and a child of that with an inode.
        to_result(unsafe { c::lfs_path_unlink(self.path().mnt, dir.as_ptr(), child.as_ptr()) })
    }

    /// Asks security_path_mknod() about a new name for an object like `node`. The directory is
    /// locked.
    pub(crate) fn may_make(&self, dir: &UpperDentry, name: &[u8], node: &UpperInode) -> Result {
        let child = dir.child(name)?;
        let (mnt, node) = (self.path().mnt, node.as_ptr());
        // SAFETY: A live mount, a directory on it, a child of that, and an inode.
        to_result(unsafe { c::lfs_path_mknod(mnt, dir.as_ptr(), child.as_ptr(), node) })
    }

    /// Asks security_path_rename() about a rename. Both directories are locked.
    pub(crate) fn may_rename(
        &self,
        (from, name): (&UpperDentry, &[u8]),
        (to, new): (&UpperDentry, &[u8]),
        flags: u32,
    ) -> Result {
        let child = from.child(name)?;
        let target = to.child(new)?;
        if child.upper_inode().is_none() {
            return Ok(());
        }
        let (mnt, child, target) = (self.path().mnt, child.as_ptr(), target.as_ptr());
        // SAFETY: A live mount, two directories on it, and a child of each, the first one with an
        // inode.
        to_result(unsafe {
            c::lfs_path_rename(mnt, from.as_ptr(), child, to.as_ptr(), target, flags)
        })
    }

    /// The state of the open file.
    pub(crate) fn open(&self) -> &<Fs as FileSystem>::OpenFile {
        &self.private().open
    }

    /// The file's upper inode.
    pub(crate) fn upper_inode(&self) -> &UpperInode {
        // SAFETY: The inodes of our files are ours.
        unsafe { UpperInode::from_raw(self.inode().as_ptr()) }
    }

    /// The upper dentry that the file was opened by.
    pub(crate) fn dentry(&self) -> &UpperDentry {
        // SAFETY: A live file.
        let dentry = unsafe { (*self.as_ptr()).__bindgen_anon_1.f_path.dentry };
        // SAFETY: Files of ours have dentries of ours, which they hold.
        unsafe { UpperDentry::from_raw(dentry) }
    }

    /// The lower dentry that corresponds to the file's path.
    pub(crate) fn lower_dentry(&self) -> &Dentry {
        self.lower().path_dentry()
    }

    /// Write access to the upper mount: ioctl(2) does not take it.
    pub(crate) fn want_write(&self) -> Result<FileWrite<'_>> {
        // SAFETY: A live file.
        to_result(unsafe { c::mnt_want_write_file(self.as_ptr()) })?;
        Ok(FileWrite(self))
    }

    /// Opens the lower object with the mounter's credentials: the VFS has checked the caller's
    /// permissions on the upper inode.
    ///
    /// `flags` are those of the lower file; `f_path` stays the upper path (backing_file_open()).
    pub(crate) fn open_lower(
        &self,
        mount: &LowerMount,
        dentry: &Dentry,
        flags: c_uint,
    ) -> Result<ARef<File>> {
        let path = mount.path(dentry);
        let cred = mount.credentials().as_ptr();
        let _acting = mount.as_mounter();
        // SAFETY: A live user file, and a path whose parts are held; backing_file_open() copies the
        // path.
        let file = unsafe { c::backing_file_open(self.as_ptr(), flags as c_int, &path, cred) };
        // SAFETY: backing_file_open() gives a reference or an error.
        unsafe { File::from_c(file) }
    }

    /// Opens the lower object read-only for mappings, without waiting for fanotify listeners.
    pub(super) fn open_lower_to_map(&self) -> Result<ARef<File>> {
        // SAFETY: Two live files, the second one the first one's lower file.
        let file = unsafe { c::lfs_open_to_map(self.as_ptr(), self.lower().as_ptr()) };
        // SAFETY: A reference or an error.
        unsafe { File::from_c(file) }
    }

    /// Creates an unnamed lower file in the lower directory `parent`, owned by the caller. The
    /// caller has write access.
    pub(crate) fn open_lower_unnamed(
        &self,
        mount: &LowerMount,
        parent: &Dentry,
        flags: c_uint,
        mode: u16,
    ) -> Result<ARef<File>> {
        let path = mount.path(parent);
        let cred = mount.credentials().as_ptr();
        // Labelled by the upper dentry: the lower file has no dentry with a parent yet.
        let _acting = (mount.credentials()).labelling(self.dentry(), mode | c::S_IFREG as u16)?;
        let (own, flags) = (self.as_ptr(), flags as c_int);
        // SAFETY: As in `open_lower`.
        let file = unsafe { c::backing_tmpfile_open(own, flags, &path, mode, cred) };
        // SAFETY: backing_tmpfile_open() gives a reference or an error.
        unsafe { File::from_c(file) }
    }

    /// Ends `->open`: stores the lower file and the state.
    pub(crate) fn opened(&self, lower: ARef<File>, open: <Fs as FileSystem>::OpenFile) -> Result {
        let taken = c::FMODE_CAN_ODIRECT | c::FMODE_NOWAIT;
        let mode_below = lower.mode() & taken;
        let map = SetOnce::new();
        let private = KBox::new(FilePrivate { lower, map, open }, GFP_KERNEL)?;
        let file = self.as_ptr();
        // SAFETY: The file is being opened, so no other task uses the field.
        unsafe { (*file).private_data = KBox::into_raw(private).cast() };
        // SAFETY: As above. O_DIRECT and RWF_NOWAIT are supported where the lower file supports
        // them: do_dentry_open() only adds FMODE_CAN_ODIRECT, and only for a mapping with
        // ->direct_IO, which upper mappings lack.
        let mode = unsafe { &mut (*file).f_mode };
        *mode = (*mode & !taken) | mode_below;
        Ok(())
    }

    /// Names the dentry of an O_TMPFILE open as the lower filesystem does, before d_instantiate().
    pub(crate) fn name_unnamed(&self, inode: &UpperInode) {
        // SAFETY: vfs_tmpfile() has given the file a dentry with an inline name, unhashed and
        // negative, which is not visible to other tasks.
        unsafe { c::d_mark_tmpfile(self.as_ptr(), inode.as_ptr()) };
    }

    /// Ends an O_TMPFILE open after [`UpperFile::opened`], with finish_open(); on failure also
    /// undoes [`UpperFile::opened`].
    pub(crate) fn finish_unnamed(&self, dentry: &UpperDentry) -> Result {
        // SAFETY: A file that is being opened, and its dentry, now positive.
        let err = unsafe { c::finish_open(self.as_ptr(), dentry.as_ptr(), Some(opened_already)) };
        if !self.is_opened() {
            self.release();
        }
        to_result(err)
    }

    /// Whether the VFS will call `->release` (FMODE_OPENED).
    pub(crate) fn is_opened(&self) -> bool {
        self.mode() & c::FMODE_OPENED != 0
    }

    /// `->release`: drops the lower file and the state.
    pub(crate) fn release(&self) {
        let file = self.as_ptr();
        // SAFETY: The last user is gone.
        let field = unsafe { &mut (*file).private_data };
        let private = core::mem::replace(field, core::ptr::null_mut());
        if !private.is_null() {
            // SAFETY: By the type invariant a boxed `FilePrivate`.
            drop(unsafe { KBox::from_raw(private.cast::<FilePrivate>()) });
        }
    }

    /// file_remove_privs(). The upper inode is locked.
    pub(crate) fn remove_privileges(&self) -> Result {
        // SAFETY: A live file whose inode is locked.
        to_result(unsafe { c::file_remove_privs(self.as_ptr()) })?;
        let inode = self.upper_inode();
        if !<Fs as SuperHooks>::lower(inode.mount()).limits().no_set_id {
            return Ok(());
        }
        let dentry = self.dentry().as_ptr();
        // SAFETY: A live dentry whose inode is locked, and the lower inode.
        to_result(unsafe { c::lfs_drop_set_id(dentry, inode.lower().as_ptr()) })
    }
}

/// See [`UpperFile::want_write`].
pub(crate) struct FileWrite<'a>(&'a UpperFile);

impl Drop for FileWrite<'_> {
    fn drop(&mut self) {
        // SAFETY: The guard exists because access was granted.
        unsafe { c::mnt_drop_write_file(self.0.as_ptr()) };
    }
}

extern "C" fn opened_already(_inode: *mut c::inode, _file: *mut c::file) -> c_int {
    0
}

/// A struct kiocb: one read or write call.
#[repr(transparent)]
pub(crate) struct Kiocb(Opaque<c::kiocb>);

impl Kiocb {
    /// # Safety
    ///
    /// `ptr` is a live kiocb on a file of ours, for `'a`, used by this thread only.
    pub(crate) unsafe fn from_raw<'a>(ptr: *mut c::kiocb) -> &'a mut Self {
        // SAFETY: A transparent wrapper; the caller guarantees the rest.
        unsafe { &mut *ptr.cast() }
    }

    fn as_ptr(&self) -> *mut c::kiocb {
        self.0.get()
    }

    /// The upper file. The lifetime is that of the VFS's call, which is longer than this borrow.
    pub(crate) fn upper_file<'f>(&self) -> &'f UpperFile
    where
        Self: 'f,
    {
        // SAFETY: A live call has a file, which is ours by the contract of `from_raw`.
        let file = unsafe { (*self.as_ptr()).ki_filp };
        // SAFETY: The VFS keeps the file open until the hook returns; `Kiocb` does not outlive the
        // hook.
        unsafe { UpperFile::from_raw(file) }
    }

    /// The lower file. The lifetime is that of the VFS's call.
    pub(crate) fn lower_file<'f>(&self) -> &'f File
    where
        Self: 'f,
    {
        self.upper_file().lower()
    }

    fn flags(&self) -> c_int {
        // SAFETY: A live call.
        unsafe { (*self.as_ptr()).ki_flags }
    }

    fn has(&self, flag: c_uint) -> bool {
        self.flags() as c_uint & flag != 0
    }

    /// Whether the call has IOCB_NOWAIT.
    pub(crate) fn no_wait(&self) -> bool {
        self.has(c::IOCB_NOWAIT)
    }

    /// Refuses RWF_DONTCACHE where the lower filesystem lacks FOP_DONTCACHE: kiocb_set_rw_flags()
    /// has checked the upper table only.
    pub(crate) fn refuse_dontcache(&self, lower: &File) -> Result {
        // SAFETY: A live file.
        if self.has(c::IOCB_DONTCACHE) && !unsafe { c::lfs_has_dontcache(lower.as_ptr()) } {
            return Err(EOPNOTSUPP);
        }
        Ok(())
    }

    /// Whether the call bypasses the page cache.
    pub(crate) fn is_direct(&self) -> bool {
        self.has(c::IOCB_DIRECT)
    }

    /// Whether the written data is durable when the call returns, or bypasses the page cache.
    pub(crate) fn is_durable(&self) -> bool {
        self.has(c::IOCB_DSYNC | c::IOCB_SYNC | c::IOCB_DIRECT)
    }

    /// `ki_pos`; for O_APPEND only valid after [`Kiocb::check_write`].
    pub(crate) fn position(&self) -> u64 {
        // SAFETY: A live call.
        u64::try_from(unsafe { (*self.as_ptr()).ki_pos }).unwrap_or(0)
    }

    /// generic_write_checks(): position for O_APPEND, and limits. The upper inode is locked.
    /// Returns the number of bytes that may be written.
    pub(crate) fn check_write(&mut self, bytes: &mut IovIter) -> Result<usize> {
        // SAFETY: A live call and iterator; the inode is locked and its size fresh.
        let n = unsafe { c::generic_write_checks(self.as_ptr(), bytes.as_ptr()) };
        usize::try_from(n).map_err(|_| errno(n))
    }

    /// Reads from the lower file, then calls [`UpperFile::accessed`].
    pub(crate) fn read_lower(&mut self, lower: &File, bytes: &mut IovIter) -> Result<usize> {
        // SAFETY: All are live; the call is synchronous.
        let n = unsafe { c::lfs_read(self.as_ptr(), lower.as_ptr(), bytes.as_ptr()) };
        usize::try_from(n).map_err(|_| errno(n))
    }

    /// Faults in the first bytes of a write, up to `window` of them and at least one.
    /// file_start_write() is undone for that time, so the caller may hold no lock. Returns how many
    /// bytes are resident; 0 when no fault-in is necessary: a direct write, or memory of the
    /// kernel.
    #[inline]
    pub(crate) fn fault_in(&mut self, bytes: &mut IovIter, window: usize) -> Result<usize> {
        // SAFETY: A live call, for which the VFS has taken write access, and its memory.
        let found = unsafe { c::lfs_fault_in(self.as_ptr(), bytes.as_ptr(), window) };
        usize::try_from(found).map_err(|_| errno(found))
    }

    /// Writes to the lower file at the position that [`Kiocb::check_write`] has set. A buffered
    /// write is short where a page of the caller's memory is not resident.
    pub(crate) fn write_lower(&mut self, lower: &File, bytes: &mut IovIter) -> Result<usize> {
        // SAFETY: All are live; the call is synchronous.
        let n = unsafe { c::lfs_write(self.as_ptr(), lower.as_ptr(), bytes.as_ptr(), false) };
        usize::try_from(n).map_err(|_| errno(n))
    }

    /// As [`Kiocb::write_lower`], but waits for the caller's pages. No journal reservation is held.
    pub(crate) fn write_lower_waiting(
        &mut self,
        lower: &File,
        bytes: &mut IovIter,
    ) -> Result<usize> {
        // SAFETY: All are live; the call is synchronous.
        let n = unsafe { c::lfs_write(self.as_ptr(), lower.as_ptr(), bytes.as_ptr(), true) };
        usize::try_from(n).map_err(|_| errno(n))
    }
}

/// The caller's buffers.
#[repr(transparent)]
pub(crate) struct IovIter(Opaque<c::iov_iter>);

impl IovIter {
    /// # Safety
    ///
    /// `ptr` is a live iterator for `'a`, used by this thread only.
    pub(crate) unsafe fn from_raw<'a>(ptr: *mut c::iov_iter) -> &'a mut Self {
        // SAFETY: A transparent wrapper; the caller guarantees the rest.
        unsafe { &mut *ptr.cast() }
    }

    fn as_ptr(&self) -> *mut c::iov_iter {
        self.0.get()
    }

    /// Calls `f` with the iterator truncated to `count` bytes.
    pub(crate) fn with_first<T>(&mut self, count: usize, f: impl FnOnce(&mut Self) -> T) -> T {
        // SAFETY: A live iterator.
        let cut = unsafe { c::lfs_bytes_cut(self.as_ptr(), count) };
        let answer = f(self);
        // SAFETY: As above; as many bytes were cut off.
        unsafe { c::lfs_bytes_uncut(self.as_ptr(), cut) };
        answer
    }

    /// iov_iter_count().
    pub(crate) fn left(&self) -> usize {
        // SAFETY: A live iterator.
        unsafe { c::lfs_bytes_left(self.as_ptr()) }
    }
}
