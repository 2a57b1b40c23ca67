// SPDX-License-Identifier: GPL-2.0

//! The operations that a file's log has, and which events of the model they are.

use std::collections::{HashMap, HashSet};

use crate::model::Event;
use crate::outcome::{fail, Outcome};
use crate::undo;

/// The operations on content that are calls of programs.
const CONTENT: [&str; 6] = ["write", "truncate", "punch", "zero", "allocate", "copy"];

/// The operations in a log, as events record them. Cancelled ones are left out, amended ones have their final
/// range, and a call with several lines is one.
pub struct Recorded {
    pub operations: Vec<String>,
    /// Whether a call has several lines: a revert's line counts them all.
    has_parts: bool,
}

/// A call whose lines are joined.
struct JoinedCall {
    /// Number of its first line.
    first: u64,
    offset: u64,
    end: u64,
}

impl Recorded {
    /// Reads lines, oldest first. `strict`: each revert must have ended.
    pub fn of(lines: &[undo::Line], strict: bool) -> Outcome<Recorded> {
        let mut ends: HashMap<u64, &undo::Line> = HashMap::new();
        for line in lines {
            if ["cancel", "commit", "amend"].contains(&line.op.as_str()) {
                ends.insert(line.number("of")?, line);
            }
        }
        let mut found = Recorded {
            operations: Vec::new(),
            has_parts: false,
        };
        let mut call: Option<JoinedCall> = None;
        for line in lines {
            let end = ends.get(&line.number("seq")?);
            if end.is_some_and(|end| end.op == "cancel") {
                continue;
            }
            match (line.op.as_str(), end) {
                ("revert" | "redo", None) if strict => {
                    fail!("a revert was neither ended nor withdrawn: {}", line.text)
                }
                // Two reverts of one file must not be taken for each other.
                ("revert", _) => {
                    let (count, size) = (line.number("count")?, line.number("now")?);
                    found.operations.push(format!("revert {count} {size}"));
                }
                ("redo", _) => {
                    let redone = format!("redo {}", line.number("now")?);
                    found.operations.push(redone);
                }
                (word, end) if word == "mmap" || CONTENT.contains(&word) => {
                    let amended = end.filter(|end| word != "mmap" && end.op == "amend");
                    let range =
                        amended.map_or((line.offset, line.length), |end| (end.offset, end.length));
                    found.add(line, range, &mut call)?;
                    continue;
                }
                _ => continue,
            }
            call = None;
        }
        Ok(found)
    }

    /// Adds an operation on a range, or joins it with the call that it continues.
    fn add(
        &mut self,
        line: &undo::Line,
        (offset, length): (u64, u64),
        call: &mut Option<JoinedCall>,
    ) -> Outcome {
        let of = line.key("of").and_then(|of| of.parse::<u64>().ok());
        let end = offset + length;
        if let (Some(joined), Some(last)) = (call.as_mut(), self.operations.last_mut()) {
            if of == Some(joined.first) && joined.end == offset {
                joined.end = end;
                *last = format!("{} {} {}", line.op, joined.offset, end - joined.offset);
                self.has_parts = true;
                return Ok(());
            }
        }
        self.operations
            .push(format!("{} {offset} {length}", line.op));
        let first = line.number("seq")?;
        *call = Some(JoinedCall { first, offset, end });
        Ok(())
    }

    /// Whether an operation is this event.
    fn is(&self, operation: &str, event: &Event) -> bool {
        let counted = |text: &str| -> Option<(u64, u64)> {
            let (count, size) = text.strip_prefix("revert ")?.split_once(' ')?;
            Some((count.parse().ok()?, size.parse().ok()?))
        };
        operation == event.line
            || event.with_rest.as_deref() == Some(operation)
            || match (counted(operation), counted(&event.line)) {
                (Some((lines, now)), Some((events, size))) => {
                    self.has_parts && lines > events && now == size
                }
                _ => false,
            }
    }

    /// Which events (from 1 on) the operations are: all up to some event, or the last of those.
    pub fn contiguous(&self, events: &[&Event], trimmed: bool) -> Option<HashSet<usize>> {
        let count = self.operations.len();
        (count..=events.len()).rev().find_map(|end| {
            let start = end - count;
            let mut pairs = events[start..end].iter().zip(&self.operations);
            let same = pairs.all(|(event, operation)| self.is(operation, event));
            // Dropped operations are recorded, but cannot be taken back any more.
            (same && (start == 0 || trimmed)).then(|| (1..=end).collect())
        })
    }

    /// The same where some operations could not be recorded.
    pub fn scattered(&self, events: &[&Event]) -> Option<HashSet<usize>> {
        let mut found = HashSet::new();
        let mut end = events.len();
        for operation in self.operations.iter().rev() {
            end = events[..end]
                .iter()
                .rposition(|event| self.is(operation, event))?;
            found.insert(end + 1);
        }
        Some(found)
    }
}
