// SPDX-License-Identifier: GPL-2.0

//! Several undos that are taken back by one request: all of them, or none.

use std::fs::File;

use rustix::io::Errno;

use super::groups::{cut, reverts_since, same_tree, take_back, OURS, PLANT, THEIRS};
use crate::faults::tree::Tree;
use crate::fixture::Fixture;
use crate::group::{self, Placed, Watch, REDO, WALK};
use crate::harness::Test;
use crate::outcome::{check, same, same_errno, At, Outcome};

pub const TESTS: &[Test] = &[
    Test::new("group-redo-of-several", several)
        .lengthy()
        .seconds(240),
    Test::new("group-redo-of-several-blocked", blocked),
    Test::new("group-redo-of-several-interrupted", interrupted).seconds(120),
    Test::new("group-redo-beside-later-work", beside_later),
];

/// The state before each action and after the last, and the operations of each action.
struct RecordedRun {
    states: Vec<Tree>,
    actions: Vec<Vec<Placed>>,
}

fn record(w: &Fixture) -> Outcome<RecordedRun> {
    w.sh(PLANT)?;
    let mut recorded = RecordedRun {
        states: vec![Tree::of(&w.mnt)?],
        actions: Vec::new(),
    };
    for part in OURS.iter().chain(THEIRS) {
        let watch = Watch::begin(w)?;
        w.sh(part)?;
        recorded.actions.push(watch.operations(w)?);
        recorded.states.push(Tree::of(&w.mnt)?);
    }
    Ok(recorded)
}

/// Takes the newest actions back, one by one; the lines of each undo, the newest undo last.
fn undo(w: &Fixture, actions: &[Vec<Placed>]) -> Outcome<Vec<Vec<Placed>>> {
    let undo = |action: &Vec<Placed>| {
        let answer = take_back(w, action, WALK)?;
        reverts_since(w, answer.seq)
    };
    actions.iter().rev().map(undo).collect()
}

fn several(w: &mut Fixture) -> Outcome {
    let RecordedRun { states, actions } = record(w)?;
    for size in [actions.len(), 2, 3, 5] {
        let undos = undo(w, &actions)?;
        same_tree(w, "all undone", &states[0])?;
        w.remount_if_lasting()?;
        let mut done = 0;
        for several in undos.rchunks(size) {
            let lines: Vec<Placed> = several.concat();
            done += several.len();
            let watch = Watch::begin(w)?;
            let answer = take_back(w, &lines, REDO).at(format!("redo of {size}"))?;
            same("how many", answer.reverted, lines.len() as u64)?;
            same_tree(w, &format!("{done} redone by {size}"), &states[done])?;
            let mut redos = watch.lines(w)?;
            redos.retain(|placed| placed.line.op == "redo");
            // A directory has one for its names and one for its attributes.
            check!(
                redos.len() <= 2 * answer.objects as usize,
                "{} lines for {} objects",
                redos.len(),
                answer.objects
            );
        }
        // Redone operations can be undone again, also in part.
        let last = actions.len() - 1;
        let undone = undo(w, &actions[last..])?;
        same_tree(w, "the last one", &states[last])?;
        take_back(w, &undone.concat(), REDO)?;
        same_tree(w, "and again", &states[last + 1])?;
    }
    Ok(())
}

/// An operation that came later is in the way of one of them: neither is taken back.
fn blocked(w: &mut Fixture) -> Outcome {
    w.sh("echo f > f; echo g > g")?;
    let mut actions = Vec::new();
    for line in ["echo two >> f", "echo two >> g; echo three >> f"] {
        let watch = Watch::begin(w)?;
        w.sh(line)?;
        actions.push(watch.operations(w)?);
    }
    let undos = undo(w, &actions)?;
    // The newest line of the older undo alone: the lines of the newer undo follow it.
    let root = File::open(&w.mnt)?;
    let (result, answer) = group::revert(&root, &undos[0], REDO);
    same_errno("the older one alone", result, Errno::BUSY)?;
    check!(answer.found != 0, "nothing is named: {answer:?}");
    w.sh("echo other > g")?;
    let with = Tree::of(&w.mnt)?;
    let (result, answer) = group::revert(&root, &undos.concat(), REDO);
    same_errno("both", result, Errno::BUSY)?;
    check!(answer.found != 0, "nothing is named: {answer:?}");
    same_tree(w, "nothing was done", &with)?;
    take_back(w, &undos[1], REDO)?;
    w.same("the newer one", "f", b"f\ntwo\n")
}

/// A crash came when everything was applied, and nothing said so yet.
fn interrupted(w: &mut Fixture) -> Outcome {
    w.below("")?;
    let RecordedRun { states, actions } = record(w)?;
    let undos = undo(w, &actions)?;
    take_back(w, &undos.concat(), REDO)?;
    same_tree(w, "redone", &states[actions.len()])?;
    cut(w, "redo")?;
    w.mount()?;
    same_tree(w, "rolled back by the next mount", &states[0])?;
    take_back(w, &undos.concat(), REDO).at("asked again")?;
    same_tree(w, "redone after all", &states[actions.len()])
}

/// Later operations on other names, other bytes and other attributes cause no conflict.
fn beside_later(w: &mut Fixture) -> Outcome {
    w.sh("mkdir d; echo f > d/f; head -c 8192 /dev/zero > d/g")?;
    let watch = Watch::begin(w)?;
    w.sh(
        "mv d/f d/h; echo new > d/new; printf xx | dd of=d/g conv=notrunc status=none; chmod 711 d",
    )?;
    let action = watch.operations(w)?;
    let undos = undo(w, std::slice::from_ref(&action))?;
    w.sh("echo later > d/later; printf yy | dd of=d/g conv=notrunc bs=1 seek=5000 status=none")?;
    w.remount_if_lasting()?;
    take_back(w, &undos.concat(), REDO).at("beside later work")?;
    w.same("later, in the same file", "d/g", &{
        let mut bytes = vec![0; 8192];
        bytes[..2].copy_from_slice(b"xx");
        bytes[5000..5002].copy_from_slice(b"yy");
        bytes
    })?;
    w.same("later, in the same directory", "d/later", b"later\n")?;
    w.same("renamed again", "d/h", b"f\n")?;
    w.same("made again", "d/new", b"new\n")?;
    let with = Tree::of(&w.mnt)?;
    let again = take_back(w, &action, WALK)?;
    w.same("and undone", "d/f", b"f\n")?;
    w.same("later, still", "d/later", b"later\n")?;
    take_back(w, &reverts_since(w, again.seq)?, REDO)?;
    same_tree(w, "redone once more", &with)
}
