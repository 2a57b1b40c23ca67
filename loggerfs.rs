// SPDX-License-Identifier: GPL-2.0

//! LoggerFS: undo for any directory on Linux.
//!
//! A stackable filesystem: before an operation changes anything, what is about to be lost is
//! saved ([`backup`]); a textual log keeps a line for each operation ([`history`]); and operations
//! are taken back ([`revert`]). Hooks live in [`stack`], one file for each table; everything that
//! touches C lives in [`vfs`].
//!
//! # Lock order, top first
//!
//! 1. our superblock's write protection (taken by the VFS);
//! 2. our directory's, then inode's rwsem; a group revert has any number of them at once, in no order
//!    (`HeldInodes`): it waits for none of them while it has one, nor for another of this rank;
//! 3. the object's history state (`ObjectState`, a mutex: never held over a lower call that may
//!    fault in user memory);
//! 4. journal staging (a leaf; never held over a lower call); the journal's other mutexes, for its
//!    workers and for giving up kept objects: `keep`, `pins`, `files`, `kept`, each held over lower
//!    calls in the history's own directory, and staging below them;
//! 5. lower write access (`mnt_want_write`, `file_start_write`: what a freeze of the lower
//!    filesystem takes away; never twice on one superblock, never around journal I/O or a wait for
//!    the worker, which needs it too);
//! 6. lower rwsems;
//! 7. lower invalidate lock, folio lock.
//!
//! Stores through mappings: `mmap_lock`, our pagefault protection, the lower one, a folio's lock,
//! and under that an object's `Stores` and the journal's staging, both spinlocks. Never 1, 2, 3, 5
//! or 6: their holders may fault, or wait for somebody who does. Pages are made read-only again
//! under 3, with the folio's lock taken.

#![deny(unsafe_code)]

use kernel::prelude::*;

mod backup;
mod history;
mod revert;
mod stack;
mod uapi;
#[allow(unsafe_code)]
mod vfs;

module! {
    type: LoggerFs,
    name: "loggerfs",
    authors: ["LoggerFS developers"],
    description: "Undo for any directory: a stackable filesystem with a history",
    license: "GPL",
}

/// The module: registers the filesystem type for as long as it is loaded.
struct LoggerFs {
    _registration: vfs::mount::Registration,
}

impl kernel::Module for LoggerFs {
    fn init(module: &'static ThisModule) -> Result<Self> {
        Ok(Self {
            _registration: vfs::mount::Registration::new(module)?,
        })
    }
}
