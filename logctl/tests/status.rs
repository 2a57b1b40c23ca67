// SPDX-License-Identifier: MIT OR Apache-2.0

//! `status` without a file: the history of the mount.

#[path = "support/mount.rs"]
mod mount;

use std::ffi::OsString;

use logctl::arguments::or_overview;
use logctl::uapi::Status;
use mount::{history, run, Kernel};
use rustix::io::Errno;

fn on() -> Status {
    Status {
        mount_flags: Status::MOUNT_HISTORY,
        seq: 8,
        log_bytes: 100_000,
        undo_bytes: 3_000_000,
        orphan_bytes: 1_000_000,
        history_max: 10_000_000,
        commit_seconds: 5,
        ..Status::default()
    }
}

/// The output of a command that succeeds.
fn said(kernel: &mut Kernel, words: &str) -> String {
    let (code, said, complaint) = run(kernel, &history().1, words);
    assert_eq!(code, 0, "{words}: {complaint}");
    said
}

#[test]
fn the_oldest_point_and_the_space_are_shown() {
    let (mut kernel, _) = history();
    kernel.status = Some(on());
    let shown = said(&mut kernel, "status");
    for part in [
        "history on, back to 2025-11-20 ",
        "operations 1 to 8)",
        "4.1 MB of 10.0 MB",
        "old content 3.0 MB, deleted files 1.0 MB, log 100.0 KB",
        "commit=5",
    ] {
        assert!(shown.contains(part), "no {part}: {shown}");
    }
    assert!(!shown.contains("dropped"), "{shown}");
    kernel.next_segment();
    kernel.dropped = 1;
    kernel.line(
        900,
        "4.1",
        "/bin/cp write 0 9",
        "open=. size=9 undo=none pid=50@5.0 uid=1000",
    );
    let shown = said(&mut kernel, "status");
    assert!(shown.contains("older history was dropped"), "{shown}");
}

#[test]
fn actions_follow_on_request() {
    let (mut kernel, _) = history();
    kernel.status = Some(on());
    let alone = said(&mut kernel, "status");
    let log = said(&mut kernel, "log -n 1");
    assert_eq!(said(&mut kernel, "status -n 1"), alone + &log);
}

#[test]
fn a_history_that_is_off_or_that_others_own_is_shown_as_far_as_known() {
    let (mut kernel, _) = history();
    kernel.status = Some(Status {
        mount_flags: 0,
        ..on()
    });
    assert!(said(&mut kernel, "status").contains("history off"));
    kernel.status = Some(Status {
        mount_flags: Status::MOUNT_HISTORY | Status::MOUNT_OF_OTHERS,
        seq: 0,
        ..Status::default()
    });
    let shown = said(&mut kernel, "status");
    assert!(shown.contains("history on, back to "), "{shown}");
    assert!(shown.contains("shown to administrators"), "{shown}");
    kernel.status = None;
    kernel.status_error = Some(Errno::ACCESS);
    let shown = said(&mut kernel, "status");
    assert!(shown.contains("history, back to "), "{shown}");
    assert!(shown.contains("shown to administrators"), "{shown}");
}

#[test]
fn logctl_alone_is_an_overview_on_a_mount_only() {
    let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
    let alone = words(&["logctl"]);
    assert_eq!(or_overview(alone.clone(), || false), alone);
    let overview = words(&["logctl", "status", "-n", "3"]);
    assert_eq!(or_overview(alone, || true), overview);
    let other = words(&["logctl", "log"]);
    assert_eq!(or_overview(other.clone(), || true), other);
}
