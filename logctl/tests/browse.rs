// SPDX-License-Identifier: MIT OR Apache-2.0

//! The browser in memory: what it shows, loads and does at each key.

use std::path::{Path, PathBuf};

use logctl::browse::{draw, ActionRow, Browser, FileRow, Key, Source, VersionRow};
use logctl::error::Error;
use ratatui::backend::TestBackend;
use ratatui::Terminal;

/// A history with so many actions, numbered from its end.
struct Simulated {
    actions: usize,
    /// The most rows that were asked for at once.
    most: usize,
    done: Vec<String>,
    is_refusing: bool,
}

impl Simulated {
    fn new(actions: usize) -> Self {
        Self {
            actions,
            most: 0,
            done: Vec::new(),
            is_refusing: false,
        }
    }

    fn change(&mut self, change: String) -> Result<String, Error> {
        if self.is_refusing {
            let message = "refused".to_owned();
            return Err(Error::Nothing { message });
        }
        self.done.push(change.clone());
        Ok(format!("{change}.\nHint: more"))
    }
}

impl Source for Simulated {
    fn actions(&mut self, from: usize, count: usize) -> Result<Vec<ActionRow>, Error> {
        self.most = self.most.max(count);
        let end = from.saturating_add(count).min(self.actions);
        let row = |at: usize| {
            let op = (self.actions - at) as u64;
            let mark = if at == 0 { "@" } else { "" };
            let op_text = op.to_string();
            let cells = [mark, &op_text, "1s ago", "root", "cp \u{202e}a", "~1 file"];
            ActionRow {
                op,
                cells: cells.map(str::to_owned),
            }
        };
        Ok((from.min(end)..end).map(row).collect())
    }

    fn files(&mut self, op: u64) -> Result<Vec<FileRow>, Error> {
        let row = |name: &str, sign| FileRow {
            path: PathBuf::from(format!("{name}{op}")),
            sign,
        };
        Ok(vec![row("new", "+"), row("esc\x1b[31m", "~")])
    }

    fn versions(&mut self, path: &Path) -> Result<Vec<VersionRow>, Error> {
        let row = |op: u64| VersionRow {
            op,
            text: format!("  {} {op}", path.display()),
        };
        Ok(vec![row(9), row(4)])
    }

    fn differences(&mut self, op: u64, path: Option<&Path>) -> Result<Vec<String>, Error> {
        let mut lines = vec![
            format!("diff of {op} {path:?}"),
            "-old".into(),
            "+new".into(),
        ];
        lines.extend((0..40).map(|at| format!(" line {at}")));
        Ok(lines)
    }

    fn undo(&mut self, op: u64) -> Result<String, Error> {
        self.change(format!("undid {op}"))
    }

    fn restore(&mut self, path: &Path, op: u64) -> Result<String, Error> {
        self.change(format!("restored {} to {op}", path.display()))
    }
}

const HEIGHT: u16 = 10;

/// The lines of the screen.
fn screen(browser: &Browser) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(60, HEIGHT)).unwrap();
    terminal.draw(|frame| draw(frame, browser)).unwrap();
    let buffer = terminal.backend().buffer();
    let lines = buffer.content().chunks(60).map(|line| {
        let line: String = line.iter().map(|cell| cell.symbol()).collect();
        line.trim_end().to_owned()
    });
    lines.collect()
}

fn begin(source: &mut Simulated) -> Browser {
    Browser::new(source, usize::from(HEIGHT) - 3).unwrap()
}

fn press(browser: &mut Browser, source: &mut Simulated, keys: &[Key]) {
    for key in keys {
        assert!(browser.press(*key, source), "{key:?}");
    }
}

#[test]
fn only_the_screen_is_loaded_of_a_million_actions() {
    let mut source = Simulated::new(1_000_000);
    let mut browser = begin(&mut source);
    for _ in 0..20_000 {
        press(&mut browser, &mut source, &[Key::PageDown]);
        assert!(browser.loaded() <= 7);
    }
    // Each page has seven actions, and the chosen one is the last of them.
    assert!(
        screen(&browser)[7].contains(" 860000 "),
        "{:?}",
        screen(&browser)
    );
    assert!(source.most <= 7);
    press(&mut browser, &mut source, &[Key::First]);
    assert!(
        screen(&browser)[1].starts_with("@ 1000000"),
        "{:?}",
        screen(&browser)
    );
}

#[test]
fn the_list_ends_with_the_oldest_action() {
    let mut source = Simulated::new(20);
    let mut browser = begin(&mut source);
    press(&mut browser, &mut source, &[Key::PageDown; 9]);
    press(&mut browser, &mut source, &[Key::Down, Key::Down]);
    let shown = screen(&browser);
    assert!(
        shown.iter().any(|line| line.trim_start().starts_with("1 ")),
        "{shown:?}"
    );
    press(&mut browser, &mut source, &[Key::Open]);
    assert_eq!(screen(&browser)[1], "+ new1");
}

#[test]
fn pages_lead_from_an_action_to_a_difference_and_back() {
    let mut source = Simulated::new(20);
    let mut browser = begin(&mut source);
    let shown = screen(&browser);
    assert!(shown[0].starts_with("actions"), "{shown:?}");
    assert!(shown[9].contains("q quit"), "{shown:?}");
    press(&mut browser, &mut source, &[Key::Down, Key::Open]);
    let shown = screen(&browser);
    assert_eq!(shown[0], "action 19: 2 files and directories");
    assert_eq!(shown[1], "+ new19");
    press(&mut browser, &mut source, &[Key::Open]);
    let shown = screen(&browser);
    assert_eq!(shown[0], "changes of new19 by action 19");
    assert_eq!(shown[2..4], ["-old", "+new"]);
    press(&mut browser, &mut source, &[Key::Down]);
    assert_eq!(screen(&browser)[1], "-old");
    for _ in 0..20 {
        press(&mut browser, &mut source, &[Key::PageDown]);
    }
    // The last screen is full.
    assert_eq!(screen(&browser)[7], " line 39");
    press(&mut browser, &mut source, &[Key::Back, Key::Letter('v')]);
    assert_eq!(screen(&browser)[0], "versions of new19");
    press(
        &mut browser,
        &mut source,
        &[Key::Back, Key::Back, Key::Back],
    );
    let shown = screen(&browser);
    assert!(shown[0].starts_with("actions"), "{shown:?}");
    press(&mut browser, &mut source, &[Key::Letter('d')]);
    assert_eq!(screen(&browser)[0], "changes of action 19");
    assert!(!browser.press(Key::Quit, &mut source));
}

#[test]
fn nothing_is_changed_without_a_yes() {
    let mut source = Simulated::new(20);
    let mut browser = begin(&mut source);
    press(&mut browser, &mut source, &[Key::Letter('u')]);
    assert!(browser.is_asking());
    assert!(screen(&browser)[8].contains("Take action 20 back?"));
    // Also not where `q` is meant for the question.
    press(&mut browser, &mut source, &[Key::Quit]);
    assert_eq!(screen(&browser)[8], "Nothing was changed.");
    press(&mut browser, &mut source, &[Key::Letter('y')]);
    assert!(source.done.is_empty());
    press(
        &mut browser,
        &mut source,
        &[Key::Letter('u'), Key::Letter('y')],
    );
    assert_eq!(source.done, ["undid 20"]);
    assert_eq!(screen(&browser)[8], "undid 20.");
    let keys = [
        Key::Open,
        Key::Letter('v'),
        Key::Down,
        Key::Letter('r'),
        Key::Letter('y'),
    ];
    press(&mut browser, &mut source, &keys);
    assert_eq!(source.done[1], "restored new20 to 4");
    source.is_refusing = true;
    press(
        &mut browser,
        &mut source,
        &[Key::Letter('r'), Key::Letter('y')],
    );
    assert!(screen(&browser)[8].starts_with("error: refused"));
}

#[test]
fn names_give_no_orders() {
    let mut source = Simulated::new(3);
    let mut browser = begin(&mut source);
    let shown = screen(&browser);
    assert!(shown[1].contains("cp \\u{202e}a"), "{shown:?}");
    press(&mut browser, &mut source, &[Key::Open]);
    let shown = screen(&browser);
    assert_eq!(shown[2], "~ $'esc\\x1b[31m3'");
    assert!(shown
        .iter()
        .all(|line| line.chars().all(|c| !c.is_control())));
}

#[test]
fn every_size_of_the_screen_will_do() {
    let mut source = Simulated::new(20);
    let mut browser = begin(&mut source);
    press(&mut browser, &mut source, &[Key::PageDown, Key::Down]);
    for (width, height) in [(1, 1), (3, 2), (200, 60), (10, 4)] {
        browser.resize(&mut source, usize::from(height).saturating_sub(3));
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, &browser)).unwrap();
    }
    let mut empty = Simulated::new(0);
    let mut browser = begin(&mut empty);
    press(
        &mut browser,
        &mut empty,
        &[Key::Down, Key::Open, Key::Letter('u')],
    );
    assert!(!browser.is_asking());
    assert_eq!(screen(&browser)[1], "(nothing)");
}
