// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Attributes in a payload: its last `attrs=` bytes, one record after the other.
//!
//! A record has the old state of one attribute: a head of eight bytes (kind, whether there was a
//! value, the name's length, the value's length, little-endian), then name and value. A revert
//! collects the records of all its lines, newest line first; if an attribute has several, the last
//! one, which is the oldest state, is restored ([`Records::last_ones`]).

use super::PlanError;

/// The length of a record's head.
const HEAD: usize = 8;

/// Which attribute a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Mode, owner and group: an [`Access`].
    Access = 1,
    /// Modification and access time: [`Times`].
    Times = 2,
    /// The file's flags, as `chattr` sets them: [`Flags`].
    Flags = 3,
    /// An extended attribute, by its name.
    Xattr = 4,
    /// The POSIX access ACL, in the xattr's format.
    AccessAcl = 5,
    /// A directory's default POSIX ACL, in the xattr's format.
    DefaultAcl = 6,
}

impl Kind {
    fn parse(byte: u8) -> Option<Self> {
        [
            Self::Access,
            Self::Times,
            Self::Flags,
            Self::Xattr,
            Self::AccessAcl,
            Self::DefaultAcl,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// The old state of one attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Which attribute.
    pub kind: Kind,
    /// An xattr's name, without a NUL; empty for all else.
    pub name: &'a [u8],
    /// Its value; `None`: there was none.
    pub value: Option<&'a [u8]>,
}

impl Record<'_> {
    /// The bytes before name and value; `None`: name or value is too long for a record.
    pub fn head(&self) -> Option<[u8; HEAD]> {
        let [n0, n1] = u16::try_from(self.name.len()).ok()?.to_le_bytes();
        let value = self.value.map_or(0, <[u8]>::len);
        let [v0, v1, v2, v3] = u32::try_from(value).ok()?.to_le_bytes();
        let has = u8::from(self.value.is_some());
        Some([self.kind as u8, has, n0, n1, v0, v1, v2, v3])
    }

    fn is_of(&self, other: &Record<'_>) -> bool {
        self.kind == other.kind && self.name == other.name
    }
}

/// The records of a payload's tail.
#[derive(Clone, Copy, Debug)]
pub struct Records<'a>(&'a [u8]);

impl<'a> Records<'a> {
    /// Of these bytes, which are read to their end before anything that they say is believed.
    pub fn new(bytes: &'a [u8]) -> Result<Self, PlanError> {
        let mut records = Self(bytes);
        while let Some(record) = records.step()? {
            check(&record)?;
        }
        Ok(Self(bytes))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next record; `None`: there is no more.
    fn step(&mut self) -> Result<Option<Record<'a>>, PlanError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let (head, rest) = self
            .0
            .split_first_chunk::<HEAD>()
            .ok_or(PlanError::Corrupt)?;
        let [kind, has, n0, n1, v0, v1, v2, v3] = *head;
        let name_len = usize::from(u16::from_le_bytes([n0, n1]));
        let value_len = usize::try_from(u32::from_le_bytes([v0, v1, v2, v3]))
            .map_err(|_| PlanError::Corrupt)?;
        let kind = Kind::parse(kind).ok_or(PlanError::Corrupt)?;
        let (name, rest) = rest.split_at_checked(name_len).ok_or(PlanError::Corrupt)?;
        let (value, rest) = rest.split_at_checked(value_len).ok_or(PlanError::Corrupt)?;
        let value = match has {
            0 if value.is_empty() => None,
            1 => Some(value),
            _ => return Err(PlanError::Corrupt),
        };
        self.0 = rest;
        Ok(Some(Record { kind, name, value }))
    }

    /// Of each attribute the last record, in their order.
    pub fn last_ones(self) -> impl Iterator<Item = Record<'a>> + Clone {
        let mut rest = self;
        core::iter::from_fn(move || loop {
            let record = rest.step().ok()??;
            if !rest.any(|later| later.is_of(&record)) {
                return Some(record);
            }
        })
    }

    /// As [`Self::last_ones`], with all records of mode and owner: a user who owned the object in
    /// between may not see its older content unless that was theirs.
    pub fn last_ones_and_owners(self) -> impl Iterator<Item = Record<'a>> + Clone {
        let mut rest = self;
        core::iter::from_fn(move || loop {
            let record = rest.step().ok()??;
            if record.kind == Kind::Access || !rest.any(|later| later.is_of(&record)) {
                return Some(record);
            }
        })
    }

    /// The last record of this kind.
    pub fn last(self, kind: Kind) -> Option<Record<'a>> {
        self.last_ones().find(|record| record.kind == kind)
    }

    fn any(mut self, is: impl Fn(&Record<'_>) -> bool) -> bool {
        while let Ok(Some(record)) = self.step() {
            if is(&record) {
                return true;
            }
        }
        false
    }
}

/// Whether name and value are such as the kind has.
fn check(record: &Record<'_>) -> Result<(), PlanError> {
    let named = record.kind == Kind::Xattr;
    let good = match record.kind {
        Kind::Access => record.value.is_some_and(|v| Access::decode(v).is_some()),
        Kind::Times => record.value.is_some_and(|v| Times::decode(v).is_some()),
        Kind::Flags => record.value.is_some_and(|v| Flags::decode(v).is_some()),
        Kind::Xattr | Kind::AccessAcl | Kind::DefaultAcl => true,
    };
    if good && named != record.name.is_empty() && !record.name.contains(&0) {
        Ok(())
    } else {
        Err(PlanError::Corrupt)
    }
}

/// Mode and ownership of an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// The mode's twelve permission bits.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

impl Access {
    /// How long its value is.
    pub const LENGTH: usize = 12;

    /// Its value in a record.
    pub fn encode(&self) -> [u8; Self::LENGTH] {
        let mut value = [0; Self::LENGTH];
        put_words(&mut value, &[self.mode, self.uid, self.gid]);
        value
    }

    /// Reads a record's value.
    pub fn decode(value: &[u8]) -> Option<Self> {
        let [mode, uid, gid] = words(value)?;
        (mode & !0o7777 == 0).then_some(Self { mode, uid, gid })
    }
}

/// When an object was changed and read: seconds and nanoseconds since the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// The modification time.
    pub modified: (i64, u32),
    /// The access time.
    pub accessed: (i64, u32),
}

impl Times {
    /// How long its value is.
    pub const LENGTH: usize = 24;

    /// Its value in a record.
    pub fn encode(&self) -> [u8; Self::LENGTH] {
        let mut value = [0; Self::LENGTH];
        let half = |seconds: i64| (seconds as u32, (seconds >> 32) as u32);
        let (modified, accessed) = (half(self.modified.0), half(self.accessed.0));
        let words = [
            modified.0,
            modified.1,
            self.modified.1,
            accessed.0,
            accessed.1,
            self.accessed.1,
        ];
        put_words(&mut value, &words);
        value
    }

    /// Reads a record's value.
    pub fn decode(value: &[u8]) -> Option<Self> {
        let [m0, m1, m_nsec, a0, a1, a_nsec] = words(value)?;
        let whole = |low: u32, high: u32| (u64::from(high) << 32 | u64::from(low)) as i64;
        let good = m_nsec < 1_000_000_000 && a_nsec < 1_000_000_000;
        good.then_some(Self {
            modified: (whole(m0, m1), m_nsec),
            accessed: (whole(a0, a1), a_nsec),
        })
    }
}

/// The attributes that `chattr` and `FS_IOC_FSSETXATTR` set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `FS_*_FL`.
    pub flags: u32,
    /// `FS_XFLAG_*`.
    pub xflags: u32,
    /// The extent size hint.
    pub extent_size: u32,
    /// The project.
    pub project: u32,
    /// The extent size hint of copies on write.
    pub cow_extent_size: u32,
}

impl Flags {
    /// How long its value is.
    pub const LENGTH: usize = 20;

    /// Its value in a record.
    pub fn encode(&self) -> [u8; Self::LENGTH] {
        let mut value = [0; Self::LENGTH];
        let words = [
            self.flags,
            self.xflags,
            self.extent_size,
            self.project,
            self.cow_extent_size,
        ];
        put_words(&mut value, &words);
        value
    }

    /// Reads a record's value.
    pub fn decode(value: &[u8]) -> Option<Self> {
        let [flags, xflags, extent_size, project, cow_extent_size] = words(value)?;
        Some(Self {
            flags,
            xflags,
            extent_size,
            project,
            cow_extent_size,
        })
    }
}

fn put_words(value: &mut [u8], words: &[u32]) {
    for (to, word) in value.chunks_exact_mut(4).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
}

/// Exactly `N` little-endian words.
fn words<const N: usize>(value: &[u8]) -> Option<[u32; N]> {
    if value.len() != N.checked_mul(4)? {
        return None;
    }
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(value.chunks_exact(4)) {
        *word = u32::from_le_bytes(bytes.try_into().ok()?);
    }
    Some(words)
}
