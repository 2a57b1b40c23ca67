// SPDX-License-Identifier: MIT OR Apache-2.0

//! Options that several commands have.

use clap::Args;

use crate::process::ProcessSpec;
use crate::process_trees::TreeSpec;

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

    /// Those of a process and its descendants, or of a tree that `who` lists: t195.
    #[arg(long, value_name = "PID[@START]|TREE", help_heading = "Selection")]
    pub tree: Option<TreeSpec>,

    /// Those of a user.
    #[arg(long, value_name = "USER", help_heading = "Selection")]
    pub user: Option<String>,

    /// Those of a session (its leader's process number).
    #[arg(long, value_name = "SID", help_heading = "Selection")]
    pub session: Option<u32>,

    /// Those not before a time: 10m, '2h ago', 14:05, 'yesterday 9am', RFC 3339, a mark's name.
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

    /// With --name-only: each name ended by a NUL byte and not quoted, for `xargs -0`.
    #[arg(short = '0', long, requires = "name_only")]
    pub null: bool,

    /// Show changed words inside of lines: [-old-]{+new+}, or by colour.
    #[arg(long, conflicts_with_all = ["stat", "name_only"])]
    pub word: bool,

    /// End with exit code 1 if there are differences.
    #[arg(long)]
    pub exit_code: bool,
}
