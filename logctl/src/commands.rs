// SPDX-License-Identifier: MIT OR Apache-2.0

//! What each command does.

mod readlog;
mod revert;
mod status;

use std::process::ExitCode;

use crate::cli::{Cli, Command};
use crate::error::Error;
use crate::json;
use crate::object::{File, Object};
use crate::output::Output;

/// Runs what the command line asks for, and says how it went.
pub fn run(cli: &Cli) -> ExitCode {
    let color = cli.color.choice();
    let mut results = std::io::BufWriter::new(std::io::stdout().lock());
    let mut messages = anstream::AutoStream::new(std::io::stderr(), color);
    let mut output = Output {
        results: &mut results,
        messages: &mut messages,
        json: cli.json,
    };
    let opened = match &cli.command {
        Command::Revert { file, .. } => File::open_to_change(file),
        command => File::open_to_look(command.file()),
    };
    let result = opened.and_then(|mut file| execute(&cli.command, &mut file, &mut output));
    ExitCode::from(conclude(&cli.command, result, &mut output))
}

/// Executes a command on an open file.
pub fn execute(
    command: &Command,
    object: &mut impl Object,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    match command {
        Command::Readlog { file, all } => readlog::run(object, file, *all, output),
        Command::Revert { file, count, force } => revert::run(object, file, *count, *force, output),
        Command::Status { file } => status::run(object, file, output),
    }
}

/// Says what went wrong, if anything, and returns the exit code.
pub fn conclude(command: &Command, result: Result<(), Error>, output: &mut Output<'_>) -> u8 {
    let Err(error) = result.and_then(|()| output.finish()) else {
        return 0;
    };
    if error.exit_code() != 0 {
        output.error(&error);
    }
    if output.json && !matches!(error, Error::Output(_)) {
        // The exit code and standard error say it, too.
        let _ = output.object(&json::error(command.name(), command.file(), &error));
        let _ = output.finish();
    }
    error.exit_code()
}
