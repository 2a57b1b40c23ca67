// SPDX-License-Identifier: GPL-2.0

//! Putting a plan's pieces into the lower file, and putting back what they replaced.

use super::{
    attributes, gather,
    names::{Names, NamesLeft},
    steps::steps_of,
    Refusal,
};
use crate::{
    backup::{self, Saved, Subject, What},
    history::{
        journal::{Journal, Unfinished},
        line::{decode_hex, Extent, Line, Op, Undo, MAX_LINE},
        plan::{Outcome, Piece, Records, Restore, Source}, //
    },
    stack::{Mount, ObjectState},
    vfs::{
        attr,
        c,
        dentry::Dentry,
        error::{ENODATA, ESTALE, EUCLEAN},
        file::File,
        inode::{Inode, OwnInode},
        mount::LowerMount,
        range,
        superblock::SuperBlock,
        task, //
    },
};
use kernel::{prelude::*, sync::aref::ARef};

/// The file that a plan is applied to.
pub(super) struct Target<'a> {
    pub(super) mount: &'a LowerMount,
    /// `None`: it has no content.
    pub(super) file: Option<&'a File>,
    pub(super) dentry: &'a Dentry,
    pub(super) journal: &'a Journal,
    /// Whether it is made durable at once; otherwise the caller sees to that.
    pub(super) is_synced: bool,
}

/// How much is copied at once.
const CHUNK: usize = 64 * 1024;

impl Target<'_> {
    /// Applies a plan: content in a kernel thread, where the caller's limits and signals cannot stop
    /// it half way, attributes as the caller. `touched` says whether content was changed, or may be.
    pub(super) fn apply(
        &self,
        pieces: &[Piece],
        outcome: &Outcome,
        records: Records<'_>,
        touched: &mut bool,
    ) -> Result {
        attributes::unprotect(self.mount, self.dentry, records)?;
        // First, since the caller may not be allowed to: then no content was changed.
        self.put_attributes(records)?;
        if is_of_content(pieces, outcome, records) {
            *touched = true;
            self.apply_content(pieces, outcome)?;
            // Again, since a write moves times and strips privileges.
            self.put_attributes(records)?;
        }
        if records.is_empty() {
            return Ok(());
        }
        attributes::put_flags(self.mount, self.dentry, records)?;
        self.sync()
    }

    fn put_attributes(&self, records: Records<'_>) -> Result {
        if records.is_empty() {
            return Ok(());
        }
        attributes::put(self.mount, self.dentry, records)
    }

    fn apply_content(&self, pieces: &[Piece], outcome: &Outcome) -> Result {
        let file = self.file.ok_or(EINVAL)?;
        task::in_kthread(|| {
            if outcome.size > outcome.present {
                attr::set_size(self.mount, self.dentry, outcome.size)?;
            }
            self.put(file, pieces)?;
            if outcome.size < outcome.present {
                attr::set_size(self.mount, self.dentry, outcome.size)?;
            }
            // A plan without bytes and sizes still is a change of the file.
            if pieces.is_empty() && outcome.size == outcome.present {
                attr::set_size(self.mount, self.dentry, outcome.size)?;
            }
            self.sync()
        })
        .unwrap_or(Err(EIO))
    }

    /// Puts back what a plan replaced, from what was saved before it was applied.
    /// With `touched`, content too.
    pub(super) fn roll_back(&self, saved: &Saved, size: u64, touched: bool) -> Result {
        let Saved::At {
            extent,
            crc,
            records,
            attributes,
        } = saved
        else {
            return task::in_kthread(|| {
                if !touched || self.regular().is_none() {
                    return Ok(());
                }
                attr::set_size(self.mount, self.dentry, size)?;
                self.sync()
            })
            .unwrap_or(Err(EIO));
        };
        let restore = Restore {
            offset: 0,
            length: i64::MAX as u64,
            payload: *extent,
            map: Some(*records),
            attributes: *attributes,
            crc: *crc,
        };
        self.restore(&restore, size, touched)
    }

    fn restore(&self, restore: &Restore, size: u64, touched: bool) -> Result {
        let mut buf = buffer()?;
        gather::verify(self.journal, restore, &mut buf)?;
        let mut pieces = KVVec::new();
        gather::each_piece(self.journal, restore, |piece| {
            Ok(pieces.push(piece, GFP_KERNEL)?)
        })
        .map_err(|refusal: Refusal| refusal.error)?;
        let old = gather::attributes(self.journal, restore).map_err(|refusal| refusal.error)?;
        let records = Records::new(&old).map_err(|_| EUCLEAN)?;
        task::in_kthread(|| {
            attributes::unprotect(self.mount, self.dentry, records)?;
            if let Some(file) = self.regular().filter(|_| touched) {
                self.put(file, &pieces)?;
                if !pieces.is_empty() || size != file.inode().size() {
                    attr::set_size(self.mount, self.dentry, size)?;
                }
            }
            self.put_attributes(records)?;
            attributes::put_flags(self.mount, self.dentry, records)?;
            self.sync()
        })
        .unwrap_or(Err(EIO))
    }

    /// Makes the file durable. The line that says how the revert ended comes after: if it
    /// outlived the bytes in a power cut, the log would tell of a state that the file is not in,
    /// and what is reverted next would be mixed with what was to be gone.
    fn sync(&self) -> Result {
        match self.file.filter(|_| self.is_synced) {
            Some(file) => file.sync(0, i64::MAX, false),
            None => Ok(()),
        }
    }

    /// Its file, if that is one with content.
    fn regular(&self) -> Option<&File> {
        self.file.filter(|file| file.inode().is_regular())
    }

    fn put(&self, file: &File, pieces: &[Piece]) -> Result {
        let mut buf = buffer()?;
        for piece in pieces {
            match piece.source {
                Source::Hole => range::punch(file, piece.offset, piece.length)?,
                Source::At(at) => {
                    let extent = Extent {
                        segment: at.segment,
                        offset: at.offset,
                        length: piece.length,
                    };
                    self.copy(file, extent, piece.offset, &mut buf)?;
                }
            }
        }
        Ok(())
    }

    fn copy(&self, file: &File, extent: Extent, to: u64, buf: &mut [u8]) -> Result {
        let mut done = 0;
        while done < extent.length {
            let left = usize::try_from(extent.length - done).unwrap_or(usize::MAX);
            let n = left.min(buf.len());
            let part = buf.get_mut(..n).ok_or(EINVAL)?;
            self.journal.read_payload(extent, done, part)?;
            file.write_at(part, to.saturating_add(done))?;
            done = done.saturating_add(n as u64);
        }
        Ok(())
    }
}

/// Whether a plan changes content. One of nothing at all still is a change of the file.
pub(super) fn is_of_content(pieces: &[Piece], outcome: &Outcome, records: Records<'_>) -> bool {
    !pieces.is_empty() || outcome.size != outcome.present || records.is_empty()
}

fn buffer() -> Result<KVVec<u8>> {
    let mut buf = KVVec::new();
    buf.resize(CHUNK, 0, GFP_KERNEL)?;
    Ok(buf)
}

/// Withdraws the reverts that a crash left half done: puts back what was there before them.
pub(crate) fn withdraw_unfinished(sb: &SuperBlock) {
    let Some(journal) = sb.mount().journal() else {
        return;
    };
    for unfinished in journal.take_unfinished() {
        match withdraw(sb, journal, &unfinished) {
            Ok(became) => {
                journal.end_left_intent(unfinished.seq);
                pr_warn!(
                    "recovery: revert {} had not been finished; {}\n",
                    unfinished.seq,
                    became
                );
            }
            Err(e) => pr_warn!(
                "recovery: revert {} had not been finished and cannot be withdrawn (error {})\n",
                unfinished.seq,
                e.to_errno()
            ),
        }
    }
}

/// Returns what became of it.
fn withdraw(sb: &SuperBlock, journal: &Journal, unfinished: &Unfinished) -> Result<&'static str> {
    let mut text = KVec::with_capacity(MAX_LINE, GFP_KERNEL)?;
    text.resize(MAX_LINE, 0, GFP_KERNEL)?;
    let len = journal.read_line(unfinished.at, &mut text)?;
    let line = Line::parse(text.get(..len).ok_or(EUCLEAN)?, None).map_err(|_| EUCLEAN)?;
    let mut handle = [0; 64];
    let n = line.fh.and_then(|fh| decode_hex(fh, &mut handle));
    let handle = handle.get(..n.ok_or(EUCLEAN)?).ok_or(EUCLEAN)?;
    let mount = sb.mount().lower();
    let dentry = attr::open_handle(mount, handle)?;
    let file = open_to_withdraw(mount, &dentry, &line)?;
    if file.inode().id() != unfinished.object {
        return Err(ESTALE);
    }
    if is_of_names(file.inode(), &line) {
        return withdraw_names(sb, journal, &dentry, &line, unfinished);
    }
    let target = Target {
        mount,
        file: Some(&file),
        dentry: &dentry,
        journal,
        is_synced: true,
    };
    target.withdraw(&line)?;
    end(sb, journal, &dentry, Op::Cancel, unfinished.seq)?;
    Ok("its file is as before it")
}

/// As [`withdraw`], for a revert of names.
fn withdraw_names(
    sb: &SuperBlock,
    journal: &Journal,
    lower: &Dentry,
    line: &Line<'_>,
    unfinished: &Unfinished,
) -> Result<&'static str> {
    let dir = OwnInode::obtain(sb, lower.inode().ok_or(ESTALE)?)?;
    let _lock = dir.lock_as_parent();
    if journal.last_line(unfinished.object)? != Some(unfinished.at) {
        // Somebody went on with what it had left.
        end(sb, journal, lower, Op::Cancel, line.seq)?;
        return Ok("its directory stays as it is");
    }
    let (op, became) = match finish_names(sb, journal, lower, line) {
        Ok(()) => (Op::Commit, "its directory is as behind it"),
        Err(NamesLeft::Whole(_)) => (Op::Cancel, "its directory is as before it"),
        Err(NamesLeft::Half(refusal)) => return Err(refusal.error),
    };
    // Durable before the line that says so.
    sb.mount().lower().directory_at(lower)?.sync()?;
    end(sb, journal, lower, op, line.seq)?;
    Ok(became)
}

/// Does what is left to do of a revert of names, or undoes what was done. The directory is locked.
fn finish_names(
    sb: &SuperBlock,
    journal: &Journal,
    lower: &Dentry,
    line: &Line<'_>,
) -> Result<(), NamesLeft> {
    let dir = OwnInode::obtain(sb, lower.inode().ok_or(ESTALE)?)?;
    // What cannot be read is no reason to take the revert for withdrawn.
    let steps = steps_of(journal, line, 0).map_err(NamesLeft::Half)?;
    let names = Names {
        mount: sb.mount(),
        journal,
        dir: &dir,
        dentry: None,
        lower,
        other: None,
    };
    names.finish(steps)
}

/// Whether a line is a revert of names.
fn is_of_names(inode: &Inode, line: &Line<'_>) -> bool {
    inode.is_directory() && line.undo == Some(Undo::None)
}

/// Says how a revert ended that a crash had interrupted.
fn end(sb: &SuperBlock, journal: &Journal, lower: &Dentry, op: Op, seq: u64) -> Result {
    let inode = OwnInode::obtain(sb, lower.inode().ok_or(ESTALE)?)?;
    let mut state = inode.object().state.lock();
    backup::load_unchecked(journal, &inode, &mut state)?;
    close(sb.mount(), journal, &inode, &mut state, op, seq)
}

/// Opens what a revert left half done. One of attributes alone may have left it protected.
fn open_to_withdraw(mount: &LowerMount, dentry: &Dentry, line: &Line<'_>) -> Result<ARef<File>> {
    let inode = dentry.inode().ok_or(ESTALE)?;
    let content = line.map.is_some() || line.size != Some(inode.size());
    let access = if inode.is_regular() && content {
        c::O_RDWR
    } else {
        c::O_RDONLY
    };
    File::open_kernel(mount, dentry, access)
}

impl Target<'_> {
    /// Puts back what was there before the revert of this line.
    fn withdraw(&self, line: &Line<'_>) -> Result {
        let size = line.size.ok_or(EUCLEAN)?;
        let saved = match line.undo {
            Some(Undo::At(extent)) => Saved::At {
                extent,
                crc: line.crc.ok_or(EUCLEAN)?,
                records: line.map.unwrap_or(0),
                attributes: line.attributes.unwrap_or(0),
            },
            _ => Saved::Nothing,
        };
        self.roll_back(&saved, size, true)
    }
}

/// Withdraws the revert that is the object's last line: it was begun, and could be neither finished
/// nor rolled back. Our inode's lock is held.
pub(crate) fn withdraw_last(
    mount: &Mount,
    journal: &Journal,
    inode: &OwnInode,
    dentry: &Dentry,
    state: &mut ObjectState,
) -> Result {
    let mut text = KVec::with_capacity(MAX_LINE, GFP_KERNEL)?;
    text.resize(MAX_LINE, 0, GFP_KERNEL)?;
    let len = journal.read_line(state.head.ok_or(EUCLEAN)?, &mut text)?;
    let line = Line::parse(text.get(..len).ok_or(EUCLEAN)?, None).map_err(|_| EUCLEAN)?;
    if is_of_names(inode, &line) {
        // It could be neither finished nor undone. Each name is as before it or as behind it, which
        // the steps find out when they are taken back.
        close(mount, journal, inode, state, Op::Cancel, line.seq)?;
        state.half_done = false;
        state.loaded = true;
        journal.end_left_intent(line.seq);
        return Ok(());
    }
    let file = open_to_withdraw(mount.lower(), dentry, &line)?;
    let target = Target {
        mount: mount.lower(),
        file: Some(&file),
        dentry,
        journal,
        is_synced: true,
    };
    match target.withdraw(&line) {
        Ok(()) => {
            close(mount, journal, inode, state, Op::Cancel, line.seq)?;
            pr_warn!("revert {} is withdrawn\n", line.seq);
        }
        // What was saved is gone: it stays as it is, and no revert goes behind it unforced.
        Err(e) if e == ENODATA || e == EUCLEAN => {
            backup::foreign(mount, journal, inode, dentry, state)?;
        }
        Err(e) => return Err(e),
    }
    state.half_done = false;
    state.loaded = true;
    journal.end_left_intent(line.seq);
    Ok(())
}

/// Says how a revert ended.
fn close(
    mount: &Mount,
    journal: &Journal,
    inode: &OwnInode,
    state: &mut ObjectState,
    op: Op,
    seq: u64,
) -> Result {
    let mut room = journal.reserve_lines(1)?;
    let subject = Subject {
        mount,
        inode,
        open: None,
    };
    let what = What {
        op,
        at: 0,
        length: 0,
        size: inode.lower().size(),
    };
    backup::place(&subject, state, &mut room, &what, |draft| {
        draft.of(seq);
    })?;
    backup::note_change(state, inode);
    Ok(())
}
