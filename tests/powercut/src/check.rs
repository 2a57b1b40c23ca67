// SPDX-License-Identifier: GPL-2.0

//! The checks after a cut.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use crate::group::{self, End};
use crate::history;
use crate::lower::Place;
use crate::model::{name_of, Event, Model, Object, NAMES};
use crate::mounts::Lower;
use crate::orphans;
use crate::outcome::{check, fail, At, Outcome, Stop};
use crate::plan::Family;
use crate::recorded::Recorded;
use crate::shadow::Random;
use crate::tree;
use crate::undo;

/// The known facts of a cut.
pub struct Cut<'a> {
    pub model: &'a Model,
    pub lower: Lower,
    pub family: Family,
    /// Steps that were done.
    pub done: u64,
    /// The last step that has perhaps left something.
    pub begun: u64,
    /// The step of a group that was rolled back after it had begun.
    pub withdrawn: Option<u64>,
    /// Lines of steps up to this one must be in the log.
    pub lines: u64,
    /// The line that decides over the group under way was durable.
    pub is_decided: bool,
    /// A deliberate damage, which must be found.
    pub damage: Option<Damage>,
}

/// Ways to damage the remains of a cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Damage {
    /// Writes that were flushed are lost all the same (see `points.rs`).
    Flush,
    /// A byte of a line is another.
    Line,
    /// Changes a byte of the saved content.
    Payload,
    /// A byte of each file is another.
    Content,
    /// The mode of a directory is another.
    Mode,
    /// A name is in another directory.
    Name,
    /// One file of the newest group gets the state without its revert, or with its revert alone.
    Group,
}

impl Damage {
    pub const ALL: [Damage; 7] = [
        Damage::Flush,
        Damage::Line,
        Damage::Payload,
        Damage::Content,
        Damage::Mode,
        Damage::Name,
        Damage::Group,
    ];

    fn inflict(self, place: &Place, cut: &Cut<'_>) -> Outcome {
        let home = place.source.join(".loggerfs");
        match self {
            Damage::Flush => Ok(()),
            Damage::Line => flip_in(&home.join("log")),
            Damage::Payload => flip_in(&home.join("undo")),
            Damage::Content => flip_in(&place.source),
            Damage::Mode | Damage::Name => {
                tree::damage::inflict(&place.source, self == Damage::Name)
            }
            Damage::Group => halve(place, cut),
        }
    }
}

/// Does the opposite of the newest group's effect on one of its files.
fn halve(place: &Place, cut: &Cut<'_>) -> Outcome {
    let mut groups = cut.model.groups.iter().rev();
    let Some(group) = groups.find(|group| group.step <= cut.begun) else {
        return Ok(());
    };
    for (object, event) in &group.events {
        let object = &cut.model.objects[*object];
        let (before, behind) = (&object.events[event - 1], &object.events[*event]);
        for name in 0..NAMES {
            let path = place.source.join(name_of(name));
            if fs::metadata(&path).is_ok_and(|facts| facts.ino() == object.inode) {
                let is_done = fs::read(&path)? == *behind.content;
                let other = if is_done { before } else { behind };
                fs::write(&path, &*other.content)?;
                return Ok(());
            }
        }
    }
    Ok(())
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

/// Counts for the report.
#[derive(Default, Debug, Clone, Copy)]
pub struct Tally {
    pub files: u64,
    pub reverts: u64,
    pub lines: u64,
    pub payloads: u64,
    /// Names' nodes in the two directories, and operations on them that were taken back exactly.
    pub nodes: u64,
    pub taken: u64,
    /// Files that were called changed outside, though only the power was cut.
    pub external: u64,
    /// Groups that were done, and such as were under way: done in the end, or withdrawn.
    pub groups: u64,
    pub decided: u64,
    pub withdrawn: u64,
    /// Cuts within a request of a group, before its deciding line was written, and after that.
    pub undecided: u64,
    pub behind: u64,
    /// Operations whose line was lost though some of their bytes were not.
    pub unrecorded: u64,
}

/// Checks everything; the disk holds the remains of the cut, and nothing is mounted.
pub fn look(place: &Place, cut: &mut Cut<'_>, random: &mut Random, tally: &mut Tally) -> Outcome {
    place
        .mount_lower()
        .at("the lower filesystem after the cut")?;
    // At its end, always: most findings at that time hold for earlier ones, too.
    if random.below(4) == 0 {
        place.unmount_lower()?;
        place.examine()?;
        place.mount_lower()?;
    }
    if cut.family == Family::Full && random.below(2) == 0 {
        let _ = fs::remove_file(place.base.join("filler"));
    }
    if let Some(damage) = cut.damage {
        damage.inflict(place, cut)?;
    }
    place.mount(cut.family.options())?;
    let seen = history::examine(&place.source.join(".loggerfs")).at("the history")?;
    tally.lines += seen.lines;
    tally.payloads += seen.payloads;
    judge_groups(place, cut, tally).at("the groups")?;
    orphans::judge(place, cut).at("what is kept")?;
    for name in 0..NAMES {
        look_at_name(place, cut, name, random, tally).at(name_of(name))?;
    }
    tree::check::look(place, cut, random, tally).at("the two directories")?;
    place.unmount()?;
    if random.below(4) == 0 {
        history::examine(&place.source.join(".loggerfs")).at("the history after the reverts")?;
    }
    place.unmount_lower()?;
    place.examine()?;
    Ok(())
}

/// The inodes that are there, under a name or kept.
pub fn inodes(place: &Place) -> Outcome<HashSet<u64>> {
    let mut found = HashSet::from([fs::metadata(&place.top)?.ino()]);
    let mut places = vec![place.top.clone(), place.source.join(".loggerfs/orphans")];
    while let Some(directory) = places.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            found.insert(entry.metadata()?.ino());
            if entry.file_type()?.is_dir() {
                places.push(entry.path());
            }
            found.insert(group::inode_of(&entry.file_name().to_string_lossy()));
        }
    }
    Ok(found)
}

/// The log must be right about all objects of a group: an interrupted group is complete, or was not begun.
fn judge_groups(place: &Place, cut: &mut Cut<'_>, tally: &mut Tally) -> Outcome {
    let lines = group::history(&File::open(&place.top)?)?;
    let there = inodes(place)?;
    let is_there = |inode| there.contains(&inode);
    let ends = group::ends(&lines, cut.family != Family::Full, is_there)?;
    let (begun, known) = (cut.begun, cut.model.groups.iter());
    let groups: Vec<_> = known.filter(|group| group.step <= begun).collect();
    let oldest = lines
        .first()
        .map_or(Ok(0), |placed| placed.line.number("seq"))?;
    for group in &groups {
        let is_there = ends.get(&group.seq) == Some(&End::Done);
        // Its lines may have been dropped.
        let may_lack = cut.family != Family::Usual && (lines.is_empty() || group.seq <= oldest);
        check!(
            group.step > cut.done || is_there || may_lack || cut.family == Family::Full,
            "group {} of step {} is durable, and the log says {:?}",
            group.seq,
            group.step,
            ends.get(&group.seq)
        );
        tally.groups += u64::from(is_there);
    }
    let done = groups.iter().filter(|group| group.step <= cut.done);
    let done: HashSet<u64> = done.map(|group| group.seq).collect();
    let others = ends.iter().filter(|(_, end)| **end == End::Done);
    let others: Vec<u64> = others
        .map(|(seq, _)| *seq)
        .filter(|seq| !done.contains(seq))
        .collect();
    let Some(under_way) = groups.iter().find(|group| group.step > cut.done) else {
        check!(others.is_empty(), "nobody asked for the groups {others:?}");
        return Ok(());
    };
    let newest = done.iter().max().copied().unwrap_or(0);
    match others[..] {
        [] => {
            check!(
                !cut.is_decided,
                "group {} of step {} was decided, and is not done",
                under_way.seq,
                under_way.step
            );
            cut.begun = cut.done;
            let mut withdrawn = ends.iter().filter(|(seq, _)| **seq > newest);
            if withdrawn.any(|(_, end)| *end == End::Withdrawn) {
                cut.withdrawn = Some(under_way.step);
                tally.withdrawn += 1;
            }
        }
        [seq] if seq > newest => {
            // Its content was durable before the line that says so.
            cut.done = cut.begun;
            cut.lines = cut.lines.max(cut.model.lines_durable_at(cut.done));
            tally.decided += 1;
        }
        _ => fail!("nobody asked for the groups {others:?} beside {done:?}"),
    }
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
    let may_be = (cut.model).may_be_bound(name, (cut.done, cut.begun), cut.lower == Lower::Btrfs);
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
    // Opening the file for writing makes LoggerFS check it.
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

fn texts_of<'e>(events: &[&'e Event]) -> Vec<&'e str> {
    events.iter().map(|event| event.line.as_str()).collect()
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
    /// Ranges that a rolled-back group was about to restore: these bytes have their earlier state.
    withdrawn: &'a [(usize, usize)],
}

impl<'a> History<'a> {
    fn new(cut: &Cut<'a>, object: &'a Object, lines: &[undo::Line]) -> Outcome<History<'a>> {
        let (last, durable) = (object.event_at(cut.begun), object.durable_at(cut.done));
        let told = Recorded::of(lines, cut.family != Family::Full)?;
        let events: Vec<&Event> = object.events[1..=last].iter().collect();
        let recorded = match cut.family {
            Family::Full => told.scattered(&events),
            family => told.contiguous(&events, family == Family::Trim),
        };
        let told = told.operations;
        let Some(recorded) = recorded else {
            fail!(
                "the log says {told:?}, and done was {:?}",
                texts_of(&events)
            );
        };
        let newest = recorded.iter().max().copied().unwrap_or(0);
        let floor = object.event_at(cut.lines).max(durable).min(last);
        // A history at its size limit may have been dropped completely.
        let may_lack =
            cut.family == Family::Full || (cut.family == Family::Trim && told.is_empty());
        check!(
            newest >= floor || may_lack,
            "the log ends with operation {newest} of {last}, and {floor} must be in it ({durable} with its bytes): {told:?} of {:?}",
            texts_of(&events)
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
            withdrawn: withdrawn(cut, object, lines),
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
                // A failed write has not extended the file to its intended size.
                let (from, to) = (event.changed_range.0, event.changed_range.1.min(open.len()));
                open[from.min(to)..to].fill(true);
            }
        }
        if state == self.newest {
            for (from, to) in self.withdrawn {
                let to = (*to).min(open.len());
                open[(*from).min(to)..to].fill(false);
            }
        }
        open
    }

    /// Whether a content can be that of the file in a state: certain bytes are those of the state,
    /// the others those of some state since.
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

/// Ranges of an object that a group was about to restore, and that its log records as rolled back.
fn withdrawn<'a>(cut: &Cut<'a>, object: &'a Object, lines: &[undo::Line]) -> &'a [(usize, usize)] {
    let event = object
        .events
        .iter()
        .find(|event| Some(event.step) == cut.withdrawn);
    match (event, lines.iter().rev().find(|line| line.op == "cancel")) {
        // Later lines of the log name an earlier step.
        (Some(event), Some(cancel)) if ends_with(lines, cancel) => &event.parts,
        _ => &[],
    }
}

/// Whether no operation follows the one that was withdrawn.
fn ends_with(lines: &[undo::Line], cancel: &undo::Line) -> bool {
    let own = ["commit", "cancel", "amend", "close", "external", "resync"];
    let last = lines.iter().rfind(|line| !own.contains(&line.op.as_str()));
    let seq = last.and_then(|line| line.key("seq"));
    seq.is_some() && seq == cancel.key("of")
}

const REVERTED: &str = "taken back";

/// Takes all live operations back, a few at a time.
fn walk_back(
    cut: &Cut<'_>,
    history: &History<'_>,
    file: &File,
    random: &mut Random,
    tally: &mut Tally,
) -> Outcome {
    tally.unrecorded += (history.last - history.newest) as u64;
    let events = &history.object.events;
    let is_live = |at: &&usize| events[**at].intended.is_none() || history.recorded.contains(at);
    let live = events[history.newest].live.iter().filter(is_live);
    let live: Vec<usize> = live.copied().collect();
    let mut left = live.len();
    let mut force = 0;
    // Mostly all of them at once, which costs least.
    let at_once = random.below(3) != 0;
    while left > 0 {
        let some = (1 + random.below(6) as usize).min(left);
        let count = if at_once { left } else { some };
        let oldest = live[left - count];
        if !live[left - count..left]
            .iter()
            .all(|at| history.recorded.contains(at))
        {
            return Ok(());
        }
        let (done, answer) = undo::revert_more(file, count as u64, force);
        match done.map_err(|error| error.raw_os_error().unwrap_or(0)) {
            Ok(()) => {}
            // A closing line may survive without the times and the size that it records. On btrfs,
            // durable files are found with other times, too; the reason is not known yet.
            Err(libc::ESTALE)
                if force == 0
                    && (history.durable < history.last || cut.lower == Lower::Btrfs) =>
            {
                tally.external += 1;
                force = undo::FORCE;
                continue;
            }
            Err(libc::ENODATA | libc::ENOSPC | libc::ESTALE) if cut.family != Family::Usual => return Ok(()),
            Err(errno) => fail!(
                "taking back {count} of {left} operations: {}, reason {}, line {} in the way ({} durable, {} in the log, {} done)",
                crate::outcome::name(errno),
                answer.reason,
                answer.blocking_seq,
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
