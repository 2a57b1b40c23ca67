// SPDX-License-Identifier: MIT OR Apache-2.0

//! `status`: the state of a file and of the history of its mount.

use std::path::Path;

use crate::error::Error;
use crate::json::{self, on_error, on_full, uuid};
use crate::object::Object;
use crate::output::Output;
use crate::quote::quoted;
use crate::uapi::{Status, VERSION};

/// Prints the status.
pub fn run(object: &mut impl Object, path: &Path, output: &mut Output<'_>) -> Result<(), Error> {
    let mut status = Status {
        version: VERSION,
        ..Status::default()
    };
    object
        .status(&mut status)
        .map_err(|errno| Error::from_errno(path, "ask for the status of", errno))?;
    if output.json {
        return output.object(&json::status(path, &status));
    }
    output.text(&format!("{}\n", quoted(path)))?;
    for (name, value) in file(&status).into_iter().chain(history(&status)) {
        output.text(&format!("  {name:<12}{value}\n"))?;
    }
    Ok(())
}

/// The state of the file.
fn file(status: &Status) -> Vec<(&'static str, String)> {
    let live = match (status.live, status.last_seq) {
        (0, _) => "none to revert".into(),
        (live, last) if live >= Status::MAX_LIVE => {
            format!("{live} or more to revert, the newest is op {last}")
        }
        (live, last) => format!("{live} to revert, the newest is op {last}"),
    };
    let object = format!("inode {}, generation {}", status.inode, status.generation);
    vec![("object", object), ("operations", live)]
}

/// The state of the history of the mount.
fn history(status: &Status) -> Vec<(&'static str, String)> {
    let on = status.mount_flags & Status::MOUNT_HISTORY != 0;
    let mut state = vec![if on { "on" } else { "off" }];
    let flags = [
        (Status::MOUNT_PRIVATE, "private"),
        (Status::MOUNT_READ_ONLY, "read-only"),
    ];
    let set = |flag: u32| status.mount_flags & flag != 0;
    state.extend(
        flags
            .iter()
            .filter(|(flag, _)| set(*flag))
            .map(|(_, name)| *name),
    );
    let used = (status.log_bytes)
        .saturating_add(status.undo_bytes)
        .saturating_add(status.orphan_bytes);
    let used = bytes(used);
    let max = match status.history_max {
        0 => String::new(),
        max => format!(" of {}", bytes(max)),
    };
    let is_of_others = set(Status::MOUNT_OF_OTHERS);
    let space = format!(
        "{used}{max} in {} segments (log {}, old content {}, deleted files {})",
        status.segments,
        bytes(status.log_bytes),
        bytes(status.undo_bytes),
        bytes(status.orphan_bytes)
    );
    let state = state.join(", ");
    let (state, space) = match (is_of_others, status.history_max) {
        (false, _) => (format!("{state}, last op {}", status.seq), space),
        (true, 0) => (state, "shown to administrators".into()),
        (true, max) => (
            state,
            format!(
                "at most {}; the used space is shown to administrators",
                bytes(max)
            ),
        ),
    };
    let id = format!("{} (format {})", uuid(&status.uuid), status.format);
    let mut rows = vec![
        ("history", state),
        ("uuid", id),
        ("space", space),
        ("policy", policy(status)),
    ];
    if status.lost != 0 || status.errors != 0 {
        let (lost, errors) = (status.lost, status.errors);
        let text = format!("{lost} operations without their old content, {errors} journal errors");
        rows.push(("trouble", text));
    }
    rows
}

/// The policies of the mount.
pub fn policy(status: &Status) -> String {
    format!(
        "on_full={}, on_error={}, commit={}",
        on_full(status),
        on_error(status),
        status.commit_seconds
    )
}

/// A number of bytes for people.
fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let (mut whole, mut tenths, mut unit) = (bytes / 1000, bytes / 100 % 10, 0);
    while whole >= 1000 && unit + 1 < UNITS.len() {
        (whole, tenths, unit) = (whole / 1000, whole / 100 % 10, unit + 1);
    }
    format!("{whole}.{tenths} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn bytes_for_people() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (4_215_000, "4.2 MB"),
            (10 * (1 << 30), "10.7 GB"),
            (u64::MAX, "18.4 EB"),
        ];
        for (number, text) in cases {
            assert_eq!(bytes(number), text);
        }
    }
}
