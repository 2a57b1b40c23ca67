// SPDX-License-Identifier: GPL-2.0

//! The stackable filesystem: one file for each operation table.
//!
//! A hook passes the operation to the lower object. If the operation changes something, the hook
//! calls [`crate::backup`] before and reports the result after.

mod actor;
mod attr;
mod file;
mod ioctl;
mod ioctl_group;
mod ioctl_history;
mod mmap;
mod mmap_flusher;
mod mmap_writes;
mod mount;
mod namei;
mod object;
mod probe;
mod range;
mod readdir;
mod request_slots;
mod space;
mod subtree;
mod xattr;

pub(crate) use actor::{IdentityCache, OpenActor, OpenFileState, ProcessIdentity};
pub(crate) use mmap_flusher::MmapFlusher;
pub(crate) use mmap_writes::{
    DirtyRange, DirtyRanges, FaultDecision, PagePreImage, RunningOperation,
};
pub(crate) use mount::Mount;
pub(crate) use object::{new_object, Object, ObjectState, OwnerRange};
pub(crate) use space::SpaceRequest;
pub(crate) use subtree::{NameReadahead, TreeLocation};

use crate::vfs::FileSystem;

/// The name of the history's hidden directory in the mount's root.
pub(crate) const HISTORY: &[u8] = b".loggerfs";

/// The [`crate::vfs::FileSystem`] of this crate.
pub(crate) struct Stack;

impl FileSystem for Stack {
    type Mount = Mount;
    type Object = Object;
    type OpenFile = OpenFileState;
}
