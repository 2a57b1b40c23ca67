// SPDX-License-Identifier: GPL-2.0

//! `logctl doctor` and `logctl config` on real mounts, well and not well.

use super::verbs::{done, logctl};
use crate::fixture::Fixture;
use crate::harness::Test;
use crate::outcome::{check, same, Outcome};

pub const TESTS: &[Test] = &[
    Test::new("doctor-of-mounts", of_mounts),
    Test::new("doctor-of-versions", of_versions),
    Test::new("doctor-on-a-full-disk", on_a_full_disk),
    Test::new("config-of-mounts", config),
];

const USER: &str = "setpriv --reuid 2000 --regid 2000 --clear-groups";

fn says(said: &str, parts: &[&str]) -> Outcome {
    for part in parts {
        check!(said.contains(part), "no '{part}' in:\n{said}");
    }
    Ok(())
}

fn of_mounts(w: &mut Fixture) -> Outcome {
    w.sh("echo one > f; echo two >> f")?;
    let said = done(w, "doctor")?;
    let mount = w.mnt.display();
    says(
        &said,
        &[
            "ok      module       loggerfs",
            &format!("{mount}\n"),
            "ok      options      rw,history=on,on_full=trim,on_error=continue,commit=1\n",
            "ok      lower        ",
            "ok      history      on, last op ",
            "ok      oldest point op 1, ",
            "too little for a forecast",
        ],
    )?;
    // A user sees as much as is his, and the user has no own operations.
    let said = w.sh(&format!("cd /; {USER} logctl doctor"))?;
    says(
        &said,
        &[
            "ok      module ",
            "ok      history      its state is shown to root",
        ],
    )?;
    w.sh(&format!("mount -o remount,ro {mount}"))?;
    let said = done(w, "doctor")?;
    says(&said, &["warning options      ro,", "mount -o remount,rw"])?;
    w.sh(&format!("mount -o remount,rw,history=off {mount}"))?;
    let (code, said, complaint) = logctl(w, "doctor")?;
    same(format!("{said}{complaint}"), code, 1)?;
    says(&said, &["problem history      off"])?;
    same("messages", complaint.as_str(), "")?;
    w.sh(&format!("mount -o remount,history=on {mount}"))?;
    done(w, &format!("-m {mount} doctor"))?;
    let (code, said, _) = logctl(w, "-m /proc doctor")?;
    same(&said, code, 0)?;
    says(&said, &["/proc is no mount of LoggerFS"])
}

/// The module states the version of logctl; a file in the place of its statement is one of another version.
fn of_versions(w: &mut Fixture) -> Outcome {
    let said = done(w, "--version")?;
    let own = said.trim_end().trim_start_matches("logctl ").to_owned();
    let module = w.sh("cat /sys/module/loggerfs/version; modinfo -F version $LFS_MODULE")?;
    same("the module's version", module, format!("{own}\n{own}\n"))?;
    let said = done(w, "doctor")?;
    says(
        &said,
        &[&format!(
            "ok      versions     module and logctl are {own}\n"
        )],
    )?;
    for (version, message, advice) in [
        (
            "0.0.9",
            format!("warning versions     the module 0.0.9 is older than logctl {own}\n"),
            format!("upgrade the module to {own}, then unmount, `modprobe -r loggerfs`, and mount anew.\n"),
        ),
        (
            "1000.0",
            format!("warning versions     logctl {own} is older than the module 1000.0\n"),
            "upgrade logctl to 1000.0.\n".to_owned(),
        ),
    ] {
        w.sh(&format!(
            "echo {version} > /tmp/lfs-version; mount --bind /tmp/lfs-version /sys/module/loggerfs/version"
        ))?;
        let said = logctl(w, "doctor");
        w.sh("umount /sys/module/loggerfs/version")?;
        says(&said?.1, &[&message, &advice])?;
    }
    Ok(())
}

/// It needs no space.
fn on_a_full_disk(w: &mut Fixture) -> Outcome {
    let dir = w.beside()?.join("small");
    let dir = dir.display();
    w.sh(&format!(
        "mkdir {dir}; mount -t loggerfs -o tmpfs,size=8M none {dir}; cd {dir}
        dd if=/dev/zero of=fill bs=64k 2>/dev/null || true; cat /dev/zero >> fill 2>/dev/null || true"
    ))?;
    let (code, said, complaint) = logctl(w, &format!("-m {dir} doctor"))?;
    w.sh(&format!("umount {dir}"))?;
    check!(code == 0 || code == 1, "{code}: {said}{complaint}");
    let line = said.lines().find(|line| line.contains(" space "));
    let line = line.unwrap_or_default();
    check!(!line.contains("ok "), "{line}: {said}");
    says(&said, &["a private tmpfs", "oldest point"])
}

fn config(w: &mut Fixture) -> Outcome {
    let said = done(w, "config")?;
    let mount = w.mnt.display();
    says(
        &said,
        &[
            &format!("{mount}\n"),
            "  history      on ",
            "  on_full      trim",
            "environment\n",
        ],
    )?;
    w.sh(&format!("mount -o remount,history=off {mount}"))?;
    let (code, said, hint) = logctl(w, &format!("-m {mount} config history"))?;
    same(&said, code, 0)?;
    check!(said.contains("* history  off"), "{said}");
    check!(
        hint.contains(&format!("mount -o remount,history=VALUE {mount}")),
        "{hint}"
    );
    let said = w.sh(&format!("cd /; {USER} env TZ=UTC logctl config TZ"))?;
    check!(said.contains("* TZ    UTC"), "{said}");
    Ok(())
}
