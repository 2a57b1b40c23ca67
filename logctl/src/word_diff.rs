// SPDX-License-Identifier: MIT OR Apache-2.0

//! Differences of two texts by words. Words end at ASCII white space, so that no byte of another encoding
//! is taken apart.

use std::ops::Range;

use similar::{capture_diff_slices, Algorithm, DiffOp};

/// Texts with more words than this are not compared word by word.
const MOST_WORDS: usize = 20_000;

/// A part of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'t> {
    /// In both texts.
    Same(&'t [u8]),
    /// Only in the old one.
    Removed(&'t [u8]),
    /// Only in the new one.
    Added(&'t [u8]),
}

/// A part of both texts, as ranges of bytes.
struct Part {
    is_same: bool,
    old: Range<usize>,
    new: Range<usize>,
}

/// Compares two texts. No piece is empty.
pub fn pieces<'t>(old: &'t [u8], new: &'t [u8]) -> Vec<Piece<'t>> {
    let mut pieces = Vec::new();
    for part in joined(parts(old, new), old) {
        let (old, new) = (&old[part.old], &new[part.new]);
        if part.is_same {
            pieces.push(Piece::Same(new));
            continue;
        }
        pieces.extend((!old.is_empty()).then_some(Piece::Removed(old)));
        pieces.extend((!new.is_empty()).then_some(Piece::Added(new)));
    }
    pieces
}

fn parts(old: &[u8], new: &[u8]) -> Vec<Part> {
    let (old_words, new_words) = (words(old), words(new));
    if old_words.len() + new_words.len() > MOST_WORDS {
        return vec![Part {
            is_same: old == new,
            old: 0..old.len(),
            new: 0..new.len(),
        }];
    }
    let (old_ends, new_ends) = (ends(&old_words), ends(&new_words));
    let bytes = |ends: &[usize], words: Range<usize>| ends[words.start]..ends[words.end];
    let operations = capture_diff_slices(Algorithm::Myers, &old_words, &new_words);
    // Where nothing is taken or given, the position that an operation has means nothing.
    let (mut old_at, mut new_at) = (0, 0);
    let part = |operation: &DiffOp| {
        let (old_begin, new_begin) = (old_at, new_at);
        old_at += operation.old_range().len();
        new_at += operation.new_range().len();
        Part {
            is_same: matches!(operation, DiffOp::Equal { .. }),
            old: bytes(&old_ends, old_begin..old_at),
            new: bytes(&new_ends, new_begin..new_at),
        }
    };
    operations.iter().map(part).collect()
}

/// Joins neighbours that differ, and blanks between two of them: `a b` and `c d` differ as a whole.
fn joined(parts: Vec<Part>, old: &[u8]) -> Vec<Part> {
    let is_blank = |part: &Part| {
        let text = &old[part.old.clone()];
        text.iter().all(|byte| is_space(*byte) && *byte != b'\n')
    };
    let differs = |part: Option<&Part>| part.is_some_and(|part| !part.is_same);
    let mut joined: Vec<Part> = Vec::new();
    let mut rest = parts.into_iter().peekable();
    while let Some(mut part) = rest.next() {
        let is_between = differs(joined.last()) && differs(rest.peek());
        part.is_same &= !(is_between && is_blank(&part));
        match joined
            .last_mut()
            .filter(|last| last.is_same == part.is_same)
        {
            Some(last) => (last.old.end, last.new.end) = (part.old.end, part.new.end),
            None => joined.push(part),
        }
    }
    joined
}

fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace()
}

/// Words, blanks between them, and ends of lines, each by itself.
fn words(text: &[u8]) -> Vec<&[u8]> {
    let is_joined =
        |one: &u8, next: &u8| *one != b'\n' && *next != b'\n' && is_space(*one) == is_space(*next);
    text.chunk_by(is_joined).collect()
}

/// Where each word begins, and where the last one ends.
fn ends(words: &[&[u8]]) -> Vec<usize> {
    let mut ends = vec![0];
    let mut end = 0;
    for word in words {
        end += word.len();
        ends.push(end);
    }
    ends
}
