// SPDX-License-Identifier: GPL-2.0

//! The sessions that the documents print: each command is run, and its output compared with the printed one.
//!
//! `SNAPSHOTS=overwrite` in the environment writes each document with the output as it is now, to
//! `printed/` in the directory of the results.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use lfs_shared::printed::{self, difference, normalized, Document, Part};

use crate::fixture::Fixture;
use crate::harness::Test;
use crate::mounts::Lower;
use crate::outcome::{check, fail, At, Outcome};

pub const TESTS: &[Test] = &[Test::new("printed-sessions", sessions)
    .unmounted()
    .only(&[Lower::Private, Lower::Ext4])
    .seconds(120)];

/// Nothing may keep a mount in use at the end of a document.
const UNMOUNT: &str =
    "cd /; for place in /mnt /srv/notes; do while mountpoint -q $place; do umount $place; done; done";

fn sessions(w: &mut Fixture) -> Outcome {
    let mut differs = Vec::new();
    for document in &printed::RUN {
        let source = w.base.join(document.path.replace('/', "-"));
        differs.extend(run(document, &source).at(document.path)?);
    }
    if let Some(first) = differs.first() {
        let others = differs.len() - 1;
        fail!("{first}; and {others} more commands print other lines");
    }
    Ok(())
}

/// Runs the sessions of a document over an empty directory; returns the differences.
fn run(document: &Document, source: &Path) -> Outcome<Vec<String>> {
    let parts = match document.parts() {
        Ok(parts) => parts,
        Err(problem) => fail!("{problem}"),
    };
    fs::create_dir(source)?;
    let mut shell = Shell::start()?;
    let source = source.display();
    shell.silent(&format!(
        "mkdir -p /srv/notes; mount --bind {source} /srv/notes"
    ))?;
    let (mut differs, mut outputs) = (Vec::new(), Vec::new());
    for part in &parts {
        match part {
            Part::Before(commands) => shell.silent(commands)?,
            Part::Step(step) => {
                let (output, code) = shell.run(&step.command)?;
                check!(
                    code == 0 || !output.is_empty(),
                    "'{}' fails without a word: {code}",
                    step.command
                );
                let lines = difference(&step.output, &output);
                if !lines.is_empty() {
                    let place = format!("{}:{}", document.path, step.at);
                    println!("# {place}: {}\n#   {}", step.command, lines.join("\n#   "));
                    differs.push(format!("{place}: {}: {lines:?}", step.command));
                }
                outputs.push(normalized(&output));
            }
        }
    }
    shell.silent(UNMOUNT)?;
    if std::env::var("SNAPSHOTS").is_ok_and(|word| word == "overwrite") {
        overwrite(
            document,
            &document.mended(&printed::steps(&parts), &outputs),
        )?;
    }
    Ok(differs)
}

fn overwrite(document: &Document, text: &str) -> Outcome {
    let out = std::env::var("LFS_OUT").unwrap_or_else(|_| "/run".into());
    let file = Path::new(&out).join("printed").join(document.path);
    fs::create_dir_all(file.parent().unwrap_or(&file))?;
    fs::write(&file, text).at(file.display())
}

/// A shell that leads a session, as one at a prompt does, with mounts of its own.
struct Shell {
    child: Child,
    commands: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// After the output of each command: this byte, and the exit status.
const END: u8 = 0x1e;

impl Shell {
    fn start() -> Outcome<Shell> {
        let mut child = Command::new("setpriv")
            .args([
                "--pdeathsig",
                "KILL",
                "unshare",
                "--mount",
                "setsid",
                "bash",
            ])
            .current_dir("/")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .at("a shell")?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(commands), Some(output)) => {
                let mut shell = Shell {
                    child,
                    commands,
                    output: BufReader::new(output),
                };
                // As an interactive shell does: each command line is a process group.
                shell.silent("set -m")?;
                Ok(shell)
            }
            _ => fail!("a shell without pipes"),
        }
    }

    /// The lines that a command prints, and its exit status.
    fn run(&mut self, command: &str) -> Outcome<(Vec<String>, i32)> {
        let line = format!("{{ {command}\n}} 2>&1 </dev/null; printf '\\036%d\\n' $?\n");
        self.commands.write_all(line.as_bytes()).at(command)?;
        let (mut output, mut status) = (Vec::new(), String::new());
        self.output.read_until(END, &mut output).at(command)?;
        self.output.read_line(&mut status).at(command)?;
        if output.last() == Some(&END) {
            output.pop();
        }
        let text = String::from_utf8_lossy(&output);
        let Ok(code) = status.trim_end().parse() else {
            fail!("'{command}' ends the shell: {text}");
        };
        Ok((text.lines().map(str::to_string).collect(), code))
    }

    /// Commands that have to succeed, each of them.
    fn silent(&mut self, commands: &str) -> Outcome {
        let (output, code) = self.run(&format!("set -e; {commands}\nset +e"))?;
        check!(code == 0, "'{commands}': {code}, {output:?}");
        Ok(())
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
