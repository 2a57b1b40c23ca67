// SPDX-License-Identifier: GPL-2.0

//! A revert changes the content of a file only where a write could: not while a program runs from it, not
//! without breaking a lease, and never for a swap file.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::fixture::Fixture;
use crate::group::{self, Placed, Watch, DRY_RUN, WALK};
use crate::harness::Test;
use crate::mounts::{run, run_in, Lower};
use crate::outcome::{check, same, same_bytes, At, Outcome, Stop};
use crate::sys;
use crate::undo;

use super::groups::take_back;

pub const TESTS: &[Test] = &[
    Test::new("in-use-a-program", a_program),
    Test::new("in-use-leases", leases),
    Test::new("in-use-a-lease-below", a_lease_below),
    Test::new("in-use-a-swap-file", a_swap_file).only(&[Lower::Ext4, Lower::Xfs]),
];

const EXECUTED: u32 = 16;

/// A program that runs until it is dropped.
struct Running(Child);

impl Running {
    fn begin(path: &Path) -> Outcome<Running> {
        let child = Command::new(path).arg("300").spawn();
        Ok(Running(child.at(format!("running {}", path.display()))?))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn must_be_busy(w: &Fixture, what: &str, operations: &[Placed]) -> Outcome {
    let before = fs::read(w.path("program"))?;
    for flags in [DRY_RUN | WALK, WALK, DRY_RUN, 0] {
        let (result, answer) = group::revert(&File::open(&w.mnt)?, operations, flags);
        let error = result.err().and_then(|error| error.raw_os_error());
        same(format!("{what}, flags {flags}"), error, Some(libc::ETXTBSY))?;
        same(format!("{what}: why"), answer.reason, EXECUTED)?;
    }
    same_bytes(what, &fs::read(w.path("program"))?, &before)
}

fn a_program(w: &mut Fixture) -> Outcome {
    fs::copy("/bin/sleep", w.path("program"))?;
    let changes = [
        "printf more >> program",
        "truncate -s +5000 program",
        "fallocate -p -o 1048576 -l 4096 program; printf more >> program",
    ];
    for change in changes {
        let since = Watch::begin(w)?;
        w.sh(&format!("echo beside >> beside; {change}"))?;
        let operations = since.operations(w)?;
        let running = Running::begin(&w.path("program"))?;
        must_be_busy(w, change, &operations)?;
        drop(running);
        if let Ok(below) = w.below("program") {
            let running = Running::begin(&below)?;
            must_be_busy(w, &format!("{change}, run from below"), &operations)?;
            drop(running);
        }
        take_back(w, &operations, WALK)?;
    }
    // Attributes may change, and the name may go.
    let since = Watch::begin(w)?;
    w.sh("chmod 711 program; mv program another")?;
    let operations = since.operations(w)?;
    let _running = Running::begin(&w.path("another"))?;
    take_back(w, &operations, WALK)?;
    same("the mode", w.sh("stat -c %a program")?.trim(), "755")
}

const F_SETLEASE: i32 = 1024;
const F_GETLEASE: i32 = 1025;

fn lease(file: &File, kind: Option<i32>) -> Outcome<i32> {
    let result = match kind {
        Some(kind) => sys::fcntl_number(file, F_SETLEASE, kind),
        None => sys::fcntl_number(file, F_GETLEASE, 0),
    };
    result.at("a lease")
}

/// Leases are broken as open(2) breaks them: the holder has its time.
fn leases(w: &mut Fixture) -> Outcome {
    // The signal that asks for the lease would end us.
    sys::ignore_signal(libc::SIGIO);
    fs::write("/proc/sys/fs/lease-break-time", "2")?;
    w.sh("echo one > f; echo one > g")?;
    for kind in [libc::F_RDLCK, libc::F_WRLCK] {
        let since = Watch::begin(w)?;
        w.sh("echo two >> f; echo two >> g")?;
        let operations = since.operations(w)?;
        let file = File::open(w.path("f"))?;
        lease(&file, Some(kind))?;
        take_back(w, &operations, DRY_RUN | WALK)?;
        same("a dry run leaves the lease", lease(&file, None)?, kind)?;
        let start = Instant::now();
        take_back(w, &operations, WALK)?;
        let took = start.elapsed();
        check!(took > Duration::from_millis(900), "broken after {took:?}");
        same("no lease is left", lease(&file, None)?, libc::F_UNLCK)?;
        w.same("taken back", "f", b"one\n")?;
        w.same("and the other", "g", b"one\n")?;
    }
    // A lease holder that gives the lease up at once causes no wait.
    fs::write("/proc/sys/fs/lease-break-time", "45")?;
    let since = Watch::begin(w)?;
    w.sh("echo two >> f")?;
    let operations = since.operations(w)?;
    let file = File::open(w.path("f"))?;
    lease(&file, Some(libc::F_RDLCK))?;
    let start = Instant::now();
    let polite = std::thread::spawn(move || -> Outcome {
        while lease(&file, None)? == libc::F_RDLCK {
            sleep(Duration::from_millis(20));
        }
        lease(&file, Some(libc::F_UNLCK)).map(drop)
    });
    take_back(w, &operations, WALK)?;
    check!(
        start.elapsed() < Duration::from_secs(40),
        "waited for all of its time"
    );
    polite
        .join()
        .map_err(|_| Stop::Fail("the holder failed".into()))??;
    w.same("taken back", "f", b"one\n")?;
    // Attributes break none.
    let since = Watch::begin(w)?;
    w.sh("chmod 600 f")?;
    let operations = since.operations(w)?;
    let file = File::open(w.path("f"))?;
    lease(&file, Some(libc::F_RDLCK))?;
    take_back(w, &operations, WALK)?;
    same("the lease stays", lease(&file, None)?, libc::F_RDLCK)
}

/// The same of a program that has opened the file below.
fn a_lease_below(w: &mut Fixture) -> Outcome {
    let below = w.below("f")?;
    sys::ignore_signal(libc::SIGIO);
    fs::write("/proc/sys/fs/lease-break-time", "2")?;
    w.sh("echo one > f")?;
    for kind in [libc::F_RDLCK, libc::F_WRLCK] {
        let since = Watch::begin(w)?;
        w.sh("echo two >> f")?;
        let operations = since.operations(w)?;
        let file = File::open(&below)?;
        lease(&file, Some(kind)).at(format!("kind {kind}"))?;
        let start = Instant::now();
        take_back(w, &operations, WALK)?;
        let took = start.elapsed();
        check!(took > Duration::from_millis(900), "broken after {took:?}");
        same("no write lease is left", lease(&file, None)?, libc::F_UNLCK)?;
        w.same("taken back", "f", b"one\n")?;
    }
    fs::write("/proc/sys/fs/lease-break-time", "45")?;
    Ok(())
}

fn a_swap_file(w: &mut Fixture) -> Outcome {
    let below = w.below("swap")?.display().to_string();
    let above = w.path("swap").display().to_string();
    w.sh("head -c 2M /dev/zero > swap; chmod 600 swap; sync swap")?;
    if let Err(Stop::Fail(why)) = run(&["mkswap", &above]) {
        return Err(Stop::Skip(format!("no swapping here: {why}")));
    }
    let since = Watch::begin(w)?;
    w.sh("printf junk | dd of=swap bs=1 seek=1000000 conv=notrunc status=none; chmod 640 swap; sync swap")?;
    let mut operations = since.operations(w)?;
    let mode = operations.pop();
    check!(mode.is_some(), "no change of the mode");
    let file = w.open("swap")?;
    if let Err(Stop::Fail(why)) = run(&["swapon", &below]) {
        return Err(Stop::Skip(format!("no swapping here: {why}")));
    }
    let (one, _) = group::revert(&File::open(&w.mnt)?, &operations, WALK);
    let (dry, answer) = group::revert(&File::open(&w.mnt)?, &operations, WALK | DRY_RUN);
    // The mode is the newest operation, and no content.
    let attributes = undo::revert(&file, 1);
    let two = undo::revert(&file, 1);
    run_in(Path::new("/"), &["swapoff", &below])?;
    let number = |result: std::io::Result<()>| result.err().and_then(|error| error.raw_os_error());
    same("a group", number(one), Some(libc::ETXTBSY))?;
    same("a dry run", number(dry), Some(libc::ETXTBSY))?;
    same("why", answer.reason, EXECUTED)?;
    same("attributes", number(attributes), None)?;
    same("through a descriptor", number(two), Some(libc::ETXTBSY))
}
