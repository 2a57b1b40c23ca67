// SPDX-License-Identifier: GPL-2.0

//! The pre-image of an operation, as its line describes it.

use crate::log::{
    line::{LineDraft, Undo},
    types::Extent,
};

/// Result of a capture.
pub(crate) enum Captured {
    /// The operation overwrites nothing.
    Nothing,
    /// Not captured, for this reason.
    Uncaptured(&'static str),
    /// Captured in the journal.
    At {
        /// Extent of the payload.
        extent: Extent,
        /// Checksum of the payload.
        crc: u32,
        /// Number of map records at the start of the payload.
        records: u64,
        /// Number of bytes of attributes at the end of the payload.
        attributes: u64,
    },
}

impl Captured {
    /// Extent, number of map records and checksum, for a template line. `None`: the line needs more
    /// keys.
    #[inline]
    pub(crate) fn keys(&self) -> Option<(Undo, u64, u32)> {
        match self {
            Self::Nothing => Some((Undo::None, 0, 0)),
            Self::At {
                extent,
                crc,
                records,
                attributes: 0,
            } => Some((Undo::At(*extent), *records, *crc)),
            Self::Uncaptured(_) | Self::At { .. } => None,
        }
    }

    /// Adds the keys about the payload.
    pub(crate) fn describe(&self, draft: &mut LineDraft<'_>) {
        match self {
            Self::Nothing => {
                draft.undo(Undo::None);
            }
            Self::Uncaptured(why) => {
                draft.undo(Undo::Lost).why(why);
            }
            Self::At {
                extent,
                crc,
                records,
                attributes,
            } => {
                draft.undo(Undo::At(*extent));
                if *records != 0 {
                    draft.map(*records);
                }
                if *attributes != 0 {
                    draft.attributes(*attributes);
                }
                draft.crc(*crc);
            }
        }
    }
}
