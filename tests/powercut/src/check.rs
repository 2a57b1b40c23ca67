// SPDX-License-Identifier: GPL-2.0

//! What is looked at after a cut.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use crate::history;
use crate::lower::Place;
use crate::model::{name_of, Model, Object, NAMES};
use crate::mounts::Lower;
use crate::outcome::{check, fail, At, Outcome, Stop};
use crate::plan::Family;
use crate::shadow::Random;
use crate::undo;

/// What is known about a cut.
pub struct Cut<'a> {
    pub model: &'a Model,
    pub lower: Lower,
    pub family: Family,
    /// Steps that were done; the next one had perhaps begun.
    pub done: u64,
    /// Lines of steps up to this one must be in the log.
    pub lines: u64,
    /// What is broken on purpose, so that it must be found.
    pub damage: Option<Damage>,
}

/// Ways to break what a cut left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Damage {
    /// Writes that were flushed are lost all the same (see `points.rs`).
    Flush,
    /// A byte of a line is another.
    Line,
    /// A byte of what was saved is another.
    Payload,
    /// A byte of each file is another.
    Content,
}

impl Damage {
    pub const ALL: [Damage; 4] = [
        Damage::Flush,
        Damage::Line,
        Damage::Payload,
        Damage::Content,
    ];

    fn inflict(self, place: &Place) -> Outcome {
        let home = place.source.join(".loggerfs");
        match self {
            Damage::Flush => Ok(()),
            Damage::Line => flip_in(&home.join("log")),
            Damage::Payload => flip_in(&home.join("undo")),
            Damage::Content => flip_in(&place.source),
        }
    }
}

/// Changes the first byte of each file in a directory.
fn flip_in(directory: &Path) -> Outcome {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let mut byte = [0];
        if path.is_file() {
            let file = OpenOptions::new().read(true).write(true).open(&path)?;
            if file.read_at(&mut byte, 0)? == 1 {
                file.write_at(&[byte[0] ^ 0x55], 0)?;
            }
        }
    }
    Ok(())
}

/// What was seen, for the report.
#[derive(Default, Debug, Clone, Copy)]
pub struct Tally {
    pub files: u64,
    pub reverts: u64,
    pub lines: u64,
    pub payloads: u64,
    /// Files that were called changed outside, though only the power was cut.
    pub foreign: u64,
    /// Operations whose line was lost though some of their bytes were not.
    pub unrecorded: u64,
}

/// Looks at everything; the disk holds what the cut left, and nothing is mounted.
pub fn look(place: &Place, cut: &Cut<'_>, random: &mut Random, tally: &mut Tally) -> Outcome {
    place
        .mount_lower()
        .at("the lower filesystem after the cut")?;
    // At its end, always; what is wrong then was wrong before, most of the time.
    if random.below(4) == 0 {
        place.unmount_lower()?;
        place.examine()?;
        place.mount_lower()?;
    }
    if cut.family == Family::Full && random.below(2) == 0 {
        let _ = fs::remove_file(place.base.join("filler"));
    }
    if let Some(damage) = cut.damage {
        damage.inflict(place)?;
    }
    place.mount(cut.family.options())?;
    let seen = history::examine(&place.source.join(".loggerfs")).at("the history")?;
    tally.lines += seen.lines;
    tally.payloads += seen.payloads;
    for name in 0..NAMES {
        look_at_name(place, cut, name, random, tally).at(name_of(name))?;
    }
    place.unmount()?;
    if random.below(4) == 0 {
        history::examine(&place.source.join(".loggerfs")).at("the history after the reverts")?;
    }
    place.unmount_lower()?;
    place.examine()?;
    Ok(())
}

fn look_at_name(
    place: &Place,
    cut: &Cut<'_>,
    name: usize,
    random: &mut Random,
    tally: &mut Tally,
) -> Outcome {
    let path = place.top.join(name_of(name));
    let may_be = (cut.model).may_be_bound(name, cut.done, cut.lower == Lower::Btrfs);
    let inode = match fs::symlink_metadata(&path) {
        Ok(facts) => facts.ino(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            check!(may_be.contains(&None), "it is not there, and was durable");
            return Ok(());
        }
        Err(error) => fail!("stat: {error}"),
    };
    let objects = may_be.iter().flatten().map(|at| &cut.model.objects[*at]);
    let objects: Vec<&Object> = objects
        .filter(|object| object.inode == inode || object.inode == 0)
        .collect();
    if objects.is_empty() {
        let known = may_be
            .iter()
            .map(|at| at.map(|at| cut.model.objects[at].inode));
        let known: Vec<_> = known.collect();
        let all: Vec<u64> = cut
            .model
            .objects
            .iter()
            .map(|object| object.inode)
            .collect();
        let lines = undo::lines(&File::open(&place.top)?, true)?;
        fail!(
            "inode {inode} was not bound to that name, only {known:?} of {all:?}\n{}",
            texts(&lines)
        );
    }
    let content = fs::read(&path).at("reading")?;
    tally.files += 1;
    // Opening it for writing is what makes LoggerFS look at it.
    let file = OpenOptions::new().read(true).write(true).open(&path)?;
    let lines = undo::lines(&file, true)?;
    let mut reasons = Vec::new();
    for object in objects {
        let judged = History::new(cut, object, &lines).and_then(|history| {
            history.compare(&content, history.newest, "as it was found")?;
            Ok(history)
        });
        match judged {
            Ok(history) => {
                return match walk_back(cut, &history, &file, random, tally) {
                    Err(Stop::Fail(reason)) => fail!("{reason}\n{}", texts(&lines)),
                    walked => walked,
                };
            }
            Err(Stop::Fail(reason)) => reasons.push(reason),
            Err(stop) => return Err(stop),
        }
    }
    fail!("{}\n{}", reasons.join("; or "), texts(&lines))
}

fn texts(lines: &[undo::Line]) -> String {
    let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
    texts.join("\n")
}

/// A file's events after a cut: which of them the log knows, and which the disk must.
struct History<'a> {
    object: &'a Object,
    /// The last event that has perhaps begun.
    last: usize,
    /// The last event that must be there.
    durable: usize,
    /// The newest event in the log.
    newest: usize,
    recorded: HashSet<usize>,
}

impl<'a> History<'a> {
    fn new(cut: &Cut<'_>, object: &'a Object, lines: &[undo::Line]) -> Outcome<History<'a>> {
        let (last, durable) = (object.event_at(cut.done + 1), object.durable_at(cut.done));
        let told = operations(lines, cut.family != Family::Full)?;
        let events: Vec<&str> = (1..=last).map(|at| &*object.events[at].line).collect();
        let recorded = match cut.family {
            Family::Full => scattered(&events, &told),
            family => contiguous(&events, &told, family == Family::Trim),
        };
        let Some(recorded) = recorded else {
            fail!("the log says {told:?}, and done was {events:?}");
        };
        let newest = recorded.iter().max().copied().unwrap_or(0);
        let floor = object.event_at(cut.lines).max(durable).min(last);
        // A whole history may have been dropped that is as large as it may be.
        let may_lack =
            cut.family == Family::Full || (cut.family == Family::Trim && told.is_empty());
        check!(
            newest >= floor || may_lack,
            "the log ends with operation {newest} of {last}, and {floor} must be in it ({durable} with its bytes): {told:?} of {events:?}"
        );
        // Without a line they may all have been dropped, or never have been recorded.
        let (newest, recorded) = if told.is_empty() && may_lack {
            (floor, HashSet::new())
        } else {
            (newest, recorded)
        };
        Ok(History {
            object,
            last,
            durable,
            newest,
            recorded,
        })
    }

    /// The bytes that may be of another state than `state`'s.
    fn is_open(&self, state: usize) -> Vec<bool> {
        let events = &self.object.events;
        let longest = events.iter().map(|event| event.content.len()).max();
        let mut open = vec![false; longest.unwrap_or(0)];
        for (at, event) in events.iter().enumerate().take(self.last + 1).skip(1) {
            let mut unsure = at > self.durable && (at <= state || event.is_revert);
            unsure |= at <= state && event.intended.is_some();
            if unsure || !self.recorded.contains(&at) {
                // A write that failed has not made the file as long as it meant to.
                let (from, to) = (event.touched.0, event.touched.1.min(open.len()));
                open[from.min(to)..to].fill(true);
            }
        }
        open
    }

    /// Whether a content can be what the file holds in a state: bytes that were never in doubt
    /// are those of the state, the others those of some state since.
    fn compare(&self, content: &[u8], state: usize, what: &str) -> Outcome {
        let events = &self.object.events;
        let since = state.min(self.durable);
        let sizes = (since..=self.last).map(|at| events[at].content.len());
        let (least, most) = if what == REVERTED {
            let size = events[state].content.len();
            (size, size)
        } else {
            (sizes.clone().min().unwrap_or(0), sizes.max().unwrap_or(0))
        };
        check!(
            (least..=most).contains(&content.len()),
            "{what}: {} bytes, want {least} to {most} (operation {state}, {} durable, {} in the log, {} done)",
            content.len(),
            self.durable,
            self.newest,
            self.last
        );
        if content == &events[state].content[..] {
            return Ok(());
        }
        let open = self.is_open(state);
        let byte_of = |at: usize, byte: usize| events[at].content.get(byte).copied().unwrap_or(0);
        for (byte, value) in content.iter().enumerate() {
            if *value == byte_of(state, byte) {
                continue;
            }
            let intended = |event: &crate::model::Event| {
                let bytes = event.intended.as_ref();
                bytes.is_some_and(|bytes| bytes.get(byte) == Some(value))
            };
            let may = open.get(byte) == Some(&true)
                && ((since..=self.last).any(|at| byte_of(at, byte) == *value)
                    || events[..=self.last].iter().any(intended));
            check!(
                may,
                "{what}: byte {byte} is 0x{value:02x}, want 0x{:02x} (operation {state}, {} durable, {} in the log, {} done; open to doubt: {:?})",
                byte_of(state, byte),
                self.durable,
                self.newest,
                self.last,
                open.get(byte)
            );
        }
        Ok(())
    }
}

const REVERTED: &str = "taken back";

/// The operations that a log tells of, as events have them. Those that were cancelled are left
/// out, and those that were amended read as they ended.
fn operations(lines: &[undo::Line], strict: bool) -> Outcome<Vec<String>> {
    let mut ends: HashMap<u64, &undo::Line> = HashMap::new();
    for line in lines {
        if ["cancel", "commit", "amend"].contains(&line.op.as_str()) {
            ends.insert(line.number("of")?, line);
        }
    }
    let mut found = Vec::new();
    for line in lines {
        let end = ends.get(&line.number("seq")?);
        if end.is_some_and(|end| end.op == "cancel") {
            continue;
        }
        match (line.op.as_str(), end) {
            ("revert", None) if strict => {
                fail!("a revert was neither ended nor withdrawn: {}", line.text)
            }
            // Two reverts of one file must not be taken for each other.
            ("revert", _) => {
                let (count, size) = (line.number("count")?, line.number("now")?);
                found.push(format!("revert {count} {size}"));
            }
            ("write" | "truncate" | "punch", Some(end)) if end.op == "amend" => {
                found.push(format!("{} {} {}", line.op, end.offset, end.length));
            }
            ("write" | "truncate" | "punch", _) => found.push(line.brief()),
            _ => {}
        }
    }
    Ok(found)
}

/// Which events (from 1 on) the lines are: all up to some event, or the last of those.
fn contiguous(events: &[&str], lines: &[String], trimmed: bool) -> Option<HashSet<usize>> {
    (lines.len()..=events.len()).rev().find_map(|end| {
        let start = end - lines.len();
        let same = events[start..end]
            .iter()
            .zip(lines)
            .all(|(a, b)| *a == b.as_str());
        // What was dropped is recorded, but can be taken back no more.
        (same && (start == 0 || trimmed)).then(|| (1..=end).collect())
    })
}

/// The same where some operations could not be recorded.
fn scattered(events: &[&str], lines: &[String]) -> Option<HashSet<usize>> {
    let mut found = HashSet::new();
    let mut end = events.len();
    for line in lines.iter().rev() {
        end = events[..end]
            .iter()
            .rposition(|event| *event == line.as_str())?;
        found.insert(end + 1);
    }
    Some(found)
}

/// Takes back everything that stands, a few operations at a time.
fn walk_back(
    cut: &Cut<'_>,
    history: &History<'_>,
    file: &File,
    random: &mut Random,
    tally: &mut Tally,
) -> Outcome {
    tally.unrecorded += (history.last - history.newest) as u64;
    let events = &history.object.events;
    let stands = |at: &&usize| events[**at].intended.is_none() || history.recorded.contains(at);
    let standing = events[history.newest].standing.iter().filter(stands);
    let standing: Vec<usize> = standing.copied().collect();
    let mut left = standing.len();
    let mut force = 0;
    // Mostly all of them at once, which costs least.
    let at_once = random.below(3) != 0;
    while left > 0 {
        let some = (1 + random.below(6) as usize).min(left);
        let count = if at_once { left } else { some };
        let oldest = standing[left - count];
        if !standing[left - count..left]
            .iter()
            .all(|at| history.recorded.contains(at))
        {
            return Ok(());
        }
        let (done, answer) = undo::revert_more(file, count as u64, force);
        match done.map_err(|error| error.raw_os_error().unwrap_or(0)) {
            Ok(()) => {}
            // A closing line may outlive the times and the size that it tells of. On btrfs files
            // that were durable are found with other times, too; why is not known yet.
            Err(libc::ESTALE)
                if force == 0
                    && (history.durable < history.last || cut.lower == Lower::Btrfs) =>
            {
                tally.foreign += 1;
                force = undo::FORCE;
                continue;
            }
            Err(libc::ENODATA | libc::ENOSPC | libc::ESTALE) if cut.family != Family::Usual => return Ok(()),
            Err(errno) => fail!(
                "taking back {count} of {left} operations: {}, reason {}, line {} in the way ({} durable, {} in the log, {} done)",
                crate::outcome::name(errno),
                answer.reason,
                answer.seq_in_way,
                history.durable,
                history.newest,
                history.last
            ),
        }
        tally.reverts += 1;
        left -= count;
        let mut content = Vec::new();
        std::io::Seek::rewind(&mut &*file)?;
        std::io::Read::read_to_end(&mut &*file, &mut content)?;
        history.compare(&content, oldest - 1, REVERTED)?;
    }
    Ok(())
}
