// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Merges many inverses, which would be applied one after the other from the newest operation to
//! the oldest, into one.
//!
//! Three rules decide the final state of a byte:
//!
//! * The oldest payload wins, since it would be restored last.
//! * Every inverse ends by setting a size. Bytes that newer inverses restored at or beyond that
//!   size are cut off there, and stay lost when an older inverse makes the file larger again.
//! * The same applies to bytes of the present file: from the lowest of all these sizes on (`low`),
//!   only payloads restored after the cut count, and the rest is a hole.
//!
//! So a byte below `low` without a payload stays, and from `low` to the final size the plan covers
//! every byte.

use super::{
    heap,
    Piece,
    PlanError,
    Source,
    Store, //
};

/// A piece on its way into the plan.
#[derive(Clone, Copy, Debug)]
pub struct MergeEntry {
    offset: u64,
    end: u64,
    source: Source,
    /// The lowest size that was set right after this piece was restored; older sizes cut the piece,
    /// too.
    cut: u64,
    /// The number of pieces before this one: the higher, the older the operation.
    age: usize,
}

/// Gathers inverses, from the newest operation to the oldest.
pub struct InverseMerge<S> {
    entries: S,
    count: usize,
    present: u64,
    size: u64,
    low: u64,
    trims: bool,
}

/// The result of a plan, except its pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The file's size before.
    pub present: u64,
    /// The file's size after.
    pub size: u64,
    /// The lowest size on the way. From here on, the pieces cover every byte up to `size`.
    pub low: u64,
    /// Whether to free space beyond the end of the file.
    pub trims: bool,
}

impl<S: Store<MergeEntry>> InverseMerge<S> {
    /// Begins with a file of `present` bytes; `entries` is empty.
    pub fn new(entries: S, present: u64) -> Self {
        Self {
            entries,
            count: 0,
            present,
            size: present,
            low: present,
            trims: false,
        }
    }

    /// Restores a piece of the operation at hand.
    pub fn restore(&mut self, piece: &Piece) -> Result<(), PlanError> {
        let end = piece
            .offset
            .checked_add(piece.length)
            .ok_or(PlanError::Corrupt)?;
        self.entries.push(MergeEntry {
            offset: piece.offset,
            end,
            source: piece.source,
            cut: u64::MAX,
            age: self.count,
        })?;
        self.count = self.count.saturating_add(1);
        Ok(())
    }

    /// Ends the current operation by setting the size; `None`: the size stays.
    pub fn end_operation(&mut self, size_after: Option<u64>) {
        let size = size_after.unwrap_or(self.size);
        self.size = size;
        self.low = self.low.min(size);
        if let Some(entry) = self.entries.items().last_mut() {
            entry.cut = entry.cut.min(size);
        }
    }

    /// Requests that space beyond the end of the file is freed.
    pub fn trim(&mut self) {
        self.trims = true;
    }

    /// Writes the plan into `pieces`, which is empty.
    pub fn finish(mut self, pieces: &mut impl Store<Piece>) -> Result<Outcome, PlanError> {
        let outcome = Outcome {
            present: self.present,
            size: self.size,
            low: self.low,
            trims: self.trims,
        };
        let entries = self.entries.items();
        let mut cut = self.size;
        for entry in entries.iter_mut().rev() {
            cut = cut.min(entry.cut);
            entry.end = entry.end.min(cut);
        }
        heap::sort(entries, |a, b| a.offset > b.offset);
        let mut writer = Writer {
            pieces,
            last: None,
            at: outcome.low,
        };
        sweep(entries, &mut writer)?;
        writer.fill(outcome.size)?;
        writer.flush()?;
        Ok(outcome)
    }
}

/// Goes over the entries, which ascend by offset, and gives each byte its oldest source.
///
/// The entries that begin at or before the place at hand are kept as a heap, the oldest on top,
/// in the part of the slice that was gone over already.
fn sweep<P: Store<Piece>>(
    entries: &mut [MergeEntry],
    writer: &mut Writer<'_, P>,
) -> Result<(), PlanError> {
    let older: fn(&MergeEntry, &MergeEntry) -> bool = |a, b| a.age > b.age;
    let (mut heap, mut next): (usize, usize) = (0, 0);
    let mut at: u64 = 0;
    loop {
        while let Some(entry) = entries.get(next).filter(|e| heap == 0 || e.offset <= at) {
            at = at.max(entry.offset);
            if entry.end > at {
                heap::swap(entries, heap, next);
                heap::push(entries, heap, older);
                heap = heap.saturating_add(1);
            }
            next = next.saturating_add(1);
        }
        if heap == 0 {
            return Ok(());
        }
        let Some(top) = entries.first().copied() else {
            return Ok(());
        };
        if top.end <= at {
            heap::pop(entries, heap, older);
            heap = heap.saturating_sub(1);
            continue;
        }
        let until = entries.get(next).map_or(top.end, |e| top.end.min(e.offset));
        let distance = at.saturating_sub(top.offset);
        writer.put(at, until, top.source.skip(distance))?;
        at = until;
    }
}

/// Writes ascending pieces, joins adjacent ones, and fills uncovered ranges from `at` on with
/// holes.
struct Writer<'p, P> {
    pieces: &'p mut P,
    /// The piece that the next one may still join.
    last: Option<Piece>,
    /// The offset from which on uncovered ranges are filled.
    at: u64,
}

impl<P: Store<Piece>> Writer<'_, P> {
    /// Adds a piece after all others.
    fn put(&mut self, start: u64, end: u64, source: Source) -> Result<(), PlanError> {
        self.fill(start)?;
        self.join(start, end, source)?;
        self.at = self.at.max(end);
        Ok(())
    }

    /// Covers every byte from `at` to `end`.
    fn fill(&mut self, end: u64) -> Result<(), PlanError> {
        if self.at < end {
            self.join(self.at, end, Source::Hole)?;
            self.at = end;
        }
        Ok(())
    }

    /// Extends the last piece, or adds a new one.
    fn join(&mut self, start: u64, end: u64, source: Source) -> Result<(), PlanError> {
        let length = end.saturating_sub(start);
        if let Some(last) = &mut self.last {
            if last.end() == start && last.source.skip(last.length) == source {
                last.length = last.length.saturating_add(length);
                return Ok(());
            }
        }
        self.flush()?;
        self.last = Some(Piece {
            offset: start,
            length,
            source,
        });
        Ok(())
    }

    /// Hands the last piece over.
    fn flush(&mut self) -> Result<(), PlanError> {
        match self.last.take() {
            Some(piece) => self.pieces.push(piece),
            None => Ok(()),
        }
    }
}

/// The ranges of the present file that applying a plan destroys, ascending and disjoint: those that
/// its pieces overwrite, and those that the new size cuts off. Items are offset and length.
#[derive(Clone, Debug)]
pub struct Changes<'p> {
    pieces: &'p [Piece],
    present: u64,
    /// The range that the new size cuts off.
    tail: Option<(u64, u64)>,
}

impl<'p> Changes<'p> {
    /// Of a plan's pieces and outcome.
    pub fn new(pieces: &'p [Piece], outcome: &Outcome) -> Self {
        Self {
            pieces,
            present: outcome.present,
            tail: (outcome.size < outcome.present).then_some((outcome.size, outcome.present)),
        }
    }

    /// The next range as start and end, not yet joined with its neighbours.
    fn peek(&self) -> Option<(u64, u64)> {
        match self.pieces.first() {
            Some(piece) if piece.offset < self.present => {
                Some((piece.offset, piece.end().min(self.present)))
            }
            _ => self.tail,
        }
    }

    /// Goes past the next range.
    fn advance(&mut self) {
        match self.pieces.split_first() {
            Some((piece, rest)) if piece.offset < self.present => self.pieces = rest,
            _ => self.tail = None,
        }
    }
}

impl Iterator for Changes<'_> {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<(u64, u64)> {
        let (start, mut end) = self.peek()?;
        self.advance();
        while let Some((_, until)) = self.peek().filter(|(next, _)| *next <= end) {
            end = end.max(until);
            self.advance();
        }
        Some((start, end.saturating_sub(start)))
    }
}

impl Outcome {
    /// The range from the first to the last byte that the plan changes: offset and length. If the
    /// plan changes nothing, the range is empty, at the end of the file.
    pub fn span(&self, pieces: &[Piece]) -> (u64, u64) {
        let resize = (self.size != self.present)
            .then(|| (self.size.min(self.present), self.size.max(self.present)));
        let restored = match (pieces.first(), pieces.last()) {
            (Some(first), Some(last)) => Some((first.offset, last.end())),
            _ => None,
        };
        let (start, end) = match (restored, resize) {
            (Some(a), Some(b)) => (a.0.min(b.0), a.1.max(b.1)),
            (Some(only), None) | (None, Some(only)) => only,
            (None, None) => (self.present, self.present),
        };
        (start, end.saturating_sub(start))
    }
}
