// SPDX-License-Identifier: MIT OR Apache-2.0

//! The lines of a whole mount, from the newest on: the actor of each, and which of them are live.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use rustix::io::Errno;

use crate::actions::nanoseconds;
use crate::object::Object;
use crate::quote::{decoded, program, quote_bytes};
use crate::save::bindings;
use crate::uapi::{HistoryLine, ReadHistory, VERSION};
use loggerfs_log::line::{Line, Mode, Op, Process};
use loggerfs_log::plan::{is_on_names, Disposition, OnExternal, PlanError, Store, Walk, WalkStep};
use loggerfs_log::types::{ObjectId, Pos, Time};

/// How much is asked for at once: a usual segment.
const ROOM: usize = 4 << 20;

/// The actor of an operation, as far as lines record one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actor {
    /// The process.
    pub process: Option<Process>,
    /// Its parent.
    pub ppid: Option<u32>,
    /// Its session.
    pub sid: Option<u32>,
    /// Its process group; `None`: the line is of a module that did not record groups.
    pub group: Option<Group>,
    /// Its ancestors, the parent first, on the first line of the process in a segment.
    pub ancestors: Vec<Process>,
    /// Its user.
    pub uid: Option<u32>,
    /// The number of its exec calls.
    pub exec: Option<u64>,
    /// The path of its executable, in the form of lines.
    pub command: Vec<u8>,
    /// Its short name.
    pub comm: Vec<u8>,
    /// Its arguments.
    pub args: Vec<Vec<u8>>,
}

/// A process group: in an interactive shell, one command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its number, which is that of its leader.
    pub pgid: u32,
    /// The leader; `None`: it had ended.
    pub leader: Option<Process>,
    /// The short name of the leader, if that is another process; or empty.
    pub comm: Vec<u8>,
}

impl Actor {
    /// The actor that a line itself records.
    fn of(line: &Line<'_>) -> Self {
        let args = line.args.map(decoded).unwrap_or_default();
        let args = args.strip_suffix(b"\0").unwrap_or(&args);
        let args: Vec<Vec<u8>> = match args {
            [] => Vec::new(),
            args => args.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect(),
        };
        Self {
            process: line.pid,
            ppid: line.ppid,
            sid: line.sid,
            group: line.pgid.map(|group| Group {
                pgid: group.pgid,
                leader: group.leader(line.pid),
                comm: line.pgcomm.map(decoded).unwrap_or_default(),
            }),
            ancestors: (line.ancestors.iter())
                .flat_map(|ancestors| ancestors.processes())
                .collect(),
            uid: line.uid,
            exec: line.exec,
            command: line.command.to_vec(),
            comm: line.comm.map(decoded).unwrap_or_default(),
            args,
        }
    }

    /// Whether the actor leads a session, as an interactive shell does.
    pub fn leads(&self) -> bool {
        let pid = self.process.map(|process| process.pid);
        pid.is_some() && pid == self.sid
    }

    /// Whether the line has all ancestors: none but the machine's first process, or a list of them.
    pub fn records_ancestors(&self) -> bool {
        let is_top = self.ppid.is_some_and(|ppid| ppid <= 1);
        self.group.is_some() && (is_top || !self.ancestors.is_empty())
    }

    /// Whether the actor leads its process group.
    pub fn leads_group(&self) -> bool {
        let leader = self.group.as_ref().and_then(|group| group.leader);
        leader.is_some() && leader == self.process
    }

    /// The name of its program; empty if not known.
    pub fn program(&self) -> String {
        match program(&self.command) {
            Some(program) => program,
            None => quote_bytes(&self.comm, false),
        }
    }
}

/// A line of the history.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The position in the log.
    pub at: Pos,
    /// Its number.
    pub seq: u64,
    /// The time of the line.
    pub time: Time,
    /// The operation.
    pub op: Op,
    /// The object of the operation.
    pub object: Option<ObjectId>,
    /// The number of the open file's first line.
    pub open: Option<u64>,
    /// The start of the range, with corrections applied.
    pub offset: u64,
    /// The length of the range, with corrections applied.
    pub length: u64,
    /// The actor.
    pub actor: Rc<Actor>,
    text: Box<[u8]>,
}

impl Entry {
    /// All fields of the line, without corrections.
    pub fn line(&self) -> Line<'_> {
        // `take_in()` has parsed the line.
        Line::parse(&self.text, None).expect("a line stays what it was")
    }

    /// The group of reverts that the entry belongs to, if the entry is a revert.
    pub fn group(&self) -> Option<u64> {
        match self.op {
            Op::Revert | Op::Redo => Some(self.line().group.unwrap_or(self.seq)),
            _ => None,
        }
    }

    /// Whether the entry is an undo or a redo, which an undo does not take back.
    pub fn is_walk(&self) -> bool {
        matches!(self.op, Op::Revert | Op::Redo) && self.line().mode != Some(Mode::Pick)
    }
}

/// The lines that were read, the newest first.
#[derive(Clone, Default)]
pub struct Timeline {
    /// The lines.
    pub entries: Vec<Entry>,
    /// Corrections whose lines come later.
    amended: HashMap<u64, (u64, u64)>,
    /// Numbers of lines that did not happen.
    cancelled: HashSet<u64>,
    /// Whether an object had no name when its handle was last recorded.
    unnamed: HashMap<ObjectId, bool>,
    /// Objects that have lines of their own here.
    objects: HashSet<ObjectId>,
    /// The segment to be read next; `None`: from the newest one on.
    next: Option<u64>,
    is_whole: bool,
    /// Whether older lines were dropped to free space.
    is_trimmed: bool,
    /// Whether lines of a directory's chain that are not the caller's are left out.
    pub is_partial: bool,
}

impl Timeline {
    /// Without lines so far; `me` is the user who is to be shown them, unless that is root.
    pub fn of_user(me: Option<u32>) -> Self {
        Self {
            is_partial: me.is_some(),
            ..Self::default()
        }
    }

    /// All that there is.
    pub fn whole(object: &mut dyn Object) -> Result<Self, Errno> {
        let mut timeline = Self::default();
        while timeline.extend(object)? {}
        Ok(timeline)
    }

    /// Whether there is nothing older.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// The oldest line, if older ones were dropped to free space.
    pub fn oldest_kept(&self) -> Option<&Entry> {
        self.entries.last().filter(|_| self.is_trimmed)
    }

    /// Reads the next older segment. False: there is none.
    pub fn extend(&mut self, object: &mut dyn Object) -> Result<bool, Errno> {
        if self.is_whole {
            return Ok(false);
        }
        let first = self.next.unwrap_or(0);
        let mut request = ReadHistory {
            version: VERSION,
            segment: first,
            ..ReadHistory::default()
        };
        let mut lines = Vec::new();
        match fetch(object, &mut request, &mut lines) {
            Err(Errno::NODATA) if first != 0 => (self.is_whole, self.is_trimmed) = (true, true),
            fetched => fetched?,
        }
        if request.previous >= request.segment && !self.is_whole {
            return Err(Errno::PROTO);
        }
        self.take_in(request.segment, lines);
        self.next = Some(request.previous);
        self.is_whole |= request.previous == 0;
        self.is_trimmed |= request.previous == 0 && request.segment > 1;
        Ok(true)
    }

    /// Takes the lines of the next older segment in, each with its offset, the oldest first.
    pub fn take_in(&mut self, segment: u64, lines: Vec<(u64, Box<[u8]>)>) {
        let mut actors: HashMap<u64, Rc<Actor>> = HashMap::new();
        let mut unnamed: HashMap<ObjectId, bool> = HashMap::new();
        let mut entries: Vec<Entry> = Vec::with_capacity(lines.len());
        for (offset, text) in lines {
            // A line of a newer module is not interpreted; the chain of its object ends there.
            let Ok(line) = Line::parse(&text, None) else {
                continue;
            };
            if let (Some(object), Some(_)) = (line.obj, line.fh) {
                unnamed.insert(object, line.unnamed);
            }
            let opener = line.open.unwrap_or(line.seq);
            let told = (line.open.is_some() && line.pid.is_none())
                .then(|| actors.get(&opener).cloned())
                .flatten();
            let actor = told.unwrap_or_else(|| Rc::new(Actor::of(&line)));
            if line.open.is_some() {
                actors.insert(opener, actor.clone());
            }
            let entry = Entry {
                at: Pos { segment, offset },
                seq: line.seq,
                time: line.time,
                op: line.op,
                object: line.obj,
                open: line.open,
                offset: line.offset,
                length: line.length,
                actor,
                text: Box::default(),
            };
            entries.push(Entry { text, ..entry });
        }
        for (object, is_unnamed) in unnamed {
            self.unnamed.entry(object).or_insert(is_unnamed);
        }
        for mut entry in entries.into_iter().rev() {
            self.objects.extend(entry.object);
            self.correct(&mut entry);
            self.entries.push(entry);
        }
    }

    /// Applies corrections of newer lines to an entry, or records the correction that the entry
    /// makes.
    fn correct(&mut self, entry: &mut Entry) {
        if let Some((offset, length)) = self.amended.remove(&entry.seq) {
            (entry.offset, entry.length) = (offset, length);
        }
        if let (Op::Amend | Op::Cancel, Some(of)) = (entry.op, entry.line().of) {
            if entry.op == Op::Cancel {
                self.cancelled.insert(of);
            } else {
                let range = (entry.offset, entry.length);
                self.amended.entry(of).or_insert(range);
            }
        }
    }

    /// Whether a line did not happen.
    pub fn is_cancelled(&self, entry: &Entry) -> bool {
        self.cancelled.contains(&entry.seq)
    }

    /// Whether an operation concerns the user `me`, who may not read all lines: that user did the operation,
    /// or owns its object. Operations of others on other names of a directory do not, also in a directory
    /// that the user owns. Without `me` every operation does.
    pub fn concerns(&self, entry: &Entry, me: Option<u32>) -> bool {
        let line = entry.line();
        if me.is_none() || entry.actor.uid == me || !is_on_names(&line) {
            return true;
        }
        // Of an object that has lines here the caller is the owner.
        let mut objects = [line.node, line.over].into_iter().flatten();
        objects.any(|object| self.objects.contains(&object))
    }

    /// Whether an operation is on an object that has never had a name, as far as lines record.
    pub fn is_unnamed(&self, entry: &Entry) -> bool {
        let told = entry.object.and_then(|object| self.unnamed.get(&object));
        told.is_some_and(|is_unnamed| *is_unnamed)
    }

    /// The live operations, the newest first, as indices; also those that `goes` selects to be taken back,
    /// after which the operations that they reverted are live again.
    pub fn live(&self, goes: &dyn Fn(usize) -> bool) -> Vec<usize> {
        self.live_from(0, goes)
    }

    /// Those that stood right before the line with this number.
    pub fn live_before(&self, seq: u64) -> Vec<usize> {
        let from = self.entries.partition_point(|entry| entry.seq >= seq);
        self.live_from(from, &|_| false)
    }

    fn live_from(&self, from: usize, goes: &dyn Fn(usize) -> bool) -> Vec<usize> {
        let mut found = LiveEntries {
            goes,
            live: Vec::new(),
        };
        self.walk(from..self.entries.len(), &mut found);
        found.live
    }

    /// Walks along the chains of the entries with these indices, which ascend.
    pub fn walk(&self, indices: impl IntoIterator<Item = usize>, visitor: &mut dyn Visitor) {
        let mut chains: HashMap<ObjectId, (Walk, RevertedRanges)> = HashMap::new();
        for index in indices {
            let entry = &self.entries[index];
            let Some(object) = entry.object else {
                continue;
            };
            let (walk, reverted) = chains.entry(object).or_insert_with(|| {
                let walk = Walk::new(object, Some(entry.at), OnExternal::Pass);
                (walk, RevertedRanges(Vec::new()))
            });
            if self.is_partial {
                walk.pass_to(entry.at);
            }
            if walk.next() != Some(entry.at) {
                // Jumped over by an undo.
                continue;
            }
            let step = walk.step(&mut entry.line(), reverted, visitor.disposition(index));
            visitor.found(index, step);
        }
    }

    /// The ranges of numbers that a revert took back, of all lines that list them; `None`: its line
    /// says where the walk goes on instead.
    pub fn targets(&self, revert: &Entry) -> Option<Vec<(u64, u64)>> {
        let mut line = revert.line();
        let mut ranges: Vec<_> = line.targets?.ranges().collect();
        while line.further.is_some() {
            // Older lines were dropped to free space.
            let Some(before) = line.prev.and_then(|at| self.at(at)) else {
                break;
            };
            line = before.line();
            ranges.extend(line.targets.iter().flat_map(|targets| targets.ranges()));
        }
        Some(ranges)
    }

    /// The names that an entry's operation binds (true) or frees.
    pub fn bindings(&self, index: usize) -> impl Iterator<Item = ((ObjectId, &[u8]), bool)> {
        let line = self.entries[index].line();
        bindings(&line).collect::<Vec<_>>().into_iter()
    }

    /// The operations that a revert itself took back, the newest first.
    pub fn reverted_operations(&self, revert: usize) -> Vec<usize> {
        let revert = &self.entries[revert];
        let line = revert.line();
        if let Some(ranges) = self.targets(revert) {
            let lowest = ranges
                .iter()
                .map(|(first, _)| *first)
                .min()
                .unwrap_or(u64::MAX);
            let end = self.entries.partition_point(|entry| entry.seq >= lowest);
            let is_picked = |index: &usize| {
                let entry = &self.entries[*index];
                let within = |(first, last): &(u64, u64)| (*first..=*last).contains(&entry.seq);
                entry.object == line.obj && !entry.op.is_bookkeeping() && ranges.iter().any(within)
            };
            return (0..end).filter(is_picked).collect();
        }
        let of_names = is_on_names(&line);
        let is_taken = |index: &usize| {
            let entry = &self.entries[*index];
            entry.object == line.obj
                && is_on_names(&entry.line()) == of_names
                && line.back.is_none_or(|back| entry.at > back)
        };
        let count = usize::try_from(line.count.unwrap_or(0)).unwrap_or(usize::MAX);
        let end = self
            .entries
            .partition_point(|entry| entry.seq >= revert.seq);
        let own = (end..self.entries.len()).filter(|i| self.entries[*i].object == line.obj);
        let mut before = LiveEntries {
            goes: &|_| false,
            live: Vec::new(),
        };
        self.walk(own, &mut before);
        before
            .live
            .into_iter()
            .filter(is_taken)
            .take(count)
            .collect()
    }

    /// The line at a position.
    fn at(&self, at: Pos) -> Option<&Entry> {
        // Places fall from the newest line on.
        let index = self.entries.partition_point(|entry| entry.at > at);
        self.entries.get(index).filter(|entry| entry.at == at)
    }

    /// The number of the last line that was written at a time, or before; 0: there is none. The clock may
    /// have been set back in between: then the time that was last.
    pub fn last_at(&self, time: Time) -> u64 {
        let mut entries = self.entries.iter();
        let last = entries.find(|entry| nanoseconds(entry.time) <= nanoseconds(time));
        last.map_or(0, |entry| entry.seq)
    }

    /// The number of the last line that was written before a time; 0: there is none.
    pub fn last_before(&self, time: Time) -> u64 {
        let mut entries = self.entries.iter();
        let last = entries.find(|entry| nanoseconds(entry.time) < nanoseconds(time));
        last.map_or(0, |entry| entry.seq)
    }

    /// Whether an operation gave or took this name, in the form of lines, anywhere.
    pub fn has_name(&self, name: &[u8]) -> bool {
        self.entries.iter().any(|entry| {
            let line = entry.line();
            line.name == Some(name) || line.to == Some(name)
        })
    }

    /// The index of the line with a number.
    pub fn find(&self, seq: u64) -> Option<usize> {
        // Numbers fall from the newest line on.
        let index = self.entries.partition_point(|entry| entry.seq > seq);
        let entry = self.entries.get(index)?;
        (entry.seq == seq).then_some(index)
    }
}

/// Receives the entries of a walk.
pub trait Visitor {
    /// The disposition of a live entry.
    fn disposition(&mut self, index: usize) -> Disposition;

    /// The meaning of an entry in the walk.
    fn found(&mut self, index: usize, step: WalkStep);
}

/// Collects live entries.
struct LiveEntries<'g> {
    goes: &'g dyn Fn(usize) -> bool,
    live: Vec<usize>,
}

impl Visitor for LiveEntries<'_> {
    fn disposition(&mut self, index: usize) -> Disposition {
        match (self.goes)(index) {
            true => Disposition::Revert,
            false => Disposition::Keep,
        }
    }

    fn found(&mut self, index: usize, step: WalkStep) {
        if step == WalkStep::Live {
            self.live.push(index);
        }
    }
}

/// Ranges of numbers that reverts have reverted.
struct RevertedRanges(Vec<(u64, u64)>);

impl Store<(u64, u64)> for RevertedRanges {
    fn push(&mut self, item: (u64, u64)) -> Result<(), PlanError> {
        self.0.push(item);
        Ok(())
    }

    fn items(&mut self) -> &mut [(u64, u64)] {
        &mut self.0
    }
}

/// Reads a segment to its end, from the request's offset on: lines with their offsets.
pub fn fetch(
    object: &mut dyn Object,
    request: &mut ReadHistory,
    lines: &mut Vec<(u64, Box<[u8]>)>,
) -> Result<(), Errno> {
    let mut buffer = vec![0; ROOM];
    loop {
        let from = request.offset;
        object.read_history(request, &mut buffer)?;
        let used = usize::try_from(request.used).unwrap_or(usize::MAX);
        unpack(buffer.get(..used).ok_or(Errno::PROTO)?, lines)?;
        if request.offset == ReadHistory::END {
            return Ok(());
        }
        // An answer that leads nowhere would be asked for again and again.
        if request.offset <= from {
            return Err(Errno::PROTO);
        }
    }
}

/// Takes an answer apart: lines with their offsets.
fn unpack(mut bytes: &[u8], lines: &mut Vec<(u64, Box<[u8]>)>) -> Result<(), Errno> {
    const HEAD: usize = size_of::<HistoryLine>();
    while let Some((head, rest)) = bytes.split_at_checked(HEAD) {
        let (offset, more) = head.split_at(8);
        let offset = u64::from_le_bytes(offset.try_into().map_err(|_| Errno::PROTO)?);
        let length = u32::from_le_bytes(more[..4].try_into().map_err(|_| Errno::PROTO)?);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let line = rest.get(..length).ok_or(Errno::PROTO)?;
        lines.push((offset, line.into()));
        let padded = length.next_multiple_of(8).min(rest.len());
        bytes = &rest[padded..];
    }
    if bytes.is_empty() {
        Ok(())
    } else {
        Err(Errno::PROTO)
    }
}
