// SPDX-License-Identifier: GPL-2.0

//! Tests of the history's files that need no kernel.

use std::collections::HashMap;

use lfs_shared::shadow::Random;
use loggerfs_log::types::{ObjectId, Pos};

use crate::{
    crc32c,
    history::{
        format::{self, Format, Root, Unusable},
        index::{self, Head, BLOCK, ENTRY, FILTER, PER_BLOCK},
        objects::{LastLine, Objects, SLOTS},
        orphan_record::{Cause, EntryName, OrphanRecord, HANDLE_MAX, NAME_MAX},
        sort::sort,
        state::{self, SegmentRange, State, SLOT},
    },
};

fn object(n: u64) -> ObjectId {
    ObjectId {
        volume: n % 3,
        inode: n,
        generation: u32::try_from(n % 1000).unwrap(),
    }
}

#[test]
fn objects_remember_the_last_line_of_each() {
    let mut objects = Objects::new(vec![LastLine::FREE; SLOTS], vec![0; SLOTS]);
    let mut model = HashMap::new();
    let mut numbers = Random::new(7);
    for offset in 0..20_000 {
        let object = object(numbers.below(4000));
        assert!(objects.set(object, offset));
        model.insert(object, offset);
    }
    assert_eq!(objects.used(), model.len());
    let entries = objects.entries().map(|e| (e.object, e.offset().unwrap()));
    assert_eq!(entries.collect::<HashMap<_, _>>(), model);
    for n in 0..8000 {
        assert_eq!(
            objects.get(object(n)),
            model.get(&object(n)).copied(),
            "object {n}"
        );
    }
    objects.clear();
    assert_eq!(objects.used(), 0);
    assert_eq!(objects.get(object(1)), None);
    assert_eq!(objects.entries().count(), 0);
}

#[test]
fn a_full_table_says_so_and_still_knows_what_it_has() {
    let mut objects = Objects::new(vec![LastLine::FREE; 8], vec![0; 8]);
    assert!((0..8).all(|n| objects.set(object(n), n)));
    assert!(!objects.set(object(8), 8));
    assert!(objects.set(object(3), 99));
    assert_eq!(objects.get(object(3)), Some(99));
    assert_eq!(objects.get(object(9)), None);
}

#[test]
fn blocks_give_back_what_was_put() {
    let mut block = [0; BLOCK];
    let pos = |n: u64| Pos {
        segment: n + 1,
        offset: n * 200,
    };
    let count = usize::try_from(PER_BLOCK).unwrap();
    for i in 0..count {
        index::put_entry(&mut block, i, object(i as u64), pos(i as u64));
    }
    index::seal(&mut block, crc32c);
    assert!(index::is_whole(&block, crc32c));
    let found: Vec<_> = index::entries(&block, count).collect();
    let expected: Vec<_> = (0..PER_BLOCK).map(|n| (object(n), pos(n))).collect();
    assert_eq!(found, expected);
    for bit in [0, 8 * ENTRY, 8 * BLOCK - 1] {
        let mut torn = block;
        torn[bit / 8] ^= 1 << (bit % 8);
        assert!(!index::is_whole(&torn, crc32c), "bit {bit}");
    }
}

#[test]
fn heads_are_of_one_history() {
    let head = Head {
        span: SegmentRange { first: 3, last: 10 },
        entries: 1000,
        filters: 32,
    };
    let mut bytes = [0; BLOCK];
    head.encode(&[5; 16], crc32c, &mut bytes);
    assert_eq!(Head::parse(&bytes, &[5; 16], crc32c), Some(head));
    assert_eq!(Head::parse(&bytes, &[6; 16], crc32c), None);
    assert_eq!(head.blocks(), 8);
    assert_eq!(index::count_in_block(1000, 7), 1000 - 7 * 127);
    bytes[40] ^= 1;
    assert_eq!(Head::parse(&bytes, &[5; 16], crc32c), None);
}

#[test]
fn filters_never_deny_what_is_there_and_seldom_claim_what_is_not() {
    let entries = 5000;
    let filters = index::filters_for(entries);
    let mut filter = vec![0u8; usize::try_from(filters).unwrap() * FILTER];
    let piece_of = |n: u64| {
        let piece = index::filter_piece(object(n), filters).unwrap();
        usize::try_from(piece).unwrap() * FILTER
    };
    for n in 0..entries {
        let at = piece_of(n);
        index::filter_put(&mut filter[at..at + FILTER], object(n));
    }
    index::seal_filter(&mut filter, crc32c);
    let has = |n: u64| {
        let at = piece_of(n);
        let piece = filter[at..at + FILTER].try_into().unwrap();
        index::filter_has(piece, object(n), crc32c)
    };
    assert!((0..entries).all(has));
    // A damaged filter denies nothing.
    let at = piece_of(7);
    for bit in 0..FILTER * 8 {
        let mut piece: [u8; FILTER] = filter[at..at + FILTER].try_into().unwrap();
        piece[bit / 8] ^= 1 << (bit % 8);
        assert!(index::filter_has(&piece, object(7), crc32c), "bit {bit}");
        assert!(
            index::filter_has(&piece, object(1 << 40), crc32c),
            "bit {bit}"
        );
    }
    let wrong = (entries..entries + 10_000).filter(|n| has(*n)).count();
    assert!(wrong < 300, "{wrong} of 10000 claimed");
}

#[test]
fn states_survive_and_torn_ones_do_not() {
    let state = State {
        count: 9,
        clean: true,
        seq: 12_345,
        segment: 7,
        first: 2,
        reread: 6,
        cut: 7,
        recovered: 1_795_000_000_000_000_001,
        log_bytes: 1 << 40,
        undo_bytes: 5,
        orphan_bytes: 1 << 50,
    };
    let spans = [
        SegmentRange { first: 2, last: 5 },
        SegmentRange { first: 6, last: 6 },
    ];
    let mut slot = vec![0; SLOT];
    let len = state::encode(&state, spans.into_iter(), &[1; 16], crc32c, &mut slot).unwrap();
    assert_eq!(state::parse(&slot, &[1; 16], crc32c), Some(state));
    assert_eq!(state::parse(&slot, &[2; 16], crc32c), None);
    let mut found = Vec::new();
    state::tables(&slot, |span| found.push(span)).unwrap();
    assert_eq!(found, spans);
    for cut in 0..len {
        assert_eq!(state::parse(&slot[..cut], &[1; 16], crc32c), None);
    }
    for at in 0..len {
        let mut torn = slot.clone();
        torn[at] ^= 1;
        assert_eq!(state::parse(&torn, &[1; 16], crc32c), None, "byte {at}");
    }
}

#[test]
fn many_tables_fit_into_a_state_and_too_many_are_refused() {
    const TABLES: usize = 80;
    let span = SegmentRange {
        first: u64::MAX - 1,
        last: u64::MAX,
    };
    let mut slot = vec![0; SLOT];
    let spans = std::iter::repeat_n(span, TABLES);
    assert!(state::encode(&State::default(), spans, &[0; 16], crc32c, &mut slot).is_some());
    let spans = std::iter::repeat_n(span, 2 * TABLES);
    assert!(state::encode(&State::default(), spans, &[0; 16], crc32c, &mut slot).is_none());
}

#[test]
fn formats_are_read_back_and_others_refused() {
    let format = Format {
        uuid: [0xab; 16],
        root: Root::from_inode(131, 42),
    };
    let mut text = [0; format::MAX_FORMAT];
    let len = format::encode(&format, 1_763_639_066, &mut text).unwrap();
    let text = &text[..len];
    assert_eq!(format::parse(text), Ok(format));
    // The text after these lines is for people.
    for cut in 0..len - "created=1763639066\n".len() {
        assert!(format::parse(&text[..cut]).is_err(), "cut at {cut}");
    }
    let later = String::from_utf8_lossy(text).replace("version=1", "version=2");
    assert_eq!(format::parse(later.as_bytes()), Err(Unusable::Version(2)));
    assert_eq!(format::parse(b""), Err(Unusable::Malformed));
}

#[test]
fn sorting_sorts() {
    let mut numbers = Random::new(3);
    for len in 0..200u64 {
        let mut items: Vec<u64> = (0..len).map(|_| numbers.below(50)).collect();
        let mut expected = items.clone();
        expected.sort_unstable();
        sort(&mut items, |a, b| a < b);
        assert_eq!(items, expected);
    }
}

/// Entries of orphans read back unchanged, and are never too long for a name.
#[test]
fn orphans() {
    let mut numbers = Random::new(7);
    for round in 0..20_000u64 {
        let handle: Vec<u8> = (0..numbers.below(HANDLE_MAX as u64 + 1))
            .map(|_| numbers.below(256) as u8)
            .collect();
        let name: Vec<u8> = (0..1 + numbers.below(NAME_MAX as u64))
            .map(|_| match numbers.below(8) {
                0 => b',',
                _ => 1 + (numbers.below(255) as u8),
            })
            .collect();
        let causes = [Cause::Removal, Cause::Replacement, Cause::Revert];
        let orphan = OrphanRecord {
            object: ObjectId {
                volume: 0,
                inode: numbers.next() >> numbers.below(64),
                generation: (numbers.next() >> (32 + numbers.below(32))) as u32,
            },
            parent: &handle,
            uid: (numbers.next() >> (32 + numbers.below(32))) as u32,
            seq: numbers.next() >> numbers.below(64),
            cause: causes[(round % 3) as usize],
            is_cut: false,
            name: &name,
        };
        let mut entry = EntryName::empty();
        orphan.write(&mut entry);
        let is_cut = entry.is_cut;
        assert!(entry.bytes().len() <= NAME_MAX);
        assert!(EntryName::beginning(orphan.object).begins(entry.bytes()));
        let mut buf = [0; HANDLE_MAX];
        let found = OrphanRecord::parse(entry.bytes(), &mut buf).expect("an entry");
        assert!(name.starts_with(found.name));
        assert_eq!(is_cut, found.name.len() < name.len());
        let whole = OrphanRecord {
            is_cut: false,
            name: &name,
            ..found
        };
        assert_eq!((found.is_cut, whole), (is_cut, orphan));
    }
    // Of other objects, and malformed ones.
    let seven = EntryName::beginning(object(7));
    assert_eq!(seven.bytes(), b"7.7");
    assert!(seven.begins(b"7.7,,0,0,u,x") && !seven.begins(b"7.7"));
    assert!(!seven.begins(b"7.70") && !seven.begins(b"17.7") && !seven.begins(b"7"));
    for entry in [
        &b""[..],
        b"7.7",
        b"7,,0,0,u,x",
        b"7.7,0,0,0,u,x",
        b"7.7,,g,0,u,x",
        b"7.7,,4294967296,0,u,x",
        b"7.7,,0,0,q,x",
        b"7.7,,0,0,u,",
        b"7.7,,0,0,uu,x",
        b"99999999999999999999.7,,0,0,u,x",
    ] {
        assert!(OrphanRecord::parse(entry, &mut [0; HANDLE_MAX]).is_none());
    }
}
