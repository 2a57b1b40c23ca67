// SPDX-License-Identifier: MIT OR Apache-2.0

//! A model file that distinguishes holes from zeroes, and allocated ranges from others, with a journal as the kernel
//! would keep one: the reference for the test of the plan and for the fuzzers.

use loggerfs_log::line::{Line, LineDraft, Mode, Op, OpenFileRef, Undo};
use loggerfs_log::plan::{
    inverse, Changes, Content, Disposition, Inverse, InverseMerge, MapReader, MapRecord,
    MergeEntry, OnExternal, Outcome, Piece, Source, Walk, WalkStep, RECORD,
};
use loggerfs_log::types::{Extent, Pos, Time};

use super::{crc32c, parse, pos, seed, List, OBJECT};

/// One byte of the model file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// A hole.
    Hole,
    /// One with space of its own.
    Unwritten,
    /// A byte.
    Byte(u8),
}

impl Cell {
    /// A byte, or a hole.
    pub fn of(byte: Option<u8>) -> Self {
        byte.map_or(Self::Hole, Self::Byte)
    }

    fn content(self) -> Content {
        match self {
            Self::Hole => Content::Hole,
            Self::Unwritten => Content::Unwritten,
            Self::Byte(_) => Content::Data,
        }
    }

    fn byte(self) -> Option<u8> {
        match self {
            Self::Byte(byte) => Some(byte),
            _ => None,
        }
    }
}

/// The expected file.
pub type File = Vec<Cell>;

/// Applies a plan as the kernel does: every piece, then the size.
pub fn apply(file: &mut File, pieces: &[Piece], size: u64, undo: &dyn Fn(Pos, usize) -> Vec<u8>) {
    for piece in pieces {
        let (start, end) = (piece.offset as usize, piece.end() as usize);
        if file.len() < end {
            file.resize(end, Cell::Hole);
        }
        let cells: File = match piece.source {
            Source::Hole => vec![Cell::Hole; end - start],
            Source::Unwritten => vec![Cell::Unwritten; end - start],
            Source::At(at) => (undo(at, end - start).into_iter().map(Cell::Byte)).collect(),
        };
        file[start..end].copy_from_slice(&cells);
    }
    file.resize(size as usize, Cell::Hole);
}

/// Cuts ranges of a file into runs of data and holes.
pub fn runs(file: &[Cell], ranges: &[(u64, u64)]) -> Vec<MapRecord> {
    let mut runs: Vec<MapRecord> = Vec::new();
    for &(start, length) in ranges {
        for at in start..start + length {
            let content = file[at as usize].content();
            match runs.last_mut() {
                Some(run)
                    if run.offset + run.length == at && run.content == content && at > start =>
                {
                    run.length += 1;
                }
                _ => runs.push(MapRecord {
                    offset: at,
                    length: 1,
                    content,
                }),
            }
        }
    }
    runs
}

/// A log and its payloads, as the journal would hold them, in segments of four lines.
#[derive(Default)]
pub struct Journal {
    pub lines: Vec<(Pos, Vec<u8>)>,
    undo: Vec<Vec<u8>>,
    newest: Option<Pos>,
    seq: u64,
}

/// The keys of a line beside its head.
pub struct LineKeys {
    size: Option<u64>,
    undo: Undo,
    map: Option<u64>,
    crc: u32,
}

impl Journal {
    fn segment(&self) -> u64 {
        self.lines.len() as u64 / 4 + 1
    }

    fn line(&self, at: Pos) -> &[u8] {
        let found = self.lines.iter().find(|(pos, _)| *pos == at);
        &found.expect("a line stands there").1
    }

    pub fn payload(&self, at: Pos, length: usize) -> Vec<u8> {
        let start = at.offset as usize;
        self.undo[at.segment as usize][start..start + length].to_vec()
    }

    /// Saves ranges of a file; a single run of data that begins at `base` needs no map.
    fn save(&mut self, file: &[Cell], base: u64, ranges: &[(u64, u64)], map: bool) -> LineKeys {
        let runs = runs(file, ranges);
        let is_data = |run: &MapRecord| run.content == Content::Data;
        let plain = matches!(&runs[..], [run] if is_data(run) && run.offset == base) && !map;
        self.save_runs(file, &runs, !plain)
    }

    /// Saves runs, with a map or not.
    fn save_runs(&mut self, file: &[Cell], runs: &[MapRecord], map: bool) -> LineKeys {
        let mut payload = Vec::new();
        if map {
            runs.iter().for_each(|run| payload.extend(run.encode()));
        }
        for run in runs.iter().filter(|run| run.content == Content::Data) {
            let (start, end) = (run.offset as usize, (run.offset + run.length) as usize);
            payload.extend(
                file[start..end]
                    .iter()
                    .map(|cell| cell.byte().expect("data")),
            );
        }
        let segment = self.segment();
        self.undo
            .resize(self.undo.len().max(segment as usize + 1), vec![0xee; 3]);
        let store = &mut self.undo[segment as usize];
        let extent = Extent {
            segment,
            offset: store.len() as u64,
            length: payload.len() as u64,
        };
        store.extend(&payload);
        LineKeys {
            size: Some(file.len() as u64),
            undo: if runs.is_empty() {
                Undo::None
            } else {
                Undo::At(extent)
            },
            map: (map && !runs.is_empty()).then_some(runs.len() as u64),
            crc: !crc32c(!0, &payload),
        }
    }

    /// Places a line and returns its number.
    fn place(
        &mut self,
        (op, offset, length): (Op, u64, u64),
        facts: Option<LineKeys>,
        more: &dyn Fn(&mut LineDraft<'_>),
    ) -> u64 {
        let (mut draft_buffer, mut line) = ([0; 4096], [0; 4096]);
        let mut draft = LineDraft::new(
            &mut draft_buffer,
            Time { sec: 1, nsec: 2 },
            b"/bin/x",
            op,
            offset,
            length,
        );
        draft.obj(OBJECT).open(OpenFileRef::First);
        if let Some(prev) = self.newest {
            draft.prev(prev);
        }
        if let Some(facts) = facts {
            if let Some(size) = facts.size {
                draft.size(size);
            }
            draft.undo(facts.undo);
            if let Some(map) = facts.map {
                draft.map(map);
            }
            if facts.undo != Undo::None {
                draft.crc(facts.crc);
            }
        }
        more(&mut draft);
        self.seq += 3;
        let segment = self.segment();
        let len = draft
            .seal(self.seq, &seed(segment), crc32c, &mut line)
            .expect("it fits");
        let offset = match self.lines.last() {
            Some((last, bytes)) if last.segment == segment => last.offset + bytes.len() as u64,
            _ => 0,
        };
        let at = pos(segment, offset);
        self.lines.push((at, line[..len].to_vec()));
        self.newest = Some(at);
        self.seq
    }

    /// The newest `count` live operations, inverted into one plan.
    pub fn plan(&self, count: usize, present: u64) -> (Vec<Piece>, Outcome, Option<Pos>) {
        let mut walk = Walk::new(OBJECT, self.newest, OnExternal::Stop);
        let mut merge = InverseMerge::new(List::default(), present);
        let mut reverted = List::default();
        let mut taken = 0;
        while taken < count {
            let at = walk.next().expect("so many operations stand");
            let mut line = parse(self.line(at), at.segment);
            match walk.step(&mut line, &mut reverted, Disposition::Revert) {
                WalkStep::Live => {
                    self.feed(&mut merge, &inverse(&line).expect("it has an inverse"));
                    taken += 1;
                }
                WalkStep::Stop(stop) => panic!("{stop:?}"),
                WalkStep::Skip | WalkStep::JumpTo(_) | WalkStep::Conflict => {}
            }
        }
        let mut pieces = List::default();
        let outcome = merge.finish(&mut pieces).expect("there is room");
        check_plan(&pieces.items, &outcome);
        (pieces.items, outcome, walk.next())
    }

    /// Feeds one inverse into a merge.
    fn feed(&self, merge: &mut InverseMerge<List<MergeEntry>>, inverse: &Inverse) {
        if let Some(restore) = inverse.restore {
            let mut reader = MapReader::new(&restore).expect("sound");
            if let Some(piece) = reader.plain() {
                merge.restore(&piece).expect("room");
            }
            let mut at = pos(restore.payload.segment, restore.payload.offset);
            while reader.left() > 0 {
                let record = self.payload(at, RECORD).try_into().expect("sixteen");
                merge
                    .restore(&reader.feed(&record).expect("sound"))
                    .expect("room");
                at.offset += RECORD as u64;
            }
            reader.finish().expect("whole");
        }
        merge.end_operation(inverse.size_after);
    }
}

/// The invariants of every plan.
pub fn check_plan(pieces: &[Piece], outcome: &Outcome) {
    for pair in pieces.windows(2) {
        assert!(pair[0].end() <= pair[1].offset, "ascending, apart");
    }
    assert!(pieces
        .iter()
        .all(|p| p.length > 0 && p.end() <= outcome.size));
    assert!(outcome.low <= outcome.size && outcome.low <= outcome.present);
    let covered: u64 = pieces
        .iter()
        .map(|p| p.end().saturating_sub(p.offset.max(outcome.low)))
        .sum();
    assert_eq!(
        covered,
        outcome.size - outcome.low,
        "no stale byte beyond the cut"
    );
}

/// The operations on the model file.
#[derive(Clone, Debug)]
pub enum Operation {
    Write {
        offset: u64,
        length: u64,
        map: bool,
    },
    /// Logged before the call, which wrote only `done` bytes.
    SyncWrite {
        offset: u64,
        length: u64,
        done: u64,
    },
    /// Logged before the call, which failed.
    FailedWrite {
        offset: u64,
        length: u64,
    },
    Truncate(u64),
    Punch {
        offset: u64,
        length: u64,
    },
    /// Space is allocated, and the file made longer.
    Allocate {
        offset: u64,
        length: u64,
    },
    Store {
        offset: u64,
        length: u64,
    },
    Books(Op),
    Revert {
        count: usize,
        mode: Option<Mode>,
        cancelled: bool,
    },
}

/// The model: a file, its journal, and the state before each live operation.
#[derive(Default)]
pub struct Model {
    pub file: File,
    pub journal: Journal,
    /// The states before each live operation, oldest first.
    pub before: Vec<File>,
    fill: u8,
}

impl Model {
    /// Writes distinct bytes; now and then zeroes, which are no holes.
    fn fill(&mut self, offset: u64, length: u64) {
        let end = (offset + length) as usize;
        if self.file.len() < end {
            self.file.resize(end, Cell::Hole);
        }
        for cell in &mut self.file[offset as usize..end] {
            self.fill = (self.fill + 1) % 251;
            *cell = Cell::Byte(if self.fill % 3 == 0 { 0 } else { self.fill });
        }
    }

    fn save(&mut self, base: u64, start: u64, end: u64, map: bool) -> LineKeys {
        let end = end.min(self.file.len() as u64);
        let range = (start, end.saturating_sub(start));
        let ranges = if range.1 == 0 { vec![] } else { vec![range] };
        self.journal.save(&self.file.clone(), base, &ranges, map)
    }

    pub fn perform(&mut self, operation: &Operation) {
        let size = self.file.len() as u64;
        let none = &|_: &mut LineDraft<'_>| {};
        match *operation {
            Operation::Write {
                offset,
                length,
                map,
            } => {
                let facts = self.save(offset, offset, offset + length, map);
                self.before.push(self.file.clone());
                self.fill(offset, length);
                self.journal
                    .place((Op::Write, offset, length), Some(facts), none);
            }
            Operation::SyncWrite {
                offset,
                length,
                done,
            } => {
                let facts = self.save(offset, offset, offset + length, false);
                let of = self
                    .journal
                    .place((Op::Write, offset, length), Some(facts), none);
                self.before.push(self.file.clone());
                if done > 0 {
                    self.fill(offset, done);
                }
                self.journal
                    .place((Op::Amend, offset, done), None, &|draft| {
                        draft.of(of).size(size);
                    });
            }
            Operation::FailedWrite { offset, length } => {
                let facts = self.save(offset, offset, offset + length, false);
                let of = self
                    .journal
                    .place((Op::Write, offset, length), Some(facts), none);
                self.journal.place((Op::Cancel, 0, 0), None, &|draft| {
                    draft.of(of);
                });
            }
            Operation::Truncate(new) => {
                let facts = self.save(new, new, size, false);
                self.before.push(self.file.clone());
                self.file.resize(new as usize, Cell::Hole);
                let range = (size.min(new), size.abs_diff(new));
                self.journal
                    .place((Op::Truncate, range.0, range.1), Some(facts), none);
            }
            Operation::Punch { offset, length } => {
                let facts = self.save(offset, offset, offset + length, false);
                self.before.push(self.file.clone());
                let end = (offset + length).min(size).max(offset.min(size));
                self.file[offset.min(size) as usize..end as usize].fill(Cell::Hole);
                self.journal
                    .place((Op::Punch, offset, length), Some(facts), none);
            }
            Operation::Allocate { offset, length } => {
                let (start, end) = (offset.min(size), (offset + length).min(size));
                let mut holes = runs(&self.file, &[(start, end - start)]);
                holes.retain(|run| run.content == Content::Hole);
                let facts = self.journal.save_runs(&self.file, &holes, true);
                self.before.push(self.file.clone());
                let end = size.max(offset + length) as usize;
                self.file.resize(end, Cell::Hole);
                for cell in &mut self.file[offset as usize..(offset + length) as usize] {
                    if *cell == Cell::Hole {
                        *cell = Cell::Unwritten;
                    }
                }
                self.journal
                    .place((Op::Allocate, offset, length), Some(facts), none);
            }
            Operation::Store { offset, length } => {
                let (start, end) = (offset.min(size), (offset + length).min(size));
                if start == end {
                    return;
                }
                let mut facts = self.save(start, start, end, false);
                facts.size = None;
                self.before.push(self.file.clone());
                self.fill(start, end - start);
                self.journal
                    .place((Op::Mmap, start, end - start), Some(facts), none);
            }
            Operation::Books(op) => {
                self.journal.place((op, 0, 0), None, &|draft| {
                    draft.size(size);
                });
            }
            Operation::Revert {
                count,
                mode,
                cancelled,
            } => self.revert(count, mode, cancelled),
        }
    }

    /// Takes operations back, as the kernel does, with a line and a redo payload of its own.
    fn revert(&mut self, count: usize, mode: Option<Mode>, cancelled: bool) {
        let count = count.min(self.before.len());
        if count == 0 {
            return;
        }
        let (pieces, outcome, back) = self.journal.plan(count, self.file.len() as u64);
        let ranges: Vec<_> = Changes::new(&pieces, &outcome).collect();
        for pair in ranges.windows(2) {
            assert!(pair[0].0 + pair[0].1 < pair[1].0, "apart");
        }
        let hull = outcome.span(&pieces);
        let facts = self.journal.save(&self.file, hull.0, &ranges, false);
        let of = self
            .journal
            .place((Op::Revert, hull.0, hull.1), Some(facts), &|draft| {
                draft.count(count as u64).now(outcome.size);
                if let Some(back) = back {
                    draft.back(back);
                }
                if let Some(mode) = mode {
                    draft.mode(mode);
                }
            });
        let end = if cancelled { Op::Cancel } else { Op::Commit };
        self.journal.place((end, 0, 0), None, &|draft| {
            draft.of(of);
        });
        if cancelled {
            return;
        }
        let earlier = self.before.len() - count;
        let present = self.file.clone();
        self.apply(&pieces, outcome.size);
        assert_eq!(self.file, self.before[earlier], "the earlier state");
        match mode {
            Some(Mode::Pick) => self.before.push(present),
            _ => self.before.truncate(earlier),
        }
    }

    pub fn apply(&mut self, pieces: &[Piece], size: u64) {
        let journal = &self.journal;
        apply(&mut self.file, pieces, size, &|at, length| {
            journal.payload(at, length)
        });
    }
}

/// The line of the newest revert, as a plan of its own: the effect of a redo.
pub fn redo(model: &Model) -> Option<File> {
    let lines = model.journal.lines.iter().rev();
    let parsed = lines.map(|(at, bytes)| parse(bytes, at.segment));
    let revert: Line<'_> = parsed.take(2).find(|line| line.op == Op::Revert)?;
    let mut merge = InverseMerge::new(List::default(), model.file.len() as u64);
    model
        .journal
        .feed(&mut merge, &inverse(&revert).expect("invertible"));
    let mut pieces = List::default();
    let outcome = merge.finish(&mut pieces).expect("room");
    check_plan(&pieces.items, &outcome);
    let mut file = model.file.clone();
    apply(&mut file, &pieces.items, outcome.size, &|at, length| {
        model.journal.payload(at, length)
    });
    Some(file)
}
