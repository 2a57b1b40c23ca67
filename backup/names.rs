// SPDX-License-Identifier: GPL-2.0

//! Operations on names: a line in the directory's chain for each.

use super::{lines, place, tolerate_unless_freeing, Subject, What};
use crate::{
    history::{
        journal::{Journal, LineRoom},
        line::{LineDraft, Op, Undo}, //
    },
    stack::Mount,
    vfs::inode::OwnInode, //
};
use kernel::prelude::*;

/// A change of a name that is about to happen. The directory's lock is held. Dropping it without
/// [`Naming::done`] means that nothing happened.
pub(crate) struct Naming<'a>(Option<Record<'a>>);

struct Record<'a> {
    mount: &'a Mount,
    journal: &'a Journal,
    room: LineRoom<'a>,
    dir: &'a OwnInode,
    op: Op,
    name: &'a [u8],
}

impl<'a> Naming<'a> {
    /// Reserves room for the line.
    pub(crate) fn begin(dir: &'a OwnInode, op: Op, name: &'a [u8]) -> Result<Self> {
        let mount = dir.mount();
        let Some(journal) = mount.journal() else {
            return Ok(Self(None));
        };
        let ready = {
            let mut state = dir.object().state.lock();
            lines::load_unchecked(journal, dir, &mut state)
        };
        match ready.and_then(|()| journal.reserve_lines(1)) {
            Ok(room) => Ok(Self(Some(Record {
                mount,
                journal,
                room,
                dir,
                op,
                name,
            }))),
            Err(e) => {
                let frees = matches!(op, Op::Unlink | Op::Rmdir);
                tolerate_unless_freeing(mount, e, frees)?;
                journal.count_lost();
                Ok(Self(None))
            }
        }
    }

    /// Places the line. `node` is what the name is or was bound to; `more` adds keys.
    pub(crate) fn done(self, node: Option<&OwnInode>, more: impl Fn(&mut LineDraft<'_>)) {
        if let Some(record) = self.0 {
            record.place(node, more);
        }
    }
}

impl Record<'_> {
    fn place(mut self, node: Option<&OwnInode>, more: impl Fn(&mut LineDraft<'_>)) {
        let subject = Subject {
            mount: self.mount,
            inode: self.dir,
            open: None,
        };
        let what = What {
            op: self.op,
            at: 0,
            length: 0,
            size: self.dir.lower().size(),
        };
        let name = self.name;
        let mut state = self.dir.object().state.lock();
        let placed = place(&subject, &mut state, &mut self.room, &what, |draft| {
            draft.undo(Undo::Lost).why("unsupported").name(name);
            if let Some(node) = node {
                draft.node(node.id());
            }
            more(draft);
        });
        drop(state);
        if let Err(e) = placed {
            self.journal.count_lost();
            self.mount.warn_lost(e);
        }
    }
}
