// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Small pieces of ASCII, written into a fixed buffer and read from borrowed bytes.
//!
//! Generic formatting would cost more than all the rest of a line: eight digits are made at a
//! time, in the lanes of one register, and stored at once.

use super::super::types::{ObjectId, Pos, Time};

/// How many digits the fraction of a second has at most.
const NANO_DIGITS: usize = 9;

/// One more than the largest number of eight digits.
pub(super) const EIGHT: u32 = 100_000_000;

/// Marks a text in which something did not fit: as an offset, it is beyond any buffer.
const SHORT: usize = usize::MAX >> 1;

/// Text being written. Once something did not fit, further text is ignored until `rewind()`.
pub(super) struct Text<'b> {
    buf: &'b mut [u8],
    /// The number of bytes written, or [`SHORT`].
    len: usize,
}

impl<'b> Text<'b> {
    /// Empty text, to be written into at most `limit` bytes of `buf`.
    pub(super) fn new(buf: &'b mut [u8], limit: usize) -> Self {
        let limit = limit.min(buf.len());
        Self {
            buf: buf.get_mut(..limit).unwrap_or_default(),
            len: 0,
        }
    }

    /// The number of bytes written.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether something did not fit.
    pub(super) fn is_short(&self) -> bool {
        self.len == SHORT
    }

    /// The bytes written; empty if something did not fit.
    pub(super) fn written(&self) -> &[u8] {
        self.buf.get(..self.len).unwrap_or_default()
    }

    /// Goes back to an earlier length, from before something did not fit.
    pub(super) fn rewind(&mut self, len: usize) {
        self.len = len;
    }

    /// Takes the range [start, end) out of the text.
    pub(super) fn remove(&mut self, start: usize, end: usize) {
        let count = end.saturating_sub(start);
        if let Some(part) = self.buf.get_mut(start..self.len) {
            if count <= part.len() {
                part.rotate_left(count);
                self.len = self.len.saturating_sub(count);
            }
        }
    }

    /// Moves the text from `mark` to the end to `at`, before the text that was there.
    pub(super) fn move_back(&mut self, mark: usize, at: usize) {
        let len = self.len;
        if let Some(part) = self.buf.get_mut(at..len) {
            let tail = len.saturating_sub(mark);
            if tail <= part.len() {
                part.rotate_right(tail);
            }
        }
    }

    /// Adds bytes.
    #[inline(always)]
    pub(super) fn put(&mut self, bytes: &[u8]) {
        let end = self.len.wrapping_add(bytes.len());
        match self.buf.get_mut(self.len..end) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.len = end;
            }
            None => self.len = SHORT,
        }
    }

    /// Adds the first `count` of eight bytes.
    #[inline(always)]
    fn put_some(&mut self, bytes: [u8; 8], count: usize) {
        // Usually there is space for all, and one store will do.
        match self.buf.get_mut(self.len..self.len.wrapping_add(8)) {
            Some(room) => {
                room.copy_from_slice(&bytes);
                self.len = self.len.wrapping_add(count);
            }
            None => self.put_at_end(bytes, count),
        }
    }

    /// Adds the first `count` of eight bytes where there is no space for all.
    #[cold]
    fn put_at_end(&mut self, bytes: [u8; 8], count: usize) {
        self.put(bytes.get(..count).unwrap_or_default());
    }

    /// Adds an object.
    #[inline]
    pub(super) fn object(&mut self, object: ObjectId) {
        if object.volume != 0 {
            self.dec(object.volume);
            self.put(b".");
        }
        self.dec(object.inode);
        self.put(b".");
        self.dec(u64::from(object.generation));
    }

    /// Adds a decimal number.
    #[inline]
    pub(super) fn dec(&mut self, number: u64) {
        if number < u64::from(EIGHT) {
            // CAST: below 2^32.
            self.dec_below_eight(number as u32);
        } else {
            self.dec_long(number);
        }
    }

    /// Adds a number of more than eight digits.
    fn dec_long(&mut self, number: u64) {
        let eight = u64::from(EIGHT);
        let (rest, low) = (number / eight, number % eight);
        // CAST: both below 2^32.
        if rest < eight {
            self.dec_below_eight(rest as u32);
        } else {
            self.dec_below_eight((rest / eight) as u32);
            self.dec_all_eight((rest % eight) as u32);
        }
        self.dec_all_eight(low as u32);
    }

    /// Adds a number of at most eight digits.
    #[inline(always)]
    fn dec_below_eight(&mut self, number: u32) {
        let (digits, count) = digits(number);
        self.put_some(digits, count);
    }

    /// Adds all eight digits of a number.
    fn dec_all_eight(&mut self, number: u32) {
        self.put(&all_eight(number));
    }

    /// Adds eight lower-case hexadecimal digits.
    #[inline]
    pub(super) fn hex32(&mut self, number: u32) {
        self.put(&hex_digits(number));
    }

    /// Adds two lower-case hexadecimal digits for each byte.
    pub(super) fn hex(&mut self, bytes: &[u8]) {
        let end = self.len.saturating_add(bytes.len().saturating_mul(2));
        let Some(room) = self.buf.get_mut(self.len..end) else {
            self.len = SHORT;
            return;
        };
        let mut fours = bytes.chunks_exact(4);
        let mut eights = room.chunks_exact_mut(8);
        for (to, bytes) in (&mut eights).zip(&mut fours) {
            let mut four = [0; 4];
            four.copy_from_slice(bytes);
            to.copy_from_slice(&hex_digits(u32::from_be_bytes(four)));
        }
        let rest = eights.into_remainder().chunks_exact_mut(2);
        for (to, byte) in rest.zip(fours.remainder()) {
            let [.., high, low] = hex_digits(u32::from(*byte));
            to.copy_from_slice(&[high, low]);
        }
        self.len = end;
    }

    /// Adds the seconds of a time and its dot.
    fn seconds(&mut self, sec: i64) {
        if sec < 0 {
            self.put(b"-");
        }
        self.dec(sec.unsigned_abs());
        self.put(b".");
    }

    /// Adds a time with all nine digits of its fraction.
    pub(super) fn time(&mut self, time: Time) {
        self.seconds(time.sec);
        // CAST: below ten.
        self.put(&[b'0' | (time.nsec / EIGHT % 10) as u8]);
        self.dec_all_eight(time.nsec % EIGHT);
    }

    /// Adds a time without the zeroes at its fraction's end, of which one digit stays.
    pub(super) fn short_time(&mut self, time: Time) {
        self.time(time);
        let mut zeroes = 0;
        while zeroes < NANO_DIGITS - 1 && self.written().ends_with(b"0") {
            zeroes += 1;
            self.len = self.len.saturating_sub(1);
        }
    }

    /// Adds `SEGMENT:OFFSET`.
    pub(super) fn pos(&mut self, pos: Pos) {
        self.dec(pos.segment);
        self.put(b":");
        self.dec(pos.offset);
    }
}

/// The digit 0 in each of eight bytes.
const ASCII_ZEROES: u64 = 0x3030_3030_3030_3030;

/// The digits of a number below 10^8, one in each byte, the first in the lowest.
///
/// The number is halved into lanes three times; each division by a constant is a multiplication
/// whose result, below the lane's limit, is exact.
#[inline(always)]
fn eight_digits(number: u32) -> u64 {
    let fours = u64::from(number / 10_000) | u64::from(number % 10_000) << 32;
    let hundreds = (fours.wrapping_mul(10_486) >> 20) & 0x0000_007f_0000_007f;
    let ones = fours.wrapping_sub(hundreds.wrapping_mul(100));
    let twos = hundreds | ones << 16;
    let tens = (twos.wrapping_mul(103) >> 10) & 0x000f_000f_000f_000f;
    let ones = twos.wrapping_sub(tens.wrapping_mul(10));
    tens | ones << 8
}

/// All eight digits of a number below 10^8.
#[inline(always)]
pub(super) fn all_eight(number: u32) -> [u8; 8] {
    (eight_digits(number) | ASCII_ZEROES).to_le_bytes()
}

/// The digits of a number below 10^8 without leading zeroes, and how many there are.
#[inline(always)]
pub(super) fn digits(number: u32) -> ([u8; 8], usize) {
    let digits = eight_digits(number);
    // The first digit is in the lowest byte; bit 56 keeps the last digit even if the number is
    // zero.
    let zeroes = (digits | 1 << 56).trailing_zeros() / 8;
    let text = (digits | ASCII_ZEROES).wrapping_shr(zeroes.wrapping_mul(8));
    // CAST: at most seven.
    (text.to_le_bytes(), 8_usize.wrapping_sub(zeroes as usize))
}

/// Eight lower-case hexadecimal digits.
#[inline(always)]
pub(super) fn hex_digits(number: u32) -> [u8; 8] {
    let bytes = u64::from(number.swap_bytes());
    let bytes = (bytes | bytes << 16) & 0x0000_ffff_0000_ffff;
    let bytes = (bytes | bytes << 8) & 0x00ff_00ff_00ff_00ff;
    let high = (bytes >> 4) & 0x000f_000f_000f_000f;
    let low = (bytes & 0x000f_000f_000f_000f) << 8;
    let nibbles = high | low;
    // One in each byte above nine: `a` is 39 after the character that follows `9`.
    let letters = (nibbles.wrapping_add(0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
    nibbles
        .wrapping_add(ASCII_ZEROES)
        .wrapping_add(letters.wrapping_mul(39))
        .to_le_bytes()
}

/// Whether all bytes are printable ASCII or spaces.
pub(super) fn is_printable(bytes: &[u8]) -> bool {
    const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
    let mut chunks = bytes.chunks_exact(8);
    let mut bad = 0;
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        let word = u64::from_le_bytes(word);
        // A byte's high bit gets set if the byte is below a space, above a tilde or not ASCII. A
        // borrow or carry into another byte comes only from a bad byte.
        bad |= word.wrapping_sub(0x2020_2020_2020_2020)
            | word.wrapping_add(0x0101_0101_0101_0101)
            | word;
    }
    let mut rest = chunks.remainder().iter();
    bad & HIGH_BITS == 0 && rest.all(|byte| matches!(byte, b' '..=b'~'))
}

/// Reads a decimal number: digits only, none of them a needless zero.
pub(super) fn dec(bytes: &[u8]) -> Option<u64> {
    match bytes {
        [] => return None,
        [b'0', _, ..] => return None,
        _ => {}
    }
    let mut number: u64 = 0;
    for byte in bytes {
        number = number.checked_mul(10)?.checked_add(digit(*byte)?)?;
    }
    Some(number)
}

/// Reads a decimal number of 32 bits.
pub(super) fn dec32(bytes: &[u8]) -> Option<u32> {
    u32::try_from(dec(bytes)?).ok()
}

/// Reads eight lower-case hexadecimal digits.
pub(super) fn hex32(bytes: &[u8]) -> Option<u32> {
    if bytes.len() != 8 {
        return None;
    }
    bytes
        .iter()
        .try_fold(0, |number: u32, byte| Some(number << 4 | nibble(*byte)?))
}

/// The value of a lower-case hexadecimal digit.
pub(super) fn nibble(byte: u8) -> Option<u32> {
    match byte {
        b'0'..=b'9' => Some(u32::from(byte - b'0')),
        b'a'..=b'f' => Some(u32::from(byte - b'a') + 10),
        _ => None,
    }
}

/// The value of a decimal digit.
fn digit(byte: u8) -> Option<u64> {
    byte.is_ascii_digit().then(|| u64::from(byte - b'0'))
}

/// Reads a time whose fraction has at least `digits` digits.
pub(super) fn time(bytes: &[u8], digits: usize) -> Option<Time> {
    let (seconds, fraction) = split(bytes, b'.')?;
    let sec = match seconds {
        [b'-', rest @ ..] => 0i64.checked_sub_unsigned(dec(rest)?)?,
        _ => i64::try_from(dec(seconds)?).ok()?,
    };
    if fraction.len() < digits.max(1) || fraction.len() > NANO_DIGITS {
        return None;
    }
    let mut nsec: u64 = 0;
    for i in 0..NANO_DIGITS {
        let value = fraction.get(i).map_or(Some(0), |byte| digit(*byte))?;
        nsec = value.checked_add(nsec.checked_mul(10)?)?;
    }
    Some(Time {
        sec,
        nsec: u32::try_from(nsec).ok()?,
    })
}

/// Reads `SEGMENT:OFFSET`.
pub(super) fn pos(bytes: &[u8]) -> Option<Pos> {
    let (segment, offset) = split(bytes, b':')?;
    Some(Pos {
        segment: dec(segment)?,
        offset: dec(offset)?,
    })
}

/// Reads `INODE.GENERATION` or `VOLUME.INODE.GENERATION`.
pub(super) fn object(bytes: &[u8]) -> Option<ObjectId> {
    let (first, rest) = split(bytes, b'.')?;
    let (volume, inode, generation) = match split(rest, b'.') {
        Some((inode, generation)) => (dec(first)?, dec(inode)?, generation),
        None => (0, dec(first)?, rest),
    };
    Some(ObjectId {
        volume,
        inode,
        generation: dec32(generation)?,
    })
}

/// The bytes before and after the first `mark`.
pub(super) fn split(bytes: &[u8], mark: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == mark)?;
    Some((bytes.get(..at)?, bytes.get(at.checked_add(1)?..)?))
}
