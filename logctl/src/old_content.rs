// SPDX-License-Identifier: MIT OR Apache-2.0

//! The content and attributes that an object had, as the kernel reads them.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{openat, MemfdFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, Refusal};
use crate::object::Object;
use crate::uapi::{ReadPast, Reason, VERSION};
use loggerfs_log::plan::{Access, Kind, Records, Times};
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
    /// Modification and access time.
    pub times: Option<Times>,
    /// The extended attributes, ACLs among them.
    pub xattrs: Vec<Xattr>,
    /// The number of the newest operation that is included; 0: none is known.
    pub newest: u64,
}

/// The name and the value of an extended attribute.
pub type Xattr = (Vec<u8>, Vec<u8>);

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
    let file = TemporaryDir::usual().file().map_err(Error::Output)?;
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
    let mut found = OldContent {
        file: None,
        size: request.size,
        kind: request.kind,
        access: None,
        times: None,
        xattrs: Vec::new(),
        newest: request.newest,
    };
    let records = Records::new(attributes).into_iter();
    for record in records.flat_map(Records::last_ones) {
        // Without a value: there was none.
        let Some(value) = record.value else { continue };
        let name: &[u8] = match record.kind {
            Kind::Access => {
                found.access = Access::decode(value);
                continue;
            }
            Kind::Times => {
                found.times = Times::decode(value);
                continue;
            }
            Kind::Flags => continue,
            // XFS shows root each ACL under a second name, which no line has.
            Kind::Xattr if record.name.starts_with(b"trusted.SGI_ACL_") => continue,
            Kind::Xattr => record.name,
            Kind::AccessAcl => b"system.posix_acl_access",
            Kind::DefaultAcl => b"system.posix_acl_default",
        };
        found.xattrs.push((name.to_vec(), value.to_vec()));
    }
    found
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

/// The directory for files without a name. It is opened once, so that its path is not looked up again.
pub struct TemporaryDir(Option<OwnedFd>);

impl TemporaryDir {
    /// The usual one.
    pub fn usual() -> Self {
        Self(open_directory(&std::env::temp_dir()))
    }

    /// The first of the usual ones that is not on the filesystem `device`.
    pub fn outside(device: u64) -> Self {
        let dirs = [std::env::temp_dir(), "/var/tmp".into(), "/tmp".into()];
        let is_outside = |dir: &PathBuf| dir.metadata().is_ok_and(|found| found.dev() != device);
        let found = dirs.into_iter().find(is_outside);
        Self(found.and_then(|dir| open_directory(&dir)))
    }

    /// An empty file without a name: on disk where that is possible, since it may be large.
    pub fn file(&self) -> io::Result<File> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let on_disk = self.0.as_ref().map(|dir| openat(dir, ".", flags, mode));
        match on_disk {
            Some(Ok(file)) => Ok(file.into()),
            _ => in_memory(),
        }
    }
}

/// An empty file in memory.
pub fn in_memory() -> io::Result<File> {
    Ok(rustix::fs::memfd_create("logctl", MemfdFlags::CLOEXEC)?.into())
}

fn open_directory(path: &Path) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).ok()
}
