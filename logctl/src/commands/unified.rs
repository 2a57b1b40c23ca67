// SPDX-License-Identifier: MIT OR Apache-2.0

//! Differences of texts in the unified format.

use std::path::Path;

use anstyle::{AnsiColor, Style};
use similar::{ChangeTag, TextDiff};

use crate::error::Error;
use crate::output::Output;
use crate::quote::word;

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

/// Prints the change of one file.
pub fn print(change: &FileChange, output: &mut Output<'_>) -> Result<(), Error> {
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
    hunks(old, new, output)
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
