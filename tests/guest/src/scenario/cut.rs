// SPDX-License-Identifier: GPL-2.0

//! Every way to change a file's size.

use std::fs::OpenOptions;

use crate::fixture::{put, Fixture};
use crate::harness::Test;
use crate::outcome::Outcome;
use crate::shadow::pattern;

pub const TESTS: &[Test] = &[
    Test::new("open-truncating", open_truncating).raw(),
    Test::new("truncate-shrink", truncate_shrink).raw(),
    Test::new("truncate-grow", truncate_grow).raw(),
    Test::new("truncate-path-and-descriptor", truncate_path_and_descriptor).raw(),
    Test::new("truncate-inside-page", truncate_inside_page).raw(),
    Test::new("fallocate-extends", fallocate_extends).raw(),
];

fn open_truncating(w: &mut Fixture) -> Outcome {
    let old = pattern(6, 10_000);
    w.make("f", &old)?;
    w.sh("echo new > f")?;
    w.same("written", "f", b"new\n")?;
    w.undo_from_here()?;
    w.same_log(
        "written",
        "f",
        &["write 0 10000", "truncate 0 10000", "write 0 4"],
    )?;
    w.revert("f", 1)?;
    w.same("the write reverted", "f", b"")?;
    w.revert("f", 1)?;
    w.same("the cut reverted", "f", &old)?;
    OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(w.path("f"))?;
    w.same("cut by open alone", "f", b"")?;
    w.revert("f", 1)?;
    w.same("and back", "f", &old)
}

fn truncate_shrink(w: &mut Fixture) -> Outcome {
    let old = pattern(7, 100_000);
    w.make("f", &old)?;
    w.sh("truncate -s 65536 f; truncate -s 5000 f; truncate -s 1 f; truncate -s 0 f")?;
    w.same("cut", "f", b"")?;
    w.undo_from_here()?;
    let lines = [
        "write 0 100000",
        "truncate 65536 34464",
        "truncate 5000 60536",
        "truncate 1 4999",
        "truncate 0 1",
    ];
    w.same_log("cut", "f", &lines)?;
    for (reverts, size) in [1, 5000, 65_536, 100_000].into_iter().enumerate() {
        w.revert("f", 1)?;
        w.same(&format!("{} reverted", reverts + 1), "f", &old[..size])?;
    }
    w.sh("truncate -s 65536 f; truncate -s 5000 f; truncate -s 1 f; truncate -s 0 f")?;
    w.revert("f", 4)?;
    w.same("four at once", "f", &old)
}

fn truncate_grow(w: &mut Fixture) -> Outcome {
    w.make("f", b"small")?;
    w.sh("truncate -s 3000000 f")?;
    let mut want = b"small".to_vec();
    want.resize(3_000_000, 0);
    w.same("grown", "f", &want)?;
    w.undo_from_here()?;
    w.same_log("grown", "f", &["write 0 5", "truncate 5 2999995"])?;
    w.revert("f", 1)?;
    w.same("reverted", "f", b"small")?;
    w.sh("truncate -s 5 f")?;
    w.same_log("same size", "f", &["write 0 5", "truncate 5 0"])?;
    w.revert("f", 1)?;
    w.same("same size reverted", "f", b"small")
}

fn truncate_path_and_descriptor(w: &mut Fixture) -> Outcome {
    let old = pattern(8, 9000);
    w.make("f", &old)?;
    let file = w.open("f")?;
    file.set_len(4500)?;
    put(&file, 4500, b"after the cut")?;
    w.sh("truncate -s 4000 f")?;
    w.same("cut", "f", &old[..4000])?;
    w.undo_from_here()?;
    w.revert("f", 1)?;
    let mut middle = old[..4500].to_vec();
    middle.extend_from_slice(b"after the cut");
    w.same("cut by path reverted", "f", &middle)?;
    w.revert("f", 2)?;
    w.same("all reverted", "f", &old)
}

/// Bytes beyond the end in a page must not come back as garbage.
fn truncate_inside_page(w: &mut Fixture) -> Outcome {
    let old = pattern(9, 4096);
    w.make("f", &old)?;
    let file = w.open("f")?;
    file.set_len(1000)?;
    file.set_len(4096)?;
    let mut want = old[..1000].to_vec();
    want.resize(4096, 0);
    w.same("cut and grown", "f", &want)?;
    w.undo_from_here()?;
    w.revert("f", 1)?;
    w.same("grown reverted", "f", &old[..1000])?;
    put(&file, 2000, b"x")?;
    let mut gap = old[..1000].to_vec();
    gap.resize(2000, 0);
    gap.push(b'x');
    w.same("zeroes in the gap", "f", &gap)?;
    w.revert("f", 2)?;
    w.same("all reverted", "f", &old)
}

fn fallocate_extends(w: &mut Fixture) -> Outcome {
    let old = pattern(10, 5000);
    w.make("f", &old)?;
    w.sh("fallocate -l 200000 f")?;
    let mut want = old.clone();
    want.resize(200_000, 0);
    w.same("extended", "f", &want)?;
    put(&w.open("f")?, 100_000, b"inside")?;
    w.undo_from_here()?;
    w.revert("f", 1)?;
    w.same("the write reverted", "f", &want)
}
