// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Decimal and hexadecimal digits, written and read.
//!
//! Generic formatting would cost more than all the rest of a line: eight digits are made at a
//! time, in the lanes of one register, and stored at once.

/// One more than the largest number of eight digits.
pub(super) const EIGHT: u32 = 100_000_000;

/// The digit 0 in each of eight bytes.
const ASCII_ZEROES: u64 = 0x3030_3030_3030_3030;

/// The digits of a number below 10^8, one in each byte, the first in the lowest.
///
/// The number is halved into lanes three times; each division by a constant is a multiplication
/// whose result, below the lane's limit, is exact.
#[inline(always)]
fn lanes(number: u32) -> u64 {
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
    (lanes(number) | ASCII_ZEROES).to_le_bytes()
}

/// The digits of a number below 10^8 without leading zeroes, and how many there are.
#[inline(always)]
pub(super) fn digits(number: u32) -> ([u8; 8], usize) {
    let digits = lanes(number);
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

/// A number of fewer digits is below 2^64.
const WRAPS: usize = 20;

/// Reads a decimal number: digits only, none of them a needless zero.
pub fn decode_decimal(bytes: &[u8]) -> Option<u64> {
    match bytes {
        [b'0', _, ..] => None,
        _ => decode_padded_decimal(bytes),
    }
}

/// Reads a decimal number that may begin with zeroes.
pub fn decode_padded_decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    let mut number: u64 = 0;
    if bytes.len() < WRAPS {
        for byte in bytes {
            number = number.wrapping_mul(10).wrapping_add(digit(*byte)?);
        }
        return Some(number);
    }
    for byte in bytes {
        number = number.checked_mul(10)?.checked_add(digit(*byte)?)?;
    }
    Some(number)
}

/// As [`decode_decimal`], of 32 bits.
pub fn decode_decimal32(bytes: &[u8]) -> Option<u32> {
    u32::try_from(decode_decimal(bytes)?).ok()
}

/// The value of a decimal digit.
pub(super) fn digit(byte: u8) -> Option<u64> {
    byte.is_ascii_digit().then(|| u64::from(byte - b'0'))
}

/// Decodes pairs of lower-case hexadecimal digits into `out`. Returns the length, or `None`
/// where they are malformed or do not fit.
pub fn decode_hex(src: &[u8], out: &mut [u8]) -> Option<usize> {
    let mut pairs = src.chunks_exact(2);
    let mut filled: usize = 0;
    for pair in &mut pairs {
        let [high, low] = pair else { return None };
        let value = nibble(*high)? << 4 | nibble(*low)?;
        *out.get_mut(filled)? = u8::try_from(value).ok()?;
        filled = filled.checked_add(1)?;
    }
    pairs.remainder().is_empty().then_some(filled)
}

/// Reads eight lower-case hexadecimal digits.
pub fn decode_hex32(bytes: &[u8]) -> Option<u32> {
    let mut number = [0; 4];
    (decode_hex(bytes, &mut number)? == 4).then_some(u32::from_be_bytes(number))
}

/// The value of a lower-case hexadecimal digit.
pub(super) fn nibble(byte: u8) -> Option<u32> {
    match byte {
        b'0'..=b'9' => Some(u32::from(byte - b'0')),
        b'a'..=b'f' => Some(u32::from(byte - b'a') + 10),
        _ => None,
    }
}
