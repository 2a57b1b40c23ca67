// SPDX-License-Identifier: GPL-2.0

//! Objects that lost their last name shortly before a power cut and have no line: the next mount
//! adopts them.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use super::cuts::{CutDisk, DISKS};
use crate::faults::tree::Tree;
use crate::fixture::Fixture;
use crate::group::{self, Watch};
use crate::harness::Test;
use crate::outcome::{check, fail, same, At, Outcome};
use crate::undo::{self, Line};

pub const TESTS: &[Test] = &[
    test("adopted-unlink", unlink),
    test("adopted-first-of-a-mount", first_of_a_mount),
    test("adopted-rename-over", rename_over),
    test("adopted-rename-behind", rename_behind),
    test("adopted-rename-over-unknown", rename_over_unknown),
    test("adopted-of-one-name", of_one_name),
    test("adopted-tree", tree),
    test("adopted-directory-over", directory_over),
    test("adopted-long-names", long_names),
    test("adopted-last-of-links", last_of_links),
    test("adopted-of-user", of_user),
    test("adopted-after-revert", after_revert),
    test("adopted-not-while-named", not_while_named),
    test("adopted-by-reverts", by_reverts),
    test("adopted-once", once),
    test("adopted-never-dropped", never_dropped),
];

const fn test(name: &'static str, run: fn(&mut Fixture) -> Outcome) -> Test {
    Test::new(name, run).only(DISKS).unmounted().seconds(120)
}

/// The lines of a directory that say that they were recovered, oldest first.
fn recovered(w: &Fixture, dir: &str) -> Outcome<Vec<Line>> {
    let mut lines = undo::lines(&File::open(w.path(dir))?, true)?;
    lines.retain(|line| line.key("recovered") == Some("1"));
    Ok(lines)
}

fn ops(lines: &[Line]) -> Vec<String> {
    let say = |line: &Line| format!("{} {}", line.op, line.key("name").unwrap_or_default());
    lines.iter().map(say).collect()
}

/// The names in a directory, in order.
fn names(w: &Fixture, dir: &str) -> Outcome<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(w.path(dir))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn revert_dir(w: &Fixture, dir: &str, count: usize) -> Outcome {
    undo::revert(&File::open(w.path(dir))?, count).at(format!("reverting {count} of {dir}"))
}

/// Does `line`, of which the lower filesystem keeps all and the history nothing.
fn lose_lines(w: &mut Fixture, disk: &mut CutDisk, line: &str) -> Outcome {
    w.sh(line)?;
    disk.sync_below()?;
    disk.cut(w)
}

fn unlink(w: &mut Fixture) -> Outcome {
    let mut disk = CutDisk::new(w)?;
    w.sh("mkdir d; echo one > d/f; echo two >> d/f; chmod 640 d/f; chown 5:6 d/f; setfattr -n user.a -v b d/f
        echo link > target; ln -s target d/arrow; mkfifo d/pipe")?;
    let before = Tree::of(&w.path("d"))?;
    let stat = fs::metadata(w.path("d/f"))?;
    disk.sync(w)?;
    // The log has lines of this mount.
    w.sh("echo x > other")?;
    disk.sync(w)?;
    lose_lines(w, &mut disk, "rm d/f; rm d/arrow; rm d/pipe")?;
    same("removed", names(w, "d")?, Vec::new())?;
    let lines = recovered(w, "d")?;
    same(
        "lines",
        ops(&lines),
        ["unlink f", "unlink arrow", "unlink pipe"]
            .map(Into::into)
            .to_vec(),
    )?;
    same("who", lines[0].key("uid"), Some("0"))?;
    revert_dir(w, "d", 3)?;
    if let Some(difference) = Tree::of(&w.path("d"))?.difference(&before) {
        fail!("not as before: {difference}");
    }
    let back = fs::metadata(w.path("d/f"))?;
    same("mode", back.mode(), stat.mode())?;
    same("owner", (back.uid(), back.gid()), (5, 6))?;
    w.same("f", "d/f", b"one\ntwo\n")?;
    // Its own history goes on.
    w.sh("setfattr -x user.a d/f")?;
    w.revert("d/f", 5).at("its own history")?;
    w.same("f", "d/f", b"one\n")?;
    disk.finish(w)
}

/// The first operation of a mount: the log has no line at all.
fn first_of_a_mount(w: &mut Fixture) -> Outcome {
    let mut disk = CutDisk::new(w)?;
    w.sh("echo one > f; mkdir d")?;
    w.remount_with("commit=3600")?;
    lose_lines(w, &mut disk, "rm f; rmdir d")?;
    same(
        "lines",
        ops(&recovered(w, "")?),
        ["unlink f", "rmdir d"].map(Into::into).to_vec(),
    )?;
    w.remount_with("commit=3600")?;
    revert_dir(w, "", 2)?;
    w.same("f", "f", b"one\n")?;
    check!(w.path("d").is_dir(), "d is not back");
    disk.finish(w)
}

/// A save by rename, of which the first step is known.
fn rename_over(w: &mut Fixture) -> Outcome {
    let mut disk = CutDisk::new(w)?;
    w.sh("echo one > f; echo two > new")?;
    disk.sync(w)?;
    lose_lines(w, &mut disk, "mv new f")?;
    w.same("f", "f", b"two\n")?;
    let lines = recovered(w, "")?;
    same("lines", ops(&lines), vec!["rename new".to_string()])?;
    same("to", lines[0].key("to"), Some("f"))?;
    revert_dir(w, "", 1)?;
    w.same("f", "f", b"one\n")?;
    w.same("new", "new", b"two\n")?;
    disk.finish(w)
}

/// A file is removed, and another is renamed to its name: with the renaming taken back, the other
/// has its own name again.
fn rename_behind(w: &mut Fixture) -> Outcome {
    let mut disk = CutDisk::new(w)?;
    w.sh("echo one > f; echo two > g")?;
    disk.sync(w)?;
    lose_lines(w, &mut disk, "rm f; mv g f")?;
    w.same("f", "f", b"two\n")?;
    let lines = recovered(w, "")?;
    let want = ["unlink f", "rename g"].map(Into::into).to_vec();
    same("lines", ops(&lines), want)?;
    same("to", lines[1].key("to"), Some("f"))?;
    revert_dir(w, "", 1)?;
    w.same("g", "g", b"two\n")?;
    same("names", names(w, "")?, vec!["g".to_string()])?;
    revert_dir(w, "", 1)?;
    w.same("f", "f", b"one\n")?;
    w.same("g", "g", b"two\n")?;
    disk.finish(w)
}

/// A save by rename, all of which is lost.
fn rename_over_unknown(w: &mut Fixture) -> Outcome {
    let mut disk = CutDisk::new(w)?;
    w.sh("echo one > f")?;
    disk.sync(w)?;
    lose_lines(w, &mut disk, "echo two > new; mv new f")?;
    w.same("f", "f", b"two\n")?;
    same(
        "lines",
        ops(&recovered(w, "")?),
        ["unlink f", "link f"].map(Into::into).to_vec(),
    )?;
    revert_dir(w, "", 2)?;
    w.same("f", "f", b"one\n")?;
    same("names", names(w, "")?, vec!["f".to_string()])?;
    disk.finish(w)
}

/// Several objects had one name, one after the other.
fn of_one_name(w: &mut Fixture) -> Outcome {
    let mut disk = CutDisk::new(w)?;
    w.sh("echo 0 > f")?;
    disk.sync(w)?;
    lose_lines(
        w,
        &mut disk,
        "for i in 1 2 3; do rm f; echo $i > f; done; echo 4 > t; mv t f; rm f",
    )?;
    same("names", names(w, "")?, Vec::new())?;
    for number in [4, 3, 2, 1, 0] {
        revert_dir(w, "", 1).at(format!("the removal of {number}"))?;
        w.same("f", "f", format!("{number}\n").as_bytes())?;
        if number != 0 {
            revert_dir(w, "", 1).at(format!("the creation of {number}"))?;
            same("names", names(w, "")?, Vec::new())?;
        }
    }
    disk.finish(w)
}

fn tree(w: &mut Fixture) -> Outcome {
    let mut disk = CutDisk::new(w)?;
    w.sh("mkdir -p t/a/b t/c; for i in $(seq 70); do echo $i > t/a/f$i; done; echo x > t/a/b/g; ln -s g t/a/b/s")?;
    let before = Tree::of(&w.path("t"))?;
    disk.sync(w)?;
    lose_lines(w, &mut disk, "rm -r t")?;
    same("names", names(w, "")?, Vec::new())?;
    let (result, _) = undo::revert_more(&File::open(w.path(""))?, 1, undo::DEEP);
    result.at("the tree")?;
    match Tree::of(&w.path("t"))?.difference(&before) {
        Some(difference) => fail!("not as before: {difference}"),
        None => disk.finish(w),
    }
}

fn directory_over(w: &mut Fixture) -> Outcome {
    let mut disk = CutDisk::new(w)?;
    w.sh("mkdir a b; echo x > a/f; chmod 711 b")?;
    disk.sync(w)?;
    lose_lines(w, &mut disk, "mv -T a b")?;
    same(
        "lines",
        ops(&recovered(w, "")?),
        vec!["rename a".to_string()],
    )?;
    revert_dir(w, "", 1)?;
    w.same("a/f", "a/f", b"x\n")?;
    same(
        "b",
        fs::metadata(w.path("b"))?.permissions().mode() & 0o777,
        0o711,
    )?;
    same("b", names(w, "b")?, Vec::new())?;
    disk.finish(w)
}

fn long_names(w: &mut Fixture) -> Outcome {
    let mut disk = CutDisk::new(w)?;
    let long: Vec<String> = ["x", "ü", "comma,"]
        .iter()
        .map(|part| part.repeat(255 / part.len()))
        .collect();
    for name in &long {
        w.make(name, name.as_bytes())?;
    }
    w.make("a,b,,c", b"commas")?;
    disk.sync(w)?;
    let before = Tree::of(&w.mnt)?;
    for name in fs::read_dir(&w.mnt)? {
        fs::remove_file(name?.path())?;
    }
    disk.sync_below()?;
    disk.cut(w)?;
    same("names", names(w, "")?, Vec::new())?;
    same("lines", recovered(w, "")?.len(), 4)?;
    revert_dir(w, "", 4)?;
    if let Some(difference) = Tree::of(&w.mnt)?.difference(&before) {
        fail!("not as before: {difference}");
    }
    for name in &long {
        let path = w.below(name)?.display().to_string();
        let left = crate::mounts::run(&["getfattr", "-m-", "--", &path])?;
        same("attributes", left.trim(), "")?;
    }
    disk.finish(w)
}

/// Of several names, the last one decides that the object becomes an orphan.
fn last_of_links(w: &mut Fixture) -> Outcome {
    let mut disk = CutDisk::new(w)?;
    w.sh("mkdir d; echo one > f; ln f d/g")?;
    disk.sync(w)?;
    lose_lines(w, &mut disk, "rm f; rm d/g")?;
    same(
        "lines",
        ops(&recovered(w, "d")?),
        vec!["unlink g".to_string()],
    )?;
    revert_dir(w, "d", 1)?;
    w.same("g", "d/g", b"one\n")?;
    same("links", fs::metadata(w.path("d/g"))?.nlink(), 1)?;
    disk.finish(w)
}

fn of_user(w: &mut Fixture) -> Outcome {
    let mut disk = CutDisk::new(w)?;
    w.sh("mkdir d; chmod 777 d; setpriv --reuid 1234 --clear-groups sh -c 'echo one > d/f'")?;
    disk.sync(w)?;
    lose_lines(w, &mut disk, "setpriv --reuid 1234 --clear-groups rm d/f")?;
    same("who", recovered(w, "d")?[0].key("uid"), Some("1234"))?;
    disk.finish(w)
}

/// An older line of the same object's removal, which was taken back, is not this one's.
fn after_revert(w: &mut Fixture) -> Outcome {
    let mut disk = CutDisk::new(w)?;
    w.sh("echo one > f; rm f")?;
    revert_dir(w, "", 1)?;
    disk.sync(w)?;
    lose_lines(w, &mut disk, "rm f")?;
    same(
        "lines",
        ops(&recovered(w, "")?),
        vec!["unlink f".to_string()],
    )?;
    revert_dir(w, "", 1)?;
    w.same("f", "f", b"one\n")?;
    disk.finish(w)
}

/// Where the removal did not get to the disk, nothing is adopted.
fn not_while_named(w: &mut Fixture) -> Outcome {
    let mut disk = CutDisk::new(w)?;
    w.sh("echo one > f; echo two > g; echo three > h")?;
    disk.sync(w)?;
    w.sh("rm f; mv h g")?;
    disk.cut(w)?;
    w.same("f", "f", b"one\n")?;
    w.same("g", "g", b"two\n")?;
    same("lines", recovered(w, "")?.len(), 0)?;
    disk.finish(w)
}

/// A revert that moves an object to the orphans has a line of its own: creations that were taken back, of one
/// object or by a group.
fn by_reverts(w: &mut Fixture) -> Outcome {
    let mut disk = CutDisk::new(w)?;
    w.sh("echo one > f; mkdir d; ln -s x s")?;
    revert_dir(w, "", 3)?;
    disk.sync_below()?;
    disk.cut(w)?;
    same("names", names(w, "")?, Vec::new())?;
    same("lines", recovered(w, "")?.len(), 0)?;
    let watch = Watch::begin(w)?;
    w.sh("echo two > g; mkdir e")?;
    let ours = watch.operations(w)?;
    let (result, _) = group::revert(&File::open(&w.mnt)?, &ours, group::WALK);
    result.at("the group")?;
    disk.sync_below()?;
    disk.cut(w)?;
    same("names", names(w, "")?, Vec::new())?;
    same("lines", recovered(w, "")?.len(), 0)?;
    disk.finish(w)
}

/// The line is durable when the mount is there: another cut finds nothing to adopt.
fn once(w: &mut Fixture) -> Outcome {
    let mut disk = CutDisk::new(w)?;
    w.sh("echo one > f; echo two > g")?;
    disk.sync(w)?;
    lose_lines(w, &mut disk, "rm f")?;
    same("lines", recovered(w, "")?.len(), 1)?;
    disk.cut(w)?;
    same("after a second cut", recovered(w, "")?.len(), 1)?;
    lose_lines(w, &mut disk, "rm g")?;
    same("after a third cut", recovered(w, "")?.len(), 2)?;
    w.remount_with("commit=3600")?;
    same("after a mount", recovered(w, "")?.len(), 2)?;
    revert_dir(w, "", 2)?;
    w.same("f", "f", b"one\n")?;
    w.same("g", "g", b"two\n")?;
    disk.finish(w)
}

/// Independent of a segment's log: the orphans of a segment stay unless the segment is marked as
/// dropped.
fn never_dropped(w: &mut Fixture) -> Outcome {
    let mut disk = CutDisk::new(w)?;
    w.sh("echo one > f")?;
    w.remount_with("commit=3600")?;
    w.sh("rm f")?;
    disk.sync_below()?;
    let history = w.history()?;
    // The log's own name was not durable either.
    let mut logs: Vec<_> = fs::read_dir(history.join("log"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()?;
    logs.sort();
    let is_empty = |log: &PathBuf| fs::metadata(log).is_ok_and(|stat| stat.len() == 0);
    let lost: Vec<_> = logs.into_iter().filter(is_empty).collect();
    check!(!lost.is_empty(), "no log without a line");
    disk.cut_with(w, |src| {
        for log in &lost {
            let name = log.file_name().unwrap_or_default();
            fs::remove_file(src.join(".loggerfs/log").join(name))?;
        }
        Ok(())
    })?;
    same(
        "lines",
        ops(&recovered(w, "")?),
        vec!["unlink f".to_string()],
    )?;
    revert_dir(w, "", 1)?;
    w.same("f", "f", b"one\n")?;
    disk.finish(w)
}
