// SPDX-License-Identifier: MIT OR Apache-2.0

//! The log shows the changes that reverts made, and leaves out the files that editors and git write beside the work.

#[path = "support/mount.rs"]
mod mount;

use mount::{history, run, Files, Kernel};

/// The rows of the log, the newest first, without the head.
fn log(kernel: &mut Kernel, files: &Files, words: &str) -> Vec<String> {
    let (code, said, complaint) = run(kernel, files, words);
    assert_eq!(code, 0, "{complaint}");
    said.lines().skip(1).map(str::to_owned).collect()
}

#[test]
fn a_revert_shows_its_changes_and_its_actions() {
    let (mut kernel, files) = history();
    run(&mut kernel, &files, "revert 5");
    let rows = log(&mut kernel, &files, "log -n 1");
    assert!(
        rows[0].ends_with("+2 files  +1 dir  (takes 5 back)"),
        "{rows:?}"
    );
    // The revert of the revert does the removal again.
    let number: u64 = rows[0].split_whitespace().nth(1).unwrap().parse().unwrap();
    run(&mut kernel, &files, &format!("revert {number}"));
    let rows = log(&mut kernel, &files, "log -n 1");
    assert!(
        rows[0].ends_with("-2 files  -1 dir  (does 5 again)"),
        "{rows:?}"
    );
}

#[test]
fn a_revert_of_one_change_names_its_file() {
    let (mut kernel, files) = history();
    run(&mut kernel, &files, "revert 6");
    let rows = log(&mut kernel, &files, "log -n 1");
    assert!(
        rows[0].ends_with("~1 file  notes  (takes 6 back)"),
        "{rows:?}"
    );
    run(&mut kernel, &files, "revert 8");
    let rows = log(&mut kernel, &files, "log -n 1");
    assert!(
        rows[0].ends_with("-1 file  build.log  (takes 8 back)"),
        "{rows:?}"
    );
}

#[test]
fn the_undo_of_a_revert_says_which_files_change() {
    let (mut kernel, files) = history();
    run(&mut kernel, &files, "revert 5");
    let (code, said, _) = run(&mut kernel, &files, "undo");
    assert_eq!(code, 0);
    assert!(
        said.ends_with(": 2 files and 1 directory are gone.\n"),
        "{said}"
    );
}

#[test]
fn a_moved_name_is_shown_in_its_direction() {
    let mut kernel = Kernel::new();
    let who = "undo=none pid=50@5.0 ppid=40 sid=40 uid=1000 args=mv";
    kernel.line(
        10,
        "1.1",
        "/bin/mv rename 0 0",
        &format!("name=a to=b node=9.1 {who}"),
    );
    let files = Files::of(&[]);
    assert!(log(&mut kernel, &files, "log")[0].ends_with("1 moved  a -> b"));
    run(&mut kernel, &files, "revert 1");
    let rows = log(&mut kernel, &files, "log -n 1");
    assert!(
        rows[0].ends_with("1 moved  b -> a  (takes 1 back)"),
        "{rows:?}"
    );
}

/// A file that a person saved, then vim's swap file, then the index that `git status` wrote anew.
fn with_housekeeping() -> Kernel {
    let mut kernel = Kernel::new();
    let actor = |pid: u32, name: &str| {
        format!("undo=none pid={pid}@{pid}.0 ppid=40 sid=40 uid=1000 args={name}")
    };
    let (cp, vim, git) = (actor(50, "cp"), actor(60, "vim"), actor(70, "git"));
    kernel.line(
        10,
        "1.1",
        "/bin/cp create 0 0",
        &format!("name=notes node=9.1 {cp}"),
    );
    let swap = format!("name=.notes.swp node=10.1 {vim}");
    kernel.line(100, "1.1", "/usr/bin/vim create 0 0", &swap);
    kernel.line(
        110,
        "10.1",
        "/usr/bin/vim write 0 9",
        &format!("open=. size=0 {vim}"),
    );
    let lock = format!("name=index.lock node=11.1 {git}");
    kernel.line(200, "2.1", "/usr/bin/git create 0 0", &lock);
    kernel.line(
        200,
        "11.1",
        "/usr/bin/git write 0 9",
        &format!("open=. size=0 {git}"),
    );
    let index = format!("name=index.lock to=index node=11.1 over=12.1 kept=1 {git}");
    kernel.line(200, "2.1", "/usr/bin/git rename 0 0", &index);
    kernel
}

#[test]
fn housekeeping_is_folded_away() {
    let mut kernel = with_housekeeping();
    let files = Files::of(&[("notes", 9)]);
    let rows = log(&mut kernel, &files, "log");
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert!(
        rows[0].starts_with('@') && rows[0].contains("+1 file  notes"),
        "{rows:?}"
    );
    assert!(
        rows[1].contains("3 actions") && rows[1].contains("(--all)"),
        "{rows:?}"
    );
    assert_eq!(log(&mut kernel, &files, "log --all").len(), 4);
    assert_eq!(log(&mut kernel, &files, "log -n 1")[0], rows[0]);
    // JSON has all.
    let (_, said, _) = run(&mut kernel, &files, "log --json");
    assert_eq!(said.matches("\"type\":\"action\"").count(), 4, "{said}");
}

#[test]
fn an_undo_passes_over_housekeeping() {
    let mut kernel = with_housekeeping();
    let files = Files::of(&[("notes", 9)]);
    let (code, said, complaint) = run(&mut kernel, &files, "undo -n");
    assert_eq!(code, 0, "{complaint}");
    assert_eq!(said, "Would undo 1 \"cp\": notes would be gone.\n");
    // By its number it can be taken back.
    run(&mut kernel, &files, "undo 6 -n");
    assert_eq!(
        kernel.asked.last().map(|(_, asked)| asked.clone()),
        Some(vec![6, 5, 4])
    );
}

#[test]
fn a_part_of_an_action_is_named_by_the_whole_action() {
    let (mut kernel, files) = history();
    run(&mut kernel, &files, "revert 3 --ops");
    let rows = log(&mut kernel, &files, "log -n 1");
    assert!(
        rows[0].ends_with("+1 file  src/a  (takes 5 back)"),
        "{rows:?}"
    );
}

/// `git checkout Cargo.lock index`: files of the user, beside the index of git.
#[test]
fn files_that_git_checks_out_are_no_housekeeping() {
    for name in ["Cargo.lock", "index"] {
        let mut kernel = with_housekeeping();
        let git = "undo=none pid=80@80.0 ppid=40 sid=40 uid=1000 args=git";
        let line = format!("name={name} node=20.1 {git}");
        let seq = kernel.line(300, "1.1", "/usr/bin/git create 0 0", &line);
        let write = format!("open=. size=0 {git}");
        kernel.line(300, "20.1", "/usr/bin/git write 0 9", &write);
        let files = Files::of(&[("notes", 9), (name, 20)]);
        assert!(log(&mut kernel, &files, "log")[0].contains(name));
        run(&mut kernel, &files, "undo -n");
        let asked = kernel.asked.last().map(|(_, asked)| asked.clone());
        assert_eq!(asked, Some(vec![seq + 1, seq]), "{name}");
    }
}
