// SPDX-License-Identifier: GPL-2.0

//! The pager of `logctl` on a terminal: also one that is missing, or ends early.

use std::fs;
use std::path::Path;

use crate::fixture::Fixture;
use crate::harness::Test;
use crate::mounts::Lower;
use crate::outcome::{check, same, At, Outcome, Stop};

pub const TESTS: &[Test] = &[Test::new("pager-missing", missing).only(&[Lower::Private])];

/// All that `logctl readlog` prints on a terminal with this pager. It must succeed.
fn printed(w: &Fixture, variable: &str, pager: &str) -> Outcome<String> {
    let line = format!(
        "unset PAGER LOGCTL_PAGER; export {variable}='{pager}'
        script -qec 'logctl readlog f' /tmp/lfs-pager < /dev/null > /dev/null"
    );
    w.sh(&line).at(format!("{variable}='{pager}'"))?;
    let text = fs::read_to_string("/tmp/lfs-pager").at("what it printed")?;
    let rows = text.lines().filter(|row| !row.starts_with("Script "));
    Ok(rows.fold(String::new(), |text, row| text + row.trim_end() + "\n"))
}

fn missing(w: &mut Fixture) -> Outcome {
    if !Path::new("/dev/ptmx").exists() {
        return Err(Stop::Skip("the kernel has no pseudo-terminals".into()));
    }
    w.sh("echo one > f")?;
    let want = printed(w, "PAGER", "cat")?;
    check!(want.contains(" write 0 4 "), "no line: {want}");
    same("an empty PAGER", printed(w, "PAGER", "")?, want.clone())?;
    same("a pager", printed(w, "PAGER", "exec cat")?, want.clone())?;
    for (variable, pager, why) in [
        ("PAGER", "no-such-pager", "was not found"),
        ("LOGCTL_PAGER", "/no/such/pager -F", "was not found"),
        (
            "PAGER",
            "/etc/passwd",
            "cannot be run (Permission denied (os error 13))",
        ),
    ] {
        let message =
            format!("The pager \"{pager}\" {why}: the results are printed without one.\n")
                .replace('"', "'");
        let said = printed(w, variable, pager)?;
        same(format!("with {pager}"), said, format!("{message}{want}"))?;
    }
    for pager in ["true", "false", "head -c 1 > /dev/null"] {
        // script(1) itself ends with an empty line.
        let said = printed(w, "PAGER", pager)?;
        same(format!("with {pager}"), said.as_str(), "\n")?;
    }
    Ok(())
}
