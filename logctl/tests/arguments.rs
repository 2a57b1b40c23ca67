// SPDX-License-Identifier: MIT OR Apache-2.0

//! The arguments of a program, from memory that the program may have changed.

use loggerfs_log::line::{started_arguments, ArgumentStarts, MAX_ARGS};
use proptest::prelude::*;

fn starts_at(places: &[usize]) -> ArgumentStarts {
    let mut starts = ArgumentStarts::default();
    for at in places {
        starts[at / 64] |= 1 << (at % 64);
    }
    starts
}

/// The places where these arguments begin.
fn starts_of(arguments: &[&str]) -> ArgumentStarts {
    let mut places = Vec::new();
    let mut at = 0;
    for argument in arguments {
        places.push(at);
        at += argument.len() + 1;
    }
    places.retain(|at| *at < MAX_ARGS);
    starts_at(&places)
}

/// What a line has of `memory`, where `arguments` were.
fn kept(arguments: &[&str], memory: &str, directory: &str) -> String {
    let mut memory = memory.as_bytes().to_vec();
    memory.truncate(MAX_ARGS);
    let directory = Some(directory.as_bytes()).filter(|name| !name.is_empty());
    let text = started_arguments(&mut memory, Some(&starts_of(arguments)), directory);
    String::from_utf8(text.to_vec()).unwrap()
}

#[test]
fn a_slash_that_the_program_cut_is_restored() {
    let mkdir = ["mkdir", "-p", "a/b/c", "d/e"];
    assert_eq!(
        kept(&mkdir, "mkdir\0-p\0a\0b/c\0d/e\0", "a"),
        "mkdir\0-p\0a/b/c\0d/e"
    );
    assert_eq!(
        kept(&mkdir, "mkdir\0-p\0a/b\0c\0d/e\0", "b"),
        "mkdir\0-p\0a/b/c\0d/e"
    );
    assert_eq!(
        kept(&mkdir, "mkdir\0-p\0a/b/c\0d\0e\0", "d"),
        "mkdir\0-p\0a/b/c\0d/e"
    );
    // The end of one argument, too.
    assert_eq!(kept(&["rmdir", "a/"], "rmdir\0a\0\0", "a"), "rmdir\0a/");
}

#[test]
fn a_byte_that_is_not_known_is_not_made_up() {
    // Another name, no directory, two cuts.
    let tool = ["tool", "key=value", "x"];
    assert_eq!(
        kept(&tool, "tool\0key\0value\0x\0", "ke"),
        "tool\0key\0value\0x"
    );
    assert_eq!(
        kept(&tool, "tool\0key\0value\0x\0", "y"),
        "tool\0key\0value\0x"
    );
    assert_eq!(
        kept(&tool, "tool\0key\0value\0x\0", ""),
        "tool\0key\0value\0x"
    );
    assert_eq!(
        kept(&tool, "tool\0key\0val\0e\0x\0", "key"),
        "tool\0key\0val\0e\0x"
    );
    // A password that was overwritten by NULs stays one argument.
    assert_eq!(
        kept(&tool, "tool\0k\0\0\0\0\0\0\0\0\0x\0", ""),
        "tool\0k\0x"
    );
}

#[test]
fn arguments_that_are_unchanged_are_kept_as_they_are() {
    assert_eq!(kept(&["a"], "a\0", ""), "a");
    assert_eq!(kept(&["touch", "f", ""], "touch\0f\0\0", ""), "touch\0f\0");
    assert_eq!(kept(&["", "", "b"], "\0\0b\0", ""), "\0\0b");
    let long = "x".repeat(5000);
    let memory = format!("tool\0{long}\0");
    assert_eq!(
        kept(&["tool", &long], &memory, ""),
        format!("tool\0{}", &long[..MAX_ARGS - 5])
    );
    // The last byte that is kept is an argument's own NUL.
    let fitting = "y".repeat(MAX_ARGS - 6);
    let memory = format!("tool\0{fitting}\0more\0");
    assert_eq!(
        kept(&["tool", &fitting, "more"], &memory, ""),
        format!("tool\0{fitting}")
    );
}

#[test]
fn a_title_is_all_that_is_left() {
    let text = |memory: &str, starts: Option<&ArgumentStarts>| {
        let mut memory = memory.as_bytes().to_vec();
        let text = started_arguments(&mut memory, starts, Some(b"title"));
        String::from_utf8(text.to_vec()).unwrap()
    };
    assert_eq!(text("title\0\0\0\0\0\0", None), "title");
    assert_eq!(text("a b\0c\0", None), "a b\0c");
    assert_eq!(text("", None), "");
    assert_eq!(text("\0\0", None), "");
    // Of pointers that cannot be those of the start, none counts.
    assert_eq!(text("title\0x\0", Some(&starts_at(&[0, 2]))), "title\0x");
    assert_eq!(text("title\0x\0\0", Some(&starts_at(&[6]))), "title\0x");
}

proptest! {
    #[test]
    fn arguments_of_all_kinds_come_back(arguments in prop::collection::vec("[a-z/=]{0,9}", 1..20)) {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let memory = arguments.join("\0") + "\0";
        prop_assert_eq!(kept(&arguments, &memory, "a"), arguments.join("\0"));
    }

    #[test]
    fn any_memory_gives_a_text(
        mut memory in prop::collection::vec(0_u8..3, 0..=MAX_ARGS),
        starts in any::<ArgumentStarts>(),
        name in prop::option::of(prop::collection::vec(0_u8..3, 0..3)),
    ) {
        let length = memory.len();
        let text = started_arguments(&mut memory, Some(&starts), name.as_deref());
        prop_assert!(text.len() <= length);
    }
}
