// SPDX-License-Identifier: MIT OR Apache-2.0

//! `doctor` and `config` on machines that are directories, and the checks of a history with a simulated kernel.

#[path = "support/mount.rs"]
mod mount;
#[path = "support/schema.rs"]
mod schema;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use logctl::commands::{config, doctor};
use logctl::error::Error;
use logctl::health::{of_mount, Check, State};
use logctl::object::Object;
use logctl::output::Output;
use logctl::system::System;
use logctl::uapi::Status;
use mount::{history, Kernel, BEGINNING};
use rustix::io::Errno;
use schema::Schema;

/// A machine below a directory that goes with it.
struct Machine(PathBuf);

impl Machine {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("logctl-doctor-{}-{number}-{name}", std::process::id());
        let machine = Self(std::env::temp_dir().join(name));
        fs::create_dir_all(&machine.0).unwrap();
        for (path, text) in files {
            let path = machine.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        machine
    }

    fn system(&self) -> System {
        System::at(&self.0)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const RELEASE: (&str, &str) = ("proc/sys/kernel/osrelease", "7.2.12+deb13-amd64\n");
const LOADED: (&str, &str) = (
    "proc/filesystems",
    "nodev\tsysfs\nnodev\tloggerfs\n\text4\n",
);
const MOUNTS: (&str, &str) = (
    "proc/self/mountinfo",
    "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
     30 22 0:30 / /mnt/my\\040files rw,relatime shared:2 - loggerfs /srv/my\\040files \
     rw,history=on,history_max=1048576,on_full=deny,on_error=continue,commit=1\n\
     31 22 0:31 / /srv/nfs rw - nfs4 host:/x rw\n\
     32 22 0:32 / /nfs ro,relatime - loggerfs /srv/nfs rw,history=off,on_full=trim,on_error=continue,commit=5,args=off\n",
);

/// Runs a command: its result, output and messages.
fn printed(
    json: bool,
    command: impl FnOnce(&mut Output<'_>) -> Result<(), Error>,
) -> (Result<(), Error>, String, String) {
    let (mut results, mut messages) = (Vec::new(), Vec::new());
    let mut stripped = anstream::StripStream::new(&mut messages);
    let result = command(&mut Output::new(&mut results, &mut stripped, json));
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (result, text(results), text(messages))
}

/// Result and output of `doctor`.
fn examine(system: &System, json: bool) -> (Result<(), Error>, String) {
    let (result, said, _) = printed(json, |output| doctor::run(system, None, output));
    (result, said)
}

#[test]
fn a_machine_without_the_module() {
    let machine = Machine::new("none", &[RELEASE, ("proc/filesystems", "\text4\n")]);
    let (result, said) = examine(&machine.system(), false);
    assert!(matches!(result, Err(Error::Unhealthy)), "{said}");
    for part in [
        "problem module       loggerfs is not loaded, and not installed for the kernel 7.2.12+deb13-amd64",
        "warning mount        no LoggerFS is mounted",
        "warning module file  no loggerfs.ko",
        "warning boot         loggerfs is not loaded at boot",
        "warning man page     logctl(1) is not installed",
        "warning completions  no shell completions",
        "ok      binary",
    ] {
        assert!(said.contains(part), "no '{part}' in:\n{said}");
    }
    // An installed one can be loaded.
    let dep = (
        "lib/modules/7.2.12+deb13-amd64/modules.dep",
        "kernel/fs/ext4.ko:\nextra/loggerfs.ko.xz:\n",
    );
    let machine = Machine::new("installed", &[RELEASE, dep]);
    let (_, said) = examine(&machine.system(), false);
    assert!(said.contains("`modprobe loggerfs` loads it"), "{said}");
    assert!(
        said.contains("module file  /lib/modules/7.2.12+deb13-amd64/extra/loggerfs.ko.xz"),
        "{said}"
    );
    // No file at all, not even /proc.
    let machine = Machine::new("empty", &[]);
    assert!(examine(&machine.system(), false).0.is_err());
}

/// The module's version is in the file of the module as the kernel's build puts it there.
#[test]
fn versions_are_compared() {
    let own = env!("CARGO_PKG_VERSION");
    let dep = (
        "lib/modules/7.2.12+deb13-amd64/modules.dep",
        "extra/loggerfs.ko:\n",
    );
    let file = format!("\x7fELF\0license=GPL\0srcversion=0123\0version={own}\0name=loggerfs\0");
    let installed = ("lib/modules/7.2.12+deb13-amd64/extra/loggerfs.ko", &*file);
    let reload = "unmount, `modprobe -r loggerfs`, and mount anew";
    for (module, files, message, advice) in [
        (
            "0.0.9",
            &[RELEASE, LOADED][..],
            format!("warning versions     the module 0.0.9 is older than logctl {own}\n"),
            format!("{:23}upgrade the module to {own}, then {reload}.\n", ""),
        ),
        (
            "0.0.9",
            &[RELEASE, LOADED, dep, installed],
            format!("warning versions     the module 0.0.9 is older than logctl {own}\n"),
            format!(
                "{:23}version {own} of the module is installed: {reload}.\n",
                ""
            ),
        ),
        (
            "99.0.0",
            &[RELEASE, LOADED, dep, installed],
            format!("warning versions     logctl {own} is older than the module 99.0.0\n"),
            format!("{:23}upgrade logctl to 99.0.0.\n", ""),
        ),
        (
            own,
            &[RELEASE, LOADED],
            format!("ok      versions     module and logctl are {own}\n"),
            String::new(),
        ),
    ] {
        let version = format!("{module}\n");
        let mut all = files.to_vec();
        all.push(("sys/module/loggerfs/version", &version));
        let machine = Machine::new("versions", &all);
        let (result, said) = examine(&machine.system(), false);
        assert!(result.is_ok(), "{said}");
        let both = format!("{message}{advice}");
        assert!(said.contains(&both), "no '{both}' in:\n{said}");
    }
}

/// A module that does not know a request: the next step names the versions, if they differ.
#[test]
fn a_request_that_the_module_does_not_know() {
    let (mut kernel, _) = history();
    let version = ("sys/module/loggerfs/version", "0.0.9\n");
    let machine = Machine::new("unknown", &[MOUNTS, version]);
    for errno in [Errno::INVAL, Errno::NOTTY] {
        kernel.status_error = Some(errno);
        let found = checks_of(&machine, 0, &mut kernel);
        let (state, message) = find(&found, "history");
        assert_eq!(state, State::Problem);
        assert_eq!(message, "module and logctl do not understand each other");
        let check = found.iter().find(|check| check.name == "history").unwrap();
        let advice = check.advice.as_deref().unwrap();
        assert!(
            advice.starts_with("the module 0.0.9 is older than logctl"),
            "{advice}"
        );
    }
    let system = machine.system();
    assert!(system.is_on_own_mount(Path::new("/mnt/my files/dir")));
    assert!(!system.is_on_own_mount(Path::new("/mnt/my filesystem")));
    assert!(!system.is_on_own_mount(Path::new("/srv/nfs/x")));
}

#[test]
fn an_installation_that_is_complete() {
    let machine = Machine::new(
        "complete",
        &[
            RELEASE,
            LOADED,
            (
                "lib/modules/7.2.12+deb13-amd64/modules.dep",
                "updates/dkms/loggerfs.ko:\n",
            ),
            ("etc/modules-load.d/loggerfs.conf", "# undo\nloggerfs\n"),
            ("usr/share/man/man1/logctl.1.gz", ""),
            ("usr/share/bash-completion/completions/logctl", ""),
        ],
    );
    let (result, said) = examine(&machine.system(), false);
    assert!(result.is_ok(), "{said}");
    assert_eq!(said.matches("warning").count(), 1, "no mount:\n{said}");
}

#[test]
fn doctor_and_config_have_json() {
    let schema = Schema::strict();
    let machine = Machine::new("json", &[RELEASE, LOADED, MOUNTS]);
    let (_, said) = examine(&machine.system(), true);
    assert!(said.lines().count() > 10, "{said}");
    for line in said.lines() {
        assert_eq!(schema.check(line), Ok("check"));
    }
    let (_, said, _) = settings(&machine, (None, None), true);
    assert!(said.lines().count() > 10, "{said}");
    for line in said.lines() {
        assert_eq!(schema.check(line), Ok("setting"));
    }
}

/// Result, output and messages of `config`.
fn settings(
    machine: &Machine,
    chosen: (Option<&Path>, Option<&str>),
    json: bool,
) -> (Result<(), Error>, String, String) {
    let variable = |name: &str| (name == "TZ").then(|| OsString::from("Asia/Tokyo"));
    printed(json, |output| {
        config::run(&machine.system(), chosen, &variable, output)
    })
}

#[test]
fn settings_in_effect() {
    let machine = Machine::new("settings", &[MOUNTS]);
    let (result, said, _) = settings(&machine, (None, None), false);
    assert!(result.is_ok());
    for part in [
        "'/mnt/my files'\n",
        "* history_max  1048576",
        "* on_full      deny",
        "  history      on",
        "/nfs\n",
        "* history      off",
        "* args         off",
        "environment\n",
        "* TZ              Asia/Tokyo",
        "  NO_COLOR        -",
    ] {
        assert!(said.contains(part), "no '{part}' in:\n{said}");
    }
    let (_, said, hint) = settings(&machine, (Some(Path::new("/nfs")), Some("commit")), false);
    assert_eq!(said.lines().count(), 3, "{said}");
    assert_eq!(
        hint,
        "Hint: to change it: unmount /nfs, and mount with `-o commit=VALUE`.\n"
    );
    let (result, ..) = settings(&machine, (None, Some("nosuch")), false);
    assert!(matches!(result, Err(Error::Usage { .. })));
    let (result, ..) = settings(&machine, (Some(Path::new("/")), None), false);
    assert!(matches!(result, Err(Error::NotLoggerFs { .. })));
}

/// The checks of the mount in MOUNTS with this index.
fn checks(index: usize, kernel: &mut Kernel) -> Vec<Check> {
    let machine = Machine::new(
        "mount",
        &[
            MOUNTS,
            (
                "etc/fstab",
                "/srv/my\\040files /mnt/my\\040files loggerfs defaults 0 0\n",
            ),
        ],
    );
    checks_of(&machine, index, kernel)
}

/// The checks of the mount with this index.
fn checks_of(machine: &Machine, index: usize, kernel: &mut Kernel) -> Vec<Check> {
    let system = machine.system();
    let mounts = system.own_mounts();
    assert_eq!(mounts.len(), 2);
    of_mount(&mounts[index], Ok(kernel as &mut dyn Object), None, &system)
}

fn find<'c>(checks: &'c [Check], name: &str) -> (State, &'c str) {
    let found = checks.iter().find(|check| check.name == name);
    found
        .map(|check| (check.state, check.message.as_str()))
        .unwrap_or_else(|| panic!("{name}: {checks:#?}"))
}

fn on() -> Status {
    Status {
        mount_flags: Status::MOUNT_HISTORY,
        seq: 8,
        log_bytes: 500_000,
        history_max: 1 << 20,
        on_full: Status::DENY,
        ..Status::default()
    }
}

#[test]
fn a_history_that_is_well() {
    let (mut kernel, _) = history();
    kernel.next_segment();
    kernel.line(
        4000,
        "4.1",
        "/usr/bin/vim write 0 9",
        "open=. size=9 undo=none pid=70@7.0 uid=1000",
    );
    kernel.status = Some(on());
    let found = checks(0, &mut kernel);
    assert_eq!(find(&found, "lower"), (State::Ok, "/srv/my files on ext4"));
    assert!(!found.iter().any(|check| check.name == "fstab"));
    assert_eq!(find(&found, "history").0, State::Ok);
    let (state, message) = find(&found, "oldest point");
    assert!(
        state == State::Ok && message.starts_with("op 1, ") && message.ends_with(" days ago"),
        "{message}"
    );
    let (state, message) = find(&found, "growth");
    assert!(
        state == State::Ok && message.contains("500.0 KB of 1.0 MB"),
        "{message}"
    );
    // The history's numbers are the administrator's.
    let of_others = Status::MOUNT_HISTORY | Status::MOUNT_OF_OTHERS;
    kernel.status = Some(Status {
        mount_flags: of_others,
        ..on()
    });
    let found = checks(0, &mut kernel);
    assert!(!found
        .iter()
        .any(|check| check.name == "growth" || check.state == State::Problem));
    assert_eq!(find(&found, "oldest point").0, State::Ok);
}

#[test]
fn a_history_that_is_not_well() {
    let (mut kernel, _) = history();
    let cases = [
        (
            Status { errors: 2, ..on() },
            "history",
            State::Problem,
            "failed 2 times",
        ),
        (
            Status { lost: 3, ..on() },
            "history",
            State::Warning,
            "3 operations",
        ),
        (
            Status {
                mount_flags: 0,
                ..on()
            },
            "history",
            State::Problem,
            "off",
        ),
    ];
    for (status, name, state, part) in cases {
        kernel.status = Some(status);
        let found = checks(0, &mut kernel);
        let (is, message) = find(&found, name);
        assert!(is == state && message.contains(part), "{message}");
    }
    // Older history was dropped.
    kernel.next_segment();
    kernel.line(
        4000,
        "4.1",
        "/usr/bin/vim write 0 9",
        "open=. size=9 undo=none pid=70@7.0 uid=1000",
    );
    (kernel.dropped, kernel.names_dropped) = (1, true);
    kernel.status = Some(on());
    let found = checks(0, &mut kernel);
    let (_, message) = find(&found, "oldest point");
    assert!(
        message.starts_with("op 9, ") && message.contains("older ones were dropped"),
        "{message}"
    );
    assert!(find(&found, "growth").1.contains("it reaches"));
    // Another one: read-only, with history off, over a filesystem that is not tested, not in fstab.
    let found = checks(1, &mut kernel);
    for (name, state) in [
        ("options", State::Problem),
        ("lower", State::Warning),
        ("fstab", State::Warning),
    ] {
        assert_eq!(find(&found, name).0, state, "{found:#?}");
    }
    // Its state cannot be read.
    kernel.status = None;
    let found = checks(0, &mut kernel);
    let (state, message) = find(&found, "history");
    assert!(
        state == State::Ok && message.contains("shown to root"),
        "{message}"
    );
}

/// A forecast needs more than some minutes.
#[test]
fn a_young_history_gives_no_forecast() {
    let mut kernel = Kernel::new();
    let now = jiff::Timestamp::now().as_second() - BEGINNING;
    kernel.line(
        now - 600,
        "1.1",
        "/bin/x create 0 0",
        "name=f node=4.1 undo=none pid=3@3.0",
    );
    kernel.status = Some(on());
    let found = checks(0, &mut kernel);
    let (state, message) = find(&found, "growth");
    assert_eq!(
        (state, message),
        (
            State::Ok,
            "500.0 KB of 1.0 MB; 10 min of history are too little for a forecast"
        )
    );
    // Ten hours for a third of the room that is left.
    let mut kernel = Kernel::new();
    kernel.line(
        now - 36_000,
        "1.1",
        "/bin/x create 0 0",
        "name=f node=4.1 undo=none pid=3@3.0",
    );
    kernel.status = Some(on());
    let found = checks(0, &mut kernel);
    let (state, message) = find(&found, "growth");
    assert_eq!(
        (state, message),
        (
            State::Warning,
            "500.0 KB of 1.0 MB, 1.2 MB a day: full within a day"
        )
    );
}
