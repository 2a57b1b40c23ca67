// SPDX-License-Identifier: GPL-2.0

//! A frozen lower filesystem: no call and no pending journal work reaches its device; after the
//! thaw, all of them complete and can be taken back.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{symlink, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::{self, sleep, JoinHandle};
use std::time::{Duration, Instant};

use rustix::fs::{
    self as rfs, AtFlags, FallocateFlags, Mode, OFlags, RenameFlags, XattrFlags, CWD,
};
use rustix::pipe::{self, SpliceFlags};

use crate::fixture::Fixture;
use crate::group::Watch;
use crate::harness::Test;
use crate::mounts::Lower;
use crate::outcome::{check, same, At, Outcome, Stop};
use crate::sys::{self, Map};
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

/// How a change is taken back.
#[derive(Clone, Copy, PartialEq)]
enum Undo {
    /// As an operation on the file `f`.
    OfFile,
    /// As one on the names of the directory.
    OfNames,
    /// The filesystem is not frozen.
    None,
}

type FrozenChange = fn(&Path) -> io::Result<()>;

/// Each in a directory of its own with the files `f` and `g` and the directory `d`.
const CHANGES: &[(&str, Undo, FrozenChange)] = &[
    ("write", Undo::OfFile, |d| {
        open(d)?.write_all_at(b"frozen", 10)
    }),
    ("append", Undo::OfFile, |d| {
        OpenOptions::new()
            .append(true)
            .open(d.join("f"))?
            .write_all(b"more")
    }),
    ("direct", Undo::OfFile, |d| {
        let mut room = Map::anonymous(4096)?;
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(libc::O_DIRECT);
        options.open(d.join("f"))?.write_all_at(room.bytes(), 0)
    }),
    ("splice", Undo::OfFile, |d| {
        let (from, to) = pipe::pipe()?;
        rustix::io::write(&to, &[9; 3000])?;
        pipe::splice(&from, None, open(d)?, None, 3000, SpliceFlags::empty())?;
        Ok(())
    }),
    ("sendfile", Undo::OfFile, |d| {
        rfs::sendfile(open(d)?, File::open(d.join("g"))?, None, 3000)?;
        Ok(())
    }),
    ("copy", Undo::OfFile, |d| {
        rfs::copy_file_range(File::open(d.join("g"))?, None, open(d)?, None, 3000)?;
        Ok(())
    }),
    ("clone", Undo::OfFile, |d| {
        Ok(rfs::ioctl_ficlone(open(d)?, File::open(d.join("g"))?)?)
    }),
    // By a process of its own: who waits in a store keeps the others of the process from mapping
    // anything.
    ("map", Undo::OfFile, |d| {
        let mut command = Command::new("/proc/self/exe");
        let status = command.args(["work", "store"]).arg(d.join("f")).status()?;
        if status.success() {
            return Ok(());
        }
        Err(io::Error::other(format!("a store through a map: {status}")))
    }),
    ("cut", Undo::OfFile, |d| open(d)?.set_len(100)),
    ("grow", Undo::OfFile, |d| open(d)?.set_len(100_000)),
    ("allocate", Undo::OfFile, |d| {
        Ok(rfs::fallocate(
            open(d)?,
            FallocateFlags::empty(),
            0,
            100_000,
        )?)
    }),
    ("punch", Undo::OfFile, |d| {
        let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rfs::fallocate(open(d)?, how, 4096, 4096)?)
    }),
    ("strip", Undo::None, |d| {
        sys::as_user(1000, || open_named(d, "suid")?.write_all_at(b"x", 0))
    }),
    ("chmod", Undo::OfFile, |d| {
        fs::set_permissions(d.join("f"), fs::Permissions::from_mode(0o600))
    }),
    ("chown", Undo::OfFile, |d| {
        std::os::unix::fs::chown(d.join("f"), Some(1000), None)
    }),
    ("utimes", Undo::OfFile, |d| {
        let time = rfs::Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        let times = rfs::Timestamps {
            last_access: time,
            last_modification: time,
        };
        Ok(rfs::utimensat(CWD, d.join("f"), &times, AtFlags::empty())?)
    }),
    ("setxattr", Undo::OfFile, |d| {
        Ok(rfs::setxattr(
            d.join("f"),
            "user.x",
            b"2",
            XattrFlags::empty(),
        )?)
    }),
    ("removexattr", Undo::OfFile, |d| {
        Ok(rfs::removexattr(d.join("f"), "user.x")?)
    }),
    ("set-acl", Undo::OfFile, |d| {
        let acl = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x04\0\x04\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";
        Ok(rfs::setxattr(
            d.join("f"),
            "system.posix_acl_access",
            acl,
            XattrFlags::empty(),
        )?)
    }),
    ("set-flags", Undo::OfFile, |d| {
        let file = open(d)?;
        let flags = rfs::ioctl_getflags(&file)?;
        Ok(rfs::ioctl_setflags(&file, flags | rfs::IFlags::NODUMP)?)
    }),
    ("create", Undo::OfNames, |d| {
        File::create_new(d.join("new")).map(drop)
    }),
    ("mkdir", Undo::OfNames, |d| fs::create_dir(d.join("new"))),
    ("mknod", Undo::OfNames, |d| {
        Ok(rfs::mknodat(
            CWD,
            d.join("new"),
            rfs::FileType::Fifo,
            Mode::RUSR,
            0,
        )?)
    }),
    ("symlink", Undo::OfNames, |d| symlink("f", d.join("new"))),
    ("link", Undo::OfNames, |d| {
        fs::hard_link(d.join("f"), d.join("new"))
    }),
    ("unlink", Undo::OfNames, |d| fs::remove_file(d.join("f"))),
    ("unlink-one-of-two", Undo::OfNames, |d| {
        fs::remove_file(d.join("h"))
    }),
    ("rmdir", Undo::OfNames, |d| fs::remove_dir(d.join("d"))),
    ("rename", Undo::OfNames, |d| {
        fs::rename(d.join("f"), d.join("new"))
    }),
    ("rename-over", Undo::OfNames, |d| {
        fs::rename(d.join("f"), d.join("g"))
    }),
    ("rename-over-directory", Undo::OfNames, |d| {
        fs::rename(d.join("e"), d.join("d"))
    }),
    ("exchange", Undo::OfNames, |d| {
        Ok(rfs::renameat_with(
            CWD,
            d.join("f"),
            CWD,
            d.join("g"),
            RenameFlags::EXCHANGE,
        )?)
    }),
    ("unnamed", Undo::None, |d| {
        Ok(rfs::open(d, OFlags::TMPFILE | OFlags::RDWR, Mode::RUSR).map(drop)?)
    }),
    ("undo-of-content", Undo::None, |d| {
        undo::revert(&open_named(d, "written")?, 1)
    }),
    ("undo-of-names", Undo::None, |d| {
        undo::revert(&File::open(d.join("d"))?, 1)
    }),
];

fn open(place: &Path) -> io::Result<File> {
    open_named(place, "f")
}

fn open_named(place: &Path, name: &str) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(place.join(name))
}

/// The parameters of a change.
fn prepare(place: &Path) -> io::Result<()> {
    fs::create_dir(place)?;
    for name in ["f", "g", "h", "suid", "written"] {
        let content: Vec<u8> = name.bytes().cycle().take(20_000).collect();
        fs::write(place.join(name), content)?;
    }
    fs::hard_link(place.join("h"), place.join("i"))?;
    fs::create_dir(place.join("d"))?;
    fs::create_dir(place.join("e"))?;
    std::os::unix::fs::chown(place.join("suid"), Some(1000), Some(1000))?;
    fs::set_permissions(place.join("suid"), fs::Permissions::from_mode(0o4755))?;
    rfs::setxattr(place.join("f"), "user.x", b"1", XattrFlags::empty())?;
    // The operations that are undone while the filesystem is frozen.
    open_named(place, "written")?.write_all_at(b"to be undone", 0)?;
    File::create(place.join("d/gone"))?;
    fs::remove_file(place.join("d/gone"))?;
    Ok(())
}

/// All that a change of those above may change, by name.
fn state(place: &Path) -> Outcome<BTreeMap<PathBuf, String>> {
    let mut all = BTreeMap::new();
    let mut left = vec![place.to_path_buf()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).at("listing")? {
            let path = entry?.path();
            let of = fs::symlink_metadata(&path)?;
            // Times move with each change and do not move back; but for one that was set.
            let is_set = of.mtime() == 1;
            let mut text = format!("{:o} {} {} {is_set}", of.mode(), of.uid(), of.nlink());
            if of.is_file() {
                let content = fs::read(&path)?;
                let sum = content.iter().fold(0u64, |sum, byte| {
                    sum.wrapping_mul(31).wrapping_add(u64::from(*byte))
                });
                let mut value = [0; 16];
                let n = rfs::getxattr(&path, "user.x", &mut value).unwrap_or(0);
                let flags = rfs::ioctl_getflags(File::open(&path)?)?.bits() & 0x40;
                text += &format!(" {} {sum:x} {:?} {flags:x}", content.len(), &value[..n]);
            } else if of.is_dir() {
                // Its times move with its names.
                text = format!("{:o} {}", of.mode(), of.uid());
                left.push(path.clone());
            }
            all.insert(
                path.strip_prefix(place).unwrap_or(&path).to_path_buf(),
                text,
            );
        }
    }
    Ok(all)
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
    rfs::sync();
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
    rfs::sync();
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
    rfs::sync();
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
    rfs::sync();
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
