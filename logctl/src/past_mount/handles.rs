// SPDX-License-Identifier: MIT OR Apache-2.0

//! Open files and directories of a view, and the answers to requests on them.

use std::collections::HashMap;
use std::ffi::c_int;
use std::fs::File;
use std::os::unix::fs::FileExt;

use fuser::{ReplyData, ReplyEmpty, ReplyLseek, ReplyXattr};
use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// What the kernel has open, by the numbers that it was given.
pub struct Handles<H> {
    open: HashMap<u64, H>,
    last: u64,
}

impl<H> Default for Handles<H> {
    fn default() -> Self {
        Self {
            open: HashMap::new(),
            last: 0,
        }
    }
}

impl<H> Handles<H> {
    /// Adds one, and returns its number.
    pub fn keep(&mut self, handle: H) -> u64 {
        self.last += 1;
        self.open.insert(self.last, handle);
        self.last
    }

    /// The one with a number.
    pub fn get(&self, number: u64) -> Option<&H> {
        self.open.get(&number)
    }

    /// The one with a number, to be changed.
    pub fn get_mut(&mut self, number: u64) -> Option<&mut H> {
        self.open.get_mut(&number)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &H> {
        self.open.values()
    }

    /// Closes one.
    pub fn release(&mut self, number: u64, reply: ReplyEmpty) {
        self.open.remove(&number);
        reply.ok();
    }
}

/// An error in the form of FUSE.
pub fn code(errno: Errno) -> c_int {
    errno.raw_os_error()
}

/// Answers a request for a part of a file.
pub fn answer_read(file: Result<&File, &Errno>, offset: i64, size: u32, reply: ReplyData) {
    let mut buffer = vec![0; usize::try_from(size).unwrap_or(0)];
    let offset = u64::try_from(offset).unwrap_or(0);
    let read = file.map_err(|errno| *errno);
    match read.and_then(|file| read_at(file, &mut buffer, offset).map_err(|_| Errno::IO)) {
        Ok(length) => reply.data(&buffer[..length]),
        Err(errno) => reply.error(code(errno)),
    }
}

/// Answers a request for the next data or hole of a file.
pub fn answer_lseek(file: Result<&File, &Errno>, offset: i64, whence: i32, reply: ReplyLseek) {
    let file = file.map_err(|errno| *errno);
    match file.and_then(|file| seek(file, offset, whence)) {
        Ok(to) => reply.offset(to),
        Err(errno) => reply.error(code(errno)),
    }
}

/// Answers a request for a value, or for its length.
pub fn answer(value: Result<Vec<u8>, Errno>, size: u32, reply: ReplyXattr) {
    match value.map(|value| (u32::try_from(value.len()), value)) {
        Ok((Ok(length), _)) if size == 0 => reply.size(length),
        Ok((Ok(length), value)) if length <= size => reply.data(&value),
        Ok(_) => reply.error(code(Errno::RANGE)),
        Err(errno) => reply.error(code(errno)),
    }
}

/// Where the next data or hole of a file is.
fn seek(file: &File, offset: i64, whence: i32) -> Result<i64, Errno> {
    const SEEK_DATA: i32 = 3;
    const SEEK_HOLE: i32 = 4;
    let from = u64::try_from(offset).unwrap_or(u64::MAX);
    let to = match whence {
        SEEK_DATA => rustix::fs::seek(file, SeekFrom::Data(from)),
        SEEK_HOLE => rustix::fs::seek(file, SeekFrom::Hole(from)),
        _ => Err(Errno::INVAL),
    };
    to.map(|to| i64::try_from(to).unwrap_or(i64::MAX))
}

/// Reads until the buffer is full or the file ends.
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read_at(&mut buffer[length..], offset + length as u64) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}
