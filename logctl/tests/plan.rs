// SPDX-License-Identifier: MIT OR Apache-2.0

//! The plan's parts, case by case. `plan_model.rs` has the proof that they come to the right
//! whole.

mod support;

use loggerfs_log::line::Line;
use loggerfs_log::plan::{
    inverse, Access, Changes, Content, Disposition, Flags, InverseMerge, Kind, MapReader,
    MapRecord, OnExternal, Piece, PlanError, Record, Records, Restore, Source, Stop, Times, Walk,
    WalkStep,
};
use loggerfs_log::types::Extent;
use support::{pos, List, OBJECT};

#[test]
fn map_records_at_the_edge_do_not_overflow() {
    let huge = Restore {
        offset: u64::MAX - 1,
        length: 1,
        payload: Extent {
            segment: 0,
            offset: u64::MAX - 40,
            length: 40,
        },
        map: Some(1),
        attributes: 0,
        crc: 0,
    };
    let mut reader = MapReader::new(&huge).unwrap();
    let record = MapRecord {
        offset: u64::MAX,
        length: u64::MAX >> 1,
        content: Content::Data,
    };
    assert_eq!(reader.feed(&record.encode()), Err(PlanError::Corrupt));
    assert_eq!(MapRecord::decode(&record.encode()), record);
    let more = Restore {
        map: Some(u64::MAX / 8),
        ..huge
    };
    assert!(matches!(MapReader::new(&more), Err(PlanError::Corrupt)));
    let longer = Restore { length: 2, ..huge };
    assert!(matches!(MapReader::new(&longer), Err(PlanError::Corrupt)));
    // A plain payload longer than its range.
    let plain = Restore {
        offset: 0,
        length: 39,
        map: None,
        ..huge
    };
    assert!(matches!(MapReader::new(&plain), Err(PlanError::Corrupt)));
}

#[test]
fn a_cut_does_not_bring_newer_bytes_back() {
    // A file of 100 bytes: cut to 20, then written at [10, 60). The newer inverse cuts at 20; the
    // older one restores [20, 100), of which it saved only [80, 100).
    let mut merge = InverseMerge::new(List::default(), 60);
    let at = |segment, offset| Source::At(pos(segment, offset));
    let piece = |offset, length, source| Piece {
        offset,
        length,
        source,
    };
    merge.restore(&piece(10, 30, at(2, 0))).unwrap();
    merge.end_operation(Some(20));
    merge.restore(&piece(80, 20, at(1, 0))).unwrap();
    merge.end_operation(Some(100));
    let mut pieces = List::default();
    let outcome = merge.finish(&mut pieces).unwrap();
    assert_eq!(
        pieces.items,
        [
            piece(10, 10, at(2, 0)),
            piece(20, 60, Source::Hole),
            piece(80, 20, at(1, 0)),
        ]
    );
    assert_eq!((outcome.low, outcome.size), (20, 100));
    assert_eq!(outcome.span(&pieces.items), (10, 90));
    let changes: Vec<_> = Changes::new(&pieces.items, &outcome).collect();
    assert_eq!(changes, [(10, 50)]);
}

#[test]
fn many_operations_take_little_time() {
    // The same place, and places all over: neither may grow with the square.
    const COUNT: u64 = 50_000;
    let mut merge = InverseMerge::new(List::default(), COUNT * 16);
    for i in 0..COUNT {
        let offset = if i % 2 == 0 { 0 } else { i * 7919 % COUNT * 16 };
        let source = Source::At(pos(i, 0));
        merge
            .restore(&Piece {
                offset,
                length: 24,
                source,
            })
            .unwrap();
        merge.end_operation(None);
    }
    let mut pieces = List::default();
    merge.finish(&mut pieces).unwrap();
    assert!(pieces.items.len() > 20_000);
}

#[test]
fn a_full_store_is_said() {
    let entries = List {
        items: vec![],
        room: 1,
    };
    let mut merge = InverseMerge::new(entries, 10);
    let piece = Piece {
        offset: 0,
        length: 1,
        source: Source::Hole,
    };
    merge.restore(&piece).unwrap();
    assert_eq!(merge.restore(&piece), Err(PlanError::NoSpace));
    let mut pieces = List {
        items: vec![],
        room: 0,
    };
    assert_eq!(merge.finish(&mut pieces), Err(PlanError::NoSpace));
}

/// A line as text, read without its checksum.
fn line(text: &str) -> Line<'_> {
    Line::parse(text.as_bytes(), None).unwrap()
}

#[test]
fn inverse_refuses_what_it_cannot_know() {
    let cases = [
        (
            "write 0 5 seq=1 size=9 undo=lost why=nospace",
            PlanError::Lost,
        ),
        ("write 0 5 seq=1 size=9", PlanError::Corrupt),
        ("write 0 5 seq=1 undo=none", PlanError::Corrupt),
        ("write 0 5 seq=1 size=9 undo=1:0+5", PlanError::Corrupt),
        (
            "write 0 5 seq=1 size=9 undo=1:0+6 crc=00000000",
            PlanError::Corrupt,
        ),
        (
            "write 0 5 seq=1 size=9 undo=1:0+15 map=1 crc=00000000",
            PlanError::Corrupt,
        ),
        ("collapse 0 5 seq=1 size=9 undo=none", PlanError::Corrupt),
        (
            "collapse 4 2 seq=1 size=9 undo=1:0+6 crc=00000000",
            PlanError::Corrupt,
        ),
        (
            "insert 10 5 seq=1 size=9 undo=1:0+5 crc=00000000",
            PlanError::Corrupt,
        ),
        (
            "insert 0 5 seq=1 undo=1:0+5 crc=00000000",
            PlanError::Corrupt,
        ),
        ("unlink 0 0 seq=1 undo=none", PlanError::Unsupported),
        ("close 0 0 seq=1 size=9", PlanError::Unsupported),
    ];
    for (text, error) in cases {
        let text = format!("1.000000000 - {text} sum=00000000\n");
        assert_eq!(inverse(&line(&text)), Err(error), "{text}");
    }
}

#[test]
fn a_range_behind_the_end_moves_nothing() {
    for text in ["insert 10 5 seq=1 size=9", "collapse 9 5 seq=1 size=9"] {
        let text = format!("1.000000000 - {text} undo=none sum=00000000\n");
        let inverse = inverse(&line(&text)).unwrap();
        assert_eq!((inverse.restore, inverse.size_after), (None, Some(9)));
    }
}

#[test]
fn walk_stops_where_it_must() {
    let step = |walk: &mut Walk, text: &str| {
        let text = format!("1.000000000 - {text} sum=00000000\n");
        walk.step(&mut line(&text), &mut List::default(), Disposition::Keep)
    };
    let start = || Walk::new(OBJECT, Some(pos(5, 50)), OnExternal::Stop);

    let mut walk = start();
    assert_eq!(
        step(&mut walk, "external 0 0 seq=9 obj=131.1 prev=1:1"),
        WalkStep::Stop(Stop::External)
    );
    assert_eq!(walk.next(), None);

    let mut walk = Walk::new(OBJECT, Some(pos(5, 50)), OnExternal::Pass);
    assert_eq!(
        step(&mut walk, "external 0 0 seq=9 obj=131.1 prev=1:1"),
        WalkStep::Skip
    );
    assert_eq!(walk.next(), Some(pos(1, 1)));
    // Another object's line.
    assert_eq!(
        step(&mut walk, "write 0 1 seq=8 obj=131.2 prev=1:0"),
        WalkStep::Stop(Stop::Corrupt)
    );
    assert_eq!(walk.next(), None);

    // Neither numbers nor places may go up, nor stay.
    for text in ["write 0 1 seq=9 obj=131.1", "write 0 1 seq=10 obj=131.1"] {
        let mut walk = start();
        step(&mut walk, "write 0 1 seq=9 obj=131.1 prev=5:49");
        assert_eq!(step(&mut walk, text), WalkStep::Stop(Stop::Corrupt));
    }
    let mut walk = start();
    step(&mut walk, "write 0 1 seq=9 obj=131.1 prev=5:50");
    assert_eq!(
        step(&mut walk, "write 0 1 seq=8 obj=131.1"),
        WalkStep::Stop(Stop::Corrupt)
    );

    // A correction without or with a later number.
    assert_eq!(
        step(&mut start(), "cancel 0 0 seq=9 obj=131.1"),
        WalkStep::Stop(Stop::Corrupt)
    );
    assert_eq!(
        step(&mut start(), "cancel 0 0 seq=9 obj=131.1 of=9"),
        WalkStep::Stop(Stop::Corrupt)
    );

    // A revert of everything.
    let mut walk = start();
    assert_eq!(
        step(&mut walk, "revert 0 0 seq=9 obj=131.1 prev=5:1"),
        WalkStep::JumpTo(None)
    );
    assert_eq!(walk.next(), None);

    // More corrections than can wait.
    let mut walk = start();
    let steps: Vec<WalkStep> = (0..9)
        .map(|i| {
            let text = format!(
                "cancel 0 0 seq={} obj=131.1 of={i} prev=5:{}",
                90 - i,
                40 - i
            );
            step(&mut walk, &text)
        })
        .collect();
    assert!(steps[..8].iter().all(|step| *step == WalkStep::Skip));
    assert_eq!(steps[8], WalkStep::Stop(Stop::Corrupt));
}

/// Records one after the other, as a payload has them.
fn tail(records: &[Record<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for record in records {
        bytes.extend(record.head().unwrap());
        bytes.extend(record.name);
        bytes.extend(record.value.unwrap_or_default());
    }
    bytes
}

fn xattr<'a>(name: &'a [u8], value: Option<&'a [u8]>) -> Record<'a> {
    Record {
        kind: Kind::Xattr,
        name,
        value,
    }
}

#[test]
fn of_two_records_for_one_attribute_the_last_holds() {
    let old = Access {
        mode: 0o6755,
        uid: 7,
        gid: u32::MAX,
    };
    let new = Access { mode: 0, ..old };
    let (old, new) = (old.encode(), new.encode());
    let access = |value| Record {
        kind: Kind::Access,
        name: b"",
        value: Some(value),
    };
    let records = [
        access(&new),
        xattr(b"user.a", Some(b"newer")),
        xattr(b"user.b", None),
        xattr(b"user.a", None),
        access(&old),
        xattr(b"user.b", Some(b"")),
    ];
    let bytes = tail(&records);
    let read = Records::new(&bytes).unwrap();
    let last: Vec<_> = read.last_ones().collect();
    assert_eq!(last, records[3..]);
    assert_eq!(read.last(Kind::Access), Some(access(&old)));
    assert_eq!(read.last(Kind::Flags), None);
    assert!(Records::new(&[]).unwrap().is_empty());
}

#[test]
fn times_before_the_epoch_and_far_away_come_back() {
    for seconds in [0, 1, -1, i64::MIN, i64::MAX, 1 << 33, -(1 << 33)] {
        let times = Times {
            modified: (seconds, 999_999_999),
            accessed: (seconds.wrapping_mul(3), 0),
        };
        assert_eq!(Times::decode(&times.encode()), Some(times));
    }
    let mut late = Times::default().encode();
    late[8..12].copy_from_slice(&1_000_000_000u32.to_le_bytes());
    assert_eq!(Times::decode(&late), None);
    let flags = Flags {
        flags: 1,
        xflags: 2,
        extent_size: 3,
        project: 4,
        cow_extent_size: 5,
    };
    assert_eq!(Flags::decode(&flags.encode()), Some(flags));
}

#[test]
fn damaged_records_are_refused_and_never_read_past_their_end() {
    let access = Access::default().encode();
    let bytes = tail(&[
        xattr(b"user.a", Some(b"value")),
        Record {
            kind: Kind::Access,
            name: b"",
            value: Some(&access),
        },
    ]);
    assert!(Records::new(&bytes).is_ok());
    // Cut anywhere but between the two: corrupt.
    for end in 1..bytes.len() {
        let whole = end == 8 + 6 + 5;
        assert_eq!(Records::new(&bytes[..end]).is_ok(), whole, "cut at {end}");
    }
    for bad in [
        Record {
            kind: Kind::Access,
            name: b"",
            value: None,
        },
        Record {
            kind: Kind::Access,
            name: b"",
            value: Some(b"short"),
        },
        Record {
            kind: Kind::Access,
            name: b"named",
            value: Some(&access),
        },
        xattr(b"", Some(b"x")),
        xattr(b"user.\0", Some(b"x")),
    ] {
        assert!(Records::new(&tail(&[bad])).is_err(), "{bad:?}");
    }
    let mut unknown = bytes.clone();
    unknown[0] = 99;
    assert!(Records::new(&unknown).is_err());
    let mut absent_with_value = bytes;
    absent_with_value[1] = 0;
    assert!(Records::new(&absent_with_value).is_err());
}

#[test]
fn a_change_of_attributes_has_nothing_else_to_restore() {
    let parse = |text: &str| Line::parse(text.as_bytes(), None).map(|line| inverse(&line));
    let line = |op: &str, keys: &str| {
        format!("1.000000000 - {op} 0 0 seq=1 obj=1.1 size=5 {keys} sum=00000000\n")
    };
    let good = parse(&line("setattr", "undo=1:100+30 attrs=30 crc=00000001"))
        .unwrap()
        .unwrap();
    let restore = good.restore.unwrap();
    assert_eq!(
        (restore.attributes, restore.content().unwrap().length),
        (30, 0)
    );
    assert_eq!(good.size_after, None);
    for bad in [
        "undo=1:100+30 attrs=29 crc=00000001",
        "undo=1:100+30 attrs=31 crc=00000001",
        "undo=1:100+30 crc=00000001",
        "undo=1:100+30 attrs=30",
        "undo=1:100+30 map=0 attrs=30 crc=00000001",
        "undo=none",
    ] {
        for op in ["setattr", "setxattr", "setacl", "setflags"] {
            let plan = parse(&line(op, bad)).unwrap();
            assert_eq!(plan, Err(PlanError::Corrupt), "{op} {bad}");
        }
    }
    let lost = parse(&line("setacl", "undo=lost why=error")).unwrap();
    assert_eq!(lost, Err(PlanError::Lost));
}
