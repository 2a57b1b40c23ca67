// SPDX-License-Identifier: GPL-2.0

//! What we keep of an object while its inode is in memory.

use super::stores::{List, Stores};
use crate::{
    history::line::{Cookie, Pos},
    vfs::inode::QuickCookie, //
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

/// The state of an object. Its lock stands below the inode's in the lock order.
#[pin_data]
pub(crate) struct Object {
    /// Where its chain of lines ends, and what it looked like then.
    #[pin]
    pub(crate) state: Mutex<ObjectState>,
    /// Which of its lines are its present owner's, as found out last. The lock is held to copy it only.
    #[pin]
    pub(crate) owned: Mutex<Owned>,
    /// How many open files may write to it.
    writers: Atomic<i32>,
    /// Stores through shared mappings.
    #[pin]
    stores: Stores,
    /// Whether it has lost its last name, and is kept by one of the history's own.
    kept: Atomic<bool>,
    /// Whether it has had no name so far.
    unnamed: Atomic<bool>,
    /// Whether it has had a name in the tree since its inode came to memory.
    shown: Atomic<bool>,
    /// The task that has our inode's lock for a whole request; 0: none has.
    holder: Atomic<i64>,
}

/// See [`Object::state`].
#[derive(Default)]
pub(crate) struct ObjectState {
    /// Whether the history was asked for the object's last line.
    pub(crate) loaded: bool,
    /// Whether the object's last line is a revert that was neither finished nor withdrawn. It is
    /// not loaded then.
    pub(crate) half_done: bool,
    /// Where the object's newest line stands.
    pub(crate) head: Option<Pos>,
    /// The segment in which a line last told the object's file handle; 0: none did.
    pub(crate) handle_told_in: u64,
    /// How many lines were placed after that one.
    pub(crate) lines_since_handle: u32,
    /// The owner that a line last told; of no meaning when none told the handle.
    pub(crate) owner_told: u32,
    /// Why it could not be loaded before an operation that may not have happened yet.
    pub(crate) unread: Option<Error>,
    /// The cookie that the next line has to tell.
    pub(crate) was: Option<Cookie>,
    /// What the object looked like after our last operation on it.
    pub(crate) seen: Option<QuickCookie>,
    /// How many faults had moved its times by then.
    pub(crate) faults: i64,
    /// Stores whose pages are read-only again, and that have no line yet, the oldest first.
    pub(crate) untold: List,
    /// The cookie of the last `left` line, when nothing happened since.
    pub(crate) left: Option<Cookie>,
    /// Whether something happened since the last `left` line.
    pub(crate) changed: bool,
}

/// How far an object's lines are known to be of one owner.
#[derive(Clone, Copy, Default)]
pub(crate) struct Owned {
    /// The object's newest line then; `None`: nothing is known.
    pub(crate) head: Option<Pos>,
    /// The owner then.
    pub(crate) uid: u32,
    /// The number of the oldest line that is not older than this owner.
    pub(crate) since: u64,
}

/// The state of an object whose inode is new in memory.
pub(crate) fn new_object() -> impl PinInit<Object, Error> {
    try_pin_init!(Object {
        state <- new_mutex!(ObjectState::default(), "Object::state"),
        owned <- new_mutex!(Owned::default(), "Object::owned"),
        writers: Atomic::new(0),
        stores <- Stores::new(),
        kept: Atomic::new(false),
        unnamed: Atomic::new(false),
        shown: Atomic::new(false),
        holder: Atomic::new(0),
    })
}

impl Object {
    /// Whether it has lost its last name, and is kept by one of the history's own.
    pub(crate) fn is_kept(&self) -> bool {
        self.kept.load(Relaxed)
    }

    /// Notes that it is kept, or has a name again.
    pub(crate) fn note_kept(&self, is_kept: bool) {
        self.kept.store(is_kept, Relaxed);
    }

    /// Whether it has had no name so far: it was made without one.
    pub(crate) fn is_unnamed(&self) -> bool {
        self.unnamed.load(Relaxed)
    }

    /// Notes that it was made without a name, or gets its first one; answers what was so before.
    pub(crate) fn note_unnamed(&self, is_unnamed: bool) -> bool {
        self.unnamed.xchg(is_unnamed, Full)
    }

    /// Whether a name in the tree was bound to it since its inode came to memory.
    pub(crate) fn was_shown(&self) -> bool {
        self.shown.load(Relaxed)
    }

    /// Notes that.
    #[inline]
    pub(crate) fn note_shown(&self) {
        self.shown.store(true, Relaxed);
    }

    /// Which task has our inode's lock for a whole request; 0: none has.
    pub(crate) fn holder(&self) -> i64 {
        self.holder.load(Relaxed)
    }

    /// Notes that. Only the task that has the lock sets its own number and takes it away, so that it
    /// finds what it has set itself.
    pub(crate) fn note_holder(&self, task: i64) {
        self.holder.store(task, Relaxed);
    }

    /// One more open file may write.
    pub(crate) fn writer_came(&self) {
        self.writers.add(1, Relaxed);
    }

    /// One of them is gone; whether it was the last.
    pub(crate) fn writer_left(&self) -> bool {
        self.writers.fetch_sub(1, Full) == 1
    }

    /// Stores through shared mappings.
    #[inline]
    pub(crate) fn stores(&self) -> &Stores {
        &self.stores
    }
}
