// SPDX-License-Identifier: GPL-2.0

//! No modification without its line: each way to change an object leaves exactly the listed lines,
//! in the logs where they belong, and none elsewhere.
//!
//! `make mutants` takes the hooks away one at a time, and looks here for the test that notices.

mod attributes;
mod content;
mod lasting;
mod names;
mod order;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::fixture::Fixture;
use crate::harness::Test;
use crate::mounts::Lower;
use crate::outcome::{check, At, Outcome};
use crate::shadow::pattern;
use crate::undo::{self, Line};

pub const TESTS: &[Test] = &[
    Test::new("lines-of-content", |w| each(w, content::CASES)).seconds(120),
    Test::new("lines-of-stripped-privileges", |w| {
        each(w, content::STRIPPING)
    }),
    Test::new("lines-of-names", |w| each(w, names::CASES)).seconds(120),
    Test::new("lines-of-attributes", |w| each(w, attributes::CASES)),
    Test::new("lines-of-nothing", |w| each(w, content::NOTHING)),
    Test::new("close-lines", lasting::close_lines),
    Test::new("lines-last-when-asked", lasting::last_when_asked).unmounted(),
    Test::new("journal-first", order::journal_first)
        .unmounted()
        .only(&[Lower::Ext4]),
];

/// One way to change something.
struct LineCase {
    name: &'static str,
    change: fn(&LinePlace) -> io::Result<()>,
    /// The new lines, as [`text`] puts them; objects by the names that they had before.
    lines: &'static [&'static str],
    /// Not every lower filesystem supports it. A refused operation leaves no line.
    optional: bool,
}

impl LineCase {
    const fn new(
        name: &'static str,
        change: fn(&LinePlace) -> io::Result<()>,
        lines: &'static [&'static str],
    ) -> LineCase {
        LineCase {
            name,
            change,
            lines,
            optional: false,
        }
    }

    const fn optional(mut self) -> LineCase {
        self.optional = true;
        self
    }
}

/// How long the files of a place are.
const SIZE: usize = 20_480;

/// A case's own directory: the files `f`, `g` and `full/x`, the directories `full` and `empty`.
struct LinePlace<'w> {
    fixture: &'w Fixture,
    root: PathBuf,
    /// All objects of the tree, open, so that they can be queried wherever their names go.
    objects: Vec<(&'static str, File)>,
}

impl<'w> LinePlace<'w> {
    fn new(fixture: &'w Fixture, number: usize) -> Outcome<LinePlace<'w>> {
        let root = fixture.path(&format!("p{number}"));
        fs::create_dir_all(root.join("full"))?;
        fs::create_dir(root.join("empty"))?;
        for (seed, name) in ["f", "g", "full/x"].into_iter().enumerate() {
            fs::write(root.join(name), pattern(seed as u64, SIZE))?;
        }
        let mut objects = Vec::new();
        for name in [".", "f", "g", "full", "full/x", "empty"] {
            objects.push((name, File::open(root.join(name))?));
        }
        Ok(LinePlace {
            fixture,
            root,
            objects,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Opens for reading and writing.
    fn open(&self, name: &str) -> io::Result<File> {
        let mut options = File::options();
        options.read(true).write(true).open(self.path(name))
    }

    /// A shell line, run in the place.
    fn sh(&self, line: &str) -> io::Result<()> {
        crate::mounts::run_in(&self.root, &["bash", "-euc", line])
            .map(drop)
            .map_err(|stop| io::Error::other(format!("{stop:?}")))
    }

    /// The lines of all objects: those that were there at first, and those that came.
    fn lines(&self) -> Outcome<BTreeMap<String, Vec<String>>> {
        let mut found = BTreeMap::new();
        let mut known = Vec::new();
        for (name, file) in &self.objects {
            known.push(file.metadata()?.ino());
            found.insert((*name).to_string(), lines(name, file)?);
        }
        for directory in ["", "full/"] {
            let Ok(entries) = fs::read_dir(self.path(directory)) else {
                continue;
            };
            for entry in entries {
                let entry = entry?;
                let kind = entry.file_type()?;
                let is_known = known.contains(&entry.metadata()?.ino());
                if is_known || !(kind.is_file() || kind.is_dir()) {
                    continue;
                }
                let name = format!("{directory}{}", entry.file_name().to_string_lossy());
                let new = lines(&name, &File::open(entry.path())?)?;
                found.insert(name, new);
            }
        }
        Ok(found)
    }
}

/// All lines of an object except closing lines, which depend on the time of the close.
fn lines(name: &str, file: &File) -> Outcome<Vec<String>> {
    let lines = undo::lines(file, true).at(format!("the log of {name}"))?;
    let told = lines.iter().filter(|line| line.op != "close");
    Ok(told.map(|line| text(name, line)).collect())
}

/// `OBJECT: OP OFFSET LENGTH`, then the names in the line, `away` for a rename to another
/// directory, and `lost` where there is no way back.
fn text(object: &str, line: &Line) -> String {
    let mut text = format!("{object}: {}", line.brief());
    for name in ["name", "to"].into_iter().filter_map(|key| line.key(key)) {
        text += &format!(" {name}");
    }
    if line.key("parent").is_some() {
        text += " away";
    }
    if line.key("undo") == Some("lost") {
        text += " lost";
    }
    text
}

/// Runs all cases; reports every failure.
fn each(w: &mut Fixture, cases: &[LineCase]) -> Outcome {
    let mut failures = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        if let Some(failure) = one(w, number, case).at(case.name)? {
            failures.push(format!("{}: {failure}", case.name));
        }
    }
    check!(failures.is_empty(), "{}", failures.join("; "));
    Ok(())
}

/// Runs one case; returns its failure.
fn one(w: &Fixture, number: usize, case: &LineCase) -> Outcome<Option<String>> {
    let place = LinePlace::new(w, number)?;
    let before = place.lines()?;
    let result = (case.change)(&place);
    let mut new = Vec::new();
    for (name, lines) in place.lines()? {
        let old = before.get(&name).map_or(0, Vec::len);
        new.extend_from_slice(&lines[old..]);
    }
    let mut want: Vec<&str> = case.lines.to_vec();
    match result {
        Ok(()) => {}
        Err(error) if case.optional && is_unknown(&error) => want.clear(),
        Err(error) => return Ok(Some(error.to_string())),
    }
    // By object; the lines of one object in their order.
    want.sort_by_key(|line| line.split(':').next());
    Ok((new != want).then(|| format!("the logs got {new:?}, want {want:?}")))
}

/// Whether the lower filesystem has no such operation.
fn is_unknown(error: &io::Error) -> bool {
    let unknown = [Errno::OPNOTSUPP, Errno::NOTTY, Errno::INVAL];
    Errno::from_io_error(error).is_some_and(|errno| unknown.contains(&errno))
}
