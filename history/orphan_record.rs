// SPDX-License-Identifier: GPL-2.0

//! Names in `orphans/`. A name records which operation removed the object's last name, since a power
//! cut may take that operation's line but not the orphan.
//!
//! `INODE.GENERATION,PARENT,UID,SEQ,CAUSE,NAME`: the object; the file handle of the directory that
//! had the name, in hexadecimal; the user who removed it; a number that no earlier line has; the
//! kind of operation; and the name. If NAME does not fit, the entry has its beginning, and the
//! object has the whole name as an extended attribute.

use crate::log::{
    line::{decode_decimal, decode_decimal32, decode_hex, FixedBuffer},
    types::ObjectId,
};

/// The longest name of a file.
pub(crate) const NAME_MAX: usize = 255;

/// The longest file handle, its type byte included.
pub(crate) const HANDLE_MAX: usize = 65;

/// Between the words; a NAME may have more of them.
const COMMA: u8 = b',';

/// A name in a directory of orphans.
#[derive(Clone, Copy)]
pub(crate) struct EntryName {
    buf: [u8; NAME_MAX],
    len: usize,
    /// Whether the object's name did not fit.
    pub(crate) is_cut: bool,
}

impl EntryName {
    /// A name that is still to be written.
    pub(crate) const fn empty() -> Self {
        Self {
            buf: [0; NAME_MAX],
            len: 0,
            is_cut: false,
        }
    }

    /// A copy. `None`: no file can be called so.
    pub(crate) fn of(name: &[u8]) -> Option<Self> {
        let mut buf = [0; NAME_MAX];
        buf.get_mut(..name.len())?.copy_from_slice(name);
        Some(Self {
            buf,
            len: name.len(),
            is_cut: false,
        })
    }

    /// The prefix that all entries of an object share.
    pub(crate) fn beginning(object: ObjectId) -> Self {
        let mut buf = [0; NAME_MAX];
        let mut text = FixedBuffer::new(&mut buf);
        text.object(in_one_space(object));
        let len = text.written().len();
        Self {
            buf,
            len,
            is_cut: false,
        }
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.buf.get(..self.len).unwrap_or_default()
    }

    /// Whether `name` is an entry of the object whose entries begin so.
    pub(crate) fn begins(&self, name: &[u8]) -> bool {
        match name.strip_prefix(self.bytes()) {
            Some(rest) => rest.first() == Some(&COMMA),
            None => false,
        }
    }
}

/// Each lower filesystem has one number space below a mount.
fn in_one_space(object: ObjectId) -> ObjectId {
    ObjectId {
        volume: 0,
        ..object
    }
}

/// Why an object has lost its last name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The object was removed.
    Removal,
    /// Another object was renamed over the last name.
    Replacement,
    /// A revert, whose line was durable before.
    Revert,
}

impl Cause {
    /// Its letter; a capital one where the name is cut.
    fn letter(self, is_cut: bool) -> u8 {
        let letter = match self {
            Self::Removal => b'u',
            Self::Replacement => b'o',
            Self::Revert => b'r',
        };
        if is_cut {
            letter.to_ascii_uppercase()
        } else {
            letter
        }
    }

    fn parse(word: &[u8]) -> Option<(Self, bool)> {
        let &[letter] = word else { return None };
        let cause = match letter.to_ascii_lowercase() {
            b'u' => Self::Removal,
            b'o' => Self::Replacement,
            b'r' => Self::Revert,
            _ => return None,
        };
        Some((cause, letter.is_ascii_uppercase()))
    }
}

/// The fields of an entry's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OrphanRecord<'a> {
    /// The object.
    pub(crate) object: ObjectId,
    /// The file handle of the directory that had the name: type byte, then bytes. Empty if the
    /// directory has no handle.
    pub(crate) parent: &'a [u8],
    /// The user who removed the name.
    pub(crate) uid: u32,
    /// The line of that has this number or a later one.
    pub(crate) seq: u64,
    pub(crate) cause: Cause,
    /// Whether `name` is only the beginning of the name.
    pub(crate) is_cut: bool,
    pub(crate) name: &'a [u8],
}

impl<'a> OrphanRecord<'a> {
    /// Writes the entry over the former content of `entry`.
    pub(crate) fn write(&self, entry: &mut EntryName) {
        let mut text = FixedBuffer::new(&mut entry.buf);
        text.object(in_one_space(self.object));
        text.put(&[COMMA]);
        text.hex(self.parent);
        text.put(&[COMMA]);
        text.dec(u64::from(self.uid));
        text.put(&[COMMA]);
        text.dec(self.seq);
        text.put(&[COMMA]);
        // Only NAME can be too long, and its rest is in the extended attribute.
        let room = NAME_MAX.saturating_sub(text.len()).saturating_sub(2);
        entry.is_cut = self.name.len() > room;
        text.put(&[self.cause.letter(entry.is_cut), COMMA]);
        text.put(self.name.get(..room).unwrap_or(self.name));
        entry.len = text.written().len();
    }

    /// Parses an entry's name; the bytes of its handle go to `handle`. `None`: malformed.
    pub(crate) fn parse(entry: &'a [u8], handle: &'a mut [u8; HANDLE_MAX]) -> Option<Self> {
        let mut words = entry.splitn(6, |&byte| byte == COMMA);
        let mut numbers = words.next()?.splitn(2, |&byte| byte == b'.');
        let object = ObjectId {
            volume: 0,
            inode: decode_decimal(numbers.next()?)?,
            generation: decode_decimal32(numbers.next()?)?,
        };
        let len = decode_hex(words.next()?, handle)?;
        let uid = decode_decimal32(words.next()?)?;
        let seq = decode_decimal(words.next()?)?;
        let (cause, is_cut) = Cause::parse(words.next()?)?;
        let name = words.next().filter(|name| !name.is_empty())?;
        Some(Self {
            object,
            parent: handle.get(..len)?,
            uid,
            seq,
            cause,
            is_cut,
            name,
        })
    }
}
