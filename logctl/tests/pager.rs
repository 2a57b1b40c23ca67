// SPDX-License-Identifier: MIT OR Apache-2.0

//! Results appear also where the pager cannot be run.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::rc::Rc;

use logctl::pager::{Pager, Terminal};

/// A directory that goes with it.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let name = format!("logctl-pager-{name}-{}", std::process::id());
        let directory = Self(std::env::temp_dir().join(name));
        fs::create_dir_all(&directory.0).unwrap();
        directory
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A part of a terminal.
#[derive(Clone, Default)]
struct Shown(Rc<RefCell<Vec<u8>>>);

impl Write for Shown {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shown {
    fn text(&self) -> String {
        String::from_utf8(self.0.borrow().clone()).unwrap()
    }
}

/// Writes pieces to a pager, as long as that succeeds. Returns the results and the messages on the terminal.
fn show(pager: Option<&str>, pieces: &[&str]) -> (String, String, io::Result<()>) {
    let (results, messages) = (Shown::default(), Shown::default());
    let terminal = Terminal {
        results: Box::new(results.clone()),
        messages: Box::new(messages.clone()),
    };
    let mut pager = Pager::start(pager.map(OsString::from), terminal);
    let mut write = |piece: &&str| {
        pager
            .write_all(piece.as_bytes())
            .and_then(|()| pager.flush())
    };
    let written = pieces.iter().try_for_each(&mut write);
    drop(pager);
    (results.text(), messages.text(), written)
}

const PIECES: &[&str] = &["one\n", "two\n", "three\n"];
const ALL: &str = "one\ntwo\nthree\n";

#[test]
fn a_pager_that_is_not_there_is_replaced_by_the_terminal() {
    for name in [
        "no-such-pager",
        "no-such-pager -F",
        "/no/such/pager",
        "no-such-pager 2>&1",
    ] {
        let (results, messages, written) = show(Some(name), PIECES);
        written.unwrap();
        assert_eq!(results, ALL, "{name}");
        let want =
            format!("The pager '{name}' was not found: the results are printed without one.\n");
        assert_eq!(messages, want);
    }
    // More than a pipe takes, by a shell, which fails some time in between.
    let long = "0123456789abcde\n".repeat(50_000);
    let pieces: Vec<&str> = (0..long.len())
        .step_by(4000)
        .map(|at| &long[at..long.len().min(at + 4000)])
        .collect();
    let (results, messages, written) = show(Some("exec no-such-pager 2> /dev/null"), &pieces);
    written.unwrap();
    assert!(results == long, "{} of {} bytes", results.len(), long.len());
    assert_eq!(messages.lines().count(), 1, "{messages}");
}

#[test]
fn a_pager_that_cannot_be_executed_is_replaced_by_the_terminal() {
    let dir = Directory::new("mode");
    let file = dir.0.join("pager");
    fs::write(&file, "#!/bin/sh\ncat\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let name = file.to_str().unwrap();
    let (results, messages, written) = show(Some(name), PIECES);
    written.unwrap();
    assert_eq!(results, ALL);
    assert_eq!(
        messages,
        format!("The pager '{name}' cannot be run (Permission denied (os error 13)): the results are printed without one.\n")
    );
    let (results, messages, written) = show(Some(&format!("{name} 2>/dev/null")), PIECES);
    written.unwrap();
    assert_eq!(results, ALL);
    assert!(
        messages.contains("cannot be run: the results"),
        "{messages}"
    );
    let (results, messages, written) = show(Some(dir.0.to_str().unwrap()), PIECES);
    written.unwrap();
    assert_eq!(results, ALL);
    assert_eq!(messages.lines().count(), 1, "{messages}");
}

#[test]
fn an_empty_name_or_cat_means_no_pager() {
    for name in ["", " ", "cat"] {
        let (results, messages, written) = show(Some(name), PIECES);
        written.unwrap();
        assert_eq!((results.as_str(), messages.as_str()), (ALL, ""), "'{name}'");
    }
}

#[test]
fn a_pager_gets_all_once() {
    let dir = Directory::new("all");
    let file = dir.0.join("shown");
    for name in [
        format!("cp /dev/stdin {}", file.display()),
        format!("cat > {}", file.display()),
        format!("exec cp /dev/stdin {}", file.display()),
        // Its exit code is its own.
        format!("cat > {}; exit 1", file.display()),
    ] {
        let (results, messages, written) = show(Some(&name), PIECES);
        written.unwrap();
        assert_eq!((results.as_str(), messages.as_str()), ("", ""), "{name}");
        assert_eq!(fs::read_to_string(&file).unwrap(), ALL, "{name}");
    }
}

#[test]
fn a_pager_that_ends_early_has_shown_enough() {
    let line = "x".repeat(4000);
    let pieces = vec![line.as_str(); 100];
    for name in ["true", "head -c 1 > /dev/null", "kill -KILL $$", "false"] {
        let (results, messages, written) = show(Some(name), &pieces);
        assert_eq!(
            written.unwrap_err().kind(),
            io::ErrorKind::BrokenPipe,
            "{name}"
        );
        assert_eq!((results.as_str(), messages.as_str()), ("", ""), "{name}");
    }
}
