// SPDX-License-Identifier: GPL-2.0

//! Directories of the history: listed in batches, and removed with everything in them.

use kernel::prelude::*;

use super::{orphan_record::EntryName, segment::gone};
use crate::vfs::{error::ENOTEMPTY, store::StoreDir};

/// How many names are listed at a time when a segment's directory is emptied.
const BATCH: usize = 512;

/// Removes a name and, if it is a directory, everything below.
pub(super) fn remove_whole(dir: &StoreDir, name: &[u8]) -> Result {
    match remove(dir, name) {
        Err(e) if e == ENOTEMPTY => remove_tree(dir, name),
        result => result,
    }
}

fn remove(dir: &StoreDir, name: &[u8]) -> Result {
    match dir.unlink(name) {
        Err(e) if e == EISDIR || e == EPERM => gone(dir.remove_dir(name)),
        result => gone(result),
    }
}

/// Removes a directory that is not empty, as a refused revert may leave one: it had moved names
/// back into the directory. Each round descends to a directory without such children, so there is
/// no recursion on the kernel's small stack.
fn remove_tree(dir: &StoreDir, name: &[u8]) -> Result {
    loop {
        match remove(dir, name) {
            Err(e) if e == ENOTEMPTY => {}
            result => return result,
        }
        let mut at = dir.open_dir(name)?;
        while let Some(inner) = clear(&at)? {
            at = at.open_dir(&inner)?;
        }
    }
}

/// Empties a directory; stops at a child directory that is not empty, and returns its name.
fn clear(dir: &StoreDir) -> Result<Option<KVec<u8>>> {
    loop {
        let mut names: KVVec<KVec<u8>> = KVVec::new();
        let mut full = Ok(());
        dir.list(&mut |name| {
            if names.len() < BATCH && full.is_ok() {
                let mut copy = KVec::new();
                let copied = copy.extend_from_slice(name, GFP_KERNEL);
                full = copied.and_then(|()| names.push(copy, GFP_KERNEL));
            }
        })?;
        full?;
        if names.is_empty() {
            return Ok(None);
        }
        for name in names {
            match remove(dir, &name) {
                Err(e) if e == ENOTEMPTY => return Ok(Some(name)),
                result => result?,
            }
        }
    }
}

/// Removes everything in a directory. Returns its size in bytes.
pub(super) fn clear_dir(dir: &StoreDir) -> Result<u64> {
    let mut bytes = 0u64;
    each_batch(dir, |name| {
        bytes = bytes.saturating_add(dir.bytes_of(name.bytes()));
        Ok(remove_whole(dir, name.bytes()).is_ok())
    })?;
    Ok(bytes)
}

/// Calls `f` with each name, in batches, until none is left or a whole pass removed none. `f`
/// returns whether it removed the name.
pub(super) fn each_batch(dir: &StoreDir, mut f: impl FnMut(&EntryName) -> Result<bool>) -> Result {
    let mut skip = 0usize;
    loop {
        let mut names: KVVec<EntryName> = KVVec::with_capacity(BATCH, GFP_KERNEL)?;
        let mut seen = 0usize;
        dir.list(&mut |name| {
            seen = seen.saturating_add(1);
            if seen > skip && names.len() < BATCH {
                if let Some(name) = EntryName::of(name) {
                    // There is space: the length was just looked at.
                    let _ = names.push(name, GFP_KERNEL);
                }
            }
        })?;
        if names.is_empty() {
            return Ok(());
        }
        for name in &names {
            if !f(name)? {
                skip = skip.saturating_add(1);
            }
        }
    }
}
