// SPDX-License-Identifier: MIT OR Apache-2.0

//! The present tree, below an open descriptor of its root: neither another mount on the path nor a symbolic
//! link leads to files elsewhere.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{openat2, readlinkat, statat, AtFlags, Dir, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// The present tree of a mount. All paths are relative to its root.
pub struct PresentTree {
    root: OwnedFd,
    device: u64,
    inode: u64,
    /// Whether it is the root of this process.
    is_own_root: bool,
}

/// A name in a directory.
pub struct PresentEntry {
    /// The name.
    pub name: Vec<u8>,
    /// The inode number of its object.
    pub inode: u64,
    /// The object's mode.
    pub mode: u32,
}

/// How often a path is resolved again, if a rename disturbed the resolution.
const ATTEMPTS: usize = 16;

impl PresentTree {
    /// The tree below a directory.
    pub fn open(root: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(root, flags, Mode::empty())?;
        let found = metadata(root.try_clone()?)?;
        let own = std::fs::metadata("/")?;
        let is_own_root = (own.dev(), own.ino()) == (found.dev(), found.ino());
        Ok(Self {
            root,
            device: found.dev(),
            inode: found.ino(),
            is_own_root,
        })
    }

    /// The device number of its files.
    pub fn device(&self) -> u64 {
        self.device
    }

    /// The inode number of its root.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Whether the mount is attached somewhere. In one that was unmounted while it was busy, no directory is above
    /// the root. A mount that is the root of this process is taken for attached.
    pub fn is_attached(&self) -> bool {
        let id = |path: &str| statat(&self.root, path, AtFlags::empty());
        match id("..") {
            Ok(above) => {
                self.is_own_root || (above.st_dev, above.st_ino) != (self.device, self.inode)
            }
            Err(_) => false,
        }
    }

    /// Opens a path; the last component is not resolved.
    pub fn descriptor(&self, path: &Path, access: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        // openat2(2) accepts no further flags with this one.
        let flags = if access == OFlags::PATH {
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC
        } else {
            flags
        };
        let resolve = ResolveFlags::BENEATH
            | ResolveFlags::NO_SYMLINKS
            | ResolveFlags::NO_MAGICLINKS
            | ResolveFlags::NO_XDEV;
        for _ in 1..ATTEMPTS {
            match openat2(&self.root, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                opened => return opened,
            }
        }
        openat2(&self.root, path, flags, Mode::empty(), resolve)
    }

    /// The attributes of the object at a path, also of a symbolic link.
    pub fn stat(&self, path: &Path) -> Result<Metadata, Errno> {
        let found = metadata(self.descriptor(path, OFlags::PATH)?);
        let found = found.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        match found.dev() == self.device {
            true => Ok(found),
            false => Err(Errno::XDEV),
        }
    }

    /// Opens a file or directory, if it has this inode number.
    pub fn open_inode(&self, path: &Path, inode: u64, access: OFlags) -> Result<OwnedFd, Errno> {
        let opened = self.descriptor(path, access)?;
        match rustix::fs::fstat(&opened)?.st_ino == inode {
            true => Ok(opened),
            false => Err(Errno::NOENT),
        }
    }

    /// The names in a directory with this inode number, each with an inode number. Other filesystems that are
    /// mounted there are left out.
    pub fn entries(&self, path: &Path, inode: u64) -> Result<Vec<(Vec<u8>, u64)>, Errno> {
        let entries = self.listing(path, inode)?.into_iter();
        Ok(entries.map(|entry| (entry.name, entry.inode)).collect())
    }

    /// The same, with modes.
    pub fn listing(&self, path: &Path, inode: u64) -> Result<Vec<PresentEntry>, Errno> {
        let mut entries = Dir::new(self.open_inode(path, inode, OFlags::RDONLY)?)?;
        let mut names = Vec::new();
        while let Some(entry) = entries.read() {
            let name = entry?.file_name().to_owned();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let found = statat(entries.fd()?, &name, AtFlags::SYMLINK_NOFOLLOW);
            if let Ok(found) = found {
                if found.st_dev == self.device {
                    names.push(PresentEntry {
                        name: name.into_bytes(),
                        inode: found.st_ino,
                        mode: found.st_mode,
                    });
                }
            }
        }
        Ok(names)
    }

    /// The target of a symbolic link with this inode number.
    pub fn target(&self, path: &Path, inode: u64) -> Result<Vec<u8>, Errno> {
        let link = self.descriptor(path, OFlags::PATH)?;
        match rustix::fs::fstat(&link)?.st_ino == inode {
            true => Ok(readlinkat(&link, "", Vec::new())?.into_bytes()),
            false => Err(Errno::NOENT),
        }
    }

    /// The paths of all directories that can be listed, by inode number.
    pub fn directories(&self) -> HashMap<u64, PathBuf> {
        let mut found = HashMap::from([(self.inode, PathBuf::new())]);
        let mut stack = vec![(PathBuf::new(), self.inode)];
        while let Some((directory, inode)) = stack.pop() {
            for (name, inode) in self.entries(&directory, inode).unwrap_or_default() {
                let path = directory.join(OsStr::from_bytes(&name));
                let is_directory = self.stat(&path).is_ok_and(|found| found.is_dir());
                if is_directory && !found.contains_key(&inode) {
                    found.insert(inode, path.clone());
                    stack.push((path, inode));
                }
            }
        }
        found
    }
}

fn metadata(descriptor: OwnedFd) -> io::Result<Metadata> {
    File::from(descriptor).metadata()
}
