// SPDX-License-Identifier: GPL-2.0

//! The calls of programs on files, one after another, with their results. Runs in a process of its
//! own (`lfs-tests work calls`), which may belong to another user, or be confined.

use std::ffi::CStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use rustix::fs::{
    self as rfs, AtFlags, FallocateFlags, Mode, OFlags, RenameFlags, XattrFlags, CWD,
};
use rustix::pipe::{self, SpliceFlags};

use crate::sys::{self, Map};

type CallResult = io::Result<String>;

type Call = fn() -> CallResult;

/// The calls, in their order: later ones use the files of earlier ones.
const CALLS: &[(&str, Call)] = &[
    ("create", create),
    ("write", write),
    ("append", append),
    ("read", read),
    ("read-at", read_at),
    ("vectors", vectors),
    ("truncate", truncate),
    ("truncate-open", truncate_open),
    ("allocate", || allocate(FallocateFlags::KEEP_SIZE)),
    ("punch", || {
        allocate(FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE)
    }),
    ("zero", || allocate(FallocateFlags::ZERO_RANGE)),
    ("seek-hole", seek_hole),
    ("copy-range", copy_range),
    ("clone", clone),
    ("sendfile", sendfile),
    ("splice-in", splice_in),
    ("splice-out", splice_out),
    ("map-read", map_read),
    ("map-write", map_write),
    ("direct", direct),
    ("fsync", || open("f")?.sync_all().map(nothing)),
    ("fdatasync", || open("f")?.sync_data().map(nothing)),
    ("syncfs", || Ok(rfs::syncfs(open("f")?).map(nothing)?)),
    ("advise", advise),
    ("chmod", chmod),
    ("chown", chown),
    ("utimes", utimes),
    ("setxattr", setxattr),
    ("getxattr", getxattr),
    ("listxattr", listxattr),
    ("removexattr", || {
        Ok(rfs::removexattr("f", "user.one").map(nothing)?)
    }),
    ("set-acl", set_acl),
    ("get-acl", get_acl),
    ("get-flags", || {
        Ok(format!(
            "{:x}",
            rfs::ioctl_getflags(&open("f")?)?.bits() & 0xff
        ))
    }),
    ("set-flags", set_flags),
    ("stat", stat),
    ("statfs", || Ok(format!("{}", rfs::statfs(".")?.f_bsize))),
    ("access", || {
        Ok(rfs::access("f", rfs::Access::READ_OK).map(nothing)?)
    }),
    ("mkdir", || fs::create_dir("d").map(nothing)),
    ("list", list),
    ("list-again", || {
        Ok(format!("{}", fs::read_dir("d")?.count()))
    }),
    ("symlink", || Ok(rfs::symlink("f", "s").map(nothing)?)),
    ("readlink", || {
        Ok(format!("{}", fs::read_link("s")?.display()))
    }),
    ("follow", || Ok(format!("{}", fs::metadata("s")?.len()))),
    ("link", || fs::hard_link("f", "d/l").map(nothing)),
    ("mknod", mknod),
    ("rename", || fs::rename("d/l", "d/m").map(nothing)),
    ("rename-over", rename_over),
    ("exchange", exchange),
    ("unlink", || fs::remove_file("s").map(nothing)),
    ("rmdir", rmdir),
    ("unnamed", unnamed),
    ("lock", lock),
    ("execute", execute),
    ("change-directory", change_directory),
];

/// How many calls there are.
pub fn count() -> usize {
    CALLS.len()
}

/// Does all of them in `place` and prints the answers; as user `uid`, confined by `profile` unless
/// that is `-`.
pub fn main(place: &str, uid: u32, profile: &str) -> io::Result<()> {
    std::env::set_current_dir(place)?;
    if profile != "-" {
        fs::write(
            "/proc/thread-self/attr/current",
            format!("changeprofile {profile}"),
        )?;
    }
    if uid != 0 {
        sys::become_user(uid)?;
    }
    let label = fs::read_to_string("/proc/thread-self/attr/current").unwrap_or_default();
    println!("label: {}", label.trim_end());
    println!(
        "forbidden: {}",
        said(File::create("forbidden").map(nothing))
    );
    // Later calls see the directory.
    let _ = fs::remove_file("forbidden");
    for (name, call) in CALLS {
        println!("{name}: {}", said(call()));
    }
    Ok(())
}

fn said<T: Into<String>>(answer: io::Result<T>) -> String {
    match answer {
        Ok(text) => text.into(),
        Err(error) => format!("{error}"),
    }
}

fn nothing<T>(_: T) -> String {
    "done".into()
}

fn open(name: &str) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(name)
}

fn create() -> CallResult {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o666)
        .open("f")?;
    Ok(format!("{:o}", file.metadata()?.mode()))
}

fn write() -> CallResult {
    open("f")?.write_all(&[7; 20_000]).map(nothing)
}

fn append() -> CallResult {
    let mut file = OpenOptions::new().append(true).open("f")?;
    file.write_all(b"the end")?;
    Ok(format!("{}", file.metadata()?.len()))
}

fn read() -> CallResult {
    let mut bytes = Vec::new();
    File::open("f")?.read_to_end(&mut bytes)?;
    Ok(format!("{} {:?}", bytes.len(), bytes.last()))
}

fn read_at() -> CallResult {
    let mut bytes = [0; 7];
    open("f")?.read_exact_at(&mut bytes, 20_000)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn vectors() -> CallResult {
    let file = open("f")?;
    let parts = [io::IoSlice::new(b"one"), io::IoSlice::new(b"two")];
    let written = rustix::io::pwritev(&file, &parts, 100)?;
    let (mut a, mut b) = ([0; 2], [0; 4]);
    let mut into = [io::IoSliceMut::new(&mut a), io::IoSliceMut::new(&mut b)];
    let n = rustix::io::preadv(&file, &mut into, 100)?;
    Ok(format!("{written} {n} {a:?} {b:?}"))
}

fn truncate() -> CallResult {
    sys::truncate(c"f", 12_000).map(nothing)
}

fn truncate_open() -> CallResult {
    open("f")?.set_len(70_000).map(nothing)
}

fn allocate(how: FallocateFlags) -> CallResult {
    Ok(rfs::fallocate(open("f")?, how, 8192, 16_384).map(nothing)?)
}

fn seek_hole() -> CallResult {
    let at = rfs::seek(open("f")?, rfs::SeekFrom::Hole(0))?;
    Ok(format!("{}", at <= 70_000))
}

fn copy_range() -> CallResult {
    let (from, to) = (open("f")?, File::create("copied")?);
    let n = rfs::copy_file_range(&from, None, &to, None, 10_000)?;
    Ok(format!("{n}"))
}

fn clone() -> CallResult {
    Ok(rfs::ioctl_ficlone(File::create("cloned")?, File::open("f")?).map(nothing)?)
}

fn sendfile() -> CallResult {
    let n = rfs::sendfile(File::create("sent")?, File::open("f")?, None, 5000)?;
    Ok(format!("{n}"))
}

fn splice_in() -> CallResult {
    let (from, to) = pipe::pipe()?;
    let n = pipe::splice(
        File::open("f")?,
        None,
        &to,
        None,
        3000,
        SpliceFlags::empty(),
    )?;
    drop(from);
    Ok(format!("{n}"))
}

fn splice_out() -> CallResult {
    let (from, to) = pipe::pipe()?;
    rustix::io::write(&to, &[9; 3000])?;
    let n = pipe::splice(&from, None, open("f")?, None, 3000, SpliceFlags::empty())?;
    Ok(format!("{n}"))
}

fn map_read() -> CallResult {
    let map = Map::of(&File::open("f")?, 4096, false, false)?;
    Ok(format!("{:?}", map.load(0, 4)))
}

fn map_write() -> CallResult {
    let mut map = Map::of(&open("f")?, 4096, true, true)?;
    map.store(10, b"mapped");
    map.sync().map(nothing)
}

fn direct() -> CallResult {
    let flags = libc::O_DIRECT;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open("f")?;
    let mut room = Map::anonymous(4096)?;
    let n = file.read_at(room.bytes(), 0)?;
    let m = file.write_at(room.bytes(), 4096)?;
    Ok(format!("{n} {m}"))
}

fn advise() -> CallResult {
    let all = None;
    Ok(rfs::fadvise(open("f")?, 0, all, rfs::Advice::WillNeed).map(nothing)?)
}

fn chmod() -> CallResult {
    fs::set_permissions("f", fs::Permissions::from_mode(0o640)).map(nothing)
}

fn chown() -> CallResult {
    let of = fs::metadata("f")?;
    std::os::unix::fs::chown("f", Some(of.uid()), Some(of.gid())).map(nothing)
}

fn utimes() -> CallResult {
    let time = rfs::Timespec {
        tv_sec: 1_000_000,
        tv_nsec: 0,
    };
    let times = rfs::Timestamps {
        last_access: time,
        last_modification: time,
    };
    Ok(rfs::utimensat(CWD, "f", &times, AtFlags::empty()).map(nothing)?)
}

fn setxattr() -> CallResult {
    Ok(rfs::setxattr("f", "user.one", b"1", XattrFlags::empty()).map(nothing)?)
}

fn getxattr() -> CallResult {
    let mut value = [0; 16];
    let n = rfs::getxattr("f", "user.one", &mut value)?;
    Ok(format!("{:?}", &value[..n]))
}

fn listxattr() -> CallResult {
    let mut names = vec![0; 4096];
    let asked = rfs::listxattr("f", &mut [0u8; 0][..])?;
    let n = rfs::listxattr("f", &mut names)?;
    Ok(format!("{asked} {}", String::from_utf8_lossy(&names[..n])))
}

/// An access ACL that gives user 2000 the right to read.
const ACL: &[(u16, u16, u32)] = &[
    (1, 6, u32::MAX),
    (2, 4, 2000),
    (4, 0, u32::MAX),
    (16, 4, u32::MAX),
    (32, 0, u32::MAX),
];

fn set_acl() -> CallResult {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, may, id) in ACL {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(may.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    let name = "system.posix_acl_access";
    Ok(rfs::setxattr("f", name, &bytes, XattrFlags::empty()).map(nothing)?)
}

fn get_acl() -> CallResult {
    let mut value = [0; 256];
    let n = rfs::getxattr("f", "system.posix_acl_access", &mut value)?;
    Ok(format!("{:02x?}", &value[..n]))
}

fn set_flags() -> CallResult {
    let file = open("f")?;
    let flags = rfs::ioctl_getflags(&file)?;
    rfs::ioctl_setflags(&file, flags | rfs::IFlags::NODUMP)?;
    rfs::ioctl_setflags(&file, flags)?;
    Ok(nothing(()))
}

fn stat() -> CallResult {
    let of = fs::metadata("f")?;
    Ok(format!(
        "{:o} {} {} {} {}",
        of.mode(),
        of.nlink(),
        of.uid(),
        of.gid(),
        of.len()
    ))
}

fn list() -> CallResult {
    let names: io::Result<Vec<_>> = fs::read_dir(".")?
        .map(|entry| Ok(entry?.file_name()))
        .collect();
    let mut names = names?;
    names.sort();
    Ok(format!("{names:?}"))
}

fn mknod() -> CallResult {
    let mode = Mode::RUSR | Mode::WUSR;
    Ok(rfs::mknodat(CWD, "fifo", rfs::FileType::Fifo, mode, 0).map(nothing)?)
}

fn rename_over() -> CallResult {
    fs::write("new", b"new")?;
    fs::rename("new", "d/m").map(nothing)
}

fn exchange() -> CallResult {
    let flags = RenameFlags::EXCHANGE;
    Ok(rfs::renameat_with(CWD, "copied", CWD, "d", flags).map(nothing)?)
}

fn rmdir() -> CallResult {
    fs::create_dir("empty")?;
    fs::remove_dir("empty").map(nothing)
}

fn unnamed() -> CallResult {
    let mode = Mode::from_raw_mode(0o600);
    let file = File::from(rfs::open(".", OFlags::TMPFILE | OFlags::RDWR, mode)?);
    file.write_all_at(b"unnamed", 0)?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    rfs::linkat(CWD, &path, CWD, "named", AtFlags::SYMLINK_FOLLOW)?;
    Ok(format!("{}", fs::metadata("named")?.len()))
}

fn lock() -> CallResult {
    let file = open("f")?;
    rfs::flock(&file, rfs::FlockOperation::NonBlockingLockExclusive)?;
    sys::fcntl_lock(&file, libc::F_SETLK, libc::F_WRLCK, 0, 10)?;
    Ok(nothing(()))
}

fn execute() -> CallResult {
    fs::copy("/usr/bin/true", "true")?;
    fs::set_permissions("true", fs::Permissions::from_mode(0o755))?;
    Ok(format!("{}", Command::new("./true").status()?))
}

fn change_directory() -> CallResult {
    let path: &CStr = c"copied";
    rustix::process::chdir(path)?;
    rustix::process::chdir("..")?;
    Ok(format!("{}", Path::new("f").exists()))
}
