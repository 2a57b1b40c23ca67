// SPDX-License-Identifier: MIT OR Apache-2.0

//! Points of a history as people name them: the number of an operation, so many actions back, a time.

use std::str::FromStr;

use jiff::civil::{DateTime, Time as Clock};
use jiff::fmt::strtime;
use jiff::{Span, Timestamp, Zoned};

use loggerfs_log::types::Time;

/// A point of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revision {
    /// Right after the operation with this number.
    Op(u64),
    /// So many actions back; 0: now.
    Back(usize),
    /// A time.
    At(Time),
}

impl Revision {
    /// Reads `1842`, `#1842`, `@`, `@-`, `@~3`, or a time that is not in the future.
    pub fn parse(text: &str, now: &Zoned) -> Result<Self, String> {
        let digits = text.strip_prefix('#').unwrap_or(text);
        if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            let number = digits.parse();
            return number
                .map(Self::Op)
                .map_err(|_| format!("'{text}' is no operation's number"));
        }
        if let Some(back) = text.strip_prefix('@') {
            let count = match back {
                "" => Some(0),
                "-" => Some(1),
                _ => back.strip_prefix('~').and_then(|count| count.parse().ok()),
            };
            let wrong = || format!("'{text}' is no point: @, @- and @~3 are");
            return count.map(Self::Back).ok_or_else(wrong);
        }
        time(text, now).map(Self::At)
    }
}

/// Reads a time that is not in the future: `10m`, `2h ago`, `14:05`, `yesterday 9am`, RFC 3339.
pub fn time(text: &str, now: &Zoned) -> Result<Time, String> {
    let text = text.trim();
    let unknown = || {
        format!(
            "'{text}' is no time: 10m, 2h ago, 14:05, 'yesterday 9am', '2026-11-20 14:05:03' are"
        )
    };
    let found = span(text, now)
        .or_else(|| instant(text, now))
        .or_else(|| of_day(text, now))
        .ok_or_else(unknown)?;
    if found > now.timestamp() {
        return Err(format!("'{text}' lies in the future"));
    }
    let nanoseconds = found.as_nanosecond();
    let second = nanoseconds.div_euclid(1_000_000_000);
    Ok(Time {
        sec: i64::try_from(second).map_err(|_| unknown())?,
        nsec: u32::try_from(nanoseconds.rem_euclid(1_000_000_000)).map_err(|_| unknown())?,
    })
}

/// So long ago. `2 hours ago` is read as a negative span, `2h` as a positive one: both are past.
fn span(text: &str, now: &Zoned) -> Option<Timestamp> {
    let span = Span::from_str(text).ok()?;
    // `in 2h` and `-2h` are not said of the past.
    if text.starts_with(['-', '+']) {
        return None;
    }
    Some(now.checked_sub(span.abs()).ok()?.timestamp())
}

/// A date, with a time or without, of a zone or of ours.
fn instant(text: &str, now: &Zoned) -> Option<Timestamp> {
    if let Ok(timestamp) = Timestamp::from_str(text) {
        return Some(timestamp);
    }
    let local = DateTime::from_str(text).ok()?;
    Some(local.to_zoned(now.time_zone().clone()).ok()?.timestamp())
}

/// `14:05`, `9am`, `today 9:30`, `yesterday 9am`, `yesterday`.
fn of_day(text: &str, now: &Zoned) -> Option<Timestamp> {
    let (day, rest) = match text.split_once(' ') {
        Some(("today", rest)) => (now.date(), rest),
        Some(("yesterday", rest)) => (now.date().yesterday().ok()?, rest),
        _ if text == "yesterday" => (now.date().yesterday().ok()?, "0:00"),
        _ if text == "today" => (now.date(), "0:00"),
        _ => (now.date(), text),
    };
    let local = day.to_datetime(clock(rest.trim())?);
    Some(local.to_zoned(now.time_zone().clone()).ok()?.timestamp())
}

fn clock(text: &str) -> Option<Clock> {
    let forms = ["%H:%M:%S", "%H:%M", "%I:%M%p", "%I%p", "%I:%M %p", "%I %p"];
    let parsed = forms
        .iter()
        .find_map(|form| strtime::parse(form, text).ok());
    parsed?.to_time().ok()
}
