// SPDX-License-Identifier: GPL-2.0

//! contrib/agents: an agent's turn goes back, and the work of a person beside it stays.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::faults::tree::Tree;
use crate::fixture::Fixture;
use crate::harness::Test;
use crate::outcome::{check, fail, Outcome};

pub const TESTS: &[Test] = &[
    Test::new("agents-turn", turn),
    Test::new("agents-turn-without-changes", without_changes),
];

/// An agent that works through shells, each in a session of its own, and waits for a person's work in between.
const AGENT: &str = r#"import os, subprocess, sys, time
def tool(line):
    subprocess.run(["bash", "-c", line], check=True, start_new_session=True)
hook = lambda word: subprocess.run(["sh", "-c", "/tmp/lfs-turn " + word], check=True)
hook("begin")
tool("sed -i s/one/1/ src/a; echo more >> src/b")
open("src/c", "w").write("by the agent\n")
tool("rm -r old; mv src/d src/e")
open("ready", "w").close()
while not os.path.exists("go"):
    time.sleep(0.05)
tool("git add -A src; git -c user.name=x -c user.email=x@y commit -qm work")
tool("install -D -m 755 /usr/bin/true bin/tool; chmod 600 src/a; ln -s a src/link")
hook("end")
"#;

const PROJECT: &str = "mkdir -p src old/deep notes
    for f in src/a src/b src/d old/x old/deep/y notes/mine; do echo one > $f; done
    git init -q .; git add -A; git -c user.name=x -c user.email=x@y commit -qm first; git gc -q";

fn place(w: &Fixture) -> Outcome {
    fs::write(
        "/tmp/lfs-turn",
        include_str!("../../../../contrib/agents/turn"),
    )?;
    fs::set_permissions("/tmp/lfs-turn", fs::Permissions::from_mode(0o755))?;
    fs::write("/tmp/lfs-agent.py", AGENT)?;
    w.sh("rm -rf /tmp/lfs-state").map(drop)
}

/// With the directory for marks.
fn with_state(line: &str) -> String {
    format!("export XDG_STATE_HOME=/tmp/lfs-state; {line}")
}

fn turn(w: &mut Fixture) -> Outcome {
    place(w)?;
    w.sh(PROJECT)?;
    w.sh("sleep 2.1")?;
    let before = Tree::of(&w.mnt)?;
    let person = "until [ -e ready ]; do sleep 0.05; done
        echo mine >> notes/mine; echo new > src/mine; touch go";
    let said = w.sh(&with_state(&format!(
        "python3 /tmp/lfs-agent.py 2>&1 & agent=$!; {person}; wait $agent"
    )))?;
    for part in [
        "python3 /tmp/lfs-agent.py",
        "mv src/d src/e",
        "ln -s a src/link",
        "git ",
    ] {
        check!(
            said.contains(part),
            "no '{part}' at the end of the turn: {said}"
        );
    }
    w.sh("test -x bin/tool; test -e src/e; test ! -e old; grep -q work .git/logs/HEAD")?;
    let said = w.sh(&with_state("/tmp/lfs-turn back 2>&1"))?;
    check!(said.contains("Took back"), "{said}");
    w.sh("cmp src/mine <(echo new); cmp notes/mine <(echo one; echo mine); git --no-optional-locks status --short > /tmp/lfs-status")?;
    w.sh(
        "grep -qx '?? go' /tmp/lfs-status; grep -qx '?? src/mine' /tmp/lfs-status; rm go src/mine",
    )?;
    w.sh("echo one > notes/mine; git fsck --strict")?;
    match Tree::of(&w.mnt)?.difference(&before) {
        Some(difference) => fail!("{difference}: {said}"),
        None => Ok(()),
    }
}

/// A turn that changed nothing ends without an error, and there is nothing to take back.
fn without_changes(w: &mut Fixture) -> Outcome {
    place(w)?;
    w.sh("echo one > a")?;
    let before = Tree::of(&w.mnt)?;
    w.sh(&with_state(
        "export AGENT_PID=$$; /tmp/lfs-turn begin; /tmp/lfs-turn end",
    ))?;
    w.sh(&with_state(
        "if /tmp/lfs-turn back; then exit 9; fi; if /tmp/lfs-turn; then exit 9; fi",
    ))?;
    match Tree::of(&w.mnt)?.difference(&before) {
        Some(difference) => fail!("{difference}"),
        None => Ok(()),
    }
}
