// SPDX-License-Identifier: GPL-2.0

//! Files that lose one of several names, and get it back after a mount without cached inodes.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use crate::fixture::Fixture;
use crate::harness::Test;
use crate::mounts::Lower;
use crate::outcome::{check, same, Outcome};
use crate::undo;

use super::past::said;

const BELOW: &[Lower] = &[Lower::Tmpfs, Lower::Ext4, Lower::Xfs, Lower::Btrfs];

pub const TESTS: &[Test] = &[
    Test::new("links-from-before", from_before).only(BELOW),
    Test::new("links-made-here", made_here).only(BELOW),
    Test::new("links-renamed-over", renamed_over).only(BELOW),
    Test::new("links-written", written).only(BELOW),
    Test::new("links-taken-back", taken_back).only(BELOW),
    Test::new("links-of-a-copied-tree", copied_tree).only(BELOW),
    Test::new("links-not-removed", not_removed).only(BELOW),
    Test::new("links-of-others", of_others).only(BELOW),
];

const ANA: u32 = 2000;

/// Mounts again, with nothing of the lower filesystem in memory.
fn mount_cold(w: &mut Fixture) -> Outcome {
    w.unmount()?;
    fs::write("/proc/sys/vm/drop_caches", "3")?;
    w.mount()
}

/// `name` came back, as the very file that is called `other`, too.
fn is_back(w: &Fixture, name: &str, other: &str, content: &[u8]) -> Outcome {
    let inode = |name: &str| fs::metadata(w.path(name)).map(|meta| meta.ino());
    same("inode", inode(name)?, inode(other)?)?;
    w.same(name, name, content)
}

/// The link is older than the mount, and the file has no line: `logctl` looks for its other name.
fn from_before(w: &mut Fixture) -> Outcome {
    w.unmount()?;
    for dir in ["d", "e"] {
        fs::create_dir(w.below(dir)?)?;
    }
    fs::write(w.below("d/a")?, "one\n")?;
    fs::hard_link(w.below("d/a")?, w.below("e/b")?)?;
    w.mount()?;
    for line in [
        "logctl d revert",
        "logctl undo",
        "logctl undo d",
        "logctl revert --by rm",
    ] {
        w.sh("rm d/a")?;
        mount_cold(w)?;
        w.sh(line)?;
        is_back(w, "d/a", "e/b", b"one\n")?;
    }
    // Without another name in the tree nothing is found, and nothing is done.
    w.sh("rm d/a")?;
    w.unmount()?;
    fs::rename(w.below("e/b")?, w.beside()?.join("b"))?;
    w.mount()?;
    let refused = w.sh("logctl d revert 2>&1 || true; logctl undo 2>&1 || true")?;
    check!(!w.path("d/a").exists(), "it came back: {refused}");
    Ok(fs::remove_file(w.beside()?.join("b"))?)
}

/// A link through the mount, in another directory than the name that is lost.
fn made_here(w: &mut Fixture) -> Outcome {
    w.sh("echo one > a; mkdir d")?;
    mount_cold(w)?;
    w.sh("ln a d/b; rm a")?;
    mount_cold(w)?;
    w.sh("logctl undo")?;
    is_back(w, "a", "d/b", b"one\n")
}

/// The file loses its name to another file.
fn renamed_over(w: &mut Fixture) -> Outcome {
    w.sh("mkdir d e; echo one > d/a; ln d/a e/b; echo two > d/new")?;
    mount_cold(w)?;
    w.sh("mv d/new d/a")?;
    mount_cold(w)?;
    w.sh("logctl undo")?;
    is_back(w, "d/a", "e/b", b"one\n")?;
    w.same("new", "d/new", b"two\n")
}

/// Data written by a name comes back with the name, by one request.
fn written(w: &mut Fixture) -> Outcome {
    w.unmount()?;
    for dir in ["d", "e"] {
        fs::create_dir(w.below(dir)?)?;
    }
    fs::write(w.below("d/a")?, "one\n")?;
    fs::hard_link(w.below("d/a")?, w.below("e/b")?)?;
    w.mount()?;
    w.sh("echo two >> d/a; chmod 600 d/a; rm d/a")?;
    mount_cold(w)?;
    w.sh("logctl undo -3")?;
    is_back(w, "d/a", "e/b", b"one\n")?;
    same("mode", fs::metadata(w.path("d/a"))?.mode() & 0o777, 0o644)?;
    mount_cold(w)?;
    w.sh("logctl redo -3")?;
    check!(!w.path("d/a").exists(), "d/a is there");
    w.same("redone", "e/b", b"one\ntwo\n")
}

/// A link is taken back, and that again after a mount. The file came from another directory.
fn taken_back(w: &mut Fixture) -> Outcome {
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

/// `cp -al` and `rm -r`, by a user, whose removal is one action: the lines of the files name their first
/// directory.
fn copied_tree(w: &mut Fixture) -> Outcome {
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

/// The lower filesystem refuses to take the name away: nothing has happened, and no change from outside is seen.
fn not_removed(w: &mut Fixture) -> Outcome {
    for (number, line) in ["rm", "mv -f e"].iter().enumerate() {
        for links in 1..=2 {
            let (name, other) = (format!("d{number}{links}/a"), format!("b{number}{links}"));
            let dir = format!("d{number}{links}");
            w.sh(&format!(
                "mkdir {dir}; echo two > e; echo one > {name}; echo two >> {name}"
            ))?;
            if links == 2 {
                w.sh(&format!("ln {name} {other}"))?;
            }
            let below = w.below(&name)?;
            // A mount point cannot lose its name in the mount namespace in which it is one.
            w.sh(&format!("mount --bind /etc/hostname {}", below.display()))?;
            let refused = w.sh(&format!("{line} {name} 2>&1 && echo done || true"))?;
            w.sh(&format!("umount {}", below.display()))?;
            check!(!refused.contains("done"), "{line} {name}: {refused}");
            same("links", fs::metadata(w.path(&name))?.nlink(), links)?;
            w.remount()?;
            undo::revert(&w.open(&name)?, 1)?;
            w.same(line, &name, b"one\n")?;
        }
    }
    Ok(())
}

/// Another user's file, whose other name the caller cannot reach, does not come back to them.
fn of_others(w: &mut Fixture) -> Outcome {
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
