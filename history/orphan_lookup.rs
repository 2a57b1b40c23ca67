// SPDX-License-Identifier: GPL-2.0

//! Finds an object among the orphans ([`super::orphans`]) by its number.

use super::{
    dir_tree::remove_whole,
    journal::Journal,
    orphan_record::EntryName,
    orphans::{dir_name, dir_number, existing, OrphanStore},
};
use crate::{
    log::types::ObjectId,
    vfs::{error::ENODATA, store::StoreDir},
};
use kernel::prelude::*;

/// The entries of a directory of orphans when it was listed. A revert looks up many orphans, and those that one
/// command removed are mostly in one directory. Entries come and go, so one that is found here is looked up
/// again by its name, and one that is not found is searched in the directory.
pub(super) struct ListedDir {
    segment: u64,
    number: usize,
    dir: StoreDir,
    entries: KVVec<EntryName>,
}

/// The most entries of a directory that are kept in memory: 70 kB.
const MOST_LISTED: usize = 256;

impl OrphanStore {
    /// An object's entry in the directory that was listed last, if that is the object's.
    fn recall(&self, segment: u64, object: ObjectId) -> Option<(StoreDir, EntryName)> {
        let listed = self.listed.as_ref()?;
        if (listed.segment, listed.number) != (segment, dir_number(object)) {
            return None;
        }
        let beginning = EntryName::beginning(object);
        let mut entries = listed.entries.iter();
        let entry = entries.find(|entry| beginning.begins(entry.bytes()))?;
        Some((listed.dir.again().ok()?, *entry))
    }
}

/// The entry of an object in a directory of such entries; all entries are added to `all`, up to
/// [`MOST_LISTED`].
fn entry_in(
    dir: &StoreDir,
    object: ObjectId,
    all: &mut KVVec<EntryName>,
) -> Result<Option<EntryName>> {
    let beginning = EntryName::beginning(object);
    let mut found = None;
    dir.list(&mut |name| {
        let is_it = found.is_none() && beginning.begins(name);
        if !is_it && all.len() >= MOST_LISTED {
            return;
        }
        let Some(entry) = EntryName::of(name) else {
            return;
        };
        if all.len() < MOST_LISTED {
            // Without memory fewer are kept.
            let _ = all.push(entry, GFP_KERNEL);
        }
        if is_it {
            found = Some(entry);
        }
    })?;
    Ok(found)
}

/// Finds an object's entry below a segment's directory, in the directory that the inode number
/// selects; all entries are added to `all`. `ENODATA`: there is none.
// Out of line: names take much of the stack.
#[inline(never)]
fn entry_below(
    top: &StoreDir,
    object: ObjectId,
    all: &mut KVVec<EntryName>,
) -> Result<(StoreDir, EntryName)> {
    let name = dir_name(dir_number(object));
    let dir = existing(top.open_dir(name.bytes()))?;
    match entry_in(&dir, object, all)? {
        Some(entry) => Ok((dir, entry)),
        None => Err(ENODATA),
    }
}

impl Journal {
    /// Finds an object's entry among a segment's orphans, and its directory. `ENODATA`: there is
    /// none.
    pub(crate) fn find_orphan_in(
        &self,
        segment: u64,
        object: ObjectId,
    ) -> Result<(StoreDir, EntryName)> {
        if let Some(found) = self.recall_orphan(segment, object) {
            return Ok(found);
        }
        let (top, drops) = {
            let orphans = self.orphans.lock();
            (orphans.find(segment)?, orphans.drops)
        };
        let mut entries = KVVec::new();
        let (dir, entry) = entry_below(&top, object, &mut entries)?;
        let listed = ListedDir {
            segment,
            number: dir_number(object),
            dir: dir.again()?,
            entries,
        };
        let mut orphans = self.orphans.lock();
        // The segment may have been dropped meanwhile.
        if orphans.drops == drops && orphans.home.is_some() {
            orphans.listed = Some(listed);
        }
        Ok((dir, entry))
    }

    /// An object's entry in the directory that was listed last, if the entry is still there.
    // Out of line: names take much of the stack.
    #[inline(never)]
    fn recall_orphan(&self, segment: u64, object: ObjectId) -> Option<(StoreDir, EntryName)> {
        let found = self.orphans.lock().recall(segment, object)?;
        found.0.has(found.1.bytes()).then_some(found)
    }

    /// Deletes an object for good, if it is an orphan of that segment. `bytes` were counted for it;
    /// its content may have changed since.
    pub(crate) fn discard_orphan(&self, segment: u64, object: ObjectId, bytes: u64) -> Result {
        let (orphan_dir, name) = match self.find_orphan_in(segment, object) {
            Err(e) if e == ENODATA => return Ok(()),
            found => found?,
        };
        remove_whole(&orphan_dir, name.bytes())?;
        self.count_orphan_bytes(0, bytes);
        Ok(())
    }

    /// As [`Self::find_orphan_in`], in any segment.
    pub(crate) fn find_orphan(&self, object: ObjectId) -> Result<(StoreDir, EntryName)> {
        let segments = self.orphans.lock().segments()?;
        for segment in segments {
            match self.find_orphan_in(segment, object) {
                Err(e) if e == ENODATA => {}
                found => return found,
            }
        }
        Err(ENODATA)
    }
}
