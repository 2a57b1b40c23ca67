// SPDX-License-Identifier: GPL-2.0

//! Pins: the segments and orphans that a running revert reads, which must not be dropped.
//!
//! A revert pins its segments until its closing line is durable: after a power cut before that,
//! recovery continues the revert and reads them again.

use kernel::prelude::*;

use super::journal::Journal;

/// One revert's pin.
struct PinEntry {
    id: u64,
    /// The oldest segment whose log and payloads stay.
    floor: u64,
    /// The oldest segment whose orphans stay.
    orphan_floor: u64,
    /// The oldest segment that going on with the revert reads; `u64::MAX`: no older one than `floor`.
    resumed_from: u64,
    /// Set once the revert has ended: the ticket of its last line.
    ended: Option<u64>,
}

/// Whether a segment may be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Droppable {
    Yes,
    /// As soon as lines are durable up to this ticket.
    Once(u64),
    /// A running revert reads the segment.
    No,
}

/// The pins of all reverts under way.
pub(super) struct Pins {
    entries: KVec<PinEntry>,
    next: u64,
}

impl Pins {
    pub(super) const fn new() -> Self {
        Self {
            entries: KVec::new(),
            next: 0,
        }
    }

    /// Whether a segment and its orphans may be dropped, when lines are durable up to the ticket
    /// `durable`.
    pub(super) fn may_drop(&mut self, segment: u64, durable: u64) -> Droppable {
        self.entries
            .retain(|e| e.ended.is_none_or(|ticket| ticket > durable));
        let pinning =
            || (self.entries.iter()).filter(|e| segment >= e.floor || segment >= e.orphan_floor);
        if pinning().any(|e| e.ended.is_none()) {
            return Droppable::No;
        }
        match pinning().filter_map(|e| e.ended).max() {
            Some(ticket) => Droppable::Once(ticket),
            None => Droppable::Yes,
        }
    }

    fn running(&self) -> impl Iterator<Item = &PinEntry> {
        self.entries.iter().filter(|e| e.ended.is_none())
    }

    /// Whether orphans of a segment may be removed. A revert that has ended has already moved back
    /// the orphans that it needed.
    pub(super) fn may_reclaim(&self, segment: u64) -> bool {
        self.running().all(|e| segment < e.orphan_floor)
    }

    /// The oldest segment that a running revert pins; `u64::MAX`: none is.
    pub(super) fn floor(&self) -> u64 {
        let floors = self.running().map(|e| e.floor.min(e.orphan_floor));
        floors.min().unwrap_or(u64::MAX)
    }

    fn add(&mut self, floor: u64, orphan_floor: u64) -> Result<u64> {
        let id = self.next;
        let entry = PinEntry {
            id,
            floor,
            orphan_floor,
            resumed_from: u64::MAX,
            ended: None,
        };
        self.entries.push(entry, GFP_KERNEL)?;
        self.next = id.wrapping_add(1);
        Ok(id)
    }

    /// Before the mount is used: everything stays, until [`Journal::unpin_recovery`].
    pub(super) fn pin_for_recovery(&mut self) -> Result {
        self.add(0, 0).map(|_| ())
    }
}

/// Pins everything that a revert may read. While a pin exists, lines may use the reserve of a full
/// history.
pub(crate) struct Pin<'a> {
    journal: &'a Journal,
    id: u64,
}

impl Journal {
    /// Pins everything that is there now.
    pub(crate) fn pin(&self) -> Result<Pin<'_>> {
        // `drop_oldest()` takes this lock first, so no segment is dropped between the two reads.
        let mut pins = self.pins.lock();
        let first = self.files.lock().first();
        let id = pins.add(first, first)?;
        drop(pins);
        let mut staging = self.staging.lock();
        staging.reverts = staging.reverts.saturating_add(1);
        drop(staging);
        Ok(Pin { journal: self, id })
    }

    /// The reverts that a crash had interrupted are finished or withdrawn.
    pub(crate) fn unpin_recovery(&self) {
        let ticket = self.staging.lock().last_ticket();
        let mut pins = self.pins.lock();
        for entry in pins.entries.iter_mut().filter(|e| e.floor == 0) {
            entry.ended = Some(ticket);
        }
        drop(pins);
        self.maintenance.queue();
    }
}

impl Pin<'_> {
    /// Reduces the pin to segments from `floor` on, and orphans of segments from `orphan_floor` on.
    pub(crate) fn narrow(&self, floor: u64, orphan_floor: u64) {
        let mut pins = self.journal.pins.lock();
        if let Some(entry) = pins.entries.iter_mut().find(|e| e.id == self.id) {
            entry.floor = entry.floor.max(floor);
            entry.orphan_floor = entry.orphan_floor.max(orphan_floor);
        }
    }

    /// Records that recovery would continue the revert with segments from `floor` on. Segments
    /// before those of [`Self::narrow`] may be dropped while the revert runs; in that case its end
    /// is flushed.
    pub(crate) fn is_resumed_from(&self, floor: u64) {
        let mut pins = self.journal.pins.lock();
        if let Some(entry) = pins.entries.iter_mut().find(|e| e.id == self.id) {
            entry.resumed_from = entry.resumed_from.min(floor);
        }
    }

    /// Ends the pin. True: a segment was dropped that recovery would need to continue the revert.
    fn end(&self) -> bool {
        let ticket = self.journal.staging.lock().last_ticket();
        let mut pins = self.journal.pins.lock();
        let first = self.journal.files.lock().first();
        let Some(entry) = pins.entries.iter_mut().find(|e| e.id == self.id) else {
            return false;
        };
        entry.floor = entry.floor.min(entry.resumed_from);
        entry.ended = Some(ticket);
        entry.resumed_from < first
    }

    /// Keeps the pin until the mount ends, for a revert that is incomplete and cannot be rolled
    /// back.
    pub(crate) fn stay(&self) {
        let mut pins = self.journal.pins.lock();
        let found = pins.entries.iter().find(|e| e.id == self.id);
        let Some((floor, orphan_floor)) = found.map(|e| (e.floor, e.orphan_floor)) else {
            return;
        };
        // Out of memory: the segments may be dropped, and the next use of the object reports that.
        let _ = pins.add(floor, orphan_floor);
    }
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        let mut staging = self.journal.staging.lock();
        staging.reverts = staging.reverts.saturating_sub(1);
        drop(staging);
        if self.end() {
            // An error remains in the journal, where callers get it.
            let _ = self.journal.flush(true);
        }
        // A drop may have been waiting for this pin.
        self.journal.maintenance.queue();
    }
}
