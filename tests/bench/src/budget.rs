// SPDX-License-Identifier: GPL-2.0

//! The budgets of the benchmark: the most that LoggerFS may cost, for each kind of work and lower
//! filesystem, as a multiple of the raw filesystem's cost. A budget was set in instructions; the
//! ratio divides it by the raw cost that was measured at the time.

/// The two lower filesystems, in the table's order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lower {
    Tmpfs,
    Ext4,
}

impl Lower {
    pub const ALL: [Lower; 2] = [Lower::Tmpfs, Lower::Ext4];

    pub fn name(self) -> &'static str {
        match self {
            Lower::Tmpfs => "tmpfs",
            Lower::Ext4 => "ext4",
        }
    }
}

/// A limit for LoggerFS's cost.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// Times the raw cost.
    Raw(f64),
    /// Not above overlayfs, measured in the same guest.
    Overlay,
    /// Times the cost of the same with a short history.
    Short(f64),
    /// Nothing was promised.
    None,
}

/// One row of the table.
pub struct Row {
    pub name: &'static str,
    pub work: Work,
    /// History on in LoggerFS's mount.
    pub history: bool,
    /// The bench fails when the "must" of this row is missed.
    pub gate: bool,
    must: [Limit; 2],
    aim: [Limit; 2],
}

/// The operation, and the counted calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    Read4k,
    Overwrite4k,
    Append4k,
    Overwrite1m,
    CreateUnlink,
    Tree,
    RevertLast,
    Mount,
}

impl Row {
    pub fn must(&self, lower: Lower) -> Limit {
        self.must[lower as usize]
    }

    pub fn aim(&self, lower: Lower) -> Limit {
        self.aim[lower as usize]
    }
}

use Limit::{None as Open, Overlay, Raw, Short};

/// Overwriting comes first of the rows with history: the history is full of payloads then, whose
/// files are recycled.
pub const ROWS: [Row; 9] = [
    Row {
        name: "4 KiB read, page cache",
        work: Work::Read4k,
        history: true,
        gate: true,
        must: [Overlay, Overlay],
        aim: [Raw(1.10), Raw(1.10)],
    },
    Row {
        name: "4 KiB write, stacking only",
        work: Work::Overwrite4k,
        history: false,
        gate: true,
        must: [Overlay, Overlay],
        aim: [Raw(1.20), Raw(1.08)],
    },
    Row {
        name: "4 KiB overwrite, history",
        work: Work::Overwrite4k,
        history: true,
        gate: true,
        must: [Raw(8.0 / 2.2), Raw(13.0 / 6.5)],
        aim: [Raw(5.0 / 2.2), Raw(10.0 / 6.5)],
    },
    Row {
        name: "4 KiB append, history",
        work: Work::Append4k,
        history: true,
        gate: true,
        must: [Raw(8.5 / 5.7), Raw(10.5 / 7.7)],
        aim: [Raw(7.0 / 5.7), Raw(9.0 / 7.7)],
    },
    Row {
        name: "1 MiB overwrite, history",
        work: Work::Overwrite1m,
        history: true,
        gate: false,
        must: [Raw(900.0 / 296.0), Raw(600.0 / 148.0)],
        aim: [Raw(650.0 / 296.0), Raw(350.0 / 148.0)],
    },
    Row {
        name: "create + unlink",
        work: Work::CreateUnlink,
        history: true,
        gate: false,
        must: [Raw(45.0 / 21.0), Open],
        aim: [Raw(35.0 / 21.0), Open],
    },
    Row {
        name: "unpack, build, delete a tree",
        work: Work::Tree,
        history: true,
        gate: false,
        must: [Raw(1.15), Raw(1.15)],
        aim: [Raw(1.05), Raw(1.05)],
    },
    Row {
        name: "revert of the last operation",
        work: Work::RevertLast,
        history: true,
        gate: false,
        must: [Short(1.10), Short(1.10)],
        aim: [Open, Open],
    },
    Row {
        name: "mount, clean history",
        work: Work::Mount,
        history: true,
        gate: false,
        must: [Short(1.10), Short(1.10)],
        aim: [Open, Open],
    },
];
