// SPDX-License-Identifier: MIT OR Apache-2.0

//! `undo`: takes back what was last done to a file, be it by a save that renamed another file to its
//! name; of a directory, the last action in it.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::revert;
use crate::action::{last_change, newest_action, Undo};
use crate::error::{Error, Refusal};
use crate::history::line::{encode_percent, Line, Op};
use crate::object::{File, Object};
use crate::output::Output;
use crate::pages::newest;
use crate::uapi::{Reason, Revert};

/// Among how many of the newest lines an action is looked for.
const LOOKED_AT: usize = 10_000;

/// Takes the last action on a path back.
pub fn run(path: &Path, output: &mut Output<'_>) -> Result<(), Error> {
    let mut file = match File::open_to_change(path) {
        Err(Error::Open {
            errno: Errno::NOENT,
            ..
        }) => None,
        opened => Some(opened?),
    };
    if let (Some(file), true) = (&mut file, path.is_dir()) {
        return of_object(file, path, output);
    }
    let own = match &mut file {
        Some(file) => standing(file, path)?,
        None => Vec::new(),
    };
    let own_lines = parsed(&own);
    // Through a symbolic link it is the file that was meant.
    let real = path
        .is_symlink()
        .then(|| path.canonicalize().ok())
        .flatten();
    let (directory, name) = place(real.as_deref().unwrap_or(path));
    let mut parent = None;
    let undo = match name {
        None => newest_action(&own_lines),
        Some(name) => {
            let directory = parent.insert(File::open_to_change(&directory)?);
            let lines = standing(directory, path)?;
            let is_all = own.len() < LOOKED_AT;
            last_change(&name, &own_lines, is_all, &parsed(&lines))
        }
    };
    match (undo, &mut file, &mut parent) {
        (Undo::File(count), Some(file), _) => revert::run(file, path, count, Revert::DEEP, output),
        (Undo::Directory(count), _, Some(parent)) => {
            revert::run(parent, &directory, count, Revert::DEEP, output)
        }
        (Undo::Blocked(op), ..) => refuse(&directory, Reason::Conflict, Some(op)),
        _ => refuse(path, Reason::NothingLeft, None),
    }
}

/// Takes an object's last action back, by its own lines alone.
pub fn of_object(
    object: &mut impl Object,
    path: &Path,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let own = standing(object, path)?;
    match newest_action(&parsed(&own)) {
        Undo::File(count) => revert::run(object, path, count, Revert::DEEP, output),
        _ => refuse(path, Reason::NothingLeft, None),
    }
}

fn refuse(path: &Path, reason: Reason, op: Option<u64>) -> Result<(), Error> {
    let path = path.to_owned();
    Err(Error::Refused(Refusal { path, reason, op }))
}

/// The directory of a path, and its name as lines have it; none of `/`, and of `..`.
fn place(path: &Path) -> (PathBuf, Option<Vec<u8>>) {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let name = path.file_name().map(|name| {
        let mut encoded = vec![0; 3 * name.len()];
        let length = encode_percent(name.as_bytes(), &mut encoded).unwrap_or(0);
        encoded.truncate(length);
        encoded
    });
    (directory, name)
}

/// The newest lines that stand and are operations that changed something.
fn standing(object: &mut impl Object, path: &Path) -> Result<Vec<Vec<u8>>, Error> {
    newest(object, false, LOOKED_AT)
        .map_err(|errno| Error::from_errno(path, "read the log of", errno))
}

fn parsed(lines: &[Vec<u8>]) -> Vec<Line<'_>> {
    let parsed = lines.iter().filter_map(|line| Line::parse(line, None).ok());
    parsed.filter(|line| line.op != Op::Read).collect()
}
