// SPDX-License-Identifier: GPL-2.0

//! When lines come that no operation asks for, and when lines have to be on disk.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use rustix::fs::{AtFlags, Mode, OFlags, CWD};

use super::content::{copied, spliced};
use crate::fixture::{put, Fixture};
use crate::outcome::{check, same, At, Outcome};
use crate::sys::{self, Map};
use crate::undo;

/// The operations in a file's log, the history's own lines among them.
fn ops(w: &Fixture, name: &str) -> Outcome<String> {
    let lines = undo::lines(&File::open(w.path(name))?, true)?;
    let ops: Vec<&str> = lines.iter().map(|line| line.op.as_str()).collect();
    Ok(ops.join(" "))
}

/// The closing state of a file is logged at the last writer's close, at an fsync, and on eviction:
/// outside changes can be told apart from then on.
pub fn close_lines(w: &mut Fixture) -> Outcome {
    let (first, second) = (w.open("f")?, w.open("f")?);
    put(&first, 0, b"one")?;
    same("two writers", ops(w, "f")?, "write".into())?;
    first.sync_all()?;
    same("fsync", ops(w, "f")?, "write close".into())?;
    put(&first, 3, b"two")?;
    drop(first);
    same("one writer left", ops(w, "f")?, "write close write".into())?;
    drop(second);
    same("closed", ops(w, "f")?, "write close write close".into())?;

    let flags = OFlags::RDWR | OFlags::TMPFILE;
    let unnamed = File::from(rustix::fs::open(&w.mnt, flags, Mode::from_raw_mode(0o600))?);
    put(&unnamed, 0, b"one")?;
    let old = format!("/proc/self/fd/{}", unnamed.as_raw_fd());
    rustix::fs::linkat(CWD, old, CWD, w.path("named"), AtFlags::SYMLINK_FOLLOW)?;
    same("O_TMPFILE, named", ops(w, "named")?, "write close".into())?;
    let second = w.open("named")?;
    put(&unnamed, 3, b"two")?;
    drop(second);
    same(
        "O_TMPFILE, still open",
        ops(w, "named")?,
        "write close write".into(),
    )?;
    drop(unnamed);
    same(
        "O_TMPFILE",
        ops(w, "named")?,
        "write close write close".into(),
    )?;

    w.make("cold", b"one")?;
    w.sh("truncate -s 1 cold")?;
    same("cut", ops(w, "cold")?, "write close truncate close".into())?;
    let path = std::ffi::CString::new(w.path("cold").display().to_string()).unwrap_or_default();
    sys::truncate(&path, 0)?;
    let before = "write close truncate close truncate";
    same("cut by name", ops(w, "cold")?, before.into())?;
    for _ in 0..5 {
        fs::write("/proc/sys/vm/drop_caches", "2")?;
    }
    same("out of memory", ops(w, "cold")?, format!("{before} close"))
}

/// With the longest `commit=`, lines reach the log only on request.
pub fn last_when_asked(w: &mut Fixture) -> Outcome {
    w.below("")?;
    w.mount_with("commit=3600")?;
    w.make("f", &[b'a'; 20_000])?;
    w.make("g", &[b'b'; 20_000])?;
    let file = w.open("f")?;
    put(&file, 1, b"x")?;
    check!(
        !is_told(w, "write 1 1")?,
        "a line came that nobody asked for"
    );
    put(&file, 2, b"x")?;
    file.sync_all()?;
    told(w, "fsync", "write 2 1")?;
    put(&file, 3, b"x")?;
    file.sync_data()?;
    told(w, "fdatasync", "write 3 1")?;
    put(&file, 4, b"x")?;
    rustix::fs::syncfs(&file)?;
    told(w, "syncfs", "write 4 1")?;
    put(&file, 5, b"x")?;
    w.sh("cd /; fsfreeze -f \"$OLDPWD\"; fsfreeze -u \"$OLDPWD\"")?;
    told(w, "a freeze", "write 5 1")?;
    fs::create_dir(w.path("d"))?;
    File::open(&w.mnt)?.sync_all()?;
    told(w, "fsync of a directory", "mkdir 0 0")?;

    let mut map = Map::of(&file, 20_000, true, true)?;
    map.store(5000, b"x");
    map.sync()?;
    told(w, "msync", "mmap 4096 4096")?;
    drop(map);

    for (at, flags) in [(6, libc::O_SYNC), (7, libc::O_DSYNC)] {
        let mut options = File::options();
        options.read(true).write(true).custom_flags(flags);
        let file = options.open(w.path("f"))?;
        put(&file, at, b"x")?;
        told(w, "a synchronous write", &format!("write {at} 1"))?;
        let at = at + 1000;
        spliced(&file, at, 10).at("splice")?;
        told(w, "a synchronous splice", &format!("write {at} 10"))?;
        copied(&w.open("g")?, &file, (0, at), 10).at("copy_file_range")?;
        told(w, "a synchronous copy", &format!("copy {at} 10"))?;
    }
    drop(file);
    w.remount_with("commit=3600,sync")?;
    let file = w.open("f")?;
    put(&file, 8, b"x")?;
    told(w, "a write, mounted with sync", "write 8 1")?;
    file.set_len(19_000)?;
    told(w, "a truncation, mounted with sync", "truncate 19000 1000")?;
    sys::fallocate(&file, 0, 19_000, 9)?;
    told(w, "fallocate, mounted with sync", "allocate 19000 9")?;
    file.write_all_at(b"y", 9)?;
    told(w, "another write", "write 9 1")
}

/// The log file below has a line of this operation.
fn told(w: &Fixture, what: &str, line: &str) -> Outcome {
    check!(is_told(w, line)?, "{what}: no line of '{line}' in the log");
    Ok(())
}

fn is_told(w: &Fixture, line: &str) -> Outcome<bool> {
    for entry in fs::read_dir(w.history()?.join("log"))? {
        let text = fs::read(entry?.path())?;
        if String::from_utf8_lossy(&text).contains(&format!(" {line} ")) {
            return Ok(true);
        }
    }
    Ok(false)
}
