// SPDX-License-Identifier: GPL-2.0

//! Memory whose pages are missing until they are filled.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use super::{done, ioctl_words, Map};

/// Anonymous memory whose page faults complete only after [`Missing::fill`]: its userfaultfd has no
/// handler.
pub struct Missing {
    map: Map,
    faults: OwnedFd,
}

// SAFETY: only the kernel reads the memory, and fills it.
unsafe impl Sync for Missing {}

impl Missing {
    /// So many bytes, of which the first `present` are there.
    pub fn new(length: usize, present: usize) -> io::Result<Missing> {
        const API: u64 = 0xC018_AA3F;
        const REGISTER: u64 = 0xC020_AA00;
        const MISSING: u64 = 1;
        // SAFETY: plain numbers.
        let fd = done(unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) })?;
        // SAFETY: the kernel gave us this descriptor.
        let faults = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        ioctl_words(&faults, API, &mut [0xAA, 0, 0])?;
        let mut map = Map::anonymous(length)?;
        if present != 0 {
            map.store(0, &vec![7; present]);
        }
        let range = [map.start as u64, length as u64, MISSING, 0];
        ioctl_words(&faults, REGISTER, &mut range.clone())?;
        Ok(Missing { map, faults })
    }

    /// Fills whole missing pages with zeroes, and wakes those that wait for them.
    pub fn fill(&self, at: usize, length: usize) -> io::Result<()> {
        const ZEROPAGE: u64 = 0xC020_AA04;
        assert!(at + length <= self.map.length);
        let start = self.map.start as u64 + at as u64;
        ioctl_words(&self.faults, ZEROPAGE, &mut [start, length as u64, 0, 0]).map(drop)
    }

    /// Writes the memory to a file.
    pub fn write_to(&self, file: &impl AsFd) -> io::Result<usize> {
        let fd = file.as_fd().as_raw_fd();
        // SAFETY: the mapping is as long as that; the kernel faults where a page is missing.
        let value = unsafe { libc::write(fd, self.map.start.cast(), self.map.length) };
        done(value as libc::c_long)
    }
}
