// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The ioctls: numbers and structures, one source for the kernel module and `logctl`.
//!
//! Two plain commands are there for scripts. All else is versioned: a wrong version, an unknown
//! flag or a reserved field that is not zero is answered with `EINVAL`, so that these can mean
//! something later.

// Two crates include this file; each uses a part of it.
#![allow(dead_code, unreachable_pub)]

use core::mem::size_of;

/// Copies the newest whole lines of the file that fit into a buffer of [`PAGE`] bytes, in the
/// order of time, and returns their length. The argument is the buffer's address.
pub const IOC_READLOG_PAGE: u32 = 0x1000;

/// The length of the buffer that [`IOC_READLOG_PAGE`] fills.
pub const PAGE: usize = 4096;

/// Reverts the newest live operations of the file. The argument is their number, 0 for one; above
/// [`MAX_COUNT`] is `EINVAL`. Returns 0.
pub const IOC_REVERT: u32 = 0x2000;

/// The most operations that one revert takes back.
pub const MAX_COUNT: u64 = (1 << 31) - 1;

/// The version of all structures here.
pub const VERSION: u32 = 1;

/// The letter of our versioned commands.
pub const GROUP: u8 = b'L';

/// The number of [`Revert`]'s command in [`GROUP`].
pub const NR_REVERT: u8 = 1;
/// The number of [`ReadLog`]'s command in [`GROUP`].
pub const NR_READLOG: u8 = 2;
/// The number of [`Status`]' command in [`GROUP`].
pub const NR_STATUS: u8 = 3;

/// The number of [`ReadHistory`]'s command in [`GROUP`].
pub const NR_HISTORY: u8 = 4;
/// The number of [`RevertGroup`]'s command in [`GROUP`].
pub const NR_REVERT_GROUP: u8 = 5;
/// The number of [`ReadPast`]'s command in [`GROUP`].
pub const NR_READ_PAST: u8 = 6;
/// The number of [`PlaceMark`]'s command in [`GROUP`].
pub const NR_MARK: u8 = 7;

/// `_IOWR('L', 1, struct revert)`.
pub const IOC_REVERT_SOME: u32 = iowr(NR_REVERT, size_of::<Revert>());
/// `_IOWR('L', 2, struct read_log)`.
pub const IOC_READLOG: u32 = iowr(NR_READLOG, size_of::<ReadLog>());
/// `_IOWR('L', 3, struct status)`.
pub const IOC_STATUS: u32 = iowr(NR_STATUS, size_of::<Status>());
/// `_IOWR('L', 4, struct read_history)`.
pub const IOC_READ_HISTORY: u32 = iowr(NR_HISTORY, size_of::<ReadHistory>());
/// `_IOWR('L', 5, struct revert_group)`.
pub const IOC_REVERT_GROUP: u32 = iowr(NR_REVERT_GROUP, size_of::<RevertGroup>());

/// `_IOWR('L', 6, struct read_past)`.
pub const IOC_READ_PAST: u32 = iowr(NR_READ_PAST, size_of::<ReadPast>());

/// `_IOWR('L', 7, struct place_mark)`.
pub const IOC_MARK: u32 = iowr(NR_MARK, size_of::<PlaceMark>());

/// `_IOWR` of [`GROUP`]: both directions, the structure's size, the letter, the number. "Both
/// directions" has the same value also where the architecture counts them otherwise.
const fn iowr(number: u8, size: usize) -> u32 {
    // CAST: our structures are some hundred bytes long; the field has at least 13 bits.
    3 << 30 | (size as u32 & 0x1fff) << 16 | (GROUP as u32) << 8 | number as u32
}

/// Reverts operations of one object, and reports the result or the conflict.
///
/// The reply is written on failure, too: `reason` and `blocking_seq` are more specific than the
/// errno.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Revert {
    /// In: [`VERSION`].
    pub version: u32,
    /// In: [`Revert::FORCE`] and others.
    pub flags: u32,
    /// In: how many operations, 0 for one, at most [`MAX_COUNT`].
    pub count: u64,
    /// Out: how many were taken back.
    pub reverted: u64,
    /// Out: the number of the line that is in the way; 0: none.
    pub blocking_seq: u64,
    /// Out: why the request was refused, a [`Reason`]; 0 on success.
    pub reason: u32,
    /// In: zero. Out: the number of operations reverted inside of restored directories
    /// ([`Revert::DEEP`]), at most `u32::MAX`.
    pub inside: u32,
}

impl Revert {
    /// Insist, although the object was changed outside.
    pub const FORCE: u32 = 1;
    /// Restore a removed directory with everything the same process had removed from it before.
    pub const DEEP: u32 = 2;

    /// Do not capture the replaced content: needs no space, but the revert cannot be redone.
    pub const NO_REDO: u32 = 16;

    /// Whether a request is one that this version knows.
    pub const fn is_valid(&self) -> bool {
        self.version == VERSION
            && self.flags & !(Self::FORCE | Self::DEEP | Self::NO_REDO) == 0
            && self.count <= MAX_COUNT
            && self.inside == 0
    }
}

/// Reads an object's lines, newest first, as many whole ones in each call as fit.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadLog {
    /// In: [`VERSION`].
    pub version: u32,
    /// In: [`ReadLog::ALL`].
    pub flags: u32,
    /// In: the segment to go on in, from the call before. Out: where to go on;
    /// [`ReadLog::END`]: there is no more.
    pub cursor_segment: u64,
    /// In and out: the offset in that segment. Both 0: from the newest line on.
    pub cursor_offset: u64,
    /// In: the buffer's address.
    pub buffer: u64,
    /// In: the buffer's length, at least [`PAGE`].
    pub length: u32,
    /// Out: the number of bytes written to the buffer.
    pub used: u32,
}

impl ReadLog {
    /// Also reverted lines and maintenance lines.
    pub const ALL: u32 = 1;

    /// The cursor's segment when there is no more.
    pub const END: u64 = u64::MAX;

    /// Whether a request is one that this version knows.
    pub const fn is_valid(&self) -> bool {
        self.version == VERSION
            && self.flags & !Self::ALL == 0
            && self.length as usize >= PAGE
            && self.cursor_segment != Self::END
    }
}

/// Reads the lines of a whole mount, at most one segment per call, oldest first within a call. Only
/// lines of objects whose history the caller may read are returned.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadHistory {
    /// In: [`VERSION`].
    pub version: u32,
    /// In: [`ReadHistory::BACKWARD`] or zero.
    pub flags: u32,
    /// In: the segment; 0: the newest. Out: which one that was.
    pub segment: u64,
    /// In: the offset to go on at; 0: the beginning. Out: where to go on; [`ReadHistory::END`]: the
    /// segment ends here. With [`ReadHistory::BACKWARD`] in: the offset that the lines end at; 0: the end of
    /// the segment. Out: where they begin, and earlier ones end; 0: there are none before.
    pub offset: u64,
    /// Out: the segment before this one; 0: there is none.
    pub previous: u64,
    /// In: the buffer's address.
    pub buffer: u64,
    /// In: the buffer's length, at least [`ReadHistory::LEAST`].
    pub length: u32,
    /// Out: the number of bytes written to the buffer: for each line a [`HistoryLine`] and the
    /// line's bytes, zero-padded to a multiple of 8.
    pub used: u32,
}

impl ReadHistory {
    /// The offset when there is no more in the segment.
    pub const END: u64 = u64::MAX;

    /// The smallest buffer: the longest line fits.
    pub const LEAST: usize = PAGE + size_of::<HistoryLine>();

    /// Read the newest lines before the offset, from a part of the log that is half as long as the buffer.
    pub const BACKWARD: u32 = 1;

    /// The smallest buffer with [`ReadHistory::BACKWARD`]: half of it is longer than the longest line.
    pub const LEAST_BACKWARD: usize = 4 * PAGE;

    /// Whether a request is one that this version knows.
    pub const fn is_valid(&self) -> bool {
        let least = match self.flags {
            0 => Self::LEAST,
            _ => Self::LEAST_BACKWARD,
        };
        self.version == VERSION
            && self.flags & !Self::BACKWARD == 0
            && self.length as usize >= least
            && self.offset != Self::END
    }
}

/// Header of each line that [`ReadHistory`] returns.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistoryLine {
    /// Where the line begins in its segment.
    pub offset: u64,
    /// The line's length, including the newline.
    pub length: u32,
    /// Zero.
    pub reserved: u32,
}

/// An operation, by its line's number and place.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Operation {
    /// The line's number.
    pub seq: u64,
    /// Its segment.
    pub segment: u64,
    /// The line's offset in the segment.
    pub offset: u64,
}

/// Why an operation of a group cannot be taken back.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conflict {
    /// The operation to be reverted; 0 if the conflict concerns the whole request.
    pub seq: u64,
    /// The operation in the way; 0: none.
    pub blocker: u64,
    /// A [`Reason`].
    pub reason: u32,
    /// Zero.
    pub reserved: u32,
}

/// Reverts operations of any objects of a mount, all or none. Any open file or directory of the
/// mount accepts the request. The reply is written on failure, too.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RevertGroup {
    /// In: [`VERSION`].
    pub version: u32,
    /// In: [`RevertGroup::FORCE`] and others.
    pub flags: u32,
    /// In: the address of [`Operation`]s, the newest first.
    pub operations: u64,
    /// In: how many, at least one and at most [`RevertGroup::MOST`].
    pub count: u64,
    /// In: the address of an array of [`Conflict`]. On success the array lists operations that were
    /// not reverted ([`Reason::NotEmpty`]).
    pub conflicts: u64,
    /// In: how many fit.
    pub capacity: u32,
    /// Out: the number of conflicts; as many as fit were written.
    pub found: u32,
    /// Out: how many operations were taken back, or would be ([`RevertGroup::DRY_RUN`]).
    pub reverted: u64,
    /// Out: on how many objects.
    pub objects: u64,
    /// Out: how many bytes of content that replaced, or would replace.
    pub bytes: u64,
    /// Out: the number of the group's first line; 0: nothing was done.
    pub seq: u64,
    /// Out: the first conflict's [`Reason`]; 0 on success.
    pub reason: u32,
    /// In: zero. Out: how many operations were left out, since the objects that they are about are
    /// gone and never had a name.
    pub left_out: u32,
    /// Out: the operation in the way of the first conflict; 0: none.
    pub blocking_seq: u64,
}

impl RevertGroup {
    /// Insist, although objects were changed outside.
    pub const FORCE: u32 = 1;
    /// Check only; change nothing.
    pub const DRY_RUN: u32 = 2;
    /// An undo: a further undo continues before the reverted operations. Without this flag the
    /// revert is an operation like any other, and the next undo reverts it.
    pub const WALK: u32 = 4;
    /// The operations are undos, which are taken back themselves.
    pub const REDO: u32 = 8;

    /// Do not capture the replaced content: needs no space, but the revert cannot be redone.
    pub const NO_REDO: u32 = 16;

    /// The most operations in one request.
    pub const MOST: u64 = 1 << 20;

    const ALL: u32 = Self::FORCE | Self::DRY_RUN | Self::WALK | Self::REDO | Self::NO_REDO;

    /// Whether a request is one that this version knows.
    pub const fn is_valid(&self) -> bool {
        self.version == VERSION
            && self.flags & !Self::ALL == 0
            && self.count != 0
            && self.count <= Self::MOST
            && self.left_out == 0
    }
}

/// Reads the content and the attributes of an object as they were right after an operation. Nothing
/// is changed. The object is the open file, which must be readable, or any other object of the mount,
/// also one that has lost its last name and is kept. The reply is written on failure, too.
///
/// The content goes to a file of the caller's, at the same offsets. That of a symbolic link is its target. Holes
/// are left out, so that file should be empty; its size is for the caller to set.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadPast {
    /// In: [`VERSION`].
    pub version: u32,
    /// In: zero.
    pub flags: u32,
    /// In: the number of the last operation whose effect is included; 0: the oldest known state.
    pub seq: u64,
    /// In: the object's subvolume, or 0.
    pub volume: u64,
    /// In: the object's lower inode; 0: the object is the open file.
    pub inode: u64,
    /// In: the object's generation.
    pub generation: u32,
    /// In: the descriptor of a regular file that is open for writing; [`ReadPast::NO_OUTPUT`]: only
    /// the attributes are asked for.
    pub output: i32,
    /// In: the address of a buffer for the attributes, in the form of a payload's (docs/format.md).
    pub attributes: u64,
    /// In: the buffer's length.
    pub capacity: u32,
    /// Out: how many bytes the attributes take. If that is more than `capacity`, nothing is copied,
    /// and the call fails with `ERANGE`.
    pub used: u32,
    /// Out: the object's size, if it is a regular file; the length of a symbolic link's target.
    pub size: u64,
    /// Out: how many bytes were written to `output`.
    pub written: u64,
    /// Out: the number of the newest operation on the object that is included; 0: none is known.
    pub newest: u64,
    /// Out: the type bits of the object's mode.
    pub kind: u32,
    /// Out: why the request was refused, a [`Reason`]; 0 on success.
    pub reason: u32,
    /// Out: the number of the line that the old state ends at, with a `reason`; 0: none.
    pub blocking_seq: u64,
}

impl ReadPast {
    /// The value of `output` without one.
    pub const NO_OUTPUT: i32 = -1;

    /// Whether a request is one that this version knows.
    pub const fn is_valid(&self) -> bool {
        self.version == VERSION && self.flags == 0 && self.output >= Self::NO_OUTPUT
    }
}

/// Gives the present place of the mount's history a name: appends a `mark` line, which is durable when the call
/// returns. The descriptor is that of a directory that the caller owns or may write to (`EACCES`,
/// `ENOTDIR`). `EINVAL`: not a name or message as docs/format.md has them; `ENODATA`: history is off; `ENOSPC`: it
/// has no space left; `EROFS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlaceMark {
    /// In: [`VERSION`].
    pub version: u32,
    /// In: [`PlaceMark::RUN`].
    pub flags: u32,
    /// In: the address of the name.
    pub name: u64,
    /// In: the address of the message.
    pub message: u64,
    /// In: the length of the name, at most [`PlaceMark::MAX_NAME`].
    pub name_length: u32,
    /// In: the length of the message, at most [`PlaceMark::MAX_MESSAGE`]; 0: none.
    pub message_length: u32,
    /// In: zero. Out: the number of the line.
    pub seq: u64,
}

impl PlaceMark {
    /// The name is that of all that the calling process starts from now on.
    pub const RUN: u32 = 1;

    /// The longest name, in bytes.
    pub const MAX_NAME: u32 = 64;
    /// The longest message, in bytes.
    pub const MAX_MESSAGE: u32 = 256;

    /// Whether a request is one that this version knows.
    pub const fn is_valid(&self) -> bool {
        self.version == VERSION
            && self.flags & !Self::RUN == 0
            && self.name_length != 0
            && self.name_length <= Self::MAX_NAME
            && self.message_length <= Self::MAX_MESSAGE
            && self.seq == 0
    }
}

/// Status of a mount and of one object.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// In: [`VERSION`].
    pub version: u32,
    /// In: zero.
    pub flags: u32,
    /// Out: the history's UUID.
    pub uuid: [u8; 16],
    /// Out: the log format's version.
    pub format: u32,
    /// Out: [`Status::MOUNT_HISTORY`] and others.
    pub mount_flags: u32,
    /// Out: the mount's last number.
    pub seq: u64,
    /// Out: the object's subvolume, or 0.
    pub volume: u64,
    /// Out: the object's lower inode.
    pub inode: u64,
    /// Out: its generation.
    pub generation: u32,
    /// Out: zero.
    pub reserved: u32,
    /// Out: the number of the object's live operations, at most [`Status::MAX_LIVE`].
    pub live: u64,
    /// Out: the number of the object's newest live operation; 0 if none.
    pub last_seq: u64,
    /// Out: how many segments the history has.
    pub segments: u64,
    /// Out: how many bytes its log takes.
    pub log_bytes: u64,
    /// Out: how many bytes its payloads take.
    pub undo_bytes: u64,
    /// Out: the history's size limit in bytes; 0 if none.
    pub history_max: u64,
    /// Out: how many operations were let pass without their old state since the mount.
    pub lost: u64,
    /// Out: how many times the journal failed since the mount.
    pub errors: u64,
    /// Out: the policy when space runs out: [`Status::TRIM`] or [`Status::DENY`].
    pub on_full: u32,
    /// Out: the policy when the journal fails: [`Status::CONTINUE`] or [`Status::REFUSE`].
    pub on_error: u32,
    /// Out: after how many seconds changes are durable without fsync.
    pub commit_seconds: u32,
    /// Out: zero.
    pub reserved_middle: u32,
    /// Out: how many bytes the objects take that lost their last name and are kept.
    pub orphan_bytes: u64,
    /// Out: zero.
    pub reserved_tail: [u32; 12],
}

impl Status {
    /// History is on.
    pub const MOUNT_HISTORY: u32 = 1;
    /// The mount is private: the history ends with the mount.
    pub const MOUNT_PRIVATE: u32 = 2;
    /// The mount is read-only.
    pub const MOUNT_READ_ONLY: u32 = 4;
    /// The caller does not administer the mount: numbers about the whole of its history (`seq`,
    /// `segments`, `log_bytes`, `undo_bytes`, `orphan_bytes`, `lost`, `errors`) are left out, and are
    /// zero.
    pub const MOUNT_OF_OTHERS: u32 = 8;

    /// `on_full=trim`.
    pub const TRIM: u32 = 0;
    /// `on_full=deny`.
    pub const DENY: u32 = 1;
    /// `on_error=continue`.
    pub const CONTINUE: u32 = 0;
    /// `on_error=refuse`.
    pub const REFUSE: u32 = 1;

    /// Where counting `live` ends.
    pub const MAX_LIVE: u64 = 1_000_000;

    /// Whether a request is one that this version knows.
    pub const fn is_valid(&self) -> bool {
        self.version == VERSION && self.flags == 0
    }
}

// The same on every architecture: no gaps, whole words.
const _: () = assert!(size_of::<Revert>() == 40);
const _: () = assert!(size_of::<ReadLog>() == 40);
const _: () = assert!(size_of::<Status>() == 200);
const _: () = assert!(size_of::<ReadHistory>() == 48);
const _: () = assert!(size_of::<HistoryLine>() == 16);
const _: () = assert!(size_of::<Operation>() == 24);
const _: () = assert!(size_of::<Conflict>() == 24);
const _: () = assert!(size_of::<RevertGroup>() == 88);
const _: () = assert!(size_of::<ReadPast>() == 96);
const _: () = assert!(size_of::<PlaceMark>() == 40);

/// Declares why a revert is refused.
macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $code:literal,)*) => {
        /// Why a revert was refused. Nothing was changed then.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[$doc])* $variant = $code,)*
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)*];

            /// The number in the reply.
            pub const fn code(self) -> u32 {
                self as u32
            }

            /// The reason that a reply's number means; `None`: none, or one of a newer module.
            pub const fn from_code(code: u32) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The name, as in `--json`.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($variant),)*
                }
            }
        }
    };
}

reasons! {
    /// The object has no live operation (ENODATA).
    NothingLeft = 1,
    /// The old state was not saved (ENODATA).
    Lost = 2,
    /// The old state was dropped for want of space (ENODATA).
    Trimmed = 3,
    /// The object was changed outside (ESTALE).
    External = 4,
    /// The file is mapped through the lower filesystem (EBUSY).
    Mapped = 5,
    /// A later operation conflicts (EBUSY).
    Conflict = 6,
    /// The caller does not own the file, now or when the line was written (EPERM).
    NotOwner = 7,
    /// The descriptor is not open for writing (EBADF), or the file or mount is not writable.
    NotWritable = 8,
    /// No space for the redo payload (ENOSPC).
    NoSpace = 9,
    /// The saved bytes or the log fail their checksum (EUCLEAN).
    Corrupt = 10,
    /// History is off (ENODATA).
    HistoryOff = 11,
    /// The operation has no inverse yet (EOPNOTSUPP).
    Unsupported = 12,
    /// Reading or writing the journal or the file failed (EIO and others).
    Io = 13,
    /// The caller may not set the attributes that would be put back (EPERM).
    NotPermitted = 14,
    /// The object does not exist any more: reclaimed, or removed directly (ENODATA).
    Gone = 15,
    /// The file is being executed, or is a swap file (ETXTBSY).
    Executed = 16,
    /// The file has a lease that its holder did not release in time (EAGAIN).
    Leased = 17,
    /// A directory created by the operation is not empty, and is kept (ENOTEMPTY).
    NotEmpty = 18,
    /// Another process has not ended its operation on the object, or its request, in time:
    /// `blocking_seq` and `blocker` are its process id, 0 if that is not known (EBUSY).
    Busy = 19,
}
