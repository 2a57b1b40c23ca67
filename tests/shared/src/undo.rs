// SPDX-License-Identifier: GPL-2.0

//! The interface of LoggerFS for programs: its ioctls and its log lines.
//!
//! Written from the documents, not from the module's sources: a mistake there must not be
//! repeated here.

use std::fs::File;
use std::io;
use std::ops::Range;

use crate::outcome::{check, fail, At, Outcome, Stop};
use crate::sys;

pub const READLOG_PAGE: u64 = 0x1000;
pub const REVERT: u64 = 0x2000;

const fn iowr(number: u64, size: u64) -> u64 {
    (3 << 30) | (size << 16) | ((b'L' as u64) << 8) | number
}

pub const REVERT_MORE: u64 = iowr(1, 40);
pub const READ_LOG: u64 = iowr(2, 40);
pub const READ_HISTORY: u64 = iowr(4, 48);

/// `Revert.flags`: revert although the file changed outside LoggerFS or is mapped.
pub const FORCE: u32 = 1;

/// `Revert.flags`: a removed directory comes back with the entries that the same process removed
/// from it.
pub const DEEP: u32 = 2;

/// Takes back the newest `count` operations (0 means 1).
pub fn revert(file: &File, count: usize) -> io::Result<()> {
    sys::ioctl_number(file, REVERT, count).map(drop)
}

/// The reply of the kernel beside the errno of a revert.
#[derive(Debug, Default)]
pub struct RevertReply {
    pub reverted: u64,
    pub blocking_seq: u64,
    pub reason: u32,
    pub inside: u32,
}

/// The versioned revert.
pub fn revert_more(file: &File, count: u64, flags: u32) -> (io::Result<()>, RevertReply) {
    let mut bytes = [0u8; 40];
    bytes[0..4].copy_from_slice(&1u32.to_ne_bytes());
    bytes[4..8].copy_from_slice(&flags.to_ne_bytes());
    bytes[8..16].copy_from_slice(&count.to_ne_bytes());
    let result = sys::ioctl_bytes(file, REVERT_MORE, &mut bytes).map(drop);
    let answer = RevertReply {
        reverted: word(&bytes, 16),
        blocking_seq: word(&bytes, 24),
        reason: word(&bytes, 32) as u32,
        inside: (word(&bytes, 32) >> 32) as u32,
    };
    (result, answer)
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_ne_bytes(word)
}

/// The newest lines in the 4096-byte form of the first LoggerFS.
pub fn page(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4096];
    let length = sys::ioctl_bytes(file, READLOG_PAGE, &mut bytes)?;
    bytes.truncate(length);
    Ok(bytes)
}

/// One line of the log.
#[derive(Clone, Debug)]
pub struct Line {
    pub text: String,
    pub time: f64,
    pub command: String,
    pub op: String,
    pub offset: u64,
    pub length: u64,
    /// The places of the keys and of their values in the text.
    keys: Vec<(Range<usize>, Range<usize>)>,
}

impl Line {
    pub fn parse(text: &str) -> Outcome<Line> {
        let mut words = text.split(' ');
        let mut next = |what: &str| -> Outcome<&str> {
            words
                .next()
                .ok_or_else(|| Stop::Fail(format!("no {what} in line: {text}")))
        };
        let time = next("TIME")?;
        check!(
            time.split_once('.')
                .is_some_and(|(_, nanos)| nanos.len() == 9),
            "TIME without nine digits of nanoseconds: {text}"
        );
        let time = number(time, text)?;
        let command = next("COMMAND")?.to_string();
        let op = next("OP")?.to_string();
        let offset = number(next("OFFSET")?, text)?;
        let length = number(next("LENGTH")?, text)?;
        let text = text.to_string();
        let keys = keys(&text)?;
        let line = Line {
            text,
            time,
            command,
            op,
            offset,
            length,
            keys,
        };
        for key in ["seq", "sum"] {
            check!(line.key(key).is_some(), "no {key}= in line: {}", line.text);
        }
        Ok(line)
    }

    pub fn key(&self, key: &str) -> Option<&str> {
        let mut keys = self.keys.iter();
        let (_, value) = keys.find(|(name, _)| &self.text[name.clone()] == key)?;
        Some(&self.text[value.clone()])
    }

    pub fn number(&self, key: &str) -> Outcome<u64> {
        match self.key(key) {
            Some(value) => number(value, &self.text),
            None => fail!("no {key}= in line: {}", self.text),
        }
    }

    /// `OP OFFSET LENGTH`, the form that most tests compare.
    pub fn brief(&self) -> String {
        format!("{} {} {}", self.op, self.offset, self.length)
    }
}

/// The keys behind the first five words of a line, each once.
fn keys(text: &str) -> Outcome<Vec<(Range<usize>, Range<usize>)>> {
    let mut keys: Vec<(Range<usize>, Range<usize>)> = Vec::new();
    let mut start = 0;
    for (place, pair) in text.split(' ').enumerate() {
        let (pair_start, end) = (start, start + pair.len());
        start = end + 1;
        if place < 5 {
            continue;
        }
        let Some(length) = pair.find('=') else {
            fail!("'{pair}' is no key=value in line: {text}");
        };
        let key = &pair[..length];
        let known = keys.iter().any(|(name, _)| &text[name.clone()] == key);
        check!(!known, "'{key}' occurs twice in line: {text}");
        let equals = pair_start + length;
        keys.push((pair_start..equals, equals + 1..end));
    }
    Ok(keys)
}

fn number<T: std::str::FromStr>(word: &str, line: &str) -> Outcome<T> {
    word.parse()
        .map_err(|_| Stop::Fail(format!("'{word}' is no number in line: {line}")))
}

/// Splits whole lines.
pub fn parse_lines(bytes: &[u8]) -> Outcome<Vec<Line>> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => text,
        _ => fail!("the log is not plain ASCII"),
    };
    check!(
        text.is_empty() || text.ends_with('\n'),
        "the log ends inside a line: {}",
        text.lines().last().unwrap_or_default()
    );
    text.lines().map(Line::parse).collect()
}

/// The most that a log is believed to say; a cursor that leads round and round says more.
const LONGEST: usize = 64 << 20;

/// The text of the file's lines, newest first: the live ones, or all of them.
pub fn raw_log(file: &File, all: bool) -> io::Result<Vec<u8>> {
    let mut found = Vec::new();
    let (mut segment, mut offset) = (0u64, 0u64);
    loop {
        let mut text = vec![0; 64 * 1024];
        let mut bytes = [0u8; 40];
        bytes[0..4].copy_from_slice(&1u32.to_ne_bytes());
        bytes[4..8].copy_from_slice(&u32::from(all).to_ne_bytes());
        bytes[8..16].copy_from_slice(&segment.to_ne_bytes());
        bytes[16..24].copy_from_slice(&offset.to_ne_bytes());
        bytes[24..32].copy_from_slice(&sys::address(&mut text).to_ne_bytes());
        bytes[32..36].copy_from_slice(&(text.len() as u32).to_ne_bytes());
        sys::ioctl_bytes(file, READ_LOG, &mut bytes)?;
        let used = (word(&bytes, 32) >> 32) as usize;
        let cursor = (word(&bytes, 8), word(&bytes, 16));
        if used > text.len() || found.len() > LONGEST || cursor == (segment, offset) {
            return Err(io::Error::other(format!(
                "the log's answer: {used} bytes, cursor {cursor:?} after {segment}:{offset}, {} bytes so far",
                found.len()
            )));
        }
        found.extend(&text[..used]);
        if cursor.0 == u64::MAX {
            return Ok(found);
        }
        (segment, offset) = cursor;
    }
}

/// The file's lines, oldest first: the live ones, or all of them.
pub fn lines(file: &File, all: bool) -> Outcome<Vec<Line>> {
    let mut found = parse_lines(&raw_log(file, all).at("reading the log")?)?;
    found.reverse();
    ascending(&found)?;
    Ok(found)
}

/// Numbers must rise strictly from line to line.
pub fn ascending(lines: &[Line]) -> Outcome {
    for pair in lines.windows(2) {
        check!(
            pair[0].number("seq")? < pair[1].number("seq")?,
            "line numbers do not rise: '{}' before '{}'",
            pair[0].text,
            pair[1].text
        );
    }
    Ok(())
}

/// `OP OFFSET LENGTH` of the live lines, oldest first.
pub fn briefs(file: &File) -> Outcome<Vec<String>> {
    Ok(lines(file, false)?.iter().map(Line::brief).collect())
}

/// A segment of the whole history, as far as read.
#[derive(Debug, Default)]
pub struct Segment {
    pub number: u64,
    pub previous: u64,
    /// The lines with their offsets.
    pub lines: Vec<(u64, String)>,
}

/// Asks once for a segment's lines from `offset` on, with a buffer of `room` bytes; they are added to
/// `into`. Answers where to go on; `None`: the segment ends.
pub fn read_history(
    file: &File,
    segment: u64,
    offset: u64,
    room: usize,
    into: &mut Segment,
) -> io::Result<Option<u64>> {
    let mut text = vec![0xee; room];
    let mut bytes = [0u8; 48];
    bytes[0..4].copy_from_slice(&1u32.to_ne_bytes());
    bytes[8..16].copy_from_slice(&segment.to_ne_bytes());
    bytes[16..24].copy_from_slice(&offset.to_ne_bytes());
    bytes[32..40].copy_from_slice(&sys::address(&mut text).to_ne_bytes());
    bytes[40..44].copy_from_slice(&(room as u32).to_ne_bytes());
    sys::ioctl_bytes(file, READ_HISTORY, &mut bytes)?;
    let used = (word(&bytes, 40) >> 32) as usize;
    let wrong = |what: &str| io::Error::other(format!("the history's answer: {what}"));
    (into.number, into.previous) = (word(&bytes, 8), word(&bytes, 24));
    let mut at = 0;
    while at < used {
        let head = text.get(at..at + 16).ok_or(wrong("half a head"))?;
        let length = word(head, 8);
        let line = text.get(at + 16..at + 16 + length as usize);
        let line = line.filter(|line| line.ends_with(b"\n"));
        let line = line.ok_or(wrong("no whole line"))?;
        let line = String::from_utf8(line.to_vec()).map_err(|_| wrong("no text"))?;
        let end = (at + 16 + line.len()).next_multiple_of(8);
        let padding = &text[at + 16 + line.len()..end];
        if padding.iter().any(|byte| *byte != 0) {
            return Err(wrong("padding that is not zero"));
        }
        into.lines.push((word(head, 0), line));
        at = end;
    }
    if text[at..].iter().any(|byte| *byte != 0xee) {
        return Err(wrong("more was written than it says"));
    }
    Ok(Some(word(&bytes, 16)).filter(|next| *next != u64::MAX))
}

/// The whole history that the caller may read, the newest segment first.
pub fn history(file: &File, room: usize) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    let mut number = 0;
    loop {
        let segment = match read_segment(file, number, room) {
            // The one before was read, and this one was dropped meanwhile.
            Err(error) if number != 0 && error.raw_os_error() == Some(libc::ENODATA) => {
                return Ok(segments)
            }
            segment => segment?,
        };
        number = segment.previous;
        segments.push(segment);
        if number == 0 {
            return Ok(segments);
        }
    }
}

fn read_segment(file: &File, number: u64, room: usize) -> io::Result<Segment> {
    let mut segment = Segment::default();
    let mut next = read_history(file, number, 0, room, &mut segment)?;
    while let Some(offset) = next {
        next = read_history(file, segment.number, offset, room, &mut segment)?;
    }
    Ok(segment)
}
