// SPDX-License-Identifier: GPL-2.0

//! The inverse plans against the model of logctl's tests, and against absurd numbers.

use arbitrary::{Result, Unstructured};
use loggerfs_log::line::{Mode, Op};
use loggerfs_log::plan::{
    Changes, Content, InverseMerge, MapReader, MapRecord, Piece, Records, Restore, Source,
};
use loggerfs_log::types::{Extent, Pos};

use crate::line::number;
use crate::support::model::{apply, check_plan, redo, Cell, File, Model, Operation};
use crate::support::List;

/// How many operations one file sees.
const MOST: usize = 48;

fn operation(u: &mut Unstructured<'_>) -> Result<Operation> {
    let offset = u.int_in_range(0..=96)?;
    let length = u.int_in_range(1..=48)?;
    Ok(match u.int_in_range(0..=9)? {
        0 | 1 => Operation::Write {
            offset,
            length,
            map: u.arbitrary()?,
        },
        2 => Operation::SyncWrite {
            offset,
            length,
            done: u.int_in_range(0..=length)?,
        },
        3 => Operation::FailedWrite { offset, length },
        4 => Operation::Truncate(u.int_in_range(0..=128)?),
        5 => Operation::Punch { offset, length },
        6 => Operation::Store { offset, length },
        7 => Operation::Allocate { offset, length },
        8 => Operation::Books(*u.choose(&[Op::Close, Op::Resync])?),
        _ => Operation::Revert {
            count: u.int_in_range(1..=6)?,
            mode: *u.choose(&[None, Some(Mode::Walk), Some(Mode::Pick)])?,
            cancelled: u.ratio(1, 5)?,
        },
    })
}

/// Any operations and reverts; every number of steps back gives the state of that time.
pub(crate) fn model(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let mut model = Model::default();
    for _ in 0..MOST {
        if u.is_empty() {
            break;
        }
        let Ok(operation) = operation(&mut u) else {
            break;
        };
        let (before, lines) = (model.file.clone(), model.journal.lines.len());
        model.perform(&operation);
        let did_revert = model.journal.lines.len() > lines
            && matches!(
                operation,
                Operation::Revert {
                    cancelled: false,
                    ..
                }
            );
        if let Some(redone) = did_revert.then(|| redo(&model)).flatten() {
            assert_eq!(redone, before, "redo");
        }
    }
    for count in 0..=model.before.len() {
        let (pieces, outcome, _) = model.journal.plan(count, model.file.len() as u64);
        let mut file = model.file.clone();
        apply(&mut file, &pieces, outcome.size, &|at, length| {
            model.journal.payload(at, length)
        });
        let states: Vec<&File> = model.before.iter().chain([&model.file]).collect();
        assert_eq!(&file, states[model.before.len() - count], "{count} back");
    }
}

/// Any pieces and sizes have the result of applying them one by one.
pub(crate) fn merge(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let _ = small_merge(&mut u).and_then(|()| large_merge(&mut u));
}

fn small_merge(u: &mut Unstructured<'_>) -> Result<()> {
    let present: File = (0..u.int_in_range(0..=63)?)
        .map(|i| Cell::Byte(i as u8))
        .collect();
    let source = |at: Pos, length: usize| -> Vec<u8> {
        (0..length as u64)
            .map(|i| (at.segment * 31 + at.offset + i) as u8)
            .collect()
    };
    let mut merge = InverseMerge::new(List::default(), present.len() as u64);
    let mut expected = present.clone();
    for segment in 0..u.int_in_range(0..=8)? {
        let before = expected.len();
        for _ in 0..u.int_in_range(0..=4)? {
            let (offset, length) = (u.int_in_range(0..=80)?, u.int_in_range(1..=40)?);
            let at = Pos {
                segment,
                offset: offset * 7,
            };
            let source_of = *u.choose(&[Source::Hole, Source::Unwritten, Source::At(at)])?;
            let piece = Piece {
                offset,
                length,
                source: source_of,
            };
            merge.restore(&piece).expect("room");
            let size = expected.len().max(piece.end() as usize) as u64;
            apply(&mut expected, &[piece], size, &source);
        }
        let size = if u.arbitrary()? {
            Some(u.int_in_range(0..=100)?)
        } else {
            None
        };
        merge.end_operation(size);
        expected.resize(size.map_or(before, |size| size as usize), Cell::Hole);
    }
    let mut pieces = List::default();
    let outcome = merge.finish(&mut pieces).expect("room");
    check_plan(&pieces.items, &outcome);
    let mut file = present;
    apply(&mut file, &pieces.items, outcome.size, &source);
    assert_eq!(file, expected);
    Ok(())
}

/// Numbers up to the largest: no plan of them contradicts itself.
fn large_merge(u: &mut Unstructured<'_>) -> Result<()> {
    let list = List {
        room: u.int_in_range(0..=200)?,
        ..List::default()
    };
    let mut merge = InverseMerge::new(list, number(u)?);
    for segment in 0..u.int_in_range(0..=20)? {
        for _ in 0..u.int_in_range(0..=6)? {
            let piece = Piece {
                offset: number(u)?,
                length: number(u)?.max(1),
                source: match u.int_in_range(0..=3)? {
                    0 => Source::Hole,
                    1 => Source::Unwritten,
                    _ => Source::At(Pos {
                        segment,
                        offset: number(u)?,
                    }),
                },
            };
            // An operation that overflows, or finds no memory, is refused.
            let _ = merge.restore(&piece);
        }
        merge.end_operation(if u.arbitrary()? {
            Some(number(u)?)
        } else {
            None
        });
    }
    let mut pieces = List::default();
    if let Ok(outcome) = merge.finish(&mut pieces) {
        check_plan(&pieces.items, &outcome);
        let mut last = None;
        for (start, length) in Changes::new(&pieces.items, &outcome) {
            assert!(length > 0 && start.saturating_add(length) <= outcome.present);
            assert!(last.is_none_or(|end| end < start), "apart");
            last = Some(start + length);
        }
        let _ = outcome.span(&pieces.items);
    }
    Ok(())
}

/// Any bytes of old attributes are refused, or keep their meaning when encoded again.
pub(crate) fn attributes(data: &[u8]) {
    let Ok(records) = Records::new(data) else {
        return;
    };
    let mut seen = Vec::new();
    let mut again = Vec::new();
    for record in records.last_ones() {
        let key = (record.kind, record.name);
        assert!(!seen.contains(&key), "twice");
        assert!(records.last(record.kind).is_some());
        seen.push(key);
        again.extend(record.head().expect("what was read can be written"));
        again.extend(record.name);
        again.extend(record.value.unwrap_or_default());
    }
    assert!(again.len() <= data.len());
    let second = Records::new(&again).expect("written by us");
    assert!(second.last_ones().eq(records.last_ones()));
}

/// Any payload map is refused, or gives sound pieces.
pub(crate) fn map(data: &[u8]) {
    let _ = read_map(&mut Unstructured::new(data));
}

fn read_map(u: &mut Unstructured<'_>) -> Result<()> {
    let restore = Restore {
        offset: number(u)?,
        length: number(u)?,
        payload: Extent {
            segment: 1,
            offset: number(u)?,
            length: number(u)?,
        },
        map: if u.arbitrary()? {
            Some(number(u)?)
        } else {
            None
        },
        attributes: if u.arbitrary()? { number(u)? } else { 0 },
        crc: 0,
    };
    let Ok(mut reader) = MapReader::new(&restore) else {
        return Ok(());
    };
    let (end, payload_end) = (
        restore.offset + restore.length,
        restore.payload.offset + (restore.payload.length - restore.attributes),
    );
    let mut floor = restore.offset;
    let mut check = |piece: &Piece| {
        assert!(piece.length > 0 && piece.offset >= floor && piece.end() <= end);
        floor = piece.end();
        if let Source::At(at) = piece.source {
            assert!(at.offset >= restore.payload.offset);
            assert!(
                at.offset + piece.length <= payload_end,
                "beyond the payload"
            );
        }
    };
    if let Some(piece) = reader.plain() {
        check(&piece);
    }
    while reader.left() > 0 && !u.is_empty() {
        let record = match u.arbitrary()? {
            true => u.arbitrary::<[u8; 16]>()?,
            false => MapRecord {
                offset: number(u)?,
                length: number(u)? >> 1,
                content: *u.choose(&[Content::Data, Content::Hole, Content::Unwritten])?,
            }
            .encode(),
        };
        let decoded = MapRecord::decode(&record);
        assert_eq!(decoded.encode(), record);
        match reader.feed(&record) {
            Ok(piece) => check(&piece),
            Err(_) => return Ok(()),
        }
    }
    let _ = reader.finish();
    Ok(())
}
