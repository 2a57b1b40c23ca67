// SPDX-License-Identifier: GPL-2.0

//! Reads the content and attributes of an object as they were right after an operation.
//!
//! That state is the present one with every newer change taken back. It does not depend on the moment
//! at which that is done, so a read goes on in steps: each step locks the object, makes the plan again
//! if the object was changed since, and reads a part. Between the steps nothing is held, neither a
//! lock nor a segment of the history: the file that the caller passes for output may belong to a
//! filesystem that waits for ever. A segment that is dropped meanwhile ends the read.

use super::{
    binding::{self, find_orphan},
    content::ContentRevert,
    plan_builder::{self, ContentPlan},
    rights::{CallerRights, ChainRights},
    Refusal,
};
use crate::{
    backup,
    history::journal::Journal,
    log::{
        plan::{Piece, Records, Source},
        types::{Extent, ObjectId, Pos},
    },
    state::Mount,
    uapi::Reason,
    vfs::{
        attr, c,
        dentry::Dentry,
        error::{ENODATA, EUCLEAN},
        file::{File, OutputFile, UpperFile},
        inode::UpperInode,
        range::{data_or_hole_at, DataOrHole},
        task, xattr,
    },
};
use kernel::{prelude::*, sync::aref::ARef};

/// Number of bytes that one step reads.
const STEP: usize = 256 * 1024;

/// An old state.
pub(crate) struct PastState {
    /// The size of a regular file, or the length of a symbolic link's target.
    pub(crate) size: u64,
    /// Number of bytes written to the output.
    pub(crate) written: u64,
    /// Number of the newest operation that is part of the state; 0 if there is none.
    pub(crate) newest: u64,
    /// The type bits of the object's mode.
    pub(crate) kind: u32,
    /// Records of all attributes.
    pub(crate) attributes: KVVec<u8>,
}

/// Reads the state right after the operation `seq`, of `object` or of the open file. Locks the object,
/// for a part of the read at a time.
pub(crate) fn read(
    file: &UpperFile,
    object: Option<ObjectId>,
    seq: u64,
    output: Option<&OutputFile>,
) -> Result<PastState, Refusal> {
    let inode = file.upper_inode();
    let mount = inode.mount();
    let journal = mount.journal().ok_or(Refusal::new(Reason::HistoryOff, 0))?;
    let (inode, lower) = match object {
        None if !file.is_readable() => return Err(EBADF.into()),
        None => (inode.get(), file.lower_dentry().get()),
        Some(object) => find(file, journal, object)?,
    };
    let mut caller = CallerRights::new(file, journal);
    if !inode.owner_or_capable() || caller.may_read(&inode, &lower)? == ChainRights::Nothing {
        return Err(Refusal::new(Reason::NotOwner, 0));
    }
    let source = match inode.is_regular() {
        true => Some(File::open_kernel(mount.lower(), &lower, c::O_RDONLY)?),
        false => None,
    };
    let reader = PastReader {
        mount,
        journal,
        inode: &inode,
        lower: &lower,
        source: source.as_deref(),
        seq,
        is_administrator: caller.is_administrator(),
    };
    let mut state = reader.read(output)?;
    if inode.is_symlink() {
        add_target(&mut state, mount, &lower, output)?;
    }
    Ok(state)
}

/// The longest target of a symbolic link, as for paths (PATH_MAX).
const MAX_TARGET: usize = 4096;

/// Adds a symbolic link's target, which never changes.
#[inline(never)]
fn add_target(
    state: &mut PastState,
    mount: &Mount,
    lower: &Dentry,
    output: Option<&OutputFile>,
) -> Result {
    let mut buf = KBox::<[u8; MAX_TARGET]>::zeroed(GFP_KERNEL_ACCOUNT)?;
    let length = attr::read_link(mount.lower(), lower, &mut buf[..])?;
    let target = buf.get(..length).ok_or(EUCLEAN)?;
    state.size = length as u64;
    if let Some(output) = output {
        output.write_at(target, 0)?;
        state.written = state.size;
    }
    Ok(())
}

/// An object of the mount, also an orphan.
#[inline(never)]
fn find(
    file: &UpperFile,
    journal: &Journal,
    object: ObjectId,
) -> Result<(ARef<UpperInode>, ARef<Dentry>), Refusal> {
    let sb = file.upper_inode().superblock();
    let lower = match find_orphan(journal, object, None)? {
        Some((_, lower)) => lower,
        None => binding::find_recorded(sb, journal, object)?.into_lower()?,
    };
    let inode = UpperInode::iget(sb, lower.inode().ok_or(ENOENT)?)?;
    // Mode or owner may have changed in the lower filesystem.
    inode.copy_attr();
    // No open(2) has asked.
    inode.may_read()?;
    Ok((inode, lower))
}

/// A plan, and the object's newest line when it was made.
struct PastPlan {
    plan: ContentPlan,
    head: Option<Pos>,
    newest: u64,
}

struct PastReader<'a> {
    mount: &'a Mount,
    journal: &'a Journal,
    inode: &'a UpperInode,
    lower: &'a Dentry,
    /// The lower file, if it is a regular one.
    source: Option<&'a File>,
    seq: u64,
    is_administrator: bool,
}

impl PastReader<'_> {
    /// Reads all of the state, step by step.
    #[inline(never)]
    fn read(&self, output: Option<&OutputFile>) -> Result<PastState, Refusal> {
        let mut planned = None;
        let mut buf = match output {
            Some(_) => Some(KVBox::<[u8; STEP]>::zeroed(GFP_KERNEL_ACCOUNT)?),
            None => None,
        };
        let (mut at, mut written) = (0, 0u64);
        let mut attributes = None;
        loop {
            task::resched_killable()?;
            let room = buf.as_deref_mut().map_or(&mut [][..], |buf| &mut buf[..]);
            let (from, length) = self.step(&mut planned, at, room, &mut attributes)?;
            let part = buf.as_deref().and_then(|buf| buf.get(..length));
            match (output, part) {
                (Some(output), Some(part)) if length != 0 => output.write_at(part, from)?,
                _ => break,
            }
            written = written.saturating_add(length as u64);
            at = from.saturating_add(length as u64);
        }
        let PastPlan { plan, newest, .. } = planned.ok_or(EIO)?;
        let size = match self.source {
            Some(_) => plan.outcome.size,
            None => 0,
        };
        Ok(PastState {
            size,
            written,
            newest,
            kind: self.inode.lower().kind(),
            attributes: attributes.ok_or(EIO)?,
        })
    }

    /// Reads the next run of data from `at` on, as much as fits: returns its offset and its length, 0
    /// at the end. Reads the attributes in the first step. Locks the object, and makes the plan again
    /// if the object has changed.
    #[inline(never)]
    fn step(
        &self,
        planned: &mut Option<PastPlan>,
        at: u64,
        buf: &mut [u8],
        attributes: &mut Option<KVVec<u8>>,
    ) -> Result<(u64, usize), Refusal> {
        let _lock = self.inode.lock_in_time()?;
        // A store through a mapping is logged before this step, or comes after it.
        let _gate = self.inode.object().mmap_writes().block_faults();
        let content = self.content();
        let mut state = self.inode.object().state.lock();
        let on_external = content.verify(&mut state)?;
        let planned = match planned.take() {
            Some(known) if known.head == state.head => planned.insert(known),
            _ => {
                let (plan, newest) =
                    plan_builder::past(&content, state.head, self.seq, on_external)?;
                let head = state.head;
                planned.insert(PastPlan { plan, head, newest })
            }
        };
        if attributes.is_none() {
            *attributes = Some(self.attributes(&planned.plan)?);
        }
        Ok(self.fill(&planned.plan, at, buf)?)
    }

    fn content(&self) -> ContentRevert<'_> {
        ContentRevert {
            mount: self.mount,
            journal: self.journal,
            inode: self.inode,
            lower: self.lower,
            file: self.source,
            open: None,
            force: false,
            resumed: None,
            is_killable: true,
        }
    }

    /// The records of all attributes: the present ones, then those that the plan would set. The last
    /// record of an attribute counts.
    fn attributes(&self, plan: &ContentPlan) -> Result<KVVec<u8>, Refusal> {
        let mut all =
            backup::all_attributes(self.mount.lower(), self.lower, self.is_administrator)?;
        let records = Records::new(&plan.attributes).map_err(|_| EUCLEAN)?;
        let is_shown = |name: &[u8]| self.is_administrator || !xattr::is_trusted(name);
        for record in records.last_ones().filter(|one| is_shown(one.name)) {
            backup::push_record(&record, &mut all)?;
        }
        Ok(all)
    }

    /// Reads the next run of data from `at` on into `buf`. The object is locked.
    fn fill(&self, plan: &ContentPlan, mut at: u64, buf: &mut [u8]) -> Result<(u64, usize)> {
        let (mut from, mut length) = (at, 0usize);
        while self.source.is_some() && at < plan.outcome.size && length < buf.len() {
            task::resched_killable()?;
            let rest = buf.get_mut(length..).ok_or(EUCLEAN)?;
            let n = self.run(plan, &mut at, rest)?;
            if n == 0 && length != 0 {
                // A hole ends the run.
                break;
            }
            if length == 0 {
                from = at;
            }
            at = at.saturating_add(n as u64);
            length = length.saturating_add(n);
        }
        Ok((from, length))
    }

    /// Reads bytes that have one source at `at`; returns how many. 0: there was a hole, and `at` is
    /// its end.
    fn run(&self, plan: &ContentPlan, at: &mut u64, buf: &mut [u8]) -> Result<usize> {
        let after = plan.pieces.partition_point(|piece| piece.end() <= *at);
        let next: Option<&Piece> = plan.pieces.get(after);
        let (end, source) = match next {
            Some(piece) if piece.offset <= *at => (piece.end(), Some((piece.offset, piece.source))),
            Some(piece) => (piece.offset, None),
            None => (plan.outcome.size, None),
        };
        let end = end.min(plan.outcome.size);
        let left = end.saturating_sub(*at);
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        let part = buf.get_mut(..room).ok_or(EUCLEAN)?;
        match source {
            Some((_, Source::Hole | Source::Unwritten)) => *at = end,
            Some((start, Source::At(pos))) => {
                let skipped = at.saturating_sub(start);
                let extent = Extent {
                    segment: pos.segment,
                    offset: pos.offset.saturating_add(skipped),
                    length: left,
                };
                self.journal.read_payload(extent, 0, part)?;
                return Ok(room);
            }
            None => return self.present(at, end, part),
        }
        Ok(0)
    }

    /// As [`Self::run`], where the present file has the bytes.
    fn present(&self, at: &mut u64, end: u64, buf: &mut [u8]) -> Result<usize> {
        let source = self.source.ok_or(ENODATA)?;
        let to = match data_or_hole_at(source, *at, end) {
            DataOrHole::Hole(to) if to > *at => {
                *at = to;
                return Ok(0);
            }
            DataOrHole::Hole(_) => end,
            DataOrHole::Data(to) => to,
        };
        let left = usize::try_from(to.saturating_sub(*at)).unwrap_or(usize::MAX);
        let room = left.min(buf.len());
        let part = buf.get_mut(..room).ok_or(EUCLEAN)?;
        // The object is locked and was compared with its log: a file that is shorter than its size is
        // an error.
        match source.read_at(part, *at)? == room {
            true => Ok(room),
            false => Err(EIO),
        }
    }
}
