// SPDX-License-Identifier: GPL-2.0

//! Random work with a shadow copy in memory, taken back step by step.

use std::fs::{File, OpenOptions};
use std::io::Write;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::fixture::{put, Fixture};
use crate::harness::Test;
use crate::outcome::{same, same_bytes, same_errno, At, Outcome};
use crate::shadow::{Random, Shadow};
use crate::undo;

pub const TESTS: &[Test] = &[
    Test::new("oracle", oracle).raw().seconds(600),
    Test::new("oracle-counts", oracle_counts).seconds(120),
    Test::new("oracle-mixed", oracle_mixed).seconds(180),
];

const LARGEST: u64 = 100_000;

/// The granularity of collapse and insert on every filesystem of the tests.
const BLOCK: u64 = 4096;

/// A file and its expected content.
struct Pair {
    name: String,
    file: File,
    shadow: Shadow,
}

impl Pair {
    fn new(w: &Fixture, number: usize) -> Outcome<Pair> {
        let name = format!("f{number}");
        Ok(Pair {
            file: w.open(&name)?,
            name,
            shadow: Shadow::default(),
        })
    }

    /// One random write, append, truncate, or operation on blocks on both.
    fn change(&mut self, w: &Fixture, random: &mut Random) -> Outcome {
        let at = random.below(LARGEST);
        let length = match random.below(10) {
            0..=3 => 1 + random.below(64),
            4..=7 => 1 + random.below(5000),
            _ => 1 + random.below(20_000),
        };
        match random.below(20) {
            0 | 1 => {
                self.file.set_len(at).at("truncating")?;
                self.shadow.truncate(at as usize);
            }
            2 => {
                let cut = (self.shadow.size() as u64).saturating_sub(length);
                self.file.set_len(cut).at("truncating")?;
                self.shadow.truncate(cut as usize);
            }
            3..=5 if (self.shadow.size() as u64) < LARGEST => self.append(w, length, random)?,
            6 if self.allocate(random)? => {}
            _ => {
                let at = at.min(self.shadow.size() as u64 + 10_000);
                let bytes = random.bytes(length as usize);
                put(&self.file, at, &bytes)?;
                self.shadow.write(at as usize, &bytes);
            }
        }
        if random.below(200) == 0 {
            self.file.sync_data()?;
        }
        Ok(())
    }

    /// One random fallocate; false if the lower filesystem lacks the mode, or the file the space.
    fn allocate(&mut self, random: &mut Random) -> Outcome<bool> {
        let size = self.shadow.size() as u64;
        let at = random.below(size / BLOCK + 1) * BLOCK;
        let length = (1 + random.below(3)) * BLOCK;
        let (mode, moves) = match random.below(4) {
            0 => (FallocateFlags::COLLAPSE_RANGE, true),
            1 => (FallocateFlags::INSERT_RANGE, true),
            2 => (
                FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
                false,
            ),
            _ => (
                FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                false,
            ),
        };
        let inserts = mode == FallocateFlags::INSERT_RANGE;
        let needed = if inserts { at + 1 } else { at + length + 1 };
        if size < needed || (inserts && size > 2 * LARGEST) {
            return Ok(false);
        }
        match rustix::fs::fallocate(&self.file, mode, at, length) {
            Ok(()) if moves => self.shadow.shift(at as usize, length as usize, inserts),
            Ok(()) => self.shadow.zero(at as usize, length as usize),
            Err(Errno::OPNOTSUPP) => return Ok(false),
            Err(error) => return Err(error).at(format!("{mode:?} {at} {length}")),
        }
        Ok(true)
    }

    fn append(&mut self, w: &Fixture, length: u64, random: &mut Random) -> Outcome {
        let mut file = OpenOptions::new().append(true).open(w.path(&self.name))?;
        let bytes = random.bytes(length as usize);
        same("appended bytes", file.write(&bytes)?, bytes.len())?;
        let end = self.shadow.size();
        self.shadow.write(end, &bytes);
        Ok(())
    }

    fn agrees(&self, w: &Fixture, step: usize) -> Outcome {
        let what = format!("step {step}, {}", self.name);
        same_bytes(&what, &w.read(&self.name)?, self.shadow.bytes())
    }

    fn undo(&mut self, count: usize) -> Outcome {
        undo::revert(&self.file, count).at(format!("reverting {count} of {}", self.name))?;
        for _ in 0..count {
            self.shadow.undo();
        }
        Ok(())
    }
}

fn pairs(w: &Fixture, count: usize) -> Outcome<Vec<Pair>> {
    (0..count).map(|number| Pair::new(w, number)).collect()
}

/// 10,000 changes (300 where sizes are the usual ones) on six files, reverted one by one in the
/// order opposite to that of their making.
fn oracle(w: &mut Fixture) -> Outcome {
    let mut random = Random::new(w.seed);
    let mut files = pairs(w, 6)?;
    let steps = w.times(10_000, 300);
    let mut order = Vec::new();
    for step in 0..steps {
        let which = random.below(files.len() as u64) as usize;
        files[which]
            .change(w, &mut random)
            .at(format!("seed {}, step {step}", w.seed))?;
        order.push(which);
    }
    for file in &files {
        file.agrees(w, steps)?;
    }
    w.undo_from_here()?;
    let looks: Vec<usize> = (0..50)
        .map(|_| random.below(steps as u64) as usize)
        .collect();
    while let Some(which) = order.pop() {
        let step = order.len();
        let seed = w.seed;
        files[which]
            .undo(1)
            .at(format!("seed {seed}, step {step}"))?;
        files[which].agrees(w, step).at(format!("seed {seed}"))?;
        if step == 0 || looks.contains(&step) {
            for file in &files {
                file.agrees(w, step).at(format!("seed {seed}"))?;
            }
        }
    }
    for file in &files {
        same(&file.name, file.shadow.size(), 0)?;
        same_errno("at the start", undo::revert(&file.file, 1), Errno::NODATA)?;
    }
    Ok(())
}

/// Many operations at once: only the last state is seen, so every merge of ranges counts.
fn oracle_counts(w: &mut Fixture) -> Outcome {
    let mut random = Random::new(w.seed ^ 1);
    let mut files = pairs(w, 3)?;
    for step in 0..w.times(2000, 300) {
        let which = random.below(3) as usize;
        files[which]
            .change(w, &mut random)
            .at(format!("step {step}"))?;
    }
    for step in 0.. {
        let which = random.below(3) as usize;
        let depth = files[which].shadow.depth() as u64;
        if depth == 0 && files.iter().all(|file| file.shadow.depth() == 0) {
            return Ok(());
        }
        if depth > 0 {
            let count = 1 + random.below(depth.min(40)) as usize;
            files[which]
                .undo(count)
                .at(format!("seed {}, step {step}", w.seed))?;
            files[which]
                .agrees(w, step)
                .at(format!("seed {}", w.seed))?;
        }
    }
    Ok(())
}

/// Work goes on after reverts, and across mounts.
fn oracle_mixed(w: &mut Fixture) -> Outcome {
    let mut random = Random::new(w.seed ^ 2);
    let mut files = pairs(w, 3)?;
    let steps = w.times(3000, 200);
    let between_mounts = steps / 6;
    for step in 0..steps {
        let which = random.below(3) as usize;
        let at = format!("seed {}, step {step}", w.seed);
        let depth = files[which].shadow.depth() as u64;
        if depth > 0 && random.below(3) == 0 {
            let count = 1 + random.below(depth.min(6)) as usize;
            files[which].undo(count).at(&at)?;
        } else {
            files[which].change(w, &mut random).at(&at)?;
        }
        files[which].agrees(w, step).at(&at)?;
        if step % between_mounts == between_mounts / 2 && w.src.is_some() {
            files = reopened(w, files).at(&at)?;
        }
    }
    for file in &mut files {
        same(
            "live lines",
            undo::lines(&file.file, false)?.len(),
            file.shadow.depth(),
        )?;
        if file.shadow.depth() > 0 {
            file.undo(file.shadow.depth())?;
        }
        file.agrees(w, steps)?;
        same_errno("at the start", undo::revert(&file.file, 1), Errno::NODATA)?;
    }
    Ok(())
}

/// The same files after an unmount and a mount.
fn reopened(w: &mut Fixture, files: Vec<Pair>) -> Outcome<Vec<Pair>> {
    let shadows: Vec<(String, Shadow)> = files
        .into_iter()
        .map(|pair| (pair.name, pair.shadow))
        .collect();
    w.remount()?;
    let open = |(name, shadow): (String, Shadow)| -> Outcome<Pair> {
        Ok(Pair {
            file: w.open(&name)?,
            name,
            shadow,
        })
    };
    shadows.into_iter().map(open).collect()
}
