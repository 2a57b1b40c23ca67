// SPDX-License-Identifier: GPL-2.0

//! Power cuts under LoggerFS, made in a guest by `tests/powercut/run`.
//!
//!   lfs-powercut replay --lower NAME --family NAME --seed N [--steps N] --points N [--out DIR]
//!                       [--point N] [--load FILE] [--keep] [--damage] [--nbd N]
//!   lfs-powercut work --lower NAME --family NAME --seed N --disk DEVICE
//!   lfs-powercut look --lower NAME --family NAME --seed N --disk DEVICE

mod check;
mod decision;
mod group;
mod history;
mod lower;
mod mark;
mod model;
mod nbd;
mod orphans;
mod plan;
mod points;
mod recorded;
mod recording;
mod store;
mod tree;
mod work;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use lfs_shared::{mounts, outcome, shadow, sys, undo};

use check::{Cut, Damage, Tally};
use lower::Place;
use mark::Marker;
use mounts::Lower;
use nbd::Disk;
use outcome::{check, fail, At, Outcome, Stop};
use plan::Family;
use points::{Cuts, Cutter};
use recording::Recording;
use shadow::Random;
use work::Worker;

struct Options {
    lower: Lower,
    family: Family,
    seed: u64,
    steps: u64,
    points: usize,
    point: Option<usize>,
    disk: String,
    number: u32,
    out: Option<PathBuf>,
    load: Option<PathBuf>,
    keep: bool,
    damage: bool,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let result = parse(&words).and_then(|(verb, options)| match verb {
        "replay" => replay(&options),
        "work" => work_until_killed(&options),
        "look" => look(&options),
        _ => fail!("unknown verb '{verb}'"),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop::Fail(reason)) => {
            println!("FAIL {reason}");
            ExitCode::FAILURE
        }
        Err(_) => ExitCode::FAILURE,
    }
}

fn parse(words: &[String]) -> Outcome<(&str, Options)> {
    let mut options = Options {
        lower: Lower::Ext4,
        family: Family::Usual,
        seed: 1,
        steps: 260,
        points: 50,
        point: None,
        disk: "/dev/vdb".into(),
        number: 0,
        out: None,
        load: None,
        keep: false,
        damage: false,
    };
    let Some((verb, rest)) = words.split_first() else {
        fail!("what is to be done?");
    };
    let mut rest = rest.iter();
    while let Some(word) = rest.next() {
        match word.as_str() {
            "--keep" => options.keep = true,
            "--damage" => options.damage = true,
            _ => match rest.next() {
                Some(value) => take(&mut options, word, value)?,
                None => fail!("{word} needs a value"),
            },
        }
    }
    Ok((verb, options))
}

fn take(options: &mut Options, word: &str, value: &str) -> Outcome {
    let number = || {
        value
            .parse::<u64>()
            .map_err(|_| Stop::Fail(format!("{word} {value}: no number")))
    };
    match word {
        "--lower" => match Lower::parse(value).filter(|lower| lower.has_disk()) {
            Some(lower) => options.lower = lower,
            None => fail!("no lower filesystem on a disk is called '{value}'"),
        },
        "--family" => match Family::parse(value) {
            Some(family) => options.family = family,
            None => fail!("no family is called '{value}'"),
        },
        "--seed" => options.seed = number()?,
        "--steps" => options.steps = number()?,
        "--points" => options.points = number()? as usize,
        "--point" => options.point = Some(number()? as usize),
        "--nbd" => options.number = number()? as u32,
        "--disk" => options.disk = value.into(),
        "--out" => options.out = Some(value.into()),
        "--load" => options.load = Some(value.into()),
        _ => fail!("unknown word '{word}'"),
    }
    Ok(())
}

/// Records the workload once, or reads a recording, and cuts it at many points.
fn replay(options: &Options) -> Outcome {
    let (lower, family, seed) = (options.lower, options.family, options.seed);
    let began = Instant::now();
    let recording = match &options.load {
        Some(path) => Recording::load(lower, family, seed, options.steps, path)?,
        None => {
            Recording::make(lower, family, seed, options.steps, options.number).at("recording")?
        }
    };
    println!(
        "{}/{}: seed {seed}: {} requests, {} steps recorded in {:.1} s",
        lower.name(),
        family.name(),
        recording.entries.len(),
        recording.marks().len(),
        began.elapsed().as_secs_f64()
    );
    if options.keep {
        save(options, &recording)?;
    }
    let cuts = Cuts::new(recording);
    if options.damage {
        return damage(options, &cuts);
    }
    let failed = cut_all(options, &cuts, None)?;
    if failed > 0 && !options.keep && options.load.is_none() {
        save(options, cuts.recording())?;
    }
    check!(
        failed == 0,
        "{}/{}: {failed} points",
        lower.name(),
        family.name()
    );
    Ok(())
}

fn save(options: &Options, recording: &Recording) -> Outcome {
    let Some(out) = &options.out else {
        return Ok(());
    };
    let name = format!(
        "{}-{}-{}-{}.writes",
        recording.lower.name(),
        recording.family.name(),
        recording.seed,
        recording.steps
    );
    let path = out.join(name);
    recording.save(&path)?;
    mounts::run(&["zstd", "-q", "--rm", "-f", &path.display().to_string()]).map(drop)
}

/// Each way to break things must be found.
fn damage(options: &Options, cuts: &Cuts) -> Outcome {
    for damage in Damage::ALL {
        let failed = cut_all(options, cuts, Some(damage))?;
        check!(failed > 0, "nobody noticed a broken {damage:?}");
        println!(
            "ok self-check: broken {damage:?}: {failed} of {} points noticed it",
            options.points
        );
    }
    Ok(())
}

/// How many points failed.
fn cut_all(options: &Options, cuts: &Cuts, damage: Option<Damage>) -> Outcome<usize> {
    let lower = options.lower;
    let disk = Disk::new(options.number, lower::size(lower), false)?;
    let place = Place::new(lower, &disk.path)?;
    let mut cutter = Cutter::new(cuts, &disk, &place, damage);
    let mut tally = Tally::default();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut failed = 0;
    let began = Instant::now();
    for point in cuts.choose(options.points) {
        if options.point.is_some_and(|only| only != point.number) {
            continue;
        }
        *counts.entry(point.moment.name()).or_default() += 1;
        let result = cutter.cut(&point, &mut tally);
        if let Err(stop) = result {
            place.cleanup();
            failed += 1;
            if damage.is_none() {
                println!(
                    "FAIL {}/{}/{}: seed {}, point {}: after {} requests, {} steps, in {:?}: {}",
                    lower.name(),
                    options.family.name(),
                    point.moment.name(),
                    options.seed,
                    point.number,
                    point.at,
                    cuts.done(point.at),
                    cuts.act(point.at),
                    reason(stop)
                );
                println!("the steps: {}", cuts.story(point.at));
            }
        }
    }
    if damage.is_none() {
        println!(
            "{}/{}: {counts:?}: {} cuts, {failed} failed, {:.1} s; {tally:?}",
            lower.name(),
            options.family.name(),
            counts.values().sum::<usize>(),
            began.elapsed().as_secs_f64()
        );
    }
    Ok(failed)
}

fn reason(stop: Stop) -> String {
    match stop {
        Stop::Fail(reason) => reason,
        other => format!("{other:?}"),
    }
}

/// On a real disk: works until the machine is killed.
fn work_until_killed(options: &Options) -> Outcome {
    let place = Place::new(options.lower, &options.disk)?;
    place.make()?;
    place.mount_lower()?;
    let mut worker = Worker::begin(&place, options.family, options.seed, options.steps)?;
    println!("working");
    for _ in 0..mark::AREA / store::SECTOR as u64 - 2 {
        worker.step()?;
    }
    fail!("nobody killed the machine")
}

/// On a real disk: the remains of a machine that was killed.
fn look(options: &Options) -> Outcome {
    let place = Place::new(options.lower, &options.disk)?;
    let marks = Marker::new(&options.disk, lower::size(options.lower))?.read(options.seed)?;
    let (model, acts) = work::replayed(options.family, options.seed, options.steps, &marks);
    let done = marks.len() as u64;
    let mut cut = Cut {
        model: &model,
        lower: options.lower,
        family: options.family,
        done,
        begun: done + 1,
        withdrawn: None,
        lines: model.lines_durable_at(done),
        is_decided: false,
        damage: None,
    };
    let mut tally = Tally::default();
    let mut random = Random::new(options.seed);
    let what = format!(
        "{}/{}/killed: seed {}, {done} steps, in {:?}",
        options.lower.name(),
        options.family.name(),
        options.seed,
        acts.last()
    );
    check::look(&place, &mut cut, &mut random, &mut tally).at(&what)?;
    println!("ok {what}; {tally:?}");
    Ok(())
}
