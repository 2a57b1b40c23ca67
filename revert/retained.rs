// SPDX-License-Identifier: GPL-2.0

//! Reverts of content and attributes that the request does not revert. Such a revert blocks an
//! operation if it reverted or redid an even older one on the same ranges or attributes.

use super::{
    plan_builder::attributes,
    steps::{is_on_names, Lines},
    Refusal,
};
use crate::{
    history::journal::Journal,
    log::{
        line::Line,
        plan::{inverse, AffectedRanges, Kind, Record, Records},
        types::Pos,
    },
    vfs::error::ENODATA,
};
use kernel::prelude::*;

/// The attributes that an operation changed.
#[inline(never)]
pub(super) fn attributes_of(
    journal: &Journal,
    line: &Line<'_>,
) -> Result<KVVec<AttributeKey>, Refusal> {
    let mut affected = KVVec::new();
    if line.attributes.is_none() {
        return Ok(affected);
    }
    // An operation without an inverse cannot be reverted anyway.
    let Some(restore) = inverse(line).ok().and_then(|inverse| inverse.restore) else {
        return Ok(affected);
    };
    let records = attributes(journal, &restore)?;
    let records = Records::new(&records).map_err(|e| e.refuse(line.seq))?;
    for record in records.last_ones() {
        affected.push(AttributeKey::of(&record)?, GFP_KERNEL)?;
    }
    Ok(affected)
}

/// The ranges and attributes of an operation to revert.
pub(super) struct TargetFootprint {
    pub(super) affected: AffectedRanges,
    pub(super) attributes: KVVec<AttributeKey>,
}

impl TargetFootprint {
    /// Whether another operation changed some of these.
    pub(super) fn meets(&self, affected: &AffectedRanges, attributes: &[AttributeKey]) -> bool {
        self.affected.overlaps(affected)
            || attributes
                .iter()
                .any(|other| self.attributes.contains(other))
    }
}

/// A revert of content or attributes that stays live.
pub(super) struct RetainedRevert {
    pub(super) seq: u64,
    /// Lowest number of its reverted operations.
    pub(super) lowest: u64,
    /// Numbers of its reverted operations.
    ranges: KVVec<(u64, u64)>,
    pub(super) affected: AffectedRanges,
    pub(super) attributes: KVVec<AttributeKey>,
}

impl RetainedRevert {
    /// `None` if the line is not a revert that lists its operations.
    pub(super) fn of(line: &Line<'_>) -> Result<Option<Self>> {
        let Some(targets) = line.targets else {
            return Ok(None);
        };
        let mut ranges = KVVec::new();
        for range in targets.ranges() {
            ranges.push(range, GFP_KERNEL)?;
        }
        let mut lowest = targets.lowest();
        if let Some(further) = line.further {
            // More ranges are in earlier lines: all numbers in between are assumed to be reverted.
            ranges.push((further, lowest), GFP_KERNEL)?;
            lowest = lowest.min(further);
        }
        Ok(Some(Self {
            seq: line.seq,
            lowest,
            ranges,
            affected: AffectedRanges::of(line),
            attributes: KVVec::new(),
        }))
    }

    /// Whether one of the reverted operations, from position `next` on, changed the same ranges or
    /// attributes.
    #[inline(never)]
    pub(super) fn reaches(
        &self,
        journal: &Journal,
        mut next: Option<Pos>,
        mine: &TargetFootprint,
    ) -> Result<bool, Refusal> {
        let mut lines = Lines::new(journal)?;
        loop {
            let found = match lines.back(&mut next) {
                // The line was dropped: assumes a conflict.
                Err(e) if e == ENODATA => return Ok(true),
                found => found?,
            };
            let Some((_, line)) = found.filter(|(_, line)| line.seq >= self.lowest) else {
                return Ok(false);
            };
            let is_in = |(first, last): &(u64, u64)| (*first..=*last).contains(&line.seq);
            if self.ranges.iter().any(is_in) && !is_on_names(&line) {
                let attributes = attributes_of(journal, &line)?;
                if mine.meets(&AffectedRanges::of(&line), &attributes) {
                    return Ok(true);
                }
            }
        }
    }
}

/// An attribute, as the unit that is restored: mode, owner and access ACL are one.
#[derive(PartialEq, Eq)]
pub(super) struct AttributeKey {
    kind: Kind,
    name: KVec<u8>,
}

impl AttributeKey {
    /// The key of a record's attribute.
    fn of(record: &Record<'_>) -> Result<Self> {
        let kind = match record.kind {
            Kind::AccessAcl => Kind::Access,
            kind => kind,
        };
        let mut name = KVec::new();
        name.extend_from_slice(record.name, GFP_KERNEL)?;
        Ok(Self { kind, name })
    }
}
