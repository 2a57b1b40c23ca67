// SPDX-License-Identifier: GPL-2.0

//! Histories that somebody forged who knows the format: a mount ends in time, and other files stay as they
//! are.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::time::{Duration, Instant};

use crate::book::Book;
use crate::forge::History;
use crate::group;
use crate::harness::Test;
use crate::mounts::Lower;
use crate::outcome::{check, fail, same, Outcome};
use crate::world::World;

const BELOW: &[Lower] = &[Lower::Tmpfs, Lower::Ext4, Lower::Xfs, Lower::Btrfs];

const fn test(name: &'static str, run: fn(&mut World) -> Outcome) -> Test {
    Test::new(name, run).only(BELOW)
}

pub const TESTS: &[Test] = &[
    test("hostile-endless-log", endless_log),
    test("hostile-many-reverts", many_reverts),
    test("hostile-reserve-link", reserve_link),
    test("hostile-spare-link", spare_link),
    test("hostile-recovery-fifo", recovery_fifo),
    test("hostile-unfinished-reverts", unfinished_reverts),
    test("hostile-unfinished-group", unfinished_group),
];

/// A forged history is mounted, or refused, within this.
const PATIENCE: Duration = Duration::from_secs(30);

fn edit(w: &World, change: impl FnOnce(&mut Book) -> Outcome) -> Outcome {
    let home = w.history()?;
    let mut history = History::read(&home)?;
    let mut book = Book::of(&history)?;
    change(&mut book)?;
    book.write(&mut history);
    history.forget();
    history.write(&home)
}

/// The log is a file of 40 GiB without a block.
fn endless_log(w: &mut World) -> Outcome {
    w.below("f")?;
    w.sh("echo one > f")?;
    w.unmount()?;
    edit(w, |_| Ok(()))?;
    let mut logs = Vec::new();
    for entry in fs::read_dir(w.history()?.join("log"))? {
        logs.push(entry?.path());
    }
    logs.sort();
    let Some(log) = logs.last() else {
        fail!("no log");
    };
    let length = fs::metadata(log)?.len();
    OpenOptions::new()
        .write(true)
        .open(log)?
        .set_len(40 << 30)?;
    let start = Instant::now();
    check!(w.try_mount("").is_err(), "mounted with an endless log");
    check!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    OpenOptions::new().write(true).open(log)?.set_len(length)?;
    w.mount()?;
    w.same("content", "f", b"one\n")
}

/// Very many reverts of one file were begun before the first of them ended.
fn many_reverts(w: &mut World) -> Outcome {
    const MANY: u64 = 60_000;
    w.below("f")?;
    w.sh("echo one > f; echo two > f")?;
    w.revert("f", 1)?;
    w.unmount()?;
    edit(w, |book| {
        let mut seq = 1000;
        for op in ["revert", "commit"] {
            let Some(line) = book.last(|line| line.op() == op).cloned() else {
                fail!("no {op}");
            };
            for number in 0..MANY {
                let mut line = line.clone();
                seq += 1;
                line.offset = seq * 4096;
                line.set("seq", &seq.to_string());
                if op == "commit" {
                    // The last one first.
                    line.set("of", &(1000 + MANY - number).to_string());
                }
                book.entries.push(line);
            }
        }
        Ok(())
    })?;
    let start = Instant::now();
    w.mount()?;
    check!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    w.sh("echo three > f")?;
    w.same("content", "f", b"three\n")
}

/// A file of the history's own is a link to a user's file.
fn own_file_link(w: &mut World, name: &str) -> Outcome {
    w.below("f")?;
    w.sh("echo one > f; echo two >> f")?;
    w.unmount()?;
    let user = w.beside()?.join("user");
    fs::write(&user, vec![7u8; 300_000])?;
    let place = w.history()?.join(name);
    let _ = fs::remove_file(&place);
    fs::hard_link(&user, &place)?;
    let before = fs::metadata(&user)?;
    if w.try_mount("").is_ok() {
        w.sh("for i in 1 2 3 4; do head -c 100000 /dev/urandom > g; sync -f g; done; rm g")?;
        w.unmount()?;
    }
    let now = fs::metadata(&user)?;
    same("size", now.len(), before.len())?;
    same("blocks", now.blocks(), before.blocks())?;
    same("mtime", now.mtime_nsec(), before.mtime_nsec())?;
    same("content", fs::read(&user)?, vec![7u8; 300_000])
}

fn reserve_link(w: &mut World) -> Outcome {
    own_file_link(w, "reserve")
}

fn spare_link(w: &mut World) -> Outcome {
    own_file_link(w, "undo/spare.dat")?;
    // The history goes on, with a file of its own.
    w.mount()?;
    w.sh("echo three > f")?;
    w.revert("f", 2)?;
    w.same("taken back", "f", b"one\ntwo\n")
}

/// Reverts of a fifo's, a device's and a link's attributes did not end: recovery waits for nobody.
fn recovery_fifo(w: &mut World) -> Outcome {
    w.below("f")?;
    w.sh("mkfifo p; chmod 600 p; mknod n c 1 3; chmod 600 n; ln -s x s; touch -h -d @5 s")?;
    let all = group::history(w)?;
    let changes = all.iter().filter(|line| line.line.op == "setattr");
    let changes: Vec<_> = changes.cloned().collect();
    let root = File::open(&w.mnt)?;
    for change in &changes {
        group::revert(&root, &[change.clone()], 0).0?;
    }
    drop(root);
    w.unmount()?;
    edit(w, |book| {
        book.take_away(|entry| entry.op() == "commit");
        Ok(())
    })?;
    w.mount()?;
    check!(
        fs::symlink_metadata(w.path("p"))?.file_type().is_fifo(),
        "the fifo is there"
    );
    w.unmount()
}

/// Very many reverts of one file have not ended; each by itself, or all as one group.
fn many_unfinished(w: &mut World, is_group: bool) -> Outcome {
    const MANY: u64 = 5000;
    w.below("f")?;
    w.sh("echo one > f; echo two > f")?;
    w.revert("f", 1)?;
    w.unmount()?;
    edit(w, |book| {
        let Some(line) = book.last(|line| line.op() == "revert").cloned() else {
            fail!("no revert");
        };
        let mut before = format!("{}:{}", line.segment, line.offset);
        for number in 1..=MANY {
            let mut line = line.clone();
            let seq = 1000 + number;
            line.offset = seq * 4096;
            line.set("seq", &seq.to_string());
            line.set("prev", &before);
            if is_group {
                line.set("group", "1001");
            }
            before = format!("{}:{}", line.segment, line.offset);
            book.entries.push(line);
        }
        Ok(())
    })?;
    let start = Instant::now();
    w.mount()?;
    check!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    check!(w.path("f").exists(), "f is there");
    w.unmount()
}

fn unfinished_reverts(w: &mut World) -> Outcome {
    many_unfinished(w, false)
}

fn unfinished_group(w: &mut World) -> Outcome {
    many_unfinished(w, true)
}
