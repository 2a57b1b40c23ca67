// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tables of results.

use crate::describe::{cut_to, WIDEST};
use crate::screen::width_of;

/// Rows in aligned columns; the last column is not padded.
pub fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [1; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(width_of(cell));
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (at, (cell, width)) in row.iter().zip(widths).enumerate() {
            if at + 1 == N {
                line.push_str(cell);
                continue;
            }
            let padding = width - width_of(cell) + if at == 0 { 1 } else { 2 };
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', padding));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Cuts the last two columns to share the width of a terminal, the last one to less than it needs only where it
/// needs more than half of both. Without a terminal the last but one is cut to a usual width.
pub fn fit<const N: usize>(rows: &mut [[String; N]], columns: Option<usize>) {
    let widest = |at: usize| rows.iter().map(|row| width_of(&row[at])).max().unwrap_or(0);
    let Some(columns) = columns else {
        for row in rows {
            row[N - 2] = cut_to(&row[N - 2], WIDEST);
        }
        return;
    };
    let before: usize = (0..N - 2)
        .map(|at| widest(at).max(1) + if at == 0 { 1 } else { 2 })
        .sum();
    let room = columns.saturating_sub(before + 2).max(2 * NARROWEST);
    let last = widest(N - 1).min(room - widest(N - 2).min(room / 2));
    for row in rows {
        row[N - 2] = cut_to(&row[N - 2], room - last);
        row[N - 1] = cut_to(&row[N - 1], last);
    }
}

/// A column is not cut to less.
const NARROWEST: usize = 10;

#[cfg(test)]
mod tests {
    use super::{fit, width_of};

    fn fitted(command: &str, changes: &str, columns: Option<usize>) -> [String; 4] {
        let mut rows = [["@", "12", command, changes].map(str::to_owned)];
        fit(&mut rows, columns);
        let [row] = rows;
        row
    }

    #[test]
    fn a_terminal_gives_its_width_to_the_last_two_columns() {
        let long = "x".repeat(100);
        for columns in [40, 80, 132] {
            let [mark, id, command, changes] = fitted(&long, &long, Some(columns));
            let all = [&mark, &id, &command, &changes].map(|cell| width_of(cell));
            assert_eq!(all.iter().sum::<usize>() + 1 + 2 + 2, columns);
            assert!(
                command.len().abs_diff(changes.len()) <= 1,
                "{command} {changes}"
            );
        }
        assert_eq!(
            fitted(&long, "short", Some(80))[2].chars().count(),
            80 - 2 - 4 - 2 - 5
        );
        assert_eq!(
            fitted("short", &long, Some(80))[3].chars().count(),
            80 - 2 - 4 - 2 - 5
        );
    }

    #[test]
    fn wide_characters_take_two_columns() {
        let [.., command, changes] = fitted(&"\u{4f60}".repeat(60), "short", Some(80));
        assert!((66..=67).contains(&width_of(&command)), "{command}");
        assert_eq!(changes, "short");
    }

    #[test]
    fn without_a_terminal_only_commands_are_cut() {
        let long = "x".repeat(100);
        let [.., command, changes] = fitted(&long, &long, None);
        assert_eq!((width_of(&command), width_of(&changes)), (40, 100));
    }
}
