// SPDX-License-Identifier: GPL-2.0

//! The share of the history's space that one operation or one undo may use.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::FallocateFlags as Mode;
use rustix::io::Errno;

use super::full::{leave, small, with_few_inodes};
use crate::fixture::{put, Fixture};
use crate::group::{Placed, Watch};
use crate::harness::Test;
use crate::outcome::{check, same, same_errno, At, Outcome};
use crate::shadow::pattern;
use crate::undo;

pub const TESTS: &[Test] = &[
    Test::new("room-undo-keeps-its-source", undo_keeps_its_source).unmounted(),
    Test::new("room-group-keeps-its-source", group_keeps_its_source).unmounted(),
    Test::new("room-creation-denied", creation_denied).unmounted(),
    Test::new("room-creation-on-a-full-disk", creation_on_a_full_disk)
        .unmounted()
        .seconds(120),
    Test::new("room-directory-on-a-full-disk", directory_on_a_full_disk)
        .unmounted()
        .seconds(120),
    Test::new("room-one-large-operation", one_large_operation)
        .unmounted()
        .seconds(120),
    Test::new("room-large-denied", large_denied).unmounted(),
    Test::new("room-half-of-the-rest", half_of_the_rest).unmounted(),
    Test::new("room-large-file-kept", large_file_kept).unmounted(),
    Test::new("room-many-files-kept", many_files_kept).unmounted(),
    Test::new("room-inodes-left-to-others", inodes_left_to_others)
        .unmounted()
        .seconds(120),
    Test::new("room-inodes-of-others", inodes_of_others)
        .only(&[crate::mounts::Lower::Ext4])
        .unmounted()
        .seconds(120),
];

pub(super) const MIB: usize = 1 << 20;

/// `Revert.flags` and `RevertGroup.flags`: without a copy for redo.
pub(super) const NO_REDO: u32 = 16;

/// Why a revert was refused: `Lost`, `NoSpace`.
const LOST: u32 = 2;
const NO_SPACE: u32 = 9;

/// The number of live operations of a file.
fn live(file: &File) -> Outcome<usize> {
    Ok(undo::lines(file, false)?.len())
}

/// Waits until the history's workers have done all that is due.
pub(super) fn settle(w: &Fixture) -> Outcome {
    rustix::fs::syncfs(File::open(&w.mnt)?)?;
    std::thread::sleep(std::time::Duration::from_millis(300));
    Ok(())
}

/// Ten overwrites of a MiB each, in places `apart` bytes apart.
pub(super) fn ten_overwrites(w: &mut Fixture, apart: usize) -> Outcome<(File, Vec<u8>, Vec<u8>)> {
    w.remount_empty("history_max=16M")?;
    let before = pattern(1, 10 * MIB);
    w.make("f", &before)?;
    let file = w.open("f")?;
    let mut after = before.clone();
    for number in 0..10 {
        let (at, bytes) = (number * apart, pattern(50 + number as u64, MIB));
        put(&file, at as u64, &bytes)?;
        after[at..at + MIB].copy_from_slice(&bytes);
    }
    settle(w)?;
    Ok((file, before, after))
}

/// A revert either works or is refused; if refused, every operation is still live and can be taken back.
fn undo_keeps_its_source(w: &mut Fixture) -> Outcome {
    for apart in [0, MIB / 2, MIB] {
        let (file, before, after) = ten_overwrites(w, apart)?;
        let count = live(&file)?;
        let (result, answer) = undo::revert_more(&file, 10, 0);
        if result.is_ok() {
            w.same("reverted", "f", &before)?;
            settle(w)?;
            w.sh("logctl redo")?;
            w.same("redone", "f", &after)?;
            check!(apart < MIB, "10 MiB of redo beside 10 MiB of undo in 16");
            continue;
        }
        same_errno::<()>("no room", result, Errno::NOSPC)?;
        same("the reason", answer.reason, NO_SPACE)?;
        w.same("nothing changed", "f", &after)?;
        settle(w)?;
        same("what is live", live(&file)?, count)?;
        let said = w.sh("logctl revert f --count 10 2>&1 || true")?;
        check!(said.contains("--no-redo"), "no way out is named: {said}");
        let (result, _) = undo::revert_more(&file, 10, NO_REDO);
        result.at("without redo")?;
        w.same("reverted", "f", &before)?;
    }
    Ok(())
}

/// The same of a group: many small redo copies are together as large.
fn group_keeps_its_source(w: &mut Fixture) -> Outcome {
    w.mount_with("history_max=16M")?;
    let part = 48 * 1024;
    let count = 200;
    w.sh("mkdir d")?;
    for number in 0..count {
        w.make(&format!("d/{number}"), &pattern(number, part))?;
    }
    let since = w.sh("sleep 0.1; date +%s.%N")?;
    for number in 0..count {
        put(
            &w.open(&format!("d/{number}"))?,
            0,
            &pattern(1000 + number, part),
        )?;
    }
    settle(w)?;
    let word = since.trim();
    let before = w.sh("logctl log --ops -n 5000 | wc -l")?;
    let said = w.sh(&format!(
        "logctl restore --to \"$(date -d @{word} --rfc-3339=ns | tr ' ' T)\" 2>&1 && echo worked || true"
    ))?;
    let works = said.contains("worked");
    settle(w)?;
    for number in 0..count {
        let whose = if works { number } else { 1000 + number };
        w.same("a file", &format!("d/{number}"), &pattern(whose, part))?;
    }
    if !works {
        check!(said.contains("--no-redo"), "no way out is named: {said}");
        let after = w.sh("logctl log --ops -n 5000 | wc -l")?;
        same("what is live", after, before)?;
    }
    Ok(())
}

/// Overwrites `f` until that is refused.
fn fill_history(w: &Fixture, file: &File) -> Outcome<u64> {
    let mut done = 0;
    loop {
        match file.write_at(&pattern(done + 1, 65536), 0) {
            Ok(_) => done += 1,
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => break,
            Err(error) => return Err(error).at("filling the history"),
        }
        check!(done < 4000, "250 MiB of history");
    }
    settle(w)?;
    Ok(done)
}

/// Status, log and readlog answer.
fn can_be_read(w: &Fixture, name: &str) -> Outcome {
    let said = w.sh(&format!(
        "logctl status {name}; logctl log -n 3; logctl readlog {name} >/dev/null"
    ))?;
    check!(said.contains("history"), "the status: {said}");
    Ok(())
}

/// Operations as `logctl revert` takes them.
pub(super) fn range_of(operations: &[Placed]) -> String {
    let seq = |placed: Option<&Placed>| placed.map_or(0, |placed| placed.seq);
    format!("{}..{}", seq(operations.first()), seq(operations.last()))
}

/// `on_full=deny` and a full history: creations can be taken back, one after the other.
fn creation_denied(w: &mut Fixture) -> Outcome {
    w.mount_with("history_max=8M,on_full=deny")?;
    w.sh("mkdir d")?;
    w.make("f", &pattern(0, 65536))?;
    w.make("d/a", &pattern(5, MIB))?;
    w.make("d/b", &pattern(6, 2 * MIB))?;
    w.sh("echo text > d/c")?;
    let watch = Watch::begin(w)?;
    w.sh("echo first > e; echo second >> e")?;
    let range = range_of(&watch.operations(w)?);
    let file = w.open("f")?;
    let done = fill_history(w, &file)?;
    can_be_read(w, "f")?;
    same_errno(
        "an overwrite's undo copies",
        undo::revert(&file, 1),
        Errno::NOSPC,
    )?;
    w.same("and changed nothing", "f", &pattern(done, 65536))?;
    // With its writes, in one request.
    w.sh(&format!("logctl revert {range}"))?;
    check!(!w.path("e").exists(), "'e' is still there");
    w.sh("logctl undo")?;
    w.same("taken back", "e", b"first\nsecond\n")?;
    w.sh(&format!("logctl revert {range}"))?;
    check!(!w.path("e").exists(), "'e' is still there again");
    let names = File::open(w.path("d"))?;
    for name in ["d/c", "d/b", "d/a"] {
        check!(w.path(name).exists(), "{name} is gone early");
        undo::revert(&names, 1).at(format!("the creation of {name}"))?;
        check!(!w.path(name).exists(), "{name} is still there");
    }
    can_be_read(w, "f")?;
    w.sh("logctl redo 3")?;
    w.same("redone", "d/b", &pattern(6, 2 * MIB))?;
    let (result, _) = undo::revert_more(&file, 1, NO_REDO);
    result.at("an overwrite, without redo")?;
    w.same("without redo", "f", &pattern(done - 1, 65536))?;
    drop((file, names));
    if w.src.is_some() {
        w.remount_with("history_max=8M,on_full=deny")?;
        w.same("after a mount", "f", &pattern(done - 1, 65536))?;
    }
    Ok(())
}

/// Takes every byte of the lower filesystem, past LoggerFS.
pub(super) fn fill_below(place: &Path, round: usize) -> Outcome {
    for size in [1 << 20, 4096, 512] {
        let file = File::create(place.join(format!("fill{round}.{size}")));
        let Ok(file) = file else { continue };
        let bytes = vec![b'f'; size];
        let mut at = 0u64;
        while let Ok(written) = file.write_at(&bytes, at) {
            at += written as u64;
            check!(at < 1 << 30, "a small filesystem takes a gigabyte");
        }
        let _ = file.sync_all();
    }
    Ok(())
}

fn creation_on_a_full_disk(w: &mut Fixture) -> Outcome {
    for options in ["history_max=8M", "history_max=8M,on_full=deny"] {
        let place = match w.src {
            Some(_) => small(w, options)?,
            None => {
                w.mount_with(&format!("size=48M,{options}"))?;
                w.mnt.clone()
            }
        };
        w.sh("mkdir d")?;
        w.make("f", b"before")?;
        w.make("d/a", &pattern(5, MIB))?;
        w.sh("echo text > d/c; echo more >> d/c")?;
        settle(w)?;
        fill_below(&place, 0)?;
        can_be_read(w, "f").at(options)?;
        let names = File::open(w.path("d"))?;
        for name in ["d/c", "d/a"] {
            undo::revert(&names, 1).at(format!("{options}: the creation of {name}"))?;
            check!(!w.path(name).exists(), "{name} is still there");
        }
        w.same("other files", "f", b"before")?;
        can_be_read(w, "f").at(options)?;
        // Nor with lines that cannot be written at all.
        fill_below(&place, 1)?;
        for mode in ["600", "640", "644"] {
            let _ = w.sh(&format!("chmod {mode} f; touch d; rm -f d/b"));
        }
        can_be_read(w, "f").at("lines that cannot be written")?;
        can_be_read(w, "d").at("lines that cannot be written")?;
        drop(names);
        for round in [0, 1] {
            let _ = fs::remove_file(place.join(format!("fill{round}.1048576")));
        }
        match w.src {
            Some(_) => leave(w, place)?,
            None => w.unmount()?,
        }
    }
    Ok(())
}

/// The same for a directory, which only a rename can take away.
fn directory_on_a_full_disk(w: &mut Fixture) -> Outcome {
    let place = match w.src {
        Some(_) => small(w, "")?,
        None => {
            w.mount_with("size=48M")?;
            w.mnt.clone()
        }
    };
    w.sh("mkdir d")?;
    w.sh("mkdir d/e")?;
    settle(w)?;
    fill_below(&place, 0)?;
    let names = File::open(w.path("d"))?;
    undo::revert(&names, 1).at("the creation of d/e")?;
    check!(!w.path("d/e").exists(), "'d/e' is still there");
    drop(names);
    let _ = fs::remove_file(place.join("fill0.1048576"));
    w.sh("logctl redo 2>&1 || true")?;
    match w.src {
        Some(_) => leave(w, place),
        None => w.unmount(),
    }
}

/// A small file with some operations, which must survive those of a large one.
fn some_operations(w: &Fixture) -> Outcome<File> {
    let file = w.open("small")?;
    put(&file, 0, &pattern(0, 1000))?;
    for number in 1..=20 {
        put(&file, 0, &pattern(number, 1000))?;
    }
    Ok(file)
}

fn operations_are_there(w: &Fixture, what: &str, file: &File) -> Outcome {
    settle(w)?;
    for number in (0..20).rev() {
        undo::revert(file, 1).at(format!("{what}: operation {number} of another file"))?;
        w.same(what, "small", &pattern(number, 1000))?;
    }
    Ok(())
}

const LARGE: usize = 40 * MIB;

/// One operation on a file that is larger than the history may be loses its own old state at once, and
/// nothing else.
fn one_large_operation(w: &mut Fixture) -> Outcome {
    type RoomStep = fn(&Fixture, &File) -> Outcome;
    let steps: [(&str, RoomStep); 8] = [
        ("truncate", |_, f| Ok(f.set_len(10)?)),
        ("write", |_, f| put(f, 0, &vec![7; LARGE])),
        ("punch", |_, f| {
            let mode = Mode::PUNCH_HOLE | Mode::KEEP_SIZE;
            Ok(rustix::fs::fallocate(f, mode, 0, LARGE as u64)?)
        }),
        ("open", |w, _| Ok(File::create(w.path("large")).map(drop)?)),
        ("unlink", |w, _| Ok(fs::remove_file(w.path("large"))?)),
        ("rename", |w, _| {
            fs::write(w.path("other"), "other")?;
            Ok(fs::rename(w.path("other"), w.path("large"))?)
        }),
        ("copy", |w, f| {
            let source = w.open("source")?;
            source.set_len(LARGE as u64)?;
            put(&source, 0, &vec![9; 1 << 20])?;
            let (mut from, mut to) = (0, 0);
            while to < LARGE as u64 {
                let left = LARGE - to as usize;
                let (from, to) = (Some(&mut from), Some(&mut to));
                let n = rustix::fs::copy_file_range(&source, from, f, to, left)?;
                check!(n != 0, "copied nothing");
            }
            Ok(())
        }),
        ("insert", |_, f| {
            let done = rustix::fs::fallocate(f, Mode::INSERT_RANGE, 0, 65536);
            check!(
                done.is_ok() || done == Err(Errno::OPNOTSUPP),
                "inserting: {done:?}"
            );
            Ok(())
        }),
    ];
    for (what, step) in steps {
        w.remount_empty("history_max=16M")?;
        w.make("large", &vec![5; LARGE])?;
        let file = some_operations(w)?;
        let large = w.open("large")?;
        let before = used(w)?;
        step(w, &large).at(what)?;
        let after = used(w)?;
        check!(after < before + 4 * MIB as u64, "{what} was copied first");
        drop(large);
        operations_are_there(w, what, &file)?;
    }
    Ok(())
}

/// The bytes of the history, by its own status.
fn used(w: &Fixture) -> Outcome<u64> {
    let said = w.sh("logctl --json status .")?;
    let number = |key: &str| -> u64 {
        let tail = said.split(&format!("\"{key}\":")).nth(1).unwrap_or("0");
        let digits: String = tail.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or(0)
    };
    Ok(number("undo_bytes") + number("orphan_bytes"))
}

/// With `on_full=deny` the operation is refused instead, unless it frees space.
fn large_denied(w: &mut Fixture) -> Outcome {
    w.mount_with("history_max=16M,on_full=deny")?;
    w.make("large", &vec![5; LARGE])?;
    let file = some_operations(w)?;
    let large = w.open("large")?;
    let written = large.write_at(&vec![7; LARGE], 0);
    same_errno("an overwrite", written, Errno::NOSPC)?;
    w.same("and changed nothing", "large", &vec![5; LARGE])?;
    large.set_len(10).at("what makes room")?;
    let (result, answer) = undo::revert_more(&large, 1, 0);
    same_errno("lost", result, Errno::NODATA)?;
    same("the reason", answer.reason, LOST)?;
    operations_are_there(w, "others", &file)
}

/// An operation that would fit, but at the cost of more than half of the rest.
fn half_of_the_rest(w: &mut Fixture) -> Outcome {
    w.mount_with("history_max=16M")?;
    w.make("large", &pattern(3, 10 * MIB))?;
    let file = w.open("f")?;
    put(&file, 0, &pattern(0, MIB))?;
    for number in 1..=10u64 {
        put(&file, 0, &pattern(number, MIB))?;
    }
    settle(w)?;
    w.open("large")?.set_len(0)?;
    settle(w)?;
    let mut back = 0;
    while undo::revert(&file, 1).is_ok() && back < 10 {
        back += 1;
        w.same("reverted", "f", &pattern(10 - back, MIB))?;
    }
    check!(back >= 5, "only {back} of 10 are left behind one operation");
    Ok(())
}

/// Many small files are together as large as one: they are moved away by one request, or not at all.
fn many_files_kept(w: &mut Fixture) -> Outcome {
    let count = 200;
    for by_group in [false, true] {
        w.remount_empty("history_max=16M")?;
        let file = some_operations(w)?;
        w.sh("mkdir d")?;
        let watch = Watch::begin(w)?;
        for number in 0..count {
            w.make(&format!("d/{number}"), &pattern(number, 100_000))?;
        }
        let there = |what: &str| -> Outcome {
            same(what, fs::read_dir(w.path("d"))?.count() as u64, count)
        };
        if by_group {
            let range = range_of(&watch.operations(w)?);
            let said = w.sh(&format!(
                "logctl revert --ops {range} 2>&1 && echo worked || true"
            ))?;
            check!(!said.contains("worked"), "20 MB are kept in 16: {said}");
            there("nothing changed")?;
            let tried = w.sh(&format!(
                "logctl revert -n --ops {range} 2>&1 && echo worked || true"
            ))?;
            check!(!tried.contains("worked"), "a dry run says: {tried}");
            w.sh(&format!("logctl revert --ops {range} --no-redo"))?;
        } else {
            let names = File::open(w.path("d"))?;
            let (result, answer) = undo::revert_more(&names, count, 0);
            same_errno("too much to be kept", result, Errno::NOSPC)?;
            same("the reason", answer.reason, NO_SPACE)?;
            there("nothing changed")?;
            let (result, _) = undo::revert_more(&names, count, NO_REDO);
            result.at("without redo")?;
        }
        same("taken back", fs::read_dir(w.path("d"))?.count(), 0)?;
        operations_are_there(w, "others", &file)?;
    }
    Ok(())
}

/// A file larger than the history limit, created and reverted: it does not become an orphan, and nothing is
/// dropped for it.
fn large_file_kept(w: &mut Fixture) -> Outcome {
    w.mount_with("history_max=16M")?;
    let file = some_operations(w)?;
    w.sh("mkdir d; dd if=/dev/zero of=d/large bs=1M count=40 status=none")?;
    let names = File::open(w.path("d"))?;
    let (result, answer) = undo::revert_more(&names, 1, 0);
    same_errno("too large to be kept", result, Errno::NOSPC)?;
    same("the reason", answer.reason, NO_SPACE)?;
    check!(w.path("d/large").exists(), "it is gone");
    let (result, _) = undo::revert_more(&names, 1, NO_REDO);
    result.at("without redo")?;
    check!(!w.path("d/large").exists(), "it is still there");
    settle(w)?;
    check!(used(w)? < 8 * MIB as u64, "it is kept: {} bytes", used(w)?);
    let said = w.sh("logctl redo 2>&1 && echo worked || true")?;
    check!(!said.contains("worked"), "it came back: {said}");
    operations_are_there(w, "others", &file)?;
    Ok(())
}

/// Removed files keep their inodes: the oldest are given up before others find none, and the newest are there.
fn inodes_left_to_others(w: &mut Fixture) -> Outcome {
    let place = with_few_inodes(w, "history_max=40M")?;
    let space = rustix::fs::statvfs(&place)?;
    // Where inodes are made as they are needed, or take a block each, that runs out first.
    if space.f_files == 0 || space.f_files > 100_000 {
        return leave(w, place);
    }
    let rounds = space.f_files * 2 / 100;
    for round in 0..rounds {
        for number in 0..100 {
            File::create(w.path(&format!("{round}-{number}")))?;
            fs::remove_file(w.path(&format!("{round}-{number}")))?;
        }
        let free = rustix::fs::statvfs(&place)?.f_ffree;
        check!(
            free > space.f_files / 20,
            "{free} of {} are free",
            space.f_files
        );
    }
    File::create(place.join("of-others"))?;
    let newest = format!("{}-99", rounds - 1);
    undo::revert(&File::open(&w.mnt)?, 1)?;
    check!(w.path(&newest).exists(), "{newest} does not come back");
    leave(w, place)
}

/// Where others have nearly all inodes, what is removed comes back all the same.
fn inodes_of_others(w: &mut Fixture) -> Outcome {
    let place = with_few_inodes(w, "")?;
    for number in 0..400 {
        w.make(&format!("{number}"), format!("{number}").as_bytes())?;
    }
    settle(w)?;
    let others = place.join("others");
    fs::create_dir(&others)?;
    let space = rustix::fs::statvfs(&place)?;
    for number in 0..space.f_ffree - space.f_files / 20 {
        File::create(others.join(number.to_string()))?;
    }
    w.sh("rm *")?;
    settle(w)?;
    let free = rustix::fs::statvfs(&place)?.f_ffree;
    check!(free < space.f_files / 10, "{free} inodes are free");
    w.sh("logctl undo")?;
    for number in 0..400 {
        w.same(
            "removed",
            &format!("{number}"),
            format!("{number}").as_bytes(),
        )?;
    }
    leave(w, place)
}
