// SPDX-License-Identifier: GPL-2.0

//! `file_operations` of regular files.

use super::OpsTable;
use crate::vfs::{
    c,
    dentry::UpperDentry,
    file::{FileOwner, IovIter, Kiocb, OpeningFile, UpperFile, WriteCall},
    inode::UpperInode,
    mmap::{FaultResult, NewVma, WriteFault},
    range::Pipe,
    Fs,
};
use kernel::{error::from_result, prelude::*};

/// Operations on open regular files.
pub(crate) trait FileHooks {
    /// `->open`: ends with [`OpeningFile::opened`].
    fn open(file: OpeningFile<'_>) -> Result;
    /// `->release`, before the lower file is dropped.
    fn release(file: &UpperFile);
    /// `->flush`, at each close(2).
    fn flush(file: &UpperFile, owner: &FileOwner) -> Result;
    /// `->llseek`.
    fn seek(file: &UpperFile, offset: i64, whence: c_int) -> Result<i64>;
    /// `->read_iter`.
    fn read(call: &mut Kiocb<'_>, bytes: &mut IovIter) -> Result<usize>;
    /// `->write_iter`.
    fn write(call: &mut WriteCall<'_>, bytes: &mut IovIter) -> Result<usize>;
    /// `->fsync`.
    fn sync(file: &UpperFile, start: i64, end: i64, data_only: bool) -> Result;
}

/// Operations on file ranges without a buffer.
pub(crate) trait RangeHooks {
    /// `->splice_read`.
    fn splice_read(
        file: &UpperFile,
        pos: &mut i64,
        pipe: &Pipe,
        length: usize,
        flags: u32,
    ) -> Result<usize>;
    /// `->splice_write`.
    fn splice_write(
        pipe: &Pipe,
        file: &UpperFile,
        pos: &mut i64,
        length: usize,
        flags: u32,
    ) -> Result<usize>;
    /// `->fallocate`.
    fn allocate(file: &UpperFile, mode: c_int, offset: i64, length: i64) -> Result;
    /// `->copy_file_range`.
    fn copy(
        from: (&UpperFile, i64),
        to: (&UpperFile, i64),
        length: usize,
        flags: u32,
    ) -> Result<usize>;
    /// `->remap_file_range`: clone and deduplicate.
    fn remap(
        from: (&UpperFile, i64),
        to: (&UpperFile, i64),
        length: i64,
        flags: u32,
    ) -> Result<i64>;
    /// `->fadvise`.
    fn advise(file: &UpperFile, offset: i64, length: i64, advice: c_int) -> Result;
}

/// Memory mappings.
pub(crate) trait MapHooks {
    /// `->mmap`.
    fn map(file: &UpperFile, map: NewVma<'_>) -> Result;
    /// The last area of an mmap() is gone. Called under mmap_lock: must not sleep on other locks.
    fn unmapped(file: &UpperFile);
    /// A write fault on a read-only page. Called under mmap_lock or the VMA lock.
    fn store(file: &UpperFile, fault: WriteFault<'_>) -> FaultResult;
    /// `msync()`; `lower` calls the lower ->fsync.
    fn sync(dentry: &UpperDentry, lower: impl FnOnce() -> Result) -> Result;
}

/// Our own commands.
pub(crate) trait IoctlHooks {
    /// `->unlocked_ioctl`, of files and directories.
    fn control(file: &UpperFile, command: u32, argument: usize) -> Result<c_long>;
}

pub(super) static OPERATIONS: OpsTable<c::file_operations> = OpsTable(c::file_operations {
    llseek: Some(llseek),
    read_iter: Some(read_iter),
    write_iter: Some(write_iter),
    unlocked_ioctl: Some(ioctl),
    compat_ioctl: Some(ioctl),
    mmap: Some(mmap),
    open: Some(open),
    flush: Some(flush),
    release: Some(release),
    fsync: Some(fsync),
    get_unmapped_area: Some(c::thp_get_unmapped_area),
    splice_write: Some(splice_write),
    splice_read: Some(splice_read),
    setlease: Some(c::generic_setlease),
    fallocate: Some(fallocate),
    copy_file_range: Some(copy_file_range),
    remap_file_range: Some(remap_file_range),
    fadvise: Some(fadvise),
    // read_iter and write_iter check the lower filesystem's FOP_DONTCACHE.
    fop_flags: c::FOP_DONTCACHE,
    ..pin_init::zeroed()
});

/// As [`OPERATIONS`], for files whose lower filesystem lacks `->remap_file_range`.
/// vfs_dedupe_file_range() then fails as a whole with EOPNOTSUPP, a decision by this table; a hook
/// that returns the error would be reported for each target range.
pub(super) static OPERATIONS_WITHOUT_REMAP: OpsTable<c::file_operations> =
    OpsTable(c::file_operations {
        remap_file_range: None,
        ..OPERATIONS.0
    });

/// No page cache: the pages belong to the lower mapping. No ->direct_IO, which would set
/// FMODE_CAN_ODIRECT for every upper file; [`OpeningFile::opened`] copies the flag from the lower
/// file.
pub(super) static MAPPING: OpsTable<c::address_space_operations> =
    OpsTable(c::address_space_operations {
        ..pin_init::zeroed()
    });

/// As [`MAPPING`], over a filesystem with ->bmap (FIBMAP). swapon(2) still fails without
/// `->read_folio`: swap I/O would bypass the hooks.
pub(super) static MAPPING_WITH_BLOCKS: OpsTable<c::address_space_operations> =
    OpsTable(c::address_space_operations {
        bmap: Some(bmap),
        ..pin_init::zeroed()
    });

/// A result as ssize_t.
pub(super) fn to_ssize(result: Result<usize>) -> isize {
    match result {
        Ok(n) => isize::try_from(n).unwrap_or(isize::MAX),
        Err(e) => e.to_errno() as isize,
    }
}

/// A result as loff_t.
pub(super) fn to_loff(result: Result<i64>) -> i64 {
    match result {
        Ok(n) => n,
        Err(e) => i64::from(e.to_errno()),
    }
}

/// A result as zero or a negative errno.
pub(crate) fn to_int(result: Result) -> c_int {
    from_result(|| result.map(|()| 0))
}

/// # Safety
///
/// Called by the VFS with an open file of ours.
pub(super) unsafe extern "C" fn llseek(file: *mut c::file, offset: i64, whence: c_int) -> i64 {
    // SAFETY: The VFS passes an open file of ours.
    let file = unsafe { UpperFile::from_raw(file) };
    to_loff(<Fs as FileHooks>::seek(file, offset, whence))
}

/// # Safety
///
/// Called by the VFS with a call on an open file of ours and with its buffers, which only this
/// thread uses.
unsafe extern "C" fn read_iter(iocb: *mut c::kiocb, iter: *mut c::iov_iter) -> isize {
    // SAFETY: The VFS passes a live call on a file of ours.
    let call = unsafe { Kiocb::from_raw(iocb) };
    // SAFETY: And its buffers.
    let bytes = unsafe { IovIter::from_raw(iter) };
    to_ssize(<Fs as FileHooks>::read(call, bytes))
}

/// # Safety
///
/// Called by the VFS with a call on an open file of ours and with its buffers, which only this
/// thread uses.
unsafe extern "C" fn write_iter(iocb: *mut c::kiocb, iter: *mut c::iov_iter) -> isize {
    // SAFETY: The VFS passes a live call on a file of ours, with write access.
    let call = unsafe { WriteCall::from_raw(iocb) };
    // SAFETY: And its buffers.
    let bytes = unsafe { IovIter::from_raw(iter) };
    to_ssize(<Fs as FileHooks>::write(call, bytes))
}

/// # Safety
///
/// Called by the VFS with an open file or directory of ours.
pub(super) unsafe extern "C" fn ioctl(
    file: *mut c::file,
    command: c_uint,
    argument: c_ulong,
) -> c_long {
    // SAFETY: The VFS passes an open file of ours.
    let file = unsafe { UpperFile::from_raw(file) };
    match <Fs as IoctlHooks>::control(file, command, argument) {
        Ok(n) => n,
        Err(e) => e.to_errno() as c_long,
    }
}

/// # Safety
///
/// Called by the VFS with the mapping of a live regular inode of ours.
unsafe extern "C" fn bmap(mapping: *mut c::address_space, block: c::sector_t) -> c::sector_t {
    // SAFETY: A live mapping has its inode.
    let inode = unsafe { (*mapping).host };
    // SAFETY: The inode is ours.
    let lower = unsafe { UpperInode::from_raw(inode) }.lower();
    let mut found = block;
    // SAFETY: A live inode and a writable result.
    match unsafe { c::bmap(lower.as_ptr(), &mut found) } {
        0 => found,
        _ => 0,
    }
}

/// # Safety
///
/// Called by the VFS with an open file of ours and the area that this thread is making.
unsafe extern "C" fn mmap(file: *mut c::file, area: *mut c::vm_area_struct) -> c_int {
    // SAFETY: The VFS passes an open file of ours.
    let file = unsafe { UpperFile::from_raw(file) };
    // SAFETY: And the area that is being made.
    let map = unsafe { NewVma::from_raw(area) };
    to_int(<Fs as MapHooks>::map(file, map))
}

/// # Safety
///
/// Called by the VFS with a file of ours that is being opened.
unsafe extern "C" fn open(_inode: *mut c::inode, file: *mut c::file) -> c_int {
    // SAFETY: The VFS passes a file of ours that is being opened.
    let file = unsafe { OpeningFile::from_raw(file) };
    to_int(<Fs as FileHooks>::open(file))
}

/// # Safety
///
/// Called by the VFS with an open file of ours.
unsafe extern "C" fn flush(file: *mut c::file, id: c::fl_owner_t) -> c_int {
    // SAFETY: The VFS passes an open file of ours.
    let file = unsafe { UpperFile::from_raw(file) };
    // SAFETY: And the owner of this close.
    let owner = unsafe { FileOwner::from_raw(id) };
    to_int(<Fs as FileHooks>::flush(file, &owner))
}

/// # Safety
///
/// Called by the VFS once, with an open file of ours whose last user is gone.
unsafe extern "C" fn release(_inode: *mut c::inode, file: *mut c::file) -> c_int {
    // SAFETY: The VFS passes a file of ours whose last user is gone.
    let file = unsafe { UpperFile::from_raw(file) };
    <Fs as FileHooks>::release(file);
    // SAFETY: As above.
    unsafe { file.release() };
    0
}

/// # Safety
///
/// Called by the VFS with an open file or directory of ours.
pub(super) unsafe extern "C" fn fsync(
    file: *mut c::file,
    start: i64,
    end: i64,
    data_only: c_int,
) -> c_int {
    // SAFETY: The VFS passes an open file of ours.
    let file = unsafe { UpperFile::from_raw(file) };
    to_int(<Fs as FileHooks>::sync(file, start, end, data_only != 0))
}

/// # Safety
///
/// Called by the VFS with an open file of ours, a live pipe, and a position that only this thread
/// uses.
unsafe extern "C" fn splice_write(
    pipe: *mut c::pipe_inode_info,
    file: *mut c::file,
    pos: *mut i64,
    length: usize,
    flags: c_uint,
) -> isize {
    // SAFETY: The VFS passes an open file of ours.
    let file = unsafe { UpperFile::from_raw(file) };
    // SAFETY: And a live pipe.
    let pipe = unsafe { Pipe::from_raw(pipe) };
    // SAFETY: And a position of this call's own.
    let pos = unsafe { &mut *pos };
    to_ssize(<Fs as RangeHooks>::splice_write(
        &pipe, file, pos, length, flags,
    ))
}

/// # Safety
///
/// Called by the VFS with an open file of ours, a live pipe, and a position that only this thread
/// uses.
unsafe extern "C" fn splice_read(
    file: *mut c::file,
    pos: *mut i64,
    pipe: *mut c::pipe_inode_info,
    length: usize,
    flags: c_uint,
) -> isize {
    // SAFETY: The VFS passes an open file of ours.
    let file = unsafe { UpperFile::from_raw(file) };
    // SAFETY: And a live pipe.
    let pipe = unsafe { Pipe::from_raw(pipe) };
    // SAFETY: And a position of this call's own.
    let pos = unsafe { &mut *pos };
    to_ssize(<Fs as RangeHooks>::splice_read(
        file, pos, &pipe, length, flags,
    ))
}

/// # Safety
///
/// Called by the VFS with an open file of ours.
unsafe extern "C" fn fallocate(
    file: *mut c::file,
    mode: c_int,
    offset: i64,
    length: i64,
) -> c_long {
    // SAFETY: The VFS passes an open file of ours.
    let file = unsafe { UpperFile::from_raw(file) };
    to_int(<Fs as RangeHooks>::allocate(file, mode, offset, length)) as c_long
}

/// # Safety
///
/// Called by the VFS with two open files that both have this hook: both are ours.
unsafe extern "C" fn copy_file_range(
    from: *mut c::file,
    at: i64,
    to: *mut c::file,
    pos: i64,
    length: usize,
    flags: c_uint,
) -> isize {
    // SAFETY: The VFS only comes here when both files have these operations: both are ours.
    let from = unsafe { UpperFile::from_raw(from) };
    // SAFETY: As above.
    let to = unsafe { UpperFile::from_raw(to) };
    to_ssize(<Fs as RangeHooks>::copy(
        (from, at),
        (to, pos),
        length,
        flags,
    ))
}

/// # Safety
///
/// Called by the VFS with two open regular files on one superblock of ours.
unsafe extern "C" fn remap_file_range(
    from: *mut c::file,
    at: i64,
    to: *mut c::file,
    pos: i64,
    length: i64,
    flags: c_uint,
) -> i64 {
    // SAFETY: The VFS has checked that both are on one superblock, and regular.
    let from = unsafe { UpperFile::from_raw(from) };
    // SAFETY: As above.
    let to = unsafe { UpperFile::from_raw(to) };
    to_loff(<Fs as RangeHooks>::remap(
        (from, at),
        (to, pos),
        length,
        flags,
    ))
}

/// # Safety
///
/// Called by the VFS with an open file of ours.
unsafe extern "C" fn fadvise(file: *mut c::file, offset: i64, length: i64, advice: c_int) -> c_int {
    // SAFETY: The VFS passes an open file of ours.
    let file = unsafe { UpperFile::from_raw(file) };
    to_int(<Fs as RangeHooks>::advise(file, offset, length, advice))
}
