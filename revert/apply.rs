// SPDX-License-Identifier: GPL-2.0

//! Putting a plan's pieces into the lower file, and putting back what they replaced.

use super::{attributes, plan_builder, Refusal};
use crate::{
    backup::Captured,
    history::{
        journal::Journal,
        line::{Extent, Line, Undo},
        plan::{Outcome, Piece, Records, Restore, Source}, //
    },
    stack::{Mount, Payer},
    vfs::{
        attr,
        dentry::Dentry,
        error::EUCLEAN,
        file::File,
        mount::LowerMount,
        range,
        task, //
    },
};
use kernel::prelude::*;

/// The file that a plan is applied to.
pub(super) struct ApplyTarget<'a> {
    pub(super) own: &'a Mount,
    pub(super) mount: &'a LowerMount,
    /// `None`: it has no content.
    pub(super) file: Option<&'a File>,
    pub(super) dentry: &'a Dentry,
    pub(super) journal: &'a Journal,
    /// Whether nothing else is changed with it: it is made durable at once, and protected again;
    /// otherwise the caller sees to both.
    pub(super) is_alone: bool,
}

/// How much is copied at once.
const CHUNK: usize = 64 * 1024;

impl ApplyTarget<'_> {
    /// Applies a plan: content in a kernel thread, where the caller's limits and signals cannot stop
    /// it half way, attributes as the caller. `touched` says whether content was changed, or may be.
    /// Where the lower filesystem has no room, all of it again with the history's reserve: btrfs needs
    /// room for a change of attributes, too.
    pub(super) fn apply(
        &self,
        pieces: &[Piece],
        outcome: &Outcome,
        records: Records<'_>,
        touched: &mut bool,
    ) -> Result {
        self.own
            .with_reserve(|| self.apply_once(pieces, outcome, records, touched))
    }

    fn apply_once(
        &self,
        pieces: &[Piece],
        outcome: &Outcome,
        records: Records<'_>,
        touched: &mut bool,
    ) -> Result {
        attributes::unprotect(self.mount, self.dentry, records)?;
        // First, since the caller may not be allowed to: then no content was changed.
        self.put_attributes(records)?;
        if is_of_content(pieces, outcome, records) {
            *touched = true;
            self.apply_content(pieces, outcome)?;
            // Again, since a write moves times and strips privileges.
            self.put_attributes(records)?;
        }
        if records.is_empty() {
            return Ok(());
        }
        attributes::put_flags(self.mount, self.dentry, records, self.is_alone)?;
        self.sync()
    }

    /// The last step, when others followed [`Self::apply`]: attributes that they may have moved, and
    /// protection.
    pub(super) fn finish(&self, records: Records<'_>) -> Result {
        self.own.with_reserve(|| {
            self.put_attributes(records)?;
            attributes::put_flags(self.mount, self.dentry, records, true)
        })
    }

    fn put_attributes(&self, records: Records<'_>) -> Result {
        if records.is_empty() {
            return Ok(());
        }
        attributes::put(self.mount, self.dentry, records)
    }

    fn apply_content(&self, pieces: &[Piece], outcome: &Outcome) -> Result {
        let file = self.file.ok_or(EINVAL)?;
        task::in_kthread(|| {
            if outcome.size > outcome.present {
                attr::set_size(self.mount, self.dentry, outcome.size)?;
            }
            self.put(file, pieces, outcome.size)?;
            // A plan without bytes and sizes still is a change of the file.
            let is_empty = pieces.is_empty() && outcome.size == outcome.present;
            // The call frees what is allocated behind the end, too.
            if outcome.size < outcome.present || is_empty || outcome.trims {
                attr::set_size(self.mount, self.dentry, outcome.size)?;
            }
            self.sync()
        })
        .unwrap_or(Err(EIO))
    }

    /// Does `work` in a kernel thread; where the lower filesystem has no room, again with the history's
    /// reserve.
    fn in_kthread(&self, mut work: impl FnMut() -> Result + Send) -> Result {
        self.own
            .with_reserve(|| task::in_kthread(&mut work).unwrap_or(Err(EIO)))
    }

    /// Puts attributes back, after a revert that has changed nothing else.
    pub(super) fn put_back(&self, attributes: &[u8]) -> Result {
        let records = Records::new(attributes).map_err(|_| EUCLEAN)?;
        self.in_kthread(|| {
            attributes::unprotect(self.mount, self.dentry, records)?;
            self.put_attributes(records)?;
            attributes::put_flags(self.mount, self.dentry, records, true)?;
            self.sync()
        })
    }

    /// Puts back what a plan replaced, from what was saved before it was applied.
    /// With `touched`, content too.
    pub(super) fn roll_back(&self, captured: &Captured, size: u64, touched: bool) -> Result {
        let Captured::At {
            extent,
            crc,
            records,
            attributes,
        } = captured
        else {
            return self.in_kthread(|| {
                if !touched || self.regular().is_none() {
                    return Ok(());
                }
                attr::set_size(self.mount, self.dentry, size)?;
                self.sync()
            });
        };
        let restore = Restore {
            offset: 0,
            length: i64::MAX as u64,
            payload: *extent,
            map: Some(*records),
            attributes: *attributes,
            crc: *crc,
        };
        self.restore(&restore, size, touched)
    }

    fn restore(&self, restore: &Restore, size: u64, touched: bool) -> Result {
        let mut buf = buffer()?;
        plan_builder::verify(self.journal, restore, &mut buf)?;
        let mut pieces = KVVec::new();
        plan_builder::each_piece(self.journal, restore, |piece| {
            Ok(pieces.push(piece, GFP_KERNEL)?)
        })
        .map_err(|refusal: Refusal| refusal.error)?;
        let old =
            plan_builder::attributes(self.journal, restore).map_err(|refusal| refusal.error)?;
        let records = Records::new(&old).map_err(|_| EUCLEAN)?;
        self.in_kthread(|| {
            attributes::unprotect(self.mount, self.dentry, records)?;
            if let Some(file) = self.regular().filter(|_| touched) {
                self.put(file, &pieces, size)?;
                if !pieces.is_empty() || size != file.inode().size() {
                    attr::set_size(self.mount, self.dentry, size)?;
                }
            }
            self.put_attributes(records)?;
            attributes::put_flags(self.mount, self.dentry, records, true)?;
            self.sync()
        })
    }

    /// Makes the file durable. The line that says how the revert ended comes after: if it
    /// outlived the bytes in a power cut, the log would tell of a state that the file is not in,
    /// and what is reverted next would be mixed with what was to be gone.
    fn sync(&self) -> Result {
        match self.file.filter(|_| self.is_alone) {
            Some(file) => file.sync(0, i64::MAX, false),
            None => Ok(()),
        }
    }

    /// Its file, if that is one with content.
    fn regular(&self) -> Option<&File> {
        self.file.filter(|file| file.inode().is_regular())
    }

    /// Puts pieces into a file that ends at `size` in the end.
    ///
    /// A hole that ends at `size` is punched up to the end of that block: a filesystem frees no block
    /// that is punched in part. The bytes behind `size` are cut off by this revert, or do not exist. The last
    /// block of the largest file may end behind what a range may reach.
    fn put(&self, file: &File, pieces: &[Piece], size: u64) -> Result {
        let mut buf = buffer()?;
        let block = file.inode().block();
        let largest = file.inode().superblock().largest_size();
        for piece in pieces {
            let end = piece.offset.saturating_add(piece.length);
            let free = match end.checked_next_multiple_of(block) {
                Some(whole) if end == size && whole <= largest => {
                    whole.saturating_sub(piece.offset)
                }
                _ => piece.length,
            };
            match piece.source {
                Source::Hole => range::punch(self.mount, file, piece.offset, piece.length, free)?,
                Source::Unwritten => {
                    range::reserve(self.mount, file, piece.offset, piece.length, free)?
                }
                Source::At(at) => {
                    let extent = Extent {
                        segment: at.segment,
                        offset: at.offset,
                        length: piece.length,
                    };
                    self.copy(file, extent, piece.offset, &mut buf)?;
                }
            }
        }
        Ok(())
    }

    fn copy(&self, file: &File, extent: Extent, to: u64, buf: &mut [u8]) -> Result {
        let mut done = 0;
        while done < extent.length {
            let left = usize::try_from(extent.length - done).unwrap_or(usize::MAX);
            let n = left.min(buf.len());
            let part = buf.get_mut(..n).ok_or(EINVAL)?;
            self.journal.read_payload(extent, done, part)?;
            let at = to.saturating_add(done);
            // The owner's quota may be full of what is kept of the owner's.
            let payer = Payer::Object(self.dentry, n as u64);
            self.own.with_room(payer, || file.write_at(part, at))?;
            done = done.saturating_add(n as u64);
        }
        Ok(())
    }
}

/// Whether a plan changes content. One of nothing at all still is a change of the file.
pub(super) fn is_of_content(pieces: &[Piece], outcome: &Outcome, records: Records<'_>) -> bool {
    !pieces.is_empty() || outcome.size != outcome.present || records.is_empty()
}

fn buffer() -> Result<KVVec<u8>> {
    let mut buf = KVVec::new();
    buf.resize(CHUNK, 0, GFP_KERNEL)?;
    Ok(buf)
}

impl ApplyTarget<'_> {
    /// Puts back what was there before the revert of this line.
    pub(super) fn restore_from(&self, line: &Line<'_>) -> Result {
        let size = line.size.ok_or(EUCLEAN)?;
        let captured = match line.undo {
            Some(Undo::At(extent)) => Captured::At {
                extent,
                crc: line.crc.ok_or(EUCLEAN)?,
                records: line.map.unwrap_or(0),
                attributes: line.attributes.unwrap_or(0),
            },
            _ => Captured::Nothing,
        };
        self.roll_back(&captured, size, true)
    }
}
