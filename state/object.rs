// SPDX-License-Identifier: GPL-2.0

//! The state of an object while its inode is in memory.

use super::{
    mmap_writes::{DirtyRanges, MmapWrites},
    Mount,
};
use crate::{
    history::journal::Journal,
    log::types::{Cookie, Pos},
    vfs::{
        attr,
        dentry::Dentry,
        inode::{QuickCookie, UpperInode},
    },
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            ordering::{Full, Relaxed},
            Atomic, //
        },
        Mutex, //
    }, //
};

/// An object on a mount that records operations. Its [`ObjectState`] is passed beside it, locked.
#[derive(Clone, Copy)]
pub(crate) struct ObjectRef<'a> {
    pub(crate) mount: &'a Mount,
    pub(crate) journal: &'a Journal,
    pub(crate) inode: &'a UpperInode,
    /// An alias of the lower inode.
    pub(crate) lower: &'a Dentry,
}

impl ObjectRef<'_> {
    /// The object's present cookie.
    pub(crate) fn cookie(&self) -> Result<Cookie> {
        attr::cookie(self.mount.lower(), self.lower)
    }
}

/// The state of an object. Lock order: below the inode's rwsem.
#[pin_data]
pub(crate) struct Object {
    /// The head of the object's chain of lines, and the attributes at that time.
    #[pin]
    pub(crate) state: Mutex<ObjectState>,
    /// Cache: the oldest line of the present owner. The lock is held only while copying.
    #[pin]
    pub(crate) owned: Mutex<OwnerRange>,
    /// Number of open files with write access.
    writers: Atomic<i32>,
    /// Writes through shared mappings.
    #[pin]
    mmap_writes: MmapWrites,
    /// Whether the object has never had a name (O_TMPFILE).
    unnamed: Atomic<bool>,
}

/// See [`Object::state`].
#[derive(Default)]
pub(crate) struct ObjectState {
    /// Whether the object's last line was looked up in the history.
    pub(crate) loaded: bool,
    /// Whether the last line is a revert that is neither finished nor withdrawn. The object is not
    /// loaded then.
    pub(crate) incomplete: bool,
    /// Position of the object's newest line.
    pub(crate) head: Option<Pos>,
    /// Segment whose log last recorded `fh=` for this object; 0 if none.
    pub(crate) handle_segment: u64,
    /// Number of lines placed since then.
    pub(crate) lines_since_handle: u32,
    /// The owner last logged; valid if `handle_segment` is not 0.
    pub(crate) logged_owner: u32,
    /// The error of a failed load, before an operation that may not have happened.
    pub(crate) unread: Option<Error>,
    /// The cookie to be logged with the next line.
    pub(crate) was: Option<Cookie>,
    /// The attributes after the last upper operation.
    pub(crate) seen: Option<QuickCookie>,
    /// Number of faults ended at that time.
    pub(crate) faults: i64,
    /// Dirty ranges whose pages are write-protected again, without lines, oldest first.
    pub(crate) unlogged: DirtyRanges,
    /// The cookie of the closing line, if no operation has followed.
    pub(crate) close_cookie: Option<Cookie>,
    /// Whether an operation has followed the closing line.
    pub(crate) changed: bool,
}

/// The range of an object's lines that belong to one owner.
#[derive(Clone, Copy, Default)]
pub(crate) struct OwnerRange {
    /// The newest line at that time; `None` if unknown.
    pub(crate) head: Option<Pos>,
    /// The owner then.
    pub(crate) uid: u32,
    /// Number of the oldest line of this owner.
    pub(crate) since: u64,
}

/// The state of an object whose inode was just read.
pub(crate) fn new_object() -> impl PinInit<Object, Error> {
    try_pin_init!(Object {
        state <- new_mutex!(ObjectState::default(), "Object::state"),
        owned <- new_mutex!(OwnerRange::default(), "Object::owned"),
        writers: Atomic::new(0),
        mmap_writes <- MmapWrites::new(),
        unnamed: Atomic::new(false),
    })
}

impl Object {
    /// Whether the object has never had a name.
    pub(crate) fn is_unnamed(&self) -> bool {
        self.unnamed.load(Relaxed)
    }

    /// Sets whether the object has never had a name; returns the old value.
    pub(crate) fn note_unnamed(&self, is_unnamed: bool) -> bool {
        self.unnamed.xchg(is_unnamed, Full)
    }

    /// Adds a writer.
    pub(crate) fn writer_came(&self) {
        self.writers.add(1, Relaxed);
    }

    /// Removes a writer; returns whether that was the last one.
    pub(crate) fn writer_left(&self) -> bool {
        self.writers.fetch_sub(1, Full) == 1
    }

    /// Writes through shared mappings.
    #[inline]
    pub(crate) fn mmap_writes(&self) -> &MmapWrites {
        &self.mmap_writes
    }
}
