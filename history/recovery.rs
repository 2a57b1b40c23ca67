// SPDX-License-Identifier: GPL-2.0

//! Recovery after an unclean shutdown: reads the logs that no index table covers.
//!
//! These are the last few segments, whatever the length of the history. A line counts if its
//! checksum is right; the bytes after the last good line of a log are cut off and reported in one
//! message. Lines that were reported durable are never cut off: an fsync had written them whole.

use kernel::prelude::*;

use super::{
    journal::{new_table, Unfinished},
    meta::{write_table, HistoryMeta},
    orphans::OrphanStore,
    segment::{number_in_name, Files},
    sort::sort,
    staging::ObjectTable,
    tables::Tables,
};
use crate::{
    log::{
        line::{Line, Op, MAX_LINE},
        types::{ObjectId, Pos, Seed},
    },
    vfs::{
        error::EUCLEAN,
        scope::{crc32c, KernelCreds, MemallocNofs},
        store::StoreFile,
        task,
    },
};

/// No log is larger: a segment ends at 4 MiB of lines, and never gets much larger than twice that.
const MAX_LOG: u64 = 64 << 20;

/// How much of a log is read at a time.
const WINDOW: usize = 128 * 1024;

/// Lines of the logs read that name an object in orphans/.
pub(super) struct Removals {
    /// The oldest segment whose log was read.
    from: u64,
    /// The orphan's segment, the orphan, and the line's number.
    lines: KVVec<(u64, ObjectId, u64)>,
}

impl Removals {
    pub(super) fn new() -> Self {
        Self {
            from: u64::MAX,
            lines: KVVec::new(),
        }
    }

    /// Records the orphan that a line names, if any.
    fn take(&mut self, line: &Line<'_>) -> Result {
        let victim = match line.op {
            Op::Unlink | Op::Rmdir => line.node,
            Op::Rename => line.over,
            _ => None,
        };
        if let (Some(segment), Some(victim)) = (line.kept, victim) {
            let victim = ObjectId {
                volume: 0,
                ..victim
            };
            self.lines.push((segment, victim, line.seq), GFP_KERNEL)?;
        }
        Ok(())
    }

    /// Whether an orphan of `segment` has no line although all logs that could hold one were read.
    /// The line would have the number `seq` or a higher one.
    pub(super) fn is_missing(&self, segment: u64, object: ObjectId, seq: u64) -> bool {
        let line = (segment, object, seq);
        let next = self.lines.partition_point(|known| *known < line);
        let is_logged = |known: &(u64, ObjectId, u64)| (known.0, known.1) == (segment, object);
        segment >= self.from && !self.lines.get(next).is_some_and(is_logged)
    }
}

/// Lines that say how a revert ended: the revert's number, how many such lines came before, and how.
struct Ends(KVVec<(u64, usize, Op)>);

impl Ends {
    fn push(&mut self, of: u64, op: Op) -> Result {
        let index = self.0.len();
        Ok(self.0.push((of, index, op), GFP_KERNEL)?)
    }

    /// How the revert with this number ended, by the newest line that says so. The lines are in order.
    fn newest(&self, of: u64) -> Option<Op> {
        let behind = self.0.partition_point(|(seq, ..)| *seq <= of);
        let (seq, _, op) = self.0.get(behind.checked_sub(1)?)?;
        (*seq == of).then_some(*op)
    }

    /// Leaves of the reverts that were begun those that have not ended.
    fn apply(mut self, unfinished: &mut KVVec<Unfinished>) {
        sort(&mut self.0, |(a, i, _), (b, j, _)| (a, i) < (b, j));
        unfinished.retain(|revert| self.newest(revert.seq).is_none());
        for revert in unfinished.iter_mut() {
            // A group's first line decides for the others.
            revert.end = self.newest(revert.group);
        }
    }
}

/// Results of reading the logs.
struct LogScan<'a> {
    seq: u64,
    lines: u64,
    cut: u64,
    damaged: u64,
    unfinished: &'a mut KVVec<Unfinished>,
    ends: Ends,
    removals: &'a mut Removals,
}

/// Puts the history in order.
pub(super) fn recover(
    meta: &mut HistoryMeta,
    files: &mut Files,
    tables: &mut Tables,
    orphans: &mut OrphanStore,
    (unfinished, removals): (&mut KVVec<Unfinished>, &mut Removals),
) -> Result {
    let (_kernel, _nofs) = (KernelCreds::new(), MemallocNofs::new());
    // `state` lists the tables of a clean unmount only.
    tables.find()?;
    let mut segments = segments(files)?;
    files.remove_unpaired(|number| segments.binary_search(&number).is_ok())?;
    let state = &mut meta.state;
    // Segment numbers are never reused: the checksum of a stale line would be valid.
    let last = segments.last().copied().unwrap_or(0);
    state.segment = state.segment.max(last.saturating_add(1));
    finish_drops(&mut segments, state.first, files, orphans)?;
    let restored = orphans.restore_files(files, &mut segments, state.first)?;
    state.segment = (state.segment).max(segments.last().map_or(0, |s| s.saturating_add(1)));
    remove_unused(&mut segments, files, orphans)?;
    let mut found = LogScan {
        seq: 0,
        lines: 0,
        cut: 0,
        damaged: 0,
        unfinished,
        ends: Ends(KVVec::new()),
        removals,
    };
    let state = &mut meta.state;
    (state.log_bytes, state.undo_bytes) = (0, 0);
    // Without the state, the newest line's number is the only witness.
    let is_lost = state.count == 0;
    let newest = segments.last().copied();
    // A revert that is found here must be found again if the machine goes down before it is
    // withdrawn, although an index table will cover its segment by then. `reread` names the oldest
    // such segment. The same holds for orphans without a line.
    let open = match (state.reread, restored) {
        (0, Some(segment)) => segment,
        (open, Some(segment)) => open.min(segment),
        (open, None) => open,
    };
    let uncovered = segments.iter().copied().find(|s| !tables.covers(*s));
    meta.state.reread = match uncovered {
        Some(segment) if open == 0 || segment < open => segment,
        _ => open,
    };
    // A state that was lost is not made up before its numbers are known.
    if !is_lost && meta.state.reread != open {
        meta.store(tables)?;
    }
    for &segment in &segments {
        let is_covered = tables.covers(segment);
        let may_be_open = open != 0 && segment >= open;
        if !is_covered || may_be_open || (is_lost && Some(segment) == newest) {
            let seed = Seed {
                uuid: meta.home.uuid,
                segment,
            };
            let log = files.log_to_recover(segment)?;
            refuse_endless(&log)?;
            let mut objects = new_table()?;
            found.removals.from = found.removals.from.min(segment);
            read_log(&log, &seed, &mut objects, &mut found)?;
            if !is_covered {
                write_table(tables, segment, &objects)?;
            }
        } else {
            // This log was not read, so only removals in later logs are known in full.
            found.removals.from = u64::MAX;
        }
        let (log, undo) = files.sizes(segment)?;
        let state = &mut meta.state;
        state.log_bytes = state.log_bytes.saturating_add(log);
        state.undo_bytes = state.undo_bytes.saturating_add(undo);
    }
    read_one_before(&segments, files, &meta.home.uuid, &mut found)?;
    found.ends.apply(found.unfinished);
    sort(&mut found.removals.lines, |a, b| a < b);
    let state = &mut meta.state;
    state.first = segments.first().copied().unwrap_or(state.segment);
    state.cut = state.cut.max(newest.unwrap_or(0));
    // Lines that were lost had higher numbers than the newest line found; such numbers may be in
    // names of orphans.
    state.seq = state.seq.max(found.seq.saturating_add(1 << 20));
    tables.trim(state.first)?;
    tables.merge_all(state.first)?;
    pr_warn!(
        "unclean history: {} lines read again, {} bytes of unfinished lines cut off, {} damaged lines\n",
        found.lines,
        found.cut,
        found.damaged
    );
    Ok(())
}

/// Also reads the last log before those: an orphan is moved to the active segment's directory
/// before its line is placed, and the line may go to the next segment. That log is durable; only
/// its removals are of interest.
fn read_one_before(
    segments: &[u64],
    files: &Files,
    uuid: &[u8; 16],
    found: &mut LogScan<'_>,
) -> Result {
    let from = found.removals.from;
    let Some(&segment) = segments.iter().rfind(|segment| **segment < from) else {
        return Ok(());
    };
    let seed = Seed {
        uuid: *uuid,
        segment,
    };
    let log = files.log_to_recover(segment)?;
    refuse_endless(&log)?;
    found.removals.from = segment;
    each_line(&log, |bytes, _| match parse(bytes, &seed) {
        Some(line) => found.removals.take(&line).map(|()| true),
        None => Ok(false),
    })
    .map(|_| ())
}

/// Goes on with the drop of the oldest segments: those before `first`, which the state knew as the
/// oldest that stays, and those whose payload file is gone. A power cut may leave one of a segment's
/// two names, as each directory is made durable by itself.
fn finish_drops(
    segments: &mut KVVec<u64>,
    first: u64,
    files: &mut Files,
    orphans: &mut OrphanStore,
) -> Result {
    while let Some(&oldest) = segments.first() {
        let is_half_gone = || Ok::<_, Error>(segments.len() > 1 && !files.has_payloads(oldest)?);
        if oldest >= first && !is_half_gone()? {
            break;
        }
        let _ = orphans.mark_dropped(oldest);
        files.remove(oldest)?;
        let _ = segments.remove(0);
    }
    Ok(())
}

/// Removes the newest segments as long as they have neither lines nor orphans: nothing refers to
/// their payloads.
fn remove_unused(segments: &mut KVVec<u64>, files: &mut Files, orphans: &OrphanStore) -> Result {
    while let Some(&last) = segments.last() {
        if files.sizes(last)?.0 != 0 || orphans.has_entries(last)? {
            break;
        }
        files.remove(last)?;
        segments.pop();
    }
    Ok(())
}

/// The numbers of all logs, in order.
pub(super) fn segments(files: &Files) -> Result<KVVec<u64>> {
    let (log_dir, _) = files.dirs()?;
    let mut numbers = KVVec::new();
    let mut full = Ok(());
    log_dir.list(&mut |name| {
        if let Some(number) = number_in_name(name, b".log") {
            full = full.and(numbers.push(number, GFP_KERNEL));
        }
    })?;
    full?;
    sort(&mut numbers, |a, b| a < b);
    Ok(numbers)
}

/// Refuses a log larger than this module writes, since the time and memory of recovery grow with
/// the log. `EUCLEAN`: the log is too large.
fn refuse_endless(log: &StoreFile) -> Result {
    if log.size() > MAX_LOG {
        return Err(EUCLEAN);
    }
    Ok(())
}

/// Reads a log, records each object's last line, and truncates the log after its last good line.
fn read_log(
    log: &StoreFile,
    seed: &Seed,
    objects: &mut ObjectTable,
    found: &mut LogScan<'_>,
) -> Result {
    let (good, damaged) = each_line(log, |bytes, offset| {
        take_line(bytes, offset, seed, objects, found)
    })?;
    found.damaged = found.damaged.saturating_add(damaged);
    let size = log.size();
    if size > good {
        found.cut = found.cut.saturating_add(size.saturating_sub(good));
        log.truncate(good)?;
    }
    log.sync()
}

/// Calls `take` with each piece of a log and its offset; `take` returns whether the piece is a
/// line. Returns the end of the last line, and the number of bad pieces before that.
fn each_line(
    log: &StoreFile,
    mut take: impl FnMut(&[u8], u64) -> Result<bool>,
) -> Result<(u64, u64)> {
    let mut window = KVVec::from_elem(0u8, WINDOW, GFP_KERNEL)?;
    let (mut at, mut good, mut pending, mut damaged) = (0u64, 0u64, 0u64, 0u64);
    loop {
        // The mounting process may be killed here; the next mount runs recovery again.
        task::resched_killable()?;
        let len = log.read_at(&mut window, at)?;
        let bytes = window.get(..len).unwrap_or_default();
        let mut done = 0usize;
        for piece in bytes.split_inclusive(|&b| b == b'\n') {
            // A line that the window cuts is read again with the next window; a piece longer than
            // the window is bad.
            if !piece.ends_with(b"\n") && (len == WINDOW && done != 0) {
                break;
            }
            let offset = at.saturating_add(done as u64);
            done = done.saturating_add(piece.len());
            if take(piece, offset)? {
                good = at.saturating_add(done as u64);
                damaged = damaged.saturating_add(pending);
                pending = 0;
            } else {
                pending = pending.saturating_add(1);
            }
        }
        at = at.saturating_add(done as u64);
        if len < WINDOW {
            return Ok((good, damaged));
        }
    }
}

/// Parses a line of a segment; `None` if the checksum or the grammar is wrong.
fn parse<'a>(bytes: &'a [u8], seed: &Seed) -> Option<Line<'a>> {
    if bytes.len() > MAX_LINE {
        return None;
    }
    Line::parse(bytes, Some((seed, crc32c))).ok()
}

/// Records a line; returns false if the bytes are not a line.
fn take_line(
    bytes: &[u8],
    offset: u64,
    seed: &Seed,
    objects: &mut ObjectTable,
    found: &mut LogScan<'_>,
) -> Result<bool> {
    let Some(line) = parse(bytes, seed) else {
        return Ok(false);
    };
    found.removals.take(&line)?;
    found.lines = found.lines.saturating_add(1);
    found.seq = found.seq.max(line.seq);
    let Some(object) = line.obj else {
        return Ok(true);
    };
    // A log of this module never fills the table: its segment ends before.
    objects.set(object, offset);
    match (line.op, line.of) {
        (Op::Revert | Op::Redo, _) => {
            let at = Pos {
                segment: seed.segment,
                offset,
            };
            let seq = line.seq;
            let revert = Unfinished {
                seq,
                at,
                object,
                group: line.group.unwrap_or(seq),
                is_alone: line.group.is_none() && line.members.is_none(),
                end: None,
            };
            found.unfinished.push(revert, GFP_KERNEL)?;
        }
        (Op::Commit | Op::Cancel, Some(of)) => {
            found.ends.push(of, line.op)?;
        }
        _ => {}
    }
    Ok(true)
}
