// SPDX-License-Identifier: GPL-2.0

//! Safe wrappers of the kernel's C interfaces: the only directory with `unsafe`.
//!
//! Objects ([`inode::Inode`], [`dentry::Dentry`], [`file::File`] …) are borrowed or counted
//! references. Operation tables ([`table`]) turn C calls into calls of the hooks' traits, which
//! [`crate::Fs`] implements. This layer depends neither on the implementation nor on undo.
//!
//! # What a type proves
//!
//! A safe function of this layer cannot break memory, whatever safe code calls it with, in any order
//! and on any thread. `tests/misuse/` checks that what follows does not compile otherwise.
//!
//! - Only the thunks of operation tables make wrappers of raw pointers: every `from_raw` is `unsafe`
//!   and not visible above. `Upper…` types are objects of this filesystem's superblocks, with their
//!   private data set: [`superblock::UpperSuperBlock`], [`inode::UpperInode`],
//!   [`dentry::UpperDentry`], [`file::UpperFile`]. An object without private data has another type,
//!   whose only way to the first one takes `self`: [`superblock::NewSuperBlock`],
//!   [`file::OpeningFile`], [`file::UnnamedFile`], [`mmap::NewVma`].
//! - An argument of a hook has the lifetime of the hook's call, and lends nothing for longer:
//!   [`file::Kiocb`], [`attr::AttrChange`], [`xattr::XattrBuffer`].
//! - A name, a parent or the lower dentry of a negative dentry is lent by
//!   [`locked_name::LockedName`] and [`locked_name::NewName`] only: the VFS holds the directory's lock
//!   during the call. A method that moves or binds the dentry takes `self`. The lower dentry of a
//!   positive dentry never changes.
//! - A function that needs an inode's lock takes the guard and compares the inode, or is a method of
//!   the guard or of [`upper_names::LockedDirectory`], which borrows from a guard. Guards are not
//!   `Send`.
//! - An object whose lifetime another object ensures is compared with it: the lower inode of an upper
//!   one, or the dentry of a struct path, is on the lower mount's superblock.
//!
//! As in the kernel's C, two rules have no type. A reference to an inode or dentry is not kept beyond
//! the unmount. [`table::superblock::SuperHooks::evicted`] gets an inode without a reference, of which
//! no counted one may be made.

pub(crate) mod attr;
pub(crate) mod chunk;
pub(crate) mod cred;
pub(crate) mod dentry;
pub(crate) mod error;
pub(crate) mod file;
pub(crate) mod fs_context;
pub(crate) mod fsnotify;
pub(crate) mod inode;
pub(crate) mod lock;
pub(crate) mod locked_name;
pub(crate) mod mmap;
pub(crate) mod mount;
pub(crate) mod namei;
pub(crate) mod quota;
pub(crate) mod range;
pub(crate) mod scope;
pub(crate) mod store;
pub(crate) mod superblock;
pub(crate) mod table;
pub(crate) mod task;
pub(crate) mod uaccess;
pub(crate) mod upper_names;
pub(crate) mod worker;
pub(crate) mod xattr;

use kernel::{error::Error, prelude::PinInit};

/// bindgen's output for declarations that `kernel::bindings` lacks, and `kernel::bindings`.
#[allow(
    dead_code,
    missing_docs,
    non_camel_case_types,
    non_upper_case_globals,
    non_snake_case,
    improper_ctypes,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    clippy::all,
    clippy::cast_lossless,
    clippy::ptr_as_ptr,
    clippy::ref_as_ptr,
    clippy::undocumented_unsafe_blocks,
    reason = "bindgen's output, as in the kernel's rust/bindings/lib.rs"
)]
pub(crate) mod c {
    pub(crate) use kernel::bindings::*;
    use kernel::ffi;
    include!(concat!(
        env!("LOGGERFS_GENERATED"),
        "/bindings_generated.rs"
    ));
}

/// The private data of a stackable filesystem in the kernel's objects.
///
/// A crate has one filesystem; with the alias [`Fs`] the tables need no type parameters.
pub(crate) trait FileSystem: 'static {
    /// State of a mount, from mount to unmount.
    type Mount: Send + Sync;
    /// State of an object while its inode is in memory.
    type Object: Send + Sync;
    /// State of an open file.
    type OpenFile: Send + Sync;

    /// The state of an object whose inode is new.
    fn new_object() -> impl PinInit<Self::Object, Error>;
}

// The implementation of the hooks' traits: the only name that this layer takes from above, which
// the crate's root defines.
use crate::Fs;
