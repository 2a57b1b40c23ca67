// SPDX-License-Identifier: GPL-2.0

//! The promises of the first LoggerFS, tested with a shell and dd.

use crate::fixture::Fixture;
use crate::harness::Test;
use crate::outcome::{check, same_bytes, At, Outcome};
use crate::shadow::pattern;
use crate::undo;

pub const TESTS: &[Test] = &[
    Test::new("append-twice-revert-once", append_twice_revert_once).raw(),
    Test::new("append-thrice-revert-twice", append_thrice_revert_twice).raw(),
    Test::new("dd-seek", dd_seek).raw(),
    Test::new("dd-five-places", dd_five_places).raw(),
    Test::new("readlog-page", readlog_page),
    Test::new("line-fields", line_fields),
];

fn append_twice_revert_once(w: &mut Fixture) -> Outcome {
    w.sh("echo data1 > f; echo data2 >> f")?;
    w.same("written", "f", b"data1\ndata2\n")?;
    w.undo_from_here()?;
    w.same_log("written", "f", &["write 0 6", "write 6 6"])?;
    w.revert("f", 1)?;
    w.same("reverted", "f", b"data1\n")?;
    w.same_log("reverted", "f", &["write 0 6"])
}

fn append_thrice_revert_twice(w: &mut Fixture) -> Outcome {
    w.sh("echo data1 > f; for n in 2 3 4; do echo data$n >> f; done")?;
    w.same("written", "f", b"data1\ndata2\ndata3\ndata4\n")?;
    w.undo_from_here()?;
    w.revert("f", 2)?;
    w.same("two reverted", "f", b"data1\ndata2\n")?;
    w.revert("f", 0)?;
    w.same("a count of 0 means 1", "f", b"data1\n")
}

fn dd_seek(w: &mut Fixture) -> Outcome {
    w.sh("printf %020d 1 | dd bs=20 seek=0 of=f status=none")?;
    w.sh("printf %020d 2 | dd bs=20 seek=1 of=f status=none")?;
    let both = format!("{:020}{:020}", 1, 2);
    w.same("written", "f", both.as_bytes())?;
    w.undo_from_here()?;
    // dd without conv=notrunc truncates the file at its start offset.
    w.same_log(
        "written",
        "f",
        &["write 0 20", "truncate 20 0", "write 20 20"],
    )?;
    w.revert("f", 1)?;
    w.same("reverted", "f", &both.as_bytes()[..20])
}

fn dd_five_places(w: &mut Fixture) -> Outcome {
    let start = pattern(1, 3 << 20);
    w.make_before("f", &start)?;
    let mut want = start.clone();
    let places = [2_000_000, 100, start.len(), 0, 90];
    let mut states = Vec::new();
    for (number, place) in places.into_iter().enumerate() {
        states.push(want.clone());
        let text = format!("{number:020}");
        w.sh(&format!(
            "printf {text} | dd bs=20 conv=notrunc oflag=seek_bytes seek={place} of=f status=none"
        ))?;
        want.resize(want.len().max(place + 20), 0);
        want[place..place + 20].copy_from_slice(text.as_bytes());
        w.same(&format!("dd at {place}"), "f", &want)?;
    }
    w.undo_from_here()?;
    let lines = places.map(|place| format!("write {place} 20"));
    let mut lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let made = if w.src.is_some() { 0 } else { 1 };
    let found = w.log("f")?;
    check!(
        found[made..] == lines,
        "the log says {found:?}, want {lines:?}"
    );
    while let Some(state) = states.pop() {
        w.revert("f", 1)?;
        w.same("reverted", "f", &state)?;
        lines.pop();
        let found = w.log("f")?;
        check!(
            found[made..] == lines,
            "after a revert: {found:?}, want {lines:?}"
        );
    }
    Ok(())
}

/// The 4096-byte form: whole lines, the newest ones, oldest first.
fn readlog_page(w: &mut Fixture) -> Outcome {
    let file = w.open("f")?;
    same_bytes("an untouched file", &undo::page(&file).at("page")?, b"")?;
    for number in 0..100 {
        crate::fixture::put(&file, number * 10, &[number as u8; 10])?;
    }
    let page = undo::page(&file).at("page")?;
    check!(
        page.len() > 4096 - 1024,
        "only {} bytes in the page",
        page.len()
    );
    let lines = undo::parse_lines(&page)?;
    undo::ascending(&lines)?;
    let first = 100 - lines.len();
    for (number, line) in lines.iter().enumerate() {
        let want = format!("write {} 10", 10 * (first + number));
        check!(line.brief() == want, "'{}' where {want} belongs", line.text);
    }
    Ok(())
}

/// The five fields that scripts rely on, and the actor.
fn line_fields(w: &mut Fixture) -> Outcome {
    w.sh("printf 01234567890123456789 > f; printf abc | dd of=f bs=3 seek=1 conv=notrunc status=none")?;
    let file = w.open("f")?;
    let lines = undo::lines(&file, false)?;
    check!(lines.len() == 2, "{} lines instead of 2", lines.len());
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64());
    for (line, command) in lines.iter().zip(["bash", "dd"]) {
        check!(
            (now - line.time).abs() < 300.0,
            "a strange time: {}",
            line.text
        );
        let tail = line.command.rsplit('/').next();
        check!(
            line.command.starts_with('/') && tail == Some(command),
            "the command is not {command}: {}",
            line.text
        );
        let comm = line.key("comm");
        check!(
            comm == Some(command),
            "comm is not {command}: {}",
            line.text
        );
        check!(line.number("uid")? == 0, "the user is not 0: {}", line.text);
        for key in ["obj", "pid", "ppid", "sid", "open", "size"] {
            check!(line.key(key).is_some(), "no {key}=: {}", line.text);
        }
        check!(
            line.number("open")? == line.number("seq")?,
            "open= is not seq=: {}",
            line.text
        );
    }
    check!(lines[0].key("undo") == Some("none"), "{}", lines[0].text);
    check!(
        lines[1].key("undo").is_some_and(|at| at.ends_with("+3")),
        "{}",
        lines[1].text
    );
    check!(lines[1].key("crc").is_some(), "{}", lines[1].text);
    check!(lines[1].number("size")? == 20, "{}", lines[1].text);
    check!(lines[1].key("prev").is_some(), "{}", lines[1].text);
    Ok(())
}
