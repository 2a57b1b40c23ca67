// SPDX-License-Identifier: GPL-2.0

//! A segment's file, and how much of it may not be durable yet.
//!
//! An fsync that fails says so once: most filesystems take what they could not write for clean from
//! then on, and the next fsync would succeed without it. So what was written since the last fsync
//! that succeeded is written anew before another is tried.

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

/// What was written since the last fsync that succeeded.
#[derive(Default)]
struct Unsynced {
    /// The range; empty: nothing.
    from: u64,
    to: u64,
    /// Whether an fsync of it failed, and it was not written anew since.
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
        // Also what fails half way has to be made durable, if it is read as whole.
        let end = at.saturating_add(bytes.len() as u64);
        if unsynced.is_empty() {
            unsynced.from = at;
        }
        unsynced.from = unsynced.from.min(at);
        unsynced.to = unsynced.to.max(end);
        self.file.write_at(bytes, at)
    }

    /// Makes durable what was written.
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
            // At once: what is clean may leave memory at any time. Where that fails, it is tried
            // again before the next fsync.
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

    /// Writes what a failed fsync left in doubt.
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
