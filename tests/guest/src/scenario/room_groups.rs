// SPDX-License-Identifier: GPL-2.0

//! A save by rename, reverted by one request without space: on a full disk, and in a full history with
//! `on_full=deny`. It succeeds, or is refused with nothing changed.

use std::fs;
use std::os::unix::fs::FileExt;

use crate::faults::tree::Tree;
use crate::fixture::Fixture;
use crate::group::{Placed, Watch};
use crate::harness::Test;
use crate::outcome::{check, fail, At, Outcome};
use crate::shadow::pattern;

use super::full::{leave, small};
use super::room::fill_below;

pub const TESTS: &[Test] = &[
    Test::new("room-mixed-group-denied", denied)
        .unmounted()
        .seconds(240),
    Test::new("room-mixed-group-on-a-full-disk", full_disk)
        .unmounted()
        .seconds(240),
];

/// The steps, and whether all content is new, so that no bytes have to be copied.
const SAVES: &[(&str, bool, &str)] = &[
    (
        "new",
        true,
        "echo a > d/new; echo b >> d/new; chmod 600 d/new; mv d/new d/done",
    ),
    (
        "over",
        true,
        "head -c 9000 /dev/zero > d/t; echo b >> d/t; chmod 640 d/t; mv d/t d/old",
    ),
    (
        "old",
        false,
        "echo changed > d/old; chmod 600 d/old; mv d/old d/older; echo more >> d/older",
    ),
    (
        "tree",
        true,
        "mkdir d/s; echo 1 > d/s/1; ln d/s/1 d/s/2; ln -s 1 d/s/3; chmod 700 d/s; mv d/s d/t",
    ),
];

fn plant(w: &Fixture) -> Outcome<Tree> {
    w.sh("rm -rf d; mkdir d; head -c 20000 /dev/urandom > d/old; chmod 644 d/old")?;
    Tree::of(&w.path("d"))
}

fn range_of(operations: &[Placed]) -> String {
    let seq = |placed: Option<&Placed>| placed.map_or(0, |placed| placed.seq);
    format!("{}..{}", seq(operations.first()), seq(operations.last()))
}

fn same_tree(w: &Fixture, what: &str, want: &Tree) -> Outcome {
    match Tree::of(&w.path("d"))?.difference(want) {
        Some(difference) => fail!("{what}: {difference}"),
        None => Ok(()),
    }
}

/// Reverts a save: all of it, or nothing. Returns whether it was reverted.
fn taken_back(w: &Fixture, name: &str, range: &str, before: &Tree, after: &Tree) -> Outcome<bool> {
    let dry = w.sh(&format!(
        "if logctl revert {range} --dry-run >/dev/null 2>&1; then echo 0; else echo $?; fi"
    ))?;
    same_tree(w, &format!("{name}: a dry run"), after)?;
    let said = w.sh(&format!(
        "if logctl revert {range} 2>&1; then echo code 0; else echo code $?; fi"
    ))?;
    let is_done = said.trim_end().ends_with("code 0");
    check!(
        !is_done || dry.trim() == "0",
        "{name}: a dry run ends with {dry}, the revert: {said}"
    );
    match is_done {
        true => same_tree(w, &format!("{name}: taken back"), before)?,
        false => same_tree(w, &format!("{name}: refused ({said})"), after)?,
    }
    Ok(is_done)
}

fn denied(w: &mut Fixture) -> Outcome {
    for (name, is_new, steps) in SAVES {
        w.mount_with("history_max=4M,on_full=deny")?;
        let before = plant(w)?;
        w.make("filler", &pattern(0, 65536))?;
        let watch = Watch::begin(w)?;
        w.sh(steps)?;
        let range = range_of(&watch.operations(w)?);
        let after = Tree::of(&w.path("d"))?;
        let filler = w.open("filler")?;
        let mut done = 0;
        while filler.write_at(&pattern(done + 1, 65536), 0).is_ok() {
            done += 1;
            check!(done < 4000, "250 MiB of history");
        }
        drop(filler);
        let is_done = taken_back(w, name, &range, &before, &after)?;
        check!(is_done || !is_new, "{name}: nothing of it needs room");
        let (want, what) = match is_done {
            true => (&before, "taken back, after a mount"),
            false => (&after, "refused, after a mount"),
        };
        if w.src.is_some() {
            w.remount_with("history_max=4M,on_full=deny")?;
            same_tree(w, &format!("{name}: {what}"), want)?;
        }
        if w.src.is_some() {
            w.remount_empty("")?;
        }
        w.unmount()?;
    }
    Ok(())
}

/// The disk is filled past the mount: in a private one the filler's own history would drop the saves'.
fn full_disk(w: &mut Fixture) -> Outcome {
    for (name, is_new, steps) in SAVES {
        let place = small(w, "history_max=8M")?;
        let before = plant(w)?;
        let watch = Watch::begin(w)?;
        w.sh(steps)?;
        let range = range_of(&watch.operations(w)?);
        let after = Tree::of(&w.path("d"))?;
        rustix::fs::syncfs(fs::File::open(&w.mnt)?)?;
        fill_below(&place, 0)?;
        let is_done = taken_back(w, name, &range, &before, &after)?;
        if !is_done && *is_new {
            println!("     {}: {name} is refused on a full disk", w.lower.name());
        }
        for size in [1 << 20, 4096, 512] {
            let _ = fs::remove_file(place.join(format!("fill0.{size}")));
        }
        if is_done {
            w.sh("logctl undo").at("the revert, with room again")?;
            same_tree(w, &format!("{name}: done again"), &after)?;
        } else {
            w.sh(&format!("logctl revert {range}"))
                .at("with room again")?;
            same_tree(w, &format!("{name}: with room again"), &before)?;
        }
        leave(w, place)?;
    }
    Ok(())
}
