// SPDX-License-Identifier: GPL-2.0

//! Lines of an object's chain: composes and places lines, and loads the object's state from the
//! last one.

use super::{note_change, observe, observe_if_idle, Captured};
use crate::{
    history::{
        journal::{Journal, LineRoom, PlaceError, Placed},
        line::{
            Brief, BriefName, Cookie, Line, LineDraft, LineError, Op, Open as OpenKey, Usual,
            MAX_LINE,
        }, //
    },
    stack::{Mount, ObjectState, OpenActor, OpenFileState, ProcessIdentity},
    vfs::{attr, dentry::Dentry, error::EUCLEAN, inode::UpperInode, task}, //
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
    room: &mut LineRoom<'_>,
    args: &OperationArgs,
    captured: &Captured,
    is_last: bool,
) -> Result<Placed> {
    match place_brief(subject, state, room, args, captured, is_last) {
        Some(placed) => Ok(placed),
        None => place(subject, state, room, args, |draft| captured.describe(draft)),
    }
}

/// Places a template line, if the operation fits one and the segment has the actor of the open
/// file.
#[inline(always)]
fn place_brief(
    subject: &LineSubject<'_>,
    state: &mut ObjectState,
    room: &mut LineRoom<'_>,
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
    let (command, kept) = who.usual(id)?;
    let brief = Brief {
        time: task::now(),
        command,
        op: args.op,
        offset: args.at,
        length: args.length,
        kept,
        prev: state.head,
        size: args.size,
        undo,
        map,
        crc,
    };
    // On any failure [`place`] tries again, with the longer form, and returns the error.
    let placed = room.place_brief(brief, id, segment, is_last).ok()?;
    state.head = Some(placed.at);
    state.lines_since_handle = state.lines_since_handle.saturating_add(1);
    Some(placed)
}

/// Fields of a template line about a name that was bound or removed.
pub(super) struct NameFields<'a> {
    pub(super) name: &'a [u8],
    /// The object that the name is or was bound to.
    pub(super) node: Option<&'a UpperInode>,
    /// Segment of the orphan, and file handle, if the object lost the name.
    pub(super) kept: Option<u64>,
    pub(super) handle: Option<(u8, &'a [u8])>,
}

/// Places a template line about a name, if the operation fits one and the segment has the
/// directory's file handle.
pub(super) fn place_name(
    subject: &LineSubject<'_>,
    state: &mut ObjectState,
    room: &mut LineRoom<'_>,
    args: &OperationArgs,
    named: &NameFields<'_>,
) -> Option<Placed> {
    let is_due = state.lines_since_handle >= HANDLE_INTERVAL;
    if is_due || state.was.is_some() || state.logged_owner != subject.inode.uid() {
        return None;
    }
    let mut place = |identity: &ProcessIdentity, usual: &mut Usual| {
        let brief = BriefName {
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
        room.place_brief_name(&brief, usual, state.handle_segment)
            .ok()
    };
    let identities = subject.mount.identities();
    let placed = match identities.if_last(&mut place) {
        Some(placed) => placed,
        None => place(&*identities.current()?, &mut Usual::default())?,
    };
    state.head = Some(placed.at);
    state.lines_since_handle = state.lines_since_handle.saturating_add(1);
    Some(placed)
}

/// Places a line at the end of the object's chain, without waiting. The state's lock is held.
pub(crate) fn place(
    subject: &LineSubject<'_>,
    state: &mut ObjectState,
    room: &mut LineRoom<'_>,
    args: &OperationArgs,
    fill: impl Fn(&mut LineDraft<'_>),
) -> Result<Placed> {
    let identities = subject.mount.identities();
    // Under memory pressure, the line has no actor of an open file.
    match subject.open.and_then(|open| open.actor().ok()) {
        Some(who) => {
            let mut who = who.lock();
            who.update(identities);
            place_by(subject, state, &mut who, room, args, fill)
        }
        None => place_by(
            subject,
            state,
            &mut OpenActor::once(identities),
            room,
            args,
            fill,
        ),
    }
}

/// As [`place`], with an explicit actor.
pub(super) fn place_by(
    subject: &LineSubject<'_>,
    state: &mut ObjectState,
    who: &mut OpenActor,
    room: &mut LineRoom<'_>,
    args: &OperationArgs,
    fill: impl Fn(&mut LineDraft<'_>),
) -> Result<Placed> {
    let mount = subject.mount;
    let journal = mount.journal().ok_or(EIO)?;
    let time = task::now();
    loop {
        // Read before composing. `room.place()` fails if the segment changes.
        let segment = journal.segment();
        let owner = subject.inode.uid();
        let telling = LineExtras {
            segment,
            actor: who.actor_segment != segment,
            handle: state.handle_segment != segment
                || state.logged_owner != owner
                || state.lines_since_handle >= HANDLE_INTERVAL,
            owner,
        };
        // May run twice: staging can move to a new segment between compose and place.
        let mut compose = |who: &OpenActor, buf: &mut [u8]| {
            let (command, cut) = who
                .identity()
                .map_or((&[][..], false), |identity| identity.command());
            let mut draft = LineDraft::new(buf, time, command, args.op, args.at, args.length);
            describe(&mut draft, subject, state, who, args, &telling);
            fill(&mut draft);
            // The command line is longer than a line permits.
            if cut {
                draft.command_cut();
            }
            if draft.is_refused() {
                return Err(PlaceError::Line(LineError::TooLong));
            }
            room.place(&draft, subject.inode.id(), segment)
        };
        let result = compose(who, &mut mount.scratch().lock()[..]);
        match result {
            Ok(placed) => {
                told(state, who, &telling, &placed);
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
    telling: &LineExtras,
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
        draft.open(who.first.map_or(OpenKey::First, OpenKey::Of));
    }
    if let Some(identity) = who.identity().filter(|_| telling.actor) {
        draft.actor(&identity.actor());
    }
    if telling.handle {
        let mut buf = [0; 64];
        if let Some((kind, len)) = attr::handle(subject.inode.lower(), &mut buf) {
            draft.fh(kind, buf.get(..len).unwrap_or(&[]));
            if subject.inode.object().is_unnamed() {
                draft.unnamed();
            }
        }
        draft.owner(telling.owner);
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
fn told(state: &mut ObjectState, who: &mut OpenActor, telling: &LineExtras, placed: &Placed) {
    state.head = Some(placed.at);
    state.was = None;
    state.lines_since_handle = match telling.handle {
        true => 0,
        false => state.lines_since_handle.saturating_add(1),
    };
    state.handle_segment = telling.segment;
    state.logged_owner = telling.owner;
    // Later lines of this open file refer to its first line (`open=`).
    who.first.get_or_insert(placed.seq);
    if who.identity().is_some() {
        who.actor_segment = telling.segment;
    }
}

/// Places a line of the history itself, with the object's present cookie.
fn note(
    mount: &Mount,
    inode: &UpperInode,
    state: &mut ObjectState,
    room: &mut LineRoom<'_>,
    op: Op,
    cookie: Cookie,
) -> Result {
    let subject = LineSubject {
        mount,
        inode,
        open: None,
    };
    let args = OperationArgs {
        op,
        at: 0,
        length: 0,
        size: cookie.size,
    };
    state.was = Some(cookie);
    place(&subject, state, room, &args, |_| {}).map(|_| ())
}

/// Writes the closing line of a changed object.
pub(super) fn write_close(
    mount: &Mount,
    journal: &Journal,
    inode: &UpperInode,
    lower: &Dentry,
    state: &mut ObjectState,
) -> Result {
    if !state.changed {
        return Ok(());
    }
    let mut room = journal.reserve_lines_killable(1)?;
    left(mount, inode, lower, state, &mut room)
}

/// As [`write_close`], without waiting for space.
pub(super) fn try_write_close(
    mount: &Mount,
    journal: &Journal,
    inode: &UpperInode,
    lower: &Dentry,
    state: &mut ObjectState,
) -> Result {
    let mut room = journal.try_reserve_lines(1)?;
    left(mount, inode, lower, state, &mut room)
}

/// Writes the closing line and notes its cookie.
fn left(
    mount: &Mount,
    inode: &UpperInode,
    lower: &Dentry,
    state: &mut ObjectState,
    room: &mut LineRoom<'_>,
) -> Result {
    let cookie = attr::cookie(mount.lower(), lower)?;
    // vfs_getattr() has armed multigrain timestamps: the next change gets a new ctime.
    note(mount, inode, state, room, Op::Left, cookie)?;
    state.left = Some(cookie);
    observe_if_idle(state, inode);
    state.changed = false;
    Ok(())
}

/// Loads the object's last line and compares the object with it.
///
/// * A closing line with the present cookie: no change since.
/// * A closing line with another cookie: an external change, or a power cut ([`changed_since`]).
/// * No closing line: the last shutdown was unclean, and the object is resynchronised.
pub(super) fn load(
    mount: &Mount,
    journal: &Journal,
    inode: &UpperInode,
    lower: &Dentry,
    state: &mut ObjectState,
) -> Result {
    let mut buf = KVec::with_capacity(MAX_LINE, GFP_KERNEL)?;
    buf.resize(MAX_LINE, 0, GFP_KERNEL)?;
    let last = load_last(journal, inode, state, &mut buf)?;
    if let Some((Op::Revert | Op::Redo, _)) = last {
        return load_intent(journal, inode, state, &mut buf);
    }
    let cookie = attr::cookie(mount.lower(), lower)?;
    observe(state, inode);
    state.was = Some(cookie);
    let op = match last {
        None => None,
        Some((Op::Left, was)) if was == Some(cookie) => {
            state.left = Some(cookie);
            None
        }
        Some((Op::Left, was)) => {
            let was = was.filter(|_| state.head.is_some_and(|at| journal.is_before_cut(at)));
            Some(changed_since(mount, journal, lower, was, cookie)?)
        }
        // This external change is logged already.
        Some((Op::Foreign, was)) if was == Some(cookie) => None,
        // No closing line: the shutdown was unclean.
        Some(_) => Some(Op::Recover),
    };
    // Only regular files have content to compare.
    if let Some(op) = op.filter(|_| inode.is_regular()) {
        let mut room = journal.reserve_lines(1)?;
        note(mount, inode, state, &mut room, op, cookie)?;
        note_change(state, inode);
    }
    state.loaded = true;
    Ok(())
}

/// The object's last line is an intent: its closing line would follow.
fn load_intent(
    journal: &Journal,
    inode: &UpperInode,
    state: &mut ObjectState,
    buf: &mut [u8],
) -> Result {
    let len = journal.read_line(state.head.ok_or(EUCLEAN)?, buf)?;
    let line = Line::parse(buf.get(..len).ok_or(EUCLEAN)?, None).map_err(|_| EUCLEAN)?;
    if journal.group(line.group.unwrap_or(line.seq)) == Some(None) {
        // The group is under way: this load is part of it.
        state.seen = Some(inode.lower().quick_cookie());
        state.incomplete = false;
        state.loaded = true;
        return Ok(());
    }
    // The next holder of the inode lock rolls the revert back.
    state.incomplete = true;
    Ok(())
}

/// The line to write if the cookie differs from the closing line: `Foreign` after an external
/// change, `Recover` if a power cut explains the difference. `was` is set only if a power cut may
/// have followed the closing line. Two cases are explained: the object is older than its line,
/// since the line was durable first; or only ctime is newer, from before the cut, since names or
/// attributes were changed and the cut lost their lines.
fn changed_since(
    mount: &Mount,
    journal: &Journal,
    lower: &Dentry,
    was: Option<Cookie>,
    now: Cookie,
) -> Result<Op> {
    let Some(was) = was else {
        return Ok(Op::Foreign);
    };
    let is_taken = now.ctime <= was.ctime
        || journal.is_before_recovery(now.ctime) && has_content_of(mount, lower, &was, &now)?;
    Ok(if is_taken { Op::Recover } else { Op::Foreign })
}

/// Whether the content is unchanged since the closing line: write(2) and truncate(2) update mtime
/// as well. The change counter is no evidence, since a rename increments it on btrfs.
fn has_content_of(mount: &Mount, lower: &Dentry, was: &Cookie, now: &Cookie) -> Result<bool> {
    let (_, times) = attr::access_and_times(mount.lower(), lower)?;
    let left = (was.ctime.sec, was.ctime.nsec);
    Ok(now.size == was.size && times.modified <= left)
}

/// Whether the content is the same as in the closing line, regardless of other changes.
pub(super) fn is_as_closed(
    mount: &Mount,
    journal: &Journal,
    inode: &UpperInode,
    lower: &Dentry,
) -> Result<bool> {
    let mut buf = KVec::with_capacity(MAX_LINE, GFP_KERNEL)?;
    buf.resize(MAX_LINE, 0, GFP_KERNEL)?;
    let mut state = ObjectState::default();
    let last = load_last(journal, inode, &mut state, &mut buf)?;
    let Some((Op::Left, Some(was))) = last else {
        return Ok(false);
    };
    let now = attr::cookie(mount.lower(), lower)?;
    has_content_of(mount, lower, &was, &now)
}

/// Resynchronises a loaded object after a change of its times by this mount.
pub(super) fn resync_loaded(
    mount: &Mount,
    journal: &Journal,
    inode: &UpperInode,
    lower: &Dentry,
    state: &mut ObjectState,
) -> Result {
    load_unchecked(journal, inode, state)?;
    let cookie = attr::cookie(mount.lower(), lower)?;
    let mut room = journal.reserve_lines(1)?;
    note(mount, inode, state, &mut room, Op::Recover, cookie)?;
    note_change(state, inode);
    Ok(())
}

/// Resynchronises an object if, after a power cut, only ctime differs from the closing line. The
/// inode is not locked.
pub(crate) fn resync(
    mount: &Mount,
    journal: &Journal,
    inode: &UpperInode,
    lower: &Dentry,
) -> Result {
    let _lock = inode.lock();
    let mut state = inode.object().state.lock();
    if inode.is_regular() && is_as_closed(mount, journal, inode, lower)? {
        resync_loaded(mount, journal, inode, lower, &mut state)?;
    }
    Ok(())
}

/// As [`load`], for a revert: rolls an incomplete revert back first. The inode lock is held.
pub(crate) fn load_known(
    mount: &Mount,
    journal: &Journal,
    inode: &UpperInode,
    lower: &Dentry,
    state: &mut ObjectState,
) -> Result {
    if state.loaded {
        return Ok(());
    }
    load(mount, journal, inode, lower, state)?;
    // A revert must not build on the state of an incomplete one.
    if state.incomplete {
        crate::revert::roll_back_last(mount, journal, inode, lower, state)?;
    }
    Ok(())
}

/// As [`load`], without a comparison with the last line.
pub(crate) fn load_unchecked(
    journal: &Journal,
    inode: &UpperInode,
    state: &mut ObjectState,
) -> Result {
    if state.loaded {
        return Ok(());
    }
    state.head = journal.last_line(inode.id())?;
    observe(state, inode);
    state.loaded = true;
    Ok(())
}

/// Operation and cookie of the object's last line, which becomes the head of the chain.
fn load_last(
    journal: &Journal,
    inode: &UpperInode,
    state: &mut ObjectState,
    buf: &mut [u8],
) -> Result<Option<(Op, Option<Cookie>)>> {
    state.head = journal.last_line(inode.id())?;
    let Some(head) = state.head else {
        return Ok(None);
    };
    let len = journal.read_line(head, buf)?;
    let text = buf.get(..len).ok_or(EUCLEAN)?;
    let line = Line::parse(text, None).map_err(|_| EUCLEAN)?;
    Ok(Some((line.op, line.was)))
}

/// Logs an external change: without `force`, a revert stops at this line.
pub(crate) fn note_external(
    mount: &Mount,
    journal: &Journal,
    inode: &UpperInode,
    lower: &Dentry,
    state: &mut ObjectState,
) -> Result {
    let cookie = attr::cookie(mount.lower(), lower)?;
    let mut room = journal.reserve_lines(1)?;
    note(mount, inode, state, &mut room, Op::Foreign, cookie)?;
    note_change(state, inode);
    state.left = Some(cookie);
    Ok(())
}
