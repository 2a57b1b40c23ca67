// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The arguments that a program was started with, from its memory, which it may have changed.

use super::MAX_ARGS;

/// Bit `n` (of word `n / 64`): an argument begins at byte `n` of the text.
pub type ArgumentStarts = [u64; MAX_ARGS / 64];

/// Puts the arguments in `text` into the form of `args=`: separated by NUL, without the last one's
/// NUL. Works in place and returns the used part.
///
/// A NUL inside an argument was put there by the program itself. GNU mkdir -p does that for each
/// directory of a path before it makes the directory. With `directory`, the name of the directory
/// that is being made or removed, the byte was a `/` if the name ends right before the only NUL of
/// an argument. Otherwise the byte is not known. An argument's end is then left out, and the parts of
/// an argument that was cut in the middle appear as several.
///
/// Without `starts`, nothing is known of the arguments' ends: the program has changed `argv`. Then
/// NULs at the end are no arguments: a program that set a title left them there.
pub fn started_arguments<'t>(
    text: &'t mut [u8],
    starts: Option<&ArgumentStarts>,
    directory: Option<&[u8]>,
) -> &'t [u8] {
    let Some(starts) = starts.filter(|starts| are_ends(text, starts)) else {
        return without_nuls(text);
    };
    let (mut from, mut to) = (0, 0);
    while from < text.len() {
        let next = (from.saturating_add(1)..text.len()).find(|at| begins(starts, *at));
        let end = next.unwrap_or(text.len());
        let argument = text.get_mut(from..end).unwrap_or(&mut []);
        let length = mended(argument, directory, next.is_some() || end < MAX_ARGS);
        for at in from..from.saturating_add(length) {
            put(text, to, text.get(at).copied().unwrap_or(0));
            to = to.saturating_add(1);
        }
        // Never beyond `end`: the argument's own NUL was there.
        if next.is_some() {
            put(text, to, 0);
            to = to.saturating_add(1);
        }
        from = end;
    }
    text.get(..to).unwrap_or(&[])
}

/// Restores a `/` that the program replaced by NUL. Returns the argument's length, without NULs at
/// its end. `is_whole`: it has its NUL.
fn mended(argument: &mut [u8], directory: Option<&[u8]>, is_whole: bool) -> usize {
    let length = argument.len().saturating_sub(usize::from(is_whole));
    let argument = argument.get_mut(..length).unwrap_or(&mut []);
    let mut cuts = argument.iter().enumerate().filter(|(_, byte)| **byte == 0);
    if let (Some((at, _)), None, Some(name)) = (cuts.next(), cuts.next(), directory) {
        let before = argument.get(..at).unwrap_or(&[]);
        if before.rsplit(|byte| *byte == b'/').next() == Some(name) {
            put(argument, at, b'/');
        }
    }
    without_nuls(argument).len()
}

/// The text before the NULs at its end.
fn without_nuls(text: &[u8]) -> &[u8] {
    let last = text.iter().rposition(|byte| *byte != 0);
    let length = last.map_or(0, |last| last.saturating_add(1));
    text.get(..length).unwrap_or(&[])
}

fn put(text: &mut [u8], at: usize, byte: u8) {
    if let Some(place) = text.get_mut(at) {
        *place = byte;
    }
}

/// Whether the text begins with an argument, and each other one comes after a NUL.
fn are_ends(text: &[u8], starts: &ArgumentStarts) -> bool {
    let follows_nul = |at: usize| text.get(at.wrapping_sub(1)) == Some(&0);
    begins(starts, 0) && (1..text.len()).all(|at| !begins(starts, at) || follows_nul(at))
}

fn begins(starts: &ArgumentStarts, at: usize) -> bool {
    let word = starts.get(at / 64).copied().unwrap_or(0);
    word >> (at % 64) & 1 == 1
}
