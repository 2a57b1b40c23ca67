// SPDX-License-Identifier: GPL-2.0

//! Loads an object's state from the last line of its chain, and compares the object with it.

use super::{
    changes::{is_changed_externally, note_change, observe},
    close::{note, place_external_change},
    mmap_writes::{log_dirty_ranges, LogCaller},
    policy::{allow, CaptureFailure},
};
use crate::{
    history::{journal::Journal, lines::Lines},
    log::{line::Op, types::Cookie},
    state::{Mount, ObjectRef, ObjectState},
    vfs::{attr, dentry::Dentry, error::EUCLEAN, inode::UpperInode},
};
use kernel::prelude::*;

/// Loads the object's last line, if necessary, and compares the object with it. Called under the
/// inode lock before a change of the object or its names that changes ctime.
pub(crate) fn load(inode: &UpperInode) -> Result {
    load_with(inode, true)
}

/// As [`load`], for an open for writing, without the inode lock.
pub(crate) fn load_to_open(inode: &UpperInode) -> Result {
    load_with(inode, false)
}

/// As [`load`] and [`load_to_open`], with or without the inode lock.
fn load_with(inode: &UpperInode, is_locked: bool) -> Result {
    let mount = inode.mount();
    let Some(journal) = mount.journal() else {
        return Ok(());
    };
    let _gate = inode.object().mmap_writes().block_faults_if_mapped();
    match ensure_loaded(mount, journal, inode, is_locked)? {
        Err(e) => {
            // No change was made so far: `note_ctime_change_at` warns once there is one.
            let CaptureFailure(error) = allow(mount, e, false)?;
            inode.object().state.lock().unread = Some(error);
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Loads the object's chain, and logs an external change before the next line of this operation.
/// External changes are detected only under the inode lock (`is_locked`). Without the lock, an
/// operation of this mount may have changed the times already and not yet noted them.
///
/// The outer error is independent of the mount's policy. It means that a revert is incomplete and
/// cannot be rolled back yet: the rollback would overwrite a change that is made now.
pub(crate) fn ensure_loaded(
    mount: &Mount,
    journal: &Journal,
    inode: &UpperInode,
    is_locked: bool,
) -> Result<Result> {
    let mut state = inode.object().state.lock();
    let caller = if is_locked {
        LogCaller::LockHolder
    } else {
        LogCaller::Unlocked
    };
    if let Err(e) = log_dirty_ranges(journal, inode, &mut state, caller) {
        return Ok(Err(e));
    }
    if state.loaded && !(is_locked && is_changed_externally(&state, inode)) {
        return Ok(Ok(()));
    }
    let Some(name) = inode.lower().find_alias() else {
        return Ok(Ok(()));
    };
    let object = ObjectRef {
        mount,
        journal,
        inode,
        lower: &name,
    };
    if state.loaded {
        return Ok(place_external_change(&object, &mut state));
    }
    let loaded = load_state(&object, &mut state);
    if is_locked && state.incomplete {
        mount.roll_back(&object, &mut state)?;
    }
    // Writes through mappings that were held back while the chain could not be loaded.
    Ok(loaded.and_then(|()| log_dirty_ranges(journal, inode, &mut state, caller)))
}

/// Loads the object's last line and compares the object with it.
///
/// * A closing line with the present cookie: no change since.
/// * A closing line with another cookie: an external change, or a power cut ([`changed_since`]).
/// * No closing line: the last shutdown was unclean, and the object is resynchronised.
fn load_state(object: &ObjectRef<'_>, state: &mut ObjectState) -> Result {
    let (journal, inode) = (object.journal, object.inode);
    let mut lines = Lines::new(journal)?;
    let last = load_last(&mut lines, inode, state)?;
    if let Some((Op::Revert | Op::Redo, _)) = last {
        return load_intent(&mut lines, inode, state);
    }
    let cookie = object.cookie()?;
    observe(state, inode);
    state.was = Some(cookie);
    let op = match last {
        None => None,
        Some((Op::Close, was)) if was == Some(cookie) => {
            state.close_cookie = Some(cookie);
            None
        }
        Some((Op::Close, was)) => {
            let was = was.filter(|_| state.head.is_some_and(|at| journal.is_before_cut(at)));
            Some(changed_since(object, was, cookie)?)
        }
        // This external change is logged already.
        Some((Op::External, was)) if was == Some(cookie) => None,
        // No closing line: the shutdown was unclean.
        Some(_) => Some(Op::Resync),
    };
    // Only regular files have content to compare.
    if let Some(op) = op.filter(|_| inode.is_regular()) {
        let mut reservation = journal.reserve_lines(1)?;
        note(object, state, &mut reservation, op, cookie)?;
        note_change(state, inode);
    }
    state.loaded = true;
    Ok(())
}

/// The object's last line is an intent: its closing line would follow.
fn load_intent(lines: &mut Lines<'_>, inode: &UpperInode, state: &mut ObjectState) -> Result {
    let journal = lines.journal();
    let line = lines.read(state.head.ok_or(EUCLEAN)?)?;
    if journal.group(line.group.unwrap_or(line.seq)) == Some(None) {
        // The group is under way: this load is part of it.
        state.seen = Some(inode.lower().quick_cookie());
        state.incomplete = false;
        state.loaded = true;
        return Ok(());
    }
    // The next holder of the inode lock rolls the revert back.
    state.incomplete = true;
    Ok(())
}

/// The line to write if the cookie differs from the closing line: `External` after an external
/// change, `Resync` if a power cut explains the difference. `was` is set only if a power cut may
/// have followed the closing line. Two cases are explained: the object is older than its line,
/// since the line was durable first; or only ctime is newer, from before the cut, since names or
/// attributes were changed and the cut lost their lines.
fn changed_since(object: &ObjectRef<'_>, was: Option<Cookie>, now: Cookie) -> Result<Op> {
    let Some(was) = was else {
        return Ok(Op::External);
    };
    let is_taken = now.ctime <= was.ctime
        || object.journal.is_before_recovery(now.ctime) && has_content_of(object, &was, &now)?;
    Ok(if is_taken { Op::Resync } else { Op::External })
}

/// Whether the content is unchanged since the closing line: write(2) and truncate(2) update mtime
/// as well. The change counter is no evidence, since a rename increments it on btrfs.
fn has_content_of(object: &ObjectRef<'_>, was: &Cookie, now: &Cookie) -> Result<bool> {
    let (_, times) = attr::access_and_times(object.mount.lower(), object.lower)?;
    let then = (was.ctime.sec, was.ctime.nsec);
    Ok(now.size == was.size && times.modified <= then)
}

/// Whether the content is the same as in the closing line, regardless of other changes.
pub(crate) fn is_as_closed(object: &ObjectRef<'_>) -> Result<bool> {
    let mut lines = Lines::new(object.journal)?;
    let mut state = ObjectState::default();
    let last = load_last(&mut lines, object.inode, &mut state)?;
    let Some((Op::Close, Some(was))) = last else {
        return Ok(false);
    };
    let now = object.cookie()?;
    has_content_of(object, &was, &now)
}

/// As [`load_state`], for a revert: rolls an incomplete revert back first. The inode lock is held.
pub(crate) fn load_known(
    mount: &Mount,
    journal: &Journal,
    inode: &UpperInode,
    lower: &Dentry,
    state: &mut ObjectState,
) -> Result {
    if state.loaded {
        return Ok(());
    }
    let object = ObjectRef {
        mount,
        journal,
        inode,
        lower,
    };
    load_state(&object, state)?;
    // A revert must not build on the state of an incomplete one.
    if state.incomplete {
        mount.roll_back(&object, state)?;
    }
    Ok(())
}

/// As [`load_state`], without a comparison with the last line.
pub(crate) fn load_unchecked(
    journal: &Journal,
    inode: &UpperInode,
    state: &mut ObjectState,
) -> Result {
    if state.loaded {
        return Ok(());
    }
    state.head = journal.last_line(inode.id())?;
    observe(state, inode);
    state.loaded = true;
    Ok(())
}

/// Operation and cookie of the object's last line, which becomes the head of the chain.
fn load_last(
    lines: &mut Lines<'_>,
    inode: &UpperInode,
    state: &mut ObjectState,
) -> Result<Option<(Op, Option<Cookie>)>> {
    state.head = lines.journal().last_line(inode.id())?;
    let Some(head) = state.head else {
        return Ok(None);
    };
    let line = lines.read(head)?;
    Ok(Some((line.op, line.was)))
}
