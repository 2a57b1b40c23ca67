// SPDX-License-Identifier: GPL-2.0

//! Mappings.
//!
//! Each store that makes a page of a shared mapping writable comes here first; what the page held is
//! saved then. Private mappings never change the file.

use super::Stack;
use crate::{
    backup,
    vfs::{
        dentry::OwnDentry,
        file::OwnFile,
        map::{is_watchable, page_inode, Answer, Fault, Map},
        table::file::MapHooks, //
    }, //
};
use kernel::prelude::*;

impl MapHooks for Stack {
    fn map(file: &OwnFile, map: &Map) -> Result {
        if !map.may_change_file() {
            return map.map_lower(file.lower()).inspect(|()| file.accessed());
        }
        let inode = file.own_inode();
        let pages = page_inode(file.lower());
        if !is_watchable(inode.lower()) || !is_watchable(pages) {
            return Err(ENODEV);
        }
        let lower = file.map_file()?;
        inode.note_pages(pages)?;
        backup::map(file, || map.map_watched(file, lower)).inspect(|()| file.accessed())
    }

    fn unmapped(file: &OwnFile) {
        file.own_inode().object().stores().unmapped();
    }

    fn store(file: &OwnFile, fault: Fault<'_>) -> Answer {
        // As ext4_page_mkwrite() has it. Under mmap_lock only the lower inode is looked at.
        if file.own_inode().lower().is_immutable() {
            return Answer::refused();
        }
        backup::store(file, fault)
    }

    fn sync(dentry: &OwnDentry, lower: impl FnOnce() -> Result) -> Result {
        super::file::sync(dentry, lower)
    }
}
