// SPDX-License-Identifier: GPL-2.0

//! Overwrites at every place of a file, and the result of their reverts: bytes, size, holes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;

use crate::fixture::{put, Fixture};
use crate::harness::Test;
use crate::outcome::{check, fail, same, same_errno, At, Outcome};
use crate::shadow::pattern;

pub const TESTS: &[Test] = &[
    Test::new("overwrite-places", overwrite_places).raw(),
    Test::new("overwrite-hole", overwrite_hole).raw(),
    Test::new("beyond-end", beyond_end).raw(),
    Test::new("until-nodata", until_nodata),
    Test::new("size-zero", size_zero),
    Test::new("too-many", too_many),
    Test::new("times-move", times_move),
    Test::new("holes-stay", holes_stay),
    Test::new("holes-at-end", holes_at_end),
    Test::new("insert-behind-end", insert_behind_end).raw(),
    Test::new("large-file", large_file).raw().seconds(240),
    Test::new("revert-while-open", revert_while_open),
];

/// Page edges, the end, and across the end.
fn overwrite_places(w: &mut Fixture) -> Outcome {
    let start = pattern(2, 20_000);
    let places: [(usize, usize); 10] = [
        (0, 1),
        (1, 4095),
        (4000, 200),
        (4096, 4096),
        (8191, 2),
        (5000, 9000),
        (19_999, 1),
        (19_990, 10),
        (19_990, 500),
        (0, 30_000),
    ];
    for (number, (offset, length)) in places.into_iter().enumerate() {
        let name = format!("f{number}");
        w.make_before(&name, &start)?;
        let before = w.log_or_raw(&name)?;
        let bytes = pattern(100 + number as u64, length);
        put(&w.open(&name)?, offset as u64, &bytes)?;
        let mut want = start.clone();
        want.resize(want.len().max(offset + length), 0);
        want[offset..offset + length].copy_from_slice(&bytes);
        w.same(&format!("{length} bytes at {offset}"), &name, &want)?;
        if w.raw {
            continue;
        }
        let log = w.log(&name)?;
        same(
            "new lines",
            &log[before.len()..],
            &[format!("write {offset} {length}")][..],
        )?;
        w.revert(&name, 1)?;
        w.same(
            &format!("{length} bytes at {offset} reverted"),
            &name,
            &start,
        )?;
    }
    Ok(())
}

fn overwrite_hole(w: &mut Fixture) -> Outcome {
    let file = w.open("f")?;
    put(&file, 0, b"head")?;
    file.set_len(1 << 20)?;
    put(&file, 600_000, &pattern(3, 50_000))?;
    let mut want = vec![0; 1 << 20];
    want[..4].copy_from_slice(b"head");
    want[600_000..650_000].copy_from_slice(&pattern(3, 50_000));
    w.same("written into the hole", "f", &want)?;
    put(&file, 590_000, &pattern(4, 100_000))?;
    w.undo_from_here()?;
    w.revert("f", 1)?;
    w.same("half data, half hole", "f", &want)?;
    w.revert("f", 1)?;
    want[600_000..650_000].fill(0);
    w.same("hole again", "f", &want)?;
    w.revert("f", 1)?;
    w.same("not yet grown", "f", b"head")
}

fn beyond_end(w: &mut Fixture) -> Outcome {
    let file = w.open("f")?;
    put(&file, 0, b"head")?;
    put(&file, 1_000_000, b"far away")?;
    let mut want = vec![0; 1_000_008];
    want[..4].copy_from_slice(b"head");
    want[1_000_000..].copy_from_slice(b"far away");
    w.same("written", "f", &want)?;
    w.undo_from_here()?;
    w.same_log("written", "f", &["write 0 4", "write 1000000 8"])?;
    w.revert("f", 1)?;
    w.same("reverted", "f", b"head")
}

fn until_nodata(w: &mut Fixture) -> Outcome {
    let file = w.open("f")?;
    for number in 0..5u64 {
        put(&file, number * 3, b"abc")?;
    }
    for left in (0..5usize).rev() {
        w.revert("f", 1)?;
        w.same("reverted", "f", &b"abcabcabcabcabc"[..left * 3])?;
        same("lines", w.log("f")?.len(), left)?;
    }
    same_errno("one too many", w.try_revert("f", 1), Errno::NODATA)?;
    w.same("still empty", "f", b"")?;
    put(&file, 0, b"new life")?;
    w.revert("f", 1)?;
    w.same("goes on after that", "f", b"")?;
    same_errno("and ends again", w.try_revert("f", 1), Errno::NODATA)
}

fn size_zero(w: &mut Fixture) -> Outcome {
    fs::File::create(w.path("f"))?;
    same_errno("no operation yet", w.try_revert("f", 1), Errno::NODATA)?;
    let file = w.open("f")?;
    same("an empty write", rustix::io::pwrite(&file, b"", 0)?, 0)?;
    w.same_log("an empty write", "f", &[])?;
    put(&file, 0, b"x")?;
    file.set_len(0)?;
    w.same("cut", "f", b"")?;
    w.same_log("cut", "f", &["write 0 1", "truncate 0 1"])?;
    w.revert("f", 1)?;
    w.same("one byte", "f", b"x")?;
    w.revert("f", 1)?;
    w.same("none", "f", b"")
}

/// A count greater than the number of live operations changes nothing.
fn too_many(w: &mut Fixture) -> Outcome {
    w.sh("for n in 1 2 3; do echo $n >> f; done")?;
    let stat = fs::metadata(w.path("f"))?;
    same_errno("4 of 3", w.try_revert("f", 4), Errno::NODATA)?;
    w.same("nothing changed", "f", b"1\n2\n3\n")?;
    let after = fs::metadata(w.path("f"))?;
    let times = |stat: &fs::Metadata| (stat.mtime(), stat.mtime_nsec(), stat.ctime_nsec());
    same("times", times(&after), times(&stat))?;
    w.same_log(
        "nothing changed",
        "f",
        &["write 0 2", "write 2 2", "write 4 2"],
    )?;
    w.revert("f", 3)?;
    w.same("3 of 3", "f", b"")
}

fn times_move(w: &mut Fixture) -> Outcome {
    w.sh("echo one > f; chmod 640 f; echo two >> f")?;
    let before = fs::metadata(w.path("f"))?;
    std::thread::sleep(Duration::from_millis(50));
    w.revert("f", 1)?;
    let after = fs::metadata(w.path("f"))?;
    let stamp = |sec: i64, nsec: i64| sec as i128 * 1_000_000_000 + nsec as i128;
    let mtime = |stat: &fs::Metadata| stamp(stat.mtime(), stat.mtime_nsec());
    let ctime = |stat: &fs::Metadata| stamp(stat.ctime(), stat.ctime_nsec());
    check!(mtime(&after) > mtime(&before), "mtime did not move");
    check!(ctime(&after) > ctime(&before), "ctime did not move");
    same("inode", after.ino(), before.ino())?;
    same("mode", after.mode(), before.mode())?;
    same("links", after.nlink(), before.nlink())
}

/// A hole is a hole again, not zeroes on the disk.
fn holes_stay(w: &mut Fixture) -> Outcome {
    let file = w.open("f")?;
    put(&file, 0, &[1; 4096])?;
    file.set_len(8 << 20)?;
    put(&file, (4 << 20) as u64, &[2; 65536])?;
    file.sync_all()?;
    let before = fs::metadata(w.path("f"))?.blocks();
    let holes = segments(&file)?;
    put(&file, 0, &pattern(5, 8 << 20))?;
    file.sync_all()?;
    check!(
        fs::metadata(w.path("f"))?.blocks() > before,
        "the file did not grow"
    );
    w.revert("f", 1)?;
    file.sync_all()?;
    let mut want = vec![0; 8 << 20];
    want[..4096].fill(1);
    want[4 << 20..(4 << 20) + 65536].fill(2);
    w.same("reverted", "f", &want)?;
    same("data and holes", segments(&file)?, holes.clone())?;
    let after = fs::metadata(w.path("f"))?.blocks();
    check!(
        after <= before + 64,
        "{after} blocks where there were {before}"
    );
    file.set_len(1 << 20)?;
    w.revert("f", 1)?;
    w.same("cut and reverted", "f", &want)?;
    same("data and holes after a cut", segments(&file)?, holes)
}

/// A hole that ends within a block: after a revert, that block is not allocated either.
fn holes_at_end(w: &mut Fixture) -> Outcome {
    let file = w.open("f")?;
    put(&file, 0, &[1; 4096])?;
    file.set_len(10_000)?;
    file.sync_all()?;
    let holes = segments(&file)?;
    w.undo_from_here()?;
    put(&file, 100, &pattern(6, 30_000))?;
    let mut want = vec![0; 10_000];
    want[..4096].fill(1);
    w.revert("f", 1)?;
    file.sync_all()?;
    w.same("a longer one reverted", "f", &want)?;
    same("data and holes", segments(&file)?, holes.clone())?;
    file.set_len(5000)?;
    put(&file, 4096, &[3; 904])?;
    w.revert("f", 2)?;
    file.sync_all()?;
    w.same("a shorter one reverted", "f", &want)?;
    same("data and holes, grown again", segments(&file)?, holes)
}

/// Operations that the filesystem refuses, even after touching the file, cause no conflict.
fn insert_behind_end(w: &mut Fixture) -> Outcome {
    let file = w.open("f")?;
    put(&file, 0, b"first")?;
    let modes = [FallocateFlags::INSERT_RANGE, FallocateFlags::COLLAPSE_RANGE];
    for mode in modes {
        for at in [0, 8192] {
            // Whole blocks at the beginning can be inserted.
            let is_possible = mode == FallocateFlags::INSERT_RANGE && at == 0;
            if !is_possible && rustix::fs::fallocate(&file, mode, at, 8192).is_ok() {
                fail!("{mode:?} at {at} of five bytes");
            }
        }
    }
    put(&file, 5, b" second")?;
    w.undo_from_here()?;
    drop(file);
    let count = w.log("f")?.len();
    w.revert("f", count - 1)?;
    w.same("all but the first write", "f", b"first")?;
    w.revert("f", 1)?;
    w.same("that, too", "f", b"")
}

/// The data ranges of a file.
fn segments(file: &fs::File) -> Outcome<Vec<(u64, u64)>> {
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => {
                at = rustix::fs::seek(file, SeekFrom::Hole(start)).at("SEEK_HOLE")?;
                found.push((start, at));
            }
            Err(Errno::NXIO) => return Ok(found),
            Err(error) => Err(error).at("SEEK_DATA")?,
        }
    }
}

/// 100 MB in pieces of 1 MiB.
fn large_file(w: &mut Fixture) -> Outcome {
    let pieces: usize = w.times(100, 12);
    let size = 1 << 20;
    w.unmount()?;
    w.mount_with("history_max=400M")?;
    let file = w.open("f")?;
    for piece in 0..pieces {
        put(&file, (piece * size) as u64, &pattern(piece as u64, size))?;
    }
    for piece in 0..pieces {
        put(
            &file,
            (piece * size) as u64,
            &pattern(1000 + piece as u64, size),
        )?;
    }
    let agree = |from: usize, whose: u64| -> Outcome {
        for piece in from..pieces {
            let mut got = vec![0; size];
            std::os::unix::fs::FileExt::read_exact_at(&file, &mut got, (piece * size) as u64)?;
            let want = pattern(whose + piece as u64, size);
            crate::outcome::same_bytes(format!("piece {piece}"), &got, &want)?;
        }
        Ok(())
    };
    agree(0, 1000)?;
    w.undo_from_here()?;
    same("lines", w.log("f")?.len(), 2 * pieces)?;
    w.revert("f", 1)?;
    agree(pieces - 1, 0)?;
    let many = pieces * 2 / 5;
    w.revert("f", many)?;
    agree(pieces - many - 1, 0)?;
    w.revert("f", pieces - many - 1)?;
    agree(0, 0)?;
    same(
        "size",
        fs::metadata(w.path("f"))?.len(),
        (pieces * size) as u64,
    )
}

/// Readers with the file open see the same as after a write of the same bytes.
fn revert_while_open(w: &mut Fixture) -> Outcome {
    w.sh("echo first line > f; echo second line >> f")?;
    let reader = fs::File::open(w.path("f"))?;
    let mut bytes = [0; 64];
    let length = rustix::io::pread(&reader, &mut bytes, 0)?;
    same(
        "before",
        &bytes[..length],
        &b"first line\nsecond line\n"[..],
    )?;
    w.revert("f", 1)?;
    let length = rustix::io::pread(&reader, &mut bytes, 0)?;
    same("after", &bytes[..length], &b"first line\n"[..])?;
    same("its size", reader.metadata()?.len(), 11)
}
