// SPDX-License-Identifier: GPL-2.0

//! A crash interrupted a revert of names: the next mount completes it, or rolls it back.

use std::fs::{self, File};

use crate::crafted::History;
use crate::faults::tree::Tree;
use crate::fixture::Fixture;
use crate::group;
use crate::harness::Test;
use crate::mounts::run_in;
use crate::outcome::{check, fail, same, At, Outcome};
use crate::undo;

pub const TESTS: &[Test] = &[
    Test::new("interrupted-names-go-on", go_on).seconds(120),
    Test::new("interrupted-names-in-the-way", in_the_way),
    Test::new("interrupted-names-wait", wait),
    Test::new("interrupted-first-lines", first_lines).seconds(60),
    Test::new("interrupted-behind-dropped-lines", behind_dropped_lines).seconds(60),
];

/// Operations that the test can repeat below the mount. Names come and go several times: whether
/// one is free does not alone show the progress of a revert.
const STEPS: &[&str] = &[
    "mv a x",
    "mv b a",
    "mv x b",
    "mv a x",
    "mv b a",
    "mv x b",
    "mv c x",
    "mv --exchange a b",
    "mv x c",
];

fn prepare(w: &Fixture, dir: &str) -> Outcome<Tree> {
    fs::create_dir(w.path(dir))?;
    w.sh(&format!(
        "cd {dir}; for f in a b c; do echo $f > $f; echo more >> $f; done"
    ))?;
    Tree::of(&w.path(dir))
}

fn step(w: &Fixture, dir: &str, step: &str) -> Outcome {
    let words: Vec<&str> = step.split(' ').collect();
    run_in(&w.path(dir), &words).map(drop)
}

/// Unmounts, takes the end of the last revert away, and does some operations again: as if a crash
/// had come when only the others had been taken back.
fn interrupt(w: &mut Fixture, dir: &str, again: &[&str]) -> Outcome {
    let home = w.history()?;
    let below = w.below(dir)?;
    w.unmount()?;
    let mut history = History::read(&home)?;
    history.cut_behind("revert")?;
    history.forget();
    history.write(&home)?;
    for step in again {
        let words: Vec<&str> = step.split(' ').collect();
        run_in(&below, &words)?;
    }
    Ok(())
}

/// The newest line but those that only say how the directory was left.
fn newest(w: &Fixture, dir: &str) -> Outcome<String> {
    let lines = undo::lines(&File::open(w.path(dir))?, true)?;
    let newest = lines.iter().rev().find(|line| line.op != "close");
    Ok(newest.map_or(String::new(), |line| line.op.clone()))
}

fn same_tree(w: &Fixture, what: &str, dir: &str, want: &Tree) -> Outcome {
    match Tree::of(&w.path(dir))?.difference(want) {
        Some(difference) => fail!("{what}: {difference}"),
        None => Ok(()),
    }
}

fn go_on(w: &mut Fixture) -> Outcome {
    for again in 0..=STEPS.len() {
        let dir = format!("d{again}");
        let before = prepare(w, &dir)?;
        for text in STEPS {
            step(w, &dir, text)?;
        }
        undo::revert(&File::open(w.path(&dir))?, STEPS.len())?;
        interrupt(w, &dir, &STEPS[..again])?;
        w.mount()?;
        let what = format!("{again} operations were left");
        same_tree(w, &what, &dir, &before)?;
        same(&what, newest(w, &dir)?.as_str(), "commit")?;
        // Operations repeated below are outside changes of the file.
        let flags = if again == 0 { 0 } else { undo::FORCE };
        for name in ["a", "b", "c"] {
            let path = format!("{dir}/{name}");
            let (result, _) = undo::revert_more(&w.open(&path)?, 1, flags);
            result.at(format!("{what}: {path}"))?;
            w.same(&what, &path, format!("{name}\n").as_bytes())?;
        }
        undo::revert(&File::open(w.path(&dir))?, 3).at("the creations")?;
        same(&what, fs::read_dir(w.path(&dir))?.count(), 0)?;
    }
    Ok(())
}

/// A revert that cannot be completed is rolled back, and can be repeated when the conflict is gone.
fn in_the_way(w: &mut Fixture) -> Outcome {
    let steps = ["mv a x", "mv b y", "mv c z"];
    let before = prepare(w, "d")?;
    for text in steps {
        step(w, "d", text)?;
    }
    let behind = Tree::of(&w.path("d"))?;
    undo::revert(&File::open(w.path("d"))?, steps.len())?;
    interrupt(w, "d", &steps[..1])?;
    let there = w.below("d/a")?;
    fs::write(&there, "external")?;
    w.mount()?;
    w.same("not written over", "d/a", b"external")?;
    same("undone", newest(w, "d")?.as_str(), "cancel")?;
    fs::remove_file(&there)?;
    w.remount()?;
    same_tree(w, "undone", "d", &behind)?;
    undo::revert(&File::open(w.path("d"))?, steps.len()).at("nothing is in the way")?;
    same_tree(w, "taken back", "d", &before)
}

/// A revert that can be neither completed nor rolled back waits for a mount that can.
fn wait(w: &mut Fixture) -> Outcome {
    let before = prepare(w, "d")?;
    for text in STEPS {
        step(w, "d", text)?;
    }
    undo::revert(&File::open(w.path("d"))?, STEPS.len())?;
    // Of a, b, c and x, the name b is free: both directions use it.
    interrupt(w, "d", &STEPS[..2])?;
    let there = w.below("d/b")?;
    fs::write(&there, "external")?;
    w.mount()?;
    w.same("not written over", "d/b", b"external")?;
    w.same("one name further", "d/x", b"a\nmore\n")?;
    w.unmount()?;
    fs::remove_file(&there)?;
    w.mount()?;
    same_tree(w, "finished", "d", &before)?;
    same("finished", newest(w, "d")?.as_str(), "commit")
}

/// The power is gone when of a group's lines only the first are durable: nothing was changed yet, and nothing is.
fn first_lines(w: &mut Fixture) -> Outcome {
    for durable in 0..3 {
        let names = ["f", "g", "h"].map(|name| format!("{name}{durable}"));
        for name in &names {
            w.sh(&format!("echo one > {name}; echo two >> {name}"))?;
        }
        let (root, lines) = (File::open(&w.mnt)?, group::history(w)?);
        let appended = lines.into_iter().filter(|placed| placed.line.op == "write");
        let mut appended: Vec<_> = appended.filter(|placed| placed.line.offset == 4).collect();
        let appended = appended.split_off(appended.len() - names.len());
        let (result, _) = group::revert(&root, &appended, 0);
        result?;
        drop(root);
        w.same("taken back", &names[0], b"one\n")?;
        let mut reverts = group::history(w)?;
        reverts.retain(|placed| placed.line.op == "revert");
        let reverts = reverts.split_off(reverts.len() - names.len());
        let (home, below) = (w.history()?, w.below("")?);
        w.unmount()?;
        let mut history = History::read(&home)?;
        history.cut_behind_intent(reverts[durable].seq)?;
        history.forget();
        history.write(&home)?;
        for name in &names {
            fs::write(below.join(name), "one\ntwo\n")?;
        }
        w.mount()?;
        for name in &names {
            let what = format!("{name}, {} lines", durable + 1);
            w.same(&what, name, b"one\ntwo\n")?;
        }
        let end = newest(w, &names[0])?;
        same("the first one's end", end.as_str(), "cancel")?;
    }
    Ok(())
}

/// A group is rolled back although the directory's line before the reverted ones was dropped.
fn behind_dropped_lines(w: &mut Fixture) -> Outcome {
    w.remount_empty("history_max=16M")?;
    w.sh("mkdir d; echo old > d/old; echo one > f")?;
    let is_of_old = |placed: &group::Placed| placed.line.key("name") == Some("old");
    check!(
        group::history(w)?.iter().any(is_of_old),
        "d/old has no line"
    );
    for _ in 0..40 {
        w.sh("dd if=/dev/zero of=large bs=1M count=1 conv=notrunc,fsync")?;
    }
    check!(
        !group::history(w)?.iter().any(is_of_old),
        "the line of d/old is still there"
    );
    let watch = group::Watch::begin(w)?;
    w.sh("echo two >> f; echo new > d/new")?;
    let root = File::open(&w.mnt)?;
    let operations = watch.operations(w)?;
    let (result, _) = group::revert(&root, &operations, group::WALK);
    result?;
    drop(root);
    w.same("taken back", "f", b"one\n")?;
    check!(!w.path("d/new").exists(), "d/new was taken back");
    let last = group::history(w)?
        .into_iter()
        .rfind(|placed| placed.line.op == "revert");
    let Some(last) = last else {
        fail!("there is no revert")
    };
    let home = w.history()?;
    w.unmount()?;
    let mut history = History::read(&home)?;
    history.cut_behind_intent(last.seq)?;
    history.forget();
    history.write(&home)?;
    w.mount_with("history_max=16M")?;
    w.same("withdrawn", "f", b"one\ntwo\n")?;
    w.same("withdrawn", "d/new", b"new\n")?;
    w.same("untouched", "d/old", b"old\n")?;
    for name in ["f", "d"] {
        same(name, newest(w, name)?.as_str(), "cancel")?;
    }
    Ok(())
}
