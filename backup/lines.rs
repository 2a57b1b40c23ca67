// SPDX-License-Identifier: GPL-2.0

//! Lines of an object's chain: drafted, placed, and what the object's state makes of them.

use super::{note_change, observe, observe_if_idle, Captured};
use crate::{
    history::{
        journal::{Journal, LineRoom, PlaceError, Placed},
        line::{
            Brief, BriefName, Cookie, Line, LineDraft, LineError, Op, Open as OpenKey, Usual,
            MAX_LINE,
        }, //
    },
    stack::{Identity, Mount, ObjectState, Open, Who},
    vfs::{attr, dentry::Dentry, error::EUCLEAN, inode::OwnInode, task}, //
};
use kernel::prelude::*;

/// After this many lines of an object, a line has its file handle again, also within a segment: a search for
/// the object by its lines reads no more of them than that.
const HANDLE_INTERVAL: u32 = 256;

/// What a line is about, and who is behind it.
pub(crate) struct LineSubject<'a> {
    pub(crate) mount: &'a Mount,
    pub(crate) inode: &'a OwnInode,
    pub(crate) open: Option<&'a Open>,
}

/// The operation, and the object's size before it.
#[derive(Clone, Copy)]
pub(crate) struct OperationArgs {
    pub(crate) op: Op,
    pub(crate) at: u64,
    pub(crate) length: u64,
    pub(crate) size: u64,
}

/// What a line in a segment tells beside the operation itself.
struct LineExtras {
    segment: u64,
    actor: bool,
    /// The object's handle and owner.
    handle: bool,
    owner: u32,
}

/// As [`place`], for an operation that lost what is `captured`; with `is_last`, the rest of the room is
/// given back.
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

/// Places the line if it is a usual one, in a segment that has been told who uses the open file.
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
    let mut who = subject.open?.who().ok()?.lock();
    who.refresh(subject.mount.identities());
    if who.told_in != state.handle_told_in || state.owner_told != subject.inode.uid() {
        return None;
    }
    if state.lines_since_handle >= HANDLE_INTERVAL {
        return None;
    }
    let segment = who.told_in;
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
    // What goes wrong here goes wrong again below, or needs a longer line.
    let placed = room.place_brief(brief, id, segment, is_last).ok()?;
    state.head = Some(placed.at);
    state.lines_since_handle = state.lines_since_handle.saturating_add(1);
    Some(placed)
}

/// What a usual line tells of the name that was made, or is gone.
pub(super) struct NameFields<'a> {
    pub(super) name: &'a [u8],
    /// What it is or was bound to.
    pub(super) node: Option<&'a OwnInode>,
    /// Where it is kept, and its file handle, if it lost the name.
    pub(super) kept: Option<u64>,
    pub(super) handle: Option<(u8, &'a [u8])>,
}

/// Places the line about a name if it is a usual one, in a segment that has been told the
/// directory's file handle.
pub(super) fn place_name(
    subject: &LineSubject<'_>,
    state: &mut ObjectState,
    room: &mut LineRoom<'_>,
    args: &OperationArgs,
    named: &NameFields<'_>,
) -> Option<Placed> {
    let is_due = state.lines_since_handle >= HANDLE_INTERVAL;
    if is_due || state.was.is_some() || state.owner_told != subject.inode.uid() {
        return None;
    }
    let mut place = |identity: &Identity, usual: &mut Usual| {
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
        // What goes wrong here goes wrong again with another line, or needs a longer one.
        room.place_brief_name(&brief, usual, state.handle_told_in)
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

/// Places a line at the end of the object's chain; never waits. The state's lock is held.
pub(crate) fn place(
    subject: &LineSubject<'_>,
    state: &mut ObjectState,
    room: &mut LineRoom<'_>,
    args: &OperationArgs,
    fill: impl Fn(&mut LineDraft<'_>),
) -> Result<Placed> {
    let identities = subject.mount.identities();
    // Without memory for it, the line tells of no open file.
    match subject.open.and_then(|open| open.who().ok()) {
        Some(who) => {
            let mut who = who.lock();
            who.refresh(identities);
            place_by(subject, state, &mut who, room, args, fill)
        }
        None => place_by(subject, state, &mut Who::once(identities), room, args, fill),
    }
}

/// As [`place`], by whom the caller says.
pub(super) fn place_by(
    subject: &LineSubject<'_>,
    state: &mut ObjectState,
    who: &mut Who,
    room: &mut LineRoom<'_>,
    args: &OperationArgs,
    fill: impl Fn(&mut LineDraft<'_>),
) -> Result<Placed> {
    let mount = subject.mount;
    let journal = mount.journal().ok_or(EIO)?;
    let time = task::now();
    loop {
        let segment = journal.segment();
        let owner = subject.inode.uid();
        let telling = LineExtras {
            segment,
            actor: who.told_in != segment,
            handle: state.handle_told_in != segment
                || state.owner_told != owner
                || state.lines_since_handle >= HANDLE_INTERVAL,
            owner,
        };
        let mut compose = |who: &Who, buf: &mut [u8]| {
            let (command, cut) = who
                .identity()
                .map_or((&[][..], false), |identity| identity.command());
            let mut draft = LineDraft::new(buf, time, command, args.op, args.at, args.length);
            describe(&mut draft, subject, state, who, args, &telling);
            fill(&mut draft);
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
            // The segment has changed: what it has not been told goes into the line.
            Err(PlaceError::Moved(_)) => {}
            Err(PlaceError::Line(_)) => return Err(E2BIG),
            Err(PlaceError::Failed(e)) => return Err(e),
        }
    }
}

fn describe(
    draft: &mut LineDraft<'_>,
    subject: &LineSubject<'_>,
    state: &ObjectState,
    who: &Who,
    args: &OperationArgs,
    telling: &LineExtras,
) {
    draft.obj(subject.inode.id());
    if let Some(head) = state.head {
        draft.prev(head);
    }
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

/// Tells where an object that is no directory has a name: what only its file handle is known of is not
/// found below a mount's root. A directory knows its parent.
#[inline(never)]
fn describe_place(draft: &mut LineDraft<'_>, inode: &OwnInode) {
    if inode.is_directory() {
        return;
    }
    let mut buf = [0; 64];
    // A name that was just removed is in memory while it is in use, and is passed over.
    let parent = inode
        .lower()
        .name_in_memory(0)
        .map(|name| name.held_parent());
    let handle = parent
        .as_ref()
        .and_then(|parent| parent.inode())
        .and_then(|parent| attr::handle(parent, &mut buf));
    if let Some((kind, len)) = handle {
        draft.inside(kind, buf.get(..len).unwrap_or(&[]));
    }
}

/// Notes what a placed line has told.
fn told(state: &mut ObjectState, who: &mut Who, telling: &LineExtras, placed: &Placed) {
    state.head = Some(placed.at);
    state.was = None;
    state.lines_since_handle = match telling.handle {
        true => 0,
        false => state.lines_since_handle.saturating_add(1),
    };
    state.handle_told_in = telling.segment;
    state.owner_told = telling.owner;
    who.first.get_or_insert(placed.seq);
    if who.identity().is_some() {
        who.told_in = telling.segment;
    }
}

/// Places a line of the history's own about the object as it is now.
fn note(
    mount: &Mount,
    inode: &OwnInode,
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

/// Says how we leave the object.
pub(super) fn write_close(
    mount: &Mount,
    journal: &Journal,
    inode: &OwnInode,
    lower: &Dentry,
    state: &mut ObjectState,
) -> Result {
    if !state.changed {
        return Ok(());
    }
    let mut room = journal.reserve_lines_killable(1)?;
    left(mount, inode, lower, state, &mut room)
}

/// As [`write_close`], without ever waiting.
pub(super) fn try_write_close(
    mount: &Mount,
    journal: &Journal,
    inode: &OwnInode,
    lower: &Dentry,
    state: &mut ObjectState,
) -> Result {
    let mut room = journal.try_reserve_lines(1)?;
    left(mount, inode, lower, state, &mut room)
}

fn left(
    mount: &Mount,
    inode: &OwnInode,
    lower: &Dentry,
    state: &mut ObjectState,
    room: &mut LineRoom<'_>,
) -> Result {
    let cookie = attr::cookie(mount.lower(), lower)?;
    note(mount, inode, state, room, Op::Left, cookie)?;
    state.left = Some(cookie);
    observe_if_idle(state, inode);
    state.changed = false;
    Ok(())
}

/// Finds the object's last line and compares the object with it.
///
/// A closing line that tells another cookie: changed outside, or cut off ([`changed_since`]). No
/// closing line: we went down without one, and take the object as it is.
pub(super) fn load(
    mount: &Mount,
    journal: &Journal,
    inode: &OwnInode,
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
        Some((Op::Foreign, was)) if was == Some(cookie) => None,
        Some(_) => Some(Op::Recover),
    };
    if let Some(op) = op.filter(|_| inode.is_regular()) {
        let mut room = journal.reserve_lines(1)?;
        note(mount, inode, state, &mut room, op, cookie)?;
        note_change(state, inode);
    }
    state.loaded = true;
    Ok(())
}

/// The object's last line is a revert: its end would stand behind it.
fn load_intent(
    journal: &Journal,
    inode: &OwnInode,
    state: &mut ObjectState,
    buf: &mut [u8],
) -> Result {
    let len = journal.read_line(state.head.ok_or(EUCLEAN)?, buf)?;
    let line = Line::parse(buf.get(..len).ok_or(EUCLEAN)?, None).map_err(|_| EUCLEAN)?;
    if journal.group(line.group.unwrap_or(line.seq)) == Some(None) {
        // It is under way: this is the group's own work.
        state.seen = Some(inode.lower().quick_cookie());
        state.half_done = false;
        state.loaded = true;
        return Ok(());
    }
    // Whoever holds the inode's lock withdraws it.
    state.half_done = true;
    Ok(())
}

/// What a closing line with another cookie comes to: somebody else changed the object, or a power
/// cut came before it was durable, as the line was; `was`: one may have come since that line. Then
/// the object is older than its line; another program's change would be newer. Or only its change
/// time is newer, and from before the cut: its names or attributes were changed, and the cut took the
/// line of that.
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

/// Whether an object `now` has the content that it had when it was left: who writes moves the time of
/// modification, too. (Change counters count renames, on btrfs at least.)
fn has_content_of(mount: &Mount, lower: &Dentry, was: &Cookie, now: &Cookie) -> Result<bool> {
    let (_, times) = attr::access_and_times(mount.lower(), lower)?;
    let left = (was.ctime.sec, was.ctime.nsec);
    Ok(now.size == was.size && times.modified <= left)
}

/// Whether an object has the content that its last line left it with, whatever else was changed.
pub(super) fn is_as_closed(
    mount: &Mount,
    journal: &Journal,
    inode: &OwnInode,
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

/// Takes an object as it is, after a change of its times that was our own.
pub(super) fn resync_loaded(
    mount: &Mount,
    journal: &Journal,
    inode: &OwnInode,
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

/// Takes an object as it is, if what a power cut left is known to differ from its last line in its
/// change time alone. Its inode is not locked.
pub(crate) fn resync(mount: &Mount, journal: &Journal, inode: &OwnInode, lower: &Dentry) -> Result {
    let _lock = inode.lock();
    let mut state = inode.object().state.lock();
    if inode.is_regular() && is_as_closed(mount, journal, inode, lower)? {
        resync_loaded(mount, journal, inode, lower, &mut state)?;
    }
    Ok(())
}

/// As [`load`], for a revert, which does not begin on top of one that is half done. Our inode's
/// lock is held.
pub(crate) fn load_known(
    mount: &Mount,
    journal: &Journal,
    inode: &OwnInode,
    lower: &Dentry,
    state: &mut ObjectState,
) -> Result {
    if state.loaded {
        return Ok(());
    }
    load(mount, journal, inode, lower, state)?;
    if state.half_done {
        crate::revert::roll_back_last(mount, journal, inode, lower, state)?;
    }
    Ok(())
}

/// As [`load`], but takes the object as it is.
pub(crate) fn load_unchecked(
    journal: &Journal,
    inode: &OwnInode,
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

/// The operation and cookie of the object's last line, which becomes the chain's head.
fn load_last(
    journal: &Journal,
    inode: &OwnInode,
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

/// Marks the object as changed outside: the line behind which no walk goes unforced.
pub(crate) fn note_external(
    mount: &Mount,
    journal: &Journal,
    inode: &OwnInode,
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
