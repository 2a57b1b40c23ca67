// SPDX-License-Identifier: MIT OR Apache-2.0

//! The commands.

mod blame;
mod browse;
mod cat;
pub mod complete_values;
pub mod completions;
pub mod config;
pub mod context;
mod copies;
mod deleted;
mod diff;
pub mod doctor;
pub mod log;
mod mark;
mod merge;
pub mod mount_past;
mod names;
mod overview;
mod point;
mod readlog;
mod redo;
pub mod report;
mod restore_out;
mod revert;
mod revert_file;
mod revert_out;
mod run;
pub mod schema;
mod show;
mod status;
mod table;
mod undo;
mod unified;
mod versions;
pub mod view;
mod who;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anstream::ColorChoice;
use jiff::Zoned;
use rustix::io::Errno;

use crate::cli::{Cli, Command, DiffOptions};
use crate::describe::Users;
use crate::error::Error;
use crate::json;
use crate::mount::Mount;
use crate::object::{File, Object};
use crate::output::Output;
use crate::pager::{self, Pager, Terminal};
use crate::session::Session;
use crate::system::System;
use crate::uapi::{Revert, Status, VERSION};
use context::{named_operations, Context};
use loggerfs_log::types::ObjectId;
use mount_past::MountPast;

/// Runs the command that the command line names, and returns its exit code.
pub fn run(cli: &Cli) -> ExitCode {
    let color = cli.color.choice();
    let stdout = std::io::stdout().lock();
    let is_terminal = stdout.is_terminal();
    let columns = is_terminal.then(|| columns(&stdout)).flatten();
    let has_color = match color {
        ColorChoice::Auto => anstream::AutoStream::choice(&stdout) != ColorChoice::Never,
        color => color != ColorChoice::Never,
    };
    let is_paged = is_terminal && cli.json.is_none() && !cli.no_pager && cli.command.is_paged();
    let screen: Box<dyn Write> = if is_paged {
        let terminal = Terminal {
            results: Box::new(stdout),
            messages: Box::new(std::io::stderr()),
        };
        Box::new(Pager::start(pager::named(), terminal))
    } else {
        Box::new(stdout)
    };
    let mut results = std::io::BufWriter::new(screen);
    let mut messages = anstream::AutoStream::new(std::io::stderr(), color);
    let mut output = Output::new(&mut results, &mut messages, cli.json.is_some());
    (output.is_terminal, output.has_color) = (is_terminal, has_color);
    output.columns = columns;
    if let Command::Run { .. } = &cli.command {
        // Standard output is the command's own; JSON is asked for.
        let mut results = anstream::AutoStream::new(std::io::stderr(), color);
        let mut messages = anstream::AutoStream::new(std::io::stderr(), color);
        let mut apart = Output::new(&mut results, &mut messages, false);
        let output = match cli.json {
            Some(_) => &mut output,
            None => &mut apart,
        };
        return guard(cli, output);
    }
    if let Command::MountPast(options) = &cli.command {
        if !options.foreground && !options.detached {
            return start_in_background(cli, options, &mut output);
        }
    }
    let system = System::at(Path::new("/"));
    let mount = cli.mount.as_deref();
    if let Some(result) = off_mount(&cli.command, mount, &system, &mut output) {
        return ExitCode::from(conclude(&cli.command, &subject(cli), result, &mut output));
    }
    if let Command::CompleteValues(_) = &cli.command {
        // A message would appear amid the line that is typed.
        let _ = on_mount(cli, &mut output).and_then(|()| output.finish());
        return ExitCode::SUCCESS;
    }
    if is_on_mount(&cli.command) || names_a_run(cli) {
        let result = on_mount(cli, &mut output);
        let path = subject(cli);
        return ExitCode::from(conclude(&cli.command, &path, result, &mut output));
    }
    let codes: Vec<u8> = (cli.command.files().iter())
        .map(|path| {
            let result = open(&cli.command, path)
                .and_then(|mut file| execute(&cli.command, path, &mut file, &mut output));
            conclude(&cli.command, path, result, &mut output)
        })
        .collect();
    ExitCode::from(in_all(&codes))
}

/// The width of a terminal.
fn columns(terminal: &impl std::os::fd::AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(terminal).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns != 0)
}

/// Runs a command that needs no mount. `None`: this one needs one.
pub fn off_mount(
    command: &Command,
    mount: Option<&Path>,
    system: &System,
    output: &mut Output<'_>,
) -> Option<Result<(), Error>> {
    match command {
        Command::Completions { shell } => Some(completions::run(*shell, output)),
        Command::Schema => Some(schema::run(output)),
        Command::Doctor => Some(doctor::run(system, mount, output)),
        Command::Config { name } => {
            let chosen = (mount, name.as_deref());
            let variable = |name: &str| std::env::var_os(name);
            Some(config::run(system, chosen, &variable, output))
        }
        _ => None,
    }
}

/// The path that messages about a command on a whole mount name.
fn subject(cli: &Cli) -> PathBuf {
    let given = cli.command.files().iter();
    let mut given = given.filter(|path| named_operations(path).is_none());
    let path = cli.mount.as_ref().or_else(|| given.next());
    path.cloned().unwrap_or_else(|| ".".into())
}

/// Whether a command works on a whole mount; the others, on one file after another.
pub fn is_on_mount(command: &Command) -> bool {
    match command {
        Command::Revert {
            files,
            selection,
            options,
            partial,
            merge,
            out,
            ..
        } => {
            let named = |path: &PathBuf| named_operations(path).is_some();
            let is_plan = options.dry_run || out.is_some();
            let any = !selection.is_empty() || selection.ops || *partial || *merge || is_plan;
            any || files.is_empty() || files.iter().any(named)
        }
        Command::Status { file, .. } => file.is_none(),
        Command::Readlog { .. } => false,
        _ => true,
    }
}

/// Whether a `revert` of files alone has a word that may be the name of a run, and is no file.
fn names_a_run(cli: &Cli) -> bool {
    let Command::Revert { files, .. } = &cli.command else {
        return false;
    };
    files.iter().any(|word| names::may_be_name(word))
}

/// Runs a command on its mount.
fn on_mount(cli: &Cli, output: &mut Output<'_>) -> Result<(), Error> {
    with_context(cli, |context| {
        execute_on_mount(&cli.command, context, output)
    })
}

/// Runs another program, and returns the exit code.
fn guard(cli: &Cli, output: &mut Output<'_>) -> ExitCode {
    let result = with_context(cli, |context| run::run(context, &cli.command, output));
    match result.and_then(|code| output.finish().map(|()| code)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => ExitCode::from(conclude(&cli.command, &subject(cli), Err(error), output)),
    }
}

/// Mounts a view that another process serves, and returns the exit code.
fn start_in_background(cli: &Cli, options: &MountPast, output: &mut Output<'_>) -> ExitCode {
    ExitCode::from(match mount_past::start(cli, options) {
        Ok(code) => code,
        Err(error) => conclude(&cli.command, &subject(cli), Err(error), output),
    })
}

/// Calls `work` with the mount that a command is about.
fn with_context<T>(
    cli: &Cli,
    work: impl FnOnce(&mut Context<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let mount = Mount::holding(&subject(cli))?;
    // Any file of the mount will do, where the root is not readable.
    let root = match &cli.command {
        // The mark is made in the directory that is open.
        Command::Mark { .. } | Command::Run { name: Some(_), .. } => {
            File::open_to_look(&subject(cli))
        }
        _ => File::open_to_look(&mount.root),
    };
    let mut root = root.or_else(|_| File::open_to_look(&subject(cli)))?;
    let identify = |path: &Path| identify(&mount.root.join(path));
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let now = Zoned::now();
    let has_own_pids = has_own_pids();
    let session = Session::own(now.timestamp().as_nanosecond());
    let mut context = Context {
        object: &mut root,
        tree: &mount,
        identify: &identify,
        root: mount.root.clone(),
        now,
        users: Users::of(&passwd),
        me: Some(rustix::process::geteuid().as_raw()).filter(|uid| *uid != 0),
        session: session.filter(|_| has_own_pids),
        has_own_pids,
        confirm: &confirm,
    };
    let result = work(&mut context);
    // The message names the given path instead of the root that was found from there.
    result.map_err(|error| match error {
        Error::NotLoggerFs { path } if path == mount.root => {
            Error::NotLoggerFs { path: subject(cli) }
        }
        Error::Version { path } if path == mount.root => Error::Version { path: subject(cli) },
        error => error,
    })
}

/// Asks the user on a terminal. Without a terminal the answer is yes.
fn confirm(question: &str) -> bool {
    if !is_interactive() {
        return true;
    }
    let answer = ask(&format!("{question} [y/N]"));
    matches!(answer.as_deref(), Some("y" | "yes"))
}

/// Whether a user can be asked.
fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks on the terminal; the answer in lower case. `None`: there is none, or the question could not be shown.
fn ask(question: &str) -> Option<String> {
    write!(std::io::stderr(), "{question} ").ok()?;
    let mut answer = String::new();
    let count = std::io::stdin().read_line(&mut answer).ok()?;
    (count != 0).then(|| answer.trim().to_lowercase())
}

/// Whether process numbers are those of the first PID namespace, which the log has.
fn has_own_pids() -> bool {
    // The kernel's PROC_PID_INIT_INO. Without /proc the namespace is unknown.
    let first = Path::new("pid:[4026531836]");
    std::fs::read_link("/proc/self/ns/pid").map_or(true, |own| own == first)
}

/// The object at a path; `None`: the path does not exist.
fn identify(path: &Path) -> Result<Option<ObjectId>, Error> {
    let mut status = Status {
        version: VERSION,
        ..Status::default()
    };
    let mut file = match File::open_to_change(path) {
        Err(Error::Open {
            errno: Errno::NOENT,
            ..
        }) => return Ok(None),
        file => file?,
    };
    file.status(&mut status)
        .map_err(|errno| Error::from_errno(path, "read the log of", errno))?;
    Ok(Some(ObjectId {
        volume: status.volume,
        inode: status.inode,
        generation: status.generation,
    }))
}

/// Executes a command on a whole mount.
pub fn execute_on_mount(
    command: &Command,
    context: &mut Context<'_>,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let command = &names::resolve(command, context, output)?;
    match command {
        Command::Log {
            paths,
            limit,
            processes,
            stat,
            patch,
            all,
            word,
            selection,
        } => {
            let differences = DiffOptions {
                stat: *stat,
                word: *word,
                ..DiffOptions::default()
            };
            // A terminal shows the newest actions; -n 0 asks for all.
            let usual = output.is_terminal.then_some(log::SHOWN);
            let detail = log::Detail {
                all: *all,
                limit: limit.or(usual).filter(|limit| *limit != 0),
                processes: *processes,
                differences: (*stat || *patch).then_some(differences),
            };
            log::run(context, paths, detail, selection, output)
        }
        Command::Who { paths, selection } => who::run(context, paths, selection, output),
        Command::Show { op, diff, word } => {
            let differences = diff.then(|| DiffOptions {
                word: *word,
                ..DiffOptions::default()
            });
            show::run(context, op, differences, output)
        }
        Command::Undo {
            files,
            options,
            count,
            any,
            merge,
            out,
        } => {
            let wanted = undo::Wanted {
                count: *count,
                any: *any,
                merge: *merge,
                words: files,
                out: out.as_deref(),
            };
            undo::undo(context, wanted, *options, output)
        }
        Command::Redo { what, options } => redo::run(context, what, *options, output),
        Command::Revert { .. } => revert_chosen(command, context, output),
        Command::Restore {
            to,
            paths,
            options,
            partial,
            out,
        } => match out {
            Some(out) => restore_out::run(context, to, paths, out, output),
            None => revert::restore(context, to, paths, (*options, *partial), output),
        },
        Command::Cat { file, at, out } => {
            cat::run(context, file, at.as_deref(), out.as_deref(), output)
        }
        Command::Versions { file, limit } => versions::run(context, file, *limit, output),
        Command::Blame { file, at } => blame::run(context, file, at.as_deref(), output),
        Command::Diff { words, options } => diff::run(context, words, options, output),
        Command::Browse => browse::run(context, output),
        Command::Mark { name, message } => mark::place(context, (name, message.as_deref()), output),
        Command::Marks => mark::list(context, output),
        Command::Deleted { dir, null, limit } => {
            deleted::run(context, dir.as_deref(), (*limit, *null), output)
        }
        Command::MountPast(options) => mount_past::run(context, options, output),
        Command::CompleteValues(options) => complete_values::run(context, options, output),
        Command::Completions { .. } | Command::Doctor | Command::Config { .. } => Ok(()),
        Command::Schema => Ok(()),
        Command::Status { limit, .. } => overview::run(context, *limit, output),
        Command::Readlog { .. } | Command::Run { .. } => Ok(()),
    }
}

/// `revert` of more than the newest operations of files.
fn revert_chosen(
    command: &Command,
    context: &mut Context<'_>,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let Command::Revert {
        files,
        selection,
        count,
        options,
        partial,
        merge,
        flat,
        out,
    } = command
    else {
        return Ok(());
    };
    let usage = |message: &str| Error::Usage {
        message: message.to_owned(),
    };
    let is_named = files.iter().any(|path| named_operations(path).is_some());
    if selection.is_empty() && !is_named {
        if let (Some(out), false) = (out, files.is_empty()) {
            return revert::newest_out(context, files, *count, out, output);
        }
        if options.dry_run && !*partial && !*merge && !files.is_empty() {
            return revert::try_newest(context, files, *count, *options, output);
        }
        return Err(usage(
            "no operations were chosen: --last 1 does, for example",
        ));
    }
    if *flat || *count != 1 {
        return Err(usage("--count and --flat go with files alone"));
    }
    if let Some(out) = out {
        return revert::revert_out(context, files, selection, (out, *merge), output);
    }
    let on_conflict = match (*partial, *merge) {
        (_, true) => revert::OnConflict::Merge,
        (true, false) => revert::OnConflict::LeaveOut,
        (false, false) => revert::OnConflict::Refuse,
    };
    revert::revert(context, files, selection, (*options, on_conflict), output)
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
            count,
            options,
            flat,
            ..
        } => {
            let force = if options.force { Revert::FORCE } else { 0 };
            let no_redo = if options.no_redo { Revert::NO_REDO } else { 0 };
            let deep = if *flat { 0 } else { Revert::DEEP };
            revert_file::run(object, path, *count, force | no_redo | deep, output)
        }
        Command::Status { .. } => status::run(object, path, output),
        Command::Log { .. }
        | Command::Who { .. }
        | Command::Show { .. }
        | Command::Undo { .. }
        | Command::Redo { .. }
        | Command::Restore { .. }
        | Command::Cat { .. }
        | Command::Versions { .. }
        | Command::Blame { .. }
        | Command::Diff { .. }
        | Command::Browse
        | Command::Mark { .. }
        | Command::Marks
        | Command::Deleted { .. }
        | Command::MountPast(_)
        | Command::Completions { .. }
        | Command::Schema
        | Command::Doctor
        | Command::Config { .. }
        | Command::CompleteValues(_)
        | Command::Run { .. } => Ok(()),
    }
}

/// Prints the error of a file, if any, and returns the exit code for the file.
pub fn conclude(
    command: &Command,
    path: &Path,
    result: Result<(), Error>,
    output: &mut Output<'_>,
) -> u8 {
    let Err(error) = result.and_then(|()| output.finish()) else {
        return 0;
    };
    let exit = match command {
        Command::Run { .. } => run::exit_code(&error),
        _ => error.exit_code(),
    };
    // The conflicts were printed already.
    if error.exit_code() != 0
        && !matches!(
            error,
            Error::Conflicts { .. } | Error::Differs | Error::Unhealthy
        )
    {
        output.error(&error);
    }
    if output.json && !matches!(error, Error::Output(_) | Error::Differs | Error::Unhealthy) {
        // The exit code and standard error report the error as well.
        let _ = output.object(&json::error(command.name(), path, &error, exit));
        let _ = output.finish();
    }
    exit
}
