// SPDX-License-Identifier: GPL-2.0

//! Programs that watch files (inotify, fanotify) hear of reverts as of any other change.

use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::inotify;

use crate::fixture::Fixture;
use crate::group::{Watch, REDO, WALK};
use crate::harness::Test;
use crate::outcome::{check, same, At, Outcome};
use crate::sys;
use crate::undo;

use super::groups::{reverts_since, take_back};

pub const TESTS: &[Test] = &[
    Test::new("watchers-of-a-file", of_a_file),
    Test::new("watchers-of-a-group", of_a_group),
    Test::new("watchers-of-names", of_names),
    Test::new("watchers-of-a-mount", of_a_mount),
];

const MODIFY: u32 = 0x2;
const ATTRIB: u32 = 0x4;
const MOVED_FROM: u32 = 0x40;
const MOVED_TO: u32 = 0x80;
const CREATE: u32 = 0x100;
const DELETE: u32 = 0x200;
/// Without the events of opens and closes.
const WATCHED: u32 = 0xfc6;

/// The watched objects, by inotify.
struct Watched(OwnedFd);

impl Watched {
    fn begin(w: &Fixture, names: &[&str]) -> Outcome<Watched> {
        let fd = inotify::init(inotify::CreateFlags::NONBLOCK)?;
        for name in names {
            let flags = inotify::WatchFlags::from_bits_retain(WATCHED);
            inotify::add_watch(&fd, w.path(name), flags).at(format!("watching {name}"))?;
        }
        Ok(Watched(fd))
    }

    /// The events since the last call: bits, without those that only describe, and a name.
    fn events(&self) -> Vec<(u32, String)> {
        let mut buffer = [MaybeUninit::uninit(); 16384];
        let mut reader = inotify::Reader::new(&self.0, &mut buffer);
        let mut events = Vec::new();
        while let Ok(event) = reader.next() {
            let name = event.file_name();
            let name = name.map(|name| name.to_string_lossy().into_owned());
            let bits = event.events().bits() & 0xfff;
            if bits != 0 {
                events.push((bits, name.unwrap_or_default()));
            }
        }
        events.sort();
        events
    }
}

fn events(list: &[(u32, &str)]) -> Vec<(u32, String)> {
    let mut events: Vec<_> = list.iter().map(|(b, n)| (*b, n.to_string())).collect();
    events.sort();
    events
}

/// A revert through a descriptor: sends the events of a write through it, to the file and its
/// directory.
fn of_a_file(w: &mut Fixture) -> Outcome {
    w.sh("mkdir d; echo one > d/f; echo two >> d/f; chmod 600 d/f; setfattr -n user.a -v 1 d/f")?;
    let file = w.open("d/f")?;
    let watched = Watched::begin(w, &["d", "d/f"])?;
    undo::revert(&file, 1)?;
    let want = events(&[(ATTRIB, ""), (ATTRIB, "f")]);
    same("an xattr taken back", watched.events(), want.clone())?;
    undo::revert(&file, 1)?;
    same("a mode taken back", watched.events(), want)?;
    undo::revert(&file, 1)?;
    let want = events(&[(MODIFY, ""), (MODIFY, "f")]);
    same("a write taken back", watched.events(), want)?;
    let error = undo::revert(&w.open("d/f")?, 9).err();
    check!(error.is_some(), "nine were taken back");
    same("a refusal", watched.events(), Vec::new())
}

/// A group: once for each object, found by whichever name is in memory, or by none.
fn of_a_group(w: &mut Fixture) -> Outcome {
    w.sh("mkdir d e; for i in 1 2 3; do echo $i > d/$i; done; ln d/3 e/three; echo x > still")?;
    for drop in [false, true] {
        let since = Watch::begin(w)?;
        w.sh("echo more >> d/1; echo more >> d/1; truncate -s 0 d/2; chmod 640 d/2; chmod 711 e; printf z | dd of=d/3 conv=notrunc status=none")?;
        let operations = since.operations(w)?;
        let watched = Watched::begin(w, &["d", "e", "d/1"])?;
        if drop {
            // The watched directories keep their dentries, their entries do not.
            fs::write("/proc/sys/vm/drop_caches", "2")?;
        }
        let answer = take_back(w, &operations, WALK)?;
        let mut got = watched.events();
        // Which of its two names is known, is open.
        got.retain(|(_, name)| !["3", "three"].contains(&name.as_str()));
        let mut want = vec![
            (MODIFY, ""),
            (MODIFY, "1"),
            (MODIFY, "2"),
            (ATTRIB, "2"),
            (ATTRIB, ""),
        ];
        if drop {
            // A lower name without a cached dentry leads to no directory: watches on the file itself get the
            // event.
            got.retain(|(_, name)| name.is_empty());
            want.retain(|(_, name)| name.is_empty());
        }
        same("a group", got, events(&want))?;
        let undos = reverts_since(w, answer.seq)?;
        take_back(w, &undos, REDO)?;
        let mut got = watched.events();
        got.retain(|(_, name)| name.is_empty());
        same("a redo", got, events(&[(MODIFY, ""), (ATTRIB, "")]))?;
        take_back(w, &operations, WALK)?;
    }
    Ok(())
}

/// Names that go, come and move, also those that are in no cache.
fn of_names(w: &mut Fixture) -> Outcome {
    w.sh("mkdir d; echo 1 > d/gone; echo 2 > d/moved; echo 3 > d/linked; mkdir d/sub")?;
    for drop in [false, true] {
        let since = Watch::begin(w)?;
        w.sh("rm d/gone; mv d/moved d/now; rm d/linked; echo new > d/new; ln d/new d/more; mkdir d/made; rmdir d/sub")?;
        let operations = since.operations(w)?;
        let watched = Watched::begin(w, &["d"])?;
        if drop {
            fs::write("/proc/sys/vm/drop_caches", "2")?;
        }
        take_back(w, &operations, WALK)?;
        let mut got = watched.events();
        got.retain(|(bits, _)| bits & (ATTRIB | MODIFY) == 0);
        let want = [
            (CREATE, "gone"),
            (MOVED_FROM, "now"),
            (MOVED_TO, "moved"),
            (CREATE, "linked"),
            (DELETE, "new"),
            (DELETE, "more"),
            (DELETE, "made"),
            (CREATE, "sub"),
        ];
        same("names", got, events(&want))?;
    }
    Ok(())
}

/// fanotify on the mount has an event with a descriptor of the file.
fn of_a_mount(w: &mut Fixture) -> Outcome {
    w.sh("echo one > f; echo one > g")?;
    let since = Watch::begin(w)?;
    w.sh("echo two >> f; echo two >> g")?;
    let operations = since.operations(w)?;
    let mut queue = sys::watch_mount(&w.mnt, libc::FAN_MODIFY).at("fanotify")?;
    take_back(w, &operations, WALK)?;
    let mut names = Vec::new();
    for file in sys::watched_files(&mut queue).at("reading fanotify")? {
        let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        names.push(name.unwrap_or_default());
    }
    names.sort();
    same(
        "files with events",
        names,
        vec!["f".to_owned(), "g".to_owned()],
    )
}
