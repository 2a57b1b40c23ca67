// SPDX-License-Identifier: GPL-2.0

//! Histories that were damaged or crafted between mounts: a mount is refused with a message, or
//! later requests are served or refused, and files get no bytes that they never had.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use super::lasting::sentence;
use crate::crafted::History;
use crate::fixture::{put, Fixture};
use crate::harness::Test;
use crate::mounts::{Lower, Refusal};
use crate::outcome::{check, name, same_bytes, At, Outcome};
use crate::pace::{count, Rounds};
use crate::shadow::Random;
use crate::undo;

const BELOW: &[Lower] = &[Lower::Tmpfs, Lower::Ext4, Lower::Xfs, Lower::Btrfs];

pub const TESTS: &[Test] = &[
    Test::new("fuzz-damage", damage)
        .only(BELOW)
        .unmounted()
        .lengthy()
        .seconds(120),
    Test::new("fuzz-forgery", crafted_history)
        .only(BELOW)
        .unmounted()
        .lengthy()
        .seconds(120),
];

/// How many rounds a usual run has.
const ROUNDS: u64 = 20;

const FILES: [&str; 3] = ["a", "b", "c"];

/// How many damaged variants one good history serves for at most.
const VARIANTS: u32 = 12;

/// Larger files are not read: a forged line may have made them so.
const LARGEST: u64 = 1 << 20;

/// The contents of a file since its creation.
#[derive(Default)]
struct Past {
    /// The live contents, the present one last.
    live: Vec<Vec<u8>>,
    /// All that there ever were.
    all: Vec<Vec<u8>>,
    /// `obj=` of its lines.
    object: String,
    changed: Option<(i64, i64)>,
}

impl Past {
    fn enter(&mut self, content: Vec<u8>) {
        self.all.push(content.clone());
        self.live.push(content);
    }

    fn now(&self) -> &[u8] {
        self.live.last().map(Vec::as_slice).unwrap_or_default()
    }
}

/// Files with a good history.
struct Sound {
    files: Vec<Past>,
    history: History,
    uses: u32,
}

fn damage(w: &mut Fixture) -> Outcome {
    let mut rounds = Rounds::new(w, "fuzz-damage", ROUNDS);
    let mut sound = None;
    while let Some(mut random) = rounds.next() {
        let outcome = round(w, &mut sound, &mut random, false);
        rounds.judge(outcome, "a damaged history")?;
    }
    Ok(())
}

fn crafted_history(w: &mut Fixture) -> Outcome {
    let mut rounds = Rounds::new(w, "fuzz-forgery", ROUNDS);
    let mut sound = None;
    while let Some(mut random) = rounds.next() {
        let outcome = round(w, &mut sound, &mut random, true);
        rounds.judge(outcome, "a forged history")?;
    }
    Ok(())
}

/// A good history, damaged, mounted, asked.
fn round(w: &mut Fixture, kept: &mut Option<Sound>, random: &mut Random, craft: bool) -> Outcome {
    // A round must not depend on earlier ones.
    let (making, mut random) = (random.next(), random.clone());
    let sound = match kept.take() {
        Some(sound) if sound.uses < VARIANTS && w.round.is_none() => sound,
        _ => sound(w, &mut Random::new(making))?,
    };
    let mut history = sound.history.clone();
    let mut said = Vec::new();
    for _ in 0..=random.below(6) / 3 {
        if craft {
            let object = &sound.files[random.below(3) as usize].object;
            said.push(history.craft(&mut random, object)?);
        }
        if !craft || random.below(8) == 0 {
            said.push(history.damage(&mut random));
        }
    }
    let said = said.join("; ");
    history.write(&w.history()?)?;
    let untouched = ask(w, &sound, &mut random, craft).at(&said)?;
    if untouched {
        *kept = Some(Sound {
            uses: sound.uses + 1,
            ..sound
        });
    }
    Ok(())
}

/// Makes files with a history of two or three mounts, the last one cut off in one of three.
fn sound(w: &mut Fixture, random: &mut Random) -> Outcome<Sound> {
    let mut files: Vec<Past> = FILES.iter().map(|_| Past::default()).collect();
    w.remount_empty("")?;
    let mounts = 1 + random.below(3);
    for mount in 0..mounts {
        if mount > 0 {
            w.remount()?;
        }
        for (name, past) in FILES.iter().zip(&mut files) {
            let file = w.open(name)?;
            if past.all.is_empty() {
                past.enter(Vec::new());
            }
            for _ in 0..1 + random.below(4) {
                change(&file, past, random)?;
            }
        }
    }
    for (name, past) in FILES.iter().zip(&mut files) {
        let lines = undo::lines(&w.open(name)?, true)?;
        let object = lines.last().and_then(|line| line.key("obj"));
        past.object = object.unwrap_or("1.1").to_string();
    }
    let home = w.history()?;
    let history = if random.below(3) == 0 {
        rustix::fs::syncfs(File::open(&w.mnt)?)?;
        let history = History::read(&home)?;
        w.unmount()?;
        history
    } else {
        w.unmount()?;
        History::read(&home)?
    };
    for (name, past) in FILES.iter().zip(&mut files) {
        past.changed = Some(changed(w, name)?);
    }
    Ok(Sound {
        files,
        history,
        uses: 0,
    })
}

/// When a file was last changed, as the lower filesystem says.
fn changed(w: &Fixture, name: &str) -> Outcome<(i64, i64)> {
    let stat = fs::metadata(w.below(name)?)?;
    Ok((stat.ctime(), stat.ctime_nsec()))
}

/// A write, a truncation or a revert.
fn change(file: &File, past: &mut Past, random: &mut Random) -> Outcome {
    let size = past.now().len() as u64;
    match random.below(8) {
        0 if past.live.len() > 1 => {
            undo::revert(file, 1).at("reverting")?;
            past.live.pop();
        }
        1 => {
            let size = random.below(3000);
            file.set_len(size)?;
            let mut now = past.now().to_vec();
            now.resize(size as usize, 0);
            past.enter(now);
        }
        _ => {
            let at = random.below(size + 200);
            let length = 1 + random.below(700) as usize;
            let bytes = random.bytes(length);
            put(file, at, &bytes)?;
            let (mut now, at) = (past.now().to_vec(), at as usize);
            now.resize(now.len().max(at + length), 0);
            now[at..at + length].copy_from_slice(&bytes);
            past.enter(now);
        }
    }
    Ok(())
}

/// Mounts and asks everything; true when no file was changed.
fn ask(w: &mut Fixture, sound: &Sound, random: &mut Random, crafted: bool) -> Outcome<bool> {
    match w.try_mount("") {
        Err(Refusal { said, error }) => {
            count("mounts refused");
            sentence(&said).at(error)?;
        }
        Ok(()) => {
            count("mounted");
            for (name, past) in FILES.iter().zip(&sound.files) {
                file(w, name, past, random, crafted).at(format!("file {name}"))?;
            }
            w.unmount()?;
        }
    }
    let mut untouched = true;
    for (name, past) in FILES.iter().zip(&sound.files) {
        let same = Some(changed(w, name)?) == past.changed;
        if same {
            let below = fs::read(w.below(name)?)?;
            same_bytes(format!("{name}, never changed"), &below, past.now())?;
        }
        untouched &= same;
    }
    Ok(untouched)
}

/// Reads the log of a file in all ways and takes its operations back.
fn file(w: &Fixture, path: &str, past: &Past, random: &mut Random, crafted: bool) -> Outcome {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(w.path(path))?;
    let mut now = past.now().to_vec();
    if !crafted {
        same_bytes("at the mount", &w.read(path)?, &now)?;
    }
    read_log(&file, crafted)?;
    if random.below(12) == 0 {
        tool(w, path)?;
    }
    for step in 0..past.live.len() + 2 {
        let many = if random.below(4) == 0 {
            1 + random.below(4)
        } else {
            1
        };
        let force = crafted && random.below(3) == 0;
        let (result, answer) = undo::revert_more(&file, many, u32::from(force));
        count(match &result {
            Ok(()) => "reverted",
            Err(error) if error.raw_os_error() == Some(libc::ENODATA) => "reverts without data",
            Err(error) if error.raw_os_error() == Some(libc::EUCLEAN) => {
                "reverts refused as damaged"
            }
            Err(error) if error.raw_os_error() == Some(libc::ESTALE) => {
                "reverts refused as external"
            }
            Err(_) => "reverts refused otherwise",
        });
        if crafted {
            refused_well(result.err())?;
            continue;
        }
        let found = w.read(path)?;
        match result {
            Ok(()) => {
                check!(
                    past.all.contains(&found),
                    "step {step}: {many} reverted, and the file holds {} bytes that it never held",
                    found.len()
                );
                now = found;
            }
            Err(error) => {
                same_bytes(format!("refused with {error}, {answer:?}"), &found, &now)?;
                refused_well(Some(error))?;
                break;
            }
        }
    }
    if fs::metadata(w.path(path))?.len() <= LARGEST {
        w.read(path)?;
    }
    read_log(&file, crafted)
}

/// A refusal must be one that says something.
fn refused_well(error: Option<io::Error>) -> Outcome {
    let Some(error) = error else { return Ok(()) };
    let errno = error.raw_os_error().unwrap_or(0);
    let known = [
        libc::ENODATA,
        libc::EUCLEAN,
        libc::ESTALE,
        libc::EOPNOTSUPP,
        libc::EFBIG,
        libc::EINVAL,
        libc::ENOSPC,
        libc::EIO,
        libc::EBUSY,
    ];
    check!(
        known.contains(&errno),
        "refused with {error} ({})",
        name(errno)
    );
    Ok(())
}

/// The log, raw and folded, by both commands.
fn read_log(file: &File, crafted: bool) -> Outcome {
    for all in [true, false] {
        let read = undo::raw_log(file, all);
        if let (Ok(text), false) = (&read, crafted) {
            undo::parse_lines(text).at("a damaged log gives no other lines")?;
        }
        refused_well(read.err())?;
    }
    refused_well(undo::page(file).err())
}

/// logctl, too, comes to an end.
fn tool(w: &Fixture, path: &str) -> Outcome {
    for words in [
        &["readlog", "--all", "--json"][..],
        &["status"],
        &["readlog"],
    ] {
        let mut command = Command::new("logctl");
        command.arg(words[0]).arg(path).args(&words[1..]);
        let output = command.current_dir(&w.mnt).output().at("logctl")?;
        let code = output.status.code();
        check!(
            matches!(code, Some(0 | 1 | 4)),
            "logctl {words:?} ends with {code:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
