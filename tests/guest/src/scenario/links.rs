// SPDX-License-Identifier: GPL-2.0

//! Files that lose one of several names, and get it back after a mount, with nothing of them in memory.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use crate::harness::Test;
use crate::mounts::Lower;
use crate::outcome::{check, same, Outcome};
use crate::undo;
use crate::world::World;

use super::past::said;

const BELOW: &[Lower] = &[Lower::Tmpfs, Lower::Ext4, Lower::Xfs, Lower::Btrfs];

pub const TESTS: &[Test] = &[
    Test::new("links-taken-back", taken_back).only(BELOW),
    Test::new("links-of-a-copied-tree", copied_tree).only(BELOW),
    Test::new("links-not-removed", not_removed).only(BELOW),
    Test::new("links-of-others", of_others).only(BELOW),
];

const ANA: u32 = 2000;

/// Mounts again, with nothing of the lower filesystem in memory.
fn mount_cold(w: &mut World) -> Outcome {
    w.unmount()?;
    fs::write("/proc/sys/vm/drop_caches", "3")?;
    w.mount()
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

/// The lower filesystem refuses to take the name away: nothing has happened, and no change from outside is seen.
fn not_removed(w: &mut World) -> Outcome {
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
            // A mount point cannot lose its name in the mount namespace that it is one in.
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
