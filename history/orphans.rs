// SPDX-License-Identifier: GPL-2.0

//! Orphans: objects that lost their last name. Each has one name in the history,
//! `orphans/SEGMENT/XX/ENTRY` ([`super::orphan_record`]), so the inode stays. XX is derived from
//! the inode number and keeps each directory small: some lower filesystems search a directory
//! linearly, and so does this code.
//!
//! So deleting costs the same for any file size, and a revert restores the very inode, with its
//! attributes and its own history. When a segment is dropped, its directory is removed with all
//! objects in it. The directory is renamed to `SEGMENT.dropped` first: the next mount would
//! otherwise take entries without a line for removals whose line was lost, and adopt them
//! ([`crate::backup::adopt`]).

use kernel::{
    prelude::*,
    sync::{
        atomic::{
            ordering::Full,
            Atomic, //
        },
        Arc, //
    }, //
};

use super::{
    dir_tree::{clear_dir, each_batch, remove_whole},
    journal::Journal,
    orphan_lookup::ListedDir,
    orphan_record::EntryName,
    segment::{gone, number_in_name, Name},
    trust,
};
use crate::{
    log::types::ObjectId,
    vfs::{
        error::{ENODATA, ESHUTDOWN},
        quota::QuotaAccounts,
        store::StoreDir,
    },
};

/// The directory's name, below the history's.
pub(crate) const ORPHANS: &[u8] = b"orphans";

/// The depth of an orphan's name below `orphans/`: segment, place, entry.
pub(crate) const ENTRY_DEPTH: usize = 3;

/// The suffix of a directory whose segment is dropped.
pub(super) const DROPPED: &[u8] = b".dropped";

/// How many inodes with numbers in a row are neighbours.
const NEIGHBOURS: u64 = 32;

/// The number of segments whose size in `orphans/` is cached.
const CACHED_SIZES: usize = 64;

/// How many directories a segment has at most.
const DIRS_PER_SEGMENT: usize = 256;

/// Identifies the adoption of unlogged orphans in the list of unfinished reverts.
pub(super) const ADOPTION: u64 = u64::MAX;

/// The directory `orphans/`.
pub(super) struct OrphanStore {
    pub(super) home: Option<StoreDir>,
    /// The segment that is used now.
    active: Option<ActiveDirs>,
    /// Those whose names may not be durable.
    dirty: KVVec<Arc<OrphanDir>>,
    /// Whether a segment's directory was made that may not be durable.
    is_home_dirty: bool,
    /// Entries that have other names, since a power cut came before the removal of the last one.
    pub(super) leaked_links: KVVec<FoundOrphan>,
    /// Entries without a line: a power cut took the line of the removal.
    pub(super) unlogged: KVVec<FoundOrphan>,
    /// The sizes of the orphans of some sealed segments, in bytes.
    sizes: KVVec<(u64, u64)>,
    /// The directory that was searched last.
    pub(super) listed: Option<ListedDir>,
    /// The number of times that a segment's directories were dropped from memory.
    pub(super) drops: u64,
}

/// An entry that a mount has found.
pub(crate) type FoundOrphan = (Arc<OrphanDir>, EntryName);

/// The directories of the active segment.
struct ActiveDirs {
    /// Where its other directories are.
    top: Arc<OrphanDir>,
    /// Those that are known to be there, by their numbers.
    dirs: KVec<Option<Arc<OrphanDir>>>,
}

/// A directory of orphans.
pub(crate) struct OrphanDir {
    pub(super) dir: StoreDir,
    pub(super) segment: u64,
    /// Whether a name was added that may not be durable.
    dirty: Atomic<bool>,
}

impl OrphanDir {
    pub(super) fn new(dir: StoreDir, segment: u64) -> Result<Arc<Self>> {
        Ok(Arc::new(
            Self {
                dir,
                segment,
                dirty: Atomic::new(false),
            },
            GFP_KERNEL,
        )?)
    }

    /// The directory.
    pub(crate) fn dir(&self) -> &StoreDir {
        &self.dir
    }

    /// The segment whose removals moved objects here.
    pub(crate) fn segment(&self) -> u64 {
        self.segment
    }
}

impl ActiveDirs {
    fn new(top: Arc<OrphanDir>) -> Result<Self> {
        let mut dirs = KVec::with_capacity(DIRS_PER_SEGMENT, GFP_KERNEL)?;
        for _ in 0..DIRS_PER_SEGMENT {
            dirs.push(None, GFP_KERNEL)?;
        }
        Ok(Self { top, dirs })
    }
}

fn segment_name(segment: u64) -> Name {
    Name::new(format_args!("{segment:08}"))
}

/// The number of an orphan's directory.
pub(super) fn dir_number(object: ObjectId) -> usize {
    // CAST: Below PLACES.
    (object.inode / NEIGHBOURS % DIRS_PER_SEGMENT as u64) as usize
}

pub(super) fn dropped_name(segment: u64) -> Name {
    Name::new(format_args!("{segment:08}.dropped"))
}

pub(super) fn dir_name(number: usize) -> Name {
    Name::new(format_args!("{number:02x}"))
}

impl OrphanStore {
    /// Opens or makes the directory below the history's.
    pub(super) fn open(home: &StoreDir) -> Result<Self> {
        Ok(Self {
            home: Some(trust::private_dir(home, ORPHANS)?),
            active: None,
            dirty: KVVec::new(),
            is_home_dirty: false,
            leaked_links: KVVec::new(),
            unlogged: KVVec::new(),
            sizes: KVVec::new(),
            listed: None,
            drops: 0,
        })
    }

    /// Closes everything.
    pub(super) fn close(&mut self) {
        self.active = None;
        self.dirty = KVVec::new();
        self.listed = None;
        self.home = None;
    }

    /// A segment's directory with this number, if it is open.
    fn cached_dir(&self, segment: u64, number: usize) -> Option<&Arc<OrphanDir>> {
        let active = self
            .active
            .as_ref()
            .filter(|active| active.top.segment == segment)?;
        active.dirs.get(number)?.as_ref()
    }

    /// A segment's directory with this number, created if there is none; and the number of bytes
    /// that this took.
    fn get_or_make(&mut self, segment: u64, number: usize) -> Result<(Arc<OrphanDir>, u64)> {
        if let Some(orphan_dir) = self.cached_dir(segment, number) {
            return Ok((orphan_dir.clone(), 0));
        }
        let mut active = match self
            .active
            .take()
            .filter(|active| active.top.segment == segment)
        {
            Some(active) => active,
            None => self.make_segment_dir(segment)?,
        };
        let made = self.make_orphan_dir(&mut active, number);
        self.active = Some(active);
        made
    }

    fn make_segment_dir(&mut self, segment: u64) -> Result<ActiveDirs> {
        let home = self.home.as_ref().ok_or(ESHUTDOWN)?;
        let dir = trust::private_dir(home, segment_name(segment).bytes())?;
        self.is_home_dirty = true;
        ActiveDirs::new(OrphanDir::new(dir, segment)?)
    }

    fn make_orphan_dir(
        &mut self,
        active: &mut ActiveDirs,
        number: usize,
    ) -> Result<(Arc<OrphanDir>, u64)> {
        let (name, top) = (dir_name(number), &active.top);
        let orphan_dir = OrphanDir::new(trust::private_dir(&top.dir, name.bytes())?, top.segment)?;
        // The directory's own name has to be durable, too.
        self.mark_dirty(top)?;
        let bytes = top.dir.bytes_of(name.bytes());
        *active.dirs.get_mut(number).ok_or(EINVAL)? = Some(orphan_dir.clone());
        Ok((orphan_dir, bytes))
    }

    /// A name came to `place`.
    fn mark_dirty(&mut self, orphan_dir: &Arc<OrphanDir>) -> Result {
        if !orphan_dir.dirty.xchg(true, Full) {
            if let Err(e) = self.dirty.push(orphan_dir.clone(), GFP_KERNEL) {
                orphan_dir.dirty.xchg(false, Full);
                return Err(e.into());
            }
        }
        Ok(())
    }

    /// Opens the directory of a segment. `ENODATA`: the segment was dropped, or has no orphans.
    pub(super) fn find(&self, segment: u64) -> Result<StoreDir> {
        let home = self.home.as_ref().ok_or(ESHUTDOWN)?;
        existing(home.open_dir(segment_name(segment).bytes()))
    }

    /// Marks a segment's directory as dropped, before its log is removed.
    pub(super) fn mark_dropped(&mut self, segment: u64) -> Result {
        let home = self.home.as_ref().ok_or(ESHUTDOWN)?;
        let (name, dropped) = (segment_name(segment), dropped_name(segment));
        gone(home.rename(name.bytes(), home, dropped.bytes()))?;
        self.drop_cached(segment);
        Ok(())
    }

    /// The segment stays all the same.
    pub(super) fn unmark_dropped(&mut self, segment: u64) -> Result {
        let home = self.home.as_ref().ok_or(ESHUTDOWN)?;
        let (name, dropped) = (segment_name(segment), dropped_name(segment));
        gone(home.rename(dropped.bytes(), home, name.bytes()))
    }

    fn drop_cached(&mut self, segment: u64) {
        self.drop_cached_size(segment);
        // Also one that is being listed now, and would be kept afterwards.
        self.listed = None;
        self.drops = self.drops.wrapping_add(1);
        self.dirty.retain(|known| known.segment != segment);
        self.active = self
            .active
            .take()
            .filter(|active| active.top.segment != segment);
    }

    /// The size of a segment's orphans in bytes.
    pub(super) fn bytes_of_segment(&mut self, segment: u64) -> Result<u64> {
        let known = self.sizes.iter().find(|(number, _)| *number == segment);
        if let Some((_, bytes)) = known {
            return Ok(*bytes);
        }
        let bytes = match self.find(segment) {
            Err(e) if e == ENODATA => 0,
            found => bytes_below(&found?)?,
        };
        // Only the active segment gets more orphans.
        if self
            .active
            .as_ref()
            .is_none_or(|active| active.top.segment != segment)
        {
            // The cache is only a shortcut for admission, so it is simply emptied.
            if self.sizes.len() >= CACHED_SIZES {
                self.sizes.clear();
            }
            self.sizes.push((segment, bytes), GFP_KERNEL)?;
        }
        Ok(bytes)
    }

    /// Removes a segment's orphans. Returns their size in bytes.
    pub(super) fn drop_segment(&mut self, segment: u64) -> Result<u64> {
        let bytes = self.drop_dir(segment_name(segment))?;
        self.drop_cached(segment);
        Ok(bytes.saturating_add(self.drop_dir(dropped_name(segment))?))
    }

    /// Removes the remaining orphans of segments before `first`, which were dropped.
    pub(super) fn drop_before(&mut self, first: u64) -> Result {
        for numbers in [self.numbers_with_suffix(DROPPED)?, self.segments()?] {
            for segment in numbers.into_iter().filter(|segment| *segment < first) {
                self.drop_segment(segment)?;
            }
        }
        Ok(())
    }

    pub(super) fn drop_dir(&self, name: Name) -> Result<u64> {
        let home = self.home.as_ref().ok_or(ESHUTDOWN)?;
        let dir = match home.open_dir(name.bytes()) {
            Err(e) if e == ENOENT => return Ok(0),
            found => found?,
        };
        let bytes = clear_dirs(&dir)?;
        gone(home.remove_dir(name.bytes()))?;
        Ok(bytes)
    }

    /// Drops the cached size of a segment.
    pub(super) fn drop_cached_size(&mut self, segment: u64) {
        self.sizes.retain(|(known, _)| *known != segment);
    }

    /// Adds a segment's orphans that the quota accounts in `wanted` pay for.
    pub(super) fn list(
        &self,
        segment: u64,
        found: &mut KVVec<ReclaimCandidate>,
        wanted: &dyn Fn(QuotaAccounts) -> bool,
    ) -> Result {
        let top = match self.find(segment) {
            Err(e) if e == ENODATA => return Ok(()),
            top => top?,
        };
        each_batch(&top, |name| {
            if let Some(dir) = open_orphan_dir(&top, name)? {
                let orphan_dir = OrphanDir::new(dir, segment)?;
                each_batch(&orphan_dir.dir, |name| {
                    add_candidate(&orphan_dir, name, found, wanted)
                })?;
            }
            Ok(false)
        })
    }

    /// The numbers of the segments that have a directory.
    pub(super) fn segments(&self) -> Result<KVVec<u64>> {
        self.numbers_with_suffix(b"")
    }

    /// The numbers in the names that end like this.
    pub(super) fn numbers_with_suffix(&self, suffix: &[u8]) -> Result<KVVec<u64>> {
        let home = self.home.as_ref().ok_or(ESHUTDOWN)?;
        let mut numbers = KVVec::new();
        let mut full = Ok(());
        home.list(&mut |name| {
            if let Some(number) = number_in_name(name, suffix) {
                full = full.and(numbers.push(number, GFP_KERNEL));
            }
        })?;
        full?;
        Ok(numbers)
    }
}

/// An orphan that may be reclaimed.
pub(super) struct ReclaimCandidate {
    pub(super) orphan_dir: Arc<OrphanDir>,
    pub(super) name: EntryName,
    /// Its change time, which losing its name has moved.
    pub(super) since: (i64, u32),
}

/// Adds an object if its quota accounts are `wanted`. Returns false, for `each_batch()`: no name
/// was removed.
fn add_candidate(
    orphan_dir: &Arc<OrphanDir>,
    name: &EntryName,
    found: &mut KVVec<ReclaimCandidate>,
    wanted: &dyn Fn(QuotaAccounts) -> bool,
) -> Result<bool> {
    if let Some((accounts, since)) = orphan_dir.dir.accounts_of(name.bytes()) {
        if wanted(accounts) {
            let known = ReclaimCandidate {
                orphan_dir: orphan_dir.clone(),
                name: *name,
                since,
            };
            found.push(known, GFP_KERNEL)?;
        }
    }
    Ok(false)
}

/// A directory that was opened. `ENODATA`: there is none.
pub(super) fn existing(opened: Result<StoreDir>) -> Result<StoreDir> {
    match opened {
        Err(e) if e == ENOENT => Err(ENODATA),
        found => found,
    }
}

/// How many bytes everything below a segment's directory takes.
fn bytes_below(top: &StoreDir) -> Result<u64> {
    let mut bytes = 0u64;
    each_batch(top, |name| {
        bytes = bytes.saturating_add(top.bytes_of(name.bytes()));
        if let Some(dir) = open_orphan_dir(top, name)? {
            each_batch(&dir, |inner| {
                bytes = bytes.saturating_add(dir.bytes_of(inner.bytes()));
                Ok(false)
            })?;
        }
        Ok(false)
    })?;
    Ok(bytes)
}

/// Removes a segment's orphans. Returns their size in bytes.
fn clear_dirs(top: &StoreDir) -> Result<u64> {
    let mut bytes = 0u64;
    each_batch(top, |name| {
        if let Some(dir) = open_orphan_dir(top, name)? {
            bytes = bytes.saturating_add(clear_dir(&dir)?);
        }
        bytes = bytes.saturating_add(top.bytes_of(name.bytes()));
        Ok(remove_whole(top, name.bytes()).is_ok())
    })?;
    Ok(bytes)
}

/// Opens a directory of orphans below a segment's; `None`: the name is no such directory.
pub(super) fn open_orphan_dir(top: &StoreDir, name: &EntryName) -> Result<Option<StoreDir>> {
    if name.bytes().len() != 2 {
        return Ok(None);
    }
    match top.open_dir(name.bytes()) {
        Err(e) if e == ENOTDIR => Ok(None),
        opened => opened.map(Some),
    }
}

impl Journal {
    /// The number of orphans; counts no further segment from `most` on. Operations go on meanwhile:
    /// the orphans' lock is not held while a directory is read.
    pub(super) fn count_orphans(&self, most: u64) -> Result<u64> {
        let mut count = 0u64;
        let segments = self.orphans.lock().segments()?;
        for segment in segments {
            if count >= most {
                break;
            }
            let found = self.orphans.lock().find(segment);
            let top = match found {
                Err(e) if e == ENODATA || e == ENOENT => continue,
                top => top?,
            };
            each_batch(&top, |name| {
                if let Some(dir) = open_orphan_dir(&top, name)? {
                    dir.list(&mut |_| count = count.saturating_add(1))?;
                }
                Ok(false)
            })?;
        }
        Ok(count)
    }

    /// The directory for an object that loses its last name now, and a number that no line has yet.
    pub(crate) fn orphan_dir(&self, object: ObjectId) -> Result<(Arc<OrphanDir>, u64)> {
        let (segment, seq) = self.position();
        let (orphan_dir, bytes) = self
            .orphans
            .lock()
            .get_or_make(segment, dir_number(object))?;
        self.count_orphan_bytes(bytes, 0);
        Ok((orphan_dir, seq))
    }

    /// Records that `place` got a name: `sync_orphans()` makes the name durable before any line that
    /// is placed from now on.
    pub(crate) fn orphan_added(&self, orphan_dir: &Arc<OrphanDir>) -> Result {
        self.count_orphan();
        self.orphans.lock().mark_dirty(orphan_dir)
    }

    /// Takes the list of orphans with other names; empty from the second call on.
    pub(crate) fn take_leaked_links(&self) -> KVVec<FoundOrphan> {
        core::mem::take(&mut self.orphans.lock().leaked_links)
    }

    /// Takes the list of unlogged orphans; empty from the second call on. Until [`Self::adopted`]
    /// is called, the next mount collects them again.
    pub(crate) fn take_orphans(&self) -> KVVec<FoundOrphan> {
        core::mem::take(&mut self.orphans.lock().unlogged)
    }

    /// All unlogged orphans have lines now, and these are durable.
    pub(crate) fn adopted(&self) {
        self.end_incomplete_intent(ADOPTION);
    }

    /// Makes names in `orphans/` durable. Must run before lines are written: a line with `kept=` needs
    /// its orphan.
    pub(super) fn sync_orphans(&self) -> Result {
        let mut orphans = self.orphans.lock();
        if orphans.is_home_dirty {
            orphans.home.as_ref().ok_or(ESHUTDOWN)?.sync()?;
            orphans.is_home_dirty = false;
        }
        while let Some(orphan_dir) = orphans.dirty.pop() {
            // A name that comes from here on is not for this sync.
            orphan_dir.dirty.xchg(false, Full);
            if let Err(error) = orphan_dir.dir.sync() {
                orphans.mark_dirty(&orphan_dir)?;
                return Err(error);
            }
        }
        Ok(())
    }
}
