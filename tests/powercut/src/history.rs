// SPDX-License-Identifier: GPL-2.0

//! The history's files as they lie on the lower filesystem: every line whole and true.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::Path;

use crate::outcome::{check, fail, At, Outcome};

use lfs_shared::crc32c;
use lfs_shared::history::format;
use loggerfs_log::line::{split_line, Line, Undo};
use loggerfs_log::types::{Extent, ObjectId, Pos, Seed};

/// The content of a history.
#[derive(Default, Debug)]
pub struct Summary {
    pub lines: u64,
    pub payloads: u64,
}

/// Reads everything below `home`, `.loggerfs`. A mount that is at work may drop its oldest segment
/// meanwhile: then everything is read again.
pub fn examine(home: &Path) -> Outcome<Summary> {
    for _ in 0..9 {
        let before = numbered(&home.join("log"), ".log")?;
        let result = try_examine(home);
        if result.is_ok() || numbered(&home.join("log"), ".log")? == before {
            return result;
        }
    }
    try_examine(home)
}

fn try_examine(home: &Path) -> Outcome<Summary> {
    let text = fs::read(home.join("format")).at("reading format")?;
    let Ok(format) = format::parse(&text) else {
        fail!("the file format is no such file");
    };
    let mut seen = LogContent::default();
    let segments = numbered(&home.join("log"), ".log")?;
    for segment in segments.keys() {
        let undo = home.join(format!("undo/{segment:08}.dat"));
        let undo = fs::read(&undo).at(format!("reading {}", undo.display()))?;
        seen.payloads.insert(*segment, undo);
    }
    for (segment, path) in &segments {
        let log = fs::read(path)?;
        let seed = Seed {
            uuid: format.uuid,
            segment: *segment,
        };
        seen.log(&log, &seed)
            .at(format!("log of segment {segment}, {} bytes", log.len()))?;
    }
    Ok(seen.summary)
}

/// The files of a directory by the number in their names.
fn numbered(directory: &Path, suffix: &str) -> Outcome<BTreeMap<u64, std::path::PathBuf>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).at(format!("listing {}", directory.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let number = name.strip_suffix(suffix).and_then(|n| n.parse().ok());
        if let Some(number) = number {
            found.insert(number, entry.path());
        }
    }
    Ok(found)
}

#[derive(Default)]
struct LogContent {
    summary: Summary,
    seq: u64,
    last: HashMap<ObjectId, Pos>,
    payloads: BTreeMap<u64, Vec<u8>>,
    verified: HashSet<(u64, u64, u64)>,
}

impl LogContent {
    fn log(&mut self, log: &[u8], seed: &Seed) -> Outcome {
        let mut rest = log;
        while !rest.is_empty() {
            let at = Pos {
                segment: seed.segment,
                offset: (log.len() - rest.len()) as u64,
            };
            let Some((bytes, behind)) = split_line(rest) else {
                fail!("an unfinished line at {}: {}", at.offset, shown(rest));
            };
            rest = behind;
            match Line::parse(bytes, Some((seed, crc32c))) {
                Ok(line) => {
                    self.line(&line, at)
                        .at(format!("line at {}: {}", at.offset, shown(bytes)))?
                }
                Err(error) => {
                    fail!(
                        "line at {}: {}: {}",
                        at.offset,
                        error.as_str(),
                        shown(bytes)
                    );
                }
            }
        }
        Ok(())
    }

    fn line(&mut self, line: &Line<'_>, at: Pos) -> Outcome {
        self.summary.lines += 1;
        check!(
            line.seq > self.seq,
            "its number does not rise: {} before",
            self.seq
        );
        self.seq = line.seq;
        if let Some(object) = line.obj {
            let last = self.last.insert(object, at);
            let oldest = self.payloads.keys().next().copied().unwrap_or(0);
            let trimmed = last.is_none() && line.prev.is_some_and(|prev| prev.segment < oldest);
            check!(
                line.prev == last || trimmed,
                "its prev= is not the file's line before, {last:?}"
            );
        }
        match line.undo {
            Some(Undo::At(extent)) => self.payload(line, extent),
            _ => Ok(()),
        }
    }

    fn payload(&mut self, line: &Line<'_>, extent: Extent) -> Outcome {
        let Some(payloads) = self.payloads.get(&extent.segment) else {
            return Ok(());
        };
        if !self
            .verified
            .insert((extent.segment, extent.offset, extent.length))
        {
            return Ok(());
        }
        let (from, to) = (
            extent.offset as usize,
            (extent.offset + extent.length) as usize,
        );
        let Some(bytes) = payloads.get(from..to) else {
            fail!("its old bytes lie beyond the end, {}", payloads.len());
        };
        let crc = !crc32c(!0, bytes);
        check!(
            line.crc == Some(crc),
            "its old bytes have the checksum {crc:08x}"
        );
        self.summary.payloads += 1;
        Ok(())
    }
}

fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]);
    text.escape_debug().to_string()
}
