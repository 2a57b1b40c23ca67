// SPDX-License-Identifier: GPL-2.0

//! The actions of a run: operations, comparisons of the whole tree, and reverts.

use super::op::Op;
use super::workers::WORKERS;
use crate::shadow::Random;

/// One step of a sequence.
#[derive(Clone, Debug)]
pub enum Action {
    /// Operations, each by one of the processes.
    Do(Vec<(usize, Op)>),
    /// Takes so many steps back, by one request for all of their lines, and by another one forth and
    /// back again if so.
    Back(usize, bool),
    /// Takes back the newest steps, at most so many, as far as they are one object's newest operations.
    Object(usize),
    /// Records the whole tree.
    Look,
    /// All processes close their files; the filesystem is mounted anew, if its data outlives that.
    Remount,
}

impl Action {
    pub fn text(&self) -> String {
        match self {
            Action::Do(ops) => {
                let ops = ops
                    .iter()
                    .map(|(worker, op)| format!("{worker}: {}", op.text()));
                ops.collect::<Vec<_>>().join("; ")
            }
            Action::Back(count, false) => format!("back {count}"),
            Action::Back(count, true) => format!("back {count}, forth, back"),
            Action::Object(count) => format!("back {count} of an object"),
            Action::Look => "look".into(),
            Action::Remount => "remount".into(),
        }
    }
}

/// After how many of 400 steps the whole tree is recorded. Some of these are stepped over, or come to
/// nothing by a step back on the way; of 500 steps about fifty are left.
const LOOKS: u64 = 65;

/// A sequence of which so many steps are operations, and that takes all of them back in the end.
pub fn sequence(random: &mut Random, steps: usize) -> Vec<Action> {
    let places = ["n0", "n1", "n0/n2", "n1/n3"];
    let made = places.map(|place| Action::Do(vec![(0, Op::made("mkdir", place))]));
    let mut actions = Vec::from(made);
    // Places where an ordinary user may make names, and one that belongs to that user.
    actions.push(Action::Do(vec![(0, Op::made("chown", "n0/n2"))]));
    for place in ["", "n1"] {
        let open = Op {
            salt: 9,
            ..Op::made("chmod", place)
        };
        actions.push(Action::Do(vec![(0, open)]));
    }
    let mut live = actions.len();
    for _ in 0..steps {
        let ops = [1, 1, 1, 1, 1, 2, 3][random.below(7) as usize];
        let ops = (0..ops).map(|_| (random.below(WORKERS) as usize, Op::random(random)));
        actions.push(Action::Do(ops.collect()));
        live += 1;
        match random.below(400) {
            0..=LOOKS => actions.push(Action::Look),
            100 => actions.push(Action::Remount),
            101..=106 => {
                let count = 1 + random.below(20) as usize;
                actions.push(Action::Back(count, random.below(2) == 0));
            }
            107..=130 => actions.push(Action::Object(1 + random.below(5) as usize)),
            _ => {}
        }
    }
    if random.below(2) == 0 {
        actions.push(Action::Remount);
    }
    while live > 0 {
        let most = [1, 1, 4, 30][random.below(4) as usize];
        let count = 1 + random.below(most) as usize;
        live -= count.min(live);
        actions.push(match random.below(2) {
            0 => Action::Object(count),
            _ => Action::Back(count, random.below(20) == 0),
        });
    }
    actions
}
