// SPDX-License-Identifier: GPL-2.0

//! The expected content of a file: a copy in memory with an undo of its own, and repeatable random
//! numbers.

/// SplitMix64.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    #[expect(
        clippy::should_implement_trait,
        reason = "the numbers do not end, and an iterator's end would have to be handled"
    )]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// A number below `limit`, which must not be 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

/// `length` bytes that encode their position and their writer.
pub fn pattern(whose: u64, length: usize) -> Vec<u8> {
    Random::new(whose.wrapping_mul(0x1_0001)).bytes(length)
}

/// The bytes that one change removed.
struct Change {
    offset: usize,
    old: Vec<u8>,
    size: usize,
}

/// A file in memory with all its earlier states.
#[derive(Default)]
pub struct Shadow {
    bytes: Vec<u8>,
    changes: Vec<Change>,
}

impl Shadow {
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// How many changes can be taken back.
    pub fn depth(&self) -> usize {
        self.changes.len()
    }

    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        let (size, end) = (self.size(), offset + bytes.len());
        let from = offset.min(size);
        self.remember(from, end.min(size).max(from), size);
        if end > size {
            self.bytes.resize(end, 0);
        }
        self.bytes[offset..end].copy_from_slice(bytes);
    }

    pub fn truncate(&mut self, new: usize) {
        let size = self.size();
        self.remember(new.min(size), size, size);
        self.bytes.resize(new, 0);
    }

    /// Zeroes a range, as far as there is something.
    pub fn zero(&mut self, offset: usize, length: usize) {
        let size = self.size();
        let (from, to) = (offset.min(size), (offset + length).min(size));
        self.remember(from, to, size);
        self.bytes[from..to].fill(0);
    }

    /// Takes a range out, or puts zeroes in.
    pub fn shift(&mut self, offset: usize, length: usize, inserts: bool) {
        let size = self.size();
        self.remember(offset, size, size);
        let tail = self.bytes.split_off(offset);
        if inserts {
            self.bytes.resize(offset + length, 0);
            self.bytes.extend(tail);
        } else {
            self.bytes.extend(&tail[length..]);
        }
    }

    fn remember(&mut self, from: usize, to: usize, size: usize) {
        self.changes.push(Change {
            offset: from,
            old: self.bytes[from..to].to_vec(),
            size,
        });
    }

    /// Takes back the newest change; false when there is none.
    pub fn undo(&mut self) -> bool {
        let Some(change) = self.changes.pop() else {
            return false;
        };
        self.bytes.resize(change.size, 0);
        self.bytes[change.offset..change.offset + change.old.len()].copy_from_slice(&change.old);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_comes_back() {
        let mut random = Random::new(7);
        let mut shadow = Shadow::default();
        let mut states = Vec::new();
        for _ in 0..500 {
            states.push(shadow.bytes().to_vec());
            let at = random.below(3000) as usize;
            if random.below(4) == 0 {
                shadow.truncate(at);
            } else {
                let length = 1 + random.below(700) as usize;
                let bytes = random.bytes(length);
                shadow.write(at, &bytes);
                assert_eq!(&shadow.bytes()[at..at + length], &bytes[..]);
            }
        }
        while let Some(state) = states.pop() {
            assert_eq!(shadow.depth(), states.len() + 1);
            assert!(shadow.undo());
            assert_eq!(shadow.bytes(), &state[..]);
        }
        assert!(!shadow.undo());
    }
}
