// SPDX-License-Identifier: MIT OR Apache-2.0

//! The plan against a model file that distinguishes holes from zeroes: after any operations, walking back
//! over the log must give the earlier state, byte for byte.

mod support;

use loggerfs_log::line::{Mode, Op};
use loggerfs_log::plan::{
    allocated, has_empty_block, Content, InverseMerge, MapReader, MapRecord, Piece, Restore, Source,
};
use loggerfs_log::types::{Extent, Pos};
use proptest::prelude::*;
use support::model::{apply, check_plan, redo, Cell, File, Model, Operation};
use support::{pos, List};

fn operation() -> impl Strategy<Value = Operation> {
    let (at, len) = (0..96u64, 1..48u64);
    prop_oneof![
        6 => (at.clone(), len.clone(), any::<bool>())
            .prop_map(|(offset, length, map)| Operation::Write { offset, length, map }),
        2 => (at.clone(), len.clone(), 0..48u64).prop_map(|(offset, length, done)| {
            Operation::SyncWrite { offset, length, done: done.min(length) }
        }),
        1 => (at.clone(), len.clone())
            .prop_map(|(offset, length)| Operation::FailedWrite { offset, length }),
        5 => (0..128u64).prop_map(Operation::Truncate),
        2 => (at.clone(), len.clone())
            .prop_map(|(offset, length)| Operation::Punch { offset, length }),
        2 => (at.clone(), len.clone())
            .prop_map(|(offset, length)| Operation::Allocate { offset, length }),
        2 => (at, len).prop_map(|(offset, length)| Operation::Store { offset, length }),
        1 => prop::sample::select(&[Op::Close, Op::Resync][..]).prop_map(Operation::Books),
        2 => (
            1..6usize,
            prop::sample::select(&[None, Some(Mode::Walk), Some(Mode::Pick)][..]),
            prop::bool::weighted(0.2),
        )
            .prop_map(|(count, mode, cancelled)| Operation::Revert { count, mode, cancelled }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Every number of steps back gives the state of that time.
    #[test]
    fn any_number_of_steps_back(operations in prop::collection::vec(operation(), 1..24)) {
        let mut model = Model::default();
        for operation in &operations {
            let (before, lines) = (model.file.clone(), model.journal.lines.len());
            model.perform(operation);
            if model.journal.lines.len() == lines {
                continue;
            }
            if let Operation::Revert { cancelled: false, .. } = operation {
                if let Some(redone) = redo(&model) {
                    prop_assert_eq!(redone, before, "redo");
                }
            }
        }
        for count in 0..=model.before.len() {
            let (pieces, outcome, _) = model.journal.plan(count, model.file.len() as u64);
            let mut file = model.file.clone();
            apply(&mut file, &pieces, outcome.size, &|at, length| {
                model.journal.payload(at, length)
            });
            let states: Vec<&File> = model.before.iter().chain([&model.file]).collect();
            prop_assert_eq!(&file, states[model.before.len() - count], "{} back", count);
        }
    }

    /// Any pieces and sizes, consistent or not, have the result of applying them one by one.
    #[test]
    fn merge_is_one_after_the_other(
        present in prop::collection::vec(prop::option::of(any::<u8>()), 0..64),
        operations in prop::collection::vec(
            (
                prop::collection::vec((0..80u64, 1..40u64, 0..3u8), 0..4),
                prop::option::of(0..100u64),
            ),
            0..8,
        ),
    ) {
        let source = |at: Pos, length: usize| {
            (0..length as u64).map(|i| (at.segment * 31 + at.offset + i) as u8).collect()
        };
        let present: File = present.into_iter().map(Cell::of).collect();
        let mut merge = InverseMerge::new(List::default(), present.len() as u64);
        let mut expected = present.clone();
        for (index, (ranges, size)) in operations.iter().enumerate() {
            let before = expected.len() as u64;
            for &(offset, length, kind) in ranges {
                let at = pos(index as u64, offset * 7);
                let source = [Source::Hole, Source::Unwritten, Source::At(at)][usize::from(kind)];
                merge.restore(&Piece { offset, length, source }).unwrap();
                let piece = Piece { offset, length, source };
                let size = expected.len().max(piece.end() as usize) as u64;
                apply(&mut expected, &[piece], size, &|at, length| {
                    (0..length as u64).map(|i| (at.segment * 31 + at.offset + i) as u8).collect()
                });
            }
            merge.end_operation(*size);
            expected.resize(size.unwrap_or(before) as usize, Cell::Hole);
        }
        let mut pieces = List::default();
        let outcome = merge.finish(&mut pieces).unwrap();
        check_plan(&pieces.items, &outcome);
        let mut file = present.clone();
        apply(&mut file, &pieces.items, outcome.size, &source);
        prop_assert_eq!(file, expected);
    }

    /// Any payload map is refused, or gives sound pieces.
    #[test]
    fn map_is_believed_only_when_sound(
        records in prop::collection::vec((0..40u64, 0..40u64, any::<bool>()), 0..5),
        (offset, length) in (0..20u64, 0..100u64),
        extra in 0..3u64,
    ) {
        let data: u64 = records.iter().filter(|r| !r.2).map(|r| r.1).sum();
        let map = records.len() as u64;
        let restore = Restore {
            offset,
            length,
            payload: Extent { segment: 1, offset: 5, length: map * 16 + data + extra },
            map: Some(map),
            attributes: 0,
            crc: 0,
        };
        let mut reader = MapReader::new(&restore).unwrap();
        let pieces: Result<Vec<_>, _> = records
            .iter()
            .map(|&(offset, length, hole)| {
                let content = if hole { Content::Hole } else { Content::Data };
                reader.feed(&MapRecord { offset, length, content }.encode())
            })
            .collect();
        let sound = records.iter().all(|r| r.1 > 0 && r.0 >= offset && r.0 + r.1 <= offset + length)
            && records.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0);
        prop_assert_eq!(pieces.is_ok(), sound);
        prop_assert_eq!(pieces.is_ok() && reader.finish().is_ok(), sound && extra == 0);
    }

    /// A block of zeroes is found at every position, and only such a block.
    #[test]
    fn empty_blocks_are_found(
        start in 0..40u64,
        cells in prop::collection::vec(prop::bool::weighted(0.9), 0..80),
        is_end in any::<bool>(),
    ) {
        let bytes: Vec<u8> = cells.iter().map(|zero| u8::from(!zero)).collect();
        let end = start + bytes.len() as u64;
        let is_zero = |at: u64| bytes[(at - start) as usize] == 0;
        let mut blocks = (0..end).step_by(8).filter(|at| *at >= start);
        let want = blocks.any(|at| {
            (at + 8 <= end || is_end) && (at..(at + 8).min(end)).all(is_zero)
        });
        prop_assert_eq!(has_empty_block(&bytes, start, 8, || is_end), want);
    }

    /// Allocated space is found for any division into extents.
    #[test]
    fn space_is_found_by_counting(
        extents in prop::collection::vec((0..6u64, 1..9u64, any::<bool>()), 0..12),
        (start, length) in (0..70_000u64, 0..90_000u64),
        bits in prop::sample::select(&[9u32, 10, 12][..]),
    ) {
        let block = 1 << bits;
        let mut laid: Vec<(u64, u64)> = Vec::new();
        let mut at = 0;
        for (gap, blocks, is_apart) in extents {
            at += if is_apart { gap * block } else { 0 };
            laid.push((at, at + blocks * block));
            at += blocks * block;
        }
        let count = |from: u64, to: u64| {
            laid.iter().filter(|(begins, ends)| *begins < to && *ends > from).count() as u64
        };
        let mut asked = 0;
        let mut found = Vec::new();
        let end = start + length;
        let ask = |from: u64, to: u64| {
            assert!(start <= from && from < to && to <= end, "within the range");
            asked += 1;
            Ok::<_, ()>(count(from, to))
        };
        allocated((start, end), block, ask, |from, to, has_space| {
            found.push((from, to, has_space));
            Ok(())
        }).unwrap();
        let mut next = start;
        for (from, to, has_space) in found {
            prop_assert!(from == next && to > from, "ascending, without gaps");
            next = to;
            for at in from..to {
                prop_assert_eq!(count(at, at + 1) != 0, has_space, "byte {}", at);
            }
        }
        prop_assert_eq!(next, end.max(start));
        let most = 8 * (laid.len() as u64 + 1) * 10;
        prop_assert!(asked <= most, "{} questions about {} extents", asked, laid.len());
    }
}
