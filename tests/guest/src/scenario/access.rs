// SPDX-License-Identifier: GPL-2.0

//! Access rights: the same through the mount as on the lower filesystem, for programs that a
//! security module confines, for other users, and in user namespaces.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::calls;
use crate::fixture::Fixture;
use crate::harness::Test;
use crate::mounts::{self, Lower};
use crate::outcome::{check, same, At, Outcome, Stop};

pub const TESTS: &[Test] = &[
    Test::new("access-confined", confined).seconds(180),
    Test::new("access-of-a-user", of_a_user).seconds(120),
    Test::new("access-set-ids", set_ids).lengthy().seconds(120),
    Test::new("access-reserved-space", reserved_space).only(&[Lower::Ext4]),
    Test::new("access-capabilities-in-namespaces", capabilities)
        .lengthy()
        .seconds(120),
];

/// The profile allows all access but to one name, which shows that it is enforced.
const PROFILE: &str = "
profile lfs-confined {
    file,
    capability,
    network,
    signal,
    unix,
    ptrace,
    deny /**/forbidden w,
}
";

/// The results of the calls in a directory, without those that differ from run to run.
fn answers(w: &Fixture, place: &Path, uid: u32, profile: &str) -> Outcome<Vec<String>> {
    fs::create_dir_all(place)?;
    fs::set_permissions(place, fs::Permissions::from_mode(0o777))?;
    let at = place.display().to_string();
    let output = w
        .worker(&["calls", &at, &uid.to_string(), profile])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<String> = text.lines().map(str::to_string).collect();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    check!(
        lines.len() == calls::count() + 2,
        "{at}: {} answers; {complaint}",
        lines.len()
    );
    Ok(lines)
}

fn same_answers(what: &str, got: &[String], want: &[String]) -> Outcome {
    for (got, want) in got.iter().zip(want).skip(2) {
        same(what, got, want)?;
    }
    Ok(())
}

fn confined(w: &mut Fixture) -> Outcome {
    let loader = Path::new("/sys/kernel/security/apparmor/.replace");
    if !loader.exists() {
        return Err(Stop::Skip("the kernel has no AppArmor".into()));
    }
    let file = "/run/lfs-confined";
    fs::write(file, PROFILE)?;
    mounts::run(&["apparmor_parser", "--replace", "--skip-cache", file])?;
    let raw = w.beside()?;
    let free = answers(w, &w.path("free"), 0, "-")?;
    let bound = answers(w, &w.path("bound"), 0, "lfs-confined")?;
    let bound_raw = answers(w, &raw.join("bound"), 0, "lfs-confined")?;
    for lines in [&bound, &bound_raw] {
        same(
            "the label",
            lines[0].as_str(),
            "label: lfs-confined (enforce)",
        )?;
        let refused = "forbidden: Permission denied (os error 13)";
        same("what it denies", lines[1].as_str(), refused)?;
    }
    same_answers("confined and not", &bound, &free)?;
    same_answers("confined, and raw", &bound, &bound_raw)?;
    // Nothing was lost on the way: the newest change of the first file is taken back.
    w.revert("bound/f", 1)
}

fn of_a_user(w: &mut Fixture) -> Outcome {
    let raw = w.beside()?;
    let through = answers(w, &w.path("place"), 1000, "-")?;
    let below = answers(w, &raw.join("place"), 1000, "-")?;
    same_answers("a user's, and raw", &through, &below)
}

/// The calls of a user in none of the groups of the files. Each line is followed by the modes and
/// owners of all files.
const SET_IDS: &str = r#"
umask 022
as() { setpriv --reuid 1000 --regid 1000 --clear-groups -- bash -c "$1" 2>&1 || echo "refused"; }
mkdir -m 2777 d; chgrp 1001 d
for f in chmod acl write append truncate fallocate copy attr; do
    echo content > $f; chown 1000:1001 $f; chmod 6775 $f
done
echo content > source; chmod 644 source
as 'chmod 2755 chmod'
as 'setfacl -m u:2000:rw acl'
as 'echo more > write'
as 'echo more >> append'
as 'truncate -s 3 truncate'
as 'fallocate -l 100 fallocate'
as 'python3 -c "import os; os.copy_file_range(os.open(\"source\", 0), os.open(\"copy\", 2), 4)"'
as 'chown 1000:1000 attr'
as 'touch d/file; mkdir d/sub; mkfifo d/fifo; ln -s x d/link'
as 'python3 -c "import os; os.umask(0); os.open(\"d/set\", os.O_CREAT | os.O_WRONLY, 0o2775)"'
as 'umask 077; mkdir d/private; touch d/private/x'
mkdir -m 777 e; setfacl -d -m u:2000:rwx,g::r,o::- e
as 'umask 0; touch e/file; mkdir e/sub; umask 077; touch e/other'
as 'python3 -c "
import os
f = os.open(\".\", os.O_TMPFILE | os.O_RDWR, 0o666)
print(oct(os.fstat(f).st_mode), os.fstat(f).st_uid, os.fstat(f).st_gid)"'
setfattr -n trusted.hidden -v 1 source; setfattr -n user.seen -v 1 source
as 'getfattr -m - source; setfattr -n trusted.mine -v 1 write; setfattr -n security.mine -v 1 write'
getfattr -m - source
as 'setfattr -n user.mine -v 1 source; chown 2000 write; chmod 777 source; mknod d/null c 1 3'
find . -name .loggerfs -prune -o -printf '%P %m %U %G %y\n' | sort
getfacl -R e
"#;

fn set_ids(w: &mut Fixture) -> Outcome {
    let raw = w.beside()?;
    fs::create_dir(w.path("place"))?;
    // btrfs shows names of trusted attributes to every user.
    let script = match w.lower {
        Lower::Btrfs => SET_IDS.replace("as 'getfattr -m - source", "as 'getfattr -m user. source"),
        _ => SET_IDS.to_string(),
    };
    let through = mounts::run_in(&w.path("place"), &["bash", "-uc", &script])?;
    let below = mounts::run_in(&raw, &["bash", "-uc", &script])?;
    for (got, want) in through.lines().zip(below.lines()) {
        same("as on the lower filesystem", got, want)?;
    }
    same(
        "how many lines",
        through.lines().count(),
        below.lines().count(),
    )
}

/// An unprivileged user gets no right of root's through the mounter's credentials; root has it.
fn reserved_space(w: &mut Fixture) -> Outcome {
    w.remount_with("history=off")?;
    w.sh("touch f; chown 1000 f")?;
    let take = "set -- $(stat -f -c '%a %f %S' .); \
        fallocate -l $((($1 + ($2 - $1) / 2) * $3)) f && echo taken || echo refused";
    let user = format!(
        "setpriv --reuid 1000 --regid 1000 --clear-groups -- bash -c \"{}\" 2>&1",
        take.replace('$', "\\$")
    );
    let said = w.sh(&user)?;
    check!(said.ends_with("refused\n"), "a user: {said}");
    w.sh("truncate -s 0 f")?;
    let said = w.sh(&format!("({take}) 2>&1"))?;
    check!(said.ends_with("taken\n"), "root: {said}");
    w.sh("rm f").map(drop)
}

/// Capabilities of files in a user namespace whose root is user 100000: set, shown and given there
/// and outside; `$D` is the directory.
const CAPABILITIES: &str = r#"
cd "$D"
unshare --user sleep 1000 & holder=$!
until [ "$(readlink /proc/$holder/ns/user)" != "$(readlink /proc/self/ns/user)" ]; do sleep 0.05; done
trap 'kill $holder' EXIT
echo '0 100000 1000' > /proc/$holder/uid_map
echo '0 100000 1000' > /proc/$holder/gid_map
inside() { nsenter --user --target $holder --setuid 0 --setgid 0 -- bash -c "$1" 2>&1 || echo "status $?"; }
show() { getfattr -e hex -n security.capability "$1" 2>&1; }
chmod 755 .
cp /usr/bin/grep f; cp /usr/bin/grep g; cp /usr/bin/grep h
chown 100000:100000 f; chmod 755 f g h
inside 'setcap cap_chown,cap_net_raw+ep f'
inside 'getcap f; getfattr -e hex -n security.capability f'
show f
getcap -n f
inside 'setpriv --reuid 1 --regid 1 --clear-groups ./f CapEff /proc/self/status'
setpriv --reuid 5 --regid 5 --clear-groups ./f CapEff /proc/self/status
setcap cap_chown+ep g
inside 'getcap g; getfattr -e hex -n security.capability g; setpriv --reuid 1 --regid 1 --clear-groups ./g CapEff /proc/self/status'
setpriv --reuid 5 --regid 5 --clear-groups ./g CapEff /proc/self/status
inside 'setcap cap_chown+ep g'
setcap -n 100000 cap_kill+ep h
show h
inside 'getcap h; setpriv --reuid 1 --regid 1 --clear-groups ./h CapEff /proc/self/status'
inside 'setfattr -n user.x -v 1 f; getfattr -m - f'
inside 'setcap cap_kill+ep f; setcap -r f; getcap f'
show f
inside 'setcap cap_setuid+ep f; echo >> f; getcap f'
show f || true
"#;

fn capabilities(w: &mut Fixture) -> Outcome {
    let run = |place: &Path| -> Outcome<String> {
        fs::create_dir_all(place)?;
        let script = CAPABILITIES.replace("$D", &place.display().to_string());
        mounts::run(&["bash", "-uc", &script])
    };
    let below = run(&w.beside()?.join("place"))?;
    let through = run(&w.path("place"))?;
    let strip = |text: &str| text.replace(&format!("{}", w.base.display()), "");
    for (got, want) in strip(&through).lines().zip(strip(&below).lines()) {
        same("as on the lower filesystem", got, want)?;
    }
    same(
        "how many lines",
        through.lines().count(),
        below.lines().count(),
    )?;
    check!(
        below.contains("CapEff:\t0000000000002001"),
        "no capabilities on raw: {below}"
    );
    undo_inside(w)
}

/// The root user of a user namespace takes its own operations back, and cannot set more than that
/// user could.
fn undo_inside(w: &mut Fixture) -> Outcome {
    let script = r#"
        unshare --user sleep 1000 & holder=$!
        until [ "$(readlink /proc/$holder/ns/user)" != "$(readlink /proc/self/ns/user)" ]; do sleep 0.05; done
        trap 'kill $holder' EXIT
        echo '0 100000 1000' > /proc/$holder/uid_map
        echo '0 100000 1000' > /proc/$holder/gid_map
        inside() { nsenter --user --target $holder --setuid 0 --setgid 0 -- bash -c "$1" 2>&1 || echo "status $?"; }
        undo() { inside "lfs-tests work revert $1 1"; }
        mkdir -m 777 caps; cd caps
        echo x > f; chown 100000:100000 f; chmod 755 f
        inside 'setcap cap_chown+ep f'
        inside 'setcap cap_kill+ep f'
        undo f
        inside 'getcap f'
        echo y > g; setcap cap_chown+ep g; setcap cap_kill+ep g; chown -h 100000:100000 g; setcap cap_kill+ep g
        setfattr -x security.capability g
        undo g
        inside 'getcap g'
        getcap g
    "#;
    let said = w.sh(script).at("undoing in a namespace")?;
    let lines: Vec<&str> = said.lines().collect();
    check!(
        lines.first() == Some(&"f cap_chown=ep"),
        "undone by the namespace's root: {said}"
    );
    check!(!said.contains("cap_kill"), "more than it may set: {said}");
    Ok(())
}
