// SPDX-License-Identifier: MIT OR Apache-2.0

//! The command line: both forms, and the program itself where there is no LoggerFS.

#[path = "support/schema.rs"]
mod schema;

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command as Process, Output};

use clap::CommandFactory;
use logctl::arguments::normalize;
use logctl::cli::{parse, Cli, Color, Command, Options, Selection};
use logctl::uapi;

/// The arguments as they are parsed.
fn normalized(words: &str) -> String {
    let arguments = words.split(' ').map(OsString::from);
    let normalized = normalize([OsString::from("logctl")].into_iter().chain(arguments));
    let words: Vec<_> = normalized
        .iter()
        .skip(1)
        .map(|word| word.to_str().unwrap())
        .collect();
    words.join(" ")
}

/// Parses arguments as the program does.
fn cli(words: &str) -> Cli {
    let arguments = words.split(' ').map(OsString::from);
    parse(normalize(
        [OsString::from("logctl")].into_iter().chain(arguments),
    ))
    .unwrap()
}

/// Runs the program in this crate's directory.
fn logctl(words: &[&str]) -> Output {
    Process::new(env!("CARGO_BIN_EXE_logctl"))
        .args(words)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_remove("CLICOLOR_FORCE")
        .env("COLUMNS", "100")
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[test]
fn the_old_form_is_rewritten() {
    let cases = [
        ("f readlog", "readlog f"),
        ("f readlog --all", "readlog f --all"),
        (
            "/mnt/f revert --count 2 --force",
            "revert /mnt/f --count 2 --force",
        ),
        ("--json f status", "--json status f"),
        ("--color always f status", "--color always status f"),
        ("--color=always f status", "--color=always status f"),
        ("./status revert", "revert ./status"),
        ("status revert", "status revert"),
        ("readlog readlog", "readlog readlog"),
        ("revert status --force", "revert status --force"),
        ("-- -f revert --count 2", "revert --count 2 -- -f"),
        ("-- status revert", "revert -- status"),
        ("f", "f"),
        ("f redo", "f redo"),
        ("readlog f", "readlog f"),
        ("help revert", "help revert"),
        ("--help", "--help"),
        ("--", "--"),
        ("--color", "--color"),
        ("-", "-"),
        ("- readlog", "readlog -"),
        ("-m /mnt f revert", "-m /mnt revert f"),
        ("--mount /mnt log", "--mount /mnt log"),
        ("undo -26", "undo --count=26"),
        ("undo -3 f -n", "undo --count=3 f -n"),
        ("f undo -3", "undo f --count=3"),
        ("undo -- -26", "undo -- -26"),
        ("undo -m -26", "undo -m -26"),
        ("redo -2 --force", "redo 2 --force"),
        ("log -n -3", "log -n -3"),
    ];
    for (given, expected) in cases {
        assert_eq!(normalized(given), expected, "{given}");
    }
}

#[test]
fn both_forms_mean_the_same() {
    let revert = Command::Revert {
        files: vec!["f".into()],
        selection: Selection::default(),
        count: 2,
        options: Options {
            force: true,
            ..Options::default()
        },
        partial: false,
        merge: false,
        flat: false,
        out: None,
    };
    assert_eq!(cli("f revert --count 2 --force").command, revert);
    assert_eq!(cli("revert --force f --count=2").command, revert);
    assert_eq!(cli("revert f g").command.files().len(), 2);
    let readlog = Command::Readlog {
        file: "f".into(),
        all: false,
    };
    assert_eq!(cli("f readlog").command, readlog);
    let cli = cli("f status --json --color never");
    assert_eq!(
        cli.command,
        Command::Status {
            file: Some("f".into()),
            limit: None
        }
    );
    assert!(cli.json == Some(1) && cli.color == Color::Never);
}

#[test]
fn usage_errors_exit_with_2() {
    let cases: [&[&str]; 9] = [
        &[],
        &["Cargo.toml"],
        &["Cargo.toml", "redo"],
        &["revert"],
        &["revert", "Cargo.toml", "--count", "0"],
        &["revert", "Cargo.toml", "--count", "2147483648"],
        &["revert", "Cargo.toml", "--count", "x"],
        &["readlog", "Cargo.toml", "--color", "blue"],
        &["Cargo.toml", "readlog", "more"],
    ];
    for words in cases {
        let output = logctl(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert_eq!(stdout(&output), "", "{words:?}");
        assert!(!stderr(&output).is_empty(), "{words:?}");
    }
}

/// A word after `--json` is a word of its own; a version follows `=`.
#[test]
fn the_version_of_records_is_chosen() {
    for (words, version) in [
        ("log", None),
        ("--json log", Some(1)),
        ("log --json", Some(1)),
        ("--json=1 log", Some(1)),
        ("log --json=1", Some(1)),
        ("log --json 5", Some(1)),
        ("f log --json=1", Some(1)),
    ] {
        let cli = cli(words);
        assert_eq!(cli.json, version, "{words}");
        assert_eq!(cli.command.name(), "log", "{words}");
    }
    assert_eq!(cli("log --json 5").command.files(), ["5"].map(Path::new));
    let unknown: [&[&str]; 4] = [
        &["--json=2", "config"],
        &["config", "--json=2"],
        &["--json=", "config"],
        &["--json=one", "config"],
    ];
    for words in unknown {
        let output = logctl(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        let known = format!(
            "logctl {} knows these versions of the records: 1\n",
            env!("CARGO_PKG_VERSION")
        );
        assert!(stderr(&output).contains(&known), "{}", stderr(&output));
        // The error itself is a record of the newest version.
        let record = stdout(&output);
        assert!(
            record.starts_with(r#"{"v":1,"type":"error""#) && record.lines().count() == 1,
            "{record}"
        );
    }
    let (one, newest) = (
        logctl(&["--json=1", "config"]),
        logctl(&["config", "--json"]),
    );
    assert_eq!(stdout(&one), stdout(&newest));
    assert!(stdout(&one).starts_with(r#"{"v":1,"#), "{}", stdout(&one));
}

#[test]
fn the_schema_is_printed_as_it_is() {
    let text = include_str!("../../docs/logctl.schema.json");
    let output = logctl(&["schema"]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), text));
    let output = logctl(&["schema", "--json"]);
    let record: serde_json::Value = serde_json::from_str(stdout(&output)).unwrap();
    let schema: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(record["schema"], schema);
    assert_eq!(
        (&record["v"], &record["type"]),
        (&1.into(), &"schema".into())
    );
    assert_eq!(stdout(&output).lines().count(), 1);
}

/// No other command is proposed: it might change data.
#[test]
fn an_unknown_command_is_named_and_no_other() {
    for (words, name) in [
        (&["rever"][..], "'rever'"),
        (&["undo2", "--json"], "'undo2'"),
        (&["help", "und"], "'und'"),
        (&["Cargo.toml"], "'Cargo.toml'"),
        (&["a\u{1b}[2J"], r"$'a\x1b[2J'"),
    ] {
        let output = logctl(words);
        let expected = format!("error: there is no command {name}; `logctl help` lists all.\n");
        assert_eq!(stderr(&output), expected, "{words:?}");
        assert_eq!(output.status.code(), Some(2));
        let is_json = words.contains(&"--json");
        assert_eq!(stdout(&output).is_empty(), !is_json, "{words:?}");
    }
}

#[test]
fn help_and_version() {
    let version = logctl(&["--version"]);
    assert_eq!(
        stdout(&version),
        concat!("logctl ", env!("CARGO_PKG_VERSION"), "\n")
    );
    assert_eq!(version.status.code(), Some(0));
    let help = logctl(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert_eq!(stdout(&help), include_str!("help.txt"));
    // Of each command, one after another.
    let mut texts = String::new();
    let all = Cli::command();
    for command in all.get_subcommands().filter(|one| !one.is_hide_set()) {
        let help = logctl(&[command.get_name(), "--help"]);
        assert_eq!(help.status.code(), Some(0));
        assert!(stdout(&help).contains("--json"), "every command has --json");
        texts += &format!(
            "$ logctl {} --help\n{}\n",
            command.get_name(),
            stdout(&help)
        );
    }
    assert_eq!(texts, include_str!("help-commands.txt"));
}

#[test]
fn elsewhere_is_not_a_loggerfs_mount() {
    for words in [
        ["Cargo.toml", "readlog"],
        ["status", "Cargo.toml"],
        ["src", "readlog"],
    ] {
        let output = logctl(&words);
        assert_eq!(
            output.status.code(),
            Some(10),
            "{words:?}: {}",
            stderr(&output)
        );
        assert_eq!(stdout(&output), "");
        assert!(stderr(&output).contains("is not on a LoggerFS mount"));
        assert!(stderr(&output).contains("Hint: use the path below the mount"));
    }
    let output = logctl(&["tests/help.txt", "revert", "--color=always"]);
    assert_eq!(output.status.code(), Some(10));
    assert!(stderr(&output).contains("\u{1b}["), "in colour");
}

#[test]
fn errors_are_json_on_request() {
    let output = logctl(&["--json", "Cargo.toml", "readlog"]);
    assert_eq!(output.status.code(), Some(10));
    assert!(stderr(&output).starts_with("error: 'Cargo.toml' is not on a LoggerFS mount\n"));
    assert_eq!(stdout(&output).lines().count(), 1);
    let error: serde_json::Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(error["v"], 1);
    assert_eq!(error["type"], "error");
    assert_eq!(error["command"], "readlog");
    assert_eq!(error["path"], "Cargo.toml");
    assert_eq!(error["reason"], "NotLoggerFs");
    assert_eq!(error["exit"], 10);
    // Usage errors, and those of `run`, too.
    let schema = schema::Schema::strict();
    for (words, code, command) in [
        (
            &["--json", "revert", "f", "--count", "0"][..],
            2,
            Some("revert"),
        ),
        (&["nosuch", "--json"], 2, None),
        (&["--json"], 2, None),
        (&["--json", "run"], 2, Some("run")),
        (&["run", "--json", "--", "true"], 125, Some("run")),
        (&["run", "--json", "--ask", "--", "true"], 5, Some("run")),
        (&["--json", "status", "no such file"], 1, Some("status")),
    ] {
        let output = logctl(words);
        assert_eq!(output.status.code(), Some(code), "{words:?}");
        let said = stdout(&output);
        assert_eq!(schema.check(said.trim_end()), Ok("error"), "{words:?}");
        let error: serde_json::Value = serde_json::from_str(said).unwrap();
        assert_eq!(
            (&error["exit"], error["command"].as_str()),
            (&code.into(), command)
        );
        assert!(
            !error["message"].as_str().unwrap().contains("Usage"),
            "{error}"
        );
        assert!(!stderr(&output).is_empty());
    }
    // That one is an option of the other program.
    let output = logctl(&["run", "--keep", "--ask", "true", "--json"]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(2), ""));
}

/// By NO_COLOR, which counts more than CLICOLOR_FORCE, and less than the option.
#[test]
fn colour_can_be_turned_off() {
    for (words, no_color, is_colored) in [
        (&["status", "no such file"][..], false, true),
        (&["status", "no such file"], true, false),
        (&["status", "no such file", "--color=always"], true, true),
        (&["status", "no such file", "--color=never"], false, false),
        (&["nosuch"], false, true),
        (&["nosuch"], true, false),
        (&["status", "--nosuch"], false, true),
        (&["status", "--nosuch"], true, false),
    ] {
        let mut process = Process::new(env!("CARGO_BIN_EXE_logctl"));
        process.args(words).env("CLICOLOR_FORCE", "1");
        match no_color {
            true => process.env("NO_COLOR", "1"),
            false => process.env_remove("NO_COLOR"),
        };
        let output = process.output().unwrap();
        let is_found = stderr(&output).contains('\u{1b}');
        assert_eq!(is_found, is_colored, "{words:?} {no_color}");
    }
}

#[test]
fn a_file_that_is_not_there() {
    let output = logctl(&["no such\nfile", "revert"]);
    assert_eq!(output.status.code(), Some(1));
    let expected = "error: cannot open $'no such\\x0afile': No such file or directory\n";
    assert_eq!(stderr(&output), expected);
}

#[test]
fn ioctl_numbers_are_the_kernels() {
    // As `_IOWR('L', n, struct)` gives them in C.
    assert_eq!(uapi::IOC_REVERT_SOME, 0xc028_4c01);
    assert_eq!(uapi::IOC_READLOG, 0xc028_4c02);
    assert_eq!(uapi::IOC_STATUS, 0xc0c8_4c03);
    for reason in uapi::Reason::ALL {
        assert_eq!(uapi::Reason::from_code(reason.code()), Some(*reason));
    }
    assert_eq!(uapi::Reason::from_code(0), None);
}

#[test]
fn requests_are_checked() {
    let revert = uapi::Revert {
        version: uapi::VERSION,
        ..uapi::Revert::default()
    };
    assert!(revert.is_valid());
    let bad = [
        uapi::Revert {
            version: 2,
            ..revert
        },
        uapi::Revert { flags: 4, ..revert },
        uapi::Revert {
            count: uapi::MAX_COUNT + 1,
            ..revert
        },
        uapi::Revert {
            inside: 1,
            ..revert
        },
    ];
    assert!(bad.iter().all(|request| !request.is_valid()));
    let read = uapi::ReadLog {
        version: uapi::VERSION,
        flags: uapi::ReadLog::ALL,
        length: 4096,
        ..uapi::ReadLog::default()
    };
    assert!(read.is_valid());
    assert!(!uapi::ReadLog {
        length: 4095,
        ..read
    }
    .is_valid());
    assert!(!uapi::ReadLog { flags: 2, ..read }.is_valid());
    assert!(!uapi::ReadLog {
        cursor_segment: u64::MAX,
        ..read
    }
    .is_valid());
}
