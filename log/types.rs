// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Identities and places that the whole module uses: objects, times, positions in the log, payloads.

/// A raw CRC-32C update: state and bytes in, state out, without any inversion.
pub type Crc = fn(u32, &[u8]) -> u32;

/// A point in time: seconds since the epoch, rounded down, and nanoseconds after them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    /// Whole seconds since the epoch; negative before 1970.
    pub sec: i64,
    /// Nanoseconds after `sec`, below 1,000,000,000.
    pub nsec: u32,
}

impl Time {
    /// Nanoseconds since the epoch; 0 for times before it, `u64::MAX` for times out of range.
    pub fn nanoseconds(self) -> u64 {
        let whole = u64::try_from(self.sec).unwrap_or(0);
        (whole.saturating_mul(1_000_000_000)).saturating_add(u64::from(self.nsec))
    }
}

/// Position of a line: the log's segment and the byte offset in that log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pos {
    /// The segment's number.
    pub segment: u64,
    /// The byte offset in the segment's file.
    pub offset: u64,
}

/// Identifies the object of a line: a lower inode. The generation
/// distinguishes it from later users of the inode number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// The subvolume, where one filesystem has several number spaces; otherwise 0.
    pub volume: u64,
    /// The lower inode's number.
    pub inode: u64,
    /// The lower inode's generation.
    pub generation: u32,
}

/// Identifies a state of an object. A cookie that differs from the last one logged means a change
/// past the mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cookie {
    /// The object's ctime.
    pub ctime: Time,
    /// The object's size.
    pub size: u64,
    /// The lower filesystem's change counter (`STATX_CHANGE_COOKIE`), if there is one.
    pub version: Option<u64>,
}

/// Where a payload lies: a range of one segment's payload file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Extent {
    /// The segment's number.
    pub segment: u64,
    /// The byte offset in its payload file.
    pub offset: u64,
    /// The length in bytes.
    pub length: u64,
}

/// The start value of a line's checksum, so that a line of another history or segment is not
/// mistaken for one of this log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seed {
    /// The history's UUID.
    pub uuid: [u8; 16],
    /// The number of the segment that holds the line.
    pub segment: u64,
}

impl Seed {
    /// The checksum of a line whose bytes before ` sum=` are `body`.
    pub fn sum(&self, crc: Crc, body: &[u8]) -> u32 {
        !crc(self.start(crc), body)
    }

    /// The checksum state that every line of the segment starts from.
    pub fn start(&self, crc: Crc) -> u32 {
        let mut seed = [0; 24];
        let (uuid, segment) = seed.split_at_mut(16);
        uuid.copy_from_slice(&self.uuid);
        segment.copy_from_slice(&self.segment.to_le_bytes());
        crc(!0, &seed)
    }
}
