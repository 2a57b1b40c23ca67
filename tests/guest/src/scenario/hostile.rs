// SPDX-License-Identifier: GPL-2.0

//! Crafted histories, and histories whose objects were moved out of the source between mounts: objects
//! outside the source on the same filesystem stay unchanged, and so does the history's own directory.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::book::Book;
use crate::crafted::History;
use crate::fixture::Fixture;
use crate::group;
use crate::harness::Test;
use crate::mounts::Lower;
use crate::outcome::{check, fail, same, At, Outcome};
use crate::undo;

const BELOW: &[Lower] = &[Lower::Tmpfs, Lower::Ext4, Lower::Xfs, Lower::Btrfs];

const fn test(name: &'static str, run: fn(&mut Fixture) -> Outcome) -> Test {
    Test::new(name, run).only(BELOW)
}

pub const TESTS: &[Test] = &[
    test("hostile-content-outside", content_outside),
    test("hostile-recovery-outside", recovery_outside),
    test("hostile-link-outside", link_outside),
    test("hostile-link-in-memory", link_in_memory),
    test("hostile-directory-outside", directory_outside),
    test("hostile-moved-inside", moved_inside),
    test("hostile-kept-link", kept_link),
    test("hostile-endless-log", endless_log),
    test("hostile-many-reverts", many_reverts).lengthy(),
    test("hostile-reserve-link", reserve_link),
    test("hostile-spare-link", spare_link),
    test("hostile-recovery-fifo", recovery_fifo),
    test("hostile-unfinished-reverts", unfinished_reverts),
    test("hostile-unfinished-group", unfinished_group),
    test("hostile-history-name", history_name),
];

/// A forged history is mounted, or refused, within this.
const PATIENCE: Duration = Duration::from_secs(30);

/// All visible attributes of the objects below a directory.
pub fn picture(top: &Path) -> Outcome<BTreeMap<PathBuf, String>> {
    let mut all = BTreeMap::new();
    let mut left = vec![top.to_path_buf()];
    while let Some(path) = left.pop() {
        let meta = fs::symlink_metadata(&path)?;
        let kind = meta.file_type();
        let mut text = format!(
            "{} {:o} {}:{} links {} size {} mtime {}.{} ctime {}.{}",
            meta.ino(),
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.nlink(),
            meta.size(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
            meta.ctime_nsec(),
        );
        if kind.is_file() && meta.len() < 1 << 20 {
            text.push_str(&format!(" {:?}", fs::read(&path)?));
        }
        if kind.is_dir() {
            for entry in fs::read_dir(&path)? {
                left.push(entry?.path());
            }
        }
        all.insert(path, text);
    }
    Ok(all)
}

/// Nothing below a directory has changed since its picture was taken.
pub fn unchanged(top: &Path, before: &BTreeMap<PathBuf, String>) -> Outcome {
    let now = picture(top)?;
    for (path, was) in before {
        let is = now.get(path).map_or("gone", String::as_str);
        check!(is == was, "{}: is {is}, was {was}", path.display());
    }
    match now.keys().find(|path| !before.contains_key(*path)) {
        Some(path) => fail!("{} has come", path.display()),
        None => Ok(()),
    }
}

/// Moves a name out of the source, unmounted. Answers where to.
fn move_out(w: &Fixture, name: &str) -> Outcome<PathBuf> {
    let there = w.beside()?.join(name);
    fs::rename(w.below(name)?, &there)?;
    // As a user's own file would be.
    fs::write(w.beside()?.join("other"), "beside the source")?;
    Ok(there)
}

fn forget_caches() -> Outcome {
    Ok(fs::write("/proc/sys/vm/drop_caches", "3")?)
}

fn edit(w: &Fixture, change: impl FnOnce(&mut Book) -> Outcome) -> Outcome {
    let home = w.history()?;
    let mut history = History::read(&home)?;
    let mut book = Book::of(&history)?;
    change(&mut book)?;
    book.write(&mut history);
    history.forget();
    history.write(&home)
}

/// A line names the content of a file that is outside the source by now.
fn content_outside(w: &mut Fixture) -> Outcome {
    w.below("f")?;
    w.sh("echo one > f; echo two >> f; ln -s target s; touch -h -d @5 s; mkdir d; chmod 700 d")?;
    let all = group::history(w)?;
    w.unmount()?;
    for name in ["f", "s", "d"] {
        move_out(w, name)?;
    }
    let before = picture(&w.beside()?)?;
    for cold in [false, true] {
        if cold {
            forget_caches()?;
        }
        w.mount()?;
        let root = File::open(&w.mnt)?;
        for op in ["write", "setattr"] {
            for line in all.iter().filter(|line| line.line.op == op) {
                for flags in [0, group::FORCE, group::WALK, group::FORCE | group::WALK] {
                    let (result, _) = group::revert(&root, &[line.clone()], flags);
                    check!(result.is_err(), "{} was taken back outside", line.line.text);
                }
            }
        }
        drop(root);
        w.unmount()?;
        unchanged(&w.beside()?, &before)?;
    }
    Ok(())
}

/// A revert that did not end is about a file that is beside the source by now.
fn recovery_outside(w: &mut Fixture) -> Outcome {
    w.below("f")?;
    w.sh("echo one > f; echo two > f; mkdir d; touch d/x d/y; rm d/x")?;
    w.revert("f", 1)?;
    undo::revert(&File::open(w.path("d"))?, 1)?;
    w.unmount()?;
    for name in ["f", "d"] {
        move_out(w, name)?;
    }
    edit(w, |book| {
        book.take_away(|entry| entry.op() == "commit");
        Ok(())
    })?;
    fs::write(w.beside()?.join("f"), "the user's own")?;
    let before = picture(&w.beside()?)?;
    w.mount()?;
    w.unmount()?;
    unchanged(&w.beside()?, &before)
}

/// The object that lost a name has another one, which is outside the source by now.
fn link_outside(w: &mut Fixture) -> Outcome {
    w.below("f")?;
    w.sh("mkdir d; echo one > d/a; ln d/a b; rm d/a")?;
    let all = group::history(w)?;
    w.unmount()?;
    move_out(w, "b")?;
    let before = picture(&w.beside()?)?;
    forget_caches()?;
    w.mount()?;
    let dir = File::open(w.path("d"))?;
    check!(undo::revert(&dir, 1).is_err(), "linked from outside");
    let root = File::open(&w.mnt)?;
    let removal = all.iter().filter(|line| line.line.op == "unlink");
    let removal: Vec<_> = removal.cloned().collect();
    let (result, _) = group::revert(&root, &removal, group::FORCE);
    check!(result.is_err(), "linked from outside by a group");
    drop((dir, root));
    check!(!w.path("d/a").exists(), "d/a is there");
    w.unmount()?;
    unchanged(&w.beside()?, &before)
}

/// An object with another name inside the source comes back, whether or not that name is in memory.
fn link_in_memory(w: &mut Fixture) -> Outcome {
    w.below("f")?;
    w.sh("mkdir d e; echo one > d/a; ln d/a e/b; ln d/a d/c")?;
    for round in 0..4 {
        if round > 1 {
            w.sh("rm d/c || true")?;
        }
        if round % 2 == 1 {
            w.remount()?;
            forget_caches()?;
        }
        fs::remove_file(w.path("d/a"))?;
        w.remount()?;
        forget_caches()?;
        undo::revert(&File::open(w.path("d"))?, 1)?;
        w.same("there again", "d/a", b"one\n")?;
    }
    let ino = |name: &str| fs::metadata(w.path(name)).map(|meta| meta.ino());
    same("one file", ino("d/a")?, ino("e/b")?)
}

/// The directory that a name was moved from is beside the source by now.
fn directory_outside(w: &mut Fixture) -> Outcome {
    w.below("f")?;
    w.sh("mkdir d e; echo one > d/x; echo two > d/y; echo three > e/y; mv d/x e/x; mv d/y e/y")?;
    let all = group::history(w)?;
    w.unmount()?;
    move_out(w, "d")?;
    let before = picture(&w.beside()?)?;
    w.mount()?;
    let dir = File::open(w.path("e"))?;
    check!(undo::revert(&dir, 1).is_err(), "moved out");
    let root = File::open(&w.mnt)?;
    for line in all.iter().filter(|line| line.line.op == "rename") {
        let (result, _) = group::revert(&root, &[line.clone()], group::FORCE);
        check!(result.is_err(), "moved out by a group");
    }
    drop((dir, root));
    w.same("stays", "e/x", b"one\n")?;
    w.same("stays", "e/y", b"two\n")?;
    w.unmount()?;
    unchanged(&w.beside()?, &before)
}

/// Files that were moved within the source, or whose newest line with their directory is far back, are found
/// without cached dentries.
fn moved_inside(w: &mut Fixture) -> Outcome {
    w.below("f")?;
    w.sh("mkdir d e g; for n in x y; do echo one > d/$n; echo two >> d/$n; done")?;
    w.sh("mv d/x e/x; mv e/x g/w; mv d/y e/y; mv e/y d/z; i=0")?;
    w.sh("for i in $(seq 5000); do echo $i; done > d/long; echo last >> d/long")?;
    let all = group::history(w)?;
    let before = fs::read(w.path("d/long"))?;
    let mut taken = 0;
    let mut seen = Vec::new();
    for line in all.iter().rev().filter(|line| line.line.op == "write") {
        // The newest of each file.
        let object = line.line.key("obj").map(str::to_string);
        if seen.contains(&object) {
            continue;
        }
        seen.push(object);
        w.remount()?;
        forget_caches()?;
        let root = File::open(&w.mnt)?;
        group::revert(&root, &[line.clone()], 0)
            .0
            .at(&line.line.text)?;
        taken += 1;
    }
    same("files", taken, 3)?;
    w.same("moved twice", "g/w", b"one\n")?;
    w.same("moved back", "d/z", b"one\n")?;
    let behind = fs::read(w.path("d/long"))?;
    check!(
        before.strip_suffix(b"last\n") == Some(&behind[..]),
        "d/long"
    );
    Ok(())
}

/// The entries of orphans.
fn kept(w: &Fixture) -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut left = vec![w.history()?.join("orphans")];
    while let Some(path) = left.pop() {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let is_entry = entry.file_name().to_string_lossy().contains('.');
            if entry.file_type()?.is_dir() && !is_entry {
                left.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

/// An orphan entry is a link to a file outside the source.
fn kept_link(w: &mut Fixture) -> Outcome {
    w.below("f")?;
    w.sh("mkdir d; echo own > f; echo gone > d/g; rm d/g")?;
    w.unmount()?;
    let outside = move_out(w, "f")?;
    let ino = fs::metadata(&outside)?.ino();
    let entry = match &kept(w)?[..] {
        [entry] => entry.clone(),
        other => fail!("kept: {other:?}"),
    };
    let mut object = String::new();
    edit(w, |book| {
        let is_it = |found: &&str| found.split('.').rev().nth(1) == Some(&ino.to_string());
        let mut objects = book.entries.iter().filter_map(|line| line.get("obj"));
        object = objects.find(is_it).unwrap_or_default().to_string();
        let Some(removal) = book.last(|line| line.op() == "unlink") else {
            fail!("no unlink");
        };
        removal.set("node", &object);
        removal.remove("vfh");
        Ok(())
    })?;
    check!(!object.is_empty(), "no line tells of f");
    let name = entry
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let rest = name.split_once(',').map_or("", |(_, rest)| rest);
    fs::remove_file(&entry)?;
    // Entries of neighbours share a place; its name is that of the inode's number.
    let top = entry
        .parent()
        .and_then(Path::parent)
        .unwrap_or(Path::new("/"));
    let place = top.join(format!("{:02x}", ino / 32 % 256));
    // Recovery would take an entry with other names away; a history that was closed is believed.
    w.mount()?;
    w.unmount()?;
    fs::create_dir_all(&place)?;
    fs::set_permissions(&place, fs::Permissions::from_mode(0o700))?;
    fs::hard_link(&outside, place.join(format!("{object},{rest}")))?;
    let before = picture(&w.beside()?)?;
    w.mount()?;
    let dir = File::open(w.path("d"))?;
    check!(undo::revert(&dir, 1).is_err(), "linked from outside");
    let root = File::open(&w.mnt)?;
    let all = group::history(w)?;
    let removal = all.iter().filter(|line| line.line.op == "unlink");
    let removal: Vec<_> = removal.cloned().collect();
    let (result, _) = group::revert(&root, &removal, group::FORCE);
    check!(result.is_err(), "linked from outside by a group");
    drop((dir, root));
    check!(!w.path("d/g").exists(), "d/g is there");
    w.unmount()?;
    same("content", fs::read(&outside)?, b"own\n".to_vec())?;
    // A mount may take the history's own name away.
    if fs::metadata(&outside)?.nlink() == 2 {
        unchanged(&w.beside()?, &before)?;
    }
    Ok(())
}

/// The log is a file of 40 GiB without a block.
fn endless_log(w: &mut Fixture) -> Outcome {
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
fn many_reverts(w: &mut Fixture) -> Outcome {
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
fn own_file_link(w: &mut Fixture, name: &str) -> Outcome {
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

fn reserve_link(w: &mut Fixture) -> Outcome {
    own_file_link(w, "reserve")
}

fn spare_link(w: &mut Fixture) -> Outcome {
    own_file_link(w, "undo/spare.dat")?;
    // The history goes on, with a file of its own.
    w.mount()?;
    w.sh("echo three > f")?;
    w.revert("f", 2)?;
    w.same("taken back", "f", b"one\ntwo\n")
}

/// Reverts of the attributes of a fifo, a device and a link did not end: recovery does not block.
fn recovery_fifo(w: &mut Fixture) -> Outcome {
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

/// A line about names says the name of the history's own directory.
fn history_name(w: &mut Fixture) -> Outcome {
    w.below("f")?;
    w.sh("mkdir x; mkdir y")?;
    let (x, y) = (w.path("x"), w.path("y"));
    rustix::fs::renameat_with(
        rustix::fs::CWD,
        &x,
        rustix::fs::CWD,
        &y,
        rustix::fs::RenameFlags::EXCHANGE,
    )?;
    w.unmount()?;
    edit(w, |book| {
        let Some(line) = book.last(|line| line.op() == "exchange") else {
            fail!("no exchange");
        };
        line.set("name", ".loggerfs");
        line.remove("over");
        Ok(())
    })?;
    let home = fs::metadata(w.history()?)?.ino();
    w.mount()?;
    let root = File::open(&w.mnt)?;
    check!(undo::revert(&root, 1).is_err(), "the history was moved");
    let all = group::history(w)?;
    let exchange = all.iter().filter(|line| line.line.op == "exchange");
    let exchange: Vec<_> = exchange.cloned().collect();
    let (result, _) = group::revert(&root, &exchange, group::FORCE);
    check!(result.is_err(), "the history was moved by a group");
    drop(root);
    w.unmount()?;
    same("still there", fs::metadata(w.history()?)?.ino(), home)
}

/// Very many reverts of one file have not ended; each by itself, or all as one group.
fn many_unfinished(w: &mut Fixture, is_group: bool) -> Outcome {
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

fn unfinished_reverts(w: &mut Fixture) -> Outcome {
    many_unfinished(w, false)
}

fn unfinished_group(w: &mut Fixture) -> Outcome {
    many_unfinished(w, true)
}
