// SPDX-License-Identifier: GPL-2.0

//! The table as text, and as JSON.

use crate::work::Cost;

/// One row over one lower filesystem.
pub struct Entry {
    pub lower: &'static str,
    pub name: &'static str,
    /// The raw filesystem; for rows about long histories: a short one.
    pub base: Cost,
    pub overlay: Option<Cost>,
    pub ours: Cost,
    pub must: Option<f64>,
    pub aim: Option<f64>,
    pub gate: bool,
    pub long: bool,
}

impl Entry {
    fn ratio(&self) -> f64 {
        self.ours.synced / self.base.synced
    }

    /// One boot differs from the next by 0.05 %; more than that is a miss.
    fn keeps(limit: Option<f64>, ratio: f64) -> bool {
        limit.is_none_or(|limit| ratio <= limit * 1.001)
    }

    fn verdict(&self) -> &'static str {
        let (must, aim) = (
            Self::keeps(self.must, self.ratio()),
            Self::keeps(self.aim, self.ratio()),
        );
        match (must, aim && self.aim.is_some()) {
            (false, _) if self.gate => "MISSED",
            (false, _) => "missed (does not count yet)",
            (true, true) => "aim reached",
            (true, false) => "must reached",
        }
    }
}

#[derive(Default)]
pub struct Table {
    pub entries: Vec<Entry>,
    /// Rows that could not be measured, and why.
    pub broken: Vec<String>,
}

const BIAS: &str = "\
Instructions a call, in thousands (1,000 instructions = 1 us of guest time), counted by QEMU's
-icount on the stock kernel, until after a syncfs of the mount, so that the worker's share is in;
first round thrown away; history full and recycled. The ratio is LoggerFS over raw (for the rows
about history: long over short). Counting prices copying higher and cache misses lower than
hardware does; threads, tails and fsync are not measured this way.";

impl Table {
    pub fn missed(&self) -> bool {
        let missed = |entry: &Entry| entry.gate && !Entry::keeps(entry.must, entry.ratio());
        self.entries.iter().any(missed) || !self.broken.is_empty()
    }

    pub fn print(&self, lines: usize) {
        println!("{BIAS}\nA long history has {lines} lines here, a short one 10.\n");
        println!(
            "{:<30} {:<6} {:>9} {:>9} {:>9} {:>9} {:>7} {:>7} {:>7}",
            "work", "lower", "raw", "overlayfs", "LoggerFS", "added", "ratio", "must", "aim"
        );
        for entry in &self.entries {
            let thousands = |count: f64| format!("{:.2}", count / 1000.0);
            let times =
                |limit: Option<f64>| limit.map_or("-".into(), |limit| format!("{limit:.2}"));
            println!(
                "{:<30} {:<6} {:>9} {:>9} {:>9} {:>9} {:>7.2} {:>7} {:>7}  {}",
                entry.name,
                entry.lower,
                thousands(entry.base.synced),
                entry
                    .overlay
                    .map_or("-".into(), |cost| thousands(cost.synced)),
                thousands(entry.ours.synced),
                thousands(entry.ours.synced - entry.base.synced),
                entry.ratio(),
                times(entry.must),
                times(entry.aim),
                entry.verdict()
            );
        }
        println!();
        for broken in &self.broken {
            println!("not measured: {broken}");
        }
        match self.missed() {
            true => println!("A must of this table is missed, or a row could not be measured."),
            false => println!("Every must that counts is reached."),
        }
    }

    pub fn json(&self, lines: usize) -> String {
        let rows: Vec<String> = self.entries.iter().map(row).collect();
        format!(
            "{{\"v\":1,\"unit\":\"instructions a call\",\"long_history_lines\":{lines},\"rows\":[\n{}\n]}}\n",
            rows.join(",\n")
        )
    }
}

fn row(entry: &Entry) -> String {
    let number = |value: Option<f64>| value.map_or("null".into(), |value| format!("{value:.4}"));
    let cost = |cost: Option<Cost>| {
        cost.map_or("null".into(), |cost| {
            format!(
                "{{\"calls\":{:.1},\"synced\":{:.1}}}",
                cost.calls, cost.synced
            )
        })
    };
    format!(
        " {{\"work\":\"{}\",\"lower\":\"{}\",\"{}\":{},\"overlayfs\":{},\"{}\":{},\"added\":{:.1},\
         \"ratio\":{:.4},\"must\":{},\"aim\":{},\"gate\":{},\"verdict\":\"{}\"}}",
        entry.name,
        entry.lower,
        if entry.long { "short" } else { "raw" },
        cost(Some(entry.base)),
        cost(entry.overlay),
        if entry.long { "long" } else { "loggerfs" },
        cost(Some(entry.ours)),
        entry.ours.synced - entry.base.synced,
        entry.ratio(),
        number(entry.must),
        number(entry.aim),
        entry.gate,
        entry.verdict()
    )
}
