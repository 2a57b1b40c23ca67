// SPDX-License-Identifier: GPL-2.0

//! One request reverts operations on protected objects, and on the times of a directory together
//! with its names: protection is lifted first, and restored last, together with the times.

use std::os::unix::fs::MetadataExt;

use super::groups::{cut, reverts_since, take_back};
use crate::fixture::Fixture;
use crate::group::{self, Watch, REDO, WALK};
use crate::harness::Test;
use crate::outcome::{check, same, At, Outcome, Stop};

pub const TESTS: &[Test] = &[
    Test::new("group-of-protected", of_protected)
        .lengthy()
        .seconds(240),
    Test::new("group-of-protected-interrupted", interrupted)
        .lengthy()
        .seconds(240),
    Test::new("group-of-protected-refused", refused).lengthy(),
    Test::new("group-of-times-and-names", of_times),
];

/// The initial tree, and the operations of one action.
const ACTIONS: &[(&str, &str)] = &[
    ("echo one > f", "echo two > f; chattr +i f"),
    (
        "echo one > f; chattr +i f",
        "chattr -i f; echo two >> f; chattr +i f",
    ),
    (
        "echo one > f; chattr +a f",
        "echo two >> f; chattr -a f; echo x > f; chattr +i f",
    ),
    (
        "mkdir d; echo a > d/a; chattr +i d",
        "chattr -i d; rm d/a; echo b > d/b; chattr +i d",
    ),
    (
        "mkdir d; echo a > d/a",
        "rm d/a; mkdir d/c; chattr +i d/c; chattr +i d",
    ),
    ("echo one > f; chattr +i f", "chattr -i f; rm f; mkdir f"),
    (
        "mkdir d; echo one > f; chattr +i f",
        "chattr -i f; mv f d/g; chattr +i d/g; chattr +i d",
    ),
    // A directory that changes its parent must be writable.
    ("mkdir -p d/s f; echo a > d/s/a", "mv d/s f; chattr +i f/s"),
    (
        "mkdir -p d/s f; chattr +i d/s",
        "chattr -i d/s; mv d/s f; chattr +i f/s f",
    ),
    ("mkdir -p d/s f", "mv d/s f; touch f/s/a; chattr +a f/s"),
];

/// Names, content, modes and flags.
const STATE: &str =
    "find . -mindepth 1 -path ./.loggerfs -prune -o -printf '%P\\n' | sort | while read -r p; do
    stat -c '%n %f %u %g' \"$p\"; lsattr -d \"$p\"; [ ! -f \"$p\" ] || cat \"$p\"; done";

/// Nothing is protected any more, and nothing there.
const CLEAR: &str = "chattr -R -ia . 2> /dev/null || true; rm -rf f d";

fn needs_chattr(w: &Fixture) -> Outcome {
    w.sh("touch f")?;
    if w.sh("chattr +i f && chattr -i f").is_err() {
        return Err(Stop::Skip("no chattr +i here".into()));
    }
    w.sh(CLEAR).map(drop)
}

fn of_protected(w: &mut Fixture) -> Outcome {
    needs_chattr(w)?;
    for (before, action) in ACTIONS {
        w.sh(before)?;
        let start = w.sh(STATE)?;
        let watch = Watch::begin(w)?;
        w.sh(action).at(*action)?;
        let ours = watch.operations(w)?;
        let end = w.sh(STATE)?;
        check!(start != end, "{action}: nothing was done");
        let answer = take_back(w, &ours, WALK).at(*action)?;
        same(*action, w.sh(STATE)?, start.clone())?;
        let undo = reverts_since(w, answer.seq)?;
        take_back(w, &undo, REDO).at(*action)?;
        same(format!("{action}, redone"), w.sh(STATE)?, end)?;
        w.remount_if_lasting()?;
        take_back(w, &ours, WALK).at(*action)?;
        same(format!("{action}, undone again"), w.sh(STATE)?, start)?;
        w.sh(CLEAR)?;
    }
    Ok(())
}

/// A crash came when everything was applied, and nothing said so yet.
fn interrupted(w: &mut Fixture) -> Outcome {
    needs_chattr(w)?;
    w.below("")?;
    for (before, action) in ACTIONS {
        w.remount_empty("")?;
        w.sh(before)?;
        let watch = Watch::begin(w)?;
        w.sh(action)?;
        let ours = watch.operations(w)?;
        let end = w.sh(STATE)?;
        take_back(w, &ours, 0).at(*action)?;
        let start = w.sh(STATE)?;
        let mut reverts = watch.lines(w)?;
        reverts.retain(|placed| placed.line.op == "revert");
        cut(w, "revert")?;
        w.mount()?;
        if reverts.len() == 1 {
            // One of one object is gone on with.
            same(format!("{action}, done"), w.sh(STATE)?, start)?;
            w.sh(CLEAR)?;
            continue;
        }
        same(format!("{action}, withdrawn"), w.sh(STATE)?, end)?;
        take_back(w, &ours, WALK).at(*action)?;
        same(format!("{action}, asked again"), w.sh(STATE)?, start)?;
        w.sh(CLEAR)?;
    }
    Ok(())
}

/// A user who may not lift protection, or restore it, gets an error before any change.
fn refused(w: &mut Fixture) -> Outcome {
    needs_chattr(w)?;
    let without = "setpriv --bounding-set -linux_immutable --inh-caps -linux_immutable";
    for (before, action) in [
        ("echo one > f", "echo two > f; chattr +i f"),
        ("echo one > f; chattr +a f", "chattr -a f; echo two > f"),
    ] {
        w.sh(before)?;
        let start = w.sh(STATE)?;
        let watch = Watch::begin(w)?;
        w.sh(action)?;
        let count = watch.operations(w)?.len();
        let end = w.sh(STATE)?;
        let lines = group::history(w)?.len();
        for flag in ["--dry-run", ""] {
            let line = format!("{without} logctl undo -2 {flag} 2>&1 || echo refused");
            let said = w.sh(&line)?;
            let what = format!("{action}, {flag}: {said}");
            check!(said.ends_with("\nrefused\n"), "{what}: it was not refused");
            check!(said.contains("nothing changed"), "{what}: is it so?");
            same(&what, w.sh(STATE)?, end.clone())?;
            same(what, group::history(w)?.len(), lines)?;
        }
        let newest = watch.operations(w)?;
        same("operations", newest.len(), count)?;
        take_back(w, &newest, WALK).at(action)?;
        same(action, w.sh(STATE)?, start)?;
        w.sh(CLEAR)?;
    }
    Ok(())
}

/// The modification time of a directory, which an operation had set, is restored although names in it changed
/// afterwards.
fn of_times(w: &mut Fixture) -> Outcome {
    w.sh("mkdir d; touch d/a; touch -d @1000000000 d")?;
    for action in [
        "touch -d @1100000000 d; rm d/a; touch d/b",
        "touch -d @1100000000 d; mkdir d/c; touch d/c/x; mv d/a d/c",
        "chmod 700 d; touch -d @1100000000 d; mv d/a d/e; chmod 755 d",
    ] {
        let watch = Watch::begin(w)?;
        w.sh(action)?;
        take_back(w, &watch.operations(w)?, WALK).at(action)?;
        same(action, w.sh("ls d")?, "a\n".into())?;
        same(action, w.path("d").metadata()?.mtime(), 1_000_000_000)?;
        w.remount_if_lasting()?;
        same(action, w.path("d").metadata()?.mtime(), 1_000_000_000)?;
    }
    Ok(())
}
