// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The grammar of the log: one line, one operation.
//!
//! `TIME COMMAND OP OFFSET LENGTH seq=… key=value … sum=XXXXXXXX\n`,
//! plain ASCII, single spaces, at most [`MAX_LINE`] bytes. The kernel module, `logctl` and the
//! tests compile this file, so the code uses neither a kernel API nor an allocator.
//!
//! A [`LineDraft`] is built in a caller's buffer before the operation's number is known, and sealed
//! (number and checksum added) in one pass of copies. [`Line::parse`] borrows from the bytes it
//! reads.

mod arguments;
mod buffer;
mod cached;
mod digits;
mod draft;
mod fast_name_record;
mod fast_record;
mod fields;
mod fold;
mod keys;
mod mark;
mod parse;
mod percent;
mod process;
mod targets;
mod text;

pub use arguments::{
    started_arguments,
    ArgumentStarts, //
};
pub use buffer::FixedBuffer;
pub use cached::PaddedText;
pub use digits::{
    decode_decimal,
    decode_decimal32,
    decode_hex,
    decode_hex32,
    decode_padded_decimal, //
};
pub use draft::{
    actor_text,
    LineDraft,
    OpenFileRef, //
};
pub use fast_name_record::{
    FastNameRecord,
    NameTemplate, //
};
pub use fast_record::{
    FastRecord,
    RecordTemplate, //
};
pub use fold::{
    fold,
    refold,
    without_arguments,
    Amend,
    Fold, //
};
pub use mark::{
    is_mark_message,
    is_mark_name,
    MAX_MARK_MESSAGE,
    MAX_MARK_NAME, //
};
pub use parse::{
    is_intact,
    split_line,
    Line, //
};
pub use percent::{
    decode_percent,
    encode_command,
    encode_percent, //
};
pub use process::{
    Ancestors,
    Process,
    ProcessGroup,
    MAX_ANCESTORS, //
};
pub use targets::{
    split as split_targets,
    width as target_width,
    TargetRanges,
    MAX_TARGETS_TEXT, //
};

use super::types::{Extent, ObjectId, Time};

/// The longest line, its newline included.
pub const MAX_LINE: usize = 4096;

/// The longest encoded COMMAND; a longer path is cut and the line says `cmdcut=1`.
pub const MAX_COMMAND: usize = 1024;

/// How many raw bytes of a program's arguments a line keeps.
pub const MAX_ARGS: usize = 256;

/// `undo=`: the location of the old state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Undo {
    /// Nothing was lost but the old size.
    None,
    /// The old state was not saved: the operation cannot be taken back.
    Lost,
    /// The old state lies here.
    At(Extent),
}

/// Whether a revert is an undo or an operation of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// An undo: the next undo continues before it, and only a redo reverts it.
    Walk,
    /// An ordinary operation, which an undo takes back.
    Pick,
}

/// The acting process. An open file's first line in each segment has these fields; later lines
/// inherit them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Actor<'a> {
    /// The process (thread group).
    pub pid: u32,
    /// When that process started.
    pub start: Time,
    /// Its parent.
    pub ppid: u32,
    /// Its session.
    pub sid: u32,
    /// Its process group.
    pub group: ProcessGroup,
    /// The short name of the group's leader, raw; empty: the process leads the group itself, or the
    /// leader has ended.
    pub group_comm: &'a [u8],
    /// The user id that the process acts as.
    pub uid: u32,
    /// Its short name, raw; empty: unknown.
    pub comm: &'a [u8],
    /// The number of times the process called exec.
    pub exec: u64,
    /// Its arguments, raw, separated by NUL; empty: not gathered.
    pub args: &'a [u8],
}

/// Why a line could not be written or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LineError {
    /// The line does not fit into the buffer given, or exceeds [`MAX_LINE`].
    TooLong,
    /// The end is missing: no newline, or no checksum before the newline.
    Torn,
    /// The checksum does not match: damaged, or not of this segment and history.
    Sum,
    /// One of the first five fields is malformed.
    Head,
    /// The operation is none that we know.
    UnknownOp,
    /// A word after the head is no `key=value`.
    Key,
    /// A key occurs twice.
    Repeated,
    /// A key's value is malformed or out of range.
    Value,
    /// `seq=` is missing.
    NoNumber,
}

impl LineError {
    /// The reason in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "the line is too long",
            Self::Torn => "the end of the line is missing",
            Self::Sum => "the checksum does not match",
            Self::Head => "one of the first five fields is malformed",
            Self::UnknownOp => "the operation is unknown",
            Self::Key => "a word is no key=value",
            Self::Repeated => "a key occurs twice",
            Self::Value => "a value is malformed",
            Self::NoNumber => "the line has no number",
        }
    }
}

/// A word between two spaces, then zeroes, and in the last byte the length of the three.
const fn spaced(word: &[u8]) -> [u8; 16] {
    assert!(word.len() <= 13);
    let mut text = [0; 16];
    text[0] = b' ';
    let mut len = 1;
    while len <= word.len() {
        text[len] = word[len - 1];
        len += 1;
    }
    text[len] = b' ';
    // CAST: At most 15.
    text[15] = (len + 1) as u8;
    text
}

/// Declares the operations with their names in the log.
macro_rules! operations {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// The operation: the line's third word.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Op {
            $($(#[$doc])* $variant,)*
        }

        impl Op {
            /// Every operation, in the order of their declaration.
            pub const ALL: &'static [Op] = &[$(Op::$variant,)*];

            /// The word in the log.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The word between two spaces: bytes that begin with these, and their number.
            #[inline(always)]
            pub(crate) fn spaced(self) -> (&'static [u8; 16], usize) {
                const NONE: &[u8; 16] = &[0; 16];
                static WORDS: &[[u8; 16]] = &[$(spaced($name.as_bytes()),)*];
                // CAST: The index of a variant.
                let word = WORDS.get(self as usize).unwrap_or(NONE);
                (word, usize::from(word[15]))
            }

            /// The operation that a word of the log names.
            pub fn parse(word: &[u8]) -> Option<Self> {
                $(if word == $name.as_bytes() {
                    return Some(Self::$variant);
                })*
                None
            }
        }
    };
}

operations! {
    /// Bytes were written.
    Write = "write",
    /// The size was set.
    Truncate = "truncate",
    /// A mapped run of pages was dirtied.
    Mmap = "mmap",
    /// Blocks were allocated.
    Allocate = "allocate",
    /// A hole was punched.
    Punch = "punch",
    /// A range was zeroed.
    Zero = "zero",
    /// A range was removed, and the bytes after it moved down (`FALLOC_FL_COLLAPSE_RANGE`).
    Collapse = "collapse",
    /// A range was inserted, and the bytes after it moved up (`FALLOC_FL_INSERT_RANGE`).
    Insert = "insert",
    /// Bytes were copied in from another file or place.
    Copy = "copy",
    /// Blocks were shared in from another file or place.
    Clone = "clone",
    /// A regular file was created.
    Create = "create",
    /// A directory was created.
    Mkdir = "mkdir",
    /// A special file was created.
    Mknod = "mknod",
    /// A symbolic link was created.
    Symlink = "symlink",
    /// A further name was given.
    Link = "link",
    /// A name was removed.
    Unlink = "unlink",
    /// A directory was removed.
    Rmdir = "rmdir",
    /// A name was moved.
    Rename = "rename",
    /// Two names were exchanged.
    Exchange = "exchange",
    /// Owner, mode or times were set.
    Setattr = "setattr",
    /// An extended attribute was set or removed.
    Setxattr = "setxattr",
    /// An access control list was set or removed.
    Setacl = "setacl",
    /// Inode flags were set.
    Setflags = "setflags",
    /// Operations were taken back.
    Revert = "revert",
    /// A revert was taken back.
    Redo = "redo",
    /// The intent that `of=` names was applied.
    Commit = "commit",
    /// The line that `of=` names did not happen.
    Cancel = "cancel",
    /// The line that `of=` names happened with this range.
    Amend = "amend",
    /// Further targets of the revert whose line follows, which did not fit into that line.
    Picked = "picked",
    /// The object's state after its last operation.
    Close = "close",
    /// The object was changed outside.
    External = "external",
    /// The object was taken as found after an unclean shutdown.
    Resync = "resync",
    /// A user gave this place of the history a name. The line is of no object.
    Mark = "mark",
}

impl Op {
    /// Whether the line is the history's own bookkeeping, not an operation of a user.
    pub const fn is_bookkeeping(self) -> bool {
        matches!(
            self,
            Self::Commit
                | Self::Cancel
                | Self::Amend
                | Self::Picked
                | Self::Close
                | Self::External
                | Self::Resync
                | Self::Mark
        )
    }

    /// Whether the inverse is: put the old attributes back.
    pub const fn changes_attributes(self) -> bool {
        matches!(
            self,
            Self::Setattr | Self::Setxattr | Self::Setacl | Self::Setflags
        )
    }

    /// Whether an operation moves the content after its range: everything up to the end of the file
    /// is saved.
    pub const fn moves_content(self) -> bool {
        matches!(self, Self::Collapse | Self::Insert)
    }

    /// Whether the inverse is: put the payload's ranges back, then set the old size.
    pub const fn changes_content_in_place(self) -> bool {
        matches!(
            self,
            Self::Write
                | Self::Truncate
                | Self::Mmap
                | Self::Allocate
                | Self::Punch
                | Self::Zero
                | Self::Collapse
                | Self::Insert
                | Self::Copy
                | Self::Clone
                | Self::Revert
                | Self::Redo
        )
    }
}
