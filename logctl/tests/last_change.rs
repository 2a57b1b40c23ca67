// SPDX-License-Identifier: MIT OR Apache-2.0

//! The last change of a file, by the lines of its log and of its directory's.

use logctl::last_change::{last_change, LastChange};
use logctl::timeline::Timeline;

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

/// The last change of a file by the lines of its log and of its directory's, each the oldest first.
fn last(name: &str, file: &[&str], dir: &[&str]) -> LastChange {
    let dir_lines = dir.iter().map(|text| line(text, 100));
    let lines = dir_lines.chain(file.iter().map(|text| line(text, 101)));
    let mut timeline = Timeline::default();
    timeline.take_in(1, (0..).zip(lines).collect());
    assert_eq!(
        timeline.entries.len(),
        file.len() + dir.len(),
        "a line is malformed"
    );
    let all: Vec<usize> = (0..timeline.entries.len()).collect();
    let (own, of_dir) = all.split_at(file.len());
    last_change(&timeline, name.as_bytes(), own, of_dir)
}

fn undo(file: &[&str], dir: &[&str]) -> LastChange {
    last("f", file, dir)
}

#[test]
fn an_action_is_what_one_process_did_at_once() {
    let action = |texts: &[&str]| undo(texts, &[]);
    assert_eq!(action(&[]), LastChange::Nothing);
    // The writes of one program, although it opened the file twice.
    let twice = ["9 7 write seq=1 open=1", "10 7 write seq=2 open=2"];
    assert_eq!(action(&twice), LastChange::File(2));
    // Other lines of an open file do not name the process, and belong to it at any later time.
    let late = ["9 7 write seq=1 open=1", "99 ? write seq=2 open=1"];
    assert_eq!(action(&late), LastChange::File(2));
    let pause = ["9 7 write seq=1 open=1", "12 7 write seq=2 open=2"];
    assert_eq!(action(&pause), LastChange::File(1));
    // `echo one > f; echo two >> f` at a prompt.
    let prompt = ["9 -7 write seq=1 open=1", "9 -7 write seq=2 open=2"];
    assert_eq!(action(&prompt), LastChange::File(1));
    let others = ["9 7 write seq=1 open=1", "9 8 write seq=2 open=2"];
    assert_eq!(action(&others), LastChange::File(1));
    // The process is not known.
    let unknown = ["9 ? write seq=1", "9 ? write seq=2"];
    assert_eq!(action(&unknown), LastChange::File(1));
}

#[test]
fn a_save_by_rename_is_the_directorys() {
    let file = ["9 7 write seq=2 open=2", "9 7 setattr seq=3"];
    let sed = [
        "1 5 create seq=1 name=f node=1.1",
        "9 7 create seq=2 name=tmp node=2.1",
        "9 7 rename seq=4 name=tmp to=f node=2.1 over=1.1 kept=1",
    ];
    assert_eq!(undo(&file, &sed), LastChange::Directory(2));
    // Edited in place since.
    let edited = ["9 7 write seq=2 open=2", "20 8 write seq=5 open=5"];
    assert_eq!(undo(&edited, &sed), LastChange::File(1));
    // Two files by one process: the newer one has to go first, or both by their directory.
    let both = [
        sed[1],
        sed[2],
        "9 7 create seq=6 name=tmp node=3.1",
        "9 7 rename seq=7 name=tmp to=g node=3.1 over=4.1 kept=1",
    ];
    assert_eq!(undo(&file, &both), LastChange::Blocked(7));
    assert_eq!(last("g", &[], &both), LastChange::Directory(2));
    // Another process works in the directory.
    let other = [sed[1], sed[2], "9 8 create seq=6 name=other node=3.1"];
    assert_eq!(undo(&file, &other), LastChange::Blocked(6));
}

#[test]
fn an_editor_that_renames_the_old_file_away() {
    let file = ["9 7 write seq=5 open=5"];
    let vim = [
        "9 7 rename seq=3 name=f to=f~ node=1.1",
        "9 7 create seq=4 name=f node=2.1",
        "9 7 unlink seq=6 name=f~ node=1.1 kept=1",
    ];
    assert_eq!(undo(&file, &vim), LastChange::Directory(3));
    // The editor quits later, and removes its swap file: none of its own names may come back.
    let session = [
        "1 7 create seq=1 name=.f.swp node=9.1",
        vim[0],
        vim[1],
        vim[2],
        "60 7 unlink seq=7 name=.f.swp node=9.1 kept=1",
    ];
    assert_eq!(undo(&file, &session), LastChange::Directory(5));
    let stays = [
        vim[0],
        vim[1],
        vim[2],
        "60 7 unlink seq=7 name=.f.swp node=9.1 kept=1",
    ];
    assert_eq!(undo(&file, &stays), LastChange::Blocked(7));
}

#[test]
fn a_backup_is_part_of_the_save() {
    let file = ["9 7 write seq=5 open=5"];
    let renamed = [
        "9 7 rename seq=3 name=f to=f.bak node=1.1",
        "9 7 create seq=4 name=f node=2.1",
    ];
    assert_eq!(undo(&file, &renamed), LastChange::Directory(2));
    let linked = [
        "9 7 link seq=2 name=f.bak node=1.1",
        "9 7 create seq=3 name=tmp node=2.1",
        "9 7 rename seq=4 name=tmp to=f node=2.1 over=1.1 vfh=01",
    ];
    assert_eq!(
        undo(&["9 7 write seq=3 open=3"], &linked),
        LastChange::Directory(3)
    );
    // An unrelated new file does not go with the save.
    let more = [linked[1], linked[2], "9 7 create seq=9 name=g node=3.1"];
    assert_eq!(
        undo(&["9 7 write seq=3 open=3"], &more),
        LastChange::Blocked(9)
    );
}

#[test]
fn a_file_that_is_replaced_removed_or_new() {
    // git checkout.
    let file = ["9 7 write seq=3 open=3"];
    let git = [
        "9 7 unlink seq=1 name=f node=1.1 kept=1",
        "9 7 create seq=2 name=f node=2.1",
    ];
    assert_eq!(undo(&file, &git), LastChange::Directory(2));
    let rm = ["9 7 unlink seq=4 name=f node=1.1 kept=1"];
    assert_eq!(undo(&[], &rm), LastChange::Directory(1));
    let new = ["9 7 create seq=1 name=f node=1.1"];
    assert_eq!(
        undo(&["9 7 write seq=2 open=2"], &new),
        LastChange::Directory(1)
    );
    // At a prompt the second command is an action of its own.
    let prompt = ["9 -7 write seq=2 open=2", "9 -7 write seq=3 open=3"];
    let new = ["9 -7 create seq=1 name=f node=1.1"];
    assert_eq!(undo(&prompt, &new), LastChange::File(1));
    // Neither the creator nor the writer is known: they do not count as the same.
    let unknown = ["9 ? create seq=1 name=f node=1.1"];
    assert_eq!(
        undo(&["9 ? write seq=2 open=2"], &unknown),
        LastChange::File(1)
    );
    // Renamed by another process, from here or to another directory.
    let moved = ["9 8 rename seq=9 name=g to=f node=1.1"];
    assert_eq!(
        undo(&["9 7 write seq=2 open=2"], &moved),
        LastChange::Blocked(9)
    );
    let away = ["9 8 rename seq=9 name=f to=f node=1.1 parent=7.1 pfh=01"];
    assert_eq!(undo(&[], &away), LastChange::Blocked(9));
    // Older than the directory's log.
    assert_eq!(undo(&["9 7 write seq=2 open=2"], &[]), LastChange::File(1));
    assert_eq!(undo(&[], &[]), LastChange::Nothing);
}
