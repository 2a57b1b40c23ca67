// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cat`, `versions`, `diff` and `deleted`, with a simulated kernel.

#[path = "support/mount.rs"]
mod mount;

use mount::{history, run, Files, Kernel};
use serde_json::Value;

#[test]
fn cat_prints_what_a_file_had() {
    let (mut kernel, mut files) = history();
    files.is_looking = true;
    let mut cat = |words: &str| run(&mut kernel, &files, &format!("cat {words}"));
    let (code, said, complaint) = cat("/m/notes");
    assert_eq!(
        (code, said.as_str()),
        (0, "one\nthree\nfour\n"),
        "{complaint}"
    );
    assert_eq!(cat("/m/notes --at 2").1, "one\ntwo\n");
    assert_eq!(cat("/m/notes --at 5").1, "one\ntwo\n");
    assert_eq!(cat("/m/notes --at @~1").1, "one\nthree\nfour\n");
    assert_eq!(cat("/m/notes --at 30m").1, "one\ntwo\n");
    // A file that is gone, in a directory that is gone: as it was last.
    assert_eq!(cat("/m/src/a").1, "of a\n");
    let (code, said, complaint) = cat("/m/build.log --at 6");
    assert_eq!((code, said.as_str()), (1, ""));
    assert!(complaint.contains("did not exist at op 6"), "{complaint}");
    let (code, _, complaint) = cat("/m/nothing");
    assert_eq!(code, 1);
    assert!(complaint.contains("is or was called"), "{complaint}");
    // What the kernel cannot read is said to be so.
    let (code, said, complaint) = cat("/m/src/b");
    assert_eq!((code, said.as_str()), (1, ""));
    assert!(complaint.contains("dropped to free space"), "{complaint}");
}

#[test]
fn cat_writes_a_new_file_and_never_over_one() {
    let (mut kernel, files) = history();
    let dir = std::env::temp_dir().join(format!("logctl-look-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let out = dir.join("old");
    let line = format!("cat /m/notes --at 2 --out {}", out.display());
    let (code, said, complaint) = run(&mut kernel, &files, &line);
    assert_eq!((code, said.as_str()), (0, ""), "{complaint}");
    assert_eq!(std::fs::read(&out).unwrap(), b"one\ntwo\n");
    let (code, _, complaint) = run(&mut kernel, &files, &line);
    assert_eq!(code, 1);
    assert!(complaint.contains("File exists"), "{complaint}");
    // A failed copy leaves nothing.
    let other = dir.join("other");
    let line = format!("cat /m/src/b --out {}", other.display());
    assert_eq!(run(&mut kernel, &files, &line).0, 1);
    assert!(!other.exists());
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn versions_are_listed_with_their_lines() {
    let (mut kernel, files) = history();
    let (code, said, complaint) = run(&mut kernel, &files, "versions /m/notes");
    let expected = "  AT                   ID  SIZE  LINES  BY
  2025-11-20 14:16:40  6   15 B  +2 -1  vim notes
  2025-11-20 13:43:30  2   8 B   new    cp x notes
";
    assert_eq!((code, said.as_str()), (0, expected), "{complaint}");
    let (code, _, complaint) = run(&mut kernel, &files, "versions /m/nothing");
    assert_eq!(code, 1, "{complaint}");
    let (_, said, _) = run(&mut kernel, &files, "versions /m/notes -n 1 --json");
    let object: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(object["op"], 6);
    assert_eq!(object["size"], 15);
    assert_eq!(object["path"], "/m/notes");
}

#[test]
fn the_log_shows_the_changes_of_each_action() {
    let (mut kernel, files) = history();
    let (code, said, complaint) = run(&mut kernel, &files, "log /m/notes --stat");
    assert_eq!(code, 0, "{complaint}");
    let expected = "  ID  WHEN     WHO  COMMAND     CHANGES
  6   26m ago  ana  vim notes   ~1 file  notes
~ notes  +2 -1

  2   59m ago  ana  cp x notes  +1 file  notes
+ notes  +2 -0

";
    assert_eq!(said, expected);
    let (code, said, complaint) = run(&mut kernel, &files, "log /m/notes -P -n 1");
    assert_eq!(code, 0, "{complaint}");
    let expected = "  6   26m ago  ana  vim notes  ~1 file  notes
diff a/notes b/notes
--- a/notes
+++ b/notes
@@ -1,2 +1,3 @@
 one
-two
+three
+four

";
    assert!(said.ends_with(expected), "{said}");
    let (_, said, _) = run(&mut kernel, &files, "log /m/notes --patch --json");
    let types: Vec<Value> = (said.lines())
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["type"].clone())
        .collect();
    assert_eq!(types, ["action", "diff", "action", "diff"]);
}

#[test]
fn blame_names_the_action_of_each_line() {
    let (mut kernel, files) = history();
    let (code, said, complaint) = run(&mut kernel, &files, "blame /m/notes");
    let expected = "  AT                   ID  WHO  BY          LINE
  2025-11-20 13:43:30  2   ana  cp x notes  1  one
  2025-11-20 14:16:40  6   ana  vim notes   2  three
                                            3  four
";
    assert_eq!((code, said.as_str()), (0, expected), "{complaint}");
    let (_, said, _) = run(&mut kernel, &files, "blame /m/notes --at 2 --json");
    let lines: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(
        (&lines[1]["line"], &lines[1]["text"]),
        (&2.into(), &"two".into())
    );
    assert_eq!(lines[1]["op"], 2);
    let (code, _, complaint) = run(&mut kernel, &files, "blame /m/src/b --at 1");
    assert_eq!(code, 1, "{complaint}");
}

#[test]
fn blame_names_the_action_of_each_byte_of_what_is_no_text() {
    let (mut kernel, files) = history();
    kernel.holds(8, 8, b"\0ut\n");
    let (code, said, complaint) = run(&mut kernel, &files, "blame /m/build.log");
    assert_eq!(code, 0, "{complaint}");
    assert!(
        said.contains("  8   ana") && said.contains("0-3    bash (redirect)"),
        "{said}"
    );
}

/// Each verb that takes names refuses those that are not there and were not.
#[test]
fn names_that_never_were_are_errors() {
    let (mut kernel, mut files) = history();
    files.is_looking = true;
    for words in ["cat", "versions", "deleted", "diff @"] {
        let (code, said, complaint) = run(&mut kernel, &files, &format!("{words} /m/nothing"));
        let expected = "nothing in /m is or was called 'nothing'";
        assert_eq!((code, said.as_str()), (1, ""), "{words}");
        assert!(complaint.contains(expected), "{words}: {complaint}");
    }
}

#[test]
fn show_prints_the_differences_of_an_action() {
    let (mut kernel, files) = history();
    let (_, alone, _) = run(&mut kernel, &files, "show 6");
    let (code, said, complaint) = run(&mut kernel, &files, "show 6 --diff");
    assert_eq!((code, said), (0, format!("{alone}{OF_VIM}")), "{complaint}");
}

/// What vim changed.
const OF_VIM: &str = "diff a/notes b/notes
--- a/notes
+++ b/notes
@@ -1,2 +1,3 @@
 one
-two
+three
+four
";

#[test]
fn diff_shows_an_action_or_two_points() {
    let (mut kernel, mut files) = history();
    files.is_looking = true;
    let mut diff = |words: &str| run(&mut kernel, &files, &format!("diff {words}"));
    let (code, said, complaint) = diff("6");
    assert_eq!((code, said.as_str()), (0, OF_VIM), "{complaint}");
    assert_eq!(diff("@~1").1, OF_VIM);
    assert_eq!(diff("2..6 /m/notes").1, OF_VIM);
    assert_eq!(diff("30m /m/notes").1, OF_VIM);
    assert_eq!(diff("6 --exit-code").0, 1);
    assert_eq!(diff("6 --name-only").1, "notes\n");
    assert_eq!(diff("6 --stat").1, "~ notes  +2 -1\n");
    // Of the newest action, as no point is given.
    let made = "diff /dev/null b/build.log\n--- /dev/null\n+++ b/build.log\n@@ -0,0 +1 @@\n+out\n";
    assert_eq!(diff("--color never").1, made);
    assert_eq!(diff("@").1, made);
    assert_eq!(
        diff("2..8 --stat").1.lines().count(),
        5,
        "{}",
        diff("2..8 --stat").1
    );
    // From the beginning, and to the end.
    assert_eq!(diff("..6 --stat").1, diff("0..6 --stat").1);
    assert_eq!(diff("6.. --stat").1, diff("6..8 --stat").1);
    let (code, _, complaint) = diff("6..2");
    assert_eq!(code, 2, "{complaint}");
    let (code, _, complaint) = diff("6 /m/nothing");
    assert_eq!(code, 1);
    assert!(complaint.contains("is or was called"), "{complaint}");
    let (code, said, _) = diff("2..2 --exit-code");
    assert_eq!((code, said.as_str()), (0, ""));
}

#[test]
fn binary_files_are_said_to_be() {
    let (mut kernel, files) = history();
    kernel.holds(4, 6, b"\0\x01binary");
    let (code, said, complaint) = run(&mut kernel, &files, "diff 6");
    assert_eq!(code, 0, "{complaint}");
    assert_eq!(
        said,
        "diff a/notes b/notes\nBinary files differ: 8 -> 8 bytes\n"
    );
}

#[test]
fn a_save_by_rename_is_one_file_with_two_contents() {
    let (mut kernel, files) = history();
    // A new file takes the name of `notes`; the old one is kept.
    let by = "pid=90@9.0 ppid=40 sid=40 uid=1000 args=sed%00-i";
    kernel.line(
        3592,
        "1.1",
        "/bin/sed create 0 0",
        &format!("name=sedX node=9.1 undo=none {by}"),
    );
    kernel.line(
        3592,
        "9.1",
        "/bin/sed write 0 4",
        &format!("open=. size=0 undo=none {by}"),
    );
    kernel.line(
        3592,
        "1.1",
        "/bin/sed rename 0 0",
        &format!("name=sedX to=notes node=9.1 over=4.1 kept=1 undo=none {by}"),
    );
    kernel.holds(9, 10, b"one\n");
    let files_now = Files::of(&[("notes", 9), ("build.log", 8)]);
    drop(files);
    let (code, said, complaint) = run(&mut kernel, &files_now, "diff @");
    let expected =
        "diff a/notes b/notes\n--- a/notes\n+++ b/notes\n@@ -1,3 +1 @@\n one\n-three\n-four\n";
    assert_eq!((code, said.as_str()), (0, expected), "{complaint}");
    let (_, said, _) = run(&mut kernel, &files_now, "versions /m/notes");
    assert_eq!(said.lines().count(), 4, "{said}");
    assert_eq!(
        run(&mut kernel, &files_now, "cat /m/notes --at 8").1,
        "one\nthree\nfour\n"
    );
    assert_eq!(run(&mut kernel, &files_now, "cat /m/notes").1, "one\n");
}

#[test]
fn deleted_lists_what_is_missing() {
    let (mut kernel, mut files) = history();
    files.is_looking = true;
    let (code, said, complaint) = run(&mut kernel, &files, "deleted");
    let expected = "  ID  DELETED  WHO  SIZE     NAME   BY
  5   58m ago  ana  dropped  src    rm -rf src
  4   58m ago  ana  dropped  src/b  rm -rf src
  3   58m ago  ana  5 B      src/a  rm -rf src
";
    assert_eq!((code, said.as_str()), (0, expected), "{complaint}");
    assert_eq!(
        run(&mut kernel, &files, "deleted /m/src -n 2")
            .1
            .lines()
            .count(),
        3
    );
    let (_, said, _) = run(&mut kernel, &files, "deleted /m/src/a --json");
    let object: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (&object["size"], &object["restorable"]),
        (&5.into(), &true.into())
    );
    assert_eq!(object["path"], "/m/src/a");
}

#[test]
fn nothing_deleted_is_nothing() {
    let mut kernel = Kernel::new();
    let (code, said, _) = run(&mut kernel, &Files::of(&[]), "deleted");
    assert_eq!(
        (code, said.as_str()),
        (0, "Nothing that was deleted is missing.\n")
    );
}
