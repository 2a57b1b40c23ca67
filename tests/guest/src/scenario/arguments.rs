// SPDX-License-Identifier: GPL-2.0

//! The text of a command: the arguments that a program was started with, where it changes them.

use std::fs::{self, File};

use crate::fixture::Fixture;
use crate::harness::Test;
use crate::outcome::{same, At, Outcome};
use crate::undo;

pub const TESTS: &[Test] = &[
    Test::new("arguments-cut", cut),
    Test::new("arguments-odd", odd),
    Test::new("arguments-titles", titles),
    Test::new("arguments-scribbled", scribbled),
];

/// Runs a line, whose last operation is on a name in the mount's root. Compares `args=` of that operation and the
/// action's command of logctl.
fn case(w: &Fixture, line: &str, args: &str, title: &str) -> Outcome {
    w.sh(line)?;
    let root = File::open(&w.mnt).at("opening the root")?;
    let lines = undo::lines(&root, true)?;
    let newest = lines.iter().rev().find_map(|line| line.key("args"));
    same(format!("args= of '{line}'"), newest, Some(args))?;
    let shown = w.sh("logctl log -n 1 --all --json | head -n 1 | jq -r .title")?;
    same(
        format!("the title of '{line}'"),
        shown.trim_end_matches('\n'),
        title,
    )
}

/// GNU's programs put a NUL for the `/` behind a directory while they make it.
fn cut(w: &mut Fixture) -> Outcome {
    for (line, args, title) in [
        ("mkdir -p a/b/c", "mkdir%00-p%00a/b/c", "mkdir -p a/b/c"),
        (
            "mkdir -p d/e f/g",
            "mkdir%00-p%00d/e%00f/g",
            "mkdir -p d/e f/g",
        ),
        (
            "mkdir h//i/ -p -v",
            "mkdir%00h//i/%00-p%00-v",
            "mkdir h//i/ -p -v",
        ),
        ("mkdir -p ./j/k", "mkdir%00-p%00./j/k", "mkdir -p ./j/k"),
        (
            "mkdir --mode=700 -p l/m/n",
            "mkdir%00--mode=700%00-p%00l/m/n",
            "mkdir --mode=700 -p l/m/n",
        ),
        (
            "install -D /etc/hostname o/p/q",
            "install%00-D%00/etc/hostname%00o/p/q",
            "install -D /etc/hostname o/p/q",
        ),
        ("rmdir -p a/b/c", "rmdir%00-p%00a/b/c", "rmdir -p a/b/c"),
        // The arguments are what they seem.
        ("mkdir -p r s", "mkdir%00-p%00r%00s", "mkdir -p r s"),
    ] {
        case(w, line, args, title)?;
    }
    // More than 1024 arguments: their pointers are not read.
    let many: Vec<String> = (0..1100).map(|number| format!("many{number}")).collect();
    let words = many.join(" ");
    let kept = &format!("mkdir {words}")[..256];
    case(
        w,
        &format!("mkdir {words}"),
        &kept.replace(' ', "%00"),
        &format!("{kept}…"),
    )
}

fn odd(w: &mut Fixture) -> Outcome {
    case(
        w,
        r#"mkdir $'o\xff\x01 \'q'"#,
        "mkdir%00o%FF%01%20'q",
        r#"mkdir $'o\xff\x01 \'q'"#,
    )?;
    case(w, "mkdir 'ü$x'", "mkdir%00%C3%BC$x", "mkdir 'ü$x'")?;
    case(w, "touch e '' || true", "touch%00e%00", "touch e ''")?;
    case(
        w,
        "touch -c e; mkdir ee '' || true",
        "mkdir%00ee%00",
        "mkdir ee ''",
    )?;
    let long = "y".repeat(5000);
    let kept = "y".repeat(256 - "perl -e mkdir(\"long\") ".len());
    case(
        w,
        &format!("perl -e 'mkdir(\"long\")' {long}"),
        &format!("perl%00-e%00mkdir(\"long\")%00{kept}"),
        &format!("perl -e 'mkdir(\"long\")' {kept}…"),
    )
}

/// perl writes `$0` over its arguments and clears the pointers to them.
fn titles(w: &mut Fixture) -> Outcome {
    case(w, r#"perl -e '$0="x"; mkdir "t1"'"#, "x", "x")?;
    case(
        w,
        r#"perl -e '$0="my title: 1/2"; mkdir "t2"' more words"#,
        "my%20title:%201/2",
        "'my title: 1/2'",
    )?;
    // It does not reach into the environment.
    let script = r#"$0="z" x 400; mkdir "t3""#;
    let room = "z".repeat("perl -e ".len() + script.len() + 1);
    case(w, &format!("perl -e '{script}'"), &room, &room)
}

/// Changes its own argv: `MODE` says how, `NAME` is the directory that it makes.
const SCRIBBLER: &str = r#"import ctypes, os, struct, sys
stat = open("/proc/self/stat").read().rsplit(")", 1)[1].split()
stack, first, end = int(stat[25]), int(stat[45]), int(stat[46])
mode, name = sys.argv[1], sys.argv[2]
def poke(at, data): ctypes.memmove(at, data, len(data))
def pointer(n): return stack + 8 + 8 * n
def word(n): return ctypes.c_uint64.from_address(pointer(n)).value
memory = ctypes.string_at(first, end - first)
if mode == "order":
    words = [word(n) for n in range(1, len(sys.argv) + 1)]
    for n, value in enumerate(reversed(words)): poke(pointer(n + 1), struct.pack("<Q", value))
elif mode == "null": poke(pointer(3), bytes(8))
elif mode == "wild": poke(pointer(2), struct.pack("<Q", 0xffff888000000000))
elif mode == "first": poke(pointer(0), struct.pack("<Q", stack))
elif mode == "same": poke(pointer(3), struct.pack("<Q", word(2)))
elif mode == "inside": poke(pointer(3), struct.pack("<Q", word(3) + 1))
elif mode == "count": poke(stack, struct.pack("<Q", 1 << 63))
elif mode == "cut": poke(first + memory.rindex(b"/"), b"\0")
elif mode == "wiped": poke(word(len(sys.argv)) + 1, bytes(len(sys.argv[-1]) - 1))
elif mode == "moved":
    libc = ctypes.CDLL(None, use_errno=True)
    # PR_SET_MM: arg_start and arg_end, to a page that has no memory.
    hole = libc.mmap
    hole.restype = ctypes.c_uint64
    at = hole(None, ctypes.c_size_t(8192), 0, 0x22, -1, ctypes.c_long(0))
    for what, value in ((8, at), (9, at + 4096)):
        if libc.prctl(35, what, ctypes.c_ulong(value), 0, 0): sys.exit(os.strerror(ctypes.get_errno()))
os.mkdir(name)
"#;

fn scribbled(w: &mut Fixture) -> Outcome {
    fs::write("/tmp/s", SCRIBBLER).at("the program")?;
    let words = |mode: &str, name: &str| format!("python3 /tmp/s {mode} {name} x d/e");
    for (mode, name) in [
        ("none", "s0"),
        ("order", "s1"),
        ("null", "s2"),
        ("wild", "s3"),
        ("first", "s4"),
        ("same", "s5"),
        ("inside", "s6"),
        ("count", "s7"),
    ] {
        let line = words(mode, name);
        case(w, &line, &line.replace(' ', "%00"), &line)?;
    }
    // Only of a directory that is being made is the byte known.
    let line = words("cut", "d");
    case(w, &line, &line.replace(' ', "%00"), &line)?;
    let line = words("cut", "s8");
    let split = line.replace("d/e", "d e");
    case(w, &line, &split.replace(' ', "%00"), &split)?;
    let line = words("wiped", "s9");
    let kept = line.replace("d/e", "d");
    case(w, &line, &kept.replace(' ', "%00"), &kept)?;
    // Nothing is read there, and the operation goes on.
    w.sh(&words("moved", "s10"))?;
    let shown = w.sh("logctl log -n 1 --all --json | head -n 1 | jq -r .title")?;
    same("without memory", shown.as_str(), "python3.13\n")
}
