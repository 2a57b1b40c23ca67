// SPDX-License-Identifier: GPL-2.0

//! The module's own files at their usual paths, and stand-ins for those that need kernel threads.

#[path = "../../../history/index.rs"]
pub(crate) mod index;
#[path = "../../../history/meta.rs"]
pub(crate) mod meta;
#[path = "../../../history/objects.rs"]
pub(crate) mod objects;
#[cfg(test)]
#[path = "../../../history/orphan_record.rs"]
pub(crate) mod orphan_record;
#[path = "shim/orphans.rs"]
mod orphans;
#[path = "../../../history/recovery.rs"]
pub(crate) mod recovery;
#[path = "../../../history/segment.rs"]
pub(crate) mod segment;
#[path = "../../../history/sort.rs"]
pub(crate) mod sort;
#[path = "../../../history/state.rs"]
pub(crate) mod state;
#[path = "../../../history/stream.rs"]
pub(crate) mod stream;
#[path = "../../../history/tables.rs"]
pub(crate) mod tables;
#[path = "../../../history/trust.rs"]
pub(crate) mod trust;

pub(crate) use lfs_shared::history::{format, text};

/// The input of recovery from the journal.
pub(crate) mod journal {
    use super::objects::{LastLine, Objects, SLOTS};
    use crate::log::types::{ObjectId, Pos};
    use crate::prelude::*;

    /// A revert that was begun, and neither committed nor cancelled.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Unfinished {
        pub(crate) seq: u64,
        pub(crate) at: Pos,
        pub(crate) object: ObjectId,
        pub(crate) group: u64,
        pub(crate) is_alone: bool,
        pub(crate) end: Option<crate::log::line::Op>,
    }

    /// An empty table of last lines.
    pub(super) fn new_table() -> Result<super::staging::ObjectTable> {
        let slots = KVVec::from_elem(LastLine::FREE, SLOTS, GFP_KERNEL)?;
        let order = KVVec::from_elem(0, SLOTS, GFP_KERNEL)?;
        Ok(Objects::new(slots, order))
    }
}

/// The type of the tables in memory.
pub(crate) mod staging {
    use super::objects::{LastLine, Objects};
    use crate::prelude::*;

    pub(crate) type ObjectTable = Objects<KVVec<LastLine>, KVVec<u16>>;
}

/// The start of a mount, as the journal does it, and the queries of readers afterwards.
pub(crate) mod opened {
    use super::journal::Unfinished;
    use super::meta::HistoryMeta;
    use super::recovery;
    use super::segment::Files;
    use super::tables::Tables;
    use super::trust;
    use crate::crc32c;
    use crate::log::line::{Line, MAX_LINE};
    use crate::log::types::{ObjectId, Pos, Seed};
    use crate::prelude::*;
    use crate::vfs::error::EUCLEAN;
    use crate::vfs::store::StoreDir;

    /// An open history.
    pub(crate) struct Opened {
        files: Files,
        tables: Tables,
        meta: HistoryMeta,
        unfinished: KVVec<Unfinished>,
        /// Whether the logs were read again.
        pub(crate) recovered: bool,
        /// Whether there was none, and one was made.
        pub(crate) is_new: bool,
    }

    /// Opens the history below `root`, as `Journal::open` and `Journal::begin` do.
    pub(crate) fn open(
        root: &StoreDir,
        explain: &dyn Fn(core::fmt::Arguments<'_>),
    ) -> Result<Opened> {
        let home = trust::open(root, &|_, _| Ok(()), explain)?;
        let explain_part =
            |e: &Error| explain(format_args!("a part is missing (error {})", e.to_errno()));
        let mut files = Files::open(&home.dir).inspect_err(explain_part)?;
        let mut tables = Tables::open(&home.dir, home.uuid).inspect_err(explain_part)?;
        let mut meta = HistoryMeta::open(home, &mut tables).inspect_err(explain_part)?;
        let is_new = meta.is_new;
        let recovered = !is_new && !meta.state.clean;
        let mut unfinished = KVVec::new();
        let mut removals = recovery::Removals::new();
        if recovered {
            let noted = (&mut unfinished, &mut removals);
            recovery::recover(
                &mut meta,
                &mut files,
                &mut tables,
                &mut super::orphans::OrphanStore,
                noted,
            )
            .inspect_err(explain_part)?;
        }
        let state = &mut meta.state;
        let segment = state.segment.max(1);
        (state.first, state.clean) = (state.first.max(1), false);
        state.segment = segment
            .checked_add(1)
            .ok_or(EOVERFLOW)
            .inspect_err(explain_part)?;
        state.seq = (state.seq.checked_add(1 << 20).ok_or(EOVERFLOW)).inspect_err(explain_part)?;
        files.set_first(state.first);
        files.create(segment, true).inspect_err(explain_part)?;
        files.sync_names()?;
        meta.store(&tables).inspect_err(explain_part)?;
        Ok(Opened {
            files,
            tables,
            meta,
            unfinished,
            recovered,
            is_new,
        })
    }

    impl Opened {
        /// The position of an object's last line.
        pub(crate) fn last_line(&mut self, object: ObjectId) -> Result<Option<Pos>> {
            self.tables.look_up(object, self.files.first())
        }

        /// The line at `at`, as `Journal::read_line` reads it.
        pub(crate) fn read_line(&mut self, at: Pos) -> Result<Vec<u8>> {
            let segment = self.files.open_to_read(at.segment)?;
            let mut buf = vec![0; MAX_LINE];
            let len = segment.log.read_at(&mut buf, at.offset)?;
            buf.truncate(len);
            let newline = buf.iter().position(|&b| b == b'\n').ok_or(EUCLEAN)?;
            buf.truncate(newline + 1);
            let seed = Seed {
                uuid: self.meta.home.uuid,
                segment: at.segment,
            };
            Line::parse(&buf, Some((&seed, crc32c))).map_err(|_| EUCLEAN)?;
            Ok(buf)
        }

        /// Merges tables while there are many of one size.
        pub(crate) fn merge(&mut self) -> Result {
            self.tables.merge_all(self.files.first())
        }
    }

    /// A new history with these logs, one segment each: lines with their objects. All but the last
    /// `unsealed` have their tables; with 0, the history is left as by a clean unmount.
    pub(crate) fn make(
        root: &StoreDir,
        unsealed: usize,
        write: &mut dyn FnMut(Seed) -> Option<Vec<(ObjectId, Vec<u8>)>>,
    ) -> Result {
        let home = trust::open(root, &|_, _| Ok(()), &|_| {})?;
        let mut files = Files::open(&home.dir)?;
        let mut tables = Tables::open(&home.dir, home.uuid)?;
        let mut meta = HistoryMeta::open(home, &mut tables)?;
        let mut all = Vec::new();
        let uuid = meta.home.uuid;
        for segment in 1.. {
            let Some(lines) = write(Seed { uuid, segment }) else {
                break;
            };
            let open = files.create(segment, false)?;
            let mut objects = super::journal::new_table()?;
            let mut at = 0;
            for (object, text) in lines {
                open.log.write_at(&text, at)?;
                objects.set(object, at);
                at += text.len() as u64;
            }
            open.undo.write_at(&[segment as u8; 300], 0)?;
            files.end(segment);
            all.push(objects);
        }
        for (segment, objects) in (1..).zip(&all).take(all.len() - unsealed) {
            super::meta::write_table(&mut tables, segment, objects)?;
        }
        meta.store(&tables)?;
        meta.state.seq = 1 << 20;
        meta.state.segment = all.len() as u64 + 1;
        meta.state.first = 1;
        meta.state.clean = unsealed == 0;
        meta.store(&tables)
    }
}
