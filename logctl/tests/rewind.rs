// SPDX-License-Identifier: MIT OR Apache-2.0

//! A restore takes back what has to go for a point's state, after any undo, redo, revert or restore.

#[path = "support/mount.rs"]
mod mount;

use std::collections::BTreeSet;

use logctl::history::line::Op;
use logctl::rewind::Rewind;
use logctl::timeline::Timeline;
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
fn live(timeline: &Timeline, standing: &[usize]) -> BTreeSet<u64> {
    let entries = standing.iter().map(|index| &timeline.entries[*index]);
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
                    // The model's kernel does not refuse what a real one does: new work is in the way.
                    let before = timeline(&mut kernel);
                    let is_undo = before.entries.iter().find(|entry| !entry.op.is_bookkeeping());
                    if is_undo.is_some_and(|entry| entry.is_walk()) {
                        run(&mut kernel, &files, "redo");
                    }
                }
                Step::Revert(at) => {
                    let before = timeline(&mut kernel);
                    let now: Vec<u64> = live(&before, &before.standing(&|_| false)).into_iter().collect();
                    if !now.is_empty() {
                        let seq = now[at.index(now.len())];
                        run(&mut kernel, &files, &format!("revert --ops {seq}"));
                    }
                }
                Step::Restore(at, of) if head != 0 => {
                    let cut = 1 + at.index(head as usize) as u64;
                    let before = timeline(&mut kernel);
                    let cut = Rewind::new(&before, cut).cut();
                    let then = live(&before, &before.standing_before(cut + 1));
                    let now = live(&before, &before.standing(&|_| false));
                    let of = of.map(|of| 10 + u64::from(of));
                    let path = of.map_or_else(String::new, |of| format!(" /m/f{}", of - 10));
                    let (code, said, complaint) = run(&mut kernel, &files, &format!("restore --to {cut}{path}"));
                    prop_assert!(code == 0 || code == 1, "{code} {said}{complaint}");
                    let after = timeline(&mut kernel);
                    let left = live(&after, &after.standing(&|_| false));
                    if code == 1 {
                        // Refused: a kernel lets no second revert take back what a first one holds.
                        prop_assert_eq!(left, now, "{}", complaint);
                        return Ok(());
                    }
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
