// SPDX-License-Identifier: GPL-2.0

//! Times in tables, which differ each time that a session is run.

/// A column of a table that has a time.
#[derive(Clone, Copy)]
struct TimeColumn {
    name: &'static str,
    start: usize,
    end: usize,
    /// The width without a time.
    width: usize,
}

impl TimeColumn {
    /// The one in a table with this head.
    fn of(head: &str) -> Option<TimeColumn> {
        let column = |name: &'static str, next: &str, width| {
            let start = head.find(&format!("  {name} "))? + 2;
            let end = start + head.get(start..)?.find(&format!("  {next} "))?;
            Some(TimeColumn {
                name,
                start,
                end,
                width,
            })
        };
        column("WHEN", "WHO", 6)
            .or_else(|| column("DELETED", "WHO", 7))
            .or_else(|| column("AT", "ID", 19))
    }

    /// The line with `0s ago` in the column, in the width of that; or with a fixed date.
    fn normal(self, line: &str) -> Option<String> {
        let before = line.get(..self.start)?;
        let cell = line.get(self.start..self.end)?.trim_end();
        let after = line.get(self.end..)?;
        let cell = match cell {
            name if name == self.name => name,
            time if before.ends_with("  ") && is_time_since(time) => "0s ago",
            time if before == "  " && is_date(time) => "2026-01-01 00:00:00",
            _ => return None,
        };
        Some(format!("{before}{cell:width$}{after}", width = self.width))
    }
}

/// Output with `0s ago` in the columns WHEN and DELETED of `logctl`, whatever the time since the operation is, and a
/// fixed date in its column AT: the only words of a session that may differ.
pub fn normalized(output: &[String]) -> Vec<String> {
    let mut column = None;
    let normal = |line: &String| {
        if line.starts_with("  ID ") || line.starts_with("  AT ") {
            column = TimeColumn::of(line);
        }
        let normal = column.and_then(|column: TimeColumn| column.normal(line));
        normal.unwrap_or_else(|| line.clone())
    };
    output.iter().map(normal).collect()
}

/// `2026-11-30 02:08:22`.
fn is_date(cell: &str) -> bool {
    let form = b"0000-00-00 00:00:00";
    let fits = |(byte, form): (u8, &u8)| match form {
        b'0' => byte.is_ascii_digit(),
        form => byte == *form,
    };
    cell.len() == form.len() && cell.bytes().zip(form).all(fits)
}

/// `12s ago`, `3m ago`.
fn is_time_since(cell: &str) -> bool {
    let number = cell
        .strip_suffix(" ago")
        .and_then(|time| time.strip_suffix(['s', 'm']));
    number.is_some_and(|number| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}
