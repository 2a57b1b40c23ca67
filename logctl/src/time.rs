// SPDX-License-Identifier: MIT OR Apache-2.0

//! Points in time for JSON.

use loggerfs_log::types::Time;

const DAY: i64 = 24 * 60 * 60;

/// RFC 3339 with nanoseconds, in UTC.
pub fn rfc3339(time: Time) -> String {
    let (days, second) = (time.sec.div_euclid(DAY), time.sec.rem_euclid(DAY));
    let (year, month, day) = civil(days);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}.{:09}+00:00",
        second % 60,
        time.nsec
    )
}

/// Year, month and day of a day that many days after 1970-01-01. Years begin in March here, so
/// that the leap day is the last.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 {
        (year, month + 3)
    } else {
        (year + 1, month - 9)
    };
    (era * 400 + year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_days() {
        let cases = [
            (0, "1970-01-01T00:00:00.000000007+00:00"),
            (-1, "1969-12-31T23:59:59.000000007+00:00"),
            (951_782_400, "2000-02-29T00:00:00.000000007+00:00"),
            (1_763_639_066, "2025-11-20T11:44:26.000000007+00:00"),
            (4_107_542_399, "2100-02-28T23:59:59.000000007+00:00"),
            (4_107_542_400, "2100-03-01T00:00:00.000000007+00:00"),
        ];
        for (sec, text) in cases {
            assert_eq!(rfc3339(Time { sec, nsec: 7 }), text);
        }
        // No time that a line can hold overflows.
        rfc3339(Time {
            sec: i64::MIN,
            nsec: 0,
        });
        rfc3339(Time {
            sec: i64::MAX,
            nsec: 0,
        });
    }
}
