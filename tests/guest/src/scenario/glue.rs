// SPDX-License-Identifier: GPL-2.0

//! Functions of glue/ that read fields of the calling process, compared with /proc.

use std::fs;

use crate::fixture::Fixture;
use crate::harness::Test;
use crate::outcome::{check, fail, same, At, Outcome};
use crate::undo;

pub const TESTS: &[Test] = &[Test::new("glue-caller", caller)];

/// A shell that leads a session writes a file, and saves its own fields in /proc.
const WRITER: &str =
    "setsid -w bash -c 'printf x > f; cat /proc/$$/stat > stat; true' shell 'an argument'";

/// A line names process, parent, session, start and arguments as /proc does.
fn caller(w: &mut Fixture) -> Outcome {
    w.sh(WRITER)?;
    let stat = String::from_utf8_lossy(&w.read("stat")?).into_owned();
    let Some((pid, rest)) = stat.split_once(" (bash) ") else {
        fail!("an unexpected stat: {stat}");
    };
    // The third field is the first of these.
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let lines = undo::lines(&w.open("f")?, false)?;
    let Some(line) = lines.first() else {
        fail!("no line");
    };
    let Some((line_pid, start)) = line.key("pid").and_then(|pid| pid.split_once('@')) else {
        fail!("no pid=PID@START: {}", line.text);
    };
    same("pid", line_pid, pid)?;
    same("ppid", line.key("ppid"), Some(fields[1]))?;
    same("sid", line.key("sid"), Some(fields[3]))?;
    same("the session's leader", fields[3], pid)?;
    let table = fs::read_to_string("/proc/stat").at("/proc/stat")?;
    let boot = table.lines().find_map(|line| line.strip_prefix("btime "));
    let boot: f64 = boot.and_then(|time| time.parse().ok()).unwrap_or(0.0);
    let ticks: f64 = fields[19].parse().unwrap_or(0.0);
    let start: f64 = start.parse().unwrap_or(0.0);
    // btime is a whole second, and the clock may be adjusted.
    check!(
        (boot + ticks / 100.0 - start).abs() < 3.0,
        "start: {start}, not {boot} and {ticks} ticks"
    );
    let args = line.key("args").unwrap_or_default();
    check!(
        args.starts_with("bash%00-c%00") && args.contains("printf"),
        "the arguments: {args}"
    );
    Ok(())
}
