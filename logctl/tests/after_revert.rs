// SPDX-License-Identifier: MIT OR Apache-2.0

//! Whether the state of a file after a revert is that of a point.

#[path = "support/mount.rs"]
mod mount;

use logctl::after_revert::AfterRevert;
use logctl::timeline::Timeline;
use loggerfs_log::types::ObjectId;
use mount::{run, Files, Kernel};

/// Two files, with three writes to `f` (ops 2, 3 and 5) and one to `g` (op 4).
fn kernel() -> Kernel {
    let mut kernel = Kernel::new();
    let by = "undo=none pid=50@5.0 uid=1000";
    kernel.line(1, "1.1", "/x create 0 0", &format!("name=f node=4.1 {by}"));
    for (second, object) in [(2, "4.1"), (10, "4.1"), (20, "5.1"), (30, "4.1")] {
        kernel.line(
            second,
            object,
            "/x write 0 4",
            &format!("open=. size=0 {by}"),
        );
    }
    kernel
}

fn object(inode: u64) -> ObjectId {
    ObjectId {
        volume: 0,
        inode,
        generation: 1,
    }
}

/// The points of `f` and `g` after the operations with these numbers were taken back.
fn points(kernel: &mut Kernel, seqs: &[u64]) -> [Result<u64, u64>; 2] {
    let timeline = Timeline::whole(kernel).unwrap();
    let chosen: Vec<usize> = seqs
        .iter()
        .map(|seq| timeline.find(*seq).unwrap())
        .collect();
    let after = AfterRevert::new(&timeline, &chosen);
    [after.point(object(4)), after.point(object(5))]
}

#[test]
fn the_newest_operations_lead_to_a_point() {
    let mut kernel = kernel();
    assert_eq!(points(&mut kernel, &[5]), [Ok(4), Ok(4)]);
    assert_eq!(points(&mut kernel, &[5, 3]), [Ok(2), Ok(5)]);
    assert_eq!(points(&mut kernel, &[5, 3, 2, 1]), [Ok(0), Ok(5)]);
    // Each file has its own point.
    assert_eq!(points(&mut kernel, &[5, 4]), [Ok(3), Ok(3)]);
    // Only of another file.
    assert_eq!(points(&mut kernel, &[4]), [Ok(5), Ok(3)]);
}

#[test]
fn a_later_operation_that_stays_leads_to_none() {
    let mut kernel = kernel();
    assert_eq!(points(&mut kernel, &[3])[0], Err(5));
    assert_eq!(points(&mut kernel, &[2, 3])[0], Err(5));
    assert_eq!(points(&mut kernel, &[5, 2])[0], Err(3));
}

#[test]
fn reverted_operations_do_not_count() {
    let mut kernel = kernel();
    let revert = |kernel: &mut Kernel, op: u64| {
        let files = Files::of(&[("f", 4)]);
        let (code, _, complaint) = run(kernel, &files, &format!("revert {op}"));
        assert_eq!(code, 0, "{complaint}");
    };
    revert(&mut kernel, 5);
    // Op 6 is the revert: op 3 is the newest live one.
    assert_eq!(points(&mut kernel, &[3])[0], Ok(2));
    // Taking the revert itself back leads to before it.
    assert_eq!(points(&mut kernel, &[6])[0], Ok(5));
    revert(&mut kernel, 6);
    assert_eq!(points(&mut kernel, &[5])[0], Ok(4));
    assert_eq!(points(&mut kernel, &[3])[0], Err(5));
}
