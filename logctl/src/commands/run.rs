// SPDX-License-Identifier: MIT OR Apache-2.0

//! `run`: runs a command, reports its changes, and takes them back if that is wanted.
//!
//! All processes that the command starts are descendants of this one, which their lines record (`anc=`). As a
//! child subreaper this process also stays the ancestor of those whose own parents end.

use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::AtomicBool;
use std::sync::Arc;

use serde_json::Value;
use signal_hook::consts::{SIGINT, SIGQUIT};

use crate::actions::{nanoseconds, Action};
use crate::cli::{Command as Verb, DiffOptions, Options, RunOptions};
use crate::describe::changes;
use crate::error::{Error, Refusal};
use crate::json::{changes_value, files_value, JsonObject};
use crate::operation_spec::{OperationName, OperationSpec};
use crate::output::Output;
use crate::process::{name, ProcessSpec};
use crate::process_trees::TreeSpec;
use crate::procfs::started;
use crate::quote::quote_bytes;
use crate::select::{Filter, SelectedOperations, SelectionError};
use crate::timeline::Timeline;
use crate::uapi::Reason;
use loggerfs_log::line::Process;

use super::context::Context;
use super::log::{print_table, warn_uncertain};
use super::view::View;
use super::{ask, diff, is_interactive, revert};

/// The exit code for a failure of logctl itself, as env(1) and timeout(1) have it.
pub const FAILED: u8 = 125;

/// The exit code of `run` after an error: that of a command that was not started as a shell has it.
pub fn exit_code(error: &Error) -> u8 {
    match error {
        Error::NotStarted { .. } | Error::NeedsAnswer { .. } => error.exit_code(),
        _ => FAILED,
    }
}

/// The end of the changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Unchanged,
    Kept,
    RolledBack,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Kept => "kept",
            Self::RolledBack => "rolled_back",
        }
    }
}

/// Runs the command, and returns its exit code.
pub fn run(context: &mut Context<'_>, verb: &Verb, output: &mut Output<'_>) -> Result<u8, Error> {
    let Verb::Run {
        name,
        stat,
        options,
        words,
    } = verb
    else {
        return Ok(FAILED);
    };
    let options = *options;
    let is_interactive = is_interactive();
    if options.ask && !is_interactive {
        let message = "--ask needs a terminal; nothing was run".to_owned();
        return Err(Error::NeedsAnswer { message });
    }
    let number = ProcessSpec {
        pid: std::process::id(),
        start: None,
    };
    context.known(Some(number), "run")?;
    if let Some(name) = name {
        context.place_mark(name, "", true)?;
    }
    let before = newest(context)?;
    let code = match execute(words) {
        Ok(status) => code_of(status),
        Err(error) => return Err(not_started(words, error)),
    };
    let run = Run {
        words,
        label: name.as_deref(),
        code,
        before,
    };
    let found = run.look(context, output)?;
    let outcome = match &found {
        None => {
            output.say(format_args!("{} changed nothing.", run.name()));
            Outcome::Unchanged
        }
        Some(found) => {
            output.say(run.summary(found));
            if *stat {
                found.print_stat(context, output)?;
            }
            match run.is_wanted(found, (options, is_interactive), context, output)? {
                true => Outcome::Kept,
                false => {
                    found.roll_back(before, context, output)?;
                    Outcome::RolledBack
                }
            }
        }
    };
    if output.json {
        output.object(&run.json(found.as_ref(), outcome, context))?;
    }
    Ok(code)
}

/// A command that has ended.
struct Run<'w> {
    words: &'w [OsString],
    /// The name that was given to it.
    label: Option<&'w str>,
    code: u8,
    /// The number of the newest line before it.
    before: u64,
}

/// The changes of a command.
struct Found {
    view: View,
    /// All of it, as one action.
    whole: Action,
    /// This process, as the lines of the command record it.
    own: Process,
}

impl Run<'_> {
    fn name(&self) -> String {
        let words = self.words.iter();
        let words = words.map(|word| quote_bytes(word.as_bytes(), false));
        words.collect::<Vec<_>>().join(" ")
    }

    /// Finds the changes of the command. `None`: there are none.
    fn look(
        &self,
        context: &mut Context<'_>,
        output: &mut Output<'_>,
    ) -> Result<Option<Found>, Error> {
        let timeline = back_to(context, self.before)?;
        let Some(own) = own_process(&timeline, self.before) else {
            return Ok(None);
        };
        let first = OperationName::Number(self.before.saturating_add(1));
        let filter = Filter {
            ops: vec![OperationSpec::Range(Some(first), None)],
            is_raw: true,
            tree: Some(TreeSpec::Process(ProcessSpec {
                pid: own.pid,
                start: Some(own.start),
            })),
            ..Filter::default()
        };
        let SelectedOperations {
            entries,
            actions,
            uncertain,
        } = match filter.choose(&timeline, context.tree) {
            Err(SelectionError::Nothing(_)) => return Ok(None),
            chosen => chosen.map_err(|error| context.selection_error(error))?,
        };
        warn_uncertain(&uncertain, "are not counted", context, output)?;
        let whole = Action { entries };
        let view = View::new(timeline, actions, context);
        let is_nothing = whole.entries.is_empty();
        Ok((!is_nothing).then_some(Found { view, whole, own }))
    }

    fn summary(&self, found: &Found) -> String {
        let (changed, only) = found.view.changes(&found.whole);
        let end = match self.code {
            0 => String::new(),
            code => format!(" (exit code {code})"),
        };
        format!("{}{end}: {}", self.name(), changes(&changed, only.as_ref()))
    }

    /// Whether the changes are to be kept.
    fn is_wanted(
        &self,
        found: &Found,
        (options, is_interactive): (RunOptions, bool),
        context: &mut Context<'_>,
        output: &mut Output<'_>,
    ) -> Result<bool, Error> {
        if options.rollback_on_failure {
            return Ok(self.code == 0);
        }
        if options.keep || !is_interactive {
            return Ok(true);
        }
        loop {
            let shown = match ask("[k]eep, [r]oll back, show the [d]iff, or [l]ist the actions?") {
                None => return Ok(true),
                Some(answer) => match answer.as_str() {
                    "" | "k" | "keep" => return Ok(true),
                    "r" | "roll back" => return Ok(false),
                    "d" | "diff" => found.print_differences(self.before, context, output),
                    "l" | "list" => print_table(&found.view, None, context, output),
                    _ => continue,
                },
            };
            // A failed look is no reason to decide anything.
            if let Err(error) = shown.and_then(|()| output.finish()) {
                output.error(&error);
            }
        }
    }

    fn json(&self, found: Option<&Found>, outcome: Outcome, context: &Context<'_>) -> Value {
        let mut object = JsonObject::new("run", &context.root);
        let words: Vec<Value> = (self.words.iter())
            .map(|word| word.to_string_lossy().into())
            .collect();
        object
            .put("args", words)
            .put("title", self.name())
            .put_known("name", self.label)
            .put("exit", self.code)
            .put("outcome", outcome.as_str());
        if let Some(Found { view, whole, own }) = found {
            object
                .put("first_op", whole.oldest(&view.timeline).seq)
                .put("last_op", whole.newest(&view.timeline).seq)
                .put("operations", whole.entries.len())
                .put("process", name(*own));
            let changes = view.changes(whole).0;
            object
                .put("changes", changes_value(&changes))
                .put("files", files_value(view, &changes, context));
        }
        object.into_value()
    }
}

impl Found {
    /// Prints how many lines of each file were added and removed.
    fn print_stat(&self, context: &mut Context<'_>, output: &mut Output<'_>) -> Result<(), Error> {
        let options = DiffOptions {
            stat: true,
            ..DiffOptions::default()
        };
        diff::of_entries(
            context,
            &self.view.timeline,
            &self.whole.entries,
            &options,
            output,
        )
    }

    /// Prints the differences that arose while the command ran.
    fn print_differences(
        &self,
        before: u64,
        context: &mut Context<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Error> {
        let newest = self.whole.newest(&self.view.timeline).seq;
        let words = [PathBuf::from(format!("{before}..{newest}"))];
        diff::run(context, &words, &DiffOptions::default(), output)
    }

    /// Takes exactly the operations back that were counted.
    fn roll_back(
        &self,
        before: u64,
        context: &mut Context<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Error> {
        // Others may have changed something since.
        let timeline = back_to(context, before)?;
        // A part of the command's lines may be gone: the rest alone is not its state from before.
        if is_dropped(&timeline, before) {
            let path = context.root.clone();
            let (reason, op) = (Reason::Trimmed, None);
            return Err(Error::Refused(Refusal { path, reason, op }));
        }
        let counted = self.whole.operations(&self.view.timeline);
        let chosen = counted.filter_map(|entry| timeline.find(entry.seq));
        let chosen: Vec<usize> = chosen.collect();
        let all = (Options::default(), 0, false);
        revert::request(context, "revert", timeline, &chosen, all, output).map(drop)
    }
}

/// Whether lines that followed the one with this number were dropped to free space.
fn is_dropped(timeline: &Timeline, before: u64) -> bool {
    let oldest = timeline.oldest_kept();
    oldest.is_some_and(|oldest| oldest.seq > before.saturating_add(1))
}

/// This process as the lines after the one with this number record it. `None`: no descendant left a line.
///
/// Numbers are reused, and lines have start times by a clock that may have been set since. The time between the
/// starts of this process and of its parent is the same in all clocks, so that is compared.
fn own_process(timeline: &Timeline, before: u64) -> Option<Process> {
    let (own, parent) = (std::process::id(), parent_number());
    let age = parent.and_then(|parent| Some(started(own)? - started(parent)?));
    let newer = timeline.entries.iter().filter(|entry| entry.seq > before);
    let matches = newer.filter_map(|entry| {
        let ancestors = &entry.actor.ancestors;
        let at = ancestors.iter().position(|process| process.pid == own)?;
        let found = ancestors[at];
        let is_own = match (age, ancestors.get(at + 1)) {
            (Some(age), Some(above)) => {
                let recorded = nanoseconds(found.start) - nanoseconds(above.start);
                Some(above.pid) == parent && (recorded - age).abs() < ABOUT
            }
            // The parent is the first process of the machine, or not visible.
            _ => true,
        };
        is_own.then_some(found)
    });
    matches.max_by_key(|process| nanoseconds(process.start))
}

/// How exact start times in /proc are, in nanoseconds: two ticks of a clock with a hundred a second, and more.
const ABOUT: i128 = 50_000_000;

/// The number of the parent; `None`: it is in another PID namespace.
fn parent_number() -> Option<u32> {
    let parent = rustix::process::getppid()?;
    u32::try_from(parent.as_raw_nonzero().get()).ok()
}

/// The number of the newest line; 0: there is none.
fn newest(context: &mut Context<'_>) -> Result<u64, Error> {
    let timeline = back_to(context, u64::MAX)?;
    Ok(timeline.entries.first().map_or(0, |entry| entry.seq))
}

/// The history back to the line with this number.
fn back_to(context: &mut Context<'_>, seq: u64) -> Result<Timeline, Error> {
    let mut timeline = Timeline::of_user(context.me);
    loop {
        let extended = timeline.extend(context.object);
        let is_more = extended.map_err(|errno| context.unread(errno))?;
        let oldest = timeline.entries.last();
        if !is_more || oldest.is_some_and(|oldest| oldest.seq <= seq) {
            return Ok(timeline);
        }
    }
}

/// Runs a command with the streams and the terminal of this process, and waits for its end.
fn execute(words: &[OsString]) -> io::Result<ExitStatus> {
    let program = words.first().ok_or(io::ErrorKind::InvalidInput)?;
    // Lines name a process group by the short name of its leader, which may be this process.
    let name = Path::new(program).file_name().unwrap_or(program);
    if let Ok(name) = CString::new(name.as_bytes()) {
        let _ = rustix::thread::set_name(&name);
    }
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    // A key that interrupts the command must not end this process, too. A handler, since a program inherits
    // signals that are ignored.
    let is_pressed = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGQUIT] {
        signal_hook::flag::register(signal, is_pressed.clone())?;
    }
    Command::new(program)
        .args(words.get(1..).unwrap_or_default())
        .status()
}

/// The exit code of a command as a shell has it.
fn code_of(status: ExitStatus) -> u8 {
    let signal = status.signal().map(|signal| signal.saturating_add(128));
    let code = status.code().or(signal).unwrap_or(i32::from(FAILED));
    u8::try_from(code).unwrap_or(FAILED)
}

/// The error for a command that could not be started.
fn not_started(words: &[OsString], error: io::Error) -> Error {
    let name = words
        .first()
        .map(|word| quote_bytes(word.as_bytes(), false));
    Error::NotStarted {
        name: name.unwrap_or_default(),
        error,
    }
}
