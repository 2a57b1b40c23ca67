// SPDX-License-Identifier: GPL-2.0

//! Functions of glue/ that read fields of the calling process, compared with /proc.

use std::fs::{self, File};

use crate::fixture::Fixture;
use crate::harness::Test;
use crate::mounts::Lower;
use crate::outcome::{check, fail, same, At, Outcome};
use crate::undo::{self, Line};

pub const TESTS: &[Test] = &[
    Test::new("glue-caller", caller),
    Test::new("glue-process-tree", process_tree),
    Test::new("glue-many-ancestors", many_ancestors),
];

/// A shell that leads a session writes a file, and saves its own fields in /proc.
const WRITER: &str =
    "setsid -w bash -c 'printf x > f; cat /proc/$$/stat > stat; true' shell 'an argument'";

/// A process as /proc/PID/stat has it.
struct Stat {
    pid: String,
    /// The fields from the third on.
    fields: Vec<String>,
}

impl Stat {
    /// Of a shell.
    fn parse(text: &str) -> Outcome<Self> {
        let Some((pid, rest)) = text.split_once(" (bash) ") else {
            fail!("an unexpected stat: {text}");
        };
        Ok(Self {
            pid: pid.to_string(),
            fields: rest.split_whitespace().map(str::to_string).collect(),
        })
    }

    fn parent(&self) -> &str {
        &self.fields[1]
    }

    fn group(&self) -> &str {
        &self.fields[2]
    }

    fn session(&self) -> &str {
        &self.fields[3]
    }

    /// Compares the start with one of a line.
    fn same_start(&self, start: &str) -> Outcome {
        let table = fs::read_to_string("/proc/stat").at("/proc/stat")?;
        let boot = table.lines().find_map(|line| line.strip_prefix("btime "));
        let boot: f64 = boot.and_then(|time| time.parse().ok()).unwrap_or(0.0);
        let ticks: f64 = self.fields[19].parse().unwrap_or(0.0);
        let start: f64 = start.parse().unwrap_or(0.0);
        // btime is a whole second, and the clock may be adjusted.
        check!(
            (boot + ticks / 100.0 - start).abs() < 3.0,
            "start: {start}, not {boot} and {ticks} ticks"
        );
        Ok(())
    }
}

/// A process of a line, as PID and START.
fn split(process: &str) -> Outcome<(&str, &str)> {
    match process.split_once('@') {
        Some(parts) => Ok(parts),
        None => fail!("no PID@START: {process}"),
    }
}

/// The only line of a file.
fn first_line(w: &Fixture, name: &str) -> Outcome<Line> {
    match undo::lines(&w.open(name)?, false)?.into_iter().next() {
        Some(line) => Ok(line),
        None => fail!("no line of {name}"),
    }
}

/// A line names process, parent, session, start and arguments as /proc does.
fn caller(w: &mut Fixture) -> Outcome {
    w.sh(WRITER)?;
    let stat = Stat::parse(&String::from_utf8_lossy(&w.read("stat")?))?;
    let line = first_line(w, "f")?;
    let (pid, start) = split(line.key("pid").unwrap_or_default())?;
    same("pid", pid, &stat.pid)?;
    same("ppid", line.key("ppid"), Some(stat.parent()))?;
    same("sid", line.key("sid"), Some(stat.session()))?;
    same("the session's leader", stat.session(), pid)?;
    same("pgid", line.key("pgid"), Some(pid))?;
    stat.same_start(start)?;
    let args = line.key("args").unwrap_or_default();
    check!(
        args.starts_with("bash%00-c%00") && args.contains("printf"),
        "the arguments: {args}"
    );
    Ok(())
}

/// With job control, each command line is a process group. The shell inside writes; its parent and
/// that one's parent change nothing.
const TREE: &str = r#"bash -c 'set -m
    bash -c "
        bash -c \"printf x > f; printf y > g; cat /proc/\\\$\\\$/stat > ../inner; true\"
        cat /proc/\$\$/stat > ../leader
        true
    "
    cat /proc/$$/stat > ../shell; true'"#;

/// A line names the process group with its leader, and the first one of a process its ancestors.
fn process_tree(w: &mut Fixture) -> Outcome {
    w.sh(&format!("mkdir d; cd d; {}", TREE.replace("../", "../../")))?;
    let stat = |name: &str| -> Outcome<Stat> {
        let path = w.path("..").join(name);
        let text = fs::read_to_string(&path).at(name)?;
        fs::remove_file(&path).at(name)?;
        Stat::parse(&text)
    };
    let (inner, leader, shell) = (stat("inner")?, stat("leader")?, stat("shell")?);
    same("the group", inner.group(), &leader.pid)?;
    let line = first_line(w, "d/f")?;
    same(
        "pid",
        split(line.key("pid").unwrap_or_default())?.0,
        &inner.pid,
    )?;
    let (pgid, start) = split(line.key("pgid").unwrap_or_default())?;
    same("pgid", pgid, &leader.pid)?;
    leader.same_start(start)?;
    // The creation, in the directory, was the first line of the process.
    check!(line.key("anc").is_none(), "a second time: {}", line.text);
    let lines = undo::lines(&File::open(w.path("d"))?, false)?;
    let [first, second] = &lines[..] else {
        fail!("{} lines of the directory", lines.len());
    };
    check!(
        second.key("anc").is_none(),
        "a second time: {}",
        second.text
    );
    let ancestors: Vec<&str> = first.key("anc").unwrap_or_default().split(',').collect();
    check!(ancestors.len() > 2, "not all ancestors: {}", first.text);
    for (found, expected) in ancestors.iter().zip([&leader, &shell]) {
        let (pid, start) = split(found)?;
        same("an ancestor", pid, &expected.pid)?;
        expected.same_start(start)?;
    }
    // A private tmpfs ends with its mount.
    if w.lower == Lower::Private {
        return Ok(());
    }
    // The next segment has them again.
    w.remount()?;
    w.sh("printf z >> d/f")?;
    let again = undo::lines(&w.open("d/f")?, false)?;
    let last = again.last().and_then(|line| line.key("anc"));
    check!(last.is_some(), "no ancestors in a new segment");
    Ok(())
}

/// Of more ancestors than a line records, the nearest ones are there.
fn many_ancestors(w: &mut Fixture) -> Outcome {
    fs::write(
        w.path("nest"),
        "[ $1 = 0 ] && { printf x > f; exit 0; }; bash ./nest $(($1 - 1)); true",
    )?;
    w.sh("bash ./nest 20")?;
    let lines = undo::lines(&File::open(w.path("."))?, false)?;
    let made = lines.iter().find(|line| line.key("name") == Some("f"));
    let ancestors = made.and_then(|line| line.key("anc")).unwrap_or_default();
    same("the number of ancestors", ancestors.split(',').count(), 16)
}
