// SPDX-License-Identifier: GPL-2.0

//! Taking back what was done to the names of a directory.
//!
//! The directory is locked from the first check to the end, so nothing comes in between through the
//! mount; each step looks at what is there below, and changes it only where it is what the line
//! says. An intent stands in the log before the first step: what a crash leaves is finished at the
//! next mount, for each step can tell whether it was done.

use super::{taken::Taken, Refusal};
use crate::{
    backup::{
        self,
        keep::{self, Parting},
    },
    history::{
        journal::Journal,
        kept::entry,
        line::{decode_hex, decode_percent, Line, ObjectId, MAX_LINE},
        plan::{naming, Directory, Left, Naming, Victim},
    },
    stack::Mount,
    uapi::Reason,
    vfs::{
        attr, c,
        dentry::{Dentry, OwnDentry},
        error::{ENODATA, ENOTEMPTY, EUCLEAN},
        inode::{Inode, OwnInode},
        name::{self, Locked},
        scope::AsKernel,
        store::Dir,
    },
};
use kernel::{prelude::*, sync::aref::ARef};

/// The longest name.
pub(super) const NAME: usize = 255;

pub(super) type Outcome<T = ()> = Result<T, Refusal>;

/// A directory whose names are put back. It is locked.
pub(super) struct Names<'a> {
    pub(super) mount: &'a Mount,
    pub(super) journal: &'a Journal,
    pub(super) dir: &'a OwnInode,
    /// Its name of ours, if it has one in memory.
    pub(super) dentry: Option<&'a OwnDentry>,
    pub(super) lower: &'a Dentry,
    /// The directory at the other end of a rename, locked too; `None`: nobody else is here yet, and
    /// it is found when it is asked for.
    pub(super) other: Option<&'a Names<'a>>,
}

/// How names are left that could not be taken back.
pub(super) enum NamesLeft {
    /// As they were.
    Whole(Refusal),
    /// Some were taken back, and could not be put back.
    Half(Refusal),
}

impl<E: Into<Refusal>> From<E> for NamesLeft {
    fn from(error: E) -> Self {
        Self::Whole(error.into())
    }
}

/// A step that was done, so that it can be undone.
struct Done {
    /// Which line.
    index: usize,
    /// The object that it took a name from, and with which segment it is kept, if it is.
    gone: Option<(ARef<Inode>, Option<u64>)>,
}

impl Names<'_> {
    /// Takes all back, or nothing.
    pub(super) fn take_back(&self, taken: &Taken) -> Result<(), NamesLeft> {
        let mut done: KVec<Done> = KVec::with_capacity(taken.lines.len(), GFP_KERNEL)?;
        for (index, text) in taken.lines.iter().enumerate() {
            let line = parse(text)?;
            let refusal = match self.step(&line) {
                Ok(gone) => {
                    done.push(Done { index, gone }, GFP_KERNEL)?;
                    continue;
                }
                Err(refusal) => Refusal {
                    seq: line.seq,
                    ..refusal
                },
            };
            return Err(match self.roll_back(taken, &done) {
                Ok(()) => NamesLeft::Whole(refusal),
                Err(_) => NamesLeft::Half(refusal),
            });
        }
        Ok(())
    }

    fn roll_back(&self, taken: &Taken, done: &[Done]) -> Outcome {
        for step in done.iter().rev() {
            let text = taken.lines.get(step.index).ok_or(EINVAL)?;
            self.undo_step(&parse(text)?, step)?;
        }
        Ok(())
    }

    /// Goes on with what a crash interrupted.
    pub(super) fn finish(&self, taken: &Taken) -> Outcome {
        for text in &taken.lines {
            let line = parse(text)?;
            if !self.is_done(&line)? {
                self.step(&line)?;
            }
        }
        Ok(())
    }

    fn step(&self, line: &Line<'_>) -> Outcome<Option<(ARef<Inode>, Option<u64>)>> {
        let mut buf = [[0; NAME]; 2];
        let [first, second] = &mut buf;
        match naming(line).map_err(|e| e.refuse(line.seq))? {
            Naming::Remove { name, node } => self.remove(decode(name, first)?, node).map(Some),
            Naming::Restore { name, victim } => {
                self.restore(decode(name, first)?, &victim).map(|()| None)
            }
            Naming::Move {
                from,
                to,
                node,
                victim,
                parent,
            } => {
                let (from, to) = (decode(from, first)?, decode(to, second)?);
                self.with_other(parent, |other| {
                    self.move_here(other, from, to, node)?;
                    let restored = victim.map_or(Ok(()), |victim| other.restore(from, &victim));
                    restored.or_else(|refusal| {
                        other.move_here(self, to, from, node)?;
                        Err(refusal)
                    })
                })?;
                Ok(None)
            }
            Naming::Exchange {
                name,
                other,
                node,
                parent,
            } => {
                let (name, second) = (decode(name, first)?, decode(other, second)?);
                self.with_other(parent, |other| self.exchange(name, other, second, node))?;
                Ok(None)
            }
        }
    }

    /// The opposite of [`Self::step`].
    fn undo_step(&self, line: &Line<'_>, done: &Done) -> Outcome {
        let mut buf = [[0; NAME]; 2];
        let [first, second] = &mut buf;
        match naming(line).map_err(|e| e.refuse(line.seq))? {
            Naming::Remove { name, node } => {
                let (inode, segment) = done.gone.as_ref().ok_or(EINVAL)?;
                let name = decode(name, first)?;
                match segment {
                    Some(segment) => self.take_from_kept(name, node, *segment),
                    None => self.link(name, &*inode.any_name().ok_or(ENOENT)?),
                }
            }
            Naming::Restore { name, victim } => {
                self.remove(decode(name, first)?, victim.object).map(|_| ())
            }
            Naming::Move {
                from,
                to,
                node,
                victim,
                parent,
            } => {
                let (from, to) = (decode(from, first)?, decode(to, second)?);
                self.with_other(parent, |other| {
                    if let Some(victim) = victim {
                        other.remove(from, victim.object)?;
                    }
                    other.move_here(self, to, from, node)
                })
            }
            Naming::Exchange {
                name,
                other,
                node,
                parent,
            } => {
                let (name, second) = (decode(name, first)?, decode(other, second)?);
                self.with_other(parent, |other| other.exchange(second, self, name, node))
            }
        }
    }

    /// Whether a step was done before a crash.
    fn is_done(&self, line: &Line<'_>) -> Outcome<bool> {
        let mut buf = [0; NAME];
        Ok(match naming(line).map_err(|e| e.refuse(line.seq))? {
            Naming::Remove { name, node } => !self.is_bound(decode(name, &mut buf)?, node)?,
            Naming::Restore { name, victim } => {
                self.is_bound(decode(name, &mut buf)?, victim.object)?
            }
            Naming::Move {
                from,
                to,
                node,
                victim,
                parent,
            } => {
                if !self.is_bound(decode(to, &mut buf)?, node)? {
                    return Ok(false);
                }
                let from = decode(from, &mut buf)?;
                if let Some(victim) = victim {
                    self.with_other(parent, |other| {
                        if !other.is_bound(from, victim.object)? {
                            other.restore(from, &victim)?;
                        }
                        Ok(())
                    })?;
                }
                true
            }
            Naming::Exchange { name, node, .. } => self.is_bound(decode(name, &mut buf)?, node)?,
        })
    }

    /// Does `f` with the directory at the other end of a rename: this one, if there is no other.
    fn with_other<T>(
        &self,
        parent: Option<Directory<'_>>,
        f: impl FnOnce(&Names<'_>) -> Outcome<T>,
    ) -> Outcome<T> {
        let Some(parent) = parent else {
            return f(self);
        };
        if let Some(other) = self.other {
            return if other.dir.id() == parent.object {
                f(other)
            } else {
                Err(Refusal::new(Reason::Conflict, 0))
            };
        }
        let lower = directory(self.mount, &parent)?;
        let dir = self.own(&lower)?;
        f(&Names {
            dir: &dir,
            dentry: None,
            lower: &lower,
            ..*self
        })
    }

    fn is_bound(&self, name: &[u8], node: ObjectId) -> Result<bool> {
        let lower = name::look_up(self.lower, name)?;
        Ok(lower.inode().is_some_and(|inode| inode.id() == node))
    }

    /// What a name is bound to, which must be `node`.
    fn bound(&self, name: &[u8], node: ObjectId) -> Outcome<ARef<Dentry>> {
        let lower = name::look_up(self.lower, name)?;
        match lower.inode() {
            Some(inode) if inode.id() == node => Ok(lower),
            _ => Err(Refusal::new(Reason::Conflict, 0)),
        }
    }

    fn must_be_free(&self, name: &[u8]) -> Outcome {
        match name::look_up(self.lower, name)?.inode() {
            Some(_) => Err(Refusal::new(Reason::Conflict, 0)),
            None => Ok(()),
        }
    }

    fn cached(&self, name: &[u8]) -> Option<ARef<OwnDentry>> {
        self.dentry?.cached_child(name)
    }

    /// Takes a name away; its object is kept if it has no other. Answers the object, and with which
    /// segment it is kept.
    fn remove(&self, name: &[u8], node: ObjectId) -> Outcome<(ARef<Inode>, Option<u64>)> {
        let lower = self.bound(name, node)?;
        let inode = self.own(&lower)?;
        let _lock = inode.lock();
        let cached = self
            .cached(name)
            .filter(|child| child.own_inode().is_some());
        if cached.as_ref().is_some_and(|child| child.is_mount_point()) {
            return Err(Refusal::new(Reason::Conflict, 0));
        }
        backup::load(&inode)?;
        let mut parting = if !inode.is_directory() && inode.lower().links() > 1 {
            let _kernel = AsKernel::new();
            let _write = self.mount.lower().want_write()?;
            Locked::to_remove(self.mount.lower(), self.lower, &lower)?.unlink()?;
            keep::named(&inode)?
        } else {
            keep::away(self.mount, self.journal, &inode, (self.lower, &lower)).map_err(full)?
        };
        parting.settle();
        let segment = match &parting {
            Parting::Kept(kept) => Some(kept.segment()),
            _ => None,
        };
        backup::touched_below(&inode, &lower);
        inode.refresh();
        if let Some(child) = cached {
            child.removed();
        }
        Ok((inode.lower().get(), segment))
    }

    /// Gives an object its name back.
    fn restore(&self, name: &[u8], victim: &Victim<'_>) -> Outcome {
        match victim.left {
            Left::Kept(segment) => self.take_from_kept(name, victim.object, segment),
            Left::Named(handle) => {
                if let Some(segment) = self.journal.find_kept(victim.object)? {
                    return self.take_from_kept(name, victim.object, segment);
                }
                let mut bytes = [0; 64];
                let len = decode_hex(handle, &mut bytes).ok_or(EUCLEAN)?;
                let handle = bytes.get(..len).ok_or(EUCLEAN)?;
                let found = attr::open_handle(self.mount.lower(), handle);
                let found = found.map_err(|_| Refusal::new(Reason::Lost, 0))?;
                match found.inode() {
                    Some(inode) if inode.id() == victim.object => self.link(name, &found),
                    _ => Err(Refusal::new(Reason::Lost, 0)),
                }
            }
        }
    }

    /// Moves an object from what is kept to its name.
    fn take_from_kept(&self, name: &[u8], object: ObjectId, segment: u64) -> Outcome {
        self.must_be_free(name)?;
        let (dir, kept) = self.kept(object, segment)?;
        let inode = self.own(&kept)?;
        let _lock = inode.lock();
        backup::load(&inode)?;
        {
            let _kernel = AsKernel::new();
            let lower = self.mount.lower();
            let _write = lower.want_write()?;
            let flags = c::RENAME_NOREPLACE;
            name::rename(
                lower,
                (dir.dentry(), &kept),
                (self.lower, name),
                None,
                flags,
            )?;
        }
        let bytes = self.mount.lower().bytes_of(&kept);
        self.journal.count_kept(0, bytes);
        inode.object().note_kept(false);
        if inode.is_directory() {
            inode.is_back();
        }
        self.added(name, &inode, &kept);
        Ok(())
    }

    /// What is kept of an object, and the directory that it is in. A revert that was rolled back may
    /// have left it with a later segment than its line says.
    fn kept(&self, object: ObjectId, segment: u64) -> Outcome<(Dir, ARef<Dentry>)> {
        let name = entry(object);
        let mut at = Some(segment);
        for _ in 0..2 {
            let Some(segment) = at else { break };
            let found = match self.journal.kept_with(segment) {
                Err(e) if e == ENODATA => None,
                found => Some(found?),
            };
            if let Some(dir) = found {
                let kept = name::look_up(dir.dentry(), name.bytes())?;
                if kept.inode().is_some_and(|inode| inode.id() == object) {
                    return Ok((dir, kept));
                }
            }
            at = self.journal.find_kept(object)?;
        }
        Err(Refusal::new(Reason::Trimmed, 0))
    }

    /// Gives an object that has other names one more.
    fn link(&self, name: &[u8], lower: &Dentry) -> Outcome {
        self.must_be_free(name)?;
        let inode = self.own(lower)?;
        let _lock = inode.lock();
        backup::load(&inode)?;
        {
            let _kernel = AsKernel::new();
            let _write = self.mount.lower().want_write()?;
            Locked::to_create(self.mount.lower(), self.lower, name)?.link(lower)?;
        }
        self.added(name, &inode, lower);
        Ok(())
    }

    /// An object has got a name: its times have moved, and the directory shows it.
    fn added(&self, name: &[u8], inode: &OwnInode, lower: &Dentry) {
        backup::touched_below(inode, lower);
        inode.refresh();
        self.forget(name);
        if let Some(child) = self.dentry.and_then(|dir| dir.child(name).ok()) {
            if child.own_inode().is_some() {
                child.added();
            }
        }
    }

    /// What the dcache says of a name is not true any more.
    fn forget(&self, name: &[u8]) {
        if let Some(child) = self.cached(name) {
            child.forget();
        }
    }

    /// Moves a name of another directory, or of this one, to a free name here.
    fn move_here(&self, other: &Names<'_>, from: &[u8], to: &[u8], node: ObjectId) -> Outcome {
        let lower = other.bound(from, node)?;
        self.must_be_free(to)?;
        let inode = self.own(&lower)?;
        let _lock = inode.lock();
        backup::load(&inode)?;
        let cached = other
            .cached(from)
            .filter(|child| child.own_inode().is_some());
        let target = match (&cached, self.dentry) {
            (Some(_), Some(dir)) => Some(dir.child(to)?),
            _ => None,
        };
        {
            let _kernel = AsKernel::new();
            let mount = self.mount.lower();
            let _write = mount.want_write()?;
            let (here, there) = ((other.lower, &*lower), (self.lower, to));
            name::rename(mount, here, there, None, c::RENAME_NOREPLACE)?;
        }
        backup::touched_below(&inode, &lower);
        inode.refresh();
        match (cached, target) {
            (Some(child), Some(target)) => child.moved(&target),
            (cached, _) => {
                self.forget(to);
                if let Some(child) = cached {
                    child.forget();
                }
            }
        }
        Ok(())
    }

    /// Exchanges a name with one of another directory, or of this one, which must be bound to `node`.
    fn exchange(
        &self,
        name: &[u8],
        other: &Names<'_>,
        second_name: &[u8],
        node: ObjectId,
    ) -> Outcome {
        let second = other.bound(second_name, node)?;
        let first = name::look_up(self.lower, name)?;
        if first.inode().is_none() {
            return Err(Refusal::new(Reason::Conflict, 0));
        }
        let inodes = [self.own(&first)?, self.own(&second)?];
        let [a, b] = &inodes;
        let _locks = OwnInode::lock_both(a, b);
        for inode in &inodes {
            backup::load(inode)?;
        }
        let cached = (self.cached(name), other.cached(second_name));
        {
            let _kernel = AsKernel::new();
            let mount = self.mount.lower();
            let _write = mount.want_write()?;
            let (here, there) = ((self.lower, &*first), (other.lower, second_name));
            name::rename(mount, here, there, second.inode(), c::RENAME_EXCHANGE)?;
        }
        for (inode, lower) in inodes.iter().zip([&first, &second]) {
            backup::touched_below(inode, lower);
            inode.refresh();
        }
        match cached {
            (Some(one), Some(two)) => one.exchanged(&two),
            (one, two) => {
                for child in [one, two].into_iter().flatten() {
                    child.forget();
                }
            }
        }
        Ok(())
    }

    /// Our inode for a lower one.
    fn own(&self, lower: &Dentry) -> Outcome<ARef<OwnInode>> {
        let inode = lower.inode().ok_or(ENOENT)?;
        Ok(OwnInode::obtain(self.dir.superblock(), inode)?)
    }
}

/// The lower directory that a line tells of.
pub(super) fn directory(mount: &Mount, parent: &Directory<'_>) -> Outcome<ARef<Dentry>> {
    let mut bytes = [0; 64];
    let len = decode_hex(parent.handle, &mut bytes).ok_or(EUCLEAN)?;
    let handle = bytes.get(..len).ok_or(EUCLEAN)?;
    let found = attr::open_handle(mount.lower(), handle);
    let found = found.map_err(|_| Refusal::new(Reason::Conflict, 0))?;
    match found.inode() {
        Some(inode) if inode.id() == parent.object => Ok(found),
        _ => Err(Refusal::new(Reason::Conflict, 0)),
    }
}

/// A directory that is not empty any more is in the way.
fn full(error: Error) -> Refusal {
    if error == ENOTEMPTY {
        Refusal::new(Reason::Conflict, 0)
    } else {
        error.into()
    }
}

pub(super) fn parse(text: &[u8]) -> Result<Line<'_>> {
    if text.len() > MAX_LINE {
        return Err(EUCLEAN);
    }
    Line::parse(text, None).map_err(|_| EUCLEAN)
}

/// A name's bytes.
pub(super) fn decode<'b>(encoded: &[u8], buf: &'b mut [u8; NAME]) -> Result<&'b [u8]> {
    let len = decode_percent(encoded, buf).ok_or(EUCLEAN)?;
    let name = buf.get(..len).ok_or(EUCLEAN)?;
    if name.is_empty() || name.contains(&b'/') || name == b"." || name == b".." {
        return Err(EUCLEAN);
    }
    Ok(name)
}
