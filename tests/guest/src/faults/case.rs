// SPDX-License-Identifier: GPL-2.0

//! One go of a scenario: its steps, with or without a failure, and the checks after them.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use super::tree::Tree;
use crate::fixture::{put, Fixture};
use crate::outcome::{check, fail, At, Outcome};
use crate::undo;

/// The file that scenarios change, and its content before LoggerFS is mounted.
pub const FILE: &str = "f";

/// The results of a go without failures: the tree before the first step, and after each.
#[derive(Default)]
pub struct Golden {
    pub trees: Vec<Tree>,
    /// How many lines the file had then.
    pub lines: Vec<usize>,
    /// All that the file held, in order, from before the first recorded operation.
    pub contents: Vec<Vec<u8>>,
    /// How many reverts the file takes in the end, and the content after each of them.
    pub reverts: usize,
    pub bottom: usize,
}

impl Golden {
    fn index(&self, content: &[u8]) -> Option<usize> {
        self.contents.iter().rposition(|known| known == content)
    }
}

/// How a step ended that failed.
pub struct Failure {
    pub step: usize,
    pub what: &'static str,
    pub error: io::Error,
}

pub struct FaultCase<'w> {
    pub w: &'w mut Fixture,
    pub options: &'static str,
    /// An open file for the steps.
    pub file: Option<File>,
    /// Recorded in a golden go.
    learning: bool,
    pub golden: Golden,
    steps: usize,
    /// How many steps were done when a sync last succeeded.
    pub durable: usize,
    pub failure: Option<Failure>,
    /// The contents after the parts of a write that took several calls.
    between: Vec<(usize, Vec<u8>)>,
    /// Whether a revert that was left incomplete is left to the next mount.
    pub by_remount: bool,
    /// Whether the disk may have lost bytes that were never promised: then each byte of the file
    /// counts by itself.
    pub torn: bool,
}

impl<'w> FaultCase<'w> {
    pub fn new(w: &'w mut Fixture, options: &'static str, golden: Option<Golden>) -> FaultCase<'w> {
        FaultCase {
            w,
            options,
            file: None,
            learning: golden.is_none(),
            golden: golden.unwrap_or_default(),
            steps: 0,
            durable: 0,
            failure: None,
            between: Vec::new(),
            by_remount: false,
            torn: false,
        }
    }

    /// How many steps were done.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// The open file, if the scenario has opened one.
    pub fn open_file(&self) -> io::Result<&File> {
        let file = self.file.as_ref();
        file.ok_or_else(|| io::Error::other("the scenario has no open file"))
    }

    /// Records the present tree in a golden go.
    pub fn learn(&mut self) -> Outcome {
        if self.learning {
            let tree = Tree::of(&self.w.mnt)?;
            self.learn_content(tree.content(FILE));
            self.golden.trees.push(tree);
            let lines = match File::open(self.w.path(FILE)) {
                Ok(file) => undo::lines(&file, true)?.len(),
                Err(_) => 0,
            };
            self.golden.lines.push(lines);
        }
        Ok(())
    }

    fn learn_content(&mut self, content: Option<&[u8]>) {
        if let Some(content) = content {
            if self.golden.index(content).is_none() {
                self.golden.contents.push(content.to_vec());
            }
        }
    }

    /// A content that the file had before the first step.
    pub fn had(&mut self, content: &[u8]) {
        if self.learning {
            self.learn_content(Some(content));
        }
    }

    /// Does one call, unless one has failed before; whether to go on.
    pub fn step<T>(
        &mut self,
        what: &'static str,
        call: impl FnOnce(&mut FaultCase) -> io::Result<T>,
    ) -> Outcome {
        if self.failure.is_some() {
            return Ok(());
        }
        match call(self) {
            Ok(_) => {
                self.steps += 1;
                if what.contains("sync") {
                    self.durable = self.steps;
                }
                self.learn()
            }
            Err(error) => {
                check!(!self.learning, "{what}: {error}, with no failure made");
                self.failure.get_or_insert(Failure {
                    step: self.steps,
                    what,
                    error,
                });
                Ok(())
            }
        }
    }

    /// A call that changes nothing that the tree shows (a mount, a sync), made while there may be no
    /// mount to look at.
    pub fn call<T>(
        &mut self,
        what: &'static str,
        call: impl FnOnce(&mut FaultCase) -> io::Result<T>,
    ) -> Outcome {
        if self.failure.is_some() {
            return Ok(());
        }
        if let Err(error) = call(self) {
            check!(!self.learning, "{what}: {error}, with no failure made");
            self.failure = Some(Failure {
                step: self.steps,
                what,
                error,
            });
        }
        Ok(())
    }

    /// Writes to the open file before anything fails.
    pub fn put(&mut self, offset: u64, bytes: &[u8]) -> Outcome {
        put(self.open_file()?, offset, bytes)?;
        let content = self.w.read(FILE)?;
        self.had(&content);
        Ok(())
    }

    /// Writes all of `bytes` to the open file, in as many calls as necessary.
    pub fn write(&mut self, what: &'static str, offset: u64, bytes: &[u8]) -> Outcome {
        let mut done = 0;
        self.step(what, |case| {
            while done < bytes.len() {
                let rest = &bytes[done..];
                match case.open_file()?.write_at(rest, offset + done as u64)? {
                    0 => return Err(io::Error::from_raw_os_error(libc::EIO)),
                    n => done += n,
                }
                case.note_part(offset, bytes, done);
            }
            Ok(())
        })
    }

    /// The content after a write that failed partway.
    fn part(&self) -> Option<&Vec<u8>> {
        let failure = self.failure.as_ref()?;
        let (step, part) = self.between.last()?;
        (*step == failure.step).then_some(part)
    }

    /// The first `done` bytes of a write are done.
    pub fn note_part(&mut self, offset: u64, bytes: &[u8], done: usize) {
        let Some(tree) = self.golden.trees.get(self.steps) else {
            return;
        };
        if done < bytes.len() {
            let content = tree.content(FILE).unwrap_or_default();
            let part = with(content, offset, &bytes[..done]);
            self.between.push((self.steps, part));
        }
    }

    /// The wanted state of the directory: that after the last step that succeeded or, with `lied`,
    /// also that after a step that took effect but returned an error.
    pub fn check_tree(&self, when: &str, lied: bool) -> Outcome {
        let got = Tree::of(&self.w.mnt).at(when)?;
        if let Some(src) = &self.w.src {
            let below = Tree::of(src).at(format!("{when}, below"))?;
            if let Some(difference) = got.difference(&below) {
                fail!("{when}: not as below: {difference}");
            }
        }
        let mut want = self.golden.trees[self.steps].clone();
        if let Some(part) = self.part() {
            want = want.with_content(FILE, part.clone());
        }
        let Some(difference) = got.difference(&want) else {
            return Ok(());
        };
        let next = self.golden.trees.get(self.steps + 1);
        if lied && next.is_some_and(|next| got == *next) {
            return Ok(());
        }
        fail!("{when}: {difference}");
    }

    /// A revert is incomplete: the next operation or the next mount rolls it back.
    pub fn withdraw(&mut self) -> Outcome {
        if self.by_remount {
            return self.w.remount_with(self.options);
        }
        let file = self.open_again()?;
        let size = file.metadata()?.len();
        file.set_len(size)
            .at("the next operation after a revert that was left incomplete")?;
        undo::revert(&file, 1).at("and its revert")
    }

    /// A new operation and its revert, as if nothing had been.
    pub fn check_goes_on(&self) -> Outcome {
        if !self.w.path(FILE).is_file() {
            return Ok(());
        }
        let before = self.w.read(FILE)?;
        let file = self.open_again()?;
        let bytes = b"written after the failure";
        let written = self.write_when_it_may(&file, bytes, 3)?;
        check!(written == bytes.len(), "short write after the failure");
        let after = with(&before, 3, bytes);
        self.w.same("written after the failure", FILE, &after)?;
        let (result, answer) = undo::revert_more(&file, 1, 0);
        result.at(format!(
            "reverting what came after the failure ({answer:?})"
        ))?;
        self.w.same("reverted after the failure", FILE, &before)
    }

    /// With `on_error=refuse`, operations are refused until the failed worker has retried, once a
    /// second.
    fn write_when_it_may(&self, file: &File, bytes: &[u8], offset: u64) -> Outcome<usize> {
        let patience = if self.options.contains("on_error=refuse") {
            60
        } else {
            0
        };
        for _ in 0..patience {
            if let Ok(written) = file.write_at(bytes, offset) {
                return Ok(written);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        file.write_at(bytes, offset).at("writing after the failure")
    }

    pub fn open_again(&self) -> Outcome<File> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).open(self.w.path(FILE));
        file.at("opening after the failure")
    }

    /// Takes all operations back: each content must be an older one of the file. Returns whether as
    /// many reverts succeeded as without failures.
    pub fn check_reverts(&mut self) -> Outcome<bool> {
        if !self.w.path(FILE).is_file() {
            return Ok(true);
        }
        let file = self.open_again()?;
        let mut content = self.w.read(FILE)?;
        // Only this go knows the content after a short write.
        let mut at = self.golden.index(&content).unwrap_or(usize::MAX);
        let mut reverts = 0;
        let (error, answer) = loop {
            let (result, answer) = undo::revert_more(&file, 1, 0);
            let now = fs::read(self.w.path(FILE))?;
            if let Err(error) = result {
                check!(
                    now == content,
                    "a refused revert ({error}) changed the file"
                );
                break (error, answer);
            }
            reverts += 1;
            let known = self.golden.index(&now).filter(|index| *index <= at);
            let is_part = self.between.iter().any(|(_, part)| *part == now)
                || (self.torn && self.is_mixture(&now, &self.golden.contents));
            let Some(index) = known.or(is_part.then_some(at)) else {
                fail!(
                    "revert {reverts} gave {} bytes that the file did not have before",
                    now.len()
                );
            };
            check!(reverts < 400, "400 reverts and no end");
            (content, at) = (now, index);
        };
        let errno = error.raw_os_error().unwrap_or(0);
        check!(
            errno == libc::ENODATA || errno == libc::ESTALE,
            "revert {}: {error} ({answer:?})",
            reverts + 1
        );
        if self.learning {
            (self.golden.reverts, self.golden.bottom) = (reverts, at);
            return Ok(true);
        }
        if at <= self.golden.bottom {
            return Ok(true);
        }
        // An operation that was never made durable may leave its bytes and nothing else.
        let is_torn = self.torn && answer.blocking_seq == 0;
        if !self.is_bounded() && !is_torn {
            self.check_told(&file, answer.blocking_seq)?;
        }
        Ok(false)
    }

    /// The file after the disk lost its unsynced data: each byte is one that the file held since
    /// the last successful sync, and all synced lines are present, unless the kernel's log (`told`)
    /// reports that the mount goes on without some (`on_error=continue`).
    pub fn check_torn(&self, when: &str, told: bool) -> Outcome {
        let since: Vec<Vec<u8>> = (self.golden.trees.iter().skip(self.durable))
            .filter_map(|tree| tree.content(FILE).map(<[u8]>::to_vec))
            .collect();
        if since.len() + self.durable < self.golden.trees.len() {
            return Ok(());
        }
        let content = fs::read(self.w.path(FILE)).at(when)?;
        check!(
            self.is_mixture(repaired(&content, &since), &since),
            "{when}: bytes that were not there since the last sync, after step {}: {}",
            self.durable,
            strange(&content, &since)
        );
        let lines = undo::lines(&File::open(self.w.path(FILE))?, true)?.len();
        let promised = self.golden.lines.get(self.durable).copied().unwrap_or(0);
        check!(
            lines >= promised || told || self.is_bounded(),
            "{when}: {lines} lines where a sync promised {promised}"
        );
        Ok(())
    }

    /// Whether a content has at each place a byte that one of these has there, or this go's parts.
    fn is_mixture(&self, content: &[u8], of: &[Vec<u8>]) -> bool {
        let parts = self.between.iter().map(|(_, part)| part);
        let all: Vec<&Vec<u8>> = of.iter().chain(parts).collect();
        let sizes = all.iter().map(|one| one.len());
        let (smallest, largest) = (sizes.clone().min(), sizes.max());
        smallest.is_some_and(|size| content.len() >= size)
            && largest.is_some_and(|size| content.len() <= size)
            && content.iter().enumerate().all(|(at, byte)| {
                all.iter()
                    .any(|one| one.get(at).copied().unwrap_or(0) == *byte)
            })
    }

    /// A bounded history may drop its oldest part at any time.
    pub fn is_bounded(&self) -> bool {
        self.options.contains("history_max")
    }

    /// A revert that stops earlier than without the failure: the log records the reason.
    fn check_told(&self, file: &File, seq: u64) -> Outcome {
        let lines = undo::lines(file, true)?;
        let told = lines
            .iter()
            .find(|line| line.number("seq").ok() == Some(seq));
        let Some(line) = told else {
            let last = lines.last().map_or("no line", |line| &line.text);
            fail!("the line in the way of a revert, {seq}, is not there; the last: {last}");
        };
        let is_reason =
            line.key("undo") == Some("lost") || ["external", "resync"].contains(&&line.op[..]);
        check!(
            is_reason,
            "this line is in the way of a revert: {}",
            line.text
        );
        Ok(())
    }
}

/// A content with some bytes replaced or added.
fn with(content: &[u8], offset: u64, bytes: &[u8]) -> Vec<u8> {
    let start = offset as usize;
    let mut content = content.to_vec();
    content.resize(content.len().max(start + bytes.len()), 0);
    content[start..start + bytes.len()].copy_from_slice(bytes);
    content
}

/// A content without the zeros that e2fsck puts behind it: it sets a size that is less than the allocated
/// blocks to all of them (PR_1_BAD_I_SIZE), as an ext4_truncate() leaves it that failed on its way.
fn repaired<'a>(content: &'a [u8], of: &[Vec<u8>]) -> &'a [u8] {
    let largest = of.iter().map(Vec::len).max().unwrap_or(0);
    match content.split_at_checked(largest) {
        Some((kept, added))
            if content.len() == largest.next_multiple_of(4096)
                && added.iter().all(|byte| *byte == 0) =>
        {
            kept
        }
        _ => content,
    }
}

/// The ranges of `content` that no content in `of` has in the same place, and all sizes; for a failure's text.
fn strange(content: &[u8], of: &[Vec<u8>]) -> String {
    let known = |at: usize, byte: u8| {
        of.iter()
            .any(|one| one.get(at).copied().unwrap_or(0) == byte)
    };
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for (at, byte) in content.iter().enumerate() {
        match ranges.last_mut() {
            _ if known(at, *byte) => {}
            Some((_, end)) if *end == at => *end += 1,
            _ => ranges.push((at, at + 1)),
        }
    }
    let sizes: Vec<usize> = of.iter().map(Vec::len).collect();
    let first = ranges
        .first()
        .map(|(start, end)| &content[*start..(*end).min(start + 8)]);
    format!(
        "{} bytes where there were {sizes:?}, other bytes in {} ranges, the first {first:02x?}",
        content.len(),
        ranges.len()
    )
}
