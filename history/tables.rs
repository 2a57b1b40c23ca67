// SPDX-License-Identifier: GPL-2.0

//! The index tables of sealed segments: `index/FIRST-LAST.idx`.
//!
//! Each sealed segment adds a small table. Eight adjacent tables of one size are merged into one,
//! so a look-up reads few tables for any length of the history. A table is opened at its first use,
//! so that mounting takes the same time for any number of tables.

use kernel::{
    prelude::*,
    sync::Arc, //
};

use super::{
    index::{self, Head, BLOCK, FILTER},
    segment::{gone, Name, MODE},
    sort::sort,
    state::SegmentRange,
    trust,
};
use crate::{
    log::types::{ObjectId, Pos},
    vfs::{
        chunk::zeroes,
        error::{ENODATA, ESHUTDOWN, EUCLEAN},
        scope::crc32c,
        store::{StoreDir, StoreFile},
    },
};

/// How many tables of one size are merged.
const FAN: usize = 8;

/// A table that was opened.
struct OpenTable {
    file: StoreFile,
    head: Head,
}

/// A table.
struct IndexTable {
    span: SegmentRange,
    open: Option<Arc<OpenTable>>,
}

/// All tables, oldest first.
pub(super) struct Tables {
    dir: Option<StoreDir>,
    uuid: [u8; 16],
    list: KVVec<IndexTable>,
    /// One block, for look-ups.
    block: KVVec<u8>,
}

impl Tables {
    /// Opens or makes the directory below the history's; knows of no table yet.
    pub(super) fn open(home: &StoreDir, uuid: [u8; 16]) -> Result<Self> {
        Ok(Self {
            dir: Some(trust::private_dir(home, b"index")?),
            uuid,
            list: KVVec::new(),
            block: zeroes(BLOCK)?,
        })
    }

    /// Closes everything.
    pub(super) fn close(&mut self) {
        self.list = KVVec::new();
        self.dir = None;
    }

    fn dir(&self) -> Result<&StoreDir> {
        self.dir.as_ref().ok_or(ESHUTDOWN)
    }

    /// The segments that each table covers, oldest first.
    pub(super) fn spans(&self) -> impl Iterator<Item = SegmentRange> + '_ {
        self.list.iter().map(|table| table.span)
    }

    /// Learns of a table, which belongs where its segments do.
    pub(super) fn add(&mut self, span: SegmentRange) -> Result {
        self.list.reserve(1, GFP_KERNEL)?;
        let is_older = |table: &&IndexTable| table.span.first < span.first;
        let at = self.list.iter().take_while(is_older).count();
        let table = IndexTable { span, open: None };
        (self.list.insert_within_capacity(at, table)).map_err(|_| EINVAL)
    }

    /// Finds out from the directory which tables there are, after an unclean stop: of overlapping
    /// ones the longest counts, damaged ones and others are removed.
    pub(super) fn find(&mut self) -> Result {
        let mut found = KVVec::new();
        let mut full = Ok(());
        self.dir()?.list(&mut |name| {
            let span = name
                .strip_suffix(b".idx")
                .and_then(super::state::parse_span);
            if let Some(span) = span {
                full = full.and(found.push(span, GFP_KERNEL));
            }
        })?;
        full?;
        // Of those with one beginning, the longest comes first.
        sort(&mut found, |a: &SegmentRange, b| {
            (a.first, b.last) < (b.first, a.last)
        });
        let mut covered = 0;
        for span in found {
            let is_good = span.first > covered
                && match self.open_table(span) {
                    // That says nothing about the table.
                    Err(e) if e == ENOMEM => return Err(e),
                    opened => opened.is_ok(),
                };
            if is_good {
                covered = span.last;
                self.add(span)?;
            } else {
                gone(self.dir()?.unlink(name(span).bytes()))?;
            }
        }
        Ok(())
    }

    /// Whether a table covers `segment`.
    pub(super) fn covers(&self, segment: u64) -> bool {
        self.spans()
            .any(|s| s.first <= segment && segment <= s.last)
    }

    fn open_table(&self, span: SegmentRange) -> Result<Arc<OpenTable>> {
        let file = trust::private_file(self.dir()?.open(name(span).bytes(), false)?)?;
        let mut bytes = zeroes(BLOCK)?;
        file.read_exact_at(&mut bytes, 0)?;
        let head = Head::parse(block(&bytes)?, &self.uuid, crc32c).ok_or(EUCLEAN)?;
        if head.span != span {
            return Err(EUCLEAN);
        }
        Ok(Arc::new(OpenTable { file, head }, GFP_KERNEL)?)
    }

    fn opened(&mut self, i: usize) -> Result<Arc<OpenTable>> {
        let table = self.list.get(i).ok_or(EINVAL)?;
        if let Some(open) = &table.open {
            return Ok(open.clone());
        }
        let open = self.open_table(table.span)?;
        if let Some(table) = self.list.get_mut(i) {
            table.open = Some(open.clone());
        }
        Ok(open)
    }

    /// The position of `object`'s last line in sealed segments from `first` on.
    pub(super) fn look_up(&mut self, object: ObjectId, first: u64) -> Result<Option<Pos>> {
        for i in (0..self.list.len()).rev() {
            // This table and all older ones cover dropped segments only.
            if self.list.get(i).is_some_and(|t| t.span.last < first) {
                break;
            }
            let open = self.opened(i).map_err(damaged)?;
            let found = open.look_up(object, &mut self.block).map_err(damaged)?;
            if let Some(pos) = found {
                return Ok((pos.segment >= first).then_some(pos));
            }
        }
        Ok(None)
    }

    /// Starts the table of `span`, which will have at most `most` entries.
    pub(super) fn create(&self, span: SegmentRange, most: u64) -> Result<TableWriter> {
        let dir = self.dir()?;
        gone(dir.unlink(name(span).bytes()))?;
        let filters = index::filters_for(most);
        let size = usize::try_from(filters.saturating_mul(FILTER as u64)).map_err(|_| EFBIG)?;
        Ok(TableWriter {
            file: trust::private_file(dir.create(name(span).bytes(), MODE)?)?,
            head: Head {
                span,
                entries: 0,
                filters,
            },
            uuid: self.uuid,
            block: zeroes(BLOCK)?,
            in_block: 0,
            filter: zeroes(size)?,
        })
    }

    /// Makes the directory's names durable.
    pub(super) fn sync_names(&self) -> Result {
        self.dir()?.sync()
    }

    /// Forgets and removes tables of segments before `first` only.
    pub(super) fn trim(&mut self, first: u64) -> Result {
        while let Some(span) = self.list.first().map(|t| t.span) {
            if span.last >= first {
                break;
            }
            gone(self.dir()?.unlink(name(span).bytes()))?;
            let _ = self.list.remove(0);
        }
        Ok(())
    }

    /// The next tables that are to be merged: the first one's place in the list, and they. Mostly
    /// the newest; older ones, where a recovery had to make a table for each segment anew.
    pub(super) fn next_merge(&mut self) -> Result<Option<(usize, TableMerge)>> {
        let level = |table: &IndexTable| table.span.len().ilog(FAN as u64);
        let due = |tables: &[IndexTable]| {
            let newest = tables.last().map_or(0, level);
            tables.iter().all(|table| level(table) <= newest)
        };
        let Some(start) = self.list.windows(FAN).rposition(due) else {
            return Ok(None);
        };
        let mut inputs = KVec::with_capacity(FAN, GFP_KERNEL)?;
        for i in start..start.saturating_add(FAN) {
            inputs.push(Input::new(self.opened(i)?)?, GFP_KERNEL)?;
        }
        Ok(Some((start, TableMerge { inputs })))
    }

    /// Replaces tables by the one that was merged from them.
    pub(super) fn replace(&mut self, start: usize, merged: SegmentRange) -> Result {
        let mut old = KVVec::with_capacity(FAN, GFP_KERNEL)?;
        while let Some(table) = self.list.get(start) {
            if table.span.first > merged.last {
                break;
            }
            old.push(table.span, GFP_KERNEL)?;
            let _ = self.list.remove(start);
        }
        // The merged table is durable by now.
        self.add(merged)?;
        // A crash in between is harmless: the longer table counts.
        for span in old {
            gone(self.dir()?.unlink(name(span).bytes()))?;
        }
        Ok(())
    }

    /// Merges tables while there are many of one size. `first` is the oldest segment.
    pub(super) fn merge_all(&mut self, first: u64) -> Result {
        while let Some((start, merge)) = self.next_merge()? {
            let (span, most) = merge.extent().ok_or(EINVAL)?;
            let mut out = self.create(span, most)?;
            merge.write(first, &mut out)?;
            out.finish()?;
            self.sync_names()?;
            self.replace(start, span)?;
        }
        Ok(())
    }
}

impl OpenTable {
    /// Searches the table.
    fn look_up(&self, object: ObjectId, buf: &mut [u8]) -> Result<Option<Pos>> {
        if let Some(at) = self.head.filter_at(object) {
            let mut piece = [0; FILTER];
            self.file.read_exact_at(&mut piece, at)?;
            if !index::filter_has(&piece, object, crc32c) {
                return Ok(None);
            }
        }
        let (mut low, mut high) = (0, self.head.blocks());
        while high.saturating_sub(low) > 1 {
            let middle = low.midpoint(high);
            let mut first = [0; index::ENTRY];
            let at = self.head.block_at(middle).ok_or(EUCLEAN)?;
            self.file.read_exact_at(&mut first, at)?;
            let (found, _) = index::entry(&first).ok_or(EUCLEAN)?;
            if found <= object {
                low = middle;
            } else {
                high = middle;
            }
        }
        if low == high {
            return Ok(None);
        }
        let count = self.read_block(low, buf)?;
        let found = index::entries(block(buf)?, count).find(|(o, _)| *o == object);
        if found.is_none() {
            self.must_be_absent(object, low, count, buf)?;
        }
        Ok(found.map(|(_, pos)| pos))
    }

    /// Checks that `object`, which is not in block `at` (in `buf`, with `count` entries), cannot be
    /// in a neighbouring block: the search compared first entries of blocks without verifying these
    /// blocks' checksums. `EUCLEAN`: one of the compared entries is damaged.
    fn must_be_absent(&self, object: ObjectId, at: u64, count: usize, buf: &mut [u8]) -> Result {
        let ends = |buf: &[u8], count| -> Result<_> {
            let mut objects = index::entries(block(buf)?, count).map(|(o, _)| o);
            let first = objects.next().ok_or(EUCLEAN)?;
            Ok((first, objects.last().unwrap_or(first)))
        };
        let (first, last) = ends(buf, count)?;
        let next = at.saturating_add(1);
        let before = object < first && at != 0;
        let behind = object > last && next < self.head.blocks() && {
            let count = self.read_block(next, buf)?;
            ends(buf, count)?.0 <= object
        };
        if before || behind {
            return Err(EUCLEAN);
        }
        Ok(())
    }

    /// Reads block `i` and verifies its checksum; returns the number of entries.
    fn read_block(&self, i: u64, buf: &mut [u8]) -> Result<usize> {
        let at = self.head.block_at(i).ok_or(EUCLEAN)?;
        self.file.read_exact_at(buf, at)?;
        if !index::is_whole(block(buf)?, crc32c) {
            return Err(EUCLEAN);
        }
        Ok(index::count_in_block(self.head.entries, i))
    }
}

/// A table being written: entries come in order.
pub(super) struct TableWriter {
    file: StoreFile,
    head: Head,
    uuid: [u8; 16],
    block: KVVec<u8>,
    in_block: usize,
    filter: KVVec<u8>,
}

impl TableWriter {
    /// Adds an entry.
    pub(super) fn push(&mut self, object: ObjectId, pos: Pos) -> Result {
        index::put_entry(block_mut(&mut self.block)?, self.in_block, object, pos);
        if let Some(piece) = index::filter_piece(object, self.head.filters) {
            // CAST: The filter is in memory.
            let at = (piece as usize).saturating_mul(FILTER);
            let piece = self.filter.get_mut(at..at.saturating_add(FILTER));
            index::filter_put(piece.ok_or(EINVAL)?, object);
        }
        self.in_block = self.in_block.saturating_add(1);
        self.head.entries = self.head.entries.saturating_add(1);
        if self.in_block as u64 == index::PER_BLOCK {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result {
        let last = self.head.blocks().checked_sub(1).ok_or(EINVAL)?;
        index::seal(block_mut(&mut self.block)?, crc32c);
        let at = self.head.block_at(last).ok_or(EFBIG)?;
        self.file.write_at(&self.block, at)?;
        self.block.fill(0);
        self.in_block = 0;
        Ok(())
    }

    /// Writes the filter and the head, and makes the table durable.
    pub(super) fn finish(mut self) -> Result {
        if self.in_block != 0 {
            self.flush()?;
        }
        let at = self.head.block_at(self.head.blocks()).ok_or(EFBIG)?;
        index::seal_filter(&mut self.filter, crc32c);
        self.file.write_at(&self.filter, at)?;
        (self.head).encode(&self.uuid, crc32c, block_mut(&mut self.block)?);
        self.file.write_at(&self.block, 0)?;
        self.file.sync()
    }
}

/// Tables to be merged, oldest first.
pub(super) struct TableMerge {
    inputs: KVec<Input>,
}

/// An input of a merge, and the read position.
struct Input {
    open: Arc<OpenTable>,
    buf: KVVec<u8>,
    next_block: u64,
    count: usize,
    at: usize,
}

impl Input {
    fn new(open: Arc<OpenTable>) -> Result<Self> {
        Ok(Self {
            open,
            buf: zeroes(BLOCK)?,
            next_block: 0,
            count: 0,
            at: 0,
        })
    }

    /// The entry at the read position.
    fn peek(&mut self) -> Result<Option<(ObjectId, Pos)>> {
        if self.at >= self.count {
            if self.next_block >= self.open.head.blocks() {
                return Ok(None);
            }
            self.count = self.open.read_block(self.next_block, &mut self.buf)?;
            self.next_block = self.next_block.saturating_add(1);
            self.at = 0;
        }
        let at = self.at.saturating_mul(index::ENTRY);
        let bytes = self.buf.get(at..at.saturating_add(index::ENTRY));
        Ok(Some(bytes.and_then(index::entry).ok_or(EUCLEAN)?))
    }
}

impl TableMerge {
    /// The segments that the merged table covers, and the largest possible number of its entries.
    pub(super) fn extent(&self) -> Option<(SegmentRange, u64)> {
        let first = self.inputs.first()?.open.head.span.first;
        let last = self.inputs.last()?.open.head.span.last;
        let entries = self.inputs.iter().map(|i| i.open.head.entries);
        Some((
            SegmentRange { first, last },
            entries.fold(0, u64::saturating_add),
        ))
    }

    /// Writes the merged table: the newest line of each object, unless that line is before
    /// `oldest`.
    pub(super) fn write(mut self, oldest: u64, out: &mut TableWriter) -> Result {
        loop {
            let mut least: Option<(ObjectId, Pos)> = None;
            for input in &mut self.inputs {
                if let Some((object, pos)) = input.peek()? {
                    // The later of equal ones is the newer.
                    if least.is_none_or(|(o, _)| object <= o) {
                        least = Some((object, pos));
                    }
                }
            }
            let Some((object, pos)) = least else {
                return Ok(());
            };
            for input in &mut self.inputs {
                if input.peek()?.is_some_and(|(o, _)| o == object) {
                    input.at = input.at.saturating_add(1);
                }
            }
            if pos.segment >= oldest {
                out.push(object, pos)?;
            }
        }
    }
}

/// Maps errors of a listed table that is missing, short or not private to `EUCLEAN`.
fn damaged(error: Error) -> Error {
    if error == ENOENT || error == ENODATA || error == EPERM {
        return EUCLEAN;
    }
    error
}

/// A table's name.
fn name(span: SegmentRange) -> Name {
    Name::new(format_args!("{}-{}.idx", span.first, span.last))
}

fn block(bytes: &[u8]) -> Result<&[u8; BLOCK]> {
    bytes.try_into().map_err(|_| EINVAL)
}

fn block_mut(bytes: &mut [u8]) -> Result<&mut [u8; BLOCK]> {
    bytes.try_into().map_err(|_| EINVAL)
}
