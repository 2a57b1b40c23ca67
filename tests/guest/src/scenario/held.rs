// SPDX-License-Identifier: GPL-2.0

//! Users without rights try to hold others up: with requests, with pipes that stay empty, with memory.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{chown, FileExt};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::fixture::Fixture;
use crate::group::{self, Placed, Watch, DRY_RUN};
use crate::harness::Test;
use crate::held::NOBODY;
use crate::mounts::Lower;
use crate::outcome::{check, same, same_errno, Outcome, Stop};
use crate::sys;
use crate::undo;

pub const TESTS: &[Test] = &[
    Test::new("held-by-bogus-requests", bogus_requests).seconds(180),
    Test::new("held-by-an-empty-pipe", empty_pipe).seconds(120),
    Test::new("held-by-empty-pipes", empty_pipes).seconds(120),
    Test::new("held-by-missing-pages", missing_pages).seconds(120),
    Test::new("held-short-buffers", short_buffers),
    Test::new("held-reverts-beside-empty-pipes", reverts_beside).seconds(120),
    Test::new("held-by-a-busy-file", busy_file)
        .only(&[Lower::Ext4, Lower::Xfs])
        .seconds(120),
    Test::new("held-memory", memory).seconds(240),
    Test::new("held-and-killed", killed).seconds(180),
    Test::new("held-work-past-appends", past_appends).seconds(180),
    Test::new("held-work-of-the-newest", newest_of_many).seconds(180),
    Test::new("held-dry-run-flushes-nothing", flushes_nothing)
        .only(&[Lower::Ext4])
        .seconds(120),
    Test::new("held-revert-flushes-its-own", flushes_own)
        .only(&[Lower::Ext4])
        .seconds(120),
];

/// A side process; dropping it kills it.
struct AttackProcess(Child);

impl AttackProcess {
    /// Starts a process, and waits until it is about to make its call.
    fn start(w: &Fixture, words: &[&str]) -> Outcome<AttackProcess> {
        let all: Vec<&str> = ["held"].iter().chain(words).copied().collect();
        let mut child = w.worker(&all).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        same("what the side process says", line.as_str(), "ready\n")?;
        Ok(AttackProcess(child))
    }

    /// Kills the process; returns the time until it ended.
    fn kill(mut self) -> Outcome<Duration> {
        let since = Instant::now();
        self.0.kill()?;
        self.0.wait()?;
        Ok(since.elapsed())
    }
}

impl Drop for AttackProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lets users watch for pages that are missing.
fn allow_missing_pages() -> Outcome {
    const SETTING: &str = "/proc/sys/vm/unprivileged_userfaultfd";
    if !Path::new(SETTING).exists() {
        return Err(Stop::Skip("the kernel has no userfaultfd".into()));
    }
    Ok(fs::write(SETTING, "1")?)
}

/// A directory in which the attackers may make files.
fn open_directory(w: &Fixture, name: &str) -> Outcome {
    fs::create_dir(w.path(name))?;
    Ok(chown(w.path(name), Some(NOBODY), Some(NOBODY))?)
}

/// The longest that one of root's operations takes in so many seconds: a write, now and then a new file
/// and a removal.
fn longest(w: &Fixture, seconds: u64) -> Outcome<Duration> {
    let file = File::create(w.path("own"))?;
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut worst = Duration::ZERO;
    let mut round = 0u64;
    while Instant::now() < until {
        let since = Instant::now();
        file.write_all_at(&[round as u8; 4096], 0)?;
        if round % 16 == 0 {
            File::create(w.path("new"))?;
            fs::remove_file(w.path("new"))?;
        }
        worst = worst.max(since.elapsed());
        round += 1;
        sleep(Duration::from_millis(2));
    }
    check!(round > 20, "only {round} writes in {seconds} s");
    Ok(worst)
}

/// Requests that cannot succeed do not block other processes, however long they are.
fn bogus_requests(w: &mut Fixture) -> Outcome {
    w.sh("echo one > theirs")?;
    let attacker = AttackProcess::start(w, &["bogus", "200000"])?;
    let worst = longest(w, 10)?;
    attacker.kill()?;
    check!(
        worst < Duration::from_secs(2),
        "root waited {worst:?} for a request without rights"
    );
    Ok(())
}

/// A dry run waits for no other process, and none waits for it.
fn empty_pipe(w: &mut Fixture) -> Outcome {
    open_directory(w, "d")?;
    w.sh("echo one > theirs")?;
    let stuck = AttackProcess::start(w, &["splice", "d/f"])?;
    sleep(Duration::from_millis(300));
    let mut dry = w.worker(&["held", "dry", "."]).spawn()?;
    let since = Instant::now();
    let ended = loop {
        if dry.try_wait()?.is_some() {
            break true;
        }
        if since.elapsed() > Duration::from_secs(20) {
            break false;
        }
        sleep(Duration::from_millis(20));
    };
    let took = stuck.kill()?;
    dry.wait()?;
    check!(ended, "a dry run waits for a splice from an empty pipe");
    check!(took < Duration::from_secs(5), "killed after {took:?}");
    let worst = longest(w, 3)?;
    check!(worst < Duration::from_secs(2), "root waited {worst:?}");
    Ok(())
}

/// Nothing of the journal is held while pipes are waited for.
fn empty_pipes(w: &mut Fixture) -> Outcome {
    open_directory(w, "d")?;
    nobody_waits_for(w, &["splices", "d", "60"])?;
    // Data that arrives in a pipe at last goes to the file, and can be taken back.
    w.sh("(sleep 1; echo late) | head -c 5 > late; cat late")?;
    w.same("late", "late", b"late\n")
}

/// Nothing is held while pages of a write's buffer are waited for, either.
fn missing_pages(w: &mut Fixture) -> Outcome {
    open_directory(w, "d")?;
    allow_missing_pages()?;
    nobody_waits_for(w, &["buffers", "d", "60"])
}

fn nobody_waits_for(w: &Fixture, words: &[&str]) -> Outcome {
    let stuck = AttackProcess::start(w, words)?;
    sleep(Duration::from_millis(500));
    let worst = longest(w, 5)?;
    let took = stuck.kill()?;
    check!(worst < Duration::from_secs(2), "root waited {worst:?}");
    check!(took < Duration::from_secs(5), "killed after {took:?}");
    Ok(())
}

/// A revert of other objects waits for no pipe, and is whole.
fn reverts_beside(w: &mut Fixture) -> Outcome {
    open_directory(w, "d")?;
    w.sh("mkdir e; echo one > e/f; echo keep > e/g")?;
    let watch = Watch::begin(w)?;
    w.sh("echo two > e/f; mv e/f e/h; rm e/g")?;
    let done = watch.operations(w)?;
    let stuck = AttackProcess::start(w, &["splices", "d", "60"])?;
    sleep(Duration::from_millis(500));
    let root = File::open(&w.mnt)?;
    let since = Instant::now();
    let (result, answer) = group::revert(&root, &done, 0);
    let took = since.elapsed();
    stuck.kill()?;
    check!(result.is_ok(), "{result:?}: {answer:?}");
    check!(took < Duration::from_secs(5), "it took {took:?}");
    w.same("the file", "e/f", b"one\n")?;
    w.same("the removed one", "e/g", b"keep\n")?;
    check!(!w.path("e/h").exists(), "the new name is still there");
    Ok(())
}

/// A revert waits for an operation under way for some seconds, and then names its process.
fn busy_file(w: &mut Fixture) -> Outcome {
    const BUSY: u32 = 19;
    open_directory(w, "d")?;
    allow_missing_pages()?;
    w.make("d/f", &[1; 8192])?;
    chown(w.path("d/f"), Some(NOBODY), Some(NOBODY))?;
    let watch = Watch::begin(w)?;
    w.open("d/f")?.write_all_at(&[2; 4096], 0)?;
    let done = watch.operations(w)?;
    let stuck = AttackProcess::start(w, &["direct", "d/f"])?;
    sleep(Duration::from_millis(500));
    let root = File::open(&w.mnt)?;
    let since = Instant::now();
    let (result, answer) = group::revert(&root, &done, 0);
    let took = since.elapsed();
    let pid = u64::from(stuck.0.id());
    let worst = longest(w, 2)?;
    stuck.kill()?;
    same_errno("a busy file", result, rustix::io::Errno::BUSY)?;
    check!(
        answer.reason == BUSY && answer.blocking_seq == pid,
        "not process {pid}: {answer:?}"
    );
    check!(took < Duration::from_secs(15), "refused after {took:?}");
    check!(worst < Duration::from_secs(2), "root waited {worst:?}");
    // With the killed write, whose line was written before it began.
    let (result, answer) = group::revert(&root, &watch.operations(w)?, 1);
    check!(result.is_ok(), "{result:?}: {answer:?}");
    Ok(())
}

/// A write from a buffer of which only a part may be read writes that part.
fn short_buffers(w: &mut Fixture) -> Outcome {
    w.make("f", &[1; 20_000])?;
    let file = w.open("f")?;
    let bytes = [2; 8192];
    let written = sys::write_beyond(&file, &bytes, 4096)?;
    same("bytes written", written, bytes.len())?;
    let mut expected = vec![1; 20_000];
    expected[..written].fill(2);
    w.same("the part that was there", "f", &expected)?;
    let none = sys::write_beyond(&file, &[], 4096);
    same_errno("nothing there", none, rustix::io::Errno::FAULT)?;
    undo::revert(&file, 1)?;
    w.same("taken back", "f", &[1; 20_000])
}

/// So many kilobytes are available.
fn available() -> Outcome<u64> {
    field("/proc/meminfo", "MemAvailable:")
}

fn field(file: &str, name: &str) -> Outcome<u64> {
    let text = fs::read_to_string(file)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let word = line.and_then(|line| line.split_whitespace().next());
    let number = word.and_then(|word| word.parse().ok());
    match number {
        Some(number) => Ok(number),
        None => crate::outcome::fail!("{file} has no {name}"),
    }
}

/// One request of a user at a time holds memory.
fn memory(w: &mut Fixture) -> Outcome {
    w.sh("echo one > theirs")?;
    let before = available()?;
    // The process has its own copies of the requests; those of the kernel come on top.
    let attacker = AttackProcess::start(w, &["crowd", "40", "200000"])?;
    let mut least = before;
    for _ in 0..100 {
        sleep(Duration::from_millis(50));
        least = least.min(available()?);
    }
    let own = field(&format!("/proc/{}/status", attacker.0.id()), "VmRSS:")?;
    let took = attacker.kill()?;
    let taken = before.saturating_sub(least).saturating_sub(own) / 1024;
    // 40 requests of 200,000 operations take 183 MiB.
    check!(
        taken < 90,
        "{taken} MiB beside the {own} KiB of the process"
    );
    check!(took < Duration::from_secs(10), "killed after {took:?}");
    Ok(())
}

/// A request that is looked at ends when its caller is killed, and so does one that waits for its turn.
fn killed(w: &mut Fixture) -> Outcome {
    w.sh("echo one > theirs")?;
    let first = AttackProcess::start(w, &["bogus", "1000000"])?;
    let second = AttackProcess::start(w, &["bogus", "1000000"])?;
    sleep(Duration::from_millis(1500));
    for (what, one) in [("waits", second), ("works", first)] {
        let took = one.kill()?;
        check!(
            took < Duration::from_secs(5),
            "a request that {what} was killed after {took:?}"
        );
    }
    Ok(())
}

/// A file to which so many records are appended; the first of these operations.
fn appended(w: &Fixture, name: &str, count: usize) -> Outcome<Placed> {
    let watch = Watch::begin(w)?;
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(w.path(name))?;
    for _ in 0..count {
        file.write_all(b"0123456789")?;
    }
    let lines = watch.operations(w)?;
    let first = lines.into_iter().find(|placed| placed.line.op == "write");
    match first {
        Some(first) => Ok(first),
        None => crate::outcome::fail!("no write to {name} in the log"),
    }
}

/// The shortest time of each of two requests in turns: whatever else the machine does slows both alike.
fn shortest<const N: usize>(
    rounds: usize,
    mut ask: impl FnMut(usize) -> Outcome<Duration>,
) -> Outcome<[Duration; N]> {
    let mut best = [Duration::MAX; N];
    for _ in 0..rounds {
        for (which, shortest) in best.iter_mut().enumerate() {
            *shortest = ask(which)?.min(*shortest);
        }
    }
    Ok(best)
}

/// Past four times as many operations a request takes about four times as long.
fn past_appends(w: &mut Fixture) -> Outcome {
    let root = File::open(&w.mnt)?;
    let mut firsts = Vec::new();
    for count in [2_500, 10_000] {
        firsts.push(appended(w, &format!("f{count}"), count)?);
    }
    let [few, many] = shortest(10, |which| {
        let since = Instant::now();
        let (result, answer) = group::revert(&root, &firsts[which..=which], DRY_RUN);
        let took = since.elapsed();
        let found = answer.found;
        check!(result.is_err() && found == 1, "past the appends: {found}");
        Ok(took)
    })?;
    check!(
        many < few * 9,
        "past 2,500 appends {few:?}, past 10,000 {many:?}"
    );
    Ok(())
}

/// Dirty data below stays dirty.
fn flushes_nothing(w: &mut Fixture) -> Outcome {
    w.sh("echo one > f; sync; head -c 24M /dev/zero > big")?;
    let root = File::open(&w.mnt)?;
    let before = field("/proc/meminfo", "Dirty:")?;
    check!(before > 16 * 1024, "only {before} KiB are dirty");
    let lines = group::history(w)?;
    let create = lines.iter().find(|placed| placed.is_operation());
    let create = create.cloned().into_iter().collect::<Vec<_>>();
    let _ = group::revert(&root, &create, DRY_RUN);
    let after = field("/proc/meminfo", "Dirty:")?;
    check!(
        after > before / 2,
        "{before} KiB were dirty before a dry run, {after} KiB after it"
    );
    Ok(())
}

/// The newest operation of an object is found at once, however many are older.
fn newest_of_many(w: &mut Fixture) -> Outcome {
    let root = File::open(&w.mnt)?;
    let mut newest = Vec::new();
    for count in [300, 6_000] {
        let name = format!("f{count}");
        appended(w, &name, count)?;
        let watch = Watch::begin(w)?;
        fs::OpenOptions::new()
            .append(true)
            .open(w.path(&name))?
            .write_all(b"last")?;
        newest.push(watch.operations(w)?);
    }
    let [few, many] = shortest(20, |which| {
        let since = Instant::now();
        let (result, answer) = group::revert(&root, &newest[which], DRY_RUN);
        let took = since.elapsed();
        let reverted = answer.reverted;
        check!(
            result.is_ok() && reverted == 1,
            "of the appends: {reverted}"
        );
        Ok(took)
    })?;
    println!("     the newest of 300 {few:?}, of 6,000 {many:?}");
    check!(
        many < few * 4,
        "the newest of 300 appends {few:?}, of 6,000 {many:?}"
    );
    Ok(())
}

/// A revert of names in a shared directory flushes the objects that it touches, and no dirty data of others;
/// other processes do not wait long for the directory.
fn flushes_own(w: &mut Fixture) -> Outcome {
    w.sh("mkdir -m 1777 d; sync")?;
    let user = format!("setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups");
    let watch = Watch::begin(w)?;
    w.sh(&format!(
        "{user} bash -euc 'echo one > d/f; echo two > d/f; mv d/f d/g; mkdir d/e; chmod 600 d/g'"
    ))?;
    let done = watch.operations(w)?;
    w.sh("sync; head -c 24M /dev/zero > big")?;
    let before = field("/proc/meminfo", "Dirty:")?;
    check!(before > 16 * 1024, "only {before} KiB are dirty");
    let root = File::open(&w.mnt)?;
    let since = Instant::now();
    let (result, answer) = group::revert(&root, &done, 0);
    let took = since.elapsed();
    let after = field("/proc/meminfo", "Dirty:")?;
    check!(result.is_ok(), "{result:?}: {answer:?}");
    println!("     {before} KiB were dirty, {after} are behind a revert of {took:?}");
    check!(
        after > before / 2,
        "{before} KiB were dirty before a revert, {after} KiB after it"
    );
    same("left", fs::read_dir(w.path("d"))?.count(), 0)
}
