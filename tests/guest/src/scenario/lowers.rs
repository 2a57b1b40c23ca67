// SPDX-License-Identifier: GPL-2.0

//! Lower filesystems without the features that undo needs are refused, with a message that names
//! the missing one; nothing is left in them, and without history they can be mounted.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::fixture::Fixture;
use crate::harness::Test;
use crate::mounts::{self, run, Lower};
use crate::outcome::{check, fail, same, same_errno, At, Outcome};
use crate::undo;

const HANDLE: &str = "find a file again by its file handle";

pub const TESTS: &[Test] = &[
    lower("lower-overlayfs", |w| {
        cannot(
            w,
            HANDLE,
            &format!("mount -t overlay -o {LAYERS} overlay $AT"),
        )
    }),
    lower("lower-overlayfs-with-handles", overlay_with_handles),
    lower("lower-ramfs", |w| {
        cannot(w, HANDLE, "mount -t ramfs ramfs $AT")
    }),
    lower("lower-vfat", |w| {
        let script =
            "modprobe loop; truncate -s 8M disk; mkfs.vfat disk >/dev/null; mount -o loop disk $AT";
        never(w, "compares names without regard to case", script)
    }),
    lower("lower-fuse", |w| {
        let script = "mkdir real; bindfs --no-allow-other real $AT";
        cannot(w, "rename between directories", script)
    }),
    lower("lower-nfs", nfs).seconds(180),
    lower("lower-probe-is-repeated", repeated),
    Test::new("lower-probe-leaves-nothing", leaves_nothing).only(&[
        Lower::Tmpfs,
        Lower::Ext4,
        Lower::Xfs,
        Lower::Btrfs,
    ]),
];

/// A test with a lower filesystem of its own, which lies on ext4.
const fn lower(name: &'static str, run: fn(&mut Fixture) -> Outcome) -> Test {
    Test::new(name, run).only(&[Lower::Ext4]).unmounted()
}

const LAYERS: &str = "lowerdir=low,upperdir=up,workdir=work";

/// Runs a script that mounts a filesystem at `$AT`.
fn make(w: &Fixture, script: &str) -> Outcome<PathBuf> {
    let at = w.base.join("at");
    fs::create_dir_all(&at)?;
    let line = format!(
        "cd {}; mkdir -p low up work; AT={}; {script}",
        w.base.display(),
        at.display()
    );
    run(&["bash", "-euc", &line])?;
    Ok(at)
}

fn names(at: &Path) -> Outcome<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(at)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn cannot(w: &mut Fixture, what: &str, script: &str) -> Outcome {
    let at = make(w, script)?;
    refused(w, &at, what)?;
    mounts::unmount(&at)
}

/// The mount is refused, with history and without.
fn never(w: &Fixture, what: &str, script: &str) -> Outcome {
    let at = make(w, script)?;
    let before = names(&at)?;
    let source = at.display().to_string();
    for options in ["", "history=off", "ro"] {
        match mounts::mount(&source, &w.mnt, options) {
            Ok(()) => {
                mounts::unmount(&w.mnt)?;
                fail!("mounted with '{options}'");
            }
            Err(refusal) => {
                let said = refusal.said.join(" / ");
                same_errno::<()>(&said, Err(refusal.error), Errno::INVAL)?;
                check!(said.contains(what), "no '{what}' in: {said}");
            }
        }
    }
    same("left behind", names(&at)?, before)?;
    mounts::unmount(&at)
}

/// The mount is refused because the filesystem lacks `what`; without history it succeeds.
fn refused(w: &Fixture, at: &Path, what: &str) -> Outcome {
    fs::write(at.join("there"), "before\n")?;
    let before = names(at)?;
    let source = at.display().to_string();
    match mounts::mount(&source, &w.mnt, "") {
        Ok(()) => {
            mounts::unmount(&w.mnt)?;
            fail!("mounted over what cannot {what}");
        }
        Err(refusal) => {
            let said = refusal.said.join(" / ");
            same_errno::<()>(&said, Err(refusal.error), Errno::OPNOTSUPP)?;
            check!(said.contains(what), "no '{what}' in: {said}");
            check!(said.contains("history=off"), "nothing to do in: {said}");
            same("sentences", refusal.said.len(), 1)?;
        }
    }
    same("left behind", names(at)?, before.clone())?;
    for options in ["history=off", "ro"] {
        if let Err(refusal) = mounts::mount(&source, &w.mnt, options) {
            fail!("with {options}: {} {:?}", refusal.error, refusal.said);
        }
        same(options, fs::read(w.path("there"))?, b"before\n".to_vec())?;
        if options != "ro" {
            fs::write(w.path("new"), "x").at("writing without history")?;
            fs::remove_file(w.path("new")).at("removing without history")?;
        }
        mounts::unmount(&w.mnt)?;
    }
    same("left behind", names(at)?, before)
}

/// Over overlayfs with file handles, all operations that the probe permits can be undone.
fn overlay_with_handles(w: &mut Fixture) -> Outcome {
    let script = format!(
        "mkdir low/d; echo one > low/d/f; echo two > low/g;
        mount -t overlay -o {LAYERS},index=on,nfs_export=on overlay $AT"
    );
    let at = make(w, &script)?;
    let source = at.display().to_string();
    if let Err(refusal) = mounts::mount(&source, &w.mnt, "") {
        fail!("{} {:?}", refusal.error, refusal.said);
    }
    w.sh("echo three > h; echo more >> g; rm d/f; rm g; mv h i")?;
    undo::revert(&File::open(w.path("d"))?, 1).at("d")?;
    same("d/f", fs::read(w.path("d/f"))?, b"one\n".to_vec())?;
    undo::revert(&File::open(&w.mnt)?, 2).at("the root")?;
    same("g", fs::read(w.path("g"))?, b"two\nmore\n".to_vec())?;
    same("h", fs::read(w.path("h"))?, b"three\n".to_vec())?;
    w.revert("g", 1)?;
    same("g", fs::read(w.path("g"))?, b"two\n".to_vec())?;
    mounts::unmount(&w.mnt)?;
    mounts::unmount(&at)
}

/// A server on this machine.
fn nfs(w: &mut Fixture) -> Outcome {
    let script = "mkdir real; ip link set lo up; modprobe nfsd
        mountpoint -q /proc/fs/nfsd || mount -t nfsd nfsd /proc/fs/nfsd
        echo 10 > /proc/fs/nfsd/nfsv4leasetime; echo 10 > /proc/fs/nfsd/nfsv4gracetime
        exportfs -o rw,no_root_squash,insecure,fsid=7 127.0.0.1:$PWD/real
        pgrep rpc.mountd >/dev/null || rpc.mountd -N 3
        rpc.nfsd -N 3 -V 4 1
        mount -t nfs4 -o vers=4.2,soft,timeo=100 127.0.0.1:$PWD/real $AT";
    let at = make(w, script)?;
    let outcome = refused(w, &at, "rename between directories");
    run(&[
        "bash",
        "-c",
        &format!(
            "umount {}; rpc.nfsd 0; exportfs -ua; pkill rpc.mountd; umount /proc/fs/nfsd; true",
            at.display()
        ),
    ])?;
    outcome
}

/// A filesystem that lost a needed feature since the last mount is refused, too; the history stays.
fn repeated(w: &mut Fixture) -> Outcome {
    let handles = format!("mount -t overlay -o {LAYERS},index=on,nfs_export=on overlay $AT");
    let at = make(w, &handles)?;
    let source = at.display().to_string();
    let mount = |options: &str| mounts::mount(&source, &w.mnt, options);
    if let Err(refusal) = mount("") {
        fail!("{} {:?}", refusal.error, refusal.said);
    }
    w.sh("echo one > f; echo two > f")?;
    mounts::unmount(&w.mnt)?;
    mounts::unmount(&at)?;
    make(
        w,
        &format!("mount -t overlay -o {LAYERS},index=off,nfs_export=off overlay $AT"),
    )?;
    match mount("") {
        Ok(()) => fail!("mounted without file handles"),
        Err(refusal) => {
            let said = refusal.said.join(" / ");
            check!(said.contains("cannot") && said.contains("undo"), "{said}");
        }
    }
    check!(at.join(".loggerfs/format").exists(), "the history is gone");
    mounts::unmount(&at)?;
    make(w, &handles)?;
    if let Err(refusal) = mount("") {
        fail!("again: {} {:?}", refusal.error, refusal.said);
    }
    w.revert("f", 1)?;
    same("f", fs::read(w.path("f"))?, Vec::new())?;
    mounts::unmount(&w.mnt)?;
    mounts::unmount(&at)
}

/// Files of the probe are removed, also after a crash.
fn leaves_nothing(w: &mut Fixture) -> Outcome {
    let history = w.history()?;
    let place = history.join("probe");
    check!(!place.exists(), "the probe is there");
    w.unmount()?;
    fs::create_dir_all(place.join("below"))?;
    for name in ["file", "other", "below/file", "below/other"] {
        fs::write(place.join(name), name)?;
    }
    w.mount()?;
    check!(!place.exists(), "what a crash left of the probe is there");
    w.sh("echo one > f; echo two > f; rm f")?;
    undo::revert(&File::open(&w.mnt)?, 1)?;
    w.same("undone", "f", b"two\n")
}
