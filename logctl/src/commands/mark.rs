// SPDX-License-Identifier: MIT OR Apache-2.0

//! `mark` and `marks`: names for places of the history.

use serde_json::Value;

use crate::describe::{command, cut, when};
use crate::error::Error;
use crate::json::{zoned, JsonObject};
use crate::marks::{self, NamedMark};
use crate::output::Output;
use crate::process::name as process_name;

use super::context::Context;
use super::table::{fit, table};

/// Gives the present place of the history a name.
pub fn place(
    context: &mut Context<'_>,
    (name, message): (&str, Option<&str>),
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let seq = context.place_mark(name, message.unwrap_or_default(), false)?;
    if !output.json {
        return output.text(&format!("Marked '{name}' (op {seq}).\n"));
    }
    let read = marks::read(context.object, 2);
    let marks = read.map_err(|errno| context.unread(errno))?;
    match marks.iter().find(|mark| mark.seq == seq) {
        Some(mark) => output.object(&value(mark, context)),
        None => Ok(()),
    }
}

/// Lists the marks, the newest first.
pub fn list(context: &mut Context<'_>, output: &mut Output<'_>) -> Result<(), Error> {
    let read = marks::read(context.object, usize::MAX);
    let marks = read.map_err(|errno| context.unread(errno))?;
    if output.json {
        for mark in &marks {
            output.object(&value(mark, context))?;
        }
        return Ok(());
    }
    if marks.is_empty() {
        return output.text("There is no mark.\n");
    }
    let head = ["", "ID", "WHEN", "WHO", "NAME", "ABOUT"];
    let mut rows = vec![head.map(str::to_owned)];
    let (now, zone) = (context.now.timestamp(), context.now.time_zone());
    rows.extend(marks.iter().map(|mark| {
        [
            String::new(),
            mark.seq.to_string(),
            when(mark.time, now, zone),
            user(mark, context).unwrap_or_else(|| "?".into()),
            mark.name.clone(),
            about(mark),
        ]
    }));
    fit(&mut rows, output.columns);
    output.text(&table(&rows))
}

/// The message, or the command of a run.
fn about(mark: &NamedMark) -> String {
    match (mark.message.is_empty(), mark.is_run) {
        (false, _) => mark.message.clone(),
        (true, true) => cut(&command(&mark.actor, false)),
        (true, false) => String::new(),
    }
}

fn user(mark: &NamedMark, context: &Context<'_>) -> Option<String> {
    mark.actor.uid.map(|uid| context.users.name(uid))
}

/// A mark as JSON.
fn value(mark: &NamedMark, context: &Context<'_>) -> Value {
    let mut object = JsonObject::new("mark", &context.root);
    let message = (!mark.message.is_empty()).then(|| mark.message.clone());
    object
        .put("name", mark.name.clone())
        .put("op", mark.seq)
        .put("time", zoned(mark.time, &context.now))
        .put("is_run", mark.is_run)
        .put_known("message", message)
        .put("title", command(&mark.actor, false))
        .put_known("process", mark.actor.process.map(process_name))
        .put_known("uid", mark.actor.uid)
        .put_known("user", user(mark, context));
    object.into_value()
}
