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

/// A short text that is kept.
#[derive(Clone, Copy)]
pub struct Word {
    bytes: [u8; 5 * STEP],
    len: usize,
}

impl Word {
    /// ` obj=` and what the lines are about. `None`: too long to be kept.
    pub fn object(object: ObjectId) -> Option<Self> {
        Self::new(|text| {
            text.put(b" obj=");
            text.object(object);
        })
    }

    /// ` open=` and the number of an open file's first line.
    pub fn open(seq: u64) -> Option<Self> {
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
    /// What it is about.
    pub object: &'a Word,
    /// The object's previous line.
    pub prev: Option<Pos>,
    /// The object's size before.
    pub size: u64,
    /// The open file.
    pub open: &'a Word,
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
    /// Writes the whole line and returns its length.
    pub fn seal(
        &self,
        seq: u64,
        seed: &Seed,
        crc: Crc,
        out: &mut [u8],
    ) -> Result<usize, LineError> {
        let mut line = Strip::new(out).ok_or(LineError::TooLong)?;
        self.head(&mut line)?;
        line.number(b" seq=", seq);
        line.words(&self.object.bytes, self.object.len);
        if let Some(prev) = self.prev {
            line.number(b" prev=", prev.segment);
            line.number(b":", prev.offset);
        }
        line.number(b" size=", self.size);
        line.words(&self.open.bytes, self.open.len);
        self.undo(&mut line);
        let sum = seed.sum(crc, line.written());
        line.put(b" sum=");
        line.eight(text::hex_digits(sum), 8);
        line.put(b"\n");
        Ok(line.len)
    }

    #[inline(always)]
    fn head(&self, line: &mut Strip<'_>) -> Result<(), LineError> {
        if self.command.len > COMMAND {
            return Err(LineError::TooLong);
        }
        line.time(self.time);
        line.put(b" ");
        line.words(self.command.bytes, self.command.len);
        if self.op == Op::Write {
            line.put(b" write");
        } else {
            line.put(b" ");
            line.slice(self.op.as_str().as_bytes());
        }
        line.number(b" ", self.offset);
        line.number(b" ", self.length);
        Ok(())
    }

    #[inline(always)]
    fn undo(&self, line: &mut Strip<'_>) {
        match self.undo {
            Undo::None => line.slice(b" undo=none"),
            Undo::Lost => line.slice(b" undo=lost"),
            Undo::At(extent) => {
                line.number(b" undo=", extent.segment);
                line.number(b":", extent.offset);
                line.number(b"+", extent.length);
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
    fn time(&mut self, time: Time) {
        match u64::try_from(time.sec) {
            // From 2001 to 2286.
            Ok(sec @ 1_000_000_000..=9_999_999_999) => {
                // CAST: below a hundred; below 10^8.
                let high = (sec / u64::from(text::EIGHT)) as u8;
                let low = (sec % u64::from(text::EIGHT)) as u32;
                self.put(&[b'0'.wrapping_add(high / 10), b'0'.wrapping_add(high % 10)]);
                self.eight(text::all_eight(low), 8);
            }
            Ok(sec) => self.long(sec),
            Err(_) => {
                self.put(b"-");
                self.long(time.sec.unsigned_abs());
            }
        }
        // CAST: below ten.
        let first = (time.nsec / text::EIGHT % 10) as u8;
        self.put(&[b'.', b'0'.wrapping_add(first)]);
        self.eight(text::all_eight(time.nsec % text::EIGHT), 8);
    }
}
