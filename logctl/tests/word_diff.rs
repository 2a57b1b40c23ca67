// SPDX-License-Identifier: MIT OR Apache-2.0

//! Differences by words: pure, and as `diff --word` prints them.

#[path = "support/mount.rs"]
mod mount;

use logctl::arguments::normalize;
use logctl::cli::parse;
use logctl::word_diff::{pieces, Piece};
use mount::{history, run};
use proptest::prelude::*;

/// The comparison, as it is printed without colours.
fn shown(old: &str, new: &str) -> String {
    let text = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
    let pieces = pieces(old.as_bytes(), new.as_bytes());
    let shown = pieces.into_iter().map(|piece| match piece {
        Piece::Same(same) => text(same),
        Piece::Removed(removed) => format!("[-{}-]", text(removed)),
        Piece::Added(added) => format!("{{+{}+}}", text(added)),
    });
    shown.collect()
}

#[test]
fn words_are_compared() {
    assert_eq!(shown("", ""), "");
    assert_eq!(shown("a b c", "a b c"), "a b c");
    assert_eq!(
        shown("port = 80;", "port = 8080;"),
        "port = [-80;-]{+8080;+}"
    );
    assert_eq!(shown("a b c", "a c"), "a [-b -]c");
    assert_eq!(shown("a c", "a b c"), "a {+b +}c");
    // A blank that both have between changed words joins them.
    assert_eq!(shown("a b c d", "a x y d"), "a [-b c-]{+x y+} d");
    // Blanks count, and lines stay apart.
    assert_eq!(shown("a  b", "a b"), "a[-  -]{+ +}b");
    assert_eq!(shown("a\nb", "x\ny"), "[-a-]{+x+}\n[-b-]{+y+}");
    assert_eq!(shown("naïve é", "naïve è"), "naïve [-é-]{+è+}");
}

#[test]
fn long_texts_differ_as_a_whole() {
    let old = "a ".repeat(20_000);
    let new = format!("{old}b");
    assert_eq!(shown(&old, &new), format!("[-{old}-]{{+{new}+}}"));
}

/// Bytes with blanks and line ends among them, often some that are no UTF-8.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop::sample::select(b"ab \t\n\xff\xc3\xa9\x80".to_vec());
    prop::collection::vec(byte, 0..40)
}

proptest! {
    #[test]
    fn both_texts_are_in_the_pieces(old in bytes(), new in bytes()) {
        let (mut left, mut right): (Vec<u8>, Vec<u8>) = Default::default();
        for piece in pieces(&old, &new) {
            match piece {
                Piece::Same(text) => {
                    left.extend(text);
                    right.extend(text);
                }
                Piece::Removed(text) => left.extend(text),
                Piece::Added(text) => right.extend(text),
            }
            let (Piece::Same(text) | Piece::Removed(text) | Piece::Added(text)) = piece;
            prop_assert!(!text.is_empty());
        }
        prop_assert_eq!(left, old);
        prop_assert_eq!(right, new);
    }
}

/// A mount whose file `notes` had and has these contents.
fn diff(old: &[u8], new: &[u8], words: &str) -> String {
    let (mut kernel, files) = history();
    kernel.contents.clear();
    kernel.holds(4, 2, old);
    kernel.holds(4, 6, new);
    let (code, said, complaint) = run(&mut kernel, &files, words);
    assert_eq!(code, 0, "{complaint}");
    said
}

#[test]
fn changed_words_are_printed_inside_of_lines() {
    let (old, new) = (b"one\ntwo three\nend\n", b"one\ntwo four\nend\n");
    let head = "diff a/notes b/notes\n--- a/notes\n+++ b/notes\n";
    let hunk = "@@ -1,3 +1,3 @@\none\ntwo [-three-]{+four+}\nend\n";
    assert_eq!(diff(old, new, "diff 6 --word"), format!("{head}{hunk}"));
    for words in ["show 6 --diff --word", "log -P --word -n 1 /m/notes"] {
        assert!(
            diff(old, new, words).contains(&format!("{head}{hunk}")),
            "{words}"
        );
    }
    // Whole lines, also empty ones.
    let said = diff(b"a\n", b"a\n\nb c\n", "diff 6 --word");
    assert!(said.ends_with("@@ -1 +1,3 @@\na\n\n{+b c+}\n"), "{said}");
    let said = diff(b"a\nb\n", b"a\n", "diff 6 --word");
    assert!(said.ends_with("@@ -1,2 +1 @@\na\n[-b-]\n"), "{said}");
    // The other options have no lines.
    for words in ["diff 6 --word --stat", "log --word", "show 6 --word"] {
        let line = format!("logctl {words}");
        let arguments = line.split(' ').map(Into::into);
        assert!(parse(normalize(arguments)).is_err(), "{words}");
    }
}

#[test]
fn a_missing_end_of_the_last_line_is_shown() {
    let said = diff(b"a b\n", b"a c", "diff 6 --word");
    let want = "a [-b-]{+c+}\n{+\\ No newline at end of file+}\n";
    assert!(said.ends_with(want), "{said}");
    let said = diff(b"a", b"a\n", "diff 6 --word");
    assert!(
        said.ends_with("a\n[-\\ No newline at end of file-]\n"),
        "{said}"
    );
    let said = diff(b"a\nb", b"x\nb", "diff 6 --word");
    assert!(
        said.ends_with("[-a-]{+x+}\nb\n\\ No newline at end of file\n"),
        "{said}"
    );
}

#[test]
fn other_bytes_and_orders_to_a_terminal_are_shown_as_such() {
    let said = diff(b"a \xff\xfe b\n", b"a \xff\x1b[m b\n", "diff 6 --word");
    let want = "a [-\\xff\\xfe-]{+\\xff\\u{1b}[m+} b\n";
    assert!(said.ends_with(want), "{said}");
}
