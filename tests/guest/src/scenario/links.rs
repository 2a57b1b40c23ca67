// SPDX-License-Identifier: GPL-2.0

//! Files that lose one of several names, and get it back when no other name of theirs is known: after a mount,
//! with nothing of them in memory, and with links that were made past LoggerFS.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use crate::group::{self, Placed};
use crate::harness::Test;
use crate::mounts::Lower;
use crate::outcome::{check, same, Outcome};
use crate::undo;
use crate::world::World;

use super::past::said;

const BELOW: &[Lower] = &[Lower::Tmpfs, Lower::Ext4, Lower::Xfs, Lower::Btrfs];

pub const TESTS: &[Test] = &[
    Test::new("links-from-before", from_before).only(BELOW),
    Test::new("links-outside", outside).only(BELOW),
    Test::new("links-renamed-over", renamed_over).only(BELOW),
    Test::new("links-made-here", made_here).only(BELOW),
    Test::new("links-taken-back", taken_back).only(BELOW),
    Test::new("links-written", written).only(BELOW),
    Test::new("links-of-a-copied-tree", copied_tree).only(BELOW),
    Test::new("links-of-others", of_others).only(BELOW),
];

const ANA: u32 = 2000;

/// Mounts again, with nothing of the lower filesystem in memory.
fn mount_cold(w: &mut World) -> Outcome {
    w.unmount()?;
    fs::write("/proc/sys/vm/drop_caches", "3")?;
    w.mount()
}

/// `name` comes back by a revert of its directory, as the very file that `other` on the lower filesystem is.
fn comes_back(w: &World, (dir, name): (&str, &str), other: &std::path::Path) -> Outcome {
    let path = w.path(dir).join(name);
    let was = fs::metadata(other)?;
    undo::revert(&File::open(w.path(dir))?, 1)?;
    let is = fs::metadata(&path)?;
    same("inode", is.ino(), was.ino())?;
    same("links", is.nlink(), was.nlink() + 1)?;
    same(
        "modified",
        (is.mtime(), is.mtime_nsec()),
        (was.mtime(), was.mtime_nsec()),
    )?;
    same("content", fs::read(&path)?, fs::read(other)?)?;
    let shown = w.sh(&format!("getfattr -d -m - {}", path.display()))?;
    same("attributes", shown.as_str(), "")
}

/// The link is older than the mount, and the file has no line.
fn from_before(w: &mut World) -> Outcome {
    let other = w.below("e/b")?;
    w.unmount()?;
    for dir in ["d", "e"] {
        fs::create_dir(w.below(dir)?)?;
    }
    fs::write(w.below("d/a")?, "one\n")?;
    fs::hard_link(w.below("d/a")?, &other)?;
    w.mount()?;
    fs::remove_file(w.path("d/a"))?;
    mount_cold(w)?;
    comes_back(w, ("d", "a"), &other)
}

/// The other name is beside the source, as a store's of a package manager.
fn outside(w: &mut World) -> Outcome {
    let other = w.beside()?.join("store");
    w.unmount()?;
    fs::write(&other, "one\n")?;
    fs::create_dir(w.below("d")?)?;
    fs::hard_link(&other, w.below("d/a")?)?;
    w.mount()?;
    for _ in 0..2 {
        fs::remove_file(w.path("d/a"))?;
        mount_cold(w)?;
        comes_back(w, ("d", "a"), &other)?;
    }
    fs::remove_file(&other)?;
    Ok(())
}

/// It loses the name to another file.
fn renamed_over(w: &mut World) -> Outcome {
    let other = w.below("e/b")?;
    w.sh("mkdir d e; echo one > d/a; ln d/a e/b; echo two > d/new")?;
    mount_cold(w)?;
    w.sh("mv d/new d/a")?;
    mount_cold(w)?;
    comes_back(w, ("d", "a"), &other)?;
    w.same("new", "d/new", b"two\n")
}

/// A link through the mount, in another directory than the name that is lost.
fn made_here(w: &mut World) -> Outcome {
    let other = w.below("d/b")?;
    w.sh("echo one > a; mkdir d")?;
    mount_cold(w)?;
    w.sh("ln a d/b; rm a")?;
    mount_cold(w)?;
    comes_back(w, ("", "a"), &other)
}

/// A link is taken back, and that again after a mount. The file came from another directory.
fn taken_back(w: &mut World) -> Outcome {
    w.sh("mkdir d e; echo one > d/a")?;
    mount_cold(w)?;
    w.sh("mv d/a e/a; ln e/a d/b")?;
    undo::revert(&File::open(w.path("d"))?, 1)?;
    check!(!w.path("d/b").exists(), "d/b is there");
    mount_cold(w)?;
    w.sh("logctl redo")?;
    let inode = |name: &str| fs::metadata(w.path(name)).map(|meta| meta.ino());
    same("inode", inode("d/b")?, inode("e/a")?)?;
    w.same("d/b", "d/b", b"one\n")
}

/// What was written by a name comes back with it, by one request.
fn written(w: &mut World) -> Outcome {
    let other = w.beside()?.join("store");
    w.unmount()?;
    fs::write(&other, "one\n")?;
    fs::create_dir(w.below("d")?)?;
    fs::hard_link(&other, w.below("d/a")?)?;
    w.mount()?;
    w.sh("echo two >> d/a; chmod 600 d/a; rm d/a")?;
    mount_cold(w)?;
    let lines = group::history(w)?;
    let is_picked =
        |line: &&Placed| ["write", "setattr", "unlink"].contains(&line.line.op.as_str());
    let picked: Vec<_> = lines.iter().filter(is_picked).cloned().collect();
    same("lines", picked.len(), 3)?;
    let (result, _) = group::revert(&File::open(&w.mnt)?, &picked, 0);
    result?;
    w.same("d/a", "d/a", b"one\n")?;
    same("mode", fs::metadata(w.path("d/a"))?.mode() & 0o777, 0o644)?;
    mount_cold(w)?;
    let mut undone = group::history(w)?;
    undone.retain(|line| line.line.op == "revert");
    let (result, _) = group::revert(&File::open(&w.mnt)?, &undone, 0);
    result?;
    check!(!w.path("d/a").exists(), "d/a is there");
    same(
        "redone",
        fs::read(&other)?.as_slice(),
        b"one\ntwo\n".as_slice(),
    )?;
    Ok(fs::remove_file(&other)?)
}

/// `cp -al` and `rm -r`, by a user, whose removal is one action: the files' lines tell of their first directory.
fn copied_tree(w: &mut World) -> Outcome {
    w.sh("mkdir tree; chown 2000:2000 tree .; chmod 755 .")?;
    let make = "mkdir -p tree/d/e; for i in 1 2 3 4 5 6 7 8 9; do echo $i > tree/d/e/$i; done; cp -al tree copy";
    let (code, text) = said(w, ANA, make)?;
    check!(code == "0", "{text}");
    mount_cold(w)?;
    let (code, text) = said(w, ANA, "rm -r copy")?;
    check!(code == "0", "{text}");
    mount_cold(w)?;
    let (code, text) = said(
        w,
        ANA,
        "logctl undo; diff -r tree copy; ls -i tree/d/e > /tmp/1; ls -i copy/d/e | cmp - /tmp/1",
    )?;
    check!(code == "0", "{text}");
    Ok(())
}

/// Another user's file, whose other name the caller cannot reach, does not come back to them.
fn of_others(w: &mut World) -> Outcome {
    w.sh("mkdir d private; chmod 777 d; echo one > private/b; chmod 666 private/b; ln private/b d/a; chmod 700 private")?;
    let (code, text) = said(w, ANA, "rm -f d/a")?;
    check!(code == "0", "{text}");
    mount_cold(w)?;
    let (code, text) = said(w, ANA, "logctl d revert")?;
    check!(code != "0", "it came back: {text}");
    check!(!w.path("d/a").exists(), "it came back, and was refused");
    undo::revert(&File::open(w.path("d"))?, 1)?;
    w.same("for root", "d/a", b"one\n")
}
