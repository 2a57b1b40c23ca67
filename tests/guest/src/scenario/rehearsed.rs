// SPDX-License-Identifier: GPL-2.0

//! Rights to set attributes: a dry run asks for them as the undo itself does, before anything is changed.

use crate::fixture::Fixture;
use crate::group::{Placed, Watch, DRY_RUN, WALK};
use crate::harness::Test;
use crate::mounts::Lower;
use crate::outcome::{same, Outcome};

use super::past::as_uid;

pub const TESTS: &[Test] = &[
    Test::new("rehearsed-attributes-refused", refused)
        .lengthy()
        .seconds(240),
    Test::new("rehearsed-attributes-of-ones-own", own)
        .lengthy()
        .seconds(240),
];

const ANA: u32 = 2000;

/// Root's operations on a user's file that the user's own calls could not undo: a name, the initial state,
/// and the operation.
const OTHERS: &[(&str, &str, &str)] = &[
    ("group", "chown :3000 box/f", "chown :4000 box/f"),
    (
        "trusted",
        "setfattr -n trusted.x -v 1 box/f",
        "setfattr -n trusted.x -v 2 box/f",
    ),
    (
        "group-and-mode",
        "chown :3000 box/f; chmod 640 box/f",
        "chmod 600 box/f; chown :4000 box/f; touch -d 2001-01-01 box/f",
    ),
];

/// And some that the user may undo.
const OWN: &[(&str, &str, &str)] = &[
    ("mode", "chmod 600 box/f", "chmod 640 box/f"),
    (
        "times",
        "touch -d 2001-01-01 box/f",
        "touch -d 2002-02-02 box/f",
    ),
    (
        "xattr",
        "setfattr -n user.x -v 1 box/f",
        "setfattr -n user.x -v 2 box/f",
    ),
    (
        "acl",
        "setfacl -m u:3000:r box/f",
        "setfacl -m u:3000:rw box/f",
    ),
    ("own-group", "chown :2000 box/f", "chown :3000 box/f"),
    (
        "read-only",
        "setfattr -n user.x -v 1 box/f; chmod 444 box/f",
        "setfattr -n user.x -v 2 box/f",
    ),
    (
        "xattr-and-acl",
        "setfattr -n user.x -v 1 box/f",
        "setfattr -n user.x -v 2 box/f; setfacl -m u::r box/f",
    ),
];

fn prepared(w: &Fixture, name: &str, before: &str, done: &str) -> Outcome<Option<Vec<Placed>>> {
    w.sh("rm -rf box; mkdir -m 777 box; echo one > box/f; chown 2000:2000 box/f; chmod 644 box/f")?;
    if name.ends_with("acl") && w.lower == Lower::Btrfs {
        // Some builds mount it without ACLs.
        if w.sh("setfacl -m u:1:r box/f && echo yes || true")?.trim() != "yes" {
            return Ok(None);
        }
        w.sh("setfacl -b box/f")?;
    }
    w.sh(before)?;
    let since = Watch::begin(w)?;
    w.sh(done)?;
    since.operations(w).map(Some)
}

fn looks(w: &Fixture) -> Outcome<String> {
    let stat = "stat -c '%u %g %a %Y' box/f; cat box/f";
    w.sh(&format!(
        "{stat}; getfattr -d -m - -e hex box/f 2>/dev/null; getfacl -c box/f 2>/dev/null || true"
    ))
}

fn refused(w: &mut Fixture) -> Outcome {
    for (name, before, done) in OTHERS {
        let Some(operations) = prepared(w, name, before, done)? else {
            continue;
        };
        let was = looks(w)?;
        for flags in [DRY_RUN, 0, DRY_RUN | WALK, WALK] {
            let error = as_uid(w, ANA, "box/f", &operations, flags)?;
            same(format!("{name}, flags {flags}"), error, Some(libc::EPERM))?;
            same(format!("{name}, flags {flags}"), looks(w)?, was.clone())?;
        }
        let lines = w.sh("logctl box/f readlog --all | grep -c ' cancel ' || true")?;
        same(format!("{name}: what was begun"), lines.trim(), "0")?;
    }
    Ok(())
}

fn own(w: &mut Fixture) -> Outcome {
    for (name, before, done) in OWN {
        w.sh("rm -rf box; mkdir -m 777 box; echo one > box/f; chown 2000:2000 box/f; chmod 644 box/f")?;
        let Some(_) = prepared(w, name, before, "true")? else {
            continue;
        };
        let was = looks(w)?;
        let since = Watch::begin(w)?;
        w.sh(done)?;
        let operations = since.operations(w)?;
        for flags in [DRY_RUN, 0] {
            let error = as_uid(w, ANA, "box/f", &operations, flags)?;
            same(format!("{name}, flags {flags}"), error, None)?;
        }
        same(format!("{name}: taken back"), looks(w)?, was)?;
    }
    Ok(())
}
