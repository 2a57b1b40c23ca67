// SPDX-License-Identifier: GPL-2.0

//! All tests, in the order in which they run: the plainest first.

mod attributes;
mod behind;
mod content;
mod cut;
mod forms;
mod full;
mod fuzz_calls;
mod fuzz_damage;
mod fuzz_options;
mod interrupted;
mod kill;
mod lasting;
mod maps;
mod maps_mixed;
mod mounting;
mod names;
mod oracle;
mod oracle_tree;
mod programs;
mod race;
mod refuse;
mod removed;
mod same_files;
mod same_names;
mod saves;
mod seed;
mod tool;

use crate::harness::Test;

/// Every test of every room.
pub fn all() -> Vec<&'static Test> {
    let rooms = [
        seed::TESTS,
        content::TESTS,
        cut::TESTS,
        forms::TESTS,
        refuse::TESTS,
        attributes::TESTS,
        names::TESTS,
        removed::TESTS,
        saves::TESTS,
        interrupted::TESTS,
        behind::TESTS,
        maps::TESTS,
        maps_mixed::TESTS,
        tool::TESTS,
        lasting::TESTS,
        mounting::TESTS,
        full::TESTS,
        same_files::TESTS,
        same_names::TESTS,
        programs::TESTS,
        race::TESTS,
        oracle::TESTS,
        oracle_tree::TESTS,
        kill::TESTS,
        fuzz_calls::TESTS,
        fuzz_options::TESTS,
        fuzz_damage::TESTS,
    ];
    rooms.into_iter().flatten().collect()
}
