// SPDX-License-Identifier: MIT OR Apache-2.0

//! Histories of processes that create files.

use crate::mount::{run, Files, Kernel, BEGINNING};

/// Number and start of a process, as lines have them.
pub fn process(pid: u32, start: i64) -> String {
    format!("{pid}@{}.0", BEGINNING + start)
}

/// A file is created by a process; `who` has the keys from `ppid=` on.
pub fn create(kernel: &mut Kernel, second: i64, name: &str, process: &str, who: &str) -> u64 {
    let node = 10 + kernel.seq;
    let keys = format!("name={name} node={node}.1 undo=none pid={process} {who} uid=1000");
    kernel.line(second, "1.1", "/bin/tool create 0 0", &keys)
}

/// The operations that a command would take back.
pub fn taken(kernel: &mut Kernel, words: &str) -> Vec<u64> {
    let (code, _, complaint) = run(kernel, &Files::of(&[]), &format!("{words} -n"));
    assert_eq!(code, 0, "{words}: {complaint}");
    let asked = kernel.asked.pop();
    asked.map(|(_, asked)| asked).unwrap_or_default()
}
