// SPDX-License-Identifier: GPL-2.0

//! Mappings.
//!
//! Stores through a writable shared mapping are not captured yet: each such mapping leaves a line
//! that says so, and revert is refused while one exists or existed since the last `left` line.

use super::Stack;
use crate::{
    backup::{self, Intent, Loses},
    history::line::Op,
    vfs::{file::OwnFile, range::Map, table::file::MapHooks}, //
};
use kernel::prelude::*;

impl MapHooks for Stack {
    fn map(file: &OwnFile, map: &Map) -> Result {
        if !map.may_change_file() || !file.is_writable() {
            return map.map_lower(file);
        }
        let inode = file.own_inode();
        let (at, length) = map.range();
        let pending = Intent {
            inode,
            open: Some(file.open()),
            op: Op::Mmap,
            at,
            length,
            loses: Loses::Unsaved("mmap"),
            durable: false,
        }
        .prepare()?;
        // Before the mapping exists: a revert that comes in between is refused in vain, not wrong.
        backup::mapped(inode);
        let result = map.map_lower(file);
        pending.settle(result.map(|()| length));
        result
    }
}
