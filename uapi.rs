// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The ioctls: numbers and structures, one source for the kernel module and `logctl`.
//!
//! Two plain commands are there for scripts. All else is versioned: a wrong version, an unknown
//! flag or a reserved field that is not zero is answered with `EINVAL`, so that these can mean
//! something later.

// Two crates include this file; what one does not use is there for the other.
#![allow(dead_code, unreachable_pub)]

use core::mem::size_of;

/// Copies the newest whole lines of the file that fit into a buffer of [`PAGE`] bytes, in the
/// order of time, and returns their length. The argument is the buffer's address.
pub const IOC_READLOG_PAGE: u32 = 0x1000;

/// The length of the buffer that [`IOC_READLOG_PAGE`] fills.
pub const PAGE: usize = 4096;

/// Takes back the newest standing operations of the file. The argument is their number, 0 for
/// one; above [`MAX_COUNT`] is `EINVAL`. Returns 0.
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

/// `_IOWR('L', 1, struct revert)`.
pub const IOC_REVERT_SOME: u32 = iowr(NR_REVERT, size_of::<Revert>());
/// `_IOWR('L', 2, struct read_log)`.
pub const IOC_READLOG: u32 = iowr(NR_READLOG, size_of::<ReadLog>());
/// `_IOWR('L', 3, struct status)`.
pub const IOC_STATUS: u32 = iowr(NR_STATUS, size_of::<Status>());

/// `_IOWR` of [`GROUP`]: both directions, the structure's size, the letter, the number. "Both
/// directions" has the same value also where the architecture counts them otherwise.
const fn iowr(number: u8, size: usize) -> u32 {
    // CAST: our structures are some hundred bytes long; the field has at least 13 bits.
    3 << 30 | (size as u32 & 0x1fff) << 16 | (GROUP as u32) << 8 | number as u32
}

/// Takes back operations, and says what was done or what is in the way.
///
/// The reply is written also where the call fails, so that `reason` and `seq_in_way` can name
/// what the error number cannot.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Revert {
    /// In: [`VERSION`].
    pub version: u32,
    /// In: [`Revert::FORCE`], [`Revert::DEEP`].
    pub flags: u32,
    /// In: how many operations, 0 for one, at most [`MAX_COUNT`].
    pub count: u64,
    /// Out: how many were taken back.
    pub reverted: u64,
    /// Out: the number of the line that is in the way; 0: none.
    pub seq_in_way: u64,
    /// Out: why it was refused, a [`Reason`]; 0: it was not.
    pub reason: u32,
    /// In: zero. Out: how many more were taken back inside of directories that came back
    /// ([`Revert::DEEP`]); `u32::MAX` stands for more than that, too.
    pub inside: u32,
}

impl Revert {
    /// Insist, although the object was changed outside.
    pub const FORCE: u32 = 1;
    /// Bring a removed directory back with what the same process had removed from it before.
    pub const DEEP: u32 = 2;

    /// Whether a request is one that this version knows.
    pub const fn is_valid(&self) -> bool {
        self.version == VERSION
            && self.flags & !(Self::FORCE | Self::DEEP) == 0
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
    /// Out: how many bytes of it were filled.
    pub used: u32,
}

impl ReadLog {
    /// Also lines that do not stand any more, and the history's own books.
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

/// How a mount and one object on it stand.
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
    /// Out: [`Status::MOUNT_HISTORY`] and kin.
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
    /// Out: how many of the object's operations stand; counted up to [`Status::MAX_STANDING`].
    pub standing: u64,
    /// Out: the number of the object's newest standing operation; 0: none.
    pub last_seq: u64,
    /// Out: how many segments the history has.
    pub segments: u64,
    /// Out: how many bytes its log takes.
    pub log_bytes: u64,
    /// Out: how many bytes its payloads take.
    pub undo_bytes: u64,
    /// Out: how many bytes it may take in all; 0: no bound.
    pub history_max: u64,
    /// Out: how many operations were let pass without their old state since the mount.
    pub lost: u64,
    /// Out: how many times the journal failed since the mount.
    pub errors: u64,
    /// Out: what happens when there is no room: [`Status::TRIM`] or [`Status::DENY`].
    pub on_full: u32,
    /// Out: what happens when the journal fails: [`Status::CONTINUE`] or [`Status::REFUSE`].
    pub on_error: u32,
    /// Out: after how many seconds changes are durable without fsync.
    pub commit_seconds: u32,
    /// Out: zero.
    pub reserved_middle: u32,
    /// Out: how many bytes the objects take that lost their last name and are kept.
    pub kept_bytes: u64,
    /// Out: zero.
    pub reserved_tail: [u32; 12],
}

impl Status {
    /// History is on.
    pub const MOUNT_HISTORY: u32 = 1;
    /// The mount is private: history ends with it.
    pub const MOUNT_PRIVATE: u32 = 2;
    /// The mount is read-only.
    pub const MOUNT_READ_ONLY: u32 = 4;
    /// Reads are logged.
    pub const MOUNT_LOG_READS: u32 = 8;

    /// `on_full=trim`.
    pub const TRIM: u32 = 0;
    /// `on_full=deny`.
    pub const DENY: u32 = 1;
    /// `on_error=continue`.
    pub const CONTINUE: u32 = 0;
    /// `on_error=refuse`.
    pub const REFUSE: u32 = 1;

    /// Where counting `standing` ends.
    pub const MAX_STANDING: u64 = 1_000_000;

    /// Whether a request is one that this version knows.
    pub const fn is_valid(&self) -> bool {
        self.version == VERSION && self.flags == 0
    }
}

// The same on every architecture: no gaps, whole words.
const _: () = assert!(size_of::<Revert>() == 40);
const _: () = assert!(size_of::<ReadLog>() == 40);
const _: () = assert!(size_of::<Status>() == 200);

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
    /// No operation of the object stands (ENODATA).
    NothingLeft = 1,
    /// The old state was not saved (ENODATA).
    Lost = 2,
    /// The old state was dropped for want of room (ENODATA).
    Trimmed = 3,
    /// The object was changed outside (ESTALE).
    Foreign = 4,
    /// The file is mapped by somebody who opened it below us (EBUSY).
    Mapped = 5,
    /// A later operation conflicts (EBUSY).
    Conflict = 6,
    /// The caller does not own the file, now or when the line was written (EPERM).
    NotOwner = 7,
    /// The descriptor is not open for writing (EBADF), or the file or mount is not writable.
    NotWritable = 8,
    /// No room for the redo payload (ENOSPC).
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
}
