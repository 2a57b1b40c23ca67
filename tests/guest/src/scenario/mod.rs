// SPDX-License-Identifier: GPL-2.0

//! All tests, in the order in which they run: the plainest first.

mod content;
mod cut;
mod forms;
mod full;
mod oracle;
mod programs;
mod refuse;
mod same_files;
mod same_names;
mod seed;

use crate::harness::Test;

/// Every test of every room.
pub fn all() -> Vec<&'static Test> {
    let rooms = [
        seed::TESTS,
        content::TESTS,
        cut::TESTS,
        forms::TESTS,
        refuse::TESTS,
        full::TESTS,
        same_files::TESTS,
        same_names::TESTS,
        programs::TESTS,
        oracle::TESTS,
    ];
    rooms.into_iter().flatten().collect()
}
