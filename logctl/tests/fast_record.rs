// SPDX-License-Identifier: MIT OR Apache-2.0

//! The fast path writes, byte for byte, the line that the general one writes for the same keys,
//! also if no cached text of the previous line can be used.

mod support;

use loggerfs_log::line::{
    FastRecord, LineDraft, Op, OpenFileRef, PaddedText, RecordTemplate, Undo, MAX_LINE,
};
use loggerfs_log::types::{Extent, ObjectId, Pos, Time};
use proptest::prelude::*;
use support::{crc32c, seed};

const COMMAND: &[u8] = b"/usr/bin/program";

/// Numbers of all lengths, those around the limits of what is kept among them.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..20_u64,
        Just(9_999_999),
        Just(10_000_000),
        Just(99_999_999),
        Just(100_000_000),
        any::<u32>().prop_map(u64::from),
        any::<u64>(),
    ]
}

fn time() -> impl Strategy<Value = Time> {
    let second = prop_oneof![
        Just(0),
        Just(-1),
        Just(999_999_999),
        Just(1_000_000_000),
        Just(9_999_999_999),
        Just(10_000_000_000),
        1_763_639_000..1_763_639_003_i64,
        any::<i64>(),
    ];
    (second, 0..1_000_000_000_u32).prop_map(|(sec, nsec)| Time { sec, nsec })
}

fn undo() -> impl Strategy<Value = Undo> {
    let extent = (number(), number(), number());
    prop_oneof![
        Just(Undo::None),
        extent.prop_map(|(segment, offset, length)| {
            Undo::At(Extent {
                segment,
                offset,
                length,
            })
        }),
    ]
}

/// The fields that change from one line to the next.
#[derive(Clone, Debug)]
struct Says {
    time: Time,
    op: Op,
    offset: u64,
    length: u64,
    prev: Option<Pos>,
    size: u64,
    undo: Undo,
    map: u64,
    crc: u32,
    seq: u64,
}

fn says() -> impl Strategy<Value = Says> {
    let op = prop_oneof![Just(Op::Write), Just(Op::Truncate), Just(Op::Zero)];
    let prev = (number(), number()).prop_map(|(segment, offset)| Pos { segment, offset });
    let place = (time(), op, number(), number(), proptest::option::of(prev));
    let state = (number(), undo(), 0..3_u64, any::<u32>(), number());
    (place, state).prop_map(
        |((time, op, offset, length, prev), (size, undo, map, crc, seq))| Says {
            time,
            op,
            offset,
            length,
            prev,
            size,
            undo,
            map,
            crc,
            seq,
        },
    )
}

fn drafted(says: &Says, object: ObjectId, first: u64) -> Vec<u8> {
    let mut buffer = [0; MAX_LINE];
    let (time, op) = (says.time, says.op);
    let mut draft = LineDraft::new(&mut buffer, time, COMMAND, op, says.offset, says.length);
    draft.obj(object);
    if let Some(prev) = says.prev {
        draft.prev(prev);
    }
    draft
        .size(says.size)
        .open(OpenFileRef::Of(first))
        .undo(says.undo);
    if let Undo::At(_) = says.undo {
        if says.map != 0 {
            draft.map(says.map);
        }
        draft.crc(says.crc);
    }
    let mut out = vec![0; MAX_LINE];
    let len = draft.seal(says.seq, &seed(1), crc32c, &mut out).unwrap();
    out.truncate(len);
    out
}

fn record(says: &Says, template: &mut RecordTemplate) -> Vec<u8> {
    let mut padded = COMMAND.to_vec();
    padded.resize(PaddedText::length(COMMAND.len()), 0);
    let mut record = FastRecord {
        time: says.time,
        command: PaddedText::new(&padded, COMMAND.len()).unwrap(),
        op: says.op,
        offset: says.offset,
        length: says.length,
        template,
        prev: says.prev,
        size: says.size,
        undo: says.undo,
        map: says.map,
        crc: says.crc,
    };
    let mut out = vec![0; MAX_LINE];
    let start = seed(1).start(crc32c);
    let len = record.seal(says.seq, start, crc32c, &mut out).unwrap();
    out.truncate(len);
    out
}

proptest! {
    #[test]
    fn usual_lines_say_what_drafted_ones_say(
        inode in number(),
        generation in any::<u32>(),
        first in number(),
        lines in proptest::collection::vec(says(), 1..8),
    ) {
        let object = ObjectId { volume: 0, inode, generation };
        let mut template = RecordTemplate::new(object, first).unwrap();
        for says in &lines {
            // The second time everything is kept.
            for _ in 0..2 {
                let (record, drafted) = (record(says, &mut template), drafted(says, object, first));
                prop_assert_eq!(String::from_utf8(record), String::from_utf8(drafted));
            }
        }
    }
}
