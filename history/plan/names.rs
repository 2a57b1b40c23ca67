// SPDX-License-Identifier: GPL-2.0 OR MIT

//! How an operation on names is taken back: which name goes, which object comes back to which name.

use super::{
    super::line::{
        Line,
        ObjectId,
        Op,
        Undo, //
    },
    PlanError,
};

/// An object that has lost a name, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Victim<'a> {
    /// Which object.
    pub object: ObjectId,
    /// With what is kept, of this segment: it was its last name.
    pub kept: Option<u64>,
    /// Its file handle, hexadecimal: it had other names, or has one again.
    pub handle: Option<&'a [u8]>,
}

/// A directory, and how it is found.
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
    /// The name goes; its object is kept, if it has no other.
    Remove {
        /// The name.
        name: &'a [u8],
        /// What it must be bound to.
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
        /// The name that it has now.
        from: &'a [u8],
        /// The name that it had.
        to: &'a [u8],
        /// What must be bound to it.
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
        /// What `other` must be bound to.
        node: ObjectId,
        /// What `name` must be bound to; older lines do not say it.
        over: Option<ObjectId>,
        /// The directory that `other` is in; `None`: the line's.
        parent: Option<Directory<'a>>,
    },
}

/// A name, and whether a step binds it to an object or frees it from that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding<'a> {
    /// The directory; `None`: the line's.
    pub parent: Option<Directory<'a>>,
    /// The name, percent-encoded.
    pub name: &'a [u8],
    /// The object.
    pub node: ObjectId,
    /// Whether the name is bound to the object behind the step; before it, it is the opposite.
    pub is_bound: bool,
}

impl<'a> NameStep<'a> {
    /// The directory beside the line's that the step changes.
    pub fn other_directory(&self) -> Option<Directory<'a>> {
        match *self {
            Self::Remove { .. } => None,
            Self::Restore { parent, .. }
            | Self::Move { parent, .. }
            | Self::Exchange { parent, .. } => parent,
        }
    }

    /// What the step binds and frees.
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

/// Finds out how many steps, the first ones, were done before a crash. No step tells that alone: a
/// name may be free because it was freed, or because a step before that has not bound it yet. So
/// each step says how many of its names are as behind it, less those that are as before it; the
/// most of that sum is where it stopped.
#[derive(Default)]
pub struct Progress {
    steps: usize,
    sum: i64,
    most: i64,
    done: usize,
}

impl Progress {
    /// Counts the next step, whose names are as behind it (true) or as before it.
    pub fn count(&mut self, names: impl Iterator<Item = bool>) {
        for is_behind in names {
            self.sum = self.sum.saturating_add(if is_behind { 1 } else { -1 });
        }
        self.steps = self.steps.saturating_add(1);
        // Of two that look the same the later one: nothing is left to do for what is between them.
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

/// The name moves back, and what was there before gets the one that it leaves.
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
