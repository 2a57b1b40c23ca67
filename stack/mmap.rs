// SPDX-License-Identifier: GPL-2.0

//! Memory mappings.
//!
//! ->page_mkwrite captures a page before the first store to the page. Private mappings never change
//! the file.

use super::Stack;
use crate::{
    backup,
    vfs::{
        dentry::UpperDentry,
        file::UpperFile,
        mmap::{is_watchable, page_inode, FaultResult, NewVma, WriteFault},
        table::file::MapHooks, //
    }, //
};
use kernel::prelude::*;

impl MapHooks for Stack {
    fn map(file: &UpperFile, map: NewVma<'_>) -> Result {
        // VM_MAYWRITE without VM_WRITE counts: mprotect() does not call the filesystem.
        if !map.may_change_file() {
            return map.map_lower(file.lower()).inspect(|()| file.accessed());
        }
        let inode = file.upper_inode();
        let pages = page_inode(file.lower());
        if !is_watchable(inode.lower()) || !is_watchable(pages) {
            return Err(ENODEV);
        }
        // ->mmap is called under mmap_lock: no wait for another program is possible here.
        let lower = file.mmap_lower_file()?;
        inode.note_pages(pages)?;
        backup::map(file, || map.map_watched(file, lower)).inspect(|()| file.accessed())
    }

    fn unmapped(file: &UpperFile) {
        file.upper_inode().object().mmap_writes().remove_mapping();
    }

    fn store(file: &UpperFile, fault: WriteFault<'_>) -> FaultResult {
        // As in ext4_page_mkwrite(). Uses the lower inode only: copying attributes is not possible
        // under mmap_lock.
        if file.upper_inode().lower().is_immutable() {
            return FaultResult::refused();
        }
        backup::store(file, fault)
    }

    fn sync(dentry: &UpperDentry, lower: impl FnOnce() -> Result) -> Result {
        super::file::sync(dentry, lower)
    }
}
