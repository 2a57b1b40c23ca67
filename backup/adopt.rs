// SPDX-License-Identifier: GPL-2.0

//! Adoption: writes lines for orphans without one, at the mount after a power cut.
//!
//! The lower filesystem may have made the removal of a name durable before the journal made its
//! line durable. The orphan's entry has the same data as the line ([`Orphan`]), so the directory
//! gets a line of the removal, marked as recovered. If the name is bound to another object by now,
//! the line of that operation was lost, too. It is written as well: otherwise the orphan could not
//! be restored before the later operation is reverted.

use super::orphans::{orphan_entry, FileHandle};
use crate::{
    history::{
        journal::Journal,
        lines::Lines,
        orphan_record::{Cause, EntryName, OrphanRecord, HANDLE_MAX, NAME_MAX},
        orphans::{FoundOrphan, OrphanDir},
        sort::sort,
    },
    log::{
        line::{decode_percent, LineDraft, Op, Undo},
        types::{ObjectId, Pos},
    },
    record::{load_unchecked, note_change, place_by, LineSubject, OperationArgs},
    state::{Mount, OpenActor},
    vfs::{
        dentry::Dentry,
        error::{ENODATA, ESTALE, EUCLEAN},
        inode::{Inode, UpperInode},
        namei,
        scope::KernelCreds,
        superblock::UpperSuperBlock,
        task, xattr,
    },
};
use kernel::{prelude::*, sync::aref::ARef};

/// Number of a directory's lines that are searched for an object's previous name.
const LOOK_BACK: usize = 4096;

/// Writes lines for orphans without one. Called after interrupted reverts were finished.
#[inline(never)]
pub(crate) fn adopt(sb: &UpperSuperBlock) {
    let mount = sb.mount();
    let Some(journal) = mount.journal() else {
        return;
    };
    let mut found = journal.take_orphans();
    if found.is_empty() {
        return;
    }
    // In the order of the removals: the name may have been bound and removed again.
    sort(&mut found, |a, b| seq(&a.1) < seq(&b.1));
    let adoption = Adoption { sb, mount, journal };
    let (mut adopted, mut failed) = (0u64, 0u64);
    for (index, one) in found.iter().enumerate() {
        if task::resched_killable().is_err() {
            // The next mount continues.
            failed = failed.saturating_add(1);
            break;
        }
        let later = found.get(index.saturating_add(1)..).unwrap_or_default();
        match adoption.adopt(one, later) {
            Ok(()) => adopted = adopted.saturating_add(1),
            // A resumed revert has restored the name.
            Err(e) if e == ENOENT => {}
            Err(e) => {
                failed = failed.saturating_add(1);
                mount.warn_lost(e);
            }
        }
    }
    // Failed entries stay marked: the next mount retries them.
    match journal.flush(true) {
        Ok(()) if failed == 0 => journal.adopted(),
        Ok(()) => {}
        Err(e) => mount.warn_lost(e),
    }
    pr_warn!(
        "recovery: {} objects had lost their last name without a line; their directories' histories have one now\n",
        adopted
    );
}

fn seq(entry: &EntryName) -> u64 {
    let mut handle = [0; HANDLE_MAX];
    OrphanRecord::parse(entry.bytes(), &mut handle).map_or(0, |orphan| orphan.seq)
}

/// The mount during adoption.
struct Adoption<'a> {
    sb: &'a UpperSuperBlock,
    mount: &'a Mount,
    journal: &'a Journal,
}

/// A removed name without a line.
struct LostName<'a> {
    orphan_dir: &'a OrphanDir,
    orphan: &'a OrphanRecord<'a>,
    victim: &'a Inode,
    /// The directory's inode on this mount, and its lower dentry.
    dir: &'a UpperInode,
    parent: &'a Dentry,
    name: &'a [u8],
}

impl Adoption<'_> {
    /// Writes the lines for one orphan. `later` are the orphans that were removed after this one.
    fn adopt(&self, (orphan_dir, entry): &FoundOrphan, later: &[FoundOrphan]) -> Result {
        let _kernel = KernelCreds::new();
        let mut handle = [0; HANDLE_MAX];
        let orphan = OrphanRecord::parse(entry.bytes(), &mut handle).ok_or(ENOENT)?;
        let kept = orphan_entry(orphan_dir.dir(), entry.bytes(), orphan.object)?;
        let kept = kept.ok_or(ENOENT)?;
        let victim = kept.inode().ok_or(ENOENT)?;
        let mut long = [0; NAME_MAX];
        let name = self.whole_name(&orphan, &kept, &mut long);
        let parent = self.parent(orphan.parent)?;
        let dir = UpperInode::iget(self.sb, parent.inode().ok_or(ESTALE)?)?;
        // Names in the directory must not change until the lines are written.
        let _lock = dir.lock_as_parent();
        let lost = LostName {
            orphan_dir,
            orphan: &orphan,
            victim,
            dir: &dir,
            parent: &parent,
            name,
        };
        // The name is free: only the line of the removal is missing.
        let Some(node) = self.bound_next(&lost, later)? else {
            return self.removed(&lost);
        };
        let mut old = [0; NAME_MAX];
        match self.name_before(&lost, node.id(), &mut old)? {
            PreviousName::This => self.removed(&lost),
            PreviousName::Other(old) if orphan.cause == Cause::Replacement => {
                self.replaced(&lost, &node, old)
            }
            PreviousName::Other(old) => {
                self.removed(&lost)?;
                self.renamed(&lost, &node, old)
            }
            PreviousName::None => {
                self.removed(&lost)?;
                self.bound(&lost, &node)
            }
        }
    }

    /// The full name: the part in the entry, and the rest from the xattr.
    fn whole_name<'n>(
        &self,
        orphan: &OrphanRecord<'n>,
        kept: &Dentry,
        buf: &'n mut [u8; NAME_MAX],
    ) -> &'n [u8] {
        if !orphan.is_cut {
            return orphan.name;
        }
        match xattr::long_name(self.mount.lower(), kept, buf) {
            Ok(len) => match buf.get(..len) {
                Some(name) if name.starts_with(orphan.name) => name,
                _ => orphan.name,
            },
            Err(_) => orphan.name,
        }
    }

    /// The lower directory with this file handle; the root of the mount if the directory is gone.
    fn parent(&self, handle: &[u8]) -> Result<ARef<Dentry>> {
        let mount = self.mount.lower();
        match self.mount.directory_by_handle(handle) {
            // open_handle() returns these for a directory that is gone.
            Err(e) if e == ESTALE || e == ENOENT || e == EINVAL => Ok(mount.root().get()),
            found => found,
        }
    }

    /// The object that the name was bound to next: a later orphan, or the object that has the name
    /// now.
    fn bound_next(
        &self,
        lost: &LostName<'_>,
        later: &[FoundOrphan],
    ) -> Result<Option<ARef<Inode>>> {
        for (orphan_dir, entry) in later {
            let mut handle = [0; HANDLE_MAX];
            let Some(orphan) = OrphanRecord::parse(entry.bytes(), &mut handle) else {
                continue;
            };
            if (orphan.parent, orphan.name) == (lost.orphan.parent, lost.orphan.name) {
                let kept = orphan_dir.dir().child(entry.bytes())?;
                return Ok(kept.inode().map(Inode::get));
            }
        }
        let lower = self.lookup(lost, lost.name)?;
        Ok(lower.inode().map(Inode::get))
    }

    fn lookup(&self, lost: &LostName<'_>, name: &[u8]) -> Result<ARef<Dentry>> {
        namei::lookup(self.mount.lower(), lost.parent, name)
    }

    /// The object's previous name in the directory, by the newest line that bound one.
    fn name_before<'b>(
        &self,
        lost: &LostName<'_>,
        node: ObjectId,
        buf: &'b mut [u8; NAME_MAX],
    ) -> Result<PreviousName<'b>> {
        let mut lines = Lines::new(self.journal)?;
        let mut next = self.journal.last_line(lost.dir.id())?;
        for _ in 0..LOOK_BACK {
            let Some(at) = next else {
                break;
            };
            let found = match name_given(&mut lines, at, node) {
                Err(e) if e == ENODATA => break,
                found => found?,
            };
            match found {
                RecordedName::Name(encoded) => {
                    let len = decode_percent(encoded, buf).ok_or(EUCLEAN)?;
                    let old = buf.get(..len).ok_or(EUCLEAN)?;
                    if old == lost.name {
                        return Ok(PreviousName::This);
                    }
                    // The previous name is bound again: a rename from it would not explain the
                    // present names.
                    let is_free = self.lookup(lost, old)?.inode().is_none();
                    return Ok(if is_free {
                        PreviousName::Other(old)
                    } else {
                        PreviousName::None
                    });
                }
                RecordedName::Earlier(before) => next = before.filter(|before| *before < at),
            }
        }
        Ok(PreviousName::None)
    }

    /// Writes a removal.
    fn removed(&self, lost: &LostName<'_>) -> Result {
        let op = if lost.victim.is_directory() {
            Op::Rmdir
        } else {
            Op::Unlink
        };
        self.place(lost, op, |draft| {
            lost.describe(draft);
            draft.name(lost.name).node(lost.victim.id());
        })
    }

    /// Writes a rename of `node` from `old` over the object.
    fn replaced(&self, lost: &LostName<'_>, node: &Inode, old: &[u8]) -> Result {
        self.place(lost, Op::Rename, |draft| {
            lost.describe(draft);
            draft.name(old).node(node.id());
            draft.to(lost.name).over(lost.victim.id());
        })
    }

    /// Writes a rename of `node` from `old` to the free name. A link line would not do: its revert
    /// removes the new name and does not restore the old one.
    fn renamed(&self, lost: &LostName<'_>, node: &Inode, old: &[u8]) -> Result {
        self.place(lost, Op::Rename, |draft| {
            draft.undo(Undo::None);
            draft.name(old).node(node.id()).to(lost.name);
        })
    }

    /// Writes a creation or a link of `node`. Its previous name, if any, was in another directory.
    fn bound(&self, lost: &LostName<'_>, node: &Inode) -> Result {
        let op = if node.is_directory() {
            Op::Mkdir
        } else {
            Op::Link
        };
        self.place(lost, op, |draft| {
            draft.undo(Undo::None);
            draft.name(lost.name).node(node.id());
        })
    }

    /// Writes a line of the directory, with the user from the orphan's entry, not with the user who
    /// mounts.
    fn place(&self, lost: &LostName<'_>, op: Op, fill: impl Fn(&mut LineDraft<'_>)) -> Result {
        let subject = LineSubject {
            mount: self.mount,
            inode: lost.dir,
            open: None,
        };
        let args = OperationArgs {
            op,
            at: 0,
            length: 0,
            size: lost.dir.lower().size(),
        };
        let mut reservation = self.journal.reserve_lines(1)?;
        let mut state = lost.dir.object().state.lock();
        load_unchecked(self.journal, lost.dir, &mut state)?;
        let mut who = OpenActor::default();
        place_by(
            &subject,
            &mut state,
            &mut who,
            &mut reservation,
            &args,
            |draft| {
                // The command and the process of the removal are unknown.
                draft.recovered(lost.orphan.uid);
                fill(draft);
            },
        )?;
        note_change(&mut state, lost.dir);
        Ok(())
    }
}

impl LostName<'_> {
    /// Adds the keys that locate the orphan.
    fn describe(&self, draft: &mut LineDraft<'_>) {
        draft.undo(Undo::None).kept(self.orphan_dir.segment());
        if !self.victim.is_directory() {
            if let Some(handle) = FileHandle::of_lower(self.victim) {
                handle.describe(draft);
            }
        }
    }
}

/// Previous name of an object in the same directory.
enum PreviousName<'a> {
    /// Unknown.
    None,
    /// The same name: the line that bound it is there.
    This,
    /// Another name, which is free now.
    Other(&'a [u8]),
}

/// The name that a line bound to an object.
enum RecordedName<'a> {
    /// The name, percent-encoded.
    Name(&'a [u8]),
    /// None; the search continues at this position.
    Earlier(Option<Pos>),
}

/// The name that the line at `at` bound to the object, if any.
fn name_given<'t>(lines: &'t mut Lines<'_>, at: Pos, node: ObjectId) -> Result<RecordedName<'t>> {
    let line = lines.read(at)?;
    let given = match line.op {
        Op::Create | Op::Mkdir | Op::Mknod | Op::Symlink | Op::Link => line.name,
        Op::Rename if line.parent.is_none() => line.to,
        _ => None,
    };
    Ok(match given.filter(|_| line.node == Some(node)) {
        Some(name) => RecordedName::Name(name),
        None => RecordedName::Earlier(line.prev),
    })
}
