// SPDX-License-Identifier: GPL-2.0

//! Stores through shared mappings among everything else that happens to a file.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::maps::{pattern, same_all, store, stores, PAGE};
use crate::fixture::{put, Fixture};
use crate::harness::Test;
use crate::mounts::Lower;
use crate::outcome::{check, same, same_bytes, same_errno, At, Outcome};
use crate::sys::{self, Map};
use crate::undo;

pub const TESTS: &[Test] = &[
    Test::new("maps-older-operations", older_operations),
    Test::new("maps-and-writes", and_writes),
    Test::new("maps-and-cuts", and_cuts),
    Test::new("maps-store-while-reverting", store_while_reverting).seconds(120),
    Test::new("maps-store-while-writing", store_while_writing).seconds(120),
    Test::new("maps-remount", remount),
    Test::new("maps-external", external),
    Test::new("maps-history-off", history_off),
    Test::new("maps-sqlite", sqlite).seconds(120),
    Test::new("maps-pressure", pressure)
        .unmounted()
        .seconds(300),
];

/// A file that is mapped, and stored to, gives its older operations back, too.
fn older_operations(w: &mut Fixture) -> Outcome {
    w.make("f", &pattern(PAGE))?;
    let first = w.read("f")?;
    let file = w.open("f")?;
    put(&file, 100, b"written before")?;
    let second = w.read("f")?;
    let mut map = Map::of(&file, PAGE, true, true)?;
    let mut want = second.clone();
    store(&mut map, &mut want, 105, b"stored");
    undo::revert(&file, 2)?;
    same_all(w, "the store and the write", &map, &first)?;
    let mut want = first.clone();
    store(&mut map, &mut want, 0, b"stored");
    same_all(w, "a store after it", &map, &want)?;
    undo::revert(&file, 1)?;
    same_all(w, "and that", &map, &first)
}

/// Writes of several kinds and stores, one after the other on the same pages.
fn and_writes(w: &mut Fixture) -> Outcome {
    let old = pattern(8 * PAGE);
    w.make("f", &old)?;
    let file = w.open("f")?;
    let mut map = Map::of(&file, old.len(), true, true)?;
    let mut direct = OpenOptions::new();
    direct.read(true).write(true);
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut direct, libc::O_DIRECT);
    let direct = direct.open(w.path("f")).ok();
    let mut block = Map::anonymous(PAGE)?;
    let mut want = old.clone();
    let mut states = Vec::new();
    for round in 0..40usize {
        states.push(want.clone());
        let at = round * 1777 % (7 * PAGE);
        let bytes = [b'A' + round as u8; 300];
        match (round % 4, &direct) {
            (0 | 2, _) => store(&mut map, &mut want, at, &bytes[..8]),
            (1, _) | (_, None) => {
                put(&file, at as u64, &bytes)?;
                want[at..at + 300].copy_from_slice(&bytes);
            }
            (_, Some(direct)) => {
                let at = at / PAGE * PAGE;
                block.bytes().fill(b'a' + round as u8 % 26);
                put(direct, at as u64, block.bytes())?;
                want[at..at + PAGE].copy_from_slice(block.bytes());
            }
        }
    }
    same_all(w, "all done", &map, &want)?;
    for (round, state) in states.iter().enumerate().rev() {
        let lines = undo::lines(&file, false)?;
        let newest = &lines[lines.len() - 1];
        // A store to the end of one page and the beginning of the next makes two lines.
        let count = if newest.op == "mmap" {
            stores(&file)?
        } else {
            1
        };
        undo::revert(&file, count).at(format!("round {round}"))?;
        same_all(w, &format!("before round {round}"), &map, state)?;
    }
    Ok(())
}

/// Truncations and holes below a mapping.
fn and_cuts(w: &mut Fixture) -> Outcome {
    let old = pattern(6 * PAGE);
    w.make("f", &old)?;
    let file = w.open("f")?;
    let mut map = Map::of(&file, old.len(), true, true)?;
    let mut want = old.clone();
    store(&mut map, &mut want, 5 * PAGE, b"stored");
    store(&mut map, &mut want, 2 * PAGE + 7, b"stored");
    let stored = want.clone();
    file.set_len(3 * PAGE as u64 + 5)?;
    w.same("cut", "f", &want[..3 * PAGE + 5])?;
    map.store(2 * PAGE + 9, b"cut");
    undo::revert(&file, 1)?;
    w.same("the last store", "f", &stored[..3 * PAGE + 5])?;
    undo::revert(&file, 1)?;
    same_all(w, "the cut", &map, &stored)?;
    let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    sys::fallocate(&file, punch, PAGE as i64, 3 * PAGE as i64)?;
    let mut punched = stored.clone();
    punched[PAGE..4 * PAGE].fill(0);
    same_all(w, "punched", &map, &punched)?;
    map.store(2 * PAGE, b"into the hole");
    undo::revert(&file, 1)?;
    same_all(w, "the store into the hole", &map, &punched)?;
    undo::revert(&file, 1)?;
    same_all(w, "the hole", &map, &stored)?;
    let count = stores(&file)?;
    undo::revert(&file, count)?;
    same_all(w, "everything", &map, &old)
}

/// A program that stores continuously, and reverts: each store is before one or after it. At the end all of
/// them are taken back.
fn store_while_reverting(w: &mut Fixture) -> Outcome {
    const PAGES: usize = 4;
    let old = pattern(PAGES * PAGE);
    w.make("f", &old)?;
    let file = w.open("f")?;
    let mut map = Map::of(&file, old.len(), true, true)?;
    let over = AtomicBool::new(false);
    let rounds = w.times(150, 40);
    let result: Outcome = std::thread::scope(|scope| {
        let stores = scope.spawn(|| {
            let mut n = 0u32;
            while !over.load(Ordering::Relaxed) {
                n += 1;
                map.store(n as usize * 613 % (PAGES * PAGE - 4), &n.to_ne_bytes());
            }
        });
        let mut reverted = 0;
        let begun = Instant::now();
        while reverted < rounds && begun.elapsed() < Duration::from_secs(60) {
            // The write below all is never taken back.
            if undo::lines(&file, false)?.len() > 1 {
                undo::revert(&file, 1)?;
                reverted += 1;
            }
        }
        over.store(true, Ordering::Relaxed);
        check!(stores.join().is_ok(), "the storing thread");
        same("reverts", reverted, rounds)
    });
    over.store(true, Ordering::Relaxed);
    result?;
    let count = undo::lines(&file, false)?.len() - 1;
    if count != 0 {
        undo::revert(&file, count)?;
    }
    w.same("all taken back", "f", &old)
}

/// The same with writes: in any order, the original bytes come back.
fn store_while_writing(w: &mut Fixture) -> Outcome {
    const PAGES: usize = 4;
    let old = pattern(PAGES * PAGE);
    w.make("f", &old)?;
    let file = w.open("f")?;
    let mut map = Map::of(&file, old.len(), true, true)?;
    let over = AtomicBool::new(false);
    let rounds = w.times(300u64, 100);
    let result: Outcome = std::thread::scope(|scope| {
        let stores = scope.spawn(|| {
            let mut n = 0u32;
            while !over.load(Ordering::Relaxed) {
                n += 1;
                map.store(n as usize * 613 % (PAGES * PAGE - 4), &n.to_ne_bytes());
            }
        });
        for round in 0..rounds {
            let bytes = [round as u8; 700];
            put(&file, round * 1531 % (PAGES * PAGE - 700) as u64, &bytes)?;
            if round % 16 == 0 {
                file.sync_data()?;
            }
        }
        over.store(true, Ordering::Relaxed);
        check!(stores.join().is_ok(), "the storing thread");
        Ok(())
    });
    over.store(true, Ordering::Relaxed);
    result?;
    let lines = undo::lines(&file, false)?;
    let of_stores = lines.iter().filter(|line| line.op == "mmap").count();
    check!(of_stores > 0, "no store has a line");
    undo::revert(&file, lines.len() - 1)?;
    w.same("all taken back", "f", &old)
}

fn remount(w: &mut Fixture) -> Outcome {
    let old = pattern(5 * PAGE);
    w.make("f", &old)?;
    // The first operation on an unknown file is a store.
    w.remount_if_lasting()?;
    let mut want = old.clone();
    {
        let file = w.open("f")?;
        let mut map = Map::of(&file, old.len(), true, true)?;
        store(&mut map, &mut want, 4 * PAGE, b"one");
        map.sync()?;
        store(&mut map, &mut want, 4 * PAGE + 9, b"two");
    }
    w.remount_if_lasting()?;
    w.same("there", "f", &want)?;
    w.same_log(
        "the lines",
        "f",
        &["write 0 20480", "mmap 16384 4096", "mmap 16384 4096"],
    )?;
    let ops: Vec<String> = (undo::lines(&w.open("f")?, true)?.iter())
        .map(|line| line.op.clone())
        .collect();
    check!(
        !ops.contains(&"external".into()),
        "an external line: {ops:?}"
    );
    w.revert("f", 1)?;
    want[4 * PAGE + 9..4 * PAGE + 12].copy_from_slice(&old[4 * PAGE + 9..4 * PAGE + 12]);
    w.same("the second", "f", &want)?;
    w.revert("f", 1)?;
    w.same("the first", "f", &old)
}

/// A file that was mapped once is tracked as closely as any other afterwards.
fn external(w: &mut Fixture) -> Outcome {
    let below = w.below("f")?;
    w.make("f", &pattern(PAGE))?;
    let file = w.open("f")?;
    let mut map = Map::of(&file, PAGE, true, true)?;
    map.store(0, b"stored");
    same("its line", stores(&file)?, 1)?;
    drop(map);
    let meddle = |bytes: &[u8]| -> Outcome {
        sleep(Duration::from_millis(30));
        let other = OpenOptions::new().write(true).open(&below)?;
        other.write_all_at(bytes, 10)?;
        sleep(Duration::from_millis(30));
        Ok(())
    };
    meddle(b"BEHIND")?;
    same_errno("open", undo::revert(&file, 1), Errno::STALE)?;
    let mut map = Map::of(&file, PAGE, true, true)?;
    map.store(20, b"over it");
    undo::revert(&file, 1)?;
    same_errno("mapped again", undo::revert(&file, 1), Errno::STALE)?;
    map.store(40, b"before");
    map.sync()?;
    meddle(b"BEFORE A STORE")?;
    map.store(50, b"after");
    undo::revert(&file, 1)?;
    same_errno("before a store", undo::revert(&file, 1), Errno::STALE)?;
    meddle(b"BEHIND TOO")?;
    put(&file, 0, b"written")?;
    undo::revert(&file, 1)?;
    same_errno("while mapped", undo::revert(&file, 1), Errno::STALE)?;
    drop(map);
    let other = OpenOptions::new().read(true).write(true).open(&below)?;
    let mut map = Map::of(&other, PAGE, true, true)?;
    map.store(30, b"mapped below");
    same_errno("mapped below", undo::revert(&file, 1), Errno::BUSY)
}

/// Stores while the history is off are outside changes; those afterwards are not.
fn history_off(w: &mut Fixture) -> Outcome {
    w.make("f", &pattern(2 * PAGE))?;
    let file = w.open("f")?;
    let mut map = Map::of(&file, 2 * PAGE, true, true)?;
    let target = w.mnt.display().to_string();
    let remount = |option: &str| w.sh(&format!("cd /; mount -o remount,{option} {target}"));
    remount("history=off")?;
    sleep(Duration::from_millis(30));
    map.store(0, b"unrecorded");
    remount("history=on")?;
    put(&file, PAGE as u64, b"written")?;
    let mut want = map.load(0, 2 * PAGE);
    let before = want.clone();
    store(&mut map, &mut want, 20, b"recorded again");
    same_all(w, "stored", &map, &want)?;
    undo::revert(&file, 1)?;
    same_all(w, "the store", &map, &before)?;
    undo::revert(&file, 1)?;
    same_errno("unrecorded", undo::revert(&file, 1), Errno::STALE)
}

/// A database whose index of its log is a shared mapping.
fn sqlite(w: &mut Fixture) -> Outcome {
    if w.sh("command -v sqlite3").is_err() {
        return Ok(());
    }
    let ask = "sqlite3 db 'PRAGMA mmap_size=67108864; ";
    w.sh(&format!(
        "{ask} PRAGMA journal_mode=WAL; CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT);' >/dev/null"
    ))?;
    for n in 0..20 {
        w.sh(&format!(
            "{ask} BEGIN; INSERT INTO t VALUES({n}, hex(randomblob(500))); COMMIT;' >/dev/null"
        ))?;
    }
    let count = w.sh("sqlite3 db 'SELECT count(*) FROM t; PRAGMA integrity_check;'")?;
    same("rows", count.trim(), "20\nok")?;
    let before = w.read("db")?;
    w.sh(&format!("{ask} DELETE FROM t; VACUUM;' >/dev/null"))?;
    let file = w.open("db")?;
    let mut reverted = 0;
    while w.read("db")? != before {
        undo::revert(&file, 1).at(format!("after {reverted} reverts"))?;
        reverted += 1;
    }
    drop(file);
    w.sh("rm -f db-wal db-shm")?;
    let count = w.sh("sqlite3 db 'SELECT count(*) FROM t; PRAGMA integrity_check;'")?;
    same("rows again", count.trim(), "20\nok")
}

/// More pages than memory for staging, and more than the history may take.
fn pressure(w: &mut Fixture) -> Outcome {
    let size = w.times(256, 64) << 20;
    w.mount_with("history_max=16M")?;
    let file = w.open("f")?;
    file.set_len(size as u64)?;
    let mut map = Map::of(&file, size, true, true)?;
    for at in (0..size).step_by(PAGE) {
        map.store(at, &(at as u32 | 1).to_ne_bytes());
    }
    for at in (0..size).step_by(PAGE) {
        check!(
            map.load(at, 4) == (at as u32 | 1).to_ne_bytes(),
            "the store at {at} is lost"
        );
    }
    // The remaining history restores the newest stores.
    let lines = undo::lines(&file, false)?;
    check!(!lines.is_empty(), "no lines are left");
    let lost = lines.iter().any(|line| line.key("undo") == Some("lost"));
    check!(!lost, "a store was lost");
    let last = &lines[lines.len() - 1];
    undo::revert(&file, 1)?;
    let (at, length) = (last.offset as usize, last.length as usize);
    same_bytes("zeroes again", &map.load(at, length), &vec![0; length])?;
    check!(
        map.load(at - PAGE, 4) == ((at - PAGE) as u32 | 1).to_ne_bytes(),
        "the page before"
    );
    if w.lower == Lower::Private {
        return Ok(());
    }
    drop(map);
    drop(file);
    w.remount_with("history_max=16M")
}
