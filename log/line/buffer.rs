// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The buffer that all text of the log is written to.
//!
//! A store writes eight bytes, of which only the wanted ones count. The size is a constant, so that
//! a store costs one comparison; nothing that is not inlined gets a reference to the whole buffer,
//! so that its length is in a register. The values and keys of a line are in [`super::fields`].

use core::fmt;

/// Text is stored this many bytes at a time.
pub(super) const STEP: usize = 8;

/// The length of a text in which something did not fit: as an offset, it is beyond any buffer.
const SHORT: usize = usize::MAX >> 1;

/// Text in a buffer of `N` bytes. Once something did not fit, further text is ignored until
/// `rewind()`.
pub struct FixedBuffer<'b, const N: usize> {
    bytes: &'b mut [u8; N],
    /// The number of bytes written, or [`SHORT`].
    len: usize,
}

impl<'b, const N: usize> FixedBuffer<'b, N> {
    /// Empty text.
    pub fn new(bytes: &'b mut [u8; N]) -> Self {
        Self { bytes, len: 0 }
    }

    /// Empty text at the beginning of `bytes`. `None`: these are fewer than `N`.
    pub fn at(bytes: &'b mut [u8]) -> Option<Self> {
        bytes.first_chunk_mut().map(Self::new)
    }

    /// The number of bytes written; more than `N` if something did not fit.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether something did not fit.
    pub fn is_short(&self) -> bool {
        self.len == SHORT
    }

    /// The length of the text; `None` if something did not fit.
    pub fn whole(&self) -> Option<usize> {
        (!self.is_short()).then_some(self.len)
    }

    /// The bytes written; empty if something did not fit.
    pub fn written(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Goes back to an earlier length, from before something did not fit.
    pub(super) fn rewind(&mut self, len: usize) {
        self.len = len;
    }

    /// Takes the range [start, end) out of the text.
    pub(super) fn remove(&mut self, start: usize, end: usize) {
        let count = end.saturating_sub(start);
        if let Some(part) = self.bytes.get_mut(start..self.len) {
            if count <= part.len() {
                part.rotate_left(count);
                self.len = self.len.saturating_sub(count);
            }
        }
    }

    /// Moves the text from `mark` to the end to `at`, before the text that was there.
    pub(super) fn move_back(&mut self, mark: usize, at: usize) {
        let len = self.len;
        if let Some(part) = self.bytes.get_mut(at..len) {
            let tail = len.saturating_sub(mark);
            if tail <= part.len() {
                part.rotate_right(tail);
            }
        }
    }

    /// Calls `write`, which may be a function that is not inlined, with a copy of the buffer's state.
    #[inline(always)]
    pub(super) fn apart(&mut self, write: impl FnOnce(&mut FixedBuffer<'_, N>)) {
        let mut text = FixedBuffer {
            bytes: &mut *self.bytes,
            len: self.len,
        };
        write(&mut text);
        self.len = text.len;
    }

    /// Adds text.
    #[inline(always)]
    pub fn put(&mut self, text: &[u8]) {
        let end = self.len.wrapping_add(text.len());
        match self.bytes.get_mut(self.len..end) {
            Some(room) => {
                room.copy_from_slice(text);
                self.len = end;
            }
            None => self.len = SHORT,
        }
    }

    /// Adds text whose length is a constant.
    #[inline(always)]
    pub(super) fn literal<const K: usize>(&mut self, text: &[u8; K]) {
        if K > STEP {
            return self.put(text);
        }
        let mut bytes = [0; STEP];
        for (to, from) in bytes.iter_mut().zip(text) {
            *to = *from;
        }
        self.eight(bytes, K);
    }

    /// Adds the first `count` of eight bytes.
    #[inline(always)]
    pub(super) fn eight(&mut self, bytes: [u8; STEP], count: usize) {
        let at = self.len;
        if at <= const { N.saturating_sub(STEP) } {
            if let Some(room) = self.bytes.get_mut(at..at.wrapping_add(STEP)) {
                room.copy_from_slice(&bytes);
                self.len = at.wrapping_add(count);
                return;
            }
        }
        self.apart(|text| text.put_eight_at_end(bytes, count));
    }

    /// Adds the first `count` of eight bytes where there is no space for all.
    // Not by reference: they would be stored for this call even if it is not made.
    #[cold]
    #[inline(never)]
    fn put_eight_at_end(&mut self, bytes: [u8; STEP], count: usize) {
        self.put_at_end(&bytes, count);
    }

    /// Adds the first `count` of some bytes where there is no space for all.
    #[cold]
    #[inline(never)]
    fn put_at_end(&mut self, bytes: &[u8], count: usize) {
        self.put(bytes.get(..count).unwrap_or_default());
    }

    /// Adds the first `count` of `M` bytes; more are stored where there is space.
    #[inline(always)]
    pub(super) fn chunk<const M: usize>(&mut self, bytes: &[u8; M], count: usize) {
        let at = self.len;
        if at <= const { N.saturating_sub(M) } {
            if let Some(room) = self.bytes.get_mut(at..at.wrapping_add(M)) {
                room.copy_from_slice(bytes);
                self.len = at.wrapping_add(count);
                return;
            }
        }
        self.apart(|text| text.put_at_end(bytes, count));
    }

    /// Adds the first `count` bytes of whole steps.
    #[inline(always)]
    pub(super) fn steps(&mut self, bytes: &[u8], count: usize) {
        let at = self.len;
        for step in bytes.chunks_exact(STEP) {
            let mut eight = [0; STEP];
            eight.copy_from_slice(step);
            self.eight(eight, STEP);
        }
        if !self.is_short() {
            self.len = at.wrapping_add(count);
        }
    }
}

impl<const N: usize> fmt::Write for FixedBuffer<'_, N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.put(text.as_bytes());
        self.whole().map(drop).ok_or(fmt::Error)
    }
}
