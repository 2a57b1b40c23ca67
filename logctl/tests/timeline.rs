// SPDX-License-Identifier: MIT OR Apache-2.0

//! The lines of a whole mount: their actors, and which of them are live.

#[path = "support/mount.rs"]
mod mount;

use std::collections::{BTreeSet, HashSet};

use std::os::fd::BorrowedFd;

use logctl::object::Object;
use logctl::timeline::Timeline;
use logctl::uapi::{
    Conflict, Operation, PlaceMark, ReadHistory, ReadLog, ReadPast, Revert, RevertGroup, Status,
};
use loggerfs_log::line::Op;
use mount::{live, timeline, Kernel};
use proptest::prelude::*;
use rustix::io::Errno;

#[test]
fn segments_are_read_from_the_newest_on() {
    for room in [1, 100, 1000, usize::MAX] {
        let mut kernel = Kernel::new();
        kernel.room = room;
        for second in 0..30 {
            if second % 7 == 6 {
                kernel.next_segment();
            }
            kernel.line(second, "5.1", "/bin/x write 0 1", "undo=none open=1");
        }
        let timeline = timeline(&mut kernel);
        let numbers: Vec<u64> = timeline.entries.iter().map(|entry| entry.seq).collect();
        assert_eq!(numbers, (1..=30).rev().collect::<Vec<_>>());
        assert_eq!(timeline.find(7).map(|at| timeline.entries[at].seq), Some(7));
        assert_eq!(timeline.find(99), None);
        let mut lazy = Timeline::default();
        assert!(lazy.extend(&mut kernel).unwrap() && !lazy.is_whole());
        assert!(lazy.entries.len() < 10);
        assert_eq!(lazy.entries[0].seq, 30);
    }
}

#[test]
fn actors_are_inherited_within_a_segment() {
    let mut kernel = Kernel::new();
    let first = kernel.line(
        1,
        "5.1",
        "/bin/dd write 0 1",
        "open=. pid=7@3.0 ppid=4 sid=4 uid=1000 exec=2 args=dd%00if=x",
    );
    kernel.line(2, "5.1", "/bin/dd write 1 1", &format!("open={first}"));
    kernel.next_segment();
    kernel.line(3, "5.1", "/bin/dd write 2 1", &format!("open={first}"));
    kernel.line(
        4,
        "5.1",
        "/bin/dd write 3 1",
        &format!("open={first} pid=8@4.0 uid=1000"),
    );
    kernel.line(5, "5.1", "/bin/dd write 4 1", &format!("open={first}"));
    let timeline = timeline(&mut kernel);
    let pid = |seq| {
        let entry = &timeline.entries[timeline.find(seq).unwrap()];
        entry.actor.process.map(|process| process.pid)
    };
    let pids: Vec<_> = (1..=5).map(pid).collect();
    assert_eq!(pids, [Some(7), Some(7), None, Some(8), Some(8)]);
    let actor = &timeline.entries[3].actor;
    assert_eq!(actor.args, [b"dd".to_vec(), b"if=x".to_vec()]);
}

#[test]
fn actors_are_inherited_across_reads_of_a_segment() {
    for room in [1, 200, usize::MAX] {
        let mut kernel = Kernel::new();
        kernel.room = room;
        let older = kernel.line(1, "5.1", "/bin/dd write 0 1", "open=. pid=7@3.0 uid=1000");
        kernel.next_segment();
        kernel.line(2, "5.1", "/bin/dd write 1 1", &format!("open={older}"));
        let first = kernel.line(3, "6.1", "/bin/cp write 0 1", "open=. pid=8@4.0 uid=1000");
        let of_first = format!("open={first}");
        kernel.line(4, "6.1", "/bin/cp write 1 1", &of_first);
        kernel.line(
            5,
            "6.1",
            "/bin/sh write 2 1",
            &format!("{of_first} pid=9@4.0 uid=7"),
        );
        kernel.line(6, "6.1", "/bin/sh write 3 1", &of_first);
        let mut timeline = Timeline::default();
        assert!(timeline.extend(&mut kernel).unwrap());
        // The newest line's actor is known only when an older one was read.
        let all = nanoseconds_of_all();
        let is_whole_segment = room == usize::MAX;
        assert_eq!(timeline.has_unattributed(all.0, all.1), !is_whole_segment);
        while timeline.extend(&mut kernel).unwrap() {}
        assert!(!timeline.has_unattributed(all.0, all.1));
        let pids = timeline.entries.iter().rev().map(|entry| {
            let process = entry.actor.process;
            process.map(|process| process.pid)
        });
        let pids: Vec<_> = pids.collect();
        assert_eq!(pids, [Some(7), None, Some(8), Some(8), Some(9), Some(9)]);
    }
}

/// A span with all times.
fn nanoseconds_of_all() -> (i128, i128) {
    (0, i128::MAX)
}

#[test]
fn corrections_are_folded() {
    let mut kernel = Kernel::new();
    let long = kernel.line(1, "5.1", "/bin/x write 0 100", "undo=none");
    kernel.line(1, "5.1", "- amend 0 40", &format!("of={long}"));
    let never = kernel.line(2, "5.1", "/bin/x write 40 9", "undo=none");
    kernel.line(2, "5.1", "- cancel 0 0", &format!("of={never}"));
    kernel.line(4, "5.1", "- close 0 0", "");
    assert_eq!(live(&mut kernel), [long]);
    let timeline = timeline(&mut kernel);
    let entry = &timeline.entries[timeline.find(long).unwrap()];
    assert_eq!((entry.offset, entry.length), (0, 40));
    assert!(timeline.is_cancelled(&timeline.entries[timeline.find(never).unwrap()]));
    assert_eq!(entry.line().op, Op::Write);
}

/// A malformed answer.
struct Odd(Answer);

type Answer = fn(&mut ReadHistory, &mut [u8]) -> Result<(), Errno>;

impl Object for Odd {
    fn place_mark(&mut self, _: &mut PlaceMark, _: &[u8], _: &[u8]) -> Result<(), Errno> {
        Err(Errno::ROFS)
    }

    fn revert(&mut self, _: &mut Revert) -> Result<(), Errno> {
        Err(Errno::IO)
    }
    fn read_log(&mut self, _: &mut ReadLog, _: &mut [u8]) -> Result<(), Errno> {
        Err(Errno::IO)
    }
    fn status(&mut self, _: &mut Status) -> Result<(), Errno> {
        Err(Errno::IO)
    }
    fn read_history(&mut self, request: &mut ReadHistory, buffer: &mut [u8]) -> Result<(), Errno> {
        (self.0)(request, buffer)
    }
    fn read_past(
        &mut self,
        _: &mut ReadPast,
        _: Option<BorrowedFd<'_>>,
        _: &mut [u8],
    ) -> Result<(), Errno> {
        Err(Errno::IO)
    }

    fn revert_group(
        &mut self,
        _: &mut RevertGroup,
        _: &[Operation],
        _: &mut [Conflict],
    ) -> Result<(), Errno> {
        Err(Errno::IO)
    }
}

#[test]
fn an_answer_that_leads_nowhere_is_an_error() {
    let answers: [Answer; 8] = [
        |request, _| {
            (request.segment, request.offset, request.previous) = (3, 0, 3);
            Ok(())
        },
        |request, _| {
            (request.segment, request.offset, request.used) = (3, 0, u32::MAX);
            Ok(())
        },
        |request, _| {
            (request.segment, request.offset, request.used) = (3, 0, 15);
            Ok(())
        },
        |request, buffer| {
            buffer[8] = 200;
            (request.segment, request.offset, request.used) = (3, 0, 16);
            Ok(())
        },
        |_, _| Err(Errno::NODATA),
        |request, _| {
            (request.segment, request.offset) = (3, ReadHistory::END);
            Ok(())
        },
        // The offset does not fall.
        |request, _| {
            (request.segment, request.offset) = (3, 7);
            Ok(())
        },
        // Another segment in the middle of one.
        |request, _| {
            let next = request.offset.checked_sub(1).unwrap_or(9);
            (request.segment, request.offset) = (3 + next % 2, next);
            Ok(())
        },
    ];
    for answer in answers {
        assert!(Timeline::whole(&mut Odd(answer)).is_err());
    }
    // A segment that was dropped meanwhile ends the history.
    let mut trimmed = Odd(|request, _| match request.segment {
        0 => {
            (request.segment, request.offset, request.previous) = (3, 0, 2);
            Ok(())
        }
        _ => Err(Errno::NODATA),
    });
    assert!(Timeline::whole(&mut trimmed).unwrap().is_whole());
}

/// An event of an object.
#[derive(Clone, Debug)]
enum Event {
    Write,
    Bookkeeping,
    /// An undo of so many newest operations.
    Undo(usize),
    /// An undo, or a revert, that picks the live operations at the odd places of this mask.
    Pick(u32, bool),
    Redo,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Write),
        1 => Just(Event::Bookkeeping),
        2 => (1usize..4).prop_map(Event::Undo),
        2 => (any::<u32>(), any::<bool>()).prop_map(|(mask, walk)| Event::Pick(mask, walk)),
        2 => Just(Event::Redo),
    ]
}

/// The naive model: all operations, and those that each revert takes back while it is live.
#[derive(Default)]
struct Model {
    operations: Vec<u64>,
    /// Ordinary reverts and undos that were not redone: their numbers, and the operations that they
    /// took back.
    reverts: Vec<(u64, Vec<u64>)>,
    /// Undos that can be redone.
    undos: Vec<u64>,
    /// Whether a line that lists its picks is followed by live lines.
    listed: bool,
}

impl Model {
    fn is_alive(&self, seq: u64) -> bool {
        let mut takers = self
            .reverts
            .iter()
            .filter(|(_, taken)| taken.contains(&seq));
        !takers.any(|(revert, _)| self.is_alive(*revert))
    }

    /// The live operations, oldest first.
    fn alive(&self) -> Vec<u64> {
        let alive = self.operations.iter().copied();
        alive.filter(|seq| self.is_alive(*seq)).collect()
    }
}

fn numbers_as_picks(chosen: &[u64]) -> String {
    let mut sorted = chosen.to_vec();
    sorted.sort_unstable();
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for seq in sorted {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == seq => *last = seq,
            _ => ranges.push((seq, seq)),
        }
    }
    let text = ranges.iter().map(|(a, b)| format!("{a}-{b}"));
    text.collect::<Vec<_>>().join(",")
}

/// Plays an event, in the model and as lines.
fn play(kernel: &mut Kernel, model: &mut Model, object: &str, event: &Event) {
    let revert = |kernel: &mut Kernel, op: &str, keys: String| {
        let seq = kernel.line(1, object, &format!("/bin/logctl {op} 0 0"), &keys);
        kernel.line(1, object, "- commit 0 0", &format!("of={seq}"));
        seq
    };
    match event {
        Event::Write => {
            let seq = kernel.line(1, object, "/bin/x write 0 1", "undo=none");
            model.operations.push(seq);
            model.undos.clear();
        }
        Event::Bookkeeping => {
            kernel.line(1, object, "- close 0 0", "");
        }
        Event::Undo(count) => {
            let alive = model.alive();
            let chosen = alive[alive.len().saturating_sub(*count)..].to_vec();
            let Some(oldest) = chosen.first() else {
                return;
            };
            let mut keys = format!(
                "of={} count={} mode=walk",
                chosen[chosen.len() - 1],
                chosen.len()
            );
            if model.listed {
                keys += &format!(" picks={}", numbers_as_picks(&chosen));
            } else if let Some(back) = kernel.key(*oldest, "prev") {
                keys += &format!(" back={back}");
            }
            let seq = revert(kernel, "revert", keys);
            model.reverts.push((seq, chosen));
            model.undos.push(seq);
        }
        Event::Pick(mask, walk) => {
            let alive = model.alive();
            let newest_first = alive.iter().rev().enumerate();
            let picked = newest_first.filter(|(at, _)| mask >> (at % 32) & 1 == 1);
            let chosen: Vec<u64> = picked.map(|(_, seq)| *seq).collect();
            let Some(newest) = chosen.first() else {
                return;
            };
            let mode = if *walk { "walk" } else { "pick" };
            let targets = numbers_as_picks(&chosen);
            let keys = format!(
                "of={newest} count={} mode={mode} picks={targets}",
                chosen.len()
            );
            let seq = revert(kernel, "revert", keys);
            model.listed = true;
            model.reverts.push((seq, chosen));
            if *walk {
                model.undos.push(seq);
            } else {
                model.operations.push(seq);
                model.undos.clear();
            }
        }
        Event::Redo => {
            let Some(undo) = model.undos.pop() else {
                return;
            };
            let back = kernel.key(undo, "prev").map(|at| format!(" back={at}"));
            let keys = format!("of={undo} count=1 mode=walk{}", back.unwrap_or_default());
            revert(kernel, "redo", keys);
            model.reverts.retain(|(revert, _)| *revert != undo);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// The live operations are those of a model of the whole state, after any events, object by object.
    #[test]
    fn what_stands(events in proptest::collection::vec((0usize..3, event()), 1..60), room in 1usize..4000) {
        let mut kernel = Kernel::new();
        kernel.room = room;
        let mut models = [Model::default(), Model::default(), Model::default()];
        let objects = ["5.1", "6.1", "7.2"];
        for (at, (object, event)) in events.iter().enumerate() {
            if at % 20 == 19 {
                kernel.next_segment();
            }
            play(&mut kernel, &mut models[*object], objects[*object], event);
        }
        let want: BTreeSet<u64> = models.iter().flat_map(Model::alive).collect();
        let got = live(&mut kernel);
        prop_assert!(got.windows(2).all(|pair| pair[0] > pair[1]));
        prop_assert_eq!(got.iter().copied().collect::<BTreeSet<_>>(), want.clone());
        // If an ordinary revert goes, the operations that it took back are live again.
        let timeline = timeline(&mut kernel);
        for model in &models {
            for (revert, back) in &model.reverts {
                // Operations that several reverts took back, of which some were reverted since, are
                // refused.
                let is_shared = |seq: &u64| {
                    model.reverts.iter().filter(|(_, taken)| taken.contains(seq)).count() != 1
                };
                if !want.contains(revert) || back.iter().any(is_shared) {
                    continue;
                }
                let index = timeline.find(*revert).unwrap();
                let without = timeline.live(&|other| other == index);
                let without: HashSet<u64> =
                    without.iter().map(|index| timeline.entries[*index].seq).collect();
                prop_assert!(back.iter().all(|seq| without.contains(seq)));
            }
        }
        // The live operations before the newest line.
        let before = timeline.live_before(1);
        prop_assert!(before.is_empty());
    }
}
