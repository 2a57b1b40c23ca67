// SPDX-License-Identifier: MIT OR Apache-2.0

//! The verbs on a whole mount: several undos at once, and objects that do not exist any more.

#[path = "support/mount.rs"]
mod mount;

use logctl::operation_spec::OperationSpec;
use logctl::uapi::{Reason, RevertGroup};
use mount::{history, live, run, Files, Kernel};
use serde_json::Value;
use unicode_width::UnicodeWidthStr;

/// Several undos are one request, in which an object has one line for all of them.
#[test]
fn several_undos_are_redone_at_once() {
    let (mut kernel, files) = history();
    let all = [8, 7, 6, 5, 4, 3, 2, 1];
    for _ in 0..2 {
        for _ in 0..4 {
            run(&mut kernel, &files, "undo");
        }
        assert_eq!(live(&mut kernel), [0u64; 0]);
        run(&mut kernel, &files, "redo");
        assert_eq!(live(&mut kernel), [2, 1]);
        let (code, _, complaint) = run(&mut kernel, &files, "redo 4");
        assert_eq!(code, 1);
        assert!(
            complaint.contains("only 3 undone actions are left"),
            "{complaint}"
        );
        kernel.asked.clear();
        let (code, dry, _) = run(&mut kernel, &files, "redo 3 -n");
        let (_, said, _) = run(&mut kernel, &files, "redo 3");
        assert_eq!((code, kernel.asked.len()), (0, 2));
        let expected = "Did again 5 \"rm -rf src\": -2 files  -1 dir.\n\
            Did again 6 \"vim notes\": ~1 file  notes.\n\
            Did again 8 \"bash (redirect)\": +1 file  build.log.\n";
        assert_eq!(said, expected);
        assert_eq!(dry, said.replace("Did again", "Would do again"));
        assert_eq!(live(&mut kernel), all);
        let (_, _, complaint) = run(&mut kernel, &files, "redo");
        assert!(complaint.contains("there is no undo"), "{complaint}");
    }
    // One of them cannot be: none of them is.
    run(&mut kernel, &files, "undo");
    run(&mut kernel, &files, "undo");
    let newest = kernel.seq;
    kernel
        .conflicts
        .extend((9..newest).map(|seq| (seq, (0, Reason::Conflict))));
    assert_eq!(run(&mut kernel, &files, "redo 2").0, 4);
    assert_eq!(kernel.seq, newest);
}

/// An action on files that never had a name is no step back, and the kernel leaves it out of
/// others.
#[test]
fn files_that_never_had_a_name_are_passed() {
    let (mut kernel, files) = history();
    let sort = "pid=80@8.0 ppid=40 sid=40 uid=1000 args=sort%00big";
    let keys = format!("open=. size=0 undo=none fh=01 unnamed=1 {sort}");
    kernel.line(3592, "9.1", "/usr/bin/sort write 0 4", &keys);
    kernel.gone.insert("9.1".into());
    let (_, said, _) = run(&mut kernel, &files, "log");
    assert!(said.contains("@ 8   10s ago "), "{said}");
    assert_eq!((said.lines().count(), said.contains("sort")), (5, false));
    let (_, said, _) = run(&mut kernel, &files, "log --ops -n 1");
    assert!(said.contains("  9   8s ago  sort big"), "{said}");
    let (_, said, _) = run(&mut kernel, &files, "show 9");
    assert!(said.starts_with("Action 9, 1 operation\n"), "{said}");
    let left_out =
        "1 operation on files that never had a name is left out: those files are gone.\n";
    let (code, said, complaint) = run(&mut kernel, &files, "revert 9");
    assert_eq!((code, said.as_str(), complaint.as_str()), (0, left_out, ""));
    for (words, asked) in [
        ("undo -n", vec![8, 7]),
        ("revert @ -n", vec![8, 7]),
        ("revert --last 1 -n", vec![8, 7]),
        ("restore --to @- -n", vec![9, 8, 7]),
        ("restore --to 6 -n", vec![9, 8, 7]),
    ] {
        let (code, said, complaint) = run(&mut kernel, &files, words);
        assert_eq!(code, 0, "{words}: {complaint}");
        assert_eq!(said.ends_with(left_out), asked[0] == 9, "{words}: {said}");
        assert_eq!(kernel.asked.last().unwrap().1, asked, "{words}");
    }
    let (_, said, _) = run(&mut kernel, &files, "restore --to 6 --json -n");
    let summary: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&summary["unnamed"], &summary["reverted"]),
        (&1.into(), &2.into())
    );
    run(&mut kernel, &files, "undo -4");
    let (_, _, complaint) = run(&mut kernel, &files, "undo");
    assert!(complaint.contains("nothing is left to undo"), "{complaint}");
    let (_, said, _) = run(&mut kernel, &files, "redo -4");
    assert_eq!(said.lines().count(), 4);
    // With a name it is one like others.
    let keys = format!("fh=01 was=1.0:4:- size=4 {sort}");
    kernel.line(3593, "9.1", "- close 0 0", &keys);
    let (_, said, _) = run(&mut kernel, &files, "log -n 1");
    assert!(said.contains("@ 9   8s ago  ana  sort big"), "{said}");
}

/// A dropped object has no conflicting operation: the rest can be taken back without it.
#[test]
fn what_was_dropped_is_named_with_a_way_out() {
    let (mut kernel, files) = history();
    kernel.conflicts.insert(4, (0, Reason::Trimmed));
    let (code, _, complaint) = run(&mut kernel, &files, "revert --by rm");
    let expected = "1 conflict among 3 operations; nothing changed.\n  \
          trimmed  src/b  its old content was dropped to free space (op 4)\n\
        Hint: --partial takes the others back (exit 3).\n";
    assert_eq!((code, complaint.as_str()), (1, expected));
    let (_, _, complaint) = run(&mut kernel, &files, "undo -3");
    let hint = "Hint: `logctl revert OP --partial` takes the rest of the action back (exit 3).\n";
    assert!(complaint.ends_with(hint), "{complaint}");
    // Of an object that is gone nothing can be taken back.
    let (mut kernel, files) = history();
    kernel.conflicts.insert(2, (0, Reason::Gone));
    let (code, _, complaint) = run(&mut kernel, &files, "revert --by cp --partial");
    assert_eq!(code, 3);
    let dropped = "dropped  notes  it is not there any more: dropped to free space, or removed \
        outside LoggerFS (op 2)\n";
    assert!(complaint.contains(dropped), "{complaint}");
}

/// A number names the action of that operation, a number behind a dash counts.
#[test]
fn undo_takes_the_number_of_an_action_or_a_count() {
    for (words, asked) in [
        ("undo 4", vec![5, 4, 3]),
        ("undo #6", vec![6]),
        ("undo 2 6", vec![6, 2, 1]),
        ("undo @-", vec![6]),
        ("undo @~3", vec![2, 1]),
        ("undo -2", vec![8, 7, 6]),
        ("undo --count 2", vec![8, 7, 6]),
        ("undo 1 /m/notes", vec![2, 1]),
        ("undo -1 /m/notes", vec![6]),
    ] {
        let (mut kernel, files) = history();
        let (code, said, complaint) = run(&mut kernel, &files, words);
        assert_eq!(code, 0, "{words}: {complaint}");
        assert_eq!(kernel.asked, [(RevertGroup::WALK, asked)], "{words}");
        assert!(said.starts_with("Undid "), "{words}: {said}");
        // The command that the hint names.
        let redo = complaint
            .split('`')
            .nth(1)
            .and_then(|hint| hint.strip_prefix("logctl "));
        let redo = redo.unwrap_or_else(|| panic!("no hint: {complaint}"));
        let (code, _, complaint) = run(&mut kernel, &files, redo);
        assert_eq!(code, 0, "{words}: {complaint}");
        assert_eq!(live(&mut kernel), [8, 7, 6, 5, 4, 3, 2, 1], "{words}");
    }
    let none = "error: no live operation 26 (`undo -26` counts actions); nothing was changed\n";
    for (words, exit, error) in [
        ("undo 26", 1, none),
        (
            "undo @~7",
            1,
            "error: the history does not go back that far",
        ),
        ("undo -2 6", 2, "error: -N counts the newest actions"),
        ("undo -9", 1, "error: only 4 actions are left to undo"),
    ] {
        let (mut kernel, files) = history();
        let (code, _, complaint) = run(&mut kernel, &files, words);
        assert_eq!(code, exit, "{words}: {complaint}");
        assert!(complaint.starts_with(error), "{words}: {complaint}");
        assert!(kernel.asked.is_empty(), "{words}");
    }
    // One that was taken back is not taken back again.
    let (mut kernel, files) = history();
    run(&mut kernel, &files, "undo 5");
    let (code, _, complaint) = run(&mut kernel, &files, "undo 5");
    assert!(
        code == 1 && complaint.contains("no live operation 5"),
        "{complaint}"
    );
    let (code, _, complaint) = run(&mut kernel, &files, "redo -2");
    assert!(
        code == 1 && complaint.contains("only one undone action is left"),
        "{complaint}"
    );
    assert_eq!(run(&mut kernel, &files, "redo -1").0, 0);
}

/// Many actions at once are asked about; a dry run is not.
#[test]
fn an_undo_of_many_actions_asks() {
    let (mut kernel, mut files) = history();
    for at in 0..9 {
        let bash = "pid=40@1.0 ppid=1 sid=40 uid=1000 args=-bash";
        let keys = format!("open=. size=4 undo=none {bash}");
        kernel.line(3591 + at, "8.1", "/bin/bash write 0 4", &keys);
    }
    files.declines = true;
    for (words, exit, questions) in [
        ("undo -10 -n", 0, 0),
        ("undo -11 -n", 0, 0),
        ("undo -10", 0, 0),
        ("redo -10", 0, 0),
        ("undo -11", 1, 1),
    ] {
        let (code, _, complaint) = run(&mut kernel, &files, words);
        assert_eq!(code, exit, "{words}: {complaint}");
        assert_eq!(files.questions.borrow().len(), questions, "{words}");
    }
    let question = "This takes 11 actions back. Go on?";
    assert_eq!(*files.questions.borrow(), [question]);
    files.declines = false;
    assert_eq!(run(&mut kernel, &files, "undo -11").0, 0);
    assert_eq!(live(&mut kernel), [5, 4, 3, 2, 1]);
}

/// The ends of a range are numbers, actions back, or open; no such word is a file.
#[test]
fn ranges_have_ends_of_all_forms() {
    let cases: [(&str, &[u64]); 12] = [
        ("5..", &[8, 7, 6, 5, 4, 3]),
        ("..5", &[5, 4, 3, 2, 1]),
        ("@-..", &[8, 7, 6]),
        ("..@-", &[6, 5, 4, 3, 2, 1]),
        ("@~2..@-", &[6, 5, 4, 3]),
        ("@~2..6", &[6, 5, 4, 3]),
        ("#5..@", &[8, 7, 6, 5, 4, 3]),
        ("@..@", &[8, 7]),
        ("4..4 2", &[2, 1]),
        ("--ops @~2..5", &[5, 4, 3]),
        ("--ops ..4", &[4, 3, 2, 1]),
        ("--ops @..", &[8, 7]),
    ];
    for (words, want) in cases {
        let (mut kernel, files) = history();
        let (code, said, complaint) = run(&mut kernel, &files, &format!("revert {words} -n"));
        if words == "4..4 2" {
            assert!(
                complaint.contains("no live operation in 4..4"),
                "{complaint}"
            );
            continue;
        }
        assert_eq!(code, 0, "{words}: {said}{complaint}");
        assert_eq!(
            kernel.asked,
            [(RevertGroup::DRY_RUN, want.to_vec())],
            "{words}"
        );
    }
    for (words, exit, error) in [
        (
            "5..2",
            2,
            "'5..2' is a reversed range, the oldest comes first: 2..5",
        ),
        (
            "@..@~2",
            2,
            "'@..@~2' is a reversed range, the oldest comes first: @~2..@",
        ),
        ("@..5", 2, "'@..5' is a reversed range"),
        ("--ops 8..@-", 2, "'8..@~1' is a reversed range"),
        ("9..", 1, "no live operation in 9.."),
        ("@~9..", 1, "the history does not go back that far"),
    ] {
        let is_ops = words.starts_with("--");
        for verb in ["log", "revert", "undo"]
            .into_iter()
            .skip(usize::from(is_ops))
        {
            if is_ops && verb == "undo" {
                continue;
            }
            let (mut kernel, files) = history();
            let (code, said, complaint) = run(&mut kernel, &files, &format!("{verb} {words}"));
            assert_eq!(
                (code, said.as_str()),
                (exit, ""),
                "{verb} {words}: {complaint}"
            );
            assert!(complaint.contains(error), "{verb} {words}: {complaint}");
            assert!(kernel.asked.is_empty());
        }
    }
    let (mut kernel, files) = history();
    let (_, said, _) = run(&mut kernel, &files, "log 5..@-");
    assert_eq!(said.lines().count(), 3, "{said}");
    assert_eq!(run(&mut kernel, &files, "undo @~2..@-").0, 0);
    assert_eq!(kernel.asked, [(RevertGroup::WALK, vec![6, 5, 4, 3])]);
    let (code, _, complaint) = run(&mut kernel, &files, "restore --to 2 2..");
    assert_eq!(code, 2, "{complaint}");
    assert!(
        complaint.contains("'2..' is a range of operations"),
        "{complaint}"
    );
}

/// `..` is a directory, and paths with dots are paths.
#[test]
fn paths_with_dots_are_no_ranges() {
    for word in [
        "..", "../2", "2...", "a..b", "2..x", "x..2", "@~..", "@x", "./2..", "",
    ] {
        assert_eq!(OperationSpec::parse(word), None, "{word}");
    }
}

/// A name that is not there and that no line has is an error, not an empty result.
#[test]
fn a_name_that_never_was_is_an_error() {
    for (words, name) in [
        ("log /m/nosuch", "nosuch"),
        ("log /m/notes /m/nosuch", "nosuch"),
        ("log --ops /m/no/such", "no/such"),
        ("undo /m/nosuch", "nosuch"),
        ("undo -3 /m/nosuch", "nosuch"),
        ("undo 5 /m/nosuch", "nosuch"),
        ("revert --last 1 /m/nosuch", "nosuch"),
        ("restore --to 2 /m/nosuch", "nosuch"),
        ("restore --to 2 /m/no/such", "no/such"),
    ] {
        let (mut kernel, mut files) = history();
        files.is_looking = true;
        let (code, said, complaint) = run(&mut kernel, &files, words);
        assert_eq!((code, said.as_str()), (1, ""), "{words}: {complaint}");
        let error = format!("error: nothing in /m is or was called '{name}'\n");
        assert!(complaint.starts_with(&error), "{words}: {complaint}");
        assert!(kernel.asked.is_empty(), "{words}");
    }
    for words in [
        "log /m/src",
        "log /m/src/c",
        "log /m/src/a/x",
        "log /m/build.log",
    ] {
        let (mut kernel, mut files) = history();
        files.is_looking = true;
        assert_eq!(run(&mut kernel, &files, words).0, 0, "{words}");
    }
}

/// Where older history was dropped, the log and a restore say since when there is one.
#[test]
fn a_log_that_was_cut_says_so() {
    let begins = "2025-11-20 14:43:11 (op 9)";
    for names_dropped in [false, true] {
        let (mut kernel, mut files) = history();
        kernel.next_segment();
        let bash = "pid=40@1.0 ppid=1 sid=40 uid=1000 args=-bash";
        for second in [3591, 3594] {
            let keys = format!("open=. size=4 undo=none {bash}");
            kernel.line(second, "8.1", "/bin/bash write 0 4", &keys);
        }
        assert!(!run(&mut kernel, &files, "log").1.contains("dropped"));
        (kernel.dropped, kernel.names_dropped) = (1, names_dropped);
        let end = format!(
            "  … older operations were dropped to free space: the history begins at {begins}.\n"
        );
        for (words, is_cut) in [
            ("log", true),
            ("log -n 1", false),
            ("log -n 2", true),
            ("log --ops", true),
            ("log --ops -n 1", false),
            ("log --since 7s", false),
            ("log --since 30m", true),
            ("log --last 1", false),
            ("log 9", false),
            ("log --json", false),
            ("log --until 8s", true),
        ] {
            let (code, said, complaint) = run(&mut kernel, &files, words);
            assert_eq!((code, complaint.as_str()), (0, ""), "{words}");
            assert_eq!(said.ends_with(&end), is_cut, "{words}: {said}");
            assert_eq!(said.contains("dropped"), is_cut, "{words}: {said}");
        }
        let (_, said, _) = run(&mut kernel, &files, "log --until 30m");
        let later = format!(
            "The history begins later, at {begins}: older operations were dropped to free space.\n"
        );
        assert_eq!(said, later);
        let (_, said, _) = run(&mut kernel, &files, "log --by vim");
        let nothing = format!(
            "Nothing was done since {begins}; older operations were dropped to free space.\n"
        );
        assert_eq!(said, nothing);
        for words in ["restore --to 30m", "restore --to 3"] {
            let (code, _, complaint) = run(&mut kernel, &files, words);
            assert_eq!(code, 1, "{words}: {complaint}");
            let error = format!("is older than the history, which begins at {begins}: ");
            assert!(complaint.contains(&error), "{words}: {complaint}");
        }
        files.is_looking = true;
        let (_, _, complaint) = run(&mut kernel, &files, "log /m/src");
        let error = format!("nothing in /m is or was called 'src' since {begins}\n");
        assert!(complaint.contains(&error), "{complaint}");
    }
}

/// Columns are as wide as a terminal prints them, and a time of another day has its date.
#[test]
fn tables_are_aligned_by_what_a_terminal_shows() {
    let mut kernel = Kernel::new();
    for (second, args) in [
        (-50_000, "cp%00%E6%96%87%E4%BB%B6".to_owned()),
        (100, "rm%00%F0%9F%98%80e%CC%81".to_owned()),
        (200, "sh%00".to_owned() + &"%E6%96%87".repeat(30)),
        (300, "cp%00plain".to_owned()),
    ] {
        let keys = format!("open=. size=0 undo=none pid=5{second}@5.0 sid=1 uid=0 args={args}")
            .replace("pid=5-", "pid=5");
        kernel.line(second, "4.1", "/bin/x write 0 9", &keys);
    }
    let files = Files::of(&[("f", 4)]);
    let (_, said, _) = run(&mut kernel, &files, "log");
    let head = said.lines().next().unwrap();
    let column = head.find("CHANGES").unwrap();
    for line in said.lines().skip(1) {
        let before = line.split("~1 file").next().unwrap();
        assert_eq!(before.width(), column, "{said}");
    }
    assert!(
        said.contains("  2025-11-19 23:50  root  cp '文件' "),
        "{said}"
    );
    assert!(said.contains("  58m ago "), "{said}");
    let cut = format!("sh '{}…", "文".repeat(17));
    assert!(said.contains(&cut), "{said}");
}
