// SPDX-License-Identifier: MIT OR Apache-2.0

//! The command line.
//!
//! `logctl COMMAND …` is the form. `logctl FILE COMMAND …` is rewritten to this form before
//! parsing, so that a new command has to support one form only.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::commands::mount_past::MountPast;
use crate::error::Error;
use crate::output::Output;
use crate::process::ProcessSpec;
use crate::screen::{self, Screen};
use crate::uapi::MAX_COUNT;

/// Shows the history that LoggerFS recorded, and takes operations back.
#[derive(Debug, Parser)]
#[command(
    name = "logctl",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    override_usage = "logctl [OPTIONS] COMMAND …\n       logctl [OPTIONS] FILE COMMAND …",
    after_help = "`logctl FILE readlog`, `logctl FILE revert` and so on mean the same as with the command first.\n\nExit codes: 0 done, 1 failed and nothing changed, 2 usage, 3 done in part, 4 refused: later \
        operations are in the way, or the \
        content is not what the log says, 10 not on a LoggerFS mount, 11 busy, 130 interrupted."
)]
pub struct Cli {
    /// Write JSON, one object a line.
    #[arg(long, global = true)]
    pub json: bool,

    /// When to use colour: auto, always or never.
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        value_enum,
        default_value_t,
        hide_possible_values = true
    )]
    pub color: Color,

    /// The mount; otherwise the one that holds the path given, or the current directory.
    #[arg(short, long, global = true, value_name = "MOUNT")]
    pub mount: Option<PathBuf>,

    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Which operations are meant. Several options narrow the choice.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Those of programs or scripts of this name.
    #[arg(long, value_name = "COMMAND", help_heading = "Selection")]
    pub by: Option<String>,

    /// Those of the process with this number; where several had the number, with its start:
    /// 812@1763639000.25.
    #[arg(long, value_name = "PID[@START]", help_heading = "Selection")]
    pub pid: Option<ProcessSpec>,

    /// Those of a process and its descendants.
    #[arg(long, value_name = "PID[@START]", help_heading = "Selection")]
    pub tree: Option<ProcessSpec>,

    /// Those of a user.
    #[arg(long, value_name = "USER", help_heading = "Selection")]
    pub user: Option<String>,

    /// Those of a session (its leader's process number).
    #[arg(long, value_name = "SID", help_heading = "Selection")]
    pub session: Option<u32>,

    /// Those not before a time: 10m, '2h ago', 14:05, 'yesterday 9am', RFC 3339.
    #[arg(long, value_name = "TIME", help_heading = "Selection")]
    pub since: Option<String>,

    /// Those not after a time.
    #[arg(long, value_name = "TIME", help_heading = "Selection")]
    pub until: Option<String>,

    /// Those on paths that match: `*.rs`, `web/**`.
    #[arg(long, value_name = "GLOB", help_heading = "Selection")]
    pub path: Option<String>,

    /// Of these, the newest N actions.
    #[arg(long, value_name = "N", help_heading = "Selection")]
    pub last: Option<usize>,

    /// Those between open and close of the file that operation OP was done through.
    #[arg(long, value_name = "OP", help_heading = "Selection")]
    pub open: Option<u64>,

    /// Operations instead of actions.
    #[arg(long)]
    pub ops: bool,
}

impl Selection {
    /// Whether nothing is chosen.
    pub fn is_empty(&self) -> bool {
        let any = Self {
            ops: self.ops,
            ..Self::default()
        };
        *self == any
    }
}

/// How something is taken back.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Only print the plan.
    #[arg(short = 'n', long)]
    pub dry_run: bool,

    /// Also revert files that were changed outside LoggerFS.
    #[arg(long)]
    pub force: bool,

    /// Do not save the replaced content, which a redo would need: for a full disk.
    #[arg(long)]
    pub no_redo: bool,
}

/// Whether the changes of a command are kept. Without an option: ask on a terminal, otherwise keep them.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[group(multiple = false)]
pub struct RunOptions {
    /// Ask; without a terminal nothing is run.
    #[arg(long)]
    pub ask: bool,

    /// Keep them.
    #[arg(long)]
    pub keep: bool,

    /// Ask on a terminal, otherwise keep them, as without an option.
    #[arg(long)]
    pub auto: bool,

    /// Take them back if the command fails, otherwise keep them.
    #[arg(long)]
    pub rollback_on_failure: bool,
}

/// How differences are shown.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiffOptions {
    /// Only how many lines of each file were added and removed.
    #[arg(long)]
    pub stat: bool,

    /// Only the names of the files.
    #[arg(long)]
    pub name_only: bool,

    /// End with exit code 1 if there are differences.
    #[arg(long)]
    pub exit_code: bool,
}

/// The commands.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Show the lines of a file's operations, oldest first.
    Readlog {
        /// The file, on a LoggerFS mount.
        file: PathBuf,

        /// Also lines that are not live, and the history's own.
        #[arg(long)]
        all: bool,
    },

    /// Show the actions, the newest first. An action is all that one command did at once.
    Log {
        /// OP, A..B or @~N: actions, as `log` numbers them. Others are files and directories;
        /// otherwise the whole mount.
        #[arg(value_name = "OP|PATH")]
        paths: Vec<PathBuf>,

        /// How many to show.
        #[arg(short = 'n', value_name = "N")]
        limit: Option<usize>,

        /// Also the processes of each action, and the changes of each.
        #[arg(short, long, conflicts_with_all = ["ops", "stat", "patch"])]
        processes: bool,

        /// Also how many lines of each file each action added and removed.
        #[arg(long, conflicts_with_all = ["ops", "patch"])]
        stat: bool,

        /// Also the changes of each action in files, as `diff` shows them.
        #[arg(short = 'P', long, conflicts_with = "ops")]
        patch: bool,

        /// Which of them.
        #[command(flatten)]
        selection: Selection,
    },

    /// Show an action: its command, and each of its operations.
    Show {
        /// Its number, any of its operations', or @, @-, @~3.
        #[arg(value_name = "OP", default_value = "@")]
        op: String,

        /// Also its changes in files, as `diff` shows them.
        #[arg(short, long)]
        diff: bool,
    },

    /// Run a command, report its changes, and ask whether to keep them. The exit code is the command's, or
    /// 125 if logctl fails.
    Run {
        /// Whether its changes are kept.
        #[command(flatten)]
        options: RunOptions,

        /// The command and its arguments.
        #[arg(
            value_name = "CMD",
            required = true,
            trailing_var_arg = true,
            allow_hyphen_values = true
        )]
        words: Vec<OsString>,
    },

    /// Take chosen operations back, and keep later ones. Of files alone: the newest operations of
    /// each; a second revert goes further back.
    Revert {
        /// OP, A..B or @~N: operations, as `log` numbers them. Others are files and directories: with a
        /// selection, only operations there.
        #[arg(value_name = "OP|FILE")]
        files: Vec<PathBuf>,

        /// Which of them.
        #[command(flatten)]
        selection: Selection,

        /// How many operations of each file to take back.
        #[arg(long, value_name = "N", default_value_t = 1,
            value_parser = clap::value_parser!(u64).range(1..=MAX_COUNT))]
        count: u64,

        /// How.
        #[command(flatten)]
        options: Options,

        /// Leave out operations that conflict with later ones, and do the rest.
        #[arg(long)]
        partial: bool,

        /// Bring removed directories back empty, without the entries that the same process removed
        /// from them before.
        #[arg(long)]
        flat: bool,
    },

    /// Take the last action of this terminal's session back: all that one command did at once. Of a file or
    /// directory, the last action on it, by any session: also a save that renamed a new file to the name, or
    /// its deletion. A second undo goes further back.
    Undo {
        /// OP, A..B or @~N: the actions to take back, as `log` numbers them. Others are files and
        /// directories: only the operations there.
        #[arg(value_name = "OP|FILE")]
        files: Vec<PathBuf>,

        /// How.
        #[command(flatten)]
        options: Options,

        /// How many of the newest actions; -3 is short for --count 3.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_COUNT))]
        count: Option<u64>,

        /// The newest actions of all sessions.
        #[arg(long, conflicts_with = "files")]
        any: bool,
    },

    /// Do an undone action again.
    Redo {
        /// How many actions; -3 is the same as 3.
        #[arg(value_name = "N", default_value_t = 1)]
        count: usize,

        /// How.
        #[command(flatten)]
        options: Options,
    },

    /// Bring files, directories or the whole mount back to how they were at a point.
    Restore {
        /// An operation's number, @- or @~3 (so many actions back), or a time: 10m, '2h ago', 14:05.
        #[arg(long, value_name = "POINT")]
        to: String,

        /// Files and directories, also those that are gone; otherwise the whole mount.
        #[arg(value_name = "PATH")]
        paths: Vec<PathBuf>,

        /// How.
        #[command(flatten)]
        options: Options,

        /// Leave out operations that cannot be taken back, and do the rest.
        #[arg(long)]
        partial: bool,

        /// Leave the mount as it is, and write copies into this directory: of each PATH under its own name,
        /// with mode and times, and for root with owners. Nothing there is replaced.
        #[arg(short, long, value_name = "DIR", conflicts_with_all = ["dry_run", "force", "no_redo", "partial"])]
        out: Option<PathBuf>,
    },

    /// Print the content that a file had, also of one that is gone.
    Cat {
        /// The file.
        file: PathBuf,

        /// When: an operation's number, @- or @~3 (so many actions back), or a time: 10m, '2h ago', 14:05.
        #[arg(long, value_name = "POINT")]
        at: Option<String>,

        /// Write it to this new file instead.
        #[arg(short, long, value_name = "FILE")]
        out: Option<PathBuf>,
    },

    /// List the versions of a file, the newest first: after which action, and by whom.
    Versions {
        /// The file, also one that is gone.
        file: PathBuf,

        /// How many at most.
        #[arg(short = 'n', value_name = "N", default_value_t = 20)]
        limit: usize,
    },

    /// Show which action wrote each line of a file last: when, who, by which command. Of a file that is no
    /// text, each range of bytes.
    Blame {
        /// The file.
        file: PathBuf,

        /// When: an operation's number, @- or @~3 (so many actions back), or a time; otherwise now.
        #[arg(long, value_name = "POINT")]
        at: Option<String>,
    },

    /// Show the changes of an action in files, or the differences between two points.
    Diff {
        /// OP or @~N: the changes of that action. A..B: the differences between two points; A.. and a time: up
        /// to now. Others are files and directories: only there.
        #[arg(value_name = "POINT|PATH")]
        words: Vec<PathBuf>,

        /// How.
        #[command(flatten)]
        options: DiffOptions,
    },

    /// List deleted files that can come back.
    Deleted {
        /// Below this directory; otherwise on the whole mount.
        dir: Option<PathBuf>,

        /// How many at most.
        #[arg(short = 'n', value_name = "N")]
        limit: Option<usize>,
    },

    /// Mount a read-only view of the whole mount as it was, for ls, grep -r, diff -r, cp -a. Until it is
    /// unmounted, a process serves it in the background, and the mount itself is busy.
    MountPast(MountPast),

    /// Show the state of a file and of the history of its mount.
    Status {
        /// The file, on a LoggerFS mount.
        file: PathBuf,
    },
}

impl Command {
    /// The command's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Readlog { .. } => "readlog",
            Self::Log { .. } => "log",
            Self::Show { .. } => "show",
            Self::Run { .. } => "run",
            Self::Revert { .. } => "revert",
            Self::Undo { .. } => "undo",
            Self::Redo { .. } => "redo",
            Self::Restore { .. } => "restore",
            Self::Cat { .. } => "cat",
            Self::Versions { .. } => "versions",
            Self::Blame { .. } => "blame",
            Self::Diff { .. } => "diff",
            Self::Deleted { .. } => "deleted",
            Self::MountPast(_) => "mount-past",
            Self::Status { .. } => "status",
        }
    }

    /// The files that the command was given.
    pub fn files(&self) -> &[PathBuf] {
        match self {
            Self::Readlog { file, .. }
            | Self::Status { file }
            | Self::Cat { file, .. }
            | Self::Versions { file, .. }
            | Self::Blame { file, .. } => core::slice::from_ref(file),
            Self::Deleted { dir, .. } => dir.as_slice(),
            // The first word may be a point.
            Self::Diff { words, .. } => match words.first() {
                Some(first) if !first.exists() => &words[1..],
                _ => words,
            },
            Self::Revert { files, .. } | Self::Undo { files, .. } => files,
            Self::Log { paths, .. } | Self::Restore { paths, .. } => paths,
            Self::Show { .. } | Self::Redo { .. } | Self::Run { .. } | Self::MountPast(_) => &[],
        }
    }
}

/// When to use colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Always => "always",
            Self::Never => "never",
        }
    }

    /// The choice in anstream's terms.
    pub fn choice(self) -> anstream::ColorChoice {
        match self {
            Self::Auto => anstream::ColorChoice::Auto,
            Self::Always => anstream::ColorChoice::Always,
            Self::Never => anstream::ColorChoice::Never,
        }
    }
}

/// Parses arguments that [`normalize`](crate::arguments::normalize) has seen.
pub fn parse(arguments: Vec<OsString>) -> Result<Cli, clap::Error> {
    // Help and errors are written before `--color` is known otherwise.
    let color = match wanted_color(&arguments) {
        Some(Color::Always) => clap::ColorChoice::Always,
        Some(Color::Never) => clap::ColorChoice::Never,
        _ => clap::ColorChoice::Auto,
    };
    let matches = Cli::command()
        .color(color)
        .try_get_matches_from(arguments)?;
    Cli::from_arg_matches(&matches)
}

/// The value of `--color`, found without parsing the rest.
fn wanted_color(arguments: &[OsString]) -> Option<Color> {
    let mut words = arguments.iter().skip(1).filter_map(|word| word.to_str());
    while let Some(word) = words.next() {
        match word {
            "--" => return None,
            "--color" => return Color::from_str(words.next()?, false).ok(),
            _ => {
                if let Some(value) = word.strip_prefix("--color=") {
                    return Color::from_str(value, false).ok();
                }
            }
        }
    }
    None
}

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

/// Prints help, the version or a usage error, which may quote `arguments`.
pub fn answer(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
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
    ExitCode::from(if error.use_stderr() { 2 } else { 0 })
}
