// SPDX-License-Identifier: GPL-2.0

//! A history on disk that is damaged or crafted: crafted lines have right names and checksums, as
//! only root can write them.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

// The module's own grammar, for right checksums only.
use lfs_shared::crc32c;
use loggerfs_log::line::{LineDraft, Mode, Op, Undo, MAX_LINE};
use loggerfs_log::types::{Extent, ObjectId, Pos, Seed, Time};

use crate::outcome::{At, Outcome, Stop};
use crate::shadow::Random;

/// A history's files by their paths in it.
#[derive(Clone)]
pub struct History(BTreeMap<String, Vec<u8>>);

/// Files that only take space.
const FILLERS: [&str; 2] = ["reserve", "undo/spare.dat"];

impl History {
    /// Reads all of it.
    pub fn read(home: &Path) -> Outcome<History> {
        let mut files = BTreeMap::new();
        for place in ["", "log/", "undo/", "index/"] {
            for entry in fs::read_dir(home.join(place)).at(place)? {
                let entry = entry?;
                let name = format!("{place}{}", entry.file_name().to_string_lossy());
                if entry.file_type()?.is_file() && !FILLERS.contains(&name.as_str()) {
                    files.insert(name, fs::read(entry.path())?);
                }
            }
        }
        Ok(History(files))
    }

    /// Writes all of the history in place of the present one.
    pub fn write(&self, home: &Path) -> Outcome {
        for place in ["", "log/", "undo/", "index/"] {
            for entry in fs::read_dir(home.join(place)).at(place)? {
                let entry = entry?;
                if entry.file_type()?.is_file() {
                    fs::remove_file(entry.path())?;
                }
            }
        }
        for (name, bytes) in &self.0 {
            let mut options = OpenOptions::new();
            options.write(true).create(true).mode(0o600);
            options.open(home.join(name)).at(name)?.write_all(bytes)?;
        }
        Ok(())
    }

    /// One of the files.
    fn any(&mut self, random: &mut Random) -> Option<(String, &mut Vec<u8>)> {
        let at = random.below(self.0.len().max(1) as u64) as usize;
        let (name, bytes) = self.0.iter_mut().nth(at)?;
        Some((name.clone(), bytes))
    }

    /// Damage as by disks and mistakes; returns a description.
    pub fn damage(&mut self, random: &mut Random) -> String {
        let kind = random.below(10);
        let (number, amount) = (random.next(), random.below(3) + 1);
        let Some((name, bytes)) = self.any(random) else {
            return "nothing is left".into();
        };
        let len = bytes.len() as u64;
        let at = (number % len.max(1)) as usize;
        match kind {
            0..=3 => {
                for step in 0..amount {
                    let at = (at + step as usize * 7919) % bytes.len().max(1);
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 1 << ((number >> 40) % 8);
                    }
                }
                format!("{amount} bits of {name} flipped, the first at {at}")
            }
            4 => {
                bytes.truncate(at);
                format!("{name} cut to {at} of {len} bytes")
            }
            5 => {
                let (from, to) = match number >> 60 {
                    0..=7 => (at & !511, (at & !511) + 512),
                    _ => (at, at + 40),
                };
                let to = to.min(bytes.len());
                bytes[from..to].fill(0);
                format!("{name} zeroed from {from} to {to} of {len} bytes")
            }
            6 => {
                self.0.remove(&name);
                format!("{name} removed")
            }
            7 => {
                bytes.extend(random.bytes(number as usize % 300));
                format!("{} bytes behind {name}", number as usize % 300)
            }
            _ => self.misplace(&name, kind == 8, random),
        }
    }

    /// Exchanges two files, or copies one over another.
    fn misplace(&mut self, name: &str, swap: bool, random: &mut Random) -> String {
        let here = self.0.get(name).cloned().unwrap_or_default();
        let place = name.rsplit_once('/').map_or("", |(place, _)| place);
        if !swap {
            let number = random.below(9);
            let end = name.rsplit_once('.').map_or("", |(_, end)| end);
            let copy = format!("{place}/{number:08}.{end}");
            self.0.insert(copy.clone(), here);
            return format!("{name} copied to {copy}");
        }
        let mates: Vec<String> = (self.0.keys())
            .filter(|other| other.starts_with(place) && other.as_str() != name)
            .cloned()
            .collect();
        let Some(other) = mates.get(random.below(mates.len().max(1) as u64) as usize) else {
            return format!("{name} has no mate");
        };
        let there = self.0.insert(other.clone(), here).unwrap_or_default();
        self.0.insert(name.to_string(), there);
        format!("{name} and {other} swapped")
    }

    /// The history's own name.
    pub fn uuid(&self) -> Outcome<[u8; 16]> {
        let text = String::from_utf8_lossy(&self.0["format"]).into_owned();
        let digits = text.lines().find_map(|line| line.strip_prefix("uuid="));
        let number = digits.and_then(|digits| u128::from_str_radix(digits, 16).ok());
        match number {
            Some(number) => Ok(number.to_be_bytes()),
            None => Err(Stop::Fail(format!("no uuid= in format: {text}"))),
        }
    }

    /// The logs by their segments.
    pub fn logs(&self) -> Vec<(u64, Vec<u8>)> {
        let number = |name: &str| {
            let digits = name.strip_prefix("log/")?.strip_suffix(".log")?;
            digits.parse().ok()
        };
        let logs = self.0.iter();
        logs.filter_map(|(name, bytes)| Some((number(name)?, bytes.clone())))
            .collect()
    }

    /// Puts these logs in place of those with the same numbers.
    pub fn set_logs(&mut self, logs: BTreeMap<u64, Vec<u8>>) {
        for (segment, bytes) in logs {
            self.0.insert(format!("log/{segment:08}.log"), bytes);
        }
    }

    /// The files by their paths.
    pub fn files(&mut self) -> &mut BTreeMap<String, Vec<u8>> {
        &mut self.0
    }

    /// Appends a line to the newest log that names itself as the previous line of the object; no
    /// table records it.
    pub fn bend(&mut self, object: &str) -> Outcome {
        let uuid = self.uuid()?;
        let Some(segment) = self.segments().pop() else {
            return Err(Stop::Fail("no log has lines".into()));
        };
        self.forget();
        let bytes = self.0.entry(format!("log/{segment:08}.log")).or_default();
        let (mut buffer, mut out) = ([0; MAX_LINE], [0; MAX_LINE]);
        let time = Time { sec: 1, nsec: 1 };
        let mut draft = LineDraft::new(&mut buffer, time, b"/bin/forger", Op::Write, 0, 1);
        let offset = bytes.len() as u64;
        draft.obj(object_id(object)).prev(Pos { segment, offset });
        draft.size(1).undo(Undo::None);
        let seed = Seed { uuid, segment };
        let sealed = draft.seal(1 << 40, &seed, crc32c, &mut out);
        let len = sealed.map_err(|error| Stop::Fail(error.as_str().into()))?;
        bytes.extend(&out[..len]);
        Ok(())
    }

    /// Cuts the newest log off after its last line of an operation.
    pub fn cut_behind(&mut self, op: &str) -> Outcome {
        self.cut_behind_line(op, |words| words.get(2) == Some(&op))
    }

    /// Cuts the newest log off after the line that closes the revert `seq`.
    pub fn cut_behind_commit(&mut self, seq: u64) -> Outcome {
        let of = format!("of={seq}");
        let what = format!("commit {of}");
        self.cut_behind_line(&what, |words| {
            words.get(2) == Some(&"commit") && words.contains(&of.as_str())
        })
    }

    /// Cuts the newest log off after the line that opens the revert `seq`.
    pub fn cut_behind_intent(&mut self, seq: u64) -> Outcome {
        let number = format!("seq={seq}");
        self.cut_behind_line(&number, |words| {
            words.get(2) == Some(&"revert") && words.contains(&number.as_str())
        })
    }

    fn cut_behind_line(&mut self, what: &str, is_it: impl Fn(&[&str]) -> bool) -> Outcome {
        let Some(segment) = self.segments().pop() else {
            return Err(Stop::Fail("no log has lines".into()));
        };
        let bytes = self.0.entry(format!("log/{segment:08}.log")).or_default();
        let (mut end, mut at) = (None, 0);
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            at += line.len();
            let text = String::from_utf8_lossy(line);
            let words: Vec<&str> = text.split(' ').collect();
            if is_it(&words) {
                end = Some(at);
            }
        }
        match end {
            Some(end) => bytes.truncate(end),
            None => return Err(Stop::Fail(format!("no line of {what}"))),
        }
        Ok(())
    }

    /// Removes the tables and the state, so that a mount finds the lines by reading the logs.
    pub fn forget(&mut self) {
        self.0
            .retain(|name, _| name != "state" && !name.starts_with("index/"));
    }

    /// Takes the state away, and the tables of more than so many segments.
    pub fn forget_long(&mut self, most: u64) {
        let length = |name: &str| {
            let span = name.strip_prefix("index/")?.strip_suffix(".idx")?;
            let (first, last) = span.split_once('-')?;
            Some(last.parse::<u64>().ok()? - first.parse::<u64>().ok()? + 1)
        };
        self.0
            .retain(|name, _| name != "state" && length(name).is_none_or(|length| length <= most));
    }

    /// Takes the tables away, but leaves the state that names them.
    pub fn lose_tables(&mut self) {
        self.0.retain(|name, _| !name.starts_with("index/"));
    }

    /// The segments that have a log with lines in it.
    fn segments(&self) -> Vec<u64> {
        let number = |(name, bytes): (&String, &Vec<u8>)| {
            let digits = name.strip_prefix("log/")?.strip_suffix(".log")?;
            (!bytes.is_empty()).then(|| digits.parse().ok())?
        };
        self.0.iter().filter_map(number).collect()
    }

    /// Adds lines that were never written, or changes the numbers of lines, with right checksums;
    /// returns a description.
    pub fn craft(&mut self, random: &mut Random, object: &str) -> Outcome<String> {
        let uuid = self.uuid()?;
        let segments = self.segments();
        let Some(&segment) = segments.get(random.below(segments.len().max(1) as u64) as usize)
        else {
            return Ok("no log has lines".into());
        };
        let seed = Seed { uuid, segment };
        let log = format!("log/{segment:08}.log");
        let said = if random.below(2) == 0 {
            let text = self.line(random, &seed, object, &segments);
            let said = String::from_utf8_lossy(&text).trim_end().to_string();
            self.0.get_mut(&log).into_iter().for_each(|bytes| {
                bytes.extend(text.iter());
            });
            format!("forged in segment {segment}: {said}")
        } else {
            let bytes = self
                .0
                .get_mut(&log)
                .map(Vec::as_mut_slice)
                .unwrap_or_default();
            let (from, to) = renumbered(bytes, &seed, random);
            format!("forged in segment {segment}: {from} -> {to}")
        };
        // So that these lines are found: no table knows of them.
        if random.below(5) != 0 {
            self.forget();
        }
        Ok(said)
    }

    /// A line of absurd numbers.
    fn line(&self, random: &mut Random, seed: &Seed, object: &str, segments: &[u64]) -> Vec<u8> {
        let ops = [
            Op::Write,
            Op::Truncate,
            Op::Punch,
            Op::Revert,
            Op::Redo,
            Op::Amend,
            Op::Cancel,
            Op::Close,
            Op::Rename,
        ];
        let op = *pick(random, &ops);
        let seq = absurd(random);
        let offset = absurd(random);
        let length = absurd(random).min(u64::MAX - offset);
        let time = Time {
            sec: random.next() as i64,
            nsec: 0,
        };
        let mut buffer = [0; MAX_LINE];
        let mut draft = LineDraft::new(&mut buffer, time, b"/bin/forger", op, offset, length);
        draft.obj(object_id(object));
        let place = |random: &mut Random| Pos {
            segment: *pick(random, segments),
            offset: match random.below(4) {
                0 => absurd(random),
                _ => self.line_start(random, seed.segment),
            },
        };
        if random.below(4) != 0 {
            draft.prev(place(random));
        }
        draft.size(absurd(random));
        if random.below(8) == 0 {
            let length = random.below(40) as usize;
            draft.fh(random.next() as u8, &random.bytes(length));
        }
        match random.below(5) {
            0 => draft.undo(Undo::None),
            1 => draft.undo(Undo::Lost),
            _ => {
                let (extent, crc) = self.extent(random, segments);
                draft.undo(Undo::At(extent));
                if random.below(2) == 0 {
                    draft.map(absurd(random));
                }
                draft.crc(crc)
            }
        };
        let of = match random.below(3) {
            0 => seq,
            1 => seq.saturating_sub(random.below(40)),
            _ => absurd(random),
        };
        draft.of(of).count(absurd(random));
        if random.below(2) == 0 {
            draft.back(place(random));
        }
        draft.now(absurd(random)).mode(Mode::Walk);
        let mut out = vec![0; MAX_LINE];
        let len = draft.seal(seq, seed, crc32c, &mut out).unwrap_or(0);
        out.truncate(len);
        out
    }

    /// A range of a payload file with its right checksum, or one far outside the file.
    fn extent(&self, random: &mut Random, segments: &[u64]) -> (Extent, u32) {
        let segment = *pick(random, segments);
        let undo = self.0.get(&format!("undo/{segment:08}.dat"));
        let bytes = undo.map(Vec::as_slice).unwrap_or_default();
        if random.below(2) == 0 || bytes.is_empty() {
            let offset = absurd(random);
            let length = absurd(random).min(u64::MAX - offset);
            let extent = Extent {
                segment,
                offset,
                length,
            };
            return (extent, random.next() as u32);
        }
        let from = random.below(bytes.len() as u64) as usize;
        let to = from + random.below((bytes.len() - from) as u64 + 1) as usize;
        let extent = Extent {
            segment,
            offset: from as u64,
            length: (to - from) as u64,
        };
        (extent, !crc32c(!0, &bytes[from..to]))
    }

    /// Where some line of a segment begins.
    fn line_start(&self, random: &mut Random, segment: u64) -> u64 {
        let log = self.0.get(&format!("log/{segment:08}.log"));
        let bytes = log.map(Vec::as_slice).unwrap_or_default();
        let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let mut starts: Vec<u64> = vec![0];
        starts.extend(ends.map(|(at, _)| at as u64 + 1));
        *pick(random, &starts)
    }
}

fn pick<'a, T>(random: &mut Random, of: &'a [T]) -> &'a T {
    &of[random.below(of.len() as u64) as usize]
}

/// Gives one number of one line other digits, as many, and the line its right checksum.
fn renumbered(log: &mut [u8], seed: &Seed, random: &mut Random) -> (String, String) {
    let lines: Vec<(usize, usize)> = {
        let mut start = 0;
        log.split_inclusive(|byte| *byte == b'\n')
            .map(|line| {
                start += line.len();
                (start - line.len(), start)
            })
            .collect()
    };
    let (start, end) = *pick(random, &lines);
    let Some(line) = log.get_mut(start..end).filter(|line| line.len() > 40) else {
        return ("nothing".into(), "nothing".into());
    };
    let before = String::from_utf8_lossy(line).trim_end().to_string();
    let body = line.len() - 14;
    let keys = [
        " size=", " undo=", "+", " prev=", ":", " of=", " map=", " crc=", " obj=", " seq=",
        " write ", " count=",
    ];
    let text = String::from_utf8_lossy(&line[..body]).into_owned();
    let found: Vec<usize> = keys
        .iter()
        .filter_map(|key| Some(text.find(key)? + key.len()))
        .collect();
    if found.is_empty() {
        return (before.clone(), before);
    }
    let from = *pick(random, &found);
    for byte in line[from..body]
        .iter_mut()
        .take_while(|b| b.is_ascii_digit())
    {
        *byte = b'1' + random.below(9) as u8;
    }
    let sum = seed.sum(crc32c, &line[..body]);
    line[body..].copy_from_slice(format!(" sum={sum:08x}\n").as_bytes());
    (before, String::from_utf8_lossy(line).trim_end().to_string())
}

/// Numbers at the ends of their ranges.
pub fn absurd(random: &mut Random) -> u64 {
    let near = random.below(4);
    match random.below(7) {
        0 => near,
        1 => (1 << 31) - 2 + near,
        2 => (1 << 63) - 2 + near,
        3 => u64::MAX - near,
        4 => random.below(5000),
        5 => (1 << 44) - 2 + near,
        _ => random.next() >> random.below(64),
    }
}

/// Reads `[VOLUME.]INODE.GENERATION`.
fn object_id(text: &str) -> ObjectId {
    let mut numbers = text.rsplit('.').map(|word| word.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    ObjectId {
        generation: next() as u32,
        inode: next(),
        volume: next(),
    }
}

/// The checksum of a line.
pub fn sum_of(uuid: &[u8; 16], segment: u64, line: &[u8]) -> u32 {
    let seed = Seed {
        uuid: *uuid,
        segment,
    };
    seed.sum(crc32c, line)
}
