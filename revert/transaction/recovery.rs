// SPDX-License-Identifier: GPL-2.0

//! Ends reverts that began and did not end, after a crash or a failed rollback.
//!
//! There are three cases, and two times: the mount, and the next use of an object of this mount.
//!
//! - A closing line is known, that of the revert or the deciding one of its group: only the line of
//!   the object is missing.
//! - The pre-image was captured: a group is withdrawn, since its deciding line is durable before
//!   any caller sees its result. The ioctl of one object may return before its closing line is
//!   durable, and its result must hold: the mount finishes such a revert, and withdraws it only if
//!   that fails. (A refused one has its closing line on disk before the ioctl returns.)
//! - No pre-image was captured: the revert is finished.

use super::{place_end, place_ends, RevertSteps, TransactionOutcome};
use crate::{
    history::{
        journal::{Journal, SpacePurpose, Unfinished},
        orphan_record::HANDLE_MAX,
        sort::sort,
    },
    log::{
        line::{decode_hex, Line, Op},
        types::{ObjectId, Pos},
    },
    record::{self, LineSubject},
    revert::{
        content::{is_forward_only, ContentRevert},
        group::UnfinishedGroup,
        locate,
        names::NamesRevert,
        steps::{is_on_names, steps_of, Lines, StepSequence},
        Refusal,
    },
    state::{Mount, ObjectState},
    vfs::{
        c,
        dentry::Dentry,
        error::{ENODATA, ESTALE, EUCLEAN},
        file::File,
        inode::UpperInode,
        superblock::UpperSuperBlock,
        task,
    },
};
use kernel::{prelude::*, rbtree::RBTree, sync::aref::ARef};

/// How to end a revert without a closing line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Remedy {
    /// Applies the remaining steps. If one fails, all are rolled back.
    Finish,
    /// Rolls the applied steps back.
    Withdraw,
}

/// Applies a remedy. Returns the operation of the closing lines; an error if some objects are
/// neither as before the revert nor as after it.
fn settle<R: RevertSteps>(revert: &mut R, remedy: Remedy) -> Result<Op, Refusal> {
    if remedy == Remedy::Withdraw {
        revert.roll_back()?;
        return Ok(Op::Cancel);
    }
    match super::apply(revert) {
        TransactionOutcome::Applied => Ok(Op::Commit),
        TransactionOutcome::RolledBack(_) => Ok(Op::Cancel),
        TransactionOutcome::Incomplete(refusal) => Err(refusal),
    }
}

/// Ends a revert. The closing lines come last: after a crash before them, recovery repeats all.
fn end<R: RevertSteps>(
    journal: &Journal,
    revert: &mut R,
    intents: &[u64],
    remedy: Remedy,
) -> Result<&'static str, Refusal> {
    let end = settle(revert, remedy)?;
    revert.sync()?;
    let is_group = revert.is_group();
    place_ends(revert, intents, end, || match is_group {
        // The first line decides for the group, so it is durable before the others.
        true => journal.flush(true),
        false => Ok(()),
    })?;
    Ok(match end {
        Op::Commit => "it is finished",
        _ => "it is withdrawn",
    })
}

/// Ends all reverts that a crash interrupted.
#[inline(never)]
pub(crate) fn recover_unfinished(sb: &UpperSuperBlock) {
    let Some(journal) = sb.mount().journal() else {
        return;
    };
    let mut unfinished = journal.take_unfinished();
    // Groups together, each with its first line first.
    sort(&mut unfinished, |a: &Unfinished, b| {
        (a.group, a.seq) < (b.group, b.seq)
    });
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
            let recovered = recover_group(sb, group, &mut newest);
            report.add(journal, group, recovered);
            continue;
        }
        for one in group {
            let recovered = recover(sb, one, &mut newest);
            report.add(journal, core::slice::from_ref(one), recovered);
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

    /// Notes the result of one revert.
    fn add(
        &mut self,
        journal: &Journal,
        group: &[Unfinished],
        recovered: Result<&'static str, Refusal>,
    ) {
        if recovered.is_ok() {
            for one in group {
                journal.end_incomplete_intent(one.seq);
            }
        }
        self.0 = self.0.saturating_add(1);
        if self.0 > Self::MOST {
            return;
        }
        let (first, count) = (group.first().map_or(0, |first| first.seq), group.len());
        match recovered {
            Ok(became) => pr_warn!(
                "recovery: revert {} of {} objects had not been finished; {}\n",
                first,
                count,
                became
            ),
            Err(refusal) => pr_warn!(
                "recovery: revert {} of {} objects had not been finished and cannot be withdrawn (error {})\n",
                first,
                count,
                refusal.error.to_errno()
            ),
        }
    }

    fn end(self) {
        if self.0 > Self::MOST {
            pr_warn!("recovery: {} reverts had not been finished\n", self.0);
        }
    }
}

/// Recovers a group of which no closing line is known.
#[inline(never)]
fn recover_group(
    sb: &UpperSuperBlock,
    group: &[Unfinished],
    newest: &mut NewestLines<'_>,
) -> Result<&'static str, Refusal> {
    refuse_repeated(group)?;
    let mut revert = UnfinishedGroup::new(sb, group, newest)?;
    let remedy = match revert.is_forward_only() {
        true => Remedy::Finish,
        false => Remedy::Withdraw,
    };
    let intents = revert.intents()?;
    end(newest.journal, &mut revert, &intents, remedy)
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

/// Recovers one revert, or one member of a group that has ended. Returns the result, for the log
/// message.
#[inline(never)]
fn recover(
    sb: &UpperSuperBlock,
    unfinished: &Unfinished,
    newest: &mut NewestLines<'_>,
) -> Result<&'static str, Refusal> {
    let journal = newest.journal;
    let mut lines = Lines::new(journal)?;
    let line = lines.read(unfinished.at)?;
    let mut handle = [0; HANDLE_MAX];
    let n = line.fh.and_then(|fh| decode_hex(fh, &mut handle));
    // Each intent has `fh=`, see `write_intent`.
    let handle = handle.get(..n.ok_or(EUCLEAN)?).ok_or(EUCLEAN)?;
    let dentry = locate::by_handle(sb, journal, (unfinished.object, handle), None)?;
    let dentry = dentry.ok_or(ESTALE)?;
    let inode = UpperInode::iget(sb, dentry.inode().ok_or(ESTALE)?)?;
    let object = UnfinishedObject {
        mount: sb.mount(),
        journal,
        inode: &inode,
        dentry: &dentry,
        line: &line,
    };
    if let Some(op) = unfinished.end {
        object.place_end(op)?;
        return Ok("it had ended with its group");
    }
    if object.is_of_names() {
        return recover_names(&object, unfinished);
    }
    if newest.was_followed(unfinished)? {
        // The revert had ended; only its closing line is damaged.
        object.place_end(Op::Commit)?;
        return Ok("its file stays as it is");
    }
    let file = object.open()?;
    let mut content = UnfinishedContent {
        object: &object,
        file: file.as_deref(),
    };
    if !is_forward_only(&line) {
        // To a known state first, so that the plan can be made as before the crash.
        content.roll_back()?;
    }
    end(journal, &mut content, &[line.seq], Remedy::Finish)
}

/// As [`recover`], for a revert of names.
#[inline(never)]
fn recover_names(
    object: &UnfinishedObject<'_>,
    unfinished: &Unfinished,
) -> Result<&'static str, Refusal> {
    let journal = object.journal;
    let _lock = object.inode.lock_as_parent();
    if journal.last_line(unfinished.object)? != Some(unfinished.at) {
        // A later operation of the directory closed the intent, see [`roll_back_last`].
        object.place_end(Op::Cancel)?;
        return Ok("its directory stays as it is");
    }
    let names = NamesRevert {
        mount: object.mount,
        journal,
        dir: object.inode,
        dentry: None,
        locked: None,
        lower: object.dentry,
        other: None,
        purpose: SpacePurpose::Discard,
        permission: None,
    };
    // A read error is not a failed step: the intent stays open.
    let mut steps = StepSequence::new(journal, steps_of(journal, object.line, 0)?)?;
    names.find_applied(&mut steps)?;
    let mut revert = UnfinishedNames {
        object,
        names,
        steps,
    };
    end(journal, &mut revert, &[object.line.seq], Remedy::Finish)
}

/// Number of an object's newest lines to read: a group has at most two lines for one object.
const COUNTED: usize = 3;

/// The newest operations and reverts of objects: position and group. The lines of each object are
/// read once, regardless of the number of its reverts.
pub(in crate::revert) struct NewestLines<'j> {
    journal: &'j Journal,
    known: RBTree<ObjectId, [Option<(Pos, u64)>; COUNTED]>,
}

impl<'j> NewestLines<'j> {
    pub(in crate::revert) fn new(journal: &'j Journal) -> Self {
        Self {
            journal,
            known: RBTree::new(),
        }
    }

    /// Whether an operation or another revert of the object followed. Bookkeeping lines and lines
    /// of the same group do not count. No revert begins on an object with an incomplete one.
    pub(in crate::revert) fn was_followed(&mut self, revert: &Unfinished) -> Result<bool> {
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
        while let Some((at, line)) = lines.back_while_kept(&mut next)? {
            task::resched_killable()?;
            if matches!(line.op, Op::Revert | Op::Redo) || !line.op.is_bookkeeping() {
                let Some(place) = places.next() else { break };
                *place = Some((at, line.group.unwrap_or(line.seq)));
            }
        }
        Ok(found)
    }
}

/// The object of one unfinished revert.
struct UnfinishedObject<'a> {
    mount: &'a Mount,
    journal: &'a Journal,
    inode: &'a UpperInode,
    dentry: &'a Dentry,
    /// The intent.
    line: &'a Line<'a>,
}

impl UnfinishedObject<'_> {
    /// Whether the line is a revert of names.
    fn is_of_names(&self) -> bool {
        self.inode.is_directory() && is_on_names(self.line)
    }

    /// Opens the lower file, writable only if the revert changes content: after a revert of
    /// attributes the file may be immutable.
    fn open(&self) -> Result<Option<ARef<File>>> {
        let (inode, line) = (self.inode.lower(), self.line);
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
        File::open_kernel(self.mount.lower(), self.dentry, access).map(Some)
    }

    /// Places the closing line. The object is not compared with its last line: recovery itself has
    /// changed it.
    fn place_end(&self, end: Op) -> Result {
        let mut state = self.inode.object().state.lock();
        record::load_unchecked(self.journal, self.inode, &mut state)?;
        self.place_end_in(&mut state, end)?;
        self.inode.copy_attr();
        Ok(())
    }

    /// As [`Self::place_end`]; `state` is the object's loaded state.
    fn place_end_in(&self, state: &mut ObjectState, end: Op) -> Result {
        let mut reservation = self.journal.reserve_lines(1)?;
        let subject = LineSubject {
            mount: self.mount,
            inode: self.inode,
            open: None,
        };
        place_end(&subject, state, &mut reservation, end, self.line.seq)
    }
}

/// An unfinished revert of content and attributes.
struct UnfinishedContent<'u, 'a> {
    object: &'u UnfinishedObject<'a>,
    file: Option<&'u File>,
}

impl UnfinishedContent<'_, '_> {
    fn content(&self) -> ContentRevert<'_> {
        ContentRevert {
            mount: self.object.mount,
            journal: self.object.journal,
            inode: self.object.inode,
            lower: self.object.dentry,
            file: self.file,
            open: None,
            force: true,
            resumed: None,
            is_killable: false,
        }
    }
}

impl RevertSteps for UnfinishedContent<'_, '_> {
    /// Makes the plan from the line and applies it.
    #[inline(never)]
    fn apply(&mut self) -> Result<(), Refusal> {
        let (line, lower) = (self.object.line, self.object.inode.lower());
        self.content().resume(line, true)?;
        // `now=` is the size after the revert.
        let is_other = !is_forward_only(line) && line.now.is_some_and(|now| now != lower.size());
        if lower.is_regular() && is_other {
            return Err(EUCLEAN.into());
        }
        Ok(())
    }

    /// Restores the pre-image, also if no step was applied.
    fn roll_back(&mut self) -> Result<(), Refusal> {
        if is_forward_only(self.object.line) {
            return Err(EIO.into());
        }
        Ok(self.content().target(true).restore_from(self.object.line)?)
    }

    fn place_end(&mut self, _member: usize, end: Op, _intent: u64) -> Result {
        self.object.place_end(end)
    }
}

/// An unfinished revert of names. The directory is locked.
struct UnfinishedNames<'u, 'a> {
    object: &'u UnfinishedObject<'a>,
    names: NamesRevert<'u>,
    steps: StepSequence<'u>,
}

impl RevertSteps for UnfinishedNames<'_, '_> {
    fn apply(&mut self) -> Result<(), Refusal> {
        self.names.perform(&mut self.steps)
    }

    fn roll_back(&mut self) -> Result<(), Refusal> {
        self.names.roll_back(&mut self.steps)
    }

    fn place_end(&mut self, _member: usize, end: Op, _intent: u64) -> Result {
        self.object.place_end(end)
    }

    fn sync(&self) -> Result {
        self.names.sync()
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
    let mut lines = Lines::new(journal)?;
    let line = lines.read(state.head.ok_or(EUCLEAN)?)?;
    let object = UnfinishedObject {
        mount,
        journal,
        inode,
        dentry,
        line: &line,
    };
    if let Some(Some(end)) = journal.group(line.group.unwrap_or(line.seq)) {
        // The revert has ended, and this object's closing line is missing.
        object.place_end_in(state, end)?;
        state.incomplete = false;
        state.loaded = true;
        return Ok(());
    }
    if object.is_of_names() {
        // Each name is as before the revert, or as after it. A later revert finds out which.
        object.place_end_in(state, Op::Cancel)?;
    } else {
        end_content(&object, state)?;
    }
    state.incomplete = false;
    state.loaded = true;
    journal.end_incomplete_intent(line.seq);
    Ok(())
}

/// Ends an incomplete revert of content: finishes it if it has no pre-image, and withdraws it
/// otherwise. The state's lock is held.
fn end_content(object: &UnfinishedObject<'_>, state: &mut ObjectState) -> Result {
    let file = object.open()?;
    let mut content = UnfinishedContent {
        object,
        file: file.as_deref(),
    };
    let remedy = match is_forward_only(object.line) {
        true => Remedy::Finish,
        false => Remedy::Withdraw,
    };
    // Needs much stack, and this may run within another revert.
    let settled = task::call_on_new_stack(|| settle(&mut content, remedy).map_err(|r| r.error));
    match settled.unwrap_or(Err(EIO)) {
        Ok(end) => {
            object.place_end_in(state, end)?;
            let became = match end {
                Op::Commit => "finished",
                _ => "withdrawn",
            };
            pr_warn!("revert {} is {}\n", object.line.seq, became);
        }
        // The pre-image is lost: the object stays as it is. The external-change line stops later
        // reverts that do not use `force`.
        Err(e) if e == ENODATA || e == EUCLEAN => {
            let (mount, journal) = (object.mount, object.journal);
            record::note_external(mount, journal, object.inode, object.dentry, state)?;
        }
        Err(e) => return Err(e),
    }
    Ok(())
}
