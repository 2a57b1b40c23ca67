// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cat`: prints the content that a file had, or writes it to a new file.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read, Seek};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::error::Error;
use crate::json::JsonObject;
use crate::old_content::{content, into_file, OldContent};
use crate::output::Output;
use crate::past_tree::PastTree;
use crate::quote::{decoded, quoted, word};
use crate::revision::Revision;
use crate::timeline::{Entry, Timeline};
use loggerfs_log::line::Op;
use loggerfs_log::plan::is_on_names;
use loggerfs_log::types::ObjectId;

use super::context::Context;
use super::point::{cut, described};

/// Prints the content that `path` had at a point, or has, or had last.
pub fn run(
    context: &mut Context<'_>,
    path: &Path,
    at: Option<&str>,
    out: Option<&Path>,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let (object, cut) = find(context, path, at)?;
    match out {
        Some(out) => write_to(context, (path, object, cut), out, output),
        None => print(
            &mut content(context.object, object, cut, path)?,
            path,
            output,
        ),
    }
}

/// The object that the path led to, and the line after which it is read.
fn find(
    context: &mut Context<'_>,
    path: &Path,
    at: Option<&str>,
) -> Result<(ObjectId, u64), Error> {
    let place = context.place(path)?;
    let timeline = context.whole()?;
    context.check_names(&timeline, core::slice::from_ref(&place))?;
    let tree = |cut| PastTree::new(&timeline, cut, context.tree, context.identify);
    if let Some(at) = at {
        let usage = |message| Error::Usage { message };
        let revision = Revision::parse(at, &context.now).map_err(usage)?;
        let cut = cut(&timeline, revision, at, context)?;
        let found = tree(cut).object(&place)?;
        let nothing = || Error::Nothing {
            message: format!(
                "{} did not exist at {}",
                quoted(path),
                described(&timeline, revision, context)
            ),
        };
        return Ok((found.ok_or_else(nothing)?, cut));
    }
    if let Some(object) = tree(u64::MAX).object(&place)? {
        return Ok((object, u64::MAX));
    }
    // Of a file that is gone, its last state.
    for cut in removals(&timeline, &place) {
        if let Some(object) = tree(cut).object(&place)? {
            return Ok((object, cut));
        }
    }
    Err(Error::Nothing {
        message: format!("the log has no file that was called {}", quoted(path)),
    })
}

/// The numbers of the lines before those that may have taken the path's name away, the newest first.
fn removals<'t>(timeline: &'t Timeline, place: &'t Path) -> impl Iterator<Item = u64> + 't {
    let own = place.file_name().unwrap_or_default().as_bytes();
    let takes = move |entry: &&Entry| {
        let line = entry.line();
        let names = [line.name, line.to].into_iter().flatten();
        match entry.op {
            Op::Unlink | Op::Rmdir | Op::Rename | Op::Exchange => {
                names.map(decoded).any(|name| name == own)
            }
            // An undo may have taken a creation back.
            Op::Revert | Op::Redo => is_on_names(&line),
            _ => false,
        }
    };
    let entries = timeline.entries.iter().filter(takes);
    entries.map(|entry| entry.seq.saturating_sub(1))
}

/// Refuses what has no content.
fn require_file(old: &OldContent, path: &Path) -> Result<(), Error> {
    if old.is_regular() {
        return Ok(());
    }
    let what = if old.is_directory() {
        "a directory"
    } else {
        "no regular file"
    };
    Err(Error::Nothing {
        message: format!("{} was {what}", quoted(path)),
    })
}

fn print(old: &mut OldContent, path: &Path, output: &mut Output<'_>) -> Result<(), Error> {
    require_file(old, path)?;
    if output.json {
        return print_json(old, path, output);
    }
    let Some(file) = old.file.as_mut() else {
        return Ok(());
    };
    file.rewind().map_err(Error::Output)?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut buffer).map_err(Error::Output)?;
        if read == 0 {
            return Ok(());
        }
        output.content(&buffer[..read])?;
    }
}

/// Longer content does not go into one object.
const MOST: u64 = 16 << 20;

fn print_json(old: &mut OldContent, path: &Path, output: &mut Output<'_>) -> Result<(), Error> {
    let content = old.bytes(MOST).map_err(Error::Output)?;
    let content = content.ok_or_else(|| Error::Nothing {
        message: format!(
            "{} has {} bytes, and JSON takes {MOST} at most: --out writes it to a file",
            quoted(path),
            old.size
        ),
    })?;
    let mut object = JsonObject::new("content", path);
    object
        .put("size", old.size)
        .put_known("mode", old.access.map(|access| access.mode))
        .put_bytes("text", &content);
    output.object(&object.into_value())
}

/// Writes the content to a file that must not exist, with the permissions that the file had.
fn write_to(
    context: &mut Context<'_>,
    (path, object, cut): (&Path, ObjectId, u64),
    out: &Path,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let wrong = |error: std::io::Error| Error::Nothing {
        message: format!("cannot write {}: {error}", quoted(out)),
    };
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create_new(true).mode(0o600);
    let file = options.open(out).map_err(wrong)?;
    let written = into_file(context.object, object, cut, file, path)
        .and_then(|old| require_file(&old, path).map(|()| old));
    let old = match written {
        Ok(old) => old,
        Err(error) => {
            // Nothing of a failed copy stays.
            let _ = std::fs::remove_file(out);
            return Err(error);
        }
    };
    if let (Some(access), Some(file)) = (old.access, &old.file) {
        set_mode(file, access.mode).map_err(wrong)?;
    }
    output.say(format_args!("Wrote {} bytes to {}.", old.size, word(out)));
    if !output.json {
        return Ok(());
    }
    let mut object = JsonObject::new("summary", path);
    object.put("command", "cat").put("bytes", old.size);
    object.put_bytes("out", out.as_os_str().as_bytes());
    output.object(&object.into_value())
}

/// Without the bits that would run a copy as its owner.
fn set_mode(file: &File, mode: u32) -> std::io::Result<()> {
    file.set_permissions(Permissions::from_mode(mode & 0o777))
}
