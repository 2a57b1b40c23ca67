// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where results and messages go: results to standard output, all else to standard error.

use std::fmt::Display;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anstyle::{AnsiColor, Style};
use serde::Serialize;
use serde_json::Value;

use crate::error::Error;
use crate::screen::{Screen, VisibleJson};

/// Where results and messages go, and in which form.
pub struct Output<'w> {
    /// For results.
    results: Screen<'w>,
    /// For everything else.
    messages: Screen<'w>,
    /// Whether results are JSON.
    pub json: bool,
    /// Whether results go to a terminal, which must take no byte of a file for an order.
    pub is_terminal: bool,
    /// Whether results have colours.
    pub has_color: bool,
    /// The width of the terminal that results go to.
    pub columns: Option<usize>,
}

const ERROR: Style = AnsiColor::Red.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default();

impl<'w> Output<'w> {
    /// Prints results and messages there.
    pub fn new(results: &'w mut dyn Write, messages: &'w mut dyn Write, json: bool) -> Self {
        Self {
            results: Screen::new(results),
            messages: Screen::new(messages),
            json,
            is_terminal: false,
            has_color: false,
            columns: None,
        }
    }
}

impl Output<'_> {
    /// Writes a result; code points that a terminal would not show as themselves are replaced.
    pub fn raw(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.results.print(bytes).map_err(Error::Output)
    }

    /// Writes the content of a file: unchanged, except to a terminal.
    pub fn content(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match self.is_terminal {
            true => self.raw(bytes),
            false => self.results.exact(bytes).map_err(Error::Output),
        }
    }

    /// Writes a name as a program reads it: unchanged, and ended by a NUL byte.
    pub fn name(&mut self, name: &Path) -> Result<(), Error> {
        self.content(&[name.as_os_str().as_bytes(), b"\0"].concat())
    }

    /// Writes a result in a style.
    pub fn styled(&mut self, style: Style, bytes: &[u8]) -> Result<(), Error> {
        if !self.has_color {
            return self.raw(bytes);
        }
        let written = self.results.style(style.render());
        written.map_err(Error::Output)?;
        self.raw(bytes)?;
        let written = self.results.style(style.render_reset());
        written.map_err(Error::Output)
    }

    /// Writes a result as text.
    pub fn text(&mut self, text: &str) -> Result<(), Error> {
        self.raw(text.as_bytes())
    }

    /// Writes a result as one line of JSON.
    pub fn object(&mut self, object: &Value) -> Result<(), Error> {
        let mut line = Vec::new();
        let mut serializer = serde_json::Serializer::with_formatter(&mut line, VisibleJson);
        let written = object.serialize(&mut serializer);
        written.map_err(|e| Error::Output(e.into()))?;
        line.push(b'\n');
        self.raw(&line)
    }

    /// Says something beside the results.
    pub fn say(&mut self, message: impl Display) {
        // A failed write of a message is ignored: the work is done.
        let _ = self.messages.print(format!("{message}\n").as_bytes());
    }

    /// Prints a hint on the next step.
    pub fn hint(&mut self, hint: &str) {
        let _ = self.headed(HINT, "Hint:", &hint);
    }

    /// Prints an error with its hint.
    pub fn error(&mut self, error: &Error) {
        let _ = self.headed(ERROR, "error:", error);
        if let Some(hint) = error.hint() {
            self.hint(&hint);
        }
    }

    fn headed(&mut self, style: Style, head: &str, message: &dyn Display) -> io::Result<()> {
        self.messages.style(style.render())?;
        self.messages.print(head.as_bytes())?;
        self.messages.style(style.render_reset())?;
        self.messages.print(format!(" {message}\n").as_bytes())
    }

    /// Sees that everything was written.
    pub fn finish(&mut self) -> Result<(), Error> {
        self.results.flush().map_err(Error::Output)
    }
}
