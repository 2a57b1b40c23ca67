// SPDX-License-Identifier: GPL-2.0

//! `logctl browse` on a pseudo-terminal: its keys, its changes, and the terminal afterwards.

use super::verbs::logctl;
use crate::fixture::Fixture;
use crate::harness::Test;
use crate::outcome::{check, same, Outcome};

pub const TESTS: &[Test] = &[
    Test::new("browse-restores", restores),
    Test::new("browse-undoes", undoes),
    Test::new("browse-ends", ends),
    Test::new("browse-without-a-terminal", without_a_terminal),
];

/// The output of the browser and of the terminal's settings after it, for keys that are typed one after the
/// other.
fn typed(w: &Fixture, keys: &[&str]) -> Outcome<String> {
    let mut script = String::new();
    for key in keys {
        script += &format!("sleep 1; printf '{key}'; ");
    }
    w.sh(&format!(
        "(sleep 3; {script} sleep 2) | script -qec \"stty rows 24 cols 100; logctl browse; echo code=\\$?; stty -a\" /dev/null"
    ))
}

const ROWS: usize = 24;
const COLUMNS: usize = 100;

/// The rows of a terminal, as far as the browser uses one.
struct Terminal {
    cells: Vec<Vec<char>>,
    row: usize,
    column: usize,
}

impl Terminal {
    /// The lines of all frames in the output; each ends with the order that hides the cursor.
    fn lines(said: &str) -> Vec<String> {
        let mut terminal = Self {
            cells: vec![vec![' '; COLUMNS]; ROWS],
            row: 0,
            column: 0,
        };
        let mut lines = Vec::new();
        for frame in said.split_inclusive("\u{1b}[?25l") {
            terminal.take(frame);
            let rows = terminal.cells.iter();
            lines.extend(rows.map(|row| row.iter().collect::<String>().trim_end().to_owned()));
        }
        lines
    }

    fn take(&mut self, text: &str) {
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            match char {
                '\u{1b}' => {
                    self.obey(&mut chars);
                }
                '\r' => self.column = 0,
                '\n' => self.row = (self.row + 1).min(ROWS - 1),
                char => {
                    if let Some(cell) = self.cells[self.row].get_mut(self.column) {
                        *cell = char;
                    }
                    self.column += 1;
                }
            }
        }
    }

    /// An order that begins with `[`; only the one that moves the cursor counts.
    fn obey(&mut self, chars: &mut std::str::Chars<'_>) {
        let mut numbers = String::new();
        for char in chars.by_ref() {
            match char {
                '[' | '?' | ';' | '0'..='9' => numbers.push(char),
                'H' => {
                    let mut places = numbers.trim_start_matches('[').split(';');
                    let mut next = || places.next().and_then(|n| n.parse::<usize>().ok());
                    self.row = next().unwrap_or(1).saturating_sub(1).min(ROWS - 1);
                    self.column = next().unwrap_or(1).saturating_sub(1);
                    return;
                }
                _ => return,
            }
        }
    }
}

/// Whether a line of any frame has a text.
fn is_shown(said: &str, text: &str) -> Outcome {
    let lines = Terminal::lines(said);
    let is_there = lines.iter().any(|line| line.contains(text));
    check!(is_there, "no '{text}' on: {lines:#?}");
    Ok(())
}

/// The usual screen is shown again, with the cursor, and lines are edited and echoed as before.
fn is_given_back(said: &str) -> Outcome {
    let Some((before, after)) = said.rsplit_once("\u{1b}[?1049l") else {
        crate::outcome::fail!("the usual screen does not come back: {said:?}");
    };
    check!(
        before.contains("\u{1b}[?1049h"),
        "it has no screen of its own: {said:?}"
    );
    check!(after.contains("\u{1b}[?25h"), "no cursor: {said:?}");
    for setting in ["icanon", "echo", "isig", "opost"] {
        let is_set = after.split_whitespace().any(|word| word == setting);
        check!(is_set, "not {setting}: {after:?}");
    }
    Ok(())
}

const BEGIN: &str = "echo one > f; sleep 2.1; echo two > f; sleep 2.1";

/// From an action to its file, the difference, the versions, and back to the older one.
fn restores(w: &mut Fixture) -> Outcome {
    w.sh(BEGIN)?;
    let enter = "\\r";
    let back = "\\177";
    let said = typed(w, &[enter, enter, back, "v", "j", "r", "y", "q"])?;
    for part in [
        "-one",
        "+two",
        "versions of f",
        "Bring f back to its state after",
    ] {
        is_shown(&said, part)?;
    }
    check!(said.contains("code=0"), "{said:?}");
    is_given_back(&said)?;
    w.same("the file", "f", b"one\n")
}

/// Only with a yes.
fn undoes(w: &mut Fixture) -> Outcome {
    w.sh(BEGIN)?;
    let said = typed(w, &["u", "n", "q"])?;
    is_shown(&said, "Nothing was changed.")?;
    w.same("without a yes", "f", b"two\n")?;
    let said = typed(w, &["u", "y", "q"])?;
    is_shown(&said, "Undid ")?;
    is_given_back(&said)?;
    w.same("with a yes", "f", b"one\n")
}

/// Signals give the terminal back, too; and it may become smaller.
fn ends(w: &mut Fixture) -> Outcome {
    w.sh(BEGIN)?;
    for signal in ["TERM", "INT", "HUP"] {
        let said = w.sh(&format!(
            "(sleep 4; pkill -{signal} -x logctl; sleep 2) | script -qec \"stty rows 24 cols 100; logctl browse; stty -a\" /dev/null"
        ))?;
        is_given_back(&said)?;
    }
    let said = w.sh(
        "(sleep 4; for tty in $(ls /dev/pts | grep -v ptmx); do stty -F /dev/pts/$tty rows 5 cols 20; done
        sleep 1; printf j; sleep 1; printf q; sleep 1) | script -qec \"stty rows 24 cols 100; logctl browse; echo code=\\$?; stty -a\" /dev/null",
    )?;
    check!(said.contains("code=0"), "{said:?}");
    is_given_back(&said)
}

fn without_a_terminal(w: &mut Fixture) -> Outcome {
    w.sh(BEGIN)?;
    let (code, said, complaint) = logctl(w, "browse </dev/null")?;
    same(format!("{said}{complaint}"), code, 2)?;
    check!(complaint.contains("needs a terminal"), "{complaint}");
    check!(!said.contains('\u{1b}'), "{said:?}");
    Ok(())
}
