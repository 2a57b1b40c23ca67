// SPDX-License-Identifier: GPL-2.0

//! The sessions that documents print: found, compared with the output of the same commands, and written anew.
//!
//! A session is an indented block (`.EX` in a man page) whose first line is a command after a prompt, `$ `.
//! The sessions of one document are run in one shell, in their order. A comment in front of a session
//! (`<!-- before: COMMANDS -->`, in a man page `.\" before: COMMANDS`) has commands that are not printed. Any
//! other indented block of these documents has a comment directly in front of it that says why it is not
//! run: `<!-- not run: WHY -->`.
//!
//! Output is compared line by line and has to be equal, but for the time since an operation: see
//! [`normalized`].

mod times;

pub use times::normalized;

/// A document, and its text when these tests were compiled.
pub struct Document {
    /// Its path in the project.
    pub path: &'static str,
    pub text: &'static str,
}

macro_rules! documents {
    ($($path:literal),* $(,)?) => {
        [$(Document { path: $path, text: include_str!(concat!("../../../", $path)) }),*]
    };
}

/// The documents whose sessions are run. `man/logctl.1` is generated from `man-examples.txt`.
pub const RUN: [Document; 6] = documents![
    "README.md",
    "docs/guide.md",
    "docs/limits.md",
    "docs/security.md",
    "logctl/tests/man-examples.txt",
    "man/loggerfs.5",
];

/// Documents whose sessions are those of another one, which is run.
pub const SAME: [(Document, &str); 2] = {
    let [chinese, page] = documents!["README.zh-CN.md", "man/logctl.1"];
    [
        (chinese, "README.md"),
        (page, "logctl/tests/man-examples.txt"),
    ]
};

/// One command of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub command: String,
    pub output: Vec<String>,
    /// Where its output begins: an index into the lines of the document.
    pub at: usize,
}

/// A part of a document, in the order in which parts are run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Commands that the document does not print.
    Before(String),
    Step(Step),
}

impl Document {
    /// The commands and their output.
    pub fn parts(&self) -> Result<Vec<Part>, String> {
        let lines = if self.is_page() {
            page_lines(self.text)?
        } else {
            text_lines(self.text)?
        };
        parts(&lines).map_err(|problem| format!("{}:{problem}", self.path))
    }

    fn is_page(&self) -> bool {
        !self.path.ends_with(".md") && !self.path.ends_with(".txt")
    }

    /// The text with other output: `outputs` has that of each step.
    pub fn mended(&self, steps: &[&Step], outputs: &[Vec<String>]) -> String {
        let lines: Vec<&str> = self.text.lines().collect();
        let mut text = String::new();
        let mut done = 0;
        for (step, output) in steps.iter().zip(outputs) {
            for line in &lines[done..step.at] {
                text = text + line + "\n";
            }
            for line in output {
                text += &self.printed(line, lines[step.at - 1]);
            }
            done = step.at + step.output.len();
        }
        for line in &lines[done..] {
            text = text + line + "\n";
        }
        text
    }

    /// A line of output as the document has it, below a command.
    fn printed(&self, line: &str, command: &str) -> String {
        if self.is_page() {
            let line = line.replace('\\', "\\e").replace('-', "\\-");
            let guard = if line.starts_with(['.', '\'']) {
                "\\&"
            } else {
                ""
            };
            return format!("{guard}{line}\n");
        }
        let indent = command.len() - command.trim_start().len();
        format!("{:indent$}{line}\n", "")
    }
}

/// The steps among the parts.
pub fn steps(parts: &[Part]) -> Vec<&Step> {
    let steps = parts.iter().filter_map(|part| match part {
        Part::Step(step) => Some(step),
        Part::Before(_) => None,
    });
    steps.collect()
}

/// A line of a document, by its part in sessions.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    /// Says nothing of sessions.
    Text,
    /// Between a comment and its block.
    Blank,
    /// A comment, at its last line.
    Comment(String),
    /// A line of a block; whether it is the first one.
    Block(String, bool),
}

/// The lines of a Markdown text.
fn text_lines(text: &str) -> Result<Vec<Line>, String> {
    let mut lines = Vec::new();
    let mut comment: Option<String> = None;
    let mut indent = None;
    for line in text.lines() {
        let own = line.len() - line.trim_start_matches(' ').len();
        let open = match comment.take() {
            Some(open) => Some(open + "\n" + line),
            None => (line.trim_start().strip_prefix("<!--")).map(str::to_string),
        };
        let kind = match open {
            Some(open) => match open.split_once("-->") {
                Some((whole, _)) => Line::Comment(whole.trim().to_string()),
                None => {
                    comment = Some(open);
                    Line::Blank
                }
            },
            None if line.trim().is_empty() => Line::Blank,
            None => match indent {
                Some(indent) if own >= indent => Line::Block(line[indent..].to_string(), false),
                // Below a line of text it would be the next line of a list's entry.
                _ if own >= 4 && lines.last() != Some(&Line::Text) => {
                    Line::Block(line[own..].to_string(), true)
                }
                _ => Line::Text,
            },
        };
        indent = match kind {
            Line::Block(_, true) => Some(own),
            Line::Block(_, false) => indent,
            _ => None,
        };
        lines.push(kind);
    }
    match comment {
        Some(open) => Err(format!("a comment has no end: {open}")),
        None => Ok(lines),
    }
}

/// The lines of a man page.
fn page_lines(text: &str) -> Result<Vec<Line>, String> {
    let mut lines: Vec<Line> = Vec::new();
    let (mut is_example, mut is_first) = (false, false);
    for line in text.lines() {
        let kind = match line {
            ".EX" => {
                (is_example, is_first) = (true, true);
                Line::Blank
            }
            ".EE" => {
                is_example = false;
                Line::Text
            }
            _ if line.starts_with(".\\\" ") => {
                let mut said = line[4..].to_string();
                if let Some(Line::Comment(above)) = lines.last_mut() {
                    said = std::mem::take(above) + "\n" + &said;
                }
                Line::Comment(said)
            }
            _ if is_example => Line::Block(plain(line)?, std::mem::take(&mut is_first)),
            _ if line.starts_with(".in") || line.starts_with(".P") => Line::Blank,
            _ => Line::Text,
        };
        lines.push(kind);
    }
    Ok(lines)
}

/// A line of a man page without its escapes.
fn plain(line: &str) -> Result<String, String> {
    const ESCAPES: [(&str, &str); 7] = [
        ("\\-", "-"),
        ("\\e", "\\"),
        ("\\\\", "\\"),
        ("\\&", ""),
        ("\\[aq]", "'"),
        ("\\(aq", "'"),
        ("\\*(Aq", "'"),
    ];
    let mut text = String::new();
    let mut rest = line;
    while let Some(at) = rest.find('\\') {
        text += &rest[..at];
        rest = &rest[at..];
        let known = ESCAPES.iter().find(|(escape, _)| rest.starts_with(escape));
        let (escape, meaning) = known.ok_or(format!("an unknown escape: {line}"))?;
        text += meaning;
        rest = &rest[escape.len()..];
    }
    Ok(text + rest)
}

/// Commands and their output, from the lines of a document.
fn parts(lines: &[Line]) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut is_marked = false;
    let mut is_session = false;
    for (at, line) in lines.iter().enumerate() {
        match line {
            Line::Comment(said) => {
                if let Some(commands) = said.strip_prefix("before:") {
                    parts.push(Part::Before(commands.trim().to_string()));
                }
                is_marked |=
                    (said.strip_prefix("not run:")).is_some_and(|why| !why.trim().is_empty());
            }
            Line::Block(text, is_first) => {
                let command = text.strip_prefix("$ ");
                if *is_first {
                    is_session = command.is_some();
                    if is_session == is_marked {
                        let marked = if is_marked {
                            "is marked"
                        } else {
                            "has no mark"
                        };
                        return Err(format!("{}: a block that {marked}: {text}", at + 1));
                    }
                    is_marked = false;
                }
                match (command, parts.last_mut()) {
                    (Some(command), _) if is_session => parts.push(Part::Step(Step {
                        command: command.to_string(),
                        output: Vec::new(),
                        at: at + 1,
                    })),
                    (None, Some(Part::Step(step))) if is_session => step.output.push(text.clone()),
                    (Some(_), _) => {
                        return Err(format!("{}: a prompt in a block that is not run", at + 1))
                    }
                    _ => {}
                }
            }
            Line::Text if is_marked => {
                return Err(format!("{}: a mark without a block", at + 1));
            }
            Line::Text | Line::Blank => {}
        }
    }
    Ok(parts)
}

/// What differs: the lines of the document with `-`, those that were printed with `+`. Nothing when the
/// normalized lines are equal.
pub fn difference(want: &[String], got: &[String]) -> Vec<String> {
    let (want, got) = (normalized(want), normalized(got));
    let front = want.iter().zip(&got).take_while(|(a, b)| a == b).count();
    let (want, got) = (&want[front..], &got[front..]);
    let back = want.iter().rev().zip(got.iter().rev());
    let back = back.take_while(|(a, b)| a == b).count();
    let gone = want[..want.len() - back]
        .iter()
        .map(|line| format!("-{line}"));
    let new = got[..got.len() - back]
        .iter()
        .map(|line| format!("+{line}"));
    gone.chain(new).collect()
}

/// The first step in which two documents differ, in words.
pub fn step_that_differs(one: &[Part], other: &[Part]) -> Option<String> {
    let (one, other) = (steps(one), steps(other));
    for number in 0..one.len().max(other.len()) {
        let pair = (one.get(number), other.get(number));
        let is_same = pair
            .0
            .zip(pair.1)
            .is_some_and(|(a, b)| a.command == b.command && a.output == b.output);
        if !is_same {
            return Some(format!("{:?} and {:?}", pair.0, pair.1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
Title

<!-- before: mkdir a; \\
cd a -->

    $ logctl log
      ID  WHEN    WHO   COMMAND
    @ 17  0s ago  root  rm -rf src
    $ true

A list:

- an entry
    that goes on

  <!-- not run: downloads -->

      apt install x
";

    fn text(text: &'static str) -> Document {
        Document {
            path: "text.md",
            text,
        }
    }

    fn lines(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| line.to_string()).collect()
    }

    #[test]
    fn sessions_are_found() {
        let parts = text(TEXT).parts().unwrap();
        let table = [
            "  ID  WHEN    WHO   COMMAND",
            "@ 17  0s ago  root  rm -rf src",
        ];
        let step = |command: &str, output: &[&str], at| {
            Part::Step(Step {
                command: command.into(),
                output: lines(output),
                at,
            })
        };
        let want = [
            Part::Before("mkdir a; \\\ncd a".into()),
            step("logctl log", &table, 6),
            step("true", &[], 9),
        ];
        assert_eq!(parts, want);
    }

    #[test]
    fn a_document_without_marks_or_prompts_is_refused() {
        for bad in [
            "Text\n\n    apt install x\n",
            "<!-- not run: downloads -->\n\n    $ apt install x\n",
            "<!-- not run: -->\n\n    apt install x\n",
            "<!-- not run: downloads -->\n\nText\n\n    apt install x\n",
            "<!-- not run: downloads -->\n\n    apt\n    $ apt\n",
            "<!-- before: true\n\n    $ true\n",
        ] {
            assert!(text(bad).parts().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_page_is_read_without_its_escapes() {
        let page = Document {
            path: "page.5",
            text: ".P\n.\\\" before: cd /;\n.\\\" true\n.P\n.EX\n$ rm \\-r \\[aq]a\\\\b\\[aq]\n\\&.x\\-y\n.EE\nText\n",
        };
        let parts = page.parts().unwrap();
        assert_eq!(parts[0], Part::Before("cd /;\ntrue".into()));
        let found = steps(&parts)[0];
        assert_eq!(found.command, "rm -r 'a\\b'");
        assert_eq!(found.output, [".x-y"]);
        let mended = page.mended(&[found], &[lines(&[".-\\"])]);
        assert_eq!(mended, page.text.replace("\\&.x\\-y", "\\&.\\-\\e"));
    }

    #[test]
    fn a_planted_difference_is_found() {
        let want = lines(&["one", "two", "three"]);
        let differs = |got: &[&str]| difference(&want, &lines(got));
        assert_eq!(differs(&["one", "two", "three"]), [""; 0]);
        assert_eq!(differs(&["one", "2", "three"]), ["-two", "+2"]);
        assert_eq!(differs(&["one", "three"]), ["-two"]);
        assert_eq!(differs(&["one", "two", "three", ""]), ["+"]);
        assert_eq!(differs(&["one", "two "]), ["-two", "-three", "+two "]);
        assert_eq!(differs(&[]), ["-one", "-two", "-three"]);
        assert_eq!(difference(&[], &lines(&["x"])), ["+x"]);
    }

    #[test]
    fn times_alone_may_differ() {
        let table = |time: &str, width: usize, id: &str| {
            vec![
                format!("  ID  {:width$}  WHO   COMMAND", "WHEN"),
                format!("@ {id}  {time:width$}  root  rm -rf src"),
                format!("  9   {:width$}  root  sed 3s ago", "2s ago"),
            ]
        };
        let want = table("0s ago", 6, "17");
        assert_eq!(difference(&want, &table("12s ago", 7, "17")), [""; 0]);
        assert_eq!(difference(&want, &table("3m ago", 6, "17")), [""; 0]);
        assert_eq!(difference(&want, &table("0s ago", 6, "18")).len(), 2);
        assert_eq!(difference(&want, &table("soon", 6, "17")).len(), 2);
        let below = |last: &str| [table("0s ago", 6, "17"), lines(&[last])].concat();
        assert_eq!(
            difference(&below("Since 3s ago"), &below("Since 4s ago")).len(),
            2
        );
        let versions = |time: &str, id: &str| {
            lines(&[
                "  AT                   ID  SIZE",
                &format!("  {time}  {id}   5 B"),
            ])
        };
        let want = versions("2026-11-30 02:08:22", "7");
        assert_eq!(
            difference(&want, &versions("2027-01-01 23:59:59", "7")),
            [""; 0]
        );
        assert_eq!(
            difference(&want, &versions("2027-01-01 23:59:59", "8")).len(),
            2
        );
        let free = lines(&["done 3s ago"]);
        assert_eq!(difference(&free, &lines(&["done 4s ago"])).len(), 2);
    }

    #[test]
    fn a_text_is_mended_where_it_differs() {
        let document = text(TEXT);
        let parts = document.parts().unwrap();
        let steps = steps(&parts);
        let own: Vec<_> = steps.iter().map(|step| step.output.clone()).collect();
        assert_eq!(document.mended(&steps, &own), TEXT);
        let other = [lines(&["new", "lines", "  here"]), lines(&["at the end"])];
        let want = TEXT
            .replace("      ID  WHEN    WHO   COMMAND\n", "    new\n    lines\n")
            .replace("    @ 17  0s ago  root  rm -rf src\n", "      here\n")
            .replace("    $ true\n", "    $ true\n    at the end\n");
        assert_eq!(document.mended(&steps, &other), want);
    }

    /// A translation and a generated page print what their source prints.
    #[test]
    fn documents_print_the_same_sessions() {
        for (document, of) in &SAME {
            let source = RUN.iter().find(|source| source.path == *of).unwrap();
            let (own, other) = (document.parts().unwrap(), source.parts().unwrap());
            let differs = step_that_differs(&own, &other);
            assert_eq!(differs, None, "{} and {of}", document.path);
            assert!(!steps(&own).is_empty(), "{}", document.path);
        }
    }

    #[test]
    fn a_translation_that_differs_is_found() {
        let parts = text(TEXT).parts().unwrap();
        for (from, to) in [
            ("@ 17", "@ 18"),
            ("$ true", "$ false"),
            ("    $ true\n", ""),
        ] {
            let other = text(TEXT.replacen(from, to, 1).leak()).parts().unwrap();
            assert!(step_that_differs(&parts, &other).is_some(), "{from}");
        }
        assert_eq!(step_that_differs(&parts, &parts), None);
    }

    /// Each document that prints a prompt is one of those above.
    #[test]
    fn no_document_prints_a_session_that_is_not_run() {
        let root = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        let known = RUN.iter().chain(SAME.iter().map(|(document, _)| document));
        let known: Vec<_> = known.map(|document| root.join(document.path)).collect();
        let mut seen = 0;
        for directory in ["", "docs", "man", "qemu", "logctl", "tests"] {
            for entry in std::fs::read_dir(root.join(directory)).unwrap() {
                let path = entry.unwrap().path();
                let is_document = ["md", "1", "5"]
                    .iter()
                    .any(|end| path.extension().is_some_and(|own| own == *end));
                if is_document && !known.iter().any(|known| *known == path) {
                    let text = std::fs::read_to_string(&path).unwrap();
                    let prompt = text
                        .lines()
                        .find(|line| line.trim_start().starts_with("$ "));
                    assert_eq!(prompt, None, "{}", path.display());
                    seen += 1;
                }
            }
        }
        assert!(seen >= 5, "only {seen} documents were looked at");
    }

    /// Every prompt of these documents begins a step: none is in a block of another form.
    #[test]
    fn each_prompt_is_a_step() {
        for document in RUN.iter().chain(SAME.iter().map(|(document, _)| document)) {
            let parts = document.parts().unwrap();
            let prompts = document
                .text
                .lines()
                .filter(|line| line.trim_start().starts_with("$ "));
            assert_eq!(steps(&parts).len(), prompts.count(), "{}", document.path);
        }
    }
}
