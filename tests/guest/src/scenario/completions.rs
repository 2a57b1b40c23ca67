// SPDX-License-Identifier: GPL-2.0

//! The completions of bash, with the values that the mount has.

use std::time::Instant;

use super::verbs::done;
use crate::fixture::Fixture;
use crate::harness::Test;
use crate::outcome::{check, same, Outcome};

pub const TESTS: &[Test] = &[
    Test::new("completions-of-values", of_values),
    Test::new("completions-at-a-prompt", at_a_prompt),
    Test::new("completions-without-a-mount", without_a_mount),
];

/// The completions of the last of some words, as bash calls the function for them; one a line.
fn completed(w: &Fixture, words: &[&str]) -> Outcome<Vec<String>> {
    let last = words.len() - 1;
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let said = w.sh(&format!(
        "set +e; source <(logctl completions bash); COMP_WORDS=({}); COMP_CWORD={last}
        _logctl_completion logctl '{}' '{}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        quoted.join(" "),
        words[last],
        words[last - 1]
    ))?;
    let lines = said.lines().filter(|line| !line.is_empty());
    Ok(lines.map(str::to_owned).collect())
}

/// The first word of each completion.
fn names(all: &[String]) -> Vec<&str> {
    let first = all.iter().filter_map(|line| line.split(' ').next());
    first.collect()
}

fn begin(w: &Fixture) -> Outcome {
    w.sh(
        "mkdir -p d/e; echo one > d/e/deep; echo two > 'gone one'; echo three > stays; echo x > d/goes
        sleep 2.1; rm 'gone one'; sleep 2.1; rm d/goes; sleep 2.1; rm -r d/e",
    )
    .map(drop)
}

fn of_values(w: &mut Fixture) -> Outcome {
    begin(w)?;
    let said = done(w, "log -n 3")?;
    let ids: Vec<&str> = (said.lines().skip(1))
        .filter_map(|line| line.trim_start_matches('@').split_whitespace().next())
        .collect();
    for verb in ["undo", "show", "diff", "revert", "log"] {
        let found = completed(w, &["logctl", verb, ""])?;
        same(verb, &names(&found)[..3], &ids[..])?;
        check!(found[0].ends_with("rm -r d/e"), "{verb}: {found:?}");
        let one = completed(w, &["logctl", verb, ids[1]])?;
        same(verb, one, vec![ids[1].to_owned()])?;
    }
    let range = format!("{}..", ids[2]);
    let found = completed(w, &["logctl", "diff", &range])?;
    same("a range", names(&found)[0], &*format!("{range}{}", ids[0]))?;
    for words in [
        &["logctl", "restore", "--to", ""][..],
        &["logctl", "restore", "stays", "--to", "=", ""],
        &["logctl", "cat", "stays", "--at", ""],
        &["logctl", "mount-past", ""],
    ] {
        let found = completed(w, words)?;
        same(format!("{words:?}"), names(&found)[0], "@-")?;
        same(format!("{words:?}"), names(&found)[1], ids[0])?;
    }
    // readline takes the @ for a word of its own.
    let found = completed(w, &["logctl", "restore", "--to", "@", "~"])?;
    same("back", &names(&found)[..2], &["~2", "~3"][..])?;
    for verb in ["restore", "cat", "versions"] {
        let cases: [(&str, &[&str]); 4] = [
            ("gon", &["gone one"]),
            ("d/", &["d/e/", "d/goes"]),
            ("d/e/", &["d/e/deep"]),
            ("st", &["stays"]),
        ];
        for (word, want) in cases {
            let found = completed(w, &["logctl", verb, word])?;
            same(format!("{verb} {word}"), found, owned(want))?;
        }
    }
    let absolute = format!("{}/gon", w.mnt.display());
    let found = completed(w, &["logctl", "cat", &absolute])?;
    same("absolute", found, vec![format!("{absolute}e one")])?;
    same(
        "a command",
        completed(w, &["logctl", "mount"])?,
        owned(&["mount-past"]),
    )?;
    let found = completed(w, &["logctl", "undo", "--no-r"])?;
    same("an option", found, owned(&["--no-redo"]))?;
    let found = completed(w, &["logctl", "stays", "rea"])?;
    same("the old form", found, owned(&["readlog"]))
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Types at a bash on a terminal, with TABs.
fn at_a_prompt(w: &mut Fixture) -> Outcome {
    begin(w)?;
    let typed = |keys: &str| {
        w.sh(&format!(
            "(sleep 1; printf 'PS1=; source <(logctl completions bash)\\n'; sleep 1.5; printf '{keys}'; sleep 1.5
            printf '\\nexit\\n'; sleep 0.5) | script -qec 'bash --norc --noprofile -i' /dev/null || true"
        ))
    };
    let said = typed("logctl cat gon\\t\\n")?;
    check!(said.contains("two"), "it prints: {said}");
    let said = typed("logctl cat stays --at @~2\\t\\n")?;
    check!(said.contains("three"), "it prints: {said}");
    let said = typed("logctl undo \\t\\t\\025")?;
    check!(
        said.contains("rm -r d/e") && said.contains("rm d/goes"),
        "it lists: {said}"
    );
    Ok(())
}

/// Nothing, no message, and at once.
fn without_a_mount(w: &mut Fixture) -> Outcome {
    let begin = Instant::now();
    for kind in ["operations", "points", "deleted"] {
        let said = w.sh(&format!(
            "cd /; logctl complete-values {kind} /pro 2>&1; echo =$?"
        ))?;
        same(kind, said.as_str(), "=0\n")?;
    }
    let took = begin.elapsed();
    check!(took.as_secs() < 5, "that took {took:?}");
    Ok(())
}
