// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Reading a line, which may be torn, stale, of another history, or forged.

use super::super::types::{Cookie, Crc, Extent, ObjectId, Pos, Seed, Time};
use super::{
    digits::{decode_decimal, decode_decimal32, decode_hex32, nibble},
    keys,
    targets::TargetRanges,
    text, Ancestors, LineError, Mode, Op, Process, ProcessGroup, Undo, MAX_COMMAND, MAX_LINE,
};

/// ` sum=XXXXXXXX\n`.
const TAIL: usize = 14;

/// A parsed line. Encoded values are borrowed and not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The time of the operation.
    pub time: Time,
    /// The executable's path, percent-encoded; `-`: none.
    pub command: &'a [u8],
    /// The operation.
    pub op: Op,
    /// The offset; [`super::fold`] may correct the value.
    pub offset: u64,
    /// The length; [`super::fold`] may correct the value.
    pub length: u64,
    /// OFFSET as written in the line. The payload was saved for this range, whatever an `amend`
    /// line says.
    pub written_offset: u64,
    /// LENGTH as written in the line.
    pub written_length: u64,
    /// The operation's number.
    pub seq: u64,
    /// The object.
    pub obj: Option<ObjectId>,
    /// The position of the object's previous line.
    pub prev: Option<Pos>,
    /// The object's change cookie.
    pub was: Option<Cookie>,
    /// The object's size before the operation.
    pub size: Option<u64>,
    /// The number of the open file's first line.
    pub open: Option<u64>,
    /// The process.
    pub pid: Option<Process>,
    /// Its parent.
    pub ppid: Option<u32>,
    /// Its session.
    pub sid: Option<u32>,
    /// Its process group.
    pub pgid: Option<ProcessGroup>,
    /// The short name of the group's leader, percent-encoded, if that is another process.
    pub pgcomm: Option<&'a [u8]>,
    /// Its ancestors, the parent first.
    pub ancestors: Option<Ancestors<'a>>,
    /// Its user.
    pub uid: Option<u32>,
    /// The object's file handle: type byte and handle, hexadecimal.
    pub fh: Option<&'a [u8]>,
    /// The object has had no name so far; said with `fh`.
    pub unnamed: bool,
    /// The object's owner, together with `fh`, and after a change of owner.
    pub owner: Option<u32>,
    /// The handle of a directory that has a name of the object, as `fh`, together with `fh`.
    pub inside: Option<&'a [u8]>,
    /// The process' short name, percent-encoded.
    pub comm: Option<&'a [u8]>,
    /// The number of times the process called exec.
    pub exec: Option<u64>,
    /// Its arguments, percent-encoded, separated by `%00`.
    pub args: Option<&'a [u8]>,
    /// The location of the old state.
    pub undo: Option<Undo>,
    /// With how many records the payload begins.
    pub map: Option<u64>,
    /// How many bytes at the payload's end are old attributes.
    pub attributes: Option<u64>,
    /// The payload's checksum.
    pub crc: Option<u32>,
    /// The line that this one is about.
    pub of: Option<u64>,
    /// How many operations were taken back.
    pub count: Option<u64>,
    /// The object's newest live line after a revert.
    pub back: Option<Pos>,
    /// The object's size after a revert.
    pub now: Option<u64>,
    /// Whether a revert is an undo or an operation of its own.
    pub mode: Option<Mode>,
    /// Which operations a revert took back, if not just the newest ones.
    pub targets: Option<TargetRanges<'a>>,
    /// The line before lists more of them, down to this number.
    pub further: Option<u64>,
    /// Whether there are reverts among them.
    pub deep: bool,
    /// The number of the first line of the group that a revert belongs to; that line itself has none.
    pub group: Option<u64>,
    /// On the first line of a group: the number of lines in the group; none for a group of one.
    pub members: Option<u64>,
    /// Why the old state was lost, percent-encoded.
    pub why: Option<&'a [u8]>,
    /// The name of a mark, or that an operation on names is about, percent-encoded.
    pub name: Option<&'a [u8]>,
    /// The directory that a rename moves to, if it differs from `obj`; the directory that a mark was made in.
    pub parent: Option<ObjectId>,
    /// The name that a rename gives, percent-encoded.
    pub to: Option<&'a [u8]>,
    /// The object that the name is or was bound to.
    pub node: Option<ObjectId>,
    /// The object that a rename took the name from.
    pub over: Option<ObjectId>,
    /// The segment that the object which lost its last name is kept with.
    pub kept: Option<u64>,
    /// The file handle of the object which lost a name and still has others.
    pub vfh: Option<&'a [u8]>,
    /// The file handle of `parent`.
    pub pfh: Option<&'a [u8]>,
    /// The message of a mark, percent-encoded.
    pub message: Option<&'a [u8]>,
    /// Whether a mark names the processes that its maker starts.
    pub run: bool,
    /// Whether the command was cut.
    pub command_cut: bool,
}

impl<'a> Line<'a> {
    /// Reads one line, its newline included. With a seed, the checksum is verified.
    pub fn parse(bytes: &'a [u8], verify: Option<(&Seed, Crc)>) -> Result<Self, LineError> {
        if bytes.len() > MAX_LINE {
            return Err(LineError::TooLong);
        }
        let body = unseal(bytes, verify)?;
        if !text::is_printable(body) {
            return Err(LineError::Value);
        }
        let (mut line, rest) = Self::parse_head(body)?;
        let (mut seq, mut cut, mut deep, mut unnamed, mut run) = (None, None, None, None, None);
        for word in words(rest) {
            let (key, value) = keys::split(word).ok_or(LineError::Key)?;
            match key {
                keys::SEQ => once(&mut seq, decode_decimal(value))?,
                keys::CMDCUT => once(&mut cut, flag(value))?,
                keys::DEEP => once(&mut deep, flag(value))?,
                keys::UNNAMED => once(&mut unnamed, flag(value))?,
                keys::RUN => once(&mut run, flag(value))?,
                // `unseal()` has removed the checksum, which comes last.
                keys::EMPTY | keys::SUM => return Err(LineError::Key),
                _ if line.set(key, value)? => {}
                _ if is_repeated(rest, word) => return Err(LineError::Repeated),
                _ => {}
            }
        }
        line.seq = seq.ok_or(LineError::NoNumber)?;
        line.command_cut = cut.is_some();
        line.deep = deep.is_some();
        line.unnamed = unnamed.is_some();
        line.run = run.is_some();
        Ok(line)
    }

    /// Whether this is its open file's first line.
    pub fn is_first_of_open(&self) -> bool {
        self.open == Some(self.seq)
    }

    /// Parses the first five fields, and returns the rest of the line.
    fn parse_head(body: &'a [u8]) -> Result<(Self, &'a [u8]), LineError> {
        let mut rest = body;
        let mut word = || -> Option<&'a [u8]> {
            let (word, tail) = text::split(rest, b' ').unwrap_or((rest, &[]));
            rest = tail;
            (!word.is_empty()).then_some(word)
        };
        let time = word().and_then(|word| text::time(word, 9));
        let command = word().filter(|word| word.len() <= MAX_COMMAND);
        let op = word().ok_or(LineError::Head)?;
        let offset = word().and_then(decode_decimal);
        let length = word().and_then(decode_decimal);
        let (Some(time), Some(command), Some(offset), Some(length)) =
            (time, command, offset, length)
        else {
            return Err(LineError::Head);
        };
        // A range must end below 2^64.
        offset.checked_add(length).ok_or(LineError::Head)?;
        let op = Op::parse(op).ok_or(LineError::UnknownOp)?;
        Ok((Self::bare(time, command, op, offset, length), rest))
    }

    /// A line without keys.
    fn bare(time: Time, command: &'a [u8], op: Op, offset: u64, length: u64) -> Self {
        Self {
            time,
            command,
            op,
            offset,
            length,
            written_offset: offset,
            written_length: length,
            seq: 0,
            obj: None,
            prev: None,
            was: None,
            size: None,
            open: None,
            pid: None,
            ppid: None,
            sid: None,
            pgid: None,
            pgcomm: None,
            ancestors: None,
            uid: None,
            fh: None,
            unnamed: false,
            owner: None,
            inside: None,
            comm: None,
            exec: None,
            args: None,
            undo: None,
            map: None,
            attributes: None,
            crc: None,
            of: None,
            count: None,
            back: None,
            now: None,
            mode: None,
            targets: None,
            further: None,
            deep: false,
            group: None,
            members: None,
            why: None,
            name: None,
            parent: None,
            to: None,
            node: None,
            over: None,
            kept: None,
            vfh: None,
            pfh: None,
            message: None,
            run: false,
            command_cut: false,
        }
    }

    /// Takes over a key's value; `false`: the key is unknown, and ignored.
    fn set(&mut self, key: u64, value: &'a [u8]) -> Result<bool, LineError> {
        match key {
            keys::OBJ => once(&mut self.obj, text::object(value))?,
            keys::PREV => once(&mut self.prev, text::pos(value))?,
            keys::WAS => once(&mut self.was, cookie(value))?,
            keys::SIZE => once(&mut self.size, decode_decimal(value))?,
            keys::OPEN => once(&mut self.open, decode_decimal(value))?,
            keys::PID => once(&mut self.pid, Process::parse(value))?,
            keys::PPID => once(&mut self.ppid, decode_decimal32(value))?,
            keys::SID => once(&mut self.sid, decode_decimal32(value))?,
            keys::PGID => once(&mut self.pgid, ProcessGroup::parse(value))?,
            keys::PGCOMM => once(&mut self.pgcomm, Some(value))?,
            keys::ANC => once(&mut self.ancestors, Ancestors::parse(value))?,
            keys::UID => once(&mut self.uid, decode_decimal32(value))?,
            keys::FH => once(&mut self.fh, handle(value))?,
            keys::OWNER => once(&mut self.owner, decode_decimal32(value))?,
            keys::IN => once(&mut self.inside, handle(value))?,
            keys::COMM => once(&mut self.comm, Some(value))?,
            keys::EXEC => once(&mut self.exec, decode_decimal(value))?,
            keys::ARGS => once(&mut self.args, Some(value))?,
            keys::UNDO => once(&mut self.undo, undo(value))?,
            keys::MAP => once(&mut self.map, decode_decimal(value))?,
            keys::ATTRS => once(&mut self.attributes, decode_decimal(value))?,
            keys::CRC => once(&mut self.crc, decode_hex32(value))?,
            keys::OF => once(&mut self.of, decode_decimal(value))?,
            keys::COUNT => once(&mut self.count, decode_decimal(value))?,
            keys::BACK => once(&mut self.back, text::pos(value))?,
            keys::NOW => once(&mut self.now, decode_decimal(value))?,
            keys::MODE => once(&mut self.mode, mode(value))?,
            keys::PICKS => once(&mut self.targets, TargetRanges::parse(value))?,
            keys::FURTHER => once(&mut self.further, decode_decimal(value))?,
            keys::GROUP => once(&mut self.group, decode_decimal(value))?,
            keys::MEMBERS => once(&mut self.members, decode_decimal(value))?,
            keys::WHY => once(&mut self.why, Some(value))?,
            keys::NAME => once(&mut self.name, Some(value))?,
            keys::PARENT => once(&mut self.parent, text::object(value))?,
            keys::TO => once(&mut self.to, Some(value))?,
            keys::NODE => once(&mut self.node, text::object(value))?,
            keys::OVER => once(&mut self.over, text::object(value))?,
            keys::KEPT => once(&mut self.kept, decode_decimal(value))?,
            keys::VFH => once(&mut self.vfh, handle(value))?,
            keys::PFH => once(&mut self.pfh, handle(value))?,
            keys::MESSAGE => once(&mut self.message, Some(value))?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Sets a field to a key's value; `None`: the value is malformed.
fn once<T>(field: &mut Option<T>, value: Option<T>) -> Result<(), LineError> {
    let value = value.ok_or(LineError::Value)?;
    match field.replace(value) {
        Some(_) => Err(LineError::Repeated),
        None => Ok(()),
    }
}

/// Whether the unknown key of `word` occurred before `word`, which is a part of `all`.
fn is_repeated(all: &[u8], word: &[u8]) -> bool {
    let Some((key, _)) = text::split(word, b'=') else {
        return false;
    };
    let same = |earlier: &[u8]| text::split(earlier, b'=').is_some_and(|(other, _)| other == key);
    words(all)
        .take_while(|earlier| !core::ptr::eq(earlier.as_ptr(), word.as_ptr()))
        .any(same)
}

/// Splits off the first whole line of `bytes`, its newline included. `None`: there is none.
pub fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let newline = text::find(bytes, b'\n')?;
    bytes.split_at_checked(newline.checked_add(1)?)
}

/// Whether a line, its newline included, has the checksum of its text.
pub fn is_intact(bytes: &[u8], seed: &Seed, crc: Crc) -> bool {
    unseal(bytes, Some((seed, crc))).is_ok()
}

/// The words between single spaces; none in an empty text.
fn words(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut left = Some(bytes).filter(|bytes| !bytes.is_empty());
    core::iter::from_fn(move || {
        let bytes = left.take()?;
        match text::split(bytes, b' ') {
            Some((word, rest)) => {
                left = Some(rest);
                Some(word)
            }
            None => Some(bytes),
        }
    })
}

/// Removes the checksum and the newline from a line, and verifies the checksum when given a seed.
pub(super) fn unseal<'a>(
    bytes: &'a [u8],
    verify: Option<(&Seed, Crc)>,
) -> Result<&'a [u8], LineError> {
    let start = bytes.len().checked_sub(TAIL).ok_or(LineError::Torn)?;
    let (body, tail) = bytes.split_at_checked(start).ok_or(LineError::Torn)?;
    let sum = tail
        .strip_prefix(b" sum=")
        .and_then(|tail| tail.strip_suffix(b"\n"))
        .and_then(decode_hex32)
        .ok_or(LineError::Torn)?;
    match verify {
        Some((seed, crc)) if seed.sum(crc, body) != sum => Err(LineError::Sum),
        _ => Ok(body),
    }
}

/// Reads `SEC.NSEC:SIZE:VERSION`.
fn cookie(value: &[u8]) -> Option<Cookie> {
    let (ctime, rest) = text::split(value, b':')?;
    let (size, version) = text::split(rest, b':')?;
    Some(Cookie {
        ctime: text::time(ctime, 1)?,
        size: decode_decimal(size)?,
        version: match version {
            b"-" => None,
            number => Some(decode_decimal(number)?),
        },
    })
}

/// Reads `none`, `lost` or `SEGMENT:OFFSET+LENGTH`.
fn undo(value: &[u8]) -> Option<Undo> {
    match value {
        b"none" => Some(Undo::None),
        b"lost" => Some(Undo::Lost),
        _ => {
            let (start, length) = text::split(value, b'+')?;
            let (pos, length) = (text::pos(start)?, decode_decimal(length)?);
            pos.offset.checked_add(length)?;
            Some(Undo::At(Extent {
                segment: pos.segment,
                offset: pos.offset,
                length,
            }))
        }
    }
}

/// Reads `walk` or `pick`.
fn mode(value: &[u8]) -> Option<Mode> {
    match value {
        b"walk" => Some(Mode::Walk),
        b"pick" => Some(Mode::Pick),
        _ => None,
    }
}

/// Reads `1`.
fn flag(value: &[u8]) -> Option<bool> {
    (value == b"1").then_some(true)
}

/// Checks a file handle's digits.
fn handle(value: &[u8]) -> Option<&[u8]> {
    let whole = value.len() >= 2 && value.len() % 2 == 0;
    (whole && value.iter().all(|byte| nibble(*byte).is_some())).then_some(value)
}
