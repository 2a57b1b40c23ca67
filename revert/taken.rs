// SPDX-License-Identifier: GPL-2.0

//! What of a directory's chain a revert of names takes back.

use super::{
    names::{parse, Outcome},
    Chain, Link, Refusal,
};
use crate::{
    history::{
        journal::Journal,
        line::{Line, ObjectId, Pos},
        plan::{changes_names, name_steps, OnForeign, Step}, //
    },
    uapi::Reason,
    vfs::error::ENODATA, //
};
use kernel::prelude::*;

/// Standing operations on names, newest first.
pub(super) struct Taken {
    pub(super) lines: KVVec<KVec<u8>>,
    /// The newest one's number.
    pub(super) newest: u64,
    /// Where the directory's newest line stands that is left standing.
    pub(super) back: Option<Pos>,
}

impl Taken {
    /// The newest standing operations from `head` on: as many as `most`, as long as they are
    /// `wanted` ones, on names.
    pub(super) fn gather(
        journal: &Journal,
        dir: ObjectId,
        head: Option<Pos>,
        most: u64,
        wanted: impl Fn(&Line<'_>) -> bool,
    ) -> Outcome<Self> {
        let mut chain = Chain::new(journal, dir, head, OnForeign::Stop)?;
        let mut taken = Self {
            lines: KVVec::new(),
            newest: 0,
            back: None,
        };
        while taken.count() < most {
            match chain.step()? {
                Link::End => break,
                Link::Trimmed => return Err(Refusal::new(Reason::Trimmed, 0)),
                Link::Line(line, _, text, Step::Take) => {
                    if !changes_names(line.op) || !wanted(&line) {
                        break;
                    }
                    name_steps(&line).map_err(|e| e.refuse(line.seq))?;
                    let mut copy = KVec::new();
                    copy.extend_from_slice(text, GFP_KERNEL)?;
                    taken.lines.push(copy, GFP_KERNEL)?;
                    if taken.newest == 0 {
                        taken.newest = line.seq;
                    }
                    taken.back = line.prev;
                }
                Link::Line(line, _, _, Step::Stop(_)) => {
                    return Err(Refusal::new(Reason::Foreign, line.seq))
                }
                Link::Line(..) => {}
            }
        }
        Ok(taken)
    }

    /// How many.
    pub(super) fn count(&self) -> u64 {
        self.lines.len() as u64
    }

    /// The newest of them.
    pub(super) fn first(&self) -> Result<Line<'_>> {
        parse(self.lines.first().ok_or(ENODATA)?)
    }
}
