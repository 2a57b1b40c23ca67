// SPDX-License-Identifier: MIT OR Apache-2.0

//! When objects were modified, as of a point. No line has the modification time that a write replaces, but the
//! line of the write before has its time.

use std::collections::{HashMap, HashSet};

use crate::timeline::Timeline;
use loggerfs_log::line::{Line, Op};
use loggerfs_log::types::Time;

/// The times at which objects were modified, by inode number, as far as lines record them.
#[derive(Default)]
pub struct PastTimes {
    cut: u64,
    /// The last one up to the point.
    last: HashMap<u64, Time>,
    /// Those whose attributes were changed after it, up to the point: that may have set the time.
    set_since: HashSet<u64>,
    /// The first newer one.
    first_newer: HashMap<u64, Time>,
}

/// The clock of modification times may be behind that of lines by a tick, in nanoseconds; on a machine that has no
/// time for a virtual one by more.
const TICK: i128 = 20_000_000;

impl PastTimes {
    /// As of the line numbered `cut`.
    pub fn at(timeline: &Timeline, cut: u64) -> Self {
        let mut times = Self {
            cut,
            ..Self::default()
        };
        for entry in timeline.entries.iter().rev() {
            times.take_in(&entry.line());
        }
        times
    }

    /// Takes in a line that is newer than all lines before.
    pub fn take_in(&mut self, line: &Line<'_>) {
        // A line on attributes does not say whether it set the modification time.
        if line.op.changes_attributes() && line.seq <= self.cut {
            self.set_since.extend(line.obj.map(|object| object.inode));
        }
        if line.op.is_bookkeeping() || line.op.changes_attributes() {
            return;
        }
        let made = match line.op {
            Op::Create | Op::Mkdir | Op::Mknod | Op::Symlink => line.node,
            _ => None,
        };
        for object in [line.obj, line.parent, made].into_iter().flatten() {
            if line.seq <= self.cut {
                self.last.insert(object.inode, line.time);
                self.set_since.remove(&object.inode);
            } else {
                self.first_newer.entry(object.inode).or_insert(line.time);
            }
        }
    }

    /// When an object was modified, in seconds and nanoseconds. `known` is the time in the old state, which
    /// may be that of a newer write.
    pub fn modified(&self, inode: u64, known: (i64, u32)) -> (i64, u32) {
        let Some(newer) = self.first_newer.get(&inode) else {
            return known;
        };
        let at = |time: &Time| nanoseconds((time.sec, time.nsec));
        let (last, until_newer) = (self.last.get(&inode), at(newer) - nanoseconds(known));
        // Where only the two lines can have set it, it is the time of the nearer one.
        let is_nearer = |last: &Time| nanoseconds(known) - at(last) > until_newer;
        let is_between = last.filter(|_| !self.set_since.contains(&inode));
        if until_newer > TICK && !is_between.is_some_and(is_nearer) {
            return known;
        }
        let time = last.unwrap_or(newer);
        (time.sec, time.nsec)
    }
}

fn nanoseconds((seconds, nanoseconds): (i64, u32)) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
}
