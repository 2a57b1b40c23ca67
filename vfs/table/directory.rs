// SPDX-License-Identifier: GPL-2.0

//! `file_operations` of directories.

use super::{
    file::{fsync, ioctl, to_int},
    OpsTable,
};
use crate::vfs::{
    c,
    cred::OverriddenCreds,
    file::{File, OpeningFile, UpperFile},
    Fs,
};
use kernel::{error::to_result, prelude::*};

/// Operations on open directories.
pub(crate) trait DirectoryHooks {
    /// `->open`: ends with [`OpeningFile::opened`].
    fn open(file: OpeningFile<'_>) -> Result;
    /// Whether `->iterate_shared` omits this name.
    fn hides(file: &UpperFile, name: &[u8]) -> bool;
    /// Whether [`DirectoryHooks::hides`] may be true in this directory.
    fn hides_any(file: &UpperFile) -> bool;
}

pub(super) static OPERATIONS: OpsTable<c::file_operations> = OpsTable(c::file_operations {
    llseek: Some(llseek),
    read: Some(c::generic_read_dir),
    iterate_shared: Some(iterate),
    unlocked_ioctl: Some(ioctl),
    compat_ioctl: Some(ioctl),
    open: Some(open),
    release: Some(release),
    fsync: Some(fsync),
    setlease: Some(c::generic_setlease),
    ..pin_init::zeroed()
});

/// # Safety
///
/// Called by the VFS with a directory of ours that is being opened.
unsafe extern "C" fn open(_inode: *mut c::inode, file: *mut c::file) -> c_int {
    // SAFETY: The VFS passes a file of ours that is being opened.
    let file = unsafe { OpeningFile::from_raw(file) };
    to_int(<Fs as DirectoryHooks>::open(file))
}

/// # Safety
///
/// Called by the VFS once, with an open directory of ours whose last user is gone.
unsafe extern "C" fn release(_inode: *mut c::inode, file: *mut c::file) -> c_int {
    // SAFETY: The VFS passes a file of ours whose last user is gone.
    let file = unsafe { UpperFile::from_raw(file) };
    // SAFETY: As above.
    unsafe { file.release() };
    0
}

/// Directory positions are the lower filesystem's cookies; `f_pos` follows the lower file's
/// position. The VFS holds `f_pos_lock`.
///
/// # Safety
///
/// Called by the VFS with an open directory of ours, whose position only this thread moves.
unsafe extern "C" fn llseek(file: *mut c::file, offset: i64, whence: c_int) -> i64 {
    // SAFETY: The VFS passes an open file of ours.
    let file = unsafe { UpperFile::from_raw(file) };
    super::file::to_loff(file.lower().seek(offset, whence).inspect(|pos| {
        file.set_position(*pos);
    }))
}

/// A dir_context whose actor filters entries before the caller's actor.
#[repr(C)]
struct Filter {
    context: c::dir_context,
    caller: *mut c::dir_context,
    file: *mut c::file,
}

/// # Safety
///
/// Called by the VFS with an open directory of ours, whose position only this thread moves, and
/// with a live context.
unsafe extern "C" fn iterate(file: *mut c::file, context: *mut c::dir_context) -> c_int {
    // SAFETY: The VFS passes an open directory of ours.
    let own = unsafe { UpperFile::from_raw(file) };
    let lower = own.lower();
    // SAFETY: And a live context.
    lower.set_position(unsafe { (*context).pos });
    // iterate_dir() calls security_file_permission() with the current credentials.
    let _acting = OverriddenCreds::as_opener(lower);
    if !<Fs as DirectoryHooks>::hides_any(own) {
        // SAFETY: A live lower directory; iterate_dir() updates the context's position.
        return unsafe { c::iterate_dir(lower.as_ptr(), context) };
    }
    to_int(filtered(lower, file, context))
}

fn filtered(lower: &File, file: *mut c::file, caller: *mut c::dir_context) -> Result {
    let mut filter = Filter {
        context: c::dir_context {
            actor: Some(emit),
            // SAFETY: The VFS's context, live during the call.
            pos: unsafe { (*caller).pos },
            // SAFETY: As above.
            count: unsafe { (*caller).count },
            // SAFETY: As above.
            dt_flags_mask: unsafe { (*caller).dt_flags_mask },
        },
        caller,
        file,
    };
    // SAFETY: A live lower directory. The pointer is to the whole filter, whose first field is the
    // context.
    let err = unsafe { c::iterate_dir(lower.as_ptr(), (&raw mut filter).cast()) };
    // SAFETY: As above.
    unsafe { (*caller).pos = filter.context.pos };
    to_result(err)
}

/// # Safety
///
/// Called by iterate_dir() within [`filtered`]: `context` is the first field of a [`Filter`], and
/// `name` has `length` bytes.
unsafe extern "C" fn emit(
    context: *mut c::dir_context,
    name: *const c_char,
    length: c_int,
    pos: i64,
    inode: u64,
    kind: c_uint,
) -> bool {
    let filter = context.cast::<Filter>();
    // SAFETY: The context is the first field of a filter.
    let (caller, file) = unsafe { ((*filter).caller, (*filter).file) };
    // SAFETY: The file of the call that is going on.
    let file = unsafe { UpperFile::from_raw(file) };
    let len = usize::try_from(length).unwrap_or(0);
    // SAFETY: The lower filesystem passes a name of that length.
    let bytes = unsafe { core::slice::from_raw_parts(name.cast::<u8>(), len) };
    if <Fs as DirectoryHooks>::hides(file, bytes) {
        return true;
    }
    // SAFETY: The VFS's context, live during the call.
    unsafe { (*caller).pos = (*context).pos };
    // SAFETY: As above.
    match unsafe { (*caller).actor } {
        // SAFETY: The VFS's actor, called as the lower filesystem would.
        Some(actor) => unsafe { actor(caller, name, length, pos, inode, kind) },
        None => false,
    }
}
