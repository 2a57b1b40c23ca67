// SPDX-License-Identifier: MIT OR Apache-2.0

//! A file on a LoggerFS mount, and its requests.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::Error;
use crate::ioctl;
use crate::uapi::{
    Conflict, Operation, PlaceMark, ReadHistory, ReadLog, ReadPast, Revert, RevertGroup, Status,
};

/// The requests on the history of a file. Tests implement this trait in place of the kernel.
pub trait Object {
    /// Takes operations back. The reply is in `request`, also on failure.
    fn revert(&mut self, request: &mut Revert) -> Result<(), Errno>;

    /// Reads lines into `buffer`, newest first. The reply is in `request`.
    fn read_log(&mut self, request: &mut ReadLog, buffer: &mut [u8]) -> Result<(), Errno>;

    /// Queries the state of the file and its mount. The reply is in `request`.
    fn status(&mut self, request: &mut Status) -> Result<(), Errno>;

    /// Reads lines of the whole mount into `buffer`. The reply is in `request`.
    fn read_history(&mut self, request: &mut ReadHistory, buffer: &mut [u8]) -> Result<(), Errno>;

    /// Takes operations of any objects of the mount back. The reply is in `request` and `conflicts`, also on
    /// failure.
    fn revert_group(
        &mut self,
        request: &mut RevertGroup,
        operations: &[Operation],
        conflicts: &mut [Conflict],
    ) -> Result<(), Errno>;

    /// Reads an old state: its content into `output`, if there is one, and its attributes into a buffer. The
    /// reply is in `request`, also on failure.
    fn read_past(
        &mut self,
        request: &mut ReadPast,
        output: Option<BorrowedFd<'_>>,
        attributes: &mut [u8],
    ) -> Result<(), Errno>;

    /// Gives the present place of the history a name. The object is a directory. The reply is in `request`.
    fn place_mark(
        &mut self,
        request: &mut PlaceMark,
        name: &[u8],
        message: &[u8],
    ) -> Result<(), Errno>;
}

/// A file that is open.
pub struct File(OwnedFd);

impl From<OwnedFd> for File {
    fn from(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }
}

impl File {
    /// Opens a file to look at its history.
    pub fn open_to_look(path: &Path) -> Result<Self, Error> {
        Self::open(path, OFlags::RDONLY)
    }

    /// Opens a file to change its history: for writing, if its type and mode permit that. A file that cannot
    /// be opened for writing may have attributes to take back.
    pub fn open_to_change(path: &Path) -> Result<Self, Error> {
        let result = Self::open(path, OFlags::RDWR);
        let others: &[OFlags] = match &result {
            Err(Error::Open { errno, .. }) => match *errno {
                Errno::ISDIR | Errno::PERM => &[OFlags::RDONLY],
                Errno::ACCESS => &[OFlags::WRONLY, OFlags::RDONLY],
                _ => &[],
            },
            _ => &[],
        };
        others
            .iter()
            .find_map(|access| Self::open(path, *access).ok())
            .map_or(result, Ok)
    }

    /// Opens a file that exists, without waiting for anyone at a pipe's other end.
    fn open(path: &Path, access: OFlags) -> Result<Self, Error> {
        let flags = access | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(fd) => Ok(Self(fd)),
            Err(errno) => Err(Error::Open {
                path: path.to_owned(),
                to_change: access != OFlags::RDONLY,
                errno,
            }),
        }
    }
}

impl Object for File {
    fn revert(&mut self, request: &mut Revert) -> Result<(), Errno> {
        ioctl::revert(self.0.as_fd(), request)
    }

    fn read_log(&mut self, request: &mut ReadLog, buffer: &mut [u8]) -> Result<(), Errno> {
        ioctl::read_log(self.0.as_fd(), request, buffer)
    }

    fn status(&mut self, request: &mut Status) -> Result<(), Errno> {
        ioctl::status(self.0.as_fd(), request)
    }

    fn read_history(&mut self, request: &mut ReadHistory, buffer: &mut [u8]) -> Result<(), Errno> {
        ioctl::read_history(self.0.as_fd(), request, buffer)
    }

    fn revert_group(
        &mut self,
        request: &mut RevertGroup,
        operations: &[Operation],
        conflicts: &mut [Conflict],
    ) -> Result<(), Errno> {
        ioctl::revert_group(self.0.as_fd(), request, operations, conflicts)
    }

    fn read_past(
        &mut self,
        request: &mut ReadPast,
        output: Option<BorrowedFd<'_>>,
        attributes: &mut [u8],
    ) -> Result<(), Errno> {
        ioctl::read_past(self.0.as_fd(), request, output, attributes)
    }

    fn place_mark(
        &mut self,
        request: &mut PlaceMark,
        name: &[u8],
        message: &[u8],
    ) -> Result<(), Errno> {
        ioctl::place_mark(self.0.as_fd(), request, name, message)
    }
}
