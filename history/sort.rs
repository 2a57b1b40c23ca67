// SPDX-License-Identifier: GPL-2.0

//! Sorting in place, in bounded time and without stack: a heap sort.
//!
//! The core library's sort wants kilobytes of stack, of which a kernel thread has few.

/// Sorts `items` so that `less` holds from each to later ones.
pub(crate) fn sort<T>(items: &mut [T], less: impl Fn(&T, &T) -> bool) {
    let len = items.len();
    for start in (0..len / 2).rev() {
        sift(items, start, len, &less);
    }
    for end in (1..len).rev() {
        items.swap(0, end);
        sift(items, 0, end, &less);
    }
}

/// Moves the item at `at` down to its position in the heap of the first `end` items.
fn sift<T>(items: &mut [T], at: usize, end: usize, less: &impl Fn(&T, &T) -> bool) {
    let mut at = at;
    loop {
        let left = at.saturating_mul(2).saturating_add(1);
        let is_less = |a: usize, b: usize| match (items.get(a), items.get(b)) {
            (Some(a), Some(b)) => less(a, b),
            _ => false,
        };
        if left >= end {
            return;
        }
        let right = left.saturating_add(1);
        let child = if right < end && is_less(left, right) {
            right
        } else {
            left
        };
        if !is_less(at, child) {
            return;
        }
        items.swap(at, child);
        at = child;
    }
}
