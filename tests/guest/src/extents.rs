// SPDX-License-Identifier: GPL-2.0

//! Where a file has space, holding something or not.

use std::fs::File;

use rustix::io::Errno;

use crate::outcome::{check, At, Outcome};
use crate::sys;

/// `FS_IOC_FIEMAP`, whose structure has 32 bytes before its extents of 56.
const FIEMAP: u64 = 0xc020_660b;

/// How many extents are asked for.
const MOST: usize = 256;

/// The allocated ranges of a file, ascending, neighbours joined. `None`: the filesystem does not
/// report them.
pub fn of(file: &File) -> Outcome<Option<Vec<(u64, u64)>>> {
    let mut words = [0; 4 + 7 * MOST];
    words[1] = u64::MAX >> 1;
    words[3] = MOST as u64;
    match sys::ioctl_words(file, FIEMAP, &mut words) {
        Err(e) if e.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => return Ok(None),
        answer => answer.at("FIEMAP")?,
    };
    let count = (words[2] >> 32) as usize;
    check!(count < MOST, "{count} extents, and perhaps more");
    let mut found: Vec<(u64, u64)> = Vec::new();
    for extent in words[4..].chunks_exact(7).take(count) {
        let (start, end) = (extent[0], extent[0] + extent[2]);
        match found.last_mut() {
            Some(last) if last.1 == start => last.1 = end,
            _ => found.push((start, end)),
        }
    }
    Ok(Some(found))
}
