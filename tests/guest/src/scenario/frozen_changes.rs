// SPDX-License-Identifier: GPL-2.0

//! The changes that are begun over a frozen lower filesystem: one for each hook.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{symlink, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{
    self as rfs, AtFlags, FallocateFlags, Mode, OFlags, RenameFlags, XattrFlags, CWD,
};
use rustix::pipe::{self, SpliceFlags};

use crate::outcome::{At, Outcome};
use crate::sys::{self, Map};
use crate::undo;

/// How a change is taken back.
#[derive(Clone, Copy, PartialEq)]
pub enum Undo {
    /// As an operation on the file `f`.
    OfFile,
    /// As one on the names of the directory.
    OfNames,
    /// The filesystem is not frozen.
    None,
}

pub type FrozenChange = fn(&Path) -> io::Result<()>;

/// Each in a directory of its own with the files `f` and `g` and the directory `d`.
pub const CHANGES: &[(&str, Undo, FrozenChange)] = &[
    ("write", Undo::OfFile, |d| {
        open(d)?.write_all_at(b"frozen", 10)
    }),
    ("append", Undo::OfFile, |d| {
        OpenOptions::new()
            .append(true)
            .open(d.join("f"))?
            .write_all(b"more")
    }),
    ("direct", Undo::OfFile, |d| {
        let mut room = Map::anonymous(4096)?;
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(libc::O_DIRECT);
        options.open(d.join("f"))?.write_all_at(room.bytes(), 0)
    }),
    ("splice", Undo::OfFile, |d| {
        let (from, to) = pipe::pipe()?;
        rustix::io::write(&to, &[9; 3000])?;
        pipe::splice(&from, None, open(d)?, None, 3000, SpliceFlags::empty())?;
        Ok(())
    }),
    ("sendfile", Undo::OfFile, |d| {
        rfs::sendfile(open(d)?, File::open(d.join("g"))?, None, 3000)?;
        Ok(())
    }),
    ("copy", Undo::OfFile, |d| {
        rfs::copy_file_range(File::open(d.join("g"))?, None, open(d)?, None, 3000)?;
        Ok(())
    }),
    ("clone", Undo::OfFile, |d| {
        Ok(rfs::ioctl_ficlone(open(d)?, File::open(d.join("g"))?)?)
    }),
    // By a process of its own: who waits in a store keeps the others of the process from mapping
    // anything.
    ("map", Undo::OfFile, |d| {
        let mut command = Command::new("/proc/self/exe");
        let status = command.args(["work", "store"]).arg(d.join("f")).status()?;
        if status.success() {
            return Ok(());
        }
        Err(io::Error::other(format!("a store through a map: {status}")))
    }),
    ("cut", Undo::OfFile, |d| open(d)?.set_len(100)),
    ("grow", Undo::OfFile, |d| open(d)?.set_len(100_000)),
    ("allocate", Undo::OfFile, |d| {
        Ok(rfs::fallocate(
            open(d)?,
            FallocateFlags::empty(),
            0,
            100_000,
        )?)
    }),
    ("punch", Undo::OfFile, |d| {
        let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rfs::fallocate(open(d)?, how, 4096, 4096)?)
    }),
    ("strip", Undo::None, |d| {
        sys::as_user(1000, || open_named(d, "suid")?.write_all_at(b"x", 0))
    }),
    ("chmod", Undo::OfFile, |d| {
        fs::set_permissions(d.join("f"), fs::Permissions::from_mode(0o600))
    }),
    ("chown", Undo::OfFile, |d| {
        std::os::unix::fs::chown(d.join("f"), Some(1000), None)
    }),
    ("utimes", Undo::OfFile, |d| {
        let time = rfs::Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        let times = rfs::Timestamps {
            last_access: time,
            last_modification: time,
        };
        Ok(rfs::utimensat(CWD, d.join("f"), &times, AtFlags::empty())?)
    }),
    ("setxattr", Undo::OfFile, |d| {
        Ok(rfs::setxattr(
            d.join("f"),
            "user.x",
            b"2",
            XattrFlags::empty(),
        )?)
    }),
    ("removexattr", Undo::OfFile, |d| {
        Ok(rfs::removexattr(d.join("f"), "user.x")?)
    }),
    ("set-acl", Undo::OfFile, |d| {
        let acl = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x04\0\x04\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";
        Ok(rfs::setxattr(
            d.join("f"),
            "system.posix_acl_access",
            acl,
            XattrFlags::empty(),
        )?)
    }),
    ("set-flags", Undo::OfFile, |d| {
        let file = open(d)?;
        let flags = rfs::ioctl_getflags(&file)?;
        Ok(rfs::ioctl_setflags(&file, flags | rfs::IFlags::NODUMP)?)
    }),
    ("create", Undo::OfNames, |d| {
        File::create_new(d.join("new")).map(drop)
    }),
    ("mkdir", Undo::OfNames, |d| fs::create_dir(d.join("new"))),
    ("mknod", Undo::OfNames, |d| {
        Ok(rfs::mknodat(
            CWD,
            d.join("new"),
            rfs::FileType::Fifo,
            Mode::RUSR,
            0,
        )?)
    }),
    ("symlink", Undo::OfNames, |d| symlink("f", d.join("new"))),
    ("link", Undo::OfNames, |d| {
        fs::hard_link(d.join("f"), d.join("new"))
    }),
    ("unlink", Undo::OfNames, |d| fs::remove_file(d.join("f"))),
    ("unlink-one-of-two", Undo::OfNames, |d| {
        fs::remove_file(d.join("h"))
    }),
    ("rmdir", Undo::OfNames, |d| fs::remove_dir(d.join("d"))),
    ("rename", Undo::OfNames, |d| {
        fs::rename(d.join("f"), d.join("new"))
    }),
    ("rename-over", Undo::OfNames, |d| {
        fs::rename(d.join("f"), d.join("g"))
    }),
    ("rename-over-directory", Undo::OfNames, |d| {
        fs::rename(d.join("e"), d.join("d"))
    }),
    ("exchange", Undo::OfNames, |d| {
        Ok(rfs::renameat_with(
            CWD,
            d.join("f"),
            CWD,
            d.join("g"),
            RenameFlags::EXCHANGE,
        )?)
    }),
    ("unnamed", Undo::None, |d| {
        Ok(rfs::open(d, OFlags::TMPFILE | OFlags::RDWR, Mode::RUSR).map(drop)?)
    }),
    ("undo-of-content", Undo::None, |d| {
        undo::revert(&open_named(d, "written")?, 1)
    }),
    ("undo-of-names", Undo::None, |d| {
        undo::revert(&File::open(d.join("d"))?, 1)
    }),
];

pub fn open(place: &Path) -> io::Result<File> {
    open_named(place, "f")
}

pub fn open_named(place: &Path, name: &str) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(place.join(name))
}

/// The parameters of a change.
pub fn prepare(place: &Path) -> io::Result<()> {
    fs::create_dir(place)?;
    for name in ["f", "g", "h", "suid", "written"] {
        let content: Vec<u8> = name.bytes().cycle().take(20_000).collect();
        fs::write(place.join(name), content)?;
    }
    fs::hard_link(place.join("h"), place.join("i"))?;
    fs::create_dir(place.join("d"))?;
    fs::create_dir(place.join("e"))?;
    std::os::unix::fs::chown(place.join("suid"), Some(1000), Some(1000))?;
    fs::set_permissions(place.join("suid"), fs::Permissions::from_mode(0o4755))?;
    rfs::setxattr(place.join("f"), "user.x", b"1", XattrFlags::empty())?;
    // The operations that are undone while the filesystem is frozen.
    open_named(place, "written")?.write_all_at(b"to be undone", 0)?;
    File::create(place.join("d/gone"))?;
    fs::remove_file(place.join("d/gone"))?;
    Ok(())
}

/// All that a change of those above may change, by name.
pub fn state(place: &Path) -> Outcome<BTreeMap<PathBuf, String>> {
    let mut all = BTreeMap::new();
    let mut left = vec![place.to_path_buf()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).at("listing")? {
            let path = entry?.path();
            let of = fs::symlink_metadata(&path)?;
            // Times move with each change and do not move back; but for one that was set.
            let is_set = of.mtime() == 1;
            let mut text = format!("{:o} {} {} {is_set}", of.mode(), of.uid(), of.nlink());
            if of.is_file() {
                let content = fs::read(&path)?;
                let sum = content.iter().fold(0u64, |sum, byte| {
                    sum.wrapping_mul(31).wrapping_add(u64::from(*byte))
                });
                let mut value = [0; 16];
                let n = rfs::getxattr(&path, "user.x", &mut value).unwrap_or(0);
                let flags = rfs::ioctl_getflags(File::open(&path)?)?.bits() & 0x40;
                text += &format!(" {} {sum:x} {:?} {flags:x}", content.len(), &value[..n]);
            } else if of.is_dir() {
                // Its times move with its names.
                text = format!("{:o} {}", of.mode(), of.uid());
                left.push(path.clone());
            }
            all.insert(
                path.strip_prefix(place).unwrap_or(&path).to_path_buf(),
                text,
            );
        }
    }
    Ok(all)
}
