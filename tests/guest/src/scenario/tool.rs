// SPDX-License-Identifier: GPL-2.0

//! `logctl` on real files: its output and exit codes, which agree with the kernel.

use std::process::Command;

use crate::fixture::Fixture;
use crate::harness::Test;
use crate::mounts::Lower;
use crate::outcome::{check, same, At, Outcome};
use crate::undo;

pub const TESTS: &[Test] = &[
    Test::new("logctl", logctl),
    Test::new("logctl-refusals", refusals),
    Test::new("logctl-external", external).only(&[Lower::Tmpfs, Lower::Ext4]),
];

/// Runs logctl in the mount: exit code, output, messages.
fn run(w: &Fixture, words: &[&str]) -> Outcome<(i32, String, String)> {
    let output = Command::new("logctl")
        .args(words)
        .current_dir(&w.mnt)
        .output()
        .at("logctl")?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let code = output.status.code().unwrap_or(-1);
    Ok((code, text(output.stdout), text(output.stderr)))
}

fn logctl(w: &mut Fixture) -> Outcome {
    w.sh("echo one > f; echo two >> f; echo three >> f")?;
    let lines = undo::lines(&w.open("f")?, false)?;
    let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
    let want = texts.join(
        "
",
    ) + "
";
    same(
        "readlog",
        run(w, &["f", "readlog"])?,
        (0, want, String::new()),
    )?;
    let (code, said, _) = run(w, &["f", "revert"])?;
    same("revert", code, 0)?;
    check!(
        said.contains("write 8 6"),
        "revert does not say what: {said}"
    );
    w.same("reverted", "f", b"one\ntwo\n")?;
    let (code, said, _) = run(w, &["f", "readlog", "--all"])?;
    same("readlog --all", code, 0)?;
    check!(
        said.contains(" revert "),
        "no revert in readlog --all: {said}"
    );
    let (code, said, _) = run(w, &["f", "status", "--json"])?;
    same("status", code, 0)?;
    check!(said.starts_with("{\"v\":1,"), "status --json: {said}");
    same("revert 2", run(w, &["f", "revert", "--count", "2"])?.0, 0)?;
    w.same("all reverted", "f", b"")
}

fn refusals(w: &mut Fixture) -> Outcome {
    w.sh("echo one > f; echo two >> f")?;
    for (words, want) in [
        (&["f", "revert", "--count", "3"][..], 1),
        (&["f", "revert", "--count", "0"], 2),
        (&["f", "revert", "--count", "x"], 2),
        (&["f", "nonsense"], 2),
        (&["missing", "readlog"], 1),
        (&["/proc/version", "readlog"], 10),
        (&["/etc/passwd", "revert"], 10),
    ] {
        let (code, said, complaint) = run(w, words)?;
        same(format!("logctl {words:?}: {complaint}"), code, want)?;
        check!(said.is_empty(), "logctl {words:?} prints on stdout: {said}");
        let spoken = complaint.split_whitespace().count() > 3;
        check!(spoken, "logctl {words:?} says only '{complaint}'");
    }
    w.same("nothing changed", "f", b"one\ntwo\n")
}

/// The reason in words, and the hint.
fn external(w: &mut Fixture) -> Outcome {
    w.sh("echo one > f; echo two >> f")?;
    std::thread::sleep(std::time::Duration::from_millis(30));
    std::fs::write(w.below("f")?, "changed outside\n")?;
    let (code, _, complaint) = run(w, &["f", "revert"])?;
    same(&complaint, code, 4)?;
    check!(
        complaint.contains("--force"),
        "no way out is named: {complaint}"
    );
    w.same("nothing changed", "f", b"changed outside\n")?;
    let (code, _, complaint) = run(w, &["f", "revert", "--force"])?;
    same(complaint, code, 0)?;
    w.same("forced", "f", b"chan")
}
