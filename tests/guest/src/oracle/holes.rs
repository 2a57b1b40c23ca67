// SPDX-License-Identifier: GPL-2.0

//! Where the holes of a file may differ from those before the reverted operations.
//!
//! A revert punches the bytes that were holes. A filesystem frees whole blocks only: a block that an
//! operation covered in part holds zeroes afterwards, because the history knows the covered bytes only. For a
//! store through a mapping, the filesystem allocates all that the page cache keeps in one folio with the page
//! (ext4); on tmpfs, reading a hole through a mapping allocates a page, and this test reads all mappings
//! after each revert. tmpfs does not report allocated space: space that was allocated ahead appears as data
//! after a page of it was read, and as a hole otherwise, so that files there that had such space are not
//! checked. Neither are files on xfs, which preallocates on its own and reserves space for copies of shared
//! blocks: they are only counted. All other differences are failures.

use std::collections::{BTreeMap, BTreeSet};

use super::state::State;
use crate::undo::Line;

const BLOCK: u64 = 4096;

/// How many blocks a file has at most, or a mapping.
const MOST: u64 = 64;

/// The records of all files, by inode number.
#[derive(Default)]
pub struct Holes {
    /// The blocks that may have zeroes where there was a hole.
    worn: BTreeMap<u64, BTreeSet<u64>>,
    /// The files of which nothing is said: that have had space allocated ahead, where only data shows.
    unclear: BTreeSet<u64>,
}

impl Holes {
    /// An operation was done on a filesystem that reports data, but not allocated space.
    pub fn done_unclearly(&mut self, line: &Line) {
        if let Some(inode) = inode(line).filter(|_| ["allocate", "zero"].contains(&&*line.op)) {
            self.unclear.insert(inode);
        }
    }

    /// An operation is taken back, or was and is done again.
    pub fn taken(&mut self, line: &Line) {
        let Some(inode) = inode(line) else {
            return;
        };
        let worn = self.worn.entry(inode).or_default();
        if ["collapse", "insert"].contains(&&*line.op) {
            worn.extend(line.offset / BLOCK..MOST);
        }
        let size = line.key("size").and_then(|size| size.parse().ok());
        let edges = [Some(line.offset), Some(line.offset + line.length), size];
        let edges = edges.into_iter().flatten();
        worn.extend(edges.filter(|at| at % BLOCK != 0).map(|at| at / BLOCK));
    }

    /// The file was stored to through a mapping, was mapped on tmpfs, or shares blocks.
    pub fn loosened(&mut self, inode: u64) {
        self.worn.entry(inode).or_default().extend(0..MOST);
    }

    /// Where there is data instead of a hole, or a hole instead of data, and must not be; nothing:
    /// nowhere.
    pub fn difference(&self, got: &State, want: &State) -> Option<String> {
        if self.unclear.contains(&want.inode) {
            return None;
        }
        let (is, was) = (blocks(&got.data), blocks(&want.data));
        let worn = self.worn.get(&want.inode);
        let is_worn = |block: &&u64| worn.is_some_and(|worn| worn.contains(block));
        if let Some(block) = is.difference(&was).find(|block| !is_worn(block)) {
            return Some(format!("holes: data in block {block}, where a hole was"));
        }
        let lost = was.difference(&is).next();
        lost.map(|block| format!("holes: a hole in block {block}, where data was"))
    }
}

fn inode(line: &Line) -> Option<u64> {
    line.key("obj")?.split('.').next()?.parse().ok()
}

fn blocks(data: &[(u64, u64)]) -> BTreeSet<u64> {
    let each = data.iter();
    each.flat_map(|(from, to)| from / BLOCK..to.div_ceil(BLOCK))
        .collect()
}
