// SPDX-License-Identifier: GPL-2.0

//! Operations on any objects taken back by one request: all of them, or none, while others'
//! operations stay.

use std::fs::{self, File};
use std::io;

use rustix::io::Errno;

use crate::crafted::History;
use crate::faults::tree::Tree;
use crate::fixture::Fixture;
use crate::group::{self, GroupReply, Placed, Watch, DRY_RUN, REDO, WALK};
use crate::harness::Test;
use crate::mounts::run;
use crate::outcome::{check, fail, same, same_errno, At, Outcome};
use crate::shadow::pattern;
use crate::undo;

pub const TESTS: &[Test] = &[
    Test::new("group-of-one-process", one_process).seconds(120),
    Test::new("group-back-and-forth", back_and_forth)
        .lengthy()
        .seconds(120),
    Test::new("group-conflicts", conflicts),
    Test::new("group-fails-whole", fails_whole),
    Test::new("group-of-others", of_others),
    Test::new("group-of-special-files", special),
    Test::new("group-across-directories", across),
    Test::new("group-of-many", many).lengthy().seconds(240),
    Test::new("group-between-others", between_others)
        .lengthy()
        .seconds(240),
    Test::new("group-interrupted", interrupted).seconds(120),
    Test::new("group-decided", decided).seconds(120),
    Test::new("group-of-lost-objects", of_lost).seconds(120),
    Test::new("group-of-reverts", of_reverts),
    Test::new("group-refuses-nonsense", nonsense),
];

fn root(w: &Fixture) -> Outcome<File> {
    Ok(File::open(&w.mnt)?)
}

pub(super) fn take_back(w: &Fixture, operations: &[Placed], flags: u32) -> Outcome<GroupReply> {
    let (result, answer) = group::revert(&root(w)?, operations, flags);
    if let Err(error) = result {
        let first = answer
            .conflicts
            .first()
            .map_or(answer.blocking_seq, |conflict| conflict.seq);
        let first = operations.iter().find(|p| p.seq == first);
        let object = first.and_then(|p| p.line.key("obj"));
        let mut lines = group::history(w)?;
        lines.retain(|p| object.is_none() || p.line.key("obj") == object);
        let lines: Vec<String> = lines.iter().map(|p| brief(&p.line.text)).collect();
        fail!("taking back: {error}, {answer:?}; that object's lines: {lines:#?}");
    }
    Ok(answer)
}

/// A line without the fields of its actor.
fn brief(text: &str) -> String {
    let told = [
        "pid=", "ppid=", "sid=", "uid=", "comm=", "exec=", "args=", "fh=", "vfh=", "sum=",
    ];
    let words = text.split(' ').skip(2);
    let words: Vec<&str> = words
        .filter(|word| !told.iter().any(|key| word.starts_with(key)))
        .collect();
    words.join(" ")
}

pub(super) fn same_tree(w: &Fixture, what: &str, want: &Tree) -> Outcome {
    if let Some(difference) = Tree::of(&w.mnt)?.difference(want) {
        fail!("{what}: {difference}");
    }
    if let Some(src) = &w.src {
        if let Some(difference) = Tree::of(src)?.difference(want) {
            fail!("{what}, from below: {difference}");
        }
    }
    Ok(())
}

/// The initial files of both.
pub(super) const PLANT: &str = "mkdir -p shared/deep theirs
    head -c 20000 /dev/zero | tr '\\0' x > shared/file
    for i in 1 2 3 4 5 6; do echo $i > shared/$i; done
    ln shared/5 shared/deep/five; echo t > theirs/t; ln -s file shared/arrow; mkfifo shared/pipe";

/// The operations of one process, in parts.
pub(super) const OURS: &[&str] = &[
    "printf AAAA | dd of=shared/file bs=4 seek=25 conv=notrunc status=none; echo new > shared/new",
    "mkdir shared/made; echo in > shared/made/in; mv shared/1 shared/moved; chmod 600 shared/2",
    "rm shared/3; mv shared/deep/five shared/made/five; printf BBBB | dd of=shared/file bs=1 seek=9000 conv=notrunc status=none",
    "setfattr -n user.ours -v 1 shared/2; mv shared/made/in shared/4; rm -r shared/deep; chown 5:6 shared/pipe",
    "truncate -s 2 shared/6; touch -d 2001-02-03 shared/6; rm shared/arrow; ln -s elsewhere shared/arrow; mv --exchange shared/2 shared/moved",
];

/// The operations of others meanwhile.
pub(super) const THEIRS: &[&str] = &[
    "printf bbbb | dd of=shared/file bs=1 seek=5000 conv=notrunc status=none",
    "echo more > theirs/more; mkdir shared/beside; echo x > shared/beside/x",
    "mv theirs/t theirs/u; setfattr -n user.theirs -v 1 shared/beside",
    "printf cccc | dd of=shared/file bs=1 seek=100 skip=0 conv=notrunc oflag=append status=none; rm theirs/more",
    "chmod 711 theirs",
];

fn one_process(w: &mut Fixture) -> Outcome {
    w.sh(PLANT)?;
    let mut ours = Vec::new();
    for (index, our) in OURS.iter().enumerate() {
        let watch = Watch::begin(w)?;
        w.sh(our)?;
        ours.extend(watch.operations(w)?);
        if index != 3 {
            w.sh(THEIRS[index])?;
        }
    }
    check!(ours.len() > 20, "only {} operations", ours.len());
    let with = Tree::of(&w.mnt)?;
    let dry = take_back(w, &ours, DRY_RUN)?;
    same_tree(w, "a dry run", &with)?;
    let answer = take_back(w, &ours, 0)?;
    same(
        "a dry run says the same",
        (dry.reverted, dry.objects, dry.bytes),
        (answer.reverted, answer.objects, answer.bytes),
    )?;
    same("how many", answer.reverted, ours.len() as u64)?;
    let got = Tree::of(&w.mnt)?;
    // The same with the others' work alone, in another place.
    let only = w.base.join("only");
    fs::create_dir(&only)?;
    for line in [PLANT, THEIRS[0], THEIRS[1], THEIRS[2], THEIRS[4]] {
        crate::mounts::run_in(&only, &["bash", "-euc", line])?;
    }
    // Times are not compared by the tree.
    let want = Tree::of(&only)?;
    if let Some(difference) = got.difference(&want) {
        fail!("what is left: {difference}");
    }
    // A revert is an operation like any other: after its own revert, the reverted operations are
    // live again.
    let groups = reverts_since(w, answer.seq)?;
    take_back(w, &groups, WALK)?;
    same_tree(w, "the revert taken back", &with)?;
    w.remount_if_lasting()?;
    same_tree(w, "after a remount", &with)?;
    let undos = reverts_since(w, groups.last().map_or(0, |p| p.seq) + 1)?;
    take_back(w, &undos, REDO)?;
    same_tree(w, "and forth", &want)
}

/// The lines of reverts from a number on.
pub(super) fn reverts_since(w: &Fixture, seq: u64) -> Outcome<Vec<Placed>> {
    let mut lines = group::history(w)?;
    lines.retain(|p| p.seq >= seq && p.line.op == "revert");
    check!(!lines.is_empty(), "no reverts since {seq}");
    Ok(lines)
}

/// Undos, several in a row, and redos of all of them.
fn back_and_forth(w: &mut Fixture) -> Outcome {
    w.sh(PLANT)?;
    let mut states = vec![Tree::of(&w.mnt)?];
    let mut actions = Vec::new();
    for part in OURS.iter().chain(THEIRS) {
        let watch = Watch::begin(w)?;
        w.sh(part)?;
        actions.push(watch.operations(w)?);
        states.push(Tree::of(&w.mnt)?);
    }
    for round in 0..2 {
        let mut undos = Vec::new();
        for (index, action) in actions.iter().enumerate().rev() {
            let answer = take_back(w, action, WALK).at(format!("undo {index}"))?;
            same_tree(w, &format!("{index} undone, round {round}"), &states[index])?;
            let lines = reverts_since(w, answer.seq)?;
            undos.push(lines);
        }
        if round == 0 {
            w.remount_if_lasting()?;
        }
        for (index, undo) in undos.iter().rev().enumerate() {
            take_back(w, undo, REDO).at(format!("redo {index}"))?;
            same_tree(w, &format!("{index} redone"), &states[index + 1])?;
        }
    }
    // Undone operations are not listed; live ones can be taken back one by one.
    take_back(w, actions.last().expect("some"), WALK)?;
    let before = undo::briefs(&w.open("shared/file")?)?;
    undo::revert(&w.open("shared/file")?, 1)?;
    same(
        "one fewer",
        undo::briefs(&w.open("shared/file")?)?.len() + 1,
        before.len(),
    )
}

/// The reply names the operations that stay and touched the same data, and nothing changes.
fn conflicts(w: &mut Fixture) -> Outcome {
    w.sh(PLANT)?;
    let watch = Watch::begin(w)?;
    w.sh("printf AAAA | dd of=shared/file bs=4 seek=25 conv=notrunc status=none; mv shared/1 shared/one; chmod 600 shared/2; echo created > shared/7; echo fine > shared/8")?;
    let ours = watch.operations(w)?;
    let watch = Watch::begin(w)?;
    w.sh("printf bb | dd of=shared/file bs=2 seek=51 conv=notrunc status=none; echo 1 > shared/1; chmod 640 shared/2; echo later >> shared/7")?;
    let theirs = watch.operations(w)?;
    let with = Tree::of(&w.mnt)?;
    let find = |all: &[Placed], op: &str, name: Option<&str>, at: u64| {
        let mut found = all.iter().filter(|p| {
            p.line.op == op && p.line.key("name") == name && (name.is_some() || p.line.offset == at)
        });
        found.next().map_or(0, |p| p.seq)
    };
    for flags in [DRY_RUN, 0, WALK] {
        let (result, answer) = group::revert(&root(w)?, &ours, flags);
        same_errno("conflicts", result, Errno::BUSY)?;
        let mut ways: Vec<(u64, u64)> = answer
            .conflicts
            .iter()
            .map(|c| (c.seq, c.blocker))
            .collect();
        ways.sort_unstable();
        let mut want = vec![
            (
                find(&ours, "write", None, 100),
                find(&theirs, "write", None, 102),
            ),
            (
                find(&ours, "rename", Some("1"), 0),
                find(&theirs, "create", Some("1"), 0),
            ),
            (
                find(&ours, "setattr", None, 0),
                find(&theirs, "setattr", None, 0),
            ),
            (
                find(&ours, "create", Some("7"), 0),
                find(&theirs, "write", None, 8),
            ),
            (
                find(&ours, "write", None, 0),
                find(&theirs, "write", None, 8),
            ),
        ];
        want.sort_unstable();
        same("what is in the way", ways, want)?;
        same("their number", answer.found, 5)?;
        same_tree(w, "nothing was changed", &with)?;
    }
    // The others can be taken back, and then ours.
    take_back(w, &theirs, 0)?;
    take_back(w, &ours, 0)?;
    check!(!w.path("shared/8").exists(), "shared/8 is there");
    same_content(w, "shared/1", b"1\n")
}

fn same_content(w: &Fixture, name: &str, want: &[u8]) -> Outcome {
    w.same(name, name, want)
}

/// A failure halfway rolls the rest back.
fn fails_whole(w: &mut Fixture) -> Outcome {
    let below = w.below("")?;
    w.sh(PLANT)?;
    let watch = Watch::begin(w)?;
    for part in OURS {
        w.sh(part)?;
    }
    let ours = watch.operations(w)?;
    let with = Tree::of(&w.mnt)?;
    // Made outside LoggerFS: no line records the name, so that the conflict appears only when the
    // name is bound.
    fs::create_dir(below.join("shared/3"))?;
    let (result, answer) = group::revert(&root(w)?, &ours, 0);
    same_errno("a name in the way", result, Errno::BUSY)?;
    same("a conflict", answer.reason, 6)?;
    fs::remove_dir(below.join("shared/3"))?;
    same_tree(w, "rolled back", &with)?;
    w.remount()?;
    same_tree(w, "after a remount", &with)?;
    take_back(w, &ours, 0).at("nothing is in the way")?;
    let planted = w.base.join("planted");
    fs::create_dir(&planted)?;
    crate::mounts::run_in(&planted, &["bash", "-euc", PLANT])?;
    same_tree(w, "all of it", &Tree::of(&planted)?)
}

/// A user who does not own an object cannot revert operations on it.
fn of_others(w: &mut Fixture) -> Outcome {
    w.sh("mkdir d; chmod 777 d; echo 1 > d/mine; echo 1 > d/theirs; chmod 666 d/*; chown 2000 d d/theirs")?;
    let watch = Watch::begin(w)?;
    w.sh("echo 2 >> d/theirs; echo 2 >> d/mine")?;
    let both = watch.operations(w)?;
    let with = Tree::of(&w.mnt)?;
    let theirs: Vec<Placed> = both[..1].to_vec();
    // As the other user, in a thread of its own: the tests go on as root.
    let as_other = |operations: Vec<Placed>| -> Outcome<io::Result<()>> {
        let file = File::open(w.path("d/theirs"))?;
        let thread = std::thread::spawn(move || -> io::Result<()> {
            crate::sys::become_user(2000)?;
            group::revert(&file, &operations, 0).0
        });
        Ok(thread.join().expect("it does not panic"))
    };
    same_errno("another one's", as_other(both)?, Errno::PERM)?;
    same_tree(w, "nothing was changed", &with)?;
    as_other(theirs)?.at("one's own")?;
    same_content(w, "d/theirs", b"1\n")?;
    same_content(w, "d/mine", b"1\n2\n")
}

/// Attributes of objects for which no program gets a descriptor of the file itself.
fn special(w: &mut Fixture) -> Outcome {
    w.sh("mkdir d; ln -s nowhere d/link; mkfifo d/pipe; mknod d/device c 1 3; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"d/socket\")' 2>/dev/null || mkfifo d/socket")?;
    let before = Tree::of(&w.mnt)?;
    let times = |name: &str| w.sh(&format!("stat -c %y d/{name}"));
    let (link, pipe) = (times("link")?, times("pipe")?);
    let watch = Watch::begin(w)?;
    w.sh("cd d; chown -h 5:6 link; setfattr -h -n trusted.a -v b link; touch -h -d 2001-02-03 link pipe; chmod 600 pipe device; chown 7 device socket; setfacl -m u:9:rw socket")?;
    let all = watch.operations(w)?;
    check!(all.len() >= 8, "only {} operations", all.len());
    let with = Tree::of(&w.mnt)?;
    let answer = take_back(w, &all, 0)?;
    same_tree(w, "taken back", &before)?;
    same("times", (times("link")?, times("pipe")?), (link, pipe))?;
    take_back(w, &reverts_since(w, answer.seq)?, WALK)?;
    same_tree(w, "and again", &with)
}

/// Names that went from one directory to another, and back by two ways.
fn across(w: &mut Fixture) -> Outcome {
    w.sh("mkdir -p a/x b/y c; echo 1 > a/x/f; echo 2 > b/y/f; echo 3 > c/g")?;
    let before = Tree::of(&w.mnt)?;
    let watch = Watch::begin(w)?;
    w.sh("mv a/x/f b/y/f; mv b/y c/y; mv c/y/f a/f; mv --exchange a/f c/g; mv a/x b/x; rm -r c; mv b/x b2")?;
    let all = watch.operations(w)?;
    let with = Tree::of(&w.mnt)?;
    let held = File::open(w.path("b"))?;
    let answer = take_back(w, &all, 0)?;
    same_tree(w, "back", &before)?;
    same(
        "through an open directory",
        fs::read_dir(w.path("b/y"))?.count(),
        1,
    )?;
    drop(held);
    let lines = reverts_since(w, answer.seq)?;
    take_back(w, &lines, WALK)?;
    same_tree(w, "and again", &with)
}

fn many(w: &mut Fixture) -> Outcome {
    let files = w.times(400, 60);
    w.sh("mkdir d")?;
    w.make("d/kept", &pattern(1, 50_000))?;
    let before = Tree::of(&w.mnt)?;
    let watch = Watch::begin(w)?;
    w.sh(&format!(
        "cd d; for i in $(seq {files}); do mkdir -p s$((i % 7)); echo $i > s$((i % 7))/$i; echo more >> s$((i % 7))/$i; done; for i in $(seq 2 3 {files}); do rm s$((i % 7))/$i; done; for i in $(seq 50); do printf $i | dd of=kept bs=1 seek=$((i * 700)) conv=notrunc status=none; done"
    ))?;
    let all = watch.operations(w)?;
    check!(all.len() >= 3 * files, "only {} operations", all.len());
    let with = Tree::of(&w.mnt)?;
    let answer = take_back(w, &all, WALK)?;
    same("all of them", answer.reverted, all.len() as u64)?;
    same_tree(w, "back", &before)?;
    take_back(w, &reverts_since(w, answer.seq)?, REDO)?;
    same_tree(w, "and forth", &with)
}

/// Objects that two processes change in turns, or one alone: a file and a directory are accessible
/// to all.
const TURNS: &str = "import os, sys
file = os.open('d/file', os.O_RDWR)
for turn in range(int(sys.argv[1])):
    for who in sys.argv[2:]:
        os.pwrite(file, who.encode(), 2 * turn + int(who))
        os.close(os.open('d/%s-%d' % (who, turn), os.O_CREAT | os.O_WRONLY))
        if turn % 3 == 1:
            os.unlink('d/%s-%d' % (who, turn - 1))";

/// Two processes take turns so often that one line cannot hold the numbers of one's operations:
/// they can be reverted all the same, repeatedly, and across a remount.
fn between_others(w: &mut Fixture) -> Outcome {
    let turns = w.times(700, 400);
    let begin = format!("mkdir d; head -c {} /dev/zero > d/file", 2 * turns);
    w.sh(&begin)?;
    let watch = Watch::begin(w)?;
    w.sh(&format!("python3 -c \"{TURNS}\" {turns} 0 1"))?;
    let mut ours = watch.operations(w)?;
    ours.retain(|placed| match placed.line.key("name") {
        Some(name) => name.starts_with("0-"),
        None => placed.line.offset % 2 == 0,
    });
    check!(ours.len() > 2 * turns, "only {} operations", ours.len());
    let with = Tree::of(&w.mnt)?;
    let answer = take_back(w, &ours, 0)?;
    same("how many", answer.reverted, ours.len() as u64)?;
    let told = watch.lines(w)?;
    let told = told.iter().filter(|placed| placed.line.op == "picked");
    check!(told.count() > 0, "there was room for all in one line");
    let alone = w.base.join("alone");
    fs::create_dir(&alone)?;
    for line in [begin, format!("python3 -c \"{TURNS}\" {turns} 1")] {
        crate::mounts::run_in(&alone, &["bash", "-euc", &line])?;
    }
    let alone = Tree::of(&alone)?;
    same_tree(w, "the other's work stays", &alone)?;
    w.remount_if_lasting()?;
    let revert = reverts_since(w, answer.seq)?;
    let answer = take_back(w, &revert, WALK)?;
    same_tree(w, "the revert taken back", &with)?;
    take_back(w, &reverts_since(w, answer.seq)?, REDO)?;
    same_tree(w, "and done again", &alone)?;
    w.remount_if_lasting()?;
    same_tree(w, "and after a remount", &alone)?;
    // And of an undo that leaves the others' work.
    take_back(w, &revert, WALK)?;
    let answer = take_back(w, &ours, WALK)?;
    same_tree(w, "undone", &alone)?;
    take_back(w, &reverts_since(w, answer.seq)?, REDO)?;
    same_tree(w, "redone", &with)
}

/// Unmounts, and cuts off the log after the newest line of this kind.
pub(super) fn cut(w: &mut Fixture, op: &str) -> Outcome {
    let home = w.history()?;
    w.unmount()?;
    let mut history = History::read(&home)?;
    history.cut_behind(op)?;
    history.forget();
    history.write(&home)
}

/// A crash came when everything was applied, and nothing said so yet.
fn interrupted(w: &mut Fixture) -> Outcome {
    w.below("")?;
    w.sh(PLANT)?;
    let watch = Watch::begin(w)?;
    for part in OURS {
        w.sh(part)?;
    }
    let ours = watch.operations(w)?;
    let with = Tree::of(&w.mnt)?;
    take_back(w, &ours, 0)?;
    let back = Tree::of(&w.mnt)?;
    cut(w, "revert")?;
    w.mount()?;
    same_tree(w, "rolled back by the next mount", &with)?;
    take_back(w, &ours, 0).at("asked again")?;
    same_tree(w, "back", &back)?;
    let watch = Watch::begin(w)?;
    w.sh("echo x > shared/after; rm shared/after")?;
    take_back(w, &watch.operations(w)?, WALK)?;
    same_tree(w, "an undo on top", &back)
}

/// A crash after the first closing line and before the others.
fn decided(w: &mut Fixture) -> Outcome {
    w.below("")?;
    w.sh(PLANT)?;
    let watch = Watch::begin(w)?;
    for part in OURS {
        w.sh(part)?;
    }
    let ours = watch.operations(w)?;
    let with = Tree::of(&w.mnt)?;
    let answer = take_back(w, &ours, 0)?;
    let back = Tree::of(&w.mnt)?;
    let home = w.history()?;
    w.unmount()?;
    let mut history = History::read(&home)?;
    history.cut_behind_commit(answer.seq)?;
    history.forget();
    history.write(&home)?;
    w.mount()?;
    same_tree(w, "it stays", &back)?;
    take_back(w, &reverts_since(w, answer.seq)?, WALK)?;
    same_tree(w, "taken back", &with)
}

/// The power cut that interrupted the group also took one of its objects, which was not durable yet: the
/// others have their earlier state, and are usable.
fn of_lost(w: &mut Fixture) -> Outcome {
    w.below("")?;
    for lost in ["d/f", "d/g", "made", "d"] {
        w.remount_empty("")?;
        lose_one(w, lost).at(format!("without {lost}"))?;
    }
    Ok(())
}

fn lose_one(w: &mut Fixture, lost: &str) -> Outcome {
    w.sh("mkdir d; echo one > d/f; echo one > d/g; echo one > e; touch d/in")?;
    let watch = Watch::begin(w)?;
    w.sh(
        "echo two >> d/f; echo two >> d/g; chmod 600 d/g; echo two >> e; echo made > made; rm d/in",
    )?;
    let ours = watch.operations(w)?;
    take_back(w, &ours, 0)?;
    cut(w, "revert")?;
    // The object that the group removed is an orphan.
    let below = w.below(lost)?;
    if lost == "made" {
        run(&[
            "bash",
            "-euc",
            "find \"$1\" -mindepth 3 -type f -delete",
            "bash",
            &w.history()?.join("orphans").display().to_string(),
        ])?;
    } else if lost == "d" {
        fs::remove_dir_all(&below)?;
    } else {
        fs::remove_file(&below)?;
    }
    w.mount()?;
    w.sh("test \"$(cat e)\" = $'one\\ntwo'")?;
    for (name, mode) in [("d/f", "644"), ("d/g", "600")] {
        if name != lost && lost != "d" {
            w.sh(&format!("test \"$(cat {name})\" = $'one\\ntwo'; test $(stat -c %a {name}) = {mode}; test ! -e d/in"))?;
        }
    }
    if lost != "made" {
        w.same("created", "made", b"made\n")?;
    }
    for _ in 0..2 {
        let watch = Watch::begin(w)?;
        let before = Tree::of(&w.mnt)?;
        w.sh("mkdir -p d; echo more >> e; touch d/more other; chmod 700 d")?;
        take_back(w, &watch.operations(w)?, WALK).at("work that came later")?;
        same_tree(w, "later work taken back", &before)?;
        w.remount()?;
    }
    Ok(())
}

/// A revert of a revert of a revert, and so on, in one directory. Each level needs some of the kernel's
/// stack, which is small.
fn of_reverts(w: &mut Fixture) -> Outcome {
    let watch = Watch::begin(w)?;
    w.sh("for i in 1 2 3 4 5 6; do mkdir d$i; ln -s to$i l$i; done")?;
    let full = Tree::of(&w.mnt)?;
    let made = watch.operations(w)?;
    // Not the newest ones, so that the line has to list them.
    let some: Vec<Placed> = made.iter().step_by(3).cloned().collect();
    let first = take_back(w, &some, 0)?;
    let less = Tree::of(&w.mnt)?;
    check!(less != full, "nothing was taken back");
    let mut newest = first.seq;
    for level in 0..3 {
        let lines = group::history(w)?.into_iter().filter(|p| p.seq == newest);
        newest = take_back(w, &lines.collect::<Vec<_>>(), 0)?.seq;
        let want = if level % 2 == 0 { &full } else { &less };
        same_tree(w, &format!("level {level}"), want)?;
    }
    undo::revert(&root(w)?, 1).at("the newest of the directory's")?;
    same_tree(w, "the last one taken back", &less)?;
    w.remount_if_lasting()?;
    same_tree(w, "mounted anew", &less)
}

fn nonsense(w: &mut Fixture) -> Outcome {
    w.sh("echo 1 > f; echo 2 > f; echo 3 > g")?;
    let with = Tree::of(&w.mnt)?;
    let all = group::history(w)?;
    let file = root(w)?;
    let write = all.iter().find(|p| p.line.op == "write").expect("a write");
    let left = all.iter().find(|p| p.line.op == "close");
    let numbers = |list: &[u64]| -> Vec<u8> { list.iter().flat_map(|n| n.to_ne_bytes()).collect() };
    let call = |list: &[u64], count: u64, flags: u32| {
        group::raw(&file, &mut numbers(list), count, flags).0
    };
    same_errno("none", call(&[], 0, 0), Errno::INVAL)?;
    same_errno("too many", call(&[], 1 << 21, 0), Errno::INVAL)?;
    same_errno("an unknown flag", call(&[1, 1, 1], 1, 64), Errno::INVAL)?;
    same_errno("no memory of ours", call(&[], 1 << 20, 0), Errno::FAULT)?;
    check!(call(&[9, 1, 3], 1, 0).is_err(), "the middle of a line");
    check!(call(&[9, 1 << 40, 0], 1, 0).is_err(), "no segment");
    check!(call(&[9, 1, u64::MAX], 1, 0).is_err(), "no offset");
    let twice = [write.clone(), write.clone()];
    check!(group::revert(&file, &twice, 0).0.is_err(), "one twice");
    check!(
        group::revert(&file, &[write.clone()], REDO).0.is_err(),
        "a write redone"
    );
    if let Some(left) = left {
        check!(
            group::revert(&file, &[left.clone()], 0).0.is_err(),
            "bookkeeping"
        );
    }
    same_tree(w, "nothing was changed", &with)
}
