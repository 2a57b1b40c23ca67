// SPDX-License-Identifier: GPL-2.0

//! `--json` of each command, as a kernel makes it, against docs/logctl.schema.json.

use std::collections::BTreeSet;

use super::verbs::logctl;
use crate::fixture::Fixture;
use crate::harness::Test;
use crate::mounts;
use crate::outcome::{check, fail, same, Outcome};

#[path = "../../../../logctl/tests/support/schema.rs"]
mod schema;

use schema::Schema;

pub const TESTS: &[Test] = &[
    Test::new("json-of-each-command", of_each_command),
    Test::new("json-of-odd-names", of_odd_names),
];

/// Runs a command, checks its exit code and each line, and returns the definitions that the lines match.
fn kinds<'s>(schema: &'s Schema, w: &Fixture, line: &str, want: i32) -> Outcome<Vec<&'s str>> {
    let (code, said, complaint) = logctl(w, line)?;
    same(format!("{line}: {said}{complaint}"), code, want)?;
    let mut kinds = Vec::new();
    for object in said.lines() {
        match schema.check(object) {
            Ok(kind) => kinds.push(kind),
            Err(why) => fail!("{line}: {why}"),
        }
    }
    kinds.dedup();
    Ok(kinds)
}

fn of_each_command(w: &mut Fixture) -> Outcome {
    let schema = Schema::strict();
    let beside = w.beside()?;
    let beside = beside.display();
    w.sh(
        "mkdir -p d/e; printf 'one\\ntwo\\n' > f; printf 'a\\0b' > bytes; echo x > d/e/g; sleep 2.1
        cp f copy; cp f copy2; sleep 2.1; echo three >> copy; sleep 2.1; mv f h; sleep 2.1; rm d/e/g; rmdir d/e; sleep 2.1
        touch new; mkdir old; sleep 2.1; mv old moved; sleep 2.1
        chmod 600 h; sleep 2.1; sed -i s/one/uno/ h",
    )?;
    let mut seen = BTreeSet::new();
    let lines: [(&str, i32, &[&str]); 52] = [
        ("readlog h", 0, &["op"]),
        ("readlog h --all", 0, &["op"]),
        ("status h", 0, &["status"]),
        ("status", 0, &["mount_status"]),
        ("status -n 2", 0, &["mount_status", "action"]),
        ("log", 0, &["action"]),
        ("log --ops", 0, &["op"]),
        ("log -p -n 1", 0, &["action", "process_part"]),
        ("log --stat --by sed", 0, &["action", "diff"]),
        ("log -P --by sed", 0, &["action", "diff"]),
        ("log nosuch", 1, &["error"]),
        ("show", 0, &["action", "op"]),
        ("show --diff", 0, &["action", "op", "diff"]),
        ("diff", 0, &["diff"]),
        ("diff ..@ --stat", 0, &["diff"]),
        ("diff ..@ --name-only --exit-code", 1, &["diff"]),
        ("versions h", 0, &["version"]),
        ("who", 0, &["tree"]),
        ("blame h", 0, &["line"]),
        ("blame bytes", 0, &["range"]),
        ("cat h --at @-", 0, &["content"]),
        ("cat bytes", 0, &["content"]),
        ("cat BESIDE --out x", 10, &["error"]),
        ("cat h --out BESIDE/h", 0, &["summary"]),
        ("deleted", 0, &["deleted"]),
        ("undo -n", 0, &["action", "summary"]),
        ("undo", 0, &["action", "summary"]),
        ("redo", 0, &["action", "summary"]),
        ("redo", 1, &["error"]),
        ("revert --by cp", 4, &["conflict", "error"]),
        (
            "revert --by cp --merge",
            3,
            &["action", "summary", "merge", "conflict", "error"],
        ),
        ("undo", 0, &["action", "summary"]),
        (
            "revert --by cp --partial",
            3,
            &["action", "summary", "conflict", "error"],
        ),
        ("restore --to @~2 h", 0, &["action", "summary", "restored"]),
        ("restore --to @~3 --out BESIDE/all", 0, &["summary"]),
        (
            "restore --to @~3 --out BESIDE/all",
            3,
            &["summary", "note", "error"],
        ),
        ("revert copy", 0, &["op", "summary"]),
        ("run -- bash -c 'echo more >> h'", 0, &["run"]),
        (
            "run --rollback-on-failure -- bash -c 'echo no > no; false'",
            1,
            &["action", "summary", "run"],
        ),
        ("run -- true", 0, &["run"]),
        ("mark here -M why", 0, &["mark"]),
        ("run --name job -- bash -c 'echo most >> h'", 0, &["run"]),
        ("marks", 0, &["mark", "mark"]),
        ("run -- /nonexistent", 127, &["error"]),
        ("mount-past @ BESIDE/past", 0, &["mount_past"]),
        ("completions fish", 0, &["completions"]),
        ("schema", 0, &["schema"]),
        (
            "revert new --by touch --out BESIDE/gone",
            0,
            &["gone", "summary"],
        ),
        (
            "revert moved --by mv --out BESIDE/moved",
            0,
            &["moved", "summary"],
        ),
        ("browse", 2, &["error"]),
        ("doctor", 0, &["check"]),
        ("config", 0, &["setting"]),
    ];
    w.sh(&format!("mkdir {beside}/past"))?;
    for (line, code, want) in lines {
        let line = line.replace("BESIDE", &beside.to_string());
        let found = kinds(&schema, w, &format!("--json {line}"), code)?;
        seen.extend(found.iter().copied());
        let found: BTreeSet<&str> = found.into_iter().collect();
        same(&line, found, want.iter().copied().collect())?;
        if line.starts_with("mount-past") {
            w.sh(&format!("umount {beside}/past"))?;
        }
    }
    let (_, said, _) = logctl(w, "--help")?;
    let commands = said.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands = commands.take_while(|line| !line.is_empty());
    for command in commands.filter(|line| line.starts_with("  ") && !line.starts_with("   ")) {
        let command = command.split_whitespace().next().unwrap_or_default();
        let is_tried = lines.iter().any(|(line, ..)| line.starts_with(command));
        check!(is_tried || command == "help", "{command} is not tried");
    }
    // A history that dropped something has a test on the host.
    seen.insert("history");
    let all: BTreeSet<&str> = schema.names().collect();
    same("the records", seen, all)
}

/// Names that are no text, or that a terminal would obey.
fn of_odd_names(w: &mut Fixture) -> Outcome {
    let schema = Schema::strict();
    w.sh("echo a > $'\\xff'; sleep 2.1; mv $'\\xff' $'b\\x1b[2J\\n'; sleep 2.1; rm b*")?;
    for (line, part) in [
        ("log", r#""path_b64":"#),
        ("log --ops", r#""to_path":"#),
        ("diff @-", r#""old_path_b64":"#),
        ("deleted", r"b\u001b[2J\n"),
    ] {
        kinds(&schema, w, &format!("--json {line}"), 0)?;
        let (_, said, _) = logctl(w, &format!("--json {line}"))?;
        check!(said.contains(part), "{line}: {said}");
        check!(!said.contains('\u{1b}'), "{line} prints an escape");
    }
    // The names as they are, for other programs.
    let names = mounts::run_in(
        &w.mnt,
        &[
            "bash",
            "-euc",
            "logctl deleted -0 | od -An -c | tr -d ' \\n'",
        ],
    )?;
    same("deleted -0", names.as_str(), r"b033[2J\n\0")?;
    w.sh("logctl deleted -0 | xargs -0 logctl restore --to @-")?;
    w.same("what came back", "b\u{1b}[2J\n", b"a\n")
}
