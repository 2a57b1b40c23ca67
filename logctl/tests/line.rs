// SPDX-License-Identifier: MIT OR Apache-2.0

//! The grammar of the log: written lines read back unchanged, and all other text is rejected.

mod support;

use loggerfs_log::line::{
    decode_hex, decode_percent, encode_command, encode_percent, fold, refold, split_line, Actor,
    Amend, Fold, Line, LineDraft, LineError, Mode, Op, OpenFileRef, Process, ProcessGroup, Undo,
    MAX_ANCESTORS, MAX_COMMAND, MAX_LINE,
};
use loggerfs_log::plan::inverse;
use loggerfs_log::types::{Cookie, Extent, ObjectId, Time};
use proptest::prelude::*;
use support::{crc32c, parse, pos, seal, seed, WHEN};

/// The example of the design, with the checksum of the tests' history.
const GOLDEN: &str = "1763639066.123456789 /usr/bin/dd write 20 20 seq=7 obj=131.1 prev=1:812 \
    size=20 open=5 pid=812@1763639000.1 ppid=800 pgid=812 sid=800 uid=1000 comm=dd exec=1 undo=none \
    sum=SUM\n";

/// A line with a right checksum around any body.
fn sealed(body: &str) -> String {
    format!("{body} sum={:08x}\n", seed(1).sum(crc32c, body.as_bytes()))
}

/// The result of reading a line with a right checksum.
fn read(body: &str) -> Result<(), LineError> {
    Line::parse(sealed(body).as_bytes(), Some((&seed(1), crc32c))).map(|_| ())
}

#[test]
fn checksum_is_the_usual_crc32c() {
    assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
}

#[test]
fn golden_line() {
    let mut buffer = [0; MAX_LINE];
    let mut draft = LineDraft::new(&mut buffer, WHEN, b"/usr/bin/dd", Op::Write, 20, 20);
    draft
        .obj(support::OBJECT)
        .prev(pos(1, 812))
        .size(20)
        .open(OpenFileRef::Of(5))
        .actor(&Actor {
            pid: 812,
            start: Time {
                sec: 1_763_639_000,
                nsec: 100_000_000,
            },
            ppid: 800,
            sid: 800,
            group: ProcessGroup {
                pgid: 812,
                start: None,
            },
            group_comm: b"",
            uid: 1000,
            comm: b"dd",
            exec: 1,
            args: b"",
        })
        .undo(Undo::None);
    let text = seal(&draft, 7);
    let body = GOLDEN.split(" sum=").next().unwrap();
    assert_eq!(text, sealed(body));
    assert!(text.ends_with("undo=none sum=82d7a568\n"), "{text}");
}

#[test]
fn the_designs_example_reads() {
    // Its checksum belongs to an unknown history.
    let text = "1763639066.123456789 /usr/bin/dd write 20 20 seq=7 obj=131.1 prev=1:812 size=20 \
        open=5 pid=812@1763639000.1 ppid=800 sid=800 uid=1000 comm=dd undo=none sum=9ae0daaf\n";
    let line = Line::parse(text.as_bytes(), None).unwrap();
    assert_eq!(line.time, WHEN);
    assert_eq!(
        (line.op, line.offset, line.length, line.seq),
        (Op::Write, 20, 20, 7)
    );
    assert_eq!(line.obj, Some(support::OBJECT));
    assert_eq!(line.prev, Some(pos(1, 812)));
    let start = Time {
        sec: 1_763_639_000,
        nsec: 100_000_000,
    };
    assert_eq!(line.pid, Some(Process { pid: 812, start }));
    assert_eq!((line.uid, line.undo), (Some(1000), Some(Undo::None)));
    assert!(!line.is_first_of_open());
    let verified = Line::parse(text.as_bytes(), Some((&seed(1), crc32c)));
    assert_eq!(verified, Err(LineError::Sum));
}

#[test]
fn every_key_round_trips() {
    let mut buffer = [0; MAX_LINE];
    let mut draft = LineDraft::new(&mut buffer, WHEN, b"/bin/a%20b", Op::Revert, 0, u64::MAX);
    let object = ObjectId {
        volume: 257,
        inode: u64::MAX,
        generation: u32::MAX,
    };
    let cookie = Cookie {
        ctime: Time { sec: -2, nsec: 1 },
        size: 40,
        version: Some(u64::MAX),
    };
    let start = Time { sec: 0, nsec: 0 };
    let ancestors = [
        Process { pid: 2, start },
        Process {
            pid: 9,
            start: WHEN,
        },
    ];
    let extent = Extent {
        segment: 3,
        offset: 4096,
        length: 65_536,
    };
    draft
        .obj(object)
        .prev(pos(1, 2))
        .was(&cookie)
        .size(40)
        .open(OpenFileRef::First)
        .actor(&Actor {
            pid: 1,
            start,
            ppid: 2,
            sid: 3,
            group: ProcessGroup {
                pgid: 5,
                start: Some(start),
            },
            group_comm: b"c d",
            uid: u32::MAX,
            comm: b"a b\xff",
            exec: 4,
            args: b"x\0--y=z%",
        })
        .fh(129, b"\x01\xab")
        .undo(Undo::At(extent))
        .map(2)
        .crc(0x00c0_ffee)
        .of(6)
        .count(7)
        .back(pos(8, 9))
        .now(10)
        .mode(Mode::Pick)
        .why("mmap")
        .name(b"a b")
        .parent(ObjectId {
            volume: 0,
            inode: 2,
            generation: 0,
        })
        .to(b"c%")
        .node(object)
        .over(object)
        .unnamed()
        .owner(7)
        .inside(1, b"\x06\x07")
        .kept(12)
        .victim_handle(2, b"\x03")
        .parent_handle(4, b"\x05")
        .command_cut()
        .ancestors(&ancestors);
    let text = seal(&draft, 11);
    let expected = "1763639066.123456789 /bin/a%20b revert 0 18446744073709551615 seq=11 \
        obj=257.18446744073709551615.4294967295 prev=1:2 was=-2.000000001:40:18446744073709551615 \
        size=40 open=11 pid=1@0.0 ppid=2 pgid=5@0.0 pgcomm=c%20d sid=3 uid=4294967295 fh=8101ab comm=a%20b%FF exec=4 \
        args=x%00--y=z%25 undo=3:4096+65536 map=2 crc=00c0ffee of=6 count=7 back=8:9 now=10 \
        mode=pick why=mmap name=a%20b parent=2.0 to=c%25 \
        node=257.18446744073709551615.4294967295 \
        over=257.18446744073709551615.4294967295 unnamed=1 owner=7 in=010607 \
        kept=12 vfh=0203 pfh=0405 cmdcut=1 anc=2@0.0,9@1763639066.123456789";
    assert_eq!(text, sealed(expected));
    let line = parse(text.as_bytes(), 1);
    let group = line.pgid.unwrap();
    assert_eq!((group.pgid, group.start), (5, Some(start)));
    let leader = group.leader(line.pid);
    assert_eq!(leader, Some(Process { pid: 5, start }));
    assert!(line.ancestors.unwrap().processes().eq(ancestors));
    assert_eq!(line.obj, Some(object));
    assert_eq!(line.was, Some(cookie));
    assert_eq!(line.undo, Some(Undo::At(extent)));
    assert_eq!((line.map, line.crc), (Some(2), Some(0x00c0_ffee)));
    assert_eq!(
        (line.of, line.count, line.now),
        (Some(6), Some(7), Some(10))
    );
    assert_eq!((line.back, line.mode), (Some(pos(8, 9)), Some(Mode::Pick)));
    assert_eq!(line.fh, Some(&b"8101ab"[..]));
    assert_eq!(
        (line.name, line.to),
        (Some(&b"a%20b"[..]), Some(&b"c%25"[..]))
    );
    assert_eq!(line.parent.map(|parent| parent.inode), Some(2));
    assert_eq!((line.node, line.over), (Some(object), Some(object)));
    assert_eq!((line.kept, line.vfh), (Some(12), Some(&b"0203"[..])));
    assert_eq!(line.pfh, Some(&b"0405"[..]));
    assert_eq!((line.owner, line.inside), (Some(7), Some(&b"010607"[..])));
    assert!(line.unnamed && line.command_cut && line.is_first_of_open());
    let mut handle = [0; 3];
    assert_eq!(decode_hex(line.fh.unwrap(), &mut handle), Some(3));
    assert_eq!(handle, [129, 1, 0xab]);
    let mut args = [0; 32];
    let len = decode_percent(line.args.unwrap(), &mut args).unwrap();
    assert_eq!(&args[..len], b"x\0--y=z%");
}

/// A line with these keys at its end.
fn with_keys(keys: &str) -> String {
    sealed(&format!(
        "1763639066.123456789 /bin/a write 0 1 seq=1 {keys}"
    ))
}

#[test]
fn process_groups_are_read_with_and_without_a_leader() {
    let group = |keys: &str| {
        let text = with_keys(keys);
        Line::parse(text.as_bytes(), None).map(|line| line.pgid.map(|group| group.leader(line.pid)))
    };
    let process = Process {
        pid: 5,
        start: Time { sec: 7, nsec: 0 },
    };
    assert_eq!(group("pid=5@7.0 pgid=5"), Ok(Some(Some(process))));
    assert_eq!(group("pid=6@8.0 pgid=5@7.0"), Ok(Some(Some(process))));
    assert_eq!(group("pid=6@8.0 pgid=5"), Ok(Some(None)));
    assert_eq!(group("pid=6@8.0"), Ok(None));
    for keys in [
        "pgid=",
        "pgid=x",
        "pgid=5@",
        "pgid=@7.0",
        "pgid=5@7",
        "pgid=1 pgid=1",
    ] {
        assert!(group(keys).is_err(), "{keys}");
    }
}

#[test]
fn ancestors_are_at_most_sixteen() {
    let ancestors = |count: usize| {
        let text = with_keys(&format!("anc={}", vec!["3@1.5"; count].join(",")));
        let line = Line::parse(text.as_bytes(), None).map(|line| line.ancestors);
        line.map(|found| found.map_or(0, |found| found.processes().count()))
    };
    assert_eq!(ancestors(1), Ok(1));
    assert_eq!(ancestors(MAX_ANCESTORS), Ok(MAX_ANCESTORS));
    assert_eq!(ancestors(MAX_ANCESTORS + 1), Err(LineError::Value));
    assert_eq!(ancestors(0), Err(LineError::Value));
    for keys in ["anc=3", "anc=3@1.5,", "anc=,3@1.5", "anc=3@1.5,x@1.5"] {
        let text = with_keys(keys);
        assert!(Line::parse(text.as_bytes(), None).is_err(), "{keys}");
    }
}

#[test]
fn ancestors_give_way_in_a_long_line() {
    let name = [b'a'; 3900];
    let ancestors = [Process::default(); MAX_ANCESTORS];
    let mut buffer = [0; MAX_LINE];
    let mut draft = LineDraft::new(&mut buffer, WHEN, b"/bin/a", Op::Create, 0, 0);
    draft.name(&name).ancestors(&ancestors);
    assert!(!draft.is_refused());
    let text = seal(&draft, 1);
    let line = Line::parse(text.as_bytes(), None).unwrap();
    assert_eq!((line.name, line.ancestors), (Some(&name[..]), None));
}

#[test]
fn every_operation_has_a_name_of_its_own() {
    for op in Op::ALL {
        assert_eq!(Op::parse(op.as_str().as_bytes()), Some(*op));
        assert_eq!(
            read(&format!("1.000000000 - {} 0 0 seq=1", op.as_str())),
            Ok(())
        );
    }
    assert_eq!(Op::parse(b"Write"), None);
    assert_eq!(Op::ALL.len(), 33);
}

#[test]
fn malformed_lines_are_refused() {
    use LineError::{Head, Key, NoNumber, Repeated, UnknownOp, Value};
    let head = "1.000000000 - write 0 1";
    let keys = [
        ("", NoNumber),
        (" size=1", NoNumber),
        (" seq=", Value),
        (" seq=1 ", Key),
        ("  seq=1", Key),
        (" seq=1 word", Key),
        (" seq=1 =1", Key),
        (" seq=1 sum=00000000", Key),
        (" seq=1 seq=1", Repeated),
        (" seq=1 size=1 uid=2 size=1", Repeated),
        (" seq=1 new=1 newer=2 new=1", Repeated),
        (" seq=18446744073709551616", Value),
        (" seq=99999999999999999999999", Value),
        (" seq=-1", Value),
        (" seq=+1", Value),
        (" seq=01", Value),
        (" seq=1a", Value),
        (" seq=1 uid=4294967296", Value),
        (" seq=1 obj=1", Value),
        (" seq=1 obj=1.2.3.4", Value),
        (" seq=1 obj=1.4294967296", Value),
        (" seq=1 prev=1", Value),
        (" seq=1 prev=1:2:3", Value),
        (" seq=1 was=1.5:2", Value),
        (" seq=1 was=1:2:3", Value),
        (" seq=1 was=1.:2:3", Value),
        (" seq=1 was=1.1234567890:2:3", Value),
        (" seq=1 was=9223372036854775808.0:2:3", Value),
        (" seq=1 was=-9223372036854775809.0:2:3", Value),
        (" seq=1 pid=1", Value),
        (" seq=1 fh=", Value),
        (" seq=1 fh=012", Value),
        (" seq=1 fh=AB", Value),
        (" seq=1 undo=maybe", Value),
        (" seq=1 undo=1:2", Value),
        (" seq=1 undo=1:18446744073709551615+1", Value),
        (" seq=1 crc=1", Value),
        (" seq=1 crc=0000000G", Value),
        (" seq=1 mode=run", Value),
        (" seq=1 cmdcut=0", Value),
        (" seq=1 node=1", Value),
        (" seq=1 parent=x.1", Value),
        (" seq=1 to=a to=b", Repeated),
        (" seq=1 comm=\u{7f}", Value),
        (" seq=1 comm=a\tb", Value),
    ];
    for (tail, error) in keys {
        assert_eq!(read(&format!("{head}{tail}")), Err(error), "{tail}");
    }
    let heads = [
        ("", Head),
        ("1.000000000 - write 0", Head),
        ("1.00000000 - write 0 1", Head),
        ("1.0000000000 - write 0 1", Head),
        ("1 - write 0 1", Head),
        ("x.000000000 - write 0 1", Head),
        ("1.000000000  write 0 1", Head),
        (" 1.000000000 - write 0 1", Head),
        ("1.000000000 - write -1 1", Head),
        ("1.000000000 - write 0 18446744073709551616", Head),
        ("1.000000000 - write 1 18446744073709551615", Head),
        ("1.000000000 - scribble 0 1", UnknownOp),
    ];
    for (head, error) in heads {
        assert_eq!(read(&format!("{head} seq=1")), Err(error), "{head}");
    }
    let long = "c".repeat(MAX_COMMAND + 1);
    assert_eq!(
        read(&format!("1.000000000 {long} write 0 1 seq=1")),
        Err(Head)
    );
    assert_eq!(
        read(&format!("1.000000000 {} write 0 1 seq=1", &long[1..])),
        Ok(())
    );
    // Unknown keys, any order.
    assert_eq!(read(&format!("{head} future=a=b size=1 seq=1 x=")), Ok(()));
}

#[test]
fn only_printable_bytes_are_read() {
    // At every position of a register's eight bytes, and after the last whole one.
    for byte in 0..=u8::MAX {
        for place in 0..20 {
            let mut body = *b"1.000000000 - write 0 1 seq=1 comm=xxxxxxxxxxxxxxxxxxxx";
            body[35 + place] = byte;
            let sum = seed(1).sum(crc32c, &body);
            let text = [&body[..], format!(" sum={sum:08x}\n").as_bytes()].concat();
            let read = Line::parse(&text, None).is_ok();
            // Two words or a word without `=` are refused, too.
            assert_eq!(read, (0x21..=0x7e).contains(&byte), "{byte} at {place}");
        }
    }
}

#[test]
fn a_line_ends_at_four_kibibytes() {
    let head = "1.000000000 - write 0 1 seq=1 x=";
    let fill = |total: usize| format!("{head}{}", "y".repeat(total - head.len() - 14));
    assert_eq!(read(&fill(MAX_LINE)), Ok(()));
    assert_eq!(read(&fill(MAX_LINE + 1)), Err(LineError::TooLong));
}

#[test]
fn torn_external_and_stale_lines_are_refused() {
    let body = GOLDEN.split(" sum=").next().unwrap();
    let text = sealed(body);
    let bytes = text.as_bytes();
    let verify = |bytes: &[u8]| Line::parse(bytes, Some((&seed(1), crc32c))).map(|_| ());
    assert_eq!(verify(bytes), Ok(()));
    for len in 0..bytes.len() {
        assert!(verify(&bytes[..len]).is_err(), "cut at {len}");
    }
    for at in 0..bytes.len() * 8 {
        let mut flipped = bytes.to_vec();
        flipped[at / 8] ^= 1 << (at % 8);
        assert!(verify(&flipped).is_err(), "bit {at}");
    }
    assert_eq!(verify(format!("{text}\n").as_bytes()), Err(LineError::Torn));
    assert_eq!(
        verify(text.replace('\n', " ").as_bytes()),
        Err(LineError::Torn)
    );
    // Another segment, another history.
    let stale = Line::parse(bytes, Some((&seed(2), crc32c)));
    assert_eq!(stale, Err(LineError::Sum));
    let mut other = seed(1);
    other.uuid[15] ^= 1;
    assert_eq!(
        Line::parse(bytes, Some((&other, crc32c))),
        Err(LineError::Sum)
    );
}

#[test]
fn lines_are_split_at_newlines() {
    assert_eq!(split_line(b"a\nb"), Some((&b"a\n"[..], &b"b"[..])));
    assert_eq!(split_line(b"a"), None);
    assert_eq!(split_line(b""), None);
    // Every length and place, among bytes that a comparison of whole words could confuse.
    for other in [b'\n' - 1, b'\n' + 1, b'\n' ^ 0x80, 0, 0xff] {
        for length in 0..40 {
            let mut bytes = vec![other; length];
            assert_eq!(split_line(&bytes), None);
            for at in (0..length).rev() {
                bytes[at] = b'\n';
                assert_eq!(split_line(&bytes), Some(bytes.split_at(at + 1)));
            }
        }
    }
}

#[test]
fn commands_are_encoded() {
    let encode = |path: &[u8]| {
        let mut out = [0; MAX_LINE];
        let (len, cut) = encode_command(path, &mut out);
        (String::from_utf8(out[..len].to_vec()).unwrap(), cut)
    };
    assert_eq!(encode(b""), ("-".into(), false));
    assert_eq!(encode(b"-"), ("%2D".into(), false));
    assert_eq!(
        encode(b"/a b\n%=\x7f\xc3\xa4"),
        ("/a%20b%0A%25=%7F%C3%A4".into(), false)
    );
    assert_eq!(encode(&[b'x'; 1024]), ("x".repeat(1024), false));
    assert_eq!(encode(&[b'x'; 1025]), ("x".repeat(1024), true));
    let (text, cut) = encode(&[&[b'x'; 1022][..], b"\xff\xff"].concat());
    assert_eq!((text, cut), ("x".repeat(1022), true));
}

#[test]
fn broken_escapes_are_refused() {
    let mut out = [0; 8];
    for text in ["%", "%2", "%zz", "%2d", " ", "a\n", "\u{e4}", "123456789"] {
        assert_eq!(decode_percent(text.as_bytes(), &mut out), None, "{text}");
    }
    assert_eq!(decode_hex(b"0", &mut out), None);
    assert_eq!(decode_hex(b"0G", &mut out), None);
    assert_eq!(decode_hex(&[b'0'; 18], &mut out), None);
}

#[test]
fn later_lines_fold_into_the_one_they_name() {
    let line = |text: &str| format!("1.000000000 - {text} sum=00000000\n");
    let named = |text: &str| {
        let text = line(text);
        let later = Line::parse(text.as_bytes(), None).unwrap();
        fold(7, &later)
    };
    let amend = Amend {
        offset: 5,
        length: 3,
        size: Some(40),
    };
    assert_eq!(named("amend 5 3 seq=9 of=7 size=40"), Fold::Amend(amend));
    assert_eq!(named("cancel 0 0 seq=9 of=7"), Fold::Cancel);
    assert_eq!(named("commit 0 0 seq=9 of=7"), Fold::Commit);
    assert_eq!(named("cancel 0 0 seq=9 of=8"), Fold::Unrelated);
    assert_eq!(named("cancel 0 0 seq=9"), Fold::Unrelated);
    assert_eq!(named("revert 0 0 seq=9 of=7"), Fold::Unrelated);

    // The payload still belongs to the range that was written down first.
    let text = line("write 4 8 seq=7 size=50 undo=1:0+8 crc=00000001");
    let mut folded = Line::parse(text.as_bytes(), None).unwrap();
    folded.amend(&amend);
    assert_eq!(
        (folded.offset, folded.length, folded.size),
        (5, 3, Some(40))
    );
    let restore = inverse(&folded).unwrap().restore.unwrap();
    assert_eq!((restore.offset, restore.length), (4, 8));
    assert_eq!(inverse(&folded).unwrap().size_after, Some(40));

    let mut out = [0; MAX_LINE];
    let len = refold(text.as_bytes(), &amend, &seed(1), crc32c, &mut out).unwrap();
    let expected = sealed("1.000000000 - write 5 3 seq=7 size=40 undo=1:0+8 crc=00000001");
    assert_eq!(out[..len], *expected.as_bytes());
    let keep = Amend {
        size: None,
        ..amend
    };
    let len = refold(text.as_bytes(), &keep, &seed(1), crc32c, &mut out).unwrap();
    assert_eq!(parse(&out[..len], 1).size, Some(50));
    assert_eq!(
        refold(text.as_bytes(), &amend, &seed(1), crc32c, &mut out[..60]),
        Err(LineError::TooLong)
    );
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Any numbers read back as they were written.
    #[test]
    fn numbers_round_trip(
        sec in any::<i64>(),
        nsec in 0..1_000_000_000u32,
        bits in 0..64u32,
        number in any::<u64>(),
        small in any::<u32>(),
    ) {
        let number = number >> bits;
        let time = Time { sec, nsec };
        let mut buffer = [0; MAX_LINE];
        let mut draft = LineDraft::new(&mut buffer, time, b"", Op::Write, number, 0);
        let cookie = Cookie { ctime: time, size: number, version: Some(number) };
        let extent = Extent { segment: number, offset: number / 2, length: number / 2 };
        draft.was(&cookie).size(number).undo(Undo::At(extent)).crc(small).prev(pos(number, 0));
        let text = seal(&draft, number);
        let line = parse(text.as_bytes(), 1);
        prop_assert_eq!((line.time, line.offset, line.seq), (time, number, number));
        prop_assert_eq!((line.was, line.crc), (Some(cookie), Some(small)));
        prop_assert_eq!((line.undo, line.size), (Some(Undo::At(extent)), Some(number)));
    }

    /// Any bytes read back as they were encoded, and nothing else encodes to the same.
    #[test]
    fn percent_round_trips(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let (mut encoded, mut decoded) = ([0; 600], [0; 200]);
        let len = encode_percent(&bytes, &mut encoded).unwrap();
        prop_assert!(encoded[..len].iter().all(|b| (0x21..=0x7e).contains(b)));
        let plain = decode_percent(&encoded[..len], &mut decoded).unwrap();
        prop_assert_eq!(&decoded[..plain], &bytes[..]);
        if len > 0 {
            prop_assert_eq!(encode_percent(&bytes, &mut encoded[..len - 1]), None);
        }
    }

    /// Parsing returns for any input.
    #[test]
    fn reading_never_panics(
        body in "[ -~]{0,80}",
        keys in "( (seq|obj|was|pid|undo|fh|prev|x)=[0-9.:+@-]{0,24}){0,6}",
        noise in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = Line::parse(&noise, None);
        let _ = Line::parse(sealed(&body).as_bytes(), None);
        let _ = Line::parse(sealed(&format!("1.000000000 - write 0 1{keys}")).as_bytes(), None);
        let amend = Amend { offset: 1, length: 2, size: Some(3) };
        let mut out = [0; 256];
        let _ = refold(&noise, &amend, &seed(1), crc32c, &mut out);
    }
}
