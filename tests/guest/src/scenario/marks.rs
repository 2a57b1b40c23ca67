// SPDX-License-Identifier: GPL-2.0

//! Marks: names for places of the history, and for runs of commands.

use std::fs::{self, File};
use std::io;

use crate::faults::tree::Tree;
use crate::fixture::Fixture;
use crate::harness::Test;
use crate::outcome::{check, fail, same, At, Outcome};
use crate::sys;

pub const TESTS: &[Test] = &[
    Test::new("marks-last", last),
    Test::new("marks-names", names),
    Test::new("marks-of-users", of_users),
    Test::new("marks-leave-counts-alone", leave_counts_alone),
    Test::new("marks-refused", refused),
    Test::new("run-named", run_named),
    Test::new("run-named-goes-by-name", goes_by_name),
];

/// The request.
const IOC_MARK: u64 = 0xc028_4c07;

/// Makes a mark in an open file or directory. Answers the number of its line.
fn mark(file: &File, name: &[u8], message: &[u8], flags: u64) -> io::Result<u64> {
    let mut words = [
        flags << 32 | 1,
        name.as_ptr() as u64,
        message.as_ptr() as u64,
        (message.len() as u64) << 32 | name.len() as u64,
        0,
    ];
    sys::ioctl_words(file, IOC_MARK, &mut words)?;
    Ok(words[4])
}

/// The text of all logs in the lower directory, as it is on the disk.
fn lower_logs(w: &Fixture) -> Outcome<String> {
    fs::write("/proc/sys/vm/drop_caches", "3")?;
    let mut text = String::new();
    for log in fs::read_dir(w.history()?.join("log"))? {
        text += &String::from_utf8_lossy(&fs::read(log?.path())?);
    }
    Ok(text)
}

fn same_tree(what: &str, w: &Fixture, want: &Tree) -> Outcome {
    match Tree::of(&w.mnt)?.difference(want) {
        Some(difference) => fail!("{what}: {difference}"),
        None => Ok(()),
    }
}

/// A mark is in the lower log when the call returns, and is there after a remount.
fn last(w: &mut Fixture) -> Outcome {
    w.sh("echo one > a")?;
    let root = File::open(&w.mnt)?;
    let seq = mark(&root, b"before", "wie früher".as_bytes(), 0).at("marking")?;
    if w.history().is_ok() {
        let text = lower_logs(w)?;
        let line = text.lines().find(|line| line.contains(" mark 0 0 "));
        let Some(line) = line else {
            fail!("no mark in {text}");
        };
        for part in [
            format!(" seq={seq} "),
            " name=before ".into(),
            " message=wie%20fr%C3%BCher ".into(),
            " uid=0 ".into(),
        ] {
            check!(line.contains(&part), "no '{part}' in {line}");
        }
        check!(
            !line.contains(" obj=") && !line.contains(" prev="),
            "{line}"
        );
    }
    drop(root);
    w.sh("echo two > a; mkdir d; echo new > d/b")?;
    w.remount_if_lasting()?;
    w.sh("logctl marks | grep -q 'before  *wie früher$'")?;
    let before = Tree::of(&w.mnt)?;
    w.sh("echo three > a; logctl restore --to before")?;
    same("a", w.sh("cat a")?.as_str(), "one\n")?;
    w.sh(
        "test ! -e d; logctl undo; echo two > want; sed -i s/two/three/ want; cmp a want; rm want",
    )?;
    w.sh("logctl cat a --at before | cmp - <(echo one); logctl diff before | grep -q '^+three$'")?;
    w.sh("logctl revert before..")?;
    same("a", w.sh("cat a")?.as_str(), "one\n")?;
    w.sh("logctl undo; echo two > a")?;
    same_tree("undone", w, &before)
}

/// Which names are refused, and by which errno.
fn names(w: &mut Fixture) -> Outcome {
    let root = File::open(&w.mnt)?;
    let long = [b'a'; 65];
    for name in [
        &b""[..],
        b"1",
        b"1842",
        b"10m",
        b"14:05",
        b"@",
        b"@-",
        b"#7",
        b"a..b",
        b"a/b",
        b"a b",
        b"a\nb",
        b"\x07",
        b"a\xff",
        b"today",
        b"Monday",
        b"t195",
        b"P1D",
        &long,
    ] {
        let found = mark(&root, name, b"", 0)
            .err()
            .and_then(|e| e.raw_os_error());
        same(format!("{name:?}"), found, Some(libc::EINVAL))?;
    }
    for (message, flags) in [(&b"a\nb"[..], 0), (&[b'a'; 257][..], 0), (b"", 2)] {
        let found = mark(&root, b"name", message, flags).err();
        same(
            format!("{message:?}"),
            found.and_then(|e| e.raw_os_error()),
            Some(libc::EINVAL),
        )?;
    }
    for name in [
        &b"a"[..],
        &long[..64],
        "größer".as_bytes(),
        b"v1.2-rc+1",
        b"turn-17",
    ] {
        mark(&root, name, &[b'm'; 256], 0).at("marking")?;
    }
    same(
        "the marks",
        w.sh("logctl --json marks | wc -l")?.trim(),
        "5",
    )?;
    // The newest of equal names.
    w.sh("echo 1 > f; logctl mark a; echo 2 > f; logctl cat f --at a | cmp - <(echo 1)")?;
    same(
        "the marks",
        w.sh("logctl --json marks | wc -l")?.trim(),
        "6",
    )
}

/// A user marks where that user may write, and sees no mark of another user, but the owner of the directory does.
fn of_users(w: &mut Fixture) -> Outcome {
    w.sh("chmod 755 .; mkdir -m 1777 open; mkdir closed own; chown nobody own; echo x > open/x")?;
    w.sh("logctl mark roots; cd open; logctl mark in-open -M secret")?;
    w.sh("cd open; runuser -u nobody -- logctl mark mine; cd ../own; runuser -u nobody -- logctl mark owned")?;
    let seen =
        w.sh("cd own; runuser -u nobody -- logctl --json marks | grep -o '\"name\":\"[^\"]*\"'")?;
    same(
        "nobody's",
        seen.as_str(),
        "\"name\":\"owned\"\n\"name\":\"mine\"\n",
    )?;
    let seen = w.sh("logctl --json marks | grep -o '\"name\":\"[^\"]*\"' | wc -l")?;
    same("root's", seen.trim(), "4")?;
    let refused = w.sh("cd closed; ! runuser -u nobody -- logctl mark nowhere 2>&1")?;
    check!(refused.contains("Permission denied"), "{refused}");
    w.sh("cd own; ! runuser -u nobody -- logctl restore -n --to roots 2>/dev/null")?;
    // One's own name is meant before that of another user.
    w.sh(
        "cd own; runuser -u nobody -- bash -c 'echo 1 > f; logctl mark same; echo 2 > f'
        cd ..; echo 1 > g; logctl mark same; echo 2 > g
        cd own; runuser -u nobody -- bash -c 'echo 3 > f; logctl mark same; echo 4 > f'",
    )?;
    w.sh("logctl cat g --at same | cmp - <(echo 1)")?;
    w.sh("cd own; runuser -u nobody -- logctl cat f --at same | cmp - <(echo 3)")
        .map(drop)
}

/// Counting reverts, and those of directories, pass over a mark.
fn leave_counts_alone(w: &mut Fixture) -> Outcome {
    w.sh("echo one > a; echo two > a; mkdir d; touch d/x; rm d/x")?;
    let root = File::open(&w.mnt)?;
    mark(&root, b"here", b"", 0).at("marking")?;
    mark(&File::open(w.path("d"))?, b"there", b"", 0).at("marking")?;
    w.revert("a", 1)?;
    w.same("a", "a", b"")?;
    w.revert("a", 1)?;
    w.same("a", "a", b"one\n")?;
    w.sh("logctl d revert; test -e d/x; ! logctl d readlog --all | grep ' mark '")?;
    drop(root);
    w.remount_if_lasting()?;
    w.sh("logctl d revert; test ! -e d/x").map(drop)
}

/// A mark needs a directory, history and a mount that can be written.
fn refused(w: &mut Fixture) -> Outcome {
    w.sh("echo one > a")?;
    let code = |file: &File| {
        mark(file, b"name", b"", 0)
            .err()
            .and_then(|e| e.raw_os_error())
    };
    same(
        "a file",
        code(&File::open(w.path("a"))?),
        Some(libc::ENOTDIR),
    )?;
    let root = File::open(&w.mnt)?;
    w.sh("mount -o remount,ro .")?;
    same("read-only", code(&root), Some(libc::EROFS))?;
    w.sh("mount -o remount,rw .")?;
    same("writable", code(&root), None)
}

/// A run under a name, while another process edits: what the run did is one entry.
fn run_named(w: &mut Fixture) -> Outcome {
    w.sh("mkdir d; echo one > a; echo two > d/b; echo three > c; sleep 2.1")?;
    let before = Tree::of(&w.mnt)?;
    let script = "echo x >> a; rm -r d; (setsid bash -c \"mv c e; touch moved\" &); touch began
        until [ -e go ]; do sleep 0.05; done; until [ -e moved ]; do sleep 0.05; done; echo more >> a; exit 4";
    let said = w.sh(&format!(
        "(until [ -e began ]; do sleep 0.05; done; echo mine > mine; echo 2 >> mine; touch go) &
        logctl run --name job --stat -- bash -c '{script}' 2>&1 || test $? = 4; wait"
    ))?;
    check!(
        said.contains("(exit code 4)") && said.contains(" a "),
        "{said}"
    );
    let shown = w.sh("logctl log job; logctl show job; logctl marks; logctl diff job")?;
    for part in [
        "[job] ",
        "  run      job\n",
        "logctl run --name job",
        "+more",
    ] {
        check!(shown.contains(part), "no '{part}': {shown}");
    }
    check!(!shown.contains("+mine"), "{shown}");
    let after = Tree::of(&w.mnt)?;
    let undone = |w: &Fixture| -> Outcome {
        same("mine", w.sh("cat mine")?.as_str(), "mine\n2\n")?;
        w.sh("mkdir ../away 2>/dev/null || true; test -e go; test ! -e began; test ! -e moved")
            .map(drop)?;
        same("a", w.sh("cat a c d/b")?.as_str(), "one\nthree\ntwo\n")
    };
    w.sh("logctl undo job")?;
    undone(w)?;
    w.sh("! logctl undo job 2>/dev/null; logctl redo job")?;
    same_tree("redone", w, &after)?;
    w.sh("logctl revert job")?;
    undone(w)?;
    w.sh("logctl undo")?;
    same_tree("the revert undone", w, &after)?;
    w.sh("logctl undo job; rm mine go")?;
    same_tree("undone", w, &before)
}

/// The newest of equal names is meant; a file of the name is meant first, and pointed out.
fn goes_by_name(w: &mut Fixture) -> Outcome {
    w.sh("sleep 2.1; logctl run --name job -- bash -c 'echo 1 > one'; logctl run --name job -- bash -c 'echo 2 > two'")?;
    w.remount_if_lasting()?;
    w.sh("logctl revert -n job | grep -q two; logctl undo job; test ! -e two; cmp one <(echo 1); logctl redo job")?;
    w.sh("echo file > job; echo more >> job")?;
    let said = w.sh("logctl log job 2>&1 >/dev/null")?;
    same(
        "the note",
        said.as_str(),
        "'job' means the file (./job); a mark has that name, too: @job.\n",
    )?;
    w.sh("logctl undo @job; test ! -e two; test -e job")?;
    let code = w.sh("logctl run --name 12 -- touch never 2>/dev/null || echo $?")?;
    same("a wrong name", code.as_str(), "125\n")?;
    w.sh("test ! -e never").map(drop)
}
