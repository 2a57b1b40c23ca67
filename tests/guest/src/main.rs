// SPDX-License-Identifier: GPL-2.0

//! The tests of LoggerFS that run in the guest, as root.
//!
//! Every test gets a fresh directory on the lower filesystem with LoggerFS mounted over it, and a
//! process of its own, so that a hang or a crash fails one test only.

mod attack;
mod book;
mod calls;
mod crafted;
mod extents;
mod faults;
mod fixture;
mod group;
mod harness;
mod held;
mod hostile;
mod manifest;
mod mutate;
mod oracle;
mod pace;
mod past_read;
mod results;
mod scenario;
mod transcript;
mod work;

use std::path::PathBuf;
use std::process::exit;

use lfs_shared::{mounts, outcome, shadow, sys, undo};

use harness::{Plan, Report, Test};
use mounts::Lower;

const HELP: &str = "\
lfs-tests - tests of LoggerFS over one lower filesystem after another

  lfs-tests [--lower private|tmpfs|ext4|xfs|btrfs]... [--only NAME|START*]...
            [--skip NAME|START*]... [--elsewhere NAME|START*]... [--half 1|2] [--disk DEVICE-OR-FILE]
            [--seed N] [--out DIR] [--slow N] [--full]
            [--fuzz SECONDS] [--round N] [--operations N] [--raw] [--stay-loaded] [--list]

  --elsewhere
           skips these if they are for other lower filesystems, too
  --half   of the tests that are for all lower filesystems, the first or the second half
  --disk   where ext4, xfs and btrfs are made; without it a sparse file in /run
  --out    directory for results.tsv
  --slow   multiplies the tests' time limits
  --full   the long tests' full sizes (200 killed writers, 100 rounds of mounts, 10,000 random
           changes ...) over every lower filesystem; without it, only over the private one
  --fuzz   each test whose name begins with fuzz goes on for so long
  --round  and does only this round, to repeat what it has found
  --operations
           how many operations oracle-all does: 5,000 with --full, otherwise 2,500 over the private lower
           filesystem and 1,000 over the others
  --raw    no LoggerFS: tries the tests' own steps on the lower filesystem
  --stay-loaded
           do not unload the module at the end: for one who wants to look at what it left
Environment: LFS_MODULE, the path of loggerfs.ko; without it modprobe is used.";

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.first().map(String::as_str) {
        Some("child") => exit(child(&words)),
        Some("work") => exit(work::main(&words[1..])),
        Some("attack") => exit(attack::main(&words[1..])),
        Some("manifest" | "differ") => exit(manifest::main(&words)),
        _ => {}
    }
    let is_faults = words.first().is_some_and(|word| word == "faults");
    let (plan, lowers) = parse(&words[usize::from(is_faults)..]);
    let tests: Vec<&Test> = if is_faults {
        // The process of a test gets only the test's name.
        let is_double = |one: &Test| scenario::all().iter().any(|other| other.name == one.name);
        if let Some(double) = faults::TESTS.iter().find(|test| is_double(test)) {
            usage(&format!("two tests are called {}", double.name));
        }
        faults::TESTS.iter().collect()
    } else {
        scenario::all()
    };
    // A name of the list that no test has would go unnoticed.
    let is_none = |name: &&String| !tests.iter().any(|test| harness::matches(name, test.name));
    if let Some(name) = plan.only.iter().chain(&plan.skip).find(is_none) {
        usage(&format!("no test is called {name}; --list has them"));
    }
    let mut reports = Vec::new();
    for lower in lowers {
        reports.extend(harness::run_lower(&plan, lower, &tests));
    }
    if let Some(directory) = &plan.out {
        if let Err(error) = results::write(directory, &reports) {
            usage(&format!("cannot write the results: {error}"));
        }
    }
    exit(summary(&reports));
}

fn summary(reports: &[Report]) -> i32 {
    let failed = reports
        .iter()
        .filter(|report| report.failure.is_some())
        .count();
    let skipped = reports
        .iter()
        .filter(|report| report.skipped.is_some())
        .count();
    let passed = reports.len() - failed - skipped;
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    i32::from(failed > 0 || passed == 0)
}

fn usage(problem: &str) -> ! {
    eprintln!("lfs-tests: {problem}\n\n{HELP}");
    exit(2);
}

/// The process of one test: `child NAME LOWER BASE SEED raw|loggerfs full|usual`.
fn child(words: &[String]) -> i32 {
    let find = |name: &String| {
        let all = scenario::all().into_iter().chain(faults::TESTS);
        all.into_iter().find(|test| test.name == name)
    };
    let (Some(test), Some(lower), Some(base), Some(seed), Some(kind), Some(sizes)) = (
        words.get(1).and_then(find),
        words.get(2).and_then(|name| Lower::parse(name)),
        words.get(3).map(PathBuf::from),
        words.get(4).and_then(|seed| seed.parse().ok()),
        words.get(5),
        words.get(6),
    ) else {
        usage("bad words after 'child'");
    };
    harness::child(test, lower, kind == "raw", sizes == "full", seed, &base)
}

fn parse(words: &[String]) -> (Plan, Vec<Lower>) {
    let mut plan = Plan {
        raw: false,
        full: false,
        stay_loaded: false,
        seed: 20_261_120,
        disk: String::new(),
        only: Vec::new(),
        skip: Vec::new(),
        elsewhere: Vec::new(),
        half: None,
        out: None,
        place: PathBuf::from("/run/lfs-tests"),
        slow: 1,
        fuzz: None,
    };
    let mut lowers = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || match words.next() {
            Some(value) => value.clone(),
            None => usage(&format!("{word} needs a value")),
        };
        match word.as_str() {
            "--lower" => match Lower::parse(&value()) {
                Some(lower) => lowers.push(lower),
                None => usage("no such lower filesystem"),
            },
            "--only" => plan.only.push(value()),
            "--skip" => plan.skip.push(value()),
            "--elsewhere" => plan.elsewhere.push(value()),
            "--half" => plan.half = Some(number(&value())),
            "--disk" => plan.disk = value(),
            "--seed" => plan.seed = number(&value()),
            "--slow" => plan.slow = number(&value()),
            "--fuzz" => plan.fuzz = Some(number(&value())),
            "--round" => std::env::set_var("LFS_FUZZ_ROUND", number(&value()).to_string()),
            "--operations" => {
                std::env::set_var("LFS_OPERATIONS", number(&value()).to_string());
            }
            "--out" => plan.out = Some(value().into()),
            "--raw" => plan.raw = true,
            "--full" => plan.full = true,
            "--stay-loaded" => plan.stay_loaded = true,
            "--list" => list(),
            "--help" | "-h" => {
                println!("{HELP}");
                exit(0);
            }
            other => usage(&format!("unknown word '{other}'")),
        }
    }
    if lowers.is_empty() {
        lowers.extend(Lower::ALL);
    }
    if plan.disk.is_empty() && lowers.iter().any(|lower| lower.has_disk()) {
        plan.disk = sparse_file();
    }
    (plan, lowers)
}

fn number(word: &str) -> u64 {
    word.parse()
        .unwrap_or_else(|_| usage(&format!("'{word}' is no number")))
}

fn list() -> ! {
    for Test { name, .. } in scenario::all() {
        println!("{name}");
    }
    exit(0);
}

/// A scratch disk for a machine that has none to spare.
fn sparse_file() -> String {
    let path = "/run/lfs-tests.disk";
    let _ = mounts::run(&["modprobe", "loop"]);
    let made = std::fs::File::create(path).and_then(|file| file.set_len(1536 << 20));
    if let Err(error) = made {
        usage(&format!("cannot make {path}: {error}; use --disk"));
    }
    path.into()
}
