// SPDX-License-Identifier: GPL-2.0

//! Stores through shared mappings: each is captured, and taken back step by step.

use std::fs::{File, OpenOptions};
use std::thread::sleep;
use std::time::Duration;

use rustix::io::Errno;

use crate::fixture::{put, Fixture};
use crate::harness::Test;
use crate::mounts::{self, Lower};
use crate::outcome::{check, same, same_bytes, same_errno, At, Outcome};
use crate::sys::{self, Map};
use crate::undo;

pub const TESTS: &[Test] = &[
    Test::new("maps-one-store", one_store),
    Test::new("maps-many-pages", many_pages),
    Test::new("maps-holes", holes),
    Test::new("maps-end-of-file", end_of_file),
    Test::new("maps-slices", slices),
    Test::new("maps-fork", fork),
    Test::new("maps-mprotect", mprotect),
    Test::new("maps-mremap", mremap),
    Test::new("maps-outlive-descriptor", outlive_descriptor),
    Test::new("maps-two-processes", two_processes),
    Test::new("maps-private", private),
    Test::new("maps-side-doors", side_doors),
    Test::new("maps-large-folios", large_folios),
    Test::new("maps-huge-pages", huge_pages)
        .unmounted()
        .only(&[Lower::Tmpfs]),
];

pub const PAGE: usize = 4096;

/// Longer than a slice of time lasts (`commit=`, one second).
const SLICE: Duration = Duration::from_millis(2500);

/// Bytes of which no two pages are alike.
pub fn pattern(length: usize) -> Vec<u8> {
    let byte = |at: usize| (at ^ (at >> 8) ^ ((at >> 12) * 37)) as u8;
    (0..length).map(byte).collect()
}

/// How many of the newest live lines of the file in a row are of stores.
pub fn stores(file: &File) -> Outcome<usize> {
    let lines = undo::lines(file, false)?;
    Ok((lines.iter().rev())
        .take_while(|line| line.op == "mmap")
        .count())
}

/// The file through the mount, below it, and through the mapping.
pub fn same_all(w: &Fixture, what: &str, map: &Map, want: &[u8]) -> Outcome {
    w.same(what, "f", want)?;
    same_bytes(format!("{what}, mapped"), &map.load(0, want.len()), want)
}

/// Changes the mapping and its expected content.
pub fn store(map: &mut Map, want: &mut [u8], at: usize, bytes: &[u8]) {
    map.store(at, bytes);
    want[at..at + bytes.len()].copy_from_slice(bytes);
}

fn one_store(w: &mut Fixture) -> Outcome {
    let old = pattern(3 * PAGE);
    w.make("f", &old)?;
    let file = w.open("f")?;
    let mut map = Map::of(&file, 3 * PAGE, true, true)?;
    w.same_log("a mapping alone is no operation", "f", &["write 0 12288"])?;
    let mut want = old.clone();
    store(&mut map, &mut want, PAGE + 10, b"stored");
    w.same_log("one page", "f", &["write 0 12288", "mmap 4096 4096"])?;
    same_all(w, "stored", &map, &want)?;
    let lines = undo::lines(&file, false)?;
    let command = &lines[lines.len() - 1].command;
    check!(command.ends_with("tests"), "stored by {command}");
    undo::revert(&file, 1)?;
    same_all(w, "reverted while mapped", &map, &old)?;
    let mut want = old.clone();
    store(&mut map, &mut want, PAGE + 20, b"again");
    same_all(w, "stored again", &map, &want)?;
    drop(map);
    undo::revert(&file, 1)?;
    w.same("reverted after the unmap", "f", &old)?;
    drop(file);
    w.remount_if_lasting()?;
    w.revert("f", 1)?;
    w.same("the write, too", "f", b"")
}

fn many_pages(w: &mut Fixture) -> Outcome {
    const PAGES: usize = 200;
    let old = pattern(PAGES * PAGE);
    w.make("f", &old)?;
    let file = w.open("f")?;
    let mut map = Map::of(&file, old.len(), true, true)?;
    let mut want = old.clone();
    for page in 0..PAGES {
        store(
            &mut map,
            &mut want,
            page * PAGE + page,
            &[!old[page * PAGE]],
        );
    }
    let lines = stores(&file)?;
    check!((1..=PAGES).contains(&lines), "{lines} lines");
    same_all(w, "stored", &map, &want)?;
    let middle = want.clone();
    // Not in their order, and most of them again.
    for step in 0..PAGES {
        let page = step * 77 % PAGES;
        store(&mut map, &mut want, page * PAGE, b"once more");
    }
    map.sync()?;
    let more = stores(&file)? - lines;
    check!(more > 0, "the second stores have no lines");
    same_all(w, "stored again", &map, &want)?;
    undo::revert(&file, more)?;
    same_all(w, "the second stores", &map, &middle)?;
    undo::revert(&file, lines)?;
    same_all(w, "the first stores", &map, &old)
}

fn holes(w: &mut Fixture) -> Outcome {
    let file = w.open("f")?;
    file.set_len(64 * PAGE as u64)?;
    put(&file, 8 * PAGE as u64, &[7; 100])?;
    let mut old = vec![0; 64 * PAGE];
    old[8 * PAGE..8 * PAGE + 100].fill(7);
    let mut map = Map::of(&file, old.len(), true, true)?;
    let mut want = old.clone();
    for page in [0, 7, 8, 9, 30, 63] {
        store(&mut map, &mut want, page * PAGE + 50, b"in a hole");
    }
    same_all(w, "stored", &map, &want)?;
    let count = stores(&file)?;
    undo::revert(&file, count)?;
    same_all(w, "reverted", &map, &old)
}

fn end_of_file(w: &mut Fixture) -> Outcome {
    let old = pattern(PAGE + 900);
    w.make("f", &old)?;
    let file = w.open("f")?;
    let mut map = Map::of(&file, 4 * PAGE, true, true)?;
    let mut want = old.clone();
    store(&mut map, &mut want, PAGE + 890, b"the end");
    // Beyond the end of the file, where the mapping does not belong to it.
    map.store(PAGE + 1000, b"nowhere");
    w.same("stored", "f", &want)?;
    w.same_log("up to the end", "f", &["write 0 4996", "mmap 4096 900"])?;
    let status = sys::in_child(|| map.store(3 * PAGE, b"x"))?;
    same("killed by SIGBUS", status & 0x7f, libc::SIGBUS)?;
    undo::revert(&file, 1)?;
    w.same("reverted", "f", &old)?;
    map.store(PAGE + 895, b"again");
    put(&file, old.len() as u64, b"appended")?;
    undo::revert(&file, 2)?;
    w.same("an append after a store", "f", &old)
}

/// Events that end a flush interval.
type End = fn(&File, &Map) -> Outcome;

/// Stores to one page in several slices, each of which is a step of its own.
fn slices(w: &mut Fixture) -> Outcome {
    let old = pattern(2 * PAGE);
    w.make("f", &old)?;
    let file = w.open("f")?;
    let mut map = Map::of(&file, old.len(), true, true)?;
    let mut want = old.clone();
    let mut states = Vec::new();
    let ends: &[(&str, End)] = &[
        ("msync", |_, map| map.sync().at("msync")),
        ("fsync", |file, _| file.sync_all().at("fsync")),
        ("syncfs", |file, _| rustix::fs::syncfs(file).at("syncfs")),
        ("time", |_, _| {
            sleep(SLICE);
            Ok(())
        }),
        ("readlog", |file, _| undo::lines(file, false).map(drop)),
        ("write", |file, _| put(file, PAGE as u64, b"w")),
    ];
    for (round, (name, end)) in ends.iter().enumerate() {
        states.push((*name, want.clone()));
        store(
            &mut map,
            &mut want,
            100,
            format!("slice {round}").as_bytes(),
        );
        store(&mut map, &mut want, 300, name.as_bytes());
        end(&file, &map)?;
    }
    undo::revert(&file, 1)?;
    same_all(w, "the write", &map, &want)?;
    for (name, state) in states.iter().rev() {
        undo::revert(&file, 1).at(format!("the slice that {name} ended"))?;
        same_all(w, name, &map, state)?;
    }
    w.same_log("all of them", "f", &["write 0 8192"])
}

fn fork(w: &mut Fixture) -> Outcome {
    let old = pattern(4 * PAGE);
    w.make("f", &old)?;
    let file = w.open("f")?;
    let mut map = Map::of(&file, old.len(), true, true)?;
    let mut want = old.clone();
    store(&mut map, &mut want, 0, b"parent");
    let status = sys::in_child(|| {
        map.store(10, b"child");
        map.store(PAGE, b"child");
    })?;
    same("the child", status, 0)?;
    want[10..15].copy_from_slice(b"child");
    want[PAGE..PAGE + 5].copy_from_slice(b"child");
    store(&mut map, &mut want, 2 * PAGE, b"parent");
    same_all(w, "stored", &map, &want)?;
    let count = stores(&file)?;
    undo::revert(&file, count)?;
    same_all(w, "reverted", &map, &old)?;
    let status = sys::in_child(|| map.store(20, b"a child after a revert"))?;
    same("the child", status, 0)?;
    let count = stores(&file)?;
    same("its line", count, 1)?;
    undo::revert(&file, count)?;
    same_all(w, "reverted again", &map, &old)
}

fn mprotect(w: &mut Fixture) -> Outcome {
    let old = pattern(4 * PAGE);
    w.make("f", &old)?;
    let file = w.open("f")?;
    let mut map = Map::of(&file, old.len(), true, false)?;
    let (read, write) = (libc::PROT_READ, libc::PROT_READ | libc::PROT_WRITE);
    let mut want = old.clone();
    map.protect(PAGE, PAGE, write)?;
    store(&mut map, &mut want, PAGE + 5, b"writable now");
    map.protect(0, 4 * PAGE, read)?;
    same("one page", stores(&file)?, 1)?;
    // The dirty bit of a page table entry must not make the page writable again.
    map.protect(0, 4 * PAGE, write)?;
    store(&mut map, &mut want, PAGE + 50, b"and again");
    store(&mut map, &mut want, 3 * PAGE, b"another");
    same_all(w, "stored", &map, &want)?;
    let count = stores(&file)?;
    check!(count >= 3, "only {count} lines");
    undo::revert(&file, count)?;
    same_all(w, "reverted", &map, &old)
}

fn mremap(w: &mut Fixture) -> Outcome {
    let old = pattern(64 * PAGE);
    w.make("f", &old)?;
    let file = w.open("f")?;
    let mut map = Map::of(&file, 2 * PAGE, true, true)?;
    let mut want = old.clone();
    store(&mut map, &mut want, 0, b"before");
    map.resize(64 * PAGE)?;
    store(&mut map, &mut want, 10, b"after");
    store(&mut map, &mut want, 60 * PAGE, b"grown");
    same_all(w, "stored", &map, &want)?;
    let count = stores(&file)?;
    undo::revert(&file, count)?;
    same_all(w, "reverted", &map, &old)?;
    map.resize(PAGE)?;
    map.store(20, b"shrunk");
    same("one line", stores(&file)?, 1)?;
    undo::revert(&file, 1)?;
    w.same("reverted again", "f", &old)
}

fn outlive_descriptor(w: &mut Fixture) -> Outcome {
    let old = pattern(2 * PAGE);
    w.make("f", &old)?;
    let file = w.open("f")?;
    let mut map = Map::of(&file, old.len(), true, true)?;
    drop(file);
    let mut want = old.clone();
    store(&mut map, &mut want, 0, b"without a descriptor");
    same_all(w, "stored", &map, &want)?;
    w.revert("f", 1)?;
    same_all(w, "reverted", &map, &old)?;
    store(&mut map, &mut want, 50, b"and unmapped at once");
    let want = map.load(0, old.len());
    drop(map);
    w.same("stored", "f", &want)?;
    w.remount_if_lasting()?;
    w.same("there after a remount", "f", &want)?;
    w.same_log("its line", "f", &["write 0 8192", "mmap 0 4096"])?;
    w.revert("f", 1)?;
    w.same("reverted", "f", &old)
}

fn two_processes(w: &mut Fixture) -> Outcome {
    let old = pattern(3 * PAGE);
    w.make("f", &old)?;
    let file = w.open("f")?;
    let mut map = Map::of(&file, old.len(), true, true)?;
    let mut want = old.clone();
    store(&mut map, &mut want, 0, b"mine");
    let path = w.path("f");
    let status = sys::in_child(|| {
        let mut options = OpenOptions::new();
        let other = options.read(true).write(true).open(&path).unwrap();
        let mut map = Map::of(&other, 3 * PAGE, true, true).unwrap();
        map.store(100, b"its own mapping");
        map.store(2 * PAGE, b"of the same file");
    })?;
    same("the other process", status, 0)?;
    want[100..115].copy_from_slice(b"its own mapping");
    want[2 * PAGE..2 * PAGE + 16].copy_from_slice(b"of the same file");
    same_all(w, "stored", &map, &want)?;
    let count = stores(&file)?;
    undo::revert(&file, count)?;
    same_all(w, "reverted", &map, &old)
}

fn private(w: &mut Fixture) -> Outcome {
    let old = pattern(2 * PAGE);
    w.make("f", &old)?;
    let file = w.open("f")?;
    let mut map = Map::of(&file, old.len(), false, true)?;
    map.store(0, b"my own copy");
    w.same("the file", "f", &old)?;
    w.same_log("no line", "f", &["write 0 8192"])?;
    put(&file, PAGE as u64, b"written")?;
    same("seen", map.load(PAGE, 7), b"written".to_vec())?;
    undo::revert(&file, 1)?;
    w.same("reverted", "f", &old)?;
    same(
        "seen again",
        map.load(PAGE, 7),
        old[PAGE..PAGE + 7].to_vec(),
    )?;
    same("still mine", map.load(0, 11), b"my own copy".to_vec())
}

/// Calls on the file of a mapping itself, which bypass every hook.
fn side_doors(w: &mut Fixture) -> Outcome {
    let old = pattern(4 * PAGE);
    w.make("f", &old)?;
    let file = w.open("f")?;
    let map = Map::of(&file, old.len(), true, true)?;
    let removed = map.advise(PAGE, PAGE, libc::MADV_REMOVE);
    same_errno("MADV_REMOVE", removed, Errno::BADF)?;
    same_all(w, "nothing removed", &map, &old)?;
    // Refused, or a mapping that cannot be written to.
    let remapped = map.remap_pages(PAGE, 2);
    let status = sys::in_child(|| {
        let mut map = map;
        map.store(0, b"through the side door");
    })?;
    let now = w.read("f")?;
    let count = stores(&file)?;
    if now != old {
        check!(remapped.is_err(), "a store through a remapped page");
        same("its line", count, 1)?;
        undo::revert(&file, 1)?;
    } else {
        same("killed", status & 0x7f, libc::SIGSEGV)?;
    }
    w.same("all is as before", "f", &old)
}

/// A page cache of folios of many pages, which one fault may make writable at once.
fn large_folios(w: &mut Fixture) -> Outcome {
    one_store_each_mib(w, false)?;
    one_store_each_mib(w, true)
}

/// The same where the lower filesystem has huge pages.
fn huge_pages(w: &mut Fixture) -> Outcome {
    let src = w.below("")?.display().to_string();
    mounts::run(&["mount", "-t", "tmpfs", "-o", "huge=always", "none", &src])?;
    w.mount()?;
    let done = large_folios(w);
    w.unmount()?;
    mounts::run(&["umount", &src])?;
    done
}

fn one_store_each_mib(w: &Fixture, by_huge_pages: bool) -> Outcome {
    const MIB: usize = 1 << 20;
    let old = pattern(8 * MIB);
    w.make("f", &old)?;
    let file = w.open("f")?;
    let before = undo::lines(&file, false)?.len();
    let mut map = Map::of(&file, old.len(), true, true)?;
    if by_huge_pages {
        // Not every kernel has them.
        let _ = map.advise(0, old.len(), libc::MADV_HUGEPAGE);
    }
    for round in 0..2 {
        let mut want = old.clone();
        for at in 0..8 {
            store(&mut map, &mut want, at * MIB + 5000, b"one");
            store(&mut map, &mut want, at * MIB + 70_000, b"two");
            store(&mut map, &mut want, at * MIB + 900_000, b"three");
        }
        same_all(w, &format!("stored, round {round}"), &map, &want)?;
        let count = stores(&file)?;
        check!(count > 0, "no lines in round {round}");
        undo::revert(&file, count)?;
        same_all(w, &format!("reverted, round {round}"), &map, &old)?;
    }
    same(
        "lines that are left",
        undo::lines(&file, false)?.len(),
        before,
    )
}
