// SPDX-License-Identifier: MIT OR Apache-2.0

//! The ioctls themselves: the only `unsafe` here.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::ioctl::{ioctl, Opcode, Updater};

use crate::uapi::{ReadLog, Revert, Status, IOC_READLOG, IOC_REVERT_SOME, IOC_STATUS};

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

/// Asks how a file and its mount stand. The reply is in `request`.
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
