// SPDX-License-Identifier: MIT OR Apache-2.0

//! A command line is one action: the processes of a process group, split at pauses. A
//! process tree is found by recorded ancestors, also through processes that changed nothing.

#[path = "support/created.rs"]
mod created;
#[path = "support/mount.rs"]
mod mount;

use created::{create, process, taken};
use mount::{run, Files, Kernel, BEGINNING};

/// The rows of the log, the newest first, without the head.
fn log(kernel: &mut Kernel) -> Vec<String> {
    let (code, said, complaint) = run(kernel, &Files::of(&[]), "log");
    assert_eq!(code, 0, "{complaint}");
    said.lines().skip(1).map(str::to_owned).collect()
}

/// `make`, which changes nothing itself, with three compilers after each other, and then a linker that runs long.
fn compiled(kernel: &mut Kernel) -> String {
    let make = process(100, 10);
    for (number, start, end) in [(101, 10, 15), (102, 15, 22), (103, 22, 30), (104, 30, 55)] {
        let who = format!("ppid=100 sid=40 pgid={make} pgcomm=make comm=cc args=cc%00-c");
        let name = format!("o{number}");
        create(kernel, end, &name, &process(number, start), &who);
    }
    make
}

#[test]
fn a_command_line_with_children_is_one_action() {
    let mut kernel = Kernel::new();
    compiled(&mut kernel);
    let rows = log(&mut kernel);
    assert_eq!(rows.len(), 1, "{rows:#?}");
    for part in [" make ", "+4 files", "(4 processes)"] {
        assert!(rows[0].contains(part), "no {part}: {}", rows[0]);
    }
    assert_eq!(taken(&mut kernel, "undo"), [4, 3, 2, 1]);
}

#[test]
fn the_processes_of_an_action_are_listed() {
    let mut kernel = Kernel::new();
    compiled(&mut kernel);
    let (code, said, complaint) = run(&mut kernel, &Files::of(&[]), "log -p");
    assert_eq!(code, 0, "{complaint}");
    let rows: Vec<&str> = said.lines().skip(1).collect();
    assert_eq!(rows.len(), 5, "{said}");
    for (row, pid) in rows[1..].iter().zip(101..) {
        for part in [
            format!(" {pid} "),
            "  cc -c ".into(),
            format!("+1 file  o{pid}"),
        ] {
            assert!(row.contains(&part), "no {part}: {row}");
        }
    }
    let (_, said, _) = run(&mut kernel, &Files::of(&[]), "log -p --json");
    assert_eq!(said.matches("\"type\":\"process\"").count(), 4, "{said}");
}

#[test]
fn the_next_command_line_is_another_action() {
    let mut kernel = Kernel::new();
    let who = |pgid: u32| format!("ppid=40 sid=40 pgid={pgid} comm=touch args=touch");
    create(&mut kernel, 10, "a", &process(50, 10), &who(50));
    create(&mut kernel, 10, "b", &process(51, 10), &who(51));
    assert_eq!(log(&mut kernel).len(), 2);
    assert_eq!(taken(&mut kernel, "undo"), [2]);
}

#[test]
fn a_pause_splits_what_an_agent_does() {
    let mut kernel = Kernel::new();
    let agent = process(200, 5);
    // Started by the agent's leader, long after what went before.
    let tool = format!("ppid=200 sid=40 pgid={agent} pgcomm=agent comm=sh args=sh");
    create(&mut kernel, 10, "a", &process(201, 9), &tool);
    create(&mut kernel, 100, "b", &process(202, 99), &tool);
    // The leader's own: when it started says nothing.
    let own = "ppid=40 sid=40 pgid=200 comm=agent args=agent";
    create(&mut kernel, 200, "c", &agent, own);
    create(&mut kernel, 300, "d", &agent, own);
    create(&mut kernel, 301, "e", &agent, own);
    let rows = log(&mut kernel);
    assert_eq!(rows.len(), 4, "{rows:#?}");
    assert_eq!(taken(&mut kernel, "undo"), [5, 4]);
    // One process' own pauses count, also if it was started a moment ago.
    let who = format!("ppid=200 sid=40 pgid={agent} pgcomm=agent comm=sh args=sh");
    create(&mut kernel, 310, "f", &process(203, 309), &who);
    create(&mut kernel, 320, "g", &process(203, 309), &who);
    assert_eq!(taken(&mut kernel, "undo"), [7]);
}

#[test]
fn a_number_given_out_again_is_another_group() {
    let mut kernel = Kernel::new();
    let member = |start| {
        format!(
            "ppid=100 sid=40 pgid={} pgcomm=make comm=cc",
            process(100, start)
        )
    };
    create(&mut kernel, 10, "a", &process(101, 10), &member(9));
    create(&mut kernel, 11, "b", &process(102, 11), &member(11));
    assert_eq!(log(&mut kernel).len(), 2);
    // The leader has ended: the group with that number in this session.
    create(
        &mut kernel,
        11,
        "c",
        &process(103, 11),
        "ppid=1 sid=40 pgid=100 comm=cc",
    );
    assert_eq!(log(&mut kernel).len(), 2);
    create(
        &mut kernel,
        11,
        "d",
        &process(104, 11),
        "ppid=1 sid=77 pgid=100 comm=cc",
    );
    assert_eq!(log(&mut kernel).len(), 3);
}

#[test]
fn redirections_of_an_interactive_shell_stay_apart() {
    let mut kernel = Kernel::new();
    let shell = process(40, 1);
    let own = "ppid=1 sid=40 pgid=40 comm=bash args=bash";
    create(&mut kernel, 10, "a", &shell, own);
    create(&mut kernel, 10, "b", &shell, own);
    assert_eq!(log(&mut kernel).len(), 2);
    // Without job control the children are in the shell's group: a script.
    let child = format!("ppid=40 sid=40 pgid={shell} pgcomm=bash comm=cp");
    create(&mut kernel, 10, "c", &process(60, 10), &child);
    create(&mut kernel, 10, "d", &shell, own);
    create(&mut kernel, 10, "e", &process(61, 10), &child);
    assert_eq!(taken(&mut kernel, "undo"), [5, 4, 3, 2, 1]);
}

#[test]
fn a_tree_is_found_through_processes_that_changed_nothing() {
    let mut kernel = Kernel::new();
    let (agent, shell) = (process(200, 5), process(40, 1));
    let anc = |middle: u32| format!("anc={},{agent},{shell}", process(middle, 7));
    let who = |middle: u32| {
        format!(
            "ppid={middle} sid=40 pgid={agent} pgcomm=agent comm=sh {}",
            anc(middle)
        )
    };
    create(&mut kernel, 10, "a", &process(301, 9), &who(300));
    create(&mut kernel, 20, "b", &process(303, 19), &who(302));
    let mine = format!("ppid=40 sid=40 pgid=400 comm=touch anc={shell}");
    create(&mut kernel, 30, "c", &process(400, 29), &mine);
    assert_eq!(taken(&mut kernel, "revert --tree 300"), [1]);
    assert_eq!(taken(&mut kernel, "revert --tree 302"), [2]);
    // In the background, its parent has ended: the group says that it is the agent's.
    let orphan = format!("ppid=1 sid=40 pgid={agent} pgcomm=agent comm=sleep");
    create(&mut kernel, 40, "d", &process(305, 39), &orphan);
    // `agent | tee log`: the other end of the pipeline is no child of the agent.
    let tee = format!("ppid=40 sid=40 pgid={agent} pgcomm=agent comm=tee anc={shell}");
    create(&mut kernel, 50, "e", &process(306, 49), &tee);
    assert_eq!(taken(&mut kernel, "revert --tree 200"), [4, 2, 1]);
    assert_eq!(
        taken(&mut kernel, &format!("revert --tree {agent}")),
        [4, 2, 1]
    );
    // All of the shell's.
    assert_eq!(taken(&mut kernel, "revert --tree 40"), [5, 4, 3, 2, 1]);
}

#[test]
fn ancestors_with_one_number_are_told_apart() {
    let mut kernel = Kernel::new();
    let who = |start| {
        format!(
            "ppid=300 sid=40 pgid=301 comm=sh anc={},{}",
            process(300, start),
            process(40, 1)
        )
    };
    create(&mut kernel, 10, "a", &process(301, 9), &who(8));
    create(&mut kernel, 1000, "b", &process(301, 999), &who(998));
    let (code, _, complaint) = run(&mut kernel, &Files::of(&[]), "revert --tree 300 -n");
    assert_eq!(code, 2, "{complaint}");
    assert!(
        complaint.contains("2 processes had the number 300"),
        "{complaint}"
    );
    assert_eq!(
        taken(&mut kernel, &format!("revert --tree {}", process(300, 998))),
        [2]
    );
}

/// An editor tries the directory with a file that it removes again, and writes the other one in place.
#[test]
fn a_temporary_name_hides_no_change() {
    let mut kernel = Kernel::new();
    let vim = format!(
        "pid={} ppid=40 sid=40 pgid=50 uid=1000 args=vim",
        process(50, 10)
    );
    let line = |kernel: &mut Kernel, object: &str, words: &str, keys: &str| {
        kernel.line(
            20,
            object,
            &format!("/usr/bin/vim {words}"),
            &format!("{keys} undo=none {vim}"),
        );
    };
    line(&mut kernel, "1.1", "create 0 0", "name=4913 node=9.1");
    line(&mut kernel, "9.1", "setattr 0 0", "size=0");
    line(
        &mut kernel,
        "1.1",
        "unlink 0 0",
        "name=4913 node=9.1 kept=1",
    );
    let (_, said, _) = run(&mut kernel, &Files::of(&[]), "log --all");
    assert!(said.contains("nothing left of it"), "{said}");
    line(&mut kernel, "4.1", "write 0 4", "open=. size=0");
    let rows = log(&mut kernel);
    assert!(rows[0].contains("~1 file"), "{rows:?}");
    // A directory that was made before, and a file in it.
    line(&mut kernel, "1.1", "mkdir 0 0", "name=d node=7.1");
    line(&mut kernel, "7.1", "setattr 0 0", "size=0");
    line(&mut kernel, "1.1", "rmdir 0 0", "name=d node=7.1 kept=1");
    let rows = log(&mut kernel);
    assert!(
        rows[0].contains("~1 file") && !rows[0].contains("dir"),
        "{rows:?}"
    );
}

/// Two hundred commands each second: a screen of the log costs its own lines, and not those of two seconds.
#[test]
fn commands_without_pauses_are_read_no_further_than_their_groups_reach() {
    let mut kernel = Kernel::new();
    for command in 0..4000 {
        let (second, milliseconds) = (10 + i64::from(command) / 200, command % 200 * 5);
        kernel.milliseconds = milliseconds;
        let pid = 1000 + command;
        let process = format!("{pid}@{}.{milliseconds:03}", BEGINNING + second);
        let who = format!("ppid=40 sid=40 pgid={pid} comm=touch args=touch");
        create(&mut kernel, second, &format!("f{command}"), &process, &who);
    }
    let (code, said, complaint) = run(&mut kernel, &Files::of(&[]), "log -n 3");
    assert_eq!(code, 0, "{complaint}");
    assert_eq!(
        said.lines().filter(|row| row.contains("touch")).count(),
        3,
        "{said}"
    );
    assert!(kernel.read < 300, "{} lines", kernel.read);
}
