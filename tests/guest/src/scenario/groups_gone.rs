// SPDX-License-Identifier: GPL-2.0

//! Groups with operations on objects that do not exist any more: files that never had a name, and objects
//! dropped to make room.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{AtFlags, Mode, OFlags, CWD};
use rustix::io::Errno;

use super::verbs::{done, logctl};
use crate::faults::tree::Tree;
use crate::fixture::{put, Fixture};
use crate::group::{self, Conflict, GroupReply, Placed, Watch, DRY_RUN, REDO, WALK};
use crate::harness::Test;
use crate::mounts::run;
use crate::outcome::{check, fail, same, same_errno, At, Outcome};

pub const TESTS: &[Test] = &[
    Test::new("group-of-unnamed", of_unnamed),
    Test::new("group-of-unnamed-in-use", of_unnamed_in_use),
    Test::new("group-of-named-later", of_named_later),
    Test::new("group-of-given-up", of_given_up),
    Test::new("verbs-unnamed", verbs),
];

const TRIMMED: u32 = 3;
const GONE: u32 = 15;

fn take_back(w: &Fixture, operations: &[Placed], flags: u32) -> Outcome<GroupReply> {
    let (result, answer) = group::revert(&File::open(&w.mnt)?, operations, flags);
    match result {
        Ok(()) => Ok(answer),
        Err(error) => fail!("taking back: {error}, {answer:?}"),
    }
}

fn same_tree(w: &Fixture, what: &str, want: &Tree) -> Outcome {
    match Tree::of(&w.mnt)?.difference(want) {
        Some(difference) => fail!("{what}: {difference}"),
        None => Ok(()),
    }
}

/// A file without a name.
fn unnamed(w: &Fixture) -> Outcome<File> {
    let flags = OFlags::RDWR | OFlags::TMPFILE;
    let file = rustix::fs::open(&w.mnt, flags, Mode::from_raw_mode(0o600));
    Ok(File::from(file?))
}

fn give_name(w: &Fixture, file: &File, name: &str) -> Outcome {
    let old = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::linkat(CWD, old, CWD, w.path(name), AtFlags::SYMLINK_FOLLOW)?;
    Ok(())
}

/// Operations on that object are left out; the rest is reverted and redone, also after a remount.
fn of_unnamed(w: &mut Fixture) -> Outcome {
    w.sh("mkdir d; echo one > d/f")?;
    let before = Tree::of(&w.mnt)?;
    let watch = Watch::begin(w)?;
    let file = unnamed(w)?;
    put(&file, 0, b"spilled")?;
    file.set_len(2)?;
    drop(file);
    w.sh("echo two >> d/f")?;
    let ours = watch.operations(w)?;
    same("operations", ours.len(), 3)?;
    let with = Tree::of(&w.mnt)?;
    w.remount_if_lasting()?;
    for (round, mode) in [WALK, WALK, 0].into_iter().enumerate() {
        let dry = take_back(w, &ours, DRY_RUN | mode)?;
        same_tree(w, "a dry run", &with)?;
        let watch = Watch::begin(w)?;
        let answer = take_back(w, &ours, mode).at(format!("round {round}"))?;
        for (what, answer) in [("a dry run", &dry), ("a group", &answer)] {
            let counts = (answer.reverted, answer.left_out, answer.objects);
            same(what, counts, (1, 2, 1))?;
        }
        same_tree(w, "taken back", &before)?;
        if mode == WALK {
            let mut undo = watch.lines(w)?;
            undo.retain(|placed| placed.line.op == "revert");
            same("lines of the undo", undo.len(), 1)?;
            take_back(w, &undo, REDO)?;
            same_tree(w, "redone", &with)?;
        }
    }
    // Alone they come to nothing.
    let answer = take_back(w, &ours[..2], WALK)?;
    let counts = (answer.reverted, answer.left_out, answer.seq);
    same("nothing but those", counts, (0, 2, 0))?;
    same_tree(w, "nothing was done", &before)
}

/// Operations on an open object are taken back like any other.
fn of_unnamed_in_use(w: &mut Fixture) -> Outcome {
    let watch = Watch::begin(w)?;
    let file = unnamed(w)?;
    put(&file, 0, b"first")?;
    put(&file, 0, b"other")?;
    w.sh("echo made > made")?;
    let ours = watch.operations(w)?;
    let answer = take_back(w, &ours[1..], WALK)?;
    let counts = (answer.reverted, answer.left_out);
    same("all of them", counts, (ours.len() as u64 - 1, 0))?;
    let mut content = [0; 5];
    file.read_exact_at(&mut content, 0)?;
    same("its content", &content, b"first")?;
    check!(!w.path("made").exists(), "'made' is still there");
    Ok(())
}

/// Removes the orphans, as if to make room.
fn remove_orphans(w: &Fixture) -> Outcome {
    let kept = w.history()?.join("orphans").display().to_string();
    run(&["find", &kept, "-mindepth", "3", "-delete"]).map(drop)
}

/// A file that had a name is like any other: its loss is reported.
fn of_named_later(w: &mut Fixture) -> Outcome {
    w.below("")?;
    let watch = Watch::begin(w)?;
    let file = unnamed(w)?;
    put(&file, 0, b"first")?;
    give_name(w, &file, "named")?;
    drop(file);
    let ours = watch.operations(w)?;
    same("operations", ours.len(), 2)?;
    fs::remove_file(w.path("named"))?;
    w.remount()?;
    remove_orphans(w)?;
    let (result, answer) = group::revert(&File::open(&w.mnt)?, &ours[..1], 0);
    same_errno("given up", result, Errno::NODATA)?;
    let conflict = Conflict {
        seq: ours[0].seq,
        blocker: 0,
        reason: GONE,
    };
    same("the conflict", answer.conflicts, vec![conflict])
}

/// An object dropped to make room refuses the whole group, also in a dry run, and each of its operations is
/// named; the others can be reverted without them.
fn of_given_up(w: &mut Fixture) -> Outcome {
    w.below("")?;
    w.sh("mkdir d; echo one > d/f; echo one > d/g; ln -s f d/arrow; mkdir d/sub")?;
    let watch = Watch::begin(w)?;
    w.sh("echo two >> d/f; echo two >> d/g; rm d/f d/arrow; rmdir d/sub")?;
    let ours = watch.operations(w)?;
    let with = Tree::of(&w.mnt)?;
    same("operations", ours.len(), 5)?;
    w.remount()?;
    remove_orphans(w)?;
    let of = |op: &str, name: &str| -> Outcome<u64> {
        let found = ours.iter().find(|placed| {
            placed.line.op == op && (name.is_empty() || placed.line.key("name") == Some(name))
        });
        match found {
            Some(placed) => Ok(placed.seq),
            None => fail!("no {op} of {name}"),
        }
    };
    let mut want = vec![
        (of("write", "")?, GONE),
        (of("unlink", "f")?, TRIMMED),
        (of("unlink", "arrow")?, TRIMMED),
        (of("rmdir", "sub")?, TRIMMED),
    ];
    want.sort_unstable();
    for flags in [DRY_RUN, 0, WALK] {
        let (result, answer) = group::revert(&File::open(&w.mnt)?, &ours, flags);
        same_errno("given up", result, Errno::NODATA)?;
        let conflicts = answer.conflicts.iter().map(|c| (c.seq, c.reason));
        let mut conflicts: Vec<(u64, u32)> = conflicts.collect();
        conflicts.sort_unstable();
        same("the conflicts", &conflicts, &want)?;
        same_tree(w, "nothing was done", &with)?;
    }
    let (first, last) = (ours[0].seq, ours[4].seq);
    let (code, _, said) = logctl(w, &format!("revert --ops {first}..{last}"))?;
    same(format!("logctl says: {said}"), code, 1)?;
    for (seq, _) in &want {
        check!(
            said.contains(&format!("op {seq}")),
            "op {seq} is not named: {said}"
        );
    }
    check!(
        said.contains("Hint: --partial takes the others back (exit 3).\n"),
        "no way out: {said}"
    );
    let line = format!("revert --ops {first}..{last} --partial");
    let (code, _, said) = logctl(w, &line)?;
    same(format!("the rest: {said}"), code, 3)?;
    w.same("what is there", "d/g", b"one\n")
}

/// logctl reports the left-out operations, and goes on.
fn verbs(w: &mut Fixture) -> Outcome {
    w.sh("echo one > f")?;
    let before = Tree::of(&w.mnt)?;
    w.sh("echo two >> f")?;
    let watch = Watch::begin(w)?;
    let file = unnamed(w)?;
    put(&file, 0, b"spilled")?;
    drop(file);
    let ours = watch.operations(w)?;
    same("operations", ours.len(), 1)?;
    let seq = ours[0].seq;
    let said = done(w, "log")?;
    check!(!said.contains(&format!(" {seq} ")), "log says: {said}");
    let said = done(w, "log --ops")?;
    check!(said.contains(&format!(" {seq} ")), "log --ops says: {said}");
    let left_out =
        "1 operation on files that never had a name is left out: those files are gone.\n";
    for line in [format!("revert {seq} -n"), format!("revert {seq}")] {
        same("logctl says", done(w, &line)?.as_str(), left_out)?;
    }
    let said = done(w, &format!("restore --to {} -n", ours[0].seq - 1))?;
    same("logctl says", said.as_str(), left_out)?;
    done(w, "undo")?;
    same_tree(w, "undone", &before)?;
    done(w, "redo")?;
    w.same("redone", "f", b"one\ntwo\n")?;
    let said = done(w, "restore --to @-")?;
    check!(
        said.ends_with("Restored the mount to one action before.\n"),
        "restore: {said}"
    );
    same_tree(w, "restored", &before)
}
