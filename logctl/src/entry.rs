// SPDX-License-Identifier: MIT OR Apache-2.0

//! A line of the history in memory, and its actor.

use std::ops::Range;
use std::rc::Rc;
use std::sync::OnceLock;

use crate::actions::is_on_names;
use crate::quote::{decoded, program, quote_bytes};
use loggerfs_log::line::{Line, Mode, Op, Process, MAX_ARGS};
use loggerfs_log::types::{ObjectId, Pos, Time};

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
    pub fn of(line: &Line<'_>) -> Self {
        let args = line.args.map(decoded).unwrap_or_default();
        let args: Vec<Vec<u8>> = match &args[..] {
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

    /// Whether its arguments were longer than a line keeps: the last one here is a part of one.
    pub fn has_cut_arguments(&self) -> bool {
        let separators = self.args.len().saturating_sub(1);
        self.args.iter().map(Vec::len).sum::<usize>() + separators >= MAX_ARGS
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

    /// Whether the program is logctl, which writes to files only where it merges, or makes copies.
    pub fn is_logctl(&self) -> bool {
        self.command.ends_with(b"/logctl")
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
    /// The position of the object's previous line.
    prev: Option<Pos>,
    names: Option<Box<NameFields>>,
    text: Box<[u8]>,
}

/// The fields of an operation on names. Names are ranges of the text.
#[derive(Clone, Debug)]
struct NameFields {
    name: Option<Range<usize>>,
    to: Option<Range<usize>>,
    node: Option<ObjectId>,
    over: Option<ObjectId>,
    parent: Option<ObjectId>,
}

impl Entry {
    /// Of a line, which `text` has.
    pub fn of(line: &Line<'_>, at: Pos, text: &[u8], actor: Rc<Actor>) -> Self {
        let range = |part: Option<&[u8]>| {
            let part = part?;
            // A parsed line borrows from its text.
            let start = part.as_ptr().addr().checked_sub(text.as_ptr().addr())?;
            Some(start..start + part.len())
        };
        let names = is_on_names(line.op).then(|| {
            Box::new(NameFields {
                name: range(line.name),
                to: range(line.to),
                node: line.node,
                over: line.over,
                parent: line.parent,
            })
        });
        Self {
            at,
            seq: line.seq,
            time: line.time,
            op: line.op,
            object: line.obj,
            open: line.open,
            offset: line.offset,
            length: line.length,
            actor,
            prev: line.prev,
            names,
            text: Box::default(),
        }
    }

    /// Takes the text of the line.
    pub fn keep(&mut self, text: Box<[u8]>) {
        self.text = text;
    }

    /// The position of the object's previous line.
    pub fn previous(&self) -> Option<Pos> {
        self.prev
    }

    /// All fields of the line, without corrections.
    pub fn line(&self) -> Line<'_> {
        // `take_in()` has parsed the line.
        Line::parse(&self.text, None).expect("a line stays what it was")
    }

    /// The line with the fields that its place in the history and names depend on: a change of content or
    /// attributes has number, time, object, open file, and the position of the previous line, an operation on
    /// names also those. Others have all. Takes a twentieth of the time of [`Self::line`].
    pub fn brief(&self) -> Line<'_> {
        if matches!(self.op, Op::Revert | Op::Redo) || self.op.is_bookkeeping() {
            return self.line();
        }
        static BLANK: OnceLock<Line<'static>> = OnceLock::new();
        let blank = BLANK.get_or_init(|| {
            const TEXT: &[u8] = b"0.000000000 - write 0 0 seq=1 sum=00000000\n";
            Line::parse(TEXT, None).expect("this is a line")
        });
        let mut line = Line {
            time: self.time,
            op: self.op,
            seq: self.seq,
            obj: self.object,
            prev: self.prev,
            open: self.open,
            ..*blank
        };
        if let Some(names) = &self.names {
            let part = |range: &Option<Range<usize>>| self.text.get(range.clone()?);
            (line.name, line.to) = (part(&names.name), part(&names.to));
            (line.node, line.over, line.parent) = (names.node, names.over, names.parent);
        }
        line
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
