// SPDX-License-Identifier: GPL-2.0

//! A dry run decides as the request itself: by the same planner. And directories that are not empty stay
//! while the rest is taken back.

use std::collections::BTreeMap;
use std::fs::File;

use rustix::io::Errno;

use crate::faults::tree::Tree;
use crate::fixture::Fixture;
use crate::group::{self, Placed, Watch, DRY_RUN, REDO, WALK};
use crate::harness::Test;
use crate::outcome::{check, fail, same, same_errno, At, Outcome};
use crate::shadow::Random;

use super::groups::{reverts_since, same_tree, take_back};

pub const TESTS: &[Test] = &[
    Test::new("alike-directory-not-empty", not_empty),
    Test::new("alike-only-a-directory", only_a_directory),
    Test::new("alike-directories-in-directories", nested),
    Test::new("alike-a-redo", a_redo),
    Test::new("alike-across-itself", across_itself),
    Test::new("alike-at-random", at_random)
        .lengthy()
        .seconds(600),
];

const NOT_EMPTY: u32 = 18;

/// Asks for a dry run and then for the thing itself, which must decide alike.
fn alike(w: &Fixture, what: &str, operations: &[Placed], flags: u32) -> Outcome<bool> {
    let root = File::open(&w.mnt)?;
    let before = Tree::of(&w.mnt)?;
    let (dry, told) = group::revert(&root, operations, flags | DRY_RUN);
    same_tree(w, &format!("{what}: a dry run"), &before)?;
    let (done, answer) = group::revert(&root, operations, flags);
    let number = |result: &std::io::Result<()>| match result {
        Ok(()) => 0,
        Err(error) => error.raw_os_error().unwrap_or(-1),
    };
    if number(&dry) != number(&done) {
        let ops: Vec<&str> = operations.iter().map(|p| p.line.text.as_str()).collect();
        fail!("{what}: a dry run {dry:?} {told:?}, and then {done:?} {answer:?}: {ops:#?}");
    }
    let verdict = |answer: &group::GroupReply| {
        let conflicts = answer.conflicts.iter();
        let conflicts: Vec<_> = conflicts.map(|c| (c.seq, c.blocker, c.reason)).collect();
        (answer.reverted, answer.objects, answer.found, conflicts)
    };
    same(
        format!("{what}: the verdict"),
        verdict(&answer),
        verdict(&told),
    )?;
    if done.is_err() {
        same_tree(w, &format!("{what}: refused"), &before)?;
    }
    Ok(done.is_ok())
}

fn not_empty(w: &mut Fixture) -> Outcome {
    let since = Watch::begin(w)?;
    w.sh("mkdir d; for i in 1 2 3; do echo $i > d/$i; done; echo x > beside; mkdir d/sub; echo s > d/sub/s")?;
    let ours = since.operations(w)?;
    let since = Watch::begin(w)?;
    w.sh("echo theirs > d/theirs")?;
    let theirs = since.operations(w)?;
    let dry = take_back(w, &ours, DRY_RUN)?;
    let answer = take_back(w, &ours, 0)?;
    same("how many", answer.reverted, dry.reverted)?;
    same("all but one", answer.reverted, ours.len() as u64 - 1)?;
    same("one note", answer.conflicts.len(), 1)?;
    same("its reason", answer.conflicts[0].reason, NOT_EMPTY)?;
    same("what is in it", answer.conflicts[0].blocker, theirs[0].seq)?;
    let left = w.sh("find . -mindepth 1 | sort | tr '\\n' ' '")?;
    same("what is left", left.trim(), "./d ./d/theirs")?;
    // The revert taken back brings the rest, and is one operation.
    let reverts = reverts_since(w, answer.seq)?;
    take_back(w, &reverts, WALK)?;
    w.same("back", "d/2", b"2\n")?;
    w.same("back", "d/sub/s", b"s\n")?;
    w.same("theirs", "d/theirs", b"theirs\n")?;
    w.remount_if_lasting()?;
    alike(w, "again", &ours, WALK)?;
    let left = w.sh("find . -mindepth 1 | sort | tr '\\n' ' '")?;
    same("what is left", left.trim(), "./d ./d/theirs")?;
    // Without its contents, the directory goes.
    w.sh("rm d/theirs")?;
    let mkdir: Vec<Placed> = ours
        .iter()
        .filter(|p| p.line.op == "mkdir")
        .take(1)
        .cloned()
        .collect();
    check!(
        alike(w, "empty now", &mkdir, 0)?,
        "an empty directory stays"
    );
    check!(!w.path("d").exists(), "it is still there");
    Ok(())
}

fn only_a_directory(w: &mut Fixture) -> Outcome {
    let since = Watch::begin(w)?;
    w.sh("mkdir d")?;
    let ours = since.operations(w)?;
    w.sh("echo theirs > d/theirs")?;
    for flags in [DRY_RUN, 0, DRY_RUN | WALK, WALK] {
        let (result, answer) = group::revert(&File::open(&w.mnt)?, &ours, flags);
        same_errno(format!("flags {flags}"), result, Errno::NOTEMPTY)?;
        same("why", answer.reason, NOT_EMPTY)?;
    }
    // The directory also contains an entry that was made outside LoggerFS.
    let Ok(below) = w.below("e/behind") else {
        return Ok(());
    };
    let since = Watch::begin(w)?;
    w.sh("mkdir e; echo x > y")?;
    let ours = since.operations(w)?;
    std::fs::write(below, "behind")?;
    check!(alike(w, "behind", &ours, 0)?, "all is refused");
    check!(w.path("e/behind").exists(), "it went with its directory");
    check!(!w.path("y").exists(), "the rest stays");
    Ok(())
}

/// Where an inner directory stays, the outer ones do.
fn nested(w: &mut Fixture) -> Outcome {
    let since = Watch::begin(w)?;
    w.sh("mkdir -p a/b/c; echo 1 > a/1; echo 2 > a/b/2; echo 3 > a/b/c/3")?;
    let ours = since.operations(w)?;
    w.sh("echo theirs > a/b/c/theirs")?;
    check!(alike(w, "nested", &ours, 0)?, "all is refused");
    let left = w.sh("find a | sort | tr '\\n' ' '")?;
    same("what is left", left.trim(), "a a/b a/b/c a/b/c/theirs")?;
    // An older operation on the name of one that stays is a conflict.
    w.sh("mkdir old; echo x > old/x")?;
    let since = Watch::begin(w)?;
    w.sh("mv old older; mkdir old; echo y > old/y")?;
    let ours = since.operations(w)?;
    w.sh("echo theirs > old/theirs")?;
    check!(!alike(w, "renamed", &ours, 0)?, "it was done");
    Ok(())
}

fn a_redo(w: &mut Fixture) -> Outcome {
    w.sh("mkdir d")?;
    let since = Watch::begin(w)?;
    w.sh("rmdir d; echo x > beside")?;
    let ours = since.operations(w)?;
    let answer = take_back(w, &ours, WALK)?;
    let undos = reverts_since(w, answer.seq)?;
    w.sh("echo theirs > d/theirs")?;
    check!(!alike(w, "a redo", &undos, REDO)?, "it was done");
    w.same("theirs", "d/theirs", b"theirs\n")
}

/// A directory cannot come back below itself.
fn across_itself(w: &mut Fixture) -> Outcome {
    w.sh("mkdir a b; mkdir a/x")?;
    let since = Watch::begin(w)?;
    w.sh("mv a/x b/x")?;
    let ours = since.operations(w)?;
    w.sh("mv a b/x/a")?;
    check!(!alike(w, "below itself", &ours, 0)?, "it was done");
    w.sh("mv b/x/a a")?;
    check!(alike(w, "not any more", &ours, 0)?, "it was not done");
    check!(w.path("a/x").exists(), "it is not back");
    Ok(())
}

/// One random operation on few names, in directories that two workers share.
fn operation(random: &mut Random) -> String {
    let names = [
        "a", "b", "c", "d", "a/a", "a/b", "b/a", "b/b", "c/a", "a/a/a", "d/d",
    ];
    let mut name = || names[random.below(names.len() as u64) as usize];
    let (one, two) = (name(), name());
    match random.below(12) {
        0..=2 => format!("mkdir {one}"),
        3..=4 => format!("echo {one} >> {two}"),
        5 => format!("rm {one}"),
        6 => format!("rmdir {one}"),
        7 => format!("mv -T {one} {two}"),
        8 => format!("mv --exchange -T {one} {two}"),
        9 => format!("ln {one} {two}"),
        10 => format!("chmod 7{}5 {one}", random.below(8)),
        _ => format!("rm -r {one}"),
    }
}

/// Random histories of two workers, of which one's operations are taken back: a dry run gives the same result
/// as the request.
fn at_random(w: &mut Fixture) -> Outcome {
    let mut random = Random::new(w.seed ^ 77);
    let mut verdicts: BTreeMap<bool, u64> = BTreeMap::new();
    let rounds = w.times(16, 10);
    for round in 0..rounds {
        w.sh("rm -rf ./*")?;
        let mut ours: Vec<Placed> = Vec::new();
        for _ in 0..4 {
            let script = |random: &mut Random, count: u64| {
                let lines: Vec<String> = (0..count).map(|_| operation(random)).collect();
                lines.join("; ")
            };
            let count = 1 + random.below(6);
            let since = Watch::begin(w)?;
            w.sh(&format!(
                "({}) 2>/dev/null || true",
                script(&mut random, count)
            ))?;
            ours.extend(since.operations(w)?);
            let count = random.below(3);
            w.sh(&format!(
                "(true; {}) 2>/dev/null || true",
                script(&mut random, count)
            ))?;
        }
        if ours.is_empty() {
            continue;
        }
        let what = format!("seed {}, round {round}", w.seed);
        let since = Watch::begin(w)?;
        let done = alike(w, &what, &ours, [0, WALK][(round % 2) as usize])?;
        *verdicts.entry(done).or_default() += 1;
        if done && round % 2 == 1 {
            let mut undos = since.lines(w)?;
            undos.retain(|p| p.line.op == "revert");
            let count = random.below(3);
            let beside: Vec<String> = (0..count).map(|_| operation(&mut random)).collect();
            w.sh(&format!(
                "(true; {}) 2>/dev/null || true",
                beside.join("; ")
            ))?;
            if !undos.is_empty() {
                alike(w, &format!("{what}, forth"), &undos, REDO).at("a redo")?;
            }
        }
    }
    check!(verdicts.len() == 2, "only one verdict: {verdicts:?}");
    Ok(())
}
