// SPDX-License-Identifier: GPL-2.0

//! A frozen lower filesystem: no call and no pending journal work reaches its device; after the
//! thaw, all of them complete and can be taken back.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::{self, sleep, JoinHandle};
use std::time::{Duration, Instant};

use super::frozen_changes::{open, open_named, prepare, state, FrozenChange, Undo, CHANGES};
use crate::fixture::Fixture;
use crate::group::Watch;
use crate::harness::Test;
use crate::mounts::Lower;
use crate::outcome::{check, same, At, Outcome, Stop};
use crate::sys;
use crate::undo;

const DISKS: &[Lower] = &[Lower::Ext4, Lower::Xfs, Lower::Btrfs];

pub const TESTS: &[Test] = &[
    Test::new("frozen-hooks", hooks).only(DISKS).seconds(180),
    Test::new("frozen-now-and-then", now_and_then)
        .only(DISKS)
        .seconds(180),
    Test::new("frozen-waits-end-with-a-kill", killable).only(DISKS),
    Test::new("frozen-room-ends-with-a-kill", room)
        .only(DISKS)
        .seconds(120),
    Test::new("frozen-group-ends-with-a-kill", group_revert)
        .only(DISKS)
        .seconds(120),
];

const FREEZE: u64 = 0xC004_5877;
const THAW: u64 = 0xC004_5878;

/// A frozen filesystem; dropping this thaws it.
struct Frozen(File);

impl Frozen {
    fn new(place: &Path) -> io::Result<Frozen> {
        let place = File::open(place)?;
        sys::ioctl_number(&place, FREEZE, 0)?;
        Ok(Frozen(place))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = sys::ioctl_number(&self.0, THAW, 0);
    }
}

/// How many sectors were written to the device below, so far.
fn written(w: &Fixture) -> Outcome<u64> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let of = |line: &str| -> Option<(PathBuf, String)> {
        let (front, back) = line.split_once(" - ")?;
        let point = PathBuf::from(front.split(' ').nth(4)?);
        let device = back.split(' ').nth(1)?.strip_prefix("/dev/")?;
        Some((point, device.to_string()))
    };
    let lines = table.lines().filter_map(of);
    let below = lines.filter(|(point, _)| w.base.starts_with(point));
    let (_, device) = below
        .max_by_key(|(point, _)| point.as_os_str().len())
        .ok_or_else(|| Stop::Fail("no device below".into()))?;
    let stat = fs::read_to_string(format!("/sys/class/block/{device}/stat"))?;
    let sectors = stat.split_whitespace().nth(6).and_then(|n| n.parse().ok());
    sectors.ok_or_else(|| Stop::Fail(format!("{device}: {stat}")))
}

/// A change under way in a thread.
struct UnderWay {
    name: &'static str,
    undo: Undo,
    place: PathBuf,
    before: BTreeMap<PathBuf, String>,
    done: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<()>>,
}

fn begin(
    w: &Fixture,
    (name, undo, change): (&'static str, Undo, FrozenChange),
) -> Outcome<UnderWay> {
    let place = w.path(name);
    let before = state(&place)?;
    let done = Arc::new(AtomicBool::new(false));
    let (at, flag) = (place.clone(), done.clone());
    let thread = thread::spawn(move || {
        let result = change(&at);
        flag.store(true, Ordering::SeqCst);
        result
    });
    Ok(UnderWay {
        name,
        undo,
        place,
        before,
        done,
        thread,
    })
}

fn hooks(w: &mut Fixture) -> Outcome {
    let is_ext4 = w.lower == Lower::Ext4;
    let cannot = |name: &str| is_ext4 && name == "clone";
    let changes: Vec<_> = CHANGES.iter().filter(|(name, ..)| !cannot(name)).collect();
    for (name, ..) in &changes {
        prepare(&w.path(name)).at(name)?;
    }
    w.make("waiting", &[1; 5000])?;
    let lower = w.below("")?;
    rustix::fs::sync();
    // This is in the journal's memory yet.
    put(w, "waiting", 100)?;
    let frozen = Frozen::new(&lower).at("freezing")?;
    let before = written(w)?;
    let mut under_way = Vec::new();
    for change in &changes {
        under_way.push(begin(w, **change)?);
    }
    // Longer than the journal delays a write.
    sleep(Duration::from_millis(2500));
    let early: Vec<_> = under_way
        .iter()
        .filter(|change| change.done.load(Ordering::SeqCst))
        .map(|change| change.name)
        .collect();
    let after = written(w)?;
    // Who only looks does not wait.
    for change in &under_way {
        if change.undo == Undo::OfNames && change.name != "rmdir" {
            continue;
        }
        same(
            change.name,
            fs::metadata(change.place.join("g"))?.len(),
            20_000,
        )?;
        fs::read(change.place.join("g"))?;
    }
    drop(frozen);
    for change in under_way {
        let result = change
            .thread
            .join()
            .map_err(|_| Stop::Fail("a thread".into()))?;
        result.at(change.name)?;
        taken_back(change.name, change.undo, &change.place, &change.before)?;
    }
    check!(early.is_empty(), "done while it was frozen: {early:?}");
    same("sectors written while it was frozen", after, before)?;
    w.revert("waiting", 1)?;
    w.same("what waited", "waiting", &[1; 5000])?;
    undone_while_frozen(w)
}

/// A call that waits for the history can be killed, and none of its data is lost.
fn killable(w: &mut Fixture) -> Outcome {
    w.make("f", &[1; 5000])?;
    let lower = w.below("")?;
    rustix::fs::sync();
    put(w, "f", 100)?;
    let frozen = Frozen::new(&lower).at("freezing")?;
    let file = w.path("f").display().to_string();
    let commands: [&[&str]; 3] = [
        &["sync", &file],
        &["sync", "--data", &file],
        &["sync", "--file-system", &file],
    ];
    let mut waiting = Vec::new();
    for words in commands {
        waiting.push((words, Command::new(words[0]).args(&words[1..]).spawn()?));
    }
    sleep(Duration::from_millis(1500));
    for (words, child) in &mut waiting {
        check!(child.try_wait()?.is_none(), "{words:?} did not wait");
        // A freeze is no reason to go on without the history.
        let pid = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(pid, rustix::process::Signal::CONT)?;
    }
    sleep(Duration::from_millis(300));
    for (words, child) in &mut waiting {
        check!(child.try_wait()?.is_none(), "{words:?} did not wait on");
        child.kill()?;
        let mut rounds = 0;
        while child.try_wait()?.is_none() {
            check!(rounds < 30, "{words:?} still waits, killed");
            rounds += 1;
            sleep(Duration::from_millis(100));
        }
    }
    drop(frozen);
    w.open("f")?.sync_all()?;
    w.revert("f", 1)?;
    w.same("the write that waited", "f", &[1; 5000])
}

/// The time until a killed process is gone; `None`: longer than three seconds.
fn killed(child: &mut Child) -> io::Result<Option<Duration>> {
    child.kill()?;
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(3) {
        if child.try_wait()?.is_some() {
            return Ok(Some(since.elapsed()));
        }
        sleep(Duration::from_millis(20));
    }
    Ok(None)
}

/// Writers that wait for each other's room in the journal's memory can be killed. Those that wait for the
/// lower filesystem itself cannot, as on the raw one.
fn room(w: &mut Fixture) -> Outcome {
    const WRITERS: usize = 90;
    fs::create_dir(w.path("d"))?;
    for number in 0..WRITERS {
        w.make(&format!("d/{number}"), b"before")?;
    }
    let lower = w.below("")?;
    rustix::fs::sync();
    let frozen = Frozen::new(&lower).at("freezing")?;
    let mut writers = Vec::new();
    for number in 0..WRITERS {
        let file = w.path(&format!("d/{number}"));
        let mut command = Command::new("dd");
        command.args([
            "if=/dev/zero",
            "bs=512",
            "count=1",
            "conv=notrunc",
            "status=none",
        ]);
        writers.push(command.arg(format!("of={}", file.display())).spawn()?);
    }
    sleep(Duration::from_millis(3000));
    // Each of those that came first holds room for two lines of 112.
    let mut gone = 0;
    for writer in writers.iter_mut().rev().take(20) {
        gone += usize::from(killed(writer)?.is_some());
    }
    drop(frozen);
    for writer in &mut writers {
        let _ = writer.kill();
        writer.wait()?;
    }
    check!(gone >= 10, "{gone} of 20 that waited for room were killed");
    // Processes that could not be killed have ended by now.
    for number in 0..WRITERS {
        let name = format!("d/{number}");
        if w.read(&name)? != b"before" {
            w.revert(&name, 1).at(&name)?;
        }
        w.same("taken back", &name, b"before")?;
    }
    Ok(())
}

/// A revert of several objects waits for a frozen filesystem with nothing locked, and can be killed.
fn group_revert(w: &mut Fixture) -> Outcome {
    w.sh("mkdir -m 1777 d; echo theirs > d/theirs")?;
    let watch = Watch::begin(w)?;
    w.sh("echo one > d/f; echo two > d/f; mv d/f d/g; mkdir d/e")?;
    let done = watch.operations(w)?;
    let range = match (done.first(), done.last()) {
        (Some(first), Some(last)) => format!("{}..{}", first.seq, last.seq),
        _ => crate::outcome::fail!("no operations"),
    };
    let lower = w.below("")?;
    rustix::fs::sync();
    put(w, "d/theirs", 0)?;
    let frozen = Frozen::new(&lower).at("freezing")?;
    let mut revert = Command::new("logctl");
    revert.args(["revert", &range]).current_dir(&w.mnt);
    let mut revert = revert.spawn()?;
    sleep(Duration::from_millis(2000));
    check!(revert.try_wait()?.is_none(), "the revert did not wait");
    // Who only looks does not wait.
    let (place, done) = (w.path("d"), Arc::new(AtomicBool::new(false)));
    let flag = done.clone();
    let looking = thread::spawn(move || -> io::Result<usize> {
        let count = fs::read_dir(&place)?.count();
        fs::metadata(place.join("missing")).err();
        flag.store(true, Ordering::SeqCst);
        Ok(count)
    });
    sleep(Duration::from_millis(1500));
    let has_looked = done.load(Ordering::SeqCst);
    let took = killed(&mut revert)?;
    drop(frozen);
    revert.wait()?;
    let count = looking
        .join()
        .map_err(|_| Stop::Fail("a thread".into()))??;
    check!(has_looked, "looking waits for a revert");
    check!(took.is_some(), "a revert that waits cannot be killed");
    same("names", count, 3)?;
    check!(w.path("d/g").exists(), "something was changed");
    w.sh(&format!("logctl revert {range}"))?;
    same("left", fs::read_dir(w.path("d"))?.count(), 1)
}

fn put(w: &Fixture, name: &str, at: u64) -> Outcome {
    Ok(open_named(&w.mnt, name)?.write_all_at(b"now", at)?)
}

fn taken_back(name: &str, undo: Undo, place: &Path, before: &BTreeMap<PathBuf, String>) -> Outcome {
    let file = match undo {
        Undo::None => return Ok(()),
        Undo::OfFile => open(place)?,
        Undo::OfNames => File::open(place)?,
    };
    let now = state(place)?;
    check!(
        now != *before || name == "allocate",
        "{name} changed nothing"
    );
    undo::revert(&file, 1).at(format!("taking back: {name}"))?;
    drop(file);
    same(format!("taken back: {name}"), &state(place)?, before)
}

/// The undos that were requested during the freeze.
fn undone_while_frozen(w: &Fixture) -> Outcome {
    let content = fs::read(w.path("undo-of-content/written"))?;
    check!(
        content.starts_with(b"written"),
        "the content was not taken back"
    );
    let back = w.path("undo-of-names/d/gone").exists();
    check!(back, "the name was not taken back");
    Ok(())
}

/// Repeated freezes during work: no call waits for ever, and nothing is lost.
fn now_and_then(w: &mut Fixture) -> Outcome {
    let stop = Arc::new(AtomicBool::new(false));
    let mut workers = Vec::new();
    for number in 0..3 {
        let (place, stop) = (w.path(&format!("w{number}")), stop.clone());
        fs::create_dir(&place)?;
        workers.push(thread::spawn(move || work(&place, &stop)));
    }
    let lower = w.below("")?;
    let rounds = w.times(40, 15);
    let mut frozen = 0;
    for _ in 0..rounds {
        sleep(Duration::from_millis(60));
        let guard = Frozen::new(&lower).at("freezing")?;
        frozen += 1;
        sleep(Duration::from_millis(40));
        drop(guard);
    }
    stop.store(true, Ordering::SeqCst);
    for worker in workers {
        worker
            .join()
            .map_err(|_| Stop::Fail("a thread".into()))?
            .at("working")?;
    }
    same("how often it was frozen", frozen, rounds)?;
    for number in 0..3 {
        w.revert(&format!("w{number}/f"), 1)?;
    }
    Ok(())
}

fn work(place: &Path, stop: &AtomicBool) -> io::Result<()> {
    let file = File::create(place.join("f"))?;
    let mut round = 0u64;
    while !stop.load(Ordering::SeqCst) {
        round += 1;
        file.write_all_at(&round.to_le_bytes(), round % 100 * 1000)?;
        fs::write(place.join("g"), b"something")?;
        fs::rename(place.join("g"), place.join("h"))?;
        fs::create_dir(place.join("d"))?;
        fs::create_dir(place.join("e"))?;
        fs::rename(place.join("e"), place.join("d"))?;
        fs::remove_dir(place.join("d"))?;
        fs::remove_file(place.join("h"))?;
        if round % 8 == 0 {
            file.sync_all()?;
        }
    }
    file.write_all_at(b"last", 0)
}
