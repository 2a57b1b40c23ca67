// SPDX-License-Identifier: MIT OR Apache-2.0

//! Names of marks and runs on the command line: each is replaced by the number of its line, so that commands
//! have to know numbers only.

use std::path::{Path, PathBuf};

use crate::cli::{Command, Selection};
use crate::error::Error;
use crate::json::remark;
use crate::marks::{self, named, NamedMark};
use crate::operation_spec::run_word;
use crate::output::Output;
use crate::quote::quoted;
use crate::time::rfc3339;
use loggerfs_log::line::is_mark_name;

use super::context::Context;

/// So many of the newest segments are searched for a mark that is named like a file.
const NEARBY: usize = 4;

/// The meaning of a mark that is no run, as a word for operations.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plain {
    /// The operations since then.
    Since,
    /// None.
    Refused,
}

/// The command with numbers in place of names. Where the history cannot be read, the command is unchanged: it
/// says why.
pub fn resolve(
    command: &Command,
    context: &mut Context<'_>,
    output: &mut Output<'_>,
) -> Result<Command, Error> {
    let mut command = command.clone();
    let mut names = Names {
        context,
        all: None,
        alike: Vec::new(),
    };
    match &mut command {
        Command::Log {
            paths, selection, ..
        }
        | Command::Who { paths, selection }
        | Command::Revert {
            files: paths,
            selection,
            ..
        } => {
            names.words(paths, Plain::Refused)?;
            names.times(selection);
        }
        Command::Undo { files, .. } => names.words(files, Plain::Refused)?,
        Command::Diff { words, .. } => names.words(words, Plain::Since)?,
        Command::Show { op, .. } | Command::Redo { what: op, .. } => {
            *op = names.of_text(op)?;
        }
        Command::Restore { to: point, .. } => *point = names.point(point)?,
        Command::MountPast(options) => options.point = names.point(&options.point)?,
        Command::Cat { at, .. } | Command::Blame { at, .. } => {
            if let Some(point) = at {
                *point = names.point(point)?;
            }
        }
        _ => {}
    }
    let alike = names.alike;
    for (path, name) in alike {
        note_alike(&path, &name, context, output)?;
    }
    Ok(command)
}

/// Says that a word means a file, and how the mark of that name is written.
fn note_alike(
    path: &Path,
    name: &str,
    context: &Context<'_>,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let file = quoted(path);
    let message = format!("{file} means the file (./{name}); a mark has that name, too: @{name}.");
    output.say(&message);
    match output.json {
        true => {
            output.object(&remark("NamedLikeFile", &context.root.join(path), &message).into_value())
        }
        false => Ok(()),
    }
}

/// Whether a word may be the name of a mark, and no file has that name.
pub fn may_be_name(word: &Path) -> bool {
    let is_name = |text: &str| is_mark_name(text.strip_prefix('@').unwrap_or(text).as_bytes());
    let is_range = |text: &str| {
        let ends = text.split_once("..");
        ends.is_some_and(|(from, to)| is_name(from) || is_name(to))
    };
    let is_any = word
        .to_str()
        .is_some_and(|text| is_name(text) || is_range(text));
    is_any && word.symlink_metadata().is_err()
}

/// The names of a mount.
struct Names<'c, 's> {
    context: &'c mut Context<'s>,
    /// All marks, when they have been read.
    all: Option<Vec<NamedMark>>,
    /// Files that have the name of a mark.
    alike: Vec<(PathBuf, String)>,
}

impl Names<'_, '_> {
    /// The mark of a name, which may have a leading `@`. `None`: there is none.
    fn find(&mut self, text: &str) -> Result<Option<NamedMark>, Error> {
        let name = text.strip_prefix('@').unwrap_or(text);
        if !is_mark_name(name.as_bytes()) {
            return Ok(None);
        }
        if self.all.is_none() {
            // The command itself reports that the history cannot be read.
            let read = marks::read(self.context.object, usize::MAX);
            self.all = Some(read.unwrap_or_default());
        }
        let all = self.all.as_deref().unwrap_or_default();
        let found = named(all, name, self.context.uid()).cloned();
        match found {
            None if text != name => Err(Error::Nothing {
                message: format!("no mark has the name '{name}'"),
            }),
            found => Ok(found),
        }
    }

    /// Replaces names among words for operations and paths.
    fn words(&mut self, words: &mut [PathBuf], plain: Plain) -> Result<(), Error> {
        for word in words {
            if may_be_name(word) {
                let text = word.to_string_lossy().into_owned();
                *word = self.word(&text, plain)?.into();
            } else if let Some(name) = word.to_str().filter(|text| is_mark_name(text.as_bytes())) {
                self.compare(word, name);
            }
        }
        Ok(())
    }

    /// Notes a file that has the name of a mark among the newest ones.
    fn compare(&mut self, path: &Path, name: &str) {
        let marks = match &self.all {
            Some(all) => all.clone(),
            None => marks::read(self.context.object, NEARBY).unwrap_or_default(),
        };
        if named(&marks, name, self.context.uid()).is_some() {
            self.alike.push((path.to_owned(), name.to_owned()));
        }
    }

    /// A word for operations: a name, or a range of points.
    fn word(&mut self, text: &str, plain: Plain) -> Result<String, Error> {
        if let Some((from, to)) = text.split_once("..") {
            let (from, to) = (self.end(from)?, self.end(to)?);
            return Ok(format!("{from}..{to}"));
        }
        match self.find(text)? {
            None => Ok(text.to_owned()),
            Some(mark) if mark.is_run => Ok(run_word(mark.seq, &mark.name)),
            Some(mark) if plain == Plain::Since => Ok(format!("{}..", mark.seq)),
            Some(mark) => Err(no_run(&mark.name)),
        }
    }

    /// An end of a range.
    fn end(&mut self, text: &str) -> Result<String, Error> {
        let found = self.find(text)?;
        Ok(found.map_or_else(|| text.to_owned(), |mark| mark.seq.to_string()))
    }

    /// A word that cannot be a path.
    fn of_text(&mut self, text: &str) -> Result<String, Error> {
        self.word(text, Plain::Refused)
    }

    /// A point.
    fn point(&mut self, text: &str) -> Result<String, Error> {
        match self.find(text)? {
            Some(mark) => Ok(mark.seq.to_string()),
            None if is_mark_name(text.as_bytes()) => Err(Error::Usage {
                message: format!(
                    "'{text}' is no point: no mark has that name (`logctl marks` lists them), and it is neither \
                     a number nor a time, such as 10m, 2h ago, 14:05, 'yesterday 9am'"
                ),
            }),
            None => Ok(text.to_owned()),
        }
    }

    /// Replaces names by the times of marks.
    fn times(&mut self, selection: &mut Selection) {
        for moment in [&mut selection.since, &mut selection.until] {
            let found = moment.as_deref().map(|text| self.find(text));
            if let Some(Ok(Some(mark))) = found {
                *moment = Some(rfc3339(mark.time));
            }
        }
    }
}

/// The error for a mark where a run is wanted.
fn no_run(name: &str) -> Error {
    Error::Usage {
        message: format!(
            "'{name}' is a mark, not a run: `{name}..` are the operations since then, `..{name}` those before"
        ),
    }
}
