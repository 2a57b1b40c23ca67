// SPDX-License-Identifier: MIT OR Apache-2.0

//! Differences of texts in the unified format.

use std::io;
use std::path::Path;

use anstyle::{AnsiColor, Style};
use similar::{ChangeTag, DiffOp, TextDiff};

use crate::error::Error;
use crate::output::Output;
use crate::quote::word;
use crate::word_diff::{pieces, Piece};

use super::diff::FileChange;

const HEAD: Style = Style::new().bold();
const PLACE: Style = AnsiColor::Cyan.on_default();
const ADDED: Style = AnsiColor::Green.on_default();
const REMOVED: Style = AnsiColor::Red.on_default();

/// Lines of context around a change.
const CONTEXT: usize = 3;

/// How far into a file a zero byte makes it binary, as for git.
const LOOKED_AT: usize = 8000;

/// Whether some content is no text.
pub fn is_binary(text: &[u8]) -> bool {
    text[..text.len().min(LOOKED_AT)].contains(&0)
}

/// How many lines were added and removed; `None`: one of both is no text.
pub fn changed_lines(old: &[u8], new: &[u8]) -> Option<(usize, usize)> {
    if is_binary(old) || is_binary(new) {
        return None;
    }
    let diff = TextDiff::from_lines(old, new);
    let count = |tag| {
        diff.iter_all_changes()
            .filter(|change| change.tag() == tag)
            .count()
    };
    Some((count(ChangeTag::Insert), count(ChangeTag::Delete)))
}

/// Prints the change of one file. `by_word`: with changed words inside of lines.
pub fn print(change: &FileChange, by_word: bool, output: &mut Output<'_>) -> Result<(), Error> {
    let name = |path: Option<&Path>, side: &str| match path {
        Some(path) => word(&Path::new(side).join(path)),
        None => "/dev/null".into(),
    };
    let (old, new) = (change.old.as_deref(), change.new.as_deref());
    let names = (name(old, "a"), name(new, "b"));
    let mut head = format!("diff {} {}\n", names.0, names.1);
    if let (Some(old), Some(new)) = (old, new) {
        if old != new {
            head += &format!("rename from {}\nrename to {}\n", word(old), word(new));
        }
    }
    if let (Some(old), Some(new)) = change.modes {
        if old != new {
            head += &format!("old mode {old:o}\nnew mode {new:o}\n");
        }
    }
    output.styled(HEAD, head.as_bytes())?;
    let empty: &[u8] = &[];
    let (old, new) = (&change.texts.0, &change.texts.1);
    let (old, new) = (
        old.as_deref().unwrap_or(empty),
        new.as_deref().unwrap_or(empty),
    );
    if let Some(why) = &change.unread {
        return output.text(&format!("{why}\n"));
    }
    if change.lines().is_none() {
        if change.is_long || old != new || change.sizes.0 != change.sizes.1 {
            let (before, after) = change.sizes;
            output.text(&format!("Binary files differ: {before} -> {after} bytes\n"))?;
        }
        return Ok(());
    }
    if old == new {
        return Ok(());
    }
    output.styled(
        HEAD,
        format!("--- {}\n+++ {}\n", names.0, names.1).as_bytes(),
    )?;
    match by_word {
        true => word_hunks(old, new, output),
        false => hunks(old, new, output),
    }
}

/// The hunks of the change of a text, as [`print`] has them; `None`: there are none.
pub fn patch(change: &FileChange) -> io::Result<Option<Vec<u8>>> {
    if change.lines().is_none() {
        return Ok(None);
    }
    let empty: &[u8] = &[];
    let (old, new) = (&change.texts.0, &change.texts.1);
    let (old, new) = (
        old.as_deref().unwrap_or(empty),
        new.as_deref().unwrap_or(empty),
    );
    let diff = TextDiff::from_lines(old, new);
    let mut patch = Vec::new();
    let mut unified = diff.unified_diff();
    unified.context_radius(CONTEXT).to_writer(&mut patch)?;
    Ok(Some(patch).filter(|patch| !patch.is_empty()))
}

fn hunks(old: &[u8], new: &[u8], output: &mut Output<'_>) -> Result<(), Error> {
    let diff = TextDiff::from_lines(old, new);
    let mut unified = diff.unified_diff();
    for hunk in unified.context_radius(CONTEXT).iter_hunks() {
        output.styled(PLACE, format!("{}\n", hunk.header()).as_bytes())?;
        for change in hunk.iter_changes() {
            let (sign, style) = match change.tag() {
                ChangeTag::Equal => (b' ', None),
                ChangeTag::Insert => (b'+', Some(ADDED)),
                ChangeTag::Delete => (b'-', Some(REMOVED)),
            };
            let mut line = vec![sign];
            line.extend_from_slice(change.value());
            if change.missing_newline() {
                line.extend_from_slice(b"\n\\ No newline at end of file\n");
            }
            match style {
                Some(style) => output.styled(style, &line)?,
                None => output.raw(&line)?,
            }
        }
    }
    Ok(())
}

/// The note on a text that ends inside of a line.
const UNENDED: &str = "\\ No newline at end of file";

/// As [`hunks`], with the old and the new words in one text.
fn word_hunks(old: &[u8], new: &[u8], output: &mut Output<'_>) -> Result<(), Error> {
    let diff = TextDiff::from_lines(old, new);
    let mut unified = diff.unified_diff();
    for hunk in unified.context_radius(CONTEXT).iter_hunks() {
        output.styled(PLACE, format!("{}\n", hunk.header()).as_bytes())?;
        for operation in hunk.ops() {
            let old = diff.old_slices()[operation.old_range()].concat();
            let new = diff.new_slices()[operation.new_range()].concat();
            if let DiffOp::Equal { .. } = operation {
                output.raw(&new)?;
                if !new.ends_with(b"\n") {
                    output.text(&format!("\n{UNENDED}\n"))?;
                }
                continue;
            }
            changed_words(&old, &new, output)?;
        }
    }
    Ok(())
}

/// Prints lines that differ. The end of the last one is no part of the comparison.
fn changed_words(old: &[u8], new: &[u8], output: &mut Output<'_>) -> Result<(), Error> {
    let without_end = |text: &'_ [u8]| text.strip_suffix(b"\n").map_or(text.len(), <[u8]>::len);
    for piece in pieces(&old[..without_end(old)], &new[..without_end(new)]) {
        match piece {
            Piece::Same(text) => output.raw(text)?,
            Piece::Removed(text) => marked(REMOVED, ("[-", "-]"), text, output)?,
            Piece::Added(text) => marked(ADDED, ("{+", "+}"), text, output)?,
        }
    }
    output.raw(b"\n")?;
    let is_unended = |text: &[u8]| !text.is_empty() && !text.ends_with(b"\n");
    let note = UNENDED.as_bytes();
    match (is_unended(old), is_unended(new)) {
        (false, false) => return Ok(()),
        (true, true) => output.raw(note)?,
        (true, false) => marked(REMOVED, ("[-", "-]"), note, output)?,
        (false, true) => marked(ADDED, ("{+", "+}"), note, output)?,
    }
    output.raw(b"\n")
}

/// Prints a text with marks, or in a style: in each of its lines.
fn marked(
    style: Style,
    (begin, end): (&str, &str),
    text: &[u8],
    output: &mut Output<'_>,
) -> Result<(), Error> {
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        if number != 0 {
            output.raw(b"\n")?;
        }
        match output.has_color {
            _ if line.is_empty() => {}
            true => output.styled(style, line)?,
            false => output.raw(&[begin.as_bytes(), line, end.as_bytes()].concat())?,
        }
    }
    Ok(())
}
