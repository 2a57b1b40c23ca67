// SPDX-License-Identifier: MIT OR Apache-2.0

//! `config`: the settings in effect, and how to change each. logctl has no configuration file: options of a mount
//! are settings of the mount, and the rest are variables of the environment.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::json::JsonObject;
use crate::mount::absolute;
use crate::output::Output;
use crate::quote::{quoted, word};
use crate::system::{MountInfo, System};

use super::table::table;

/// A setting without its value.
struct Known {
    name: &'static str,
    default: Option<&'static str>,
    meaning: &'static str,
}

const fn known(name: &'static str, default: &'static str, meaning: &'static str) -> Known {
    Known {
        name,
        default: Some(default),
        meaning,
    }
}

const fn unset(name: &'static str, meaning: &'static str) -> Known {
    Known {
        name,
        default: None,
        meaning,
    }
}

/// The options of a mount; loggerfs(5) has more about each.
const OPTIONS: [Known; 8] = [
    known("history", "on", "whether operations are recorded"),
    known(
        "history_max",
        "20 % of the disk, at most 10 GiB",
        "how large the history may become",
    ),
    known(
        "on_full",
        "trim",
        "full: drop the oldest part, or deny changes",
    ),
    known(
        "on_error",
        "continue",
        "the history cannot be written: continue, or refuse changes",
    ),
    known("commit", "1", "seconds after which a change is durable"),
    known("args", "on", "whether the log has arguments of programs"),
    unset("tmpfs", "a private tmpfs, which ends with the mount"),
    known("size", "50%", "size of the private tmpfs"),
];

/// The variables that logctl reads.
const VARIABLES: [Known; 4] = [
    unset("NO_COLOR", "no colour where --color is auto"),
    unset("CLICOLOR_FORCE", "colour also without a terminal"),
    unset("TZ", "the time zone of times that are read and printed"),
    known(
        "TMPDIR",
        "/tmp",
        "where old content is kept while it is read",
    ),
];

/// A setting in effect.
struct Setting {
    known: &'static Known,
    /// The mount; `None`: a variable.
    mount: Option<PathBuf>,
    value: Option<String>,
}

impl Setting {
    fn is_default(&self) -> bool {
        self.value.is_none() || self.value.as_deref() == self.known.default
    }

    fn change(&self) -> String {
        let name = self.known.name;
        match &self.mount {
            None => format!("`export {name}=VALUE`"),
            Some(mount) if name == "history" => {
                format!("`mount -o remount,history=VALUE {}`", word(mount))
            }
            Some(mount) => {
                let value = if name == "tmpfs" { "" } else { "=VALUE" };
                format!("unmount {}, and mount with `-o {name}{value}`", word(mount))
            }
        }
    }
}

/// Prints the settings of all mounts, or of one, and of the environment; or only those of one name.
pub fn run(
    system: &System,
    (only, name): (Option<&Path>, Option<&str>),
    variable: &dyn Fn(&str) -> Option<OsString>,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let only = only.map(|path| absolute(path).unwrap_or_else(|_| path.to_owned()));
    let mut mounts = system.own_mounts();
    mounts.retain(|mount| only.as_ref().is_none_or(|only| *only == mount.point));
    if let Some(path) = only.filter(|_| mounts.is_empty()) {
        return Err(Error::NotLoggerFs { path });
    }
    let mut settings: Vec<Setting> = mounts.iter().flat_map(of_mount).collect();
    settings.extend(VARIABLES.iter().map(|known| Setting {
        known,
        mount: None,
        value: variable(known.name).map(|value| value.to_string_lossy().into_owned()),
    }));
    if let Some(name) = name {
        let mut all = OPTIONS.iter().chain(&VARIABLES);
        if !all.any(|known| known.name == name) {
            let name = quoted(Path::new(name));
            let message = format!("there is no setting {name}: `logctl config` lists all");
            return Err(Error::Usage { message });
        }
        settings.retain(|setting| setting.known.name == name);
    }
    if output.json {
        return settings
            .iter()
            .try_for_each(|setting| output.object(&json(setting).into_value()));
    }
    print(&settings, output)
}

/// The options of a mount that are in effect, and those that have defaults.
fn of_mount(mount: &MountInfo) -> Vec<Setting> {
    let is_private = mount.option("tmpfs").is_some();
    let options = OPTIONS
        .iter()
        .filter(|known| known.name != "size" || is_private);
    let setting = |known: &'static Known| {
        let shown = mount.option(known.name).map(|value| match value {
            "" => "on",
            value => value,
        });
        // The kernel leaves some defaults out.
        let value = shown.or(known.default).map(str::to_owned);
        Setting {
            known,
            mount: Some(mount.point.clone()),
            value,
        }
    };
    options.map(setting).collect()
}

fn print(settings: &[Setting], output: &mut Output<'_>) -> Result<(), Error> {
    for part in settings.chunk_by(|one, next| one.mount == next.mount) {
        let mount = part.first().and_then(|setting| setting.mount.as_deref());
        let head = mount.map_or_else(|| "environment".into(), word);
        output.text(&format!("{head}\n"))?;
        let mut rows = vec![["", "NAME", "VALUE", "DEFAULT", "MEANING"].map(str::to_owned)];
        rows.extend(part.iter().map(|setting| {
            let value = setting.value.clone();
            [
                if setting.is_default() { "" } else { "*" }.to_owned(),
                setting.known.name.to_owned(),
                value.map_or_else(|| "-".into(), |value| word(Path::new(&value))),
                setting.known.default.unwrap_or("-").to_owned(),
                setting.known.meaning.to_owned(),
            ]
        }));
        output.text(&table(&rows))?;
    }
    output.finish()?;
    match settings {
        [one] => output.hint(&format!("to change it: {}.", one.change())),
        _ => output.hint(
            "options are set when the mount is made (`-o`, /etc/fstab), and loggerfs(5) describes them; \
             `logctl config NAME` says how to change one.",
        ),
    }
    Ok(())
}

fn json(setting: &Setting) -> JsonObject {
    let mut object = match &setting.mount {
        Some(mount) => JsonObject::new("setting", mount),
        None => JsonObject::without_path("setting"),
    };
    let kind = if setting.mount.is_some() {
        "mount"
    } else {
        "environment"
    };
    object
        .put("kind", kind)
        .put("name", setting.known.name)
        .put("value", setting.value.clone())
        .put("default", setting.known.default)
        .put("is_default", setting.is_default())
        .put("meaning", setting.known.meaning)
        .put("change", setting.change());
    object
}
