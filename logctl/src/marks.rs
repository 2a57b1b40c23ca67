// SPDX-License-Identifier: MIT OR Apache-2.0

//! Marks: names that users gave to places of the history, and to runs of commands.

use rustix::io::Errno;

use crate::entry::{Actor, Entry};
use crate::fetch::fetch;
use crate::object::Object;
use crate::quote::decoded;
use crate::uapi::{ReadHistory, VERSION};
use loggerfs_log::line::{is_mark_message, is_mark_name, Line, Op};
use loggerfs_log::types::Time;

/// How much is asked for at once: a usual segment.
const ROOM: usize = 4 << 20;

/// A mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedMark {
    /// The number of its line.
    pub seq: u64,
    /// When it was made.
    pub time: Time,
    /// Its name.
    pub name: String,
    /// Its message; empty: none.
    pub message: String,
    /// Whether it names all that its process started from then on.
    pub is_run: bool,
    /// Who made it.
    pub actor: Actor,
}

impl NamedMark {
    /// The mark of a line; `None`: it is another one, or has a name that no mark has.
    pub fn of(line: &Line<'_>) -> Option<Self> {
        let text = |value: Option<&[u8]>| String::from_utf8(decoded(value?)).ok();
        let name = text(line.name).filter(|_| line.op == Op::Mark)?;
        let message = text(line.message).unwrap_or_default();
        (is_mark_name(name.as_bytes()) && is_mark_message(message.as_bytes())).then(|| Self {
            seq: line.seq,
            time: line.time,
            name,
            message,
            is_run: line.run,
            actor: Actor::of(line),
        })
    }

    /// As [`Self::of`], of an entry.
    pub fn of_entry(entry: &Entry) -> Option<Self> {
        (entry.op == Op::Mark)
            .then(|| Self::of(&entry.line()))
            .flatten()
    }
}

/// Reads the marks of the newest segments of the history, at most so many, the newest mark first.
pub fn read(object: &mut dyn Object, segments: usize) -> Result<Vec<NamedMark>, Errno> {
    let mut marks = Vec::new();
    let mut buffer = vec![0; ROOM];
    let mut segment = 0;
    for _ in 0..segments {
        let mut request = ReadHistory {
            version: VERSION,
            segment,
            ..ReadHistory::default()
        };
        let mut lines = Vec::new();
        match fetch(object, &mut request, &mut buffer, &mut lines) {
            // It was dropped meanwhile.
            Err(Errno::NODATA) if segment != 0 => break,
            fetched => fetched?,
        }
        let texts = lines.iter().rev().map(|(_, text)| text);
        let lines = texts.filter(|text| is_mark_line(text));
        marks.extend(lines.filter_map(|text| NamedMark::of(&Line::parse(text, None).ok()?)));
        if request.previous == 0 || request.previous >= request.segment {
            break;
        }
        segment = request.previous;
    }
    Ok(marks)
}

/// Whether a line is of a mark, found without parsing the rest.
fn is_mark_line(text: &[u8]) -> bool {
    let op = text.split(|byte| *byte == b' ').nth(2);
    op == Some(Op::Mark.as_str().as_bytes())
}

/// The mark that a name means to a user: the newest one of that user or, without any, of another one.
pub fn named<'m>(marks: &'m [NamedMark], name: &str, uid: u32) -> Option<&'m NamedMark> {
    let is_own = |mark: &&NamedMark| mark.actor.uid == Some(uid);
    let mut same = marks.iter().filter(|mark| mark.name == name);
    let own = same.clone().find(is_own);
    own.or_else(|| same.next())
}
