// SPDX-License-Identifier: GPL-2.0

//! The journal goes to disk before the data that it describes: kprobes on the lower filesystem record the
//! order in which its files are synced, and by which process.

use std::fs;
use std::path::{Path, PathBuf};

use crate::fixture::{put, Fixture};
use crate::mounts::run;
use crate::outcome::{check, At, Outcome, Stop};

/// Where the kernel's events are read.
struct Tracing(PathBuf);

impl Tracing {
    /// Notes each file and each filesystem that ext4 syncs.
    fn begin(at: &Path) -> Outcome<Tracing> {
        fs::create_dir(at)?;
        run(&["mount", "-t", "tracefs", "none", &at.display().to_string()])?;
        let tracing = Tracing(at.into());
        if !at.join("kprobe_events").exists() {
            // qemu/debug-kernel.config leaves tracing out; the stock kernel has it.
            return Err(Stop::Skip("this kernel has no events of probes".into()));
        }
        tracing.set(
            "kprobe_events",
            "p:lfs/file ext4_sync_file\np:lfs/fs ext4_sync_fs\n",
        )?;
        tracing.set("events/lfs/enable", "1")?;
        Ok(tracing)
    }

    fn set(&self, file: &str, text: &str) -> Outcome {
        fs::write(self.0.join(file), text).at(file)
    }

    /// The events since the last call, oldest first: `file` or `fs`, and whether this process synced it
    /// rather than the worker of the journal.
    fn events(&self) -> Outcome<Vec<(String, bool)>> {
        let ours = format!("-{}", std::process::id());
        let text = fs::read_to_string(self.0.join("trace")).at("trace")?;
        self.set("trace", "")?;
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        // `COMM-PID [CPU] FLAGS TIME: EVENT: (FUNCTION)`
        let told = lines.filter_map(|line| {
            let who = line.split('[').next()?.trim();
            let what = line.split(": ").nth(1)?;
            Some((what.to_string(), who.ends_with(&ours)))
        });
        Ok(told.collect())
    }
}

impl Drop for Tracing {
    fn drop(&mut self) {
        let _ = self.set("events/lfs/enable", "0");
        let _ = self.set("kprobe_events", "");
        let _ = run(&["umount", &self.0.display().to_string()]);
    }
}

/// `fsync` and `syncfs` sync the journal first, and only then their own subject.
pub fn journal_first(w: &mut Fixture) -> Outcome {
    // Nothing is synced without a request.
    w.mount_with("commit=3600")?;
    let file = w.open("f")?;
    let tracing = Tracing::begin(&w.base.join("tracing"))?;
    put(&file, 0, b"one")?;
    tracing.events()?;
    file.sync_all()?;
    journal_before("fsync", "file", &tracing.events()?)?;
    put(&file, 3, b"two")?;
    tracing.events()?;
    rustix::fs::syncfs(&file)?;
    journal_before("syncfs", "fs", &tracing.events()?)
}

/// The journal's files were synced by its worker, all of them before `what` was by the caller.
fn journal_before(call: &str, what: &str, events: &[(String, bool)]) -> Outcome {
    let first = events.iter().position(|(name, ours)| *ours && name == what);
    let Some(first) = first else {
        crate::outcome::fail!("{call}: nothing of the caller's was synced: {events:?}");
    };
    let is_journal = |(name, ours): &(String, bool)| !*ours && name == "file";
    check!(
        events[..first].iter().any(is_journal) && !events[first..].iter().any(is_journal),
        "{call}: the journal was not synced before: {events:?}"
    );
    Ok(())
}
