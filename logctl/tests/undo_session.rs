// SPDX-License-Identifier: MIT OR Apache-2.0

//! An undo without words: the last action of the session, which for a person is the terminal.

#[path = "support/mount.rs"]
mod mount;

use logctl::session::Session;
use mount::{history, run, Files, Kernel};

/// The history of the session 40, and a newer line by a program of the session 99.
fn beside() -> (Kernel, Files) {
    let (mut kernel, files) = history();
    let date = "pid=90@3595.0 ppid=1 sid=99 uid=0 args=date";
    let keys = format!("open=. size=0 undo=none {date}");
    kernel.line(3595, "8.1", "/bin/date write 4 4", &keys);
    kernel.holds(8, 9, b"out\ndate");
    (kernel, files)
}

fn of(sid: u32, begin: i128) -> Option<Session> {
    Some(Session { sid, begin })
}

#[test]
fn the_work_of_another_session_stays() {
    let (mut kernel, files) = beside();
    kernel.session = of(40, 0);
    let (code, said, complaint) = run(&mut kernel, &files, "undo -n");
    assert_eq!(
        (code, &kernel.asked.last().unwrap().1[..]),
        (0, &[8, 7][..])
    );
    assert!(said.contains("bash (redirect)"), "{said}");
    let newer =
        "1 newer action is of other sessions: `logctl undo --any` takes the newest of all.\n";
    assert_eq!(complaint, newer);
    run(&mut kernel, &files, "undo -2 -n");
    assert_eq!(kernel.asked.last().unwrap().1, [8, 7, 6]);
    let (_, _, complaint) = run(&mut kernel, &files, "undo --any -n");
    assert_eq!(
        (&kernel.asked.last().unwrap().1[..], complaint.as_str()),
        (&[9][..], "")
    );
    // With the daemon's own session, and with none known.
    kernel.session = of(99, 0);
    assert_eq!(run(&mut kernel, &files, "undo -n").2, "");
    assert_eq!(kernel.asked.last().unwrap().1, [9]);
    kernel.session = None;
    assert_eq!(run(&mut kernel, &files, "undo -n").2, "");
    assert_eq!(kernel.asked.last().unwrap().1, [9]);
    // A path or a number names the action.
    kernel.session = of(40, 0);
    run(&mut kernel, &files, "undo 9 -n");
    assert_eq!(kernel.asked.last().unwrap().1, [9]);
    run(&mut kernel, &files, "undo build.log -n");
    assert_eq!(kernel.asked.last().unwrap().1, [9]);
}

/// The first processes of a machine are in a session that no process began.
#[test]
fn session_0_is_one_like_others() {
    let (mut kernel, files) = beside();
    let keys = "open=. size=0 undo=none pid=91@3595.0 ppid=1 sid=0 uid=0 args=sh";
    kernel.line(3596, "4.1", "/bin/sh write 4 4", keys);
    kernel.session = of(0, 0);
    run(&mut kernel, &files, "undo -n");
    assert_eq!(kernel.asked.last().unwrap().1, [10]);
    kernel.session = of(40, 0);
    run(&mut kernel, &files, "undo -n");
    assert_eq!(kernel.asked.last().unwrap().1, [8, 7]);
    // A line without a process.
    kernel.line(3597, "4.1", "- write 9 1", "open=99 size=9 undo=none");
    run(&mut kernel, &files, "undo -n");
    assert_eq!(kernel.asked.last().unwrap().1, [11]);
}

#[test]
fn a_session_without_actions_is_refused() {
    let (mut kernel, files) = beside();
    kernel.session = of(41, 0);
    let (code, said, complaint) = run(&mut kernel, &files, "undo");
    let expected = "error: nothing that was done in this terminal session is left to undo; nothing was changed\n\
        Hint: `logctl undo --any` takes the newest action of all back: 9, date\n";
    assert_eq!((code, said.as_str(), complaint.as_str()), (1, "", expected));
    assert!(kernel.asked.is_empty());
    // One that had the same number, before.
    let later = mount::now().timestamp().as_nanosecond() + 100_000_000_000;
    kernel.session = of(40, later);
    assert_eq!(run(&mut kernel, &files, "undo").0, 1);
    assert!(kernel.asked.is_empty());
    // More than the session has.
    kernel.session = of(99, 0);
    let (code, _, complaint) = run(&mut kernel, &files, "undo -2");
    assert_eq!(code, 1);
    assert!(
        complaint.contains("only one action is left to undo"),
        "{complaint}"
    );
}
