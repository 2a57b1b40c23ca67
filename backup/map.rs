// SPDX-License-Identifier: GPL-2.0

//! Writable shared mappings: each has a line, which says that stores through it are lost.
//!
//! A mapping is made under the caller's mmap_lock, which other callers take for themselves below
//! the object's lock (a write(2) that faults its buffer in, a splice through a pipe). So nothing
//! here waits for anything. What cannot be told at once is told by whoever uses the object next.

use super::{lines::place_by, note_change, place, tolerate, Saved, Subject, What};
use crate::{
    history::{
        journal::{Journal, LineRoom},
        line::Op, //
    },
    stack::{ObjectState, Open, Who},
    vfs::inode::OwnInode, //
};
use kernel::prelude::*;

/// The operation, of which nothing is saved.
fn what(inode: &OwnInode, (at, length): (u64, u64)) -> What {
    What {
        op: Op::Mmap,
        at,
        length,
        size: inode.lower().size(),
    }
}

/// Makes a mapping of `range` (offset, length) and tells it.
pub(crate) fn map(
    inode: &OwnInode,
    open: &Open,
    range: (u64, u64),
    make: impl FnOnce() -> Result,
) -> Result {
    let mount = inode.mount();
    let Some(journal) = mount.journal() else {
        return make();
    };
    let room = match journal.try_reserve_lines(1) {
        Ok(room) => Some(room),
        Err(e) if e == EAGAIN => None,
        Err(e) => {
            tolerate(mount, e)?;
            None
        }
    };
    let object = inode.object();
    // Before the mapping exists: a revert that comes in between is refused in vain, not wrong.
    object.note_mapped();
    make()?;
    // Again: a last close may have taken it back in between.
    object.note_mapped();
    let subject = Subject {
        mount,
        inode,
        open: Some(open),
    };
    if !room.is_some_and(|room| tell(&subject, room, range)) {
        object.leave_map_untold();
    }
    Ok(())
}

/// Places the line, if that can be done without waiting.
fn tell(subject: &Subject<'_>, mut room: LineRoom<'_>, range: (u64, u64)) -> bool {
    let inode = subject.inode;
    let Some(mut state) = inode.object().state.try_lock() else {
        return false;
    };
    if !state.loaded {
        return false;
    }
    let what = what(inode, range);
    let placed = place(subject, &mut state, &mut room, &what, |draft| {
        Saved::Lost("mmap").describe(draft);
    });
    if placed.is_ok() {
        note_change(&mut state, inode);
    }
    placed.is_ok()
}

/// Tells a mapping of which no line could be placed when it was made: neither its range nor who made
/// it is known any more. Does nothing before the object is loaded.
#[inline(always)]
pub(crate) fn tell_untold(
    journal: &Journal,
    inode: &OwnInode,
    state: &mut ObjectState,
    may_wait: bool,
) -> Result {
    if inode.object().has_untold_map() {
        return tell_late(journal, inode, state, may_wait);
    }
    Ok(())
}

#[cold]
fn tell_late(
    journal: &Journal,
    inode: &OwnInode,
    state: &mut ObjectState,
    may_wait: bool,
) -> Result {
    if !state.loaded || !inode.object().take_untold_map() {
        return Ok(());
    }
    let room = if may_wait {
        journal.reserve_lines(1)
    } else {
        journal.try_reserve_lines(1)
    };
    let told = room.and_then(|mut room| {
        let subject = Subject {
            mount: inode.mount(),
            inode,
            open: None,
        };
        let what = what(inode, (0, 0));
        place_by(
            &subject,
            state,
            &mut Who::default(),
            &mut room,
            &what,
            |draft| {
                Saved::Lost("mmap").describe(draft);
            },
        )
    });
    match told {
        Ok(_) => note_change(state, inode),
        Err(_) => inode.object().leave_map_untold(),
    }
    told.map(|_| ())
}
