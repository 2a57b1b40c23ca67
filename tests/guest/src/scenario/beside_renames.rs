// SPDX-License-Identifier: GPL-2.0

//! Removals during renames between directories: a file then becomes an orphan by a link and an unlink instead
//! of a rename that waits. The file comes back all the same, also after a power cut in between.

use std::fs::{self, File};
use std::mem::MaybeUninit;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

use crate::crafted::History;
use crate::fixture::Fixture;
use crate::harness::Test;
use crate::outcome::{check, fail, same, Outcome};
use crate::undo;

pub const TESTS: &[Test] = &[
    Test::new("removed-beside-renames", removed),
    Test::new("removed-half-way", half_way),
];

const FILES: usize = 400;

fn name(number: usize) -> String {
    format!("d/file{number}")
}

fn content(number: usize) -> Vec<u8> {
    format!("the content of {number}").repeat(20).into_bytes()
}

/// Renames between two directories below until stopped.
fn rename_on(place: &Path, stop: &AtomicBool) {
    let (from, to) = (place.join("x/r"), place.join("y/r"));
    while !stop.load(Ordering::Relaxed) {
        let _ = fs::rename(&from, &to);
        let _ = fs::rename(&to, &from);
    }
}

/// How many names have left a directory by a removal, and by a move.
fn events(watch: &rustix::fd::OwnedFd) -> Outcome<(usize, usize)> {
    let (mut removed, mut moved) = (0, 0);
    let mut room = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(watch, &mut room);
    loop {
        match reader.next() {
            Ok(event) if event.events().contains(ReadFlags::DELETE) => removed += 1,
            Ok(event) if event.events().contains(ReadFlags::MOVED_FROM) => moved += 1,
            Ok(_) => {}
            Err(rustix::io::Errno::AGAIN) => return Ok((removed, moved)),
            Err(error) => fail!("the watch: {error}"),
        }
    }
}

fn removed(w: &mut Fixture) -> Outcome {
    let below = w.below("")?;
    fs::create_dir(w.path("d"))?;
    for number in 0..FILES {
        w.make(&name(number), &content(number))?;
    }
    for directory in ["x", "y"] {
        fs::create_dir(below.join(directory))?;
    }
    fs::write(below.join("x/r"), b"")?;
    let watch = inotify::init(CreateFlags::NONBLOCK)?;
    let flags = WatchFlags::DELETE | WatchFlags::MOVED_FROM;
    inotify::add_watch(&watch, below.join("d"), flags)?;
    let stop = AtomicBool::new(false);
    let open = File::open(w.path(&name(7)))?;
    thread::scope(|scope| -> Outcome {
        scope.spawn(|| rename_on(&below, &stop));
        // By a process of its own: an undo takes the work of one process back.
        let result = w.sh("rm d/*").map(drop);
        stop.store(true, Ordering::Relaxed);
        result
    })?;
    let (by_link, by_move) = events(&watch)?;
    same("names that left", by_link + by_move, FILES)?;
    check!(by_link != 0, "no removal found a rename under way");
    same("links of a file that is open", open.metadata()?.nlink(), 0)?;
    let home = w.history()?;
    same("kept", entries(&home.join("orphans"))?.len(), FILES)?;
    w.sh("logctl undo")?;
    for number in 0..FILES {
        w.same("back", &name(number), &content(number))?;
        let links = fs::metadata(w.below(&name(number))?)?.nlink();
        same(format!("links of {number}"), links, 1)?;
    }
    same("kept still", entries(&home.join("orphans"))?.len(), 0)?;
    drop(open);
    w.remount()?;
    w.same("after a mount", &name(0), &content(0))
}

/// All that is kept.
fn entries(place: &Path) -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut left = vec![place.to_path_buf()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            if path.is_dir() {
                left.push(path);
            } else {
                found.push(path);
            }
        }
    }
    Ok(found)
}

/// A power cut after the link: the file has its name, and a mount leaves no orphan. After the unlink: the
/// file is an orphan, and comes back.
fn half_way(w: &mut Fixture) -> Outcome {
    w.below("f")?;
    w.make("f", b"one")?;
    fs::remove_file(w.path("f"))?;
    let home = w.history()?;
    w.unmount()?;
    let kept = entries(&home.join("orphans"))?;
    same("kept", kept.len(), 1)?;
    // The removal has no line yet, and the other name is still there.
    let mut history = History::read(&home)?;
    history.cut_behind("write")?;
    history.forget();
    history.write(&home)?;
    fs::hard_link(&kept[0], w.below("f")?)?;
    w.mount()?;
    w.same("it has its name", "f", b"one")?;
    same("links", fs::metadata(w.below("f")?)?.nlink(), 1)?;
    same("kept", entries(&home.join("orphans"))?.len(), 0)?;
    w.sh("rm f")?;
    same("kept again", entries(&home.join("orphans"))?.len(), 1)?;
    let names = File::open(&w.mnt)?;
    undo::revert(&names, 1)?;
    w.same("back", "f", b"one")
}
