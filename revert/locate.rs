// SPDX-License-Identifier: GPL-2.0

//! Finds objects by the file handles and the orphans' entries of a history, and checks that they
//! belong to the mounted tree. A history may be forged, so all such checks are here and in
//! [`Mount::location_of`].
//!
//! A directory has a path. The handle of any other object leads to its inode only, which may have
//! names inside the tree, outside, or both. The object belongs to the tree if one name is inside:
//! an alias in the dcache now or since the inode was instantiated on this mount, or a name in a
//! directory that the object's lines refer to (`in=`), or to which the lines of such a directory
//! say the object was moved. Further names outside the tree, from a link(2) that bypassed the
//! mount, do not matter.

use crate::{
    backup::orphans,
    history::{
        journal::Journal,
        lines::{before, Lines},
        orphan_record::HANDLE_MAX,
    },
    log::{
        line::{decode_hex, Op},
        types::{ObjectId, Pos},
    },
    state::{Mount, TreeLocation},
    vfs::{
        attr,
        dentry::Dentry,
        error::{ENODATA, ESTALE, EUCLEAN},
        inode::{Inode, UpperInode},
        namei,
        superblock::UpperSuperBlock,
    },
};
use kernel::{prelude::*, sync::aref::ARef};

/// Number of dentry aliases of an inode that are tried.
pub(super) const MOST_NAMES: u32 = 64;

/// Number of directories from an object's lines that are searched, the newest first.
const MOST_DIRECTORIES: usize = 8;

/// Number of an object's lines that are read after the first one with a directory, and of lines of
/// a directory that the object was moved from.
const MOST_LINES: usize = 1 << 16;

/// The lower object with this file handle (type byte, then bytes), which must be `id`. `None` if
/// the object is gone or outside the tree. `beside` is one more directory to search for a name.
#[inline(never)]
pub(crate) fn by_handle(
    sb: &UpperSuperBlock,
    journal: &Journal,
    (id, handle): (ObjectId, &[u8]),
    beside: Option<&Dentry>,
) -> Result<Option<ARef<Dentry>>> {
    let mount = sb.mount();
    // exportfs_decode_fh() accepts any directory below the superblock, so each check below is
    // needed.
    let lower = match attr::open_handle(mount.lower(), handle) {
        Err(e) if e == ESTALE || e == ENOENT => return Ok(None),
        lower => lower?,
    };
    // The inode number may have been reused.
    let Some(inode) = lower.inode().filter(|inode| inode.id() == id) else {
        return Ok(None);
    };
    if inode.is_directory() {
        // A directory has one path. Accepted only below SOURCE and outside the history.
        let is_there = mount.is_directory_of_tree(&lower)?;
        return Ok(is_there.then_some(lower));
    }
    if let Some(name) = nth_alias(mount, inode)? {
        return Ok(Some(name));
    }
    // A lookup below SOURCE has bound a name to this inode since it was instantiated.
    if UpperInode::was_shown(sb, inode) {
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

/// A dentry alias of the inode below the tree, or its orphan's entry.
#[inline(never)]
fn nth_alias(mount: &Mount, inode: &Inode) -> Result<Option<ARef<Dentry>>> {
    let mut kept = None;
    for index in 0..MOST_NAMES {
        let Some(name) = inode.nth_alias(index) else {
            break;
        };
        match mount.location_of(&name)? {
            TreeLocation::InTree => return Ok(Some(name)),
            TreeLocation::Orphan => kept = Some(name),
            TreeLocation::Outside => {}
        }
    }
    Ok(kept.filter(|_| inode.links() == 1))
}

/// A name in one of the directories that the object's lines refer to, or its orphan's entry.
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
    // The newest line with a directory may be far back: appends add lines without one. Ignores
    // fatal signals, since a revert may be under way.
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
    match journal.find_orphan(inode.id()) {
        Err(e) if e == ENODATA => Ok(None),
        found => {
            let (dir, entry) = found?;
            orphans::orphan_entry(&dir, entry.bytes(), inode.id())
        }
    }
}

/// The directory of an object, as recorded by a line.
struct RecordedLocation {
    prev: Option<Pos>,
    /// File handle of the directory; empty if the line has none.
    handle: [u8; HANDLE_MAX],
    len: usize,
}

// Out of line: the parsed line must be off the stack before the lookup.
#[inline(never)]
fn recorded_location(lines: &mut Lines<'_>, at: Pos) -> Result<RecordedLocation> {
    let line = lines.read(at)?;
    RecordedLocation::of(before(&line, at)?, line.inside)
}

impl RecordedLocation {
    /// The location in a line.
    fn of(prev: Option<Pos>, handle: Option<&[u8]>) -> Result<Self> {
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

/// The directory to which the object was moved, by the lines of `directory` newer than `than`. The
/// object's own lines do not have that move yet.
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

/// The destination of the object, if this directory's line is a rename of it.
#[inline(never)]
fn recorded_move(lines: &mut Lines<'_>, at: Pos, object: ObjectId) -> Result<RecordedLocation> {
    let line = lines.read(at)?;
    let is_it = line.op == Op::Rename && line.node == Some(object);
    RecordedLocation::of(before(&line, at)?, line.pfh.filter(|_| is_it))
}

/// The directory with this hexadecimal handle; `None` if the directory is gone or outside the tree.
pub(super) fn recorded_directory(mount: &Mount, handle: &[u8]) -> Result<Option<ARef<Dentry>>> {
    let mut bytes = [0; HANDLE_MAX];
    let len = decode_hex(handle, &mut bytes).ok_or(EUCLEAN)?;
    directory(mount, bytes.get(..len).unwrap_or_default())
}

/// As [`recorded_directory`], for a handle's bytes.
pub(super) fn directory(mount: &Mount, handle: &[u8]) -> Result<Option<ARef<Dentry>>> {
    if handle.is_empty() {
        return Ok(None);
    }
    match mount.directory_by_handle(handle) {
        Err(e) if e == ESTALE || e == ENOENT => Ok(None),
        found => found.map(Some),
    }
}

/// Names of a directory. Each has a flag: whether the name can belong to the inode that is
/// searched.
struct NameBuffer(KVVec<u8>);

impl NameBuffer {
    /// Appends a name. Under memory pressure the name is dropped, and not found.
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

    /// The names, each with its flag.
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

/// Finds a name of the object in the directory. The name is then in the dcache, together with a
/// range of others, so that a request about many objects of one directory lists the directory only
/// a few times.
#[inline(never)]
fn name_in(mount: &Mount, dir: &Dentry, inode: &Inode) -> Result<Option<ARef<Dentry>>> {
    let mut names = NameBuffer(KVVec::new());
    let directory = dir.inode().ok_or(ENOENT)?.id();
    let range = mount.name_readahead().next(directory);
    let (number, mut count) = (inode.number(), 0usize);
    // d_ino selects candidates; the lookup of each name decides.
    (mount.lower().directory_at(dir)?).list_numbered(&mut |name, found| {
        if found == number || range.contains(&count) {
            names.push(name, found == number);
        }
        count = count.saturating_add(1);
    })?;
    if count <= range.start {
        mount.name_readahead().restart(directory);
    }
    let mut found = None;
    for (name, is_wanted) in names.iter() {
        let lower = namei::lookup(mount.lower(), dir, name)?;
        if is_wanted && lower.inode().is_some_and(|one| one.id() == inode.id()) {
            found = Some(lower);
        }
    }
    Ok(found)
}
