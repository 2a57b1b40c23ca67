// SPDX-License-Identifier: GPL-2.0

//! Memory mappings: upper areas over the lower file, faults that make pages writable, and the lower
//! file that areas hold.
//!
//! A shared mapping that may become writable gets its own vm_operations_struct ([`WatchedVmOps`]),
//! as in fs/coda/file.c. The table holds the upper file, and thereby the inode, the mount and this
//! module, as long as any area uses the table, across fork(), split and mremap().
//!
//! C headers: [`include/linux/mm.h`](srctree/include/linux/mm.h),
//! [`include/linux/backing-file.h`](srctree/include/linux/backing-file.h)

use super::{
    c,
    dentry::UpperDentry,
    file::{File, UpperFile},
    inode::Inode,
    superblock::UpperSuperBlock,
    table::file::{to_int, MapHooks},
    Fs,
};
use core::{marker::PhantomData, mem::ManuallyDrop};
use kernel::{
    error::to_result,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            ordering::{Full, Relaxed},
            Atomic, //
        },
        SetOnce, //
    },
};

/// A VMA that mmap() is creating. Mapped once: the methods that do take `self`.
pub(crate) struct NewVma<'a>(*mut c::vm_area_struct, PhantomData<&'a mut ()>);

impl NewVma<'_> {
    /// # Safety
    ///
    /// `ptr` is the argument of `->mmap`, used within the call, and by no other `NewVma`.
    pub(super) unsafe fn from_raw(ptr: *mut c::vm_area_struct) -> Self {
        Self(ptr, PhantomData)
    }

    /// Whether stores through the mapping reach the file, now or after mprotect().
    pub(crate) fn may_change_file(&self) -> bool {
        // SAFETY: A live area that is being made by this thread.
        let flags = unsafe { (*self.0).__bindgen_anon_2.vm_flags };
        let both = u64::from(c::VM_SHARED | c::VM_MAYWRITE);
        flags as u64 & both == both
    }

    /// Maps `lower` instead of the upper file.
    pub(crate) fn map_lower(self, lower: &File) -> Result {
        self.map_backing_file(lower)
    }

    fn map_backing_file(&self, lower: &File) -> Result {
        let mut context = c::backing_file_ctx {
            // SAFETY: A live file, which holds its credentials.
            cred: unsafe { (*lower.as_ptr()).f_cred },
            ..Default::default()
        };
        // SAFETY: A live file, which backing_file_mmap() refuses if it is no backing file, and the area
        // that is being made.
        to_result(unsafe { c::backing_file_mmap(lower.as_ptr(), self.0, &mut context) })
    }

    /// As [`Self::map_lower`], with [`MapHooks::store`] called for the first store to each page.
    pub(crate) fn map_watched(self, file: &UpperFile, lower: &MmapLowerFile) -> Result {
        let watched = UnboundVmOps::new(file)?;
        let table = lower.table_above(file)?;
        self.map_backing_file(&lower.file)?;
        if let Some(table) = table {
            // SAFETY: The area is this thread's until the call ends.
            let real = unsafe { (*self.0).vm_file };
            lower.take_over(real, table);
        }
        // SAFETY: The area is this thread's until the call ends.
        unsafe { c::lfs_map_by_pages(self.0) };
        // SAFETY: As above.
        let ops = unsafe { &mut (*self.0).vm_ops };
        *ops = watched.over(*ops);
        Ok(())
    }
}

/// Whether writes through a mapping can be tracked, and written back by a file that is open for
/// reading only. False for DAX (no page cache) and for remote filesystems.
pub(crate) fn is_watchable(lower: &Inode) -> bool {
    // SAFETY: A live inode.
    let is_dax = unsafe { c::lfs_is_dax(lower.as_ptr()) };
    // SAFETY: A live superblock.
    !is_dax && unsafe { !c::lfs_is_remote(lower.superblock().as_ptr()) }
}

/// The inode that owns the pages of a lower file: overlayfs maps a file of another filesystem.
/// Callers pass a lower file that is open for writing, so overlayfs has copied the file up.
pub(crate) fn page_inode(lower: &File) -> &Inode {
    // SAFETY: The dentry of a live file is positive.
    let inode = unsafe { c::lfs_real_inode(lower.path_dentry().as_ptr()) };
    // SAFETY: The dentry, which the file holds, keeps the inode.
    unsafe { Inode::from_raw(inode) }
}

/// The vm_operations_struct of all areas that come from one mmap().
///
/// # Invariants
///
/// `own` is an upper file with a reference, `lower` the table that the lower filesystem gave the
/// area. `users` counts the areas with `ops`; the last one frees the table.
#[repr(C)]
struct WatchedVmOps {
    ops: c::vm_operations_struct,
    lower: *const c::vm_operations_struct,
    own: *mut c::file,
    users: Atomic<i32>,
}

/// A [`WatchedVmOps`] without areas.
struct UnboundVmOps(ManuallyDrop<KBox<WatchedVmOps>>);

impl WatchedVmOps {
    /// The table of an area.
    ///
    /// # Safety
    ///
    /// `area` is a live area with a [`WatchedVmOps`], for `'a`.
    unsafe fn of<'a>(area: *mut c::vm_area_struct) -> &'a Self {
        // SAFETY: The caller guarantees that the area is valid.
        let ops = unsafe { (*area).vm_ops };
        // SAFETY: `ops` is the first field, and lives while the area uses the table.
        unsafe { &*ops.cast::<Self>() }
    }

    fn own(&self) -> &UpperFile {
        // SAFETY: By the type invariants.
        unsafe { UpperFile::from_raw(self.own) }
    }

    fn lower(&self) -> &c::vm_operations_struct {
        // SAFETY: By the type invariants; the table is a static of the lower filesystem, whose file
        // the area holds.
        unsafe { &*self.lower }
    }
}

impl UnboundVmOps {
    fn new(file: &UpperFile) -> Result<Self> {
        let watched = KBox::new(
            WatchedVmOps {
                ops: pin_init::zeroed(),
                lower: core::ptr::null(),
                own: file.as_ptr(),
                users: Atomic::new(1),
            },
            GFP_KERNEL,
        )?;
        // SAFETY: A live file.
        unsafe { c::lfs_get_file(file.as_ptr()) };
        // INVARIANT: The reference was taken above.
        Ok(Self(ManuallyDrop::new(watched)))
    }

    /// Fills the table for an area that has `lower`, and returns the new vm_ops.
    fn over(mut self, lower: *const c::vm_operations_struct) -> *const c::vm_operations_struct {
        let watched = &mut *self.0;
        // SAFETY: The lower filesystem has just set the area's vm_ops.
        watched.ops = unsafe { *lower };
        watched.lower = lower;
        watched.ops.open = Some(area_open);
        watched.ops.close = Some(area_close);
        watched.ops.page_mkwrite = Some(page_mkwrite);
        if watched.ops.fault.is_some() {
            watched.ops.fault = Some(fault);
        }
        // SAFETY: A table that is ours alone.
        unsafe { c::lfs_only_page_mkwrite(&mut watched.ops) };
        // SAFETY: `self` is forgotten, so the box is taken once.
        let watched = KBox::into_raw(unsafe { ManuallyDrop::take(&mut self.0) });
        core::mem::forget(self);
        // `ops` is the first field.
        watched.cast()
    }
}

impl Drop for UnboundVmOps {
    fn drop(&mut self) {
        let own = self.0.own;
        // SAFETY: `over` forgets `self` when taking the box.
        drop(unsafe { ManuallyDrop::take(&mut self.0) });
        // SAFETY: The reference is ours.
        unsafe { c::fput(own) };
    }
}

/// # Safety
///
/// Called by the memory management with a new area that has a copy of another's table.
unsafe extern "C" fn area_open(area: *mut c::vm_area_struct) {
    // SAFETY: The area uses the table that contains this function.
    let watched = unsafe { WatchedVmOps::of(area) };
    let _ = watched.users.fetch_add(1, Relaxed);
    if let Some(open) = watched.lower().open {
        // SAFETY: The arguments are those of the memory management's call.
        unsafe { open(area) };
    }
}

/// # Safety
///
/// Called by the memory management once, with an area that goes.
unsafe extern "C" fn area_close(area: *mut c::vm_area_struct) {
    // SAFETY: The area uses the table that contains this function.
    let watched = unsafe { WatchedVmOps::of(area) };
    if let Some(close) = watched.lower().close {
        // SAFETY: The arguments are those of the memory management's call.
        unsafe { close(area) };
    }
    if watched.users.fetch_sub(1, Full) != 1 {
        return;
    }
    <Fs as MapHooks>::unmapped(watched.own());
    let own = watched.own;
    // SAFETY: Boxed in `over`, and this was the last area.
    drop(unsafe { KBox::from_raw(core::ptr::from_ref(watched).cast_mut()) });
    // SAFETY: The reference was the table's.
    unsafe { c::fput(own) };
}

/// # Safety
///
/// Called by the memory management for a page that is not mapped in an area.
unsafe extern "C" fn fault(vmf: *mut c::vm_fault) -> c::vm_fault_t {
    // SAFETY: A live fault.
    let area = unsafe { (*vmf).__bindgen_anon_1.vma };
    // SAFETY: The fault keeps the area, which has the table that this function is in.
    let lower = unsafe { WatchedVmOps::of(area) }.lower();
    // Read before the call: lfs_map_read_only() may drop the fault's lock; munmap() in another
    // thread may then free the area and its table.
    let hook = lower.fault;
    // SAFETY: The fault and the lower filesystem's table of its area.
    let answer = unsafe { c::lfs_map_read_only(vmf, lower) };
    if answer != 0 {
        return answer;
    }
    match hook {
        // SAFETY: The arguments are those of the memory management's call.
        Some(fault) => unsafe { fault(vmf) },
        None => c::vm_fault_reason_VM_FAULT_SIGBUS,
    }
}

/// # Safety
///
/// Called by the memory management for a page that is about to become writable in an area.
unsafe extern "C" fn page_mkwrite(vmf: *mut c::vm_fault) -> c::vm_fault_t {
    // SAFETY: A live fault.
    let area = unsafe { (*vmf).__bindgen_anon_1.vma };
    // SAFETY: The fault keeps the area, which has the table that this function is in.
    let watched = unsafe { WatchedVmOps::of(area) };
    let own = watched.own();
    let _writing = PageFault::new(own.upper_inode().superblock());
    let fault = WriteFault { vmf, watched };
    <Fs as MapHooks>::store(own, fault).0
}

/// sb_start_pagefault() of the upper superblock, as a guard.
struct PageFault<'a>(&'a UpperSuperBlock);

impl<'a> PageFault<'a> {
    fn new(sb: &'a UpperSuperBlock) -> Self {
        // SAFETY: A live superblock of ours.
        unsafe { c::lfs_pagefault_start(sb.as_ptr()) };
        Self(sb)
    }
}

impl Drop for PageFault<'_> {
    fn drop(&mut self) {
        // SAFETY: Pairs with `new`.
        unsafe { c::lfs_pagefault_end(self.0.as_ptr()) };
    }
}

/// Return value of a fault handler.
pub(crate) struct FaultResult(c::vm_fault_t);

impl FaultResult {
    /// VM_FAULT_NOPAGE: nothing was done; the program repeats the store after one tick.
    pub(crate) fn again() -> Self {
        // SAFETY: A fault may sleep.
        unsafe { c::lfs_sleep_one_tick() };
        Self(c::vm_fault_reason_VM_FAULT_NOPAGE)
    }

    /// The store fails with SIGBUS.
    pub(crate) fn refused() -> Self {
        Self(c::vm_fault_reason_VM_FAULT_SIGBUS)
    }

    /// Out of memory.
    pub(crate) fn no_memory() -> Self {
        Self(c::vm_fault_reason_VM_FAULT_OOM)
    }
}

/// A write fault on a read-only page.
pub(crate) struct WriteFault<'a> {
    vmf: *mut c::vm_fault,
    watched: &'a WatchedVmOps,
}

/// VM_FAULT_* bits with which the lower ->page_mkwrite returns without a locked folio.
const UNDONE: c::vm_fault_t = c::vm_fault_reason_VM_FAULT_OOM
    | c::vm_fault_reason_VM_FAULT_SIGBUS
    | c::vm_fault_reason_VM_FAULT_SIGSEGV
    | c::vm_fault_reason_VM_FAULT_HWPOISON
    | c::vm_fault_reason_VM_FAULT_HWPOISON_LARGE
    | c::vm_fault_reason_VM_FAULT_FALLBACK
    | c::vm_fault_reason_VM_FAULT_NOPAGE
    | c::vm_fault_reason_VM_FAULT_RETRY;

impl<'a> WriteFault<'a> {
    /// Calls the lower ->page_mkwrite. On success the folio is locked and not mapped writable
    /// before the unlock.
    pub(crate) fn make_writable(self) -> Result<LockedWriteFault<'a>, FaultResult> {
        // Without a lower ->page_mkwrite (tmpfs), filemap_page_mkwrite() updates the file's times.
        let hook = self.watched.lower().page_mkwrite;
        let hook = hook.unwrap_or(c::filemap_page_mkwrite);
        // SAFETY: The arguments are those of the memory management's call.
        let answer = unsafe { hook(self.vmf) };
        if answer & UNDONE != 0 {
            return Err(FaultResult(answer));
        }
        let is_locked = answer & c::vm_fault_reason_VM_FAULT_LOCKED != 0;
        // SAFETY: The fault holds its page.
        if !is_locked && unsafe { !c::lfs_fault_lock(self.vmf) } {
            return Err(FaultResult(c::vm_fault_reason_VM_FAULT_NOPAGE));
        }
        let mut start = 0;
        // SAFETY: The fault's folio is locked.
        let length = unsafe { c::lfs_fault_range(self.vmf, &mut start) };
        Ok(LockedWriteFault {
            vmf: self.vmf,
            answer: answer | c::vm_fault_reason_VM_FAULT_LOCKED,
            start: u64::try_from(start).unwrap_or(0),
            length,
            _watched: self.watched,
        })
    }
}

/// A write fault whose folio is locked. Dropping unlocks the folio; the page stays read-only.
pub(crate) struct LockedWriteFault<'a> {
    vmf: *mut c::vm_fault,
    answer: c::vm_fault_t,
    /// The range that becomes writable, by the file's size after the folio was locked.
    /// truncate_setsize() lowers `i_size` without the folio lock, so a second read may give another
    /// value.
    start: u64,
    length: usize,
    _watched: &'a WatchedVmOps,
}

impl LockedWriteFault<'_> {
    /// The file range that becomes writable: offset and length.
    pub(crate) fn range(&self) -> (u64, usize) {
        (self.start, self.length)
    }

    /// Copies the folio's bytes at `at`, within [`Self::range`].
    pub(crate) fn copy(&self, at: u64, to: &mut [u8]) -> Result {
        let (start, length) = self.range();
        let end = start.saturating_add(length as u64);
        if at < start || at.saturating_add(to.len() as u64) > end {
            return Err(EINVAL);
        }
        let at = i64::try_from(at).map_err(|_| EFBIG)?;
        // SAFETY: The fault's folio is locked and has the range; `to` is writable for its length.
        to_result(unsafe { c::lfs_fault_copy(self.vmf, at, to.as_mut_ptr().cast(), to.len()) })
    }

    /// Ends the fault successfully; the page becomes writable.
    pub(crate) fn let_through(self) -> FaultResult {
        let answer = self.answer;
        core::mem::forget(self);
        FaultResult(answer)
    }
}

impl Drop for LockedWriteFault<'_> {
    fn drop(&mut self) {
        // SAFETY: The folio is locked by us.
        unsafe { c::lfs_fault_unlock(self.vmf) };
    }
}

/// Write-protects all mappings of a lower file range, so that the next store faults.
pub(crate) fn write_protect(lower: &Inode, at: u64, length: u64) {
    let (Ok(at), Ok(length)) = (i64::try_from(at), i64::try_from(length)) else {
        return;
    };
    if length == 0 {
        return;
    }
    // SAFETY: A live inode has a mapping.
    let mapping = unsafe { (*lower.as_ptr()).i_mapping };
    // SAFETY: The mapping of a live inode.
    unsafe { c::lfs_write_protect(mapping, at, length) };
}

/// Unmaps all pages of the lower file. Without folio locks: a concurrent fault may map a page
/// again.
pub(crate) fn unmap_all(lower: &Inode) {
    // SAFETY: A live inode has a mapping.
    let mapping = unsafe { (*lower.as_ptr()).i_mapping };
    // SAFETY: The mapping of a live inode; no private copies are dropped.
    unsafe { c::unmap_mapping_pages(mapping, 0, 0, false) };
}

/// The lower file that areas hold. Opened for reading only, so that calls that use `vm_file`
/// directly (MADV_REMOVE, remap_file_pages()) cannot change the lower file; with its own
/// file_operations, so that msync() calls the upper ->fsync.
pub(crate) struct MmapLowerFile {
    file: ARef<File>,
    /// Set when the file that the areas hold has the upper table, too. A stacked lower filesystem
    /// replaces `vm_file`.
    has_real: SetOnce<()>,
}

/// The file_operations of a [`MmapLowerFile`].
///
/// # Invariants
///
/// `lower` is the table that the lower filesystem gave the file; `path` is the upper file's path,
/// with references.
#[repr(C)]
struct MapFileOps {
    ops: c::file_operations,
    lower: *const c::file_operations,
    path: c::path,
}

impl MmapLowerFile {
    /// Opens the lower file of an upper file.
    pub(super) fn open(file: &UpperFile) -> Result<Self> {
        let table = UnboundMapFileOps::new(file)?;
        let opened = file.open_lower_to_map()?;
        // SAFETY: A live file that is not visible to other tasks yet.
        unsafe { table.put_on(opened.as_ptr()) };
        Ok(Self {
            file: opened,
            has_real: SetOnce::new(),
        })
    }

    /// A table for the file that the areas hold, if a stacked lower filesystem replaces `vm_file`.
    fn table_above(&self, file: &UpperFile) -> Result<Option<UnboundMapFileOps>> {
        let is_stacked = self.file.inode().superblock().stack_depth() > 0;
        if !is_stacked || self.has_real.as_ref().is_some() {
            return Ok(None);
        }
        UnboundMapFileOps::new(file).map(Some)
    }

    /// Installs the table on `real`, the `vm_file` of an area, once.
    fn take_over(&self, real: *mut c::file, table: UnboundMapFileOps) {
        if real != self.file.as_ptr() && self.has_real.populate(()) {
            // SAFETY: The area holds `real`, which the lower filesystem opened for this file alone;
            // populate() lets only one caller come here.
            unsafe { table.put_on(real) };
        }
    }
}

/// A [`MapFileOps`] without a file.
struct UnboundMapFileOps(ManuallyDrop<KBox<MapFileOps>>);

impl UnboundMapFileOps {
    /// A table for the files that an upper file maps.
    fn new(file: &UpperFile) -> Result<Self> {
        let path = file.path();
        let table = MapFileOps {
            ops: pin_init::zeroed(),
            lower: core::ptr::null(),
            path,
        };
        let table = KBox::new(table, GFP_KERNEL)?;
        // SAFETY: The path of a live file.
        unsafe { c::path_get(&path) };
        Ok(Self(ManuallyDrop::new(table)))
    }

    /// Installs the table on a file, in place of the file's own.
    ///
    /// # Safety
    ///
    /// `file` is live and has no such table, and no other task changes its table.
    unsafe fn put_on(mut self, file: *mut c::file) {
        // SAFETY: `self` is forgotten, so the box is taken once.
        let mut table = unsafe { ManuallyDrop::take(&mut self.0) };
        core::mem::forget(self);
        // SAFETY: The caller guarantees that the file is valid.
        table.lower = unsafe { (*file).f_op };
        // SAFETY: A live file has a table.
        table.ops = unsafe { *table.lower };
        table.ops.fsync = Some(fsync);
        table.ops.release = Some(release);
        // As in the upper table; shmem_get_unmapped_area() requires tmpfs's table.
        table.ops.get_unmapped_area = Some(c::thp_get_unmapped_area);
        let table: *const MapFileOps = KBox::into_raw(table);
        // The table is the first field; its owner is the lower one's, which the file has counted.
        // SAFETY: The caller guarantees that the file is valid.
        unsafe { (*file).f_op = table.cast() };
    }
}

impl Drop for UnboundMapFileOps {
    fn drop(&mut self) {
        let path = self.0.path;
        // SAFETY: `put_on` forgets `self` when taking the box.
        drop(unsafe { ManuallyDrop::take(&mut self.0) });
        // SAFETY: The reference is ours.
        unsafe { c::path_put(&path) };
    }
}

/// # Safety
///
/// `file` is the live file of a [`MmapLowerFile`], for `'a`.
unsafe fn table_of<'a>(file: *mut c::file) -> &'a MapFileOps {
    // SAFETY: Guaranteed by the caller.
    let ops = unsafe { (*file).f_op };
    // SAFETY: `ops` is the first field of a table that lives until the file is released.
    unsafe { &*ops.cast::<MapFileOps>() }
}

/// # Safety
///
/// Called by msync() with the file of an area.
unsafe extern "C" fn fsync(file: *mut c::file, start: i64, end: i64, data_only: c_int) -> c_int {
    // SAFETY: The file has the table that this function is in.
    let table = unsafe { table_of(file) };
    // SAFETY: By the type invariants.
    let dentry = unsafe { UpperDentry::from_raw(table.path.dentry) };
    // SAFETY: By the type invariants.
    let hook = unsafe { (*table.lower).fsync };
    let lower = || match hook {
        // SAFETY: The arguments are those of msync()'s call.
        Some(hook) => to_result(unsafe { hook(file, start, end, data_only) }),
        None => Err(EINVAL),
    };
    to_int(<Fs as MapHooks>::sync(dentry, lower))
}

/// # Safety
///
/// Called by the VFS once, with the file of a [`MmapLowerFile`] whose last user is gone.
unsafe extern "C" fn release(inode: *mut c::inode, file: *mut c::file) -> c_int {
    // SAFETY: The file has the table that this function is in.
    let table: *const MapFileOps = unsafe { table_of(file) };
    // SAFETY: Boxed in `open`, and not used after this.
    let table = unsafe { KBox::from_raw(table.cast_mut()) };
    // SAFETY: __fput() reads `f_op->owner` after ->release, so the original table is restored.
    unsafe { (*file).f_op = table.lower };
    // SAFETY: By the type invariants.
    if let Some(hook) = unsafe { (*table.lower).release } {
        // SAFETY: The arguments are those of the VFS's call.
        unsafe { hook(inode, file) };
    }
    // SAFETY: The reference is the table's.
    unsafe { c::path_put(&table.path) };
    0
}
