// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The usual line, written in one go: that of an operation on content by an open file which has
//! told already who uses it.
//!
//! It says what a [`super::LineDraft`] with the same keys would say, but its number and segment are
//! known when it is written, so nothing is copied a second time; and what stays the same from one
//! line of an open file to the next is kept as text.

use super::{
    text::{
        self,
        Text, //
    },
    Crc,
    LineError,
    ObjectId,
    Op,
    Pos,
    Seed,
    Time,
    Undo, //
};

/// Text is copied this many bytes at a time.
const STEP: usize = 8;

/// What stays the same from one usual line of an open file to the next, as text.
#[derive(Clone, Copy)]
pub struct Kept {
    object: Word,
    open: Word,
    second: Second,
    /// With the colon behind it.
    segment: Number,
    length: Number,
    size: Number,
}

impl Kept {
    /// For lines about `object` by the open file whose first line has the number `first`. `None`:
    /// they do not fit into a usual line.
    pub fn new(object: ObjectId, first: u64) -> Option<Self> {
        Some(Self {
            object: Word::object(object)?,
            open: Word::open(first)?,
            second: Second {
                value: i64::MIN,
                ..Second::of(0)
            },
            segment: Number::with_colon(0),
            length: Number::of(0),
            size: Number::of(0),
        })
    }
}

/// One more than the largest number of seven digits.
const SEVEN: u32 = 10_000_000;

/// A number below 10^8 and its digits.
#[derive(Clone, Copy)]
struct Number {
    value: u32,
    digits: [u8; STEP],
    len: usize,
}

impl Number {
    fn of(value: u32) -> Self {
        let (digits, len) = text::digits(value);
        Self { value, digits, len }
    }
}

impl Number {
    /// A number of at most seven digits with a colon behind it.
    fn with_colon(value: u32) -> Self {
        let mut number = Self::of(value);
        if let Some(end) = number.digits.get_mut(number.len) {
            *end = b':';
        }
        number.len = number.len.wrapping_add(1);
        number
    }
}

/// A whole number of seconds of ten digits, from 2001 to 2286, and its text with the dot behind it.
#[derive(Clone, Copy)]
struct Second {
    value: i64,
    first: [u8; STEP],
    last: [u8; 3],
}

impl Second {
    fn of(value: i64) -> Self {
        // CAST: below 10^8; below a hundred. Other numbers are never asked for.
        let (high, low) = ((value / 100) as u32, (value % 100) as u8);
        Self {
            value,
            first: text::all_eight(high % text::EIGHT),
            last: [
                b'0'.wrapping_add(low / 10),
                b'0'.wrapping_add(low % 10),
                b'.',
            ],
        }
    }
}

/// A short text.
#[derive(Clone, Copy)]
struct Word {
    bytes: [u8; 5 * STEP],
    len: usize,
}

impl Word {
    /// ` obj=` and what the lines are about. `None`: too long to be kept.
    fn object(object: ObjectId) -> Option<Self> {
        Self::new(|text| {
            text.put(b" obj=");
            text.object(object);
        })
    }

    /// ` open=` and the number of an open file's first line.
    fn open(seq: u64) -> Option<Self> {
        Self::new(|text| {
            text.put(b" open=");
            text.dec(seq);
        })
    }

    fn new(write: impl FnOnce(&mut Text<'_>)) -> Option<Self> {
        let mut bytes = [0; 5 * STEP];
        let limit = bytes.len();
        let mut text = Text::new(&mut bytes, limit);
        write(&mut text);
        let len = (!text.is_short()).then_some(text.len())?;
        Some(Self { bytes, len })
    }
}

/// The executable's path, percent-encoded, with zeroes behind it up to a whole number of steps.
#[derive(Clone, Copy)]
pub struct Command<'a> {
    bytes: &'a [u8],
    len: usize,
}

impl<'a> Command<'a> {
    /// How many bytes a path of `len` bytes is made to take.
    pub const fn padded(len: usize) -> usize {
        len.next_multiple_of(STEP)
    }

    /// The path of `len` bytes that `bytes` begin with. `None`: there is none, or it is not padded.
    pub fn new(bytes: &'a [u8], len: usize) -> Option<Self> {
        (len != 0 && bytes.len() == Self::padded(len)).then_some(Self { bytes, len })
    }
}

/// What a usual line says beside its number.
pub struct Brief<'a> {
    /// When.
    pub time: Time,
    /// The program.
    pub command: Command<'a>,
    /// What was done, where.
    pub op: Op,
    /// Its offset.
    pub offset: u64,
    /// Its length.
    pub length: u64,
    /// The object and the open file, and what the last line said.
    pub kept: &'a mut Kept,
    /// The object's previous line.
    pub prev: Option<Pos>,
    /// The object's size before.
    pub size: u64,
    /// Where the old state is; not [`Undo::Lost`], which needs a word more.
    pub undo: Undo,
    /// With how many records the payload begins, if any.
    pub map: u64,
    /// The payload's checksum, if there is one.
    pub crc: u32,
}

/// The longest encoded path that a usual line has.
const COMMAND: usize = 512;

impl Brief<'_> {
    /// Writes the whole line and returns its length. Its checksum starts from `start`, which
    /// [`super::Seed::start`] gives.
    pub fn seal(
        &mut self,
        seq: u64,
        start: u32,
        crc: Crc,
        out: &mut [u8],
    ) -> Result<usize, LineError> {
        let mut line = Strip::new(out).ok_or(LineError::TooLong)?;
        self.head(&mut line)?;
        line.number(b" seq=", seq);
        line.words(&self.kept.object.bytes, self.kept.object.len);
        if let Some(prev) = self.prev {
            line.segment(b" prev=", prev.segment, &mut self.kept.segment);
            line.number(b"", prev.offset);
        }
        line.known(b" size=", self.size, &mut self.kept.size);
        line.words(&self.kept.open.bytes, self.kept.open.len);
        self.undo(&mut line);
        let sum = !crc(start, line.written());
        line.put(b" sum=");
        line.eight(text::hex_digits(sum), 8);
        line.put(b"\n");
        Ok(line.len)
    }

    #[inline(always)]
    fn head(&mut self, line: &mut Strip<'_>) -> Result<(), LineError> {
        if self.command.len > COMMAND {
            return Err(LineError::TooLong);
        }
        line.time(self.time, &mut self.kept.second);
        line.put(b" ");
        line.words(self.command.bytes, self.command.len);
        if self.op == Op::Write {
            line.put(b" write ");
        } else {
            line.put(b" ");
            line.slice(self.op.as_str().as_bytes());
            line.put(b" ");
        }
        // What is written at the end, as an append does, is told again as the size before it.
        if self.offset == self.size {
            line.known(b"", self.offset, &mut self.kept.size);
        } else {
            line.number(b"", self.offset);
        }
        line.known(b" ", self.length, &mut self.kept.length);
        Ok(())
    }

    #[inline(always)]
    fn undo(&mut self, line: &mut Strip<'_>) {
        match self.undo {
            Undo::None => {
                line.put(b" undo=no");
                line.put(b"ne");
            }
            Undo::Lost => line.slice(b" undo=lost"),
            Undo::At(extent) => {
                line.segment(b" undo=", extent.segment, &mut self.kept.segment);
                line.number(b"", extent.offset);
                line.known(b"+", extent.length, &mut self.kept.length);
                if self.map != 0 {
                    line.number(b" map=", self.map);
                }
                line.put(b" crc=");
                line.eight(text::hex_digits(self.crc), 8);
            }
        }
    }
}

/// More than any usual line takes: COMMAND, and less than 512 bytes of all else.
const LENGTH: usize = 1024;

/// Text in room for the longest usual line: eight bytes are stored at once wherever fewer are
/// meant, and no store has to ask whether it is in bounds, for the place is cut to the strip's
/// length.
struct Strip<'b> {
    bytes: &'b mut [u8; LENGTH + STEP],
    len: usize,
}

impl<'b> Strip<'b> {
    /// Empty text at the beginning of `out`. `None`: that is too short.
    fn new(out: &'b mut [u8]) -> Option<Self> {
        let bytes = out.first_chunk_mut()?;
        Some(Self { bytes, len: 0 })
    }

    fn written(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Adds the first `len` of eight bytes.
    #[inline(always)]
    fn eight(&mut self, bytes: [u8; STEP], len: usize) {
        let at = self.len & (LENGTH - 1);
        if let Some(room) = self.bytes.get_mut(at..at + STEP) {
            room.copy_from_slice(&bytes);
        }
        self.len = at.wrapping_add(len);
    }

    /// Adds a text of at most eight bytes.
    #[inline(always)]
    fn put<const N: usize>(&mut self, text: &[u8; N]) {
        const { assert!(N <= STEP) };
        if N == 0 {
            return;
        }
        let mut bytes = [0; STEP];
        for (to, from) in bytes.iter_mut().zip(text) {
            *to = *from;
        }
        self.eight(bytes, N);
    }

    /// Adds a text that is padded to whole steps.
    #[inline(always)]
    fn words(&mut self, bytes: &[u8], len: usize) {
        let start = self.len;
        for step in bytes.chunks_exact(STEP) {
            let mut eight = [0; STEP];
            eight.copy_from_slice(step);
            self.eight(eight, STEP);
        }
        self.len = start.wrapping_add(len);
    }

    /// Adds any text.
    fn slice(&mut self, text: &[u8]) {
        for byte in text {
            self.put(&[*byte]);
        }
    }

    /// Adds a key and a number.
    #[inline(always)]
    fn number<const N: usize>(&mut self, key: &[u8; N], number: u64) {
        self.put(key);
        match u32::try_from(number) {
            Ok(number @ 0..text::EIGHT) => {
                let (digits, len) = text::digits(number);
                self.eight(digits, len);
            }
            _ => self.long(number),
        }
    }

    /// Adds a key and a number that is likely the one that `kept` has, and is kept there.
    #[inline(always)]
    fn known<const N: usize>(&mut self, key: &[u8; N], number: u64, kept: &mut Number) {
        if u64::from(kept.value) != number {
            match u32::try_from(number) {
                Ok(number @ 0..text::EIGHT) => *kept = Number::of(number),
                _ => {
                    self.put(key);
                    return self.long(number);
                }
            }
        }
        self.put(key);
        self.eight(kept.digits, kept.len);
    }

    /// As [`Strip::known`], with a colon behind it.
    #[inline(always)]
    fn segment<const N: usize>(&mut self, key: &[u8; N], number: u64, kept: &mut Number) {
        if u64::from(kept.value) != number {
            match u32::try_from(number) {
                Ok(number @ 0..SEVEN) => *kept = Number::with_colon(number),
                _ => {
                    self.put(key);
                    self.long(number);
                    return self.put(b":");
                }
            }
        }
        self.put(key);
        self.eight(kept.digits, kept.len);
    }

    /// Adds a number of any length.
    #[inline(never)]
    fn long(&mut self, number: u64) {
        let mut bytes = [0; 20];
        let limit = bytes.len();
        let mut text = Text::new(&mut bytes, limit);
        text.dec(number);
        self.slice(text.written());
    }

    /// Adds a time with all nine digits of its fraction.
    #[inline(always)]
    fn time(&mut self, time: Time, kept: &mut Second) {
        if kept.value != time.sec {
            if !(1_000_000_000..=9_999_999_999).contains(&time.sec) {
                return self.odd_time(time);
            }
            *kept = Second::of(time.sec);
        }
        self.eight(kept.first, 8);
        self.put(&kept.last);
        self.fraction(time);
    }

    /// Adds the nine digits of a second's fraction.
    #[inline(always)]
    fn fraction(&mut self, time: Time) {
        // CAST: below ten.
        let first = (time.nsec / text::EIGHT % 10) as u8;
        self.put(&[b'0'.wrapping_add(first)]);
        self.eight(text::all_eight(time.nsec % text::EIGHT), 8);
    }

    /// Adds a time whose seconds are not ten digits.
    #[cold]
    fn odd_time(&mut self, time: Time) {
        if time.sec < 0 {
            self.put(b"-");
        }
        self.long(time.sec.unsigned_abs());
        self.put(b".");
        self.fraction(time);
    }
}
