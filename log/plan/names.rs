// SPDX-License-Identifier: GPL-2.0 OR MIT

//! How an operation on names is taken back: which name goes, which object comes back to which name.

use super::super::types::ObjectId;
use super::{
    super::line::{Line, Op, Undo},
    PlanError,
};

/// An object that has lost a name, and where to find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Victim<'a> {
    /// Which object.
    pub object: ObjectId,
    /// The segment in orphans/, if the name was the last one.
    pub kept: Option<u64>,
    /// The file handle in hexadecimal, if the object had other names or has one again.
    pub handle: Option<&'a [u8]>,
}

/// A directory and its file handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Directory<'a> {
    /// Which directory.
    pub object: ObjectId,
    /// Its file handle, hexadecimal.
    pub handle: &'a [u8],
}

/// One step of taking a line back. Names are percent-encoded, and of the directory that the line is
/// about, unless `parent` says another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameStep<'a> {
    /// Removes the name; the object becomes an orphan if this is its last name.
    Remove {
        /// The name.
        name: &'a [u8],
        /// The object that the name must be bound to.
        node: ObjectId,
    },
    /// The object gets the name back.
    Restore {
        /// The name.
        name: &'a [u8],
        /// The object.
        victim: Victim<'a>,
        /// The directory that `name` is in; `None`: the line's.
        parent: Option<Directory<'a>>,
    },
    /// The name moves back.
    Move {
        /// The present name.
        from: &'a [u8],
        /// The name before the operation.
        to: &'a [u8],
        /// The object that the present name must be bound to.
        node: ObjectId,
        /// The directory that `from` is in; `None`: the line's.
        parent: Option<Directory<'a>>,
    },
    /// Two names are exchanged.
    Exchange {
        /// The one that the line begins with, which `node` had.
        name: &'a [u8],
        /// The other.
        other: &'a [u8],
        /// The object that `other` must be bound to.
        node: ObjectId,
        /// The object that `name` must be bound to; `None` if the line has no `over=`.
        over: Option<ObjectId>,
        /// The directory that `other` is in; `None`: the line's.
        parent: Option<Directory<'a>>,
    },
}

/// A name, and whether a step binds or unbinds an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding<'a> {
    /// The directory; `None`: the line's.
    pub parent: Option<Directory<'a>>,
    /// The name, percent-encoded.
    pub name: &'a [u8],
    /// The object.
    pub node: ObjectId,
    /// Whether the name is bound to the object after the step; before the step, the opposite holds.
    pub is_bound: bool,
}

impl<'a> NameStep<'a> {
    /// The directory other than the line's that the step changes.
    pub fn other_directory(&self) -> Option<Directory<'a>> {
        match *self {
            Self::Remove { .. } => None,
            Self::Restore { parent, .. }
            | Self::Move { parent, .. }
            | Self::Exchange { parent, .. } => parent,
        }
    }

    /// The names that the step binds and unbinds.
    pub fn bindings(&self) -> impl Iterator<Item = Binding<'a>> {
        let binding = |parent, name, node, is_bound| Binding {
            parent,
            name,
            node,
            is_bound,
        };
        let pair = |from, to, node, parent| {
            [
                Some(binding(None, to, node, true)),
                Some(binding(parent, from, node, false)),
            ]
        };
        let (one, two) = match *self {
            Self::Remove { name, node } => ([Some(binding(None, name, node, false)), None], None),
            Self::Restore {
                name,
                victim,
                parent,
            } => (
                [Some(binding(parent, name, victim.object, true)), None],
                None,
            ),
            Self::Move {
                from,
                to,
                node,
                parent,
            } => (pair(from, to, node, parent), None),
            Self::Exchange {
                name,
                other,
                node,
                over,
                parent,
            } => (
                pair(other, name, node, parent),
                over.map(|over| {
                    [
                        Some(binding(None, name, over, false)),
                        Some(binding(parent, other, over, true)),
                    ]
                }),
            ),
        };
        one.into_iter().chain(two.into_iter().flatten()).flatten()
    }
}

/// Finds out how many of the first steps were done before a crash. One step alone does not show
/// that: a name may be free because the step freed it, or because an earlier step has not bound it
/// yet. So each step counts its names that are in the state after it, minus those in the state
/// before it; the steps up to the maximum of the running sum were done.
#[derive(Default)]
pub struct Progress {
    steps: usize,
    sum: i64,
    most: i64,
    done: usize,
}

impl Progress {
    /// Counts the next step; an item is true for a name in the state after the step.
    pub fn count(&mut self, names: impl Iterator<Item = bool>) {
        for is_behind in names {
            self.sum = self.sum.saturating_add(if is_behind { 1 } else { -1 });
        }
        self.steps = self.steps.saturating_add(1);
        // Of equal sums the later one: the steps between them change nothing.
        if self.sum >= self.most {
            self.most = self.sum;
            self.done = self.steps;
        }
    }

    /// How many steps were done.
    pub fn done(&self) -> usize {
        self.done
    }
}

/// Whether a line of a directory is an operation on its names, or takes such ones back.
pub fn is_on_names(line: &Line<'_>) -> bool {
    // A revert of content says how large that is now. One without redo has `undo=lost`.
    changes_names(line.op)
        || (matches!(line.op, Op::Revert | Op::Redo)
            && matches!(line.undo, Some(Undo::None | Undo::Lost))
            && line.now.is_none())
}

/// Whether an operation is one on names.
pub const fn changes_names(op: Op) -> bool {
    matches!(
        op,
        Op::Create
            | Op::Mkdir
            | Op::Mknod
            | Op::Symlink
            | Op::Link
            | Op::Unlink
            | Op::Rmdir
            | Op::Rename
            | Op::Exchange
    )
}

/// Says how a line about names is taken back: by one step, or two.
pub fn name_steps<'a>(line: &Line<'a>) -> Result<(NameStep<'a>, Option<NameStep<'a>>), PlanError> {
    if line.undo == Some(Undo::Lost) {
        return Err(PlanError::Lost);
    }
    if line.undo != Some(Undo::None) {
        return Err(PlanError::Corrupt);
    }
    let name = line.name.ok_or(PlanError::Corrupt)?;
    let node = line.node.ok_or(PlanError::Corrupt)?;
    let step = match line.op {
        Op::Create | Op::Mkdir | Op::Mknod | Op::Symlink | Op::Link => {
            NameStep::Remove { name, node }
        }
        Op::Unlink | Op::Rmdir => NameStep::Restore {
            name,
            victim: victim(line, node)?,
            parent: None,
        },
        Op::Rename => return renamed(line, name, node),
        Op::Exchange => NameStep::Exchange {
            name,
            other: line.to.ok_or(PlanError::Corrupt)?,
            node,
            over: line.over,
            parent: parent(line)?,
        },
        _ => return Err(PlanError::Unsupported),
    };
    Ok((step, None))
}

/// Moves the name back, then gives the replaced object the name that becomes free.
fn renamed<'a>(
    line: &Line<'a>,
    to: &'a [u8],
    node: ObjectId,
) -> Result<(NameStep<'a>, Option<NameStep<'a>>), PlanError> {
    let from = line.to.ok_or(PlanError::Corrupt)?;
    let parent = parent(line)?;
    let step = NameStep::Move {
        from,
        to,
        node,
        parent,
    };
    let Some(over) = line.over else {
        return Ok((step, None));
    };
    let victim = victim(line, over)?;
    let restore = NameStep::Restore {
        name: from,
        victim,
        parent,
    };
    Ok((step, Some(restore)))
}

fn parent<'a>(line: &Line<'a>) -> Result<Option<Directory<'a>>, PlanError> {
    let Some(object) = line.parent else {
        return Ok(None);
    };
    // The lower filesystem has no handles.
    let handle = line.pfh.ok_or(PlanError::Unsupported)?;
    Ok(Some(Directory { object, handle }))
}

fn victim<'a>(line: &Line<'a>, object: ObjectId) -> Result<Victim<'a>, PlanError> {
    if line.kept.is_none() && line.vfh.is_none() {
        return Err(PlanError::Corrupt);
    }
    Ok(Victim {
        object,
        kept: line.kept,
        handle: line.vfh,
    })
}
