// SPDX-License-Identifier: MIT OR Apache-2.0

//! `man/logctl.1` is generated here, from the definition of the command line and from
//! `man-examples.txt`, and compared with the committed page. To write it anew:
//!
//!     cd logctl && SNAPSHOTS=overwrite ../qemu/cargo ../build/cargo-host/logctl test --locked --test man

use clap::{Arg, Command, CommandFactory};
use clap_mangen::roff::{bold, roman, Roff};
use clap_mangen::Man;
use logctl::cli::Cli;
use snapbox::{assert_data_eq, file};

/// The exit codes of all commands.
const EXIT_STATUS: [(u8, &str); 10] = [
    (0, "Done."),
    (1, "Failed or refused; nothing was changed."),
    (2, "The command line is wrong; nothing was changed."),
    (
        3,
        "Done in part, and a list names the rest; or the result is not the state that the log describes.",
    ),
    (
        4,
        "Refused: later operations conflict, or the content differs from the log's; nothing was changed.",
    ),
    (
        5,
        "Refused: a question needs an answer, and there is no terminal to ask on; nothing was run or changed.",
    ),
    (10, "The path is not on a LoggerFS mount."),
    (11, "Busy: the file is in use in a way that excludes the revert, or an operation on it did not end in time; nothing was changed."),
    (
        125,
        "run: logctl itself failed. Otherwise run ends with the code of the command, or with 126 or 127 if the command could not be started.",
    ),
    (130, "Interrupted; nothing was changed."),
];

/// Text that the definition of the command line lacks.
const AFTER_DESCRIPTION: &str = "\
The default unit is an action: the operations of one command line, that is of one process group, of which \
neighbours are less than two seconds apart; those through one open file description are always together. \
Each redirection at a shell's prompt is an action of its own.

A request to the kernel is taken back as a whole, or nothing is changed. A revert is itself recorded \
and can be taken back, unless --no-redo was given.

Results go to standard output, everything else to standard error. Characters that a terminal \
would interpret are printed escaped.";

/// The files and variables that the tool reads.
const FILES: &str = "\
SOURCE/.loggerfs holds a mount's history. It belongs to root and is not visible through the mount; \
loggerfs(5) describes it.";

const ENVIRONMENT: &str = "\
NO_COLOR and CLICOLOR_FORCE turn colour off and on where --color is auto. TZ is the time zone of \
times that are read and printed. LOGCTL_PAGER and PAGER name the program that shows long results on a \
terminal (less); empty, or cat: none. TMPDIR is where old content is kept while it is read. logctl config lists \
their values.";

#[test]
fn the_committed_page_is_what_the_definition_gives() {
    assert_data_eq!(page(), file!["../../man/logctl.1"].raw());
}

/// The page's table of exit codes, and the last lines of `logctl --help`, name the same codes.
#[test]
fn help_and_page_name_the_same_exit_codes() {
    let help = Cli::command().render_long_help().to_string();
    let (_, codes) = help
        .split_once("Exit codes: ")
        .expect("a list of exit codes");
    let named: Vec<u8> = codes
        .split(|letter: char| !letter.is_ascii_digit())
        .filter_map(|word| word.parse().ok())
        .collect();
    assert_eq!(named, EXIT_STATUS.map(|(code, _)| code));
}

/// The whole page.
fn page() -> String {
    let mut cli = Cli::command().disable_help_subcommand(true);
    cli.build();
    let commands: Vec<Command> = (cli.get_subcommands())
        .filter(|command| !command.is_hide_set())
        .cloned()
        .collect();
    let top = Man::new(cli)
        .date("")
        .source(concat!("LoggerFS ", env!("CARGO_PKG_VERSION")))
        .manual("LoggerFS");
    let mut title = Vec::new();
    top.render_title(&mut title).unwrap();
    let mut page = String::from_utf8(title).unwrap();
    for render in [
        Man::render_name_section,
        Man::render_synopsis_section,
        Man::render_description_section,
    ] {
        let mut part = Vec::new();
        render(&top, &mut part).unwrap();
        page += &body(part);
    }
    page += &paragraphs(AFTER_DESCRIPTION);
    page += &section("COMMANDS");
    commands.iter().for_each(|command| page += &about(command));
    page += &selection(&commands);
    let mut options = Vec::new();
    top.render_options_section(&mut options).unwrap();
    page += &body(options);
    page += &section("EXIT STATUS");
    for (code, meaning) in EXIT_STATUS {
        let mut roff = Roff::new();
        roff.control("TP", []);
        roff.text([bold(code.to_string())]).text([roman(meaning)]);
        page += &roff.to_roff();
    }
    page += &section("ENVIRONMENT");
    page += &paragraphs(ENVIRONMENT);
    page += &section("FILES");
    page += &paragraphs(FILES);
    page += &section("EXAMPLES");
    page += &examples(include_str!("man-examples.txt"));
    page += &section("SEE ALSO");
    page + &paragraphs("loggerfs(5)")
}

/// The section of one command: synopsis, description, options.
fn about(command: &Command) -> String {
    let name = command.get_name().to_owned();
    let has_selection = command.get_arguments().any(is_selection);
    let own = without(command, |arg| {
        is_selection(arg) || arg.is_global_set() || arg.is_hide_set()
    });
    let man = Man::new(own.bin_name(format!("logctl {name}")));
    let mut roff = Roff::new();
    roff.control("SS", [name.as_str()]);
    let mut text = roff.to_roff();
    let mut part = Vec::new();
    man.render_synopsis_section(&mut part).unwrap();
    text += body(part).split_once('\n').unwrap().1;
    if has_selection {
        text += "[\\fISELECTION\\fR]\n";
    }
    let mut part = Vec::new();
    man.render_description_section(&mut part).unwrap();
    text += ".PP\n";
    text += body(part).split_once('\n').unwrap().1;
    let mut part = Vec::new();
    man.render_options_section(&mut part).unwrap();
    text + body(part)
        .split_once('\n')
        .map_or("", |(_, options)| options)
}

/// The options that choose operations, which several commands share.
fn selection(commands: &[Command]) -> String {
    let with: Vec<&Command> = commands
        .iter()
        .filter(|command| command.get_arguments().any(is_selection))
        .collect();
    let names: Vec<&str> = with.iter().map(|command| command.get_name()).collect();
    let mut text = section("SELECTION");
    text += &paragraphs(&format!(
        "Options of {} that choose operations. Several of them narrow the choice.",
        names.join(" and ")
    ));
    let man = Man::new(without(with[0], |arg| !is_selection(arg)));
    let mut part = Vec::new();
    man.render_options_section(&mut part).unwrap();
    text + body(part).split_once('\n').unwrap().1
}

fn is_selection(arg: &Arg) -> bool {
    arg.get_help_heading() == Some("Selection")
}

/// A command with some arguments hidden, and `--help`.
fn without(command: &Command, is_hidden: fn(&Arg) -> bool) -> Command {
    let command = command.clone().disable_help_flag(true);
    command.mut_args(|arg| {
        let hide = is_hidden(&arg) || arg.get_id() == "help";
        arg.hide(hide)
    })
}

/// A section's text without the preamble that each piece of output begins with.
fn body(piece: Vec<u8>) -> String {
    let text = String::from_utf8(piece).unwrap();
    let start = text.find(".SH").unwrap_or(text.len());
    text[start..].to_owned()
}

fn section(title: &str) -> String {
    let mut roff = Roff::new();
    roff.control("SH", [title]);
    roff.to_roff()
}

/// Paragraphs that empty lines divide.
fn paragraphs(text: &str) -> String {
    let paragraphs = text.split("\n\n");
    paragraphs.fold(String::new(), |text, paragraph| {
        text + ".PP\n" + &line(paragraph)
    })
}

/// One line of text, escaped.
fn line(text: &str) -> String {
    let mut roff = Roff::new();
    roff.text([roman(text)]);
    roff.to_roff()
}

/// Paragraphs, indented sessions, and comments as a test of these sessions reads them.
fn examples(text: &str) -> String {
    let mut page = String::new();
    for block in text.trim_end().split("\n\n") {
        if let Some(comment) = block.strip_prefix("<!-- ") {
            let comment = comment.strip_suffix(" -->").expect("a comment's end");
            for line in comment.lines() {
                page += &format!(".\\\" {line}\n");
            }
        } else if block.starts_with("    ") {
            page += ".PP\n.EX\n";
            for printed in block.lines() {
                page += &line(printed.strip_prefix("    ").expect("an indented line"));
            }
            page += ".EE\n";
        } else {
            page += &paragraphs(block);
        }
    }
    page
}
