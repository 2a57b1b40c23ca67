// SPDX-License-Identifier: MIT OR Apache-2.0

//! A template writes, byte for byte, the line that a draft with the same keys gives, also if no
//! text of the previous line can be used.

mod support;

use loggerfs_log::line::{
    FastRecord, LineDraft, LineError, Op, OpenFileRef, PaddedText, RecordTemplate, Undo, MAX_LINE,
};
use loggerfs_log::types::{Extent, ObjectId, Pos, Time};
use proptest::prelude::*;
use support::{crc32c, seed};

/// Numbers of all lengths, including those around the limits of the caches.
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
        Just(Undo::Lost),
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
    command: Vec<u8>,
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
    let op = proptest::sample::select(Op::ALL);
    let plain = prop_oneof![9 => b'!'..=b'$', 9 => b'&'..=b'~'];
    let command = proptest::collection::vec(plain, 1..1024);
    let prev = (number(), number()).prop_map(|(segment, offset)| Pos { segment, offset });
    let program = (time(), command);
    let place = (program, op, number(), number(), proptest::option::of(prev));
    let state = (number(), undo(), 0..3_u64, any::<u32>(), number());
    (place, state).prop_map(
        |(((time, command), op, offset, length, prev), (size, undo, map, crc, seq))| Says {
            time,
            command,
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
    let mut draft = LineDraft::new(
        &mut buffer,
        time,
        &says.command,
        op,
        says.offset,
        says.length,
    );
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

fn fast(says: &Says, template: &mut RecordTemplate) -> Result<Vec<u8>, LineError> {
    let mut padded = says.command.clone();
    padded.resize(PaddedText::length(padded.len()), 0);
    let mut record = FastRecord {
        time: says.time,
        command: PaddedText::new(&padded, says.command.len()).unwrap(),
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
    let len = record.seal(says.seq, start, crc32c, &mut out)?;
    out.truncate(len);
    Ok(out)
}

/// A template leaves a line to the draft that the draft may have to shorten.
#[test]
fn a_line_that_is_too_long_for_a_draft_is_refused() {
    let object = ObjectId::default();
    let mut says = Says {
        time: Time::default(),
        command: Vec::new(),
        op: Op::Write,
        offset: 1,
        length: 2,
        prev: None,
        size: 3,
        undo: Undo::None,
        map: 0,
        crc: 0,
        seq: 5,
    };
    let mut written = 0;
    for len in 3800..MAX_LINE + 100 {
        says.command = vec![b'x'; len];
        let mut template = RecordTemplate::new(object, 4).unwrap();
        match fast(&says, &mut template) {
            Ok(line) => {
                assert_eq!(line, drafted(&says, object, 4));
                written = len;
            }
            Err(error) => assert_eq!(error, LineError::TooLong),
        }
    }
    assert!((3900..MAX_LINE - 100).contains(&written), "{written}");
}

proptest! {
    #[test]
    fn a_template_writes_what_a_draft_gives(
        inode in number(),
        generation in any::<u32>(),
        first in number(),
        lines in proptest::collection::vec(says(), 1..8),
    ) {
        let object = ObjectId { volume: 0, inode, generation };
        let mut template = RecordTemplate::new(object, first).unwrap();
        for says in &lines {
            // The second time everything is cached.
            for _ in 0..2 {
                let fast = fast(says, &mut template).unwrap();
                let drafted = drafted(says, object, first);
                prop_assert_eq!(String::from_utf8(fast), String::from_utf8(drafted));
            }
        }
    }
}
