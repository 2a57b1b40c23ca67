// SPDX-License-Identifier: MIT OR Apache-2.0

//! Sessions with a simulated history: output, stream and exit code.

use std::os::fd::BorrowedFd;

use logctl::arguments::normalize;
use logctl::cli::parse;
use logctl::commands::{conclude, execute};
use logctl::object::Object;
use logctl::output::Output;
use logctl::uapi::{
    Conflict, Operation, PlaceMark, ReadHistory, ReadLog, ReadPast, Reason, Revert, RevertGroup,
    Status, MAX_COUNT, VERSION,
};
use rustix::io::Errno;

/// A file's history: its lines, oldest first.
#[derive(Default)]
struct Fake {
    /// All lines.
    lines: Vec<String>,
    /// The live lines.
    live: Vec<usize>,
    /// The errno with which a revert is refused.
    refuse: Option<(Errno, u32, u64)>,
    /// The errno with which a read of the log is refused.
    unreadable: Option<Errno>,
    /// How many lines an answer holds.
    page: usize,
    asked: Option<Revert>,
    /// How many operations a revert takes back inside of directories.
    inside: u32,
}

impl Fake {
    /// A file that `dd` and `bash` wrote to.
    fn new() -> Self {
        let mut fake = Self {
            page: 2,
            ..Self::default()
        };
        fake.operation("/usr/bin/bash", "write 0 20", 5, "size=0 undo=none");
        fake.operation("/usr/bin/dd", "write 20 20", 7, "size=20 undo=none");
        fake.operation(
            "/opt/my%20tool",
            "truncate 10 30",
            9,
            "size=40 undo=1:0+30 crc=00000001",
        );
        fake
    }

    fn operation(&mut self, command: &str, head: &str, seq: u64, keys: &str) {
        self.live.push(self.lines.len());
        self.line(command, head, seq, keys);
    }

    fn line(&mut self, command: &str, head: &str, seq: u64, keys: &str) {
        let time = format!("1763639066.{seq:09}");
        self.lines.push(format!(
            "{time} {command} {head} seq={seq} obj=131.1 {keys} sum=00000000\n"
        ));
    }

    fn newest(&self) -> u64 {
        self.lines.len() as u64 * 2 + 3
    }
}

impl Object for Fake {
    fn place_mark(&mut self, _: &mut PlaceMark, _: &[u8], _: &[u8]) -> Result<(), Errno> {
        Err(Errno::ROFS)
    }

    fn revert(&mut self, request: &mut Revert) -> Result<(), Errno> {
        assert!(request.is_valid());
        self.asked = Some(*request);
        if let Some((errno, reason, op)) = self.refuse {
            (request.reason, request.blocking_seq) = (reason, op);
            return Err(errno);
        }
        let count = (request.count.max(1) as usize).min(self.live.len());
        if count == 0 {
            request.reason = Reason::NothingLeft.code();
            return Err(Errno::NODATA);
        }
        let seq = self.newest();
        let newest = &self.lines[*self.live.last().unwrap()];
        let of = newest
            .split("seq=")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
            .to_owned();
        self.live.truncate(self.live.len() - count);
        let keys = format!("of={of} count={count} size=40 now=0 undo=none");
        self.line("/usr/bin/logctl", "revert 0 40", seq, &keys);
        self.line("-", "commit 0 0", seq + 1, &format!("of={seq}"));
        request.reverted = count as u64;
        request.inside = self.inside;
        Ok(())
    }

    fn read_log(&mut self, request: &mut ReadLog, buffer: &mut [u8]) -> Result<(), Errno> {
        if let Some(errno) = self.unreadable {
            return Err(errno);
        }
        request.length = buffer.len() as u32;
        assert!(request.is_valid());
        let all: Vec<usize> = (0..self.lines.len()).collect();
        let view = if request.flags & ReadLog::ALL != 0 {
            &all
        } else {
            &self.live
        };
        let newest_first: Vec<_> = view.iter().rev().map(|i| &self.lines[*i]).collect();
        let start = request.cursor_offset as usize;
        let page: String = newest_first
            .iter()
            .skip(start)
            .take(self.page)
            .copied()
            .cloned()
            .collect();
        buffer[..page.len()].copy_from_slice(page.as_bytes());
        request.used = page.len() as u32;
        request.cursor_offset += self.page as u64;
        if start + self.page >= newest_first.len() {
            (request.cursor_segment, request.cursor_offset) = (ReadLog::END, 0);
        }
        Ok(())
    }

    fn read_history(&mut self, _: &mut ReadHistory, _: &mut [u8]) -> Result<(), Errno> {
        panic!("commands on one file read no history of the mount")
    }

    fn read_past(
        &mut self,
        _: &mut ReadPast,
        _: Option<BorrowedFd<'_>>,
        _: &mut [u8],
    ) -> Result<(), Errno> {
        panic!("commands on one file read no old content")
    }

    fn revert_group(
        &mut self,
        _: &mut RevertGroup,
        _: &[Operation],
        _: &mut [Conflict],
    ) -> Result<(), Errno> {
        panic!("commands on one file revert no group")
    }

    fn status(&mut self, request: &mut Status) -> Result<(), Errno> {
        assert!(request.is_valid());
        *request = Status {
            version: VERSION,
            uuid: *b"\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef",
            format: 1,
            mount_flags: Status::MOUNT_HISTORY | Status::MOUNT_PRIVATE,
            seq: 12,
            inode: 131,
            generation: 1,
            live: 3,
            last_seq: 9,
            segments: 2,
            log_bytes: 4096,
            undo_bytes: 1_000_000,
            history_max: 10 << 30,
            lost: 1,
            commit_seconds: 1,
            ..Status::default()
        };
        Ok(())
    }
}

/// Runs a command line on a history: exit code, results, messages.
fn run(fake: &mut Fake, words: &str) -> (u8, String, String) {
    let arguments = ["logctl"]
        .into_iter()
        .chain(words.split(' '))
        .map(Into::into);
    let cli = parse(normalize(arguments)).unwrap();
    let (mut results, mut messages) = (Vec::new(), Vec::new());
    let mut stripped = anstream::StripStream::new(&mut messages);
    let mut output = Output::new(&mut results, &mut stripped, cli.json.is_some());
    let path = &cli.command.files()[0];
    let result = execute(&cli.command, path, fake, &mut output);
    let code = conclude(&cli.command, path, result, &mut output);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (code, text(results), text(messages))
}

#[test]
fn readlog_is_the_log_in_the_order_of_time() {
    for page in 1..5 {
        let mut fake = Fake::new();
        fake.page = page;
        let lines = fake.lines.concat();
        assert_eq!(run(&mut fake, "f readlog"), (0, lines, String::new()));
    }
}

#[test]
fn readlog_all_shows_what_was_reverted() {
    let mut fake = Fake::new();
    run(&mut fake, "f revert --count 2");
    let first = fake.lines[0].clone();
    assert_eq!(run(&mut fake, "f readlog"), (0, first, String::new()));
    let all = fake.lines.concat();
    assert_eq!(run(&mut fake, "f readlog --all"), (0, all, String::new()));
}

#[test]
fn readlog_of_a_file_without_operations_is_empty() {
    let mut fake = Fake {
        page: 1,
        ..Fake::default()
    };
    assert_eq!(
        run(&mut fake, "f readlog"),
        (0, String::new(), String::new())
    );
}

#[test]
fn readlog_json() {
    let mut fake = Fake::new();
    fake.lines.truncate(1);
    fake.live.truncate(1);
    fake.operation("-", "sprinkle 1 2", 10, "undo=none");
    let (code, results, _) = run(&mut fake, "f readlog --json");
    assert_eq!(code, 0);
    let lines: Vec<&str> = results.lines().collect();
    assert_eq!(
        lines[0],
        r#"{"v":1,"type":"op","path":"f","op":5,"time":"2025-11-20T11:44:26.000000005+00:00","#
            .to_owned()
            + r#""kind":"write","offset":0,"length":20,"command":"/usr/bin/bash","size":0,"#
            + r#""undo":"none","line":""#
            + fake.lines[0].trim_end()
            + r#""}"#
    );
    let newer: serde_json::Value = serde_json::from_str(lines[1]).unwrap();
    assert_eq!(newer["unread"], "the operation is unknown");
    assert!(newer["line"].as_str().unwrap().ends_with("sum=00000000"));
}

#[test]
fn revert_says_what_was_taken_back_and_what_is_next() {
    let mut fake = Fake::new();
    let (code, results, messages) = run(&mut fake, "f revert");
    assert_eq!(code, 0);
    assert_eq!(
        results,
        "Reverted 1 operation of 'f': truncate 10 30 by 'my tool' (op 9).\n"
    );
    let hint = "Hint: `logctl redo` does it again; `logctl f revert` takes back the one before: \
        write 20 20 by dd (op 7).\n";
    assert_eq!(messages, hint);

    let (code, results, messages) = run(&mut fake, "f revert --count 5");
    assert_eq!(code, 0);
    let expected = "Reverted 2 operations of 'f':\n  write 20 20 by dd (op 7)\n  write 0 20 by \
        bash (op 5)\n";
    assert_eq!(results, expected);
    assert!(
        messages.starts_with("Hint: `logctl redo` does it again; no more operations are live;"),
        "{messages}"
    );

    let (code, results, messages) = run(&mut fake, "f revert");
    assert_eq!((code, results.as_str()), (1, ""));
    let expected = "error: no operation of 'f' is left to revert; nothing was changed\nHint: \
        `logctl f readlog --all` lists the reverted operations.\n";
    assert_eq!(messages, expected.replace("; nothing was changed", ""));
}

#[test]
fn revert_lists_no_endless_number() {
    let mut fake = Fake {
        page: 7,
        ..Fake::default()
    };
    for seq in 1..100 {
        fake.operation("/usr/bin/dd", "write 0 1", seq, "size=1 undo=none");
    }
    let (code, results, _) = run(&mut fake, "f revert --count 90");
    assert_eq!(code, 0);
    assert_eq!(results.lines().count(), 22);
    assert!(results.starts_with("Reverted 90 operations of 'f':\n  write 0 1 by dd (op 99)\n"));
    assert!(results.ends_with("  … and 70 older ones\n"));
    // The largest number that can be asked for.
    let (code, results, _) = run(&mut fake, &format!("f revert --count {MAX_COUNT}"));
    assert_eq!(code, 0);
    assert!(results.starts_with("Reverted 9 operations"));
}

#[test]
fn revert_without_the_right_to_read_the_log_still_says_how_many() {
    let mut fake = Fake::new();
    fake.unreadable = Some(Errno::PERM);
    let (code, results, messages) = run(&mut fake, "f revert --force");
    assert_eq!((code, messages.as_str()), (0, ""));
    assert_eq!(results, "Reverted 1 operation of 'f'.\n");
    assert_eq!(fake.asked.unwrap().flags, Revert::FORCE | Revert::DEEP);
    let (code, _, _) = run(&mut fake, "f revert --flat");
    assert_eq!((code, fake.asked.unwrap().flags), (0, 0));
}

#[test]
fn revert_without_redo_says_so() {
    let mut fake = Fake::new();
    let (code, results, _) = run(&mut fake, "f revert --no-redo");
    assert_eq!(code, 0);
    assert_eq!(fake.asked.unwrap().flags, Revert::NO_REDO | Revert::DEEP);
    assert!(
        results.contains("It cannot be redone: the replaced content was not saved"),
        "{results}"
    );
    let (_, results, _) = run(&mut fake, "--json f revert --no-redo");
    assert!(results.contains(r#""no_redo":true"#), "{results}");
    let (_, results, _) = run(&mut fake, "f revert");
    assert!(!results.contains("redone"), "{results}");
}

#[test]
fn a_revert_without_room_names_the_way_out() {
    let mut fake = Fake::new();
    fake.refuse = Some((Errno::NOSPC, Reason::NoSpace.code(), 0));
    let (exit, _, messages) = run(&mut fake, "f revert");
    assert_eq!(exit, 1);
    assert!(messages.contains("nothing was changed"), "{messages}");
    assert!(messages.contains("--no-redo"), "{messages}");
}

#[test]
fn revert_of_a_removed_tree_says_how_much_is_in_it() {
    let mut fake = Fake::new();
    fake.inside = 214;
    let (code, results, _) = run(&mut fake, "f revert");
    assert_eq!(code, 0);
    assert!(
        results.ends_with(".\n214 more inside of what came back.\n"),
        "{results}"
    );
    let (_, results, _) = run(&mut fake, "--json f revert");
    assert!(
        results.contains(r#""reverted":1,"inside":214,"#),
        "{results}"
    );
}

#[test]
fn revert_json() {
    let mut fake = Fake::new();
    let (code, results, messages) = run(&mut fake, "--json f revert --count 2");
    assert_eq!((code, messages.as_str()), (0, ""));
    let objects: Vec<serde_json::Value> = results
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let ops: Vec<_> = objects[..2]
        .iter()
        .map(|object| object["op"].as_u64().unwrap())
        .collect();
    assert_eq!(ops, [9, 7]);
    assert_eq!(objects[0]["command"], "/opt/my tool");
    let summary = r#"{"v":1,"type":"summary","path":"f","command":"revert","reverted":2,"inside":0,"listed":2,"no_redo":false,"op":9,"#;
    assert_eq!(
        results.lines().nth(2),
        Some(format!(r#"{summary}"next_op":5}}"#).as_str())
    );
}

#[test]
fn every_refusal_says_what_happened_and_what_to_do() {
    for reason in Reason::ALL {
        for op in [0, 1903] {
            let mut fake = Fake::new();
            fake.refuse = Some((Errno::IO, reason.code(), op));
            let (code, results, messages) = run(&mut fake, "f revert");
            assert_eq!(results, "");
            let lines: Vec<&str> = messages.lines().collect();
            assert_eq!(lines.len(), 2, "{messages}");
            assert!(
                lines[0].starts_with("error: ") && lines[0].contains("'f'"),
                "{messages}"
            );
            let kept = lines[0].ends_with("; nothing was changed");
            assert!(kept || *reason == Reason::NothingLeft, "{messages}");
            assert!(
                lines[1].starts_with("Hint: ") && lines[1].ends_with('.'),
                "{messages}"
            );
            let expected = match reason {
                Reason::External | Reason::Conflict | Reason::NotEmpty => 4,
                Reason::Mapped | Reason::Executed | Reason::Leased | Reason::Busy => 11,
                _ => 1,
            };
            assert_eq!(code, expected, "{reason:?}");
        }
    }
}

#[test]
fn an_external_change_is_a_conflict() {
    let mut fake = Fake::new();
    fake.refuse = Some((Errno::STALE, Reason::External.code(), 9));
    let (code, _, messages) = run(&mut fake, "f revert");
    assert_eq!(code, 4);
    let error = "error: 'f' was changed outside LoggerFS since op 9; nothing was changed\n";
    assert!(messages.starts_with(error), "{messages}");
    assert!(messages.contains("`logctl f revert --force`"));
    let (_, results, _) = run(&mut fake, "f revert --json");
    let error: serde_json::Value = serde_json::from_str(&results).unwrap();
    assert_eq!(
        (&error["reason"], &error["op"]),
        (&"External".into(), &9.into())
    );
    assert_eq!(
        (&error["exit"], &error["type"]),
        (&4.into(), &"error".into())
    );
}

#[test]
fn error_numbers_alone_say_enough() {
    let cases = [
        (Errno::NODATA, 1, "no operation of 'f' is left to revert"),
        (Errno::STALE, 4, "changed outside"),
        (Errno::PERM, 1, "not yours"),
        (Errno::BADF, 1, "cannot be written to"),
        (Errno::NOSPC, 1, "no space"),
        (Errno::UCLEAN, 1, "damaged"),
        (Errno::BUSY, 11, "in use"),
        (Errno::INTR, 130, "interrupted"),
        (Errno::NOTTY, 10, "not on a LoggerFS mount"),
        (Errno::INVAL, 1, "does not know this request"),
        (Errno::IO, 1, "Input/output error"),
    ];
    for (errno, code, words) in cases {
        let mut fake = Fake::new();
        // A reason of a newer module.
        fake.refuse = Some((errno, 999, 0));
        let (exit, _, messages) = run(&mut fake, "f revert");
        assert_eq!(exit, code, "{errno:?}");
        assert!(messages.contains(words), "{messages}");
    }
    // The journal was not durable in time.
    let mut fake = Fake::new();
    fake.refuse = Some((Errno::BUSY, Reason::Io.code(), 0));
    let (exit, _, messages) = run(&mut fake, "f revert");
    assert_eq!(exit, 11);
    for words in [
        "cannot revert in time",
        "the disk did not write",
        "nothing was changed",
    ] {
        assert!(messages.contains(words), "no {words}: {messages}");
    }
}

#[test]
fn a_log_that_leads_nowhere_is_an_error() {
    let mut fake = Fake::new();
    fake.page = 0;
    let (code, _, messages) = run(&mut fake, "f readlog");
    assert_eq!(code, 1);
    assert!(messages.contains("Protocol error"), "{messages}");
    let mut fake = Fake::new();
    fake.unreadable = Some(Errno::NOTTY);
    assert_eq!(run(&mut fake, "f readlog").0, 10);
}

#[test]
fn status_text_and_json() {
    let mut fake = Fake::new();
    let (code, results, _) = run(&mut fake, "f status");
    let expected = "'f'
  object      inode 131, generation 1
  operations  3 to revert, the newest is op 9
  history     on, private, last op 12
  uuid        01234567-89ab-cdef-0123-456789abcdef (format 1)
  space       1.0 MB of 10.7 GB in 2 segments (log 4.0 kB, old content 1.0 MB, deleted files 0 B)
  policy      on_full=trim, on_error=continue, commit=1
  trouble     1 operations without their old content, 0 journal errors
";
    assert_eq!((code, results.as_str()), (0, expected));
    let (code, results, _) = run(&mut fake, "f status --json");
    assert_eq!(code, 0);
    let status: serde_json::Value = serde_json::from_str(&results).unwrap();
    assert_eq!(status["type"], "status");
    assert_eq!(status["live"], 3);
    assert_eq!(
        status["history"]["uuid"],
        "01234567-89ab-cdef-0123-456789abcdef"
    );
    assert_eq!(status["history"]["on_full"], "trim");
}

#[test]
fn names_cannot_give_orders() {
    use logctl::quote::{base64, program, quote_bytes, quoted, word};
    use std::os::unix::ffi::OsStrExt;
    let path = |bytes| std::path::Path::new(std::ffi::OsStr::from_bytes(bytes));
    assert_eq!(word(path(b"a/b-c.txt")), "a/b-c.txt");
    assert_eq!(word(path(b"-f")), "./-f");
    assert_eq!(word(path(b"it's")), r"'it'\''s'");
    assert_eq!(word(path(b"")), "''");
    assert_eq!(quoted(path(b"f")), "'f'");
    assert_eq!(quote_bytes(b"\x1b[2J\\'", false), r"$'\x1b[2J\\\''");
    assert_eq!(quote_bytes(b"\xff", false), r"$'\xff'");
    assert_eq!(quote_bytes("\u{9b}2J".as_bytes(), false), r"$'\xc2\x9b2J'");
    assert_eq!(program(b"/bin/a%1Bb").as_deref(), Some(r"$'a\x1bb'"));
    assert_eq!(program(b"-"), None);
    assert_eq!(
        program(b"/usr/bin/x%20(deleted)").as_deref(),
        Some("'x (deleted)'")
    );
    let encoded: Vec<_> = [&b""[..], b"f", b"fo", b"foo", b"\xff\xfe"]
        .map(base64)
        .into();
    assert_eq!(encoded, ["", "Zg==", "Zm8=", "Zm9v", "//4="]);
}
