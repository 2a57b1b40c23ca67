// SPDX-License-Identifier: MIT OR Apache-2.0

//! The last change at a path, by the lines of its object and of its directory.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use logctl::last_change::last_change;
use logctl::paths::Tree;
use logctl::timeline::Timeline;
use loggerfs_log::types::ObjectId;

/// A line from `SECONDS PID OP KEYS`; a process with a leading `-` leads its session.
fn line(text: &str, object: u64) -> Box<[u8]> {
    let words: Vec<&str> = text.splitn(4, ' ').collect();
    let (pid, sid) = match words[1].strip_prefix('-') {
        Some(pid) => (pid, pid),
        None => (words[1], "1"),
    };
    let actor = match pid {
        "?" => String::new(),
        pid => format!("pid={pid}@5.0 sid={sid} "),
    };
    let (seconds, op, keys) = (words[0], words[2], words[3]);
    let text =
        format!("{seconds}.000000000 /bin/x {op} 0 0 {keys} obj={object}.1 {actor}sum=00000000\n");
    text.into_bytes().into()
}

/// The directory is the root, and the file has a name that no line names.
struct OneFile;

impl Tree for OneFile {
    fn root(&self) -> u64 {
        100
    }

    fn find(&self, wanted: &HashSet<u64>) -> HashMap<u64, PathBuf> {
        let file = wanted.contains(&101);
        file.then(|| (101, PathBuf::from("f")))
            .into_iter()
            .collect()
    }
}

/// The numbers of the operations that take the last change at a path back, the newest first, by lines with
/// the object that each is of.
fn last(path: &str, lines: &[(u64, &str)]) -> Vec<u64> {
    last_of(path, 101, lines)
}

/// As [`last`]; `inode` is at the path now.
fn last_of(path: &str, inode: u64, lines: &[(u64, &str)]) -> Vec<u64> {
    let mut lines: Vec<(u64, Box<[u8]>)> = lines
        .iter()
        .map(|(object, text)| (number(text), line(text, *object)))
        .collect();
    lines.sort_by_key(|(seq, _)| *seq);
    let expected = lines.len();
    let lines = (0..).zip(lines.into_iter().map(|(_, line)| line));
    let mut timeline = Timeline::default();
    timeline.take_in(1, lines.collect());
    assert_eq!(timeline.entries.len(), expected, "a line is malformed");
    let all: Vec<usize> = (0..timeline.entries.len()).collect();
    let object = ObjectId {
        inode,
        generation: 1,
        ..ObjectId::default()
    };
    let found = last_change(&timeline, &all, (Path::new(path), Some(object)), &OneFile);
    found
        .into_iter()
        .map(|index| timeline.entries[index].seq)
        .collect()
}

/// The number of a line's operation.
fn number(text: &str) -> u64 {
    let key = text.split(' ').find_map(|word| word.strip_prefix("seq="));
    key.and_then(|seq| seq.parse().ok())
        .expect("a line without a number")
}

/// As [`last`] of `f`: lines of the file 101 that is there, and of its directory.
fn undo(file: &[&str], dir: &[&str]) -> Vec<u64> {
    last("f", &both(file, dir, 101))
}

/// Lines of the object `node`, and of its directory.
fn both<'t>(file: &[&'t str], dir: &[&'t str], node: u64) -> Vec<(u64, &'t str)> {
    let file = file.iter().map(|text| (node, *text));
    file.chain(dir.iter().map(|text| (100, *text))).collect()
}

const NONE: Vec<u64> = Vec::new();

#[test]
fn an_action_is_what_one_process_did_at_once() {
    let action = |texts: &[&str]| undo(texts, &[]);
    assert_eq!(action(&[]), NONE);
    // The writes of one program, although it opened the file twice.
    let twice = ["9 7 write seq=1 open=1", "10 7 write seq=2 open=2"];
    assert_eq!(action(&twice), [2, 1]);
    // Other lines of an open file do not name the process, and belong to it at any later time.
    let late = ["9 7 write seq=1 open=1", "99 ? write seq=2 open=1"];
    assert_eq!(action(&late), [2, 1]);
    let pause = ["9 7 write seq=1 open=1", "12 7 write seq=2 open=2"];
    assert_eq!(action(&pause), [2]);
    // `echo one > f; echo two >> f` at a prompt.
    let prompt = ["9 -7 write seq=1 open=1", "9 -7 write seq=2 open=2"];
    assert_eq!(action(&prompt), [2]);
    let others = ["9 7 write seq=1 open=1", "9 8 write seq=2 open=2"];
    assert_eq!(action(&others), [2]);
    // The process is not known.
    let unknown = ["9 ? write seq=1", "9 ? write seq=2"];
    assert_eq!(action(&unknown), [2]);
}

#[test]
fn a_save_by_rename_is_the_directorys() {
    let file = ["9 7 write seq=3 open=3", "9 7 setattr seq=4"];
    let sed = [
        "1 5 create seq=1 name=f node=1.1",
        "9 7 create seq=2 name=tmp node=2.1",
        "9 7 rename seq=5 name=tmp to=f node=2.1 over=1.1 kept=1",
    ];
    let saved = both(&file, &sed, 2);
    assert_eq!(last("f", &saved), [5, 4, 3, 2]);
    // Edited in place since.
    let edited = [&saved[..], &[(2, "20 8 write seq=6 open=6")]].concat();
    assert_eq!(last("f", &edited), [6]);
    // Two files by one process, with the same temporary name: each by its own.
    let second = [
        (100, "9 7 create seq=6 name=tmp node=3.1"),
        (
            100,
            "9 7 rename seq=7 name=tmp to=g node=3.1 over=4.1 kept=1",
        ),
    ];
    let two = [&saved[..], &second].concat();
    assert_eq!(last("f", &two), [5, 4, 3, 2]);
    assert_eq!(last("g", &two), [7, 6]);
    // Another process works in the directory.
    let other = [&saved[..], &[(100, "9 8 create seq=6 name=other node=3.1")]].concat();
    assert_eq!(last("f", &other), [5, 4, 3, 2]);
    // The program wrote for a long time before it moved the file into place.
    let long = [
        (100, "1 7 create seq=1 name=tmp node=2.1"),
        (2, "1 7 write seq=2 open=2"),
        (
            100,
            "900 7 rename seq=3 name=tmp to=f node=2.1 over=1.1 kept=1",
        ),
    ];
    assert_eq!(last("f", &long), [3, 2, 1]);
}

#[test]
fn an_editor_that_renames_the_old_file_away() {
    let vim = [
        (100, "9 7 rename seq=3 name=f to=f~ node=1.1"),
        (100, "9 7 create seq=4 name=f node=2.1"),
        (2, "9 7 write seq=5 open=5"),
        (100, "9 7 unlink seq=6 name=f~ node=1.1 kept=1"),
    ];
    assert_eq!(last("f", &vim), [6, 5, 4, 3]);
    // The editor quits later, and removes its swap file: that stays removed.
    let quit = (100, "60 7 unlink seq=7 name=.f.swp node=9.1 kept=1");
    let swap = (100, "1 7 create seq=1 name=.f.swp node=9.1");
    assert_eq!(last("f", &[&vim[..], &[quit, swap]].concat()), [6, 5, 4, 3]);
    assert_eq!(last("f", &[&vim[..], &[quit]].concat()), [6, 5, 4, 3]);
    // The backup goes only when the editor quits.
    let late = (100, "60 7 unlink seq=6 name=f~ node=1.1 kept=1");
    assert_eq!(last("f", &[&vim[..3], &[late]].concat()), [6, 5, 4, 3]);
    // One save of several.
    let again = [
        (100, "100 7 rename seq=13 name=f to=f~ node=2.1"),
        (100, "100 7 create seq=14 name=f node=3.1"),
        (3, "100 7 write seq=15 open=15"),
        (100, "100 7 unlink seq=16 name=f~ node=2.1 kept=1"),
    ];
    assert_eq!(last("f", &[vim, again].concat()), [16, 15, 14, 13]);
}

#[test]
fn a_backup_is_part_of_the_save() {
    let renamed = [
        (100, "9 7 rename seq=3 name=f to=f.bak node=1.1"),
        (100, "9 7 create seq=4 name=f node=2.1"),
        (2, "9 7 write seq=5 open=5"),
    ];
    assert_eq!(last("f", &renamed), [5, 4, 3]);
    let linked = [
        (100, "9 7 link seq=2 name=f.bak node=1.1"),
        (100, "9 7 create seq=3 name=tmp node=2.1"),
        (2, "9 7 write seq=4 open=4"),
        (
            100,
            "9 7 rename seq=5 name=tmp to=f node=2.1 over=1.1 vfh=01",
        ),
    ];
    assert_eq!(last("f", &linked), [5, 4, 3, 2]);
    // An unrelated new file does not go with the save.
    let more = [&linked[..], &[(100, "9 7 create seq=9 name=g node=3.1")]].concat();
    assert_eq!(last("f", &more), [5, 4, 3, 2]);
}

#[test]
fn a_file_that_is_replaced_removed_or_new() {
    // git checkout.
    let git = [
        (100, "9 7 unlink seq=1 name=f node=1.1 kept=1"),
        (100, "9 7 create seq=2 name=f node=2.1"),
        (2, "9 7 write seq=3 open=3"),
    ];
    assert_eq!(last("f", &git), [3, 2, 1]);
    let rm = (100, "9 7 unlink seq=4 name=f node=1.1 kept=1");
    assert_eq!(last("f", &[rm]), [4]);
    // The removal of several files, and later work of others in the directory.
    let several = [
        (100, "9 7 unlink seq=3 name=e node=5.1 kept=1"),
        rm,
        (100, "9 7 unlink seq=5 name=g node=6.1 kept=1"),
        (100, "9 8 create seq=6 name=other node=3.1"),
    ];
    assert_eq!(last("f", &several), [4]);
    let new = [
        (100, "9 7 create seq=1 name=f node=1.1"),
        (1, "9 7 write seq=2 open=2"),
    ];
    assert_eq!(last("f", &new), [2, 1]);
    // At a prompt the second command is an action of its own.
    let prompt = [
        (100, "9 -7 create seq=1 name=f node=1.1"),
        (1, "9 -7 write seq=2 open=2"),
        (1, "9 -7 write seq=3 open=3"),
    ];
    assert_eq!(last("f", &prompt), [3]);
    // Neither the creator nor the writer is known: they do not count as the same.
    let unknown = [
        (100, "9 ? create seq=1 name=f node=1.1"),
        (1, "9 ? write seq=2 open=2"),
    ];
    assert_eq!(last("f", &unknown), [2]);
    // Older than the directory's log.
    assert_eq!(undo(&["9 7 write seq=2 open=2"], &[]), [2]);
    assert_eq!(undo(&[], &[]), NONE);
}

#[test]
fn a_file_that_was_moved() {
    let moved = (100, "9 8 rename seq=9 name=g to=f node=1.1");
    let written = (1, "9 7 write seq=2 open=2");
    assert_eq!(last("f", &[written, moved]), [9]);
    let away = (
        100,
        "9 8 rename seq=9 name=f to=f node=1.1 parent=7.1 pfh=01",
    );
    assert_eq!(last("f", &[written, away]), [9]);
}

#[test]
fn a_file_of_a_directory_that_was_removed() {
    let removed = [
        (50, "9 7 unlink seq=4 name=a node=1.1 kept=1"),
        (50, "9 7 unlink seq=5 name=b node=2.1 kept=1"),
        (40, "9 7 rmdir seq=6 name=sub node=50.1 kept=1"),
        (100, "9 7 rmdir seq=7 name=proj node=40.1 kept=1"),
        (100, "9 8 create seq=8 name=other node=3.1"),
    ];
    assert_eq!(last("proj", &removed), [7, 6, 5, 4]);
    // The directories come back with it.
    assert_eq!(last("proj/sub/a", &removed), [7, 6, 4]);
}

/// Other names of the file, and changes by them, are others' work.
#[test]
fn a_file_with_another_name() {
    let lines = [
        (100, "9 7 create seq=1 name=tmp node=2.1"),
        (2, "9 7 write seq=2 open=2"),
        (
            100,
            "9 7 rename seq=3 name=tmp to=f node=2.1 over=1.1 kept=1",
        ),
        (100, "20 8 link seq=4 name=g node=2.1"),
        (2, "30 9 write seq=5 open=5"),
    ];
    assert_eq!(last_of("f", 2, &lines), [5]);
    assert_eq!(last_of("g", 2, &lines), [5]);
    assert_eq!(last_of("f", 2, &lines[..4]), [3, 2, 1]);
    assert_eq!(last_of("g", 2, &lines[..4]), [4]);
}
