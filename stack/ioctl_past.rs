// SPDX-License-Identifier: GPL-2.0

//! IOC_READ_PAST: reads the content and attributes of an object as of an operation.

use crate::{
    log::types::ObjectId,
    revert::past,
    uapi::ReadPast,
    vfs::{
        file::{OutputFile, UpperFile},
        uaccess,
    },
};
use kernel::prelude::*;

/// Reads the old state that the request names.
#[inline(never)]
pub(super) fn read(file: &UpperFile, argument: usize) -> Result<c_long> {
    let mut request: ReadPast = uaccess::read(argument)?;
    if !request.is_valid() {
        return Err(EINVAL);
    }
    let output = match c_uint::try_from(request.output) {
        Ok(descriptor) => Some(OutputFile::of_descriptor(descriptor)?),
        Err(_) => None,
    };
    let object = (request.inode != 0).then_some(ObjectId {
        volume: request.volume,
        inode: request.inode,
        generation: request.generation,
    });
    let answered = match past::read(file, object, request.seq, output.as_ref()) {
        Ok(state) => {
            request.size = state.size;
            request.written = state.written;
            request.newest = state.newest;
            request.kind = state.kind;
            copy_attributes(&mut request, &state.attributes)
        }
        Err(refusal) => {
            request.reason = refusal.reason.code();
            request.blocking_seq = refusal.seq;
            Err(refusal.error)
        }
    };
    uaccess::write(argument, &request)?;
    answered.map(|()| 0)
}

/// Copies the attributes to the caller's buffer, if they fit.
fn copy_attributes(request: &mut ReadPast, attributes: &[u8]) -> Result {
    request.used = u32::try_from(attributes.len()).map_err(|_| E2BIG)?;
    if request.used > request.capacity {
        return Err(ERANGE);
    }
    let to = usize::try_from(request.attributes).map_err(|_| EFAULT)?;
    uaccess::write_bytes(to, attributes)
}
