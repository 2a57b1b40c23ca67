// SPDX-License-Identifier: GPL-2.0

//! Host tests of the history's rooms that need no kernel: the very files the module is built of.

#![forbid(unsafe_code)]
#![allow(dead_code)]

mod history;
/// The reference of the guest's oracle.
#[path = "../../guest/src/shadow.rs"]
mod shadow;
#[cfg(test)]
mod tests;

/// A raw CRC-32C update, bit by bit.
#[cfg(test)]
fn crc32c(state: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(state, |state, byte| {
        (0..8).fold(state ^ u32::from(*byte), |s, _| {
            (s >> 1) ^ (0x82f6_3b78 & (s & 1).wrapping_neg())
        })
    })
}
