// SPDX-License-Identifier: GPL-2.0

//! `logctl restore --out` and `logctl blame`: looks at the past that leave the mount as it is.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::verbs::{done, logctl};
use crate::fixture::Fixture;
use crate::harness::Test;
use crate::mounts;
use crate::outcome::{check, same, At, Outcome};

pub const TESTS: &[Test] = &[
    Test::new("copies-of-a-tree", of_a_tree),
    Test::new("copies-replace-nothing", replace_nothing),
    Test::new("copies-on-a-full-filesystem", on_a_full_filesystem),
    Test::new("copies-without-attributes", without_attributes),
    Test::new("blame-lines", blame_lines),
    Test::new("blame-bytes", blame_bytes),
];

/// A shell line, run outside of the mount.
fn sh(line: &str) -> Outcome<String> {
    mounts::run_in(Path::new("/"), &["bash", "-euc", line])
}

/// The number of the mount's last line.
fn point(w: &Fixture) -> Outcome<u64> {
    Ok(crate::past_read::now(&fs::File::open(&w.mnt)?)?.0)
}

/// All below a directory: names, kinds, modes, owners, sizes, targets, and the sums of contents. The time of a
/// file that was changed since is only known as that of its last logged change.
fn listing(dir: &Path) -> Outcome<String> {
    sh(&format!(
        "cd {}; find . -mindepth 1 -type d -printf '%P %y %m %U %G\\n' -o -mindepth 1 \
         -printf '%P %y %m %U %G %s %l\\n' | sort; find . -type f -exec sha256sum {{}} + | sort -k 2",
        dir.display()
    ))
}

/// A directory, and the whole mount, as a copy made then has them.
fn of_a_tree(w: &mut Fixture) -> Outcome {
    let beside = w.beside()?;
    w.sh(
        "mkdir -p d/e; echo one > d/f; printf x | dd of=d/sparse bs=1 seek=1000000 status=none
        ln -s f d/l; ln d/f d/hard; chmod 640 d/f; echo deep > d/e/g; chown 1000:1001 d/e d/e/g
        touch -d '2020-01-02 03:04:05.5' d/e/g",
    )?;
    let then = point(w)?;
    let want = beside.join("want");
    sh(&format!("cp -a {}/d {}", w.mnt.display(), want.display()))?;
    w.sh("echo two > d/f; rm -r d/e; mv d/l d/m; mkdir d/e; echo mine > d/e/other; rm d/sparse")?;
    let last = point(w)?;
    let out = beside.join("out");
    let said = done(w, &format!("restore --to {then} --out {} d", out.display()))?;
    check!(
        said.contains(&format!("as of op {then}")),
        "it says: {said}"
    );
    let want = listing(&want)?;
    same("the copy", listing(&out.join("d"))?, want.clone())?;
    let sparse = fs::metadata(out.join("d/sparse"))?;
    check!(
        sparse.blocks() < 400,
        "{} blocks of a sparse file",
        sparse.blocks()
    );
    let time = fs::metadata(out.join("d/e/g"))?;
    let time = (time.mtime(), time.mtime_nsec());
    same(
        "the time of a removed file",
        time,
        (1_577_934_245, 500_000_000),
    )?;
    let all = beside.join("all");
    done(w, &format!("restore --to {then} --out {}", all.display()))?;
    same("the copy of all", listing(&all.join("d"))?, want)?;
    same("the last line", point(w)?, last)?;
    w.same("the file", "d/f", b"two\n")
}

/// Nothing that has the name already, and nothing at the end of a symbolic link.
fn replace_nothing(w: &mut Fixture) -> Outcome {
    let beside = w.beside()?;
    w.sh("echo one > f; echo one > g; echo one > h; mkfifo p")?;
    let then = point(w)?;
    w.sh("echo two > f; echo two > g; rm h")?;
    let (out, victim) = (beside.join("out"), beside.join("victim"));
    sh(&format!(
        "mkdir {0}; echo mine > {0}/f; ln -s {1} {0}/g",
        out.display(),
        victim.display()
    ))?;
    let line = format!("restore --to {then} --out {} f g h p", out.display());
    let (code, _, complaint) = logctl(w, &line)?;
    same("the exit code", code, 3)?;
    for name in ["f", "g", "p"] {
        let path = out.join(name);
        let path = format!("Not copied: '{}'", path.display());
        check!(complaint.contains(&path), "it says: {complaint}");
    }
    same(
        "mine",
        fs::read(out.join("f")).at("mine")?,
        b"mine\n".to_vec(),
    )?;
    check!(!victim.exists(), "a symbolic link was followed");
    same(
        "the other",
        fs::read(out.join("h")).at("h")?,
        b"one\n".to_vec(),
    )?;
    let (code, _, complaint) = logctl(
        w,
        &format!("restore --to {then} --out {} no", out.display()),
    )?;
    same("of a name that never was", code, 1)?;
    check!(
        complaint.contains("is or was called"),
        "it says: {complaint}"
    );
    let (code, _, _) = logctl(
        w,
        &format!("restore -n --to {then} --out {} f", out.display()),
    )?;
    same("of a dry run", code, 2)
}

/// A filesystem beside the mount, until it is dropped.
struct Target(std::path::PathBuf);

impl Target {
    fn mount(w: &Fixture, kind: &str) -> Outcome<Self> {
        let dir = w.beside()?.join("target");
        sh(&format!(
            "mkdir {0}; mount -t {kind} target {0}",
            dir.display()
        ))?;
        Ok(Self(dir))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = sh(&format!("umount -l {0}; rmdir {0}", self.0.display()));
    }
}

/// A copy that does not fit is removed again; the others are whole.
fn on_a_full_filesystem(w: &mut Fixture) -> Outcome {
    w.sh("mkdir d; echo small > d/a; head -c 3000000 /dev/urandom > d/big; echo small > d/z")?;
    let then = point(w)?;
    w.sh("rm -r d")?;
    let target = Target::mount(w, "tmpfs -o size=1M")?;
    let out = target.0.join("out");
    let (code, said, complaint) =
        logctl(w, &format!("restore --to {then} --out {} d", out.display()))?;
    same(format!("{said}{complaint}"), code, 3)?;
    let big = out.join("d/big");
    let line = format!("Not copied: '{}': No space left on device", big.display());
    check!(complaint.contains(&line), "it says: {complaint}");
    check!(
        complaint.contains("1 copy was not made") && !complaint.contains("restore back"),
        "it says: {complaint}"
    );
    same(
        "the names",
        sh(&format!("ls {}/d", out.display()))?.as_str(),
        "a\nz\n",
    )?;
    for name in ["d/a", "d/z"] {
        same(
            name,
            fs::read(out.join(name)).at(name)?,
            b"small\n".to_vec(),
        )?;
    }
    // Not even the directory.
    drop(target);
    let (code, _, complaint) = logctl(w, &format!("restore --to {then} --out /proc/none d"))?;
    same(
        format!("a directory that cannot be made: {complaint}"),
        code,
        1,
    )
}

/// Where an attribute is refused, the content and all others are there.
fn without_attributes(w: &mut Fixture) -> Outcome {
    w.sh("mkdir d; echo text > d/f; setfattr -n user.a -v b d/f; setfattr -n user.a -v b d
        echo plain > d/g; chown 5:6 d/f d; chmod 640 d/f; chmod 710 d; touch -d '2020-01-02 03:04:05.5' d/f")?;
    let then = point(w)?;
    w.sh("rm -r d")?;
    let target = Target::mount(w, "ramfs")?;
    let out = target.0.join("out");
    let (code, said, complaint) =
        logctl(w, &format!("restore --to {then} --out {} d", out.display()))?;
    same(format!("{said}{complaint}"), code, 3)?;
    for name in ["d", "d/f"] {
        let path = out.join(name);
        let line = format!(
            "Copied without all attributes: '{}': Operation not supported",
            path.display()
        );
        check!(complaint.contains(&line), "it says: {complaint}");
    }
    check!(!complaint.contains("d/g'"), "it says: {complaint}");
    same(
        "the content",
        fs::read(out.join("d/f")).at("d/f")?,
        b"text\n".to_vec(),
    )?;
    let found = sh(&format!(
        "cd {}; stat -c '%a %u %g' d; stat -c '%a %u %g %Y' d/f",
        out.display()
    ))?;
    same(
        "the other attributes",
        found.as_str(),
        "710 5 6\n640 5 6 1577934245\n",
    )
}

/// The numbers of a key in lines of JSON.
fn numbers(said: &str, key: &str) -> Vec<u64> {
    let key = format!("\"{key}\":");
    let value = |line: &str| {
        let (_, rest) = line.split_once(&key)?;
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        rest[..end].parse().ok()
    };
    said.lines().map(|line| value(line).unwrap_or(0)).collect()
}

/// Across saves by rename, and an undo.
fn blame_lines(w: &mut Fixture) -> Outcome {
    let mut points = Vec::new();
    for line in [
        "printf 'a\\nb\\nc\\n' > f",
        "sed -i s/b/B/ f",
        "echo d >> f",
        "sed -i 1d f; sed -i 1iA f",
    ] {
        w.sh(line)?;
        points.push(point(w)?);
    }
    let ops = |w: &Fixture, words: &str| -> Outcome<Vec<usize>> {
        let said = done(w, &format!("--json blame {words}"))?;
        let ops = numbers(&said, "op").into_iter();
        Ok(ops
            .map(|op| points.iter().filter(|point| **point < op).count())
            .collect())
    };
    same("the lines", ops(w, "f")?, vec![3, 1, 0, 2])?;
    same(
        "earlier",
        ops(w, &format!("f --at {}", points[1]))?,
        vec![0, 1, 0],
    )?;
    let said = done(w, "blame f")?;
    check!(
        said.lines().count() == 5 && said.contains("1  A\n") && said.contains("4  d\n"),
        "it prints:\n{said}"
    );
    w.sh("logctl undo f")?;
    same(
        "without the line that was undone",
        ops(w, "f")?,
        vec![1, 0, 2],
    )?;
    let (code, _, _) = logctl(w, "blame nothing")?;
    same("of nothing", code, 1)
}

/// Of a file that is no text.
fn blame_bytes(w: &mut Fixture) -> Outcome {
    w.sh("printf 'aa\\0\\0\\0\\0' > g")?;
    w.sh("printf ZZ | dd of=g bs=1 seek=1 conv=notrunc status=none")?;
    w.sh("truncate -s 4 g; truncate -s 8 g")?;
    let said = done(w, "--json blame g")?;
    same(
        "where they begin",
        numbers(&said, "offset"),
        vec![0, 1, 3, 4],
    )?;
    same(
        "how long they are",
        numbers(&said, "length"),
        vec![1, 2, 1, 4],
    )?;
    let ops = numbers(&said, "op");
    check!(
        ops[0] == ops[2] && ops[0] < ops[1] && ops[1] < ops[3],
        "the actions are {ops:?}"
    );
    let said = done(w, "blame g")?;
    check!(
        said.contains("1-2") && said.contains("4-7"),
        "it prints:\n{said}"
    );
    Ok(())
}
