// SPDX-License-Identifier: GPL-2.0

//! LoggerFS's ioctls of files and directories. Of the lower filesystem's ioctls only those are
//! passed on that change no state an undo depends on.

use super::{ioctl_history, Stack};
use crate::{
    history::{
        journal::{Journal, OnError, OnFull},
        lines::{before, Lines},
    },
    log::{
        line::{refold, without_arguments, Amend, Line, MAX_LINE},
        plan::{OnExternal, WalkStep},
        types::{ObjectId, Pos, Seed},
    },
    revert::{
        self,
        rights::{CallerRights, ChainRights},
        Chain, ChainLink, UndoOptions,
    },
    uapi::{self, ReadLog, Revert, Status},
    vfs::{
        c,
        error::{ENODATA, EUCLEAN},
        file::UpperFile,
        scope::crc32c,
        table::file::IoctlHooks,
        task::resched_killable,
        uaccess,
    },
};
use kernel::prelude::*;

// Each command is a function of its own (`inline(never)`), so that their stack frames do not add
// up: a revert needs most of the kernel stack.
impl IoctlHooks for Stack {
    fn control(file: &UpperFile, command: u32, argument: usize) -> Result<c_long> {
        // The file may be older than a direct change of the lower owner or flags.
        file.upper_inode().copy_attr_if_changed();
        // ->compat_ioctl is the same function: the structures have fixed-size fields and no
        // pointers.
        match command {
            uapi::IOC_REVERT => revert_newest(file, argument),
            uapi::IOC_REVERT_SOME => revert_some(file, argument),
            uapi::IOC_READLOG_PAGE => read_page(file, argument),
            uapi::IOC_READLOG => read_log(file, argument),
            uapi::IOC_STATUS => status(file, argument),
            uapi::IOC_REVERT_GROUP => super::ioctl_group::revert(file, argument),
            uapi::IOC_READ_HISTORY => ioctl_history::read(file, argument),
            uapi::IOC_READ_PAST => super::ioctl_past::read(file, argument),
            uapi::IOC_MARK => super::ioctl_mark::place(file, argument),
            c::FS_IOC_GETVERSION | c::FS_IOC_GETFSLABEL | c::FITRIM => {
                file.lower().control(command, argument)
            }
            // ENOTTY is the errno of unknown commands, as in vfs_ioctl().
            _ => Err(ENOTTY),
        }
    }
}

#[inline(never)]
fn revert_newest(file: &UpperFile, argument: usize) -> Result<c_long> {
    let count = argument as u64;
    if count > uapi::MAX_COUNT {
        return Err(EINVAL);
    }
    revert::undo(file, count.max(1), UndoOptions::default()).map_err(|refusal| refusal.error)?;
    Ok(0)
}

#[inline(never)]
fn revert_some(file: &UpperFile, argument: usize) -> Result<c_long> {
    let mut request: Revert = uaccess::read(argument)?;
    if !request.is_valid() {
        return Err(EINVAL);
    }
    // A faulting reply buffer is detected before anything is changed.
    uaccess::write(argument, &request)?;
    let options = UndoOptions {
        force: request.flags & Revert::FORCE != 0,
        deep: request.flags & Revert::DEEP != 0,
        no_redo: request.flags & Revert::NO_REDO != 0,
    };
    let result = revert::undo(file, request.count.max(1), options);
    match &result {
        Ok(inside) => {
            request.reverted = request.count.max(1);
            request.inside = u32::try_from(*inside).unwrap_or(u32::MAX);
        }
        Err(refusal) => {
            request.reason = refusal.reason.code();
            request.blocking_seq = refusal.seq;
        }
    }
    let written = uaccess::write(argument, &request);
    result.map_err(|refusal| refusal.error)?;
    written.map(|()| 0)
}

/// The journal, and a filter of the object's lines by the caller's permissions.
fn journal(file: &UpperFile) -> Result<(&Journal, CallerView<'_>)> {
    let inode = file.upper_inode();
    let journal = inode.mount().journal().map(|journal| &**journal);
    let journal = journal.ok_or(match inode.owner_or_capable() {
        true => ENODATA,
        false => EPERM,
    })?;
    let mut caller = CallerRights::new(file, journal);
    let rights = caller.may_read(inode, file.lower_dentry())?;
    if rights == ChainRights::Nothing {
        return Err(EPERM);
    }
    let view = CallerView {
        rights,
        caller,
        stripped: KBox::zeroed(GFP_KERNEL)?,
    };
    Ok((journal, view))
}

/// An object's lines, filtered by the caller's permissions.
struct CallerView<'a> {
    rights: ChainRights,
    caller: CallerRights<'a>,
    /// Buffer for a line without arguments.
    stripped: KBox<[u8; MAX_LINE]>,
}

impl CallerView<'_> {
    fn shows(&mut self, line: &Line<'_>) -> Result<bool> {
        self.caller.shows(self.rights, line)
    }

    /// The line's text without fields that the caller may not see.
    fn text<'t>(&'t mut self, line: &Line<'_>, seed: &Seed, text: &'t [u8]) -> Result<&'t [u8]> {
        if !self.caller.hides_arguments(line) {
            return Ok(text);
        }
        let len =
            without_arguments(text, seed, crc32c, &mut self.stripped[..]).map_err(|_| EUCLEAN)?;
        self.stripped.get(..len).ok_or(EUCLEAN)
    }
}

/// Fills a page from its end with the newest live lines.
#[inline(never)]
fn read_page(file: &UpperFile, argument: usize) -> Result<c_long> {
    let inode = file.upper_inode();
    let (journal, mut view) = journal(file)?;
    let mut page = KVec::new();
    page.resize(uapi::PAGE, 0, GFP_KERNEL)?;
    let mut folded = KBox::<[u8; MAX_LINE]>::zeroed(GFP_KERNEL)?;
    let head = revert::head(journal, inode)?;
    let mut chain = Chain::new(journal, inode.id(), head, OnExternal::Pass)?;
    let mut start = page.len();
    loop {
        resched_killable()?;
        let text = match chain.step()? {
            ChainLink::End | ChainLink::Trimmed => break,
            ChainLink::Line(line, at, text, WalkStep::Live) => {
                if !view.shows(&line)? {
                    continue;
                }
                let text = as_it_ended(journal, &line, at, text, &mut folded[..])?;
                view.text(&line, &journal.seed(at.segment), text)?
            }
            ChainLink::Line(..) => continue,
        };
        let Some(to) = start.checked_sub(text.len()) else {
            break;
        };
        page.get_mut(to..start)
            .ok_or(EUCLEAN)?
            .copy_from_slice(text);
        start = to;
    }
    let lines = page.get(start..).ok_or(EUCLEAN)?;
    uaccess::write_bytes(argument, lines)?;
    Ok(lines.len() as c_long)
}

/// The line's text, with the values of a later `amend` line.
fn as_it_ended<'t>(
    journal: &Journal,
    line: &Line<'_>,
    at: Pos,
    text: &'t [u8],
    folded: &'t mut [u8],
) -> Result<&'t [u8]> {
    if (line.offset, line.length) == (line.written_offset, line.written_length) {
        return Ok(text);
    }
    let amend = Amend {
        offset: line.offset,
        length: line.length,
        size: line.size,
    };
    let seed = journal.seed(at.segment);
    let len = refold(text, &amend, &seed, crc32c, folded).map_err(|_| EUCLEAN)?;
    folded.get(..len).ok_or(EUCLEAN)
}

/// Copies lines, newest first, until the caller's buffer is full.
#[inline(never)]
fn read_log(file: &UpperFile, argument: usize) -> Result<c_long> {
    let inode = file.upper_inode();
    let mut request: ReadLog = uaccess::read(argument)?;
    if !request.is_valid() {
        return Err(EINVAL);
    }
    let (journal, mut view) = journal(file)?;
    let from = match (request.cursor_segment, request.cursor_offset) {
        (0, 0) => revert::head(journal, inode)?,
        (segment, offset) => Some(Pos { segment, offset }),
    };
    let all = request.flags & ReadLog::ALL != 0;
    let buffer = request.buffer as usize;
    let (used, next) = if all {
        copy_raw(
            journal,
            &mut view,
            inode.id(),
            from,
            (buffer, request.length),
        )?
    } else {
        let is_begun = (request.cursor_segment, request.cursor_offset) != (0, 0);
        let chain = match from.filter(|_| is_begun) {
            Some(at) => live_from(journal, file, at)?,
            None => Chain::new(journal, inode.id(), from, OnExternal::Pass)?,
        };
        copy_live(journal, &mut view, file, chain, (buffer, request.length))?
    };
    request.used = used;
    let next = next.unwrap_or(Pos {
        segment: ReadLog::END,
        offset: 0,
    });
    request.cursor_segment = next.segment;
    request.cursor_offset = next.offset;
    uaccess::write(argument, &request)?;
    Ok(0)
}

/// Appends a line to the caller's buffer; `false` if the buffer is full.
fn put(buffer: usize, length: u32, used: &mut u32, text: &[u8]) -> Result<bool> {
    let len = u32::try_from(text.len()).map_err(|_| EUCLEAN)?;
    let end = used.checked_add(len).ok_or(EUCLEAN)?;
    if end > length {
        return Ok(false);
    }
    let to = buffer.checked_add(*used as usize).ok_or(EFAULT)?;
    uaccess::write_bytes(to, text)?;
    *used = end;
    Ok(true)
}

/// Continues a walk over live lines at `at`. The set of reverted lines was saved with the open
/// file, or is computed again from the chain's head.
fn live_from<'j>(journal: &'j Journal, file: &UpperFile, at: Pos) -> Result<Chain<'j>> {
    let inode = file.upper_inode();
    let from = |at| Chain::new(journal, inode.id(), at, OnExternal::Pass);
    let kept = file.open().actor()?.lock().paused.take();
    if let Some((_, reverted)) = kept.filter(|(place, _)| *place == at) {
        return Ok(from(Some(at))?.resume(reverted));
    }
    let mut chain = from(revert::head(journal, inode)?)?;
    while chain.next_at().is_some_and(|next| next > at) {
        resched_killable()?;
        if matches!(chain.step()?, ChainLink::End | ChainLink::Trimmed) {
            break;
        }
    }
    if chain.next_at() == Some(at) {
        return Ok(chain);
    }
    Ok(from(Some(at))?.resume(chain.into_reverted()))
}

fn copy_live(
    journal: &Journal,
    view: &mut CallerView<'_>,
    file: &UpperFile,
    mut chain: Chain<'_>,
    (buffer, length): (usize, u32),
) -> Result<(u32, Option<Pos>)> {
    let mut folded = KBox::<[u8; MAX_LINE]>::zeroed(GFP_KERNEL)?;
    let mut used = 0;
    let mut resume = chain.next_at();
    loop {
        resched_killable()?;
        match chain.step()? {
            ChainLink::End | ChainLink::Trimmed => return Ok((used, None)),
            ChainLink::Line(line, at, text, WalkStep::Live) => {
                if !view.shows(&line)? {
                    resume = chain.next_at();
                    continue;
                }
                let text = as_it_ended(journal, &line, at, text, &mut folded[..])?;
                let text = view.text(&line, &journal.seed(at.segment), text)?;
                if !put(buffer, length, &mut used, text)? {
                    // Also saved if empty: computing the set again takes a walk from the chain's
                    // head.
                    if let Some(at) = resume {
                        file.open().actor()?.lock().paused = Some((at, chain.into_reverted()));
                    }
                    return Ok((used, resume));
                }
            }
            // A skipped amendment belongs to the previous line, so the cursor stays before both.
            ChainLink::Line(..) => continue,
        }
        resume = chain.next_at();
    }
}

fn copy_raw(
    journal: &Journal,
    view: &mut CallerView<'_>,
    object: ObjectId,
    from: Option<Pos>,
    (buffer, length): (usize, u32),
) -> Result<(u32, Option<Pos>)> {
    let mut lines = Lines::new(journal)?;
    let mut next = from;
    let mut used = 0;
    while let Some(at) = next {
        resched_killable()?;
        let len = match lines.fetch(at) {
            Err(e) if e == ENODATA => return Ok((used, None)),
            len => len?,
        };
        let (line, text) = lines.parse_with_text(len)?;
        if line.obj != Some(object) {
            // The cursor does not belong to this object's chain.
            return Err(EINVAL);
        }
        if view.shows(&line)? {
            let text = view.text(&line, &journal.seed(at.segment), text)?;
            if !put(buffer, length, &mut used, text)? {
                return Ok((used, next));
            }
        }
        next = before(&line, at)?;
    }
    Ok((used, None))
}

#[inline(never)]
fn status(file: &UpperFile, argument: usize) -> Result<c_long> {
    let inode = file.upper_inode();
    let mount = inode.mount();
    let mut answer: Status = uaccess::read(argument)?;
    if !answer.is_valid() {
        return Err(EINVAL);
    }
    let id = inode.id();
    answer = Status {
        version: uapi::VERSION,
        format: 1,
        volume: id.volume,
        inode: id.inode,
        generation: id.generation,
        on_full: match mount.on_full() {
            OnFull::Trim => Status::TRIM,
            OnFull::Deny => Status::DENY,
        },
        on_error: match mount.on_error() {
            OnError::Continue => Status::CONTINUE,
            OnError::Refuse => Status::REFUSE,
        },
        commit_seconds: mount.commit(),
        ..Status::default()
    };
    if mount.is_private() {
        answer.mount_flags |= Status::MOUNT_PRIVATE;
    }
    if inode.superblock().is_read_only() {
        answer.mount_flags |= Status::MOUNT_READ_ONLY;
    }
    match mount.journal() {
        Some(journal) => {
            answer.mount_flags |= Status::MOUNT_HISTORY;
            describe(&mut answer, journal, file)?;
        }
        None if !inode.owner_or_capable() => return Err(EPERM),
        None => {}
    }
    uaccess::write(argument, &answer)?;
    Ok(0)
}

/// Fills in the journal's and the object's fields of the status.
fn describe(answer: &mut Status, journal: &Journal, file: &UpperFile) -> Result {
    let inode = file.upper_inode();
    let mut caller = CallerRights::new(file, journal);
    let rights = caller.may_read(inode, file.lower_dentry())?;
    if rights == ChainRights::Nothing {
        return Err(EPERM);
    }
    let usage = journal.usage();
    answer.uuid = *journal.uuid();
    answer.history_max = usage.history_max;
    if caller.is_administrator() {
        answer.seq = usage.seq.saturating_sub(1);
        answer.segments = usage
            .segment
            .saturating_sub(usage.first_segment)
            .saturating_add(1);
        answer.log_bytes = usage.log_bytes;
        answer.undo_bytes = usage.undo_bytes;
        answer.orphan_bytes = journal.orphan_bytes();
        answer.lost = usage.lost;
        answer.errors = usage.errors;
    } else {
        // Counters of the whole mount are for administrators only.
        answer.mount_flags |= Status::MOUNT_OF_OTHERS;
    }
    let head = revert::head(journal, inode)?;
    let mut chain = Chain::new(journal, inode.id(), head, OnExternal::Pass)?;
    while answer.live < Status::MAX_LIVE {
        resched_killable()?;
        match chain.step()? {
            ChainLink::End | ChainLink::Trimmed => break,
            ChainLink::Line(line, _, _, WalkStep::Live)
                if caller.may_take_back(rights, &line)? =>
            {
                if answer.live == 0 {
                    answer.last_seq = line.seq;
                }
                answer.live += 1;
            }
            ChainLink::Line(..) => {}
        }
    }
    Ok(())
}
