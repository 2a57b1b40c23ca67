// SPDX-License-Identifier: GPL-2.0

//! Objects that a history tells of: whether what a file handle or a kept entry leads to is an object of the
//! tree. Decided here for all of them, together with [`Mount::place_of`]; a history may be forged.
//!
//! A directory knows its path. The handle of any other object leads to its inode only, which may have
//! names in the tree, elsewhere, or both. It counts as one of the tree when it has a name there: one that is
//! in memory, or was since the inode is, or one in a directory that its lines tell of (`in=`), or that the
//! lines of such a directory say it was moved to. Names elsewhere, which a hard link that was made past the
//! mount has, do not matter then.

use super::steps::Lines;
use crate::{
    history::{
        journal::Journal,
        line::{decode_hex, ObjectId, Op, Pos},
        orphan::HANDLE_MAX, //
    },
    stack::{Mount, Place},
    vfs::{
        attr,
        dentry::Dentry,
        error::{ENODATA, ESTALE, EUCLEAN},
        inode::{Inode, OwnInode},
        name,
        store::Dir,
        superblock::SuperBlock, //
    },
};
use kernel::{prelude::*, sync::aref::ARef};

/// How many names of an object are tried.
pub(super) const MOST_NAMES: u32 = 64;

/// How many directories that an object's lines tell of are looked through, the newest first.
const MOST_DIRECTORIES: usize = 8;

/// How many of an object's lines are read for that behind the first that tells of one, and how many of a
/// directory's that it was moved from since.
const MOST_LINES: usize = 1 << 16;

/// The lower object with this file handle (its type byte, then its bytes), which must be `id`; `None`: it
/// is gone, or none of the tree. It may have a name in `beside`, too.
#[inline(never)]
pub(crate) fn by_handle(
    sb: &SuperBlock,
    journal: &Journal,
    (id, handle): (ObjectId, &[u8]),
    beside: Option<&Dentry>,
) -> Result<Option<ARef<Dentry>>> {
    let mount = sb.mount();
    let lower = match attr::open_handle(mount.lower(), handle) {
        Err(e) if e == ESTALE || e == ENOENT => return Ok(None),
        lower => lower?,
    };
    // Its number may be another one's by now.
    let Some(inode) = lower.inode().filter(|inode| inode.id() == id) else {
        return Ok(None);
    };
    if inode.is_directory() {
        let is_there = mount.is_directory_of_tree(&lower)?;
        return Ok(is_there.then_some(lower));
    }
    if let Some(name) = name_in_memory(mount, inode)? {
        return Ok(Some(name));
    }
    if OwnInode::was_shown(sb, inode) {
        return Ok(Some(lower));
    }
    if let Some(name) = name_by_lines(mount, journal, inode)? {
        return Ok(Some(name));
    }
    match beside {
        Some(dir) => name_in(mount, dir, inode),
        None => Ok(None),
    }
}

/// One of an object's names of the tree that are in memory, or the one that it is kept by.
#[inline(never)]
fn name_in_memory(mount: &Mount, inode: &Inode) -> Result<Option<ARef<Dentry>>> {
    let mut kept = None;
    for index in 0..MOST_NAMES {
        let Some(name) = inode.name_in_memory(index) else {
            break;
        };
        match mount.place_of(&name)? {
            Place::Shown => return Ok(Some(name)),
            Place::Kept => kept = Some(name),
            Place::Outside => {}
        }
    }
    Ok(kept.filter(|_| inode.links() == 1))
}

/// A name in one of the directories that the object's lines tell of, or the one that it is kept by.
#[inline(never)]
pub(super) fn name_by_lines(
    mount: &Mount,
    journal: &Journal,
    inode: &Inode,
) -> Result<Option<ARef<Dentry>>> {
    let mut lines = Lines::new(journal)?;
    let mut next = journal.last_line(inode.id())?;
    let mut tried: KVec<ARef<Dentry>> = KVec::with_capacity(MOST_DIRECTORIES, GFP_KERNEL)?;
    let mut left = MOST_LINES;
    // The newest line that tells of one may be far back: a file that is appended to has only lines
    // that tell of none since its segment began. Not to be killed: a revert may be under way.
    while let Some(at) = next.filter(|_| left != 0 && tried.len() < MOST_DIRECTORIES) {
        let location = match recorded_location(&mut lines, at) {
            Err(e) if e == ENODATA => break,
            location => location?,
        };
        if !tried.is_empty() {
            left = left.saturating_sub(1);
        }
        next = location.prev;
        let handle = location.handle.get(..location.len).unwrap_or_default();
        let mut here = directory(mount, handle)?;
        while let Some(dir) = here.filter(|_| tried.len() < MOST_DIRECTORIES) {
            if tried.iter().any(|known| core::ptr::eq(&**known, &*dir)) {
                break;
            }
            if let Some(name) = name_in(mount, &dir, inode)? {
                return Ok(Some(name));
            }
            let id = dir.inode().ok_or(ENOENT)?.id();
            tried.push(dir, GFP_KERNEL)?;
            let moved = moved_to((journal, &mut lines), id, inode.id(), at)?;
            here = directory(mount, moved.handle.get(..moved.len).unwrap_or_default())?;
        }
    }
    match journal.find_kept(inode.id()) {
        Err(e) if e == ENODATA => Ok(None),
        found => {
            let (dir, entry) = found?;
            orphan_entry(&dir, entry.bytes(), inode.id())
        }
    }
}

/// What a line tells of where its object is.
struct RecordedLocation {
    prev: Option<Pos>,
    /// The handle of a directory; empty: it tells of none.
    handle: [u8; HANDLE_MAX],
    len: usize,
}

// Out of line: the line is not on the stack when the directory is looked for.
#[inline(never)]
fn recorded_location(lines: &mut Lines<'_>, at: Pos) -> Result<RecordedLocation> {
    let line = lines.read(at)?;
    RecordedLocation::of(line.prev, at, line.inside)
}

impl RecordedLocation {
    fn of(prev: Option<Pos>, at: Pos, handle: Option<&[u8]>) -> Result<Self> {
        if prev.is_some_and(|prev| prev >= at) {
            return Err(EUCLEAN);
        }
        let mut location = Self {
            prev,
            ..Self::default()
        };
        if let Some(handle) = handle {
            location.len = decode_hex(handle, &mut location.handle).ok_or(EUCLEAN)?;
        }
        Ok(location)
    }
}

impl Default for RecordedLocation {
    fn default() -> Self {
        Self {
            prev: None,
            handle: [0; HANDLE_MAX],
            len: 0,
        }
    }
}

/// Where a directory's lines that are newer than `than` say that an object was moved to, which has not
/// told of that itself since.
#[inline(never)]
fn moved_to(
    (journal, lines): (&Journal, &mut Lines<'_>),
    directory: ObjectId,
    object: ObjectId,
    than: Pos,
) -> Result<RecordedLocation> {
    let mut next = journal.last_line(directory)?;
    for _ in 0..MOST_LINES {
        let Some(at) = next.filter(|at| *at > than) else {
            break;
        };
        let location = match recorded_move(lines, at, object) {
            Err(e) if e == ENODATA => break,
            location => location?,
        };
        if location.len != 0 {
            return Ok(location);
        }
        next = location.prev;
    }
    Ok(RecordedLocation::default())
}

/// What a directory's line tells of where an object was moved to.
#[inline(never)]
fn recorded_move(lines: &mut Lines<'_>, at: Pos, object: ObjectId) -> Result<RecordedLocation> {
    let line = lines.read(at)?;
    let is_it = line.op == Op::Rename && line.node == Some(object);
    RecordedLocation::of(line.prev, at, line.pfh.filter(|_| is_it))
}

/// The directory with this handle (hexadecimal), as a line tells it; `None`: it is gone, or none of the
/// tree.
pub(super) fn recorded_directory(mount: &Mount, handle: &[u8]) -> Result<Option<ARef<Dentry>>> {
    let mut bytes = [0; HANDLE_MAX];
    let len = decode_hex(handle, &mut bytes).ok_or(EUCLEAN)?;
    directory(mount, bytes.get(..len).unwrap_or_default())
}

/// The same of a handle's bytes.
pub(super) fn directory(mount: &Mount, handle: &[u8]) -> Result<Option<ARef<Dentry>>> {
    if handle.is_empty() {
        return Ok(None);
    }
    match mount.directory_by_handle(handle) {
        Err(e) if e == ESTALE || e == ENOENT => Ok(None),
        found => found.map(Some),
    }
}

/// What is kept under a name, if that is `object`. One that has other names is not what the history keeps,
/// but lost its last one: they may be anywhere.
pub(crate) fn orphan_entry(
    dir: &Dir,
    entry: &[u8],
    object: ObjectId,
) -> Result<Option<ARef<Dentry>>> {
    let kept = dir.child(entry)?;
    let is_it = kept
        .inode()
        .is_some_and(|inode| inode.id() == object && (inode.is_directory() || inode.links() == 1));
    Ok(is_it.then_some(kept))
}

/// Names of a directory, and which of them may be those that are looked for.
struct NameBuffer(KVVec<u8>);

impl NameBuffer {
    /// Adds a name. One that finds no memory is not found.
    fn push(&mut self, name: &[u8], is_wanted: bool) {
        let Ok(len) = u8::try_from(name.len()) else {
            return;
        };
        let added = name.len().saturating_add(2);
        if self.0.reserve(added, GFP_KERNEL_ACCOUNT).is_ok() {
            let head = [len, u8::from(is_wanted)];
            let _ = self.0.extend_from_slice(&head, GFP_KERNEL_ACCOUNT);
            let _ = self.0.extend_from_slice(name, GFP_KERNEL_ACCOUNT);
        }
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], bool)> {
        let mut rest = &self.0[..];
        core::iter::from_fn(move || {
            let (&[len, is_wanted], behind) = rest.split_first_chunk()?;
            let (name, behind) = behind.split_at_checked(usize::from(len))?;
            rest = behind;
            Some((name, is_wanted != 0))
        })
    }
}

/// A name that a directory has for an object. It is in memory behind, and with it others, so that a request
/// about many objects of one directory does not list that for each of them.
#[inline(never)]
fn name_in(mount: &Mount, dir: &Dentry, inode: &Inode) -> Result<Option<ARef<Dentry>>> {
    let mut names = NameBuffer(KVVec::new());
    let directory = dir.inode().ok_or(ENOENT)?.id();
    let range = mount.listings().next(directory);
    let (number, mut count) = (inode.number(), 0usize);
    (mount.lower().directory_at(dir)?).list_numbered(&mut |name, found| {
        if found == number || range.contains(&count) {
            names.push(name, found == number);
        }
        count = count.saturating_add(1);
    })?;
    if count <= range.start {
        mount.listings().begin_again(directory);
    }
    let mut found = None;
    for (name, is_wanted) in names.iter() {
        let lower = name::look_up(mount.lower(), dir, name)?;
        if is_wanted && lower.inode().is_some_and(|one| one.id() == inode.id()) {
            found = Some(lower);
        }
    }
    Ok(found)
}
