// SPDX-License-Identifier: GPL-2.0

//! The file `state`: the numbers that a mount needs before it opens the history.
//!
//! Two slots are written alternately, each by one durable write; the newer one with a valid
//! checksum counts. A torn write leaves the other slot, and reserved numbers are never handed out
//! twice.

use core::fmt::Write;

use super::text::{number_of, value};
use crate::log::{
    line::{decode_decimal, decode_hex32, FixedBuffer},
    types::{Crc, Seed},
};

/// How many bytes a slot has; the file has two.
pub(crate) const SLOT: usize = 4096;

/// The segments that an index table covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SegmentRange {
    /// The oldest.
    pub(crate) first: u64,
    /// The newest.
    pub(crate) last: u64,
}

impl SegmentRange {
    /// The number of segments.
    pub(crate) fn len(&self) -> u64 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }
}

/// The fields of a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// The number of times the state was written.
    pub(crate) count: u64,
    /// Whether the history was closed in good order; only then the rest but `seq` and `segment` is
    /// more than a hint.
    pub(crate) clean: bool,
    /// No line has this number or a higher one.
    pub(crate) seq: u64,
    /// No segment that holds anything has this number or a higher one.
    pub(crate) segment: u64,
    /// The oldest segment that is there.
    pub(crate) first: u64,
    /// Recovery reads all logs from this segment on, with or without index table, since a revert
    /// that began there may not have ended. 0: none.
    pub(crate) reread: u64,
    /// The last segment before the last unclean shutdown. Lines in this segment or before may be
    /// ahead of the data. 0: there was no unclean shutdown.
    pub(crate) cut: u64,
    /// The time of the last recovery, in nanoseconds since the epoch. 0: unknown.
    pub(crate) recovered: u64,
    /// The bytes of all log files.
    pub(crate) log_bytes: u64,
    /// The bytes of all payload files.
    pub(crate) undo_bytes: u64,
    /// The bytes of all orphans.
    pub(crate) orphan_bytes: u64,
}

/// Writes a slot's text to `out`, of [`SLOT`] bytes; returns the length. `None`: it does not fit.
pub(crate) fn encode(
    state: &State,
    tables: impl Iterator<Item = SegmentRange>,
    uuid: &[u8; 16],
    crc: Crc,
    out: &mut [u8],
) -> Option<usize> {
    let mut words = FixedBuffer::<SLOT>::at(out)?;
    write!(
        words,
        "loggerfs-state version=1 count={} clean={} seq={} segment={} first={} log={} undo={} reread={} cut={} recovered={} kept={} tables=",
        state.count,
        u8::from(state.clean),
        state.seq,
        state.segment,
        state.first,
        state.log_bytes,
        state.undo_bytes,
        state.reread,
        state.cut,
        state.recovered,
        state.orphan_bytes,
    )
    .ok()?;
    for (i, table) in tables.enumerate() {
        let comma = if i == 0 { "" } else { "," };
        write!(words, "{comma}{}-{}", table.first, table.last).ok()?;
    }
    let sum = seed(uuid).sum(crc, words.written());
    writeln!(words, " sum={sum:08x}").ok()?;
    words.whole()
}

/// Reads a slot's text. `None`: damaged, or another history's.
pub(crate) fn parse(slot: &[u8], uuid: &[u8; 16], crc: Crc) -> Option<State> {
    let end = slot.iter().position(|&b| b == b'\n')?;
    let text = slot.get(..end)?;
    let (body, sum) = text.split_at_checked(text.len().checked_sub(13)?)?;
    let sum = decode_hex32(sum.strip_prefix(b" sum=")?)?;
    if seed(uuid).sum(crc, body) != sum || number_of(body, b"version")? != 1 {
        return None;
    }
    Some(State {
        count: number_of(body, b"count")?,
        clean: number_of(body, b"clean")? == 1,
        seq: number_of(body, b"seq")?,
        segment: number_of(body, b"segment")?,
        first: number_of(body, b"first")?,
        reread: number_of(body, b"reread")?,
        cut: number_of(body, b"cut")?,
        recovered: number_of(body, b"recovered")?,
        orphan_bytes: number_of(body, b"kept")?,
        log_bytes: number_of(body, b"log")?,
        undo_bytes: number_of(body, b"undo")?,
    })
}

/// The tables that a slot's text names, oldest first. `None`: malformed.
pub(crate) fn tables(slot: &[u8], mut each: impl FnMut(SegmentRange)) -> Option<()> {
    let list = value(slot, b"tables")?;
    if list.is_empty() {
        return Some(());
    }
    for word in list.split(|&b| b == b',') {
        each(parse_span(word)?);
    }
    Some(())
}

/// `FIRST-LAST`.
pub(crate) fn parse_span(word: &[u8]) -> Option<SegmentRange> {
    let dash = word.iter().position(|&b| b == b'-')?;
    let span = SegmentRange {
        first: decode_decimal(word.get(..dash)?)?,
        last: decode_decimal(word.get(dash.checked_add(1)?..)?)?,
    };
    (span.first <= span.last).then_some(span)
}

/// The checksum seed of the state; no log has the segment number 0.
fn seed(uuid: &[u8; 16]) -> Seed {
    Seed {
        uuid: *uuid,
        segment: 0,
    }
}
