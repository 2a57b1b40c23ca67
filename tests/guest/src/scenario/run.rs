// SPDX-License-Identifier: GPL-2.0

//! `logctl run`: a command is run, and what it and its descendants changed is kept or taken back.

use std::process::{Command, Stdio};

use crate::faults::tree::Tree;
use crate::fixture::Fixture;
use crate::harness::Test;
use crate::outcome::{check, fail, same, At, Outcome};

pub const TESTS: &[Test] = &[
    Test::new("run-keeps", keeps),
    Test::new("run-takes-back", takes_back),
    Test::new("run-descendants", descendants),
    Test::new("run-exit-codes", exit_codes),
    Test::new("run-asks", asks),
];

/// Files to begin with.
const BEGIN: &str = "mkdir d; echo one > a; echo two > d/b; echo three > c; sleep 2.1";

/// Runs a line of a shell in the mount: exit code, output, messages.
fn shell(w: &Fixture, line: &str) -> Outcome<(i32, String, String)> {
    let output = Command::new("bash")
        .args(["-c", line])
        .current_dir(&w.mnt)
        .stdin(Stdio::null())
        .output()
        .at(line)?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let code = output.status.code().unwrap_or(-1);
    Ok((code, text(output.stdout), text(output.stderr)))
}

fn same_tree(what: &str, w: &Fixture, want: &Tree) -> Outcome {
    match Tree::of(&w.mnt)?.difference(want) {
        Some(difference) => fail!("{what}: {difference}"),
        None => Ok(()),
    }
}

/// Output and exit code are the command's own, and the changes are kept without a terminal.
fn keeps(w: &mut Fixture) -> Outcome {
    w.sh(BEGIN)?;
    let line = "logctl run -- bash -c 'echo out; echo err >&2; echo x >> a; rm c; mkdir e; exit 7'";
    let (code, said, complaint) = shell(w, line)?;
    same("the exit code", code, 7)?;
    same("the output", said.as_str(), "out\n")?;
    check!(complaint.starts_with("err\n"), "{complaint}");
    for part in ["(exit code 7)", "-1 file", "+1 dir", "~1 file"] {
        check!(complaint.contains(part), "no '{part}': {complaint}");
    }
    same("a", w.sh("cat a")?.as_str(), "one\nx\n")?;
    // One undo takes the command back.
    w.sh("logctl undo; test ! -e e; cmp c <(echo three); cmp a <(echo one)")?;
    let (code, said, _) = shell(w, "logctl run --json -- true")?;
    same("nothing to do", code, 0)?;
    check!(
        said.contains("\"outcome\":\"unchanged\"") && said.contains("\"exit\":0"),
        "{said}"
    );
    Ok(())
}

/// A command that fails is taken back; what others did meanwhile stays.
fn takes_back(w: &mut Fixture) -> Outcome {
    w.sh(BEGIN)?;
    let before = Tree::of(&w.mnt)?;
    let failing = "bash -c 'echo x >> a; sed -i s/two/2/ d/b; rm -r d; mv c f; chmod 600 f; false'";
    let line = format!("logctl run --rollback-on-failure --json -- {failing}");
    let (code, said, complaint) = shell(w, &line)?;
    same(&complaint, code, 1)?;
    check!(said.contains("\"outcome\":\"rolled_back\""), "{said}");
    same_tree("taken back", w, &before)?;
    // The others' files beside it.
    let line = format!(
        "logctl run --rollback-on-failure -- {failing} & wait=$!; echo mine > mine; echo more >> mine; wait $wait"
    );
    let (code, _, complaint) = shell(w, &line)?;
    same(&complaint, code, 1)?;
    same("mine", w.sh("cat mine")?.as_str(), "mine\nmore\n")?;
    w.sh("rm mine")?;
    same_tree("taken back", w, &before)?;
    // One that succeeds is kept.
    let (code, ..) = shell(w, "logctl run --rollback-on-failure -- touch new")?;
    same("success", code, 0)?;
    w.sh("test -e new").map(drop)
}

/// Processes whose parents have ended, and those in sessions of their own, belong to the command.
fn descendants(w: &mut Fixture) -> Outcome {
    w.sh(BEGIN)?;
    let before = Tree::of(&w.mnt)?;
    let line = "logctl run --rollback-on-failure -- bash -c '(setsid bash -c \"echo z > late; echo z >> a\" &)
        while [ ! -e late ]; do sleep 0.05; done; sleep 0.2; bash -c \"bash -c \\\"echo deep > deep; true\\\"; true\"; false'";
    let (code, _, complaint) = shell(w, line)?;
    same(&complaint, code, 1)?;
    same_tree(&complaint, w, &before)
}

/// Exit codes as env(1) and timeout(1) have them.
fn exit_codes(w: &mut Fixture) -> Outcome {
    w.sh("echo no > no")?;
    for (line, want) in [
        ("logctl run -- /nonexistent", 127),
        ("logctl run -- ./no", 126),
        ("logctl run -- bash -c 'kill -KILL $$'", 137),
        ("logctl run --ask -- touch asked", 5),
        ("cd /; logctl run -- touch /tmp/outside", 125),
        ("logctl run", 2),
        ("logctl run --keep --ask -- true", 2),
    ] {
        let (code, _, complaint) = shell(w, line)?;
        same(format!("{line}: {complaint}"), code, want)?;
    }
    w.sh("test ! -e asked; test ! -e /tmp/outside").map(drop)
}

/// On a terminal logctl asks.
fn asks(w: &mut Fixture) -> Outcome {
    w.sh(BEGIN)?;
    let before = Tree::of(&w.mnt)?;
    let on_terminal = |answers: &str| {
        let line = format!(
            "(sleep 1.5; printf '{answers}'; sleep 1) | script -qec \"logctl run -- bash -c 'echo x >> a; exit 3'\" /dev/null"
        );
        shell(w, &line)
    };
    let (code, said, _) = on_terminal("l\\nd\\nr\\n")?;
    same(&said, code, 3)?;
    for part in ["[r]oll back", "~1 file", "+x"] {
        check!(said.contains(part), "no '{part}': {said}");
    }
    same_tree(&said, w, &before)?;
    let (code, said, _) = on_terminal("k\\n")?;
    same(&said, code, 3)?;
    same(&said, w.sh("cat a")?.as_str(), "one\nx\n")
}
