// SPDX-License-Identifier: GPL-2.0

//! Refused calls, with their errno; nothing changes.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::CommandExt;

use rustix::io::Errno;

use crate::fixture::{put, Fixture};
use crate::harness::Test;
use crate::outcome::{check, same, same_errno, Outcome};
use crate::sys::{self, Map};
use crate::undo::{self, FORCE, READLOG_PAGE, READ_LOG, REVERT, REVERT_MORE};

pub const TESTS: &[Test] = &[
    Test::new("another-user", another_user),
    Test::new("read-only-descriptor", read_only_descriptor),
    Test::new("bad-counts", bad_counts),
    Test::new("wrong-numbers", wrong_numbers),
    Test::new("wrong-structures", wrong_structures),
    Test::new("bad-pointers", bad_pointers),
    Test::new("external-change", external_change),
    Test::new("external-change-unmounted", external_change_unmounted),
    Test::new("shared-mapping", shared_mapping),
    Test::new("block-operations", block_operations),
    Test::new("protected-file", protected_file),
];

/// Runs `revert` as another user; returns its errno.
fn revert_as(w: &Fixture, user: u32, name: &str) -> Outcome<i32> {
    let status = w
        .worker(&["revert", name, "1"])
        .uid(user)
        .gid(user)
        .status()?;
    Ok(status.code().unwrap_or(-1))
}

fn another_user(w: &mut Fixture) -> Outcome {
    fs::set_permissions(&w.mnt, Permissions::from_mode(0o777))?;
    w.sh("echo one > f; echo two >> f; chmod 666 f; echo three >> f")?;
    same("another user", revert_as(w, 2000, "f")?, libc::EPERM)?;
    w.same("nothing changed", "f", b"one\ntwo\nthree\n")?;
    w.sh("setpriv --reuid 2000 --regid 2000 --clear-groups bash -c 'echo mine > own; echo more >> own'")?;
    same("the owner", revert_as(w, 2000, "own")?, 0)?;
    w.same("own file", "own", b"mine\n")?;
    same("a third one", revert_as(w, 2001, "own")?, libc::EACCES)?;
    w.revert("own", 1)?;
    w.same("root reverts everybody's", "own", b"")?;
    w.revert("f", 1)?;
    w.same("and root's own", "f", b"one\ntwo\n")
}

fn read_only_descriptor(w: &mut Fixture) -> Outcome {
    w.sh("echo one > f; echo two >> f")?;
    let reader = File::open(w.path("f"))?;
    same_errno("reader", undo::revert(&reader, 1), Errno::BADF)?;
    same_errno(
        "reader, versioned",
        undo::revert_more(&reader, 1, 0).0,
        Errno::BADF,
    )?;
    w.same("nothing changed", "f", b"one\ntwo\n")?;
    same(
        "but it may read the log",
        undo::lines(&reader, false)?.len(),
        2,
    )?;
    let writer = OpenOptions::new().write(true).open(w.path("f"))?;
    undo::revert(&writer, 1)?;
    w.same("a writer may", "f", b"one\n")
}

fn bad_counts(w: &mut Fixture) -> Outcome {
    w.sh("echo one > f; echo two >> f")?;
    let file = w.open("f")?;
    for count in [1 << 31, u32::MAX as usize, 1 << 32, usize::MAX] {
        same_errno(count, undo::revert(&file, count), Errno::INVAL)?;
        let (result, _) = undo::revert_more(&file, count as u64, 0);
        same_errno(count, result, Errno::INVAL)?;
    }
    for count in [3, 1000, (1 << 31) - 1] {
        same_errno(count, undo::revert(&file, count), Errno::NODATA)?;
    }
    w.same("nothing changed", "f", b"one\ntwo\n")?;
    same("lines", undo::lines(&file, false)?.len(), 2)
}

fn wrong_numbers(w: &mut Fixture) -> Outcome {
    w.sh("echo one > f")?;
    let file = w.open("f")?;
    let directory = File::open(&w.mnt)?;
    let size = |number: u64, size: u64| (3 << 30) | (size << 16) | ((b'L' as u64) << 8) | number;
    let numbers = [
        0,
        3,
        0x1001,
        0x2001,
        0x3000,
        0x1000_0000,
        size(1, 48),
        size(2, 8),
        size(200, 40),
        REVERT_MORE & !(1 << 30),
    ];
    for number in numbers {
        let what = format!("ioctl {number:#x}");
        same_errno(&what, sys::ioctl_number(&file, number, 0), Errno::NOTTY)?;
        let what = format!("{what} of a directory");
        same_errno(
            &what,
            sys::ioctl_number(&directory, number, 0),
            Errno::NOTTY,
        )?;
    }
    // Ioctls of the lower filesystem would change data without a line.
    const EXT4_MOVE_EXTENT: u64 = 0xc028_660f;
    const BTRFS_CLONE_RANGE: u64 = 0x4020_940d;
    const BTRFS_SNAP_CREATE: u64 = 0x5000_9401;
    for number in [EXT4_MOVE_EXTENT, BTRFS_SNAP_CREATE] {
        let mut bytes = vec![0; 4096];
        let result = sys::ioctl_bytes(&file, number, &mut bytes);
        same_errno(format!("ioctl {number:#x}"), result, Errno::NOTTY)?;
    }
    let mut bytes = vec![0; 4096];
    check!(
        sys::ioctl_bytes(&directory, BTRFS_CLONE_RANGE, &mut bytes).is_err(),
        "a directory was cloned into"
    );
    w.same("nothing changed", "f", b"one\n")
}

fn wrong_structures(w: &mut Fixture) -> Outcome {
    w.sh("echo one > f; echo two >> f")?;
    let file = w.open("f")?;
    // Byte to change, in each structure: version, unknown flag, reserved field.
    for (request, at, value) in [
        (REVERT_MORE, 0, 0),
        (REVERT_MORE, 0, 2),
        (REVERT_MORE, 4, 4),
        (REVERT_MORE, 7, 0x80),
        (REVERT_MORE, 36, 1),
        (READ_LOG, 0, 0),
        (READ_LOG, 0, 2),
        (READ_LOG, 4, 2),
        (READ_LOG, 7, 0x80),
    ] {
        let mut text = vec![0; 4096];
        let mut bytes = [0u8; 40];
        bytes[0] = 1;
        if request == READ_LOG {
            bytes[24..32].copy_from_slice(&sys::address(&mut text).to_ne_bytes());
            bytes[32..36].copy_from_slice(&4096u32.to_ne_bytes());
        }
        bytes[at] = value;
        let what = format!("{request:#x} with byte {at} = {value}");
        same_errno(
            what,
            sys::ioctl_bytes(&file, request, &mut bytes),
            Errno::INVAL,
        )?;
    }
    let (result, answer) = undo::revert_more(&file, 1, 0);
    result?;
    same("reverted", answer.reverted, 1)?;
    same("reason", answer.reason, 0)?;
    w.same("and without a mistake", "f", b"one\n")
}

fn bad_pointers(w: &mut Fixture) -> Outcome {
    w.sh("echo one > f; echo two >> f")?;
    let file = w.open("f")?;
    for address in [
        0,
        8,
        0xffff_8880_0000_0000,
        usize::MAX - 7,
        0x7fff_ffff_f000,
    ] {
        for request in [READLOG_PAGE, REVERT_MORE, READ_LOG] {
            let what = format!("{request:#x} at {address:#x}");
            same_errno(
                what,
                sys::ioctl_number(&file, request, address),
                Errno::FAULT,
            )?;
        }
        let mut bytes = [0u8; 40];
        bytes[0] = 1;
        bytes[24..32].copy_from_slice(&(address as u64).to_ne_bytes());
        bytes[32..36].copy_from_slice(&65536u32.to_ne_bytes());
        let result = sys::ioctl_bytes(&file, READ_LOG, &mut bytes);
        same_errno(
            format!("a log buffer at {address:#x}"),
            result,
            Errno::FAULT,
        )?;
    }
    let result = sys::ioctl_number(&file, REVERT, 0);
    check!(result.is_ok(), "a plain revert afterwards: {result:?}");
    w.same("reverted once", "f", b"one\n")
}

/// Writes that went past us.
fn meddle(w: &Fixture, name: &str, bytes: &[u8]) -> Outcome {
    let file = OpenOptions::new().write(true).open(w.below(name)?)?;
    // The clock of the lower filesystem may be as coarse as a tick.
    std::thread::sleep(std::time::Duration::from_millis(30));
    file.write_all_at(bytes, 0)?;
    Ok(())
}

fn external_change(w: &mut Fixture) -> Outcome {
    w.below("f")?;
    w.sh("echo one > f; echo two >> f")?;
    meddle(w, "f", b"ONE")?;
    same_errno("changed outside", w.try_revert("f", 1), Errno::STALE)?;
    w.same("nothing changed", "f", b"ONE\ntwo\n")?;
    let file = w.open("f")?;
    let (result, answer) = undo::revert_more(&file, 1, 0);
    same_errno("versioned", result, Errno::STALE)?;
    same("reason External", answer.reason, 4)?;
    let ops: Vec<String> = undo::lines(&file, true)?
        .iter()
        .map(|line| line.op.clone())
        .collect();
    check!(
        ops.contains(&"external".into()),
        "no external line: {ops:?}"
    );
    put(&file, 0, b"new")?;
    undo::revert(&file, 1)?;
    w.same("what came after it is ours", "f", b"ONE\ntwo\n")?;
    same_errno(
        "then the change is in the way",
        w.try_revert("f", 1),
        Errno::STALE,
    )?;
    let (result, _) = undo::revert_more(&file, 1, FORCE);
    check!(result.is_ok(), "force: {result:?}");
    w.same("forced", "f", b"ONE\n")
}

fn external_change_unmounted(w: &mut Fixture) -> Outcome {
    w.below("f")?;
    w.sh("echo one > f; echo two >> f; echo one > g; echo two >> g; echo one > h; echo two >> h")?;
    w.unmount()?;
    meddle(w, "f", b"ONE")?;
    std::thread::sleep(std::time::Duration::from_millis(30));
    OpenOptions::new()
        .append(true)
        .open(w.below("g")?)?
        .set_len(3)?;
    w.mount()?;
    same_errno("changed", w.try_revert("f", 1), Errno::STALE)?;
    same_errno("cut", w.try_revert("g", 1), Errno::STALE)?;
    w.same("nothing changed", "f", b"ONE\ntwo\n")?;
    w.same("nothing changed", "g", b"one")?;
    w.revert("h", 1)?;
    w.same("a neighbour reverts", "h", b"one\n")
}

fn shared_mapping(w: &mut Fixture) -> Outcome {
    w.make("f", &[b'a'; 8192])?;
    let file = w.open("f")?;
    put(&file, 0, b"logged")?;
    let reader = Map::of(&File::open(w.path("f"))?, 8192, true, false)?;
    undo::revert(&file, 1)?;
    same(
        "a read-only mapping is no hindrance",
        reader.load(0, 6),
        b"aaaaaa".to_vec(),
    )?;
    drop(reader);
    put(&file, 0, b"logged")?;
    let mut map = Map::of(&file, 8192, true, true)?;
    map.store(0, b"stored");
    undo::revert(&file, 1)?;
    same("nor is one with stores", map.load(0, 6), b"logged".to_vec())?;
    drop(map);
    // Mapped below, bypassing LoggerFS: its stores are not recorded.
    let below = OpenOptions::new()
        .read(true)
        .write(true)
        .open(w.below("f")?)?;
    let mut map = Map::of(&below, 8192, true, true)?;
    map.store(4096, b"not captured");
    let (result, answer) = undo::revert_more(&file, 1, 0);
    same_errno("mapped below", result, Errno::BUSY)?;
    same("reason Mapped", answer.reason, 5)?;
    w.same("nothing changed", "f", &map.load(0, 8192))
}

/// Operations on blocks: captured, and then a revert is exact.
fn block_operations(w: &mut Fixture) -> Outcome {
    const KEEP_SIZE: i32 = 1;
    const PUNCH: i32 = 2;
    const COLLAPSE: i32 = 8;
    const ZERO: i32 = 16;
    const INSERT: i32 = 32;
    let steps = [
        ("punch", PUNCH | KEEP_SIZE),
        ("zero", ZERO),
        ("collapse", COLLAPSE),
        ("insert", INSERT),
    ];
    for (op, mode) in steps {
        let old = crate::shadow::pattern(1, 65536);
        w.make(op, &old)?;
        let file = w.open(op)?;
        file.sync_all()?;
        match sys::fallocate(&file, mode, 16384, 16384) {
            Ok(()) => captured(w, op, op, &old)?,
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                same("a refusal leaves no line", w.log(op)?.len(), 1)?;
            }
            Err(error) => return Err(io::Error::other(format!("{op}: {error}")).into()),
        }
    }
    w.make("from", &[b'b'; 65536])?;
    w.make("to", &[b'c'; 65536])?;
    let (from, to) = (w.open("from")?, w.open("to")?);
    if rustix::fs::ioctl_ficlone(&to, &from).is_ok() {
        captured(w, "to", "clone", &[b'c'; 65536])?;
    }
    w.make("copied", &[b'c'; 65536])?;
    let (mut start, mut end) = (100, 5000);
    let copied = w.open("copied")?;
    let length =
        rustix::fs::copy_file_range(&from, Some(&mut start), &copied, Some(&mut end), 30_000)?;
    check!(length > 0, "nothing was copied");
    let lines = undo::lines(&copied, false)?;
    check!(lines.len() > 1, "a copy left no line");
    undo::revert(&copied, lines.len() - 1)?;
    w.same("a copy reverted", "copied", &[b'c'; 65536])
}

fn captured(w: &Fixture, name: &str, op: &str, old: &[u8]) -> Outcome {
    let file = w.open(name)?;
    let lines = undo::lines(&file, false)?;
    same("lines", lines.len(), 2)?;
    same("the newest line", lines[1].op.as_str(), op)?;
    undo::revert(&file, 1)?;
    w.same(&format!("{op} reverted"), name, old)
}

fn protected_file(w: &mut Fixture) -> Outcome {
    if w.sh("echo one > f; echo two >> f; chattr +i f").is_err() {
        return Err(crate::outcome::Stop::Skip("no chattr +i here".into()));
    }
    let reader = File::open(w.path("f"))?;
    same_errno("immutable", undo::revert(&reader, 2), Errno::BADF)?;
    w.same("nothing changed", "f", b"one\ntwo\n")?;
    w.sh("chattr -i f; chattr +a f")?;
    let append = OpenOptions::new().append(true).open(w.path("f"))?;
    w.sh("printf 3 >> f")?;
    same_errno("append only", undo::revert(&append, 1), Errno::PERM)?;
    w.same("nothing changed", "f", b"one\ntwo\n3")?;
    w.sh("chattr -a f; cat f > /dev/null").map(drop)
}
