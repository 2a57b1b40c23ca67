// SPDX-License-Identifier: GPL-2.0

//! After an unclean stop: the logs that no index table covers are read once more.
//!
//! Those are the last few segments, however long the history is. Each line's checksum tells what
//! was written whole; what is torn or foreign at a log's end is cut off, and said so in one
//! message. What was durable is never in doubt.

use kernel::prelude::*;

use super::{
    books::{
        write_table,
        Keep, //
    },
    journal::{
        new_table,
        Unfinished, //
    },
    line::{
        Line,
        Op,
        Pos,
        Seed,
        MAX_LINE, //
    },
    segment::{
        number_in_name,
        Files, //
    },
    sort::sort,
    staging::Table,
    tables::Tables, //
};
use crate::vfs::{
    scope::{
        crc32c,
        AsKernel,
        NoFs, //
    },
    store::File, //
};

/// How much of a log is read at a time.
const WINDOW: usize = 128 * 1024;

/// What was found in the logs.
struct Found<'a> {
    seq: u64,
    lines: u64,
    cut: u64,
    damaged: u64,
    unfinished: &'a mut KVec<Unfinished>,
}

/// Puts the history in order.
pub(super) fn recover(
    keep: &mut Keep,
    files: &mut Files,
    tables: &mut Tables,
    unfinished: &mut KVec<Unfinished>,
) -> Result {
    let (_kernel, _nofs) = (AsKernel::new(), NoFs::new());
    tables.find()?;
    let mut segments = segments(files)?;
    files.remove_strays(|number| segments.binary_search(&number).is_ok())?;
    let state = &mut keep.state;
    let last = segments.last().copied().unwrap_or(0);
    state.segment = state.segment.max(last.saturating_add(1));
    finish_drops(&mut segments, state.first, files)?;
    remove_unused(&mut segments, files)?;
    let mut found = Found {
        seq: 0,
        lines: 0,
        cut: 0,
        damaged: 0,
        unfinished,
    };
    let state = &mut keep.state;
    (state.log_bytes, state.undo_bytes) = (0, 0);
    // Without the state, the newest line's number is the only witness.
    let is_lost = state.count == 0;
    let newest = segments.last().copied();
    // Until the reverts found here are withdrawn, another recovery must find them, too: it has to
    // read again what will be covered by a table.
    let open = state.reread;
    let uncovered = segments.iter().copied().find(|s| !tables.covers(*s));
    keep.state.reread = match uncovered {
        Some(segment) if open == 0 || segment < open => segment,
        _ => open,
    };
    // A state that was lost is not made up before its numbers are known.
    if !is_lost && keep.state.reread != open {
        keep.store(tables)?;
    }
    for &segment in &segments {
        let is_covered = tables.covers(segment);
        let may_be_open = open != 0 && segment >= open;
        if !is_covered || may_be_open || (is_lost && Some(segment) == newest) {
            let seed = Seed {
                uuid: keep.home.uuid,
                segment,
            };
            let log = files.log_to_recover(segment)?;
            let mut objects = new_table()?;
            read_log(&log, &seed, &mut objects, &mut found)?;
            if !is_covered {
                write_table(tables, segment, &objects)?;
            }
        }
        let (log, undo) = files.sizes(segment)?;
        let state = &mut keep.state;
        state.log_bytes = state.log_bytes.saturating_add(log);
        state.undo_bytes = state.undo_bytes.saturating_add(undo);
    }
    let state = &mut keep.state;
    state.first = segments.first().copied().unwrap_or(state.segment);
    state.cut = state.cut.max(newest.unwrap_or(0));
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

/// Goes on with the drop of the oldest segments: those before `first`, which the state knew as the
/// oldest that stays, and those whose payload file is gone. A power cut may leave one of a segment's
/// two names, as each directory is made durable by itself.
fn finish_drops(segments: &mut KVec<u64>, first: u64, files: &mut Files) -> Result {
    while let Some(&oldest) = segments.first() {
        let is_half_gone = || Ok::<_, Error>(segments.len() > 1 && !files.has_payloads(oldest)?);
        if oldest >= first && !is_half_gone()? {
            break;
        }
        files.remove(oldest)?;
        let _ = segments.remove(0);
    }
    Ok(())
}

/// Removes the newest segments as long as they have no lines: nothing names their payloads.
fn remove_unused(segments: &mut KVec<u64>, files: &mut Files) -> Result {
    while let Some(&last) = segments.last() {
        if files.sizes(last)?.0 != 0 {
            break;
        }
        files.remove(last)?;
        segments.pop();
    }
    Ok(())
}

/// The numbers of all logs, in order.
pub(super) fn segments(files: &Files) -> Result<KVec<u64>> {
    let (log_dir, _) = files.dirs()?;
    let mut numbers = KVec::new();
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

/// Reads a log, notes each object's last line, and cuts off what is no line at its end.
fn read_log(log: &File, seed: &Seed, objects: &mut Table, found: &mut Found<'_>) -> Result {
    let mut window = KVVec::from_elem(0u8, WINDOW, GFP_KERNEL)?;
    let (mut at, mut good, mut damaged) = (0u64, 0u64, 0u64);
    loop {
        let len = log.read_at(&mut window, at)?;
        let bytes = window.get(..len).unwrap_or_default();
        let mut done = 0usize;
        for piece in bytes.split_inclusive(|&b| b == b'\n') {
            if !piece.ends_with(b"\n") && (len == WINDOW && done != 0) {
                break;
            }
            let offset = at.saturating_add(done as u64);
            done = done.saturating_add(piece.len());
            if take_line(piece, offset, seed, objects, found)? {
                good = at.saturating_add(done as u64);
                found.damaged = found.damaged.saturating_add(damaged);
                damaged = 0;
            } else {
                damaged = damaged.saturating_add(1);
            }
        }
        at = at.saturating_add(done as u64);
        if len < WINDOW {
            break;
        }
    }
    let size = log.size();
    if size > good {
        found.cut = found.cut.saturating_add(size.saturating_sub(good));
        log.truncate(good)?;
    }
    log.sync()
}

/// Notes a line, if it is one.
fn take_line(
    bytes: &[u8],
    offset: u64,
    seed: &Seed,
    objects: &mut Table,
    found: &mut Found<'_>,
) -> Result<bool> {
    if bytes.len() > MAX_LINE {
        return Ok(false);
    }
    let Ok(line) = Line::parse(bytes, Some((seed, crc32c))) else {
        return Ok(false);
    };
    found.lines = found.lines.saturating_add(1);
    found.seq = found.seq.max(line.seq);
    let Some(object) = line.obj else {
        return Ok(true);
    };
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
                end: None,
            };
            found.unfinished.push(revert, GFP_KERNEL)?;
        }
        (Op::Commit | Op::Cancel, Some(of)) => {
            found.unfinished.retain(|u| u.seq != of);
            // A group's first line decides for the others.
            for revert in found.unfinished.iter_mut().filter(|u| u.group == of) {
                revert.end = Some(line.op);
            }
        }
        _ => {}
    }
    Ok(true)
}
