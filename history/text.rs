// SPDX-License-Identifier: GPL-2.0

//! The words of the history's small text files.

// The library of the tests includes this file, and exports its public items.
#![allow(unreachable_pub)]

use crate::log::line::decode_decimal;

/// The value of `key=` among words separated by spaces or newlines.
pub fn value<'a>(text: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    text.split(|&b| b == b' ' || b == b'\n')
        .find_map(|word| word.strip_prefix(key)?.strip_prefix(b"="))
}

/// The decimal number after `key=`.
pub fn number_of(text: &[u8], key: &[u8]) -> Option<u64> {
    decode_decimal(value(text, key)?)
}
