// SPDX-License-Identifier: MIT OR Apache-2.0

//! What was last done to a file, as its log and its directory's tell it.

use logctl::action::{last_change, newest_action, Undo};
use logctl::history::line::Line;

/// Lines, oldest first, as `SECONDS PID OP KEYS`; a process with a leading `-` leads its session.
fn lines(texts: &[&str]) -> Vec<Line<'static>> {
    let parse = |text: &&str| {
        let words: Vec<&str> = text.splitn(4, ' ').collect();
        let (pid, sid) = match words[1].strip_prefix('-') {
            Some(pid) => (pid, pid),
            None => (words[1], "1"),
        };
        let actor = match pid {
            "?" => String::new(),
            pid => format!("pid={pid}@5.0 sid={sid} "),
        };
        let keys = words[3];
        let text = format!(
            "{}.0 /bin/x {} 0 0 {keys} {actor}sum=00000000\n",
            words[0], words[2]
        );
        let text = text.replace(".0 ", ".000000000 ");
        Line::parse(text.leak().as_bytes(), None).unwrap()
    };
    texts.iter().rev().map(parse).collect()
}

fn undo(file: &[&str], dir: &[&str]) -> Undo {
    last_change(b"f", &lines(file), true, &lines(dir))
}

#[test]
fn an_action_is_what_one_process_did_at_once() {
    let action = |texts: &[&str]| newest_action(&lines(texts));
    assert_eq!(action(&[]), Undo::Nothing);
    // A program's own writes, though it opened the file twice.
    let twice = ["9 7 write seq=1 open=1", "10 7 write seq=2 open=2"];
    assert_eq!(action(&twice), Undo::File(2));
    // Other lines of an open file do not say who it is, and are its however late.
    let late = ["9 7 write seq=1 open=1", "99 ? write seq=2 open=1"];
    assert_eq!(action(&late), Undo::File(2));
    let pause = ["9 7 write seq=1 open=1", "12 7 write seq=2 open=2"];
    assert_eq!(action(&pause), Undo::File(1));
    // `echo one > f; echo two >> f` at a prompt.
    let prompt = ["9 -7 write seq=1 open=1", "9 -7 write seq=2 open=2"];
    assert_eq!(action(&prompt), Undo::File(1));
    let others = ["9 7 write seq=1 open=1", "9 8 write seq=2 open=2"];
    assert_eq!(action(&others), Undo::File(1));
    // Nobody knows who.
    let unknown = ["9 ? write seq=1", "9 ? write seq=2"];
    assert_eq!(action(&unknown), Undo::File(1));
}

#[test]
fn a_save_by_rename_is_the_directorys() {
    let file = ["9 7 write seq=2 open=2", "9 7 setattr seq=3"];
    let sed = [
        "1 5 create seq=1 name=f node=1.1",
        "9 7 create seq=2 name=tmp node=2.1",
        "9 7 rename seq=4 name=tmp to=f node=2.1 over=1.1 kept=1",
    ];
    assert_eq!(undo(&file, &sed), Undo::Directory(2));
    // Edited in place since.
    let edited = ["9 7 write seq=2 open=2", "20 8 write seq=5 open=5"];
    assert_eq!(undo(&edited, &sed), Undo::File(1));
    // Two files by one process: the newer one has to go first, or both by their directory.
    let both = [
        sed[1],
        sed[2],
        "9 7 create seq=6 name=tmp node=3.1",
        "9 7 rename seq=7 name=tmp to=g node=3.1 over=4.1 kept=1",
    ];
    assert_eq!(undo(&file, &both), Undo::Blocked(7));
    assert_eq!(
        last_change(b"g", &[], true, &lines(&both)),
        Undo::Directory(2)
    );
    // Somebody else works in the directory.
    let other = [sed[1], sed[2], "9 8 create seq=6 name=other node=3.1"];
    assert_eq!(undo(&file, &other), Undo::Blocked(6));
}

#[test]
fn an_editor_that_renames_the_old_file_away() {
    let file = ["9 7 write seq=5 open=5"];
    let vim = [
        "9 7 rename seq=3 name=f to=f~ node=1.1",
        "9 7 create seq=4 name=f node=2.1",
        "9 7 unlink seq=6 name=f~ node=1.1 kept=1",
    ];
    assert_eq!(undo(&file, &vim), Undo::Directory(3));
    // It quits later, and takes its swap file away: no name of its own may come back.
    let session = [
        "1 7 create seq=1 name=.f.swp node=9.1",
        vim[0],
        vim[1],
        vim[2],
        "60 7 unlink seq=7 name=.f.swp node=9.1 kept=1",
    ];
    assert_eq!(undo(&file, &session), Undo::Directory(5));
    let stays = [
        vim[0],
        vim[1],
        vim[2],
        "60 7 unlink seq=7 name=.f.swp node=9.1 kept=1",
    ];
    assert_eq!(undo(&file, &stays), Undo::Blocked(7));
}

#[test]
fn a_backup_is_part_of_the_save() {
    let file = ["9 7 write seq=5 open=5"];
    let renamed = [
        "9 7 rename seq=3 name=f to=f.bak node=1.1",
        "9 7 create seq=4 name=f node=2.1",
    ];
    assert_eq!(undo(&file, &renamed), Undo::Directory(2));
    let linked = [
        "9 7 link seq=2 name=f.bak node=1.1",
        "9 7 create seq=3 name=tmp node=2.1",
        "9 7 rename seq=4 name=tmp to=f node=2.1 over=1.1 vfh=01",
    ];
    assert_eq!(
        undo(&["9 7 write seq=3 open=3"], &linked),
        Undo::Directory(3)
    );
    // What is new and has nothing to do with it does not go with it.
    let more = [linked[1], linked[2], "9 7 create seq=9 name=g node=3.1"];
    assert_eq!(undo(&["9 7 write seq=3 open=3"], &more), Undo::Blocked(9));
}

#[test]
fn a_file_that_is_replaced_removed_or_new() {
    // git checkout.
    let file = ["9 7 write seq=3 open=3"];
    let git = [
        "9 7 unlink seq=1 name=f node=1.1 kept=1",
        "9 7 create seq=2 name=f node=2.1",
    ];
    assert_eq!(undo(&file, &git), Undo::Directory(2));
    let rm = ["9 7 unlink seq=4 name=f node=1.1 kept=1"];
    assert_eq!(undo(&[], &rm), Undo::Directory(1));
    let new = ["9 7 create seq=1 name=f node=1.1"];
    assert_eq!(undo(&["9 7 write seq=2 open=2"], &new), Undo::Directory(1));
    // At a prompt the second command is an action of its own.
    let prompt = ["9 -7 write seq=2 open=2", "9 -7 write seq=3 open=3"];
    let new = ["9 -7 create seq=1 name=f node=1.1"];
    assert_eq!(undo(&prompt, &new), Undo::File(1));
    // Who made it is not known, and neither is who wrote it: not the same for that.
    let unknown = ["9 ? create seq=1 name=f node=1.1"];
    assert_eq!(undo(&["9 ? write seq=2 open=2"], &unknown), Undo::File(1));
    // Renamed by somebody else, from here or to somewhere else.
    let moved = ["9 8 rename seq=9 name=g to=f node=1.1"];
    assert_eq!(undo(&["9 7 write seq=2 open=2"], &moved), Undo::Blocked(9));
    let away = ["9 8 rename seq=9 name=f to=f node=1.1 parent=7.1 pfh=01"];
    assert_eq!(undo(&[], &away), Undo::Blocked(9));
    // Older than the directory's log.
    assert_eq!(undo(&["9 7 write seq=2 open=2"], &[]), Undo::File(1));
    assert_eq!(undo(&[], &[]), Undo::Nothing);
}
