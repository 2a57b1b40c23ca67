// SPDX-License-Identifier: GPL-2.0

//! A file of a segment, and the range of it that may not be durable.
//!
//! The kernel reports a writeback error to one fsync only: most filesystems then mark the failed
//! pages clean, and the next fsync succeeds without writing them. So the range written since the
//! last successful fsync is written again before the next fsync.

use core::ops::Deref;
use kernel::{
    new_mutex,
    prelude::*,
    sync::Mutex, //
};

use crate::vfs::store::StreamFile;

/// How much is written anew at a time: whole pages, as payload files want them.
const PIECE: usize = 64 * 1024;

/// A file that the journal's workers write and make durable, and everybody may read.
pub(super) struct Stream {
    file: StreamFile,
    /// Held while the file is written or made durable.
    unsynced: Pin<KBox<Mutex<Unsynced>>>,
}

/// The range written since the last successful fsync.
#[derive(Default)]
struct Unsynced {
    /// The range; empty: nothing.
    from: u64,
    to: u64,
    /// Whether an fsync of the range failed, and the range was not rewritten since.
    is_doubtful: bool,
}

impl Stream {
    pub(super) fn new(file: StreamFile) -> Result<Self> {
        let unsynced = new_mutex!(Unsynced::default(), "Stream::unsynced");
        Ok(Self {
            file,
            unsynced: KBox::pin_init(unsynced, GFP_KERNEL)?,
        })
    }

    /// Writes all of `bytes` at `at`.
    pub(super) fn write(&self, bytes: &[u8], at: u64) -> Result {
        let mut unsynced = self.unsynced.lock();
        // A failed write may have stored some of its bytes, so the whole range counts.
        let end = at.saturating_add(bytes.len() as u64);
        if unsynced.is_empty() {
            unsynced.from = at;
        }
        unsynced.from = unsynced.from.min(at);
        unsynced.to = unsynced.to.max(end);
        self.file.write_at(bytes, at)
    }

    /// Makes all written bytes durable.
    pub(super) fn sync_written(&self) -> Result {
        let mut unsynced = self.unsynced.lock();
        if unsynced.is_empty() {
            return Ok(());
        }
        self.write_anew(&mut unsynced)?;
        let result = self.file.sync();
        if result.is_ok() {
            *unsynced = Unsynced::default();
        } else {
            unsynced.is_doubtful = true;
            // Rewrites at once, since reclaim may discard clean pages at any time. After an error
            // here, the next call retries.
            let _ = self.write_anew(&mut unsynced);
        }
        result
    }

    /// Ends the file at `size`, and makes everything durable.
    pub(super) fn end(&self, size: u64) -> Result {
        self.sync_written()?;
        self.file.truncate(size)?;
        self.file.sync()
    }

    /// Rewrites the range after a failed fsync.
    fn write_anew(&self, unsynced: &mut Unsynced) -> Result {
        if !unsynced.is_doubtful {
            return Ok(());
        }
        let mut buf = KVVec::from_elem(0, PIECE, GFP_KERNEL)?;
        let end = unsynced.to.min(self.file.size());
        let mut at = unsynced.from;
        while at < end {
            // CAST: At most `PIECE`.
            let len = end.saturating_sub(at).min(PIECE as u64) as usize;
            let piece = buf.get_mut(..len).ok_or(EIO)?;
            self.file.read_exact_at(piece, at)?;
            self.file.write_at(piece, at)?;
            at = at.saturating_add(len as u64);
        }
        unsynced.is_doubtful = false;
        Ok(())
    }
}

impl Unsynced {
    fn is_empty(&self) -> bool {
        self.from >= self.to
    }
}

impl Deref for Stream {
    type Target = StreamFile;

    fn deref(&self) -> &StreamFile {
        &self.file
    }
}
