// SPDX-License-Identifier: GPL-2.0

//! Reverts that save nothing, for want of space: they cannot be redone, and a crash in the middle is completed.

use std::fs;

use super::room::{range_of, settle, ten_overwrites, MIB, NO_REDO};
use crate::crafted::History;
use crate::fixture::{put, Fixture};
use crate::group::Watch;
use crate::harness::Test;
use crate::outcome::{check, same, At, Outcome};
use crate::shadow::pattern;
use crate::undo;

pub const TESTS: &[Test] = &[
    Test::new("room-without-redo", without_redo).unmounted(),
    Test::new("room-group-without-redo", group_without_redo).unmounted(),
    Test::new("room-interrupted-without-redo", interrupted_without_redo),
];

/// Taken back without a copy for redo: done, and said so; a redo is refused with a sentence.
fn without_redo(w: &mut Fixture) -> Outcome {
    let (file, before, _) = ten_overwrites(w, MIB)?;
    let (result, _) = undo::revert_more(&file, 10, NO_REDO);
    result.at("without redo")?;
    w.same("reverted", "f", &before)?;
    let said = w.sh("logctl redo 2>&1 || true")?;
    check!(said.contains("not saved"), "redo says: {said}");
    w.same("nothing changed", "f", &before)?;
    drop(file);
    w.remount_if_lasting()?;
    w.same("after a mount", "f", &before)?;
    let (file, before, _) = ten_overwrites(w, MIB)?;
    let said = w.sh("logctl revert f --count 10 --no-redo")?;
    check!(said.contains("redo"), "it does not say so: {said}");
    w.same("by the tool", "f", &before)?;
    put(&file, 0, b"more")?;
    undo::revert(&file, 1).at("work goes on")?;
    w.same("work goes on", "f", &before)?;
    // Operations written before are live.
    let (result, _) = undo::revert_more(&file, 1, NO_REDO);
    result.at("the first write")?;
    Ok(())
}

/// Names and content, in one request, when there is no room for any copy.
fn group_without_redo(w: &mut Fixture) -> Outcome {
    w.mount_with("history_max=16M")?;
    w.make("f", &pattern(1, 7 * MIB))?;
    w.sh("echo one > g; mkdir d")?;
    let watch = Watch::begin(w)?;
    w.sh("dd if=/dev/urandom of=f bs=1M count=7 conv=notrunc status=none; echo two > g; mv g h; echo new > d/new; rm -f nothing")?;
    settle(w)?;
    let range = range_of(&watch.operations(w)?);
    let said = w.sh(&format!(
        "logctl revert {range} 2>&1 && echo worked || true"
    ))?;
    check!(
        !said.contains("worked"),
        "7 MiB of undo and of redo: {said}"
    );
    check!(said.contains("--no-redo"), "no way out is named: {said}");
    let said = w.sh(&format!("logctl revert {range} --no-redo"))?;
    check!(said.contains("redo"), "it does not say so: {said}");
    w.same("content", "f", &pattern(1, 7 * MIB))?;
    w.same("a renamed file", "g", b"one\n")?;
    check!(!w.path("h").exists(), "'h' is still there");
    check!(!w.path("d/new").exists(), "'d/new' is still there");
    let said = w.sh("logctl undo 2>&1 && echo worked || true")?;
    check!(
        !said.contains("worked"),
        "taken back without a copy: {said}"
    );
    check!(said.contains("not saved"), "it says: {said}");
    w.same("content", "f", &pattern(1, 7 * MIB))?;
    w.same("a renamed file", "g", b"one\n")
}

/// Unmounts, and takes the end of the last revert away, as if a crash had come.
fn interrupt(w: &mut Fixture) -> Outcome {
    let home = w.history()?;
    w.unmount()?;
    let mut history = History::read(&home)?;
    history.cut_behind("revert")?;
    history.forget();
    history.write(&home)
}

/// The newest line but those that only say how the file was closed.
fn newest(w: &Fixture, name: &str) -> Outcome<String> {
    let lines = undo::lines(&w.open(name)?, true)?;
    let newest = lines.iter().rev().find(|line| line.op != "close");
    Ok(newest.map_or(String::new(), |line| line.op.clone()))
}

/// A crash in the middle: the next mount completes a revert that saved nothing, from any point that it had
/// reached.
fn interrupted_without_redo(w: &mut Fixture) -> Outcome {
    let before = pattern(1, 3 * MIB);
    w.make("f", &before)?;
    let mut after = before.clone();
    {
        let file = w.open("f")?;
        for (number, at) in [0, MIB, 2 * MIB + 5].into_iter().enumerate() {
            let bytes = pattern(50 + number as u64, 300_000);
            put(&file, at as u64, &bytes)?;
            after[at..at + 300_000].copy_from_slice(&bytes);
        }
        file.set_len(2 * MIB as u64)?;
        after.truncate(2 * MIB);
    }
    for (done, size) in [(0, 2 * MIB), (MIB + 77, 3 * MIB), (3 * MIB, 3 * MIB)] {
        let (result, _) = undo::revert_more(&w.open("f")?, 4, NO_REDO);
        result.at("without redo")?;
        w.same("reverted", "f", &before)?;
        interrupt(w)?;
        let mut half = before.clone();
        let rest = done.min(after.len());
        half[rest..after.len()].copy_from_slice(&after[rest..]);
        half.truncate(size);
        fs::write(w.below("f")?, half)?;
        w.mount()?;
        w.same("finished", "f", &before)?;
        same("its end", newest(w, "f")?.as_str(), "commit")?;
        // Once more from the start.
        let file = w.open("f")?;
        for (number, at) in [0, MIB, 2 * MIB + 5].into_iter().enumerate() {
            put(&file, at as u64, &pattern(50 + number as u64, 300_000))?;
        }
        file.set_len(2 * MIB as u64)?;
    }
    w.remount_empty("")?;
    w.make("f", &before)?;
    w.sh("echo one > g; echo one > h")?;
    let watch = Watch::begin(w)?;
    w.sh("echo two > f; mv g i; echo two > h")?;
    let range = range_of(&watch.operations(w)?);
    w.sh(&format!("logctl revert {range} --no-redo"))?;
    w.same("reverted", "f", &before)?;
    interrupt(w)?;
    fs::write(w.below("f")?, b"two\n")?;
    fs::rename(w.below("g")?, w.below("i")?)?;
    w.mount()?;
    w.same("finished", "f", &before)?;
    w.same("finished", "g", b"one\n")?;
    w.same("finished", "h", b"one\n")?;
    check!(!w.path("i").exists(), "'i' is still there");
    same("its end", newest(w, "f")?.as_str(), "commit")
}
