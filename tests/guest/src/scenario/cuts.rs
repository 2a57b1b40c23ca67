// SPDX-License-Identifier: GPL-2.0

//! Power cuts at chosen moments: the history and the lower filesystem are durable to different
//! points then.
//!
//! The lower filesystem is on a loop device whose file is copied: data that the copy lacks did not
//! reach the disk.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::fixture::{put, Fixture};
use crate::group;
use crate::harness::Test;
use crate::mounts::{self, run, Lower};
use crate::outcome::{check, fail, same, At, Outcome};
use crate::sys::Map;
use crate::undo;

pub const TESTS: &[Test] = &[
    test("cut-after-revert", |w| content(w, |_, _| Ok(()))),
    test("cut-after-revert-and-fsync", |w| {
        content(w, |_, file| Ok(file.sync_all()?))
    }),
    test("cut-after-revert-and-fdatasync", |w| {
        content(w, |_, file| Ok(file.sync_data()?))
    }),
    test("cut-after-revert-and-syncfs", |w| {
        content(w, |_, file| Ok(rustix::fs::syncfs(file)?))
    }),
    test("cut-after-revert-and-synchronous-write", |w| {
        content(w, |w, _| {
            w.sh("echo x | dd of=other oflag=sync status=none")
                .map(drop)
        })
    }),
    test("cut-after-revert-and-msync", |w| {
        content(w, |_, file| Ok(Map::of(file, 8, true, false)?.sync()?))
    }),
    test("cut-after-revert-in-a-full-history", full),
    test("cut-after-revert-of-attributes", attributes),
    test("cut-after-revert-of-names", of_names),
    test("cut-after-revert-of-group", of_group),
];

const fn test(name: &'static str, run: fn(&mut Fixture) -> Outcome) -> Test {
    Test::new(name, run).only(DISKS).unmounted().seconds(120)
}

/// Lower filesystems that have a disk.
pub const DISKS: &[Lower] = &[Lower::Ext4, Lower::Xfs, Lower::Btrfs];

/// Nothing of the history becomes durable by itself.
const OPTIONS: &str = "commit=3600";

/// A world on a disk of its own, on which nothing becomes durable by itself.
pub struct CutDisk {
    file: PathBuf,
    at: PathBuf,
    mounted: bool,
}

impl CutDisk {
    /// Makes the disk, and moves `w` onto it.
    pub fn new(w: &mut Fixture) -> Outcome<CutDisk> {
        w.unmount()?;
        let disk = CutDisk {
            file: w.base.join("disk"),
            at: w.base.join("at"),
            mounted: false,
        };
        run(&["modprobe", "loop"])?;
        fs::create_dir_all(&disk.at)?;
        let size = if w.lower == Lower::Ext4 { 96 } else { 320 };
        File::create(&disk.file)?.set_len(size << 20)?;
        let mut disk = disk;
        disk.mount(w, true)?;
        w.src = Some(disk.at.join("src"));
        fs::create_dir(disk.at.join("src"))?;
        disk.sync_below()?;
        w.mount_with(OPTIONS)?;
        Ok(disk)
    }

    fn mount(&mut self, w: &Fixture, new: bool) -> Outcome {
        let kind = w.lower.name();
        let (file, at) = (
            self.file.display().to_string(),
            self.at.display().to_string(),
        );
        if new {
            let force = if w.lower == Lower::Ext4 { "-F" } else { "-f" };
            run(&[&format!("mkfs.{kind}"), "-q", force, &file])?;
        }
        let options = match w.lower {
            Lower::Xfs => "loop",
            _ => "loop,commit=3600",
        };
        run(&["mount", "-t", kind, "-o", options, &file, &at])?;
        self.mounted = true;
        Ok(())
    }

    /// Makes the data of programs and the history durable.
    pub fn sync(&self, w: &Fixture) -> Outcome {
        rustix::fs::syncfs(File::open(&w.mnt)?).at("syncfs")
    }

    /// Makes the lower filesystem durable, and the written part of the history.
    pub fn sync_below(&self) -> Outcome {
        rustix::fs::syncfs(File::open(&self.at)?).at("syncfs below")
    }

    /// Simulates a power cut, and mounts the remains.
    pub fn cut(&mut self, w: &mut Fixture) -> Outcome {
        self.cut_with(w, |_| Ok(()))
    }

    /// The same; `more` is done in the source in between.
    pub fn cut_with(&mut self, w: &mut Fixture, more: impl FnOnce(&Path) -> Outcome) -> Outcome {
        let left = self.file.with_extension("left");
        let (file, copy) = (self.file.display().to_string(), left.display().to_string());
        run(&["cp", "--sparse=always", &file, &copy])?;
        w.unmount()?;
        self.unmount()?;
        fs::rename(&left, &self.file)?;
        self.mount(w, false)?;
        more(&self.at.join("src"))?;
        match w.try_mount(OPTIONS) {
            Ok(()) => Ok(()),
            Err(refusal) => fail!("after the cut: {} {:?}", refusal.error, refusal.said),
        }
    }

    fn unmount(&mut self) -> Outcome {
        if self.mounted {
            mounts::unmount(&self.at)?;
            self.mounted = false;
        }
        Ok(())
    }

    /// Unmounts everything.
    pub fn finish(mut self, w: &mut Fixture) -> Outcome {
        w.unmount()?;
        self.unmount()?;
        w.src = Some(w.base.join("src"));
        Ok(())
    }
}

/// How the newest revert of a file ended, by its lines.
fn end_of_revert(w: &Fixture, name: &str) -> Outcome<String> {
    let lines = undo::lines(&File::open(w.path(name))?, true)?;
    let ends = ["commit", "cancel"];
    let end = lines
        .iter()
        .rev()
        .find(|line| ends.contains(&line.op.as_str()));
    Ok(end.map_or(String::new(), |line| line.op.clone()))
}

/// A revert of content that was reported done is not withdrawn, and can be taken back itself.
fn content(w: &mut Fixture, then: fn(&Fixture, &File) -> Outcome) -> Outcome {
    let mut disk = CutDisk::new(w)?;
    w.sh("echo one > f; echo two >> f; echo x > other")?;
    disk.sync(w)?;
    put(&w.open("f")?, 0, b"changed!")?;
    w.sh("echo more >> f")?;
    let file = w.open("f")?;
    undo::revert(&file, 2).at("the revert")?;
    then(w, &file)?;
    drop(file);
    disk.cut(w)?;
    w.same("after the cut", "f", b"one\ntwo\n")?;
    same("the end", end_of_revert(w, "f")?.as_str(), "commit")?;
    w.revert("f", 1)?;
    w.same("goes on", "f", b"one\n")?;
    w.remount_with("commit=3600")?;
    w.revert("f", 1)?;
    w.same("goes on", "f", b"")?;
    disk.finish(w)
}

/// The number of the oldest segment.
fn oldest_segment(w: &Fixture) -> Outcome<String> {
    let names = fs::read_dir(w.history()?.join("log"))?.map(|entry| Ok(entry?.file_name()));
    let names: Vec<_> = names.collect::<std::io::Result<_>>()?;
    match names.iter().min() {
        Some(oldest) => Ok(oldest.to_string_lossy().into_owned()),
        None => fail!("the history has no log"),
    }
}

/// The segments that a revert read stay until its closing line is durable: until then, recovery resumes the
/// revert after a power cut.
fn full(w: &mut Fixture) -> Outcome {
    let mut disk = CutDisk::new(w)?;
    w.remount_with("commit=3600,history_max=16M")?;
    for i in 1..=60 {
        let file = w.open(&format!("f{i}"))?;
        put(&file, 0, b"one\n")?;
        put(&file, 4, &vec![i; 200 << 10])?;
    }
    w.sh("echo x > filler")?;
    disk.sync(w)?;
    let filler = w.open("filler")?;
    for round in 0..40 {
        put(&filler, 0, &vec![round; 256 << 10])?;
    }
    disk.sync(w)?;
    let oldest = oldest_segment(w)?;
    let mut name = String::new();
    // A revert copies less than is asked for in advance; some need the oldest segment's room.
    for i in 1..=60 {
        name = format!("f{i}");
        undo::revert(&w.open(&name)?, 2).at("the revert")?;
        w.sh("sleep 0.2")?;
        if oldest_segment(w)? != oldest {
            break;
        }
    }
    check!(
        oldest_segment(w)? != oldest,
        "segment {oldest} was not dropped"
    );
    drop(filler);
    disk.cut(w)?;
    w.same("after the cut", &name, b"")?;
    same("the end", end_of_revert(w, &name)?.as_str(), "commit")?;
    disk.finish(w)
}

fn attributes(w: &mut Fixture) -> Outcome {
    let mut disk = CutDisk::new(w)?;
    w.sh("echo one > f; chmod 600 f; setfattr -n user.a -v b f")?;
    disk.sync(w)?;
    w.sh("chmod 644 f; setfattr -n user.a -v c f")?;
    w.revert("f", 2)?;
    disk.sync_below()?;
    disk.cut(w)?;
    same("the end", end_of_revert(w, "f")?.as_str(), "commit")?;
    let said = w.sh("stat -c %a f; getfattr --only-values -n user.a f")?;
    same("attributes", said.as_str(), "600\nb")?;
    disk.finish(w)
}

fn of_names(w: &mut Fixture) -> Outcome {
    let mut disk = CutDisk::new(w)?;
    w.sh("mkdir d; echo one > d/f")?;
    disk.sync(w)?;
    w.sh("mv d/f d/g; rm d/g")?;
    undo::revert(&File::open(w.path("d"))?, 2).at("the revert")?;
    disk.cut(w)?;
    same("the end", end_of_revert(w, "d")?.as_str(), "commit")?;
    w.same("after the cut", "d/f", b"one\n")?;
    check!(!w.path("d/g").exists(), "g is there");
    disk.finish(w)
}

fn of_group(w: &mut Fixture) -> Outcome {
    let mut disk = CutDisk::new(w)?;
    w.sh("echo one > f; echo one > g")?;
    disk.sync(w)?;
    let watch = group::Watch::begin(w)?;
    w.sh("echo two >> f; echo two >> g; mv g h")?;
    let ours = watch.operations(w)?;
    let (result, _) = group::revert(&File::open(&w.mnt)?, &ours, group::WALK);
    result.at("the group")?;
    disk.cut(w)?;
    for name in ["f", "g"] {
        w.same("after the cut", name, b"one\n")?;
        same("the end", end_of_revert(w, name)?.as_str(), "commit")?;
    }
    let mut undos = group::history(w)?;
    undos.retain(|placed| placed.line.op == "revert");
    let (result, _) = group::revert(&File::open(&w.mnt)?, &undos, group::REDO);
    result.at("the redo")?;
    disk.cut(w)?;
    w.same("redone", "f", b"one\ntwo\n")?;
    w.same("redone", "h", b"one\ntwo\n")?;
    disk.finish(w)
}
