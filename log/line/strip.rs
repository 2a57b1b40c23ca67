// SPDX-License-Identifier: GPL-2.0 OR MIT

//! A text buffer with stores of eight bytes, for the fast path of a line.

use super::super::types::{Crc, ObjectId, Time};
use super::{
    percent,
    text::{self, Text},
};

/// Text is copied this many bytes at a time.
const STEP: usize = 8;

/// One more than the largest number of seven digits.
const SEVEN: u32 = 10_000_000;

/// A number below 10^8 and its digits.
#[derive(Clone, Copy)]
pub(super) struct Number {
    value: u32,
    digits: [u8; STEP],
    len: usize,
}

impl Number {
    pub(super) fn of(value: u32) -> Self {
        let (digits, len) = text::digits(value);
        Self { value, digits, len }
    }

    /// A number of at most seven digits, followed by a colon.
    pub(super) fn with_colon(value: u32) -> Self {
        let mut number = Self::of(value);
        if let Some(end) = number.digits.get_mut(number.len) {
            *end = b':';
        }
        number.len = number.len.wrapping_add(1);
        number
    }
}

/// A time in whole seconds with ten digits, from 2001 to 2286, and its text with the dot.
#[derive(Clone, Copy)]
pub(super) struct Second {
    value: i64,
    first: [u8; STEP],
    last: [u8; 3],
}

impl Second {
    /// An arbitrary valid value, for an empty cache.
    pub(super) fn any() -> Self {
        Self::of(1_000_000_000)
    }

    fn of(value: i64) -> Self {
        // CAST: below 10^8; below a hundred. Other numbers are never asked for.
        let (high, low) = ((value / 100) as u32, (value % 100) as u8);
        let (tens, ones) = split_ten(low);
        Self {
            value,
            first: text::all_eight(high % text::EIGHT),
            last: [tens, ones, b'.'],
        }
    }
}

/// A short text.
#[derive(Clone, Copy)]
pub(super) struct Word {
    bytes: [u8; 5 * STEP],
    len: usize,
}

impl Word {
    /// ` obj=` and the object. `None`: too long for the cache.
    pub(super) fn object(object: ObjectId) -> Option<Self> {
        Self::new(|text| {
            text.put(b" obj=");
            text.object(object);
        })
    }

    /// ` open=` and the number of an open file's first line.
    pub(super) fn open(seq: u64) -> Option<Self> {
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

/// Encoded text, such as the executable's path, padded with zeroes to a multiple of eight bytes.
#[derive(Clone, Copy)]
pub struct PaddedText<'a> {
    bytes: &'a [u8],
    len: usize,
}

impl<'a> PaddedText<'a> {
    /// How many bytes a text of `len` bytes is made to take.
    pub const fn length(len: usize) -> usize {
        len.next_multiple_of(STEP)
    }

    /// The text of `len` bytes at the beginning of `bytes`. `None`: the text is empty or `bytes` is
    /// not padded.
    pub fn new(bytes: &'a [u8], len: usize) -> Option<Self> {
        (len != 0 && bytes.len() == Self::length(len)).then_some(Self { bytes, len })
    }

    /// The text's length.
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

/// The capacity: [texts of variable length](fits), and [`REST`].
const LENGTH: usize = 2048;

/// An upper bound for the rest of a line: all keys except the path, the process and the name.
const REST: usize = 512;

/// Whether texts of `long` bytes in total fit beside the rest of a line.
pub(super) fn fits(long: usize) -> bool {
    long <= LENGTH - REST
}

/// The digits of a number below a hundred.
fn split_ten(number: u8) -> (u8, u8) {
    (
        b'0'.wrapping_add(number / 10),
        b'0'.wrapping_add(number % 10),
    )
}

/// Text in a buffer that holds the longest such line. A store always writes eight bytes, of which
/// only the wanted ones count, and the offset is masked to the capacity, so a store needs no bounds
/// check.
pub(super) struct Strip<'b> {
    bytes: &'b mut [u8; LENGTH + STEP],
    len: usize,
}

impl<'b> Strip<'b> {
    /// Empty text at the beginning of `out`. `None`: that is too short.
    pub(super) fn new(out: &'b mut [u8]) -> Option<Self> {
        let bytes = out.first_chunk_mut()?;
        Some(Self { bytes, len: 0 })
    }

    pub(super) fn written(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Adds the first `len` of eight bytes.
    #[inline(always)]
    pub(super) fn eight(&mut self, bytes: [u8; STEP], len: usize) {
        let at = self.len & (LENGTH - 1);
        if let Some(room) = self.bytes.get_mut(at..at + STEP) {
            room.copy_from_slice(&bytes);
        }
        self.len = at.wrapping_add(len);
    }

    /// Adds a text of at most eight bytes.
    #[inline(always)]
    pub(super) fn put<const N: usize>(&mut self, text: &[u8; N]) {
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
    pub(super) fn padded(&mut self, text: PaddedText<'_>) {
        self.words(text.bytes, text.len);
    }

    /// Adds a kept word.
    #[inline(always)]
    pub(super) fn word(&mut self, word: &Word) {
        self.words(&word.bytes, word.len);
    }

    /// Adds the first `len` of some bytes that are padded to whole steps.
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
    pub(super) fn slice(&mut self, text: &[u8]) {
        for byte in text {
            self.put(&[*byte]);
        }
    }

    /// Adds a key and a number.
    #[inline(always)]
    pub(super) fn number<const N: usize>(&mut self, key: &[u8; N], number: u64) {
        self.put(key);
        match u32::try_from(number) {
            Ok(number @ 0..text::EIGHT) => self.below_eight(number),
            Ok(number) => self.ten(number),
            Err(_) => self.long(number),
        }
    }

    /// Adds a key and a number that is likely the one that `kept` has, and is kept there.
    #[inline(always)]
    pub(super) fn known<const N: usize>(&mut self, key: &[u8; N], number: u64, kept: &mut Number) {
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

    /// As [`Strip::known`], followed by a colon.
    #[inline(always)]
    pub(super) fn segment<const N: usize>(
        &mut self,
        key: &[u8; N],
        number: u64,
        kept: &mut Number,
    ) {
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
        let eight = u64::from(text::EIGHT);
        let (rest, low) = (number / eight, number % eight);
        if rest != 0 {
            let (high, middle) = (rest / eight, rest % eight);
            // CAST: all below 2^32.
            if high != 0 {
                self.below_eight(high as u32);
                self.eight(text::all_eight(middle as u32), STEP);
            } else {
                self.below_eight(middle as u32);
            }
            self.eight(text::all_eight(low as u32), STEP);
        } else {
            self.below_eight(low as u32);
        }
    }

    /// Adds a number of nine or ten digits.
    #[inline(never)]
    fn ten(&mut self, number: u32) {
        // CAST: At most 42.
        let (tens, ones) = split_ten((number / text::EIGHT) as u8);
        if tens == b'0' {
            self.put(&[ones]);
        } else {
            self.put(&[tens, ones]);
        }
        self.eight(text::all_eight(number % text::EIGHT), STEP);
    }

    /// Adds a number of at most eight digits.
    #[inline(always)]
    fn below_eight(&mut self, number: u32) {
        let (digits, len) = text::digits(number);
        self.eight(digits, len);
    }

    /// Adds a time with all nine digits of its fraction.
    #[inline(always)]
    pub(super) fn time(&mut self, time: Time, kept: &mut Second) {
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

    /// Adds a key and an object.
    pub(super) fn object<const N: usize>(&mut self, key: &[u8; N], object: ObjectId) {
        self.put(key);
        if object.volume != 0 {
            self.number(b"", object.volume);
            self.put(b".");
        }
        self.number(b"", object.inode);
        self.number(b".", u64::from(object.generation));
    }

    /// Adds two lower-case hexadecimal digits for each byte.
    pub(super) fn hex(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(4);
        for word in &mut words {
            let mut four = [0; 4];
            four.copy_from_slice(word);
            self.eight(text::hex_digits(u32::from_be_bytes(four)), STEP);
        }
        for byte in words.remainder() {
            let [.., high, low] = text::hex_digits(u32::from(*byte));
            self.put(&[high, low]);
        }
    }

    /// Adds text, percent-encoded.
    pub(super) fn encoded(&mut self, text: &[u8]) {
        let mut steps = text.chunks_exact(STEP);
        for step in &mut steps {
            let mut eight = [0; STEP];
            eight.copy_from_slice(step);
            self.encoded_step(eight, step);
        }
        let rest = steps.remainder();
        let mut eight = *b"........";
        // A call of memcpy() would cost more.
        for (to, from) in eight.iter_mut().zip(rest) {
            *to = *from;
        }
        self.encoded_step(eight, rest);
    }

    /// Adds `part`, which `eight` begins with, percent-encoded.
    #[inline(always)]
    fn encoded_step(&mut self, eight: [u8; STEP], part: &[u8]) {
        if percent::are_plain(eight) {
            self.eight(eight, part.len());
            return;
        }
        for byte in part {
            let ([first, second, third], len) = percent::escape(*byte);
            self.eight([first, second, third, 0, 0, 0, 0, 0], len);
        }
    }

    /// Adds the checksum and the newline; returns the line's length.
    #[inline(always)]
    pub(super) fn finish(mut self, start: u32, crc: Crc) -> usize {
        let sum = !crc(start, self.written());
        self.put(b" sum=");
        self.eight(text::hex_digits(sum), STEP);
        self.put(b"\n");
        self.len
    }
}
