// SPDX-License-Identifier: MIT OR Apache-2.0

//! `status` without a file: the history of a mount, how far back it goes, and its space.

use rustix::io::Errno;

use crate::describe::{bytes, local};
use crate::error::Error;
use crate::health::{growth, oldest, span, Oldest};
use crate::json::{self, JsonObject};
use crate::output::Output;
use crate::quote::word;
use crate::uapi::{Status, VERSION};

use super::context::Context;
use super::log::{self, Detail};
use super::status::policy;
use crate::cli::Selection;

/// Prints the state of the history, and the newest `limit` actions.
pub fn run(
    context: &mut Context<'_>,
    limit: Option<usize>,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let status = status_of(context)?;
    let oldest = match oldest(context.object) {
        // Without history.
        Err(Errno::NODATA) => None,
        oldest => oldest.map_err(|errno| context.unread(errno))?,
    };
    match output.json {
        true => output.object(&record(context, status.as_ref(), oldest.as_ref()))?,
        false => print(context, status.as_ref(), oldest.as_ref(), output)?,
    }
    let Some(limit) = limit else {
        return Ok(());
    };
    let detail = Detail {
        all: false,
        limit: Some(limit),
        processes: false,
        differences: None,
    };
    log::run(context, &[], detail, &Selection::default(), output)
}

/// The status of the mount's root; `None`: the caller may not read it.
fn status_of(context: &mut Context<'_>) -> Result<Option<Status>, Error> {
    let mut status = Status {
        version: VERSION,
        ..Status::default()
    };
    match context.object.status(&mut status) {
        Ok(()) => Ok(Some(status)),
        Err(Errno::PERM | Errno::ACCESS) => Ok(None),
        Err(errno) => Err(Error::from_errno(
            &context.root,
            "ask for the status of",
            errno,
        )),
    }
}

fn print(
    context: &Context<'_>,
    status: Option<&Status>,
    oldest: Option<&Oldest>,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let state = match status.map(|status| status.mount_flags & Status::MOUNT_HISTORY != 0) {
        Some(false) => "history off",
        Some(true) => "history on",
        None => "history",
    };
    let end = match oldest {
        None => "; nothing was recorded yet".to_owned(),
        Some(oldest) => since(context, status, oldest),
    };
    output.text(&format!("{}: {state}{end}\n", word(&context.root)))?;
    let of_others = |status: &Status| status.mount_flags & Status::MOUNT_OF_OTHERS != 0;
    let Some(status) = status.filter(|status| !of_others(status)) else {
        return output.text("  space   shown to administrators\n");
    };
    output.text(&format!("  space   {}\n", space(context, status, oldest)))?;
    output.text(&format!("  policy  {}\n", policy(status)))?;
    if status.lost != 0 || status.errors != 0 {
        let (lost, errors) = (status.lost, status.errors);
        output.text(&format!(
            "  trouble {lost} operations without their old content, {errors} journal errors since the mount\n"
        ))?;
    }
    Ok(())
}

/// The oldest point of the history.
fn since(context: &Context<'_>, status: Option<&Status>, oldest: &Oldest) -> String {
    let begin = local(oldest.time, context.now.time_zone());
    let now = context.now.timestamp().as_second();
    let age = span(now.saturating_sub(oldest.time.sec));
    let newest = status.map_or(0, |status| status.seq);
    let operations = match newest {
        0 => String::new(),
        newest => format!(", operations {} to {newest}", oldest.seq),
    };
    let trimmed = match oldest.is_trimmed {
        true => "; older history was dropped to free space",
        false => "",
    };
    format!(", back to {begin} ({age}{operations}){trimmed}")
}

/// The space of the history, its parts, and its growth.
fn space(context: &Context<'_>, status: &Status, oldest: Option<&Oldest>) -> String {
    let lower = rustix::fs::statvfs(&context.root).ok();
    let now = context.now.timestamp().as_second();
    let parts = format!(
        "old content {}, deleted files {}, log {}",
        bytes(status.undo_bytes),
        bytes(status.orphan_bytes),
        bytes(status.log_bytes)
    );
    match oldest {
        Some(oldest) => {
            let forecast = growth(status, oldest, now, lower.as_ref()).message;
            format!("{forecast}\n          {parts}")
        }
        None => parts,
    }
}

fn record(
    context: &Context<'_>,
    status: Option<&Status>,
    oldest: Option<&Oldest>,
) -> serde_json::Value {
    let mut object = JsonObject::new("mount-status", &context.root);
    object
        .put_known("oldest_op", oldest.map(|oldest| oldest.seq))
        .put_known(
            "oldest_time",
            oldest.map(|oldest| json::zoned(oldest.time, &context.now)),
        )
        .put_known("dropped", oldest.map(|oldest| oldest.is_trimmed))
        .put_known("history", status.map(json::mount_history));
    object.into_value()
}
