// SPDX-License-Identifier: GPL-2.0

//! A write(2) whose memory was not resident at once has several lines, and is one operation all the same.

use std::fs::File;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use crate::fixture::{put, Fixture};
use crate::harness::Test;
use crate::outcome::{check, same, At, Outcome};
use crate::sys::Missing;
use crate::undo;

pub const TESTS: &[Test] = &[
    Test::new("continued-write", continued_write).seconds(120),
    Test::new("continued-beside-another", beside_another).seconds(120),
];

/// The bytes that the module faults in before a write.
const WINDOW: usize = 64 << 20;
/// The bytes that follow: a page.
const REST: usize = 4096;

/// Writes more than is faulted in at once. `between` runs after the first part.
fn write_in_parts(file: &File, between: impl FnOnce() -> Outcome) -> Outcome {
    let memory = Missing::new(WINDOW + REST, WINDOW)?;
    let (between, written) = thread::scope(|scope| {
        let writer = scope.spawn(|| memory.write_to(file));
        let since = Instant::now();
        while file
            .metadata()
            .is_ok_and(|found| found.len() < WINDOW as u64)
            && since.elapsed() < Duration::from_secs(60)
        {
            sleep(Duration::from_millis(5));
        }
        // The writer waits for the page by now.
        sleep(Duration::from_millis(100));
        let between = between();
        let filled = memory.fill(WINDOW, REST);
        (between.and(filled.map_err(Into::into)), writer.join())
    });
    between?;
    let written = written.map_err(|_| std::io::Error::other("the writer panicked"))?;
    same("written", written.at("writing")?, WINDOW + REST)
}

/// The file after the write.
fn whole() -> Vec<u8> {
    let mut bytes = vec![7; WINDOW];
    bytes.resize(WINDOW + REST, 0);
    bytes
}

/// A file with one operation before.
fn begin(w: &Fixture) -> Outcome<File> {
    w.make("f", b"0123456789")?;
    let file = w.open("f")?;
    put(&file, 2, b"ab")?;
    Ok(file)
}

/// The newest lines of writes: their places, and the number of the line that each continues.
fn newest_writes(file: &File, count: usize) -> Outcome<Vec<(u64, u64, Option<u64>)>> {
    let lines = undo::lines(file, false)?;
    let writes = lines.iter().rev().filter(|line| line.op == "write");
    let mut found = Vec::new();
    for line in writes.take(count) {
        found.push((line.offset, line.number("seq")?, line.number("of").ok()));
    }
    found.reverse();
    Ok(found)
}

/// One revert takes all of its lines back, one redo does all of them again.
fn continued_write(w: &mut Fixture) -> Outcome {
    let file = begin(w)?;
    write_in_parts(&file, || Ok(()))?;
    w.same("written", "f", &whole())?;
    let lines = newest_writes(&file, 2)?;
    let [(0, first, None), (offset, _, Some(continued))] = lines[..] else {
        crate::outcome::fail!("the lines are {lines:?}");
    };
    same("where the second line begins", offset, WINDOW as u64)?;
    same("the line that it continues", continued, first)?;
    let said = w.sh("logctl f revert")?;
    check!(said.contains("Reverted 1 operation of "), "it says: {said}");
    w.same("without the write", "f", b"01ab456789")?;
    w.sh("logctl redo")?;
    w.same("again", "f", &whole())?;
    w.sh("logctl f revert")?;
    w.same("without it again", "f", b"01ab456789")?;
    drop(file);
    w.remount_if_lasting()?;
    undo::revert(&w.open("f")?, 1).at("the write before")?;
    w.same("without the one before", "f", b"0123456789")
}

/// Where another operation came in between, the rest is an operation of its own: nothing of others is taken
/// back with it.
fn beside_another(w: &mut Fixture) -> Outcome {
    let file = begin(w)?;
    let other = w.open("f")?;
    write_in_parts(&file, || put(&other, 5, b"other"))?;
    let mut want = whole();
    want[5..10].copy_from_slice(b"other");
    w.same("both", "f", &want)?;
    undo::revert(&file, 1).at("the rest")?;
    want.truncate(WINDOW);
    w.same("without the rest", "f", &want)?;
    undo::revert(&file, 1).at("the other")?;
    want[5..10].copy_from_slice(&[7; 5]);
    w.same("without the other", "f", &want)?;
    undo::revert(&file, 1).at("the first part")?;
    w.same("without the first part", "f", b"01ab456789")
}
