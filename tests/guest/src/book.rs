// SPDX-License-Identifier: GPL-2.0

//! Edits the lines of a history by a user who knows the format: replaces words, and gives each line its right
//! checksum and the right position of the previous line.

use std::collections::BTreeMap;

use crate::crafted::{sum_of, History};
use crate::outcome::Outcome;

/// One line: its words without the checksum, and its position.
#[derive(Clone, Debug)]
pub struct Entry {
    pub segment: u64,
    pub offset: u64,
    pub words: Vec<String>,
}

impl Entry {
    pub fn op(&self) -> &str {
        self.words.get(2).map_or("", String::as_str)
    }

    /// The value of `KEY=`.
    pub fn get(&self, key: &str) -> Option<&str> {
        let words = self.words.iter().skip(5);
        let mut pairs = words.filter_map(|word| word.split_once('='));
        pairs.find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// Sets `KEY=` to another value, or adds the key.
    pub fn set(&mut self, key: &str, value: &str) {
        let text = format!("{key}={value}");
        let start = format!("{key}=");
        match self
            .words
            .iter_mut()
            .skip(5)
            .find(|word| word.starts_with(&start))
        {
            Some(word) => *word = text,
            None => self.words.push(text),
        }
    }

    pub fn remove(&mut self, key: &str) {
        let start = format!("{key}=");
        let mut index = 0;
        self.words.retain(|word| {
            index += 1;
            index <= 5 || !word.starts_with(&start)
        });
    }
}

/// All lines of a history, the oldest first.
#[derive(Clone)]
pub struct Book {
    uuid: [u8; 16],
    pub entries: Vec<Entry>,
}

impl Book {
    pub fn of(history: &History) -> Outcome<Book> {
        let mut entries = Vec::new();
        for (segment, bytes) in history.logs() {
            let mut offset = 0;
            for line in bytes.split_inclusive(|byte| *byte == b'\n') {
                let text = String::from_utf8_lossy(line);
                if let Some((body, _)) = text.trim_end().rsplit_once(" sum=") {
                    entries.push(Entry {
                        segment,
                        offset,
                        words: body.split(' ').map(str::to_string).collect(),
                    });
                }
                offset += line.len() as u64;
            }
        }
        Ok(Book {
            uuid: history.uuid()?,
            entries,
        })
    }

    /// The newest line for which this holds.
    pub fn last(&mut self, is_it: impl Fn(&Entry) -> bool) -> Option<&mut Entry> {
        self.entries.iter_mut().rev().find(|entry| is_it(entry))
    }

    /// Takes lines away; those that name them as the line before name the one before that.
    pub fn take_away(&mut self, is_it: impl Fn(&Entry) -> bool) {
        let mut gone: BTreeMap<String, Option<String>> = BTreeMap::new();
        let all = std::mem::take(&mut self.entries);
        for mut entry in all {
            if let Some(Some(before)) = entry.get("prev").and_then(|at| gone.get(at)).cloned() {
                entry.set("prev", &before);
            } else if entry.get("prev").is_some_and(|at| gone.contains_key(at)) {
                entry.remove("prev");
            }
            if is_it(&entry) {
                let at = format!("{}:{}", entry.segment, entry.offset);
                gone.insert(at, entry.get("prev").map(str::to_string));
            } else {
                self.entries.push(entry);
            }
        }
    }

    /// Writes the lines into the history in place of its own.
    pub fn write(&self, history: &mut History) {
        let mut logs: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for (segment, _) in history.logs() {
            logs.insert(segment, Vec::new());
        }
        let mut moved: BTreeMap<String, String> = BTreeMap::new();
        for entry in &self.entries {
            let log = logs.entry(entry.segment).or_default();
            let old = format!("{}:{}", entry.segment, entry.offset);
            moved.insert(old, format!("{}:{}", entry.segment, log.len()));
            let words = entry.words.iter().map(|word| match word.split_once('=') {
                Some((key @ ("prev" | "back"), at)) => {
                    format!("{key}={}", moved.get(at).map_or(at, String::as_str))
                }
                _ => word.clone(),
            });
            let body = words.collect::<Vec<_>>().join(" ").into_bytes();
            let sum = sum_of(&self.uuid, entry.segment, &body);
            log.extend(body);
            log.extend(format!(" sum={sum:08x}\n").into_bytes());
        }
        history.set_logs(logs);
    }
}
