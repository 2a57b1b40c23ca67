// SPDX-License-Identifier: MIT OR Apache-2.0

//! Selections by process: a number alone may mean several, and a tree may be known only in part.

#[path = "support/mount.rs"]
mod mount;

use mount::{run, Files, Kernel};

/// A line of a process, its number with its start.
fn make(kernel: &mut Kernel, second: i64, name: &str, process: &str, more: &str) -> u64 {
    let node = 10 + kernel.seq;
    let keys = format!("name={name} node={node}.1 undo=none pid={process} {more} uid=1000");
    kernel.line(second, "1.1", "/bin/sh create 0 0", &keys)
}

fn start(second: i64) -> String {
    (mount::BEGINNING + second).to_string()
}

fn revert(kernel: &mut Kernel, words: &str) -> (u8, String, Vec<u64>) {
    let files = Files::of(&[]);
    let (code, _, complaint) = run(kernel, &files, &format!("revert {words} -n"));
    let asked = kernel.asked.pop().map(|(_, asked)| asked);
    (code, complaint, asked.unwrap_or_default())
}

#[test]
fn a_number_that_two_processes_had_is_refused() {
    let mut kernel = Kernel::new();
    let (old, new) = (start(10), start(2000));
    make(
        &mut kernel,
        20,
        "a",
        &format!("812@{old}.5"),
        "ppid=40 sid=40 args=cp%00a",
    );
    make(
        &mut kernel,
        2010,
        "b",
        &format!("812@{new}.25"),
        "ppid=40 sid=40 args=mv%00b",
    );
    for option in ["--pid", "--tree"] {
        let (code, complaint, asked) = revert(&mut kernel, &format!("{option} 812"));
        assert_eq!((code, asked.len()), (2, 0), "{complaint}");
        for part in [
            "2 processes had the number 812",
            "cp a",
            "mv b",
            &format!("812@{old}.5"),
        ] {
            assert!(complaint.contains(part), "no {part} in {complaint}");
        }
        assert!(
            complaint.contains("Hint: name one with its start, `812@"),
            "{complaint}"
        );
        let first = revert(&mut kernel, &format!("{option} 812@{old}.5"));
        assert_eq!((first.0, first.2), (0, vec![1]), "{}", first.1);
        let second = revert(&mut kernel, &format!("{option} 812@{new}.250"));
        assert_eq!((second.0, second.2), (0, vec![2]), "{}", second.1);
        // If one candidate is left, the number means that one.
        let newer = revert(&mut kernel, &format!("{option} 812 --since 40m"));
        assert_eq!((newer.0, newer.2), (0, vec![2]), "{}", newer.1);
        let by = revert(&mut kernel, &format!("{option} 812 --by cp"));
        assert_eq!((by.0, by.2), (0, vec![1]), "{}", by.1);
        let none = revert(&mut kernel, &format!("{option} 812@{old}.7"));
        assert_eq!(none.0, 1, "{}", none.1);
    }
    // To look at them needs no choice.
    let files = Files::of(&[]);
    let (code, said, _) = run(&mut kernel, &files, "log --pid 812");
    assert_eq!((code, said.lines().count()), (0, 3), "{said}");
    for wrong in ["", "x", "8@", "8@1.", "8@.5", "-1", "8@1.0000000001"] {
        let parsed = wrong.parse::<logctl::process::ProcessSpec>();
        assert!(parsed.is_err(), "{wrong}");
    }
}

#[test]
fn a_child_belongs_to_the_parent_of_its_time() {
    let mut kernel = Kernel::new();
    let at = |second| format!("{}.0", start(second));
    make(
        &mut kernel,
        10,
        "a",
        &format!("50@{}", at(5)),
        "ppid=1 sid=50",
    );
    make(
        &mut kernel,
        30,
        "b",
        &format!("60@{}", at(25)),
        "ppid=50 sid=50",
    );
    // The number 50 was given out again: this one is no child of the first.
    make(
        &mut kernel,
        100,
        "c",
        &format!("50@{}", at(90)),
        "ppid=70 sid=70",
    );
    make(
        &mut kernel,
        120,
        "d",
        &format!("61@{}", at(110)),
        "ppid=50 sid=70",
    );
    let first = revert(&mut kernel, &format!("--tree 50@{}", at(5)));
    // Numbers were given out again: who started the other one is not known.
    assert_eq!((first.0, first.2), (3, vec![2, 1]), "{}", first.1);
    let second = revert(&mut kernel, &format!("--tree 50@{}", at(90)));
    assert_eq!((second.0, second.2), (0, vec![4, 3]), "{}", second.1);
}

#[test]
fn a_reboot_ends_a_tree() {
    let mut kernel = Kernel::new();
    let at = |second| format!("{}.0", start(second));
    make(
        &mut kernel,
        10,
        "a",
        &format!("50@{}", at(5)),
        "ppid=40 sid=40",
    );
    kernel.next_segment();
    // Started after all that was logged before: the machine may have been restarted.
    make(
        &mut kernel,
        1000,
        "b",
        &format!("60@{}", at(900)),
        "ppid=50 sid=40",
    );
    let first = revert(&mut kernel, &format!("--tree 50@{}", at(5)));
    assert_eq!((first.0, first.2), (0, vec![1]), "{}", first.1);
    let (code, complaint, _) = revert(&mut kernel, "--tree 50");
    assert_eq!(code, 2, "{complaint}");
    assert!(
        complaint.contains("one that left no line, the parent of 60@"),
        "{complaint}"
    );
    // A process that was running before shows that the machine was not restarted.
    let mut kernel = Kernel::new();
    make(
        &mut kernel,
        10,
        "a",
        &format!("50@{}", at(5)),
        "ppid=40 sid=40",
    );
    kernel.next_segment();
    make(
        &mut kernel,
        1000,
        "b",
        &format!("60@{}", at(900)),
        "ppid=50 sid=40",
    );
    make(
        &mut kernel,
        1001,
        "c",
        &format!("40@{}", at(1)),
        "ppid=1 sid=40",
    );
    let both = revert(&mut kernel, "--tree 50");
    assert_eq!((both.0, both.2), (0, vec![2, 1]), "{}", both.1);
}

#[test]
fn what_may_belong_to_a_tree_is_named() {
    let mut kernel = Kernel::new();
    let at = |second| format!("{}.0", start(second));
    let root = "ppid=40 sid=40 args=agent";
    make(&mut kernel, 10, "a", &format!("50@{}", at(5)), root);
    make(
        &mut kernel,
        12,
        "b",
        &format!("51@{}", at(11)),
        "ppid=50 sid=40",
    );
    // Started by a shell, 55, that left no line.
    make(
        &mut kernel,
        14,
        "c",
        &format!("56@{}", at(13)),
        "ppid=55 sid=40 args=rm%00c",
    );
    // Of the shell that started the agent; of an older one; of another terminal; before; a service.
    make(
        &mut kernel,
        20,
        "d",
        &format!("60@{}", at(19)),
        "ppid=40 sid=40",
    );
    make(
        &mut kernel,
        21,
        "e",
        &format!("61@{}", at(19)),
        "ppid=30 sid=30",
    );
    make(
        &mut kernel,
        22,
        "f",
        &format!("45@{}", at(3)),
        "ppid=44 sid=44",
    );
    make(
        &mut kernel,
        23,
        "g",
        &format!("62@{}", at(19)),
        "ppid=1 sid=62",
    );
    let files = Files::of(&[]);
    let (code, said, complaint) = run(&mut kernel, &files, "revert --tree 50");
    assert_eq!(code, 3, "{said}{complaint}");
    assert!(
        said.starts_with("Took back 2 operations on 1 object:\n"),
        "{said}"
    );
    assert!(
        complaint.contains("1 process may belong to the tree"),
        "{complaint}"
    );
    assert!(complaint.contains("rm c  (op 3, parent 55)"), "{complaint}");
    assert_eq!(kernel.asked, [(0, vec![2, 1])]);
    let (code, _, complaint) = run(&mut kernel, &files, "revert --tree 50 -n");
    assert_eq!(code, 1, "taken back already: {complaint}");
    // The tree can be named by the shell that started it.
    let (code, _, complaint) = run(&mut kernel, &files, "revert --tree 55");
    assert_eq!(code, 0, "{complaint}");
    assert_eq!(kernel.asked.last().unwrap(), &(0, vec![3]));
}

#[test]
fn in_a_container_numbers_are_others() {
    let mut kernel = Kernel::new();
    let at = start(5);
    make(
        &mut kernel,
        10,
        "a",
        &format!("50@{at}.0"),
        "ppid=40 sid=40",
    );
    kernel.is_contained = true;
    for option in ["--pid", "--tree", "--session"] {
        let (code, complaint, asked) = revert(&mut kernel, &format!("{option} 50"));
        assert_eq!((code, asked.len()), (2, 0), "{complaint}");
        assert!(complaint.contains("as the host sees it"), "{complaint}");
    }
    let named = revert(&mut kernel, &format!("--pid 50@{at}.0"));
    assert_eq!((named.0, named.2), (0, vec![1]), "{}", named.1);
}

#[test]
fn a_clock_that_is_set_back_joins_nothing() {
    let mut kernel = Kernel::new();
    let one = format!("50@{}.0", start(5));
    for (second, name) in [
        (1000, "a"),
        (1001, "b"),
        (400, "c"),
        (401, "d"),
        (1500, "e"),
    ] {
        make(&mut kernel, second, name, &one, "ppid=40 sid=40");
    }
    let files = Files::of(&[]);
    let (_, said, _) = run(&mut kernel, &files, "log --json");
    assert_eq!(said.lines().count(), 3, "{said}");
    let (code, _, complaint) = run(&mut kernel, &files, "undo -2");
    assert_eq!(code, 0, "{complaint}");
    assert_eq!(kernel.asked.pop().unwrap().1, [5, 4, 3]);
    // Times mean those that were last: a and b came before the clock was set.
    let mut kernel = Kernel::new();
    for (second, name) in [(1000, "a"), (2000, "b"), (1100, "c"), (1200, "d")] {
        make(&mut kernel, second, name, &one, "ppid=40 sid=40");
    }
    // 41 minutes and 40 seconds ago is second 1100.
    let since = revert(&mut kernel, "--since 41m_45s");
    assert_eq!((since.0, since.2), (0, vec![4, 3, 2]), "{}", since.1);
    let until = revert(&mut kernel, "--until 41m");
    assert_eq!((until.0, until.2), (0, vec![3, 2, 1]), "{}", until.1);
    let (code, _, complaint) = run(&mut kernel, &files, "restore --to 41m -n");
    assert_eq!(code, 0, "{complaint}");
    assert_eq!(kernel.asked.pop().unwrap().1, [4]);
}
