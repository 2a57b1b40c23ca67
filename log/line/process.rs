// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Processes in lines: `pid=`, `pgid=` and `anc=`. The kernel reuses process numbers, so a process is
//! identified by its number and its start time.

use super::{super::types::Time, digits::decode_decimal32, text};

/// The most ancestors that a line records.
pub const MAX_ANCESTORS: usize = 16;

/// A process: its number and start time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Process {
    /// The process' number.
    pub pid: u32,
    /// The start time.
    pub start: Time,
}

impl Process {
    /// Reads `PID@SEC.NSEC`.
    pub(super) fn parse(value: &[u8]) -> Option<Self> {
        let (pid, start) = text::split(value, b'@')?;
        Some(Self {
            pid: decode_decimal32(pid)?,
            start: text::time(start, 1)?,
        })
    }
}

/// A process group: the number of the process that leads it, and when that process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ProcessGroup {
    /// The leader's number.
    pub pgid: u32,
    /// The leader's start time. `None`: the process of the line leads the group itself, or the
    /// leader has ended.
    pub start: Option<Time>,
}

impl ProcessGroup {
    /// Reads `PGID` or `PGID@SEC.NSEC`.
    pub(super) fn parse(value: &[u8]) -> Option<Self> {
        match text::split(value, b'@') {
            Some(_) => Process::parse(value).map(|leader| Self {
                pgid: leader.pid,
                start: Some(leader.start),
            }),
            None => Some(Self {
                pgid: decode_decimal32(value)?,
                start: None,
            }),
        }
    }

    /// The leader, as far as it is known to a line of `process`.
    pub fn leader(&self, process: Option<Process>) -> Option<Process> {
        match (self.start, process) {
            (Some(start), _) => Some(Process {
                pid: self.pgid,
                start,
            }),
            (None, Some(process)) if process.pid == self.pgid => Some(process),
            (None, _) => None,
        }
    }
}

/// The ancestors of a process, the parent first: `PID@SEC.NSEC`, with commas between them. The first
/// process of the machine is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ancestors<'a>(&'a [u8]);

impl<'a> Ancestors<'a> {
    /// Parses a value; `None` if malformed.
    pub(super) fn parse(value: &'a [u8]) -> Option<Self> {
        let mut count = 0usize;
        for word in value.split(|byte| *byte == b',') {
            Process::parse(word)?;
            count = count.checked_add(1)?;
        }
        (count <= MAX_ANCESTORS).then_some(Self(value))
    }

    /// The processes, the parent first.
    pub fn processes(&self) -> impl Iterator<Item = Process> + 'a {
        self.0
            .split(|byte| *byte == b',')
            .filter_map(Process::parse)
    }
}
