// SPDX-License-Identifier: GPL-2.0

//! Losses by a power cut: segments that were being dropped, other missing segments, and the newest
//! lines.

use std::fs::{self, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;

use rustix::io::Errno;

use super::lasting::{lose_since_sync, power_cut, sync_history};
use crate::fixture::{put, Fixture};
use crate::harness::Test;
use crate::mounts::run;
use crate::outcome::{check, same, same_errno, At, Outcome};
use crate::shadow::pattern;
use crate::undo;

pub const TESTS: &[Test] = &[
    Test::new("dropped-by-half", by_half),
    Test::new("dropped-as-the-state-says", as_the_state_says),
    Test::new("dropped-and-there-again", there_again),
    Test::new("missing-between-others", between_others),
    Test::new("missing-after-an-unmount", after_an_unmount),
    Test::new("lost-line-of-a-rename", lost_rename),
    Test::new("lost-line-of-a-write", lost_write),
    Test::new("kept-beside-its-name", kept_beside),
];

/// How many segments a history has here; the last one is used by the mount that is cut off.
const SEGMENTS: u64 = 6;

/// How many bytes each of them replaces.
const LENGTH: usize = 20_000;

/// The content of `f` after this many overwrites.
fn content(number: u64) -> Vec<u8> {
    pattern(number, LENGTH)
}

/// An overwrite of `f` in each of some segments. Ends in a mount.
fn prepare(w: &mut Fixture) -> Outcome {
    fs::write(w.below("f")?, content(0))?;
    for number in 1..=SEGMENTS {
        put(&w.open("f")?, 0, &content(number))?;
        if number < SEGMENTS {
            w.remount()?;
        }
    }
    Ok(())
}

/// After a clean unmount, a power cut brings dropped segments back: the next mount removes them, and keeps
/// the rest unchanged.
fn there_again(w: &mut Fixture) -> Outcome {
    for number in 0..=SEGMENTS {
        put(&w.open("f")?, 0, &pattern(number, 400_000))?;
        w.remount()?;
    }
    w.unmount()?;
    let (oldest, payload) = (logs(w)?[0].clone(), payloads(w)?[0].clone());
    let saved = [fs::read(&oldest)?, fs::read(&payload)?];
    let home = w.history()?;
    let number: u64 = oldest
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .parse()
        .unwrap_or(0);
    check!(number > 0, "no number: {}", oldest.display());
    let drop_one = "history_max=2M";
    w.mount_with(drop_one)?;
    w.remount_with(drop_one)?;
    w.sh("echo kept > k; rm k")?;
    w.unmount()?;
    check!(!oldest.exists(), "{} was not dropped", oldest.display());
    let names = (logs(w)?, payloads(w)?);
    for (path, bytes) in [&oldest, &payload].into_iter().zip(&saved) {
        fs::write(path, bytes)?;
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
    }
    let left = home.join(format!("orphans/{number:08}/08"));
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&left)?;
    w.mount()?;
    check!(!oldest.exists(), "{} is there", oldest.display());
    check!(!payload.exists(), "{} is there", payload.display());
    check!(!left.exists(), "{} is there", left.display());
    for path in names.0.iter().chain(&names.1) {
        check!(path.exists(), "{} is gone", path.display());
    }
    undo::revert(&fs::File::open(w.path(""))?, 1)?;
    w.same("k", "k", b"kept\n")
}

/// The files of one place in the history, oldest first.
fn files(w: &Fixture, place: &str, end: &str) -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(w.history()?.join(place)).at(place)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('0') && name.ends_with(end) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn logs(w: &Fixture) -> Outcome<Vec<PathBuf>> {
    files(w, "log", ".log")
}

fn payloads(w: &Fixture) -> Outcome<Vec<PathBuf>> {
    files(w, "undo", ".dat")
}

/// The newest `count` overwrites come back to the very bytes; the one before is refused.
fn ends_behind(w: &Fixture, count: u64, errno: Errno, reason: u32) -> Outcome {
    let file = w.open("f")?;
    for number in (SEGMENTS - count..SEGMENTS).rev() {
        undo::revert(&file, 1).at(format!("back to {number}"))?;
        w.same("reverted", "f", &content(number))?;
    }
    let (result, answer) = undo::revert_more(&file, 1, 0);
    same_errno("the one before", result, errno)?;
    same("its reason", answer.reason, reason)?;
    w.same("nothing changed", "f", &content(SEGMENTS - count))?;
    let (result, answer) = undo::revert_more(&file, 2, 0);
    same_errno("two", result, errno)?;
    same("their reason", answer.reason, reason)?;
    w.same("nothing changed", "f", &content(SEGMENTS - count))?;
    drop(file);
    // Work goes on.
    put(&w.open("f")?, 5, b"more")?;
    w.revert("f", 1)?;
    w.same("work goes on", "f", &content(SEGMENTS - count))
}

fn trimmed_behind(w: &Fixture, count: u64) -> Outcome {
    ends_behind(w, count, Errno::NODATA, 3)
}

fn damaged_behind(w: &Fixture, count: u64) -> Outcome {
    ends_behind(w, count, Errno::UCLEAN, 10)
}

/// The names of the oldest payload files are gone, those of their logs are not: both went, and the
/// power cut came when only one of the directories was durable.
fn by_half(w: &mut Fixture) -> Outcome {
    prepare(w)?;
    power_cut(w)?;
    let (logs_before, dats) = (logs(w)?, payloads(w)?);
    for path in &dats[..2] {
        fs::remove_file(path)?;
    }
    w.mount()?;
    for path in &logs_before[..2] {
        check!(!path.exists(), "{} is still there", path.display());
    }
    check!(logs_before[2].exists(), "a log went that was not dropped");
    trimmed_behind(w, SEGMENTS - 2)?;
    w.remount()?;
    let (result, answer) = undo::revert_more(&w.open("f")?, 1, 0);
    same_errno("after another mount", result, Errno::NODATA)?;
    same("its reason", answer.reason, 3)
}

/// Segments that the state knows to be dropped left some of their files: a log with its payload file, and a
/// log without one.
fn as_the_state_says(w: &mut Fixture) -> Outcome {
    prepare(w)?;
    w.unmount()?;
    let (logs_before, dats) = (logs(w)?, payloads(w)?);
    let mut left = Vec::new();
    for path in [&logs_before[0], &dats[0], &logs_before[1]] {
        left.push((path, fs::read(path)?));
    }
    w.mount_with("history_max=1M")?;
    let other = w.open("other")?;
    let mut rounds = 0;
    // When later ones are gone, the state on the disk knows of these.
    while logs_before[4].exists() {
        put(&other, 0, &pattern(rounds, 300_000))?;
        rustix::fs::syncfs(fs::File::open(&w.mnt)?)?;
        rounds += 1;
        check!(rounds < 60, "18 MB of history in one: the oldest stay");
    }
    drop(other);
    power_cut(w)?;
    let oldest = logs(w)?.remove(0);
    for (path, bytes) in &left {
        fs::write(path, bytes)?;
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
    }
    w.mount_with("history_max=1M")?;
    // A mount may drop more segments, but may not bring dropped ones back.
    let now = logs(w)?.remove(0);
    check!(now >= oldest, "the oldest log: {now:?}, before {oldest:?}");
    check!(!dats[0].exists(), "its payloads are still there");
    let (result, answer) = undo::revert_more(&w.open("f")?, SEGMENTS, 0);
    same_errno("all of them", result, Errno::NODATA)?;
    // Where the mount has dropped even the newest, nothing is left.
    check!([1, 3].contains(&answer.reason), "the reason: {answer:?}");
    w.same("nothing changed", "f", &content(SEGMENTS))
}

/// A payload file that is missing between others was not dropped: that is damage.
fn between_others(w: &mut Fixture) -> Outcome {
    prepare(w)?;
    power_cut(w)?;
    let dats = payloads(w)?;
    fs::remove_file(&dats[2])?;
    w.mount()?;
    damaged_behind(w, SEGMENTS - 3)
}

/// Neither was one that was there when the history was closed in good order.
fn after_an_unmount(w: &mut Fixture) -> Outcome {
    prepare(w)?;
    w.unmount()?;
    fs::remove_file(&payloads(w)?[0])?;
    w.mount()?;
    damaged_behind(w, SEGMENTS - 1)
}

/// The power cut took the line of a rename and its closing line; the rename was durable. Only the change time
/// moved, so that no other program changed the file. Recovery knows this also if the next mount ended without
/// an access to the file.
fn lost_rename(w: &mut Fixture) -> Outcome {
    for remounts in 0..3 {
        w.remount_empty("")?;
        lose_rename(w, remounts).at(format!("after {remounts} more mounts"))?;
    }
    Ok(())
}

fn lose_rename(w: &mut Fixture, remounts: usize) -> Outcome {
    w.sh("echo one > f; echo two >> f")?;
    sync_history(w)?;
    w.sh("mv f g; chmod 600 g; mv g h")?;
    lose_since_sync(w)?;
    w.mount()?;
    for _ in 0..remounts {
        w.remount()?;
    }
    let all = undo::lines(&w.open("h")?, true)?;
    check!(
        !all.iter().any(|line| line.op == "external"),
        "nobody else was here: {all:?}"
    );
    w.revert("h", 1)?;
    w.same("reverted", "h", b"one\n")?;
    w.remount()?;
    w.revert("h", 1)?;
    w.same("all reverted", "h", b"")
}

/// The power cut took the line of a write of the same length; or another program wrote after the next mount,
/// and reset the modification time. Neither is reverted.
fn lost_write(w: &mut Fixture) -> Outcome {
    for is_other in [false, true] {
        w.remount_empty("")?;
        w.sh("echo one > f; echo two >> f")?;
        sync_history(w)?;
        let change = "mv f g; echo six | dd of=g bs=4 seek=1 conv=notrunc status=none";
        if is_other {
            w.sh("mv f g")?;
        } else {
            w.sh(change)?;
        }
        lose_since_sync(w)?;
        w.mount()?;
        if is_other {
            let path = w.below("g")?.display().to_string();
            let write = "touch -r \"$1\" /run/lfs-time; echo six | dd of=\"$1\" bs=4 seek=1 conv=notrunc status=none; touch -r /run/lfs-time \"$1\"";
            run(&["bash", "-euc", write, "bash", &path])?;
        }
        let (result, answer) = undo::revert_more(&w.open("g")?, 1, 0);
        same_errno(format!("another's: {is_other}"), result, Errno::STALE)?;
        same("its reason", answer.reason, 4)?;
        w.same("nothing changed", "g", b"one\nsix\n")?;
    }
    Ok(())
}

/// The power cut came during a rename over a file: the file is an orphan, and still has its name. None of its
/// lines is lost, whether or not its content changed.
fn kept_beside(w: &mut Fixture) -> Outcome {
    for is_changed in [false, true] {
        w.remount_empty("")?;
        w.sh("echo one > f; echo two >> f")?;
        let object = undo::lines(&w.open("f")?, true)?[0]
            .key("obj")
            .map(String::from);
        power_cut(w)?;
        let segment = logs(w)?[0].file_stem().map(|stem| stem.to_owned());
        let inode = fs::metadata(w.below("f")?)?.ino();
        let kept = w
            .history()?
            .join("orphans")
            .join(segment.unwrap_or_default());
        let kept = kept.join(format!("{:02x}", inode / 32 % 256));
        fs::DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(&kept)?;
        let entry = kept.join(object.unwrap_or_default());
        fs::hard_link(w.below("f")?, &entry)?;
        if is_changed {
            fs::write(w.below("f")?, "one\ntwo\nthree\n")?;
        }
        w.mount()?;
        check!(!entry.exists(), "it is kept still: {}", entry.display());
        w.remount()?;
        let file = w.open("f")?;
        let lines = undo::lines(&file, true)?;
        same(
            "writes",
            lines.iter().filter(|line| line.op == "write").count(),
            2,
        )?;
        let (result, _) = undo::revert_more(&file, 1, 0);
        if is_changed {
            same_errno("changed", result, Errno::STALE)?;
            w.same("nothing changed", "f", b"one\ntwo\nthree\n")?;
        } else {
            result.at("a revert")?;
            w.same("reverted", "f", b"one\n")?;
        }
    }
    Ok(())
}
