// SPDX-License-Identifier: GPL-2.0

//! Reduces a failing sequence: leaves out parts as long as the rest still fails.

use std::time::{Duration, Instant};

/// A part of `actions` that still fails, from which no single one can be left out; or the shortest that
/// was found in that time.
pub fn reduced<T: Clone>(
    actions: &[T],
    most: Duration,
    mut fails: impl FnMut(&[T]) -> bool,
) -> Vec<T> {
    let end = Instant::now() + most;
    let mut kept = actions.to_vec();
    let mut size = kept.len().div_ceil(2).max(1);
    loop {
        let before = kept.len();
        // From the end on: the last actions are needed least often.
        let mut to = kept.len();
        while to > 0 && Instant::now() < end {
            let from = to.saturating_sub(size);
            let mut tried = kept[..from].to_vec();
            tried.extend_from_slice(&kept[to..]);
            if fails(&tried) {
                kept = tried;
            }
            to = from;
        }
        if Instant::now() >= end || (size == 1 && kept.len() == before) {
            return kept;
        }
        size = (size / 2).max(1);
    }
}
