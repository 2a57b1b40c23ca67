// SPDX-License-Identifier: GPL-2.0 OR MIT

//! A binary heap in the front part of a slice: sorting and choosing without recursion and
//! without an allocator.

/// Swaps two items; does nothing where one does not exist.
pub(super) fn swap<T>(items: &mut [T], a: usize, b: usize) {
    if a < items.len() && b < items.len() {
        items.swap(a, b);
    }
}

/// Whether the item at `a` belongs above the one at `b`.
fn is_above<T>(items: &[T], a: usize, b: usize, above: fn(&T, &T) -> bool) -> bool {
    match (items.get(a), items.get(b)) {
        (Some(a), Some(b)) => above(a, b),
        _ => false,
    }
}

/// Adds the item after a heap of `len` items to the heap.
pub(super) fn push<T>(items: &mut [T], len: usize, above: fn(&T, &T) -> bool) {
    let mut at = len;
    while at > 0 {
        let parent = (at - 1) / 2;
        if !is_above(items, at, parent, above) {
            return;
        }
        swap(items, at, parent);
        at = parent;
    }
}

/// Moves the top of a heap of `len` items to the position after the remaining heap.
pub(super) fn pop<T>(items: &mut [T], len: usize, above: fn(&T, &T) -> bool) {
    let Some(last) = len.checked_sub(1) else {
        return;
    };
    swap(items, 0, last);
    let mut at: usize = 0;
    loop {
        let left = at.saturating_mul(2).saturating_add(1);
        let right = left.saturating_add(1);
        if left >= last {
            return;
        }
        let child = if right < last && is_above(items, right, left, above) {
            right
        } else {
            left
        };
        if !is_above(items, child, at, above) {
            return;
        }
        swap(items, at, child);
        at = child;
    }
}

/// Sorts: an item that is above another goes after it.
pub(super) fn sort<T>(items: &mut [T], above: fn(&T, &T) -> bool) {
    for len in 0..items.len() {
        push(items, len, above);
    }
    for len in (1..=items.len()).rev() {
        pop(items, len, above);
    }
}
