// SPDX-License-Identifier: MIT OR Apache-2.0

//! A mount in memory with a simulated history.

#![allow(dead_code)]

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use logctl::arguments::normalize;
use logctl::cli::parse;
use logctl::commands::context::Context;
use logctl::commands::{conclude, execute_on_mount, off_mount};
use logctl::describe::Users;
use logctl::object::Object;
use logctl::output::Output;
use logctl::paths::{PathState, Tree};
use logctl::session::Session;
use logctl::system::System;
use logctl::timeline::Timeline;
use logctl::uapi::{
    Conflict, Operation, PlaceMark, ReadHistory, ReadLog, ReadPast, Reason, Revert, RevertGroup,
    Status,
};
use loggerfs_log::line::{encode_percent, Line};
use loggerfs_log::plan::{Access, Kind, Record};
use loggerfs_log::types::ObjectId;
use rustix::io::Errno;

/// The second that histories begin at.
pub const BEGINNING: i64 = 1_763_639_000;

/// A history of lines in segments, and the replies of a kernel.
#[derive(Default)]
pub struct Kernel {
    /// The lines of each segment, with their offsets, oldest first.
    pub segments: Vec<Vec<(u64, String)>>,
    /// Each object's newest line.
    last: HashMap<String, String>,
    /// The position of each line.
    places: BTreeMap<u64, (u64, u64)>,
    /// The newest number.
    pub seq: u64,
    /// The milliseconds of the next lines' times.
    pub milliseconds: u32,
    /// Operations that cannot be taken back: the conflict, and the reason.
    pub conflicts: HashMap<u64, (u64, Reason)>,
    /// Objects that are gone and never had a name.
    pub gone: HashSet<String>,
    /// The requests: flags and numbers.
    pub asked: Vec<(u32, Vec<u64>)>,
    /// How many bytes of lines an answer holds at most.
    pub room: usize,
    /// How many lines were read of the history.
    pub read: usize,
    /// The contents of each inode, each with the number of the operation that made it, the oldest first.
    pub contents: HashMap<u64, Vec<(u64, Vec<u8>)>>,
    /// Segments up to this one were dropped.
    pub dropped: u64,
    /// Whether the oldest one that is left names one before it.
    pub names_dropped: bool,
    /// The state of the mount, if it can be read.
    pub status: Option<Status>,
    /// The error of a request for the state, other than EPERM.
    pub status_error: Option<Errno>,
    /// Whether logctl runs in a PID namespace of its own.
    pub is_contained: bool,
    /// The session of the caller.
    pub session: Option<Session>,
}

impl Kernel {
    pub fn new() -> Self {
        Self {
            segments: vec![Vec::new()],
            room: usize::MAX,
            ..Self::default()
        }
    }

    /// Begins another segment.
    pub fn next_segment(&mut self) {
        self.segments.push(Vec::new());
    }

    /// Adds a line at a second: `COMMAND OP OFFSET LENGTH`, and keys. Returns its number.
    pub fn line(&mut self, second: i64, object: &str, head: &str, keys: &str) -> u64 {
        self.seq += 1;
        let seq = self.seq;
        let segment = self.segments.len() as u64;
        let lines = self.segments.last_mut().unwrap();
        let offset = lines
            .last()
            .map_or(0, |(offset, text)| offset + text.len() as u64);
        let prev = self.last.get(object).map(|at| format!(" prev={at}"));
        let prev = prev.unwrap_or_default();
        let time = BEGINNING + second;
        let mut keys = keys.replace("open=.", &format!("open={seq}"));
        if !keys.is_empty() {
            keys.insert(0, ' ');
        }
        let fraction = self.milliseconds;
        let text = format!(
            "{time}.{fraction:03}000000 {head} seq={seq} obj={object}{prev}{keys} sum=00000000\n"
        );
        Line::parse(text.as_bytes(), None).unwrap_or_else(|e| panic!("{e:?}: {text}"));
        lines.push((offset, text));
        self.last
            .insert(object.to_owned(), format!("{segment}:{offset}"));
        self.places.insert(seq, (segment, offset));
        seq
    }

    /// Adds the line of a mark at a second, with its keys. Returns its number.
    pub fn mark(&mut self, second: i64, keys: &str) -> u64 {
        self.seq += 1;
        let seq = self.seq;
        let segment = self.segments.len() as u64;
        let lines = self.segments.last_mut().unwrap();
        let offset = lines
            .last()
            .map_or(0, |(offset, text)| offset + text.len() as u64);
        let time = BEGINNING + second;
        let text =
            format!("{time}.000000000 /usr/bin/logctl mark 0 0 seq={seq} {keys} sum=00000000\n");
        Line::parse(text.as_bytes(), None).unwrap_or_else(|e| panic!("{e:?}: {text}"));
        lines.push((offset, text));
        self.places.insert(seq, (segment, offset));
        seq
    }

    fn text(&self, seq: u64) -> String {
        let (segment, offset) = self.places[&seq];
        let lines = &self.segments[segment as usize - 1];
        lines
            .iter()
            .find(|(at, _)| *at == offset)
            .unwrap()
            .1
            .clone()
    }

    /// The value of a line's key.
    pub fn key(&self, seq: u64, key: &str) -> Option<String> {
        let text = self.text(seq);
        let mut words = text.split(' ');
        words.find_map(|word| word.strip_prefix(&format!("{key}=")).map(str::to_owned))
    }

    /// Writes the lines that taking operations of one object back leaves.
    fn take_back(&mut self, object: &str, seqs: &[u64], flags: u32, group: Option<u64>) -> u64 {
        let (newest, oldest) = (seqs[0], seqs[seqs.len() - 1]);
        let mut keys = format!("of={newest} count={} undo=none", seqs.len());
        if let Some(back) = self.key(oldest, "prev") {
            keys += &format!(" back={back}");
        }
        let mode = if flags & (RevertGroup::WALK | RevertGroup::REDO) != 0 {
            "walk"
        } else {
            "pick"
        };
        keys += &format!(" mode={mode} pid=9@9.0 uid=0");
        keys += &format!(" picks={}", ranges(seqs).join(","));
        let op = match flags & RevertGroup::REDO {
            0 => "revert",
            _ => "redo",
        };
        if let Some(group) = group {
            keys += &format!(" group={group}");
        }
        let head = format!("/usr/bin/logctl {op} 0 0");
        let seq = self.line(3000, object, &head, &keys);
        self.line(3000, object, "- commit 0 0", &format!("of={seq}"));
        seq
    }
}

/// Text as a line has it.
fn encoded_text(text: &[u8]) -> String {
    let mut out = [0; 1024];
    let len = encode_percent(text, &mut out).unwrap();
    String::from_utf8(out[..len].to_vec()).unwrap()
}

/// Numbers, descending, as ranges, ascending; only direct neighbours are joined.
fn ranges(seqs: &[u64]) -> Vec<String> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for seq in seqs.iter().rev() {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *seq => *last = *seq,
            _ => ranges.push((*seq, *seq)),
        }
    }
    let text = |(first, last): (u64, u64)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    ranges.into_iter().map(text).collect()
}

impl Object for Kernel {
    fn place_mark(
        &mut self,
        request: &mut PlaceMark,
        name: &[u8],
        message: &[u8],
    ) -> Result<(), Errno> {
        request.name_length = name.len() as u32;
        request.message_length = message.len() as u32;
        assert!(request.is_valid());
        let mut keys = format!(
            "pid=9@9.0 ppid=8 pgid=9 sid=8 uid=0 comm=logctl exec=1 args=logctl%00mark name={} parent=1.0",
            encoded_text(name)
        );
        if !message.is_empty() {
            keys += &format!(" message={}", encoded_text(message));
        }
        if request.flags & PlaceMark::RUN != 0 {
            keys += " run=1";
        }
        request.seq = self.mark(3000, &keys);
        Ok(())
    }

    fn revert(&mut self, _: &mut Revert) -> Result<(), Errno> {
        panic!("a group is asked for")
    }

    fn read_log(&mut self, _: &mut ReadLog, _: &mut [u8]) -> Result<(), Errno> {
        panic!("the whole history is asked for")
    }

    fn status(&mut self, request: &mut Status) -> Result<(), Errno> {
        *request = self
            .status
            .ok_or(self.status_error.unwrap_or(Errno::PERM))?;
        Ok(())
    }

    fn read_history(&mut self, request: &mut ReadHistory, buffer: &mut [u8]) -> Result<(), Errno> {
        request.length = buffer.len() as u32;
        assert!(request.is_valid());
        if request.segment == 0 {
            request.segment = self.segments.len() as u64;
        }
        if request.segment <= self.dropped {
            return Err(Errno::NODATA);
        }
        let lines = &self.segments[request.segment as usize - 1];
        let mut filled = Vec::new();
        let mut from = request.offset;
        request.offset = ReadHistory::END;
        let mut end = u64::MAX;
        if request.flags & ReadHistory::BACKWARD != 0 {
            end = if from == 0 { u64::MAX } else { from };
            let most = self.room.min(buffer.len() / 2);
            (from, request.offset) = (0, 0);
            let mut length = 0;
            for (offset, text) in lines.iter().rev().filter(|(offset, _)| *offset < end) {
                (from, length) = (*offset, length + text.len());
                if length >= most {
                    request.offset = *offset;
                    break;
                }
            }
        }
        let asked = |(offset, _): &&(u64, String)| (from..end).contains(offset);
        self.read += lines.iter().filter(asked).count();
        for (offset, text) in lines.iter().filter(asked) {
            if end == u64::MAX && request.flags == 0 && filled.len() >= self.room {
                request.offset = *offset;
                break;
            }
            filled.extend(offset.to_le_bytes());
            filled.extend((text.len() as u64).to_le_bytes());
            filled.extend(text.as_bytes());
            filled.resize(filled.len().next_multiple_of(8), 0);
        }
        buffer[..filled.len()].copy_from_slice(&filled);
        request.used = filled.len() as u32;
        request.previous = request.segment - 1;
        if request.previous <= self.dropped && !self.names_dropped {
            request.previous = 0;
        }
        Ok(())
    }

    fn revert_group(
        &mut self,
        request: &mut RevertGroup,
        operations: &[Operation],
        conflicts: &mut [Conflict],
    ) -> Result<(), Errno> {
        request.count = operations.len() as u64;
        assert!(request.is_valid());
        let seqs: Vec<u64> = operations.iter().map(|operation| operation.seq).collect();
        assert!(seqs.windows(2).all(|pair| pair[0] > pair[1]), "{seqs:?}");
        for operation in operations {
            let place = (operation.segment, operation.offset);
            assert_eq!(self.places.get(&operation.seq), Some(&place));
        }
        self.asked.push((request.flags, seqs.clone()));
        let found = seqs.iter().filter_map(|seq| {
            let (blocker, reason) = self.conflicts.get(seq)?;
            let (seq, blocker, reason) = (*seq, *blocker, reason.code());
            Some(Conflict {
                seq,
                blocker,
                reason,
                reserved: 0,
            })
        });
        let found: Vec<Conflict> = found.collect();
        if let Some(first) = found.first() {
            request.found = found.len() as u32;
            (request.reason, request.blocking_seq) = (first.reason, first.blocker);
            let room = conflicts.len().min(found.len());
            conflicts[..room].copy_from_slice(&found[..room]);
            return Err(Errno::BUSY);
        }
        let mut of_objects: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for seq in &seqs {
            let object = self.key(*seq, "obj").unwrap();
            if self.gone.contains(&object) {
                request.left_out += 1;
                continue;
            }
            request.reverted += 1;
            of_objects.entry(object).or_default().push(*seq);
        }
        request.objects = of_objects.len() as u64;
        if request.flags & RevertGroup::DRY_RUN != 0 {
            return Ok(());
        }
        for (object, seqs) in of_objects {
            let group = Some(request.seq).filter(|seq| *seq != 0);
            let seq = self.take_back(&object, &seqs, request.flags, group);
            if request.seq == 0 {
                request.seq = seq;
            }
        }
        Ok(())
    }

    fn read_past(
        &mut self,
        request: &mut ReadPast,
        output: Option<BorrowedFd<'_>>,
        attributes: &mut [u8],
    ) -> Result<(), Errno> {
        assert!(request.is_valid());
        let then = self.contents.get(&request.inode);
        let then = then.and_then(|all| all.iter().rev().find(|(seq, _)| *seq <= request.seq));
        let Some((newest, content)) = then else {
            request.reason = Reason::Trimmed.code();
            return Err(Errno::NODATA);
        };
        request.newest = *newest;
        request.kind = 0o100_000;
        request.size = content.len() as u64;
        let access = Access {
            mode: 0o640,
            ..Access::default()
        };
        let value = access.encode();
        let record = Record {
            kind: Kind::Access,
            name: b"",
            value: Some(&value),
        };
        let bytes = [&record.head().unwrap()[..], &value].concat();
        request.used = bytes.len() as u32;
        attributes[..bytes.len()].copy_from_slice(&bytes);
        if let Some(output) = output {
            rustix::io::pwrite(output, content, 0)?;
            request.written = request.size;
        }
        Ok(())
    }
}

impl Kernel {
    /// The content of a file right after an operation.
    pub fn holds(&mut self, inode: u64, seq: u64, text: &[u8]) {
        let contents = self.contents.entry(inode).or_default();
        contents.push((seq, text.to_vec()));
    }
}

/// The files of a mount at `/m`, whose root is inode 1.
#[derive(Default)]
pub struct Files {
    pub objects: BTreeMap<PathBuf, ObjectId>,
    /// The inode numbers that were searched for.
    pub wanted: RefCell<HashSet<u64>>,
    /// What the user was asked.
    pub questions: RefCell<Vec<String>>,
    /// Whether it is known which files are not there.
    pub is_looking: bool,
    /// Whether the user says no.
    pub declines: bool,
}

impl Files {
    pub fn of(files: &[(&str, u64)]) -> Self {
        let id = |inode| ObjectId {
            volume: 0,
            inode,
            generation: 1,
        };
        let files = files
            .iter()
            .map(|(path, inode)| (PathBuf::from(path), id(*inode)));
        let mut objects: BTreeMap<PathBuf, ObjectId> = files.collect();
        objects.insert(PathBuf::new(), id(1));
        Self {
            objects,
            ..Self::default()
        }
    }
}

impl Tree for Files {
    fn root(&self) -> u64 {
        1
    }

    fn look(&self, path: &Path) -> PathState {
        let found = self.objects.get(path);
        match found.map(|id| id.inode) {
            _ if !self.is_looking => PathState::Unknown,
            Some(inode) => PathState::There { inode, size: None },
            None => PathState::Gone,
        }
    }

    fn find(&self, wanted: &HashSet<u64>) -> HashMap<u64, PathBuf> {
        self.wanted.borrow_mut().extend(wanted);
        let found = self
            .objects
            .iter()
            .filter(|(_, id)| wanted.contains(&id.inode));
        found.map(|(path, id)| (id.inode, path.clone())).collect()
    }
}

/// The time at which commands run: 3600 seconds after the beginning, in a zone two hours east.
pub fn now() -> Zoned {
    let zone = TimeZone::fixed(jiff::tz::offset(2));
    Timestamp::from_second(BEGINNING + 3600)
        .unwrap()
        .to_zoned(zone)
}

/// Runs a command line on a mount: exit code, results, messages.
pub fn run(kernel: &mut Kernel, files: &Files, words: &str) -> (u8, String, String) {
    let (code, results, messages) = run_bytes(kernel, files, words);
    (code, String::from_utf8(results).unwrap(), messages)
}

/// As [`run`], with results that need not be text.
pub fn run_bytes(kernel: &mut Kernel, files: &Files, words: &str) -> (u8, Vec<u8>, String) {
    let words: Vec<String> = words
        .split(' ')
        .map(|word| word.replace('_', " "))
        .collect();
    let arguments = ["logctl".to_owned()]
        .into_iter()
        .chain(words)
        .map(Into::into);
    let cli = parse(normalize(arguments)).unwrap();
    let (mut results, mut messages) = (Vec::new(), Vec::new());
    let mut stripped = anstream::StripStream::new(&mut messages);
    let mut output = Output::new(&mut results, &mut stripped, cli.json.is_some());
    let identify = |path: &Path| Ok(files.objects.get(path).copied());
    let (has_own_pids, session) = (!kernel.is_contained, kernel.session);
    let confirm = |question: &str| {
        files.questions.borrow_mut().push(question.to_owned());
        !files.declines
    };
    let mut context = Context {
        session,
        has_own_pids,
        confirm: &confirm,
        object: kernel,
        tree: files,
        identify: &identify,
        root: "/m".into(),
        now: now(),
        me: None,
        users: Users::of("root:x:0:0::/root:/bin/sh\nana:x:1000:1000::/home/ana:/bin/sh\n"),
    };
    let result = off_mount(
        &cli.command,
        None,
        &System::at(Path::new("/nonexistent")),
        &mut output,
    )
    .unwrap_or_else(|| execute_on_mount(&cli.command, &mut context, &mut output));
    let code = conclude(&cli.command, Path::new("/m"), result, &mut output);
    (code, results, String::from_utf8(messages).unwrap())
}

/// All lines.
pub fn timeline(kernel: &mut Kernel) -> Timeline {
    Timeline::whole(kernel).unwrap()
}

/// The numbers of the live operations, the newest first.
pub fn live(kernel: &mut Kernel) -> Vec<u64> {
    let timeline = timeline(kernel);
    let live = timeline.live(&|_| false);
    live.iter()
        .map(|index| timeline.entries[*index].seq)
        .collect()
}

/// `notes` (4), written by cp; src (2) with a and b, removed by rm; then vim's change of notes, and
/// `echo > build.log` at a prompt.
pub fn history() -> (Kernel, Files) {
    let mut kernel = Kernel::new();
    let ana = "sid=40 uid=1000";
    let cp = format!("pid=50@5.0 ppid=40 {ana} args=cp%00x%00notes");
    kernel.line(
        10,
        "1.1",
        "/bin/cp create 0 0",
        &format!("name=notes node=4.1 undo=none {cp}"),
    );
    kernel.line(
        10,
        "4.1",
        "/bin/cp write 0 9",
        &format!("open=. size=0 undo=none {cp}"),
    );
    let rm = format!("pid=60@6.0 ppid=40 {ana} args=rm%00-rf%00src");
    kernel.line(
        100,
        "2.1",
        "/bin/rm unlink 0 0",
        &format!("name=a node=5.1 kept=1 undo=none {rm}"),
    );
    kernel.line(
        100,
        "2.1",
        "/bin/rm unlink 0 0",
        &format!("name=b node=6.1 kept=1 undo=none {rm}"),
    );
    kernel.line(
        100,
        "1.1",
        "/bin/rm rmdir 0 0",
        &format!("name=src node=2.1 kept=1 undo=none {rm}"),
    );
    let vim = format!("pid=70@7.0 ppid=40 {ana} args=vim%00notes");
    kernel.line(
        2000,
        "4.1",
        "/usr/bin/vim write 0 9",
        &format!("open=. size=9 undo=1:0+9 crc=00000000 {vim}"),
    );
    let bash = format!("pid=40@1.0 ppid=1 {ana} args=-bash");
    kernel.line(
        3590,
        "1.1",
        "/bin/bash create 0 0",
        &format!("name=build.log node=8.1 undo=none {bash}"),
    );
    kernel.line(
        3590,
        "8.1",
        "/bin/bash write 0 4",
        &format!("open=. size=0 undo=none {bash}"),
    );
    kernel.holds(4, 1, b"");
    kernel.holds(4, 2, b"one\ntwo\n");
    kernel.holds(4, 6, b"one\nthree\nfour\n");
    kernel.holds(5, 0, b"of a\n");
    kernel.holds(8, 7, b"");
    kernel.holds(8, 8, b"out\n");
    (kernel, Files::of(&[("notes", 4), ("build.log", 8)]))
}
