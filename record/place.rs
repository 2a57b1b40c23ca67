// SPDX-License-Identifier: GPL-2.0

//! Composes and places the lines of an object's chain.

use super::Captured;
use crate::{
    history::journal::{PlaceError, Placed, Reservation},
    log::line::{
        FastNameRecord, FastRecord, LineDraft, LineError, NameTemplate, Op, OpenFileRef, MAX_LINE,
    },
    state::{Mount, ObjectState, OpenActor, OpenFileState, ProcessIdentity},
    vfs::{attr, inode::UpperInode, task},
};
use kernel::prelude::*;

/// Number of lines after which a line repeats the object's file handle, also within a segment.
/// Bounds the search for an object by its lines.
const HANDLE_INTERVAL: u32 = 256;

/// The object of a line, and the open file of the operation.
pub(crate) struct LineSubject<'a> {
    pub(crate) mount: &'a Mount,
    pub(crate) inode: &'a UpperInode,
    pub(crate) open: Option<&'a OpenFileState>,
}

/// The operation's arguments, and the object's size before it.
#[derive(Clone, Copy)]
pub(crate) struct OperationArgs {
    pub(crate) op: Op,
    pub(crate) at: u64,
    pub(crate) length: u64,
    pub(crate) size: u64,
}

/// Keys that a line needs because the segment does not have them yet.
struct LineExtras {
    segment: u64,
    actor: bool,
    /// The object's file handle and owner.
    handle: bool,
    owner: u32,
}

/// As [`place`], with the captured pre-image. `is_last` releases the rest of the space.
pub(crate) fn place_operation(
    subject: &LineSubject<'_>,
    state: &mut ObjectState,
    reservation: &mut Reservation<'_>,
    args: &OperationArgs,
    captured: &Captured,
    is_last: bool,
) -> Result<Placed> {
    match place_fast(subject, state, reservation, args, captured, is_last) {
        Some(placed) => Ok(placed),
        None => place(subject, state, reservation, args, |draft| {
            captured.describe(draft)
        }),
    }
}

/// Places a template line, if the operation fits one and the segment has the actor of the open
/// file.
#[inline(always)]
fn place_fast(
    subject: &LineSubject<'_>,
    state: &mut ObjectState,
    reservation: &mut Reservation<'_>,
    args: &OperationArgs,
    captured: &Captured,
    is_last: bool,
) -> Option<Placed> {
    let (undo, map, crc) = captured.keys()?;
    if state.was.is_some() {
        return None;
    }
    let mut who = subject.open?.actor().ok()?.lock();
    who.update(subject.mount.identities());
    if who.actor_segment != state.handle_segment || state.logged_owner != subject.inode.uid() {
        return None;
    }
    // This line needs `fh=` again, which no template has.
    if state.lines_since_handle >= HANDLE_INTERVAL {
        return None;
    }
    let segment = who.actor_segment;
    let id = subject.inode.id();
    let (command, template) = who.template(id)?;
    let record = FastRecord {
        time: task::now(),
        command,
        op: args.op,
        offset: args.at,
        length: args.length,
        template,
        prev: state.head,
        size: args.size,
        undo,
        map,
        crc,
    };
    // On any failure [`place`] tries again, with the longer form, and returns the error.
    let placed = reservation.place_fast(record, id, segment, is_last).ok()?;
    state.head = Some(placed.at);
    state.lines_since_handle = state.lines_since_handle.saturating_add(1);
    Some(placed)
}

/// Fields of a template line about a name that was bound or removed.
pub(crate) struct NameFields<'a> {
    pub(crate) name: &'a [u8],
    /// The object that the name is or was bound to.
    pub(crate) node: Option<&'a UpperInode>,
    /// Segment of the orphan, and file handle, if the object lost the name.
    pub(crate) kept: Option<u64>,
    pub(crate) handle: Option<(u8, &'a [u8])>,
}

/// Places a template line about a name, if the operation fits one and the segment has the
/// directory's file handle.
pub(crate) fn place_name(
    subject: &LineSubject<'_>,
    state: &mut ObjectState,
    reservation: &mut Reservation<'_>,
    args: &OperationArgs,
    named: &NameFields<'_>,
) -> Option<Placed> {
    let is_due = state.lines_since_handle >= HANDLE_INTERVAL;
    if is_due || state.was.is_some() || state.logged_owner != subject.inode.uid() {
        return None;
    }
    let segment = state.handle_segment;
    let mut place = |identity: &ProcessIdentity, template: &mut NameTemplate| {
        // No template has `anc=`.
        if identity.ancestors_due(segment).is_some() {
            return None;
        }
        let record = FastNameRecord {
            time: task::now(),
            command: identity.whole_command()?,
            op: args.op,
            directory: subject.inode.id(),
            prev: state.head,
            size: args.size,
            actor: identity.actor_text()?,
            kept: named.kept,
            victim_handle: named.handle,
            name: named.name,
            node: named.node.map(|node| node.id()),
        };
        // On any failure [`place`] tries again, with the longer form, and returns the error.
        reservation.place_fast_name(&record, template, segment).ok()
    };
    let identities = subject.mount.identities();
    let placed = match identities.if_last(&mut place) {
        Some(placed) => placed,
        None => {
            let directory = changed_directory(args.op, named.name);
            let identity = identities.current_with(directory)?;
            place(&identity, &mut NameTemplate::default())?
        }
    };
    state.head = Some(placed.at);
    state.lines_since_handle = state.lines_since_handle.saturating_add(1);
    Some(placed)
}

/// Gathers the fields of the calling process for a line about a name that [`place`] writes next.
pub(crate) fn identify_by_name(mount: &Mount, op: Op, name: &[u8]) {
    let directory = changed_directory(op, name);
    if directory.is_some() {
        // The cache holds it. Without memory, the line has no fields of the process.
        let _identity = mount.identities().current_with(directory);
    }
}

/// The name of a directory that is made or removed.
fn changed_directory(op: Op, name: &[u8]) -> Option<&[u8]> {
    matches!(op, Op::Mkdir | Op::Rmdir).then_some(name)
}

/// Places a line at the end of the object's chain, without waiting. The state's lock is held.
pub(crate) fn place(
    subject: &LineSubject<'_>,
    state: &mut ObjectState,
    reservation: &mut Reservation<'_>,
    args: &OperationArgs,
    fill: impl Fn(&mut LineDraft<'_>),
) -> Result<Placed> {
    let identities = subject.mount.identities();
    // Under memory pressure, the line has no actor of an open file.
    match subject.open.and_then(|open| open.actor().ok()) {
        Some(who) => {
            let mut who = who.lock();
            who.update(identities);
            place_by(subject, state, &mut who, reservation, args, fill)
        }
        None => place_by(
            subject,
            state,
            &mut OpenActor::once(identities),
            reservation,
            args,
            fill,
        ),
    }
}

/// As [`place`], with an explicit actor.
pub(crate) fn place_by(
    subject: &LineSubject<'_>,
    state: &mut ObjectState,
    who: &mut OpenActor,
    reservation: &mut Reservation<'_>,
    args: &OperationArgs,
    fill: impl Fn(&mut LineDraft<'_>),
) -> Result<Placed> {
    let mount = subject.mount;
    let journal = mount.journal().ok_or(EIO)?;
    let time = task::now();
    loop {
        // Read before composing. `reservation.place()` fails if the segment changes.
        let segment = journal.segment();
        let owner = subject.inode.uid();
        let extras = LineExtras {
            segment,
            actor: who.actor_segment != segment,
            handle: state.handle_segment != segment
                || state.logged_owner != owner
                || state.lines_since_handle >= HANDLE_INTERVAL,
            owner,
        };
        // May run twice: staging can move to a new segment between compose and place.
        let mut compose = |who: &OpenActor, buf: &mut [u8; MAX_LINE]| {
            let (command, cut) = who
                .identity()
                .map_or((&[][..], false), |identity| identity.command());
            let ancestors = (who.identity().filter(|_| extras.actor))
                .and_then(|identity| identity.ancestors_due(segment));
            let mut draft = LineDraft::new(buf, time, command, args.op, args.at, args.length);
            describe(&mut draft, subject, state, who, args, &extras);
            fill(&mut draft);
            // The command line is longer than a line permits.
            if cut {
                draft.command_cut();
            }
            // Last, since all other keys are more important.
            if let Some(ancestors) = ancestors {
                draft.ancestors(ancestors);
            }
            if draft.is_refused() {
                return Err(PlaceError::Line(LineError::TooLong));
            }
            reservation.place(&draft, subject.inode.id(), segment)
        };
        let result = compose(who, &mut mount.scratch().lock());
        match result {
            Ok(placed) => {
                note_logged(state, who, &extras, &placed);
                return Ok(placed);
            }
            // A new segment has begun: the line must contain the keys that it does not have yet.
            Err(PlaceError::Moved(_)) => {}
            Err(PlaceError::Line(_)) => return Err(E2BIG),
            Err(PlaceError::Failed(e)) => return Err(e),
        }
    }
}

/// Adds the keys that do not depend on the kind of the operation.
fn describe(
    draft: &mut LineDraft<'_>,
    subject: &LineSubject<'_>,
    state: &ObjectState,
    who: &OpenActor,
    args: &OperationArgs,
    extras: &LineExtras,
) {
    draft.obj(subject.inode.id());
    if let Some(head) = state.head {
        draft.prev(head);
    }
    // `was=`: the object's cookie, which the next load compares.
    if let Some(was) = &state.was {
        draft.was(was);
    }
    draft.size(args.size);
    if who.has_file {
        draft.open(who.first.map_or(OpenFileRef::First, OpenFileRef::Of));
    }
    if let Some(identity) = who.identity().filter(|_| extras.actor) {
        draft.actor(&identity.actor());
    }
    if extras.handle {
        let mut buf = [0; 64];
        if let Some((kind, len)) = attr::handle(subject.inode.lower(), &mut buf) {
            draft.fh(kind, buf.get(..len).unwrap_or(&[]));
            if subject.inode.object().is_unnamed() {
                draft.unnamed();
            }
        }
        draft.owner(extras.owner);
        describe_place(draft, subject.inode);
    }
}

/// Adds the directory of an object that is no directory. exportfs cannot connect a file handle
/// alone to a path below a mount's root. A directory has a `..`.
#[inline(never)]
fn describe_place(draft: &mut LineDraft<'_>, inode: &UpperInode) {
    if inode.is_directory() {
        return;
    }
    let mut buf = [0; 64];
    // An unlinked dentry in use is skipped.
    let parent = inode.lower().nth_alias(0).map(|name| name.dget_parent());
    let handle = parent
        .as_ref()
        .and_then(|parent| parent.inode())
        .and_then(|parent| attr::handle(parent, &mut buf));
    if let Some((kind, len)) = handle {
        draft.inside(kind, buf.get(..len).unwrap_or(&[]));
    }
}

/// Notes the keys that the segment now has.
fn note_logged(state: &mut ObjectState, who: &mut OpenActor, extras: &LineExtras, placed: &Placed) {
    state.head = Some(placed.at);
    state.was = None;
    state.lines_since_handle = match extras.handle {
        true => 0,
        false => state.lines_since_handle.saturating_add(1),
    };
    state.handle_segment = extras.segment;
    state.logged_owner = extras.owner;
    // Later lines of this open file refer to its first line (`open=`).
    who.first.get_or_insert(placed.seq);
    if let Some(identity) = who.identity() {
        if extras.actor {
            identity.ancestors_logged(extras.segment);
        }
        who.actor_segment = extras.segment;
    }
}
