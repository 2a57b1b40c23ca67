// SPDX-License-Identifier: GPL-2.0

//! A writer that dies at any moment.

use std::time::Duration;

use crate::fixture::Fixture;
use crate::harness::Test;
use crate::outcome::{check, fail, same, same_errno, At, Outcome};
use crate::shadow::{Random, Shadow};
use crate::undo::{self, Line};
use crate::work::{Step, Steps};

pub const TESTS: &[Test] = &[Test::new("killed-writer", killed_writer).seconds(400)];

/// 200 times (20 with the usual sizes): the file equals the result of a prefix of the writer's steps, the log
/// records exactly that content, and every revert back to the start is right.
fn killed_writer(w: &mut Fixture) -> Outcome {
    let mut random = Random::new(w.seed ^ 3);
    let mut operations = 0;
    let rounds = w.times(200, 20);
    for round in 0..rounds {
        let name = format!("f{round}");
        let seed = w.seed.wrapping_add(round);
        let mut child = w.worker(&["stream", &name, &seed.to_string()]).spawn()?;
        while std::fs::metadata(w.path(&name)).map_or(true, |stat| stat.len() == 0) {
            check!(
                child.try_wait()?.is_none(),
                "round {round}: the writer ended by itself"
            );
        }
        std::thread::sleep(Duration::from_micros(random.below(15_000)));
        child.kill()?;
        check!(
            !child.wait()?.success(),
            "round {round}: the writer was not killed"
        );
        operations += explained(w, &name, seed).at(format!("round {round}, seed {seed}"))?;
        std::fs::remove_file(w.path(&name))?;
    }
    check!(
        operations > rounds as usize * 2,
        "only {operations} operations in {rounds} rounds"
    );
    Ok(())
}

/// Checks one file; returns the number of its operations.
fn explained(w: &Fixture, name: &str, seed: u64) -> Outcome<usize> {
    let file = w.open(name)?;
    let lines = undo::lines(&file, false)?;
    let mut shadow = Shadow::default();
    let mut steps = Steps::new(seed);
    for (number, line) in lines.iter().enumerate() {
        let Some(step) = steps.next() else {
            fail!("more lines than steps");
        };
        let last = number + 1 == lines.len();
        follow(&mut shadow, line, step, last).at(format!("line {number}: {}", line.text))?;
    }
    w.same("the killed writer's file", name, shadow.bytes())?;
    for number in (0..lines.len()).rev() {
        undo::revert(&file, 1).at(format!("reverting line {number}"))?;
        shadow.undo();
        let got = w.read(name)?;
        crate::outcome::same_bytes(format!("line {number} reverted"), &got, shadow.bytes())?;
    }
    same("size at the start", shadow.size(), 0)?;
    same_errno(
        "at the start",
        undo::revert(&file, 1),
        rustix::io::Errno::NODATA,
    )?;
    Ok(lines.len())
}

/// The line must be this step; only the last write may have been cut short by the signal.
fn follow(shadow: &mut Shadow, line: &Line, step: Step, last: bool) -> Outcome {
    let size = shadow.size() as u64;
    same("size before", line.number("size")?, size)?;
    match step {
        Step::Write(at, bytes) => {
            same("op", line.op.as_str(), "write")?;
            same("offset", line.offset, at as u64)?;
            let length = line.length as usize;
            let whole = length == bytes.len();
            check!(
                whole || (last && length > 0 && length < bytes.len()),
                "length {length} where {} was written",
                bytes.len()
            );
            shadow.write(at, &bytes[..length]);
        }
        Step::Truncate(to) => {
            same("op", line.op.as_str(), "truncate")?;
            let want = (size.min(to as u64), size.abs_diff(to as u64));
            same("range", (line.offset, line.length), want)?;
            shadow.truncate(to);
        }
    }
    Ok(())
}
