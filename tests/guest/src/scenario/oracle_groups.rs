// SPDX-License-Identifier: GPL-2.0

//! Random operations of several processes at once, reverted in groups: all since some point, or all of one
//! process while the others' stay, and redone.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::process::Child;

use rustix::io::Errno;

use crate::faults::tree::Tree;
use crate::fixture::Fixture;
use crate::group::{self, Cursor, GroupReply, Placed, DRY_RUN, REDO, WALK};
use crate::harness::Test;
use crate::outcome::{check, fail, At, Outcome};
use crate::shadow::Random;

pub const TESTS: &[Test] = &[Test::new("oracle-groups", oracle_groups).seconds(1800)];

/// How many processes work at once, each in a directory of its own.
const PROCESSES: u64 = 3;

/// The operations of a go.
struct Batch {
    operations: Vec<Placed>,
    /// The earlier tree.
    before: Tree,
}

/// One process' operations among those of a batch. Lines inherit the process from the first line of
/// their open file.
fn of_process(batch: &[Placed], pid: u32) -> Vec<Placed> {
    let mut opened: BTreeMap<u64, u32> = BTreeMap::new();
    let mut found = Vec::new();
    for placed in batch {
        let open = placed.line.number("open").unwrap_or(placed.seq);
        let told = placed.line.key("pid").and_then(|pid| pid.split('@').next());
        if let Some(told) = told.and_then(|told| told.parse().ok()) {
            opened.insert(open, told);
        }
        if opened.get(&open) == Some(&pid) {
            found.push(placed.clone());
        }
    }
    found
}

/// All processes do so many operations each; says which process worked in which directory.
fn work(w: &Fixture, random: &mut Random, count: u64) -> Outcome<Vec<u32>> {
    let mut children: Vec<Child> = Vec::new();
    for process in 0..PROCESSES {
        let place = format!("p{process}");
        let (seed, count) = (random.next().to_string(), count.to_string());
        children.push(w.worker(&["tree", &place, &seed, &count]).spawn()?);
    }
    let mut pids = Vec::new();
    for mut child in children {
        pids.push(child.id());
        let status = child.wait()?;
        check!(status.success(), "a worker ended with {status}");
    }
    Ok(pids)
}

fn take_back(w: &Fixture, operations: &[Placed], flags: u32) -> Outcome<GroupReply> {
    let (result, answer) = group::revert(&File::open(&w.mnt)?, operations, flags);
    if let Err(error) = result {
        let conflict = answer.conflicts.first();
        let line = operations
            .iter()
            .find(|p| Some(p.seq) == conflict.map(|c| c.seq));
        let line = line.map(|p| p.line.text.as_str());
        let (n, reason, way) = (operations.len(), answer.reason, answer.blocking_seq);
        fail!("{n} operations: {error}, reason {reason}, in the way {way}, {conflict:?}: {line:?}");
    }
    Ok(answer)
}

fn same(w: &Fixture, what: &str, want: &Tree) -> Outcome {
    match Tree::of(&w.mnt)?.difference(want) {
        Some(difference) => fail!("{what}: {difference}"),
        None => Ok(()),
    }
}

/// The lines of the reverts that the last request made.
fn entries(w: &Fixture, log: &mut Cursor, answer: &GroupReply) -> Outcome<Vec<Placed>> {
    let mut lines = log.reverts(w)?;
    let first = answer.seq.to_string();
    lines.retain(|p| p.seq == answer.seq || p.line.key("group") == Some(&first));
    Ok(lines)
}

/// The work of one process is reverted and redone; that of the others stays.
fn one_process(
    w: &Fixture,
    log: &mut Cursor,
    random: &mut Random,
    batches: &[Batch],
    pids: &[Vec<u32>],
) -> Outcome {
    let which = random.below(PROCESSES) as usize;
    let since = random.below(batches.len() as u64) as usize;
    let mut theirs = Vec::new();
    for (batch, pids) in batches.iter().zip(pids).skip(since) {
        theirs.extend(of_process(&batch.operations, pids[which]));
    }
    let place = format!("p{which}/");
    let now = Tree::of(&w.mnt)?;
    let want = now.with_part_of(&batches[since].before, &place);
    let dry = take_back(w, &theirs, DRY_RUN).at("a dry run")?;
    let answer = take_back(w, &theirs, 0).at("one process")?;
    check!(
        (dry.reverted, dry.objects) == (answer.reverted, answer.objects),
        "a dry run said {dry:?}, and then {answer:?}"
    );
    same(w, "one process", &want)?;
    take_back(w, &entries(w, log, &answer)?, WALK).at("one process, back")?;
    same(w, "one process, back", &now)
}

/// Takes the last batches back, and, now and then, forth and back again.
fn undo(w: &Fixture, log: &mut Cursor, random: &mut Random, batches: &[Batch]) -> Outcome {
    let mut all: Vec<Placed> = Vec::new();
    for batch in batches {
        all.extend(batch.operations.iter().cloned());
    }
    let Some(first) = batches.first() else {
        return Ok(());
    };
    let now = Tree::of(&w.mnt)?;
    let answer = take_back(w, &all, WALK).at("undo")?;
    same(w, "undone", &first.before)?;
    if random.below(3) == 0 {
        take_back(w, &entries(w, log, &answer)?, REDO).at("redo")?;
        same(w, "redone", &now)?;
        take_back(w, &all, WALK).at("undo again")?;
        same(w, "undone again", &first.before)?;
    }
    Ok(())
}

fn oracle_groups(w: &mut Fixture) -> Outcome {
    let mut random = Random::new(w.seed ^ 5);
    let random = &mut random;
    for process in 0..PROCESSES {
        fs::create_dir(w.path(&format!("p{process}")))?;
    }
    let rounds = w.times(12, 4);
    let mut log = Cursor::at_end(w)?;
    let (mut batches, mut pids): (Vec<Batch>, Vec<Vec<u32>>) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let at = format!("seed {}, round {round}", w.seed);
        for _ in 0..5 {
            let before = Tree::of(&w.mnt)?;
            log.lines(w)?;
            let count = 1 + random.below(w.times(60, 20));
            pids.push(work(w, random, count).at(&at)?);
            let operations = log.operations(w)?;
            batches.push(Batch { operations, before });
        }
        if random.below(2) == 0 {
            w.remount_if_lasting()?;
        }
        one_process(w, &mut log, random, &batches, &pids).at(&at)?;
        let last = round + 1 == rounds;
        let left = if last {
            0
        } else {
            random.below(batches.len() as u64) as usize
        };
        while batches.len() > left {
            let most = (batches.len() - left) as u64;
            let from = batches.len() - 1 - random.below(most) as usize;
            undo(w, &mut log, random, &batches[from..]).at(&at)?;
            batches.truncate(from);
            pids.truncate(from);
        }
    }
    let (result, _) = group::revert(&File::open(&w.mnt)?, &[], 0);
    crate::outcome::same_errno("nothing is left", result, Errno::INVAL)
}
