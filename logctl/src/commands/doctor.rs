// SPDX-License-Identifier: MIT OR Apache-2.0

//! `doctor`: checks the module, the mounts and their histories, and the installation.
//!
//! It needs no mount, no rights, no space and no module: whatever cannot be looked at is a finding itself.

use std::path::Path;

use anstyle::{AnsiColor, Style};

use crate::error::Error;
use crate::health::{of_mount, Check, State};
use crate::json::JsonObject;
use crate::mount::absolute;
use crate::object::{File, Object};
use crate::output::Output;
use crate::quote::word;
use crate::system::{MountInfo, System};
use crate::versions::{mismatch, Mismatch, OWN};

/// Prints all checks, or those of one mount. Fails if one found a problem.
pub fn run(system: &System, only: Option<&Path>, output: &mut Output<'_>) -> Result<(), Error> {
    let only = only.map(|path| absolute(path).unwrap_or_else(|_| path.to_owned()));
    let mut checks = module(system);
    let mounts = system.own_mounts();
    let is_meant = |mount: &&MountInfo| only.as_ref().is_none_or(|only| *only == mount.point);
    let meant: Vec<&MountInfo> = mounts.iter().filter(is_meant).collect();
    if meant.is_empty() {
        let message = match &only {
            Some(only) => format!("{} is no mount of LoggerFS", word(only)),
            None => "no LoggerFS is mounted".to_owned(),
        };
        checks.push(Check::warning(
            "mount",
            message,
            "`mount -t loggerfs SOURCE DIR` mounts one, and `mount` lists the mounts.",
        ));
    }
    for mount in meant {
        let space = rustix::fs::statvfs(&mount.point).ok();
        let mut file = File::open_to_look(&mount.point);
        let object = file.as_mut().map(|file| file as &mut dyn Object);
        let found = of_mount(mount, object, space.as_ref(), system);
        checks.extend(found.into_iter().map(|check| check.on(&mount.point)));
    }
    checks.extend(installation(system));
    print(&checks, output)?;
    match checks.iter().any(|check| check.state == State::Problem) {
        true => Err(Error::Unhealthy),
        false => Ok(()),
    }
}

/// The kernel's part.
fn module(system: &System) -> Vec<Check> {
    let release = system.release();
    let file = system.installed_module();
    let version = system
        .module_version()
        .map_or_else(String::new, |version| format!(" {version}"));
    let loaded = match (system.is_loaded(), &file) {
        (true, _) => Check::ok(
            "module",
            format!("loggerfs{version} is loaded, kernel {release}"),
        ),
        (false, Some(_)) => Check::problem(
            "module",
            format!("loggerfs is not loaded, kernel {release}"),
            "`modprobe loggerfs` loads it, and so does a mount.",
        ),
        (false, None) => Check::problem(
            "module",
            format!("loggerfs is not loaded, and not installed for the kernel {release}"),
            "install the module for this kernel and run `depmod`, or load it by `insmod loggerfs.ko`.",
        ),
    };
    let versions = match (mismatch(system), system.module_version()) {
        (Some(Mismatch { message, advice }), _) => {
            Some(Check::warning("versions", message, &advice))
        }
        (None, Some(_)) => Some(Check::ok(
            "versions",
            format!("module and logctl are {OWN}"),
        )),
        (None, None) => None,
    };
    [loaded].into_iter().chain(versions).collect()
}

/// Where the man page may be.
const MAN_PAGES: [&str; 5] = [
    "/usr/share/man/man1/logctl.1.gz",
    "/usr/share/man/man1/logctl.1",
    "/usr/local/share/man/man1/logctl.1",
    "/usr/local/share/man/man1/logctl.1.gz",
    "/usr/local/man/man1/logctl.1",
];

/// Where completions may be.
const COMPLETIONS: [&str; 6] = [
    "/usr/share/bash-completion/completions/logctl",
    "/usr/local/share/bash-completion/completions/logctl",
    "/etc/bash_completion.d/logctl",
    "/usr/share/zsh/vendor-completions/_logctl",
    "/usr/local/share/zsh/site-functions/_logctl",
    "/usr/share/fish/vendor_completions.d/logctl.fish",
];

/// The installed files.
fn installation(system: &System) -> Vec<Check> {
    let own = std::env::current_exe();
    let own = own.map_or_else(|_| "?".into(), |path| word(&path));
    let first = |files: &[&str]| {
        let mut files = files.iter().copied();
        files.find(|file| system.has(file)).map(str::to_owned)
    };
    let at_boot = system
        .loads_at_boot()
        .then(|| "loggerfs is loaded at boot".to_owned());
    vec![
        Check::ok("binary", format!("{own} {OWN}")),
        found(
            "module file",
            system.installed_module(),
            "no loggerfs.ko is installed for this kernel",
            "copy loggerfs.ko to /lib/modules/$(uname -r)/extra and run `depmod`: it can be loaded after a boot.",
        ),
        found(
            "boot",
            at_boot,
            "loggerfs is not loaded at boot",
            "`echo loggerfs >/etc/modules-load.d/loggerfs.conf`, if no mount in /etc/fstab loads it.",
        ),
        found(
            "man page",
            first(&MAN_PAGES),
            "logctl(1) is not installed",
            "copy man/logctl.1 to /usr/local/share/man/man1.",
        ),
        found(
            "completions",
            first(&COMPLETIONS),
            "no shell completions are installed",
            "`logctl completions bash >/etc/bash_completion.d/logctl`; `logctl completions --help` lists the shells.",
        ),
    ]
}

/// The check of something that is installed, or missing.
fn found(name: &'static str, file: Option<String>, missing: &str, advice: &str) -> Check {
    match file {
        Some(file) => Check::ok(name, file),
        None => Check::warning(name, missing.to_owned(), advice),
    }
}

const PROBLEM: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default();
const OK: Style = AnsiColor::Green.on_default();

fn print(checks: &[Check], output: &mut Output<'_>) -> Result<(), Error> {
    let mut place: Option<&Path> = None;
    for check in checks {
        if output.json {
            output.object(&json(check).into_value())?;
            continue;
        }
        let own = check.path.as_deref();
        if own != place {
            output.text(&format!(
                "{}\n",
                own.map_or_else(|| "installation".into(), word)
            ))?;
            place = own;
        }
        let style = match check.state {
            State::Ok => OK,
            State::Warning => WARNING,
            State::Problem => PROBLEM,
        };
        output.text("  ")?;
        output.styled(style, format!("{:<8}", check.state.as_str()).as_bytes())?;
        output.text(&format!("{:<12} {}\n", check.name, check.message))?;
        if let Some(advice) = &check.advice {
            output.text(&format!("{:23}{advice}\n", ""))?;
        }
    }
    output.finish()
}

fn json(check: &Check) -> JsonObject {
    let mut object = match &check.path {
        Some(path) => JsonObject::new("check", path),
        None => JsonObject::without_path("check"),
    };
    object
        .put("name", check.name)
        .put("state", check.state.as_str())
        .put("message", check.message.as_str())
        .put_known("advice", check.advice.as_deref());
    object
}
