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

/// Where an object is that has lost a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left<'a> {
    /// With what is kept, of this segment.
    Kept(u64),
    /// It had other names; its file handle, hexadecimal.
    Named(&'a [u8]),
}

/// An object, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Victim<'a> {
    /// Which object.
    pub object: ObjectId,
    /// Where it is.
    pub left: Left<'a>,
}

/// A directory, and how it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Directory<'a> {
    /// Which directory.
    pub object: ObjectId,
    /// Its file handle, hexadecimal.
    pub handle: &'a [u8],
}

/// How one line is taken back. Names are percent-encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming<'a> {
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
    },
    /// The name moves back, and what was there before gets the one that it leaves.
    Move {
        /// The name that it has now.
        from: &'a [u8],
        /// The name that it had.
        to: &'a [u8],
        /// What must be bound to it.
        node: ObjectId,
        /// What `from` was bound to before.
        victim: Option<Victim<'a>>,
        /// The directory that `from` is in; `None`: the same.
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
        /// The directory that `other` is in; `None`: the same.
        parent: Option<Directory<'a>>,
    },
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

/// Says how a line about names is taken back.
pub fn naming<'a>(line: &Line<'a>) -> Result<Naming<'a>, PlanError> {
    if line.undo == Some(Undo::Lost) {
        return Err(PlanError::Lost);
    }
    if line.undo != Some(Undo::None) {
        return Err(PlanError::Corrupt);
    }
    let name = line.name.ok_or(PlanError::Corrupt)?;
    let node = line.node.ok_or(PlanError::Corrupt)?;
    match line.op {
        Op::Create | Op::Mkdir | Op::Mknod | Op::Symlink | Op::Link => {
            Ok(Naming::Remove { name, node })
        }
        Op::Unlink | Op::Rmdir => Ok(Naming::Restore {
            name,
            victim: victim(line, node)?,
        }),
        Op::Rename => Ok(Naming::Move {
            from: line.to.ok_or(PlanError::Corrupt)?,
            to: name,
            node,
            victim: line.over.map(|over| victim(line, over)).transpose()?,
            parent: parent(line)?,
        }),
        Op::Exchange => Ok(Naming::Exchange {
            name,
            other: line.to.ok_or(PlanError::Corrupt)?,
            node,
            parent: parent(line)?,
        }),
        _ => Err(PlanError::Unsupported),
    }
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
    let left = match (line.kept, line.vfh) {
        (Some(segment), _) => Left::Kept(segment),
        (None, Some(handle)) => Left::Named(handle),
        (None, None) => return Err(PlanError::Corrupt),
    };
    Ok(Victim { object, left })
}
