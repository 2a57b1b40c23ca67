// SPDX-License-Identifier: GPL-2.0

//! Whether an object was changed externally: its times and size beside those after the last logged
//! operation.

use crate::{
    state::{Mount, ObjectState},
    vfs::{
        attr,
        inode::{Inode, QuickCookie, UpperInode},
    },
};

/// Whether the object differs from its state after the last logged operation. Writes through shared
/// mappings also change the times, but have lines of their own.
pub(crate) fn is_changed_externally(state: &ObjectState, inode: &UpperInode) -> bool {
    has_changed(state, inode) && inode.object().mmap_writes().begun() == state.faults
}

/// Whether the times or the size of a file differ from those after the last logged operation.
#[inline(always)]
pub(crate) fn has_changed(state: &ObjectState, inode: &UpperInode) -> bool {
    let Some(seen) = state.seen.filter(|_| inode.is_regular()) else {
        return false;
    };
    // A stacked lower filesystem (overlayfs, ecryptfs) copies the times of its own lower inode
    // lazily, so the inode that owns the pages counts, too.
    seen != inode.pages().quick_cookie()
        && seen != inode.lower().quick_cookie()
        && !is_reclaimed(&seen, inode)
}

/// Whether a file that looked like `seen` differs only because reclaim removed its orphan, which
/// was its last name. unlink(2) changed ctime; a descriptor may still be open.
pub(crate) fn is_reclaimed(seen: &QuickCookie, inode: &UpperInode) -> bool {
    let lower = inode.lower();
    inode.is_orphan() && lower.links() == 0 && lower.has_content_of(seen)
}

/// The object's change cookie. From now on, also two changes within one tick of the clock get
/// different cookies: vfs_getattr() marks the timestamp as queried, and the next change uses a
/// fine-grained one (multigrain timestamps).
pub(crate) fn armed_cookie(mount: &Mount, lower: &Inode) -> QuickCookie {
    if let Some(name) = lower.find_alias() {
        let _ = attr::cookie(mount.lower(), &name);
    }
    lower.quick_cookie()
}

/// Records the object's present times and size.
pub(crate) fn observe(state: &mut ObjectState, inode: &UpperInode) {
    // Faults under way will change the times again (file_update_time() in ->page_mkwrite).
    state.faults = inode.object().mmap_writes().ended();
    state.seen = Some(inode.pages().quick_cookie());
}

/// As [`observe`], for a caller without the inode lock. During an operation, the previous values
/// stay: `settle()` compares with them to find out whether the operation changed anything.
pub(crate) fn observe_if_idle(state: &mut ObjectState, inode: &UpperInode) {
    let before = (state.seen, state.faults);
    observe(state, inode);
    if inode.object().mmap_writes().has_running_operation() {
        (state.seen, state.faults) = before;
    }
}

/// Records times and size after a change made by this mount, and invalidates the closing line.
pub(crate) fn note_change(state: &mut ObjectState, inode: &UpperInode) {
    observe(state, inode);
    state.close_cookie = None;
    state.changed = true;
}

/// Marks a newly created object as loaded: it has no lines yet.
pub(crate) fn note_new(inode: &UpperInode) {
    let mut state = inode.object().state.lock();
    if !state.loaded {
        state.loaded = true;
        observe(&mut state, inode);
    }
}
