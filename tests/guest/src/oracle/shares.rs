// SPDX-License-Identifier: GPL-2.0

//! Operations that share blocks of two files: reflinks of ranges, and deduplication.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use rustix::io::Errno;

use super::op::Op;
use crate::sys;

/// `FICLONERANGE`, with a structure of 32 bytes.
const CLONE_RANGE: u64 = 0x4020_940d;
/// `FIDEDUPERANGE`, with a structure of 24 bytes, and one of 32 for each file.
const DEDUPE_RANGE: u64 = 0xc018_9436;

const BLOCK: u64 = 4096;

/// Some whole blocks of the first file, or all up to its end, in place of some of the second.
pub fn clone_range(op: &Op, from: &File, to: &File) -> io::Result<()> {
    let blocks = from.metadata()?.len() / BLOCK + 1;
    let start = op.salt % blocks * BLOCK;
    // Nothing: up to the end.
    let length = op.length % 3 * BLOCK;
    let mut words = [
        from.as_raw_fd() as u64,
        start,
        length,
        op.at / BLOCK * BLOCK,
    ];
    sys::ioctl_words(&to, CLONE_RANGE, &mut words).map(drop)
}

/// Writes whole blocks of the first file into the second, and has both share them then.
pub fn dedupe(op: &Op, from: &File, to: &File) -> io::Result<()> {
    let blocks = from.metadata()?.len() / BLOCK;
    if blocks == 0 {
        return Err(Errno::INVAL.into());
    }
    let start = op.salt % blocks * BLOCK;
    let most = (blocks - start / BLOCK).min(1 + op.length % 3) * BLOCK;
    let mut bytes = vec![0; most as usize];
    from.read_exact_at(&mut bytes, start)?;
    let at = op.at / BLOCK * BLOCK;
    to.write_all_at(&bytes, at)?;
    let mut words = [start, most, 1, to.as_raw_fd() as u64, at, 0, 0];
    sys::ioctl_words(&from, DEDUPE_RANGE, &mut words)?;
    match words[6] as u32 as i32 {
        0 => Ok(()),
        1 => Err(Errno::ILSEQ.into()),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}
