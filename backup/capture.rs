// SPDX-License-Identifier: GPL-2.0

//! Copies pre-images of file ranges into the journal, from the page cache where possible.

use crate::{
    history::journal::{Journal, Payload, Reservation, SpacePurpose, Staged, MAX_STAGED},
    log::plan::{allocated, has_empty_block, Content, MapRecord},
    record::Captured,
    vfs::{
        file::File,
        inode::Inode,
        range::{data_or_hole_at, drop_clean_zeroes, extents, DataOrHole},
        task,
    },
};
use kernel::prelude::*;

/// Runs of data and holes, ascending. User space determines their number, so a long list is
/// allocated by vmalloc() and charged to the caller's cgroup.
pub(crate) type MapRuns = KVVec<MapRecord>;

/// Limit of runs per operation: 96 MiB of memory, and 64 MiB of the history.
const MAX_RUNS: usize = 4 << 20;

/// Number of runs between two checks for a fatal signal.
const RUNS_PER_LOOK: usize = 256;

/// Captures `[start, end)` of the lower file, which ends at `end` or later. Reserves space for
/// `lines` lines if the journal can do both under one lock. The inode lock excludes writers through
/// this mount.
pub(super) fn range<'a>(
    journal: &'a Journal,
    lower: &Inode,
    reader: &File,
    (start, end): (u64, u64),
    lines: u32,
) -> Result<(Captured, Option<Reservation<'a>>)> {
    let range = (start, end);
    let bytes = match usize::try_from(end.saturating_sub(start)) {
        Ok(0) => return Ok((Captured::Nothing, None)),
        // As a map of runs: an undo restores a hole as a hole.
        _ if lower.may_be_sparse() => return Ok((runs_of(journal, lower, reader, range)?, None)),
        Ok(bytes @ 1..=MAX_STAGED) => bytes,
        _ => return Ok((unmapped(journal, lower, reader, range, false)?, None)),
    };
    let mut may_be_hole = false;
    let fill = |buf: &mut [u8]| {
        read(lower, reader, start, buf)?;
        may_be_hole = has_empty_block(buf, start, lower.block(), || end >= lower.size());
        Ok(())
    };
    // Fast path of write(2): one copy, one lock of the journal.
    let (staged, reservation) = journal.save(bytes, lines, fill)?;
    if may_be_hole {
        // i_blocks counts preallocated blocks after EOF and xattr blocks, too, so a file with
        // enough blocks for its size can still have holes.
        drop(reservation);
        return Ok((runs_of(journal, lower, reader, range)?, None));
    }
    Ok((captured(staged, 0, 0), Some(reservation)))
}

/// Captures a range with its holes.
fn runs_of(journal: &Journal, lower: &Inode, reader: &File, range: (u64, u64)) -> Result<Captured> {
    match holes_in(reader, range)? {
        Some(runs) => mapped(
            journal,
            lower,
            Some(reader),
            &runs,
            &[],
            SpacePurpose::Operation,
        ),
        None => unmapped(journal, lower, reader, range, true),
    }
}

/// The runs of a range; `None` if all of the range is data.
fn holes_in(reader: &File, range: (u64, u64)) -> Result<Option<MapRuns>> {
    // Common case: one run of data, no list.
    if matches!(data_or_hole_at(reader, range.0, range.1), DataOrHole::Data(to) if to >= range.1)
        && !drop_clean_zeroes(reader, range.0, range.1)
    {
        return Ok(None);
    }
    let mut runs = MapRuns::new();
    add_runs(&mut runs, reader, range)?;
    let is_dense = runs.iter().all(|run| run.content == Content::Data);
    Ok((!is_dense).then_some(runs))
}

/// Adds the runs of data and holes of a range. The inode is locked.
pub(crate) fn add_runs(runs: &mut MapRuns, reader: &File, range: (u64, u64)) -> Result {
    find_runs(runs, reader, range, range.0)
}

/// As [`add_runs`]. From offset `cleaned` on, clean page cache pages may make SEEK_DATA report
/// allocated space as data.
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
        let (next, is_data) = match data_or_hole_at(reader, at, end) {
            DataOrHole::Data(to) => (to, true),
            DataOrHole::Hole(to) => (to, false),
        };
        // Guards against an endless loop if a lower filesystem returns an offset that is not
        // larger.
        let next = if next > at { next } else { end };
        if is_data && cleaned < next {
            let from = cleaned.max(at);
            cleaned = next;
            // Dropped clean pages of zeroes over unwritten extents: asks SEEK_DATA again.
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

/// Adds the runs of a range without data, unwritten extents and holes separately.
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
            // The filesystem has no FIEMAP. A hole reads the same as an unwritten extent.
            runs.truncate(before);
            if let (Some(place), Some(last)) = (runs.last_mut(), last) {
                *place = last;
            }
            add_run(runs, (start, end), Content::Hole)
        }
        found => found,
    }
}

/// Appends a run, or extends the last one. E2BIG if there are too many.
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

/// Captures the holes of `[start, end)` of the lower file, which ends at `end` or later, before
/// they are allocated. The inode lock excludes writers through this mount.
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
    // Page cache pages over a hole do not matter here.
    find_runs(&mut runs, reader, (start, end), end)?;
    // Data and unwritten extents keep their space during the operation.
    runs.retain(|run| run.content == Content::Hole);
    if runs.is_empty() {
        return Ok(Captured::Nothing);
    }
    mapped(journal, lower, None, &runs, &[], SpacePurpose::Operation)
}

/// Captures a range as bytes, if it is known to be data (`is_data`), or if its zeroes prove to be
/// data.
fn unmapped(
    journal: &Journal,
    lower: &Inode,
    reader: &File,
    (start, end): (u64, u64),
    is_data: bool,
) -> Result<Captured> {
    let mut is_data = is_data;
    let mut payload = stage(journal, end.saturating_sub(start), SpacePurpose::Operation)?;
    let mut at = start;
    while at < end {
        let mut may_be_hole = false;
        let n = fill(&mut payload, lower, reader, (at, end), |buf| {
            // A block that continues in the next part is judged by its first bytes.
            may_be_hole = !is_data && has_empty_block(buf, at, lower.block(), || true);
        })?;
        if may_be_hole {
            if let Some(runs) = holes_in(reader, (start, end))? {
                drop(payload);
                return mapped(
                    journal,
                    lower,
                    Some(reader),
                    &runs,
                    &[],
                    SpacePurpose::Operation,
                );
            }
            is_data = true;
        }
        at = at.saturating_add(n);
    }
    Ok(captured(payload.finish()?, 0, 0))
}

/// Captures runs in file order: the map records, the data, then `attributes`, which are records of
/// their own. Without a reader no run may be data.
pub(crate) fn mapped(
    journal: &Journal,
    lower: &Inode,
    reader: Option<&File>,
    runs: &[MapRecord],
    attributes: &[u8],
    purpose: SpacePurpose,
) -> Result<Captured> {
    let records = runs.len() as u64;
    let length = payload_length(runs, attributes)?;
    let mut payload = stage(journal, length, purpose)?;
    for run in runs {
        payload.push(&run.encode())?;
    }
    // The data of all runs follows the map without gaps.
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

/// Length of the payload of [`mapped`].
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

/// Reserves space for a payload: in the staging buffer, or in an extent of its own.
fn stage(journal: &Journal, length: u64, purpose: SpacePurpose) -> Result<Payload<'_>> {
    match usize::try_from(length) {
        Ok(length) if length <= MAX_STAGED => journal.stage(length),
        _ => journal.stage_large(length, purpose),
    }
}

/// Captures attributes only.
pub(super) fn attributes(journal: &Journal, records: &[u8]) -> Result<Captured> {
    let length = records.len() as u64;
    let mut payload = stage(journal, length, SpacePurpose::Operation)?;
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

/// Appends the data of a range to the payload.
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

/// Adds as many bytes of a range as fit into one piece, and shows them to `look`. Returns the
/// number of bytes.
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

/// Reads the file at `at` into `buf`.
#[inline]
fn read(lower: &Inode, reader: &File, at: u64, buf: &mut [u8]) -> Result {
    let cached = lower.copy_cached(at, buf).min(buf.len());
    let (_, rest) = buf.split_at_mut(cached);
    if rest.is_empty() {
        return Ok(());
    }
    read_uncached(lower, reader, at.saturating_add(cached as u64), rest)
}

/// As [`read`], if the start of the range is not in the page cache.
///
/// Reads data only, without read-ahead: a page in the cache makes ext4 and xfs report allocated
/// space as data for SEEK_HOLE, and is visible to mincore(2) and cachestat(2).
#[cold]
fn read_uncached(lower: &Inode, reader: &File, at: u64, buf: &mut [u8]) -> Result {
    let (mut at, mut rest) = (at, buf);
    while !rest.is_empty() {
        let end = at.saturating_add(rest.len() as u64);
        let (to, is_data) = match data_or_hole_at(reader, at, end) {
            DataOrHole::Data(to) => (to, true),
            DataOrHole::Hole(to) => (to, false),
        };
        // Guards against an endless loop, as in `find_runs`.
        let to = if to > at { to.min(end) } else { end };
        // CAST: At most the length of `rest`.
        let (run, behind) = rest.split_at_mut(to.saturating_sub(at) as usize);
        let mut done = 0;
        if is_data {
            reader.read_into_cache(at, run.len());
            done = reader.read_at(run, at)?;
        }
        // A hole, or data truncated below in the meantime: reads as zeroes.
        run.get_mut(done..).unwrap_or(&mut []).fill(0);
        let cached = lower.copy_cached(to, behind).min(behind.len());
        at = to.saturating_add(cached as u64);
        rest = behind.get_mut(cached..).unwrap_or(&mut []);
    }
    Ok(())
}
