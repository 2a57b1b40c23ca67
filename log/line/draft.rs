// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Writing a line: drafted while the operation runs, sealed when the line gets its number.

use super::super::types::{Cookie, Crc, ObjectId, Pos, Seed, Time};
use super::{
    fields::{PosSegment, Seconds},
    targets, Actor, FixedBuffer, LineError, Mode, Op, Process, Undo, MAX_ANCESTORS, MAX_LINE,
};

/// The text of a line.
type Text<'b> = FixedBuffer<'b, MAX_LINE>;

/// The most that sealing adds: ` seq=N`, ` open=N` and ` sum=XXXXXXXX\n`.
const SEAL_SPACE: usize = (5 + 20) + (6 + 20) + (5 + 8 + 1);

/// The longest draft.
const MAX_DRAFT: usize = MAX_LINE - SEAL_SPACE;

/// Which open file a line belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenFileRef {
    /// None.
    None,
    /// This is the first line of the open file; its own number identifies the file in later lines.
    First,
    /// The one that this line number names.
    Of(u64),
}

/// A range of the draft's text; empty: nothing.
#[derive(Clone, Copy, Default)]
struct TextRange {
    start: usize,
    end: usize,
}

/// A line without its number and checksum.
///
/// Keys are written in the order of the calls, which should follow the order of the methods below.
/// If a key does not fit, first the arguments, then the file handle are removed from the line; if
/// the key still does not fit, [`LineDraft::seal`] fails.
pub struct LineDraft<'b> {
    text: Text<'b>,
    /// Where the head ends, and the number goes.
    head: usize,
    /// Where the line's own number goes a second time, as `open=`.
    own_open: Option<usize>,
    /// Where the file handle goes: before the program's description.
    handle_at: Option<usize>,
    handle: TextRange,
    args: TextRange,
    failed: bool,
}

impl<'b> LineDraft<'b> {
    /// Begins a line in `buf`. `command` is the output of [`super::encode_command`] for the
    /// executable's path; empty if there is none.
    pub fn new(
        buf: &'b mut [u8; MAX_LINE],
        time: Time,
        command: &[u8],
        op: Op,
        offset: u64,
        length: u64,
    ) -> Self {
        let mut text = Text::new(buf);
        let command: &[u8] = if command.is_empty() { b"-" } else { command };
        text.head(
            (Seconds(time.sec), time.nsec),
            command,
            op,
            (offset, length),
        );
        Self {
            head: text.len(),
            own_open: None,
            handle_at: None,
            handle: TextRange::default(),
            args: TextRange::default(),
            failed: is_long(&text),
            text,
        }
    }

    /// `obj=`: the object.
    pub fn obj(&mut self, object: ObjectId) -> &mut Self {
        self.field(|text| text.key_object(b" obj=", object))
    }

    /// `prev=`: the position of the object's previous line.
    pub fn prev(&mut self, pos: Pos) -> &mut Self {
        self.field(|text| text.prev(PosSegment(pos.segment), pos.offset))
    }

    /// `was=`: the object's change cookie.
    pub fn was(&mut self, cookie: &Cookie) -> &mut Self {
        self.field(|text| text.was(cookie))
    }

    /// `size=`: the object's size before the operation; in a `close` line, the size at that time.
    pub fn size(&mut self, size: u64) -> &mut Self {
        self.field(|text| text.size(size))
    }

    /// `open=`: the open file.
    pub fn open(&mut self, open: OpenFileRef) -> &mut Self {
        match open {
            OpenFileRef::None => {}
            OpenFileRef::First => self.own_open = Some(self.text.len()),
            OpenFileRef::Of(seq) => {
                self.field(|text| text.open(seq));
            }
        }
        self
    }

    /// `pid=` to `uid=`, `comm=`, `exec=` and `args=`: the acting process.
    pub fn actor(&mut self, actor: &Actor<'_>) -> &mut Self {
        self.field(|text| text.process(actor));
        self.handle_at = Some(self.text.len());
        self.field(|text| text.program(actor));
        self.args = self.optional(|text| text.args(actor));
        self
    }

    /// `anc=`: the ancestors of the acting process, the parent first; left out if the key does not
    /// fit, or if there are none.
    pub fn ancestors(&mut self, ancestors: &[Process]) -> &mut Self {
        let ancestors = ancestors.get(..MAX_ANCESTORS).unwrap_or(ancestors);
        self.optional(|text| text.ancestors(ancestors));
        self
    }

    /// `fh=`: the object's file handle.
    pub fn fh(&mut self, kind: u8, handle: &[u8]) -> &mut Self {
        let range = self.optional(|text| text.key_handle(b" fh=", kind, handle));
        self.handle = range;
        let len = range.end.saturating_sub(range.start);
        if let Some(at) = self.handle_at {
            self.text.move_back(range.start, at);
            self.handle = TextRange {
                start: at,
                end: at.saturating_add(len),
            };
            for mark in self.marks() {
                if *mark >= at {
                    *mark = mark.saturating_add(len);
                }
            }
        }
        self
    }

    /// `undo=`: where the old state is.
    pub fn undo(&mut self, undo: Undo) -> &mut Self {
        self.field(|text| match undo {
            Undo::None => text.undo_none(),
            Undo::Lost => text.undo_lost(),
            Undo::At(extent) => {
                text.undo_at(PosSegment(extent.segment), extent.offset, extent.length);
            }
        })
    }

    /// `map=`: with how many records the payload begins.
    pub fn map(&mut self, records: u64) -> &mut Self {
        self.field(|text| text.map(records))
    }

    /// `attrs=`: how many bytes at the payload's end are old attributes.
    pub fn attributes(&mut self, bytes: u64) -> &mut Self {
        self.number(b" attrs=", bytes)
    }

    /// `crc=`: the payload's CRC-32C, finished.
    pub fn crc(&mut self, crc: u32) -> &mut Self {
        self.field(|text| text.crc(crc))
    }

    /// `of=`: the line that this one is about.
    pub fn of(&mut self, seq: u64) -> &mut Self {
        self.number(b" of=", seq)
    }

    /// `count=`: how many operations were taken back.
    pub fn count(&mut self, count: u64) -> &mut Self {
        self.number(b" count=", count)
    }

    /// `back=`: the object's newest live line after a revert.
    pub fn back(&mut self, pos: Pos) -> &mut Self {
        self.field(|text| text.key_pos(b" back=", PosSegment(pos.segment), pos.offset))
    }

    /// `now=`: the object's size after a revert.
    pub fn now(&mut self, size: u64) -> &mut Self {
        self.number(b" now=", size)
    }

    /// `picks=`: the operations that were taken back, as ranges of numbers, ascending and apart.
    pub fn targets(&mut self, ranges: &[(u64, u64)]) -> &mut Self {
        self.field(|text| {
            text.literal(b" picks=");
            targets::put(text, ranges);
        })
    }

    /// `further=`: the line before lists more of them, down to this number.
    pub fn further(&mut self, lowest: u64) -> &mut Self {
        self.number(b" further=", lowest)
    }

    /// `deep=1`: there are reverts among the operations that were taken back.
    pub fn deep(&mut self) -> &mut Self {
        self.field(|text| text.literal(b" deep=1"))
    }

    /// `owner=`: the object's owner.
    pub fn owner(&mut self, uid: u32) -> &mut Self {
        self.number(b" owner=", u64::from(uid))
    }

    /// `in=`: the file handle of a directory that has a name of the object; left out if the key
    /// does not fit.
    pub fn inside(&mut self, kind: u8, handle: &[u8]) -> &mut Self {
        self.optional(|text| text.key_handle(b" in=", kind, handle));
        self
    }

    /// `unnamed=1`: the object has had no name so far.
    pub fn unnamed(&mut self) -> &mut Self {
        self.field(|text| text.literal(b" unnamed=1"))
    }

    /// `recovered=1`: a power cut took the line, and the next mount wrote this one from the
    /// orphan's name. Of the process only the user is known.
    pub fn recovered(&mut self, uid: u32) -> &mut Self {
        self.actor(&Actor {
            uid,
            ..Actor::default()
        });
        self.field(|text| text.literal(b" recovered=1"))
    }

    /// `group=`: the number of the group's first line.
    pub fn group(&mut self, seq: u64) -> &mut Self {
        self.number(b" group=", seq)
    }

    /// `members=`: on a group's first line, how many lines the group has.
    pub fn members(&mut self, count: u64) -> &mut Self {
        self.number(b" members=", count)
    }

    /// `mode=`: undo, or an operation of its own.
    pub fn mode(&mut self, mode: Mode) -> &mut Self {
        self.field(|text| match mode {
            Mode::Walk => text.literal(b" mode=walk"),
            Mode::Pick => text.literal(b" mode=pick"),
        })
    }

    /// `why=`: a word for why the old state was lost.
    pub fn why(&mut self, word: &str) -> &mut Self {
        self.field(|text| text.key_encoded(b" why=", word.as_bytes()))
    }

    /// `name=`: the name that an operation on names is about, in the directory `obj=`.
    pub fn name(&mut self, name: &[u8]) -> &mut Self {
        self.field(|text| text.name(name))
    }

    /// `parent=`: the directory that a rename moves to, if it differs from `obj=`.
    pub fn parent(&mut self, directory: ObjectId) -> &mut Self {
        self.field(|text| text.key_object(b" parent=", directory))
    }

    /// `to=`: the name that a rename gives.
    pub fn to(&mut self, name: &[u8]) -> &mut Self {
        self.field(|text| text.key_encoded(b" to=", name))
    }

    /// `node=`: the object that the name is or was bound to.
    pub fn node(&mut self, object: ObjectId) -> &mut Self {
        self.field(|text| text.node(object))
    }

    /// `over=`: the object that a rename took the name from, or that an exchange gave the other name.
    pub fn over(&mut self, object: ObjectId) -> &mut Self {
        self.field(|text| text.key_object(b" over=", object))
    }

    /// `kept=`: the segment that the object which lost its last name is kept with.
    pub fn kept(&mut self, segment: u64) -> &mut Self {
        self.field(|text| text.kept(segment))
    }

    /// `vfh=`: the file handle of the object which lost a name. The object has other names, or may
    /// get one.
    pub fn victim_handle(&mut self, kind: u8, handle: &[u8]) -> &mut Self {
        self.field(|text| text.victim_handle(kind, handle))
    }

    /// `pfh=`: the file handle of the directory that a rename moves to.
    pub fn parent_handle(&mut self, kind: u8, handle: &[u8]) -> &mut Self {
        self.field(|text| text.key_handle(b" pfh=", kind, handle))
    }

    /// `message=`: the message of a mark.
    pub fn message(&mut self, text: &[u8]) -> &mut Self {
        self.field(|line| line.key_encoded(b" message=", text))
    }

    /// `run=1`: the mark names the processes that its maker starts.
    pub fn run(&mut self) -> &mut Self {
        self.field(|text| text.literal(b" run=1"))
    }

    /// `cmdcut=1`: the command was cut.
    pub fn command_cut(&mut self) -> &mut Self {
        self.field(|text| text.literal(b" cmdcut=1"))
    }

    /// Whether something that a line cannot do without did not fit.
    pub fn is_refused(&self) -> bool {
        self.failed
    }

    /// Writes the whole line, numbered and with its checksum, to `out`, of [`MAX_LINE`] bytes, and
    /// returns its length. The draft is unchanged, so that the caller can seal it again for another
    /// segment.
    pub fn seal(
        &self,
        seq: u64,
        seed: &Seed,
        crc: Crc,
        out: &mut [u8],
    ) -> Result<usize, LineError> {
        if self.failed {
            return Err(LineError::TooLong);
        }
        let written = self.text.written();
        let (head, keys) = written
            .split_at_checked(self.head)
            .unwrap_or((written, &[]));
        let mut line = Text::at(out).ok_or(LineError::TooLong)?;
        line.put(head);
        line.seq(seq);
        match self.own_open {
            None => line.put(keys),
            Some(at) => {
                let at = at.saturating_sub(self.head);
                let (before, after) = keys.split_at_checked(at).unwrap_or((keys, &[]));
                line.put(before);
                line.open(seq);
                line.put(after);
            }
        }
        line.finish(seed.start(crc), crc)
    }

    /// Adds a key with a number.
    #[inline]
    fn number<const K: usize>(&mut self, key: &'static [u8; K], number: u64) -> &mut Self {
        self.field(|text| text.key(key, number))
    }

    /// Adds a required key.
    #[inline]
    fn field(&mut self, write: impl Fn(&mut Text<'b>)) -> &mut Self {
        let mark = self.text.len();
        write(&mut self.text);
        if is_long(&self.text) {
            self.squeeze(mark, &write);
        }
        self
    }

    /// Adds an optional key, and returns its range in the text.
    fn optional(&mut self, write: impl Fn(&mut Text<'b>)) -> TextRange {
        let start = self.text.len();
        write(&mut self.text);
        if is_long(&self.text) {
            self.text.rewind(start);
        }
        TextRange {
            start,
            end: self.text.len(),
        }
    }

    /// Removes optional keys until the field that begins at `mark` fits.
    #[cold]
    fn squeeze(&mut self, mark: usize, write: &dyn Fn(&mut Text<'b>)) {
        self.text.rewind(mark);
        while self.give_up() {
            let mark = self.text.len();
            write(&mut self.text);
            if !is_long(&self.text) {
                return;
            }
            self.text.rewind(mark);
        }
        self.failed = true;
    }

    /// Takes the arguments or, without any, the file handle out of the draft.
    fn give_up(&mut self) -> bool {
        let range = if self.args.start < self.args.end {
            core::mem::take(&mut self.args)
        } else {
            core::mem::take(&mut self.handle)
        };
        if range.start >= range.end {
            return false;
        }
        self.text.remove(range.start, range.end);
        let len = range.end.saturating_sub(range.start);
        for mark in self.marks() {
            if *mark >= range.end {
                *mark = mark.saturating_sub(len);
            }
        }
        if let Some(at) = &mut self.handle_at {
            if *at >= range.end {
                *at = at.saturating_sub(len);
            }
        }
        true
    }

    /// The marks in the text that move when text is inserted before them, except the handle's own.
    fn marks(&mut self) -> impl Iterator<Item = &mut usize> {
        [&mut self.args.start, &mut self.args.end]
            .into_iter()
            .chain(self.own_open.as_mut())
    }
}

/// Whether a draft leaves no space for the number and the checksum that sealing adds.
fn is_long(text: &Text<'_>) -> bool {
    text.len() > MAX_DRAFT
}

/// Ends a line that was written without a draft. [`LineError::TooLong`]: a draft with the same keys
/// might give some of them up.
#[inline(always)]
pub(super) fn finish_template(line: Text<'_>, start: u32, crc: Crc) -> Result<usize, LineError> {
    if is_long(&line) {
        return Err(LineError::TooLong);
    }
    line.finish(start, crc)
}

/// Writes the keys of [`LineDraft::actor`] to the beginning of `out`; returns the length. `None`: they do not
/// fit.
pub fn actor_text<const N: usize>(actor: &Actor<'_>, out: &mut [u8; N]) -> Option<usize> {
    let mut text = FixedBuffer::new(out);
    text.process(actor);
    text.program(actor);
    text.args(actor);
    text.whole()
}
