// SPDX-License-Identifier: GPL-2.0

//! Operations on names: each is recorded in the log of its directory.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{symlink, FileExt};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, CWD};

use super::{LineCase, LinePlace};

pub const CASES: &[LineCase] = &[
    LineCase::new(
        "create",
        |p| File::create_new(p.path("new")).map(drop),
        &[".: create 0 0 new"],
    ),
    LineCase::new(
        "mkdir",
        |p| fs::create_dir(p.path("new")),
        &[".: mkdir 0 0 new"],
    ),
    LineCase::new(
        "mknod of a pipe",
        |p| node(p, FileType::Fifo, 0),
        &[".: mknod 0 0 new"],
    ),
    LineCase::new(
        "mknod of a socket",
        |p| node(p, FileType::Socket, 0),
        &[".: mknod 0 0 new"],
    ),
    LineCase::new(
        "mknod of a device",
        |p| node(p, FileType::CharacterDevice, rustix::fs::makedev(1, 3)),
        &[".: mknod 0 0 new"],
    ),
    LineCase::new(
        "symlink",
        |p| symlink("f", p.path("new")),
        &[".: symlink 0 0 new"],
    ),
    LineCase::new(
        "link",
        |p| fs::hard_link(p.path("f"), p.path("full/second")),
        &["full: link 0 0 second"],
    ),
    LineCase::new("O_TMPFILE", |p| unnamed(p).map(drop), &[]),
    LineCase::new(
        "O_TMPFILE and linkat",
        named,
        &[
            ".: link 0 0 named",
            "named: write 0 11",
            "named: write 11 6",
        ],
    ),
    LineCase::new(
        "unlink",
        |p| fs::remove_file(p.path("f")),
        &[".: unlink 0 0 f"],
    ),
    LineCase::new(
        "unlink of one of two names",
        |p| {
            fs::hard_link(p.path("f"), p.path("second"))?;
            fs::remove_file(p.path("f"))
        },
        &[".: link 0 0 second", ".: unlink 0 0 f"],
    ),
    LineCase::new(
        "rmdir",
        |p| fs::remove_dir(p.path("empty")),
        &[".: rmdir 0 0 empty"],
    ),
    LineCase::new(
        "rename",
        |p| rename(p, "f", "new", RenameFlags::empty()),
        &[".: rename 0 0 f new"],
    ),
    LineCase::new(
        "rename, not over anything",
        |p| rename(p, "f", "new", RenameFlags::NOREPLACE),
        &[".: rename 0 0 f new"],
    ),
    LineCase::new(
        "rename of a directory",
        |p| rename(p, "full", "new", RenameFlags::empty()),
        &[".: rename 0 0 full new"],
    ),
    LineCase::new(
        "rename over a file",
        |p| rename(p, "f", "g", RenameFlags::empty()),
        &[".: rename 0 0 f g"],
    ),
    LineCase::new(
        "rename over a directory",
        |p| rename(p, "full", "empty", RenameFlags::empty()),
        &[".: rename 0 0 full empty"],
    ),
    LineCase::new(
        "rename to another directory",
        |p| rename(p, "f", "full/new", RenameFlags::empty()),
        &[".: rename 0 0 f new away"],
    ),
    LineCase::new(
        "rename over a file of another directory",
        |p| rename(p, "full/x", "f", RenameFlags::empty()),
        &["full: rename 0 0 x f away"],
    ),
    LineCase::new(
        "exchange",
        |p| rename(p, "f", "g", RenameFlags::EXCHANGE),
        &[".: exchange 0 0 f g"],
    ),
    LineCase::new(
        "exchange between directories",
        |p| rename(p, "f", "full/x", RenameFlags::EXCHANGE),
        &[".: exchange 0 0 f x away"],
    ),
    LineCase::new(
        "rename of a name to itself",
        |p| rename(p, "f", "f", RenameFlags::empty()),
        &[],
    ),
];

fn node(p: &LinePlace, kind: FileType, device: u64) -> io::Result<()> {
    let mode = Mode::from_raw_mode(0o600);
    Ok(rustix::fs::mknodat(CWD, p.path("new"), kind, mode, device)?)
}

fn rename(p: &LinePlace, old: &str, new: &str, flags: RenameFlags) -> io::Result<()> {
    let (old, new) = (p.path(old), p.path(new));
    Ok(rustix::fs::renameat_with(CWD, old, CWD, new, flags)?)
}

/// A file without a name, with content.
fn unnamed(p: &LinePlace) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::TMPFILE;
    let file = File::from(rustix::fs::open(
        &p.root,
        flags,
        Mode::from_raw_mode(0o640),
    )?);
    file.write_all_at(b"no name yet", 0)?;
    Ok(file)
}

fn named(p: &LinePlace) -> io::Result<()> {
    let file = unnamed(p)?;
    let old = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::linkat(CWD, old, CWD, p.path("named"), AtFlags::SYMLINK_FOLLOW)?;
    file.write_all_at(b", one.", 11)
}
