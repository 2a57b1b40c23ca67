// SPDX-License-Identifier: GPL-2.0

//! The files of segments: `log/NNNNNNNN.log` and `undo/NNNNNNNN.dat`.

use core::fmt::Write;
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
};

use super::{stream::Stream, trust};
use crate::{
    log::line::{decode_padded_decimal, FixedBuffer},
    vfs::{
        error::{ENODATA, ESHUTDOWN, EUCLEAN},
        store::{StoreDir, StoreFile, StreamFile},
    },
};

/// The mode of every file of the history.
pub(super) const MODE: u16 = 0o600;

/// A dropped segment's payload file that waits for a new use.
const SPARE: &[u8] = b"spare.dat";

/// How many segments are kept open for readers.
const RECENT: usize = 4;

/// A file's name.
#[derive(Clone, Copy)]
pub(super) struct Name {
    buf: [u8; 48],
    len: usize,
}

impl Name {
    /// Formats a name.
    pub(super) fn new(arguments: core::fmt::Arguments<'_>) -> Self {
        let mut buf = [0; 48];
        let mut text = FixedBuffer::new(&mut buf);
        // Two numbers of twenty digits and a suffix always fit.
        let _ = text.write_fmt(arguments);
        let len = text.written().len();
        Self { buf, len }
    }

    fn log(segment: u64) -> Self {
        Self::new(format_args!("{segment:08}.log"))
    }

    fn undo(segment: u64) -> Self {
        Self::new(format_args!("{segment:08}.dat"))
    }

    /// The bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        self.buf.get(..self.len).unwrap_or_default()
    }
}

/// The number in a segment file's name.
pub(super) fn number_in_name(name: &[u8], suffix: &[u8]) -> Option<u64> {
    let digits = name.strip_suffix(suffix)?;
    if digits.len() < 8 {
        return None;
    }
    decode_padded_decimal(digits).filter(|number| *number != 0)
}

/// An open segment.
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) log: Stream,
    pub(super) undo: Stream,
    /// Whether its payload file has all of its blocks.
    pub(super) is_allocated: Atomic<bool>,
}

/// The directories, and the segments that are open.
pub(super) struct Files {
    dirs: Option<(StoreDir, StoreDir)>,
    /// Those that are written.
    open: KVec<Arc<Segment>>,
    /// Those that were read lately.
    recent: KVec<Arc<Segment>>,
    /// The oldest that is there.
    first: u64,
    /// Whether names were made since the directories were last synced.
    names_dirty: bool,
    /// How large the file is that waits for a new use; `None`: there is none.
    spare: Option<u64>,
}

impl Files {
    /// Opens or makes the directories below the history's.
    pub(super) fn open(home: &StoreDir) -> Result<Self> {
        let log = trust::private_dir(home, b"log")?;
        let undo = trust::private_dir(home, b"undo")?;
        let spare = undo.open(SPARE, false).and_then(trust::private_file);
        let spare = match spare.map(|file| file.size()) {
            Err(e) if e == EPERM => {
                // Nothing that this module puts there.
                let _ = undo.unlink(SPARE);
                None
            }
            spare => spare.ok(),
        };
        Ok(Self {
            dirs: Some((log, undo)),
            open: KVec::new(),
            recent: KVec::with_capacity(RECENT, GFP_KERNEL)?,
            first: 0,
            names_dirty: false,
            spare,
        })
    }

    /// The directories of logs and payloads.
    pub(super) fn dirs(&self) -> Result<(&StoreDir, &StoreDir)> {
        let (log, undo) = self.dirs.as_ref().ok_or(ESHUTDOWN)?;
        Ok((log, undo))
    }

    /// Closes everything.
    pub(super) fn close(&mut self) {
        self.open = KVec::new();
        self.recent = KVec::new();
        self.dirs = None;
    }

    /// The oldest segment that is there.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// How large the file is that waits for a new use.
    pub(super) fn spare_bytes(&self) -> u64 {
        self.spare.unwrap_or(0)
    }

    /// Says which is the oldest that is there.
    pub(super) fn set_first(&mut self, first: u64) {
        self.first = first;
    }

    /// Creates the files of a segment and opens them for writing. With `recycle`, the spare file
    /// becomes its payload file.
    pub(super) fn create(&mut self, number: u64, recycle: bool) -> Result<Arc<Segment>> {
        let name = Name::undo(number);
        if recycle && self.spare.is_some() {
            let (_, undo_dir) = self.dirs()?;
            undo_dir.rename(SPARE, undo_dir, name.bytes())?;
            self.spare = None;
        }
        let (log_dir, undo_dir) = self.dirs()?;
        let undo = trust::private_file(undo_dir.create(name.bytes(), MODE)?)?;
        let undo = StreamFile::in_pages(undo, undo_dir, name.bytes());
        let log = trust::private_file(log_dir.create(Name::log(number).bytes(), MODE)?)?;
        // A log of that number may be left of an attempt that failed.
        log.truncate(0)?;
        let log = StreamFile::in_pieces(log);
        self.names_dirty = true;
        let segment = Segment::new(number, log, undo, false)?;
        self.open.push(segment.clone(), GFP_KERNEL)?;
        Ok(segment)
    }

    /// Makes the files of a segment that have to be there again, empty.
    pub(super) fn restore(&mut self, number: u64) -> Result {
        let (log_dir, undo_dir) = self.dirs()?;
        undo_dir.create(Name::undo(number).bytes(), MODE)?;
        log_dir.create(Name::log(number).bytes(), MODE)?;
        self.names_dirty = true;
        Ok(())
    }

    /// The segments that are written.
    pub(super) fn writable(&self) -> &[Arc<Segment>] {
        &self.open
    }

    /// One of them.
    pub(super) fn to_write(&self, number: u64) -> Result<Arc<Segment>> {
        let found = self.open.iter().find(|s| s.number == number);
        Ok(found.ok_or(EIO)?.clone())
    }

    /// Nothing more is written to a segment.
    pub(super) fn end(&mut self, number: u64) {
        self.open.retain(|s| s.number != number);
    }

    /// Opens any segment for reading. `ENODATA`: dropped; `EUCLEAN`: its files are missing.
    pub(super) fn open_to_read(&mut self, number: u64) -> Result<Arc<Segment>> {
        // The files may still exist while the segment is being dropped.
        if number < self.first {
            return Err(ENODATA);
        }
        let mut known = Iterator::chain(self.open.iter(), self.recent.iter());
        if let Some(segment) = known.find(|s| s.number == number) {
            return Ok(segment.clone());
        }
        let (log_dir, undo_dir) = self.dirs()?;
        let open = |dir: &StoreDir, name: Name| {
            let missing = |e: Error| if e == ENOENT { EUCLEAN } else { e };
            let file = dir.open(name.bytes(), false).map_err(missing)?;
            trust::private_file(file).map_err(|_| EUCLEAN)
        };
        let log = StreamFile::read_only(open(log_dir, Name::log(number))?);
        let undo = StreamFile::read_only(open(undo_dir, Name::undo(number))?);
        let segment = Segment::new(number, log, undo, true)?;
        if self.recent.len() >= RECENT {
            let _ = self.recent.remove(0);
        }
        self.recent.push(segment.clone(), GFP_KERNEL)?;
        Ok(segment)
    }

    /// The newest segment before `number` that is there; 0: none is.
    pub(super) fn before(&self, number: u64) -> Result<u64> {
        let last = number.saturating_sub(1);
        if last < self.first {
            return Ok(0);
        }
        let (log_dir, _) = self.dirs()?;
        if log_dir.open(Name::log(last).bytes(), false).is_ok() {
            return Ok(last);
        }
        // An unclean stop leaves gaps.
        let mut before = 0;
        log_dir.list(&mut |name| {
            let number = number_in_name(name, b".log").unwrap_or(0);
            if number >= self.first && number < last {
                before = number.max(before);
            }
        })?;
        Ok(before)
    }

    /// Makes new names durable.
    pub(super) fn sync_names(&mut self) -> Result {
        if self.names_dirty {
            let (log_dir, undo_dir) = self.dirs()?;
            undo_dir.sync()?;
            log_dir.sync()?;
            self.names_dirty = false;
        }
        Ok(())
    }

    /// Removes a segment's files; its payload file becomes the spare file if there is none. Returns
    /// the sizes of log and payloads.
    pub(super) fn remove(&mut self, number: u64) -> Result<(u64, u64)> {
        self.recent.retain(|s| s.number != number);
        let (log_dir, undo_dir) = self.dirs()?;
        let is_private = |name: &Name| {
            let undo = undo_dir.open(name.bytes(), false);
            undo.and_then(trust::private_file).is_ok()
        };
        let keep = self.spare.is_none() && is_private(&Name::undo(number));
        let size =
            |dir: &StoreDir, name: &Name| dir.open(name.bytes(), false).map_or(0, |f| f.size());
        let (log, undo) = (Name::log(number), Name::undo(number));
        let sizes = (size(log_dir, &log), size(undo_dir, &undo));
        gone(log_dir.unlink(log.bytes()))?;
        if keep && undo_dir.rename(undo.bytes(), undo_dir, SPARE).is_ok() {
            self.spare = Some(sizes.1);
        } else {
            gone(undo_dir.unlink(undo.bytes()))?;
        }
        Ok(sizes)
    }

    /// Removes the spare payload file. False: there is none.
    pub(super) fn free_spare(&mut self) -> Result<bool> {
        if self.spare.take().is_none() {
            return Ok(false);
        }
        let (_, undo_dir) = self.dirs()?;
        gone(undo_dir.unlink(SPARE))?;
        Ok(true)
    }

    /// Opens a log for recovery.
    pub(super) fn log_to_recover(&self, number: u64) -> Result<StoreFile> {
        let (log_dir, _) = self.dirs()?;
        trust::private_file(log_dir.open(Name::log(number).bytes(), true)?)
    }

    /// How large a segment's files are; one that is not there has no bytes. One that cannot be opened
    /// is an error: recovery removes segments that have none.
    pub(super) fn sizes(&self, number: u64) -> Result<(u64, u64)> {
        let (log_dir, undo_dir) = self.dirs()?;
        let size = |dir: &StoreDir, name: Name| match dir.open(name.bytes(), false) {
            Err(e) if e == ENOENT => Ok(0),
            file => file.map(|file| file.size()),
        };
        Ok((
            size(log_dir, Name::log(number))?,
            size(undo_dir, Name::undo(number))?,
        ))
    }

    /// Whether a segment has its payload file, possibly empty.
    pub(super) fn has_payloads(&self, number: u64) -> Result<bool> {
        let (_, undo_dir) = self.dirs()?;
        match undo_dir.open(Name::undo(number).bytes(), false) {
            Err(e) if e == ENOENT => Ok(false),
            file => file.map(|_| true),
        }
    }

    /// Removes payload files that no log goes with.
    pub(super) fn remove_unpaired(&mut self, keep: impl Fn(u64) -> bool) -> Result {
        let (_, undo_dir) = self.dirs()?;
        let mut unpaired = KVVec::new();
        let mut full = Ok(());
        undo_dir.list(&mut |name| {
            match number_in_name(name, b".dat") {
                Some(number) if !keep(number) => {
                    full = full.and(unpaired.push(number, GFP_KERNEL));
                }
                _ => {}
            };
        })?;
        full?;
        for number in unpaired {
            gone(undo_dir.unlink(Name::undo(number).bytes()))?;
        }
        Ok(())
    }
}

/// Takes "there is none" for done.
pub(super) fn gone(result: Result) -> Result {
    match result {
        Err(e) if e == ENOENT => Ok(()),
        result => result,
    }
}

impl Segment {
    fn new(
        number: u64,
        log: StreamFile,
        undo: StreamFile,
        is_allocated: bool,
    ) -> Result<Arc<Self>> {
        let segment = Self {
            number,
            log: Stream::new(log)?,
            undo: Stream::new(undo)?,
            is_allocated: Atomic::new(is_allocated),
        };
        Ok(Arc::new(segment, GFP_KERNEL)?)
    }

    /// Allocates the payload file's blocks up to `target`, unless the filesystem cannot.
    pub(super) fn allocate(&self, target: u64) {
        if self.is_allocated.load(Relaxed) {
            return;
        }
        self.is_allocated.store(true, Relaxed);
        // A file that is used anew has its blocks.
        let size = self.undo.size();
        if size < target {
            // Without preallocation everything works, only more slowly.
            let _ = self.undo.allocate(size, target);
        }
    }
}
