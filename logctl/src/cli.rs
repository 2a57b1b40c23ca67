// SPDX-License-Identifier: MIT OR Apache-2.0

//! The command line.
//!
//! `logctl COMMAND …` is the form. `logctl FILE COMMAND …` is rewritten to this form before
//! parsing, so that a new command has to support one form only.

mod options;
mod properties;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::commands::complete_values::CompleteValues;
use crate::commands::completions::Shell;
use crate::commands::mount_past::MountPast;
use crate::json;
use crate::uapi::MAX_COUNT;

pub use options::{DiffOptions, Options, RunOptions, Selection};

/// Shows the history that LoggerFS recorded, and takes operations back.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "logctl",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    override_usage = "logctl [OPTIONS] COMMAND …\n       logctl [OPTIONS] FILE COMMAND …",
    after_help = "`logctl FILE readlog`, `logctl FILE revert` and so on mean the same as with the command first.\n\nExit codes: 0 done, 1 failed and nothing changed, 2 usage, 3 done in part, 4 refused: later \
        operations are in the way, or the \
        content differs from the log's, 5 refused: a question has no terminal to be asked on, 10 not on \
        a LoggerFS mount, 11 busy, 125 logctl failed in `run`, 130 interrupted."
)]
pub struct Cli {
    /// Write JSON, one object a line. VERSION of the records: 1, the newest.
    #[arg(
        long,
        global = true,
        value_name = "VERSION",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "1",
        value_parser = json::version
    )]
    pub json: Option<u32>,

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

    /// Print long results at once, without `less` or the program that PAGER names.
    #[arg(long, global = true)]
    pub no_pager: bool,

    /// The mount; otherwise the one that holds the path given, or the current directory.
    #[arg(short, long, global = true, value_name = "MOUNT")]
    pub mount: Option<PathBuf>,

    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
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
        /// OP, A..B, @~N or RUN: actions, as `log` numbers them, or those of a named run. Others are files and
        /// directories; otherwise the whole mount.
        #[arg(value_name = "OP|PATH")]
        paths: Vec<PathBuf>,

        /// How many to show; 0: all. On a terminal 25, otherwise all, without this option.
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

        /// Also actions that only wrote locks, swap files of editors, or the index of git.
        #[arg(long)]
        all: bool,

        /// With --patch: changed words inside of lines, as `diff --word` shows them.
        #[arg(long, requires = "patch")]
        word: bool,

        /// Which of them.
        #[command(flatten)]
        selection: Selection,
    },

    /// List the process trees with their changes: each command with all that it started. A tree's name goes
    /// with --tree. A star marks those of this terminal's session.
    Who {
        /// OP, A..B, @~N or RUN: actions. Others are files and directories; otherwise the whole mount.
        #[arg(value_name = "OP|PATH")]
        paths: Vec<PathBuf>,

        /// Which operations count.
        #[command(flatten)]
        selection: Selection,
    },

    /// Show an action: its command, and each of its operations.
    Show {
        /// Its number, any of its operations', @, @-, @~3, or a run's name.
        #[arg(value_name = "OP", default_value = "@")]
        op: String,

        /// Also its changes in files, as `diff` shows them.
        #[arg(short, long)]
        diff: bool,

        /// With --diff: changed words inside of lines, as `diff --word` shows them.
        #[arg(long, requires = "diff")]
        word: bool,
    },

    /// Give the present place of the history a name that all commands accept: as a point (`--to NAME`,
    /// `--since NAME`), and in ranges (`NAME..`).
    Mark {
        /// A letter first, then also digits and - _ . +; at most 64 bytes, no number or time. A name may be given
        /// again: then the newest one is meant.
        name: String,

        /// A description, in one line.
        #[arg(short = 'M', long, value_name = "MESSAGE")]
        message: Option<String>,
    },

    /// List the marks and the named runs, the newest first.
    Marks,

    /// Run a command, report its changes, and ask whether to keep them. The exit code is the command's, or
    /// 125 if logctl fails.
    Run {
        /// A name for the operations of the command and of all that it starts: `undo`, `redo`, `revert`, `show`,
        /// `log` and `diff` accept the name.
        #[arg(long, value_name = "NAME")]
        name: Option<String>,

        /// Report also how many lines of each file were added and removed.
        #[arg(long)]
        stat: bool,

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
        /// OP, A..B, @~N or RUN: operations, as `log` numbers them, or those of a named run. Others are files and
        /// directories: with a selection, only operations there.
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

        /// As --partial, and take the operations out of text files that were changed later, line by line. Lines
        /// that a later change overlaps stay (exit 3); with --out they are marked in the copy.
        #[arg(long, conflicts_with_all = ["partial", "no_redo", "flat"])]
        merge: bool,

        /// Bring removed directories back empty, without the entries that the same process removed
        /// from them before.
        #[arg(long)]
        flat: bool,

        /// Leave the mount as it is, and write copies of the files that would change into this directory, as they
        /// would be then: each at its path, with its attributes. Nothing there is replaced.
        #[arg(short, long, value_name = "DIR", conflicts_with_all = ["dry_run", "force", "no_redo", "partial", "flat"])]
        out: Option<PathBuf>,
    },

    /// Take the last action of this terminal's session back: all that one command did at once. Of a file or
    /// directory, the last action on it, by any session: also a save that renamed a new file to the name, or
    /// its deletion. A second undo goes further back.
    Undo {
        /// OP, A..B, @~N or RUN: the actions to take back, as `log` numbers them, or a named run as a whole. Others
        /// are files and directories: only the operations there.
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

        /// Leave out operations that conflict with later ones, and take them out of text files line by line. Lines
        /// that a later change overlaps stay (exit 3); with --out they are marked in the copy. Such an undo is
        /// an operation like any other, as a revert is.
        #[arg(long, conflicts_with = "no_redo")]
        merge: bool,

        /// Leave the mount as it is, and write copies of the files that would change into this directory, as they
        /// would be then: each at its path, with its attributes. Nothing there is replaced.
        #[arg(short, long, value_name = "DIR", conflicts_with_all = ["dry_run", "force", "no_redo"])]
        out: Option<PathBuf>,
    },

    /// Do an undone action again.
    Redo {
        /// How many actions; -3 is the same as 3. Or the name of a run that was undone.
        #[arg(value_name = "N|RUN", default_value = "1")]
        what: String,

        /// How.
        #[command(flatten)]
        options: Options,
    },

    /// Bring files, directories or the whole mount back to how they were at a point.
    Restore {
        /// An operation's number, @- or @~3 (so many actions back), a time (10m, '2h ago', 14:05), or a mark's
        /// name.
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

        /// When: an operation's number, @- or @~3 (so many actions back), a time (10m, '2h ago', 14:05), or a
        /// mark's name.
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

        /// When: an operation's number, @- or @~3 (so many actions back), a time, or a mark's name; otherwise
        /// now.
        #[arg(long, value_name = "POINT")]
        at: Option<String>,
    },

    /// Show the changes of an action in files, or the differences between two points.
    Diff {
        /// OP, @~N or RUN: the changes of that action or named run. A..B: the differences between two points; A..,
        /// a time and a mark: up to now. Others are files and directories: only there.
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

        /// Only the names, below the root of the mount, each ended by a NUL byte: for `xargs -0`.
        #[arg(short = '0', long)]
        null: bool,

        /// How many at most.
        #[arg(short = 'n', value_name = "N")]
        limit: Option<usize>,
    },

    /// Look through actions, their files and the versions of files on the whole screen, and take changes back.
    Browse,

    /// Mount a read-only view of the whole mount as it was, for ls, grep -r, diff -r, cp -a. Until it is
    /// unmounted, a process serves it in the background, and the mount itself is busy.
    MountPast(MountPast),

    /// Show the history of the mount: how far back it goes, its space, and when that is full. Of a file, also its
    /// own state. `logctl` alone, in a directory of a mount, is `logctl status -n 3`.
    Status {
        /// The file, on a LoggerFS mount. [default: the mount]
        file: Option<PathBuf>,
        /// Of the mount: also the newest N actions.
        #[arg(short = 'n', value_name = "N", conflicts_with = "file")]
        limit: Option<usize>,
    },

    /// Check the module, the mounts, their histories and the installation: a line for each check, with the next
    /// step. Exit code 1: a check found a problem.
    Doctor,

    /// Show the settings in effect: options of the mounts and variables of the environment, and how to change
    /// each.
    Config {
        /// Only this one, by its name.
        name: Option<String>,
    },

    /// Print the script by which a shell completes command lines, with operations, points and names of deleted
    /// files. For bash: `source <(logctl completions bash)`.
    Completions {
        /// The shell: bash, zsh or fish.
        #[arg(value_enum, hide_possible_values = true)]
        shell: Shell,
    },

    /// Print the description of the output of --json, as a JSON Schema.
    Schema,

    /// Print the values that the scripts of `completions` ask for.
    #[command(hide = true)]
    CompleteValues(CompleteValues),
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
pub fn wanted_color(arguments: &[OsString]) -> Option<Color> {
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
