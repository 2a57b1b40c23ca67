// SPDX-License-Identifier: GPL-2.0

//! The fixture of a test: a directory of its own on the lower filesystem with LoggerFS mounted on
//! it, and short methods for operations and checks.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::mounts::{self, Lower, Refusal};
use crate::outcome::{check, fail, same_bytes, At, Outcome, Stop};
use crate::undo;

/// One test's place.
pub struct Fixture {
    pub lower: Lower,
    /// No LoggerFS at all: the test's own steps are tried on the lower filesystem.
    pub raw: bool,
    /// The long tests do all of their work, not only the part that one more filesystem needs.
    pub full: bool,
    /// Every state is looked at, even where another test is for that.
    pub every_state: bool,
    pub seed: u64,
    /// How many seconds a fuzzer goes on; without, a fixed number of rounds.
    pub fuzz: Option<u64>,
    /// The only round of a fuzzer that is wanted.
    pub round: Option<u64>,
    /// How many operations the oracle does.
    pub operations: Option<usize>,
    /// The test's directory on the lower filesystem.
    pub base: PathBuf,
    /// Where the test works.
    pub mnt: PathBuf,
    /// The directory below the mount; none for the private tmpfs.
    pub src: Option<PathBuf>,
    mounted: bool,
}

/// Mount options of a usual test: the history may fill the scratch disk.
const USUAL: &str = "";
const USUAL_PRIVATE: &str = "size=60%";

impl Fixture {
    pub fn new(lower: Lower, raw: bool, full: bool, seed: u64, base: &Path) -> Outcome<Fixture> {
        let mut fixture = Fixture {
            lower,
            raw,
            full: full || lower == Lower::Private,
            every_state: full,
            seed,
            fuzz: from_environment("LFS_FUZZ_SECONDS"),
            round: from_environment("LFS_FUZZ_ROUND"),
            operations: from_environment("LFS_OPERATIONS").map(|number| number as usize),
            base: base.to_path_buf(),
            mnt: base.join("mnt"),
            src: Some(base.join("src")),
            mounted: false,
        };
        fs::create_dir_all(base)?;
        fs::create_dir(base.join("src"))?;
        if raw {
            fixture.mnt = base.join("src");
        } else {
            fs::create_dir(&fixture.mnt)?;
            if lower == Lower::Private {
                fixture.src = None;
            }
        }
        Ok(fixture)
    }

    /// The usual mount.
    pub fn mount(&mut self) -> Outcome {
        self.mount_with("")
    }

    /// Mounts with more options than the usual ones.
    pub fn mount_with(&mut self, more: &str) -> Outcome {
        if self.raw {
            return Ok(());
        }
        match self.try_mount(more) {
            Ok(()) => Ok(()),
            Err(Refusal { error, said }) => fail!("mounting: {error} {said:?}"),
        }
    }

    /// Mounts, or says how that was refused.
    pub fn try_mount(&mut self, more: &str) -> Result<(), Refusal> {
        let usual = match self.lower {
            Lower::Private => USUAL_PRIVATE,
            _ => USUAL,
        };
        let options = match (usual, more) {
            ("", _) => more.to_string(),
            _ if more.split(',').any(|option| option.starts_with("size=")) => more.to_string(),
            (usual, "") => usual.to_string(),
            _ => format!("{usual},{more}"),
        };
        mounts::mount(&self.source(), &self.mnt, &options)?;
        self.mounted = true;
        Ok(())
    }

    /// The mount's source as text.
    pub fn source(&self) -> String {
        match &self.src {
            Some(src) => src.display().to_string(),
            None => "none".into(),
        }
    }

    pub fn is_mounted(&self) -> bool {
        self.mounted
    }

    /// The mount was removed by another process.
    pub fn forget_mount(&mut self) {
        self.mounted = false;
    }

    pub fn unmount(&mut self) -> Outcome {
        if self.mounted {
            mounts::unmount(&self.mnt)?;
            self.mounted = false;
        }
        Ok(())
    }

    /// Unmounts and mounts again, which a history must survive.
    pub fn remount(&mut self) -> Outcome {
        self.unmount()?;
        self.mount()
    }

    /// Unmounts and mounts again with other options.
    pub fn remount_with(&mut self, options: &str) -> Outcome {
        self.unmount()?;
        self.mount_with(options)
    }

    /// A mount with other options over an empty directory.
    pub fn remount_empty(&mut self, options: &str) -> Outcome {
        self.unmount()?;
        if let Some(src) = &self.src {
            fs::remove_dir_all(src)?;
            fs::create_dir(src)?;
        }
        self.mount_with(options)
    }

    /// Unmounts and takes the test's directory away.
    pub fn finish(&mut self) -> Outcome {
        self.unmount()?;
        mounts::run(&["rm", "-rf", "--", &self.base.display().to_string()])?;
        Ok(())
    }

    /// Where the history lies, seen from below.
    pub fn history(&self) -> Outcome<PathBuf> {
        self.below(".loggerfs")
    }

    /// The path of a file of the test in the mount.
    pub fn path(&self, name: &str) -> PathBuf {
        self.mnt.join(name)
    }

    /// The same path on the lower filesystem.
    pub fn below(&self, name: &str) -> Outcome<PathBuf> {
        match &self.src {
            Some(src) => Ok(src.join(name)),
            None => Err(Stop::Skip(
                "a private tmpfs cannot be reached from below".into(),
            )),
        }
    }

    /// How often a long test does its work: `full` times, or `usual` ones.
    pub fn times<T>(&self, full: T, usual: T) -> T {
        if self.full {
            full
        } else {
            usual
        }
    }

    /// As [`Fixture::times`], for the longest tests: with `--full`, over the private tmpfs, and elsewhere.
    pub fn sized<T>(&self, full: T, private: T, usual: T) -> T {
        if self.every_state {
            full
        } else {
            self.times(private, usual)
        }
    }

    /// Here a raw filesystem's part of a test ends.
    pub fn undo_from_here(&self) -> Outcome {
        if self.raw {
            return Err(Stop::RawEnds);
        }
        Ok(())
    }

    /// Makes a file with this content.
    pub fn make(&self, name: &str, content: &[u8]) -> Outcome {
        fs::write(self.path(name), content).at(format!("making {name}"))
    }

    /// Makes a file that has no history yet, where LoggerFS has a below.
    pub fn make_before(&self, name: &str, content: &[u8]) -> Outcome {
        match &self.src {
            Some(src) => fs::write(src.join(name), content).at(format!("making {name} below")),
            None => self.make(name, content),
        }
    }

    /// The log, or nothing on a raw filesystem.
    pub fn log_or_raw(&self, name: &str) -> Outcome<Vec<String>> {
        if self.raw {
            return Ok(Vec::new());
        }
        self.log(name)
    }

    /// Unmounts and mounts where the data outlives that.
    pub fn remount_if_lasting(&mut self) -> Outcome {
        match self.src {
            Some(_) => self.remount(),
            None => Ok(()),
        }
    }

    /// Opens for reading and writing, and creates the file if necessary.
    pub fn open(&self, name: &str) -> Outcome<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        options.open(self.path(name)).at(format!("opening {name}"))
    }

    pub fn read(&self, name: &str) -> Outcome<Vec<u8>> {
        fs::read(self.path(name)).at(format!("reading {name}"))
    }

    /// The content must be this one, through the mount and below it.
    pub fn same(&self, what: &str, name: &str, want: &[u8]) -> Outcome {
        same_bytes(what, &self.read(name)?, want)?;
        let size = fs::metadata(self.path(name))?.len();
        check!(size == want.len() as u64, "{what}: stat says {size} bytes");
        if let Some(src) = &self.src {
            let below = fs::read(src.join(name)).at(format!("reading {name} below"))?;
            same_bytes(format!("{what}, from below"), &below, want)?;
        }
        Ok(())
    }

    /// A shell line, run in the mount. With job control, as an interactive shell has it, but -m as an argument
    /// would need a terminal. The trap keeps the shell from becoming its last command, which no interactive
    /// shell does.
    pub fn sh(&self, line: &str) -> Outcome<String> {
        mounts::run_in(
            &self.mnt,
            &["bash", "-euc", &format!("set -m; trap : EXIT\n{line}")],
        )
    }

    /// Takes back the newest `count` operations of a file.
    pub fn revert(&self, name: &str, count: usize) -> Outcome {
        let file = self.open(name)?;
        undo::revert(&file, count).at(format!("reverting {count} of {name}"))
    }

    /// As above, for mounts that must be refused.
    pub fn try_revert(&self, name: &str, count: usize) -> io::Result<()> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.path(name))?;
        undo::revert(&file, count)
    }

    /// The live lines of the file as `OP OFFSET LENGTH`, oldest first.
    pub fn log(&self, name: &str) -> Outcome<Vec<String>> {
        undo::briefs(&self.open(name)?)
    }

    /// The log must hold exactly these.
    pub fn same_log(&self, what: &str, name: &str, want: &[&str]) -> Outcome {
        let got = self.log(name)?;
        check!(got == want, "{what}: the log says {got:?}, want {want:?}");
        Ok(())
    }

    /// Starts this program's own side process (`work.rs`).
    pub fn worker(&self, words: &[&str]) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command.arg("work").args(words).current_dir(&self.mnt);
        command
    }

    /// The directory for a second, raw copy of the same work, on the same kind of filesystem.
    pub fn beside(&self) -> Outcome<PathBuf> {
        let beside = self.base.join("raw");
        fs::create_dir_all(&beside)?;
        Ok(beside)
    }
}

/// Settings of the parent process for the fuzzers.
fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Writes all bytes at an offset, with no other call.
pub fn put(file: &File, offset: u64, bytes: &[u8]) -> Outcome {
    let written = file
        .write_at(bytes, offset)
        .at(format!("writing {} bytes at {offset}", bytes.len()))?;
    check!(
        written == bytes.len(),
        "writing {} bytes at {offset}: only {written} written",
        bytes.len()
    );
    Ok(())
}
