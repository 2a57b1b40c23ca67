// SPDX-License-Identifier: GPL-2.0

//! Objects that lost their last name: each is kept by a name of ours, `kept/SEGMENT/INODE.GENERATION`.
//!
//! So deleting costs the same whatever an object holds, and what is deleted comes back as it was:
//! the inode itself, with its attributes and its own history. A segment's directory goes when the
//! segment is dropped, and with it the objects that nobody took back.

use kernel::{
    prelude::*,
    sync::Arc, //
};

use super::{
    journal::{
        Journal,
        OnFull, //
    },
    line::ObjectId,
    recovery,
    segment::{
        gone,
        number_in_name,
        Files,
        Name, //
    },
    trust, //
};
use crate::vfs::{
    error::{ENODATA, ENOTEMPTY, ESHUTDOWN},
    store::Dir, //
};

/// The directory's name, below the history's.
const KEPT: &[u8] = b"kept";

/// How many names are listed at a time when a segment's directory is emptied.
const BATCH: usize = 512;

/// The directory of what is kept.
pub(super) struct Kept {
    home: Option<Dir>,
    /// The one that is used now, and its segment.
    now: Option<(u64, Arc<Dir>)>,
    /// Those whose names may not be durable.
    dirty: KVec<Arc<Dir>>,
    /// Whether a segment's directory was made that may not be durable.
    is_home_dirty: bool,
    /// What has other names, too: a power cut came before it lost its own. With the segment.
    strays: KVec<(u64, EntryName)>,
}

/// How an object is called in its segment's directory.
pub(crate) fn entry(object: ObjectId) -> EntryName {
    EntryName(Name::new(format_args!(
        "{}.{}",
        object.inode, object.generation
    )))
}

/// See [`entry`].
pub(crate) struct EntryName(Name);

impl EntryName {
    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }
}

fn segment_name(segment: u64) -> Name {
    Name::new(format_args!("{segment:08}"))
}

impl Kept {
    /// Opens or makes the directory below the history's.
    pub(super) fn open(home: &Dir) -> Result<Self> {
        Ok(Self {
            home: Some(trust::private_dir(home, KEPT)?),
            now: None,
            dirty: KVec::new(),
            is_home_dirty: false,
            strays: KVec::new(),
        })
    }

    /// Closes everything.
    pub(super) fn close(&mut self) {
        self.now = None;
        self.dirty = KVec::new();
        self.home = None;
    }

    /// The directory of a segment, made when there is none.
    fn make(&mut self, segment: u64) -> Result<Arc<Dir>> {
        let known = self.now.as_ref().filter(|(number, _)| *number == segment);
        if let Some((_, dir)) = known {
            return Ok(dir.clone());
        }
        let home = self.home.as_ref().ok_or(ESHUTDOWN)?;
        let dir = trust::private_dir(home, segment_name(segment).bytes())?;
        let dir = Arc::new(dir, GFP_KERNEL)?;
        self.is_home_dirty = true;
        self.now = Some((segment, dir.clone()));
        Ok(dir)
    }

    /// The directory of a segment. `ENODATA`: it was dropped, or nothing was ever kept with it.
    fn find(&self, segment: u64) -> Result<Dir> {
        let home = self.home.as_ref().ok_or(ESHUTDOWN)?;
        match home.open_dir(segment_name(segment).bytes()) {
            Err(e) if e == ENOENT => Err(ENODATA),
            found => found,
        }
    }

    /// Gives up what is kept with a segment. Returns how many bytes that took.
    pub(super) fn drop_segment(&mut self, segment: u64) -> Result<u64> {
        let dir = match self.find(segment) {
            Err(e) if e == ENODATA => return Ok(0),
            found => found?,
        };
        let bytes = empty(&dir)?;
        self.dirty.retain(|known| !known.is(&dir));
        if self
            .now
            .as_ref()
            .is_some_and(|(number, _)| *number == segment)
        {
            self.now = None;
        }
        let home = self.home.as_ref().ok_or(ESHUTDOWN)?;
        gone(home.remove_dir(segment_name(segment).bytes()))?;
        Ok(bytes)
    }

    /// The numbers of the segments that have a directory.
    fn segments(&self) -> Result<KVec<u64>> {
        let home = self.home.as_ref().ok_or(ESHUTDOWN)?;
        let mut numbers = KVec::new();
        let mut full = Ok(());
        home.list(&mut |name| {
            if let Some(number) = number_in_name(name, b"") {
                full = full.and(numbers.push(number, GFP_KERNEL));
            }
        })?;
        full?;
        Ok(numbers)
    }

    /// Drops what goes with segments that are not there, and counts what the others take, in bytes.
    pub(super) fn tidy(&mut self, files: &Files) -> Result<u64> {
        let logs = recovery::segments(files)?;
        let mut bytes = 0u64;
        for segment in self.segments()? {
            if logs.binary_search(&segment).is_err() {
                self.drop_segment(segment)?;
                continue;
            }
            let dir = self.find(segment)?;
            let strays = &mut self.strays;
            each_batch(&dir, |name| {
                if dir.has_other_names(name.bytes()) {
                    strays.push((segment, EntryName(*name)), GFP_KERNEL)?;
                } else {
                    bytes = bytes.saturating_add(dir.bytes_of(name.bytes()));
                }
                Ok(false)
            })?;
        }
        Ok(bytes)
    }
}

/// Removes everything in a directory. Returns how many bytes that took.
fn empty(dir: &Dir) -> Result<u64> {
    let mut bytes = 0u64;
    each_batch(dir, |name| {
        bytes = bytes.saturating_add(dir.bytes_of(name.bytes()));
        let removed = match remove(dir, name.bytes()) {
            Err(e) if e == ENOTEMPTY => remove_tree(dir, name.bytes()),
            result => result,
        };
        Ok(removed.is_ok())
    })?;
    Ok(bytes)
}

fn remove(dir: &Dir, name: &[u8]) -> Result {
    match dir.unlink(name) {
        Err(e) if e == EISDIR || e == EPERM => gone(dir.remove_dir(name)),
        result => gone(result),
    }
}

/// Removes a directory that is not empty: a revert was refused after it had brought names back into
/// it. Each round goes down to one that holds no other such directory: no recursion.
fn remove_tree(dir: &Dir, name: &[u8]) -> Result {
    loop {
        match remove(dir, name) {
            Err(e) if e == ENOTEMPTY => {}
            result => return result,
        }
        let mut at = dir.open_dir(name)?;
        while let Some(inner) = clear(&at)? {
            at = at.open_dir(&inner)?;
        }
    }
}

/// Removes what is in a directory; stops at a directory that is not empty, and answers its name.
fn clear(dir: &Dir) -> Result<Option<KVec<u8>>> {
    loop {
        let mut names: KVec<KVec<u8>> = KVec::new();
        let mut full = Ok(());
        dir.list(&mut |name| {
            if names.len() < BATCH && full.is_ok() {
                let mut copy = KVec::new();
                let copied = copy.extend_from_slice(name, GFP_KERNEL);
                full = copied.and_then(|()| names.push(copy, GFP_KERNEL));
            }
        })?;
        full?;
        if names.is_empty() {
            return Ok(None);
        }
        for name in names {
            match remove(dir, &name) {
                Err(e) if e == ENOTEMPTY => return Ok(Some(name)),
                result => result?,
            }
        }
    }
}

/// Calls `f` with each name, so many at a time, until there are none, or it removed none of them:
/// it says whether it did.
fn each_batch(dir: &Dir, mut f: impl FnMut(&Name) -> Result<bool>) -> Result {
    let mut skip = 0usize;
    loop {
        let mut names: KVVec<Name> = KVVec::with_capacity(BATCH, GFP_KERNEL)?;
        let mut seen = 0usize;
        dir.list(&mut |name| {
            seen = seen.saturating_add(1);
            if seen > skip && names.len() < BATCH {
                if let Some(name) = Name::of(name) {
                    // There is room: the length was just looked at.
                    let _ = names.push(name, GFP_KERNEL);
                }
            }
        })?;
        if names.is_empty() {
            return Ok(());
        }
        for name in &names {
            if !f(name)? {
                skip = skip.saturating_add(1);
            }
        }
    }
}

impl Journal {
    /// Where an object that loses its last name now is kept: the segment, and its directory.
    pub(crate) fn kept_now(&self) -> Result<(u64, Arc<Dir>)> {
        let segment = self.segment();
        let dir = self.kept.lock().make(segment)?;
        Ok((segment, dir))
    }

    /// A name has come to `dir`: it will be durable before any line that is placed from now on.
    pub(crate) fn kept_one(&self, dir: &Arc<Dir>) -> Result {
        let mut kept = self.kept.lock();
        if !kept.dirty.iter().any(|known| Arc::ptr_eq(known, dir)) {
            kept.dirty.push(dir.clone(), GFP_KERNEL)?;
        }
        Ok(())
    }

    /// The directory of what is kept with a segment. `ENODATA`: it was dropped.
    pub(crate) fn kept_with(&self, segment: u64) -> Result<Dir> {
        self.kept.lock().find(segment)
    }

    /// What is kept and has other names, with its segment: once.
    pub(crate) fn take_strays(&self) -> KVec<(u64, EntryName)> {
        core::mem::take(&mut self.kept.lock().strays)
    }

    /// Gives up the oldest part of what is kept, because the lower filesystem has no room. False:
    /// there is nothing, or it is not to be given up.
    pub(crate) fn give_up_kept(&self) -> bool {
        if self.options.on_full == OnFull::Deny {
            return false;
        }
        let mut kept = self.kept.lock();
        let oldest = kept.segments().ok().and_then(|s| s.iter().copied().min());
        let Some(oldest) = oldest else { return false };
        let freed = kept.drop_segment(oldest);
        // Most filesystems give blocks back with the change of names that freed them.
        let home = kept.home.as_ref().ok_or(ESHUTDOWN);
        let synced = home.and_then(|home| home.sync());
        drop(kept);
        match freed {
            Ok(freed) => {
                self.count_kept(0, freed);
                synced.is_ok()
            }
            Err(_) => false,
        }
    }

    /// The segment that an object is kept with, if it is.
    pub(crate) fn find_kept(&self, object: ObjectId) -> Result<Option<u64>> {
        let kept = self.kept.lock();
        for segment in kept.segments()? {
            if kept.find(segment)?.has(entry(object).bytes()) {
                return Ok(Some(segment));
            }
        }
        Ok(None)
    }

    /// Makes the names of what is kept durable: before any line that tells of them.
    pub(super) fn sync_kept(&self) -> Result {
        let mut kept = self.kept.lock();
        if kept.is_home_dirty {
            kept.home.as_ref().ok_or(ESHUTDOWN)?.sync()?;
            kept.is_home_dirty = false;
        }
        while let Some(dir) = kept.dirty.pop() {
            if let Err(error) = dir.sync() {
                kept.dirty.push(dir, GFP_KERNEL)?;
                return Err(error);
            }
        }
        Ok(())
    }
}
