// SPDX-License-Identifier: MIT OR Apache-2.0

//! Names for people and for JSON. Names may hold any bytes but NUL; a terminal and a shell must
//! take none of them for an order.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::screen::is_plain;
use loggerfs_log::line::{decode_percent, encode_percent};

/// A path in quotes, in the syntax of a shell.
pub fn quoted(path: &Path) -> String {
    quote_bytes(path.as_os_str().as_bytes(), true)
}

/// A path as a word of a shell command, quoted only if necessary.
pub fn word(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    if bytes.starts_with(b"-") {
        return format!("./{}", quote_bytes(bytes, false));
    }
    quote_bytes(bytes, false)
}

/// Quotes bytes for a shell; `always`: even where there is no need.
pub fn quote_bytes(bytes: &[u8], always: bool) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_./@%+=:,-".contains(byte);
    match std::str::from_utf8(bytes) {
        Ok(text) if is_plain(text) => {
            if !always && !bytes.is_empty() && bytes.iter().all(plain) {
                text.to_owned()
            } else {
                format!("'{}'", text.replace('\'', r"'\''"))
            }
        }
        _ => {
            let escaped: String = bytes.iter().map(|byte| escape(*byte)).collect();
            format!("$'{escaped}'")
        }
    }
}

/// A byte between `$'` and `'`.
fn escape(byte: u8) -> String {
    match byte {
        b'\'' | b'\\' => format!("\\{}", char::from(byte)),
        b' '..=b'~' => char::from(byte).to_string(),
        _ => format!("\\x{byte:02x}"),
    }
}

/// The bytes of a percent-encoded value of a line; a malformed value is returned unchanged.
pub fn decoded(value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; value.len()];
    match decode_percent(value, &mut bytes) {
        Some(len) => {
            bytes.truncate(len);
            bytes
        }
        None => value.to_vec(),
    }
}

/// The last part of a line's COMMAND; `None`: there was none.
pub fn program(command: &[u8]) -> Option<String> {
    if command == b"-" {
        return None;
    }
    let path = decoded(command);
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(&path);
    Some(quote_bytes(name, false))
}

/// Base 64 with padding: for paths that JSON cannot hold.
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = [0, 1, 2].iter().fold(0, |word, i| {
            word << 8 | u32::from(*chunk.get(*i).unwrap_or(&0))
        });
        for place in 0..4 {
            let digit = (word >> (18 - 6 * place)) & 63;
            let digit = if place > chunk.len() {
                b'='
            } else {
                DIGITS[digit as usize]
            };
            text.push(char::from(digit));
        }
    }
    text
}

/// A name in the form of lines.
pub fn encoded(name: &[u8]) -> Vec<u8> {
    let mut encoded = vec![0; 3 * name.len()];
    let length = encode_percent(name, &mut encoded).unwrap_or(0);
    encoded.truncate(length);
    encoded
}
