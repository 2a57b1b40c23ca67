// SPDX-License-Identifier: MIT OR Apache-2.0

//! The objects that `--json` prints: one a line, each with `v` and `type`.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use jiff::{Timestamp, Zoned};
use serde_json::{json, Map, Value};

use crate::actions::Action;
use crate::changes::{Changes, ObjectChange};
use crate::commands::context::Context;
use crate::commands::report::Report;
use crate::commands::view::View;
use crate::describe::{action_command, command};
use crate::error::Error;
use crate::process::name;
use crate::quote::{base64, decoded};
use crate::time::rfc3339;
use crate::timeline::Entry;
use crate::uapi::Status;
use loggerfs_log::line::{Line, Mode, Undo};
use loggerfs_log::types::Time;

/// The version of all objects.
const VERSION: u32 = 1;

/// The versions of records that can be asked for.
const VERSIONS: [u32; 1] = [VERSION];

/// The version that `--json=VERSION` asks for.
pub fn version(text: &str) -> Result<u32, String> {
    let known = |version: &u32| VERSIONS.contains(version);
    let known_ones = || VERSIONS.map(|version| version.to_string()).join(", ");
    text.parse().ok().filter(known).ok_or_else(|| {
        format!(
            "logctl {} knows these versions of the records: {}",
            env!("CARGO_PKG_VERSION"),
            known_ones()
        )
    })
}

/// A JSON object under construction; unknown values are left out.
pub struct JsonObject(Map<String, Value>);

impl JsonObject {
    /// Begins an object of a type that is about no path.
    pub fn without_path(kind: &str) -> Self {
        let mut object = Self(Map::new());
        object.put("v", VERSION).put("type", kind);
        object
    }

    /// Begins an object of a type, about a path.
    pub fn new(kind: &str, path: &Path) -> Self {
        let mut object = Self::without_path(kind);
        object.put_bytes("path", path.as_os_str().as_bytes());
        object
    }

    /// Adds text, also encoded where it is no UTF-8.
    pub fn put_bytes(&mut self, key: &str, bytes: &[u8]) -> &mut Self {
        self.put(key, String::from_utf8_lossy(bytes));
        match std::str::from_utf8(bytes) {
            Ok(_) => self,
            Err(_) => self.put(&format!("{key}_b64"), base64(bytes)),
        }
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
    op_at(Some(path), line)
}

/// One operation; `None`: it is not known where.
fn op_at(path: Option<&Path>, line: &Line<'_>) -> Value {
    let mut object = match path {
        Some(path) => JsonObject::new("op", path),
        None => JsonObject::without_path("op"),
    };
    let command = Some(line.command).filter(|command| *command != b"-");
    let args = line.args.map(|args| {
        let args = text(args);
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
        .put_known("process", line.pid.map(name))
        .put_known("ppid", line.ppid)
        .put_known("pgid", line.pgid.map(|group| group.pgid))
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

/// One operation, with the line itself.
pub fn logged_op(path: &Path, line: &Line<'_>, text: &[u8]) -> Value {
    let mut value = op(path, line);
    if let Value::Object(map) = &mut value {
        let text = String::from_utf8_lossy(text);
        map.insert("line".into(), text.trim_end().into());
    }
    value
}

/// A line that this version of logctl cannot parse, unchanged.
pub fn unread_op(path: &Path, line: &[u8], why: &str) -> Value {
    let mut object = JsonObject::new("op", path);
    object
        .put("line", String::from_utf8_lossy(line).trim_end())
        .put("unread", why);
    object.into_value()
}

/// The state of a file and its mount.
pub fn status(path: &Path, status: &Status) -> Value {
    let mut object = JsonObject::new("status", path);
    object
        .put("inode", status.inode)
        .put("generation", status.generation)
        .put("live", status.live)
        .put("live_is_bound", status.live >= Status::MAX_LIVE)
        .put_known("last_op", Some(status.last_seq).filter(|seq| *seq != 0));
    object.put("history", mount_history(status));
    object.into_value()
}

/// The history of a mount. Numbers about the whole of it; null: they are shown to administrators only.
pub fn mount_history(status: &Status) -> Value {
    let is_of_others = status.mount_flags & Status::MOUNT_OF_OTHERS != 0;
    let whole = |number: u64| Some(number).filter(|_| !is_of_others);
    json!({
            "uuid": uuid(&status.uuid),
            "format": status.format,
            "on": status.mount_flags & Status::MOUNT_HISTORY != 0,
            "private": status.mount_flags & Status::MOUNT_PRIVATE != 0,
            "read_only": status.mount_flags & Status::MOUNT_READ_ONLY != 0,
            "op": whole(status.seq),
            "segments": whole(status.segments),
            "log_bytes": whole(status.log_bytes),
            "undo_bytes": whole(status.undo_bytes),
            "orphan_bytes": whole(status.orphan_bytes),
            "history_max": Some(status.history_max).filter(|max| *max != 0),
            "lost": whole(status.lost),
            "errors": whole(status.errors),
            "on_full": on_full(status),
            "on_error": on_error(status),
            "commit_seconds": status.commit_seconds,
    })
}

/// An error, and the exit code of the command.
pub fn error(command: &str, path: &Path, error: &Error, exit: u8) -> Value {
    let mut object = JsonObject::new("error", path);
    object
        .put("command", command)
        .put("exit", exit)
        .put("reason", error.reason())
        .put_known("op", error.op())
        .put("message", error.to_string())
        .put_known("hint", error.hint());
    object.into_value()
}

/// A command line that has no valid meaning.
pub fn usage(command: Option<&str>, message: &str, exit: u8) -> Value {
    let mut object = JsonObject::without_path("error");
    object
        .put_known("command", command)
        .put("exit", exit)
        .put("reason", "Usage")
        .put("message", message);
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

/// The policy for a full history.
pub fn on_full(status: &Status) -> &'static str {
    match status.on_full {
        Status::TRIM => "trim",
        Status::DENY => "deny",
        _ => "unknown",
    }
}

/// The policy for a failed journal.
pub fn on_error(status: &Status) -> &'static str {
    match status.on_error {
        Status::CONTINUE => "continue",
        Status::REFUSE => "refuse",
        _ => "unknown",
    }
}

/// An action.
pub fn action(view: &View, action: &Action, context: &Context<'_>) -> Value {
    described("action", view, action, context)
}

/// The operations of one process in an action.
pub fn process(view: &View, part: &Action, context: &Context<'_>) -> Value {
    described("process", view, part, context)
}

fn described(kind: &str, view: &View, action: &Action, context: &Context<'_>) -> Value {
    let (newest, oldest) = (action.newest(&view.timeline), action.oldest(&view.timeline));
    let (changes, only) = view.changes(action);
    let only = only.and_then(|place| place.path);
    let path = only.map_or_else(|| context.root.clone(), |path| context.root.join(path));
    let mut object = JsonObject::new(kind, &path);
    let actor = action.actor(&view.timeline);
    let args = (!actor.args.is_empty()).then(|| strings(&actor.args));
    object
        .put("action", newest.seq)
        .put("first_op", oldest.seq)
        .put("operations", action.entries.len())
        .put("time", zoned(newest.time, &context.now))
        .put("first_time", zoned(oldest.time, &context.now))
        .put("title", action_command(&view.timeline, action))
        .put_known("run", view.run(action))
        .put("processes", action.processes(&view.timeline))
        .put("command", text(&actor.command))
        .put_known("args", args)
        .put_known("pid", actor.process.map(|process| process.pid))
        .put_known("process", actor.process.map(name))
        .put_known("ppid", actor.ppid)
        .put_known("pgid", actor.group.as_ref().map(|group| group.pgid))
        .put_known("sid", actor.sid)
        .put_known("uid", actor.uid)
        .put_known("user", actor.uid.map(|uid| context.users.name(uid)));
    object.put("changes", changes_value(&changes));
    object.put("files", files_value(view, &changes, context));
    object.into_value()
}

/// The objects that changed, each with the sign that the log has for it.
pub fn files_value(view: &View, changes: &Changes, context: &Context<'_>) -> Vec<Value> {
    let file = |change: &ObjectChange| {
        let place = view.place(change.at.index);
        let (path, to) = match (change.sign, change.at.is_to) {
            ('>', _) if change.at.is_back => (place.to, place.path),
            ('>', _) => (place.path, place.to),
            (_, true) => (place.to, None),
            (_, false) => (place.path, None),
        };
        let mut file = JsonObject(Map::new());
        let mut put = |key: &str, path: Option<PathBuf>| {
            if let Some(path) = path {
                let path = context.root.join(path);
                file.put_bytes(key, path.as_os_str().as_bytes());
            }
        };
        put("path", path);
        put("to", to);
        file.put("change", change.sign.to_string())
            .put("directory", change.is_directory);
        file.into_value()
    };
    changes.each.iter().map(file).collect()
}

/// The numbers of changes.
pub fn changes_value(changes: &Changes) -> Value {
    json!({
        "files_made": changes.files_made,
        "files_gone": changes.files_gone,
        "directories_made": changes.directories_made,
        "directories_gone": changes.directories_gone,
        "changed": changes.changed,
        "moved": changes.moved,
        "reverts": changes.reverts,
    })
}

/// The beginning of an object about a path of the mount, with the operation that made it so.
pub fn made_by(kind: &str, path: &Path, entry: &Entry, context: &Context<'_>) -> JsonObject {
    let mut object = JsonObject::new(kind, &context.root.join(path));
    let actor = &entry.actor;
    let args = (!actor.args.is_empty()).then(|| strings(&actor.args));
    object
        .put("op", entry.seq)
        .put("time", zoned(entry.time, &context.now))
        .put("command", text(&actor.command))
        .put_known("args", args)
        .put("title", command(actor, false))
        .put_known("pid", actor.process.map(|process| process.pid))
        .put_known("process", actor.process.map(name))
        .put_known("uid", actor.uid)
        .put_known("user", actor.uid.map(|uid| context.users.name(uid)));
    object
}

/// Who did an operation.
pub fn actor(entry: &Entry, context: &Context<'_>) -> Value {
    let actor = &entry.actor;
    let mut object = JsonObject(Map::new());
    object
        .put("op", entry.seq)
        .put("title", command(actor, false))
        .put("command", text(&actor.command))
        .put_known("pid", actor.process.map(|process| process.pid))
        .put_known("process", actor.process.map(name))
        .put_known("uid", actor.uid)
        .put_known("user", actor.uid.map(|uid| context.users.name(uid)));
    object.into_value()
}

/// An operation of an action, with its place and its actor.
pub fn operation(view: &View, index: usize, context: &Context<'_>) -> Value {
    let entry = &view.timeline.entries[index];
    let place = view.place(index);
    let mut line = entry.line();
    (line.offset, line.length) = (entry.offset, entry.length);
    let path = place.path.map(|path| context.root.join(path));
    let mut value = op_at(path.as_deref(), &line);
    if let Value::Object(map) = &mut value {
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                map.insert(key.to_owned(), value);
            }
        };
        let actor = &entry.actor;
        put("time", Some(zoned(entry.time, &context.now).into()));
        put("pid", actor.process.map(|process| process.pid.into()));
        put("process", actor.process.map(|process| name(process).into()));
        let group = actor.group.as_ref();
        put("pgid", group.map(|group| group.pgid.into()));
        put("user", actor.uid.map(|uid| context.users.name(uid).into()));
        put("ppid", actor.ppid.map(Value::from));
        put("sid", actor.sid.map(Value::from));
        put("uid", actor.uid.map(Value::from));
        put(
            "args",
            (!actor.args.is_empty()).then(|| strings(&actor.args).into()),
        );
        let to = place.to.map(|to| context.root.join(to));
        let is_text = |to: &PathBuf| to.to_str().is_some();
        let encoded = to.as_ref().filter(|to| !is_text(to));
        let encoded = encoded.map(|to| base64(to.as_os_str().as_bytes()).into());
        put("to_path", to.map(|to| to.to_string_lossy().into()));
        put("to_path_b64", encoded);
        let object = entry
            .object
            .map(|id| format!("{}.{}", id.inode, id.generation));
        put("object", object.map(Value::from));
    }
    value
}

fn strings(args: &[Vec<u8>]) -> Vec<Value> {
    let string = |arg: &Vec<u8>| Value::from(String::from_utf8_lossy(arg).into_owned());
    args.iter().map(string).collect()
}

/// RFC 3339 with the offset of a zone, and nanoseconds.
pub fn zoned(time: Time, now: &Zoned) -> String {
    let stamp = Timestamp::new(time.sec, 0);
    match stamp.map(|stamp| stamp.to_zoned(now.time_zone().clone())) {
        Ok(local) => {
            let (date, offset) = (local.strftime("%Y-%m-%dT%H:%M:%S"), local.strftime("%:z"));
            format!("{date}.{:09}{offset}", time.nsec)
        }
        Err(_) => rfc3339(time),
    }
}

/// The result of a request that takes operations back.
pub fn summary(report: &Report<'_>, context: &Context<'_>) -> Value {
    let reply = &report.answer.reply;
    let mut object = JsonObject::new("summary", &context.root);
    object
        .put("command", report.command)
        .put("dry_run", report.options.dry_run)
        .put("no_redo", report.options.no_redo)
        .put("reverted", reply.reverted)
        .put("objects", reply.objects)
        .put("bytes", reply.bytes)
        .put("left_out", report.left_out.len())
        .put("unnamed", reply.left_out)
        .put("staying", report.answer.staying.len())
        .put("force", report.options.force)
        .put_known("op", Some(reply.seq).filter(|seq| *seq != 0));
    object.into_value()
}

/// Why something is not as was asked, in words, beside the results.
pub fn remark(reason: &str, path: &Path, message: &str) -> JsonObject {
    let mut object = JsonObject::new("note", path);
    object.put("reason", reason).put("message", message);
    object
}

/// The oldest operation of a history from which older ones were dropped.
pub fn history(root: &Path, oldest: (u64, Time), context: &Context<'_>) -> Value {
    let mut object = JsonObject::new("history", root);
    object
        .put("first_op", oldest.0)
        .put("first_time", zoned(oldest.1, &context.now))
        .put("is_trimmed", true);
    object.into_value()
}
