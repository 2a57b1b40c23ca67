// SPDX-License-Identifier: MIT OR Apache-2.0

//! `logctl`: shows the history that LoggerFS recorded, and takes operations back.

use std::path::Path;
use std::process::ExitCode;

use logctl::versions::is_on_own_mount;
use logctl::{arguments, cli, commands, usage};

fn main() -> ExitCode {
    let words = arguments::normalize(std::env::args_os());
    let words = arguments::or_overview(words, || is_on_own_mount(Path::new(".")));
    match cli::parse(words.clone()) {
        Ok(cli) => commands::run(&cli),
        Err(error) => usage::answer(&error, &words),
    }
}
