// SPDX-License-Identifier: GPL-2.0

//! Mount options of every kind, through mount(2) and fsconfig(2), for new mounts and remounts:
//! accepted or refused, and the mounts work.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::CWD;
use rustix::mount::{
    self as rmount, FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, MountFlags,
    MoveMountFlags, UnmountFlags,
};

use crate::crafted::absurd;
use crate::fixture::Fixture;
use crate::harness::Test;
use crate::mounts;
use crate::outcome::{check, same_bytes, At, Outcome};
use crate::pace::{count, Rounds};
use crate::shadow::Random;

pub const TESTS: &[Test] = &[Test::new("fuzz-options", options)
    .unmounted()
    .lengthy()
    .seconds(120)];

const KEYS: [&str; 24] = [
    "tmpfs",
    "size",
    "history",
    "history_max",
    "on_full",
    "on_error",
    "commit",
    "args",
    "source",
    "ro",
    "rw",
    "sync",
    "lazytime",
    "nolazytime",
    "dirsync",
    "silent",
    "subtype",
    "context",
    "Private",
    "history ",
    "",
    "log_reads",
    "user_id",
    "commit=1",
];

const VALUES: [&str; 30] = [
    "",
    "on",
    "off",
    "On",
    "trim",
    "deny",
    "continue",
    "refuse",
    "0",
    "1",
    "3600",
    "3601",
    "-1",
    "00000000000000000000001",
    "4294967295",
    "4294967296",
    "18446744073709551615",
    "18446744073709551616",
    "512M",
    "64K",
    "8T",
    "9999999999T",
    "16777216T",
    "50%",
    "0%",
    "101%",
    "%",
    "on,off",
    "\u{fc}\u{1f4a9}",
    "\t\n\x1b[1m",
];

fn pick<'a>(random: &mut Random, of: &[&'a str]) -> &'a str {
    of[random.below(of.len() as u64) as usize]
}

/// A key and perhaps a value.
fn option(random: &mut Random) -> (String, Option<String>) {
    let key = match random.below(12) {
        0 => pick(random, &KEYS).repeat(1 + random.below(40) as usize),
        1 => format!("k{:x}", random.next()),
        // Our own, mostly.
        2..=4 => pick(random, &KEYS).to_string(),
        _ => KEYS[random.below(8) as usize].to_string(),
    };
    let value = match random.below(10) {
        0 => None,
        1 => Some("9".repeat(random.below(300) as usize)),
        2 => Some(absurd(random).to_string()),
        3 => Some(format!(
            "{}{}",
            absurd(random),
            pick(random, &["k", "M", "g", "T", "P"])
        )),
        _ => Some(pick(random, &VALUES).to_string()),
    };
    (key, value)
}

/// The source that is mostly given.
fn source(w: &Fixture, random: &mut Random) -> Option<String> {
    match random.below(16) {
        0 => None,
        1 => Some(String::new()),
        2 => Some("none".into()),
        3 => Some("/proc/self/exe".into()),
        4 => Some(format!("/{}", "x".repeat(random.below(5000) as usize))),
        _ => Some(w.source()),
    }
}

fn options(w: &mut Fixture) -> Outcome {
    let mut rounds = Rounds::new(w, "fuzz-options", 100);
    while let Some(mut random) = rounds.next() {
        let chosen: Vec<_> = (0..random.below(4)).map(|_| option(&mut random)).collect();
        let from = source(w, &mut random);
        let mounted = if random.below(2) == 0 {
            by_mount(w, from.as_deref(), &chosen, MountFlags::empty())
        } else {
            by_fsconfig(w, from.as_deref(), &chosen, &mut random)
        };
        count(if mounted.is_ok() {
            "mounted"
        } else {
            "refused"
        });
        if mounted.is_ok() {
            let outcome = use_mount(w, &mut random);
            rounds.judge(outcome, format!("source {from:?}, options {chosen:?}"))?;
        }
        let left = mounts::mounts_below(&w.mnt);
        check!(left.is_empty(), "{left:?} are left, options {chosen:?}");
    }
    Ok(())
}

/// mount(2), whose text is a page at most.
fn by_mount(
    w: &Fixture,
    source: Option<&str>,
    options: &[(String, Option<String>)],
    flags: MountFlags,
) -> io::Result<()> {
    let words: Vec<String> = options
        .iter()
        .map(|(key, value)| match value {
            Some(value) => format!("{key}={value}"),
            None => key.clone(),
        })
        .collect();
    let data = CString::new(words.join(","))?;
    let source = source.unwrap_or("none");
    Ok(rmount::mount(
        source,
        &w.mnt,
        "loggerfs",
        flags,
        data.as_c_str(),
    )?)
}

fn set(fs: &OwnedFd, random: &mut Random, key: &str, value: Option<&str>) -> io::Result<()> {
    let done = match (value, random.below(12)) {
        (_, 0) => {
            rmount::fsconfig_set_binary(fs, key, &random.bytes(random.clone().below(300) as usize))
        }
        (_, 1) => rmount::fsconfig_set_path(fs, key, value.unwrap_or("/"), CWD),
        (_, 2) => rmount::fsconfig_set_fd(fs, key, fs),
        (_, 3) => rmount::fsconfig_set_path_empty(fs, key, CWD),
        (Some(value), _) => rmount::fsconfig_set_string(fs, key, value),
        (None, _) => rmount::fsconfig_set_flag(fs, key),
    };
    Ok(done?)
}

/// The new calls, in an order that may be wrong.
fn by_fsconfig(
    w: &Fixture,
    source: Option<&str>,
    options: &[(String, Option<String>)],
    random: &mut Random,
) -> io::Result<()> {
    let fs = rmount::fsopen("loggerfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    if let Some(source) = source {
        let _ = rmount::fsconfig_set_string(&fs, "source", source);
    }
    for (key, value) in options {
        // One that is refused leaves the others.
        let _ = set(&fs, random, key, value.as_deref());
    }
    match random.below(8) {
        0 => drop(rmount::fsconfig_reconfigure(&fs)),
        1 => rmount::fsconfig_create_exclusive(&fs)?,
        2 => {
            rmount::fsconfig_create(&fs)?;
            let _ = rmount::fsconfig_create(&fs);
            let _ = rmount::fsconfig_set_string(&fs, "commit", "7");
        }
        3 => {}
        _ => rmount::fsconfig_create(&fs)?,
    }
    let mount = rmount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(rmount::move_mount(&mount, "", CWD, &w.mnt, empty)?)
}

/// Remounts at random, by both ways; whether that succeeds is not said.
fn remount(w: &Fixture, random: &mut Random) {
    let chosen: Vec<_> = (0..random.below(3)).map(|_| option(random)).collect();
    if random.below(2) == 0 {
        let text = chosen.iter().map(|(key, value)| match value {
            Some(value) => format!("{key}={value}"),
            None => key.clone(),
        });
        let words: Vec<String> = text.collect();
        let Ok(data) = CString::new(words.join(",")) else {
            return;
        };
        let read_only = if random.below(3) == 0 {
            MountFlags::RDONLY
        } else {
            MountFlags::empty()
        };
        let _ = rmount::mount_remount(&w.mnt, read_only, data.as_c_str());
        return;
    }
    let Ok(fs) = rmount::fspick(CWD, &w.mnt, FsPickFlags::FSPICK_CLOEXEC) else {
        return;
    };
    for (key, value) in &chosen {
        let _ = set(&fs, random, key, value.as_deref());
    }
    let _ = rmount::fsconfig_reconfigure(&fs);
}

/// A mount accepts a write and its revert, or refuses them, and can be unmounted.
fn use_mount(w: &Fixture, random: &mut Random) -> Outcome {
    fs::read_to_string("/proc/self/mountinfo")?;
    let _ = fs::write(w.path("f"), b"before");
    for _ in 0..=random.below(2) {
        let before = fs::read(w.path("f")).unwrap_or_default();
        let wrote = fs::OpenOptions::new()
            .append(true)
            .open(w.path("f"))
            .and_then(|mut file| io::Write::write_all(&mut file, b" and after"));
        if wrote.is_ok() && w.try_revert("f", 1).is_ok() {
            same_bytes("reverted", &w.read("f")?, &before)?;
            count("reverts");
        }
        remount(w, random);
    }
    fs::read_to_string("/proc/self/mountinfo")?;
    rmount::unmount(&w.mnt, UnmountFlags::empty()).at("unmounting")
}
