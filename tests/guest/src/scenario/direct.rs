// SPDX-License-Identifier: GPL-2.0

//! O_DIRECT: supported where the lower filesystem supports it, and refused as there otherwise, also
//! for files that were opened without the flag.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{self as rfs, Mode, OFlags};

use crate::fixture::Fixture;
use crate::harness::Test;
use crate::mounts::{self, Refusal};
use crate::outcome::{fail, same, At, Outcome, Stop};
use crate::sys::{self, Map, Ring};

pub const TESTS: &[Test] = &[
    Test::new("direct-where-below", where_below),
    Test::new("direct-nowhere", nowhere).unmounted(),
];

/// The results of direct I/O on the files of a directory.
fn answers(place: &Path) -> Outcome<Vec<String>> {
    let mut said = Vec::new();
    let path = place.join("direct");
    fs::write(&path, [1; 8192])?;
    let mut say = |what: &str, result: io::Result<usize>| {
        let answer = match result {
            Ok(n) => n.to_string(),
            Err(error) => error.to_string(),
        };
        said.push(format!("{what}: {answer}"));
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    let opened = options.clone().custom_flags(libc::O_DIRECT).open(&path);
    say("open", opened.map(|_| 0));
    let mode = Mode::RUSR | Mode::WUSR;
    let flags = OFlags::TMPFILE | OFlags::RDWR;
    let unnamed = rfs::open(place, flags | OFlags::DIRECT, mode);
    say("open unnamed", unnamed.map(|_| 0).map_err(io::Error::from));
    for (what, file) in [
        ("file", options.open(&path)?),
        ("unnamed", File::from(rfs::open(place, flags, mode)?)),
    ] {
        file.set_len(8192)?;
        let set = sys::fcntl_number(&file, libc::F_SETFL, libc::O_DIRECT);
        say(&format!("{what}: fcntl"), set.map(|_| 0));
        let flags = sys::fcntl_number(&file, libc::F_GETFL, 0)? & libc::O_DIRECT;
        say(&format!("{what}: flag"), Ok(flags as usize));
        let mut room = Map::anonymous(4096)?;
        say(&format!("{what}: read"), file.read_at(room.bytes(), 0));
        say(&format!("{what}: write"), file.write_at(room.bytes(), 4096));
        let mut parts = [io::IoSliceMut::new(room.bytes())];
        let n = rustix::io::preadv2(&file, &mut parts, 0, rustix::io::ReadWriteFlags::HIPRI);
        say(&format!("{what}: preadv2"), n.map_err(io::Error::from));
        say(
            &format!("{what}: aio"),
            sys::aio_write(&file, room.bytes(), 0),
        );
        say(
            &format!("{what}: ring"),
            Ring::new()?.write(&file, room.bytes(), 0, 0),
        );
    }
    Ok(said)
}

fn where_below(w: &mut Fixture) -> Outcome {
    let raw = answers(&w.beside()?)?;
    let through = answers(&w.mnt)?;
    same("direct I/O", through, raw)?;
    w.revert("direct", 1)
}

/// ramfs has no direct I/O: it is refused, and no missing operation is called.
fn nowhere(w: &mut Fixture) -> Outcome {
    let (src, raw) = (w.base.join("ramfs"), w.base.join("ramfs/raw"));
    fs::create_dir(&src)?;
    let at = src.display().to_string();
    mounts::run(&["mount", "-t", "ramfs", "ramfs", &at])?;
    fs::create_dir(&raw)?;
    let result = over_ramfs(w, &at, &raw);
    mounts::run(&["umount", &at])?;
    result
}

fn over_ramfs(w: &Fixture, source: &str, raw: &Path) -> Outcome {
    let place = w.base.join("over");
    fs::create_dir(&place)?;
    match mounts::mount(source, &place, "history=off") {
        Ok(()) => {}
        Err(Refusal { error, .. }) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            return Err(Stop::Skip("ramfs is not stacked on".into()));
        }
        Err(Refusal { error, said }) => fail!("mounting over ramfs: {error} {said:?}"),
    }
    let want = answers(raw).at("raw");
    let got = answers(&place).at("through the mount");
    mounts::unmount(&place)?;
    let want = want?;
    same("direct I/O", got?, want.clone())?;
    same(
        "it is refused",
        want[0].as_str(),
        "open: Invalid argument (os error 22)",
    )
}
