// SPDX-License-Identifier: GPL-2.0

//! The protocol of a revert, the same for one object and for a group of objects:
//!
//! 1. Each member, an object whose content or names are reverted, gets a line: its intent.
//! 2. The journal is flushed: the intents and the pre-images are durable before the first change.
//! 3. The steps are applied. If one fails, the applied ones are rolled back.
//! 4. Each member gets a closing line, a commit or a cancel. In a group, the first member's closing
//!    line decides for all, so it is durable before that of any other member.
//!
//! If the rollback fails, too, the intents stay open. The next use of an object or the next mount
//! then ends the revert; [`recovery`] does so with the same functions.
//!
//! The steps are behind the trait [`RevertSteps`]. They change content and attributes of one object
//! (`content.rs`), names of one directory (`names.rs`), or all of these in a group (`group.rs`). A
//! revert of one object is a group of one whose lines have no `group=` and no `members=`.

mod recovery;

use super::Refusal;
use crate::{
    history::journal::{Journal, Reservation},
    log::line::Op,
    record::{self, LineSubject, OperationArgs},
    state::{Mount, ObjectState},
};
use kernel::prelude::*;
pub(super) use recovery::NewestLines;
pub(crate) use recovery::{recover_unfinished, roll_back_last};

/// How a revert ended.
pub(super) enum TransactionOutcome {
    /// All steps are applied.
    Applied,
    /// A step failed, and all objects are as before the revert.
    RolledBack(Refusal),
    /// A step failed and so did the rollback: some objects are changed, and the intents stay open.
    Incomplete(Refusal),
}

impl TransactionOutcome {
    /// Whether the intents stay open.
    pub(super) fn is_incomplete(&self) -> bool {
        matches!(self, Self::Incomplete(_))
    }

    /// The result for the caller of the revert.
    pub(super) fn into_result(self) -> Result<(), Refusal> {
        match self {
            Self::Applied => Ok(()),
            Self::RolledBack(refusal) | Self::Incomplete(refusal) => Err(refusal),
        }
    }
}

/// The steps of a revert, and the objects that they change.
pub(super) trait RevertSteps {
    /// Whether the revert is one of a group. Other tasks wait for the many objects that a group has
    /// locked, so the flush of its intents ends after some seconds without progress. The deciding
    /// line of a group is durable, since recovery withdraws a group without that line. Recovery
    /// finishes the revert of one object, so there only a cancelling line has to be durable.
    fn is_group(&self) -> bool {
        false
    }

    /// Applies the steps that are not applied yet, and flushes the changed objects.
    fn apply(&mut self) -> Result<(), Refusal>;

    /// Rolls all applied steps back. Does nothing if no step was applied.
    fn roll_back(&mut self) -> Result<(), Refusal>;

    /// The error that the caller gets if a step failed with `refused` and the rollback with
    /// `_failed`.
    fn incomplete(&self, refused: Refusal, _failed: Refusal) -> Refusal {
        refused
    }

    /// Recovery: flushes the changed objects, as far as the steps have not done so. Order on disk:
    /// the objects, then the closing lines.
    fn sync(&self) -> Result {
        Ok(())
    }

    /// Places the closing line of a member's intent.
    fn place_end(&mut self, member: usize, end: Op, intent: u64) -> Result;
}

/// The steps of a revert that a request begins.
pub(super) trait RequestedRevert: RevertSteps {
    /// Number of members. Each has an intent and a closing line.
    fn members(&self) -> usize {
        1
    }

    /// Captures a member's pre-image and places its intent. `first` is the number of the group's
    /// first line; `None` for the first member. Returns the number of the line.
    fn place_intent(&mut self, member: usize, first: Option<u64>) -> Result<u64, Refusal>;

    /// Drops the loaded state of a member whose revert is incomplete: the next use loads the chain
    /// again and finds the open intent.
    fn forget(&mut self, member: usize);
}

/// Performs a revert. All members are locked.
#[inline(never)]
pub(super) fn run<R: RequestedRevert>(
    mount: &Mount,
    journal: &Journal,
    revert: &mut R,
) -> TransactionOutcome {
    // Before the first line: from here on recovery searches the logs.
    let begun = match journal.begin_intent() {
        Ok(begun) => begun,
        Err(e) => return TransactionOutcome::RolledBack(e.into()),
    };
    let mut intents = KVVec::new();
    let stated = place_intents(journal, begun, revert, &mut intents);
    let is_stated = stated.is_ok();
    let outcome = match stated {
        Ok(()) => apply(revert),
        Err(refusal) => TransactionOutcome::RolledBack(refusal),
    };
    let end = match &outcome {
        TransactionOutcome::Applied => Op::Commit,
        TransactionOutcome::RolledBack(_) => Op::Cancel,
        TransactionOutcome::Incomplete(refusal) => {
            leave_open(mount, journal, begun, revert, (&*intents, refusal.error));
            return outcome;
        }
    };
    close(mount, journal, begun, revert, (&*intents, end, is_stated));
    outcome
}

/// Places all intents, whose numbers are added to `intents`, and flushes the journal. Nothing is
/// changed yet, so this ends on a fatal signal.
fn place_intents<R: RequestedRevert>(
    journal: &Journal,
    begun: u64,
    revert: &mut R,
    intents: &mut KVVec<u64>,
) -> Result<(), Refusal> {
    // Before the first line: each line that is placed gets a closing line.
    intents.reserve(revert.members(), GFP_KERNEL_ACCOUNT)?;
    for member in 0..revert.members() {
        let first = intents.first().copied();
        let seq = revert.place_intent(member, first)?;
        intents.push(seq, GFP_KERNEL_ACCOUNT)?;
        if first.is_none() {
            // A task that loads one of the objects now must not take its revert for an incomplete
            // one.
            journal.note_group(begun, seq, None);
        }
    }
    match revert.is_group() {
        true => journal.flush_in_time()?,
        false => journal.flush_killable(true)?,
    }
    Ok(())
}

/// Applies the steps; if one fails, rolls the applied ones back.
fn apply<R: RevertSteps>(revert: &mut R) -> TransactionOutcome {
    let Err(refused) = revert.apply() else {
        return TransactionOutcome::Applied;
    };
    match revert.roll_back() {
        Ok(()) => TransactionOutcome::RolledBack(refused),
        Err(failed) => TransactionOutcome::Incomplete(revert.incomplete(refused, failed)),
    }
}

/// Closes a revert that is whole. Without `is_stated` the intents were not durable, or not all were
/// placed: nothing was changed then, and recovery has nothing to roll back.
fn close<R: RequestedRevert>(
    mount: &Mount,
    journal: &Journal,
    begun: u64,
    revert: &mut R,
    (intents, end, is_stated): (&[u64], Op, bool),
) {
    if let Some(first) = intents.first() {
        // Before the lines: an object that is loaded from now on sees the group as ended.
        journal.note_group(begun, *first, Some(end));
    }
    let is_group = revert.is_group();
    let closed = place_ends(revert, intents, end, || match (is_group, end) {
        (true, _) if is_stated => journal.flush(true),
        (false, Op::Cancel) => {
            mount.flush_end_of_refused(journal);
            Ok(())
        }
        _ => Ok(()),
    });
    if let Err(e) = closed {
        // Recovery closes the group at the next mount.
        mount.warn_lost(e);
        return;
    }
    if !is_stated {
        journal.begin_flush();
    }
    journal.end_intent(begun);
}

/// Places the closing lines of the members' intents, and calls `flush` after the first one.
fn place_ends<R: RevertSteps>(
    revert: &mut R,
    intents: &[u64],
    end: Op,
    flush: impl Fn() -> Result,
) -> Result {
    for (member, intent) in intents.iter().enumerate() {
        revert.place_end(member, end, *intent)?;
        if member == 0 {
            flush()?;
        }
    }
    Ok(())
}

/// Keeps the intents open after a failed rollback. Recovery ends each of them by itself, so each is
/// registered.
fn leave_open<R: RequestedRevert>(
    mount: &Mount,
    journal: &Journal,
    begun: u64,
    revert: &mut R,
    (intents, error): (&[u64], Error),
) {
    let mut begun = Some(begun);
    for (member, &seq) in intents.iter().enumerate() {
        pr_err!("revert {} is incomplete: error {}\n", seq, error.to_errno());
        let id = match begun.take() {
            Some(id) => Ok(id),
            None => journal.begin_intent(),
        };
        match id {
            Ok(id) => journal.mark_incomplete(id, seq),
            Err(e) => mount.warn_lost(e),
        }
        revert.forget(member);
    }
}

/// Places the line that closes the intent with this number: commit, cancel, or end. Then records
/// the object's times, which the revert has changed, as our own. Not after an error: a closing line
/// of the object would follow, and hide the open intent from the next load.
pub(super) fn place_end(
    subject: &LineSubject<'_>,
    state: &mut ObjectState,
    reservation: &mut Reservation<'_>,
    end: Op,
    intent: u64,
) -> Result {
    let args = OperationArgs {
        op: end,
        at: 0,
        length: 0,
        size: subject.inode.lower().size(),
    };
    record::place(subject, state, reservation, &args, |draft| {
        draft.of(intent);
    })?;
    record::note_change(state, subject.inode);
    Ok(())
}
