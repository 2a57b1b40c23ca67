// SPDX-License-Identifier: GPL-2.0

//! Pins: segments, and what is kept with them, that a running revert reads. Nothing drops them.

use kernel::prelude::*;

use super::journal::Journal;

/// One revert's pin.
struct Entry {
    id: u64,
    /// The oldest segment whose log and payloads stay.
    floor: u64,
    /// The oldest segment whose kept objects stay.
    kept_floor: u64,
}

/// The pins of all reverts under way.
pub(super) struct Pins {
    entries: KVec<Entry>,
    next: u64,
}

impl Pins {
    pub(super) const fn new() -> Self {
        Self {
            entries: KVec::new(),
            next: 0,
        }
    }

    /// Whether a segment may be dropped, and all that is kept with it.
    pub(super) fn may_drop(&self, segment: u64) -> bool {
        (self.entries.iter()).all(|e| segment < e.floor && segment < e.kept_floor)
    }

    /// Whether objects that are kept with a segment may be given up.
    pub(super) fn may_give_up(&self, segment: u64) -> bool {
        self.entries.iter().all(|e| segment < e.kept_floor)
    }

    /// The oldest segment that is pinned; `u64::MAX`: none is.
    pub(super) fn floor(&self) -> u64 {
        let floors = self.entries.iter().map(|e| e.floor.min(e.kept_floor));
        floors.min().unwrap_or(u64::MAX)
    }

    fn add(&mut self, floor: u64, kept_floor: u64) -> Result<u64> {
        let id = self.next;
        let entry = Entry {
            id,
            floor,
            kept_floor,
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

/// What a revert reads stays as long as this lives; its own lines may use the reserve of a full history.
pub(crate) struct Pin<'a> {
    journal: &'a Journal,
    id: u64,
}

impl Journal {
    /// Pins everything that is there now.
    pub(crate) fn pin(&self) -> Result<Pin<'_>> {
        // Locked over both: whoever drops a segment takes this lock first.
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
        self.pins.lock().entries.retain(|e| e.floor != 0);
        self.keeper.kick();
    }
}

impl Pin<'_> {
    /// From now on only segments from `floor` on have to stay, and what is kept with those from
    /// `kept_floor` on.
    pub(crate) fn narrow(&self, floor: u64, kept_floor: u64) {
        let mut pins = self.journal.pins.lock();
        if let Some(entry) = pins.entries.iter_mut().find(|e| e.id == self.id) {
            entry.floor = entry.floor.max(floor);
            entry.kept_floor = entry.kept_floor.max(kept_floor);
        }
    }

    /// A revert that can only go forward is half done: what it reads stays until the mount ends.
    pub(crate) fn stay(&self) {
        let mut pins = self.journal.pins.lock();
        let found = pins.entries.iter().find(|e| e.id == self.id);
        let Some((floor, kept_floor)) = found.map(|e| (e.floor, e.kept_floor)) else {
            return;
        };
        // Without memory for it, the next use of the object says what is missing.
        let _ = pins.add(floor, kept_floor);
    }
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        self.journal.pins.lock().entries.retain(|e| e.id != self.id);
        let mut staging = self.journal.staging.lock();
        staging.reverts = staging.reverts.saturating_sub(1);
        drop(staging);
        // What had to wait may go now.
        self.journal.keeper.kick();
    }
}
