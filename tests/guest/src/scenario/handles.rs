// SPDX-License-Identifier: GPL-2.0

//! File handles: name_to_handle_at(2) and open_by_handle_at(2).

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::fixture::Fixture;
use crate::harness::Test;
use crate::mounts::Lower;
use crate::outcome::{check, same, At, Outcome};
use crate::sys::{self, Handle};
use crate::undo;

const BELOW: &[Lower] = &[Lower::Tmpfs, Lower::Ext4, Lower::Xfs, Lower::Btrfs];

pub const TESTS: &[Test] = &[
    Test::new("handles-open", open).only(BELOW),
    Test::new("handles-confined", confined).only(BELOW),
];

fn handle(path: &Path) -> Outcome<Handle> {
    let name = CString::new(path.as_os_str().as_bytes()).map_err(std::io::Error::from)?;
    sys::name_to_handle(&name, 0).at(path.display())
}

/// Opens a handle on the mount; the errno where that is refused.
fn by_handle(mount: &Path, handle: &Handle, flags: i32) -> Outcome<Result<File, i32>> {
    let place = File::open(mount)?;
    let opened = sys::open_by_handle(&place, handle, flags);
    let opened = opened.map_err(|error| error.raw_os_error().unwrap_or(0));
    Ok(opened.map(|fd: OwnedFd| File::from(fd)))
}

fn forget_caches() -> Outcome {
    Ok(fs::write("/proc/sys/vm/drop_caches", "3")?)
}

fn content(opened: Result<File, i32>) -> Outcome<Result<Vec<u8>, i32>> {
    match opened {
        Ok(mut file) => {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(Ok(bytes))
        }
        Err(errno) => Ok(Err(errno)),
    }
}

fn open(w: &mut Fixture) -> Outcome {
    fs::create_dir_all(w.path("d/e"))?;
    fs::write(w.path("d/e/f"), "deep")?;
    fs::write(w.path("f"), "at the root")?;
    fs::hard_link(w.path("f"), w.path("d/second"))?;
    let deep = handle(&w.path("d/e/f"))?;
    let top = handle(&w.path("f"))?;
    let dir = handle(&w.path("d/e"))?;
    let root = handle(&w.mnt)?;
    let cold_is_possible = w.lower != Lower::Tmpfs;
    for round in 0..3 {
        match round {
            1 if cold_is_possible => forget_caches()?,
            2 => w.remount()?,
            _ => {}
        }
        let seen = content(by_handle(&w.mnt, &deep, libc::O_RDONLY)?)?;
        same(
            format!("deep, {round}").as_str(),
            seen,
            Ok(b"deep".to_vec()),
        )?;
        let seen = content(by_handle(&w.mnt, &top, libc::O_RDONLY)?)?;
        same(
            format!("top, {round}").as_str(),
            seen,
            Ok(b"at the root".to_vec()),
        )?;
        for (what, handle) in [("dir", &dir), ("root", &root)] {
            let opened = by_handle(&w.mnt, handle, libc::O_RDONLY | libc::O_DIRECTORY)?;
            check!(opened.is_ok(), "{what}, {round}: {opened:?}");
        }
    }
    // A write by a handle is an operation like another.
    let opened = by_handle(&w.mnt, &deep, libc::O_RDWR | libc::O_TRUNC)?;
    let Ok(mut file) = opened else {
        crate::outcome::fail!("to write: {opened:?}");
    };
    file.write_all(b"written by handle")?;
    drop(file);
    same(
        "written",
        fs::read(w.path("d/e/f"))?,
        b"written by handle".to_vec(),
    )?;
    w.revert("d/e/f", 2)?;
    same("taken back", fs::read(w.path("d/e/f"))?, b"deep".to_vec())?;
    // A removed file is gone, and is there again when the removal is taken back.
    fs::remove_file(w.path("d/e/f"))?;
    let gone = by_handle(&w.mnt, &deep, libc::O_RDONLY)?.err();
    same("removed", gone, Some(libc::ESTALE))?;
    undo::revert(&File::open(w.path("d/e"))?, 1)?;
    let seen = content(by_handle(&w.mnt, &deep, libc::O_RDONLY)?)?;
    same("there again", seen, Ok(b"deep".to_vec()))
}

/// Handles of the lower filesystem into the history, and beside the source, open nothing.
fn confined(w: &mut Fixture) -> Outcome {
    fs::write(w.path("f"), "content")?;
    File::open(w.path("f"))?.sync_all()?;
    let secret = w.beside()?.join("secret");
    fs::write(&secret, "beside the source")?;
    fs::write(w.path("gone"), "kept")?;
    let kept = handle(&w.below("gone")?)?;
    fs::remove_file(w.path("gone"))?;
    let mut handles = vec![("kept", kept), ("beside", handle(&secret)?)];
    handles.push(("base", handle(&w.base)?));
    let history = w.below(".loggerfs")?;
    handles.push(("the history", handle(&history)?));
    handles.push(("format", handle(&history.join("format"))?));
    for entry in fs::read_dir(history.join("log"))? {
        handles.push(("a log", handle(&entry?.path())?));
    }
    for cold in [false, true] {
        for (what, handle) in &handles {
            for flags in [libc::O_RDONLY, libc::O_RDWR, libc::O_PATH] {
                let opened = by_handle(&w.mnt, handle, flags)?;
                check!(
                    opened.is_err(),
                    "{what} was opened, cold: {cold}, flags {flags:#x}"
                );
            }
        }
        forget_caches()?;
    }
    // Nonsense is refused.
    for kind in [0u32, 1, 2, 0x81, 0xfe, 0xff] {
        let mut nonsense = 24u32.to_ne_bytes().to_vec();
        nonsense.extend(kind.to_ne_bytes());
        nonsense.extend([0xa5; 24]);
        let opened = by_handle(&w.mnt, &nonsense, libc::O_RDONLY)?;
        check!(opened.is_err(), "nonsense of type {kind:#x} was opened");
    }
    Ok(())
}
