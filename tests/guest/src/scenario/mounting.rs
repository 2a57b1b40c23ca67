// SPDX-License-Identifier: GPL-2.0

//! Mounting and unmounting: options, refusals with their sentences, and that nothing is left.

use std::fs;
use std::path::Path;

use rustix::io::Errno;

use super::lasting::sentence;
use crate::fixture::Fixture;
use crate::harness::Test;
use crate::mounts::{self, run, Lower};
use crate::outcome::{check, fail, same, same_errno, Outcome};
use crate::undo;

pub const TESTS: &[Test] = &[
    Test::new("mount-hostile-words", hostile_words).unmounted(),
    Test::new("mount-table", mount_table).unmounted(),
    Test::new("mount-in-place", mount_in_place).unmounted(),
    Test::new("mount-refusals", mount_refusals).unmounted(),
    Test::new("mount-private-size", private_size)
        .only(&[Lower::Private])
        .unmounted(),
    Test::new("mount-private-none", private_none)
        .only(&[Lower::Private])
        .unmounted(),
    Test::new("mount-history-off", history_off).unmounted(),
    Test::new("mount-read-only", read_only).unmounted(),
    Test::new("mount-too-deep", too_deep).unmounted(),
    Test::new("unmount-busy", unmount_busy),
    Test::new("unmount-at-exit", unmount_at_exit)
        .only(&[Lower::Tmpfs, Lower::Ext4, Lower::Xfs, Lower::Btrfs])
        .unmounted(),
    Test::new("mount-rounds", mount_rounds)
        .only(&[Lower::Private, Lower::Ext4])
        .unmounted()
        .seconds(400),
];

/// Type, source and options of a mount point in /proc/mounts.
fn table(at: &Path) -> Outcome<(String, String, String)> {
    let table = fs::read_to_string("/proc/mounts")?;
    let at = at.display().to_string();
    let found = table
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>());
    match found
        .filter(|words| words.get(1) == Some(&at.as_str()))
        .next_back()
    {
        Some(words) => Ok((words[2].into(), words[0].into(), words[3].into())),
        None => fail!("{at} is not in /proc/mounts"),
    }
}

fn mount_table(w: &mut Fixture) -> Outcome {
    w.mount_with("on_full=deny,on_error=refuse,commit=5,history_max=64M")?;
    let (kind, source, options) = table(&w.mnt)?;
    same("type", kind.as_str(), "loggerfs")?;
    same("source", source, w.source())?;
    let options: Vec<&str> = options.split(',').collect();
    for option in ["on_full=deny", "on_error=refuse", "commit=5"] {
        check!(options.contains(&option), "no {option} in {options:?}");
    }
    let shown = options
        .iter()
        .any(|option| option.starts_with("history_max="));
    check!(shown, "no history_max= in {options:?}");
    w.unmount()?;
    // mount(8) itself, with the options' words of every day.
    let (source, at) = (w.source(), w.mnt.display().to_string());
    run(&[
        "mount",
        "-t",
        "loggerfs",
        "-o",
        "noatime,nosuid,nodev",
        &source,
        &at,
    ])?;
    let (kind, shown, options) = table(&w.mnt)?;
    same("mount(8)", (kind.as_str(), shown), ("loggerfs", source))?;
    for option in ["nosuid", "nodev", "noatime"] {
        check!(options.contains(option), "no {option} in {options}");
    }
    run(&["umount", &at]).map(drop)
}

/// SOURCE = TARGET.
fn mount_in_place(w: &mut Fixture) -> Outcome {
    w.below("f")?;
    let src = w.base.join("src");
    fs::write(src.join("f"), "one\n")?;
    let at = src.display().to_string();
    run(&["mount", "-t", "loggerfs", &at, &at])?;
    same("type", table(&src)?.0.as_str(), "loggerfs")?;
    w.mnt = src.clone();
    same("ls", w.sh("ls -a | tr '\\n' ' '")?.as_str(), ". .. f ")?;
    w.sh("echo two >> f")?;
    same("written", w.read("f")?, b"one\ntwo\n".to_vec())?;
    w.revert("f", 1)?;
    same("reverted", w.read("f")?, b"one\n".to_vec())?;
    run(&["umount", &at])?;
    same(
        "the plain directory",
        fs::read(src.join("f"))?,
        b"one\n".to_vec(),
    )?;
    run(&["mount", "-t", "loggerfs", &at, &at])?;
    same_errno("nothing left", w.try_revert("f", 1), Errno::NODATA)?;
    w.sh("echo 2 >> f")?;
    w.revert("f", 1)?;
    run(&["umount", &at]).map(drop)
}

/// A mount must be refused with this errno and a sentence.
fn refused(what: &str, source: &str, at: &Path, options: &str, want: &[Errno]) -> Outcome {
    match mounts::mount(source, at, options) {
        Ok(()) => {
            mounts::unmount(at)?;
            fail!("{what}: mounted")
        }
        Err(refusal) => {
            let errno = refusal.error.raw_os_error().unwrap_or(0);
            let known = want.iter().any(|want| want.raw_os_error() == errno);
            check!(known, "{what}: {} {:?}", refusal.error, refusal.said);
            sentence(&refusal.said).map_err(|_| {
                crate::outcome::Stop::Fail(format!("{what}: no sentence in {:?}", refusal.said))
            })
        }
    }
}

fn mount_refusals(w: &mut Fixture) -> Outcome {
    let source = w.source();
    let at = w.mnt.clone();
    let inval = [Errno::INVAL];
    for options in [
        "nonsense",
        "nonsense=1",
        "on_full=maybe",
        "on_error=",
        "commit=x",
        "commit=-1",
        "history_max=lots",
        "history=perhaps",
    ] {
        refused(options, &source, &at, options, &inval)?;
    }
    if w.src.is_none() {
        return refused("a bad size", "none", &at, "size=much", &inval);
    }
    let base = w.base.display().to_string();
    refused(
        "a missing directory",
        &format!("{base}/missing"),
        &at,
        "",
        &[Errno::NOENT],
    )?;
    refused("a missing name", "missing", &at, "", &[Errno::NOENT])?;
    fs::write(w.base.join("file"), "x")?;
    refused("a file", &format!("{base}/file"), &at, "", &[Errno::NOTDIR])?;
    refused("size= of a directory", &source, &at, "size=10M", &inval)?;
    let ro = w.base.join("ro");
    fs::create_dir(&ro)?;
    let ro_path = ro.display().to_string();
    run(&["mount", "--bind", &source, &ro_path])?;
    run(&["mount", "-o", "remount,bind,ro", &ro_path])?;
    refused("a read-only lower", &ro_path, &at, "", &[Errno::ROFS])?;
    mounts::unmount(&ro)?;
    refused(
        "no file system for it",
        "/proc",
        &at,
        "",
        &[
            Errno::INVAL,
            Errno::OPNOTSUPP,
            Errno::PERM,
            Errno::ACCESS,
            Errno::NOENT,
        ],
    )
}

fn private_size(w: &mut Fixture) -> Outcome {
    for (options, bytes) in [("size=16M", 16 << 20), ("size=20480k", 20 << 20)] {
        w.mount_with(options)?;
        let stat = rustix::fs::statvfs(&w.mnt)?;
        same(options, stat.f_blocks * stat.f_frsize, bytes)?;
        w.unmount()?;
    }
    mounts::mount("none", &w.mnt, "")
        .map_err(|refusal| crate::outcome::Stop::Fail(format!("without options: {refusal:?}")))?;
    let memory = fs::read_to_string("/proc/meminfo")?;
    let total = memory
        .split_whitespace()
        .nth(1)
        .and_then(|kb| kb.parse::<u64>().ok());
    let stat = rustix::fs::statvfs(&w.mnt)?;
    let half = total.unwrap_or(0) * 1024 / 2;
    let size = stat.f_blocks * stat.f_frsize;
    check!(
        size.abs_diff(half) < half / 50,
        "default size {size}, half of memory is {half}"
    );
    mounts::unmount(&w.mnt)
}

/// `none`, any name with `-o tmpfs`, and each mount its own. mount(8) passes the option on, too.
fn private_none(w: &mut Fixture) -> Outcome {
    let second = w.base.join("second");
    fs::create_dir(&second)?;
    for (source, options) in [("none", ""), ("anything", "tmpfs")] {
        mounts::mount(source, &w.mnt, options).map_err(|refusal| {
            crate::outcome::Stop::Fail(format!("{source} {options}: {refusal:?}"))
        })?;
        same("source", table(&w.mnt)?.1.as_str(), source)?;
        w.sh("echo one > f; echo two >> f")?;
        mounts::mount("none", &second, "size=8M")
            .map_err(|refusal| crate::outcome::Stop::Fail(format!("a second one: {refusal:?}")))?;
        check!(
            !second.join("f").exists(),
            "two private mounts share their files"
        );
        w.revert("f", 1)?;
        same("reverted", w.read("f")?, b"one\n".to_vec())?;
        mounts::unmount(&second)?;
        mounts::unmount(&w.mnt)?;
    }
    w.sh(&format!(
        "mount -t loggerfs -o tmpfs anything {}",
        w.mnt.display()
    ))?;
    same("source", table(&w.mnt)?.1.as_str(), "anything")?;
    mounts::unmount(&w.mnt)?;
    refused(
        "any name without tmpfs",
        "anything",
        &w.mnt,
        "",
        &[Errno::NOENT],
    )
}

fn history_off(w: &mut Fixture) -> Outcome {
    let history = w.src.as_ref().map(|src| src.join(".loggerfs"));
    w.mount_with("history=off")?;
    w.sh("echo one > f; echo two >> f")?;
    let file = w.open("f")?;
    let (result, answer) = undo::revert_more(&file, 1, 0);
    same_errno("no history", result, Errno::NODATA)?;
    same("reason HistoryOff", answer.reason, 11)?;
    w.same("written", "f", b"one\ntwo\n")?;
    drop(file);
    w.unmount()?;
    if let Some(history) = history {
        check!(!history.exists(), "history=off made a history");
        w.mount()?;
        same_errno(
            "what was done without history",
            w.try_revert("f", 1),
            Errno::NODATA,
        )?;
        w.sh("echo three >> f")?;
        w.revert("f", 1)?;
        w.same("and what was done with it", "f", b"one\ntwo\n")?;
    }
    Ok(())
}

fn read_only(w: &mut Fixture) -> Outcome {
    w.mount()?;
    w.sh("echo one > f; echo two >> f")?;
    let at = w.mnt.display().to_string();
    run(&["mount", "-o", "remount,ro", &at])?;
    let opened = fs::OpenOptions::new().append(true).open(w.path("f"));
    same_errno("writing", opened, Errno::ROFS)?;
    w.same("reading", "f", b"one\ntwo\n")?;
    run(&["mount", "-o", "remount,rw", &at])?;
    w.revert("f", 1)?;
    w.same("and back", "f", b"one\n")
}

/// LoggerFS on LoggerFS, and more levels than the kernel allows.
fn too_deep(w: &mut Fixture) -> Outcome {
    w.mount()?;
    fs::create_dir(w.path("inner"))?;
    let target = w.base.join("second");
    fs::create_dir(&target)?;
    let source = w.path("inner").display().to_string();
    refused(
        "LoggerFS on LoggerFS",
        &source,
        &target,
        "",
        &[Errno::INVAL, Errno::LOOP, Errno::OPNOTSUPP],
    )?;
    // Two overlays are as deep as stacking may be.
    w.unmount()?;
    let base = w.base.display().to_string();
    run(&[
        "sh",
        "-ec",
        &format!(
            "cd {base}; mount -t tmpfs deep second; cd second; mkdir l1 u1 w1 m1 u2 w2 m2; \
         mount -t overlay -o lowerdir=l1,upperdir=u1,workdir=w1 o m1; \
         mount -t overlay -o lowerdir=m1,upperdir=u2,workdir=w2 o m2"
        ),
    ])?;
    let deep = format!("{base}/second/m2");
    let result = refused(
        "a third storey",
        &deep,
        &w.mnt,
        "",
        &[Errno::INVAL, Errno::LOOP],
    );
    run(&[
        "sh",
        "-ec",
        &format!("cd {base}; umount second/m2; umount second/m1; umount second"),
    ])?;
    result
}

fn unmount_busy(w: &mut Fixture) -> Outcome {
    let file = w.open("f")?;
    let busy = rustix::mount::unmount(&w.mnt, rustix::mount::UnmountFlags::empty());
    same_errno(
        "an open file",
        busy.map_err(std::io::Error::from),
        Errno::BUSY,
    )?;
    crate::fixture::put(&file, 0, b"still works")?;
    undo::revert(&file, 1)?;
    drop(file);
    w.unmount()?;
    w.mount()?;
    // Lazily, with a file open: the mount dies with its last user.
    let file = w.open("f")?;
    crate::fixture::put(&file, 0, b"after the lazy unmount")?;
    rustix::mount::unmount(&w.mnt, rustix::mount::UnmountFlags::DETACH)?;
    crate::fixture::put(&file, 6, b"THE")?;
    undo::revert(&file, 1)?;
    drop(file);
    if let Some(src) = &w.src {
        same(
            "below",
            fs::read(src.join("f"))?,
            b"after the lazy unmount".to_vec(),
        )?;
    }
    // The lazily unmounted filesystem is gone when the history is free again.
    for _ in 0..100 {
        if w.try_mount("").is_ok() {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    fail!("the history is still in use after the last file was closed")
}

/// The size of the kernel's caches in KiB, which would show a leak.
fn unreclaimable() -> Outcome<u64> {
    fs::write("/proc/sys/vm/drop_caches", "3")?;
    std::thread::sleep(std::time::Duration::from_millis(300));
    let memory = fs::read_to_string("/proc/meminfo")?;
    let found = memory
        .lines()
        .find_map(|line| line.strip_prefix("SUnreclaim:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok());
    match found {
        Some(kilobytes) => Ok(kilobytes),
        None => fail!("no SUnreclaim in /proc/meminfo"),
    }
}

/// The last process of a mount namespace exits while LoggerFS is mounted there: the unmount runs in a task
/// without `fs_struct`, and has to close the history all the same.
fn unmount_at_exit(w: &mut Fixture) -> Outcome {
    let mount = "mount -t loggerfs \"$0\" \"$1\" && echo one >\"$1/f\"";
    let (source, target) = (w.source(), w.mnt.display().to_string());
    run(&["unshare", "--mount", "sh", "-c", mount, &source, &target])?;
    w.mount()?;
    w.same("written before", "f", b"one\n")?;
    w.same_log("written before", "f", &["write 0 4"])
}

/// 100 times (40 over the private tmpfs and 10 elsewhere without `--full`): load, mount, work, unmount, unload.
fn mount_rounds(w: &mut Fixture) -> Outcome {
    let module = std::env::var("LFS_MODULE").unwrap_or_default();
    let load = |()| match module.as_str() {
        "" => run(&["modprobe", "loggerfs"]),
        path => run(&["insmod", path]),
    };
    let round = |w: &mut Fixture| -> Outcome {
        w.mount()?;
        fs::create_dir(w.path("d"))?;
        for number in 0..10 {
            w.make(&format!("d/f{number}"), b"one")?;
            w.make(&format!("d/f{number}"), b"two")?;
        }
        w.revert("d/f3", 2)?;
        w.same("reverted", "d/f3", b"one")?;
        fs::remove_dir_all(w.path("d"))?;
        w.unmount()?;
        run(&["rmmod", "loggerfs"])?;
        check!(!Path::new("/sys/module/loggerfs").exists(), "still loaded");
        load(()).map(drop)
    };
    let rounds = w.sized(100, 40, 10);
    for _ in 0..10 {
        round(w)?;
    }
    let before = unreclaimable()?;
    for _ in 0..rounds {
        round(w)?;
    }
    let after = unreclaimable()?;
    // A debug kernel keeps freed memory for a while, and detects leaks itself.
    check!(
        after < before + 2048 || Path::new("/sys/kernel/debug/kmemleak").exists(),
        "the kernel's caches grew from {before} to {after} KiB in {rounds} rounds"
    );
    Ok(())
}

/// Names that a terminal would obey are printed as numbers.
fn hostile_words(w: &mut Fixture) -> Outcome {
    let name = "/nowhere/\u{202e}\u{9b}\u{1b}[31m\u{2028}\n";
    for (source, options) in [
        (name, ""),
        ("none", "size=\u{202e}\u{1b}[2J"),
        ("none", "commit=\u{1b}"),
    ] {
        let Err(refusal) = crate::mounts::mount(source, &w.mnt, options) else {
            fail!("{source:?} {options:?} was mounted");
        };
        check!(!refusal.said.is_empty(), "{options:?}: not a word");
        for said in refusal.said {
            let plain = said.bytes().all(|byte| (b' '..=b'~').contains(&byte));
            check!(plain, "it says {said:?}");
        }
    }
    Ok(())
}
