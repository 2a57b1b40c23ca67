// SPDX-License-Identifier: MIT OR Apache-2.0

//! When objects were modified, as of a point. No line has the modification time that a write replaces, but the
//! line of the write before has its time.

use std::collections::HashMap;

use crate::timeline::Timeline;
use loggerfs_log::line::{Line, Op};
use loggerfs_log::types::Time;

/// The times at which objects were modified, by inode number, as far as lines record them.
#[derive(Default)]
pub struct PastTimes {
    cut: u64,
    /// The last one up to the point.
    last: HashMap<u64, Time>,
    /// The first newer one.
    first_newer: HashMap<u64, Time>,
}

/// The clock of modification times may be behind that of lines by a tick, in nanoseconds.
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
        if nanoseconds(known) + TICK < nanoseconds((newer.sec, newer.nsec)) {
            return known;
        }
        let time = self.last.get(&inode).unwrap_or(newer);
        (time.sec, time.nsec)
    }
}

fn nanoseconds((seconds, nanoseconds): (i64, u32)) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
}
