// SPDX-License-Identifier: GPL-2.0

//! From the chain to one plan: the inverses of the operations to be taken back, merged.

use super::{Chain, Link, Refusal};
use crate::{
    history::{
        journal::Journal,
        line::{Line, Pos},
        plan::{
            inverse, Access, Entry, Kind, MapReader, Merge, OnForeign, Outcome, Piece, PlanError,
            Records, Restore, Step, Store, RECORD,
        }, //
    },
    uapi::Reason,
    vfs::{error::EUCLEAN, inode::OwnInode, scope::crc32c, task}, //
};
use kernel::prelude::*;

/// A growing list for the plan.
pub(super) struct List<T>(KVVec<T>);

impl<T> Store<T> for List<T> {
    fn push(&mut self, item: T) -> Result<(), PlanError> {
        self.0.push(item, GFP_KERNEL).map_err(|_| PlanError::NoRoom)
    }

    fn items(&mut self) -> &mut [T] {
        &mut self.0
    }
}

/// What is to be done.
pub(super) struct Gathered {
    /// What to put where, ascending.
    pub(super) pieces: KVVec<Piece>,
    /// Records of old attributes, those of newer lines first.
    pub(super) attributes: KVVec<u8>,
    /// The sizes before and after.
    pub(super) outcome: Outcome,
    /// How many operations it takes back.
    pub(super) count: u64,
    /// The newest one's number.
    pub(super) newest: u64,
    /// Where the object's newest line stands that is left standing.
    pub(super) back: Option<Pos>,
}

impl Gathered {
    /// The old attributes.
    pub(super) fn records(&self) -> Result<Records<'_>, Refusal> {
        Records::new(&self.attributes).map_err(|e| e.refuse(self.newest))
    }
}

impl PlanError {
    pub(super) fn refuse(self, seq: u64) -> Refusal {
        match self {
            Self::Lost => Refusal::new(Reason::Lost, seq),
            Self::Unsupported => Refusal::new(Reason::Unsupported, seq),
            Self::Corrupt => Refusal::new(Reason::Corrupt, seq),
            Self::NoRoom => Refusal {
                error: ENOMEM,
                reason: Reason::Io,
                seq,
            },
        }
    }
}

/// Plans to take back the newest `count` standing operations. Every payload that is used has been
/// read and verified. Under the object's lock.
pub(super) fn newest(
    journal: &Journal,
    inode: &OwnInode,
    head: Option<Pos>,
    count: u64,
    on_foreign: OnForeign,
) -> Result<Gathered, Refusal> {
    let mut chain = Chain::new(journal, inode.id(), head, on_foreign)?;
    let mut buf = KVVec::new();
    buf.resize(CHUNK, 0, GFP_KERNEL)?;
    let mut attributes = KVVec::new();
    let mut merge = Merge::new(List(KVVec::<Entry>::new()), inode.lower().size());
    let (mut taken, mut newest, mut back) = (0, 0, None);
    while taken < count {
        match chain.step()? {
            Link::End => return Err(Refusal::new(Reason::NothingLeft, newest)),
            Link::Trimmed => return Err(Refusal::new(Reason::Trimmed, 0)),
            Link::Line(line, _, _, Step::Stop(_)) => {
                return Err(Refusal::new(Reason::Foreign, line.seq))
            }
            Link::Line(line, _, _, Step::Take) => {
                take(journal, &line, &mut merge, &mut attributes, &mut buf)?;
                if taken == 0 {
                    newest = line.seq;
                }
                taken += 1;
                back = line.prev;
            }
            Link::Line(..) => {}
        }
    }
    if !may_see(inode, &attributes)? {
        return Err(Refusal::new(Reason::NotOwner, newest));
    }
    let mut pieces = List(KVVec::new());
    let outcome = merge.finish(&mut pieces).map_err(|e| e.refuse(newest))?;
    Ok(Gathered {
        pieces: pieces.0,
        attributes,
        outcome,
        count,
        newest,
        back,
    })
}

/// How much of a payload is read at once.
const CHUNK: usize = 64 * 1024;

/// Adds the inverse of one line to the plan.
fn take(
    journal: &Journal,
    line: &Line<'_>,
    merge: &mut Merge<List<Entry>>,
    attributes: &mut KVVec<u8>,
    buf: &mut [u8],
) -> Result<(), Refusal> {
    let seq = line.seq;
    let inverse = inverse(line).map_err(|e| e.refuse(seq))?;
    if let Some(restore) = &inverse.restore {
        verify(journal, restore, buf).map_err(|e| Refusal {
            seq,
            ..Refusal::from(e)
        })?;
        each_piece(journal, restore, |piece| {
            merge.restore(&piece).map_err(|e| e.refuse(seq))
        })?;
        let old =
            self::attributes(journal, restore).map_err(|refusal| Refusal { seq, ..refusal })?;
        if attributes.len().saturating_add(old.len()) > MAX_ATTRIBUTES {
            return Err(PlanError::NoRoom.refuse(seq));
        }
        attributes.extend_from_slice(&old, GFP_KERNEL)?;
    }
    merge.end_operation(inverse.size_after);
    Ok(())
}

/// Reads a payload and compares its checksum.
pub(super) fn verify(journal: &Journal, restore: &Restore, buf: &mut [u8]) -> Result {
    let mut state = !0;
    let mut done = 0;
    while done < restore.payload.length {
        let left = usize::try_from(restore.payload.length - done).unwrap_or(usize::MAX);
        let n = left.min(buf.len());
        let part = buf.get_mut(..n).ok_or(EINVAL)?;
        journal.read_payload(restore.payload, done, part)?;
        state = crc32c(state, part);
        done = done.saturating_add(n as u64);
    }
    if !state != restore.crc {
        return Err(EUCLEAN);
    }
    Ok(())
}

/// How many bytes of old attributes one revert gathers at most.
const MAX_ATTRIBUTES: usize = 16 << 20;

/// The records of old attributes in a payload.
pub(super) fn attributes(journal: &Journal, restore: &Restore) -> Result<KVVec<u8>, Refusal> {
    let mut records = KVVec::new();
    let content = restore.content().ok_or(EUCLEAN)?.length;
    let length = usize::try_from(restore.attributes).map_err(|_| EUCLEAN)?;
    if length > MAX_ATTRIBUTES {
        return Err(PlanError::NoRoom.refuse(0));
    }
    records.resize(length, 0, GFP_KERNEL)?;
    if length != 0 {
        journal.read_payload(restore.payload, content, &mut records)?;
    }
    Records::new(&records).map_err(|e| e.refuse(0))?;
    Ok(records)
}

/// Whether the caller may see what the object was then: who does not own it only because it was
/// given to them must not get what it held before.
fn may_see(inode: &OwnInode, attributes: &[u8]) -> Result<bool, Refusal> {
    let access = Records::new(attributes)
        .map_err(|e| e.refuse(0))?
        .last(Kind::Access)
        .and_then(|record| Access::decode(record.value?));
    Ok(access.is_none_or(|access| access.uid == inode.uid() || task::may_give_away()))
}

/// Hands out the pieces of a payload.
pub(super) fn each_piece(
    journal: &Journal,
    restore: &Restore,
    mut each: impl FnMut(Piece) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let mut reader = MapReader::new(restore).map_err(|e| e.refuse(0))?;
    if let Some(piece) = reader.plain() {
        each(piece)?;
    }
    let mut at = 0;
    while reader.left() != 0 {
        let mut record = [0; RECORD];
        journal.read_payload(restore.payload, at, &mut record)?;
        at = at.saturating_add(RECORD as u64);
        each(reader.feed(&record).map_err(|e| e.refuse(0))?)?;
    }
    reader.finish().map_err(|e| e.refuse(0))
}
