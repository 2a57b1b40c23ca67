// SPDX-License-Identifier: GPL-2.0

//! Changes outside LoggerFS, and the chain of an object after a remount and after an unmount.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use rustix::io::Errno;

use crate::fixture::{put, Fixture};
use crate::harness::Test;
use crate::mounts::Lower;
use crate::outcome::{check, same, same_errno, Outcome};
use crate::undo;

pub const TESTS: &[Test] = &[
    Test::new("external-not-stepped-over", external_not_stepped_over),
    Test::new("external-while-open", external_while_open),
    Test::new("chmod-of-a-cold-file", chmod_of_a_cold_file),
    Test::new("rename-of-a-cold-file", rename_of_a_cold_file),
    Test::new("link-and-unlink", link_and_unlink),
    Test::new("subvolume-not-entered", subvolume_not_entered),
    Test::new("remount-options", remount_options),
    Test::new("read-only-then-writable", read_only_then_writable),
];

/// Overwrites the beginning of a file in the lower directory.
fn meddle(w: &Fixture, name: &str, bytes: &[u8]) -> Outcome {
    let file = OpenOptions::new().write(true).open(w.below(name)?)?;
    // The clock of the lower filesystem may be as coarse as a tick.
    std::thread::sleep(std::time::Duration::from_millis(30));
    file.write_all_at(bytes, 0)?;
    std::thread::sleep(std::time::Duration::from_millis(30));
    Ok(())
}

/// A change between two of ours, while the file is closed but still in memory.
fn external_not_stepped_over(w: &mut Fixture) -> Outcome {
    w.below("f")?;
    w.sh("echo AAAA > f")?;
    meddle(w, "f", b"BBBB")?;
    w.sh("echo CCCC >> f")?;
    w.revert("f", 1)?;
    w.same("ours is taken back", "f", b"BBBB\n")?;
    same_errno("the external one", w.try_revert("f", 1), Errno::STALE)?;
    w.same("nothing changed", "f", b"BBBB\n")
}

/// The same while the file stays open through us, between two writes.
fn external_while_open(w: &mut Fixture) -> Outcome {
    w.below("f")?;
    w.make("f", b"")?;
    let file = w.open("f")?;
    put(&file, 0, b"AAAA")?;
    meddle(w, "f", b"BBBB")?;
    put(&file, 4, b"CCCC")?;
    undo::revert(&file, 1)?;
    w.same("ours is taken back", "f", b"BBBB")?;
    same_errno("the external one", undo::revert(&file, 1), Errno::STALE)?;
    w.same("nothing changed", "f", b"BBBB")
}

/// A change by name, of a file whose chain is only on disk, goes on with that chain.
fn chmod_of_a_cold_file(w: &mut Fixture) -> Outcome {
    w.sh("echo one > f; echo two >> f")?;
    w.remount_if_lasting()?;
    w.sh("chmod 600 f; echo three >> f")?;
    w.revert("f", 1)?;
    w.same("reverted", "f", b"one\ntwo\n")?;
    let ops: Vec<String> = undo::lines(&w.open("f")?, false)?
        .iter()
        .map(|line| line.op.clone())
        .collect();
    same(
        "the chain is whole",
        ops,
        vec!["write".into(), "write".into(), "setattr".into()],
    )
}

fn rename_of_a_cold_file(w: &mut Fixture) -> Outcome {
    w.sh("echo one > f; echo two >> f; echo old > g")?;
    w.remount_if_lasting()?;
    w.sh("mv f g")?;
    w.remount_if_lasting()?;
    w.revert("g", 1)?;
    w.same("a rename is no external change", "g", b"one\n")
}

fn link_and_unlink(w: &mut Fixture) -> Outcome {
    w.sh("echo one > f; echo two >> f; ln f g")?;
    w.remount_if_lasting()?;
    w.sh("rm f")?;
    w.remount_if_lasting()?;
    w.sh("touch -a g")?;
    w.revert("g", 1)?;
    w.same("links are no external changes", "g", b"one\n")
}

/// Inode numbers of a subvolume are its own: the history could not tell them from those of the
/// mount.
fn subvolume_not_entered(w: &mut Fixture) -> Outcome {
    if w.lower != Lower::Btrfs || w.raw {
        return Ok(());
    }
    let sub = w.below("sub")?;
    w.sh("mkdir plain; echo one > plain/f")?;
    crate::mounts::run(&["btrfs", "subvolume", "create", &sub.display().to_string()])?;
    let entered = std::fs::read_dir(w.path("sub")).map(|_| ());
    same_errno("a subvolume", entered, Errno::XDEV)?;
    w.same("a directory", "plain/f", b"one\n")?;
    crate::mounts::run(&["btrfs", "subvolume", "delete", &sub.display().to_string()])?;
    Ok(())
}

fn remount_options(w: &mut Fixture) -> Outcome {
    if w.raw {
        return Ok(());
    }
    let target = w.mnt.display().to_string();
    let line = |w: &Fixture| w.sh(&format!("grep ' {target} loggerfs ' /proc/mounts"));
    let before = line(w)?;
    for option in [
        "commit=7",
        "on_full=deny",
        "on_error=refuse",
        "history_max=64M",
    ] {
        let refused = w.sh(&format!("cd /; mount -o remount,{option} {target}"));
        check!(refused.is_err(), "remount,{option} was accepted");
    }
    same("/proc/mounts", line(w)?, before)?;
    w.sh(&format!(
        "echo one > f; cd /; mount -o remount,history=off {target}"
    ))?;
    w.sh(&format!(
        "echo two >> f; cd /; mount -o remount,history=on {target}"
    ))?;
    w.sh("echo three >> f")?;
    w.revert("f", 1)?;
    w.same("recorded again", "f", b"one\ntwo\n")?;
    same_errno("unrecorded", w.try_revert("f", 1), Errno::STALE)?;
    w.same("nothing changed", "f", b"one\ntwo\n")
}

/// A mount that began read-only has no history, so a remount must not make it writable silently.
fn read_only_then_writable(w: &mut Fixture) -> Outcome {
    if w.raw || w.src.is_none() {
        return Ok(());
    }
    w.sh("echo one > f")?;
    w.unmount()?;
    let (source, target) = (w.source(), w.mnt.display().to_string());
    crate::mounts::run(&["mount", "-t", "loggerfs", "-o", "ro", &source, &target])?;
    let refused = crate::mounts::run(&["mount", "-o", "remount,rw", &target]);
    let written = std::fs::write(w.path("f"), b"unrecorded");
    crate::mounts::run(&["umount", &target])?;
    check!(refused.is_err(), "it became writable without history");
    same_errno("writing", written, Errno::ROFS)?;
    w.mount()
}
