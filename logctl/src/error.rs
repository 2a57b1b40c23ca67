// SPDX-License-Identifier: MIT OR Apache-2.0

//! Errors, in words: the event, the state that was kept, and the next step.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::obstacle::{obstacle, process};
use crate::quote::{quoted, word};
use crate::system::System;
use crate::uapi::Reason;
use crate::versions::{advice, is_on_own_mount};

/// The action that fails if the disk is too slow for a revert, which keeps others from its files.
const IN_TIME: &str = "revert in time";

/// The action that fails where no mark can be made.
pub const MARKING: &str = "make a mark in";

/// Why a command failed.
#[derive(Debug)]
pub enum Error {
    /// The file could not be opened.
    Open {
        /// The file.
        path: PathBuf,
        /// Whether the file was to be opened for writing.
        to_change: bool,
        /// Why.
        errno: Errno,
    },
    /// The file is not on a LoggerFS mount.
    NotLoggerFs {
        /// The file.
        path: PathBuf,
    },
    /// The module does not know the request.
    Version {
        /// The file.
        path: PathBuf,
    },
    /// A revert was refused.
    Refused(Refusal),
    /// An old state cannot be read.
    OldContent(Refusal),
    /// Anything else that the kernel answered.
    System {
        /// The file.
        path: PathBuf,
        /// The action that failed.
        doing: &'static str,
        /// The reason of the failure.
        errno: Errno,
    },
    /// A word is no command.
    NoSuchCommand {
        /// The word.
        name: String,
    },
    /// The command line has no valid meaning.
    Usage {
        /// Why.
        message: String,
    },
    /// A question has to be answered, and there is no terminal to ask on.
    NeedsAnswer {
        /// The explanation.
        message: String,
    },
    /// A command could not be started.
    NotStarted {
        /// Its name.
        name: String,
        /// Why.
        error: io::Error,
    },
    /// Nothing was found to be done.
    Nothing {
        /// The explanation.
        message: String,
    },
    /// This session has no action that can be undone, and others have.
    NotOfSession {
        /// The command of the newest action of all.
        command: String,
        /// Its number.
        op: u64,
    },
    /// A path is not there, and the history does not name it.
    NoSuchName {
        /// The explanation.
        message: String,
    },
    /// The selection is ambiguous.
    Several {
        /// Which ones.
        message: String,
        /// How to ask for one.
        hint: String,
    },
    /// A view of the past cannot be mounted.
    Mount {
        /// The directory.
        dir: PathBuf,
        /// Why.
        message: String,
        /// The next step.
        hint: String,
    },
    /// The operation was done, but the result differs from the wanted state.
    NotAsWanted {
        /// The first difference.
        message: String,
    },
    /// Not all copies were made, or not with all attributes.
    NotCopied {
        /// How many.
        message: String,
    },
    /// The content of a file after a revert is no past content.
    Mixed {
        /// The file.
        path: PathBuf,
        /// A later operation on it that would stay.
        later: u64,
    },
    /// The request was refused because of conflicts, which were printed.
    Conflicts {
        /// The mount.
        path: PathBuf,
        /// The exit code.
        code: u8,
    },
    /// There are differences, which were printed, and `--exit-code` was given.
    Differs,
    /// A check found a problem, which was printed.
    Unhealthy,
    /// Results could not be written.
    Output(io::Error),
}

/// A revert that was refused. Nothing was changed.
#[derive(Debug)]
pub struct Refusal {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub reason: Reason,
    /// The operation in the way.
    pub op: Option<u64>,
}

impl Error {
    /// The error for an errno of the kernel.
    pub fn from_errno(path: &Path, doing: &'static str, errno: Errno) -> Self {
        let path = path.to_owned();
        match errno {
            // An older module does not know a newer request.
            Errno::NOTTY if is_on_own_mount(&path) => Self::Version { path },
            Errno::NOTTY | Errno::NOSYS => Self::NotLoggerFs { path },
            Errno::INVAL => Self::Version { path },
            _ => Self::System { path, doing, errno },
        }
    }

    /// The error for a refused revert. `reason` and `op` come from the reply.
    pub fn from_revert(path: &Path, errno: Errno, reason: u32, op: u64) -> Self {
        let reason = Reason::from_code(reason).or(match errno {
            Errno::NODATA => Some(Reason::NothingLeft),
            Errno::STALE => Some(Reason::External),
            Errno::PERM => Some(Reason::NotOwner),
            Errno::BADF | Errno::ROFS => Some(Reason::NotWritable),
            Errno::NOSPC | Errno::DQUOT => Some(Reason::NoSpace),
            Errno::UCLEAN => Some(Reason::Corrupt),
            Errno::TXTBSY => Some(Reason::Executed),
            _ => None,
        });
        match reason {
            // The errno of the journal is more precise.
            Some(Reason::Io) if errno == Errno::BUSY => Self::System {
                path: path.to_owned(),
                doing: IN_TIME,
                errno,
            },
            None | Some(Reason::Io) => Self::from_errno(path, "revert", errno),
            Some(reason) => Self::Refused(Refusal {
                path: path.to_owned(),
                reason,
                op: (op != 0).then_some(op),
            }),
        }
    }

    /// The program's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotLoggerFs { .. } => 10,
            Self::Refused(refusal) => refusal.exit_code(),
            Self::OldContent(_) => 1,
            Self::Open { errno, .. } | Self::System { errno, .. } => match *errno {
                Errno::BUSY | Errno::TXTBSY | Errno::AGAIN => 11,
                Errno::INTR => 130,
                _ => 1,
            },
            // The reader of the results closed the pipe.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Usage { .. } | Self::Several { .. } | Self::NoSuchCommand { .. } => 2,
            Self::NotAsWanted { .. } | Self::NotCopied { .. } => 3,
            Self::Mixed { .. } => 4,
            Self::NeedsAnswer { .. } => 5,
            // As a shell has it.
            Self::NotStarted { error, .. } => match error.kind() {
                io::ErrorKind::NotFound => 127,
                io::ErrorKind::PermissionDenied => 126,
                _ => 125,
            },
            Self::Conflicts { code, .. } => *code,
            Self::Version { .. } | Self::Nothing { .. } | Self::NoSuchName { .. } => 1,
            Self::NotOfSession { .. } | Self::Mount { .. } => 1,
            Self::Differs | Self::Unhealthy | Self::Output(_) => 1,
        }
    }

    /// The reason's name, for JSON.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Open { .. } => "Open",
            Self::NotLoggerFs { .. } => "NotLoggerFs",
            Self::Version { .. } => "Version",
            Self::Refused(refusal) | Self::OldContent(refusal) => refusal.reason.as_str(),
            Self::System { .. } => "System",
            Self::Usage { .. } | Self::NoSuchCommand { .. } => "Usage",
            Self::Nothing { .. } | Self::NotOfSession { .. } => Reason::NothingLeft.as_str(),
            Self::NoSuchName { .. } => "NoSuchName",
            Self::Several { .. } => "Several",
            Self::NotAsWanted { .. } => "NotAsWanted",
            Self::NeedsAnswer { .. } => "NeedsAnswer",
            Self::NotStarted { .. } => "NotStarted",
            Self::NotCopied { .. } => "NotCopied",
            Self::Mixed { .. } => "Mixed",
            Self::Mount { .. } => "Mount",
            Self::Conflicts { .. } => "Conflicts",
            Self::Differs => "Differs",
            Self::Unhealthy => "Unhealthy",
            Self::Output(_) => "Output",
        }
    }

    /// The operation in the way.
    pub fn op(&self) -> Option<u64> {
        match self {
            // That is the number of a process.
            Self::Refused(refusal) if refusal.reason == Reason::Busy => None,
            Self::Refused(refusal) | Self::OldContent(refusal) => refusal.op,
            Self::Mixed { later, .. } => Some(*later),
            _ => None,
        }
    }

    /// The hint for the user.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Open {
                to_change: true,
                errno: Errno::ACCESS | Errno::PERM,
                ..
            } => Some("to revert a file you must be allowed to write to it.".into()),
            Self::Open {
                to_change: true,
                errno: Errno::ROFS,
                ..
            } => Some("unmount it, and mount it anew without `-o ro`.".into()),
            Self::Open { .. } | Self::Output(_) | Self::Differs | Self::Conflicts { .. } => None,
            Self::Unhealthy => None,
            Self::NoSuchCommand { .. } | Self::NotStarted { .. } => None,
            Self::NeedsAnswer { .. } => {
                Some("`--keep` and `--rollback-on-failure` decide without a question.".into())
            }
            Self::Usage { .. } => Some("`logctl COMMAND --help` lists the arguments.".into()),
            Self::Nothing { .. } | Self::NoSuchName { .. } => {
                Some("`logctl log` lists the actions.".into())
            }
            Self::NotOfSession { command, op } => Some(format!(
                "`logctl undo --any` takes the newest action of all back: {op}, {command}"
            )),
            Self::Several { hint, .. } | Self::Mount { hint, .. } => Some(hint.clone()),
            Self::NotAsWanted { .. } => Some(
                "`logctl undo` takes the restore back; `logctl log` lists the actions."
                    .into(),
            ),
            Self::NotCopied { .. } => Some("the lines above name them.".into()),
            Self::Mixed { later, .. } => Some(format!(
                "choose op {later}, too, or do it: `logctl undo` takes that back."
            )),
            Self::NotLoggerFs { path } => Some(format!(
                "use the path below the mount, not the one in the source directory; `findmnt -T {}` \
                 shows the mount of the path.",
                word(path)
            )),
            Self::Version { .. } => Some(advice(&System::at(Path::new("/")))),
            Self::OldContent(refusal) => Some(format!(
                "`logctl versions {}` lists the versions.",
                word(&refusal.path)
            )),
            Self::Refused(refusal) => Some(refusal.hint()),
            Self::System {
                doing: MARKING,
                errno: Errno::ACCESS | Errno::PERM,
                ..
            } => Some("a mark is made in a directory that you own or may write to.".into()),
            // A conflict, or a process in the way, has a reason of its own.
            Self::System { doing: IN_TIME, .. } => Some(
                "the disk did not write the history within five seconds, or a name is a mount point; `sync` \
                 waits for the disk, then try again."
                    .into(),
            ),
            Self::System { errno, .. } => match *errno {
                Errno::BUSY | Errno::TXTBSY | Errno::AGAIN => {
                    Some("the file is in use; try again when it is not.".into())
                }
                Errno::INTR => Some("the call was interrupted; run it again.".into()),
                Errno::PERM => Some("only the file's owner reads its log, or root.".into()),
                _ => Some("`dmesg` may say more.".into()),
            },
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { path, errno, .. } => {
                write!(f, "cannot open {}: {}", quoted(path), describe(*errno))
            }
            Self::NotLoggerFs { path } => {
                write!(f, "{} is not on a LoggerFS mount", quoted(path))
            }
            Self::Version { path } => {
                let path = quoted(path);
                write!(f, "the mount that holds {path} does not know this request")
            }
            Self::Refused(refusal) => refusal.fmt(f),
            Self::OldContent(refusal) => {
                let (_, why) = obstacle(Some(refusal.reason), None);
                let path = quoted(&refusal.path);
                write!(f, "{path} as it was then cannot be read: {why}")?;
                match refusal.op {
                    Some(op) => write!(f, " (op {op})"),
                    None => Ok(()),
                }
            }
            Self::NoSuchCommand { name } => {
                let name = quoted(Path::new(name));
                write!(f, "there is no command {name}; `logctl help` lists all.")
            }
            Self::System { path, doing, errno } => {
                let (path, errno) = (quoted(path), describe(*errno));
                write!(f, "cannot {doing} {path}: {errno}; nothing was changed")
            }
            Self::NotStarted { name, error } => write!(f, "{name} was not started: {error}"),
            Self::Mixed { path, later } => {
                let path = quoted(path);
                write!(
                    f,
                    "{path} was changed later by op {later}, which stays: its content after that can only be \
                     made on the mount; nothing was written"
                )
            }
            Self::Usage { message }
            | Self::NeedsAnswer { message }
            | Self::NotCopied { message }
            | Self::NoSuchName { message }
            | Self::NotAsWanted { message } => f.write_str(message),
            Self::Nothing { message } => write!(f, "{message}; nothing was changed"),
            Self::NotOfSession { .. } => f.write_str(
                "nothing that was done in this terminal session is left to undo; nothing was changed",
            ),
            Self::Several { message, .. } => write!(f, "{message}\nnothing was changed"),
            Self::Mount { dir, message, .. } => {
                let dir = quoted(dir);
                write!(f, "cannot mount on {dir}: {message}; nothing was changed")
            }
            Self::Conflicts { path, .. } => {
                write!(f, "operations are in the way on {}", quoted(path))
            }
            Self::Differs => f.write_str("there are differences"),
            Self::Unhealthy => f.write_str("there are problems"),
            Self::Output(error) => write!(f, "cannot write the results: {error}"),
        }
    }
}

/// An error number in the system's words.
fn describe(errno: Errno) -> String {
    let text = io::Error::from(errno).to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

impl Refusal {
    /// The program's exit code.
    fn exit_code(&self) -> u8 {
        match self.reason {
            Reason::External | Reason::Conflict | Reason::NotEmpty => 4,
            Reason::Mapped | Reason::Executed | Reason::Leased | Reason::Busy => 11,
            _ => 1,
        }
    }

    /// The hint for the user.
    fn hint(&self) -> String {
        let file = word(&self.path);
        match self.reason {
            Reason::NothingLeft => {
                format!("`logctl {file} readlog --all` lists the reverted operations.")
            }
            Reason::Gone => "choose operations without it: `logctl log --ops` lists them.".into(),
            Reason::Lost | Reason::Trimmed | Reason::Unsupported => format!(
                "operations newer than that can still be reverted: `logctl {file} readlog` lists \
                 them, choose a smaller --count."
            ),
            Reason::External => format!(
                "look at the file first; `logctl {file} revert --force` restores the saved bytes \
                 over what was changed outside."
            ),
            Reason::Mapped => {
                "end the program that maps it in the source directory, then try again.".into()
            }
            Reason::Executed => {
                "end the program (`fuser` names it), or `swapoff` the file, then try again.".into()
            }
            Reason::Leased => {
                "`/proc/locks` lists the lease and its holder; end that program, then try again."
                    .into()
            }
            Reason::Busy => "wait for that process, or end it, then try again.".into(),
            Reason::NotEmpty => "move or remove its entries, then try again.".into(),
            Reason::Conflict => {
                format!("revert the later operation first; `logctl {file} readlog` lists it.")
            }
            Reason::NotOwner => "only the file's owner may revert, or root.".into(),
            Reason::NotPermitted => {
                "a revert sets attributes as you; ask root to do it, or choose a smaller --count."
                    .into()
            }
            Reason::NotWritable => {
                "it is on a read-only mount, or `lsattr` shows it as append-only or immutable."
                    .into()
            }
            Reason::NoSpace => {
                "a revert saves what it replaces, so that it can be redone; `--no-redo` does it without \
                 that. Or free space below the mount's source, or mount with a larger \
                 `history_max=`."
                    .into()
            }
            Reason::Corrupt => {
                "the saved bytes are not used when they are damaged; restore the file from a \
                 backup, and check the disk (`dmesg`)."
                    .into()
            }
            Reason::HistoryOff => {
                "`mount -o remount,history=on` turns history on for operations from then on; a mount \
                 made read-only or with history=off must be unmounted and mounted anew."
                    .into()
            }
            Reason::Io => "`dmesg` may say more.".into(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = quoted(&self.path);
        let op = match self.op {
            Some(op) => format!("op {op}"),
            None => "an operation".into(),
        };
        match self.reason {
            Reason::NothingLeft => return write!(f, "no operation of {path} is left to revert"),
            Reason::Lost => write!(
                f,
                "{op} of {path} cannot be reverted: its old content was \
                not saved"
            ),
            Reason::Trimmed => write!(
                f,
                "{op} of {path} cannot be reverted: its old content was \
                dropped to free space"
            ),
            Reason::Gone => write!(
                f,
                "the object of {op} of {path} does not exist any more: it was dropped to free \
                space, or removed outside LoggerFS"
            ),
            Reason::External => match self.op {
                Some(op) => write!(f, "{path} was changed outside LoggerFS since op {op}"),
                None => write!(f, "{path} was changed outside LoggerFS"),
            },
            Reason::Mapped => write!(
                f,
                "{path} is mapped by a program that did not open it through LoggerFS"
            ),
            Reason::Executed => {
                write!(f, "a program runs from {path}, or it is a swap file in use")
            }
            Reason::Leased => write!(
                f,
                "a program holds a lease on {path} and did not give it up in time"
            ),
            Reason::Busy => match self.op.and_then(process) {
                Some(process) => write!(
                    f,
                    "{process} has not ended its operation or request on {path} in time"
                ),
                None => write!(f, "an operation on {path} has not ended in time"),
            },
            Reason::NotEmpty => write!(f, "a directory below {path} is not empty, so it stays"),
            Reason::Conflict => write!(f, "{path} was changed later by {op}"),
            Reason::NotOwner => write!(f, "{path} is not yours"),
            Reason::NotPermitted => {
                write!(
                    f,
                    "you may not do that to {path}, or set the attributes that it had"
                )
            }
            Reason::NotWritable => write!(f, "{path} cannot be written to"),
            Reason::NoSpace => write!(
                f,
                "no space to save the content that reverting {path} would replace"
            ),
            Reason::Corrupt => write!(f, "the saved content of {op} of {path} is damaged"),
            Reason::HistoryOff => write!(f, "history is off on the mount that holds {path}"),
            Reason::Unsupported => write!(
                f,
                "{op} of {path} cannot be reverted yet: this kind \
                of operation has no inverse"
            ),
            Reason::Io => write!(f, "the history of {path} cannot be read or written"),
        }?;
        f.write_str("; nothing was changed")
    }
}
