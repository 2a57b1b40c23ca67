// SPDX-License-Identifier: MIT OR Apache-2.0

//! How the browser is drawn. Texts are escaped: no name gives the terminal an order.

use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::Paragraph;
use ratatui::Frame;

use super::state::{Browser, Page, Place};
use crate::describe::count;
use crate::quote::word;
use crate::screen::{visible, width_of};

/// Lines that are no part of the list: title, message, keys.
pub const OTHER_LINES: u16 = 3;

/// Draws the browser on the whole screen.
pub fn draw(frame: &mut Frame<'_>, browser: &Browser) {
    let parts = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(1),
        Constraint::Length(1),
    ]);
    let [title, list, message, keys] = parts.areas(frame.area());
    let place = browser.place();
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let reversed = Style::new().add_modifier(Modifier::REVERSED);
    print(frame, title, &heading(&place.page), bold);
    draw_list(frame, list, place);
    print(frame, message, &browser.message, bold);
    print(frame, keys, hint(browser), reversed);
}

fn print(frame: &mut Frame<'_>, area: Rect, text: &str, style: Style) {
    let text = visible(text).replace(['\n', '\t'], " ");
    frame.render_widget(Paragraph::new(Line::styled(text, style)).style(style), area);
}

fn heading(page: &Page) -> String {
    match page {
        Page::Actions(_) => "actions, the newest first".into(),
        Page::Files(op, rows) => {
            let number = count(rows.len(), "file or directory", "files and directories");
            format!("action {op}: {number}")
        }
        Page::Versions(path, _) => format!("versions of {}", word(path)),
        Page::Text(title, _) => title.clone(),
    }
}

fn hint(browser: &Browser) -> &'static str {
    if browser.is_asking() {
        return "y yes   other keys no";
    }
    match browser.place().page {
        Page::Actions(_) => "Enter files   d diff   u undo   ↑↓ PgUp PgDn Home   q quit",
        Page::Files(..) => "Enter diff   v versions   u undo   Esc back   q quit",
        Page::Versions(..) => "Enter diff   r restore   Esc back   q quit",
        Page::Text(..) => "↑↓ PgUp PgDn Home   Esc back   q quit",
    }
}

fn draw_list(frame: &mut Frame<'_>, area: Rect, place: &Place) {
    let height = usize::from(area.height);
    let lines = match &place.page {
        Page::Actions(rows) => columns(rows.iter().map(|row| &row.cells).take(height).collect()),
        Page::Files(_, rows) => {
            let rows = rows.iter().skip(place.first).take(height);
            rows.map(|row| format!("{} {}", row.sign, word(&row.path)))
                .collect()
        }
        Page::Versions(_, rows) => {
            let rows = rows.iter().skip(place.first).take(height);
            rows.map(|row| row.text.clone()).collect()
        }
        Page::Text(_, lines) => lines
            .iter()
            .skip(place.first)
            .take(height)
            .cloned()
            .collect(),
    };
    let is_text = matches!(place.page, Page::Text(..));
    for (at, (line, y)) in lines.iter().zip(area.y..area.bottom()).enumerate() {
        let row = Rect {
            y,
            height: 1,
            ..area
        };
        let style = match is_text {
            true => of_difference(line),
            false if place.first + at == place.chosen => {
                Style::new().add_modifier(Modifier::REVERSED)
            }
            false => Style::new(),
        };
        print(frame, row, line, style);
    }
    if lines.is_empty() {
        print(frame, area, "(nothing)", Style::new());
    }
}

fn of_difference(line: &str) -> Style {
    match line.bytes().next() {
        _ if line.starts_with("+++") || line.starts_with("---") || line.starts_with("diff ") => {
            Style::new().add_modifier(Modifier::BOLD)
        }
        Some(b'+') => Style::new().fg(Color::Green),
        Some(b'-') => Style::new().fg(Color::Red),
        Some(b'@') => Style::new().fg(Color::Cyan),
        _ => Style::new(),
    }
}

/// Rows with aligned columns.
fn columns(rows: Vec<&[String; 6]>) -> Vec<String> {
    let width = |at: usize| rows.iter().map(|row| width_of(&row[at])).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    let line = |row: &&[String; 6]| {
        let mut line = String::new();
        for (at, cell) in row.iter().enumerate() {
            let padding = widths[at].saturating_sub(width_of(cell));
            line.push_str(cell);
            line.extend(std::iter::repeat_n(
                ' ',
                padding + if at == 0 { 1 } else { 2 },
            ));
        }
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}
