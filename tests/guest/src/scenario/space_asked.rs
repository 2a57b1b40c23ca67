// SPDX-License-Identifier: GPL-2.0

//! Queries of a file's allocated space, holes, cached pages and position have the results of a filesystem
//! without LoggerFS, and do not block.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::mpsc;
use std::thread::{self, sleep};
use std::time::Duration;

use rustix::fs::{fallocate, Advice, FallocateFlags as Mode, SeekFrom as From};
use rustix::io::Errno;
use rustix::pipe::SpliceFlags;

use crate::extents;
use crate::fixture::{put, Fixture};
use crate::group::{Watch, WALK};
use crate::harness::Test;
use crate::mounts::Lower;
use crate::outcome::{check, fail, same, At, Outcome};
use crate::shadow::pattern;
use crate::sys::Map;

use super::groups::{reverts_since, take_back};

pub const TESTS: &[Test] = &[
    Test::new("space-asked", asked).only(&[Lower::Ext4]),
    Test::new("space-asked-while-written", while_written).only(&[Lower::Ext4]),
    Test::new("space-unwritten", unwritten).only(&[Lower::Ext4, Lower::Xfs, Lower::Btrfs]),
    Test::new("space-many-holes", many_holes)
        .unmounted()
        .only(&[Lower::Tmpfs])
        .seconds(300),
];

const KIB: u64 = 1024;

/// The page at the truncation point: ext4 reads its block without marking the page up to date, and the
/// capture reads pages.
const TAIL: usize = ((2 << 20) + 5000) / 4096;

/// Ranges of data and holes, as lseek() gives them.
fn runs(file: &File) -> Outcome<Vec<(bool, u64)>> {
    let (mut found, mut at) = (Vec::new(), 0);
    loop {
        let data = match rustix::fs::seek(file, From::Data(at)) {
            Err(Errno::NXIO) => return Ok(found),
            data => data.at("SEEK_DATA")?,
        };
        found.push((true, data));
        at = rustix::fs::seek(file, From::Hole(data)).at("SEEK_HOLE")?;
        found.push((false, at));
    }
}

/// All that a program can find out about a file's space.
#[derive(Debug, PartialEq)]
struct Answers {
    runs: Vec<(bool, u64)>,
    extents: Option<Vec<(u64, u64)>>,
    blocks: u64,
    resident: Vec<bool>,
}

fn answers(file: &File) -> Outcome<Answers> {
    let runs = runs(file)?;
    let size = file.metadata()?.size() as usize;
    let map = Map::of(file, size.max(1), true, false)?;
    let resident = map.resident().at("mincore")?;
    drop(map);
    Ok(Answers {
        runs,
        resident,
        extents: extents::of(file)?,
        blocks: file.metadata()?.blocks(),
    })
}

/// Drops the file's pages from memory.
fn forget(file: &File) -> Outcome {
    file.sync_all()?;
    rustix::fs::fadvise(file, 0, None, Advice::DontNeed).at("fadvise")
}

type AskedStep = fn(&File) -> Outcome;

/// Allocated space that was read, and is in the page cache, is captured as unwritten, not as zeroes: after an
/// undo and its redo it is unwritten again. In a dense file, and in one with a hole.
fn unwritten(w: &mut Fixture) -> Outcome {
    for (name, hole) in [("dense", 0), ("sparse", 1 << 20)] {
        let file = w.open(name)?;
        file.set_len(hole)?;
        let found = |w: &Fixture| -> Outcome<_> {
            forget(&file)?;
            let runs = runs(&file)?;
            // Now its pages are in the cache.
            let content = std::fs::read(w.path(name))?;
            Ok((runs, content))
        };
        let empty = found(w)?;
        let since = Watch::begin(w)?;
        fallocate(&file, Mode::empty(), hole, 256 * KIB)?;
        put(&file, hole, &pattern(1, 8192))?;
        put(&file, hole + 64 * KIB, &pattern(2, 8192))?;
        let first = since.operations(w)?;
        let allocated = found(w)?;
        let since = Watch::begin(w)?;
        put(&file, hole + 8 * KIB, &pattern(3, 98_304))?;
        let second = since.operations(w)?;
        take_back(w, &second, 0)?;
        same(format!("{name}: unwritten"), found(w)?, allocated.clone())?;
        let answer = take_back(w, &first, 0)?;
        same(format!("{name}: empty"), found(w)?, empty)?;
        take_back(w, &reverts_since(w, answer.seq)?, WALK)?;
        same(format!("{name}: unwritten again"), found(w)?, allocated)?;
    }
    Ok(())
}

/// The same steps on a raw file, and on one of the mount: after each, both answer the same.
fn asked(w: &mut Fixture) -> Outcome {
    let steps: &[(&str, AskedStep)] = &[
        ("allocated", |f| {
            Ok(fallocate(f, Mode::empty(), 0, 4 << 20)?)
        }),
        ("a write into it", |f| put(f, 0, &pattern(1, 56 << 10))),
        ("a write behind that", |f| {
            put(f, 1 << 20, &pattern(2, 8192))
        }),
        ("a write over its edge", |f| {
            put(f, 52 * KIB, &pattern(3, 9000))
        }),
        ("forgotten", forget),
        ("a page overwritten", |f| put(f, 4096, &pattern(4, 4096))),
        ("a part of a page", |f| put(f, 20_000, &pattern(5, 100))),
        ("space filled", |f| put(f, 2 << 20, &pattern(6, 64 << 10))),
        ("forgotten again", forget),
        ("a hole", |f| {
            let mode = Mode::PUNCH_HOLE | Mode::KEEP_SIZE;
            Ok(fallocate(f, mode, 16 * KIB, 16 * KIB)?)
        }),
        ("zeroes", |f| {
            match fallocate(f, Mode::ZERO_RANGE, 1 << 20, 512 * KIB) {
                Err(Errno::OPNOTSUPP) => Ok(()),
                done => Ok(done?),
            }
        }),
        ("cut", |f| Ok(f.set_len(3 << 20)?)),
        ("forgotten once more", forget),
        ("cut within a page", |f| Ok(f.set_len((2 << 20) + 5000)?)),
        ("longer", |f| Ok(f.set_len(4 << 20)?)),
    ];
    let beside = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(w.beside()?.join("f"))?;
    let file = w.open("f")?;
    for (what, step) in steps {
        step(&beside).at(format!("{what}, raw"))?;
        step(&file).at(*what)?;
        let (got, want) = (answers(&file)?, answers(&beside)?);
        same(format!("{what}: data and holes"), &got.runs, &want.runs)?;
        let pages = got.resident.iter().zip(&want.resident).enumerate();
        let differ: Vec<_> = pages
            .filter(|(page, (got, want))| *page != TAIL && got != want)
            .collect();
        check!(differ.is_empty(), "{what}: in memory: {differ:?}");
        check!(
            got.extents.is_some() == want.extents.is_some(),
            "{what}: FIEMAP"
        );
        let length = |a: &Answers| a.extents.iter().flatten().map(|e| e.1 - e.0).sum::<u64>();
        same(format!("{what}: allocated"), length(&got), length(&want))?;
        same(format!("{what}: blocks"), got.blocks, want.blocks)?;
    }
    Ok(())
}

/// A position is asked for while a writer holds the file.
fn while_written(w: &mut Fixture) -> Outcome {
    w.make("f", &pattern(1, 100_000))?;
    let (from, to) = rustix::pipe::pipe()?;
    let target = w.open("f")?;
    let (done, answer) = mpsc::channel();
    let asking = w.open("f")?;
    thread::scope(|scope| {
        // Nothing is in the pipe yet: the splice waits in the middle of its write.
        let writer = scope.spawn(move || {
            rustix::pipe::splice(from, None, target, None, 10, SpliceFlags::empty())
        });
        sleep(Duration::from_millis(500));
        scope.spawn(move || {
            let mut file = asking;
            let ask = |file: &mut File| -> Outcome {
                for (seek, want) in [
                    (SeekFrom::Start(70), 70),
                    (SeekFrom::Current(0), 70),
                    (SeekFrom::Current(-20), 50),
                    (SeekFrom::Start(0), 0),
                    (SeekFrom::End(-1), 99_999),
                ] {
                    same(format!("{seek:?}"), file.seek(seek)?, want)?;
                }
                let before = file.seek(SeekFrom::Current(-100_000));
                check!(before.is_err(), "a position before the beginning");
                let hole = rustix::fs::seek(&*file, From::Hole(0))?;
                same("the hole behind it", hole, 100_000)?;
                same("the position then", file.stream_position()?, 100_000)
            };
            let _ = done.send(ask(&mut file));
        });
        let result = match answer.recv_timeout(Duration::from_secs(15)) {
            Ok(result) => result,
            Err(_) => fail_late(),
        };
        rustix::io::write(&to, b"0123456789").at("the pipe")?;
        let spliced = writer.join().expect("it does not panic").at("splice")?;
        same("spliced", spliced, 10)?;
        result
    })
}

fn fail_late() -> Outcome {
    fail!("lseek waits for a writer")
}

/// A file of very many holes is cut, punched and overwritten at once, and comes back with all of them.
fn many_holes(w: &mut Fixture) -> Outcome {
    // Runs of data and holes by turns: their list has more than the four MiB that kmalloc() gives.
    const HOLES: u64 = 70_000;
    const STRIDE: u64 = 8192;
    let below = File::create(w.below("f")?)?;
    for hole in 0..HOLES {
        below.write_all_at(&(hole + 1).to_le_bytes(), hole * STRIDE + STRIDE / 2)?;
    }
    drop(below);
    w.mount_with("history_max=1200M")?;
    let file = w.open("f")?;
    let size = HOLES * STRIDE;
    let mode = Mode::PUNCH_HOLE | Mode::KEEP_SIZE;
    type BoxedStep<'a> = Box<dyn Fn() -> Outcome + 'a>;
    let steps: [(&str, BoxedStep<'_>); 3] = [
        ("cut", Box::new(|| Ok(file.set_len(0)?))),
        ("punched", Box::new(|| Ok(fallocate(&file, mode, 0, size)?))),
        (
            "overwritten",
            Box::new(|| put(&file, 0, &pattern(1, 64 << 20))),
        ),
    ];
    for (what, step) in steps {
        step().at(what)?;
        let lines = crate::undo::lines(&file, false)?;
        let line = lines.last().map_or("none", |line| line.text.as_str());
        check!(
            line.contains("undo=") && !line.contains("undo=lost"),
            "{what}: {line}"
        );
        w.revert("f", 1).at(format!("{what}, taken back"))?;
        let mut bytes = vec![0; STRIDE as usize];
        let mut want = bytes.clone();
        for hole in 0..HOLES {
            // The last hole precedes the last data: a part of it is cut off.
            let length = (size.min(file.metadata()?.len()) - hole * STRIDE).min(STRIDE) as usize;
            file.read_exact_at(&mut bytes[..length], hole * STRIDE)?;
            want[4096..4104].copy_from_slice(&(hole + 1).to_le_bytes());
            let is_same = bytes[..length] == want[..length];
            check!(is_same, "{what}, taken back: other content at hole {hole}");
        }
        let blocks = file.metadata()?.blocks();
        same(format!("{what}, taken back: blocks"), blocks, HOLES * 8)?;
    }
    Ok(())
}
