// SPDX-License-Identifier: GPL-2.0

//! The old bytes of a range, out of the page cache where they are there, into the journal.

use crate::{
    history::{
        journal::{Journal, LineRoom, Payload, Room, Staged, MAX_STAGED},
        line::{Extent, LineDraft, Undo},
        plan::{allocated, has_empty_block, Content, MapRecord}, //
    },
    vfs::{
        file::File,
        inode::Inode,
        range::{drop_clean_zeroes, extents, run_at, Run},
        task, //
    },
};
use kernel::prelude::*;

/// Runs of data and holes, ascending. Programs choose how many there are: the memory is vmalloc's where
/// there are many, and charged to the caller.
pub(crate) type MapRuns = KVVec<MapRecord>;

/// The most runs of one operation: they take 96 MiB, and 64 MiB of the history.
const MAX_RUNS: usize = 4 << 20;

/// How many runs are found between two looks for a fatal signal.
const RUNS_PER_LOOK: usize = 256;

/// What became of the old state.
pub(crate) enum Captured {
    /// There was none to save.
    Nothing,
    /// It was not saved, for this reason.
    Uncaptured(&'static str),
    /// It is in the journal.
    At {
        /// Where.
        extent: Extent,
        /// Its checksum.
        crc: u32,
        /// How many map records it begins with.
        records: u64,
        /// How many bytes at its end are old attributes.
        attributes: u64,
    },
}

impl Captured {
    /// The keys that say so: where it is, with how many map records it begins, its checksum. `None`:
    /// there are others.
    #[inline]
    pub(super) fn keys(&self) -> Option<(Undo, u64, u32)> {
        match self {
            Self::Nothing => Some((Undo::None, 0, 0)),
            Self::At {
                extent,
                crc,
                records,
                attributes: 0,
            } => Some((Undo::At(*extent), *records, *crc)),
            Self::Uncaptured(_) | Self::At { .. } => None,
        }
    }

    /// Adds the keys that say so.
    pub(crate) fn describe(&self, draft: &mut LineDraft<'_>) {
        match self {
            Self::Nothing => {
                draft.undo(Undo::None);
            }
            Self::Uncaptured(why) => {
                draft.undo(Undo::Lost).why(why);
            }
            Self::At {
                extent,
                crc,
                records,
                attributes,
            } => {
                draft.undo(Undo::At(*extent));
                if *records != 0 {
                    draft.map(*records);
                }
                if *attributes != 0 {
                    draft.attributes(*attributes);
                }
                draft.crc(*crc);
            }
        }
    }
}

/// Saves `[start, end)` of the lower file, which reaches at least to `end`, and reserves room for `lines`
/// lines when that can be done in the same go. Our inode's lock keeps writers through us away.
pub(super) fn range<'a>(
    journal: &'a Journal,
    lower: &Inode,
    reader: &File,
    (start, end): (u64, u64),
    lines: u32,
) -> Result<(Captured, Option<LineRoom<'a>>)> {
    let range = (start, end);
    let bytes = match usize::try_from(end.saturating_sub(start)) {
        Ok(0) => return Ok((Captured::Nothing, None)),
        _ if lower.may_be_sparse() => return Ok((runs_of(journal, lower, reader, range)?, None)),
        Ok(bytes @ 1..=MAX_STAGED) => bytes,
        _ => return Ok((plain(journal, lower, reader, range, false)?, None)),
    };
    let mut may_be_hole = false;
    let fill = |buf: &mut [u8]| {
        read(lower, reader, start, buf)?;
        may_be_hole = has_empty_block(buf, start, lower.block(), || end >= lower.size());
        Ok(())
    };
    let (staged, room) = journal.save(bytes, lines, fill)?;
    if may_be_hole {
        // A file may have as many blocks as its bytes need, and holes: others are behind its end, or
        // hold its attributes.
        drop(room);
        return Ok((runs_of(journal, lower, reader, range)?, None));
    }
    Ok((captured(staged, 0, 0), Some(room)))
}

/// Saves a range, and where it is a hole.
fn runs_of(journal: &Journal, lower: &Inode, reader: &File, range: (u64, u64)) -> Result<Captured> {
    match holes_in(reader, range)? {
        Some(runs) => mapped(journal, lower, Some(reader), &runs, &[], Room::Operation),
        None => plain(journal, lower, reader, range, true),
    }
}

/// The runs of a range, if there are others than of data.
fn holes_in(reader: &File, range: (u64, u64)) -> Result<Option<MapRuns>> {
    // Most often all of it is data, which takes no list.
    if matches!(run_at(reader, range.0, range.1), Run::Data(to) if to >= range.1)
        && !drop_clean_zeroes(reader, range.0, range.1)
    {
        return Ok(None);
    }
    let mut runs = MapRuns::new();
    add_runs(&mut runs, reader, range)?;
    let is_dense = runs.iter().all(|run| run.content == Content::Data);
    Ok((!is_dense).then_some(runs))
}

/// Adds the runs of data and holes of a range, under our inode's lock.
pub(crate) fn add_runs(runs: &mut MapRuns, reader: &File, range: (u64, u64)) -> Result {
    find_runs(runs, reader, range, range.0)
}

/// As [`add_runs`], where pages of the cache behind `cleaned` may make allocated space count as data.
fn find_runs(
    runs: &mut MapRuns,
    reader: &File,
    (start, end): (u64, u64),
    mut cleaned: u64,
) -> Result {
    let mut at = start;
    let mut count = 0usize;
    while at < end {
        count = count.wrapping_add(1);
        if count % RUNS_PER_LOOK == 0 && task::is_killed() {
            return Err(EINTR);
        }
        let (next, is_data) = match run_at(reader, at, end) {
            Run::Data(to) => (to, true),
            Run::Hole(to) => (to, false),
        };
        // A lower filesystem that answers nonsense must not keep us here.
        let next = if next > at { next } else { end };
        if is_data && cleaned < next {
            let from = cleaned.max(at);
            cleaned = next;
            // Some of it may have been no data, but clean pages over allocated space.
            if drop_clean_zeroes(reader, from, next) {
                continue;
            }
        }
        if is_data {
            add_run(runs, (at, next), Content::Data)?;
        } else {
            add_hole(runs, reader, (at, next))?;
        }
        at = next;
    }
    Ok(())
}

/// Adds the runs of a range without data: those that have space allocated, and those that have not.
fn add_hole(runs: &mut MapRuns, reader: &File, (start, end): (u64, u64)) -> Result {
    let inode = reader.inode();
    let (before, last) = (runs.len(), runs.last().copied());
    let found = allocated(
        (start, end),
        inode.block(),
        |from, to| extents(inode, from, to),
        |from, to, has_space| {
            let content = match has_space {
                true => Content::Unwritten,
                false => Content::Hole,
            };
            add_run(runs, (from, to), content)
        },
    );
    match found {
        Err(e) if e != ENOMEM && e != E2BIG => {
            // It does not tell: then it is a hole, which reads the same.
            runs.truncate(before);
            if let (Some(place), Some(last)) = (runs.last_mut(), last) {
                *place = last;
            }
            add_run(runs, (start, end), Content::Hole)
        }
        found => found,
    }
}

/// Adds a run to the last one, or behind it. `E2BIG`: there are too many.
fn add_run(runs: &mut MapRuns, (start, end): (u64, u64), content: Content) -> Result {
    let length = end.saturating_sub(start);
    let is_full = runs.len() >= MAX_RUNS;
    match runs.last_mut() {
        Some(last)
            if last.content == content && last.offset.checked_add(last.length) == Some(start) =>
        {
            last.length = last.length.saturating_add(length);
        }
        _ if is_full => return Err(E2BIG),
        _ => runs.push(
            MapRecord {
                offset: start,
                length,
                content,
            },
            GFP_KERNEL_ACCOUNT,
        )?,
    }
    Ok(())
}

/// Saves where `[start, end)` of the lower file, which reaches at least to `end`, has no space: it is about
/// to be allocated. Our inode's lock keeps writers through us away.
pub(super) fn holes(
    journal: &Journal,
    lower: &Inode,
    reader: &File,
    start: u64,
    end: u64,
) -> Result<Captured> {
    if start >= end {
        return Ok(Captured::Nothing);
    }
    let mut runs = MapRuns::new();
    // A hole is one whatever pages lie in the cache.
    find_runs(&mut runs, reader, (start, end), end)?;
    runs.retain(|run| run.content == Content::Hole);
    if runs.is_empty() {
        return Ok(Captured::Nothing);
    }
    mapped(journal, lower, None, &runs, &[], Room::Operation)
}

/// Saves a range as its bytes, if it is known to be data (`is_data`), or if its zeroes turn out to be.
fn plain(
    journal: &Journal,
    lower: &Inode,
    reader: &File,
    (start, end): (u64, u64),
    is_data: bool,
) -> Result<Captured> {
    let mut is_data = is_data;
    let mut payload = stage(journal, end.saturating_sub(start), Room::Operation)?;
    let mut at = start;
    while at < end {
        let mut may_be_hole = false;
        let n = fill(&mut payload, lower, reader, (at, end), |buf| {
            // Of a block that goes on in the next part, the first bytes have to do.
            may_be_hole = !is_data && has_empty_block(buf, at, lower.block(), || true);
        })?;
        if may_be_hole {
            if let Some(runs) = holes_in(reader, (start, end))? {
                drop(payload);
                return mapped(journal, lower, Some(reader), &runs, &[], Room::Operation);
            }
            is_data = true;
        }
        at = at.saturating_add(n);
    }
    Ok(captured(payload.finish()?, 0, 0))
}

/// Saves runs in file order, each with its record in the payload's map, and behind them
/// `attributes`, which are records of their own. Without a reader there must be no runs of data.
pub(crate) fn mapped(
    journal: &Journal,
    lower: &Inode,
    reader: Option<&File>,
    runs: &[MapRecord],
    attributes: &[u8],
    room: Room,
) -> Result<Captured> {
    let records = runs.len() as u64;
    let length = payload_length(runs, attributes)?;
    let mut payload = stage(journal, length, room)?;
    for run in runs {
        payload.push(&run.encode())?;
    }
    for run in runs.iter().filter(|run| run.content == Content::Data) {
        let reader = reader.ok_or(EINVAL)?;
        push(&mut payload, lower, reader, run.offset, run.length)?;
    }
    payload.push(attributes)?;
    Ok(captured(
        payload.finish()?,
        records,
        attributes.len() as u64,
    ))
}

/// How long the payload of [`mapped`] is.
pub(crate) fn payload_length(runs: &[MapRecord], attributes: &[u8]) -> Result<u64> {
    let data = runs
        .iter()
        .filter(|run| run.content == Content::Data)
        .try_fold(0u64, |sum, run| sum.checked_add(run.length));
    let map = (runs.len() as u64).checked_mul(16);
    (map.zip(data))
        .and_then(|(map, data)| map.checked_add(data))
        .and_then(|content| content.checked_add(attributes.len() as u64))
        .ok_or(EFBIG)
}

fn stage(journal: &Journal, length: u64, room: Room) -> Result<Payload<'_>> {
    match usize::try_from(length) {
        Ok(length) if length <= MAX_STAGED => journal.stage(length),
        _ => journal.stage_large(length, room),
    }
}

/// Saves attributes alone.
pub(super) fn attributes(journal: &Journal, records: &[u8]) -> Result<Captured> {
    let length = records.len() as u64;
    let mut payload = stage(journal, length, Room::Operation)?;
    payload.push(records)?;
    Ok(captured(payload.finish()?, 0, length))
}

fn captured(staged: Staged, records: u64, attributes: u64) -> Captured {
    Captured::At {
        extent: staged.extent,
        crc: staged.crc,
        records,
        attributes,
    }
}

fn push(
    payload: &mut Payload<'_>,
    lower: &Inode,
    reader: &File,
    start: u64,
    length: u64,
) -> Result {
    let end = start.saturating_add(length);
    let mut at = start;
    while at < end {
        at = at.saturating_add(fill(payload, lower, reader, (at, end), |_| ())?);
    }
    Ok(())
}

/// Adds as many bytes of a range as go in one piece, which `look` is shown; returns how many.
#[inline]
fn fill(
    payload: &mut Payload<'_>,
    lower: &Inode,
    reader: &File,
    (at, end): (u64, u64),
    look: impl FnOnce(&[u8]),
) -> Result<u64> {
    let limit = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
    let n = payload.fill(limit, |buf| {
        read(lower, reader, at, buf)?;
        look(buf);
        Ok(buf.len())
    })?;
    if n == 0 {
        return Err(EIO);
    }
    Ok(n as u64)
}

/// Fills `buf` with what the file holds at `at`.
#[inline]
fn read(lower: &Inode, reader: &File, at: u64, buf: &mut [u8]) -> Result {
    let cached = lower.copy_cached(at, buf).min(buf.len());
    let (_, rest) = buf.split_at_mut(cached);
    if rest.is_empty() {
        return Ok(());
    }
    read_uncached(lower, reader, at.saturating_add(cached as u64), rest)
}

/// As [`read`], where the page cache does not hold the beginning.
///
/// Only data is read, and nothing ahead of it: a page in the cache makes allocated space count as data
/// for SEEK_HOLE on ext4 and xfs, and mincore() and cachestat() show it.
#[cold]
fn read_uncached(lower: &Inode, reader: &File, at: u64, buf: &mut [u8]) -> Result {
    let (mut at, mut rest) = (at, buf);
    while !rest.is_empty() {
        let end = at.saturating_add(rest.len() as u64);
        let (to, is_data) = match run_at(reader, at, end) {
            Run::Data(to) => (to, true),
            Run::Hole(to) => (to, false),
        };
        // A lower filesystem that answers nonsense must not keep us here.
        let to = if to > at { to.min(end) } else { end };
        // CAST: At most the length of `rest`.
        let (run, behind) = rest.split_at_mut(to.saturating_sub(at) as usize);
        let mut done = 0;
        if is_data {
            reader.read_into_cache(at, run.len());
            done = reader.read_at(run, at)?;
        }
        // A hole; or cut short behind us: what is not there reads as zeroes.
        run.get_mut(done..).unwrap_or(&mut []).fill(0);
        let cached = lower.copy_cached(to, behind).min(behind.len());
        at = to.saturating_add(cached as u64);
        rest = behind.get_mut(cached..).unwrap_or(&mut []);
    }
    Ok(())
}
