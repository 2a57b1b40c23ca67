// SPDX-License-Identifier: MIT OR Apache-2.0

//! Names of marks and of runs on the command line.

#[path = "support/mount.rs"]
mod mount;

use std::path::PathBuf;

use jiff::tz::TimeZone;
use jiff::Timestamp;
use logctl::operation_spec::OperationSpec;
use logctl::revision::Revision;
use loggerfs_log::line::{is_mark_message, is_mark_name, Line, LineDraft, Op, MAX_LINE};
use loggerfs_log::types::{ObjectId, Seed, Time};
use mount::{live, run, Files, Kernel};

/// `before` (line 3) after a.txt was made; then a run (line 4) of two processes, and another user's write.
fn history() -> (Kernel, Files) {
    let mut kernel = Kernel::new();
    let shell = "pid=40@4.0 ppid=30 pgid=40 sid=40 uid=0 comm=bash exec=1 anc=30@3.0";
    kernel.line(
        10,
        "1.1",
        "/bin/bash create 0 0",
        &format!("name=a.txt node=2.1 undo=none {shell}"),
    );
    kernel.line(
        10,
        "2.1",
        "/bin/bash write 0 4",
        &format!("open=. size=0 undo=none {shell}"),
    );
    let who = "ppid=40 pgid=50 sid=40 uid=0 comm=logctl exec=1";
    let above = "anc=40@4.0,30@3.0";
    kernel.mark(
        20,
        &format!("pid=49@4.5 {who} name=before parent=1.1 message=a%20b {above}"),
    );
    kernel.mark(
        100,
        &format!("pid=50@5.0 {who} name=job parent=1.1 run=1 {above}"),
    );
    let tool = |pid: u32| {
        format!("pid={pid}@{pid}.0 ppid=50 pgid=50@5.0 pgcomm=tool sid=40 uid=0 comm=tool exec=1")
    };
    kernel.line(
        101,
        "2.1",
        "/bin/tool write 0 4",
        &format!(
            "open=. size=4 undo=none {} anc=50@5.0,40@4.0,30@3.0",
            tool(51)
        ),
    );
    kernel.line(
        110,
        "3.1",
        "/bin/ana write 0 9",
        "open=. size=0 undo=none pid=90@90.0 ppid=1 pgid=90 sid=90 uid=1000 comm=ana exec=1",
    );
    kernel.line(
        120,
        "1.1",
        "/bin/tool create 0 0",
        &format!(
            "name=new node=4.1 undo=none {} anc=50@5.0,40@4.0,30@3.0",
            tool(52)
        ),
    );
    let files = Files::of(&[("a.txt", 2), ("b.txt", 3), ("new", 4)]);
    (kernel, files)
}

#[test]
fn a_mark_is_read_as_it_was_written() {
    let seed = Seed {
        uuid: [7; 16],
        segment: 1,
    };
    let crc = |seed: u32, bytes: &[u8]| {
        bytes
            .iter()
            .fold(seed, |sum, b| sum.rotate_left(5) ^ u32::from(*b))
    };
    let directory = ObjectId {
        volume: 0,
        inode: 1,
        generation: 1,
    };
    let mut buf = [0; MAX_LINE];
    let time = Time { sec: 5, nsec: 6 };
    let mut draft = LineDraft::new(&mut buf, time, b"/bin/x", Op::Mark, 0, 0);
    draft.name("grün".as_bytes()).parent(directory);
    draft.parent_handle(1, &[2, 3]).message(b"a = b").run();
    let mut out = [0; MAX_LINE];
    let len = draft.seal(9, &seed, crc, &mut out).unwrap();
    let text = "5.000000006 /bin/x mark 0 0 seq=9 name=gr%C3%BCn parent=1.1 pfh=010203 message=a%20=%20b run=1 sum=";
    assert_eq!(&out[..text.len()], text.as_bytes());
    let line = Line::parse(&out[..len], Some((&seed, crc))).unwrap();
    assert!(line.op == Op::Mark && line.op.is_bookkeeping() && line.run);
    assert_eq!((line.obj, line.prev, line.undo), (None, None, None));
    assert_eq!(line.message, Some(&b"a%20=%20b"[..]));
}

/// Crafted lines of marks: a flag with another value and repeated keys are no line.
#[test]
fn crafted_marks_are_refused() {
    for (keys, is_line) in [
        ("name=a", true),
        ("name=a run=1 message=b", true),
        ("name=a run=2", false),
        ("name=a run=1 run=1", false),
        ("name=a message=b message=b", false),
        ("name=a pfh=0", false),
    ] {
        let text = format!("5.000000006 - mark 0 0 seq=9 {keys} sum=00000000\n");
        assert_eq!(
            Line::parse(text.as_bytes(), None).is_ok(),
            is_line,
            "{keys}"
        );
    }
}

#[test]
fn no_name_is_another_point() {
    let now = Timestamp::from_second(1_763_639_000)
        .unwrap()
        .to_zoned(TimeZone::UTC);
    let words = "now today yesterday Monday first t195 t P1D pt2h 1 1a @ @- @~3 10m 14:05 9am a..b a/b .. -x #7 noon";
    for word in words.split(' ').chain([
        "",
        "a b",
        "a\tb",
        "a\u{7f}",
        "x\u{85}",
        "\u{202e}a",
        "2h ago",
    ]) {
        assert!(!is_mark_name(word.as_bytes()), "{word:?}");
    }
    assert!(!is_mark_name(&[b'a'; 65]) && is_mark_name(&[b'a'; 64]) && !is_mark_name(b"a\xff"));
    let parts = [
        "a", "p", "P", "T", "t", "d", "h", "m", "s", "1", "7", "-", "+", "_", ".", "é", "today",
        "am", "Z",
    ];
    for (a, b, c) in (0..parts.len().pow(3)).map(|n| (n / 361, n / 19 % 19, n % 19)) {
        let name = [parts[a], parts[b], parts[c]].concat();
        if is_mark_name(name.as_bytes()) {
            assert!(Revision::parse(&name, &now).is_err(), "{name}");
            assert_eq!(OperationSpec::parse(&name), None, "{name}");
        }
    }
    assert!(is_mark_message(b"") && is_mark_message("b = ü".as_bytes()));
    assert!(!is_mark_message(b"a\nb") && !is_mark_message(&[b'a'; 257]));
}

#[test]
fn marks_are_made_and_listed() {
    let (mut kernel, files) = history();
    let (code, said, complaint) = run(&mut kernel, &files, "mark before -M again");
    assert_eq!(
        (code, said.as_str(), complaint.as_str()),
        (0, "Marked 'before' (op 8).\n", "")
    );
    let (_, said, _) = run(&mut kernel, &files, "marks");
    let names: Vec<Vec<&str>> = said
        .lines()
        .skip(1)
        .map(|row| row.split_whitespace().collect())
        .collect();
    let of = |row: usize| {
        (
            names[row][0],
            *names[row]
                .iter()
                .find(|w| ["before", "job"].contains(w))
                .unwrap(),
            *names[row].last().unwrap(),
        )
    };
    assert_eq!(
        [of(0), of(1), of(2)],
        [
            ("8", "before", "again"),
            ("4", "job", "logctl"),
            ("3", "before", "b")
        ]
    );
    let (code, said, _) = run(&mut kernel, &files, "--json marks");
    assert_eq!((code, said.lines().count()), (0, 3));
    assert!(
        said.contains(r#""name":"job","op":4"#) && said.contains(r#""message":"a b""#),
        "{said}"
    );
    let (code, _, complaint) = run(&mut kernel, &files, "mark today");
    assert_eq!(code, 2);
    assert!(
        complaint.starts_with("error: a name begins with a letter"),
        "{complaint}"
    );
}

#[test]
fn a_point_is_the_newest_mark_of_the_name() {
    let (mut kernel, files) = history();
    let (code, _, complaint) = run(&mut kernel, &files, "restore --to before");
    assert_eq!(code, 0, "{complaint}");
    assert_eq!(kernel.asked.last().unwrap().1, [7, 6, 5]);
    let (mut kernel, files) = history();
    kernel.mark(121, "pid=49@4.5 uid=1000 name=before parent=1.1");
    // Another user's mark does not hide one's own.
    run(&mut kernel, &files, "restore -n --to before");
    assert_eq!(kernel.asked.last().unwrap().1, [7, 6, 5]);
    kernel.mark(122, "pid=49@4.5 uid=0 name=before parent=1.1");
    run(&mut kernel, &files, "restore -n --to before");
    assert_eq!(kernel.asked.len(), 1, "nothing was done since");
    let (code, _, complaint) = run(&mut kernel, &files, "restore -n --to behind");
    assert_eq!(code, 2);
    assert!(
        complaint.starts_with("error: 'behind' is no point: no mark has that name"),
        "{complaint}"
    );
}

#[test]
fn names_are_ends_of_ranges_and_times() {
    for (words, wanted) in [
        ("revert -n before..", vec![7, 6, 5]),
        ("revert -n before..job", vec![]),
        ("revert -n ..before", vec![2, 1]),
        ("revert -n @before..", vec![7, 6, 5]),
        ("revert -n --since before --user ana", vec![6]),
        ("revert -n --until before --by bash", vec![2, 1]),
    ] {
        let (mut kernel, files) = history();
        let (code, _, complaint) = run(&mut kernel, &files, words);
        assert_eq!(
            code,
            i32::from(wanted.is_empty()) as u8,
            "{words}: {complaint}"
        );
        let asked = kernel.asked.last().map(|(_, asked)| asked.clone());
        assert_eq!(asked.unwrap_or_default(), wanted, "{words}");
    }
    let (mut kernel, files) = history();
    let (code, _, complaint) = run(&mut kernel, &files, "undo before");
    assert_eq!(code, 2);
    assert!(
        complaint.starts_with("error: 'before' is a mark, not a run"),
        "{complaint}"
    );
    let (code, _, complaint) = run(&mut kernel, &files, "undo @nothing");
    assert_eq!(
        (code, complaint.as_str()),
        (1, "error: no mark has the name 'nothing'; nothing was changed\nHint: `logctl log` lists the actions.\n")
    );
}

#[test]
fn a_run_is_one_entry() {
    let (mut kernel, files) = history();
    for words in ["undo job", "revert job"] {
        let (mut kernel, files) = history();
        let (code, said, complaint) = run(&mut kernel, &files, words);
        assert_eq!(code, 0, "{words}: {said}{complaint}");
        assert_eq!(kernel.asked.last().unwrap().1, [7, 5], "{words}");
    }
    let (_, said, _) = run(&mut kernel, &files, "show job");
    assert!(
        said.starts_with("Action 7, 2 operations\n") && said.contains("  run      job\n"),
        "{said}"
    );
    let (_, said, _) = run(&mut kernel, &files, "log job");
    assert!(said.contains("[job] ") && !said.contains("ana"), "{said}");
    let (_, said, _) = run(&mut kernel, &files, "--json log -n 1");
    assert!(said.contains(r#""run":"job""#), "{said}");
    assert_eq!(run(&mut kernel, &files, "undo job").0, 0);
    assert_eq!(live(&mut kernel), [6, 2, 1]);
    let (code, _, complaint) = run(&mut kernel, &files, "undo job");
    assert_eq!(code, 1);
    assert!(
        complaint.starts_with("error: nothing of the run 'job' is live: it was taken back"),
        "{complaint}"
    );
    assert_eq!(run(&mut kernel, &files, "redo job").0, 0);
    let (code, _, complaint) = run(&mut kernel, &files, "redo before");
    assert_eq!(code, 2, "{complaint}");
}

/// A file is meant where there is one, and the mark is pointed out.
#[test]
fn a_file_named_like_a_mark_is_pointed_out() {
    // Words are compared with the files of the current directory.
    let (mut kernel, files) = history();
    kernel.mark(130, "pid=49@4.5 uid=0 name=src parent=1.1 run=1");
    assert!(PathBuf::from("src").is_dir());
    let (_, _, complaint) = run(&mut kernel, &files, "log src");
    assert!(
        complaint.starts_with("'src' means the file (./src); a mark has that name, too: @src.\n"),
        "{complaint}"
    );
    let (_, _, complaint) = run(&mut kernel, &files, "log ./src");
    assert!(!complaint.contains("means the file"), "{complaint}");
    let (code, _, complaint) = run(&mut kernel, &files, "undo @src");
    assert_eq!(
        (code, complaint.as_str()),
        (1, "error: no operation of the run 'src' is in the log; nothing was changed\nHint: `logctl log` lists the actions.\n")
    );
}
