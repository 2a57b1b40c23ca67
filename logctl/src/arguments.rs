// SPDX-License-Identifier: MIT OR Apache-2.0

//! Forms of the command line that are rewritten before it is parsed: the file first, and counts of actions.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::CommandFactory;

use crate::cli::Cli;

/// The commands that may follow a file.
const OLD_VERBS: [&str; 11] = [
    "blame", "cat", "deleted", "diff", "log", "readlog", "restore", "revert", "status", "undo",
    "versions",
];

/// Global options that take the next argument as their value.
const WITH_VALUE: [&str; 3] = ["--color", "-m", "--mount"];

/// Rewrites `[OPTIONS] FILE VERB …` to `[OPTIONS] VERB FILE …`. A first word that is a command's
/// name is one; a file of such a name can be called `./status`.
pub fn normalize(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    count_actions(verb_first(arguments.into_iter().collect()))
}

/// Without any argument, in a directory of a mount: the mount's status and its newest actions.
pub fn or_overview(
    mut arguments: Vec<OsString>,
    is_on_mount: impl FnOnce() -> bool,
) -> Vec<OsString> {
    if arguments.len() == 1 && is_on_mount() {
        arguments.extend(["status", "-n", "3"].map(OsString::from));
    }
    arguments
}

/// Rewrites `FILE VERB` to `VERB FILE`.
fn verb_first(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let Some(at) = first_word(&arguments) else {
        return arguments;
    };
    let behind_dashes = arguments
        .get(at.wrapping_sub(1))
        .is_some_and(|word| word == "--");
    let (Some(file), Some(verb)) = (arguments.get(at), arguments.get(at + 1)) else {
        return arguments;
    };
    if !is_old_verb(verb) || (is_command(file) && !behind_dashes) {
        return arguments;
    }
    arguments.swap(at, at + 1);
    if behind_dashes {
        // `-- FILE VERB …` becomes `VERB … -- FILE`.
        let file = arguments.remove(at + 1);
        let dashes = arguments.remove(at - 1);
        arguments.extend([dashes, file]);
    }
    arguments
}

/// Rewrites `undo -3` to `undo --count=3`, and `redo -3` to `redo 3`.
fn count_actions(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let Some(at) = first_word(&arguments) else {
        return arguments;
    };
    let before = match arguments.get(at).and_then(|verb| verb.to_str()) {
        Some("undo") => "--count=",
        Some("redo") => "",
        _ => return arguments,
    };
    let mut is_value = false;
    for word in arguments
        .iter_mut()
        .skip(1)
        .take_while(|word| *word != "--")
    {
        let count = word.to_str().and_then(|word| word.strip_prefix('-'));
        let is_number =
            |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if let Some(count) = count.filter(is_number).filter(|_| !is_value) {
            *word = format!("{before}{count}").into();
        }
        is_value = WITH_VALUE.iter().any(|option| *word == *option);
    }
    arguments
}

/// The index of the first word that is neither an option nor the value of an option.
fn first_word(arguments: &[OsString]) -> Option<usize> {
    let mut at = 1;
    loop {
        let word = arguments.get(at)?;
        if word == "--" {
            return (at + 1 < arguments.len()).then_some(at + 1);
        }
        if WITH_VALUE.iter().any(|option| word == option) {
            at += 2;
        } else if word.as_bytes().starts_with(b"-") && word.len() > 1 {
            at += 1;
        } else {
            return Some(at);
        }
    }
}

/// Whether a word may follow a file.
fn is_old_verb(word: &OsStr) -> bool {
    OLD_VERBS.iter().any(|verb| word == *verb)
}

/// Whether a word names a command.
fn is_command(word: &OsStr) -> bool {
    word == "help"
        || Cli::command()
            .get_subcommands()
            .any(|command| word == command.get_name())
}
