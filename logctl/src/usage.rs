// SPDX-License-Identifier: MIT OR Apache-2.0

//! The answer to a command line that is not run: help, the version, or a usage error.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::CommandFactory;

use crate::cli::{wanted_color, Cli};
use crate::error::Error;
use crate::json;
use crate::output::Output;
use crate::screen::{self, Screen};

/// The exit code of usage errors.
const USAGE: u8 = 2;

/// The error for a word that is no command. clap's would propose the most similar one, also one that changes
/// data.
fn no_such_command(error: &clap::Error) -> Option<Error> {
    match (error.kind(), error.get(ContextKind::InvalidSubcommand)) {
        (ErrorKind::InvalidSubcommand, Some(ContextValue::String(name))) => {
            let name = name.clone();
            Some(Error::NoSuchCommand { name })
        }
        _ => None,
    }
}

/// Whether `--json` is among the arguments of logctl itself.
fn wants_json(arguments: &[OsString]) -> bool {
    let mut is_run = false;
    for word in arguments.iter().skip(1).map(|word| word.to_str()) {
        match word {
            Some("--json") => return true,
            Some(option) if option.starts_with("--json=") => return true,
            Some("--") => return false,
            Some("run") if !is_run => is_run = true,
            Some(option) if option.starts_with('-') => {}
            // From here on the words are those of another program.
            _ if is_run => return false,
            _ => {}
        }
    }
    false
}

/// Prints a usage error as JSON, too.
fn print_json(error: &clap::Error, arguments: &[OsString]) {
    let message = match (no_such_command(error), error.kind()) {
        (Some(error), _) => error.to_string(),
        (None, ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand) => {
            "no command was given".into()
        }
        (None, _) => error.render().to_string(),
    };
    let message = message.split("\n\n").next().unwrap_or_default();
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let cli = Cli::command();
    let given = arguments.iter().find_map(|word| {
        let mut all = cli.get_subcommands();
        all.find(|command| *word == command.get_name())
    });
    let command = given.map(clap::Command::get_name);
    let object = json::usage(command, message.trim_end(), USAGE);
    let (mut stdout, mut none) = (std::io::stdout(), std::io::sink());
    let mut output = Output::new(&mut stdout, &mut none, true);
    // Standard error and the exit code report the error as well.
    let _ = output.object(&object).and_then(|()| output.finish());
}

/// Prints help, the version or a usage error, which may quote `arguments`.
pub fn answer(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    if error.use_stderr() && wants_json(arguments) {
        print_json(error, arguments);
    }
    if let Some(error) = no_such_command(error) {
        let color = wanted_color(arguments).unwrap_or_default().choice();
        let (mut none, stderr) = (std::io::sink(), std::io::stderr());
        let mut messages = anstream::AutoStream::new(stderr, color);
        Output::new(&mut none, &mut messages, false).error(&error);
        return ExitCode::from(error.exit_code());
    }
    let is_plain = |word: &OsString| word.to_str().is_some_and(screen::is_plain);
    // Nothing is to be done where even this cannot be printed.
    let _ = if arguments.iter().all(is_plain) || !error.use_stderr() {
        error.print()
    } else {
        let text = error.render().to_string();
        Screen::new(&mut std::io::stderr()).print(text.as_bytes())
    };
    ExitCode::from(if error.use_stderr() { USAGE } else { 0 })
}
