// SPDX-License-Identifier: GPL-2.0

//! Several processes at once: the log's order is the order in which things happened.

use std::collections::BTreeMap;
use std::process::{Child, Stdio};

use crate::fixture::Fixture;
use crate::harness::Test;
use crate::outcome::{check, fail, same, same_bytes, At, Outcome, Stop};
use crate::shadow::Shadow;
use crate::undo::{self, Line};
use crate::work::{place, record};

pub const TESTS: &[Test] = &[
    Test::new("writers-of-one-file", writers_of_one_file).seconds(120),
    Test::new("writers-of-many-files", writers_of_many_files).seconds(120),
    Test::new("writing-and-reverting", writing_and_reverting).seconds(120),
    Test::new("reverting-twice-at-once", reverting_twice_at_once).seconds(120),
    Test::new("appenders", appenders).seconds(120),
    Test::new("sync-while-writing", sync_while_writing).seconds(120),
];

fn wait(mut child: Child) -> Outcome {
    let status = child.wait()?;
    check!(status.success(), "a side process failed: {status}");
    Ok(())
}

fn start(w: &Fixture, words: &[&str]) -> Outcome<Child> {
    w.worker(words)
        .stdout(Stdio::piped())
        .spawn()
        .at("starting a side process")
}

/// The content of the file according to the log: every line applied in order. Each process writes
/// its records in order, so that its n-th line is its n-th record.
struct Replay {
    shadow: Shadow,
    /// The pid's number as a writer, and how many of its records were seen.
    writers: BTreeMap<String, (u64, u64)>,
}

impl Replay {
    fn new(writers: &[&Child]) -> Replay {
        let number =
            |(number, child): (usize, &&Child)| (child.id().to_string(), (number as u64, 0));
        Replay {
            shadow: Shadow::default(),
            writers: writers.iter().enumerate().map(number).collect(),
        }
    }

    fn line(&mut self, pid: &str, line: &Line) -> Outcome {
        match line.op.as_str() {
            "write" => self.write(pid, line),
            "revert" => {
                for _ in 0..line.number("count")? {
                    check!(self.shadow.undo(), "nothing to revert at: {}", line.text);
                }
                let now = line.number("now")? as usize;
                same(&line.text, self.shadow.size(), now)
            }
            "commit" | "close" | "resync" => Ok(()),
            _ => fail!("an unexpected line: {}", line.text),
        }
    }

    fn write(&mut self, pid: &str, line: &Line) -> Outcome {
        let Some((whose, next)) = self.writers.get_mut(pid) else {
            fail!("an unknown pid {pid}: {}", line.text);
        };
        let bytes = record(*whose, *next);
        let want = (place(*whose, *next), bytes.len() as u64);
        same(
            format!("record {next}: {}", line.text),
            (line.offset, line.length),
            want,
        )?;
        same(&line.text, line.number("size")?, self.shadow.size() as u64)?;
        self.shadow.write(line.offset as usize, &bytes);
        *next += 1;
        Ok(())
    }
}

/// The pid of each line: its own, or that of the line that `open=` names.
fn with_pids(lines: &[Line]) -> Outcome<Vec<(String, &Line)>> {
    let mut opens: BTreeMap<u64, String> = BTreeMap::new();
    let mut found = Vec::new();
    for line in lines {
        let open = line.key("open").and_then(|open| open.parse().ok());
        let own = line
            .key("pid")
            .map(|pid| pid.split('@').next().unwrap_or_default().to_string());
        let pid = match (own, open) {
            (Some(pid), Some(open)) => {
                opens.insert(open, pid.clone());
                pid
            }
            (Some(pid), None) => pid,
            (None, Some(open)) => opens.get(&open).cloned().unwrap_or_default(),
            (None, None) => String::new(),
        };
        found.push((pid, line));
    }
    Ok(found)
}

/// Replays all lines of a file and compares the result with the file; returns the shadow with its
/// history.
fn replayed(w: &Fixture, name: &str, mut replay: Replay) -> Outcome<Shadow> {
    let file = w.open(name)?;
    let lines = undo::lines(&file, true)?;
    for (pid, line) in with_pids(&lines)? {
        replay.line(&pid, line)?;
    }
    same_bytes(
        "the file against its log",
        &w.read(name)?,
        replay.shadow.bytes(),
    )?;
    let live = undo::lines(&file, false)?.len();
    same("live lines", live, replay.shadow.depth())?;
    Ok(replay.shadow)
}

/// All live operations are reverted: 40 one by one, then 20 at once, because the oracle checks
/// every state. With `--full`, all of them one by one.
fn take_all_back(w: &Fixture, name: &str, mut shadow: Shadow) -> Outcome {
    let file = w.open(name)?;
    let end = shadow.depth();
    while shadow.depth() > 0 {
        let left = shadow.depth();
        let singly = w.every_state || end - left < 40;
        let count = if singly { 1 } else { left.min(20) };
        undo::revert(&file, count).at(format!("reverting {count} with {left} left"))?;
        for _ in 0..count {
            shadow.undo();
        }
        same_bytes(format!("with {left} left"), &w.read(name)?, shadow.bytes())?;
    }
    Ok(())
}

const COUNT: &str = "400";

fn writers_of_one_file(w: &mut Fixture) -> Outcome {
    let children: Vec<Child> = ["0", "1", "2", "3"]
        .iter()
        .map(|whose| start(w, &["records", "f", whose, COUNT]))
        .collect::<Outcome<_>>()?;
    let replay = Replay::new(&children.iter().collect::<Vec<_>>());
    children.into_iter().try_for_each(wait)?;
    let shadow = replayed(w, "f", replay)?;
    same("operations", shadow.depth(), 1600)?;
    take_all_back(w, "f", shadow)
}

fn writers_of_many_files(w: &mut Fixture) -> Outcome {
    let mut children = Vec::new();
    for file in ["a", "b", "c", "d"] {
        children.push((file, start(w, &["records", file, "0", COUNT])?));
    }
    let mut seqs = Vec::new();
    for (name, child) in children {
        let replay = Replay::new(&[&child]);
        wait(child)?;
        let shadow = replayed(w, name, replay)?;
        same("operations", shadow.depth(), 400)?;
        for line in undo::lines(&w.open(name)?, true)? {
            seqs.push(line.number("seq")?);
        }
        take_all_back(w, name, shadow)?;
    }
    let all = seqs.len();
    seqs.sort_unstable();
    seqs.dedup();
    same("different numbers", seqs.len(), all)
}

/// How many reverts a side process made.
fn reverts_made(child: Child) -> Outcome<usize> {
    let output = child.wait_with_output()?;
    check!(
        output.status.success(),
        "the reverter failed: {}",
        output.status
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.trim()
        .parse()
        .map_err(|_| Stop::Fail(format!("it said '{text}'")))
}

fn writing_and_reverting(w: &mut Fixture) -> Outcome {
    let writers = vec![
        start(w, &["records", "f", "0", "600"])?,
        start(w, &["records", "f", "1", "600"])?,
    ];
    let reverter = start(w, &["reverts", "f", w.times("500", "60")])?;
    let replay = Replay::new(&writers.iter().collect::<Vec<_>>());
    let made = reverts_made(reverter)?;
    writers.into_iter().try_for_each(wait)?;
    check!(made > 0, "nothing was reverted in between");
    let shadow = replayed(w, "f", replay)?;
    same("what is live", shadow.depth(), 1200 - made)?;
    take_all_back(w, "f", shadow)
}

fn reverting_twice_at_once(w: &mut Fixture) -> Outcome {
    let writer = start(w, &["records", "f", "0", "800"])?;
    let replay = Replay::new(&[&writer]);
    wait(writer)?;
    let times = w.times(300, 30);
    let one = start(w, &["reverts", "f", &times.to_string()])?;
    let two = start(w, &["reverts", "f", &times.to_string()])?;
    same(
        "all reverts succeed",
        reverts_made(one)? + reverts_made(two)?,
        2 * times,
    )?;
    let shadow = replayed(w, "f", replay)?;
    same("what is live", shadow.depth(), 800 - 2 * times)?;
    take_all_back(w, "f", shadow)
}

/// Appends of several shells never lose or mix lines, in the file or in the log.
fn appenders(w: &mut Fixture) -> Outcome {
    w.sh("for p in 1 2 3 4; do (for n in $(seq 100); do echo $p-$n; done >> f) & done; wait")?;
    let text = String::from_utf8_lossy(&w.read("f")?).into_owned();
    same("lines in the file", text.lines().count(), 400)?;
    let lines = undo::lines(&w.open("f")?, false)?;
    let mut at = 0;
    for line in &lines {
        same(&line.text, line.offset, at)?;
        at += line.length;
    }
    same("the log's end", at, text.len() as u64)?;
    for left in [300, 100, 1, 0] {
        let file = w.open("f")?;
        let now = undo::lines(&file, false)?.len();
        let (keep, count) = (left * lines.len() / 400, now - left * lines.len() / 400);
        undo::revert(&file, count)?;
        let size: u64 = lines[..keep].iter().map(|line| line.length).sum();
        w.same(
            &format!("{keep} lines kept"),
            "f",
            &text.as_bytes()[..size as usize],
        )?;
    }
    Ok(())
}

fn sync_while_writing(w: &mut Fixture) -> Outcome {
    let writer = start(w, &["records", "f", "0", "1500"])?;
    let replay = Replay::new(&[&writer]);
    let mount = std::fs::File::open(&w.mnt)?;
    for _ in 0..20 {
        rustix::fs::syncfs(&mount)?;
        if w.path("f").exists() {
            w.open("f")?.sync_all()?;
        }
    }
    wait(writer)?;
    let shadow = replayed(w, "f", replay)?;
    same("operations", shadow.depth(), 1500)
}
