// SPDX-License-Identifier: GPL-2.0

//! Shared mappings beside other things of the kernel: a size that changes during a fault, listeners
//! of fanotify, a stacked filesystem below.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use super::maps::{pattern, store, stores, PAGE};
use crate::fixture::Fixture;
use crate::harness::Test;
use crate::mounts::{self, Lower};
use crate::outcome::{check, same, At, Outcome, Stop};
use crate::sys::{Map, OpenWatch};
use crate::undo;

pub const TESTS: &[Test] = &[
    Test::new("maps-size-changes-in-a-fault", size_changes)
        .only(&[Lower::Ext4])
        .seconds(120),
    Test::new("maps-under-a-listener", under_a_listener).only(&[Lower::Ext4]),
    Test::new("maps-over-overlayfs", over_overlayfs)
        .unmounted()
        .only(&[Lower::Ext4]),
];

/// Stores to the last page while the size changes within it: no old content of a store is lost.
fn size_changes(w: &mut Fixture) -> Outcome {
    const PAGES: usize = 8;
    let old = pattern(PAGES * PAGE);
    w.make("f", &old)?;
    let file = w.open("f")?;
    let mut map = Map::of(&file, old.len(), true, true)?;
    let (stop, time) = (AtomicBool::new(false), Duration::from_secs(20));
    let begun = Instant::now();
    let result = thread::scope(|scope| {
        let cutter = scope.spawn(|| {
            let mut result = Ok(());
            while result.is_ok() && !stop.load(Ordering::Relaxed) {
                let short = (PAGES - 1) * PAGE + 100;
                result = (file.set_len(short as u64)).and_then(|()| file.set_len(old.len() as u64));
            }
            result
        });
        let mut count = 0u32;
        while begun.elapsed() < time && !cutter.is_finished() {
            count = count.wrapping_add(1);
            map.store((PAGES - 1) * PAGE + 10, &count.to_ne_bytes());
        }
        stop.store(true, Ordering::Relaxed);
        cutter.join().expect("it does not panic")
    });
    result.at("changing the size")?;
    drop(map);
    let lines = undo::lines(&file, false)?;
    let of_stores = lines.iter().filter(|line| line.op == "mmap").count();
    check!(of_stores > 50, "only {of_stores} lines of stores");
    let lost = lines.iter().find(|line| line.key("undo") == Some("lost"));
    check!(
        lost.is_none(),
        "lost: {}",
        lost.map_or("", |line| &line.text)
    );
    undo::revert(&file, lines.len() - 1)?;
    w.same("all taken back but the first write", "f", &old)
}

/// mmap() does not wait for a fanotify listener: the listener may need the process's memory map to
/// answer.
fn under_a_listener(w: &mut Fixture) -> Outcome {
    let old = pattern(4 * PAGE);
    w.make("f", &old)?;
    let below = CString::new(w.below("")?.as_os_str().as_bytes()).expect("no NUL in it");
    // One file is opened before there is a listener, one after.
    let before = w.open("f")?;
    let watch = OpenWatch::of_filesystem(&below).at("fanotify")?;
    let stop = AtomicBool::new(false);
    let result = thread::scope(|scope| {
        let listener = scope.spawn(|| {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                let is_one = watch.allow_next(|| {
                    let maps = std::fs::read("/proc/self/smaps");
                    assert!(maps.is_ok_and(|text| !text.is_empty()));
                });
                match is_one {
                    Ok(true) => count += 1,
                    Ok(false) => sleep(Duration::from_millis(1)),
                    Err(e) => return Err(e),
                }
            }
            Ok(count)
        });
        let work = || -> Outcome {
            for file in [before, w.open("f")?] {
                let mut map = Map::of(&file, old.len(), true, true)?;
                map.store(PAGE + 7, b"stored");
                drop(map);
                same("lines", stores(&file)?, 1)?;
                undo::revert(&file, 1)?;
            }
            w.same("taken back", "f", &old)
        };
        let result = work();
        stop.store(true, Ordering::Relaxed);
        let count = listener
            .join()
            .expect("it does not panic")
            .at("listening")?;
        check!(count > 0, "the listener was asked nothing");
        result
    });
    drop(watch);
    result
}

/// Where the pages lie in the mapping of another inode, each slice has its lines.
fn over_overlayfs(w: &mut Fixture) -> Outcome {
    let src = w.below("")?;
    let at = |name: &str| w.base.join(name).display().to_string();
    for name in ["lower", "upper", "work"] {
        std::fs::create_dir_all(at(name))?;
    }
    let old = pattern(4 * PAGE);
    std::fs::write(Path::new(&at("lower")).join("copied-up"), &old)?;
    let options = format!(
        "lowerdir={},upperdir={},workdir={},index=on,nfs_export=on",
        at("lower"),
        at("upper"),
        at("work")
    );
    let target = src.display().to_string();
    mounts::run(&["mount", "-t", "overlay", "overlay", "-o", &options, &target])?;
    let mounted = w.try_mount("").map_err(|refusal| {
        // Then nothing is mapped, either.
        Stop::Skip(format!("refused over overlayfs: {:?}", refusal.said))
    });
    let result = mounted.and_then(|()| {
        w.make("made", &old)?;
        ["made", "copied-up"]
            .iter()
            .try_for_each(|name| slices_of(w, name, &old).at(name))
    });
    let unmounted = w.unmount();
    mounts::run(&["umount", &target])?;
    result.and(unmounted)
}

fn slices_of(w: &Fixture, name: &str, old: &[u8]) -> Outcome {
    let file = w.open(name)?;
    let before = undo::lines(&file, false)?.len();
    let mut map = Map::of(&file, old.len(), true, true)?;
    let mut want = old.to_vec();
    let mut states = Vec::new();
    for round in 0..4 {
        states.push(want.clone());
        store(
            &mut map,
            &mut want,
            PAGE + 100,
            format!("slice {round}").as_bytes(),
        );
        match round {
            0 => map.sync().at("msync")?,
            1 => file.sync_all().at("fsync")?,
            2 => sleep(Duration::from_millis(2500)),
            _ => {}
        }
        let count = undo::lines(&file, false)?.len() - before;
        same(format!("lines after round {round}"), count, round + 1)?;
    }
    for state in states.iter().rev() {
        undo::revert(&file, 1)?;
        w.same("a slice taken back", name, state)?;
    }
    drop(map);
    same(
        "lines that are left",
        undo::lines(&file, false)?.len(),
        before,
    )?;
    Ok(())
}
