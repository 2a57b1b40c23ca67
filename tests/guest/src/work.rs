// SPDX-License-Identifier: GPL-2.0

//! Side processes of the tests: this program again, started as `lfs-tests work NAME WORDS`, to
//! be another user, to be killed, or to work at the same time.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::calls;
use crate::held;
use crate::hostile;
use crate::oracle::worker;
use crate::scenario::oracle_tree::work;
use crate::shadow::{pattern, Random};
use crate::sys::Map;
use crate::undo;

pub fn main(words: &[String]) -> i32 {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["revert", file, count] => revert(file, number(count)),
        ["stream", file, seed] => stream(file, number(seed)),
        ["records", file, whose, count] => records(file, number(whose), number(count)),
        ["reverts", file, times] => reverts(file, number(times)),
        ["tree", place, seed, count] => tree(place, number(seed), number(count)),
        ["oracle-worker", place] => worker::main(place),
        ["store", file] => store(file),
        ["calls", place, uid, profile] => calls::main(place, number(uid) as u32, profile),
        ["change", file, how] => change(file, how),
        ["hostile", ..] => hostile::main(&words[1..]),
        ["held", ..] => held::main(&words[1..]),
        ["limited", file, limit, count] => limited(file, number(limit), number(count)),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    };
    match result {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{}: {error}", words.join(" "));
            // The errno, for callers that expect one.
            error
                .raw_os_error()
                .filter(|errno| *errno < 255)
                .unwrap_or(255)
        }
    }
}

/// One store through a shared mapping.
fn store(file: &str) -> io::Result<()> {
    let mut map = Map::of(&open(file)?, 4096, true, true)?;
    map.store(7, b"mapped");
    map.sync()
}

/// Random operations of all kinds below a directory.
fn tree(place: &str, seed: u64, count: u64) -> io::Result<()> {
    let mut random = Random::new(seed);
    let done = work(Path::new(place), &mut random, count as usize);
    done.map_err(|stop| io::Error::other(format!("{stop:?}")))
}

fn number(word: &str) -> u64 {
    word.parse().unwrap_or(0)
}

fn open(file: &str) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.open(file)
}

fn revert(file: &str, count: u64) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(file)?;
    undo::revert(&file, count as usize)
}

/// One step of the stream that a killed writer was in the middle of.
pub enum Step {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

/// The steps follow from the seed alone.
pub struct Steps {
    random: Random,
    size: usize,
    number: u64,
}

impl Steps {
    pub fn new(seed: u64) -> Steps {
        Steps {
            random: Random::new(seed),
            size: 0,
            number: 0,
        }
    }
}

impl Iterator for Steps {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let random = &mut self.random;
        self.number += 1;
        let length = match random.below(12) {
            0 => 200_000 + random.below(400_000),
            1 | 2 => 1 + random.below(40_000),
            _ => 1 + random.below(3000),
        } as usize;
        let at = random.below(self.size as u64 + 1) as usize;
        Some(if random.below(10) == 0 && self.size > 0 {
            self.size = at;
            Step::Truncate(at)
        } else {
            // Not much more than a megabyte, so that states can be compared often.
            let append = random.below(2) == 0 && self.size < 1 << 20;
            let at = if append { self.size } else { at };
            let bytes = pattern(self.number, length);
            self.size = self.size.max(at + length);
            Step::Write(at, bytes)
        })
    }
}

/// Works until killed.
fn stream(file: &str, seed: u64) -> io::Result<()> {
    let file = open(file)?;
    for step in Steps::new(seed) {
        match step {
            Step::Write(at, bytes) => {
                file.write_at(&bytes, at as u64)?;
            }
            Step::Truncate(size) => file.set_len(size as u64)?,
        }
    }
    Ok(())
}

/// The bytes of one record: they encode its writer and its number.
pub fn record(whose: u64, which: u64) -> Vec<u8> {
    let length = 1 + (whose * 7919 + which * 104_729) % 300;
    let mut random = Random::new((whose << 32) | which);
    random.bytes(length as usize)
}

/// Where record `which` of process `whose` goes.
pub fn place(whose: u64, which: u64) -> u64 {
    Random::new((whose << 40) ^ which).below(4000)
}

/// Writes records that overlap those of others.
fn records(file: &str, whose: u64, count: u64) -> io::Result<()> {
    let file = open(file)?;
    for which in 0..count {
        let bytes = record(whose, which);
        let written = file.write_at(&bytes, place(whose, which))?;
        if written != bytes.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
    }
    Ok(())
}

/// Reverts one at a time, as often as asked; prints how many there were to revert.
fn reverts(file: &str, times: u64) -> io::Result<()> {
    let file = open(file)?;
    let mut done = 0;
    for _ in 0..times {
        match undo::revert(&file, 1) {
            Ok(()) => done += 1,
            Err(error) if error.raw_os_error() == Some(libc::ENODATA) => {}
            Err(error) => return Err(error),
        }
    }
    writeln!(io::stdout(), "{done}")
}

/// Overwrites the first page `count` times with RLIMIT_FSIZE set.
fn limited(file: &str, limit: u64, count: u64) -> io::Result<()> {
    use rustix::process::{setrlimit, Resource, Rlimit};
    let limit = Rlimit {
        current: Some(limit),
        maximum: Some(limit),
    };
    setrlimit(Resource::Fsize, limit)?;
    let file = open(file)?;
    for number in 0..count {
        let bytes = pattern(number, 4096);
        if file.write_at(&bytes, 0)? != bytes.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
    }
    Ok(())
}

/// Changes a file of at least 200 bytes by one call.
fn change(file: &str, how: &str) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(file)?;
    let done = match how {
        "write" => file.write_at(&[b'w'; 100], 0)?,
        "splice" => {
            let (from, to) = rustix::pipe::pipe()?;
            File::from(to).write_all(&[b's'; 100])?;
            let none = rustix::pipe::SpliceFlags::empty();
            rustix::pipe::splice(&from, None, &file, Some(&mut 0), 100, none)?
        }
        "copy" => rustix::fs::copy_file_range(&file, Some(&mut 100), &file, Some(&mut 0), 100)?,
        "allocate" => {
            let end = file.metadata()?.len();
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), end, 100)?;
            100
        }
        "truncate" => file.set_len(100).map(|()| 100)?,
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    if done != 100 {
        return Err(io::ErrorKind::WriteZero.into());
    }
    Ok(())
}
