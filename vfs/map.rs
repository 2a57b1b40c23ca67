// SPDX-License-Identifier: GPL-2.0

//! Mappings of files: areas of ours over the lower file, faults that make pages writable, and the
//! lower file that areas hold.
//!
//! A shared mapping that may become writable gets a table of operations of its own ([`Watched`]),
//! as in fs/coda/file.c: it keeps our file, and with it the inode, the mount and this module, for
//! as long as any area uses it, whatever forks, splits and moves areas make of it.
//!
//! C headers: [`include/linux/mm.h`](srctree/include/linux/mm.h),
//! [`include/linux/backing-file.h`](srctree/include/linux/backing-file.h)

use super::{
    c,
    dentry::OwnDentry,
    file::{File, OwnFile},
    inode::Inode,
    superblock::SuperBlock,
    table::file::{plain, MapHooks},
    Fs,
};
use core::mem::ManuallyDrop;
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

/// An area that is being made.
pub(crate) struct Map(*mut c::vm_area_struct);

impl Map {
    /// # Safety
    ///
    /// `ptr` is the area that the VFS passed, used within the call.
    pub(crate) unsafe fn from_raw(ptr: *mut c::vm_area_struct) -> Self {
        Self(ptr)
    }

    /// Whether stores through it reach the file, now or after an mprotect().
    pub(crate) fn may_change_file(&self) -> bool {
        // SAFETY: A live area that is being made by this thread.
        let flags = unsafe { (*self.0).__bindgen_anon_2.vm_flags };
        let both = u64::from(c::VM_SHARED | c::VM_MAYWRITE);
        flags as u64 & both == both
    }

    /// Maps `lower` in place of our file.
    pub(crate) fn map_lower(&self, lower: &File) -> Result {
        let mut context = c::backing_file_ctx {
            // SAFETY: A live file, which holds its credentials.
            cred: unsafe { (*lower.as_ptr()).f_cred },
            ..Default::default()
        };
        // SAFETY: A live backing file and the area that is being made.
        to_result(unsafe { c::backing_file_mmap(lower.as_ptr(), self.0, &mut context) })
    }

    /// As [`Self::map_lower`], so that the first store to each page comes to [`MapHooks::store`].
    pub(crate) fn map_watched(&self, file: &OwnFile, lower: &MapFile) -> Result {
        let watched = NewWatched::new(file)?;
        let table = lower.table_above(file)?;
        self.map_lower(&lower.file)?;
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

/// Whether stores through a mapping of the lower file could be seen and its pages written back by
/// a file that is only open for reading. Not where pages do not lie in the page cache, nor where
/// another machine has them.
pub(crate) fn is_watchable(lower: &Inode) -> bool {
    // SAFETY: A live inode.
    let is_dax = unsafe { c::lfs_is_dax(lower.as_ptr()) };
    // SAFETY: A live superblock.
    !is_dax && unsafe { !c::lfs_is_remote(lower.superblock().as_ptr()) }
}

/// The inode in whose mapping a lower file's pages are: overlayfs maps a file of another filesystem.
/// The lower file is open for writing where it matters, so overlayfs has copied it up.
pub(crate) fn page_inode(lower: &File) -> &Inode {
    // SAFETY: The dentry of a live file is positive.
    let inode = unsafe { c::lfs_real_inode(lower.lower_dentry().as_ptr()) };
    // SAFETY: The dentry, which the file holds, keeps the inode.
    unsafe { Inode::from_raw(inode) }
}

/// The operations of areas that one mmap() made.
///
/// # Invariants
///
/// `own` is a file of ours with a reference, `lower` the table that the lower filesystem gave the
/// area. Each area with `ops` counts in `users`; the last one frees it.
#[repr(C)]
struct Watched {
    ops: c::vm_operations_struct,
    lower: *const c::vm_operations_struct,
    own: *mut c::file,
    users: Atomic<i32>,
}

/// A [`Watched`] that no area has yet.
struct NewWatched(ManuallyDrop<KBox<Watched>>);

impl Watched {
    /// The one that an area has.
    ///
    /// # Safety
    ///
    /// `area` is a live area with such a table, for `'a`.
    unsafe fn of<'a>(area: *mut c::vm_area_struct) -> &'a Self {
        // SAFETY: The caller vouches for the area.
        let ops = unsafe { (*area).vm_ops };
        // SAFETY: `ops` is the first field, and lives while the area has it.
        unsafe { &*ops.cast::<Self>() }
    }

    fn own(&self) -> &OwnFile {
        // SAFETY: By the type invariants.
        unsafe { OwnFile::from_raw(self.own) }
    }

    fn lower(&self) -> &c::vm_operations_struct {
        // SAFETY: By the type invariants; it is a static of the lower filesystem, whose file the
        // area holds.
        unsafe { &*self.lower }
    }
}

impl NewWatched {
    fn new(file: &OwnFile) -> Result<Self> {
        let watched = KBox::new(
            Watched {
                ops: pin_init::zeroed(),
                lower: core::ptr::null(),
                own: file.as_ptr(),
                users: Atomic::new(1),
            },
            GFP_KERNEL,
        )?;
        // SAFETY: A live file.
        unsafe { c::lfs_get_file(file.as_ptr()) };
        // INVARIANT: It has its reference.
        Ok(Self(ManuallyDrop::new(watched)))
    }

    /// Gives it to an area that has `lower`; returns its table.
    fn over(mut self, lower: *const c::vm_operations_struct) -> *const c::vm_operations_struct {
        let watched = &mut *self.0;
        // SAFETY: The lower filesystem has just given it to the area.
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
        // The table is the first field.
        watched.cast()
    }
}

impl Drop for NewWatched {
    fn drop(&mut self) {
        let own = self.0.own;
        // SAFETY: `over` forgets what it takes the box from.
        drop(unsafe { ManuallyDrop::take(&mut self.0) });
        // SAFETY: The reference is ours.
        unsafe { c::fput(own) };
    }
}

/// # Safety
///
/// Called by the memory management with a new area that has a copy of another's table.
unsafe extern "C" fn area_open(area: *mut c::vm_area_struct) {
    // SAFETY: It has the table that this function is in.
    let watched = unsafe { Watched::of(area) };
    let _ = watched.users.fetch_add(1, Relaxed);
    if let Some(open) = watched.lower().open {
        // SAFETY: As the memory management would have called it.
        unsafe { open(area) };
    }
}

/// # Safety
///
/// Called by the memory management once, with an area that goes.
unsafe extern "C" fn area_close(area: *mut c::vm_area_struct) {
    // SAFETY: It has the table that this function is in.
    let watched = unsafe { Watched::of(area) };
    if let Some(close) = watched.lower().close {
        // SAFETY: As the memory management would have called it.
        unsafe { close(area) };
    }
    if watched.users.fetch_sub(1, Full) != 1 {
        return;
    }
    <Fs as MapHooks>::unmapped(watched.own());
    let own = watched.own;
    // SAFETY: It came out of a box in `over`, and this was the last area.
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
    let lower = unsafe { Watched::of(area) }.lower();
    // Read now: lfs_map_read_only() may give the fault's lock up, and another thread may then take
    // the area away, and with it its table and all that the table holds.
    let hook = lower.fault;
    // SAFETY: The fault and the lower filesystem's table of its area.
    let answer = unsafe { c::lfs_map_read_only(vmf, lower) };
    if answer != 0 {
        return answer;
    }
    match hook {
        // SAFETY: As the memory management would have called it.
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
    let watched = unsafe { Watched::of(area) };
    let own = watched.own();
    let _writing = PageFault::new(own.own_inode().superblock());
    let fault = Fault { vmf, watched };
    <Fs as MapHooks>::store(own, fault).0
}

/// Our superblock's protection of faults that write.
struct PageFault<'a>(&'a SuperBlock);

impl<'a> PageFault<'a> {
    fn new(sb: &'a SuperBlock) -> Self {
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

/// What is answered to a fault.
pub(crate) struct Answer(c::vm_fault_t);

impl Answer {
    /// Nothing was done: the program is to try its store again, after a moment.
    pub(crate) fn again() -> Self {
        // SAFETY: A fault may sleep.
        unsafe { c::lfs_nap() };
        Self(c::vm_fault_reason_VM_FAULT_NOPAGE)
    }

    /// The store is refused.
    pub(crate) fn refused() -> Self {
        Self(c::vm_fault_reason_VM_FAULT_SIGBUS)
    }

    /// There is no memory.
    pub(crate) fn no_memory() -> Self {
        Self(c::vm_fault_reason_VM_FAULT_OOM)
    }
}

/// A store to a page that is not writable yet.
pub(crate) struct Fault<'a> {
    vmf: *mut c::vm_fault,
    watched: &'a Watched,
}

/// What the lower filesystem answers instead of leaving the folio locked.
const UNDONE: c::vm_fault_t = c::vm_fault_reason_VM_FAULT_OOM
    | c::vm_fault_reason_VM_FAULT_SIGBUS
    | c::vm_fault_reason_VM_FAULT_SIGSEGV
    | c::vm_fault_reason_VM_FAULT_HWPOISON
    | c::vm_fault_reason_VM_FAULT_HWPOISON_LARGE
    | c::vm_fault_reason_VM_FAULT_FALLBACK
    | c::vm_fault_reason_VM_FAULT_NOPAGE
    | c::vm_fault_reason_VM_FAULT_RETRY;

impl<'a> Fault<'a> {
    /// Has the lower filesystem make the page writable: its folio is locked then, and not mapped
    /// writable before it is unlocked.
    pub(crate) fn make_writable(self) -> Result<LockedFault<'a>, Answer> {
        // Where the lower filesystem has no such hook (tmpfs), the file's times are ours to move.
        let hook = self.watched.lower().page_mkwrite;
        let hook = hook.unwrap_or(c::filemap_page_mkwrite);
        // SAFETY: As the memory management would have called it.
        let answer = unsafe { hook(self.vmf) };
        if answer & UNDONE != 0 {
            return Err(Answer(answer));
        }
        let is_locked = answer & c::vm_fault_reason_VM_FAULT_LOCKED != 0;
        // SAFETY: The fault holds its page.
        if !is_locked && unsafe { !c::lfs_fault_lock(self.vmf) } {
            return Err(Answer(c::vm_fault_reason_VM_FAULT_NOPAGE));
        }
        let mut start = 0;
        // SAFETY: The fault's folio is locked.
        let length = unsafe { c::lfs_fault_range(self.vmf, &mut start) };
        Ok(LockedFault {
            vmf: self.vmf,
            answer: answer | c::vm_fault_reason_VM_FAULT_LOCKED,
            start: u64::try_from(start).unwrap_or(0),
            length,
            _watched: self.watched,
        })
    }
}

/// A store to a page whose folio is locked; dropping it unlocks that, and the page stays read-only.
pub(crate) struct LockedFault<'a> {
    vmf: *mut c::vm_fault,
    answer: c::vm_fault_t,
    /// What becomes writable, as the file's size was once the folio was locked. truncate_setsize()
    /// lowers the size without the folio's lock: asked twice, it may give two answers.
    start: u64,
    length: usize,
    _watched: &'a Watched,
}

impl LockedFault<'_> {
    /// The range of the file that becomes writable: offset and length.
    pub(crate) fn range(&self) -> (u64, usize) {
        (self.start, self.length)
    }

    /// Copies what the folio holds at `at`, within [`Self::range`].
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

    /// Lets the page become writable.
    pub(crate) fn let_through(self) -> Answer {
        let answer = self.answer;
        core::mem::forget(self);
        Answer(answer)
    }
}

impl Drop for LockedFault<'_> {
    fn drop(&mut self) {
        // SAFETY: The folio is locked by us.
        unsafe { c::lfs_fault_unlock(self.vmf) };
    }
}

/// Makes all mappings of a range of the lower file read-only: the next store faults.
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

/// Takes all pages of the lower file out of all mappings. Without their locks: a fault that is under
/// way is missed.
pub(crate) fn unmap_all(lower: &Inode) {
    // SAFETY: A live inode has a mapping.
    let mapping = unsafe { (*lower.as_ptr()).i_mapping };
    // SAFETY: The mapping of a live inode; no private copies are dropped.
    unsafe { c::unmap_mapping_pages(mapping, 0, 0, false) };
}

/// The lower file that areas hold: a second one, only open for reading, so that what goes to an
/// area's file without us changes nothing (MADV_REMOVE, remap_file_pages); and with a table of its
/// own, so that msync() comes to us.
pub(crate) struct MapFile {
    file: ARef<File>,
    /// Set when the file that areas really hold, another one where the lower filesystem is stacked
    /// itself, has our table, too.
    has_real: SetOnce<()>,
}

/// The table of a [`MapFile`].
///
/// # Invariants
///
/// `lower` is the table that the lower filesystem gave the file; `path`, a counted one, is that of
/// our file.
#[repr(C)]
struct MapTable {
    ops: c::file_operations,
    lower: *const c::file_operations,
    path: c::path,
}

impl MapFile {
    /// Opens it for a file of ours.
    pub(super) fn open(file: &OwnFile) -> Result<Self> {
        let table = NewMapTable::new(file)?;
        let opened = file.open_lower_to_map()?;
        // SAFETY: A live file of which nobody knows yet.
        unsafe { table.put_on(opened.as_ptr()) };
        Ok(Self {
            file: opened,
            has_real: SetOnce::new(),
        })
    }

    /// A table for the file that areas really hold, if it may need one.
    fn table_above(&self, file: &OwnFile) -> Result<Option<NewMapTable>> {
        let is_stacked = self.file.inode().superblock().stack_depth() > 0;
        if !is_stacked || self.has_real.as_ref().is_some() {
            return Ok(None);
        }
        NewMapTable::new(file).map(Some)
    }

    /// Gives `real`, the file of an area that was mapped from ours, the table, once.
    fn take_over(&self, real: *mut c::file, table: NewMapTable) {
        if real != self.file.as_ptr() && self.has_real.populate(()) {
            // SAFETY: The area holds `real`, which the lower filesystem opened for our file alone, and
            // only the one who has set the mark comes here.
            unsafe { table.put_on(real) };
        }
    }
}

/// A [`MapTable`] that no file has yet.
struct NewMapTable(ManuallyDrop<KBox<MapTable>>);

impl NewMapTable {
    /// Makes one for files that a file of ours maps.
    fn new(file: &OwnFile) -> Result<Self> {
        let path = file.path();
        let table = MapTable {
            ops: pin_init::zeroed(),
            lower: core::ptr::null(),
            path,
        };
        let table = KBox::new(table, GFP_KERNEL)?;
        // SAFETY: The path of a live file.
        unsafe { c::path_get(&path) };
        Ok(Self(ManuallyDrop::new(table)))
    }

    /// Puts it on a file, in place of its own.
    ///
    /// # Safety
    ///
    /// `file` is live and has no such table, and nobody else changes its table.
    unsafe fn put_on(mut self, file: *mut c::file) {
        // SAFETY: `self` is forgotten, so the box is taken once.
        let mut table = unsafe { ManuallyDrop::take(&mut self.0) };
        core::mem::forget(self);
        // SAFETY: The caller vouches for the file.
        table.lower = unsafe { (*file).f_op };
        // SAFETY: A live file has a table.
        table.ops = unsafe { *table.lower };
        table.ops.fsync = Some(fsync);
        table.ops.release = Some(release);
        // As that of our files; tmpfs's own insists on its own table.
        table.ops.get_unmapped_area = Some(c::thp_get_unmapped_area);
        let table: *const MapTable = KBox::into_raw(table);
        // The table is the first field; its owner is the lower one's, which the file has counted.
        // SAFETY: The caller vouches for the file.
        unsafe { (*file).f_op = table.cast() };
    }
}

impl Drop for NewMapTable {
    fn drop(&mut self) {
        let path = self.0.path;
        // SAFETY: `put_on` forgets what it takes the box from.
        drop(unsafe { ManuallyDrop::take(&mut self.0) });
        // SAFETY: The reference is ours.
        unsafe { c::path_put(&path) };
    }
}

/// # Safety
///
/// `file` is the live file of a [`MapFile`], for `'a`.
unsafe fn table_of<'a>(file: *mut c::file) -> &'a MapTable {
    // SAFETY: The caller vouches for it.
    let ops = unsafe { (*file).f_op };
    // SAFETY: It is the first field of a table that lives until the file is released.
    unsafe { &*ops.cast::<MapTable>() }
}

/// # Safety
///
/// Called by msync() with the file of an area.
unsafe extern "C" fn fsync(file: *mut c::file, start: i64, end: i64, data_only: c_int) -> c_int {
    // SAFETY: The file has the table that this function is in.
    let table = unsafe { table_of(file) };
    // SAFETY: By the type invariants.
    let dentry = unsafe { OwnDentry::from_raw(table.path.dentry) };
    // SAFETY: By the type invariants.
    let hook = unsafe { (*table.lower).fsync };
    let lower = || match hook {
        // SAFETY: As msync() would have called it.
        Some(hook) => to_result(unsafe { hook(file, start, end, data_only) }),
        None => Err(EINVAL),
    };
    plain(<Fs as MapHooks>::sync(dentry, lower))
}

/// # Safety
///
/// Called by the VFS once, with the file of a [`MapFile`] whose last user is gone.
unsafe extern "C" fn release(inode: *mut c::inode, file: *mut c::file) -> c_int {
    // SAFETY: The file has the table that this function is in.
    let table: *const MapTable = unsafe { table_of(file) };
    // SAFETY: It came out of a box in `open`; nobody uses it after this.
    let table = unsafe { KBox::from_raw(table.cast_mut()) };
    // SAFETY: The VFS looks for the owner after this, where it has always been.
    unsafe { (*file).f_op = table.lower };
    // SAFETY: By the type invariants.
    if let Some(hook) = unsafe { (*table.lower).release } {
        // SAFETY: As the VFS would have called it.
        unsafe { hook(inode, file) };
    }
    // SAFETY: The reference is the table's.
    unsafe { c::path_put(&table.path) };
    0
}
