// SPDX-License-Identifier: GPL-2.0

//! The history's files as they lie on the lower filesystem: every line whole and true.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::Path;

use crate::outcome::{check, fail, At, Outcome};

#[allow(dead_code)]
#[path = "../../../history/format.rs"]
pub(crate) mod format;
#[path = "../../../history/line.rs"]
pub(crate) mod line;
#[allow(dead_code)]
#[path = "../../../history/text.rs"]
pub(crate) mod text;

use line::{split_line, Line, ObjectId, Pos, Seed, Undo};

/// A raw CRC-32C update, eight bytes at a time.
pub fn crc32c(state: u32, bytes: &[u8]) -> u32 {
    static TABLES: std::sync::OnceLock<[[u32; 256]; 8]> = std::sync::OnceLock::new();
    let tables = TABLES.get_or_init(tables);
    let (eights, rest) = bytes.split_at(bytes.len() / 8 * 8);
    let mut state = state;
    for eight in eights.chunks_exact(8) {
        let low = state ^ u32::from_le_bytes([eight[0], eight[1], eight[2], eight[3]]);
        let low = low.to_le_bytes();
        state = (0..4).fold(0, |sum, at| {
            sum ^ tables[7 - at][usize::from(low[at])] ^ tables[3 - at][usize::from(eight[4 + at])]
        });
    }
    rest.iter().fold(state, |state, byte| {
        (state >> 8) ^ tables[0][usize::from(state.to_le_bytes()[0] ^ byte)]
    })
}

/// Table `n` takes a byte with `n` bytes after it.
fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    for byte in 0..256u32 {
        let step = |state: u32| (state >> 1) ^ (0x82f6_3b78 & (state & 1).wrapping_neg());
        let mut state = (0..8).fold(byte, |state, _| step(state));
        for table in &mut tables {
            table[byte as usize] = state;
            state = (0..8).fold(state, |state, _| step(state));
        }
    }
    tables
}

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

    fn payload(&mut self, line: &Line<'_>, extent: line::Extent) -> Outcome {
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

#[cfg(test)]
mod tests {
    use super::crc32c;

    #[test]
    fn the_checksum_is_crc_32c() {
        assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
        assert_eq!(!crc32c(!0, &[0xff; 32]), 0x62a8_ab43);
        let bytes: Vec<u8> = (0..=255).collect();
        let (a, b) = bytes.split_at(77);
        assert_eq!(crc32c(crc32c(!0, a), b), crc32c(!0, &bytes));
    }
}
