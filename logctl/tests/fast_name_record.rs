// SPDX-License-Identifier: MIT OR Apache-2.0

//! The fast path for a line about a name writes, byte for byte, the line that the general one
//! writes for the same keys.

mod support;

use loggerfs_log::line::{
    Actor, FastNameRecord, LineDraft, LineError, NameTemplate, Op, PaddedText, Undo, MAX_LINE,
};
use loggerfs_log::types::{ObjectId, Pos, Time};
use proptest::prelude::*;
use support::{crc32c, seed};

/// Numbers of all lengths.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..20_u64,
        Just(99_999_999),
        Just(100_000_000),
        Just(9_999_999_999_999_999),
        Just(10_000_000_000_000_000),
        any::<u32>().prop_map(u64::from),
        any::<u64>(),
    ]
}

fn object() -> impl Strategy<Value = ObjectId> {
    let volume = prop_oneof![Just(0), number()];
    (volume, number(), any::<u32>()).prop_map(|(volume, inode, generation)| ObjectId {
        volume,
        inode,
        generation,
    })
}

fn time() -> impl Strategy<Value = Time> {
    let second = prop_oneof![1_763_639_000..1_763_639_003_i64, any::<i64>()];
    (second, 0..1_000_000_000_u32).prop_map(|(sec, nsec)| Time { sec, nsec })
}

#[derive(Clone, Debug)]
struct Says {
    times: (Time, Time),
    command: Vec<u8>,
    op: Op,
    directory: ObjectId,
    prev: Option<Pos>,
    numbers: (u64, u64, Option<u64>),
    who: (u32, u32),
    comm: Vec<u8>,
    args: Vec<u8>,
    handle: Option<(u8, Vec<u8>)>,
    name: Vec<u8>,
    node: Option<ObjectId>,
}

fn says() -> impl Strategy<Value = Says> {
    use proptest::{collection::vec, option::of};
    let op = prop_oneof![Just(Op::Create), Just(Op::Unlink), Just(Op::Symlink)];
    let prev = (number(), number()).prop_map(|(segment, offset)| Pos { segment, offset });
    let plain = prop_oneof![9 => b'!'..=b'$', 9 => b'&'..=b'~'];
    let name = prop_oneof![
        vec(prop_oneof![b'a'..=b'z', any::<u8>()], 1..40),
        vec(any::<u8>(), 1..256)
    ];
    let texts = (
        vec(plain, 1..600),
        vec(any::<u8>(), 0..16),
        vec(any::<u8>(), 0..300),
        name,
    );
    let handle = of((any::<u8>(), vec(any::<u8>(), 0..70)));
    (
        ((time(), time()), op, object(), of(prev)),
        ((number(), number(), of(number())), any::<(u32, u32)>()),
        (texts, handle, of(object())),
    )
        .prop_map(|((times, op, directory, prev), (numbers, who), more)| {
            let ((command, comm, args, name), handle, node) = more;
            Says {
                times,
                command,
                op,
                directory,
                prev,
                numbers,
                who,
                comm,
                args,
                handle,
                name,
                node,
            }
        })
}

impl Says {
    fn actor(&self) -> Actor<'_> {
        Actor {
            pid: self.who.0,
            start: self.times.1,
            ppid: self.who.1,
            sid: 7,
            uid: self.who.1,
            comm: &self.comm,
            exec: self.numbers.0,
            args: &self.args,
        }
    }

    fn drafted(&self) -> Result<String, LineError> {
        let (seq, size, kept) = self.numbers;
        let mut buffer = [0; MAX_LINE];
        let mut draft = LineDraft::new(&mut buffer, self.times.0, &self.command, self.op, 0, 0);
        draft.obj(self.directory);
        if let Some(prev) = self.prev {
            draft.prev(prev);
        }
        draft.size(size).actor(&self.actor()).undo(Undo::None);
        if let Some(segment) = kept {
            draft.kept(segment);
        }
        if let Some((kind, bytes)) = &self.handle {
            draft.victim_handle(*kind, bytes);
        }
        draft.name(&self.name);
        if let Some(node) = self.node {
            draft.node(node);
        }
        let mut out = vec![0; MAX_LINE];
        let len = draft.seal(seq, &seed(1), crc32c, &mut out)?;
        out.truncate(len);
        Ok(String::from_utf8(out).unwrap())
    }

    fn record(&self, template: &mut NameTemplate) -> Result<String, LineError> {
        let (seq, size, kept) = self.numbers;
        let mut command = self.command.clone();
        command.resize(PaddedText::length(self.command.len()), 0);
        let mut actor = vec![0xff; MAX_LINE];
        let len = LineDraft::actor_alone(&mut actor, &self.actor()).unwrap();
        actor.truncate(len);
        actor.resize(PaddedText::length(len), 0);
        let record = FastNameRecord {
            time: self.times.0,
            command: PaddedText::new(&command, self.command.len()).unwrap(),
            op: self.op,
            directory: self.directory,
            prev: self.prev,
            size,
            actor: PaddedText::new(&actor, len).unwrap(),
            kept,
            victim_handle: self
                .handle
                .as_ref()
                .map(|(kind, bytes)| (*kind, &bytes[..])),
            name: &self.name,
            node: self.node,
        };
        let mut out = vec![0; MAX_LINE];
        let len = record.seal(template, seq, seed(1).start(crc32c), crc32c, &mut out)?;
        out.truncate(len);
        Ok(String::from_utf8(out).unwrap())
    }

    /// Whether no line of this length is a usual one.
    fn is_long(&self) -> bool {
        let handle = self.handle.as_ref().map_or(0, |(_, bytes)| bytes.len());
        let texts = self.command.len() + 3 * (self.args.len().min(256) + self.name.len());
        handle > 64 || texts > 1000
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    #[test]
    fn usual_lines_about_names_say_what_drafted_ones_say(
        all in prop::collection::vec((says(), any::<(bool, bool)>()), 1..4)
    ) {
        let mut template = NameTemplate::default();
        let (first, _) = &all[0];
        for (says, (same_directory, same_second)) in &all {
            let mut says = says.clone();
            if *same_directory {
                says.directory = first.directory;
            }
            if *same_second {
                says.times.0.sec = first.times.0.sec;
            }
            match says.record(&mut template) {
                Ok(record) => prop_assert_eq!(Ok(record), says.drafted()),
                Err(error) => {
                    prop_assert_eq!(error, LineError::TooLong);
                    prop_assert!(says.is_long(), "refused: {:?}", says);
                }
            }
        }
    }
}

/// Arguments that do not fit are marked as cut, not dropped silently.
#[test]
fn who_did_it_is_told_whole_or_not_at_all() {
    let actor = Actor {
        pid: 1,
        start: Time::default(),
        ppid: 1,
        sid: 1,
        uid: 0,
        comm: b"program",
        exec: 1,
        args: b"program",
    };
    let mut buf = [0; MAX_LINE];
    let len = LineDraft::actor_alone(&mut buf, &actor).unwrap();
    let text = " pid=1@0.0 ppid=1 sid=1 uid=0 comm=program exec=1 args=program";
    assert_eq!(buf[..len], *text.as_bytes());
    let mut head = LineDraft::new(&mut buf, Time::default(), b"", Op::Write, 0, 0);
    let _ = head.obj(ObjectId::default());
    for room in 0..len {
        assert_eq!(LineDraft::actor_alone(&mut buf[..room], &actor), None);
    }
}
