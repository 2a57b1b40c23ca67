// SPDX-License-Identifier: GPL-2.0

//! Scans `orphans/` at a mount after an unclean shutdown, for segments whose files were lost, links
//! that a removal leaked, and orphans without a line.

use kernel::{
    prelude::*,
    sync::Arc, //
};

use super::{
    dir_tree::each_batch,
    orphan_record::{Cause, EntryName, OrphanRecord, HANDLE_MAX},
    orphans::{dropped_name, open_orphan_dir, OrphanDir, OrphanStore, DROPPED},
    recovery::Removals,
    segment::Files,
    sort::sort,
};
use crate::vfs::{error::ENODATA, task};

impl OrphanStore {
    /// Recreates the files of each segment that has orphans, if a power cut took them before they
    /// were durable. They are added to `segments`, which is in order; `first` is the oldest that
    /// was not dropped. Answers the oldest of those that are back.
    pub(super) fn restore_files(
        &mut self,
        files: &mut Files,
        segments: &mut KVVec<u64>,
        first: u64,
    ) -> Result<Option<u64>> {
        let mut lost = KVVec::new();
        for segment in self.segments()? {
            if segments.binary_search(&segment).is_ok() {
                continue;
            }
            if segment < first || !self.has_entries(segment)? {
                self.drop_segment(segment)?;
                continue;
            }
            files.restore(segment)?;
            lost.push(segment, GFP_KERNEL)?;
        }
        for &segment in &lost {
            segments.push(segment, GFP_KERNEL)?;
        }
        sort(segments, |a, b| a < b);
        Ok(lost.iter().copied().min())
    }

    /// Whether a segment has orphans.
    pub(super) fn has_entries(&self, segment: u64) -> Result<bool> {
        let top = match self.find(segment) {
            Err(e) if e == ENODATA => return Ok(false),
            found => found?,
        };
        let mut found = false;
        each_batch(&top, |name| {
            task::resched_killable()?;
            match open_orphan_dir(&top, name)? {
                Some(dir) => dir.list(&mut |_| found = true)?,
                None => found = true,
            }
            Ok(false)
        })?;
        Ok(found)
    }

    /// Removes the directories of dropped segments, and returns the size of all others in bytes.
    /// Collects the entries with other names, and those without a line in the logs that were read.
    pub(super) fn scan(&mut self, removals: &Removals) -> Result<u64> {
        for segment in self.numbers_with_suffix(DROPPED)? {
            self.drop_dir(dropped_name(segment))?;
        }
        let mut bytes = 0u64;
        for segment in self.segments()? {
            let top = self.find(segment)?;
            each_batch(&top, |name| {
                task::resched_killable()?;
                bytes = bytes.saturating_add(top.bytes_of(name.bytes()));
                if let Some(dir) = open_orphan_dir(&top, name)? {
                    let inside = self.scan_dir(&OrphanDir::new(dir, segment)?, removals)?;
                    bytes = bytes.saturating_add(inside);
                }
                Ok(false)
            })?;
        }
        Ok(bytes)
    }

    /// Returns the size of a directory's orphans in bytes.
    fn scan_dir(&mut self, orphan_dir: &Arc<OrphanDir>, removals: &Removals) -> Result<u64> {
        let mut bytes = 0u64;
        each_batch(&orphan_dir.dir, |name| {
            task::resched_killable()?;
            if orphan_dir.dir.has_other_names(name.bytes()) {
                self.leaked_links
                    .push((orphan_dir.clone(), *name), GFP_KERNEL)?;
                return Ok(false);
            }
            bytes = bytes.saturating_add(orphan_dir.dir.bytes_of(name.bytes()));
            if is_unlogged(orphan_dir.segment, name, removals) {
                self.unlogged
                    .push((orphan_dir.clone(), *name), GFP_KERNEL)?;
            }
            Ok(false)
        })?;
        Ok(bytes)
    }

    /// The oldest segment that has an unlogged orphan.
    pub(super) fn oldest_unlogged(&self) -> Option<u64> {
        let segments = self
            .unlogged
            .iter()
            .map(|(orphan_dir, _)| orphan_dir.segment);
        segments.min()
    }
}

/// Whether the logs that were read have no line for an entry. Reverts are excluded: their line is
/// durable before they move an object.
fn is_unlogged(segment: u64, name: &EntryName, removals: &Removals) -> bool {
    let mut handle = [0; HANDLE_MAX];
    match OrphanRecord::parse(name.bytes(), &mut handle) {
        Some(orphan) if orphan.cause != Cause::Revert => {
            removals.is_missing(segment, orphan.object, orphan.seq)
        }
        _ => false,
    }
}
