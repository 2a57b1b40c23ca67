// SPDX-License-Identifier: MIT OR Apache-2.0

//! Names, commands and arguments that are made to deceive a reader on a terminal: no verb prints a
//! code point that the terminal would obey or hide, in any format, on either stream.

#[path = "support/mount.rs"]
mod mount;

use std::ffi::OsString;
use std::fmt::Write;
use std::os::unix::ffi::OsStringExt;
use std::process::Command;

use logctl::quote::{quote_bytes, quoted, word};
use logctl::screen::{visible, visible_bytes};
use logctl::uapi::Reason;
use mount::{run, Files, Kernel};
use proptest::prelude::*;
use serde_json::Value;

/// Controls of both kinds, bidi overrides, zero widths, separators, fillers, tags, private and
/// unassigned code points.
const HOSTILE: &[char] = &[
    '\u{1}',
    '\u{7}',
    '\u{8}',
    '\t',
    '\r',
    '\u{1b}',
    '\u{7f}',
    '\u{80}',
    '\u{85}',
    '\u{9b}',
    '\u{9d}',
    '\u{ad}',
    '\u{34f}',
    '\u{61c}',
    '\u{115f}',
    '\u{1160}',
    '\u{17b4}',
    '\u{180e}',
    '\u{200b}',
    '\u{200c}',
    '\u{200d}',
    '\u{200e}',
    '\u{200f}',
    '\u{2028}',
    '\u{2029}',
    '\u{202a}',
    '\u{202b}',
    '\u{202c}',
    '\u{202d}',
    '\u{202e}',
    '\u{2060}',
    '\u{2064}',
    '\u{2066}',
    '\u{2067}',
    '\u{2068}',
    '\u{2069}',
    '\u{206a}',
    '\u{206f}',
    '\u{3164}',
    '\u{e000}',
    '\u{fdd0}',
    '\u{fe00}',
    '\u{fe0f}',
    '\u{feff}',
    '\u{ffa0}',
    '\u{fff9}',
    '\u{fffb}',
    '\u{ffff}',
    '\u{1bca0}',
    '\u{1d173}',
    '\u{e0001}',
    '\u{e0020}',
    '\u{e007f}',
    '\u{e0100}',
    '\u{f0000}',
    '\u{10ffff}',
];

/// Marks, which must have a letter before them.
const MARKS: &[char] = &[
    '\u{300}', '\u{336}', '\u{338}', '\u{489}', '\u{20dd}', '\u{20e3}',
];

fn refused(text: &str, how: &str) {
    for c in HOSTILE {
        assert!(!text.contains(*c), "{how}: {c:?} in {text:?}");
    }
    let mut before = ' ';
    let mut marks = 0;
    for c in text.chars() {
        assert!(c == '\n' || !c.is_control(), "{how}: {c:?} in {text:?}");
        if MARKS.contains(&c) {
            marks += 1;
            let carried = before.is_alphanumeric() || MARKS.contains(&before);
            assert!(carried && marks <= 6, "{how}: {c:?} in {text:?}");
        } else {
            marks = 0;
        }
        before = c;
    }
}

/// In the form of a line of the log.
fn encoded(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        let _ = write!(text, "%{byte:02X}");
    }
    text
}

/// A part of a name: bytes that a name can have.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let bytes = |c: &char| c.to_string().into_bytes();
    prop_oneof![
        4 => prop::sample::select(HOSTILE).prop_map(move |c| bytes(&c)),
        2 => prop::sample::select(MARKS).prop_map(move |c| bytes(&c)),
        1 => prop::char::any().prop_map(move |c| bytes(&c)),
        2 => "[a-zé字 '\"\\\\$]{1,3}".prop_map(String::into_bytes),
        1 => prop::collection::vec(0x80u8.., 1..3),
        1 => Just(b"\n".to_vec()),
        1 => Just("e".repeat(2).into_bytes()),
    ]
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(piece(), 1..8).prop_map(|pieces| {
        let mut name = pieces.concat();
        name.retain(|byte| *byte != 0 && *byte != b'/');
        name.truncate(200);
        if name.is_empty() {
            name.push(b'x');
        }
        name
    })
}

/// A file made and written by a command with arguments, then renamed; another one removed.
fn history(names: &[Vec<u8>; 4]) -> (Kernel, Files) {
    let [file, to, program, argument] = names;
    let mut kernel = Kernel::new();
    let (program, argument) = (encoded(program), encoded(argument));
    let actor =
        format!("pid=50@5.0 ppid=40 sid=40 uid=1000 comm={program} args={program}%00{argument}");
    let of = |op: &str| format!("/bin/{program} {op}");
    let (file, new) = (encoded(file), encoded(to));
    let keys = format!("name={file} node=4.1 undo=none {actor}");
    kernel.line(10, "1.1", &of("create 0 0"), &keys);
    let keys = format!("open=. size=0 undo=none {actor}");
    kernel.line(10, "4.1", &of("write 0 9"), &keys);
    let keys = format!("name={file} to={new} node=4.1 undo=none {actor}");
    kernel.line(20, "1.1", &of("rename 0 0"), &keys);
    let keys = format!("name={file} node=5.1 kept=1 undo=none {actor}");
    kernel.line(3000, "1.1", &of("unlink 0 0"), &keys);
    let mut files = Files::of(&[]);
    let path = OsString::from_vec(to.clone());
    let id = loggerfs_log::types::ObjectId {
        volume: 0,
        inode: 4,
        generation: 1,
    };
    files.objects.insert(path.into(), id);
    (kernel, files)
}

const VERBS: &[&str] = &[
    "log",
    "log --ops",
    "log -n 3",
    "show 1",
    "show @",
    "undo -n",
    "revert 1..4 -n",
    "revert 3 --ops -n",
    "restore --to 1 -n",
    "undo",
    "redo -n",
    "redo",
    "revert 1..4",
    "revert 3 --ops --partial",
    "revert 3 --ops --merge",
    "restore --to 2",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_verb_prints_them(names in [name(), name(), name(), name()], json: bool, stuck: bool) {
        let (mut kernel, files) = history(&names);
        if stuck {
            kernel.conflicts.insert(3, (4, Reason::Conflict));
            kernel.conflicts.insert(1, (0, Reason::Lost));
        }
        for verb in VERBS {
            let words = if json { format!("--json {verb}") } else { (*verb).to_owned() };
            let (_, results, messages) = run(&mut kernel, &files, &words);
            refused(&results, &words);
            refused(&messages, &words);
            if json {
                for line in results.lines() {
                    let value: Value = serde_json::from_str(line).expect(line);
                    prop_assert!(value.get("type").is_some());
                }
            }
        }
    }

    #[test]
    fn nothing_else_passes(bytes in name()) {
        refused(&visible_bytes(&bytes), "visible_bytes");
        refused(&quote_bytes(&bytes, true), "quote_bytes");
        refused(&quote_bytes(&bytes, false), "quote_bytes");
        let path = OsString::from_vec(bytes);
        refused(&quoted(path.as_ref()), "quoted");
        refused(&word(path.as_ref()), "word");
        refused(&visible(&path.to_string_lossy()), "visible");
    }
}

/// JSON has the exact name all the same.
#[test]
fn json_keeps_the_name() {
    let name = "a\u{202e}b\u{e0001}\u{301}é字";
    let names = [name, name, "tool", "x"].map(|name| name.as_bytes().to_vec());
    let (mut kernel, files) = history(&names);
    let (_, results, _) = run(&mut kernel, &files, "--json log --ops");
    assert!(
        results.contains(r"a\u202eb\udb40\udc01\u0301é字"),
        "{results}"
    );
    let found = results.lines().any(|line| {
        let value: Value = serde_json::from_str(line).unwrap();
        value["path"] == format!("/m/{name}")
    });
    assert!(found, "{results}");
}

/// Ordinary text is not changed.
#[test]
fn languages_pass() {
    for text in [
        "Ünïcödé",
        "e\u{301}",
        "日本語",
        "한국어",
        "עברית",
        "العربية",
        "हिन्दी",
        "ไทย",
        "Việt",
        "→ … “x”",
        "🙂",
    ] {
        assert_eq!(visible(text), text);
        assert_eq!(quote_bytes(text.as_bytes(), true), format!("'{text}'"));
    }
}

/// The error message for arguments that the program does not understand.
#[test]
fn arguments_in_complaints() {
    for argument in [
        "--\u{202e}x",
        "lo\u{1b}[31mg",
        "revert\u{200b}",
        "a\u{2028}b",
    ] {
        for words in [
            vec![argument],
            vec!["log", argument],
            vec!["log", "--color", argument],
            vec!["--mount", argument, "log"],
            vec!["status", argument],
            vec!["--json", "status", argument],
            vec!["show", argument],
            vec!["revert", "--uid", argument],
            vec!["revert", "--since", argument],
            vec!["restore", "--to", argument],
            vec![argument, "readlog"],
        ] {
            let output = Command::new(env!("CARGO_BIN_EXE_logctl"))
                .args(&words)
                .output()
                .unwrap();
            for bytes in [output.stdout, output.stderr] {
                let text = String::from_utf8(bytes).unwrap();
                let how = format!("{words:?}");
                for c in HOSTILE {
                    assert!(!text.contains(*c), "{how}: {c:?} in {text:?}");
                }
            }
        }
    }
}

/// There is no other way out than the screen.
#[test]
fn one_way_out() {
    const WAYS: &[&str] = &[
        "println!",
        "print!",
        "eprintln!",
        "eprint!",
        "dbg!",
        "stdout()",
        "stderr()",
        ".write_all(",
        "writeln!",
    ];
    // Where the screens are made, the screen, the browser, which draws cells of escaped text, and the pager, which
    // gets its text from the screen.
    const ALLOWED: &[&str] = &[
        "commands.rs",
        "pager.rs",
        "usage.rs",
        "screen.rs",
        "save.rs",
        "browse.rs",
    ];
    let mut places = vec![std::path::PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src"
    ))];
    let mut seen = 0;
    while let Some(place) = places.pop() {
        for entry in std::fs::read_dir(&place).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                places.push(path);
                continue;
            }
            seen += 1;
            if ALLOWED.contains(&path.file_name().unwrap().to_str().unwrap()) {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for way in WAYS {
                assert!(!text.contains(way), "{} has {way}", path.display());
            }
        }
    }
    assert!(seen > 20, "only {seen} sources");
}
