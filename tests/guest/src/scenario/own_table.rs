// SPDX-License-Identifier: GPL-2.0

//! The table of docs/security.md: in a directory that users share, who sees which lines, and who may take
//! back which name. Each cell is tried, as a dry run and for real. That takes minutes, and no lower filesystem
//! has a part in these decisions: each table is tried over one.

use crate::fixture::Fixture;
use crate::group::{Placed, Watch, DRY_RUN, WALK};
use crate::harness::Test;
use crate::mounts::Lower;
use crate::outcome::{check, same, Outcome};

use super::past::{as_uid, said, user};

pub const TESTS: &[Test] = &[
    Test::new("own-table-plain", plain)
        .only(&[Lower::Private])
        .seconds(900),
    Test::new("own-table-sticky", sticky)
        .only(&[Lower::Ext4])
        .seconds(900),
    Test::new("own-table-of-content", of_content)
        .lengthy()
        .seconds(200),
];

const ROOT: u32 = 0;
/// Owns the objects.
const ANA: u32 = 2000;
/// Does things to them.
const BEN: u32 = 2001;
/// Owns the directory.
const CID: u32 = 2002;
/// Has to do with none of that.
const DEE: u32 = 2003;

/// Operations on a name of an object of `ANA`'s; a created object belongs to its creator.
const DEEDS: [(&str, &str, &str); 4] = [
    // The initial state, and the operation.
    ("", "create", ": > f"),
    ("echo x > f", "rename", "mv f g"),
    ("echo x > f", "unlink", "rm -f f"),
    ("echo x > f; echo y > g", "replace", "mv -f g f"),
];

fn run(w: &Fixture, uid: u32, line: &str) -> Outcome<String> {
    w.sh(&user(uid, line))
}

/// One operation in a new directory; returns the directory's lines of it.
fn act(w: &Fixture, mode: &str, doer: u32, operation: (&str, &str, &str)) -> Outcome<Vec<Placed>> {
    let (before, what, line) = operation;
    w.sh(&format!(
        "rm -rf box; mkdir box; chown 2002:2002 box; chmod {mode} box"
    ))?;
    if !before.is_empty() {
        run(w, ANA, &format!("cd box; {before}"))?;
    }
    let since = Watch::begin(w)?;
    run(w, doer, &format!("cd box; {line}"))?;
    let mut lines = since.operations(w)?;
    let kind = if what == "replace" { "rename" } else { what };
    lines.retain(|one| one.line.op == kind);
    same(format!("lines of {what}"), lines.len(), 1)?;
    Ok(lines)
}

fn sees(w: &Fixture, uid: u32, line: &Placed) -> Outcome<bool> {
    let key = format!("\"op\":{},", line.seq);
    let log = said(w, uid, "logctl log --ops --json")?.1;
    let own = said(w, uid, "logctl box readlog --all")?.1;
    let number = format!(" seq={} ", line.seq);
    let in_own = own.contains(&number);
    same(
        format!(
            "user {uid}: the mount's log and the directory's, op {}\n{log}\n{own}",
            line.seq
        ),
        log.contains(&key),
        in_own,
    )?;
    Ok(in_own)
}

fn table(w: &Fixture, mode: &str) -> Outcome {
    let is_sticky = mode.starts_with('1');
    let mut cell = 0;
    for operation in DEEDS {
        for doer in [ANA, BEN, CID, ROOT] {
            // The owner of a directory has no right of its own to names there, but for a sticky one.
            if !is_sticky && doer == CID {
                continue;
            }
            // The user may not take it back.
            if is_sticky && doer == BEN && operation.1 != "create" {
                continue;
            }
            for asker in [ANA, BEN, CID, DEE, ROOT] {
                cell += 1;
                // Without --full a third of the table, in which all operations and users occur.
                if !w.every_state && cell % 3 != 0 {
                    continue;
                }
                let lines = act(w, mode, doer, operation)?;
                let about = format!("{mode}, {} by {doer}, asked by {asker}", operation.1);
                let owner = if operation.1 == "create" { doer } else { ANA };
                let may_see = [ROOT, doer, owner, CID].contains(&asker);
                same(
                    format!("{about}: sees"),
                    sees(w, asker, &lines[0])?,
                    may_see,
                )?;
                let takes_a_name = operation.1 != "unlink";
                let is_free = !is_sticky || !takes_a_name || [ROOT, owner, CID].contains(&asker);
                let may_take = may_see && is_free;
                let look = "(stat -c '%n %i %u' box/*; cat box/*) 2>/dev/null || true";
                let before = w.sh(look)?;
                for flags in [DRY_RUN, DRY_RUN | WALK] {
                    let error = as_uid(w, asker, "box", &lines, flags)?;
                    same(
                        format!("{about}: rehearsed: {error:?}"),
                        error.is_none(),
                        may_take,
                    )?;
                    same(format!("{about}: changed"), w.sh(look)?, before.clone())?;
                }
                let error = as_uid(w, asker, "box", &lines, 0)?;
                same(
                    format!("{about}: taken back: {error:?}"),
                    error.is_none(),
                    may_take,
                )?;
                same(format!("{about}: changed"), w.sh(look)? != before, may_take)?;
                if !may_take {
                    check!(
                        [Some(libc::EPERM), Some(libc::EACCES)].contains(&error),
                        "{about}: {error:?}"
                    );
                }
            }
        }
    }
    Ok(())
}

fn plain(w: &mut Fixture) -> Outcome {
    table(w, "777")
}

fn sticky(w: &mut Fixture) -> Outcome {
    table(w, "1777")
}

/// Content belongs to the owner of the file, independent of the creator of the name and the owner
/// of the directory.
fn of_content(w: &mut Fixture) -> Outcome {
    for asker in [ANA, BEN, CID, DEE, ROOT] {
        w.sh("rm -rf box; mkdir -m 777 box; chown 2002:2002 box")?;
        run(w, BEN, "echo x > box/f")?;
        w.sh("chown 2000:2000 box/f; chmod 666 box/f")?;
        let since = Watch::begin(w)?;
        run(w, BEN, "echo y >> box/f")?;
        let mut lines = since.operations(w)?;
        lines.retain(|one| one.line.op == "write");
        let may = asker == ANA || asker == ROOT;
        let log = said(
            w,
            asker,
            "logctl log --ops --json; logctl box/f readlog --all",
        )?
        .1;
        let shown = log.contains(&format!("\"op\":{},", lines[0].seq));
        same(format!("{asker}: shown: {log}"), shown, may)?;
        for flags in [DRY_RUN, 0] {
            let error = as_uid(w, asker, "box/f", &lines, flags)?;
            same(
                format!("{asker}, flags {flags}: {error:?}"),
                error.is_none(),
                may,
            )?;
        }
        let want: &[u8] = if may { b"x\n" } else { b"x\ny\n" };
        w.same("content", "box/f", want)?;
    }
    Ok(())
}
