// SPDX-License-Identifier: MIT OR Apache-2.0

//! A file that a revert merges: its versions are read, merged, and the result is written into it.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::commands::context::Context;
use crate::error::Error;
use crate::ioctl;
use crate::merge::{merge, Markers, Merge, MOST_LINES};
use crate::merge_plan::{FileVersion, MergeFile, MergeRun, WhyNot};
use crate::old_content::content;
use crate::quote::word;
use crate::uapi::{Status, VERSION};
use loggerfs_log::types::ObjectId;

/// Files of more bytes are not merged.
pub const MOST: u64 = 16 << 20;

/// A file with the result of its merge.
#[derive(Debug)]
pub struct MergedFile {
    /// Where it is, relative to the root.
    pub path: PathBuf,
    /// Its object.
    pub object: ObjectId,
    /// The merge.
    pub merge: Merge,
    /// The content that the merge began with.
    now: Vec<u8>,
    file: File,
}

/// A file that stays as it is.
#[derive(Debug)]
pub struct UnmergedFile {
    /// Where it is, or was, relative to the root.
    pub path: PathBuf,
    /// The number of the last line before the change that stays.
    pub before: u64,
    /// Why, as a word for programs.
    pub reason: &'static str,
    /// Why, as the end of a sentence.
    pub why: String,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergeInto {
    /// The merge is written into the file.
    File,
    /// It is written elsewhere, with markers where changes overlap.
    Copy,
}

impl UnmergedFile {
    /// Of a file that the plan leaves alone.
    pub fn planned(path: PathBuf, before: u64, why: WhyNot) -> Self {
        let (reason, why) = match why {
            WhyNot::Made => ("Made", "the operations made it".into()),
            WhyNot::Removed => ("Removed", "the operations removed it".into()),
            WhyNot::Gone => ("Gone", "it was removed later".into()),
            WhyNot::Moved(to) => ("Moved", format!("it was moved later: {}", word(&to))),
            WhyNot::Reverted => ("Reverted", "a revert of its names is in between".into()),
            WhyNot::External => ("External", "it was changed outside LoggerFS".into()),
            WhyNot::Mixed => (
                "Mixed",
                "its changes alternate with later ones too often".into(),
            ),
        };
        Self {
            path,
            before,
            reason,
            why,
        }
    }
}

/// Why one file is not merged, or why no file is.
enum Failure {
    This(&'static str, String),
    All(Error),
}

/// Reads the versions of a file and merges them.
pub fn merge_file(
    context: &mut Context<'_>,
    plan: &MergeFile,
    into: MergeInto,
) -> Result<Result<MergedFile, UnmergedFile>, Error> {
    match read_and_merge(context, plan, into) {
        Ok(merged) => Ok(Ok(merged)),
        Err(Failure::All(error)) => Err(error),
        Err(Failure::This(reason, why)) => Ok(Err(UnmergedFile {
            path: plan.path.clone(),
            before: plan.runs.last().map_or(0, |run| run.before.cut),
            reason,
            why,
        })),
    }
}

fn read_and_merge(
    context: &mut Context<'_>,
    plan: &MergeFile,
    into: MergeInto,
) -> Result<MergedFile, Failure> {
    let file = open(&context.root.join(&plan.path), plan.object, into)?;
    let now = read(&file)?;
    check(&now)?;
    let mut whole: Option<Merge> = None;
    for (step, run) in plan.runs.iter().enumerate() {
        let text = whole.as_ref().map_or(&now, |merge| &merge.text);
        let merge = merge_run(context, &plan.path, run, text, (into, step))?;
        whole = Some(match whole {
            None => merge,
            Some(newer) => merge.after(newer),
        });
    }
    Ok(MergedFile {
        path: plan.path.clone(),
        object: plan.object,
        merge: whole.unwrap_or_default(),
        now,
        file,
    })
}

/// Takes one run out of a text.
fn merge_run(
    context: &mut Context<'_>,
    path: &Path,
    run: &MergeRun,
    text: &[u8],
    (into, step): (MergeInto, usize),
) -> Result<Merge, Failure> {
    let base = version(context, path, run.after)?;
    let undone = version(context, path, run.before)?;
    let names = [
        "now".to_owned(),
        format!("after op {}", run.after.cut),
        format!("before op {}", run.before.cut.saturating_add(1)),
    ];
    let markers = Markers {
        names: [&names[0], &names[1], &names[2]],
        // Those of a newer run may be in the text.
        length: 7 + 2 * step,
    };
    let markers = Some(markers).filter(|_| into == MergeInto::Copy);
    merge(&base, &undone, text, markers)
        .ok_or_else(|| Failure::This("TooLong", format!("it has more than {MOST_LINES} lines")))
}

/// Opens the file with an object, which must still be at a path.
fn open(path: &Path, object: ObjectId, into: MergeInto) -> Result<File, Failure> {
    let access = match into {
        MergeInto::File => OFlags::RDWR,
        MergeInto::Copy => OFlags::RDONLY,
    };
    let flags = access | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| {
        let error = io::Error::from(errno);
        Failure::This("Open", format!("it cannot be opened: {error}"))
    })?;
    let mut status = Status {
        version: VERSION,
        ..Status::default()
    };
    let is_it = ioctl::status(file.as_fd(), &mut status).is_ok()
        && (status.volume, status.inode, status.generation)
            == (object.volume, object.inode, object.generation);
    let file = File::from(file);
    let found = file.metadata().map_err(unread)?;
    match (is_it, found.is_file(), found.len() <= MOST) {
        (false, ..) => Err(changed()),
        (_, false, _) => Err(Failure::This("NotText", "it is no regular file".into())),
        (_, _, false) => Err(too_long()),
        _ => Ok(file),
    }
}

fn unread(error: io::Error) -> Failure {
    Failure::This("Unread", format!("it cannot be read: {error}"))
}

fn changed() -> Failure {
    Failure::This("Changed", "it was changed just now".into())
}

fn too_long() -> Failure {
    let most = MOST >> 20;
    Failure::This("TooLong", format!("it is or was longer than {most} MiB"))
}

/// Checks that a content is text.
fn check(text: &[u8]) -> Result<(), Failure> {
    match text.contains(&0) {
        true => Err(Failure::This(
            "NotText",
            "it has or had NUL bytes, so it is no text".into(),
        )),
        false => Ok(()),
    }
}

/// A content that the file had.
fn version(
    context: &mut Context<'_>,
    path: &Path,
    version: FileVersion,
) -> Result<Vec<u8>, Failure> {
    let found = content(context.object, version.object, version.cut, path);
    let mut found = found.map_err(|error| match error {
        Error::OldContent(_) => Failure::This("Unread", error.to_string()),
        error => Failure::All(error),
    })?;
    if !found.is_regular() {
        return Err(Failure::This("NotText", "it was no regular file".into()));
    }
    let text = found.bytes(MOST).map_err(unread)?.ok_or_else(too_long)?;
    check(&text)?;
    Ok(text)
}

/// The whole content of an open file.
fn read(file: &File) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read_at(&mut buffer, text.len() as u64) {
            Ok(0) => return Ok(text),
            Ok(count) => text.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unread(error)),
        }
        if text.len() as u64 > MOST {
            return Err(too_long());
        }
    }
}

impl MergedFile {
    /// Whether the merge differs from the content that it began with.
    pub fn is_change(&self) -> bool {
        self.merge.text != self.now
    }

    /// Writes the merge into the file, which keeps its object: open files, owner, mode and attributes stay. The
    /// content is compared right before and after. `Err`: it is not as it should be.
    pub fn write(&self) -> Result<(), UnmergedFile> {
        self.replace().map_err(|failure| {
            let (reason, why) = match failure {
                Failure::This(reason, why) => (reason, why),
                Failure::All(error) => ("Written", error.to_string()),
            };
            UnmergedFile {
                path: self.path.clone(),
                before: 0,
                reason,
                why,
            }
        })
    }

    fn replace(&self) -> Result<(), Failure> {
        if read(&self.file)? != self.now {
            return Err(changed());
        }
        let (old, new) = (&self.now, &self.merge.text);
        let same = old.iter().zip(new).take_while(|(old, new)| old == new);
        let start = same.count();
        // Without what is the same at the end, if that does not move.
        let (old_rest, new_rest) = (&old[start..], &new[start..]);
        let same = old_rest.iter().rev().zip(new_rest.iter().rev());
        let tail = match old.len() == new.len() {
            true => same.take_while(|(old, new)| old == new).count(),
            false => 0,
        };
        let written = (self.file)
            .write_all_at(&new_rest[..new_rest.len() - tail], start as u64)
            .and_then(|()| match new.len() < old.len() {
                true => self.file.set_len(new.len() as u64),
                false => Ok(()),
            });
        written.map_err(|error| {
            let why = format!("it was perhaps written in part: {error}");
            Failure::This("Written", why)
        })?;
        match read(&self.file)? == *new {
            true => Ok(()),
            false => Err(Failure::This(
                "Changed",
                "another program changed it while it was merged, so look at it".into(),
            )),
        }
    }
}
