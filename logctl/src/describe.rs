// SPDX-License-Identifier: MIT OR Apache-2.0

//! Actions and operations in words.

use std::collections::HashMap;
use std::path::Path;

use jiff::tz::TimeZone;
use jiff::Timestamp;

use crate::actions::Action;
use crate::changes::Changes;
use crate::paths::Place;
use crate::quote::{decoded, quote_bytes, word};
use crate::screen::width_of;
use crate::timeline::{Actor, Entry, Timeline};
use loggerfs_log::line::Op;
use loggerfs_log::types::Time;

/// How wide a command may be in a table that no terminal shows.
pub const WIDEST: usize = 40;

/// The names of users.
#[derive(Debug, Default)]
pub struct Users(HashMap<u32, String>);

impl Users {
    /// Those that a file like `/etc/passwd` lists.
    pub fn of(passwd: &str) -> Self {
        let user = |line: &str| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            Some((fields.nth(1)?.parse().ok()?, name))
        };
        let mut users = HashMap::new();
        for (uid, name) in passwd.lines().filter_map(user) {
            users.entry(uid).or_insert(name);
        }
        Self(users)
    }

    /// A user's name, or number.
    pub fn name(&self, uid: u32) -> String {
        let name = self
            .0
            .get(&uid)
            .map(|name| quote_bytes(name.as_bytes(), false));
        name.unwrap_or_else(|| uid.to_string())
    }

    /// The number of a user that is given by name or number.
    pub fn number(&self, user: &str) -> Option<u32> {
        let named = self.0.iter().find(|(_, name)| *name == user);
        named.map(|(uid, _)| *uid).or_else(|| user.parse().ok())
    }
}

/// The command with its arguments, as recorded in the line.
pub fn command(actor: &Actor, writes: bool) -> String {
    if actor.leads() && writes && is_shell(actor) {
        return format!("{} (redirect)", actor.program());
    }
    match &actor.args[..] {
        [] => actor.program(),
        [name, rest @ ..] => {
            let base = base_name(name);
            let mut words = vec![quote_bytes(base, false)];
            words.extend(rest.iter().map(|arg| quote_bytes(arg, false)));
            let text = words.join(" ");
            match actor.has_cut_arguments() {
                true => text + "…",
                false => text,
            }
        }
    }
}

/// The name that a program was called by, without its directory. A title that the program has set, which may have
/// a slash in its text, is returned whole.
fn base_name(name: &[u8]) -> &[u8] {
    match name.iter().rposition(|byte| *byte == b'/') {
        Some(at) if !name[..at].contains(&b' ') => &name[at + 1..],
        _ => name,
    }
}

/// Whether the program is a shell, which leads a terminal's session and writes where it redirects output. A shell
/// that was given one line becomes that line's last command.
fn is_shell(actor: &Actor) -> bool {
    const SHELLS: [&str; 8] = ["ash", "bash", "dash", "fish", "ksh", "mksh", "sh", "zsh"];
    let program = actor.program();
    SHELLS.contains(&program.trim_start_matches('-'))
}

/// Cuts a text for a table.
pub fn cut(text: &str) -> String {
    cut_to(text, WIDEST)
}

/// Cuts a text to so many columns.
pub fn cut_to(text: &str, columns: usize) -> String {
    if width_of(text) <= columns {
        return text.to_owned();
    }
    let mut end = 0;
    for (at, c) in text.char_indices() {
        let next = at + c.len_utf8();
        if width_of(&text[..next]) >= columns {
            break;
        }
        end = next;
    }
    format!("{}…", &text[..end])
}

/// An action's command: that of the leader of its process group, which has the others of the command line as
/// children. A leader that changed nothing left only its short name.
pub fn action_command(timeline: &Timeline, action: &Action) -> String {
    let newest = action.newest(timeline);
    if newest.op == Op::Revert {
        return revert_command(timeline, action);
    }
    let writes = (action.operations(timeline)).any(|entry| entry.op.changes_content_in_place());
    let actor = action.actor(timeline);
    let is_alone = action.processes(timeline) == 1;
    match &actor.group {
        Some(group) if !is_alone && !group.comm.is_empty() => quote_bytes(&group.comm, false),
        _ => command(actor, writes),
    }
}

/// The command that made reverts: of a group, its first line has the arguments.
fn revert_command(timeline: &Timeline, action: &Action) -> String {
    let mut actors = action.operations(timeline).map(|entry| &entry.actor);
    let Some(actor) = actors.find(|actor| !actor.args.is_empty()) else {
        return "logctl (revert)".into();
    };
    let text = command(actor, false);
    match actor.program() == "logctl" {
        true => text,
        false => format!("{text} (revert)"),
    }
}

/// The number of processes of an action, if there are several.
pub fn process_count(timeline: &Timeline, action: &Action) -> Option<String> {
    match action.processes(timeline) {
        0 | 1 => None,
        number => Some(format!("({number} processes)")),
    }
}

/// How long ago something was; with the date, if that was on another day and not within the hour.
pub fn when(time: Time, now: Timestamp, zone: &TimeZone) -> String {
    let seconds = now.as_second().saturating_sub(time.sec);
    let (then, today) = (
        local(time, zone),
        local(
            Time {
                sec: now.as_second(),
                nsec: 0,
            },
            zone,
        ),
    );
    let is_today = then.get(..10) == today.get(..10);
    match seconds {
        ..0 => then,
        0..60 => format!("{seconds}s ago"),
        60..3600 => format!("{}m ago", seconds / 60),
        3600..86_400 if is_today => format!("{}h ago", seconds / 3600),
        _ => then.get(..16).unwrap_or(&then).to_owned(),
    }
}

/// A time here: `2026-11-20 14:05:03`.
pub fn local(time: Time, zone: &TimeZone) -> String {
    match Timestamp::new(time.sec, 0) {
        Ok(stamp) => stamp
            .to_zoned(zone.clone())
            .strftime("%Y-%m-%d %H:%M:%S")
            .to_string(),
        Err(_) => format!("@{}", time.sec),
    }
}

/// `1 file`, `2 files`.
pub fn count(number: usize, one: &str, several: &str) -> String {
    if number == 1 {
        format!("1 {one}")
    } else {
        format!("{number} {several}")
    }
}

/// The changes, as the table shows them: `+1 file  build.log`.
pub fn changes(changes: &Changes, only: Option<&Place>) -> String {
    let of = |sign: &str, number: usize, one: &str, several: &str| {
        (number != 0).then(|| format!("{sign}{}", count(number, one, several)))
    };
    let parts = [
        of("+", changes.files_made, "file", "files"),
        of("-", changes.files_gone, "file", "files"),
        of("+", changes.directories_made, "dir", "dirs"),
        of("-", changes.directories_gone, "dir", "dirs"),
        of("~", changes.changed, "file", "files"),
        of("", changes.moved, "moved", "moved"),
        // Older lines would give their effect.
        of("", changes.reverts, "reverted", "reverted").filter(|_| changes.total() == 0),
    ];
    let mut text = parts.into_iter().flatten().collect::<Vec<_>>().join("  ");
    if text.is_empty() {
        text.push_str("nothing left of it");
    }
    if let Some(place) = only {
        text.push_str("  ");
        text.push_str(&where_to(place));
    }
    text
}

/// A path, and the destination of a rename.
pub fn where_to(place: &Place) -> String {
    let path = |path: &Option<std::path::PathBuf>| match path.as_deref() {
        Some(path) if path == Path::new("") => ".".to_owned(),
        Some(path) => word(path),
        None => "?".into(),
    };
    match &place.to {
        Some(_) => format!("{} -> {}", path(&place.path), path(&place.to)),
        None => path(&place.path),
    }
}

/// The place of an operation, or the number of its object if the path is not known.
pub fn location(entry: &Entry, place: &Place) -> String {
    if place.path.is_some() {
        return where_to(place);
    }
    let line = entry.line();
    let object = entry
        .object
        .map(|id| format!("(object {}.{})", id.inode, id.generation));
    let object = object.unwrap_or_default();
    match line.name {
        Some(name) => format!("{} in {object}", quote_bytes(&decoded(name), true)),
        None => object,
    }
}

/// An operation in a few words, without where: `write 4 1`.
pub fn operation(entry: &Entry) -> String {
    let op = entry.op.as_str();
    if entry.op.changes_content_in_place() && !matches!(entry.op, Op::Revert | Op::Redo) {
        format!("{op} {} {}", entry.offset, entry.length)
    } else {
        op.to_owned()
    }
}

/// The effect of taking these changes back: `214 files and 31 directories are back`.
pub fn taken_back(changes: &Changes, only: Option<&Place>, would: bool) -> String {
    let verb = |number: usize| match (would, number) {
        (true, _) => "would be",
        (false, 1) => "is",
        (false, _) => "are",
    };
    let pair = |files: usize, directories: usize, end: &str| {
        let parts: Vec<String> = [
            (files, "file", "files"),
            (directories, "directory", "directories"),
        ]
        .into_iter()
        .filter(|(number, ..)| *number != 0)
        .map(|(number, one, several)| count(number, one, several))
        .collect();
        let all = files + directories;
        (all != 0).then(|| format!("{} {} {end}", parts.join(" and "), verb(all)))
    };
    if let (Some(place), 1) = (only, changes.total()) {
        let end = match changes {
            _ if changes.files_made + changes.directories_made == 1 => "gone",
            _ if changes.files_gone + changes.directories_gone == 1 => "back",
            _ if changes.moved == 1 => "where it was",
            _ => "as it was before",
        };
        let place = Place {
            to: None,
            ..place.clone()
        };
        return format!("{} {} {end}", where_to(&place), verb(1));
    }
    let moved = (changes.moved != 0).then(|| {
        format!(
            "{} {} back",
            count(changes.moved, "name", "names"),
            verb(changes.moved)
        )
    });
    let reverts = (changes.reverts != 0 && changes.total() == 0)
        .then(|| "the operations that it took back are live again".to_owned());
    let parts = [
        pair(changes.files_gone, changes.directories_gone, "back"),
        pair(changes.files_made, changes.directories_made, "gone"),
        pair(changes.changed, 0, "as before"),
        moved,
        reverts,
    ];
    let text = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
    if text.is_empty() {
        "nothing of it was left".into()
    } else {
        text
    }
}

/// A size for people.
pub fn bytes(size: u64) -> String {
    const UNITS: [&str; 5] = ["KB", "MB", "GB", "TB", "PB"];
    if size < 1000 {
        return format!("{size} B");
    }
    let (mut size, mut unit) = (size, 0);
    while size >= 999_950 && unit + 1 < UNITS.len() {
        size /= 1000;
        unit += 1;
    }
    format!("{}.{} {}", size / 1000, size % 1000 / 100, UNITS[unit])
}
