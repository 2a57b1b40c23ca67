// SPDX-License-Identifier: GPL-2.0 OR MIT

//! From log lines to the steps that revert them: the inverse of each line, the walk along an
//! object's chain, and the merge of many inverses into one plan.
//!
//! Nothing here reads a journal or accesses a file: the kernel's revert and the host tests compile
//! the same source. The parts, in the order of their use:
//!
//! 1. [`Walk`] takes an object's lines, newest first, and returns which of them are live.
//! 2. [`inverse`] returns the state that one line needs restored.
//! 3. [`MapReader`] turns that line's payload into pieces.
//! 4. [`InverseMerge`] collects the pieces of all lines, newest first, and returns the plan: ascending
//!    pieces that do not overlap, and the size. Old attributes are a separate part of a payload:
//!    [`Records`].
//! 5. [`Changes`] are the ranges that the plan overwrites or cuts off; a redo needs them saved.

mod affected;
mod attributes;
mod heap;
mod map;
mod merge;
mod names;
mod net;
mod space;
mod targets;
mod walk;

pub use affected::{
    resized,
    AffectedRanges,
    LiveRange,
    LiveRanges, //
};
pub use attributes::{
    Access,
    Flags,
    Kind,
    Record,
    Records,
    Times, //
};
pub use map::{
    Content,
    MapReader,
    MapRecord,
    RECORD, //
};
pub use merge::{
    Changes,
    InverseMerge,
    MergeEntry,
    Outcome, //
};
pub use names::{
    changes_names,
    is_on_names,
    name_steps,
    Binding,
    Directory,
    NameStep,
    Progress,
    Victim, //
};
pub use net::{
    LineEffect,
    Net,
    NetChange,
    RevertedRange,
    Why, //
};
pub use space::{
    allocated,
    has_empty_block, //
};
pub use targets::{
    RedoStep,
    RedoWalk,
    TargetRangesBuilder, //
};
pub use walk::{
    Disposition,
    OnExternal,
    Stop,
    Walk,
    WalkStep, //
};

use super::line::{Line, Op, Undo};
use super::types::{Extent, Pos};

/// Where a piece's bytes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nowhere: the range was a hole, and reads as zeroes.
    Hole,
    /// Nowhere either, but space was allocated for the range.
    Unwritten,
    /// From here on in the payload file of this segment.
    At(Pos),
}

impl Source {
    /// The source of the bytes `distance` further on.
    fn skip(self, distance: u64) -> Self {
        match self {
            Self::Hole | Self::Unwritten => self,
            Self::At(pos) => Self::At(Pos {
                segment: pos.segment,
                offset: pos.offset.saturating_add(distance),
            }),
        }
    }
}

/// A range of the file and the source of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where in the file.
    pub offset: u64,
    /// How many bytes, at least one.
    pub length: u64,
    /// The source of the bytes.
    pub source: Source,
}

impl Piece {
    /// The offset after the last byte.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.length)
    }
}

/// A payload to be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restore {
    /// Where the saved range begins, as the line was written.
    pub offset: u64,
    /// How long that range is.
    pub length: u64,
    /// Where the payload lies.
    pub payload: Extent,
    /// The number of map records at the beginning; `None`: the payload is the range's plain bytes.
    pub map: Option<u64>,
    /// How many bytes at its end are old attributes.
    pub attributes: u64,
    /// The payload's CRC-32C.
    pub crc: u32,
}

impl Restore {
    /// The part of the payload that is old content: map and bytes.
    pub fn content(&self) -> Option<Extent> {
        Some(Extent {
            length: self.payload.length.checked_sub(self.attributes)?,
            ..self.payload
        })
    }
}

/// How one line is taken back: first the payload, then the size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inverse {
    /// The payload to restore, if any.
    pub restore: Option<Restore>,
    /// The size to set; `None`: the size stays.
    pub size_after: Option<u64>,
    /// Whether the operation allocated space beyond the end of the file, which is to be freed.
    pub trims: bool,
}

/// Why there is no plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PlanError {
    /// The line's old state was lost.
    Lost,
    /// No inverse is known for this operation.
    Unsupported,
    /// The line or its payload contradicts itself.
    Corrupt,
    /// The storage given could not hold more.
    NoSpace,
}

impl PlanError {
    /// The reason in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "the old state was lost",
            Self::Unsupported => "no inverse is known for this operation",
            Self::Corrupt => "the line or its payload contradicts itself",
            Self::NoSpace => "no space for the plan",
        }
    }
}

/// Says how a line is taken back.
pub fn inverse(line: &Line<'_>) -> Result<Inverse, PlanError> {
    if line.undo == Some(Undo::Lost) {
        return Err(PlanError::Lost);
    }
    if line.op.changes_attributes() {
        return attributes_only(line);
    }
    if !line.op.changes_content_in_place() {
        return Err(PlanError::Unsupported);
    }
    let restore = match line.undo {
        Some(Undo::At(payload)) => Some(restore(line, payload)?),
        // A collapse or insert at or beyond the end moves no bytes. ext4 updates the times before
        // it refuses such a call, so the line exists.
        Some(Undo::None)
            if !line.op.moves_content()
                || line.size.is_some_and(|size| size <= line.written_offset) =>
        {
            None
        }
        _ => return Err(PlanError::Corrupt),
    };
    let resizes = matches!(line.op, Op::Write | Op::Truncate | Op::Revert | Op::Redo);
    if resizes && line.size.is_none() {
        return Err(PlanError::Corrupt);
    }
    Ok(Inverse {
        restore,
        size_after: line.size,
        trims: matches!(line.op, Op::Allocate | Op::Zero)
            && line
                .size
                .is_some_and(|size| line.offset.saturating_add(line.length) > size),
    })
}

/// How a change of attributes is taken back: its payload has nothing else.
fn attributes_only(line: &Line<'_>) -> Result<Inverse, PlanError> {
    let Some(Undo::At(payload)) = line.undo else {
        return Err(PlanError::Corrupt);
    };
    let restore = restore(line, payload)?;
    if restore.attributes != payload.length || restore.map.is_some() {
        return Err(PlanError::Corrupt);
    }
    Ok(Inverse {
        restore: Some(restore),
        size_after: None,
        trims: false,
    })
}

/// The payload of a line and the range that it restores.
fn restore(line: &Line<'_>, payload: Extent) -> Result<Restore, PlanError> {
    let length = if line.op.moves_content() {
        // From the range on to the end.
        let size = line.size.ok_or(PlanError::Corrupt)?;
        size.checked_sub(line.written_offset)
            .ok_or(PlanError::Corrupt)?
    } else {
        line.written_length
    };
    let restore = Restore {
        offset: line.written_offset,
        length,
        payload,
        map: line.map,
        attributes: line.attributes.unwrap_or(0),
        crc: line.crc.ok_or(PlanError::Corrupt)?,
    };
    // Rejects a malformed line before any byte of its payload is read.
    MapReader::new(&restore)?;
    Ok(restore)
}

/// A growing list, lent by the caller: the kernel's or the host's vector.
pub trait Store<T> {
    /// Adds an item at the end, or answers [`PlanError::NoSpace`].
    fn push(&mut self, item: T) -> Result<(), PlanError>;

    /// All items.
    fn items(&mut self) -> &mut [T];
}
