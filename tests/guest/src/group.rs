// SPDX-License-Identifier: GPL-2.0

//! The history of a whole mount, and reverts of any of its operations, as a program sees them.

use std::fs::File;
use std::io;

use crate::fixture::Fixture;
use crate::outcome::{At, Outcome};
use crate::sys;
use crate::undo::{parse_lines, Line};

const fn iowr(number: u64, size: u64) -> u64 {
    (3 << 30) | (size << 16) | ((b'L' as u64) << 8) | number
}

const READ_HISTORY: u64 = iowr(4, 48);
const REVERT_GROUP: u64 = iowr(5, 88);

/// Insist, although objects were changed outside.
pub const FORCE: u32 = 1;
/// Only checks whether the request could be done.
pub const DRY_RUN: u32 = 2;
/// An undo.
pub const WALK: u32 = 4;
/// Takes undos back.
pub const REDO: u32 = 8;

/// A line, and its position.
#[derive(Clone, Debug)]
pub struct Placed {
    pub line: Line,
    pub seq: u64,
    segment: u64,
    offset: u64,
}

impl Placed {
    /// Whether the line is an operation of a program.
    pub fn is_operation(&self) -> bool {
        let own = [
            "revert", "redo", "picked", "commit", "cancel", "amend", "close", "external", "resync",
        ];
        !own.contains(&self.line.op.as_str())
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn half(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// The result of one read of the history.
struct Chunk {
    segment: u64,
    /// The offset to go on at; `u64::MAX`: the segment ends here.
    next: u64,
    /// The segment before; 0: there is none.
    previous: u64,
    lines: Vec<Placed>,
}

fn read(root: &File, segment: u64, offset: u64) -> io::Result<(Chunk, Vec<u8>)> {
    let mut text = vec![0u8; 64 * 1024];
    let mut bytes = [0u8; 48];
    bytes[0..4].copy_from_slice(&1u32.to_ne_bytes());
    bytes[8..16].copy_from_slice(&u64::to_ne_bytes(segment));
    bytes[16..24].copy_from_slice(&u64::to_ne_bytes(offset));
    bytes[32..40].copy_from_slice(&sys::address(&mut text).to_ne_bytes());
    bytes[40..44].copy_from_slice(&(text.len() as u32).to_ne_bytes());
    sys::ioctl_bytes(root, READ_HISTORY, &mut bytes)?;
    text.truncate(half(&bytes, 44) as usize);
    let chunk = Chunk {
        segment: word(&bytes, 8),
        next: word(&bytes, 16),
        previous: word(&bytes, 24),
        lines: Vec::new(),
    };
    Ok((chunk, text))
}

fn chunk(root: &File, segment: u64, offset: u64) -> Outcome<Chunk> {
    let (mut chunk, text) = read(root, segment, offset).at("reading the history")?;
    unpack(&text, chunk.segment, &mut chunk.lines)?;
    Ok(chunk)
}

/// All lines of the mount, oldest first.
pub fn history(w: &Fixture) -> Outcome<Vec<Placed>> {
    all(&File::open(&w.mnt)?)
}

/// The same, through a descriptor.
pub fn all(root: &File) -> Outcome<Vec<Placed>> {
    let mut segments = Vec::new();
    let mut segment = 0;
    loop {
        let mut lines = Vec::new();
        let mut offset = 0;
        let previous = loop {
            let chunk = chunk(root, segment, offset)?;
            lines.extend(chunk.lines);
            (segment, offset) = (chunk.segment, chunk.next);
            if offset == u64::MAX {
                break chunk.previous;
            }
        };
        segments.push(lines);
        if previous == 0 {
            return Ok(segments.into_iter().rev().flatten().collect());
        }
        segment = previous;
    }
}

/// The operations in the newest segment that the caller may see, oldest first.
pub fn newest(place: &File) -> io::Result<Vec<Placed>> {
    let (mut lines, mut offset, mut segment) = (Vec::new(), 0, 0);
    while offset != u64::MAX {
        let (chunk, text) = read(place, segment, offset)?;
        (segment, offset) = (chunk.segment, chunk.next);
        unpack(&text, segment, &mut lines).map_err(|stop| io::Error::other(format!("{stop:?}")))?;
    }
    lines.retain(Placed::is_operation);
    Ok(lines)
}

/// A place in the history, from which on its lines are read as they come.
pub struct Cursor {
    segment: u64,
    offset: u64,
}

impl Cursor {
    /// At the end of the history.
    pub fn at_end(w: &Fixture) -> Outcome<Cursor> {
        let newest = chunk(&File::open(&w.mnt)?, 0, 0)?.segment;
        let mut cursor = Cursor {
            segment: newest,
            offset: 0,
        };
        cursor.lines(w)?;
        Ok(cursor)
    }

    /// All lines since the last call.
    pub fn lines(&mut self, w: &Fixture) -> Outcome<Vec<Placed>> {
        let root = File::open(&w.mnt)?;
        let mut lines: Vec<Placed> = Vec::new();
        loop {
            let chunk = chunk(&root, self.segment, self.offset)?;
            if let Some(last) = chunk.lines.last() {
                self.offset = last.offset + last.line.text.len() as u64 + 1;
            }
            lines.extend(chunk.lines);
            if chunk.next != u64::MAX {
                continue;
            }
            match read(&root, self.segment + 1, 0) {
                Ok(_) => (self.segment, self.offset) = (self.segment + 1, 0),
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(lines),
                Err(error) => return Err(error).at("reading the next segment"),
            }
        }
    }

    /// The operations of programs since the last call that were not withdrawn.
    pub fn operations(&mut self, w: &Fixture) -> Outcome<Vec<Placed>> {
        let mut lines = self.lines(w)?;
        let withdrawn = lines.iter().filter(|placed| placed.line.op == "cancel");
        let withdrawn = withdrawn.filter_map(|placed| placed.line.number("of").ok());
        let withdrawn: Vec<u64> = withdrawn.collect();
        lines.retain(|placed| placed.is_operation() && !withdrawn.contains(&placed.seq));
        Ok(lines)
    }

    /// The reverts since the last call.
    pub fn reverts(&mut self, w: &Fixture) -> Outcome<Vec<Placed>> {
        let mut lines = self.lines(w)?;
        lines.retain(|placed| placed.line.op == "revert");
        Ok(lines)
    }
}

fn unpack(mut bytes: &[u8], segment: u64, lines: &mut Vec<Placed>) -> Outcome {
    while !bytes.is_empty() {
        let offset = word(bytes, 0);
        let length = half(bytes, 8) as usize;
        for line in parse_lines(&bytes[16..16 + length])? {
            let seq = line.number("seq")?;
            lines.push(Placed {
                line,
                seq,
                segment,
                offset,
            });
        }
        bytes = &bytes[(16 + length).next_multiple_of(8)..];
    }
    Ok(())
}

/// A conflict of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub seq: u64,
    pub blocker: u64,
    pub reason: u32,
}

/// The reply of the kernel beside the errno.
#[derive(Debug, Default)]
pub struct GroupReply {
    pub conflicts: Vec<Conflict>,
    pub found: u32,
    pub reverted: u64,
    pub left_out: u32,
    pub objects: u64,
    pub bytes: u64,
    pub seq: u64,
    pub reason: u32,
    pub blocking_seq: u64,
}

/// Takes operations back, through `root`, in whichever order they are given.
pub fn revert(root: &File, operations: &[Placed], flags: u32) -> (io::Result<()>, GroupReply) {
    let mut sorted: Vec<&Placed> = operations.iter().collect();
    sorted.sort_by_key(|placed| std::cmp::Reverse(placed.seq));
    let mut list: Vec<u8> = Vec::new();
    for placed in &sorted {
        for number in [placed.seq, placed.segment, placed.offset] {
            list.extend(number.to_ne_bytes());
        }
    }
    raw(root, &mut list, sorted.len() as u64, flags)
}

/// As [`revert`], with the list in the kernel's layout.
pub fn raw(root: &File, list: &mut [u8], count: u64, flags: u32) -> (io::Result<()>, GroupReply) {
    const ROOM: usize = 64;
    let mut room = vec![0u8; ROOM * 24];
    let mut bytes = [0u8; 88];
    bytes[0..4].copy_from_slice(&1u32.to_ne_bytes());
    bytes[4..8].copy_from_slice(&flags.to_ne_bytes());
    bytes[8..16].copy_from_slice(&sys::address(list).to_ne_bytes());
    bytes[16..24].copy_from_slice(&count.to_ne_bytes());
    bytes[24..32].copy_from_slice(&sys::address(&mut room).to_ne_bytes());
    bytes[32..36].copy_from_slice(&(ROOM as u32).to_ne_bytes());
    let result = sys::ioctl_bytes(root, REVERT_GROUP, &mut bytes).map(drop);
    let found = half(&bytes, 36);
    let conflicts = room.chunks_exact(24).take(found as usize);
    let answer = GroupReply {
        conflicts: conflicts
            .map(|one| Conflict {
                seq: word(one, 0),
                blocker: word(one, 8),
                reason: half(one, 16),
            })
            .collect(),
        found,
        reverted: word(&bytes, 40),
        left_out: half(&bytes, 76),
        objects: word(&bytes, 48),
        bytes: word(&bytes, 56),
        seq: word(&bytes, 64),
        reason: half(&bytes, 72),
        blocking_seq: word(&bytes, 80),
    };
    (result, answer)
}

/// The operations between two reads of the history.
pub struct Watch(u64);

impl Watch {
    pub fn begin(w: &Fixture) -> Outcome<Watch> {
        Ok(Watch(history(w)?.last().map_or(0, |placed| placed.seq)))
    }

    /// All lines since then.
    pub fn lines(&self, w: &Fixture) -> Outcome<Vec<Placed>> {
        let mut lines = history(w)?;
        lines.retain(|placed| placed.seq > self.0);
        Ok(lines)
    }

    /// The operations of programs since then.
    pub fn operations(&self, w: &Fixture) -> Outcome<Vec<Placed>> {
        let mut lines = self.lines(w)?;
        lines.retain(Placed::is_operation);
        Ok(lines)
    }
}
