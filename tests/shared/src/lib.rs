// SPDX-License-Identifier: GPL-2.0

//! What the programs of tests/ share.

pub mod history;
pub mod mounts;
pub mod outcome;
pub mod printed;
pub mod shadow;
pub mod sys;
pub mod undo;

// At the path by which the module's files know this crate.
use loggerfs_log as log;

/// A raw CRC-32C update, as the module's files ask for it: neither end is inverted.
pub fn crc32c(state: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!state, bytes)
}

#[cfg(test)]
mod tests {
    use super::crc32c;

    #[test]
    fn the_checksum_is_crc_32c() {
        assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
        assert_eq!(!crc32c(!0, &[0xff; 32]), 0x62a8_ab43);
        let bytes: Vec<u8> = (0..=255).collect();
        let (a, b) = bytes.split_at(77);
        assert_eq!(crc32c(crc32c(!0, a), b), crc32c(!0, &bytes));
    }
}
