// SPDX-License-Identifier: MIT OR Apache-2.0

//! `mount-past`: mounts a read-only view of the mount as it was at a point.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use rustix::io::Errno;

use crate::cli::Cli;
use crate::describe::local;
use crate::error::Error;
use crate::json::JsonObject;
use crate::output::Output;
use crate::past_directories::PastDirectories;
use crate::past_mount::{
    check_directory, MountedView, MovingFilesystem, NewerLines, PresentTree, View,
};
use crate::past_times::PastTimes;
use crate::quote::word;
use crate::revision::Revision;
use crate::time::rfc3339;
use crate::timeline::{Entry, Timeline};
use crate::uapi::{Status, VERSION};

use super::context::Context;
use super::point::cut;

/// The point, and the directory of the mount.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct MountPast {
    /// An operation's number, @- or @~3 (so many actions back), or a time: 10m, '2h ago', 14:05. @: the present
    /// state, which moves with new operations; all other points stay.
    #[arg(value_name = "POINT")]
    pub point: String,

    /// An empty directory outside of the mount.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,

    /// Let other users in, with the rights that they had then. Only for root.
    #[arg(long)]
    pub allow_other: bool,

    /// Stay in the foreground.
    #[arg(long)]
    pub foreground: bool,

    /// Serve in the background: standard input is a socket that takes a byte when the view is mounted.
    #[arg(long, hide = true, conflicts_with = "foreground")]
    pub detached: bool,
}

/// Mounts the view, and serves it until it is unmounted.
pub fn run(
    context: &mut Context<'_>,
    options: &MountPast,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    if options.detached {
        // A session of its own: the terminal's signals are for other programs.
        let _ = rustix::process::setsid();
    }
    if options.allow_other && context.me.is_some() {
        return Err(Error::Usage {
            message: "--allow-other is for root: others would see files only you may see".into(),
        });
    }
    let revision = Revision::parse(&options.point, &context.now);
    let revision = revision.map_err(|message| Error::Usage { message })?;
    if revision == Revision::Back(0) {
        return run_moving(context, options, output);
    }
    let source = context.root.to_string_lossy().into_owned();
    let dir_and_report = |timeline: &Timeline, cut, device, context: &Context<'_>| {
        let dir = check_directory(&options.dir, device)?;
        let report = Report::of(timeline, cut, &dir, context);
        Ok((dir, report))
    };
    let (view, (dir, report)) = open_view(context, &options.point, dir_and_report)?;
    let mounted = MountedView::of_point(view, &dir, &source, options.allow_other)?;
    serve(mounted, &report, options, output)
}

/// Mounts the view that follows new operations.
fn run_moving(
    context: &mut Context<'_>,
    options: &MountPast,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let mut status = Status {
        version: VERSION,
        ..Status::default()
    };
    // Whose log may not be read is a LoggerFS mount, too.
    match context.object.status(&mut status) {
        Ok(()) | Err(Errno::PERM | Errno::ACCESS) => {}
        Err(errno) => return Err(context.unread(errno)),
    }
    let present = present_tree(context)?;
    let dir = check_directory(&options.dir, present.device())?;
    let report = Report {
        root: context.root.clone(),
        dir: dir.clone(),
        point: None,
        is_root: context.me.is_none(),
    };
    let source = context.root.to_string_lossy();
    let filesystem = MovingFilesystem::new(present, options.allow_other);
    let mounted = MountedView::mount(filesystem, &dir, &source, options.allow_other)?;
    serve(mounted, &report, options, output)
}

/// Reports a mounted view, and serves it until it is unmounted.
fn serve<F: fuser::Filesystem>(
    mounted: MountedView<F>,
    report: &Report,
    options: &MountPast,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    report.print(output)?;
    output.finish()?;
    // The directories of the caller's shell stay free.
    let _ = std::env::set_current_dir("/");
    if options.detached {
        report_ready().map_err(Error::Output)?;
    }
    mounted.serve().map_err(Error::Output)
}

/// The state of the mount at a point. `look` gets the lines, which are not kept: the number of the last one of
/// the point, and the device of the mount.
fn open_view<'k, T>(
    context: &'k mut Context<'_>,
    point: &str,
    look: impl FnOnce(&Timeline, u64, u64, &Context<'_>) -> Result<T, Error>,
) -> Result<(View<'k>, T), Error> {
    let usage = |message| Error::Usage { message };
    let revision = Revision::parse(point, &context.now).map_err(usage)?;
    let present = present_tree(context)?;
    // Before the whole history: lines that come meanwhile are read again.
    let newer = NewerLines::of_newest_segment(context.object);
    let newer = newer.map_err(|errno| context.unread(errno))?;
    let timeline = context.whole()?;
    let cut = cut(&timeline, revision, point, context)?;
    let newest = timeline.entries.first().map_or(0, |entry| entry.seq);
    let past = (
        PastDirectories::at(&timeline, cut),
        PastTimes::at(&timeline, cut),
        cut,
    );
    let looked = look(&timeline, cut, present.device(), context)?;
    // Each line is kept once, in the form that the view needs.
    drop(timeline);
    let view = View::new(context.object, present, past, (newer, newest));
    Ok((view, looked))
}

/// The state of the mount right after a line of the timeline, which has all lines.
pub fn view_of<'k>(
    context: &'k mut Context<'_>,
    timeline: &Timeline,
    cut: u64,
) -> Result<View<'k>, Error> {
    let present = present_tree(context)?;
    let newest = timeline.entries.first();
    let newer = NewerLines::of_segment(newest.map_or(0, |entry| entry.at.segment));
    let newest = newest.map_or(0, |entry| entry.seq);
    let past = (
        PastDirectories::at(timeline, cut),
        PastTimes::at(timeline, cut),
        cut,
    );
    Ok(View::new(context.object, present, past, (newer, newest)))
}

fn present_tree(context: &Context<'_>) -> Result<PresentTree, Error> {
    PresentTree::open(&context.root).map_err(|error| Error::Open {
        path: context.root.clone(),
        to_change: false,
        errno: Errno::from_io_error(&error).unwrap_or(Errno::IO),
    })
}

/// The state of the mount at a point, the inode number of its root, and the number of the last line of the
/// point. `check` may refuse.
pub fn view_at<'k>(
    context: &'k mut Context<'_>,
    point: &str,
    check: impl FnOnce(&Timeline, &Context<'_>) -> Result<(), Error>,
) -> Result<(View<'k>, u64, u64), Error> {
    let (view, cut) = open_view(context, point, |timeline, cut, _, context| {
        check(timeline, context)?;
        Ok(cut)
    })?;
    let root = view.root();
    Ok((view, root, cut))
}

/// Closes standard output and errors, and reports to the waiting process that the view is mounted.
fn report_ready() -> io::Result<()> {
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    // A waiting process that was ended is no reason to unmount.
    let _ = rustix::io::write(rustix::stdio::stdin(), &[1]);
    Ok(rustix::stdio::dup2_stdin(&null)?)
}

/// Starts this program again in the background, waits until the view is mounted, and returns the exit code.
pub fn start(cli: &Cli, options: &MountPast) -> Result<u8, Error> {
    let failed = |error: io::Error| Error::Mount {
        dir: options.dir.clone(),
        message: format!("the process for it cannot be started: {error}"),
        hint: "`--foreground` needs no further process.".into(),
    };
    let (mut ready, theirs) = UnixStream::pair().map_err(failed)?;
    let program = std::env::current_exe().map_err(failed)?;
    let mut command = Command::new(program);
    command.arg0("logctl").args(words(cli, options));
    command.stdin(OwnedFd::from(theirs));
    let mut child = command.spawn().map_err(failed)?;
    // The end of the socket that the command holds must not keep the read from ending.
    drop(command);
    if ready.read_exact(&mut [0]).is_ok() {
        return Ok(0);
    }
    let status = child.wait().map_err(failed)?;
    Ok(status
        .code()
        .map_or(1, |code| u8::try_from(code).unwrap_or(1)))
}

/// The arguments of the process in the background.
fn words(cli: &Cli, options: &MountPast) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec![format!("--color={}", cli.color.name()).into()];
    if let Some(version) = cli.json {
        words.push(format!("--json={version}").into());
    }
    if let Some(mount) = &cli.mount {
        words.extend(["--mount".into(), mount.into()]);
    }
    words.extend(["mount-past".into(), "--detached".into()]);
    if options.allow_other {
        words.push("--allow-other".into());
    }
    let names = ["--".into(), (&options.point).into(), (&options.dir).into()];
    words.extend(names);
    words
}

/// The mounted view, for the user.
struct Report {
    root: PathBuf,
    dir: PathBuf,
    /// `None`: the view moves.
    point: Option<ReportedPoint>,
    is_root: bool,
}

/// The point of a view, for the user.
struct ReportedPoint {
    cut: u64,
    /// The time of the newest line that is included, for JSON and in words; `None`: there is none.
    time: Option<(String, String)>,
}

impl Report {
    fn of(timeline: &Timeline, cut: u64, dir: &Path, context: &Context<'_>) -> Self {
        let at = timeline.entries.partition_point(|entry| entry.seq > cut);
        let time = |entry: &Entry| {
            let zone = context.now.time_zone();
            (rfc3339(entry.time), local(entry.time, zone))
        };
        Self {
            root: context.root.clone(),
            dir: dir.to_owned(),
            point: Some(ReportedPoint {
                cut,
                time: timeline.entries.get(at).map(time),
            }),
            is_root: context.me.is_none(),
        }
    }

    /// The command that ends the view.
    fn unmount(&self) -> &'static str {
        match self.is_root {
            true => "umount",
            false => "fusermount3 -u",
        }
    }

    fn print(&self, output: &mut Output<'_>) -> Result<(), Error> {
        if output.json {
            let mut object = JsonObject::new("mount-past", &self.root);
            let time = |point: &ReportedPoint| point.time.as_ref().map(|(time, _)| time.clone());
            object
                .put_known("op", self.point.as_ref().map(|point| point.cut))
                .put_known("time", self.point.as_ref().and_then(time))
                .put("moving", self.point.is_none())
                .put_bytes("dir", self.dir.as_os_str().as_bytes())
                .put("unmount", self.unmount());
            return output.object(&object.into_value());
        }
        let (root, dir) = (word(&self.root), word(&self.dir));
        let command = self.unmount();
        let state = match &self.point {
            None => "as it is at any time".to_owned(),
            Some(ReportedPoint { cut, time }) => {
                let time = time.as_ref();
                let time = time.map_or_else(String::new, |(_, time)| format!("{time} "));
                format!("as of {time}(op {cut})")
            }
        };
        output.text(&format!(
            "Mounted {root} {state} on {dir}; `{command} {dir}` ends it.\n"
        ))
    }
}
