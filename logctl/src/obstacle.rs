// SPDX-License-Identifier: MIT OR Apache-2.0

//! The reasons that single operations of a request cannot be taken back, in words.

use std::path::Path;

use crate::quote::word;
use crate::uapi::Reason;

/// The name of a process that holds the object, if the process still exists.
pub fn process(pid: u64) -> Option<String> {
    if pid == 0 {
        return None;
    }
    let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok();
    Some(match comm {
        Some(comm) => format!("{} (pid {pid})", word(Path::new(comm.trim_end()))),
        None => format!("process {pid}"),
    })
}

/// The kind of a conflict, and a sentence that explains why the operation cannot be taken back.
/// `by`: the program of the conflicting operation.
pub fn obstacle(reason: Option<Reason>, by: Option<&str>) -> (&'static str, String) {
    match reason {
        Some(Reason::Conflict) => match by {
            Some(by) => ("conflict", format!("changed later by {by}")),
            None => ("conflict", "is not as it was left".into()),
        },
        Some(Reason::External) => ("external", "changed outside LoggerFS".into()),
        Some(Reason::Lost) => ("lost", "its old content was not saved".into()),
        Some(Reason::Trimmed) => (
            "trimmed",
            "its old content was dropped to free space".into(),
        ),
        Some(Reason::Mapped) => ("mapped", "a program maps it".into()),
        Some(Reason::NotOwner) => ("owner", "is or was not yours".into()),
        Some(Reason::NotPermitted) => (
            "rights",
            "you may not do that here, or set its old attributes".into(),
        ),
        Some(Reason::NotWritable) => ("rights", "you may not write to it".into()),
        Some(Reason::NoSpace) => ("space", "no space to save the replaced content".into()),
        Some(Reason::Corrupt) => ("damaged", "its saved content is damaged".into()),
        Some(Reason::Gone) => (
            "dropped",
            "it is not there any more: dropped to free space, or removed outside LoggerFS".into(),
        ),
        Some(Reason::Executed) => (
            "in use",
            "a program runs from it, or it is a swap file in use".into(),
        ),
        Some(Reason::Leased) => ("in use", "a program holds a lease on it".into()),
        Some(Reason::Busy) => match by {
            Some(by) => ("in use", format!("{by} has not ended its operation on it")),
            None => ("in use", "an operation on it has not ended".into()),
        },
        Some(Reason::NotEmpty) => match by {
            Some(by) => (
                "stays",
                format!("it is not empty: {by} made something in it"),
            ),
            None => ("stays", "it is not empty".into()),
        },
        Some(Reason::NothingLeft) => ("gone", "was taken back already".into()),
        Some(Reason::Unsupported) => ("no inverse", "this kind has no inverse yet".into()),
        Some(Reason::HistoryOff | Reason::Io) | None => {
            ("error", "the history cannot be read or written".into())
        }
    }
}

/// The exit code for a reason.
pub fn exit_code(reasons: impl Iterator<Item = Option<Reason>>) -> u8 {
    let codes = reasons.map(|reason| match reason {
        Some(Reason::External | Reason::Conflict | Reason::NotEmpty) => 4,
        Some(Reason::Mapped | Reason::Executed | Reason::Leased | Reason::Busy) => 11,
        _ => 1,
    });
    // A conflict says most.
    codes.max_by_key(|code| (*code == 4, *code)).unwrap_or(1)
}
