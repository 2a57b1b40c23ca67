// SPDX-License-Identifier: MIT OR Apache-2.0

//! The ioctls themselves: the only `unsafe` here.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;
use rustix::ioctl::{ioctl, Opcode, Updater};

use crate::uapi::{
    Conflict, Operation, PlaceMark, ReadHistory, ReadLog, ReadPast, Revert, RevertGroup, Status,
    IOC_MARK, IOC_READLOG, IOC_READ_HISTORY, IOC_READ_PAST, IOC_REVERT_GROUP, IOC_REVERT_SOME,
    IOC_STATUS,
};

/// Takes operations back. The reply is in `request`, also where the call fails.
pub fn revert(fd: BorrowedFd<'_>, request: &mut Revert) -> Result<(), Errno> {
    // CAST: `Opcode` has at least 32 bits.
    // SAFETY: This command reads and writes one `Revert`, and nothing else of ours.
    unsafe {
        ioctl(
            fd,
            Updater::<{ IOC_REVERT_SOME as Opcode }, Revert>::new(request),
        )
    }
}

/// Reads lines into `buffer`. The reply is in `request`.
pub fn read_log(fd: BorrowedFd<'_>, request: &mut ReadLog, buffer: &mut [u8]) -> Result<(), Errno> {
    // CAST: An address fits into 64 bits on every architecture.
    request.buffer = buffer.as_mut_ptr().expose_provenance() as u64;
    request.length = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
    // CAST: `Opcode` has at least 32 bits.
    // SAFETY:
    // * This command reads and writes one `ReadLog`.
    // * Beside it, it writes at most `length` bytes at `buffer`, which is borrowed for writing
    //   until it returns.
    unsafe {
        ioctl(
            fd,
            Updater::<{ IOC_READLOG as Opcode }, ReadLog>::new(request),
        )
    }
}

/// Queries the state of a file and its mount. The reply is in `request`.
pub fn status(fd: BorrowedFd<'_>, request: &mut Status) -> Result<(), Errno> {
    // CAST: `Opcode` has at least 32 bits.
    // SAFETY: This command reads and writes one `Status`, and nothing else of ours.
    unsafe {
        ioctl(
            fd,
            Updater::<{ IOC_STATUS as Opcode }, Status>::new(request),
        )
    }
}

/// Reads lines of the whole mount into `buffer`. The reply is in `request`.
pub fn read_history(
    fd: BorrowedFd<'_>,
    request: &mut ReadHistory,
    buffer: &mut [u8],
) -> Result<(), Errno> {
    // CAST: An address fits into 64 bits on every architecture.
    request.buffer = buffer.as_mut_ptr().expose_provenance() as u64;
    request.length = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
    // CAST: `Opcode` has at least 32 bits.
    // SAFETY:
    // * This command reads and writes one `ReadHistory`.
    // * Beside it, it writes at most `length` bytes at `buffer`, which is borrowed for writing
    //   until it returns.
    unsafe {
        ioctl(
            fd,
            Updater::<{ IOC_READ_HISTORY as Opcode }, ReadHistory>::new(request),
        )
    }
}

/// Takes operations of any objects of the mount back. The reply is in `request` and `conflicts`, also
/// where the call fails.
pub fn revert_group(
    fd: BorrowedFd<'_>,
    request: &mut RevertGroup,
    operations: &[Operation],
    conflicts: &mut [Conflict],
) -> Result<(), Errno> {
    // CAST: Addresses and lengths fit into 64 bits on every architecture.
    request.operations = operations.as_ptr().expose_provenance() as u64;
    request.count = operations.len() as u64;
    request.conflicts = conflicts.as_mut_ptr().expose_provenance() as u64;
    request.capacity = u32::try_from(conflicts.len()).unwrap_or(u32::MAX);
    // CAST: `Opcode` has at least 32 bits.
    // SAFETY:
    // * This command reads and writes one `RevertGroup`.
    // * Beside it, it reads `count` operations, and writes at most `capacity` conflicts, which are plain
    //   numbers; both are borrowed until it returns.
    unsafe {
        ioctl(
            fd,
            Updater::<{ IOC_REVERT_GROUP as Opcode }, RevertGroup>::new(request),
        )
    }
}

/// Reads the state that an object had: its content into `output`, its attributes into `attributes`. The reply
/// is in `request`, also where the call fails.
pub fn read_past(
    fd: BorrowedFd<'_>,
    request: &mut ReadPast,
    output: Option<BorrowedFd<'_>>,
    attributes: &mut [u8],
) -> Result<(), Errno> {
    request.output = output.map_or(ReadPast::NO_OUTPUT, |output| output.as_raw_fd());
    // CAST: An address fits into 64 bits on every architecture.
    request.attributes = attributes.as_mut_ptr().expose_provenance() as u64;
    request.capacity = u32::try_from(attributes.len()).unwrap_or(u32::MAX);
    // CAST: `Opcode` has at least 32 bits.
    // SAFETY:
    // * This command reads and writes one `ReadPast`.
    // * Beside it, it writes at most `capacity` bytes at `attributes`, which is borrowed for writing until it
    //   returns, and to the file behind `output`, which is open as long.
    unsafe {
        ioctl(
            fd,
            Updater::<{ IOC_READ_PAST as Opcode }, ReadPast>::new(request),
        )
    }
}

/// Gives the present place of the history a name. The reply is in `request`.
pub fn place_mark(
    fd: BorrowedFd<'_>,
    request: &mut PlaceMark,
    name: &[u8],
    message: &[u8],
) -> Result<(), Errno> {
    // CAST: An address fits into 64 bits on every architecture.
    request.name = name.as_ptr().expose_provenance() as u64;
    request.name_length = u32::try_from(name.len()).unwrap_or(u32::MAX);
    request.message = message.as_ptr().expose_provenance() as u64;
    request.message_length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    // CAST: `Opcode` has at least 32 bits.
    // SAFETY:
    // * This command reads and writes one `PlaceMark`.
    // * Beside it, it reads `name_length` bytes at `name` and `message_length` bytes at `message`, which are
    //   borrowed until it returns.
    unsafe {
        ioctl(
            fd,
            Updater::<{ IOC_MARK as Opcode }, PlaceMark>::new(request),
        )
    }
}
