// SPDX-License-Identifier: GPL-2.0

//! How removals scale: two processes, in a directory each, beside one. Timed by the clock, on two
//! processors; the raw filesystem and LoggerFS take turns, and each turn gives a pair.

use std::fs::{self, File};
use std::io::{self, Error};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::work::now;

const TURNS: usize = 9;
const FILES: usize = 1500;

/// The share of the raw filesystem's own gain that LoggerFS is to have.
const MUST: f64 = 0.9;

/// Nanoseconds in which workers start.
const HEAD_START: f64 = 3e8;

/// `scale RAW MOUNT`: whether the median is too low.
pub fn run(places: &[String]) -> io::Result<bool> {
    let [raw, mount] = places else {
        return Err(Error::other("scale RAW MOUNT"));
    };
    let mut shares = Vec::new();
    println!("removals a second, one process and two: raw | LoggerFS | share of raw's gain");
    for _ in 0..TURNS {
        let (raw, own) = (gain(raw.as_ref())?, gain(mount.as_ref())?);
        let share = own.gain() / raw.gain();
        println!("{} | {} | {share:.2}", raw.text(), own.text());
        shares.push(share);
    }
    shares.sort_by(f64::total_cmp);
    let median = shares[TURNS / 2];
    println!("median share {median:.2} (must: {MUST})");
    Ok(median < MUST)
}

/// Removals a second.
struct Speed {
    one: f64,
    two: f64,
}

impl Speed {
    fn gain(&self) -> f64 {
        self.two / self.one
    }

    fn text(&self) -> String {
        format!("{:.0} {:.0} ({:.2})", self.one, self.two, self.gain())
    }
}

fn gain(place: &Path) -> io::Result<Speed> {
    Ok(Speed {
        one: speed(place, 1)?,
        two: speed(place, 2)?,
    })
}

fn speed(place: &Path, processes: usize) -> io::Result<f64> {
    let directories: Vec<PathBuf> = (0..processes)
        .map(|number| place.join(format!("dir{number}")))
        .collect();
    for directory in &directories {
        fs::create_dir_all(directory)?;
        for number in 0..FILES {
            fs::write(directory.join(format!("file{number}")), b"some content")?;
        }
    }
    rustix::fs::syncfs(File::open(place)?)?;
    sleep(Duration::from_millis(200));
    let start = now() + HEAD_START;
    let begin = |directory: &PathBuf| worker(directory, start);
    let workers: Vec<Child> = directories.iter().map(begin).collect::<Result<_, _>>()?;
    let mut end = start;
    for worker in workers {
        let output = worker.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let ended: f64 = text.trim().parse().map_err(Error::other)?;
        end = f64::max(end, ended);
    }
    Ok((processes * FILES) as f64 * 1e9 / (end - start))
}

fn worker(directory: &Path, start: f64) -> io::Result<Child> {
    Command::new("/proc/self/exe")
        .arg("scale-worker")
        .arg(directory)
        .arg(start.to_string())
        .stdout(Stdio::piped())
        .spawn()
}

/// `scale-worker DIRECTORY START`: removes all, and prints when that was done.
pub fn work(words: &[String]) -> io::Result<bool> {
    let [directory, start] = words else {
        return Err(Error::other("scale-worker DIRECTORY START"));
    };
    let start: f64 = start.parse().map_err(Error::other)?;
    let directory = Path::new(directory);
    let paths: Vec<PathBuf> = (0..FILES)
        .map(|number| directory.join(format!("file{number}")))
        .collect();
    if now() > start {
        return Err(Error::other("too late"));
    }
    while now() < start {
        std::hint::spin_loop();
    }
    for path in &paths {
        fs::remove_file(path)?;
    }
    println!("{}", now());
    Ok(false)
}
