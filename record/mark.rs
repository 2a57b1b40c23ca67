// SPDX-License-Identifier: GPL-2.0

//! The line of a mark: a name for a place in the history. It is of no object, so no chain has it, and no lock of
//! an object is taken.

use crate::{
    history::journal::{Journal, PlaceError},
    log::line::{LineDraft, LineError, Op, MAX_LINE},
    state::ProcessIdentity,
    vfs::{attr, inode::UpperInode, task},
};
use kernel::prelude::*;

/// What a mark says.
pub(crate) struct MarkFields<'a> {
    pub(crate) name: &'a [u8],
    /// Empty: none.
    pub(crate) message: &'a [u8],
    /// Whether it names what the caller starts.
    pub(crate) is_run: bool,
}

/// Places the line of a mark that is made in `directory`, and returns its number. The line is not durable yet.
///
/// `ENOSPC` if the history has no space, `EINTR` on a fatal signal.
pub(crate) fn place_mark(
    journal: &Journal,
    directory: &UpperInode,
    mark: &MarkFields<'_>,
) -> Result<u64> {
    let mount = directory.mount();
    // A line without its user would be shown to administrators only.
    let identity = mount.identities().current().ok_or(ENOMEM)?;
    let mut reservation = journal.reserve_lines_killable(1)?;
    loop {
        // Read before composing. `reservation.place_apart()` fails if the segment changes.
        let segment = journal.segment();
        let placed = {
            let mut scratch = mount.scratch().lock();
            let draft = compose(&mut scratch, directory, mark, &identity, segment);
            match draft.is_refused() {
                true => Err(PlaceError::Line(LineError::TooLong)),
                false => reservation.place_apart(&draft, segment),
            }
        };
        match placed {
            Ok(placed) => {
                identity.ancestors_logged(segment);
                return Ok(placed.seq);
            }
            Err(PlaceError::Moved(_)) => {}
            Err(PlaceError::Line(_)) => return Err(E2BIG),
            Err(PlaceError::Failed(e)) => return Err(e),
        }
    }
}

/// Drafts the line.
fn compose<'b>(
    buf: &'b mut [u8; MAX_LINE],
    directory: &UpperInode,
    mark: &MarkFields<'_>,
    identity: &ProcessIdentity,
    segment: u64,
) -> LineDraft<'b> {
    let (command, cut) = identity.command();
    let mut draft = LineDraft::new(buf, task::now(), command, Op::Mark, 0, 0);
    draft.actor(&identity.actor());
    draft.name(mark.name);
    draft.parent(directory.id());
    let mut handle = [0; 64];
    if let Some((kind, len)) = attr::handle(directory.lower(), &mut handle) {
        draft.parent_handle(kind, handle.get(..len).unwrap_or(&[]));
    }
    if !mark.message.is_empty() {
        draft.message(mark.message);
    }
    if mark.is_run {
        draft.run();
    }
    if cut {
        draft.command_cut();
    }
    // Last, since all other keys are more important.
    if let Some(ancestors) = identity.ancestors_due(segment) {
        draft.ancestors(ancestors);
    }
    draft
}
