// SPDX-License-Identifier: GPL-2.0

//! Protection set outside LoggerFS while files and directories are open through the mount: no call
//! changes them any more, on every lower filesystem, and nothing is reverted.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{chown, FileExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags, XattrFlags};
use rustix::io::Errno;
use rustix::pipe::SpliceFlags;

use crate::fixture::Fixture;
use crate::harness::Test;
use crate::mounts::run;
use crate::outcome::{check, same, same_errno, At, Outcome};
use crate::sys::{as_user, in_child, Map};
use crate::undo;

pub const TESTS: &[Test] = &[
    Test::new("protected-behind-open-file", open_file),
    Test::new("protected-behind-append-only", append_only),
    Test::new("protected-behind-open-directory", open_directory),
    Test::new("protected-behind-mapped", mapped),
    Test::new("protected-behind-revert", reverts),
    Test::new("owner-behind-revert", owner_and_reverts),
];

const USER: u32 = 1000;
const PAGE: usize = 4096;

fn chattr(w: &Fixture, flags: &str, name: &str) -> Outcome {
    let below = w.below(name)?.display().to_string();
    run(&["chattr", flags, &below]).map(drop)
}

fn splice_in(to: &File) -> io::Result<usize> {
    let (output, input) = rustix::pipe::pipe()?;
    File::from(input).write_all(b"spliced")?;
    let flags = SpliceFlags::empty();
    let mut at = 0;
    Ok(rustix::pipe::splice(
        &output,
        None,
        to,
        Some(&mut at),
        7,
        flags,
    )?)
}

fn allocate(file: &File, mode: FallocateFlags) -> io::Result<()> {
    Ok(rustix::fs::fallocate(file, mode, 0, PAGE as u64)?)
}

/// Each way to change content or attributes by a descriptor.
fn changes(w: &Fixture, open: &File) -> Outcome<Vec<(&'static str, io::Result<()>)>> {
    let from = File::open(w.path("from"))?;
    let length = PAGE;
    let copied = rustix::fs::copy_file_range(&from, Some(&mut 0), open, Some(&mut 0), length);
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let mut changes = vec![
        ("write", open.write_at(b"x", 0).map(drop)),
        ("truncate", open.set_len(1)),
        ("grow", open.set_len(1 << 20)),
        ("splice", splice_in(open).map(drop)),
        ("copy", copied.map(drop).map_err(Into::into)),
        ("allocate", allocate(open, FallocateFlags::empty())),
        ("punch", allocate(open, punch)),
        ("chmod", open.set_permissions(Permissions::from_mode(0o600))),
        (
            "touch",
            open.set_modified(std::time::SystemTime::UNIX_EPOCH),
        ),
    ];
    let set = rustix::fs::fsetxattr(open, "user.a", b"b", XattrFlags::empty());
    changes.push(("xattr", set.map_err(Into::into)));
    if let Err(Errno::OPNOTSUPP) = rustix::fs::ioctl_ficlone(open, &from) {
        return Ok(changes);
    }
    let cloned = rustix::fs::ioctl_ficlone(open, &from);
    changes.push(("clone", cloned.map_err(Into::into)));
    Ok(changes)
}

/// Operations that the filesystem does not support fail with its errno.
fn refused(what: &str, result: io::Result<()>) -> Outcome {
    match &result {
        Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
        _ => same_errno(what, result, Errno::PERM),
    }
}

fn content() -> Vec<u8> {
    vec![b'o'; 3 * PAGE]
}

fn open_file(w: &mut Fixture) -> Outcome {
    w.below("f")?;
    w.make("f", &content())?;
    w.make("from", &[b'n'; 2 * PAGE])?;
    let open = w.open("f")?;
    let appending = OpenOptions::new().append(true).open(w.path("f"))?;
    for round in 0..2 {
        chattr(w, "+i", "f")?;
        for (what, result) in changes(w, &open)? {
            refused(&format!("+i behind, {round}: {what}"), result)?;
        }
        let appended = (&appending).write_all(b"x");
        same_errno("+i behind: append", appended, Errno::PERM)?;
        w.same("nothing was changed", "f", &content())?;
        let linked = w.sh("ln f g 2>&1 || true")?;
        check!(!w.path("g").exists(), "a link was made: {linked}");
        chattr(w, "-i", "f")?;
    }
    same("written again", open.write_at(b"x", 0)?, 1)?;
    open.set_len(PAGE as u64).at("cut again")
}

fn append_only(w: &mut Fixture) -> Outcome {
    w.below("f")?;
    w.make("f", &content())?;
    let open = w.open("f")?;
    chattr(w, "+a", "f")?;
    same_errno("+a behind: truncate", open.set_len(1), Errno::PERM)?;
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    refused("+a behind: punch", allocate(&open, punch))?;
    let set = rustix::fs::fsetxattr(&open, "user.a", b"b", XattrFlags::empty());
    refused("+a behind: xattr", set.map_err(Into::into))?;
    let mode = open.set_permissions(Permissions::from_mode(0o600));
    same_errno("+a behind: chmod", mode, Errno::PERM)?;
    let gone = fs::remove_file(w.path("f"));
    same_errno("+a behind: unlink", gone, Errno::PERM)?;
    let moved = fs::rename(w.path("f"), w.path("g"));
    same_errno("+a behind: rename", moved, Errno::PERM)?;
    w.same("nothing was changed", "f", &content())?;
    let mut append = OpenOptions::new().append(true).open(w.path("f"))?;
    append.write_all(b"more").at("+a behind: append")?;
    chattr(w, "-a", "f")?;
    // ftruncate(2) is checked against the attributes of the upper inode: an fstat(2) updates them.
    open.metadata()?;
    open.set_len(1).at("cut again")
}

fn open_directory(w: &mut Fixture) -> Outcome {
    w.below("d")?;
    fs::create_dir(w.path("d"))?;
    w.make("d/f", b"inside")?;
    w.make("outside", b"outside")?;
    let dir = File::open(w.path("d"))?;
    let top = File::open(&w.mnt)?;
    let tries = || -> Vec<(&'static str, bool, rustix::io::Result<()>)> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
        let mode = Mode::from_raw_mode(0o600);
        vec![
            (
                "create",
                true,
                rustix::fs::openat(&dir, "new", flags, mode).map(drop),
            ),
            ("mkdir", true, rustix::fs::mkdirat(&dir, "newdir", mode)),
            ("symlink", true, rustix::fs::symlinkat("x", &dir, "newlink")),
            (
                "link",
                true,
                rustix::fs::linkat(&top, "outside", &dir, "linked", AtFlags::empty()),
            ),
            (
                "rename in",
                true,
                rustix::fs::renameat(&top, "outside", &dir, "moved"),
            ),
            (
                "rename in it",
                false,
                rustix::fs::renameat(&dir, "f", &dir, "g"),
            ),
            (
                "rename out",
                false,
                rustix::fs::renameat(&dir, "f", &top, "g"),
            ),
            (
                "unlink",
                false,
                rustix::fs::unlinkat(&dir, "f", AtFlags::empty()),
            ),
        ]
    };
    for flag in ["i", "a"] {
        chattr(w, &format!("+{flag}"), "d")?;
        for (what, adds, result) in tries() {
            if flag == "i" || !adds {
                let result = result.map_err(io::Error::from);
                same_errno(format!("+{flag} behind: {what}"), result, Errno::PERM)?;
            }
        }
        chattr(w, &format!("-{flag}"), "d")?;
        w.same("what is in it", "d/f", b"inside")?;
    }
    Ok(())
}

/// A mapping that was made before: no page becomes writable any more.
fn mapped(w: &mut Fixture) -> Outcome {
    w.below("f")?;
    w.make("f", &content())?;
    let open = w.open("f")?;
    let mut map = Map::of(&open, 2 * PAGE, true, true)?;
    map.store(0, b"before");
    open.sync_all()?;
    let mut before = content();
    before[..6].copy_from_slice(b"before");
    chattr(w, "+i", "f")?;
    let status = in_child(|| map.store(PAGE, b"after"))?;
    let signal = ExitStatus::from_raw(status).signal();
    same("a store to a new page", signal, Some(libc::SIGBUS))?;
    w.same("nothing was changed", "f", &before)?;
    chattr(w, "-i", "f")?;
    map.store(PAGE, b"after");
    before[PAGE..PAGE + 5].copy_from_slice(b"after");
    w.same("stored again", "f", &before)
}

fn reverts(w: &mut Fixture) -> Outcome {
    w.below("f")?;
    w.make("f", b"one")?;
    let open = w.open("f")?;
    open.write_at(b"two", 0)?;
    chattr(w, "+i", "f")?;
    let revert = || undo::revert_more(&open, 1, undo::FORCE).0;
    same_errno("+i behind", revert(), Errno::PERM)?;
    let said = w.sh("logctl undo 2>&1 && echo worked || true")?;
    check!(!said.contains("worked"), "undone: {said}");
    w.same("nothing was changed", "f", b"two")?;
    chattr(w, "-i", "f")?;
    revert().at("-i behind")?;
    w.same("taken back", "f", b"one")
}

/// Whose a file is now decides who takes back by an open descriptor.
fn owner_and_reverts(w: &mut Fixture) -> Outcome {
    w.below("f")?;
    w.make("f", b"one")?;
    chown(w.path("f"), Some(USER), Some(USER))?;
    let open = as_user(USER, || {
        OpenOptions::new().read(true).write(true).open(w.path("f"))
    })?;
    as_user(USER, || open.write_at(b"two", 0))?;
    let revert = || as_user(USER, || undo::revert_more(&open, 1, undo::FORCE).0);
    chown(w.below("f")?, Some(0), Some(0))?;
    same_errno("not its owner any more", revert(), Errno::PERM)?;
    let read = as_user(USER, || undo::page(&open));
    same_errno("nor a reader of its log", read, Errno::PERM)?;
    w.same("nothing was changed", "f", b"two")
}
