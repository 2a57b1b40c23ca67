// SPDX-License-Identifier: GPL-2.0

//! Recovery of reverts that began and did not end, after a crash or a failed rollback.
//!
//! The ioctl may return before the closing line is durable, and its result must hold after a crash.
//! The next mount therefore finishes the revert of one object, and rolls it back only if that
//! fails. A refused revert has its closing line on disk before the ioctl returns.

use super::{
    apply::ApplyTarget,
    content::{is_forward_only, ContentRevert},
    locate,
    names::{NamesRevert, NamesRevertError},
    steps::{is_on_names, steps_of, Lines},
    Refusal,
};
use crate::{
    history::{
        journal::{Journal, SpacePurpose, Unfinished},
        orphan_record::HANDLE_MAX,
        sort::sort,
    },
    log::{
        line::{decode_hex, Line, Op, MAX_LINE},
        types::{ObjectId, Pos},
    },
    record::{self, LineSubject, OperationArgs},
    state::{Mount, ObjectState},
    vfs::{
        c,
        dentry::Dentry,
        error::{ENODATA, ESTALE, EUCLEAN},
        file::File,
        inode::{Inode, UpperInode},
        mount::LowerMount,
        superblock::UpperSuperBlock,
        task,
    },
};
use kernel::{prelude::*, rbtree::RBTree, sync::aref::ARef};

/// Ends all reverts that a crash interrupted: finishes those of one object, rolls groups back.
#[inline(never)]
pub(crate) fn recover_unfinished(sb: &UpperSuperBlock) {
    let Some(journal) = sb.mount().journal() else {
        return;
    };
    let mut unfinished = journal.take_unfinished();
    // Groups together, each with its first line first.
    sort(&mut unfinished, |a, b| (a.group, a.seq) < (b.group, b.seq));
    let mut rest = &unfinished[..];
    let mut report = RecoveryReport::default();
    let mut newest = NewestLines::new(journal);
    while let Some(first) = rest.first() {
        if task::resched_killable().is_err() {
            // The next mount continues.
            break;
        }
        let is_one = |other: &Unfinished| other.group == first.group;
        let count = rest.iter().take_while(|other| is_one(other)).count();
        let (group, behind) = rest.split_at_checked(count).unwrap_or((rest, &[]));
        rest = behind;
        if let (true, None) = (group.len() > 1 || !first.is_alone, first.end) {
            recover_group(sb, group, &mut newest, &mut report);
            continue;
        }
        for one in group {
            recover_one(sb, one, &mut newest, &mut report);
        }
    }
    report.end();
    journal.unpin_recovery();
}

/// Counts the messages about unfinished reverts.
#[derive(Default)]
struct RecoveryReport(u64);

impl RecoveryReport {
    /// Number of reverts with a message of their own.
    const MOST: u64 = 16;

    /// Whether to print one more message.
    fn tells(&mut self) -> bool {
        self.0 = self.0.saturating_add(1);
        self.0 <= Self::MOST
    }

    fn end(self) {
        if self.0 > Self::MOST {
            pr_warn!("recovery: {} reverts had not been finished\n", self.0);
        }
    }
}

/// Recovers one group and logs the result.
#[inline(never)]
fn recover_group(
    sb: &UpperSuperBlock,
    group: &[Unfinished],
    newest: &mut NewestLines<'_>,
    report: &mut RecoveryReport,
) {
    let journal = newest.journal;
    let first = group.first().map_or(0, |first| first.seq);
    let recovered = refuse_repeated(group).and_then(|()| super::group::recover(sb, group, newest));
    if recovered.is_ok() {
        for one in group {
            journal.end_incomplete_intent(one.seq);
        }
    }
    match recovered {
        _ if !report.tells() => {}
        Ok(()) => pr_warn!(
            "recovery: revert {} of {} objects had not been finished; they are as before it\n",
            first,
            group.len()
        ),
        Err(refusal) => pr_warn!(
            "recovery: revert {} of {} objects had not been finished and cannot be withdrawn (error {})\n",
            first,
            group.len(),
            refusal.error.to_errno()
        ),
    }
}

/// A group has at most two lines for one object, content and names. More would make recovery read
/// the object's lines once for each.
fn refuse_repeated(group: &[Unfinished]) -> Result<(), Refusal> {
    const MOST: usize = 2;
    let mut objects = KVVec::with_capacity(group.len(), GFP_KERNEL)?;
    for one in group {
        objects.push(one.object, GFP_KERNEL)?;
    }
    sort(&mut objects, |a, b| a < b);
    let is_repeated = |some: &[_]| some.first() == some.last();
    if objects.windows(MOST.saturating_add(1)).any(is_repeated) {
        return Err(EUCLEAN.into());
    }
    Ok(())
}

/// Recovers one revert and logs the result.
#[inline(never)]
fn recover_one(
    sb: &UpperSuperBlock,
    unfinished: &Unfinished,
    newest: &mut NewestLines<'_>,
    report: &mut RecoveryReport,
) {
    let journal = newest.journal;
    let recovered = recover(sb, unfinished, newest);
    if recovered.is_ok() {
        journal.end_incomplete_intent(unfinished.seq);
    }
    match recovered {
        _ if !report.tells() => {}
        Ok(became) => pr_warn!(
            "recovery: revert {} had not been finished; {}\n",
            unfinished.seq,
            became
        ),
        Err(e) => pr_warn!(
            "recovery: revert {} had not been finished and cannot be withdrawn (error {})\n",
            unfinished.seq,
            e.to_errno()
        ),
    }
}

/// Recovers one revert. Returns the result, for the log message.
#[inline(never)]
fn recover(
    sb: &UpperSuperBlock,
    unfinished: &Unfinished,
    newest: &mut NewestLines<'_>,
) -> Result<&'static str> {
    let journal = newest.journal;
    let mut text = KVec::with_capacity(MAX_LINE, GFP_KERNEL)?;
    text.resize(MAX_LINE, 0, GFP_KERNEL)?;
    let len = journal.read_line(unfinished.at, &mut text)?;
    let line = Line::parse(text.get(..len).ok_or(EUCLEAN)?, None).map_err(|_| EUCLEAN)?;
    let mut handle = [0; HANDLE_MAX];
    let n = line.fh.and_then(|fh| decode_hex(fh, &mut handle));
    // Each intent has `fh=`, see `write_intent`.
    let handle = handle.get(..n.ok_or(EUCLEAN)?).ok_or(EUCLEAN)?;
    let mount = sb.mount().lower();
    let known = (unfinished.object, handle);
    let dentry = locate::by_handle(sb, journal, known, None)?.ok_or(ESTALE)?;
    if let Some(op) = unfinished.end {
        end(sb, journal, &dentry, op, unfinished.seq)?;
        return Ok("it had ended with its group");
    }
    let lower = dentry.inode().ok_or(ESTALE)?;
    if is_of_names(lower, &line) {
        return recover_names(sb, journal, &dentry, &line, unfinished);
    }
    if newest.was_followed(unfinished)? {
        // The revert had ended; only its closing line is damaged.
        end(sb, journal, &dentry, Op::Commit, unfinished.seq)?;
        return Ok("its file stays as it is");
    }
    let file = open_to_recover(mount, &dentry, &line)?;
    let found = (&*dentry, file.as_deref());
    if is_forward_only(&line) {
        let inode = UpperInode::iget(sb, lower)?;
        content(sb.mount(), journal, &inode, found).resume(&line, true)?;
        end(sb, journal, &dentry, Op::Commit, unfinished.seq)?;
        return Ok("its file is as behind it");
    }
    let target = ApplyTarget {
        own: sb.mount(),
        mount,
        file: file.as_deref(),
        dentry: &dentry,
        journal,
        is_alone: true,
    };
    // To a known state first, so that the plan can be made as before the crash.
    target.restore_from(&line)?;
    let (op, became) = match finish_content(sb, journal, found, &line) {
        Ok(()) => (Op::Commit, "its file is as behind it"),
        Err(_) => {
            target.restore_from(&line)?;
            (Op::Cancel, "its file is as before it")
        }
    };
    // Written last: after a crash before this point, recovery repeats the steps above.
    end(sb, journal, &dentry, op, unfinished.seq)?;
    Ok(became)
}

/// Applies a rolled back revert of content and attributes again.
#[inline(never)]
fn finish_content(
    sb: &UpperSuperBlock,
    journal: &Journal,
    found: (&Dentry, Option<&File>),
    line: &Line<'_>,
) -> Result {
    let lower = found.0.inode().ok_or(ESTALE)?;
    let inode = UpperInode::iget(sb, lower)?;
    content(sb.mount(), journal, &inode, found).resume(line, true)?;
    // `now=` is the size after the revert.
    if lower.is_regular() && line.now.is_some_and(|now| now != lower.size()) {
        return Err(EUCLEAN);
    }
    Ok(())
}

/// Number of an object's newest lines to read: a group has at most two lines for one object.
const COUNTED: usize = 3;

/// The newest operations and reverts of objects: position and group. The lines of each object are
/// read once, regardless of the number of its reverts.
pub(super) struct NewestLines<'j> {
    journal: &'j Journal,
    known: RBTree<ObjectId, [Option<(Pos, u64)>; COUNTED]>,
}

impl<'j> NewestLines<'j> {
    pub(super) fn new(journal: &'j Journal) -> Self {
        Self {
            journal,
            known: RBTree::new(),
        }
    }

    /// Whether an operation or another revert of the object followed. Bookkeeping lines and lines
    /// of the same group do not count. No revert begins on an object with an incomplete one.
    pub(super) fn was_followed(&mut self, revert: &Unfinished) -> Result<bool> {
        let lines = match self.known.get(&revert.object) {
            Some(lines) => *lines,
            None => {
                let lines = self.look(revert.object)?;
                self.known
                    .try_create_and_insert(revert.object, lines, GFP_KERNEL)?;
                lines
            }
        };
        let mut newer = lines.iter().flatten().filter(|(at, _)| *at > revert.at);
        Ok(newer.any(|(_, group)| *group != revert.group))
    }

    /// Reads an object's newest lines.
    #[inline(never)]
    fn look(&self, object: ObjectId) -> Result<[Option<(Pos, u64)>; COUNTED]> {
        let mut lines = Lines::new(self.journal)?;
        let mut next = self.journal.last_line(object)?;
        let mut found = [None; COUNTED];
        let mut places = found.iter_mut();
        while let Some(at) = next {
            task::resched_killable()?;
            let line = match lines.read(at) {
                Err(e) if e == ENODATA => break,
                line => line?,
            };
            if matches!(line.op, Op::Revert | Op::Redo) || !line.op.is_bookkeeping() {
                let Some(place) = places.next() else { break };
                *place = Some((at, line.group.unwrap_or(line.seq)));
            }
            // A forged chain must not loop.
            if line.prev.is_some_and(|prev| prev >= at) {
                return Err(EUCLEAN);
            }
            next = line.prev;
        }
        Ok(found)
    }
}

/// As [`recover`], for a revert of names.
#[inline(never)]
fn recover_names(
    sb: &UpperSuperBlock,
    journal: &Journal,
    lower: &Dentry,
    line: &Line<'_>,
    unfinished: &Unfinished,
) -> Result<&'static str> {
    let dir = UpperInode::iget(sb, lower.inode().ok_or(ESTALE)?)?;
    let _lock = dir.lock_as_parent();
    if journal.last_line(unfinished.object)? != Some(unfinished.at) {
        // A later operation of the directory closed the intent, see [`roll_back_last`].
        end(sb, journal, lower, Op::Cancel, line.seq)?;
        return Ok("its directory stays as it is");
    }
    let (op, became) = match finish_names(sb, journal, lower, line) {
        Ok(()) => (Op::Commit, "its directory is as behind it"),
        Err(NamesRevertError::RolledBack(_)) => (Op::Cancel, "its directory is as before it"),
        Err(NamesRevertError::Incomplete(refusal)) => return Err(refusal.error),
    };
    // Order on disk: the directory, then the closing line.
    sb.mount().lower().directory_at(lower)?.sync()?;
    end(sb, journal, lower, op, line.seq)?;
    Ok(became)
}

/// Applies the remaining steps of a revert of names, or rolls the applied ones back. The directory
/// is locked.
fn finish_names(
    sb: &UpperSuperBlock,
    journal: &Journal,
    lower: &Dentry,
    line: &Line<'_>,
) -> Result<(), NamesRevertError> {
    let dir = UpperInode::iget(sb, lower.inode().ok_or(ESTALE)?)?;
    // A read error is not a failed step: the intent stays open.
    let steps = steps_of(journal, line, 0).map_err(NamesRevertError::Incomplete)?;
    let names = NamesRevert {
        mount: sb.mount(),
        journal,
        dir: &dir,
        dentry: None,
        locked: None,
        lower,
        other: None,
        purpose: SpacePurpose::Discard,
        permission: None,
    };
    names.finish(steps)
}

/// Whether the line is a revert of names.
fn is_of_names(inode: &Inode, line: &Line<'_>) -> bool {
    inode.is_directory() && is_on_names(line)
}

/// Writes the closing line of a recovered revert.
pub(super) fn end(
    sb: &UpperSuperBlock,
    journal: &Journal,
    lower: &Dentry,
    op: Op,
    seq: u64,
) -> Result {
    let inode = UpperInode::iget(sb, lower.inode().ok_or(ESTALE)?)?;
    let mut state = inode.object().state.lock();
    // No comparison: recovery itself has changed the object.
    record::load_unchecked(journal, &inode, &mut state)?;
    close(sb.mount(), journal, &inode, &mut state, op, seq)
}

/// Opens the lower file of an interrupted revert, writable only if the revert changes content:
/// after a revert of attributes the file may be immutable.
fn open_to_recover(
    mount: &LowerMount,
    dentry: &Dentry,
    line: &Line<'_>,
) -> Result<Option<ARef<File>>> {
    let inode = dentry.inode().ok_or(ESTALE)?;
    if !inode.is_regular() && !inode.is_directory() {
        return Ok(None);
    }
    let content = line.map.is_some()
        || is_forward_only(line)
        || line.size != Some(inode.size())
        || line.now != line.size;
    let access = if inode.is_regular() && content {
        c::O_RDWR
    } else {
        c::O_RDONLY
    };
    File::open_kernel(mount, dentry, access).map(Some)
}

/// The object of an interrupted revert.
fn content<'a>(
    mount: &'a Mount,
    journal: &'a Journal,
    inode: &'a UpperInode,
    (lower, file): (&'a Dentry, Option<&'a File>),
) -> ContentRevert<'a> {
    ContentRevert {
        mount,
        journal,
        inode,
        lower,
        file,
        open: None,
        force: true,
        resumed: None,
        is_killable: false,
    }
}

/// Ends the incomplete revert that is the object's last line, at the next use of the object. The
/// inode lock is held.
pub(crate) fn roll_back_last(
    mount: &Mount,
    journal: &Journal,
    inode: &UpperInode,
    dentry: &Dentry,
    state: &mut ObjectState,
) -> Result {
    let mut text = KVec::with_capacity(MAX_LINE, GFP_KERNEL)?;
    text.resize(MAX_LINE, 0, GFP_KERNEL)?;
    let len = journal.read_line(state.head.ok_or(EUCLEAN)?, &mut text)?;
    let line = Line::parse(text.get(..len).ok_or(EUCLEAN)?, None).map_err(|_| EUCLEAN)?;
    if let Some(Some(end)) = journal.group(line.group.unwrap_or(line.seq)) {
        // The group has ended, and this member's closing line is missing.
        close(mount, journal, inode, state, end, line.seq)?;
        state.incomplete = false;
        state.loaded = true;
        return Ok(());
    }
    if is_of_names(inode, &line) {
        // Each name is as before the revert, or as after it. A later revert finds out which.
        close(mount, journal, inode, state, Op::Cancel, line.seq)?;
        state.incomplete = false;
        state.loaded = true;
        journal.end_incomplete_intent(line.seq);
        return Ok(());
    }
    let file = open_to_recover(mount.lower(), dentry, &line)?;
    let target = ApplyTarget {
        own: mount,
        mount: mount.lower(),
        file: file.as_deref(),
        dentry,
        journal,
        is_alone: true,
    };
    // Needs much stack, and this may run within another revert.
    let recovered = task::call_on_new_stack(|| match is_forward_only(&line) {
        true => content(mount, journal, inode, (dentry, file.as_deref())).resume(&line, true),
        false => target.restore_from(&line),
    });
    let recovered = recovered.unwrap_or(Err(EIO));
    match recovered {
        Ok(()) if is_forward_only(&line) => {
            close(mount, journal, inode, state, Op::Commit, line.seq)?;
            pr_warn!("revert {} is finished\n", line.seq);
        }
        Ok(()) => {
            close(mount, journal, inode, state, Op::Cancel, line.seq)?;
            pr_warn!("revert {} is withdrawn\n", line.seq);
        }
        // The pre-image is lost: the object stays as it is. The external-change line stops later
        // reverts that do not use `force`.
        Err(e) if e == ENODATA || e == EUCLEAN => {
            record::note_external(mount, journal, inode, dentry, state)?;
        }
        Err(e) => return Err(e),
    }
    state.incomplete = false;
    state.loaded = true;
    journal.end_incomplete_intent(line.seq);
    Ok(())
}

/// Writes the line that closes the revert `seq`.
fn close(
    mount: &Mount,
    journal: &Journal,
    inode: &UpperInode,
    state: &mut ObjectState,
    op: Op,
    seq: u64,
) -> Result {
    let mut reservation = journal.reserve_lines(1)?;
    let subject = LineSubject {
        mount,
        inode,
        open: None,
    };
    let args = OperationArgs {
        op,
        at: 0,
        length: 0,
        size: inode.lower().size(),
    };
    record::place(&subject, state, &mut reservation, &args, |draft| {
        draft.of(seq);
    })?;
    // Recovery has changed the times: record them as our own.
    record::note_change(state, inode);
    Ok(())
}
