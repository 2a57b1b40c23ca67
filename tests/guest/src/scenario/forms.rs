// SPDX-License-Identifier: GPL-2.0

//! Every form of write: each is recorded exactly, and each is taken back.

use std::fs::{File, OpenOptions};
use std::io::{IoSlice, Write};
use std::os::unix::fs::OpenOptionsExt;

use rustix::io::ReadWriteFlags;
use rustix::pipe::SpliceFlags;

use crate::fixture::Fixture;
use crate::harness::Test;
use crate::outcome::{check, same, At, Outcome};
use crate::shadow::pattern;
use crate::sys::{aio_write, Map, Ring};
use crate::undo::{self, Line};

pub const TESTS: &[Test] = &[
    Test::new("form-buffered", |w| {
        form(w, FormPlace::At(777), 5000, plain)
    })
    .raw(),
    Test::new("form-one-byte-writes", |w| {
        form(w, FormPlace::At(0), w.times(300, 60), one_byte_writes)
    })
    .raw(),
    Test::new("form-append", |w| form(w, FormPlace::End, 3000, append)).raw(),
    Test::new("form-sync", |w| {
        form(w, FormPlace::At(4000), 5000, synchronous)
    })
    .raw(),
    Test::new("form-dsync", |w| {
        form(w, FormPlace::At(4000), 5000, data_synchronous)
    })
    .raw(),
    Test::new("form-direct", |w| {
        form(w, FormPlace::At(4096), 8192, direct)
    })
    .raw(),
    Test::new("form-direct-append", |w| {
        form(w, FormPlace::At(20480), 4096, direct)
    })
    .raw(),
    Test::new("form-writev", |w| {
        form(w, FormPlace::At(1000), 9000, vectors)
    })
    .raw(),
    Test::new("form-pwritev", |w| {
        form(w, FormPlace::At(1000), 9000, vectors_at)
    })
    .raw(),
    Test::new("form-rwf-append", |w| {
        form(w, FormPlace::End, 700, flag_append)
    })
    .raw(),
    Test::new("form-rwf-sync", |w| {
        form(w, FormPlace::At(10), 4096, flag_sync)
    })
    .raw(),
    Test::new("form-splice", |w| {
        form(w, FormPlace::At(300), 40_000, splice)
    })
    .raw(),
    Test::new("form-sendfile", |w| {
        form(w, FormPlace::At(50), 300_000, sendfile)
    })
    .raw(),
    Test::new("form-io-uring", |w| {
        form(w, FormPlace::At(5), 6000, io_uring)
    })
    .raw(),
    Test::new("form-io-uring-direct", |w| {
        form(w, FormPlace::At(0), 4096, io_uring_direct)
    })
    .raw(),
    Test::new("form-aio", |w| form(w, FormPlace::At(5), 6000, aio)).raw(),
    Test::new("form-aio-direct", |w| {
        form(w, FormPlace::At(8192), 8192, aio_direct)
    })
    .raw(),
    Test::new("direct-over-what-is-not-cached", direct_not_cached).raw(),
    Test::new("write-only-over-what-is-not-cached", write_only_not_cached),
];

/// Where a form writes.
enum FormPlace {
    At(usize),
    End,
}

/// A form of write: gets the path of the file, the offset and the bytes.
type Form = fn(&Fixture, u64, &[u8]) -> Outcome;

const SIZE: usize = 20_480;

fn form(w: &mut Fixture, place: FormPlace, length: usize, write: Form) -> Outcome {
    let start = pattern(11, SIZE);
    w.make("f", &start)?;
    let offset = match place {
        FormPlace::At(offset) => offset,
        FormPlace::End => SIZE,
    };
    let before = w.log_or_raw("f")?.len();
    let bytes = pattern(12, length);
    write(w, offset as u64, &bytes)?;
    let mut want = start.clone();
    want.resize(want.len().max(offset + length), 0);
    want[offset..offset + length].copy_from_slice(&bytes);
    w.same("written", "f", &want)?;
    w.undo_from_here()?;
    let lines = undo::lines(&w.open("f")?, false)?;
    let new = &lines[before..];
    covers(new, offset as u64, length as u64)?;
    for undone in 1..=new.len() {
        let keep = new[new.len() - undone].offset as usize - offset;
        w.revert("f", 1)?;
        let mut state = start.clone();
        state.resize(state.len().max(if keep > 0 { offset + keep } else { 0 }), 0);
        state[offset..offset + keep].copy_from_slice(&bytes[..keep]);
        w.same(
            &format!("{undone} of {} lines reverted", new.len()),
            "f",
            &state,
        )?;
    }
    same("lines left", w.log("f")?.len(), before)?;
    w.remount_if_lasting()?;
    w.same("after a mount", "f", &start)
}

/// The lines are contiguous writes from `offset` for `length` bytes, each with the earlier size of
/// the file.
fn covers(lines: &[Line], offset: u64, length: u64) -> Outcome {
    let mut at = offset;
    for line in lines {
        check!(line.op == "write", "not a write: {}", line.text);
        check!(line.offset == at, "does not begin at {at}: {}", line.text);
        check!(line.key("undo") != Some("lost"), "lost: {}", line.text);
        let size = (SIZE as u64).max(if at > offset { at } else { 0 });
        check!(
            line.number("size")? == size,
            "size= is not {size}: {}",
            line.text
        );
        at += line.length;
    }
    check!(
        at == offset + length,
        "the log has {} bytes of {length} in {} lines",
        at - offset,
        lines.len()
    );
    Ok(())
}

fn open(w: &Fixture, flags: i32) -> Outcome<File> {
    OpenOptions::new()
        .write(true)
        .custom_flags(flags)
        .open(w.path("f"))
        .at("opening")
}

fn whole(written: usize, bytes: &[u8]) -> Outcome {
    same("bytes written", written, bytes.len())
}

fn plain(w: &Fixture, offset: u64, bytes: &[u8]) -> Outcome {
    whole(rustix::io::pwrite(open(w, 0)?, bytes, offset)?, bytes)
}

fn one_byte_writes(w: &Fixture, offset: u64, bytes: &[u8]) -> Outcome {
    let mut file = open(w, 0)?;
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(offset))?;
    for byte in bytes {
        whole(file.write(&[*byte])?, &[*byte])?;
    }
    Ok(())
}

fn append(w: &Fixture, _: u64, bytes: &[u8]) -> Outcome {
    let mut file = open(w, libc::O_APPEND)?;
    whole(file.write(bytes)?, bytes)
}

fn synchronous(w: &Fixture, offset: u64, bytes: &[u8]) -> Outcome {
    whole(
        rustix::io::pwrite(open(w, libc::O_SYNC)?, bytes, offset)?,
        bytes,
    )
}

fn data_synchronous(w: &Fixture, offset: u64, bytes: &[u8]) -> Outcome {
    whole(
        rustix::io::pwrite(open(w, libc::O_DSYNC)?, bytes, offset)?,
        bytes,
    )
}

fn aligned(bytes: &[u8]) -> Outcome<Map> {
    let mut memory = Map::anonymous(bytes.len())?;
    memory.store(0, bytes);
    Ok(memory)
}

fn direct(w: &Fixture, offset: u64, bytes: &[u8]) -> Outcome {
    let mut memory = aligned(bytes)?;
    let file = open(w, libc::O_DIRECT)?;
    whole(rustix::io::pwrite(file, memory.bytes(), offset)?, bytes)
}

/// Data outside the page cache is saved and restored through it, at any alignment.
fn direct_not_cached(w: &mut Fixture) -> Outcome {
    let start = pattern(13, 5001);
    w.make("f", &start)?;
    rustix::fs::syncfs(open(w, 0)?)?;
    std::fs::write("/proc/sys/vm/drop_caches", "3")?;
    let bytes = pattern(14, 8192);
    let mut memory = aligned(&bytes)?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_DIRECT);
    let file = options.open(w.path("f"))?;
    whole(rustix::io::pwrite(&file, memory.bytes(), 0)?, &bytes)?;
    w.same("written", "f", &bytes)?;
    w.undo_from_here()?;
    undo::revert(&file, 1).at("reverting through the same descriptor")?;
    w.same("reverted", "f", &start)
}

/// Who may not read the file itself has its old bytes saved all the same.
fn write_only_not_cached(w: &mut Fixture) -> Outcome {
    let start = pattern(13, SIZE);
    w.make("f", &start)?;
    for (number, open_flags) in [0, libc::O_DIRECT].into_iter().enumerate() {
        rustix::fs::syncfs(open(w, 0)?)?;
        std::fs::write("/proc/sys/vm/drop_caches", "3")?;
        let bytes = pattern(14, 8192);
        let mut memory = aligned(&bytes)?;
        whole(
            rustix::io::pwrite(open(w, open_flags)?, memory.bytes(), 4096)?,
            &bytes,
        )?;
        let lines = undo::lines(&w.open("f")?, false)?;
        covers(&lines[1..], 4096, 8192).at(format!("write {number}"))?;
        w.revert("f", 1)?;
        w.same("reverted", "f", &start)?;
    }
    Ok(())
}

fn pieces(bytes: &[u8]) -> [IoSlice<'_>; 4] {
    let (first, rest) = bytes.split_at(1);
    let (second, rest) = rest.split_at(4096);
    let (third, fourth) = rest.split_at(100);
    [first, second, third, fourth].map(IoSlice::new)
}

fn vectors(w: &Fixture, offset: u64, bytes: &[u8]) -> Outcome {
    let file = open(w, 0)?;
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(offset))?;
    whole(rustix::io::writev(file, &pieces(bytes))?, bytes)
}

fn vectors_at(w: &Fixture, offset: u64, bytes: &[u8]) -> Outcome {
    whole(
        rustix::io::pwritev(open(w, 0)?, &pieces(bytes), offset)?,
        bytes,
    )
}

fn flag_append(w: &Fixture, _: u64, bytes: &[u8]) -> Outcome {
    let slices = [IoSlice::new(bytes)];
    let written = rustix::io::pwritev2(open(w, 0)?, &slices, 5, ReadWriteFlags::APPEND)?;
    whole(written, bytes)
}

fn flag_sync(w: &Fixture, offset: u64, bytes: &[u8]) -> Outcome {
    let slices = [IoSlice::new(bytes)];
    let written = rustix::io::pwritev2(open(w, 0)?, &slices, offset, ReadWriteFlags::DSYNC)?;
    whole(written, bytes)
}

fn splice(w: &Fixture, offset: u64, bytes: &[u8]) -> Outcome {
    let (read_end, write_end) = rustix::pipe::pipe()?;
    let mut write_end = File::from(write_end);
    write_end.write_all(bytes)?;
    let file = open(w, 0)?;
    let (mut at, end) = (offset, offset + bytes.len() as u64);
    while at < end {
        let left = (end - at) as usize;
        let moved = rustix::pipe::splice(
            &read_end,
            None,
            &file,
            Some(&mut at),
            left,
            SpliceFlags::empty(),
        )?;
        check!(moved > 0, "splice moves nothing with {left} bytes left");
    }
    Ok(())
}

fn sendfile(w: &Fixture, offset: u64, bytes: &[u8]) -> Outcome {
    std::fs::write("/run/lfs-tests-sent", bytes)?;
    let from = File::open("/run/lfs-tests-sent")?;
    let file = open(w, 0)?;
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(offset))?;
    let mut left = bytes.len();
    while left > 0 {
        let moved = rustix::fs::sendfile(&file, &from, None, left)?;
        check!(moved > 0, "sendfile moves nothing with {left} bytes left");
        left -= moved;
    }
    Ok(())
}

fn io_uring(w: &Fixture, offset: u64, bytes: &[u8]) -> Outcome {
    let file = open(w, 0)?;
    let mut ring = Ring::new().at("io_uring_setup")?;
    whole(ring.write(&file, bytes, offset, 0)?, bytes)
}

fn io_uring_direct(w: &Fixture, offset: u64, bytes: &[u8]) -> Outcome {
    let mut memory = aligned(bytes)?;
    let file = open(w, libc::O_DIRECT)?;
    let mut ring = Ring::new().at("io_uring_setup")?;
    whole(ring.write(&file, memory.bytes(), offset, 0)?, bytes)
}

fn aio(w: &Fixture, offset: u64, bytes: &[u8]) -> Outcome {
    let file = open(w, 0)?;
    whole(aio_write(&file, bytes, offset as i64)?, bytes)
}

fn aio_direct(w: &Fixture, offset: u64, bytes: &[u8]) -> Outcome {
    let mut memory = aligned(bytes)?;
    let file = open(w, libc::O_DIRECT)?;
    whole(aio_write(&file, memory.bytes(), offset as i64)?, bytes)
}
