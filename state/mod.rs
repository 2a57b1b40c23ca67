// SPDX-License-Identifier: GPL-2.0

//! The state that LoggerFS keeps in memory: of a mount, of an object while its inode is in memory,
//! and of an open file.
//!
//! Nothing here places a line or changes a user's file.

mod actor;
mod mmap_flusher;
mod mmap_writes;
mod mount;
mod object;
mod request_slots;
mod space;
mod tree;

pub(crate) use actor::{IdentityCache, OpenActor, OpenFileState, ProcessIdentity, RevertedRanges};
pub(crate) use mmap_flusher::MmapFlusher;
pub(crate) use mmap_writes::{
    DirtyRange, DirtyRanges, FaultDecision, PagePreImage, RunningOperation,
};
pub(crate) use mount::{Mount, MountParts, MountSettings, OpenJournal};
pub(crate) use object::{new_object, Object, ObjectRef, ObjectState, OwnerRange};
pub(crate) use request_slots::SlotFailure;
pub(crate) use space::SpaceRequest;
pub(crate) use tree::{NameReadahead, TreeLocation};
