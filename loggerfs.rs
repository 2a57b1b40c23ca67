// SPDX-License-Identifier: GPL-2.0

//! LoggerFS: undo for any directory on Linux.
//!
//! A stackable filesystem: before an operation changes an object, [`backup`] captures the bytes,
//! attributes or names that would be lost; [`history`] keeps a textual log with one line per
//! operation; [`revert`] undoes operations. Hooks are in [`stack`], one file for each operation
//! table; all code that calls C is in [`vfs`].
//!
//! # Lock order, outermost first
//!
//! 1. the upper superblock's write protection (sb_start_write(), taken by the VFS);
//! 2. the upper directory's, then the inode's rwsem. A group revert holds any number of them, in no
//!    order (`HeldInodes`), and never waits for one of them, or for another lock of this rank,
//!    while holding one;
//! 3. the object's history state (`ObjectState`, a mutex; never held over a lower call that may
//!    fault in user memory);
//! 4. journal staging (innermost; never held over a lower call); the journal's other mutexes, for
//!    its workers and for reclaiming orphans: `meta`, `pins`, `files`, `orphans`, each held over lower
//!    calls in the history's own directory and around staging;
//! 5. lower write access (`mnt_want_write`, `file_start_write`), which a freeze of the lower
//!    filesystem blocks; never nested on one superblock, never held over journal I/O or a wait for
//!    the worker, which takes write access too;
//! 6. lower rwsems;
//! 7. lower invalidate lock, folio lock.
//!
//! Page faults of mappings: `mmap_lock`, the upper sb_start_pagefault(), the lower one, a folio
//! lock, and under that the object's `MmapWrites` and the journal's staging, both spinlocks. Never
//! 1, 2, 3, 5 or 6: their holders may fault in user memory. Pages are write-protected again under
//! 3, with the folio lock held.

#![deny(unsafe_code)]

use kernel::prelude::*;

mod backup;
mod history;
#[path = "log/lib.rs"]
mod log;
mod record;
mod revert;
mod stack;
mod state;
mod uapi;
#[allow(unsafe_code)]
mod vfs;

/// The filesystem that [`vfs`]'s operation tables call.
type Fs = stack::Stack;

module! {
    type: LoggerFs,
    name: "loggerfs",
    authors: ["LoggerFS developers"],
    description: "Undo for any directory: a stackable filesystem with a history",
    license: "GPL",
    // mount(8) with `-t loggerfs` asks for this name, if the module is installed.
    alias: ["fs-loggerfs"],
}

/// The module: registers the filesystem type while loaded.
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
