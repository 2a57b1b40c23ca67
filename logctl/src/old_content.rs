// SPDX-License-Identifier: MIT OR Apache-2.0

//! The content and attributes that an object had, as the kernel reads them.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{MemfdFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, Refusal};
use crate::object::Object;
use crate::uapi::{ReadPast, Reason, VERSION};
use loggerfs_log::plan::{Access, Kind, Records};
use loggerfs_log::types::ObjectId;

/// The state of an object at a point.
#[derive(Debug)]
pub struct OldContent {
    /// The content of a regular file, at its beginning; `None`: only facts were asked for.
    pub file: Option<File>,
    /// The size of a regular file.
    pub size: u64,
    /// The type bits of the mode.
    pub kind: u32,
    /// Mode and owner.
    pub access: Option<Access>,
    /// The number of the newest operation that is included; 0: none is known.
    pub newest: u64,
}

/// The type bits of a mode.
const TYPE: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;

/// Room for attributes, in bytes; more is asked for where it is not enough.
const ROOM: usize = 4096;

impl OldContent {
    /// Whether the object is a regular file.
    pub fn is_regular(&self) -> bool {
        self.kind & TYPE == REGULAR
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.kind & TYPE == DIRECTORY
    }

    /// The content in memory; `None`: it is longer than `most` bytes.
    pub fn bytes(&mut self, most: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = self.file.as_mut().filter(|_| self.size <= most) else {
            return Ok(None);
        };
        file.rewind()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }
}

/// Reads the facts about an object right after the line numbered `cut`. `path` is for messages.
pub fn facts(
    kernel: &mut dyn Object,
    object: ObjectId,
    cut: u64,
    path: &Path,
) -> Result<OldContent, Error> {
    read(kernel, object, cut, None, path)
}

/// As [`facts`], with the content in a file without a name.
pub fn content(
    kernel: &mut dyn Object,
    object: ObjectId,
    cut: u64,
    path: &Path,
) -> Result<OldContent, Error> {
    let file = nameless().map_err(Error::Output)?;
    into_file(kernel, object, cut, file, path)
}

/// As [`facts`], with the content in an empty file.
pub fn into_file(
    kernel: &mut dyn Object,
    object: ObjectId,
    cut: u64,
    file: File,
    path: &Path,
) -> Result<OldContent, Error> {
    let mut found = read(kernel, object, cut, Some(&file), path)?;
    file.set_len(found.size).map_err(Error::Output)?;
    found.file = Some(file);
    Ok(found)
}

fn read(
    kernel: &mut dyn Object,
    object: ObjectId,
    cut: u64,
    output: Option<&File>,
    path: &Path,
) -> Result<OldContent, Error> {
    let mut attributes = vec![0; ROOM];
    loop {
        let mut request = ReadPast {
            version: VERSION,
            seq: cut,
            volume: object.volume,
            inode: object.inode,
            generation: object.generation,
            ..ReadPast::default()
        };
        let output = output.map(File::as_fd);
        let used = |request: &ReadPast| usize::try_from(request.used).unwrap_or(usize::MAX);
        match kernel.read_past(&mut request, output, &mut attributes) {
            Ok(()) => {
                attributes.truncate(used(&request));
                return Ok(found(&request, &attributes));
            }
            Err(Errno::RANGE) if used(&request) > attributes.len() => {
                attributes.resize(used(&request), 0);
            }
            Err(errno) => return Err(refused(path, errno, &request)),
        }
    }
}

fn found(request: &ReadPast, attributes: &[u8]) -> OldContent {
    let access = Records::new(attributes).ok();
    let access = access.and_then(|records| records.last(Kind::Access)?.value);
    OldContent {
        file: None,
        size: request.size,
        kind: request.kind,
        access: access.and_then(Access::decode),
        newest: request.newest,
    }
}

/// The error of a refused request.
fn refused(path: &Path, errno: Errno, request: &ReadPast) -> Error {
    match Reason::from_code(request.reason) {
        // The module is older than this program.
        None if errno == Errno::NOTTY => Error::Version {
            path: path.to_owned(),
        },
        None | Some(Reason::Io) => Error::from_errno(path, "read the old content of", errno),
        Some(reason) => Error::OldContent(Refusal {
            path: path.to_owned(),
            reason,
            op: (request.blocking_seq != 0).then_some(request.blocking_seq),
        }),
    }
}

/// An empty file without a name: on disk where that is possible, since it may be large.
fn nameless() -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    match rustix::fs::open(std::env::temp_dir(), flags, mode) {
        Ok(file) => Ok(file.into()),
        Err(_) => Ok(rustix::fs::memfd_create("logctl", MemfdFlags::CLOEXEC)?.into()),
    }
}
