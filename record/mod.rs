// SPDX-License-Identifier: GPL-2.0

//! An object's chain of lines in the log: places them, loads the object's state from the last one,
//! closes the chain, and applies the policy where a line or its payload is impossible.

mod captured;
mod changes;
mod close;
mod load;
mod mark;
mod mmap_writes;
mod place;
mod policy;

pub(crate) use captured::Captured;
pub(crate) use changes::{
    armed_cookie, has_changed, is_changed_externally, is_reclaimed, note_change, note_new, observe,
    observe_if_idle,
};
pub(crate) use close::{
    note_ctime_change, note_ctime_change_at, note_external, note_new_parent, resync, resync_loaded,
    write_close, write_close_on_evict, write_close_with_handle,
};
pub(crate) use load::{
    ensure_loaded, is_as_closed, load, load_known, load_to_open, load_unchecked,
};
pub(crate) use mark::{place_mark, MarkFields};
pub(crate) use mmap_writes::{log_dirty_ranges, log_mmap_writes, protect_taken, LogCaller};
pub(crate) use place::{
    identify_by_name, place, place_by, place_name, place_operation, LineSubject, NameFields,
    OperationArgs,
};
pub(crate) use policy::{allow, CaptureFailure};
