// SPDX-License-Identifier: MIT OR Apache-2.0

//! The pages of the browser, and how keys change them.

use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::quote::word;

/// An action, as `log` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionRow {
    /// Its number.
    pub op: u64,
    /// The columns of `log`.
    pub cells: [String; 6],
}

/// A file that an action changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRow {
    /// Relative to the root of the mount.
    pub path: PathBuf,
    /// The sign of the change, as in the log.
    pub sign: &'static str,
}

/// A version of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionRow {
    /// The action that made this version.
    pub op: u64,
    /// The line of `versions`.
    pub text: String,
}

/// The history, and the changes that a user can make to it.
pub trait Source {
    /// The newest actions without the first `from`, at most `count`.
    fn actions(&mut self, from: usize, count: usize) -> Result<Vec<ActionRow>, Error>;

    /// The files that an action changed.
    fn files(&mut self, op: u64) -> Result<Vec<FileRow>, Error>;

    /// The versions of a file, the newest first.
    fn versions(&mut self, path: &Path) -> Result<Vec<VersionRow>, Error>;

    /// The lines of the differences that an action made, in one file or in all.
    fn differences(&mut self, op: u64, path: Option<&Path>) -> Result<Vec<String>, Error>;

    /// Takes an action back; returns a report.
    fn undo(&mut self, op: u64) -> Result<String, Error>;

    /// Brings a file back to its state right after an operation; returns a report.
    fn restore(&mut self, path: &Path, op: u64) -> Result<String, Error>;
}

/// A key, by its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// One line up.
    Up,
    /// One line down.
    Down,
    /// A screen up.
    PageUp,
    /// A screen down.
    PageDown,
    /// To the first line.
    First,
    /// Open the chosen line.
    Open,
    /// To the page before.
    Back,
    /// Leave the browser.
    Quit,
    /// A letter.
    Letter(char),
}

/// The content of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// Of all actions, only those on the screen.
    Actions(Vec<ActionRow>),
    /// Of an action.
    Files(u64, Vec<FileRow>),
    /// Of a file.
    Versions(PathBuf, Vec<VersionRow>),
    /// Lines of a difference, with a title.
    Text(String, Vec<String>),
}

/// A page, with the chosen line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub page: Page,
    /// The first line on the screen.
    pub first: usize,
    /// The chosen line.
    pub chosen: usize,
}

/// A change that waits for an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Undo(u64),
    Restore(PathBuf, u64),
}

/// The browser.
pub struct Browser {
    /// The pages on the way to the shown one, which is the last.
    pub(super) places: Vec<Place>,
    /// The number of lines that fit.
    height: usize,
    change: Option<Change>,
    /// The result of the last change, or an error, or a question.
    pub(super) message: String,
}

impl Browser {
    /// The newest actions, on a screen with room for so many lines.
    pub fn new(source: &mut dyn Source, height: usize) -> Result<Self, Error> {
        let mut browser = Self {
            places: vec![Place::new(Page::Actions(Vec::new()))],
            height: height.max(1),
            change: None,
            message: String::new(),
        };
        browser.load(source)?;
        Ok(browser)
    }

    /// Adapts to a screen with room for so many lines.
    pub fn resize(&mut self, source: &mut dyn Source, height: usize) {
        self.height = height.max(1);
        let moved = self.go(source, |chosen| chosen);
        self.note(moved);
    }

    /// Whether a question waits for an answer.
    pub fn is_asking(&self) -> bool {
        self.change.is_some()
    }

    /// The number of rows of actions that are in memory.
    pub fn loaded(&self) -> usize {
        match &self.places[0].page {
            Page::Actions(rows) => rows.len(),
            _ => 0,
        }
    }

    /// Answers a key. False: the browser ends.
    pub fn press(&mut self, key: Key, source: &mut dyn Source) -> bool {
        if let Some(change) = self.change.take() {
            self.message.clear();
            match key {
                Key::Letter('y') => self.apply(change, source),
                _ => self.message = "Nothing was changed.".into(),
            }
            return true;
        }
        self.message.clear();
        let height = self.height;
        let done = match key {
            Key::Quit => return false,
            Key::Back => {
                self.back();
                Ok(())
            }
            Key::Up => self.go(source, |chosen| chosen.saturating_sub(1)),
            Key::Down => self.go(source, |chosen| chosen + 1),
            Key::PageUp => self.go(source, |chosen| chosen.saturating_sub(height)),
            Key::PageDown => self.go(source, |chosen| chosen + height),
            Key::First => self.go(source, |_| 0),
            Key::Open => self.open(source),
            Key::Letter(letter) => self.letter(letter, source),
        };
        self.note(done);
        true
    }

    fn note(&mut self, done: Result<(), Error>) {
        if let Err(error) = done {
            self.message = format!("error: {error}");
        }
    }

    pub(super) fn place(&self) -> &Place {
        &self.places[self.places.len() - 1]
    }

    fn place_mut(&mut self) -> &mut Place {
        let last = self.places.len() - 1;
        &mut self.places[last]
    }

    fn back(&mut self) {
        if self.places.len() > 1 {
            self.places.pop();
        }
    }

    fn enter(&mut self, page: Page) {
        self.places.push(Place::new(page));
    }

    /// Chooses another line, and moves the screen to it.
    fn go(
        &mut self,
        source: &mut dyn Source,
        to: impl FnOnce(usize) -> usize,
    ) -> Result<(), Error> {
        let height = self.height;
        let place = self.place_mut();
        let last = match &place.page {
            Page::Actions(_) => usize::MAX,
            // Text is scrolled: its last screen is full.
            Page::Text(_, lines) => lines.len().saturating_sub(height),
            Page::Files(_, rows) => rows.len().saturating_sub(1),
            Page::Versions(_, rows) => rows.len().saturating_sub(1),
        };
        place.chosen = to(place.chosen).min(last);
        let is_text = matches!(place.page, Page::Text(..));
        let least = place
            .chosen
            .saturating_sub(if is_text { 0 } else { height - 1 });
        place.first = place.first.clamp(least, place.chosen);
        match &place.page {
            Page::Actions(_) => self.load(source),
            _ => Ok(()),
        }
    }

    /// Reads the actions on the screen. If there are fewer, the last screen.
    fn load(&mut self, source: &mut dyn Source) -> Result<(), Error> {
        let height = self.height;
        let place = &mut self.places[0];
        loop {
            let rows = source.actions(place.first, height)?;
            if rows.is_empty() && place.first != 0 {
                place.first = place.first.saturating_sub(height);
                place.chosen = place.first + height - 1;
                continue;
            }
            let last = place.first + rows.len().saturating_sub(1);
            place.chosen = place.chosen.min(last);
            place.page = Page::Actions(rows);
            return Ok(());
        }
    }

    fn open(&mut self, source: &mut dyn Source) -> Result<(), Error> {
        let place = self.place();
        let page = match &place.page {
            Page::Actions(rows) => {
                let Some(row) = rows.get(place.chosen - place.first) else {
                    return Ok(());
                };
                Page::Files(row.op, source.files(row.op)?)
            }
            Page::Files(op, rows) => {
                let Some(row) = rows.get(place.chosen) else {
                    return Ok(());
                };
                difference(source, *op, Some(&row.path))?
            }
            Page::Versions(path, rows) => {
                let Some(row) = rows.get(place.chosen) else {
                    return Ok(());
                };
                difference(source, row.op, Some(path))?
            }
            Page::Text(..) => return Ok(()),
        };
        self.enter(page);
        Ok(())
    }

    fn letter(&mut self, letter: char, source: &mut dyn Source) -> Result<(), Error> {
        let place = self.place();
        match (letter, &place.page) {
            ('d', Page::Actions(rows)) => {
                if let Some(row) = rows.get(place.chosen - place.first) {
                    let page = difference(source, row.op, None)?;
                    self.enter(page);
                }
            }
            ('v', Page::Files(_, rows)) => {
                if let Some(row) = rows.get(place.chosen) {
                    let page = Page::Versions(row.path.clone(), source.versions(&row.path)?);
                    self.enter(page);
                }
            }
            ('u', Page::Actions(rows)) => {
                if let Some(row) = rows.get(place.chosen - place.first) {
                    self.ask(Change::Undo(row.op));
                }
            }
            ('u', Page::Files(op, _)) => self.ask(Change::Undo(*op)),
            ('r', Page::Versions(path, rows)) => {
                if let Some(row) = rows.get(place.chosen) {
                    self.ask(Change::Restore(path.clone(), row.op));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn ask(&mut self, change: Change) {
        self.message = match &change {
            Change::Undo(op) => format!("Take action {op} back? y: yes, other keys: no"),
            Change::Restore(path, op) => {
                let path = word(path);
                format!("Bring {path} back to its state after {op}? y: yes, other keys: no")
            }
        };
        self.change = Some(change);
    }

    fn apply(&mut self, change: Change, source: &mut dyn Source) {
        let done = match &change {
            Change::Undo(op) => source.undo(*op),
            Change::Restore(path, op) => source.restore(path, *op),
        };
        match done {
            // The first sentence; the rest are hints on other commands.
            Ok(report) => self.message = report.lines().next().unwrap_or("Done.").to_owned(),
            Err(error) => return self.note(Err(error)),
        }
        let loaded = self.load(source);
        self.note(loaded);
        // Other pages show an older state.
        if let Change::Undo(_) = change {
            self.places.truncate(1);
        } else if let Page::Versions(path, _) = &self.place().page {
            let path = path.clone();
            match source.versions(&path) {
                Ok(rows) => *self.place_mut() = Place::new(Page::Versions(path, rows)),
                Err(error) => self.note(Err(error)),
            }
        }
    }
}

fn difference(source: &mut dyn Source, op: u64, path: Option<&Path>) -> Result<Page, Error> {
    let title = match path {
        None => format!("changes of action {op}"),
        Some(path) => format!("changes of {} by action {op}", word(path)),
    };
    Ok(Page::Text(title, source.differences(op, path)?))
}

impl Place {
    fn new(page: Page) -> Self {
        Self {
            page,
            first: 0,
            chosen: 0,
        }
    }
}
