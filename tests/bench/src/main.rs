// SPDX-License-Identifier: GPL-2.0

//! Counts the instructions that LoggerFS's operations cost, beside the raw filesystem and
//! overlayfs in the same guest, and judges them by `budget.rs`. Runs in the guest, as root,
//! under QEMU's `-icount shift=0`; `run` beside this crate starts it.

mod budget;
mod scale;
mod table;
mod work;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{exit, Command};

use lfs_shared::sys;

use budget::{Limit, Lower, Row, Work, ROWS};
use table::{Entry, Table};
use work::Cost;

const HELP: &str = "lfs-bench [--lines N] [--only TEXT] [--lower NAME] [--fresh] [--out FILE]";

/// More than the whole history takes by default: a fifth of the lower filesystem, which has the
/// size of a small real one (its memory is allocated on use).
const HISTORY: u64 = 640 << 20;

/// The options of the command line.
struct Options {
    /// How many lines a long history has.
    lines: usize,
    only: String,
    /// The lower filesystems.
    lowers: Vec<Lower>,
    /// Measure with an empty history instead of a full one that is recycled.
    fresh: bool,
    out: PathBuf,
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = match words.split_first() {
        Some((verb, words)) if verb == "scale" => scale::run(words),
        Some((verb, words)) if verb == "scale-worker" => scale::work(words),
        _ => bench(&parse()),
    };
    match done {
        Ok(missed) => exit(i32::from(missed)),
        Err(error) => {
            eprintln!("lfs-bench: {error}");
            exit(2);
        }
    }
}

fn parse() -> Options {
    let mut options = Options {
        lines: 100_000,
        only: String::new(),
        lowers: Lower::ALL.to_vec(),
        fresh: false,
        out: "/out/bench.json".into(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| usage());
        match word.as_str() {
            "--lines" => options.lines = value().parse().unwrap_or_else(|_| usage()),
            "--only" => options.only = value(),
            "--lower" => {
                let name = value();
                options.lowers.retain(|lower| lower.name() == name);
                if options.lowers.is_empty() {
                    usage();
                }
            }
            "--fresh" => options.fresh = true,
            "--out" => options.out = value().into(),
            _ => usage(),
        }
    }
    options
}

fn usage() -> ! {
    eprintln!("{HELP}");
    exit(2);
}

/// Runs every row; whether a "must" that counts was missed.
fn bench(options: &Options) -> io::Result<bool> {
    let mut table = Table::default();
    for &lower in &options.lowers {
        let place = Place::make(lower, options.fresh)?;
        for row in ROWS.iter().filter(|row| row.name.contains(&options.only)) {
            eprintln!("{}: {}", lower.name(), row.name);
            let entry = match row.work {
                Work::RevertLast => place.revert_last(row, options.lines),
                Work::Mount => place.mount_time(row, options.lines),
                _ => place.compare(row),
            };
            match entry {
                Ok(entry) => table.entries.push(entry),
                Err(error) => table
                    .broken
                    .push(format!("{}, {}: {error}", row.name, lower.name())),
            }
        }
        if let Err(error) = place.leave() {
            table.broken.push(format!("unmounting: {error}"));
        }
    }
    table.print(options.lines);
    fs::write(&options.out, table.json(options.lines))?;
    Ok(table.missed())
}

/// One lower filesystem with all mounts over it.
struct Place {
    lower: Lower,
    at: PathBuf,
}

impl Place {
    fn make(lower: Lower, fresh: bool) -> io::Result<Place> {
        let at = PathBuf::from(format!("/run/bench-{}", lower.name()));
        let place = Place { lower, at };
        fs::create_dir_all(&place.at)?;
        let base = place.at.display();
        match lower {
            Lower::Tmpfs => sh(&format!("mount -t tmpfs -o size=3000M lower {base}"))?,
            Lower::Ext4 => sh(&format!(
                "modprobe brd rd_nr=1 rd_size=3072000; \
                 mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 /dev/ram0; \
                 mount /dev/ram0 {base}"
            ))?,
        }
        sh(&format!(
            "cd {base}; mkdir raw ov ov/lower ov/upper ov/work overlay off off.src on on.src; \
             mount -t overlay -o lowerdir=ov/lower,upperdir=ov/upper,workdir=ov/work o overlay; \
             mount -t loggerfs -o history=off {base}/off.src off; \
             mount -t loggerfs {base}/on.src on"
        ))?;
        if !fresh {
            work::fill_history(&place.at.join("on"), HISTORY)?;
        }
        Ok(place)
    }

    fn leave(&self) -> io::Result<()> {
        let base = self.at.display();
        sh(&format!(
            "umount {base}/on {base}/off {base}/overlay; umount {base}"
        ))?;
        if self.lower == Lower::Ext4 {
            sh("rmmod brd")?;
        }
        Ok(())
    }

    /// Raw, overlayfs and LoggerFS doing the same.
    fn compare(&self, row: &Row) -> io::Result<Entry> {
        let raw = work::measure(row.work, &self.at.join("raw"))?;
        let overlay = work::measure(row.work, &self.at.join("overlay"))?;
        let ours = if row.history { "on" } else { "off" };
        let ours = work::measure(row.work, &self.at.join(ours))?;
        Ok(self.entry(row, raw, Some(overlay), ours))
    }

    fn entry(&self, row: &Row, base: Cost, overlay: Option<Cost>, ours: Cost) -> Entry {
        let limit = |limit: Limit| match (limit, overlay) {
            (Limit::Raw(times) | Limit::Short(times), _) => Some(times),
            (Limit::Overlay, Some(overlay)) => Some(overlay.synced / base.synced),
            (Limit::Overlay | Limit::None, _) => None,
        };
        Entry {
            lower: self.lower.name(),
            name: row.name,
            base,
            overlay,
            ours,
            must: limit(row.must(self.lower)),
            aim: limit(row.aim(self.lower)),
            gate: row.gate,
            long: matches!(row.must(self.lower), Limit::Short(_)),
        }
    }

    /// A mount of its own with a history of so many lines.
    fn with_lines(&self, lines: usize) -> io::Result<(String, PathBuf)> {
        let base = self.at.display();
        let mount =
            format!("mount -t loggerfs -o history_max=256M {base}/l{lines}.src {base}/l{lines}");
        sh(&format!("cd {base}; mkdir l{lines} l{lines}.src; {mount}"))?;
        let at = self.at.join(format!("l{lines}"));
        work::many_lines(&at.join("file"), lines)?;
        Ok((mount, at))
    }

    fn drop_lines(&self, at: &Path) -> io::Result<()> {
        let at = at.display();
        sh(&format!("umount {at}; rm -rf {at} {at}.src"))
    }

    fn revert_last(&self, row: &Row, lines: usize) -> io::Result<Entry> {
        const REVERT: u64 = 0x2000;
        let cost = |lines: usize| -> io::Result<Cost> {
            let (_, at) = self.with_lines(lines)?;
            let cost = work::revert_last(&at.join("file"), |file| {
                sys::ioctl_number(file, REVERT, 1).map(drop)
            })?;
            self.drop_lines(&at)?;
            Ok(cost)
        };
        Ok(self.entry(row, cost(10)?, None, cost(lines)?))
    }

    fn mount_time(&self, row: &Row, lines: usize) -> io::Result<Entry> {
        let cost = |lines: usize| -> io::Result<Cost> {
            let (mount, at) = self.with_lines(lines)?;
            let mut spent = 0.0;
            for round in 0..work::ROUNDS {
                sh(&format!("umount {}; sync", at.display()))?;
                let start = work::now();
                sh(&mount)?;
                if round > 0 {
                    spent += (work::now() - start) / (work::ROUNDS - 1) as f64;
                }
            }
            self.drop_lines(&at)?;
            Ok(Cost {
                calls: spent,
                synced: spent,
            })
        };
        Ok(self.entry(row, cost(10)?, None, cost(lines)?))
    }
}

fn sh(script: &str) -> io::Result<()> {
    let status = Command::new("sh").args(["-ec", script]).status()?;
    if status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{script}: {status}")))
}
