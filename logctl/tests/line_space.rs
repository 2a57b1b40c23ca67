// SPDX-License-Identifier: MIT OR Apache-2.0

//! Lines that hardly fit, or do not.

mod support;

use loggerfs_log::line::{
    encode_command, Actor, LineDraft, LineError, Mode, Op, OpenFileRef, ProcessGroup, Undo,
    MAX_LINE,
};
use loggerfs_log::types::{Cookie, ObjectId, Time};
use support::{crc32c, parse, pos, seal, seed, WHEN};

/// A draft with everything that can be given up, about a name of so many bytes.
fn full(buffer: &mut [u8; MAX_LINE], name: usize) -> LineDraft<'_> {
    let mut draft = LineDraft::new(buffer, WHEN, b"/bin/x", Op::Write, 1, 2);
    draft
        .obj(support::OBJECT)
        .name(&vec![b'n'; name])
        .open(OpenFileRef::First)
        .actor(&Actor {
            pid: 1,
            comm: b"x",
            args: &[b'a'; 300],
            ..Actor::default()
        })
        .fh(1, &[0xcd; 40])
        .undo(Undo::None)
        .crc(1);
    draft
}

#[test]
fn a_full_line_costs_the_arguments_then_the_handle_then_the_line() {
    let seen: Vec<_> = (3500..MAX_LINE)
        .rev()
        .map(|name| {
            let mut buffer = [0; MAX_LINE];
            let draft = full(&mut buffer, name);
            let mut out = [0; MAX_LINE];
            match draft.seal(9, &seed(1), crc32c, &mut out) {
                Ok(len) => {
                    assert!(!draft.is_refused());
                    let line = parse(&out[..len], 1);
                    assert_eq!((line.undo, line.crc), (Some(Undo::None), Some(1)));
                    assert_eq!(
                        (line.comm, line.is_first_of_open()),
                        (Some(&b"x"[..]), true)
                    );
                    1 + u8::from(line.fh.is_some()) + 2 * u8::from(line.args.is_some())
                }
                Err(error) => {
                    assert_eq!(error, LineError::TooLong);
                    assert!(draft.is_refused());
                    0
                }
            }
        })
        .collect();
    assert!(
        seen.contains(&0) && seen.contains(&1) && seen.contains(&2),
        "{seen:?}"
    );
    assert_eq!(seen.last(), Some(&4));
    // A line that fits is never refused with a shorter name.
    let first = seen.iter().position(|kind| *kind > 0).unwrap();
    assert!(seen[first..].iter().all(|kind| *kind > 0));
}

#[test]
fn a_line_is_refused_where_the_output_is_too_small() {
    let mut buffer = [0; MAX_LINE];
    let draft = full(&mut buffer, 6);
    let len = seal(&draft, 9).len();
    for room in [0, 1, len, MAX_LINE - 1] {
        let mut out = vec![0; room];
        let refused = draft.seal(9, &seed(1), crc32c, &mut out);
        assert_eq!(refused, Err(LineError::TooLong));
    }
    let mut out = vec![0; MAX_LINE];
    assert_eq!(draft.seal(9, &seed(1), crc32c, &mut out), Ok(len));
}

#[test]
fn the_longest_inputs_fit() {
    let mut command = [0; MAX_LINE];
    let (len, cut) = encode_command(&[0xff; 4000], &mut command);
    assert!(cut && len == 1023, "whole escapes only");
    let mut buffer = [0; MAX_LINE];
    let huge = pos(u64::MAX, u64::MAX);
    let mut draft = LineDraft::new(&mut buffer, WHEN, &command[..len], Op::Resync, u64::MAX, 0);
    draft
        .obj(ObjectId {
            volume: u64::MAX,
            inode: u64::MAX,
            generation: u32::MAX,
        })
        .prev(huge)
        .was(&Cookie {
            ctime: Time {
                sec: i64::MIN,
                nsec: 999_999_999,
            },
            size: u64::MAX,
            version: Some(u64::MAX),
        })
        .size(u64::MAX)
        .open(OpenFileRef::First)
        .actor(&Actor {
            pid: u32::MAX,
            start: WHEN,
            ppid: u32::MAX,
            sid: u32::MAX,
            group: ProcessGroup {
                pgid: u32::MAX,
                start: Some(WHEN),
            },
            group_comm: &[0xff; 16],
            uid: u32::MAX,
            comm: &[0xff; 16],
            exec: u64::MAX,
            args: &[0xff; 4000],
        })
        .fh(255, &[0xff; 128])
        .owner(u32::MAX)
        .inside(255, &[0xff; 63])
        .map(u64::MAX)
        .crc(u32::MAX)
        .of(u64::MAX)
        .count(u64::MAX)
        .back(huge)
        .now(u64::MAX)
        .mode(Mode::Walk)
        .why("unsupported")
        .command_cut();
    let text = seal(&draft, u64::MAX);
    let line = parse(text.as_bytes(), 1);
    assert_eq!(line.args.map(<[u8]>::len), Some(3 * 256));
    assert_eq!(line.fh.map(<[u8]>::len), Some(258));
    assert_eq!(line.owner, Some(u32::MAX));
    assert_eq!(line.inside.map(<[u8]>::len), Some(128));
    assert_eq!(line.was.map(|was| was.ctime.sec), Some(i64::MIN));
}
