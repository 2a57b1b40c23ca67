// SPDX-License-Identifier: MIT OR Apache-2.0

//! A template of a line about a name writes, byte for byte, the line that a draft with the same
//! keys gives.

mod support;

use loggerfs_log::line::{
    actor_text, Actor, FastNameRecord, LineDraft, LineError, NameTemplate, Op, PaddedText,
    ProcessGroup, Undo, MAX_LINE,
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
        prop_oneof![9 => vec(plain.clone(), 1..1024), 1 => vec(plain, 1024..4000)],
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
            group: ProcessGroup {
                pgid: self.who.1,
                start: Some(self.times.1),
            },
            group_comm: &self.comm,
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

    fn fast(&self, template: &mut NameTemplate) -> Result<String, LineError> {
        let (seq, size, kept) = self.numbers;
        let mut command = self.command.clone();
        command.resize(PaddedText::length(self.command.len()), 0);
        let mut actor = [0xff; MAX_LINE];
        let len = actor_text(&self.actor(), &mut actor).unwrap();
        let mut actor = actor[..len].to_vec();
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

    /// Whether the line may be too long for a draft.
    fn is_long(&self) -> bool {
        let handle = self.handle.as_ref().map_or(0, |(_, bytes)| bytes.len());
        let texts = self.command.len() + 3 * (self.args.len().min(256) + self.name.len());
        texts + 2 * handle > 3400
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    #[test]
    fn a_template_writes_what_a_draft_gives(
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
            match says.fast(&mut template) {
                Ok(fast) => prop_assert_eq!(Ok(fast), says.drafted()),
                Err(error) => {
                    prop_assert_eq!(error, LineError::TooLong);
                    prop_assert!(says.is_long(), "refused: {:?}", says);
                }
            }
        }
    }
}

#[test]
fn a_process_is_written_whole_or_not_at_all() {
    let actor = Actor {
        pid: 1,
        start: Time::default(),
        ppid: 1,
        sid: 1,
        group: ProcessGroup::default(),
        group_comm: b"",
        uid: 0,
        comm: b"program",
        exec: 1,
        args: b"program",
    };
    let text = " pid=1@0.0 ppid=1 pgid=0 sid=1 uid=0 comm=program exec=1 args=program";
    let mut exact = [0; 69];
    assert_eq!(actor_text(&actor, &mut exact), Some(69));
    assert_eq!(exact, *text.as_bytes());
    assert_eq!(actor_text(&actor, &mut [0; 68]), None);
    assert_eq!(actor_text(&actor, &mut [0; 20]), None);
}
