// SPDX-License-Identifier: GPL-2.0

//! Mappings.
//!
//! Stores through a writable shared mapping are not captured yet: each such mapping leaves a line
//! that says so, and revert is refused while one exists or existed since the last `left` line.

use super::Stack;
use crate::{
    backup,
    vfs::{file::OwnFile, range::Map, table::file::MapHooks}, //
};
use kernel::prelude::*;

impl MapHooks for Stack {
    fn map(file: &OwnFile, map: &Map) -> Result {
        if !map.may_change_file() || !file.is_writable() {
            return map.map_lower(file);
        }
        backup::map(file.own_inode(), file.open(), map.range(), || {
            map.map_lower(file)
        })
    }
}
