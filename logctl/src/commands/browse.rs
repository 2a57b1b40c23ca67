// SPDX-License-Identifier: MIT OR Apache-2.0

//! `browse`: the history on the whole screen of a terminal.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    disable_raw_mode, enable_raw_mode, EnterAlternateScreen, LeaveAlternateScreen,
};
use ratatui::Terminal;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::actions::Action;
use crate::browse::{draw, ActionRow, Browser, FileRow, Key, Source, VersionRow, OTHER_LINES};
use crate::cli::Options;
use crate::error::Error;
use crate::output::Output;
use crate::past_tree::PastTree;

use super::context::Context;
use super::log::{newest, plain_rows};
use super::view::View;
use super::{diff, revert, undo, versions};

/// How many actions are read at first.
const FEW: usize = 64;

/// How many versions of a file are listed.
const MOST_VERSIONS: usize = 200;

/// How long a key is waited for before signals are looked at.
const PAUSE: Duration = Duration::from_millis(200);

/// Shows the browser until the user leaves it.
pub fn run(context: &mut Context<'_>, output: &mut Output<'_>) -> Result<(), Error> {
    if output.json || !output.is_terminal || !io::stdin().is_terminal() {
        return Err(Error::Usage {
            message:
                "browse needs a terminal; `logctl log` and `logctl log --json` print the actions"
                    .into(),
        });
    }
    let mut source = History {
        context,
        view: None,
        rows: Vec::new(),
        is_whole: false,
    };
    // Errors of the history are printed on the usual screen.
    source.actions(0, 1)?;
    let is_ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        let registered = signal_hook::flag::register(signal, is_ended.clone());
        registered.map_err(Error::Output)?;
    }
    let _screen = WholeScreen::enter().map_err(Error::Output)?;
    show(&mut source, &is_ended)
}

fn show(source: &mut History<'_, '_>, is_ended: &AtomicBool) -> Result<(), Error> {
    let terminal = Terminal::new(CrosstermBackend::new(io::stdout()));
    let mut terminal = terminal.map_err(Error::Output)?;
    let height = |height: u16| usize::from(height.saturating_sub(OTHER_LINES));
    let size = terminal.size().map_err(Error::Output)?;
    let mut browser = Browser::new(source, height(size.height))?;
    while !is_ended.load(Ordering::Relaxed) {
        let drawn = terminal.draw(|frame| draw(frame, &browser));
        drawn.map_err(Error::Output)?;
        while !event::poll(PAUSE).map_err(Error::Output)? {
            if is_ended.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
        match event::read().map_err(Error::Output)? {
            Event::Resize(_, rows) => browser.resize(source, height(rows)),
            Event::Key(event) => {
                if key(event).is_some_and(|key| !browser.press(key, source)) {
                    return Ok(());
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The meaning of a key.
fn key(event: KeyEvent) -> Option<Key> {
    if event.kind != KeyEventKind::Press {
        return None;
    }
    if event.modifiers.contains(KeyModifiers::CONTROL) {
        return (event.code == KeyCode::Char('c')).then_some(Key::Quit);
    }
    Some(match event.code {
        KeyCode::Up | KeyCode::Char('k') => Key::Up,
        KeyCode::Down | KeyCode::Char('j') => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown | KeyCode::Char(' ') => Key::PageDown,
        KeyCode::Home | KeyCode::Char('g') => Key::First,
        KeyCode::Enter | KeyCode::Right => Key::Open,
        KeyCode::Esc | KeyCode::Left | KeyCode::Backspace => Key::Back,
        KeyCode::Char('q') => Key::Quit,
        KeyCode::Char(letter) => Key::Letter(letter),
        _ => return None,
    })
}

/// The terminal while the browser has all of it. Also a panic gives it back.
struct WholeScreen;

impl WholeScreen {
    fn enter() -> io::Result<Self> {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            leave();
            usual(panic);
        }));
        enable_raw_mode()?;
        let screen = Self;
        execute!(io::stdout(), EnterAlternateScreen)?;
        Ok(screen)
    }
}

impl Drop for WholeScreen {
    fn drop(&mut self) {
        leave();
    }
}

fn leave() {
    // Where the terminal is gone there is nothing to give back.
    let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}

/// The history of a mount. Of the actions, the newest are read: as far as the user has gone back.
struct History<'h, 'c> {
    context: &'h mut Context<'c>,
    view: Option<View>,
    rows: Vec<ActionRow>,
    /// Whether there are no older actions.
    is_whole: bool,
}

impl History<'_, '_> {
    /// Reads at least so many actions.
    fn read(&mut self, count: usize) -> Result<(), Error> {
        let limit = count.max(self.rows.len().saturating_mul(2)).max(FEW);
        let (timeline, mut found) = newest(self.context, limit)?;
        self.is_whole = found.len() <= limit;
        found.truncate(limit);
        let view = View::new(timeline, found, self.context);
        let cells = plain_rows(&view, self.context).into_iter();
        let numbers = view.actions.iter();
        let numbers = numbers.map(|action| action.newest(&view.timeline).seq);
        self.rows = numbers
            .zip(cells)
            .map(|(op, cells)| ActionRow { op, cells })
            .collect();
        self.view = Some(view);
        Ok(())
    }

    fn forget(&mut self) {
        self.view = None;
        self.rows.clear();
        self.is_whole = false;
    }

    /// Runs a command; returns its results as text.
    fn printed(
        &mut self,
        command: impl FnOnce(&mut Self, &mut Output<'_>) -> Result<(), Error>,
    ) -> Result<String, Error> {
        let (mut results, mut messages) = (Vec::new(), Vec::new());
        let mut output = Output::new(&mut results, &mut messages, false);
        match command(self, &mut output) {
            Ok(()) => Ok(String::from_utf8_lossy(&results).into_owned()),
            // The conflicts were printed.
            Err(Error::Conflicts { .. }) => {
                let message = String::from_utf8_lossy(&messages);
                let message = message.lines().take(2).collect::<Vec<_>>().join(" ");
                Err(Error::Usage { message })
            }
            Err(error) => Err(error),
        }
    }
}

fn with_number(view: &View, op: u64) -> Option<&Action> {
    let mut actions = view.actions.iter();
    actions.find(|action| action.newest(&view.timeline).seq == op)
}

impl Source for History<'_, '_> {
    fn actions(&mut self, from: usize, count: usize) -> Result<Vec<ActionRow>, Error> {
        let end = from.saturating_add(count);
        if self.view.is_none() || (end > self.rows.len() && !self.is_whole) {
            self.read(end)?;
        }
        Ok(self.rows.iter().skip(from).take(count).cloned().collect())
    }

    fn files(&mut self, op: u64) -> Result<Vec<FileRow>, Error> {
        let view = self.view.as_ref();
        let action = view.and_then(|view| Some((view, with_number(view, op)?)));
        let Some((View { timeline, .. }, action)) = action else {
            return Ok(Vec::new());
        };
        let before = action.oldest(timeline).seq.saturating_sub(1);
        let (tree, identify) = (self.context.tree, self.context.identify);
        let before = PastTree::new(timeline, before, tree, identify);
        let after = PastTree::new(timeline, op, tree, identify);
        let mut rows = Vec::new();
        for path in diff::touched(timeline, &action.entries, [&before, &after]) {
            let sign = match (before.object(&path)?, after.object(&path)?) {
                (None, None) => continue,
                (None, Some(_)) => "+",
                (Some(_), None) => "-",
                _ => "~",
            };
            rows.push(FileRow { path, sign });
        }
        Ok(rows)
    }

    fn versions(&mut self, path: &Path) -> Result<Vec<VersionRow>, Error> {
        let path = self.context.root.join(path);
        let text = self.printed(|history, output| {
            versions::run(history.context, &path, MOST_VERSIONS, output)
        })?;
        let lines = text.lines().skip(1);
        let number = |line: &str| line.split_whitespace().nth(2)?.parse().ok();
        let row = |line: &str| {
            Some(VersionRow {
                op: number(line)?,
                text: line.to_owned(),
            })
        };
        Ok(lines.filter_map(row).collect())
    }

    fn differences(&mut self, op: u64, path: Option<&Path>) -> Result<Vec<String>, Error> {
        // Of an older action than those that are shown, a version's, more is read.
        let view = self.view.take();
        let is_known = view
            .as_ref()
            .is_some_and(|view| with_number(view, op).is_some());
        let text = self.printed(|history, output| {
            let timeline = view
                .as_ref()
                .filter(|_| is_known)
                .map(|view| &view.timeline);
            diff::of_number(history.context, timeline, (op, path), output)
        });
        self.view = view;
        Ok(text?.lines().map(str::to_owned).collect())
    }

    fn undo(&mut self, op: u64) -> Result<String, Error> {
        self.forget();
        let words: [PathBuf; 1] = [format!("#{op}").into()];
        self.printed(|history, output| {
            let wanted = undo::Wanted {
                count: None,
                any: false,
                merge: false,
                words: &words,
                out: None,
            };
            undo::undo(history.context, wanted, Options::default(), output)
        })
    }

    fn restore(&mut self, path: &Path, op: u64) -> Result<String, Error> {
        self.forget();
        let paths = [self.context.root.join(path)];
        let text = self.printed(|history, output| {
            let options = (Options::default(), false);
            revert::restore(history.context, &op.to_string(), &paths, options, output)
        })?;
        // After the operations that were taken back.
        let last = text.lines().last().unwrap_or_default();
        Ok(last.to_owned())
    }
}
