// SPDX-License-Identifier: MIT OR Apache-2.0

//! Attributes in the form of FUSE.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType};
use rustix::io::Errno;

use crate::old_content::OldContent;

/// The block size that is reported, in bytes.
const BLOCK: u32 = 4096;

/// The attributes of an old state. Those that the history does not record are taken from the present object.
pub fn of_old_content(
    number: u64,
    old: &OldContent,
    present: Option<&Metadata>,
    links: u32,
) -> Result<FileAttr, Errno> {
    let (access, times) = (old.access.ok_or(Errno::IO)?, old.times.ok_or(Errno::IO)?);
    let kind = kind(old.kind);
    let now = present.map_or(0, MetadataExt::size);
    let size = match kind {
        FileType::RegularFile => old.size,
        // The target never changes.
        FileType::Symlink => old.size.max(now),
        _ => now,
    };
    let modified = time(times.modified.0, times.modified.1);
    Ok(FileAttr {
        ino: number,
        size,
        blocks: size.div_ceil(512),
        atime: time(times.accessed.0, times.accessed.1),
        mtime: modified,
        // No line has the change time.
        ctime: modified,
        crtime: UNIX_EPOCH,
        kind,
        perm: permissions(access.mode),
        nlink: if old.is_directory() { 1 } else { links },
        uid: access.uid,
        gid: access.gid,
        rdev: present.map_or(0, device),
        blksize: BLOCK,
        flags: 0,
    })
}

/// The attributes of an object that has not changed.
pub fn of_present(number: u64, present: &Metadata, links: u32) -> FileAttr {
    let nanoseconds = |count: i64| u32::try_from(count).unwrap_or(0);
    FileAttr {
        ino: number,
        size: present.size(),
        blocks: present.blocks(),
        atime: time(present.atime(), nanoseconds(present.atime_nsec())),
        mtime: time(present.mtime(), nanoseconds(present.mtime_nsec())),
        ctime: time(present.ctime(), nanoseconds(present.ctime_nsec())),
        crtime: UNIX_EPOCH,
        kind: kind(present.mode()),
        perm: permissions(present.mode()),
        nlink: if present.is_dir() { 1 } else { links },
        uid: present.uid(),
        gid: present.gid(),
        rdev: device(present),
        blksize: BLOCK,
        flags: 0,
    }
}

/// The attributes of an object in a listing that cannot be read.
pub fn unknown(number: u64) -> FileAttr {
    FileAttr {
        ino: number,
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK,
        flags: 0,
    }
}

fn permissions(mode: u32) -> u16 {
    u16::try_from(mode & 0o7777).unwrap_or(0)
}

/// The device number of a device, as FUSE encodes it: the lower half.
fn device(present: &Metadata) -> u32 {
    u32::try_from(present.rdev() & u64::from(u32::MAX)).unwrap_or(0)
}

/// The kind of an object by its mode.
pub fn kind(mode: u32) -> FileType {
    match rustix::fs::FileType::from_raw_mode(mode) {
        rustix::fs::FileType::Directory => FileType::Directory,
        rustix::fs::FileType::Symlink => FileType::Symlink,
        rustix::fs::FileType::Fifo => FileType::NamedPipe,
        rustix::fs::FileType::Socket => FileType::Socket,
        rustix::fs::FileType::CharacterDevice => FileType::CharDevice,
        rustix::fs::FileType::BlockDevice => FileType::BlockDevice,
        _ => FileType::RegularFile,
    }
}

/// A time by its seconds and nanoseconds since the epoch.
fn time(seconds: i64, nanoseconds: u32) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let at = match seconds < 0 {
        true => UNIX_EPOCH.checked_sub(whole),
        false => UNIX_EPOCH.checked_add(whole),
    };
    let at = at.and_then(|at| at.checked_add(Duration::from_nanos(nanoseconds.into())));
    at.unwrap_or(UNIX_EPOCH)
}
