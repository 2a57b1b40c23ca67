// SPDX-License-Identifier: MIT OR Apache-2.0

//! The verbs on a whole mount, with a simulated kernel.

#[path = "support/mount.rs"]
mod mount;
#[path = "support/schema.rs"]
mod schema;

use clap::CommandFactory;
use logctl::cli::Cli;
use logctl::uapi::{Reason, RevertGroup};
use mount::{history, live, run, Files, Kernel};
use schema::Schema;
use serde_json::Value;

const WALK: u32 = RevertGroup::WALK;
const DRY_RUN: u32 = RevertGroup::DRY_RUN;
const NO_REDO: u32 = RevertGroup::NO_REDO;

#[test]
fn the_log_is_a_table_of_actions() {
    let (mut kernel, files) = history();
    let (code, said, complaint) = run(&mut kernel, &files, "log");
    assert_eq!((code, complaint.as_str()), (0, ""));
    let expected = "  ID  WHEN     WHO  COMMAND          CHANGES
@ 8   10s ago  ana  bash (redirect)  +1 file  build.log
  6   26m ago  ana  vim notes        ~1 file  notes
  5   58m ago  ana  rm -rf src       -2 files  -1 dir
  2   59m ago  ana  cp x notes       +1 file  notes
";
    assert_eq!(said, expected);
    let (_, said, _) = run(&mut kernel, &files, "log -n 2");
    assert_eq!(said.lines().count(), 3);
    let (_, said, _) = run(&mut kernel, &files, "log --ops --by rm");
    let expected = "  ID  WHEN     COMMAND     OPERATION  WHERE
  5   58m ago  rm -rf src  rmdir      src
  4   58m ago  rm -rf src  unlink     src/b
  3   58m ago  rm -rf src  unlink     src/a
";
    assert_eq!(said, expected);
    let (_, said, _) = run(&mut kernel, &files, "log /m/notes");
    let ids: Vec<&str> = said
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    assert_eq!(ids, ["6", "2"]);
    let mut empty = Kernel::new();
    assert_eq!(run(&mut empty, &files, "log").1, "Nothing was done.\n");
}

#[test]
fn an_action_is_shown_by_any_of_its_numbers() {
    let (mut kernel, files) = history();
    let (code, said, _) = run(&mut kernel, &files, "show 4");
    let expected = "\
Action 5, 3 operations
  command  rm -rf src
  when     2025-11-20 13:45:00
  who      ana
  process  60@6.0, parent 40, session 40
  changes  -2 files  -1 dir
  5  rmdir   src
  4  unlink  src/b
  3  unlink  src/a
";
    assert_eq!((code, said.as_str()), (0, expected));
    assert_eq!(run(&mut kernel, &files, "show #5").1, expected);
    assert_eq!(run(&mut kernel, &files, "show @~2").1, expected);
    let (code, _, complaint) = run(&mut kernel, &files, "show 77");
    assert_eq!(code, 1);
    assert!(
        complaint.starts_with("error: no live operation '77'"),
        "{complaint}"
    );
}

#[test]
fn undo_walks_back_and_redo_forth() {
    let (mut kernel, files) = history();
    let (code, dry, complaint) = run(&mut kernel, &files, "undo -n");
    assert_eq!((code, complaint.as_str()), (0, ""));
    assert_eq!(
        dry,
        "Would undo 8 \"bash (redirect)\": build.log would be gone.\n"
    );
    let (code, said, complaint) = run(&mut kernel, &files, "undo");
    assert_eq!(
        (code, said.as_str()),
        (0, "Undid 8 \"bash (redirect)\": build.log is gone.\n")
    );
    assert_eq!(complaint, "Hint: `logctl redo` takes the undo back.\n");
    let (_, said, _) = run(&mut kernel, &files, "undo -2");
    let expected = "Undid 6 \"vim notes\": notes is as it was before.\n\
        Undid 5 \"rm -rf src\": 2 files and 1 directory are back.\n";
    assert_eq!(said, expected);
    let asked: Vec<_> = kernel.asked.clone();
    assert_eq!(asked[0], (WALK | DRY_RUN, vec![8, 7]));
    assert_eq!(asked[1], (WALK, vec![8, 7]));
    assert_eq!(asked[2], (WALK, vec![6, 5, 4, 3]));
    assert_eq!(live(&mut kernel), [2, 1]);
    // One action of the two; the other is undone once more.
    let (code, said, complaint) = run(&mut kernel, &files, "redo");
    let expected = "Did again 5 \"rm -rf src\": -2 files  -1 dir.\n";
    assert_eq!((code, said.as_str()), (0, expected));
    assert!(
        complaint.contains("1 action of that undo is left"),
        "{complaint}"
    );
    assert_eq!(kernel.asked.last().unwrap(), &(WALK, vec![6]));
    assert_eq!(live(&mut kernel), [5, 4, 3, 2, 1]);
    run(&mut kernel, &files, "undo");
    let (code, said, _) = run(&mut kernel, &files, "redo 2");
    let expected = "Did again 5 \"rm -rf src\": -2 files  -1 dir.\n\
        Did again 6 \"vim notes\": ~1 file  notes.\n";
    assert_eq!((code, said.as_str()), (0, expected));
    assert_eq!(live(&mut kernel), [6, 5, 4, 3, 2, 1]);
    let (code, said, _) = run(&mut kernel, &files, "redo");
    assert_eq!(
        (code, said.as_str()),
        (0, "Did again 8 \"bash (redirect)\": +1 file  build.log.\n")
    );
    assert_eq!(live(&mut kernel), [8, 7, 6, 5, 4, 3, 2, 1]);
    let (code, _, complaint) = run(&mut kernel, &files, "redo");
    assert_eq!(code, 1);
    assert!(
        complaint.contains("there is no undo to be taken back"),
        "{complaint}"
    );
    let (code, _, complaint) = run(&mut kernel, &files, "undo -9");
    assert_eq!(code, 1);
    assert!(
        complaint.contains("only 4 actions are left to undo"),
        "{complaint}"
    );
}

#[test]
fn undo_without_redo_says_so() {
    let (mut kernel, files) = history();
    let (code, said, complaint) = run(&mut kernel, &files, "undo --no-redo");
    assert_eq!(
        (code, said.as_str()),
        (
            0,
            "Undid 8 \"bash (redirect)\": build.log is gone.\n\
             It cannot be redone: the replaced content was not saved (--no-redo).\n"
        )
    );
    assert_eq!(complaint, "");
    assert_eq!(kernel.asked[0], (WALK | NO_REDO, vec![8, 7]));
}

#[test]
fn a_revert_is_an_operation_that_undo_takes_back() {
    let (mut kernel, files) = history();
    let (code, dry, _) = run(&mut kernel, &files, "revert 5 -n");
    assert_eq!(code, 0);
    let expected =
        "Would take back 3 operations on 2 objects:\n  5  ana  rm -rf src  -2 files  -1 dir\n";
    assert_eq!(dry, expected);
    let (code, said, complaint) = run(&mut kernel, &files, "revert 5");
    assert_eq!((code, said), (0, expected.replace("Would take", "Took")));
    assert_eq!(complaint, "Hint: `logctl undo` takes that back.\n");
    assert_eq!(kernel.asked[1], (0, vec![5, 4, 3]));
    let numbers = live(&mut kernel);
    assert!([3, 4, 5].iter().all(|seq| !numbers.contains(seq)) && numbers.len() == 7);
    let (_, said, _) = run(&mut kernel, &files, "log -n 1");
    assert!(said.contains("logctl (revert)"), "{said}");
    // A dry run of the newest operations of a file prints the plan, too.
    let (code, dry, _) = run(&mut kernel, &files, "revert /m/notes --count 2 -n");
    assert_eq!(code, 0, "{dry}");
    assert_eq!(kernel.asked.last().unwrap(), &(WALK | DRY_RUN, vec![6, 2]));
    assert_eq!(
        run(&mut kernel, &files, "revert /m/notes --count 3 -n").0,
        1
    );
    // Both of its lines at once.
    let (code, said, _) = run(&mut kernel, &files, "undo");
    assert!(
        said.ends_with(": 2 files and 1 directory are gone.\n"),
        "{code} {said}"
    );
    assert_eq!(live(&mut kernel), [8, 7, 6, 5, 4, 3, 2, 1]);
    // Two steps back: past the revert, and past the operations that it had taken back.
    run(&mut kernel, &files, "redo");
    run(&mut kernel, &files, "undo -3");
    assert_eq!(live(&mut kernel), [5, 4, 3, 2, 1]);
}

#[test]
fn files_that_a_revert_merged_go_back_with_it() {
    let (mut kernel, files) = history();
    run(&mut kernel, &files, "revert 5");
    let lines = kernel.asked[0].1.len();
    let merge = |kernel: &mut mount::Kernel, object, pid| {
        let keys = format!("open=. size=9 undo=none pid={pid}@9.0 uid=0 args=logctl%00revert");
        kernel.line(3001, object, "/usr/bin/logctl write 0 4", &keys)
    };
    let (one, other) = (merge(&mut kernel, "4.1", 9), merge(&mut kernel, "8.1", 9));
    let (_, said, _) = run(&mut kernel, &files, "log -n 1");
    assert!(said.contains("logctl revert"), "{said}");
    assert!(said.contains("(takes 5 back)"), "{said}");
    let (code, _, complaint) = run(&mut kernel, &files, "undo");
    assert_eq!(code, 0, "{complaint}");
    let asked = &kernel.asked.last().unwrap().1;
    assert_eq!(asked[..2], [other, one]);
    assert_eq!((lines, asked.len()), (3, 4));
    assert_eq!(live(&mut kernel), [8, 7, 6, 5, 4, 3, 2, 1]);
    // What another process wrote is its own action.
    let (mut kernel, files) = history();
    run(&mut kernel, &files, "revert 5");
    let alone = merge(&mut kernel, "4.1", 10);
    run(&mut kernel, &files, "undo");
    assert_eq!(kernel.asked.last().unwrap().1, [alone]);
}

#[test]
fn selections_narrow_each_other() {
    let cases: [(&str, &[u64]); 21] = [
        ("--by vim", &[6]),
        ("--by rm", &[5, 4, 3]),
        ("--by notes", &[6]),
        ("--by cp", &[2, 1]),
        ("--pid 60", &[5, 4, 3]),
        ("--tree 40", &[8, 7, 6, 5, 4, 3, 2, 1]),
        ("--tree 60", &[5, 4, 3]),
        ("--user ana", &[8, 7, 6, 5, 4, 3, 2, 1]),
        ("--session 40 --by vim", &[6]),
        ("--since 30m", &[8, 7, 6]),
        ("--until 30m", &[5, 4, 3, 2, 1]),
        ("--since 59m --until 58m", &[5, 4, 3]),
        ("--path no*", &[6, 2, 1]),
        ("--path src/*", &[4, 3]),
        ("--path **/*.log", &[8, 7]),
        ("--last 2", &[8, 7, 6]),
        ("--last 1 --by rm", &[5, 4, 3]),
        ("--open 6", &[6]),
        ("2..5", &[5, 4, 3, 2, 1]),
        ("--ops 2..4", &[4, 3, 2]),
        ("@- 2", &[6, 2, 1]),
    ];
    for (words, want) in cases {
        let (mut kernel, files) = history();
        let (code, said, complaint) = run(&mut kernel, &files, &format!("revert {words} -n"));
        assert_eq!(code, 0, "{words}: {said}{complaint}");
        assert_eq!(kernel.asked, [(DRY_RUN, want.to_vec())], "{words}");
    }
    for (words, exit) in [
        ("--by nobody", 1),
        ("--user nobody", 2),
        ("--since 10m_from_now", 2),
        ("--since tomorrow", 2),
        ("--path [", 2),
        ("77", 1),
        ("@~9", 1),
        ("", 2),
        ("5 --count 2", 2),
        ("--last 1 --flat", 2),
    ] {
        let (mut kernel, files) = history();
        let line = format!("revert {words}");
        let (code, said, complaint) = run(&mut kernel, &files, line.trim_end());
        assert_eq!((code, said.as_str()), (exit, ""), "{words}: {complaint}");
        assert!(
            complaint.starts_with("error: ") && complaint.contains("Hint: "),
            "{complaint}"
        );
        assert!(kernel.asked.is_empty());
    }
}

#[test]
fn conflicts_are_named_and_nothing_is_changed() {
    let (mut kernel, files) = history();
    kernel.conflicts.insert(2, (6, Reason::Conflict));
    let (code, said, complaint) = run(&mut kernel, &files, "revert --by cp");
    assert_eq!((code, said.as_str()), (4, ""));
    let expected = "1 conflict among 2 operations; nothing changed.\n  \
          conflict  notes  changed later by vim (op 6)\n\
        Hint: --partial takes the others back (exit 3), --merge also lines of text files; `logctl \
        revert OP` takes what is in the way back first.\n";
    assert_eq!(complaint, expected);
    assert_eq!(live(&mut kernel).len(), 8);
    let (code, said, complaint) = run(&mut kernel, &files, "revert --by cp --partial");
    assert_eq!(code, 3);
    assert!(
        said.starts_with("Took back 1 operation on 1 object:\n"),
        "{said}"
    );
    let expected = "1 operation was left out:\n  conflict  notes  changed later by vim (op 6)\n";
    assert_eq!(complaint, expected);
    // None of its operations is live.
    let (mut kernel, files) = history();
    kernel.conflicts.extend([(6, (0, Reason::External))]);
    let (code, _, complaint) = run(&mut kernel, &files, "revert --by vim --partial");
    assert_eq!(code, 4);
    assert!(
        complaint.contains("external  notes  changed outside LoggerFS"),
        "{complaint}"
    );
}

#[test]
fn what_is_refused_for_an_object_is_left_out_for_all_of_it() {
    let (mut kernel, files) = history();
    kernel.conflicts.insert(4, (0, Reason::NotOwner));
    let (code, _, complaint) = run(&mut kernel, &files, "revert --by rm --partial");
    assert_eq!(code, 3);
    assert_eq!(kernel.asked[1], (0, vec![5]));
    assert!(
        complaint.starts_with("2 operations were left out:\n"),
        "{complaint}"
    );
    for reason in Reason::ALL {
        let (mut kernel, files) = history();
        kernel.conflicts.insert(6, (7, *reason));
        let (code, said, complaint) = run(&mut kernel, &files, "undo -2");
        assert!(matches!(code, 1 | 4 | 11), "{code} {said}{complaint}");
        assert!(complaint.starts_with("1 conflict among 3 operations; nothing changed.\n"));
    }
}

#[test]
fn restore_takes_back_what_is_newer() {
    let cases: [(&str, &[u64]); 7] = [
        ("--to 5", &[8, 7, 6]),
        ("--to @-", &[8, 7]),
        ("--to @~4", &[8, 7, 6, 5, 4, 3, 2, 1]),
        ("--to 30m_ago", &[8, 7, 6]),
        ("--to 13:46", &[8, 7, 6]),
        ("--to 2 /m/src", &[5, 4, 3]),
        ("--to 3 /m/notes", &[6]),
    ];
    for (words, want) in cases {
        let (mut kernel, files) = history();
        let (code, dry, complaint) = run(&mut kernel, &files, &format!("restore {words} -n"));
        assert_eq!(code, 0, "{words}: {complaint}");
        let (_, said, complaint) = run(&mut kernel, &files, &format!("restore {words}"));
        assert_eq!(
            kernel.asked,
            [(DRY_RUN, want.to_vec()), (0, want.to_vec())],
            "{words}"
        );
        let (plan, restored) = said.split_at(said.find("Restored ").unwrap());
        assert_eq!(dry.replace("Would take", "Took"), plan);
        assert!(restored.ends_with(".\n"), "{restored}");
        assert_eq!(complaint, "Hint: `logctl undo` takes that back.\n");
    }
    let (mut kernel, files) = history();
    let (_, said, _) = run(&mut kernel, &files, "restore --to 5");
    assert!(
        said.ends_with("Restored the mount to op 5 (2025-11-20 13:45:00).\n"),
        "{said}"
    );
    for (words, exit) in [
        ("9999", 2),
        ("in_2h", 2),
        ("23:59", 2),
        ("@~5", 2),
        ("@", 1),
        ("8", 1),
    ] {
        let (mut kernel, files) = history();
        let (code, _, complaint) = run(&mut kernel, &files, &format!("restore --to {words}"));
        assert_eq!(code, exit, "{words}: {complaint}");
    }
}

#[test]
fn undo_of_a_file_takes_the_save_back_by_its_very_lines() {
    let mut kernel = Kernel::new();
    let sed = "pid=50@5.0 ppid=40 sid=40 uid=0 args=sed%00-i%00f";
    kernel.line(
        5,
        "1.1",
        "/bin/x create 0 0",
        "name=f node=4.1 undo=none pid=3@3.0 sid=1",
    );
    kernel.line(
        10,
        "1.1",
        "/bin/sed create 0 0",
        &format!("name=tmp node=5.1 undo=none {sed}"),
    );
    kernel.line(
        10,
        "5.1",
        "/bin/sed write 0 9",
        &format!("open=. size=0 undo=none {sed}"),
    );
    kernel.line(
        10,
        "1.1",
        "/bin/sed rename 0 0",
        &format!("name=tmp to=f node=5.1 over=4.1 kept=1 undo=none {sed}"),
    );
    kernel.line(
        20,
        "9.1",
        "/bin/y write 0 9",
        "open=. size=9 undo=none pid=8@8.0 sid=1",
    );
    let files = Files::of(&[("f", 5), ("other", 9)]);
    let (code, said, complaint) = run(&mut kernel, &files, "undo /m/f");
    assert_eq!(code, 0, "{complaint}");
    assert_eq!(kernel.asked, [(WALK, vec![4, 3, 2])]);
    assert_eq!(said, "Undid 4 \"sed -i f\": f is as it was before.\n");
    let (_, said, _) = run(&mut kernel, &files, "redo");
    assert_eq!(said, "Did again 4 \"sed -i f\": ~1 file  f.\n");
    // And the operations before that, at once.
    run(&mut kernel, &files, "undo -2 /m/f");
    assert_eq!(kernel.asked.last().unwrap(), &(WALK, vec![4, 3, 2, 1]));
    let (code, _, complaint) = run(&mut kernel, &files, "undo /m/f");
    assert_eq!(code, 1, "{complaint}");
}

#[test]
fn a_removed_tree_comes_back_with_what_the_same_process_removed() {
    let (mut kernel, files) = history();
    // By the name of the removed file.
    run(&mut kernel, &files, "undo -1");
    let (code, said, complaint) = run(&mut kernel, &files, "undo /m/src");
    assert_eq!(code, 0, "{complaint}");
    assert_eq!(kernel.asked[1], (WALK, vec![5, 4, 3]));
    assert_eq!(
        said,
        "Undid 5 \"rm -rf src\": 2 files and 1 directory are back.\n"
    );
}

#[test]
fn objects_without_a_name_are_looked_for_in_the_tree() {
    let mut kernel = Kernel::new();
    kernel.line(
        5,
        "30.1",
        "/bin/x write 0 1",
        "open=. size=1 undo=none pid=3@3.0",
    );
    kernel.line(
        9,
        "31.2",
        "/bin/x write 0 1",
        "open=. size=1 undo=none pid=4@3.0",
    );
    let files = Files::of(&[("old/it's", 30)]);
    let (_, said, _) = run(&mut kernel, &files, "log --ops");
    assert!(said.contains(r"'old/it'\''s'"), "{said}");
    assert!(said.contains("(object 31.2)"), "{said}");
    let mut wanted: Vec<u64> = files.wanted.borrow().iter().copied().collect();
    wanted.sort_unstable();
    assert_eq!(wanted, [30, 31]);
}

/// Each object of each command is as docs/logctl.schema.json describes it.
#[test]
fn every_command_has_json() {
    let lines = [
        ("log", "log", &["action"][..]),
        ("log", "log --ops", &["op"]),
        ("log", "log -p", &["action", "process_part"]),
        ("log", "log --stat", &["action", "diff"]),
        ("who", "who", &["tree"]),
        ("show", "show", &["action", "op"]),
        ("show", "show 6 --diff", &["action", "op", "diff"]),
        ("show", "show 99", &["error"]),
        ("undo", "undo", &["action", "summary"]),
        ("undo", "undo -99", &["error"]),
        ("redo", "redo", &["action", "summary"]),
        ("revert", "revert 5", &["action", "summary"]),
        ("revert", "revert --last 1 -n", &["action", "summary"]),
        ("revert", "revert 5 --count 2", &["error"]),
        (
            "restore",
            "restore --to @-",
            &["action", "summary", "restored"],
        ),
        ("restore", "restore --to 99999", &["error"]),
        ("cat", "cat /m/notes", &["content"]),
        ("cat", "cat /m/nothing", &["error"]),
        ("versions", "versions /m/notes", &["version"]),
        ("blame", "blame /m/notes", &["line"]),
        ("diff", "diff 6", &["diff"]),
        ("diff", "diff 2.. --name-only", &["diff"]),
        ("deleted", "deleted", &["deleted"]),
        ("completions", "completions bash", &["completions"]),
        ("schema", "schema", &["schema"]),
        ("mark", "mark here", &["mark"]),
        ("marks", "marks", &[]),
        ("browse", "browse", &["error"]),
    ];
    // Those that work on one file have their own tests, and two start processes: the guest tests them. Two look
    // at the machine (logctl/tests/doctor.rs).
    let others = ["readlog", "status", "run", "mount-past", "doctor", "config"];
    let all = Cli::command();
    for command in all.get_subcommands().filter(|one| !one.is_hide_set()) {
        let name = command.get_name();
        let tried = lines.iter().any(|(command, ..)| *command == name);
        assert!(tried || others.contains(&name), "{name} is not tried");
    }
    let schema = Schema::strict();
    for (command, line, kinds) in lines {
        let (mut kernel, mut files) = history();
        files.is_looking = command == "deleted";
        if command == "redo" {
            run(&mut kernel, &files, "undo");
        }
        let (code, said, _) = run(&mut kernel, &files, &format!("--json {line}"));
        let mut found = Vec::new();
        for object in said.lines() {
            let kind = schema
                .check(object)
                .unwrap_or_else(|why| panic!("{line}: {why}"));
            if !found.contains(&kind) {
                found.push(kind);
            }
            let object: Value = serde_json::from_str(object).unwrap();
            if let Some(path) = object["path"].as_str() {
                assert!(path.starts_with("/m"), "{object}");
            }
            if kind == "error" {
                assert_eq!(object["exit"], code, "{line}");
            }
        }
        assert_eq!(found, kinds, "{line}: {said}");
    }
}
