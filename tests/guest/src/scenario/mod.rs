// SPDX-License-Identifier: GPL-2.0

//! All tests, in the order in which they run: the plainest first.

mod behind;
mod content;
mod cut;
mod forms;
mod full;
mod kill;
mod lasting;
mod mounting;
mod oracle;
mod programs;
mod race;
mod refuse;
mod same_files;
mod same_names;
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
        behind::TESTS,
        tool::TESTS,
        lasting::TESTS,
        mounting::TESTS,
        full::TESTS,
        same_files::TESTS,
        same_names::TESTS,
        programs::TESTS,
        race::TESTS,
        oracle::TESTS,
        kill::TESTS,
    ];
    rooms.into_iter().flatten().collect()
}
