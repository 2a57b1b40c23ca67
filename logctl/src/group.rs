// SPDX-License-Identifier: MIT OR Apache-2.0

//! Requests that take operations of any objects back.

use std::collections::{BTreeMap, HashSet};

use rustix::io::Errno;

use crate::object::Object;
use crate::paths::Tree;
use crate::save::SaveUnits;
use crate::timeline::{Entry, Timeline};
use crate::uapi::{Conflict, Operation, Reason, RevertGroup, VERSION};
use loggerfs_log::line::{Line, Op};

/// How many conflicts are asked for at once.
const MOST_CONFLICTS: usize = 65_536;

/// How often the request is repeated without the operations that conflict.
const ROUNDS: usize = 1000;

/// The reply of the kernel to a group request.
#[derive(Debug)]
pub struct GroupReply {
    /// The reply.
    pub reply: RevertGroup,
    /// The conflicts, as far as the kernel listed them.
    pub conflicts: Vec<Conflict>,
    /// Operations that stay live: the directories that they made are not empty.
    pub staying: Vec<Conflict>,
    /// The errno of a refused request.
    pub refused: Option<Errno>,
}

impl GroupReply {
    /// The reply to a request that is not made because its conflicts are known.
    pub fn refusal(conflicts: &[Conflict]) -> Self {
        Self {
            reply: RevertGroup {
                found: u32::try_from(conflicts.len()).unwrap_or(u32::MAX),
                ..RevertGroup::default()
            },
            conflicts: conflicts.to_vec(),
            staying: Vec::new(),
            refused: Some(Errno::BUSY),
        }
    }
}

/// The requests for lines of a timeline, the newest first.
pub fn operations(timeline: &Timeline, entries: &[usize]) -> Vec<Operation> {
    let mut operations: Vec<Operation> = entries
        .iter()
        .map(|index| {
            let entry = &timeline.entries[*index];
            Operation {
                seq: entry.seq,
                segment: entry.at.segment,
                offset: entry.at.offset,
            }
        })
        .collect();
    operations.sort_by_key(|operation| std::cmp::Reverse(operation.seq));
    operations.dedup_by_key(|operation| operation.seq);
    operations
}

/// Asks once.
pub fn ask(object: &mut dyn Object, operations: &[Operation], flags: u32) -> GroupReply {
    let mut reply = RevertGroup {
        version: VERSION,
        flags,
        ..RevertGroup::default()
    };
    let capacity = operations.len().clamp(1, MOST_CONFLICTS);
    let mut conflicts = vec![Conflict::default(); capacity];
    let result = object.revert_group(&mut reply, operations, &mut conflicts);
    let found = usize::try_from(reply.found).unwrap_or(usize::MAX);
    conflicts.truncate(found.min(capacity));
    // A member's refusal may name an operation twice.
    let mut seen = HashSet::new();
    conflicts.retain(|conflict| seen.insert((conflict.seq, conflict.blocker, conflict.reason)));
    let staying = if result.is_ok() {
        std::mem::take(&mut conflicts)
    } else {
        Vec::new()
    };
    GroupReply {
        reply,
        conflicts,
        staying,
        refused: result.err(),
    }
}

/// As [`ask`]. The kernel finds a file that lost one of several names by another name that is in its memory
/// or in a directory that lines record. Otherwise, this searches the tree, which brings the name into memory,
/// and repeats the request. The search has the calling user's rights, as the kernel's check has.
pub fn ask_searching(
    object: &mut dyn Object,
    (timeline, tree): (&Timeline, &dyn Tree),
    operations: &[Operation],
    flags: u32,
) -> GroupReply {
    let answer = ask(object, operations, flags);
    let wanted = unknown(timeline, &answer.conflicts);
    if wanted.is_empty() || tree.find(&wanted).is_empty() {
        return answer;
    }
    ask(object, operations, flags)
}

/// The inode numbers of objects that may have a name which the kernel does not know.
fn unknown(timeline: &Timeline, conflicts: &[Conflict]) -> HashSet<u64> {
    let mut found = HashSet::new();
    for conflict in conflicts {
        let Some(entry) = timeline.find(conflict.seq).map(|at| &timeline.entries[at]) else {
            continue;
        };
        let reason = Reason::from_code(conflict.reason);
        if !reason.is_some_and(may_be_named) {
            continue;
        }
        if entry.group().is_some() {
            let same = |other: &&Entry| other.object == entry.object;
            let nodes = timeline.entries.iter().filter(same);
            found.extend(nodes.filter_map(|other| named_elsewhere(&other.line())));
        } else {
            found.extend(named_elsewhere(&entry.line()));
        }
        let is_gone = reason == Some(Reason::Gone);
        found.extend(entry.object.filter(|_| is_gone).map(|object| object.inode));
    }
    found
}

/// Whether a refusal may come from not knowing a name.
pub fn may_be_named(reason: Reason) -> bool {
    matches!(reason, Reason::Lost | Reason::Gone | Reason::NotOwner)
}

/// The inode number of the file that lost or got one of several names, by its line.
pub fn named_elsewhere(line: &Line<'_>) -> Option<u64> {
    let is_one_of_several = match line.op {
        Op::Link => true,
        Op::Unlink | Op::Rename => line.vfh.is_some() && line.kept.is_none(),
        _ => false,
    };
    let lost = if line.op == Op::Rename {
        line.over
    } else {
        line.node
    };
    lost.filter(|_| is_one_of_several)
        .map(|object| object.inode)
}

/// Operations that were left out, with their conflicts.
pub type LeftOut = BTreeMap<u64, Conflict>;

/// Repeats the request without the operations that conflict. Returns the last reply, its
/// operations, and those that were left out.
pub fn ask_partly(
    object: &mut dyn Object,
    (timeline, tree): (&Timeline, &dyn Tree),
    units: &SaveUnits<'_>,
    (mut operations, blocked): (Vec<Operation>, &[Conflict]),
    flags: u32,
) -> (GroupReply, Vec<Operation>, LeftOut) {
    let mut left_out = LeftOut::new();
    for conflict in blocked {
        leave_out(timeline, units, &mut operations, conflict, &mut left_out);
    }
    if operations.is_empty() {
        return (GroupReply::refusal(blocked), operations, left_out);
    }
    for _ in 0..ROUNDS {
        let answer = ask_searching(object, (timeline, tree), &operations, flags);
        if answer.refused.is_none() || answer.conflicts.is_empty() {
            return (answer, operations, left_out);
        }
        let before = operations.len();
        for conflict in &answer.conflicts {
            leave_out(timeline, units, &mut operations, conflict, &mut left_out);
        }
        if operations.is_empty() || operations.len() == before {
            return (answer, operations, left_out);
        }
    }
    let answer = ask(object, &operations, flags);
    (answer, operations, left_out)
}

/// Leaves out the operation of a conflict with the other operations of its save, or all operations of the
/// object if none of them can be taken back.
fn leave_out(
    timeline: &Timeline,
    units: &SaveUnits<'_>,
    operations: &mut Vec<Operation>,
    conflict: &Conflict,
    left_out: &mut LeftOut,
) {
    let of_object = matches!(
        Reason::from_code(conflict.reason),
        Some(
            Reason::External
                | Reason::Mapped
                | Reason::Executed
                | Reason::Leased
                | Reason::Busy
                | Reason::NotOwner
                | Reason::NotWritable
                | Reason::NotPermitted
                | Reason::Corrupt
                | Reason::Gone
        )
    );
    let object_of = |seq: u64| {
        timeline
            .find(seq)
            .and_then(|index| timeline.entries[index].object)
    };
    let object = object_of(conflict.seq).filter(|_| of_object);
    let at = timeline.find(conflict.seq);
    operations.retain(|operation| {
        let other = timeline.find(operation.seq);
        let is_it = operation.seq == conflict.seq
            || (at.zip(other)).is_some_and(|(at, other)| units.are_one(at, other))
            || (object.is_some() && object_of(operation.seq) == object);
        if is_it {
            left_out.insert(
                operation.seq,
                Conflict {
                    seq: operation.seq,
                    ..*conflict
                },
            );
        }
        !is_it
    });
}
