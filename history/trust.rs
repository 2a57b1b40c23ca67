// SPDX-License-Identifier: GPL-2.0

//! Checks before a history is used: only root can have written the files, the history belongs to
//! this directory, and no other mount or tool uses the history.

use core::fmt;
use kernel::prelude::*;

use super::{
    format::{
        self,
        Format,
        Root,
        Unusable,
        MAX_FORMAT, //
    },
    segment::{
        number_in_name,
        MODE, //
    },
};
use crate::vfs::{
    error::{EOPNOTSUPP, EUCLEAN},
    scope::{
        now_seconds,
        random_uuid, //
    },
    store::{
        StoreDir,
        StoreFile, //
    },
};

/// The name of the history's directory in the lower root. Lookups through a mount hide this name.
pub(crate) const HISTORY_DIR: &[u8] = b".loggerfs";

/// A history that may be used.
pub(super) struct Home {
    pub(super) dir: StoreDir,
    pub(super) uuid: [u8; 16],
    /// Whether this mount created the history.
    pub(super) is_new: bool,
    /// The file `format`, locked as long as the file is open.
    pub(super) claim: Option<StoreFile>,
}

/// Checks whether the lower filesystem supports a history. The arguments are the history's
/// directory, which is private to root, and whether the history is new.
pub(crate) type Suits<'a> = &'a dyn Fn(&StoreDir, bool) -> Result;

/// Opens the history below `root`, or creates a new one, and locks the `format` file. If the
/// filesystem is unsuitable, a directory made here is removed again.
pub(super) fn open(
    root: &StoreDir,
    suits: Suits<'_>,
    explain: &dyn Fn(fmt::Arguments<'_>),
) -> Result<Home> {
    let was_there = root.has(HISTORY_DIR);
    let dir = match root.make_dir(HISTORY_DIR, 0o700) {
        Ok(dir) => dir,
        Err(e) => {
            explain(format_args!(
                ".loggerfs is no directory of this filesystem, or cannot be made (error {})",
                e.to_errno()
            ));
            return Err(e);
        }
    };
    if !is_private(&dir) && !was_there {
        // The directory was made with mode 0700 just now, so the filesystem does not store modes or
        // owners.
        let _ = root.remove_dir(HISTORY_DIR);
        explain(format_args!(
            "the source's filesystem does not keep owners and modes, so nothing in it is private to root; mount with history=off, or choose another source"
        ));
        return Err(EOPNOTSUPP);
    }
    if !is_private(&dir) {
        explain(format_args!(
            ".loggerfs must belong to root with mode 0700: the history may be forged"
        ));
        return Err(EPERM);
    }
    // Locked before anything is read, so that no other mount changes the checked files.
    let claim = claim(&dir, explain)?;
    let this = root_of(root)?;
    let mut text = KVec::from_elem(0, MAX_FORMAT, GFP_KERNEL)?;
    let len = claim.read_at(&mut text, 0)?;
    if let Err(e) = suits(&dir, len == 0) {
        drop(claim);
        if len == 0 {
            // rmdir fails, as intended, if the directory had other files before.
            let _ = dir.unlink(b"format");
            let _ = root.remove_dir(HISTORY_DIR);
        }
        return Err(e);
    }
    if len == 0 {
        let uuid = create(&dir, &claim, this, explain)?;
        return Ok(Home {
            dir,
            uuid,
            is_new: true,
            claim: Some(claim),
        });
    }
    let found = format::parse(text.get(..len).unwrap_or_default());
    let uuid = check(found, &this, explain)?;
    Ok(Home {
        dir,
        uuid,
        is_new: false,
        claim: Some(claim),
    })
}

/// Opens and locks `format`.
fn claim(dir: &StoreDir, explain: &dyn Fn(fmt::Arguments<'_>)) -> Result<StoreFile> {
    let file = dir
        .create(b"format", MODE)
        .and_then(private_file)
        .inspect_err(|e| {
            explain(format_args!(
                ".loggerfs/format is not a private file of root's (error {}): the history may be forged",
                e.to_errno()
            ));
        })?;
    file.claim().inspect_err(|_| {
        explain(format_args!(
            "the history is in use by another tool, or by a mount that is not finished"
        ));
    })?;
    Ok(file)
}

/// Begins a history; only where none can have been.
fn create(
    dir: &StoreDir,
    claim: &StoreFile,
    root: Root,
    explain: &dyn Fn(fmt::Arguments<'_>),
) -> Result<[u8; 16]> {
    if has_history(dir)? {
        explain(format_args!(
            ".loggerfs/format is empty or missing, but there is a history: it is damaged"
        ));
        return Err(EUCLEAN);
    }
    let uuid = random_uuid();
    let mut text = KVec::from_elem(0, MAX_FORMAT, GFP_KERNEL)?;
    let format = Format { uuid, root };
    let len = format::encode(&format, now_seconds(), &mut text).ok_or(EOVERFLOW)?;
    claim.write_at(text.get(..len).unwrap_or_default(), 0)?;
    claim.sync()?;
    Ok(uuid)
}

/// Whether the directory has files of a history other than `format`: a state, or a log.
fn has_history(dir: &StoreDir) -> Result<bool> {
    match dir.open(b"state", false) {
        Err(e) if e == ENOENT => {}
        _ => return Ok(true),
    }
    let mut found = false;
    private_dir(dir, b"log")?.list(&mut |name| found |= number_in_name(name, b".log").is_some())?;
    Ok(found)
}

/// Whether a history with this `format` belongs to the directory `this`.
fn check(
    found: Result<Format, Unusable>,
    this: &Root,
    explain: &dyn Fn(fmt::Arguments<'_>),
) -> Result<[u8; 16]> {
    match found {
        Ok(format) if format.root == *this => Ok(format.uuid),
        Ok(_) => {
            explain(format_args!(
                "the history in .loggerfs belongs to another directory; it was copied or moved here"
            ));
            Err(EPERM)
        }
        Err(Unusable::Version(version)) => {
            explain(format_args!(
                "the history has format version {version}, this module knows version {}",
                format::VERSION
            ));
            Err(EINVAL)
        }
        Err(Unusable::Malformed) => {
            explain(format_args!(".loggerfs/format is damaged or forged"));
            Err(EUCLEAN)
        }
    }
}

/// Identifies the directory `root`.
fn root_of(root: &StoreDir) -> Result<Root> {
    let mut bytes = [0; 128];
    match root.handle(&mut bytes) {
        Ok((kind, len)) => Ok(Root { kind, len, bytes }),
        Err(_) => {
            let stat = root.stat();
            Ok(Root::from_inode(stat.inode, stat.generation))
        }
    }
}

/// Whether only root can have changed a directory.
fn is_private(dir: &StoreDir) -> bool {
    let stat = dir.stat();
    stat.uid == 0 && stat.mode & 0o077 == 0
}

/// Opens a subdirectory, or creates a missing one. `EPERM`: another user could have changed the
/// directory.
pub(super) fn private_dir(parent: &StoreDir, name: &[u8]) -> Result<StoreDir> {
    let dir = parent.make_dir(name, 0o700)?;
    if !is_private(&dir) {
        return Err(EPERM);
    }
    Ok(dir)
}

/// Passes a file on that only root can have created. `EPERM`: another user could have.
pub(super) fn private_file(file: StoreFile) -> Result<StoreFile> {
    let stat = file.stat();
    if !stat.is_file() || !stat.is_private_to_root() {
        return Err(EPERM);
    }
    Ok(file)
}
