// SPDX-License-Identifier: GPL-2.0

//! The stackable filesystem: one file for each operation table.
//!
//! A hook passes the operation to the lower object. If the operation changes something, the hook
//! calls [`crate::backup`] before and reports the result after.

mod attr;
mod file;
mod ioctl;
mod ioctl_group;
mod ioctl_history;
mod ioctl_mark;
mod ioctl_past;
mod mmap;
mod mount;
mod namei;
mod probe;
mod range;
mod readdir;
mod xattr;

use crate::{
    state::{self, Mount, Object, OpenFileState},
    vfs::FileSystem,
};
use kernel::prelude::*;

/// The [`crate::vfs::FileSystem`] of this crate.
pub(crate) struct Stack;

impl FileSystem for Stack {
    type Mount = Mount;
    type Object = Object;
    type OpenFile = OpenFileState;

    fn new_object() -> impl PinInit<Object, Error> {
        state::new_object()
    }
}
