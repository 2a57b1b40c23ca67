// SPDX-License-Identifier: MIT OR Apache-2.0

//! The context of commands on a whole mount: the mount, its users, and the time.

use std::path::{Path, PathBuf};

use jiff::Zoned;
use rustix::io::Errno;

use crate::cli::Selection;
use crate::describe::{command, cut, local, Users};
use crate::error::{Error, Refusal, MARKING};
use crate::mount::absolute;
use crate::object::Object;
use crate::operation_spec::OperationSpec;
use crate::paths::{PathState, Tree};
use crate::process::{name, KnownProcess, ProcessSpec};
use crate::process_trees::TreeSpec;
use crate::quote::{encoded, quoted, word};
use crate::revision::time;
use crate::select::{glob, relative, Filter, SelectionError};
use crate::session::Session;
use crate::timeline::Timeline;
use crate::uapi::{PlaceMark, Reason, VERSION};
use loggerfs_log::line::{is_mark_message, is_mark_name};
use loggerfs_log::types::ObjectId;

/// The mount of a command, and its surroundings.
pub struct Context<'s> {
    /// Any open file or directory of the mount.
    pub object: &'s mut dyn Object,
    /// Its files.
    pub tree: &'s dyn Tree,
    /// The object at a path relative to the root; `None`: the path does not exist.
    pub identify: &'s dyn Fn(&Path) -> Result<Option<ObjectId>, Error>,
    /// The root of the mount.
    pub root: PathBuf,
    /// The time, with a zone.
    pub now: Zoned,
    /// Who is who.
    pub users: Users,
    /// The calling user; `None`: root, to whom everything is shown.
    pub me: Option<u32>,
    /// The session of this process; `None`: not known by the number that lines have.
    pub session: Option<Session>,
    /// Whether processes have the numbers here that they have in the log: those of the first PID namespace.
    pub has_own_pids: bool,
    /// Asks the user whether to go on.
    pub confirm: &'s dyn Fn(&str) -> bool,
}

impl Context<'_> {
    /// The error for a failed read of the history.
    pub fn unread(&self, errno: Errno) -> Error {
        let path = self.root.clone();
        match errno {
            Errno::NODATA => Error::Refused(Refusal {
                path,
                reason: Reason::HistoryOff,
                op: None,
            }),
            _ => Error::from_errno(&path, "read the history of", errno),
        }
    }

    /// The calling user.
    pub fn uid(&self) -> u32 {
        self.me.unwrap_or(0)
    }

    /// Gives the present place of the history a name, and returns the number of its line.
    pub fn place_mark(&mut self, name: &str, message: &str, is_run: bool) -> Result<u64, Error> {
        let usage = |message: &str| Error::Usage {
            message: message.to_owned(),
        };
        if !is_mark_name(name.as_bytes()) {
            return Err(usage(NO_NAME));
        }
        if !is_mark_message(message.as_bytes()) {
            return Err(usage("a message is one line of at most 256 bytes"));
        }
        let mut request = PlaceMark {
            version: VERSION,
            flags: if is_run { PlaceMark::RUN } else { 0 },
            ..PlaceMark::default()
        };
        let placed = self
            .object
            .place_mark(&mut request, name.as_bytes(), message.as_bytes());
        let path = self.root.clone();
        match placed {
            Ok(()) => Ok(request.seq),
            // The mount is one of LoggerFS; its module does not know the request.
            Err(Errno::NOTTY) => Err(Error::Version { path }),
            Err(Errno::NODATA) => Err(self.unread(Errno::NODATA)),
            Err(errno) => Err(Error::System {
                path: ".".into(),
                doing: MARKING,
                errno,
            }),
        }
    }

    /// All lines.
    pub fn whole(&mut self) -> Result<Timeline, Error> {
        let mut timeline = Timeline::whole(self.object).map_err(|errno| self.unread(errno))?;
        timeline.is_partial = self.me.is_some();
        Ok(timeline)
    }

    /// A path relative to the mount's root.
    pub fn place(&self, path: &Path) -> Result<PathBuf, Error> {
        let outside = || Error::NotLoggerFs {
            path: path.to_owned(),
        };
        let absolute = absolute(path).map_err(|_| outside())?;
        relative(&self.root, &absolute).ok_or_else(outside)
    }

    /// The filter of a selection and its words. A word that looks like an operation is a file if a file of
    /// that name exists.
    pub fn filter(&self, selection: &Selection, words: &[PathBuf]) -> Result<Filter, Error> {
        let usage = |message: String| Error::Usage { message };
        let moment = |text: &Option<String>| {
            let parsed = text.as_deref().map(|text| time(text, &self.now));
            parsed.transpose().map_err(usage)
        };
        let mut filter = Filter {
            is_raw: selection.ops,
            by: selection.by.clone(),
            pid: self.known(selection.pid, "--pid")?,
            tree: match selection.tree {
                Some(TreeSpec::Process(number)) => {
                    self.known(Some(number), "--tree")?.map(TreeSpec::Process)
                }
                tree => tree,
            },
            session: selection.session,
            since: moment(&selection.since)?,
            until: moment(&selection.until)?,
            open: selection.open,
            last: selection.last,
            ..Filter::default()
        };
        if selection.session.is_some() && !self.has_own_pids {
            return Err(usage(OTHER_PIDS.replace("OPTION", "--session")));
        }
        if let Some(user) = &selection.user {
            let unknown = || usage(format!("there is no user '{user}'"));
            filter.uid = Some(self.users.number(user).ok_or_else(unknown)?);
        }
        if let Some(pattern) = &selection.path {
            filter.path = Some(glob(pattern).map_err(|error| usage(error.to_string()))?);
        }
        for path in words {
            match named_operations(path) {
                Some(ops) => filter.ops.push(ops),
                None => filter.places.push(self.place(path)?),
            }
        }
        Ok(filter)
    }
}

/// The rule for names of marks, for a message.
const NO_NAME: &str =
    "a name begins with a letter, and goes on with letters, digits, and - _ . + up to 64 bytes; \
    no `..`, no word for a time such as 'today', no name of a tree such as t195";

/// Why a number cannot be looked up.
const OTHER_PIDS: &str =
    "OPTION takes a process' number as the host sees it, and here processes have \
    others: run logctl outside of the container, name the process with its start as `logctl show` \
    prints it (--pid 812@1763639000.25), or choose by --by, --user, --since";

impl Context<'_> {
    /// Checks that a process number without a start time means a process of this PID namespace.
    pub fn known(
        &self,
        number: Option<ProcessSpec>,
        option: &str,
    ) -> Result<Option<ProcessSpec>, Error> {
        match number {
            Some(ProcessSpec { start: None, .. }) if !self.has_own_pids => Err(Error::Usage {
                message: OTHER_PIDS.replace("OPTION", option),
            }),
            number => Ok(number),
        }
    }

    /// The error for an ambiguous or empty selection.
    pub fn selection_error(&self, selection_error: SelectionError) -> Error {
        let (number, all) = match selection_error {
            SelectionError::Nothing(message) => return Error::Nothing { message },
            SelectionError::Usage(message) => return Error::Usage { message },
            SelectionError::Several(number, all) => (number, all),
        };
        let pid = number.pid;
        let mut message = format!("{} processes had the number {pid}:", all.len());
        for meant in &all {
            let known = self.process(&meant.known);
            message += &match (meant.is_logged, meant.process) {
                (true, _) => format!("\n  {known}"),
                (false, Some(process)) => {
                    format!("\n  {}, which left no line, above {known}", name(process))
                }
                (false, None) => format!("\n  one that left no line, the parent of {known}"),
            };
        }
        let named = all.iter().find_map(|meant| meant.process).map(name);
        Error::Several {
            message,
            hint: match named {
                Some(named) => {
                    format!("name one with its start, `{named}`, or narrow the time by --since and --until.")
                }
                None => "narrow the time by --since and --until.".into(),
            },
        }
    }

    /// Checks that each of these places, relative to the root, is there or is named by a line.
    pub fn check_names(&self, timeline: &Timeline, places: &[PathBuf]) -> Result<(), Error> {
        let Some(unknown) = places.iter().find(|place| self.is_unknown(timeline, place)) else {
            return Ok(());
        };
        let (root, name) = (word(&self.root), quoted(unknown));
        let since = self.beginning(timeline);
        let since = since.map_or_else(String::new, |since| format!(" since {since}"));
        let message = format!("nothing in {root} is or was called {name}{since}");
        Err(Error::NoSuchName { message })
    }

    /// Whether nothing is there, and no line has the name of the topmost directory that is missing: names
    /// below that one may have been of another time.
    fn is_unknown(&self, timeline: &Timeline, place: &Path) -> bool {
        let is_gone = |path: &&Path| self.tree.look(path) == PathState::Gone;
        let missing = place.ancestors().take_while(is_gone).last();
        let name = missing.and_then(Path::file_name);
        name.is_some_and(|name| !timeline.has_name(&encoded(name.as_encoded_bytes())))
    }

    /// Since when there is a history, if older lines were dropped: `2026-11-20 14:05:03 (op 9)`.
    pub fn beginning(&self, timeline: &Timeline) -> Option<String> {
        let oldest = timeline.oldest_kept()?;
        let time = local(oldest.time, self.now.time_zone());
        Some(format!("{time} (op {})", oldest.seq))
    }

    /// A process with its start time, user and command.
    pub fn process(&self, known: &KnownProcess) -> String {
        let start = local(known.process.start, self.now.time_zone());
        let user = known
            .actor
            .uid
            .map_or_else(|| "?".into(), |uid| self.users.name(uid));
        let command = cut(&command(&known.actor, false));
        format!("{}  {start}  {user}  {command}", name(known.process))
    }
}

/// The operations that a word names, unless a file has that name.
pub fn named_operations(word: &Path) -> Option<OperationSpec> {
    let named = word.to_str().and_then(OperationSpec::parse)?;
    word.symlink_metadata().is_err().then_some(named)
}
