// SPDX-License-Identifier: GPL-2.0

//! `rm -r`, taken back by one request: all that one process removed, and nothing that others did.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::io::Errno;

use crate::faults::tree::Tree;
use crate::fixture::{put, Fixture};
use crate::harness::Test;
use crate::outcome::{check, fail, same, same_errno, At, Outcome};
use crate::shadow::pattern;
use crate::undo::{self, DEEP};

pub const TESTS: &[Test] = &[
    Test::new("removed-tree", whole).seconds(120),
    Test::new("removed-tree-by-several", by_several),
    Test::new("removed-tree-in-the-way", in_the_way),
    Test::new("removed-tree-of-others", of_others),
    Test::new("removed-tree-refused-whole", refused_whole).seconds(120),
    Test::new("removed-tree-of-ones-own", own_tree),
    Test::new("removed-tree-deep", deep).seconds(120),
    Test::new("removed-tree-of-many", many)
        .lengthy()
        .seconds(120),
    Test::new("removed-tree-given-up", given_up).unmounted(),
    Test::new("removed-file-given-up", file_given_up).unmounted(),
];

/// Takes the newest operation back, with all that is inside; says how much that was.
fn back(w: &Fixture, dir: &str) -> io::Result<u32> {
    let (result, answer) = undo::revert_more(&File::open(w.path(dir))?, 1, DEEP);
    result.map(|()| answer.inside)
}

fn same_tree(w: &Fixture, what: &str, want: &Tree) -> Outcome {
    if let Some(difference) = Tree::of(&w.path("d"))?.difference(want) {
        fail!("{what}: {difference}");
    }
    if let Some(src) = &w.src {
        if let Some(difference) = Tree::of(&src.join("d"))?.difference(want) {
            fail!("{what}, from below: {difference}");
        }
    }
    Ok(())
}

/// Objects of all kinds, some with names in several directories.
fn plant(w: &Fixture) -> Outcome<Tree> {
    w.sh("mkdir -p d/sub/deep/deeper d/sub/empty; echo stays > d/stays")?;
    w.make("d/sub/file", &pattern(1, 100_000))?;
    w.make("d/sub/deep/file", &pattern(2, 70_000))?;
    w.sh("cd d/sub; for i in $(seq 40); do echo $i > deep/deeper/$i; done; ln -s file arrow")?;
    w.sh("cd d/sub; mkfifo pipe; mknod device c 1 3; ln file deep/again; ln deep/deeper/1 1")?;
    w.sh("cd d/sub; chmod 4711 file; chown 12:34 deep; setfattr -n user.a -v b deep/file")?;
    w.sh("cd d/sub; chmod 1770 deep/deeper; touch -d 2001-02-03 deep/file")?;
    Tree::of(&w.path("d"))
}

fn whole(w: &mut Fixture) -> Outcome {
    let before = plant(w)?;
    for round in 0..3 {
        w.sh("rm -rf d/sub")?;
        check!(!w.path("d/sub").exists(), "rm -rf left something");
        if round == 1 {
            w.remount_if_lasting()?;
        }
        // deep, deeper, empty; 4 links, 41 files, arrow, pipe, device.
        same("inside", back(w, "d").at("the tree")?, 50)?;
        same_tree(w, &format!("round {round}"), &before)?;
    }
    let file = w.open("d/sub/file")?;
    undo::revert(&file, 1).at("the file's own history goes on")?;
    w.sh("rm -rf d/sub d/stays")?;
    back(w, "d").at("one of two names")?;
    back(w, "d").at("the other")?;
    check!(w.path("d/stays").exists(), "d/stays is missing");
    check!(w.path("d/sub/deep/deeper/40").exists(), "40 is missing");
    Ok(())
}

/// Objects that another process had removed before stay removed; each can be restored by itself.
fn by_several(w: &mut Fixture) -> Outcome {
    let before = plant(w)?;
    w.sh("rm d/sub/deep/deeper/7")?;
    let without = Tree::of(&w.path("d"))?;
    w.sh("rm -rf d/sub")?;
    back(w, "d")?;
    same_tree(w, "what rm -rf removed", &without)?;
    undo::revert(&File::open(w.path("d/sub/deep/deeper"))?, 1)?;
    same_tree(w, "what rm removed", &before)?;
    w.sh("rm -rf d/sub/deep/deeper/*; rm -rf d/sub")?;
    undo::revert(&File::open(w.path("d"))?, 1)?;
    same("flat", fs::read_dir(w.path("d/sub"))?.count(), 0)
}

/// A refused request has changed nothing, not even outside the visible tree.
fn in_the_way(w: &mut Fixture) -> Outcome {
    let below = w.below("")?;
    let before = plant(w)?;
    w.sh("rm -rf d/sub")?;
    fs::create_dir(below.join("d/sub"))?;
    same_errno("a name in the way", back(w, "d").map(drop), Errno::BUSY)?;
    same("in it", fs::read_dir(w.path("d/sub"))?.count(), 0)?;
    same("refilled", filled(&w.history()?.join("orphans"))?, 0)?;
    fs::remove_dir(below.join("d/sub"))?;
    w.remount()?;
    back(w, "d").at("nothing is in the way")?;
    same_tree(w, "back", &before)
}

/// A user without write access to a directory cannot restore entries into it.
fn of_others(w: &mut Fixture) -> Outcome {
    w.sh("mkdir d d/sub d/sub/theirs; echo 1 > d/sub/theirs/1; chown 2000 d d/sub; chmod 777 d/sub/theirs")?;
    let before = Tree::of(&w.path("d"))?;
    let user = "setpriv --reuid 2000 --regid 2000 --clear-groups";
    w.sh(&format!("{user} rm -rf d/sub"))?;
    let said = w.sh(&format!("{user} logctl d revert 2>&1 || true"))?;
    check!(said.contains("owner"), "refused with: {said}");
    check!(
        !w.path("d/sub").exists(),
        "a part of a refused revert stands"
    );
    w.sh("logctl d revert")?;
    same_tree(w, "by root", &before)
}

/// Deeper than any stack of the kernel is.
fn deep(w: &mut Fixture) -> Outcome {
    fs::create_dir(w.path("d"))?;
    // Each directory is made durable by itself.
    let levels = w.times(100, 40);
    w.sh(&format!(
        "cd d; mkdir sub; cd sub; for i in $(seq {levels}); do echo $i > f; mkdir s; cd -P s; done"
    ))?;
    let before = Tree::of(&w.path("d"))?;
    w.sh("rm -rf d/sub")?;
    same("inside", back(w, "d")?, 2 * levels)?;
    same_tree(w, "all of them", &before)
}

/// An object that could not come back is dropped with its segment, unchanged since its removal.
fn given_up(w: &mut Fixture) -> Outcome {
    w.mount_with("history_max=24M")?;
    let kept = w.history()?.join("orphans");
    let below = w.below("")?;
    plant(w)?;
    w.sh("rm -rf d/sub")?;
    fs::create_dir(below.join("d/sub"))?;
    same_errno("a name in the way", back(w, "d").map(drop), Errno::BUSY)?;
    same("refilled", filled(&kept)?, 0)?;
    for number in 0..60 {
        w.make(&format!("d/{number}"), &pattern(number, 1 << 20))?;
        fs::remove_file(w.path(&format!("d/{number}")))?;
    }
    fs::remove_dir(below.join("d/sub"))?;
    for _ in 0..100 {
        rustix::fs::syncfs(File::open(&w.mnt)?)?;
        if !has_kept_directory(&kept)? {
            same("refilled in between", filled(&kept)?, 0)?;
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    fail!("what was given up is still kept");
}

/// A tree with one file that may not come back is refused as a whole: nothing of it is put back into orphaned
/// directories. That file is the innermost, so that others would have come before it.
fn refused_whole(w: &mut Fixture) -> Outcome {
    let kept = w.history()?.join("orphans");
    w.sh("mkdir -p d/sub/deep/deeper; echo 1 > d/sub/first; echo 2 > d/sub/deep/second")?;
    w.sh("echo 3 > d/sub/deep/deeper/program; chmod 4755 d/sub/deep/deeper/program")?;
    w.sh("for i in $(seq 20); do echo $i > d/sub/deep/deeper/$i; done")?;
    w.sh("chown -R 2000:2000 d; chown 0:0 d/sub/deep/deeper/program")?;
    w.sh("chmod 4755 d/sub/deep/deeper/program")?;
    let before = Tree::of(&w.path("d"))?;
    let user = "setpriv --reuid 2000 --regid 2000 --clear-groups";
    w.sh(&format!("{user} rm -rf d/sub"))?;
    let said = w.sh(&format!("{user} logctl d revert 2>&1 || echo code $?"))?;
    check!(said.contains("code"), "not refused: {said}");
    check!(!w.path("d/sub").exists(), "a part of it is back");
    same("refilled", filled(&kept)?, 0)?;
    w.sh("logctl d revert")?;
    same_tree(w, "by root", &before)
}

/// A tree of a thousand files comes back as one request.
fn many(w: &mut Fixture) -> Outcome {
    w.sh("mkdir d; cd d; mkdir -p sub/{1..10}; for i in sub/*; do touch $i/{1..100}; done")?;
    w.sh("rm -rf d/sub")?;
    let since = Instant::now();
    w.sh("logctl d revert")?;
    println!("     1,000 files in {:?}", since.elapsed());
    same("files", w.sh("find d -type f | wc -l")?.trim(), "1000")
}

/// Who may change names in another user's directory takes a tree of their own back whole, too.
fn own_tree(w: &mut Fixture) -> Outcome {
    w.sh("mkdir d; chmod 1777 d")?;
    let user = "setpriv --reuid 2000 --regid 2000 --clear-groups";
    w.sh(&format!("{user} mkdir -p d/sub/deep"))?;
    w.sh(&format!(
        "{user} sh -c 'echo 1 > d/sub/1; echo 2 > d/sub/deep/2'"
    ))?;
    let before = Tree::of(&w.path("d"))?;
    w.sh(&format!("{user} rm -rf d/sub"))?;
    w.sh(&format!("{user} logctl d revert"))?;
    same_tree(w, "the user's own tree", &before)?;
    w.sh(&format!("{user} rm -rf d/sub/deep"))?;
    w.sh(&format!("{user} logctl d/sub revert"))?;
    same_tree(w, "in the user's own directory", &before)
}

/// Whether a directory is kept.
fn has_kept_directory(kept: &Path) -> Outcome<bool> {
    for segment in entries(kept)? {
        for place in entries(&segment)? {
            if entries(&place)?.iter().any(|object| object.is_dir()) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// How many orphaned directories have entries. A directory dropped meanwhile has none.
fn filled(kept: &Path) -> Outcome<usize> {
    let mut count = 0;
    for segment in entries(kept)? {
        for place in entries(&segment)? {
            for object in entries(&place)?.iter().filter(|object| object.is_dir()) {
                count += usize::from(!entries(object)?.is_empty());
            }
        }
    }
    Ok(count)
}

/// The entries of a directory; `None`: the directory is gone.
fn entries(directory: &Path) -> Outcome<Vec<PathBuf>> {
    match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        found => Ok(found?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()?),
    }
}

/// A file that is open still when the history gives up its last name: that is no change from outside.
fn file_given_up(w: &mut Fixture) -> Outcome {
    const NO_REDO: u32 = 16;
    w.mount_with("history_max=8M")?;
    for is_trimmed in [false, true] {
        w.sh("mkdir -p d; echo > other")?;
        let file = w.open("d/f")?;
        for number in 0..4 {
            put(&file, 0, &pattern(number, 5000))?;
        }
        if is_trimmed {
            fs::remove_file(w.path("d/f"))?;
            let other = w.open("other")?;
            for number in 0..40 {
                put(&other, 0, &pattern(number, 1 << 20))?;
            }
        } else {
            let (result, _) = undo::revert_more(&File::open(w.path("d"))?, 1, NO_REDO);
            result.at("the creation, without redo")?;
        }
        let what = format!("given up, trimmed: {is_trimmed}");
        for number in 4..7 {
            put(&file, 0, &pattern(number, 5000))?;
            if number == 5 {
                rustix::fs::fsync(&file)?;
            }
        }
        let lines = undo::lines(&file, true)?;
        check!(
            !lines.iter().any(|line| line.op == "external"),
            "{what}: {lines:?}"
        );
        let oldest = if is_trimmed { 3 } else { 0 };
        for number in (oldest..6).rev() {
            undo::revert(&file, 1).at(&what)?;
            let mut bytes = vec![0; 5000];
            file.read_exact_at(&mut bytes, 0)?;
            check!(bytes == pattern(number, 5000), "{what}: {number}");
        }
    }
    Ok(())
}
