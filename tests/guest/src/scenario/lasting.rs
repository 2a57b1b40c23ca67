// SPDX-License-Identifier: GPL-2.0

//! The history on disk: it survives mounts, reports damage, is trusted only if root's own mount
//! wrote it, and cannot be reached through the mount.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{chown, symlink, MetadataExt, PermissionsExt};
use std::path::PathBuf;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, CWD};
use rustix::io::Errno;

use crate::crafted::History;
use crate::fixture::{put, Fixture};
use crate::harness::Test;
use crate::mounts::{run, Lower, Refusal};
use crate::outcome::{check, fail, same, same_errno, At, Outcome};
use crate::shadow::{Random, Shadow};
use crate::undo;

pub const TESTS: &[Test] = &[
    Test::new("survives-mounts", survives_mounts).seconds(120),
    Test::new("torn-last-line", torn_last_line).seconds(120),
    Test::new("syncfs-reaches-the-disk", reaches_the_disk).only(&[Lower::Ext4, Lower::Xfs]),
    Test::new("garbage-appended", garbage_appended),
    Test::new("forged-owner", |w| {
        crafted(w, |path| run(&["chown", "2000", path]))
    }),
    Test::new("forged-mode", |w| {
        crafted(w, |path| run(&["chmod", "770", path]))
    }),
    Test::new("forged-world", |w| {
        crafted(w, |path| run(&["chmod", "707", path]))
    }),
    Test::new("forged-format-owner", |w| {
        crafted(w, |path| run(&["chown", "2000", &format!("{path}/format")]))
    }),
    Test::new("forged-format-mode", |w| {
        crafted(w, |path| run(&["chmod", "666", &format!("{path}/format")]))
    }),
    Test::new("forged-log-symlink", |w| {
        crafted(w, |path| {
            run(&[
                "sh",
                "-c",
                &format!(
                    "cd {path}/log && for f in *; do mv $f /run/lfs-l; ln -s /run/lfs-l $f; done"
                ),
            ])
        })
    }),
    Test::new("forged-log-owner", |w| {
        crafted(w, |path| {
            run(&["sh", "-c", &format!("chown 2000 {path}/log/*")])
        })
    }),
    Test::new("forged-log-link", |w| {
        crafted(w, |path| {
            run(&[
                "sh",
                "-c",
                &format!("cd {path}/log && for f in *; do ln $f ../../.kept-$f; done"),
            ])
        })
    }),
    Test::new("forged-undo-mode", |w| {
        crafted(w, |path| {
            run(&["sh", "-c", &format!("chmod 666 {path}/undo/*")])
        })
    }),
    Test::new("forged-symlink", |w| {
        crafted(w, |path| {
            run(&[
                "sh",
                "-c",
                &format!("mv {path} {path}-real && ln -s .loggerfs-real {path}"),
            ])
        })
    }),
    Test::new("forged-file", |w| {
        crafted(w, |path| {
            run(&["sh", "-c", &format!("rm -r {path} && echo x > {path}")])
        })
    }),
    Test::new("forged-format-text", |w| {
        crafted(w, |path| {
            run(&["sh", "-c", &format!("echo nonsense > {path}/format")])
        })
    }),
    Test::new("lost-format", |w| {
        crafted(w, |path| {
            run(&["sh", "-c", &format!("rm {path}/format {path}/state")])
        })
    }),
    Test::new("transplanted", transplanted),
    Test::new("damaged-payload", damaged_payload),
    Test::new("cut-payload", cut_payload),
    Test::new("lost-tables", lost_tables),
    Test::new("many-tables", many_tables)
        .seconds(180)
        .only(&[Lower::Ext4]),
    Test::new("bent-chain", bent_chain),
    Test::new("hidden", hidden),
    Test::new("in-use", in_use),
];

fn survives_mounts(w: &mut Fixture) -> Outcome {
    w.below("f")?;
    let mut random = Random::new(w.seed ^ 4);
    let mut shadow = Shadow::default();
    for round in 0..8 {
        let file = w.open("f")?;
        for _ in 0..20 {
            let bytes = {
                let length = 1 + random.below(9000) as usize;
                random.bytes(length)
            };
            let at = random.below(shadow.size() as u64 + 100) as usize;
            put(&file, at as u64, &bytes)?;
            shadow.write(at, &bytes);
        }
        drop(file);
        w.remount().at(format!("round {round}"))?;
        w.same("after a mount", "f", shadow.bytes())?;
        same("lines after a mount", w.log("f")?.len(), shadow.depth())?;
        for _ in 0..7 {
            w.revert("f", 1).at(format!("round {round}"))?;
            shadow.undo();
            w.same("reverted", "f", shadow.bytes())?;
        }
        w.remount()?;
    }
    let seqs = undo::lines(&w.open("f")?, true)?;
    undo::ascending(&seqs)?;
    w.revert("f", shadow.depth())?;
    w.same("back to the start", "f", b"")
}

/// The newest log file of the unmounted history.
fn newest_log(w: &Fixture) -> Outcome<PathBuf> {
    let mut logs: Vec<PathBuf> = fs::read_dir(w.history()?.join("log"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()?;
    logs.retain(|path| fs::metadata(path).is_ok_and(|stat| stat.len() > 0));
    logs.sort();
    match logs.pop() {
        Some(path) => Ok(path),
        None => fail!("no log file in {}", w.history()?.display()),
    }
}

/// The kernel messages since a mark.
fn kernel_says(mark: usize) -> Outcome<(usize, String)> {
    let all = run(&["dmesg"])?;
    Ok((all.len(), all.get(mark..).unwrap_or_default().to_string()))
}

/// A power cut in the middle of the last line: only this line goes, with a message.
fn torn_last_line(w: &mut Fixture) -> Outcome {
    w.below("f")?;
    for cut in [1, 5, 30] {
        w.remount_empty("")?;
        w.sh("echo one > f; echo two >> f; echo three >> f")?;
        power_cut(w)?;
        let log = newest_log(w)?;
        let bytes = fs::read(&log)?;
        // Down to the last write's line, then into the line.
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let found = text.lines().position(|line| line.contains(" write 8 6 "));
        let Some(last) = found else {
            fail!("no 'write 8 6' in the newest log");
        };
        let keep: usize = text.lines().take(last + 1).map(|line| line.len() + 1).sum();
        OpenOptions::new()
            .write(true)
            .open(&log)?
            .set_len((keep - cut) as u64)?;
        let (mark, _) = kernel_says(0)?;
        w.mount().at(format!("{cut} bytes cut off"))?;
        let (_, said) = kernel_says(mark)?;
        check!(
            said.contains("loggerfs"),
            "{cut} bytes cut off: the kernel says nothing"
        );
        w.same("the data is as it was", "f", b"one\ntwo\nthree\n")?;
        w.same_log("the torn line is gone", "f", &["write 0 4", "write 4 4"])?;
        w.sh("echo four >> f")?;
        w.revert("f", 1)?;
        w.same("work goes on", "f", b"one\ntwo\nthree\n")?;
        w.remount()?;
        w.same_log("after another mount", "f", &["write 0 4", "write 4 4"])?;
    }
    Ok(())
}

/// Unmounts, and restores the history on the disk to its state before that: the remains of a power
/// cut after the last sync.
pub(super) fn power_cut(w: &mut Fixture) -> Outcome {
    sync_history(w)?;
    lose_since_sync(w)
}

/// Makes everything durable, and records the history that a power cut would leave then.
pub(super) fn sync_history(w: &Fixture) -> Outcome {
    rustix::fs::syncfs(fs::File::open(&w.mnt)?)?;
    let history = w.history()?.display().to_string();
    let saved = w.base.join("saved").display().to_string();
    run(&["cp", "-a", &history, &saved]).map(drop)
}

/// Unmounts, and restores the recorded history on the disk.
pub(super) fn lose_since_sync(w: &mut Fixture) -> Outcome {
    let history = w.history()?.display().to_string();
    let saved = w.base.join("saved").display().to_string();
    w.unmount()?;
    run(&["rm", "-rf", &history])?;
    run(&["mv", &saved, &history]).map(drop)
}

/// A disk may keep written data in a cache of its own until a flush. xfs flushes only together with its log,
/// which has nothing to write here: it holds the inode's times already.
fn reaches_the_disk(w: &mut Fixture) -> Outcome {
    w.remount_with("history=off")?;
    w.sh("echo one > f; echo two > other; sync -f f")?;
    let device = fs::metadata(w.below("f")?)?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let flushes = || -> Outcome<u64> {
        let stat = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat"))?;
        let count = stat.split_whitespace().nth(15);
        match count.and_then(|count| count.parse().ok()) {
            Some(count) => Ok(count),
            None => fail!("no flushes in its statistics: {stat}"),
        }
    };
    for round in 0..5 {
        w.sh(&format!(
            "printf {round} | dd of=f conv=notrunc status=none; echo {round} > other; sync other"
        ))?;
        let before = flushes()?;
        w.sh("sync -f f")?;
        check!(
            flushes()? > before,
            "the disk was not told to flush, round {round}"
        );
    }
    Ok(())
}

fn garbage_appended(w: &mut Fixture) -> Outcome {
    w.below("f")?;
    let crafted = b"1763639066.123456789 /bin/x write 0 4 seq=99 obj=1.1 size=0 open=99 undo=none sum=00000000\n";
    let tails: [&[u8]; 4] = [b"garbage", b"\0\0\0\0\0\0\0\0", b"\xff\n\xfe\n", crafted];
    for (number, tail) in tails.into_iter().enumerate() {
        w.remount_empty("")?;
        w.sh("echo one > f; echo two >> f")?;
        power_cut(w)?;
        OpenOptions::new()
            .append(true)
            .open(newest_log(w)?)?
            .write_all(tail)?;
        w.mount().at(format!("garbage {number}"))?;
        w.same_log("garbage is no line", "f", &["write 0 4", "write 4 4"])?;
        w.revert("f", 1)?;
        w.same("reverted", "f", b"one\n")?;
        w.remount()?;
        w.same_log("after another mount", "f", &["write 0 4"])?;
    }
    Ok(())
}

/// A history with other attributes than those of root's mount is refused, with a message; the data
/// is accessible with `history=off`.
fn crafted(w: &mut Fixture, craft: fn(&str) -> Outcome<String>) -> Outcome {
    let history = w.history()?;
    w.sh("echo one > f; echo two > f; echo three >> f")?;
    w.unmount()?;
    craft(&history.display().to_string()).at("forging")?;
    match w.try_mount("") {
        Ok(()) => {
            let log = w.log("f");
            fail!("a forged history was mounted; its log: {log:?}")
        }
        Err(Refusal { error, said }) => {
            let errno = error.raw_os_error().unwrap_or(0);
            let refusals = [
                libc::EUCLEAN,
                libc::EPERM,
                libc::ELOOP,
                libc::ENOTDIR,
                libc::EACCES,
            ];
            check!(refusals.contains(&errno), "refused with {error}, {said:?}");
            sentence(&said)?;
        }
    }
    same(
        "the data below",
        fs::read(w.below("f")?)?,
        b"two\nthree\n".to_vec(),
    )?;
    match w.try_mount("history=off") {
        Ok(()) => w.same("with history=off", "f", b"two\nthree\n"),
        Err(refusal) => fail!("not even with history=off: {refusal:?}"),
    }
}

/// The mount's log must hold at least one sentence that a person can act on.
pub fn sentence(said: &[String]) -> Outcome {
    let enough = said.iter().any(|text| text.split_whitespace().count() >= 4);
    check!(enough, "no sentence in the mount's log: {said:?}");
    Ok(())
}

/// A history copied to another directory is not that directory's.
fn transplanted(w: &mut Fixture) -> Outcome {
    let history = w.history()?;
    w.sh("echo one > f; echo two >> f")?;
    w.unmount()?;
    let other = w.base.join("other");
    fs::create_dir(&other)?;
    run(&[
        "cp",
        "-a",
        &history.display().to_string(),
        &other.display().to_string(),
    ])?;
    w.src = Some(other);
    match w.try_mount("") {
        Ok(()) => fail!("a transplanted history was mounted"),
        Err(Refusal { error, said }) => {
            same_errno::<()>(format!("{said:?}"), Err(error), Errno::UCLEAN)
                .or_else(|_| sentence(&said))?;
            sentence(&said)
        }
    }
}

/// Saved bytes that changed on the disk are not put back.
fn damaged_payload(w: &mut Fixture) -> Outcome {
    let undo = w.history()?.join("undo");
    w.make("f", &[b'a'; 5000])?;
    put(&w.open("f")?, 0, &[b'b'; 5000])?;
    w.unmount()?;
    let mut damaged = 0;
    for entry in fs::read_dir(undo)? {
        let path = entry?.path();
        let mut bytes = fs::read(&path)?;
        if let Some(at) = bytes.windows(100).position(|window| window == [b'a'; 100]) {
            bytes[at + 50] = b'x';
            let mut file = OpenOptions::new().write(true).open(&path)?;
            file.write_all(&bytes)?;
            damaged += 1;
        }
    }
    check!(damaged > 0, "the saved bytes are nowhere in undo/");
    w.mount()?;
    let file = w.open("f")?;
    let (result, answer) = undo::revert_more(&file, 1, 0);
    same_errno("damaged", result, Errno::UCLEAN)?;
    same("reason Corrupt", answer.reason, 10)?;
    w.same("nothing changed", "f", &[b'b'; 5000])
}

/// Saved bytes that are not there are damage, not something that was dropped for want of room.
fn cut_payload(w: &mut Fixture) -> Outcome {
    let undo = w.history()?.join("undo");
    w.make("f", &[b'a'; 5000])?;
    put(&w.open("f")?, 0, &[b'b'; 5000])?;
    w.unmount()?;
    for entry in fs::read_dir(undo)? {
        let file = OpenOptions::new().write(true).open(entry?.path())?;
        file.set_len(file.metadata()?.len().min(100))?;
    }
    w.mount()?;
    let (result, answer) = undo::revert_more(&w.open("f")?, 1, 0);
    same_errno("cut off", result, Errno::UCLEAN)?;
    same("reason Corrupt", answer.reason, 10)?;
    w.same("nothing changed", "f", &[b'b'; 5000])
}

/// Tables are named but missing: the mount reports a damaged history.
fn lost_tables(w: &mut Fixture) -> Outcome {
    let home = w.history()?;
    w.sh("echo one > f; echo two >> f")?;
    w.unmount()?;
    let mut history = History::read(&home)?;
    history.lose_tables();
    history.write(&home)?;
    w.mount()?;
    let file = w.open("f")?;
    let (result, answer) = undo::revert_more(&file, 1, 0);
    same_errno("a revert", result, Errno::UCLEAN)?;
    same("reason Corrupt", answer.reason, 10)?;
    same_errno("the log", undo::raw_log(&file, true), Errno::UCLEAN)?;
    same_errno("a page", undo::page(&file), Errno::UCLEAN)?;
    w.same("nothing changed", "f", b"one\ntwo\n")
}

/// More index tables than a state has room for, when each segment needs one of its own anew: none is
/// forgotten over a clean unmount.
fn many_tables(w: &mut Fixture) -> Outcome {
    let home = w.history()?;
    let mounts = 140;
    for number in 0..mounts {
        w.sh(&format!("echo {number} >> f"))?;
        w.remount()?;
    }
    w.unmount()?;
    let mut history = History::read(&home)?;
    // Newer tables of some segments keep those of one from being the newest.
    history.forget_long(20);
    history.write(&home)?;
    w.mount()?;
    w.remount()?;
    let file = w.open("f")?;
    same("lines", undo::lines(&file, false)?.len(), mounts)?;
    undo::revert(&file, mounts).at("all of them")?;
    w.same("as before all", "f", b"")
}

/// A crafted line that names itself as the previous one: no reader loops.
fn bent_chain(w: &mut Fixture) -> Outcome {
    let home = w.history()?;
    w.sh("echo one > f; echo two >> f")?;
    let lines = undo::lines(&w.open("f")?, true)?;
    w.unmount()?;
    let mut history = History::read(&home)?;
    history.bend(lines[0].key("obj").unwrap_or_default())?;
    history.write(&home)?;
    w.mount()?;
    let file = w.open("f")?;
    for all in [true, false] {
        same_errno("the log", undo::raw_log(&file, all), Errno::UCLEAN)?;
    }
    let (result, _) = undo::revert_more(&file, 3, 0);
    same_errno("a revert", result, Errno::UCLEAN)?;
    w.same("nothing changed", "f", b"one\ntwo\n")
}

/// No name, no call reaches the history through the mount.
fn hidden(w: &mut Fixture) -> Outcome {
    w.make("f", b"x")?;
    w.make("g", b"y")?;
    fs::create_dir(w.path("d"))?;
    let history = w.path(".loggerfs");
    same(
        "ls -a",
        w.sh("ls -a | tr '\\n' ' '")?.as_str(),
        ". .. d f g ",
    )?;
    let names = [
        ".loggerfs",
        "./.loggerfs",
        "d/../.loggerfs",
        ".loggerfs/",
        ".loggerfs/format",
    ];
    for name in names {
        let path = w.path(name);
        same_errno(
            format!("stat {name}"),
            fs::symlink_metadata(&path),
            Errno::NOENT,
        )?;
        same_errno(format!("open {name}"), fs::File::open(&path), Errno::NOENT)?;
        same_errno(format!("ls {name}"), fs::read_dir(&path), Errno::NOENT)?;
    }
    let refused = |what: &str, result: std::io::Result<()>| -> Outcome {
        check!(result.is_err(), "{what} succeeded");
        Ok(())
    };
    same_errno("mkdir", fs::create_dir(&history), Errno::PERM)?;
    same_errno("create", fs::write(&history, "x"), Errno::PERM)?;
    same_errno("symlink", symlink("f", &history), Errno::PERM)?;
    same_errno("link", fs::hard_link(w.path("f"), &history), Errno::PERM)?;
    same_errno(
        "rename to it",
        fs::rename(w.path("f"), &history),
        Errno::PERM,
    )?;
    let exchange =
        rustix::fs::renameat_with(CWD, w.path("f"), CWD, &history, RenameFlags::EXCHANGE);
    refused("exchange with it", exchange.map_err(Into::into))?;
    let kind = rustix::fs::FileType::Fifo;
    let node = rustix::fs::mknodat(CWD, &history, kind, Mode::from_raw_mode(0o600), 0);
    same_errno("mknod", node.map_err(std::io::Error::from), Errno::PERM)?;
    same_errno(
        "rename from it",
        fs::rename(&history, w.path("h")),
        Errno::NOENT,
    )?;
    same_errno("unlink", fs::remove_file(&history), Errno::NOENT)?;
    same_errno("rmdir", fs::remove_dir(&history), Errno::NOENT)?;
    same_errno(
        "truncate",
        fs::OpenOptions::new()
            .write(true)
            .open(history.join("format")),
        Errno::NOENT,
    )?;
    same_errno(
        "chmod",
        fs::set_permissions(&history, Permissions::from_mode(0o777)),
        Errno::NOENT,
    )?;
    same_errno("chown", chown(&history, Some(1), None), Errno::NOENT)?;
    let root = rustix::fs::open(&w.mnt, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
    let stat = rustix::fs::statat(&root, ".loggerfs", AtFlags::SYMLINK_NOFOLLOW);
    same_errno("statat", stat.map_err(std::io::Error::from), Errno::NOENT)?;
    w.make("f2", b"and all goes on")?;
    w.revert("f2", 1)
}

/// A history that another tool has locked is not used. (Another mount of the source joins the first.)
fn in_use(w: &mut Fixture) -> Outcome {
    w.sh("echo one > f; echo two >> f")?;
    let format = w.below(".loggerfs/format")?;
    w.unmount()?;
    let tool = fs::File::open(&format)?;
    rustix::fs::flock(&tool, rustix::fs::FlockOperation::LockExclusive)?;
    let refusal = match w.try_mount("") {
        Ok(()) => fail!("the history is used twice"),
        Err(refusal) => refusal,
    };
    sentence(&refusal.said)?;
    same_errno::<()>("a mount", Err(refusal.error), Errno::BUSY)?;
    drop(tool);
    w.mount()?;
    w.revert("f", 1)?;
    w.same("after the tool", "f", b"one\n")
}
