// SPDX-License-Identifier: GPL-2.0

//! Requests that take back operations of several objects, and their lines in the log.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::io::Errno;

use crate::outcome::{check, At, Outcome};
use crate::plan::RevertMode;
use crate::sys;
use crate::undo::{self, Line};

/// `_IOWR('L', 5, struct revert_group)`.
const REVERT_GROUP: u64 = (3 << 30) | (88 << 16) | ((b'L' as u64) << 8) | 5;

const FORCE: u32 = 1;
const WALK: u32 = 4;
const REDO: u32 = 8;

/// The reason of a refusal: an object was not found.
const GONE: u32 = 15;

/// A buffer for pieces of the history.
const ROOM: usize = 64 * 1024;

/// A line of the mount's log, and its position.
pub struct Placed {
    pub line: Line,
    pub seq: u64,
    segment: u64,
    offset: u64,
}

/// All lines of the mount, oldest first.
pub fn history(root: &File) -> Outcome<Vec<Placed>> {
    let mut found = Vec::new();
    let segments = undo::history(root, ROOM).at("reading the history")?;
    for segment in segments.iter().rev() {
        for (offset, text) in &segment.lines {
            let line = Line::parse(text.trim_end())?;
            found.push(Placed {
                seq: line.number("seq")?,
                segment: segment.number,
                offset: *offset,
                line,
            });
        }
    }
    Ok(found)
}

/// The newest live operations of an object; `None`: there are fewer.
fn newest(file: &File, count: usize) -> Outcome<Option<Vec<u64>>> {
    let lines = undo::lines(file, false)?;
    let Some(first) = lines.len().checked_sub(count) else {
        return Ok(None);
    };
    let numbers = lines[first..].iter().map(|line| line.number("seq"));
    numbers.collect::<Outcome<_>>().map(Some)
}

/// Takes back the newest operations of each of these objects, and the operations `others`. Returns the
/// group's number; ENODATA, as for a revert, if fewer operations are live or recorded.
pub fn take_back(
    root: &File,
    wanted: &[(&File, usize)],
    others: &[u64],
    way: RevertMode,
) -> Outcome<io::Result<u64>> {
    let mut numbers = others.to_vec();
    for (file, count) in wanted {
        match newest(file, *count)? {
            Some(found) => numbers.extend(found),
            None => return Ok(Err(Errno::NODATA.into())),
        }
    }
    take_back_these(root, &numbers, way, false)
}

/// Takes back the operations with these numbers.
pub fn take_back_these(
    root: &File,
    numbers: &[u64],
    way: RevertMode,
    force: bool,
) -> Outcome<io::Result<u64>> {
    let flags = if way == RevertMode::Walk { WALK } else { 0 };
    request(root, numbers, flags | if force { FORCE } else { 0 })
}

/// Takes an undo back.
pub fn redo(root: &File, group: u64) -> Outcome<io::Result<u64>> {
    let mut numbers = Vec::new();
    for placed in history(root)? {
        if placed.line.op == "revert" && (number_of(&placed.line) == Some(group)) {
            numbers.push(placed.seq);
        }
    }
    if numbers.is_empty() {
        return Ok(Err(Errno::NODATA.into()));
    }
    request(root, &numbers, REDO)
}

/// The group that a revert belongs to.
fn number_of(line: &Line) -> Option<u64> {
    let own = line.number("group").or(line.number("seq"));
    own.ok()
}

fn request(root: &File, numbers: &[u64], flags: u32) -> Outcome<io::Result<u64>> {
    let places = history(root)?;
    let places: HashMap<u64, &Placed> = places.iter().map(|one| (one.seq, one)).collect();
    let mut numbers = numbers.to_vec();
    numbers.sort_unstable_by_key(|seq| std::cmp::Reverse(*seq));
    let mut list: Vec<u8> = Vec::new();
    for seq in &numbers {
        let Some(placed) = places.get(seq) else {
            // A request before this one had no room but that one's segment.
            println!("line {seq} is not in the history");
            return Ok(Err(Errno::NODATA.into()));
        };
        for word in [*seq, placed.segment, placed.offset] {
            list.extend(word.to_ne_bytes());
        }
    }
    let answer = ask(root, numbers.as_slice(), &mut list, flags);
    match answer {
        // The kernel finds an object by a name in its memory, or in a directory of the object's lines. logctl,
        // too, looks all names up and asks again.
        Err((_, GONE)) => {
            look_all_up(&Path::new("/proc/self/fd").join(root.as_raw_fd().to_string()))?;
            Ok(ask(root, &numbers, &mut list, flags).map_err(|(error, _)| error))
        }
        answer => Ok(answer.map_err(|(error, _)| error)),
    }
}

/// Looks up every name below a directory.
fn look_all_up(directory: &Path) -> Outcome {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.metadata()?.is_dir() {
            look_all_up(&entry.path())?;
        }
    }
    Ok(())
}

/// Asks once: the group's number, or the error and the reason.
fn ask(root: &File, numbers: &[u64], list: &mut [u8], flags: u32) -> Result<u64, (io::Error, u32)> {
    let mut bytes = [0u8; 88];
    bytes[0..4].copy_from_slice(&1u32.to_ne_bytes());
    bytes[4..8].copy_from_slice(&flags.to_ne_bytes());
    bytes[8..16].copy_from_slice(&sys::address(list).to_ne_bytes());
    bytes[16..24].copy_from_slice(&(numbers.len() as u64).to_ne_bytes());
    let done = sys::ioctl_bytes(root, REVERT_GROUP, &mut bytes);
    let word = |at: usize| bytes[at..at + 8].try_into().map_or(0, u64::from_ne_bytes);
    done.map(|_| word(64)).map_err(|error| {
        // CAST: The reason is the lower half.
        let reason = word(72) as u32;
        let said = format!(
            "{error}: {numbers:?}, reason {reason}, {} in the way",
            word(80)
        );
        // The mark has only the number; this is for a reader of the output.
        println!("a group was refused: {said}");
        (error, reason)
    })
}

/// How a group ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Done,
    Withdrawn,
}

/// Each group of several objects in a log, by its number, and how it ended: all of it in the same way.
/// `strict`: no end may be missing, except of removed objects, by their inode numbers: the cut took these.
pub fn ends(
    lines: &[Placed],
    strict: bool,
    is_there: impl Fn(u64) -> bool,
) -> Outcome<BTreeMap<u64, End>> {
    let mut said = HashMap::new();
    for placed in lines {
        let end = match placed.line.op.as_str() {
            "commit" => End::Done,
            "cancel" => End::Withdrawn,
            _ => continue,
        };
        said.insert(placed.line.number("of")?, end);
    }
    let mut groups: BTreeMap<u64, Vec<(u64, u64, Option<End>)>> = BTreeMap::new();
    let reverts = lines.iter().filter(|placed| {
        let op = placed.line.op.as_str();
        op == "revert" || op == "redo"
    });
    for placed in reverts {
        let group = number_of(&placed.line).unwrap_or(placed.seq);
        let end = said.get(&placed.seq).copied();
        let inode = inode_of(placed.line.key("obj").unwrap_or_default());
        let member = (placed.seq, inode, end);
        groups.entry(group).or_default().push(member);
    }
    groups.retain(|_, members| members.len() > 1);
    let mut found = BTreeMap::new();
    for (group, members) in groups {
        let mut all = members.iter().filter_map(|(.., end)| *end);
        let first = all.next();
        let same = all.all(|end| Some(end) == first);
        let mut lacking = members.iter().filter(|(.., end)| end.is_none());
        let whole = lacking.all(|(_, inode, _)| !is_there(*inode));
        check!(
            same && (whole || !strict),
            "group {group} did not end as one: {members:?}"
        );
        if let Some(end) = first {
            found.insert(group, end);
        }
    }
    Ok(found)
}

/// The inode number of an object as lines and kept objects are called: `[VOLUME.]INODE.GENERATION`.
pub fn inode_of(object: &str) -> u64 {
    // The entry of an orphan has more fields than the object.
    let object = object.split(',').next().unwrap_or_default();
    let inode = object.rsplit('.').nth(1);
    inode.and_then(|inode| inode.parse().ok()).unwrap_or(0)
}
