// SPDX-License-Identifier: GPL-2.0

//! Reverts of operations on names: created objects go; deleted or replaced ones come back
//! unchanged.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::fs::{RenameFlags, CWD};
use rustix::io::Errno;

use crate::faults::tree::Tree;
use crate::fixture::{put, Fixture};
use crate::harness::Test;
use crate::outcome::{check, same, same_bytes, same_errno, At, Outcome};
use crate::shadow::{pattern, Random};
use crate::undo;

pub const TESTS: &[Test] = &[
    Test::new("names-one-by-one", one_by_one).seconds(120),
    Test::new("names-all-at-once", all_at_once).seconds(120),
    Test::new("names-at-random", at_random).seconds(300),
    Test::new("names-deleted-while-open", deleted_while_open),
    Test::new("names-written-over", written_over),
    Test::new("names-after-a-remount", after_a_remount),
    Test::new("names-in-the-way", in_the_way),
    Test::new("names-of-a-tree", of_a_tree),
    Test::new("names-and-attributes", and_attributes),
    Test::new("names-between-directories", between_directories).seconds(120),
    Test::new("names-between-directories-lost", between_directories_lost),
    Test::new("names-kept-for-a-while", kept_for_a_while).unmounted(),
];

fn back(w: &Fixture, dir: &str, count: usize) -> std::io::Result<()> {
    undo::revert(&File::open(w.path(dir))?, count)
}

fn tree(w: &Fixture, dir: &str) -> Outcome<Tree> {
    Tree::of(&w.path(dir)).at(format!("looking at {dir}"))
}

/// Through the mount and below it.
fn same_tree(w: &Fixture, what: &str, dir: &str, want: &Tree) -> Outcome {
    if let Some(difference) = tree(w, dir)?.difference(want) {
        crate::outcome::fail!("{what}: {difference}");
    }
    if let Some(src) = &w.src {
        let below = Tree::of(&src.join(dir))?;
        if let Some(difference) = below.difference(want) {
            crate::outcome::fail!("{what}, from below: {difference}");
        }
    }
    Ok(())
}

/// One operation on the names of a directory each.
const STEPS: &[&str] = &[
    "> new",
    "mkdir sub",
    "ln file second",
    "ln -s file arrow",
    "mkfifo pipe",
    "mknod device c 1 3",
    "mv file moved",
    "mv new other",
    "rm second",
    "rm arrow",
    "rm pipe",
    "rm moved",
    "rmdir sub",
    "mkdir one",
    "mkdir two",
    "mv -T one two",
    "rm -f other device",
    "mv full over",
    "ln over again",
    "> last",
    "mv last over",
    "rm again",
];

/// How many operations a step is.
fn weight(step: &str) -> usize {
    if step.starts_with("rm -f ") {
        2
    } else {
        1
    }
}

fn prepare(w: &Fixture) -> Outcome {
    fs::create_dir(w.path("d"))?;
    w.make("d/file", &pattern(1, 100_000))?;
    w.make("d/full", &pattern(2, 70_000))?;
    w.make("d/over", &pattern(3, 300))?;
    w.sh("cd d; chmod 4711 file; chown 12:34 file; setfattr -n user.a -v b file; touch -d 2001-02-03 file")?;
    Ok(())
}

fn one_by_one(w: &mut Fixture) -> Outcome {
    prepare(w)?;
    let mut states = vec![tree(w, "d")?];
    for step in STEPS {
        w.sh(&format!("cd d; {step}"))?;
        states.push(tree(w, "d")?);
    }
    states.pop();
    for step in STEPS.iter().rev() {
        back(w, "d", weight(step)).at(format!("taking back {step:?}"))?;
        let want = states.pop().unwrap_or_default();
        same_tree(w, &format!("{step:?} taken back"), "d", &want)?;
    }
    Ok(())
}

fn all_at_once(w: &mut Fixture) -> Outcome {
    prepare(w)?;
    let before = tree(w, "d")?;
    for step in STEPS {
        w.sh(&format!("cd d; {step}"))?;
    }
    let count = STEPS.iter().map(|step| weight(step)).sum();
    back(w, "d", count)?;
    same_tree(w, "all taken back", "d", &before)
}

/// Any sequence of operations in one directory, taken back step by step.
fn at_random(w: &mut Fixture) -> Outcome {
    fs::create_dir(w.path("d"))?;
    let mut random = Random::new(w.seed);
    let mut states = vec![tree(w, "d")?];
    for step in 0..w.times(400, 120u64) {
        if shuffle(w, &mut random, step)? {
            states.push(tree(w, "d")?);
        }
    }
    w.remount_if_lasting()?;
    states.pop();
    while let Some(want) = states.pop() {
        let left = states.len();
        back(w, "d", 1).at(format!("taking back operation {left}"))?;
        same_tree(w, &format!("operation {left} taken back"), "d", &want)?;
    }
    same_errno("behind the first", back(w, "d", 2), Errno::NODATA)
}

/// One operation on random names; false if it fails.
fn shuffle(w: &Fixture, random: &mut Random, step: u64) -> Outcome<bool> {
    let name = |random: &mut Random| w.path(&format!("d/n{}", random.below(7)));
    let (one, two) = (name(random), name(random));
    let rename = |flags| rustix::fs::renameat_with(CWD, &one, CWD, &two, flags).is_ok();
    // A rename between two names of one object is none.
    let same = match (fs::symlink_metadata(&one), fs::symlink_metadata(&two)) {
        (Ok(a), Ok(b)) => a.ino() == b.ino(),
        _ => false,
    };
    Ok(match random.below(10) {
        0 | 1 => {
            let made = File::create_new(&one);
            if let Ok(file) = &made {
                put(file, 0, &pattern(step, 1 + random.below(9000) as usize))?;
            }
            made.is_ok()
        }
        2 => fs::create_dir(&one).is_ok(),
        3 => std::os::unix::fs::symlink(format!("t{step}"), &one).is_ok(),
        4 => fs::hard_link(&one, &two).is_ok(),
        5 => fs::remove_file(&one).is_ok(),
        6 => fs::remove_dir(&one).is_ok(),
        7 if !same => rename(RenameFlags::EXCHANGE),
        _ if !same => rename(RenameFlags::empty()),
        _ => false,
    })
}

/// An open file lives on as on any filesystem, and comes back with all changes.
fn deleted_while_open(w: &mut Fixture) -> Outcome {
    fs::create_dir(w.path("d"))?;
    w.make("d/f", &pattern(1, 10_000))?;
    let file = w.open("d/f")?;
    put(&file, 5_000, &pattern(2, 1_000))?;
    w.sh("rm d/f")?;
    same("links of a deleted file", file.metadata()?.nlink(), 0)?;
    put(&file, 7_000, &pattern(3, 2_000))?;
    let mut want = pattern(1, 10_000);
    want[5_000..6_000].copy_from_slice(&pattern(2, 1_000));
    want[7_000..9_000].copy_from_slice(&pattern(3, 2_000));
    back(w, "d", 1).at("the deletion")?;
    same("links of a file that is back", file.metadata()?.nlink(), 1)?;
    w.same("back", "d/f", &want)?;
    put(&file, 0, b"on and on")?;
    undo::revert(&file, 3).at("its own history")?;
    w.same("as before all", "d/f", &pattern(1, 10_000))
}

/// As editors save: a new file is renamed over the old one.
fn written_over(w: &mut Fixture) -> Outcome {
    fs::create_dir(w.path("d"))?;
    w.make("d/f", b"first")?;
    let old = w.open("d/f")?;
    for number in 0..3 {
        w.sh(&format!("echo save {number} > d/tmp; mv d/tmp d/f"))?;
    }
    same("links of what was written over", old.metadata()?.nlink(), 0)?;
    for number in (0..3).rev() {
        w.same("saved", "d/f", format!("save {number}\n").as_bytes())?;
        back(w, "d", 1).at("the rename")?;
        w.same(
            "the new one",
            "d/tmp",
            format!("save {number}\n").as_bytes(),
        )?;
        back(w, "d", 1).at("its creation")?;
        check!(!w.path("d/tmp").exists(), "a temporary name is left");
    }
    w.same("the first", "d/f", b"first")?;
    same("links of the first", old.metadata()?.nlink(), 1)?;
    let mut bytes = [0; 5];
    old.read_exact_at(&mut bytes, 0)?;
    same_bytes("through the old descriptor", &bytes, b"first")
}

fn after_a_remount(w: &mut Fixture) -> Outcome {
    fs::create_dir(w.path("d"))?;
    w.make("d/f", &pattern(1, 50_000))?;
    w.sh("cd d; ln f g; rm f; rm g; mkdir e; rmdir e")?;
    w.remount_if_lasting()?;
    back(w, "d", 2).at("the directory")?;
    back(w, "d", 1).at("the last name")?;
    w.remount_if_lasting()?;
    w.same("g", "d/g", &pattern(1, 50_000))?;
    same("links", fs::metadata(w.path("d/g"))?.nlink(), 1)?;
    back(w, "d", 1).at("the first name")?;
    w.same("f", "d/f", &pattern(1, 50_000))?;
    same("links", fs::metadata(w.path("d/f"))?.nlink(), 2)?;
    back(w, "d", 2).at("the link, and the creation")?;
    same("names left", fs::read_dir(w.path("d"))?.count(), 0)
}

/// Objects made outside LoggerFS are never replaced.
fn in_the_way(w: &mut Fixture) -> Outcome {
    let src = w.below("")?;
    fs::create_dir(w.path("d"))?;
    w.sh("cd d; echo old > f; mkdir e; rmdir e; rm f")?;
    fs::write(src.join("d/f"), "external")?;
    same_errno("over another file", back(w, "d", 1), Errno::BUSY)?;
    w.same("the other file", "d/f", b"external")?;
    same_errno("two at once", back(w, "d", 2), Errno::BUSY)?;
    fs::remove_file(src.join("d/f"))?;
    fs::create_dir(src.join("d/e"))?;
    same_errno("the second of two", back(w, "d", 2), Errno::BUSY)?;
    check!(!w.path("d/f").exists(), "a part of a refused revert stands");
    fs::remove_dir(src.join("d/e"))?;
    back(w, "d", 2).at("nothing is in the way")?;
    w.same("back", "d/f", b"old\n")?;
    fs::write(src.join("d/e/inside"), "external")?;
    same_errno(
        "a directory that is not empty",
        back(w, "d", 1),
        Errno::BUSY,
    )?;
    w.same("what is in it", "d/e/inside", b"external")
}

/// `rm -r`: each directory takes back its own names.
fn of_a_tree(w: &mut Fixture) -> Outcome {
    w.sh(
        "mkdir -p d/sub/deep; for i in 1 2 3; do echo $i > d/sub/$i; done; echo x > d/sub/deep/x",
    )?;
    let before = tree(w, "d")?;
    w.sh("rm -r d/sub")?;
    same("all is gone", fs::read_dir(w.path("d"))?.count(), 0)?;
    back(w, "d", 1).at("d/sub")?;
    back(w, "d/sub", 4).at("its names")?;
    back(w, "d/sub/deep", 1).at("the deepest name")?;
    same_tree(w, "the tree", "d", &before)
}

/// Attributes of the directory and names in it are one chain.
fn and_attributes(w: &mut Fixture) -> Outcome {
    w.sh("mkdir d; chmod 755 d; echo 1 > d/a")?;
    w.sh("chmod 700 d; rm d/a; chmod 711 d; echo 2 > d/b")?;
    back(w, "d", 4)?;
    same("mode", fs::metadata(w.path("d"))?.mode() & 0o7777, 0o755)?;
    w.same("a", "d/a", b"1\n")?;
    check!(!w.path("d/b").exists(), "b is still there");
    Ok(())
}

/// Renames from one directory to another are the first one's operations.
fn between_directories(w: &mut Fixture) -> Outcome {
    fs::create_dir(w.path("t"))?;
    w.sh("cd t; mkdir -p from to/deep/deeper; echo f > from/f; mkdir from/d; echo in > from/d/in")?;
    w.sh(
        "cd t; echo x > from/x; echo y > to/deep/y; echo old > to/deep/deeper/old; mkdir to/empty",
    )?;
    w.sh("cd t; ln to/deep/deeper/old to/again")?;
    let steps = [
        "mv from/f to/f",
        "mv from/d to/deep/deeper/d",
        "mv to/f from/back",
        "mv from/x to/deep/deeper/old",
        "mkdir from/e; mv -T from/e to/empty",
    ];
    let mut states = vec![tree(w, "t")?];
    for step in steps {
        w.sh(&format!("cd t; {step}"))?;
        states.push(tree(w, "t")?);
    }
    fs::write(w.path("t/from/one"), "one")?;
    let before = tree(w, "t")?;
    let (one, two) = (w.path("t/from/one"), w.path("t/to/deep/y"));
    rustix::fs::renameat_with(CWD, &one, CWD, &two, RenameFlags::EXCHANGE)?;
    w.remount_if_lasting()?;
    back(w, "t/from", 1).at("the exchange")?;
    same_tree(w, "the exchange taken back", "t", &before)?;
    back(w, "t/from", 1).at("a creation")?;
    let mut back_to = |dir: &str, count: usize, what: &str| -> Outcome {
        states.pop();
        back(w, dir, count).at(format!("taking back {what}"))?;
        let want = states.last().cloned().unwrap_or_default();
        same_tree(w, &format!("{what} taken back"), "t", &want)
    };
    back_to("t/from", 2, steps[4])?;
    back_to("t/from", 1, steps[3])?;
    back_to("t/to", 1, steps[2])?;
    back_to("t/from", 1, steps[1])?;
    back_to("t/from", 1, steps[0])
}

/// Where there is no way back, nothing is changed.
fn between_directories_lost(w: &mut Fixture) -> Outcome {
    fs::create_dir(w.path("t"))?;
    w.sh("cd t; mkdir from to; echo f > from/f; echo g > from/g; mv from/f to/f; mv from/g to/g")?;
    w.sh("cd t; rm to/g; echo other > to/g")?;
    same_errno("another object", back(w, "t/from", 1), Errno::BUSY)?;
    w.same("the other object", "t/to/g", b"other\n")?;
    w.sh("cd t; mv to/g to/h; mkdir from/g")?;
    same_errno(
        "one newer, and nothing behind it",
        back(w, "t/from", 2),
        Errno::BUSY,
    )?;
    w.sh("rm -r t/to")?;
    same_errno(
        "a directory that is gone",
        back(w, "t/from", 1),
        Errno::BUSY,
    )?;
    same("names left", fs::read_dir(w.path("t/from"))?.count(), 0)
}

/// Orphans count as history, and are dropped with it, the oldest first.
fn kept_for_a_while(w: &mut Fixture) -> Outcome {
    w.mount_with("history_max=24M")?;
    fs::create_dir(w.path("d"))?;
    for number in 0..40 {
        w.make(&format!("d/{number}"), &pattern(number, 1 << 20))?;
    }
    rustix::fs::syncfs(File::open(&w.mnt)?)?;
    let used = |w: &Fixture| -> Outcome<u64> {
        let stat = rustix::fs::statvfs(&w.mnt)?;
        Ok((stat.f_blocks - stat.f_bfree) * stat.f_frsize)
    };
    let before = used(w)?;
    for number in 0..40 {
        fs::remove_file(w.path(&format!("d/{number}")))?;
    }
    let mut freed = 0;
    for _ in 0..100 {
        rustix::fs::syncfs(File::open(&w.mnt)?)?;
        freed = before.saturating_sub(used(w)?);
        if freed >= 12 << 20 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    check!(freed >= 12 << 20, "only {freed} bytes came back");
    back(w, "d", 1).at("the newest")?;
    w.same("the newest", "d/39", &pattern(39, 1 << 20))?;
    same_errno("the oldest", back(w, "d", 40), Errno::NODATA)
}
