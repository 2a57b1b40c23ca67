// SPDX-License-Identifier: GPL-2.0

//! Orphans count in their owner's quota: they are dropped to make room for that user, or project, the oldest
//! first, as many as necessary, and none of others.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{chown, PermissionsExt};
use std::path::PathBuf;

use rustix::io::Errno;

use super::full::{leave, loop_disk, small};
use crate::fixture::Fixture;
use crate::harness::Test;
use crate::mounts::{run, Lower};
use crate::outcome::{check, same, same_errno, At, Outcome};
use crate::shadow::pattern;
use crate::sys;
use crate::undo;

const LOWERS: &[Lower] = &[Lower::Ext4, Lower::Xfs];

pub const TESTS: &[Test] = &[
    Test::new("quota-of-a-user", of_a_user)
        .only(LOWERS)
        .unmounted()
        .seconds(120),
    Test::new("quota-of-inodes", of_inodes)
        .only(LOWERS)
        .unmounted()
        .seconds(120),
    Test::new("quota-of-a-project", of_a_project)
        .only(LOWERS)
        .unmounted()
        .seconds(120),
    Test::new("quota-of-a-group", of_a_group)
        .only(LOWERS)
        .unmounted()
        .seconds(120),
    Test::new("quota-of-a-revert", of_a_revert)
        .only(LOWERS)
        .unmounted()
        .seconds(120),
    Test::new("quota-without-anything-kept", without_anything_kept)
        .only(LOWERS)
        .unmounted()
        .seconds(120),
    Test::new("room-of-all-as-needed", room_as_needed)
        .unmounted()
        .seconds(120),
];

const ALICE: u32 = 1001;
const BOB: u32 = 1002;
const MIB: usize = 1 << 20;

/// Of 20 MiB, 15 taken: a little more than one deleted file of 3 MiB has to go.
const NEW: usize = 8 * MIB + 65536;

/// A filesystem with quotas for users, groups and projects; a directory for each of two users.
fn with_quotas(w: &mut Fixture) -> Outcome<PathBuf> {
    let place = w.base.join("small");
    fs::create_dir(&place)?;
    let at = place.display().to_string();
    let image = "/run/lfs-tests-small";
    match w.lower {
        Lower::Ext4 => {
            run(&["modprobe", "loop"])?;
            let _ = run(&["modprobe", "quota_v2"]);
            let _ = fs::remove_file(image);
            run(&["truncate", "-s", "400M", image])?;
            run(&[
                "mkfs.ext4",
                "-q",
                "-O",
                "quota,project",
                "-E",
                "quotatype=usrquota:grpquota:prjquota",
                image,
            ])?;
            let options = "loop,usrquota,grpquota,prjquota";
            run(&["mount", "-t", "ext4", "-o", options, image, &at])?;
        }
        _ => {
            loop_disk(w, "400M", &at)?;
            run(&["umount", &at])?;
            let options = "loop,uquota,gquota,pquota";
            run(&["mount", "-t", "xfs", "-o", options, image, &at])?;
        }
    }
    fs::create_dir(place.join("src"))?;
    w.src = Some(place.join("src"));
    w.mount_with("history_max=300M")?;
    fs::set_permissions(&w.mnt, fs::Permissions::from_mode(0o755))?;
    for (name, user) in [("alice", ALICE), ("bob", BOB)] {
        fs::create_dir(w.path(name))?;
        chown(w.path(name), Some(user), Some(user))?;
    }
    Ok(place)
}

/// Limits of a user (`-u`), group (`-g`) or project (`-P`): KiB of space, and inodes; 0: none.
fn limit(w: &Fixture, kind: &str, id: u32, kib: u64, inodes: u64) -> Outcome {
    let place = w.base.join("small").display().to_string();
    let (id, kib, inodes) = (id.to_string(), kib.to_string(), inodes.to_string());
    run(&["setquota", kind, &id, "0", &kib, "0", &inodes, &place]).map(drop)
}

fn write_as(w: &Fixture, user: u32, name: &str, bytes: &[u8]) -> io::Result<()> {
    let path = w.path(name);
    sys::as_user(user, || fs::write(path, bytes))
}

fn remove_as(w: &Fixture, user: u32, name: &str) -> Outcome {
    let path = w.path(name);
    sys::as_user(user, || fs::remove_file(path)).at(format!("removing {name}"))?;
    // So that the order of deletions is known to filesystems with coarse times, too.
    std::thread::sleep(std::time::Duration::from_millis(20));
    Ok(())
}

/// Makes files of `size` bytes, and deletes them, in this order.
fn delete(w: &Fixture, user: u32, names: &[String], size: usize) -> Outcome {
    for (number, name) in names.iter().enumerate() {
        write_as(w, user, name, &pattern(number as u64, size)).at(format!("making {name}"))?;
    }
    sync(w)?;
    for name in names {
        remove_as(w, user, name)?;
    }
    Ok(())
}

fn sync(w: &Fixture) -> Outcome {
    Ok(rustix::fs::syncfs(File::open(&w.mnt)?)?)
}

/// The newest `count` deletions in a directory come back with their content, the one before does not.
fn comes_back(w: &Fixture, dir: &str, names: &[String], count: usize, size: usize) -> Outcome {
    let file = File::open(w.path(dir))?;
    let mut number = names.len();
    for name in names.iter().rev().take(count) {
        number -= 1;
        undo::revert(&file, 1).at(format!("bringing {name} back"))?;
        w.same("brought back", name, &pattern(number as u64, size))?;
    }
    if count < names.len() {
        same_errno(
            format!("{} was given up", names[number - 1]),
            undo::revert(&file, 1),
            Errno::NODATA,
        )?;
    }
    Ok(())
}

fn names(dir: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{dir}/{number}")).collect()
}

/// Alice has 20 MiB, of which five deleted files of 3 MiB take 15: a write of [`NEW`] bytes takes the two
/// oldest.
fn of_a_user(w: &mut Fixture) -> Outcome {
    let place = with_quotas(w)?;
    let (alices, bobs) = (names("alice", 5), names("bob", 5));
    delete(w, BOB, &bobs, 3 * MIB)?;
    limit(w, "-u", ALICE, 20 * 1024, 0)?;
    delete(w, ALICE, &alices, 3 * MIB)?;
    write_as(w, ALICE, "alice/new", &pattern(77, NEW)).at("a write beyond the quota")?;
    sync(w)?;
    w.same("written", "alice/new", &pattern(77, NEW))?;
    // The restored content does not put its owner over the limit.
    limit(w, "-u", ALICE, 0, 0)?;
    comes_back(w, "bob", &bobs, 5, 3 * MIB)?;
    let dir = File::open(w.path("alice"))?;
    undo::revert(&dir, 1).at("the new file")?;
    drop(dir);
    comes_back(w, "alice", &alices, 3, 3 * MIB)?;
    leave(w, place)
}

/// Inodes count too: five deleted files of a limit of eight.
fn of_inodes(w: &mut Fixture) -> Outcome {
    let place = with_quotas(w)?;
    let (alices, bobs) = (names("alice", 5), names("bob", 5));
    delete(w, BOB, &bobs, 4096)?;
    delete(w, ALICE, &alices, 4096)?;
    // The directory is one, too.
    limit(w, "-u", ALICE, 0, 8)?;
    for number in 0..4 {
        write_as(w, ALICE, &format!("alice/n{number}"), b"new").at(format!("the new {number}"))?;
    }
    limit(w, "-u", ALICE, 0, 0)?;
    comes_back(w, "bob", &bobs, 5, 4096)?;
    let dir = File::open(w.path("alice"))?;
    undo::revert(&dir, 4).at("the new files")?;
    drop(dir);
    comes_back(w, "alice", &alices, 3, 4096)?;
    leave(w, place)
}

/// A project's limit: files of one user in two projects.
fn of_a_project(w: &mut Fixture) -> Outcome {
    let place = with_quotas(w)?;
    for (dir, project) in [("p", "7"), ("q", "8")] {
        fs::create_dir(w.path(dir))?;
        chown(w.path(dir), Some(ALICE), Some(ALICE))?;
        let path = w.below(dir)?.display().to_string();
        run(&["chattr", "+P", "-p", project, &path])?;
    }
    let (inside, outside) = (names("p", 5), names("q", 5));
    delete(w, ALICE, &outside, 3 * MIB)?;
    limit(w, "-P", 7, 20 * 1024, 0)?;
    delete(w, ALICE, &inside, 3 * MIB)?;
    write_as(w, ALICE, "p/new", &pattern(77, NEW)).at("a write beyond the quota")?;
    limit(w, "-P", 7, 0, 0)?;
    comes_back(w, "q", &outside, 5, 3 * MIB)?;
    let dir = File::open(w.path("p"))?;
    undo::revert(&dir, 1).at("the new file")?;
    drop(dir);
    comes_back(w, "p", &inside, 3, 3 * MIB)?;
    leave(w, place)
}

/// A group's limit, of files of two users.
fn of_a_group(w: &mut Fixture) -> Outcome {
    let place = with_quotas(w)?;
    fs::create_dir(w.path("shared"))?;
    chown(w.path("shared"), Some(ALICE), Some(2000))?;
    fs::set_permissions(w.path("shared"), fs::Permissions::from_mode(0o2777))?;
    let (inside, outside) = (names("shared", 5), names("alice", 5));
    delete(w, ALICE, &outside, 3 * MIB)?;
    limit(w, "-g", 2000, 20 * 1024, 0)?;
    delete(w, BOB, &inside, 3 * MIB)?;
    write_as(w, ALICE, "shared/new", &pattern(77, NEW)).at("a write beyond the quota")?;
    limit(w, "-g", 2000, 0, 0)?;
    comes_back(w, "alice", &outside, 5, 3 * MIB)?;
    let dir = File::open(w.path("shared"))?;
    undo::revert(&dir, 1).at("the new file")?;
    drop(dir);
    comes_back(w, "shared", &inside, 3, 3 * MIB)?;
    leave(w, place)
}

/// Restored content counts for its owner, also on filesystems where root has no quota privilege.
fn of_a_revert(w: &mut Fixture) -> Outcome {
    let place = with_quotas(w)?;
    let (alices, bobs) = (names("alice", 5), names("bob", 3));
    delete(w, BOB, &bobs, 3 * MIB)?;
    write_as(w, ALICE, "alice/f", &pattern(77, 8 * MIB)).at("a file")?;
    sync(w)?;
    sys::as_user(ALICE, || File::create(w.path("alice/f")).map(drop)).at("truncating it")?;
    limit(w, "-u", ALICE, 20 * 1024, 0)?;
    delete(w, ALICE, &alices, 3 * MIB)?;
    w.revert("alice/f", 1)?;
    w.same("brought back", "alice/f", &pattern(77, 8 * MIB))?;
    limit(w, "-u", ALICE, 0, 0)?;
    comes_back(w, "bob", &bobs, 3, 3 * MIB)?;
    let dir = File::open(w.path("alice"))?;
    undo::revert(&dir, 3).at("the newest deletions")?;
    drop(dir);
    leave(w, place)
}

/// If the user has no orphans, the quota error is passed on and no orphan is dropped.
fn without_anything_kept(w: &mut Fixture) -> Outcome {
    let place = with_quotas(w)?;
    let bobs = names("bob", 3);
    delete(w, BOB, &bobs, 3 * MIB)?;
    limit(w, "-u", ALICE, 4 * 1024, 0)?;
    let written = write_as(w, ALICE, "alice/new", &pattern(77, 8 * MIB));
    same_errno("beyond the quota", written, Errno::DQUOT)?;
    comes_back(w, "bob", &bobs, 3, 3 * MIB)?;
    leave(w, place)
}

/// A full filesystem: the oldest orphans are dropped, of any owner, and only as many as necessary.
fn room_as_needed(w: &mut Fixture) -> Outcome {
    let place = small(w, "history_max=1G")?;
    let stat = rustix::fs::statvfs(&w.mnt)?;
    let free = (stat.f_bavail * stat.f_frsize) as usize;
    // Ten of them take two thirds.
    let size = free / 15 / 65536 * 65536;
    let deleted = names("d", 10);
    fs::create_dir(w.path("d"))?;
    for (number, name) in deleted.iter().enumerate() {
        fs::write(w.path(name), pattern(number as u64, size)).at(format!("making {name}"))?;
    }
    sync(w)?;
    for name in &deleted {
        fs::remove_file(w.path(name))?;
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    fs::create_dir(w.path("e"))?;
    let wanted = free / 2 / 65536 * 65536;
    fs::write(w.path("e/new"), pattern(77, wanted)).at("a file that needs room")?;
    w.same("written", "e/new", &pattern(77, wanted))?;
    let dir = File::open(w.path("d"))?;
    let mut back = 0;
    while undo::revert(&dir, 1).is_ok() {
        back += 1;
        let number = deleted.len() - back;
        w.same(
            "brought back",
            &deleted[number],
            &pattern(number as u64, size),
        )?;
    }
    // A third of the disk was free; a sixth was needed: two and a half files, and the filesystem's own
    // overhead.
    check!(back >= 5, "only {back} of ten deleted files are left");
    check!(back < 10, "nothing was given up: the test needs no room");
    same("the directory", fs::read_dir(w.path("d"))?.count(), back)?;
    drop(dir);
    leave(w, place)
}
