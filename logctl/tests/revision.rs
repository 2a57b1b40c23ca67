// SPDX-License-Identifier: MIT OR Apache-2.0

//! Points of a history as people name them.

use jiff::civil::date;
use jiff::tz::TimeZone;
use logctl::revision::Revision;
use loggerfs_log::types::Time;
use proptest::prelude::*;

/// 2026-11-20 14:05:03, two hours east.
fn now() -> jiff::Zoned {
    let zone = TimeZone::fixed(jiff::tz::offset(2));
    date(2026, 11, 20).at(14, 5, 3, 0).to_zoned(zone).unwrap()
}

/// So many seconds ago.
fn ago(seconds: i64) -> Result<Revision, ()> {
    let sec = now().timestamp().as_second() - seconds;
    Ok(Revision::At(Time { sec, nsec: 0 }))
}

#[test]
fn points_are_numbers_actions_and_times() {
    const DAY: i64 = 86_400;
    let cases = [
        ("1842", Ok(Revision::Op(1842))),
        ("#1842", Ok(Revision::Op(1842))),
        ("@", Ok(Revision::Back(0))),
        ("@-", Ok(Revision::Back(1))),
        ("@~3", Ok(Revision::Back(3))),
        ("10m", ago(600)),
        ("2h", ago(7200)),
        // Read as a negative span: it must not lead into the future.
        ("2h ago", ago(7200)),
        ("2 hours ago", ago(7200)),
        ("1h 5m", ago(3900)),
        ("1d", ago(DAY)),
        ("14:05", ago(3)),
        ("9am", ago(5 * 3600 + 303)),
        ("9:30pm", Err(())),
        ("today 9:30", ago(4 * 3600 + 35 * 60 + 3)),
        ("yesterday 9am", ago(DAY + 5 * 3600 + 303)),
        ("yesterday", ago(DAY + 14 * 3600 + 303)),
        ("2026-11-20 14:05:00", ago(3)),
        ("2026-11-20T12:05:00Z", ago(3)),
        ("2026-11-20T13:05:00+01:00", ago(3)),
        ("2026-11-20", ago(14 * 3600 + 303)),
        // The future, and nonsense.
        ("14:06", Err(())),
        ("2027-01-01", Err(())),
        ("-2h", Err(())),
        ("in 2h", Err(())),
        ("@~", Err(())),
        ("@+1", Err(())),
        ("#", Err(())),
        ("soon", Err(())),
        ("", Err(())),
        ("99999999999999999999", Err(())),
    ];
    for (text, want) in cases {
        assert_eq!(
            Revision::parse(text, &now()).map_err(|_| ()),
            want,
            "{text}"
        );
    }
}

proptest! {
    /// For any input, no revision lies in the future, and nothing panics.
    #[test]
    fn no_point_lies_in_the_future(text in "[0-9a-zA-Z :@~#+.-]{0,16}") {
        if let Ok(Revision::At(time)) = Revision::parse(&text, &now()) {
            prop_assert!(time.sec <= now().timestamp().as_second());
        }
    }
}
