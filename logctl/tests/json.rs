// SPDX-License-Identifier: MIT OR Apache-2.0

//! Output for programs: JSON has the facts of the text, and names end with NUL on request.

#[path = "support/mount.rs"]
mod mount;
#[path = "support/schema.rs"]
mod schema;

use logctl::uapi::Reason;
use mount::{history, run, run_bytes};
use schema::Schema;
use serde_json::Value;

/// Programs get the facts that the text has.
#[test]
fn json_has_what_the_text_has() {
    let object = |said: &str, at: usize| -> Value {
        serde_json::from_str(said.lines().nth(at).unwrap()).unwrap()
    };
    let schema = Schema::strict();
    let (mut kernel, files) = history();
    let (_, said, _) = run(&mut kernel, &files, "log -n 1 --json");
    let expected = r#"{"v":1,"type":"action","path":"/m/build.log","action":8,"first_op":7,"operations":2,"time":"2025-11-20T14:43:10.000000000+02:00","first_time":"2025-11-20T14:43:10.000000000+02:00","title":"bash (redirect)","processes":1,"command":"/bin/bash","args":["-bash"],"pid":40,"process":"40@1.0","ppid":1,"sid":40,"uid":1000,"user":"ana","changes":{"files_made":1,"files_gone":0,"directories_made":0,"directories_gone":0,"changed":0,"moved":0,"reverts":0},"files":[{"path":"/m/build.log","change":"+","directory":false}]}"#;
    assert_eq!(said.trim_end(), expected);
    kernel.conflicts.insert(6, (8, Reason::Conflict));
    let (code, said, _) = run(&mut kernel, &files, "revert 6 --json");
    let objects: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (code, &objects[0]["op"], &objects[0]["blocking_op"]),
        (4, &6.into(), &8.into())
    );
    assert_eq!(
        (&objects[1]["reason"], &objects[1]["exit"]),
        (&"Conflicts".into(), &4.into())
    );
    schema.check(said.lines().next().unwrap()).unwrap();
    let conflict = &objects[0];
    assert_eq!(
        (&conflict["path"], &conflict["path_now"]),
        (&"/m/notes".into(), &"/m/notes".into())
    );
    assert_eq!(conflict["message"], "changed later by bash");
    let by = &conflict["by"];
    assert_eq!(
        (&by["op"], &by["user"], &by["process"]),
        (&8.into(), &"ana".into(), &"40@1.0".into())
    );
    let (mut kernel, files) = history();
    let (_, said, _) = run(&mut kernel, &files, "--json log --by rm");
    let changes: Vec<String> = object(&said, 0)["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| format!("{}{} {}", file["change"], file["path"], file["directory"]))
        .collect();
    assert_eq!(
        changes,
        [
            r#""-""/m/src" true"#,
            r#""-""/m/src/a" false"#,
            r#""-""/m/src/b" false"#,
        ]
    );
    let (_, said, _) = run(&mut kernel, &files, "--json diff 6");
    let patch = object(&said, 0)["patch"].clone();
    assert_eq!(patch, "@@ -1,2 +1,3 @@\n one\n-two\n+three\n+four\n");
    let (_, said, _) = run(&mut kernel, &files, "--json cat /m/notes --at 2");
    assert_eq!(object(&said, 0)["text"], "one\ntwo\n");
    kernel.holds(4, 6, b"\xff\0");
    let (_, said, _) = run(&mut kernel, &files, "--json cat /m/notes");
    assert_eq!(object(&said, 0)["text_b64"], "/wA=");
    let (_, said, _) = run(&mut kernel, &files, "--json versions /m/notes");
    let version = object(&said, 1);
    assert_eq!(
        (&version["new"], &version["state"]),
        (&true.into(), &"file".into())
    );
    // Older operations were dropped.
    kernel.next_segment();
    kernel.line(
        3595,
        "4.1",
        "/usr/bin/vim write 0 9",
        "open=. size=9 undo=none pid=70@7.0 uid=1000",
    );
    (kernel.dropped, kernel.names_dropped) = (1, true);
    let (_, said, _) = run(&mut kernel, &files, "--json log");
    assert_eq!(schema.check(said.lines().last().unwrap()), Ok("history"));
    assert_eq!(object(&said, said.lines().count() - 1)["first_op"], 9);
}

/// Names for `xargs -0`: unchanged, also where text has them quoted.
#[test]
fn names_end_with_nul_on_request() {
    let (mut kernel, mut files) = history();
    files.is_looking = true;
    let rm = "kept=1 undo=none pid=60@6.0 uid=1000 args=rm";
    kernel.line(
        3591,
        "1.1",
        "/bin/rm unlink 0 0",
        &format!("name=it's%0Aa%FFname node=9.1 {rm}"),
    );
    let (code, said, _) = run_bytes(&mut kernel, &files, "deleted -0");
    assert_eq!(
        (code, &said[..]),
        (0, &b"it's\na\xffname\0src\0src/b\0src/a\0"[..])
    );
    let (_, said, _) = run_bytes(&mut kernel, &files, "deleted -0 -n 1");
    assert_eq!(said, b"it's\na\xffname\0");
    let (code, said, _) = run_bytes(&mut kernel, &files, "diff 2..8 --name-only -0");
    assert_eq!(
        (code, &said[..]),
        (0, &b"build.log\0notes\0src\0src/a\0src/b\0"[..])
    );
}
