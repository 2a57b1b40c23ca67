// SPDX-License-Identifier: GPL-2.0

//! nosuid, nodev and noexec of the source's mount apply through LoggerFS, with any flags of the LoggerFS
//! mount: tested with real programs, as an unprivileged user.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{chown, FileExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FileType, Mode, XattrFlags, CWD};
use rustix::io::Errno;

use crate::fixture::Fixture;
use crate::harness::Test;
use crate::mounts::{self, run, Lower};
use crate::outcome::{check, fail, same, same_errno, At, Outcome};
use crate::sys::{as_user, Map};
use crate::undo;

const BELOW: &[Lower] = &[Lower::Tmpfs, Lower::Ext4];

pub const TESTS: &[Test] = &[
    Test::new("source-nosuid", nosuid).unmounted(),
    Test::new("source-nosuid-bits-still-go", bits_still_go)
        .only(BELOW)
        .unmounted(),
    Test::new("source-nodev", nodev).only(BELOW).unmounted(),
    Test::new("source-noexec", noexec).only(BELOW).unmounted(),
    Test::new("source-limits-joined", joined)
        .only(BELOW)
        .unmounted(),
];

const USER: u32 = 1000;

/// cap_net_raw, permitted and effective.
const CAPABILITY: [u8; 20] = {
    let mut value = [0; 20];
    value[0] = 1;
    value[3] = 2;
    value[5] = 0x20;
    value
};

/// A second mount of the source, with flags of its own.
fn limited(w: &Fixture, flags: &str) -> Outcome<PathBuf> {
    let (src, at) = (w.below("")?, w.base.join("limited"));
    fs::create_dir_all(&at)?;
    let text = |path: &Path| path.display().to_string();
    run(&["mount", "--bind", &text(&src), &text(&at)])?;
    run(&["mount", "-o", &format!("remount,bind,{flags}"), &text(&at)])?;
    Ok(at)
}

fn mount(source: &Path, at: &Path) -> Outcome {
    fs::create_dir_all(at)?;
    match mounts::mount(&source.display().to_string(), at, "") {
        Ok(()) => Ok(()),
        Err(refusal) => fail!("mounting: {} {:?}", refusal.error, refusal.said),
    }
}

fn remount(at: &Path, flags: &str) -> Outcome {
    let at = at.display().to_string();
    run(&["mount", "-o", &format!("remount,bind,{flags}"), &at]).map(drop)
}

fn mode(path: &Path, mode: u32) -> Outcome {
    fs::set_permissions(path, Permissions::from_mode(mode)).at(format!("chmod {mode:o}"))
}

/// `id` with a set-id bit each, and `cat` with a capability.
fn programs(dir: &Path) -> Outcome {
    for (name, bits) in [("suid", 0o4755), ("sgid", 0o2755)] {
        fs::copy("/usr/bin/id", dir.join(name))?;
        mode(&dir.join(name), bits)?;
    }
    fs::copy("/usr/bin/cat", dir.join("cat"))?;
    let flags = XattrFlags::empty();
    let set = rustix::fs::setxattr(dir.join("cat"), "security.capability", &CAPABILITY, flags);
    set.map_err(io::Error::from).at("security.capability")
}

fn output(program: &Path, args: &[&str]) -> Outcome<String> {
    let mut command = Command::new(program);
    let output = command.args(args).uid(USER).gid(USER).output();
    let output = output.at(format!("running {}", program.display()))?;
    check!(output.status.success(), "{program:?}: {output:?}");
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
}

/// Whose rights the programs get.
fn rights(dir: &Path) -> Outcome<[bool; 3]> {
    let status = output(&dir.join("cat"), &["/proc/self/status"])?;
    let effective = status.lines().find(|line| line.starts_with("CapEff:"));
    let effective = effective.unwrap_or_default().trim_end().to_string();
    Ok([
        output(&dir.join("suid"), &["-u"])? == "0",
        output(&dir.join("sgid"), &["-g"])? == "0",
        !effective.ends_with("0000000000000000"),
    ])
}

fn nosuid(w: &mut Fixture) -> Outcome {
    programs(&w.below("")?)?;
    let (source, mnt) = (limited(w, "nosuid")?, w.mnt.clone());
    let plain = w.below("")?;
    mount(&plain, &mnt)?;
    same("without nosuid", rights(&mnt)?, [true; 3])?;
    mounts::unmount(&mnt)?;
    mount(&source, &mnt)?;
    same("a nosuid source", rights(&mnt)?, [false; 3])?;
    same(
        "the mode",
        fs::metadata(mnt.join("suid"))?.mode() & 0o7777,
        0o4755,
    )?;
    // The same program once more, made through the mount, and set anew.
    fs::copy("/usr/bin/id", mnt.join("made"))?;
    mode(&mnt.join("made"), 0o4755)?;
    same(
        "made there",
        output(&mnt.join("made"), &["-u"])?,
        "1000".into(),
    )?;
    same(
        "below",
        fs::metadata(plain.join("made"))?.mode() & 0o7777,
        0o4755,
    )?;
    remount(&mnt, "suid,exec,dev")?;
    same("ours remounted", rights(&mnt)?, [false; 3])?;
    remount(&source, "suid")?;
    same("the source remounted", rights(&mnt)?, [false; 3])?;
    mounts::unmount(&mnt)?;
    // In place.
    remount(&source, "nosuid")?;
    mount(&source, &source)?;
    same("in place", rights(&source)?, [false; 3])?;
    mounts::unmount(&source)?;
    mounts::unmount(&source)
}

/// The VFS does not see the bits, but a write, a truncation and a change of the owner take them.
fn bits_still_go(w: &mut Fixture) -> Outcome {
    let plain = w.below("")?;
    let (source, mnt) = (limited(w, "nosuid")?, w.mnt.clone());
    mount(&source, &mnt)?;
    type ChangeFn = fn(&Path) -> io::Result<()>;
    let changes: [(&str, ChangeFn); 4] = [
        ("write", |path| {
            let file = OpenOptions::new().write(true).open(path)?;
            as_user(USER, || file.write_at(b"x", 0).map(drop))
        }),
        ("truncate", |path| {
            as_user(USER, || {
                OpenOptions::new().write(true).open(path)?.set_len(1)
            })
        }),
        ("O_TRUNC", |path| {
            let mut options = OpenOptions::new();
            options.write(true).truncate(true);
            as_user(USER, || options.open(path).map(drop))
        }),
        ("chown", |path| chown(path, Some(0), Some(1))),
    ];
    for (number, (what, change)) in changes.into_iter().enumerate() {
        let name = format!("f{number}");
        fs::write(mnt.join(&name), b"content")?;
        mode(&mnt.join(&name), 0o6777)?;
        change(&mnt.join(&name)).at(what)?;
        for dir in [&mnt, &plain] {
            let bits = fs::metadata(dir.join(&name))?.mode() & 0o7777;
            same(what, format!("{bits:o}"), "777".into())?;
        }
        // They come back with an undo, and go nowhere but below.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(mnt.join(&name))?;
        let bits = || Ok::<_, io::Error>(fs::metadata(plain.join(&name))?.mode() & 0o7777);
        for _ in 0..2 {
            if bits()? != 0o6777 {
                undo::revert(&file, 1).at(what)?;
            }
        }
        same(
            format!("{what}, undone"),
            format!("{:o}", bits()?),
            "6777".into(),
        )?;
    }
    // A directory's group is passed on.
    fs::create_dir(mnt.join("d"))?;
    chown(mnt.join("d"), Some(0), Some(USER))?;
    mode(&mnt.join("d"), 0o2755)?;
    fs::write(mnt.join("d/f"), b"")?;
    same("its group", fs::metadata(mnt.join("d/f"))?.gid(), USER)?;
    mounts::unmount(&mnt)?;
    mounts::unmount(&source)
}

fn nodev(w: &mut Fixture) -> Outcome {
    let plain = w.below("")?;
    let (source, mnt) = (limited(w, "nodev")?, w.mnt.clone());
    let mode = Mode::from_raw_mode(0o666);
    let null = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(
        CWD,
        plain.join("null"),
        FileType::CharacterDevice,
        mode,
        null,
    )?;
    File::open(plain.join("null")).at("on the plain source")?;
    mount(&source, &mnt)?;
    for flags in ["", "dev,suid,exec"] {
        if !flags.is_empty() {
            remount(&mnt, flags)?;
        }
        same_errno(
            "a nodev source",
            File::open(mnt.join("null")),
            Errno::ACCESS,
        )?;
        let made = mnt.join(format!("made{flags}"));
        rustix::fs::mknodat(CWD, &made, FileType::CharacterDevice, mode, null)?;
        same_errno("made there", File::open(&made), Errno::ACCESS)?;
    }
    mounts::unmount(&mnt)?;
    mount(&plain, &mnt)?;
    File::open(mnt.join("null")).at("a plain source")?;
    mounts::unmount(&mnt)?;
    mounts::unmount(&source)
}

fn noexec(w: &mut Fixture) -> Outcome {
    let plain = w.below("")?;
    let (source, mnt) = (limited(w, "noexec")?, w.mnt.clone());
    programs(&plain)?;
    fs::write(plain.join("script"), "#!/bin/sh\necho run\n")?;
    mode(&plain.join("script"), 0o755)?;
    mount(&source, &mnt)?;
    for flags in ["", "exec,suid,dev"] {
        if !flags.is_empty() {
            remount(&mnt, flags)?;
        }
        for name in ["suid", "cat", "script"] {
            let ran = Command::new(mnt.join(name)).output();
            same_errno(format!("a noexec source: {name}"), ran, Errno::ACCESS)?;
        }
        let map = Map::of(&File::open(mnt.join("cat"))?, 4096, false, false)?;
        let executable = libc::PROT_READ | libc::PROT_EXEC;
        same_errno(
            "a map of it",
            map.protect(0, 4096, executable),
            Errno::ACCESS,
        )?;
    }
    mounts::unmount(&mnt)?;
    mount(&plain, &mnt)?;
    same(
        "a plain source",
        output(&mnt.join("script"), &[])?,
        "run".into(),
    )?;
    mounts::unmount(&mnt)?;
    mounts::unmount(&source)
}

/// A mount that joins another one gets no more than its own source gives.
fn joined(w: &mut Fixture) -> Outcome {
    let plain = w.below("")?;
    programs(&plain)?;
    let (mnt, second) = (w.mnt.clone(), w.base.join("second"));
    for flag in ["nosuid", "nodev", "noexec"] {
        let source = limited(w, flag)?;
        mount(&plain, &mnt)?;
        fs::create_dir_all(&second)?;
        match mounts::mount(&source.display().to_string(), &second, "") {
            Ok(()) => fail!("a {flag} source joined a mount that is not"),
            Err(refusal) => {
                same("errno", refusal.error.raw_os_error(), Some(libc::EBUSY))?;
                let said = refusal.said.join(" ");
                check!(said.contains(flag), "the sentence: {said}");
            }
        }
        mounts::unmount(&mnt)?;
        // The other way round the first one's holds for both.
        mount(&source, &mnt)?;
        mount(&plain, &second)?;
        match flag {
            "nosuid" => same("joined", rights(&second)?, [false; 3])?,
            "noexec" => {
                let ran = Command::new(second.join("cat")).output();
                same_errno("joined", ran, Errno::ACCESS)?;
            }
            _ => {}
        }
        mounts::unmount(&second)?;
        mounts::unmount(&mnt)?;
        mounts::unmount(&source)?;
    }
    Ok(())
}
