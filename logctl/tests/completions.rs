// SPDX-License-Identifier: MIT OR Apache-2.0

//! The scripts of `completions`, and the values that they ask for.

#[path = "support/mount.rs"]
mod mount;

use std::process::Command as Process;

use clap::CommandFactory;
use logctl::cli::Cli;
use logctl::commands::completions::{script, Shell};
use mount::{history, run, Kernel};

#[test]
fn values_of_the_mount() {
    let (mut kernel, mut files) = history();
    files.is_looking = true;
    let cases = [
        (
            "operations",
            "8\t10s ago  bash (redirect)\n6\t26m ago  vim notes\n5\t58m ago  rm -rf src\n2\t59m ago  cp x notes\n",
        ),
        ("operations 6", "6\t26m ago  vim notes\n"),
        ("operations #6", "#6\t26m ago  vim notes\n"),
        ("operations 2..6", "2..6\t26m ago  vim notes\n"),
        ("operations 6..", "6..8\t10s ago  bash (redirect)\n6..6\t26m ago  vim notes\n"),
        ("operations x", ""),
        ("points 5", "5\t58m ago  rm -rf src\n"),
        (
            "points @",
            "@-\tbefore 8  bash (redirect)\n@~2\tbefore 6  vim notes\n@~3\tbefore 5  rm -rf src\n@~4\tbefore 2  cp x notes\n",
        ),
        ("deleted /m/", "/m/src/\tdeleted 58m ago  rm -rf src\n"),
        ("deleted /m/s", "/m/src/\tdeleted 58m ago  rm -rf src\n"),
        ("deleted /m/no", ""),
        (
            "deleted /m/src/",
            "/m/src/b\tdeleted 58m ago  rm -rf src\n/m/src/a\tdeleted 58m ago  rm -rf src\n",
        ),
        ("deleted /m/never/", ""),
        ("deleted /elsewhere/", ""),
    ];
    for (words, expected) in cases {
        let (code, said, complaint) = run(&mut kernel, &files, &format!("complete-values {words}"));
        assert_eq!((code, complaint.as_str()), (0, ""), "{words}");
        assert_eq!(said, expected, "{words}");
    }
    let (_, said, _) = run(&mut kernel, &files, "complete-values points");
    assert!(
        said.starts_with("@-\tbefore 8  bash (redirect)\n8\t10s ago"),
        "{said}"
    );
}

/// A name that a terminal would obey, or that is no text, is not offered.
#[test]
fn names_that_cannot_be_typed_are_left_out() {
    let (mut kernel, mut files) = history();
    files.is_looking = true;
    for name in ["a%09b", "a%0Ab", "a%1B[2J", "%FF", "fine"] {
        let keys =
            format!("name={name} node=9.1 kept=1 undo=none pid=60@6.0 uid=1000 args=rm%00{name}");
        kernel.line(3591, "1.1", "/bin/rm unlink 0 0", &keys);
    }
    let (_, said, _) = run(&mut kernel, &files, "complete-values deleted /m/");
    let names: Vec<&str> = said
        .lines()
        .filter_map(|line| line.split('\t').next())
        .collect();
    assert_eq!(names, ["/m/fine", "/m/src/"]);
    assert!(!said.contains('\u{1b}'));
}

/// A user waits for the values at a key.
#[test]
fn a_bounded_part_of_the_history_is_read() {
    let (_, files) = history();
    let mut kernel = Kernel::new();
    for at in 0..20 {
        kernel.line(
            at * 10,
            "1.1",
            "/bin/x create 0 0",
            &format!("name=f{at} node=4{at}.1 undo=none pid=5{at}@3.0"),
        );
        kernel.next_segment();
    }
    let (_, said, _) = run(&mut kernel, &files, "complete-values operations");
    let lines = said.lines().count();
    // One segment a step.
    assert!((1..=9).contains(&lines), "{said}");
}

#[test]
fn scripts_have_all_visible_commands() {
    let cli = Cli::command();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let script = script(shell);
        for command in cli.get_subcommands() {
            let name = command.get_name();
            if name == "complete-values" {
                continue;
            }
            assert!(script.contains(name), "{shell:?}: {name}");
        }
        assert!(
            !script.contains("values that the scripts"),
            "the hidden command is described"
        );
    }
    let zsh = script(Shell::Zsh);
    for borrowed in ["_urls'", "_email_addresses'", "_hosts'"] {
        assert!(!zsh.contains(borrowed), "{borrowed}");
    }
    for (action, number) in [("_operations'", 7), ("_points'", 4), ("_deleted'", 3)] {
        assert_eq!(
            zsh.matches(&format!(":_logctl{action}")).count(),
            number,
            "{action}"
        );
    }
}

/// Each shell that is installed here parses its script.
#[test]
fn scripts_parse() {
    let dir = std::env::temp_dir().join(format!("logctl-completions-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    for (shell, name) in [
        (Shell::Bash, "bash"),
        (Shell::Zsh, "zsh"),
        (Shell::Fish, "fish"),
    ] {
        let path = dir.join(name);
        std::fs::write(&path, script(shell)).unwrap();
        match Process::new(name).arg("-n").arg(&path).output() {
            Ok(output) => assert!(
                output.status.success() && output.stderr.is_empty(),
                "{name}: {output:?}"
            ),
            Err(_) => eprintln!("{name} is not installed"),
        }
    }
    std::fs::remove_dir_all(dir).unwrap();
}

/// The function of the bash script, with a logctl that prints its arguments.
#[test]
fn bash_asks_for_the_right_values() {
    let script = script(Shell::Bash);
    let cases = [
        ("undo|", "<complete-values operations -- >"),
        (
            "-m|/m|undo|1",
            "<--mount /m complete-values operations -- 1>",
        ),
        (
            "--mount|=|/m|undo|1",
            "<--mount /m complete-values operations -- 1>",
        ),
        (
            "--color|never|diff|1..",
            "<complete-values operations -- 1..>",
        ),
        ("f|undo|", "<complete-values operations -- >"),
        ("undo|no-such-file", ""),
        ("restore|f|--to|", "<complete-values points -- >"),
        ("restore|--to|=|14", "<complete-values points -- 14>"),
        ("restore|--to|@|~", "complete-values points -- @~>"),
        ("restore|--to|=|@|~", "complete-values points -- @~>"),
        ("log|--open|", "<complete-values operations -- >"),
        ("log|-n|", ""),
        ("log|--by|", ""),
        ("mount-past|", "<complete-values points -- >"),
        ("mount-past|5|no-such-dir", ""),
        ("cat|no-such", "<complete-values deleted -- no-such>"),
        ("cat|\"no such", "<complete-values deleted -- no such>"),
        ("und", "undo"),
        ("--col", "--color"),
        ("show|--di", "--diff"),
        ("completions|f", "fish"),
    ];
    for (words, expected) in cases {
        let mut words: Vec<String> = words.split('|').map(str::to_owned).collect();
        words.insert(0, "logctl".into());
        let last = words.len() - 1;
        let array: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let line = format!(
            "logctl() {{ printf '<%s>\\t\\n' \"$*\"; }}\n{script}\nCOMP_WORDS=({}); COMP_CWORD={last}\n\
            _logctl_completion logctl '{}' '{}'; printf '%s' \"${{COMPREPLY[*]}}\"",
            array.join(" "),
            words[last],
            words[last - 1]
        );
        let output = Process::new("bash").args(["-uc", &line]).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            said,
            expected,
            "{words:?}: {:?}",
            String::from_utf8(output.stderr)
        );
    }
}
