// SPDX-License-Identifier: MIT OR Apache-2.0

//! A restore takes back the operations that are not part of a revision's state, after any undo, redo, revert
//! or restore.

#[path = "support/mount.rs"]
mod mount;

use std::collections::BTreeSet;

use logctl::rewind::Rewind;
use logctl::timeline::Timeline;
use loggerfs_log::line::Op;
use loggerfs_log::plan::{Net, NetChange, PlanError, RevertedRange, Store};
use loggerfs_log::types::ObjectId;
use mount::{run, timeline, Files, Kernel};
use proptest::prelude::*;
use proptest::sample::Index;

#[derive(Clone, Debug)]
enum Step {
    /// A write to one of the objects.
    Write(u8),
    /// `undo N`.
    Undo(u8),
    Redo,
    /// `revert --ops`, of some operation that is live.
    Revert(Index),
    /// `restore --to`, a number that is there, of all or of one object.
    Restore(Index, Option<u8>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0u8..3).prop_map(Step::Write),
        2 => (1u8..4).prop_map(Step::Undo),
        2 => Just(Step::Redo),
        2 => any::<Index>().prop_map(Step::Revert),
        3 => (any::<Index>(), prop::option::of(0u8..3)).prop_map(|(at, of)| Step::Restore(at, of)),
    ];
    prop::collection::vec(step, 1..30)
}

/// The operations that are live, reverts apart.
fn live(timeline: &Timeline, live: &[usize]) -> BTreeSet<u64> {
    let entries = live.iter().map(|index| &timeline.entries[*index]);
    let entries = entries.filter(|entry| !matches!(entry.op, Op::Revert | Op::Redo));
    entries.map(|entry| entry.seq).collect()
}

fn files() -> Files {
    Files::of(&[("f0", 10), ("f1", 11), ("f2", 12)])
}

proptest! {
    #[test]
    fn a_point_is_reached_whatever_came_after_it(steps in steps()) {
        let mut kernel = Kernel::new();
        let files = files();
        let mut second = 0;
        for step in steps {
            let head = kernel.seq;
            match step {
                Step::Write(of) => {
                    // Each one a process, and an action, of its own.
                    second += 10;
                    let keys = format!("open=. size=0 undo=none pid={}@{second}.0 sid=1", second + 100);
                    kernel.line(second, &format!("{}.1", 10 + of), "/bin/x write 0 1", &keys);
                }
                Step::Undo(count) => drop(run(&mut kernel, &files, &format!("undo {count}"))),
                Step::Redo => {
                    // The kernel of the model does not refuse redos after new work, as the real one does.
                    let before = timeline(&mut kernel);
                    let is_undo = before.entries.iter().find(|entry| !entry.op.is_bookkeeping());
                    if is_undo.is_some_and(|entry| entry.is_walk()) {
                        run(&mut kernel, &files, "redo");
                    }
                }
                Step::Revert(at) => {
                    let before = timeline(&mut kernel);
                    let now: Vec<u64> = live(&before, &before.live(&|_| false)).into_iter().collect();
                    if !now.is_empty() {
                        let seq = now[at.index(now.len())];
                        run(&mut kernel, &files, &format!("revert --ops {seq}"));
                    }
                }
                Step::Restore(at, of) if head != 0 => {
                    let cut = 1 + at.index(head as usize) as u64;
                    let before = timeline(&mut kernel);
                    let cut = Rewind::new(&before, cut).cut();
                    let then = live(&before, &before.live_before(cut + 1));
                    let now = live(&before, &before.live(&|_| false));
                    let of = of.map(|of| 10 + u64::from(of));
                    let path = of.map_or_else(String::new, |of| format!(" /m/f{}", of - 10));
                    let (code, said, complaint) = run(&mut kernel, &files, &format!("restore --to {cut}{path}"));
                    // Nothing has to change in a state that is reached already.
                    let is_there = complaint.contains("nothing was done");
                    prop_assert!(code == 0 || (code == 1 && is_there), "{code} {said}{complaint}");
                    let after = timeline(&mut kernel);
                    let left = live(&after, &after.live(&|_| false));
                    let is_its = |seq: &u64| {
                        let index = after.find(*seq).unwrap();
                        of.is_none_or(|of| after.entries[index].object.unwrap().inode == of)
                    };
                    let mut want: BTreeSet<u64> = then.iter().copied().filter(is_its).collect();
                    want.extend(now.iter().copied().filter(|seq| !is_its(seq)));
                    prop_assert_eq!(left, want, "{}{:#?}", said, kernel.segments);
                }
                Step::Restore(..) => {}
            }
        }
    }
}

#[derive(Default)]
struct List(Vec<RevertedRange>);

impl Store<RevertedRange> for List {
    fn push(&mut self, item: RevertedRange) -> Result<(), PlanError> {
        self.0.push(item);
        Ok(())
    }

    fn items(&mut self) -> &mut [RevertedRange] {
        &mut self.0
    }
}

/// The net effect of taking operations of one object back, by the kernel's own code: the operations that go,
/// and those that come back.
fn net(timeline: &Timeline, object: ObjectId, taken: &[u64]) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let own = timeline
        .entries
        .iter()
        .filter(|entry| entry.object == Some(object));
    let own: Vec<_> = own.collect();
    let head = own.first().map(|entry| entry.at);
    let mut net = Net::new(object, head, u64::MAX, (List::default(), List::default()));
    let mut left = own
        .iter()
        .filter(|entry| taken.contains(&entry.seq))
        .count();
    let (mut goes, mut comes) = (BTreeSet::new(), BTreeSet::new());
    for entry in own {
        // The search may stop where it reports.
        if left == 0 && !net.is_open() {
            break;
        }
        let is_taken = taken.contains(&entry.seq);
        left -= usize::from(is_taken);
        let turn = net.step(&entry.line(), is_taken).unwrap();
        match turn.change {
            NetChange::Reverted => drop(goes.insert(entry.seq)),
            NetChange::Restored => drop(comes.insert(entry.seq)),
            NetChange::StaysLive | NetChange::Nothing => {}
        }
    }
    (goes, comes)
}

proptest! {
    #[test]
    fn the_net_of_a_request_is_what_differs_behind_it(steps in steps()) {
        let mut kernel = Kernel::new();
        let files = files();
        let mut second = 0;
        for step in steps {
            let before = timeline(&mut kernel);
            let requests = kernel.asked.len();
            let then = live(&before, &before.live(&|_| false));
            let line = match step {
                Step::Write(of) => {
                    second += 10;
                    let keys = format!("open=. size=0 undo=none pid={}@{second}.0 sid=1", second + 100);
                    kernel.line(second, &format!("{}.1", 10 + of), "/bin/x write 0 1", &keys);
                    continue;
                }
                Step::Undo(count) => format!("undo {count}"),
                Step::Redo => "redo".to_owned(),
                Step::Revert(at) if !then.is_empty() => {
                    let seq = then.iter().nth(at.index(then.len())).unwrap();
                    format!("revert --ops {seq}")
                }
                Step::Restore(at, of) if kernel.seq != 0 => {
                    let path = of.map_or_else(String::new, |of| format!(" /m/f{of}"));
                    format!("restore --to {}{path}", 1 + at.index(kernel.seq as usize))
                }
                Step::Revert(..) | Step::Restore(..) => continue,
            };
            run(&mut kernel, &files, &line);
            let Some((_, taken)) = kernel.asked.get(requests).cloned() else {
                continue;
            };
            let after = timeline(&mut kernel);
            let now = live(&after, &after.live(&|_| false));
            let (mut goes, mut comes) = (BTreeSet::new(), BTreeSet::new());
            for object in before.entries.iter().filter_map(|entry| entry.object).collect::<std::collections::HashSet<_>>() {
                let (some, others) = net(&before, object, &taken);
                goes.extend(some);
                comes.extend(others);
            }
            prop_assert_eq!(goes, then.difference(&now).copied().collect(), "{}: {:#?}", line, kernel.segments);
            prop_assert_eq!(comes, now.difference(&then).copied().collect(), "{}: {:#?}", line, kernel.segments);
        }
    }
}

/// Where the lines that an undo jumps over end, an older one may have been dropped: it is not read.
#[test]
fn the_net_ends_before_lines_that_nothing_depends_on() {
    let mut kernel = Kernel::new();
    for second in 1..=2 {
        let keys = format!("open=. size=0 undo=none pid={second}@{second}.0 sid=1");
        kernel.line(second, "10.1", "/bin/x write 0 1", &keys);
    }
    let timeline = timeline(&mut kernel);
    let [newer, older] = &timeline.entries[..] else {
        panic!("{:?}", timeline.entries);
    };
    let stores = (List::default(), List::default());
    let mut net = Net::new(newer.object.unwrap(), Some(newer.at), 3, stores);
    net.jump(Some(older.at), 3);
    assert!(net.is_open());
    assert_eq!(
        net.step(&newer.line(), false).unwrap().change,
        NetChange::Reverted
    );
    assert_eq!(net.next(), Some(older.at));
    assert!(!net.is_open());
}

/// There and back again many times: each step takes one operation back, not all that came before.
#[test]
fn restores_do_not_pile_up() {
    let mut kernel = Kernel::new();
    let files = files();
    for second in 1..=3 {
        let keys = format!("open=. size=0 undo=none pid={second}@{second}.0 sid=1");
        kernel.line(second, "10.1", "/bin/x write 0 1", &keys);
    }
    for _ in 0..50 {
        for to in [1, 3] {
            let (code, said, complaint) =
                run(&mut kernel, &files, &format!("restore --to {to} /m/f0"));
            assert_eq!(code, 0, "{said}{complaint}");
            let (_, asked) = kernel.asked.last().unwrap();
            assert!(asked.len() <= 2, "{asked:?}");
        }
    }
}
