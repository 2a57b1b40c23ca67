// SPDX-License-Identifier: GPL-2.0

//! logctl with a kernel that returns anything: it ends, its JSON is valid, and no name or line
//! controls the terminal.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use arbitrary::{Result, Unstructured};
use logctl::cli::{Command, Options, Selection};
use logctl::commands::context::Context;
use logctl::commands::{conclude, execute, execute_on_mount};
use logctl::describe::Users;
use logctl::object::Object;
use logctl::output::Output;
use logctl::paths::Tree;
use logctl::process::ProcessSpec;
use logctl::process_trees::TreeSpec;
use logctl::uapi::{
    Conflict, Operation, PlaceMark, ReadHistory, ReadLog, ReadPast, Revert, RevertGroup, Status,
};
use loggerfs_log::types::ObjectId;
use rustix::io::Errno;

use crate::line::number;

/// A line that is sound, but for its sum: only the kernel looks at that.
const LINES: [&str; 11] = [
    "1.000000001 /bin/dd write 4 1 seq=9 obj=1.1 size=8 open=9 undo=1:0+1 crc=00000000 sum=00000000\n",
    "2.000000002 - truncate 4 9 seq=8 obj=1.1 size=8 undo=lost why=nospace sum=00000000\n",
    "3.000000003 /x%0Ay revert 0 9 seq=12 obj=1.1 size=1 of=9 count=1 now=4 mode=walk undo=none sum=00000000\n",
    "4.000000004 %1B%5Bm commit 0 0 seq=13 obj=1.1 of=12 comm=%07 args=a%00b%00 sum=00000000\n",
    "5.000000005 /x create 0 0 seq=3 obj=2.1 name=a%1B node=1.1 undo=none pid=7@1.0 ppid=6 sid=7 uid=0 sum=00000000\n",
    "5.000000006 /x rename 0 0 seq=4 obj=2.1 name=a%1B to=b parent=3.1 pfh=01 node=1.1 over=4.1 kept=1 undo=none pid=7@1.0 sum=00000000\n",
    "6.000000000 /x rmdir 0 0 seq=5 obj=3.1 name=c node=2.1 kept=1 undo=none pid=7@1.0 args=rm%00-r sum=00000000\n",
    "7.000000000 /l revert 0 0 seq=20 obj=1.1 of=9 count=1 picks=8-9 mode=pick undo=none sum=00000000\n",
    "7.000000000 /l revert 0 0 seq=21 obj=2.1 of=4 count=2 picks=3-4 mode=walk group=20 undo=none sum=00000000\n",
    "7.500000000 /l mark 0 0 seq=22 pid=6@1.0 uid=0 name=before parent=2.1 pfh=01 message=a%1B run=1 sum=00000000\n",
    "8.000000000 /l redo 0 0 seq=25 obj=2.1 of=21 count=1 back=1:9 mode=walk undo=none sum=00000000\n",
];

struct Any<'u, 'd>(&'u mut Unstructured<'d>);

impl Any<'_, '_> {
    fn refuses(&mut self) -> Result<Option<Errno>> {
        let known = [
            Errno::NODATA,
            Errno::STALE,
            Errno::BUSY,
            Errno::PERM,
            Errno::UCLEAN,
            Errno::NOTTY,
            Errno::IO,
        ];
        Ok(if self.0.ratio(1, 6)? {
            Some(*self.0.choose(&known)?)
        } else {
            None
        })
    }

    fn page(&mut self, buffer: &mut [u8]) -> Result<u32> {
        let mut text = Vec::new();
        for _ in 0..self.0.int_in_range(0..=6)? {
            match self.0.int_in_range(0..=12)? {
                choice @ 0..=10 => text.extend(LINES[choice].bytes()),
                11 => text.extend(self.0.bytes(self.0.len().min(20))?),
                _ => {
                    let mut line = self.0.choose(&LINES)?.as_bytes().to_vec();
                    let at = self.0.choose_index(line.len())?;
                    line[at] = self.0.arbitrary()?;
                    text.extend(line);
                }
            }
        }
        text.truncate(buffer.len());
        buffer[..text.len()].copy_from_slice(&text);
        Ok(if self.0.ratio(1, 20)? {
            self.0.arbitrary()?
        } else {
            text.len() as u32
        })
    }
}

impl Object for Any<'_, '_> {
    fn place_mark(&mut self, _: &mut PlaceMark, _: &[u8], _: &[u8]) -> Result<(), Errno> {
        Err(Errno::ROFS)
    }

    fn revert(&mut self, request: &mut Revert) -> core::result::Result<(), Errno> {
        assert!(request.is_valid());
        request.reverted = number(self.0).unwrap_or(0);
        request.blocking_seq = number(self.0).unwrap_or(0);
        request.reason = self.0.int_in_range(0..=15).unwrap_or(0);
        match self.refuses() {
            Ok(Some(errno)) => Err(errno),
            _ => Ok(()),
        }
    }

    fn read_log(
        &mut self,
        request: &mut ReadLog,
        buffer: &mut [u8],
    ) -> core::result::Result<(), Errno> {
        if self.0.is_empty() {
            (request.cursor_segment, request.used) = (ReadLog::END, 0);
            return Ok(());
        }
        if let Ok(Some(errno)) = self.refuses() {
            return Err(errno);
        }
        request.used = self.page(buffer).unwrap_or(0);
        request.cursor_segment = number(self.0).unwrap_or(0);
        request.cursor_offset = number(self.0).unwrap_or(0);
        Ok(())
    }

    fn status(&mut self, request: &mut Status) -> core::result::Result<(), Errno> {
        assert!(request.is_valid());
        fill(self.0, request);
        match self.refuses() {
            Ok(Some(errno)) => Err(errno),
            _ => Ok(()),
        }
    }

    fn read_history(
        &mut self,
        request: &mut ReadHistory,
        buffer: &mut [u8],
    ) -> core::result::Result<(), Errno> {
        request.length = buffer.len() as u32;
        assert!(request.is_valid());
        request.used = self.history(buffer).unwrap_or(0);
        // Ends, so that the target does not loop.
        let is_end = self.0.is_empty() || self.0.ratio(3, 4).unwrap_or(true);
        request.offset = match is_end {
            true if request.flags & ReadHistory::BACKWARD != 0 => 0,
            true => ReadHistory::END,
            false => number(self.0).unwrap_or(0),
        };
        request.segment = number(self.0).unwrap_or(1);
        request.previous = match self.0.is_empty() {
            true => 0,
            false => number(self.0).unwrap_or(0),
        };
        match self.refuses() {
            Ok(Some(errno)) => Err(errno),
            _ => Ok(()),
        }
    }

    fn read_past(
        &mut self,
        request: &mut ReadPast,
        _: Option<BorrowedFd<'_>>,
        attributes: &mut [u8],
    ) -> core::result::Result<(), Errno> {
        request.size = number(self.0).unwrap_or(0) % (1 << 20);
        request.kind = self.0.arbitrary().unwrap_or(0);
        request.reason = self.0.int_in_range(0..=30).unwrap_or(0);
        let used = self
            .0
            .arbitrary_len::<u8>()
            .unwrap_or(0)
            .min(attributes.len());
        let _ = self.0.fill_buffer(&mut attributes[..used]);
        request.used = u32::try_from(used).unwrap_or(0);
        match request.reason {
            0 => Ok(()),
            _ => Err(Errno::NODATA),
        }
    }

    fn revert_group(
        &mut self,
        request: &mut RevertGroup,
        operations: &[Operation],
        conflicts: &mut [Conflict],
    ) -> core::result::Result<(), Errno> {
        assert!(operations.windows(2).all(|pair| pair[0].seq > pair[1].seq));
        for conflict in conflicts.iter_mut() {
            conflict.seq = number(self.0).unwrap_or(0);
            conflict.blocker = number(self.0).unwrap_or(0);
            conflict.reason = self.0.int_in_range(0..=15).unwrap_or(0);
        }
        request.found = number(self.0).unwrap_or(0) as u32;
        request.reverted = number(self.0).unwrap_or(0);
        request.seq = number(self.0).unwrap_or(0);
        match self.refuses() {
            Ok(Some(errno)) => Err(errno),
            _ => Ok(()),
        }
    }
}

impl Any<'_, '_> {
    /// Lines as a whole mount's are handed out, mostly.
    fn history(&mut self, buffer: &mut [u8]) -> Result<u32> {
        let mut page = vec![0; 4096];
        let used = self.page(&mut page)?.min(4096);
        let mut at = 0;
        let mut offset = number(self.0)? >> 1;
        for line in page[..used as usize].split_inclusive(|byte| *byte == b'\n') {
            let end = at + (16 + line.len()).next_multiple_of(8);
            buffer[at..at + 8].copy_from_slice(&offset.to_le_bytes());
            buffer[at + 8..at + 16].copy_from_slice(&(line.len() as u64).to_le_bytes());
            buffer[at + 16..at + 16 + line.len()].copy_from_slice(line);
            (at, offset) = (end, offset.wrapping_add(line.len() as u64));
        }
        if self.0.ratio(1, 20)? {
            buffer[self.0.int_in_range(0..=64)?] = self.0.arbitrary()?;
            return self.0.arbitrary();
        }
        Ok(at as u32)
    }
}

/// A mount whose files are not to be found, but for one.
struct Nowhere;

impl Tree for Nowhere {
    fn root(&self) -> u64 {
        3
    }

    fn find(&self, wanted: &HashSet<u64>) -> HashMap<u64, PathBuf> {
        let found = wanted.iter().filter(|inode| *inode % 2 == 0);
        found
            .map(|inode| (*inode, PathBuf::from("\x1b[m")))
            .collect()
    }
}

/// Runs a command on a whole mount.
fn execute_somewhere(
    command: &Command,
    any: &mut Any<'_, '_>,
    output: &mut Output<'_>,
) -> core::result::Result<(), logctl::error::Error> {
    let identify = |path: &Path| {
        let inode = path.as_os_str().len() as u64;
        Ok(Some(ObjectId {
            volume: 0,
            inode,
            generation: 1,
        }))
    };
    let now = jiff::Timestamp::from_second(4000).unwrap_or_default();
    let mut context = Context {
        object: any,
        tree: &Nowhere,
        identify: &identify,
        root: "/m".into(),
        now: now.to_zoned(jiff::tz::TimeZone::UTC),
        users: Users::of("root:x:0:0"),
        me: None,
        session: None,
        has_own_pids: true,
        confirm: &|_| true,
    };
    execute_on_mount(command, &mut context, output)
}

/// A command on a whole mount.
fn mount_command(u: &mut Unstructured<'_>) -> Result<Command> {
    let options = Options {
        dry_run: u.arbitrary()?,
        force: u.arbitrary()?,
        no_redo: u.arbitrary()?,
    };
    let selection = Selection {
        by: u.ratio(1, 3)?.then(|| "x".to_owned()),
        tree: match u.int_in_range(0..=7)? {
            0 => Some(TreeSpec::Process(ProcessSpec {
                pid: 7,
                start: None,
            })),
            1 => Some(TreeSpec::OfOperation(3)),
            _ => None,
        },
        path: u.ratio(1, 4)?.then(|| "**".to_owned()),
        last: u.ratio(1, 4)?.then_some(2),
        since: u.ratio(1, 4)?.then(|| "2h".to_owned()),
        ops: u.arbitrary()?,
        ..Selection::default()
    };
    let words = ["/m/b", "/m", "9", "@-", "3..9", "@before", "@before.."];
    let word = |u: &mut Unstructured<'_>| Ok(PathBuf::from(*u.choose(&words)?));
    let partial: bool = u.arbitrary()?;
    Ok(match u.int_in_range(0..=6)? {
        5 => Command::Who {
            paths: vec![word(u)?],
            selection,
        },
        0 => Command::Log {
            processes: false,
            stat: u.arbitrary()?,
            patch: u.arbitrary()?,
            all: u.arbitrary()?,
            word: u.arbitrary()?,
            paths: vec![word(u)?],
            limit: u.ratio(1, 2)?.then_some(2),
            selection,
        },
        1 => Command::Show {
            diff: true,
            word: u.arbitrary()?,
            op: word(u)?.to_string_lossy().into_owned(),
        },
        2 => Command::Undo {
            any: false,
            files: vec![word(u)?],
            count: u.ratio(1, 2)?.then_some(2),
            options,
            merge: u.arbitrary()?,
            out: None,
        },
        3 => Command::Redo {
            what: "2".into(),
            options,
        },
        4 => Command::Revert {
            files: vec![word(u)?],
            selection,
            count: 1,
            options,
            merge: !partial && u.arbitrary()?,
            partial,
            flat: false,
            out: None,
        },
        _ => Command::Restore {
            to: word(u)?.to_string_lossy().into_owned(),
            paths: vec!["/m/b".into()],
            options,
            partial,
            out: None,
        },
    })
}

fn fill(u: &mut Unstructured<'_>, status: &mut Status) {
    let numbers = [
        &mut status.seq,
        &mut status.inode,
        &mut status.live,
        &mut status.last_seq,
        &mut status.segments,
        &mut status.log_bytes,
        &mut status.undo_bytes,
        &mut status.history_max,
        &mut status.lost,
        &mut status.errors,
    ];
    for place in numbers {
        *place = number(u).unwrap_or(u64::MAX);
    }
    for place in [
        &mut status.on_full,
        &mut status.on_error,
        &mut status.mount_flags,
        &mut status.commit_seconds,
    ] {
        *place = u.arbitrary().unwrap_or(u32::MAX);
    }
    status.uuid = u.arbitrary().unwrap_or_default();
}

fn command(u: &mut Unstructured<'_>, path: &Path) -> Result<Command> {
    Ok(match u.int_in_range(0..=2)? {
        0 => Command::Readlog {
            file: path.to_path_buf(),
            all: u.arbitrary()?,
        },
        1 => Command::Revert {
            files: vec![path.to_path_buf()],
            selection: Selection::default(),
            count: u.int_in_range(1..=30)?,
            options: Options {
                force: u.arbitrary()?,
                dry_run: false,
                no_redo: false,
            },
            merge: false,
            partial: false,
            flat: u.arbitrary()?,
            out: None,
        },
        _ => Command::Status {
            file: u.arbitrary::<bool>()?.then(|| path.to_path_buf()),
            limit: None,
        },
    })
}

/// Any answers to any command.
pub(crate) fn any_answers(data: &[u8]) {
    let _ = answered(&mut Unstructured::new(data));
}

fn answered(u: &mut Unstructured<'_>) -> Result<()> {
    let mut name = u.bytes(u.len().min(6))?.to_vec();
    name.retain(|byte| *byte != 0);
    let path = PathBuf::from(OsString::from_vec(name));
    let is_on_mount = u.arbitrary()?;
    let command = match is_on_mount {
        true => mount_command(u)?,
        false => command(u, &path)?,
    };
    let json = u.arbitrary()?;
    let (mut results, mut messages) = (Vec::new(), Vec::new());
    let mut output = Output::new(&mut results, &mut messages, json);
    let done = match is_on_mount {
        true => execute_somewhere(&command, &mut Any(u), &mut output),
        false => execute(&command, &path, &mut Any(u), &mut output),
    };
    let failed = done.is_err();
    let code = conclude(&command, &path, done, &mut output);
    assert_eq!(code == 0, !failed, "exit code {code}");
    if json {
        for line in results.split_inclusive(|byte| *byte == b'\n') {
            let value: serde_json::Value = serde_json::from_slice(line).expect("JSON");
            assert!(value.get("type").is_some(), "an object without a type");
        }
    } else if !matches!(command, Command::Readlog { .. }) {
        let tame = |byte: &u8| *byte == b'\n' || !byte.is_ascii_control();
        assert!(results.iter().all(tame), "results that give orders");
    }
    // The colours are ours.
    let text = String::from_utf8_lossy(&messages).replace("\x1b[", "");
    let tame = |char: char| char == '\n' || !char.is_control();
    assert!(text.chars().all(tame), "messages that give orders");
    Ok(())
}

#[cfg(test)]
mod tests {
    /// Arbitrary bytes, the same each time.
    #[test]
    fn any_bytes_are_answers() {
        let mut random = lfs_shared::shadow::Random::new(1);
        let mut next = move || random.next();
        for round in 0..20_000 {
            let length = (next() % 900) as usize;
            let mut data: Vec<u8> = (0..length).map(|_| (next() >> 24) as u8).collect();
            // Past the name: a command on a mount, more often than not.
            if let Some(byte) = data.get_mut(6).filter(|_| round % 4 != 0) {
                *byte |= 1;
            }
            super::any_answers(&data);
        }
    }
}
