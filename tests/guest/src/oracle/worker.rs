// SPDX-License-Identifier: GPL-2.0

//! A process that does operations, one per line of its input, and keeps files open and mapped in
//! between: `lfs-tests work oracle-worker PLACE`.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufRead, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{fchown, lchown, symlink, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FallocateFlags, FileType, Mode, OFlags, RenameFlags, XattrFlags, CWD};
use rustix::fs::{IFlags, Timespec, Timestamps};
use rustix::io::Errno;
use rustix::pipe::SpliceFlags;

use super::op::{Op, SLOTS};
use super::shares;
use super::state::PROTECTION;
use crate::shadow::pattern;
use crate::sys::{self, Map};

const PAGE: u64 = 4096;

/// Who does the operations that root does not.
const USER: u32 = 1;

const FALLOC_WRITE_ZEROES: i32 = 0x80;

/// A file that is held open.
#[derive(Default)]
struct OpenSlot {
    file: Option<File>,
    map: Option<(Map, u64)>,
}

/// The process.
pub struct Worker {
    root: PathBuf,
    slots: Vec<OpenSlot>,
}

/// Executes the lines of its input, and replies to each with a line.
pub fn main(place: &str) -> io::Result<()> {
    let mut worker = Worker {
        root: place.into(),
        slots: (0..SLOTS).map(|_| OpenSlot::default()).collect(),
    };
    for line in io::stdin().lock().lines() {
        let answer = worker.answer(&line?)?;
        let mut out = io::stdout().lock();
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

impl Worker {
    /// `ok` and the result, or `no` and the reason.
    fn answer(&mut self, line: &str) -> io::Result<String> {
        if line == "look" {
            return Ok(match self.look() {
                None => "ok".into(),
                Some(what) => format!("no {what}"),
            });
        }
        let op = Op::parse(line).ok_or(io::ErrorKind::InvalidInput)?;
        let performed = if op.is_of_a_user() {
            sys::as_user(USER, || self.perform(&op))
        } else {
            self.perform(&op)
        };
        Ok(match performed {
            Ok(()) => match &self.slots[op.slot].file {
                Some(file) => format!("ok {}", file.as_raw_fd()),
                None => "ok -".into(),
            },
            Err(error) => format!("no {error}").replace('\n', " "),
        })
    }

    /// Whether all mappings show the contents of their files; if not, the difference.
    fn look(&self) -> Option<String> {
        for (number, slot) in self.slots.iter().enumerate() {
            let (Some(file), Some((map, length))) = (&slot.file, &slot.map) else {
                continue;
            };
            let size = file.metadata().ok()?.len().min(*length) as usize;
            let mut read = vec![0; size];
            if let Err(error) = file.read_exact_at(&mut read, 0) {
                return Some(format!("slot {number}: {error}"));
            }
            let mapped = map.load(0, size);
            if mapped != read {
                let same = mapped.iter().zip(&read).take_while(|(a, b)| a == b);
                return Some(format!("slot {number} differs from {} on", same.count()));
            }
        }
        None
    }

    fn perform(&mut self, op: &Op) -> io::Result<()> {
        let (one, two) = (self.root.join(&op.one), self.root.join(&op.two));
        let done = names(op, &one, &two)
            .or_else(|| content(op, &one, &two))
            .or_else(|| attributes(op, &one));
        match done {
            Some(result) => result,
            None => self.hold(op, &one),
        }
    }

    /// Operations on the open files of the process.
    fn hold(&mut self, op: &Op, one: &Path) -> io::Result<()> {
        let slot = &mut self.slots[op.slot];
        match op.kind {
            "open" => {
                *slot = OpenSlot::default();
                slot.file = Some(writable(one)?);
                return Ok(());
            }
            "close" => {
                *slot = OpenSlot::default();
                return Ok(());
            }
            "unmap" => {
                slot.map = None;
                return Ok(());
            }
            _ => {}
        }
        let file = slot.file.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        match op.kind {
            "map" => {
                let length = (1 + op.salt % 8) * PAGE;
                let map = Map::of(file, length as usize, true, true)?;
                slot.map = Some((map, length));
                if op.salt & 8 != 0 {
                    // The mapping outlives its descriptor.
                    slot.file = Some(File::open(own(file))?);
                }
                Ok(())
            }
            "remap" => match &mut slot.map {
                Some((map, length)) => {
                    let other = (1 + op.salt % 8) * PAGE;
                    map.resize(other as usize)?;
                    *length = other;
                    Ok(())
                }
                None => Err(io::ErrorKind::NotConnected.into()),
            },
            "store" => store(op, file, slot.map.as_mut()),
            "forkstore" => store_in_child(op, file, slot.map.as_mut()),
            "protectstore" => {
                let (map, length) = slot.map.as_ref().ok_or(io::ErrorKind::NotConnected)?;
                map.protect(0, *length as usize, libc::PROT_READ)?;
                map.protect(0, *length as usize, libc::PROT_READ | libc::PROT_WRITE)?;
                store(op, file, slot.map.as_mut())
            }
            "msync" => match &slot.map {
                Some((map, _)) => map.sync(),
                None => Err(io::ErrorKind::NotConnected.into()),
            },
            "hwrite" => all(file.write_at(&bytes(op), op.at)?, op),
            "htruncate" => file.set_len(op.at),
            "hpunch" => allocate(file, "punch", op),
            "hcollapse" => allocate(file, "collapse", op),
            "hchmod" => file.set_permissions(mode(op)),
            "hxattr" => set_xattr(file, "user.held", op),
            "hlink" => link_open(file, one),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

/// Stores to several pages, as far as the file reaches and to the end of its last page.
fn store(op: &Op, file: &File, map: Option<&mut (Map, u64)>) -> io::Result<()> {
    let (map, length) = map.ok_or(io::ErrorKind::NotConnected)?;
    let most = file.metadata()?.len().next_multiple_of(PAGE).min(*length);
    if most == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let bytes = bytes(op);
    for number in 0..1 + op.salt % 4 {
        let at = (op.at + number * 5003) % most;
        let part = (bytes.len() as u64).min(most - at).min(6000) as usize;
        map.store(at as usize, &bytes[..part]);
    }
    Ok(())
}

/// The same, by a process that has the mapping from this one.
fn store_in_child(op: &Op, file: &File, map: Option<&mut (Map, u64)>) -> io::Result<()> {
    let mut stored = Ok(());
    let status = sys::in_child(|| {
        stored = store(op, file, map);
        if stored.is_err() {
            std::process::abort();
        }
    })?;
    if status != 0 {
        return Err(io::Error::other(format!("the child ended with {status}")));
    }
    Ok(())
}

fn bytes(op: &Op) -> Vec<u8> {
    // Zeroes now and then, which look like a hole.
    if op.salt % 11 == 0 {
        return vec![0; op.length as usize];
    }
    pattern(op.salt, op.length as usize)
}

fn mode(op: &Op) -> Permissions {
    let modes = [
        0o600, 0o755, 0o4711, 0o2755, 0o1770, 0o644, 0o666, 0o777, 0o6777, 0o1777,
    ];
    Permissions::from_mode(modes[op.salt as usize % modes.len()])
}

fn all(done: usize, op: &Op) -> io::Result<()> {
    if done as u64 != op.length {
        return Err(io::ErrorKind::WriteZero.into());
    }
    Ok(())
}

fn writable(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = options.open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(file)
}

/// A file, or a directory, for its attributes.
fn readable(path: &Path) -> io::Result<File> {
    let kind = fs::symlink_metadata(path)?.file_type();
    if !kind.is_file() && !kind.is_dir() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    File::open(path)
}

/// The path by which a process opens its own descriptor.
fn own(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn link_open(file: &File, path: &Path) -> io::Result<()> {
    let from = own(file);
    let follow = AtFlags::SYMLINK_FOLLOW;
    Ok(rustix::fs::linkat(CWD, from, CWD, path, follow)?)
}

/// Operations on names; `None`: the operation is of another kind.
fn names(op: &Op, one: &Path, two: &Path) -> Option<io::Result<()>> {
    let node = |kind, device| {
        let made = rustix::fs::mknodat(CWD, one, kind, 0o640.into(), device);
        made.map_err(io::Error::from)
    };
    Some(match op.kind {
        "create" => File::create_new(one).map(drop),
        "mkdir" => fs::create_dir(one),
        "symlink" => symlink(format!("to {}", op.salt), one),
        "fifo" => node(FileType::Fifo, 0),
        "socket" => node(FileType::Socket, 0),
        "device" => node(FileType::CharacterDevice, rustix::fs::makedev(1, 3)),
        "tmpfile" => temporary(op, one),
        "link" => fs::hard_link(one, two),
        "unlink" => fs::remove_file(one),
        "rmdir" => fs::remove_dir(one),
        "rmtree" => fs::remove_dir_all(one),
        "rename" => rename(one, two, RenameFlags::empty()),
        "noreplace" => rename(one, two, RenameFlags::NOREPLACE),
        "exchange" => rename(one, two, RenameFlags::EXCHANGE),
        "save" => save(op, one, two),
        _ => return None,
    })
}

fn rename(one: &Path, two: &Path, flags: RenameFlags) -> io::Result<()> {
    Ok(rustix::fs::renameat_with(CWD, one, CWD, two, flags)?)
}

/// A file without a name that gets one.
fn temporary(op: &Op, one: &Path) -> io::Result<()> {
    let directory = one.parent().ok_or(io::ErrorKind::NotFound)?;
    if fs::symlink_metadata(one).is_ok() {
        // A file that never gets a name is gone with its close; none of its operations can be taken back.
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(directory, flags, Mode::from(0o640))?);
    file.write_at(&bytes(op), op.at % 5000)?;
    link_open(&file, one)?;
    if op.salt % 2 == 0 {
        file.write_at(b"linked", 0)?;
    }
    Ok(())
}

/// The second name's content anew, by a rename of the first.
fn save(op: &Op, one: &Path, two: &Path) -> io::Result<()> {
    let file = File::create_new(one)?;
    file.write_at(&bytes(op), 0)?;
    file.sync_all()?;
    fs::rename(one, two)
}

/// Operations on content by path; `None`: the operation is of another kind.
fn content(op: &Op, one: &Path, two: &Path) -> Option<io::Result<()>> {
    let modes = [
        "allocate",
        "keep",
        "punch",
        "zero",
        "zerokeep",
        "writezeroes",
        "collapse",
        "insert",
        "unshare",
    ];
    let open = |flags: i32| -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(flags);
        writable(one)?;
        options.open(one)
    };
    Some(match op.kind {
        "write" => writable(one).and_then(|file| all(file.write_at(&bytes(op), op.at)?, op)),
        "writev" => writable(one).and_then(|file| write_parts(op, &file)),
        "append" => open(libc::O_APPEND).and_then(|mut file| all(file.write(&bytes(op))?, op)),
        "synced" => open(libc::O_SYNC).and_then(|file| all(file.write_at(&bytes(op), op.at)?, op)),
        "direct" => open(libc::O_DIRECT).and_then(|file| write_direct(op, &file)),
        "aio" => {
            writable(one).and_then(|file| all(sys::aio_write(&file, &bytes(op), op.at as i64)?, op))
        }
        "uring" => writable(one)
            .and_then(|file| all(sys::Ring::new()?.write(&file, &bytes(op), op.at, 0)?, op)),
        "splice" => writable(one).and_then(|file| splice(op, &file)),
        "sendfile" | "copy" | "clone" | "clonerange" | "dedupe" => copy(op, one, two),
        "truncate" => writable(one).and_then(|_| {
            let path = std::ffi::CString::new(one.as_os_str().as_encoded_bytes())?;
            sys::truncate(&path, op.at as i64)
        }),
        "otrunc" => open(libc::O_TRUNC).map(drop),
        "fsync" => readable(one).and_then(|file| file.sync_all()),
        kind if modes.contains(&kind) => writable(one).and_then(|file| allocate(&file, kind, op)),
        _ => return None,
    })
}

fn write_parts(op: &Op, file: &File) -> io::Result<()> {
    let bytes = bytes(op);
    let (head, tail) = bytes.split_at(bytes.len() / 3);
    let parts = [io::IoSlice::new(head), io::IoSlice::new(tail)];
    all(rustix::io::pwritev(file, &parts, op.at)?, op)
}

fn write_direct(op: &Op, file: &File) -> io::Result<()> {
    let length = (1 + op.salt % 3) * PAGE;
    let mut memory = Map::anonymous(length as usize)?;
    memory
        .bytes()
        .copy_from_slice(&pattern(op.salt, length as usize));
    file.write_at(memory.bytes(), op.at / PAGE * PAGE).map(drop)
}

fn splice(op: &Op, file: &File) -> io::Result<()> {
    let (from, to) = rustix::pipe::pipe()?;
    let length = op.length as usize;
    File::from(to).write_all(&bytes(op))?;
    let (mut at, mut done) = (op.at, 0);
    while done < length {
        let none = SpliceFlags::empty();
        match rustix::pipe::splice(&from, None, file, Some(&mut at), length - done, none)? {
            0 => break,
            some => done += some,
        }
    }
    all(done, op)
}

/// From the first to the second.
fn copy(op: &Op, one: &Path, two: &Path) -> io::Result<()> {
    let (from, to) = (writable(one)?, writable(two)?);
    if op.kind == "clone" {
        return Ok(rustix::fs::ioctl_ficlone(&to, &from)?);
    }
    if op.kind == "clonerange" {
        return shares::clone_range(op, &from, &to);
    }
    if op.kind == "dedupe" {
        return shares::dedupe(op, &from, &to);
    }
    let size = from.metadata()?.len();
    let (mut at, mut into) = (op.salt % (size + 1), op.at);
    let length = op.length as usize;
    if op.kind == "copy" {
        let into = Some(&mut into);
        rustix::fs::copy_file_range(&from, Some(&mut at), &to, into, length)?;
    } else {
        rustix::fs::seek(&to, rustix::fs::SeekFrom::Start(into))?;
        rustix::fs::sendfile(&to, &from, Some(&mut at), length)?;
    }
    Ok(())
}

fn allocate(file: &File, kind: &str, op: &Op) -> io::Result<()> {
    if kind == "writezeroes" {
        return sys::fallocate(file, FALLOC_WRITE_ZEROES, op.at as i64, op.length as i64);
    }
    let (mut at, mut length) = (op.at, op.length);
    let keep = FallocateFlags::KEEP_SIZE;
    let mode = match kind {
        "allocate" => FallocateFlags::empty(),
        "keep" => keep,
        "punch" => FallocateFlags::PUNCH_HOLE | keep,
        "zero" => FallocateFlags::ZERO_RANGE,
        "zerokeep" => FallocateFlags::ZERO_RANGE | keep,
        "unshare" => FallocateFlags::UNSHARE_RANGE,
        _ => {
            (at, length) = (at / PAGE * PAGE, (1 + op.salt % 3) * PAGE);
            match kind {
                "collapse" => FallocateFlags::COLLAPSE_RANGE,
                _ => FallocateFlags::INSERT_RANGE,
            }
        }
    };
    Ok(rustix::fs::fallocate(file, mode, at, length)?)
}

/// Operations on attributes; `None`: the operation is of another kind.
fn attributes(op: &Op, one: &Path) -> Option<io::Result<()>> {
    let name = format!("user.x{}", op.salt % 3);
    let acl = "system.posix_acl_access";
    let with = |set: &dyn Fn(&File) -> io::Result<()>| readable(one).and_then(|file| set(&file));
    Some(match op.kind {
        "chmod" => with(&|file| file.set_permissions(mode(op))),
        "chown" => chown(op, one),
        "utimes" => set_times(op, one),
        "setxattr" => with(&|file| set_xattr(file, &name, op)),
        "trusted" => with(&|file| set_xattr(file, "trusted.y", op)),
        "rmxattr" => with(&|file| Ok(rustix::fs::fremovexattr(file, &name)?)),
        "setacl" => with(&|file| set_acl(file, acl, op)),
        "defacl" => with(&|file| set_acl(file, "system.posix_acl_default", op)),
        "rmacl" => with(&|file| Ok(rustix::fs::fremovexattr(file, acl)?)),
        "flags" => with(&|file| set_flags(file, op)),
        "project" => with(&|file| set_project(file, op)),
        "capability" => writable(one).and_then(|file| set_capability(&file, op)),
        "protect" => with(&|file| protect(file, op)),
        "unprotect" => with(&unprotect),
        _ => return None,
    })
}

fn set_xattr(file: &File, name: &str, op: &Op) -> io::Result<()> {
    let value = pattern(op.salt, 1 + op.length as usize % 60);
    let set = rustix::fs::fsetxattr(file, name, &value, XattrFlags::empty());
    Ok(set?)
}

fn chown(op: &Op, one: &Path) -> io::Result<()> {
    let (user, group) = (Some(op.salt as u32 % 3), Some(op.length as u32 % 3));
    match readable(one) {
        Ok(file) if op.salt % 2 == 0 => fchown(&file, user, group),
        _ => lchown(one, user, group),
    }
}

fn set_times(op: &Op, one: &Path) -> io::Result<()> {
    let time = Timespec {
        tv_sec: op.at as i64,
        tv_nsec: (op.length * 1000) as _,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    Ok(rustix::fs::utimensat(CWD, one, &times, flags)?)
}

/// An ACL in the form that the kernel takes: some user besides the owner.
fn set_acl(file: &File, name: &str, op: &Op) -> io::Result<()> {
    let none = u32::MAX;
    let entries = [
        (1u16, 6u16, none),
        (2, op.salt as u16 % 8, 1000 + op.salt as u32 % 3),
        (4, 4, none),
        (0x10, 7, none),
        (0x20, op.length as u16 % 8, none),
    ];
    let mut value = 2u32.to_le_bytes().to_vec();
    for (tag, allowed, who) in entries {
        value.extend(tag.to_le_bytes());
        value.extend(allowed.to_le_bytes());
        value.extend(who.to_le_bytes());
    }
    Ok(rustix::fs::fsetxattr(
        file,
        name,
        &value,
        XattrFlags::empty(),
    )?)
}

fn set_flags(file: &File, op: &Op) -> io::Result<()> {
    let chosen = [IFlags::NODUMP, IFlags::NOATIME][op.salt as usize % 2];
    let flags = rustix::fs::ioctl_getflags(file)?;
    Ok(rustix::fs::ioctl_setflags(file, flags ^ chosen)?)
}

/// Immutable, or append-only; an object that has either flag stays unchanged.
fn protect(file: &File, op: &Op) -> io::Result<()> {
    let flags = rustix::fs::ioctl_getflags(file)?;
    if flags.intersects(PROTECTION) {
        return Err(Errno::PERM.into());
    }
    let chosen = [IFlags::IMMUTABLE, IFlags::APPEND][op.salt as usize % 2];
    Ok(rustix::fs::ioctl_setflags(file, flags | chosen)?)
}

fn unprotect(file: &File) -> io::Result<()> {
    let flags = rustix::fs::ioctl_getflags(file)?;
    if !flags.intersects(PROTECTION) {
        return Err(Errno::INVAL.into());
    }
    Ok(rustix::fs::ioctl_setflags(file, flags - PROTECTION)?)
}

/// A file capability, as `setcap` sets one: version 2, effective, with one permitted capability.
fn set_capability(file: &File, op: &Op) -> io::Result<()> {
    let words = [0x0200_0001, 1 << (op.salt % 8), 0, 0, 0u32];
    let value: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let none = XattrFlags::empty();
    Ok(rustix::fs::fsetxattr(
        file,
        "security.capability",
        &value,
        none,
    )?)
}

/// `FS_IOC_FSGETXATTR` and `FS_IOC_FSSETXATTR`: the project is the fourth number.
fn set_project(file: &File, op: &Op) -> io::Result<()> {
    let mut more = [0u8; 28];
    sys::ioctl_bytes(&file, 0x801c_581f, &mut more)?;
    more[12..16].copy_from_slice(&(op.salt as u32 % 4).to_ne_bytes());
    match sys::ioctl_bytes(&file, 0x401c_5820, &mut more) {
        Ok(_) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Err(Errno::OPNOTSUPP.into()),
        Err(error) => Err(error),
    }
}
