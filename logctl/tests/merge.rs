// SPDX-License-Identifier: MIT OR Apache-2.0

//! Three-way merges: a change is taken out, and other changes stay.

use logctl::merge::{merge, KeptLines, Markers, Merge};
use proptest::prelude::*;

fn merged(base: &str, undone: &str, now: &str) -> Merge {
    merge(base.as_bytes(), undone.as_bytes(), now.as_bytes(), None).unwrap()
}

/// The text, and how many hunks were taken back and kept.
fn outcome(base: &str, undone: &str, now: &str) -> (String, usize, usize) {
    let merge = merged(base, undone, now);
    assert_eq!(merge.hunks, merge.taken_back + merge.hunks_kept());
    let (back, kept) = (merge.taken_back, merge.hunks_kept());
    (String::from_utf8(merge.text).unwrap(), back, kept)
}

fn is(text: &str, back: usize, kept: usize) -> (String, usize, usize) {
    (text.to_owned(), back, kept)
}

#[test]
fn hunks_apart_from_other_changes_are_taken_back() {
    // Theirs: 1 became ONE, and 9 came; mine: 5 became five.
    assert_eq!(
        outcome(
            "ONE\n2\n3\n4\n5\n6\n7\n8\n9\n",
            "1\n2\n3\n4\n5\n6\n7\n8\n",
            "ONE\n2\n3\n4\nfive\n6\n7\n8\n9\n"
        ),
        is("1\n2\n3\n4\nfive\n6\n7\n8\n", 2, 0)
    );
    // Their line is gone, mine is there.
    assert_eq!(
        outcome("theirs\na\nb\nc\n", "a\nb\nc\n", "theirs\na\nb\nc\nmine\n"),
        is("a\nb\nc\nmine\n", 1, 0)
    );
    // A line that they removed comes back.
    assert_eq!(
        outcome("b\nc\nd\n", "a\nb\nc\nd\n", "b\nc\nd\nmine\n"),
        is("a\nb\nc\nd\nmine\n", 1, 0)
    );
}

#[test]
fn hunks_that_overlap_or_touch_stay() {
    let merge = merged(
        "0\nA\nb\nc\nD\n",
        "0\na\nb\nc\nd\n",
        "0\nmine\nmore\nb\nc\nD\n",
    );
    assert_eq!(merge.text, b"0\nmine\nmore\nb\nc\nd\n");
    let kept = KeptLines {
        line: 2,
        lines: 2,
        hunks: 1,
    };
    assert_eq!(
        (merge.hunks, merge.taken_back, merge.kept),
        (2, 1, vec![kept])
    );
    // The line after theirs.
    assert_eq!(
        outcome("A\nb\nc\n", "a\nb\nc\n", "A\nB\nc\n"),
        is("A\nB\nc\n", 0, 1)
    );
    // A line that was added right after one that they added.
    assert_eq!(
        outcome("a\nA\n", "a\n", "a\nA\nmine\n"),
        is("a\nA\nmine\n", 0, 1)
    );
    // Which of these lines is theirs is not known.
    assert_eq!(
        outcome("x\nx\nx\nx\n", "x\nx\nx\n", "y\nx\nx\nx\n"),
        is("y\nx\nx\nx\n", 0, 1)
    );
    // All of it was removed by others.
    let merge = merged("a\nA\nb\n", "a\nb\n", "");
    let kept = KeptLines {
        line: 1,
        lines: 0,
        hunks: 1,
    };
    assert_eq!((&merge.text[..], merge.kept), (&b""[..], vec![kept]));
}

#[test]
fn changes_that_are_gone_already_count_as_taken_back() {
    assert_eq!(
        outcome("A\nb\nc\nd\n", "a\nb\nc\nd\n", "a\nb\nc\nD\n"),
        is("a\nb\nc\nD\n", 1, 0)
    );
    assert_eq!(outcome("A\n", "a\n", "a\n"), is("a\n", 1, 0));
    assert_eq!(outcome("same\n", "same\n", "mine\n"), is("mine\n", 0, 0));
}

#[test]
fn ends_of_lines_are_bytes_like_others() {
    // Without a newline at the end.
    assert_eq!(
        outcome("A\nb\nc\nd", "a\nb\nc\nd", "A\nb\nc\nmine"),
        is("a\nb\nc\nmine", 1, 0)
    );
    assert_eq!(
        outcome("a\nb\nc\nd", "a\nb\nc\nd\n", "mine\na\nb\nc\nd"),
        is("mine\na\nb\nc\nd\n", 1, 0)
    );
    assert_eq!(
        outcome("a\nb", "a\nb\n", "a\nb\nmine"),
        is("a\nb\nmine", 0, 1)
    );
    // CRLF, and a change of all ends.
    assert_eq!(
        outcome("A\r\nb\r\nc\r\n", "a\r\nb\r\nc\r\n", "A\r\nb\r\nmine\r\n"),
        is("a\r\nb\r\nmine\r\n", 1, 0)
    );
    assert_eq!(
        outcome("a\r\nb\r\nc\r\n", "a\nb\nc\n", "a\r\nb\r\nC\r\n"),
        is("a\r\nb\r\nC\r\n", 0, 1)
    );
    // Empty texts.
    assert_eq!(outcome("", "", "mine\n"), is("mine\n", 0, 0));
    assert_eq!(outcome("a\n", "", "a\n"), is("", 1, 0));
    assert_eq!(outcome("", "a\n", ""), is("a\n", 1, 0));
    assert_eq!(outcome("", "a\n", "mine\n"), is("mine\n", 0, 1));
    // Not UTF-8.
    let merge = merge(b"\xff\nb\nc\n", b"\xfe\nb\nc\n", b"\xff\nb\n\xfd", None).unwrap();
    assert_eq!(merge.text, b"\xfe\nb\n\xfd");
}

#[test]
fn markers_show_all_three_texts() {
    let markers = Markers {
        names: ["now", "as saved by 8", "without"],
        length: 7,
    };
    let text = |base: &str, undone: &str, now: &str| {
        let (base, undone, now) = (base.as_bytes(), undone.as_bytes(), now.as_bytes());
        String::from_utf8(merge(base, undone, now, Some(markers)).unwrap().text).unwrap()
    };
    assert_eq!(
        text("0\nA\nb\nC\n", "0\na\nb\nc\n", "0\nmine\nb\nC\n"),
        "0\n<<<<<<< now\nmine\n||||||| as saved by 8\nA\n=======\na\n>>>>>>> without\nb\nc\n"
    );
    assert_eq!(
        text("A\r\nx", "a\r\nx", "mine\r\nx"),
        "<<<<<<< now\r\nmine\r\n||||||| as saved by 8\r\nA\r\n=======\r\na\r\n>>>>>>> without\r\nx"
    );
    assert_eq!(
        text("A", "a", "mine"),
        "<<<<<<< now\nmine\n||||||| as saved by 8\nA\n=======\na\n>>>>>>> without\n"
    );
}

/// A text in sections, and the replacement of some of them in each of two texts. Sections in between, which
/// keep them apart, have a line that is nowhere else.
#[derive(Clone, Debug)]
struct Edits {
    base: Vec<Vec<u8>>,
    undone: Vec<Option<Vec<u8>>>,
    now: Vec<Option<Vec<u8>>>,
}

fn some_lines() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        Just(&b"a\n"[..]),
        Just(&b"b\n"[..]),
        Just(&b"\n"[..]),
        Just(&b"}\r\n"[..]),
        Just(&b"\xff\n"[..]),
    ];
    prop::collection::vec(line, 0..4).prop_map(|lines| lines.concat())
}

fn edits() -> impl Strategy<Value = Edits> {
    let section = (some_lines(), prop::option::of(some_lines()), 0..3);
    prop::collection::vec(section, 1..8).prop_map(|sections| {
        let mut edits = Edits {
            base: Vec::new(),
            undone: Vec::new(),
            now: Vec::new(),
        };
        for (old, new, side) in sections {
            edits.base.push(old);
            edits.undone.push(new.clone().filter(|_| side != 0));
            edits.now.push(new.filter(|_| side == 0));
        }
        edits
    })
}

/// The text with some of its sections replaced.
fn text(base: &[Vec<u8>], new: &[&Option<Vec<u8>>]) -> Vec<u8> {
    let mut text = Vec::new();
    for (at, (old, new)) in base.iter().zip(new).enumerate() {
        text.extend_from_slice(format!("section {at}\n").as_bytes());
        text.extend_from_slice(new.as_ref().unwrap_or(old));
        text.extend_from_slice(format!("end of {at}\n").as_bytes());
    }
    text
}

fn any_text() -> impl Strategy<Value = Vec<u8>> {
    (some_lines(), some_lines(), prop::option::of(Just(b'x')))
        .prop_map(|(one, other, rest)| one.into_iter().chain(other).chain(rest).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Changes in different sections: the merge is the text that has each section as its own side left it.
    #[test]
    fn changes_of_different_sections_merge(edits in edits()) {
        let all = |list: &'_ [Option<Vec<u8>>]| list.to_vec();
        let (undone, now) = (all(&edits.undone), all(&edits.now));
        let pick = |list: &'_ Vec<Option<Vec<u8>>>| text(&edits.base, &list.iter().collect::<Vec<_>>());
        let both: Vec<Option<Vec<u8>>> = undone
            .iter()
            .zip(&now)
            .map(|(undone, now)| undone.clone().or_else(|| now.clone()))
            .collect();
        let base = text(&edits.base, &vec![&None; edits.base.len()]);
        let merge = merge(&base, &pick(&undone), &pick(&now), None).unwrap();
        prop_assert_eq!(merge.hunks_kept(), 0);
        prop_assert_eq!(merge.text, pick(&both));
    }

    /// Any texts: nothing but the change is taken out, and nothing of others.
    #[test]
    fn any_merge_is_sound(base in any_text(), undone in any_text(), now in any_text()) {
        let merged = merge(&base, &undone, &now, None).unwrap();
        prop_assert_eq!(merged.hunks, merged.taken_back + merged.hunks_kept());
        if merged.hunks_kept() == merged.hunks {
            prop_assert_eq!(&merged.text, &now);
        }
        if merged.kept.is_empty() {
            // The merge of a clean result is the same from the other side.
            let mirrored = merge(&base, &now, &undone, None).unwrap();
            if mirrored.kept.is_empty() {
                prop_assert_eq!(&merged.text, &mirrored.text);
            }
        }
        for kept in &merged.kept {
            let lines = merged.text.split_inclusive(|byte| *byte == b'\n').count();
            prop_assert!(kept.line + kept.lines <= lines + 1);
        }
        // No line is put together of two.
        let known: Vec<&[u8]> = [&undone, &now]
            .into_iter()
            .flat_map(|text| text.split_inclusive(|byte| *byte == b'\n'))
            .collect();
        for line in merged.text.split_inclusive(|byte| *byte == b'\n') {
            prop_assert!(known.contains(&line), "{:?}", line);
        }
        // No other change: all of the change goes. No change: nothing does.
        prop_assert_eq!(merge(&base, &undone, &base, None).unwrap().text, undone);
        prop_assert_eq!(merge(&base, &base, &now, None).unwrap().text, now);
    }

    /// Lines that others added, each of them new, are in a result as they are in order.
    #[test]
    fn lines_of_others_are_never_lost(base in any_text(), undone in any_text(), places in prop::collection::vec(0..9usize, 1..4)) {
        let mut lines: Vec<Vec<u8>> = base
            .split_inclusive(|byte| *byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect();
        let mut mine = Vec::new();
        for (number, place) in places.iter().enumerate() {
            let line = format!("mine {number}\n").into_bytes();
            // Only the last line may be without an end.
            let ended = lines.iter().take_while(|line| line.ends_with(b"\n")).count();
            lines.insert((*place).min(ended), line.clone());
            mine.push(line);
        }
        let merged = merge(&base, &undone, &lines.concat(), None).unwrap();
        for line in mine {
            let count = merged.text.split_inclusive(|byte| *byte == b'\n').filter(|have| **have == line).count();
            prop_assert_eq!(count, 1);
        }
    }
}
