// SPDX-License-Identifier: MIT OR Apache-2.0

//! `who` lists a tree for each command that was typed, with all that it started; its name selects it.

#[path = "support/created.rs"]
mod created;
#[path = "support/mount.rs"]
mod mount;

use created::{create, process, taken};
use mount::{run, Files, Kernel};

/// A shell (40) that redirects; an agent (200), typed at it, with a tool, and another one in a session of its own
/// that has a shell (301) with job control; then another command (400).
fn history() -> Kernel {
    let mut kernel = Kernel::new();
    let (shell, agent) = (process(40, 1), process(200, 5));
    create(
        &mut kernel,
        6,
        "a",
        &shell,
        "ppid=1 sid=40 pgid=40 comm=bash args=bash",
    );
    let tool = format!("ppid=200 sid=40 pgid={agent} pgcomm=agent comm=sh anc={agent},{shell}");
    create(&mut kernel, 10, "b", &process(201, 9), &tool);
    let inner = process(301, 19);
    let beside = format!("ppid=301 sid=301 pgid=302 comm=cc args=cc anc={inner},{agent},{shell}");
    create(&mut kernel, 20, "c", &process(302, 19), &beside);
    let touch = format!("ppid=40 sid=40 pgid=400 comm=touch args=touch%00d anc={shell}");
    create(&mut kernel, 30, "d", &process(400, 29), &touch);
    kernel
}

/// The rows of a table, without the head.
fn rows(kernel: &mut Kernel, words: &str) -> Vec<Vec<String>> {
    let (code, said, complaint) = run(kernel, &Files::of(&[]), words);
    assert_eq!(code, 0, "{words}: {complaint}");
    let cells = |row: &str| row.split_whitespace().map(str::to_owned).collect();
    said.lines().skip(1).map(cells).collect()
}

#[test]
fn a_tree_has_all_that_a_command_started() {
    let mut kernel = history();
    let listed = rows(&mut kernel, "who");
    let short = |row: &Vec<String>| (row[0].clone(), row[1].clone());
    let names: Vec<(String, String)> = listed.iter().map(short).collect();
    let wanted = [("t4", "400"), ("t2", "200"), ("t1", "40")];
    assert_eq!(
        names,
        wanted.map(|(tree, pid)| (tree.to_owned(), pid.to_owned()))
    );
    assert!(
        listed[0].join(" ").contains("touch d +1 file d"),
        "{listed:?}"
    );
    assert!(
        listed[1].join(" ").contains("agent +2 files (2 actions)"),
        "{listed:?}"
    );
    assert!(listed[2].join(" ").contains("bash +1 file a"), "{listed:?}");
}

#[test]
fn a_trees_name_selects_it() {
    let mut kernel = history();
    assert_eq!(taken(&mut kernel, "revert --tree t2"), [3, 2]);
    // Any of its operations will do.
    assert_eq!(taken(&mut kernel, "revert --tree t3"), [3, 2]);
    assert_eq!(taken(&mut kernel, "revert --tree t4"), [4]);
    assert_eq!(rows(&mut kernel, "who --tree t3").len(), 1);
    let (code, _, complaint) = run(&mut kernel, &Files::of(&[]), "log --tree t99");
    assert_eq!(code, 1);
    assert!(
        complaint.contains("there is no operation 99 any more"),
        "{complaint}"
    );
}

#[test]
fn a_name_stays_after_an_undo() {
    let mut kernel = history();
    run(&mut kernel, &Files::of(&[]), "revert 2");
    let listed = rows(&mut kernel, "who --tree t2");
    assert_eq!(listed[0][0], "t2");
    assert!(
        listed[0].join(" ").contains("agent +1 file c"),
        "{listed:?}"
    );
}

#[test]
fn a_service_is_a_tree_of_its_own() {
    let mut kernel = Kernel::new();
    let daemon = process(70, 2);
    let worker = format!("ppid=70 sid=70 pgid={daemon} pgcomm=crond comm=sh anc={daemon}");
    create(&mut kernel, 10, "a", &process(80, 9), &worker);
    create(&mut kernel, 90, "b", &process(81, 89), &worker);
    let listed = rows(&mut kernel, "who");
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert!(
        listed[0].join(" ").contains("crond +2 files (2 actions)"),
        "{listed:?}"
    );
}

#[test]
fn json_has_the_tree_by_name() {
    let mut kernel = history();
    let (_, said, _) = run(&mut kernel, &Files::of(&[]), "who --json");
    let line = said.lines().nth(1).unwrap();
    for part in [
        "\"type\":\"tree\"",
        "\"tree\":\"t2\"",
        "\"pid\":200",
        "\"actions\":2",
        "\"operations\":2",
    ] {
        assert!(line.contains(part), "no {part}: {line}");
    }
}
