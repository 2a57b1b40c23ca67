// SPDX-License-Identifier: GPL-2.0

//! Tests whether a lower filesystem has the features that undo needs.
//!
//! A list of filesystem names would not do: overlayfs has file handles with `nfs_export=on` only,
//! and FUSE's features depend on the daemon. So each mount with history tests the features in the
//! history's directory, with temporary objects, as ovl_make_workdir() tests an upper layer. Unlike
//! there, a missing feature is an error, since operations could not be undone.

use crate::{
    history::journal::is_no_space,
    log::{plan::Times, types::ObjectId},
    vfs::{
        attr, c,
        dentry::Dentry,
        error::{ENOSYS, EOPNOTSUPP, ESTALE},
        inode::Inode,
        mount::LowerMount,
        namei::{self, DirOpGuard, LowerName},
        scope::KernelCreds,
        store::StoreDir,
    },
};
use kernel::{prelude::*, sync::aref::ARef};

/// The directory of the temporary objects in the history's directory, and their names.
const PLACE: &[u8] = b"probe";
const FILE: &[u8] = b"file";
const OTHER: &[u8] = b"other";
const BELOW: &[u8] = b"below";

/// Two times in the past, which differ from the present on every filesystem.
const TIMES: Times = Times {
    modified: (1_000_000_000, 0),
    accessed: (1_000_000_002, 0),
};

/// The reason of a failed test.
pub(super) enum ProbeFailure {
    /// The filesystem lacks this feature.
    Missing(&'static str),
    /// The test could not be run.
    Error(Error),
}

impl<E: Into<Error>> From<E> for ProbeFailure {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

type ProbeResult<T = ()> = Result<T, ProbeFailure>;

const HANDLES: &str = "find a file again by its file handle";
const IDENTITY: &str = "keep a file's inode number when it leaves memory";
const LINK: &str = "make hard links";
const RENAME: &str = "rename between directories without replacing (RENAME_NOREPLACE)";
const EXCHANGE: &str = "exchange two names (RENAME_EXCHANGE)";
const SET_TIMES: &str = "set a file's times";

/// Tests the features in the history's directory `home`. With `is_new` (an empty history) also
/// tests whether file handle and inode number survive eviction. On a disk filesystem later mounts
/// test the handles only, which needs no I/O.
///
/// Without space for the temporary objects the tests are skipped: a full filesystem must be
/// mountable.
pub(super) fn probe(mount: &LowerMount, home: &StoreDir, is_new: bool) -> ProbeResult {
    // The mounter's quota and resource limits must not decide about the features.
    let _kernel = KernelCreds::new();
    // A crash may have left objects.
    clear(home);
    if !is_new && mount.root().superblock().has_disk() {
        return handle(mount, home.dentry()).map(|_| ());
    }
    let result = make(mount, home).and_then(|probe| probe.all(is_new));
    clear(home);
    match result {
        Err(ProbeFailure::Error(e)) if is_no_space(e) => Ok(()),
        result => result,
    }
}

/// Removes the temporary objects that exist.
fn clear(home: &StoreDir) {
    let Ok(place) = home.open_dir(PLACE) else {
        return;
    };
    if let Ok(below) = place.open_dir(BELOW) {
        // A leftover object does not prevent a mount.
        let _ = below.unlink(FILE);
        let _ = below.unlink(OTHER);
        let _ = place.remove_dir(BELOW);
    }
    let _ = place.unlink(FILE);
    let _ = place.unlink(OTHER);
    let _ = home.remove_dir(PLACE);
}

fn make<'a>(mount: &'a LowerMount, home: &StoreDir) -> ProbeResult<FeatureProbe<'a>> {
    let place = home.make_dir(PLACE, 0o700)?;
    let below = place.make_dir(BELOW, 0o700)?;
    place.create(FILE, 0o600)?;
    Ok(FeatureProbe {
        mount,
        place,
        below,
    })
}

/// The directories of the test.
struct FeatureProbe<'a> {
    mount: &'a LowerMount,
    place: StoreDir,
    below: StoreDir,
}

impl FeatureProbe<'_> {
    fn all(&self, is_new: bool) -> ProbeResult {
        let file = self.found(&self.place, FILE)?;
        let id = inode(&file)?.id();
        handle(self.mount, self.place.dentry())?;
        let (bytes, len) = handle(self.mount, &file)?;
        self.times(&file)?;
        self.link(&file, id)?;
        self.rename(&file, id)?;
        self.exchange(id)?;
        if is_new {
            // d_mark_dontcache(): the last dput() and iput() evict the inode.
            inode(&file)?.drop_when_unused();
            drop(file);
            self.is_lasting(bytes.get(..len).unwrap_or_default(), id)?;
        }
        Ok(())
    }

    /// The object of `name`.
    fn found(&self, dir: &StoreDir, name: &[u8]) -> ProbeResult<ARef<Dentry>> {
        let found = dir.child(name)?;
        inode(&found)?;
        Ok(found)
    }

    /// Checks that a name is bound to the object `id`.
    fn is_bound(
        &self,
        dir: &StoreDir,
        name: &[u8],
        id: ObjectId,
        what: &'static str,
    ) -> ProbeResult {
        let found = tried(dir.child(name), what)?;
        match found.inode() {
            Some(inode) if inode.id() == id => Ok(()),
            _ => Err(ProbeFailure::Missing(what)),
        }
    }

    fn times(&self, file: &Dentry) -> ProbeResult {
        {
            let _write = self.mount.want_write()?;
            let set = attr::set_access_and_times(self.mount, file, None, Some(&TIMES));
            tried(set, SET_TIMES)?;
        }
        let (_, times) = attr::access_and_times(self.mount, file)?;
        // FAT stores mtime with a resolution of two seconds, and atime without time of day.
        if times.modified.0 == TIMES.modified.0 {
            Ok(())
        } else {
            Err(ProbeFailure::Missing(SET_TIMES))
        }
    }

    fn link(&self, file: &Dentry, id: ObjectId) -> ProbeResult {
        {
            let _write = self.mount.want_write()?;
            let made = DirOpGuard::start_creating(self.mount, self.below.dentry(), OTHER)?;
            tried(made.link(file), LINK)?;
        }
        self.is_bound(&self.below, OTHER, id, LINK)?;
        Ok(self.below.unlink(OTHER)?)
    }

    /// Renames the file to `below`.
    fn rename(&self, file: &Dentry, id: ObjectId) -> ProbeResult {
        {
            let from = LowerName {
                parent: self.place.dentry(),
                dentry: file,
                name: FILE,
            };
            let to = (self.below.dentry(), FILE);
            let _write = self.mount.want_write()?;
            let moved = namei::rename(self.mount, &from, to, None, c::RENAME_NOREPLACE);
            tried(moved, RENAME)?;
        }
        self.is_bound(&self.below, FILE, id, RENAME)
    }

    /// Exchanges the file, which is in `below`, with a new one in `place`.
    fn exchange(&self, id: ObjectId) -> ProbeResult {
        self.place.create(FILE, 0o600)?;
        let (file, other) = (
            self.found(&self.below, FILE)?,
            self.found(&self.place, FILE)?,
        );
        let other_id = inode(&other)?.id();
        {
            let from = LowerName {
                parent: self.below.dentry(),
                dentry: &file,
                name: FILE,
            };
            let to = (self.place.dentry(), FILE);
            let flags = c::RENAME_EXCHANGE;
            let _write = self.mount.want_write()?;
            let moved = namei::rename(self.mount, &from, to, other.inode(), flags);
            tried(moved, EXCHANGE)?;
        }
        self.is_bound(&self.place, FILE, id, EXCHANGE)?;
        self.is_bound(&self.below, FILE, other_id, EXCHANGE)
    }

    /// Tests handle and number after the inode's eviction, if the filesystem evicts it.
    fn is_lasting(&self, handle: &[u8], id: ObjectId) -> ProbeResult {
        leads_to(self.mount, handle, id)?;
        self.is_bound(&self.place, FILE, id, IDENTITY)
    }
}

/// An object's file handle, as in a line's `fh=`, and its length. Checks that the handle decodes to
/// the object.
fn handle(mount: &LowerMount, object: &Dentry) -> ProbeResult<([u8; 65], usize)> {
    let inode = inode(object)?;
    let (mut bytes, mut handle) = ([0; 64], [0; 65]);
    let (kind, len) = attr::handle(inode, &mut bytes).ok_or(ProbeFailure::Missing(HANDLES))?;
    let (first, rest) = handle.split_at_mut(1);
    first.fill(kind);
    rest.copy_from_slice(&bytes);
    let len = len.saturating_add(1);
    leads_to(mount, handle.get(..len).unwrap_or_default(), inode.id())?;
    Ok((handle, len))
}

fn leads_to(mount: &LowerMount, handle: &[u8], id: ObjectId) -> ProbeResult {
    let found = tried(attr::open_handle(mount, handle), HANDLES)?;
    match found.inode() {
        Some(inode) if inode.id() == id => Ok(()),
        _ => Err(ProbeFailure::Missing(HANDLES)),
    }
}

fn inode(dentry: &Dentry) -> Result<&Inode> {
    dentry.inode().ok_or(ENOENT)
}

/// Maps the errors of an unsupported operation to [`ProbeFailure::Missing`].
fn tried<T>(result: Result<T>, what: &'static str) -> ProbeResult<T> {
    const CANNOT: [Error; 10] = [
        EPERM, EINVAL, ENOENT, EXDEV, ENOTTY, EMLINK, ENOSYS, EOPNOTSUPP, ENOTSUPP, ESTALE,
    ];
    result.map_err(|e| {
        if CANNOT.contains(&e) {
            ProbeFailure::Missing(what)
        } else {
            ProbeFailure::Error(e)
        }
    })
}
