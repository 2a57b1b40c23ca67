// SPDX-License-Identifier: GPL-2.0

//! The history's metadata on disk: its state, and the index table of one segment.

use kernel::prelude::*;

use super::{
    segment::MODE,
    sort::sort,
    staging::ObjectTable,
    state::{self, SegmentRange, State, SLOT},
    tables::Tables,
    trust::{self, Home},
};
use crate::{
    log::types::{ObjectId, Pos},
    vfs::{
        chunk::zeroes,
        error::{ESHUTDOWN, EUCLEAN},
        scope::crc32c,
        store::StoreFile,
    },
};

/// The state of the history, for the maintenance worker; the lock around it is held over file I/O.
pub(super) struct HistoryMeta {
    pub(super) home: Home,
    pub(super) state: State,
    /// Whether the history was made just now.
    pub(super) is_new: bool,
    state_file: Option<StoreFile>,
}

impl HistoryMeta {
    /// Reads the state of the history `home`, and learns of its tables.
    pub(super) fn open(home: Home, tables: &mut Tables) -> Result<Self> {
        let file = trust::private_file(home.dir.create(b"state", MODE)?)?;
        let mut meta = Self {
            is_new: home.is_new,
            home,
            state: State::default(),
            state_file: None,
        };
        let mut slots = KVec::from_elem(0, SLOT * 2, GFP_KERNEL)?;
        let len = file.read_at(&mut slots, 0)?;
        let uuid = meta.home.uuid;
        let read = |slot: &[u8]| state::parse(slot, &uuid, crc32c);
        // A torn write damages one slot only; the other one is older and valid.
        let newest = (slots.chunks(SLOT))
            .filter_map(|slot| Some((read(slot)?, slot)))
            .max_by_key(|(state, _)| state.count);
        meta.state_file = Some(file);
        let Some((found, slot)) = newest else {
            // A new history has none. An old one without: recovery finds the numbers.
            meta.is_new &= len == 0;
            return Ok(meta);
        };
        meta.state = found;
        meta.is_new = false;
        if found.clean {
            let mut added = Ok(());
            let add = |span: SegmentRange| added = added.and(tables.add(span));
            state::tables(slot, add).ok_or(EUCLEAN)?;
            added?;
        }
        Ok(meta)
    }

    /// Makes `state` durable, with the list of index tables. If the list does not fit, the state is
    /// marked unclean: the next mount then lists the directory.
    pub(super) fn store(&mut self, tables: &Tables) -> Result {
        self.state.count = self.state.count.wrapping_add(1);
        let mut slot = zeroes(SLOT)?;
        let uuid = &self.home.uuid;
        if state::encode(&self.state, tables.spans(), uuid, crc32c, &mut slot).is_none() {
            let unclean = State {
                clean: false,
                ..self.state
            };
            slot.fill(0);
            let none = core::iter::empty();
            state::encode(&unclean, none, uuid, crc32c, &mut slot).ok_or(EOVERFLOW)?;
        }
        let file = self.state_file.as_ref().ok_or(ESHUTDOWN)?;
        // CAST: A slot's size is small.
        file.write_at(&slot, (self.state.count & 1).saturating_mul(SLOT as u64))?;
        file.sync()
    }

    /// Closes everything, and releases the claim.
    pub(super) fn close(&mut self) {
        self.state_file = None;
        self.home.claim = None;
    }
}

/// Writes the table of one segment, of the table in memory.
pub(super) fn write_table(tables: &mut Tables, segment: u64, objects: &ObjectTable) -> Result {
    let mut entries: KVVec<(ObjectId, u64)> = KVVec::new();
    for entry in objects.entries() {
        if let Some(offset) = entry.offset() {
            entries.push((entry.object, offset), GFP_KERNEL)?;
        }
    }
    // Look-ups and merges rely on ascending objects.
    sort(&mut entries, |(a, _), (b, _)| a < b);
    let span = SegmentRange {
        first: segment,
        last: segment,
    };
    let mut out = tables.create(span, entries.len() as u64)?;
    for (object, offset) in &entries {
        let offset = *offset;
        out.push(*object, Pos { segment, offset })?;
    }
    out.finish()?;
    tables.sync_names()?;
    tables.add(span)
}
