// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Texts that are written to many lines, and encoded once.

use super::{buffer::STEP, fields::Value, FixedBuffer};

/// A short text in `M` bytes.
#[derive(Clone, Copy)]
pub(super) struct Cached<const M: usize> {
    bytes: [u8; M],
    len: usize,
}

impl<const M: usize> Cached<M> {
    const EMPTY: Self = Self {
        bytes: [0; M],
        len: 0,
    };

    /// The text that `write` writes. `None`: it does not fit.
    #[inline(always)]
    pub(super) fn new(write: impl FnOnce(&mut FixedBuffer<'_, M>)) -> Option<Self> {
        let mut bytes = [0; M];
        let mut text = FixedBuffer::new(&mut bytes);
        write(&mut text);
        let len = text.whole()?;
        Some(Self { bytes, len })
    }
}

impl<const M: usize> Value for &Cached<M> {
    #[inline(always)]
    fn put<const N: usize>(self, text: &mut FixedBuffer<'_, N>) {
        text.chunk(&self.bytes, self.len);
    }
}

/// The value that a field had last, and its text.
#[derive(Clone, Copy)]
pub(super) struct LastValue<T, const M: usize> {
    value: T,
    text: Cached<M>,
}

impl<T: Value + Default + Copy, const M: usize> Default for LastValue<T, M> {
    /// Begins with zero, whose text fits into any of these.
    fn default() -> Self {
        let value = T::default();
        let text = Cached::new(|text| value.put(text)).unwrap_or(Cached::EMPTY);
        Self { value, text }
    }
}

impl<T: Value + PartialEq + Copy, const M: usize> LastValue<T, M> {
    /// As `value`, which is likely the last one, and becomes it.
    #[inline(always)]
    pub(super) fn or(&mut self, value: T) -> Likely<'_, T, M> {
        Likely { value, last: self }
    }
}

/// A value that is likely the same as last time.
pub(super) struct Likely<'a, T, const M: usize> {
    value: T,
    last: &'a mut LastValue<T, M>,
}

impl<T: Value + PartialEq + Copy, const M: usize> Value for Likely<'_, T, M> {
    #[inline(always)]
    fn put<const N: usize>(self, text: &mut FixedBuffer<'_, N>) {
        if self.last.value != self.value {
            let Some(new) = Cached::new(|text| self.value.put(text)) else {
                return text.apart(|text| self.value.put(text));
            };
            self.last.value = self.value;
            self.last.text = new;
        }
        self.last.text.put(text);
    }
}

/// Encoded text, such as the executable's path, padded with zeroes to a multiple of eight bytes.
#[derive(Clone, Copy)]
pub struct PaddedText<'a> {
    bytes: &'a [u8],
    len: usize,
}

impl<'a> PaddedText<'a> {
    /// How many bytes a text of `len` bytes is made to take.
    pub const fn length(len: usize) -> usize {
        len.next_multiple_of(STEP)
    }

    /// The text of `len` bytes at the beginning of `bytes`. `None`: the text is empty or `bytes` is
    /// not padded.
    pub fn new(bytes: &'a [u8], len: usize) -> Option<Self> {
        (len != 0 && bytes.len() == Self::length(len)).then_some(Self { bytes, len })
    }
}

impl Value for PaddedText<'_> {
    #[inline(always)]
    fn put<const N: usize>(self, text: &mut FixedBuffer<'_, N>) {
        text.steps(self.bytes, self.len);
    }
}
