// SPDX-License-Identifier: MIT OR Apache-2.0

//! The lines of a whole mount, from the newest on: the actor of each, and which of them are live.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use rustix::io::Errno;

use crate::actions::nanoseconds;
pub use crate::entry::{Actor, Entry, Group};
use crate::fetch::{fetch, take_apart};
use crate::object::Object;
use crate::save::bindings;
use crate::uapi::{ReadHistory, VERSION};
use loggerfs_log::line::{Line, Op};
use loggerfs_log::plan::{is_on_names, Disposition, OnExternal, PlanError, Store, Walk, WalkStep};
use loggerfs_log::types::{ObjectId, Pos, Time};

/// How much of the log is asked for at once, at most: a usual segment.
const MOST: usize = 4 << 20;

/// How much of it is asked for first: more than a screen of actions.
const LEAST: usize = 32 << 10;

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
    /// The segment to be read next, and the offset where its part ends that was not read; 0: none of it was.
    /// `None`: from the newest segment on.
    next: Option<(u64, u64)>,
    /// How many bytes were read.
    read: usize,
    /// Whether all is read in any case: it is asked for in large parts.
    is_eager: bool,
    /// Lines of the segment that is being read whose actor is on an older line of their open file: the index,
    /// and the number of that file's first line.
    unattributed: Vec<(usize, u64)>,
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
        let mut timeline = Self {
            is_eager: true,
            ..Self::default()
        };
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

    /// Reads about as much again as was read so far.
    pub fn extend_further(&mut self, object: &mut dyn Object) -> Result<(), Errno> {
        let goal = self.read.saturating_mul(2);
        while self.extend(object)? && self.read < goal {}
        Ok(())
    }

    /// Reads the next older lines: of the newest segment about a screen first, then more at once, at most a
    /// segment. False: there are none.
    pub fn extend(&mut self, object: &mut dyn Object) -> Result<bool, Errno> {
        if self.is_whole {
            return Ok(false);
        }
        let (segment, end) = self.next.unwrap_or((0, 0));
        let mut request = ReadHistory {
            version: VERSION,
            flags: ReadHistory::BACKWARD,
            segment,
            offset: end,
            ..ReadHistory::default()
        };
        let mut lines = Vec::new();
        match self.fetch_older(object, &mut request, &mut lines) {
            Err(Errno::NODATA) if segment != 0 => (self.is_whole, self.is_trimmed) = (true, true),
            fetched => fetched?,
        }
        if request.previous >= request.segment && !self.is_whole {
            return Err(Errno::PROTO);
        }
        self.take_in(request.segment, lines);
        if request.offset != 0 {
            self.next = Some((request.segment, request.offset));
            return Ok(true);
        }
        self.unattributed.clear();
        self.next = Some((request.previous, 0));
        self.is_whole |= request.previous == 0;
        self.is_trimmed |= request.previous == 0 && request.segment > 1;
        Ok(true)
    }

    /// Fetches the lines before the request's offset. The kernel decides which ones a user may read by all older
    /// lines of the segment, so it is asked for a user's lines as few times as possible.
    fn fetch_older(
        &mut self,
        object: &mut dyn Object,
        request: &mut ReadHistory,
        lines: &mut Vec<(u64, Box<[u8]>)>,
    ) -> Result<(), Errno> {
        let wanted = match self.is_eager || self.is_partial {
            true => MOST,
            false => self.read.clamp(LEAST, MOST),
        };
        let mut buffer = vec![0; 2 * wanted];
        let (segment, end) = (request.segment, request.offset);
        match object.read_history(request, &mut buffer) {
            // An older module reads whole segments only.
            Err(Errno::INVAL) if end == 0 => {
                request.flags = 0;
                fetch(object, request, &mut buffer, lines)?;
                request.offset = 0;
            }
            answer => {
                answer?;
                take_apart(request, &buffer, lines)?;
                // An answer that leads nowhere would be asked for again and again.
                let is_stuck = end != 0 && (request.offset >= end || request.segment != segment);
                if is_stuck || request.offset == ReadHistory::END {
                    return Err(Errno::PROTO);
                }
            }
        }
        let read: usize = lines.iter().map(|(_, text)| text.len()).sum();
        self.read = self.read.saturating_add(read.max(1));
        Ok(())
    }

    /// Takes older lines of a segment in, each with its offset, the oldest first.
    pub fn take_in(&mut self, segment: u64, lines: Vec<(u64, Box<[u8]>)>) {
        let mut actors: HashMap<u64, Rc<Actor>> = HashMap::new();
        let mut strangers: HashMap<u64, Rc<Actor>> = HashMap::new();
        let mut known = KnownActors::default();
        let mut unnamed: HashMap<ObjectId, bool> = HashMap::new();
        let mut entries: Vec<Option<(Entry, bool)>> = Vec::with_capacity(lines.len());
        for (offset, text) in &lines {
            // A line of a newer module is not interpreted; the chain of its object ends there.
            let Ok(line) = Line::parse(text, None) else {
                entries.push(None);
                continue;
            };
            if let (Some(object), Some(_)) = (line.obj, line.fh) {
                unnamed.insert(object, line.unnamed);
            }
            let opener = line.open.unwrap_or(line.seq);
            let inherits = line.open.is_some() && line.pid.is_none();
            let told = actors.get(&opener).filter(|_| inherits).cloned();
            let is_attributed = told.is_some() || !inherits;
            let actor = match told {
                Some(actor) => actor,
                None if inherits => (strangers.entry(opener))
                    .or_insert_with(|| known.of(&line))
                    .clone(),
                None => known.of(&line),
            };
            if line.open.is_some() && is_attributed {
                actors.insert(opener, actor.clone());
            }
            let at = Pos {
                segment,
                offset: *offset,
            };
            let entry = Entry::of(&line, at, text, actor);
            entries.push(Some((entry, is_attributed)));
        }
        drop(known);
        self.attribute(&actors);
        for (object, is_unnamed) in unnamed {
            self.unnamed.entry(object).or_insert(is_unnamed);
        }
        for (entry, (_, text)) in entries.into_iter().zip(lines).rev() {
            let Some((mut entry, is_attributed)) = entry else {
                continue;
            };
            entry.keep(text);
            self.objects.extend(entry.object);
            if let Some(opener) = entry.open.filter(|_| !is_attributed) {
                self.unattributed.push((self.entries.len(), opener));
            }
            self.correct(&mut entry);
            self.entries.push(entry);
        }
    }

    /// Gives newer lines of open files the actors that older lines of the same segment record.
    fn attribute(&mut self, actors: &HashMap<u64, Rc<Actor>>) {
        let entries = &mut self.entries;
        self.unattributed.retain(|(index, opener)| {
            let actor = actors.get(opener);
            if let Some(actor) = actor {
                entries[*index].actor = actor.clone();
            }
            actor.is_none()
        });
    }

    /// Whether the actor of a line between two times, in nanoseconds, is on a line that was not read.
    pub fn has_unattributed(&self, from: i128, to: i128) -> bool {
        let times = self.unattributed.iter();
        let mut times = times.map(|(index, _)| nanoseconds(self.entries[*index].time));
        times.any(|time| (from..=to).contains(&time))
    }

    /// Applies corrections of newer lines to an entry, or records the correction that the entry
    /// makes.
    fn correct(&mut self, entry: &mut Entry) {
        if let Some((offset, length)) = self.amended.remove(&entry.seq) {
            (entry.offset, entry.length) = (offset, length);
        }
        if !matches!(entry.op, Op::Amend | Op::Cancel) {
            return;
        }
        if let Some(of) = entry.line().of {
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
        let line = entry.brief();
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
        self.live_of(from..self.entries.len(), goes)
    }

    /// As [`Self::live`], of the entries with these indices, which ascend.
    pub fn live_of(
        &self,
        indices: impl IntoIterator<Item = usize>,
        goes: &dyn Fn(usize) -> bool,
    ) -> Vec<usize> {
        let mut found = LiveEntries {
            goes,
            live: Vec::new(),
        };
        self.walk(indices, &mut found);
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
            let step = walk.step(&mut entry.brief(), reverted, visitor.disposition(index));
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
        let line = self.entries[index].brief();
        bindings(&line).collect::<Vec<_>>().into_iter()
    }

    /// The operations that a revert itself took back, the newest first.
    pub fn reverted_operations(&self, revert: usize) -> Vec<usize> {
        self.listed_operations(revert).unwrap_or_else(|| {
            let own = self.older_of_object(revert);
            self.walked_operations(revert, &own)
        })
    }

    /// The older lines of an entry's object that were read, the newest first.
    fn older_of_object(&self, index: usize) -> Vec<usize> {
        let entry = &self.entries[index];
        if self.is_partial {
            // The user may not read some lines of the chain.
            let older = index + 1..self.entries.len();
            let is_own = |older: &usize| self.entries[*older].object == entry.object;
            return older.filter(is_own).collect();
        }
        let mut own = Vec::new();
        let (mut at, mut next) = (entry.at, entry.previous());
        // Positions fall along a chain, unless the history is forged.
        while let Some(previous) = next.filter(|previous| *previous < at) {
            let index = self.entries.partition_point(|entry| entry.at > previous);
            let Some(older) = self.entries.get(index).filter(|found| found.at == previous) else {
                break;
            };
            own.push(index);
            (at, next) = (previous, older.previous());
        }
        own
    }

    /// Those that lines of the revert list; `None`: they list none, but the end of a walk.
    pub fn listed_operations(&self, revert: usize) -> Option<Vec<usize>> {
        let revert = &self.entries[revert];
        let mut found = Vec::new();
        for (first, last) in self.targets(revert)? {
            let newest = self.entries.partition_point(|entry| entry.seq > last);
            let end = self.entries.partition_point(|entry| entry.seq >= first);
            found.extend((newest..end).filter(|index| {
                let entry = &self.entries[*index];
                entry.object == revert.object && !entry.op.is_bookkeeping()
            }));
        }
        found.sort_unstable();
        found.dedup();
        Some(found)
    }

    /// Those that a revert without a list took back, of the older lines of its object, the newest first.
    pub fn walked_operations(&self, revert: usize, own: &[usize]) -> Vec<usize> {
        let line = self.entries[revert].line();
        let of_names = is_on_names(&line);
        let is_taken = |index: &usize| {
            let entry = &self.entries[*index];
            is_on_names(&entry.brief()) == of_names && line.back.is_none_or(|back| entry.at > back)
        };
        let count = usize::try_from(line.count.unwrap_or(0)).unwrap_or(usize::MAX);
        let mut before = LiveEntries {
            goes: &|_| false,
            live: Vec::new(),
        };
        self.walk(own.iter().copied(), &mut before);
        before
            .live
            .into_iter()
            .filter(is_taken)
            .take(count)
            .collect()
    }

    /// Whether all that a revert itself took back was read, as far as it was not dropped.
    pub fn has_targets(&self, revert: usize) -> bool {
        let Some(end) = self.entries.last().filter(|_| !self.is_whole) else {
            return true;
        };
        let revert = &self.entries[revert];
        match self.targets(revert) {
            Some(ranges) => ranges.iter().all(|(first, _)| *first >= end.seq),
            None => (revert.line().back).is_some_and(|back| back >= end.at),
        }
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
            let line = entry.brief();
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

/// The actors of a segment's lines: those of one process are mostly alike.
#[derive(Default)]
struct KnownActors<'l>(HashMap<u32, (Line<'l>, Rc<Actor>)>);

impl<'l> KnownActors<'l> {
    /// The actor that a line itself records.
    fn of(&mut self, line: &Line<'l>) -> Rc<Actor> {
        let pid = line.pid.map(|process| process.pid);
        if let Some((like, actor)) = pid.and_then(|pid| self.0.get(&pid)) {
            if has_same_actor(like, line) {
                return actor.clone();
            }
        }
        let actor = Rc::new(Actor::of(line));
        // Only the first line of a process has its ancestors.
        if let Some(pid) = pid.filter(|_| line.ancestors.is_none()) {
            self.0.insert(pid, (*line, actor.clone()));
        }
        actor
    }
}

/// Whether two lines record the same actor.
fn has_same_actor(one: &Line<'_>, other: &Line<'_>) -> bool {
    let numbers = |line: &Line<'_>| {
        (
            line.pid, line.ppid, line.sid, line.pgid, line.uid, line.exec,
        )
    };
    let is_alone = one.ancestors.is_none() && other.ancestors.is_none();
    is_alone
        && numbers(one) == numbers(other)
        && (one.command, one.comm, one.pgcomm) == (other.command, other.comm, other.pgcomm)
        && one.args == other.args
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
