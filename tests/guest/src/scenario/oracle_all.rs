// SPDX-License-Identifier: GPL-2.0

//! Random operations of all kinds by several processes, files open and mapped, taken back in all ways;
//! a failure is made short.

use std::time::Duration;

use crate::fixture::Fixture;
use crate::harness::Test;
use crate::oracle::reduce::reduced;
use crate::oracle::run::{Planted, SequenceRun};
use crate::oracle::sequence::{sequence, Action};
use crate::oracle::state::unprotect_all;
use crate::outcome::{check, fail, Outcome, Stop};
use crate::shadow::Random;

pub const TESTS: &[Test] = &[
    Test::new("oracle-all", oracle_all).seconds(1200),
    Test::new("oracle-planted", oracle_planted)
        .seconds(600)
        .lengthy(),
];

/// How many steps there are until all is taken back.
const ROUND: usize = 500;

/// For how long a failure is made shorter.
const PATIENCE: Duration = Duration::from_secs(900);

/// The numbers of one round.
fn actions(seed: u64, round: u64, steps: usize) -> Vec<Action> {
    let mut random = Random::new(seed ^ (round + 1).wrapping_mul(0x9e37_79b9));
    sequence(&mut random, steps)
}

/// Runs a sequence over an empty directory; returns the failure, if any.
fn failure(
    w: &mut Fixture,
    actions: &[Action],
    planted: Planted,
) -> Outcome<Option<(usize, String)>> {
    unprotect_all(&w.mnt)?;
    w.remount_empty("")?;
    let result = SequenceRun::new(w, planted)?.run(actions);
    Ok(match result {
        Err((number, Stop::Fail(why))) => Some((number, why)),
        _ => None,
    })
}

/// The kind of a failure, so that a reduced sequence has the same one.
fn sort_of(why: &str) -> String {
    if let Some((_, error)) = why.split_once("(os error ") {
        return error.chars().take_while(char::is_ascii_digit).collect();
    }
    let sorts = [
        "planted",
        "mapped",
        "other bytes",
        "xattrs",
        "is there",
        "is missing",
        "mode ",
        "times: ",
        "holes: ",
        "nothing is logged",
    ];
    let found = sorts.iter().find(|sort| why.contains(**sort));
    found.copied().unwrap_or_default().to_string()
}

/// The shortest sequence that fails, and its failure. `None`: the failure does not repeat.
fn shortest(
    w: &mut Fixture,
    actions: &[Action],
    planted: Planted,
) -> Outcome<Option<(Vec<Action>, String)>> {
    let Some((number, mut why)) = failure(w, actions, planted)? else {
        return Ok(None);
    };
    let actions = &actions[..actions.len().min(number + 1)];
    let sort = sort_of(&why);
    let mut broken = None;
    let short = reduced(actions, PATIENCE, |part| match failure(w, part, planted) {
        Ok(Some((_, reason))) if sort_of(&reason) == sort => {
            why = reason;
            true
        }
        Ok(_) => false,
        Err(stop) => {
            broken = Some(stop);
            false
        }
    });
    match broken {
        Some(stop) => Err(stop),
        None => Ok(Some((short, why))),
    }
}

/// Prints how to repeat a failure, and the reduced sequence.
fn report(w: &mut Fixture, round: u64, actions: &[Action], why: &str) -> Outcome {
    let (lower, seed) = (w.lower.name(), w.seed);
    let again = format!("--lower {lower} --only oracle-all --seed {seed} --round {round}");
    println!("     oracle-all: {again}: {why}");
    let Some((short, why)) = shortest(w, actions, None)? else {
        fail!("{again}: {why} (it did not come again when the same was played on a new mount)");
    };
    println!(
        "     oracle-all: {} of its actions are enough:",
        short.len()
    );
    for action in &short {
        println!("       {}", action.text());
    }
    let texts: Vec<String> = short.iter().map(Action::text).collect();
    fail!("{again}: {why}; enough: {}", texts.join(" | "))
}

fn oracle_all(w: &mut Fixture) -> Outcome {
    let most = w.operations.unwrap_or(w.sized(5000, 2500, 1000));
    let (mut operations, mut compared, mut holes) = (0, 0, 0);
    let first = w.round.unwrap_or(0);
    let seed = w.seed;
    for round in first.. {
        let mut random = Random::new(!seed ^ round.wrapping_mul(0x9e37_79b9));
        let mut actions = actions(seed, round, ROUND);
        let mut run = SequenceRun::new(w, None)?;
        let result = run.run_choosing(&mut actions, &mut random);
        operations += run.operations;
        compared += run.compared;
        holes += run.other_holes;
        drop(run);
        match result {
            Err((_, Stop::Fail(why))) => return report(w, round, &actions, &why),
            Err((_, stop)) => return Err(stop),
            Ok(()) => {}
        }
        if round % 10 == 9 {
            println!("     oracle-all: {operations} operations so far");
        }
        if operations >= most || w.round.is_some() {
            break;
        }
    }
    println!(
        "     oracle-all: {operations} operations, {compared} times the whole tree; other holes, \
         as the rules allow: {holes}"
    );
    Ok(())
}

/// A mistake that is made on purpose is found, and needs no more than a handful of actions then.
fn oracle_planted(w: &mut Fixture) -> Outcome {
    let planted = Some(("symlink", "write"));
    let mut found = None;
    // Not every sequence has an opportunity to make the mistake.
    for round in 0..5 {
        found = shortest(w, &actions(w.seed, round, 400), planted)?;
        if found.is_some() {
            break;
        }
    }
    let Some((short, why)) = found else {
        fail!("a planted mistake was not found");
    };
    let texts: Vec<String> = short.iter().map(Action::text).collect();
    let texts = texts.join(" | ");
    check!(why.contains("planted"), "{why}: {texts}");
    check!(
        short.len() <= 8 && texts.contains("symlink") && texts.contains("write"),
        "{} actions are left: {texts}",
        short.len()
    );
    Ok(())
}
