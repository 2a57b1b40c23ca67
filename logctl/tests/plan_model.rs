// SPDX-License-Identifier: MIT OR Apache-2.0

//! The plan against a model file that tells holes from zeroes: whatever was done to the file,
//! walking back over its log must give the earlier state, byte for byte.

mod support;

use logctl::history::line::{Extent, Mode, Op, Pos};
use logctl::history::plan::{MapReader, MapRecord, Merge, Piece, Restore, Source};
use proptest::prelude::*;
use support::model::{apply, check_plan, redo, Deed, File, World};
use support::{pos, List};

fn deed() -> impl Strategy<Value = Deed> {
    let (at, len) = (0..96u64, 1..48u64);
    prop_oneof![
        6 => (at.clone(), len.clone(), any::<bool>())
            .prop_map(|(offset, length, map)| Deed::Write { offset, length, map }),
        2 => (at.clone(), len.clone(), 0..48u64).prop_map(|(offset, length, done)| {
            Deed::SyncWrite { offset, length, done: done.min(length) }
        }),
        1 => (at.clone(), len.clone())
            .prop_map(|(offset, length)| Deed::FailedWrite { offset, length }),
        5 => (0..128u64).prop_map(Deed::Truncate),
        2 => (at.clone(), len.clone())
            .prop_map(|(offset, length)| Deed::Punch { offset, length }),
        2 => (at, len).prop_map(|(offset, length)| Deed::Store { offset, length }),
        1 => prop::sample::select(&[Op::Left, Op::Recover, Op::Read][..]).prop_map(Deed::Books),
        2 => (
            1..6usize,
            prop::sample::select(&[None, Some(Mode::Walk), Some(Mode::Pick)][..]),
            prop::bool::weighted(0.2),
        )
            .prop_map(|(count, mode, cancelled)| Deed::Revert { count, mode, cancelled }),
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
    fn any_number_of_steps_back(deeds in prop::collection::vec(deed(), 1..24)) {
        let mut world = World::default();
        for deed in &deeds {
            let (before, lines) = (world.file.clone(), world.journal.lines.len());
            world.perform(deed);
            if world.journal.lines.len() == lines {
                continue;
            }
            if let Deed::Revert { cancelled: false, .. } = deed {
                if let Some(redone) = redo(&world) {
                    prop_assert_eq!(redone, before, "redo");
                }
            }
        }
        for count in 0..=world.before.len() {
            let (pieces, outcome, _) = world.journal.plan(count, world.file.len() as u64);
            let mut file = world.file.clone();
            apply(&mut file, &pieces, outcome.size, &|at, length| {
                world.journal.payload(at, length)
            });
            let states: Vec<&File> = world.before.iter().chain([&world.file]).collect();
            prop_assert_eq!(&file, states[world.before.len() - count], "{} back", count);
        }
    }

    /// Any pieces and sizes, consistent or not, come to what one after the other does.
    #[test]
    fn merge_is_one_after_the_other(
        present in prop::collection::vec(prop::option::of(any::<u8>()), 0..64),
        operations in prop::collection::vec(
            (
                prop::collection::vec((0..80u64, 1..40u64, any::<bool>()), 0..4),
                prop::option::of(0..100u64),
            ),
            0..8,
        ),
    ) {
        let source = |at: Pos, length: usize| {
            (0..length as u64).map(|i| (at.segment * 31 + at.offset + i) as u8).collect()
        };
        let mut merge = Merge::new(List::default(), present.len() as u64);
        let mut expected = present.clone();
        for (index, (ranges, size)) in operations.iter().enumerate() {
            let before = expected.len() as u64;
            for &(offset, length, hole) in ranges {
                let at = pos(index as u64, offset * 7);
                let source = if hole { Source::Hole } else { Source::At(at) };
                merge.restore(&Piece { offset, length, source }).unwrap();
                let piece = Piece { offset, length, source };
                let size = expected.len().max(piece.end() as usize) as u64;
                apply(&mut expected, &[piece], size, &|at, length| {
                    (0..length as u64).map(|i| (at.segment * 31 + at.offset + i) as u8).collect()
                });
            }
            merge.end_operation(*size);
            expected.resize(size.unwrap_or(before) as usize, None);
        }
        let mut pieces = List::default();
        let outcome = merge.finish(&mut pieces).unwrap();
        check_plan(&pieces.items, &outcome);
        let mut file = present.clone();
        apply(&mut file, &pieces.items, outcome.size, &source);
        prop_assert_eq!(file, expected);
    }

    /// Whatever a payload's map says, it is refused or gives sound pieces.
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
                reader.feed(&MapRecord { offset, length, hole }.encode())
            })
            .collect();
        let sound = records.iter().all(|r| r.1 > 0 && r.0 >= offset && r.0 + r.1 <= offset + length)
            && records.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0);
        prop_assert_eq!(pieces.is_ok(), sound);
        prop_assert_eq!(pieces.is_ok() && reader.finish().is_ok(), sound && extra == 0);
    }
}
