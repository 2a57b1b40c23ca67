// SPDX-License-Identifier: GPL-2.0

//! The processes that do the oracle's operations, one operation at a time.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use super::op::{Op, SLOTS};
use crate::fixture::Fixture;
use crate::outcome::{check, fail, At, Outcome};

/// How many processes there are.
pub const WORKERS: u64 = 3;

/// A slot of a process, while it holds the same file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Held {
    pub worker: usize,
    pub slot: usize,
    /// Which one this is of those that the slot has held.
    turn: u64,
}

#[derive(Clone, Copy, Default)]
struct SlotState {
    turn: u64,
    fd: Option<u32>,
}

struct WorkerHandle {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    slots: [SlotState; SLOTS as usize],
}

/// All of them.
pub struct Workers {
    workers: Vec<WorkerHandle>,
    pub turn: u64,
}

impl Workers {
    /// New processes; the turns go on from those of the ones before.
    pub fn new(w: &Fixture, turn: u64) -> Outcome<Workers> {
        let mut workers = Vec::new();
        for _ in 0..WORKERS {
            let mut command = w.worker(&["oracle-worker", &w.mnt.display().to_string()]);
            command.current_dir("/");
            let mut child = command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
                fail!("a process without pipes");
            };
            workers.push(WorkerHandle {
                child,
                to,
                from: BufReader::new(from),
                slots: Default::default(),
            });
        }
        Ok(Workers { workers, turn })
    }

    /// Has a process do an operation; returns whether it succeeded.
    pub fn perform(&mut self, worker: usize, op: &Op) -> Outcome<bool> {
        let answer = self.ask(worker, &op.text())?;
        let fd = match answer.strip_prefix("ok ") {
            Some(fd) => fd.parse().ok(),
            None => {
                // A slot is empty once its opening failed.
                if op.kind == "open" {
                    self.workers[worker].slots[op.slot].fd = None;
                }
                return Ok(false);
            }
        };
        self.turn += 1;
        let slot = &mut self.workers[worker].slots[op.slot];
        if op.kind == "open" || fd.is_none() {
            slot.turn = self.turn;
        }
        slot.fd = fd;
        Ok(true)
    }

    /// All mappings must show the contents of their files.
    pub fn look(&mut self) -> Outcome {
        for worker in 0..self.workers.len() {
            let answer = self.ask(worker, "look")?;
            check!(answer == "ok", "process {worker}, mapped: {answer}");
        }
        Ok(())
    }

    fn ask(&mut self, number: usize, what: &str) -> Outcome<String> {
        let worker = &mut self.workers[number];
        writeln!(worker.to, "{what}").at(format!("telling process {number} {what}"))?;
        let mut answer = String::new();
        worker.from.read_line(&mut answer)?;
        if answer.is_empty() {
            fail!(
                "process {number} ended with {}: {what}",
                worker.child.wait()?
            );
        }
        Ok(answer.trim_end().to_string())
    }

    /// The present file of a slot.
    pub fn held(&self, worker: usize, slot: usize) -> Option<Held> {
        let SlotState { turn, fd } = self.workers[worker].slots[slot];
        fd.map(|_| Held { worker, slot, turn })
    }

    /// The path by which the file can be opened again; `None`: the slot is empty.
    pub fn path(&self, held: Held) -> Option<PathBuf> {
        let worker = &self.workers[held.worker];
        let SlotState { turn, fd } = worker.slots[held.slot];
        let fd = fd.filter(|_| turn == held.turn)?;
        Some(format!("/proc/{}/fd/{fd}", worker.child.id()).into())
    }
}

impl Drop for Workers {
    /// They end, and let go of all that they hold.
    fn drop(&mut self) {
        for mut worker in self.workers.drain(..) {
            drop(worker.to);
            let _ = worker.child.wait();
        }
    }
}
