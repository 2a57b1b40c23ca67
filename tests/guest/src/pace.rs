// SPDX-License-Identifier: GPL-2.0

//! How long a fuzzer goes on: a fixed number of rounds, or so many seconds.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::{Duration, Instant};

use crate::fixture::Fixture;
use crate::outcome::{At, Outcome};
use crate::shadow::Random;

/// The rounds of a fuzzer. Each has random numbers of its own, so that one round can be repeated
/// alone.
pub struct Rounds {
    name: &'static str,
    seed: u64,
    round: u64,
    first: u64,
    most: u64,
    end: Option<Instant>,
}

thread_local! {
    /// Counts of the outcomes: a fuzzer whose calls are always refused tests nothing.
    static COUNTS: RefCell<BTreeMap<&'static str, u64>> = const { RefCell::new(BTreeMap::new()) };
}

/// Counts something that came about.
pub fn count(what: &'static str) {
    COUNTS.with(|counts| *counts.borrow_mut().entry(what).or_default() += 1);
}

/// All that was counted.
fn counted() -> String {
    COUNTS.with(|counts| {
        let counts = counts.borrow();
        let words = counts
            .iter()
            .map(|(what, number)| format!(", {number} {what}"));
        words.collect()
    })
}

impl Rounds {
    /// `most` rounds, or those of the seconds that were asked for.
    pub fn new(w: &Fixture, name: &'static str, most: u64) -> Rounds {
        let first = w.round.unwrap_or(0);
        Rounds {
            name,
            seed: w.seed,
            round: first,
            first,
            most: if w.round.is_some() { 1 } else { most },
            end: w
                .fuzz
                .filter(|_| w.round.is_none())
                .map(|seconds| Instant::now() + Duration::from_secs(seconds)),
        }
    }

    /// The random numbers of the next round; `None`: the time is over.
    pub fn next(&mut self) -> Option<Random> {
        let is_over = match self.end {
            Some(end) => Instant::now() >= end,
            None => self.round - self.first >= self.most,
        };
        if is_over {
            let rounds = self.round - self.first;
            println!("     {}: {rounds} rounds{}", self.name, counted());
            return None;
        }
        self.round += 1;
        Some(Random::new(
            self.seed ^ self.round.wrapping_mul(0x9e37_79b9),
        ))
    }

    /// Says in which round something went wrong.
    pub fn judge<T>(&self, outcome: Outcome<T>, what: impl Display) -> Outcome<T> {
        let round = self.round - 1;
        outcome.at(format!("--seed {} --round {round}: {what}", self.seed))
    }
}
