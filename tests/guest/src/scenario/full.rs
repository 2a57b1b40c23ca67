// SPDX-License-Identifier: GPL-2.0

//! No room: on the lower filesystem, in the history, and for the writer alone.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;

use rustix::io::Errno;

use crate::fixture::{put, Fixture};
use crate::harness::Test;
use crate::mounts::{self, run};
use crate::outcome::{check, same, same_bytes, same_errno, At, Outcome};
use crate::shadow::pattern;
use crate::undo;

pub const TESTS: &[Test] = &[
    Test::new("full-lower-trim", full_lower_trim)
        .unmounted()
        .seconds(120),
    Test::new("full-lower-deny", full_lower_deny)
        .unmounted()
        .seconds(120),
    Test::new("full-write-that-fails", full_write_that_fails).unmounted(),
    Test::new("full-deleted-gives-way", full_deleted_gives_way)
        .unmounted()
        .seconds(120),
    Test::new("full-history-as-needed", full_history_as_needed)
        .unmounted()
        .seconds(120),
    Test::new("full-private", full_private)
        .only(&[mounts::Lower::Private])
        .unmounted(),
    Test::new("history-trimmed", history_trimmed).seconds(120),
    Test::new("history-denied", history_denied).unmounted(),
    Test::new("file-size-limit", file_size_limit),
];

/// A small filesystem of the same type, which the test can fill, with LoggerFS at `mnt`.
pub(super) fn small(w: &mut Fixture, options: &str) -> Outcome<PathBuf> {
    small_made(w, &[], options)
}

/// As [`small`]; an ext4 has a quarter of the usual number of inodes.
pub(super) fn with_few_inodes(w: &mut Fixture, options: &str) -> Outcome<PathBuf> {
    let few: &[&str] = match w.lower {
        mounts::Lower::Ext4 => &["-N", "4096"],
        _ => &[],
    };
    small_made(w, few, options)
}

fn small_made(w: &mut Fixture, mkfs: &[&str], options: &str) -> Outcome<PathBuf> {
    use mounts::Lower;
    w.below("f")?;
    let place = w.base.join("small");
    fs::create_dir(&place)?;
    let at = place.display().to_string();
    match w.lower {
        Lower::Tmpfs | Lower::Private => {
            run(&["mount", "-t", "tmpfs", "-o", "size=48M", "small", &at])?;
        }
        // The smallest that their mkfs makes.
        Lower::Ext4 => loop_disk_made(w, "64M", mkfs, &at)?,
        Lower::Btrfs => loop_disk(w, "128M", &at)?,
        Lower::Xfs => loop_disk(w, "320M", &at)?,
    }
    fs::create_dir(place.join("src"))?;
    w.src = Some(place.join("src"));
    w.mount_with(options)?;
    Ok(place)
}

/// On a sparse file in memory: the scratch disk itself has not the room for every size.
pub(super) fn loop_disk(w: &Fixture, size: &str, at: &str) -> Outcome {
    loop_disk_made(w, size, &[], at)
}

/// As [`loop_disk`], with more words for mkfs.
fn loop_disk_made(w: &Fixture, size: &str, mkfs: &[&str], at: &str) -> Outcome {
    let image = "/run/lfs-tests-small";
    let _ = fs::remove_file(image);
    run(&["modprobe", "loop"])?;
    run(&["truncate", "-s", size, image])?;
    let kind = w.lower.name();
    let mut words = vec![format!("mkfs.{kind}"), "-q".into()];
    if kind == "btrfs" {
        words.push("--mixed".into());
    }
    words.extend(mkfs.iter().map(|word| String::from(*word)));
    words.push(image.into());
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    run(&words)?;
    run(&["mount", "-t", kind, "-o", "loop", image, at]).map(drop)
}

pub(super) fn leave(w: &mut Fixture, place: PathBuf) -> Outcome {
    w.unmount()?;
    mounts::unmount(&place)?;
    fs::remove_dir(&place)?;
    let _ = fs::remove_file("/run/lfs-tests-small");
    Ok(())
}

/// Fills the remaining space, through the mount.
fn fill(w: &Fixture, name: &str) -> Outcome {
    let file = w.open(name)?;
    let bytes = vec![b'f'; 1 << 20];
    let mut at = 0u64;
    loop {
        match file.write_at(&bytes, at) {
            Ok(written) => at += written as u64,
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => return Ok(()),
            Err(error) => return Err(error).at("filling"),
        }
        check!(at < 1 << 30, "a small filesystem takes a gigabyte");
    }
}

/// xfs gives a deleted file's blocks back in its own time, btrfs with a commit.
fn wait_for_room(w: &Fixture) -> Outcome {
    for _ in 0..100 {
        rustix::fs::syncfs(fs::File::open(&w.mnt)?)?;
        let stat = rustix::fs::statvfs(&w.mnt)?;
        if stat.f_bavail * stat.f_frsize > 12 << 20 {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    crate::outcome::fail!("a deleted file's room does not come back")
}

/// The history's own room on a full disk: some of the deleted files that are kept with the oldest
/// segment go, not the segment with all of them.
fn full_history_as_needed(w: &mut Fixture) -> Outcome {
    const DELETED: usize = 16;
    const SIZE: usize = 544 << 10;
    /// `Revert.flags`: without a copy for redo, for which a full disk has no room.
    const NO_REDO: u32 = 16;
    /// Why a revert was refused: the saved content was dropped.
    const TRIMMED: u32 = 3;
    let place = small(w, "history_max=128M")?;
    w.make("work", &pattern(500, 1 << 20))?;
    fs::create_dir(w.path("d"))?;
    for number in 0..DELETED {
        fs::write(
            w.path(&format!("d/{number:02}")),
            pattern(number as u64, SIZE),
        )?;
    }
    let everything = || rustix::fs::syncfs(fs::File::open(&w.mnt)?).at("syncing");
    everything()?;
    for number in 0..DELETED {
        fs::remove_file(w.path(&format!("d/{number:02}")))?;
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // These lines fill the segment: the next ones seal it.
    for _ in 0..20 {
        fs::set_permissions(w.path("d"), fs::Permissions::from_mode(0o755))?;
        everything()?;
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let filler = fs::File::create(place.join("filler"))?;
    let mut at = 0;
    while let Ok(written) = filler.write_at(&[b'f'; 4096], at) {
        at += written as u64;
        check!(at < 1 << 30, "a small filesystem takes a gigabyte");
    }
    let file = w.open("work")?;
    for piece in 0..16 {
        put(&file, piece << 16, &pattern(600 + piece, 1 << 16))?;
    }
    everything()?;
    let dir = fs::File::open(w.path("d"))?;
    let mut back = 0;
    while back < DELETED {
        if let (Err(_), answer) = undo::revert_more(&dir, 1, NO_REDO) {
            check!(
                answer.reason == TRIMMED,
                "refused for another reason: {answer:?}"
            );
            break;
        }
        // The changes of mode came after the deletions.
        back = fs::read_dir(w.path("d"))?.count();
    }
    check!(
        back >= DELETED / 2,
        "only {back} of {DELETED} deleted files are left"
    );
    for number in DELETED - back..DELETED {
        w.same(
            "brought back",
            &format!("d/{number:02}"),
            &pattern(number as u64, SIZE),
        )?;
    }
    drop((dir, file, filler));
    fs::remove_file(place.join("filler"))?;
    leave(w, place)
}

/// The default: work goes on, the oldest history is dropped, and the live operations are right.
fn full_lower_trim(w: &mut Fixture) -> Outcome {
    let place = small(w, "history_max=16M,on_full=trim")?;
    w.make("victim", &pattern(1, 1 << 20))?;
    let reserve = if w.lower == mounts::Lower::Btrfs {
        32
    } else {
        16
    };
    w.make("reserve", &vec![b'r'; reserve << 20])?;
    fill(w, "filler")?;
    if w.lower == mounts::Lower::Btrfs {
        // Even an overwrite allocates there, also one of the journal's files; freed space is
        // available only after a commit.
        fs::remove_file(w.path("reserve")).at("deleting must work on a full disk")?;
        rustix::fs::syncfs(fs::File::open(&w.mnt)?)?;
    }
    let file = w.open("victim")?;
    for number in 0..30u64 {
        put(&file, 0, &pattern(100 + number, 1 << 20)).at("overwriting on a full disk")?;
    }
    w.same("overwritten", "victim", &pattern(129, 1 << 20))?;
    let mut want = 129;
    while undo::revert(&file, 1).is_ok() {
        want -= 1;
        let bytes = if want < 100 {
            pattern(1, 1 << 20)
        } else {
            pattern(want, 1 << 20)
        };
        w.same("reverted", "victim", &bytes)?;
        if want < 100 {
            break;
        }
    }
    fs::remove_file(w.path("filler")).at("deleting must work on a full disk")?;
    wait_for_room(w)?;
    put(&file, 0, b"room again")?;
    let lines = undo::lines(&file, false)?;
    let last = lines.last().map_or("", |line| line.text.as_str());
    check!(
        !last.contains("undo=lost"),
        "lost although there is room: {last}"
    );
    drop(file);
    w.remount_with("history_max=16M")?;
    w.revert("victim", 1)?;
    leave(w, place)
}

/// A write without room for its record is refused whole.
fn full_lower_deny(w: &mut Fixture) -> Outcome {
    let place = small(w, "on_full=deny,on_error=refuse")?;
    w.make("victim", &pattern(2, 4 << 20))?;
    let file = w.open("victim")?;
    put(&file, 0, &pattern(3, 1 << 20))?;
    fill(w, "filler")?;
    let mut done = 0u64;
    let refused = loop {
        match file.write_at(&pattern(200 + done, 1 << 20), 0) {
            Ok(written) => same("a whole write", written, 1 << 20)?,
            Err(error) => break error,
        }
        done += 1;
        check!(done < 2000, "2000 MiB of history on a small disk");
    };
    same_errno::<()>("no room", Err(refused), Errno::NOSPC)?;
    let state = |number: u64| {
        let mut bytes = pattern(2, 4 << 20);
        let newest = if number == 0 {
            pattern(3, 1 << 20)
        } else {
            pattern(199 + number, 1 << 20)
        };
        bytes[..1 << 20].copy_from_slice(&newest);
        bytes
    };
    w.same("the refused write changed nothing", "victim", &state(done))?;
    fs::remove_file(w.path("filler")).at("deleting must work on a full disk")?;
    drop(file);
    w.remount_with("on_full=deny")?;
    let file = w.open("victim")?;
    for number in (0..done.min(5)).rev() {
        undo::revert(&file, 1).at("reverting after room was made")?;
        w.same("reverted", "victim", &state(done - done.min(5) + number))?;
    }
    drop(file);
    leave(w, place)
}

/// A write that found no space changed the times of the file before it failed. That is no outside
/// change.
fn full_write_that_fails(w: &mut Fixture) -> Outcome {
    let place = small(w, "history_max=8M")?;
    let reserve = place.join("reserve");
    fs::write(&reserve, vec![b'r'; 16 << 20])?;
    let file = w.open("grower")?;
    let mut size = 0u64;
    let refused = loop {
        match file.write_at(&pattern(size, 65_536), size) {
            Ok(written) => size += written as u64,
            Err(error) => break error,
        }
        check!(size < 1 << 30, "a small filesystem takes a gigabyte");
    };
    same_errno::<()>("no room", Err(refused), Errno::NOSPC)?;
    fs::remove_file(&reserve)?;
    wait_for_room(w)?;
    put(&file, 0, b"room again")?;
    let lines = undo::lines(&file, true)?;
    for line in &lines {
        check!(line.op != "external", "nobody else was here: {}", line.text);
    }
    let failed = format!(" write {size} ");
    check!(
        lines.iter().any(|line| line.text.contains(&failed)),
        "a write that failed, perhaps half way, left no line"
    );
    undo::revert(&file, 1).at("reverting what came after")?;
    let mut first = vec![0; 65_536];
    file.read_exact_at(&mut first, 0)?;
    same_bytes("what came after", &first, &pattern(0, 65_536))?;
    undo::revert(&file, 1).at("reverting the write that failed")?;
    same("size", file.metadata()?.len(), size)?;
    drop(file);
    leave(w, place)
}

/// A deleted file stays an orphan only while its space is not needed.
fn full_deleted_gives_way(w: &mut Fixture) -> Outcome {
    let place = small(w, "history_max=1G")?;
    let stat = rustix::fs::statvfs(&w.mnt)?;
    let size = stat.f_bavail * stat.f_frsize / 5 * 3;
    let fill = |name: &str| -> Outcome {
        let file = w.open(name)?;
        for at in (0..size).step_by(1 << 20) {
            // Writes may be short where room is made in between.
            file.write_all_at(&pattern(at, 1 << 20), at)
                .at(format!("filling {name}"))?;
        }
        Ok(())
    };
    for round in 0..3 {
        fill(&format!("f{round}"))?;
        fs::remove_file(w.path(&format!("f{round}")))?;
    }
    fill("last")?;
    let file = w.open("last")?;
    let mut bytes = vec![0; 1 << 20];
    file.read_exact_at(&mut bytes, 0)?;
    same_bytes("what was written last", &bytes, &pattern(0, 1 << 20))?;
    let names = fs::File::open(&w.mnt)?;
    undo::revert(&names, 1).at("the last creation")?;
    check!(!w.path("last").exists(), "what was created is still there");
    same_errno("what gave way", undo::revert(&names, 1), Errno::NODATA)?;
    drop((file, names));
    leave(w, place)
}

/// `size=` bounds the data and the history of a private tmpfs.
fn full_private(w: &mut Fixture) -> Outcome {
    w.mount_with("size=64M")?;
    let stat = rustix::fs::statvfs(&w.mnt)?;
    same("size", stat.f_blocks * stat.f_frsize, 64 << 20)?;
    w.make("victim", &pattern(1, 1 << 20))?;
    fill(w, "filler")?;
    fs::remove_file(w.path("filler"))?;
    let file = w.open("victim")?;
    put(&file, 0, &pattern(2, 1 << 20))?;
    undo::revert(&file, 1)?;
    w.same("after room was made", "victim", &pattern(1, 1 << 20))
}

/// More history than the limit: the oldest is dropped, the newest stays, and the reply reports
/// that.
fn history_trimmed(w: &mut Fixture) -> Outcome {
    w.remount_empty("history_max=8M")?;
    let file = w.open("f")?;
    put(&file, 0, &pattern(0, 65536))?;
    for number in 1..=400u64 {
        put(&file, 0, &pattern(number, 65536))?;
    }
    let mut number = 400;
    let refused = loop {
        match undo::revert_more(&file, 1, 0) {
            (Ok(()), _) => number -= 1,
            (Err(error), answer) => break (error, answer),
        }
        w.same("reverted", "f", &pattern(number, 65536))?;
        check!(number > 0, "25 MiB of history in 8 MiB");
    };
    check!(
        number < 395,
        "only {} of 400 could be taken back",
        400 - number
    );
    same_errno::<()>("trimmed", Err(refused.0), Errno::NODATA)?;
    same("reason Trimmed", refused.1.reason, 3)?;
    if let Ok(history) = w.history() {
        let used = run(&["du", "-sm", &history.display().to_string()])?;
        let used: u64 = used
            .split('\t')
            .next()
            .and_then(|n| n.parse().ok())
            .unwrap_or(u64::MAX);
        check!(used <= 8 + 4, "{used} MiB of history where 8 are allowed");
    }
    Ok(())
}

fn history_denied(w: &mut Fixture) -> Outcome {
    w.mount_with("history_max=8M,on_full=deny")?;
    let file = w.open("f")?;
    put(&file, 0, &pattern(0, 65536))?;
    let mut done = 0u64;
    let refused = loop {
        match file.write_at(&pattern(done + 1, 65536), 0) {
            Ok(_) => done += 1,
            Err(error) => break error,
        }
        check!(done < 400, "25 MiB of history in 8 MiB");
    };
    same_errno::<()>("no room for history", Err(refused), Errno::NOSPC)?;
    w.same(
        "the refused write changed nothing",
        "f",
        &pattern(done, 65536),
    )?;
    check!(done > 50, "only {done} writes of 64 KiB in 8 MiB");
    same_errno(
        "a revert needs room for its own record",
        undo::revert(&file, 1),
        Errno::NOSPC,
    )?;
    w.same("and changed nothing", "f", &pattern(done, 65536))?;
    drop(file);
    if w.src.is_none() {
        return Ok(());
    }
    w.remount_with("history_max=32M,on_full=deny")?;
    let file = w.open("f")?;
    for number in (0..done).rev().take(20) {
        undo::revert(&file, 1).at("reverting with more room")?;
        w.same("reverted", "f", &pattern(number, 65536))?;
    }
    Ok(())
}

/// The journal grows far beyond the file size limit of the writer.
fn file_size_limit(w: &mut Fixture) -> Outcome {
    w.make("f", &pattern(9, 4096))?;
    let status = w.worker(&["limited", "f", "8192", "600"]).status()?;
    check!(status.success(), "the writer failed: {status}");
    same("lines", w.log("f")?.len(), 601)?;
    w.same("written", "f", &pattern(599, 4096))?;
    w.revert("f", 599)?;
    w.same("all but one reverted", "f", &pattern(0, 4096))?;
    w.revert("f", 1)?;
    w.same("all reverted", "f", &pattern(9, 4096))
}
