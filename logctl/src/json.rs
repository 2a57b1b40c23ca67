// SPDX-License-Identifier: MIT OR Apache-2.0

//! The objects that `--json` prints: one a line, each with `v` and `type`.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde_json::{json, Map, Value};

use crate::error::Error;
use crate::history::line::{Line, Mode, Undo};
use crate::quote::{base64, decoded};
use crate::time::rfc3339;
use crate::uapi::Status;

/// The version of all objects.
const VERSION: u32 = 1;

/// An object that grows, without what is not known.
pub struct Object(Map<String, Value>);

impl Object {
    /// Begins an object of a type, about a path.
    pub fn new(kind: &str, path: &Path) -> Self {
        let mut object = Self(Map::new());
        object.put("v", VERSION).put("type", kind);
        object.put("path", path.to_string_lossy());
        if path.to_str().is_none() {
            object.put("path_b64", base64(path.as_os_str().as_bytes()));
        }
        object
    }

    /// Adds a value.
    pub fn put(&mut self, key: &str, value: impl Into<Value>) -> &mut Self {
        self.0.insert(key.to_owned(), value.into());
        self
    }

    /// Adds a value that may not be known.
    pub fn put_known(&mut self, key: &str, value: Option<impl Into<Value>>) -> &mut Self {
        match value {
            Some(value) => self.put(key, value),
            None => self,
        }
    }

    /// The object's JSON.
    pub fn into_value(self) -> Value {
        Value::Object(self.0)
    }
}

/// An encoded value as text.
fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(&decoded(value)).into_owned()
}

/// One operation.
pub fn op(path: &Path, line: &Line<'_>) -> Value {
    let mut object = Object::new("op", path);
    let command = Some(line.command).filter(|command| *command != b"-");
    let args = line.args.map(|args| {
        let args = text(args);
        let args = args.strip_suffix('\0').unwrap_or(&args);
        args.split('\0').map(Value::from).collect::<Vec<_>>()
    });
    let undo = line.undo.map(|undo| match undo {
        Undo::None => "none",
        Undo::Lost => "lost",
        Undo::At(_) => "saved",
    });
    let mode = line.mode.map(|mode| match mode {
        Mode::Walk => "walk",
        Mode::Pick => "pick",
    });
    object
        .put("op", line.seq)
        .put("time", rfc3339(line.time))
        .put("kind", line.op.as_str())
        .put("offset", line.offset)
        .put("length", line.length)
        .put_known("command", command.map(text))
        .put_known("comm", line.comm.map(text))
        .put_known("args", args)
        .put_known("pid", line.pid.map(|process| process.pid))
        .put_known("ppid", line.ppid)
        .put_known("sid", line.sid)
        .put_known("uid", line.uid)
        .put_known("open", line.open)
        .put_known("size", line.size)
        .put_known("undo", undo)
        .put_known("why", line.why.map(text))
        .put_known("of", line.of)
        .put_known("count", line.count)
        .put_known("now", line.now)
        .put_known("mode", mode)
        .put_known("name", line.name.map(text))
        .put_known("to", line.to.map(text));
    object.into_value()
}

/// A line that this logctl cannot read, as it is.
pub fn unread_op(path: &Path, line: &[u8], why: &str) -> Value {
    let mut object = Object::new("op", path);
    object
        .put("line", String::from_utf8_lossy(line).trim_end())
        .put("unread", why);
    object.into_value()
}

/// How a file and its mount stand.
pub fn status(path: &Path, status: &Status) -> Value {
    let mut object = Object::new("status", path);
    object
        .put("inode", status.inode)
        .put("generation", status.generation)
        .put("standing", status.standing)
        .put("standing_is_bound", status.standing >= Status::MAX_STANDING)
        .put_known("last_op", Some(status.last_seq).filter(|seq| *seq != 0));
    object.put(
        "history",
        json!({
            "uuid": uuid(&status.uuid),
            "format": status.format,
            "on": status.mount_flags & Status::MOUNT_HISTORY != 0,
            "private": status.mount_flags & Status::MOUNT_PRIVATE != 0,
            "read_only": status.mount_flags & Status::MOUNT_READ_ONLY != 0,
            "log_reads": status.mount_flags & Status::MOUNT_LOG_READS != 0,
            "op": status.seq,
            "segments": status.segments,
            "log_bytes": status.log_bytes,
            "undo_bytes": status.undo_bytes,
            "kept_bytes": status.kept_bytes,
            "history_max": Some(status.history_max).filter(|max| *max != 0),
            "lost": status.lost,
            "errors": status.errors,
            "on_full": on_full(status),
            "on_error": on_error(status),
            "commit_seconds": status.commit_seconds,
        }),
    );
    object.into_value()
}

/// What went wrong.
pub fn error(command: &str, path: &Path, error: &Error) -> Value {
    let mut object = Object::new("error", path);
    object
        .put("command", command)
        .put("exit", error.exit_code())
        .put("reason", error.reason())
        .put_known("op", error.op())
        .put("message", error.to_string())
        .put_known("hint", error.hint());
    object.into_value()
}

/// A UUID in its usual form.
pub fn uuid(bytes: &[u8; 16]) -> String {
    let mut text = String::new();
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// What happens when there is no room.
pub fn on_full(status: &Status) -> &'static str {
    match status.on_full {
        Status::TRIM => "trim",
        Status::DENY => "deny",
        _ => "unknown",
    }
}

/// What happens when the journal fails.
pub fn on_error(status: &Status) -> &'static str {
    match status.on_error {
        Status::CONTINUE => "continue",
        Status::REFUSE => "refuse",
        _ => "unknown",
    }
}
