// SPDX-License-Identifier: GPL-2.0

//! The history on disk is what `docs/format.md` says: `docs/read-history.py`, which is written from that page
//! and shares no code with the module, finds every earlier version of a file.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::fixture::Fixture;
use crate::harness::Test;
use crate::mounts::{self, Lower};
use crate::outcome::{check, fail, same, same_bytes, At, Outcome, Stop};
use crate::undo::{self, Line};

pub const TESTS: &[Test] = &[
    Test::new("format-versions", versions).only(&[Lower::Ext4, Lower::Xfs]),
    Test::new("format-removed", removed).only(&[Lower::Tmpfs, Lower::Btrfs]),
    Test::new("format-damaged", damaged).only(&[Lower::Ext4]),
];

const READER: &str = include_str!("../../../../docs/read-history.py");

/// The operations that change a file's content.
const CONTENT: &str =
    "write copy clone truncate mmap punch zero allocate collapse insert revert redo";

/// Those that change its attributes. All other lines of a file are the history's own.
const ATTRIBUTES: &str = "setattr setxattr setacl setflags";

/// Each line changes `f` once, as bash in the mount; one with `*` only on xfs, which shares blocks.
/// `remount` is a clean unmount and a mount, so that the history has several segments.
const STEPS: &str = r#"
head -c 20000 /usr/bin/bash > f
dd if=/usr/bin/dash of=f bs=1000 seek=7 count=3 conv=notrunc iflag=fullblock status=none
head -c 5000 /usr/bin/bash >> f
dd if=/usr/bin/dash of=f bs=100 seek=600 count=1 conv=notrunc status=none
fallocate --punch-hole --offset 8192 --length 9000 f
dd if=/usr/bin/dash of=f bs=6000 seek=1 count=1 conv=notrunc status=none
truncate -s 15001 f
chmod 640 f
truncate -s 40000 f
remount
python3 -c 'import mmap; f = open("f", "r+b"); m = mmap.mmap(f.fileno(), 0); m[4090:4100] = b"ten bytes!"'
logctl f revert --count 2
dd if=/usr/bin/dash of=f bs=512 seek=3 count=2 conv=notrunc oflag=sync status=none
fallocate --length 70000 f
fallocate --zero-range --offset 100 --length 5000 f
fallocate --insert-range --offset 4096 --length 8192 f
fallocate --collapse-range --offset 8192 --length 4096 f
*head -c 65536 /usr/bin/bash > g; python3 -c 'import fcntl; f, g = open("f", "r+b"), open("g"); fcntl.ioctl(f, 0x40049409, g.fileno())'
cp /usr/bin/dash c; python3 -c 'import os; os.copy_file_range(os.open("c", 0), os.open("f", 1), 3000, 0, 5000)'
logctl undo f
logctl redo
remount
mkdir d; mv f d/g; mv d/g f
logctl f revert --count 3
truncate -s 0 f
logctl f revert
head -c 100 /usr/bin/dash >> f
chmod 600 f; logctl f revert --count 2
"#;

/// What a file was before one of its lines.
struct Version {
    seq: u64,
    op: String,
    content: Vec<u8>,
}

fn versions(w: &mut Fixture) -> Outcome {
    w.sh("touch f")?;
    let (mut lines, mut versions) = (Vec::new(), Vec::new());
    for step in STEPS.lines().filter(|step| !step.is_empty()) {
        if step == "remount" {
            w.remount()?;
            continue;
        }
        let content = w.read("f")?;
        let (step, is_shared) = match step.strip_prefix('*') {
            Some(step) => (step, true),
            None => (step, false),
        };
        if is_shared && w.lower != Lower::Xfs {
            continue;
        }
        w.sh(step)?;
        let before = lines.len();
        lines = undo::lines(&w.open("f")?, true)?;
        let mut new = lines.iter().skip(before);
        if let Some(line) = new.find(|line: &&Line| is_one_of(CONTENT, &line.op)) {
            let (seq, op) = (line.number("seq")?, line.op.clone());
            versions.push(Version { seq, op, content });
        }
    }
    let tried: BTreeSet<&str> = versions.iter().map(|version| version.op.as_str()).collect();
    let mut all: BTreeSet<&str> = CONTENT.split(' ').collect();
    if w.lower != Lower::Xfs {
        all.remove("clone");
    }
    same("operations that were tried", tried, all)?;
    let live = undo::lines(&w.open("f")?, false)?;
    same(
        "live operations",
        live_by_the_rules(&lines)?,
        numbers(&live)?,
    )?;
    w.unmount()?;
    let (history, file) = (w.history()?, w.below("f")?);
    let listed: Vec<&Line> = lines.iter().filter(|line| !is_bookkeeping(line)).collect();
    let listed: Vec<String> = listed.iter().map(|line| brief(line)).collect();
    let said = String::from_utf8_lossy(&read(&history, &file, &[])?).into_owned();
    let said: Vec<String> = said.lines().map(without_actor).collect();
    same("operations", said, listed)?;
    for version in &versions {
        same_version(&history, &file, &[], version)?;
    }
    // A copy is not known by its inode's number.
    let inode = fs::metadata(&file)?.ino().to_string();
    let (history, file) = copied(w, &history, &file)?;
    let oldest = versions.first().ok_or_else(missing)?;
    same_version(&history, &file, &[&inode], oldest)
}

/// `SEQ OP OFFSET LENGTH`.
fn brief(line: &Line) -> String {
    format!("{} {}", line.key("seq").unwrap_or_default(), line.brief())
}

/// The same of a line that the reader printed: `SEQ TIME COMMAND OP OFFSET LENGTH`.
fn without_actor(printed: &str) -> String {
    let words: Vec<&str> = printed.split(' ').collect();
    [&words[..1], words.get(3..).unwrap_or_default()]
        .concat()
        .join(" ")
}

/// The reader finds what the file was before one of its lines.
fn same_version(history: &Path, file: &Path, inode: &[&str], version: &Version) -> Outcome {
    let mark = format!("@{}", version.seq);
    let found = read(history, file, &[inode, &[&mark]].concat())?;
    let what = format!("before {} {}", version.op, version.seq);
    same_bytes(what, &found, &version.content)
}

/// Runs the reader, which must succeed; what it printed.
fn read(history: &Path, file: &Path, more: &[&str]) -> Outcome<Vec<u8>> {
    let output = run(history, file, more)?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        fail!("the reader, {} {more:?}: {complaint}", file.display());
    }
    Ok(output.stdout)
}

fn run(history: &Path, file: &Path, more: &[&str]) -> Outcome<Output> {
    let mut child = Command::new("python3")
        .arg("-")
        .args([history, file])
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .at("python3")?;
    let mut stdin = child.stdin.take().ok_or_else(missing)?;
    stdin.write_all(READER.as_bytes())?;
    drop(stdin);
    Ok(child.wait_with_output()?)
}

/// Copies a history and a file.
fn copied(w: &Fixture, history: &Path, file: &Path) -> Outcome<(PathBuf, PathBuf)> {
    let (to, copy) = (w.base.join("history"), w.base.join("file"));
    for (from, to) in [(history, &to), (file, &copy)] {
        let words = [Path::new("cp"), Path::new("-a"), from, to.as_path()];
        let words: Vec<String> = words
            .iter()
            .map(|word| word.display().to_string())
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        mounts::run(&words)?;
    }
    Ok((to, copy))
}

fn is_one_of(words: &str, word: &str) -> bool {
    words.split(' ').any(|one| one == word)
}

fn is_bookkeeping(line: &Line) -> bool {
    !is_one_of(CONTENT, &line.op) && !is_one_of(ATTRIBUTES, &line.op)
}

fn numbers(lines: &[Line]) -> Outcome<Vec<u64>> {
    lines.iter().map(|line| line.number("seq")).collect()
}

/// Which of a file's lines are live operations, by "Which operations are live" in `docs/format.md`.
fn live_by_the_rules(lines: &[Line]) -> Outcome<Vec<u64>> {
    let mut live = Vec::new();
    let mut hidden: Vec<(u64, u64)> = Vec::new();
    let (mut back, mut lists_more) = (None, false);
    // A line's position is the `prev=` of the one after it.
    let mut at: Option<&str> = None;
    let is_cancelled = |seq: &str| {
        let mut ends = lines.iter().filter(|line| line.op == "cancel");
        ends.any(|line| line.key("of") == Some(seq))
    };
    for line in lines.iter().rev() {
        let seq = line.number("seq")?;
        let here = std::mem::replace(&mut at, line.key("prev"));
        if back.is_some() && back == here {
            back = None;
        }
        if back.is_some() || is_cancelled(&seq.to_string()) {
            continue;
        }
        let is_page = std::mem::take(&mut lists_more) && line.op == "picked";
        let is_hidden = hidden
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&seq));
        if !is_page && (is_hidden || is_bookkeeping(line)) {
            continue;
        }
        let is_undo =
            matches!(line.op.as_str(), "revert" | "redo") && line.key("mode") == Some("walk");
        if !is_page && !is_undo {
            live.push(seq);
        }
        match line.key("picks") {
            Some(picks) => {
                hidden.extend(ranges(picks)?);
                lists_more = line.key("further").is_some();
            }
            None if is_undo => back = line.key("back").or(Some("0:0")),
            None => {}
        }
    }
    live.reverse();
    Ok(live)
}

/// `A-B,C`.
fn ranges(picks: &str) -> Outcome<Vec<(u64, u64)>> {
    let range = |part: &str| -> Option<(u64, u64)> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    let found: Option<Vec<_>> = picks.split(',').map(range).collect();
    found.ok_or(Stop::Fail(format!("picks={picks}")))
}

/// A file that lost its last name to another one is kept by the history with its last content, and its lines tell the
/// content before.
fn removed(w: &mut Fixture) -> Outcome {
    w.sh("echo one > f; echo two >> f; echo three > g; mv g f; rm f; mkdir d; rmdir d")?;
    w.unmount()?;
    let history = w.history()?;
    // Of all files of the history only such entries lie so deep.
    let home = history.display().to_string();
    let listed = mounts::run(&["find", &home, "-mindepth", "4", "-type", "f"])?;
    let entries: Vec<&Path> = listed.lines().map(Path::new).collect();
    same(format!("entries: {listed}"), entries.len(), 2)?;
    let mut found = Vec::new();
    for entry in entries {
        let (place, name) = (entry.parent(), entry.file_name());
        let name = name.unwrap_or_default().to_string_lossy().into_owned();
        let words: Vec<&str> = name.split(',').collect();
        let inode = fs::metadata(entry)?.ino();
        let number = words[0].split('.').next().unwrap_or_default();
        same(format!("the inode of {name}"), number, &inode.to_string())?;
        let place = place.and_then(Path::file_name).unwrap_or_default();
        same(
            "the place",
            place.to_string_lossy().into_owned(),
            format!("{:02x}", inode / 32 % 256),
        )?;
        let said = String::from_utf8_lossy(&read(&history, entry, &[])?).into_owned();
        let oldest = format!("@{}", said.split(' ').next().unwrap_or_default());
        let newest = said.lines().last().unwrap_or_default();
        let newest = format!("@{}", newest.split(' ').next().unwrap_or_default());
        found.push((
            format!("{},{}", words[4], words[5]),
            fs::read_to_string(entry)?,
            read(&history, entry, &[&newest])?,
            read(&history, entry, &[&oldest])?,
        ));
    }
    found.sort();
    let version = |cause: &str, last: &str, before: &str| {
        let before = before.as_bytes().to_vec();
        (cause.to_string(), last.to_string(), before, Vec::new())
    };
    let replaced = version("o,f", "one\ntwo\n", "one\n");
    let removed = version("u,f", "three\n", "");
    same("removed files", found, vec![replaced, removed])
}

/// What is damaged is not believed: a payload ends the walk, a line is none.
fn damaged(w: &mut Fixture) -> Outcome {
    w.sh("head -c 10000 /usr/bin/bash > f; sync; echo over | dd of=f conv=notrunc status=none")?;
    let lines = undo::lines(&w.open("f")?, true)?;
    let over = lines
        .iter()
        .find(|line| line.offset == 0 && line.length == 5);
    let over = over.ok_or_else(missing)?;
    w.unmount()?;
    let (history, file) = (w.history()?, w.below("f")?);
    let mark = format!("@{}", over.number("seq")?);
    let want = fs::read("/usr/bin/bash")?;
    same_bytes("before", &read(&history, &file, &[&mark])?, &want[..10_000])?;
    let payload = over
        .key("undo")
        .and_then(|undo| undo.split(['+', ':']).nth(1)?.parse().ok());
    let payload: usize = payload.ok_or_else(missing)?;
    flip(&history.join("undo/00000001.dat"), |_| Some(payload))?;
    let output = run(&history, &file, &[&mark])?;
    check!(
        !output.status.success() && output.stdout.is_empty(),
        "it reads a damaged payload"
    );
    flip(&history.join("log/00000001.log"), |text| {
        text.find(&format!(" seq={} ", over.key("seq")?))
    })?;
    let said = read(&history, &file, &[])?;
    let said = String::from_utf8_lossy(&said).into_owned();
    check!(
        !said.contains(" write 0 5"),
        "it believes a damaged line: {said}"
    );
    Ok(())
}

/// Changes one byte of a file.
fn flip(file: &Path, place: impl Fn(&str) -> Option<usize>) -> Outcome {
    let mut bytes = fs::read(file).at(format!("reading {}", file.display()))?;
    let at = place(&String::from_utf8_lossy(&bytes)).ok_or_else(missing)?;
    bytes[at] ^= 1;
    Ok(fs::write(file, bytes)?)
}

fn missing() -> Stop {
    Stop::Fail("something that must be there is missing".into())
}
