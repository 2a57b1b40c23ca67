// SPDX-License-Identifier: MIT OR Apache-2.0

//! The only path to the terminal: all output goes through a [`Screen`], which replaces code points that a
//! terminal would obey or a reader would not see. Names are quoted before ([`crate::quote`]); this is the
//! second line of defence.
//!
//! The Unicode Character Database defines these code points: the categories C* (controls, bidi
//! overrides and other formats, private use, unassigned), Zl and Zp (line and paragraph
//! separators), and default-ignorable code points (zero-width fillers, variation selectors); also
//! marks that combine with nothing of the text's own, or by the dozen.

use std::borrow::Cow;
use std::io::{self, Write};

use unicode_width::UnicodeWidthStr;

use icu_properties::props::{
    BinaryProperty, DefaultIgnorableCodePoint, EnumeratedProperty, GeneralCategory,
    GeneralCategoryGroup,
};

/// The most marks on one letter. Some languages have three.
const MARKS: usize = 6;

/// Finds code points that must not be printed as they are, one after the other of one text.
#[derive(Debug, Default)]
pub struct Reader {
    /// How many marks may follow still.
    marks: usize,
}

impl Reader {
    /// Whether the next code point may be printed.
    pub fn passes(&mut self, c: char) -> bool {
        if c.is_ascii() {
            self.marks = if c.is_ascii_alphanumeric() { MARKS } else { 0 };
            return !c.is_ascii_control();
        }
        let category = GeneralCategory::for_char(c);
        let is_hidden = GeneralCategoryGroup::Other.contains(category)
            || matches!(
                category,
                GeneralCategory::LineSeparator | GeneralCategory::ParagraphSeparator
            )
            || DefaultIgnorableCodePoint::for_char(c);
        if is_hidden {
            self.marks = 0;
            return false;
        }
        if GeneralCategoryGroup::Mark.contains(category) {
            let fits = self.marks != 0;
            self.marks = self.marks.saturating_sub(1);
            return fits;
        }
        let carries = GeneralCategoryGroup::Letter.contains(category)
            || GeneralCategoryGroup::Number.contains(category);
        self.marks = if carries { MARKS } else { 0 };
        true
    }
}

/// Whether all of a text may be printed unchanged.
pub fn is_plain(text: &str) -> bool {
    let mut reader = Reader::default();
    text.chars().all(|c| reader.passes(c))
}

/// A text in which every code point can be seen: others as `\u{202e}`. Lines stay lines.
pub fn visible(text: &str) -> Cow<'_, str> {
    if is_plain(text) {
        return Cow::Borrowed(text);
    }
    let (mut reader, mut view) = (Reader::default(), String::new());
    for c in text.chars() {
        if reader.passes(c) || c == '\n' {
            view.push(c);
        } else {
            view.extend(c.escape_unicode());
        }
    }
    Cow::Owned(view)
}

/// How many columns of a terminal a text takes as it is printed: East Asian characters and emoji take two, marks
/// none.
pub fn width_of(text: &str) -> usize {
    visible(text).width()
}

/// As [`visible`], for bytes of any kind: those that are no text as `\x9b`.
pub fn visible_bytes(bytes: &[u8]) -> String {
    let mut view = String::new();
    for chunk in bytes.utf8_chunks() {
        view.push_str(&visible(chunk.valid()));
        for byte in chunk.invalid() {
            view.push_str(&format!("\\x{byte:02x}"));
        }
    }
    view
}

/// An output that may be a terminal.
pub struct Screen<'w>(&'w mut dyn Write);

impl<'w> Screen<'w> {
    /// The only writer to `to`.
    pub fn new(to: &'w mut dyn Write) -> Self {
        Self(to)
    }

    /// Prints bytes that should be text.
    pub fn print(&mut self, bytes: &[u8]) -> io::Result<()> {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.0.write_all(visible(text).as_bytes()),
            Err(_) => self.0.write_all(visible_bytes(bytes).as_bytes()),
        }
    }

    /// Writes bytes unchanged, where no terminal reads them.
    pub fn exact(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    /// Switches to a style of ours, or back.
    pub fn style(&mut self, style: impl std::fmt::Display) -> io::Result<()> {
        write!(self.0, "{style}")
    }

    /// Sees that everything was written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Writes JSON in which every code point can be seen, too: others as `\u202e`.
pub struct VisibleJson;

impl serde_json::ser::Formatter for VisibleJson {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + Write,
    {
        if is_plain(fragment) {
            return writer.write_all(fragment.as_bytes());
        }
        let (mut reader, mut units) = (Reader::default(), [0; 2]);
        for c in fragment.chars() {
            if reader.passes(c) {
                write!(writer, "{c}")?;
                continue;
            }
            for unit in c.encode_utf16(&mut units) {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }
}
