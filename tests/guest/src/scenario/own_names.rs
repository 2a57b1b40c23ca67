// SPDX-License-Identifier: GPL-2.0

//! Visibility and reverts for users in shared directories: their own names, without the others'
//! lines, and never the content of a file that has lost its name.

use std::fs::File;

use crate::fixture::Fixture;
use crate::group::{self, Watch, WALK};
use crate::harness::Test;
use crate::outcome::{check, fail, same, Outcome};

pub const TESTS: &[Test] = &[
    Test::new("own-names-in-a-shared-directory", shared_directory).seconds(120),
    Test::new("own-names-that-root-removed", removed_by_root).seconds(120),
    Test::new("own-names-and-others", beside_others).seconds(120),
    Test::new("own-names-under-a-sticky-bit", sticky).seconds(120),
    Test::new("own-names-without-others-arguments", arguments).seconds(120),
    Test::new("own-undo-beside-newer-files", newer_files).seconds(120),
    Test::new("own-undo-that-conflicts", conflicts).seconds(120),
    Test::new("own-undo-past-a-full-directory", past_full).seconds(120),
    Test::new("removed-content-is-not-changed", removed_content).seconds(120),
];

const ANA: &str = "setpriv --reuid 2000 --regid 2000 --clear-groups bash -euc";
const BEN: &str = "setpriv --reuid 2001 --regid 2001 --clear-groups bash -euc";

fn as_user(w: &Fixture, user: &str, line: &str) -> Outcome<String> {
    w.sh(&format!("{user} 'set -m; trap : EXIT; {line}' 2>&1"))
}

/// The same, with or without success: the exit code and the output.
fn try_as(w: &Fixture, user: &str, line: &str) -> Outcome<(String, String)> {
    let said = w.sh(&format!(
        "({user} 'set -m; trap : EXIT; {line}' 2>&1) && echo 'exit 0' || echo \"exit $?\""
    ))?;
    let (text, code) = said.trim_end().rsplit_once("exit ").unwrap_or((&said, "?"));
    Ok((code.to_owned(), text.to_owned()))
}

/// A user's undo in a root-owned directory takes the user's last operation back: the removal.
fn shared_directory(w: &mut Fixture) -> Outcome {
    w.sh("mkdir shared; chmod 1777 shared")?;
    as_user(w, ANA, "echo one > shared/f")?;
    as_user(w, ANA, "echo two >> shared/f")?;
    as_user(w, ANA, "rm shared/f")?;
    let log = as_user(w, ANA, "logctl log --ops")?;
    check!(log.contains("unlink"), "the removal is not shown: {log}");
    as_user(w, ANA, "logctl undo")?;
    w.same("back", "shared/f", b"one\ntwo\n")?;
    as_user(w, ANA, "logctl undo")?;
    w.same("without the second line", "shared/f", b"one\n")?;
    as_user(w, ANA, "logctl undo")?;
    check!(!w.path("shared/f").exists(), "made, and still there");
    as_user(w, ANA, "logctl redo")?;
    w.same("made again", "shared/f", b"one\n")?;
    // By its name, and through the directory.
    as_user(w, ANA, "echo three >> shared/f; rm shared/f")?;
    as_user(w, ANA, "logctl undo shared/f")?;
    w.same("by its name", "shared/f", b"one\nthree\n")?;
    as_user(w, ANA, "rm shared/f; logctl shared revert")?;
    w.same("by the directory", "shared/f", b"one\nthree\n")?;
    as_user(w, ANA, "mv shared/f shared/g; logctl shared revert")?;
    w.same("moved back", "shared/f", b"one\nthree\n")
}

/// Users can restore their objects that root removed; orphans stay intact.
fn removed_by_root(w: &mut Fixture) -> Outcome {
    w.sh("mkdir shared; chmod 1777 shared")?;
    as_user(w, ANA, "echo one > shared/f")?;
    let since = Watch::begin(w)?;
    w.sh("rm shared/f")?;
    let removal = since.operations(w)?;
    as_user(w, ANA, "logctl undo")?;
    w.same("the user's undo", "shared/f", b"one\n")?;
    // Another's removal, where the user may not make names: the file must stay whole.
    w.sh("rm shared/f; chmod 755 shared")?;
    let (code, said) = try_as(w, ANA, "logctl undo")?;
    check!(code != "0", "undone: {said}");
    check!(!w.path("shared/f").exists(), "a name came back: {said}");
    w.sh("chmod 1777 shared")?;
    let mut lines = group::history(w)?;
    lines.retain(|p| p.line.op == "unlink");
    let newest = lines.pop().filter(|p| p.seq > removal[0].seq);
    let Some(newest) = newest else {
        fail!("no second removal in the log");
    };
    super::groups::take_back(w, &[newest], WALK)?;
    w.same("root's revert of the removal", "shared/f", b"one\n")
}

/// Operations of others on other names meanwhile cause no conflict.
fn beside_others(w: &mut Fixture) -> Outcome {
    w.sh("mkdir shared; chmod 777 shared")?;
    as_user(w, ANA, "echo a > shared/a")?;
    as_user(w, BEN, "echo b > shared/b")?;
    w.sh("echo r > shared/r")?;
    let log = as_user(w, BEN, "logctl log --ops --json")?;
    check!(!log.contains("shared/a"), "another's name is shown: {log}");
    as_user(w, ANA, "logctl undo")?;
    check!(!w.path("shared/a").exists(), "the own file is still there");
    w.same("the other's", "shared/b", b"b\n")?;
    w.same("root's", "shared/r", b"r\n")?;
    // Forth again, beside a newer name.
    as_user(w, BEN, "logctl undo")?;
    check!(!w.path("shared/b").exists(), "the own file is still there");
    let (code, said) = try_as(w, ANA, "logctl undo")?;
    check!(code != "0", "something else was undone: {said}");
    w.same("root's", "shared/r", b"r\n")
}

/// The sticky bit holds for an undo as for any other call.
fn sticky(w: &mut Fixture) -> Outcome {
    w.sh("mkdir shared; chmod 777 shared")?;
    as_user(w, ANA, "echo a > shared/a")?;
    as_user(w, BEN, "mv shared/a shared/taken")?;
    w.sh("chmod 1777 shared")?;
    // Moving it back would take a name from another user's file.
    let (code, said) = try_as(w, BEN, "logctl undo")?;
    check!(code != "0", "a sticky directory let it pass: {said}");
    w.same("where it was", "shared/taken", b"a\n")?;
    as_user(w, ANA, "logctl shared revert")?;
    w.same("its owner may", "shared/a", b"a\n")
}

/// Lines of others about the user's own objects, without the others' arguments.
fn arguments(w: &mut Fixture) -> Outcome {
    w.sh("mkdir shared; chmod 1777 shared")?;
    as_user(w, ANA, "echo a > shared/a; echo b > shared/b")?;
    w.sh("rm -f shared/a not-for-your-eyes; touch shared/secret-name")?;
    let log = as_user(
        w,
        ANA,
        "logctl log --json; logctl log --ops --json; logctl shared readlog --all",
    )?;
    check!(log.contains("unlink"), "the removal is not shown: {log}");
    check!(
        !log.contains("not-for-your-eyes"),
        "arguments of root: {log}"
    );
    check!(!log.contains("secret-name"), "names of root: {log}");
    let all = w.sh("logctl log --ops --json")?;
    check!(all.contains("not-for-your-eyes"), "root's own view: {all}");
    let (code, said) = try_as(w, ANA, "logctl log --ops --json shared/secret-name")?;
    check!(!said.contains("\"op\":"), "code {code}: {said}");
    Ok(())
}

/// Root's newer file in a user's directory does not block that user's undo.
fn newer_files(w: &mut Fixture) -> Outcome {
    w.sh("mkdir home; chown 2000:2000 home")?;
    as_user(w, ANA, "echo one > home/mine")?;
    as_user(w, ANA, "echo two >> home/mine")?;
    w.sh("echo root > home/roots; mkdir home/dir; echo x > home/dir/x")?;
    let (code, said) = try_as(w, ANA, "logctl undo")?;
    same("the exit code", code.as_str(), "0")?;
    check!(said.contains("mine"), "{said}");
    w.same("the second line", "home/mine", b"one\n")?;
    as_user(w, ANA, "logctl undo")?;
    check!(!w.path("home/mine").exists(), "the own file is still there");
    w.same("root's", "home/roots", b"root\n")?;
    w.same("root's", "home/dir/x", b"x\n")?;
    as_user(w, ANA, "echo again > home/mine")?;
    w.sh("echo more >> home/roots")?;
    as_user(w, ANA, "logctl undo home")?;
    check!(!w.path("home/mine").exists(), "undo home: still there");
    // A directory that is not empty stays, and the other operations are taken back.
    as_user(w, ANA, "mkdir home/d; echo a > home/d/a")?;
    w.sh("echo r > home/d/r")?;
    let (code, said) = try_as(w, ANA, "logctl undo -2")?;
    same(format!("the exit code: {said}"), code.as_str(), "0")?;
    check!(said.contains("not empty"), "{said}");
    check!(!w.path("home/d/a").exists(), "the own file is still there");
    w.same("root's", "home/d/r", b"r\n")
}

/// A real conflict: the message names it, and the hint fits this user.
fn conflicts(w: &mut Fixture) -> Outcome {
    w.sh("mkdir home; chown 2000:2000 home")?;
    as_user(w, ANA, "echo one > home/name")?;
    as_user(w, ANA, "mv home/name home/other")?;
    w.sh("echo root > home/name")?;
    let (code, said) = try_as(w, ANA, "logctl undo")?;
    same(format!("the exit code: {said}"), code.as_str(), "4")?;
    check!(
        said.contains("(op "),
        "what is in the way is not named: {said}"
    );
    check!(
        !said.contains("take the later operations back first"),
        "asks for what the user may not do: {said}"
    );
    w.same("nothing changed", "home/other", b"one\n")?;
    w.same("nothing changed", "home/name", b"root\n")
}

/// Operations on a file that was removed since are not taken back without the removal.
fn removed_content(w: &mut Fixture) -> Outcome {
    w.sh("echo one > f")?;
    let since = Watch::begin(w)?;
    w.sh("echo two >> f")?;
    let writes = since.operations(w)?;
    let since = Watch::begin(w)?;
    w.sh("rm f")?;
    let removal = since.operations(w)?;
    for flags in [group::DRY_RUN, 0, WALK | group::DRY_RUN, WALK] {
        let (result, answer) = group::revert(&File::open(&w.mnt)?, &writes, flags);
        let error = result.err().and_then(|error| error.raw_os_error());
        same(format!("flags {flags}"), error, Some(libc::EBUSY))?;
        same("in the way", answer.blocking_seq, removal[0].seq)?;
    }
    super::groups::take_back(w, &removal, WALK)?;
    w.same("whole", "f", b"one\ntwo\n")?;
    w.sh("rm f")?;
    // Both at once is fine.
    let mut both = writes;
    let mut lines = group::history(w)?;
    lines.retain(|p| p.line.op == "unlink");
    both.extend(lines.pop());
    super::groups::take_back(w, &both, WALK)?;
    w.same("both", "f", b"one\n")
}

/// A directory that others use by now stays; the next undo goes on with older operations.
fn past_full(w: &mut Fixture) -> Outcome {
    w.sh("mkdir shared; chmod 1777 shared")?;
    as_user(w, ANA, "echo one > shared/f")?;
    w.sh("sleep 2.1")?;
    as_user(w, ANA, "mkdir -m 777 shared/d")?;
    as_user(w, BEN, "echo his > shared/d/his")?;
    let (code, said) = try_as(w, ANA, "logctl undo")?;
    check!(code == "0" && said.contains("stays"), "{code} {said}");
    check!(!w.path("shared/f").exists(), "the older action: {said}");
    w.same("his", "shared/d/his", b"his\n")?;
    // Nothing is left but that.
    let (code, said) = try_as(w, ANA, "logctl undo")?;
    check!(code != "0", "{said}");
    w.same("his, still", "shared/d/his", b"his\n")?;
    as_user(w, ANA, "logctl redo")?;
    w.same("made again", "shared/f", b"one\n")?;
    as_user(w, BEN, "rm shared/d/his")?;
    as_user(w, ANA, "logctl undo -2")?;
    check!(!w.path("shared/d").exists(), "empty, and still there");
    Ok(())
}
