// SPDX-License-Identifier: MIT OR Apache-2.0

//! Reads the lines of a mount's history from the kernel.

use rustix::io::Errno;

use crate::object::Object;
use crate::uapi::{HistoryLine, ReadHistory};

/// Reads a segment to its end through a buffer, from the request's offset on: lines with their offsets.
pub fn fetch(
    object: &mut dyn Object,
    request: &mut ReadHistory,
    buffer: &mut [u8],
    lines: &mut Vec<(u64, Box<[u8]>)>,
) -> Result<(), Errno> {
    while request.offset != ReadHistory::END {
        fetch_into(buffer, object, request, lines)?;
    }
    Ok(())
}

/// Fetches the next lines of a segment, as many as fit into a small buffer.
pub fn fetch_page(
    object: &mut dyn Object,
    request: &mut ReadHistory,
    lines: &mut Vec<(u64, Box<[u8]>)>,
) -> Result<(), Errno> {
    let mut buffer = vec![0; ReadHistory::LEAST];
    fetch_into(&mut buffer, object, request, lines)
}

fn fetch_into(
    buffer: &mut [u8],
    object: &mut dyn Object,
    request: &mut ReadHistory,
    lines: &mut Vec<(u64, Box<[u8]>)>,
) -> Result<(), Errno> {
    let from = request.offset;
    object.read_history(request, buffer)?;
    take_apart(request, buffer, lines)?;
    // An answer that leads nowhere would be asked for again and again.
    if request.offset <= from {
        return Err(Errno::PROTO);
    }
    Ok(())
}

/// The lines of an answer, with their offsets.
pub fn take_apart(
    request: &ReadHistory,
    buffer: &[u8],
    lines: &mut Vec<(u64, Box<[u8]>)>,
) -> Result<(), Errno> {
    let used = usize::try_from(request.used).unwrap_or(usize::MAX);
    unpack(buffer.get(..used).ok_or(Errno::PROTO)?, lines)
}

/// Takes an answer apart: lines with their offsets.
fn unpack(mut bytes: &[u8], lines: &mut Vec<(u64, Box<[u8]>)>) -> Result<(), Errno> {
    const HEAD: usize = size_of::<HistoryLine>();
    while let Some((head, rest)) = bytes.split_at_checked(HEAD) {
        let (offset, more) = head.split_at(8);
        let offset = u64::from_le_bytes(offset.try_into().map_err(|_| Errno::PROTO)?);
        let length = u32::from_le_bytes(more[..4].try_into().map_err(|_| Errno::PROTO)?);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let line = rest.get(..length).ok_or(Errno::PROTO)?;
        lines.push((offset, line.into()));
        let padded = length.next_multiple_of(8).min(rest.len());
        bytes = &rest[padded..];
    }
    if bytes.is_empty() {
        Ok(())
    } else {
        Err(Errno::PROTO)
    }
}
