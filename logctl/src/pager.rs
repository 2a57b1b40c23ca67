// SPDX-License-Identifier: MIT OR Apache-2.0

//! The program that shows long results a screen at a time, on a terminal.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::Arc;

use signal_hook::consts::SIGINT;

use crate::quote::quote_bytes;
use crate::screen::Screen;

/// The bytes that a pipe takes before a program reads it.
const PIPE: usize = 1 << 16;

/// Exit codes of a shell for a command that cannot be run, and for one that is not found.
const NOT_RUN: [i32; 2] = [126, 127];

/// Bytes with a meaning for the shell, or in its assignments.
const SHELL: &[u8] = b"|&;<>()$`\\\"'*?[]{}#~=%!\n";

/// Where results and messages go without a pager.
pub struct Terminal<'w> {
    /// For results.
    pub results: Box<dyn Write + 'w>,
    /// For messages.
    pub messages: Box<dyn Write + 'w>,
}

/// A pager, or the terminal if the pager cannot be run. Dropping it waits for the pager's end.
pub struct Pager<'w> {
    running: Option<Running>,
    terminal: Terminal<'w>,
}

struct Running {
    name: OsString,
    child: Child,
    input: ChildStdin,
    /// All that was written, as long as it may be that nothing was read.
    unread: Option<Vec<u8>>,
}

/// The pager that `LOGCTL_PAGER` or `PAGER` names; `None`: `less`.
pub fn named() -> Option<OsString> {
    let named = |name: &str| std::env::var_os(name);
    named("LOGCTL_PAGER").or_else(|| named("PAGER"))
}

impl<'w> Pager<'w> {
    /// Starts a pager, by a shell if the words need one. An empty name or `cat` means none. A pager that
    /// cannot be run is left out, with a message if it was named.
    pub fn start(named: Option<OsString>, terminal: Terminal<'w>) -> Self {
        let mut pager = Self {
            running: None,
            terminal,
        };
        let is_default = named.is_none();
        let name = named.unwrap_or_else(|| "less".into());
        let Some(mut command) = command(&name) else {
            return pager;
        };
        if std::env::var_os("LESS").is_none() {
            // End where all fits on one screen; show colours; leave the text there.
            command.env("LESS", "FRX");
        }
        match command.stdin(Stdio::piped()).spawn() {
            Ok(mut child) => {
                pager.running = child.stdin.take().map(|input| Running {
                    name,
                    child,
                    input,
                    unread: Some(Vec::new()),
                });
            }
            Err(_) if is_default => {}
            Err(error) => pager.say_unusable(&name, &why(&error)),
        }
        pager
    }

    fn say_unusable(&mut self, name: &OsStr, why: &str) {
        let name = quote_bytes(name.as_bytes(), true);
        let message = format!("The pager {name} {why}: the results are printed without one.\n");
        // A failed write of a message is ignored: the results matter.
        let _ = Screen::new(&mut *self.terminal.messages).print(message.as_bytes());
    }

    /// Ends the pager. If a shell could not run it, prints what was written so far. Returns whether that is so.
    fn end(&mut self) -> io::Result<bool> {
        let Some(mut running) = self.running.take() else {
            return Ok(false);
        };
        // Ctrl+C belongs to the pager from here on; the results are complete.
        let _ = signal_hook::flag::register(SIGINT, Arc::new(AtomicBool::new(false)));
        drop(running.input);
        let code = running.child.wait()?.code();
        let is_unusable = code.is_some_and(|code| NOT_RUN.contains(&code));
        let Some(unread) = running.unread.filter(|_| is_unusable) else {
            return Ok(false);
        };
        let why = match code {
            Some(127) => "was not found",
            _ => "cannot be run",
        };
        self.say_unusable(&running.name, why);
        self.terminal.results.write_all(&unread)?;
        self.terminal.results.flush()?;
        Ok(true)
    }
}

/// The command for a pager; `None`: none is wanted.
fn command(name: &OsStr) -> Option<Command> {
    let bytes = name.as_bytes();
    // A shell would only split the words, and hide that there is no such program.
    let words = bytes.split(u8::is_ascii_whitespace);
    let mut words = words.filter(|word| !word.is_empty()).map(OsStr::from_bytes);
    let program = words.next().filter(|_| bytes != b"cat")?;
    if bytes.iter().any(|byte| SHELL.contains(byte)) || is_builtin(program) {
        let mut shell = Command::new("sh");
        shell.args([OsStr::new("-c"), name]);
        return Some(shell);
    }
    let mut command = Command::new(program);
    command.args(words);
    Some(command)
}

/// Whether a word means a command to a shell only, such as `exec`.
fn is_builtin(word: &OsStr) -> bool {
    const WORDS: [&str; 7] = ["exec", "command", "eval", ".", ":", "builtin", "source"];
    WORDS.iter().any(|known| word == *known)
}

fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "was not found".into(),
        _ => format!("cannot be run ({error})"),
    }
}

impl Write for Pager<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(running) = &mut self.running else {
            return self.terminal.results.write(bytes);
        };
        match running.input.write(bytes) {
            Ok(length) => {
                let unread = running.unread.as_mut();
                if let Some(unread) = unread {
                    unread.extend(bytes.iter().take(length));
                }
                // The pipe has no room for more: the pager has read some.
                running.unread = running.unread.take().filter(|all| all.len() <= PIPE);
                Ok(length)
            }
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => match self.end()? {
                true => self.terminal.results.write(bytes),
                // The user has seen enough.
                false => {
                    self.terminal.results = Box::new(Closed);
                    Err(error)
                }
            },
            Err(error) => Err(error),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.running {
            Some(running) => running.input.flush(),
            None => self.terminal.results.flush(),
        }
    }
}

impl Drop for Pager<'_> {
    fn drop(&mut self) {
        // The results were complete; a terminal that is gone needs no message.
        let _ = self.end();
    }
}

/// The terminal after the user has ended the pager.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
