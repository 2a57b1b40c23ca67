// SPDX-License-Identifier: GPL-2.0

//! Mappings.
//!
//! Each store that makes a page of a shared mapping writable comes here first; what the page held is
//! saved then. Private mappings never change the file.

use super::Stack;
use crate::{
    backup,
    vfs::{
        dentry::{Dentry, OwnDentry},
        file::OwnFile,
        map::{is_watchable, Answer, Fault, Map, MapFile},
        table::file::MapHooks, //
    }, //
};
use kernel::prelude::*;

/// What shared mappings of a file that is being opened hold, if there can be any through which
/// stores come.
pub(super) fn map_file(file: &OwnFile, lower: &Dentry) -> Result<Option<MapFile>> {
    let can_store = file.is_readable() && file.is_writable();
    let watchable = lower.inode().is_some_and(is_watchable);
    if !can_store || !watchable {
        return Ok(None);
    }
    // By its dentry: a file without a name has no inode yet.
    let mount = file.dentry().superblock().mount();
    MapFile::open(file, mount.lower(), lower).map(Some)
}

impl MapHooks for Stack {
    fn map(file: &OwnFile, map: &Map) -> Result {
        if !map.may_change_file() {
            return map.map_lower(file.lower());
        }
        if !is_watchable(file.own_inode().lower()) {
            return Err(ENODEV);
        }
        backup::map(file, || map.map_watched(file))
    }

    fn unmapped(file: &OwnFile) {
        file.own_inode().object().stores().unmapped();
    }

    fn store(file: &OwnFile, fault: Fault<'_>) -> Answer {
        backup::store(file, fault)
    }

    fn sync(dentry: &OwnDentry, lower: impl FnOnce() -> Result) -> Result {
        super::file::sync(dentry, lower)
    }
}
