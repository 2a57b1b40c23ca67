// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where results and messages go: results to standard output, all else to standard error.

use std::io::Write;

use anstyle::{AnsiColor, Style};
use serde_json::Value;

use crate::error::Error;

/// Where results and messages go, and in which form.
pub struct Output<'w> {
    /// For results.
    pub results: &'w mut dyn Write,
    /// For everything else.
    pub messages: &'w mut dyn Write,
    /// Whether results are JSON.
    pub json: bool,
}

const ERROR: Style = AnsiColor::Red.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default();

impl Output<'_> {
    /// Writes a result as it is.
    pub fn raw(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.results.write_all(bytes).map_err(Error::Output)
    }

    /// Writes a result as text.
    pub fn text(&mut self, text: &str) -> Result<(), Error> {
        self.raw(text.as_bytes())
    }

    /// Writes a result as one line of JSON.
    pub fn object(&mut self, object: &Value) -> Result<(), Error> {
        let mut line = serde_json::to_vec(object).map_err(|e| Error::Output(e.into()))?;
        line.push(b'\n');
        self.raw(&line)
    }

    /// Says what could be done next.
    pub fn hint(&mut self, hint: &str) {
        // Messages are a courtesy: what was done is done without them.
        let _ = writeln!(self.messages, "{HINT}Hint:{HINT:#} {hint}");
    }

    /// Says what went wrong and what could be done about it.
    pub fn error(&mut self, error: &Error) {
        let _ = writeln!(self.messages, "{ERROR}error:{ERROR:#} {error}");
        if let Some(hint) = error.hint() {
            self.hint(&hint);
        }
    }

    /// Sees that everything was written.
    pub fn finish(&mut self) -> Result<(), Error> {
        self.results.flush().map_err(Error::Output)
    }
}
