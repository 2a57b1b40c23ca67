// SPDX-License-Identifier: GPL-2.0

//! The grammar: any bytes, drafted lines, percent encoding.

use arbitrary::{Result, Unstructured};
use loggerfs_log::line::{
    decode_hex, decode_percent, encode_command, encode_percent, fold, refold, split_line, Actor,
    Amend, FastRecord, Line, LineDraft, Mode, Op, OpenFileRef, PaddedText, ProcessGroup,
    RecordTemplate, Undo, MAX_ARGS, MAX_LINE,
};
use loggerfs_log::plan::inverse;
use loggerfs_log::types::{Cookie, Extent, ObjectId, Pos, Seed, Time};

use crate::crc32c;

/// The history that all lines here belong to.
const SEED: Seed = Seed {
    uuid: *b"LoggerFS fuzzing",
    segment: 7,
};

/// Bytes as a line: as they are, or with the checksum that they should have.
pub(crate) fn any_bytes(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else {
        return;
    };
    let mut text = bytes.to_vec();
    let is_sealed = choice & 1 == 0;
    if is_sealed {
        let sum = SEED.sum(crc32c, bytes);
        text.extend(format!(" sum={sum:08x}\n").bytes());
    }
    let unchecked = Line::parse(&text, None);
    let checked = Line::parse(&text, Some((&SEED, crc32c)));
    if is_sealed || checked.is_ok() {
        assert_eq!(unchecked, checked, "the checksum changes what is read");
    }
    if let Ok(line) = &unchecked {
        use_all(line, &text);
    }
    if checked.is_ok() {
        damaged(&text, usize::from(*choice));
    }
    if let Some((first, rest)) = split_line(bytes) {
        assert!(first.ends_with(b"\n") && first.len() + rest.len() == bytes.len());
    }
}

/// A sound line must not pass with a byte changed, nor elsewhere.
fn damaged(text: &[u8], choice: usize) {
    let refused = |bytes: &[u8], seed: &Seed, what: &str| {
        let found = Line::parse(bytes, Some((seed, crc32c)));
        assert!(found.is_err(), "{what} passes");
    };
    for step in 0..8 {
        let mut bytes = text.to_vec();
        let at = (choice + step) * 31 % bytes.len();
        bytes[at] ^= 1 << ((choice + step) % 8);
        refused(&bytes, &SEED, "a flipped bit");
    }
    refused(&text[..choice % text.len()], &SEED, "a torn line");
    let (segment, mut uuid) = (SEED.segment + 1, SEED.uuid);
    refused(text, &Seed { segment, ..SEED }, "another segment's line");
    uuid[choice % 16] ^= 1;
    refused(text, &Seed { uuid, ..SEED }, "another history's line");
}

/// The operations of readers on a line.
fn use_all(line: &Line<'_>, text: &[u8]) {
    let mut room = [0; MAX_LINE];
    let encoded = [
        Some(line.command),
        line.comm,
        line.args,
        line.why,
        line.name,
        line.to,
    ];
    for value in encoded.into_iter().flatten() {
        let _ = decode_percent(value, &mut room);
    }
    if let Some(handle) = line.fh {
        assert!(decode_hex(handle, &mut room).is_some(), "a handle's digits");
    }
    let _ = inverse(line);
    assert!(line.offset.checked_add(line.length).is_some(), "no range");
    let _ = fold(line.of.unwrap_or(0), line);
    refolded(line, text);
}

/// A folded line has the fields of the amended one.
fn refolded(line: &Line<'_>, text: &[u8]) {
    let amend = Amend {
        offset: line.length,
        length: line.offset,
        size: line.size.map(|size| size / 2),
    };
    let mut room = [0; MAX_LINE];
    let Ok(len) = refold(text, &amend, &SEED, crc32c, &mut room) else {
        return;
    };
    let folded = Line::parse(&room[..len], Some((&SEED, crc32c))).expect("what refold wrote");
    let mut amended = *line;
    amended.amend(&amend);
    (amended.written_offset, amended.written_length) = (amended.offset, amended.length);
    assert_eq!(folded, amended);
}

/// Encoding and decoding of any bytes are inverse to each other.
pub(crate) fn percent(data: &[u8]) {
    let mut encoded = vec![0; data.len() * 3];
    let len = encode_percent(data, &mut encoded).expect("room for all");
    let plain = |byte: &u8| matches!(byte, 0x21..=0x7e);
    assert!(encoded[..len].iter().all(plain), "not plain");
    let mut decoded = vec![0; data.len()];
    assert_eq!(
        decode_percent(&encoded[..len], &mut decoded),
        Some(data.len())
    );
    assert_eq!(decoded, data);
    if let Some(len) = decode_percent(data, &mut decoded) {
        let back = encode_percent(&decoded[..len], &mut encoded).expect("room");
        // Characters that need no escape may have one all the same, so that lengths differ.
        assert!(back <= data.len() || data.is_empty());
    }
    if let Some(len) = decode_hex(data, &mut decoded) {
        assert_eq!(hex(&decoded[..len]).as_bytes(), data);
    }
    let mut command = [0; 2000];
    let (len, cut) = encode_command(data, &mut command);
    assert!((1..=1024).contains(&len), "a command of {len} bytes");
    assert_eq!(
        cut,
        data.iter()
            .map(|b| if plain(b) && *b != b'%' { 1 } else { 3 })
            .sum::<usize>()
            > 1024
    );
}

/// The fields of a draft.
struct LineFields {
    time: Time,
    command: Vec<u8>,
    op: Op,
    range: (u64, u64),
    seq: u64,
    obj: Option<ObjectId>,
    prev: Option<Pos>,
    was: Option<Cookie>,
    size: Option<u64>,
    open: OpenFileRef,
    actor: Option<(Actor<'static>, Vec<u8>, Vec<u8>)>,
    handle: Option<Vec<u8>>,
    undo: Option<Undo>,
    numbers: [Option<u64>; 4],
    crc: Option<u32>,
    back: Option<Pos>,
    mode: Option<Mode>,
    names: [Option<Vec<u8>>; 2],
    objects: [Option<ObjectId>; 2],
    cut: bool,
}

/// Numbers of all lengths.
pub(crate) fn number(u: &mut Unstructured<'_>) -> Result<u64> {
    let shift = u.int_in_range(0..=63)?;
    Ok(u.arbitrary::<u64>()? >> shift)
}

fn time(u: &mut Unstructured<'_>) -> Result<Time> {
    Ok(Time {
        sec: u.arbitrary()?,
        nsec: u.int_in_range(0..=999_999_999)?,
    })
}

fn object(u: &mut Unstructured<'_>) -> Result<ObjectId> {
    Ok(ObjectId {
        volume: if u.arbitrary()? { number(u)? } else { 0 },
        inode: number(u)?,
        generation: u.arbitrary()?,
    })
}

fn pos(u: &mut Unstructured<'_>) -> Result<Pos> {
    Ok(Pos {
        segment: number(u)?,
        offset: number(u)?,
    })
}

fn some<T>(
    u: &mut Unstructured<'_>,
    make: fn(&mut Unstructured<'_>) -> Result<T>,
) -> Result<Option<T>> {
    Ok(if u.arbitrary()? { Some(make(u)?) } else { None })
}

fn bytes(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let len = u.int_in_range(1..=600)?;
    let len = len.min(u.len()).max(1);
    let found = u.bytes(len.min(u.len()))?;
    Ok(if found.is_empty() {
        b"x".to_vec()
    } else {
        found.to_vec()
    })
}

fn undo(u: &mut Unstructured<'_>) -> Result<Undo> {
    Ok(match u.int_in_range(0..=2)? {
        0 => Undo::None,
        1 => Undo::Lost,
        _ => {
            let offset = number(u)?;
            Undo::At(Extent {
                segment: number(u)?,
                offset,
                length: number(u)?.min(u64::MAX - offset),
            })
        }
    })
}

fn actor(u: &mut Unstructured<'_>) -> Result<(Actor<'static>, Vec<u8>, Vec<u8>)> {
    let actor = Actor {
        pid: u.arbitrary()?,
        start: time(u)?,
        ppid: u.arbitrary()?,
        sid: u.arbitrary()?,
        group: ProcessGroup {
            pgid: u.arbitrary()?,
            start: u.arbitrary::<bool>()?.then(|| time(u)).transpose()?,
        },
        uid: u.arbitrary()?,
        exec: number(u)?,
        ..Actor::default()
    };
    Ok((actor, bytes(u)?, bytes(u)?))
}

fn cookie(u: &mut Unstructured<'_>) -> Result<Cookie> {
    Ok(Cookie {
        ctime: time(u)?,
        size: number(u)?,
        version: some(u, number)?,
    })
}

fn fields(u: &mut Unstructured<'_>) -> Result<LineFields> {
    let offset = number(u)?;
    let open = match u.int_in_range(0..=2)? {
        0 => OpenFileRef::None,
        1 => OpenFileRef::First,
        _ => OpenFileRef::Of(number(u)?),
    };
    Ok(LineFields {
        time: time(u)?,
        command: bytes(u)?,
        op: *u.choose(Op::ALL)?,
        range: (offset, number(u)?.min(u64::MAX - offset)),
        seq: number(u)?,
        obj: some(u, object)?,
        prev: some(u, pos)?,
        was: some(u, cookie)?,
        size: some(u, number)?,
        open,
        actor: some(u, actor)?,
        handle: some(u, bytes)?,
        undo: some(u, undo)?,
        numbers: [
            some(u, number)?,
            some(u, number)?,
            some(u, number)?,
            some(u, number)?,
        ],
        crc: some(u, |u| u.arbitrary())?,
        back: some(u, pos)?,
        mode: some(u, |u| {
            Ok(if u.arbitrary()? {
                Mode::Walk
            } else {
                Mode::Pick
            })
        })?,
        names: [some(u, bytes)?, some(u, bytes)?],
        objects: [some(u, object)?, some(u, object)?],
        cut: u.arbitrary()?,
    })
}

impl LineFields {
    /// Sets all fields of a draft.
    fn describe(&self, draft: &mut LineDraft<'_>) {
        self.obj.map(|v| draft.obj(v));
        self.prev.map(|v| draft.prev(v));
        self.was.as_ref().map(|v| draft.was(v));
        self.size.map(|v| draft.size(v));
        draft.open(self.open);
        if let Some((actor, comm, args)) = &self.actor {
            draft.actor(&Actor {
                comm,
                args,
                ..*actor
            });
        }
        self.handle.as_ref().map(|v| draft.fh(1, v));
        self.undo.map(|v| draft.undo(v));
        let [map, of, count, now] = self.numbers;
        map.map(|v| draft.map(v));
        self.crc.map(|v| draft.crc(v));
        of.map(|v| draft.of(v));
        count.map(|v| draft.count(v));
        self.back.map(|v| draft.back(v));
        now.map(|v| draft.now(v));
        self.mode.map(|v| draft.mode(v));
        let [name, to] = &self.names;
        let [parent, node] = self.objects;
        name.as_ref().map(|v| draft.name(v));
        parent.map(|v| draft.parent(v));
        to.as_ref().map(|v| draft.to(v));
        node.map(|v| draft.node(v));
        if self.cut {
            draft.command_cut();
        }
    }

    /// Compares with the parsed line.
    fn compare(&self, line: &Line<'_>) {
        assert_eq!((line.time, line.op), (self.time, self.op));
        assert_eq!((line.offset, line.length), self.range);
        assert_eq!(
            (line.seq, line.obj, line.prev),
            (self.seq, self.obj, self.prev)
        );
        assert_eq!((line.was, line.size), (self.was, self.size));
        let open = match self.open {
            OpenFileRef::None => None,
            OpenFileRef::First => Some(self.seq),
            OpenFileRef::Of(seq) => Some(seq),
        };
        assert_eq!(
            (line.open, line.undo, line.crc),
            (open, self.undo, self.crc)
        );
        assert_eq!([line.map, line.of, line.count, line.now], self.numbers);
        assert_eq!((line.back, line.mode), (self.back, self.mode));
        assert_eq!([line.parent, line.node], self.objects);
        assert_eq!(line.command_cut, self.cut);
        let [name, to] = &self.names;
        same_text(line.name, name.as_deref());
        same_text(line.to, to.as_deref());
        self.compare_actor(line);
        if let (Some(found), Some(handle)) = (line.fh, &self.handle) {
            assert_eq!(found, format!("01{}", hex(handle)).as_bytes());
        }
    }

    fn compare_actor(&self, line: &Line<'_>) {
        let Some((actor, comm, args)) = &self.actor else {
            assert!(line.pid.is_none() && line.args.is_none() && line.comm.is_none());
            return;
        };
        let pid = line.pid.expect("pid=");
        assert_eq!((pid.pid, pid.start), (actor.pid, actor.start));
        assert_eq!(line.pgid, Some(actor.group));
        let found = (line.ppid, line.sid, line.uid, line.exec);
        let fields = (actor.ppid, actor.sid, actor.uid, actor.exec);
        assert_eq!(
            found,
            (
                Some(fields.0),
                Some(fields.1),
                Some(fields.2),
                Some(fields.3)
            )
        );
        same_text(line.comm, Some(comm));
        // They are given up where there is no room.
        if line.args.is_some() {
            same_text(line.args, Some(&args[..args.len().min(MAX_ARGS)]));
        }
    }
}

/// An encoded value decodes to these bytes.
fn same_text(found: Option<&[u8]>, fields: Option<&[u8]>) {
    let mut room = [0; MAX_LINE];
    let decoded = found.map(|value| {
        let len = decode_percent(value, &mut room).expect("what was encoded");
        room[..len].to_vec()
    });
    assert_eq!(decoded.as_deref(), fields);
}

/// The fields of a draft are read back from its line; a template writes the same line.
pub(crate) fn drafted(data: &[u8]) {
    let Ok(fields) = fields(&mut Unstructured::new(data)) else {
        return;
    };
    let mut command = [0; 1024];
    let (len, _) = encode_command(&fields.command, &mut command);
    let (mut buffer, mut out) = ([0; MAX_LINE], [0; MAX_LINE]);
    let (at, length) = fields.range;
    let mut draft = LineDraft::new(
        &mut buffer,
        fields.time,
        &command[..len],
        fields.op,
        at,
        length,
    );
    fields.describe(&mut draft);
    if let Ok(len) = draft.seal(fields.seq, &SEED, crc32c, &mut out) {
        let line = Line::parse(&out[..len], Some((&SEED, crc32c))).expect("what was sealed");
        fields.compare(&line);
    } else {
        assert!(draft.is_refused(), "no room for a draft that fits");
    }
    fast_record(&fields, &command[..len]);
}

/// A template's line with some of the keys: the same bytes as a draft with these gives.
fn fast_record(fields: &LineFields, command: &[u8]) {
    let (Some(object), Some(size), OpenFileRef::Of(first)) = (fields.obj, fields.size, fields.open)
    else {
        return;
    };
    let Some(mut template) = RecordTemplate::new(object, first) else {
        return;
    };
    let mut padded = command.to_vec();
    padded.resize(PaddedText::length(command.len()), 0);
    let (offset, length) = fields.range;
    let undo = fields
        .undo
        .filter(|undo| *undo != Undo::Lost)
        .unwrap_or(Undo::None);
    let (map, crc) = (fields.numbers[0].unwrap_or(0), fields.crc.unwrap_or(0));
    let mut record = FastRecord {
        time: fields.time,
        command: PaddedText::new(&padded, command.len()).expect("padded"),
        op: fields.op,
        offset,
        length,
        template: &mut template,
        prev: fields.prev,
        size,
        undo,
        map,
        crc,
    };
    let (mut buffer, mut out, mut fast) = ([0; MAX_LINE], [0; MAX_LINE], [0; MAX_LINE]);
    let Ok(len) = record.seal(fields.seq, SEED.start(crc32c), crc32c, &mut fast) else {
        return;
    };
    let mut draft = LineDraft::new(&mut buffer, fields.time, command, fields.op, offset, length);
    draft.obj(object);
    if let Some(prev) = fields.prev {
        draft.prev(prev);
    }
    draft.size(size).open(OpenFileRef::Of(first)).undo(undo);
    if let Undo::At(_) = undo {
        if map != 0 {
            draft.map(map);
        }
        draft.crc(crc);
    }
    let drafted = draft
        .seal(fields.seq, &SEED, crc32c, &mut out)
        .expect("room");
    assert_eq!(
        fast[..len].escape_ascii().to_string(),
        out[..drafted].escape_ascii().to_string()
    );
}

/// Bytes as hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}
