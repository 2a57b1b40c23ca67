// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Percent encoding: any bytes as visible ASCII without spaces.
//!
//! Bytes outside 0x21..=0x7e, and `%` itself, become `%XX` with upper-case digits. `=` stays.

use super::{digits::nibble, MAX_COMMAND};

/// The digits of an escape.
const HEX: [u8; 16] = *b"0123456789ABCDEF";

/// Whether a byte is encoded as itself.
pub(super) fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e) && byte != b'%'
}

/// Whether eight bytes are all encoded as themselves.
pub(super) fn are_plain(bytes: [u8; 8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
    let lanes = u64::from_le_bytes(bytes);
    // No lane carries into the next one, unless a high bit is set: then the answer is no anyway.
    let from_visible = lanes.wrapping_add(ONES * (0x80 - 0x21));
    let above_tilde = lanes.wrapping_add(ONES);
    let no_percent = (lanes ^ ONES * 0x25).wrapping_add(ONES * 0x7f);
    let all = from_visible & no_percent & !lanes & !above_tilde & HIGH_BITS;
    all == HIGH_BITS
}

/// A byte's encoded form and its length.
pub(super) fn escape(byte: u8) -> ([u8; 3], usize) {
    if is_plain(byte) {
        ([byte, 0, 0], 1)
    } else {
        let digit = |value: u8| HEX.get(usize::from(value & 15)).copied().unwrap_or(b'0');
        ([b'%', digit(byte >> 4), digit(byte)], 3)
    }
}

/// Encodes as much of `src` as fits into `out`, whole escapes only. Returns how many bytes of
/// `src` were taken and how many bytes of `out` were filled.
fn encode_prefix(src: &[u8], out: &mut [u8]) -> (usize, usize) {
    let mut filled: usize = 0;
    for (taken, byte) in src.iter().enumerate() {
        let (escape, len) = escape(*byte);
        let end = filled.saturating_add(len);
        match (out.get_mut(filled..end), escape.get(..len)) {
            (Some(room), Some(escape)) => room.copy_from_slice(escape),
            _ => return (taken, filled),
        }
        filled = end;
    }
    (src.len(), filled)
}

/// Encodes `src` into `out`. Returns the length; `None` if `out` is too short.
pub fn encode_percent(src: &[u8], out: &mut [u8]) -> Option<usize> {
    let (taken, filled) = encode_prefix(src, out);
    (taken == src.len()).then_some(filled)
}

/// Encodes an executable's path as the line's COMMAND: `-` for none, cut at [`MAX_COMMAND`] bytes
/// (or at the end of `out`). Returns the length, and whether the path was cut.
pub fn encode_command(path: &[u8], out: &mut [u8]) -> (usize, bool) {
    let limit = out.len().min(MAX_COMMAND);
    let out = out.get_mut(..limit).unwrap_or_default();
    match path {
        [] => (encode_percent(b"-", out).unwrap_or(0), false),
        // A path that is a lone dash must not read as none.
        [b'-'] => match out.get_mut(..3) {
            Some(room) => {
                room.copy_from_slice(b"%2D");
                (3, false)
            }
            None => (0, true),
        },
        _ => {
            let (taken, filled) = encode_prefix(path, out);
            (filled, taken != path.len())
        }
    }
}

/// Decodes `src` into `out`. Returns the length, or `None` where an escape is malformed or the
/// result does not fit.
pub fn decode_percent(src: &[u8], out: &mut [u8]) -> Option<usize> {
    let mut rest = src;
    let mut filled: usize = 0;
    while let [byte, tail @ ..] = rest {
        let (value, tail) = match (*byte, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let value = upper_nibble(*high)? << 4 | upper_nibble(*low)?;
                (u8::try_from(value).ok()?, tail)
            }
            (plain, tail) if is_plain(plain) => (plain, tail),
            _ => return None,
        };
        *out.get_mut(filled)? = value;
        filled = filled.checked_add(1)?;
        rest = tail;
    }
    Some(filled)
}

/// The value of an upper-case hexadecimal digit.
fn upper_nibble(byte: u8) -> Option<u32> {
    match byte {
        b'a'..=b'f' => None,
        _ => nibble(byte.to_ascii_lowercase()),
    }
}
