// SPDX-License-Identifier: GPL-2.0

//! Objects that lost their last name, after a cut.

use std::collections::HashSet;
use std::fs::{self, File};

use crate::check::{inodes, Cut};
use crate::group;
use crate::lower::Place;
use crate::outcome::{check, Outcome};
use crate::plan::Family;

/// Each object that lost its last name is an orphan, and a line names it; unless the history is at
/// its size limit, no earlier orphan is gone.
pub fn judge(place: &Place, cut: &Cut<'_>) -> Outcome {
    let lines = group::history(&File::open(&place.top)?)?;
    let mut told = HashSet::new();
    for placed in &lines {
        let object = match placed.line.op.as_str() {
            "unlink" | "rmdir" => placed.line.key("node"),
            "rename" => placed.line.key("over"),
            _ => None,
        };
        if let (Some(object), Some(_)) = (object, placed.line.key("kept")) {
            told.insert(group::inode_of(object));
        }
    }
    let kept = place.source.join(".loggerfs/orphans");
    for segment in fs::read_dir(&kept)? {
        for part in fs::read_dir(segment?.path())? {
            for entry in fs::read_dir(part?.path())? {
                let name = entry?.file_name().to_string_lossy().into_owned();
                // Orphans of reverts have lines of their own.
                let is_reverts = matches!(name.split(',').nth(4), Some("r" | "R"));
                check!(
                    is_reverts || told.contains(&group::inode_of(&name)),
                    "no line tells of {name}"
                );
            }
        }
    }
    let durable = cut.model.names_durable.iter();
    let durable = durable.filter(|(step, of)| *step <= cut.done && of.is_none());
    let durable = durable.map(|(step, _)| *step).max().unwrap_or(0);
    let there = inodes(place)?;
    for object in &cut.model.objects {
        let is_old = object
            .events
            .first()
            .is_some_and(|event| event.step <= durable);
        check!(
            !is_old
                || object.inode == 0
                || there.contains(&object.inode)
                || cut.family != Family::Usual,
            "inode {} was durable, and is gone",
            object.inode
        );
    }
    Ok(())
}
