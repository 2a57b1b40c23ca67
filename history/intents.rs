// SPDX-License-Identifier: GPL-2.0

//! Intents: reverts that are under way or incomplete. Recovery searches the logs from the oldest of
//! them on.

use kernel::{
    prelude::*,
    sync::atomic::Relaxed, //
};

use super::journal::Journal;
use crate::log::{
    line::Op,
    types::{ObjectId, Pos},
};

/// A revert that was begun, and neither committed nor cancelled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unfinished {
    /// The number of its line.
    pub(crate) seq: u64,
    /// The position of that line.
    pub(crate) at: Pos,
    /// The object that is reverted.
    pub(crate) object: ObjectId,
    /// The number of the first line of the revert's group; the revert's own number without a group.
    pub(crate) group: u64,
    /// Whether there is no such group. The other lines of one may be lost: nothing was changed then.
    pub(crate) is_alone: bool,
    /// The outcome of the group, as its first line has it; `None` if unknown. The revert's own line
    /// does not record it yet.
    pub(crate) end: Option<Op>,
}

/// A revert under way.
pub(super) struct Intent {
    /// Identifies the revert while it runs; several reverts may begin in one segment.
    id: u64,
    /// The oldest segment that may hold a line or a payload of this revert.
    segment: u64,
    /// The number of a revert that could be neither completed nor rolled back; 0 while it runs.
    incomplete: u64,
    /// Set when the revert has ended: the intent is dropped when everything up to this ticket is
    /// durable.
    ended: Option<u64>,
    /// For a group of reverts: the number of its first line, and its outcome once there is one.
    /// Kept until each line of the group records the outcome.
    group: Option<(u64, Option<Op>)>,
}

impl Intent {
    /// A revert that an earlier mount began, with the number `seq` of its line.
    pub(super) fn of_earlier_mount(segment: u64, seq: u64) -> Self {
        Self {
            id: 0,
            segment,
            incomplete: seq,
            ended: None,
            group: None,
        }
    }
}

impl Journal {
    /// Reverts that were begun and not ended when the machine went down; the second call gives none.
    pub(crate) fn take_unfinished(&self) -> KVVec<Unfinished> {
        core::mem::take(&mut *self.unfinished.lock())
    }

    /// Registers a revert that begins now: until `end_intent()`, recovery searches the logs from
    /// here on. Returns the identifier that `end_intent()` takes.
    pub(crate) fn begin_intent(&self) -> Result<u64> {
        let segment = self.segment();
        let mut intents = self.intents.lock();
        let newest = intents.iter().map(|i| i.id).max();
        let id = newest.unwrap_or(0).saturating_add(1);
        let intent = Intent {
            id,
            segment,
            incomplete: 0,
            ended: None,
            group: None,
        };
        intents.push(intent, GFP_KERNEL)?;
        Ok(id)
    }

    /// The line that says how a revert ended is placed.
    pub(crate) fn end_intent(&self, id: u64) {
        // The closing line has this ticket or an older one.
        let ticket = self.staging.lock().last_ticket();
        let mut intents = self.intents.lock();
        let mut open = intents.iter_mut().filter(|i| i.ended.is_none());
        if let Some(intent) = open.find(|i| i.id == id && i.incomplete == 0) {
            intent.ended = Some(ticket);
        }
    }

    /// Records that the group of reverts `id` has the first line `group` and, with `end`, how the
    /// group has ended. The outcome applies to all lines of the group that have no closing line of
    /// their own.
    pub(crate) fn note_group(&self, id: u64, group: u64, end: Option<Op>) {
        let mut intents = self.intents.lock();
        let mut open = intents.iter_mut().filter(|i| i.ended.is_none());
        if let Some(intent) = open.find(|i| i.id == id && i.incomplete == 0) {
            intent.group = Some((group, end));
        }
    }

    /// The state of the group of reverts with this first line: `Some(None)` while it runs,
    /// `Some(Some(op))` when it has ended and not all of its lines record that, `None` otherwise.
    pub(crate) fn group(&self, first: u64) -> Option<Option<Op>> {
        let intents = self.intents.lock();
        let mut groups = intents.iter().filter_map(|i| i.group);
        groups
            .find(|(group, _)| *group == first)
            .map(|(_, end)| end)
    }

    /// Marks a revert, whose line has the number `seq`, that could be neither completed nor rolled
    /// back. The intent stays open.
    pub(crate) fn mark_incomplete(&self, id: u64, seq: u64) {
        let mut intents = self.intents.lock();
        let mut open = intents.iter_mut().filter(|i| i.ended.is_none());
        if let Some(intent) = open.find(|i| i.id == id && i.incomplete == 0) {
            intent.incomplete = seq;
            intent.group = None;
        }
    }

    /// The line that says how such a revert ended all the same is placed.
    pub(crate) fn end_incomplete_intent(&self, seq: u64) {
        let ticket = self.staging.lock().last_ticket();
        let mut intents = self.intents.lock();
        let next = self.next_incomplete.load(Relaxed).min(intents.len());
        let is_it = |i: &usize| {
            let intent = intents.get(*i);
            intent.is_some_and(|intent| intent.ended.is_none() && intent.incomplete == seq)
        };
        let found = Iterator::chain(next..intents.len(), 0..next).find(is_it);
        let Some(index) = found else { return };
        if let Some(intent) = intents.get_mut(index) {
            intent.ended = Some(ticket);
        }
        self.next_incomplete.store(index.saturating_add(1), Relaxed);
    }

    /// Whether a revert is incomplete, or was left so by an earlier mount.
    pub(super) fn has_incomplete(&self) -> bool {
        self.intents.lock().iter().any(|i| i.ended.is_none())
    }

    /// The segment from which on recovery has to look for reverts that did not end; 0: none.
    pub(super) fn oldest_intent(&self) -> u64 {
        let durable = self.staging.lock().durable;
        let mut intents = self.intents.lock();
        // A revert that has ended counts until its closing line is durable.
        intents.retain(|i| i.ended.is_none_or(|ticket| ticket > durable));
        intents.iter().map(|i| i.segment).min().unwrap_or(0)
    }
}
