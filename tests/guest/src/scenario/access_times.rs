// SPDX-License-Identifier: GPL-2.0

//! Access times: the flags of the mount and of the open decide, and reads by LoggerFS itself do not
//! count.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use rustix::mount::{mount_remount, MountFlags};
use rustix::pipe::SpliceFlags;

use crate::fixture::{put, Fixture};
use crate::harness::Test;
use crate::mounts::Lower;
use crate::outcome::{check, same, At, Outcome};
use crate::sys::Map;

pub const TESTS: &[Test] = &[Test::new("access-times", access_times).only(&[Lower::Ext4])];

/// Sets both times of a file or directory to long ago, the access before the change.
fn age(path: &Path) -> Outcome {
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let times = fs::FileTimes::new()
        .set_accessed(long_ago)
        .set_modified(long_ago + Duration::from_secs(1000));
    File::open(path)?.set_times(times).at("setting times")
}

/// Whether the access time moved, the same through the mount and below it.
fn has_moved(w: &Fixture, name: &str, read: impl FnOnce() -> Outcome) -> Outcome<bool> {
    let time = |path: &Path| -> Outcome<(i64, i64)> {
        let stat = fs::symlink_metadata(path)?;
        Ok((stat.atime(), stat.atime_nsec()))
    };
    let before = time(&w.path(name))?;
    sleep(Duration::from_millis(20));
    read()?;
    let after = time(&w.path(name))?;
    if w.src.is_some() {
        same(format!("{name} from below"), time(&w.below(name)?)?, after)?;
    }
    Ok(after != before)
}

type ReadFn<'a> = Box<dyn Fn() -> Outcome + 'a>;

/// Ways of reading a file.
fn ways(w: &Fixture) -> Vec<(&'static str, ReadFn<'_>)> {
    vec![
        (
            "read",
            Box::new(|| {
                Ok(File::open(w.path("f"))?
                    .read_to_end(&mut Vec::new())
                    .map(drop)?)
            }),
        ),
        (
            "sendfile",
            Box::new(|| {
                let from = File::open(w.path("f"))?;
                let (_end, to) = rustix::pipe::pipe()?;
                let n = rustix::pipe::splice(&from, None, &to, None, 100, SpliceFlags::empty())?;
                check!(n == 100, "only {n} bytes");
                Ok(())
            }),
        ),
        (
            "mmap",
            Box::new(|| Ok(Map::of(&File::open(w.path("f"))?, 4096, false, false).map(drop)?)),
        ),
    ]
}

fn access_times(w: &mut Fixture) -> Outcome {
    w.make("f", &[7; 10_000])?;
    fs::create_dir_all(w.path("d/in"))?;
    let flags = |flags| mount_remount(&w.mnt, MountFlags::BIND | flags, c"").at("remounting");
    let file = w.open("f")?;
    flags(MountFlags::RELATIME)?;
    for (what, read) in ways(w) {
        age(&w.path("f"))?;
        check!(has_moved(w, "f", &read)?, "relatime: {what} is no access");
        check!(
            !has_moved(w, "f", &read)?,
            "relatime: {what}, and once more"
        );
    }
    age(&w.path("f"))?;
    let quiet = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOATIME)
        .open(w.path("f"))?;
    let moved = has_moved(w, "f", || Ok(quiet.read_exact_at(&mut [0; 100], 0)?))?;
    check!(!moved, "O_NOATIME is an access");
    let moved = has_moved(w, "f", || put(&file, 0, b"over old bytes"))?;
    check!(!moved, "what a write saves is an access");
    age(&w.path("f"))?;
    let moved = has_moved(w, "f", || Ok(file.set_len(5000)?))?;
    check!(!moved, "what a truncation saves is an access");
    let list = || {
        fs::read_dir(w.path("d"))?.for_each(drop);
        Ok(())
    };
    age(&w.path("d"))?;
    check!(has_moved(w, "d", list)?, "relatime: a directory");
    age(&w.path("d"))?;
    age(&w.path("f"))?;
    flags(MountFlags::NOATIME)?;
    for (what, read) in ways(w) {
        check!(!has_moved(w, "f", &read)?, "noatime: {what} is an access");
    }
    check!(!has_moved(w, "d", list)?, "noatime: a directory");
    flags(MountFlags::RELATIME | MountFlags::NODIRATIME)?;
    check!(!has_moved(w, "d", list)?, "nodiratime: a directory");
    check!(has_moved(w, "f", &ways(w)[0].1)?, "nodiratime: a file");
    flags(MountFlags::STRICTATIME)?;
    for (what, read) in ways(w) {
        for _ in 0..2 {
            check!(
                has_moved(w, "f", &read)?,
                "strictatime: {what} is no access"
            );
        }
    }
    Ok(())
}
