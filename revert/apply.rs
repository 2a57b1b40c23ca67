// SPDX-License-Identifier: GPL-2.0

//! Applies a plan to the lower file, and restores the pre-image on a rollback.

use super::{attributes, plan_builder, read_buffer::ReadBuffer, Refusal};
use crate::{
    history::journal::Journal,
    log::{
        line::{Line, Undo},
        plan::{Outcome, Piece, Records, Restore, Source},
        types::Extent,
    },
    record::Captured,
    state::{Mount, SpaceRequest},
    vfs::{attr, dentry::Dentry, error::EUCLEAN, file::File, mount::LowerMount, range, task},
};
use kernel::prelude::*;

/// The lower object that a plan is applied to.
pub(super) struct ApplyTarget<'a> {
    pub(super) own: &'a Mount,
    pub(super) mount: &'a LowerMount,
    /// `None` for an object without content.
    pub(super) file: Option<&'a File>,
    pub(super) dentry: &'a Dentry,
    pub(super) journal: &'a Journal,
    /// Whether no other object is part of the revert. If so, the file is flushed and its flags are
    /// restored at once; otherwise the group does both later.
    pub(super) is_alone: bool,
}

impl ApplyTarget<'_> {
    /// Applies a plan. Content is written by a kernel thread, so that RLIMIT_FSIZE and signals of
    /// the caller cannot stop the plan half way. Attributes are set with the caller's credentials.
    /// `content_changed` is set once content may be changed. On ENOSPC, frees the reserve and applies the
    /// whole plan again: btrfs needs space for attributes, too.
    pub(super) fn apply(
        &self,
        pieces: &[Piece],
        outcome: &Outcome,
        records: Records<'_>,
        content_changed: &mut bool,
    ) -> Result {
        self.own
            .with_reserve(|| self.apply_once(pieces, outcome, records, content_changed))
    }

    /// As [`Self::apply`], once.
    fn apply_once(
        &self,
        pieces: &[Piece],
        outcome: &Outcome,
        records: Records<'_>,
        content_changed: &mut bool,
    ) -> Result {
        attributes::unprotect(self.mount, self.dentry, records)?;
        // Attributes first: if the caller lacks the permission, no content is changed.
        self.put_attributes(records)?;
        if is_of_content(pieces, outcome, records) {
            *content_changed = true;
            self.apply_content(pieces, outcome)?;
            // Again: a write updates mtime and removes set-id bits and capabilities
            // (file_remove_privs()).
            self.put_attributes(records)?;
        }
        if records.is_empty() {
            return Ok(());
        }
        attributes::put_flags(self.mount, self.dentry, records, self.is_alone)?;
        self.sync()
    }

    /// The last step of a group: sets attributes again that other steps may have changed, then the
    /// flags.
    pub(super) fn finish(&self, records: Records<'_>) -> Result {
        self.own.with_reserve(|| {
            self.put_attributes(records)?;
            attributes::put_flags(self.mount, self.dentry, records, true)
        })
    }

    /// Sets all attributes except flags.
    fn put_attributes(&self, records: Records<'_>) -> Result {
        if records.is_empty() {
            return Ok(());
        }
        attributes::put(self.mount, self.dentry, records)
    }

    /// Applies the pieces and the size of a plan.
    fn apply_content(&self, pieces: &[Piece], outcome: &Outcome) -> Result {
        let file = self.file.ok_or(EINVAL)?;
        task::call_on_workqueue(|| {
            if outcome.size > outcome.present {
                attr::set_size(self.mount, self.dentry, outcome.size)?;
            }
            self.put(file, pieces, outcome.size)?;
            // A plan without pieces still counts as a change: sets the size to update mtime and
            // ctime.
            let is_empty = pieces.is_empty() && outcome.size == outcome.present;
            // Truncation to the same size frees blocks preallocated beyond EOF.
            if outcome.size < outcome.present || is_empty || outcome.trims {
                attr::set_size(self.mount, self.dentry, outcome.size)?;
            }
            self.sync()
        })
        .unwrap_or(Err(EIO))
    }

    /// Runs `work` in a kernel thread. On ENOSPC, frees the reserve and retries.
    fn in_kthread(&self, mut work: impl FnMut() -> Result + Send) -> Result {
        self.own
            .with_reserve(|| task::call_on_workqueue(&mut work).unwrap_or(Err(EIO)))
    }

    /// Restores attributes after a revert that changed nothing else.
    pub(super) fn put_back(&self, attributes: &[u8]) -> Result {
        let records = Records::new(attributes).map_err(|_| EUCLEAN)?;
        self.in_kthread(|| {
            attributes::unprotect(self.mount, self.dentry, records)?;
            self.put_attributes(records)?;
            attributes::put_flags(self.mount, self.dentry, records, true)?;
            self.sync()
        })
    }

    /// Restores the captured pre-image: attributes, and content if `content_changed`.
    pub(super) fn roll_back(
        &self,
        captured: &Captured,
        size: u64,
        content_changed: bool,
    ) -> Result {
        let Captured::At {
            extent,
            crc,
            records,
            attributes,
        } = captured
        else {
            // Without a payload only the size can have changed.
            return self.in_kthread(|| {
                if !content_changed || self.regular().is_none() {
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
        self.restore(&restore, size, content_changed)
    }

    /// Restores the content and attributes of a payload.
    fn restore(&self, restore: &Restore, size: u64, content_changed: bool) -> Result {
        let mut buf = ReadBuffer::default();
        // Checksum first: a damaged payload must not overwrite the file.
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
            if let Some(file) = self.regular().filter(|_| content_changed) {
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

    /// Flushes the file before the closing line is written. If the line were durable first, a power
    /// cut could leave a log with a state that the file does not have.
    fn sync(&self) -> Result {
        match self.file.filter(|_| self.is_alone) {
            Some(file) => file.sync(0, i64::MAX, false),
            None => Ok(()),
        }
    }

    /// The lower file, if it is a regular file.
    fn regular(&self) -> Option<&File> {
        self.file.filter(|file| file.inode().is_regular())
    }

    /// Writes pieces into a file whose final size is `size`.
    ///
    /// A hole that ends at `size` is punched up to the end of its block, since filesystems free
    /// whole blocks only. The bytes from `size` on do not exist, or are truncated by this revert.
    /// For a file of the largest size, that block may end above s_maxbytes, which vfs_fallocate()
    /// refuses with EFBIG.
    fn put(&self, file: &File, pieces: &[Piece], size: u64) -> Result {
        let mut buf = ReadBuffer::default();
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
                    // The piece's bytes within the payload.
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

    /// Copies a part of a payload into the file.
    fn copy(&self, file: &File, extent: Extent, to: u64, buf: &mut ReadBuffer) -> Result {
        buf.read(self.journal, extent, |done, part| {
            let at = to.saturating_add(done);
            // The owner's disk quota may be used up by orphans of the same owner.
            let payer = SpaceRequest::Object(self.dentry, part.len() as u64);
            self.own.with_space(payer, || file.write_at(part, at))
        })
    }
}

/// Whether a plan changes content. An empty plan counts as a change of the file.
pub(super) fn is_of_content(pieces: &[Piece], outcome: &Outcome, records: Records<'_>) -> bool {
    !pieces.is_empty() || outcome.size != outcome.present || records.is_empty()
}

impl ApplyTarget<'_> {
    /// Rolls the revert with this line back.
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
