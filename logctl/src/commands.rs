// SPDX-License-Identifier: MIT OR Apache-2.0

//! What each command does.

mod readlog;
mod revert;
mod status;
mod undo;

use std::path::Path;
use std::process::ExitCode;

use crate::cli::{Cli, Command};
use crate::error::Error;
use crate::json;
use crate::object::{File, Object};
use crate::output::Output;
use crate::uapi::Revert;

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
    let codes: Vec<u8> = (cli.command.files().iter())
        .map(|path| {
            let result = match &cli.command {
                Command::Undo { .. } => undo::run(path, &mut output),
                command => open(command, path)
                    .and_then(|mut file| execute(command, path, &mut file, &mut output)),
            };
            conclude(&cli.command, path, result, &mut output)
        })
        .collect();
    ExitCode::from(in_all(&codes))
}

/// The exit code for all files: the one they share, or that of a job done in part.
fn in_all(codes: &[u8]) -> u8 {
    let failed = codes.iter().find(|code| **code != 0).copied().unwrap_or(0);
    if codes.contains(&0) && failed != 0 {
        return PARTLY;
    }
    failed
}

/// Done for some of the files; standard error names the others.
const PARTLY: u8 = 3;

fn open(command: &Command, path: &Path) -> Result<File, Error> {
    match command {
        Command::Revert { .. } => File::open_to_change(path),
        _ => File::open_to_look(path),
    }
}

/// Executes a command on an open file.
pub fn execute(
    command: &Command,
    path: &Path,
    object: &mut impl Object,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    match command {
        Command::Readlog { all, .. } => readlog::run(object, path, *all, output),
        Command::Revert {
            count, force, flat, ..
        } => {
            let force = if *force { Revert::FORCE } else { 0 };
            let deep = if *flat { 0 } else { Revert::DEEP };
            revert::run(object, path, *count, force | deep, output)
        }
        Command::Undo { .. } => undo::of_object(object, path, output),
        Command::Status { .. } => status::run(object, path, output),
    }
}

/// Says what went wrong with a file, if anything, and returns the exit code for it.
pub fn conclude(
    command: &Command,
    path: &Path,
    result: Result<(), Error>,
    output: &mut Output<'_>,
) -> u8 {
    let Err(error) = result.and_then(|()| output.finish()) else {
        return 0;
    };
    if error.exit_code() != 0 {
        output.error(&error);
    }
    if output.json && !matches!(error, Error::Output(_)) {
        // The exit code and standard error say it, too.
        let _ = output.object(&json::error(command.name(), path, &error));
        let _ = output.finish();
    }
    error.exit_code()
}
