// SPDX-License-Identifier: MIT OR Apache-2.0

//! A mount: where its root is, and its tree.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::{fs, io};

use rustix::fs::{Mode, OFlags};

use crate::error::Error;
use crate::paths::{PathState, Tree};
use crate::verify::crc32c;

/// A mount that exists.
pub struct Mount {
    /// Its root.
    pub root: PathBuf,
    inode: u64,
    device: u64,
}

impl Mount {
    /// The mount of a path. For a path that does not exist, the mount of its nearest existing
    /// directory.
    pub fn holding(path: &Path) -> Result<Self, Error> {
        let absolute = absolute(path).map_err(|error| open_error(path, &error))?;
        let mut at = absolute.as_path();
        let (mut root, held) = loop {
            match fs::symlink_metadata(at) {
                Ok(held) => break (at, held),
                Err(error) => at = at.parent().ok_or_else(|| open_error(path, &error))?,
            }
        };
        let mut inode = held.ino();
        while let Some(parent) = root.parent() {
            match fs::symlink_metadata(parent) {
                Ok(above) if above.dev() == held.dev() => (root, inode) = (parent, above.ino()),
                _ => break,
            }
        }
        Ok(Self {
            root: root.to_owned(),
            inode,
            device: held.dev(),
        })
    }
}

fn open_error(path: &Path, error: &io::Error) -> Error {
    Error::Open {
        path: path.to_owned(),
        to_change: false,
        errno: rustix::io::Errno::from_io_error(error).unwrap_or(rustix::io::Errno::IO),
    }
}

/// A path without symbolic links in its directories; the last component is not resolved.
pub fn absolute(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let Some(name) = path.file_name() else {
        return path.canonicalize();
    };
    let parent = path.parent().unwrap_or(Path::new("/"));
    // The directory of a removed file may be removed, too.
    let mut missing = vec![name];
    let mut at = parent;
    let base = loop {
        match at.canonicalize() {
            Ok(base) => break base,
            Err(error) => match (at.file_name(), at.parent()) {
                (Some(name), Some(parent)) => {
                    missing.push(name);
                    at = parent;
                }
                _ => return Err(error),
            },
        }
    };
    let mut whole = base;
    whole.extend(missing.iter().rev());
    Ok(lexical(&whole))
}

/// A path without `.` and `..`.
fn lexical(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir => {}
            part => clean.push(part),
        }
    }
    clean
}

impl Tree for Mount {
    fn root(&self) -> u64 {
        self.inode
    }

    fn find(&self, wanted: &HashSet<u64>) -> HashMap<u64, PathBuf> {
        let mut found = HashMap::new();
        let mut stack = vec![PathBuf::new()];
        while let Some(directory) = stack.pop() {
            // Entries that cannot be read are not found.
            let Ok(entries) = fs::read_dir(self.root.join(&directory)) else {
                continue;
            };
            for entry in entries.flatten() {
                let path = directory.join(entry.file_name());
                let Ok(metadata) = entry.metadata() else {
                    continue;
                };
                if metadata.dev() != self.device {
                    continue;
                }
                if wanted.contains(&metadata.ino()) {
                    found.entry(metadata.ino()).or_insert_with(|| path.clone());
                }
                if found.len() == wanted.len() {
                    return found;
                }
                if metadata.is_dir() {
                    stack.push(path);
                }
            }
        }
        found
    }

    fn look(&self, path: &Path) -> PathState {
        match fs::symlink_metadata(self.root.join(path)) {
            Ok(found) => PathState::There {
                inode: found.ino(),
                size: found.is_file().then_some(found.len()),
            },
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => PathState::Gone,
                _ => PathState::Unknown,
            },
        }
    }

    fn sum(&self, path: &Path, offset: u64, length: u64) -> Option<u32> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = rustix::fs::open(self.root.join(path), flags, Mode::empty()).ok()?;
        let mut file = fs::File::from(file);
        file.seek(SeekFrom::Start(offset)).ok()?;
        let (mut left, mut state) = (length, !0);
        let mut buffer = vec![0; 1 << 16];
        while left != 0 {
            let most = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            let read = file
                .read(&mut buffer[..most])
                .ok()
                .filter(|read| *read != 0)?;
            state = crc32c(state, &buffer[..read]);
            left -= read as u64;
        }
        Some(!state)
    }
}
