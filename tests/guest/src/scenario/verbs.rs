// SPDX-License-Identifier: GPL-2.0

//! The verbs of `logctl` on a whole mount: their output, the operations that they revert, and those
//! that they keep.

use std::process::Command;

use crate::faults::tree::Tree;
use crate::fixture::Fixture;
use crate::harness::Test;
use crate::outcome::{check, fail, same, At, Outcome};

pub const TESTS: &[Test] = &[
    Test::new("verbs-log", log),
    Test::new("verbs-undo-redo", undo_redo),
    Test::new("verbs-undo-tree", undo_tree),
    Test::new("verbs-undo-saves", undo_saves),
    Test::new("verbs-undo-staying", undo_staying),
    Test::new("verbs-revert", revert),
    Test::new("verbs-conflicts", conflicts),
    Test::new("verbs-restore", restore),
    Test::new("verbs-json", json),
];

/// Runs logctl in the mount: exit code, output, messages.
pub(super) fn logctl(w: &Fixture, line: &str) -> Outcome<(i32, String, String)> {
    let output = Command::new("bash")
        .args(["-c", &format!("exec logctl {line}")])
        .current_dir(&w.mnt)
        .output()
        .at("logctl")?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let code = output.status.code().unwrap_or(-1);
    Ok((code, text(output.stdout), text(output.stderr)))
}

/// Runs logctl, which must succeed; returns its output.
pub(super) fn done(w: &Fixture, line: &str) -> Outcome<String> {
    let (code, said, complaint) = logctl(w, line)?;
    same(format!("logctl {line}: {said}{complaint}"), code, 0)?;
    Ok(said)
}

fn tree(w: &Fixture) -> Outcome<Tree> {
    Tree::of(&w.mnt)
}

fn same_tree(what: &str, w: &Fixture, want: &Tree) -> Outcome {
    match tree(w)?.difference(want) {
        Some(difference) => fail!("{what}: {difference}"),
        None => Ok(()),
    }
}

/// The numbers of the actions that are shown, the newest first.
pub(super) fn numbers(said: &str) -> Outcome<Vec<u64>> {
    let lines = said.lines().skip(1);
    let number = |line: &str| {
        let word = line.trim_start_matches('@').split_whitespace().next();
        let number = word.and_then(|word| word.parse().ok());
        number.ok_or(crate::outcome::Stop::Fail(format!("no number in: {line}")))
    };
    lines.map(number).collect()
}

const PLANT: &str = "mkdir -p src/deep other; for i in 1 2 3; do echo $i > src/$i; done
    echo d > src/deep/file; echo o > other/file; sleep 2.1";

fn log(w: &mut Fixture) -> Outcome {
    w.sh(PLANT)?;
    w.sh("rm -rf src; sleep 2.1; sed -i s/o/p/ other/file; sleep 2.1; mv other/file other/moved")?;
    let said = done(w, "log -n 3")?;
    let lines: Vec<&str> = said.lines().collect();
    same(format!("lines of {said}"), lines.len(), 4)?;
    let has = |line: &str, words: &[&str]| words.iter().all(|word| line.contains(word));
    check!(
        has(
            lines[1],
            &["@", "root", "mv other/file other/moved", "1 moved"]
        ),
        "mv: {said}"
    );
    check!(
        has(
            lines[2],
            &["sed -i s/o/p/ other/file", "~1 file  other/file"]
        ),
        "sed: {said}"
    );
    check!(
        has(lines[3], &["rm -rf src", "-4 files  -2 dirs"]),
        "rm: {said}"
    );
    let found = numbers(&said)?;
    check!(
        found.windows(2).all(|pair| pair[0] > pair[1]),
        "not the newest first: {said}"
    );
    let shown = done(w, &format!("show {}", found[2]))?;
    for line in [
        "unlink  src/deep/file",
        "rmdir   src/deep",
        "rmdir   src",
        "rm -rf src",
    ] {
        check!(shown.contains(line), "no '{line}' in {shown}");
    }
    for number in numbers(&done(w, "log --by rm --ops")?)? {
        let same_one = done(w, &format!("show {number}"))?;
        same(format!("by {number}"), same_one, shown.clone())?;
    }
    let of_other = done(w, "log other")?;
    check!(
        !of_other.contains("rm -rf"),
        "what was done elsewhere: {of_other}"
    );
    check!(
        of_other.contains("sed -i"),
        "not what was done there: {of_other}"
    );
    let by = done(w, "log --by sed --ops")?;
    check!(
        by.contains("rename") && !by.contains("unlink"),
        "by sed: {by}"
    );
    w.remount_if_lasting()?;
    let again = numbers(&done(w, "log -n 3")?)?;
    if w.src.is_some() {
        same("after a remount", again, found)?;
    }
    Ok(())
}

fn undo_redo(w: &mut Fixture) -> Outcome {
    let steps = [
        PLANT,
        "echo more >> src/1; sleep 2.1",
        "rm -rf src; sleep 2.1",
        "sed -i s/o/p/ other/file; sleep 2.1",
        "mkdir new; cp -r other new/copy; sleep 2.1",
        "chmod 700 other",
    ];
    let mut states = Vec::new();
    for step in steps {
        w.sh(step)?;
        states.push(tree(w)?);
    }
    // mkdir and cp are two.
    let undos = [1, 2, 1, 1, 1];
    for round in 0..2 {
        for (state, count) in states.iter().rev().skip(1).zip(undos) {
            let dry = done(w, &format!("undo -{count} -n"))?;
            let said = done(w, &format!("undo -{count}"))?;
            check!(said.starts_with("Undid "), "undo says: {said}");
            same(
                "a dry run's lines",
                dry.lines().count(),
                said.lines().count(),
            )?;
            same_tree(&format!("undo in round {round}: {said}"), w, state)?;
        }
        w.remount_if_lasting()?;
        for (state, count) in states.iter().skip(1).zip(undos.into_iter().rev()) {
            let said = done(w, &format!("redo -{count}"))?;
            check!(said.starts_with("Did again "), "redo says: {said}");
            same_tree(&format!("redo in round {round}: {said}"), w, state)?;
        }
        let (code, _, complaint) = logctl(w, "redo")?;
        same(format!("nothing to redo: {complaint}"), code, 1)?;
    }
    redo_several(w, &states)?;
    done(w, "undo -3")?;
    same_tree("three at once", w, &states[3])?;
    // By the name of the file that would come back.
    w.sh("echo x > new")?;
    let (code, _, complaint) = logctl(w, "redo")?;
    check!(
        code == 4 || code == 1,
        "a redo over something new: {code} {complaint}"
    );
    Ok(())
}

/// Several undos are redone by one request.
fn redo_several(w: &mut Fixture, states: &[Tree]) -> Outcome {
    for line in ["undo -3", "undo", "undo"] {
        done(w, line)?;
    }
    same_tree("three undos", w, &states[1])?;
    let dry = done(w, "redo 5 -n")?;
    same_tree("a dry run", w, &states[1])?;
    let said = done(w, "redo 5")?;
    same(
        "a dry run's words",
        said.replace("Did again", "Would do again"),
        dry,
    )?;
    same_tree("all redone", w, &states[5])?;
    let (code, _, complaint) = logctl(w, "redo 2")?;
    same(format!("nothing to redo: {complaint}"), code, 1)?;
    for _ in 0..2 {
        done(w, "undo")?;
        done(w, "undo -2")?;
        w.remount_if_lasting()?;
        done(w, "redo -3")?;
        same_tree("two at once", w, &states[5])?;
    }
    // A part of an undo.
    done(w, "undo -2")?;
    let state = tree(w)?;
    done(w, "undo -3")?;
    done(w, "redo")?;
    w.remount_if_lasting()?;
    done(w, "redo 2")?;
    same_tree("an undo, in two parts", w, &state)?;
    done(w, "redo 2")?;
    same_tree("all again", w, &states[5])?;
    Ok(())
}

fn undo_tree(w: &mut Fixture) -> Outcome {
    w.sh(PLANT)?;
    let before = tree(w)?;
    w.sh("rm -rf src/deep; sleep 2.1; echo more >> src/1; sleep 2.1; echo o >> other/file")?;
    done(w, "undo src")?;
    done(w, "undo src")?;
    check!(
        w.path("src/deep/file").exists(),
        "the directory is not back"
    );
    w.same("elsewhere", "other/file", b"o\no\n")?;
    done(w, "undo")?;
    same_tree("all", w, &before)
}

/// The request has exactly the lines that were read.
/// The hint counts the actions that were undone. An action that only made a directory which is not empty stays; the
/// log does not know the file in it.
fn undo_staying(w: &mut Fixture) -> Outcome {
    w.sh("mkdir d; sleep 2.1; echo one > f; sleep 2.1; echo two > g")?;
    std::fs::write(w.below("d/outside")?, "x").at("a file in the source")?;
    let before = tree(w)?;
    let (code, said, complaint) = logctl(w, "undo --any --count 3")?;
    same(format!("{said}{complaint}"), code, 0)?;
    check!(said.contains("1 directory stays:"), "{said}{complaint}");
    let hint = "Hint: `logctl redo -2` takes the undo back.";
    check!(complaint.contains(hint), "no '{hint}': {said}{complaint}");
    w.sh("test ! -e f; test ! -e g; test -d d")?;
    done(w, "redo -2")?;
    same_tree("done again", w, &before)
}

fn undo_saves(w: &mut Fixture) -> Outcome {
    w.sh("cd /; cd -; echo one > f; sleep 2.1")?;
    let before = tree(w)?;
    w.sh("sed -i s/one/1/ f; sleep 2.1; sed -i s/1/2/ f")?;
    let (code, _, complaint) = logctl(w, "undo -2 f")?;
    same(complaint, code, 0)?;
    same_tree("both saves", w, &before)?;
    done(w, "redo")?;
    w.same("the first save", "f", b"1\n")?;
    done(w, "redo")?;
    w.same("redone", "f", b"2\n")?;
    w.sh("rm f")?;
    done(w, "f undo")?;
    w.same("deleted and back", "f", b"2\n")
}

/// The operations of one process tree are reverted; those of others stay.
fn revert(w: &mut Fixture) -> Outcome {
    w.sh(PLANT)?;
    w.sh("cat > /tmp/agent.sh <<'EOF'
        cd \"$1\"; echo a >> src/1; (echo b > src/new; mv src/2 src/two; touch src/t); rm src/3
        bash -c 'echo c > other/c; chmod 600 other/file; sleep 0.1; true'
EOF
        ")?;
    w.sh("bash /tmp/agent.sh \"$PWD\"; echo theirs >> src/deep/file; echo theirs > src/theirs")?;
    let before = tree(w)?;
    let pid = pid_of(w, "agent.sh")?;
    let dry = done(w, &format!("revert --tree {pid} --dry-run"))?;
    same_tree("a dry run", w, &before)?;
    let said = done(w, &format!("revert --tree {pid}"))?;
    same(
        "the plan",
        dry.replace("Would take", "Took")
            .replace("take back", "took back"),
        said.clone(),
    )?;
    w.sh("test $(cat src/1 src/2 src/3 | tr -d '\\n') = 123; ! test -e src/new; ! test -e src/t; ! test -e src/two; ! test -e other/c; test $(stat -c %a other/file) = 644; grep -q theirs src/deep/file; test -e src/theirs")?;
    // An operation like any other.
    done(w, "undo")?;
    same_tree("the revert undone", w, &before)?;
    let (code, _, complaint) = logctl(w, "revert --by nobody")?;
    same(complaint, code, 1)?;
    let (code, _, complaint) = logctl(w, "revert --since 2099-01-01")?;
    same(complaint, code, 2)?;
    done(w, "revert --path 'src/deep/*' --by bash --since 1h")?;
    w.sh("! grep -q theirs src/deep/file").map(drop)
}

/// The number of the process that was called with a script.
fn pid_of(w: &Fixture, script: &str) -> Outcome<String> {
    let said = done(w, &format!("log --by {script} --json"))?;
    // Its subshells are called the same; they came later.
    let at = said.rfind("\"pid\":").map(|at| &said[at + 6..]);
    let digits = at.and_then(|rest| rest.split(',').next());
    match digits {
        Some(digits) => Ok(digits.to_string()),
        None => fail!("no process of {script} in {said}"),
    }
}

fn conflicts(w: &mut Fixture) -> Outcome {
    w.sh("echo 0123456789 > f; echo 0123456789 > g; sleep 2.1")?;
    let poke = |name: &str, at: u32, text: &str, tool: &str| {
        w.sh(&format!(
            "printf {text} > /tmp/text; {tool} if=/tmp/text of={name} bs=1 seek={at} conv=notrunc status=none"
        ))
    };
    w.sh("cp $(command -v dd) /tmp/first; cp $(command -v dd) /tmp/second")?;
    poke("f", 1, "aa", "/tmp/first")?;
    poke("g", 1, "aa", "/tmp/first")?;
    poke("f", 2, "bb", "/tmp/second")?;
    let before = tree(w)?;
    let (code, said, complaint) = logctl(w, "revert --by first")?;
    same(&complaint, (code, said.as_str()), (4, ""))?;
    check!(
        complaint.starts_with("1 conflict among 4 operations; nothing changed.\n"),
        "{complaint}"
    );
    check!(
        complaint.contains("conflict  f  changed later by second (op "),
        "{complaint}"
    );
    check!(complaint.contains("--partial"), "{complaint}");
    same_tree("refused", w, &before)?;
    let (code, _, complaint) = logctl(w, "revert --by first -n")?;
    same(complaint, code, 4)?;
    let (code, said, complaint) = logctl(w, "revert --by first --partial")?;
    same(format!("{said}{complaint}"), code, 3)?;
    check!(
        complaint.contains("1 operation was left out:"),
        "{complaint}"
    );
    w.same("the other", "g", b"0123456789\n")?;
    w.same("left as it is", "f", b"01bb456789\n")?;
    done(w, "undo")?;
    same_tree("undone", w, &before)
}

fn restore(w: &mut Fixture) -> Outcome {
    w.sh(PLANT)?;
    let before = tree(w)?;
    let head = numbers(&done(w, "log -n 1")?)?[0];
    w.sh("echo x >> src/1; sleep 2.1; sed -i s/o/p/ other/file; mv src/2 other/two; rm -rf src/deep; echo n > new")?;
    w.sh("sleep 2.1; echo more >> new; mv other/file other/f; echo z > other/file")?;
    let after = tree(w)?;
    let (code, _, complaint) = logctl(w, "restore --to 99999999")?;
    same(complaint, code, 2)?;
    let dry = done(w, &format!("restore --to {head} -n"))?;
    check!(dry.starts_with("Would take back "), "{dry}");
    same_tree("a dry run", w, &after)?;
    done(w, &format!("restore --to {head} src"))?;
    w.sh("test $(cat src/1 src/2 src/3 src/deep/file | tr -d '\\n') = 123d; ! test -e other/two; test -e new; test $(cat other/f) = p")?;
    done(w, "undo")?;
    same_tree("the restore undone", w, &after)?;
    done(w, &format!("restore --to {head} other/file"))?;
    w.sh("test $(cat other/file) = o; ! test -e other/f; test -e other/two")?;
    done(w, "undo")?;
    done(w, &format!("restore --to {head}"))?;
    same_tree("the whole mount", w, &before)?;
    done(w, "undo")?;
    Ok(())
}

/// Every command with --json, one object a line.
fn json(w: &mut Fixture) -> Outcome {
    w.sh(PLANT)?;
    w.sh("echo x >> src/1; sleep 2.1; echo y >> src/2; sleep 2.1; echo z >> src/3")?;
    for line in [
        "log",
        "log --ops",
        "show",
        "undo",
        "redo",
        "revert --last 1",
        "restore --to @-",
        "undo src/1",
        "revert 99999999",
    ] {
        let (_, said, complaint) = logctl(w, &format!("--json {line}"))?;
        check!(!said.is_empty(), "{line} says nothing: {complaint}");
        for object in said.lines() {
            let whole = object.starts_with("{\"v\":1,\"type\":\"") && object.ends_with('}');
            check!(whole, "{line}: {object}");
        }
    }
    let user = "setpriv --reuid 2000 --regid 2000 --clear-groups";
    w.sh("mkdir home; chown 2000 home")?;
    w.sh(&format!("{user} bash -c 'cd home; echo 1 > f; echo 2 > f'"))?;
    let said = w.sh(&format!("cd home; {user} logctl log --ops --json"))?;
    let strange = said.lines().find(|line| !line.contains("/mnt/home"));
    check!(strange.is_none(), "not one's own: {strange:?}");
    check!(
        said.contains("\"uid\":2000"),
        "nothing of one's own: {said}"
    );
    w.sh(&format!("cd home; {user} logctl undo"))?;
    check!(
        !w.path("home/f").exists(),
        "what one process did at once is not undone"
    );
    Ok(())
}
