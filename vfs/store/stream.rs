// SPDX-License-Identifier: GPL-2.0

//! Files that are written sequentially, in large pieces.
//!
//! The bytes are staged in memory and are seldom read back soon. So a file of whole pages is
//! written with O_DIRECT where the filesystem supports O_DIRECT (no copy, no later writeback). On
//! tmpfs, whose page cache is the file, bytes are copied straight into the pages.

use core::{
    ops::Deref,
    ptr, //
};
use kernel::{
    error::to_result,
    prelude::*, //
};

use super::{
    file::position,
    StoreDir,
    StoreFile, //
};
use crate::vfs::{
    c,
    error::EOPNOTSUPP,
    scope::KernelCreds, //
};

/// The method of writing.
enum WriteMethod {
    /// By write(2)'s path.
    Cached,
    /// By a second file, open with O_DIRECT.
    Direct(StoreFile),
    /// By copying into the pages of a tmpfs file.
    Memory,
}

/// An open file that is written in large pieces, and read normally.
pub(crate) struct StreamFile {
    file: StoreFile,
    way: WriteMethod,
}

impl StreamFile {
    /// Wraps `file`, which is only read.
    pub(crate) fn read_only(file: StoreFile) -> Self {
        let way = WriteMethod::Cached;
        Self { file, way }
    }

    /// Wraps `file`, which is `name` in `dir`; all writes are of whole pages.
    pub(crate) fn in_pages(file: StoreFile, dir: &StoreDir, name: &[u8]) -> Self {
        let is_same = |direct: &StoreFile| direct.stat().inode == file.stat().inode;
        let way = if file.is_in_memory() {
            WriteMethod::Memory
        } else {
            // Without O_DIRECT support the open fails.
            let direct = dir.open_direct(name).ok().filter(is_same);
            direct.map_or(WriteMethod::Cached, WriteMethod::Direct)
        };
        Self { file, way }
    }

    /// Wraps `file`, with writes of any size.
    pub(crate) fn in_pieces(file: StoreFile) -> Self {
        let way = if file.is_in_memory() {
            WriteMethod::Memory
        } else {
            WriteMethod::Cached
        };
        Self { file, way }
    }

    /// Writes all of `bytes` at `at`.
    pub(crate) fn write_at(&self, bytes: &[u8], at: u64) -> Result {
        match &self.way {
            WriteMethod::Cached => self.file.write_at(bytes, at),
            WriteMethod::Memory => self.file.fill_at(bytes, at),
            WriteMethod::Direct(direct) => match direct.write_at(bytes, at) {
                Err(e) if is_refusal(e) => self.file.write_at(bytes, at),
                result => result,
            },
        }
    }
}

/// Whether an O_DIRECT write failed for lack of support: other alignment, or no kernel memory
/// (network filesystems).
fn is_refusal(error: Error) -> bool {
    error == EINVAL || error == EFAULT || error == EOPNOTSUPP
}

impl Deref for StreamFile {
    type Target = StoreFile;

    fn deref(&self) -> &StoreFile {
        &self.file
    }
}

impl StoreFile {
    fn mapping(&self) -> *mut c::address_space {
        // SAFETY: By the type invariants the file is open and has a mapping.
        unsafe { (*self.as_ptr()).f_mapping }
    }

    /// Whether this is a tmpfs file.
    fn is_in_memory(&self) -> bool {
        // SAFETY: The mapping lives as long as the open file.
        unsafe { c::shmem_mapping(self.mapping()) }
    }

    /// Copies `bytes` into the pages of a tmpfs file: cached pages in one pass, others by
    /// ->write_begin as generic_perform_write() does.
    fn fill_at(&self, bytes: &[u8], at: u64) -> Result {
        let _kernel = KernelCreds::new();
        let _guard = self.lock_inode();
        let mut at = position(at)?;
        let mut rest = bytes;
        while !rest.is_empty() {
            let n = match self.fill_cached(rest, at) {
                0 => self.fill_folio(rest, at)?,
                n => n,
            };
            rest = rest.get(n..).filter(|_| n != 0).ok_or(EIO)?;
            at = at.checked_add(n as c::loff_t).ok_or(EFBIG)?;
        }
        Ok(())
    }

    /// Copies to cached pages below `i_size`, up to the first missing page. The inode is locked.
    fn fill_cached(&self, bytes: &[u8], at: c::loff_t) -> usize {
        let below_end = self.size().saturating_sub(at.unsigned_abs());
        let len = bytes
            .len()
            .min(usize::try_from(below_end).unwrap_or(usize::MAX));
        if len == 0 {
            return 0;
        }
        // SAFETY: The mapping is tmpfs' and lives as long as the open file, the inode is locked;
        // `len` bytes are readable.
        unsafe { c::lfs_fill_cached(self.mapping(), at, bytes.as_ptr().cast(), len) }
    }

    /// Copies to the folio at `at`. The inode is locked.
    fn fill_folio(&self, bytes: &[u8], at: c::loff_t) -> Result<usize> {
        let mapping = self.mapping();
        // SAFETY: The mapping lives as long as the open file, its operations as long as tmpfs.
        let ops = unsafe { &*(*mapping).a_ops };
        let (begin, end) = ops.write_begin.zip(ops.write_end).ok_or(ENOTSUPP)?;
        let len = c_uint::try_from(bytes.len()).map_err(|_| EFBIG)?;
        let (mut folio, mut data) = (ptr::null_mut(), ptr::null_mut());
        let iocb = c::kiocb {
            ki_filp: self.as_ptr(),
            ki_pos: at,
            ..Default::default()
        };
        // SAFETY: ->write_begin requires the inode lock, which is held; all pointers are valid for
        // the call.
        to_result(unsafe { begin(&iocb, mapping, at, len, &mut folio, &mut data) })?;
        // SAFETY: The hook gave a locked folio that holds `at`; `bytes` are readable.
        let copied = unsafe { c::lfs_copy_to_folio(folio, at, bytes.as_ptr().cast(), bytes.len()) };
        // CAST: At most `len`.
        let copied = copied as c_uint;
        // SAFETY: Pairs with ->write_begin; ->write_end unlocks and puts the folio.
        let done = unsafe { end(&iocb, mapping, at, copied, copied, folio, data) };
        usize::try_from(done).map_err(|_| Error::from_errno(done))
    }
}
