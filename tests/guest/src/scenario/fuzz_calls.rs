// SPDX-License-Identifier: GPL-2.0

//! Random ioctls: any number, any pointer, on descriptors of every kind; and the same while files
//! go away and the filesystem is unmounted.

use std::fs::{self, File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{symlink, OpenOptionsExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::mount::UnmountFlags;

use crate::crafted::absurd;
use crate::fixture::{put, Fixture};
use crate::harness::Test;
use crate::mounts;
use crate::outcome::{check, fail, same_bytes, At, Outcome, Stop};
use crate::pace::{count, Rounds};
use crate::shadow::{Random, Shadow};
use crate::sys::{self, Map};
use crate::undo::{self, READLOG_PAGE, READ_HISTORY, READ_LOG, REVERT, REVERT_MORE};

pub const TESTS: &[Test] = &[
    Test::new("fuzz-ioctls", ioctls).lengthy().seconds(120),
    Test::new("fuzz-unmounts", unmounts)
        .unmounted()
        .lengthy()
        .seconds(180),
];

const STATUS: u64 = (3 << 30) | (200 << 16) | ((b'L' as u64) << 8) | 3;

/// Commands that the VFS implements itself and that would stop the test, or change state that the
/// test cannot undo: freezing, and file flags.
const NEVER: [u64; 4] = [0xc004_5877, 0xc004_5878, 0x4008_6602, 0x401c_5820];

/// Commands of other filesystems, which must not bypass the history.
const OTHERS: [u64; 12] = [
    0x1,
    0x2,
    0x541b,
    0x8008_6601,
    0x8008_7601,
    0x4004_9409,
    0x4020_940d,
    0xc018_9436,
    0xc020_660b,
    0xc018_5879,
    0x6601,
    0x5411,
];

const PAGE: usize = 4096;

/// Memory with all that a pointer may point to.
struct Memory {
    map: Map,
    /// Pages of a file on the mount.
    file: Option<Map>,
}

impl Memory {
    /// Pages: writable, writable, forbidden, read-only, forbidden, 18 writable ones.
    fn new(file: Option<Map>) -> Outcome<Memory> {
        let map = Map::anonymous(23 * PAGE)?;
        map.protect(2 * PAGE, PAGE, libc::PROT_NONE)?;
        map.protect(3 * PAGE, PAGE, libc::PROT_READ)?;
        map.protect(4 * PAGE, PAGE, libc::PROT_NONE)?;
        Ok(Memory { map, file })
    }

    /// An address where the kernel may put up to 18 pages.
    fn good(&self) -> usize {
        self.map.address(5 * PAGE)
    }

    /// Any address, and whether the memory there is valid.
    fn any(&self, random: &mut Random) -> (usize, bool) {
        let odd = random.below(300) as usize;
        match random.below(12) {
            0..=3 => (self.good(), true),
            4 => (self.good() + odd, true),
            // The length ends within the written part.
            5 => (self.map.address(2 * PAGE - 1 - odd.min(190)), false),
            6 => (self.map.address(3 * PAGE + odd), false),
            7 => (self.map.address(2 * PAGE + odd), false),
            8 => (0, false),
            9 => (0xffff_8880_0000_0000 + odd, false),
            10 => (usize::MAX - odd, false),
            _ => match &self.file {
                Some(map) => (map.address(odd), false),
                // Where user space ends. Right below lie this program's own environment and arguments.
                None => (0x7fff_ffff_f000 + odd, false),
            },
        }
    }
}

/// A structure of one of our commands with random fields.
fn structure(command: u64, memory: &Memory, random: &mut Random) -> Vec<u8> {
    let mut bytes = match random.below(10) {
        0 => random.bytes(200),
        _ => vec![0; 200],
    };
    let mut word = |at: usize, value: u64, size: usize| {
        bytes[at..at + size].copy_from_slice(&value.to_ne_bytes()[..size]);
    };
    word(
        0,
        if random.below(12) == 0 {
            absurd(random)
        } else {
            1
        },
        4,
    );
    word(
        4,
        if random.below(12) == 0 {
            absurd(random)
        } else {
            random.below(2)
        },
        4,
    );
    if command == READ_LOG {
        let from = [0, random.below(4), absurd(random)];
        word(8, from[random.below(3) as usize], 8);
        word(
            16,
            if random.below(2) == 0 {
                0
            } else {
                absurd(random)
            },
            8,
        );
        word(24, memory.any(random).0 as u64, 8);
        let lengths = [4096, 65_536, 4095, absurd(random)];
        word(32, lengths[random.below(4) as usize], 4);
    } else if command == READ_HISTORY {
        let segments = [0, random.below(4), absurd(random)];
        word(4, u64::from(random.below(12) == 0), 4);
        word(8, segments[random.below(3) as usize], 8);
        let offsets = [0, random.below(9000), absurd(random)];
        word(16, offsets[random.below(3) as usize], 8);
        word(32, memory.any(random).0 as u64, 8);
        let lengths = [4112, 65_536, 4111, absurd(random)];
        word(40, lengths[random.below(4) as usize], 4);
    } else {
        let count = if random.below(6) == 0 {
            absurd(random)
        } else {
            random.below(5)
        };
        word(8, count, 8);
    }
    bytes
}

/// A random ioctl on a descriptor. For a revert that can succeed: its count, and whether it
/// succeeded.
fn call(file: &OwnedFd, memory: &mut Memory, random: &mut Random) -> Option<(u64, bool)> {
    let ours = [
        REVERT,
        READLOG_PAGE,
        REVERT_MORE,
        READ_LOG,
        READ_HISTORY,
        STATUS,
    ];
    let command = match random.below(16) {
        0 => OTHERS[random.below(12) as usize],
        1 => random.next() & 0xffff_ffff,
        2 => ours[random.below(6) as usize] ^ (1 << random.below(32)),
        _ => ours[random.below(6) as usize],
    };
    if NEVER.contains(&command) {
        return None;
    }
    if command == REVERT {
        let count = if random.below(6) == 0 {
            absurd(random)
        } else {
            random.below(4)
        };
        let done = sys::ioctl_number(file, command, count as usize).is_ok();
        return Some((count.max(1), done));
    }
    let bytes = structure(command, memory, random);
    let (address, is_good) = memory.any(random);
    if is_good {
        let at = address - memory.map.address(0);
        memory.map.store(at, &bytes);
    }
    let done = sys::ioctl_number(file, command, address).is_ok();
    count(if done {
        "calls answered"
    } else {
        "calls refused"
    });
    let asked = u64::from_ne_bytes(bytes[8..16].try_into().unwrap_or_default());
    (command == REVERT_MORE).then_some((asked.max(1), done))
}

/// Everything that a descriptor may be.
fn descriptors(w: &Fixture) -> Outcome<Vec<OwnedFd>> {
    let open = |name: &str, flags: OFlags| -> Outcome<OwnedFd> {
        let mode = Mode::from_raw_mode(0o644);
        rustix::fs::open(w.path(name), flags | OFlags::CLOEXEC, mode).at(format!("opening {name}"))
    };
    fs::create_dir_all(w.path("d"))?;
    let _ = symlink("f", w.path("s"));
    let _ = w.sh("mkfifo p");
    w.make("gone", b"soon")?;
    let gone = open("gone", OFlags::RDWR)?;
    fs::remove_file(w.path("gone"))?;
    Ok(vec![
        open("other", OFlags::RDWR | OFlags::CREATE)?,
        open("other", OFlags::RDONLY)?,
        open("other", OFlags::WRONLY | OFlags::APPEND)?,
        open("other", OFlags::PATH)?,
        open("d", OFlags::RDONLY | OFlags::DIRECTORY)?,
        open("d", OFlags::PATH)?,
        open("s", OFlags::PATH | OFlags::NOFOLLOW)?,
        open("p", OFlags::RDWR | OFlags::NONBLOCK)?,
        open(".", OFlags::TMPFILE | OFlags::RDWR).unwrap_or(gone.try_clone()?),
        gone,
    ])
}

/// A file with a shadow, on which reverts may succeed.
struct ShadowedFile {
    file: OwnedFd,
    shadow: Shadow,
}

impl ShadowedFile {
    fn new(w: &Fixture) -> Outcome<ShadowedFile> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        Ok(ShadowedFile {
            file: options.open(w.path("f"))?.into(),
            shadow: Shadow::default(),
        })
    }

    fn change(&mut self, random: &mut Random) -> Outcome {
        let file = File::from(self.file.try_clone()?);
        let at = random.below(self.shadow.size() as u64 + 100);
        let length = 1 + random.below(3000) as usize;
        let bytes = random.bytes(length);
        put(&file, at, &bytes)?;
        self.shadow.write(at as usize, &bytes);
        Ok(())
    }

    /// The shadow undoes the operations that the call undid; then both are compared.
    fn follow(&mut self, w: &Fixture, call: Option<(u64, bool)>) -> Outcome {
        if let Some((count, true)) = call {
            check!(
                count <= self.shadow.depth() as u64,
                "{count} of {} operations reverted",
                self.shadow.depth()
            );
            for _ in 0..count {
                self.shadow.undo();
            }
            crate::pace::count("reverts");
        }
        same_bytes("after a call", &w.read("f")?, self.shadow.bytes())
    }
}

/// Calls by one process: reverts have their effect, all other calls change nothing.
fn ioctls(w: &mut Fixture) -> Outcome {
    let others = descriptors(w)?;
    w.make("mapped", &[7; 3 * PAGE])?;
    let mapped = w.open("mapped")?;
    let mut memory = Memory::new(Some(Map::of(&mapped, 3 * PAGE, true, true)?))?;
    let mapped = OwnedFd::from(mapped);
    let mut pair = ShadowedFile::new(w)?;
    let mut rounds = Rounds::new(w, "fuzz-ioctls", 200);
    while let Some(mut random) = rounds.next() {
        for _ in 0..random.below(3) {
            let outcome = pair.change(&mut random);
            rounds.judge(outcome, "writing")?;
        }
        for _ in 0..8 {
            let which = random.below(others.len() as u64) as usize;
            call(&others[which], &mut memory, &mut random);
        }
        call(&mapped, &mut memory, &mut random);
        for _ in 0..4 {
            let called = call(&pair.file, &mut memory, &mut random);
            let outcome = pair.follow(w, called);
            rounds.judge(outcome, format!("{called:?}"))?;
        }
    }
    undo::lines(&File::from(pair.file.try_clone()?), true)?;
    Ok(())
}

/// The calls of one thread until it is stopped. All may fail: the files and the mount come and go.
fn worker(w: &Fixture, mut random: Random, stop: &AtomicBool) -> Outcome {
    let mut memory = Memory::new(None)?;
    let mut open: Vec<OwnedFd> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let name = format!("f{}", random.below(4));
        let path = w.path(&name);
        match random.below(12) {
            0 | 1 => {
                let mut options = OpenOptions::new();
                options.read(true).write(true).create(true).truncate(false);
                if random.below(4) == 0 {
                    options.custom_flags(libc::O_SYNC);
                }
                open.extend(options.open(&path).map(OwnedFd::from));
                if open.len() > 6 {
                    open.remove(0);
                }
            }
            2 => drop(fs::remove_file(&path)),
            3 => drop(fs::rename(&path, w.path(&format!("f{}", random.below(4))))),
            4 => drop(fs::read_dir(&w.mnt).map(Iterator::count)),
            5 if random.below(8) == 0 => open.clear(),
            _ => {
                let Some(file) = open.last() else { continue };
                if random.below(3) > 0 {
                    call(file, &mut memory, &mut random);
                    continue;
                }
                let length = 1 + random.below(9000) as usize;
                let bytes = random.bytes(length);
                let at = random.below(20_000);
                let _ = rustix::io::pwrite(file, &bytes, at);
            }
        }
    }
    Ok(())
}

/// Threads call, write, unlink and rename while the mount is taken away under them.
fn unmounts(w: &mut Fixture) -> Outcome {
    let mut rounds = Rounds::new(w, "fuzz-unmounts", 6);
    while let Some(mut random) = rounds.next() {
        let outcome = unmount_once(w, &mut random);
        rounds.judge(outcome, "unmounting under load")?;
    }
    Ok(())
}

fn unmount_once(w: &mut Fixture, random: &mut Random) -> Outcome {
    mount_again(w)?;
    let stop = AtomicBool::new(false);
    let place: &Fixture = w;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (random, stop) = (Random::new(random.next()), &stop);
                scope.spawn(move || worker(place, random, stop))
            })
            .collect();
        thread::sleep(Duration::from_millis(50 + random.below(150)));
        for _ in 0..random.below(4) {
            // In use, mostly.
            let _ = rustix::mount::unmount(place.mnt.as_path(), UnmountFlags::empty());
            thread::sleep(Duration::from_millis(random.below(20)));
        }
        let _ = rustix::mount::unmount(place.mnt.as_path(), UnmountFlags::DETACH);
        thread::sleep(Duration::from_millis(random.below(60)));
        stop.store(true, Ordering::Relaxed);
        threads
            .into_iter()
            .try_for_each(|thread| match thread.join() {
                Ok(outcome) => outcome,
                Err(_) => fail!("a thread panicked"),
            })
    })?;
    // Files written below the mount point while nothing was mounted there.
    mounts::run(&[
        "find",
        &w.mnt.display().to_string(),
        "-mindepth",
        "1",
        "-delete",
    ])?;
    mount_again(w)?;
    for number in 0..4 {
        if let Ok(file) = File::open(w.path(&format!("f{number}"))) {
            undo::lines(&file, true).at(format!("the log of f{number}"))?;
            undo::lines(&file, false)?;
        }
    }
    w.unmount()
}

/// Mounts as soon as the one before has ended.
fn mount_again(w: &mut Fixture) -> Outcome {
    w.forget_mount();
    let start = Instant::now();
    loop {
        match w.try_mount("") {
            Ok(()) => return Ok(()),
            Err(refusal) if start.elapsed() > Duration::from_secs(20) => {
                return Err(Stop::Fail(format!("still in use: {refusal:?}")));
            }
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}
