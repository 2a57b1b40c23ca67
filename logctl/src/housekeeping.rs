// SPDX-License-Identifier: MIT OR Apache-2.0

//! Actions of programs' own files beside those that a person works on: swap files and locks of editors, and the
//! index of git, which `git status` writes anew. The log leaves them out, and an undo passes over them.

use std::collections::HashMap;

use crate::actions::{is_on_names, Action};
use crate::quote::decoded;
use crate::timeline::{Entry, Timeline};
use loggerfs_log::line::{Line, Op};
use loggerfs_log::types::ObjectId;

/// Separates housekeeping from work, by names.
pub struct Housekeeping {
    /// The last name of each object that lines name, in the form of lines.
    names: HashMap<ObjectId, Vec<u8>>,
}

impl Housekeeping {
    /// Of the lines that were read.
    pub fn of(timeline: &Timeline) -> Self {
        let mut names = HashMap::new();
        for entry in timeline
            .entries
            .iter()
            .filter(|entry| is_on_names(entry.op))
        {
            let line = entry.brief();
            let name = if line.op == Op::Rename {
                line.to
            } else {
                line.name
            };
            if let (Some(node), Some(name)) = (line.node, name) {
                names.entry(node).or_insert_with(|| name.to_vec());
            }
        }
        Self { names }
    }

    /// Whether an action did nothing else.
    pub fn is_all_of(&self, timeline: &Timeline, action: &Action) -> bool {
        action.operations(timeline).all(|entry| self.has(entry))
    }

    fn has(&self, entry: &Entry) -> bool {
        let is_git = entry.actor.program() == "git";
        if entry.group().is_some() {
            return false;
        }
        if !is_on_names(entry.op) {
            let name = entry.object.and_then(|object| self.names.get(&object));
            return name.is_some_and(|name| {
                let name = decoded(name);
                is_own_file(&name, is_git) || (is_git && name == b"index")
            });
        }
        let line = entry.brief();
        match line.op {
            Op::Create | Op::Symlink | Op::Unlink => line
                .name
                .is_some_and(|name| is_own_file(&decoded(name), is_git)),
            Op::Rename => is_git && is_index(&line),
            _ => false,
        }
    }
}

/// Whether git put a new index in the old one's place.
fn is_index(line: &Line<'_>) -> bool {
    line.name == Some(b"index.lock".as_slice()) && line.to == Some(b"index".as_slice())
}

/// Whether a name is that of a swap file of vim (`.a.txt.swp`), of the file with which vim tries a directory, of
/// a lock of Emacs (`.#a.txt`) or LibreOffice (`.~lock.a.odt#`), or of the lock of git's index. Git also writes
/// files of the user, such as `Cargo.lock` or a file that is called `index`: those are work.
fn is_own_file(name: &[u8], is_git: bool) -> bool {
    let is_hidden = name.starts_with(b".") && name.len() > 5;
    let end = name.len().checked_sub(4).map(|at| &name[at..]);
    let is_swap = matches!(end, Some([b'.', b's', b'v' | b'w', b'a'..=b'z']));
    (is_hidden && is_swap)
        || name == b"4913"
        || name.starts_with(b".#")
        || (name.starts_with(b".~lock.") && name.ends_with(b"#"))
        || (is_git && name == b"index.lock")
}

/// The newest actions, at most so many, without those that only did housekeeping, and the number of those.
pub fn fold<'a>(
    timeline: &Timeline,
    actions: &'a [Action],
    limit: usize,
    is_folded: bool,
) -> (Vec<&'a Action>, usize) {
    let housekeeping = is_folded.then(|| Housekeeping::of(timeline));
    let mut shown = Vec::new();
    let mut hidden = 0;
    for action in actions {
        if shown.len() == limit {
            break;
        }
        match &housekeeping {
            Some(housekeeping) if housekeeping.is_all_of(timeline, action) => hidden += 1,
            _ => shown.push(action),
        }
    }
    (shown, hidden)
}

#[cfg(test)]
mod tests {
    use super::is_own_file;

    #[test]
    fn files_of_editors_and_git_are_told_by_name() {
        for name in [
            ".a.txt.swp",
            ".a.swo",
            ".swap.swx",
            "4913",
            ".#notes",
            ".~lock.a.odt#",
        ] {
            assert!(is_own_file(name.as_bytes(), false), "{name}");
        }
        for name in [
            "a.swp",
            ".swp",
            "index",
            "index.lock",
            "Cargo.lock",
            ".gitignore",
            "49130",
        ] {
            assert!(!is_own_file(name.as_bytes(), false), "{name}");
        }
        assert!(is_own_file(b"index.lock", true));
        for name in ["Cargo.lock", "HEAD", "index", "HEAD.lock"] {
            assert!(!is_own_file(name.as_bytes(), true), "{name}");
        }
    }
}
