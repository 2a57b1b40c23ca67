// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Which texts are names of marks. A name is never a point of another form: a number, so many actions back, a
//! time, or a tree of processes.

/// The longest name of a mark, in bytes.
pub const MAX_MARK_NAME: usize = 64;

/// The longest message of a mark, in bytes.
pub const MAX_MARK_MESSAGE: usize = 256;

/// Words of times and of places in the history, in lower case.
const RESERVED: &[&str] = &[
    "now",
    "today",
    "yesterday",
    "tomorrow",
    "noon",
    "midnight",
    "first",
    "last",
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];

/// Whether a text is a name for a mark: UTF-8, a letter or a character beyond ASCII first, then also digits and
/// `-`, `_`, `.`, `+`. No `..` (a range), no word for a time, no `t195` (a tree), no `P1D` (a period).
pub fn is_mark_name(name: &[u8]) -> bool {
    let Ok(text) = core::str::from_utf8(name) else {
        return false;
    };
    let is_first = |c: char| c.is_ascii_alphabetic() || !c.is_ascii();
    let is_other =
        |c: char| is_first(c) || c.is_ascii_digit() || matches!(c, '-' | '_' | '.' | '+');
    let is_reserved = |word: &&str| text.eq_ignore_ascii_case(word);
    name.len() <= MAX_MARK_NAME
        && text.chars().next().is_some_and(is_first)
        && text.chars().all(|c| is_other(c) && !is_unseen(c))
        && !text.contains("..")
        && !RESERVED.iter().any(is_reserved)
        && !is_tree(name)
        && !is_period(name)
}

/// Whether a text is a message of a mark: UTF-8 in one line, which may be empty.
pub fn is_mark_message(message: &[u8]) -> bool {
    let is_shown = |c: char| c == ' ' || !is_unseen(c);
    message.len() <= MAX_MARK_MESSAGE
        && core::str::from_utf8(message).is_ok_and(|text| text.chars().all(is_shown))
}

/// Whether a character is a control character, a space, or changes how others are shown.
fn is_unseen(c: char) -> bool {
    matches!(c,
        '\0'..=' '
        | '\x7f'..='\u{a0}'
        | '\u{ad}'
        | '\u{61c}'
        | '\u{1680}'
        | '\u{180e}'
        | '\u{2000}'..='\u{200f}'
        | '\u{2028}'..='\u{202f}'
        | '\u{205f}'..='\u{206f}'
        | '\u{3000}'
        | '\u{feff}'
        | '\u{e0000}'..='\u{e007f}')
}

/// `t195`.
fn is_tree(name: &[u8]) -> bool {
    let digits = name.strip_prefix(b"t");
    digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_digit))
}

/// Whether a name may be a period of ISO 8601: `P1D`, `pt2h`.
fn is_period(name: &[u8]) -> bool {
    matches!(
        name,
        [b'p' | b'P', b'0'..=b'9', ..] | [b'p' | b'P', b't' | b'T', b'0'..=b'9', ..]
    )
}
