// SPDX-License-Identifier: MIT OR Apache-2.0

//! `completions`: prints the script by which a shell completes command lines of logctl.
//!
//! clap_complete writes the part that the definition of the command line gives. Values of the mount (operations,
//! points, names of deleted files) come from `logctl complete-values`, which the scripts call.

use clap::{Arg, ArgAction, Command, CommandFactory, ValueEnum, ValueHint};
use clap_complete::{generate, shells};

use crate::cli::Cli;
use crate::error::Error;
use crate::json::JsonObject;
use crate::output::Output;

/// The shells that are supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU Bash.
    Bash,
    /// The Z shell.
    Zsh,
    /// The friendly interactive shell.
    Fish,
}

/// Arguments whose values the mount has, for the zsh script. clap_complete knows no functions of ours, so each
/// kind borrows a hint that logctl does not need otherwise, and its action is replaced in the script.
const VALUES: [(&str, &str, ValueHint); 14] = [
    ("show", "op", OPERATIONS),
    ("undo", "files", OPERATIONS),
    ("diff", "words", OPERATIONS),
    ("revert", "files", OPERATIONS),
    ("revert", "open", OPERATIONS),
    ("log", "paths", OPERATIONS),
    ("log", "open", OPERATIONS),
    ("restore", "to", POINTS),
    ("cat", "at", POINTS),
    ("blame", "at", POINTS),
    ("mount-past", "point", POINTS),
    ("restore", "paths", DELETED),
    ("cat", "file", DELETED),
    ("versions", "file", DELETED),
];
const OPERATIONS: ValueHint = ValueHint::Url;
const POINTS: ValueHint = ValueHint::EmailAddress;
const DELETED: ValueHint = ValueHint::Hostname;

/// The actions that clap_complete writes for these hints, and the functions of `completions/values.zsh`.
const ZSH_ACTIONS: [(&str, &str); 3] = [
    (":_urls'", ":_logctl_operations'"),
    (":_email_addresses'", ":_logctl_points'"),
    (":_hosts'", ":_logctl_deleted'"),
];

/// Prints the script.
pub fn run(shell: Shell, output: &mut Output<'_>) -> Result<(), Error> {
    let script = script(shell);
    if !output.json {
        return output.content(script.as_bytes());
    }
    let name = shell.to_possible_value();
    let name = name.map(|value| value.get_name().to_owned());
    let mut object = JsonObject::without_path("completions");
    object.put_known("shell", name).put("script", script);
    output.object(&object.into_value())
}

/// The script for a shell.
pub fn script(shell: Shell) -> String {
    let mut command = visible_commands();
    let mut bytes = Vec::new();
    match shell {
        Shell::Bash => generate(shells::Bash, &mut command, "logctl", &mut bytes),
        Shell::Zsh => generate(shells::Zsh, &mut command, "logctl", &mut bytes),
        Shell::Fish => generate(shells::Fish, &mut command, "logctl", &mut bytes),
    }
    let script = String::from_utf8_lossy(&bytes).into_owned();
    match shell {
        Shell::Bash => bash(&script, &command),
        Shell::Zsh => zsh(script),
        Shell::Fish => script + include_str!("completions/values.fish"),
    }
}

/// The definition of the command line without hidden commands.
fn visible_commands() -> Command {
    let cli = Cli::command();
    let mut command = Command::new("logctl")
        .version(env!("CARGO_PKG_VERSION"))
        .args(cli.get_arguments().map(without_version))
        .subcommands(cli.get_subcommands().filter(|c| !c.is_hide_set()).cloned());
    for (verb, argument, hint) in VALUES {
        command = command.mut_subcommand(verb, |verb| {
            verb.mut_arg(argument, |argument| argument.value_hint(hint))
        });
    }
    command
}

/// The option --json as one without a value: the scripts for bash and fish would take the next word for the value.
fn without_version(argument: &Arg) -> Arg {
    if argument.get_id() != "json" {
        return argument.clone();
    }
    let help = argument.get_help().cloned().unwrap_or_default();
    let flag = Arg::new("json").long("json").global(true).help(help);
    flag.action(ArgAction::SetTrue)
}

/// Without the registration of the generated function, which `completions/values.bash` wraps.
fn bash(script: &str, command: &Command) -> String {
    let end = script.find("\nif [[").map_or(script.len(), |end| end + 1);
    let names: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
    let values = include_str!("completions/values.bash");
    script[..end].to_owned() + &values.replace("COMMANDS", &names.join(" "))
}

/// With our functions ahead of all else: the shell runs the last lines of the file when it loads the file.
fn zsh(mut script: String) -> String {
    for (action, own) in ZSH_ACTIONS {
        script = script.replace(action, own);
    }
    let values = include_str!("completions/values.zsh");
    let head = "autoload -U is-at-least\n";
    script.replacen(head, &format!("{head}\n{values}"), 1)
}
