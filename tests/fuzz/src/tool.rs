// SPDX-License-Identifier: GPL-2.0

//! logctl before a kernel that answers anything: it ends, its JSON is JSON, and no name or line
//! gives orders to a terminal.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use arbitrary::{Result, Unstructured};
use logctl::cli::Command;
use logctl::commands::{conclude, execute};
use logctl::object::Object;
use logctl::output::Output;
use logctl::uapi::{ReadLog, Revert, Status};
use rustix::io::Errno;

use crate::line::number;

/// A line that is sound, but for its sum: only the kernel looks at that.
const LINES: [&str; 4] = [
    "1.000000001 /bin/dd write 4 1 seq=9 obj=1.1 size=8 open=9 undo=1:0+1 crc=00000000 sum=00000000\n",
    "2.000000002 - truncate 4 9 seq=8 obj=1.1 size=8 undo=lost why=nospace sum=00000000\n",
    "3.000000003 /x%0Ay revert 0 9 seq=12 obj=1.1 size=1 of=9 count=1 now=4 mode=walk undo=none sum=00000000\n",
    "4.000000004 %1B%5Bm commit 0 0 seq=13 obj=1.1 of=12 comm=%07 args=a%00b%00 sum=00000000\n",
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
            match self.0.int_in_range(0..=5)? {
                choice @ 0..=3 => text.extend(LINES[choice].bytes()),
                4 => text.extend(self.0.bytes(self.0.len().min(20))?),
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
    fn revert(&mut self, request: &mut Revert) -> core::result::Result<(), Errno> {
        assert!(request.is_valid());
        request.reverted = number(self.0).unwrap_or(0);
        request.seq_in_way = number(self.0).unwrap_or(0);
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
}

fn fill(u: &mut Unstructured<'_>, status: &mut Status) {
    let numbers = [
        &mut status.seq,
        &mut status.inode,
        &mut status.standing,
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
            count: u.int_in_range(1..=30)?,
            force: u.arbitrary()?,
            flat: u.arbitrary()?,
        },
        _ => Command::Status {
            file: path.to_path_buf(),
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
    let command = command(u, &path)?;
    let json = u.arbitrary()?;
    let (mut results, mut messages) = (Vec::new(), Vec::new());
    let mut output = Output {
        results: &mut results,
        messages: &mut messages,
        json,
    };
    let done = execute(&command, &path, &mut Any(u), &mut output);
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
