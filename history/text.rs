// SPDX-License-Identifier: GPL-2.0

//! Words of the history's small text files: written into a buffer, read back.

// The library of the tests includes this file, and exports its public items.
#![allow(unreachable_pub)]

use core::fmt;

/// A buffer for formatted text; a write that does not fit fails.
pub struct Words<'a> {
    buf: &'a mut [u8],
    len: usize,
}

impl<'a> Words<'a> {
    /// Begins at the start of `buf`.
    pub fn new(buf: &'a mut [u8]) -> Self {
        Self { buf, len: 0 }
    }

    /// The bytes written.
    pub fn written(&self) -> &[u8] {
        self.buf.get(..self.len).unwrap_or_default()
    }
}

impl fmt::Write for Words<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len.checked_add(text.len()).ok_or(fmt::Error)?;
        let room = self.buf.get_mut(self.len..end).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

/// Bytes as hexadecimal digits.
pub struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The value of `key=` among words separated by spaces or newlines.
pub fn value<'a>(text: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    text.split(|&b| b == b' ' || b == b'\n')
        .find_map(|word| word.strip_prefix(key)?.strip_prefix(b"="))
}

/// A decimal number, as written by `{}`.
pub fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 20 || (digits.len() > 1 && digits.starts_with(b"0")) {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, &digit| {
        let digit = digit.checked_sub(b'0').filter(|&d| d <= 9)?;
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// The decimal number after `key=`.
pub fn number_of(text: &[u8], key: &[u8]) -> Option<u64> {
    number(value(text, key)?)
}

/// Reads hexadecimal digits into `out`; returns how many bytes.
pub fn hex(digits: &[u8], out: &mut [u8]) -> Option<usize> {
    if digits.len() % 2 != 0 {
        return None;
    }
    let bytes = out.get_mut(..digits.len() / 2)?;
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let mut value = 0u8;
        for &digit in pair {
            value = value.checked_mul(16)?.checked_add(nibble(digit)?)?;
        }
        *byte = value;
    }
    Some(digits.len() / 2)
}

/// A lower-case hexadecimal digit.
fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit.wrapping_sub(b'0')),
        b'a'..=b'f' => Some(digit.wrapping_sub(b'a').wrapping_add(10)),
        _ => None,
    }
}
