// SPDX-License-Identifier: GPL-2.0

//! A call that the lower filesystem refuses loses no history: it is not counted, causes no warning,
//! and has no line.

use std::fs;

use rustix::fs::{fallocate, FallocateFlags as Mode, XattrFlags};

use crate::fixture::Fixture;
use crate::harness::Test;
use crate::mounts::Lower;
use crate::outcome::{check, same, Outcome};
use crate::shadow::pattern;

pub const TESTS: &[Test] = &[Test::new("refused-is-not-lost", not_lost).only(&[Lower::Ext4])];

/// How many operations the mount says are without their old content.
fn lost(w: &Fixture) -> Outcome<u64> {
    let status = w.sh("logctl status .")?;
    let Some(line) = status
        .lines()
        .find(|line| line.contains("without their old content"))
    else {
        return Ok(0);
    };
    let number = line.split_whitespace().find_map(|word| word.parse().ok());
    number.ok_or_else(|| crate::outcome::Stop::Fail(format!("no number in '{line}'")))
}

/// Refused calls: each answers an error. Some move the file's times all the same, or have an old state
/// that cannot be read.
fn not_lost(w: &mut Fixture) -> Outcome {
    w.make("big", &pattern(1, 20 << 20))?;
    w.make("f", b"content")?;
    fs::create_dir_all(w.path("full/in"))?;
    fs::create_dir(w.path("empty"))?;
    let (big, file) = (w.open("big")?, w.open("f")?);
    let before = lost(w)?;
    let lines = (w.log("big")?, w.log("f")?);
    let path = w.path("f");
    let set =
        |name: &str, value: &[u8]| rustix::fs::setxattr(&path, name, value, XattrFlags::empty());
    let odd = |mode| fallocate(&big, mode, 100, 5000);
    let refused: Vec<(&str, rustix::io::Result<()>)> = vec![
        ("a name that is only a namespace", set("user.", b"x")),
        ("an unknown namespace", set("nowhere.x", b"x")),
        ("a value for nobody", set("user.long", &vec![7; 70_000])),
        (
            "none to remove",
            rustix::fs::removexattr(&path, "user.none"),
        ),
        ("an odd collapse", odd(Mode::COLLAPSE_RANGE)),
        ("an odd insertion", odd(Mode::INSERT_RANGE)),
        (
            "a directory over one that is full",
            rustix::fs::rename(w.path("empty"), w.path("full")),
        ),
        ("a full directory", rustix::fs::rmdir(w.path("full"))),
    ];
    for (what, result) in refused {
        check!(result.is_err(), "{what}: not refused");
    }
    same("lost by what was refused", lost(w)?, before)?;
    same("lines", (w.log("big")?, w.log("f")?), lines)?;
    drop((file, big));
    Ok(())
}
