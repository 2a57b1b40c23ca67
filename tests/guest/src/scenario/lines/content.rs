// SPDX-License-Identifier: GPL-2.0

//! Operations that change the content or size of a file, and those that do not.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;

use rustix::pipe::SpliceFlags;

use super::{LineCase, LinePlace, SIZE};
use crate::sys::{self, Map, Ring};

const KEEP_SIZE: i32 = 1;
const PUNCH: i32 = 2;
const COLLAPSE: i32 = 8;
const ZERO: i32 = 16;
const INSERT: i32 = 32;

pub const CASES: &[LineCase] = &[
    LineCase::new("write", |p| put(p, 0, 50, 100), &["f: write 50 100"]),
    LineCase::new(
        "write across the end",
        |p| put(p, 0, 20_000, 1000),
        &["f: write 20000 1000"],
    ),
    LineCase::new(
        "write behind the end",
        |p| put(p, 0, 30_000, 100),
        &["f: write 30000 100"],
    ),
    LineCase::new(
        "append",
        |p| put(p, libc::O_APPEND, 0, 100),
        &["f: write 20480 100"],
    ),
    LineCase::new(
        "synchronous write",
        |p| put(p, libc::O_SYNC, 50, 100),
        &["f: write 50 100"],
    ),
    LineCase::new("direct write", direct, &["f: write 4096 4096"]),
    LineCase::new("io_uring", io_uring, &["f: write 70 900"]),
    LineCase::new("aio", aio, &["f: write 70 900"]),
    LineCase::new("splice", |p| splice(p, 0), &["f: write 300 5000"]),
    LineCase::new("sendfile", sendfile, &["f: write 0 3000"]),
    LineCase::new("copy_file_range", copy, &["f: copy 100 3000"]),
    LineCase::new("clone", clone, &["f: clone 0 20480"]).optional(),
    LineCase::new(
        "truncate",
        |p| sys::truncate(&c_path(p, "f")?, 5000),
        &["f: truncate 5000 15480"],
    ),
    LineCase::new(
        "truncate to more",
        |p| sys::truncate(&c_path(p, "f")?, 30_000),
        &["f: truncate 20480 9520"],
    ),
    LineCase::new(
        "ftruncate",
        |p| p.open("f")?.set_len(5000),
        &["f: truncate 5000 15480"],
    ),
    LineCase::new(
        "O_TRUNC",
        |p| fs::write(p.path("f"), "new"),
        &["f: truncate 0 20480", "f: write 0 3"],
    ),
    LineCase::new(
        "O_CREAT",
        |p| fs::write(p.path("new"), "new"),
        &[".: create 0 0 new", "new: write 0 3"],
    ),
    LineCase::new(
        "fallocate",
        |p| allocate(p, 0, 20_480, 4096),
        &["f: allocate 20480 4096"],
    ),
    LineCase::new(
        "fallocate, keep size",
        |p| allocate(p, KEEP_SIZE, 20_480, 4096),
        &["f: allocate 20480 4096"],
    ),
    LineCase::new(
        "punch a hole",
        |p| allocate(p, PUNCH | KEEP_SIZE, 4096, 8192),
        &["f: punch 4096 8192"],
    ),
    LineCase::new(
        "zero a range",
        |p| allocate(p, ZERO, 4096, 8192),
        &["f: zero 4096 8192"],
    )
    .optional(),
    LineCase::new(
        "collapse a range",
        |p| allocate(p, COLLAPSE, 4096, 8192),
        &["f: collapse 4096 8192"],
    )
    .optional(),
    LineCase::new(
        "insert a range",
        |p| allocate(p, INSERT, 4096, 8192),
        &["f: insert 4096 8192"],
    )
    .optional(),
    LineCase::new("mmap", shared_map, &["f: mmap 4096 4096"]),
];

/// A file gets set-id bits, which is the first line. A user without the right to keep them changes the file:
/// clearing the bits has a line of its own, before that of the change, unless one lower call does both.
pub const STRIPPING: &[LineCase] = &[
    LineCase::new(
        "write",
        |p| by_another(p, "write"),
        &["f: setattr 0 0", "f: setattr 0 0", "f: write 0 100"],
    ),
    LineCase::new(
        "splice",
        |p| by_another(p, "splice"),
        &["f: setattr 0 0", "f: setattr 0 0", "f: write 0 100"],
    ),
    LineCase::new(
        "fallocate",
        |p| by_another(p, "allocate"),
        &["f: setattr 0 0", "f: setattr 0 0", "f: allocate 20480 100"],
    ),
    LineCase::new(
        "copy_file_range",
        |p| by_another(p, "copy"),
        &["f: setattr 0 0", "f: setattr 0 0", "f: copy 0 100"],
    ),
    LineCase::new(
        "truncate",
        |p| by_another(p, "truncate"),
        &["f: setattr 0 0", "f: truncate 100 20380", "f: setattr 0 0"],
    ),
];

/// Calls without effect leave no line.
pub const NOTHING: &[LineCase] = &[
    LineCase::new("reading", reading, &[]),
    LineCase::new("writing nothing", |p| put(p, 0, 50, 0), &[]),
    LineCase::new("opening for writing", |p| p.open("f").map(drop), &[]),
    LineCase::new(
        "writing through a descriptor for reading",
        |p| refused(File::open(p.path("f"))?.write_at(b"x", 0)),
        &[],
    ),
    LineCase::new("a private mapping", private_map, &[]),
    LineCase::new(
        "names that are taken, or not there",
        |p| {
            refused(fs::create_dir(p.path("f")))?;
            refused(fs::hard_link(p.path("f"), p.path("g")))?;
            refused(File::create_new(p.path("f")))?;
            refused(fs::remove_file(p.path("none")))?;
            refused(fs::remove_dir(p.path("full")))?;
            refused(fs::rename(p.path("none"), p.path("f")))?;
            refused(fs::rename(p.path("empty"), p.path("full")))
        },
        &[],
    ),
    LineCase::new(
        "the access time alone",
        |p| p.sh("touch -a -d 2001-02-03 f"),
        &[],
    ),
];

/// Calls that must fail have failed.
fn refused<T>(result: io::Result<T>) -> io::Result<()> {
    match result {
        Ok(_) => Err(io::Error::other("what must fail succeeded")),
        Err(_) => Ok(()),
    }
}

/// All bytes were taken.
fn whole(written: usize, wanted: usize) -> io::Result<()> {
    if written == wanted {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "{written} bytes of {wanted} were taken"
    )))
}

fn c_path(p: &LinePlace, name: &str) -> io::Result<std::ffi::CString> {
    Ok(std::ffi::CString::new(p.path(name).as_os_str().as_bytes())?)
}

/// Opens `f` for writing only.
fn writer(p: &LinePlace, flags: i32) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).custom_flags(flags).open(p.path("f"))
}

fn put(p: &LinePlace, flags: i32, offset: u64, length: usize) -> io::Result<()> {
    let bytes = vec![b'w'; length];
    let mut file = writer(p, flags)?;
    let written = if flags & libc::O_APPEND != 0 {
        file.write(&bytes)?
    } else {
        file.write_at(&bytes, offset)?
    };
    whole(written, length)
}

fn direct(p: &LinePlace) -> io::Result<()> {
    let mut memory = Map::anonymous(4096)?;
    let written = writer(p, libc::O_DIRECT)?.write_at(memory.bytes(), 4096)?;
    whole(written, 4096)
}

fn io_uring(p: &LinePlace) -> io::Result<()> {
    whole(Ring::new()?.write(&p.open("f")?, &[b'u'; 900], 70, 0)?, 900)
}

fn aio(p: &LinePlace) -> io::Result<()> {
    whole(sys::aio_write(&p.open("f")?, &[b'a'; 900], 70)?, 900)
}

/// 5000 bytes through a pipe to byte 300 of `f`, opened with these flags.
pub fn splice(p: &LinePlace, flags: i32) -> io::Result<()> {
    spliced(&writer(p, flags)?, 300, 5000)
}

/// Bytes through a pipe to a file, by one call.
pub fn spliced(file: &File, offset: u64, length: usize) -> io::Result<()> {
    let (from, to) = rustix::pipe::pipe()?;
    File::from(to).write_all(&vec![b's'; length])?;
    let (mut at, none) = (offset, SpliceFlags::empty());
    let moved = rustix::pipe::splice(&from, None, file, Some(&mut at), length, none)?;
    whole(moved, length)
}

fn sendfile(p: &LinePlace) -> io::Result<()> {
    let from = File::open(p.path("g"))?;
    let sent = rustix::fs::sendfile(p.open("f")?, &from, None, 3000)?;
    whole(sent, 3000)
}

fn copy(p: &LinePlace) -> io::Result<()> {
    copied(&p.open("g")?, &p.open("f")?, (0, 100), 3000)
}

/// Bytes from one offset of a file to another offset of another file, by one call.
pub fn copied(from: &File, to: &File, at: (u64, u64), length: usize) -> io::Result<()> {
    let (mut start, mut end) = at;
    let n = rustix::fs::copy_file_range(from, Some(&mut start), to, Some(&mut end), length)?;
    whole(n, length)
}

fn clone(p: &LinePlace) -> io::Result<()> {
    Ok(rustix::fs::ioctl_ficlone(p.open("f")?, p.open("g")?)?)
}

fn allocate(p: &LinePlace, mode: i32, offset: i64, length: i64) -> io::Result<()> {
    sys::fallocate(&p.open("f")?, mode, offset, length)
}

fn shared_map(p: &LinePlace) -> io::Result<()> {
    let mut map = Map::of(&p.open("f")?, SIZE, true, true)?;
    map.store(5000, b"through memory");
    Ok(())
}

fn private_map(p: &LinePlace) -> io::Result<()> {
    let mut map = Map::of(&p.open("f")?, SIZE, false, true)?;
    map.store(5000, b"for itself");
    Map::of(&File::open(p.path("f"))?, SIZE, true, false).map(drop)
}

fn reading(p: &LinePlace) -> io::Result<()> {
    let mut file = File::open(p.path("f"))?;
    file.read_to_end(&mut Vec::new())?;
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(0))?;
    p.sh("ls -la . full > /dev/null; stat f > /dev/null; getfacl -p f g > /dev/null; cat full/x > /dev/null")
}

/// Another process changes `f`, in one of the ways of `work.rs`.
fn by_another(p: &LinePlace, how: &str) -> io::Result<()> {
    // A private tmpfs is accessible to root only at first.
    fs::set_permissions(&p.fixture.mnt, PermissionsExt::from_mode(0o755))?;
    fs::set_permissions(p.path("f"), PermissionsExt::from_mode(0o6777))?;
    let mut child = p.fixture.worker(&["change", "f", how]);
    child.current_dir(&p.root).uid(2001).gid(2001);
    let status = child.status()?;
    match status.code() {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(errno)),
        None => Err(io::Error::other(status.to_string())),
    }
}
