// SPDX-License-Identifier: GPL-2.0

//! Lines of the history itself: the closing line, external changes, resynchronisation.

use super::{
    changes::{note_change, observe, observe_if_idle},
    load::{is_as_closed, load_unchecked},
    mmap_writes::{log_dirty_ranges, LogCaller},
    place::{place, LineSubject, OperationArgs},
};
use crate::{
    history::journal::{Journal, Reservation},
    log::{line::Op, types::Cookie},
    state::{Mount, ObjectRef, ObjectState},
    vfs::{
        dentry::{Dentry, UpperDentry},
        inode::UpperInode,
    },
};
use kernel::prelude::*;

/// A link or rename of a loaded object changed ctime without a line in the object's own chain:
/// rewrites the closing line, which holds the old ctime.
pub(crate) fn note_ctime_change(inode: &UpperInode, dentry: &UpperDentry) {
    if let Ok(lower) = dentry.lower() {
        note_ctime_change_at(inode, lower);
    }
}

/// The object has a name in another directory: the next line must record its file handle again.
pub(crate) fn note_new_parent(inode: &UpperInode) {
    inode.object().state.lock().handle_segment = 0;
}

/// As [`note_ctime_change`], with the lower dentry.
pub(crate) fn note_ctime_change_at(inode: &UpperInode, lower: &Dentry) {
    let stale = {
        let mut state = inode.object().state.lock();
        let unread = state.unread.take();
        if let Some(error) = unread.filter(|_| !state.loaded) {
            // ctime changed and no line explains it: the next load will log an external change.
            inode.mount().warn_lost(error);
        }
        observe(&mut state, inode);
        let stale = state.close_cookie.take().is_some();
        state.changed |= stale;
        stale
    };
    if stale {
        write_close_at(inode, || Ok(lower));
    }
}

/// Writes the closing line, at the last close, fsync and unmount.
pub(crate) fn write_close(inode: &UpperInode, dentry: &UpperDentry) {
    write_close_at(inode, || dentry.lower());
}

/// As [`write_close`], with the lower dentry, unconditionally, and with the object's file handle.
/// The object is loaded.
pub(crate) fn write_close_with_handle(inode: &UpperInode, lower: &Dentry) {
    {
        let mut state = inode.object().state.lock();
        state.changed = true;
        state.handle_segment = 0;
    }
    write_close_at(inode, || Ok(lower));
}

/// As [`write_close`]. The lower dentry is looked up only if a line is due.
fn write_close_at<'a>(inode: &UpperInode, lower: impl FnOnce() -> Result<&'a Dentry>) {
    let mount = inode.mount();
    let Some(journal) = mount.journal() else {
        return;
    };
    let mut state = inode.object().state.lock();
    let logged = log_dirty_ranges(journal, inode, &mut state, LogCaller::Unlocked);
    if logged.is_ok() && !state.changed {
        return;
    }
    let result = logged.and_then(|()| lower()).and_then(|lower| {
        let object = ObjectRef {
            mount,
            journal,
            inode,
            lower,
        };
        place_close(&object, &mut state)
    });
    match result {
        // A fatal signal ended the wait for space. The next close or eviction writes the line.
        Err(e) if e != EINTR => mount.warn_lost(e),
        _ => {}
    }
}

/// As [`write_close`], from ->evict_inode, which a shrinker may call: never waits, and drops the
/// line instead. The line needs vfs_getattr(), which on network filesystems and FUSE waits for a
/// server, so those are skipped. An object without a closing line is resynchronised at its next
/// use.
pub(crate) fn write_close_on_evict(inode: &UpperInode) {
    let Some(mut state) = inode.object().state.try_lock() else {
        return;
    };
    let mount = inode.mount();
    let Some(journal) = mount.journal() else {
        return;
    };
    let _ = log_dirty_ranges(journal, inode, &mut state, LogCaller::Evictor);
    if !state.changed || !inode.lower().superblock().is_local() {
        return;
    }
    let Some(lower) = inode.lower().find_alias() else {
        return;
    };
    let object = ObjectRef {
        mount,
        journal,
        inode,
        lower: &lower,
    };
    let _ = try_place_close(&object, &mut state);
}

/// Places a line of the history itself, with the object's present cookie.
pub(super) fn note(
    object: &ObjectRef<'_>,
    state: &mut ObjectState,
    reservation: &mut Reservation<'_>,
    op: Op,
    cookie: Cookie,
) -> Result {
    let subject = LineSubject {
        mount: object.mount,
        inode: object.inode,
        open: None,
    };
    let args = OperationArgs {
        op,
        at: 0,
        length: 0,
        size: cookie.size,
    };
    state.was = Some(cookie);
    place(&subject, state, reservation, &args, |_| {}).map(|_| ())
}

/// Writes the closing line of a changed object.
fn place_close(object: &ObjectRef<'_>, state: &mut ObjectState) -> Result {
    if !state.changed {
        return Ok(());
    }
    let mut reservation = object.journal.reserve_lines_killable(1)?;
    place_close_in(object, state, &mut reservation)
}

/// As [`place_close`], without waiting for space.
fn try_place_close(object: &ObjectRef<'_>, state: &mut ObjectState) -> Result {
    let mut reservation = object.journal.try_reserve_lines(1)?;
    place_close_in(object, state, &mut reservation)
}

/// Writes the closing line and notes its cookie.
fn place_close_in(
    object: &ObjectRef<'_>,
    state: &mut ObjectState,
    reservation: &mut Reservation<'_>,
) -> Result {
    let cookie = object.cookie()?;
    // vfs_getattr() has armed multigrain timestamps: the next change gets a new ctime.
    note(object, state, reservation, Op::Close, cookie)?;
    state.close_cookie = Some(cookie);
    observe_if_idle(state, object.inode);
    state.changed = false;
    Ok(())
}

/// Resynchronises a loaded object after a change of its times by this mount.
pub(crate) fn resync_loaded(object: &ObjectRef<'_>, state: &mut ObjectState) -> Result {
    load_unchecked(object.journal, object.inode, state)?;
    let cookie = object.cookie()?;
    let mut reservation = object.journal.reserve_lines(1)?;
    note(object, state, &mut reservation, Op::Resync, cookie)?;
    note_change(state, object.inode);
    Ok(())
}

/// Resynchronises an object if, after a power cut, only ctime differs from the closing line. The
/// inode is not locked.
pub(crate) fn resync(
    mount: &Mount,
    journal: &Journal,
    inode: &UpperInode,
    lower: &Dentry,
) -> Result {
    let object = ObjectRef {
        mount,
        journal,
        inode,
        lower,
    };
    let _lock = inode.lock();
    let mut state = inode.object().state.lock();
    if inode.is_regular() && is_as_closed(&object)? {
        resync_loaded(&object, &mut state)?;
    }
    Ok(())
}

/// Logs an external change: without `force`, a revert stops at this line.
pub(crate) fn note_external(
    mount: &Mount,
    journal: &Journal,
    inode: &UpperInode,
    lower: &Dentry,
    state: &mut ObjectState,
) -> Result {
    let object = ObjectRef {
        mount,
        journal,
        inode,
        lower,
    };
    place_external_change(&object, state)
}

/// As [`note_external`].
pub(super) fn place_external_change(object: &ObjectRef<'_>, state: &mut ObjectState) -> Result {
    let cookie = object.cookie()?;
    let mut reservation = object.journal.reserve_lines(1)?;
    note(object, state, &mut reservation, Op::External, cookie)?;
    note_change(state, object.inode);
    state.close_cookie = Some(cookie);
    Ok(())
}
