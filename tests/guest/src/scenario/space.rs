// SPDX-License-Identifier: GPL-2.0

//! Allocated space without data: an undo restores it where it was, and frees it where it was not.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use rustix::fs::FallocateFlags as Mode;
use rustix::io::Errno;

use crate::extents;
use crate::fixture::{put, Fixture};
use crate::group::{self, REDO};
use crate::harness::Test;
use crate::outcome::{check, same, At, Outcome};
use crate::shadow::pattern;

pub const TESTS: &[Test] = &[
    Test::new("space-allocated", allocated),
    Test::new("space-changed", changed),
    Test::new("space-behind-the-end", behind_the_end),
    Test::new("space-hides-a-hole", hides_a_hole),
    Test::new("space-cut-off", cut_off),
    Test::new("space-in-a-group", in_a_group),
    Test::new("space-of-the-largest-file", of_the_largest_file),
];

const KIB: u64 = 1024;

/// The allocated ranges of a file, and their total if the filesystem does not report ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Space {
    In(Vec<(u64, u64)>),
    Blocks(u64),
}

fn space(file: &File) -> Outcome<Space> {
    file.sync_all()?;
    Ok(match extents::of(file)? {
        Some(found) => Space::In(found),
        None => Space::Blocks(file.metadata()?.blocks()),
    })
}

/// The state of a file: its bytes and its allocated space.
#[derive(PartialEq, Eq)]
struct Look {
    content: Vec<u8>,
    space: Space,
}

fn look(w: &Fixture) -> Outcome<Look> {
    Ok(Look {
        content: w.read("f")?,
        space: space(&w.open("f")?)?,
    })
}

fn same_look(what: &str, got: &Look, want: &Look) -> Outcome {
    same(what, &got.space, &want.space)?;
    check!(got.content == want.content, "{what}: other content");
    Ok(())
}

/// A file of a MiB with two places of data, 64 KiB each, at 64 and 512 KiB.
fn make(w: &Fixture) -> Outcome<File> {
    let file = w.open("f")?;
    file.set_len(KIB * KIB)?;
    for at in [64, 512] {
        put(&file, at * KIB, &pattern(at, 64 << 10))?;
    }
    file.sync_all()?;
    Ok(file)
}

/// Takes the last undo back.
fn redo(w: &Fixture) -> Outcome {
    let lines = group::history(w)?;
    let undo = lines.iter().rfind(|placed| placed.line.op == "revert");
    let undo = std::slice::from_ref(undo.expect("there was one"));
    let (result, answer) = group::revert(&File::open(&w.mnt)?, undo, REDO);
    result.at(format!("redo, reason {}", answer.reason))
}

/// `fallocate` of some KiB.
fn allocate(file: &File, mode: Mode, at: u64, length: u64) -> rustix::io::Result<()> {
    rustix::fs::fallocate(file, mode, at * KIB, length * KIB)
}

fn allocated(w: &mut Fixture) -> Outcome {
    let file = make(w)?;
    w.undo_from_here()?;
    let before = look(w)?;
    for (at, length) in [(0, 1024), (256, 128), (0, 64), (100, 600), (960, 512)] {
        let what = format!("{length} KiB at {at}");
        allocate(&file, Mode::empty(), at, length)?;
        let after = look(w)?;
        check!(after.space != before.space, "{what} took no space");
        w.revert("f", 1)?;
        same_look(&format!("{what} taken back"), &look(w)?, &before)?;
        redo(w)?;
        same_look(&format!("{what} again"), &look(w)?, &after)?;
        w.revert("f", 1)?;
        same_look(&format!("{what} taken back again"), &look(w)?, &before)?;
    }
    allocate(&file, Mode::empty(), 128, 128)?;
    let some = look(w)?;
    allocate(&file, Mode::empty(), 0, 1024)?;
    w.revert("f", 1)?;
    same_look("what was allocated before stays", &look(w)?, &some)
}

/// Each way to change allocated space; each is taken back alone, then all of them at once.
fn changed(w: &mut Fixture) -> Outcome {
    let file = make(w)?;
    w.undo_from_here()?;
    let start = look(w)?;
    allocate(&file, Mode::empty(), 128, 384)?;
    let mut looks = vec![start, look(w)?];
    type SpaceStep = fn(&File) -> Outcome;
    let steps: [(&str, SpaceStep); 6] = [
        ("a write into it", |f| put(f, 160 * KIB, &pattern(1, 8192))),
        ("a write across its edge", |f| {
            put(f, 120 * KIB, &pattern(2, 16_384))
        }),
        ("a hole", |f| {
            Ok(allocate(f, Mode::PUNCH_HOLE | Mode::KEEP_SIZE, 192, 64)?)
        }),
        ("zeroes", |f| Ok(allocate(f, Mode::ZERO_RANGE, 240, 64)?)),
        ("less", |f| Ok(allocate(f, Mode::COLLAPSE_RANGE, 320, 64)?)),
        ("more", |f| Ok(allocate(f, Mode::INSERT_RANGE, 320, 64)?)),
    ];
    for (what, step) in steps {
        if step(&file).is_err() {
            // Not every filesystem has them.
            continue;
        }
        let after = look(w)?;
        w.revert("f", 1)?;
        let before = looks.last().expect("the first");
        same_look(&format!("{what} taken back"), &look(w)?, before)?;
        redo(w)?;
        same_look(&format!("{what} again"), &look(w)?, &after)?;
        looks.push(after);
    }
    check!(looks.len() >= 5, "only {} steps were taken", looks.len());
    let count = looks.len() - 1;
    w.revert("f", count)?;
    same_look("all taken back", &look(w)?, &looks[0])?;
    redo(w)?;
    same_look("all again", &look(w)?, &looks[count])
}

/// Space beyond the end of the file goes with any revert.
fn behind_the_end(w: &mut Fixture) -> Outcome {
    let file = make(w)?;
    w.undo_from_here()?;
    let before = look(w)?;
    let zeroes = Mode::KEEP_SIZE | Mode::ZERO_RANGE;
    for (mode, at, length) in [
        (Mode::KEEP_SIZE, 1024, 1024),
        (Mode::KEEP_SIZE, 512, 1024),
        (zeroes, 1024, 64),
    ] {
        if let Err(e) = allocate(&file, mode, at, length) {
            // Not every filesystem has these.
            check!(mode == zeroes && e == Errno::OPNOTSUPP, "{mode:?}: {e}");
            continue;
        }
        let after = look(w)?;
        check!(after.space != before.space, "no space behind the end");
        check!(after.content == before.content, "other content");
        w.revert("f", 1)?;
        same_look("taken back", &look(w)?, &before)?;
    }
    allocate(&file, Mode::KEEP_SIZE, 1024, 1024)?;
    put(&file, 64 * KIB, b"something else")?;
    w.revert("f", 2)?;
    same_look("taken back with a write", &look(w)?, &before)
}

/// A file with holes that has as many blocks as its bytes need: some are beyond its end.
fn hides_a_hole(w: &mut Fixture) -> Outcome {
    let file = make(w)?;
    allocate(&file, Mode::KEEP_SIZE, 1024, 2048)?;
    w.undo_from_here()?;
    let before = look(w)?;
    for (at, length) in [(256, 4096), (300, 12_288), (600, 196_608)] {
        put(&file, at * KIB, &pattern(at, length))?;
        w.revert("f", 1)?;
        same_look(&format!("{length} bytes taken back"), &look(w)?, &before)?;
    }
    Ok(())
}

/// Allocated space that a truncation frees comes back with its revert.
fn cut_off(w: &mut Fixture) -> Outcome {
    let file = make(w)?;
    allocate(&file, Mode::empty(), 0, 1024)?;
    w.undo_from_here()?;
    let before = look(w)?;
    file.set_len(32 * KIB)?;
    w.revert("f", 1)?;
    same_look("made longer again", &look(w)?, &before)?;
    drop(
        fs::OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(w.path("f"))?,
    );
    w.revert("f", 1)?;
    same_look("filled again", &look(w)?, &before)
}

fn in_a_group(w: &mut Fixture) -> Outcome {
    let file = make(w)?;
    w.undo_from_here()?;
    let before = look(w)?;
    w.sh("fallocate -l 1M f; fallocate -p -o 128K -l 64K f; fallocate -n -l 4M f; rm f")?;
    drop(file);
    w.sh("logctl undo -4")?;
    same_look("all in one", &look(w)?, &before)
}

/// A file that is as large as its filesystem lets one be: its last block ends behind that.
fn of_the_largest_file(w: &mut Fixture) -> Outcome {
    drop(make(w)?);
    w.undo_from_here()?;
    let before = look(w)?;
    // ext4 has no files of 8 EiB: what follows is the last that its block numbers reach.
    let sizes = [i64::MAX as u64, (1 << 44) - 1, (1 << 44) - 4096];
    let grows = |size: &u64| w.sh(&format!("truncate -s {size} f")).is_ok();
    let Some(size) = sizes.into_iter().find(grows) else {
        return Err(crate::outcome::Stop::Fail("no size is possible".into()));
    };
    for round in 0..2 {
        w.sh("logctl undo")?;
        same_look("taken back", &look(w)?, &before)?;
        w.sh("logctl redo")?;
        let length = fs::metadata(w.path("f"))?.len();
        same(format!("done again, round {round}"), length, size)?;
    }
    w.sh("logctl undo")?;
    same_look("taken back at last", &look(w)?, &before)
}
