// SPDX-License-Identifier: MIT OR Apache-2.0

//! The command line: both forms, and the program itself where there is no LoggerFS.

use std::ffi::OsString;
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
        flat: false,
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
    assert_eq!(cli.command, Command::Status { file: "f".into() });
    assert!(cli.json && cli.color == Color::Never);
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
        assert_eq!((output.status.code(), stdout(&output)), (Some(2), ""));
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
    for command in Cli::command().get_subcommands() {
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
