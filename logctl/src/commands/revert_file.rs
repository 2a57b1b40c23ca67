// SPDX-License-Identifier: MIT OR Apache-2.0

//! `revert`: takes back a file's newest operations.

use std::collections::HashSet;
use std::path::Path;

use crate::error::Error;
use crate::group::{may_be_named, named_elsewhere};
use crate::json;
use crate::mount::Mount;
use crate::object::Object;
use crate::output::Output;
use crate::pages::newest;
use crate::paths::Tree;
use crate::quote::{decoded, program, quote_bytes, quoted, word};
use crate::uapi::{Reason, Revert, VERSION};
use loggerfs_log::line::{Line, Op};

use super::report::CANNOT_BE_REDONE;

/// How many operations are listed one by one.
const LISTED: usize = 20;

/// Among how many of the newest lines our own revert is looked for.
const RECENT: usize = 64;

/// Takes operations back, and prints which.
pub fn run(
    object: &mut impl Object,
    path: &Path,
    count: u64,
    flags: u32,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    // One more than is listed, for the hint. A user who may not read the log gets a shorter report.
    let wanted = usize::try_from(count).unwrap_or(usize::MAX).min(LISTED) + 1;
    let before = newest(object, false, wanted.saturating_add(RECENT)).unwrap_or_default();
    let wanted = Revert {
        version: VERSION,
        flags,
        count,
        ..Revert::default()
    };
    let mut request = wanted;
    let mut result = object.revert(&mut request);
    if result.is_err() && finds_names(path, &before, count, request.reason) {
        request = wanted;
        result = object.revert(&mut request);
    }
    result
        .map_err(|errno| Error::from_revert(path, errno, request.reason, request.blocking_seq))?;
    let after = newest(object, true, RECENT).unwrap_or_default();
    let report = FileReport {
        inside: request.inside,
        no_redo: flags & Revert::NO_REDO != 0,
        ..FileReport::new(&before, &after, request.reverted)
    };
    if output.json {
        report.print_json(path, output)
    } else {
        report.print(path, count, output)
    }
}

/// Whether the tree has names that the kernel did not know, of files that are to get a name back: they are in
/// its memory now.
fn finds_names(path: &Path, before: &[Vec<u8>], count: u64, reason: u32) -> bool {
    if !Reason::from_code(reason).is_some_and(may_be_named) {
        return false;
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let lines = before
        .iter()
        .filter_map(|line| Line::parse(line, None).ok());
    let lost = lines.take(count).filter_map(|line| named_elsewhere(&line));
    let lost: HashSet<u64> = lost.collect();
    let found = |mount: Mount| !mount.find(&lost).is_empty();
    !lost.is_empty() && Mount::holding(path).is_ok_and(found)
}

/// The result of a revert, as recorded in the log.
struct FileReport<'l> {
    /// How many operations were taken back.
    reverted: u64,
    /// How many lines they have.
    lines: u64,
    /// How many more, inside of directories that came back.
    inside: u32,
    /// Whether the replaced content was not saved.
    no_redo: bool,
    /// The newest of them, newest first.
    operations: Vec<Line<'l>>,
    /// The number of the revert's own line.
    own: Option<u64>,
    /// The operation that would be next.
    next: Option<Line<'l>>,
}

impl<'l> FileReport<'l> {
    /// Finds out from the lines that stood before, and all lines after, both newest first.
    /// Others may have worked on the file in between, so that our own line says which operation
    /// was the first to be taken back, and how many lines: one operation may have several.
    fn new(before: &'l [Vec<u8>], after: &[Vec<u8>], reverted: u64) -> Self {
        let stood = |seq: u64| {
            let mut lines = before
                .iter()
                .filter_map(|line| Line::parse(line, None).ok());
            lines.any(|line| line.seq == seq)
        };
        let is_own = |line: &Line<'_>| {
            line.count == Some(reverted)
                || (line.count > Some(reverted) && line.of.is_some_and(stood))
        };
        let own = after
            .iter()
            .filter_map(|line| Line::parse(line, None).ok())
            .find(|line| line.op == Op::Revert && is_own(line));
        let newest = own.and_then(|line| line.of);
        let lines = own.and_then(|line| line.count).unwrap_or(reverted);
        let mut live = before
            .iter()
            .filter_map(|line| Line::parse(line, None).ok())
            .skip_while(|line| newest != Some(line.seq));
        let count = usize::try_from(lines).unwrap_or(usize::MAX);
        let operations: Vec<_> = live.by_ref().take(count.min(LISTED)).collect();
        let next = if operations.len() == count {
            live.next()
        } else {
            None
        };
        Self {
            reverted,
            lines,
            inside: 0,
            no_redo: false,
            operations,
            own: own.map(|line| line.seq),
            next,
        }
    }

    /// Prints the report as text.
    fn print(&self, path: &Path, wanted: u64, output: &mut Output<'_>) -> Result<(), Error> {
        let plural = if self.reverted == 1 {
            "operation"
        } else {
            "operations"
        };
        let head = format!("Reverted {} {plural} of {}", self.reverted, quoted(path));
        match &self.operations[..] {
            [] => output.text(&format!("{head}.\n"))?,
            [one] => output.text(&format!("{head}: {}.\n", describe(one)))?,
            several => {
                output.text(&format!("{head}:\n"))?;
                for operation in several {
                    output.text(&format!("  {}\n", describe(operation)))?;
                }
                let listed = u64::try_from(several.len()).unwrap_or(u64::MAX);
                if listed < self.lines {
                    output.text(&format!("  … and {} older ones\n", self.lines - listed))?;
                }
            }
        }
        match self.inside {
            0 => {}
            1 => output.text("1 more inside of what came back.\n")?,
            n => output.text(&format!("{n} more inside of what came back.\n"))?,
        }
        if self.no_redo {
            output.text(CANNOT_BE_REDONE)?;
        }
        output.finish()?;
        let file = word(path);
        let before = self.next.as_ref().map(|next| {
            let next = describe(next);
            format!("`logctl {file} revert` takes back the one before: {next}")
        });
        let nothing = || {
            format!("no more operations are live; `logctl {file} readlog --all` lists the reverted operations")
        };
        let first = before.or_else(|| (self.reverted < wanted).then(nothing));
        // It is a step back, so `undo` would go on before it.
        let redo =
            (self.own.is_some() && !self.no_redo).then(|| "`logctl redo` does it again".to_owned());
        let hints: Vec<String> = redo.into_iter().chain(first).collect();
        if !hints.is_empty() {
            output.hint(&format!("{}.", hints.join("; ")));
        }
        Ok(())
    }

    /// Prints the report as JSON: the listed operations, then a summary.
    fn print_json(&self, path: &Path, output: &mut Output<'_>) -> Result<(), Error> {
        for operation in &self.operations {
            output.object(&json::op(path, operation))?;
        }
        let mut summary = json::JsonObject::new("summary", path);
        summary
            .put("command", "revert")
            .put("reverted", self.reverted)
            .put("inside", self.inside)
            .put("listed", self.operations.len())
            .put("no_redo", self.no_redo)
            .put_known("op", self.own)
            .put_known("next_op", self.next.map(|line| line.seq));
        output.object(&summary.into_value())
    }
}

/// An operation in a few words.
fn describe(line: &Line<'_>) -> String {
    let (op, seq) = (line.op.as_str(), line.seq);
    let name = |value: &[u8]| quote_bytes(&decoded(value), true);
    let what = match (line.name, line.to) {
        (Some(old), Some(new)) => format!("{op} {} to {}", name(old), name(new)),
        (Some(only), None) => format!("{op} {}", name(only)),
        _ => format!("{op} {} {}", line.offset, line.length),
    };
    match program(line.command) {
        Some(program) => format!("{what} by {program} (op {seq})"),
        None => format!("{what} (op {seq})"),
    }
}
