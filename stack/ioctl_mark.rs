// SPDX-License-Identifier: GPL-2.0

//! IOC_MARK: gives the present place of the history a name.

use crate::{
    log::line::{is_mark_message, is_mark_name},
    record::{place_mark, MarkFields},
    uapi::PlaceMark,
    vfs::{error::ENODATA, file::UpperFile, uaccess},
};
use kernel::prelude::*;

/// Places a mark in the directory that is open, and makes it durable.
#[inline(never)]
pub(super) fn place(file: &UpperFile, argument: usize) -> Result<c_long> {
    let mut request: PlaceMark = uaccess::read(argument)?;
    if !request.is_valid() {
        return Err(EINVAL);
    }
    // A faulting reply buffer is detected before anything is changed.
    uaccess::write(argument, &request)?;
    let name = text(request.name, request.name_length)?;
    let message = text(request.message, request.message_length)?;
    if !is_mark_name(&name) || !is_mark_message(&message) {
        return Err(EINVAL);
    }
    let directory = file.upper_inode();
    if !directory.is_directory() {
        return Err(ENOTDIR);
    }
    // As for a change of names: whoever may make one leaves a line, too.
    if !directory.owner_or_capable() {
        directory.may_change_names()?;
    }
    // Waits for a frozen filesystem, and fails with EROFS on a read-only mount. Held until the line is staged:
    // ->freeze_fs() flushes the journal, and no line may be staged after it.
    let writing = file.want_write()?;
    let journal = directory.mount().journal().ok_or(ENODATA)?;
    let mark = MarkFields {
        name: &name,
        message: &message,
        is_run: request.flags & PlaceMark::RUN != 0,
    };
    request.seq = place_mark(journal, directory, &mark)?;
    // A flush may take long, and stages nothing.
    drop(writing);
    journal.flush_killable(true)?;
    uaccess::write(argument, &request)?;
    Ok(0)
}

/// Copies a text of the caller's.
fn text(address: u64, length: u32) -> Result<KVVec<u8>> {
    if length == 0 {
        return Ok(KVVec::new());
    }
    let address = usize::try_from(address).map_err(|_| EFAULT)?;
    uaccess::read_all(address, u64::from(length))
}
