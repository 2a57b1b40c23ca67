// SPDX-License-Identifier: GPL-2.0

//! The file `format`: identifies the history and the directory that owns it.

// The library of the tests includes this file, and exports its public items.
#![allow(unreachable_pub)]

use core::fmt::Write;

use super::text::{number_of, value};
use crate::log::line::{decode_hex, FixedBuffer};

/// The version that this module reads and writes.
pub const VERSION: u64 = 1;

/// The longest such file.
pub const MAX_FORMAT: usize = 1024;

/// Identifies the source directory: its file handle, or the inode's number and generation if the
/// filesystem has no handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root {
    /// The handle's type; 0: number and generation.
    pub kind: u8,
    /// How many bytes of `bytes` count.
    pub len: usize,
    /// The handle.
    pub bytes: [u8; 128],
}

impl Root {
    /// One of an inode's number and generation.
    pub fn from_inode(inode: u64, generation: u32) -> Self {
        let mut bytes = [0; 128];
        let number = inode.to_le_bytes();
        for (to, from) in bytes
            .iter_mut()
            .zip(number.iter().chain(&generation.to_le_bytes()))
        {
            *to = *from;
        }
        Self {
            kind: 0,
            len: 12,
            bytes,
        }
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// The fields of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// The history's own name.
    pub uuid: [u8; 16],
    /// The directory that owns the history.
    pub root: Root,
}

/// Why a `format` cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// The text is no `format`, or damaged.
    Malformed,
    /// The format version is unknown.
    Version(u64),
}

/// Writes the file's text to `out`, of [`MAX_FORMAT`] bytes; returns the length. `None`: it does not
/// fit.
pub fn encode(format: &Format, created: i64, out: &mut [u8]) -> Option<usize> {
    let mut text = FixedBuffer::<MAX_FORMAT>::at(out)?;
    write!(text, "loggerfs-history version={VERSION}\nuuid=").ok()?;
    text.hex(&format.uuid);
    text.put(b"\nroot=");
    text.hex(&[format.root.kind]);
    text.hex(format.root.bytes());
    writeln!(text, "\ncreated={created}").ok()?;
    text.whole()
}

/// Reads the file's text.
pub fn parse(text: &[u8]) -> Result<Format, Unusable> {
    if !text.starts_with(b"loggerfs-history ") || !text.ends_with(b"\n") {
        return Err(Unusable::Malformed);
    }
    match number_of(text, b"version") {
        Some(VERSION) => parse_fields(text).ok_or(Unusable::Malformed),
        Some(other) => Err(Unusable::Version(other)),
        None => Err(Unusable::Malformed),
    }
}

fn parse_fields(text: &[u8]) -> Option<Format> {
    let mut uuid = [0; 16];
    if decode_hex(value(text, b"uuid")?, &mut uuid)? != 16 {
        return None;
    }
    let mut handle = [0; 129];
    let len = decode_hex(value(text, b"root")?, &mut handle)?.checked_sub(1)?;
    let (kind, rest) = handle.split_first()?;
    let mut bytes = [0; 128];
    bytes.copy_from_slice(rest);
    Some(Format {
        uuid,
        root: Root {
            kind: *kind,
            len,
            bytes,
        },
    })
}
