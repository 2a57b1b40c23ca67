// SPDX-License-Identifier: MIT OR Apache-2.0

//! The properties of all commands: a name, files, and how their results are shown.

use std::path::PathBuf;

use super::Command;

impl Command {
    /// The command's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Readlog { .. } => "readlog",
            Self::Log { .. } => "log",
            Self::Who { .. } => "who",
            Self::Show { .. } => "show",
            Self::Run { .. } => "run",
            Self::Mark { .. } => "mark",
            Self::Marks => "marks",
            Self::Revert { .. } => "revert",
            Self::Undo { .. } => "undo",
            Self::Redo { .. } => "redo",
            Self::Restore { .. } => "restore",
            Self::Cat { .. } => "cat",
            Self::Versions { .. } => "versions",
            Self::Blame { .. } => "blame",
            Self::Diff { .. } => "diff",
            Self::Deleted { .. } => "deleted",
            Self::Browse => "browse",
            Self::MountPast(_) => "mount-past",
            Self::Status { .. } => "status",
            Self::Doctor => "doctor",
            Self::Config { .. } => "config",
            Self::Completions { .. } => "completions",
            Self::Schema => "schema",
            Self::CompleteValues(_) => "complete-values",
        }
    }

    /// Whether its results may be longer than a screen.
    pub fn is_paged(&self) -> bool {
        matches!(
            self,
            Self::Readlog { .. }
                | Self::Log { .. }
                | Self::Who { .. }
                | Self::Show { .. }
                | Self::Versions { .. }
                | Self::Blame { .. }
                | Self::Diff { .. }
                | Self::Deleted { .. }
                | Self::Marks
        )
    }

    /// The files that the command was given.
    pub fn files(&self) -> &[PathBuf] {
        match self {
            Self::Readlog { file, .. }
            | Self::Cat { file, .. }
            | Self::Versions { file, .. }
            | Self::Blame { file, .. } => core::slice::from_ref(file),
            Self::Deleted { dir, .. } => dir.as_slice(),
            Self::Status { file, .. } => file.as_slice(),
            // The first word may be a point.
            Self::Diff { words, .. } => match words.first() {
                Some(first) if !first.exists() => &words[1..],
                _ => words,
            },
            Self::Revert { files, .. } | Self::Undo { files, .. } => files,
            Self::Log { paths, .. } | Self::Who { paths, .. } | Self::Restore { paths, .. } => {
                paths
            }
            Self::CompleteValues(options) => options.paths(),
            Self::Show { .. } | Self::Redo { .. } | Self::Run { .. } => &[],
            Self::Browse | Self::MountPast(_) | Self::Mark { .. } | Self::Marks => &[],
            Self::Doctor | Self::Config { .. } | Self::Completions { .. } | Self::Schema => &[],
        }
    }
}
