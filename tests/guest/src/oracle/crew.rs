// SPDX-License-Identifier: GPL-2.0

//! The processes that do the oracle's operations, one operation at a time.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use super::op::{Op, SLOTS};
use crate::outcome::{check, fail, At, Outcome};
use crate::world::World;

/// How many processes there are.
pub const HANDS: u64 = 3;

/// What a process holds open, as long as it is the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Held {
    pub hand: usize,
    pub slot: usize,
    /// Which one this is of those that the slot has held.
    turn: u64,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    turn: u64,
    fd: Option<u32>,
}

struct Hand {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    slots: [Slot; SLOTS as usize],
}

/// All of them.
pub struct Crew {
    hands: Vec<Hand>,
    pub turn: u64,
}

impl Crew {
    /// New processes; the turns go on from those of the ones before.
    pub fn new(w: &World, turn: u64) -> Outcome<Crew> {
        let mut hands = Vec::new();
        for _ in 0..HANDS {
            let mut command = w.worker(&["hand", &w.mnt.display().to_string()]);
            command.current_dir("/");
            let mut child = command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
                fail!("a process without pipes");
            };
            hands.push(Hand {
                child,
                to,
                from: BufReader::new(from),
                slots: Default::default(),
            });
        }
        Ok(Crew { hands, turn })
    }

    /// Has a process do something; whether it succeeded.
    pub fn perform(&mut self, hand: usize, op: &Op) -> Outcome<bool> {
        let answer = self.ask(hand, &op.text())?;
        let fd = match answer.strip_prefix("ok ") {
            Some(fd) => fd.parse().ok(),
            None => {
                // A slot is empty once its opening failed.
                if op.kind == "open" {
                    self.hands[hand].slots[op.slot].fd = None;
                }
                return Ok(false);
            }
        };
        self.turn += 1;
        let slot = &mut self.hands[hand].slots[op.slot];
        if op.kind == "open" || fd.is_none() {
            slot.turn = self.turn;
        }
        slot.fd = fd;
        Ok(true)
    }

    /// All mappings must show what their files hold.
    pub fn look(&mut self) -> Outcome {
        for hand in 0..self.hands.len() {
            let answer = self.ask(hand, "look")?;
            check!(answer == "ok", "process {hand}, mapped: {answer}");
        }
        Ok(())
    }

    fn ask(&mut self, number: usize, what: &str) -> Outcome<String> {
        let hand = &mut self.hands[number];
        writeln!(hand.to, "{what}").at(format!("telling process {number} {what}"))?;
        let mut answer = String::new();
        hand.from.read_line(&mut answer)?;
        if answer.is_empty() {
            fail!("process {number} ended with {}: {what}", hand.child.wait()?);
        }
        Ok(answer.trim_end().to_string())
    }

    /// What a slot holds now.
    pub fn held(&self, hand: usize, slot: usize) -> Option<Held> {
        let Slot { turn, fd } = self.hands[hand].slots[slot];
        fd.map(|_| Held { hand, slot, turn })
    }

    /// Where it can be opened once more; nothing: it is not held any more.
    pub fn path(&self, held: Held) -> Option<PathBuf> {
        let hand = &self.hands[held.hand];
        let Slot { turn, fd } = hand.slots[held.slot];
        let fd = fd.filter(|_| turn == held.turn)?;
        Some(format!("/proc/{}/fd/{fd}", hand.child.id()).into())
    }
}

impl Drop for Crew {
    /// They end, and let go of all that they hold.
    fn drop(&mut self) {
        for mut hand in self.hands.drain(..) {
            drop(hand.to);
            let _ = hand.child.wait();
        }
    }
}
